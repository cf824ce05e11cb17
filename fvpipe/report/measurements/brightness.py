"""Brightness of the breast by vendor: whether a threshold on it alone separates the vendors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Intensity, Pipeline, Segment
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.histogram import histogram
from fvpipe.imaging.normalize import crop_image, normalization
from fvpipe.imaging.segmentation.segment import Segmentation, full_mask

NORMALIZATIONS = {
    "minimum and maximum of the crop": Intensity(),
    "percentiles 2 and 99.9 of the breast, median 0.35": Intensity(
        method="percentiles", percentiles=(2, 99.9), region="breast", median=0.35
    ),
}
"""Normalizations that are compared: the paper's, and that of the recommended pipelines."""

MIN_VENDOR_IMAGES = 8  # a vendor with fewer is left out


@dataclass(frozen=True, slots=True)
class Brightness:
    """Brightness inside the outline of one image, in [0, 1]: its mean, and its 95th less its 5th percentile."""

    mean: float
    span: float


@dataclass(frozen=True, slots=True)
class VendorBrightness:
    """Medians over the images of one vendor."""

    vendor: str
    images: int
    mean: float
    span: float


@dataclass(frozen=True, slots=True)
class BrightnessReport:
    """Brightness by vendor after one normalization."""

    normalization: str  # key of :data:`NORMALIZATIONS`
    vendors: tuple[VendorBrightness, ...]  # vendors with at least :data:`MIN_VENDOR_IMAGES` images, in alphabetical order
    # Area under the ROC curve with which mean brightness separates two vendors, .5 to 1, averaged over all pairs of vendors;
    # None with fewer than two vendors
    auc: float | None


def measure_brightness(image: DecodedImage, segmentation: Segmentation) -> tuple[Brightness, ...]:
    """Measure the brightness inside the outline, after each of :data:`NORMALIZATIONS`; nothing without an outline."""
    if segmentation.mask is None:
        return ()
    inside = full_mask(segmentation, *image.shape, image.scale)
    counts = histogram(image.stored, len(image.values), inside)
    found = []
    for intensity in NORMALIZATIONS.values():
        pipeline = Pipeline(segment=Segment(method="otsu_log"), intensity=intensity)
        (table,), _ = normalization([crop_image(image, segmentation, pipeline)], intensity)
        order = np.argsort(table, kind="stable")
        shares = np.cumsum(counts[order]) / counts.sum()
        low, high = (float(table[order[np.searchsorted(shares, share)]]) for share in (0.05, 0.95))
        present = np.flatnonzero(counts)
        mean = math.fsum((table[present] * counts[present]).tolist()) / int(counts.sum())
        found.append(Brightness(mean, high - low))
    return tuple(found)


def brightness_reports(images: Sequence[tuple[str, tuple[Brightness, ...]]]) -> tuple[BrightnessReport, ...]:
    """Compare the brightness of vendors.

    Parameters
    ----------
    images : sequence of (str, tuple of Brightness)
        Vendor of each image, and what :func:`measure_brightness` found on it.
    """
    reports = []
    for i, name in enumerate(NORMALIZATIONS):
        members: dict[str, list[Brightness]] = {}
        for vendor, found in images:
            if found:
                members.setdefault(vendor, []).append(found[i])
        large = {vendor: members[vendor] for vendor in sorted(members) if len(members[vendor]) >= MIN_VENDOR_IMAGES}
        means = [np.array([each.mean for each in found]) for found in large.values()]
        areas = [_separability(a, b) for k, a in enumerate(means) for b in means[k + 1 :]]
        vendors = tuple(
            VendorBrightness(vendor, len(found), _median([b.mean for b in found]), _median([b.span for b in found]))
            for vendor, found in large.items()
        )
        reports.append(BrightnessReport(name, vendors, round(float(np.mean(areas)), 3) if areas else None))
    return tuple(reports)


def _median(values: Sequence[float]) -> float:
    return round(float(np.median(values)), 3)


def _separability(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Area under the ROC curve of a threshold that separates `first` from `second`, whichever is brighter."""
    ordered = np.sort(second)
    below, up_to = (np.searchsorted(ordered, first, side) for side in ("left", "right"))
    area = float((below + up_to).sum() / (2 * len(first) * len(second)))
    return max(area, 1 - area)
