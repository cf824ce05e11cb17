"""Compressed images by their own headers: where they end, and whether they are what the DICOM header says."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace

from fvpipe.dicom.decoding.layout import PixelLayout
from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason

_SOI, _SOS, _SOT, _EOI = 0xD8, 0xDA, b"\xff\x90", b"\xff\xd9"  # JPEG 2000's end marker EOC has JPEG's bytes
_JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")  # after compressed data: no stuffed byte, no restart marker
_JP2_CODESTREAM = re.compile(rb"jp2c(?:.{8})?(?=\xff\x4f\xff\x51)", re.DOTALL)  # LBox says XLBox: 8 bytes follow the type
_START = re.compile(rb"\xff\xd8\xff|\xff\x4f\xff\x51")


@dataclass(frozen=True, slots=True)
class CodestreamSize:
    """Size of a compressed image by its own header: pixels, components a pixel, bits a component.

    `signed` is None for a codec whose header has no sign (JPEG, JPEG-LS). `lacks` says which part of the image has no data.
    """

    rows: int
    columns: int
    components: int
    bits: int
    signed: bool | None = None
    lacks: str = ""


def jpeg_codestream(frame: bytes, layout: PixelLayout, components: tuple[int, ...] = (1,)) -> tuple[bytes, CodestreamSize]:
    """Check a JPEG or JPEG-LS image before decoding.

    Parameters
    ----------
    layout : PixelLayout
        By the DICOM header.
    components : tuple of int
        How many the image may have.

    Returns
    -------
    codestream : bytes
        The image without what follows its end marker.
    size : CodestreamSize
        By its own header.

    Raises
    ------
    RejectedFile
        No size, another size, depth or sign than that of the layout, no end marker, or another image after it.
    """
    return _checked(frame, *_read_jpeg(frame), layout, components)


def jpeg_2000_codestream(frame: bytes, layout: PixelLayout) -> tuple[bytes, CodestreamSize]:
    """Check a JPEG 2000 image, which may be in the boxes of a JP2 file, as :func:`jpeg_codestream` does."""
    codestream = bare_codestream(frame)
    return _checked(codestream, *_read_jpeg_2000(codestream), layout)


def _checked(
    frame: bytes, size: CodestreamSize | None, end: int, layout: PixelLayout, components: tuple[int, ...] = (1,)
) -> tuple[bytes, CodestreamSize]:
    """Compare size and end; `end` is where the image ends, or where it could be followed no further.

    A codestream larger than its DICOM header would be decoded at its own size, and a cut one to an image whose rest the
    decoder makes up, or (JPEG-LS) for seconds.
    """
    if size is None:
        raise RejectedFile(Reason.DECODE_FAILED, "no image header in the compressed frame")
    least, top = 1, layout.high_bit + 1
    if layout.high_bit >= layout.bits_stored or (layout.signed and not size.signed):
        least = top  # else the bits above the shift, or the sign, would lie beyond the codestream's bits
    # An unsigned JPEG 2000 image may hold two's complement that was not declared to the encoder: the values decide.
    signs_agree = size.signed is None or size.signed == layout.signed or (layout.signed and size.bits == layout.bits_stored)
    fits = size.components in components and least <= size.bits <= layout.bits_allocated and signs_agree
    if (size.rows, size.columns) != (layout.rows, layout.columns) or not fits:
        sign = {None: "", True: "signed ", False: "unsigned "}
        found = f"{size.rows} x {size.columns}, {size.components} component(s) of {size.bits} {sign[size.signed]}bits"
        expected_sign = sign[None if size.signed is None else layout.signed]
        expected = f"{layout.rows} x {layout.columns}, 1 of {least} to {layout.bits_allocated} {expected_sign}bits"
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"the compressed image is {found}; expected {expected}")
    if size.lacks:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, size.lacks)
    if _START.search(frame, end):
        raise RejectedFile(Reason.MULTI_FRAME, "another compressed image follows the first; expected 1 frame")
    if frame[:end].endswith(_EOI):
        return frame[:end], size
    if not frame.rstrip(b"\0\xff").endswith(_EOI):
        raise RejectedFile(Reason.PIXELS_TRUNCATED, "the compressed image has no end marker after its data")
    return frame, size  # damaged between, which the decoder says


def _read_jpeg(frame: bytes) -> tuple[CodestreamSize | None, int]:
    """Size by the start-of-frame segment, and end (ITU-T T.81 B.2.2), or where the segments stop without an end marker."""
    size, at = None, 2
    while at + 2 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
            continue
        if marker == _EOI[1]:
            return size, at + 2
        if marker == _SOI or at + 10 > len(frame):
            break
        (length,) = struct.unpack_from(">H", frame, at + 2)
        if (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)) or marker == 0xF7:
            bits, rows, columns, components = struct.unpack_from(">BHHB", frame, at + 4)
            size = size or CodestreamSize(rows, columns, components, bits)
        at += 2 + length
        if marker == _SOS:
            found = _JPEG_MARKER.search(frame, at)
            at = found.start() if found else len(frame)
    return size, at


def bare_codestream(frame: bytes) -> bytes:
    """Return the JPEG 2000 codestream of a frame that may be a JP2 file, to check the same bytes that are decoded."""
    box = None if frame[:2] == b"\xff\x4f" else _JP2_CODESTREAM.search(frame)
    return frame[box.end() :] if box else frame


def _read_jpeg_2000(codestream: bytes) -> tuple[CodestreamSize | None, int]:
    """Size by the SIZ segment, and end by the lengths of the tile-parts (ITU-T T.800 A.4, A.5); 4 where it is not there."""
    if codestream[:4] != b"\xff\x4f\xff\x51" or len(codestream) < 43:
        return None, 0
    x1, y1, x0, y0, width, height, left, top = struct.unpack_from(">8I", codestream, 8)
    components, depth = struct.unpack_from(">HB", codestream, 40)
    size = CodestreamSize(y1 - y0, x1 - x0, components, (depth & 0x7F) + 1, bool(depth & 0x80))
    at, found = 2, set[int]()
    while at + 12 <= len(codestream) and codestream[at] == 0xFF and codestream[at : at + 2] != _SOT:
        at += 2 + struct.unpack_from(">H", codestream, at + 2)[0]
    while codestream[at : at + 2] == _SOT and at + 12 <= len(codestream):
        tile, length = struct.unpack_from(">HI", codestream, at + 4)
        found.add(tile)
        if not length:  # up to the end, whose marker cannot occur within
            at = max(codestream.find(_EOI, at + 12), 0)
        else:
            at += max(length, 12)
    if codestream[at : at + 2] != _EOI:
        return size, 4
    tiles = -(-(x1 - left) // max(width, 1)) * -(-(y1 - top) // max(height, 1))
    if len(found) < tiles:  # OpenJPEG leaves the others black
        size = replace(size, lacks=f"the compressed image has {len(found)} of {tiles} tiles")
    return size, at + 2
