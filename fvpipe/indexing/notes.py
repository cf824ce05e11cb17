"""Notes on what the user should see of an index although nothing is rejected for it: warnings, shown below its summary."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.exams import EPISODE_DAYS
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.printable import first_names
from fvpipe.types import VIEWS, Breast, Finding, ImageRecord, Laterality, View


def similar_patients_note(records: Iterable[ImageRecord]) -> Iterator[str]:
    """A note on patients whose identifiers in headers programs or hands may have made of one, where there are any.

    The rule is that of :func:`fvpipe.indexing.labels.statements.similar_patients`, which rejects patients of tables and paths.
    Of headers, those of whom each was born on another day, or has an identifier of another issuer, are surely two.
    """
    alike: dict[str, dict[str, list[ImageRecord]]] = defaultdict(lambda: defaultdict(list))  # by spelling and patient
    for record in records:
        for name in (each for each in record.person.split() if each.startswith("name:")):
            alike[name][record.patient_id].append(record)
    found = list[list[str]]()
    for patients in (each for each in alike.values() if len(each) > 1):
        told = [{each for image in images for each in image.person.split()} for images in patients.values()]
        facts = ([{each for each in of if each.startswith(name)} for of in told] for name in ("birth:", "issuer:"))
        if not any(all(each) and len(set().union(*each)) == sum(map(len, each)) for each in facts):
            found.append(sorted(min(image.path for image in images) for images in patients.values()))
    if found:
        yield (
            f"{sum(map(len, found))} patients of headers differ from another only by leading zeros, `.0`, spaces or upper and "
            f"lower case, as those of {' and '.join(min(found)[:2])}; each is taken for a woman of her own. Where two are one, "
            "a split may part her: write one patient in one way"
        )


def in_two_studies(images: Iterable[ImageRecord]) -> Iterator[str]:
    """A note on breasts whose CC is in one study and MLO in another, of no other day: an anonymizer may give each image one."""
    studies: dict[tuple[str, Laterality, int | None], dict[str, dict[View, str]]] = defaultdict(lambda: defaultdict(dict))
    for image in images:
        if image.study and "exam" not in image.identity_sources:  # those of tables and paths are no UIDs
            studies[image.patient_id, image.laterality, image.exam_day][image.study][image.view] = image.path
    alone = ([views for views in of_breast.values() if len(views) == 1] for of_breast in studies.values())
    merged = (dict(item for views in each for item in views.items()) for each in alone)
    found = sorted(sorted(paths.values()) for paths in merged if len(paths) == len(VIEWS))
    if found:
        yield (
            f"{len(found)} breast(s) have CC and MLO in two studies, as {' and '.join(found[0])}, with no other date. If each "
            "image has a Study Instance UID of its own, take a declaration (`adapter: own.yaml`) with `headers: "
            "{studies_apart: false}` (docs/adapters.md)"
        )


def pairs_of_two_exams(breasts: Iterable[Breast], policy: HeaderPolicy) -> Iterator[str]:
    """A note on pairs whose views are of days too far apart for one exam, where the data set does not tell exams apart.

    Days of digitized film may be those of scans.
    """
    days = ((b.key.breast_id, [i.exam_day for i in b.images if i.exam_day is not None]) for b in breasts)
    if found := [
        name for name, known in days if known and max(known) - min(known) > EPISODE_DAYS and not policy.secondary_capture
    ]:
        why = f"are of days more than {EPISODE_DAYS} apart, and the data set does not tell exams apart"
        yield f"CC and MLO of {len(found)} breast(s) {why}: {first_names(found)}. Take the images of one exam out"


def boxes_beyond(records: Iterable[ImageRecord], labels: BreastLabels) -> Iterator[str]:
    """A note on boxes that are kept although they reach beyond their image, where there are any."""
    beyond = [r.path for r in records if any(_reaches_beyond(box, r) for box in labels.findings_of(r))]
    if beyond:
        note = f"boxes of {len(beyond)} image(s) reach beyond the image's pixels, and are kept so: {first_names(beyond)}"
        yield f"{note}. Are they of images of another size?"


def boxes_of_others(images: Iterable[ImageRecord], labels: BreastLabels) -> Iterator[str]:
    """A note on boxes on images of which another one of the view is taken: a breast would seem to have no finding."""
    if lost := [image.path for image in images if labels.findings_of(image)]:
        note = f"boxes of {len(lost)} image(s) are in no sample, since another image of the view is taken: {first_names(lost)}"
        yield f"{note}. Take that other one out of the folder where the boxes matter"


def _reaches_beyond(box: Finding, image: ImageRecord) -> bool:
    """Whether a box has edges outside its image, by more than rounding."""
    return min(box.top, box.left) < -1 or box.bottom > image.rows + 1 or box.right > image.columns + 1


def worse_findings(breasts: Iterable[Breast]) -> Iterator[str]:
    """A note on breasts that are benign by their own BI-RADS alone, and have a finding of a worse one."""
    worse = list[str]()
    for breast in breasts:
        facts, highest = breast.facts, max((box.bi_rads or 0 for found in breast.findings for box in found), default=0)
        if facts.label == 0 and not facts.pathology and facts.bi_rads and highest > max(facts.bi_rads, 2):
            worse.append(breast.images[0].path)
    if worse:
        note = f"{len(worse)} benign breast(s) have a finding of a higher BI-RADS than their own: {first_names(worse)}"
        yield f"{note}. Which one is right?"
