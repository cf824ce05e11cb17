"""VinDr-Mammo (PhysioNet, restricted access): 5,000 studies of four views, labels by BI-RADS.

``breast-level_annotations.csv`` has one row an image. No patient identifier is published: the patient is the study.
"""

from __future__ import annotations

from pathlib import Path

from fvpipe.datasets import Adapter, LabelTable, side
from fvpipe.dicom import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.params import Labels
from fvpipe.tables import Row, read_table
from fvpipe.types import BreastFacts, Laterality

TABLE = "breast-level_annotations.csv"


def read_labels(root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """One BI-RADS a breast, the same in the rows of its images."""
    first: dict[tuple[str, Laterality], tuple[BreastFacts, Row]] = {}
    for row in read_table(label_file or root / TABLE, ["study_id", "laterality", "breast_birads"]):
        laterality = side(row["laterality"])
        if laterality is None:
            raise row.error("laterality", "L or R")
        facts = _facts(row, rules)
        before, earlier = first.setdefault((row["study_id"], laterality), (facts, row))
        if before != facts:
            where = f"{row.file}, lines {earlier.line} and {row.line}"
            raise LabelTableError(f"{where}: two assessments of one breast; expected the same BI-RADS, density and split")
    return LabelTable({key: facts for key, (facts, _) in first.items()})


def _facts(row: Row, rules: Labels) -> BreastFacts:
    word, _, digit = row["breast_birads"].rpartition(" ")
    if word.upper() != "BI-RADS" or digit not in ("0", "1", "2", "3", "4", "5", "6"):
        raise row.error("breast_birads", "'BI-RADS 0' to 'BI-RADS 6'")
    bi_rads = int(digit)
    label = 1 if bi_rads in rules.bi_rads_malignant else 0 if bi_rads in rules.bi_rads_benign else -1
    excluded = f"BI-RADS {bi_rads} is neither benign nor malignant by the label rule" if label == -1 else ""
    density = row.get("breast_density").upper().removeprefix("DENSITY").strip()
    return BreastFacts(label, bi_rads, density, subset=row.get("split"), excluded=excluded)


ADAPTER = Adapter(
    name="vindr",
    license="VinDr-Mammo, PhysioNet Restricted Health Data License 1.5.0: not to be shared (doi:10.13026/br2v-7517)",
    policy=HeaderPolicy(patient_from="study"),
    hashed=False,
    publishable=False,
    read_labels=read_labels,
)
