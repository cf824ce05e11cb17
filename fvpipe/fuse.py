"""Step 4: two pictures and where their breasts are -> :class:`FusedSample`. Pure.

Normalisation comes before interpolation here and after it in the paper; both are linear, so the numbers are the same,
and so a stored value becomes its final value by one table look-up, only for the pixels that an output pixel needs.
Arithmetic is plain float64, one operation at a time: the bytes are the same on every processor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.area import window_means, windows
from fvpipe.config.pipeline import Intensity, Pipeline
from fvpipe.indices import histogram, real_ends
from fvpipe.reasons import Flag
from fvpipe.segment import full_mask
from fvpipe.thumbnail import beside_padding
from fvpipe.types import VIEWS, Edge, FusedSample, Picture, Segmentation

Values = NDArray[np.float64]

SCALES = {"uint16": 65535, "uint8": 255, "float32": 1}
"""What 1.0 is stored as, by `dtype`."""

FRAME_PIXELS, CROP_PIXELS = 2.0, 1.25  # stored pixels an output pixel, at least, of a whole frame and of a crop
FRAME_SIDE = 768  # stored pixels of the longer side, at least, for the breast to be found on


def frame_level(shape: tuple[int, int], pipeline: Pipeline) -> int:
    """How often a picture may be halved before its breast is found: whatever other view it is paired with.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the source.
    pipeline : Pipeline
        0 unless it resizes by ``wavelet``.
    """
    level = min(_levels((shape, shape), pipeline, FRAME_PIXELS))
    return min(level, max((max(shape) // FRAME_SIDE).bit_length() - 1, 0))


def crop_levels(segmentations: tuple[Segmentation, Segmentation], pipeline: Pipeline) -> tuple[int, int]:
    """How often CC and MLO may be halved, their crops being what they are; 0 unless `pipeline` resizes by ``wavelet``."""
    cc, mlo = ((s.box.height, s.box.width) for s in segmentations)
    return _levels((cc, mlo), pipeline, CROP_PIXELS)


def _levels(shapes: tuple[tuple[int, int], tuple[int, int]], pipeline: Pipeline, stored_pixels: float) -> tuple[int, int]:
    if pipeline.resize.method != "wavelet":
        return 0, 0
    levels = [32, 32]  # any number, for a view that is not drawn
    for panel in _panels({i: shapes[i] for i in _used(pipeline)}, pipeline):
        step = min(panel.canvas[0] / panel.target[2], panel.canvas[1] / panel.target[3])
        level = max(int(step / stored_pixels).bit_length() - 1, 0)
        for view in panel.offsets:
            levels[view] = min(levels[view], level)
    return levels[0], levels[1]


def fuse(
    pictures: tuple[Picture, Picture], segmentations: tuple[Segmentation, Segmentation], pipeline: Pipeline
) -> FusedSample:
    """Crop, normalise, fuse and resize one breast.

    Parameters
    ----------
    pictures : (Picture, Picture)
        CC, MLO.
    segmentations : (Segmentation, Segmentation)
        CC, MLO.
    pipeline : Pipeline

    Returns
    -------
    FusedSample
    """
    crops = tuple(_crop(p, s, pipeline) for p, s in zip(pictures, segmentations, strict=True))
    used = _used(pipeline)
    tables, ranges = _normalisation([crops[i] for i in used], pipeline.intensity)
    sources = {i: _Source(crops[i], table) for i, table in zip(used, tables, strict=True)}
    size: tuple[int, int] = pipeline.size
    channels = 2 if pipeline.fuse.layout == "channels" else 1
    image = np.zeros((channels, *size), np.float64)
    placement = np.full((2, 4), -1, np.float32)
    for panel in _panels({i: crops[i].shape for i in used}, pipeline):
        render = _bilinear if pipeline.resize.method == "bilinear" else _area
        top, left, height, width = panel.target
        image[panel.channel, top : top + height, left : left + width] = render(panel, sources)
        for i in panel.offsets:
            placement[i] = panel.placement(i, crops[i].shape, crops[i].mirrored)
    flags = _flags(pictures, segmentations)
    if all(high <= low for low, high in ranges):
        flags |= Flag.CONSTANT_IMAGE
    return FusedSample(
        image=_store(image if channels > 1 else image[0], pipeline.dtype),
        boxes=np.array([s.box.as_tuple() for s in segmentations], np.int32),
        source_shape=np.array([p.source_shape for p in pictures], np.int32),
        placement=placement,
        intensity_range=_ranges_array(ranges, used, pipeline.intensity),
        breast_area=np.array([s.area for s in segmentations], np.float32),
        breast_mean=_means(segmentations, ranges, used),
        source_digests=(pictures[0].source_digest, pictures[1].source_digest),
        pixel_digests=(pictures[0].pixel_digest, pictures[1].pixel_digest),
        flags=flags,
    )


def _used(pipeline: Pipeline) -> list[int]:
    """The views that are drawn."""
    return [i for i, view in enumerate(VIEWS) if pipeline.fuse.layout not in (v.value.lower() for v in VIEWS if v is not view)]


def _means(
    segmentations: tuple[Segmentation, Segmentation], ranges: list[tuple[float, float]], used: list[int]
) -> NDArray[np.float32]:
    """The mean inside each outline as a share of the range that its view was normalised by; NaN where there is none."""
    means = np.full(2, np.nan, np.float32)
    for i, view in enumerate(used):
        low, high = ranges[min(i, len(ranges) - 1)]
        if high > low:
            means[view] = (segmentations[view].mean - low) / (high - low)
    return means


def _store(image: Values, dtype: str) -> NDArray[Any]:
    if dtype == "float32":
        return image.astype(np.float32)
    return np.rint(image * SCALES[dtype]).astype(dtype)


def _flags(pictures: tuple[Picture, Picture], segmentations: tuple[Segmentation, Segmentation]) -> Flag:
    cc, mlo = segmentations
    per_view = Flag.CC_CROP_FALLBACK | Flag.CC_TRIANGLE | Flag.CC_CONSTANT  # each MLO bit stands one above its CC bit
    flags = cc.flags | (mlo.flags & ~per_view) | Flag(int(mlo.flags & per_view) << 1)
    flags |= pictures[0].flags | pictures[1].flags
    return flags | (Flag.SIZES_DIFFER if pictures[0].source_shape != pictures[1].source_shape else Flag(0))


# --- crops and their values -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Crop:
    """The stored pixels under a box.

    `shape` is the box's, in source pixels; `before` is how many stored pixels, in parts, lie before its top and left edge.
    """

    picture: Picture
    indices: NDArray[Any]
    outside: NDArray[np.bool_] | None  # True where mask_outside puts the background
    mirrored: bool
    shape: tuple[int, int]
    before: tuple[float, float]


def _crop(picture: Picture, segmentation: Segmentation, pipeline: Pipeline) -> _Crop:
    box = segmentation.box
    rows, above = _stored(box.top, box.bottom, picture.scale, picture.shape[0])
    columns, before = _stored(box.left, box.right, picture.scale, picture.shape[1])
    indices = picture.stored[rows, columns]
    outside = None
    if pipeline.segment.mask_outside and segmentation.mask is not None:
        outside = full_mask(segmentation, *picture.shape, picture.scale)[rows, columns] == 0
    conflict = Flag.CHEST_WALL_CONFLICT in segmentation.flags
    mirrored = pipeline.fuse.canonical_side == "left" and (picture.chest_wall is Edge.RIGHT) != conflict
    if mirrored:
        indices, outside = indices[:, ::-1], None if outside is None else outside[:, ::-1]
        before = indices.shape[1] - box.width / picture.scale - before
    return _Crop(picture, indices, outside, mirrored, (box.height, box.width), (above, before))


def _stored(start: int, stop: int, scale: int, length: int) -> tuple[slice, float]:
    """The stored pixels that cover source pixels `start` to `stop`, and how many of them lie before `start`."""
    first, last = (2 * start - 1 + scale) // (2 * scale), -((1 - scale - 2 * stop) // (2 * scale))
    return slice(first, min(last, length)), (start - 0.5) / scale + 0.5 - first


def _normalisation(crops: list[_Crop], intensity: Intensity) -> tuple[list[Values], list[tuple[float, float]]]:
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
            table = np.clip((crop.picture.values - low) / span, 0.0, 1.0) if span > 0 else np.zeros_like(crop.picture.values)
            if crop.picture.padding is not None:
                table[crop.picture.padding] = 0.0  # padding takes the minimum over real pixels
            tables.append(table)
    return tables, ranges


def _extremes(crop: _Crop) -> tuple[float, float] | None:
    """Minimum and maximum value over real pixels; None where there is none."""
    picture = crop.picture
    forwards = crop.indices[:, ::-1] if crop.mirrored else crop.indices
    plain = crop.outside is None and picture.direction and (picture.scale == 1 or picture.padding is None)
    ends = real_ends(forwards, picture.padding) if plain else None
    values = picture.values[_counts(crop) > 0] if ends is None else picture.values[list(ends)]
    return (float(values.min()), float(values.max())) if len(values) else None


def _counts(crop: _Crop) -> NDArray[np.int64]:
    """How often each index occurs among real pixels."""
    indices, outside = crop.indices, crop.outside
    if crop.mirrored:  # OpenCV reads no picture backwards
        indices, outside = indices[:, ::-1], None if outside is None else outside[:, ::-1]
    if crop.picture.scale > 1 and crop.picture.padding is not None:
        mixed = beside_padding(indices, crop.picture.padding)
        outside = mixed if outside is None else mixed | outside
    counts = histogram(indices, len(crop.picture.values), None if outside is None else (~outside).view(np.uint8))
    if crop.picture.padding is not None:
        counts[crop.picture.padding] = 0
    return counts


def _percentiles(crops: list[_Crop], shares: tuple[float, float]) -> tuple[float, float]:
    """Values at two percentiles of all real pixels of `crops` together (the lower of two neighbours)."""
    values = np.concatenate([crop.picture.values for crop in crops])
    counts = np.concatenate([_counts(crop) for crop in crops])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(counts[order])
    if not reached[-1]:
        return 0.0, 0.0
    low, high = (float(values[order[np.searchsorted(reached, max(share / 100 * reached[-1], 1))]]) for share in shares)
    return low, high


def _ranges_array(ranges: list[tuple[float, float]], used: list[int], intensity: Intensity) -> NDArray[np.float32]:
    if not intensity.per_view:
        return np.array(ranges[0], np.float32)
    per_view = np.full((2, 2), np.nan, np.float32)
    per_view[used] = ranges
    return per_view


# --- where each view goes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Source:
    """A crop as it is drawn: index -> final value."""

    crop: _Crop
    table: Values

    def at(self, rows: Any, columns: Any) -> Values:
        """Final values where `rows` and `columns` meet."""
        indices, outside = self.crop.indices, self.crop.outside
        found: Values = self.table.take(indices[rows][:, columns])  # whole rows first: faster than both at once
        return found if outside is None else np.where(outside[rows][:, columns], 0.0, found)


@dataclass(frozen=True, slots=True)
class _Panel:
    """A canvas in source pixels, the views on it, and the rectangle of the output that it is resized to."""

    canvas: tuple[int, int]  # rows, columns
    offsets: dict[int, tuple[int, int]]  # view -> top, left on the canvas
    target: tuple[int, int, int, int]  # top, left, height, width in the output
    channel: int = 0

    def placement(self, view: int, shape: tuple[int, ...], mirrored: bool) -> tuple[float, float, float, float]:
        """Top, bottom, left, right of `view` in the output; left > right where it is mirrored."""
        top, left = self.offsets[view]
        across, down = self.target[3] / self.canvas[1], self.target[2] / self.canvas[0]
        ends = (self.target[1] + left * across, self.target[1] + (left + shape[1]) * across)
        first, last = ends[::-1] if mirrored else ends
        return self.target[0] + top * down, self.target[0] + (top + shape[0]) * down, first, last


def _panels(shapes: dict[int, tuple[int, ...]], pipeline: Pipeline) -> list[_Panel]:
    height, width = pipeline.size
    settings, letterbox = pipeline.fuse, pipeline.resize.aspect == "letterbox"
    if len(shapes) == 1:
        (view,) = shapes
        return [_panel(shapes, {view: (0, 0)}, (0, 0, height, width), letterbox)]
    (cc_height, cc_width), (mlo_height, mlo_width) = ((s[0], s[1]) for s in (shapes[0], shapes[1]))
    if settings.layout == "channels":
        common = (max(cc_height, mlo_height), max(cc_width, mlo_width)) if settings.align == "pad" else None
        return [_panel(shapes, {view: (0, 0)}, (0, 0, height, width), letterbox, view, common) for view in (0, 1)]
    beside = settings.layout == "side_by_side"
    if settings.align == "pad":
        offsets = {0: (0, 0), 1: (0, cc_width) if beside else (cc_height, 0)}
        return [_panel(shapes, offsets, (0, 0, height, width), letterbox)]
    first = width // 2 if beside else height // 2
    parts = (
        ((0, 0, height, first), (0, first, height, width - first))
        if beside
        else ((0, 0, first, width), (first, 0, height - first, width))
    )
    return [_panel(shapes, {view: (0, 0)}, part, letterbox) for view, part in enumerate(parts)]


def _panel(
    shapes: dict[int, tuple[int, ...]],
    offsets: dict[int, tuple[int, int]],
    part: tuple[int, int, int, int],
    letterbox: bool,
    channel: int = 0,
    canvas: tuple[int, int] | None = None,
) -> _Panel:
    canvas = canvas or (
        max(top + shapes[view][0] for view, (top, _) in offsets.items()),
        max(left + shapes[view][1] for view, (_, left) in offsets.items()),
    )
    if not letterbox:
        return _Panel(canvas, offsets, part, channel)
    top, left, height, width = part
    scale = min(height / canvas[0], width / canvas[1])
    inner = (min(height, max(1, round(canvas[0] * scale))), min(width, max(1, round(canvas[1] * scale))))
    target = (top + (height - inner[0]) // 2, left + (width - inner[1]) // 2, *inner)
    return _Panel(canvas, offsets, target, channel)


# --- drawing ----------------------------------------------------------------------------------------------------------


def _bilinear(panel: _Panel, sources: dict[int, _Source]) -> Values:
    """Bilinear with half-pixel centres and no antialiasing, the default of the common libraries, by gathering the four
    neighbours of each output pixel.
    """
    _, _, height, width = panel.target
    rows, down = _neighbours(panel.canvas[0], height)
    columns, across = _neighbours(panel.canvas[1], width)
    corners = np.zeros((2, 2, height, width), np.float64)  # what no view covers is the background
    for view, (top, left) in panel.offsets.items():
        view_height, view_width = sources[view].crop.indices.shape
        for i, row in enumerate(rows):
            drawn = _within(row, top, view_height)
            for j, column in enumerate(columns):
                beside = _within(column, left, view_width)
                corners[i, j, drawn, beside] = sources[view].at(row[drawn] - top, column[beside] - left)
    left_right = corners[:, 0] * (1 - across) + corners[:, 1] * across
    found: Values = left_right[0] * (1 - down)[:, None] + left_right[1] * down[:, None]
    return found


def _neighbours(source: int, target: int) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], Values]:
    """The lower and the upper neighbour of each output pixel, and how far it lies towards the upper."""
    centre = np.clip((np.arange(target) + 0.5) * (source / target) - 0.5, 0, source - 1)
    lower = np.floor(centre).astype(np.int64)
    return (lower, np.minimum(lower + 1, source - 1)), centre - lower


def _within(places: NDArray[np.int64], first: int, count: int) -> slice:
    """Which of ascending `places` lie on the `count` from `first`."""
    return slice(*np.searchsorted(places, (first, first + count)).tolist())


def _area(panel: _Panel, sources: dict[int, _Source]) -> Values:
    """The mean over the area that an output pixel covers: antialiased."""
    _, _, height, width = panel.target
    image = np.zeros((height, width), np.float64)  # what no view covers is the background
    for view, offsets in panel.offsets.items():
        crop = sources[view].crop
        down, across = (
            windows(target, canvas, offset, length, crop.picture.scale, before)
            for target, canvas, offset, length, before in zip(
                (height, width), panel.canvas, offsets, crop.shape, crop.before, strict=True
            )
        )
        means = window_means(crop.indices, sources[view].table, crop.outside, down, across)
        image[down.first : down.first + len(means), across.first : across.first + means.shape[1]] += means
    return image
