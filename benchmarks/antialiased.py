"""What `antialiased` gains by decoding JPEG 2000 no finer than is needed, and what that changes.

The same pipeline twice: with `resize.method: area`, which decodes every image whole, and as it is. Their images are compared
by structural similarity and mean absolute difference, on simulated mammograms in VinDr-Mammo's form and on the real CBIS-DDSM
films, encoded again as lossless JPEG 2000.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless

from benchmarks.cohort import FORMS, cohort
from benchmarks.measure import Section, Setup, Table, interleaved, short
from fvpipe.build.sample import SampleTask, make_sample
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.header import parse_header
from fvpipe.dicom.pixels import decode_image
from fvpipe.imaging.canvas import crop_levels, frame_level
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation import segment
from fvpipe.types import FusedSample

Image = NDArray[np.float64]


def run(setup: Setup) -> Section:
    """Measure both kinds of image."""
    cv2.setNumThreads(1)
    section = Section("antialiased", "JPEG 2000 decoded no finer than is needed")
    table = Table(
        "`antialiased` against the same with `resize.method: area`, which decodes whole",
        [
            "images",
            "breasts",
            "views by halvings",
            "SSIM median",
            "least",
            "mean absolute difference, median",
            "most",
            "SSIM with the same boxes, median",
            "least",
        ],
        [],
    )
    times = Table(
        "CPU ms a pair, median (least to most)",
        ["images", "antialiased", "area, decoded whole", "cropped", "cropped / antialiased"],
        [],
    )
    count = setup.size(2, 2, 8)
    made = cohort(setup.scratch, FORMS["vindr-j2k"], count, count, (1280, 1024) if setup.tiny else None)
    kinds = {"VinDr form, JPEG 2000 lossless": (made, "table")}
    if not setup.tiny:
        kinds["CBIS-DDSM films as JPEG 2000 lossless"] = (films(setup), "cbis")
    for title, (folder, adapter) in kinds.items():
        setup.say(f"antialiased: {title}")
        _measure(setup, title, folder, adapter, section, table, times)
    section.tables += [table, times]
    return section


def films(setup: Setup) -> Path:
    """The CBIS-DDSM films as lossless JPEG 2000, made once."""
    source, folder = cohort(setup.scratch, FORMS["cbis"], 2, 2), setup.scratch / "cohorts" / "cbis-j2k"
    for path in sorted(source.rglob("*.dcm")):
        target = folder / path.relative_to(source)
        if target.is_file():
            continue
        film = pydicom.dcmread(path)
        frame = imagecodecs.jpeg2k_encode(film.pixel_array, level=0, codecformat="j2k", reversible=True)
        film.PixelData = encapsulate([bytes(frame)])
        film["PixelData"].is_undefined_length = True
        film["PixelData"].VR = "OB"
        film.file_meta.TransferSyntaxUID = JPEG2000Lossless
        target.parent.mkdir(parents=True, exist_ok=True)
        film.save_as(target)
    for path in source.rglob("*"):
        if path.is_file() and path.suffix != ".dcm":
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return folder


def _measure(setup: Setup, title: str, folder: Path, adapter: str, section: Section, table: Table, times: Table) -> None:
    from benchmarks.samples import tasks

    _, antialiased = load_pipeline("antialiased")
    _, cropped = load_pipeline("cropped")
    whole = antialiased.model_copy(update={"resize": antialiased.resize.model_copy(update={"method": "area"})})
    with setup.folder("antialiased") as work:
        given = tasks(folder, adapter, "antialiased", work)
    levels: Counter[int] = Counter()
    similar, different, resampled = [], [], []
    for task in given:
        built, expected = (sample(task, pipeline).image / 65535 for pipeline in (antialiased, whole))
        similar.append(ssim(built, expected))
        different.append(float(np.abs(built - expected).mean()))
        scales, drawn = with_boxes_of_whole_pictures(task)
        levels.update(scale.bit_length() - 1 for scale in scales)
        resampled.append(ssim(drawn.image / 65535, expected))
    by_level = ", ".join(f"{n} by {level}" for level, n in sorted(levels.items()))
    figures = [statistics.median(similar), min(similar), statistics.median(different), max(different)]
    figures += [statistics.median(resampled), min(resampled)]
    table.rows.append([title, str(len(given)), by_level, *(f"{figure:.4f}" for figure in figures)])

    def seconds(pipeline: Pipeline) -> float:
        begun = time.process_time()
        for task in given[:2]:
            sample(task, pipeline)
        return (time.process_time() - begun) * 1000 / len(given[:2])

    pipelines = {"antialiased": antialiased, "whole": whole, "cropped": cropped}
    taken = interleaved(setup.runs, {name: lambda p=p: seconds(p) for name, p in pipelines.items()})  # type: ignore[misc]
    ratio = taken["cropped"].median / taken["antialiased"].median
    times.rows.append([title, *(str(taken[name]) for name in pipelines), short(ratio)])
    key = "vindr" if title.startswith("VinDr") else "cbis"
    section.figures |= {
        f"{key} ssim least": min(similar),
        f"{key} ssim least, same boxes": min(resampled),
        f"{key} cropped / antialiased": ratio,
    }
    least = f"{min(resampled):.4f}"
    section.true(f"SSIM of 0.99 against decoding whole, with the same boxes: {title}", least, min(resampled) >= 0.99)
    section.true(f"SSIM of 0.99 against decoding whole, as built: {title}", f"{min(similar):.4f}", min(similar) >= 0.99)
    if key == "vindr":
        section.at_least("cropped against antialiased on JPEG 2000, in one process", ratio, 8)


def sample(task: SampleTask, pipeline: Pipeline) -> FusedSample:
    """One breast, by a pipeline, stored nowhere."""
    made = make_sample(replace(task, pipeline=pipeline, store=""))
    assert isinstance(made.sample, FusedSample), made
    return made.sample


def with_boxes_of_whole_pictures(task: SampleTask) -> tuple[list[int], FusedSample]:
    """Source pixels a stored pixel of each view; and what the resampling alone makes of them, the boxes being the same."""
    contents = [(Path(task.root) / record.path).read_bytes() for record in task.views]
    files = [(data, parse_header(data, "", task.policy)) for data in contents]
    cc, mlo = (segment(decode_image(data, header), task.pipeline.segment) for data, header in files)
    frames = [frame_level((record.rows, record.columns), task.pipeline) for record in task.views]
    levels = [min(pair) for pair in zip(frames, crop_levels((cc, mlo), task.pipeline), strict=True)]
    first, second = (decode_image(data, header, level=n) for (data, header), n in zip(files, levels, strict=True))
    return [first.scale, second.scale], fuse((first, second), (cc, mlo), task.pipeline)


def ssim(first: Image, second: Image) -> float:
    """Structural similarity of two images of range 1 (Wang, Bovik, Sheikh and Simoncelli, 2004).

    With their Gaussian window of 11 x 11 and standard deviation 1.5, over the places where it lies within the image.
    """
    c1, c2 = 0.01**2, 0.03**2

    def mean(image: Image) -> Image:
        return np.asarray(cv2.GaussianBlur(image, (11, 11), 1.5)[5:-5, 5:-5], np.float64)

    x, y = mean(first), mean(second)
    xx, yy, xy = mean(first * first) - x * x, mean(second * second) - y * y, mean(first * second) - x * y
    similar = ((2 * x * y + c1) * (2 * xy + c2)) / ((x * x + y * y + c1) * (xx + yy + c2))
    return float(similar.mean())
