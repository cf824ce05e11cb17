"""Bounded reads: a file in parts, digested on the way, and the state that tells whether it changed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fvpipe.types import Digest

READ = 1 << 19  # bytes at a time
KEPT = 1 << 27  # bytes at most that are kept for the next file


def file_state(status: os.stat_result) -> str:
    """Size, modification time, change time and inode: what stays the same while nobody touches a file."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


class Buffer:
    """Memory that one file after another is read into: the system need not find and clear it anew for each."""

    def __init__(self) -> None:
        self._memory = bytearray()

    def of(self, size: int) -> memoryview:
        """So many bytes of it, with anything in them; what was read before is overwritten."""
        if size > KEPT:
            return memoryview(bytearray(size))
        if len(self._memory) < size:
            self._memory = bytearray(size)
        return memoryview(self._memory)[:size]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file held.

    Attributes
    ----------
    data : memoryview
        In the buffer that it was read into.
    digest : Digest
        BLAKE3 of `data`.
    unchanged : bool
        Whether it was in the expected state, before and after.
    """

    data: memoryview
    digest: Digest
    unchanged: bool


def read_contents(path: Path, state: str, buffer: Buffer) -> Contents:
    """Read a file that is expected in `state`, and digest each part of it while it is in the processor's cache.

    Raises
    ------
    OSError
    """
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        data, hasher, at = buffer.of(before.st_size), blake3(), 0
        while count := file.readinto(data[at : at + READ]):
            hasher.update(data[at : at + count])
            at += count
        unchanged = file_state(before) == state == file_state(os.fstat(file.fileno()))
        return Contents(data[:at], Digest(hasher.hexdigest()), unchanged)
