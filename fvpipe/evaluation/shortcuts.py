"""Shortcut baselines: scores that need no image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fvpipe.evaluation.metrics.binary import Confusion, defined, roc_auc
from fvpipe.evaluation.training_record import Prediction

BreastT = TypeVar("BreastT")
Shortcuts = Mapping[str, Callable[[BreastT], object]]
"""Name -> the property of a breast: a category, an integer whose order counts, or None where it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Baseline:
    """Metrics of one shortcut on the test part, None where not defined; and its score of each test breast."""

    shortcut: str
    accuracy: float | None
    f1: float | None
    auc: float | None
    scores: NDArray[np.float64]


def prefix_of(patient_id: str) -> str:
    """The two characters before a dash (CMMD's ``D1`` and ``D2``), or nothing."""
    return patient_id[:2] if patient_id[2:3] == "-" else ""


OF_PREDICTIONS: Shortcuts[Prediction] = {
    "data-set identity": lambda p: p.dataset,
    "patient id prefix": lambda p: prefix_of(p.patient_id),
    "image size": lambda p: p.size,
    "manufacturer": lambda p: p.manufacturer,
    "age": lambda p: int(p.age) if p.age else None,
}


def shortcut_baselines(
    parts: Sequence[tuple[Sequence[BreastT], Sequence[BreastT]]],
    shortcuts: Shortcuts[BreastT],
    label_of: Callable[[BreastT], int],
    majority: str = "majority class of training",
) -> list[Baseline]:
    """Score the test breasts by each shortcut, fitted on the training breasts alone.

    A category is scored by its share of malignant training breasts; of an integer only the direction is fitted. A shortcut
    is left out where no breast has the property, all test breasts share it, or its direction is not the same in all folds. An
    integer that some breasts lack stands there without a score, as it cannot be ruled out.

    Parameters
    ----------
    parts : sequence of (breasts, breasts)
        Training and test part of each fold. They may be the same: then a baseline is the best that the shortcut can do.
    label_of : callable
        1 malignant, 0 benign.
    majority : str
        Name of the baseline that decides for the majority class of the training part.
    """
    fitted = [np.array([label_of(breast) for breast in train], np.int64) for train, _ in parts]
    tested = [np.array([label_of(breast) for breast in test], np.int64) for _, test in parts]
    truth = np.concatenate(tested)
    major = np.concatenate([np.full(len(t), float(f.mean() >= 0.5)) for f, t in zip(fitted, tested, strict=True)])
    constant = (("all malignant", np.ones(len(truth))), (majority, major))
    baselines = [_baseline(name, truth, score, ranks=False) for name, score in constant]
    for name, value_of in shortcuts.items():
        known, asked = ([[value_of(breast) for breast in part[i]] for part in parts] for i in (0, 1))
        flat = [value for values in (*known, *asked) for value in values]
        unknown = flat.count(None)
        if 0 < unknown < len(flat) and any(isinstance(value, int) for value in flat):
            baselines.append(Baseline(f"{name} (not known of {unknown} breasts)", None, None, None, np.zeros(len(truth))))
        if unknown or len({value for values in asked for value in values}) < 2:
            continue
        if all(isinstance(value, int) for value in flat):
            areas = [roc_auc(labels, np.array(values, np.float64)) for labels, values in zip(fitted, known, strict=True)]
            signs = {1 if area is None or area >= 0.5 else -1 for area in areas}
            if len(signs) == 1:
                score = np.concatenate([np.array(values, np.float64) for values in asked]) * signs.pop()
                baselines.append(_baseline(name, truth, score, decides=False))
            continue
        shares = [_shares(*fold) for fold in zip(known, fitted, asked, strict=True)]
        baselines.append(_baseline(name, truth, np.concatenate(shares)))
    return baselines


def _shares(known: Sequence[object], fitted: NDArray[np.int64], asked: Sequence[object]) -> NDArray[np.float64]:
    """Share of malignant training breasts of each category asked for; of an unknown category, that of all."""
    labels: dict[object, list[int]] = defaultdict(list)
    for value, label in zip(known, fitted.tolist(), strict=True):
        labels[value].append(label)
    share = float(fitted.mean())
    return np.array([np.mean(labels.get(value, share)) for value in asked])


def _baseline(
    name: str, truth: NDArray[np.int64], score: NDArray[np.float64], decides: bool = True, ranks: bool = True
) -> Baseline:
    found = Confusion.of(truth, score >= 0.5).metrics()
    accuracy, f1 = (defined(found[name]) if decides else None for name in ("accuracy", "f1"))
    return Baseline(name, accuracy, f1, roc_auc(truth, score) if ranks else None, score)
