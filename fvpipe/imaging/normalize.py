"""Intensities: the range of the crops that becomes 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Intensity, Pipeline
from fvpipe.imaging.histogram import histogram, range_without_padding
from fvpipe.imaging.segmentation import full_mask
from fvpipe.imaging.thumbnail import beside_padding
from fvpipe.reasons import Flag
from fvpipe.types import DecodedImage, Edge, Segmentation

Values = NDArray[np.float64]


# --- crops and their values -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Crop:
    """The stored pixels under a box.

    `shape` is the box's, in source pixels; `before` is how many stored pixels, in parts, lie before its top and left edge.
    """

    image: DecodedImage
    indices: NDArray[Any]
    outside: NDArray[np.bool_] | None  # True where mask_outside puts the background
    mirrored: bool
    shape: tuple[int, int]
    before: tuple[float, float]


def crop(image: DecodedImage, segmentation: Segmentation, pipeline: Pipeline) -> Crop:
    """Cut the segmentation's box out of an image, without copying its pixels."""
    box = segmentation.box
    rows, above = _stored(box.top, box.bottom, image.scale, image.shape[0])
    columns, before = _stored(box.left, box.right, image.scale, image.shape[1])
    indices = image.stored[rows, columns]
    outside = None
    if pipeline.segment.mask_outside and segmentation.mask is not None:
        outside = full_mask(segmentation, *image.shape, image.scale)[rows, columns] == 0
    conflict = Flag.CHEST_WALL_CONFLICT in segmentation.flags
    mirrored = pipeline.fuse.canonical_side == "left" and (image.chest_wall is Edge.RIGHT) != conflict
    if mirrored:
        indices, outside = indices[:, ::-1], None if outside is None else outside[:, ::-1]
        before = indices.shape[1] - box.width / image.scale - before
    return Crop(image, indices, outside, mirrored, (box.height, box.width), (above, before))


def _stored(start: int, stop: int, scale: int, length: int) -> tuple[slice, float]:
    """The stored pixels that cover source pixels `start` to `stop`, and how many of them lie before `start`."""
    first, last = (2 * start - 1 + scale) // (2 * scale), -((1 - scale - 2 * stop) // (2 * scale))
    return slice(first, min(last, length)), (start - 0.5) / scale + 0.5 - first


def normalization(crops: list[Crop], intensity: Intensity) -> tuple[list[Values], list[tuple[float, float]]]:
    """For each crop the table from index to [0, 1], and the (low, high) that became 0 and 1 (one, or one a view)."""
    groups = [[crop] for crop in crops] if intensity.per_view else [crops]
    tables, ranges = [], []
    for group in groups:
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
            if crop.image.padding is not None:
                table[crop.image.padding] = 0.0  # padding takes the minimum over real pixels
            tables.append(table)
    return tables, ranges


def _extremes(crop: Crop) -> tuple[float, float] | None:
    """Minimum and maximum value over real pixels; None where there is none."""
    image = crop.image
    forwards = crop.indices[:, ::-1] if crop.mirrored else crop.indices
    plain = crop.outside is None and image.direction and (image.scale == 1 or image.padding is None)
    ends = range_without_padding(forwards, image.padding) if plain else None
    values = image.values[_counts(crop) > 0] if ends is None else image.values[list(ends)]
    return (float(values.min()), float(values.max())) if len(values) else None


def _counts(crop: Crop) -> NDArray[np.int64]:
    """How often each index occurs among real pixels."""
    indices, outside = crop.indices, crop.outside
    if crop.mirrored:  # OpenCV reads no image backwards
        indices, outside = indices[:, ::-1], None if outside is None else outside[:, ::-1]
    if crop.image.scale > 1 and crop.image.padding is not None:
        mixed = beside_padding(indices, crop.image.padding)
        outside = mixed if outside is None else mixed | outside
    counts = histogram(indices, len(crop.image.values), None if outside is None else (~outside).view(np.uint8))
    if crop.image.padding is not None:
        counts[crop.image.padding] = 0
    return counts


def _percentiles(crops: list[Crop], shares: tuple[float, float]) -> tuple[float, float]:
    """Values at two percentiles of all real pixels of `crops` together (the lower of two neighbours)."""
    values = np.concatenate([crop.image.values for crop in crops])
    counts = np.concatenate([_counts(crop) for crop in crops])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    if not reached[-1]:
        return 0.0, 0.0
    low, high = (float(values[order[np.searchsorted(reached, max(share / 100 * reached[-1], 1))]]) for share in shares)
    return low, high


def ranges_array(ranges: list[tuple[float, float]], used: list[int], intensity: Intensity) -> NDArray[np.float32]:
    """The sample's `intensity_range`: (2,), or (2, 2) where each view is normalized by itself."""
    if not intensity.per_view:
        return np.array(ranges[0], np.float32)
    per_view = np.full((2, 2), np.nan, np.float32)
    per_view[used] = ranges
    return per_view
