"""Thumbnail on which the breast is segmented, with the value range of its stored values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram, quantiles, run_mask
from fvpipe.types import Edge

Mask = NDArray[np.uint8]
"""Binary image: 255 inside, 0 outside."""

THUMBNAIL_SIDE = 512  # pixels of the longer side at most; up to a quarter more if decoded at reduced resolution
BORDER_SHARE = 0.015  # of the longer side, excluded from the threshold on each edge: film borders, frame lines
COARSE_SIDE = 128  # pixels of the longer side, nearly, of the coarse grid on which background and threshold are chosen
MAX_MARGIN = 0.25  # of the columns, between the edge of the image and the chest wall
LEVELS = 512  # of the range, in which the mode of the background is looked for
ROBUST_RANGE = (0.001, 0.999)  # quantiles that become 0 and 1
AIR_RANGE, AIR_PIXELS = 0.03, 0.05  # there is air if so large a share of pixels lies within so small a share of the range


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """Small image of stored values, and the place of each stored value in a robust range."""

    image: DecodedImage  # from which it was made
    # Stored value that replaces padding, in the thumbnail and in every window; None if there is no padding
    background: int | None
    mirrored: bool  # whether `stored` is mirrored, so that the chest wall is expected on its left
    stored: NDArray[Any]  # uint8 or uint16, (rows, columns): smoothed, the chest wall on the left, without the margin
    margin: int  # columns of one value at the chest wall, which are not part of the image
    step: int  # stored pixels per thumbnail pixel
    counts: NDArray[np.int64]  # (number of stored values,): histogram of `stored` without the border
    # (number of stored values,): value of each stored value, scaled to 0 at the robust minimum and 1 at the robust maximum, and
    # clipped
    relative: NDArray[np.float64]
    levels: NDArray[np.float64]  # (LEVELS,): number of the pixels in `counts` at each of LEVELS equal steps of the range

    @property
    def values(self) -> NDArray[np.float64]:
        """Value table of the image."""
        return self.image.values

    def window(self, where: tuple[slice, slice]) -> NDArray[Any]:
        """Part of the image at full size, contiguous, with padding replaced by the background."""
        return _replace_padding(self.image, self.image.stored[where], self.background)

    @property
    def border(self) -> int:
        """Width in pixels of the border that is excluded from the threshold."""
        return border_width(self.stored.shape)

    @property
    def coarse(self) -> slice:
        """Rows, or columns, of the coarse grid, without the border."""
        return slice(self.border, -self.border, max(round(max(self.stored.shape) / COARSE_SIDE), 1))

    def upright(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Plane of the thumbnail's size as the whole image lies, with the margin, in which it is 0."""
        whole = np.pad(plane, ((0, 0), (self.margin, 0))) if self.margin else plane
        return np.ascontiguousarray(whole[:, ::-1]) if self.mirrored else whole


def border_width(shape: tuple[int, ...]) -> int:
    """Width in pixels of the excluded border of a thumbnail of `shape`."""
    return max(1, round(BORDER_SHARE * float(max(shape))))


def _step(image: DecodedImage) -> int:
    return max(1, round(-(-max(image.source_shape) // THUMBNAIL_SIDE) / image.scale))


def has_interior(image: DecodedImage) -> bool:
    """Whether the thumbnail of an image is larger than its borders, which a very elongated one is not."""
    small = tuple(side // _step(image) for side in image.shape)
    return min(small) > 2 * border_width(small)


def make_thumbnail(image: DecodedImage, chest_wall: Edge) -> Thumbnail | None:
    """Make the thumbnail of an image that has an interior; None if all its pixels are equal.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    chest_wall : Edge
        Edge of the image that becomes the left one.
    """
    rows, columns = image.shape
    step = _step(image)
    height, width = rows // step, columns // step
    # The middle row of each thumbnail row, averaged over columns and smoothed, is smooth enough at a fraction of the cost.
    sampled = image.stored[step // 2 :: step][:height, : width * step]
    background = None
    if image.padding is not None:
        background = _background(image, sampled, image.padding)
        if background is None:
            return None
        sampled = _replace_padding(image, sampled, background)
    small: NDArray[Any] = cv2.blur(column_means(sampled, step), (3, 3))
    mirrored = chest_wall is Edge.RIGHT
    if mirrored:
        small = small[:, ::-1]
    margin = _margin(image, small)
    small = np.ascontiguousarray(small[:, margin:])
    border = border_width(small.shape)
    # With the border, white film edges would shift the range and push a faint nipple below the threshold.
    counts = histogram(small[border:-border, border:-border], len(image.values))
    low, high = quantiles(image.values, counts, ROBUST_RANGE)
    if not high > low:
        present = image.values[counts > 0]
        low, high = float(present.min()), float(present.max())
    if not high > low:
        return None
    relative = np.clip((image.values - low) / (high - low), 0.0, 1.0)
    return Thumbnail(image, background, mirrored, small, margin, step, counts, relative, level_counts(relative, counts))


def level_counts(relative: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Pixels of each level, from those of each stored value."""
    return np.asarray(np.bincount(np.minimum((relative * LEVELS).astype(np.int64), LEVELS - 1), counts, LEVELS), np.float64)


def _margin(image: DecodedImage, small: NDArray[Any]) -> int:
    """Columns of one value at the left edge, as beside a scanned film; 0 if they are too many, or a film's white edge."""
    columns = small.shape[1]
    widest = max(min(int(MAX_MARGIN * columns), columns - 2 * border_width(small.shape) - 1), 1)  # an interior must be left
    differs = (small[:, :widest] != small[0, 0]).any(axis=0)
    margin = int(np.argmax(differs)) + 1  # smoothing mixes one more column with them
    if not differs.any() or margin == 1:
        return 0
    white = image.values[small[0, 0]] >= np.median(image.values[small[:, margin]])
    return 0 if white and margin <= border_width(small.shape) else margin


def column_means(stored: NDArray[Any], step: int) -> NDArray[Any]:
    """Rounded means of each `step` columns; shape (rows, columns // step)."""
    return cv2.resize(stored, (stored.shape[1] // step, stored.shape[0]), interpolation=cv2.INTER_AREA)


def _background(image: DecodedImage, sampled: NDArray[Any], padding: NDArray[np.bool_]) -> int | None:
    """Stored value that replaces padding: the darkest real one, or that of air; None if everything is padding."""
    counts = histogram(sampled, len(image.values))
    real = np.flatnonzero((counts > 0) & ~padding)
    if not len(real):
        return None
    darkest = int(real[np.argmin(image.values[real])])
    air = _air(image, padding) if image.scale > 1 else None
    return darkest if air is None else air


def _air(image: DecodedImage, padding: NDArray[np.bool_]) -> int | None:
    """Stored value of air that is brighter than padding, at reduced resolution; None if padding is the only background.

    At reduced resolution the darkest real pixels are partly padding. Relative to them, the air next to padding would be
    segmented as breast.
    """
    clear = ~dilate_padding(image.stored, padding, 2)
    counts = histogram(image.stored, len(image.values), clear)
    real = np.flatnonzero((counts > 0) & ~padding)
    if not len(real):
        return None
    order = real[np.argsort(image.values[real], kind="stable")]
    cumulative, values = np.cumsum(counts[order]), image.values[order]
    first = int(np.searchsorted(cumulative, ROBUST_RANGE[0] * cumulative[-1]))
    near = values <= values[first] + AIR_RANGE * (values[-1] - values[first])
    dark = order[near]
    return int(dark[np.argmax(counts[dark])]) if counts[dark].sum() >= AIR_PIXELS * cumulative[-1] else None


def dilate_padding(stored: NDArray[Any], padding: NDArray[np.bool_], radius: int = 1) -> Mask:
    """Mask of padding and of the pixels around it, which at reduced resolution are partly padding.

    Parameters
    ----------
    stored : uint8 or uint16 array, shape (rows, columns)
        Stored values at reduced resolution.
    padding : bool array, shape (number of stored values,)
        True for padding.
    radius : int
        Pixels by which the padding is dilated.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        255 for padding and pixels around it; for padding alone if the dilation would cover everything.
    """
    mask = run_mask(stored, padding)
    dilated = np.asarray(cv2.dilate(mask, np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)), np.uint8)
    return mask if dilated.all() else dilated


def _replace_padding(image: DecodedImage, stored: NDArray[Any], background: int | None) -> NDArray[Any]:
    """Contiguous copy of `stored` with padding replaced by the stored value `background`."""
    if image.padding is None or background is None:
        return np.ascontiguousarray(stored)
    table = np.where(image.padding, background, np.arange(len(image.padding))).astype(stored.dtype)
    return table.take(stored)
