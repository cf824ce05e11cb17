"""Pairing of CC and MLO, and the choice among several images of one view (:func:`_choose_pair`).

Image records and labels in, breasts and rejections out. Pure: no file is touched.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from types import MappingProxyType
from typing import Any

from fvpipe.config.formats import RASTER
from fvpipe.dicom.decoding.decoders import find_decoder
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.imaged_exams import ImagedBreast, imaged_breast
from fvpipe.indexing.notes import (
    boxes_beyond,
    boxes_of_others,
    in_two_studies,
    pairs_of_two_exams,
    similar_patients_note,
    worse_findings,
)
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import VIEWS, Breast, BreastKey, Digest, ImageRecord, View

PAIR_REASONS = frozenset({Reason.CC_MISSING, Reason.MLO_MISSING, Reason.IMPLANT_MISMATCH, Reason.KIND_MISMATCH})
"""Why the images of a breast are not a pair: reasons of pipelines that need both views."""


@dataclass(frozen=True, slots=True)
class Unpaired:
    """A breast whose images are not a pair, for pipelines of one view.

    Attributes
    ----------
    breast : Breast
        With its best CC and its best MLO, as far as it has them.
    label_rejection : Rejection or None
        Why the label table leaves it out.
    """

    breast: Breast
    label_rejection: Rejection | None = None


@dataclass(frozen=True, slots=True)
class Pairing:
    """Breasts and rejections, sorted; every image record is in a breast, a rejection of the image, or one of its breast.

    `breasts` are pairs. Each breast of `unpaired` has a rejection for one of :data:`PAIR_REASONS`, too.
    """

    breasts: tuple[Breast, ...]
    rejections: tuple[Rejection, ...]
    unpaired: tuple[Unpaired, ...] = ()
    label_hints: tuple[str, ...] = ()  # details of rejected rows that the user should see; those of whole tables first
    notes: tuple[str, ...] = ()  # what the user should see and no rejection says


def rejection_order(rejection: Rejection) -> tuple[str, str, str]:
    """Sort key of every list of rejections."""
    return rejection.what, rejection.reason, rejection.detail


def colliding_instances(records: Iterable[ImageRecord]) -> list[list[ImageRecord]]:
    """Group records that share an SOP Instance UID: their pixels must be compared before they are paired."""
    records = list(records)
    counts = Counter(record.sop_instance_uid for record in records)
    by_uid: dict[str, list[ImageRecord]] = defaultdict(list)  # of a few, since a data set may have half a million
    for record in records:
        if record.sop_instance_uid and counts[record.sop_instance_uid] > 1:
            by_uid[record.sop_instance_uid].append(record)
    return [sorted(group, key=lambda record: record.path) for _, group in sorted(by_uid.items())]


def tied_images(records: Iterable[ImageRecord]) -> list[ImageRecord]:
    """Find the images among which only the SOP Instance UID can choose."""
    breasts: dict[ImagedBreast, list[ImageRecord]] = defaultdict(list)
    for record in records:
        breasts[imaged_breast(record)].append(record)
    # By breast, since most have one image of a rank; counted, since a set without patients has all its images in one breast.
    counts = ((images, Counter(map(_rank, images))) for images in breasts.values())
    return [image for images, of_rank in counts for image in images if of_rank[_rank(image)] > 1]


def _rank(image: ImageRecord) -> tuple[View, tuple[bool, bool, bool, bool], int]:
    """What chooses among the images of a breast before their UIDs do."""
    return image.view, image.kind, image.rows * image.columns


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
    unpaired: list[Unpaired] = []
    others: list[ImageRecord] = []
    candidates = sorted((r for r in records if r.path not in set_aside), key=lambda r: (*imaged_breast(r), r.path))
    for (patient, study, laterality), group in groupby(candidates, key=imaged_breast):
        key, images = BreastKey(dataset, patient, study, laterality), list(group)
        (cc, mlo), no_pair = _choose_pair(key, images, published)
        others += [image for image in images if image not in (cc, mlo)]
        facts = labels.facts(patient, study, laterality)
        findings = [labels.findings_of(image) if image else () for image in (cc, mlo)]
        breast, by_label = Breast(key, cc, mlo, facts, (findings[0], findings[1])), None
        if facts.excluded:
            by_label = Rejection(key.breast_id, Reason.LABEL_EXCLUDED, facts.excluded)
        elif why := ambiguous.get((patient, study, laterality)):
            by_label = Rejection(key.breast_id, Reason.LABEL_AMBIGUOUS, why)
        if no_pair:
            rejections.append(no_pair)
            unpaired.append(Unpaired(breast, by_label))
            continue
        rejections += [_superseded(image, key) for image in images if image not in (cc, mlo)]
        if by_label:
            rejections.append(by_label)
        else:
            breasts.append(breast)
    unmatched = dict(labels.unmatched_rows(records))  # an adapter need not give the lines that tell rows apart
    hints = sorted((each for each, is_shown in unmatched.items() if is_shown), key=lambda each: not each.is_of_label_table)
    notes = (
        *similar_patients_note(records),
        *in_two_studies(image for each in unpaired for image in each.breast.images),
        *pairs_of_two_exams(breasts, labels.policy),
        *boxes_beyond(records, labels),
        *boxes_of_others(others, labels),
        *worse_findings(breasts),
    )
    ordered = tuple(sorted([*rejections, *unmatched], key=rejection_order))
    return Pairing(tuple(breasts), ordered, tuple(unpaired), tuple(each.detail for each in hints), notes)


def breasts_of_views(
    views: Sequence[View],
    breasts: Sequence[Breast],
    unpaired: Sequence[Unpaired],
    rejections: Sequence[Rejection],
    images: Iterable[ImageRecord],
) -> tuple[Sequence[Breast], Sequence[Rejection]]:
    """Choose the breasts of a pipeline that shows `views`, and its rejections, both in their order.

    Both views: the pairs. One view: every breast that has it, and the pairs whole, since their other view is compared with it.

    Parameters
    ----------
    views : sequence of View
        Of the pipeline's image.
    breasts, unpaired, rejections
        Of a :class:`Pairing`; `rejections` may hold others, too.
    images : iterable of ImageRecord
        All images that were paired.
    """
    if len(views) > 1:
        return breasts, rejections
    (view,) = views
    having = {u.breast.key: u for u in unpaired if u.breast.views[VIEWS.index(view)] is not None}
    alone = {key: u.breast.only(view) for key, u in having.items() if not u.label_rejection}
    rejected = {rejection.what for rejection in rejections}
    keys = {(key.patient, key.study, key.laterality): key for key in alone}
    others = [
        _superseded(image, key)
        for image in images
        for key in [keys.get(imaged_breast(image))]
        if key and image.view is view and image not in alone[key].images and image.path not in rejected
    ]
    with_view = {key.breast_id for key in having}
    kept = [r for r in rejections if r.reason not in PAIR_REASONS or r.what not in with_view]
    by_label = [u.label_rejection for u in having.values() if u.label_rejection]
    return (
        sorted([*breasts, *alone.values()], key=lambda breast: breast.key),
        sorted([*kept, *others, *by_label], key=rejection_order),
    )


def _superseded(image: ImageRecord, key: BreastKey) -> Rejection:
    return Rejection(image.path, Reason.SUPERSEDED, f"another {image.view} of breast {key.breast_id} was chosen")


def _duplicates(group: Sequence[ImageRecord], contents: Mapping[str, Digest]) -> list[Rejection]:
    """Rejections of a group of :func:`colliding_instances`: all but the first where all are equal, else all."""
    read = {
        (contents[r.path], r.photometric_interpretation, r.bits_stored, *imaged_breast(r), r.view, r.orientation, r.kind)
        for r in group
    }
    if len(read) == 1:
        detail = "the same instance and pixels as another file, which is kept"
        return [Rejection(other.path, Reason.DUPLICATE_INSTANCE, detail) for other in group[1:]]  # the first, by path, is kept
    what = "pixels, rescale, padding, polarity, bits, patient, study, side, view, kind or orientation"
    detail = f"{len(group)} files of one SOP Instance UID differ in {what}"
    return [Rejection(record.path, Reason.INSTANCE_CONFLICT, detail) for record in group]


_KINDS = ("for processing", "synthetic", "low-energy", "implant displaced")


def _choose_pair(
    key: BreastKey, images: Sequence[ImageRecord], published: Mapping[str, str]
) -> tuple[tuple[ImageRecord | None, ImageRecord | None], Rejection | None]:
    """Choose the best CC and the best MLO of the best kind that has both; the choice never depends on file order.

    Where exams are not told apart, or a table or path names them, views of one day go before views of two, which may be of two
    exams: of the best kind that has such a pair the first day, and images without a date last. Of one kind, views of one
    fidelity and one manufacturer go before others, and originals before copies. Where no kind has both, the best of each view
    with the reason why they are no pair.
    """
    if len(images) == len(VIEWS) and len({image.kind for image in images}) == 1:
        only = {image.view: image for image in images}
        if len(only) == len(VIEWS):  # most breasts: there is nothing to choose
            return (only[View.CC], only[View.MLO]), None

    def preference(image: ImageRecord) -> tuple[tuple[int, bool, bool], bool, int, str, str]:
        uid = published.get(image.path, image.sop_instance_uid)
        return _fidelity(image), image.orientation_unknown, -image.rows * image.columns, uid, image.path

    of_header = key.study and "exam" not in images[0].identity_sources
    best: dict[Any, dict[View, ImageRecord]] = defaultdict(dict)  # by kind
    # By what both views have in common, which is tried in the order of its first part; of one order, in that of the images.
    alike: dict[tuple[Any, object], dict[View, ImageRecord]] = defaultdict(dict)
    for image in sorted(images, key=preference):
        best[image.kind].setdefault(image.view, image)
        fidelity, vendor, day = _fidelity(image), image.manufacturer, (image.exam_day is None, image.exam_day)
        for rank, common in enumerate([(fidelity, vendor), fidelity, vendor, None]):
            for order in ((1, image.kind, rank), *([] if of_header else [(0, image.kind, day, rank)])):
                alike[order, common].setdefault(image.view, image)
    for _, views in sorted(alike.items(), key=lambda group: group[0][0]):
        if len(views) == len(VIEWS):
            return (views[View.CC], views[View.MLO]), None
    of_view = {view: image for kind in sorted(best, reverse=True) for view, image in best[kind].items()}
    return (of_view.get(View.CC), of_view.get(View.MLO)), _why_no_pair(key, images, best)


def _fidelity(image: ImageRecord) -> tuple[int, bool, bool]:
    """Rank of the format, DICOM first and JPEG last; whether it is lossy; and whether it has 8 bits, as a window leaves them.

    Each may be that of a copy, which an archive or a viewer keeps beside the original, under a UID of its own.
    """
    decoder, form = find_decoder(image.transfer_syntax_uid), image.transfer_syntax_uid
    rank = 2 if form == "jpeg" else int(form in RASTER)
    return rank, decoder is not None and decoder.lossy, image.bits_stored <= 8


def _why_no_pair(key: BreastKey, images: Sequence[ImageRecord], best: Mapping[Any, Mapping[View, ImageRecord]]) -> Rejection:
    counts = {view: sum(image.view is view for image in images) for view in View}
    found = f"{counts[View.CC]} CC and {counts[View.MLO]} MLO"
    if not all(counts.values()):
        missing = Reason.MLO_MISSING if counts[View.CC] else Reason.CC_MISSING
        return Rejection(key.breast_id, missing, f"{found}; expected one of each")
    kinds = {view: sorted(kind for kind, views in best.items() if view in views) for view in View}
    if {kind[:-1] for kind in kinds[View.CC]} & {kind[:-1] for kind in kinds[View.MLO]}:
        return Rejection(key.breast_id, Reason.IMPLANT_MISMATCH, f"{found}, one side of them implant-displaced")
    said = "; ".join(f"{view}: {', '.join(map(_kind_name, kinds[view]))}" for view in View)
    return Rejection(key.breast_id, Reason.KIND_MISMATCH, f"{said}; expected both of one kind")


def _kind_name(kind: tuple[bool, ...]) -> str:
    names = [name for name, is_it in zip(_KINDS, kind, strict=True) if is_it]
    return " and ".join(names if any(kind[:-1]) else ["full-field", *names])
