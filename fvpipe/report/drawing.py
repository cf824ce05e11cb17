"""Drawings: images with outline and boxes, and histograms. All are uint8 arrays in OpenCV's BGR order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import Segmentation, SegmentationTrace
from fvpipe.imaging.segmentation.threshold import BINS
from fvpipe.imaging.segmentation.thumbnail import has_interior, make_thumbnail

Image = NDArray[np.uint8]

LONGER_SIDE = 900  # pixels of a drawn image
OUTLINE, TIGHT_BOX, CROP_BOX = (60, 60, 255), (0, 220, 255), (80, 220, 80)  # red, yellow, green in BGR
WHITE, GRAY = (255, 255, 255), (150, 150, 150)
PANEL = (640, 480)  # columns and rows of the histogram


def channels_side_by_side(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image of shape (C, H, W) as one of shape (H, C x W); one of shape (H, W) as it is."""
    return image if image.ndim == 2 else np.concatenate(list(image), axis=1)


def stretched_values(image: DecodedImage, every: int) -> NDArray[np.float64]:
    """Values of every so many rows and columns, from 0 at their 0.5th percentile to 1 at their 99.5th."""
    values = image.values[image.stored[::every, ::every]]
    low, high = np.percentile(values, [0.5, 99.5])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1), np.float64)


def draw_segmentation(image: DecodedImage, segmentation: Segmentation, longer_side: int = LONGER_SIDE) -> Image:
    """Draw an image with the outline of the breast (red), its bounding box (yellow) and the crop box (green).

    Parameters
    ----------
    image : DecodedImage
        Shown from its 0.5th to its 99.5th percentile.
    segmentation : Segmentation
        Outline and boxes.
    longer_side : int
        Pixels of the longer side of the drawing; the image is never enlarged.

    Returns
    -------
    drawing : uint8 array, shape (rows, columns, 3)
        In BGR.
    """
    scale = min(1.0, longer_side / max(image.source_shape))
    rows, columns = (max(1, round(side * scale)) for side in image.source_shape)
    every = max(1, int(1 / (scale * image.scale)))
    gray = (stretched_values(image, every) * 255).astype(np.uint8)
    drawing = cv2.cvtColor(cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    if segmentation.mask is not None:
        mask = cv2.resize(segmentation.mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawing, contours, -1, OUTLINE, 1)
    for box, color in ((segmentation.tight_box, TIGHT_BOX), (segmentation.box, CROP_BOX)):
        corner = (round(box.left * scale), round(box.top * scale))
        opposite = (round(box.right * scale) - 1, round(box.bottom * scale) - 1)
        cv2.rectangle(drawing, corner, opposite, color, 2)
    return np.asarray(drawing, np.uint8)


def draw_histogram(image: DecodedImage, trace: SegmentationTrace | None) -> Image:
    """Draw the histogram of the thumbnail with a logarithmic axis, and the threshold of each attempt as a line.

    Parameters
    ----------
    trace : SegmentationTrace or None
        Trace of its segmentation; None if no threshold was tried.

    Returns
    -------
    drawing : uint8 array, shape (480, 640, 3)
        In BGR.
    """
    columns, rows = PANEL
    panel = np.zeros((rows, columns, 3), np.uint8)
    thumbnail = trace.thumbnail if trace else make_thumbnail(image, image.chest_wall) if has_interior(image) else None
    if thumbnail is None:
        _write(panel, "one value only: no histogram", 20, rows // 2)
        return panel
    left, right, top, bottom = 20, columns - 20, 60, rows - 40
    values = thumbnail.values[thumbnail.stored]
    low, high = float(values.min()), float(values.max())
    bins = np.minimum((values - low) * (BINS / max(high - low, 1e-300)), BINS - 1).astype(int)
    heights = np.log1p(np.bincount(bins.ravel(), minlength=BINS))
    heights /= max(float(heights.max()), 1e-9)
    width = (right - left) / len(heights)
    for i, height in enumerate(heights.tolist()):
        if height:
            corner = (left + round(i * width), bottom - round(height * (bottom - top)))
            cv2.rectangle(panel, corner, (max(left + round((i + 1) * width) - 1, corner[0]), bottom), GRAY, cv2.FILLED)
    _write(panel, "thumbnail values, log counts", left, 20)
    for number, attempt in enumerate(trace.attempts if trace else ()):
        if math.isfinite(attempt.threshold):
            x = left + round((attempt.threshold - low) / max(high - low, 1e-300) * (right - left))
            color = CROP_BOX if attempt.passes else OUTLINE
            cv2.line(panel, (x, top), (x, bottom), color, 2)
            verdict = "passes" if attempt.passes else "fails"
            _write(panel, f"{attempt.method} {attempt.threshold:g} {verdict}", left + 300 * number, 44, color)
    _write(panel, f"{low:g}", left, rows - 14)
    _write(panel, f"{high:g}", right - 90, rows - 14)
    return panel


def side_by_side(images: Sequence[Image]) -> Image:
    """Place drawings in one row, on black."""
    rows = max(image.shape[0] for image in images)
    return np.hstack([np.pad(image, ((0, rows - image.shape[0]), (0, 0), (0, 0))) for image in images])


def encode(image: Image, suffix: str, quality: int = 82) -> bytes:
    """Encode a drawing as ``.png`` or ``.jpg``, the latter with a JPEG quality of 0 to 100."""
    done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, quality] if suffix == ".jpg" else [])
    assert done  # fails only for arrays that are not an image
    return data.tobytes()


def _write(panel: Image, text: str, left: int, bottom: int, color: tuple[int, int, int] = WHITE) -> None:
    cv2.putText(panel, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
