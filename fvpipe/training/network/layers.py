"""Layers of a network, as its modules are when an image passes through them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fvpipe.config.training import Recipe
from fvpipe.training.network.model import build_model


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer.

    Attributes
    ----------
    name : str
        Kind of the layer, and the size of its kernel where it has one.
    shape : tuple of int
        Shape of its output for one image.
    parameters : int
        Number of its parameters.
    """

    name: str
    shape: tuple[int, ...]
    parameters: int


def layers_of(name: str, recipe: Recipe, image_shape: tuple[int, ...]) -> tuple[Layer, ...]:
    """Send an image through a network, and list its layers in the order in which they worked.

    Nothing is computed but the shapes.

    Parameters
    ----------
    name : str
        As for :func:`fvpipe.training.network.model.build_model`, which raises what is wrong.
    recipe : Recipe
        Loss and layers.
    image_shape : (int, int, int)
        Channels, rows, columns.
    """
    found: list[Layer] = []

    def note(module: nn.Module, _: Any, output: Tensor) -> None:
        parameters = sum(each.numel() for each in module.parameters())
        found.append(Layer(_name(module), tuple(output.shape[1:]), parameters))

    with torch.device("meta"):  # tensors without values
        model, _ = build_model(name, recipe.model_copy(update={"weights": "none"}), image_shape, seed=0)
        for module in model.net.modules():
            if not any(module.children()):
                module.register_forward_hook(note)
        model(torch.zeros(1, *image_shape))
    return tuple(found)


def _name(module: nn.Module) -> str:
    kind, size = type(module).__name__, getattr(module, "kernel_size", None)
    rows, columns = size if isinstance(size, tuple) else (size, size)
    return kind if rows is None else f"{kind.removesuffix('2d')} {rows}x{columns}"
