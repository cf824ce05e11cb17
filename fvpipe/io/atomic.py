"""Atomic writes: a file is written aside and renamed, so that no reader, crash or full disk leaves a part of one."""

from __future__ import annotations

import filecmp
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fvpipe.errors import StorageError


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
    _write(path, [data], durable=durable)


def write_if_changed(path: Path, data: bytes | Iterable[bytes]) -> None:
    """Write a file as :func:`write_atomic` does; one that already holds `data` is left alone, with its times.

    Parameters
    ----------
    path : Path
        The file.
    data : bytes, or iterable of bytes
        Parts are written one by one and never held together.

    Raises
    ------
    StorageError
        The file cannot be written.
    """
    _write(path, [data] if isinstance(data, bytes) else data, if_changed=True)


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
                    with suppress(OSError):  # no file, or none that can be read: it is replaced
                        if filecmp.cmp(aside, path, shallow=False):
                            return
                if durable:
                    os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written ({error.strerror or type(error).__name__})") from None
