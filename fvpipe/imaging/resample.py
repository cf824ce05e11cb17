"""Resizing of the canvas by bilinear interpolation and by area means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.canvas import Panel
from fvpipe.imaging.normalize import Crop

BAND_PIXELS = 1 << 17  # stored pixels summed at a time, or one output row: the sums stay in the processor's cache


@dataclass(frozen=True, slots=True)
class NormalizedCrop:
    """A crop and the table that normalizes its stored values to [0, 1]."""

    crop: Crop
    table: NDArray[np.float64]

    def gather(self, rows: Any, columns: Any) -> NDArray[np.float64]:
        """Normalized values at all combinations of `rows` and `columns`, 0 outside the outline."""
        stored, outside = self.crop.stored, self.crop.outside
        # Whole rows first: faster than both at once.
        values: NDArray[np.float64] = self.table.take(stored[rows][:, columns])
        return values if outside is None else np.where(outside[rows][:, columns], 0.0, values)


# --- bilinear ---------------------------------------------------------------------------------------------------------


def bilinear(panel: Panel, crops: dict[int, NormalizedCrop]) -> NDArray[np.float64]:
    """Resize a canvas by bilinear interpolation with half-pixel centers and without antialiasing.

    This is the default of common libraries. Only the four neighbors of each output pixel are read.

    Parameters
    ----------
    panel : Panel
        Canvas and target.
    crops : dict of int to NormalizedCrop
        Crop of each view on the canvas.

    Returns
    -------
    image : float64 array, shape (target height, target width)
        Values in [0, 1], 0 where the canvas is empty.
    """
    _, _, height, width = panel.target
    rows, down = _neighbors(panel.canvas[0], height)
    columns, across = _neighbors(panel.canvas[1], width)
    corners = np.zeros((2, 2, height, width), np.float64)
    for view, (top, left) in panel.offsets.items():
        view_height, view_width = crops[view].crop.stored.shape
        for i, row in enumerate(rows):
            inside_rows = _slice_within(row, top, view_height)
            for j, column in enumerate(columns):
                inside_columns = _slice_within(column, left, view_width)
                corners[i, j, inside_rows, inside_columns] = crops[view].gather(
                    row[inside_rows] - top, column[inside_columns] - left
                )
    left_right = corners[:, 0] * (1 - across) + corners[:, 1] * across
    image: NDArray[np.float64] = left_right[0] * (1 - down)[:, None] + left_right[1] * down[:, None]
    return image


def _neighbors(source: int, target: int) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]:
    """Lower and upper neighbor of each output pixel, and its distance from the lower one."""
    center = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    lower = np.floor(center).astype(np.int64)
    return (lower, np.minimum(lower + 1, source - 1)), center - lower


def _slice_within(positions: NDArray[np.int64], first: int, count: int) -> slice:
    """Slice of the ascending `positions` that lie in ``first .. first + count - 1``."""
    return slice(*np.searchsorted(positions, (first, first + count)).tolist())


# --- area means -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AxisCoverage:
    """Interval of a view that each output pixel covers along one axis."""

    first: int  # first output pixel that covers the view
    # (output pixels from `first` on,): ends of the interval in stored pixels of the crop; they may lie up to a pixel beyond the
    # first and last one
    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    # (output pixels from `first` on,): share of the output pixel that lies on the view; the rest is empty, or another view
    share: NDArray[np.float64]


def axis_coverage(target: int, canvas: int, position: int, length: int, scale: int, offset: float) -> AxisCoverage:
    """Find the interval of a view that each output pixel covers along one axis.

    Parameters
    ----------
    target : int
        Number of output pixels.
    canvas : int
        Length of the canvas in source pixels.
    position, length : int
        Start of the view on the canvas and its length, in source pixels.
    scale : int
        Source pixels per stored pixel.
    offset : float
        Stored pixels between the first one of the crop and the start of the view.
    """
    step = canvas / target
    width = min(max(step, float(scale)), float(canvas))  # at least a stored pixel: bilinear interpolation when enlarging
    start = np.clip((np.arange(target) + 0.5) * step - width / 2, 0, canvas - width)
    stop = start + width
    start, stop = np.clip(start - position, 0, length), np.clip(stop - position, 0, length)
    covered = np.flatnonzero(stop > start)
    first, on_view = int(covered[0]), slice(int(covered[0]), int(covered[-1]) + 1)
    share = (stop - start)[on_view] / width
    return AxisCoverage(first, start[on_view] / scale + offset, stop[on_view] / scale + offset, share)


def area_means(
    stored: NDArray[Any],
    table: NDArray[np.float64],
    outside: NDArray[np.bool_] | None,
    down: AxisCoverage,
    across: AxisCoverage,
) -> NDArray[np.float64]:
    """Mean of the normalized values over the area that each output pixel covers.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Stored values of the crop.
    table : float64 array, shape (number of stored values,)
        Normalized value of each stored value, in [0, 1].
    outside : bool array, shape (rows, columns), or None
        True where the value is 0 whatever is stored.
    down, across : AxisCoverage
        Covered intervals of rows and of columns.

    Returns
    -------
    means : float64 array, shape (output rows, output columns)
        Means times the share of the output pixel that lies on the view.
    """
    bands = list(_bands(down, *stored.shape))
    largest = max((last - first) * stored.shape[1] for _, first, last in bands)
    unit = 2.0 ** (52 - largest.bit_length())  # of values rounded to integers, whose sums over a band are exact
    integers = np.rint(table * unit)
    means = np.empty((len(down.start), len(across.start)), np.float64)
    for rows, first, last in bands:
        block = integers[stored[first:last]]
        if outside is not None:
            block[outside[first:last]] = 0.0
        sums: NDArray[np.float64] = cv2.integral(block, sdepth=cv2.CV_64F)
        tall = interpolate_rows(sums, down.stop[rows] - first) - interpolate_rows(sums, down.start[rows] - first)
        means[rows] = (interpolate_rows(tall.T, across.stop) - interpolate_rows(tall.T, across.start)).T
    weights_down = down.share / ((down.stop - down.start) * unit)
    weighted: NDArray[np.float64] = means * weights_down[:, None] * (across.share / (across.stop - across.start))
    return weighted


def _bands(down: AxisCoverage, rows: int, columns: int) -> Iterator[tuple[slice, int, int]]:
    """Split the output rows into bands; each with the first and last stored row that it covers."""
    firsts = np.clip(np.floor(down.start), 0, rows - 1).astype(int).tolist()
    lasts = np.clip(np.ceil(down.stop), 1, rows).astype(int).tolist()
    begin = 0
    for i in range(1, len(firsts) + 1):
        if i == len(firsts) or (lasts[i] - firsts[begin]) * columns > BAND_PIXELS:
            yield slice(begin, i), firsts[begin], lasts[i - 1]
            begin = i


def interpolate_rows(sums: NDArray[np.float64], positions: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows of cumulative sums at fractional positions, extrapolated linearly beyond the first and last row."""
    lower = np.clip(np.floor(positions).astype(np.int64), 0, len(sums) - 2)
    below = sums[lower]
    interpolated: NDArray[np.float64] = below + (sums[lower + 1] - below) * (positions - lower)[:, None]
    return interpolated


def area(panel: Panel, crops: dict[int, NormalizedCrop]) -> NDArray[np.float64]:
    """Resize a canvas as :func:`bilinear` does, but by the mean over the area of each output pixel, which antialiases."""
    _, _, height, width = panel.target
    image = np.zeros((height, width), np.float64)
    for view, position in panel.offsets.items():
        crop = crops[view].crop
        down, across = (
            axis_coverage(target, canvas, start, length, crop.image.scale, offset)
            for target, canvas, start, length, offset in zip(
                (height, width), panel.canvas, position, crop.shape, crop.offset, strict=True
            )
        )
        means = area_means(crop.stored, crops[view].table, crop.outside, down, across)
        image[down.first : down.first + len(means), across.first : across.first + means.shape[1]] += means
    return image
