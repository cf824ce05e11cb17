"""An index or a build of which nothing has changed since is recalled, and any change whatsoever ends that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest

from fvpipe import flow
from fvpipe.dicom import header as dicom
from fvpipe.flow import build_shards
from fvpipe.project import run_cache as settled
from fvpipe.project.run_cache import _libraries, state_of
from fvpipe.reasons import Reason, Rejection
from tests.conftest import run
from tests.support import factory

LABELS = "patient_id,laterality,label\np1,L,malignant\np2,L,benign\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two patients and a file that is no DICOM, indexed once."""
    monkeypatch.chdir(tmp_path)
    for patient in ("p1", "p2"):
        factory.patient(tmp_path / "data" / "own", patient, sides="L")
    (tmp_path / "data" / "own" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM, but no more of it")
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "params.yaml").write_text("datasets:\n  own: {adapter: table, label_file: labels.csv}\n")
    assert index()["read"] == 5
    return tmp_path


def index(*options: str) -> dict[str, object]:
    (result,) = json.loads(run("index", "--workers", 0, "--json", *options).stdout)
    assert isinstance(result, dict)
    return result


def tables(project: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (project / "manifests" / "own").iterdir()}


def is_recalled(monkeypatch: pytest.MonkeyPatch, command: Callable[[], object]) -> bool:
    """Whether the results of `command` are recalled: they cannot be made, since making them fails here."""
    with monkeypatch.context() as patch:
        patch.setattr("fvpipe.flow.index", lambda *_: pytest.fail("made"))
        try:
            command()
        except (pytest.fail.Exception, AssertionError):
            return False
    return True


def recalled(monkeypatch: pytest.MonkeyPatch) -> bool:
    return is_recalled(monkeypatch, index)


def test_the_same_words_again_without_reading_modules(project: Path) -> None:
    first = run("index", "--workers", 0, "--reread")
    before = {file.name: file.stat().st_mtime_ns for file in (project / "manifests" / "own").iterdir()}
    script = (
        "import sys\nfrom fvpipe.cli.main import main\n"
        "try:\n main(['index'])\nexcept SystemExit as end:\n assert not end.code\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'pydicom', 'numpy', 'pydantic', 'cv2', 'h5py', 'dask'}))"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    words, modules = again.stdout.splitlines()
    assert words == first.stdout.strip().replace("5 headers read", "0 headers read")
    assert modules == "[]"
    assert "rejected: broken.dcm" in first.stderr
    assert again.stderr == first.stderr
    assert {file.name: file.stat().st_mtime_ns for file in (project / "manifests" / "own").iterdir()} == before


def touch(path: Path) -> None:
    os.utime(path, ns=(1, 1))


def swap_with_times_restored(project: Path) -> None:
    file = next((project / "data" / "own").rglob("*.dcm"))
    status = file.stat()
    file.write_bytes(file.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file touched": lambda p: touch(next((p / "data" / "own").rglob("*.dcm"))),
    "its times restored": swap_with_times_restored,
    "a file gone": lambda p: next((p / "data" / "own").rglob("*.dcm")).unlink(),
    "a file more": lambda p: factory.patient(p / "data" / "own", "p3"),
    "a link to nowhere more": lambda p: (p / "data" / "own" / "link.dcm").symlink_to("nowhere"),
    "a table beside the images": lambda p: (p / "data" / "own" / "notes.csv").write_text("x"),
    "the label table": lambda p: (p / "labels.csv").write_text(LABELS.replace("benign", "malignant")),
    "the settings": lambda p: (p / "params.yaml").write_text((p / "params.yaml").read_text() + "# new\n"),
    "a manifest edited": lambda p: (p / "manifests" / "own" / "breasts.csv").write_text("edited"),
    "a manifest deleted": lambda p: (p / "manifests" / "own" / "rejected.csv").unlink(),
    "rows that git would see": lambda p: (p / "manifests" / "own" / ".gitignore").unlink(),
    "another key": lambda p: os.environ.__setitem__("FVPIPE_ID_KEY", "k" * 16),
    "the memo damaged": lambda p: next((p / "cache" / "samples").glob("index-*.json")).write_text('{"call": []}'),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_seen(change: Callable[[Path], object], project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "FVPIPE_ID_KEY", "j" * 16)
    index()
    assert recalled(monkeypatch)
    change(project)
    assert not recalled(monkeypatch)
    index()
    now = tables(project)
    assert recalled(monkeypatch)
    index("--reread")
    assert tables(project) == now


@pytest.mark.parametrize("changed", ["dicom.py", "site-packages"])
def test_a_changed_reader_is_seen(changed: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own code, or a library that was installed since, shows in the times of the files and folders that hold it."""
    real = state_of
    monkeypatch.setattr(settled, "state_of", lambda path: real(path) + "0" * (Path(path).name == "other"))
    assert recalled(monkeypatch)
    monkeypatch.setattr(settled, "state_of", lambda path: real(path) + "0" * (Path(path).name == changed))
    assert not recalled(monkeypatch)


def test_nothing_of_the_input_is_in_the_memo(project: Path) -> None:
    (memo,) = (project / "cache" / "samples").glob("index-*.json")
    text = memo.read_text()
    assert "broken" not in text
    assert "p1" not in text


# --- builds -----------------------------------------------------------------------------------------------------------

OUT = Path("cache/shards/cropped/own")


@pytest.fixture
def built(project: Path) -> Path:
    """The same project, with its shards."""
    assert build()["computed"] == 2
    return project


def build(*options: str) -> dict[str, object]:
    (result,) = json.loads(run("build-shards", "--pipeline", "cropped", "--workers", 0, "--json", *options).stdout)
    assert isinstance(result, dict)
    return result


def build_recalled(monkeypatch: pytest.MonkeyPatch, *options: str) -> bool:
    again: list[dict[str, object]] = []
    found = is_recalled(monkeypatch, lambda: again.append(build(*options)))
    assert [(each["computed"], each["reused"], each["written"]) for each in again] == [(0, 2, 0)] * found
    return found


def folder_of(out: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in out.iterdir()}


def test_a_build_says_the_same_words_again_without_reading_modules(built: Path) -> None:
    (built / "data" / "own" / "notes.txt").write_text("no DICOM")
    run("build-shards", "--pipeline", "cropped", "--workers", 0)
    first = run("build-shards", "--pipeline", "cropped", "--workers", 0, "--reread")
    script = (
        "import sys\nfrom fvpipe.cli.main import main\n"
        "try:\n main(['build-shards', '--pipeline', 'cropped'])\nexcept SystemExit as end:\n assert not end.code\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'pydicom', 'numpy', 'pydantic', 'cv2', 'h5py', 'dask'}))"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    words, modules = again.stdout.splitlines()
    assert words.partition(" s ->")[0][:-3] == first.stdout.partition(" s ->")[0][:-3]
    assert "0 made, 2 reused" in words
    assert modules == "[]"
    assert "rejected: broken.dcm" in first.stderr
    assert "1 other file(s)" in first.stderr
    assert again.stderr == first.stderr


def first_shard() -> Path:
    return min(OUT.glob("shard-*.h5"))


def swap_shard(_: Path) -> None:
    data = bytearray(first_shard().read_bytes())
    data[-1] ^= 1
    first_shard().write_bytes(bytes(data))


BUILD_CHANGES: dict[str, Callable[[Path], object]] = {
    **{name: CHANGES[name] for name in CHANGES if name != "the memo damaged"},
    "a shard rotten": swap_shard,
    "a shard deleted": lambda _: first_shard().unlink(),
    "a shard too many": lambda _: (OUT / "shard-00077.h5").write_bytes(b""),
    "half a shard left behind": lambda _: (OUT / ".shard-00001.h5.7.part").write_bytes(b""),
    "the receipt edited": lambda _: (OUT / "index.json").write_text("{}"),
    "a table of the shards edited": lambda _: (OUT / "breasts.csv").write_text("edited"),
    "all shards deleted": lambda _: shutil.rmtree("cache/shards"),
    "a pipeline that hides the shipped one": lambda p: (
        (p / "pipelines").mkdir(),
        (p / "pipelines" / "cropped.yaml").write_text("segment: {method: none}\n"),
    ),
    "the samples deleted": lambda _: shutil.rmtree("cache/samples"),
}


@pytest.mark.parametrize("change", BUILD_CHANGES.values(), ids=BUILD_CHANGES)
def test_any_change_is_seen_by_a_build(change: Callable[[Path], object], built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "FVPIPE_ID_KEY", "j" * 16)
    build()
    assert build_recalled(monkeypatch)
    change(built)
    assert not build_recalled(monkeypatch)
    build()
    now = folder_of(OUT)
    with monkeypatch.context() as patch:
        patch.setattr("fvpipe.flow.index", lambda *_: pytest.fail("made"))
        build()
    build("--reread")
    assert folder_of(OUT) == now
    run("verify", OUT)


def test_a_build_with_other_limits_is_another(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_recalled(monkeypatch)
    run("build-shards", "--pipeline", "cropped", "--strict", "--workers", 0, code=1)
    assert not build_recalled(monkeypatch, "--max-fallback", "50")
    assert build_recalled(monkeypatch)
    assert not build_recalled(monkeypatch, "--reread")


def test_a_file_that_could_not_be_read_is_tried_again(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails for a moment leaves no trace in any file's times."""
    real = FileIO

    def fails(path: Path) -> object:
        if path.name == "broken.dcm":
            raise OSError(5, "Input/output error")
        return real(path)

    before = index()["rejections"]
    with monkeypatch.context() as patch:
        patch.setattr(dicom, "FileIO", fails)
        assert index("--reread")["rejections"] == {"file_unreadable": 1}
    assert not recalled(monkeypatch)
    assert index()["rejections"] == before
    assert recalled(monkeypatch)


def test_anywhere(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside a project: the pipeline's own file, and the folder, are looked at all the same."""
    (tmp_path / "mine.yaml").write_text("segment: {method: none}\n")
    options = ["--dicom", "data/own", "--out", "elsewhere", "--pipeline", "mine.yaml", "--labels", "labels.csv"]

    def once() -> dict[str, object]:
        (result,) = json.loads(run("build-shards", *options, "--workers", 0, "--json").stdout)
        assert isinstance(result, dict)
        return result

    def again() -> bool:
        return is_recalled(monkeypatch, once)

    assert once()["computed"] == 2
    assert again()
    (tmp_path / "mine.yaml").write_text("segment: {margin: 0.0}\n")
    assert not again()
    assert once()["computed"] == 2
    assert again()
    (tmp_path / "elsewhere" / "notes.txt").write_text("foreign")
    assert not again()
    run("build-shards", *options, "--workers", 0, code=1)


@pytest.mark.parametrize("command", [("index",), ("build-shards", "--pipeline", "direct"), ("table1",), ("audit",)])
def test_after_a_reread_no_run_is_believed(command: tuple[str, ...], built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have found that a file has rotted, which its times do not show."""
    assert recalled(monkeypatch)
    assert build_recalled(monkeypatch)
    run(*command, "--reread", "--workers", 0)
    assert not build_recalled(monkeypatch)
    assert command == ("index",) or not recalled(monkeypatch)
    build()
    assert build_recalled(monkeypatch)


def test_a_crash_that_is_remembered_is_settled(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build does not decode such a file again, so there is nothing to look for; an index would read its header again."""
    crash = [Rejection("p1/x.dcm", Reason.DECODER_CRASHED, "ended")]
    with monkeypatch.context() as patch:
        patch.setattr(flow, "_without_refused", lambda samples, *_: (samples, crash))
        assert build()["rejections"]["decoder_crashed"] == 1  # type: ignore[index]
    assert build_recalled(monkeypatch)


def test_shards_that_vanish_before_they_are_remembered_are_made_again(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = build_shards

    def vanish(*arguments: Any) -> object:
        done = real(*arguments)
        shutil.rmtree(OUT)
        return done

    with monkeypatch.context() as patch:
        patch.setattr(flow, "build_shards", vanish)
        build("--reread")
    assert not build_recalled(monkeypatch)
    assert int(str(build()["written"])) >= 1


def test_libraries_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "path", ["", "deps", f"{tmp_path}/more/", sysconfig.get_path("purelib"), sysconfig.get_path("stdlib")]
    )
    assert set(_libraries()) == {f"{tmp_path}/deps", f"{tmp_path}/more", sysconfig.get_path("purelib")}


def test_a_build_of_nothing_is_settled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    factory.patient(tmp_path / "in", "p1", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2.1")  # for processing
    options = ("build-shards", "--pipeline", "cropped", "--dicom", "in", "--out", "out", "--workers", 0)
    first = run(*options)
    assert "0 breasts" in first.stdout
    assert "0 shard(s)" in first.stdout
    with monkeypatch.context() as patch:
        patch.setattr("fvpipe.flow.index", lambda *_: pytest.fail("made"))
        assert run(*options).stdout.partition(" made")[0] == first.stdout.partition(" made")[0]
