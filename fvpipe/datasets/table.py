"""Any folder of mammograms whose headers follow the standard, with a CSV or XLSX table of labels.

Patients' identifiers may be real ones, so they are replaced by keyed digests unless the user says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, parse_laterality
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import iterate_table
from fvpipe.types import BreastFacts, Laterality

LABELS = {"0": 0, "benign": 0, "1": 1, "malignant": 1, "-1": -1, "unlabelled": -1, "": -1}


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read one row a breast: patient, side, label. Without a file every breast is unlabelled."""
    if label_file is None:
        return LabelTable()
    rows: dict[tuple[str, Laterality], BreastFacts] = {}
    lines: dict[tuple[str, Laterality], int] = {}
    for row in iterate_table(label_file, [rules.patient_id, rules.laterality, rules.label]):
        laterality = row.parse(rules.laterality, parse_laterality, "L or R")
        expected = "1 or malignant, 0 or benign, -1 or unlabelled"
        facts = BreastFacts(row.parse(rules.label, lambda cell: LABELS.get(cell.lower()), expected))
        key = row[rules.patient_id], laterality
        first = lines.setdefault(key, row.line)
        if rows.setdefault(key, facts) != facts:
            raise LabelTableError(f"{row.file}, lines {first} and {row.line}: one breast has two labels; expected one")
    return LabelTable(rows)


ADAPTER = Adapter(
    name="table",
    license="not stated",
    policy=HeaderPolicy(),
    hashed=True,
    publishable=False,
    read_labels=read_labels,
)
