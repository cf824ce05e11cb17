"""Background of a mammogram: the level of air, its unevenness, and whether the image is a negative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.threshold import BINS, linear_bins, log_bins
from fvpipe.imaging.thumbnail import Thumbnail

COARSE_BINS = 512  # in which the mode of the background is looked for
COLLIMATION_AREA = 0.05  # of the image, of an exactly constant black at least
GREY_AIR_AREA = 0.05  # of the image, of grey air beside black collimation at least
GREY_AIR_LEVEL = 0.4  # of the range, at most
NEGATIVE_LEVEL = 0.5  # of the range: air of a negative is brighter
STRIP = 0.1  # of the columns: the strips at the chest wall and opposite to it
BLOCKS = (24, 20)  # rows and columns of blocks to which the surface is fitted
BLOCK_PERCENTILE = 10
TOLERANCE = 0.004  # of the range: blocks further above the surface are no air
ABOVE_WEIGHT = 1e-4  # of such blocks
STIFFNESS = 1e-4  # of the curvature, relative to the weight of all blocks
MIN_BLOCKS = 50  # to which the surface is fitted
ITERATIONS = 12
MIN_UNEVENNESS = 0.008  # of the range: a surface flatter than that is not subtracted
SURFACE_LEVELS = 65536


@dataclass(frozen=True, slots=True)
class Levels:
    """Thumbnail in bins of brightness.

    Attributes
    ----------
    bins : uint8 array, shape (rows, columns)
        Bin of each pixel, 0 to 255.
    counts : int64 array, shape (256,)
        Histogram of `bins` without the border.
    table : uint8 array, shape (number of stored values,), or None
        Bin of each stored value; None if it depends on the place.
    air : float or float64 array, shape (rows, columns)
        Background, as a share of the range: one level, or a surface.
    outside : int or None
        Stored value outside the collimator, which is darker than air; None if there is none.
    """

    bins: NDArray[np.uint8]
    counts: NDArray[np.int64]
    table: NDArray[np.uint8] | None
    air: float | NDArray[np.float64]
    outside: int | None = None

    def above(self, thumbnail: Thumbnail, threshold: int) -> NDArray[np.bool_]:
        """Whether each stored value lies above a threshold, where the background is darkest."""
        table = log_bins(thumbnail.relative - np.min(self.air)) if self.table is None else self.table
        above: NDArray[np.bool_] = table > threshold
        return above


def linear_levels(thumbnail: Thumbnail) -> Levels:
    """Linear bins from the robust minimum to the robust maximum."""
    return _by_table(thumbnail, linear_bins(thumbnail.relative), _mode(thumbnail))


def levels_above_air(thumbnail: Thumbnail) -> Iterator[Levels]:
    """Logarithmic bins above the background, for each background that the image may have, the most frequent kind first.

    Yields
    ------
    levels : Levels
        Above one level of air; above grey air beside black collimation, if there may be some; above a curved surface, if air
        is uneven.
    """
    air, black = _mode(thumbnail), _black(thumbnail)
    yield _by_table(thumbnail, log_bins(thumbnail.relative - air), air, black)
    grey = None if black is None else _grey_air(thumbnail, black)
    if grey is not None and grey - air > MIN_UNEVENNESS:
        yield _by_table(thumbnail, log_bins(thumbnail.relative - grey), grey, black)
    plane = thumbnail.relative.take(thumbnail.stored)
    inside = np.ones(plane.shape, bool)
    for _ in range(1 if black is None else 2):
        surface = _surface(plane, inside, thumbnail.border)
        if surface is not None and surface.max() - surface.min() >= MIN_UNEVENNESS:
            yield _above_surface(thumbnail, plane, surface, black)
        inside = thumbnail.stored != black


def _above_surface(
    thumbnail: Thumbnail, plane: NDArray[np.float64], surface: NDArray[np.float64], black: int | None
) -> Levels:
    scaled = np.rint(np.clip(plane - surface, 0.0, 1.0) * (SURFACE_LEVELS - 1)).astype(np.uint16)
    bins = _surface_bins().take(scaled)
    border = thumbnail.border
    counts = np.bincount(bins[border:-border, border:-border].ravel(), minlength=BINS).astype(np.int64)
    return Levels(bins, counts, None, surface, _darker(thumbnail, black, float(surface.min())))


def is_negative(thumbnail: Thumbnail) -> bool:
    """Whether air is white: the most frequent value is bright, and the side opposite to the chest wall is the brighter one."""
    border = thumbnail.border
    inner = thumbnail.stored[border:-border, border:-border]
    width = max(round(STRIP * inner.shape[1]), 1)
    far, near = (float(np.median(thumbnail.relative.take(strip))) for strip in (inner[:, -width:], inner[:, :width]))
    return far > max(near, NEGATIVE_LEVEL) and _mode(thumbnail, below_mean=False) > NEGATIVE_LEVEL


@cache
def _surface_bins() -> NDArray[np.uint8]:
    return log_bins(np.arange(SURFACE_LEVELS) / (SURFACE_LEVELS - 1))


def _by_table(thumbnail: Thumbnail, table: NDArray[np.uint8], air: float, black: int | None = None) -> Levels:
    counts = np.bincount(table, thumbnail.counts, BINS).astype(np.int64)
    return Levels(table.take(thumbnail.stored), counts, table, air, _darker(thumbnail, black, air))


def _darker(thumbnail: Thumbnail, black: int | None, air: float) -> int | None:
    """Stored value `black` if it is darker than air, and not air itself."""
    return None if black is None or air - thumbnail.relative[black] < MIN_UNEVENNESS else black


def _black(thumbnail: Thumbnail) -> int | None:
    """Darkest stored value, if so much of the image has exactly this value that it may lie outside a collimator."""
    present = np.flatnonzero(thumbnail.counts)
    black = int(present[np.argmin(thumbnail.values[present])])
    return black if thumbnail.counts[black] >= COLLIMATION_AREA * thumbnail.counts.sum() else None


def _mode(thumbnail: Thumbnail, below_mean: bool = True) -> float:
    """Most frequent value: that of air, which is darker than the mean."""
    relative, counts = thumbnail.relative, thumbnail.counts
    mean = float((relative * counts).sum() / counts.sum()) if below_mean else 1.0
    coarse = np.minimum((relative * COARSE_BINS).astype(np.int64), COARSE_BINS - 1)
    coarse_counts = np.bincount(coarse, weights=counts, minlength=COARSE_BINS)
    return (int(np.argmax(coarse_counts[: int(mean * COARSE_BINS) + 1])) + 0.5) / COARSE_BINS


def _grey_air(thumbnail: Thumbnail, black: int) -> float | None:
    """Level of grey air beside black; None if there is none."""
    relative, counts = thumbnail.relative, thumbnail.counts
    above = np.where(thumbnail.values > thumbnail.values[black], counts, 0)
    coarse = np.bincount(np.minimum((relative * COARSE_BINS).astype(np.int64), COARSE_BINS - 1), above, COARSE_BINS)
    window = np.convolve(coarse, np.ones(5), "same")  # noise spreads the level over a few bins
    limit = round(GREY_AIR_LEVEL * COARSE_BINS)
    peak = int(np.argmax(window[:limit]))
    around = window[max(peak - 12, 0) : peak + 13]
    if window[peak] < GREY_AIR_AREA * counts.sum() or peak < 4 or 4 * min(around[0], around[-1]) > window[peak]:
        return None
    return (peak + 0.5) / COARSE_BINS


def _surface(plane: NDArray[np.float64], inside: NDArray[np.bool_], border: int) -> NDArray[np.float64] | None:
    """Quadratic surface under the darkest pixels of the blocks that lie inside, by asymmetric least squares; None without any.

    Tissue lies above the background: blocks above the surface count little, those below it in full.
    """
    rows, columns = plane.shape
    third = slice(border, -border, 3)
    (down, across), lows = _blocks(plane[third, third])
    down, across = (3 * down + border) / rows - 0.5, (3 * across + border) / columns - 0.5
    used = _blocks(inside[third, third].astype(np.float64))[1] > 0
    if np.count_nonzero(used) < MIN_BLOCKS:
        return None
    terms, lows = _quadratic(down, across)[used], lows[used]
    ridge = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * STIFFNESS
    weights = np.ones(len(lows))
    fit = np.zeros(6)
    for _ in range(ITERATIONS):
        weighted = terms * weights[:, None]
        fit = np.linalg.solve(weighted.T @ terms + ridge * weights.sum(), weighted.T @ lows)
        weights = np.where(lows - terms @ fit > TOLERANCE, ABOVE_WEIGHT, 1.0)
    fit = np.rint(fit * 1e6) / 1e6  # so that every processor agrees
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in (rows, columns))
    surface: NDArray[np.float64] = (fit[0] + fit[1] * y + fit[3] * y * y)[:, None] + (fit[2] * x + fit[4] * x * x)[None, :]
    return np.maximum(surface + fit[5] * y[:, None] * x[None, :], 0.0)


def _blocks(plane: NDArray[np.float64]) -> tuple[tuple[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]:
    """Centers of blocks in pixels, and a low percentile of each."""
    sizes = [max(n // count, 1) for n, count in zip(plane.shape, BLOCKS, strict=True)]
    counts = [n // size for n, size in zip(plane.shape, sizes, strict=True)]
    whole = plane[: counts[0] * sizes[0], : counts[1] * sizes[1]]
    blocks = whole.reshape(counts[0], sizes[0], counts[1], sizes[1]).transpose(0, 2, 1, 3).reshape(counts[0] * counts[1], -1)
    place = blocks.shape[1] * BLOCK_PERCENTILE // 100
    lows = np.partition(blocks, place, axis=1)[:, place]
    y, x = (size * (np.arange(count) + 0.5) for size, count in zip(sizes, counts, strict=True))
    return (np.repeat(y, counts[1]), np.tile(x, counts[0])), lows


def _quadratic(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[Any]:
    return np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], axis=1)
