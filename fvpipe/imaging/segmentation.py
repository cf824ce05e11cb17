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
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram
from fvpipe.imaging.morphology import OPENING_RADIUS, clean_opencv, clean_simpleitk, otsu_simpleitk
from fvpipe.imaging.threshold import BINS, bin_table, lower_to_valley, otsu_threshold, skin_threshold, triangle_threshold
from fvpipe.imaging.thumbnail import Mask, Thumbnail, has_interior, make_thumbnail
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import CropBox, Edge, Segmentation

MIN_AGREEMENT = 0.9  # intersection over union of the two masks that the method `agreement` requires
MIN_EDGE_PIXELS = 3  # bright pixels of a row or column at full size; fewer are noise

GATES = {"share": (0.04, 0.85), "fill": (0.50, 1.0), "aspect": (0.18, 0.95), "lateral_edges": (1, 1)}
"""Quality gates, each with its allowed range: mask area as a share of the image and of the bounding box, width / height of
the bounding box, number of lateral edges touched."""


@dataclass(frozen=True, slots=True)
class ThresholdAttempt:
    """Result of one threshold method.

    Attributes
    ----------
    method : str
        ``otsu_log``, ``otsu_linear`` or ``triangle``.
    mask : uint8 array, shape (thumbnail rows, thumbnail columns)
        255 on the breast.
    above : bool array, shape (number of stored values,)
        True for stored values above the threshold.
    threshold : float
        Smallest value above the threshold; NaN if there is none.
    gates : mapping of str to float
        Measurements for :data:`GATES`; empty if the mask is empty.
    edges : frozenset of Edge
        Lateral edges that the mask touches.
    """

    method: str
    mask: Mask
    above: NDArray[np.bool_]
    threshold: float
    gates: Mapping[str, float]
    edges: frozenset[Edge]

    @property
    def passes(self) -> bool:
        """Whether the mask passes all quality gates."""
        return _passes(self.gates)


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
    thumbnail = make_thumbnail(image)
    if thumbnail is None:
        return _whole_image(image, Flag.CC_CONSTANT | Flag.CC_CROP_FALLBACK)
    attempts = _attempts(thumbnail, settings, image.chest_wall)
    step = thumbnail.step * image.scale
    if settings.method == "agreement":
        chosen, flags = attempts[0], NO_FLAG
        accepted = chosen.passes and _overlap(attempts) >= MIN_AGREEMENT
    else:
        chosen, flags = attempts[-1], Flag.CC_TRIANGLE if len(attempts) > 1 else NO_FLAG
        accepted = chosen.passes
    if not accepted:
        return _whole_image(image, Flag.CC_CROP_FALLBACK, step, attempts[0].threshold, attempts[0].gates)
    if chosen.edges == {image.chest_wall.opposite}:
        flags |= Flag.CHEST_WALL_CONFLICT
    tight = image.to_source_box(_refine_box(thumbnail, chosen))
    margin = round(settings.margin * max(tight.height, tight.width))
    box = tight.expanded(margin, *image.source_shape)
    area, mean = _area_and_mean(thumbnail, chosen.mask)
    return Segmentation(box, tight, chosen.mask, step, chosen.threshold, chosen.method, chosen.gates, flags, area, mean)


def trace_segmentation(image: DecodedImage, settings: Segment) -> SegmentationTrace | None:
    """Repeat :func:`segment` and return its intermediate results; None if the image cannot be thresholded.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    settings : Segment
        Method and engine.
    """
    thumbnail = make_thumbnail(image) if has_interior(image) else None
    if thumbnail is None:
        return None
    values = thumbnail.values[thumbnail.stored]
    low, high = float(values.min()), float(values.max())
    bins = np.minimum((values - low) * (BINS / max(high - low, 1e-300)), BINS - 1).astype(int)
    attempts = _attempts(thumbnail, settings, image.chest_wall) if settings.method != "none" else ()
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


def _attempts(thumbnail: Thumbnail, settings: Segment, chest_wall: Edge) -> tuple[ThresholdAttempt, ...]:
    """Try the method of the settings, then the triangle if that fails; with ``agreement``, both in any case."""
    agreement = settings.method == "agreement"
    first = _attempt(thumbnail, "otsu_log" if agreement else settings.method, settings.engine, chest_wall)
    if first.method == "triangle" or (first.passes and not agreement):
        return (first,)
    return first, _attempt(thumbnail, "triangle", settings.engine, chest_wall)


def _attempt(thumbnail: Thumbnail, method: str, engine: str, chest_wall: Edge) -> ThresholdAttempt:
    bins = bin_table(thumbnail, method)
    binned = bins.take(thumbnail.stored)
    border = thumbnail.border
    interior = (slice(border, -border), slice(border, -border))
    counts = np.bincount(bins, thumbnail.counts, BINS).astype(np.int64)
    if method == "triangle":
        threshold = triangle_threshold(counts)
    else:
        threshold = otsu_simpleitk(binned[interior]) if engine == "simpleitk" else otsu_threshold(counts)
    if method == "otsu_log":
        threshold = lower_to_valley(counts, threshold)
    bright = _threshold(binned, threshold)
    binary = np.zeros_like(bright)
    binary[interior] = bright[interior]
    radius = max(1, round(OPENING_RADIUS * max(binned.shape)))
    clean = clean_simpleitk if engine == "simpleitk" else clean_opencv
    mask = clean(binary, radius, border, chest_wall)
    edge = _breast_edge(mask, border, chest_wall)
    _extend_to_edges(mask, bright, border, edge)
    if remove_stripes(binary, mask, thumbnail, edge):
        mask = clean(binary, radius, border, chest_wall)
        _extend_to_edges(mask, bright, border, edge)
    if remove_leaks(binary, mask, thumbnail):
        mask = clean(binary, radius, border, chest_wall)
        _extend_to_edges(mask, bright, border, edge)
    gates, edges = _measure(mask)
    if method == "otsu_log":
        joined = rejoin_nipple(mask, binary, _threshold(binned, skin_threshold(threshold)), radius, edge)
        if joined is not mask and _passes(_measure(joined)[0]):  # if it fails, it was a label plate
            mask, (gates, edges) = joined, _measure(joined)
    above = bins > threshold
    values = thumbnail.values[above]
    return ThresholdAttempt(method, mask, above, float(values.min()) if len(values) else math.nan, gates, edges)


def _threshold(binned: NDArray[np.uint8], threshold: int) -> Mask:
    return np.asarray(cv2.threshold(binned, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _breast_edge(mask: Mask, border: int, expected: Edge) -> Edge:
    """Edge on which the mask lies: the expected one, unless it touches only the other."""
    touched = {Edge.LEFT: mask[:, border].any(), Edge.RIGHT: mask[:, -border - 1].any()}
    return expected.opposite if touched[expected.opposite] and not touched[expected] else expected


def _extend_to_edges(mask: Mask, bright: Mask, border: int, chest_wall: Edge) -> None:
    """Extend a mask that reaches the border to the edge of the image, in place.

    Away from the chest wall it is extended only as far as the image is bright, because a nipple may end there, and not
    into the border of a film.
    """
    mask[:border] = mask[border]
    mask[-border:] = mask[-border - 1]
    if chest_wall is Edge.RIGHT:
        mask, bright = mask[:, ::-1], bright[:, ::-1]
    mask[:, :border] = mask[:, border : border + 1]
    strip = bright[:, -border:] > 0
    strip &= 2 * strip.sum(axis=0) < len(bright)
    mask[:, -border:] = np.where(np.logical_and.accumulate(strip, axis=1), mask[:, -border - 1 : -border], 0)


def _measure(mask: Mask) -> tuple[dict[str, float], frozenset[Edge]]:
    """Measurements for the quality gates, and the lateral edges that the mask touches."""
    area = cv2.countNonZero(mask)
    if not area:
        return {}, frozenset()
    _, _, width, height = cv2.boundingRect(mask)
    contact = {edge: np.count_nonzero(mask[:, column]) for edge, column in ((Edge.LEFT, 0), (Edge.RIGHT, -1))}
    # A nipple that reaches the opposite edge touches it over a short length.
    edges = frozenset(edge for edge, rows in contact.items() if rows and 4 * rows >= max(contact.values()))
    gates = {
        "share": area / mask.size,
        "fill": area / (width * height),
        "aspect": width / height,
        "lateral_edges": float(len(edges)),
    }
    return gates, edges


def _passes(gates: Mapping[str, float]) -> bool:
    return bool(gates) and all(low <= gates[name] <= high for name, (low, high) in GATES.items())


def _overlap(attempts: tuple[ThresholdAttempt, ...]) -> float:
    """Intersection over union of the masks of two attempts."""
    first, second = (attempt.mask for attempt in attempts)
    union = cv2.countNonZero(np.maximum(first, second))
    return cv2.countNonZero(np.minimum(first, second)) / union if union else 0.0


# --- the box at full size ---------------------------------------------------------------------------------------------


def _refine_box(thumbnail: Thumbnail, attempt: ThresholdAttempt) -> CropBox:
    """Move each edge of the mask's bounding box to where the threshold lies at full size, within two thumbnail pixels."""
    step = thumbnail.step
    rows, columns = thumbnail.image.shape
    left, top, width, height = cv2.boundingRect(attempt.mask)
    right, bottom = left + width, top + height
    # The last rows and columns of the image may not fill a thumbnail pixel.
    box = [
        top * step,
        rows if bottom == attempt.mask.shape[0] else bottom * step,
        left * step,
        columns if right == attempt.mask.shape[1] else right * step,
    ]
    if step == 1:
        return CropBox(*box)
    near: Mask = np.asarray(cv2.dilate(attempt.mask, np.ones((5, 5), np.uint8)), np.uint8)
    reach = 2 * step
    for i, limit in enumerate((0, rows, 0, columns)):
        if box[i] == limit:
            continue
        low, high = max(box[i] - reach, 0), min(box[i] + reach, limit or (rows, columns)[i // 2])
        band = slice(low, high)
        window = (band, slice(box[2], box[3])) if i < 2 else (slice(box[0], box[1]), band)
        inside = _inside_window(thumbnail, attempt.above, near, window)
        if i >= 2:
            inside = inside.T
        hit = np.flatnonzero(np.count_nonzero(inside, axis=1) >= MIN_EDGE_PIXELS)
        if len(hit):
            box[i] = low + int(hit[0] if i % 2 == 0 else hit[-1] + 1)
    return CropBox(*box)


def _inside_window(
    thumbnail: Thumbnail, above: NDArray[np.bool_], near: Mask, window: tuple[slice, slice]
) -> NDArray[np.bool_]:
    """Full-size pixels of a window that lie above the threshold, smoothed as in the thumbnail, and near the mask."""
    step = thumbnail.step
    size = step | 1  # an even kernel would shift the image by half a pixel
    smooth: NDArray[Any] = cv2.blur(thumbnail.window(window), (size, size))
    down = np.minimum(np.arange(window[0].start, window[0].stop) // step, near.shape[0] - 1)
    across = np.minimum(np.arange(window[1].start, window[1].stop) // step, near.shape[1] - 1)
    close = near[down[0] : down[-1] + 1].take(across, axis=1).take(down - down[0], axis=0)
    inside: NDArray[np.bool_] = above.take(smooth) & (close > 0)
    return inside
