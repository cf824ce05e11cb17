"""What outlives a process, broken: samples, the file cache, and files that are written on a bad disk."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from blake3 import blake3

from fvpipe.cache.decoder_crashes import cached_crash
from fvpipe.cache.file_cache import FILE_CACHE_VERSION, FileCache
from fvpipe.cache.sample_store import SampleStore, ViewRejection
from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import load_pipeline
from fvpipe.errors import StorageError
from fvpipe.indexing.files.scan import CACHED_AS, image_files, scan_folder
from fvpipe.indexing.index import PassedOver
from fvpipe.io.atomic import write_atomic, write_if_changed
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import FusedSample, ImageRecord, SourceFile, View
from tests.support import factory
from tests.support.processes import LIMITED, as_nobody, output, python
from tests.support.stored import KEY, POLICY, assert_same, encoded, fused, listed, record, remember


@pytest.fixture
def source() -> SourceFile:
    return SourceFile("a/one.dcm", "1 2 3 4")


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped_at(percent: int) -> Callable[[bytes], bytes]:
    return lambda data: flipped(data, (8 * len(data) - 1) * percent // 100)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "one byte": lambda data: data[:1],
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "longer": lambda data: data + b"\0",
    "zeros": lambda data: bytes(len(data)),
    "another file": lambda data: b"PK" + bytes(range(256)) * 20,
    **{f"bit flipped at {percent} %": flipped_at(percent) for percent in range(0, 101, 10)},
}


@pytest.mark.fault(46)
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("result", [fused(), ViewRejection(View.MLO, Reason.DECODE_FAILED, "no")], ids=["sample", "rejection"])
def test_damaged_sample_is_absent(damage: str, result: FusedSample | ViewRejection, tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    store.put(KEY, result)
    (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert store.get(KEY) is None
    assert not store.has(KEY)  # or it would never be made again
    store.put(KEY, result)
    assert_same(store.get(KEY), result)


@pytest.mark.parametrize(
    "head", [{"view": "MLO", "reason": "new", "detail": "", "pixels": None}, {"arrays": []}, {}, {"reason": 1}], ids=range(4)
)
def test_an_entry_of_another_version_is_absent(head: dict[str, object], tmp_path: Path) -> None:
    """Whole, with a reason that this version does not know or other columns: it is made again, and the build goes on."""
    store = SampleStore(tmp_path)
    packed = json.dumps({**head, "key": KEY}).encode() + b"\n"
    for path in (store.path(KEY), store.rejection_path(KEY)):
        write_atomic(path, packed + blake3(packed).digest())
    assert store.get(KEY) is None
    assert not store.has(KEY)


def test_facts_of_another_version_are_misses(tmp_path: Path) -> None:
    """What a later version may tell of a file, or of a crash."""
    (tmp_path / "x.txt").write_bytes(b"no image")
    scan = scan_folder(tmp_path)
    with FileCache(tmp_path / "c.sqlite", tmp_path, POLICY) as cache:
        cache.put_values([(scan.foreign["x.txt"], "webp")], CACHED_AS)
        assert image_files(scan, tmp_path, cache) == ({}, PassedOver(("x.txt",), ()))
        assert cache.value(scan.foreign["x.txt"], CACHED_AS) == "other"
    for fact in ("[1]", "{}", '["a", "b", "c", "d"]', "1"):
        assert cached_crash(record(), load_pipeline("direct")[1], fact) is None


@pytest.mark.fault(46)
@pytest.mark.parametrize("result", [fused(), ViewRejection(View.MLO, Reason.DECODE_FAILED, "no")], ids=["sample", "rejection"])
def test_a_renamed_entry_is_absent(result: FusedSample | ViewRejection, tmp_path: Path) -> None:
    store, other = SampleStore(tmp_path), digest_of("another sample")
    own, names = (store.rejection_path if isinstance(result, ViewRejection) else store.path), (store.path, store.rejection_path)
    for key, name in [(key, name) for key in (KEY, other) for name in names if (key, name) != (KEY, own)]:
        store.put(KEY, result)
        name(key).parent.mkdir(exist_ok=True)
        own(KEY).rename(name(key))
        assert store.get(key) is None
        assert not store.has(key)
        assert not store.has(KEY)


def test_sample_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store = SampleStore(tmp_path)
    store.path(KEY).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"\.sample: cannot be read"):
        store.get(KEY)


@pytest.mark.fault(1)
@pytest.mark.parametrize("event", ["open", "os.rename"])
def test_killed_writer_leaves_nothing_under_a_final_name(event: str, tmp_path: Path) -> None:
    """Killed before the first byte, and between the last byte and the rename."""
    script = f"""
import os, sys
from pathlib import Path
from fvpipe.cache.sample_store import SampleStore
from tests.support.stored import KEY, fused
store = SampleStore(Path(sys.argv[1]))
sample = fused()
sys.addaudithook(lambda event, found: event == {event!r} and ".part" in str(found) and os.kill(os.getpid(), 9))
store.put(KEY, sample)
"""
    process = python(script, tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    store = SampleStore(tmp_path)
    assert not store.has(KEY)
    assert store.get(KEY) is None
    store.put(KEY, fused())
    assert_same(store.get(KEY), fused())


@pytest.mark.fault(1)
def test_writer_killed_in_the_middle(tmp_path: Path) -> None:
    script = """
import sys
import numpy as np
from pathlib import Path
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.loading import digest_of
from tests.support.stored import fused
sample = fused(np.zeros((4000, 8000), np.uint8))
for i in range(10_000):
    SampleStore(Path(sys.argv[1])).put(digest_of(i % 50), sample)
"""
    process = python(script, tmp_path)
    try:
        deadline = time.monotonic() + 60
        while not any(path.stat().st_size for path in tmp_path.rglob(".*.part") if path.exists()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
    except FileNotFoundError:
        pass  # it was renamed while we looked: it is writing
    finally:
        process.kill()
        process.communicate()
    store = SampleStore(tmp_path)
    for i in range(50):
        if store.path(digest_of(i)).exists():
            assert isinstance(store.get(digest_of(i)), FusedSample)


@pytest.mark.fault(4)
@pytest.mark.parametrize("limit", [0, 1, 4096, 99_999])
def test_full_disk_keeps_the_old_version(limit: int, tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    write_atomic(file, b"old")
    script = LIMITED + (
        "from pathlib import Path\nfrom fvpipe.errors import StorageError\nfrom fvpipe.io.atomic import write_atomic\n"
        "try:\n    write_atomic(Path(sys.argv[2]), b'x' * 100_000)\nexcept StorageError as error:\n    print(error)\n"
    )
    assert output(python(script, limit, file)) == f"{file}: cannot be written (File too large)\n"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]
    assert file.read_bytes() == b"old"


@pytest.mark.fault(5)
def test_read_only_folder_is_an_error() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may look into that
        folder = Path(name)
        folder.chmod(0o555)
        assert "StorageError" in as_nobody(lambda: write_atomic(folder / "x", b"new"))
        assert "Permission denied" in as_nobody(lambda: write_atomic(folder / "new" / "x", b"new"))
        assert not list(folder.iterdir())
        folder.chmod(0o755)


def test_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        write_atomic(tmp_path / "x" / "y", b"")


@pytest.mark.parametrize("data", [b"new", [b"n", b"ew"]])
def test_an_unreadable_file_is_replaced(data: bytes | list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may look into that
        folder = Path(name)
        folder.chmod(0o777)
        (folder / "x").write_bytes(b"new")
        (folder / "x").chmod(0)
        assert as_nobody(lambda: write_if_changed(folder / "x", data)) == "None"
        assert (folder / "x").stat().st_mode & 0o777
        assert (folder / "x").read_bytes() == b"new"


def rewrite(file: Path, data: bytes, times: tuple[int, int] | None = None) -> None:
    """Change a file; the clock of change times is coarse, so until that one has moved on."""
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.write_bytes(data)
        if times:
            os.utime(file, ns=times)


@pytest.mark.fault(16)
def test_every_change_of_a_file_is_seen(tmp_path: Path) -> None:
    file = factory.write(tmp_path / "in" / "a.dcm", b"one")

    def state() -> SourceFile:
        return listed(tmp_path / "in")[0][0]

    def known() -> tuple[ImageRecord | Rejection | None, str | None]:
        with FileCache(tmp_path / "m", tmp_path / "in", POLICY) as file_cache:
            return file_cache.record(state()), file_cache.digest(state())

    for change in (
        lambda: rewrite(file, b"longer"),
        lambda: os.utime(file, ns=(5, 5)),
        lambda: rewrite(file, b"LONGER", (5, 5)),  # same size, modification time restored
        lambda: (shutil.copy2(file, tmp_path / "copy"), os.replace(tmp_path / "copy", file)),
    ):
        with FileCache(tmp_path / "m", tmp_path / "in", POLICY) as file_cache:
            file_cache.put_headers([(state(), encoded(record("a.dcm")))])
            file_cache.put_digests([(state(), digest_of(1))])
        assert known() == (record("a.dcm"), digest_of(1))
        change()
        assert known() == (None, None)


@pytest.mark.fault(46)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_memory_is_an_empty_one(damage: str, source: SourceFile, tmp_path: Path) -> None:
    file = tmp_path / "m"
    remember(file, source)
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        assert file_cache.record(source) in (None, record())
    remember(file, source)
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        assert file_cache.record(source) == record()


@pytest.mark.fault(46)
def test_no_flipped_bit_becomes_a_wrong_record(tmp_path: Path) -> None:
    """SQLite itself notices few of them."""
    file, rng = tmp_path / "m", random.Random(0)
    files = [SourceFile(f"{i}.dcm", f"{i} 2 3 4") for i in range(12)]
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        file_cache.put_headers((source, encoded(record(source.path, patient_id=source.path))) for source in files)
        file_cache.put_digests((source, digest_of(source.path)) for source in files)
    sound = file.read_bytes()
    for _ in range(500):
        bit = rng.randrange(8 * len(sound))
        file.write_bytes(flipped(sound, bit))
        with FileCache(file, Path("/in"), POLICY) as file_cache:
            for source in files:
                assert file_cache.record(source) in (None, record(source.path, patient_id=source.path)), bit
                assert file_cache.digest(source) in (None, digest_of(source.path)), bit


@pytest.mark.fault(46)
@pytest.mark.parametrize(
    "columns", [slice(0, 1), slice(1, 3), slice(2, 3), slice(2, 4)], ids=["keys", "contents", "values", "sealed"]
)
@pytest.mark.parametrize("distance", range(1, 6))
def test_exchanged_rows_are_misses(columns: slice, distance: int, tmp_path: Path) -> None:
    """Of two files in the same state, as after a copy that keeps all times, and of the kinds of value of one file."""
    file = tmp_path / "m"
    sources = [SourceFile(f"{name}.dcm", "1 2 3 4") for name in "ab"]
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        file_cache.put_headers((source, encoded(record(source.path, patient_id=source.path))) for source in sources)
        for kind in ("file", "crash"):
            file_cache.put_values([(source, f"{kind} of {source.path}") for source in sources], kind)
    with sqlite3.connect(file) as database:
        rows = sorted(database.execute("SELECT * FROM entries").fetchall())
        new = [list(row) for row in rows]
        for row, other in zip(new, [*rows[distance:], *rows[:distance]], strict=True):
            row[columns] = other[columns]
        database.execute("DELETE FROM entries")
        database.executemany("INSERT INTO entries VALUES (?, ?, ?, ?)", new)
    database.close()
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        for source in sources:
            assert file_cache.record(source) is file_cache.header(source) is None
            assert file_cache.value(source, "file") is file_cache.value(source, "crash") is None


@pytest.mark.parametrize("version", [0, FILE_CACHE_VERSION])
def test_memory_of_another_form_is_an_empty_one(version: int, source: SourceFile, tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "m")
    database.execute("CREATE TABLE digests (path PRIMARY KEY, state, digest)")
    database.execute("INSERT INTO digests VALUES ('a', 'b', 'c')")
    database.execute(f"PRAGMA user_version = {version}")
    database.commit()
    database.close()
    remember(tmp_path / "m", source)
    with FileCache(tmp_path / "m", Path("/in"), POLICY) as file_cache:
        assert file_cache.digest(source) == digest_of(1)


@pytest.mark.fault(4)
@pytest.mark.parametrize("limit", [0, 3000, 20_000])
def test_memory_on_a_full_disk_is_one_sentence(limit: int, tmp_path: Path) -> None:
    script = LIMITED + (
        "from pathlib import Path\nfrom fvpipe.cache.file_cache import FileCache\n"
        "from fvpipe.types import SourceFile\nfrom tests.support.stored import POLICY, encoded, record\n"
        "with FileCache(Path(sys.argv[2]), Path('/in'), POLICY, warn=print) as memory:\n"
        "    for _ in range(2):\n"
        "        memory.put_headers((SourceFile(str(i), '1'), encoded(record(str(i)))) for i in range(500))\n"
    )
    said = output(python(script, limit, tmp_path / "m"))
    assert said.startswith(f"{tmp_path / 'm'}: cannot be")
    assert said.count("\n") == 1
    remember(tmp_path / "m", SourceFile("a", "1"))  # and when there is room again, it goes on
