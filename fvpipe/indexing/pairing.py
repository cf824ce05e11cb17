"""Step 2: image records -> breasts, and what was left out and why. Pure: no file is touched."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Breast, BreastFacts, BreastKey, Digest, ImageFacts, ImageRecord, Laterality, View


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
) -> Iterator[Rejection]:
    """Records whose header says otherwise than the label table: which of the two is wrong, nobody here can know.

    Parameters
    ----------
    records : iterable of ImageRecord
    images : mapping of SOP Instance UID to ImageFacts
    labels : mapping of (patient, Laterality) to BreastFacts
    """
    breast, age = None, ""
    for record in records:
        facts = images.get(record.sop_instance_uid) or ImageFacts(0)
        if breast != (record.patient_id, record.laterality):  # the images of a breast often follow each other
            breast = record.patient_id, record.laterality
            age = labels.get(breast, BreastFacts()).age
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
    records = list(records)
    rejections = [each for group in colliding_instances(records) for each in duplicates(group, contents)]
    out = {rejection.what for rejection in rejections}
    kept = sorted((record for record in records if record.path not in out), key=lambda r: (*_breast(r), r.path))
    found: list[Breast] = []
    for outcome in breasts(dataset, kept, labels, excluded_patients):
        found.append(outcome) if isinstance(outcome, Breast) else rejections.append(outcome)
    imaged = {(record.patient_id, record.laterality) for record in records}
    rejections += without_image(labels, lambda patient, laterality: (patient, laterality) in imaged)
    return Pairing(tuple(found), tuple(sorted(rejections, key=lambda r: (r.what, r.reason, r.detail))))


def duplicates(group: Sequence[ImageRecord], contents: Mapping[str, Digest]) -> list[Rejection]:
    """What must not be paired of a group of :func:`colliding_instances`."""
    if len({(contents[r.path], *_breast(r), r.view) for r in group}) == 1:
        detail = "the same instance and pixels as another file, which is kept"
        return [Rejection(other.path, Reason.DUPLICATE_INSTANCE, detail) for other in group[1:]]  # the first, by path, is kept
    detail = f"{len(group)} files of one SOP Instance UID differ in pixels, patient, study, side or view"
    return [Rejection(record.path, Reason.INSTANCE_CONFLICT, detail) for record in group]


def breasts(
    dataset: str,
    records: Iterable[ImageRecord],
    labels: Mapping[tuple[str, Laterality], BreastFacts],
    excluded_patients: Mapping[str, str],
) -> Iterator[Breast | Rejection]:
    """Pair one breast after the other, as :func:`pair` does.

    Parameters
    ----------
    records : iterable of ImageRecord
        Sorted by patient, study, side and path, without :func:`duplicates`.
    """
    for (patient, study, laterality), group in groupby(records, key=_breast):
        key, images = BreastKey(dataset, patient, study, laterality), list(group)
        outcome = _choose_pair(key, images)
        if isinstance(outcome, Rejection):
            yield outcome
            continue
        for image in images:
            if image not in outcome:
                yield Rejection(image.path, Reason.SUPERSEDED, f"another {image.view} of breast {key.breast_id} was chosen")
        facts = labels.get((patient, laterality), BreastFacts())
        excluded = excluded_patients.get(patient) or facts.excluded
        yield Rejection(key.breast_id, Reason.LABEL_EXCLUDED, excluded) if excluded else Breast(key, *outcome, facts)


def without_image(
    labels: Iterable[tuple[str, Laterality]], is_imaged: Callable[[str, Laterality], bool]
) -> Iterator[Rejection]:
    """Rows of the label table without any image; a breast whose images were all rejected is named by them.

    Parameters
    ----------
    labels : iterable of (patient, Laterality)
    is_imaged : callable
        Whether a patient's breast has an image, whatever became of it.
    """
    for patient, laterality in labels:
        if not is_imaged(patient, laterality):
            detail = "the label table has a row, the input no usable image"
            yield Rejection(f"{patient}_{laterality}", Reason.LABEL_WITHOUT_IMAGE, detail)


def _breast(record: ImageRecord) -> tuple[str, str, Laterality]:
    return record.patient_id, record.study, record.laterality


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
    """Full-field before synthetic, the larger image, then the UID, so that the choice never depends on file order."""
    return image.synthetic, -image.rows * image.columns, image.sop_instance_uid, image.path
