"""Atomic writes: a file is written aside and renamed, so that no reader, crash or full disk leaves a part of one."""

from __future__ import annotations

import errno
import filecmp
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fvpipe.errors import StorageError

NO_FOLDER_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of file systems that sync no folders: some network mounts and FUSE."""


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file aside and rename it; a failure leaves the old one.

    Parameters
    ----------
    path : Path
        Its folder is made where it is missing.
    data : bytes
        All of the new content.
    durable : bool
        Wait until the bytes are on the disk; needed where nothing else would notice their loss.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    _replace(path, _write_aside(path, [data], durable=durable))


def write_if_changed(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file as :func:`write_atomic` does; one that already holds `data` is left alone, with its times.

    Parameters
    ----------
    data : bytes, or iterable of bytes
        Parts are written one by one and never held together.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    _replace(path, _write_aside(path, [data] if isinstance(data, bytes) else data, if_changed=True))


def write_aside(path: Path, data: bytes) -> Path | None:
    """Write the new content of a file beside it, for the caller to rename together with others.

    Parameters
    ----------
    path : Path
        The file; not touched.
    data : bytes
        All of the new content.

    Returns
    -------
    aside : Path or None
        File on the disk with the new content; None if `path` already holds it.

    Raises
    ------
    StorageError
        The file cannot be written. Nothing is left.
    """
    return _write_aside(path, [data], if_changed=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk, where its file system can tell."""
    if os.name != "posix":  # Windows syncs no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _replace(path: Path, aside: Path | None) -> None:
    if aside is None:  # it already holds the content
        return
    try:
        os.replace(aside, path)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise _not_written(path, error) from None


def _write_aside(path: Path, parts: Iterable[bytes], *, durable: bool = True, if_changed: bool = False) -> Path | None:
    # Two threads, or two hosts whose process ids are equal, may write the same file at once.
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    done = False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(aside, "wb") as file:
            file.writelines(parts)
            file.flush()
            if if_changed:
                with suppress(OSError):  # no file, or none that can be read: it is replaced
                    if filecmp.cmp(aside, path, shallow=False):
                        return None
            if durable:
                os.fsync(file.fileno())
        done = True
        return aside
    except OSError as error:
        raise _not_written(path, error) from None
    finally:
        if not done:
            with suppress(OSError):  # where it never was
                aside.unlink()


def _not_written(path: Path, error: OSError) -> StorageError:
    return StorageError(f"{path}: cannot be written ({error.strerror or type(error).__name__})")
