"""Whole data sets in their published form, header by header, with pixels as small as the rules allow.

CMMD's headers are the real ones (``data/cmmd/image_index.csv.xz``); VinDr-Mammo's are made, with the published counts.
Files are one template with its fields replaced in place: 20,000 of them in seconds.
"""

from __future__ import annotations

import csv
import hashlib
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.support.factory import CC, MLO, VIEW_CODES, coded, dataset, file_bytes

DATA = Path(__file__).parents[1] / "data"
SIDE = 16


def cmmd_rows() -> list[dict[str, str]]:
    """One row for each of CMMD's 5,202 files."""
    with lzma.open(DATA / "cmmd" / "image_index.csv.xz", "rt", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def cmmd_tree(folder: Path, rows: list[dict[str, str]]) -> None:
    """CMMD's files: the view only in a code, 8 bits but for one pair, equal pixels where patients are duplicated."""
    twins = {"D2-0284": "D1-0202", "D1-1292": "D1-0808"}
    for number, row in enumerate(rows):
        bits = int(row["BitsAllocated"])
        dtype = np.uint8 if bits == 8 else np.uint16
        source = number
        if row["tcia_duplicate_pixels_patient"] == "True" and row["patient_id"] in twins:
            original = (twins[row["patient_id"]], row["InstanceNumber"])
            source = next(i for i, r in enumerate(rows) if (r["patient_id"], r["InstanceNumber"]) == original)
        pixels = (np.arange(SIDE * SIDE).reshape(SIDE, SIDE) % 200).astype(dtype)
        pixels[0, :3] = source % 251, source // 251 % 251, 1
        orientation = {("L", "CC"): "A\\R", ("L", "MLO"): "A\\FR", ("R", "CC"): "P\\L", ("R", "MLO"): "P\\FL"}
        ds = dataset(
            pixels, bits, PatientID=row["patient_id"], ImageLaterality=row["laterality"], ViewPosition=None,
            ViewCodeSequence=coded(VIEW_CODES[CC if row["view"] == "CC" else MLO]), SOPInstanceUID=row["SOPInstanceUID"],
            StudyInstanceUID=row["StudyInstanceUID"], SeriesInstanceUID=row["SeriesInstanceUID"], PatientAge=row["PatientAge"],
            InstanceNumber=row["InstanceNumber"], ImageType=["DERIVED", "PRIMARY"], Manufacturer="",
            PatientOrientation=orientation[row["laterality"], row["view"]].split("\\"), VOILUTFunction="SIGMOID",
            WindowCenter=1 << (bits - 1), WindowWidth=1 << bits,
        )  # fmt: skip
        path = folder / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file_bytes(ds, pixels))


BI_RADS = {1: 13406, 2: 4676, 3: 930, 4: 762, 5: 226}  # rows, as published; one row an image
PAIRS = {level: rows // 2 for level, rows in BI_RADS.items()}


def _hex(*what: object) -> str:
    return hashlib.md5(repr(what).encode(), usedforsecurity=False).hexdigest()


def vindr_tables() -> tuple[list[dict[str, str]], bytes]:
    """20,000 rows with the published counts, and the table's bytes."""
    levels = [level for level, count in PAIRS.items() for _ in range(count)]
    np.random.default_rng(0).shuffle(levels)
    # The breast with two CC and no MLO is a left one of BI-RADS 2.
    odd = next(i for i in range(0, len(levels), 2) if levels[i] == 2)
    rows = []
    for breast, level in enumerate(levels):
        study, side = breast // 2, "LR"[breast % 2]
        apart = breast % 244 == 7 and breast < 244 * 41  # 41 breasts whose views lie in two series
        for i, view in enumerate(("CC", "CC" if breast == odd else "MLO")):
            narrow = i == 1 and breast % 37 == 3 and breast < 37 * 264  # 264 breasts whose views differ in size
            rows.append({
                "study_id": _hex("study", study), "series_id": _hex("series", study, i if apart else 0),
                "image_id": _hex("image", breast, i), "laterality": side, "view_position": view, "height": "18",
                "width": "16" if narrow else "17", "breast_birads": f"BI-RADS {level}",
                "breast_density": "DENSITY " + "ABCD"[breast % 4], "split": "test" if study % 5 == 4 else "training",
            })  # fmt: skip
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return rows, out.getvalue().encode()


def vindr_tree(folder: Path, rows: list[dict[str, str]], table: bytes) -> None:
    """VinDr-Mammo's files: no patient, no SOP class, UIDs that are md5 sums."""
    templates: dict[tuple[str, str, str], Callable[[dict[str, str]], bytes]] = {}
    for row in rows:
        kind = (row["laterality"], row["view_position"], row["width"])
        if kind not in templates:
            templates[kind] = _template(*kind)
        path = folder / "images" / row["study_id"] / f"{row['image_id']}.dicom"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(templates[kind](row))
    (folder / "breast-level_annotations.csv").write_bytes(table)


def _template(side: str, view: str, width: str) -> Callable[[dict[str, str]], bytes]:
    marks = {"study_id": "1" * 32, "series_id": "2" * 32, "image_id": "3" * 32}
    pixels = np.arange(18 * int(width), dtype=np.uint16).reshape(18, int(width))
    ds = dataset(
        pixels, 12, SOPClassUID=None, PatientID=None, view=CC if view == "CC" else MLO, ImageLaterality=side, Laterality=side,
        StudyInstanceUID=marks["study_id"], SeriesInstanceUID=marks["series_id"], SOPInstanceUID=marks["image_id"],
        PatientAge="051Y", Manufacturer="SIEMENS",
    )  # fmt: skip
    data = file_bytes(ds, pixels)
    assert all(data.count(mark.encode()) == 1 for mark in marks.values())

    def fill(row: dict[str, str]) -> bytes:
        filled = data
        for name, mark in marks.items():
            filled = filled.replace(mark.encode(), row[name].encode())
        return filled

    return fill


def embed_tree(folder: Path, count: int) -> None:
    """EMBED's files and tables: four images an exam, two exams a patient; all negative, one in three by a row of one side."""
    views = [("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")]
    fill = {view: _template(*view, "17") for view in views}
    tables = folder / "tables"
    tables.mkdir(parents=True)
    with (
        open(tables / "EMBED_OpenData_metadata.csv", "w", encoding="utf-8") as images,
        open(tables / "EMBED_OpenData_clinical.csv", "w", encoding="utf-8") as findings,
    ):
        images.write(
            "empi_anon,acc_anon,study_date_anon,ImageLateralityFinal,ViewPosition,FinalImageType,spot_mag,ROI_coords,"
            "anon_dicom_path\n"
        )
        findings.write("empi_anon,acc_anon,desc,side,asses,tissueden,path_severity,bside,study_date_anon,age_at_study\n")
        for number in range(count):
            exam, (side, view) = number // 4, views[number % 4]
            patient = exam // 2
            path = f"cohort_1/{patient}/{exam}/{number}.dcm"
            file = folder / "images" / path
            day = f"20{10 + exam % 2 * 2}-03-01"
            if number % 4 == 0:
                file.parent.mkdir(parents=True)
                of = "" if exam % 3 else "L"  # then the other side is negative by the contralateral rule
                findings.write(f"{patient}.0,{exam}.0,MG Screen Bilat,{of},N,2.0,,,{day},51.2\n")
            row = {"study_id": f"{exam:032d}", "series_id": f"{exam:032d}", "image_id": f"{number:032d}"}
            file.write_bytes(fill[side, view](row))
            images.write(f"{patient}.0,{exam}.0,{day},{side},{view},2D,,(),/mnt/NAS2/mammo/anon_dicom/{path}\n")
