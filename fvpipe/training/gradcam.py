"""Grad-CAM (Selvaraju et al. 2017) on the deepest feature map with enough resolution, and its share and peak in each view."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fvpipe.errors import ParameterError
from fvpipe.io.atomic import write_atomic
from fvpipe.shards.coordinates import coordinates_of, view_slices
from fvpipe.training.network.model import Classifier, TwoStream
from fvpipe.training.network.zoom import ZoomFront
from fvpipe.training.predict import BreastPrediction
from fvpipe.types import VIEWS, View

MIN_MAP_SIDE = 7  # cells; that of ResNet18's last feature map at 224 pixels


@dataclass(frozen=True, slots=True)
class Peak:
    """The maximum of a heat map in one view.

    Attributes
    ----------
    row, column : float
        In pixels of the source image.
    share : float
        Share of the map's total heat that lies in this view, to three decimals. Views in channels of the image lie on top of
        each other and the map does not tell them apart: they share its heat equally. What is missing to 1 lies in no view.
    """

    view: View
    row: float
    column: float
    share: float


def heat_map(model: Classifier, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the heat map of malignant.

    Parameters
    ----------
    image : float32 array, shape (C, H, W)
        In [0, 1].

    Returns
    -------
    float32 array, shape (H, W)
        In [0, 1]; all 0 where no region raises the score.

    Raises
    ------
    ParameterError
        The model has no feature map (a vision transformer).
    """
    maps: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            maps.append(output)

    front = next((module for module in model.modules() if isinstance(module, ZoomFront)), None)
    left_out = set(front.modules()) if front else set()
    hooks = [module.register_forward_hook(keep) for module in model.net.modules() if module not in left_out]
    device = next(model.parameters()).device
    images = torch.from_numpy(image[None]).to(device)
    try:
        with torch.enable_grad():
            logits = model(images.clone().requires_grad_())
            if not maps:
                raise ParameterError("this model has no feature map to show; Grad-CAM needs a convolutional one")
            score = logits[0, 1] - logits[0, 0] if logits.shape[1] == 2 else logits[0, 0]
            fine = [found for found in maps if min(found.shape[2:]) >= MIN_MAP_SIDE]
            chosen = (fine or maps)[-1]
            (gradient,) = torch.autograd.grad(score, chosen)
    finally:
        for hook in hooks:
            hook.remove()
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = (weights * chosen).sum(1, keepdim=True).relu()
    with torch.inference_mode():
        heat = _on_image(model, front, heat.detach(), images).cpu()
    top = float(heat.max())
    found: NDArray[np.float32] = (heat / top if top > 0 else heat).numpy()
    return found


def _on_image(model: Classifier, front: ZoomFront | None, heat: Tensor, images: Tensor) -> Tensor:
    """A map of the features, one or a view each, resized to the image and mapped back through a zoom; shape (H, W)."""

    def resized(map_: Tensor, shape: tuple[int, ...]) -> Tensor:
        return nn.functional.interpolate(map_, shape, mode="bilinear", align_corners=False)

    streams = next((module for module in model.modules() if isinstance(module, TwoStream)), None)
    layout = front.output if front else streams.layout if streams else None
    if layout is None:
        return resized(heat, tuple(images.shape[2:]))[0, 0]
    if len(heat) == layout.count > 1:
        views = resized(heat, layout.view_shape)
    else:
        whole = resized(heat, layout.image_shape[1:])
        views = layout.split(whole.expand(-1, layout.image_shape[0], -1, -1))
    if front is not None:
        views, layout = front.to_input(views, images), front.layout
    return layout.join(views)[0].mean(0)


def peaks(prediction: BreastPrediction, heat: NDArray[np.float32]) -> list[Peak]:
    """Find the maximum in each view of the image; an empty list where the heat map is 0."""
    found: list[Peak] = []
    total = float(heat.sum())
    if not total:
        return found
    areas = _areas(prediction)
    covering = np.zeros(heat.shape, np.float32)
    for area in areas.values():
        covering[area] += 1
    passed = 0.0
    for v, (rows, columns) in areas.items():
        part = heat[rows, columns]
        row, column = np.unravel_index(int(part.argmax()), part.shape)
        place = rows.start + row + 0.5, columns.start + column + 0.5
        source = coordinates_of(prediction.sample, v).to_source(*place)
        before, passed = passed, passed + float((part / covering[rows, columns]).sum()) / total
        share = round(round(passed, 3) - round(before, 3), 3)  # so that the shares add up
        found.append(Peak(VIEWS[v], float(source[0]), float(source[1]), share))
    return found


def _areas(prediction: BreastPrediction) -> dict[int, tuple[slice, slice]]:
    """Rows and columns of each view in the image, by its place in :data:`VIEWS`."""
    areas = ((v, view_slices(placement)) for v, placement in enumerate(prediction.sample.placement))
    return {v: area for v, area in areas if area is not None}


def draw(prediction: BreastPrediction, heat: NDArray[np.float32], path: Path) -> None:
    """Write a PNG: each channel of the image, and beside it the same with the heat map over it, with the names of its views."""
    areas, panels = _areas(prediction), []
    for channel, values in enumerate(prediction.image):
        plain = cv2.cvtColor(np.rint(values * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
        color = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
        strength = 0.6 * heat[..., None]
        over = np.rint(plain * (1 - strength) + color * strength).astype(np.uint8)
        both = cv2.resize(np.hstack([plain, over]), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
        for v, (rows, columns) in areas.items():
            if len(prediction.image) == 1 or v == channel:
                corner = 2 * columns.start + 4, 2 * rows.start + 14
                cv2.putText(both, VIEWS[v].value, corner, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 255, 255), 1, cv2.LINE_8)
        panels.append(both)
    write_atomic(path, cv2.imencode(".png", np.vstack(panels))[1].tobytes())
