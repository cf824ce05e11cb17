"""Headers a second, and what a second index costs: CMMD's real headers and VinDr-Mammo's published form.

`python benchmarks/index.py [cmmd] [vindr]`. Writes both trees to a temporary folder (25,202 files, small pixels), reads every
file once so that the disk is warm, then indexes: all headers new, and again with nothing changed. The baseline is pydicom's
own `dcmread(stop_before_pixels=True)` on the same files in one process.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.published import DATA, cmmd_rows, cmmd_tree, vindr_tables, vindr_tree  # noqa: E402

BASELINE = """
import sys, warnings, pydicom
warnings.simplefilter("ignore")
for path in sys.stdin:
    pydicom.dcmread(path.strip(), stop_before_pixels=True)
"""


def run(command: list[str], folder: Path, text: str = "") -> tuple[float, float, str]:
    """Seconds, peak memory of the largest process in MB, output."""
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, check=True)
    return time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024, done.stdout


def main() -> None:
    """Make, warm, measure."""
    chosen = sys.argv[1:] or ["cmmd", "vindr"]
    fvpipe = str(Path(sys.executable).parent / "fvpipe")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "cmmd" in chosen:
            cmmd_tree(folder / "cmmd", cmmd_rows())
            shutil.copy(DATA / "cmmd" / "CMMD_clinicaldata_revision.xlsx", folder / "cmmd")
        if "vindr" in chosen:
            vindr_tree(folder / "vindr", *vindr_tables())
        for dataset in chosen:
            project = folder / f"project-{dataset}"
            project.mkdir()
            (project / "params.yaml").write_text(f"datasets:\n  {dataset}: {{adapter: {dataset}, dicom: {folder / dataset}}}\n")
            files = sorted(str(path) for path in (folder / dataset).rglob("*.d*c*m"))
            for path in files:
                Path(path).read_bytes()
            baseline, _, _ = run([sys.executable, "-c", BASELINE], project, "\n".join(files))
            times = []
            for _ in range(3):
                shutil.rmtree(project / "cache", ignore_errors=True)
                first, memory, output = run([fvpipe, "index", "--json"], project)
                again = min(run([fvpipe, "index", "--json"], project)[0] for _ in range(3))
                times.append((first, again))
            (result,) = json.loads(output)
            assert result["read"] == len(files)
            first, again = sorted(times)[1]
            print(
                f"{dataset}: {len(files)} files, {os.cpu_count()} cores; pydicom in one process {baseline:.1f} s; "
                f"first {first:.1f} s ({len(files) / first:.0f} headers/s, {baseline / first:.2f} x the baseline); "
                f"again {again:.2f} s "
                f"({first / again:.1f} x faster); peak memory {memory:.0f} MB"
            )


if __name__ == "__main__":
    main()
