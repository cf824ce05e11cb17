"""Contradictions of headers with label tables, and with the other headers of their study or series. No file is touched."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from fvpipe.indexing.exams import EPISODE_DAYS
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.imaged_exams import imaged_breast
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord, Laterality, View

_PERSON = {"birth": "Patient's Birth Date", "sex": "Patient's Sex", "issuer": "Issuer of Patient ID"}


def contradictions(records: Iterable[ImageRecord], labels: BreastLabels) -> Iterator[Rejection]:
    """Reject records whose header contradicts the label table, or others of its study: which is wrong cannot be known here."""
    records = list(records)
    yield from _mixed_studies(records, digitized=labels.policy.secondary_capture)
    yield from _described_otherwise(records)
    labels = labels.matched(records)
    of_another_breast = labels.of_another_breast(records)
    for record in records:
        facts = labels.row_of(record)
        age = labels.facts(*imaged_breast(record)).age
        for reason, header, table in (
            (Reason.LATERALITY_CONFLICT, record.laterality, facts.laterality),
            (Reason.VIEW_CONFLICT, record.view, facts.view),
            (Reason.SIZE_CONFLICT, record.rows, facts.rows),
            (Reason.SIZE_CONFLICT, record.columns, facts.columns),
            (Reason.AGE_CONFLICT, record.patient_age or None, age or None),
        ):
            if None not in (header, table) and header != table and not _near(reason, header, table):
                where = f" (line {facts.line})" if facts.line else ""
                yield Rejection(record.path, reason, f"the header says {header}, the label table{where} says {table}")
                break
        else:
            if labels.names_another_exam(record):
                detail = "label table or path names another exam than the header (study_uid, accession or study_date)"
                yield Rejection(record.path, Reason.IDENTIFIER_CONFLICT, detail)
            elif record.path in of_another_breast:
                detail = (
                    f"the row with its SOP Instance UID (line {facts.line}) describes another patient or exam than the header"
                )
                yield Rejection(record.path, Reason.IDENTIFIER_CONFLICT, detail)


def _mixed_studies(records: Iterable[ImageRecord], *, digitized: bool) -> Iterator[Rejection]:
    """Reject the images of each study that seems to be of several patients or exams, so that views of both would be paired.

    Anonymizers may give all patients one identifier, and all studies one UID. A study may go on after midnight. What a table
    or path calls one exam may be several visits, but not two years' screenings; films of it may be digitized years apart.
    """
    studies: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.study:
            studies[record.patient_id, record.study].append(record)
    for images in studies.values():
        of_header = "exam" not in images[0].identity_sources
        days = [image.exam_day for image in images if image.exam_day is not None and (of_header or not digitized)]
        ages = [min(int(image.patient_age[:-1]), 90) for image in images if image.patient_age]
        differ = {
            "the date (exam_date, else Study Date)": (days, 1 if of_header else EPISODE_DAYS),
            "Patient's Age": (ages, 1),
        }
        found = [name for name, (values, most) in differ.items() if values and max(values) - min(values) > most]
        told = {each for image in images for each in image.person.split()}
        names = Counter(each.partition(":")[0] for each in told)
        found += [_PERSON[name] for name, count in sorted(names.items()) if count > 1]
        for image in images if found else ():
            what = "study" if of_header else "exam by label table or path"
            detail = f"the {len(images)} images of this {what} have several values of {', '.join(found)}"
            yield Rejection(image.path, Reason.IDENTIFIER_CONFLICT, f"{detail}; expected those of one patient at one exam")


def _described_otherwise(records: Iterable[ImageRecord]) -> Iterator[Rejection]:
    """Reject the images of each series of one side and view whose description names another side and another view.

    Of a series with several, the description may be that of the first image. One that differs in side alone or in view alone
    may be so, too, where its other images are not there; but not where the exam has no series with several, and three
    descriptions: with a series for each side, or for each view, there are two. One text for three or more views is of none of
    them.
    """
    series: dict[tuple[str, str], list[ImageRecord]] = defaultdict(list)
    for record in records:
        if record.series and not {"laterality", "view"} & record.identity_sources.keys():
            series[record.patient_id, record.series.partition(" ")[0]].append(record)
    of_several, of_one = set[tuple[str, str]](), defaultdict[tuple[str, str], list[tuple[list[str], list[ImageRecord]]]](list)
    for images in series.values():
        exam, described = (images[0].patient_id, images[0].study), {image.series for image in images}
        if len({(image.laterality, image.view) for image in images}) > 1:
            of_several.add(exam)
        elif len(described) == 1 and (named := described.pop().split(" ")[1:]):
            of_one[exam].append((named, images))
    for exam, described_images in of_one.items():
        shown = defaultdict[str, set[tuple[Laterality, View]]](set)  # under each description
        for named, images in described_images:
            shown[" ".join(named)].add((images[0].laterality, images[0].view))
        each_its_own = exam not in of_several and len(shown) > 2
        for named, images in described_images:
            side, view = images[0].laterality, images[0].view
            if len(shown[" ".join(named)]) > 2:
                continue
            if (named[0] != side) + (named[1] != view) > (0 if each_its_own else 1):
                reason = Reason.VIEW_CONFLICT if named[1] != view else Reason.LATERALITY_CONFLICT
                for image in images:
                    detail = f"the header says {side} {view}, the description of its series {' '.join(named)}"
                    yield Rejection(image.path, reason, f"{detail}; expected the same")


def _near(reason: Reason, header: object, table: object) -> bool:
    """Whether two ages are at most a year apart: a table may round what a header cuts off. ``90+`` is 90."""
    years = [re.fullmatch(r"(\d+)[Y+]", str(age)) for age in (header, table)] if reason is Reason.AGE_CONFLICT else []
    ages = [min(int(age[1]), 90) for age in years if age]
    return len(ages) == 2 and abs(ages[0] - ages[1]) <= 1
