"""Steps of a pipeline on one breast, by the functions that make its samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.build.sample import FILE_CHANGED, SampleTask, trace_sample
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.header import read_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import InputError
from fvpipe.imaging.canvas import views_in_image
from fvpipe.imaging.normalize import Crop, crop_image, normalization
from fvpipe.imaging.resample import NormalizedCrop
from fvpipe.imaging.segmentation.background import deviation_bins
from fvpipe.imaging.segmentation.segment import Segmentation, SegmentationTrace
from fvpipe.imaging.segmentation.threshold import BINS, linear_bins, log_bins
from fvpipe.reasons import Rejection
from fvpipe.report.drawing import stretched_values
from fvpipe.types import VIEWS, Breast, CropBox, Digest, FusedSample, View

ROWS = 360  # of an image in a figure, at most

Image = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Histogram that a threshold was chosen on."""

    # (256,): pixels of each bin, of the brightness as a share of the range: linear, or its logarithm above the background
    counts: NDArray[np.int64]
    is_log: bool  # which of the two
    edge: int  # first bin of the brighter class
    method: str  # of the threshold
    threshold: float  # as a value of the image
    accepted: bool  # whether its outline was taken; else the whole image was


@dataclass(frozen=True, slots=True, eq=False)
class ViewSteps:
    """Steps of one view."""

    view: View
    film: Image  # (rows, columns): decoded values, made small, from 0 (the 0.5th percentile) to 1 (the 99.5th)
    shape: tuple[int, int]  # rows and columns of the source image
    bits: int  # stored, of a pixel
    histogram: Histogram | None  # what the threshold was chosen on; None where the pipeline segments nothing
    segmentation: Segmentation  # outline and crop box
    crop: Image  # (rows, columns): the crop, normalized as for the sample, and mirrored where it is; made small
    mirrored: bool  # whether it is
    box: CropBox  # crop box that the sample was made of


@dataclass(frozen=True, slots=True, eq=False)
class PipelineSteps:
    """Steps of a pipeline, and the sample at its end."""

    name: str
    pipeline: Pipeline
    views: tuple[ViewSteps, ...]
    sample: FusedSample


def trace_pipeline(
    name: str, pipeline: Pipeline, root: Path, breast: Breast, digests: tuple[Digest, Digest], policy: HeaderPolicy
) -> PipelineSteps:
    """Make the sample of a breast, and its steps.

    Parameters
    ----------
    root : Path
        Input folder of the data set.
    breast : Breast
        Breast with both views.
    digests : (Digest, Digest)
        Digests of its files, of CC and MLO, as the manifest has them.

    Raises
    ------
    InputError
        A file is not there, or not what the manifest lists; or the breast is rejected.
    """
    records = []
    for image in breast.images:
        header = read_header(root, image.path, policy, image.stated)  # the manifest has no dates, which samples are compared by
        if isinstance(header, Rejection):
            raise InputError(f"its {image.view} {FILE_CHANGED} ({header.reason}: {header.detail})")
        records.append(header.record)
    cc, mlo = records
    made = trace_sample(SampleTask(str(root), "", (cc, mlo), ("", ""), digests, policy, pipeline))
    boxes = [CropBox(*(int(side) for side in box)) for box in made.sample.boxes]
    views = {i: view for i in views_in_image(pipeline) if (view := made.views[i])}
    crops = [crop_image(view.image, replace(view.segmentation, box=boxes[i]), pipeline) for i, view in views.items()]
    tables, _ = normalization(crops, pipeline.intensity)
    steps = tuple(
        ViewSteps(
            VIEWS[i],
            _small(stretched_values(view.image, _step(view.image.stored.shape))),
            view.image.source_shape,
            view.header.layout.bits_stored,
            _histogram(view.trace, view.segmentation),
            view.segmentation,
            _normalized(crop, table),
            crop.mirrored,
            boxes[i],
        )
        for (i, view), crop, table in zip(views.items(), crops, tables, strict=True)
    )
    return PipelineSteps(name, pipeline, steps, made.sample)


def _histogram(trace: SegmentationTrace | None, found: Segmentation) -> Histogram | None:
    if trace is None or not trace.attempts:
        return None
    thumbnail, accepted = trace.thumbnail, found.mask is not None
    attempt = next((a for a in trace.attempts if accepted and a.passes and a.method == found.method), trace.attempts[0])
    if attempt.method == "otsu_log":
        grid = attempt.background.on_grid(thumbnail)
        counts = np.bincount(deviation_bins(grid.deviation).ravel(), minlength=BINS)
        edge = int(log_bins(np.array([attempt.limit]))[0])
    else:
        counts = np.bincount(linear_bins(thumbnail.relative), thumbnail.counts, BINS).astype(np.int64)
        edge = round(attempt.limit * BINS)
    return Histogram(counts, attempt.method == "otsu_log", edge, attempt.method, attempt.threshold, accepted)


def _normalized(crop: Crop, table: NDArray[np.float64]) -> Image:
    every = _step(crop.stored.shape)
    rows, columns = (np.arange(0, side, every) for side in crop.stored.shape)
    return _small(NormalizedCrop(crop, table).gather(rows, columns))


def _step(shape: tuple[int, ...]) -> int:
    return max(1, shape[0] // (2 * ROWS))


def _small(values: Image) -> Image:
    scale = min(1.0, ROWS / values.shape[0])
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float64)
