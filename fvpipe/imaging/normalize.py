"""Crops of both views, and the normalization of their values to [0, 1]."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Intensity, Pipeline
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram, quantiles, run_mask, stored_range
from fvpipe.imaging.segmentation.segment import Segmentation, full_mask
from fvpipe.imaging.segmentation.thumbnail import Mask, dilate_padding
from fvpipe.reasons import Flag
from fvpipe.types import Edge

RIM_SHARE = 0.1  # width of the rim that `intensity.region: breast` leaves out, as a share of the square root of the area


@dataclass(frozen=True, slots=True)
class Crop:
    """Stored values under a crop box."""

    image: DecodedImage  # that was cropped
    stored: NDArray[Any]  # uint8 or uint16, (rows, columns): view of the image's, mirrored if `mirrored`
    outside: NDArray[np.bool_] | None  # (rows, columns): True outside the outline, if the pipeline masks it
    # (rows, columns): True for pixels that do not count for the intensity range, if it is that of the breast
    beyond: NDArray[np.bool_] | None
    mirrored: bool  # whether left and right are exchanged
    shape: tuple[int, int]  # rows and columns of the crop box in source pixels
    # Stored pixels between the top and left edge of `stored` and those of the crop box, less than 1
    offset: tuple[float, float]
    wall: Edge = Edge.LEFT  # edge of the image, not mirrored, on which the chest wall was found

    def real_pixels(self) -> tuple[NDArray[Any], Mask | None]:
        """Stored values and the mask of those that give the intensity range, not mirrored; None if all do."""
        order = slice(None, None, -1 if self.mirrored else 1)  # OpenCV cannot read mirrored arrays
        stored, padding = self.stored[:, order], self.image.padding
        left_out = self.outside if self.beyond is None else self.beyond
        excluded = None if left_out is None else left_out[:, order].view(np.uint8)
        if padding is not None:
            padded = dilate_padding(stored, padding) if self.image.scale > 1 else run_mask(stored, padding)
            excluded = padded if excluded is None else padded | excluded
        return stored, None if excluded is None else np.asarray(cv2.compare(excluded, 0.0, cv2.CMP_EQ), np.uint8)  # type: ignore[call-overload]  # takes numbers too


def crop_image(image: DecodedImage, segmentation: Segmentation, pipeline: Pipeline) -> Crop:
    """Cut the crop box out of an image, without copying pixels.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    segmentation : Segmentation
        Its crop box and, if the pipeline masks the outside, its mask.
    pipeline : Pipeline
        Whether to mask the outside, and to mirror right breasts.
    """
    box = segmentation.box
    rows, above = _stored_slice(box.top, box.bottom, image.scale, image.shape[0])
    columns, before = _stored_slice(box.left, box.right, image.scale, image.shape[1])
    stored = image.stored[rows, columns]
    outside = beyond = None
    if pipeline.segment.mask_outside and segmentation.mask is not None:
        outside = full_mask(segmentation, *image.shape, image.scale)[rows, columns] == 0
    if pipeline.intensity.region == "breast" and segmentation.mask is not None:
        interior = replace(segmentation, mask=_interior(segmentation.mask))
        beyond = full_mask(interior, *image.shape, image.scale)[rows, columns] == 0
    conflict = Flag.CHEST_WALL_CONFLICT in segmentation.flags
    wall = image.chest_wall.opposite if conflict else image.chest_wall
    mirrored = pipeline.fuse.canonical_side == "left" and wall is Edge.RIGHT
    if mirrored:
        stored = stored[:, ::-1]
        outside, beyond = (None if mask is None else mask[:, ::-1] for mask in (outside, beyond))
        before = stored.shape[1] - box.width / image.scale - before
    return Crop(image, stored, outside, beyond, mirrored, (box.height, box.width), (above, before), wall)


def _interior(mask: Mask) -> Mask:
    """Erode an outline, but not from the edge of the image: the skin and the thin rim below it are darker than all tissue."""
    radius = max(1, round(RIM_SHARE * math.sqrt(cv2.countNonZero(mask))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    eroded: Mask = np.asarray(cv2.erode(mask, kernel), np.uint8)
    return eroded if cv2.countNonZero(eroded) else mask


def _stored_slice(start: int, stop: int, scale: int, length: int) -> tuple[slice, float]:
    """Slice of the stored pixels that cover source pixels `start` to `stop`, and the offset of `start` in it."""
    first, last = (2 * start - 1 + scale) // (2 * scale), -((1 - scale - 2 * stop) // (2 * scale))
    return slice(first, min(last, length)), (start - 0.5) / scale + 0.5 - first


def normalization(crops: list[Crop], intensity: Intensity) -> tuple[list[NDArray[np.float64]], list[tuple[float, float]]]:
    """Compute the tables that normalize the crops of a sample.

    Parameters
    ----------
    crops : list of Crop
        Crops of the views in the image.
    intensity : Intensity
        Method and percentiles.

    Returns
    -------
    tables : list of float64 array, shape (number of stored values,)
        Normalized value of each stored value in [0, 1], one table per crop.
    ranges : list of (float, float)
        Values that became 0 and 1: one pair, or one per crop if each is normalized by itself.
    """
    groups = [[crop] for crop in crops] if intensity.per_view else [crops]
    tables, ranges = [], []
    for group in groups:
        median = math.nan if intensity.median is None else _percentiles(group, (50.0,))[0]
        if intensity.method.startswith("percentiles"):
            low, high = _percentiles(group, intensity.percentiles)
        else:
            extremes = [extreme for extreme in map(_extremes, group) if extreme]
            low = min((e[0] for e in extremes), default=0.0)
            high = max((e[1] for e in extremes), default=0.0)
        ranges.append((low, high))
        for crop in group:
            span = high - low
            table = np.clip((crop.image.values - low) / span, 0.0, 1.0) if span > 0 else np.zeros_like(crop.image.values)
            if intensity.median is not None and low < median < high:
                table = _move_median(table, (median - low) / span, intensity.median)
            if crop.image.padding is not None:
                table[crop.image.padding] = 0.0  # padding takes the minimum over real pixels
            tables.append(table)
    return tables, ranges


def is_constant(image: DecodedImage) -> bool:
    """Whether all pixels of an image that are not padding have one value, or there are none."""
    # A few pixels nearly always suffice; at reduced resolution, those beside padding could not be distinguished from it.
    for step in (max(min(image.shape) // 64, 1), 1) if image.scale == 1 else (1,):
        stored = np.ascontiguousarray(image.stored[::step, ::step])
        extremes = _extremes(Crop(image, stored, None, None, False, image.source_shape, (0, 0)))
        if extremes is not None and extremes[0] < extremes[1]:
            return False
    return True


def _extremes(crop: Crop) -> tuple[float, float] | None:
    """Minimum and maximum value over real pixels; None if there are none."""
    stored, mask = crop.real_pixels()
    if mask is not None and not cv2.countNonZero(mask):
        return None
    if crop.image.direction:  # the extreme stored values have the extreme values
        values = crop.image.values[list(stored_range(stored, mask))]
    else:
        values = crop.image.values[histogram(stored, len(crop.image.values), mask) > 0]
    return float(values.min()), float(values.max())


def _move_median(table: NDArray[np.float64], median: float, target: float) -> NDArray[np.float64]:
    """Bend normalized values so that the median becomes the target; 0 and 1 stay."""
    # A quotient and no power: every processor computes it alike.
    bend = median * (1 - target) / (target * (1 - median))
    return table / (table + bend * (1 - table))


def _percentiles(crops: list[Crop], percentiles: tuple[float, ...]) -> list[float]:
    """Values at percentiles of all real pixels of all crops (the lower of two neighbors)."""
    values = np.concatenate([crop.image.values for crop in crops])
    counts = np.concatenate(
        [histogram(stored, len(crop.image.values), mask) for crop in crops for stored, mask in [crop.real_pixels()]]
    )
    if not counts.any():
        return [0.0] * len(percentiles)
    return quantiles(values, counts, [percentile / 100 for percentile in percentiles])


def range_array(ranges: list[tuple[float, float]], views: list[int], intensity: Intensity) -> NDArray[np.float32]:
    """Array of normalization ranges: shape (2,), or (2, 2) with NaN for absent views if each is normalized by itself."""
    if not intensity.per_view:
        return np.array(ranges[0], np.float32)
    per_view = np.full((2, 2), np.nan, np.float32)
    per_view[views] = ranges
    return per_view
