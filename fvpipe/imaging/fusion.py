"""Fusion of two segmented images into one sample.

Values are normalized before interpolation, and after it in the paper. Both operations are linear, so the result is the
same, and only the stored values that an output pixel needs are looked up in a table. All arithmetic is float64, one
operation at a time, so that the bytes are the same on every processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.canvas import lay_out, views_in_image
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.normalize import crop_image, normalization, range_array
from fvpipe.imaging.resample import NormalizedCrop, area, bilinear
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import SCALES, FusedSample, Segmentation


def fuse(
    images: tuple[DecodedImage, DecodedImage], segmentations: tuple[Segmentation, Segmentation], pipeline: Pipeline
) -> FusedSample:
    """Crop, normalize, fuse and resize the views of one breast.

    Parameters
    ----------
    images : (DecodedImage, DecodedImage)
        CC and MLO.
    segmentations : (Segmentation, Segmentation)
        Their segmentations.
    pipeline : Pipeline
        Settings of all steps.

    Returns
    -------
    sample : FusedSample
        Fused image and its geometry.
    """
    crops = tuple(crop_image(image, s, pipeline) for image, s in zip(images, segmentations, strict=True))
    views = views_in_image(pipeline)
    tables, ranges = normalization([crops[i] for i in views], pipeline.intensity)
    normalized = {i: NormalizedCrop(crops[i], table) for i, table in zip(views, tables, strict=True)}
    size: tuple[int, int] = pipeline.size
    channels = 2 if pipeline.fuse.layout == "channels" else 1
    image = np.zeros((channels, *size), np.float64)
    placement = np.full((2, 4), -1, np.float32)
    resize = bilinear if pipeline.resize.method == "bilinear" else area
    for panel in lay_out({i: crops[i].shape for i in views}, pipeline):
        top, left, height, width = panel.target
        image[panel.channel, top : top + height, left : left + width] = resize(panel, normalized)
        for i in panel.offsets:
            placement[i] = panel.placement(i, crops[i].shape, crops[i].mirrored)
    flags = _flags(images, segmentations)
    if all(high <= low for low, high in ranges):
        flags |= Flag.CONSTANT_IMAGE
    return FusedSample(
        image=_quantize(image if channels > 1 else image[0], pipeline.dtype),
        boxes=np.array([s.box.as_tuple() for s in segmentations], np.int32),
        source_shape=np.array([image.source_shape for image in images], np.int32),
        placement=placement,
        intensity_range=range_array(ranges, views, pipeline.intensity),
        breast_area=np.array([s.area for s in segmentations], np.float32),
        breast_mean=_normalized_means(segmentations, ranges, views),
        source_digests=(images[0].source_digest, images[1].source_digest),
        pixel_digests=(images[0].pixel_digest, images[1].pixel_digest),
        flags=flags,
    )


def _normalized_means(
    segmentations: tuple[Segmentation, Segmentation], ranges: list[tuple[float, float]], views: list[int]
) -> NDArray[np.float32]:
    """Mean inside each outline, normalized by the range of its view; NaN if there is no outline."""
    means = np.full(2, np.nan, np.float32)
    for i, view in enumerate(views):
        low, high = ranges[min(i, len(ranges) - 1)]
        if high > low:
            means[view] = (segmentations[view].mean - low) / (high - low)
    return means


def _quantize(image: NDArray[np.float64], dtype: str) -> NDArray[Any]:
    if dtype == "float32":
        return image.astype(np.float32)
    return np.rint(image * round(1 / SCALES[dtype])).astype(dtype)


def _flags(images: tuple[DecodedImage, DecodedImage], segmentations: tuple[Segmentation, Segmentation]) -> Flag:
    cc, mlo = segmentations
    # Each MLO flag is the bit above its CC flag.
    per_view = Flag.CC_CROP_FALLBACK | Flag.CC_CROP_LOOSE | Flag.CC_CROP_DOUBTFUL | Flag.CC_TRIANGLE | Flag.CC_CONSTANT
    flags = cc.flags | (mlo.flags & ~per_view) | Flag(int(mlo.flags & per_view) << 1)
    flags |= images[0].flags | images[1].flags
    return flags | (Flag.SIZES_DIFFER if images[0].source_shape != images[1].source_shape else NO_FLAG)
