"""The white border of a scanned film, cut off the top and the bottom of a crop: a warp would stretch it with its rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import Segmentation, mask_at
from fvpipe.imaging.segmentation.thumbnail import BORDER_SHARE
from fvpipe.types import CropBox

WHITE, DARK = 0.5, 0.1  # share of a row beside the breast that is bright: more is white, at most so much is dark
MIN_BESIDE = 0.05  # of a row must lie beside the breast; else it is neither
MAX_GAP = 0.25  # of the rows that are looked at: dark ones before a white one, of a scan that begins outside the film


def without_film_border(image: DecodedImage, segmentation: Segmentation) -> Segmentation:
    """Move the top and bottom edge of a crop box inwards, past the white border of a film.

    A border is looked for in as many rows at the edge of the image as :mod:`fvpipe.imaging.segmentation.thumbnail` leaves out
    of the threshold. It may begin after some dark rows, where the scan begins outside the film, and ends at the first dark row
    that no white one follows soon. Bright is what is brighter than halfway from the threshold to the breast's mean.

    Parameters
    ----------
    image : DecodedImage
        Image at full or reduced resolution.
    segmentation : Segmentation
        Outline and crop box.

    Returns
    -------
    segmentation : Segmentation
        The same, or with a smaller box.
    """
    box, rows, columns = segmentation.box, *image.shape
    if segmentation.mask is None or not math.isfinite(segmentation.threshold + segmentation.mean):
        return segmentation
    bright = image.values >= (segmentation.threshold + segmentation.mean) / 2

    def border(strip: NDArray[np.int64]) -> int:
        beside = mask_at(segmentation, strip, np.arange(columns), image.scale) == 0
        return image.scale * _border_rows(bright[image.stored[strip]], beside)

    strip = np.arange(math.ceil(BORDER_SHARE * max(rows, columns)))
    top, bottom = max(box.top, border(strip)), min(box.bottom, image.source_shape[0] - border(rows - 1 - strip))
    return replace(segmentation, box=CropBox(top, bottom, box.left, box.right)) if box.height > bottom - top else segmentation


def _border_rows(bright: NDArray[np.bool_], beside: NDArray[np.bool_]) -> int:
    """Number of rows from the first on up to the end of a border; 0 where there is none, or it does not end."""
    counts = np.count_nonzero(beside, axis=1)
    share = np.count_nonzero(bright & beside, axis=1) / np.maximum(counts, 1)
    decided = counts >= MIN_BESIDE * beside.shape[1]
    white, gap = decided & (share > WHITE), math.ceil(MAX_GAP * len(share))
    ends = (row for row in np.flatnonzero(decided & (share <= DARK)) if not white[row : row + gap + 1].any())
    end = int(next(ends, 0))
    return end if white[:end].any() else 0
