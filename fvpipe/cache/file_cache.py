"""What is remembered of source files between runs, so that an unchanged file is never opened again.

For each file: its header's record, and facts such as the digest of its bytes, all valid as long as size, modification
time, change time and inode are what they were. A new modification time is always seen, and so is a restored one, since
the change time cannot be set. Each row ends in a digest of itself: a rotten one counts as absent. The file's path is kept
only as a digest, and identifiers only as the records hold them.
"""

from __future__ import annotations

from blake3 import blake3
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
from contextlib import suppress
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import StorageError
from fvpipe.reasons import Reason
from fvpipe.reasons import Rejection
from fvpipe.types import Edge
from fvpipe.types import ImageRecord
from fvpipe.types import Laterality
from fvpipe.types import SourceFile
from fvpipe.types import View
from fvpipe.versions import READER_VERSION
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Any
from typing import Self
import dataclasses
import json
import os
import sqlite3

FILE_CACHE_VERSION = 4
# Of a kind: the digest of the bytes; the digest of the decoded pixels, and of those decoded as one pipeline wanted them; the
# region of interest that a mask outlines; the decoder that the file ended, and how.
_FACTS = "facts (path, kind, state, fact, seal, PRIMARY KEY (path, kind)) WITHOUT ROWID"
_SCHEMA = (
    "DROP TABLE IF EXISTS headers",
    "DROP TABLE IF EXISTS digests",
    "DROP TABLE IF EXISTS facts",
    "CREATE TABLE headers (path, policy, state, record, seal, PRIMARY KEY (path, policy)) WITHOUT ROWID",
    f"CREATE TABLE {_FACTS}",
    f"PRAGMA user_version = {FILE_CACHE_VERSION}",
)
_HEADER = "SELECT path, policy, state, record, seal FROM headers WHERE path = ? AND policy = ?"
_FACT = "SELECT path, kind, state, fact, seal FROM facts WHERE path = ? AND kind = ?"


class FileCache:
    """A small SQLite database beside the samples. Only the process that builds writes to it, never a worker.

    Parameters
    ----------
    file : Path
    root : Path
        The input folder.
    policy : HeaderPolicy
        Records that another policy read are not used.
    forget : bool
        Also an attribute, `reread`. Use nothing that was remembered: every file is read again (the verifying mode).
    """

    def __init__(self, file: Path, root: Path, policy: HeaderPolicy, *, forget: bool = False) -> None:
        self._file = file
        self.reread = forget
        self._facts: dict[tuple[str, str], tuple[str, str]] | None = None  # where they are in memory
        self._root = os.path.abspath(root)
        self._policy = blake3(repr((READER_VERSION, dataclasses.astuple(policy))).encode()).hexdigest(length=16)
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._open(file)
            if forget:  # what this run learns of a file it may use: under the same name, before what is remembered
                self._database.execute(f"CREATE TEMP TABLE {_FACTS}")
        except (OSError, sqlite3.Error) as error:
            raise StorageError(f"{file}: cannot be opened for writing ({error}); check the folder's permissions") from None

    def _open(self, file: Path) -> sqlite3.Connection:
        """Connect; a damaged memory, or one of another form, is an empty one."""
        database = sqlite3.connect(file, timeout=60, isolation_level=None)
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
            for query in (_HEADER, _FACT):
                database.execute(query, ("", ""))
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

    def _name(self, path: str) -> str:
        return blake3(f"{self._root}/{path}".encode("utf-8", "surrogatepass")).hexdigest(length=16)

    def _kind(self, kind: str) -> str:
        return f"region {self._policy}" if kind == "region" else kind  # it holds identifiers, as the policy makes them

    def header(self, source: SourceFile) -> ImageRecord | Rejection | None:
        """The record read from this very state of the file, or None."""
        record = None if self.reread else self._recall(_HEADER, source, self._policy)
        return _from_json(source.path, record) if record is not None else None

    def fact(self, source: SourceFile, kind: str = "file") -> str | None:
        """What is known of this very state of the file beside its header; None where it is not known."""
        if self._facts is None:
            return self._recall(_FACT, source, self._kind(kind))
        state, fact = self._facts.get((self._name(source.path), self._kind(kind)), ("", ""))
        return fact if state == source.state else None

    def preload(self) -> None:
        """Take all facts into memory: quicker, for who asks for those of every file."""
        with suppress(sqlite3.DatabaseError, UnicodeDecodeError):  # damaged where the first look saw nothing: one by one
            rows = self._database.execute("SELECT path, kind, state, fact, seal FROM facts")
            self._facts = {(row[0], row[1]): (row[2], row[3]) for row in rows if row[4] == _seal(row[:4])}

    def _recall(self, query: str, source: SourceFile, second: str) -> str | None:
        key = self._name(source.path), second
        try:
            *row, seal = self._database.execute(query, key).fetchone() or ("",)
        except (sqlite3.DatabaseError, UnicodeDecodeError):  # damaged where the first look saw nothing
            return None
        return row[3] if row[:3] == [*key, source.state] and seal == _seal(row) else None

    def put_headers(self, found: Iterable[tuple[SourceFile, ImageRecord | Rejection]]) -> None:
        """Remember records, for the next run."""
        rows = [(self._name(source.path), self._policy, source.state, _to_json(record)) for source, record in found]
        self._write("INSERT OR REPLACE INTO main.headers VALUES (?, ?, ?, ?, ?)", rows)

    def put_facts(self, found: Iterable[tuple[SourceFile, str]], kind: str = "file") -> None:
        """Remember facts."""
        rows = [(self._name(source.path), self._kind(kind), source.state, fact) for source, fact in found]
        if self._facts is not None:
            self._facts.update(((path, of), (state, fact)) for path, of, state, fact in rows)
        self._write("INSERT OR REPLACE INTO main.facts VALUES (?, ?, ?, ?, ?)", rows)
        if self.reread:
            self._write("INSERT OR REPLACE INTO temp.facts VALUES (?, ?, ?, ?, ?)", rows)

    def _write(self, statement: str, rows: Sequence[tuple[str, ...]]) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany(statement, ((*row, _seal(row)) for row in rows))
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise StorageError(f"{self._file}: cannot be written ({error}); is the disk full? It may be deleted") from None


def _is_current(database: sqlite3.Connection) -> bool:
    return bool(database.execute("PRAGMA user_version").fetchone() == (FILE_CACHE_VERSION,))


def _seal(row: Sequence[Any]) -> str:
    return blake3(repr(tuple(row)).encode("utf-8", "surrogatepass")).hexdigest(length=16)


def _to_json(record: ImageRecord | Rejection) -> str:
    names, values = _FIELDS[type(record)]
    return json.dumps(dict(zip(names, values(record), strict=True)))


def _without(kind: type[ImageRecord] | type[Rejection], path: str) -> tuple[list[str], Callable[[Any], tuple[Any, ...]]]:
    names = [field.name for field in dataclasses.fields(kind) if field.name != path]
    return names, attrgetter(*names)


_FIELDS = {ImageRecord: _without(ImageRecord, "path"), Rejection: _without(Rejection, "what")}


def _from_json(path: str, text: str) -> ImageRecord | Rejection:
    fields = json.loads(text)
    if "reason" in fields:
        return Rejection(path, Reason(fields["reason"]), fields["detail"])
    fields["laterality"], fields["view"] = Laterality(fields["laterality"]), View(fields["view"])
    fields["chest_wall"] = Edge(fields["chest_wall"]) if fields["chest_wall"] else None
    return ImageRecord(path=path, **fields)
