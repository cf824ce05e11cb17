"""Shortcut baselines: scores that need no image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fvpipe.evaluation.metrics import Confusion, defined, roc_auc
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
    train: Sequence[BreastT],
    test: Sequence[BreastT],
    shortcuts: Shortcuts[BreastT],
    label_of: Callable[[BreastT], int],
    majority: str = "majority class of training",
) -> list[Baseline]:
    """Score the test breasts by each shortcut, fitted on the training breasts alone.

    A category is scored by its share of malignant training breasts; of an integer only the direction is fitted. A shortcut
    is left out where a breast lacks the property or all test breasts share it.

    Parameters
    ----------
    train, test : sequences of breasts
        They may be the same: then the baseline is the best that the shortcut can do on them.
    label_of : callable
        1 malignant, 0 benign.
    majority : str
        Name of the baseline that decides for the majority class of `train`.
    """
    fitted, truth = (np.array([label_of(breast) for breast in part], np.int64) for part in (train, test))
    share = float(fitted.mean())
    baselines = [
        _baseline(name, truth, np.full(len(truth), score), ranks=False)
        for name, score in (("all malignant", 1.0), (majority, float(share >= 0.5)))
    ]
    for name, value_of in shortcuts.items():
        known, asked = ([value_of(breast) for breast in part] for part in (train, test))
        if None in known or None in asked or len(set(asked)) < 2:
            continue
        if all(isinstance(value, int) for value in (*known, *asked)):
            area = roc_auc(fitted, np.array(known, np.float64))
            score = np.array(asked, np.float64) * (1 if area is None or area >= 0.5 else -1)
            baselines.append(_baseline(name, truth, score, decides=False))
            continue
        labels: dict[object, list[int]] = defaultdict(list)
        for value, label in zip(known, fitted.tolist(), strict=True):
            labels[value].append(label)
        baselines.append(_baseline(name, truth, np.array([np.mean(labels.get(value, share)) for value in asked])))
    return baselines


def _baseline(
    name: str, truth: NDArray[np.int64], score: NDArray[np.float64], decides: bool = True, ranks: bool = True
) -> Baseline:
    found = Confusion.of(truth, score >= 0.5).metrics()
    accuracy, f1 = (defined(found[name]) if decides else None for name in ("accuracy", "f1"))
    return Baseline(name, accuracy, f1, roc_auc(truth, score) if ranks else None, score)
