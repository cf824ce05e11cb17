"""Builds that are broken off, and disks that fail: what was committed stays whole, and the next build ends as a clean one."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import fvpipe
from fvpipe.cli.main import main
from fvpipe.shards import writer
from fvpipe.shards.format import read_receipt, shard_name
from tests.conftest import build, run
from tests.support import factory
from tests.support.builds import KEY, build_fails, builds, finished_samples, living, start, tree
from tests.support.processes import LIMITED, SLOW_DECODER, as_nobody, in_every_process, output, python, small_disk


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", KEY)


@pytest.mark.fault(10)
def test_a_damaged_shard_is_mended_by_the_next_build(own: Path, tmp_path: Path) -> None:
    """Whatever touched a shard's file, the next build reads it through and writes it again, without a decode."""
    out = tmp_path / "out"
    builds(own, out)
    before = tree(out)
    shard = min(out.glob("*.h5"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 4
    shard.write_bytes(data)
    mended = builds(own, out)
    assert (mended["computed"], mended["written"]) == (0, 1)
    assert tree(out) == before
    shutil.copytree(out, tmp_path / "moved")  # other times and inodes, the same bytes: read through once
    assert builds(own, tmp_path / "moved", "--samples", out / ".samples")["written"] == 0


KILLED = """
import json, os, sys, time
import cv2, imagecodecs, fvpipe.build.sample, fvpipe.cli.index_and_build, fvpipe.flow
from fvpipe.cli.main import main
from fvpipe.shards import writer

def counted(real, which, calls=[]):
    def call(*arguments):
        calls.append(1)
        if len(calls) == which:
            os.kill(os.getpid(), 9)
        return real(*arguments)
    return call

for out, how, which in json.loads(sys.argv[1]):
    begun, child = time.monotonic(), os.fork()
    if child == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if how == "write":
                writer._DeferredErrorFile.write = counted(writer._DeferredErrorFile.write, which)
            if how == "rename":
                os.replace = counted(os.replace, which)
            main([*sys.argv[2:], "--out", out], standalone_mode=False)
        finally:
            os._exit(0)
    if how == "share":
        time.sleep(which * seconds)
        os.kill(child, 9)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    seconds = seconds if how == "share" else time.monotonic() - begun
    print(code)
"""


def killed(source: Path, runs: list[tuple[Path, str, float]], *options: object) -> list[int]:
    """Exit codes of builds into folders, each in a fork that is killed (SIGKILL) at a share of the time that the one before the
    first such took, or at a numbered write to a shard or a numbered rename.
    """
    arguments = ["build-shards", "--pipeline", "cropped", "--dicom", source, "--workers", 0, *options]
    return [int(line) for line in output(python(KILLED, json.dumps(runs, default=str), *arguments)).split()]


def is_a_version(folder: Path, *versions: dict[str, str]) -> bool:
    """Whether what a killed build left is one of `versions`, or opens with an error, and no file is partly written."""
    if not (folder / "index.json").exists():
        return {} in versions
    try:
        fvpipe.open_shards(folder).images()
    except fvpipe.errors.ShardError:  # between two renames
        known = {digest for version in versions for digest in version.values()}
        return tree(folder).keys() <= known or set(tree(folder).values()) <= known
    return tree(folder) in versions


@pytest.fixture
def versions(own: Path, tmp_path: Path) -> tuple[Path, Path, dict[str, str], dict[str, str]]:
    """A folder with a version, its source that has changed since, and the trees of the two versions."""
    for i in range(4, 12):
        shutil.rmtree(own / f"case{i}")
    builds(own, tmp_path / "before")
    change_a_view(own)
    builds(own, tmp_path / "clean")
    return tmp_path / "before", own, tree(tmp_path / "before"), tree(tmp_path / "clean")


def change_a_view(own: Path) -> None:
    file = own / "case3" / "P03_L_MLO.dcm"
    factory.mammogram(file, factory.breast(99, factory.MLO), PatientID="P03", view=factory.MLO, SOPInstanceUID="2.25.77")


Versions = tuple[Path, Path, dict[str, str], dict[str, str]]


@pytest.mark.fault(3)
@pytest.mark.parametrize(
    "first", [pytest.param(True, marks=pytest.mark.slow, id="nothing before"), pytest.param(False, id="a version before")]
)
def test_killed_at_ten_random_times_and_run_again(first: bool, versions: Versions, tmp_path: Path) -> None:
    before, source, old, new = versions
    chance, outs = random.Random(1), [tmp_path / f"out{i}" for i in range(11)]
    for out in () if first else outs:
        shutil.copytree(before, out)
    runs: list[tuple[Path, str, float]] = [(out, "share", chance.random()) for out in outs[1:]]
    codes = killed(source, [(outs[0], "", 0), *runs])
    assert codes[0] == 0
    assert codes.count(-9) >= 5
    for out in outs:
        assert not out.exists() or is_a_version(out, {} if first else old, new)
        builds(source, out)
        assert tree(out) == new
        assert not list(out.glob("*.part"))  # one in the store below may be another build's, and is left


@pytest.mark.fault(1)
def test_killed_while_a_shard_is_written(versions: Versions, tmp_path: Path) -> None:
    """Before its first byte, in its middle, and before its last one."""
    before, source, old, new = versions
    builds(source, tmp_path / "other", "--samples", tmp_path / "samples")  # only the shard remains to be written
    outs = {which: Path(shutil.copytree(before, tmp_path / f"out{which}")) for which in (1, 2, 5, 9, 10_000)}
    codes = killed(source, [(out, "write", which) for which, out in outs.items()], "--samples", tmp_path / "samples")
    assert codes[0] == codes[1] == codes[2] == -9
    assert codes[-1] == 0
    for out, code in zip(outs.values(), codes, strict=True):
        assert tree(out) == (old if code else new)
        assert fvpipe.verify(out) == []
        builds(source, out, "--samples", tmp_path / "samples")
        assert tree(out) == new
        assert not list(out.rglob("*.part"))


@pytest.mark.fault(2)
def test_killed_between_two_renames(versions: Versions, tmp_path: Path) -> None:
    """The receipt is the only commit point: what lies beside it half-way is an error for a reader, and built again."""
    before, source, old, new = versions
    builds(source, tmp_path / "other", "--samples", tmp_path / "samples")
    renames = 3  # shard, images.csv, receipt; a fourth is of build.json, which is not part of the version
    outs = [Path(shutil.copytree(before, tmp_path / f"out{i}")) for i in range(renames + 1)]
    runs: list[tuple[Path, str, float]] = [(out, "rename", i + 1) for i, out in enumerate(outs)]
    assert killed(source, runs, "--samples", tmp_path / "samples") == [-9] * (renames + 1)
    for i, out in enumerate(outs):
        changed = [name for name, digest in tree(out).items() if digest != old.get(name)]
        assert (len(changed), "index.json" in changed) == (i, i == renames)
        if 0 < i < renames:
            with pytest.raises(fvpipe.errors.ShardError):
                fvpipe.open_shards(out)
        else:
            assert tree(out) == (new if i else old)
            assert fvpipe.verify(out) == []
        builds(source, out, "--samples", tmp_path / "samples")
        assert tree(out) == new


@pytest.mark.fault(42)
def test_an_open_reader_keeps_its_version_while_a_build_commits(versions: Versions) -> None:
    before, source, _, new = versions
    shards = fvpipe.open_shards(before)
    ids, first = shards.breast_ids.tolist(), shards.images([0])  # the others are read for the first time after the build
    expected = {breast: hashlib.sha256(shards[i].image.tobytes()).hexdigest() for i, breast in enumerate(ids) if i % 2}
    builds(source, before)
    assert tree(before) == new
    again = shards.images()
    assert (again[0] == first[0]).all()
    assert {ids[i]: hashlib.sha256(again[i].tobytes()).hexdigest() for i in range(1, len(ids), 2)} == expected
    assert (fvpipe.open_shards(before).images() != again).any()


PAGE = 4096
BUILD = ["build-shards", "--pipeline", "cropped", "--workers", "0"]
SLEEPING_DECODER = SLOW_DECODER.replace("0.05", "5")  # a build that is under way for as long as a test needs


@pytest.mark.fault(6)
@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_told_to_stop_leaves_no_process_and_resumes(
    number: signal.Signals, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    in_every_process(SLEEPING_DECODER, tmp_path / "site", monkeypatch)
    process = start(own, out, "--workers", "2")
    deadline = time.monotonic() + 60
    while finished_samples(out) < 4 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number], (stdout, stderr)
    assert "Traceback" not in stderr
    deadline = time.monotonic() + 20
    while (left := living(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
    assert not (out / "index.json").exists()
    assert not (out / ".lock").exists()
    # A worker may be killed while it writes a sample, whose part stays in the store until the next build.
    assert all(path.is_relative_to(out / ".samples") for path in out.rglob("*.part"))
    made = finished_samples(out)
    assert made >= 4
    assert builds(own, out)["reused"] >= made
    assert not list(out.rglob("*.part"))


@pytest.mark.fault(8, 9)
def test_two_builds_into_one_place(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told who is first; the third takes over from the first, which was killed."""
    out = tmp_path / "out"
    with monkeypatch.context() as slow:
        in_every_process(SLEEPING_DECODER, tmp_path / "site", slow)
        process = start(own, out, "--workers", "0")
        deadline = time.monotonic() + 60
        while not finished_samples(out) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        try:
            assert f"locked by pid {process.pid}" in build_fails(own, out)
        finally:
            process.kill()
            process.communicate()
    assert not (out / "index.json").exists()
    done = build(own, out)
    assert f"taken over from process {process.pid}" in done.stderr
    builds(own, tmp_path / "clean")
    assert tree(out) == tree(tmp_path / "clean")


# --- a disk that fails ------------------------------------------------------------------------------------------------


@pytest.fixture
def changed(own: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A version, and a store with the samples of the next: only shards, tables and receipt remain to be written."""
    out, samples = tmp_path / "out", tmp_path / "samples"
    builds(own, out, "--samples", samples)
    factory.patient(own / "new", "P99", "LR", seed=50)
    builds(own, tmp_path / "after", "--samples", samples)
    return out, samples


@pytest.mark.fault(5)
def test_what_cannot_be_removed_fails_no_finished_build(own: Path, tmp_path: Path) -> None:
    """Folders under the names of files that a build removes, as those of another user would be."""
    out = tmp_path / "out"
    for name in (".shard-00000.h5.1.part", "shard-99999.h5"):
        (out / name).mkdir(parents=True)
        done = run(*["build-shards", "--pipeline", "cropped", "--dicom", own, "--out", out, "--workers", 0])
        assert f"{name}: cannot be removed (Is a directory)" in done.stderr
        (out / name).rmdir()
    assert builds(own, out)["written"] == 0


@pytest.mark.fault(4)
def test_full_disk_keeps_the_version_before(own: Path, changed: tuple[Path, Path]) -> None:
    """As a limit on the size of files, which every system has."""
    out, samples = changed
    before = tree(out)
    arguments = ["--pipeline", "cropped", "--dicom", own, "--out", out, "--samples", samples, "--workers", "0"]
    code = LIMITED + "sys.argv = sys.argv[:1] + sys.argv[2:]\nfrom fvpipe.cli.main import main\nmain()\n"
    process = python(code, 200_000, "build-shards", *arguments)  # bytes a file: less than a shard of two samples
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(r"Error: .*shard-\d+\.h5.*: cannot be written \(File too large\).*\n", said), said
    assert tree(out) == before
    assert not list(out.glob(".*.part"))


@pytest.mark.fault(4, 45)
def test_a_disk_that_fills_at_any_file_keeps_the_version_before(own: Path, changed: tuple[Path, Path], tmp_path: Path) -> None:
    """From no room at all to room for all but the last page, on a file system of its own."""
    out, samples = changed
    after, failed = tree(tmp_path / "after"), list[str]()
    with small_disk(tmp_path / "disk", 32 << 20) as disk:
        there = Path(shutil.copytree(out, disk / "out"))
        before = tree(there)
        new = sum((tmp_path / "after" / name).stat().st_size for name, digest in after.items() if digest != before.get(name))
        for missing in [new // PAGE, new // PAGE // 2, *range(24, -8, -1)]:  # pages
            room, filler = max(new - missing * PAGE, 0), disk / "filler"
            filler.write_bytes(bytes(shutil.disk_usage(disk).free - room))
            done = CliRunner().invoke(main, [*BUILD, "--dicom", str(own), "--out", str(there), "--samples", str(samples)])
            filler.unlink()
            if done.exit_code == 0:
                break
            (found,) = re.findall(r"([\w.-]+): cannot be written \(No space left on device\)", done.output)
            failed.append(found)
            assert tree(there) == before
            assert not list(there.glob(".*.part"))
            assert len(fvpipe.open_shards(there).images()) == 20
        assert {"shard", "breasts", "images", "index"} <= {re.split(r"[-.]", name.lstrip("."))[0] for name in failed}
        builds(own, there, "--samples", samples)
        assert tree(there) == after


@pytest.mark.fault(5)
def test_a_read_only_folder_is_one_sentence(cohort: Path) -> None:
    with tempfile.TemporaryDirectory() as name:  # not tmp_path: only its owner may look into that
        folder = Path(name)
        shutil.copytree(cohort / "case0", folder / "in")
        builds(folder / "in", folder / "first")  # whoever is nobody cannot import what is not loaded yet
        (folder / "out").mkdir()
        (folder / "out").chmod(0o555)
        folder.chmod(0o755)
        command = ["build-shards", "--pipeline", "cropped", "--dicom", folder / "in", "--out", folder / "out", "--workers", 0]
        said = as_nobody(lambda: run(*command, code=1).output)
        assert "Permission denied" in said.partition("Error: ")[2]  # a warning of the file cache comes before
        assert "Traceback" not in said
        assert not list((folder / "out").iterdir())
        (folder / "out").chmod(0o755)


class FullDisk:
    """Disk on which one write or sync of many fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.failing = -1  # position of the call that fails
        of_hdf5, sync = writer._DeferredErrorFile.write, os.fsync

        class File(io.FileIO):
            def write(file, data: Any, /) -> int:
                self.call(f"write {Path(str(file.name)).name.split('.')[1]}")
                return super().write(data)

        def write_of_hdf5(file: Any, data: Any, /) -> int:
            try:
                self.call("write shard")
            except OSError as error:  # as the system's own error
                file._error = error
                return len(data)
            return of_hdf5(file, data)

        def synced(descriptor: int) -> None:
            self.call("sync folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
            sync(descriptor)

        monkeypatch.setattr("fvpipe.io.atomic.open", File, raising=False)
        monkeypatch.setattr(writer._DeferredErrorFile, "write", write_of_hdf5)
        monkeypatch.setattr(os, "fsync", synced)

    def call(self, what: str) -> None:
        self.calls.append(what)
        if len(self.calls) - 1 == self.failing:
            raise OSError(errno.EIO, "Input/output error")


@pytest.mark.fault(45)
def test_an_error_at_any_write_keeps_the_version_before(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is on the disk before the first rename: shards, tables, receipt, and their names in the folder."""
    out, samples = tmp_path / "out", tmp_path / "samples"
    builds(own, out, "--samples", samples)
    before, version = tree(out), read_receipt(out)
    factory.patient(own / "new", "P99", "LR", seed=50)
    builds(own, tmp_path / "after", "--samples", samples)  # the samples are there: only the folder remains to be written
    after = tree(tmp_path / "after")
    disk = FullDisk(monkeypatch)
    shutil.copytree(out, tmp_path / "whole")
    builds(own, tmp_path / "whole", "--samples", samples)
    made = disk.calls.copy()
    renamed = made.index("sync folder") + 1
    names = [call.removeprefix("write ") for call in made[:renamed] if call.startswith("write ")]
    assert list(dict.fromkeys(names)) == ["shard", "breasts", "rejected", "images", "index"]
    assert made[:renamed].count("sync file") == 4  # rejected.csv is as it was
    assert made[renamed] == "sync folder"
    hdf5 = [i for i, call in enumerate(made) if call == "write shard"]
    for failing in [*hdf5[::4], hdf5[-1], *range(hdf5[-1] + 1, renamed)]:
        disk.calls.clear()
        disk.failing = failing
        assert "cannot be written (Input/output error)" in build_fails(own, out, "--samples", samples)
        assert tree(out) == before, made[failing]
        assert not list(out.glob(".*.part")), made[failing]
        assert fvpipe.open_shards(out).receipt == version
    assert fvpipe.verify(out) == []
    disk.calls.clear()
    disk.failing = renamed
    assert "cannot be written" in build_fails(own, out, "--samples", samples)
    assert tree(out) == after  # the version after, as a whole
    disk.failing = -1
    builds(own, out, "--samples", samples)
    assert fvpipe.verify(out) == []


def test_a_build_writes_through_no_link_that_waits_for_it(own: Path, tmp_path: Path) -> None:
    """A folder that somebody else made may have links under all names that a build can be expected to write to."""
    out, victim = tmp_path / "out", tmp_path / "victim"
    out.mkdir()
    victim.write_text("of the user")
    shards = [shard_name(number) for number in range(64)]
    parts = [f".{shard}.{more}part" for shard in shards for more in ("", f"{os.getpid()}.")]
    for name in (*shards, *parts, "index.json", "breasts.csv", "rejected.csv", "images.csv", "build.json"):
        (out / name).symlink_to(victim)
    builds(own, out)
    assert victim.read_text() == "of the user"
    assert fvpipe.verify(out) == []
    assert not [file for file in out.iterdir() if file.is_symlink()]


@pytest.mark.skipif(os.name != "posix", reason="a shell of POSIX")
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_standard_streams_may_be_closed(closed: str, own: Path, tmp_path: Path) -> None:
    """As by a daemon: no file takes their numbers, into which a library would print its messages."""
    code = "import sys\nfrom fvpipe.cli.main import main\nmain(sys.argv[1:], standalone_mode=False)\n"
    code += "sys.exit(sys.stderr is None or sys.stderr.fileno() != 2)\n"
    command = ["sh", "-c", f'exec {closed}; exec "$0" "$@"', sys.executable, "-c", code, *BUILD, "--dicom", str(own)]
    assert subprocess.run([*command, "--out", str(tmp_path / "out")], timeout=100, check=False).returncode == 0
    assert fvpipe.verify(tmp_path / "out") == []
