"""Do the two views show one breast of one patient? What does not fit is flagged, with the numbers beside it in the shard."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import isnan

from fvpipe.reasons import Flag
from fvpipe.types import Digest, FusedSample, ImageRecord

OF_A_VIEW = {
    Flag.IMPLANT: "implant",
    Flag.SYNTHETIC: "synthetic",
    Flag.OVERLAY: "overlay",
    Flag.SHUTTER: "shutter",
    Flag.FOR_PROCESSING: "for_processing",
}
"""Flags that a breast has where the header of either view says so, and the field of its record."""

AREA_RATIO, MEAN_RATIO = 3.0, 3.0
"""How far apart two views of one breast may be: on the films and the simulated data at hand they stay below 2.1 and 1.8."""


def views_agree(cc: ImageRecord, mlo: ImageRecord, sample: FusedSample) -> Flag:
    """What of CC and MLO does not go together.

    Areas are compared in square millimetres where both headers give the pixels' size, in pixels where neither does.
    """
    flags = Flag(0)
    sizes = [(record.row_spacing or 0) * (record.column_spacing or 0) for record in (cc, mlo)]
    if all(sizes) or not any(sizes):
        first, second = (float(area) * (size or 1) for area, size in zip(sample.breast_area, sizes, strict=True))
        flags |= Flag.AREAS_DISAGREE if _apart(first, second, AREA_RATIO) else Flag(0)
    first, second = map(float, sample.breast_mean)
    flags |= Flag.MEANS_DISAGREE if _apart(first, second, MEAN_RATIO) else Flag(0)
    flags |= Flag.BITS_DIFFER if cc.bits_stored != mlo.bits_stored else Flag(0)
    return flags | (Flag.VENDORS_DIFFER if cc.manufacturer != mlo.manufacturer else Flag(0))


def _apart(first: float, second: float, limit: float) -> bool:
    return not isnan(first + second) and max(first, second) > limit * min(first, second)


def shared_pixels(breasts: Iterable[tuple[str, str, tuple[Digest, Digest]]]) -> set[str]:
    """Ids of breasts of which a view has exactly the pixels of another patient's.

    Parameters
    ----------
    breasts : iterable of (str, str, (Digest, Digest))
        Breast id, patient, pixel digests of CC and MLO.
    """
    breasts = list(breasts)
    patients: dict[Digest, set[str]] = defaultdict(set)
    for _, patient, digests in breasts:
        for digest in digests:
            patients[digest].add(patient)
    return {breast for breast, _, digests in breasts if any(len(patients[digest]) > 1 for digest in digests)}
