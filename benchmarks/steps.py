"""Where the time of a pair goes: step by step as `--profile` counts it, and which functions take it within the steps.

`python -m benchmarks.steps FOLDER ADAPTER PIPELINE STORE PASSES` prints both. A function's time is that of all that it
calls, counted by a wrapper around it, so that small ones look a little larger than they are.
"""

from __future__ import annotations

import functools
import json
import shutil
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from benchmarks.cohort import FORMS, UNCOMPRESSED, cohort
from benchmarks.measure import Section, Setup, Table, answer_of, short

STEPS = ("read", "header", "decode", "segment", "fuse", "write")
PIPELINES = ("direct", "cropped", "antialiased")
PACKAGES = ("dicom.", "imaging.")
SHOWN = 0.03  # of the whole, at least
PASSES = 15


def run(setup: Setup) -> Section:
    """Measure every form; look inside where the decoder is not nearly all of it."""
    section = Section("steps", "Where the time goes")
    table = Table("ms a pair on the clock, median by step", ["form", "pipeline", *STEPS, "all"], [])
    inside = []
    for name in ["cmmd-raw"] if setup.tiny else FORMS:
        form = FORMS[name]
        setup.say(f"steps: {form.title}")
        folder = cohort(setup.scratch, form, 2, 2, (640, 512) if setup.tiny else None)
        for pipeline in PIPELINES:
            with setup.folder("steps") as store:
                passes = setup.size(1, PASSES, PASSES) if form.name in UNCOMPRESSED else setup.size(1, 3, 5)
                adapter = "table" if form.syntax else "cbis"
                steps, functions = answer_of("steps", folder, adapter, pipeline, store, passes)
            whole = sum(steps.values())
            table.rows.append([form.title, pipeline, *(short(steps.get(step, 0.0)) for step in STEPS), short(whole)])
            section.figures |= {f"{name} {pipeline} {step}": ms for step, ms in steps.items()}
            if name in UNCOMPRESSED and pipeline == "cropped":
                rows = [[f"`{f}`", short(calls), short(ms)] for f, (calls, ms) in functions.items() if ms >= SHOWN * whole]
                inside.append(Table(f"Functions, {form.title}, {pipeline}: ms a pair", ["function", "calls", "ms"], rows))
    section.tables += [table, *inside]
    return section


def main() -> None:
    """Print milliseconds a pair: of each step, and of each function with its calls."""
    from benchmarks.samples import tasks
    from fvpipe.build.sample import make_samples

    folder, adapter, pipeline, store, passes = (*sys.argv[1:5], int(sys.argv[5]))
    work = tasks(Path(folder), adapter, pipeline, Path(store))

    def once() -> dict[str, float]:
        shutil.rmtree(store, ignore_errors=True)
        seconds = Counter[str]()
        for made in make_samples(work):
            seconds.update(made.seconds)
        return {step: 1000 * s / len(work) for step, s in seconds.items()}

    once()
    runs = [once() for _ in range(passes)]
    steps = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    functions = _watched()
    for _ in range(passes):
        once()
    count = passes * len(work)
    found = sorted(((f, calls / count, ns / 1e6 / count) for f, (calls, ns) in functions.items()), key=lambda each: -each[2])
    print(json.dumps([steps, {f: (calls, ms) for f, calls, ms in found}]))


def _watched() -> dict[str, list[int]]:
    """Calls and nanoseconds of every function of our modules, from now on."""
    counted: dict[str, list[int]] = {}

    def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
        count = counted[f"{function.__module__.removeprefix('fvpipe.')}.{function.__name__}"] = [0, 0]

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            begun = time.perf_counter_ns()
            try:
                return function(*arguments, **named)
            finally:
                count[0] += 1
                count[1] += time.perf_counter_ns() - begun

        return call

    def ours(value: object) -> bool:
        if not isinstance(value, FunctionType) or "contextmanager" in repr(value):
            return False
        return value.__module__.removeprefix("fvpipe.").startswith(PACKAGES)

    made: dict[Callable[..., Any], Callable[..., Any]] = {}
    for name, module in list(sys.modules.items()):
        for key, value in list(vars(module).items()) if name.startswith("fvpipe") else ():
            if ours(value):
                made[value] = made.get(value) or wrapped(value)
                setattr(module, key, made[value])
    return counted


if __name__ == "__main__":
    main()
