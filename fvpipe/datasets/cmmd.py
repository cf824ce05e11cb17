"""CMMD, the Chinese Mammography Database (TCIA, CC BY 4.0): biopsy-confirmed labels, one row a labelled breast.

729 imaged breasts have no row. They are not proven normal, and a patient's other breast says nothing of them: unlabelled.
"""

from __future__ import annotations

from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, parse_laterality
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import iterate_table
from fvpipe.types import BreastFacts, Laterality

TABLES = ("CMMD_clinicaldata_revision.xlsx", "CMMD_clinicaldata_revision.csv")
LABELS = {"benign": 0, "malignant": 1}
DUPLICATES = {
    "D1-0202": "D2-0284", "D2-0284": "D1-0202", "D1-0808": "D1-1292", "D1-1292": "D1-0808",
}  # fmt: skip
"""Patients with pixels in common; the paper's Table 1 is reached only without all four."""


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read benign or malignant from ``classification``, for each row's breast and no other."""
    file = label_file or next((root / name for name in TABLES if (root / name).is_file()), root / TABLES[0])
    rows: dict[tuple[str, Laterality], BreastFacts] = {}
    lines: dict[tuple[str, Laterality], int] = {}
    for row in iterate_table(file, ["ID1", "LeftRight", "classification"]):
        laterality = row.parse("LeftRight", parse_laterality, "L or R")
        label = row.parse("classification", lambda cell: LABELS.get(cell.lower()), "Benign or Malignant")
        years = int(row["Age"]) if row.get("Age").isdecimal() else None
        age = "" if years is None else "90+" if years >= 90 else f"{years:03d}Y"
        facts = BreastFacts(label, age=age, pathology=row.get("subtype") or row.get("abnormality"), place=row.place)
        key = row["ID1"], laterality
        first = lines.setdefault(key, row.line)
        if rows.setdefault(key, facts).label != label:
            where = f"{row.file}, lines {first} and {row.line}"
            raise LabelTableError(f"{where}: one breast is benign and malignant; expected one classification")
    excluded = dict.fromkeys(DUPLICATES, "its pixels occur in another patient too")
    return LabelTable(rows, excluded if rules.duplicate_patients == "drop" else {})


ADAPTER = Adapter(
    name="cmmd",
    license="CC BY 4.0; Cui C. et al. (2021), The Chinese Mammography Database (CMMD), TCIA, doi:10.7937/TCIA.EQDE-4B16",
    policy=HeaderPolicy(keep_studies_apart=False),
    hashed=False,
    publishable=True,
    read_labels=read_labels,
)
