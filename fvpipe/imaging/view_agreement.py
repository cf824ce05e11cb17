"""Comparison of the two views of a breast, and of the pixels of different breasts. Disagreements are flagged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from math import isnan

from fvpipe.imaging.pixel_digest import unturned
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import BreastKey, Digest, FusedSample, ImageRecord

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

CONSTANT_VIEW = "all pixels that are not padding have one value; expected a mammogram (`constant: keep` builds it flagged)"
IDENTICAL_VIEWS = "the same pixels in both views; expected two images"
"""Details of the rejections of that name."""

AREA_RATIO, MEAN_RATIO = 3.0, 3.0
"""Largest ratio between two views of one breast; on the available films and simulated data it is below 2.1 and 1.8."""


def header_flags(*records: ImageRecord) -> Flag:
    """Flags that the header of any of the images sets."""
    flags = NO_FLAG
    for flag, name in HEADER_FLAGS.items():
        flags |= flag if any(getattr(record, name) for record in records) else NO_FLAG
    return flags


def constant_flags(flags: Flag, constant: Iterable[bool]) -> Flag:
    """Replace the flags of constant views by what `constant` says of CC and MLO, or of one image as CC.

    Segmentation also sets them where its thumbnail is constant, which does not mean that the image is.
    """
    flags &= ~(Flag.CC_CONSTANT | Flag.MLO_CONSTANT)
    for flag, is_set in zip((Flag.CC_CONSTANT, Flag.MLO_CONSTANT), constant, strict=False):
        flags |= flag if is_set else NO_FLAG
    return flags


def disagreement_flags(cc: ImageRecord | None, mlo: ImageRecord | None, sample: FusedSample) -> Flag:
    """Flags of the properties in which CC and MLO disagree; none where the breast lacks one of them.

    Areas are compared in square millimeters if both headers give the pixel spacing, in pixels if neither does.

    Parameters
    ----------
    cc, mlo : ImageRecord or None
        Headers of both views.
    sample : FusedSample
        Its breast areas and means.
    """
    flags = NO_FLAG
    if cc is None or mlo is None:
        return flags
    spacings = [(record.row_spacing or 0) * (record.column_spacing or 0) for record in (cc, mlo)]
    if all(spacings) or not any(spacings):
        first, second = (float(area) * (mm2 or 1) for area, mm2 in zip(sample.breast_area, spacings, strict=True))
        flags |= Flag.AREAS_DISAGREE if _exceeds(first, second, AREA_RATIO) else NO_FLAG
    first, second = map(float, sample.breast_mean)
    flags |= Flag.MEANS_DISAGREE if _exceeds(first, second, MEAN_RATIO) else NO_FLAG
    return flags | (Flag.VENDORS_DIFFER if cc.manufacturer != mlo.manufacturer else NO_FLAG)


def _exceeds(first: float, second: float, ratio: float) -> bool:
    return not isnan(first + second) and max(first, second) > ratio * min(first, second)


def shared_flags(breasts: Iterable[tuple[BreastKey, Sequence[Digest]]]) -> dict[str, Flag]:
    """Find breasts with a view whose pixels equal those of another breast, however they lie.

    Parameters
    ----------
    breasts : iterable of (BreastKey, sequence of Digest)
        Breasts of one data set, with the pixel digests of their views.

    Returns
    -------
    flags : dict of str to Flag
        By breast id: ``SHARED_PIXELS`` for the pixels of another patient, ``SHARED_BY_SIDES`` for those of the patient's other
        breast, ``SHARED_BY_EXAMS`` for those of the patient's other exam. Breasts without any are left out.
    """
    known = [(key, tuple(unturned(digest) for digest in digests)) for key, digests in breasts]
    owners: dict[tuple[Flag, Digest, str], set[str]] = defaultdict(set)
    for key, digests in known:
        for group, owner in _owners(key, digests):
            owners[group].add(owner)
    flags: dict[str, Flag] = {}
    for key, digests in known:
        for group, _ in _owners(key, digests):
            if len(owners[group]) > 1:
                flags[key.breast_id] = flags.get(key.breast_id, NO_FLAG) | group[0]
    return flags


def _owners(key: BreastKey, digests: Iterable[Digest]) -> Iterator[tuple[tuple[Flag, Digest, str], str]]:
    """Groups of breasts that share pixels, and what must be one in each."""
    for digest in digests:
        yield (Flag.SHARED_PIXELS, digest, ""), key.patient
        yield (Flag.SHARED_BY_SIDES, digest, key.patient), key.laterality
        yield (Flag.SHARED_BY_EXAMS, digest, key.patient), key.study
