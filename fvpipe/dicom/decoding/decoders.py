"""One decoder per transfer syntax, and per format of image files that are not DICOM."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import uid

from fvpipe.dicom.decoding import jpeg2000
from fvpipe.dicom.decoding.codestream import jpeg_2000_codestream, jpeg_codestream
from fvpipe.dicom.decoding.jpeg import decode_jpeg
from fvpipe.dicom.decoding.layout import EXCESS_BYTES, PixelLayout
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.raster.decoders import decode_raster
from fvpipe.reasons import Reason

# --- decoding ---------------------------------------------------------------------------------------------------------


class Decoded(NamedTuple):
    """A decompressed image."""

    pixels: NDArray[Any]  # integers, (rows, columns): signed where the codestream has a sign
    bits: int  # of a value by the codestream, which may be more or fewer than are stored


@dataclass(frozen=True, slots=True)
class Decoder:
    """The decoder of one transfer syntax."""

    library: str  # name of the distribution, whose version the receipt records
    lossy: bool  # another version may give other pixels, so that the version is part of the sample's key
    decode: Callable[[bytes, PixelLayout], Decoded]  # the compressed image, and the layout by its header

    @property
    def identity(self) -> str:
        """Library and version."""
        return f"{self.library} {version(self.library)}"


def _rle(frame: bytes, layout: PixelLayout) -> Decoded:
    """Decode PS3.5 annex G: one PackBits segment a byte plane, most significant first, each into a bounded buffer."""
    planes, count = layout.bits_allocated // 8, layout.rows * layout.columns
    if len(frame) < 64:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, f"RLE header of {len(frame)} bytes; expected 64")
    header = struct.unpack_from("<16I", frame)
    if header[0] != planes:
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"RLE of {header[0]} segments; expected {planes}")
    ends = [*header[2 : planes + 1], len(frame)]
    pixels = np.empty((count, planes), np.uint8)
    buffer = np.empty(count + EXCESS_BYTES, np.uint8)
    for plane, (start, end) in enumerate(zip(header[1 : planes + 1], ends, strict=True)):
        decoded = _unpacked(frame[start:end], buffer)
        if decoded < count:
            raise RejectedFile(Reason.PIXELS_TRUNCATED, f"RLE segment of {decoded} bytes; expected {count}")
        pixels[:, planes - 1 - plane] = buffer[:count]
    return Decoded(pixels.view(f"<u{planes}").reshape(layout.rows, layout.columns), layout.bits_allocated)


def _unpacked(segment: bytes, buffer: NDArray[np.uint8]) -> int:
    """Decode a PackBits segment into `buffer` and return the number of bytes, without pad bytes that are not a whole packet."""
    import imagecodecs

    for pad in range(EXCESS_BYTES + 1):
        try:
            return len(imagecodecs.packbits_decode(segment[: len(segment) - pad], out=buffer.data))
        except imagecodecs.PackbitsError as error:
            if "TOO_SMALL" in str(error):
                expected = f"{len(buffer) - EXCESS_BYTES}"
                detail = f"RLE segment of more than {len(buffer)} bytes; expected {expected}"
                raise RejectedFile(Reason.PIXELS_MISMATCH, detail) from None
    raise RejectedFile(Reason.DECODE_FAILED, "RLE segment that ends within a run")


def _jpeg(frame: bytes, layout: PixelLayout) -> Decoded:
    codestream, size = jpeg_codestream(frame, layout)
    return Decoded(decode_jpeg(codestream, size.bits), size.bits)


def _jpeg_ls(frame: bytes, layout: PixelLayout) -> Decoded:
    import imagecodecs

    codestream, size = jpeg_codestream(frame, layout)
    return Decoded(np.asarray(imagecodecs.jpegls_decode(codestream)), size.bits)


def _jpeg_2000(frame: bytes, layout: PixelLayout) -> Decoded:
    import imagecodecs

    codestream, size = jpeg_2000_codestream(frame, layout)
    pixels = np.asarray(imagecodecs.jpeg2k_decode(codestream))
    if layout.signed and not size.signed and not _wraps_around(pixels, size.bits):
        detail = f"the compressed image is of unsigned values up to {pixels.max()}; PixelRepresentation says signed"
        raise RejectedFile(Reason.PIXELS_MISMATCH, detail)
    return Decoded(pixels, size.bits)


def _wraps_around(pixels: NDArray[Any], bits: int) -> bool:
    """Whether values are two's complement although their codestream says unsigned.

    Then neighbours jump between the ends of the unsigned range wherever the image passes 0, and do not as signed values.
    """
    unsigned = pixels.astype(np.int32)
    half = 1 << (bits - 1)
    signed = (unsigned ^ half) - half
    return _jumps(unsigned, half) > 8 * _jumps(signed, half)


def _jumps(values: NDArray[np.int32], limit: int) -> int:
    """Count neighbours in a row or a column whose values are more than `limit` apart."""
    return sum(int((np.abs(np.diff(values, axis=axis)) > limit).sum()) for axis in (0, 1))


DECODERS: dict[str, Decoder] = {
    uid.RLELossless: Decoder("imagecodecs", False, _rle),
    uid.JPEGBaseline8Bit: Decoder("imagecodecs", True, _jpeg),
    uid.JPEGExtended12Bit: Decoder("imagecodecs", True, _jpeg),
    uid.JPEGLossless: Decoder("imagecodecs", False, _jpeg),
    uid.JPEGLosslessSV1: Decoder("imagecodecs", False, _jpeg),
    uid.JPEGLSLossless: Decoder("imagecodecs", False, _jpeg_ls),
    uid.JPEGLSNearLossless: Decoder("imagecodecs", True, _jpeg_ls),
    uid.JPEG2000Lossless: Decoder("imagecodecs", False, _jpeg_2000),
    uid.JPEG2000: Decoder("imagecodecs", True, _jpeg_2000),
    # By OpenJPEG: with OpenJPH, imagecodecs only prints an error about a damaged block and returns the image, and a lossy
    # overshoot above white wraps around to black.
    uid.HTJ2KLossless: Decoder("imagecodecs", False, _jpeg_2000),
    uid.HTJ2KLosslessRPCL: Decoder("imagecodecs", False, _jpeg_2000),
    uid.HTJ2K: Decoder("imagecodecs", True, _jpeg_2000),
}
"""By transfer syntax UID; native ones need no decoder."""


def _raster(frame: bytes, layout: PixelLayout) -> Decoded:
    return Decoded(decode_raster(frame, layout), layout.bits_stored)


RASTER_DECODERS: dict[str, Decoder] = {
    "png": Decoder("imagecodecs", False, _raster),
    "jpeg": Decoder("imagecodecs", True, _raster),
    "tiff": Decoder("imagecodecs", False, _raster),
    "pgm": Decoder("numpy", False, _raster),
    "nrrd": Decoder("numpy", False, _raster),
}
"""By format."""


def find_decoder(transfer_syntax_uid: str) -> Decoder | None:
    """Return the decoder of a transfer syntax or format; None where none is needed."""
    return DECODERS.get(transfer_syntax_uid) or RASTER_DECODERS.get(transfer_syntax_uid)


def decoder_identity(transfer_syntax_uid: str) -> str:
    """Library and version that decode a transfer syntax; ``native`` where none is needed."""
    decoder = find_decoder(transfer_syntax_uid)
    return decoder.identity if decoder is not None else "native"


def lossy_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that a sample's key includes: those of a lossy syntax's decoder; empty for all others."""
    decoder = find_decoder(transfer_syntax_uid)
    return decoder.identity if decoder is not None and decoder.lossy else ""


def reduced_decoder(transfer_syntax_uid: str) -> str:
    """Library and version that a sample's key includes where images may be decoded at a fraction of their resolution."""
    return jpeg2000.identity() if transfer_syntax_uid in REDUCIBLE else ""


REDUCIBLE = {syntax for syntax, decoder in DECODERS.items() if decoder.decode is _jpeg_2000}
"""Transfer syntaxes whose codestream holds the image at smaller resolutions, too."""
