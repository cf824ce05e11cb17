"""Two workers against one in steady state, by syntax: start-up over, index read, everything warm; and what Dask costs.

The pools stand side by side and take turns. A rate is the sum of the workers' own, each from the start to its own last batch:
that one of them idles at the end is no steady state, and a part of `builds`. What the machine itself allows is measured beside:
two plain loops in two processes that know nothing of each other, but share its memory and caches, against one of them alone.
Dask's share is what one worker's time has beyond that loop's.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from benchmarks.cohort import FORMS, Form, cohort
from benchmarks.measure import ENVIRONMENT, Section, Setup, Table, interleaved
from benchmarks.serve import Contender
from fvpipe.build.sample import SampleTask, make_samples
from fvpipe.execution.cluster import MALLOC_ENVIRONMENT
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.types import Digest

PIPELINES = ("cropped", "antialiased")  # the second where it is made for: JPEG 2000
SECONDS = 3.0  # of work for one worker at least, so that neither batches nor clocks are too coarse


def run(setup: Setup) -> Section:
    """Measure every form."""
    section = Section("steady", "Two workers against one, in steady state")
    columns = ["form", "pipeline", "breasts", "plain loop", "one worker", "two workers", "two / one", "Dask's share"]
    columns += ["two plain loops", "two plain loops / one", "two workers / two plain loops"]
    table = Table("Breasts a second, medians (least to most)", columns, [])
    forms = [FORMS["cmmd-raw"]] if setup.tiny else [form for form in FORMS.values() if form.syntax]
    with ExitStack() as stack:
        pools = {count: stack.enter_context(Workers(WorkerSettings(count))) for count in (1, 2)}
        for pipeline in PIPELINES[: 1 if setup.tiny else None]:
            for form in forms if pipeline == "cropped" else [FORMS["vindr-j2k"]]:
                _measure(setup, form, pipeline, pools, section, table)
        batch = min(_seconds_a_batch(pools[2], 50 if setup.tiny else 1000) for _ in range(setup.runs))
        section.figures["batch"] = batch
    section.tables.append(table)
    section.notes.append(f"A batch that does nothing costs the scheduler and the calling process {batch * 1000:.2g} ms.")
    return section


def stamped(tasks: list[SampleTask]) -> list[tuple[int, float, bool]]:
    """On a worker: who it is, when the batch was done, and whether each sample was made."""
    made = make_samples(tasks)
    return [(os.getpid(), time.monotonic(), each.computed) for each in made]


def nothing(tasks: list[int]) -> list[int]:
    """On a worker: nothing."""
    return tasks


def _seconds_a_batch(pool: Workers, batches: int) -> float:
    begun = time.perf_counter()
    assert sum(len(batch) for batch in pool.run(nothing, range(batches))) == batches
    return (time.perf_counter() - begun) / batches


def _measure(setup: Setup, form: Form, pipeline: str, pools: dict[int, Workers], section: Section, table: Table) -> None:
    from benchmarks.samples import tasks

    setup.say(f"steady: {form.title}, {pipeline}")
    folder = cohort(setup.scratch, form, 2, 2, (320, 256) if setup.tiny else None)
    with ExitStack() as stack, setup.folder("steady") as work:
        loops = []
        for name in ("a", "b"):
            arguments = [folder, "table", pipeline, work / name]
            loops.append(Contender(sys.executable, "samples", arguments, {**ENVIRONMENT, **MALLOC_ENVIRONMENT}))
            stack.callback(loops[-1].close)
            loops[-1].go(0.0)  # warm
        threads = stack.enter_context(ThreadPoolExecutor(len(loops)))

        def plain(contenders: list[Contender]) -> float:
            """Breasts a second of loops that run at the same time."""
            passes = threads.map(lambda contender: contender.go(0.0 if setup.tiny else SECONDS / 2), contenders)
            return sum(1 / each.wall for each in passes)

        once = tasks(folder, "table", pipeline, work / "index")
        store, number = work / "store", iter(range(10**9))
        for first in range(16**3):  # as they are in a store that is not new
            (store / f"{first:03x}").mkdir(parents=True)

        def all_of(count: int) -> list[SampleTask]:
            """The same breasts again and again, each time under another name: the store never has them."""
            repeated = [task for _ in range(count // len(once)) for task in once]
            return [replace(task, store=str(store), pipeline_digest=Digest(f"{next(number)}")) for task in repeated]

        def turn(workers: int, count: int) -> float:
            given = all_of(count)
            begun = time.monotonic()
            breasts, ends = Counter[int](), dict[int, float]()
            for batch in pools[workers].run(stamped, given):
                for each in batch:
                    assert isinstance(each, tuple)
                    worker, ends[worker], computed = each[0], each[1], each[2]
                    breasts[worker] += computed
            assert breasts.total() == len(given)
            for file in store.glob("*/*"):
                file.unlink()
            return sum(breasts[worker] / (ends[worker] - begun) for worker in breasts)

        rate = max(turn(1, 4 * len(once)) for _ in range(2))
        turn(2, 8 * len(once))  # warm
        count = max(len(once) * 10, round(rate * (0.1 if setup.tiny else SECONDS)) // len(once) * len(once))
        turns: dict[str, Callable[[], float]] = {str(w): lambda w=w: turn(w, count) for w in pools}
        turns |= {"loop": lambda: plain(loops[:1]), "loops": lambda: plain(loops)}
        measured = interleaved(setup.runs, turns)
    one, two, loop, both = (measured[what].median for what in ("1", "2", "loop", "loops"))
    rates = [str(measured[what]) for what in ("loop", "1", "2")]
    row = [form.title, pipeline, str(count), *rates, f"{two / one:.2f}", f"{1 - one / loop:.1%}"]
    table.rows.append([*row, str(measured["loops"]), f"{both / loop:.2f}", f"{two / both:.2f}"])
    section.figures[f"{form.name} {pipeline} two plain loops"] = both / loop
    section.figures[f"{form.name} {pipeline} breasts a second"] = one
    section.figures[f"{form.name} {pipeline} two workers"] = two / one
    section.figures[f"{form.name} {pipeline} dask seconds a breast"] = max(1 / one - 1 / loop, 0)
    section.at_least(f"two workers against one, {form.name}, {pipeline}", two / one, 1.85)
