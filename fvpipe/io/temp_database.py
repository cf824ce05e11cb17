"""What would not fit in memory for any number of files: temporary databases on disk, gone when nothing uses them.

SQLite keeps each in a file without a name, in the folder that ``SQLITE_TMPDIR`` or ``TMPDIR`` names, and a few megabytes
of it in memory.
"""

from __future__ import annotations

import json
import pickle
import sqlite3
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from fvpipe.errors import StorageError

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")
RowT = TypeVar("RowT")

_OF_THE_DISK = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)


def to_blob(text: str) -> bytes:
    """Text as the databases hold it: any file name and any header's text, in the order in which Python sorts it."""
    return text.encode("utf-8", "surrogatepass")


def from_blob(blob: bytes) -> str:
    """The inverse of :func:`to_blob`."""
    return blob.decode("utf-8", "surrogatepass")


class Scratch:
    """A temporary database.

    Parameters
    ----------
    schema : str
        Its statements.

    Attributes
    ----------
    close : callable
        Give the disk back. It is called when nothing refers to the database any more, and at exit; again is no harm.

    Raises
    ------
    StorageError
        From every method: there is no room, or SQLite fails otherwise.
    """

    def __init__(self, *schema: str) -> None:
        try:
            self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # any may collect it
        except sqlite3.Error as error:
            raise _unusable(error) from None
        self.close = weakref.finalize(self, self._connection.close)
        for statement in ("PRAGMA journal_mode = OFF", "BEGIN", *schema):  # never committed: nobody else looks at it
            self.execute(statement)

    def execute(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; returns the number of rows that it changed."""
        try:
            return self._connection.execute(statement, values).rowcount
        except sqlite3.Error as error:
            raise _unusable(error) from None

    def insert(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement for each of `rows`."""
        try:
            self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise _unusable(error) from None

    def rows(self, query: str, values: Sequence[object] = ()) -> Iterator[Any]:
        """What a query finds, one row at a time."""
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise _unusable(error) from None

    def first(self, query: str, values: Sequence[object] = ()) -> Any:
        """The first row, or None."""
        try:
            return self._connection.execute(query, values).fetchone()
        except sqlite3.Error as error:
            raise _unusable(error) from None


def _unusable(error: sqlite3.Error) -> StorageError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says where in SQLite; none: of Python's own module
    advice = "; is the disk full? Make room, or set TMPDIR to another" if code in _OF_THE_DISK else ""
    return StorageError(f"a temporary database cannot be used ({error}){advice}")


class Selection(Collection[RowT]):
    """The rows of a query, made into values each time they are asked for.

    Parameters
    ----------
    scratch : Scratch
    query : str
    make : callable
        The columns of a row -> value.
    """

    def __init__(self, scratch: Scratch, query: str, make: Callable[..., RowT]) -> None:
        self._scratch, self._query, self._make = scratch, query, make

    def __len__(self) -> int:
        return int(self._scratch.first(f"SELECT count(*) FROM ({self._query})")[0])  # noqa: S608 - our own

    def __iter__(self) -> Iterator[RowT]:
        return (self._make(*row) for row in self._scratch.rows(self._query))

    def __contains__(self, value: object) -> bool:
        return any(value == each for each in self)


class OnDisk(MutableMapping[KeyT, ValueT]):
    """A dict on disk, in an order of its own. A value that is taken out must not be changed, but assigned anew.

    Parameters
    ----------
    items : iterable of (key, value)
        Keys are text, or tuples of texts (also enums of them) and numbers; values are what :mod:`pickle` takes.
    """

    def __init__(self, items: Iterable[tuple[KeyT, ValueT]] = ()) -> None:
        self._scratch = Scratch("CREATE TABLE items (id TEXT PRIMARY KEY, key BLOB, value BLOB) WITHOUT ROWID")
        self._scratch.insert("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", (_item(key, value) for key, value in items))

    def __getitem__(self, key: KeyT) -> ValueT:
        found = self._scratch.first("SELECT value FROM items WHERE id = ?", (json.dumps(key),))
        if found is None:
            raise KeyError(key)
        value: ValueT = _value(found[0])
        return value

    def __setitem__(self, key: KeyT, value: ValueT) -> None:
        self._scratch.execute("INSERT OR REPLACE INTO items VALUES (?, ?, ?)", _item(key, value))

    def add(self, key: KeyT, value: ValueT) -> bool:
        """Set the value of a key that is not there yet; whether it was not."""
        return self._scratch.execute("INSERT OR IGNORE INTO items VALUES (?, ?, ?)", _item(key, value)) == 1

    def __delitem__(self, key: KeyT) -> None:
        if key not in self:
            raise KeyError(key)
        self._scratch.execute("DELETE FROM items WHERE id = ?", (json.dumps(key),))

    def __contains__(self, key: object) -> bool:
        return self._scratch.first("SELECT 1 FROM items WHERE id = ?", (json.dumps(key),)) is not None

    def __iter__(self) -> Iterator[KeyT]:
        return (_value(key) for (key,) in self._scratch.rows("SELECT key FROM items"))

    def __len__(self) -> int:
        return int(self._scratch.first("SELECT count(*) FROM items")[0])


def _item(key: object, value: object) -> tuple[str, bytes, bytes]:
    return json.dumps(key), pickle.dumps(key), pickle.dumps(value)


@lru_cache(maxsize=256)
def _value(blob: bytes) -> Any:
    """Most values are one of a few."""
    return pickle.loads(blob)  # noqa: S301 - nobody else can write to a file without a name
