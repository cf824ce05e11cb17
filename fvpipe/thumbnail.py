"""The small picture on which a breast is found, and what its values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.indices import histogram, index_range, looked_up, real_ends
from fvpipe.types import Picture

Mask = NDArray[np.uint8]
Indices = NDArray[Any]  # uint8 or uint16

THUMBNAIL = 512  # pixels of the longer side at most
BLANKED = 0.015  # share of the longer side that is kept out of the threshold on every edge: film borders, frame lines
ROBUST = (0.001, 0.999)


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture of indices, and for each index its place between robust minimum (0) and maximum (1).

    Attributes
    ----------
    picture : Picture
        Of which it is.
    background : int or None
        The index that stands for padding, here and in every window of the picture; None where there is no padding.
    indices : uint8 or uint16, (rows, columns)
    step : int
        Stored pixels a thumbnail pixel.
    counts : int64, (number of indices,)
        Pixels by index, without those of the blanked border.
    relative : float64, (number of indices,)
    """

    picture: Picture
    background: int | None
    indices: NDArray[Any]
    step: int
    counts: NDArray[np.int64]
    relative: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """What each index means."""
        return self.picture.values

    def window(self, where: tuple[slice, slice]) -> Indices:
        """A part of the picture at full size, contiguous."""
        return _without_padding(self.picture, self.picture.stored[where], self.background)

    @property
    def border(self) -> int:
        """Pixels on each edge that are blanked."""
        return border_of(self.indices.shape)


def border_of(shape: tuple[int, ...]) -> int:
    """Pixels on each edge of a thumbnail that are blanked."""
    return max(1, round(BLANKED * float(max(shape))))


def thumbnail_of(picture: Picture) -> Thumbnail | None:
    """Make the small picture; None for a picture of one value."""
    rows, columns = picture.shape
    step = max(1, round(-(-max(picture.source_shape) // THUMBNAIL) / picture.scale))
    height, width = rows // step, columns // step
    # The middle row of each thumbnail row, all columns of it: their mean, smoothed, is quiet enough, at a fraction of the cost.
    sampled = picture.stored[step // 2 :: step][:height, : width * step]
    background = None
    if picture.padding is not None:
        background = _background(picture, sampled)
        if background is None:
            return None
        sampled = _without_padding(picture, sampled, background)
    small: Indices = cv2.resize(sampled, (width, height), interpolation=cv2.INTER_AREA) if step > 1 else sampled
    small = cv2.blur(small, (3, 3))
    border = border_of(
        small.shape
    )  # a film's white border would move the range, and with it a faint nipple below the threshold
    counts = histogram(small[border:-border, border:-border], len(picture.values))
    order = (
        np.argsort(picture.values, kind="stable") if picture.direction == 0 else np.arange(len(counts))[:: picture.direction]
    )
    reached = np.cumsum(counts[order])
    low, high = (picture.values[order[np.searchsorted(reached, share * reached[-1])]] for share in ROBUST)
    if not high > low:
        present = picture.values[counts > 0]
        low, high = present.min(), present.max()
    if not high > low:
        return None
    relative = np.clip((picture.values - low) / (high - low), 0.0, 1.0)
    return Thumbnail(picture, background, small, step, counts, relative)


def _background(picture: Picture, sampled: NDArray[Any]) -> int | None:
    """The index of the lowest real value, which padding takes; None where there is nothing but padding."""
    ends = real_ends(sampled, picture.padding) if picture.direction else None
    if ends is not None:
        return ends[0] if picture.direction > 0 else ends[1]
    counts = histogram(sampled, len(picture.values))
    real = np.flatnonzero((counts > 0) & ~picture.padding) if picture.padding is not None else np.flatnonzero(counts)
    return int(real[np.argmin(picture.values[real])]) if len(real) else None


def _without_padding(picture: Picture, indices: Indices, background: int | None) -> Indices:
    """`indices` with padding put at the background."""
    if picture.padding is None or background is None:
        return np.ascontiguousarray(indices)
    low, high = index_range(indices)
    if not picture.padding[low : high + 1].any():
        return np.ascontiguousarray(indices)
    # Padding that is darker than all else needs no table.
    if picture.direction > 0 and not picture.padding[background : high + 1].any():
        return np.asarray(cv2.max(indices, float(background)))  # type: ignore[call-overload]  # the stubs know no number here
    if picture.direction < 0 and not picture.padding[low : background + 1].any():
        return np.asarray(cv2.min(indices, float(background)))  # type: ignore[call-overload]
    table = np.where(picture.padding, background, np.arange(len(picture.padding))).astype(indices.dtype)
    return looked_up(table, indices)
