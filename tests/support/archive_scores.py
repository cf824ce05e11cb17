"""Scores of the segmentation on :mod:`tests.support.archive`, against its truth."""

from __future__ import annotations

import time
from dataclasses import dataclass

from fvpipe.config.pipeline import Segment
from fvpipe.imaging.segmentation.segment import full_mask, segment
from fvpipe.reasons import Flag
from tests.support.archive import ArchiveCase, ArchiveImage, bounding_box

FLAGGED = Flag.CC_CROP_FALLBACK | Flag.CC_CROP_LOOSE | Flag.CC_CROP_DOUBTFUL
"""Flags of a crop that is not certain; `segment` sets the bits of the CC, whichever the view."""


@dataclass(frozen=True)
class Score:
    """Segmentation of one case, compared with its truth.

    Attributes
    ----------
    dice : float
        Of mask and breast; pixels of arm and abdomen count in neither.
    lost : float
        Share of the breast outside the tight box.
    excess_columns, excess_rows : float
        Share of the tight box that lies beyond the breast's own box, on both sides together.
    fallback, flagged : bool
        The crop is the whole frame; the crop is that, loose or doubtful.
    seconds : float
        Time of the segmentation alone.
    """

    case: ArchiveCase
    dice: float
    lost: float
    excess_columns: float
    excess_rows: float
    fallback: bool
    flagged: bool
    seconds: float

    @property
    def right(self) -> bool:
        """Whether the crop holds the breast and little else, by the bounds of the benchmark."""
        return self.lost <= 0.01 and max(self.excess_columns, self.excess_rows) <= 0.10


def score(made: ArchiveImage, settings: Segment | None = None) -> Score:
    """Segment, and compare with the truth."""
    begun = time.perf_counter()
    found = segment(made.image, settings or Segment(method="otsu_log"))
    seconds = time.perf_counter() - begun
    counted = ~(made.arm | made.abdomen)
    mask = (full_mask(found, *made.image.shape) > 0) & counted
    box, own = found.tight_box, bounding_box(made.breast)
    return Score(
        made.case,
        float(2 * (mask & made.breast).sum() / (mask.sum() + made.breast.sum())),
        1 - int(made.breast[box.top : box.bottom, box.left : box.right].sum()) / int(made.breast.sum()),
        (max(0, own.left - box.left) + max(0, box.right - own.right)) / box.width,
        (max(0, own.top - box.top) + max(0, box.bottom - own.bottom)) / box.height,
        Flag.CC_CROP_FALLBACK in found.flags,
        bool(found.flags & FLAGGED),
        seconds,
    )
