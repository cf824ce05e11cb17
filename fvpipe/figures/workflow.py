"""The paper's Figure 1: the workflow, with the counts of this project."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from matplotlib.axes import Axes

from fvpipe.config.pipeline import stored_pipeline
from fvpipe.config.project import Params
from fvpipe.figures.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    NORMAL,
    ORANGE,
    RED,
    SIMULATED,
    SMALL,
    Drawing,
    arrow,
    box,
    figure_of,
    heading,
    page,
    short,
)
from fvpipe.indexing.index import Index
from fvpipe.shards.format import Receipt
from fvpipe.types import LABEL_NAMES

LINE, PAD, GAP, TOP = 0.15, 0.12, 0.1, 0.8  # inches: of text, around it, between boxes, above them
COLUMNS = ((0.05, 1.5), (1.75, 1.35), (3.3, 1.75), (5.25, 1.2))  # left and width, inches
ORDER = ("benign", "malignant", "unlabelled")


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of a box: its words, and their color and weight."""

    text: str
    color: str = ""
    bold: bool = False


def draw_workflow(params: Params, indexes: Sequence[Index], receipts: Mapping[tuple[str, str], Receipt]) -> Drawing:
    """Draw the way from files to a model, and how many pass each step.

    Parameters
    ----------
    params : Params
        Pipelines, splits and runs of the project.
    indexes : sequence of Index
        Manifests of the data sets.
    receipts : mapping of (str, str) to Receipt
        Receipts of the shard folders that there are, by pipeline and data set.
    """
    pipelines = [*params.pipelines, *dict.fromkeys(name for name, _ in receipts if name not in params.pipelines)]
    trained = {dataset for file in _files(params) for dataset in params.split_of(file).all_datasets}
    cells = [_cells(index, pipelines, receipts, trained) for index in indexes]
    heights = [max(map(len, row)) * LINE + PAD for row in cells]
    starts = [TOP + sum(heights[:i]) + i * GAP for i in range(len(heights))]
    classifier = _trained(params)
    bottom = max(starts[-1] + heights[-1], TOP + len(classifier) * LINE + PAD)
    axes = page(bottom + GAP)
    heading(axes, "Workflow", all(index.source.simulated for index in indexes))
    sizes = sorted({_size(receipt) for receipt in receipts.values()})
    titles = (
        ("Images", "CC and MLO"),
        ("Breasts", "views paired, labels"),
        ("Samples", ", ".join(["fused", *sizes])),
        ("Classifier", "benign or malignant"),
    )
    for i, ((left, width), (title, below)) in enumerate(zip(COLUMNS, titles, strict=True)):
        axes.text(left + width / 2, 0.45, title, fontweight="bold", ha="center", va="center")
        axes.text(left + width / 2, 0.6, below, fontsize=SMALL, color=GREY, ha="center", va="center")
        if i:
            arrow(axes, (sum(COLUMNS[i - 1]) + 0.02, 0.45), (left - 0.02, 0.45))
    for index, row, start, height in zip(indexes, cells, starts, heights, strict=True):
        for i, (lines, color) in enumerate(zip(row, (GREY, GREEN, BLUE), strict=True)):
            box(axes, COLUMNS[i][0], start, COLUMNS[i][1], height, color)
            _write(axes, COLUMNS[i][0], start, lines)
            if i < 2 or index.source.name in trained:
                arrow(axes, (sum(COLUMNS[i]), start + height / 2), (COLUMNS[i + 1][0], start + height / 2))
    left, width = COLUMNS[3]
    box(axes, left, TOP, width, bottom - TOP, ORANGE)
    _write(axes, left, TOP, classifier)
    images = sum(len(index.images) for index in indexes)
    caption = (
        f"The workflow, with this project's counts: {images:,} images of {len(indexes)} data sets, the breasts that they pair "
        "to, and the samples in the shards of each pipeline."
    )
    return Drawing("workflow", caption, figure_of(axes))


def _cells(
    index: Index, pipelines: Sequence[str], receipts: Mapping[tuple[str, str], Receipt], trained: Set[str]
) -> list[list[Shown]]:
    name = index.source.name
    images = [Shown(short(name, 20), bold=True), Shown(f"{len(index.images):,} images")]
    if index.source.simulated:
        images.append(Shown(SIMULATED, RED))
    breasts = [
        Shown(f"{len(index.breasts):,} breasts", bold=True),
        *_labels(Counter(LABEL_NAMES[b.facts.label] for b in index.breasts)),
    ]
    if unpaired := len(index.unpaired_breasts):
        breasts.append(Shown(f"{unpaired:,} with one view"))
    if index.rejections:
        breasts.append(Shown(f"{len(index.rejections):,} rejections", GREY))
    samples = []
    for pipeline in pipelines:
        receipt = receipts.get((pipeline, name))
        samples.append(
            Shown(f"{short(pipeline, 12)}: {receipt.samples:,} samples")
            if receipt
            else Shown(f"{short(pipeline, 12)}: not built", GREY)
        )
    if name not in trained:
        samples.append(Shown("in no split that is trained", GREY))
    return [images, breasts, samples]


def _files(params: Params) -> list[str]:
    """Splits that are trained; of a ``kfold`` its folds."""
    return list(dict.fromkeys(file for name in params.runs.splits for file in params.split_files(name)))


def _labels(counts: Mapping[str, int]) -> list[Shown]:
    return [Shown(f"{counts[name]:,} {name}") for name in ORDER if counts.get(name)]


def _trained(params: Params) -> list[Shown]:
    axes = {"model": params.runs.models, "pipeline": params.pipelines, "split": _files(params), "seed": params.runs.seeds}
    counts = [f"{len(values)} {name}{'s' * (len(values) != 1)}" for name, values in axes.items()]
    trainings = math.prod(map(len, axes.values()))
    return [
        *(Shown(short(name, 15), bold=True) for name in params.runs.models),
        *map(Shown, counts),
        Shown(f"= {trainings:,} trainings"),
    ]


def _size(receipt: Receipt) -> str:
    rows, columns = stored_pipeline(receipt.pipeline_yaml, f"the pipeline of {receipt.dataset}").size
    return f"{rows} x {columns}"


def _write(axes: Axes, left: float, top: float, lines: Sequence[Shown]) -> None:
    for i, line in enumerate(lines):
        weight = "bold" if line.bold else "normal"
        at = top + 0.06 + (i + 0.5) * LINE
        axes.text(left + 0.08, at, line.text, fontsize=NORMAL, fontweight=weight, color=line.color or INK, va="center")
