"""What lies in an input folder: the files that could be DICOM, and what cannot be read at all."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from fvpipe.errors import InputError
from fvpipe.sources import SourceFile
from fvpipe.types import Reason, Rejection

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ""})


@dataclass(frozen=True, slots=True)
class Listing:
    """Sorted by path.

    Attributes
    ----------
    files : tuple of SourceFile
        Regular files with a suffix of DICOM, or none.
    rejections : tuple of Rejection
        What is neither a regular file nor a folder that can be listed.
    ignored : int
        Regular files with another suffix (tables, readmes), and hidden ones.
    """

    files: tuple[SourceFile, ...]
    rejections: tuple[Rejection, ...]
    ignored: int


def list_folder(root: Path) -> Listing:
    """List `root` and everything below it, through symbolic links but never in a loop.

    Raises
    ------
    InputError
        No such folder, or it cannot be listed.
    """
    if not root.is_dir():
        state = "is no folder" if root.exists() else "no such folder"
        raise InputError(f"{root}: {state}; expected a folder of DICOM files")
    files: list[SourceFile] = []
    rejections: list[Rejection] = []
    ignored = 0
    top = os.stat(root)
    folders = [("", frozenset({(top.st_dev, top.st_ino)}))]
    while folders:
        folder, above = folders.pop()
        try:
            entries = sorted(os.scandir(root / folder), key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise InputError(f"{root}: cannot be listed ({error.strerror}); check its permissions") from None
            rejections.append(Rejection(folder, Reason.NOT_A_FILE, f"a folder that cannot be listed ({error.strerror})"))
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                ignored += 1
                continue
            try:
                status = entry.stat()
            except OSError as error:
                rejections.append(Rejection(path, Reason.NOT_A_FILE, f"a link that leads nowhere ({error.strerror})"))
                continue
            if stat.S_ISDIR(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                if identity in above:
                    rejections.append(Rejection(path, Reason.NOT_A_FILE, "a link to a folder that it lies in"))
                else:
                    folders.append((path, above | {identity}))
            elif os.path.splitext(entry.name)[1].lower() not in SUFFIXES:
                ignored += 1
            elif stat.S_ISREG(status.st_mode):
                state = f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"
                files.append(SourceFile(path, state))
            else:
                rejections.append(Rejection(path, Reason.NOT_A_FILE, "a pipe, socket or device"))
    return Listing(tuple(sorted(files, key=lambda f: f.path)), tuple(sorted(rejections, key=lambda r: r.what)), ignored)
