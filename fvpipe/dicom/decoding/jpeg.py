"""JPEG images, lossy and lossless, whose compressed data may end before the image does.

libjpeg fills in what is missing with grey, the middle of the range, and only prints a warning.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason

_EOI = b"\xff\xd9"
_MORE = bytes(range(1, 255))  # compressed data of any values, without a marker


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
        Its last rows are missing.
    """
    import imagecodecs

    pixels: NDArray[Any] = np.asarray(imagecodecs.jpeg8_decode(codestream))
    grey = pixels == 1 << (bits - 1) if (pixels[-1] == 1 << (bits - 1)).all() else None
    if grey is None or not codestream.endswith(_EOI):
        return pixels
    try:  # after a whole image more data change nothing; where rows are missing they are decoded as those
        same = np.array_equal(pixels, imagecodecs.jpeg8_decode(codestream.removesuffix(_EOI) + _MORE + _EOI))
    except imagecodecs.Jpeg8Error:
        same = False
    if not same:
        found = np.count_nonzero(~grey.reshape(len(grey), -1).all(axis=1))
        detail = f"the compressed data end after {found} of {len(pixels)} rows: they are cut or damaged"
        raise RejectedFile(Reason.PIXELS_TRUNCATED, detail)
    return pixels
