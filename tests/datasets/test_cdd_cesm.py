"""CDD-CESM: simulated trees of JPEG files in its form, with each trap of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.errors import LabelTableError
from tests.support.declared import index, jpeg_image, labels, reasons, write_table

CESM: dict[str, Any] = {
    "Image_name": "", "Patient_ID": 1, "Side": "L", "Type": "DM", "Age": 50, "Breast density (ACR)": "_", "BIRADS": 1,
    "Findings": "", "View": "CC", "Tags": "", "Machine": 1, "Pathology Classification/ Follow up": "Normal",
}  # fmt: skip


PATHOLOGY = "Pathology Classification/ Follow up"


def cesm(root: Path, rows: list[dict[str, Any]], *, table: str = "Radiology-manual-annotations.csv") -> Path:
    """CDD-CESM's form: the low-energy and the subtracted images in two folders."""
    full = []
    for number, row in enumerate(rows, start=1):
        each = CESM | row
        name = f"P{each['Patient_ID']}_{each['Side']}_{'DM' if each['Type'] == 'DM' else 'CM'}_{each['View']}"
        folder = "Low energy" if each["Type"] == "DM" else "Subtracted"
        jpeg_image(root / f"{folder} images of CDD-CESM" / f"{row.get('file', name)}.jpg", number)
        full.append(
            {key: value for key, value in (each | {"Image_name": row.get("Image_name", name)}).items() if key != "file"}
        )
    write_table(root / table, full)
    return root


def both(**row: Any) -> list[dict[str, Any]]:
    """The four images of a breast: two views, low-energy and subtracted."""
    return [{"View": view, "Type": kind, **row} for view in ("CC", "MLO") for kind in ("DM", "CESM")]


def test_cesm_takes_low_energy_images_alone(tmp_path: Path) -> None:
    rows = [*both(), *both(Patient_ID=2, **{PATHOLOGY: "Malignant", "BIRADS": 5}), *both(Side="R", **{PATHOLOGY: "Benign"})]
    found = index(cesm(tmp_path / "cesm", rows), "cdd-cesm")
    assert labels(found) == {("1", "L"): 0, ("1", "R"): 0, ("2", "L"): 1}
    assert all(image.low_energy and "_DM_" in image.path for image in found.images)
    assert [breast.facts.pathology for breast in found.breasts] == ["Normal", "Benign", "Malignant"]
    assert set(reasons(found).values()) == {"image_kind_refused"} and len(found.rejections) == 6


def test_cesm_density_stands_in_the_rows_of_low_energy_images(tmp_path: Path) -> None:
    """Those of the subtracted ones have `_` there."""
    rows = [row | ({"Breast density (ACR)": "C"} if row["Type"] == "DM" else {}) for row in both()]
    facts = index(cesm(tmp_path / "cesm", rows), "cdd-cesm").breasts[0].facts
    assert (facts.density, facts.age) == ("C", "050Y")


def test_cesm_never_pairs_a_low_energy_image_with_a_subtracted_one(tmp_path: Path) -> None:
    rows = [{"View": "CC", "Type": "DM"}, {"View": "MLO", "Type": "CESM"}]
    found = index(cesm(tmp_path / "cesm", rows), "cdd-cesm")
    assert not found.breasts
    assert sorted(reasons(found).values()) == ["image_kind_refused", "mlo_missing"]


def test_cesm_finds_images_whose_names_have_stray_spaces(tmp_path: Path) -> None:
    rows = [{"Image_name": " P1_L_DM_CC "}, {"View": "MLO", "file": "P1_L_DM_MLO "}]
    found = index(cesm(tmp_path / "cesm", rows), "cdd-cesm")
    assert labels(found) == {("1", "L"): 0} and not found.rejections


@pytest.mark.parametrize(("cell", "expected"), [(4, 4), ("4$5", 5), ("5$4", 5), ("3$2$2", 3), ("4$4", 4), ("0$1", 1)])
def test_cesm_takes_the_highest_bi_rads_of_an_image(cell: Any, expected: int, tmp_path: Path) -> None:
    rows = [{"View": view, "BIRADS": cell} for view in ("CC", "MLO")]
    assert index(cesm(tmp_path / "cesm", rows), "cdd-cesm").breasts[0].facts.bi_rads == expected


@pytest.mark.parametrize("cell", ["7", "4$", "4,5", "45", "BIRADS"])
def test_cesm_names_a_bi_rads_of_another_form(cell: str, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match="line 2: BIRADS"):
        index(cesm(tmp_path / "cesm", [{"BIRADS": cell}]), "cdd-cesm")


def test_cesm_breast_is_as_its_worst_image(tmp_path: Path) -> None:
    rows = [{"View": "CC", PATHOLOGY: "Malignant"}, {"View": "MLO", PATHOLOGY: "Benign"}]
    assert labels(index(cesm(tmp_path / "cesm", rows), "cdd-cesm")) == {("1", "L"): 1}
    subtracted = [{"View": view, "Type": "CESM", PATHOLOGY: "Malignant"} for view in ("CC", "MLO")]  # seen in these alone
    rows = [{"View": "CC", PATHOLOGY: "Benign"}, {"View": "MLO", PATHOLOGY: "Normal"}, *subtracted]
    assert labels(index(cesm(tmp_path / "cesm2", rows), "cdd-cesm")) == {("1", "L"): 1}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({PATHOLOGY: "Normal$Benign"}, PATHOLOGY),
        ({PATHOLOGY: ""}, PATHOLOGY),
        ({"Type": "SUB"}, "Type"),
        ({"Side": "both"}, "Side"),
    ],
)
def test_cesm_names_a_word_that_is_not_published(row: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=said):
        index(cesm(tmp_path / "cesm", [{"View": "CC"}, {"View": "MLO", **row}]), "cdd-cesm")


def test_cesm_images_without_a_row_and_rows_without_an_image(tmp_path: Path) -> None:
    root = cesm(tmp_path / "cesm", [{"View": "CC"}, {"View": "MLO"}])
    jpeg_image(root / "Low energy images of CDD-CESM" / "P9_L_DM_CC.jpg", 9)
    (root / "Low energy images of CDD-CESM" / "P1_L_DM_MLO.jpg").unlink()
    found = index(root, "cdd-cesm")
    assert sorted(reasons(found).values()) == ["image_not_listed", "label_without_image", "mlo_missing"]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("L,DM", "R,DM", "laterality_conflict"),
        (",CC,", ",MLO,", "view_conflict"),
        (",1,L", ",2,L", "identifier_conflict"),
        ("P1_L_DM_CC,", "P1_L_CM_CC,", "image_kind_refused"),
    ],
)
def test_cesm_row_that_contradicts_the_name_is_left_out(before: str, after: str, reason: str, tmp_path: Path) -> None:
    root = cesm(tmp_path / "cesm", [{"View": "CC"}, {"View": "MLO"}, {"Side": "R", "View": "CC"}, {"Side": "R", "View": "MLO"}])
    table = root / "Radiology-manual-annotations.csv"
    table.write_text(table.read_text().replace(before, after, 1))
    if reason == "image_kind_refused":  # a subtracted image whose row says that it is a low-energy one
        file = root / "Low energy images of CDD-CESM" / "P1_L_DM_CC.jpg"
        file.rename(file.with_name("P1_L_CM_CC.jpg"))
    found = index(root, "cdd-cesm")
    assert labels(found) == {("1", "R"): 0}
    assert sorted(reasons(found).values()) == sorted(["cc_missing", reason])


def test_cesm_table_is_the_sheet_of_all_images(tmp_path: Path) -> None:
    """The other sheets of the workbook have the same columns; its name was first written with spaces."""
    root = cesm(tmp_path / "cesm", [{"View": "CC"}, {"View": "MLO"}], table="Radiology manual annotations.xlsx")
    book = openpyxl.load_workbook(root / "Radiology manual annotations.xlsx")
    every = book.worksheets[0]
    every.title = "all"
    for row in every.iter_rows(max_row=2, values_only=True):
        (book["mass"] if "mass" in book.sheetnames else book.create_sheet("mass", 0)).append([*row, "oval"])
    book.save(root / "Radiology manual annotations.xlsx")
    assert labels(index(root, "cdd-cesm")) == {("1", "L"): 0}
