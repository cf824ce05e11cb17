"""The real command, `fvpipe build-shards`, on raw breasts with this process alone, one worker and two; and what it weighs.

Uncompressed breasts are the hard case for workers: there is the least work to share. Start-up (interpreter, imports,
workers) is measured apart, by a build of two breasts.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from benchmarks.cohort import FORMS, UNCOMPRESSED, Form, cohort
from benchmarks.measure import FVPIPE, ROOT, Ran, Section, Setup, Table, command, spread
from benchmarks.processes import Peak

COLUMNS = ["form and pipeline", "breasts", "--workers", "wall s", "CPU s", "start-up s", "breasts a second after it"]
COLUMNS += ["largest worker MB"]


def run(setup: Setup) -> Section:
    """Measure each uncompressed form: many breasts by `cropped`, fewer by `direct`."""
    section = Section("builds", "Builds by the command line")
    table = Table("`fvpipe build-shards`, medians (least to most)", COLUMNS, [])
    for name in UNCOMPRESSED[: 1 if setup.tiny else None]:
        _measure(setup, FORMS[name], "cropped", setup.size(4, 40, 200), section, table)
        if not setup.tiny:
            _measure(setup, FORMS[name], "direct", 40, section, table)
    section.tables.append(table)
    section.notes.append("Every build begins with an empty sample store; the files are in the page cache.")
    return section


def _measure(setup: Setup, form: Form, pipeline: str, breasts: int, section: Section, table: Table) -> None:
    shape = (320, 256) if setup.tiny else None
    folders = [cohort(setup.scratch, form, count, setup.size(2, 2, 4), shape) for count in (2, breasts)]
    warm(folders[1])
    counts = (2,) if setup.tiny else (0, 1, 2)
    ran: dict[tuple[int, int], list[Ran]] = {}
    peaks: dict[int, list[float]] = {}
    for turn in range(setup.runs):
        setup.say(f"builds: {form.title}, {pipeline}, run {turn + 1} of {setup.runs}")
        for workers in counts:
            for which, folder in enumerate(folders):
                once, peak = build(setup, folder, pipeline, workers)
                ran.setdefault((workers, which), []).append(once)
                if which:
                    peaks.setdefault(workers, []).append(peak)
    median = {key: statistics.median(once.wall for once in found) for key, found in ran.items()}
    for workers in counts:
        walls, cpus = ([getattr(once, what) for once in ran[workers, 1]] for what in ("wall", "cpu"))
        start_up = median[workers, 0]
        rate = (breasts - 2) / max(median[workers, 1] - start_up, 1e-3)
        row = [f"{form.title}, {pipeline}", str(breasts), str(workers), str(spread(walls)), str(spread(cpus))]
        table.rows.append([*row, f"{start_up:.2f}", f"{rate:.0f}", f"{max(peaks[workers]):.0f}"])
        section.figures[f"{form.name} {pipeline} start-up {workers}"] = start_up
        section.figures[f"{form.name} {pipeline} breasts a second {workers}"] = rate
    if pipeline == "cropped" and not setup.tiny:
        what = f"{breasts} breasts of {form.name}: one worker's wall time against two workers'"
        section.at_least(what, median[1, 1] / median[2, 1], 1)


def build(setup: Setup, folder: Path, pipeline: str, workers: int) -> tuple[Ran, float]:
    """One build from nothing; and the peak memory of its largest process, in MB."""
    with setup.folder("builds") as out, Peak() as peak:
        options = ["--pipeline", pipeline, "--dicom", folder, "--out", out / "shards", "--workers", workers, "--json"]
        ran = command([*FVPIPE, "build-shards", *options], ROOT)
    (result,) = json.loads(ran.output)
    assert result["computed"] == len(list(folder.rglob("*.d*c*m"))) // 2, result
    return ran, peak.largest_worker


def warm(folder: Path) -> None:
    """Read every file once, so that all runs find them in the page cache."""
    for file in folder.rglob("*.d*c*m"):
        file.read_bytes()
