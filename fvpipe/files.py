"""Reading files once, and writing them so that no reader, crash or full disk ever leaves a part of one."""

from __future__ import annotations

import filecmp
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fvpipe.errors import StorageError
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


def write_whole(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file aside and rename it: no reader ever sees a part of it, and a failure leaves the old one.

    Parameters
    ----------
    durable : bool
        Also wait until the bytes are on the disk; needed where nothing else would notice their loss.

    Raises
    ------
    StorageError
    """
    _write(path, [data], durable=durable)


def write_if_changed(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Like :func:`write_whole`, but a file that already holds `data` is left alone, with its times.

    Parameters
    ----------
    data : bytes, or iterable of bytes
        In parts it is never held whole, but on the disk.

    Raises
    ------
    StorageError
    """
    if not isinstance(data, bytes):
        _write(path, data, if_changed=True)
        return
    try:
        if path.read_bytes() == data:
            return
    except OSError:
        pass
    _write(path, [data])


def _write(path: Path, parts: Iterable[bytes], *, durable: bool = True, if_changed: bool = False) -> None:
    # Two threads, or two hosts whose process ids are equal, may write the same file at once.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb") as file:
                file.writelines(parts)
                file.flush()
                if if_changed:
                    with suppress(OSError):  # none there, or none that can be read: it is replaced
                        if filecmp.cmp(aside, path, shallow=False):
                            return
                if durable:
                    os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None
