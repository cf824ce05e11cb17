"""What an index keeps on disk is what it would have kept in memory."""

from __future__ import annotations

import gc
import sqlite3
import weakref
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.errors import StorageError
from fvpipe.indexing.pairing import colliding_instances, duplicates, pair
from fvpipe.indexing.records import Records
from fvpipe.io.temp_database import OnDisk, Scratch
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import BreastFacts, ImageRecord, Laterality, SourceFile, View
from tests.test_pairing import worlds
from tests.test_stores import RECORDS, record

TEXTS = st.text(st.characters(exclude_categories=()), max_size=4)  # lone surrogates too: names of files that are no UTF-8
KEYS = TEXTS | st.tuples(TEXTS, st.sampled_from(Laterality)) | st.tuples(TEXTS, st.sampled_from(View), st.integers(0, 3))
VALUES = st.builds(BreastFacts, label=st.integers(-1, 1), pathology=st.text()) | st.lists(st.integers(), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(KEYS, VALUES)), st.lists(KEYS))
def test_on_disk_is_a_dict(items: list[tuple[Any, Any]], asked: list[Any]) -> None:
    expected, found = dict(items), OnDisk(items)
    assert found == expected
    assert {type(key) for key in found} == {type(key) for key in expected}
    for key in asked:
        assert found.get(key) == expected.get(key)
        assert (key in found, len(found)) == (key in expected, len(expected))
        assert found.add(key, 1) == (key not in expected)
        assert found[key] == expected.setdefault(key, 1)
    for key in asked:
        assert found.pop(key, None) == expected.pop(key, None)
    assert found == expected


@settings(max_examples=100, deadline=None)
@given(st.lists(RECORDS, max_size=8, unique_by=lambda r: r.path if isinstance(r, ImageRecord) else r.what), st.sets(TEXTS))
def test_what_goes_in_comes_out_sorted(headers: list[ImageRecord | Rejection], paths: set[str]) -> None:
    records = Records()
    records.add([SourceFile(path, "1 2 3 4") for path in paths])
    records.add(headers)
    images = sorted((h for h in headers if isinstance(h, ImageRecord)), key=lambda r: r.path)
    rejections = sorted((h for h in headers if isinstance(h, Rejection)), key=lambda r: (r.what, r.reason, r.detail))
    assert list(records.files) == sorted(paths)
    assert list(records.images) == images
    assert [records.image(image.path) for image in images] == images
    assert list(records.rejections) == rejections
    assert list(records.unread(paths, str.upper)) == [path.upper() for path in sorted(paths)]
    known = {image.path for image in images} | {rejection.what for rejection in rejections}
    assert list(records.missing(str.upper)) == [path.upper() for path in sorted(paths - known)]
    for reason in Reason:
        assert list(records.rejected(reason)) == [r.what for r in rejections if r.reason is reason]
    records.refuse(Rejection(image.path, Reason.VIEW_CONFLICT, "now") for image in records.images)
    assert not records.images
    assert len(records.rejections) == len(headers)


@settings(max_examples=100, deadline=None)
@given(worlds())
def test_pairing_from_disk(world: dict[str, Any]) -> None:
    headers, records = world["records"], Records()
    records.add(headers)
    groups = colliding_instances(headers)
    assert list(records.colliding()) == groups
    for group in records.colliding():
        records.set_aside(duplicates(group, world["contents"]))
    out = {rejection.what for group in groups for rejection in duplicates(group, world["contents"])}
    expected = sorted(headers, key=lambda r: (r.patient_id, r.study, r.laterality, r.path))
    assert list(records.by_breast()) == [r for r in expected if r.path not in out]
    assert len(records.images) == len(headers)
    imaged = {(r.patient_id, r.laterality) for r in headers}
    assert all(records.is_imaged(p, side) == ((p, side) in imaged) for p in "PQR" for side in Laterality)
    paired = pair("set", headers, {}, {}, world["contents"])
    records.add(paired.breasts)
    assert list(records.breasts(lambda cc, mlo: (cc, mlo))) == [breast.views for breast in paired.breasts]
    used = {image.path for breast in paired.breasts for image in breast.views}
    assert [(image, is_used) for image, is_used in records.uses()] == [(i, i.path in used) for i in records.images]


def test_index_is_sorted_however_its_files_came() -> None:
    paths = ["b/1", "a.b/1", "a/1", "a/10", "a-b", "\udcff", "é", "\U0001f9e0", "\uffff"]
    records = Records()
    records.add(record(path, sop_instance_uid=path) for path in paths)
    assert [image.path for image in records.images] == sorted(paths)


def test_no_room_is_one_sentence() -> None:
    scratch = Scratch("PRAGMA max_page_count = 20", "CREATE TABLE big (data BLOB)")
    with pytest.raises(StorageError, match=r"a temporary database cannot be used .*full.*TMPDIR"):
        scratch.insert("INSERT INTO big VALUES (?)", ((bytes(10_000),) for _ in range(100)))


def test_what_is_no_full_disk_is_not_called_one() -> None:
    scratch = Scratch("CREATE TABLE names (name TEXT PRIMARY KEY)")
    with pytest.raises(StorageError, match=r"UNIQUE constraint failed: names.name\)$"):
        scratch.insert("INSERT INTO names VALUES (?)", [("a",), ("a",)])


def test_a_file_that_is_listed_twice_is_one() -> None:
    records = Records()
    records.add(SourceFile("a", state) for state in ("1 2 3 4", "1 3 3 4"))
    assert list(records.files.sorted()) == [SourceFile("a", "1 3 3 4")]


def test_the_database_goes_with_the_last_reference() -> None:
    """Not when the collector of cycles comes by: it is disk that is given back."""
    gc.collect()
    gc.disable()
    try:
        records = Records()
        records.add([SourceFile("a", "1 2 3 4")])
        assert records.files["a"].state == "1 2 3 4"
        connection, scratch = records._scratch._connection, weakref.ref(records._scratch)
        del records
        assert scratch() is None
    finally:
        gc.enable()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SQLITE_TMPDIR", str(tmp_path))
    kept = OnDisk((f"{i}", bytes(1000)) for i in range(10_000))
    assert len(kept) == 10_000
    assert not list(tmp_path.iterdir())
