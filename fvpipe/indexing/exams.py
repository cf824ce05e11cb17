"""Order of a patient's exams by date."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from fvpipe.types import ImageRecord


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
