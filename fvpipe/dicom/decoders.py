"""One decoder per transfer syntax."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from fvpipe.dicom import jpeg2000
from fvpipe.dicom.codestream import bare_codestream, check_codestream, jpeg_2000_size, jpeg_size
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.layout import PixelLayout
from fvpipe.reasons import Reason

# --- decoding ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Decoder:
    """The decoder of one transfer syntax.

    Attributes
    ----------
    library : str
        Name of the distribution, whose version the receipt records.
    lossy : bool
        Another version may give other pixels, so that the version is part of the sample's key.
    decode : callable
        (frame : bytes, layout : PixelLayout) -> integer array, shape (rows, columns).
    """

    library: str
    lossy: bool
    decode: Callable[[bytes, PixelLayout], NDArray[Any]]

    @property
    def identity(self) -> str:
        """Library and version."""
        return f"{self.library} {version(self.library)}"


def _rle(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    """Decode PS3.5 annex G: one PackBits segment a byte plane, most significant first, each into a bounded buffer."""
    import imagecodecs

    planes = layout.bits_allocated // 8
    header = struct.unpack_from("<16I", frame)
    if header[0] != planes:
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"RLE of {header[0]} segments; expected {planes}")
    ends = [*header[2 : planes + 1], len(frame)]
    pixels = np.empty((layout.rows * layout.columns, planes), np.uint8)
    buffer = np.empty(layout.rows * layout.columns, np.uint8)
    for plane, (start, end) in enumerate(zip(header[1 : planes + 1], ends, strict=True)):
        decoded = imagecodecs.packbits_decode(frame[start:end], out=buffer.data)
        if len(decoded) != len(buffer):
            raise RejectedFile(Reason.PIXELS_TRUNCATED, f"RLE segment of {len(decoded)} bytes; expected {len(buffer)}")
        pixels[:, planes - 1 - plane] = buffer
    return pixels.view(f"<u{planes}").reshape(layout.rows, layout.columns)


def _jpeg(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    check_codestream(frame, jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpeg8_decode(frame))


def _jpeg_ls(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    check_codestream(frame, jpeg_size(frame), layout)
    return np.asarray(imagecodecs.jpegls_decode(frame))


def _jpeg_2000(frame: bytes, layout: PixelLayout) -> NDArray[Any]:
    import imagecodecs

    codestream = bare_codestream(frame)
    check_codestream(codestream, jpeg_2000_size(codestream), layout)
    return np.asarray(imagecodecs.jpeg2k_decode(codestream))


DECODERS: dict[str, Decoder] = {
    RLELossless: Decoder("imagecodecs", False, _rle),
    JPEGBaseline8Bit: Decoder("imagecodecs", True, _jpeg),
    JPEGExtended12Bit: Decoder("imagecodecs", True, _jpeg),
    JPEGLossless: Decoder("imagecodecs", False, _jpeg),
    JPEGLosslessSV1: Decoder("imagecodecs", False, _jpeg),
    JPEGLSLossless: Decoder("imagecodecs", False, _jpeg_ls),
    JPEGLSNearLossless: Decoder("imagecodecs", True, _jpeg_ls),
    JPEG2000Lossless: Decoder("imagecodecs", False, _jpeg_2000),
    JPEG2000: Decoder("imagecodecs", True, _jpeg_2000),
    # By OpenJPEG: with OpenJPH, imagecodecs only prints an error about a damaged block and returns the image, and a lossy
    # overshoot above white wraps around to black.
    HTJ2KLossless: Decoder("imagecodecs", False, _jpeg_2000),
    HTJ2KLosslessRPCL: Decoder("imagecodecs", False, _jpeg_2000),
    HTJ2K: Decoder("imagecodecs", True, _jpeg_2000),
}
"""By transfer syntax UID; native ones need no decoder."""


def decoder_identity(transfer_syntax_uid: str) -> str:
    """Library and version that decode a transfer syntax; ``native`` where none is needed."""
    decoder = DECODERS.get(transfer_syntax_uid)
    return decoder.identity if decoder is not None else "native"


def lossy_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that a sample's key includes: those of a lossy syntax's decoder; empty for all others."""
    decoder = DECODERS.get(transfer_syntax_uid)
    return decoder.identity if decoder is not None and decoder.lossy else ""


def reduced_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that a sample's key includes where images may be decoded at a fraction of their resolution."""
    return jpeg2000.identity() if transfer_syntax_uid in REDUCIBLE else ""


REDUCIBLE = {syntax for syntax, decoder in DECODERS.items() if decoder.decode is _jpeg_2000}
"""Transfer syntaxes whose codestream holds the image at smaller resolutions, too."""
