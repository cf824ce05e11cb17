"""Step 4: two images and where their breasts are -> :class:`FusedSample`. Pure.

Normalisation comes before interpolation here and after it in the paper; both are linear, so the numbers are the same,
and so a stored value becomes its final value by one table look-up, only for the pixels that an output pixel needs.
Arithmetic is plain float64, one operation at a time: the bytes are the same on every processor.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Pipeline
from fvpipe.imaging.canvas import panels, used_views
from fvpipe.imaging.normalize import Values, crop, normalization, ranges_array
from fvpipe.imaging.resample import Source, area, bilinear
from fvpipe.reasons import Flag
from fvpipe.types import DecodedImage, FusedSample, Segmentation

SCALES = {"uint16": 65535, "uint8": 255, "float32": 1}
"""What 1.0 is stored as, by `dtype`."""


def fuse(
    images: tuple[DecodedImage, DecodedImage], segmentations: tuple[Segmentation, Segmentation], pipeline: Pipeline
) -> FusedSample:
    """Crop, normalise, fuse and resize one breast.

    Parameters
    ----------
    images : (Image, Image)
        CC, MLO.
    segmentations : (Segmentation, Segmentation)
        CC, MLO.
    pipeline : Pipeline

    Returns
    -------
    FusedSample
    """
    crops = tuple(crop(p, s, pipeline) for p, s in zip(images, segmentations, strict=True))
    used = used_views(pipeline)
    tables, ranges = normalization([crops[i] for i in used], pipeline.intensity)
    sources = {i: Source(crops[i], table) for i, table in zip(used, tables, strict=True)}
    size: tuple[int, int] = pipeline.size
    channels = 2 if pipeline.fuse.layout == "channels" else 1
    image = np.zeros((channels, *size), np.float64)
    placement = np.full((2, 4), -1, np.float32)
    for panel in panels({i: crops[i].shape for i in used}, pipeline):
        render = bilinear if pipeline.resize.method == "bilinear" else area
        top, left, height, width = panel.target
        image[panel.channel, top : top + height, left : left + width] = render(panel, sources)
        for i in panel.offsets:
            placement[i] = panel.placement(i, crops[i].shape, crops[i].mirrored)
    flags = _flags(images, segmentations)
    if all(high <= low for low, high in ranges):
        flags |= Flag.CONSTANT_IMAGE
    return FusedSample(
        image=_store(image if channels > 1 else image[0], pipeline.dtype),
        boxes=np.array([s.box.as_tuple() for s in segmentations], np.int32),
        source_shape=np.array([p.source_shape for p in images], np.int32),
        placement=placement,
        intensity_range=ranges_array(ranges, used, pipeline.intensity),
        breast_area=np.array([s.area for s in segmentations], np.float32),
        breast_mean=_means(segmentations, ranges, used),
        source_digests=(images[0].source_digest, images[1].source_digest),
        pixel_digests=(images[0].pixel_digest, images[1].pixel_digest),
        flags=flags,
    )


def _means(
    segmentations: tuple[Segmentation, Segmentation], ranges: list[tuple[float, float]], used: list[int]
) -> NDArray[np.float32]:
    """The mean inside each outline as a share of the range that its view was normalised by; NaN where there is none."""
    means = np.full(2, np.nan, np.float32)
    for i, view in enumerate(used):
        low, high = ranges[min(i, len(ranges) - 1)]
        if high > low:
            means[view] = (segmentations[view].mean - low) / (high - low)
    return means


def _store(image: Values, dtype: str) -> NDArray[Any]:
    if dtype == "float32":
        return image.astype(np.float32)
    return np.rint(image * SCALES[dtype]).astype(dtype)


def _flags(images: tuple[DecodedImage, DecodedImage], segmentations: tuple[Segmentation, Segmentation]) -> Flag:
    cc, mlo = segmentations
    per_view = Flag.CC_CROP_FALLBACK | Flag.CC_TRIANGLE | Flag.CC_CONSTANT  # each MLO bit stands one above its CC bit
    flags = cc.flags | (mlo.flags & ~per_view) | Flag(int(mlo.flags & per_view) << 1)
    flags |= images[0].flags | images[1].flags
    return flags | (Flag.SIZES_DIFFER if images[0].source_shape != images[1].source_shape else Flag(0))
