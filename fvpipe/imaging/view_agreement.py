"""Comparison of the two views of a breast, and of the pixels of different patients. Disagreements are flagged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from math import isnan

from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import Digest, FusedSample, ImageRecord

HEADER_FLAGS = {
    Flag.IMPLANT: "implant",
    Flag.SYNTHETIC: "synthetic",
    Flag.LOW_ENERGY: "low_energy",
    Flag.REORIENTED: "reoriented",
    Flag.ORIENTATION_UNKNOWN: "orientation_unknown",
    Flag.OVERLAY: "overlay",
    Flag.SHUTTER: "shutter",
    Flag.FOR_PROCESSING: "for_processing",
}
"""Flags that are set by the header of an image, and the field of its record that sets each."""

AREA_RATIO, MEAN_RATIO = 3.0, 3.0
"""Largest ratio between two views of one breast; on the available films and simulated data it is below 2.1 and 1.8."""


def header_flags(*records: ImageRecord) -> Flag:
    """Flags that the header of any of the images sets."""
    flags = NO_FLAG
    for flag, name in HEADER_FLAGS.items():
        flags |= flag if any(getattr(record, name) for record in records) else NO_FLAG
    return flags


def disagreement_flags(cc: ImageRecord, mlo: ImageRecord, sample: FusedSample) -> Flag:
    """Flags of the properties in which CC and MLO disagree.

    Areas are compared in square millimeters if both headers give the pixel spacing, in pixels if neither does.

    Parameters
    ----------
    cc, mlo : ImageRecord
        Headers of both views.
    sample : FusedSample
        Its breast areas and means.
    """
    flags = NO_FLAG
    spacings = [(record.row_spacing or 0) * (record.column_spacing or 0) for record in (cc, mlo)]
    if all(spacings) or not any(spacings):
        first, second = (float(area) * (mm2 or 1) for area, mm2 in zip(sample.breast_area, spacings, strict=True))
        flags |= Flag.AREAS_DISAGREE if _exceeds(first, second, AREA_RATIO) else NO_FLAG
    first, second = map(float, sample.breast_mean)
    flags |= Flag.MEANS_DISAGREE if _exceeds(first, second, MEAN_RATIO) else NO_FLAG
    flags |= Flag.BITS_DIFFER if cc.bits_stored != mlo.bits_stored else NO_FLAG
    return flags | (Flag.VENDORS_DIFFER if cc.manufacturer != mlo.manufacturer else NO_FLAG)


def _exceeds(first: float, second: float, ratio: float) -> bool:
    return not isnan(first + second) and max(first, second) > ratio * min(first, second)


def shared_pixels(breasts: Iterable[tuple[str, str, tuple[Digest, Digest]]]) -> set[str]:
    """Find breasts with a view whose pixels equal those of another patient.

    Parameters
    ----------
    breasts : iterable of (str, str, (Digest, Digest))
        Breast id, patient id, pixel digests of CC and MLO.

    Returns
    -------
    ids : set of str
        Breast ids.
    """
    breasts = list(breasts)
    patients: dict[Digest, set[str]] = defaultdict(set)
    for _, patient, digests in breasts:
        for digest in digests:
            patients[digest].add(patient)
    return {breast for breast, _, digests in breasts if any(len(patients[digest]) > 1 for digest in digests)}
