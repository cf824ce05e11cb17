"""The paper's Table 2 beside ours: its arithmetic checked, the class it called positive, and what cropping gains.

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
from fvpipe.evaluation.evaluate import Pool, pools, row
from fvpipe.evaluation.intervals import bootstrap, compare_auc
from fvpipe.evaluation.metrics import FIGURES, Confusion
from fvpipe.evaluation.record import Trained, titled
from fvpipe.evaluation.text import shown

HALF = 0.5e-4  # the paper's figures have four decimals
DIFFERENCES = ("accuracy", "precision", "recall", "specificity", "f1", "auc")


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row as printed."""

    pipeline: str  # ours: `direct` is the paper's pipeline 1, `cropped` its pipeline 2
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
class Explained:
    """Counts that give a row's accuracy, precision and recall to all four decimals, on a whole data set."""

    test_set: str
    positive: str  # the class that was called positive
    counts: Confusion
    malignant_f1: float | None


def f1_of(row: PaperRow) -> tuple[float, float]:
    """Least and greatest F1, to four decimals, that precision and recall allow, whatever was rounded away from them."""
    low, high = (
        2 * p * r / (p + r) for p, r in ((row.precision - HALF, row.recall - HALF), (row.precision + HALF, row.recall + HALF))
    )
    return round(low, 4), round(high, 4)


def explanations(row: PaperRow) -> list[Explained]:
    """Every whole data set and positive class that the row's three figures allow."""
    found = []
    for name, (benign, malignant) in CANDIDATES.items():
        for positive, negatives, positives in (("malignant", benign, malignant), ("benign", malignant, benign)):
            for tp in range(math.ceil((row.recall - HALF) * positives), math.floor((row.recall + HALF) * positives) + 1):
                for fp in range(math.ceil(tp / (row.precision + HALF) - tp), math.floor(tp / (row.precision - HALF) - tp) + 1):
                    counts = Confusion(tp, fp, positives - tp, negatives - fp)
                    if fp <= negatives and abs((counts.accuracy or 0) - row.accuracy) <= HALF:
                        malignant_f1 = counts.f1 if positive == "malignant" else counts.swapped.f1
                        found.append(Explained(name, positive, counts, malignant_f1))
    return found


def check(row: PaperRow) -> dict[str, Any]:
    """What follows from a printed row: whether its F1 does, and which class was positive."""
    low, high = f1_of(row)
    return {
        "row": row.name,
        **{name: getattr(row, name) for name in ("accuracy", "precision", "recall", "f1")},
        "f1_from_precision_and_recall": round(2 * row.precision * row.recall / (row.precision + row.recall), 4),
        "f1_follows": low <= row.f1 <= high,
        "explained_by": [asdict(explained) for explained in explanations(row)],
    }


# --- ours -------------------------------------------------------------------------------------------------------------


def table2(trained: Sequence[Trained], settings: Evaluate) -> dict[str, Any]:
    """Both tables, as plain values.

    Returns
    -------
    dict
        ``{"rows": [...], "paper": [...], "cropping": [...]}``: our rows, each with the paper's beside it; the paper's twelve
        with what follows from them; and on each split cropping less no cropping, paired, with intervals.
    """
    pooled = pools(trained)
    rows = []
    for pool in pooled:
        ours = row(pool, settings)
        read = readings(pool)
        beside = [
            {"row": paper.name, "reading": read[paper.setting], **asdict(paper)}
            for paper in PAPER
            if (paper.pipeline, paper.model) == (ours["pipeline"], ours["model"]) and paper.setting in read
        ]
        rows.append({**ours, "paper": beside})
    return {"rows": rows, "paper": [check(row) for row in PAPER], "cropping": cropping(pooled, settings)}


def readings(pool: Pool) -> dict[int, str]:
    """Whose rows of the paper stand beside ours, and why.

    By its text, setting 2 is across data sets, both ways, and setting 3 is pooled with patients apart. By its numbers, rows of
    setting 2 were tested on all of CMMD and one of setting 3 on all of VinDr-Mammo: across, one way and the other.
    """
    record = pool.runs[0].record
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


def cropping(pooled: Sequence[Pool], settings: Evaluate) -> list[dict[str, Any]]:
    """``cropped`` less ``direct``, on the breasts that both have, by split and model."""
    by_key = {pool.key: pool for pool in pooled}
    found = []
    for (pipeline, split, model), cropped in by_key.items():
        direct = by_key.get(("direct", split, model))
        if pipeline == "cropped" and direct is not None:
            found.append({"split": split, "model": model, **_difference(cropped, direct, settings)})
    return found


def _difference(first: Pool, second: Pool, settings: Evaluate) -> dict[str, Any]:
    place = {(p.dataset, p.breast_id): i for i, p in enumerate(second.test)}
    pairs = [(i, place[p.dataset, p.breast_id]) for i, p in enumerate(first.test) if (p.dataset, p.breast_id) in place]
    mine, other = (np.array(side, np.int64) for side in (zip(*pairs, strict=True) if pairs else ((), ())))
    a, b = first.figures(settings.bins, mine), second.figures(settings.bins, other)

    def less(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, two = a(weights), b(weights)
        return {name: one[name] - two[name] for name in DIFFERENCES}

    patients = [first.patients[i] for i in mine]
    estimates = bootstrap(less, patients, settings.bootstrap, settings.seed)
    truth = first.truth[mine]
    areas = compare_auc(truth, first.scores[:, mine].mean(axis=0), second.scores[:, other].mean(axis=0)) if pairs else None
    return {
        "made": first.runs[0].record.made,
        "breasts": len(pairs),
        "unpaired": len(first.test) + len(second.test) - 2 * len(pairs),
        **{name: asdict(estimates[name]) for name in DIFFERENCES},
        "delong": areas and asdict(areas),
    }


# --- for people and for DVC -------------------------------------------------------------------------------------------


def to_metric(found: dict[str, Any]) -> dict[str, Any]:
    """Nested numbers for ``dvc metrics``: our figures, and what cropping gains."""
    nested: dict[str, Any] = {}
    for ours in found["rows"]:
        values = {name: ours[name] for name in FIGURES if ours[name] is not None}
        nested.setdefault(ours["pipeline"], {}).setdefault(titled(ours["split"], ours["made"]), {})[ours["model"]] = values
    for gain in found["cropping"]:
        values = {name: gain[name]["value"] for name in DIFFERENCES if gain[name]["value"] is not None}
        nested.setdefault("cropped less direct", {}).setdefault(titled(gain["split"], gain["made"]), {})[gain["model"]] = values
    return nested


def to_text(found: dict[str, Any]) -> str:
    """All three parts for a terminal."""
    columns = ("accuracy", "precision", "recall", "specificity", "f1", "auc")
    lines = ["Table 2: ours, malignant positive (95 % interval over patients), and the paper's rows as printed", ""]
    lines.append(f"{'':46}" + "".join(f"{'F1' if c == 'f1' else 'AUC' if c == 'auc' else c:>24}" for c in columns))
    for ours in found["rows"]:
        name = titled(f"{ours['pipeline']} / {ours['split']} / {ours['model']}", ours["made"])
        lines.append(f"{name:46}" + "".join(f"{_with_interval(ours[c], ours['intervals'][c]):>24}" for c in columns))
        lines += [
            f"    paper, setting {paper['setting']}, {paper['reading']}".ljust(46) + _printed(paper, columns)
            for paper in ours["paper"]
        ]
        best = ours["above_floors"]
        if best:
            verdict = "above it" if best["proved"] else "not proved above it"
            lines.append(f"    best without an image: {best['shortcut']}, AUC {shown(best['second'])}; the model is {verdict}")
    beside = {paper["row"] for ours in found["rows"] for paper in ours["paper"]}
    left = [paper for paper in found["paper"] if paper["row"] not in beside]
    lines += [f"{paper['row']}, not trained here".ljust(46) + _printed(paper, columns) for paper in left]
    lines += ["", "The paper's own arithmetic"]
    lines += [
        f"    {paper['row']}: F1 is printed as {paper['f1']:.4f}; from its precision and recall it is "
        f"{paper['f1_from_precision_and_recall']:.4f}"
        for paper in found["paper"]
        if not paper["f1_follows"]
    ]
    for paper in found["paper"]:
        for explained in paper["explained_by"]:
            counts = explained["counts"]
            lines.append(
                f"    {paper['row']}: is exactly {explained['test_set']} with {explained['positive']} as positive "
                f"({counts['tp']}, {counts['fp']}, {counts['fn']}, {counts['tn']} of TP, FP, FN, TN); F1 of malignant "
                f"{shown(explained['malignant_f1'])}"
            )
    if found["cropping"]:
        lines += ["", "Cropping less no cropping, on the same breasts"]
        lines.append(f"{'':46}" + "".join(f"{'F1' if c == 'f1' else 'AUC' if c == 'auc' else c:>24}" for c in columns))
    for gain in found["cropping"]:
        name = titled(f"{gain['split']} / {gain['model']}", gain["made"]) + f", {gain['breasts']} breasts"
        cells = (_with_interval(gain[c]["value"], [gain[c]["low"], gain[c]["high"]]) for c in columns)
        lines.append(f"{name:46}" + "".join(f"{cell:>24}" for cell in cells))
    if any(ours["made"] for ours in found["rows"]):
        lines += ["", "Results on simulated data prove nothing of real ones."]
    return "\n".join(line.rstrip() for line in lines)


def _printed(paper: dict[str, Any], columns: Sequence[str]) -> str:
    return "".join(f"{f'{paper[c]:.4f}' if c in paper else '-':>24}" for c in columns)


def _with_interval(value: float | None, bounds: Sequence[float | None]) -> str:
    if value is None:
        return "-"
    return f"{value:.3f} ({shown(bounds[0])}, {shown(bounds[1])})"
