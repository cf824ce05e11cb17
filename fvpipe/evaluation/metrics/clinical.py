"""Calibration line, operating points and decision curve, under one or many weightings of the breasts. Numpy alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fvpipe.evaluation.metrics.binary import Rows, ranked_counts

LEVELS = (0.8, 0.9, 0.95)
"""Specificities and sensitivities at which the other one is given."""
DECISION_THRESHOLDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""Probabilities from which one would act, in the decision curve."""
SMALLEST = 1e-6  # probabilities are kept this far from 0 and 1, where their logit is infinite
STEPS = 40  # of Newton's method at most


def clinical_metrics(truth: NDArray[np.int64], score: Rows, weight: Rows) -> dict[str, Rows]:
    """Compute all of this module.

    Parameters
    ----------
    truth : int64 array, shape (n,)
        1 malignant, 0 benign.
    score : float64 array, shape (n,)
        Probability that the breast is malignant.
    weight : float64 array, shape (b, n)
        How often each breast counts.

    Returns
    -------
    dict of str to float64 array, shape (b,)
        NaN where it is not defined.
    """
    y = truth.astype(np.float64)
    return {
        "calibration slope": _line(y, score, weight, fixed_slope=False),
        "calibration intercept": _line(y, score, weight, fixed_slope=True),
        **_operating_points(y, score, weight),
        **_net_benefit(y, score, weight),
    }


def _line(y: Rows, p: Rows, w: Rows, fixed_slope: bool) -> Rows:
    """Maximum-likelihood slope of the truth's logit on that of the probability; or the intercept where the slope is 1.

    NaN where a class is absent, and where the classes are separated, so that no slope is the best.
    """
    x = np.log(np.clip(p, SMALLEST, 1 - SMALLEST))
    x -= np.log1p(-np.exp(x))
    center, spread = (x.mean(), x.std()) if not fixed_slope and len(x) and x.std() > 0 else (0.0, 1.0)
    z = (x - center) / spread
    a, b = np.zeros(len(w)), np.full(len(w), 1.0 if fixed_slope else 0.0)
    move_a = move_b = np.full(len(w), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            fitted = 1 / (1 + np.exp(-(a[:, None] + b[:, None] * z)))
            rest, curvature = w * (y - fitted), w * fitted * (1 - fitted)
            g0, h00 = rest.sum(axis=1), curvature.sum(axis=1)
            if fixed_slope:
                move_a, move_b = g0 / h00, np.zeros(len(w))
            else:
                g1, h01, h11 = rest @ z, curvature @ z, curvature @ (z * z)
                determinant = h00 * h11 - h01 * h01
                move_a, move_b = (h11 * g0 - h01 * g1) / determinant, (h00 * g1 - h01 * g0) / determinant
            a, b = a + np.clip(move_a, -2, 2), b + np.clip(move_b, -2, 2)
            if (np.nan_to_num(np.maximum(np.abs(move_a), np.abs(move_b))) < 1e-10).all():
                break
    found = np.maximum(np.abs(move_a), np.abs(move_b)) < 1e-6
    both = (w @ y > 0) & (w @ (1 - y) > 0)
    return np.where(found & both, a if fixed_slope else b / spread, np.nan)


def _operating_points(y: Rows, p: Rows, w: Rows) -> dict[str, Rows]:
    """Greatest sensitivity where specificity is at least each of :data:`LEVELS`, and the reverse, over all thresholds."""
    tp, fp = ranked_counts(y, p, w)
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / tp[:, -1:], 1 - fp / fp[:, -1:]
    found = {}
    for wanted, other, name in ((specificity, sensitivity, "specificity"), (sensitivity, specificity, "sensitivity")):
        for level in LEVELS:
            best = np.where(wanted >= level - 1e-12, other, 0).max(axis=1)
            found[f"at {name} {level}"] = np.where(np.isnan(wanted).any(axis=1), np.nan, best)
    return found


def _net_benefit(y: Rows, p: Rows, w: Rows) -> dict[str, Rows]:
    """Net benefit of acting from each of :data:`DECISION_THRESHOLDS`, of acting on all, and the gain over all and none.

    References
    ----------
    Vickers and Elkin (2006), Medical Decision Making 26, 565.
    """
    found = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (w @ y) / w.sum(axis=1)
        for threshold in DECISION_THRESHOLDS:
            odds = threshold / (1 - threshold)
            acted = p >= threshold
            model = (w @ (y * acted) - odds * (w @ ((1 - y) * acted))) / w.sum(axis=1)
            treat_all = share - odds * (1 - share)
            found[f"net benefit {threshold}"], found[f"treat all {threshold}"] = model, treat_all
            found[f"gain {threshold}"] = model - np.maximum(treat_all, 0)
    return found
