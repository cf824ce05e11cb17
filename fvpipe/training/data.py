"""Join a split with the shards of its data sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import Fuse, Pipeline, load_pipeline
from fvpipe.errors import InputError, ShardError, SwappedShardError, TrainingError
from fvpipe.evaluation.splits.assign import Assignment, Candidate, Part, reject_leaks
from fvpipe.evaluation.splits.listed_breasts import ListedBreast, listed_breasts
from fvpipe.evaluation.splits.split_table import digest_of_split, read_split
from fvpipe.evaluation.training_record import Prediction
from fvpipe.io.tables import Row, read_table
from fvpipe.project.project import Project
from fvpipe.shards.format import check_table
from fvpipe.shards.reader import Shards, open_shards
from fvpipe.torch import ShardDataset
from fvpipe.types import VIEWS
from fvpipe.versions import PREPROCESSING_VERSION

BUILD_AGAIN = "build the shards again"


@dataclass(frozen=True, slots=True, eq=False)
class Cohort:
    """Every breast of a split that has a sample, in the order of the split file.

    Attributes
    ----------
    breasts : tuple of Prediction
        Without probabilities yet.
    dataset : ShardDataset
        Image and label of each breast, in the order of `breasts`.
    fuse : Fuse
        Places of the views in the images.
    simulated : bool
        Whether a data set is simulated, by its shards or by ``params.yaml``.
    dropped : dict of str to int
        Number of breasts of the split that the shards rejected, by reason.
    split_digest, content : str
        Digest of the split, and of the split and the bytes of the shards.
    """

    breasts: tuple[Prediction, ...]
    dataset: ShardDataset
    fuse: Fuse
    simulated: bool
    dropped: dict[str, int]
    split_digest: str
    content: str

    def indices(self, part: Part) -> NDArray[np.int64]:
        """Positions of the breasts of `part`."""
        return np.flatnonzero([breast.part == part.value for breast in self.breasts])


def load_cohort(project: Project, pipeline: str, split: str) -> Cohort:
    """Read a written split and the shards of its data sets, and check that they agree and that nothing leaks.

    Raises
    ------
    InputError
        No such split file, or it names a breast that is neither in the shards nor rejected there.
    LeakError
        A patient, study, file or image is in two parts that must be apart.
    ShardError
        Shards are missing, of another pipeline or preprocessing version, or of other labels or files than the manifest lists.
    TrainingError
        Training or test part is empty, or training or validation lacks a class.
    """
    settings = project.params.split_of(split)
    path = project.splits / f"{split}.csv"
    if not path.is_file():
        raise InputError(f"{path}: not found; run `fvpipe split` first")
    names = settings.all_datasets
    parts = read_split(path, names)
    stem, made_by = load_pipeline(pipeline, project.folder)
    opened = {name: _open(project.shards / stem / name, pipeline, made_by, name) for name in names}
    where = {(name, breast): i for name, shards in opened.items() for i, breast in enumerate(shards.breast_ids.tolist())}
    rejected = {
        name: {row["what"]: row["reason"] for row in _table(shards, "rejected.csv", ["what", "reason"])}
        for name, shards in opened.items()
    }
    facts = {name: _facts(shards) for name, shards in opened.items()}
    # Nothing but shards and splits may be at hand.
    manifests = {name: project.manifests(name) for name in opened}
    listed = {name: listed_breasts(each) if (each / "images.csv").is_file() else {} for name, each in manifests.items()}
    with_uids = {name for name in opened if project.has_study_uids(name)}
    starts = dict(zip(opened, np.cumsum([0, *map(len, opened.values())]), strict=False))
    breasts, indices, assignments, dropped = [], [], [], Counter[str]()
    for (name, breast), part in parts.items():
        shards, i = opened[name], where.get((name, breast))
        if i is None:
            if breast not in rejected[name]:
                raise InputError(
                    f"{path}: {name}/{breast} is neither in {shards.folder} nor rejected there; run `fvpipe split`"
                )
            dropped[rejected[name][breast]] += 1
            continue
        label = int(shards.labels[i])
        if label < 0:
            raise ShardError(f"{shards.folder}: {breast} has no label and {path} names it; run `fvpipe split` again")
        files = Candidate.digests_of(shards, i)
        now = listed[name].get(breast, ListedBreast(str(label), files[0]))
        if now.label != str(label) or not set(files[0]) <= set(now.files):
            what = "another label" if now.label != str(label) else "other files"
            raise ShardError(
                f"{shards.folder}: {breast} has {what} than in {project.manifests(name)}, by which {path} was made; run "
                f"`fvpipe build-shards --pipeline {pipeline} --dataset {name}`"
            )
        row, patient = facts[name][breast], str(shards.patient_ids[i])
        breasts.append(_breast(name, breast, part, label, shards, i, row))
        indices.append(starts[name] + i)
        study = row["study"] if name in with_uids else ""
        candidate = Candidate(name, breast, patient, study, label, "", *files)
        assignments.append(Assignment(candidate, part))
    reject_leaks(assignments, settings, path, lambda *_: "; run `fvpipe split` again. Nothing was trained")
    _check_parts(breasts, path)
    split_digest = digest_of_split(parts)
    content = digest_of([split_digest, [[e.sha256 for e in s.receipt.shards] for s in opened.values()]])
    dataset = ShardDataset(tuple(opened.values()), indices)
    simulated = any(shards.receipt.simulated or project.params.datasets[name].simulated for name, shards in opened.items())
    return Cohort(tuple(breasts), dataset, made_by.fuse, simulated, dict(sorted(dropped.items())), split_digest, content)


def _check_parts(breasts: Sequence[Prediction], path: Path) -> None:
    """Reject a split that nothing can be trained on: an empty part, or one class alone."""
    empty = [part.value for part in (Part.TRAIN, Part.TEST) if part.value not in {b.part for b in breasts}]
    if empty:
        raise TrainingError(f"{path}: no breast of it is in the {empty[0]} part; nothing was trained")
    for part, so in ((Part.VALIDATION, "no epoch and no threshold can be chosen"), (Part.TRAIN, "nothing can be learnt")):
        classes = {b.label for b in breasts if b.part == part.value}
        if len(classes) < 2:
            held = {(): "no breast", (0,): "benign breasts only", (1,): "malignant breasts only"}[tuple(classes)]
            raise TrainingError(
                f"{path}: its {part.value} part holds {held}, so {so}; change validation_share or seed of the split "
                "in params.yaml, and run `fvpipe split`. Nothing was trained"
            )


def _open(folder: Path, pipeline: str, made_by: Pipeline, dataset: str) -> Shards:
    digest, shards = made_by.digest(), open_shards(folder)
    if shards.receipt.pipeline_digest != digest or shards.receipt.dataset != dataset:
        raise SwappedShardError(
            f"{folder}: was built by another pipeline or from another data set ({shards.receipt.pipeline}/"
            f"{shards.receipt.dataset}, {shards.receipt.pipeline_digest[:12]}) than {pipeline}/{dataset} "
            f"({digest[:12]}); run `fvpipe build-shards --pipeline {pipeline} --dataset {dataset}`"
        )
    if shards.receipt.preprocessing_version != PREPROCESSING_VERSION:  # a model could tell the data sets apart by it
        raise SwappedShardError(
            f"{folder}: was built by preprocessing version {shards.receipt.preprocessing_version}; this fvpipe makes "
            f"version {PREPROCESSING_VERSION}; run `fvpipe build-shards --pipeline {pipeline} --dataset {dataset}`"
        )
    return shards


def _facts(shards: Shards) -> dict[str, Row]:
    sizes = [f"{view.lower()}_{name}" for view in VIEWS for name in ("rows", "columns")]
    columns = ["breast_id", "study", "density", "age", "manufacturer", "patient_age", *sizes]
    facts = {row["breast_id"]: row for row in _table(shards, "breasts.csv", columns)}
    if missing := set(shards.breast_ids.tolist()) - facts.keys():
        raise ShardError(f"{shards.folder / 'breasts.csv'}: no row for {min(missing)}, which a shard holds; {BUILD_AGAIN}")
    return facts


def _table(shards: Shards, name: str, columns: list[str]) -> list[Row]:
    """Read a table of a shard folder, which must be the one that its receipt lists."""
    file = shards.folder / name
    check_table(file, shards.receipt)
    return list(read_table(file, columns))


def _breast(dataset: str, breast: str, part: Part, label: int, shards: Shards, i: int, facts: Row) -> Prediction:
    present = [view.value for view, placed in zip(VIEWS, shards.columns["placement"][i], strict=True) if placed[0] >= 0]
    age = (facts["age"] or facts["patient_age"]).rstrip("Y+").lstrip("0")
    size = "x".join(facts[f"cc_{name}"] or facts[f"mlo_{name}"] for name in ("rows", "columns"))
    return Prediction(
        dataset, breast, str(shards.patient_ids[i]), part.value, label, None, "+".join(present), facts["density"],
        age if age.isdecimal() else "", facts["manufacturer"], size,
    )  # fmt: skip
