"""One build at a time into one place."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fvpipe.errors import LockedError, StorageError


@contextmanager
def lock(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold `file` as a lock; the operating system releases it when the process ends, however it ends.

    Parameters
    ----------
    file : Path
    warn : callable
        Told when a dead process left the file behind.

    Raises
    ------
    LockedError
        Another process holds it.
    StorageError
        The folder cannot be written.
    """
    descriptor = _acquire(file)
    try:
        left_by = os.read(descriptor, 32).decode("ascii", "replace").strip()
        if left_by:
            warn(f"{file}: taken over from process {left_by}, which ended without finishing")
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            raise StorageError(f"{file}: cannot be written ({error.strerror}); is the disk full?") from None
        yield
    finally:
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(file: Path) -> int:
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(f"{file.parent}: cannot be written ({error.strerror}); choose another output folder") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise LockedError(f"{file}: locked by pid {holder}, which is building there; wait for it to end") from None
        # The holder before may have removed the file between our open and our lock: then it guards nothing.
        try:
            if os.stat(file).st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)
