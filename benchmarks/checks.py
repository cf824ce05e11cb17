"""What the checks of files, shards and workers cost: CPU time of a build and of a first read, here and in an older checkout.

With ``--before CHECKOUT`` both are measured in turn, each on shards that it built itself.
"""

from __future__ import annotations

import shutil
import sys

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import FVPIPE, Report, Setup, command, environment_of, interleaved

READ = """
import sys, time
import fvpipe, h5py, numpy
begun = time.process_time()
shards = fvpipe.open_shards(sys.argv[1])
total = sum(float(numpy.asarray(shards[i].image).sum()) for i in range(len(shards)))
print(time.process_time() - begun)
"""


def run(setup: Setup) -> Report:
    """Build a cohort and read its shards, `setup.runs` times each."""
    report = Report("What the checks cost")
    folder = cohort(setup, FORMS["cmmd-raw"], setup.size(4, 40, 120))
    checkouts = setup.checkouts
    with setup.folder("checks") as work:

        def build(name: str) -> float:
            shutil.rmtree(work / name, ignore_errors=True)
            options = ("--pipeline", "cropped", "--dicom", folder, "--workers", 2, "--out", work / name)
            return command([*FVPIPE, "build-shards", *options], work, environment_of(checkouts[name])).cpu

        def read(name: str) -> float:
            return float(command([sys.executable, "-c", READ, work / name], work, environment_of(checkouts[name])).output)

        builds = interleaved(setup.runs, {name: lambda name=name: build(name) for name in checkouts})
        reads = interleaved(3 * setup.runs, {name: lambda name=name: read(name) for name in checkouts})
    table = report.table("CPU seconds, medians (least to most)", "checkout", "a build", "a first read of its shards")
    for name in checkouts:
        table.add_row(name, str(builds[name]), str(reads[name]))
        report.values[f"build {name}"], report.values[f"read {name}"] = builds[name].median, reads[name].median
    if setup.before:
        for what, found, asked in (("a build", builds, 1.03), ("a first read", reads, 1.10)):
            report.bound(f"{what} / before", found["now"].median / found["before"].median, "<=", asked)
    return report
