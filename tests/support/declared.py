"""Data sets in the form that their declarations describe: simulated tables, and small images whose headers identify nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fvpipe.indexing.index import Index
from fvpipe.testing import index_folder as index
from fvpipe.testing import write_image, write_table
from fvpipe.types import Laterality
from tests.support import factory
from tests.support.factory import CC
from tests.support.raster import jpeg, rgb

SMALL = factory.breast(1, CC, Laterality.LEFT)

__all__ = [
    "CSAW",
    "DECLARATION",
    "OWN",
    "csaw",
    "embed",
    "four",
    "image",
    "inbreast",
    "index",
    "jpeg_image",
    "labels",
    "reasons",
    "rsna",
    "write_table",
]


def image(path: Path, number: int, **tags: Any) -> None:
    """Write an image whose header identifies nothing."""
    write_image(path, number, **{"PatientID": "as the publisher left it", "Modality": None} | tags)


def jpeg_image(path: Path, number: int) -> None:
    """Write an image as a JPEG file, grey stored as three channels; no two have the same pixels."""
    pixels = (SMALL.pixels >> 4).astype(np.uint8)
    pixels[-8:, -8:] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg(rgb(pixels)))


def labels(found: Index) -> dict[tuple[str, str], int]:
    return {(breast.key.patient, breast.key.laterality.value): breast.facts.label for breast in found.breasts}


def reasons(found: Index) -> dict[str, str]:
    return {rejection.what: rejection.reason.value for rejection in found.rejections}


RSNA: dict[str, Any] = {
    "site_id": 1, "patient_id": 7, "image_id": 0, "laterality": "L", "view": "CC", "age": 61.0, "cancer": 0, "biopsy": 0,
    "invasive": 0, "BIRADS": "", "implant": 0, "density": "", "machine_id": 29, "difficult_negative_case": False,
}  # fmt: skip


def rsna(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """RSNA's form; the files of the rows, with headers that name neither side nor view."""
    write_table(folder / "train.csv", [RSNA | row for row in rows])
    for number, row in enumerate(rows, start=1):
        patient = row.get("patient_id", RSNA["patient_id"])
        image(folder / "train_images" / str(patient) / f"{row['image_id']}.dcm", number, PatientOrientation=None)
    return folder


META: dict[str, Any] = {
    "empi_anon": 1.0, "acc_anon": 11.0, "ImageLateralityFinal": "L", "ViewPosition": "CC", "FinalImageType": "2D",
    "spot_mag": "", "num_roi": 0, "ROI_coords": "()", "anon_dicom_path": "",
}  # fmt: skip

CLINICAL: dict[str, Any] = {
    "empi_anon": 1.0, "acc_anon": 11.0, "desc": "MG Screen Bilat w/CAD", "side": "", "asses": "N", "tissueden": 2.0,
    "path_severity": "", "bside": "", "study_date_anon": "2015-03-01", "age_at_study": 55.2, "numfind": 1,
}  # fmt: skip


def embed(folder: Path, images: list[dict[str, Any]], findings: list[dict[str, Any]]) -> Path:
    """EMBED's form."""
    rows = list[dict[str, Any]]()
    for number, row in enumerate(images, start=1):
        full = META | row
        path = f"cohort_1/{int(full['empi_anon'])}/{int(full['acc_anon'])}/1.2/1.2.{number}.dcm"
        rows.append(full | {"anon_dicom_path": f"/mnt/NAS2/mammo/anon_dicom/{path}"})
        image(folder / "images" / path, number)
    write_table(folder / "tables" / "EMBED_OpenData_metadata.csv", rows)
    write_table(folder / "tables" / "EMBED_OpenData_clinical.csv", [CLINICAL | row for row in findings])
    return folder


def four(**row: Any) -> list[dict[str, Any]]:
    """Both views of both breasts."""
    return [{"ImageLateralityFinal": side, "ViewPosition": view, **row} for side in "LR" for view in ("CC", "MLO")]


INBREAST: dict[str, Any] = {
    "Patient ID": "removed", "Patient age": "removed", "Laterality": "L", "View": "CC", "Acquisition date": "201001",
    "File Name": 0, "ACR": 2, "Bi-Rads": "2",
}  # fmt: skip


def inbreast(folder: Path, rows: list[dict[str, Any]], patient: str = "6c613a14b80a8591") -> Path:
    """INbreast's form, where a name has ML for MLO."""
    write_table(folder / "INbreast.csv", [INBREAST | row for row in rows], ";")
    for number, row in enumerate(rows, start=1):
        full = INBREAST | row
        view = "ML" if full["View"] == "MLO" else "CC"
        image(folder / "AllDICOMs" / f"{full['File Name']}_{patient}_MG_{full['Laterality']}_{view}_ANON.dcm", number)
    return folder


CSAW: dict[str, Any] = {
    "anon_patientid": 5, "exam_year": 2010, "x_age": 1, "x_case": 0, "x_cancer_laterality": "", "x_type": "", "rad_timing": "",
    "imagelaterality": "Left", "viewposition": "CC", "anon_filename": "",
}  # fmt: skip


def csaw(folder: Path, exams: list[dict[str, Any]]) -> Path:
    rows = list[dict[str, Any]]()
    for exam in exams:
        for side in ("Left", "Right"):
            for view in ("CC", "MLO"):
                full = CSAW | exam | {"imagelaterality": side, "viewposition": view}
                name = f"{full['anon_patientid']}_{full['exam_year']}0101_{side[0]}_{view}_1.dcm"
                rows.append(full | {"anon_filename": name})
                image(folder / "Batch_1" / name, len(rows))
    write_table(folder / "CSAW-CC_breast_cancer_screening_data.csv", rows)
    return folder


DECLARATION = """
name: clinic
license: ours
identity: {patient: [path], exam: [path], laterality: [path], view: [path]}
path: '(?P<patient>p\\d+)/(?P<exam>\\d{4})/(?P<laterality>li|re)-(?P<view>cc|mlo)-(?P<grade>[a-z]+)\\.dcm$'
path_values: {laterality: {li: L, re: R}}
tables:
  - from_path: true
    label: label
    columns: {laterality: laterality, patient: patient, label: {column: grade, values: {ca: malignant, ok: benign}}}
"""

OWN = """
name: own
license: ours
hashed: false
headers: {studies_apart: false}
tables:
  - file: t.csv
    combine: COMBINE
    label:
      - {when: {dx: "C50*", side: $side}, then: malignant}
      - {when: {dx: "[?]"}, then: "excluded: pending"}
      - {when: {dx: ["", "9.0"]}, then: unlabelled}
      - {then: benign}
    columns:
      patient: {column: pid, pattern: '^(P[0-9]+)$'}
      laterality: {column: side, values: {li: L, re: R, bds: both}}
"""
