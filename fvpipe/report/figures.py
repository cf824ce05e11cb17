"""Images with what was found drawn over them, and histograms."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.imaging.segmentation import Examined
from fvpipe.types import DecodedImage, Segmentation

Image = NDArray[np.uint8]

LONGER_SIDE = 900  # pixels of the drawn image
OUTLINE, BREAST, CROP = (60, 60, 255), (0, 220, 255), (80, 220, 80)  # red, yellow, green; blue first, as OpenCV has it
WHITE, SOFT = (255, 255, 255), (150, 150, 150)
PANEL = (640, 480)  # columns and rows of the histogram


def draw(image: DecodedImage, found: Segmentation, longer_side: int = LONGER_SIDE) -> Image:
    """The image with the breast's outline (red), its box (yellow) and the crop (green); uint8 BGR."""
    scale = min(1.0, longer_side / max(image.source_shape))
    rows, columns = (max(1, round(side * scale)) for side in image.source_shape)
    every = max(1, int(1 / (scale * image.scale)))
    values = image.values[image.stored[::every, ::every]]
    low, high = np.percentile(values, [0.5, 99.5])
    grey = np.clip((values - low) / max(high - low, 1e-9) * 255, 0, 255).astype(np.uint8)
    canvas = cv2.cvtColor(cv2.resize(grey, (columns, rows), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    if found.mask is not None:
        mask = cv2.resize(found.mask, (columns, rows), interpolation=cv2.INTER_NEAREST)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, OUTLINE, 1)
    for box, colour in ((found.tight_box, BREAST), (found.box, CROP)):
        corner = (round(box.left * scale), round(box.top * scale))
        opposite = (round(box.right * scale) - 1, round(box.bottom * scale) - 1)
        cv2.rectangle(canvas, corner, opposite, colour, 2)
    return np.asarray(canvas, np.uint8)


def draw_histogram(seen: Examined | None) -> Image:
    """Counts of the thumbnail's values on a logarithmic scale, with each attempt's threshold as a line; uint8 BGR."""
    columns, rows = PANEL
    panel = np.zeros((rows, columns, 3), np.uint8)
    if seen is None:
        _write(panel, "one value only: no histogram", 20, rows // 2)
        return panel
    left, right, top, bottom = 20, columns - 20, 60, rows - 40
    heights = np.log1p(seen.counts) / max(float(np.log1p(seen.counts.max())), 1e-9)
    width = (right - left) / len(heights)
    for i, height in enumerate(heights.tolist()):
        if height:
            corner = (left + round(i * width), bottom - round(height * (bottom - top)))
            cv2.rectangle(panel, corner, (max(left + round((i + 1) * width) - 1, corner[0]), bottom), SOFT, cv2.FILLED)
    _write(panel, "thumbnail values, log counts", left, 20)
    for number, attempt in enumerate(seen.attempts):
        if math.isfinite(attempt.threshold):
            at = left + round((attempt.threshold - seen.low) / max(seen.high - seen.low, 1e-300) * (right - left))
            colour = CROP if attempt.passes else OUTLINE
            cv2.line(panel, (at, top), (at, bottom), colour, 2)
            verdict = "passes" if attempt.passes else "fails"
            _write(panel, f"{attempt.method} {attempt.threshold:g} {verdict}", left + 300 * number, 44, colour)
    _write(panel, f"{seen.low:g}", left, rows - 14)
    _write(panel, f"{seen.high:g}", right - 90, rows - 14)
    return panel


def beside(images: Sequence[Image]) -> Image:
    """All in one row, on black."""
    rows = max(image.shape[0] for image in images)
    return np.hstack([np.pad(image, ((0, rows - image.shape[0]), (0, 0), (0, 0))) for image in images])


def encoded(image: Image, suffix: str) -> bytes:
    """The bytes of a ``.png`` or ``.jpg`` file."""
    done, data = cv2.imencode(suffix, image, [cv2.IMWRITE_JPEG_QUALITY, 82] if suffix == ".jpg" else [])
    assert done  # it only fails on what is no image
    return data.tobytes()


def _write(panel: Image, text: str, left: int, bottom: int, colour: tuple[int, int, int] = WHITE) -> None:
    cv2.putText(panel, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, 1, cv2.LINE_AA)
