"""What lies in an input folder: the files that could be DICOM, and what cannot be read at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from heapq import heappop, heappush
from pathlib import Path

from blake3 import blake3

from fvpipe.errors import InputError
from fvpipe.io.read import file_state
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Digest, SourceFile

SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima", ""})


class FolderScan:
    """A walk through a folder and everything below it, through symbolic links but never in a loop.

    To iterate is to walk. What comes, in no order, is each file that could be DICOM (regular, with a suffix of DICOM or
    none) and a :class:`Rejection` for what is neither a regular file nor a folder that can be listed. Of files nothing is
    kept but the names in one folder at a time, of folders a few bytes each.

    Parameters
    ----------
    root : Path

    Attributes
    ----------
    ignored : int
        Once walked: regular files with another suffix (tables, readmes), and hidden ones.
    state : Digest
        Once walked: of the path, size, times and inode of everything that is not hidden. Where it is the same, so is the
        folder.

    Raises
    ------
    InputError
        No such folder, or it cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            state = "is no folder" if root.exists() else "no such folder"
            raise InputError(f"{root}: {state}; expected a folder of DICOM files")
        self._root = root
        self.ignored = 0
        self.state = Digest("")

    def __iter__(self) -> Iterator[SourceFile | Rejection]:
        total = self.ignored = 0
        for path, found in self._walk():
            match found:
                case SourceFile():
                    line = found.state
                case Rejection():
                    line = found.detail
                case str():
                    line = found
            # A sum of digests, one of each entry: the order in which the file system names them does not matter.
            entry = f"{path}\0{line}".encode("utf-8", "surrogateescape")
            total += int.from_bytes(blake3(entry).digest(), "big")
            if not isinstance(found, str):
                yield found
        self.state = Digest(f"{total % 2**256:064x}")

    def _walk(self) -> Iterator[tuple[str, SourceFile | Rejection | str]]:
        """Each entry that is not hidden; of a file that is no DICOM its state alone."""
        root = str(self._root)
        seen = {_identity(os.stat(root))}
        folders, links = [""], list[str]()
        while folders or links:
            # Links wait: a folder is known by its own name first, and each one is listed once.
            folder = folders.pop() if folders else heappop(links)
            try:
                where = os.path.join(root, folder)
                identity = _identity(os.stat(where))
                if folder and identity in seen:
                    yield folder, _no_file(folder, "a link to a folder that is listed under its own name")
                    continue
                seen.add(identity)
                names = os.listdir(where)  # all of them: a folder that breaks off half way is rejected as a whole
            except OSError as error:
                if not folder:
                    raise InputError(f"{self._root}: cannot be listed ({error.strerror}); check its permissions") from None
                yield folder, _no_file(folder, f"a folder that cannot be listed ({error.strerror})")
                continue
            for name in names:
                if name.startswith("."):
                    self.ignored += 1
                    continue
                path, here = f"{folder}/{name}" if folder else name, os.path.join(where, name)
                try:
                    status = os.stat(here)
                except OSError as error:
                    yield path, _no_file(path, f"a link that leads nowhere ({error.strerror})")
                    continue
                if stat.S_ISDIR(status.st_mode) and Path(here).is_symlink():
                    heappush(links, path)
                elif stat.S_ISDIR(status.st_mode):
                    folders.append(path)
                elif _suffix(name) not in SUFFIXES:
                    self.ignored += 1
                    if stat.S_ISREG(status.st_mode):
                        yield path, file_state(status)
                elif stat.S_ISREG(status.st_mode):
                    yield path, SourceFile(path, file_state(status))
                else:
                    yield path, _no_file(path, "a pipe, socket or device")


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
