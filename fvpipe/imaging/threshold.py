"""Thresholds on the histogram of a thumbnail, each on 256 bins: of its values, or of their logarithm.

Every decision is made on integers, or on tables that are rounded so that every math library agrees.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.thumbnail import Thumbnail

LOG_GAIN = 1000.0
BINS = 256
SKIN, VALLEY = 0.4, 6  # how far the threshold may go down, as a share, and over how many bins on each side counts are summed

# x at which log1p(LOG_GAIN x) passes from one bin to the next, rounded so that every math library agrees
_LOG_EDGES = np.array(
    [float(f"{math.expm1(j / BINS * math.log1p(LOG_GAIN)) / LOG_GAIN:.9e}") for j in range(1, BINS)], np.float64
)
_LINEAR_EDGES = np.arange(1, BINS) / BINS


def bins_of(thumbnail: Thumbnail, method: str) -> NDArray[np.uint8]:
    """For each index, its bin of 256: of the log above the background's mode, or linear."""
    if method != "otsu_log":
        return np.searchsorted(_LINEAR_EDGES, thumbnail.relative, side="right").astype(np.uint8)
    relative, counts = thumbnail.relative, thumbnail.counts
    mean = float((relative * counts).sum() / counts.sum())
    coarse = np.minimum((relative * 512).astype(np.int64), 511)
    filled = np.bincount(coarse, weights=counts, minlength=512)
    mode = (int(np.argmax(filled[: int(mean * 512) + 1])) + 0.5) / 512
    return np.searchsorted(_LOG_EDGES, np.maximum(relative - mode, 0.0), side="right").astype(np.uint8)


def otsu_threshold(counts: NDArray[np.int64]) -> int:
    """Otsu's threshold of a histogram: the last bin of the darker class (N. Otsu, 1979).

    The smallest of those with the largest variance between the classes, which is compared without rounding.
    """
    below = np.cumsum(counts)
    moment = np.cumsum(counts * np.arange(len(counts)))
    total, whole = int(below[-1]), int(moment[-1])
    between = np.flatnonzero((counts > 0) & (below < total))  # an empty bin changes nothing
    if not len(between):
        return 0
    share = below[between] / total
    rough = (moment[between] / whole - share) ** 2 / (share * (1 - share))
    likely = between[rough >= rough.max() * (1 - 1e-9)].tolist()  # only these are worked out exactly

    def variance(i: int) -> Fraction:
        dark = int(below[i])
        return Fraction((int(moment[i]) * total - whole * dark) ** 2, dark * (total - dark))

    return int(max(likely, key=lambda i: (variance(i), -i)))


def lowered(counts: NDArray[np.int64], threshold: int) -> int:
    """The emptiest place between a share (`SKIN`) of a threshold on logarithms and itself.

    Otsu's lies well inside the skin where the background is black, and there the faint ring around a nipple may part it
    from the breast. Where noise or scatter fills what lies below, it stays.
    """
    lowest = share_of(threshold)
    wide = np.convolve(counts, np.ones(2 * VALLEY + 1, np.int64))[VALLEY:-VALLEY]
    return lowest + int(np.argmin(wide[lowest : threshold + 1]))


def share_of(threshold: int) -> int:
    """The bin of `SKIN` times the value at which a bin on logarithms ends."""
    return int(np.searchsorted(_LOG_EDGES, SKIN * _LOG_EDGES[min(threshold, BINS - 2)]))


def triangle_threshold(counts: NDArray[np.int64]) -> int:
    """Zack's triangle threshold for a background peak on the dark side (Zack, Rogers and Latt, 1977)."""
    occupied = np.flatnonzero(counts)
    peak, last = int(np.argmax(counts)), int(occupied[-1])
    if last <= peak:
        return peak
    positions = np.arange(peak, last + 1)
    # Distance below the line from the peak to the end, without its constant factor: integers, so exact.
    distance = (
        (last - positions) * int(counts[peak])
        + (positions - peak) * int(counts[last])
        - counts[peak : last + 1] * (last - peak)
    )
    return int(positions[int(np.argmax(distance))])
