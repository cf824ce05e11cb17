"""Thresholds on a histogram of 256 bins, linear in the values or in their logarithm: Otsu's, the triangle, plateaus.

Which of them are tried, and when the next one, is decided in :mod:`fvpipe.imaging.segmentation.threshold_attempts`.

All decisions are made on integers, or on tables that are rounded so that every math library gives the same bins.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation.thumbnail import MAX_MARGIN

LOG_GAIN = 1000.0
BINS = 256
LOWEST_THRESHOLD = 0.002  # of a plateau, as a share of the range
NOISE_FACTOR = 2.0  # a plateau starts above the noise of air times this
OTSU_FACTOR = 3.0  # and ends below Otsu's threshold times this
STEP_FACTOR = 1.19  # from one threshold to the next
PLATEAU_LOSS = 1.0354  # ratio of the areas of two thresholds at most: STEP_FACTOR to the power of 0.2
PLATEAU_STEPS = 2  # a plateau has at least: a factor of 1.4

# x at which log1p(LOG_GAIN * x) passes from one bin to the next, rounded so that every math library agrees
_LOG_EDGES = np.array(
    [float(f"{math.expm1(j / BINS * math.log1p(LOG_GAIN)) / LOG_GAIN:.9e}") for j in range(1, BINS)], np.float64
)
_CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
_LINEAR_EDGES = np.arange(1, BINS) / BINS


def linear_bins(relative: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Linear bins, 0 to 255, of values in [0, 1]."""
    return np.searchsorted(_LINEAR_EDGES, relative, side="right").astype(np.uint8)


def log_bins(above: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Logarithmic bins, 0 to 255, of values above the background."""
    return np.searchsorted(_LOG_EDGES, np.maximum(above, 0.0), side="right").astype(np.uint8)


def bin_edge(threshold: int) -> float:
    """Smallest value above the background whose logarithmic bin lies above `threshold`."""
    return float(_LOG_EDGES[min(threshold, BINS - 2)])


def plateau_steps(noise: float, otsu: int) -> list[int]:
    """Thresholds among which plateaus are looked for, in a range that Otsu's threshold bounds: each is larger by a factor.

    Parameters
    ----------
    noise : float
        Noise of the air, as a share of the range.

    Returns
    -------
    steps : list of int
        Last bins of the darker class, rising.
    """
    bins: list[int] = []
    value, high = max(LOWEST_THRESHOLD, NOISE_FACTOR * noise), min(OTSU_FACTOR * bin_edge(otsu), 1.0)
    while value < high:
        at = min(bisect_left(_LOG_EDGES, value), BINS - 2)
        if at not in bins[-1:]:
            bins.append(at)
        value *= STEP_FACTOR
    return bins


def stable_thresholds(joined: NDArray[np.uint8], steps: Sequence[int], otsu: int) -> list[int]:
    """Thresholds over which the area of the breast hardly changes, and Otsu's.

    Where the breast ends, its area is nearly the same over a wide range of thresholds. Each such range (a plateau) gives one
    threshold. An implant has one plateau, and the breast around it another below.

    Parameters
    ----------
    joined : uint8 array, shape (rows, columns)
        Logarithmic bin below which each pixel is connected with the chest wall: :func:`join_bins`.
    steps : sequence of int
        Thresholds whose areas are compared: :func:`plateau_steps`.

    Returns
    -------
    thresholds : list of int
        Last bins of the darker class, the best first.
    """
    counts = np.bincount(joined.ravel(), minlength=BINS)
    areas = (counts.sum() - np.cumsum(counts)).tolist()
    plateaus = []
    start = 0
    for k in range(1, len(steps) + 1):
        if k < len(steps) and areas[steps[k]] > 0 and areas[steps[k - 1]] <= PLATEAU_LOSS * areas[steps[k]]:
            continue
        if (k - 1 - start) >= PLATEAU_STEPS and areas[steps[k - 1]]:
            plateaus.append((start, k - 1))
        start = k
    plateaus.sort(key=lambda p: p[0] - p[1])  # the longest first, of two alike the lower
    if plateaus:
        first, area = plateaus[0][0], areas[steps[plateaus[0][1]]]
        plateaus.sort(key=lambda p: p[0] > first or 2 * areas[steps[p[1]]] < 3 * area)
    return list(dict.fromkeys([*(steps[(a + b) // 2] for a, b in plateaus), otsu]))


def join_bins(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Bin below which each pixel is connected with the chest wall, on the left: a morphological reconstruction by dilation."""
    wall = max(round(MAX_MARGIN * plane.shape[1]), 1)
    joined = plane.copy()
    joined[:, wall:] = np.minimum.accumulate(plane[:, wall - 1 :], axis=1)[:, 1:]  # straight paths, most of all
    while True:
        before = joined
        for _ in range(4):
            joined = np.asarray(cv2.min(cv2.dilate(joined, _CROSS), plane), np.uint8)
        if np.array_equal(before, joined):
            return joined


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
