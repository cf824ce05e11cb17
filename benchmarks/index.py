"""Headers a second, and what a second index costs: CMMD's real headers and VinDr-Mammo's published form.

Both trees hold small pixels (25,202 files together) and are read once, so that the disk is warm. First is every header new,
again is nothing changed. The baseline is pydicom's own `dcmread(stop_before_pixels=True)` on the same files in one process.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Section, Setup, Table, command, spread

BASELINE = """
import sys, warnings, pydicom
warnings.simplefilter("ignore")
for path in sys.stdin:
    pydicom.dcmread(path.strip(), stop_before_pixels=True)
"""


def run(setup: Setup) -> Section:
    """Make, warm, measure."""
    section = Section("index", "Indexing")
    columns = ["data set", "files", "pydicom's dcmread s", "first s", "headers a second", "again s", "peak MB of all so far"]
    table = Table("Medians (least to most)", columns, [])
    for dataset in ("cmmd", "vindr") if setup.full else ("cmmd",):
        setup.say(f"index: {dataset}")
        with setup.folder("index") as work:
            folder, project = work / dataset, work / "project"
            _tree(dataset, folder)
            project.mkdir()
            (project / "params.yaml").write_text(f"datasets:\n  {dataset}: {{adapter: {dataset}, dicom: {folder}}}\n")
            files = sorted(str(path) for path in folder.rglob("*.d*c*m"))
            for path in files:
                Path(path).read_bytes()
            baseline, first, again = [], [], []
            for _ in range(setup.size(1, 1, 3)):
                baseline.append(_pydicom(files))
                shutil.rmtree(project / "cache", ignore_errors=True)
                ran = command([*FVPIPE, "index", "--json"], project)
                (result,) = json.loads(ran.output)
                assert result["read"] == len(files)
                first.append(ran.wall)
                again.append(min(command([*FVPIPE, "index", "--json"], project).wall for _ in range(3)))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        found = spread(first)
        rate = f"{len(files) / found.median:.0f}"
        row = [dataset, str(len(files)), str(spread(baseline)), str(found), rate, str(spread(again)), f"{peak:.0f}"]
        table.rows.append(row)
        section.figures[f"{dataset} headers a second"] = len(files) / found.median
    section.tables.append(table)
    return section


def _tree(dataset: str, folder: Path) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.published import DATA, cmmd_rows, cmmd_tree, vindr_tables, vindr_tree

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
