"""Speed and memory of an index: CMMD's real headers and VinDr-Mammo's published form, with small pixels.

First every header is new, then nothing has changed. The baseline is pydicom's `dcmread(stop_before_pixels=True)` on the same
files in one process; with `--before CHECKOUT` also an older fvpipe. The files are read once, so that the disk is warm.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks.measure import FVPIPE, ROOT, Report, Runs, Setup, command, environment_of, interleaved, weighed
from tests.support.published import DATA, cmmd_rows, cmmd_tree, embed_tree, vindr_tables, vindr_tree

BASELINE, BEFORE = "pydicom's dcmread", "first index, before"
PYDICOM = """
import itertools, sys, time, warnings, pathlib, pydicom
warnings.simplefilter("ignore")
paths = list(itertools.islice(pathlib.Path(sys.argv[1]).rglob("*.d*c*m"), int(sys.argv[2])))
begun = time.perf_counter()
for path in paths:
    pydicom.dcmread(path, stop_before_pixels=True)
print((time.perf_counter() - begun) / len(paths))
"""
PYDICOM_BEFORE = 2.8
"""Times that an index of CMMD's headers took as long as pydicom, before its files were digested too."""


def run(setup: Setup) -> Report:
    """Measure the speed of two data sets, then the memory of ever more files."""
    report = Report("Indexing")
    columns = ["data set", "files", "command", "seconds", "/ pydicom's dcmread", "headers a second", "peak MB"]
    table = report.table("Medians (least to most)", *columns)
    for dataset in ("cmmd", "vindr") if setup.full else ("cmmd",):
        setup.say(f"index: {dataset}")
        with setup.folder("index") as work:
            count, found, peaks = _speed(setup, dataset, work)
        for name, runs in found.items():
            row = [f"{runs.median / found[BASELINE].median:.2f}", f"{count / runs.median:.0f}"]
            table.add_row(dataset, str(count), name, str(runs), *row, str(peaks[name]) if name in peaks else "")
            report.values[f"{dataset} {name}"] = runs.median
        for name, times in ((BASELINE, 1.5 * PYDICOM_BEFORE), (BEFORE, 1.5)):
            if dataset == "cmmd" and name in found:
                ratio = found["first index"].median / found[name].median
                report.bound(f"first index of {count:,} headers of CMMD / {name}", ratio, "<=", times)
    _memory(setup, report)
    _embed(setup, report)
    return report


def _embed(setup: Setup, report: Report) -> None:
    """An index whose identity and labels come from tables: EMBED's, of the published size where the run is full."""
    count = setup.size(40, 20_000, 480_000)
    setup.say(f"index: {count} files of EMBED's form")
    with setup.folder("index") as work:
        embed_tree(work / "embed", count)
        before = _seconds_of_dcmread(work / "embed")
        seconds, peak = _index(_project(work, "embed"), count)
        dcmread = (before + _seconds_of_dcmread(work / "embed")) / 2
    columns = ["files", "seconds", "headers a second", "peak MB", "ms a file of dcmread", "time a file / dcmread"]
    table = report.table("EMBED's form, one run; dcmread of 20,000 of its files in one process before and after", *columns)
    ratio = seconds / count / dcmread
    table.add_row(
        f"{count:,}", f"{seconds:.0f}", f"{count / seconds:.0f}", f"{peak:.0f}", f"{dcmread * 1e3:.2f}", f"{ratio:.2f}"
    )
    report.values["seconds of EMBED's form / dcmread"] = ratio
    report.bound(f"headers a second of {count:,} of EMBED's form", count / seconds, ">=", 1500)
    report.bound(f"peak of an index of {count:,} files of EMBED's form", peak, "<=", 1000, "MB")


def _seconds_of_dcmread(folder: Path, count: int = 20_000) -> float:
    """Seconds that one process takes for a file: the speed of a machine may change by half within an hour."""
    return float(command([sys.executable, "-c", PYDICOM, folder, count], ROOT).output)


def _speed(setup: Setup, dataset: str, work: Path) -> tuple[int, dict[str, Runs], dict[str, Runs]]:
    """Number of files; seconds of each contender; and peak MB of those that index from nothing."""
    count, folder, peaks = _tree(setup, dataset, work / dataset), _project(work, dataset), defaultdict[str, Runs](Runs)

    def first(name: str, checkout: Path = ROOT) -> float:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        seconds, peak = _index(folder, count, checkout)
        peaks[name].append(peak)
        return seconds

    contenders = {BASELINE: lambda: command([sys.executable, "-c", PYDICOM, work / dataset, count], work).wall}
    if setup.before:
        contenders[BEFORE] = lambda: first(BEFORE, setup.checkouts["before"])
    contenders["first index"] = lambda: first("first index")
    contenders["nothing changed"] = lambda: command([*FVPIPE, "index"], folder).wall
    return count, interleaved(setup.size(1, 1, 3), contenders), peaks


def _memory(setup: Setup, report: Report) -> None:
    """How the memory of the largest process grows with the number of files."""
    columns = ["files", "all read", "one read, the others cached"]
    table = report.table("Peak MB of the largest process, VinDr-Mammo's form", *columns)
    counts = setup.size([40, 80], [5_000, 20_000], [5_000, 20_000, 100_000])
    peaks = []
    for count in counts:
        setup.say(f"index: memory of {count} files")
        with setup.folder("index") as work:
            files = _many(work / "vindr", count)
            folder = _project(work, "vindr")
            _, everything = _index(folder, count)
            os.utime(files)
            _, one = _index(folder, 1)
        peaks.append((everything, one))
        table.add_row(f"{count:,}", *(f"{peak:.0f}" for peak in peaks[-1]))
    for what, few, many in zip(columns[1:], peaks[0], peaks[-1], strict=True):
        grown = max(many - few, 0.0) * 2**20 / (counts[-1] - counts[0])
        report.notes.append(f"A further file takes {grown:.0f} bytes ({what}).")
        report.values[f"peak, {what}"] = many
        report.bound(f"peak of an index of {counts[-1]:,} files, {what}", many, "<=", 400, "MB")


def _project(work: Path, dataset: str) -> Path:
    project = work / "project"
    project.mkdir()
    (project / "params.yaml").write_text(f"datasets:\n  {dataset}: {{adapter: {dataset}, dicom: {work / dataset}}}\n")
    return project


def _index(folder: Path, read: int, checkout: Path = ROOT) -> tuple[float, float]:
    """Seconds and peak MB of an index that reads so many headers."""
    ran, peak = weighed([*FVPIPE, "index", "--json"], folder, environment_of(checkout))
    (result,) = json.loads(ran.output)
    assert result["read"] == read
    return ran.wall, peak


def _tree(setup: Setup, dataset: str, folder: Path) -> int:
    """Write a data set, read its files once, and count them."""
    if dataset == "cmmd":
        cmmd_tree(folder, cmmd_rows()[: setup.size(40, None, None)])
        shutil.copy(DATA / "cmmd" / "CMMD_clinicaldata_revision.xlsx", folder)
    else:
        _many(folder, 20_000)
    return len([path.read_bytes() for path in folder.rglob("*.d*c*m")])


def _many(folder: Path, count: int) -> Path:
    """Write files like VinDr-Mammo's, its rows repeated with other identifiers; return one of them."""
    published, _ = vindr_tables()
    rows = []
    for number in range(count):
        copy, row = divmod(number, len(published))
        found = published[row]
        other = {name: hashlib.md5(f"{copy} {found[name]}".encode()).hexdigest() for name in ("study_id", "image_id")}
        rows.append(found | other)
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys())
    writer.writeheader()
    writer.writerows(rows)
    vindr_tree(folder, rows, out.getvalue().encode())
    return folder / "images" / rows[0]["study_id"] / f"{rows[0]['image_id']}.dicom"
