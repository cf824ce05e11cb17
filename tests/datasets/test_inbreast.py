"""INbreast: simulated trees in its form, with each trap of the real one."""

from __future__ import annotations

import plistlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.inbreast import read_findings
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.project.stages import notes
from fvpipe.testing import write_image
from tests.support.declared import (
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
