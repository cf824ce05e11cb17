"""Bounded reads of whole files with their digests, and the state of a file."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fvpipe.regular_files import open_regular
from fvpipe.types import Digest

MAX_FILE_BYTES = 1 << 30  # of a file that is read whole: more than the largest image takes


def file_state(status: os.stat_result) -> str:
    """Format size, modification time, change time and inode: they stay the same while nobody touches a file."""
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


@dataclass(frozen=True, slots=True)
class Contents:
    """All bytes of a file."""

    data: memoryview
    digest: Digest  # BLAKE3 of `data`
    unchanged: bool  # the file was in the expected state before and after


def read_contents(path: Path, state: str) -> Contents:
    """Read a file that is expected in `state`, and digest it.

    Parameters
    ----------
    state : str
        As :func:`file_state` gives it.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with open_regular(path) as file:
        before = os.fstat(file.fileno())
        if before.st_size > MAX_FILE_BYTES:  # it has grown since its header was accepted
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        data = file.read(before.st_size)
        digest = Digest(blake3(data).hexdigest())
        return Contents(memoryview(data), digest, file_state(before) == state == file_state(os.fstat(file.fileno())))
