"""Pixel layout and pixel location: how the stored pixels are encoded, and where they lie in the file."""

from __future__ import annotations

from dataclasses import dataclass

EXCESS_BYTES = 8
"""Bytes that pixels may have beyond the image, whatever they are: a pad byte, and what old writers append. Half of the shortest
row that is accepted, so that it is never a part of the image."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How Pixel Data encodes the image, as :mod:`fvpipe.dicom.rules` checked it: nothing here needs another check."""

    transfer_syntax_uid: str
    rows: int
    columns: int
    bits_allocated: int  # 8 or 16
    bits_stored: int  # of a value
    high_bit: int  # the most significant bit of a stored value within the allocated ones; 0 is the lowest
    signed: bool  # stored values are two's complement
    photometric_interpretation: str  # MONOCHROME1 or MONOCHROME2

    @property
    def native_bytes(self) -> int:
        """Bytes of the uncompressed image."""
        return self.rows * self.columns * (self.bits_allocated // 8)


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """Position of the value of Pixel Data."""

    offset: int  # byte at which the value starts, in the file or in its inflated data set
    length: int | None  # bytes of the value; None for an encapsulated (compressed) image, whose length is undefined
    words: bool  # the value representation is OW: in big endian files, 8-bit pixels are swapped in pairs
    deflated_at: int | None  # byte of the file at which its deflated data set starts; None where the data set is not deflated
