"""A worker killed (SIGKILL) at random, ten times in one build: it must end by itself, with the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Section, Setup, Table
from benchmarks.processes import workers

SPREAD = 0.8  # of the undisturbed build's time, over which the kills fall in the mean


def run(setup: Setup) -> Section:
    """Build once undisturbed, once while workers die."""
    section = Section("kills", "A worker killed at random")
    kills = setup.size(1, 10, 10)
    # Long enough that the last kill falls into the build: JPEG 2000 takes a core half a second a breast.
    form = FORMS["vindr-j2k"]
    folder = cohort(setup.scratch, form, setup.size(24, 60, 60), setup.size(2, 2, 4), (1280, 1024) if setup.tiny else None)
    with setup.folder("kills") as work:
        setup.say("kills: undisturbed")
        undisturbed = _build(folder, work / "undisturbed", random.Random(0), 0, 0.0)
        setup.say(f"kills: {kills} workers")
        disturbed = _build(folder, work / "disturbed", random.Random(1), kills, SPREAD * undisturbed.wall / kills)
        same = disturbed.code == 0 and digests(work / "undisturbed") == digests(work / "disturbed")
    columns = ["build", "seconds", "workers killed", "exit code", "bytes"]
    rows = [
        ["undisturbed", f"{undisturbed.wall:.1f}", "0", str(undisturbed.code), "-"],
        [
            "disturbed",
            f"{disturbed.wall:.1f}",
            str(disturbed.kills),
            str(disturbed.code),
            "the same" if same else "not the same",
        ],
    ]
    section.tables.append(Table(f"{form.title}, two workers", columns, rows))
    done = disturbed.code == 0 and same and disturbed.kills == kills
    section.true(f"{kills} SIGKILLs in one build: it ends by itself, byte-identical", f"{disturbed.kills} kills", done)
    if disturbed.code:
        section.notes.append(f"It ended with: {disturbed.said[-400:].strip()}")
    return section


class _Built:
    """How a build with killings went."""

    def __init__(self, wall: float, kills: int, code: int, said: str) -> None:
        self.wall, self.kills, self.code, self.said = wall, kills, code, said


def _build(folder: Path, out: Path, rng: random.Random, kills: int, apart: float) -> _Built:
    shutil.rmtree(out, ignore_errors=True)
    options = ["--pipeline", "cropped", "--dicom", str(folder), "--out", str(out), "--workers", "2", "--json"]
    begun, due, killed = time.perf_counter(), 0.0, 0
    with open(out.with_suffix(".log"), "w+", encoding="utf-8") as log:
        process = subprocess.Popen(
            [*FVPIPE, "build-shards", *options], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=log
        )
        while process.poll() is None:
            under_way = killed < kills and any(out.glob(".samples/*/*.sample"))
            found = workers(process.pid) if under_way else []
            if found and time.perf_counter() >= due:
                with suppress(ProcessLookupError):
                    os.kill(rng.choice(found), signal.SIGKILL)
                    killed += 1
                due = time.perf_counter() + rng.uniform(0, 2 * apart)
            time.sleep(0.05)
        log.seek(0)
        return _Built(time.perf_counter() - begun, killed, process.returncode, log.read())


def digests(folder: Path) -> dict[str, str]:
    """Of every file that is part of the output."""
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != "build.json" and not p.name.startswith(".")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
