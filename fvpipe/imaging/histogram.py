"""Images of indices into tables of at most 65,536 entries: their extremes, their histogram, what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BAND = 1 << 19  # bytes at a time: what is looked at more than once stays in the processor's cache
EXACT = 1 << 24  # pixels at a time: OpenCV gives counts as float32


def stored_range(indices: NDArray[Any]) -> tuple[int, int]:
    """Smallest and largest index, in one pass. Rows may lie apart, columns not."""
    low, high, _, _ = cv2.minMaxLoc(indices)
    return int(low), int(high)  # numbers, whatever the library's types say


def range_without_padding(indices: NDArray[Any], padding: NDArray[np.bool_] | None) -> tuple[int, int] | None:
    """Smallest and largest index that is not padding.

    Parameters
    ----------
    indices : uint8 or uint16, (rows, columns)
        Rows may lie apart, columns not.
    padding : bool, (number of indices,), or None
        True for indices that are Pixel Padding.

    Returns
    -------
    (int, int) or None
        None where padding lies at both ends or between real pixels' ends, or there is nothing else: only counting tells.
    """
    if padding is None:
        return stored_range(indices)
    found = [_range_without_padding(band, padding) for band in bands(indices)]
    ends = [each for each in found if each]  # not of bands that are padding alone
    if None in found or not ends:
        return None
    return min(low for low, _ in ends), max(high for _, high in ends)


def _range_without_padding(band: NDArray[Any], padding: NDArray[np.bool_]) -> tuple[int, int] | tuple[()] | None:
    """The same of one band; empty where it is nothing but padding."""
    low, high = stored_range(band)
    if not (padding[low] or padding[high]):
        return low, high  # any padding between them changes neither
    if padding[low : high + 1].all():
        return ()
    if padding[low] and padding[high]:
        return None
    # Shifted so that the padding, which is at one end, wraps around to the other.
    real = low + np.flatnonzero(~padding[low : high + 1])
    first, end = int(real[0]), int(real[-1]) + 1
    shift = band.dtype.type(first if padding[low] else end % (1 << 8 * band.itemsize))
    lowest, highest = stored_range(band - shift)
    if padding[low]:
        low = first + lowest
    else:
        high = end + highest - (1 << 8 * band.itemsize)
    return None if padding[low] or padding[high] or low > high else (low, high)


def bands(indices: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An image from top to bottom, in parts of at most :data:`BAND` bytes, or of one row."""
    rows = max(BAND // (indices.shape[1] * indices.itemsize), 1)
    return (indices[top : top + rows] for top in range(0, indices.shape[0], rows))


def histogram(indices: NDArray[Any], size: int, mask: NDArray[np.uint8] | None = None) -> NDArray[np.int64]:
    """How often each index occurs.

    Parameters
    ----------
    indices : uint8 or uint16, (rows, columns)
        All below `size`. Rows may lie apart, columns not.
    size : int
        Entries of the result.
    mask : uint8, (rows, columns), or None
        Only pixels where it is not 0.
    """
    rows = max(EXACT // indices.shape[1], 1)
    counts = np.zeros(size, np.int64)
    for top in range(0, indices.shape[0], rows):
        part = None if mask is None else mask[top : top + rows]
        counts += cv2.calcHist([indices[top : top + rows]], [0], part, [size], [0, size]).ravel().astype(np.int64)
    return counts


def looked_up(table: NDArray[Any], indices: NDArray[Any]) -> NDArray[Any]:
    """`table[indices]`, faster."""
    if indices.dtype == np.uint8 and table.dtype == np.uint8 and len(table) == 1 << 8:
        return np.asarray(cv2.LUT(indices, table))
    return np.take(table, indices)
