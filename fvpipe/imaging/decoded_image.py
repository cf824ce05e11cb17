"""One image as it was decoded: stored values and their value table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import CropBox, Digest, Edge


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """Stored values of one image, and their value table.

    Sign, rescale, Modality LUT, window, VOI LUT and MONOCHROME1 are functions of the stored value, of which there are
    at most 65,536. They are therefore applied to a table and never to an image: ``values[stored]`` is the image in its
    final units, and no full-size float array is needed.

    The image may have been decoded at a reduced resolution. Then `stored` and `shape` are smaller, while boxes and
    `source_shape` stay in source pixels: stored pixel i is centered at source pixel ``i * scale``, so its first edge
    lies at ``(i - 1/2) * scale + 1/2``.
    """

    # (rows, columns): stored values; signed data is offset so that they start at 0 and their order is kept
    stored: NDArray[np.uint8] | NDArray[np.uint16]
    values: NDArray[np.float64]  # (2 ** bits_stored,): value table: the value of each stored value, larger for brighter tissue
    # (2 ** bits_stored,): True for stored values that are Pixel Padding, one contiguous run; None if the header declares none
    padding: NDArray[np.bool_] | None
    direction: int  # 1 if `values` is non-decreasing, -1 if it is non-increasing, 0 otherwise
    chest_wall: Edge  # edge on which the chest wall is expected
    source_digest: Digest  # of the file
    pixel_digest: Digest  # of the decoded stored values before they are put upright
    source_shape: tuple[int, int]  # rows and columns of the source image, upright
    scale: int = 1  # source pixels per stored pixel along each axis, a power of two; 1 if decoded at full resolution
    flags: Flag = NO_FLAG

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of `stored`."""
        rows, columns = self.stored.shape
        return int(rows), int(columns)

    def to_source_box(self, box: CropBox) -> CropBox:
        """Convert a box from stored to source pixels; edges on the image border stay there.

        At reduced resolution an edge lies on half a source pixel. It is rounded inwards, because a stored pixel that
        is partly background was counted as breast.
        """
        if self.scale == 1:
            return box
        (rows, columns), half = self.source_shape, self.scale // 2
        return CropBox(
            self.scale * box.top - half + 1 if box.top else 0,
            self.scale * box.bottom - half if box.bottom < self.shape[0] else rows,
            self.scale * box.left - half + 1 if box.left else 0,
            self.scale * box.right - half if box.right < self.shape[1] else columns,
        )
