"""Opens a DICOM file up to its Pixel Data, with bounded memory."""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from dataclasses import dataclass
from enum import StrEnum
from io import BufferedReader, FileIO, RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from fvpipe.config.formats import HEAD_BYTES, recognize
from fvpipe.dicom.decoding.layout import PixelLocation
from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.dicom.elements import RejectedFile, raise_transient, shown_uid, silenced, text
from fvpipe.reasons import Reason

MAX_HEADER_BYTES = 64 * 2**20  # that are read of a file for its header
MAX_HEADER_READS = 100_000  # of a file for its header: two or three an element
HEADER_INFLATE_LIMIT = 8 * 2**20  # bytes of a deflated data set that are inflated for its header
INFLATE_OVERHEAD = 2**16  # bytes that deflating may add to so many
PIXEL_DATA = 0x7FE00010


class OpeningStep(StrEnum):
    """The steps of opening a file, in order; each needs the one before."""

    FILE = "file"
    MARKER = "DICM marker"
    META = "file meta information"
    TRANSFER_SYNTAX = "transfer syntax"
    DATA_SET = "data set"


class UnopenedFile(RejectedFile):
    """A file that is rejected before its header can be checked; `step` is the step that failed."""

    def __init__(self, step: OpeningStep, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.step = step


UNNAMED = None
"""`name` of the files that are parsed. Where a file ends inside an element of undefined length, pydicom drops the element and
warns with the name; without one it raises TypeError instead, and the file is rejected, from disk and from memory alike."""


# --- bytes ------------------------------------------------------------------------------------------------------------


class _Budget:
    """Limit of the bytes and reads of a header; a file whose header needs more is rejected."""

    def __init__(self) -> None:
        self._reads, self._bytes = MAX_HEADER_READS, MAX_HEADER_BYTES

    def spend(self, size: int) -> None:
        self._reads -= 1
        self._bytes -= size
        if self._reads < 0 or self._bytes < 0:
            detail = f"the header has more than {MAX_HEADER_BYTES} bytes, or about {MAX_HEADER_READS // 2} elements"
            raise UnopenedFile(OpeningStep.DATA_SET, Reason.HEADER_UNREADABLE, detail)


class _BoundedReader(BufferedReader):
    """A file whose reads are bounded by its size: Python reserves as much as is read, and an element may claim 4 GB."""

    name = UNNAMED

    def __init__(self, file: FileIO, size: int) -> None:
        super().__init__(file)
        self._size = size
        self._budget = _Budget()

    def read(self, size: int | None = -1, /) -> bytes:
        size = self._size if size is None or size < 0 else min(size, self._size)
        self._budget.spend(size)
        return super().read(size)


class _MemoryReader(RawIOBase):
    """Bytes in memory as a file; only the parts that are read are copied."""

    name = UNNAMED

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._at = 0
        self._budget = _Budget()

    def read(self, size: int | None = -1, /) -> bytes:
        start, end = self._at, len(self._data)
        if size is not None and 0 <= size < end - start:
            end = start + size
        self._at = max(start, end)
        self._budget.spend(self._at - start)
        return bytes(self._data[start:end])

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._at = max(offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: len(self._data)}[whence], 0)
        return self._at


def stream(data: bytes | memoryview) -> BinaryIO:
    """Wrap a file's bytes as a binary file for :func:`open_dicom`."""
    return cast(BinaryIO, _MemoryReader(data))


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for bounded reads.

    Raises
    ------
    UnopenedFile
        Not a regular file.
    OSError
        The file system does not give the file.
    """
    status = os.stat(path)  # before it is opened: opening a named pipe waits for a writer
    if not stat.S_ISREG(status.st_mode):
        raise UnopenedFile(OpeningStep.FILE, Reason.NOT_A_FILE, "no regular file")
    return cast(BinaryIO, _BoundedReader(FileIO(path), status.st_size))


def inflate(deflated: bytes | memoryview, limit: int) -> tuple[bytes, bool]:
    """Inflate a deflated data set up to a limit, since 285 kB can hold 617 MB.

    Parameters
    ----------
    deflated : bytes or memoryview
        From the start of the deflated data set on.
    limit : int
        Bytes to inflate at most.

    Returns
    -------
    data : bytes
        The start of the inflated data set, at most `limit` bytes.
    complete : bool
        False where more could be inflated.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflater.decompress(deflated, limit)
    except zlib.error:
        detail = "the deflated data set does not inflate"
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.HEADER_UNREADABLE, detail) from None
    return data, inflater.eof or len(data) < limit  # a stream that was cut ends below the limit


# --- opening a file ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenedDicom:
    """A DICOM file, parsed up to its Pixel Data; or another image file, with the elements that its own header amounts to."""

    # Everything before Pixel Data, without the file meta information (whose SOP class VinDr-Mammo fills with 1.2.3.4)
    dataset: Dataset
    transfer_syntax_uid: str  # of the pixels; of an image file that is not DICOM, the name of its format
    body: BinaryIO  # the file, or its inflated data set
    location: PixelLocation | None  # where Pixel Data lies in `body`; None where the file ends before it
    bytes_left: int  # bytes of `body` from the start of Pixel Data's value to the end
    complete: bool  # False where a deflated data set was inflated only up to the limit
    file_bytes: int  # size of the file


def open_dicom(file: BinaryIO) -> OpenedDicom:
    """Parse a DICOM file up to Pixel Data, without reading the pixels.

    Parameters
    ----------
    file : BinaryIO
        Positioned at the start.

    Raises
    ------
    UnopenedFile
        Not DICOM, a broken header, a transfer syntax without a decoder, or no Pixel Data in the first
        :data:`HEADER_INFLATE_LIMIT` bytes of an inflated data set.
    """
    head = file.read(HEAD_BYTES)
    if head[128:] != b"DICM":
        raise UnopenedFile(OpeningStep.MARKER, Reason.NOT_DICOM, f"no DICM marker at byte 128{_what_else(head)}")
    with silenced():
        syntax, directory = _read_meta(file)
        _check_transfer_syntax(syntax)
        body, complete, deflated_at = file, True, None
        if syntax == DeflatedExplicitVRLittleEndian:
            deflated_at = file.tell()
            data, complete = inflate(file.read(HEADER_INFLATE_LIMIT + INFLATE_OVERHEAD), HEADER_INFLATE_LIMIT)
            body = stream(data)
        little, implicit = syntax != ExplicitVRBigEndian, syntax == ImplicitVRLittleEndian
        dataset = _read_data_set(body, implicit, little, syntax, directory=directory)
    location = _locate_pixel_data(body, implicit, "<" if little else ">", deflated_at)
    if location is None and not complete:
        detail = f"no Pixel Data in the first {HEADER_INFLATE_LIMIT} bytes of the inflated data set"
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.DEFLATED_TOO_LARGE, detail)
    bytes_left = max(body.seek(0, os.SEEK_END) - location.offset, 0) if location else 0
    return OpenedDicom(dataset, syntax, body, location, bytes_left, complete, file.seek(0, os.SEEK_END))


def _read_meta(file: BinaryIO) -> tuple[str, bool]:
    """Read the file meta information: the transfer syntax, and whether the file is a DICOMDIR."""
    try:
        meta = read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        return text(meta, "TransferSyntaxUID"), text(meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage
    except RejectedFile:
        raise
    except Exception as error:
        raise_transient(error)
        file.read(0)  # raises where the budget is spent, which pydicom may have hidden
        detail = "the file meta information cannot be parsed: an element's length or value representation is wrong"
        raise UnopenedFile(OpeningStep.META, Reason.HEADER_UNREADABLE, detail) from None


def _check_transfer_syntax(syntax: str) -> None:
    if syntax not in NATIVE | ENCAPSULATED:
        # Never an identifier, so that a vendor's own is shown, too.
        found = syntax if len(syntax) <= 64 and re.fullmatch(r"[0-2](\.(0|[1-9][0-9]*))+", syntax) else shown_uid(syntax)
        expected = "uncompressed, RLE, JPEG, JPEG-LS, JPEG 2000 or HTJ2K: convert the file"
        detail = f"transfer syntax is {found}, which has no decoder; expected {expected}"
        raise UnopenedFile(OpeningStep.TRANSFER_SYNTAX, Reason.TRANSFER_SYNTAX_UNSUPPORTED, detail)


def _read_data_set(body: BinaryIO, implicit: bool, little: bool, syntax: str, *, directory: bool) -> Dataset:
    """Read the elements before Pixel Data; an unexpected encoding, an element that occurs twice and a DICOMDIR are rejected."""
    standard: list[int] = []  # tags of the data set, which a vendor's private ones are not

    def is_pixel_data(tag: int, _vr: str | None, _length: int) -> bool:
        number = int(tag)  # whose comparisons pydicom does not replace by slower ones
        if not number & 1 << 16:
            standard.append(number)
        return number >= PIXEL_DATA

    try:
        dataset = read_dataset(body, implicit, little, stop_when=is_pixel_data)
    except RejectedFile:
        raise
    except Exception as error:
        raise_transient(error)
        body.read(0)  # raises where the budget is spent, which pydicom may have hidden
        detail = "the data set cannot be parsed: an element's length or value representation is wrong"
        reason = Reason.DICOM_DIRECTORY if directory else Reason.HEADER_UNREADABLE
        raise UnopenedFile(OpeningStep.DATA_SET, reason, detail) from None
    tags = dataset.keys()  # of raw elements: none is parsed
    if (directory or min(tags, default=PIXEL_DATA) >> 16 == 4) and "Rows" not in dataset:
        detail = "a DICOMDIR, which lists the files of a medium; expected an image"
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.DICOM_DIRECTORY, detail)
    if dataset.original_encoding[0] is not implicit:  # pydicom adapts; then the start of Pixel Data would be a guess
        detail = f"the data set's encoding is not that of its transfer syntax {syntax}"
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.HEADER_UNREADABLE, detail)
    if len(set(standard)) < len(standard):  # pydicom keeps the last: an anonymizer may have added what it should have replaced
        detail = f"{len(standard) - len(set(standard))} element(s) occur twice, with perhaps two values; expected each once"
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.HEADER_UNREADABLE, detail)
    return dataset


_OTHER_FILES = {
    b"": "the file is empty: copy it again",
    b"\x1f\x8b": "it is compressed with gzip: unpack it",
    b"PK\3\4": "it is a ZIP archive: unpack it",
    b"version https://git-lfs": "it is a Git LFS pointer: fetch the file itself",
    b"\0\0\0\x0cjP": "it is a JPEG 2000 image without a header of DICOM",
}
"""First bytes of files that take the place of DICOM files, and what they say."""


def _what_else(head: bytes) -> str:
    if form := recognize(head):
        where = f"read where `formats` of its data set name {form} (in its declaration, or in params.yaml)"
        return f"; it is a {form.upper()} image, which is {where}"
    known = (what for first, what in _OTHER_FILES.items() if (head.startswith(first) if first else not head))
    return "".join(f"; {what}" for what in known)


def _locate_pixel_data(body: BinaryIO, implicit: bool, order: str, deflated_at: int | None) -> PixelLocation | None:
    """Parse tag, value representation and length of the element at which reading stopped."""
    start = body.tell()
    head = body.read(12)
    if len(head) < 8 or struct.unpack(order + "HH", head[:4]) != (0x7FE0, 0x0010):
        return None
    if implicit:
        size, length = 8, struct.unpack(order + "I", head[4:8])[0]
    elif head[4:6] in (b"OB", b"OW", b"UN") and len(head) == 12:
        size, length = 12, struct.unpack(order + "I", head[8:12])[0]
    else:
        raise UnopenedFile(OpeningStep.DATA_SET, Reason.HEADER_UNREADABLE, "Pixel Data is neither OB nor OW")
    words = not implicit and head[4:6] == b"OW"
    return PixelLocation(start + size, None if length == 0xFFFFFFFF else length, words, deflated_at)
