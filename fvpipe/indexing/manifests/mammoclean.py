"""An index as a table in the column schema of MammoClean, for those who train on sets that MammoClean harmonized.

Zafari Y. et al. (2026), MammoClean: Toward Reproducible and Bias-Aware AI in Mammography Through Dataset Harmonization, IEEE
Access 14, doi:10.1109/ACCESS.2026.3704749. One row an image. A cell is empty where the data set does not say it, or where
fvpipe does not read it (shape, margin and density of masses, morphology and distribution of calcifications).
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterator

from fvpipe.datasets.declared.listed_images import path_key
from fvpipe.datasets.declared.settings import label_rule
from fvpipe.indexing.index import Index
from fvpipe.io.csv_lines import iterate_csv
from fvpipe.io.tables import open_table
from fvpipe.types import VIEWS, Breast, Finding

COLUMNS = (
    "ID", "Image ID", "Laterality", "View", "Age", "Breast Density", "Diagnosis", "BI-RADS Assessment", "Mass", "Mass Shape",
    "Mass Margin", "Mass Density", "Calcification", "Calcification Morphology", "Calcification Distribution", "Asymmetry",
    "Architectural Distortion", "Other Findings", "Split", "Image File Folder (raw)", "Image File Path (processed)",
)  # fmt: skip
DIAGNOSES = {1: "Malignant", 0: "Benign", -1: ""}
SPLITS = {"training": "train"}


def mammoclean_table(found: Index) -> Iterator[bytes]:
    """Format one row an image of each breast, CC before MLO, in the order of the breasts.

    The diagnosis is empty where labels are made of BI-RADS, as in MammoClean's own table of VinDr-Mammo. Findings are those on
    the image; in a data set without categories of boxes nothing is said of them, nor of what a box without one may be.
    """
    breasts = found.all_breasts
    by_patient = Counter(breast.key.patient for breast in {(b.key.patient, b.key.study): b for b in breasts}.values())
    by_bi_rads = _labels_are_bi_rads(found)
    named = {bool(box.category) for breast in breasts for boxes in breast.findings for box in boxes}
    has_categories = found.has_findings and named != {False}
    for_several = {patient for patient, exams in by_patient.items() if exams > 1}
    rows = (
        _row(breast, v, breast.key.patient in for_several, by_bi_rads, has_categories)
        for breast in breasts
        for v, image in enumerate(breast.views)
        if image
    )
    return iterate_csv(COLUMNS, rows)


def _labels_are_bi_rads(found: Index) -> bool:
    declaration, rules, file = found.source.adapter.declaration, found.source.labels, found.source.label_file
    table = next((table for table in declaration.tables if table.label), None) if declaration else None
    if table is None:
        return rules.label_from == "bi_rads"
    heading = open_table(file).heading if file and not table.file else ()
    return label_rule(table, rules, heading) == "bi_rads"


def _row(breast: Breast, v: int, several: bool, by_bi_rads: bool, has_categories: bool) -> list[object]:
    image, facts, key = breast.views[v], breast.facts, breast.key
    assert image is not None
    folder, name = posixpath.split(image.path)
    age = (facts.age or image.patient_age).removesuffix("Y").lstrip("0")
    file = "_".join(part for part in (key.study if several else "", key.laterality.value, VIEWS[v].value) if part)
    return [
        key.patient, path_key(name), key.laterality.value, VIEWS[v].value, age, facts.density,
        "" if by_bi_rads else DIAGNOSES[facts.label], facts.bi_rads,
        *(_findings(breast.findings[v]) if has_categories else [""] * 10),
        SPLITS.get(facts.subset, facts.subset), folder, f"{key.patient}/{file}.npy",
    ]  # fmt: skip


def _findings(findings: tuple[Finding, ...]) -> list[object]:
    """Mass to Other Findings, from the categories of the boxes on an image."""
    names = [name.strip() for finding in findings for name in finding.category.split(",") if name.strip()]
    kinds: dict[str, list[str]] = {"mass": [], "calc": [], "asymm": [], "distort": [], "": []}  # of `CALC`, too
    for name in dict.fromkeys(names):
        kinds[next((kind for kind in kinds if kind in name.lower()), "")].append(name)
    absent = 0 if all(finding.category for finding in findings) else ""
    mass, calcification, distortion = (1 if kinds[kind] else absent for kind in ("mass", "calc", "distort"))
    asymmetry, others = ("; ".join(kinds[kind]) for kind in ("asymm", ""))
    return [mass, "", "", "", calcification, "", "", asymmetry, distortion, others]
