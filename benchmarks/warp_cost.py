"""Cost of the equal-area warp: CPU time of the pipeline `adaptive` against `antialiased` and `each`, a view.

JPEG 2000 is decoded at a reduced resolution by all three; uncompressed images are whole. The pipelines take turns breast by
breast, each run of a breast is whole (read to sample), and the least of several runs counts: the machine is never quite idle.
"""

from __future__ import annotations

import statistics
from functools import partial

import cv2

from benchmarks.antialiased import films, milliseconds
from benchmarks.cohort import FORMS, cohort
from benchmarks.contenders import tasks
from benchmarks.measure import Report, Setup, interleaved, short
from fvpipe.build.sample import SampleTask
from fvpipe.config.pipeline import Pipeline, load_pipeline

BOUNDS = {"vindr-j2k": 8.0, "cbis-j2k": 8.0, "vindr-raw": 40.0, "cbis": 40.0}  # CPU ms a view more than `antialiased`


def run(setup: Setup) -> Report:
    """Measure simulated and real images, reduced and whole."""
    cv2.setNumThreads(1)
    report = Report("Cost of the equal-area warp")
    names = ("antialiased", "each", "adaptive")
    table = report.table("CPU ms a view, median of breasts", "images", *names, "adaptive - antialiased", "adaptive - each")
    pipelines = {name: load_pipeline(name)[1] for name in names}
    for form, bound in list(BOUNDS.items())[: setup.size(1, 4, 4)]:
        setup.say(f"warp_cost: {form}")
        count = setup.size(2, 2, 8)
        folder = films(setup) if form == "cbis-j2k" else cohort(setup, FORMS[form], count, count, (1280, 1024))
        with setup.folder("warp_cost") as work:
            given = tasks(folder, "cbis" if form.startswith("cbis") else "table", "antialiased", work)
        taken = [_least(task, pipelines, setup.size(1, 7, 15)) for task in given]
        found = {name: statistics.median(each[name] for each in taken) for name in names}
        more = {name: statistics.median(each["adaptive"] - each[name] for each in taken) for name in names[:2]}
        table.add_row(form, *(short(found[name]) for name in names), *(short(ms) for ms in more.values()))
        report.values |= {f"{form} {name}": ms for name, ms in found.items()}
        report.bound(f"adaptive - antialiased, {form}", more["antialiased"], "<=", bound, "ms a view")
    return report


def _least(task: SampleTask, pipelines: dict[str, Pipeline], runs: int) -> dict[str, float]:
    """CPU milliseconds a view of one breast by each pipeline."""
    taken = interleaved(runs, {name: partial(milliseconds, [task], pipeline) for name, pipeline in pipelines.items()})
    return {name: min(each) / len(task.images) for name, each in taken.items()}
