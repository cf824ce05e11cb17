"""Mapping between the source image of a view and the sample: linear, or an equal-area warp."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fvpipe.types import FusedSample

Floats = NDArray[np.float64]

WARP_COLUMNS = ("warp_rows", "warp_columns", "warp_widths")
"""Datasets of a shard whose samples are warped, float64, shape (N, 2, n); NaN for a view that is not."""

BOX_POINTS = 9  # on the left and the right side of a box that is mapped as a polygon


@dataclass(frozen=True, slots=True, eq=False)
class Coordinates:
    """Map between the source image of a view and the sample, invertible also beyond the crop.

    Attributes
    ----------
    crop_box : int32 array, shape (4,)
        Crop box of the view: top, bottom, left, right in source pixels.
    placement : float32 array, shape (4,)
        Its place in the sample: top, bottom, left, right in pixels; left > right if mirrored.
    rows : float64 array, shape (rows of the placement + 1,), or None
        Edges of the sample's rows in source pixels, increasing; None (as the next two) where the view is not warped.
    columns : float64 array, shape (columns of the placement + 1,), or None
        Edges of the sample's columns as shares of the breast's width, as they follow from left to right in the source image:
        increasing from 0 to 1 where the chest wall is its left edge, else decreasing from 1 to 0.
    widths : float64 array, shape (n,), or None
        Width of the breast in source pixels at n evenly spaced rows from the first to the last of `rows`, linear between.
    """

    crop_box: NDArray[Any]
    placement: NDArray[Any]
    rows: Floats | None = None
    columns: Floats | None = None
    widths: Floats | None = None

    @property
    def warped(self) -> bool:
        """Whether the view is warped."""
        return self.rows is not None

    def to_image(self, row: ArrayLike, column: ArrayLike) -> tuple[Any, Any]:
        """Map points of the source image to the sample.

        Parameters
        ----------
        row, column : float, or array of one shape
            Points in source pixels; 0 is the outer edge of pixel 0.

        Returns
        -------
        row, column : float, or array of that shape
            Points in pixels of the sample, counted in the same way.

        Examples
        --------
        A crop of rows 100 to 900 and columns 0 to 600 in the left half of an image of 256 x 256:

        >>> place = Coordinates(np.array([100, 900, 0, 600]), np.array([0.0, 256.0, 0.0, 128.0]))
        >>> place.to_image(500, 300)
        (128.0, 64.0)
        """
        if self.rows is None or self.columns is None or self.widths is None:
            (top, left), (tall, wide), (box_top, box_left) = self._origins_and_scale()
            return top + (row - box_top) * tall, left + (column - box_left) * wide  # type: ignore[operator]  # a number or an array
        top, bottom, left, right = (float(number) for number in self.placement)
        row, column = np.asarray(row, np.float64), np.asarray(column, np.float64)
        share = self._from_wall(column) / self._width(row)
        across = _index(self._edges(), share) / (len(self.columns) - 1)
        across = across if self._wall_left else 1 - across
        down = _index(self.rows, row) / (len(self.rows) - 1)
        return top + down * (bottom - top), left + across * (right - left)

    def to_source(self, row: ArrayLike, column: ArrayLike) -> tuple[Any, Any]:
        """Map points of the sample to the source image, the inverse of :meth:`to_image`."""
        if self.rows is None or self.columns is None or self.widths is None:
            (top, left), (tall, wide), (box_top, box_left) = self._origins_and_scale()
            return box_top + (row - top) / tall, box_left + (column - left) / wide  # type: ignore[operator]  # a number or an array
        top, bottom, left, right = (float(number) for number in self.placement)
        row, column = np.asarray(row, np.float64), np.asarray(column, np.float64)
        down = _value(self.rows, (row - top) / (bottom - top) * (len(self.rows) - 1))
        across = (column - left) / (right - left)
        share = _value(self._edges(), (across if self._wall_left else 1 - across) * (len(self.columns) - 1))
        return down, self._from_wall(share * self._width(down), back=True)

    def polygon(self, top: float, bottom: float, left: float, right: float) -> Floats:
        """Outline of a box of the source image in the sample, shape (n, 2): rows and columns of points."""
        down = np.linspace(top, bottom, BOX_POINTS if self.warped else 2)  # rows stay rows: only the other two sides are bent
        rows = np.concatenate([down, down[::-1]])
        columns = np.repeat([float(right), float(left)], len(down))
        return np.stack(self.to_image(rows, columns), axis=1)

    def scale(self) -> tuple[float, float]:
        """Mean source pixels per pixel of the sample, down and across; their product is the mean area of a pixel.

        NaN for a view that is not in the sample.
        """
        source = np.diff(self.crop_box.reshape(2, 2))[:, 0].astype(np.float64)
        placed = np.abs(np.diff(self.placement.reshape(2, 2).astype(np.float64)))[:, 0]
        if self.widths is not None:
            source[1] = np.mean(self.widths[:-1] + self.widths[1:]) / 2
        down, across = np.divide(source, placed, out=np.full(2, np.nan), where=placed > 0).tolist()
        return down, across

    def _origins_and_scale(self) -> tuple[tuple[float, float], tuple[float, float], tuple[int, int]]:
        """Upper left corner in the sample, its pixels per source pixel, and upper left corner in the source."""
        top, bottom, left, right = (float(number) for number in self.placement)
        box_top, box_bottom, box_left, box_right = (int(number) for number in self.crop_box)
        scale = (bottom - top) / (box_bottom - box_top), (right - left) / (box_right - box_left)
        return (top, left), scale, (box_top, box_left)

    @property
    def _wall_left(self) -> bool:
        return self.columns is not None and bool(self.columns[0] < self.columns[-1])

    def _edges(self) -> Floats:
        assert self.columns is not None
        return self.columns if self._wall_left else self.columns[::-1]

    def _from_wall(self, number: Floats, back: bool = False) -> Floats:
        """Distance from the chest wall of a column, or (`back`) the column at a distance: both are one map."""
        if not self._wall_left:
            return float(self.crop_box[3]) - number
        return number + float(self.crop_box[2]) * (1 if back else -1)

    def _width(self, row: Floats) -> Floats:
        """Width at a row; beyond the first and last row, that of these."""
        assert self.rows is not None
        assert self.widths is not None
        knots = np.linspace(self.rows[0], self.rows[-1], len(self.widths))
        return np.interp(row, knots, self.widths)


def view_slices(placement: NDArray[Any]) -> tuple[slice, slice] | None:
    """Return the rows and columns of a sample that show a view, at least one of each; None if it is not in the image."""
    top, bottom, *sides = (round(float(number)) for number in placement)
    left, right = sorted(sides)
    return None if placement[0] < 0 else (slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1)))


def coordinates_of(sample: FusedSample, view: int) -> Coordinates:
    """Coordinates of view 0 (CC) or 1 (MLO) of a sample."""
    return coordinates(sample.boxes, sample.placement, [getattr(sample, name) for name in WARP_COLUMNS], view)


def coordinates(
    crop_boxes: NDArray[Any], placements: NDArray[Any], warps: Sequence[NDArray[Any] | None], view: int
) -> Coordinates:
    """Coordinates of view 0 (CC) or 1 (MLO), from columns of a sample; `warps` has those of :data:`WARP_COLUMNS`."""
    arrays = [array[view] for array in warps if array is not None]
    is_warped = len(arrays) == len(WARP_COLUMNS) and not np.isnan(arrays[0][0])
    return Coordinates(crop_boxes[view], placements[view], *(arrays if is_warped else ()))


def _index(edges: Floats, values: Floats) -> Floats:
    """Place of values among increasing edges, linear between and beyond them."""
    lower = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return lower + (values - edges[lower]) / (edges[lower + 1] - edges[lower])


def _value(edges: Floats, places: Floats) -> Floats:
    """Inverse of :func:`_index`."""
    lower = np.clip(np.floor(places).astype(np.int64), 0, len(edges) - 2)
    return edges[lower] + (places - lower) * (edges[lower + 1] - edges[lower])
