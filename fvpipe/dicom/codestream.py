"""Sizes of compressed images by their own headers, compared with the DICOM header before decoding."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.layout import PixelLayout
from fvpipe.reasons import Reason


@dataclass(frozen=True, slots=True)
class CodestreamSize:
    """Size of a compressed image by its own header: pixels, components a pixel, bits a component."""

    rows: int
    columns: int
    components: int
    bits: int


def check_codestream(frame: bytes, size: CodestreamSize | None, layout: PixelLayout) -> None:
    """Check a codestream against the layout before decoding.

    A codestream larger than its DICOM header would be decoded at its own size, and a cut one to an image whose rest the
    decoder makes up, or (JPEG-LS) for seconds.

    Parameters
    ----------
    frame : bytes
        The compressed image.
    size : CodestreamSize or None
        By its own header; None where that cannot be read.
    layout : PixelLayout
        By the DICOM header.

    Raises
    ------
    RejectedFile
        No size, another size or depth than that of the layout, or no end marker.
    """
    if size is None:
        raise RejectedFile(Reason.DECODE_FAILED, "no image header in the compressed frame")
    fits = size.components == 1 and size.bits <= layout.bits_allocated
    if layout.signed or layout.high_bit >= layout.bits_stored:
        fits &= (
            size.bits > layout.high_bit
        )  # else the sign, or the bits above the shift, would lie beyond the codestream's bits
    if (size.rows, size.columns) != (layout.rows, layout.columns) or not fits:
        found = f"{size.rows} x {size.columns}, {size.components} component(s) of {size.bits} bits"
        expected = f"{layout.rows} x {layout.columns}, 1 of at most {layout.bits_allocated}"
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"the compressed image is {found}; expected {expected}")
    if not frame.rstrip(b"\0\xff").endswith(b"\xff\xd9"):  # fragments are padded with 00, by some with FF
        raise RejectedFile(Reason.PIXELS_TRUNCATED, "the compressed image has no end marker")


def jpeg_size(frame: bytes) -> CodestreamSize | None:
    """Read the size of a JPEG or JPEG-LS image from its start-of-frame segment (ITU-T T.81 B.2.2)."""
    at = 2
    while at + 10 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            return CodestreamSize(rows, columns, components, bits)
        at += 2 + length
    return None


def bare_codestream(frame: bytes) -> bytes:
    """Return the JPEG 2000 codestream of a frame that may be a JP2 file, to check the same bytes that are decoded."""
    return frame if frame[:2] == b"\xff\x4f" else frame[frame.find(b"jp2c\xff\x4f") + 4 :]


def jpeg_2000_size(codestream: bytes) -> CodestreamSize | None:
    """Size of a JPEG 2000 image from the SIZ segment (ITU-T T.800 A.5.1)."""
    if codestream[:4] != b"\xff\x4f\xff\x51" or len(codestream) < 43:
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", codestream, 8)
    (components,) = struct.unpack_from(">H", codestream, 40)
    return CodestreamSize(y1 - y0, x1 - x0, components, (codestream[42] & 0x7F) + 1)
