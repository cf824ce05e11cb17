"""Metrics of binary classification. Malignant (1) is the positive class everywhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DECISION_METRICS = ("accuracy", "precision", "recall", "specificity", "f1")
METRICS = (*DECISION_METRICS, "auc", "average_precision", "brier", "ece")
Rows = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Confusion:
    """Confusion matrix, or one for each weighting; a ratio is NaN where its denominator is 0.

    Attributes
    ----------
    tp, fp, fn, tn : int, float or float64 array of shape (b,)
        True positives, false positives, false negatives, true negatives.
    """

    tp: Any
    fp: Any
    fn: Any
    tn: Any

    @staticmethod
    def of(truth: ArrayLike, decision: ArrayLike, weight: ArrayLike | None = None) -> Confusion:
        """Count decisions.

        Parameters
        ----------
        truth, decision : arrays, shape (n,)
            1 malignant, 0 benign.
        weight : float array, shape (b, n), or None
            How often each breast counts; None: once.
        """
        y, decided = np.asarray(truth) == 1, np.asarray(decision) == 1
        w = np.ones(len(y)) if weight is None else np.asarray(weight, np.float64)
        return Confusion(*(w @ cell.astype(np.float64) for cell in (y & decided, ~y & decided, y & ~decided, ~y & ~decided)))

    @property
    def swapped(self) -> Confusion:
        """The same decisions with benign as the positive class."""
        return Confusion(tp=self.tn, fp=self.fn, fn=self.fp, tn=self.tp)

    def metrics(self) -> dict[str, Any]:
        """Compute the metrics of :data:`DECISION_METRICS`."""
        tp, fp, fn, tn = self.tp, self.fp, self.fn, self.tn
        ratios = ((tp + tn, tp + fp + fn + tn), (tp, tp + fp), (tp, tp + fn), (tn, tn + fp), (2 * tp, 2 * tp + fp + fn))
        return dict(zip(DECISION_METRICS, (_ratio(*ratio) for ratio in ratios), strict=True))


def _ratio(part: Any, whole: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(part, whole)


def defined(value: float | None) -> float | None:
    """`value` as a plain float; None instead of NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def compute_metrics(
    truth: ArrayLike, score: ArrayLike, threshold: float | Rows = 0.5, weight: ArrayLike | None = None, bins: int = 15
) -> dict[str, Rows]:
    """Compute every metric of :data:`METRICS` under one or many weightings: a bootstrap is a matrix of weights.

    Parameters
    ----------
    truth : int array, shape (n,)
        1 malignant, 0 benign.
    score : float array, shape (n,)
        Probability that the breast is malignant.
    threshold : float or float64 array, shape (n,)
        A score of at least this is decided malignant.
    weight : float array, shape (b, n), or None
        How often each breast counts; None: once.
    bins : int
        Number of equal intervals of [0, 1] for the expected calibration error (ECE).

    Returns
    -------
    dict of str to float64 array, shape (b,)
        NaN where a metric is not defined: no positive decision, or one class only.
    """
    y, p = np.asarray(truth, np.float64), np.asarray(score, np.float64)
    w = np.ones((1, len(y))) if weight is None else np.atleast_2d(np.asarray(weight, np.float64))
    total = w.sum(axis=1)
    inside = np.eye(bins)[np.minimum((p * bins).astype(np.int64), bins - 1)]  # (n, bins)
    auc, average_precision = _ranking(y, p, w)
    return {
        **Confusion.of(y, p >= threshold, w).metrics(),
        "auc": auc,
        "average_precision": average_precision,
        "brier": _ratio(w @ (p - y) ** 2, total),
        "ece": _ratio(np.abs(w @ (inside * (p - y)[:, None])).sum(axis=1), total),
    }


def roc_auc(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Area under the ROC curve: the share of (malignant, benign) pairs in the right order, ties counting half.

    Parameters
    ----------
    truth : int array, shape (n,)
        1 malignant, 0 benign.
    score : float array, shape (n,)
        Higher is more likely malignant.

    Returns
    -------
    float or None
        None where one class is absent.

    Examples
    --------
    >>> roc_auc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8])
    0.875
    """
    y = np.asarray(truth, np.float64)
    return defined(_ranking(y, np.asarray(score, np.float64), np.ones((1, len(y))))[0][0])


def roc_auc_of_weights(truth: ArrayLike, score: ArrayLike, weight: Rows) -> Rows:
    """:func:`roc_auc` under many weightings, shape (b, n); shape (b,), NaN where one class has no weight."""
    return _ranking(np.asarray(truth, np.float64), np.asarray(score, np.float64), weight)[0]


def ranked_counts(y: Rows, p: Rows, w: Rows) -> tuple[Rows, Rows]:
    """True and false positives as the threshold falls, shape (b, k + 1) for k different scores: from none to all.

    Parameters
    ----------
    y, p : float64 arrays, shape (n,)
        Truth (1 malignant, 0 benign) and score.
    w : float64 array, shape (b, n)
        How often each breast counts.
    """
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.diff(p[order], prepend=np.inf)) if len(p) else np.zeros(0, np.int64)
    if not len(starts):
        return np.zeros((len(w), 1)), np.zeros((len(w), 1))
    each = (np.add.reduceat((w * side)[:, order], starts, axis=1) for side in (y, 1 - y))
    tp, fp = (np.concatenate([np.zeros((len(w), 1)), steps.cumsum(axis=1)], axis=1) for steps in each)
    return tp, fp


def _ranking(y: Rows, p: Rows, w: Rows) -> tuple[Rows, Rows]:
    """Area under the ROC curve, and average precision; equal scores are one step of either curve."""
    tp, fp = ranked_counts(y, p, w)
    positive, negative = np.diff(tp, axis=1), np.diff(fp, axis=1)
    tp, fp = tp[:, 1:], fp[:, 1:]
    if not tp.shape[1]:
        return np.full(len(w), np.nan), np.full(len(w), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        beaten = fp[:, -1:] - fp + negative / 2  # benign below, and half of those level
        auc = (positive * beaten).sum(axis=1) / (tp[:, -1] * fp[:, -1])
        precision = np.where(positive > 0, tp / (tp + fp), 0.0)
        average = (positive * precision).sum(axis=1) / tp[:, -1]
    return auc, average


def youden_threshold(truth: ArrayLike, score: ArrayLike) -> float | None:
    """Threshold with the greatest recall + specificity; of equals, the nearest to 0.5. None where a class is absent.

    It lies half way between two scores, so that rounding of either changes no decision.
    """
    y, p = np.asarray(truth) == 1, np.asarray(score, np.float64)
    if y.all() or not y.any():
        return None
    levels = np.unique(p)
    cuts = np.concatenate([[levels[0]], (levels[1:] + levels[:-1]) / 2, [np.nextafter(levels[-1], 2)]])
    quality = [(p[y] >= cut).mean() + (p[~y] < cut).mean() for cut in cuts]
    best = cuts[np.isclose(quality, max(quality), rtol=0, atol=1e-12)]
    return float(best[np.argmin(np.abs(best - 0.5))])
