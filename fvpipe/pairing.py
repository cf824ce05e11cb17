"""Step 2: image records -> breasts, and what was left out and why. Pure: no file is touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fvpipe.types import Breast, BreastFacts, BreastKey, Digest, ImageFacts, ImageRecord, Laterality, Reason, Rejection, View


@dataclass(frozen=True, slots=True)
class Pairing:
    """Every image record is in exactly one place: a breast, a rejection of the image, or a rejection of its breast."""

    breasts: tuple[Breast, ...]
    rejections: tuple[Rejection, ...]


def colliding_instances(records: Iterable[ImageRecord]) -> list[list[ImageRecord]]:
    """Groups of records that share an SOP Instance UID: their content must be compared before pairing."""
    by_uid: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.sop_instance_uid:
            by_uid[record.sop_instance_uid].append(record)
    return [sorted(group, key=lambda record: record.path) for _, group in sorted(by_uid.items()) if len(group) > 1]


def contradictions(
    records: Iterable[ImageRecord], images: Mapping[str, ImageFacts], labels: Mapping[tuple[str, Laterality], BreastFacts]
) -> list[Rejection]:
    """Records whose header says otherwise than the label table: which of the two is wrong, nobody here can know.

    Parameters
    ----------
    records : iterable of ImageRecord
    images : mapping of SOP Instance UID to ImageFacts
    labels : mapping of (patient, Laterality) to BreastFacts
    """
    found = []
    for record in records:
        facts = images.get(record.sop_instance_uid) or ImageFacts(0)
        age = labels.get((record.patient_id, record.laterality), BreastFacts()).age
        for reason, header, table in (
            (Reason.LATERALITY_CONFLICT, record.laterality, facts.laterality),
            (Reason.VIEW_CONFLICT, record.view, facts.view),
            (Reason.SIZE_CONFLICT, record.rows, facts.rows),
            (Reason.SIZE_CONFLICT, record.columns, facts.columns),
            (Reason.AGE_CONFLICT, record.patient_age or None, age or None),
        ):
            if None not in (header, table) and header != table:
                where = f" (line {facts.line})" if facts.line else ""
                found.append(Rejection(record.path, reason, f"the header says {header}, the label table{where} says {table}"))
                break
    return found


def pair(
    dataset: str,
    records: Iterable[ImageRecord],
    labels: Mapping[tuple[str, Laterality], BreastFacts],
    excluded_patients: Mapping[str, str],
    contents: Mapping[str, Digest],
) -> Pairing:
    """Pair CC and MLO of each breast.

    Parameters
    ----------
    dataset : str
    records : iterable of ImageRecord
        In any order: the result does not depend on it.
    labels : mapping of (patient, Laterality) to BreastFacts
        A breast that is not in it is unlabelled.
    excluded_patients : mapping of patient to str
        Why none of a patient's breasts is used.
    contents : mapping of path to Digest
        Digest of the decoded pixels of each record of :func:`colliding_instances`.

    Returns
    -------
    Pairing
        Sorted.
    """
    records = sorted(records, key=lambda record: record.path)
    kept, rejections = _without_duplicates(records, contents)
    by_breast: dict[BreastKey, list[ImageRecord]] = defaultdict(list)
    for record in kept:
        by_breast[BreastKey(dataset, record.patient_id, record.study, record.laterality)].append(record)
    breasts = []
    for key, images in sorted(by_breast.items()):
        facts = labels.get((key.patient, key.laterality), BreastFacts())
        outcome = _choose_pair(key, images)
        if isinstance(outcome, Rejection):
            rejections.append(outcome)
            continue
        cc, mlo = outcome
        rejections += [
            Rejection(image.path, Reason.SUPERSEDED, f"another {image.view} of breast {key.breast_id} was chosen")
            for image in images
            if image not in outcome
        ]
        excluded = excluded_patients.get(key.patient) or facts.excluded
        if excluded:
            rejections.append(Rejection(key.breast_id, Reason.LABEL_EXCLUDED, excluded))
        else:
            breasts.append(Breast(key, cc, mlo, facts))
    # A breast whose images were all refused is named by them; here only those without any image at all.
    imaged = {(record.patient_id, record.laterality) for record in records}
    rejections += [
        Rejection(f"{patient}_{laterality}", Reason.LABEL_WITHOUT_IMAGE, "the label table has a row, the input no usable image")
        for patient, laterality in sorted(labels.keys() - imaged)
    ]
    return Pairing(tuple(breasts), tuple(sorted(rejections, key=lambda r: (r.what, r.reason, r.detail))))


def _without_duplicates(
    records: list[ImageRecord], contents: Mapping[str, Digest]
) -> tuple[list[ImageRecord], list[Rejection]]:
    rejections = []
    for group in colliding_instances(records):
        found = {(contents[r.path], r.patient_id, r.study, r.laterality, r.view) for r in group}
        if len(found) == 1:
            others = group[1:]  # the first, by path, is kept
            rejections += [
                Rejection(other.path, Reason.DUPLICATE_INSTANCE, "the same instance and pixels as another file, which is kept")
                for other in others
            ]
        else:
            rejections += [
                Rejection(
                    record.path,
                    Reason.INSTANCE_CONFLICT,
                    f"{len(group)} files of one SOP Instance UID differ in pixels, patient, study, side or view",
                )
                for record in group
            ]
    out = {rejection.what for rejection in rejections}
    return [record for record in records if record.path not in out], rejections


def _choose_pair(key: BreastKey, images: list[ImageRecord]) -> tuple[ImageRecord, ImageRecord] | Rejection:
    """The best CC and the best MLO that go together."""
    best: dict[tuple[View, bool], ImageRecord] = {}
    for image in sorted(images, key=_preference):
        best.setdefault((image.view, image.implant_displaced), image)
    for displaced in (False, True):
        cc, mlo = best.get((View.CC, displaced)), best.get((View.MLO, displaced))
        if cc and mlo:
            return cc, mlo
    counts = {view: sum(image.view is view for image in images) for view in View}
    found = f"{counts[View.CC]} CC and {counts[View.MLO]} MLO"
    if counts[View.CC] and counts[View.MLO]:
        return Rejection(key.breast_id, Reason.IMPLANT_MISMATCH, f"{found}, one side of them implant-displaced")
    missing = Reason.MLO_MISSING if counts[View.CC] else Reason.CC_MISSING
    return Rejection(key.breast_id, missing, f"{found}; expected one of each")


def _preference(image: ImageRecord) -> tuple[bool, int, str, str]:
    """Full-field before synthetic, the larger picture, then the UID, so that the choice never depends on file order."""
    return image.synthetic, -image.rows * image.columns, image.sop_instance_uid, image.path
