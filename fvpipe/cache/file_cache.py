"""Cache of source files' headers and digests, so that an unchanged file is never opened again.

Each entry is valid while size, modification time, change time and inode of its file are the same. A new modification
time is always seen, and so is a restored one, since the change time cannot be set. Each entry ends in a digest of itself:
a corrupted one is a cache miss. Paths are stored as digests only, and identifiers only as the records hold them.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sqlite3
import stat
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from blake3 import blake3
from xxhash import xxh3_128_hexdigest

from fvpipe.dicom.image_header import ImageHeader, header_from_json, header_to_json
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.io.locking import has_locks
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Digest, Edge, ImageRecord, Laterality, Orientation, SourceFile, View
from fvpipe.versions import READER_VERSION

FILE_CACHE_VERSION = 9
BESIDE = ("-journal", "-wal", "-shm")  # ends of the names of files that SQLite opens beside its database
FoundT = TypeVar("FoundT")
KeyT = TypeVar("KeyT")
_SCHEMA = (
    *(f"DROP TABLE IF EXISTS {name}" for name in ("records", "headers", "digests", "facts", "entries")),
    "CREATE TABLE entries (key PRIMARY KEY, state, value, seal)",  # key: digest of the file's path and the kind of value
    f"PRAGMA user_version = {FILE_CACHE_VERSION}",
)
_GET = "SELECT state, value, seal FROM entries WHERE key = ?"


class EncodedHeader(NamedTuple):
    """A header as the cache stores it, or why it was rejected. Workers encode, so that one process need not for all.

    Attributes
    ----------
    record : str
        The record or the rejection, without its path.
    header : str
        What the header has beside its record; empty for a rejection.
    """

    record: str
    header: str = ""


class FileCache:
    """A small SQLite database beside the samples, one per input folder. Only the process that builds uses it, never a worker.

    Parameters
    ----------
    policy : HeaderPolicy
        Headers that were read by another policy are cache misses.
    reread : bool
        Clear the cache first: every file is read again.
    warn : callable
        Takes a message, where the database cannot be used or written: then results are cached for this run alone.
    """

    def __init__(
        self, file: Path, root: Path, policy: HeaderPolicy, *, reread: bool = False, warn: Callable[[str], None] = warnings.warn
    ) -> None:
        self._file = file
        self._warn, self._written = warn, True
        self.reread = reread
        self._root = os.path.abspath(root)
        self._policy = blake3(repr((READER_VERSION, _FIELDS, dataclasses.astuple(policy))).encode()).hexdigest(length=16)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open(file)
            if reread:
                self._database.execute("DELETE FROM entries")
        except (OSError, sqlite3.Error) as error:
            self._warn(f"{file}: cannot be used ({_why(file, error)}); files are read as if for the first time, and not cached")
            self._database = sqlite3.connect(":memory:", isolation_level=None)
            for statement in _SCHEMA:
                self._database.execute(statement)
        self._empty = False  # of a first index, which then looks nothing up half a million times
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):
            self._empty = self._database.execute("SELECT 1 FROM entries LIMIT 1").fetchone() is None

    def _open(self, file: Path) -> sqlite3.Connection:
        """Connect; a damaged database, or one of another version, becomes an empty one."""
        for each in (file, *(file.with_name(f"{file.name}{end}") for end in BESIDE)):
            with suppress(FileNotFoundError):
                if not stat.S_ISREG(os.stat(each).st_mode):
                    raise OSError(errno.EINVAL, f"{each.name} is not a regular file")
        with suppress(OSError):  # SQLite itself makes a file that nobody else may write, whatever the umask
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666))
        # Without locks two builds at once may damage it: each row is sealed, and a damaged database becomes an empty one.
        query = "" if has_locks(file.parent) else "?nolock=1"
        database = sqlite3.connect(file.absolute().as_uri() + query, timeout=60, isolation_level=None, uri=True)
        try:
            database.execute("PRAGMA synchronous = OFF")  # losing it costs a re-read, never a wrong sample
            database.text_factory = lambda text: text.decode("utf-8", "replace")
            if not _is_current(database):
                database.execute("BEGIN IMMEDIATE")
                for statement in () if _is_current(database) else _SCHEMA:  # another process may have been first
                    database.execute(statement)
                database.execute("COMMIT")
            if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("damaged")
            database.execute(_GET, (b"",))
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            database.close()
            # Locked, not to be written or the disk is full: not damaged. A plain SQLITE_ERROR is a damaged table definition.
            if isinstance(error, sqlite3.OperationalError) and error.sqlite_errorcode != sqlite3.SQLITE_ERROR:
                raise
            file.unlink()
            return self._open(file)
        return database

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._database.close()

    def _key(self, path: str, kind: str) -> bytes:
        if kind.startswith(("header", "region", "breast")):  # it holds identifiers, as the policy makes them
            kind = f"{kind} {self._policy}"
        return blake3(f"{kind} {self._root}/{path}".encode("utf-8", "surrogatepass")).digest(length=16)

    def record(self, source: SourceFile) -> ImageRecord | Rejection | None:
        """The record of this very state of the file, or why it was rejected; None on a cache miss."""
        return _decoded(decode_record, source.path, self._header(source).record)

    def header(self, source: SourceFile) -> ImageHeader | None:
        """The whole header of this very state of the file, as decoding takes it; None on a cache miss."""
        found = self._header(source)
        record = _decoded(decode_record, source.path, found.record)
        return _decoded(header_from_json, record, found.header) if isinstance(record, ImageRecord) else None

    def _header(self, source: SourceFile) -> EncodedHeader:
        found = self._get(source.path, "header", source.state + source.stated_digest) or ""
        record, _, header = found.partition("\n")
        return EncodedHeader(record, header)

    def digest(self, source: SourceFile) -> Digest | None:
        """BLAKE3 of this very state of the file; None on a cache miss."""
        value = self.value(source, "file")
        return Digest(value) if value is not None else None

    def value(self, source: SourceFile, kind: str) -> str | None:
        """One value of this very state of the file; None on a cache miss.

        Kinds: ``file`` (digest of its bytes), ``pixels`` (digest of its decoded pixels; with a pipeline's digest where
        that decodes at reduced resolution), ``region`` (what a lesion mask outlines; ``region of`` a digest by code that is
        not fvpipe's), ``breast`` (of a rejected image), ``crash`` (of its decoder), ``format 2`` (what its first bytes are).
        """
        return self._get(source.path, kind, source.state)

    def _get(self, path: str, kind: str, state: str) -> str | None:
        if self._empty:
            return None
        key = self._key(path, kind)
        try:
            found = self._database.execute(_GET, (key,)).fetchone() or ("", "", "")
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # damaged where the first look saw nothing
            return None
        value: str = found[1]
        return value if found == (state, value, _seal(key, state, value)) else None

    def put_headers(
        self, found: Iterable[tuple[SourceFile, EncodedHeader]], digests: Iterable[tuple[SourceFile, Digest]] = ()
    ) -> None:
        """Store headers with their records, and rejections; with them, digests of files."""
        headers = [
            (self._key(source.path, "header"), source.state + source.stated_digest, "\n".join(encoded))
            for source, encoded in found
        ]
        self._write([*headers, *((self._key(source.path, "file"), source.state, digest) for source, digest in digests)])

    def put_digests(self, found: Iterable[tuple[SourceFile, Digest]]) -> None:
        """Store digests of files."""
        self.put_values(found, "file")

    def put_values(self, found: Iterable[tuple[SourceFile, str]], kind: str) -> None:
        """Store values of one kind, as :meth:`value` returns them."""
        self._write([(self._key(source.path, kind), source.state, value) for source, value in found])

    def _write(self, entries: Sequence[tuple[bytes, str, str]]) -> None:
        if not self._written:
            return
        try:
            self._database.execute("BEGIN IMMEDIATE")
            sealed = ((*entry, _seal(*entry)) for entry in entries)
            self._database.executemany("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)", sealed)
            self._database.execute("COMMIT")
            self._empty = False
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            self._written = False
            why = _why(self._file, error)
            self._warn(f"{self._file}: cannot be written ({why}); the next run reads files again. It may be deleted")


def _why(file: Path, error: Exception) -> str:
    """Why a database cannot be used: by the file system, which SQLite does not tell, or else by SQLite."""
    if isinstance(error, sqlite3.Error):
        try:
            os.close(os.open(file, os.O_RDWR))
        except OSError as found:
            error = found
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _decoded(decode: Callable[[KeyT, str], FoundT], key: KeyT, text: str) -> FoundT | None:
    """Decode an entry; one of another form, by another version of the code, is a cache miss."""
    try:
        return decode(key, text) if text else None
    except (ValueError, TypeError, KeyError):
        return None


def _is_current(database: sqlite3.Connection) -> bool:
    return bool(database.execute("PRAGMA user_version").fetchone() == (FILE_CACHE_VERSION,))


def _seal(key: bytes, state: str, value: str) -> str:
    text = f"{state}\0{value}".encode("utf-8", "surrogatepass")
    return xxh3_128_hexdigest(key + text)  # against damage, not against people


def encode_header(header: ImageHeader | Rejection) -> EncodedHeader:
    """Encode a header for :meth:`FileCache.put_headers`."""
    if isinstance(header, Rejection):
        return EncodedHeader(json.dumps({"reason": header.reason, "detail": header.detail}))
    return EncodedHeader(json.dumps(_values(header.record), separators=(",", ":")), header_to_json(header))


_FIELDS = tuple(field.name for field in dataclasses.fields(ImageRecord) if field.name != "path")
_values = attrgetter(*_FIELDS)


def decode_record(path: str, record: str) -> ImageRecord | Rejection:
    """Decode the record of an :class:`EncodedHeader`.

    Raises
    ------
    ValueError, TypeError, KeyError
        The text is not of this form.
    """
    found = json.loads(record)
    if isinstance(found, dict):
        return Rejection(path, Reason(found["reason"]), found["detail"])
    fields = dict(zip(_FIELDS, found, strict=True))
    uid = fields.pop("sop_instance_uid")
    # All images of a study have most texts in common, and a data set may have half a million images.
    fields = {name: sys.intern(value) if type(value) is str else value for name, value in fields.items()}
    fields["laterality"], fields["view"] = Laterality(fields["laterality"]), View(fields["view"])
    fields["orientation"] = Orientation(fields["orientation"])
    fields["chest_wall"] = Edge(fields["chest_wall"]) if fields["chest_wall"] else None
    return ImageRecord(path=path, sop_instance_uid=uid, **fields)
