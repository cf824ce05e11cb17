"""Statistics of an audit: distributions, outliers, and CC against MLO, computed from the measurements."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fvpipe.imaging.view_agreement import AREA_RATIO
from fvpipe.report.measurements.measure import ImageMeasurement
from fvpipe.types import Breast

HISTOGRAM_BINS = 24
TABLE_ROWS = 8  # values of a table; all others are counted together
MAD_TO_SIGMA = 1.4826  # from the median absolute deviation to the standard deviation of a normal distribution
MIN_SIGMA = 0.01  # so that one pixel is not an outlier in a group of equal images
MIN_GROUP_IMAGES = 8  # a smaller group of a vendor and view is compared with that view of all vendors
MAX_FARTHEST = 20  # breasts that are listed


@dataclass(frozen=True, slots=True)
class Distribution:
    """Extremes, median and histogram of one quantity, in equal bins from `start` to `stop`."""

    name: str
    count: int
    low: float
    median: float
    high: float
    start: float
    stop: float
    bins: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupReport:
    """Images of one vendor and view: how often each method and header value occurs, and distributions."""

    vendor: str
    view: str
    images: int
    methods: Mapping[str, int]
    tables: Mapping[str, Mapping[str, int]]
    distributions: tuple[Distribution, ...]


@dataclass(frozen=True, slots=True)
class AreaRatio:
    """Area of CC / area of MLO of one breast, and its distance from the median of all in robust standard deviations."""

    breast_id: str
    ratio: float
    unit: str
    deviations: float


@dataclass(frozen=True, slots=True)
class PairReport:
    """Comparison of CC and MLO over all breasts."""

    compared: int  # breasts with both views segmented, and a pixel spacing in both headers or in neither
    not_compared: int  # all others
    in_square_millimetres: int  # compared breasts with pixel spacings
    ratios: Distribution | None  # ratios of the areas; None if no breast was compared
    farthest: tuple[AreaRatio, ...]  # breasts whose ratio is farthest from the median
    areas_disagree: tuple[str, ...]  # breasts that a build flags
    vendors_differ: tuple[str, ...]  # breasts whose headers differ in Manufacturer
    bits_differ: tuple[str, ...]  # in Bits Stored


@dataclass(frozen=True, slots=True)
class Deviation:
    """Deviation of an image from its group in one quantity, in robust standard deviations from the group's median."""

    deviations: float
    quantity: str
    value: float
    median: float
    group: str


def distribution(name: str, values: Sequence[float], start: float, stop: float) -> Distribution | None:
    """Summarize the values that are not NaN; None if there are none.

    Parameters
    ----------
    values : sequence of float
        One value per image or breast.
    start, stop : float
        Range of the histogram; values beyond it are counted in the first or last bin.
    """
    finite = np.array([value for value in values if not math.isnan(value)], np.float64)
    if not len(finite):
        return None
    at = np.clip(((finite - start) / (stop - start) * HISTOGRAM_BINS).astype(int), 0, HISTOGRAM_BINS - 1)
    low, median, high = (round(float(f(finite)), 4) for f in (np.min, np.median, np.max))
    bins = tuple(np.bincount(at, minlength=HISTOGRAM_BINS).tolist())
    return Distribution(name, len(finite), low, median, high, start, stop, bins)


def group_reports(rows: Iterable[ImageMeasurement]) -> tuple[GroupReport, ...]:
    """One report per vendor and view, in alphabetical order."""
    members: dict[tuple[str, str], list[ImageMeasurement]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    return tuple(_group_report(*key, members[key]) for key in sorted(members))


def _group_report(vendor: str, view: str, rows: Sequence[ImageMeasurement]) -> GroupReport:
    tables: dict[str, Callable[[ImageMeasurement], str]] = {
        "rows x columns": lambda row: f"{row.record.rows} x {row.record.columns}",
        "bits stored": lambda row: str(row.record.bits_stored),
        "photometric interpretation": lambda row: row.record.photometric_interpretation,
        "transfer syntax": lambda row: row.record.transfer_syntax_uid,
    }
    quantities = (
        distribution("share of frame", [row.share for row in rows], 0.0, 1.0),
        distribution("box width / height", [row.aspect for row in rows], 0.0, 1.2),
        distribution("log10 of threshold / declared range", [_log10(row.threshold) for row in rows], -4.0, 0.0),
    )
    return GroupReport(
        vendor,
        view,
        len(rows),
        count_values(row.method for row in rows),
        {name: count_values(map(value, rows), TABLE_ROWS) for name, value in tables.items()},
        tuple(quantity for quantity in quantities if quantity),
    )


def _log10(share: float) -> float:
    return math.log10(share) if share > 0 else math.nan


def count_values(values: Iterable[str], most: int = 0) -> dict[str, int]:
    """Count equal values, most frequent first.

    Parameters
    ----------
    values : iterable of str
        Values to count.
    most : int
        Number of values that are listed; all others are counted together. 0 lists all.
    """
    ordered = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    if not most or len(ordered) <= most + 1:
        return dict(ordered)
    others = ordered[most:]
    return dict(ordered[:most]) | {f"{len(others)} others": sum(count for _, count in others)}


def largest_deviations(rows: Sequence[ImageMeasurement]) -> dict[str, Deviation]:
    """Deviation of each segmented image from its group, by path.

    The larger of the deviations of the mask's share of the image (as a logarithm) and of the aspect of the box.
    """
    segmented = [row for row in rows if row.segmented]
    groups: dict[tuple[str, str], list[ImageMeasurement]] = {}
    for row in segmented:
        groups.setdefault(row.group, []).append(row)
        groups.setdefault(("", row.record.view.value), []).append(row)
    shares = {key: robust_center([math.log(row.share) for row in members]) for key, members in groups.items()}
    aspects = {key: robust_center([row.aspect for row in members]) for key, members in groups.items()}
    found = {}
    for row in segmented:
        key = row.group if len(groups[row.group]) >= MIN_GROUP_IMAGES else ("", row.record.view.value)
        group = f"{len(groups[key])} {key[1]} of {key[0] or 'all vendors'}"
        (share, share_sigma), (aspect, aspect_sigma) = shares[key], aspects[key]
        found[row.record.path] = max(
            Deviation(round(abs(math.log(row.share) - share) / share_sigma, 2), "share", row.share, math.exp(share), group),
            Deviation(round(abs(row.aspect - aspect) / aspect_sigma, 2), "aspect", row.aspect, aspect, group),
            key=lambda deviation: deviation.deviations,
        )
    return found


def robust_center(values: Sequence[float]) -> tuple[float, float]:
    """Median, and standard deviation from the median absolute deviation, at least :data:`MIN_SIGMA`."""
    array = np.array(values, np.float64)
    median = float(np.median(array))
    return median, max(MAD_TO_SIGMA * float(np.median(np.abs(array - median))), MIN_SIGMA)


def pair_report(breasts: Iterable[Breast], rows: Mapping[str, ImageMeasurement]) -> PairReport:
    """Compare CC and MLO.

    Parameters
    ----------
    breasts : iterable of Breast
        Those without both views are passed over.
    rows : mapping of str to ImageMeasurement
        Measurements by path.
    """
    ratios: list[tuple[str, float, str]] = []
    vendors, bits, not_compared = [], [], 0
    for breast in breasts:
        name, (first, second) = breast.key.breast_id, breast.views
        if first is None or second is None:
            continue
        if first.manufacturer != second.manufacturer:
            vendors.append(name)
        if first.bits_stored != second.bits_stored:
            bits.append(name)
        cc, mlo = rows.get(first.path), rows.get(second.path)
        if cc is None or mlo is None or not (cc.segmented and mlo.segmented) or bool(cc.pixel_area) != bool(mlo.pixel_area):
            not_compared += 1
            continue
        unit = "mm2" if cc.pixel_area else "pixels"
        ratios.append((name, cc.area * (cc.pixel_area or 1) / (mlo.area * (mlo.pixel_area or 1)), unit))
    median, sigma = robust_center([math.log(ratio) for _, ratio, _ in ratios]) if ratios else (0.0, 1.0)
    compared = [AreaRatio(name, round(r, 4), unit, round(abs(math.log(r) - median) / sigma, 2)) for name, r, unit in ratios]
    return PairReport(
        len(compared),
        not_compared,
        sum(pair.unit == "mm2" for pair in compared),
        distribution("area of CC / area of MLO", [pair.ratio for pair in compared], 0.0, 2.0),
        tuple(sorted(compared, key=lambda pair: (-pair.deviations, pair.breast_id))[:MAX_FARTHEST]),
        tuple(sorted(pair.breast_id for pair in compared if not 1 / AREA_RATIO <= pair.ratio <= AREA_RATIO)),
        tuple(sorted(vendors)),
        tuple(sorted(bits)),
    )
