"""The paper's Figures 3 and 4: a pipeline step by step on one breast."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.figures.steps import PipelineSteps, ViewSteps
from fvpipe.figures.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SIMULATED,
    SKY,
    SMALL,
    WIDTH,
    Drawing,
    figure_of,
    heading,
    page,
)
from fvpipe.imaging.segmentation.threshold import BINS, log_bins
from fvpipe.report.drawing import channels_side_by_side
from fvpipe.shards.coordinates import coordinates_of
from fvpipe.types import SCALES, VIEWS

Line = NDArray[np.float64]

GRID = 32  # sample pixels between two lines
TOP, ROW, PANEL, BOTTOM = 0.72, 1.92, 1.58, 0.28  # inches: heading, a view, its image, settings
LEFT, GAP = 0.3, 0.13  # inches: names of the views, between columns


def draw_pipeline(steps: PipelineSteps, dataset: str, simulated: bool) -> Drawing:
    """Draw what each step of a pipeline makes of a breast.

    Parameters
    ----------
    simulated : bool
        Whether the data set is simulated.
    """
    columns: list[tuple[str, str, float, Callable[[Axes, ViewSteps], None]]] = [("Decode", "image as stored", 1.02, _draw_film)]
    if steps.pipeline.segment.method != "none":
        columns.append(("Threshold", "log of the counts", 1.1, _draw_histogram))
        columns.append(("Segment", "outline, crop box", 1.02, _draw_outline))
        columns.append(("Crop", "normalized", 0.85, lambda axes, view: _draw_crop(axes, view, _grid(view, steps))))
    else:
        columns.append(("Normalize", "the whole image", 1.02, lambda axes, view: _draw_crop(axes, view, _grid(view, steps))))
    height = TOP + ROW * len(steps.views) + BOTTOM
    axes = page(height)
    figure = figure_of(axes)
    heading(axes, f"Pipeline {steps.name}")
    where = f"{dataset}, {SIMULATED}" if simulated else f"a breast of {dataset}"
    axes.text(WIDTH - 0.05, 0.16, where, color=RED if simulated else GREY, ha="right", va="center")
    free = WIDTH - LEFT - 0.08 - sum(width for *_, width, _ in columns)
    side = min(free - len(columns) * GAP, 3.0, ROW * (len(steps.views) - 1) + PANEL - 0.2)
    gap = (free - side) / len(columns)
    left = LEFT
    for number, (title, below, width, draw) in enumerate(columns, 1):
        _title(axes, left + width / 2, f"{number}  {title}", below)
        for i, view in enumerate(steps.views):
            top = TOP + i * ROW
            draw(figure.add_axes((left / WIDTH, 1 - (top + PANEL) / height, width / WIDTH, PANEL / height)), view)
        left += width + gap
    for i, view in enumerate(steps.views):
        axes.text(0.12, TOP + i * ROW + PANEL / 2, view.view.value, fontweight="bold", ha="center", va="center", rotation=90)
    rows, across = steps.sample.image.shape[-2:]
    _title(axes, left + side / 2, f"{len(columns) + 1}  Fuse", f"{rows} x {across} pixels")
    middle = TOP + (ROW * (len(steps.views) - 1) + PANEL) / 2
    _draw_sample(figure.add_axes((left / WIDTH, 1 - (middle + side / 2) / height, side / WIDTH, side / height)), steps)
    for i, line in enumerate(settings_text(steps.pipeline)):
        axes.text(0.05, height - BOTTOM + 0.02 + i * 0.14, line, fontsize=SMALL, color=GREY, va="center")
    caption = f"Pipeline {steps.name}, step by step, on one breast of {dataset}{f' ({SIMULATED})' if simulated else ''}."
    caption += f" The thin lines of step {len(columns)} are every {GRID}th edge of the pixels of the sample."
    return Drawing(f"pipeline-{steps.name}", caption, figure)


def settings_text(pipeline: Pipeline) -> tuple[str, str]:
    """Say in two lines what a pipeline does."""
    segment, fuse, intensity, resize = pipeline.segment, pipeline.fuse, pipeline.intensity, pipeline.resize
    cut = "no segmentation" if segment.method == "none" else f"{segment.method}, margin {segment.margin:g}"
    value = intensity.method + (
        f" {intensity.percentiles[0]:g} to {intensity.percentiles[1]:g}" if intensity.method.startswith("perc") else ""
    )
    value += f" of the {intensity.region}" if intensity.region != "crop" else ""
    value += f", median to {intensity.median:g}" if intensity.median is not None else ""
    laid = f"{fuse.layout}, {fuse.align}" + (", mirrored to the left" if fuse.canonical_side == "left" else "")
    return f"segment: {cut}   |   fuse: {laid}", f"intensity: {value}   |   resize: {resize.method}, {resize.aspect}"


def _title(axes: Axes, center: float, title: str, below: str) -> None:
    axes.text(center, 0.42, title, fontweight="bold", ha="center", va="center")
    axes.text(center, 0.57, below, fontsize=SMALL, color=GREY, ha="center", va="center")


def _draw_film(axes: Axes, view: ViewSteps) -> None:
    _show(axes, view.film, view.shape)
    _below(axes, f"{view.shape[0]} x {view.shape[1]}, {view.bits} bits")


def _draw_histogram(axes: Axes, view: ViewSteps) -> None:
    found = view.histogram
    if found is None:
        axes.axis("off")
        axes.text(0.5, 0.5, "no histogram", transform=axes.transAxes, fontsize=SMALL, ha="center")
        return
    axes.stairs(found.counts + 0.5, fill=True, color="#aab2bc", baseline=0.5)
    axes.set_yscale("log")
    axes.set(xlim=(0, BINS), ylim=(0.5, found.counts.max() * 4), yticks=[])
    axes.minorticks_off()
    shares = (0.001, 0.01, 0.1, 1) if found.is_log else (0, 0.5, 1)
    places = log_bins(np.array(shares)) if found.is_log else np.array(shares) * BINS
    axes.set_xticks(places, [f"{share:g}" for share in shares], fontsize=SMALL)
    axes.tick_params(length=2, pad=1)
    for spine in ("top", "right", "left"):
        axes.spines[spine].set_visible(False)
    axes.axvline(found.edge, color=RED, linewidth=1.2)
    axes.text(
        0.98,
        0.99,
        f"{found.method}: {found.threshold:.5g}",
        transform=axes.transAxes,
        fontsize=SMALL,
        color=RED,
        ha="right",
        va="top",
    )
    _below(axes, "share of the range" if found.accepted else "no outline was accepted")


def _draw_outline(axes: Axes, view: ViewSteps) -> None:
    _show(axes, view.film, view.shape)
    found = view.segmentation
    if found.mask is not None:
        for points in cv2.findContours(found.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]:
            across, down = (points[:, 0, i] * found.step + found.step / 2 for i in (0, 1))
            axes.plot([*across, across[0]], [*down, down[0]], color=ORANGE, linewidth=0.9)
    b = view.box
    axes.add_patch(Rectangle((b.left, b.top), b.width, b.height, fill=False, edgecolor=SKY, linewidth=1.2, clip_on=False))
    _below(axes, f"box {b.height} x {b.width}")


def _draw_crop(axes: Axes, view: ViewSteps, grid: Sequence[tuple[Line, Line]]) -> None:
    b = view.box
    _show(axes, view.crop, (b.height, b.width))
    for down, across in grid:
        axes.plot(b.right - across if view.mirrored else across - b.left, down - b.top, color=SKY, linewidth=0.35, alpha=0.8)
    _below(axes, f"{b.height} x {b.width}" + (", mirrored" if view.mirrored else ""))


def _grid(view: ViewSteps, steps: PipelineSteps) -> list[tuple[Line, Line]]:
    """Lines of the sample's pixel grid in the source image: rows and columns of the points of each."""
    i, sample = VIEWS.index(view.view), steps.sample
    top, bottom, left, right = (float(side) for side in sample.placement[i])
    down, across = (np.linspace(*ends, 65) for ends in ((top, bottom), (left, right)))
    rows, columns = (
        np.arange(math.ceil(min(ends) / GRID) * GRID, max(ends) + 0.01, GRID) for ends in ((top, bottom), (left, right))
    )
    lines = [(np.full_like(across, row), across) for row in rows] + [(down, np.full_like(down, column)) for column in columns]
    return [coordinates_of(sample, i).to_source(*line) for line in lines]


def _draw_sample(axes: Axes, steps: PipelineSteps) -> None:
    sample = steps.sample
    values = sample.image.astype(np.float64) * SCALES[str(sample.image.dtype)]
    image = channels_side_by_side(values)
    _show(axes, image, image.shape)
    for view in steps.views:
        i = VIEWS.index(view.view)
        top, bottom, left, right = (float(side) for side in sample.placement[i])
        shift = sample.image.shape[-1] * i if sample.image.ndim == 3 else 0
        start = min(left, right) + shift
        axes.add_patch(
            Rectangle(
                (start, top), abs(right - left), bottom - top, fill=False, edgecolor=SKY, linewidth=1, linestyle=(0, (3, 2))
            )
        )
        axes.text(
            start + abs(right - left) / 2,
            -0.02 * image.shape[0],
            view.view.value,
            fontsize=SMALL,
            ha="center",
            va="bottom",
            color=BLUE,
        )
    ranges = np.asarray(sample.intensity_range, np.float64).reshape(-1, 2)
    ranges_text = "; ".join(f"{low:.5g} to {high:.5g}" for low, high in ranges if not math.isnan(low))
    _below(axes, f"{ranges_text} became 0 to 1")


def _show(axes: Axes, image: NDArray[np.float64], shape: Sequence[int]) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, shape[1], shape[0], 0))
    axes.set_aspect("equal", anchor="N")
    axes.set(xticks=[], yticks=[], xlim=(0, shape[1]), ylim=(shape[0], 0))


def _below(axes: Axes, text: str) -> None:
    axes.set_xlabel(text, fontsize=SMALL, labelpad=3)
