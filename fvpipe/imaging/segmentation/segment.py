"""Segmentation of the breast in one image.

The paper says "an automated segmentation algorithm". Here it is Otsu's threshold on the logarithm of intensities above
the background, moved to where the area of the breast is stable, on a thumbnail. What lies around the outline must be air; the
edges of the box are refined at full size. If no mask passes the quality gates, the triangle threshold is tried; if that
fails too, the whole image is used and flagged. docs/segmentation.md has the steps and their accuracy.

Decisions are made on integers, on tables of at most 65,536 entries, and on floats that are rounded, so that the box is the same
on every processor: the logarithm only chooses bin edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram
from fvpipe.imaging.segmentation.background import Plane, is_negative, surface
from fvpipe.imaging.segmentation.crop_verdict import judge, measurements
from fvpipe.imaging.segmentation.threshold_attempts import ThresholdAttempt, attempt_thresholds
from fvpipe.imaging.segmentation.thumbnail import Mask, Thumbnail, has_interior, make_thumbnail
from fvpipe.reasons import NO_FLAG, VERDICT_FLAGS, CropVerdict, Flag
from fvpipe.types import CropBox, Edge

MIN_AGREEMENT = 0.9  # intersection over union of the two masks that the method `agreement` requires
PROFILE_ROWS = 64  # in which the brighter side of an image is looked for
MIN_EDGE_PIXELS = 3  # bright pixels of a row or column at full size; fewer are noise


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Outline and crop box of the breast in one image."""

    box: CropBox  # crop box in source pixels: the tight box plus the margin, or the whole image
    tight_box: CropBox  # bounding box of the breast in source pixels, without the margin
    mask: NDArray[np.uint8] | None  # that of the thumbnail: 255 inside the breast, 0 outside; None if nothing was segmented
    step: int  # source pixels per mask pixel
    threshold: float  # in units of the value table; NaN if nothing was segmented
    method: str  # threshold method whose mask was accepted; `whole_frame` if none was, `none` if none was asked for
    gates: Mapping[str, float]  # measurements of the quality gates, and those that the verdict is made from
    verdict: CropVerdict = CropVerdict.GOOD  # how far the crop is to be trusted
    flags: Flag = NO_FLAG  # of this view, as CC bits; `fvpipe.imaging.fusion.fuse` shifts them for the MLO
    area: float = math.nan  # inside the outline, in source pixels; NaN if nothing was segmented
    mean: float = math.nan  # value inside the outline; NaN if nothing was segmented


@dataclass(frozen=True, slots=True, eq=False)
class SegmentationTrace:
    """Intermediate results of :func:`segment`, to be shown."""

    thumbnail: Thumbnail  # the chest wall on the left, where the breast was found
    attempts: tuple[ThresholdAttempt, ...]  # threshold methods in the order in which they were tried
    overlap: float = math.nan  # intersection over union of the two masks of the method ``agreement``; NaN otherwise


def segment(image: DecodedImage, settings: Segment) -> Segmentation:
    """Segment the breast.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    settings : Segment
        Method, engine and margin. The method ``none`` gives the whole image, with a flag where the breast lies on the
        opposite edge.

    Returns
    -------
    segmentation : Segmentation
        Outline and crop box; the whole image, with a flag, if no mask passes the quality gates.
    """
    return trace_segmentation(image, settings)[0]


def trace_segmentation(image: DecodedImage, settings: Segment) -> tuple[Segmentation, SegmentationTrace | None]:
    """Segment the breast as :func:`segment` does, and return intermediate results too.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    settings : Segment
        Method, engine and margin.

    Returns
    -------
    segmentation : Segmentation
        Outline and crop box.
    trace : SegmentationTrace or None
        None if the method is ``none``, or the image cannot be thresholded.
    """
    if settings.method == "none":
        return _unsegmented(image, settings), None
    if not has_interior(image):
        return _whole_image(image), None
    thumbnail = make_thumbnail(image, image.chest_wall)
    if thumbnail is None:
        return _whole_image(image, flags=Flag.CC_CONSTANT), None
    thumbnail, attempts = _tried(thumbnail, settings)
    overlap = _overlap(attempts) if attempts and settings.method == "agreement" else math.nan
    return _chosen(thumbnail, attempts, overlap, settings), SegmentationTrace(thumbnail, attempts, overlap)


def _chosen(thumbnail: Thumbnail, attempts: tuple[ThresholdAttempt, ...], overlap: float, settings: Segment) -> Segmentation:
    image, step = thumbnail.image, thumbnail.step * thumbnail.image.scale
    if not attempts:
        return _whole_image(image, step=step)
    chosen = attempts[-2 if settings.method == "agreement" else -1]
    if not chosen.passes or overlap < MIN_AGREEMENT:
        first = attempts[0]
        return _whole_image(image, step=step, threshold=first.threshold, gates=measurements(first))
    gates = measurements(chosen)
    verdict = judge(gates)
    flags = VERDICT_FLAGS[verdict] | (Flag.CC_TRIANGLE if chosen.method == "triangle" != settings.method else NO_FLAG)
    if thumbnail.mirrored != (image.chest_wall is Edge.RIGHT):
        flags |= Flag.CHEST_WALL_CONFLICT
    tight = image.to_source_box(_refine_box(thumbnail, chosen))
    margin = round(settings.margin * max(tight.height, tight.width))
    box = tight.expanded(margin, *image.source_shape)
    area, mean = _area_and_mean(thumbnail, chosen.mask)
    mask = thumbnail.upright(chosen.mask)
    return Segmentation(box, tight, mask, step, chosen.threshold, chosen.method, gates, verdict, flags, area, mean)


def full_mask(segmentation: Segmentation, rows: int, columns: int, scale: int = 1) -> Mask:
    """Enlarge the mask to the size of an image.

    Parameters
    ----------
    segmentation : Segmentation
        Without a mask, everything is inside.
    rows, columns : int
        Size of the image in stored pixels.
    scale : int
        Source pixels per stored pixel.

    Returns
    -------
    mask : uint8 array, shape (rows, columns)
        255 on the breast.
    """
    return mask_at(segmentation, np.arange(rows), np.arange(columns), scale)


def mask_at(segmentation: Segmentation, rows: NDArray[np.int64], columns: NDArray[np.int64], scale: int) -> Mask:
    """Values of :func:`full_mask` in some rows and columns of the image, shape (rows, columns)."""
    if segmentation.mask is None:
        return np.full((len(rows), len(columns)), 255, np.uint8)
    down = np.minimum(rows * scale // segmentation.step, segmentation.mask.shape[0] - 1)
    across = np.minimum(columns * scale // segmentation.step, segmentation.mask.shape[1] - 1)
    found: Mask = segmentation.mask[down[:, None], across]
    return found


def _whole_image(
    image: DecodedImage,
    verdict: CropVerdict = CropVerdict.WHOLE_FRAME,
    *,
    flags: Flag = NO_FLAG,
    step: int = 1,
    threshold: float = math.nan,
    gates: Mapping[str, float] | None = None,
    method: str = "whole_frame",
) -> Segmentation:
    box = CropBox.whole(*image.source_shape)
    return Segmentation(box, box, None, step, threshold, method, gates or {}, verdict, flags | VERDICT_FLAGS[verdict])


def _area_and_mean(thumbnail: Thumbnail, mask: Mask) -> tuple[float, float]:
    """Area in source pixels and mean value inside the mask, summed exactly so that every processor agrees."""
    counts = histogram(thumbnail.stored, len(thumbnail.values), mask)
    present = np.flatnonzero(counts)
    total = int(counts.sum())
    mean = math.fsum((thumbnail.values[present] * counts[present]).tolist()) / total
    return float(total * (thumbnail.step * thumbnail.image.scale) ** 2), mean


def _tried(thumbnail: Thumbnail, settings: Segment) -> tuple[Thumbnail, tuple[ThresholdAttempt, ...]]:
    """Attempts for a breast on the expected edge or, if all fail, on the opposite edge, with the thumbnail turned so."""
    if is_negative(thumbnail):
        return thumbnail, ()
    attempts = attempt_thresholds(thumbnail, settings)
    if not attempts[-1].passes:
        turned = make_thumbnail(thumbnail.image, thumbnail.image.chest_wall.opposite)
        if turned is not None:
            others = attempt_thresholds(turned, settings)
            if others[-1].passes:
                return turned, others
    return thumbnail, attempts


def _unsegmented(image: DecodedImage, settings: Segment) -> Segmentation:
    """The whole image, flagged where the breast lies on the opposite edge, or where air is white.

    Neither is looked for where the expected side is the brighter one.
    """
    values, padding = image.values, image.padding
    if padding is not None:
        values = np.where(padding, values[~padding].min(), values)
    profile = values[image.stored[:: -(-image.shape[0] // PROFILE_ROWS)]].mean(axis=0)
    third = len(profile) // 3
    left, right = float(profile[:third].mean()), float(profile[-third:].mean())
    verdict, flags = CropVerdict.GOOD, NO_FLAG
    if left != right and (left > right) != (image.chest_wall is Edge.LEFT):
        found = segment(image, settings.model_copy(update={"method": "otsu_log"}))
        flags = found.flags & Flag.CHEST_WALL_CONFLICT
        thumbnail = None if found.mask is not None else make_thumbnail(image, image.chest_wall)
        if thumbnail is not None and is_negative(thumbnail):
            verdict = CropVerdict.WHOLE_FRAME  # as with a method that looks for an outline
    return _whole_image(image, verdict, method="none", flags=flags)


def _overlap(attempts: tuple[ThresholdAttempt, ...]) -> float:
    """Intersection over union of the masks of two attempts."""
    first, second = (attempt.mask for attempt in attempts[-2:])
    union = cv2.countNonZero(np.maximum(first, second))
    return cv2.countNonZero(np.minimum(first, second)) / union if union else 0.0


# --- the box at full size ---------------------------------------------------------------------------------------------


def _refine_box(thumbnail: Thumbnail, attempt: ThresholdAttempt) -> CropBox:
    """Move each edge of the mask's bounding box to where the threshold lies at full size, within two thumbnail pixels."""
    step = thumbnail.step
    rows, columns = thumbnail.image.shape
    mask = thumbnail.upright(attempt.mask)
    left, top, width, height = cv2.boundingRect(mask)
    right, bottom = left + width, top + height
    # The last rows and columns of the image may not fill a thumbnail pixel.
    box = [
        top * step,
        rows if bottom == mask.shape[0] else bottom * step,
        left * step,
        columns if right == mask.shape[1] else right * step,
    ]
    if step == 1:
        return CropBox(*box)
    near: Mask = np.asarray(cv2.dilate(mask, np.ones((5, 5), np.uint8)), np.uint8)
    fit = attempt.background.fit
    air = attempt.background.level if fit is None else thumbnail.upright(surface(fit, thumbnail.stored.shape, slice(None)))
    reach = 2 * step
    for i, limit in enumerate((0, rows, 0, columns)):
        if box[i] == limit:
            continue
        low, high = max(box[i] - reach, 0), min(box[i] + reach, limit or (rows, columns)[i // 2])
        band = slice(low, high)
        window = (band, slice(box[2], box[3])) if i < 2 else (slice(box[0], box[1]), band)
        inside = _inside_window(thumbnail, window, near, air, attempt.limit)
        if i >= 2:
            inside = inside.T
        hit = np.flatnonzero(np.count_nonzero(inside, axis=1) >= MIN_EDGE_PIXELS)
        if len(hit):
            box[i] = low + int(hit[0] if i % 2 == 0 else hit[-1] + 1)
    return CropBox(*box)


def _inside_window(
    thumbnail: Thumbnail, window: tuple[slice, slice], near: Mask, air: Plane | float, limit: float
) -> NDArray[np.bool_]:
    """Full-size pixels of a window that lie above the threshold, smoothed as in the thumbnail, and near the mask.

    `air` is the level of air, or that of each pixel of the thumbnail.
    """
    step = thumbnail.step
    size = step | 1  # an even kernel would shift the image by half a pixel
    smooth: NDArray[Any] = cv2.blur(thumbnail.window(window), (size, size))
    down = np.minimum(np.arange(window[0].start, window[0].stop) // step, near.shape[0] - 1)
    across = np.minimum(np.arange(window[1].start, window[1].stop) // step, near.shape[1] - 1)

    def here(plane: NDArray[Any]) -> NDArray[Any]:
        taken: NDArray[Any] = plane[down[0] : down[-1] + 1].take(across, axis=1).take(down - down[0], axis=0)
        return taken

    above: Plane = thumbnail.relative.take(smooth) - (air if isinstance(air, float) else here(air))
    inside: NDArray[np.bool_] = (above >= limit) & (here(near) > 0)
    return inside
