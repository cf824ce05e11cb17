"""What a training leaves behind: what it was (`Record`), and what it predicted, breast by breast. Needs no torch.

``cache/models/<pipeline>/<split>/<model>-seed<n>/`` holds ``model.safetensors`` (the record is in its header),
``record.json`` and ``predictions.csv``. From the last two every figure can be computed again without a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from fvpipe.config.loading import Settings
from fvpipe.config.project import Params
from fvpipe.config.training import Recipe
from fvpipe.errors import InputError, ParameterError
from fvpipe.io.tables import format_csv, read_table

WEIGHTS, RECORD, PREDICTIONS = "model.safetensors", "record.json", "predictions.csv"
NOT_A_DEVICE = "Not a medical device: for research only, never for a decision about a patient."


@dataclass(frozen=True, slots=True)
class Run:
    """One model to train: the grid's coordinates.

    Attributes
    ----------
    pipeline, split, model : str
        `split` is the stem of a file in ``manifests/splits``.
    seed : int
    """

    pipeline: str
    split: str
    model: str
    seed: int

    @property
    def path(self) -> Path:
        """Below ``cache/models``."""
        return Path(self.pipeline, self.split, f"{self.model}-seed{self.seed}")

    def __str__(self) -> str:
        return str(self.path)


def runs_of(params: Params, chosen: Mapping[str, Sequence[str]], seeds: Sequence[int] = ()) -> list[Run]:
    """The grid of ``params.yaml``, or of it what is chosen by `pipeline`, `split` and `model`.

    Raises
    ------
    ParameterError
        There is no such split.
    """
    grid = {"pipeline": params.pipelines, "split": params.runs.splits, "model": params.runs.models}
    axes = [tuple(dict.fromkeys(chosen.get(name) or known)) for name, known in grid.items()]
    for split in axes[1]:
        try:
            params.split_of(split)
        except ValueError as error:
            raise ParameterError(f"params.yaml: {error}") from None
    return [Run(p, s, m, n) for p in axes[0] for s in axes[1] for m in axes[2] for n in seeds or params.runs.seeds]


def titled(name: object, made: bool) -> str:
    """`name`, marked where its data are made."""
    return f"{name}{' (simulated data)' if made else ''}"


class Epoch(Settings):
    """One pass over the training part."""

    lr: float
    loss: float
    validation_loss: float
    validation_auc: float


class Counts(Settings):
    """Breasts of a part."""

    benign: int
    malignant: int


class Record(Settings):
    """Everything that is known of a trained model but its weights. Nothing of time, host or place is in it."""

    run: Run
    setting: str
    datasets: tuple[str, ...]
    adapters: dict[str, str]  # of each data set: whose form it has
    licenses: dict[str, str]
    made: bool
    pipeline_yaml: str
    pipeline_digest: str
    preprocessing_version: int
    image_shape: tuple[int, ...]  # channels, rows, columns
    parts: dict[str, Counts]
    dropped: dict[str, int]  # breasts of the split without a sample, by the reason in rejected.csv
    recipe: Recipe
    weights: str  # where they began, in words
    parameters: int
    epochs: tuple[Epoch, ...]
    best_epoch: int  # from 0
    threshold: float  # chosen on validation, frozen before test
    device: str
    torch: str
    configuration: str  # digest of whatever decided the weights: where it is the same, nothing is trained again

    def to_json(self) -> str:
        """Stable, readable text."""
        return self.model_dump_json(indent=1) + "\n"

    @property
    def title(self) -> str:
        """Its name for people."""
        return titled(self.run, self.made)


def read_record(text: str, where: object) -> Record:
    """Parse :meth:`Record.to_json`.

    Raises
    ------
    InputError
    """
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{where}: no record of a training that this fvpipe knows ({'.'.join(map(str, first['loc']))}: {first['msg']}); "
            "train again"
        ) from None


# --- predictions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prediction:
    """One breast of a split: what is known of it, and the probability that it is malignant.

    Attributes
    ----------
    probability : float or None
        None for the training part, which is not predicted; it is here for the floors.
    views : str
        Those in the image: ``CC+MLO``, ``CC`` or ``MLO``.
    density, age, manufacturer, size : str
        As the data set has them; empty where it does not. `size` is rows x columns of the CC image.
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


COLUMNS = tuple(field.name for field in fields(Prediction))


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A finished run, read back.

    Attributes
    ----------
    record : Record
    predictions : tuple of Prediction
    """

    record: Record
    predictions: tuple[Prediction, ...]

    def part(self, part: str) -> tuple[Prediction, ...]:
        """The predictions of one part, in the order of the split."""
        return tuple(p for p in self.predictions if p.part == part)


def labels(predictions: Iterable[Prediction]) -> NDArray[np.int64]:
    """(n,), 0 or 1."""
    return np.array([p.label for p in predictions], np.int64)


def probabilities(predictions: Iterable[Prediction]) -> NDArray[np.float64]:
    """(n,), in [0, 1]."""
    return np.array([p.probability for p in predictions], np.float64)


def predictions_table(predictions: Sequence[Prediction]) -> bytes:
    """As CSV."""
    return format_csv(COLUMNS, ([*astuple(p)] for p in predictions))


def read_trained(folder: Path) -> Trained:
    """Read what a training left.

    Raises
    ------
    InputError
        There is no finished training, or its record is of another version.
    LabelTableError
        A wrong cell in ``predictions.csv``; the line is named.
    """
    try:
        record = read_record((folder / RECORD).read_text(encoding="utf-8"), folder / RECORD)
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{folder}: no finished training here; run `fvpipe train` first") from None
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
    return Trained(record, tuple(rows))
