"""A bounded zoom in front of a model: it samples a large image unevenly, more densely where a small network says.

Rows and columns of each view are sampled apart, so that the map is two increasing functions, as in the pipeline `adaptive`.
An output pixel is the mean of what its cell covers. Everything is products of matrices: deterministic on every device.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv1d

from fvpipe.errors import ParameterError
from fvpipe.training.network.views import ViewLayout

Method = Literal["zoom", "random", "frozen"]
METHODS: tuple[Method, ...] = ("zoom", "random", "frozen")
REDUCED_ROWS, REDUCED_COLUMNS = 96, 48  # about the size at which a view is looked at
SMOOTHING = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
WINDOW = 0.25  # of the rows and of the columns: the control `random`


class ZoomFront(nn.Module):
    """Reduce images to `size`, each view magnified unevenly along its rows and columns.

    Parameters
    ----------
    method : {"zoom", "random", "frozen"}
        What is magnified: what a small network learns; or, as controls, a window at a place that follows from the pixels and
        means nothing, or what the network says whose random weights are never trained.
    zoom : float
        Greatest over least density along an axis, at least 1.
    layout : ViewLayout
        Where the views lie in the images.
    size : (int, int)
        Rows and columns of the output.

    Raises
    ------
    ParameterError
        The output is larger than the images, or its views would differ in size.
    """

    def __init__(self, method: Method, zoom: float, layout: ViewLayout, size: tuple[int, int]) -> None:
        super().__init__()
        if size[0] > layout.image_shape[1] or size[1] > layout.image_shape[2]:
            shape = " x ".join(map(str, layout.image_shape[1:]))
            raise ParameterError(f"train.front.size {list(size)} is larger than the images of {shape}; a zoom reduces them")
        self.method, self.zoom, self.layout, self.output = method, zoom, layout, layout.with_size(size)
        rows, columns = layout.view_shape
        self.reduction = max(rows // REDUCED_ROWS, 1), max(columns // REDUCED_COLUMNS, 1)
        last = nn.Conv2d(16, 1, 3, padding=1)
        nn.init.normal_(last.weight, std=2.0)  # so that random weights magnify something
        if method == "zoom":  # training starts from even sampling
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), last]
        self.saliency = nn.Sequential(*layers) if method != "random" else nn.Sequential()
        for parameter in self.saliency.parameters():
            parameter.requires_grad_(method == "zoom")
        self.smoothing: Tensor
        self.register_buffer("smoothing", torch.tensor(SMOOTHING).view(1, 1, -1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Reduce images (n, C, H, W) in [0, 1] to (n, C, *size)."""
        with torch.autocast(images.device.type, enabled=False):  # rounding of bf16 would move pixels
            views = self.layout.split(images)
            down, across = self.cells(views)
            means = (down / down.sum(2, keepdim=True)) @ views[:, 0] @ (across / across.sum(2, keepdim=True)).transpose(1, 2)
            return self.output.join(means[:, None])

    def cells(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Overlaps of output and input pixels along both axes.

        Parameters
        ----------
        views : float tensor, shape (n, 1, rows, columns)
            Views of images.

        Returns
        -------
        down, across : float tensors, shape (n, output rows, rows) and (n, output columns, columns)
            Length of each input pixel that lies in each output pixel; over all output pixels they add up to 1.
        """
        tops, lefts = self.priorities(views)
        sizes = zip(self.output.view_shape, self.layout.view_shape, strict=True)
        down, across = (_overlaps(self._edges(p, out), length) for p, (out, length) in zip((tops, lefts), sizes, strict=True))
        return down, across

    def priorities(self, views: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the priority of each row and column, in [0, 1]: shapes (n, reduced rows) and (n, reduced columns)."""
        small = avg_pool2d(views, self.reduction)
        if self.method != "random":
            found = self.saliency(small)[:, 0]
            return found.amax(2).sigmoid(), found.amax(1).sigmoid()
        mean = small.mean((1, 2, 3))
        rows, columns = small.shape[2:]
        return _window(mean * 7919, rows), _window(mean * 104729, columns)

    def _edges(self, priority: Tensor, count: int) -> Tensor:
        """Edges of `count` cells of equal mass along one axis, as shares of its length; shape (n, count + 1)."""
        ones, pad = torch.ones_like(priority)[:, None], len(SMOOTHING) // 2
        smooth = conv1d(priority[:, None], self.smoothing, padding=pad) / conv1d(ones, self.smoothing, padding=pad)
        density = 1 + (self.zoom - 1) * smooth[:, 0]
        length = density.shape[1]
        # A product with a triangle: `cumsum` is not deterministic on a GPU.
        steps = density @ torch.ones(length, length + 1, device=density.device, dtype=density.dtype).triu(1)
        masses = steps / steps[:, -1:]
        wanted = torch.arange(count + 1, device=density.device, dtype=density.dtype) / count
        i = ((masses[:, :, None] < wanted).sum(1) - 1).clamp(0, length - 1)
        low, high = masses.gather(1, i), masses.gather(1, i + 1)
        return (i + (wanted - low) / (high - low)) / length

    def to_input(self, heat: Tensor, images: Tensor) -> Tensor:
        """Map a map on the output, (n, 1, *size) or a view each (n x views, 1, rows, columns), back onto the images.

        Parameters
        ----------
        heat : float tensor
            Values of the output's pixels.
        images : float tensor, shape (n, C, H, W)
            The images that gave the output.

        Returns
        -------
        float tensor, shape (n x views, 1, rows, columns)
            A map of each view.
        """
        down, across = self.cells(self.layout.split(images))
        return (down.transpose(1, 2) @ heat[:, 0] @ across)[:, None]


def _window(number: Tensor, length: int) -> Tensor:
    """1 in a window whose place is the fraction of a number, else 0; shape (n, length)."""
    width = max(round(WINDOW * length), 1)
    start = (number.frac().abs() * (length - width)).floor()
    at = torch.arange(length, device=number.device)
    return ((at >= start[:, None]) & (at < start[:, None] + width)).float()


def _overlaps(edges: Tensor, length: int) -> Tensor:
    """Overlap of each cell with each of `length` pixels, in pixels; shape (n, cells, length)."""
    ends = (edges * length)[:, :, None]
    pixels = torch.arange(length, device=edges.device)
    overlaps: Tensor = (torch.minimum(ends[:, 1:], pixels + 1) - torch.maximum(ends[:, :-1], pixels)).clamp(min=0)
    return overlaps
