"""Verdict on a crop: whether it holds the whole breast, and hardly more."""

from __future__ import annotations

from collections.abc import Mapping

from fvpipe.imaging.segmentation.threshold_attempts import ThresholdAttempt
from fvpipe.reasons import CropVerdict

LIMITS = {"ring": 110.0, "rival": 1.5, "removed": 0.12, "beside": 0.5, "cut": 0.01, "faint": 0.2, "excess": 0.25, "fold": 0.1}
"""Largest measurements of a good crop.

- ``ring``: logarithmic bins by which the ring around the outline is brighter than air. Beyond it, tissue may lie there.
- ``rival``: area of a larger outline that was not chosen, in areas of the one that was. Beyond it, tissue may be left out.
- ``removed``: area that was taken for a light leak, as a share of all. Beyond it, it may have been tissue.
- ``beside``: area of the largest bright part beside the outline, in areas of it. Beyond it, there may be another breast.
- ``cut``: area that a dark band parts from the outline, in areas of it. Beyond it, a part of the breast is left out.
- ``faint``: share of the outline where brightness hardly rises inwards. Beyond it, air was taken for breast.
- ``excess``: by how much a peak extends beyond the breast, as a share of its width. A nipple extends less.
- ``fold``: rows of what may be abdomen, a second fold of skin or the lower part of a scarred breast, as a share of all.
"""

DOUBTFUL = {"ring", "rival", "removed", "beside", "cut"}  # beyond a limit of these, a part of the breast may lie outside


def measurements(attempt: ThresholdAttempt) -> dict[str, float]:
    """Numbers that a verdict is made from, with those of the quality gates."""
    around = attempt.surroundings
    return {**attempt.gates, "ring": around.ring, "rival": attempt.rival, "faint": around.faint, **attempt.extent}


def judge(measured: Mapping[str, float]) -> CropVerdict:
    """Judge the crop of an outline that passes the quality gates."""
    beyond = _beyond(measured)
    if DOUBTFUL.intersection(beyond):
        return CropVerdict.DOUBTFUL
    return CropVerdict.LOOSE if beyond else CropVerdict.GOOD


def explain(measured: Mapping[str, float]) -> str:
    """Name the measurements beyond their limits; empty if the crop is good or there is none."""
    return ", ".join(f"{name} {measured[name]:.3g} (at most {LIMITS[name]:g})" for name in _beyond(measured))


def _beyond(measured: Mapping[str, float]) -> list[str]:
    return [name for name, limit in LIMITS.items() if measured.get(name, 0.0) > limit]
