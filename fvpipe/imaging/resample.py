"""Resampling by area means and bilinear interpolation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.canvas import Panel
from fvpipe.imaging.normalize import Crop, Values

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


# --- where each view goes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """A crop as it is drawn: index -> final value."""

    crop: Crop
    table: Values

    def at(self, rows: Any, columns: Any) -> Values:
        """Final values where `rows` and `columns` meet."""
        indices, outside = self.crop.indices, self.crop.outside
        found: Values = self.table.take(indices[rows][:, columns])  # whole rows first: faster than both at once
        return found if outside is None else np.where(outside[rows][:, columns], 0.0, found)


# --- drawing ----------------------------------------------------------------------------------------------------------


def bilinear(panel: Panel, sources: dict[int, Source]) -> Values:
    """Bilinear with half-pixel centres and no antialiasing, the default of the common libraries, by gathering the four
    neighbours of each output pixel.
    """
    _, _, height, width = panel.target
    rows, down = _neighbours(panel.canvas[0], height)
    columns, across = _neighbours(panel.canvas[1], width)
    corners = np.zeros((2, 2, height, width), np.float64)  # what no view covers is the background
    for view, (top, left) in panel.offsets.items():
        view_height, view_width = sources[view].crop.indices.shape
        for i, row in enumerate(rows):
            drawn = _within(row, top, view_height)
            for j, column in enumerate(columns):
                beside = _within(column, left, view_width)
                corners[i, j, drawn, beside] = sources[view].at(row[drawn] - top, column[beside] - left)
    left_right = corners[:, 0] * (1 - across) + corners[:, 1] * across
    found: Values = left_right[0] * (1 - down)[:, None] + left_right[1] * down[:, None]
    return found


def _neighbours(source: int, target: int) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Values]:
    """The lower and the upper neighbour of each output pixel, and how far it lies towards the upper."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    lower = np.floor(centre).astype(np.int64)
    return (lower, np.minimum(lower + 1, source - 1)), centre - lower


def _within(places: NDArray[np.int64], first: int, count: int) -> slice:
    """Which of ascending `places` lie on the `count` from `first`."""
    return slice(*np.searchsorted(places, (first, first + count)).tolist())


def area(panel: Panel, sources: dict[int, Source]) -> Values:
    """The mean over the area that an output pixel covers: antialiased."""
    _, _, height, width = panel.target
    image = np.zeros((height, width), np.float64)  # what no view covers is the background
    for view, offsets in panel.offsets.items():
        crop = sources[view].crop
        down, across = (
            windows(target, canvas, offset, length, crop.image.scale, before)
            for target, canvas, offset, length, before in zip(
                (height, width), panel.canvas, offsets, crop.shape, crop.before, strict=True
            )
        )
        means = window_means(crop.indices, sources[view].table, crop.outside, down, across)
        image[down.first : down.first + len(means), across.first : across.first + means.shape[1]] += means
    return image
