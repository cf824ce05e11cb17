"""Unusual file systems and users: no locks, several users of one folder, few handles, a read-only root."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

import fvpipe
from fvpipe.cache.file_cache import FileCache
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.shards.mapping import map_images
from fvpipe.types import SourceFile
from tests.conftest import build
from tests.support import factory, shard_folder
from tests.support.processes import folder_bytes

pytestmark = [pytest.mark.process, pytest.mark.timeout(100)]

linux = pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD, name spaces, /proc")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can act as several users")
ROOT = Path(__file__).parents[2]
PROGRAM = (sys.executable, "-m", "fvpipe")


@pytest.fixture(autouse=True)
def one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The identifier key of all users, who have no place of their own for one."""
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key of some characters")


def command(*arguments: object, before: Sequence[str] = (), **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of fvpipe as a process of its own, behind the command `before` that starts it."""
    return subprocess.run(
        [*before, *PROGRAM, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def builds(source: Path, out: Path, *more: object, workers: int = 0) -> tuple[object, ...]:
    return ("build-shards", "--pipeline", "cropped", "--dicom", source, "--out", out, "--workers", workers, *more)


# --- no locks ---------------------------------------------------------------------------------------------------------

NO_LOCKS = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>

int fsync(int fd) {
    struct stat status;
    if (!fstat(fd, &status) && S_ISDIR(status.st_mode)) { errno = EINVAL; return -1; }
    return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
}

static int fail(void) { errno = atoi(getenv("LOCK_ERRNO")); return -1; }

int flock(int fd, int operation) { return fail(); }

static int of(const char *name, int fd, int request, void *argument) {
    if (request == F_SETLK || request == F_SETLKW || request == F_OFD_SETLK || request == F_OFD_SETLKW) return fail();
    int (*real)(int, int, ...) = (int (*)(int, int, ...))dlsym(RTLD_NEXT, name);
    return real(fd, request, argument);
}

int fcntl(int fd, int request, ...) {
    va_list list; va_start(list, request); void *argument = va_arg(list, void *); va_end(list);
    return of("fcntl", fd, request, argument);
}

int fcntl64(int fd, int request, ...) {
    va_list list; va_start(list, request); void *argument = va_arg(list, void *); va_end(list);
    return of("fcntl64", fd, request, argument);
}
"""
"""Every lock of a file fails in the C library, for Python, HDF5 and SQLite alike, and every fsync of a folder."""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], dict[str, str]]:
    """Environment in which locks fail with an error number."""
    folder = tmp_path_factory.mktemp("shim")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "shim.c").write_text(NO_LOCKS)
    compiled = [compiler, "-shared", "-fPIC", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"]
    if subprocess.run(compiled, capture_output=True, check=False).returncode:
        pytest.skip("the C compiler makes no shared library here")
    return lambda number: {"LD_PRELOAD": str(folder / "shim.so"), "LOCK_ERRNO": str(number)}


@linux
@pytest.mark.fault(61)
def test_without_locks_shards_are_built_with_a_warning_and_read(
    tmp_path: Path, without_locks: Callable[[int], dict[str, str]]
) -> None:
    factory.patient(tmp_path / "in", "p", "L")
    out = tmp_path / "out"
    script = (  # all in one process
        "import json, os, sys\nfrom fvpipe.cli.main import main\n"
        "for number, *arguments in json.loads(sys.argv[1]):\n"
        "    os.environ['LOCK_ERRNO'] = str(number)\n"
        "    main(arguments, standalone_mode=False)\n"
        "    left = [name for name in os.listdir(sys.argv[2]) if name.startswith('.lock')]\n"
        "    print(f'{number}, left: {left}', file=sys.stderr)\n"
    )
    numbers, built = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP), builds(tmp_path / "in", out, "--json")
    runs = [(number, *map(str, built)) for number in numbers]
    runs.insert(1, (errno.ENOLCK, "verify", str(out)))
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(runs), out],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)} | without_locks(numbers[0]),
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for number in numbers:
        warned = f"its file system has no locks ({os.strerror(number)}); .lock.pid stands for one"
        assert done.stderr.count(warned) == 1
    assert done.stderr.count("left: []") == len(runs)
    assert [int(computed) for computed in re.findall(r'"computed": (\d+)', done.stdout)] == [1, 0, 0]
    build(tmp_path / "in", tmp_path / "clean")
    assert folder_bytes(out) == folder_bytes(tmp_path / "clean")


@linux
@pytest.mark.fault(61)
def test_without_locks_the_second_build_is_told_who_is_first(
    tmp_path: Path, without_locks: Callable[[int], dict[str, str]]
) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom fvpipe.io.locking import lock\n"
        "with lock(Path(sys.argv[1]), lambda _: None):\n    print('held', flush=True)\n    sys.stdin.readline()\n"
    )
    factory.patient(tmp_path / "in", "p", "L")
    out, environment = tmp_path / "out", without_locks(errno.ENOLCK)
    first = subprocess.Popen(
        [sys.executable, "-c", script, out / ".lock"],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)} | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert first.stdout
    assert first.stdout.readline() == "held\n"
    second = command(*builds(tmp_path / "in", out), **environment)
    assert second.returncode == 1
    assert f"locked by pid {first.pid}, which is building there; wait for it to end, or remove .lock.pid" in second.stderr
    first.kill()
    first.communicate()
    assert (out / ".lock.pid").exists()
    third = command(*builds(tmp_path / "in", out), **environment)  # of a dead process of this host: taken over
    assert third.returncode == 0, third.stderr


READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


def in_own_mounts(script: str, folder: Path) -> list[str]:
    """A command that starts another in a name space of its own, whose file systems the script has mounted otherwise."""
    if sys.platform != "linux" or not shutil.which("unshare"):
        pytest.skip("no mount name spaces")
    if subprocess.run(["unshare", "-m", "mount", "--bind", "/tmp", "/tmp"], capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted")
    return ["unshare", "-m", "sh", "-c", script, "sh", str(folder)]


@pytest.mark.fault(61)
def test_a_read_only_file_system_is_read_and_a_build_into_it_is_named(tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shard_folder.commit(shards)
    factory.patient(tmp_path / "in", "p", "L")
    before = in_own_mounts(READ_ONLY, shards)
    assert command("verify", shards, before=before).returncode == 0
    done = command(*builds(tmp_path / "in", shards, "--samples", tmp_path / "samples"), before=before)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "cannot be written (Read-only file system)" in done.stderr
    beside = command(*builds(tmp_path / "in", tmp_path / "out", "--samples", shards / "samples"), before=before)
    assert (beside.returncode, "Read-only file system" in beside.stderr, "Traceback" in beside.stderr) == (1, True, False)


# --- users ------------------------------------------------------------------------------------------------------------

GROUP = 54000
READS = "+dac_read_search"  # what another user needs where only root can read the interpreter; what is written still counts


def as_user(number: int, umask: int, *capabilities: str) -> list[str]:
    """A command that starts another as a user of the group, whose new files have that mask."""
    kept = [f"--{kind}-caps={each}" for each in capabilities for kind in ("inh", "ambient")]  # codespell:ignore
    user = ["setpriv", f"--reuid={GROUP + number}", f"--regid={GROUP}", "--clear-groups", *kept]
    return [*user, "sh", "-c", f'umask {umask:o}; exec "$@"', "sh"]


@pytest.fixture(scope="module")
def user() -> Callable[[int, int], list[str]]:
    """:func:`as_user`, with the capability to read where the tests cannot do without."""
    if not shutil.which("setpriv"):
        pytest.skip("no setpriv")
    for capabilities in ((), (READS,)):
        before = as_user(1, 0o022, *capabilities)
        if command("--version", before=before).returncode == 0:
            return lambda number, umask: as_user(number, umask, *capabilities)
    pytest.skip("other users cannot read this installation")


@pytest.fixture
def entered() -> Iterator[Path]:
    """A folder that everybody may enter; those of ``tmp_path`` are below one of this user alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@pytest.fixture
def shared(entered: Path) -> Path:
    """A folder that a group may write to."""
    folder = entered / "shared"
    folder.mkdir()
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    return folder


@linux
@as_root
@pytest.mark.fault(62)
def test_two_users_of_a_group_work_together(shared: Path, entered: Path, user: Callable[[int, int], list[str]]) -> None:
    """One store, one output folder and the lock of a build that was killed; each builds what the other did."""
    out, samples = shared / "out", shared / "samples"
    factory.patient(entered / "in", "p", "L")
    options = builds(entered / "in", out, "--samples", samples, "--json")
    first = command(*options, before=user(1, 0o002))
    assert first.returncode == 0, first.stderr
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom fvpipe.io.locking import lock\n"
        "with lock(Path(sys.argv[1]), print):\n    os.kill(os.getpid(), 9)\n"
    )
    killed = [*user(1, 0o002), sys.executable, "-c", script, str(out / ".lock")]
    subprocess.run(killed, env=os.environ | {"PYTHONPATH": os.fspath(ROOT)}, check=False)
    assert (out / ".lock").exists()
    factory.patient(entered / "in", "q", "LR", 1)
    second = command(*options, before=user(2, 0o002))
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("\n") == second.stderr.count("taken over from process") == 1
    assert [(each["computed"], each["reused"]) for each in json.loads(second.stdout)] == [(2, 1)]
    factory.patient(entered / "in", "r", "L", 2)
    third = command(*options, "--reread", before=user(1, 0o002))
    assert (third.returncode, third.stderr) == (0, "")
    assert fvpipe.verify(out) == []
    build(entered / "in", entered / "clean")
    assert folder_bytes(out) == folder_bytes(entered / "clean")


@linux
@as_root
@pytest.mark.fault(62)
@pytest.mark.parametrize("umask", [0o022, pytest.param(0o077, marks=pytest.mark.slow)], ids=oct)
def test_a_user_without_permission_is_told_so(
    umask: int, shared: Path, entered: Path, user: Callable[[int, int], list[str]]
) -> None:
    """To the output folder, to the sample store, to the lock of a build that was killed."""
    factory.patient(entered / "in", "p", "L")
    theirs, ours = shared / "theirs", shared / "ours"
    samples = theirs / ".samples"
    done = command(*builds(entered / "in", theirs, "--samples", samples), before=user(1, umask))
    assert done.returncode == 0, done.stderr
    factory.patient(entered / "in", "q", "L", 1)
    for part in ("output", "store", "lock"):
        if part == "lock":
            theirs.chmod(0o2777)
            (theirs / ".lock").write_text("1\n")
            os.chown(theirs / ".lock", GROUP + 1, GROUP)
            (theirs / ".lock").chmod(0o666 & ~umask)
        folders = (ours, samples) if part == "store" else (theirs, ours)
        done = command(*builds(entered / "in", folders[0], "--samples", folders[1]), before=user(2, umask))
        errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
        assert (done.returncode, len(errors)) == (1, 1), (part, done.stderr)
        assert "Permission denied" in errors[0]


@linux
@as_root
@pytest.mark.fault(62)
def test_a_cache_that_cannot_be_written_fails_no_build(
    shared: Path, entered: Path, user: Callable[[int, int], list[str]]
) -> None:
    """The file cache of another user is read, and the record of the build is a warning."""
    factory.patient(entered / "in", "p", "L")
    samples = shared / "samples"
    samples.mkdir()
    options = builds(entered / "in", shared / "out", "--samples", samples)
    samples.chmod(0o777)
    assert command(*options, before=user(1, 0o002)).returncode == 0
    (cache,) = samples.glob("*.sqlite")
    cache.chmod(0o644)
    factory.patient(entered / "in", "q", "L", 1)
    (shared / "out" / "build.json").unlink()
    (shared / "out" / "build.json").mkdir()  # a file cannot take its place
    done = command(*options, before=user(2, 0o002))
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    assert [cache.name in line and "cannot be written (Permission denied)" in line for line in warnings] == [True, False]
    assert "build.json: cannot be written (Is a directory); the shards are complete" in warnings[1]
    assert len(fvpipe.open_shards(shared / "out")) == 2


def test_a_file_cache_that_is_no_database_of_ours_is_left_out(tmp_path: Path) -> None:
    """A folder in its place, as one that cannot be opened at all: this run reads every file, and remembers for itself."""
    (tmp_path / "m").mkdir()
    said: list[str] = []
    with FileCache(tmp_path / "m", Path("/in"), HeaderPolicy(), warn=said.append) as cache:
        cache.put_values([(SourceFile("a", "1"), "value")], "content")
        assert cache.value(SourceFile("a", "1"), "content") == "value"
    assert len(said) == 1
    assert "is not a regular file" in said[0]


def test_what_sqlite_makes_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        with FileCache(tmp_path / "m", Path("/in"), HeaderPolicy()):
            assert (tmp_path / "m").stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)
    with sqlite3.connect(tmp_path / "m") as database:
        assert database.execute("PRAGMA quick_check").fetchone() == ("ok",)


# --- handles ----------------------------------------------------------------------------------------------------------


@pytest.mark.fault(63)
def test_300_shards_are_read_with_256_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as quick:
        quick.setattr(os, "fsync", lambda _: None)
        shard_folder.commit(tmp_path / "s", (1,) * 300, shape=(3, 2))
    receipt = json.loads((tmp_path / "s" / "index.json").read_text())
    (tmp_path / "s" / "index.json").write_text(json.dumps(receipt | {"shard_count": 300}))
    script = (
        "import resource, sys, fvpipe\nresource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))\n"
        "shards = fvpipe.open_shards(sys.argv[1])\nprint(shards.images().shape, len(shards.columns['label']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "s"], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "(300, 3, 2) 300\n", done.stderr


@pytest.mark.fault(63)
def test_a_map_outlives_its_file_and_cannot_be_written(tmp_path: Path) -> None:
    whole = np.arange(40_000, dtype="<u2")
    (tmp_path / "x").write_bytes(b"head" + whole.tobytes())
    with open(tmp_path / "x", "rb") as file:
        mapped = map_images(file, 4, (100, 400), np.dtype("<u2"))
        late = map_images(file, 4 + 2 * 30_000, (10_000,), np.dtype("<u2"))  # not in the first page
    (tmp_path / "x").unlink()
    part = mapped[50:]
    del mapped
    np.testing.assert_array_equal(part.ravel(), whole[20_000:])
    np.testing.assert_array_equal(late, whole[30_000:])
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 0
    with open(os.devnull, "rb") as file, pytest.raises(OSError):
        map_images(file, 0, (1,), np.dtype("u1"))


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.fault(66)
@pytest.mark.parametrize("ignored", [False, True], ids=["SIGHUP", "nohup"])
def test_a_terminal_that_is_gone_ends_a_build_as_told_to_stop(ignored: bool, tmp_path: Path) -> None:
    for number in range(25):
        factory.patient(tmp_path / "in", f"p{number}", "L", number % 3)
    out = tmp_path / "out"
    before = ["sh", "-c", 'trap "" HUP; exec "$@"' if ignored else 'exec "$@"', "sh"]
    process = subprocess.Popen(
        [*before, *PROGRAM, *map(str, builds(tmp_path / "in", out))],
        env=os.environ | {"PYTHONPATH": os.fspath(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(out.rglob("*.sample")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    assert process.returncode == (0 if ignored else 128 + signal.SIGHUP), stderr
    assert (out / "index.json").exists() is ignored
    assert not (out / ".lock").exists()
    assert not list(out.rglob("*.part"))


# --- a read-only root -------------------------------------------------------------------------------------------------

READ_ONLY_ROOT = """
set -e
for each in / /tmp /var; do
    mount --bind "$each" "$each"
    mount -o remount,bind,ro "$each"
done
mount --bind "$1" "$1"
mount -o remount,bind,rw "$1"
cd /
shift
exec "$@"
"""


@linux
@as_root
@pytest.mark.fault(65)
@pytest.mark.parametrize(
    ("with_tmpdir", "workers"),
    [
        pytest.param(True, 0, marks=pytest.mark.slow, id="TMPDIR, in this process"),
        pytest.param(True, 2, id="TMPDIR, workers"),
        pytest.param(False, 0, id="no TMPDIR, in this process"),
        pytest.param(False, 2, id="no TMPDIR, workers"),
    ],
)
def test_a_read_only_root_with_one_volume(
    with_tmpdir: bool, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = tmp_path / "volume"
    for number in range(4):
        factory.patient(volume / "in", f"p{number}", "L", number)
    for name in ("TMPDIR", "XDG_CONFIG_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = {"TMPDIR": str(volume)} if with_tmpdir else {}
    build_there = builds(volume / "in", volume / "out", workers=workers)
    done = command(*build_there, before=in_own_mounts(READ_ONLY_ROOT, volume), **environment)
    assert "Traceback" not in done.stderr
    if with_tmpdir or not workers:
        assert done.returncode == 0, done.stderr
        assert len(fvpipe.open_shards(volume / "out")) == 4
    else:
        assert done.returncode == 1
        assert "TMPDIR" in done.stderr
