"""The small image on which a breast is found, and what its values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.histogram import histogram, looked_up, range_without_padding, stored_range
from fvpipe.types import DecodedImage

Mask = NDArray[np.uint8]
Indices = NDArray[Any]  # uint8 or uint16

THUMBNAIL = 512  # pixels of the longer side at most; up to a quarter more of an image that was not decoded whole
BLANKED = 0.015  # share of the longer side that is kept out of the threshold on every edge: film borders, frame lines
ROBUST = (0.001, 0.999)
AIR = (0.03, 0.05)  # so near to the lowest value, as a share of the range, lie so many of the real pixels, where there is air


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small image of indices, and for each index its place between robust minimum (0) and maximum (1).

    Attributes
    ----------
    image : Image
        Of which it is.
    background : int or None
        The index that stands for padding, here and in every window of the image; None where there is no padding.
    indices : uint8 or uint16, (rows, columns)
    step : int
        Stored pixels a thumbnail pixel.
    counts : int64, (number of indices,)
        Pixels by index, without those of the blanked border.
    relative : float64, (number of indices,)
    """

    image: DecodedImage
    background: int | None
    indices: NDArray[Any]
    step: int
    counts: NDArray[np.int64]
    relative: NDArray[np.float64]

    @property
    def values(self) -> NDArray[np.float64]:
        """What each index means."""
        return self.image.values

    def window(self, where: tuple[slice, slice]) -> Indices:
        """A part of the image at full size, contiguous."""
        return _without_padding(self.image, self.image.stored[where], self.background)

    @property
    def border(self) -> int:
        """Pixels on each edge that are blanked."""
        return border_of(self.indices.shape)


def border_of(shape: tuple[int, ...]) -> int:
    """Pixels on each edge of a thumbnail that are blanked."""
    return max(1, round(BLANKED * float(max(shape))))


def _step(image: DecodedImage) -> int:
    return max(1, round(-(-max(image.source_shape) // THUMBNAIL) / image.scale))


def has_room(image: DecodedImage) -> bool:
    """Whether anything of the small image is left between its borders; not of an image that is far longer than wide."""
    small = tuple(side // _step(image) for side in image.shape)
    return min(small) > 2 * border_of(small)


def thumbnail_of(image: DecodedImage) -> Thumbnail | None:
    """Make the small image of one that has room; None for an image of one value."""
    rows, columns = image.shape
    step = _step(image)
    height, width = rows // step, columns // step
    border = border_of((height, width))
    # The middle row of each thumbnail row, all columns of it: their mean, smoothed, is quiet enough, at a fraction of the cost.
    sampled = image.stored[step // 2 :: step][:height, : width * step]
    background = None
    if image.padding is not None:
        background = _background(image, sampled)
        if background is None:
            return None
        sampled = _without_padding(image, sampled, background)
    small: Indices = cv2.blur(column_means(sampled, step), (3, 3))
    # A film's white border would move the range, and with it a faint nipple below the threshold.
    counts = histogram(small[border:-border, border:-border], len(image.values))
    order = np.argsort(image.values, kind="stable") if image.direction == 0 else np.arange(len(counts))[:: image.direction]
    reached = np.cumsum(counts[order])
    low, high = (image.values[order[np.searchsorted(reached, share * reached[-1])]] for share in ROBUST)
    if not high > low:
        present = image.values[counts > 0]
        low, high = present.min(), present.max()
    if not high > low:
        return None
    relative = np.clip((image.values - low) / (high - low), 0.0, 1.0)
    return Thumbnail(image, background, small, step, counts, relative)


def column_means(indices: Indices, step: int) -> Indices:
    """The rounded mean of each `step` columns."""
    if step == 1:
        return indices
    if step % 2 and indices.dtype == np.uint8:  # the same in a third of the time
        return np.ascontiguousarray(cv2.blur(indices, (step, 1), anchor=(0, 0))[:, ::step])
    return cv2.resize(indices, (indices.shape[1] // step, indices.shape[0]), interpolation=cv2.INTER_AREA)


def _background(image: DecodedImage, sampled: NDArray[Any]) -> int | None:
    """The index of the lowest real value, which padding takes; None where there is nothing but padding."""
    assert image.padding is not None
    ends = range_without_padding(sampled, image.padding) if image.direction else None
    if ends is not None:
        lowest = ends[0] if image.direction > 0 else ends[1]
    else:
        counts = histogram(sampled, len(image.values))
        real = np.flatnonzero((counts > 0) & ~image.padding)
        if not len(real):
            return None
        lowest = int(real[np.argmin(image.values[real])])
    air = _air(image) if image.scale > 1 else None
    return lowest if air is None else air


def _air(image: DecodedImage) -> int | None:
    """The index of air that is brighter than padding, in an image that was not decoded whole; None where padding is the air.

    What is partly padding there would be the lowest real value, and air beside padding would be taken for the breast.
    """
    assert image.padding is not None
    clear = ~beside_padding(image.stored, image.padding, 2)
    counts = histogram(image.stored, len(image.values), clear.view(np.uint8))
    real = np.flatnonzero((counts > 0) & ~image.padding)
    if not len(real):
        return None
    rising = real[np.argsort(image.values[real], kind="stable")]
    reached, values = np.cumsum(counts[rising]), image.values[rising]
    first = int(np.searchsorted(reached, ROBUST[0] * reached[-1]))
    near = values <= values[first] + AIR[0] * (values[-1] - values[first])
    return int(rising[first]) if counts[rising][near].sum() >= AIR[1] * reached[-1] else None


def beside_padding(indices: Indices, padding: NDArray[np.bool_], reach: int = 1) -> NDArray[np.bool_]:
    """Padding, and what lies so near to it in an image of reduced resolution that it is partly padding; padding alone where
    that would be everything.
    """
    padded = padding[indices]
    touched: NDArray[np.bool_] = cv2.dilate(padded.view(np.uint8), np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)).view(
        np.bool_
    )
    return padded if touched.all() else touched


def _without_padding(image: DecodedImage, indices: Indices, background: int | None) -> Indices:
    """`indices` with padding put at the background."""
    if image.padding is None or background is None:
        return np.ascontiguousarray(indices)
    low, high = stored_range(indices)
    if not image.padding[low : high + 1].any():
        return np.ascontiguousarray(indices)
    # Padding that is darker than all else needs no table.
    if image.direction > 0 and not image.padding[background : high + 1].any():
        return np.asarray(cv2.max(indices, float(background)))  # type: ignore[call-overload]  # the stubs know no number here
    if image.direction < 0 and not image.padding[low : background + 1].any():
        return np.asarray(cv2.min(indices, float(background)))  # type: ignore[call-overload]
    table = np.where(image.padding, background, np.arange(len(image.padding))).astype(indices.dtype)
    return looked_up(table, indices)
