"""Uncertainty: bootstrap over patients, and DeLong's variance of the area under the ROC curve. Numpy alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.evaluation.metrics.binary import defined

LEVEL = 0.95
CHUNK_REPLICATES = 250  # drawn at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Estimate:
    """A metric with its 95 % interval.

    Attributes
    ----------
    value : float or None
        None where it is not defined.
    low, high : float or None
        2.5th and 97.5th percentile; None where no replicate defines it.
    undefined, replicates : int
        Number of replicates in which it is not defined, of how many. They are left out: where they are many, the interval is
        unreliable.
    """

    value: float | None
    low: float | None
    high: float | None
    undefined: int = 0
    replicates: int = 0

    @property
    def is_unreliable(self) -> bool:
        """Whether more replicates are undefined than lie beyond an end of the interval: they could move that end anywhere."""
        return self.undefined > (1 - LEVEL) / 2 * self.replicates

    @property
    def side_of_0(self) -> int:
        """1 or -1 where the interval lies wholly above or below 0; 0 where it does not, or is unreliable."""
        if self.low is None or self.high is None or self.is_unreliable:
            return 0
        return (self.low > 0) - (self.high < 0)


def patient_weights(patients: Sequence[object], replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Draw patients with replacement, each with all breasts, and yield how often each breast counts.

    Parameters
    ----------
    patients : sequence, length n
        Patient of each breast.

    Yields
    ------
    float64 array, shape (at most CHUNK_REPLICATES, n)
        Weights of the breasts in some of the replicates; nothing for a single patient, who tells nothing of others.
    """
    _, owner = np.unique([repr(patient) for patient in patients], return_inverse=True)
    count = int(owner.max()) + 1 if len(owner) else 0
    rng = np.random.default_rng(seed)
    for start in range(0, replicates if count > 1 else 0, CHUNK_REPLICATES):  # of one patient all would be equal
        drawn = rng.multinomial(count, np.full(count, 1 / count), min(CHUNK_REPLICATES, replicates - start))
        yield drawn[:, owner].astype(np.float64)


def bootstrap(
    metrics: Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    patients: Sequence[object],
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Estimate percentile intervals of the metrics that `metrics` computes from weights.

    Parameters
    ----------
    metrics : callable
        Weights of shape (b, n) -> name -> float64 array of shape (b,), NaN where undefined.
    patients : sequence, length n
        Patient of each breast.
    """
    point = metrics(np.ones((1, len(patients))))
    drawn = [metrics(weights) for weights in patient_weights(patients, replicates, seed)]
    return {
        name: estimate(value[0], np.concatenate([part[name] for part in drawn]) if drawn else np.zeros(0))
        for name, value in point.items()
    }


def estimate(value: float | None, replicates: NDArray[np.float64]) -> Estimate:
    """Estimate the percentile interval of a value from its replicates, shape (b,); NaN where a replicate does not define it."""
    finite = replicates[np.isfinite(replicates)]
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(finite) else (None, None)
    return Estimate(defined(value), defined(low), defined(high), len(replicates) - len(finite), len(replicates))


# --- DeLong -----------------------------------------------------------------------------------------------------------


def delong(truth: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the areas under the ROC curve of several scores of the same breasts, and their covariance.

    Parameters
    ----------
    truth : int array, shape (n,)
        1 malignant, 0 benign.
    scores : float array, shape (k, n)
        One row a score.

    Returns
    -------
    (float64 array, float64 array)
        Areas, shape (k,); covariance, shape (k, k).

    References
    ----------
    DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837; placements computed by sorting as in Sun and Xu (2014), IEEE
    Signal Processing Letters 21, 1389.
    """
    y, s = np.asarray(truth) == 1, np.atleast_2d(np.asarray(scores, np.float64))
    malignant = np.array([_share_below(score[y], score[~y]) for score in s])
    benign = np.array([1 - _share_below(score[~y], score[y]) for score in s])
    return malignant.mean(axis=1), _covariance(malignant) / y.sum() + _covariance(benign) / (~y).sum()


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of `others` below each value, equal ones counting half."""
    ordered = np.sort(others)
    below, not_above = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    share: NDArray[np.float64] = (below + not_above) / (2 * len(others))
    return share


def _covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centered = values - values.mean(axis=1, keepdims=True)
    product: NDArray[np.float64] = centered @ centered.T / (values.shape[1] - 1)
    return product


@dataclass(frozen=True, slots=True)
class AucDifference:
    """Two areas under the ROC curve on the same breasts, compared by DeLong's test, which takes breasts as independent.

    Attributes
    ----------
    first, second : float
        The two areas.
    low, high : float
        95 % interval of `first` - `second`.
    p : float or None
        Two-sided; None where the variance is 0.
    """

    first: float
    second: float
    low: float
    high: float
    p: float | None


def compare_auc(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> AucDifference | None:
    """Compare two scores by DeLong's test; None with fewer than two breasts of a class."""
    y = np.asarray(truth)
    if min(np.count_nonzero(y == 1), np.count_nonzero(y == 0)) < 2:
        return None
    areas, covariance = delong(y, np.stack([np.asarray(first), np.asarray(second)]))
    difference = float(areas[0] - areas[1])
    deviation = math.sqrt(max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation
    p = math.erfc(abs(difference) / deviation / math.sqrt(2)) if deviation > 1e-12 else None
    return AucDifference(float(areas[0]), float(areas[1]), difference - half, difference + half, p)
