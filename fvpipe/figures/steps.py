"""Steps of a pipeline on one breast, by the functions that make its samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline, Segment
from fvpipe.dicom.header import HeaderPolicy, parse_header
from fvpipe.dicom.pixels import decode_image
from fvpipe.errors import InputError
from fvpipe.imaging.background import deviation_bins
from fvpipe.imaging.canvas import crop_levels, frame_level, views_in_image
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.normalize import Crop, crop_image, normalization
from fvpipe.imaging.resample import NormalizedCrop
from fvpipe.imaging.segmentation import segment, trace_segmentation
from fvpipe.imaging.threshold import BINS, linear_bins, log_bins
from fvpipe.imaging.thumbnail import make_thumbnail
from fvpipe.io.read import read_contents
from fvpipe.reasons import Flag
from fvpipe.types import VIEWS, Breast, CropBox, Digest, FusedSample, Segmentation, View

ROWS = 360  # of an image in a figure, at most

Image = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Histogram:
    """Histogram that a threshold was chosen on.

    Attributes
    ----------
    counts : int64 array, shape (256,)
        Pixels of each bin, of the brightness as a share of the range: linear, or its logarithm above the background.
    is_log : bool
        Which of the two.
    edge : int
        First bin of the brighter class.
    method, threshold : str, float
        Threshold method, and its threshold as a value of the image.
    accepted : bool
        Whether its outline was taken; else the whole image was.
    """

    counts: NDArray[np.int64]
    is_log: bool
    edge: int
    method: str
    threshold: float
    accepted: bool


@dataclass(frozen=True, slots=True, eq=False)
class ViewSteps:
    """Steps of one view.

    Attributes
    ----------
    film : float64 array, shape (rows, columns)
        Decoded values, made small, from 0 (the 0.5th percentile) to 1 (the 99.5th).
    shape : (int, int)
        Rows and columns of the source image.
    bits : int
        Bits stored of a pixel.
    histogram : Histogram or None
        What the threshold was chosen on; None where the pipeline segments nothing.
    segmentation : Segmentation
        Outline and crop box.
    crop : float64 array, shape (rows, columns)
        The crop, normalized as for the sample, and mirrored where it is; made small.
    mirrored : bool
        Whether it is.
    box : CropBox
        Crop box that the sample was made of.
    """

    view: View
    film: Image
    shape: tuple[int, int]
    bits: int
    histogram: Histogram | None
    segmentation: Segmentation
    crop: Image
    mirrored: bool
    box: CropBox


@dataclass(frozen=True, slots=True, eq=False)
class PipelineSteps:
    """Steps of a pipeline, and the sample at its end."""

    name: str
    pipeline: Pipeline
    views: tuple[ViewSteps, ...]
    sample: FusedSample


def trace_pipeline(
    name: str, pipeline: Pipeline, root: Path, breast: Breast, digests: Sequence[Digest], policy: HeaderPolicy
) -> PipelineSteps:
    """Make the sample of a breast step by step, as :func:`fvpipe.build.sample.make_sample` does.

    Parameters
    ----------
    name : str
        Name of the pipeline.
    pipeline : Pipeline
        Its settings.
    root : Path
        Input folder of the data set.
    breast : Breast
        Breast with both views.
    digests : sequence of Digest
        Digests of its files, of CC and MLO, as the manifest has them.
    policy : HeaderPolicy
        How headers are read.

    Raises
    ------
    InputError
        A file is not there, or not what the manifest lists; or the pipeline rejects the crop.
    RejectedFile
        The pixels cannot be decoded.
    """
    files, headers = [], []
    for record, digest in zip(breast.images, digests, strict=True):
        try:
            contents = read_contents(root / record.path, "")
        except OSError as error:
            raise InputError(f"its {record.view} cannot be read ({error.strerror or type(error).__name__})") from None
        if contents.digest != digest:
            raise InputError(f"its {record.view} is not the file that the manifest lists; run `fvpipe index` again")
        files.append(contents.data)
        headers.append(parse_header(contents.data, record.path, policy, record.stated))

    def decode(i: int, level: int) -> DecodedImage:
        return decode_image(files[i], headers[i], pipeline.voi, digests[i], level)

    images = [decode(i, frame_level((h.layout.rows, h.layout.columns), pipeline)) for i, h in enumerate(headers)]
    films = [_film(image) for image in images]
    found = [segment(image, pipeline.segment) for image in images]
    histograms = [_histogram(image, outline, pipeline.segment) for image, outline in zip(images, found, strict=True)]
    for i in views_in_image(pipeline):
        if found[i].verdict not in pipeline.segment.build:
            raise InputError(f"its {VIEWS[i]} has a crop that is {found[i].verdict}, and segment.build leaves such breasts out")
    for i, level in enumerate(crop_levels(found, pipeline)):
        if images[i].scale > 1 << level:
            images[i] = replace(decode(i, level), pixel_digest=images[i].pixel_digest)
    sample = fuse(images, found, pipeline)
    boxes = [CropBox(*(int(side) for side in box)) for box in sample.boxes]
    crops = {i: crop_image(images[i], replace(found[i], box=boxes[i]), pipeline) for i in views_in_image(pipeline)}
    tables, _ = normalization([*crops.values()], pipeline.intensity)
    views = tuple(
        ViewSteps(
            VIEWS[i],
            films[i],
            images[i].source_shape,
            headers[i].layout.bits_stored,
            histograms[i],
            found[i],
            _normalized(crop, table),
            crop.mirrored,
            boxes[i],
        )
        for (i, crop), table in zip(crops.items(), tables, strict=True)
    )
    return PipelineSteps(name, pipeline, views, sample)


def _histogram(image: DecodedImage, found: Segmentation, settings: Segment) -> Histogram | None:
    conflict = Flag.CHEST_WALL_CONFLICT in found.flags
    thumbnail = make_thumbnail(image, image.chest_wall.opposite if conflict else image.chest_wall)
    trace = trace_segmentation(image, settings)
    if trace is None or thumbnail is None or not trace.attempts:
        return None
    accepted = found.mask is not None
    attempt = next((a for a in trace.attempts if accepted and a.passes and a.method == found.method), trace.attempts[0])
    if attempt.method == "otsu_log":
        grid = attempt.background.on_grid(thumbnail)
        counts, edge = np.bincount(deviation_bins(grid.deviation).ravel(), minlength=BINS), _first_bin(attempt.limit)
    else:
        counts = np.bincount(linear_bins(thumbnail.relative), thumbnail.counts, BINS).astype(np.int64)
        edge = round(attempt.limit * BINS)
    return Histogram(counts, attempt.method == "otsu_log", edge, attempt.method, attempt.threshold, accepted)


def _first_bin(share: float) -> int:
    """Logarithmic bin that a share of the range begins."""
    return int(log_bins(np.array([share]))[0])


def _film(image: DecodedImage) -> Image:
    every = _step(image.stored.shape)
    values = image.values[image.stored[::every, ::every]]
    low, high = np.percentile(values, [0.5, 99.5])
    return _small(np.clip((values - low) / max(high - low, 1e-9), 0, 1))


def _normalized(crop: Crop, table: NDArray[np.float64]) -> Image:
    every = _step(crop.stored.shape)
    rows, columns = (np.arange(0, side, every) for side in crop.stored.shape)
    return _small(NormalizedCrop(crop, table).gather(rows, columns))


def _step(shape: tuple[int, ...]) -> int:
    return max(1, shape[0] // (2 * ROWS))


def _small(values: Image) -> Image:
    scale = min(1.0, ROWS / values.shape[0])
    return np.asarray(cv2.resize(values, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.float64)
