"""The views in a fused image, apart and together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvpipe.errors import ParameterError

_SPLIT_AXES = {"side_by_side": 3, "stacked": 2, "channels": 1, "cc": 1, "mlo": 1}


@dataclass(frozen=True, slots=True)
class ViewLayout:
    """Places of the views in images of one layout.

    Attributes
    ----------
    layout : str
        ``fuse.layout`` of the pipeline.
    image_shape : (int, int, int)
        Channels, rows and columns of an image.
    """

    layout: str
    image_shape: tuple[int, ...]

    @property
    def axis(self) -> int:
        """Axis of (n, C, H, W) along which the views lie."""
        return _SPLIT_AXES[self.layout]

    @property
    def count(self) -> int:
        """Number of views in an image."""
        return self.image_shape[0] if self.axis == 1 else 2

    @property
    def view_shape(self) -> tuple[int, int]:
        """Rows and columns of one view."""
        shape = list(self.image_shape)
        shape[self.axis - 1] //= self.count
        return shape[1], shape[2]

    def with_size(self, size: tuple[int, int]) -> ViewLayout:
        """The same layout for images of another size.

        Raises
        ------
        ParameterError
            The views of such an image would differ in size.
        """
        found = ViewLayout(self.layout, (self.image_shape[0], *size))
        if (found.image_shape[found.axis - 1]) % found.count:
            raise ParameterError(f"images of {size[0]} x {size[1]} hold no {found.count} views of one size ({self.layout})")
        return found

    def split(self, images: Tensor) -> Tensor:
        """Take the views apart: (n, C, H, W) to (n x views, 1, rows, columns), the views of an image one after the other."""
        return torch.stack(images.chunk(self.count, self.axis), 1).flatten(0, 1)

    def join(self, views: Tensor) -> Tensor:
        """Put the views together again, the inverse of :meth:`split`; (n x views, c, rows, columns)."""
        return torch.cat(views.unflatten(0, (-1, self.count)).unbind(1), self.axis)
