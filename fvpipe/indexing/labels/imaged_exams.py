"""Exams that are imaged, and whether the exam of a table's row may be one of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from fvpipe.types import Exam, ImageRecord, Laterality

ImagedBreast = tuple[str, str, Laterality]
"""Patient, study and side, as the header of an image names them."""

Imaged = Mapping[tuple[str, Laterality], Collection[tuple[str, str, str]]]
"""Study, accession and date of the images of each patient and side, each once."""


def imaged_breast(image: ImageRecord) -> ImagedBreast:
    """Return the breast that an image shows."""
    return image.patient_id, image.study, image.laterality


def imaged_exams(records: Iterable[ImageRecord]) -> Imaged:
    """Collect the exams of each patient and side."""
    imaged: dict[tuple[str, Laterality], tuple[tuple[str, str, str]] | set[tuple[str, str, str]]] = {}
    for record in records:
        breast, exam = (record.patient_id, record.laterality), (record.study, record.accession, record.study_date)
        exams = imaged.get(breast)
        if exams is None:
            imaged[breast] = (exam,)  # most have one, of which a set takes three times as much
        elif isinstance(exams, set):
            exams.add(exam)
        elif exam not in exams:
            imaged[breast] = {*exams, exam}
    return imaged


def fits(exam: Exam, study: str, accession: str, date: str) -> bool:
    """Whether an exam of a table may be that of a header, which has digests of year and day in `date`."""
    return exam.study in ("", study) and exam.accession in ("", accession) and exam.date in ("", *date.split())


def may_be_of(exam: Exam, image: ImageRecord) -> bool:
    """Whether an exam of a table may be that of an image, as far as both have its names."""
    return may_be(exam, Exam(image.study, image.accession, image.study_date))


def may_be(exam: Exam, header: Exam) -> bool:
    """Whether two names of exams may be of one, as far as both have them."""
    return fits(exam, header.study or exam.study, header.accession or exam.accession, header.date or exam.date)
