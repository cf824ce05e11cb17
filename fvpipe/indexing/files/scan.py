"""The files of an input folder that could be its images: by their names, else by their first bytes."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from pathlib import Path
from typing import Literal

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.formats import DICOM, HEAD_BYTES, RASTER, SUFFIXES, Format, recognize
from fvpipe.errors import InputError
from fvpipe.indexing.index import PassedOver
from fvpipe.io.read import file_state
from fvpipe.reasons import Reason, Rejection
from fvpipe.regular_files import why_not_usable
from fvpipe.types import ImageRecord, SourceFile

CACHED_AS = "format 2"
"""Kind of what :data:`Content` says of a file in the file cache; a new name where the same bytes would be told otherwise."""

ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar"})

Content = Format | Literal["unmarked", "other"]
"""Kind of a file by its first bytes; unmarked: a DICOM data set, or its meta information, without preamble and marker."""

_CONTENTS: dict[str, Content] = {**{each: each for each in SUFFIXES}, "unmarked": "unmarked", "other": "other"}


@dataclass(frozen=True, slots=True)
class FolderScan:
    """Contents of an input folder."""

    # Files that could be images (regular, with a suffix of the formats; of DICOM, or with none), sorted by path
    files: dict[str, SourceFile]
    rejections: list[Rejection]  # entries that are neither a regular file nor a folder that can be listed
    # Regular files with another suffix (tables, readmes, images under a foreign name), sorted by path
    foreign: dict[str, SourceFile]
    hidden: list[str]  # hidden files and folders


def scan_folder(root: Path, formats: Sequence[Format] = DICOM) -> FolderScan:
    """List a folder and everything below it, through symbolic links but never in a loop; its images are of `formats`.

    Raises
    ------
    InputError
        The folder does not exist or cannot be listed.
    """
    if why := why_not_usable(root, folder=True):
        raise InputError(f"{root}: {why}; expected a folder of DICOM files")
    suffixes = frozenset[str]().union(*(SUFFIXES[each] for each in formats))
    files, foreign, rejections, hidden = dict[str, SourceFile](), dict[str, SourceFile](), list[Rejection](), list[str]()
    for entry in _walk(root, suffixes):
        match entry:
            case SourceFile():
                (files if _suffix(entry.path) in suffixes else foreign)[entry.path] = entry
            case Rejection():
                rejections.append(entry)
            case str():
                hidden.append(entry)
    return FolderScan(dict(sorted(files.items())), rejections, dict(sorted(foreign.items())), sorted(hidden))


def list_files(
    root: Path, file_cache: FileCache, formats: Sequence[Format] = DICOM
) -> tuple[dict[str, SourceFile], PassedOver, list[Rejection]]:
    """List the files of an input folder that could be its images, by path; what is passed over; and what is not a file.

    Raises
    ------
    InputError
        The folder does not exist, cannot be listed, or holds no such file.
    """
    scan = scan_folder(root, formats)
    files, passed_over = image_files(scan, root, file_cache, formats)
    if not files:
        others = list(passed_over.describe()) or ["nothing"]
        found = "; ".join([*others, *(f"{rejection.what}: {rejection.detail}" for rejection in scan.rejections[:3])])
        *first, last = map(str.upper, RASTER)
        stated = f"{', '.join(first)} and {last} are read where `formats` of its declaration, or of params.yaml, states it"
        expected = f"files with the DICM marker at byte 128 ({stated})"
        expected = expected if formats == DICOM else "what `formats` of the data set states"
        what = " or ".join("DICOM" if each == "dicom" else each.upper() for each in formats)
        raise InputError(f"{root}: no {what} file; found {found}. Expected {expected}")
    return files, passed_over, scan.rejections


def image_files(
    scan: FolderScan, root: Path, file_cache: FileCache, formats: Sequence[Format] = DICOM
) -> tuple[dict[str, SourceFile], PassedOver]:
    """Take the files to read: those with a suffix of `formats`, and those whose first bytes say that they are of one.

    Parameters
    ----------
    scan : FolderScan
        Contents of the input folder.
    file_cache : FileCache
        The first bytes of unchanged files are not read again.

    Returns
    -------
    files : dict of str to SourceFile
        Sorted by path.
    passed_over : PassedOver
        All other files.
    """
    contents = _contents(root, scan.foreign.values(), file_cache)
    found = {path: scan.foreign[path] for path, content in contents.items() if _is_of(content, formats)}
    images = {path for path, content in contents.items() if path not in found and _is_of(content, SUFFIXES)}
    foreign = [path for path in scan.foreign if path not in found and path not in images]
    archives = tuple(path for path in foreign if _suffix(path) in ARCHIVES)
    others = tuple(sorted([*scan.hidden, *(path for path in foreign if _suffix(path) not in ARCHIVES)]))
    return dict(sorted([*scan.files.items(), *found.items()])), PassedOver(others, archives, images=tuple(sorted(images)))


def without_strays(
    headers: Mapping[str, ImageRecord | Rejection],
    files: Mapping[str, SourceFile],
    passed_over: PassedOver,
    root: Path,
    file_cache: FileCache,
    formats: Sequence[Format] = DICOM,
) -> tuple[dict[str, ImageRecord | Rejection], PassedOver]:
    """Pass over what never claimed to be an image: DICOMDIR files, and files without suffix and marker (LICENSE, README).

    A data set without preamble and marker is DICOM all the same: it stays rejected, for what it is.
    """
    rejected = {path: header for path, header in headers.items() if isinstance(header, Rejection)}
    directories = [path for path, header in rejected.items() if header.reason is Reason.DICOM_DIRECTORY]
    not_dicom = [path for path, header in rejected.items() if header.reason in (Reason.NOT_DICOM, Reason.NOT_AN_IMAGE)]
    contents = _contents(root, (files[path] for path in not_dicom), file_cache)
    strays = [path for path in not_dicom if not _is_of(contents[path], formats) and not _suffix(path)]
    detail = "a DICOM data set without the preamble and DICM marker that a file begins with; write it again as a DICOM file"
    named = {path: Rejection(path, Reason.NOT_DICOM, detail) for path in not_dicom if contents[path] == "unmarked"}
    left_out = {*directories, *strays}
    kept = {path: named.get(path, header) for path, header in headers.items() if path not in left_out}
    others = tuple(sorted([*passed_over.others, *strays]))
    return kept, replace(passed_over, others=others, directories=tuple(directories))


def _contents(root: Path, files: Iterable[SourceFile], file_cache: FileCache) -> dict[str, Content]:
    """Tell what files are by their first bytes; one that cannot be read is other."""
    contents, new = dict[str, Content](), list[tuple[SourceFile, str]]()
    for file in files:
        content = _CONTENTS.get(file_cache.value(file, CACHED_AS) or "")
        if content is None:  # or of another version, which tells more kinds
            try:
                with open(root / file.path, "rb", buffering=0) as data:
                    content = _content(data.read(HEAD_BYTES))
                new.append((file, content))
            except OSError:
                content = "other"
        contents[file.path] = content
    if new:
        file_cache.put_values(new, CACHED_AS)
    return contents


def _content(head: bytes) -> Content:
    if found := recognize(head):
        return found
    return "unmarked" if head.startswith(b"DICM") or _DATA_SET.match(head) else "other"


def _is_of(content: Content, formats: Collection[Format]) -> bool:
    """Whether a file is in one of these formats, or seems so."""
    return ("dicom" if content == "unmarked" else content) in formats


_DATA_SET = re.compile(
    rb"(\x02\0[\0-\x02]\0|\x08\0[\0-\x70]\0)"  # (0002,0000) to (0002,0002), (0008,0000) to (0008,0070)
    rb"(AE|CS|DA|LO|OB|SH|TM|UI|UL|[\x02\x04\x06\x08\x0a-\x40]\0\0\0)"  # and a representation, or a short length
)
"""Start of a data set, little endian, with explicit or implicit value representation."""


def _walk(folder_of_input: Path, suffixes: frozenset[str]) -> Iterator[SourceFile | Rejection | str]:
    """Walk in no order; a path alone for what is hidden, or under a foreign name and no regular file."""
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
            path, here = f"{folder}/{name}" if folder else name, os.path.join(where, name)
            if name.startswith("."):
                yield path
                continue
            try:
                status = os.stat(here)
            except OSError as error:
                yield _no_file(path, f"a link that leads nowhere ({error.strerror})")
                continue
            if stat.S_ISDIR(status.st_mode) and Path(here).is_symlink():
                heappush(links, path)
            elif stat.S_ISDIR(status.st_mode):
                folders.append(path)
            elif stat.S_ISREG(status.st_mode):
                yield SourceFile(path, file_state(status))
            elif _suffix(name) not in suffixes:
                yield path
            else:
                yield _no_file(path, "a pipe, socket or device")


def _no_file(path: str, detail: str) -> Rejection:
    return Rejection(path, Reason.NOT_A_FILE, detail)


def _identity(status: os.stat_result) -> int:
    return status.st_dev << 64 | status.st_ino


def _suffix(path: str) -> str:
    """A name that ends in a number is a UID, and has no suffix."""
    suffix = os.path.splitext(path.rpartition("/")[2])[1].lower()
    return "" if suffix[1:].isdecimal() else suffix
