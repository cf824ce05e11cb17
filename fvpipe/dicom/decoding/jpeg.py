"""JPEG images, lossy and lossless, whose compressed data may end before the image does.

libjpeg fills in what is missing with grey, the middle of the range, and only prints a warning.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason

_EOI = b"\xff\xd9"
# Compressed data of any values, without a marker even behind a 0xff, and again after each restart marker: of data that are cut
# where an interval ends, the decoder looks for one.
_MORE = bytes(range(255)) + b"".join(bytes([0xFF, 0xD0 + n, *range(255)]) for n in range(8))
_PROGRESSIVE = re.compile(rb"\xff\xc2\0[\x0b\x11]")  # start of frame, of one or three components


def decode_jpeg(codestream: bytes, bits: int) -> NDArray[Any]:
    """Decode a JPEG image.

    Parameters
    ----------
    codestream : bytes
        From its start to its end marker.
    bits : int
        Of a value, by its header.

    Raises
    ------
    RejectedFile
        Its data end too early.
    """
    import imagecodecs

    pixels: NDArray[Any] = np.asarray(imagecodecs.jpeg8_decode(codestream))
    middle = 1 << (bits - 1)
    # Of a progressive image the first scans are the whole of it, less sharp.
    doubtful = bool((pixels[-1, -1] == middle).all()) or _PROGRESSIVE.search(codestream)
    if not doubtful or not codestream.endswith(_EOI):
        return pixels
    try:  # after a whole image more data change nothing; where rows are missing they are decoded as those
        same = np.array_equal(pixels, imagecodecs.jpeg8_decode(codestream.removesuffix(_EOI) + _MORE + _EOI))
    except imagecodecs.Jpeg8Error:
        same = False
    if not same:
        found = np.count_nonzero((pixels != middle).reshape(len(pixels), -1).any(axis=1))
        detail = f"the compressed data end after {found} of {len(pixels)} rows: they are cut or damaged"
        raise RejectedFile(Reason.PIXELS_TRUNCATED, detail)
    return pixels
