"""Values that were cut to too few bits or are read with the other sign, where no bit beyond the stored ones tells of it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.uid import ExplicitVRLittleEndian, JPEGLossless, JPEGLSLossless

from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason
from tests.support.factory import MLO, breast
from tests.test_pixels import Pixels, file_of, frame_of, image

SMOOTH = breast(3, MLO, shape=(640, 512)).pixels  # 12 bits, up to 3,100: more than half of the range
DARK = np.minimum(SMOOTH, 1900)
SIGNED = {"PixelRepresentation": 1}
FOLDED: dict[str, tuple[Pixels, int, str, dict[str, Any]]] = {
    "16 bits, called signed": (SMOOTH * 16, 16, "values are unsigned", SIGNED),
    "12 bits, called signed": (SMOOTH, 12, "values are unsigned", SIGNED),
    "8 bits, called signed": ((SMOOTH >> 4).astype("u1"), 8, "values are unsigned", SIGNED),
    "12 bits of a sign, called unsigned": ((SMOOTH - 600) & 4095, 12, "values are signed", {}),
    "cut to 8 bits": (SMOOTH.astype("u1"), 8, "cut to 8 bits", {}),
    "cut to 10 bits": (SMOOTH & 1023, 10, "cut to 10 bits", {}),
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLossless, JPEGLSLossless])
@pytest.mark.parametrize("name", FOLDED)
def test_a_range_that_is_folded(name: str, syntax: str) -> None:
    """Where the breast is brighter than the end of its range, it would be black."""
    pixels, bits, expected, tags = FOLDED[name]
    native = syntax == ExplicitVRLittleEndian
    if native and pixels is SMOOTH:
        expected = "go on in the bits above"  # which uncompressed pixels have
    with pytest.raises(RejectedFile, match=expected) as rejected:
        image(file_of(pixels, bits, syntax, None if native else frame_of(pixels, bits, syntax), **tags))
    assert rejected.value.reason is Reason.PIXELS_MISMATCH


def _lettered(pixels: Pixels, white: int) -> Pixels:
    marked = pixels.copy()
    marked[20:120, 400:500:3] = white
    return marked


def _written_over(pixels: Pixels, white: int, lines: int, quality: int = 0) -> Pixels:
    """Text in half of the rows, as screen captures and copies have it, smoothed at its edges; as JPEG keeps it."""
    text = Image.new("L", pixels.shape[::-1])
    for line in range(lines):
        ImageDraw.Draw(text).text((250, 20 + 16 * line), "R MLO 28 kV 63 mAs W/Rh", fill=255, font=ImageFont.load_default(14))
    share = np.asarray(text) / 255
    written = (pixels * (1 - share) + white * share).astype(pixels.dtype)
    if not quality:
        return written
    file = io.BytesIO()
    Image.fromarray(written).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _dusty(pixels: Pixels) -> Pixels:
    rng, dusty = np.random.default_rng(1), pixels.copy()
    dust = rng.random(pixels.shape) < 0.05
    dusty[dust] = rng.integers(230, 256, np.count_nonzero(dust))
    return dusty


UNFOLDED: dict[str, tuple[Pixels, int]] = {
    "8 bits, text over it": (_written_over((SMOOTH >> 4).astype("u1"), 255, 20), 8),
    "8 bits, text over it, copied as JPEG": (_written_over((SMOOTH >> 4).astype("u1"), 255, 20, 75), 8),
    "12 bits, text over it": (_written_over(SMOOTH, 4095, 20), 12),
    "8 bits, white dust": (_dusty((SMOOTH >> 4).astype("u1")), 8),
    "signed, through 0": (SMOOTH.astype("i2") - 1500, 12),
    "signed, all positive": (DARK.astype("i2"), 12),
    "signed, through 0, with white letters": (_lettered(SMOOTH.astype("i2") - 2000, 2047), 12),
    "signed and dark, with white letters": (_lettered(DARK.astype("i2") - 2000, 2047), 12),
    "dark, with white letters": (_lettered(DARK, 4095), 12),
    "8 bits, with white letters": (_lettered((DARK >> 4).astype("u1"), 255), 8),
    "noise in all bits": (np.random.default_rng(0).integers(0, 4096, SMOOTH.shape).astype("u2"), 12),
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_a_range_that_only_looks_folded(name: str) -> None:
    pixels, bits = UNFOLDED[name]
    found = image(file_of(pixels, bits, ExplicitVRLittleEndian)).stored.astype(np.int64)
    np.testing.assert_array_equal(found, pixels.astype(np.int64) + (2048 if pixels.dtype.kind == "i" else 0))
