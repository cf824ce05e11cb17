"""CMMD and its re-reading, a second table: simulated trees in their form, with each trap of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.config.project import Labels
from fvpipe.errors import LabelTableError
from tests.support.declared import (
    image,
    index,
    reasons,
    write_table,
)


@pytest.fixture
def cmmd(tmp_path: Path) -> Path:
    """CMMD's form: two patients, of whom the table has one breast each."""
    folder = tmp_path / "cmmd"
    for number, (patient, view) in enumerate([("D1-0001", "CC"), ("D1-0001", "MLO"), ("D1-0002", "CC"), ("D1-0002", "MLO")], 1):
        image(
            folder / patient / f"1-{number}.dcm",
            number,
            PatientID=patient,
            ImageLaterality="L",
            ViewPosition=view,
            PatientAge="060Y",
        )
    rows = [{"ID1": patient, "LeftRight": "L", "Age": 60.7, "classification": "Benign"} for patient in ("D1-0001", "D1-0002")]
    write_table(folder / "CMMD_clinicaldata_revision.csv", [row | {"abnormality": "mass", "subtype": ""} for row in rows])
    return folder


def test_views_of_two_years_are_no_pair_where_others_are(tmp_path: Path) -> None:
    """Exams are not told apart here; by the UIDs alone, CC of the first would go with MLO of the second."""
    images = ("20100101", "CC"), ("20130101", "MLO"), ("20130101", "CC"), ("20100101", "MLO")
    for number, (day, view) in enumerate(images, 1):
        image(
            tmp_path / "c" / day / f"{view}.dcm", number, PatientID="D1-0001", ImageLaterality="L", ViewPosition=view,
            StudyDate=day, StudyInstanceUID=f"2.25.{day}",
        )  # fmt: skip
    row = {"ID1": "D1-0001", "LeftRight": "L", "Age": "", "classification": "Benign", "abnormality": "mass", "subtype": ""}
    write_table(tmp_path / "c" / "CMMD_clinicaldata_revision.csv", [row])
    found = index(tmp_path / "c", "cmmd")
    assert reasons(found) == {
        "20130101/CC.dcm": "superseded", "20130101/MLO.dcm": "superseded", "D1-0001_L": "label_ambiguous",
    }  # fmt: skip
    (tmp_path / "c" / "20100101" / "MLO.dcm").unlink()
    (tmp_path / "c" / "20130101" / "CC.dcm").unlink()
    found = index(tmp_path / "c", "cmmd")  # dates may be those of a digitization
    assert len(found.breasts) == 1 and found.notes[0].startswith("CC and MLO of 1 breast(s) are of days more than 200 apart")


def tompei(folder: Path, rows: list[dict[str, Any]]) -> None:
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in [list(rows[0]), *(list(row.values()) for row in rows)]:
        book.active.append(row)
    book.save(folder / "TOMPEI-CMMD_clinical_data_v01.xlsx")


def test_rows_of_a_second_table_that_fit_no_breast_are_counted(cmmd: Path) -> None:
    tompei(cmmd, [
        {"ID1": patient, "LeftRight": side, "BI-RADS": 4, "density": "C"}
        for patient, side in (("D1-0001", "L"), ("D1-0002", "R"), ("D1-0003", "L"))
    ])  # fmt: skip
    found = index(cmmd, "cmmd")
    assert [(b.key.patient, b.facts.bi_rads, b.facts.density) for b in found.breasts] == [
        ("D1-0001", 4, "C"),
        ("D1-0002", None, ""),
    ]
    (rejection,) = found.rejections
    assert (rejection.what, rejection.reason.value) == ("label table", "label_without_image")
    assert rejection.detail == (
        "2 row(s) or file(s) add facts to breasts that no row of the label table describes: "
        "TOMPEI-CMMD_clinical_data_v01.xlsx, line 3, TOMPEI-CMMD_clinical_data_v01.xlsx, line 4"
    )
    assert list(found.label_hints) == [rejection.detail]  # which the commands print


def test_a_breast_that_a_second_table_alone_describes_is_not_normal(cmmd: Path) -> None:
    """With `unlabelled: normal` it was benign, whatever its re-reading says."""
    table = cmmd / "CMMD_clinicaldata_revision.csv"
    table.write_text("".join(line for line in table.read_text().splitlines(keepends=True) if "D1-0002" not in line))
    normal = Labels(unlabelled="normal")
    assert [breast.facts.label for breast in index(cmmd, "cmmd", labels=normal).breasts] == [0, 0]
    tompei(cmmd, [{"ID1": "D1-0002", "LeftRight": "L", "BI-RADS": 5, "density": "C"}])
    facts = index(cmmd, "cmmd", labels=normal).breasts[1].facts
    assert (facts.label, facts.bi_rads, facts.density) == (-1, 5, "C")


def test_a_second_table_in_its_published_form(cmmd: Path) -> None:
    """TOMPEI-CMMD: a README, then the sheet with headings of two rows, whose cells are merged."""
    tompei(cmmd, [{"TOMPEI-CMMD": "read again"}])
    file = cmmd / "TOMPEI-CMMD_clinical_data_v01.xlsx"
    book = openpyxl.load_workbook(file)
    sheet = book.create_sheet("Imaging Diagnosis Details Sheet")
    sheet.append(["ID", "LeftRight", "classification", None, "Breast density", "BI-RADS\nCategory", "Mass"])
    sheet.append([None, None, None, "Exclusion reasons", None, None, "Shape", "Margin"])
    sheet.append(["D1-0001", "L", "Malignant", None, "heterogeneous dense", 4, "oval", "indistinct"])
    for cells in ("A1:A2", "B1:B2", "C1:D1", "E1:E2", "F1:F2", "G1:H1"):
        sheet.merge_cells(cells)
    book.save(file)
    facts = index(cmmd, "cmmd").breasts[0].facts
    assert (facts.bi_rads, facts.density) == (4, "C")


def test_columns_of_a_second_table_that_are_not_read_are_named(cmmd: Path) -> None:
    """Its headings were not seen: one may leave images out."""
    row = {"ID1": "D1-0001", "LeftRight": "L", "BI-RADS": 4, "density": "C", "Excluded": "yes", "Lesion": "mass"}
    tompei(cmmd, [row])
    said = "TOMPEI-CMMD_clinical_data_v01.xlsx: 2 column(s) are not read, whatever they say of a breast: Excluded, Lesion"
    assert index(cmmd, "cmmd").label_hints == (said,)


def test_two_rows_of_a_second_table_that_contradict_each_other_are_named(cmmd: Path) -> None:
    tompei(cmmd, [{"ID1": "D1-0001", "LeftRight": "L", "BI-RADS": 4, "density": density} for density in "CD"])
    with pytest.raises(LabelTableError, match=r"lines 2 and 3: one breast has two descriptions \(density\)"):
        index(cmmd, "cmmd")


def test_a_second_table_of_other_headings_says_what_to_do(cmmd: Path) -> None:
    """The headings of TOMPEI-CMMD were not seen; without it the data set can be built."""
    tompei(cmmd, [{"Case": "D1-0001", "LeftRight": "L", "BI-RADS": 4, "density": "C"}])
    with pytest.raises(LabelTableError, match=r"column 'ID1' is missing.*It only adds facts: take it out of the folder"):
        index(cmmd, "cmmd")
