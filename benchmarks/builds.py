"""The command `fvpipe build-shards` on uncompressed breasts, with this process alone, one worker and two.

Uncompressed breasts are the hard case for workers: there is the least work to share. Start-up (interpreter, imports,
workers) is measured apart, by a build of two breasts.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from benchmarks.cohort import FORMS, UNCOMPRESSED, cohort
from benchmarks.measure import FVPIPE, ROOT, Report, Runs, Setup, weighed


def run(setup: Setup) -> Report:
    """Measure each uncompressed form: many breasts by `cropped`, fewer by `direct`."""
    report = Report("Builds by the command line")
    columns = ["form", "pipeline", "breasts", "workers", "wall s", "CPU s", "start-up s", "breasts a second after it"]
    table = report.table("`fvpipe build-shards`, medians (least to most)", *columns, "largest process MB")
    report.notes.append("Every build begins with an empty sample store; the files are in the page cache.")
    cases = [(name, "cropped", setup.size(4, 40, 200)) for name in UNCOMPRESSED]
    cases += [(name, "direct", 40) for name in UNCOMPRESSED]
    for name, pipeline, breasts in cases[: 1 if setup.tiny else None]:
        form, drawn = FORMS[name], setup.size(2, 2, 4)
        folders = {count: cohort(setup, form, count, drawn) for count in (2, breasts)}
        for file in folders[breasts].rglob("*.dicom"):
            file.read_bytes()
        walls, cpus, peaks = (defaultdict[tuple[int, int], Runs](Runs) for _ in range(3))
        workers = (2,) if setup.tiny else (0, 1, 2)
        for turn in range(setup.runs):
            setup.say(f"builds: {name}, {pipeline}, run {turn + 1} of {setup.runs}")
            for case in [(count, size) for count in workers for size in folders]:
                for runs, value in zip((walls, cpus, peaks), build(setup, folders[case[1]], pipeline, *case), strict=True):
                    runs[case].append(value)
        for count in workers:
            case, start_up = (count, breasts), walls[count, 2].median
            rate = (breasts - 2) / max(walls[case].median - start_up, 1e-3)
            row = [form.title, pipeline, str(breasts), str(count), str(walls[case]), str(cpus[case])]
            table.add_row(*row, f"{start_up:.2f}", f"{rate:.0f}", f"{max(peaks[case]):.0f}")
            report.values[f"{name} {pipeline} breasts a second {count}"] = rate
        if pipeline == "cropped" and not setup.tiny:
            ratio = walls[1, breasts].median / walls[2, breasts].median
            report.bound(f"one worker's wall time / two workers', {breasts} breasts of {name}", ratio, ">=", 1)
    return report


def build(setup: Setup, folder: Path, pipeline: str, workers: int, breasts: int) -> tuple[float, float, float]:
    """Build from nothing; return wall seconds, CPU seconds and the peak memory of the largest process in MB."""
    with setup.folder("builds") as out:
        options = ["--pipeline", pipeline, "--dicom", folder, "--out", out / "shards", "--workers", workers, "--json"]
        ran, peak = weighed([*FVPIPE, "build-shards", *options], ROOT)
    (result,) = json.loads(ran.output)
    assert result["computed"] == breasts, result
    return ran.wall, ran.cpu, peak
