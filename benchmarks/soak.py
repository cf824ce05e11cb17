"""A build under fire: faulty files of every known way, workers killed and stopped, the disk filled once.

It must end by itself, name exactly the faulty files, and equal a calm build byte for byte.
"""

from __future__ import annotations

import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import psutil
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from benchmarks.cohort import Form, add
from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Report, Setup
from fvpipe.io.tables import read_table
from fvpipe.reasons import Reason

SHAPE = (512, 416)  # rows, columns
SYNTAXES = (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEG2000Lossless)
FAULTY = 0.02  # of the files
KILL_SECONDS, STOP_SECONDS = 20.0, 60.0  # between two; kills come sooner where the build is short
TIMEOUT = 10  # seconds a task: a stopped worker must be replaced before the next is stopped
START_CPU_SECONDS = 3.0  # that a worker takes before it is at work, roughly: only then is it stopped
FILLED_AT = 0.4  # of the samples
SAMPLE_BYTES = 256 * 256 * 2


@dataclass
class Build:
    """A build that ended: wall seconds, what was done to it, and the last lines of each run of the command."""

    wall: float = 0.0
    done: Counter[str] = field(default_factory=Counter)
    ends: list[tuple[int, str]] = field(default_factory=list)
    left: list[psutil.Process] = field(default_factory=list)  # workers that outlived it


def run(setup: Setup) -> Report:
    """Build calmly, build under fire, compare."""
    breasts = setup.breasts or setup.size(24, 200, 5000)
    report = Report("A build under fire")
    with setup.folder("soak") as work:
        setup.say(f"soak: making {breasts} breasts")
        faulty, lost = _make_input(work / "in", breasts)
        setup.say(f"soak: calm build, {len(faulty)} faulty files")
        calm = Build()
        with _started(work / "in", work / "calm", work / "calm-store", calm):
            pass
        setup.say(f"soak: under fire, after {calm.wall:.0f} s of calm")
        with _small_disk(work / "disk", breasts) as (disk, how):
            fire = Build()
            stops = not setup.tiny  # each costs its time limit
            _disturb(work / "in", disk / "out", disk / "store", breasts, calm.wall, stops, fire)
            rows = read_table(disk / "out" / "rejected.csv", ["what", "reason"])
            same = _bytes(disk / "out", disk / "store") == _bytes(work / "calm", work / "calm-store")
            verified = subprocess.run([*FVPIPE, "verify", disk / "out"], env=ENVIRONMENT, check=False, capture_output=True)
    title = f"{breasts:,} breasts of two images, {SHAPE[0]} x {SHAPE[1]}, in four syntaxes; two workers"
    table = report.table(title, "build", "seconds", "workers killed", "workers stopped", "disk filled", "exit codes")
    for name, build in (("calm", calm), ("under fire", fire)):
        row = (build.wall, build.done["SIGKILL"], build.done["SIGSTOP"], build.done["disk full"])
        table.add_row(name, f"{row[0]:.0f}", *map(str, row[1:]), ", ".join(str(code) for code, _ in build.ends))
    files = {row["what"]: row["reason"] for row in rows if row["what"] in faulty or "/" in row["what"]}
    others = Counter(row["reason"] for row in rows if row["what"] not in files)
    report.bound("files rejected, each for what is wrong with it", len(files.items() & faulty.items()), "==", len(faulty), "")
    report.bound("other files rejected", len(files.keys() - faulty.keys()), "==", 0, "")
    report.bound("breasts left out, each for a faulty view", sum(others.values()), "==", lost, "")
    report.bound("shards, tables, receipt and samples as those of the calm build, byte for byte", same, "==", True, "")
    report.bound("exit code of `verify`", verified.returncode, "==", 0, "")
    expected = [1] * fire.done["disk full"] + [0]
    said = all("No space left" in text or "File too large" in text for code, text in fire.ends if code)
    report.bound("exit codes, and a full disk is named", ([code for code, _ in fire.ends], said), "==", (expected, True), "")
    report.bound("workers killed at work", fire.done["SIGKILL"], ">=", 1, "")
    report.bound("workers left behind", len(fire.left), "==", 0, "")
    report.notes.append(f"{len(faulty)} faulty files in {len(set(faulty.values()))} reasons. {how}")
    return report


# --- input ------------------------------------------------------------------------------------------------------------


def _make_input(folder: Path, breasts: int) -> tuple[dict[str, str], int]:
    """Write the cohort; return the reason of every faulty file by its path, and how many breasts lack a view for it."""
    from tests.support import faulty

    form = Form("soak", "", SHAPE, 12, "")
    bounds = [*(breasts * i // 8 * 2 for i in range(len(SYNTAXES))), breasts]
    for syntax, (first, last) in zip(SYNTAXES, itertools.pairwise(bounds), strict=True):
        add(folder, replace(form, syntax=syntax), range(first, last), min(8, max(2, breasts // 25 * 2)))
    rng, found = random.Random(0), dict[str, str]()
    headers: list[tuple[Reason, Callable[[], bytes]]]
    headers = [(reason, partial(faulty.header, **tags)) for reason, tags in faulty.RULES.values()]
    headers += [way for way in faulty.BYTES.values() if way[0] is not Reason.DICOM_DIRECTORY]  # which is not a fault
    headers.append((Reason.DEFLATED_TOO_LARGE, faulty.deflated_bomb))
    rng.shuffle(headers)
    frames = itertools.cycle(faulty.FRAMES.values())
    ways, count = itertools.cycle(headers), max(2, round(FAULTY * breasts))
    replaced, beside = rng.sample(range(breasts), count), rng.sample(range(breasts), count)
    for i, number in enumerate(replaced):  # a view is faulty
        view = rng.randrange(2)
        file = folder / "images" / f"{number // 2:06d}" / f"{number}-{view}.dicom"
        if i % 4 == 0:
            reason, make_frame = next(frames)
            patient, breast = f"{number // 2:010d}", {"ImageLaterality": "LR"[number % 2], "ViewPosition": ("CC", "MLO")[view]}
            data = make_frame(
                PatientID=patient, StudyInstanceUID=f"2.25.2{patient}", SOPInstanceUID=f"2.25.4{number}", **breast
            )
        else:
            reason, make = next(ways)
            data = make()
        file.write_bytes(data)
        found[file.relative_to(folder).as_posix()] = reason.value
    for number in beside:  # a file lies beside sound ones
        reason, make = next(ways)
        file = folder / "images" / f"{number // 2:06d}" / f"{number}-beside.dcm"
        file.write_bytes(make())
        found[file.relative_to(folder).as_posix()] = reason.value
    os.mkfifo(folder / "images" / "pipe.dcm")
    for name, target in (("circle.dcm", "circle.dcm"), ("gone.dcm", "nowhere.dcm"), ("device.dcm", "/dev/zero")):
        (folder / "images" / name).symlink_to(target)
    return found | {f"images/{name}.dcm": "not_a_file" for name in ("pipe", "circle", "gone", "device")}, count


# --- builds -----------------------------------------------------------------------------------------------------------


@contextmanager
def _started(folder: Path, out: Path, store: Path, build: Build) -> Iterator[subprocess.Popen[bytes]]:
    """Start a build; at the end of the context wait for it, and keep its exit code and what it said last."""
    options = ["--dicom", folder, "--out", out, "--samples", store]
    options += ["--workers", 2, "--timeout", TIMEOUT, "--max-fallback", 100]
    words, begun = [*FVPIPE, "build-shards", "--pipeline", "cropped", *map(str, options)], time.monotonic()
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=said) as process,
    ):
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        code = process.wait()
        said.seek(0)
        build.ends.append((code, said.read().decode("utf-8", "replace")[-2000:]))
    build.wall += time.monotonic() - begun
    if code and len(build.ends) > build.done["disk full"]:
        raise RuntimeError(f"the build ended with {build.ends[-1]}")


def _disturb(folder: Path, out: Path, store: Path, breasts: int, calm: float, stops: bool, build: Build) -> None:
    """Build until it succeeds, and do to it what is done to builds."""
    apart = {signal.SIGKILL: min(KILL_SECONDS, calm / 6)}
    if stops:
        apart[signal.SIGSTOP] = STOP_SECONDS
    begun, seen, stopped, rng = time.monotonic(), set[psutil.Process](), set[psutil.Process](), random.Random(1)
    due, filler = {number: begun + min(seconds, calm) / 2 for number, seconds in apart.items()}, out.parent / "filler"
    while not build.ends or build.ends[-1][0]:
        filler.unlink(missing_ok=True)
        before = _samples(store)
        with _started(folder, out, store, build) as process:
            while process.poll() is None:
                now, made, workers = time.monotonic(), _samples(store), _workers(process.pid)
                if now - begun > 20 * calm + 1200:
                    raise RuntimeError("the build does not end")
                seen.update(workers)
                number = next((each for each, when in due.items() if now >= when), None)
                if number and made > before:
                    with suppress(psutil.Error):  # one of them has just ended
                        able = [each for each in workers if each not in stopped]
                        if number is signal.SIGSTOP:
                            able = [each for each in able if sum(each.cpu_times()[:2]) > START_CPU_SECONDS]
                        if able:
                            victim = rng.choice(able)
                            victim.send_signal(number)
                            build.done[number.name] += 1
                            due[number] = now + apart[number]
                            stopped |= {victim} if number is signal.SIGSTOP else set()
                if made > FILLED_AT * breasts and not build.done["disk full"]:
                    _fill(process, filler)
                    build.done["disk full"] = 1
                time.sleep(min(0.5, calm / 200))
    build.left = [each for each in seen if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    for each in build.left:
        each.kill()


def _samples(store: Path) -> int:
    return sum(1 for _ in store.glob("*/*.sample"))


def _workers(process: int) -> list[psutil.Process]:
    """Dask's workers below a process."""
    try:
        below = psutil.Process(process).children(recursive=True)
        return [each for each in below if "multiprocessing.spawn" in " ".join(each.cmdline())]
    except psutil.Error:  # one of them has just ended
        return []


# --- the disk ---------------------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, breasts: int) -> Iterator[tuple[Path, str]]:
    """A file system with room for the output, or the folder itself where none can be mounted."""
    folder.mkdir()
    size = 2 * breasts * (SAMPLE_BYTES + 20_000) + (64 << 20)  # samples and shards
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    mounted = shutil.which("mount") and not subprocess.run(options, check=False, capture_output=True).returncode
    try:
        yield folder, "The disk was a tmpfs, filled to the last byte." if mounted else _LIMITED
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


_LIMITED = "The disk was filled by a limit on the size of files (RLIMIT_FSIZE) of the build and its workers, while they ran."


def _fill(process: subprocess.Popen[bytes], filler: Path) -> None:
    """Take all room that is left, or where it is that of the machine, let no process of the build write a large file."""
    if os.path.ismount(filler.parent):
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(1 << 20)):
                pass
        return
    for each in [psutil.Process(process.pid), *_workers(process.pid)]:
        with suppress(psutil.Error, OSError):
            resource.prlimit(each.pid, resource.RLIMIT_FSIZE, (4096, 4096))


def _bytes(out: Path, store: Path) -> dict[str, str]:
    """Digest of every file of the output and every sample."""
    from tests.support.builds import tree

    found = tree(out)
    for folder in sorted(each for each in store.iterdir() if each.is_dir()):
        found |= {f"store/{name}": digest for name, digest in tree(folder).items()}
    return found
