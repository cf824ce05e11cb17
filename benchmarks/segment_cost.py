"""CPU time of the segmentation against that of an older checkout, on simulated images of archives.

`python -m benchmarks.segment_cost CHECKOUT [COUNT] [FIRST]`. Both versions take turns image by image, each in a process of its
own with one thread; an image counts with the median of five. Negatives are left out: the older version wrongly accepts them.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np

from tests.support.archive import archive_case, draw_archive

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


def main() -> None:
    """Print medians, sums and ratios."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.segment_cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkout", type=Path, help="the older checkout")
    parser.add_argument("count", nargs="?", type=int, default=120, help="number of images (120)")
    parser.add_argument("first", nargs="?", type=int, default=30000, help="first seed (30000)")
    chosen = parser.parse_args()
    found, seed = list[list[float]](), chosen.first
    single = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "image"
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=folder,
                env=os.environ | single | {"PYTHONPATH": str(checkout.absolute())},
            )
            for checkout in (chosen.checkout, Path())
        ]
        while len(found) < chosen.count:
            case, seed = archive_case(seed), seed + 1
            if case.negative:
                continue
            image = draw_archive(case).image
            values = {field.name: getattr(image, field.name) for field in fields(image)}
            file.write_bytes(pickle.dumps(values | {"chest_wall": image.chest_wall.value}))
            found.append([_answer(worker, file) for worker in workers])
        for worker in workers:
            worker.communicate(timeout=60)
    times = np.array(found)
    medians, sums, ratios = np.median(times, axis=0), times.sum(axis=0), times[:, 1] / times[:, 0]
    print(f"{len(times)} images, milliseconds before and now: medians {medians[0]:.1f} and {medians[1]:.1f}")
    print(f"now / before: of the sums {sums[1] / sums[0]:.2f}, of the medians {medians[1] / medians[0]:.2f}, ", end="")
    print(f"median of an image's ratios {np.median(ratios):.2f}")


def _answer(worker: subprocess.Popen[str], file: Path) -> float:
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{file}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


if __name__ == "__main__":
    main()
