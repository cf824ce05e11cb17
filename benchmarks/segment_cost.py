"""CPU time of the segmentation of an image, on simulated images of archives; with `--before CHECKOUT` also of an older fvpipe.

Versions take turns image by image, each in a process of its own with one thread; an image counts with the median of five.
Negatives are left out: older versions wrongly accept them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields
from itertools import count, islice
from pathlib import Path

import numpy as np

from benchmarks.measure import ROOT, Report, Setup, short
from tests.support.archive import archive_case, draw_archive

FIRST_SEED = 30000  # of the images

WORKER = """
import pickle, sys, time
import cv2
from fvpipe.config.pipeline import Segment
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.segmentation import segment
from fvpipe.types import Edge
cv2.setNumThreads(1)
for line in sys.stdin:
    with open(line.strip(), "rb") as file:
        values = pickle.load(file)
    image = DecodedImage(**values | {"chest_wall": Edge(values["chest_wall"])})
    times = []
    for _ in range(6):  # the first warms up
        begun = time.process_time_ns()
        segment(image, Segment(method="otsu_log"))
        times.append(time.process_time_ns() - begun)
    print(sorted(times[1:])[2] / 1e6, flush=True)
"""
"""Reads images by the path of their pickle, and answers with milliseconds; fvpipe is that of its PYTHONPATH."""


def run(setup: Setup) -> Report:
    """Measure this checkout, and the older one if there is one."""
    report = Report("Cost of the segmentation")
    checkouts = {"before": setup.before, "now": ROOT} if setup.before else {"now": ROOT}
    with setup.folder("segment_cost") as work, ExitStack() as stack:
        workers = [stack.enter_context(_worker(checkout, work)) for checkout in checkouts.values()]
        files = islice(_images(work / "image"), setup.size(2, 40, 120))
        times = np.array([[_answer(worker, file) for worker in workers] for file in files])
    table = report.table(f"CPU ms an image, {len(times)} images", "version", "median", "mean")
    for name, each in zip(checkouts, times.T, strict=True):
        table.add_row(name, short(float(np.median(each))), short(float(each.mean())))
        report.values[name] = float(np.median(each))
    if setup.before:
        before, now = times.sum(axis=0)
        ratio = float(np.median(times[:, 1] / times[:, 0]))
        report.notes.append(f"Now / before: of the sums {now / before:.2f}, median of an image's ratios {ratio:.2f}.")
    return report


def _worker(checkout: Path, folder: Path) -> subprocess.Popen[str]:
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = os.environ | single | {"PYTHONPATH": str(checkout.absolute())}
    command = [sys.executable, "-c", WORKER]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder, env=environment)


def _images(file: Path) -> Iterator[Path]:
    """The file, each time with another image in it."""
    for case in map(archive_case, count(FIRST_SEED)):
        if not case.negative:
            image = draw_archive(case).image
            values = {field.name: getattr(image, field.name) for field in fields(image)}
            file.write_bytes(pickle.dumps(values | {"chest_wall": image.chest_wall.value}))
            yield file


def _answer(worker: subprocess.Popen[str], file: Path) -> float:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{file}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())
