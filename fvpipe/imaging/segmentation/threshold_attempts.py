"""Threshold attempts: from a background and a threshold to the outline of the breast on the thumbnail."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.segmentation.artifacts import rejoin_nipple, remove_leaks, remove_stripes
from fvpipe.imaging.segmentation.background import Background, CoarseGrid, Plane, backgrounds, deviation_bins, mode
from fvpipe.imaging.segmentation.morphology import (
    OPENING_RADIUS,
    area_beside,
    area_cut_off,
    clean_opencv,
    clean_simpleitk,
    fill_largest,
    otsu_simpleitk,
)
from fvpipe.imaging.segmentation.outline import (
    GATES,
    Surroundings,
    breast_extent,
    measure_outline,
    measure_surroundings,
    passes_gates,
)
from fvpipe.imaging.segmentation.threshold import (
    BINS,
    bin_edge,
    join_bins,
    linear_bins,
    otsu_threshold,
    plateau_steps,
    stable_thresholds,
    triangle_threshold,
)
from fvpipe.imaging.segmentation.thumbnail import Mask, Thumbnail

CLEAR_OUTLINE = 0.1  # share of a faint outline: where it is less, no other threshold is tried
EVEN_AIR = 45.0  # bins: where the surroundings of an outline are as even, no other background is tried
SKIN_SHARE = 0.4  # of the threshold: the dim ring between breast and nipple is brighter
MEDIAN_DIFFERENCE = 0.954  # between two values with normal noise, in standard deviations
BACKGROUND_GAIN = 20.0  # bins by which a less frequent background must make the surroundings more even


@dataclass(frozen=True, slots=True)
class ThresholdAttempt:
    """Outline found by one threshold, the chest wall on the left."""

    method: str  # otsu_log, otsu_linear or triangle
    mask: Mask  # (thumbnail rows, thumbnail columns): 255 on the breast
    background: Background  # level or surface above which the threshold lies
    limit: float  # threshold above the background, as a share of the range
    # Smallest value above the threshold, in the center of the image if the background is uneven; NaN if there is none
    threshold: float
    gates: Mapping[str, float]  # measurements for :data:`fvpipe.imaging.segmentation.outline.GATES`; empty if the mask is empty
    # Parts cut off, and parts left, beyond the breast: ``excess`` and ``fold`` of
    # :func:`fvpipe.imaging.segmentation.outline.breast_extent`; ``removed``, the area taken for a light leak, as a share of
    # all; ``beside``, that of the largest bright part beside the outline, in areas of it, and ``cut``, that of the largest
    # which a dark band parts from it
    extent: Mapping[str, float]
    surroundings: Surroundings  # what lies around the outline
    # Area of the largest outline that might have been chosen, since there is even air around it, in areas of this one
    rival: float = 1.0

    @property
    def passes(self) -> bool:
        """Whether the mask passes all quality gates."""
        return passes_gates(self.gates)


def attempt_thresholds(thumbnail: Thumbnail, settings: Segment) -> tuple[ThresholdAttempt, ...]:
    """Try the method of the settings, then the triangle if that fails; with ``agreement``, both in any case.

    Parameters
    ----------
    settings : Segment
        Method and engine.

    Returns
    -------
    attempts : tuple of ThresholdAttempt
        In the order in which they were tried, the best last. With ``agreement``, the last two are Otsu's and the triangle's.
    """
    attempt = partial(_attempt, thumbnail, settings.engine)
    agreement = settings.method == "agreement"
    tried: list[ThresholdAttempt] = []
    if settings.method in ("otsu_log", "agreement"):
        candidates = _candidates(thumbnail, settings.engine)
        largest = max((candidate.area for candidate in candidates if candidate.is_rival), default=0)
        for candidate in candidates:
            found = attempt("otsu_log", candidate.grid.background, bin_edge(candidate.threshold), candidate.grid)
            tried.append(replace(found, rival=max(largest / max(candidate.area, 1), 1.0)))
            if tried[-1].passes:
                break
    if settings.method == "otsu_linear":
        tried.append(attempt("otsu_linear", Background(0.0), _linear_limit(thumbnail, "otsu", settings.engine)))
    if agreement or not tried or not tried[-1].passes:
        tried.append(attempt("triangle", Background(0.0), _linear_limit(thumbnail, "triangle", settings.engine)))
    return tuple(tried)


def _linear_limit(thumbnail: Thumbnail, method: str, engine: str) -> float:
    bins = linear_bins(thumbnail.relative)
    counts = np.bincount(bins, thumbnail.counts, BINS).astype(np.int64)
    if method == "triangle":
        threshold = triangle_threshold(counts)
    elif engine == "simpleitk":
        inside = slice(thumbnail.border, -thumbnail.border)
        threshold = otsu_simpleitk(bins.take(thumbnail.stored[inside, inside]))
    else:
        threshold = otsu_threshold(counts)
    return (threshold + 1) / BINS


# --- choice of background and threshold on the coarse grid ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Candidate:
    grid: CoarseGrid
    threshold: int
    is_frame: bool  # it nearly fills the image or its box: no breast, but a field of air
    surroundings: Surroundings
    area: int  # pixels of the coarse grid

    @property
    def is_rival(self) -> bool:
        """Whether there is dark and even air around the rough outline, even a faint one."""
        return not self.is_frame and max(self.surroundings.ring, self.surroundings.unevenness) <= EVEN_AIR


def _candidates(thumbnail: Thumbnail, engine: str) -> list[_Candidate]:
    """Backgrounds and thresholds to try, the best first: those around whose rough outline there is dark and even air."""
    found: list[tuple[float, _Candidate]] = []
    for rank, background in enumerate(backgrounds(thumbnail)):
        for candidate in _rough_outlines(thumbnail, background, engine):
            doubt = candidate.surroundings.doubt + rank * BACKGROUND_GAIN
            found.append((np.inf if candidate.is_frame else doubt, candidate))
            if not candidate.is_frame and candidate.surroundings.faint <= CLEAR_OUTLINE:
                break
        around = found[-1][1].surroundings
        if not found[-1][1].is_frame and around.ring + around.unevenness <= EVEN_AIR:
            break
    return [candidate for _, candidate in sorted(found, key=lambda pair: pair[0])]


def _rough_outlines(thumbnail: Thumbnail, background: Background, engine: str) -> Iterator[_Candidate]:
    grid = background.on_grid(thumbnail)
    bins = deviation_bins(grid.deviation)
    counts = np.bincount(bins.ravel(), minlength=BINS)
    otsu = otsu_simpleitk(bins) if engine == "simpleitk" else otsu_threshold(counts)
    steps = plateau_steps(_noise(grid.deviation, bins <= otsu), otsu)
    joined = join_bins(np.maximum(bins, np.uint8(min([*steps, otsu]))))  # what lies below all thresholds needs no path
    for threshold in stable_thresholds(joined, steps, otsu):
        rough = fill_largest(np.asarray(cv2.threshold(joined, threshold, 255, cv2.THRESH_BINARY)[1], np.uint8))
        area, (_, _, width, height) = cv2.countNonZero(rough), cv2.boundingRect(rough)
        is_frame = not area or area > GATES["share"][1] * rough.size or area > GATES["fill"][1] * width * height
        yield _Candidate(grid, threshold, is_frame, measure_surroundings(rough, grid, bin_edge(threshold)), area)


def _noise(deviation: Plane, dark: NDArray[np.bool_]) -> float:
    """Noise of air: the standard deviation that the median difference between dark neighbors tells."""
    differences = np.abs(np.diff(deviation, axis=1))[dark[:, 1:] & dark[:, :-1]]
    return float(np.median(differences)) / MEDIAN_DIFFERENCE if len(differences) else 0.0


# --- the outline on the thumbnail -------------------------------------------------------------------------------------


def _attempt(
    thumbnail: Thumbnail, engine: str, method: str, background: Background, limit: float, grid: CoarseGrid | None = None
) -> ThresholdAttempt:
    border = thumbnail.border
    bright = _bright(thumbnail, background, limit)
    binary = np.zeros_like(bright)
    inside = slice(border, -border)
    binary[inside, inside] = bright[inside, inside]
    radius = max(1, round(OPENING_RADIUS * max(bright.shape)))
    clean = clean_simpleitk if engine == "simpleitk" else clean_opencv
    mask = clean(binary, radius, border)
    _extend_to_edges(mask, bright, border)
    removed = 0.0
    for remove in (remove_stripes, remove_leaks):
        if remove(binary, mask, thumbnail):
            area = cv2.countNonZero(mask)
            mask = clean(binary, radius, border)
            _extend_to_edges(mask, bright, border)
            removed = 1 - cv2.countNonZero(mask) / area if remove is remove_leaks else 0.0
    if method == "otsu_log":
        joined = rejoin_nipple(mask, binary, lambda: _bright(thumbnail, background, SKIN_SHARE * limit), radius)
        if joined is not mask and passes_gates(measure_outline(joined, border)):  # if it fails, it was a label plate
            mask = joined
    parts = {"beside": area_beside(binary, mask, radius), "cut": area_cut_off(binary, mask, radius, border)}
    mask, beyond = breast_extent(mask, thumbnail)
    where = thumbnail.coarse
    air = grid or Background(mode(thumbnail)).on_grid(thumbnail)
    above_air = max(background.level + limit - air.background.level, 0.0)
    around = measure_surroundings(np.ascontiguousarray(mask[where, where]), air, above_air)
    values = thumbnail.values[bright_values(thumbnail, background, limit)]
    threshold = float(values.min()) if len(values) else math.nan
    extent = {**beyond, "removed": removed, **parts}
    return ThresholdAttempt(method, mask, background, limit, threshold, measure_outline(mask, border), extent, around)


def bright_values(thumbnail: Thumbnail, background: Background, limit: float) -> NDArray[np.bool_]:
    """Whether each stored value lies above the threshold, in the center of the image if the background is uneven."""
    bright: NDArray[np.bool_] = thumbnail.relative - background.level >= limit
    return bright


def _bright(thumbnail: Thumbnail, background: Background, limit: float) -> Mask:
    """Mask of the pixels that are brighter than the background by at least the limit."""
    if background.fit is None:
        return (bright_values(thumbnail, background, limit) * np.uint8(255)).take(thumbnail.stored)
    return (background.deviation(thumbnail, slice(None)) >= limit) * np.uint8(255)


def _extend_to_edges(mask: Mask, bright: Mask, border: int) -> None:
    """Extend a mask that reaches the border to the edge of the image, in place.

    To the left and right it is extended only as far as the image is bright: the chest wall may lie beside a dark margin, and a
    nipple may end before the opposite edge, where it is not extended into the border of a film either.
    """
    mask[:border] = mask[border]
    mask[-border:] = mask[-border - 1]
    wall = mask[:, border] > 0
    filled = 2 * (bright[wall, :border] > 0).sum(axis=0) >= wall.sum()
    mask[:, :border] = np.where(np.logical_and.accumulate(filled[::-1])[::-1], mask[:, border : border + 1], 0)
    strip = bright[:, -border:] > 0
    strip &= 2 * strip.sum(axis=0) < len(bright)
    mask[:, -border:] = np.where(np.logical_and.accumulate(strip, axis=1), mask[:, -border - 1 : -border], 0)
