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
    def swapped(self) -> Confusion:
        """The same decisions with benign as the positive class."""
        return Confusion(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

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
    ranks = midranks(np.asarray(score, np.float64))
    malignant, benign = int(positive.sum()), int((~positive).sum())
    if not malignant or not benign:
        return None
    return float((ranks[positive].sum() - malignant * (malignant + 1) / 2) / (malignant * benign))


def midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = ((last - counts + 1 + last) / 2)[inverse]
    return ranks


# --- all figures of a set of predictions, at once ---------------------------------------------------------------------

FIGURES = ("accuracy", "precision", "recall", "specificity", "f1", "auc", "average_precision", "brier", "ece")
Rows = NDArray[np.float64]


def figures(
    truth: ArrayLike, score: ArrayLike, threshold: float = 0.5, weight: ArrayLike | None = None, bins: int = 15
) -> dict[str, Rows]:
    """Every figure of :data:`FIGURES`, under one or many weightings: a bootstrap is a matrix of weights.

    Parameters
    ----------
    truth : array of 0 and 1, (n,)
    score : array of float, (n,)
        Probability of a malignant breast.
    threshold : float
        A score of at least this is decided malignant.
    weight : array of float, (b, n), or None
        How often each breast counts; None: once.
    bins : int
        Equal intervals of [0, 1] for the calibration error.

    Returns
    -------
    dict of str to float64, (b,)
        NaN where a figure is not defined: no positive decision, or one class.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    w = np.ones((1, len(y))) if weight is None else np.atleast_2d(np.asarray(weight, np.float64))
    decided = (p >= threshold).astype(np.float64)
    tp, fp, fn, tn = (w @ cell for cell in (y * decided, (1 - y) * decided, y * (1 - decided), (1 - y) * (1 - decided)))
    total = w.sum(axis=1)
    inside = np.eye(bins)[np.minimum((p * bins).astype(np.int64), bins - 1)]  # (n, bins)
    auc, average_precision = _ranking(y, p, w)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "accuracy": (tp + tn) / total,
            "precision": tp / (tp + fp),
            "recall": tp / (tp + fn),
            "specificity": tn / (tn + fp),
            "f1": 2 * tp / (2 * tp + fp + fn),
            "auc": auc,
            "average_precision": average_precision,
            "brier": w @ (p - y) ** 2 / total,
            "ece": np.abs(w @ (inside * (p - y)[:, None])).sum(axis=1) / total,
        }


def _ranking(y: Rows, p: Rows, w: Rows) -> tuple[Rows, Rows]:
    """Area under the ROC curve, and average precision; equal scores are one step of either curve."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=np.inf)) if len(p) else np.zeros(0, np.int64)
    if not len(starts):
        return np.full(len(w), np.nan), np.full(len(w), np.nan)
    positive, negative = (np.add.reduceat((w * side)[:, order], starts, axis=1) for side in (y, 1 - y))
    tp, fp = positive.cumsum(axis=1), negative.cumsum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        beaten = fp[:, -1:] - fp + negative / 2  # benign below, and half of those level
        auc = (positive * beaten).sum(axis=1) / (tp[:, -1] * fp[:, -1])
        precision = np.where(positive > 0, tp / (tp + fp), 0.0)
        average = (positive * precision).sum(axis=1) / tp[:, -1]
    return auc, average


def youden_threshold(truth: ArrayLike, score: ArrayLike) -> float | None:
    """The threshold with the greatest recall + specificity; of equals, that nearest to 0.5. None where a class is absent.

    It lies half way between two scores, so that no rounding of either moves a decision.
    """
    y, p = np.asarray(truth) == 1, np.asarray(score, np.float64)
    if y.all() or not y.any():
        return None
    levels = np.unique(p)
    cuts = np.concatenate([[levels[0]], (levels[1:] + levels[:-1]) / 2, [np.nextafter(levels[-1], 2)]])
    quality = [(p[y] >= cut).mean() + (p[~y] < cut).mean() for cut in cuts]
    best = cuts[np.isclose(quality, max(quality), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])
