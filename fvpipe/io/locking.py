"""One writer at a time in one place: a lock file that names the process that holds it; and folders in common use.

Where the file system has no locks, the existence of a file is the lock.
"""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from fvpipe.errors import LockedError, StorageError
from fvpipe.regular_files import read_regular

MAX_PID_BYTES, MAX_MARKER_BYTES = 32, 1 << 16
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of file systems without locks: network mounts without a lock service, some FUSE and object stores."""


@contextmanager
def lock(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Hold `file` as a lock; the operating system releases it when the process ends, for whatever reason.

    Parameters
    ----------
    file : Path
        Made where it is missing, with its folder; removed at the end. Holds the process id, decimal.
    warn : callable
        Takes a message; called when a process that ended without finishing left the file behind, and where the file system
        has no locks.

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

    marker = file
    held: BaseFileLock = FileLock(file, timeout=0, fallback_to_soft=False, on_acquired=sign)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise StorageError(f"{file}: is not a regular file, which a lock is; remove it")
        try:
            held.acquire()
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            file.unlink(missing_ok=True)  # it locks nothing
            marker = file.with_name(f"{file.name}.pid")
            held = SoftFileLock(marker, timeout=0)
            held.acquire()
            warn(
                f"{file.parent}: its file system has no locks ({error.strerror}); {marker.name} stands for one. Start no build "
                "into it from another computer meanwhile"
            )
    except Timeout:
        holder = ""
        with suppress(OSError):  # Windows lets nobody else read a locked file
            holder = _pid(read_regular(marker, MAX_MARKER_BYTES)[:MAX_PID_BYTES])
        do = "wait for it to end" + (f", or remove {marker.name} if it has" if isinstance(held, SoftFileLock) else "")
        raise LockedError(f"{file}: locked by pid {holder or 'unknown'}, which is building there; {do}") from None
    except PermissionError as error:
        raise StorageError(
            f"{file}: cannot be written ({error.strerror}): it or its folder is another user's; ask for write permission, or "
            "choose another output folder"
        ) from None
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror}); make room or choose another output folder") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes it on release
            file.unlink()  # while it is held: a process that waits for this file sees that it is gone, and makes a new one
        held.release()


@contextmanager
def in_common_use(folder: Path, when_alone: Callable[[], None]) -> Iterator[None]:
    """Hold a folder together with other processes; the first of them calls `when_alone` before others may join.

    The folder is made where it is missing: the first of two processes must hold it, too. The operating system releases it when
    the process ends. Where folders have no locks (Windows, some network mounts), or this one cannot be made, nothing is held
    and `when_alone` is never called.
    """
    with ExitStack() as stack:
        with suppress(ImportError, OSError):
            from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

            folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder, os.O_RDONLY)
            stack.callback(os.close, descriptor)
            with suppress(BlockingIOError):  # others hold it
                flock(descriptor, LOCK_EX | LOCK_NB)
                when_alone()
            flock(descriptor, LOCK_SH)
        yield


def has_locks(folder: Path) -> bool:
    """Whether the file system of a folder has the locks that SQLite takes.

    Raises
    ------
    OSError
        No file can be made in the folder.
    """
    try:
        from fcntl import LOCK_EX, LOCK_NB, lockf
    except ImportError:  # Windows
        return True
    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            lockf(file, LOCK_EX | LOCK_NB)
        except OSError as error:
            return error.errno not in NO_LOCKS
    return True


def _pid(data: bytes) -> str:
    return data.decode("ascii", "replace").partition("\n")[0].strip()
