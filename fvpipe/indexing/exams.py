"""Order of a patient's exams by date. No date leaves this module: it may identify a patient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date

from blake3 import blake3

from fvpipe.cache.file_cache import FileCache
from fvpipe.datasets.source import Source
from fvpipe.dicom.attributes import study_date
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.reader import open_dicom, open_file
from fvpipe.indexing.headers import changed_since_index
from fvpipe.types import ImageRecord, SourceFile

SHIFT_DAYS = 1 << 20  # a patient's days are shifted by less than this


def exam_order(
    source: Source, files: Mapping[str, SourceFile], records: Iterable[ImageRecord], file_cache: FileCache
) -> dict[tuple[str, str], int]:
    """Number the exams of each patient who has several, by date.

    Parameters
    ----------
    source : Source
        The data set.
    files : mapping of str to SourceFile
        Its files, by path.
    records : iterable of ImageRecord
        Images whose headers are accepted.
    file_cache : FileCache
        Keeps the day of each exam, shifted by a number of days that only the patient and the identifier key decide: enough to
        order a patient's exams.

    Returns
    -------
    dict of (str, str) to int
        By patient and study: 1, 2, ...; equal where the dates are. A patient is left out where an exam has no date.

    Raises
    ------
    InputError
        A file changed since its header was read.
    """
    first: dict[str, dict[str, ImageRecord]] = defaultdict(dict)  # of each study, by patient
    for record in sorted(records, key=lambda record: record.path):
        if record.study:
            first[record.patient_id].setdefault(record.study, record)
    order = {}
    for patient, studies in first.items():
        if len(studies) < 2:
            continue
        days = {study: _day(source, files[record.path], record, file_cache) for study, record in studies.items()}
        if None in days.values():
            continue
        number = {day: i for i, day in enumerate(sorted({day for day in days.values() if day is not None}), 1)}
        order.update({(patient, study): number[day] for study, day in days.items() if day is not None})
    return order


def _day(source: Source, file: SourceFile, record: ImageRecord, file_cache: FileCache) -> int | None:
    cached = file_cache.fact(file, "exam day")
    if cached is None:
        cached = _read_day(source, file, record)
        file_cache.put_facts([(file, cached)], "exam day")
    return int(cached) if cached else None


def _read_day(source: Source, file: SourceFile, record: ImageRecord) -> str:
    """Day of an exam, shifted; empty where the header has none."""
    try:
        with open_file(source.root / file.path) as opened, silenced():
            found = study_date(open_dicom(opened).dataset)
        day = date.fromisoformat(found[-1]).toordinal() if found else None
    except (OSError, RejectedFile):  # it was accepted a moment ago
        raise changed_since_index(file.path) from None
    except ValueError:  # no day of the calendar
        day = None
    if day is None:
        return ""
    patient, key = record.patient_id.encode("utf-8", "surrogatepass"), source.policy.identifier_key
    shift = (blake3(patient, key=key) if key else blake3(patient)).digest(length=8)
    return str(day + int.from_bytes(shift, "big") % SHIFT_DAYS)
