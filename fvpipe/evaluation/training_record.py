"""Results of a training: its record, and a prediction for each breast. Needs no torch.

``cache/models/<pipeline>/<split>/<model>-seed<n>/`` holds ``model.safetensors`` (the record is in its header),
``record.json``, ``predictions.csv``, and the digests of these three in ``SHA256SUMS``, which ``sha256sum --check`` reads too.
From record and predictions every metric can be computed again without a model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pydantic import AliasChoices, Field, ValidationError

from fvpipe.config.loading import Settings
from fvpipe.config.pipeline import Pipeline, stored_pipeline
from fvpipe.config.project import Params
from fvpipe.config.training import Recipe
from fvpipe.errors import CheckpointError, InputError, ParameterError
from fvpipe.io.csv_lines import format_csv
from fvpipe.io.tables import read_table
from fvpipe.regular_files import open_regular, read_regular
from fvpipe.types import BreastKey

WEIGHTS, RECORD, PREDICTIONS = "model.safetensors", "record.json", "predictions.csv"
DIGESTS = "SHA256SUMS"
MAX_TEXT_BYTES = 1 << 24  # of the record, and of the digests
NOT_A_DEVICE = "Not a medical device: for research only, never for a decision about a patient."


@dataclass(frozen=True, slots=True)
class Run:
    """One model to train, by its place in the grid of ``params.yaml``; `split` is a file stem of ``manifests/splits``."""

    pipeline: str
    split: str
    model: str
    seed: int

    @property
    def path(self) -> Path:
        """Folder of the run, relative to ``cache/models``."""
        return Path(self.pipeline, self.split, f"{self.model}-seed{self.seed}")

    def __str__(self) -> str:
        return str(self.path)


def runs_of(params: Params, chosen: Mapping[str, Sequence[str]], seeds: Sequence[int] = ()) -> list[Run]:
    """List the runs of the grid of ``params.yaml``.

    Parameters
    ----------
    chosen : mapping of str to sequence of str
        Values of ``pipeline``, ``split`` and ``model`` that replace those of the grid; an empty sequence replaces nothing. The
        name of a ``kfold`` split stands for all its folds.
    seeds : sequence of int
        Replace the seeds of the grid, unless empty.

    Raises
    ------
    ParameterError
        There is no such split.
    """
    grid = {"pipeline": params.pipelines, "split": params.runs.splits, "model": params.runs.models}
    pipelines, names, models = (tuple(dict.fromkeys(chosen.get(name) or known)) for name, known in grid.items())
    try:
        splits = dict.fromkeys(file for name in names for file in params.split_files(name))
    except ValueError as error:
        raise ParameterError(f"params.yaml: {error}") from None
    chosen_seeds = tuple(dict.fromkeys(seeds or params.runs.seeds))
    return [Run(p, s, m, n) for p in pipelines for s in splits for m in models for n in chosen_seeds]


def no_runs(params: Params) -> str:
    """Say why the grid of ``params.yaml`` has no run, as that of a project without labels."""
    lists = {"pipelines": params.pipelines, **{f"runs.{name}": names for name, names in params.runs}}
    return f"params.yaml: {' and '.join(f'`{name}`' for name, names in lists.items() if not names)} names none"


def titled(name: object, simulated: bool) -> str:
    """`name`, marked where its data are simulated."""
    return f"{name}{' (simulated data)' if simulated else ''}"


class Epoch(Settings):
    """One pass over the training part."""

    lr: float
    loss: float
    validation_loss: float
    validation_auc: float


class ClassCounts(Settings):
    """Numbers of benign and malignant breasts in a part."""

    benign: int
    malignant: int


class Record(Settings):
    """Description of a trained model: data, recipe, epochs, threshold. Contains no time, host or path."""

    run: Run
    setting: str
    split_digest: str  # of the parts of all its breasts
    datasets: tuple[str, ...]
    adapters: dict[str, str]  # of each data set
    licenses: dict[str, str]
    simulated: bool = Field(validation_alias=AliasChoices("made", "simulated"), serialization_alias="made")
    pipeline_yaml: str
    pipeline_digest: str
    preprocessing_version: int
    image_shape: tuple[int, ...]  # channels, rows, columns
    shards: dict[str, str]  # digest of the receipt of each data set
    parts: dict[str, ClassCounts]
    dropped: dict[str, int]  # breasts of the split without a sample, by the reason in rejected.csv
    recipe: Recipe
    weights: str  # origin of the initial weights, with the digest of a file
    parameters: int
    epochs: tuple[Epoch, ...]
    best_epoch: int  # from 1
    threshold: float  # chosen on validation, frozen before test
    device: str
    torch: str
    code: str  # digest of the modules that decide a training
    configuration: str  # digest of all that determines the weights; an equal one is not trained again

    def to_json(self) -> str:
        """Serialize; equal records give equal text."""
        return self.model_dump_json(indent=1, by_alias=True) + "\n"

    @property
    def pipeline(self) -> Pipeline:
        """Settings of the pipeline."""
        return stored_pipeline(self.pipeline_yaml, f"the pipeline of {self.run}")

    @property
    def title(self) -> str:
        """The run, marked where its data are simulated."""
        return titled(self.run, self.simulated)


def read_record(text: str | bytes, where: object) -> Record:
    """Parse :meth:`Record.to_json`.

    Raises
    ------
    InputError
        The text is not a record, or one of another version; `where` names it.
    """
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{where}: not a training record of this fvpipe version ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "train again"
        ) from None


# --- digests ---------------------------------------------------------------------------------------------------------


def digest_line(name: str, data: bytes) -> str:
    """Line of ``SHA256SUMS`` for one file."""
    return _line(hashlib.sha256(data).hexdigest(), name)


def _line(sha256: str, name: str) -> str:
    return f"{sha256}  {name}\n"


def check_digests(folder: Path, names: Iterable[str]) -> None:
    """Compare files of a finished training with their digests.

    Raises
    ------
    CheckpointError
        One is missing, or its bytes are not those that were written; the message names it.
    """
    try:
        for name in names:
            if not (folder / name).is_file():
                raise CheckpointError(f"{folder / name}: no such file; name a folder that `fvpipe train` wrote")
        if not (folder / DIGESTS).is_file():
            raise CheckpointError(f"{folder}: has no {DIGESTS}, as models of earlier versions; train again")
        listed = read_regular(folder / DIGESTS, MAX_TEXT_BYTES).decode("utf-8", "replace").splitlines(keepends=True)
        for name in names:
            with open_regular(folder / name) as file:  # in parts: whoever made the folder chose how large it is
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if _line(found, name) not in listed:
                raise CheckpointError(
                    f"{folder / name}: its bytes differ from what was written, by its line in {DIGESTS}; get it again, or "
                    "remove the folder and train again"
                )
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be read ({error.strerror})") from None


# --- predictions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """One breast of a split: its properties, and the predicted probability that it is malignant.

    Attributes
    ----------
    probability : float or None
        None for the training part, which is listed only so that shortcut baselines can be fitted.
    views : str
        Views in the image: ``CC+MLO``, ``CC`` or ``MLO``.
    density, age, manufacturer, size : str
        From the label table or header; empty where unknown. `size` is rows x columns of the CC image, or of the
        MLO of a breast without one.
    """

    dataset: str
    breast_id: str
    patient_id: str
    part: str
    label: int
    probability: float | None
    views: str
    density: str
    age: str
    manufacturer: str
    size: str

    @property
    def key(self) -> tuple[str, str]:
        """Data set and breast."""
        return self.dataset, self.breast_id


COLUMNS = tuple(field.name for field in fields(Prediction))


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRun:
    """A finished run, as read from its folder."""

    record: Record
    predictions: tuple[Prediction, ...]

    def part(self, part: str) -> tuple[Prediction, ...]:
        """The predictions of one part, in the order of the split."""
        return tuple(p for p in self.predictions if p.part == part)


def parts_of(dataset: str, key: BreastKey, predictions: Iterable[Prediction]) -> tuple[str | None, list[str]]:
    """Part of a training's own split that has this breast, or None; and the parts with any breast of its patient."""
    of_patient = [each for each in predictions if (each.dataset, each.patient_id) == (dataset, key.patient)]
    own = next((each.part for each in of_patient if each.breast_id == key.breast_id), None)
    return own, sorted({each.part for each in of_patient})


def predictions_table(predictions: Sequence[Prediction]) -> bytes:
    """Write ``predictions.csv``."""
    return format_csv(COLUMNS, ([*astuple(p)] for p in predictions))


def read_run(models: Path, place: Path) -> TrainedRun:
    """:func:`read_trained` of the folder `place` in ``cache/models``, which must hold the training of that name.

    Raises
    ------
    InputError
        The folder was copied or renamed: under the name of another training its results would be taken for those.
    """
    found = read_trained(models / place)
    if found.record.run.path != place:
        there = models / found.record.run.path
        raise InputError(f"{models / place}: holds the training {found.record.run}; rename it to {there}, or remove it")
    return found


def read_trained(folder: Path) -> TrainedRun:
    """Read the record and the predictions of a finished training. Its weights may be missing, but not damaged.

    Raises
    ------
    CheckpointError
        A file differs from its digest; the message names it.
    InputError
        There is no finished training, or its record is of another version.
    LabelTableError
        A cell of ``predictions.csv`` is wrong; the message names the line.
    """
    if not (folder / RECORD).is_file():
        raise InputError(f"{folder}: no finished training here; run `fvpipe train` first")
    check_digests(folder, (RECORD, PREDICTIONS, *([WEIGHTS] if (folder / WEIGHTS).exists() else [])))
    try:
        text = read_regular(folder / RECORD, MAX_TEXT_BYTES)
    except OSError as error:
        raise CheckpointError(f"{folder / RECORD}: cannot be read ({error.strerror})") from None
    record = read_record(text, folder / RECORD)
    rows = []
    for row in read_table(folder / PREDICTIONS, COLUMNS):
        if row["label"] not in ("0", "1"):
            raise row.error("label", "0 or 1")
        try:
            probability = float(row["probability"]) if row["probability"] else None
        except ValueError:
            raise row.error("probability", "a number or nothing") from None
        if (probability is None) != (row["part"] == "train") or not (probability is None or 0 <= probability <= 1):
            raise row.error("probability", "a number from 0 to 1, and nothing in the training part")
        cells = {name: row[name] for name in COLUMNS}
        rows.append(Prediction(**{**cells, "label": int(row["label"]), "probability": probability}))  # type: ignore[arg-type]
    return TrainedRun(record, tuple(rows))
