"""Layout of the crops on the canvas of a sample, and the resolution at which they must be decoded for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.segmentation.segment import Segmentation
from fvpipe.types import VIEWS, View

FRAME_OVERSAMPLING, CROP_OVERSAMPLING = 2.0, 1.25  # stored pixels per output pixel at least, of a whole image and of a crop
NARROW = 0.5  # of the width of the widest row: rows of a warp that are narrower are few, and may be enlarged
FRAME_MIN_SIDE = 768  # stored pixels of the longer side at least, for segmentation


def frame_level(shape: tuple[int, int], pipeline: Pipeline) -> int:
    """Number of times that an image may be halved before segmentation, whichever view it is paired with.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the source image.
    pipeline : Pipeline
        Settings; the level is 0 unless they decode at reduced resolution.
    """
    level = min(_levels((shape, shape), pipeline, FRAME_OVERSAMPLING))
    return min(level, max((max(shape) // FRAME_MIN_SIDE).bit_length() - 1, 0))


def crop_levels(segmentations: Sequence[Segmentation | None], pipeline: Pipeline) -> tuple[int, int]:
    """Number of times that CC and MLO may be halved, given their crops; 0 unless the pipeline decodes at reduced resolution."""
    cc, mlo = (_finest(s, pipeline) if s else (0, 0) for s in segmentations)
    return _levels((cc, mlo), pipeline, CROP_OVERSAMPLING)


def _finest(segmentation: Segmentation, pipeline: Pipeline) -> tuple[int, int]:
    """Rows and columns of a crop; of one that is warped, those of a crop whose pixels were all as small as the smallest."""
    height, width = segmentation.box.height, segmentation.box.width
    if pipeline.resize.method != "equal_area" or math.isnan(segmentation.area):
        return height, width
    # The wider a row, the lower: where it is widest, as much lower than the mean as the outline leaves of its box. The
    # narrowest rows are near the ends; one stored pixel per output pixel is enough there.
    fill = min(segmentation.area / (height * width), 1.0)
    narrow = min(max(pipeline.resize.stretch, NARROW) * CROP_OVERSAMPLING, 1.0)
    return max(int(height * fill), 1), max(int(width * narrow), 1)


def _levels(shapes: tuple[tuple[int, int], tuple[int, int]], pipeline: Pipeline, oversampling: float) -> tuple[int, int]:
    if not pipeline.resize.reduced:
        return 0, 0
    levels = [32, 32]  # no limit for a view that is not in the image
    for panel in lay_out({i: shapes[i] for i in views_in_image(pipeline)}, pipeline):
        step = min(panel.canvas[0] / panel.target[2], panel.canvas[1] / panel.target[3])
        level = max(int(step / oversampling).bit_length() - 1, 0)
        for view in panel.offsets:
            levels[view] = min(levels[view], level)
    return levels[0], levels[1]


def views_in_image(pipeline: Pipeline) -> list[int]:
    """Positions in :data:`VIEWS` of the views that the pipeline puts into the image."""
    return {"cc": [0], "mlo": [1]}.get(pipeline.fuse.layout, [0, 1])


def needed_views(pipeline: Pipeline) -> tuple[View, ...]:
    """The views without which the pipeline makes no image."""
    return tuple(VIEWS[i] for i in views_in_image(pipeline))


@dataclass(frozen=True, slots=True)
class Panel:
    """A canvas in source pixels and the rectangle of the output image to which it is resized."""

    canvas: tuple[int, int]  # rows and columns in source pixels
    offsets: dict[int, tuple[int, int]]  # top and left edge of each view on the canvas, by its position in :data:`VIEWS`
    target: tuple[int, int, int, int]  # top, left, height, width in output pixels
    channel: int = 0  # of the output image

    def placement(self, view: int, shape: tuple[int, ...], mirrored: bool) -> tuple[float, float, float, float]:
        """Top, bottom, left, right of a view in output pixels.

        Parameters
        ----------
        view : int
            Position in :data:`VIEWS`.
        shape : (int, int)
            Rows and columns of its crop in source pixels.
        mirrored : bool
            Exchange left and right.
        """
        top, left = self.offsets[view]
        across, down = self.target[3] / self.canvas[1], self.target[2] / self.canvas[0]
        ends = (self.target[1] + left * across, self.target[1] + (left + shape[1]) * across)
        first, last = ends[::-1] if mirrored else ends
        return self.target[0] + top * down, self.target[0] + (top + shape[0]) * down, first, last


def lay_out(shapes: dict[int, tuple[int, ...]], pipeline: Pipeline) -> list[Panel]:
    """Lay out the views of a sample: on one canvas, or on one each.

    Parameters
    ----------
    shapes : dict of int to (int, int)
        Rows and columns of each crop in source pixels, by its position in :data:`VIEWS`.
    pipeline : Pipeline
        Layout, alignment, aspect and size.
    """
    height, width = pipeline.size
    settings, letterbox = pipeline.fuse, pipeline.resize.aspect == "letterbox"
    if len(shapes) == 1:
        (view,) = shapes
        return [_panel(shapes, {view: (0, 0)}, (0, 0, height, width), letterbox)]
    (cc_height, cc_width), (mlo_height, mlo_width) = ((s[0], s[1]) for s in (shapes[0], shapes[1]))
    if settings.layout == "channels":
        common = (max(cc_height, mlo_height), max(cc_width, mlo_width)) if settings.align == "pad" else None
        return [_panel(shapes, {view: (0, 0)}, (0, 0, height, width), letterbox, view, common) for view in (0, 1)]
    side_by_side = settings.layout == "side_by_side"
    if settings.align == "pad":
        offsets = {0: (0, 0), 1: (0, cc_width) if side_by_side else (cc_height, 0)}
        return [_panel(shapes, offsets, (0, 0, height, width), letterbox)]
    first = width // 2 if side_by_side else height // 2
    targets = (
        ((0, 0, height, first), (0, first, height, width - first))
        if side_by_side
        else ((0, 0, first, width), (first, 0, height - first, width))
    )
    return [_panel(shapes, {view: (0, 0)}, target, letterbox) for view, target in enumerate(targets)]


def _panel(
    shapes: dict[int, tuple[int, ...]],
    offsets: dict[int, tuple[int, int]],
    target: tuple[int, int, int, int],
    letterbox: bool,
    channel: int = 0,
    canvas: tuple[int, int] | None = None,
) -> Panel:
    canvas = canvas or (
        max(top + shapes[view][0] for view, (top, _) in offsets.items()),
        max(left + shapes[view][1] for view, (_, left) in offsets.items()),
    )
    if not letterbox:
        return Panel(canvas, offsets, target, channel)
    top, left, height, width = target
    scale = min(height / canvas[0], width / canvas[1])
    inner = (min(height, max(1, round(canvas[0] * scale))), min(width, max(1, round(canvas[1] * scale))))
    centered = (top + (height - inner[0]) // 2, left + (width - inner[1]) // 2, *inner)
    return Panel(canvas, offsets, centered, channel)
