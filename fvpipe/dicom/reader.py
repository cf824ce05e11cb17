"""Opens a DICOM file up to its Pixel Data, with bounded memory."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from io import BufferedReader, BytesIO, FileIO, RawIOBase
from typing import BinaryIO, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from fvpipe.dicom.elements import RejectedFile, raise_transient, shown_uid, silenced, text
from fvpipe.dicom.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.reasons import Reason

HEADER_INFLATE_LIMIT = 8 * 2**20  # bytes of a deflated data set that `index` looks at: headers are far smaller
PIXEL_DATA = 0x7FE00010


class _Bounded(BufferedReader):
    """A file that is never asked for more than it has: Python reserves what an element claims, and that may be 4 GB."""

    def __init__(self, file: FileIO, size: int) -> None:
        super().__init__(file)
        self._size = size

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self._size if size is None or size < 0 else min(size, self._size))


class _Memory(RawIOBase):
    """Bytes in memory as a file: nothing is copied but what is read."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0

    def read(self, size: int | None = -1, /) -> bytes:
        start, end = self._at, len(self._data)
        if size is not None and 0 <= size < end - start:
            end = start + size
        self._at = max(start, end)
        return bytes(self._data[start:end])

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence], 0)
        return self._at


def stream(data: bytes | memoryview) -> BinaryIO:
    """A file's bytes as :func:`open_dicom` takes them."""
    return cast(BinaryIO, _Memory(data))


# --- opening a file ---------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class OpenedDicom:
    """A DICOM file up to its Pixel Data.

    Attributes
    ----------
    header : Dataset
        Everything before Pixel Data, without the file meta information (whose SOP class VinDr-Mammo fills with 1.2.3.4).
    body : BinaryIO
        What `value_offset` counts in: the file, or its inflated data set.
    value_offset : int or None
        Where Pixel Data's value starts; None where the file ends before it.
    value_length : int or None
        Bytes; None for encapsulated (undefined) length.
    bytes_left : int
        From `value_offset` to the end of `body`.
    words : bool
        Pixel Data has the value representation OW: on big endian, 8-bit pixels are swapped in pairs.
    complete : bool
        False where a deflated data set was inflated only as far as the header needs.
    """

    header: Dataset
    transfer_syntax_uid: str
    body: BinaryIO
    value_offset: int | None = None
    value_length: int | None = None
    bytes_left: int = 0
    complete: bool = True
    words: bool = False


def open_dicom(file: BinaryIO, inflate_limit: int) -> OpenedDicom:
    """Parse a DICOM file up to Pixel Data, reading none of the pixels.

    Parameters
    ----------
    file : BinaryIO
        Positioned at the start.
    inflate_limit : int
        Bytes at most that a deflated data set may grow to; what lies beyond is not looked at.

    Raises
    ------
    Rejected
        Not DICOM, a broken header, or a transfer syntax that no decoder here reads.
    """
    if file.read(132)[128:] != b"DICM":
        raise RejectedFile(Reason.NOT_DICOM, "no DICM marker at byte 128")
    with silenced():
        try:
            meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
            syntax = text(meta, "TransferSyntaxUID")
        except Exception as error:
            raise_transient(error)
            raise RejectedFile(Reason.HEADER_UNREADABLE, f"file meta information ({type(error).__name__})") from None
        if syntax not in NATIVE | ENCAPSULATED:
            raise RejectedFile(Reason.TRANSFER_SYNTAX_UNSUPPORTED, f"transfer syntax is {shown_uid(syntax)}")
        body, complete = (_inflate(file, inflate_limit)) if syntax == DeflatedExplicitVRLittleEndian else (file, True)
        little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        try:
            header = read_dataset(body, implicit, little, stop_when=lambda tag, vr, length: tag >= PIXEL_DATA)
        except Exception as error:
            raise_transient(error)
            raise RejectedFile(Reason.HEADER_UNREADABLE, f"data set ({type(error).__name__})") from None
    if header.original_encoding[0] is not implicit:  # pydicom looks and adapts, but where would Pixel Data start?
        raise RejectedFile(Reason.HEADER_UNREADABLE, f"the data set's encoding is not that of its transfer syntax {syntax}")
    opened = OpenedDicom(header, syntax, body, complete=complete)
    _find_pixel_data(opened, implicit, "<" if little else ">")
    if opened.value_offset is None and not complete:
        raise RejectedFile(
            Reason.DEFLATED_TOO_LARGE, f"no Pixel Data in the first {inflate_limit} bytes of the inflated data set"
        )
    return opened


def _inflate(file: BinaryIO, limit: int) -> tuple[BinaryIO, bool]:
    """Inflate at most `limit` bytes: 285 kB can hold 617 MB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(file.read(), limit)
    except zlib.error:
        raise RejectedFile(Reason.HEADER_UNREADABLE, "the deflated data set does not inflate") from None
    return BytesIO(data), inflater.eof or len(data) < limit  # a stream that was cut has no more to give


def _find_pixel_data(opened: OpenedDicom, implicit: bool, order: str) -> None:
    body = opened.body
    start = body.tell()
    head = body.read(12)
    end = body.seek(0, os.SEEK_END)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return
    if implicit:
        size, length = 8, struct.unpack(order + "I", head[4:8])[0]
    elif head[4:6] in (b"OB", b"OW", b"UN") and len(head) == 12:
        size, length = 12, struct.unpack(order + "I", head[8:12])[0]
    else:
        raise RejectedFile(Reason.HEADER_UNREADABLE, "Pixel Data is neither OB nor OW")
    opened.words = not implicit and head[4:6] == b"OW"
    opened.value_offset = start + size
    opened.value_length = None if length == 0xFFFFFFFF else length
    opened.bytes_left = max(end - opened.value_offset, 0)
