"""Checks of everything that decides how pixels are decoded; none reads a pixel."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fvpipe.dicom.elements import RejectedFile, integer, shown_term, text
from fvpipe.dicom.layout import PixelLayout, PixelLocation
from fvpipe.dicom.reader import OpenedDicom
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.transfer_syntaxes import ENCAPSULATED
from fvpipe.dicom.value_mapping import LookupTable, PixelPadding, Rescale, read_modality, read_padding
from fvpipe.reasons import Reason

MIN_SIDE, MAX_SIDE, MAX_PIXELS = 16, 16384, 2**27
INFLATE_HEADROOM = 2**24  # bytes that a deflated Pixel Data may have beyond its image


@dataclass(frozen=True, slots=True)
class StoredBits:
    """Bits of a pixel: allocated ones, those that hold the value, the most significant of these, and the sign."""

    allocated: int
    stored: int
    high: int
    signed: bool


def size(context: RuleContext) -> tuple[int, int]:
    """Check rows and columns against the bounds, before a byte of the pixels is touched."""
    rows, columns = integer(context.dataset, "Rows"), integer(context.dataset, "Columns")
    if not (MIN_SIDE <= rows <= MAX_SIDE and MIN_SIDE <= columns <= MAX_SIDE and rows * columns <= MAX_PIXELS):
        limits = f"{MIN_SIDE}..{MAX_SIDE} each and at most {MAX_PIXELS} pixels"
        raise RejectedFile(Reason.SIZE_OUT_OF_RANGE, f"Rows x Columns is {rows} x {columns}; expected {limits}")
    return rows, columns


def photometric_interpretation(context: RuleContext) -> str:
    """Check for one sample of MONOCHROME1 or MONOCHROME2."""
    found = text(context.dataset, "PhotometricInterpretation").upper()
    if not found:
        raise RejectedFile(Reason.HEADER_INCOMPLETE, "PhotometricInterpretation is absent or empty")
    samples = integer(context.dataset, "SamplesPerPixel", 1)
    if samples != 1 or found not in ("MONOCHROME1", "MONOCHROME2"):
        detail = f"PhotometricInterpretation is {shown_term(found)} with {samples} sample(s) a pixel"
        raise RejectedFile(Reason.COLOUR, f"{detail}; expected MONOCHROME1 or MONOCHROME2")
    return found


def bits(context: RuleContext) -> StoredBits:
    """Check that 8 or 16 allocated bits hold the stored ones."""
    allocated, stored = integer(context.dataset, "BitsAllocated"), integer(context.dataset, "BitsStored")
    high = integer(context.dataset, "HighBit", stored - 1)
    representation = integer(context.dataset, "PixelRepresentation", 0)
    sound = allocated in (8, 16) and 1 <= stored <= allocated and stored - 1 <= high < allocated
    if not sound or representation not in (0, 1):
        found = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation {representation}"
        raise RejectedFile(Reason.BITS_UNSUPPORTED, f"{found}; expected 8 or 16 bits that hold the stored ones")
    return StoredBits(allocated, stored, high, representation == 1)


def rescale(context: RuleContext) -> Rescale | LookupTable:
    """Check slope and intercept, or the Modality LUT, which takes precedence."""
    return read_modality(context.dataset)


def pixel_layout(context: RuleContext) -> PixelLayout:
    """Combine the facts of `size`, `photometric_interpretation` and `bits`."""
    rows, columns = context.fact(size)
    found, syntax = context.fact(bits), context.opened.transfer_syntax_uid
    photometric = context.fact(photometric_interpretation)
    return PixelLayout(syntax, rows, columns, found.allocated, found.stored, found.high, found.signed, photometric)


def pixel_data(context: RuleContext) -> PixelLocation:
    """Check that Pixel Data is present, in the form of the transfer syntax, and as long as the image needs."""
    opened, layout, location = context.opened, pixel_layout(context), context.opened.location
    if location is None:
        raise RejectedFile(Reason.PIXEL_DATA_MISSING, "the file ends before Pixel Data (7FE0,0010)")
    encapsulated = location.length is None
    if encapsulated != (layout.transfer_syntax_uid in ENCAPSULATED):
        form = "encapsulated" if encapsulated else "native"
        detail = f"Pixel Data is {form}, which its transfer syntax {layout.transfer_syntax_uid} is not"
        raise RejectedFile(Reason.DECODE_FAILED, detail)
    if location.length is None:
        _check_fragments(opened, location)
        return location
    if not opened.complete and location.length > layout.native_bytes + INFLATE_HEADROOM:
        detail = f"Pixel Data inflates to {location.length} bytes for {layout.native_bytes}"
        raise RejectedFile(Reason.DEFLATED_TOO_LARGE, detail)
    there = min(location.length, opened.bytes_left) if opened.complete else location.length
    if there < layout.native_bytes:
        raise truncated(there, layout)
    return location


def truncated(there: int, layout: PixelLayout) -> RejectedFile:
    """Return the rejection of Pixel Data that is too short, `there` bytes."""
    expected = f"{layout.rows} x {layout.columns} x {layout.bits_allocated // 8} = {layout.native_bytes}"
    return RejectedFile(Reason.PIXELS_TRUNCATED, f"Pixel Data has {there} bytes; expected {expected}")


def _check_fragments(opened: OpenedDicom, location: PixelLocation) -> None:
    """Check that every fragment of an encapsulated image is whole (PS3.5 A.4), without decoding it."""
    at, end = location.offset, location.offset + opened.bytes_left
    fragments = -1  # the first item is the offset table
    while at + 8 <= end:
        opened.body.seek(at)
        group, element, length = struct.unpack("<HHI", opened.body.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            detail = f"no item where fragment {max(fragments, 0)} of Pixel Data should start"
            raise RejectedFile(Reason.PIXELS_TRUNCATED, detail)
        if at + 8 + length > end:
            there = f"{end - at - 8} of {length} bytes"
            raise RejectedFile(Reason.PIXELS_TRUNCATED, f"fragment {max(fragments, 0)} of Pixel Data ends after {there}")
        fragments += 1
        at += 8 + length
    if fragments < 1:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, "Pixel Data ends before its first fragment")


def pixel_padding(context: RuleContext) -> PixelPadding | None:
    """Check that Pixel Padding is readable."""
    return read_padding(context.dataset)
