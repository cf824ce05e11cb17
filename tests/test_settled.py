"""An index that nothing has changed since is recalled, and any change whatsoever ends that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fvpipe import settled
from tests import factory
from tests.conftest import run

LABELS = "patient_id,laterality,label\np1,L,malignant\np2,L,benign\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two patients and a file that is no DICOM, indexed once."""
    monkeypatch.chdir(tmp_path)
    for patient in ("p1", "p2"):
        factory.patient(tmp_path / "data" / "own", patient, sides=(factory.LEFT,))
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


def recalled(monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the next index is recalled: it cannot be made, since making it fails here."""
    with monkeypatch.context() as patch:
        patch.setattr("fvpipe.flow.index", lambda *_: pytest.fail("made"))
        try:
            index()
        except (pytest.fail.Exception, AssertionError):
            return False
    return True


def test_the_same_words_again_without_reading_modules(project: Path) -> None:
    first = run("index", "--workers", 0, "--reread")
    before = {file.name: file.stat().st_mtime_ns for file in (project / "manifests" / "own").iterdir()}
    script = (
        "import sys\nfrom fvpipe.cli import main\ntry:\n main(['index'])\nexcept SystemExit as end:\n assert not end.code\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'pydicom', 'numpy', 'pydantic', 'cv2', 'h5py', 'dask'}))"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    words, modules = again.stdout.splitlines()
    assert words == first.stdout.strip().replace("5 headers read", "0 headers read")
    assert modules == "[]"
    assert "refused: broken.dcm" in first.stderr
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
    real = settled.state_of
    monkeypatch.setattr(settled, "state_of", lambda path: real(path) + "0" * (Path(path).name == "other"))
    assert recalled(monkeypatch)
    monkeypatch.setattr(settled, "state_of", lambda path: real(path) + "0" * (Path(path).name == changed))
    assert not recalled(monkeypatch)


def test_nothing_of_the_input_is_in_the_memo(project: Path) -> None:
    (memo,) = (project / "cache" / "samples").glob("index-*.json")
    text = memo.read_text()
    assert "broken" not in text
    assert "p1" not in text
