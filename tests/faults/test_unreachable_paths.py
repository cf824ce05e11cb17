"""Paths that the file system does not give, in every option that takes one: one line that names the path, and no traceback."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner

import fvpipe
from fvpipe.cli.main import main
from fvpipe.config.identifier_key import identifier_key
from fvpipe.errors import InputError, LabelTableError, StorageError
from tests.conftest import build, run
from tests.support import factory

posix = pytest.mark.skipif(os.name != "posix", reason="permissions and links of POSIX")
pytestmark = [posix, pytest.mark.timeout(100)]
NOBODY = 65534
TABLE = "patient_id,laterality,label\nP1,L,1\n"
BUILD = ("build-shards", "--pipeline", "direct", "--workers", 0)

COMMANDS: dict[str, Callable[[Path], tuple[object, ...]]] = {
    "--dicom": lambda path: (*BUILD, "--dicom", path, "--out", "o"),
    "--out": lambda path: (*BUILD, "--dicom", "in", "--out", path),
    "--labels": lambda path: (*BUILD, "--dicom", "in", "--out", "o", "--labels", path),
    "--samples": lambda path: (*BUILD, "--dicom", "in", "--out", "o", "--samples", path),
    "--id-key": lambda path: (*BUILD, "--dicom", "in", "--out", "o", "--id-key", path),
    "--adapter": lambda path: (*BUILD, "--dicom", "in", "--out", "o", "--adapter", f"{path}.yaml"),
    "--pipeline": lambda path: ("build-shards", "--workers", 0, "--dicom", "in", "--out", "o", "--pipeline", f"{path}.yaml"),
    "verify": lambda path: ("verify", path),
    "inspect": lambda path: ("inspect", path),
    "audit": lambda path: ("audit", "--workers", 0, "--dicom", path),
    "report --shards": lambda path: ("report", "--shards", path),
    "report --figures": lambda path: ("report", "--shards", "out", "--figures", path),
}


@contextmanager
def nobody() -> Iterator[None]:
    """Act as a user who may enter no folder of others, where the tests are run by root."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has no place of their own for one."""
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key of some characters")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A working folder that everybody may write to, not below those of pytest, which only their user may enter."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        factory.patient(folder / "in", "P1", "L")
        (folder / "t.csv").write_text(TABLE)
        build(folder / "in", folder / "out", "--labels", folder / "t.csv", pipeline="direct")  # also imports what is needed
        (folder / "closed").mkdir()
        (folder / "file").write_text("no folder")
        (folder / "circle").symlink_to("circle")
        folder.chmod(0o777)
        (folder / "closed").chmod(0)
        yield folder
        (folder / "closed").chmod(0o700)


@pytest.mark.parametrize("path", ["closed/x/y", "circle/x", "n" * 300, "file/x"], ids=lambda path: path[:8])
@pytest.mark.parametrize("option", COMMANDS)
def test_a_path_that_cannot_be_reached_is_named(option: str, path: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    arguments = [str(each) for each in COMMANDS[option](Path(path))]
    if path.startswith("closed"):
        CliRunner().invoke(main, [str(each) for each in COMMANDS[option](Path("absent"))])  # imports what nobody may not read
        shutil.rmtree("o", ignore_errors=True)
    with nobody() if path.startswith("closed") else nullcontext():
        result = CliRunner().invoke(main, arguments)
    if option == "report --figures" and result.exit_code == 0:
        return  # as without figures
    assert isinstance(result.exception, SystemExit), result.exception  # any other would be shown with a traceback
    assert result.exit_code == 1
    error = [line for line in result.output.splitlines() if not line.startswith("warning: ")][-1]
    assert error.startswith("Error: ") and path.split("/", maxsplit=1)[0] in error


@pytest.mark.parametrize(("error", "shown"), [(OSError("no path"), True), (OSError(5, "Input/output error", "a.dcm"), False)])
def test_an_error_without_a_path_keeps_its_traceback(error: OSError, shown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a fault of fvpipe's own; one with a path is the user's, with what to do."""

    def fails(_: object) -> None:
        raise error

    monkeypatch.setattr("fvpipe.shards.verification.verify", fails)
    result = CliRunner().invoke(main, ["verify", "a"])
    assert (result.exception is error) is shown
    if not shown:
        assert result.output == (
            "Error: a.dcm: Input/output error; the storage fails: check the disk or its connection, then run again\n"
        )


def test_the_functions_raise_errors_of_fvpipe(folder: Path) -> None:
    with nobody():
        with pytest.raises(InputError, match=r"closed/x: cannot be read \(Permission denied\)"):
            fvpipe.index(folder / "closed" / "x", workers=0)
        with pytest.raises(LabelTableError, match=r"closed/t\.csv: cannot be read \(Permission denied\)"):
            fvpipe.index(folder / "in", labels=folder / "closed" / "t.csv", workers=0)


def test_a_home_that_cannot_be_entered_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FVPIPE_ID_KEY")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "closed" / "home"))
    with nobody(), pytest.raises(StorageError, match=r"key cannot be kept \(Permission denied\); set FVPIPE_ID_KEY"):
        identifier_key()


def test_a_file_that_is_not_there_is_named_by_inspect() -> None:
    assert run("inspect", "absent.dcm", code=1).output == "Error: absent.dcm: No such file or directory; check the path\n"
