"""How the bytes of Pixel Data are laid out, checked before any of them is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from fvpipe.dicom.elements import RejectedFile, integer, shown_term, text
from fvpipe.dicom.reader import OpenedDicom
from fvpipe.dicom.transfer_syntaxes import ENCAPSULATED
from fvpipe.reasons import Reason

MIN_SIDE, MAX_SIDE, MAX_PIXELS = 16, 16384, 2**27
INFLATE_HEADROOM = 2**24  # bytes that a deflated data set may have beside its pixels


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How the bytes of Pixel Data are to be read, checked before any of them is."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    photometric_interpretation: str

    @property
    def native_bytes(self) -> int:
        """Bytes of the uncompressed image."""
        return self.rows * self.columns * (self.bits_allocated // 8)


def pixel_layout(opened: OpenedDicom) -> PixelLayout:
    """Everything that decides how pixels are decoded; bounds hold before a single byte of them is touched."""
    header = opened.header
    syntax = opened.transfer_syntax_uid
    rows, columns = integer(header, "Rows"), integer(header, "Columns")
    if not (MIN_SIDE <= rows <= MAX_SIDE and MIN_SIDE <= columns <= MAX_SIDE and rows * columns <= MAX_PIXELS):
        limits = f"{MIN_SIDE}..{MAX_SIDE} each and at most {MAX_PIXELS} pixels"
        raise RejectedFile(Reason.SIZE_OUT_OF_RANGE, f"Rows x Columns is {rows} x {columns}; expected {limits}")
    photometric = text(header, "PhotometricInterpretation").upper()
    if not photometric:
        raise RejectedFile(Reason.HEADER_INCOMPLETE, "PhotometricInterpretation is absent or empty")
    samples = integer(header, "SamplesPerPixel", 1)
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        found = f"{shown_term(photometric)} with {samples} sample(s) a pixel"
        raise RejectedFile(Reason.COLOUR, f"PhotometricInterpretation is {found}; expected MONOCHROME1 or MONOCHROME2")
    allocated = integer(header, "BitsAllocated")
    stored = integer(header, "BitsStored")
    high = integer(header, "HighBit", stored - 1)
    representation = integer(header, "PixelRepresentation", 0)
    sound = allocated in (8, 16) and 1 <= stored <= allocated and stored - 1 <= high < allocated
    if not sound or representation not in (0, 1):
        found = f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high}, PixelRepresentation {representation}"
        raise RejectedFile(Reason.BITS_UNSUPPORTED, f"{found}; expected 8 or 16 bits that hold the stored ones")
    return PixelLayout(syntax, rows, columns, allocated, stored, high, representation == 1, photometric)


def check_pixel_data(opened: OpenedDicom, layout: PixelLayout) -> None:
    """Pixel Data is there, in the form of the transfer syntax, and long enough as far as a header can tell."""
    if opened.value_offset is None:
        raise RejectedFile(Reason.PIXEL_DATA_MISSING, "the file ends before Pixel Data (7FE0,0010)")
    encapsulated = opened.value_length is None
    if encapsulated != (layout.transfer_syntax_uid in ENCAPSULATED):
        form = "encapsulated" if encapsulated else "native"
        raise RejectedFile(
            Reason.DECODE_FAILED, f"Pixel Data is {form}, which its transfer syntax {layout.transfer_syntax_uid} is not"
        )
    if opened.value_length is None:
        _check_fragments(opened)
        return
    if not opened.complete and opened.value_length > layout.native_bytes + INFLATE_HEADROOM:
        raise RejectedFile(
            Reason.DEFLATED_TOO_LARGE, f"Pixel Data inflates to {opened.value_length} bytes for {layout.native_bytes}"
        )
    there = min(opened.value_length, opened.bytes_left) if opened.complete else opened.value_length
    if there < layout.native_bytes:
        expected = f"{layout.rows} x {layout.columns} x {layout.bits_allocated // 8} = {layout.native_bytes}"
        raise RejectedFile(Reason.PIXELS_TRUNCATED, f"Pixel Data has {there} bytes; expected {expected}")


def _check_fragments(opened: OpenedDicom) -> None:
    """Every fragment of an encapsulated image is whole (PS3.5 A.4): a cut file is found without decoding it."""
    assert opened.value_offset is not None
    at, end = opened.value_offset, opened.value_offset + opened.bytes_left
    fragments = -1  # the first item is the offset table
    while at + 8 <= end:
        opened.body.seek(at)
        group, element, length = struct.unpack("<HHI", opened.body.read(8))
        if (group, element) == (0xFFFE, 0xE0DD):
            break
        if (group, element) != (0xFFFE, 0xE000):
            raise RejectedFile(
                Reason.PIXELS_TRUNCATED, f"no item where fragment {max(fragments, 0)} of Pixel Data should start"
            )
        if at + 8 + length > end:
            there = f"{end - at - 8} of {length} bytes"
            raise RejectedFile(Reason.PIXELS_TRUNCATED, f"fragment {max(fragments, 0)} of Pixel Data ends after {there}")
        fragments += 1
        at += 8 + length
    if fragments < 1:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, "Pixel Data ends before its first fragment")
