"""Where the time of a pair goes: by step, as `--profile` counts it, and by function of the decoding and imaging packages.

A function's time includes that of all it calls. It is counted by cProfile, so that small functions look larger than they are.
"""

from __future__ import annotations

import cProfile
import pstats
import shutil
import statistics
from collections import Counter
from pathlib import Path

import fvpipe
from benchmarks.cohort import FORMS, UNCOMPRESSED, cohort
from benchmarks.measure import Report, Setup, in_new_process, short

STEPS = ("read", "header", "decode", "segment", "fuse", "write")
PIPELINES = ("direct", "cropped", "antialiased")
SHOWN = 0.03  # of the time of a pair: functions that take less are not listed


def run(setup: Setup) -> Report:
    """Measure every form; list functions where decoding is not nearly all of the time."""
    report = Report("Where the time goes")
    table = report.table("ms a pair by the clock, median by step", "form", "pipeline", *STEPS, "all")
    for name in ["cmmd-raw"] if setup.tiny else FORMS:
        form = FORMS[name]
        setup.say(f"steps: {form.title}")
        folder = cohort(setup, form, tiny=(640, 512))
        passes = setup.size(1, 15, 15) if name in UNCOMPRESSED else setup.size(1, 3, 5)
        for pipeline in PIPELINES:
            with setup.folder("steps") as store:
                steps, functions = in_new_process(profiled, folder, form.adapter, pipeline, store, passes)
            whole = sum(steps.values())
            table.add_row(form.title, pipeline, *(short(steps.get(step, 0.0)) for step in STEPS), short(whole))
            report.values |= {f"{name} {pipeline} {step}": ms for step, ms in steps.items()}
            if name in UNCOMPRESSED and pipeline == "cropped":
                inside = report.table(f"Functions, {form.title}, {pipeline}", "function", "calls a pair", "ms a pair")
                for function, calls, ms in functions:
                    if ms >= SHOWN * whole:
                        inside.add_row(f"`{function}`", short(calls), short(ms))
    return report


def profiled(
    folder: Path, adapter: str, pipeline: str, store: Path, passes: int
) -> tuple[dict[str, float], list[tuple[str, float, float]]]:
    """Milliseconds a pair of each step; and of each function, the slowest first, its calls and milliseconds a pair."""
    from benchmarks.contenders import tasks
    from fvpipe.build.sample import make_samples

    work = tasks(folder, adapter, pipeline, store)

    def once() -> dict[str, float]:
        shutil.rmtree(store, ignore_errors=True)
        seconds = Counter[str]()
        for result in make_samples(work):
            seconds.update(result.seconds)
        return {step: 1000 * s / len(work) for step, s in seconds.items()}

    once()
    runs = [once() for _ in range(passes)]
    profile = cProfile.Profile(builtins=False)
    for _ in range(passes):
        profile.runcall(once)
    package, count, functions = Path(fvpipe.__file__).parent, passes * len(work), []
    for (file, _, name), (_, calls, _, seconds, _) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
        module = Path(file).with_suffix("").relative_to(package).parts if Path(file).is_relative_to(package) else ()
        if module[:1] in {("dicom",), ("imaging",)} and not name.startswith("<"):
            functions.append((".".join((*module, name)), calls / count, 1000 * seconds / count))
    steps = {step: statistics.median(run[step] for run in runs) for step in runs[0]}
    return steps, sorted(functions, key=lambda each: -each[2])
