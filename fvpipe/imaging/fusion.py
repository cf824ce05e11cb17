"""Fusion of two segmented images into one sample.

Values are normalized before interpolation, and after it in the paper. Both operations are linear, so the result is the
same, and only the stored values that an output pixel needs are looked up in a table. All arithmetic is float64, one
operation at a time, so that the bytes are the same on every processor.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.canvas import lay_out, views_in_image
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.film_border import without_film_border
from fvpipe.imaging.normalize import crop_image, normalization, range_array
from fvpipe.imaging.resample import NormalizedCrop, area, bilinear
from fvpipe.imaging.segmentation.segment import Segmentation
from fvpipe.imaging.warp import crop_warp, source_arrays, warped_means
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import NO_DIGEST, SCALES, Digest, FusedSample


def fuse(
    images: Sequence[DecodedImage | None], segmentations: Sequence[Segmentation | None], pipeline: Pipeline
) -> FusedSample:
    """Crop, normalize, fuse and resize the views of one breast.

    Parameters
    ----------
    images : sequence of two DecodedImage or None
        CC and MLO; None for a view that the breast lacks, which must not be in the pipeline's image.
    segmentations : sequence of two Segmentation or None
        Their segmentations.
    pipeline : Pipeline
        Settings of all steps.

    Returns
    -------
    sample : FusedSample
        Fused image and its geometry.
    """
    warping = pipeline.resize.method == "equal_area"
    if warping:
        pairs = zip(images, segmentations, strict=True)
        segmentations = [without_film_border(image, s) if image and s else s for image, s in pairs]
    pairs = zip(images, segmentations, strict=True)
    crops = {i: crop_image(image, s, pipeline) for i, (image, s) in enumerate(pairs) if image and s}
    views = views_in_image(pipeline)
    tables, ranges = normalization([crops[i] for i in views], pipeline.intensity)
    normalized = {i: NormalizedCrop(crops[i], table) for i, table in zip(views, tables, strict=True)}
    image = np.zeros(pipeline.image_shape, np.float64)
    placement = np.full((2, 4), -1, np.float32)
    resize = bilinear if pipeline.resize.method == "bilinear" else area
    panels = lay_out({i: crops[i].shape for i in views}, pipeline)
    planned = {
        i: crop_warp(segmentations[i], crops[i].wall, panel.target[2:], pipeline) for panel in panels for i in panel.offsets
    }
    warps = {i: warp for i, warp in planned.items() if warp}
    for panel in panels:
        top, left, height, width = panel.target
        (view, *_) = panel.offsets  # the only one, where there are warps
        resized = warped_means(normalized[view], warps[view]) if view in warps else resize(panel, normalized)
        image[panel.channel, top : top + height, left : left + width] = resized
        for i in panel.offsets:
            placement[i] = panel.placement(i, crops[i].shape, crops[i].mirrored)
    flags = _flags(images, segmentations)
    if all(high <= low for low, high in ranges):
        flags |= Flag.CONSTANT_IMAGE
    return FusedSample(
        image=_quantize(image if len(image) > 1 else image[0], pipeline.dtype),
        boxes=np.array([s.box.as_tuple() if s else (0, 0, 0, 0) for s in segmentations], np.int32),
        source_shape=np.array([image.source_shape if image else (0, 0) for image in images], np.int32),
        placement=placement,
        intensity_range=range_array(ranges, views, pipeline.intensity),
        breast_area=np.array([s.area if s else np.nan for s in segmentations], np.float32),
        breast_mean=_normalized_means(segmentations, ranges, views),
        source_digests=digest_pair(image.source_digest if image else NO_DIGEST for image in images),
        pixel_digests=digest_pair(image.pixel_digest if image else NO_DIGEST for image in images),
        flags=flags,
        **(source_arrays(warps, crops, panels[0].target[2:]) if warping else {}),
    )


def digest_pair(digests: Iterable[Digest]) -> tuple[Digest, Digest]:
    """Two digests, of CC and MLO."""
    cc, mlo = digests
    return cc, mlo


def _normalized_means(
    segmentations: Sequence[Segmentation | None], ranges: list[tuple[float, float]], views: list[int]
) -> NDArray[np.float32]:
    """Mean inside each outline, normalized by the range of its view; NaN if there is no outline."""
    means = np.full(2, np.nan, np.float32)
    for i, view in enumerate(views):
        low, high = ranges[min(i, len(ranges) - 1)]
        segmentation = segmentations[view]
        if segmentation and high > low:
            means[view] = (segmentation.mean - low) / (high - low)
    return means


def _quantize(image: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if dtype == "float32":
        return image.astype(np.float32)
    return np.rint(image * round(1 / SCALES[dtype])).astype(dtype)


def _flags(images: Sequence[DecodedImage | None], segmentations: Sequence[Segmentation | None]) -> Flag:
    cc, mlo = (s.flags if s else NO_FLAG for s in segmentations)
    # Each MLO flag is the bit above its CC flag.
    per_view = Flag.CC_CROP_FALLBACK | Flag.CC_CROP_LOOSE | Flag.CC_CROP_DOUBTFUL | Flag.CC_TRIANGLE | Flag.CC_CONSTANT
    flags = cc | (mlo & ~per_view) | Flag(int(mlo & per_view) << 1)
    present = [image for image in images if image]
    for image in present:
        flags |= image.flags
    return flags | (Flag.SIZES_DIFFER if len({image.source_shape for image in present}) > 1 else NO_FLAG)
