"""The paper's Figure 2: the custom CNN, layer by layer, as its modules are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes

from fvpipe.config.pipeline import Pipeline
from fvpipe.config.training import Recipe
from fvpipe.figures.style import BLUE, GREEN, GREY, ORANGE, SMALL, WIDTH, Drawing, arrow, box, figure_of, heading, page
from fvpipe.training.network.layers import Layer, layers_of

LINE = 0.135  # inches
TALLEST, MIDDLE = 1.05, 0.95  # inches: of the largest map, and where all maps are centered


@dataclass(slots=True)
class _Block:
    """A layer with weights and those that follow it; layers of one output shape stand together."""

    steps: list[list[Layer]] = field(default_factory=list)

    @property
    def layers(self) -> list[Layer]:
        return [layer for step in self.steps for layer in step]


def draw_network(recipe: Recipe, pipeline: Pipeline) -> Drawing:
    """Draw the custom CNN for the images of a pipeline.

    Parameters
    ----------
    recipe : Recipe
        Its layers and outputs.
    pipeline : Pipeline
        Gives the shape of an image.
    """
    shape = pipeline.image_shape
    layers = layers_of("cnn", recipe, shape)
    blocks = _blocks(layers)
    total = sum(layer.parameters for layer in layers)
    lines = max(sum(len(step) + 1 + any(layer.parameters for layer in step) for step in block.steps) for block in blocks)
    axes = page(1.75 + lines * LINE)
    heading(axes, f"Custom CNN: {total:,} parameters")
    pitch = WIDTH / (len(blocks) + 1)
    _draw_map(axes, pitch / 2, shape, GREY, shape[1])
    _write(axes, pitch / 2, [("image", "bold"), (_shown(shape), "normal")])
    for i, block in enumerate(blocks, 1):
        center = (i + 0.5) * pitch
        arrow(axes, (center - 0.62 * pitch, MIDDLE), (center - 0.42 * pitch, MIDDLE))
        _draw_map(axes, center, block.layers[-1].shape, BLUE if len(block.layers[-1].shape) == 3 else ORANGE, shape[1])
        rows: list[tuple[str, str]] = []
        for step in block.steps:
            rows += [(layer.name, "bold") for layer in step]
            rows.append((_shown(step[-1].shape), "normal"))
            if count := sum(layer.parameters for layer in step):
                rows.append((f"{count:,} par.", "normal"))
        _write(axes, center, rows)
    caption = (
        f"The custom CNN ({total:,} parameters) for images of {_shown(shape)}: every layer with the shape of its output "
        "(channels x rows x columns) and its number of parameters, read from the model itself."
    )
    return Drawing("cnn", caption, figure_of(axes))


def _blocks(layers: Sequence[Layer]) -> list[_Block]:
    blocks: list[_Block] = []
    for layer in layers:
        if not blocks or layer.name.startswith(("Conv", "Linear", "Flatten")):
            blocks.append(_Block())
        steps = blocks[-1].steps
        if steps and steps[-1][-1].shape == layer.shape:
            steps[-1].append(layer)
        else:
            steps.append([layer])
    return blocks


def _draw_map(axes: Axes, center: float, shape: tuple[int, ...], color: str, largest: int) -> None:
    """Draw an output: its height grows with its rows, its width with the logarithm of its channels."""
    if len(shape) == 3:
        height, width = TALLEST * math.sqrt(shape[1] / largest), 0.06 + 0.04 * math.log2(max(shape[0], 1))
    else:
        height, width = max(TALLEST * math.log2(shape[0]) / 16, 0.08), 0.1
    box(axes, center - width / 2, MIDDLE - height / 2, width, height, GREEN if color == GREY else color)


def _write(axes: Axes, center: float, rows: Sequence[tuple[str, str]]) -> None:
    for i, (text, weight) in enumerate(rows):
        axes.text(center, 1.68 + i * LINE, text, fontsize=SMALL - 0.5, fontweight=weight, ha="center", va="center")


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
