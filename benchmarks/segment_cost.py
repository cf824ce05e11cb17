"""CPU time of the segmentation of an image, on simulated images of archives; with `--before CHECKOUT` also of an older fvpipe.

Checkouts take turns image by image, each in a new process with one thread; an image counts with the median of five.
Negatives are left out: older versions wrongly accept them.
"""

from __future__ import annotations

import pickle
import sys
from dataclasses import fields
from itertools import count, islice

import numpy as np

from benchmarks.measure import Report, Setup, command, environment_of, short
from tests.support.archive import archive_case, draw_archive

FIRST_SEED = 30000  # of the images

TIMED = """
import pickle, sys, time
import cv2
from fvpipe.config.pipeline import Segment
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation.segment import segment
from fvpipe.types import Edge
cv2.setNumThreads(1)
with open(sys.argv[1], "rb") as file:
    values = pickle.load(file)
image = DecodedImage(**values | {"chest_wall": Edge(values["chest_wall"])})
times = []
for _ in range(6):  # the first warms up
    begun = time.process_time_ns()
    segment(image, Segment(method="otsu_log"))
    times.append(time.process_time_ns() - begun)
print(sorted(times[1:])[2] / 1e6)
"""
"""Prints milliseconds of the image whose values a pickle has; fvpipe is that of the PYTHONPATH."""


def run(setup: Setup) -> Report:
    """Measure this checkout, and the older one if there is one."""
    report = Report("Cost of the segmentation")
    cases = (case for case in map(archive_case, count(FIRST_SEED)) if not case.negative)
    rows = []
    with setup.folder("segment_cost") as work:
        for case in islice(cases, setup.size(2, 40, 120)):
            image = draw_archive(case).image
            values = {field.name: getattr(image, field.name) for field in fields(image)}
            (work / "image").write_bytes(pickle.dumps(values | {"chest_wall": image.chest_wall.value}))
            words = [sys.executable, "-c", TIMED, work / "image"]
            rows.append([float(command(words, work, environment_of(each)).output) for each in setup.checkouts.values()])
    table = report.table(f"CPU ms an image, {len(rows)} images", "version", "median", "mean")
    times = dict(zip(setup.checkouts, np.array(rows).T, strict=True))
    for name, each in times.items():
        table.add_row(name, short(float(np.median(each))), short(float(each.mean())))
        report.values[name] = float(np.median(each))
    if setup.before:
        sums, ratio = times["now"].sum() / times["before"].sum(), float(np.median(times["now"] / times["before"]))
        report.notes.append(f"Now / before: of the sums {sums:.2f}, median of an image's ratios {ratio:.2f}.")
    return report
