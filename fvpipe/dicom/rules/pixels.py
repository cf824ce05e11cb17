"""Checks of everything that decides how pixels are decoded; none reads a pixel."""

from __future__ import annotations

from dataclasses import dataclass

from fvpipe.config.formats import RASTER
from fvpipe.dicom.attributes import overlay_bits
from fvpipe.dicom.decoding.fragments import frames
from fvpipe.dicom.decoding.layout import EXCESS_BYTES, PixelLayout, PixelLocation
from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED
from fvpipe.dicom.elements import RejectedFile, integer, shown_term, text
from fvpipe.dicom.reader import MAX_HEADER_BYTES, OpenedDicom
from fvpipe.dicom.rules.base import RuleContext
from fvpipe.dicom.value_mapping import InvalidValue, LookupTable, PixelPadding, Rescale, read_modality, read_padding
from fvpipe.reasons import Reason

MIN_SIDE, MAX_SIDE, MAX_PIXELS = 16, 16384, 2**27
ZERO_PADDING_BYTES = 128  # that native Pixel Data may have beyond its image where all are 0
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
    return check_size(integer(context.dataset, "Rows"), integer(context.dataset, "Columns"))


def check_size(rows: int, columns: int) -> tuple[int, int]:
    """Return a size within the bounds.

    Raises
    ------
    RejectedFile
        It is beyond them.
    """
    if not (MIN_SIDE <= rows <= MAX_SIDE and MIN_SIDE <= columns <= MAX_SIDE and rows * columns <= MAX_PIXELS):
        limits = f"{MIN_SIDE}..{MAX_SIDE} each and at most {MAX_PIXELS} pixels"
        raise RejectedFile(Reason.SIZE_OUT_OF_RANGE, f"Rows x Columns is {rows} x {columns}; expected {limits}")
    return rows, columns


def file_size(context: RuleContext) -> int:
    """Check that the file is about as large as its image, before it is read whole."""
    rows, columns = (min(integer(context.dataset, keyword, 0), MAX_SIDE) for keyword in ("Rows", "Columns"))
    most = MAX_HEADER_BYTES + 4 * min(max(rows * columns, 0), MAX_PIXELS)  # twice the image at 16 bits
    found = context.opened.file_bytes
    if found > most and integer(context.dataset, "NumberOfFrames", 1) == 1:  # else it is rejected for that, by `frames`
        detail = f"the file has {found} bytes for an image of {rows} x {columns}; expected at most {most}"
        raise RejectedFile(Reason.PIXELS_MISMATCH, detail)
    return found


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
    """Check that 8 or 16 allocated bits hold the stored ones, and that no overlay is in these."""
    allocated, stored = integer(context.dataset, "BitsAllocated"), integer(context.dataset, "BitsStored")
    high = integer(context.dataset, "HighBit", stored - 1)
    representation = integer(context.dataset, "PixelRepresentation", 0)
    sound = allocated in (8, 16) and 1 <= stored <= allocated and stored - 1 <= high < allocated
    if not sound or representation not in (0, 1):
        found = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation {representation}"
        raise RejectedFile(Reason.BITS_UNSUPPORTED, f"{found}; expected 8 or 16 bits that hold the stored ones")
    inside = [bit for bit in overlay_bits(context.dataset) if high - stored < bit <= high]
    if inside:
        found = f"an overlay in bit {inside[0]} by (60xx,0102), BitsStored {stored} and HighBit {high}"
        raise RejectedFile(Reason.BITS_UNSUPPORTED, f"{found}; expected an overlay beside the stored bits")
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
    """Check that Pixel Data is present, in the form of the transfer syntax, and holds one image and no more."""
    opened, layout, location = context.opened, pixel_layout(context), context.opened.location
    if location is None:
        raise RejectedFile(Reason.PIXEL_DATA_MISSING, "the file ends before Pixel Data (7FE0,0010)")
    single = integer(context.dataset, "NumberOfFrames", 1) == 1  # else it is rejected for that, by `frames`
    if opened.transfer_syntax_uid in RASTER:
        return location
    encapsulated = location.length is None
    if encapsulated != (layout.transfer_syntax_uid in ENCAPSULATED):
        form = "encapsulated" if encapsulated else "native"
        detail = f"Pixel Data is {form}, which its transfer syntax {layout.transfer_syntax_uid} is not"
        raise RejectedFile(Reason.DECODE_FAILED, detail)
    if location.length is None:
        found = len(frames(opened.body, location.offset, location.offset + opened.bytes_left))
        if single and found > 1:
            raise RejectedFile(Reason.MULTI_FRAME, f"Pixel Data has {found} frames, where NumberOfFrames says 1")
        return location
    if not opened.complete and location.length > layout.native_bytes + INFLATE_HEADROOM:
        detail = f"Pixel Data inflates to {location.length} bytes for {layout.native_bytes}"
        raise RejectedFile(Reason.DEFLATED_TOO_LARGE, detail)
    there = min(location.length, opened.bytes_left) if opened.complete else location.length
    if there < layout.native_bytes:
        raise truncated(there, layout)
    if single:
        _check_amount(opened, location.offset, location.length, layout)
    return location


def truncated(there: int, layout: PixelLayout) -> RejectedFile:
    """Return the rejection of Pixel Data that is too short, `there` bytes."""
    return RejectedFile(Reason.PIXELS_TRUNCATED, _amount(there, layout))


def _amount(there: int, layout: PixelLayout) -> str:
    expected = f"{layout.rows} x {layout.columns} x {layout.bits_allocated // 8} = {layout.native_bytes}"
    return f"Pixel Data has {there} bytes; expected {expected}"


def _check_amount(opened: OpenedDicom, offset: int, length: int, layout: PixelLayout) -> None:
    """Check that native Pixel Data, `length` bytes from `offset` on, is no longer than the image and its padding."""
    excess = length - layout.native_bytes
    if excess <= EXCESS_BYTES:
        return
    if excess <= ZERO_PADDING_BYTES:
        padded = layout.native_bytes + layout.native_bytes % 2
        opened.body.seek(offset + padded)
        if opened.body.read(length - padded) == bytes(length - padded):
            return
    count, rest = divmod(length, layout.native_bytes)
    detail = _amount(length, layout)
    if rest > EXCESS_BYTES:
        raise RejectedFile(Reason.PIXELS_MISMATCH, detail)
    if (count, layout.bits_allocated) == (2, 8):  # as likely as two frames
        raise RejectedFile(Reason.PIXELS_MISMATCH, f"{detail}: twice as much, as 16 bits a pixel or 2 frames have")
    raise RejectedFile(Reason.MULTI_FRAME, f"{detail}: {count} frames, where NumberOfFrames says 1")


def pixel_padding(context: RuleContext) -> PixelPadding | InvalidValue | None:
    """Check that Pixel Padding is readable."""
    return read_padding(context.dataset)
