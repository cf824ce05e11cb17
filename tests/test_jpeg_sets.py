"""Published data sets of JPEG files: made trees in their form, with each trap of the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.config.project import Labels
from fvpipe.errors import LabelTableError, ParameterError
from tests.support.declared import index, jpeg_image, labels, reasons, write_table

VIEWS = ("CC_L", "MLO_L", "CC_R", "MLO_R")


def kau(root: Path, cases: Mapping[str, tuple[str, ...]]) -> Path:
    """KAU-BCMD's form: `cases` is folder of BI-RADS and case -> ends of the names of its files."""
    number = 0
    for where, ends in cases.items():
        for end in ends:
            number += 1
            jpeg_image(root / where / f"{where.rpartition('/')[2]}_{end}.jpg", number)
    return root


def test_kau_labels_what_the_bi_rads_of_a_case_says_of_both_breasts(tmp_path: Path) -> None:
    cases = {f"Birad{bi_rads}/2018_BC00{bi_rads}": VIEWS for bi_rads in (1, 3, 4, 5)}
    found = index(kau(tmp_path / "kau", cases), "kau-bcmd")
    assert labels(found) == {(f"BC00{bi_rads}", side): 0 for bi_rads in (1, 3) for side in "LR"}
    assert {breast.facts.bi_rads for breast in found.breasts} == {None}  # it is that of the case
    assert found.breasts[0].facts.place == "the path of 2018_BC001_CC_L.jpg"
    assert {breast.facts.pathology for breast in found.breasts} == {"BI-RADS 1 of the case", "BI-RADS 3 of the case"}
    excluded = [rejection for rejection in found.rejections if rejection.reason.value == "label_excluded"]
    assert len(excluded) == len(found.rejections) == 4
    assert excluded[0].detail == "BI-RADS 4 or 5 of the case, which does not tell the breast"


def test_kau_options_decide_over_what_is_uncertain(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad3/2018_BC003": VIEWS, "Birad5/2018_BC005": VIEWS})
    options = {"probably_benign": "excluded: not followed up", "suspicious": "unlabelled"}
    found = index(root, "kau-bcmd", labels=Labels(options=options))
    assert labels(found) == {("BC005", "L"): -1, ("BC005", "R"): -1}


@pytest.mark.parametrize("ends", [VIEWS, VIEWS[2:]])
def test_kau_case_in_two_folders_is_left_out(ends: tuple[str, ...], tmp_path: Path) -> None:
    """Whether the second folder repeats the images, or has those of the other breast."""
    cases = {"Birad1/2018_BC005421": VIEWS[:2] if ends != VIEWS else VIEWS, "Birad5/2018_BC005421": ends}
    found = index(kau(tmp_path / "kau", cases | {"Birad1/2019_BC005421": VIEWS}), "kau-bcmd")
    assert labels(found) == {("BC005421", "L"): 0, ("BC005421", "R"): 0}  # another year is another exam
    assert set(reasons(found).values()) == {"image_excluded"}
    assert "several values of bi_rads; expected one" in found.rejections[0].detail


def test_kau_names_with_spaces_and_files_of_a_mac(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad1/2018_BC0021642": (" MLO_L", "CC_L ", "CC _R", "MLO_ R")})
    (root / "Birad1" / "2018_BC0021642" / "._2018_BC0021642_CC_L.jpg").write_bytes(b"\0\5\x16\7")
    (root / "Birad1" / ".DS_Store").write_bytes(b"\0")
    found = index(root, "kau-bcmd")
    assert labels(found) == {("BC0021642", "L"): 0, ("BC0021642", "R"): 0}
    assert not found.rejections


def test_kau_folders_hold_several_cases_or_none_are_there(tmp_path: Path) -> None:
    names = [(f"BIRAD1/b1/2018_BC001_ {end}", f"Birad3/2018_BC003_{end}") for end in VIEWS]
    for number, name in enumerate(name for both in names for name in both):
        jpeg_image(tmp_path / "kau" / f"{name}.jpg", number)
    found = index(tmp_path / "kau", "kau-bcmd")
    assert labels(found) == {(case, side): 0 for case in ("BC001", "BC003") for side in "LR"} and not found.rejections


def test_kau_masks_are_no_mammograms(tmp_path: Path) -> None:
    """They lie in a folder beside that of the images, and have their names; of the second case the images are missing."""
    names = [f"Birad3/b3/2018_BC001_ {each}" for each in VIEWS]
    names += [f"Birad3/Tumor masks/2018_BC00{case}_ {each}" for case in (1, 2) for each in VIEWS]
    for number, name in enumerate(names, 1):
        jpeg_image(tmp_path / "kau" / f"{name}.jpg", number)
    found = index(tmp_path / "kau", "kau-bcmd")
    assert labels(found) == {("BC001", "L"): 0, ("BC001", "R"): 0}
    assert {image.path.split("/")[1] for breast in found.breasts for image in breast.images} == {"b3"}
    assert len(found.rejections) == 8


def test_kau_files_of_another_form_are_named(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad1/2018_BC001": (*VIEWS, "LM_L")})
    jpeg_image(root / "Birad1" / "2018_BC001" / "image 5.jpg", 9)
    (root / "Birad1" / "2018_BC001" / "2018_BC001_CC_L.jpg").write_bytes(b"")
    found = index(root, "kau-bcmd")
    names = {path.rpartition("/")[2]: reason for path, reason in reasons(found).items()}
    breast = next(name for name in names if name.startswith("BC001"))
    assert names == {
        "2018_BC001_LM_L.jpg": "view_not_pairable", "image 5.jpg": "view_missing", "2018_BC001_CC_L.jpg": "not_an_image",
        breast: "cc_missing",
    }  # fmt: skip


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


def test_groups_that_must_agree_exist(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nlicense: ours\nsame_in_exam: [birads]\n")
    with pytest.raises(ParameterError, match="same_in_exam names 'birads'"):
        index(tmp_path, str(tmp_path / "x.yaml"))


def test_formats_of_a_table_are_stated_in_the_project(tmp_path: Path) -> None:
    """One row an image of a user's own table, where no header names anything."""
    rows: list[dict[str, Any]] = [
        {"file": f"a/im{number}.jpg", "pid": "A", "visit": 1, "side": "L", "view": view}
        for number, view in enumerate(("CC", "MLO"))
    ]
    for number, row in enumerate(rows):
        jpeg_image(tmp_path / "own" / row["file"], number)
    write_table(tmp_path / "ours.csv", [{**row, "label": 1} for row in rows])
    settings = Labels(columns={"path": "file", "patient": "pid", "exam": "visit", "laterality": "side"})
    found = index(tmp_path / "own", "table", label_file=str(tmp_path / "ours.csv"), labels=settings, formats=("jpeg",))
    assert labels(found) == {("A", "L"): 1}
    assert found.images[0].identity_from == "patient table, exam table, laterality table, view table"


def test_a_copy_without_the_header_that_its_adapter_reads_says_so(tmp_path: Path) -> None:
    """VinDr-Mammo's rows are found by the SOP Instance UID, which a PNG has not."""
    row = {"study_id": "a", "image_id": "b", "laterality": "L", "view_position": "CC", "height": 1, "width": 1}
    write_table(tmp_path / "in" / "breast-level_annotations.csv", [row | {"breast_birads": "BI-RADS 2", "split": "training"}])
    jpeg_image(tmp_path / "in" / "a" / "b.jpg", 1)
    found = index(tmp_path / "in", "vindr", formats=("jpeg",)).rejections[0]
    assert found.reason.value == "view_missing"
    assert "the adapter takes it from the header, which only DICOM files have: a copy in another format needs" in found.detail
