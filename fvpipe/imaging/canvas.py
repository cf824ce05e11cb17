"""Where each view's crop goes on the sample's canvas, and how finely it must be decoded for that."""

from __future__ import annotations

from dataclasses import dataclass

from fvpipe.config.pipeline import Pipeline
from fvpipe.types import VIEWS, Segmentation

FRAME_PIXELS, CROP_PIXELS = 2.0, 1.25  # stored pixels an output pixel, at least, of a whole frame and of a crop
FRAME_SIDE = 768  # stored pixels of the longer side, at least, for the breast to be found on


def frame_level(shape: tuple[int, int], pipeline: Pipeline) -> int:
    """How often an image may be halved before its breast is found: whatever other view it is paired with.

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
    for panel in panels({i: shapes[i] for i in used_views(pipeline)}, pipeline):
        step = min(panel.canvas[0] / panel.target[2], panel.canvas[1] / panel.target[3])
        level = max(int(step / stored_pixels).bit_length() - 1, 0)
        for view in panel.offsets:
            levels[view] = min(levels[view], level)
    return levels[0], levels[1]


def used_views(pipeline: Pipeline) -> list[int]:
    """The views that are drawn."""
    return [i for i, view in enumerate(VIEWS) if pipeline.fuse.layout not in (v.value.lower() for v in VIEWS if v is not view)]


@dataclass(frozen=True, slots=True)
class Panel:
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


def panels(shapes: dict[int, tuple[int, ...]], pipeline: Pipeline) -> list[Panel]:
    """Where each view of a sample goes: one panel, or two side by side or one above the other."""
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
) -> Panel:
    canvas = canvas or (
        max(top + shapes[view][0] for view, (top, _) in offsets.items()),
        max(left + shapes[view][1] for view, (_, left) in offsets.items()),
    )
    if not letterbox:
        return Panel(canvas, offsets, part, channel)
    top, left, height, width = part
    scale = min(height / canvas[0], width / canvas[1])
    inner = (min(height, max(1, round(canvas[0] * scale))), min(width, max(1, round(canvas[1] * scale))))
    target = (top + (height - inner[0]) // 2, left + (width - inner[1]) // 2, *inner)
    return Panel(canvas, offsets, target, channel)
