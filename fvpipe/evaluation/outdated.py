"""Changes of a project since models were trained or shards built: DVC makes those again, a command called by hand does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import load_pipeline
from fvpipe.errors import FvpipeError
from fvpipe.evaluation.code_digest import code_digest
from fvpipe.evaluation.pooled import recipe_differences
from fvpipe.evaluation.splits.listed_breasts import NO_BREAST, listed_breasts
from fvpipe.evaluation.splits.split_table import digest_of_split, read_split
from fvpipe.evaluation.training_record import Run, TrainedRun
from fvpipe.io.tables import read_table
from fvpipe.project.project import Project
from fvpipe.shards.format import RECEIPT, read_receipt
from fvpipe.shards.reader import Shards, open_shards
from fvpipe.versions import PREPROCESSING_VERSION

NAMED = 3  # models that a line names


def outdated_models(project: Project, trained: Iterable[TrainedRun]) -> list[str]:
    """Describe each change of split, labels, shards, pipeline, recipe or code since models were trained, with the models.

    What the project no longer has, such as shards or a split file that are not published, is not compared.
    """
    labels: dict[str, dict[str, str]] = {}
    code = code_digest()
    changes: dict[str, list[Run]] = defaultdict(list)
    for one in trained:
        for change in _changes(project, one, code, labels):
            changes[change].append(one.record.run)
    lines = []
    for change, runs in changes.items():
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        lines.append(f"{', '.join(map(str, runs[:NAMED]))}{more}: trained {change}; run `fvpipe train`")
    return lines


def outdated_shards(project: Project) -> Iterator[str]:
    """Describe each shard folder whose data set, pipeline or manifest the project does not have any more, or has otherwise."""
    for folder in sorted(file.parent for file in project.shards.glob(f"*/*/{RECEIPT}")):
        receipt = read_receipt(folder)
        if receipt.dataset not in project.params.datasets:
            yield f"{folder}: is on the page, and the project has no such data set any more; remove the folder"
            continue
        try:
            if load_pipeline(receipt.pipeline, project.folder)[1].digest() != receipt.pipeline_digest:
                yield f"{folder}: was built before the pipeline {receipt.pipeline} changed; run `fvpipe build-shards`"
            elif (found := receipt.preprocessing_version) != PREPROCESSING_VERSION:
                by = f"preprocessing version {found}; this fvpipe makes version {PREPROCESSING_VERSION}"
                yield f"{folder}: was built by {by}; run `fvpipe build-shards`"
            elif not _is_as_listed(open_shards(folder), project.manifests(receipt.dataset)):
                changed = project.manifests(receipt.dataset)
                yield f"{folder}: was built before {changed} changed; run `fvpipe build-shards`"
        except FvpipeError as error:  # a pipeline that is not there, or a file with a mistake
            yield f"{folder}: is on the page, and cannot be compared with the project: {error}"


def _is_as_listed(shards: Shards, manifest: Path) -> bool:
    """Whether shards hold the breasts of a manifest, where there is one, with their labels and files."""
    if not (manifest / "images.csv").is_file():
        return True
    listed = listed_breasts(manifest)
    for breast, label, digests in zip(shards.breast_ids, shards.labels, shards.columns["source_digest"], strict=True):
        now = listed.pop(str(breast), NO_BREAST)
        if now.label != str(label) or not {digest.decode() for digest in digests if digest} <= set(now.files):
            return False
    return listed.keys() <= {row["what"] for row in read_table(shards.folder / "rejected.csv", ["what"])}


def _changes(project: Project, trained: TrainedRun, code: str, labels: dict[str, dict[str, str]]) -> Iterator[str]:
    record = trained.record
    split = project.splits / f"{record.run.split}.csv"
    try:
        if split.is_file() and digest_of_split(read_split(split, record.datasets)) != record.split_digest:
            yield f"before {split} changed"
    except FvpipeError:  # of other data sets, or damaged: certainly not the one that it was trained by
        yield f"before {split} changed"
    try:
        if load_pipeline(record.run.pipeline, project.folder)[1].digest() != record.pipeline_digest:
            yield f"before the pipeline {record.run.pipeline} changed"
    except FvpipeError:
        yield f"before the pipeline {record.run.pipeline} changed"
    for name, (old, new) in recipe_differences(record.recipe, project.params.train.recipe(record.simulated)).items():
        if name == "train.weights":  # perhaps by --weights
            yield f"from the initial weights {old!r}, and {name} is {new!r}"
        else:
            yield f"before {name} (from {old} to {new}) changed"
    if record.preprocessing_version != PREPROCESSING_VERSION:
        found = record.preprocessing_version
        yield f"on samples of preprocessing version {found}, and this fvpipe makes version {PREPROCESSING_VERSION}"
    if record.code != code:
        yield "by other code of fvpipe than this"
    for name in record.datasets:
        if name not in labels:
            table = project.manifests(name) / "breasts.csv"
            rows = read_table(table, ["breast_id", "label"]) if table.is_file() else ()
            labels[name] = {row["breast_id"]: row["label"] for row in rows}
        known = labels[name]
        if known and any(known.get(p.breast_id) != str(p.label) for p in trained.predictions if p.dataset == name):
            yield f"before labels of {name} changed"
        shards = project.shards / record.run.pipeline / name
        try:
            if (shards / RECEIPT).is_file() and digest_of(read_receipt(shards).to_json()) != record.shards.get(name):
                yield f"before {shards} changed"
        except FvpipeError:  # damaged: certainly other ones
            yield f"before {shards} changed"
        if name in project.params.datasets and project.params.datasets[name].simulated and not record.simulated:
            yield f"before {name} was called simulated"
