"""Memory of a worker above the bare interpreter, and whether it grows: up to thousands of breasts in one process."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import ROOT, Report, Setup, command, in_new_process

STATUS = Path("/proc/self/status")
PARTS = 20  # parts of a run; the memory is looked at after each


def run(setup: Setup) -> Report:
    """Measure each form of VinDr-Mammo's size; thousands of breasts of the uncompressed one."""
    report = Report("Memory of a worker")
    columns = ["form", "pipeline", "breasts", "bare interpreter", "after imports", "peak", "peak above the interpreter"]
    table = report.table("MB of one process that does the work of a worker", *columns)
    _, bare = megabytes(command([sys.executable, "-c", f"print(open({str(STATUS)!r}).read())"], ROOT).output)
    for pipeline in ("cropped", "antialiased"):
        for name in ["vindr-raw"] if setup.tiny else ["vindr-raw", "vindr-rle", "vindr-jpegll", "vindr-j2k"]:
            setup.say(f"memory: {name}, {pipeline}")
            many = name == "vindr-raw" and pipeline == "cropped"
            count = setup.size(20, 200 if many else 20, 2000 if many else 40)
            folder = cohort(setup, FORMS[name])
            with setup.folder("memory") as work:
                imports, *parts = in_new_process(memory_of_builds, folder, pipeline, work, count)
            peak = max(most for _, most in parts)
            table.add_row(name, pipeline, str(count), *(f"{mb:.0f}" for mb in (bare, imports[1], peak, peak - bare)))
            report.values[f"{name} {pipeline} peak"] = peak - bare
            report.bound(f"peak of a worker above the interpreter, {name}, {pipeline}", peak - bare, "<=", 250, "MB")
            if many:
                early, late = (max(now for now, _ in some) for some in (parts[PARTS // 4 : PARTS // 2], parts[-PARTS // 4 :]))
                report.bound(f"growth over the last half of {count} breasts", max(late - early, 0.0), "<=", 5, "MB")
    return report


def memory_of_builds(folder: Path, pipeline: str, store: Path, count: int) -> list[tuple[float, float]]:
    """Make the samples of `count` breasts; return memory now and at most, in MB, after the imports and after each part."""
    import distributed  # a worker has it loaded

    from benchmarks.contenders import tasks
    from fvpipe.build.sample import make_samples

    assert distributed
    work = tasks(folder, "table", pipeline, store)
    found = [megabytes(STATUS.read_text())]
    for part in range(PARTS):
        for number in range(max(1, count // PARTS // len(work))):
            given = [replace(task, store=str(store / f"{part}-{number}")) for task in work]
            assert all(result.computed for result in make_samples(given))
            shutil.rmtree(given[0].store)
        found.append(megabytes(STATUS.read_text()))
    return found


def megabytes(status: str) -> tuple[float, float]:
    """Memory of a process now and at most, in MB, from its `/proc/PID/status`."""
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024
