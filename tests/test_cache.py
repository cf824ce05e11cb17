"""What outlives a process: finished samples, the memory of source files, locks, keys; and the listing of an input folder."""

from __future__ import annotations

import errno
import os
import random
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.cache import file_cache as sources
from fvpipe.cache import sample_store as samples
from fvpipe.cache.file_cache import FILE_CACHE_VERSION, FileCache, _is_current
from fvpipe.cache.sample_store import SampleStore, ViewRejection, sample_key
from fvpipe.config import identifier_key as identifier_key_module
from fvpipe.config.identifier_key import ENVIRONMENT, identifier_key
from fvpipe.config.loading import digest_of
from fvpipe.dicom.header import HeaderPolicy, ImageHeader, parse_header, read_header
from fvpipe.errors import FvpipeError, InputError, LockedError, ParameterError, StorageError
from fvpipe.indexing.scan import scan_folder
from fvpipe.io.atomic import write_atomic, write_if_changed
from fvpipe.io.locking import lock
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import Digest, Edge, FusedSample, ImageRecord, Laterality, Orientation, SourceFile, View
from fvpipe.versions import PREPROCESSING_VERSION
from tests.support import factory

KEY = digest_of("a sample")
ROOT = Path(__file__).parents[1]


def fused(image: Any = None) -> FusedSample:
    return FusedSample(
        image=np.arange(48, dtype=np.uint16).reshape(8, 6) if image is None else image,
        boxes=np.arange(8, dtype=np.int32).reshape(2, 4),
        source_shape=np.full((2, 2), 3000, np.int32),
        placement=np.linspace(0, 1, 8, dtype=np.float32).reshape(2, 4),
        intensity_range=np.array([0, 4095], np.float32),
        breast_area=np.array([70000, np.nan], np.float32),
        breast_mean=np.array([0.3, np.nan], np.float32),
        source_digests=(digest_of(1), digest_of(2)),
        pixel_digests=(digest_of(3), digest_of(4)),
        flags=Flag.IMPLANT | Flag.MLO_TRIANGLE,
    )


def assert_same(found: object, expected: FusedSample | ViewRejection) -> None:
    if isinstance(expected, ViewRejection):
        assert found == expected
        return
    assert isinstance(found, FusedSample)
    for field in fields(FusedSample):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


def python(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """A process of this interpreter, in the repository's root."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def output(process: subprocess.Popen[str]) -> str:
    """What it printed, after a good end."""
    out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


LIMITED = "import resource, sys\nresource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"


def as_nobody(action: Callable[[], object]) -> str:
    """What `action` returns or raises where the rights of files count, also when root runs the tests."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            answer = repr(action())
        except FvpipeError as error:
            answer = f"{type(error).__name__}: {error}"
        except BaseException as error:
            answer = f"unexpected {error!r}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    return text


# --- samples ----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_sample_round_trip(data: st.DataObject) -> None:
    side = st.integers(1, 9)
    shape = data.draw(st.tuples(side, side) | st.tuples(st.just(2), side, side))
    dtype = data.draw(st.sampled_from(["uint16", "uint8", "float32"]))
    image = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    image = np.swapaxes(image, -1, -2) if data.draw(st.booleans()) else image  # memory order is none of the store's business
    result: FusedSample | ViewRejection = replace(fused(image), flags=Flag(data.draw(st.integers(0, sum(Flag)))))
    if data.draw(st.booleans()):
        result = ViewRejection(data.draw(st.sampled_from(View)), data.draw(st.sampled_from(Reason)), data.draw(st.text()))
    with tempfile.TemporaryDirectory() as folder:
        store = SampleStore(Path(folder) / "made" / "when needed")
        assert not store.has(KEY)
        assert store.get(KEY) is None
        store.put(KEY, result)
        assert store.has(KEY)
        assert_same(store.get(KEY), result)
        assert store.rejection_path(KEY).exists() == isinstance(result, ViewRejection)


def test_same_sample_same_bytes(tmp_path: Path) -> None:
    paths = []
    for name in "ab":
        store = SampleStore(tmp_path / name)
        store.put(KEY, fused())
        paths.append(store.path(KEY))
    assert paths[0].read_bytes() == paths[1].read_bytes()


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


def test_a_key_depends_on_everything_that_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = map(digest_of, "abc")
    arguments = [((a, b), Laterality.LEFT, c, ("", ""))]
    arguments += [((b, a), Laterality.LEFT, c, ("", "")), ((a, b), Laterality.RIGHT, c, ("", ""))]
    arguments += [((a, b), Laterality.LEFT, a, ("", "")), ((a, b), Laterality.LEFT, c, ("openjpeg 2.5", ""))]
    arguments += [((a, b), Laterality.LEFT, c, ("", "openjpeg 2.5"))]
    keys = {sample_key(*each) for each in arguments}
    monkeypatch.setattr(samples, "PREPROCESSING_VERSION", PREPROCESSING_VERSION + 1)
    keys.add(sample_key(*arguments[0]))
    assert len(keys) == 7


@pytest.mark.parametrize("event", ["open", "os.rename"])
def test_killed_writer_leaves_nothing_under_a_final_name(event: str, tmp_path: Path) -> None:
    """Killed before the first byte, and between the last byte and the rename."""
    script = f"""
import os, sys
from pathlib import Path
from tests.test_cache import KEY, SampleStore, fused
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


def test_writer_killed_in_the_middle(tmp_path: Path) -> None:
    script = """
import sys
import numpy as np
from pathlib import Path
from tests.test_cache import SampleStore, digest_of, fused
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


# --- writing files ----------------------------------------------------------------------------------------------------


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


def test_unchanged_file_keeps_its_times(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.csv"
    write_if_changed(file, b"one")
    os.utime(file, ns=(1, 1))
    write_if_changed(file, b"one")
    assert file.stat().st_mtime_ns == 1
    write_if_changed(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_mtime_ns > 1


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


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    """As Dask's threads do where two breasts have the same two images, and so the same key."""
    versions = [bytes([i]) * 200_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda data: write_atomic(tmp_path / "x", data, durable=False), versions))
            assert (tmp_path / "x").read_bytes() in versions
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# --- the memory of source files ---------------------------------------------------------------------------------------

POLICY = HeaderPolicy(identifier_key=b"k" * 32)


def record(path: str = "a/one.dcm", **changes: Any) -> ImageRecord:
    values: dict[str, Any] = {
        "path": path, "patient_id": "P1", "study": "s", "sop_instance_uid": "1.2.3", "laterality": Laterality.LEFT,
        "view": View.CC, "rows": 4000, "columns": 3000, "bits_stored": 12, "photometric_interpretation": "MONOCHROME2",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1", "row_spacing": 0.07, "column_spacing": None, "manufacturer": "ACME",
        "patient_age": "045Y", "chest_wall": Edge.LEFT, "implant": False, "implant_displaced": False, "synthetic": True,
        "low_energy": False, "orientation": Orientation.UPRIGHT, "overlay": False, "shutter": True, "for_processing": False,
    }  # fmt: skip
    return ImageRecord(**values | changes)


@cache
def any_header() -> ImageHeader:
    made = factory.breast()
    return parse_header(factory.file_bytes(factory.dataset(made.pixels, made.bits), made.pixels), "x.dcm", HeaderPolicy())


def header(found: ImageRecord | Rejection) -> ImageHeader | Rejection:
    """A header with this record."""
    return found if isinstance(found, Rejection) else replace(any_header(), record=found)


RECORDS = st.builds(
    ImageRecord,
    path=st.text(min_size=1),
    row_spacing=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    column_spacing=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    chest_wall=st.none() | st.sampled_from(Edge),
) | st.builds(Rejection, st.text(min_size=1), st.sampled_from(Reason), st.text())


@settings(max_examples=50, deadline=None)
@given(st.lists(RECORDS, max_size=5, unique_by=lambda r: r.path if isinstance(r, ImageRecord) else r.what))
def test_memory_round_trip(records: list[ImageRecord | Rejection]) -> None:
    found = [(SourceFile(r.path if isinstance(r, ImageRecord) else r.what, f"state {i}"), r) for i, r in enumerate(records)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "new" / "memory.sqlite"
        with FileCache(file, Path("/in"), POLICY) as file_cache:
            file_cache.put_headers((source, header(record)) for source, record in found)
            file_cache.put_digests((source, digest_of(source.path)) for source, _ in found)
            for source, _ in found:
                assert file_cache.digest(source) == digest_of(source.path)  # in the process that read it, and in the next one
                assert file_cache.fact(source, "pixels") is None
        with FileCache(file, Path("/in"), POLICY) as file_cache:
            assert [file_cache.record(source) for source, _ in found] == records
            whole = [header(record) if isinstance(record, ImageRecord) else None for record in records]
            assert [file_cache.header(source) for source, _ in found] == whole
            assert [file_cache.digest(source) for source, _ in found] == [digest_of(source.path) for source, _ in found]
            for other in (replace(source, state="other") for source, _ in found):
                assert file_cache.record(other) is None
                assert file_cache.digest(other) is None


@pytest.fixture
def source() -> SourceFile:
    return SourceFile("a/one.dcm", "1 2 3 4")


def remember(file: Path, source: SourceFile, policy: HeaderPolicy = POLICY, root: Path = Path("/in")) -> None:
    with FileCache(file, root, policy) as file_cache:
        file_cache.put_headers([(source, header(record(source.path)))])
        file_cache.put_digests([(source, digest_of(1))])


@pytest.mark.parametrize(
    "policy", [HeaderPolicy(), replace(POLICY, identifier_key=b"j" * 32), replace(POLICY, keep_studies_apart=False)], ids=repr
)
def test_records_of_another_policy_are_not_used(policy: HeaderPolicy, source: SourceFile, tmp_path: Path) -> None:
    remember(tmp_path / "m", source)
    with FileCache(tmp_path / "m", Path("/in"), policy) as file_cache:
        assert file_cache.record(source) is None
        assert file_cache.digest(source) == digest_of(1)  # bytes are bytes, however they are read
        file_cache.put_headers([(source, header(record(patient_id="other")))])
    with FileCache(tmp_path / "m", Path("/in"), POLICY) as file_cache:
        assert file_cache.record(source) == record()


def test_another_folder_or_forgetting_remembers_nothing(source: SourceFile, tmp_path: Path) -> None:
    remember(tmp_path / "m", source)
    for root, forget in ((Path("/elsewhere"), False), (Path("/in"), True)):
        with FileCache(tmp_path / "m", root, POLICY, reread=forget) as file_cache:
            assert file_cache.record(source) is None
            assert file_cache.digest(source) is None
            file_cache.put_digests([(source, Digest("of this run"))])
            assert file_cache.digest(source) == "of this run"
    with FileCache(tmp_path / "m", Path("/in"), POLICY) as file_cache:
        assert file_cache.record(source) is None
        assert file_cache.digest(source) == "of this run"


def rewrite(file: Path, data: bytes, times: tuple[int, int] | None = None) -> None:
    """Change a file; the clock of change times is coarse, so until that one has moved on."""
    before = file.stat().st_ctime_ns
    while file.stat().st_ctime_ns == before:
        file.write_bytes(data)
        if times:
            os.utime(file, ns=times)


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
            file_cache.put_headers([(state(), header(record("a.dcm")))])
            file_cache.put_digests([(state(), digest_of(1))])
        assert known() == (record("a.dcm"), digest_of(1))
        change()
        assert known() == (None, None)


def test_no_path_and_no_identifier_in_the_database(tmp_path: Path) -> None:
    """A relative path may tell a name as well as an identifier does."""
    root = tmp_path / "Clinic of Somewhere"
    path = "Doe_Jane/film.dcm"
    factory.mammogram(root / path, PatientID="CANARY-ID", StudyInstanceUID="1.2.77.4242", SOPInstanceUID="1.2.77.4343")
    (source,) = listed(root)[0]
    found = read_header(root, path, POLICY)
    assert isinstance(found, ImageHeader)
    with FileCache(tmp_path / "m", root, POLICY) as file_cache:
        file_cache.put_headers([(source, found), (SourceFile("Doe_Jane/bad.dcm", "1"), Rejection(path, Reason.NOT_DICOM, "x"))])
        file_cache.put_digests([(source, digest_of(1))])
    content = b"".join(file.read_bytes() for file in tmp_path.glob("m*"))
    assert found.record.patient_id.encode() in content  # it is the digest
    for canary in ("CANARY", "Doe_Jane", "film", "Somewhere", "1.2.77", str(tmp_path)):
        assert canary.encode() not in content


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


def test_no_flipped_bit_becomes_a_wrong_record(tmp_path: Path) -> None:
    """SQLite itself notices few of them."""
    file, rng = tmp_path / "m", random.Random(0)
    files = [SourceFile(f"{i}.dcm", f"{i} 2 3 4") for i in range(12)]
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        file_cache.put_headers((source, header(record(source.path, patient_id=source.path))) for source in files)
        file_cache.put_digests((source, digest_of(source.path)) for source in files)
    sound = file.read_bytes()
    for _ in range(500):
        bit = rng.randrange(8 * len(sound))
        file.write_bytes(flipped(sound, bit))
        with FileCache(file, Path("/in"), POLICY) as file_cache:
            for source in files:
                assert file_cache.record(source) in (None, record(source.path, patient_id=source.path)), bit
                assert file_cache.digest(source) in (None, digest_of(source.path)), bit


EXCHANGES = {
    "paths": ("records", "headers", "facts"),
    "contents": ("records", "headers", "facts"),
    "kinds": ("facts",),  # of the same file
    "tables": (),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_exchanged_rows_are_misses(exchange: str, tmp_path: Path) -> None:
    """Of two files in the same state, as after a copy that keeps all times."""
    file = tmp_path / "m"
    sources = [SourceFile(f"{name}.dcm", "1 2 3 4") for name in "ab"]
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        file_cache.put_headers((source, header(record(source.path, patient_id=source.path))) for source in sources)
        for kind in ("file", "crash"):
            file_cache.put_facts([(source, f"{kind} of {source.path}") for source in sources], kind)
    with sqlite3.connect(file) as database:
        for table in EXCHANGES[exchange]:
            rows = sorted(database.execute(f"SELECT * FROM {table}").fetchall())
            half = len(rows) // 2
            others = [*rows[half:], *rows[:half]] if exchange != "kinds" else [rows[i ^ 1] for i in range(len(rows))]
            place = {"paths": 0, "kinds": 1}.get(exchange)
            new = [
                (*row[:3], *other[3:]) if place is None else (*row[:place], other[place], *row[place + 1 :])
                for row, other in zip(rows, others, strict=True)
            ]
            database.execute(f"DELETE FROM {table}")
            database.executemany(f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)", new)
        if exchange == "tables":
            for old, new_name in (("records", "x"), ("headers", "y")):
                database.execute(f"ALTER TABLE {old} RENAME TO {new_name}")
            for old, new_name, column in (("x", "headers", "records"), ("y", "records", "headers")):
                database.execute(f"ALTER TABLE {old} RENAME TO {new_name}")
                database.execute(f"ALTER TABLE {new_name} RENAME COLUMN {column} TO {new_name}")
    database.close()
    with FileCache(file, Path("/in"), POLICY) as file_cache:
        for source in sources:
            assert (file_cache.record(source) is None) == (exchange != "kinds")
            assert (file_cache.header(source) is None) == (exchange != "kinds")
            for kind in ("file", "crash") if EXCHANGES[exchange] else ():
                assert file_cache.fact(source, kind) is None


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


def test_a_memory_that_another_process_makes_meanwhile_is_kept(
    source: SourceFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, is_current = [], _is_current

    def look(database: sqlite3.Connection) -> bool:
        found = is_current(database)
        looked.append(found)
        if len(looked) == 1:  # between our look and our writing
            remember(tmp_path / "m", source)
        return found

    monkeypatch.setattr(sources, "_is_current", look)
    with FileCache(tmp_path / "m", Path("/in"), POLICY) as file_cache:
        assert looked[0] is False
        assert file_cache.record(source) == record()


def test_two_processes_remember_at_once(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from tests.test_cache import POLICY, SourceFile, FileCache, digest_of, header, record
sys.stdin.readline()
with FileCache(Path(sys.argv[1]), Path("/in"), POLICY) as memory:
    for i in range(50):
        source = SourceFile(f"{sys.argv[2]} {i}", "1")
        memory.put_headers([(source, header(record(source.path)))])
        memory.put_digests([(source, digest_of(i))])
"""
    processes = [python(script, tmp_path / "m", name) for name in "ab"]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output(process)
    with FileCache(tmp_path / "m", Path("/in"), POLICY) as file_cache:
        for source in (SourceFile(f"{name} {i}", "1") for name in "ab" for i in range(50)):
            assert file_cache.record(source) == record(source.path)
            assert file_cache.digest(source) is not None


@pytest.mark.parametrize("limit", [0, 3000, 20_000])
def test_memory_on_a_full_disk_is_one_sentence(limit: int, tmp_path: Path) -> None:
    script = LIMITED + (
        "from tests.test_cache import *\n"
        "with FileCache(Path(sys.argv[2]), Path('/in'), POLICY, warn=print) as memory:\n"
        "    for _ in range(2):\n"
        "        memory.put_headers((SourceFile(str(i), '1'), header(record(str(i)))) for i in range(500))\n"
    )
    said = output(python(script, limit, tmp_path / "m"))
    assert said.startswith(f"{tmp_path / 'm'}: cannot be")
    assert said.count("\n") == 1
    remember(tmp_path / "m", SourceFile("a", "1"))  # and when there is room again, it goes on


# --- locks ------------------------------------------------------------------------------------------------------------

HOLD = """
import sys
from pathlib import Path
from fvpipe.io.locking import lock
with lock(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder(file: Path) -> subprocess.Popen[str]:
    """A process that holds the lock until it is told something."""
    process = python(HOLD, file)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def no_warning(message: str) -> None:
    raise AssertionError(message)


def test_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    file = tmp_path / "new" / ".lock"
    first = holder(file)
    for _ in range(2):  # asking does not harm
        with pytest.raises(LockedError, match=f"locked by pid {first.pid},"), lock(file, no_warning):
            pass
    assert first.communicate("\n", timeout=60)[0] == ""
    assert not file.exists()
    with lock(file, no_warning):
        assert file.read_text() == f"{os.getpid()}\n"
    assert not file.exists()


def test_killed_holder_leaves_a_lock_that_is_taken_over(tmp_path: Path) -> None:
    file = tmp_path / ".lock"
    first = holder(file)
    first.kill()
    first.communicate()
    assert file.read_text() == f"{first.pid}\n"
    warnings: list[str] = []
    with lock(file, warnings.append):
        assert warnings == [f"{file}: taken over from process {first.pid}, which ended without finishing"]
        assert file.read_text() == f"{os.getpid()}\n"
    with lock(file, no_warning):
        pass


def test_error_in_the_body_releases(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lock(tmp_path / ".lock", no_warning):
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_one_at_a_time(tmp_path: Path) -> None:
    """Also where one removes the file while another waits for it."""
    inside: list[int] = []

    def work(number: int) -> None:
        done = 0
        while done < 50:
            try:
                with lock(tmp_path / ".lock", no_warning):
                    inside.append(number)
                    time.sleep(0)  # let the others try
                    assert inside == [number]
                    inside.remove(number)
                    done += 1
            except LockedError:
                time.sleep(0)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))


def test_lock_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"), lock(tmp_path / "file" / ".lock", no_warning):
        pass
    script = LIMITED + (
        "from tests.test_cache import *\n"
        "try:\n    with lock(Path(sys.argv[2]), print): print('held')\nexcept StorageError as error:\n    print(error)\n"
    )
    assert output(python(script, 0, tmp_path / ".lock")).startswith(f"{tmp_path / '.lock'}: cannot be written (File too large)")
    assert not (tmp_path / ".lock").exists()


def test_lock_can_be_imported_where_there_is_no_fcntl(tmp_path: Path) -> None:
    """As on Windows."""
    script = "import sys\nsys.modules['fcntl'] = None\nfrom fvpipe.io.locking import lock\nprint(lock.__name__)\n"
    assert output(python(script)) == "lock\n"


# --- listing ----------------------------------------------------------------------------------------------------------


def listed(folder: Path) -> tuple[list[SourceFile], list[Rejection]]:
    """Files and rejections, each sorted."""
    scan = scan_folder(folder)
    assert list(scan.files) == [file.path for file in scan.files.values()]
    return list(scan.files.values()), sorted(scan.rejections, key=lambda rejection: rejection.what)


def test_folders_that_link_to_each_other_are_listed_once(tmp_path: Path) -> None:
    """Eight folders with a link to every other one: 8! ways through, and eight folders."""
    for i in range(8):
        (tmp_path / f"f{i}").mkdir()
        (tmp_path / f"f{i}" / "a.dcm").write_bytes(b"x")
        for j in range(8):
            (tmp_path / f"f{i}" / f"to{j}").symlink_to(tmp_path / f"f{j}") if i != j else None
    files, rejections = listed(tmp_path)
    assert [file.path for file in files] == [f"f{i}/a.dcm" for i in range(8)]
    assert len(rejections) == 56


def test_listing_of_a_hostile_folder(tmp_path: Path) -> None:
    """Nothing of this may hang the build, or be opened."""
    root, outside = tmp_path / "in", tmp_path / "outside"
    names = ["b.dcm", "a/1.dcm", "a/10.DCM", "a/2.dicom", "a.dcm/x.ima", "plain", "ünï.dic", "sp ace\nline.dcm"]
    for name in names:
        factory.write(root / name, b"x")
    for name in ("readme.txt", "table.csv", "a/scan.png", ".hidden.dcm", ".git/x.dcm"):
        factory.write(root / name, b"x")
    factory.write(outside / "deep" / "far.dcm", b"x")
    for link, target in {
        "linked": outside,
        "link.dcm": outside / "deep" / "far.dcm",
        "a/up": root,
        "self": Path("self"),
        "broken.dcm": tmp_path / "nowhere",
        "null.dcm": Path("/dev/null"),
        "null": Path("/dev/null"),
        "a/loop": root / "a",
    }.items():
        (root / link).symlink_to(target)
    os.mkfifo(root / "pipe.dcm")
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "s.dcm"))  # a short name: such an address has at most 108 bytes
        scan = scan_folder(root)
        files, rejections = listed(root)
    assert [file.path for file in files] == sorted([*names, "link.dcm", "linked/deep/far.dcm"])
    assert all(file.state.startswith("1 ") for file in files)
    rejected = {rejection.what: rejection.detail for rejection in rejections}
    assert list(rejected) == sorted(rejected)
    assert rejected.pop("self").startswith("a link that leads nowhere (Too many levels")
    assert rejected.pop("broken.dcm") == "a link that leads nowhere (No such file or directory)"
    assert [rejected.pop(name) for name in ("a/up", "a/loop")] == ["a link to a folder that is listed under its own name"] * 2
    assert set(rejected) == {"null", "null.dcm", "pipe", "pipe.dcm", "s.dcm"}
    assert set(rejected.values()) == {"a pipe, socket or device"}
    assert {rejection.reason for rejection in rejections} == {Reason.NOT_A_FILE}
    assert [*scan.foreign, *scan.hidden] == ["a/scan.png", "readme.txt", "table.csv", ".git", ".hidden.dcm"]


def test_order_of_creation_does_not_matter(tmp_path: Path) -> None:
    names = [f"{folder}/{i}.dcm" for folder in ("b", "a", "a.b", "a-b") for i in range(20)]
    listings = []
    for seed in range(3):
        root = tmp_path / str(seed)
        for name in random.Random(seed).sample(names, len(names)):
            factory.write(root / name, b"")
        listings.append([file.path for file in listed(root)[0]])
    assert listings == [sorted(names)] * 3


def test_folder_that_cannot_be_listed() -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may look into that
        root = Path(name)
        root.chmod(0o755)
        factory.write(root / "a.dcm", b"x")
        (root / "locked").mkdir(mode=0)
        assert "Rejection(what='locked', reason=<Reason.NOT_A_FILE" in as_nobody(lambda: listed(root))
        assert "InputError" in (said := as_nobody(lambda: listed(root / "locked")))
        assert "cannot be listed (Permission denied)" in said
        (root / "locked").chmod(0o755)


def test_folder_that_breaks_off_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a network's folder that goes stale: opened, its names are not all to be had."""
    for name in ("a.dcm", "stale/b.dcm", "stale/c.dcm", "whole/d.dcm"):
        factory.write(tmp_path / name, b"x")
    stale, real = "stale", os.listdir

    def listdir(path: str) -> list[str]:
        names = real(path)
        if Path(path) == tmp_path / stale:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), path)
        return names

    monkeypatch.setattr(os, "listdir", listdir)
    files, rejections = listed(tmp_path)
    assert [file.path for file in files] == ["a.dcm", "whole/d.dcm"]
    detail = f"a folder that cannot be listed ({os.strerror(errno.ESTALE)})"
    assert rejections == [Rejection("stale", Reason.NOT_A_FILE, detail)]
    stale = ""
    with pytest.raises(InputError, match="cannot be listed"):
        listed(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    factory.write(tmp_path / "file", b"")
    for name, message in (("nowhere", "no such folder"), ("file", "is no folder")):
        with pytest.raises(InputError, match=message):
            scan_folder(tmp_path / name)


# --- the key of identifiers -------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh configuration folder, and no key in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    return tmp_path / "config"


def test_own_key_is_made_once(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = identifier_key()
    file = config / "fvpipe" / "identifier.key"
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert len(first) == 32
    assert len(file.read_text().strip()) == 64
    assert file.read_text().strip() != first.hex()  # the key is derived
    made = file.stat().st_mtime_ns
    assert identifier_key() == first
    assert file.stat().st_mtime_ns == made
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert identifier_key() != first


def test_own_key_stays_where_it_is_and_is_else_where_the_system_keeps_settings(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another key would give every patient another digest."""
    assert identifier_key_module.user_config_path("fvpipe") == config / "fvpipe"  # on Linux the two are one
    monkeypatch.setattr(identifier_key_module, "user_config_path", lambda name: tmp_path / "Library" / name)
    factory.write(config / "fvpipe" / "identifier.key", b"the key of an earlier version")
    kept = identifier_key()
    assert not (tmp_path / "Library").exists()
    (config / "fvpipe" / "identifier.key").unlink()
    assert identifier_key() != kept
    assert (tmp_path / "Library" / "fvpipe" / "identifier.key").is_file()
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    factory.write(tmp_path / "home" / ".config" / "fvpipe" / "identifier.key", b"the key of an earlier version")
    assert identifier_key() == kept


def test_file_before_environment_before_own(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = identifier_key()
    monkeypatch.setenv(ENVIRONMENT, "a key of the environment")
    environment = identifier_key()
    file = factory.write(tmp_path / "key", "a kéy of a file, long enough".encode())
    assert len({own, environment, identifier_key(file)}) == 3
    monkeypatch.setenv(ENVIRONMENT, " a key of the environment\n")
    assert identifier_key() == environment
    file.write_bytes(b"a key of the environment\r\n")  # the same secret is the same key, wherever it comes from
    assert identifier_key(file) == environment
    monkeypatch.setenv(ENVIRONMENT, os.fsdecode(b"\xff is no UTF-8, and no error"))
    assert identifier_key() not in (own, environment)


@pytest.mark.parametrize("secret", ["", "   ", "123456789012345", "s3cret\n" + " " * 40])
def test_short_key_is_refused_and_not_told(secret: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = factory.write(tmp_path / "key", secret.encode())
    monkeypatch.setenv(ENVIRONMENT, secret)
    for given_, source in ((file, str(file)), (None, ENVIRONMENT)):
        with pytest.raises(ParameterError, match="expected at least 16") as error:
            identifier_key(given_)
        assert source in str(error.value)
        assert not secret.strip() or secret.strip() not in str(error.value)
    assert not config.exists()


def test_key_file_that_cannot_be_read(config: Path, tmp_path: Path) -> None:
    for file in (tmp_path / "nowhere", factory.write(tmp_path / "key", b"\xff" * 40), tmp_path):
        with pytest.raises(InputError, match="identifier key cannot be read"):
            identifier_key(file)
    assert not config.exists()


def test_key_that_cannot_be_kept(config: Path) -> None:
    config.write_bytes(b"")
    with pytest.raises(StorageError, match=f"cannot be kept .* set {ENVIRONMENT}"):
        identifier_key()


def test_processes_that_make_the_key_at_once_agree(config: Path) -> None:
    script = (
        "import sys\nfrom fvpipe.config.identifier_key import identifier_key\n"
        "sys.stdin.readline()\nprint(identifier_key().hex())\n"
    )
    processes = [python(script) for _ in range(6)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    assert len({output(process) for process in processes}) == 1
    assert len(list((config / "fvpipe").iterdir())) == 1


def test_the_key_of_who_was_first_counts(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token = secrets.token_hex

    def late(count: int) -> str:  # between our look and our writing
        factory.write(config / "fvpipe" / "identifier.key", b"the key of another process")
        return token(count)

    monkeypatch.setattr(secrets, "token_hex", late)
    first = identifier_key()
    monkeypatch.setenv(ENVIRONMENT, "the key of another process")
    assert first == identifier_key()


def test_key_is_not_in_the_memory(config: Path) -> None:
    """The policy that holds it names the memory's records: by a digest."""
    key = identifier_key()
    remember(config / "m", SourceFile("a", "1"), replace(POLICY, identifier_key=key))
    content = (config / "m").read_bytes()
    assert key not in content
    assert key.hex().encode() not in content
