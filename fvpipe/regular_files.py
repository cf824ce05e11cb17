"""Files that are regular, and reads of them alone: a named pipe waits for a writer, and a device may never end."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def why_not_usable(path: Path, *, folder: bool = False) -> str:
    """Say why a path is not a regular file, or not a folder, that this process can see; empty where it is one."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "no such folder" if folder else "no such file"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if folder:
        return "" if stat.S_ISDIR(mode) else "is not a folder"
    return "" if stat.S_ISREG(mode) else "is not a regular file"


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; nothing is waited for.

    Raises
    ------
    OSError
        The file cannot be opened, or is a pipe, socket, device or folder; `strerror` says which.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL, "is not a regular file", str(path))
    return open(path, "rb", opener=_without_waiting)


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`.

    Raises
    ------
    OSError
        As of :func:`open_regular`, or the file is larger.
    """
    with open_regular(path) as file:
        if (size := os.fstat(file.fileno()).st_size) > max_bytes:
            raise OSError(errno.EFBIG, f"has {size} bytes, more than {max_bytes}", str(path))
        return file.read(size)


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # should the file have become a pipe since


def read_regular_text(path: Path, max_bytes: int, encoding: str = "utf-8", errors: str = "strict") -> str:
    r"""Read the text of a regular file; line ends become ``\n``, as `Path.read_text` makes them.

    Raises
    ------
    OSError
        As of :func:`read_regular`.
    UnicodeDecodeError
        The bytes are not text.
    """
    return io.TextIOWrapper(io.BytesIO(read_regular(path, max_bytes)), encoding, errors).read()
