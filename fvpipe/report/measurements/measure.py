"""Work of an audit on one image, done by workers: measurements, and previews of the few that are shown."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import InputError
from fvpipe.execution.isolation import Crash, ResultT
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import frame_level
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.normalize import is_constant
from fvpipe.imaging.segmentation.crop_verdict import explain
from fvpipe.imaging.segmentation.outline import GATES
from fvpipe.imaging.segmentation.segment import Segmentation, segment, trace_segmentation
from fvpipe.imaging.segmentation.threshold_attempts import ThresholdAttempt
from fvpipe.imaging.view_agreement import CONSTANT_VIEW, constant_flags, header_flags
from fvpipe.indexing.files.headers import parse_indexed
from fvpipe.indexing.index import Index
from fvpipe.io.read import read_contents
from fvpipe.progress import progress
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.report.drawing import draw_segmentation, encode
from fvpipe.report.measurements.brightness import Brightness, measure_brightness
from fvpipe.types import Digest, ImageRecord

PREVIEW_SIDE = 300  # pixels of the longer side of a preview


@dataclass(frozen=True, slots=True)
class ImageTask:
    """One image to measure or to draw, sent to a worker."""

    root: str  # absolute path of the input folder
    record: ImageRecord  # header of the image, as in the index
    state: str  # state of the file, as in the index
    policy: HeaderPolicy  # policy with which the header was read
    pipeline: Pipeline  # window and segmentation


@dataclass(frozen=True, slots=True)
class ImageMeasurement:
    """Measurements of one image; NaN if nothing was segmented."""

    record: ImageRecord  # header of the image
    method: str  # threshold method whose mask was accepted, whole_frame or none
    flags: Flag  # flags of the image, as CC bits whichever view it is
    share: float = math.nan  # mask area as a share of the image
    aspect: float = math.nan  # width / height of the breast's bounding box
    threshold: float = math.nan  # threshold as a share of the range of the value table
    area: float = math.nan  # mask area in source pixels
    # Inside the outline, after each of :data:`fvpipe.report.measurements.brightness.NORMALIZATIONS`; empty without one
    brightness: tuple[Brightness, ...] = ()
    pixel_digest: Digest | None = None  # digest of the decoded stored values

    @property
    def vendor(self) -> str:
        """Manufacturer in the header, or ``unknown``."""
        return self.record.manufacturer or "unknown"

    @property
    def group(self) -> tuple[str, str]:
        """Vendor and view, the group of images with which it is compared."""
        return self.vendor, self.record.view.value

    @property
    def segmented(self) -> bool:
        """Whether there is an outline."""
        return not math.isnan(self.share)

    @property
    def pixel_area(self) -> float:
        """Square millimeters per pixel; 0 if the header has no spacing."""
        return (self.record.row_spacing or 0.0) * (self.record.column_spacing or 0.0)


@dataclass(frozen=True, slots=True)
class Preview:
    """Drawing of one image."""

    path: str  # of the image
    jpeg: bytes  # contents of a JPEG file
    failures: str  # quality gates that the threshold methods failed, and limits that a good crop keeps; empty if none did


def run_on_images(
    found: Index,
    images: Sequence[ImageRecord],
    pipeline: Pipeline,
    work: Callable[[list[ImageTask]], list[ResultT]],
    workers: Workers,
    doing: str,
) -> Iterator[ResultT | Crash[ImageTask]]:
    """Do `work` on images of a data set on the workers, and yield each result as it comes; `doing` names it to the user."""
    root = os.path.abspath(found.source.root)
    tasks = [ImageTask(root, image, found.files[image.path].state, found.source.policy, pipeline) for image in images]
    with progress(f"{doing} {found.source.name}", len(tasks), "images") as advance:
        for batch in workers.run(work, tasks):
            yield from batch
            advance(len(batch))


def measure_images(tasks: Sequence[ImageTask]) -> list[ImageMeasurement | Rejection]:
    """Decode, segment and measure images on a worker."""
    cv2.setNumThreads(1)  # the scheduler decides how many cores are used
    return [_measure(task) for task in tasks]


def _measure(task: ImageTask) -> ImageMeasurement | Rejection:
    image = read_image(task)
    if isinstance(image, Rejection):
        return image
    constant = is_constant(image)
    if constant and task.pipeline.constant == "reject":
        return Rejection(task.record.path, Reason.CONSTANT_VIEW, CONSTANT_VIEW)
    segmentation = segment(image, task.pipeline.segment)
    flags = constant_flags(image.flags | segmentation.flags, [constant]) | header_flags(task.record)
    if segmentation.mask is None:
        return ImageMeasurement(task.record, segmentation.method, flags, pixel_digest=image.pixel_digest)
    box = segmentation.tight_box
    return ImageMeasurement(
        task.record,
        segmentation.method,
        flags,
        segmentation.gates["share"],
        box.width / max(box.height, 1),
        _relative_threshold(image, segmentation),
        segmentation.area,
        measure_brightness(image, segmentation),
        image.pixel_digest,
    )


def _relative_threshold(image: DecodedImage, segmentation: Segmentation) -> float:
    low, high = float(image.values.min()), float(image.values.max())
    return (segmentation.threshold - low) / (high - low) if high > low else math.nan


def draw_previews(tasks: Sequence[ImageTask]) -> list[Preview | Rejection]:
    """Draw images on a worker."""
    cv2.setNumThreads(1)
    return [_preview(task) for task in tasks]


def _preview(task: ImageTask) -> Preview | Rejection:
    image = read_image(task)
    if isinstance(image, Rejection):
        return image
    found, trace = trace_segmentation(image, task.pipeline.segment)
    drawing = draw_segmentation(image, found, PREVIEW_SIDE)
    failed = [_failed_gates(attempt) for attempt in trace.attempts if not attempt.passes] if trace else []
    if trace and not trace.attempts:
        failed = ["air is white, as in a negative"]
    return Preview(task.record.path, encode(drawing, ".jpg"), "; ".join([*failed, explain(found.gates)]).strip("; "))


def _failed_gates(attempt: ThresholdAttempt) -> str:
    failed = [
        f"{name} {attempt.gates[name]:.3g} (allowed {low:g} to {high:g})"
        for name, (low, high) in GATES.items()
        if name in attempt.gates and not low <= attempt.gates[name] <= high
    ]
    return f"{attempt.method}: {', '.join(failed) or 'nothing above the threshold'}"


def read_image(task: ImageTask) -> DecodedImage | Rejection:
    """Read and decode an image on a worker, unless its file has changed since it was indexed."""
    record = task.record
    try:
        read = read_contents(Path(task.root) / record.path, task.state)
        header = parse_indexed(read, record, task.policy)
        if header is None:
            raise FileNotFoundError
        level = frame_level((record.rows, record.columns), task.pipeline)
        return decode_image(read.data, header, task.pipeline.voi, read.digest, level)
    except FileNotFoundError:
        raise InputError(
            f"{record.path}: is not there any more, or not what the index read. Either it changed while this ran: run it "
            "again; or the workers do not see the input folder: it must lie on storage that they share"
        ) from None
    except OSError as error:
        return Rejection.unreadable(record.path, error)
    except RejectedFile as rejected:
        return Rejection(record.path, rejected.reason, rejected.detail)
