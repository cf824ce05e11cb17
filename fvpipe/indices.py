"""Pictures of indices into tables of at most 65,536 entries: their extremes, their histogram, what they stand for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCK = 64  # rows at a time: what is shifted stays in the processor's cache
EXACT = 1 << 24  # pixels at a time: OpenCV gives counts as float32


def index_range(indices: NDArray[Any]) -> tuple[int, int]:
    """Smallest and largest index, in one pass. Rows may lie apart, columns not."""
    low, high, _, _ = cv2.minMaxLoc(indices)
    return int(low), int(high)  # numbers, whatever the library's types say


def real_ends(indices: NDArray[Any], padding: NDArray[np.bool_] | None) -> tuple[int, int] | None:
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
    low, high = index_range(indices)
    if padding is None or not (padding[low] or padding[high]):
        return low, high  # any padding between them changes neither
    if padding[low] and padding[high]:
        return None
    # Shifted so that the padding, which is at one end, wraps around to the other.
    real = low + np.flatnonzero(~padding[low : high + 1])
    first, end = int(real[0]), int(real[-1]) + 1
    shift = indices.dtype.type(first if padding[low] else end % (1 << 8 * indices.itemsize))
    which = 0 if padding[low] else 1
    found = [index_range(indices[top : top + BLOCK] - shift)[which] for top in range(0, indices.shape[0], BLOCK)]
    if padding[low]:
        low = first + min(found)
    else:
        high = end + max(found) - (1 << 8 * indices.itemsize)
    return None if padding[low] or padding[high] or low > high else (low, high)


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
