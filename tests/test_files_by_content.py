"""Files are told by their first bytes where their names say nothing: read, rejected or passed over, each by name."""

from __future__ import annotations

import builtins
import io
import json
import os
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, MediaStorageDirectoryStorage

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.formats import PNG
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.files.scan import image_files, scan_folder
from tests.conftest import build, run
from tests.support import factory

OTHERS = {"readme.txt": b"words", "table.csv": b"a,b\n1,2\n", "LICENSE": b"MIT " * 50, ".hidden.dcm": b"x", "empty": b""}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for tests of files")


def directory(group_4: bool = True, **meta: Any) -> bytes:
    """A DICOMDIR as a CD has it."""
    ds = Dataset()
    if group_4:
        ds.FileSetID = "CD"
        record = Dataset()
        record.DirectoryRecordType = "PATIENT"
        record.PatientID = "P1"
        ds.DirectoryRecordSequence = Sequence([record])
    return factory.file_bytes(ds, None, **meta)


def bare(view: Any, syntax: str = ExplicitVRLittleEndian) -> bytes:
    """A data set without preamble, marker and meta information, as some archives hand it out."""
    made = factory.breast(3, view)
    file = FileDataset("", factory.dataset(made.pixels, made.bits, view=view), file_meta=FileMetaDataset())
    out = io.BytesIO()
    pydicom.dcmwrite(out, file, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=False)
    return out.getvalue()


def outcome(folder: Path, out: Path, *options: object) -> tuple[dict[str, int], dict[str, str], str]:
    """Counts, details of rejections by path, and what was said."""
    done = build(folder, out, *options, pipeline="direct")
    rows = [line.split(",", 2) for line in (out / "rejected.csv").read_text().splitlines()[1:]]
    counts = json.loads((out / "index.json").read_text())
    return counts, {what: f"{reason}: {detail}" for what, reason, detail in rows}, done.stderr


@pytest.mark.parametrize("names", [("IM0.img", "IM1.IMG"), ("a.dcm.bak", "b.tmp"), ("cc.mg", "mlo.jpg"), ("d.csv", "e.zip")])
def test_the_marker_counts_more_than_the_name(names: tuple[str, str], tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    for name, file in zip(names, sorted((tmp_path / "in").iterdir()), strict=True):
        file.rename(tmp_path / "in" / name)
    counts, rejected, said = outcome(tmp_path / "in", tmp_path / "out", "--strict")
    assert (counts["samples"], rejected) == (1, {})
    assert "passed over" not in said


def test_what_was_cached_before_formats_were_told_is_not_believed(tmp_path: Path) -> None:
    """The fact of that time, of files that were no DICOM files, said that they are not images."""
    factory.write(tmp_path / "in" / "a.bin", PNG)
    scan = scan_folder(tmp_path / "in", ("png",))
    with FileCache(tmp_path / "cache.sqlite", tmp_path / "in", HeaderPolicy()) as cache:
        cache.put_values([(scan.foreign["a.bin"], "other")], "content")
        assert list(image_files(scan, tmp_path / "in", cache, ("png",))[0]) == ["a.bin"]


def test_a_broken_file_under_a_foreign_name_is_rejected_like_any_other(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    whole = (tmp_path / "in" / "P1_L_CC.dcm").read_bytes()
    factory.write(tmp_path / "in" / "x.part", whole[:1000])
    _, rejected, _ = outcome(tmp_path / "in", tmp_path / "out")
    assert list(rejected) == ["x.part"]


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("name", ["CC", "1.2.840.1", "cc.dcm", "cc.raw"])
def test_a_data_set_without_preamble_is_named(name: str, syntax: str, tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    factory.write(tmp_path / "in" / name, bare(factory.CC, syntax))
    _, rejected, said = outcome(tmp_path / "in", tmp_path / "out")
    expected = "not_dicom: a DICOM data set without the preamble and DICM marker that a file begins with"
    assert rejected[name].startswith(expected)
    assert f"not_dicom: {name} (a DICOM data set without the preamble" in said
    run("build-shards", "--pipeline", "direct", "--dicom", tmp_path / "in", "--out", tmp_path / "out", "--strict", code=1)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((lambda: directory(MediaStorageSOPClassUID=MediaStorageDirectoryStorage)), id="both"),
        pytest.param(directory, id="group 0004"),
        pytest.param((lambda: directory(False, MediaStorageSOPClassUID=MediaStorageDirectoryStorage)), id="class"),
        pytest.param((lambda: directory(MediaStorageSOPClassUID=MediaStorageDirectoryStorage)[:-9]), id="cut short"),
    ],
)
@pytest.mark.parametrize("name", ["DICOMDIR", "sub/dicomdir.dcm", "INDEX", "cd.dir"])
def test_a_dicomdir_is_passed_over_and_named(name: str, data: Any, tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    factory.write(tmp_path / "in" / name, data())
    for _ in range(2):  # read, then cached
        counts, rejected, said = outcome(tmp_path / "in", tmp_path / "out", "--strict")
        assert (counts["samples"], rejected) == (1, {})
        assert f"1 DICOMDIR file(s), which list a medium's files and hold no image: {name}\n" in said


def test_an_image_that_calls_itself_a_directory_is_an_image(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    made = factory.breast()
    data = factory.file_bytes(
        factory.dataset(made.pixels, 12, ViewPosition="ML"), made.pixels, MediaStorageSOPClassUID=MediaStorageDirectoryStorage
    )
    factory.write(tmp_path / "in" / "DICOMDIR", data)
    _, rejected, _ = outcome(tmp_path / "in", tmp_path / "out")
    assert rejected["DICOMDIR"].startswith("view_not_pairable")


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    for name, data in OTHERS.items():
        factory.write(tmp_path / "in" / name, data)
    for name in ("2019.ZIP", "b.tar.gz", "c.7z", "d.tgz"):
        factory.write(tmp_path / "in" / name, b"PK\3\4")
    _, rejected, said = outcome(tmp_path / "in", tmp_path / "out", "--strict")
    assert rejected == {}
    others = "5 other file(s), which are hidden or no image by name and first bytes: .hidden.dcm, LICENSE, empty, ...\n"
    assert f"  passed over in in/: {others}" in said
    archives = "4 archive(s), which are not looked into: unpack them where they hold images: 2019.ZIP, b.tar.gz, c.7z, ...\n"
    assert f"  passed over in in/: {archives}" in said
    for file in (tmp_path / "in").glob("P1*"):
        file.unlink()
    (tmp_path / "in" / "LICENSE").unlink()
    (tmp_path / "in" / "empty").unlink()
    arguments = ("build-shards", "--pipeline", "direct", "--dicom", tmp_path / "in", "--out", tmp_path / "none", "--workers", 0)
    said = run(*arguments, code=1).output
    assert "no DICOM file; found 3 other file(s)" in said and "2019.ZIP" in said


def test_an_index_says_what_it_passes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    factory.patient(tmp_path / "data" / "ours", "P1", "L")
    factory.write(tmp_path / "data" / "ours" / "DICOMDIR", directory())
    (tmp_path / "params.yaml").write_text("datasets:\n  ours: {adapter: table}\npipelines: [direct]\n")
    monkeypatch.chdir(tmp_path)
    assert "1 DICOMDIR file(s)" in run("index", "--workers", 0).stderr
    assert "DICOMDIR" not in (tmp_path / "manifests" / "ours" / "rejected.csv").read_text()
    assert run("build-shards", "--workers", 0, "--strict").stderr  # the manifest agrees


def test_foreign_files_are_read_once_and_no_further_than_the_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(20):
        factory.write(tmp_path / "in" / f"{i}.png", bytes(10_000))
    factory.write(tmp_path / "in" / ".hidden" / "x.png", b"x")
    os.mkfifo(tmp_path / "in" / "pipe.png")  # nothing is waited for
    taken: list[int] = []
    real = builtins.open

    def counted(file: Any, *arguments: Any, **more: Any) -> Any:
        opened = real(file, *arguments, **more)
        if str(file).endswith(".png"):
            reading = opened.read
            return _Counted(opened, reading, taken)
        return opened

    with FileCache(tmp_path / "cache.sqlite", tmp_path / "in", HeaderPolicy()) as file_cache:
        monkeypatch.setattr(builtins, "open", counted)
        for _ in range(2):
            files, passed_over = image_files(scan_folder(tmp_path / "in"), tmp_path / "in", file_cache)
            assert not files
            assert len(passed_over) == 22
            assert taken == [132] * 20


class _Counted:
    def __init__(self, file: Any, reading: Any, taken: list[int]) -> None:
        self._file, self._reading, self._taken = file, reading, taken

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, size: int) -> Any:
        self._taken.append(size)
        return self._reading(size)
