"""What an index finds, in a temporary database: memory does not grow with the number of files.

Headers come in any order; images, pairs and rejections are given sorted, one at a time.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache, partial
from itertools import groupby
from operator import attrgetter
from typing import Any, TypeVar

from fvpipe.io.temp_database import Scratch, Selection, from_blob, to_blob
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Breast, Edge, ImageRecord, Laterality, SourceFile, View

RowT = TypeVar("RowT")

_SCHEMA = (
    "CREATE TABLE files (path BLOB PRIMARY KEY, state TEXT) WITHOUT ROWID",
    "CREATE TABLE unread (path BLOB PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE images (path BLOB PRIMARY KEY, patient BLOB, study BLOB, side TEXT, instance BLOB, record BLOB)"
    " WITHOUT ROWID",
    "CREATE INDEX breasts_of_images ON images (patient, side)",
    "CREATE TABLE rejections (what BLOB, reason TEXT, detail BLOB)",
    "CREATE INDEX names_of_rejections ON rejections (what)",
    "CREATE TABLE set_aside (path BLOB PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE pairs (number INTEGER PRIMARY KEY, cc BLOB, mlo BLOB)",
)


class Files(Mapping[str, SourceFile]):
    """The files of the input folder by path, sorted."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        # Who asks for a file asks again soon. A method of this object would keep it, and the database, in a cycle.
        self._found: Callable[[str], SourceFile] = lru_cache(maxsize=256)(partial(_file, scratch))

    def __getitem__(self, path: str) -> SourceFile:
        return self._found(path)

    def load(self) -> None:
        """Take all of them into memory: quicker, for who asks for every file."""
        self._found = {file.path: file for file in self.sorted()}.__getitem__

    def __iter__(self) -> Iterator[str]:
        return (file.path for file in self.sorted())

    def sorted(self) -> Iterator[SourceFile]:
        """All of them, by path."""
        rows = self._scratch.rows("SELECT path, state FROM files ORDER BY path")
        return (SourceFile(from_blob(path), state) for path, state in rows)

    def __len__(self) -> int:
        return int(self._scratch.first("SELECT count(*) FROM files")[0])


def _file(scratch: Scratch, path: str) -> SourceFile:
    found = scratch.first("SELECT state FROM files WHERE path = ?", (to_blob(path),))
    if found is None:
        raise KeyError(path)
    return SourceFile(path, found[0])


class Records:
    """The files, headers, pairs and rejections of one data set.

    Attributes
    ----------
    files : mapping of path to SourceFile
    images : collection of ImageRecord
        Sorted by path.
    rejections : collection of Rejection
        Sorted by what, reason, detail.
    """

    def __init__(self) -> None:
        self._scratch = Scratch(*_SCHEMA)
        self.files = Files(self._scratch)
        self.images: Collection[ImageRecord] = self._select("SELECT record FROM images ORDER BY path", _record)
        query = "SELECT what, reason, detail FROM rejections ORDER BY what, reason, detail"
        self.rejections: Collection[Rejection] = self._select(query, _rejection)

    def _select(self, query: str, make: Callable[..., RowT]) -> Selection[RowT]:
        return Selection(self._scratch, query, make)

    # --- what the files say -------------------------------------------------------------------------------------------

    def add(self, found: Iterable[SourceFile | ImageRecord | Rejection | Breast]) -> None:
        """Add files, what their headers say, pairs, and what is rejected."""
        for kind, alike in groupby(found, key=type):
            statement, row = _INSERT[kind]
            self._scratch.insert(statement, map(row, alike))

    def missing(self, task: Callable[[str], RowT]) -> Collection[RowT]:
        """Make a task of each file of which nothing is known as yet, sorted."""
        known = "SELECT path FROM images UNION ALL SELECT what FROM rejections"
        return self._tasks(task, f"INSERT INTO unread SELECT path FROM files WHERE path NOT IN ({known})")  # noqa: S608 - ours

    def unread(self, paths: Iterable[str], task: Callable[[str], RowT]) -> Collection[RowT]:
        """Make a task of each of `paths`, sorted."""
        return self._tasks(task, "INSERT INTO unread VALUES (?)", ((to_blob(path),) for path in paths))

    def _tasks(self, task: Callable[[str], RowT], statement: str, rows: Iterable[Sequence[object]] = ((),)) -> Collection[RowT]:
        self._scratch.execute("DELETE FROM unread")  # those of the last call
        self._scratch.insert(statement, rows)
        return self._select("SELECT path FROM unread ORDER BY path", lambda path: task(from_blob(path)))

    def refuse(self, rejections: Iterable[Rejection]) -> None:
        """Put each rejection in the place of what its file's header said."""
        rejections = list(rejections)  # they may come from a query of the very table that is changed
        self.drop(rejection.what for rejection in rejections)
        self.add(rejections)

    def drop(self, paths: Iterable[str]) -> None:
        """Forget what the headers of files said."""
        for path in paths:
            for statement in ("DELETE FROM images WHERE path = ?", "DELETE FROM rejections WHERE what = ?"):
                self._scratch.execute(statement, (to_blob(path),))

    def rejected(self, reason: Reason) -> Iterator[str]:
        """The paths that were rejected for `reason`, sorted."""
        query = "SELECT what FROM rejections WHERE reason = ? ORDER BY what"
        return (from_blob(what) for (what,) in self._scratch.rows(query, (reason.value,)))

    def image(self, path: str) -> ImageRecord:
        """One image."""
        return _record(self._scratch.first("SELECT record FROM images WHERE path = ?", (to_blob(path),))[0])

    # --- pairing ------------------------------------------------------------------------------------------------------

    def colliding(self) -> Iterator[list[ImageRecord]]:
        """As :func:`fvpipe.indexing.pairing.colliding_instances`."""
        several = "SELECT instance FROM images WHERE instance <> x'' GROUP BY instance HAVING count(*) > 1"
        query = f"SELECT instance, record FROM images WHERE instance IN ({several}) ORDER BY instance, path"  # noqa: S608 - ours
        for _, rows in groupby(self._scratch.rows(query), key=lambda row: row[0]):
            yield [_record(record) for _, record in rows]

    def set_aside(self, rejections: Iterable[Rejection]) -> None:
        """Add rejections of images that stay, but are kept out of :meth:`by_breast`."""
        for rejection in rejections:
            self._scratch.execute("INSERT INTO set_aside VALUES (?)", (to_blob(rejection.what),))
            self.add([rejection])

    def by_breast(self) -> Iterator[ImageRecord]:
        """The images sorted by patient, study, side and path, without those that were set aside."""
        query = "SELECT record FROM images WHERE path NOT IN set_aside ORDER BY patient, study, side, path"
        return (_record(record) for (record,) in self._scratch.rows(query))

    def of_breast(self, patient: str, laterality: Laterality) -> Iterator[ImageRecord]:
        """A breast's images, in all studies, sorted by path."""
        query = "SELECT record FROM images WHERE patient = ? AND side = ? ORDER BY path"
        return (_record(record) for (record,) in self._scratch.rows(query, (to_blob(patient), laterality.value)))

    def breasts(self, make: Callable[[ImageRecord, ImageRecord], RowT]) -> Collection[RowT]:
        """What `make` makes of each pair of CC and MLO, in the order in which they were added."""
        images = "JOIN images AS first ON first.path = cc JOIN images AS second ON second.path = mlo"
        query = f"SELECT first.record, second.record FROM pairs {images} ORDER BY number"  # noqa: S608 - ours
        return self._select(query, lambda cc, mlo: make(_record(cc), _record(mlo)))

    def is_imaged(self, patient: str, laterality: Laterality) -> bool:
        """Whether there is an image of a breast, set aside or not."""
        query = "SELECT 1 FROM images WHERE patient = ? AND side = ?"
        return self._scratch.first(query, (to_blob(patient), laterality.value)) is not None

    def uses(self) -> Iterator[tuple[ImageRecord, bool]]:
        """The images sorted by path, and whether each is in a pair."""
        query = "SELECT record, path IN (SELECT cc FROM pairs UNION ALL SELECT mlo FROM pairs) FROM images ORDER BY path"
        return ((_record(record), bool(used)) for record, used in self._scratch.rows(query))


_COLUMNS = [field.name for field in fields(ImageRecord)]
_values = attrgetter(*_COLUMNS)
_ENUMS: tuple[tuple[int, Mapping[str | None, object]], ...] = (
    (_COLUMNS.index("laterality"), {side.value: side for side in Laterality}),
    (_COLUMNS.index("view"), {view.value: view for view in View}),
    (_COLUMNS.index("chest_wall"), {None: None, **{edge.value: edge for edge in Edge}}),
)


def _packed(record: ImageRecord) -> bytes:
    values = list(_values(record))
    for column, _ in _ENUMS:
        values[column] = values[column] and values[column].value
    return marshal.dumps(values)  # read by this process alone, and several times: four times quicker than JSON


def _row(record: ImageRecord) -> tuple[object, ...]:
    names = (record.path, record.patient_id, record.study)
    return (*map(to_blob, names), record.laterality.value, to_blob(record.sop_instance_uid), _packed(record))


_INSERT: dict[type, tuple[str, Callable[[Any], tuple[object, ...]]]] = {
    # A folder that changes while it is listed may name a file twice.
    SourceFile: ("INSERT OR REPLACE INTO files VALUES (?, ?)", lambda file: (to_blob(file.path), file.state)),
    ImageRecord: ("INSERT INTO images VALUES (?, ?, ?, ?, ?, ?)", _row),
    Rejection: ("INSERT INTO rejections VALUES (?, ?, ?)", lambda r: (to_blob(r.what), r.reason.value, to_blob(r.detail))),
    Breast: ("INSERT INTO pairs (cc, mlo) VALUES (?, ?)", lambda breast: tuple(to_blob(image.path) for image in breast.views)),
}


def _record(packed: bytes) -> ImageRecord:
    values = marshal.loads(packed)  # noqa: S302 - nobody else can write to a file without a name
    for column, members in _ENUMS:
        values[column] = members[values[column]]
    return ImageRecord(*values)


def _rejection(what: bytes, reason: str, detail: bytes) -> Rejection:
    return Rejection(from_blob(what), Reason(reason), from_blob(detail))
