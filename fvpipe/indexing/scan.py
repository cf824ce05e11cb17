"""The files of an input folder that could be DICOM."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

from fvpipe.errors import InputError
from fvpipe.io.read import file_state
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import SourceFile

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ""})


@dataclass(frozen=True, slots=True)
class FolderScan:
    """Contents of an input folder.

    Attributes
    ----------
    files : dict of str to SourceFile
        Files that could be DICOM (regular, with a suffix of DICOM or none), sorted by path.
    rejections : list of Rejection
        Entries that are neither a regular file nor a folder that can be listed.
    ignored : int
        Regular files with another suffix (tables, readmes), and hidden ones.
    """

    files: dict[str, SourceFile]
    rejections: list[Rejection]
    ignored: int


def scan_folder(root: Path) -> FolderScan:
    """List a folder and everything below it, through symbolic links but never in a loop.

    Raises
    ------
    InputError
        The folder does not exist or cannot be listed.
    """
    if not root.is_dir():
        state = "is no folder" if root.exists() else "no such folder"
        raise InputError(f"{root}: {state}; expected a folder of DICOM files")
    files, rejections, ignored = list[SourceFile](), list[Rejection](), 0
    for entry in _walk(root):
        match entry:
            case SourceFile():
                files.append(entry)
            case Rejection():
                rejections.append(entry)
            case None:
                ignored += 1
    files.sort(key=lambda file: file.path)
    return FolderScan({file.path: file for file in files}, rejections, ignored)


def _walk(folder_of_input: Path) -> Iterator[SourceFile | Rejection | None]:
    """Walk in no order; None for a file that is ignored."""
    root = str(folder_of_input)
    seen = {_identity(os.stat(root))}
    folders, links = [""], list[str]()
    while folders or links:
        # Links wait: a folder is listed under its own name first, and only once.
        folder = folders.pop() if folders else heappop(links)
        try:
            where = os.path.join(root, folder)
            identity = _identity(os.stat(where))
            if folder and identity in seen:
                yield _no_file(folder, "a link to a folder that is listed under its own name")
                continue
            seen.add(identity)
            names = os.listdir(where)  # at once: a folder whose listing breaks off is rejected as a whole
        except OSError as error:
            if not folder:
                raise InputError(f"{root}: cannot be listed ({error.strerror}); check its permissions") from None
            yield _no_file(folder, f"a folder that cannot be listed ({error.strerror})")
            continue
        for name in names:
            if name.startswith("."):
                yield None
                continue
            path, here = f"{folder}/{name}" if folder else name, os.path.join(where, name)
            try:
                status = os.stat(here)
            except OSError as error:
                yield _no_file(path, f"a link that leads nowhere ({error.strerror})")
                continue
            if stat.S_ISDIR(status.st_mode) and Path(here).is_symlink():
                heappush(links, path)
            elif stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif _suffix(name) not in SUFFIXES:
                yield None
            elif stat.S_ISREG(status.st_mode):
                yield SourceFile(path, file_state(status))
            else:
                yield _no_file(path, "a pipe, socket or device")


def _no_file(path: str, detail: str) -> Rejection:
    return Rejection(path, Reason.NOT_A_FILE, detail)


def _identity(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino


def has_suffix(path: str) -> bool:
    """Whether the name says what the file is."""
    return bool(_suffix(path.rpartition("/")[2]))


def _suffix(name: str) -> str:
    """A name that ends in a number is a UID, and has no suffix."""
    suffix = os.path.splitext(name)[1].lower()
    return "" if suffix[1:].isdecimal() else suffix
