"""Changes of a project since its models were trained: DVC trains those again, a command called by hand does not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fvpipe.config.pipeline import load_pipeline
from fvpipe.errors import FvpipeError
from fvpipe.evaluation.pooled import recipe_differences
from fvpipe.evaluation.split_table import digest_of_split, read_split
from fvpipe.evaluation.training_record import Run, TrainedRun
from fvpipe.io.tables import read_table
from fvpipe.project.project import Project

NAMED = 3  # models that a line names


def outdated_models(project: Project, trained: Iterable[TrainedRun]) -> list[str]:
    """Describe each change of split, labels, pipeline or recipe since models were trained, with the models that it concerns.

    What the project no longer has, such as a split file that is not published, is not compared.
    """
    labels: dict[str, dict[str, str]] = {}
    changes: dict[str, list[Run]] = defaultdict(list)
    for one in trained:
        for change in _changes(project, one, labels):
            changes[change].append(one.record.run)
    lines = []
    for change, runs in changes.items():
        more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
        lines.append(f"{', '.join(map(str, runs[:NAMED]))}{more}: trained before {change} changed; run `fvpipe train`")
    return lines


def _changes(project: Project, trained: TrainedRun, labels: dict[str, dict[str, str]]) -> Iterator[str]:
    record = trained.record
    split = project.splits / f"{record.run.split}.csv"
    try:
        if split.is_file() and digest_of_split(read_split(split, record.datasets)) != record.split_digest:
            yield str(split)
    except FvpipeError:  # of other data sets, or damaged: certainly not the one that it was trained by
        yield str(split)
    try:
        if load_pipeline(record.run.pipeline, project.folder)[1].digest() != record.pipeline_digest:
            yield f"the pipeline {record.run.pipeline}"
    except FvpipeError:
        yield f"the pipeline {record.run.pipeline}"
    now = project.params.train.recipe(record.simulated).model_copy(update={"weights": record.recipe.weights})  # --weights
    yield from (f"{name} (from {old} to {new})" for name, (old, new) in recipe_differences(record.recipe, now).items())
    for name in record.datasets:
        if name not in labels:
            table = project.manifests(name) / "breasts.csv"
            rows = read_table(table, ["breast_id", "label"]) if table.is_file() else ()
            labels[name] = {row["breast_id"]: row["label"] for row in rows}
        known = labels[name]
        if any(known.get(p.breast_id, str(p.label)) != str(p.label) for p in trained.predictions if p.dataset == name):
            yield f"labels of {name}"
