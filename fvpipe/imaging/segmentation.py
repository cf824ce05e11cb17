"""Step 3: :class:`Image` -> where the breast is.

The paper says "an automated segmentation algorithm"; this is Otsu's threshold on log intensities above the
background's mode, on a thumbnail, with the box's edges refined at full size and quality gates that a mask must pass.
What fails them is retried with the triangle threshold and then left whole, flagged and counted; never passed silently.

Every decision is made on integers and on tables of at most 65,536 entries, so that the box is the same on every
processor: the logarithm is nothing but a choice of bin edges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.artifacts import cut_leaks, cut_stripes, rejoined
from fvpipe.imaging.histogram import histogram, looked_up
from fvpipe.imaging.morphology import OPENING, clean_opencv, clean_simpleitk, otsu_simpleitk
from fvpipe.imaging.threshold import BINS, bins_of, lowered, otsu_threshold, share_of, triangle_threshold
from fvpipe.imaging.thumbnail import Mask, Thumbnail, has_room, thumbnail_of
from fvpipe.reasons import Flag
from fvpipe.types import CropBox, DecodedImage, Edge, Segmentation

AGREEMENT = 0.9  # intersection over union at which `agreement` believes its two methods

GATES = {"share": (0.04, 0.85), "fill": (0.50, 1.0), "aspect": (0.18, 0.95), "lateral_edges": (1, 1)}
"""What a mask must show: share of the frame, share of its own box, width / height, lateral edges of the frame touched."""


def segment(image: DecodedImage, settings: Segment) -> Segmentation:
    """Find the breast.

    Parameters
    ----------
    image : Image
    settings : Segment
        `method` ``none`` gives the whole frame, unflagged.

    Returns
    -------
    Segmentation
    """
    whole = CropBox.whole(*image.source_shape)
    if settings.method == "none":
        return Segmentation(whole, whole, None, 1, math.nan, "none", {})
    if not has_room(image):
        return Segmentation(whole, whole, None, 1, math.nan, "whole_frame", {}, Flag.CC_CROP_FALLBACK)
    thumbnail = thumbnail_of(image)
    if thumbnail is None:
        return Segmentation(whole, whole, None, 1, math.nan, "whole_frame", {}, Flag.CC_CONSTANT | Flag.CC_CROP_FALLBACK)
    methods = ("otsu_log", "triangle") if settings.method == "agreement" else (settings.method,)
    attempts = [_attempt(thumbnail, method, settings.engine, image.chest_wall) for method in methods]
    flags = Flag(0)
    chosen = attempts[0]
    if settings.method == "agreement":
        believed = chosen.passes and _overlap(chosen.mask, attempts[1].mask) >= AGREEMENT
    elif not chosen.passes and settings.method != "triangle":
        chosen, flags = _attempt(thumbnail, "triangle", settings.engine, image.chest_wall), Flag.CC_TRIANGLE
        believed = chosen.passes
    else:
        believed = chosen.passes
    if not believed:
        return Segmentation(
            whole,
            whole,
            None,
            thumbnail.step * image.scale,
            attempts[0].threshold,
            "whole_frame",
            attempts[0].gates,
            Flag.CC_CROP_FALLBACK,
        )
    if chosen.edges == {_other(image.chest_wall)}:
        flags |= Flag.CHEST_WALL_CONFLICT
    tight = image.in_source(_refine(thumbnail, chosen))
    margin = round(settings.margin * max(tight.height, tight.width))
    box = tight.grown(margin, *image.source_shape)
    area, mean = _inside_of(thumbnail, chosen.mask)
    step = thumbnail.step * image.scale
    return Segmentation(box, tight, chosen.mask, step, chosen.threshold, chosen.method, chosen.gates, flags, area, mean)


def _inside_of(thumbnail: Thumbnail, mask: Mask) -> tuple[float, float]:
    """Area in source pixels and mean value. Summed without rounding, so that every processor agrees."""
    counts = histogram(thumbnail.indices, len(thumbnail.values), mask)
    present = np.flatnonzero(counts)
    total = int(counts.sum())
    mean = math.fsum((thumbnail.values[present] * counts[present]).tolist()) / total
    return float(total * (thumbnail.step * thumbnail.image.scale) ** 2), mean


def full_mask(segmentation: Segmentation, rows: int, columns: int, scale: int = 1) -> Mask:
    """The outline's inside at the size of an image's `stored`: uint8 (rows, columns), 255 on the breast."""
    if segmentation.mask is None:
        return np.full((rows, columns), 255, np.uint8)
    down = np.minimum(np.arange(rows) * scale // segmentation.step, segmentation.mask.shape[0] - 1)
    across = np.minimum(np.arange(columns) * scale // segmentation.step, segmentation.mask.shape[1] - 1)
    full: Mask = segmentation.mask[down[:, None], across[None, :]]
    return full


@dataclass(frozen=True, slots=True)
class Attempt:
    """One threshold that was tried.

    Attributes
    ----------
    method : str
    threshold : float
        In the image's values; NaN where nothing lies above it.
    gates : mapping of str to float
        What its mask measures, for :data:`GATES`; empty where there is no mask.
    passes : bool
        All of the gates.
    """

    method: str
    threshold: float
    gates: Mapping[str, float]
    passes: bool


@dataclass(frozen=True, slots=True)
class Examined:
    """What :func:`segment` saw, for people to look at.

    Attributes
    ----------
    counts : int64, (256,)
        Pixels of the thumbnail, by value from `low` to `high`.
    low, high : float
        The thumbnail's smallest and largest value.
    attempts : tuple of Attempt
        In the order in which they were made.
    overlap : float
        With the method ``agreement``, the intersection over union of its two masks; NaN otherwise.
    """

    counts: NDArray[np.int64]
    low: float
    high: float
    attempts: tuple[Attempt, ...]
    overlap: float = math.nan


def examine(image: DecodedImage, settings: Segment) -> Examined | None:
    """Every step of :func:`segment` with its numbers; None for an image of one value.

    Parameters
    ----------
    image : Image
    settings : Segment

    Returns
    -------
    Examined or None
    """
    thumbnail = thumbnail_of(image) if has_room(image) else None
    if thumbnail is None:
        return None
    values = thumbnail.values[thumbnail.indices]
    low, high = float(values.min()), float(values.max())
    counts = np.bincount(
        np.minimum((values - low) * (BINS / max(high - low, 1e-300)), BINS - 1).astype(int).ravel(), minlength=BINS
    )
    made: list[_Attempt] = []
    agreement = settings.method == "agreement"
    first = "otsu_log" if agreement else settings.method
    for method in dict.fromkeys((first, "triangle")) if first != "none" else ():
        if agreement or not (made and made[-1].passes):
            made.append(_attempt(thumbnail, method, settings.engine, image.chest_wall))
    attempts = tuple(Attempt(each.method, each.threshold, each.gates, each.passes) for each in made)
    return Examined(counts, low, high, attempts, _overlap(made[0].mask, made[1].mask) if agreement else math.nan)


# --- one attempt ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Attempt:
    method: str
    mask: Mask  # thumbnail size
    inside: NDArray[np.bool_]  # which indices lie above the threshold
    threshold: float  # in values
    gates: dict[str, float]
    edges: set[Edge]

    @property
    def passes(self) -> bool:
        return _passes(self.gates)


def _passes(gates: dict[str, float]) -> bool:
    return bool(gates) and all(low <= gates[name] <= high for name, (low, high) in GATES.items())


def _attempt(thumbnail: Thumbnail, method: str, engine: str, chest_wall: Edge) -> _Attempt:
    bins = bins_of(thumbnail, method)
    binned = looked_up(bins, thumbnail.indices)
    border = thumbnail.border
    interior = binned[border:-border, border:-border]
    counts = np.bincount(bins, thumbnail.counts, BINS).astype(np.int64)
    clean = clean_simpleitk if engine == "simpleitk" else clean_opencv
    if method == "triangle":
        threshold = triangle_threshold(counts)
    else:
        threshold = otsu_simpleitk(interior) if engine == "simpleitk" else otsu_threshold(counts)
    if method == "otsu_log":
        threshold = lowered(counts, threshold)
    bright = _above(binned, threshold)
    binary = np.zeros_like(bright)
    binary[border:-border, border:-border] = bright[border:-border, border:-border]
    radius = max(1, round(OPENING * max(binned.shape)))
    mask = clean(binary, radius, border, chest_wall)
    wall = _wall(mask, border, chest_wall)
    _reach_edges(mask, bright, border, wall)
    if cut_stripes(binary, mask, thumbnail, wall):
        mask = clean(binary, radius, border, chest_wall)
        _reach_edges(mask, bright, border, wall)
    if cut_leaks(binary, mask, thumbnail):
        mask = clean(binary, radius, border, chest_wall)
        _reach_edges(mask, bright, border, wall)
    measured = _measure(mask)
    if method == "otsu_log":
        joined = rejoined(mask, binary, _above(binned, share_of(threshold)), radius, wall)
        if joined is not mask and _passes(_measure(joined)[0]):  # or it was a label's plate
            mask, measured = joined, _measure(joined)
    inside = bins > threshold
    above = thumbnail.values[inside]
    return _Attempt(method, mask, inside, float(above.min()) if len(above) else math.nan, *measured)


def _above(binned: NDArray[np.uint8], threshold: int) -> Mask:
    return np.asarray(cv2.threshold(binned, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _wall(mask: Mask, border: int, said: Edge) -> Edge:
    """The edge on which the breast lies: that which the header says, unless it is only on the other."""
    reached = {Edge.LEFT: mask[:, border].any(), Edge.RIGHT: mask[:, -border - 1].any()}
    return _other(said) if reached[_other(said)] and not reached[said] else said


def _reach_edges(mask: Mask, bright: Mask, border: int, chest_wall: Edge) -> None:
    """A mask that reaches the blanked strip extends through it to the edge of the frame; away from the chest wall only as
    far as it is bright, for a nipple may end there, and not into a film's border.
    """
    mask[:border] = mask[border]
    mask[-border:] = mask[-border - 1]
    if chest_wall is Edge.RIGHT:
        mask, bright = mask[:, ::-1], bright[:, ::-1]
    mask[:, :border] = mask[:, border : border + 1]
    strip = bright[:, -border:] > 0
    strip &= 2 * strip.sum(axis=0) < len(bright)
    mask[:, -border:] = np.where(np.logical_and.accumulate(strip, axis=1), mask[:, -border - 1 : -border], 0)


_LATERAL = {Edge.LEFT: 0, Edge.RIGHT: -1}


def _measure(mask: Mask) -> tuple[dict[str, float], set[Edge]]:
    area = cv2.countNonZero(mask)
    if not area:
        return {}, set()
    _, _, width, height = cv2.boundingRect(mask)
    contact = {edge: cv2.countNonZero(np.ascontiguousarray(mask[:, column])) for edge, column in _LATERAL.items()}
    # A nipple that reaches the far edge is a short touch beside the chest wall's.
    edges = {edge for edge, rows in contact.items() if rows and 4 * rows >= max(contact.values())}
    gates = {
        "share": area / mask.size,
        "fill": area / (width * height),
        "aspect": width / height,
        "lateral_edges": float(len(edges)),
    }
    return gates, edges


def _overlap(first: Mask, second: Mask) -> float:
    union = cv2.countNonZero(np.maximum(first, second))
    return cv2.countNonZero(np.minimum(first, second)) / union if union else 0.0


def _other(edge: Edge) -> Edge:
    return Edge.RIGHT if edge is Edge.LEFT else Edge.LEFT


# --- the box at full size ---------------------------------------------------------------------------------------------


def _refine(thumbnail: Thumbnail, attempt: _Attempt) -> CropBox:
    """Move each edge of the thumbnail's box to where the threshold lies at full size, within a narrow band."""
    step = thumbnail.step
    rows, columns = thumbnail.image.shape
    left, top, width, height = cv2.boundingRect(attempt.mask)
    right, bottom = left + width, top + height
    # An edge on the thumbnail's own edge is the frame's: the last rows and columns may not fill a thumbnail pixel.
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
        inside = _inside(thumbnail, attempt.inside, near, window)
        if i >= 2:
            inside = inside.T
        hit = np.flatnonzero(np.count_nonzero(inside, axis=1) >= 3)  # fewer pixels are noise
        if len(hit):
            box[i] = low + int(hit[0] if i % 2 == 0 else hit[-1] + 1)
    return CropBox(*box)


def _inside(thumbnail: Thumbnail, inside: NDArray[np.bool_], near: Mask, window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Which pixels of a window lie above the threshold, smoothed as the thumbnail is, near the mask."""
    step = thumbnail.step
    size = step | 1  # an even one would lie half a pixel to one side
    smooth = cv2.blur(thumbnail.window(window), (size, size))
    down = np.minimum(np.arange(window[0].start, window[0].stop) // step, near.shape[0] - 1)
    across = np.minimum(np.arange(window[1].start, window[1].stop) // step, near.shape[1] - 1)
    close = near[down[0] : down[-1] + 1].take(across, axis=1).take(down - down[0], axis=0)
    found: NDArray[np.bool_] = looked_up(inside.view(np.uint8), np.asarray(smooth)).view(np.bool_) & (close > 0)
    return found
