"""How much memory a worker takes above the interpreter's own, and whether that grows: thousands of breasts in one process.

`python -m benchmarks.memory FOLDER PIPELINE STORE COUNT` does COUNT breasts and prints what it weighed on the way.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import ENVIRONMENT, ROOT, Section, Setup, Table, answer_of
from benchmarks.processes import memory

EVERY = 20  # times on the way


def run(setup: Setup) -> Section:
    """Measure each form of VinDr's size; thousands of breasts of the uncompressed one."""
    section = Section("memory", "Memory of a worker")
    columns = ["form", "pipeline", "breasts", "bare interpreter", "after imports", "peak", "peak above the interpreter"]
    table = Table("MB of one process that does what a worker does", columns, [])
    forms = ["vindr-raw"] if setup.tiny else ["vindr-raw", "vindr-rle", "vindr-jpegll", "vindr-j2k"]
    bare = json.loads(
        _print_of("import benchmarks.processes as p, os, json; print(json.dumps(p.memory(os.getpid(), 'VmHWM')))")
    )
    for pipeline in ("cropped", "antialiased"):
        for name in forms:
            setup.say(f"memory: {name}, {pipeline}")
            many = name == "vindr-raw" and pipeline == "cropped"
            count = setup.size(20, 200 if many else 20, 2000 if many else 40)
            folder = cohort(setup.scratch, FORMS[name], 2, 2, (320, 256) if setup.tiny else None)
            with setup.folder("memory") as work:
                imports, *steps = answer_of("memory", folder, pipeline, work, count)
            peak = max(high for _, high in steps)
            row = [name, pipeline, str(count), *(f"{mb:.0f}" for mb in (bare, imports[1], peak, peak - bare))]
            table.rows.append(row)
            section.figures[f"{name} {pipeline} peak"] = peak - bare
            section.at_most(f"peak of a worker above the interpreter, {name}, {pipeline}", peak - bare, 250, " MB")
            if many:
                early, late = (max(now for now, _ in part) for part in (steps[EVERY // 4 : EVERY // 2], steps[-EVERY // 4 :]))
                section.at_most(f"growth over the last half of {count} breasts", max(late - early, 0.0), 5, " MB")
    section.tables.append(table)
    return section


def _print_of(statement: str) -> str:
    done = subprocess.run([sys.executable, "-c", statement], cwd=ROOT, env=ENVIRONMENT, capture_output=True, check=True)
    return done.stdout.decode()


def main() -> None:
    """Do so many breasts; print (now, most) in MB after the imports and on the way."""
    from benchmarks.samples import tasks
    from fvpipe.build.sample import make_samples

    folder, pipeline, store, count = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    import distributed  # a worker has it loaded

    assert distributed
    work = tasks(folder, "table", pipeline, store)
    weights = [_weight()]
    for step in range(EVERY):
        for number in range(max(1, count // EVERY // len(work))):
            given = [replace(task, store=str(store / f"{step}-{number}")) for task in work]
            assert all(made.computed for made in make_samples(given))
            shutil.rmtree(given[0].store)
        weights.append(_weight())
    print(json.dumps(weights))


def _weight() -> tuple[float, float]:
    return memory(os.getpid(), "VmRSS"), memory(os.getpid(), "VmHWM")


if __name__ == "__main__":
    main()
