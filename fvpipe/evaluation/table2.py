"""The paper's Table 2 beside ours: its arithmetic, its positive class, and the gain from cropping.

Source of the twelve rows: Abdikenov et al. (2025), doi:10.37943/230UMR1748, Table 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate
from fvpipe.evaluation.evaluate import ModelEvaluation, PooledRuns, different_tests, evaluate_model, nested_metrics, pool_runs
from fvpipe.evaluation.intervals import AucDifference, Estimate, bootstrap, compare_auc
from fvpipe.evaluation.metrics import Confusion
from fvpipe.evaluation.text import MetricRow, estimate_rows, metric_table, shown, to_json
from fvpipe.evaluation.training_record import TrainedRun, titled

HALF = 0.5e-4  # the paper prints four decimals
COMPARED = ("accuracy", "precision", "recall", "specificity", "f1", "auc")


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row as printed; `pipeline` is our name of it: ``direct`` is the paper's pipeline 1, ``cropped`` its pipeline 2."""

    pipeline: str
    setting: int
    model: str
    accuracy: float
    precision: float
    recall: float
    f1: float

    @property
    def name(self) -> str:
        """As ``P1-S2-resnet18``."""
        return f"P{1 if self.pipeline == 'direct' else 2}-S{self.setting}-{self.model}"


PAPER = (
    PaperRow("direct", 1, "resnet18", 0.8780, 0.7423, 0.8521, 0.7934),
    PaperRow("direct", 1, "cnn", 0.8497, 0.7103, 0.7716, 0.7370),
    PaperRow("direct", 2, "resnet18", 0.4146, 0.2236, 0.3935, 0.2852),
    PaperRow("direct", 2, "cnn", 0.4109, 0.2123, 0.4146, 0.2784),
    PaperRow("direct", 3, "resnet18", 0.7779, 0.9719, 0.7930, 0.8734),
    PaperRow("direct", 3, "cnn", 0.6152, 0.6052, 0.7201, 0.6577),
    PaperRow("cropped", 1, "resnet18", 0.8819, 0.7986, 0.7823, 0.7904),
    PaperRow("cropped", 1, "cnn", 0.8722, 0.7135, 0.8944, 0.7937),
    PaperRow("cropped", 2, "resnet18", 0.6277, 0.8330, 0.5887, 0.6899),
    PaperRow("cropped", 2, "cnn", 0.5972, 0.5591, 0.5745, 0.5666),
    PaperRow("cropped", 3, "resnet18", 0.7262, 0.7700, 0.7641, 0.7666),
    PaperRow("cropped", 3, "cnn", 0.6952, 0.6452, 0.7542, 0.6958),
)
CANDIDATES = {"all CMMD pairs": (554, 1313), "all VinDr-Mammo pairs": (3183, 113)}
"""Whole data sets as test sets: benign and malignant breasts with both views, by the paper's rules (docs/splits.md)."""

# --- the paper's arithmetic -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explanation:
    """Counts on a whole data set that give a row's accuracy, precision and recall to all four decimals.

    Attributes
    ----------
    positive : {"malignant", "benign"}
        The class that `counts` take as positive.
    malignant_f1 : float or None
        F1 of these decisions with malignant as positive.
    """

    test_set: str
    positive: str
    counts: Confusion
    malignant_f1: float | None


@dataclass(frozen=True, slots=True)
class PaperCheck:
    """Consequences of a printed row: whether its F1 follows from precision and recall, and its positive class."""

    row: PaperRow
    f1: float
    f1_follows: bool
    explanations: list[Explanation]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "row": self.row.name,
            **{name: getattr(self.row, name) for name in ("accuracy", "precision", "recall", "f1")},
            "f1_from_precision_and_recall": self.f1,
            "f1_follows": self.f1_follows,
            "explained_by": to_json(self.explanations),
        }


def explain(row: PaperRow) -> list[Explanation]:
    """List every whole data set and positive class that accuracy, precision and recall allow."""
    found = []
    for name, (benign, malignant) in CANDIDATES.items():
        for positive, negatives, positives in (("malignant", benign, malignant), ("benign", malignant, benign)):
            for tp in range(math.ceil((row.recall - HALF) * positives), math.floor((row.recall + HALF) * positives) + 1):
                for fp in range(math.ceil(tp / (row.precision + HALF) - tp), math.floor(tp / (row.precision - HALF) - tp) + 1):
                    counts = Confusion(tp, fp, positives - tp, negatives - fp)
                    if fp <= negatives and abs(counts.metrics()["accuracy"] - row.accuracy) <= HALF:
                        of_malignant = counts if positive == "malignant" else counts.swapped
                        found.append(Explanation(name, positive, counts, float(of_malignant.metrics()["f1"])))
    return found


def check(row: PaperRow) -> PaperCheck:
    """Check a row: its F1 may differ from the computed one by the rounding of precision and recall alone."""
    low, f1, high = (round(2 * p * r / (p + r), 4) for d in (-HALF, 0, HALF) for p, r in [(row.precision + d, row.recall + d)])
    return PaperCheck(row, f1, low <= row.f1 <= high, explain(row))


# --- ours -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class PipelineGain:
    """One pipeline less another on the test breasts that both have: metrics with intervals, and AUC by DeLong's test."""

    first: str
    second: str
    split: str
    model: str
    simulated: bool
    breasts: int
    unpaired: int  # breasts that only one of the two has
    metrics: dict[str, Estimate]
    delong: AucDifference | None


@dataclass(frozen=True, slots=True)
class Table2Row:
    """One of our rows, and the paper's rows beside it with the reading by which they stand there."""

    ours: ModelEvaluation
    paper: list[tuple[PaperRow, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        paper = [{"row": row.name, "reading": reading, **asdict(row)} for row, reading in self.paper]
        return {**self.ours.to_json(), "paper": paper}


@dataclass(frozen=True, slots=True)
class Table2:
    """Our rows beside the paper's, a check of the paper's twelve rows, and on each split the gains from cropping and from the
    second view.
    """

    rows: list[Table2Row]
    paper: list[PaperCheck]
    cropping: list[PipelineGain]
    second_view: list[PipelineGain]

    def to_metric(self) -> dict[str, Any]:
        """Nested numbers for ``dvc metrics``."""
        nested = nested_metrics(row.ours for row in self.rows)
        for gain in (*self.cropping, *self.second_view):
            values = {name: found.value for name, found in gain.metrics.items() if found.value is not None}
            splits = nested.setdefault(f"{gain.first} less {gain.second}", {})
            splits.setdefault(titled(gain.split, gain.simulated), {})[gain.model] = values
        return nested

    def to_text(self) -> str:
        """Tables for a terminal."""
        blocks = ["Table 2: ours, malignant positive (95 % interval over patients), and the paper's rows as printed"]
        blocks += [_row_text(row) for row in self.rows]
        beside = {paper for row in self.rows for paper, _ in row.paper}
        left = [_printed(check.row.name, check.row) for check in self.paper if check.row not in beside]
        if left:
            blocks.append(metric_table("The paper's rows that are not trained here", left, COMPARED))
        blocks.append("\n".join(["The paper's own arithmetic", *(line for check in self.paper for line in _findings(check))]))
        for heading, gains in (
            ("Cropping less no cropping, on the same breasts", self.cropping),
            ("Both views less one view, on the same breasts", self.second_view),
        ):
            blocks += [heading] if gains else []
            blocks += [_gain_text(gain) for gain in gains]
        blocks += different_tests(row.ours.pool for row in self.rows)
        if any(row.ours.pool.record.simulated for row in self.rows):
            blocks.append("Results on simulated data prove nothing of real ones.")
        return "\n\n".join(blocks)


def _gain_text(gain: PipelineGain) -> str:
    title = titled(f"{gain.first} less {gain.second} / {gain.split} / {gain.model}", gain.simulated)
    text = metric_table(title, estimate_rows(f"difference, {gain.breasts} breasts", gain.metrics), COMPARED)
    left_out = f"\n  {gain.unpaired} test breasts that only one of the two has are left out"
    return text + (left_out if gain.unpaired else "")


def _row_text(row: Table2Row) -> str:
    rows = estimate_rows(f"ours, {len(row.ours.pool.test)} test breasts", row.ours.metrics)
    rows += [_printed(f"paper, setting {paper.setting}, {reading}", paper) for paper, reading in row.paper]
    text = metric_table(row.ours.pool.title, rows, COMPARED)
    best = row.ours.above
    if best:
        verdict = "above it" if best.proved else "not proved above it"
        text += f"\n  best without an image: {best.shortcut}, AUC {shown(best.second)}; the model is {verdict}"
    return text


def _printed(label: str, paper: PaperRow) -> MetricRow:
    return label, asdict(paper), 4


def _findings(check: PaperCheck) -> list[str]:
    lines = []
    if not check.f1_follows:
        lines.append(f"  {check.row.name}: F1 is printed as {check.row.f1:.4f}; from precision and recall it is {check.f1:.4f}")
    for found in check.explanations:
        cells = ", ".join(f"{name.upper()} {count}" for name, count in asdict(found.counts).items())
        lines.append(f"  {check.row.name}: is exactly {found.test_set} with {found.positive} as positive")
        lines.append(f"    ({cells}); F1 of malignant {shown(found.malignant_f1)}")
    return lines


def table2(trained: Sequence[TrainedRun], settings: Evaluate) -> Table2:
    """Evaluate the trained models, find the paper's rows beside them, and compare ``cropped`` with ``direct`` and one view."""
    pooled = pool_runs(trained)
    rows = []
    for pool in pooled:
        read, (pipeline, _, model) = readings(pool), pool.key
        beside = [
            (row, read[row.setting]) for row in PAPER if (row.pipeline, row.model) == (pipeline, model) and row.setting in read
        ]
        rows.append(Table2Row(evaluate_model(pool, settings), beside))
    return Table2(rows, [check(row) for row in PAPER], cropping(pooled, settings), second_view(pooled, settings))


def readings(pool: PooledRuns) -> dict[int, str]:
    """Settings of the paper whose rows stand beside ours, each with the reason.

    By its text, setting 2 is across data sets, both ways, and setting 3 is pooled with patients apart. By its numbers, rows of
    setting 2 were tested on all of CMMD and one of setting 3 on all of VinDr-Mammo: across, one way and the other.
    """
    record = pool.record
    match record.setting:
        case "seen":
            return {1: "as it says"}
        case "unseen":
            return {3: "by its text"}
        case "cross":
            tested = {record.adapters[prediction.dataset] for prediction in pool.test}
            if tested == {"vindr"}:
                return {2: "by its text", 3: "by its numbers"}
            return {2: "by text and numbers" if tested == {"cmmd"} else "by its text"}
        case _:
            return {}


def cropping(pooled: Sequence[PooledRuns], settings: Evaluate) -> list[PipelineGain]:
    """Compare ``cropped`` with ``direct`` on each split, for each model."""
    return _gains(pooled, "direct", settings)


def second_view(pooled: Sequence[PooledRuns], settings: Evaluate) -> list[PipelineGain]:
    """Compare ``cropped`` with ``cc`` and with ``mlo`` on each split, for each model."""
    return [gain for single in ("cc", "mlo") for gain in _gains(pooled, single, settings)]


def _gains(pooled: Sequence[PooledRuns], less: str, settings: Evaluate) -> list[PipelineGain]:
    by_key = {pool.key: pool for pool in pooled}
    return [
        _gain(pool, by_key[less, split, model], settings)
        for (pipeline, split, model), pool in by_key.items()
        if pipeline == "cropped" and (less, split, model) in by_key
    ]


def _gain(first: PooledRuns, second: PooledRuns, settings: Evaluate) -> PipelineGain:
    place = {(p.dataset, p.breast_id): i for i, p in enumerate(second.test)}
    pairs = [(i, place[p.dataset, p.breast_id]) for i, p in enumerate(first.test) if (p.dataset, p.breast_id) in place]
    mine, other = np.array(pairs, np.int64).reshape(-1, 2).T
    a, b = first.metrics(settings.bins, mine), second.metrics(settings.bins, other)

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, two = a(weights), b(weights)
        return {name: one[name] - two[name] for name in COMPARED}

    patients = [first.patients[i] for i in mine]
    return PipelineGain(
        first.key[0],
        second.key[0],
        *first.key[1:],
        first.record.simulated,
        len(pairs),
        len(first.test) + len(second.test) - 2 * len(pairs),
        bootstrap(difference, patients, settings.bootstrap, settings.seed),
        compare_auc(first.truth[mine], first.mean_scores[mine], second.mean_scores[other]) if pairs else None,
    )
