"""Fragments of encapsulated Pixel Data (PS3.5 A.4) and the frames that they make up.

Where a frame begins is told by the bytes, not by an offset table: writers put one offset per fragment into it, or wrong ones.
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, NamedTuple

from fvpipe.dicom.elements import RejectedFile
from fvpipe.reasons import Reason

_ITEM, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_HEAD_BYTES = 64  # of a fragment, which hold the header of an RLE image or the start of any other
_JPEG, _END = b"\xff\xd8\xff", b"\xff\xd9"
_START = re.compile(rb"\xff\xd8\xff|\xff\x4f\xff\x51|\0\0\0\x0cjP  \r\n\x87\n")  # JPEG, JPEG 2000, JP2 file


class Fragment(NamedTuple):
    """Position of a fragment in the file and its length, in bytes."""

    start: int
    length: int


def frames(body: BinaryIO, offset: int, end: int) -> list[list[Fragment]]:
    """Find the fragments of each frame.

    Parameters
    ----------
    offset, end : int
        Bytes at which the value of Pixel Data starts and the file ends.

    Returns
    -------
    list of list of Fragment
        A later frame begins at each fragment that starts an image of the same kind as the first fragment; all others continue
        the frame before them.

    Raises
    ------
    RejectedFile
        No fragment, or one that is not whole.
    """
    fragments, heads = _read_fragments(body, offset, end)
    found = [[fragments[0]]]
    kind = _kind(heads)
    for i, fragment in enumerate(fragments[1:], 1):
        starts = kind and _kind(heads[i : i + _HEAD_BYTES // 2]) == kind
        if starts and (kind != _JPEG or _ended(body, fragments[i - 1])):  # JPEG-LS may start again within its SPIFF header
            found.append([])
        found[-1].append(fragment)
    return found


def _read_fragments(body: BinaryIO, offset: int, end: int) -> tuple[list[Fragment], list[bytes]]:
    """Read position, length and first bytes of every fragment that has any; the first item is the offset table."""
    fragments: list[Fragment] = []
    heads: list[bytes] = []
    at, number = offset, 0
    while at + 8 <= end:
        body.seek(at)
        item = body.read(8 + _HEAD_BYTES)
        group, element, length = struct.unpack_from("<HHI", item)
        if (group, element) == _DELIMITER:
            break
        if (group, element) != _ITEM:
            detail = f"no item where fragment {number} of Pixel Data should start"
            raise RejectedFile(Reason.PIXELS_TRUNCATED, detail)
        if at + 8 + length > end:
            detail = f"fragment {number} of Pixel Data ends after {end - at - 8} of {length} bytes"
            raise RejectedFile(Reason.PIXELS_TRUNCATED, detail)
        if at > offset and length:
            fragments.append(Fragment(at + 8, length))
            heads.append(item[8 : 8 + length])
        number += at > offset
        at += 8 + length
    if not fragments:
        raise RejectedFile(Reason.PIXELS_TRUNCATED, "Pixel Data ends before its first fragment")
    return fragments, heads


def _kind(heads: list[bytes]) -> bytes:
    """Kind of image that starts here; empty where none does. A short fragment is read on into the next ones."""
    head = heads[0] if len(heads[0]) == _HEAD_BYTES else b"".join(heads)[:_HEAD_BYTES]
    found = _START.match(head)
    if found:
        return found[0]
    if len(head) < _HEAD_BYTES:
        return b""
    segments, *starts = struct.unpack("<16I", head)
    used, unused = starts[:segments], starts[segments:]
    return b"RLE" if 0 < segments < 16 and used[0] == 64 and used == sorted(set(used)) and not any(unused) else b""


def _ended(body: BinaryIO, fragment: Fragment) -> bool:
    """Whether the last bytes of the fragment have an end marker."""
    tail = min(fragment.length, _HEAD_BYTES)
    body.seek(fragment.start + fragment.length - tail)
    return _END in body.read(tail)
