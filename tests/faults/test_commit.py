"""Builds that are broken off, and disks that refuse: what was committed stays whole, and the next build ends as a clean one."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydicom.uid import JPEG2000Lossless

import fvpipe
from fvpipe.shards import writer
from fvpipe.shards.format import read_receipt
from tests.conftest import build
from tests.support import factory
from tests.support.builds import KEY, PROGRAM, build_fails, builds, finished_samples, living, start, tree


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
    shutil.copytree(out, tmp_path / "moved")  # other times and inodes, the same bytes: believed after one look
    assert builds(own, tmp_path / "moved", "--samples", out / ".samples")["written"] == 0


@pytest.mark.fault(3)
def test_killed_at_random_and_run_again(own: Path, tmp_path: Path) -> None:
    builds(own, tmp_path / "clean")
    out, chance = tmp_path / "out", random.Random(1)
    for _ in range(6):
        process = start(own, out, "--workers", "0")
        time.sleep(chance.uniform(0.4, 1.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "index.json").exists() or fvpipe.open_shards(out)
    builds(own, out)
    assert tree(out) == tree(tmp_path / "clean")
    assert not list(out.glob(".*.part"))


@pytest.mark.fault(6)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_leaves_no_process_and_resumes(number: signal.Signals, own: Path, tmp_path: Path) -> None:
    for i in range(12, 40):
        factory.patient(own / f"case{i}", f"P{i:02d}", "LR", seed=i, syntax=JPEG2000Lossless)
    out = tmp_path / "out"
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
    assert not list(out.rglob("*.part"))
    made = finished_samples(out)
    assert made >= 4
    assert builds(own, out)["reused"] >= made


@pytest.mark.fault(4)
def test_full_disk_keeps_the_version_before(own: Path, tmp_path: Path) -> None:
    out, samples = tmp_path / "out", tmp_path / "samples"
    builds(own, out, "--samples", samples)
    before = tree(out)
    factory.patient(own / "new", "P99", "LR", seed=50)
    builds(own, tmp_path / "other", "--samples", samples)  # the samples are there: only the shards remain to be written
    limit = 200_000  # bytes a file: less than a shard of two samples
    process = subprocess.run(
        [
            *PROGRAM,
            "build-shards",
            "--pipeline",
            "cropped",
            "--dicom",
            own,
            "--out",
            out,
            "--samples",
            samples,
            "--workers",
            "0",
        ],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        ),
    )
    assert process.returncode == 1
    assert "cannot be written" in process.stderr
    assert "Traceback" not in process.stderr
    assert tree(out) == before
    assert not list(out.glob(".*.part"))


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


@pytest.mark.fault(2)
def test_killed_between_a_shard_and_the_receipt(own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The receipt is the only commit point: what lies beside it half-way is an error for a reader, and built again."""
    out = tmp_path / "out"
    builds(own, out)
    before = tree(out)
    file = own / "case3" / "P03_L_MLO.dcm"
    factory.mammogram(file, factory.breast(99, factory.MLO), PatientID="P03", view=factory.MLO, SOPInstanceUID="2.25.77")
    script = (
        "import os\n"
        "replace = os.replace\n"  # dies after the renames of the shards, before that of the receipt
        "os.replace = lambda a, b: os.kill(os.getpid(), 9) if str(b).endswith('index.json') else replace(a, b)\n"
        "from fvpipe.cli.main import main\n"
        f"main(['build-shards', '--pipeline', 'cropped', '--dicom', {str(own)!r}, '--out', {str(out)!r}, '--workers', '0'])\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False, capture_output=True).returncode == -9
    assert (out / "index.json").read_bytes()  # the old receipt
    with pytest.raises(fvpipe.errors.ShardError):
        fvpipe.open_shards(out)
    builds(own, out)
    after = tree(out)
    assert after != before
    assert len(fvpipe.open_shards(out)) == 20


@pytest.mark.fault(8)
def test_two_builds_into_one_place(own: Path, tmp_path: Path) -> None:
    import fcntl

    out = tmp_path / "out"
    out.mkdir()
    with open(out / ".lock", "w") as held:
        held.write("4242\n")
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "locked by pid 4242" in build_fails(own, out)
    done = build(own, out)
    assert "taken over from process 4242" in done.stderr
