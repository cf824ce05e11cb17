"""Pairing of CC and MLO: image records and labels in, breasts and rejections out. Pure: no file is touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any

from fvpipe.indexing.labels import BreastLabels
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Breast, BreastKey, Digest, ImageFacts, ImageRecord, Laterality, View


@dataclass(frozen=True, slots=True)
class Pairing:
    """Breasts and rejections, sorted; every image record is in a breast, a rejection of the image, or one of its breast."""

    breasts: tuple[Breast, ...]
    rejections: tuple[Rejection, ...]
    label_hints: tuple[str, ...] = ()  # of rows of the label table that seem to be misspelled, as their rejections say


def rejection_order(rejection: Rejection) -> tuple[str, str, str]:
    """Sort key of every list of rejections."""
    return rejection.what, rejection.reason, rejection.detail


def colliding_instances(records: Iterable[ImageRecord]) -> list[list[ImageRecord]]:
    """Group records that share an SOP Instance UID: their pixels must be compared before they are paired."""
    by_uid: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.sop_instance_uid:
            by_uid[record.sop_instance_uid].append(record)
    return [sorted(group, key=lambda record: record.path) for _, group in sorted(by_uid.items()) if len(group) > 1]


def contradictions(records: Iterable[ImageRecord], labels: BreastLabels) -> Iterator[Rejection]:
    """Reject records whose header contradicts the label table: which of the two is wrong cannot be known here."""
    records = list(records)
    labels = labels.matched(records)
    for record in records:
        facts = labels.images.get(record.sop_instance_uid) or ImageFacts(0)
        age = labels.facts(*_breast(record)).age
        for reason, header, table in (
            (Reason.LATERALITY_CONFLICT, record.laterality, facts.laterality),
            (Reason.VIEW_CONFLICT, record.view, facts.view),
            (Reason.SIZE_CONFLICT, record.rows, facts.rows),
            (Reason.SIZE_CONFLICT, record.columns, facts.columns),
            (Reason.AGE_CONFLICT, record.patient_age or None, age or None),
        ):
            if None not in (header, table) and header != table:
                where = f" (line {facts.line})" if facts.line else ""
                yield Rejection(record.path, reason, f"the header says {header}, the label table{where} says {table}")
                break


def tied_images(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Find the images among which only the SOP Instance UID can choose."""
    equals: dict[Any, list[ImageRecord]] = defaultdict(list)
    for record in records:
        equals[_breast(record), record.view, _kind(record), record.rows * record.columns].append(record)
    return [record for group in equals.values() if len(group) > 1 for record in group]


def pair(
    dataset: str,
    records: Iterable[ImageRecord],
    labels: BreastLabels,
    contents: Mapping[str, Digest],
    published: Mapping[str, str] = MappingProxyType({}),
) -> Pairing:
    """Pair CC and MLO of each breast, with the facts and findings of the label table.

    Parameters
    ----------
    dataset : str
        Name of the data set.
    records : iterable of ImageRecord
        In any order: the result does not depend on it.
    labels : BreastLabels
        The label table; a breast that it does not name is unlabelled.
    contents : mapping of str to Digest
        Digest of the decoded pixels and their rescale, by path, of each record of :func:`colliding_instances`.
    published : mapping of str to str
        SOP Instance UID as published, by path, of each record of :func:`tied_images`, where the records hold keyed digests:
        the choice must not depend on the key. Empty where they hold it themselves.

    Returns
    -------
    Pairing
        Breasts sorted by patient, study and side; rejections by :func:`rejection_order`.
    """
    records = list(records)
    labels = labels.matched(records)
    ambiguous = labels.match.ambiguous if labels.match else {}
    rejections = [each for group in colliding_instances(records) for each in _duplicates(group, contents)]
    set_aside = {rejection.what for rejection in rejections}
    breasts: list[Breast] = []
    candidates = sorted((r for r in records if r.path not in set_aside), key=lambda r: (*_breast(r), r.path))
    for (patient, study, laterality), group in groupby(candidates, key=_breast):
        key, images = BreastKey(dataset, patient, study, laterality), list(group)
        chosen = _choose_pair(key, images, published)
        if isinstance(chosen, Rejection):
            rejections.append(chosen)
            continue
        for image in images:
            if image not in chosen:
                detail = f"another {image.view} of breast {key.breast_id} was chosen"
                rejections.append(Rejection(image.path, Reason.SUPERSEDED, detail))
        facts = labels.facts(patient, study, laterality)
        if facts.excluded:
            rejections.append(Rejection(key.breast_id, Reason.LABEL_EXCLUDED, facts.excluded))
        elif why := ambiguous.get((patient, study, laterality)):
            rejections.append(Rejection(key.breast_id, Reason.LABEL_AMBIGUOUS, why))
        else:
            cc, mlo = map(labels.findings_of, chosen)
            breasts.append(Breast(key, *chosen, facts, (cc, mlo)))
    unmatched = dict(labels.without_image(records))  # an adapter need not give the lines that tell rows apart
    hints = tuple(rejection.detail for rejection, misspelled in unmatched.items() if misspelled)
    return Pairing(tuple(breasts), tuple(sorted([*rejections, *unmatched], key=rejection_order)), hints)


def _duplicates(group: Sequence[ImageRecord], contents: Mapping[str, Digest]) -> list[Rejection]:
    """Rejections of a group of :func:`colliding_instances`: all but the first where all are equal, else all."""
    read = {
        (contents[r.path], r.photometric_interpretation, r.bits_stored, *_breast(r), r.view, r.orientation, _kind(r))
        for r in group
    }
    if len(read) == 1:
        detail = "the same instance and pixels as another file, which is kept"
        return [Rejection(other.path, Reason.DUPLICATE_INSTANCE, detail) for other in group[1:]]  # the first, by path, is kept
    what = "pixels, rescale, polarity, bits, patient, study, side, view, kind or orientation"
    detail = f"{len(group)} files of one SOP Instance UID differ in {what}"
    return [Rejection(record.path, Reason.INSTANCE_CONFLICT, detail) for record in group]


def _breast(record: ImageRecord) -> tuple[str, str, Laterality]:
    return record.patient_id, record.study, record.laterality


def _kind(image: ImageRecord) -> tuple[bool, bool, bool, bool]:
    """Kind of an image: only images of one kind pair, and the kinds sort as they are preferred."""
    return image.for_processing, image.synthetic, image.low_energy, image.implant_displaced


_KINDS = ("for processing", "synthetic", "low-energy", "implant displaced")


def _choose_pair(
    key: BreastKey, images: Sequence[ImageRecord], published: Mapping[str, str]
) -> tuple[ImageRecord, ImageRecord] | Rejection:
    """Choose the best CC and the best MLO of the best kind that has both; the choice never depends on file order."""

    def preference(image: ImageRecord) -> tuple[bool, int, str, str]:
        uid = published.get(image.path, image.sop_instance_uid)
        return image.orientation_unknown, -image.rows * image.columns, uid, image.path

    best: dict[tuple[Any, View], ImageRecord] = {}
    for image in sorted(images, key=preference):
        best.setdefault((_kind(image), image.view), image)
    for kind in sorted({kind for kind, _ in best}):
        cc, mlo = best.get((kind, View.CC)), best.get((kind, View.MLO))
        if cc and mlo:
            return cc, mlo
    counts = {view: sum(image.view is view for image in images) for view in View}
    found = f"{counts[View.CC]} CC and {counts[View.MLO]} MLO"
    if not all(counts.values()):
        missing = Reason.MLO_MISSING if counts[View.CC] else Reason.CC_MISSING
        return Rejection(key.breast_id, missing, f"{found}; expected one of each")
    kinds = {view: sorted({kind for kind, of in best if of is view}) for view in View}
    if {kind[:-1] for kind in kinds[View.CC]} & {kind[:-1] for kind in kinds[View.MLO]}:
        return Rejection(key.breast_id, Reason.IMPLANT_MISMATCH, f"{found}, one side of them implant-displaced")
    said = "; ".join(f"{view}: {', '.join(map(_kind_name, kinds[view]))}" for view in View)
    return Rejection(key.breast_id, Reason.KIND_MISMATCH, f"{said}; expected both of one kind")


def _kind_name(kind: tuple[bool, ...]) -> str:
    names = [name for name, is_it in zip(_KINDS, kind, strict=True) if is_it]
    return " and ".join(names if any(kind[:-1]) else ["full-field", *names])
