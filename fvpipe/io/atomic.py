"""Reading files once, and writing them so that no reader, crash or full disk ever leaves a part of one."""

from __future__ import annotations

import filecmp
import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from fvpipe.errors import StorageError


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
