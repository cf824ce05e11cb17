"""Extremes and histograms of images of stored values (uint8 or uint16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BAND_BYTES = 1 << 19  # of `bands`: a band that is read twice stays in the processor's cache
COUNT_PIXELS = 1 << 24  # pixels per call of calcHist, whose float32 counts are exact up to here


def stored_range(stored: NDArray[Any], mask: NDArray[np.uint8] | None = None) -> tuple[int, int]:
    """Smallest and largest stored value.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Columns must be contiguous; rows need not be.
    mask : uint8 array, shape (rows, columns), or None
        Nonzero for the pixels to use, of which there must be one.
    """
    low, high, _, _ = cv2.minMaxLoc(stored, mask)
    return int(low), int(high)


def run_mask(stored: NDArray[Any], run: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mask of a contiguous run of stored values, such as Pixel Padding.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Columns must be contiguous; rows need not be.
    run : bool array, shape (number of stored values,)
        True for the values of the run, of which there must be one.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        255 for the run, 0 elsewhere.
    """
    values = np.flatnonzero(run)
    return np.asarray(cv2.inRange(stored, int(values[0]), int(values[-1])), np.uint8)


def bands(stored: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Split an image from top to bottom into bands of at most :data:`BAND_BYTES`, or of one row."""
    rows = max(BAND_BYTES // (stored.shape[1] * stored.itemsize), 1)
    return (stored[top : top + rows] for top in range(0, stored.shape[0], rows))


def quantiles(values: NDArray[np.float64], counts: NDArray[np.int64], shares: Sequence[float]) -> list[float]:
    """Values below which shares of the pixels lie, the lower of two neighbors, by value and count of each stored value."""
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(counts[order])
    return [float(values[order[np.searchsorted(cumulative, max(share * cumulative[-1], 1))]]) for share in shares]


def histogram(stored: NDArray[Any], size: int, mask: NDArray[np.uint8] | None = None) -> NDArray[np.int64]:
    """Count each stored value.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        All below `size`. Columns must be contiguous; rows need not be.
    size : int
        Number of bins.
    mask : uint8 array, shape (rows, columns), or None
        Nonzero for the pixels to count.

    Returns
    -------
    counts : int64 array, shape (size,)
        Number of pixels of each stored value.
    """
    rows = max(COUNT_PIXELS // stored.shape[1], 1)
    counts = np.zeros(size, np.int64)
    for top in range(0, stored.shape[0], rows):
        part = None if mask is None else mask[top : top + rows]
        counts += cv2.calcHist([stored[top : top + rows]], [0], part, [size], [0, size]).ravel().astype(np.int64)
    return counts
