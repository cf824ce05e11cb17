"""Any folder of mammograms whose headers follow the standard, with a CSV or XLSX table of labels.

Patients' identifiers may be real ones, so they are replaced by keyed digests unless the user says otherwise.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, parse_laterality
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import CUT_NUMBER, Row, iterate_table, whole_number
from fvpipe.types import BreastFacts, Exam, Laterality

LABELS = {"0": 0, "benign": 0, "1": 1, "malignant": 1, "-1": -1, "unlabelled": -1, "": -1}


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read one row a breast, or a breast and exam: patient, side, label. Without a file every breast is unlabelled."""
    if label_file is None:
        return LabelTable()
    found: dict[tuple[str, Laterality, Exam], BreastFacts] = {}
    lines: dict[tuple[str, Laterality, Exam], int] = {}
    columns, defaults = (rules.study_uid, rules.accession, rules.study_date), Labels()
    named = [column for column in columns if column not in (defaults.study_uid, defaults.accession, defaults.study_date)]
    for row in iterate_table(label_file, [rules.patient_id, rules.laterality, rules.label, *named]):
        laterality = row.parse(rules.laterality, parse_laterality, "L or R")
        facts = BreastFacts(row.parse(rules.label, _label, "1 or malignant, 0 or benign, -1 or unlabelled"), place=row.place)
        exam = Exam(_study(row, rules.study_uid), row.get(rules.accession), _date(row, rules.study_date))
        key = row[rules.patient_id], laterality, exam
        first = lines.setdefault(key, row.line)
        if found.setdefault(key, facts) != facts:
            where, apart = f"{row.file}, lines {first} and {row.line}", ", ".join(columns)
            if exam == Exam():
                raise LabelTableError(
                    f"{where}: one breast has two labels; expected one, or a column {apart} to tell exams apart"
                )
            raise LabelTableError(f"{where}: one breast has two labels in one exam; expected one")
    if not found:
        raise LabelTableError(f"{label_file}: has a heading and no row; expected a row for each breast, or no label table")
    rows = {(patient, side): facts for (patient, side, exam), facts in found.items() if exam == Exam()}
    return LabelTable(rows, exams={key: facts for key, facts in found.items() if key[2] != Exam()})


def _label(cell: str) -> int | None:
    number = whole_number(cell)  # a spreadsheet may write 1.0
    return LABELS.get(cell.lower() if number is None else str(number))


def _study(row: Row, column: str) -> str:
    cell = row.get(column)
    if re.fullmatch(CUT_NUMBER, cell):
        detail = "is a number like 1.2E+10, whose last digits a spreadsheet has cut off; enter it again as text"
        raise LabelTableError(f"{row.file}, line {row.line}: {column} {detail}")
    return cell


def _date(row: Row, column: str) -> str:
    """Parse ``YYYYMMDD`` or ``YYYY-MM-DD``; a date identifies a patient, so that a wrong one is not shown."""
    cell = row.get(column)
    digits = cell.replace("-", "")
    if not cell:
        return ""
    try:
        if re.fullmatch(r"[0-9]{8}|[0-9]{4}-[0-9]{2}-[0-9]{2}", cell):
            date.fromisoformat(digits)
            return digits
    except ValueError:  # no day of the calendar
        pass
    found = f"{len(cell)} characters"
    raise LabelTableError(f"{row.file}, line {row.line}: {column} has {found}; expected a date, YYYYMMDD or YYYY-MM-DD")


ADAPTER = Adapter(
    name="table",
    license="not stated",
    policy=HeaderPolicy(),
    hashed=True,
    publishable=False,
    read_labels=read_labels,
)
