"""Augmentation of training images, on their device."""

from __future__ import annotations

import torch
from torch import Tensor

from fvpipe.config.training import Augment


def augment(images: Tensor, settings: Augment, generator: torch.Generator) -> Tensor:
    """Flip, rotate, shift and scale each image at random; `generator` is on the CPU, so that every device draws the same."""
    if settings == Augment():
        return images
    n = len(images)
    draw = torch.rand((6, n), generator=generator) * 2 - 1
    flips = torch.where(draw[:2] < 0, -1.0, 1.0)
    mirror_x = flips[0] if settings.horizontal_flip else torch.ones(n)
    mirror_y = flips[1] if settings.vertical_flip else torch.ones(n)
    angle, zoom = draw[2] * settings.rotate * torch.pi / 180, 1 + draw[3] * settings.scale
    cos, sin, shift = torch.cos(angle) * zoom, torch.sin(angle) * zoom, 2 * settings.shift * draw[4:]
    rows = [torch.stack([cos * mirror_x, -sin, shift[0]], 1), torch.stack([sin, cos * mirror_y, shift[1]], 1)]
    matrix = torch.stack(rows, 1)
    if images.is_cuda:
        matrix = matrix.pin_memory()  # a copy from pageable memory would wait for all that the device still has to do
    matrix = matrix.to(images.device, non_blocking=True)
    grid = torch.nn.functional.affine_grid(matrix, list(images.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    return moved.contiguous(memory_format=_format_of(images))


def _format_of(images: Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format
