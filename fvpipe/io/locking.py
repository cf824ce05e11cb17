"""One writer at a time in one place: a lock file that names the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from fvpipe.errors import LockedError, StorageError

MAX_PID_BYTES = 32


@contextmanager
def lock(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold `file` as a lock; the operating system releases it when the process ends, for whatever reason.

    Parameters
    ----------
    file : Path
        Made where it is missing, with its folder; removed at the end. Holds the process id, decimal.
    warn : callable
        Takes a message; called when a process that ended without finishing left the file behind.

    Raises
    ------
    LockedError
        Another process holds the lock.
    StorageError
        The file cannot be written.
    """

    def sign(descriptor: int) -> None:
        if left_by := _pid(os.read(descriptor, MAX_PID_BYTES)):
            warn(f"{file}: taken over from process {left_by}, which ended without finishing")
        try:
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"{os.getpid()}\n".encode())
        except OSError:
            file.unlink(missing_ok=True)
            raise

    held = FileLock(file, timeout=0, fallback_to_soft=False, on_acquired=sign)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        holder = ""
        with suppress(OSError):  # Windows lets nobody else read a locked file
            holder = _pid(file.read_bytes()[:MAX_PID_BYTES])
        raise LockedError(f"{file}: locked by pid {holder or 'unknown'}, which is building there; wait for it to end") from None
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror}); make room or choose another output folder") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it on release
            file.unlink()  # while it is held: a process that waits for this file sees that it is gone, and makes a new one
        held.release()


def _pid(data: bytes) -> str:
    return data.decode("ascii", "replace").strip()
