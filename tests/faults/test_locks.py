"""Locks: one holder at a time, told by name, and taken over from the dead."""

from __future__ import annotations

import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fvpipe.cache.sample_store import SampleStore
from fvpipe.errors import LockedError, StorageError
from fvpipe.io.locking import lock
from tests.support.processes import LIMITED, output, python

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


@pytest.mark.fault(8)
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


@pytest.mark.fault(9)
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


@pytest.mark.fault(8)
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
        "from pathlib import Path\nfrom fvpipe.errors import StorageError\nfrom fvpipe.io.locking import lock\n"
        "try:\n    with lock(Path(sys.argv[2]), print): print('held')\nexcept StorageError as error:\n    print(error)\n"
    )
    assert output(python(script, 0, tmp_path / ".lock")).startswith(f"{tmp_path / '.lock'}: cannot be written (File too large)")
    assert not (tmp_path / ".lock").exists()


def test_lock_can_be_imported_where_there_is_no_fcntl(tmp_path: Path) -> None:
    """As on Windows."""
    script = "import sys\nsys.modules['fcntl'] = None\nfrom fvpipe.io.locking import lock\nprint(lock.__name__)\n"
    assert output(python(script)) == "lock\n"


def test_a_folder_in_common_use_is_swept_by_the_first_alone(tmp_path: Path) -> None:
    part, other = tmp_path / "abc" / ".abc.sample.0.part", tmp_path / "abc" / "abc.sample"
    part.parent.mkdir()
    store = SampleStore(tmp_path)
    for path in (part, other):
        path.touch()
    with store.in_use():
        assert not part.exists() and other.exists()
        part.touch()  # of this build
        with SampleStore(tmp_path).in_use():  # another build; a lock is of an open folder, not of a process
            assert part.exists()
        with SampleStore(tmp_path).in_use():
            assert part.exists()
    with store.in_use():
        assert not part.exists()


def test_a_folder_in_common_use_is_held_from_the_first_build_on(tmp_path: Path) -> None:
    part = tmp_path / "new" / "abc" / ".abc.sample.0.part"
    with SampleStore(tmp_path / "new").in_use():  # nothing is there yet
        part.parent.mkdir(parents=True)
        part.touch()
        with SampleStore(tmp_path / "new").in_use():
            assert part.exists()
    (tmp_path / "file").touch()
    with SampleStore(tmp_path / "file" / "none").in_use():  # it cannot be made, as the first sample will say
        assert not (tmp_path / "file" / "none").exists()
