"""Segmentation of the breast in one image.

The paper says "an automated segmentation algorithm". Here it is Otsu's threshold on the logarithm of intensities above
the mode of the background, on a thumbnail; the edges of the box are then refined at full size, and the mask must pass
quality gates. If it fails, the triangle threshold is tried. If that fails too, the whole image is used and flagged.

All decisions are made on integers and on tables of at most 65,536 entries, so that the box is the same on every
processor: the logarithm only chooses bin edges.
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
from fvpipe.imaging.artifacts import rejoin_nipple, remove_leaks, remove_stripes
from fvpipe.imaging.background import Levels, is_negative, levels_above_air, linear_levels
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram
from fvpipe.imaging.morphology import OPENING_RADIUS, clean_opencv, clean_simpleitk, otsu_simpleitk
from fvpipe.imaging.outline import breast_extent, coarse_step, measure_outline, measure_surroundings, passes_gates
from fvpipe.imaging.threshold import (
    BINS,
    bin_edge,
    lower_to_valley,
    otsu_threshold,
    skin_threshold,
    stable_thresholds,
    triangle_threshold,
)
from fvpipe.imaging.thumbnail import Mask, Thumbnail, has_interior, make_thumbnail
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import CropBox, Edge, Segmentation

MIN_AGREEMENT = 0.9  # intersection over union of the two masks that the method `agreement` requires
MIN_EDGE_PIXELS = 3  # bright pixels of a row or column at full size; fewer are noise
BACKGROUND_GAIN = 20  # bins by which a less frequent background must make the surroundings more even
CLEAR_OUTLINE = 0.1  # share of a faint outline: where it is less, no other threshold is tried
EVEN_AIR = 45  # bins: where the surroundings of an outline are as even, no other background is tried


@dataclass(frozen=True, slots=True)
class ThresholdAttempt:
    """Result of one threshold.

    Attributes
    ----------
    method : str
        ``otsu_log``, ``otsu_linear`` or ``triangle``.
    mask : uint8 array, shape (thumbnail rows, thumbnail columns)
        255 on the breast; the chest wall on the left.
    levels : Levels
        Bins of the thumbnail.
    threshold : int
        Last bin of the darker class.
    gates : mapping of str to float
        Measurements for :data:`fvpipe.imaging.outline.GATES`; empty if the mask is empty.
    """

    method: str
    mask: Mask
    levels: Levels
    threshold: int
    gates: Mapping[str, float]

    @property
    def passes(self) -> bool:
        """Whether the mask passes all quality gates."""
        return passes_gates(self.gates)

    @property
    def doubt(self) -> float:
        """How far the surroundings of the outline are from even air, in bins."""
        return self.gates.get("ring", 0.0) + self.gates.get("unevenness", 0.0) + 100 * self.gates.get("faint", 0.0)


@dataclass(frozen=True, slots=True)
class SegmentationTrace:
    """Intermediate results of :func:`segment`, to be shown.

    Attributes
    ----------
    counts : int64 array, shape (256,)
        Histogram of the thumbnail's values from `low` to `high`.
    low, high : float
        Smallest and largest value of the thumbnail.
    attempts : tuple of ThresholdAttempt
        Threshold methods in the order in which they were tried.
    overlap : float
        Intersection over union of the two masks of the method ``agreement``; NaN otherwise.
    """

    counts: NDArray[np.int64]
    low: float
    high: float
    attempts: tuple[ThresholdAttempt, ...]
    overlap: float = math.nan


def segment(image: DecodedImage, settings: Segment) -> Segmentation:
    """Segment the breast.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    settings : Segment
        Method, engine and margin. The method ``none`` gives the whole image without a flag.

    Returns
    -------
    segmentation : Segmentation
        Outline and crop box; the whole image, with a flag, if no mask passes the quality gates.
    """
    if settings.method == "none":
        return _whole_image(image, NO_FLAG, method="none")
    if not has_interior(image):
        return _whole_image(image, Flag.CC_CROP_FALLBACK)
    thumbnail = make_thumbnail(image, image.chest_wall)
    if thumbnail is None:
        return _whole_image(image, Flag.CC_CONSTANT | Flag.CC_CROP_FALLBACK)
    thumbnail, attempts = _tried(thumbnail, settings)
    step = thumbnail.step * image.scale
    if not attempts:
        return _whole_image(image, Flag.CC_CROP_FALLBACK, step)
    agreement = settings.method == "agreement"
    chosen = attempts[-2 if agreement else -1]
    if not chosen.passes or (agreement and _overlap(attempts) < MIN_AGREEMENT):
        return _whole_image(image, Flag.CC_CROP_FALLBACK, step, _threshold_value(thumbnail, attempts[0]), attempts[0].gates)
    flags = Flag.CC_TRIANGLE if chosen.method == "triangle" != settings.method else NO_FLAG
    if thumbnail.mirrored != (image.chest_wall is Edge.RIGHT):
        flags |= Flag.CHEST_WALL_CONFLICT
    tight = image.to_source_box(_refine_box(thumbnail, chosen))
    margin = round(settings.margin * max(tight.height, tight.width))
    box = tight.expanded(margin, *image.source_shape)
    area, mean = _area_and_mean(thumbnail, chosen.mask)
    mask, threshold = thumbnail.upright(chosen.mask), _threshold_value(thumbnail, chosen)
    return Segmentation(box, tight, mask, step, threshold, chosen.method, chosen.gates, flags, area, mean)


def trace_segmentation(image: DecodedImage, settings: Segment) -> SegmentationTrace | None:
    """Repeat :func:`segment` and return its intermediate results; None if the image cannot be thresholded.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    settings : Segment
        Method and engine.
    """
    thumbnail = make_thumbnail(image, image.chest_wall) if has_interior(image) else None
    if thumbnail is None:
        return None
    values = thumbnail.values[thumbnail.stored]
    low, high = float(values.min()), float(values.max())
    bins = np.minimum((values - low) * (BINS / max(high - low, 1e-300)), BINS - 1).astype(int)
    attempts = _tried(thumbnail, settings)[1] if settings.method != "none" else ()
    overlap = _overlap(attempts) if settings.method == "agreement" else math.nan
    return SegmentationTrace(np.bincount(bins.ravel(), minlength=BINS), low, high, attempts, overlap)


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
    if segmentation.mask is None:
        return np.full((rows, columns), 255, np.uint8)
    down = np.minimum(np.arange(rows) * scale // segmentation.step, segmentation.mask.shape[0] - 1)
    across = np.minimum(np.arange(columns) * scale // segmentation.step, segmentation.mask.shape[1] - 1)
    full: Mask = segmentation.mask[down[:, None], across[None, :]]
    return full


def _whole_image(
    image: DecodedImage,
    flags: Flag,
    step: int = 1,
    threshold: float = math.nan,
    gates: Mapping[str, float] | None = None,
    method: str = "whole_frame",
) -> Segmentation:
    box = CropBox.whole(*image.source_shape)
    return Segmentation(box, box, None, step, threshold, method, gates or {}, flags)


def _area_and_mean(thumbnail: Thumbnail, mask: Mask) -> tuple[float, float]:
    """Area in source pixels and mean value inside the mask, summed exactly so that every processor agrees."""
    counts = histogram(thumbnail.stored, len(thumbnail.values), mask)
    present = np.flatnonzero(counts)
    total = int(counts.sum())
    mean = math.fsum((thumbnail.values[present] * counts[present]).tolist()) / total
    return float(total * (thumbnail.step * thumbnail.image.scale) ** 2), mean


# --- threshold attempts -----------------------------------------------------------------------------------------------


def _tried(thumbnail: Thumbnail, settings: Segment) -> tuple[Thumbnail, tuple[ThresholdAttempt, ...]]:
    """Attempts for a breast on the expected edge or, if all fail, on the opposite edge, with the thumbnail turned so."""
    if is_negative(thumbnail):
        return thumbnail, ()
    attempts = _attempts(thumbnail, settings)
    if not attempts[-1].passes:
        turned = make_thumbnail(thumbnail.image, thumbnail.image.chest_wall.opposite)
        if turned is not None:
            others = _attempts(turned, settings)
            if others[-1].passes:
                return turned, others
    return thumbnail, attempts


def _threshold_value(thumbnail: Thumbnail, attempt: ThresholdAttempt) -> float:
    """Smallest value above the threshold where the background is darkest; NaN if there is none."""
    above = attempt.levels.above(thumbnail, attempt.threshold)
    return float(thumbnail.values[above].min()) if above.any() else math.nan


def _attempts(thumbnail: Thumbnail, settings: Segment) -> tuple[ThresholdAttempt, ...]:
    """Try the method of the settings, then the triangle if that fails; with ``agreement``, both in any case."""
    agreement = settings.method == "agreement"
    tried: list[ThresholdAttempt] = []
    if settings.method in ("otsu_log", "agreement"):
        for levels in levels_above_air(thumbnail):
            for threshold in _log_thresholds(thumbnail, levels, settings.engine):
                tried.append(_attempt(thumbnail, levels, "otsu_log", threshold, settings.engine))
                if tried[-1].passes and tried[-1].gates["faint"] <= CLEAR_OUTLINE:
                    break
            if tried[-1].passes and tried[-1].gates["ring"] + tried[-1].gates["unevenness"] <= EVEN_AIR:
                break
        best = min(range(len(tried)), key=lambda i: (not tried[i].passes, tried[i].doubt + i * BACKGROUND_GAIN))
        tried.append(tried.pop(best))
    if settings.method == "otsu_linear":
        linear = linear_levels(thumbnail)
        tried.append(_attempt(thumbnail, linear, "otsu_linear", _otsu(thumbnail, linear, settings.engine), settings.engine))
    if agreement or not tried or not tried[-1].passes:
        linear = linear_levels(thumbnail)
        tried.append(_attempt(thumbnail, linear, "triangle", triangle_threshold(linear.counts), settings.engine))
    return tuple(tried)


def _otsu(thumbnail: Thumbnail, levels: Levels, engine: str) -> int:
    if engine == "simpleitk":
        border = thumbnail.border
        return otsu_simpleitk(levels.bins[border:-border, border:-border])
    return otsu_threshold(levels.counts)


def _log_thresholds(thumbnail: Thumbnail, levels: Levels, engine: str) -> list[int]:
    """Stable thresholds, then Otsu's."""
    otsu = _otsu(thumbnail, levels, engine)
    lowered = lower_to_valley(levels.counts, otsu)
    border = thumbnail.border
    step = coarse_step(levels.bins.shape)
    coarse = np.ascontiguousarray(levels.bins[border:-border:step, border:-border:step])
    return list(dict.fromkeys([*stable_thresholds(coarse, otsu, lowered), lowered, otsu]))


def _attempt(thumbnail: Thumbnail, levels: Levels, method: str, threshold: int, engine: str) -> ThresholdAttempt:
    border = thumbnail.border
    interior = (slice(border, -border), slice(border, -border))
    bright = _threshold(levels.bins, threshold)
    binary = np.zeros_like(bright)
    binary[interior] = bright[interior]
    radius = max(1, round(OPENING_RADIUS * max(bright.shape)))
    clean = clean_simpleitk if engine == "simpleitk" else clean_opencv
    mask = clean(binary, radius, border)
    _extend_to_edges(mask, bright, border)
    for remove in (remove_stripes, remove_leaks):
        if remove(binary, mask, thumbnail):
            mask = clean(binary, radius, border)
            _extend_to_edges(mask, bright, border)
    if method == "otsu_log":
        joined = rejoin_nipple(mask, binary, _threshold(levels.bins, skin_threshold(threshold)), radius)
        mask = joined if passes_gates(measure_outline(joined)) else mask  # if it fails, it was a label plate
    mask, excess = breast_extent(mask, thumbnail)
    gates = measure_outline(mask)
    if gates:
        above_air = bin_edge(threshold) if method == "otsu_log" else max((threshold + 1) / BINS - float(np.mean(levels.air)), 0.0)
        gates |= {"excess": excess, **measure_surroundings(mask, thumbnail, levels, above_air)}
    return ThresholdAttempt(method, mask, levels, threshold, gates)


def _threshold(binned: NDArray[np.uint8], threshold: int) -> Mask:
    return np.asarray(cv2.threshold(binned, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _extend_to_edges(mask: Mask, bright: Mask, border: int) -> None:
    """Extend a mask that reaches the border to the edge of the image, in place.

    To the left and right it is extended only as far as the image is bright: the chest wall may lie beside a dark margin, and a
    nipple may end before the opposite edge, where it is not extended into the border of a film either.
    """
    mask[:border] = mask[border]
    mask[-border:] = mask[-border - 1]
    wall = mask[:, border] > 0
    filled = 2 * (bright[wall, :border] > 0).sum(axis=0) >= wall.sum()
    mask[:, :border] = np.where(np.logical_and.accumulate(filled[::-1])[::-1], mask[:, border : border + 1], 0)
    strip = bright[:, -border:] > 0
    strip &= 2 * strip.sum(axis=0) < len(bright)
    mask[:, -border:] = np.where(np.logical_and.accumulate(strip, axis=1), mask[:, -border - 1 : -border], 0)


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
    reach = 2 * step
    for i, limit in enumerate((0, rows, 0, columns)):
        if box[i] == limit:
            continue
        low, high = max(box[i] - reach, 0), min(box[i] + reach, limit or (rows, columns)[i // 2])
        band = slice(low, high)
        window = (band, slice(box[2], box[3])) if i < 2 else (slice(box[0], box[1]), band)
        inside = _inside_window(thumbnail, attempt, near, window)
        if i >= 2:
            inside = inside.T
        hit = np.flatnonzero(np.count_nonzero(inside, axis=1) >= MIN_EDGE_PIXELS)
        if len(hit):
            box[i] = low + int(hit[0] if i % 2 == 0 else hit[-1] + 1)
    return CropBox(*box)


def _inside_window(
    thumbnail: Thumbnail, attempt: ThresholdAttempt, near: Mask, window: tuple[slice, slice]
) -> NDArray[np.bool_]:
    """Full-size pixels of a window that lie above the threshold, smoothed as in the thumbnail, and near the mask."""
    step = thumbnail.step
    size = step | 1  # an even kernel would shift the image by half a pixel
    smooth: NDArray[Any] = cv2.blur(thumbnail.window(window), (size, size))
    down = np.minimum(np.arange(window[0].start, window[0].stop) // step, near.shape[0] - 1)
    across = np.minimum(np.arange(window[1].start, window[1].stop) // step, near.shape[1] - 1)

    def here(plane: NDArray[Any]) -> NDArray[Any]:
        taken: NDArray[Any] = plane[down[0] : down[-1] + 1].take(across, axis=1).take(down - down[0], axis=0)
        return taken

    levels = attempt.levels
    if isinstance(levels.air, float):
        bright = levels.above(thumbnail, attempt.threshold).take(smooth)
    else:
        bright = thumbnail.relative.take(smooth) - here(thumbnail.upright(levels.air)) >= bin_edge(attempt.threshold)
    inside: NDArray[np.bool_] = bright & (here(near) > 0)
    return inside
