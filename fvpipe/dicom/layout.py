"""Pixel layout and pixel location: how the stored pixels are encoded, and where they lie in the file."""

from __future__ import annotations

from dataclasses import dataclass

EXCESS_BYTES = 8
"""Bytes that pixels may have beyond the image, whatever they are: a pad byte, and what old writers append. Half of the shortest
row that is accepted, so that it is never a part of the image."""


@dataclass(frozen=True, slots=True)
class PixelLayout:
    """How Pixel Data encodes the image, as :mod:`fvpipe.dicom.rules` checked it: nothing here needs another check.

    Attributes
    ----------
    rows, columns : int
        Pixels.
    bits_allocated : int
        8 or 16.
    bits_stored, high_bit : int
        Number of bits of a stored value, and its most significant bit (0 is the lowest) within the allocated ones.
    signed : bool
        Stored values are two's complement.
    photometric_interpretation : {"MONOCHROME1", "MONOCHROME2"}
        Whether low or high values are bright.
    """

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


@dataclass(frozen=True, slots=True)
class PixelLocation:
    """Position of the value of Pixel Data.

    Attributes
    ----------
    offset : int
        Byte at which the value starts, in the file or in its inflated data set.
    length : int or None
        Bytes of the value; None for an encapsulated (compressed) image, whose length is undefined.
    words : bool
        The value representation is OW: in big endian files, 8-bit pixels are swapped in pairs.
    deflated_at : int or None
        Byte of the file at which its deflated data set starts; None where the data set is not deflated.
    """

    offset: int
    length: int | None
    words: bool
    deflated_at: int | None
