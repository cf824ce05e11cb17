"""Two workers against one in steady state, by syntax: start-up over, index read, everything warm; and what Dask costs.

The pools stand side by side and take turns. Dask's share is what one worker's wall time has beyond the same work in a plain
loop of this process. What the machine itself allows is measured beside: two plain loops in two processes that know nothing of
each other, but share its memory and caches, against one of them alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.cohort import FORMS, Form, cohort
from benchmarks.measure import ENVIRONMENT, KEEP_MEMORY, Section, Setup, Table, answer_of, interleaved
from benchmarks.serve import Contender
from fvpipe.workers import Workers, WorkerSettings

PIPELINES = ("cropped", "antialiased")  # the second where it is made for: JPEG 2000
SECONDS = 2.0  # of work for one worker at least, so that neither batches nor clocks are too coarse


def run(setup: Setup) -> Section:
    """Measure in a process that began with the workers' memory settings."""
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != KEEP_MEMORY["MALLOC_TRIM_THRESHOLD_"]:
        return _in_own_process(setup)
    section = Section("steady", "Two workers against one, in steady state")
    columns = ["form", "pipeline", "breasts", "plain loop", "one worker", "two workers", "two / one", "Dask's share"]
    columns += ["two plain loops / one", "two workers / two plain loops"]
    table = Table("Breasts a second, medians (least to most)", columns, [])
    forms = [FORMS["cmmd-raw"]] if setup.tiny else [form for form in FORMS.values() if form.syntax]
    with ExitStack() as stack:
        pools = {count: stack.enter_context(Workers(WorkerSettings(count))) for count in (0, 1, 2)}
        for pipeline in PIPELINES[: 1 if setup.tiny else None]:
            for form in forms if pipeline == "cropped" else [FORMS["vindr-j2k"]]:
                _measure(setup, form, pipeline, pools, section, table)
        batch = min(_seconds_a_batch(pools[2], 50 if setup.tiny else 1000) for _ in range(setup.runs))
        section.figures["batch"] = batch
    section.tables.append(table)
    section.notes.append(f"A batch that does nothing costs the scheduler and the calling process {batch * 1000:.2g} ms.")
    return section


def nothing(tasks: list[int]) -> list[int]:
    """On a worker: nothing."""
    return tasks


def _seconds_a_batch(pool: Workers, batches: int) -> float:
    begun = time.perf_counter()
    assert sum(len(batch) for batch in pool.run(nothing, range(batches))) == batches
    return (time.perf_counter() - begun) / batches


def _measure(setup: Setup, form: Form, pipeline: str, pools: dict[int, Workers], section: Section, table: Table) -> None:
    from benchmarks.samples import tasks
    from fvpipe.flow import Task, make_samples

    setup.say(f"steady: {form.title}, {pipeline}")
    folder = cohort(setup.scratch, form, 2, 2, (320, 256) if setup.tiny else None)
    with ExitStack() as stack, setup.folder("steady") as work:
        loops = []
        for name in ("a", "b"):
            arguments = [folder, "table", pipeline, work / name]
            loops.append(Contender(sys.executable, "samples", arguments, {**ENVIRONMENT, **KEEP_MEMORY}))
            stack.callback(loops[-1].close)
            loops[-1].go(0.0)  # warm
        threads = stack.enter_context(ThreadPoolExecutor(len(loops)))

        def plain(contenders: list[Contender]) -> float:
            """Breasts a second of loops that run at the same time."""
            passes = threads.map(lambda contender: contender.go(0.0 if setup.tiny else SECONDS / 2), contenders)
            return sum(1 / each.wall for each in passes)

        once = tasks(folder, "table", pipeline, work / "index")
        stores = iter(range(10**9))

        def all_of(count: int) -> list[Task]:
            """The same breasts again and again, each time into another store: the store never has them."""
            return [replace(task, store=str(work / f"{next(stores)}")) for _ in range(count // len(once)) for task in once]

        def turn(workers: int, count: int) -> float:
            given = all_of(count)
            begun = time.perf_counter()
            done = sum(made.computed for batch in pools[workers].run(make_samples, given) for made in batch)
            seconds = time.perf_counter() - begun
            assert done == len(given)
            for task in given:
                shutil.rmtree(task.store)
            return len(given) / seconds

        rate = max(turn(0, len(once)) for _ in range(2))
        count = max(len(once) * 8, round(rate * (0.1 if setup.tiny else SECONDS)) // len(once) * len(once))
        turns: dict[str, Callable[[], float]] = {str(w): lambda w=w: turn(w, count) for w in pools}
        for workers in pools:
            turn(workers, 4 * len(once))  # warm
        turns |= {"loop": lambda: plain(loops[:1]), "loops": lambda: plain(loops)}
        measured = interleaved(setup.runs, turns)
    alone, one, two = (measured[str(workers)].median for workers in (0, 1, 2))
    rates = [str(measured[str(workers)]) for workers in (0, 1, 2)]
    loop, both = measured["loop"].median, measured["loops"].median
    row = [form.title, pipeline, str(count), *rates, f"{two / one:.2f}", f"{1 - one / alone:.1%}"]
    table.rows.append([*row, f"{both / loop:.2f}", f"{two / both:.2f}"])
    section.figures[f"{form.name} {pipeline} two plain loops"] = both / loop
    section.figures[f"{form.name} {pipeline} breasts a second"] = one
    section.figures[f"{form.name} {pipeline} two workers"] = two / one
    section.figures[f"{form.name} {pipeline} dask seconds a breast"] = max(1 / one - 1 / alone, 0)
    section.at_least(f"two workers against one, {form.name}, {pipeline}", two / one, 1.85)


def _in_own_process(setup: Setup) -> Section:
    """The loop of this process is a contender too: it must have the memory settings that only a new process takes."""
    from benchmarks.page import section_of

    size = "full" if setup.full else "tiny" if setup.tiny else "quick"
    return section_of(answer_of("steady", setup.scratch, setup.runs, size))


if __name__ == "__main__":
    own = Setup(Path(sys.argv[1]), int(sys.argv[2]), full=sys.argv[3] == "full", tiny=sys.argv[3] == "tiny")
    print(json.dumps(asdict(run(own))))
