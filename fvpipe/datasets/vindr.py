"""VinDr-Mammo (PhysioNet, restricted access): 5,000 studies of four views, labels by BI-RADS.

``breast-level_annotations.csv`` has one row an image. No patient identifier is published: the patient is the study.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable, parse_laterality
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import Row, iterate_table
from fvpipe.types import VIEWS, BreastFacts, Finding, ImageFacts, Laterality, View

TABLE = "breast-level_annotations.csv"
FINDINGS = "finding_annotations.csv"
_EDGES = ("xmin", "ymin", "xmax", "ymax")


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read one BI-RADS a breast, the same in the rows of its images."""
    rows: dict[tuple[str, Laterality], BreastFacts] = {}
    lines: dict[tuple[str, Laterality], int] = {}
    images: dict[str, ImageFacts] = {}
    for row in iterate_table(label_file or root / TABLE, ["study_id", "laterality", "breast_birads"]):
        laterality = row.parse("laterality", parse_laterality, "L or R")
        facts, key = _facts(row, rules), (row["study_id"], laterality)
        first = lines.setdefault(key, row.line)
        if rows.setdefault(key, facts) != facts:
            where = f"{row.file}, lines {first} and {row.line}"
            raise LabelTableError(f"{where}: two assessments of one breast; expected the same BI-RADS, density and split")
        image = row.get("image_id")
        if not image:
            continue
        shown = ImageFacts(row.line, laterality, _view(row), _size(row, "height"), _size(row, "width"))
        if images.setdefault(image, shown) is not shown:
            raise LabelTableError(f"{row.file}, lines {images[image].line} and {row.line}: image_id occurs twice")
    return LabelTable(rows, images=images, findings=_findings(root / FINDINGS))


def _findings(file: Path) -> dict[str, list[Finding]]:
    """Read the boxes of each image. Rows repeat an image for each finding, so no label is ever counted from here."""
    found: dict[str, list[Finding]] = {}
    rows = iterate_table(file, ["image_id", "finding_categories", "finding_birads", *_EDGES]) if file.is_file() else ()
    for row in rows:
        if not any(row[name] for name in _EDGES):  # "No Finding"
            continue
        left, top, right, bottom = (row.parse(name, _edge, "a number of pixels") for name in _EDGES)
        if left >= right or top >= bottom:
            raise row.error("xmax", "a box with xmin < xmax and ymin < ymax")
        category = ", ".join(part.strip(" '\"") for part in row["finding_categories"].strip("[]").split(","))
        bi_rads = _bi_rads(row, "finding_birads") if row["finding_birads"] else None
        found.setdefault(row["image_id"], []).append(Finding(category, bi_rads, top, bottom, left, right))
    return found


def _edge(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _view(row: Row) -> View | None:
    if not row.get("view_position"):
        return None
    return row.parse("view_position", lambda cell: View(cell.upper()) if cell.upper() in VIEWS else None, "CC or MLO")


def _size(row: Row, column: str) -> int | None:
    if not row.get(column):
        return None
    return row.parse(column, lambda cell: int(cell) if cell.isdecimal() else None, "a whole number of pixels")


def _facts(row: Row, rules: Labels) -> BreastFacts:
    bi_rads = _bi_rads(row, "breast_birads")
    label = 1 if bi_rads in rules.bi_rads_malignant else 0 if bi_rads in rules.bi_rads_benign else -1
    excluded = f"BI-RADS {bi_rads} is neither benign nor malignant by the label rule" if label == -1 else ""
    subset = row.get("split")
    if subset:
        row.parse("split", {"training": 1, "test": 1}.get, "training or test")
    density = row.get("breast_density").upper().removeprefix("DENSITY").strip()
    return BreastFacts(label, bi_rads, density, subset=subset, excluded=excluded, place=row.place)


def _bi_rads(row: Row, column: str) -> int:
    return row.parse(column, _category, "'BI-RADS 0' to 'BI-RADS 6'")


def _category(cell: str) -> int | None:
    return int(cell[-1]) if re.fullmatch("BI-RADS [0-6]", cell, re.IGNORECASE) else None


ADAPTER = Adapter(
    name="vindr",
    license="VinDr-Mammo, PhysioNet Restricted Health Data License 1.5.0: not to be shared (doi:10.13026/br2v-7517)",
    policy=HeaderPolicy(patient_from="study"),
    hashed=False,
    publishable=False,
    read_labels=read_labels,
)
