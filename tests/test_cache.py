"""What outlives a process: finished samples, the cache of source files, locks, keys; and the listing of an input folder."""

from __future__ import annotations

import os
import secrets
import sqlite3
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.build.sample import SampleTask, key_of
from fvpipe.cache import file_cache as sources
from fvpipe.cache import sample_store as samples
from fvpipe.cache.file_cache import FileCache, _is_current, encode_header
from fvpipe.cache.sample_store import SampleStore, ViewRejection, sample_key
from fvpipe.config import identifier_key as identifier_key_module
from fvpipe.config.identifier_key import ENVIRONMENT, identifier_key
from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import InputError, ParameterError, StorageError
from fvpipe.io.atomic import write_atomic, write_if_changed
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import Digest, Edge, FusedSample, ImageRecord, Laterality, Orientation, SourceFile, View
from fvpipe.versions import PREPROCESSING_VERSION
from tests.support import factory
from tests.support.processes import output, python
from tests.support.stored import KEY, POLICY, any_header, assert_same, encoded, fused, listed, record, remember

ROOT = Path(__file__).parents[1]


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


def test_a_key_depends_on_everything_that_decides_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, c = map(digest_of, "abc")
    first: list[Any] = [(a, b), Laterality.LEFT, c, ("", ""), ("", "")]
    others: list[tuple[int, Any]] = [(0, (b, a)), (1, Laterality.RIGHT), (2, a)]
    others += [(i, pair) for i in (3, 4) for pair in (("openjpeg 2.5", ""), ("", "openjpeg 2.5"))]
    arguments = [first, *([*first[:i], other, *first[i + 1 :]] for i, other in others)]
    keys = {sample_key(*each) for each in arguments}
    monkeypatch.setattr(samples, "PREPROCESSING_VERSION", PREPROCESSING_VERSION + 1)
    keys.add(sample_key(*arguments[0]))
    assert len(keys) == len(arguments) + 1


@pytest.mark.parametrize(
    "said",
    [
        {"photometric_interpretation": "MONOCHROME1"},  # `inverted` of a declaration: the old samples stayed as they were
        {"orientation": Orientation.TURNED_180},
        {"chest_wall": Edge.RIGHT},
        {"implant": True},  # these flags may come from a column
        {"low_energy": True},
        {"synthetic": False},
    ],
)
def test_a_sample_is_made_again_where_its_image_is_read_otherwise(said: dict[str, Any]) -> None:
    def key(*views: ImageRecord) -> Digest:
        views_of_task = tuple(replace(each, view=view) for each, view in zip(views, View, strict=True))
        task = SampleTask("", "", views_of_task, ("", ""), (None, None), HeaderPolicy(), Pipeline())  # type: ignore[arg-type]
        return key_of(task, (Digest("a"), Digest("b")))

    plain, other = record(), record(**said)
    assert len({key(plain, plain), key(other, plain), key(plain, other)}) == 3
    of_another = record("b/other.dcm", patient_id="P2", study="t", sop_instance_uid="1.2.4")
    assert key(plain, plain) == key(of_another, of_another)  # a corrected identifier decodes nothing


# --- writing files ----------------------------------------------------------------------------------------------------


def test_unchanged_file_keeps_its_times(tmp_path: Path) -> None:
    file = tmp_path / "new" / "table.csv"
    write_if_changed(file, b"one")
    os.utime(file, ns=(1, 1))
    write_if_changed(file, b"one")
    assert file.stat().st_mtime_ns == 1
    write_if_changed(file, b"two")
    assert file.read_bytes() == b"two"
    assert file.stat().st_mtime_ns > 1


def test_many_threads_write_one_file(tmp_path: Path) -> None:
    """As Dask's threads do where two breasts have the same two images, and so the same key."""
    versions = [bytes([i]) * 200_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda data: write_atomic(tmp_path / "x", data, durable=False), versions))
            assert (tmp_path / "x").read_bytes() in versions
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


# --- the cache of source files ----------------------------------------------------------------------------------------

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
            file_cache.put_headers((source, encoded(record)) for source, record in found)
            file_cache.put_digests((source, digest_of(source.path)) for source, _ in found)
            for source, _ in found:
                assert file_cache.digest(source) == digest_of(source.path)  # in the process that read it, and in the next one
                assert file_cache.value(source, "pixels") is None
        with FileCache(file, Path("/in"), POLICY) as file_cache:
            assert [file_cache.record(source) for source, _ in found] == records
            whole = [replace(any_header(), record=record) if isinstance(record, ImageRecord) else None for record in records]
            assert [file_cache.header(source) for source, _ in found] == whole
            assert [file_cache.digest(source) for source, _ in found] == [digest_of(source.path) for source, _ in found]
            for other in (replace(source, state="other") for source, _ in found):
                assert file_cache.record(other) is None
                assert file_cache.digest(other) is None


@pytest.fixture
def source() -> SourceFile:
    return SourceFile("a/one.dcm", "1 2 3 4")


@pytest.mark.parametrize(
    "policy", [HeaderPolicy(), replace(POLICY, identifier_key=b"j" * 32), replace(POLICY, keep_studies_apart=False)], ids=repr
)
def test_records_of_another_policy_are_not_used(policy: HeaderPolicy, source: SourceFile, tmp_path: Path) -> None:
    remember(tmp_path / "m", source)
    with FileCache(tmp_path / "m", Path("/in"), policy) as file_cache:
        assert file_cache.record(source) is None
        assert file_cache.digest(source) == digest_of(1)  # bytes are bytes, however they are read
        file_cache.put_headers([(source, encoded(record(patient_id="other")))])
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


def test_no_path_and_no_identifier_in_the_database(tmp_path: Path) -> None:
    """A relative path may tell a name as well as an identifier does."""
    root = tmp_path / "Clinic of Somewhere"
    path = "Doe_Jane/film.dcm"
    factory.mammogram(root / path, PatientID="CANARY-ID", StudyInstanceUID="1.2.77.4242", SOPInstanceUID="1.2.77.4343")
    (source,) = listed(root)[0]
    found = read_header(root, path, POLICY)
    assert isinstance(found, ImageHeader)
    with FileCache(tmp_path / "m", root, POLICY) as file_cache:
        bad = encode_header(Rejection(path, Reason.NOT_DICOM, "x"))
        file_cache.put_headers([(source, encode_header(found)), (SourceFile("Doe_Jane/bad.dcm", "1"), bad)])
        file_cache.put_digests([(source, digest_of(1))])
    content = b"".join(file.read_bytes() for file in tmp_path.glob("m*"))
    assert found.record.patient_id.encode() in content  # it is the digest
    for canary in ("CANARY", "Doe_Jane", "film", "Somewhere", "1.2.77", str(tmp_path)):
        assert canary.encode() not in content


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
from fvpipe.cache.file_cache import FileCache
from fvpipe.config.loading import digest_of
from fvpipe.types import SourceFile
from tests.support.stored import POLICY, encoded, record
sys.stdin.readline()
with FileCache(Path(sys.argv[1]), Path("/in"), POLICY) as memory:
    for i in range(50):
        source = SourceFile(f"{sys.argv[2]} {i}", "1")
        memory.put_headers([(source, encoded(record(source.path)))])
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
    monkeypatch.setenv(ENVIRONMENT, os.fsdecode(b"\xff is not UTF-8, and no error"))
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
