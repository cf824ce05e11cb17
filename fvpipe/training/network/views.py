"""The views in a fused image, apart and together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fvpipe.config.pipeline import Fuse
from fvpipe.errors import ParameterError

_SPLIT_AXES = {"side_by_side": 3, "stacked": 2, "channels": 1, "cc": 1, "mlo": 1}


@dataclass(frozen=True, slots=True)
class ViewLayout:
    """Places of the views in images of one pipeline, in parts of one size.

    Attributes
    ----------
    fuse : Fuse
        How the pipeline fuses the views.
    image_shape : (int, int, int)
        Channels, rows and columns of an image.

    Raises
    ------
    ParameterError
        The views do not lie in parts of one size.
    """

    fuse: Fuse
    image_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that the border between the views is known."""
        if self.axis == 1:
            return
        if self.fuse.align != "each":  # the border lies where the crops of each breast put it
            raise ParameterError(
                f"the model takes the views apart, and with fuse.align {self.fuse.align!r} their border differs from breast to "
                "breast; train it on a pipeline with fuse.align: each, such as `each` or `fine`"
            )
        if self.image_shape[self.axis - 1] % self.count:
            size = " x ".join(map(str, self.image_shape[1:]))
            raise ParameterError(f"images of {size} hold no {self.count} views of one size; expected an even size")

    @property
    def axis(self) -> int:
        """Axis of (n, C, H, W) along which the views lie."""
        return _SPLIT_AXES[self.fuse.layout]

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
        """The same for images of another size; raises as the class does."""
        return ViewLayout(self.fuse, (self.image_shape[0], *size))

    def split(self, images: Tensor) -> Tensor:
        """Take the views apart: (n, C, H, W) to (n x views, 1, rows, columns), the views of an image one after the other."""
        return torch.stack(images.chunk(self.count, self.axis), 1).flatten(0, 1)

    def join(self, views: Tensor) -> Tensor:
        """Put the views together again, the inverse of :meth:`split`; (n x views, c, rows, columns)."""
        return torch.cat(views.unflatten(0, (-1, self.count)).unbind(1), self.axis)
