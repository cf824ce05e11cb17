"""What lies in an input folder: the files that could be DICOM, and what cannot be read at all."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from fvpipe.errors import InputError
from fvpipe.files import file_state
from fvpipe.types import Digest, Reason, Rejection, SourceFile

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
    state : Digest
        Of the path, size, times and inode of everything that is not hidden: where it is the same, so is the folder.
    """

    files: tuple[SourceFile, ...]
    rejections: tuple[Rejection, ...]
    ignored: int
    state: Digest


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
    states: list[str] = []
    ignored = 0
    top = os.stat(root)
    seen = {(top.st_dev, top.st_ino)}
    folders, links = [""], list[str]()
    while folders or links:
        # Links wait: a folder is known by its own name first, and each one is listed once.
        folder = folders.pop() if folders else links.pop(0)
        try:
            if folder and _known(os.stat(root / folder), seen):
                rejections.append(Rejection(folder, Reason.NOT_A_FILE, "a link to a folder that is listed under its own name"))
                continue
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
            if stat.S_ISDIR(status.st_mode) and entry.is_symlink():
                links.append(path)
            elif stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISREG(status.st_mode):
                state = file_state(status)
                states.append(f"{path}\0{state}\n")
                if _suffix(entry.name) in SUFFIXES:
                    files.append(SourceFile(path, state))
                else:
                    ignored += 1
            elif _suffix(entry.name) not in SUFFIXES:
                ignored += 1
            else:
                rejections.append(Rejection(path, Reason.NOT_A_FILE, "a pipe, socket or device"))
    files.sort(key=lambda file: file.path)
    rejections.sort(key=lambda rejection: rejection.what)
    states += [f"{rejection.what}\0{rejection.detail}\n" for rejection in rejections]
    state = Digest(blake3("".join(sorted(states)).encode("utf-8", "surrogateescape")).hexdigest())
    return Listing(tuple(files), tuple(rejections), ignored, state)


def _known(status: os.stat_result, seen: set[tuple[int, int]]) -> bool:
    identity = (status.st_dev, status.st_ino)
    known = identity in seen
    seen.add(identity)
    return known


def has_suffix(path: str) -> bool:
    """Whether the name says what the file is."""
    return bool(_suffix(path.rpartition("/")[2]))


def _suffix(name: str) -> str:
    """A name that ends in a number is a UID, and has no suffix."""
    suffix = os.path.splitext(name)[1].lower()
    return "" if suffix[1:].isdecimal() else suffix
