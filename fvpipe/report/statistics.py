"""What rows of an audit come to: distributions, outliers and pairs. Pure: rows in, numbers out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fvpipe.imaging.view_agreement import AREA_RATIO
from fvpipe.report.measure import Measured
from fvpipe.types import Breast

BINS = 24  # of a small histogram
SHOWN = 8  # values of a table; the rest are counted together
SCALE = 1.4826  # from a median absolute deviation to a standard deviation, where values are normal
FLOOR = 0.01  # least deviation: in a group of equal images one pixel is no outlier
ENOUGH = 8  # images without which a vendor's medians of a view are those of all vendors
FARTHEST = 20  # breasts that are named


@dataclass(frozen=True, slots=True)
class Distribution:
    """One quantity: its extremes and median, and counts in equal bins from `start` to `stop`."""

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
    """The images of one vendor and view."""

    vendor: str
    view: str
    images: int
    methods: Mapping[str, int]
    tables: Mapping[str, Mapping[str, int]]
    distributions: tuple[Distribution, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """CC against MLO of a breast: the ratio of their areas, and how far it lies from the median of all."""

    breast_id: str
    ratio: float
    unit: str
    deviations: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """CC against MLO of all breasts whose views were both cropped, and both or neither have a pixel's size.

    `areas_disagree` are those that a build would flag so.
    """

    compared: int
    not_compared: int
    in_square_millimetres: int
    ratios: Distribution | None
    farthest: tuple[Pair, ...]
    areas_disagree: tuple[str, ...]
    vendors_differ: tuple[str, ...]
    bits_differ: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Far:
    """How far an image lies from others like it, and in what."""

    deviations: float
    quantity: str
    value: float
    median: float
    among: str


def distribution(name: str, values: Sequence[float], start: float, stop: float) -> Distribution | None:
    """Of the values that are numbers; None where there is none. What lies outside start..stop is in the outer bins."""
    finite = np.array([value for value in values if not math.isnan(value)], np.float64)
    if not len(finite):
        return None
    at = np.clip(((finite - start) / (stop - start) * BINS).astype(int), 0, BINS - 1)
    low, median, high = (round(float(f(finite)), 4) for f in (np.min, np.median, np.max))
    bins = tuple(np.bincount(at, minlength=BINS).tolist())
    return Distribution(name, len(finite), low, median, high, start, stop, bins)


def groups(rows: Iterable[Measured]) -> tuple[GroupReport, ...]:
    """One report for each vendor and view."""
    members: dict[tuple[str, str], list[Measured]] = {}
    for row in rows:
        members.setdefault(row.group, []).append(row)
    return tuple(_group(*key, members[key]) for key in sorted(members))


def _group(vendor: str, view: str, rows: Sequence[Measured]) -> GroupReport:
    tables: dict[str, Callable[[Measured], str]] = {
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
        counted(row.method for row in rows),
        {name: counted(map(value, rows), SHOWN) for name, value in tables.items()},
        tuple(each for each in quantities if each),
    )


def _log10(share: float) -> float:
    return math.log10(share) if share > 0 else math.nan


def counted(values: Iterable[str], most: int = 0) -> dict[str, int]:
    """How often each occurs, most often first; beyond `most` of them (0: all) together."""
    ordered = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    if not most or len(ordered) <= most + 1:
        return dict(ordered)
    others = ordered[most:]
    return dict(ordered[:most]) | {f"{len(others)} others": sum(count for _, count in others)}


def how_far(rows: Sequence[Measured]) -> dict[str, Far]:
    """For each cropped image's path, the farther of its share (as a logarithm) and its aspect from the group's median."""
    cropped = [row for row in rows if row.cropped]
    sizes = Counter(row.group for row in cropped)
    pools: dict[tuple[str, str], list[Measured]] = {}
    for row in cropped:
        pools.setdefault(row.group, []).append(row)
        pools.setdefault(("", row.record.view.value), []).append(row)
    centers = {key: _centers(members) for key, members in pools.items()}
    found = {}
    for row in cropped:
        key = row.group if sizes[row.group] >= ENOUGH else ("", row.record.view.value)
        among = f"{len(pools[key])} {key[1]} of {key[0] or 'all vendors'}"
        (share, share_spread), (aspect, aspect_spread) = centers[key]
        found[row.record.path] = max(
            Far(round(abs(math.log(row.share) - share) / share_spread, 2), "share", row.share, math.exp(share), among),
            Far(round(abs(row.aspect - aspect) / aspect_spread, 2), "aspect", row.aspect, aspect, among),
            key=lambda far: far.deviations,
        )
    return found


def _centers(rows: Sequence[Measured]) -> tuple[tuple[float, float], tuple[float, float]]:
    return center([math.log(row.share) for row in rows]), center([row.aspect for row in rows])


def center(values: Sequence[float]) -> tuple[float, float]:
    """Median, and the median absolute deviation as a standard deviation, at least `FLOOR`."""
    array = np.array(values, np.float64)
    median = float(np.median(array))
    return median, max(SCALE * float(np.median(np.abs(array - median))), FLOOR)


def pairs(breasts: Iterable[Breast], rows: Mapping[str, Measured]) -> Pairs:
    """CC against MLO."""
    ratios: list[tuple[str, float, str]] = []
    vendors, bits, left_out = [], [], 0
    for breast in breasts:
        name = breast.key.breast_id
        if breast.cc.manufacturer != breast.mlo.manufacturer:
            vendors.append(name)
        if breast.cc.bits_stored != breast.mlo.bits_stored:
            bits.append(name)
        cc, mlo = rows.get(breast.cc.path), rows.get(breast.mlo.path)
        if cc is None or mlo is None or not (cc.cropped and mlo.cropped) or bool(cc.pixel_size) != bool(mlo.pixel_size):
            left_out += 1
            continue
        sizes = cc.pixel_size, mlo.pixel_size
        ratios.append((name, cc.area * (sizes[0] or 1) / (mlo.area * (sizes[1] or 1)), "mm2" if all(sizes) else "pixels"))
    median, spread = center([math.log(ratio) for _, ratio, _ in ratios]) if ratios else (0.0, 1.0)
    compared = [Pair(name, round(r, 4), unit, round(abs(math.log(r) - median) / spread, 2)) for name, r, unit in ratios]
    return Pairs(
        len(compared),
        left_out,
        sum(pair.unit == "mm2" for pair in compared),
        distribution("area of CC / area of MLO", [pair.ratio for pair in compared], 0.0, 2.0),
        tuple(sorted(compared, key=lambda pair: (-pair.deviations, pair.breast_id))[:FARTHEST]),
        tuple(sorted(pair.breast_id for pair in compared if not 1 / AREA_RATIO <= pair.ratio <= AREA_RATIO)),
        tuple(sorted(vendors)),
        tuple(sorted(bits)),
    )
