"""Generate the tables and images of the documentation: run it after `make demo` (see `make docs`).

`reasons.md` from the enums; `figures/` from what `fvpipe figures` drew; `films.jpg` and `samples.jpg` from the real films and
their shards; `hand-drawn.jpg` from the films and the boxes that were drawn on them by eye; `adaptive.jpg` from the films.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

import fvpipe
from fvpipe.config.pipeline import load_pipeline
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.decoders import DECODERS, RASTER_DECODERS
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation.segment import segment
from fvpipe.reasons import Flag, Reason
from fvpipe.report.figure_list import read_list
from fvpipe.report.inspect import draw_segmentation
from fvpipe.shards.coordinates import coordinates_of

DOCS = Path(__file__).parent
ROOT = DOCS.parent


FLAG_MEANINGS = {
    Flag.CC_CROP_FALLBACK: "no outline of the CC was accepted: the whole image was used",
    Flag.MLO_CROP_FALLBACK: "the same for the MLO",
    Flag.CC_TRIANGLE: "on the CC Otsu's threshold failed the quality gates and the triangle threshold passed",
    Flag.MLO_TRIANGLE: "the same for the MLO",
    Flag.CC_CONSTANT: "all pixels of the CC are equal",
    Flag.MLO_CONSTANT: "the same for the MLO",
    Flag.CONSTANT_IMAGE: "all pixels of the fused image are equal; it is written as zeros",
    Flag.IMPLANT: "Breast Implant Present is YES in a view",
    Flag.SYNTHETIC: "a view is a 2D image computed from tomosynthesis",
    Flag.SIZES_DIFFER: "the two views differ in rows or columns",
    Flag.VOI_INVALID: "the window or VOI LUT violates the standard and is not applied, or makes the breast a silhouette",
    Flag.CHEST_WALL_CONFLICT: "the breast lies on the opposite edge to that of the header",
    Flag.VOI_ABSENT: "the pipeline applies a window or VOI LUT, which the header of a view lacks",
    Flag.OVERLAY: "a view has an overlay plane; it is not burned in",
    Flag.SHUTTER: "a view has a display shutter; it is not burned in",
    Flag.FOR_PROCESSING: "a view is For Processing (raw), which the data set's `for_processing` accepts",
    Flag.SHARED_PIXELS: "a view has the pixels of another patient's, however it lies; a split that separates them is rejected",
    Flag.AREAS_DISAGREE: "the areas of the breast (`breast_area`, in mm2 where known) are more than 3 times apart",
    Flag.MEANS_DISAGREE: "the mean brightnesses of the breast (`breast_mean`) are more than 3 times apart",
    Flag.BITS_DIFFER: "the two views differ in BitsStored, sign, rescale, LUT or polarity: their values may not be comparable",
    Flag.VENDORS_DIFFER: "the two views differ in Manufacturer",
    Flag.DATES_DIFFER: "the two views were acquired on different days",
    Flag.REORIENTED: "a view was turned or mirrored upright, as Patient Orientation says; boxes are of the upright image",
    Flag.ORIENTATION_UNKNOWN: "a view was turned or mirrored by its Field of View, and Patient Orientation is absent",
    Flag.PADDING_IGNORED: "a view declares Pixel Padding that is not a number, no value, all, or in the breast; it is ignored",
    Flag.SHARED_BY_SIDES: "a view has the pixels of one of the other breast, however it lies",
    Flag.SHARED_BY_EXAMS: "a view has the pixels of one of another exam of the patient, however it lies",
    Flag.LOW_ENERGY: "the views are the low-energy images of a contrast-enhanced exam",
    Flag.CC_CROP_LOOSE: "the crop of the CC holds the whole breast and more than it",
    Flag.MLO_CROP_LOOSE: "the same for the MLO",
    Flag.CC_CROP_DOUBTFUL: "the crop of the CC may have lost a part of the breast",
    Flag.MLO_CROP_DOUBTFUL: "the same for the MLO",
}


def reasons() -> str:
    """The page of reason codes and flags."""
    lines = [
        "# Reason codes and flags",
        "",
        "Generated from the code by `make docs`. A reason tells why a file, an image or a breast is *not* in the shards; it is",
        "listed in `rejected.csv` with a detail and counted in `index.json`. A flag is a property of a sample that *is*.",
        "",
        "## Reasons",
        "",
        "| code | meaning |",
        "|---|---|",
        *(f"| `{reason.value}` | {reason.meaning} |" for reason in Reason),
        "",
        "## Flags",
        "",
        "| name | bit | meaning |",
        "|---|---|---|",
        *(f"| `{str(f.name).lower()}` | {int(f).bit_length() - 1} | {FLAG_MEANINGS[f]} |" for f in Flag),
        "",
        "## What a user sees",
        "",
        "[contradictions.md](contradictions.md) has one file of each kind that contradicts itself, its table or another file:",
        "what `fvpipe inspect` prints, and its row of `rejected.csv` or its flag.",
        "",
        "## Transfer syntaxes and formats",
        "",
        "Uncompressed (little and big endian) and deflated files need no decoder. Every other supported transfer syntax has",
        "exactly one. All others are rejected by the index as `transfer_syntax_unsupported`. The last rows are the formats of",
        "image files that are not DICOM, which are read where the data set states them.",
        "",
        "| UID | decoder | may be lossy |",
        "|---|---|---|",
        *(
            f"| {uid} | {d.library}, `{d.decode.__name__.strip('_')}` | {'yes' if d.lossy else 'no'} |"
            for uid, d in (DECODERS | RASTER_DECODERS).items()
        ),
    ]
    return "\n".join(lines) + "\n"


def films() -> NDArray[np.uint8]:
    """The eight films, each with the outline, box and crop of its breast."""
    _, pipeline = load_pipeline("cropped", ROOT)
    drawn = []
    for path in sorted((ROOT / "data" / "cbis").rglob("*.dcm")):
        header = read_header(path.parent, path.name, get_adapter("cbis").policy)
        assert isinstance(header, ImageHeader)
        image = decode_image(path.read_bytes(), header)
        drawn.append(framed(draw_segmentation(image, segment(image, pipeline.segment)), 300, 500))
    return np.vstack([np.hstack(drawn[:4]), np.hstack(drawn[4:])])


def hand_drawn() -> NDArray[np.uint8]:
    """The eight films, lifted so that the skin shows, on a ruler of 500 pixels, each with the box that was drawn by hand."""
    drawn = []
    for name, (top, bottom, left, right) in json.loads((ROOT / "tests" / "data" / "hand-drawn.json").read_text()).items():
        header = read_header(ROOT / "data" / "cbis", name, get_adapter("cbis").policy)
        assert isinstance(header, ImageHeader)
        film = decode_image((ROOT / "data" / "cbis" / name).read_bytes(), header)
        lifted = (np.clip(film.values[film.stored] / 65535, 0, 1) ** 0.4 * 255).astype(np.uint8)
        image = cv2.cvtColor(lifted, cv2.COLOR_GRAY2BGR)
        for at in range(0, max(film.shape), 500):
            cv2.line(image, (0, at), (image.shape[1], at), (0, 110, 140), 6)
            cv2.line(image, (at, 0), (at, image.shape[0]), (0, 110, 140), 6)
            cv2.putText(image, str(at), (20, at + 120), cv2.FONT_HERSHEY_SIMPLEX, 4, (0, 200, 255), 10)
        cv2.rectangle(image, (left, top), (right - 1, bottom - 1), (80, 255, 80), 14)
        drawn.append(framed(image, 300, 500))
    return np.vstack([np.hstack(drawn[:4]), np.hstack(drawn[4:])])


def framed(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Scaled into a white frame."""
    scale = min((width - 8) / image.shape[1], (height - 8) / image.shape[0])
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    canvas = np.full((height, width, 3), 255, np.uint8)
    top, left = (height - small.shape[0]) // 2, (width - small.shape[1]) // 2
    canvas[top : top + small.shape[0], left : left + small.shape[1]] = small
    return canvas


def in_and_out() -> NDArray[np.uint8]:
    """For one breast: both films, the direct sample, the cropped sample."""
    rows = []
    for name in ("P_00820_L", "P_00173_R"):
        columns = []
        _, pipeline = load_pipeline("cropped", ROOT)
        number = {
            "P_00820_L": ("sfm-malign-0/1-280", "sfm-malign-0/1-281"),
            "P_00173_R": ("sfm-benign-0/1-132", "sfm-benign-0/1-133"),
        }
        for file in number[name]:
            path = ROOT / "data" / "cbis" / f"{file}.dcm"
            header = read_header(path.parent, path.name, get_adapter("cbis").policy)
            assert isinstance(header, ImageHeader)
            image = decode_image(path.read_bytes(), header)
            columns.append(framed(draw_segmentation(image, segment(image, pipeline.segment)), 240, 400))
        for pipeline_name in ("direct", "cropped"):
            shards = fvpipe.open_shards(ROOT / "cache" / "shards" / pipeline_name / "cbis")
            image = shards[shards.breast_ids.tolist().index(name)].image
            grey = cv2.cvtColor(np.rint(image * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
            columns.append(framed(cv2.resize(grey, (392, 392), interpolation=cv2.INTER_CUBIC), 400, 400))
        rows.append(np.hstack(columns))
    return np.vstack(rows)


def warps() -> NDArray[np.uint8]:
    """For each breast: both films with every 16th edge of the output's rows and columns; its samples by three pipelines."""
    rows = []
    for first in ("sfm-malign-0/1-280", "sfm-benign-0/1-130", "sfm-malign-0/1-282", "sfm-benign-0/1-132"):
        files = first, f"{first[:-1]}{int(first[-1]) + 1}"  # CC and MLO
        images = []
        for file in files:
            path = ROOT / "data" / "cbis" / f"{file}.dcm"
            header = read_header(path.parent, path.name, get_adapter("cbis").policy)
            assert isinstance(header, ImageHeader)
            images.append(decode_image(path.read_bytes(), header))
        samples, columns = [], []
        for name in ("cropped", "each", "adaptive"):
            _, pipeline = load_pipeline(name, ROOT)
            samples.append(fuse(images, [segment(image, pipeline.segment) for image in images], pipeline))
        for view, image in enumerate(images):
            grey = np.rint(np.clip(image.values[image.stored] / np.quantile(image.stored[::8, ::8], 0.99), 0, 1) * 255)
            film = cv2.cvtColor(grey.astype(np.uint8), cv2.COLOR_GRAY2BGR)
            place = coordinates_of(samples[-1], view)
            top, bottom, left, right = (float(number) for number in samples[-1].placement[view])
            along = np.linspace(0, 1, 200)
            lines = [(top + along * (bottom - top), np.full(200, x)) for x in np.linspace(left, right, 9)]
            lines += [(np.full(200, y), left + along * (right - left)) for y in np.linspace(top, bottom, 17)]
            for line in lines:
                points = np.rint(np.stack(place.to_source(*line)[::-1], axis=1)).astype(np.int32)
                cv2.polylines(film, [points], False, (0, 200, 255), 8, cv2.LINE_AA)
            columns.append(framed(film, 240, 400))
        for sample in samples:
            grey = cv2.cvtColor(np.rint(sample.image / 257).astype(np.uint8), cv2.COLOR_GRAY2BGR)
            columns.append(framed(cv2.resize(grey, (392, 392), interpolation=cv2.INTER_CUBIC), 400, 400))
        rows.append(np.hstack(columns))
    return np.vstack(rows)


def figures() -> None:
    """The paper's figures as small PNG files, of a palette of gray and few colors."""
    drawn = ROOT / "cache" / "reports" / "figures"
    (DOCS / "figures").mkdir(exist_ok=True)
    for figure, _ in read_list(drawn):
        with Image.open(drawn / f"{figure.name}.png") as image:
            image.convert("RGB").quantize(96, dither=Image.Dither.NONE).save(
                DOCS / "figures" / f"{figure.name}.png", optimize=True
            )


def main() -> None:
    """Write all of it."""
    figures()
    (DOCS / "reasons.md").write_text(reasons())
    images = {"films": films(), "hand-drawn": hand_drawn(), "samples": in_and_out(), "adaptive": warps()}
    for name, image in images.items():
        cv2.imwrite(str(DOCS / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
