"""Equal-area warp of a segmented breast: the sample is filled with breast, and no part of it gets more pixels than another.

The chest wall is a lateral edge of the crop, and the outline a function of the row: the breast's width w(r). Output rows are
spaced so that each holds the same area, and each is divided into equal parts of its own width. The equations: docs/adaptive.md.
Arithmetic is float64, one operation at a time, so that the bytes are the same on every processor.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.normalize import Crop
from fvpipe.imaging.resample import BAND_PIXELS, NormalizedCrop, interpolate_rows
from fvpipe.imaging.segmentation.segment import Segmentation
from fvpipe.imaging.segmentation.thumbnail import Mask
from fvpipe.reasons import CropVerdict
from fvpipe.shards.coordinates import WARP_COLUMNS
from fvpipe.types import CropBox, Edge

Floats = NDArray[np.float64]

INTERVALS = 256  # of equal height, at whose edges the width is given; linear between
CONVEX_ROWS = 0.9  # share of the outline's rows that must be one run of pixels
MIN_WIDTH = 1.0  # source pixels of a row at least, so that the map can be inverted


@dataclass(frozen=True, slots=True, eq=False)
class Warp:
    """Cells of the output pixels of one view, the chest wall on the left."""

    # (output rows + 1,): edges of the output's rows in source pixels, increasing from the top to the bottom of the crop box
    rows: Floats
    # (output columns + 1,): edges of the output's columns as shares of the width of a row, from 0 at the chest wall to 1
    columns: Floats
    # (INTERVALS + 1,): width in source pixels at evenly spaced rows from the top to the bottom of the crop box; linear between
    widths: Floats


def crop_warp(segmentation: Segmentation | None, wall: Edge, size: tuple[int, int], pipeline: Pipeline) -> Warp | None:
    """Plan the warp of a view by the settings of a pipeline.

    Parameters
    ----------
    segmentation : Segmentation or None
        Outline and crop box.
    wall : Edge
        Edge of the image on which the chest wall lies.
    size : (int, int)
        Rows and columns of the view's part of the sample.
    pipeline : Pipeline
        Method of resizing and its settings.

    Returns
    -------
    warp : Warp or None
        None if the pipeline does not warp, or the outline does not allow it.
    """
    if pipeline.resize.method != "equal_area" or segmentation is None:
        return None
    widths, box = outline_widths(segmentation, wall), segmentation.box
    return None if widths is None else equal_area(widths, box, pipeline.resize.stretch, size)


def source_arrays(warps: Mapping[int, Warp], crops: Mapping[int, Crop], size: tuple[int, int]) -> dict[str, Floats]:
    """Arrays of a sample by which :class:`fvpipe.shards.coordinates.Coordinates` maps; NaN for a view that is not warped.

    Parameters
    ----------
    warps, crops : mapping of int to Warp or Crop
        By the view's position in :data:`fvpipe.types.VIEWS`.
    size : (int, int)
        Rows and columns of a view's part of the sample.
    """
    lengths = (size[0] + 1, size[1] + 1, INTERVALS + 1)
    arrays = {name: np.full((2, length), np.nan) for name, length in zip(WARP_COLUMNS, lengths, strict=True)}
    for i, warp in warps.items():
        order = slice(None, None, 1 if crops[i].wall is Edge.LEFT else -1)
        for array, values in zip(arrays.values(), (warp.rows, warp.columns[order], warp.widths), strict=True):
            array[i] = values
    return arrays


def outline_widths(segmentation: Segmentation, wall: Edge) -> Floats | None:
    """Distance of the outline from the chest wall at evenly spaced rows of the crop box.

    Parameters
    ----------
    segmentation : Segmentation
        Mask and crop box.
    wall : Edge
        Edge of the crop box on which the chest wall lies.

    Returns
    -------
    widths : float64 array, shape (INTERVALS + 1,), or None
        In source pixels, nowhere less than that of the mask in the crop box. None where the outline is not a reliable
        function of the row: the crop is not good, there is no mask, or less than 0.9 of its rows are one run of pixels.
    """
    mask, box, step = segmentation.mask, segmentation.box, segmentation.step
    if mask is None or segmentation.verdict is not CropVerdict.GOOD or not _is_row_convex(mask):
        return None
    inside = (mask if wall is Edge.LEFT else mask[:, ::-1]) > 0
    ends = np.where(inside.any(axis=1), inside.shape[1] - np.argmax(inside[:, ::-1], axis=1), 0) * step
    before = box.left if wall is Edge.LEFT else mask.shape[1] * step - box.right  # columns between the edge and the crop box
    reach = np.clip(ends - before, 0, box.width)
    edges = box.top + np.arange(INTERVALS + 1) * (box.height / INTERVALS)
    first = np.clip(np.floor(edges[:-1] / step).astype(np.int64), 0, len(mask) - 1)
    last = np.clip(np.ceil(edges[1:] / step).astype(np.int64) - 1, first, len(mask) - 1)
    largest = reach[first]
    for i in range(1, int((last - first).max()) + 1):
        largest = np.maximum(largest, reach[np.minimum(first + i, last)])
    padded = np.pad(largest, 1, mode="edge")
    knots = np.maximum(padded[:-1], padded[1:]).astype(np.float64)  # lines between them lie nowhere below `largest`
    padded = np.pad(knots, 1, mode="edge")
    smooth: Floats = np.maximum(knots, (padded[:-2] + padded[1:-1] + padded[2:]) / 3)  # over 1.2 % of the rows
    return smooth


def _is_row_convex(mask: Mask) -> bool:
    inside = mask > 0
    counts = np.count_nonzero(inside, axis=1)
    spans = mask.shape[1] - np.argmax(inside[:, ::-1], axis=1) - np.argmax(inside, axis=1)
    rows = counts > 0
    return bool(rows.any()) and bool(np.count_nonzero((spans == counts)[rows]) >= CONVEX_ROWS * np.count_nonzero(rows))


def equal_area(widths: Floats, box: CropBox, stretch: float, size: tuple[int, int]) -> Warp:
    """Divide a crop box into cells of equal area, one an output pixel.

    Parameters
    ----------
    widths : float64 array, shape (INTERVALS + 1,)
        From :func:`outline_widths`.
    box : CropBox
        Crop box in source pixels.
    stretch : float
        No row is taken for narrower than this share of the box. 1: the whole crop box, as without a warp.
    size : (int, int)
        Rows and columns of the output.
    """
    widths = stretched(widths, box, stretch)
    knots = np.arange(INTERVALS + 1, dtype=np.float64) * (box.height / INTERVALS)
    columns = np.append(np.arange(size[1]) * (1 / size[1]), 1.0)
    return Warp(box.top + _equal_areas(knots, widths, size[0]), columns, widths)


def stretched(widths: Floats, box: CropBox, stretch: float) -> Floats:
    """Widths of which none is less than `stretch` of the box."""
    return np.maximum(widths, np.full_like(widths, max(stretch * box.width, MIN_WIDTH)))


def _equal_areas(knots: Floats, widths: Floats, count: int) -> Floats:
    """Edges that divide the area under `widths`, linear between knots, into `count` equal ones."""
    lengths = np.diff(knots)
    slopes = np.diff(widths) / lengths
    ends = np.append(widths[1:-1], widths[-2] + slopes[-1] * lengths[-1])
    areas = np.concatenate([[0.0], np.cumsum(lengths * (widths[:-1] + ends) * 0.5)])
    wanted = np.arange(1, count) * (areas[-1] / count)
    i = np.clip(np.searchsorted(areas, wanted, side="right") - 1, 0, len(lengths) - 1)
    rest = wanted - areas[i]  # = width * x + slope * x^2 / 2
    inner = knots[i] + 2 * rest / (widths[i] + np.sqrt(np.maximum(widths[i] * widths[i] + 2 * slopes[i] * rest, 0.0)))
    return np.concatenate([knots[:1], inner, knots[-1:]])


def warped_means(crop: NormalizedCrop, warp: Warp) -> Floats:
    """Mean of the normalized values over the cell of each output pixel.

    The width of a row of stored pixels is that at its center. A cell that is smaller than a stored pixel is widened to one,
    as in :func:`fvpipe.imaging.resample.area`.

    Parameters
    ----------
    crop : NormalizedCrop
        Crop at full or reduced resolution.
    warp : Warp
        Cells.

    Returns
    -------
    means : float64 array, shape (output rows, output columns)
        The chest wall on the same edge as in the crop.
    """
    on_left = (crop.crop.wall is Edge.LEFT) != crop.crop.mirrored
    order = slice(None, None, 1 if on_left else -1)
    stored, outside = crop.crop.stored[:, order], crop.crop.outside
    outside = None if outside is None else outside[:, order]
    scale, (above, before) = crop.crop.image.scale, crop.crop.offset
    if not on_left:
        before = stored.shape[1] - crop.crop.shape[1] / scale - before
    # In stored pixels: the cells' ends of rows, and of columns in each row.
    height = crop.crop.shape[0] / scale
    tops, bottoms = _ends((warp.rows - warp.rows[0])[None] / scale, np.array([height]))
    centers = np.clip((np.arange(len(stored)) + 0.5 - above) * (INTERVALS / height), 0, INTERVALS)
    widths = interpolate_rows(warp.widths[:, None], centers)[:, 0] / scale
    band = max(BAND_PIXELS // stored.shape[1], 1)
    unit = 2.0 ** (52 - (band * stored.shape[1]).bit_length())  # of values rounded to integers, whose sums are exact
    integers = np.rint(crop.table * unit)
    sums = np.zeros((len(stored) + 1, len(warp.columns) - 1), np.float64)
    areas = np.zeros_like(sums)
    wide = np.diff(warp.columns).min() * widths.min() >= 1
    for first in range(0, len(stored), band):
        rows = slice(first, first + band)
        reach = math.ceil(before + max(widths[rows].max(), 1.0))  # no pixel beyond counts
        block = integers[stored[rows, :reach]]
        if outside is not None:
            block[outside[rows, :reach]] = 0.0
        edges = warp.columns * widths[rows, None]
        if wide:  # neighbors share an edge
            edges += before
            until = _sums_until(block, edges)
            np.subtract(until[:, 1:], until[:, :-1], out=sums[1:][rows])
            np.subtract(edges[:, 1:], edges[:, :-1], out=areas[1:][rows])
        else:
            starts, stops = _ends(edges, widths[rows])
            sums[1:][rows] = _sums_until(block, before + stops) - _sums_until(block, before + starts)
            areas[1:][rows] = stops - starts
    for each in (sums, areas):
        np.cumsum(each, axis=0, out=each)
    total, area = (
        interpolate_rows(each, above + bottoms[0]) - interpolate_rows(each, above + tops[0]) for each in (sums, areas)
    )
    means: Floats = total / (area * unit)
    return means[:, order]


def _ends(edges: Floats, length: Floats) -> tuple[Floats, Floats]:
    """Starts and stops of the cells between the edges of each row; cells are at least 1 long, and lie within 0 to `length`."""
    starts, stops = edges[:, :-1], edges[:, 1:]
    wide = np.minimum(np.maximum(stops - starts, 1.0), length[:, None])
    starts = np.clip((starts + stops - wide) / 2, 0, length[:, None] - wide)
    return starts, starts + wide


def _sums_until(values: Floats, positions: Floats) -> Floats:
    """Sums of each row's values up to positions in it, shape of `positions`; beyond the ends, the last values go on."""
    rows, columns = values.shape
    # Sums of all rows above, too: faster than a sum along each row, and as exact. They are subtracted where they are needed.
    sums: Floats = np.asarray(cv2.integral(values, sdepth=cv2.CV_64F), np.float64).ravel()
    at = np.minimum(positions.astype(np.int64), columns - 1)  # truncated: for a little less than 0, 0 is the lower
    share: Floats = positions - at
    at += (np.arange(rows) * (columns + 1))[:, None]

    def until(here: NDArray[np.int64]) -> Floats:
        found: Floats = sums.take(here + columns + 1, mode="clip") - sums.take(here, mode="clip")  # faster than to raise
        return found

    below = until(at)
    at += 1
    share *= until(at) - below
    share += below
    return share
