"""The white border of a scanned film, cut off the top and the bottom of a crop: a warp would stretch it with its rows."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.thumbnail import BORDER_SHARE
from fvpipe.types import CropBox, Segmentation

WHITE, STILL_WHITE = 0.5, 0.1  # share of a row beside the breast that is bright: at the edge of the image, and further in
MIN_BESIDE = 0.05  # of a row must lie beside the breast; else it cannot be told whether it is a border


def without_film_border(image: DecodedImage, segmentation: Segmentation) -> Segmentation:
    """Move the top and bottom edge of a crop box inwards, past the white border of a film, where they lie on the image's edge.

    Rows are a border where most of what lies beside the breast is brighter than halfway from the threshold to the breast's
    mean, up to as many rows as :mod:`fvpipe.imaging.thumbnail` leaves out of the threshold.

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
    deepest = math.ceil(BORDER_SHARE * max(rows, columns))
    ends = [box.top, box.bottom]
    # From the edge of the image inwards.
    for i, edge, strip in ((0, 0, np.arange(deepest)), (1, image.source_shape[0], np.arange(rows - 1, rows - deepest - 1, -1))):
        if ends[i] == edge:
            down = np.minimum(strip * image.scale // segmentation.step, len(segmentation.mask) - 1)
            across = np.minimum(np.arange(columns) * image.scale // segmentation.step, segmentation.mask.shape[1] - 1)
            beside = segmentation.mask[down][:, across] == 0
            ends[i] += (1 - 2 * i) * image.scale * _border_rows(bright[image.stored[strip]], beside)
    top, bottom = ends
    return replace(segmentation, box=CropBox(top, bottom, box.left, box.right)) if box.height > bottom - top else segmentation


def _border_rows(bright: NDArray[np.bool_], beside: NDArray[np.bool_]) -> int:
    """Number of first rows that are a border; 0 where there is none, or it does not end."""
    counts = np.count_nonzero(beside, axis=1)
    if counts.min() < MIN_BESIDE * beside.shape[1]:
        return 0
    share = np.count_nonzero(bright & beside, axis=1) / counts
    dark = np.flatnonzero(share <= STILL_WHITE)
    return int(dark[0]) if len(dark) and share[0] > WHITE else 0
