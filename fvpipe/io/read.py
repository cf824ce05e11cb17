"""Bounded reads: a file in chunks, digested on the way, into memory that is used again; and the state of a file."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fvpipe.regular_files import open_regular
from fvpipe.types import Digest

CHUNK_BYTES = 1 << 19  # read and digested at a time, so that a chunk is digested while it is in the processor's cache
MAX_FILE_BYTES = 1 << 30  # of a file that is read whole: more than the largest image takes
MAX_KEPT_BYTES = 1 << 27  # of memory that is kept for the next file


def file_state(status: os.stat_result) -> str:
    """Format size, modification time, change time and inode: they stay the same while nobody touches a file."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


class Buffer:
    """Memory that one file after another is read into: new memory for each would have to be found and cleared."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def view(self, size: int) -> memoryview:
        """Return `size` bytes of the memory, with anything in them; the views before are overwritten."""
        if size > MAX_KEPT_BYTES:
            return memoryview(bytearray(size))
        if len(self._memory) < size:
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]


@dataclass(frozen=True, slots=True)
class Contents:
    """The bytes of a file.

    Attributes
    ----------
    data : memoryview
        In the buffer that the file was read into.
    digest : Digest
        BLAKE3 of `data`.
    unchanged : bool
        Whether the file was in the expected state before and after.
    """

    data: memoryview
    digest: Digest
    unchanged: bool


def read_contents(path: Path, state: str, buffer: Buffer) -> Contents:
    """Read a file that is expected in `state`, and digest it.

    Parameters
    ----------
    path : Path
        The file.
    state : str
        As :func:`file_state` gives it.
    buffer : Buffer
        The file is read into its memory.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open_regular(path, buffering=0) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_FILE_BYTES:  # it has grown since its header was accepted
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        data, hasher, at = buffer.view(before.st_size), blake3(), 0
        while count := file.readinto(data[at : at + CHUNK_BYTES]):
            hasher.update(data[at : at + count])
            at += count
        unchanged = file_state(before) == state == file_state(os.fstat(file.fileno()))
        return Contents(data[:at], Digest(hasher.hexdigest()), unchanged)
