"""Findings in the samples of two pipelines: how many pixels they get, and whether the crop keeps them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fvpipe.report.finding_boxes import SampleFinding
from fvpipe.shards.reader import Shards
from fvpipe.types import VIEWS

ROUNDING = 0.01  # pixels of a sample, of the table


@dataclass(frozen=True, slots=True)
class FindingPixels:
    """Boxes of findings in the samples of both pipelines."""

    boxes: int  # on views that both samples show
    first: float  # median number of sample pixels of a box
    second: float
    ratio: float  # median of the ratios, first to second
    first_kept: float  # share of the boxes that lie wholly inside the crop
    second_kept: float


Findings = Mapping[str, Sequence[SampleFinding]]
"""Breast id -> its findings on views that the sample shows."""


def largest_findings(
    first: Shards, second: Shards, pairs: Sequence[tuple[int, int]], findings: tuple[Findings, Findings]
) -> NDArray[np.float64]:
    """Sizes of each breast's largest finding on a view that either sample shows, the same whichever pipeline comes first.

    Parameters
    ----------
    first, second, pairs, findings
        As for :func:`finding_pixels`.

    Returns
    -------
    sizes : float64 array, shape (n,)
        Root of the box's area in source pixels as a share of the film's height; NaN without a finding.
    """
    sizes = []
    for i, j in pairs:
        # A sample of one view may lack the size of the other.
        heights = np.maximum(first.columns["source_shape"][i, :, 0], second.columns["source_shape"][j, :, 0]).tolist()
        largest = math.nan
        for finding in [found for each in findings for found in each.get(str(first.breast_ids[i]), ())]:
            top, bottom, left, right = finding.box
            size = math.sqrt(abs((bottom - top) * (right - left))) / heights[VIEWS.index(finding.view)]
            largest = max(size, largest) if math.isfinite(largest) else size
        sizes.append(largest)
    return np.array(sizes, np.float64)


def finding_pixels(
    first: Shards, second: Shards, pairs: Sequence[tuple[int, int]], findings: tuple[Findings, Findings]
) -> FindingPixels | None:
    """Compare the findings on views that both samples show; None where there are none.

    Parameters
    ----------
    first, second : Shards
        Shard folders.
    pairs : sequence of (int, int)
        Index of each breast in both.
    findings : (Findings, Findings)
        Of both.
    """
    areas, kept = [], []
    for i, j in pairs:
        breast = str(first.breast_ids[i])
        theirs = {(finding.view, finding.number): finding for finding in findings[1].get(breast, ())}
        for finding in findings[0].get(breast, ()):
            other = theirs.get((finding.view, finding.number))
            if other is not None:
                areas.append((_area(finding), _area(other)))
                kept.append((_is_kept(first, i, finding), _is_kept(second, j, other)))
    if not areas:
        return None
    one, two = np.array(areas).T
    share = np.array(kept, np.float64).mean(axis=0)
    ratio = float(np.median(one / np.maximum(two, 1e-9)))
    return FindingPixels(len(areas), float(np.median(one)), float(np.median(two)), ratio, float(share[0]), float(share[1]))


def _area(finding: SampleFinding) -> float:
    return float(cv2.contourArea(finding.outline.astype(np.float32)))


def _is_kept(shards: Shards, i: int, finding: SampleFinding) -> bool:
    """Whether a finding lies within the crop of its view, but for rounding."""
    top, bottom, left, right = shards.columns["placement"][i][VIEWS.index(finding.view)].tolist()
    rows, columns = finding.outline.T
    inside = top - ROUNDING <= rows.min() and rows.max() <= bottom + ROUNDING
    return bool(inside and min(left, right) - ROUNDING <= columns.min() and columns.max() <= max(left, right) + ROUNDING)
