"""Step 3: :class:`Picture` -> where the breast is.

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
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.indices import histogram, index_range, looked_up, real_ends
from fvpipe.params import Segment
from fvpipe.types import CropBox, Edge, Flag, Picture, Segmentation

Mask = NDArray[np.uint8]
Indices = NDArray[Any]  # uint8 or uint16

THUMBNAIL = 512  # pixels of the longer side at most
BLANKED = 0.015  # share of the longer side that is kept out of the threshold on every edge: film borders, frame lines
ROBUST = (0.001, 0.999)
LOG_GAIN = 1000.0
BINS = 256
OPENING = 1 / 160  # radius as a share of the longer side
LEAK_WIDTH, LEAK_LENGTH, LEAK_GAIN = 0.20, 0.03, 1.5  # shares of columns and rows; tissue must outshine a leak so much
SKIN, VALLEY = 0.4, 6  # how far the threshold may go down, as a share, and over how many bins on each side counts are summed
NIPPLE = 0.02  # of the breast at most, as a share
LEAK_NARROW, LEAK_UNLIKE = 0.12, 0.18  # of the columns: a wider one must keep its width, and each column its brightness
STRIPE_WIDTH = 0.16  # at most, as a share
STRIPE_LENGTH = 0.10  # of a stripe that does not start at the frame's edge, as a share
AGREEMENT = 0.9  # intersection over union at which `agreement` believes its two methods

GATES = {"share": (0.04, 0.85), "fill": (0.50, 1.0), "aspect": (0.18, 0.95), "lateral_edges": (1, 1)}
"""What a mask must show: share of the frame, share of its own box, width / height, lateral edges of the frame touched."""

# x at which log1p(LOG_GAIN x) passes from one bin to the next, rounded so that every math library agrees
_LOG_EDGES = np.array(
    [float(f"{math.expm1(j / BINS * math.log1p(LOG_GAIN)) / LOG_GAIN:.9e}") for j in range(1, BINS)], np.float64
)
_LINEAR_EDGES = np.arange(1, BINS) / BINS


def segment(picture: Picture, settings: Segment) -> Segmentation:
    """Find the breast.

    Parameters
    ----------
    picture : Picture
    settings : Segment
        `method` ``none`` gives the whole frame, unflagged.

    Returns
    -------
    Segmentation
    """
    whole = CropBox.whole(*picture.source_shape)
    if settings.method == "none":
        return Segmentation(whole, whole, None, 1, math.nan, "none", {})
    thumbnail = _thumbnail(picture)
    if thumbnail is None:
        return Segmentation(whole, whole, None, 1, math.nan, "whole_frame", {}, Flag.CC_CONSTANT | Flag.CC_CROP_FALLBACK)
    methods = ("otsu_log", "triangle") if settings.method == "agreement" else (settings.method,)
    attempts = [_attempt(thumbnail, method, settings.engine, picture.chest_wall) for method in methods]
    flags = Flag(0)
    chosen = attempts[0]
    if settings.method == "agreement":
        believed = chosen.passes and _overlap(chosen.mask, attempts[1].mask) >= AGREEMENT
    elif not chosen.passes and settings.method != "triangle":
        chosen, flags = _attempt(thumbnail, "triangle", settings.engine, picture.chest_wall), Flag.CC_TRIANGLE
        believed = chosen.passes
    else:
        believed = chosen.passes
    if not believed:
        return Segmentation(
            whole,
            whole,
            None,
            thumbnail.step * picture.scale,
            attempts[0].threshold,
            "whole_frame",
            attempts[0].gates,
            Flag.CC_CROP_FALLBACK,
        )
    if chosen.edges == {_other(picture.chest_wall)}:
        flags |= Flag.CHEST_WALL_CONFLICT
    tight = picture.in_source(_refine(thumbnail, chosen))
    margin = round(settings.margin * max(tight.height, tight.width))
    box = tight.grown(margin, *picture.source_shape)
    area, mean = _inside_of(thumbnail, chosen.mask)
    step = thumbnail.step * picture.scale
    return Segmentation(box, tight, chosen.mask, step, chosen.threshold, chosen.method, chosen.gates, flags, area, mean)


def _inside_of(thumbnail: _Thumbnail, mask: Mask) -> tuple[float, float]:
    """Area in source pixels and mean value. Summed without rounding, so that every processor agrees."""
    counts = histogram(thumbnail.indices, len(thumbnail.values), mask)
    present = np.flatnonzero(counts)
    total = int(counts.sum())
    mean = math.fsum((thumbnail.values[present] * counts[present]).tolist()) / total
    return float(total * (thumbnail.step * thumbnail.picture.scale) ** 2), mean


def full_mask(segmentation: Segmentation, rows: int, columns: int, scale: int = 1) -> Mask:
    """The outline's inside at the size of a picture's `stored`: uint8 (rows, columns), 255 on the breast."""
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
        In the picture's values; NaN where nothing lies above it.
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


def examine(picture: Picture, settings: Segment) -> Examined | None:
    """Every step of :func:`segment` with its numbers; None for a picture of one value.

    Parameters
    ----------
    picture : Picture
    settings : Segment

    Returns
    -------
    Examined or None
    """
    thumbnail = _thumbnail(picture)
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
            made.append(_attempt(thumbnail, method, settings.engine, picture.chest_wall))
    attempts = tuple(Attempt(each.method, each.threshold, each.gates, each.passes) for each in made)
    return Examined(counts, low, high, attempts, _overlap(made[0].mask, made[1].mask) if agreement else math.nan)


# --- the thumbnail, and what its values mean --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Thumbnail:
    """A small picture of indices, and for each index its place between robust minimum (0) and maximum (1).

    `background` is the index that stands for padding, here and in every window of the picture; None where there is none.
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
        return _border(self.indices.shape)


def _border(shape: tuple[int, ...]) -> int:
    return max(1, round(BLANKED * float(max(shape))))


def _thumbnail(picture: Picture) -> _Thumbnail | None:
    """None for a picture of one value."""
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
    border = _border(small.shape)  # a film's white border would move the range, and with it a faint nipple below the threshold
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
    return _Thumbnail(picture, background, small, step, counts, relative)


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


def _attempt(thumbnail: _Thumbnail, method: str, engine: str, chest_wall: Edge) -> _Attempt:
    bins = _bins(thumbnail, method)
    binned = looked_up(bins, thumbnail.indices)
    border = thumbnail.border
    interior = binned[border:-border, border:-border]
    counts = np.bincount(bins, thumbnail.counts, BINS).astype(np.int64)
    clean = _clean_simpleitk if engine == "simpleitk" else _clean_opencv
    if method == "triangle":
        threshold = triangle_threshold(counts)
    else:
        threshold = _otsu_simpleitk(interior) if engine == "simpleitk" else otsu_threshold(counts)
    if method == "otsu_log":
        threshold = _lowered(counts, threshold)
    bright = _above(binned, threshold)
    binary = np.zeros_like(bright)
    binary[border:-border, border:-border] = bright[border:-border, border:-border]
    radius = max(1, round(OPENING * max(binned.shape)))
    mask = clean(binary, radius, border, chest_wall)
    wall = _wall(mask, border, chest_wall)
    _reach_edges(mask, bright, border, wall)
    if _cut_stripes(binary, mask, thumbnail, wall):
        mask = clean(binary, radius, border, chest_wall)
        _reach_edges(mask, bright, border, wall)
    if _cut_leaks(binary, mask, thumbnail):
        mask = clean(binary, radius, border, chest_wall)
        _reach_edges(mask, bright, border, wall)
    measured = _measure(mask)
    if method == "otsu_log":
        joined = _rejoined(mask, binary, _above(binned, _share_of(threshold)), radius, wall)
        if joined is not mask and _passes(_measure(joined)[0]):  # or it was a label's plate
            mask, measured = joined, _measure(joined)
    inside = bins > threshold
    above = thumbnail.values[inside]
    return _Attempt(method, mask, inside, float(above.min()) if len(above) else math.nan, *measured)


def _above(binned: NDArray[np.uint8], threshold: int) -> Mask:
    return np.asarray(cv2.threshold(binned, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _bins(thumbnail: _Thumbnail, method: str) -> NDArray[np.uint8]:
    """For each index, its bin of 256: of the log above the background's mode, or linear."""
    if method != "otsu_log":
        return np.searchsorted(_LINEAR_EDGES, thumbnail.relative, side="right").astype(np.uint8)
    relative, counts = thumbnail.relative, thumbnail.counts
    mean = float((relative * counts).sum() / counts.sum())
    coarse = np.minimum((relative * 512).astype(np.int64), 511)
    filled = np.bincount(coarse, weights=counts, minlength=512)
    mode = (int(np.argmax(filled[: int(mean * 512) + 1])) + 0.5) / 512
    return np.searchsorted(_LOG_EDGES, np.maximum(relative - mode, 0.0), side="right").astype(np.uint8)


def otsu_threshold(counts: NDArray[np.int64]) -> int:
    """Otsu's threshold of a histogram: the last bin of the darker class (N. Otsu, 1979).

    The smallest of those with the largest variance between the classes, which is compared without rounding.
    """
    below = np.cumsum(counts)
    moment = np.cumsum(counts * np.arange(len(counts)))
    total, whole = int(below[-1]), int(moment[-1])
    between = np.flatnonzero((counts > 0) & (below < total))  # an empty bin changes nothing
    if not len(between):
        return 0
    share = below[between] / total
    rough = (moment[between] / whole - share) ** 2 / (share * (1 - share))
    likely = between[rough >= rough.max() * (1 - 1e-9)].tolist()  # only these are worked out exactly

    def variance(i: int) -> Fraction:
        dark = int(below[i])
        return Fraction((int(moment[i]) * total - whole * dark) ** 2, dark * (total - dark))

    return int(max(likely, key=lambda i: (variance(i), -i)))


def _lowered(counts: NDArray[np.int64], threshold: int) -> int:
    """The emptiest place between a share (`SKIN`) of a threshold on logarithms and itself.

    Otsu's lies well inside the skin where the background is black, and there the faint ring around a nipple may part it
    from the breast. Where noise or scatter fills what lies below, it stays.
    """
    lowest = _share_of(threshold)
    wide = np.convolve(counts, np.ones(2 * VALLEY + 1, np.int64))[VALLEY:-VALLEY]
    return lowest + int(np.argmin(wide[lowest : threshold + 1]))


def _share_of(threshold: int) -> int:
    """The bin of `SKIN` times the value at which a bin on logarithms ends."""
    return int(np.searchsorted(_LOG_EDGES, SKIN * _LOG_EDGES[min(threshold, BINS - 2)]))


def triangle_threshold(counts: NDArray[np.int64]) -> int:
    """Zack's triangle threshold for a background peak on the dark side (Zack, Rogers and Latt, 1977)."""
    occupied = np.flatnonzero(counts)
    peak, last = int(np.argmax(counts)), int(occupied[-1])
    if last <= peak:
        return peak
    positions = np.arange(peak, last + 1)
    # Distance below the line from the peak to the end, without its constant factor: integers, so exact.
    distance = (
        (last - positions) * int(counts[peak])
        + (positions - peak) * int(counts[last])
        - counts[peak : last + 1] * (last - peak)
    )
    return int(positions[int(np.argmax(distance))])


def _clean_opencv(binary: Mask, radius: int, border: int, chest_wall: Edge) -> Mask:
    """Open, take the component on the chest wall, give it back what opening rounded off, fill its holes."""
    left, top, width, height = cv2.boundingRect(binary)
    mask = np.zeros_like(binary)
    # Nothing comes of the empty frame around; a margin of the radius keeps the edges as they would be.
    around = tuple(slice(max(at - radius, 0), at + size + radius) for at, size in ((top, height), (left, width)))
    part = np.ascontiguousarray(binary[around])
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    opened = cv2.morphologyEx(part, cv2.MORPH_OPEN, kernel)
    labels, areas = _components(np.asarray(opened, np.uint8))
    if len(areas) < 2:
        return mask
    column = (border if chest_wall is Edge.LEFT else binary.shape[1] - 1 - border) - around[1].start
    chosen = _choose(labels, areas, column)
    component = cv2.inRange(labels, chosen, chosen)
    component = np.minimum(cv2.dilate(component, kernel), part)  # the nipple is thinner than the opening
    contours, _ = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    offset = (around[1].start, around[0].start)
    cv2.drawContours(mask, [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED, offset=offset)
    return mask


def _components(binary: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Labels of what hangs together by its sides, and the pixels of each; 0 is the background."""
    count, found = cv2.connectedComponents(binary, connectivity=4)
    labels = np.asarray(found, np.int32)
    if count == 2:
        area = cv2.countNonZero(binary)
        return labels, np.array([labels.size - area, area])
    return labels, histogram(labels.astype(np.uint16), count) if count <= 1 << 16 else np.bincount(labels.ravel())


def _clean_simpleitk(binary: Mask, radius: int, border: int, chest_wall: Edge) -> Mask:
    """The same chain by SimpleITK's filters: the reference that the fast engine is checked against."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    image = sitk.GetImageFromArray(binary)
    kernel = (sitk.sitkBall, [radius, radius])
    opened = sitk.BinaryMorphologicalOpening(image, kernel[1], kernel[0], 0, 255)
    labels = sitk.GetArrayFromImage(sitk.ConnectedComponent(opened == 255)).astype(np.int64)
    areas = np.bincount(labels.ravel())
    if len(areas) < 2:
        return np.zeros_like(binary)
    column = border if chest_wall is Edge.LEFT else binary.shape[1] - 1 - border
    component = np.where(labels == _choose(labels, areas, column), 255, 0).astype(np.uint8)
    grown = sitk.BinaryDilate(sitk.GetImageFromArray(component), kernel[1], kernel[0], 0, 255)
    grown = sitk.And(grown, image)
    largest = sitk.RelabelComponent(sitk.ConnectedComponent(grown == 255, True)) == 1
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(largest)).astype(np.uint8) * np.uint8(255)


def _otsu_simpleitk(interior: NDArray[np.uint8]) -> int:
    import SimpleITK as sitk

    otsu = sitk.OtsuThresholdImageFilter()
    otsu.SetNumberOfHistogramBins(BINS)
    otsu.SetNumberOfThreads(1)
    otsu.Execute(sitk.GetImageFromArray(interior))
    return int(otsu.GetThreshold())


def _choose(labels: NDArray[Any], areas: NDArray[np.int64], column: int) -> int:
    """The largest component on the chest wall's `column`; one anywhere else only if it dwarfs all of those."""
    areas = areas.copy()
    areas[0] = 0
    largest = int(np.argmax(areas))
    touching = np.zeros(len(areas), bool)
    if 0 <= column < labels.shape[1]:
        touching[labels[:, column]] = True
    touching[0] = False
    on_wall = int(np.argmax(np.where(touching, areas, 0)))
    return on_wall if touching[on_wall] and areas[on_wall] * 4 >= areas[largest] else largest


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


def _rejoined(mask: Mask, binary: Mask, dim: Mask, radius: int, chest_wall: Edge) -> Mask:
    """Give back a nipple that a dim ring parts from the breast: small, above the threshold, and linked by what is `dim`."""
    left, top, width, height = cv2.boundingRect(mask)
    if not width:
        return mask
    beside = binary & ~mask
    beside[:top], beside[top + height :] = 0, 0
    reach = 4 * radius
    if chest_wall is Edge.LEFT:
        wall, far = slice(0, left + width // 2), slice(left + width + reach, None)
    else:
        wall, far = slice(left + width // 2, None), slice(0, max(left - reach, 0))
    beside[:, wall] = 0  # where leaks are
    if cv2.countNonZero(beside) == cv2.countNonZero(np.ascontiguousarray(beside[:, far])):
        return mask  # what there is, labels for the most part, is out of reach
    blobs, areas = _components(beside)
    small = np.flatnonzero((areas >= radius * radius) & (areas <= NIPPLE * cv2.countNonZero(mask)))
    blob = np.isin(blobs, small[small > 0])
    left, top, width, height = cv2.boundingRect(blob.view(np.uint8))
    if not width:
        return mask
    around = tuple(slice(max(at - 2 * reach, 0), at + size + 2 * reach) for at, size in ((top, height), (left, width)))
    joined = mask.copy()
    here, blob, blobs = joined[around], blob[around], blobs[around]
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    bridge = (np.asarray(cv2.dilate(here, kernel), np.uint8) & dim[around]) | here
    _, linked = cv2.connectedComponents(bridge, connectivity=4)
    reached = np.isin(linked, np.unique(np.asarray(linked)[here > 0])) & (bridge > 0)
    blob = np.isin(blobs, np.unique(blobs[blob & reached])) & blob
    if not blob.any():
        return mask
    ring = reached & (cv2.dilate(blob.view(np.uint8), kernel) > 0)
    here[blob | ring] = 255
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros_like(mask)
    cv2.drawContours(filled, [max(contours, key=cv2.contourArea)], -1, 255, cv2.FILLED)
    return filled


def _cut_stripes(binary: Mask, mask: Mask, thumbnail: _Thumbnail, chest_wall: Edge) -> bool:
    """Take stripes of the background and the paddle's line, which join the breast to the frame, out of `binary`.

    They keep their width from the frame's edge to the breast; a breast that is cut by the frame widens at once.
    """
    indices = thumbnail.indices
    if chest_wall is Edge.RIGHT:
        binary, mask, indices = binary[:, ::-1], mask[:, ::-1], indices[:, ::-1]
    left, top, width, height = cv2.boundingRect(np.ascontiguousarray(mask))
    if not width:
        return False
    rows, columns = mask.shape
    across = (binary[:, ::-1].T, mask[:, ::-1].T, indices[:, ::-1].T)
    found = _cut_stripes_of(*across, thumbnail.relative, columns - left - width, 0)
    # From the top, from the bottom; `_cut_leaks` sees to the chest wall.
    for order, line in ((slice(None), top), (slice(None, None, -1), rows - top - height)):
        found |= _cut_stripes_of(binary[order], mask[order], indices[order], thumbnail.relative, line, 1)
    return found


def _cut_stripes_of(binary: Mask, mask: Mask, indices: Indices, relative: NDArray[np.float64], line: int, first: int) -> bool:
    """The same for those that run on from the mask's first `line`, at place `first` or after."""
    depth, places = mask.shape
    shortest = LEAK_LENGTH * depth
    if line:  # where padding ends; a nipple does not keep its width for so long
        line, shortest = min(line + round(OPENING * max(mask.shape)), depth - 1), STRIPE_LENGTH * depth
    found = False
    ends = np.flatnonzero(np.diff(np.concatenate([[0], mask[line] > 0, [0]]).astype(np.int8))).tolist()
    for start, end in zip(ends[::2], ends[1::2], strict=True):
        width = end - start
        if start < first or width > STRIPE_WIDTH * places:
            continue
        beside = 2 + width // 4
        around = slice(max(start - beside, 0), end + beside)
        covered = (mask[line:, around] > 0).sum(axis=1)
        room = mask[:, around].shape[1] - width  # less than twice `beside` in a corner of the frame
        other = np.flatnonzero((covered > width + room / 2) | (covered < width / 2))
        length = int(other[0]) if len(other) else depth - line
        if length >= shortest:
            stripe = relative[indices[: line + length, around]]
            level = np.median(stripe[line:, start - around.start : end - around.start])
            binary[: line + length, around][stripe <= LEAK_GAIN * level] = 0
            found = True
    return found


def _cut_leaks(binary: Mask, mask: Mask, thumbnail: _Thumbnail) -> bool:
    """Take light that leaks along the chest wall, above and below the breast, out of `binary`.

    A digitised film's edge, and the paddle's shadow, join the breast and stretch its box to the frame's height. They
    differ from tissue in running to the frame's top or bottom as a strip of one width, with one brightness at each
    distance from the edge; where the breast begins beneath it, it outshines the leak.
    """
    rows, columns = mask.shape
    wall = next((column for column in (0, columns - 1) if mask[:, column].any()), None)
    if wall is None:
        return False
    from_wall = slice(None) if wall == 0 else slice(None, None, -1)
    reach = min(math.ceil(1.3 * LEAK_WIDTH * columns) + 4, columns)  # whatever is wider is no leak, how wide it may be
    beside = mask[:, from_wall][:, :reach]
    widths = np.where(beside.min(axis=1) > 0, columns, np.argmin(beside, axis=1))
    found = False
    for order in (slice(None), slice(None, None, -1)):  # from the top, from the bottom
        first = int(np.flatnonzero(widths[order])[0])  # not 0 where rows were padded on
        shortest = STRIPE_LENGTH if first else LEAK_LENGTH
        first = min(first + (round(OPENING * max(mask.shape)) if first else 0), rows - 1)
        end = int(widths[order][first])
        if not 0 < end <= LEAK_WIDTH * columns:
            continue
        wide = end > LEAK_NARROW * columns  # a breast that the frame cuts is wide too, and may widen slowly
        steady = 1.15 if wide else 1.3
        other = np.flatnonzero((widths[order] > steady * end + 2)[first:])
        length = first + int(other[0]) if len(other) else rows
        if length - first < max(shortest * rows, end / 2):
            continue
        reach = min(round(1.5 * end) + 3, columns)
        strip = thumbnail.relative[thumbnail.indices[order, from_wall][:length, :reach]]
        middle = max((first + length) // 2, first + 1)
        lines = np.sort(strip[min(max(first, _border(mask.shape)), middle - 1) : middle], axis=0)  # no film's border
        leak, tenth = np.median(lines, axis=0), len(lines) // 10
        unlike = np.median((lines[-1 - tenth] - lines[tenth])[:end] / np.maximum(leak[:end], 1 / BINS))
        if wide and unlike > LEAK_UNLIKE:
            continue
        binary[order, from_wall][:length, :reach][strip <= LEAK_GAIN * leak] = 0
        found = True
    return found


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


def _refine(thumbnail: _Thumbnail, attempt: _Attempt) -> CropBox:
    """Move each edge of the thumbnail's box to where the threshold lies at full size, within a narrow band."""
    step = thumbnail.step
    rows, columns = thumbnail.picture.shape
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


def _inside(thumbnail: _Thumbnail, inside: NDArray[np.bool_], near: Mask, window: tuple[slice, slice]) -> NDArray[np.bool_]:
    """Which pixels of a window lie above the threshold, smoothed as the thumbnail is, near the mask."""
    step = thumbnail.step
    size = step | 1  # an even one would lie half a pixel to one side
    smooth = cv2.blur(thumbnail.window(window), (size, size))
    down = np.minimum(np.arange(window[0].start, window[0].stop) // step, near.shape[0] - 1)
    across = np.minimum(np.arange(window[1].start, window[1].stop) // step, near.shape[1] - 1)
    close = near[down[0] : down[-1] + 1].take(across, axis=1).take(down - down[0], axis=0)
    found: NDArray[np.bool_] = looked_up(inside.view(np.uint8), np.asarray(smooth)).view(np.bool_) & (close > 0)
    return found
