"""The paper's Table 1 beside ours, with the rule behind each difference, and what shortcuts alone would score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fvpipe.evaluation.metrics import Confusion, roc_auc
from fvpipe.indexing.index import Index
from fvpipe.types import Breast, ImageRecord

PAPER = {"vindr": (6368, 226), "cmmd": (1108, 2626)}
"""Benign and malignant *images* of the paper's Table 1, by adapter."""

LABELS = {0: "benign", 1: "malignant", -1: "unlabelled"}


def table1(found: Sequence[Index]) -> dict[str, Any]:
    """Both tables, as plain values.

    Returns
    -------
    dict
        ``{"rows": [...], "floors": [...]}``: a row a data set, and a floor a shortcut.
    """
    return {"rows": [_row(index) for index in found], "floors": floors([b for i in found for b in i.breasts])}


def _row(found: Index) -> dict[str, Any]:
    """Images are counted as the paper counts them: every image of a breast whose label the rule keeps."""
    images: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for image in found.images:
        facts = found.facts[image.path]
        if facts.excluded:
            left_out[facts.excluded] += 1
        else:
            images[LABELS[facts.label]] += 1
    breasts = Counter(LABELS[breast.facts.label] for breast in found.breasts)
    paper = None if found.source.simulated else PAPER.get(found.source.adapter.name)
    rules = [f"{count} images left out: {why}" for why, count in sorted(left_out.items())]
    if images["unlabelled"]:
        rules.append(f"{images['unlabelled']} images of breasts without a label: built, and in no training")
    unpaired = sum(images.values()) - 2 * len(found.breasts)
    if unpaired:
        rules.append(f"{unpaired} labelled or unlabelled images stand in no pair, and so in no sample")
    if found.source.adapter.name == "cmmd" and left_out:
        rules.append("the paper's counts are reached only without all four patients of duplicated pixels")
    return {
        "dataset": found.source.name,
        "made": found.source.simulated,
        "images": {name: images[name] for name in LABELS.values()},
        "breasts": {name: breasts[name] for name in LABELS.values()},
        "paper_images": None if paper is None else {"benign": paper[0], "malignant": paper[1]},
        "equal": None if paper is None else (images["benign"], images["malignant"]) == paper,
        "rules": rules,
    }


# --- shortcuts --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shortcut:
    """Something that is no tissue, and what it is worth as a classifier.

    `of` gives a category (scored by its own share of malignant breasts), or None where it says nothing.
    """

    name: str
    of: Callable[[Breast], object]


SHORTCUTS = (
    Shortcut("data-set identity", lambda breast: breast.key.dataset),
    Shortcut("patient id prefix (CMMD's D1 or D2)", lambda breast: _prefix(breast.key.patient)),
    Shortcut("age", lambda breast: _years(breast.cc)),
    Shortcut("image size", lambda breast: (breast.cc.rows, breast.cc.columns)),
)


def floors(breasts: Iterable[Breast]) -> list[dict[str, Any]]:
    """What is scored without looking at an image, on each data set and on all together."""
    labelled = [breast for breast in breasts if breast.facts.label >= 0]
    groups: dict[str, list[Breast]] = defaultdict(list)
    for breast in labelled:
        groups[breast.key.dataset].append(breast)
    if len(groups) > 1:
        groups["pooled"] = labelled
    found = []
    for name, members in groups.items():
        truth = np.array([breast.facts.label for breast in members])
        found.append({"dataset": name, "shortcut": "all malignant", **_figures(truth, np.ones_like(truth), None)})
        majority = np.full_like(truth, int(truth.mean() >= 0.5))
        found.append({"dataset": name, "shortcut": "majority class", **_figures(truth, majority, None)})
        for shortcut in SHORTCUTS:
            kinds = [shortcut.of(breast) for breast in members]
            if len(set(kinds)) > 1 and None not in kinds:
                found.append({"dataset": name, "shortcut": shortcut.name, **_by_category(truth, kinds)})
    return found


def _by_category(truth: Any, kinds: Sequence[object]) -> dict[str, Any]:
    if all(isinstance(kind, int) for kind in kinds):  # ordered: its direction is the only thing that is fitted
        score = np.array(kinds, np.float64)
        if (roc_auc(truth, score) or 0) < 0.5:
            score = -score
        return _figures(truth, None, score)
    shares = {kind: truth[[k == kind for k in kinds]].mean() for kind in set(kinds)}
    score = np.array([shares[kind] for kind in kinds])
    return _figures(truth, score >= 0.5, score)


def _figures(truth: Any, decision: Any, score: Any) -> dict[str, Any]:
    counts = None if decision is None else Confusion.of(truth, decision)
    return {
        "accuracy": counts and counts.accuracy,
        "f1": counts and counts.f1,
        "auc": None if score is None else roc_auc(truth, score),
    }


def _prefix(patient: str) -> str | None:
    head, dash, _ = patient.partition("-")
    return head if dash and len(head) == 2 else None


def _years(image: ImageRecord) -> int | None:
    age = image.patient_age.rstrip("Y+")
    return int(age) if age.isdecimal() and int(age) > 0 else None


def to_metric(found: dict[str, Any]) -> dict[str, Any]:
    """The same as nested mappings of numbers: what ``dvc metrics show`` and ``dvc metrics diff`` read."""
    nested: dict[str, Any] = {}
    for row in found["rows"]:
        nested[row["dataset"]] = {unit: row[unit] for unit in ("images", "breasts")}
    for floor in found["floors"]:
        figures = {name: floor[name] for name in ("accuracy", "f1", "auc") if floor[name] is not None}
        nested.setdefault(floor["dataset"], {}).setdefault("floors", {})[floor["shortcut"]] = figures
    return nested


def to_text(found: dict[str, Any]) -> str:
    """Both tables for a terminal."""
    lines = [f"{'data set':20}{'':>10}{'benign':>10}{'malignant':>11}{'unlabelled':>12}"]
    for row in found["rows"]:
        made = " (simulated data)" if row["made"] else ""
        lines.append(f"{row['dataset'] + made:30}{'':<21}")
        if row["paper_images"]:
            paper = row["paper_images"]
            verdict = "equal" if row["equal"] else "NOT EQUAL"
            lines.append(f"{'':20}{'paper':>10}{paper['benign']:>10}{paper['malignant']:>11}{'':>12}  images, {verdict}")
        for unit in ("images", "breasts"):
            counts = row[unit]
            lines.append(f"{'':20}{unit:>10}{counts['benign']:>10}{counts['malignant']:>11}{counts['unlabelled']:>12}")
        lines += [f"{'':8}{rule}" for rule in row["rules"]]
    lines += ["", "Without looking at an image (malignant is positive):"]
    lines.append(f"{'data set':20}{'shortcut':38}{'accuracy':>9}{'F1':>8}{'AUC':>8}")
    for floor in found["floors"]:
        figures = "".join(f"{_shown(floor[name]):>{width}}" for name, width in (("accuracy", 9), ("f1", 8), ("auc", 8)))
        lines.append(f"{floor['dataset']:20}{floor['shortcut']:38}{figures}")
    return "\n".join(line.rstrip() for line in lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
