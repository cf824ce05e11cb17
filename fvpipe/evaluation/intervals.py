"""How sure a figure is: bootstrap over patients, and DeLong's variance of the area under the ROC curve. Numpy alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.evaluation.metrics import midranks

LEVEL = 0.95
CHUNK = 250  # replicates at once: bounds the memory


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval.

    Attributes
    ----------
    value : float or None
        None where it is not defined.
    low, high : float or None
        2.5th and 97.5th percentile; None where no replicate defines it.
    undefined : int
        Replicates in which it is not defined: they are left out, so a large number says that the interval is worth little.
    """

    value: float | None
    low: float | None
    high: float | None
    undefined: int = 0


def patient_weights(patients: Sequence[object], replicates: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each breast counts in each replicate: patients are drawn with replacement, with all their breasts.

    Yields
    ------
    float64, (at most CHUNK, n)
    """
    _, owner = np.unique([repr(patient) for patient in patients], return_inverse=True)
    count = int(owner.max()) + 1 if len(owner) else 0
    rng = np.random.default_rng(seed)
    for start in range(0, replicates if count else 0, CHUNK):
        drawn = rng.multinomial(count, np.full(count, 1 / count), min(CHUNK, replicates - start))
        yield drawn[:, owner].astype(np.float64)


def bootstrap(
    figures: Callable[[NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    patients: Sequence[object],
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Percentile intervals of whatever `figures` computes from weights.

    Parameters
    ----------
    figures : callable
        Weights (b, n) -> name -> (b,), NaN where undefined.
    patients : sequence, (n,)
        Whose breast each is.
    replicates, seed : int
    """
    point = figures(np.ones((1, len(patients))))
    drawn = [figures(weights) for weights in patient_weights(patients, replicates, seed)]
    found = {}
    for name, value in point.items():
        values = np.concatenate([part[name] for part in drawn]) if drawn else np.zeros(0)
        defined = values[np.isfinite(values)]
        low, high = np.quantile(defined, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(defined) else (None, None)
        found[name] = Estimate(_number(value[0]), _number(low), _number(high), len(values) - len(defined))
    return found


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


# --- DeLong -----------------------------------------------------------------------------------------------------------


def delong(truth: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Areas under the ROC curve of several scores of the same breasts, and their covariance.

    Parameters
    ----------
    truth : array of 0 and 1, (n,)
    scores : array of float, (k, n)

    Returns
    -------
    (float64 (k,), float64 (k, k))

    References
    ----------
    DeLong, DeLong, Clarke-Pearson (1988), Biometrics 44, 837; computed by midranks as in Sun and Xu (2014), IEEE Signal
    Processing Letters 21, 1389.
    """
    y, s = np.asarray(truth) == 1, np.atleast_2d(np.asarray(scores, np.float64))
    m, n = int(y.sum()), int((~y).sum())
    above, below = [], []
    for score in s:
        together = midranks(score)
        above.append((together[y] - midranks(score[y])) / n)  # of each malignant: share of benign below it
        below.append(1 - (together[~y] - midranks(score[~y])) / m)
    malignant, benign = np.array(above), np.array(below)
    return malignant.mean(axis=1), _covariance(malignant) / m + _covariance(benign) / n


def _covariance(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean(axis=1, keepdims=True)
    product: NDArray[np.float64] = centred @ centred.T / (values.shape[1] - 1)
    return product


@dataclass(frozen=True, slots=True)
class AucDifference:
    """Two areas on the same breasts, compared by DeLong's test. Breasts count as independent, patients are not known to it.

    Attributes
    ----------
    first, second : float
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
    """DeLong's test; None with fewer than two breasts of a class."""
    y = np.asarray(truth)
    if min(np.count_nonzero(y == 1), np.count_nonzero(y == 0)) < 2:
        return None
    areas, covariance = delong(y, np.stack([np.asarray(first), np.asarray(second)]))
    difference = float(areas[0] - areas[1])
    deviation = math.sqrt(max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])))
    half = NormalDist().inv_cdf((1 + LEVEL) / 2) * deviation
    p = math.erfc(abs(difference) / deviation / math.sqrt(2)) if deviation > 1e-12 else None
    return AucDifference(float(areas[0]), float(areas[1]), difference - half, difference + half, p)
