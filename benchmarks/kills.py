"""Workers killed (SIGKILL) at random, ten in one build: it must end by itself, with the same bytes."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Report, Setup

DURING = 0.8  # of the undisturbed build's time, in which the kills fall on average


class Build(NamedTuple):
    """A build in which workers were killed: seconds, kills, exit code, bytes of the output by file name."""

    wall: float
    kills: int
    code: int
    output: dict[str, bytes]


def run(setup: Setup) -> Report:
    """Build once undisturbed, once while workers are killed."""
    report, kills, form = Report("Workers killed at random"), setup.size(1, 10, 10), FORMS["vindr-j2k"]
    # JPEG 2000 takes a core half a second a breast, so that the last kill falls into the build too.
    folder = cohort(setup, form, setup.size(24, 60, 60), setup.size(2, 2, 4), (1280, 1024))
    with setup.folder("kills") as work:
        setup.say("kills: undisturbed")
        undisturbed = _build(folder, work / "undisturbed", 0, 0.0)
        setup.say(f"kills: {kills} workers")
        disturbed = _build(folder, work / "disturbed", kills, DURING * undisturbed.wall / kills)
    table = report.table(f"{form.title}, two workers", "build", "seconds", "workers killed", "exit code")
    for name, build in (("undisturbed", undisturbed), ("disturbed", disturbed)):
        table.add_row(name, f"{build.wall:.1f}", str(build.kills), str(build.code))
    found = disturbed.kills, disturbed.code, disturbed.output == undisturbed.output
    report.bound("workers killed, exit code, the same bytes", found, "==", (kills, 0, True), "")
    return report


def _build(folder: Path, out: Path, kills: int, apart: float) -> Build:
    """Build, and kill a worker about every `apart` seconds."""
    options = ["--pipeline", "cropped", "--dicom", folder, "--out", out, "--workers", "2"]
    words = [*FVPIPE, "build-shards", *map(str, options)]
    rng, begun, due, killed = random.Random(1), time.perf_counter(), 0.0, 0
    process = subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        under_way = killed < kills and time.perf_counter() >= due and any(out.glob(".samples/*/*.sample"))
        if under_way and (found := _workers(process.pid)):
            rng.choice(found).kill()
            killed += 1
            due = time.perf_counter() + rng.uniform(0, 2 * apart)
        time.sleep(0.05)
    files = [path for path in out.iterdir() if path.is_file() and path.name != "build.json" and path.name[0] != "."]
    return Build(time.perf_counter() - begun, killed, process.returncode, {path.name: path.read_bytes() for path in files})


def _workers(process: int) -> list[psutil.Process]:
    """Dask's workers below a process."""
    try:
        below = psutil.Process(process).children(recursive=True)
        return [each for each in below if "multiprocessing.spawn" in " ".join(each.cmdline())]
    except psutil.Error:  # one of them has just ended
        return []
