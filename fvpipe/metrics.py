"""Binary classification figures on small arrays. Malignant (1) is positive, always."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of a decision against the truth."""

    tp: int
    fp: int
    fn: int
    tn: int

    @staticmethod
    def of(truth: ArrayLike, decision: ArrayLike) -> Confusion:
        """Count; both are 0 or 1, (n,)."""
        positive, decided = np.asarray(truth) == 1, np.asarray(decision) == 1
        counts = (positive & decided, ~positive & decided, positive & ~decided, ~positive & ~decided)
        return Confusion(*(int(count.sum()) for count in counts))

    @property
    def accuracy(self) -> float | None:
        """Share of right decisions."""
        return _ratio(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn)

    @property
    def precision(self) -> float | None:
        """Share of true ones among the decided positive; None where none was."""
        return _ratio(self.tp, self.tp + self.fp)

    @property
    def recall(self) -> float | None:
        """Sensitivity."""
        return _ratio(self.tp, self.tp + self.fn)

    @property
    def specificity(self) -> float | None:
        """Share of the benign that were decided benign."""
        return _ratio(self.tn, self.tn + self.fp)

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.tp, 2 * self.tp + self.fp + self.fn)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def roc_auc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve: how often a malignant scores above a benign, ties counting half.

    Parameters
    ----------
    truth : array of 0 and 1, (n,)
    score : array of float, (n,)

    Returns
    -------
    float or None
        None where one class is absent.
    """
    positive = np.asarray(truth) == 1
    ranks = _midranks(np.asarray(score, np.float64))
    malignant, benign = int(positive.sum()), int((~positive).sum())
    if not malignant or not benign:
        return None
    return float((ranks[positive].sum() - malignant * (malignant + 1) / 2) / (malignant * benign))


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((last - counts + 1 + last) / 2)[inverse]
    return ranks
