"""The declarations of published data sets: simulated trees in their form, with each trap of the real ones."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.inbreast import read_findings
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.project.stages import notes
from fvpipe.reasons import Reason
from fvpipe.testing import make_tree, write_image
from fvpipe.types import VIEWS, BreastFacts, View
from tests.support.declared import (
    CSAW,
    INBREAST,
    RSNA,
    csaw,
    embed,
    four,
    image,
    inbreast,
    index,
    labels,
    reasons,
    rsna,
    write_table,
)


def test_rsna_takes_side_view_and_label_from_the_table(tmp_path: Path) -> None:
    pairs = [
        {"patient_id": patient, "image_id": 100 * patient + i, "laterality": side, "view": view, "cancer": cancer,
         "machine_id": i, "age": age, "BIRADS": bi_rads}
        for patient, side, cancer, age, bi_rads in ((7, "L", 0, "", 1), (7, "R", 1, "", 0), (8, "L", 0, 90.5, ""))
        for i, view in enumerate(("CC", "MLO"), start=10 * (side == "R"))
    ]  # fmt: skip
    other = [
        {"image_id": 900, "view": "AT"},
        {"image_id": 901, "view": "LMO", "laterality": "R", "cancer": 1},
        {"image_id": 902, "view": "CC"},  # a second CC
    ]
    folder = rsna(tmp_path / "rsna", [*pairs, *other])
    image(folder / "train_images" / "9" / "1.dcm", 77)  # not in the table
    found = index(folder, "rsna")
    assert labels(found) == {("7", "L"): 0, ("7", "R"): 1, ("8", "L"): 0}
    assert found.breasts[2].facts == BreastFacts(0, None, age="90+")  # its images are of two machines
    paths = {path.rpartition("/")[2]: reason for path, reason in reasons(found).items()}
    assert paths == {
        "900.dcm": "view_not_pairable", "901.dcm": "view_not_pairable", "902.dcm": "superseded", "1.dcm": "image_not_listed",
    }  # fmt: skip
    assert found.images[0].identity_from == "patient table, laterality table, view table"
    assert found.breasts[0].key.study == ""  # one study a patient


@pytest.mark.parametrize("name", ["{patient}/{image}.png", "{patient}_{image}.png", "train_images/{patient}_{image}.png"])
def test_rsna_copies_in_another_format(name: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"image_id": number, "view": view, "cancer": 1} for number, view in enumerate(("CC", "MLO"), 1)
    ]
    write_table(tmp_path / "rsna" / "train.csv", [RSNA | row for row in rows])
    for row in rows:
        write_image(tmp_path / "rsna" / name.format(patient=7, image=row["image_id"]), row["image_id"], form="png")
    found = index(tmp_path / "rsna", "rsna", formats=("png",))
    assert labels(found) == {("7", "L"): 1} and not found.rejections


def test_identifiers_that_a_spreadsheet_made_numbers_find_their_images(tmp_path: Path) -> None:
    """As pandas writes them where a row below the table has none."""
    rows: list[dict[str, Any]] = [{"image_id": 1}, {"image_id": 2, "view": "MLO"}]
    folder = rsna(tmp_path / "rsna", rows)
    write_table(folder / "train.csv", [RSNA | row | {"patient_id": 7.0, "image_id": f"{row['image_id']}.0"} for row in rows])
    (folder / "train_images" / "7" / "1.dcm").rename(folder / "train_images" / "7" / "1.0.dcm")
    found = index(folder, "rsna")
    assert labels(found) == {("7", "L"): 0} and not found.rejections

    rows = [{"File Name": 1}, {"File Name": 2, "View": "MLO"}]
    folder = inbreast(tmp_path / "inbreast", rows)
    write_table(folder / "INbreast.csv", [INBREAST | row | {"File Name": f"{row['File Name']}.0"} for row in rows], ";")
    found = index(folder, "inbreast")
    assert list(labels(found).values()) == [0] and not found.rejections


def test_an_optional_heading_in_another_spelling_is_named(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    text = (folder / "train.csv").read_text()
    (folder / "train.csv").write_text(text.replace("BIRADS", "Bi-Rads"))
    with pytest.raises(LabelTableError, match=r"column 'Bi-Rads' is not read; expected 'BIRADS' for bi_rads: rename it, or"):
        index(folder, "rsna")
    assert index(folder, "rsna", labels=Labels(columns={"bi_rads": "Bi-Rads"})).breasts
    assert index(folder, "rsna", labels=Labels(columns={"pathology": "Bi-Rads"})).breasts  # taken for something else


def test_inbreast_copies_in_another_format(tmp_path: Path) -> None:
    folder = inbreast(tmp_path / "inbreast", [{"File Name": 1}, {"File Name": 2, "View": "MLO"}])
    for number, file in enumerate(sorted((folder / "AllDICOMs").iterdir()), 1):
        file.unlink()
        write_image(file.with_suffix(".png"), number, form="png")
    assert list(labels(index(folder, "inbreast", formats=("png",))).values()) == [0]


def test_two_labels_of_one_breast_leave_it_out(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO", "cancer": 1}])
    assert reasons(index(folder, "rsna")) == {"7_L": "label_ambiguous"}


def test_the_label_of_a_missing_image_contradicts_those_of_its_breast(tmp_path: Path) -> None:
    """Not its other facts: age and machine are known as far as the images that are there say so."""
    views: list[dict[str, Any]] = [{"image_id": 1}, {"image_id": 2, "view": "MLO"}]
    missing = {"image_id": 3, "view": "MLO", "cancer": 1, "machine_id": 48}
    others: list[dict[str, Any]] = [{"patient_id": 8, "image_id": 4}, {"patient_id": 8, "image_id": 5, "view": "MLO"}]
    folder = rsna(tmp_path / "rsna", [*views, missing, *others])
    (folder / "train_images/7/3.dcm").unlink()
    found = index(folder, "rsna")
    assert labels(found) == {("8", "L"): 0} and reasons(found)["7_L"] == "label_ambiguous"
    (folder / "train.csv").write_text((folder / "train.csv").read_text().replace(",61.0,1,", ",61.0,0,"))
    assert [breast.facts.machine for breast in index(folder, "rsna").breasts] == ["29", "29"]


def test_the_label_of_another_view_contradicts_those_of_its_breast(tmp_path: Path) -> None:
    views: list[dict[str, Any]] = [{"image_id": 1}, {"image_id": 2, "view": "MLO"}, {"image_id": 3, "view": "LMO", "cancer": 1}]
    folder = rsna(tmp_path / "rsna", views)
    found = reasons(index(folder, "rsna"))
    assert (found["7_L"], found["train_images/7/3.dcm"]) == ("label_ambiguous", "view_not_pairable")
    (folder / "train_images/7/3.dcm").unlink()
    assert reasons(index(folder, "rsna"))["7_L"] == "label_ambiguous"


def test_a_row_that_lists_no_file_is_counted(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}, {"image_id": 3, "laterality": "R"}])
    (folder / "train_images/7/3.dcm").unlink()
    (rejection,) = index(folder, "rsna").rejections
    assert rejection.reason.value == "label_without_image"
    assert rejection.detail == "1 of 3 rows list an image that the input does not have: train.csv, line 4"


def test_a_changed_row_is_seen_though_no_file_changed(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    assert labels(index(folder, "rsna")) == {("7", "L"): 0}
    write_table(
        folder / "train.csv", [RSNA | {"image_id": i, "laterality": "R", "view": v} for i, v in ((1, "CC"), (2, "MLO"))]
    )
    assert labels(index(folder, "rsna")) == {("7", "R"): 0}


def test_embed_joins_by_exam_and_side(tmp_path: Path) -> None:
    cancer = {"side": "L", "asses": "S", "path_severity": 0.0, "bside": "L"}
    found = index(embed(tmp_path / "e", four(), [cancer, {"side": "L", "asses": "B", "numfind": 2}]), "embed")
    assert labels(found) == {("1", "L"): 1, ("1", "R"): 0}  # the other breast has no row, and the exam is of both
    assert found.breasts[0].facts.pathology == "invasive"
    assert found.breasts[0].facts.density == "B"


@pytest.mark.parametrize(
    ("row", "left", "right"),
    [
        ({}, 0, 0),  # an empty side is both
        ({"side": "B", "asses": "P"}, 0, 0),
        ({"side": "B", "path_severity": 1, "bside": "L", "asses": "N"}, 1, 0),  # pathology is of one side
        ({"side": "R", "asses": "B", "desc": "MG Diagnostic Right"}, -1, 0),  # an exam of one breast says nothing of the other
        ({"side": "B", "asses": "X"}, -1, -1),
        ({"side": "B", "path_severity": 3, "asses": "S"}, 0, 0),
    ],
)
def test_embed_label_rule(row: dict[str, Any], left: int, right: int, tmp_path: Path) -> None:
    assert labels(index(embed(tmp_path / "e", four(), [row]), "embed")) == {("1", "L"): left, ("1", "R"): right}


BENIGN_BIOPSY = {"side": "L", "path_severity": 4, "bside": "L", "asses": "S"}


@pytest.mark.parametrize(
    ("rows", "left", "right"),
    [
        ([BENIGN_BIOPSY, {"side": "L", "asses": "M"}, {"side": "R"}], None, 0),  # another finding is not known
        ([BENIGN_BIOPSY, {"side": "L", "asses": "K"}, {"side": "R"}], None, 0),
        ([BENIGN_BIOPSY | {"asses": "K"}, {"side": "R"}], None, 0),
        ([BENIGN_BIOPSY | {"asses": "K", "bside": ""}, {"side": "R"}], None, 0),
        ([BENIGN_BIOPSY | {"asses": "K", "bside": "R"}, {"side": "R"}], None, 0),
        ([BENIGN_BIOPSY, {"side": "L", "path_severity": 6, "bside": "L"}, {"side": "R"}], None, 0),
        ([{"side": "L", "path_severity": 0, "bside": "R", "asses": "N"}], 0, 1),  # pathology of the other side
        ([{"side": "L", "path_severity": 0, "bside": "B"}], 1, 1),
        ([{"side": "L", "tissueden": 5, "desc": "MG Diagnostic Left"}], None, None),  # a man has no healthy breast
        ([{"side": "", "path_severity": 0, "bside": "", "asses": "M"}], None, None),  # a cancer on an unknown side
        ([{"side": "L", "path_severity": 0, "bside": "", "asses": "M"}], 1, 0),
        ([{"side": "L", "path_severity": 7, "bside": "L"}, {"side": "R"}], None, 0),  # pathology that is not published
        ([{"side": "R", "path_severity": 7, "bside": "L"}, {"side": "L"}], None, 0),  # of the other side, too
        ([{"side": "R", "path_severity": 6, "bside": "L"}, {"side": "L"}], None, 0),
        ([{"side": "L"}, {"side": "L", "desc": "MG Diagnostic Left"}], 0, -1),  # of one breast or of both?
        ([{"side": "L", "desc": "MG Diagnostic Left"}, {"side": "L"}], 0, -1),
        ([{"side": "L", "tissueden": ""}, {"side": "L", "tissueden": 5}], None, None),
        ([{"side": "L", "tissueden": 5}, {"side": "L", "tissueden": ""}], None, None),
    ],
)
def test_embed_several_findings(rows: list[dict[str, Any]], left: int | None, right: int | None, tmp_path: Path) -> None:
    found = labels(index(embed(tmp_path / "e", four(), rows), "embed"))
    assert (found.get(("1", "L")), found.get(("1", "R"))) == (left, right)


@pytest.mark.parametrize(
    ("rows", "bi_rads", "pathology"),
    [
        ([{"asses": "M", "path_severity": 1.0}, {"asses": "S", "path_severity": 0.0}], 5, "invasive"),
        ([{"asses": "P", "path_severity": 2.0}, {"asses": "S", "path_severity": 5.0}], 4, "high risk"),
        ([{"asses": "A", "path_severity": 4.0}, {"asses": "B"}], 0, "benign"),  # recalled for one finding of two
        ([{"asses": "B"}, {"asses": "N"}], 2, ""),
        ([{"asses": "K", "path_severity": 0.0}, {"asses": "A", "path_severity": 6.0}], 6, "invasive"),
    ],
)
def test_embed_facts_of_several_findings_are_the_worst(
    rows: list[dict[str, Any]], bi_rads: int, pathology: str, tmp_path: Path
) -> None:
    for number, findings in enumerate((rows, rows[::-1])):
        table = [{"side": "L", "bside": "L" if row.get("path_severity") else "", **row} for row in findings]
        (left, right) = index(embed(tmp_path / str(number), four(), table), "embed").breasts
        assert (left.facts.bi_rads, left.facts.pathology) == (bi_rads, pathology)
        assert right.facts == BreastFacts(0, density="B", age="055Y")  # of the exam, as its rows say of the other breast


def test_embed_pathology_of_the_other_side_brings_no_assessment(tmp_path: Path) -> None:
    found = index(embed(tmp_path / "e", four(), [{"side": "L", "path_severity": 0, "bside": "R", "asses": "N"}]), "embed")
    assert [(breast.facts.bi_rads, breast.facts.pathology) for breast in found.breasts] == [(1, ""), (None, "invasive")]


@pytest.mark.parametrize(("column", "message"), [("acc_anon", "acc_anon is another"), ("empi_anon", "empi_anon is another")])
def test_embed_identifiers_that_were_cut_are_named(column: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=message):
        index(embed(tmp_path / "e", [four()[0] | {"anon": 1}], [{column: "1.2E+10"}]), "embed")


def test_csaw_patients_that_were_cut_are_named(tmp_path: Path) -> None:
    folder = csaw(tmp_path / "csaw", [{}])
    table = folder / "CSAW-CC_breast_cancer_screening_data.csv"
    table.write_text(table.read_text().replace("\n5,", "\n1.2E+10,"))
    with pytest.raises(LabelTableError, match=r"anon_patientid is a number like 1\.2E\+10"):
        index(folder, "csaw-cc")


def test_embed_follow_up_lifts_only_what_waits_for_it(tmp_path: Path) -> None:
    images = [*four(), *four(acc_anon=12.0)]
    later = {"acc_anon": 12.0, "study_date_anon": "2015-05-01", "side": "B", "path_severity": 4, "bside": "B", "tissueden": ""}
    for row in ({"side": "B", "tissueden": 5}, {"side": "B", "asses": "K"}):
        found = index(embed(tmp_path / f"e{len(row)}{row.get('asses')}", images, [row, later]), "embed")
        assert sorted(breast.facts.label for breast in found.breasts) == [0, 0]  # of the later exam alone
        assert [r.reason.value for r in found.rejections] == ["label_excluded"] * 2


def test_embed_pathology_decides_over_earlier_exams_within_the_follow_up(tmp_path: Path) -> None:
    """Screening, recall and biopsy are exams of their own; years before a cancer a breast was healthy."""
    exams = {10: "2012-01-01", 11: "2015-03-01", 12: "2015-04-15"}
    images = [each for acc in exams for each in four(acc_anon=float(acc))]
    findings = [
        {"acc_anon": 10.0, "study_date_anon": exams[10]},
        {"acc_anon": 11.0, "side": "L", "asses": "A"},
        {"acc_anon": 11.0, "side": "R", "asses": "A"},
        {"acc_anon": 12.0, "study_date_anon": exams[12], "side": "L", "asses": "M", "path_severity": 0, "bside": "L"},
        {"acc_anon": 12.0, "study_date_anon": exams[12], "side": "R", "asses": "S", "path_severity": 4, "bside": "R"},
    ]
    folder = embed(tmp_path / "e", images, findings)

    def by_exam(**options: Any) -> list[tuple[str, str, int]]:
        found, adapter = index(folder, "embed", labels=Labels(**options)), get_adapter("embed")
        names = {adapter.policy.exam_digest("study", str(acc)): day for acc, day in exams.items()}
        return sorted((names[b.key.study], b.key.laterality.value, b.facts.label) for b in found.breasts)

    first, second, third = exams.values()
    assert by_exam() == [(first, "L", 0), (first, "R", 0), (second, "L", 1), (second, "R", 0), (third, "L", 1), (third, "R", 0)]
    assert by_exam(options={"follow_up_days": "30"}) == [(first, "L", 0), (first, "R", 0), (third, "L", 1), (third, "R", 0)]
    assert by_exam(options={"follow_up_days": "2000"})[0] == (first, "L", 1)
    with pytest.raises(ParameterError, match=r"has no option 'follow_up_day' .*follow_up_days"):
        by_exam(options={"follow_up_day": "30"})


@pytest.mark.parametrize(("days", "expected"), [("2015-06-01", None), ("2017-06-01", 0)])
@pytest.mark.parametrize("row", [{"asses": "K"}, {"asses": "M", "path_severity": 6, "bside": "L"}])
def test_embed_breast_is_not_benign_shortly_before_a_known_cancer(
    row: dict[str, Any], days: str, expected: int | None, tmp_path: Path
) -> None:
    later = {"acc_anon": 12.0, "study_date_anon": days, "side": "L", "desc": "MG Diagnostic Left"}
    found = labels(index(embed(tmp_path / "e", four(), [{}, later | row]), "embed"))
    assert (found.get(("1", "L")), found["1", "R"]) == (expected, 0)


def test_embed_other_breast_of_a_man_is_not_normal_at_an_exam_without_a_row(tmp_path: Path) -> None:
    """Where a breast without a row is taken for normal: at his other exam its row names the other one alone."""
    folder = embed(tmp_path / "e", [*four(), *four(acc_anon=12.0)], [{"side": "L", "tissueden": 5}])
    assert labels(index(folder, "embed", labels=Labels(unlabelled="normal"))) == {("1", "L"): -1, ("1", "R"): -1}


@pytest.mark.parametrize(("table", "message"), [("metadata", "is not read; expected"), ("clinical", "is missing; .* is it")])
def test_embed_dates_that_pandas_renamed_are_named(table: str, message: str, tmp_path: Path) -> None:
    folder = embed(tmp_path / "embed", four(study_date_anon="2015-03-01"), [{}])
    file = folder / "tables" / f"EMBED_OpenData_{table}.csv"
    file.write_text(file.read_text().replace("study_date_anon", "study_date_anon_y"))
    with pytest.raises(LabelTableError, match=f"line 1: column 'study_date_anon(_y)?' {message} 'study_date_anon"):
        index(folder, "embed")


def test_embed_rows_of_one_exam_have_one_day(tmp_path: Path) -> None:
    """Of two, the last row decided whether pathology was within the follow-up."""
    rows = [{"side": "L", "asses": "A"}, {"side": "L", "asses": "A", "study_date_anon": "2010-03-01"}]
    with pytest.raises(LabelTableError, match=r"line 3: study_date_anon is another day than in an earlier row"):
        index(embed(tmp_path / "e", four(), rows), "embed")


@pytest.mark.parametrize("name", ["embed", "csaw-cc"])
def test_exams_are_ordered_by_the_dates_of_their_publisher(name: str, tmp_path: Path) -> None:
    """The headers have another date or none, and an exam may have the higher number and be the earlier one."""
    if name == "embed":
        days = {10.0: "2015-03-01", 11.0: "2012-01-01"}
        images = [each for acc, day in days.items() for each in four(acc_anon=acc, study_date_anon=day)]
        found = index(embed(tmp_path / "e", images, [{}]), name)
    else:
        found = index(csaw(tmp_path / "c", [{"exam_year": 2011}, {"exam_year": 2008}]), name)
    digest = get_adapter(name).policy.exam_digest
    exams = ("10", "11") if name == "embed" else ("20110101", "20080101")
    assert {study: order for (_, study), order in found.exam_order.items()} == {
        digest("study", exams[0]): 2, digest("study", exams[1]): 1,
    }  # fmt: skip


def test_embed_synthetic_and_spot_views(tmp_path: Path) -> None:
    """Synthetic images never mix with full-field ones, spot views and unknown kinds are left out."""
    images = [
        *[row | {"FinalImageType": "cview"} for row in four()[:2]],
        four()[0],  # a full-field CC without its MLO
        {"ViewPosition": "MLO", "spot_mag": 1.0},
        {"ViewPosition": "MLO", "FinalImageType": "ROI_SSC"},
    ]
    found = index(embed(tmp_path / "e", images, [{}]), "embed")
    (breast,) = found.breasts
    assert all(view.synthetic for view in breast.images)
    assert sorted(rejection.reason.value for rejection in found.rejections if rejection.what.endswith(".dcm")) == [
        "image_kind_refused", "superseded", "view_modified",
    ]  # fmt: skip


def test_embed_boxes_as_its_rows_have_them(tmp_path: Path) -> None:
    """Of some images one of two lists is empty, or boxes lie in lists of lists: one such row was an error of all."""
    boxes = ["((8, 5, 13, 9), ())", "(([12, 7, 14, 10], [17, 9, 21, 13]),)"]
    images = [row | {"ROI_coords": each} for row, each in zip(four()[:2], boxes, strict=True)]
    found = index(embed(tmp_path / "e", images, [{"side": "L"}]), "embed").breasts[0]
    assert [[box.left for box in of_image] for of_image in found.findings] == [[5], [7, 9]]


@pytest.mark.parametrize("spot", ["Y", "2.0", "SPOT", "TRUE"])
def test_embed_a_mark_of_a_spot_view_that_is_not_published_is_one(spot: str, tmp_path: Path) -> None:
    marks: list[dict[str, Any]] = [{"spot_mag": spot}, {"spot_mag": 0.0}, {"spot_mag": "False", "ViewPosition": "MLO"}]
    found = index(embed(tmp_path / "e", marks, [{"side": "L"}]), "embed")
    assert [image.path.rpartition("/")[2] for image in found.breasts[0].images] == ["1.2.2.dcm", "1.2.3.dcm"]
    assert list(reasons(found).values()) == ["view_modified"]


def test_embed_a_table_without_the_kind_of_image_is_named(tmp_path: Path) -> None:
    """Synthetic images would be taken for full-field ones."""
    folder = embed(tmp_path / "e", four(), [{}])
    table = folder / "tables" / "EMBED_OpenData_metadata.csv"
    table.write_text(table.read_text().replace("FinalImageType", "ImageType"))
    with pytest.raises(LabelTableError, match="column 'FinalImageType' is missing"):
        index(folder, "embed")


def test_embed_boxes(tmp_path: Path) -> None:
    images = [four()[0] | {"ROI_coords": "[[10, 20, 30, 50], [1, 2, 3, 4]]"}, four()[1]]
    found = index(embed(tmp_path / "e", images, [{}]), "embed")
    assert [(f.top, f.bottom, f.left, f.right) for f in found.breasts[0].findings[0]] == [(10, 30, 20, 50), (1, 3, 2, 4)]


def test_embed_boxes_without_an_area_are_left_out_by_their_lines(tmp_path: Path) -> None:
    """A reader's click, or a box that was cut at the image's edge; where no box has an area, the columns are others."""
    images = [four()[0] | {"ROI_coords": "[[10, 20, 10, 50], [1, 2, 3, 4]]"}, four()[1] | {"ROI_coords": "[[5, 5, 5, 5]]"}]
    folder = embed(tmp_path / "e", images, [{}])
    found = index(folder, "embed")
    assert [(f.top, f.bottom, f.left, f.right) for f in found.breasts[0].findings[0]] == [(1, 3, 2, 4)]
    assert found.label_hints == ("EMBED_OpenData_metadata.csv: 2 box(es) have no area, and are left out: line 2, 3",)
    table = folder / "tables" / "EMBED_OpenData_metadata.csv"
    table.write_text(table.read_text().replace(", [1, 2, 3, 4]", ""))
    with pytest.raises(LabelTableError, match=r"line 2: ROI_coords is .*; expected a box whose top is above its bottom"):
        index(folder, "embed")


def test_boxes_of_zeros_say_that_there_is_none(tmp_path: Path) -> None:
    images = [four()[0] | {"ROI_coords": [[1, 2, 3, 4], *[[0, 0, 0, 0]] * 9, [-1, -1, -1, -1]]}, four()[1]]
    found = index(embed(tmp_path / "e", images, [{}]), "embed")
    assert len(found.breasts[0].findings[0]) == 1
    assert "10 box(es) have no area" in found.label_hints[0]


def test_boxes_of_width_and_height_are_no_boxes_of_edges(tmp_path: Path) -> None:
    """Some of them have an area by chance."""
    boxes = [[10 * n, 200, 60, 230] for n in range(15)]
    with pytest.raises(LabelTableError, match=r"line 2: ROI_coords is .*; expected a box .* not width and height"):
        index(embed(tmp_path / "e", [four()[0] | {"ROI_coords": boxes}, four()[1]], [{}]), "embed")


def test_boxes_in_parts_of_the_image_are_no_boxes_of_a_pixel(tmp_path: Path) -> None:
    images = [four()[0] | {"ROI_coords": "[[0.1, 0.2, 0.3, 0.5]]"}, four()[1] | {"ROI_coords": "[[0, 0, 1.0, 0.9]]"}]
    with pytest.raises(LabelTableError, match=r"line 2: ROI_coords is .*; expected a box in pixels; if these are parts"):
        index(embed(tmp_path / "e", images, [{}]), "embed")


def test_inbreast_header_names_the_side_and_view_of_the_name(tmp_path: Path) -> None:
    """There, too, ML is MLO."""
    rows: list[dict[str, Any]] = [{"File Name": 1}, {"File Name": 2, "View": "MLO"}]
    folder = inbreast(tmp_path / "inbreast", rows)
    cc, mlo = sorted((folder / "AllDICOMs").iterdir())
    image(cc, 1, ImageLaterality="L", ViewPosition="CC")
    image(mlo, 2, ImageLaterality="L", ViewPosition="ML", SeriesDescription="L ML")
    assert list(labels(index(folder, "inbreast")).values()) == [0]
    for tags, reason in (({"ViewPosition": "ML"}, "view_conflict"), ({"Laterality": "R"}, "laterality_conflict")):
        image(cc, 1, **tags)
        assert set(reasons(index(folder, "inbreast")).values()) == {reason, "cc_missing"}


@pytest.mark.parametrize(
    ("tags", "reason"), [({"ImageLaterality": "R"}, "laterality_conflict"), ({"ViewPosition": "MLO"}, "view_conflict")]
)
def test_nlbs_header_row_and_path_name_one_side_and_view(tags: dict[str, str], reason: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"File Path": f"normal\\7\\{side}\\{view}\\IM-1.dcm", "Image Laterality": side[0].upper(), "View Position": view,
         "Cancer": 0, "False Positive": 0}
        for side in ("left", "right") for view in ("CC", "MLO")
    ]  # fmt: skip
    write_table(tmp_path / "n" / "NLBSP-metadata.csv", rows)
    for number, row in enumerate(rows, 1):
        image(tmp_path / "n" / row["File Path"].replace("\\", "/"), number)
    assert len(index(tmp_path / "n", "nlbs").breasts) == 2
    image(tmp_path / "n" / "normal" / "7" / "left" / "CC" / "IM-1.dcm", 1, **tags)
    found = index(tmp_path / "n", "nlbs")
    assert [breast.key.laterality for breast in found.breasts] == ["R"]
    assert reasons(found)["normal/7/left/CC/IM-1.dcm"] == reason


def test_nlbs_other_breast_of_a_cancer_is_not_malignant(tmp_path: Path) -> None:
    """Cancer may be repeated for all images of an exam; this release has another table, without False Positive."""
    exams = [
        ("abnormal", "p_0001", "left-c", 1), ("abnormal", "p_0001", "right", 1), ("normal", "p_0001", "left", 0),
        ("abnormal", "p_0002", "left", 1), ("abnormal", "p_0002", "right", 0),  # of each image
        ("abnormal", "p_0003", "left", 1), ("abnormal", "p_0003", "right", 1),  # nothing says of which breast
        ("abnormal", "p_0004", "left-c", 1), ("abnormal", "p_0004", "right-c", 1),
    ]  # fmt: skip
    rows: list[dict[str, Any]] = [
        {"File Path": f"{kind}\\{exam}\\{side}\\{view}\\IM-1.dcm", "Image Laterality": side[0].upper(), "View Position": view,
         "Age": 55, "Cancer": cancer}
        for kind, exam, side, cancer in exams for view in ("CC", "MLO")
    ]  # fmt: skip
    write_table(tmp_path / "n" / "NLBSD_Metadata.csv", rows)
    for number, row in enumerate(rows, 1):
        image(tmp_path / "n" / row["File Path"].replace("\\", "/"), number)
    found = index(tmp_path / "n", "nlbs")
    assert labels(found) == {
        ("abnormal/p_0001", "L"): 1, ("normal/p_0001", "L"): 0, ("abnormal/p_0002", "L"): 1, ("abnormal/p_0002", "R"): 0,
        ("abnormal/p_0004", "L"): 1, ("abnormal/p_0004", "R"): 1,
    }  # fmt: skip
    left_out = {rejection.what: rejection.reason for rejection in found.rejections}
    names = ("abnormal/p_0001_R", "abnormal/p_0003_L", "abnormal/p_0003_R")
    assert left_out == dict.fromkeys(names, Reason.LABEL_EXCLUDED), left_out
    assert all("have the cancer of the exam" in rejection.detail for rejection in found.rejections)
    write_table(tmp_path / "n" / "NLBSD_Metadata.csv", [row | {"False positive": 0} for row in rows])
    with pytest.raises(LabelTableError, match=r"column 'False positive' is not read; expected 'False Positive'"):
        index(tmp_path / "n", "nlbs")


def test_a_finding_that_is_worse_than_its_breast_is_noted(tmp_path: Path) -> None:
    """Only where the breast is benign by that BI-RADS alone: pathology may be so of a suspicious finding."""
    names = ["patient_id", "laterality", "birads", "dx", "file", "x1", "x2", "y1", "y2", "worst"]
    rows = [["P", "L", "2", "", f"{view}.dcm", "1", "9", "1", "9", worst] for view, worst in (("CC", "2"), ("MLO", "5"))]
    facts = {"path": "file", "bi_rads": "birads", "pathology": "dx", "finding_bi_rads": "worst"}
    settings = Labels(columns=facts | {"left": "x1", "right": "x2", "top": "y1", "bottom": "y2"})
    for number, view in enumerate(("CC", "MLO"), 1):
        image(tmp_path / "in" / f"{view}.dcm", number, PatientID="P", ImageLaterality="L", ViewPosition=view)
    for dx, noted in (("", 1), ("cyst", 0)):
        table = [dict(zip(names, row, strict=True)) | {"dx": dx} for row in rows]
        write_table(tmp_path / "t.csv", table)
        found = index(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=settings).notes
        assert [note.partition(":")[0] for note in found] == noted * [
            "1 benign breast(s) have a finding of a higher BI-RADS than their own"
        ]


@pytest.mark.parametrize(
    ("folder", "cancer", "false_positive", "label"),
    [
        (r"abnormal\7\left-c", "1", "0", 1), (r"abnormal\7\left-c", "1.0", "1.0", None), (r"abnormal\7\left", "1", "0", 1),
        (r"abnormal\7\left", "0", "1", 0), (r"abnormal\7\left-c", "0", "0", None), (r"normal\7\left", "0", "", 0),
        (r"abnormal\7\left-c", "2", "0", None), (r"normal\7\left-c", "1", "0", None),
        (r"NLBS Data\False Positive\7\left-c", "1", "0", None), (r"NLBS Data\False Positive\7\left-c", "0", "1", 0),
        (r"NLBS Data\Abnormal\7\left-c", "1", "0", 1), (r"NLBS Data\Abnormal\7-c\left", "0", "0", 0),
    ],
)  # fmt: skip
def test_nlbs_cancer_of_one_row(folder: str, cancer: str, false_positive: str, label: int | None, tmp_path: Path) -> None:
    """It is not a false positive, nor in a folder of exams without one."""
    row = {"File Path": rf"{folder}\CC\1.dcm", "Image Laterality": "L", "View Position": "CC", "Cancer": cancer}
    write_table(tmp_path / "NLBSP-metadata.csv", [row | {"False Positive": false_positive}])
    (image,) = get_adapter("nlbs").read_labels(tmp_path, None, Labels()).listed.values()
    assert image.facts is not None
    assert (image.facts.label, bool(image.facts.excluded)) == (-1 if label is None else label, label is None)


def test_inbreast(tmp_path: Path) -> None:
    rows = [
        {"File Name": 20586908, "Bi-Rads": "4a", "ACR": ""},
        {"File Name": 20586934, "View": "MLO", "Bi-Rads": "1"},
        {"File Name": 30, "Laterality": "R", "Bi-Rads": "3"},
        {"File Name": 31, "Laterality": "R", "View": "MLO", "Bi-Rads": "1"},
        {"File Name": 32, "Laterality": "R", "Acquisition date": "201102", "Bi-Rads": "6"},
        {"File Name": 33, "Laterality": "R", "View": "MLO", "Acquisition date": "201102", "Bi-Rads": "6"},
    ]
    folder = inbreast(tmp_path / "inbreast", rows)
    region = {"Name": "Mass", "NumberOfPoints": 3, "Point_px": ["(100.5, 20)", "(130, 25)", "(110, 60.25)"]}
    (folder / "AllXML").mkdir()
    with open(folder / "AllXML" / "20586908.xml", "wb") as file:
        plistlib.dump({"Images": [{"ImageIndex": 0, "NumberOfROIs": 1, "ROIs": [region]}]}, file)
    found = index(folder, "inbreast")
    patient = "6c613a14b80a8591"
    facts = [(b.key.patient, b.key.laterality.value, b.facts.label, b.facts.bi_rads) for b in found.breasts]
    assert sorted(facts) == [(patient, "L", 1, 4), (patient, "R", 0, 3), (patient, "R", 1, 6)]  # two exams of the right breast
    assert not found.rejections
    left = next(breast for breast in found.breasts if breast.key.laterality == "L")
    (finding,) = left.findings[0]
    assert (finding.category, finding.top, finding.bottom, finding.left, finding.right) == ("Mass", 20, 60.25, 100.5, 130)
    assert list(finding.outline) == [(20, 100.5), (25, 130), (60.25, 110)]
    (folder / "AllXML" / "20586908.xml").rename(folder / "AllXML" / "7.xml")
    (stray,) = index(folder, "inbreast").rejections
    assert "1 row(s) or file(s) add facts to breasts that no row of the label table describes: findings of 7" in stray.detail
    (folder / "AllXML" / "7.xml").write_text("<plist><dict></plist>")
    with pytest.raises(LabelTableError, match="is not a property list"):
        index(folder, "inbreast")


def test_inbreast_totals_below_the_table_and_an_image_from_below(tmp_path: Path) -> None:
    """The workbook ends with totals, and one image has the view FB."""
    rows = [{"File Name": 20 + n, "View": view} for n, view in enumerate(("CC", "MLO", "FB"))]
    folder = inbreast(tmp_path / "in", rows)
    file = folder / "AllDICOMs" / "22_6c613a14b80a8591_MG_L_CC_ANON.dcm"
    file.rename(file.with_name("22_6c613a14b80a8591_MG_L_FB_ANON.dcm"))
    table = folder / "INbreast.csv"
    table.write_text(table.read_text() + ";;;;;;Total;3\n")
    found = index(folder, "inbreast")
    assert labels(found) == {("6c613a14b80a8591", "L"): 0}
    assert sorted(reasons(found).values()) == ["label_without_image", "view_not_pairable"]
    assert found.label_hints == ("INbreast.csv: 1 row(s) below the others name no image, and are left out: line 5",)
    table.write_text(table.read_text() + "removed;removed;R;CC;201001;30;1;2\n")
    with pytest.raises(LabelTableError, match="line 5: File Name is ''; expected the image that the row is about"):
        index(folder, "inbreast")


@pytest.mark.parametrize("below", ["", "INbreast Release 1.0/"])
def test_inbreast_as_an_old_workbook_is_named(below: str, tmp_path: Path) -> None:
    """The release has its table as XLS and as CSV; a user may have kept the first alone."""
    folder = inbreast(tmp_path / "in" / below, [{"File Name": 20}])
    (folder / "INbreast.csv").rename(folder / "INbreast.xls")
    with pytest.raises(LabelTableError, match=rf"\({below}INbreast\.xls has another ending: save it as INbreast\.csv\), or"):
        index(tmp_path / "in", "inbreast")


def test_boxes_beyond_their_image_are_noted(tmp_path: Path) -> None:
    """Some outlines of INbreast are; all boxes of a table may be, where the images are smaller copies."""
    # Of 320 x 256 pixels
    images = [four()[0] | {"ROI_coords": "[[10, 20, 30, 257]]"}, four()[1] | {"ROI_coords": "[[10, 20, 330, 50]]"}]
    found = index(embed(tmp_path / "e", images, [{"side": "L"}, {"side": "R"}]), "embed")
    assert [len(boxes) for boxes in found.breasts[0].findings] == [1, 1]
    (note,) = found.notes
    assert not [each for each in found.rejections if "boxes" in each.detail]  # nothing is left out
    assert "boxes of 1 image(s) reach beyond the image's pixels, and are kept so: images/cohort_1/1/11/1.2/1.2.2.dcm" in note
    shown = list(notes(replace(found, label_hints=[f"line {number}" for number in range(5)])))  # which `rejected.csv` has
    assert [note in line for line in shown].count(True) == 1
    assert shown[-1] == "  ... and 2 more rows, as label_without_image in rejected.csv"


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (["(1, 2)", "(3; 4)"], r"30\.xml: region 2, point 2 is not \(column, row\) in pixels; expected"),
        (["(1, 2)", "(1e999, 4)"], "region 2, point 2 is not"),
        (["(1, 2)", "(., 4)"], "region 2, point 2 is not"),
        (["(1, 2)"], "region 2 has 1 of 2 points"),
    ],
)
def test_outlines_of_inbreast_that_cannot_be_read_are_named(points: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "AllXML").mkdir()
    regions = [{"Point_px": [], "NumberOfPoints": 0}, {"Point_px": points, "NumberOfPoints": 2}]
    (tmp_path / "AllXML" / "30.xml").write_bytes(plistlib.dumps({"Images": [{"ROIs": regions}]}))
    with pytest.raises(LabelTableError, match=message):
        read_findings(tmp_path)


def test_inbreast_bi_rads_of_the_user_win(tmp_path: Path) -> None:
    rows = [{"File Name": 1, "Bi-Rads": "3"}, {"File Name": 2, "View": "MLO", "Bi-Rads": "3"}]
    folder = inbreast(tmp_path / "inbreast", rows)
    found = index(folder, "inbreast", labels=Labels(bi_rads_benign=(1, 2), bi_rads_malignant=(3, 4, 5, 6)))
    assert [breast.facts.label for breast in found.breasts] == [1]


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


@pytest.mark.parametrize(("tag", "reason"), [({"ImageLaterality": "R"}, "laterality"), ({"ViewPosition": "MLO"}, "view")])
def test_nlbs_header_that_names_another_side_or_view_is_left_out(tag: dict[str, str], reason: str, tmp_path: Path) -> None:
    tree = make_tree("nlbs", tmp_path)
    breast = next(each for each in tree.breasts if each.laterality == "L")
    tree.write_image(breast, View.CC, **tag)
    assert reasons(tree.index())[breast.paths[View.CC]] == f"{reason}_conflict"


def test_csaw_side_that_is_no_side_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"x_cancer_laterality is another .*; expected L, R or both") as error:
        index(csaw(tmp_path / "csaw", [{"x_case": 1, "x_cancer_laterality": "Meier"}]), "csaw-cc")
    assert "Meier" not in str(error.value)


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
    assert len(index(tmp_path / "c", "cmmd").breasts) == 1  # digitized films have the dates of their digitization


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
