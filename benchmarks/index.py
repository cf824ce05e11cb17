"""Headers a second, and what a second index costs: CMMD's real headers and VinDr-Mammo's published form.

Both trees hold small pixels (25,202 files together) and are read once, so that the disk is warm. First is every header new,
again is nothing changed. The baseline is pydicom's own `dcmread(stop_before_pixels=True)` on the same files in one process.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Section, Setup, Table, command, spread, weighed

BASELINE = """
import sys, warnings, pydicom
warnings.simplefilter("ignore")
for path in sys.stdin:
    pydicom.dcmread(path.strip(), stop_before_pixels=True)
"""


def run(setup: Setup) -> Section:
    """Make, warm, measure; then count files up and look at the memory."""
    section = Section("index", "Indexing")
    columns = ["data set", "files", "pydicom's dcmread s", "first s", "headers a second", "again s", "peak MB"]
    table = Table("Medians (least to most)", columns, [])
    for dataset in () if setup.tiny else ("cmmd", "vindr") if setup.full else ("cmmd",):
        setup.say(f"index: {dataset}")
        with setup.folder("index") as work:
            folder = work / dataset
            _tree(dataset, folder)
            project = _project(work, dataset, folder)
            files = sorted(str(path) for path in folder.rglob("*.d*c*m"))
            for path in files:
                Path(path).read_bytes()
            baseline, first, again, peaks = [], [], [], []
            for _ in range(setup.size(1, 1, 3)):
                baseline.append(_pydicom(files))
                shutil.rmtree(project / "cache", ignore_errors=True)
                seconds, peak = _index(project, len(files))
                first.append(seconds)
                peaks.append(peak)
                again.append(min(command([*FVPIPE, "index", "--json"], project).wall for _ in range(3)))
        found = spread(first)
        rate = f"{len(files) / found.median:.0f}"
        row = [dataset, str(len(files)), str(spread(baseline)), str(found), rate, str(spread(again)), str(spread(peaks))]
        table.rows.append(row)
        section.figures[f"{dataset} headers a second"] = len(files) / found.median
    section.tables += [table] if table.rows else []
    _memory(setup, section)
    return section


def _memory(setup: Setup, section: Section) -> None:
    """How the memory of the largest process grows with the number of files: of an index that reads all headers, of one that
    remembers all but one, and of one that recalls its tables.
    """
    columns = ["files", "all read", "one read, the others remembered", "recalled"]
    table = Table("Peak MB of the largest process, VinDr-Mammo's form", columns, [])
    counts = (40, 80) if setup.tiny else (5_000, 20_000, 100_000) if setup.full else (5_000, 20_000)
    peaks = []
    for count in counts:
        setup.say(f"index: memory of {count} files")
        with setup.folder("index") as work:
            folder = work / "vindr"
            files = _many(folder, count)
            project = _project(work, "vindr", folder)
            _, first = _index(project, count)
            os.utime(files)
            (_, second), (_, third) = _index(project, 1), _index(project, 0)
        peaks.append((first, second, third))
        table.rows.append([f"{count:,}", *(f"{peak:.0f}" for peak in peaks[-1])])
    section.tables.append(table)
    for what, few, many in zip(columns[1:], peaks[0], peaks[-1], strict=True):
        grown = max(many - few, 0.0) * 2**20 / (counts[-1] - counts[0])
        section.figures[f"bytes a file, {what}"] = grown
        if not setup.tiny:
            section.at_most(f"memory a further file, {counts[0]:,} to {counts[-1]:,}, {what}", grown, 350, " bytes")


def _project(work: Path, dataset: str, folder: Path) -> Path:
    project = work / "project"
    project.mkdir()
    (project / "params.yaml").write_text(f"datasets:\n  {dataset}: {{adapter: {dataset}, dicom: {folder}}}\n")
    return project


def _index(project: Path, read: int) -> tuple[float, float]:
    """Seconds and MB of an index that reads so many headers."""
    ran, peak = weighed([*FVPIPE, "index", "--json"], project)
    (result,) = json.loads(ran.output)
    assert result["read"] == read
    return ran.wall, peak


def _many(folder: Path, count: int) -> Path:
    """So many files like VinDr-Mammo's, and one of them: its rows again and again, each time with other identifiers."""
    sys.path.insert(0, str(ROOT))
    from tests.support.published import vindr_tables, vindr_tree

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


def _tree(dataset: str, folder: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.support.published import DATA, cmmd_rows, cmmd_tree, vindr_tables, vindr_tree

    if dataset == "cmmd":
        cmmd_tree(folder, cmmd_rows())
        shutil.copy(DATA / "cmmd" / "CMMD_clinicaldata_revision.xlsx", folder)
    else:
        vindr_tree(folder, *vindr_tables())


def _pydicom(files: list[str]) -> float:
    begun = time.perf_counter()
    arguments = [sys.executable, "-c", BASELINE]
    subprocess.run(arguments, input="\n".join(files), env=ENVIRONMENT, text=True, check=True, capture_output=True)
    return time.perf_counter() - begun
