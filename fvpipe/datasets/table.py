"""Bring your own: any folder of mammograms whose headers follow the standard, with a CSV or XLSX of labels.

Its patients' identifiers may be real ones, so they are replaced by keyed digests unless the user says otherwise.
"""

from __future__ import annotations

from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, side
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import iterate_table
from fvpipe.io.temp_database import OnDisk
from fvpipe.types import BreastFacts, Laterality

LABELS = {"0": 0, "benign": 0, "1": 1, "malignant": 1, "-1": -1, "unlabelled": -1, "": -1}


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """One row a breast: patient, side, label. Without a file every breast is unlabelled."""
    if label_file is None:
        return LabelTable()
    rows, lines = OnDisk[tuple[str, Laterality], BreastFacts](), OnDisk[tuple[str, Laterality], int]()
    for row in iterate_table(label_file, [rules.patient_id, rules.laterality, rules.label]):
        laterality = side(row[rules.laterality])
        if laterality is None:
            raise row.error(rules.laterality, "L or R")
        label = LABELS.get(row[rules.label].lower())
        if label is None:
            raise row.error(rules.label, "1 or malignant, 0 or benign, -1 or unlabelled")
        facts, key = BreastFacts(label), (row[rules.patient_id], laterality)
        if rows.add(key, facts):
            lines[key] = row.line
        elif rows[key] != facts:
            where = f"{row.file}, lines {lines[key]} and {row.line}"
            raise LabelTableError(f"{where}: one breast has two labels; expected one")
    return LabelTable(rows)


ADAPTER = Adapter(
    name="table",
    license="not stated",
    policy=HeaderPolicy(),
    hashed=True,
    publishable=False,
    read_labels=read_labels,
)
