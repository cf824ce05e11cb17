"""Dates of a patient's exams, and their order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import pairwise

from fvpipe.datasets.declared.values import first_day
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.types import ImageRecord, Laterality, View

EPISODE_DAYS = 200
"""How long one exam may go on as tables and paths name exams, by a half-year or as a screening and its recall."""


def with_stated_days(records: Iterable[ImageRecord], dates: Mapping[str, str], policy: HeaderPolicy) -> list[ImageRecord]:
    """Take the days of exams from `exam_date` of tables and paths alone, of each patient of whom these give some.

    They may be shifted, and those of headers not. A year, and a day in it, give no order.

    Parameters
    ----------
    records : iterable of ImageRecord
        Images whose headers are accepted.
    dates : mapping of str to str
        Each `exam_date`, ``YYYYMMDD``, ``YYYYMM`` or ``YYYY``, by path of the image.
    policy : HeaderPolicy
        How days are shifted.

    Returns
    -------
    list of ImageRecord
        Those that differ.
    """
    records, stated = list(records), defaultdict[str, set[str]](set)
    for record in records if dates else ():
        if record.path in dates:
            stated[record.patient_id].add(dates[record.path])
    unordered = {p for p, of_patient in stated.items() for a, b in pairwise(sorted(of_patient)) if b.startswith(a)}
    found = list[ImageRecord]()
    for record in (each for each in records if each.patient_id in stated):
        date = "" if record.patient_id in unordered else dates.get(record.path, "")
        day = policy.shifted_day(record.patient_id, first_day(date))
        if day != record.exam_day:
            found.append(replace(record, exam_day=day))
    return found


def of_several_exams(records: Iterable[ImageRecord], policy: HeaderPolicy) -> set[tuple[str, str, Laterality]]:
    """Find breasts, by patient, study and side, that have one view on two days too far apart for one exam.

    Days of digitized film may be those of scans: they tell no exams apart.
    """
    days: dict[tuple[tuple[str, str, Laterality], View], set[int]] = defaultdict(set)
    for record in () if policy.secondary_capture else records:
        if record.exam_day is not None:
            days[(record.patient_id, record.study, record.laterality), record.view].add(record.exam_day)
    return {breast for (breast, _), of_view in days.items() if max(of_view) - min(of_view) > EPISODE_DAYS}


def exam_order(records: Iterable[ImageRecord]) -> dict[tuple[str, str], int]:
    """Number the exams of each patient who has several, by date.

    Parameters
    ----------
    records : iterable of ImageRecord
        Images whose headers are accepted.

    Returns
    -------
    dict of (str, str) to int
        By patient and study: 1, 2, ...; equal where the dates are. The date of an exam is the earliest of its
        images; a patient is left out where an exam has none.
    """
    days: dict[str, dict[str, int | None]] = defaultdict(dict)  # of each study, by patient
    for record in records:
        if record.study:
            found = [day for day in (days[record.patient_id].get(record.study), record.exam_day) if day is not None]
            days[record.patient_id][record.study] = min(found, default=None)
    order = {}
    for patient, exams in days.items():
        known = {study: day for study, day in exams.items() if day is not None}
        if len(exams) < 2 or len(known) < len(exams):
            continue
        number = {day: i for i, day in enumerate(sorted(set(known.values())), 1)}
        order.update({(patient, study): number[day] for study, day in known.items()})
    return order
