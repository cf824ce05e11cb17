"""JPEG 2000 at a fraction of its resolution: the wavelet transform holds the smaller images, which decode faster.

Pillow decodes them with OpenJPEG, which clips to the declared range. It scales 10 to 15 bits to 16; they are shifted back.
"""

from __future__ import annotations

import struct
from functools import cache
from io import BytesIO

import numpy as np
from numpy.typing import NDArray

_SIZ, _COD, _COC, _SOT = 0xFF51, 0xFF52, 0xFF53, 0xFF90


def levels(codestream: bytes) -> int:
    """Count how often an image can be halved (ITU-T T.800 A.5 and A.6).

    Parameters
    ----------
    codestream : bytes
        Without the boxes of a JP2 file.

    Returns
    -------
    int
        The smallest number of decomposition levels in the main header. 0 also where an offset or a subsampling moves the
        pixels of a smaller image, where values are signed, or where the header is damaged.
    """
    found: list[int] = []
    at = 2
    while at + 4 <= len(codestream):
        marker, length = struct.unpack_from(">HH", codestream, at)
        if marker == _SOT:
            return min(found, default=0)
        shortest = 41 if marker == _SIZ else 2
        if marker < 0xFF00 or length < shortest or at + 2 + length > len(codestream):
            return 0
        if marker == _SIZ:
            origin, tile_origin = codestream[at + 14 : at + 22], codestream[at + 30 : at + 38]
            signed, steps = codestream[at + 40] & 0x80, codestream[at + 41 : at + 43]
            if any(origin) or any(tile_origin) or signed or steps != b"\1\1":
                return 0
        elif marker == _COD and length >= 12:
            found.append(codestream[at + 9])
        elif marker == _COC and length >= 9:
            found.append(codestream[at + 6])
        at += 2 + length
    return 0


def decode_reduced(codestream: bytes, level: int, shape: tuple[int, int], bits: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Decode the image after `level` halvings.

    Parameters
    ----------
    codestream : bytes
        One unsigned component; its header has been checked.
    level : int
        At most :func:`levels`.
    shape : (int, int)
        Rows, columns of the whole image.
    bits : int
        Bits of a value, as the codestream declares.

    Returns
    -------
    uint8 or uint16, (ceil(rows / 2 ** level), ceil(columns / 2 ** level))
        Values in the range of the whole image's. Pixel i stands at the whole image's pixel i * 2 ** level.

    Raises
    ------
    OSError
        The codestream is damaged.
    """
    from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile

    step = 1 << level
    # By its own class: no other format is tried, and Pillow's limit of pixels, which the caller has its own for, is not used.
    with Jpeg2KImageFile(BytesIO(codestream)) as image:
        image.reduce = level
        # Pillow rounds the smaller size to the nearest, OpenJPEG up; where they differ it would reject the image.
        image._size = (-(-shape[1] // step) * step, -(-shape[0] // step) * step)
        image.load()
        small: NDArray[np.uint8] | NDArray[np.uint16] = np.asarray(image)
    if small.shape != (-(-shape[0] // step), -(-shape[1] // step)):
        raise OSError(f"decoded to {small.shape}")
    return small >> small.dtype.type(8 * small.itemsize - bits)


@cache
def identity() -> str:
    """Library and version, which a sample's key includes: another version may give another smaller image."""
    from PIL import __version__, features

    return f"pillow {__version__} openjpeg {features.version('jpg_2000')}"
