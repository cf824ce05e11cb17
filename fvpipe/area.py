"""Resizing by area: each output pixel is the mean over the stored pixels that it covers, parts of them counted as parts.

By the sums of all pixels above and left of each corner: a mean is four look-ups. Every sum is one of whole numbers below
2 ** 53, so it is exact, and the same in whatever order a processor adds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

BAND = 1 << 17  # stored pixels at a time, or those of one output row: their sums stay in the processor's cache


@dataclass(frozen=True, slots=True)
class Windows:
    """What each output pixel covers of a view on one axis.

    Attributes
    ----------
    first : int
        The first output pixel that covers any.
    start, stop : float64, (output pixels from `first` on,)
        In stored pixels of the crop; a frame may begin or end a part of a pixel beyond its first or last stored one.
    share : float64, (output pixels from `first` on,)
        How much of the output pixel that is; the rest is background, or another view.
    """

    first: int
    start: Values
    stop: Values
    share: Values


def windows(target: int, canvas: int, offset: int, length: int, scale: int, before: float) -> Windows:
    """Lay `target` output pixels over a canvas, as far as a view lies beneath them.

    Parameters
    ----------
    target : int
        Output pixels on the axis.
    canvas, offset, length : int
        Source pixels of the canvas; where the view begins on it, and how long it is.
    scale, before : int, float
        Source pixels a stored one, and how many stored pixels lie before the view's edge.

    Returns
    -------
    Windows
    """
    step = canvas / target
    width = min(max(step, float(scale)), float(canvas))  # narrower than a pixel would be no mean: bilinear, when enlarging
    start = np.clip((np.arange(target) + 0.5) * step - width / 2, 0, canvas - width)
    stop = start + width
    start, stop = np.clip(start - offset, 0, length), np.clip(stop - offset, 0, length)
    covered = np.flatnonzero(stop > start)
    first, used = int(covered[0]), slice(int(covered[0]), int(covered[-1]) + 1)
    share = (stop - start)[used] / width
    start, stop = start[used] / scale + before, stop[used] / scale + before
    return Windows(first, start, stop, share)


def window_means(
    indices: NDArray[Any], table: Values, outside: NDArray[np.bool_] | None, down: Windows, across: Windows
) -> Values:
    """Means of final values over windows.

    Parameters
    ----------
    indices : uint8 or uint16, (rows, columns)
    table : float64
        The final value of each index, 0 to 1.
    outside : bool, (rows, columns), or None
        Where the value is 0 whatever the index.
    down, across : Windows

    Returns
    -------
    float64, (windows down, windows across)
        Times the share of the output pixel that each window is.
    """
    bands = list(_bands(down, *indices.shape))
    largest = max((last - first) * indices.shape[1] for _, first, last in bands)
    exact = 2.0 ** (52 - largest.bit_length())  # a value's unit: rounded to it, a band's values sum exactly
    whole = np.rint(table * exact)
    means = np.empty((len(down.start), len(across.start)), np.float64)
    for rows, first, last in bands:
        block = whole[indices[first:last]]
        if outside is not None:
            block[outside[first:last]] = 0.0
        sums: Values = cv2.integral(block, sdepth=cv2.CV_64F)
        tall = _at(sums, down.stop[rows] - first) - _at(sums, down.start[rows] - first)
        means[rows] = (_at(tall.T, across.stop) - _at(tall.T, across.start)).T
    weights_down = down.share / ((down.stop - down.start) * exact)
    weighted: Values = means * weights_down[:, None] * (across.share / (across.stop - across.start))
    return weighted


def _bands(down: Windows, rows: int, columns: int) -> Iterator[tuple[slice, int, int]]:
    """Neighbouring windows, and the stored rows that they cover, as many as fit into a band."""
    firsts = np.clip(np.floor(down.start), 0, rows - 1).astype(int).tolist()
    lasts = np.clip(np.ceil(down.stop), 1, rows).astype(int).tolist()
    begun = 0
    for i in range(1, len(firsts) + 1):
        if i == len(firsts) or (lasts[i] - firsts[begun]) * columns > BAND:
            yield slice(begun, i), firsts[begun], lasts[i - 1]
            begun = i


def _at(sums: Values, edges: Values) -> Values:
    """Rows of sums, between two of them where an edge lies within a pixel, and beyond them as if the last pixel went on."""
    lower = np.clip(np.floor(edges).astype(np.int64), 0, len(sums) - 2)
    below = sums[lower]
    found: Values = below + (sums[lower + 1] - below) * (edges - lower)[:, None]
    return found
