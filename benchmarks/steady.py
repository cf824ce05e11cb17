"""Two workers against one in steady state: the index is read, pools of workers stand, everything is warm; and Dask's cost.

A rate is the sum of the workers' own rates, each from the start to its own last batch: the time in which one worker is idle
at the end counts in `builds`. The limit of the machine is measured beside it: plain loops in two independent processes, which
share its memory and caches, against one of them alone. Dask's share is what one worker's time has beyond that of a plain loop.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace

from rich.table import Table

from benchmarks.cohort import FORMS, cohort
from benchmarks.contenders import Contender, tasks
from benchmarks.measure import WARM, Report, Setup, interleaved
from fvpipe.build.sample import SampleTask, make_samples
from fvpipe.execution.workers import Workers, WorkerSettings

SECONDS = 3.0  # of work for one worker at least: batches and clocks are coarse


def run(setup: Setup) -> Report:
    """Measure every form by `cropped`, and JPEG 2000 by `antialiased`."""
    report = Report("Two workers against one, in steady state")
    columns = ["form", "pipeline", "breasts", "plain loop", "one worker", "two workers", "two / one", "Dask's share"]
    columns += ["two plain loops", "two plain loops / one", "two workers / two plain loops"]
    table = report.table("Breasts a second, medians (least to most)", *columns)
    names = ["cmmd-raw"] if setup.tiny else [form.name for form in FORMS.values() if form.syntax]
    cases = [(name, "cropped") for name in names] + ([] if setup.tiny else [("vindr-j2k", "antialiased")])
    with ExitStack() as stack:
        pools = {count: stack.enter_context(Workers(WorkerSettings(count))) for count in (1, 2)}
        for name, pipeline in cases:
            _measure(setup, name, pipeline, pools, report, table)
        batch = min(_seconds_a_batch(pools[2], 50 if setup.tiny else 1000) for _ in range(setup.runs))
    report.values["batch"] = batch
    report.notes.append(f"An empty batch costs the scheduler and the calling process {batch * 1000:.2g} ms.")
    return report


def stamped(batch: list[SampleTask]) -> list[tuple[int, float, bool]]:
    """On a worker: make the samples; return the worker's process, the time, and whether each sample was computed."""
    results = make_samples(batch)
    return [(os.getpid(), time.monotonic(), result.computed) for result in results]


def _seconds_a_batch(pool: Workers, batches: int) -> float:
    begun = time.perf_counter()
    assert sum(len(batch) for batch in pool.run(list, range(batches))) == batches
    return (time.perf_counter() - begun) / batches


def _measure(setup: Setup, name: str, pipeline: str, pools: dict[int, Workers], report: Report, table: Table) -> None:
    form = FORMS[name]
    setup.say(f"steady: {form.title}, {pipeline}")
    folder = cohort(setup, form)
    with ExitStack() as stack, setup.folder("steady") as work:
        arguments = [[folder, "table", pipeline, work / which] for which in "ab"]
        loops = [stack.enter_context(closing(Contender(sys.executable, "samples", each, WARM))) for each in arguments]
        threads = stack.enter_context(ThreadPoolExecutor(len(loops)))

        def plain(contenders: list[Contender]) -> float:
            """Breasts a second of loops that run at the same time."""
            passes = threads.map(lambda contender: contender.go(0.0 if setup.tiny else SECONDS / 2), contenders)
            return sum(1 / wall for _, wall in passes)

        once = tasks(folder, "table", pipeline, work / "index")
        store, number = work / "store", iter(range(10**9))

        def turn(workers: int, count: int) -> float:
            """Breasts a second of a pool; the same breasts into new stores, so that none has them."""
            repeated = once * (count // len(once))
            given = [replace(task, store=str(store / f"pass-{next(number)}")) for task in repeated]
            begun, breasts, ends = time.monotonic(), Counter[int](), dict[int, float]()
            for batch in pools[workers].run(stamped, given):
                for answer in batch:
                    assert isinstance(answer, tuple)
                    worker, ends[worker], computed = answer
                    breasts[worker] += computed
            assert breasts.total() == len(given)
            shutil.rmtree(store)
            return sum(breasts[worker] / (ends[worker] - begun) for worker in breasts)

        rate = max(turn(1, 4 * len(once)) for _ in range(2))
        turn(2, 8 * len(once))  # warm
        count = max(len(once) * 10, round(rate * (0.1 if setup.tiny else SECONDS)) // len(once) * len(once))
        turns: dict[str, Callable[[], float]] = {"loop": lambda: plain(loops[:1]), "loops": lambda: plain(loops)}
        turns |= {"one": lambda: turn(1, count), "two": lambda: turn(2, count)}
        measured = interleaved(setup.runs, turns)
    one, two, loop, both = (measured[what].median for what in ("one", "two", "loop", "loops"))
    row = [form.title, pipeline, str(count), *(str(measured[what]) for what in ("loop", "one", "two")), f"{two / one:.2f}"]
    table.add_row(*row, f"{1 - one / loop:.1%}", str(measured["loops"]), f"{both / loop:.2f}", f"{two / both:.2f}")
    report.values[f"{name} {pipeline} two workers"] = two / one
    report.bound(f"two workers / one, {name}, {pipeline}", two / one, ">=", 1.85)
