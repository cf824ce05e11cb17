"""CSAW-CC: simulated trees in its form, with each trap of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.errors import LabelTableError
from fvpipe.reasons import Reason
from fvpipe.types import VIEWS
from tests.support.declared import (
    CSAW,
    csaw,
    embed,
    four,
    image,
    index,
    labels,
    reasons,
    write_table,
)


def test_csaw_patients_that_were_cut_are_named(tmp_path: Path) -> None:
    folder = csaw(tmp_path / "csaw", [{}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    table.write_text(table.read_text().replace("\n5,", "\n1.2E+10,"))
    with pytest.raises(LabelTableError, match=r"anon_patientid is a number like 1\.2E\+10"):
        index(folder, "csaw-cc")


def test_csaw_priors_and_the_other_breast_are_no_cancers(tmp_path: Path) -> None:
    case: dict[str, Any] = {"x_case": 1, "x_cancer_laterality": "Right", "x_type": 2.0}
    folder = csaw(tmp_path / "csaw", [
        case | {"exam_year": 2008, "rad_timing": 3.0}, case | {"exam_year": 2011, "rad_timing": 1.0},
        case | {"anon_patientid": 6, "rad_timing": 2.0}, {"anon_patientid": 7},
    ])  # fmt: skip
    found = index(folder, "csaw-cc")
    assert sorted((b.key.patient, b.key.laterality.value, b.facts.label) for b in found.breasts) == [
        ("5", "L", 0), ("5", "L", 0), ("5", "R", 1), ("6", "L", 0), ("7", "L", 0), ("7", "R", 0),
    ]  # fmt: skip
    assert [r.reason.value for r in found.rejections] == ["label_excluded"] * 2
    options = {"interval": "malignant", "prior": "benign"}
    found = index(folder, "csaw-cc", labels=Labels(options=options))
    assert sorted((b.key.patient, b.facts.label) for b in found.breasts if b.key.laterality == "R") == [
        ("5", 0), ("5", 1), ("6", 1), ("7", 0),
    ]  # fmt: skip


def test_csaw_exams_are_told_apart_by_the_years_of_their_rows(tmp_path: Path) -> None:
    """All published names have one date, and a number that begins anew in each view: exams of all years were one."""
    exams = [(year, view, f"00005_20990909_L_{view}_{number}.dcm") for number, year in ((1, 2012), (2, 2009)) for view in VIEWS]
    for number, (*_, name) in enumerate(exams, 1):
        image(tmp_path / "csaw" / name, number, StudyDate="20990909")
    rows = [CSAW | {"exam_year": year, "viewposition": view, "anon_filename": name} for year, view, name in exams]
    write_table(tmp_path / "csaw" / "CSAW-CC_breast_cancer_screening_data.csv", rows)
    found = index(tmp_path / "csaw", "csaw-cc")
    assert not found.rejections
    order = {breast.images[0].path[-5]: found.exam_order[breast.key.patient, breast.key.study] for breast in found.breasts}
    assert order == {"1": 2, "2": 1}
    assert {tuple(view.path[-5] for view in breast.images) for breast in found.breasts} == {("1", "1"), ("2", "2")}


def test_csaw_table_by_its_earlier_name(tmp_path: Path) -> None:
    folder = csaw(tmp_path / "csaw", [{}])
    (folder / "CSAW-CC_breast_cancer_screening_data.csv").rename(folder / "anon_dataset_nonhidden_211125.csv")
    assert labels(index(folder, "csaw-cc")) == {("5", "L"): 0, ("5", "R"): 0}


def test_csaw_year_of_a_row_is_that_of_the_date_in_the_name(tmp_path: Path) -> None:
    folder = csaw(tmp_path / "csaw", [{}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    table.write_text(table.read_text().replace("2010,", "2011,"))
    assert set(reasons(index(folder, "csaw-cc")).values()) == {"identifier_conflict"}


def test_csaw_row_of_a_missing_image_is_of_the_exam_in_its_name(tmp_path: Path) -> None:
    """Its cancer contradicts the CC, which was benign for `cc`."""
    folder = csaw(tmp_path / "csaw", [{}, {"exam_year": 2011}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    lines = table.read_text().splitlines()
    cancer = [line.replace("2010,1,0,,,,Left,MLO", "2010,1,1,Left,2,1,Left,MLO") for line in lines]
    assert sum(map(str.__ne__, lines, cancer)) == 1
    table.write_text("\n".join(cancer))
    (folder / "Batch_1" / "5_20100101_L_MLO_1.dcm").unlink()
    found = index(folder, "csaw-cc")
    assert [each.label_rejection.reason for each in found.unpaired if each.label_rejection] == [Reason.LABEL_AMBIGUOUS]
    assert sorted(breast.facts.label for breast in found.breasts) == [0, 0, 0]


def test_csaw_type_of_a_cancer_is_not_that_of_the_other_breast(tmp_path: Path) -> None:
    """It is said of the woman, at all her exams."""
    case = {"x_case": 1, "x_cancer_laterality": "Left", "x_type": 3.0}
    folder = csaw(tmp_path / "csaw", [case | {"rad_timing": 1.0}, case | {"exam_year": 2007, "rad_timing": 3.0}])
    breasts = index(folder, "csaw-cc", labels=Labels(options={"prior": "benign"})).breasts
    found = sorted((breast.key.laterality.value, breast.facts.label, breast.facts.pathology) for breast in breasts)
    assert found == [("L", 0, ""), ("L", 1, "invasive over 15 mm"), ("R", 0, ""), ("R", 0, "")]


def test_words_of_a_declared_column_are_not_those_of_another(tmp_path: Path) -> None:
    """By those of `x_type`, one with metastases was in situ; the heading of another version has the same words."""
    case = {"x_case": 1, "x_cancer_laterality": "Left", "x_type": 3, "rad_timing": 1, "x_lymphnode_met": 1}
    folder = csaw(tmp_path / "csaw", [case])
    for column, expected in (("x_type", "invasive over 15 mm"), ("x_lymphnode_met", "1")):
        found = index(folder, "csaw-cc", labels=Labels(columns={"pathology": column}))
        assert [breast.facts.pathology for breast in found.breasts] == [expected, ""]
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    table.write_text(table.read_text().replace("x_type", "type"))
    found = index(folder, "csaw-cc", labels=Labels(columns={"pathology": "type"}))
    assert [breast.facts.pathology for breast in found.breasts] == ["invasive over 15 mm", ""]
    with pytest.raises(LabelTableError, match=r"numfind is '7'; expected 'BI-RADS 0'"):
        index(embed(tmp_path / "embed", four(), [{"numfind": 7}]), "embed", labels=Labels(columns={"bi_rads": "numfind"}))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"x_case": 1, "x_cancer_laterality": "Both", "rad_timing": 1}, [1, 1]),
        ({"x_case": "True"}, []),
        ({"x_case": "", "rad_timing": 1, "x_type": 2}, []),
        ({"x_case": 1, "x_cancer_laterality": ""}, []),
        ({"x_case": 0, "x_cancer_laterality": "Right", "rad_timing": 1.0}, [0]),  # two columns contradict each other
        ({"x_case": 0, "rad_timing": 1.0}, []),
    ],
)
def test_csaw_guesses_no_label(case: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    assert [breast.facts.label for breast in index(csaw(tmp_path / "csaw", [case]), "csaw-cc").breasts] == expected


def test_csaw_cancer_is_of_no_side_where_the_row_names_none(tmp_path: Path) -> None:
    """The rule compares that of the file's name: the cancer was taken for the other breast's, and later stopped the index."""
    case = {"x_case": 1, "x_cancer_laterality": "Left", "rad_timing": 1}
    folder = csaw(tmp_path / "csaw", [case, {"anon_patientid": 6}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    table.write_text(table.read_text().replace("Left,CC,6_", ",CC,6_"))  # no cancer is named: nothing is compared
    assert sorted(breast.facts.label for breast in index(folder, "csaw-cc").breasts) == [0, 0, 0, 1]
    table.write_text(table.read_text().replace("Left,CC,5_", ",CC,5_"))
    assert {place for place, label in labels(index(folder, "csaw-cc")).items() if label} == {("5", "L")}
    table.write_text(table.read_text().replace("5_20100101_L_CC", "5_20100101_X_CC"))
    with pytest.raises(LabelTableError, match=r"line 2: imagelaterality does not name the side .* x_cancer_laterality"):
        index(folder, "csaw-cc")


@pytest.mark.parametrize("column", ["imagelaterality", "viewposition"])
@pytest.mark.parametrize("source", ["path", "header"])
def test_csaw_name_header_and_row_name_one_side_and_view(source: str, column: str, tmp_path: Path) -> None:
    """An image of the other breast would be paired with one of this."""
    folder = csaw(tmp_path / "csaw", [{}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    if source == "header":
        tags = {"ImageLaterality": "R"} if column == "imagelaterality" else {"ViewPosition": "MLO"}
        image(folder / "Batch_1" / "5_20100101_L_CC_1.dcm", 1, **tags)
    else:
        other = {"imagelaterality": "Right,CC", "viewposition": "Left,MLO"}[column]
        table.write_text(table.read_text().replace("Left,CC", other))
    found = index(folder, "csaw-cc")
    assert labels(found) == {("5", "R"): 0}
    reason = {"imagelaterality": "laterality_conflict", "viewposition": "view_conflict"}[column]
    assert reasons(found)["Batch_1/5_20100101_L_CC_1.dcm"] == reason


def test_csaw_side_that_is_no_side_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"x_cancer_laterality is another .*; expected L, R or both") as error:
        index(csaw(tmp_path / "csaw", [{"x_case": 1, "x_cancer_laterality": "Meier"}]), "csaw-cc")
    assert "Meier" not in str(error.value)
