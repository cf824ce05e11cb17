"""EMBED: simulated trees in its form, with each trap of the real one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.types import BreastFacts
from tests.support.declared import (
    embed,
    four,
    index,
    labels,
    reasons,
)


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
