"""Background of a mammogram: the level of air, its unevenness, and whether the image is a negative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation.threshold import log_bins
from fvpipe.imaging.segmentation.thumbnail import LEVELS, Thumbnail, level_counts

Plane = NDArray[np.float64]

COLLIMATION_AREA = 0.02  # of the image, of an exactly constant black at least
GREY_AIR_AREA = 0.05  # of the image, of grey air beside black collimation at least
GREY_AIR_LEVEL = 0.4  # of the range, at most
GREY_AIR_WIDTH = 12  # bins from its mode: on one side at least, a quarter as frequent as the mode at most
NEGATIVE_LEVEL = 0.6  # of the range: air of a negative is brighter
STRIP = 0.1  # of the columns: the strips at the chest wall and opposite to it; of the rows: their corners
CORNER_TOLERANCE = 0.1  # of the range, by which corners may be darker than air
BLOCK = 5  # rows and columns of the blocks of the coarse grid to which a surface is fitted
BLOCK_PERCENTILE = 10
TOLERANCE = 0.004  # of the range: blocks further above the surface are not air
ABOVE_WEIGHT = 1e-4  # of such blocks
STIFFNESS = 1e-4  # of the curvature, relative to the weight of all blocks
MIN_BLOCKS = 50  # to which a surface is fitted
ITERATIONS = 12
MIN_UNEVENNESS = 0.008  # of the range: a surface flatter than that is one level
QUANTA = 65536  # to which deviations are rounded, so that every processor agrees on their bins


@dataclass(frozen=True, slots=True)
class Background:
    """Background of a thumbnail."""

    level: float  # level of air, as a share of the range; that of the center for a surface
    fit: Plane | None = None  # (6,): coefficients of a quadratic surface; None for one level
    outside: int | None = None  # stored value outside a collimator, which is darker than air; None if there is none

    def deviation(self, thumbnail: Thumbnail, where: slice) -> Plane:
        """Brightness above the background, as a share of the range, at every row and column of a slice of the thumbnail."""
        brightness: Plane = thumbnail.relative.take(thumbnail.stored[where, where])
        return brightness - (self.level if self.fit is None else surface(self.fit, thumbnail.stored.shape, where))

    def on_grid(self, thumbnail: Thumbnail) -> CoarseGrid:
        """The coarse grid of a thumbnail, above this background."""
        where = thumbnail.coarse
        deviation = self.deviation(thumbnail, where)
        smooth = np.asarray(cv2.medianBlur(deviation.astype(np.float32), 5), np.float32)
        outside = None if self.outside is None else thumbnail.stored[where, where] == self.outside
        return CoarseGrid(self, deviation, smooth, outside)


@dataclass(frozen=True, slots=True)
class CoarseGrid:
    """The coarse grid of a thumbnail, above one of its backgrounds."""

    background: Background
    deviation: Plane  # (rows, columns): brightness above it, as a share of the range
    smooth: NDArray[np.float32]  # (rows, columns): the same without noise
    outside: NDArray[np.bool_] | None  # (rows, columns): True outside a collimator; None if there is none


def surface(fit: Plane, shape: tuple[int, ...], where: slice) -> Plane:
    """Level of a fitted surface at every row and column of a slice of a thumbnail of `shape`."""
    y, x = (_places(n)[where] for n in shape)
    levels: Plane = (fit[0] + fit[1] * y + fit[3] * y * y)[:, None] + (fit[2] * x + fit[4] * x * x)[None, :]
    levels += (fit[5] * y)[:, None] * x[None, :]
    return np.maximum(levels, 0.0, out=levels)


def deviation_bins(deviation: Plane) -> NDArray[np.uint8]:
    """Logarithmic bin, 0 to 255, of the brightness of each pixel above the background."""
    return log_bins(np.rint(np.clip(deviation, 0.0, 1.0) * (QUANTA - 1)) / (QUANTA - 1))


def backgrounds(thumbnail: Thumbnail) -> Iterator[Background]:
    """Backgrounds that the image may have, the most frequent kind first.

    Yields
    ------
    background : Background
        One level of air; grey air beside black collimation, if there may be some; surfaces, if air may be uneven.
    """
    air, black = mode(thumbnail), _black(thumbnail)
    yield Background(air, outside=_darker(thumbnail, black, air))
    grey = None if black is None else _grey_air(thumbnail, black)
    if grey is not None and grey - air > MIN_UNEVENNESS:
        yield Background(grey, outside=black)
    where = thumbnail.coarse
    stored = thumbnail.stored[where, where]
    inside = np.ones(stored.shape, bool)
    for _ in range(1 if black is None else 2):
        fit = _fit_surface(thumbnail, inside)
        if fit is not None:
            levels = surface(fit, thumbnail.stored.shape, where)
            if levels.max() - levels.min() >= MIN_UNEVENNESS:
                yield Background(float(fit[0]), fit, _darker(thumbnail, black, float(levels.min())))
        # Smoothing mixes air beside black with it, and what lies below the surface counts in full.
        inside = cv2.erode((stored != black).view(np.uint8), np.ones((3, 3), np.uint8)) > 0


def is_negative(thumbnail: Thumbnail) -> bool:
    """Whether air is white: the most frequent value is bright, and so is one side of the image, brighter than the other.

    If that is the side of the chest wall, the breast lies on the opposite edge; then both corners must be as bright as air.
    """
    air = mode(thumbnail, below_mean=False)
    if air <= NEGATIVE_LEVEL:
        return False
    plane = thumbnail.relative.take(thumbnail.stored[thumbnail.coarse, thumbnail.coarse])
    height, width = (max(round(STRIP * n), 1) for n in plane.shape)
    near, far = (float(np.median(strip)) for strip in (plane[:, :width], plane[:, -width:]))
    if far > max(near, NEGATIVE_LEVEL):
        return True
    corners = min(float(np.median(corner)) for corner in (plane[:height, :width], plane[-height:, :width]))
    return near > far and corners > max(NEGATIVE_LEVEL, air - CORNER_TOLERANCE)


def mode(thumbnail: Thumbnail, below_mean: bool = True) -> float:
    """Most frequent level as a share of the range; that of air is darker than the mean."""
    counts = thumbnail.counts
    mean = float((thumbnail.relative * counts).sum() / counts.sum()) if below_mean else 1.0
    return (int(np.argmax(thumbnail.levels[: int(mean * LEVELS) + 1])) + 0.5) / LEVELS


def _black(thumbnail: Thumbnail) -> int | None:
    """Darkest stored value, if so much of the image has exactly this value that it may lie outside a collimator."""
    present = np.flatnonzero(thumbnail.counts)
    black = int(present[np.argmin(thumbnail.values[present])])
    return black if thumbnail.counts[black] >= COLLIMATION_AREA * thumbnail.counts.sum() else None


def _darker(thumbnail: Thumbnail, black: int | None, air: float) -> int | None:
    """Stored value `black` if it is darker than air, and not air itself."""
    return None if black is None or air - thumbnail.relative[black] < MIN_UNEVENNESS else black


def _grey_air(thumbnail: Thumbnail, black: int) -> float | None:
    """Level of grey air beside black; None if there is none."""
    relative, counts = thumbnail.relative, thumbnail.counts
    above = np.where(thumbnail.values > thumbnail.values[black], counts, 0)
    window = np.convolve(level_counts(relative, above), np.ones(5), "same")  # noise spreads the level over a few bins
    peak = int(np.argmax(window[: round(GREY_AIR_LEVEL * LEVELS)]))
    beside = min(window[max(peak - GREY_AIR_WIDTH, 0)], window[peak + GREY_AIR_WIDTH])
    if window[peak] < GREY_AIR_AREA * counts.sum() or peak < 4 or 4 * beside > window[peak]:
        return None
    return (peak + 0.5) / LEVELS


def _fit_surface(thumbnail: Thumbnail, inside: NDArray[np.bool_]) -> Plane | None:
    """Quadratic surface under the darkest pixels of the blocks that lie inside, by asymmetric least squares; None without any.

    Tissue lies above the background: blocks above the surface count little, those below it in full.
    """
    where = thumbnail.coarse
    plane = thumbnail.relative.take(thumbnail.stored[where, where])
    y, x = (_places(n)[where][BLOCK // 2 :: BLOCK] for n in thumbnail.stored.shape)
    lows = _blocks(plane)
    used = (_blocks(inside) > 0).ravel()
    if np.count_nonzero(used) < MIN_BLOCKS:
        return None
    y, x = np.repeat(y[: lows.shape[0]], lows.shape[1])[used], np.tile(x[: lows.shape[1]], lows.shape[0])[used]
    terms, lows = np.stack([np.ones_like(y), y, x, y * y, x * x, y * x], axis=1), lows.ravel()[used]
    ridge = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * STIFFNESS
    weights = np.ones(len(lows))
    fit = np.zeros(6)
    for _ in range(ITERATIONS):
        weighted = terms * weights[:, None]
        fit = np.linalg.solve(weighted.T @ terms + ridge * weights.sum(), weighted.T @ lows)
        fit = np.rint(fit * 1e6) / 1e6  # so that every processor agrees
        weights = np.where(lows - terms @ fit > TOLERANCE, ABOVE_WEIGHT, 1.0)
    return fit


def _places(length: int) -> Plane:
    """Places of the rows or columns of a thumbnail, from -0.5 to 0.5."""
    return (np.arange(length) + 0.5) / length - 0.5


def _blocks(plane: NDArray[Any]) -> NDArray[Any]:
    """A low percentile of each block."""
    rows, columns = (n // BLOCK for n in plane.shape)
    blocks = plane[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).transpose(0, 2, 1, 3)
    place = BLOCK * BLOCK * BLOCK_PERCENTILE // 100
    return np.partition(blocks.reshape(rows, columns, BLOCK * BLOCK), place, axis=2)[:, :, place]
