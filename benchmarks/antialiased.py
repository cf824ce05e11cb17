"""Gain and loss of decoding JPEG 2000 at a reduced resolution, as the pipeline `antialiased` does.

Its images are compared with those of the same pipeline with `resize.method: area`, which decodes every image whole, by
structural similarity and mean absolute difference: on simulated mammograms in VinDr-Mammo's form and on the real CBIS-DDSM
films, encoded again as lossless JPEG 2000.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless
from skimage.metrics import structural_similarity

from benchmarks.cohort import FORMS, cohort
from benchmarks.contenders import tasks
from benchmarks.measure import Report, Runs, Setup, interleaved, short
from fvpipe.build.sample import SampleTask, make_sample
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.header import parse_header
from fvpipe.imaging.canvas import crop_levels, frame_level
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation.segment import segment
from fvpipe.types import FusedSample


def run(setup: Setup) -> Report:
    """Measure both kinds of image."""
    cv2.setNumThreads(1)
    report = Report("JPEG 2000 decoded at a reduced resolution")
    columns = ["images", "breasts", "views by halvings", "SSIM median", "least", "mean absolute difference median", "most"]
    columns += ["SSIM with the same boxes median", "least"]
    table = report.table("`antialiased` against the same with `resize.method: area`, which decodes whole", *columns)
    columns = ["images", "antialiased", "area, decoded whole", "cropped", "cropped / antialiased"]
    times = report.table("CPU ms a pair, median (least to most)", *columns)
    _, antialiased = load_pipeline("antialiased")
    _, cropped = load_pipeline("cropped")
    whole = antialiased.model_copy(update={"resize": antialiased.resize.model_copy(update={"method": "area"})})
    pipelines = {"antialiased": antialiased, "whole": whole, "cropped": cropped}
    count = setup.size(2, 2, 8)
    simulated = cohort(setup, FORMS["vindr-j2k"], count, count, (1280, 1024))
    kinds = {"vindr": (FORMS["vindr-j2k"].title, simulated, "table")}
    if not setup.tiny:
        kinds["cbis"] = ("CBIS-DDSM films as JPEG 2000 lossless", films(setup), "cbis")
    for key, (title, folder, adapter) in kinds.items():
        setup.say(f"antialiased: {title}")
        with setup.folder("antialiased") as work:
            given = tasks(folder, adapter, "antialiased", work)
        levels, similar, different, same_boxes = Counter[int](), Runs(), Runs(), Runs()
        for task in given:
            built, expected = (sample(task, pipeline).image / 65535 for pipeline in (antialiased, whole))
            similar.append(ssim(built, expected))
            different.append(float(np.abs(built - expected).mean()))
            scales, fused = with_boxes_of_whole_images(task)
            levels.update(scale.bit_length() - 1 for scale in scales)
            same_boxes.append(ssim(fused.image / 65535, expected))
        by_level = ", ".join(f"{n} by {level}" for level, n in sorted(levels.items()))
        ends = [similar.median, min(similar), different.median, max(different), same_boxes.median, min(same_boxes)]
        table.add_row(title, str(len(given)), by_level, *(f"{value:.4f}" for value in ends))
        turns = {name: partial(milliseconds, given[:2], pipeline) for name, pipeline in pipelines.items()}
        taken = interleaved(setup.runs, turns)
        ratio = taken["cropped"].median / taken["antialiased"].median
        times.add_row(title, *map(str, taken.values()), short(ratio))
        report.values |= {f"{key} ssim least": min(similar), f"{key} ssim least, same boxes": min(same_boxes)}
        report.bound(f"SSIM with the same boxes, least, {key}", round(min(same_boxes), 4), ">=", 0.99, "")
        report.bound(f"SSIM as built, least, {key}", round(min(similar), 4), ">=", 0.99, "")
        if key == "vindr":
            report.bound("cropped / antialiased on JPEG 2000, in one process", ratio, ">=", 8)
    return report


def films(setup: Setup) -> Path:
    """The CBIS-DDSM films as lossless JPEG 2000, made once."""
    folder = setup.scratch / "cohorts" / "cbis-j2k"
    if not folder.is_dir():
        unfinished = Path(shutil.copytree(cohort(setup, FORMS["cbis"]), folder.with_suffix(".part"), dirs_exist_ok=True))
        for path in unfinished.rglob("*.dcm"):
            film = pydicom.dcmread(path)
            frame = imagecodecs.jpeg2k_encode(film.pixel_array, level=0, codecformat="j2k", reversible=True)
            film.PixelData = encapsulate([bytes(frame)])
            film["PixelData"].is_undefined_length = True
            film["PixelData"].VR = "OB"
            film.file_meta.TransferSyntaxUID = JPEG2000Lossless
            film.save_as(path)
        unfinished.rename(folder)
    return folder


def milliseconds(given: list[SampleTask], pipeline: Pipeline) -> float:
    """CPU milliseconds a breast."""
    begun = time.process_time()
    for task in given:
        sample(task, pipeline)
    return (time.process_time() - begun) * 1000 / len(given)


def sample(task: SampleTask, pipeline: Pipeline) -> FusedSample:
    """One breast by a pipeline, without the sample store."""
    made = make_sample(replace(task, pipeline=pipeline, store=""))
    assert isinstance(made.sample, FusedSample), made
    return made.sample


def with_boxes_of_whole_images(task: SampleTask) -> tuple[list[int], FusedSample]:
    """Source pixels a decoded pixel, by view; and the sample of reduced images, cropped as whole ones are."""
    data = [(Path(task.root) / record.path).read_bytes() for record in task.images]
    files = [(each, parse_header(each, "", task.policy)) for each in data]
    cc, mlo = (segment(decode_image(data, header), task.pipeline.segment) for data, header in files)
    frames = [frame_level((record.rows, record.columns), task.pipeline) for record in task.images]
    levels = [min(pair) for pair in zip(frames, crop_levels((cc, mlo), task.pipeline), strict=True)]
    first, second = (decode_image(data, header, level=n) for (data, header), n in zip(files, levels, strict=True))
    return [first.scale, second.scale], fuse((first, second), (cc, mlo), task.pipeline)


def ssim(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Structural similarity of two images of range 1, as Wang, Bovik, Sheikh and Simoncelli (2004) define it."""
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return float(structural_similarity(first, second, **options))
