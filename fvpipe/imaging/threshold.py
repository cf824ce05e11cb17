"""Thresholds on a histogram of 256 bins, linear in the values or in their logarithm.

All decisions are made on integers, or on tables that are rounded so that every math library gives the same bins.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.thumbnail import Thumbnail

LOG_GAIN = 1000.0
BINS = 256
SKIN_SHARE = 0.4  # the threshold is lowered at most to this share of itself
VALLEY_RADIUS = 6  # bins on each side of a bin whose counts are summed when the valley is searched

# x at which log1p(LOG_GAIN * x) passes from one bin to the next, rounded so that every math library agrees
_LOG_EDGES = np.array(
    [float(f"{math.expm1(j / BINS * math.log1p(LOG_GAIN)) / LOG_GAIN:.9e}") for j in range(1, BINS)], np.float64
)
_LINEAR_EDGES = np.arange(1, BINS) / BINS


def bin_table(thumbnail: Thumbnail, method: str) -> NDArray[np.uint8]:
    """Histogram bin of each stored value.

    Parameters
    ----------
    thumbnail : Thumbnail
        Its `relative` values are binned.
    method : str
        ``otsu_log`` for bins of the logarithm above the mode of the background; linear bins otherwise.

    Returns
    -------
    bins : uint8 array, shape (number of stored values,)
        Bin of each stored value, 0 to 255.
    """
    if method != "otsu_log":
        return np.searchsorted(_LINEAR_EDGES, thumbnail.relative, side="right").astype(np.uint8)
    relative, counts = thumbnail.relative, thumbnail.counts
    mean = float((relative * counts).sum() / counts.sum())
    coarse = np.minimum((relative * 512).astype(np.int64), 511)
    coarse_counts = np.bincount(coarse, weights=counts, minlength=512)
    mode = (int(np.argmax(coarse_counts[: int(mean * 512) + 1])) + 0.5) / 512
    return np.searchsorted(_LOG_EDGES, np.maximum(relative - mode, 0.0), side="right").astype(np.uint8)


def otsu_threshold(counts: NDArray[np.int64]) -> int:
    """Otsu's threshold (N. Otsu, 1979).

    Parameters
    ----------
    counts : int64 array, shape (bins,)
        Histogram.

    Returns
    -------
    threshold : int
        Last bin of the darker class: the smallest one that maximizes the between-class variance, compared exactly.
    """
    below = np.cumsum(counts)
    moment = np.cumsum(counts * np.arange(len(counts)))
    total, total_moment = int(below[-1]), int(moment[-1])
    candidates = np.flatnonzero((counts > 0) & (below < total))  # an empty bin does not change the classes
    if not len(candidates):
        return 0
    share = below[candidates] / total
    variance = (moment[candidates] / total_moment - share) ** 2 / (share * (1 - share))
    best = candidates[variance >= variance.max() * (1 - 1e-9)].tolist()  # equal up to rounding

    def exact_variance(i: int) -> Fraction:
        dark = int(below[i])
        return Fraction((int(moment[i]) * total - total_moment * dark) ** 2, dark * (total - dark))

    return int(max(best, key=lambda i: (exact_variance(i), -i)))


def lower_to_valley(counts: NDArray[np.int64], threshold: int) -> int:
    """Lower a threshold to the emptiest bin between :data:`SKIN_SHARE` of it and itself.

    Where the background is black, Otsu's threshold lies well inside the skin, where the faint ring around a nipple may
    separate it from the breast. Where noise or scatter fills the bins below, the threshold stays.

    Parameters
    ----------
    counts : int64 array, shape (256,)
        Histogram of logarithmic bins.
    threshold : int
        Last bin of the darker class.
    """
    lowest = skin_threshold(threshold)
    smoothed = np.convolve(counts, np.ones(2 * VALLEY_RADIUS + 1, np.int64))[VALLEY_RADIUS:-VALLEY_RADIUS]
    return lowest + int(np.argmin(smoothed[lowest : threshold + 1]))


def skin_threshold(threshold: int) -> int:
    """Logarithmic bin of :data:`SKIN_SHARE` times the value at the upper edge of bin `threshold`."""
    return int(np.searchsorted(_LOG_EDGES, SKIN_SHARE * _LOG_EDGES[min(threshold, BINS - 2)]))


def triangle_threshold(counts: NDArray[np.int64]) -> int:
    """Triangle threshold for a background peak on the dark side (Zack, Rogers and Latt, 1977).

    Parameters
    ----------
    counts : int64 array, shape (bins,)
        Histogram.

    Returns
    -------
    threshold : int
        Last bin of the darker class.
    """
    occupied = np.flatnonzero(counts)
    peak, last = int(np.argmax(counts)), int(occupied[-1])
    if last <= peak:
        return peak
    positions = np.arange(peak, last + 1)
    # Distance below the line from the peak to the last bin, times a constant: integers, so exact.
    distance = (
        (last - positions) * int(counts[peak])
        + (positions - peak) * int(counts[last])
        - counts[peak : last + 1] * (last - peak)
    )
    return int(positions[int(np.argmax(distance))])
