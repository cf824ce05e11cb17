"""A label belongs to one exam: by study, accession number, date, or to the only exam of its breast; else it is named."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fvpipe.config.project import Labels, Split
from fvpipe.datasets.adapter import LabelTable
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import LabelTableError
from fvpipe.evaluation.splits.assign import Candidate, leaks, split
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.pairing import pair
from fvpipe.project.standalone import standalone_source
from fvpipe.reasons import Reason
from fvpipe.testing import index_folder, write_image, write_table
from fvpipe.types import BreastFacts, Digest, Exam, ImageRecord, Laterality, View
from tests.conftest import build, run
from tests.support import factory
from tests.tables.test_io_tables import xlsx
from tests.test_pairing import image

L, R = Laterality.LEFT, Laterality.RIGHT
HEADING = "patient_id,laterality,label"
AMBIGUOUS = "label_ambiguous: ours.csv, line {}: fits 2 imaged exams of this breast; expected one. Give the table a column "
SECRETS = ("ACC0011", "ACC0014", "20110131", "20140131", "2011-01-31", "2.25.2014", "00123")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for tests of labels")


@pytest.fixture(scope="module")
def two_exams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patient 00123 with exams of the left breast in 2011 and in 2014; P2 with one exam of both breasts, in 2020."""
    folder = tmp_path_factory.mktemp("exams")
    for year, accession in (("2011", "ACC0011"), ("2014", "ACC0014")):
        for view in View:
            factory.mammogram(
                folder / year / f"{view}.dcm", factory.breast(int(year), view), PatientID="00123", view=view,
                StudyInstanceUID=f"2.25.{year}", SOPInstanceUID=f"2.25.{year}{len(view)}", AccessionNumber=accession,
                StudyDate=f"{year}0131",
            )  # fmt: skip
    factory.patient(folder / "P2", "P2", seed=5, StudyInstanceUID="2.25.2020", AccessionNumber="0077", StudyDate="20200229")
    return folder


def outcome(dicom: Path, folder: Path, *rows: str, options: tuple[object, ...] = ()) -> tuple[dict[str, int], dict[str, str]]:
    """Label of each breast, and reason and detail of each rejection, by year of the exam and side."""
    (folder / "ours.csv").write_text("\n".join(rows) + "\n")
    build(dicom, folder / "out", "--labels", folder / "ours.csv", *options)
    return read(folder / "out")


def read(out: Path) -> tuple[dict[str, int], dict[str, str]]:
    policy = standalone_source("table", Path(), "table").policy
    years = {policy.exam_digest("study", f"2.25.{year}"): year for year in ("2011", "2014", "2020")}
    with open(out / "breasts.csv", encoding="utf-8") as breasts, open(out / "rejected.csv", encoding="utf-8") as rejected:
        labels = {f"{years[row['study']]} {row['laterality']}": int(row["label"]) for row in csv.DictReader(breasts)}
        reasons = {}
        for row in csv.DictReader(rejected):
            _, *study, side = row["what"].split("_")
            reasons[" ".join([*(years.get(each, each) for each in study), side])] = f"{row['reason']}: {row['detail']}"
    for file in out.rglob("*"):
        data = file.read_bytes() if file.is_file() else b""  # by chance a part of a digest or of a time may be one
        assert not any(re.search(rf"(?<![0-9a-f.]){secret}(?![0-9a-f])".encode(), data) for secret in SECRETS), file
    return labels, reasons


# --- one row a breast -------------------------------------------------------------------------------------------------


def test_a_label_without_an_exam_is_copied_to_no_other_exam(two_exams: Path, tmp_path: Path) -> None:
    labels, rejected = outcome(two_exams, tmp_path, HEADING, "P2,L,0", "00123,L,1")
    assert labels == {"2020 L": 0, "2020 R": -1}
    assert rejected.keys() == {"2011 L", "2014 L"}
    assert all(detail.startswith(AMBIGUOUS.format(3)) for detail in rejected.values())


def test_a_row_that_says_nothing_is_not_ambiguous(two_exams: Path, tmp_path: Path) -> None:
    assert outcome(two_exams, tmp_path, HEADING, "00123,L,") == (
        {"2011 L": -1, "2014 L": -1, "2020 L": -1, "2020 R": -1},
        {},
    )


def test_strict_does_not_accept_an_ambiguous_table(two_exams: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(f"{HEADING}\nP2,L,1\n00123,L,1\n")
    arguments = ("build-shards", "--pipeline", "direct", "--dicom", two_exams, "--out", tmp_path / "out", "--workers", 0)
    said = run(*arguments, "--labels", tmp_path / "ours.csv", "--strict", code=1).output
    assert "2 rejections on 8 files" in said and "label_ambiguous" in said
    (tmp_path / "ours.csv").write_text(f"{HEADING}\nP2,L,1\n")
    assert run(*arguments, "--labels", tmp_path / "ours.csv", "--strict").output


# --- one row an exam --------------------------------------------------------------------------------------------------

BY_EXAM = {
    "study": ("study_uid", "2.25.2011", "2.25.2014"),
    "accession": ("accession", "ACC0011", " ACC0014 "),
    "date": ("study_date", "20110131", "2014-01-31"),
}


@pytest.mark.parametrize(("column", "first", "second"), BY_EXAM.values(), ids=BY_EXAM)
def test_each_exam_gets_its_own_label(column: str, first: str, second: str, two_exams: Path, tmp_path: Path) -> None:
    rows = [f"{HEADING},{column}", f"00123,L,0.0,{first}", f"00123,L,1.0,{second}", "P2,R,1,"]
    assert outcome(two_exams, tmp_path, *rows) == ({"2011 L": 0, "2014 L": 1, "2020 L": -1, "2020 R": 1}, {})


def test_several_columns_must_all_fit(two_exams: Path, tmp_path: Path) -> None:
    rows = [f"{HEADING},study_uid,study_date", "00123,L,1,2.25.2014,20140131", "00123,L,0,2.25.2011,20140131"]
    labels, rejected = outcome(two_exams, tmp_path, *rows)
    assert (labels["2011 L"], labels["2014 L"]) == (-1, 1)
    assert rejected.keys() == {"2011 L"}
    assert "ours.csv, line 3" in rejected["2011 L"]


@pytest.mark.parametrize(
    ("heading", "fact"),
    [("AccessionNumber", "accession"), ("Accession Number", "accession"), ("StudyInstanceUID", "study_uid")],
)
def test_an_exam_under_the_name_of_its_element_is_named(heading: str, fact: str, tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(f"{HEADING},{heading}\nP2,L,1,A7\n")
    with pytest.raises(LabelTableError, match=f"column '{heading}' is not read; expected '{fact}'"):
        get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels())
    found = get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels(columns={fact: heading}))
    assert list(found.exams) == [("P2", L, Exam(**{"study" if fact == "study_uid" else fact: "A7"}))]


@pytest.mark.parametrize("heading", ["Study_Date", "StudyDate", "study date"])
def test_a_date_under_another_heading_is_named(heading: str, tmp_path: Path) -> None:
    """Its rows of other exams would label the one that is imaged."""
    (tmp_path / "ours.csv").write_text(f"{HEADING},{heading}\nP2,L,1,2014-01-31\n")
    with pytest.raises(LabelTableError, match=f"line 1: column '{heading}' is not read; expected 'study_date'.*--column"):
        get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels())
    (tmp_path / "ours.csv").write_text(f"{HEADING},{heading},View\nP2,L,1,2014-01-31,screening\n")  # it could give no view
    found = get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels(columns={"study_date": heading}))
    assert list(found.exams) == [("P2", L, Exam(date="20140131"))]


def test_an_exam_that_became_a_number_is_told_so(tmp_path: Path) -> None:
    declaration = r"""
name: own
license: ours
formats: [png]
path: '(?P<patient>P\d+)/(?P<exam>\d{4})/(?P<laterality>[LR])(?P<view>CC|MLO)\.png$'
identity: {patient: [path], exam: [path], laterality: [path], view: [path]}
tables: [{file: t.csv, label: bi_rads, columns: {patient: pid, exam: year, laterality: side, bi_rads: birads}}]
"""
    (tmp_path / "own.yaml").write_text(declaration)
    for number, view in enumerate(View, 1):
        write_image(tmp_path / "in" / "P1" / "2015" / f"L{view}.png", number, form="png")
    (tmp_path / "in" / "t.csv").write_text("pid,year,side,birads\nP1,2015.0,L,5\n")
    (hint,) = index_folder(tmp_path / "in", str(tmp_path / "own.yaml")).label_hints
    assert "its exam ends in .0, as a spreadsheet writes numbers: make the column text" in hint


def test_an_exam_that_is_not_imaged_is_named_by_its_line(two_exams: Path, tmp_path: Path) -> None:
    rows = [f"{HEADING},accession", "00123,L,1,ACC0014", "00123,L,0,ACC1999", "P2,L,0,77", "P2,R,1,77.0", "P3,R,1,X"]
    labels, rejected = outcome(two_exams, tmp_path, *rows)
    assert labels == {"2011 L": -1, "2014 L": 1, "2020 L": -1, "2020 R": -1}
    details = (tmp_path / "out" / "rejected.csv").read_text()
    of_others = "the table has a row, the input no usable image of this exam, but of {} other exam(s) of the breast"
    assert f'ours.csv, line 3: {of_others.format(2)}"' in details
    zeros = "; its accession differs from an imaged one only by leading zeros"
    assert f"ours.csv, line 4: {of_others.format(1)}{zeros}" in details
    ends = "; its accession ends in .0, as a spreadsheet writes numbers: make the column text"
    assert f"ours.csv, line 5: {of_others.format(1)}{ends}{zeros}" in details
    assert 'ours.csv, line 6: the table has a row, the input no usable image"' in details
    assert all(reason.startswith("label_without_image") for reason in rejected.values())


def test_rows_that_disagree_about_an_exam_by_other_names(two_exams: Path, tmp_path: Path) -> None:
    rows = [f"{HEADING},accession,study_date", "00123,L,1,ACC0014,", "00123,L,0,,20140131", "00123,L,0,ACC0011,20110131"]
    labels, rejected = outcome(two_exams, tmp_path, *rows)
    assert labels == {"2011 L": 0, "2020 L": -1, "2020 R": -1}
    expected = "ours.csv, line 2 and ours.csv, line 3: disagree about this exam of the breast (label); expected one value"
    assert rejected == {"2014 L": f"label_ambiguous: {expected}"}


def test_a_date_of_two_exams_is_ambiguous(tmp_path: Path) -> None:
    for number in (2011, 2014):
        for view in View:
            factory.mammogram(
                tmp_path / "in" / f"{number}{view}.dcm", factory.breast(number, view), PatientID="P", view=view,
                StudyInstanceUID=f"2.25.{number}", SOPInstanceUID=f"2.25.{number}{len(view)}", StudyDate="20110131",
            )  # fmt: skip
    factory.patient(tmp_path / "in", "P2", StudyInstanceUID="2.25.2020")
    labels, rejected = outcome(tmp_path / "in", tmp_path, f"{HEADING},study_date", "P,L,1,20110131")
    assert labels == {"2020 L": -1, "2020 R": -1}
    assert all(detail.startswith(AMBIGUOUS.format(2)) for detail in rejected.values())


def test_kept_identifiers_and_dates_of_a_workbook(two_exams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a project, with columns of other names; manifest, build and file cache hold no date and no accession number."""
    import datetime

    heading = ["patient_id", "laterality", "label", "day"]
    day = datetime.datetime(2014, 1, 31)
    xlsx(tmp_path / "ours.xlsx", [heading, ["00123", "L", 1, day], ["00123", "L", 0, "2011-01-31"], ["P2", "R", 0, None]])
    (tmp_path / "params.yaml").write_text(
        f"datasets:\n  ours:\n    {{adapter: table, dicom: {two_exams}, label_file: ours.xlsx, identifiers: own,\n"
        "     labels: {study_date: day}}\npipelines: [direct]\n"
    )
    monkeypatch.chdir(tmp_path)
    run("index", "--workers", 0)
    assert "1 malignant, 2 benign, 1 unlabelled" in run("build-shards", "--workers", 0).output  # the manifest's tables agree
    for file in (each for part in ("manifests", "cache") for each in (tmp_path / part).rglob("*")):
        if file.is_file():
            assert not any(secret.encode() in file.read_bytes() for secret in ("ACC001", "0140131", "0110131", "0200229")), file
    (tmp_path / "params.yaml").write_text(
        (tmp_path / "params.yaml").read_text().replace("study_date: day", "accession: number")
    )
    assert "column 'number' is missing" in run("index", "--workers", 0, code=1).output


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["study_date", "P,L,1,31.01.2014"], "line 2: study_date has 10 characters; expected a date, YYYYMMDD or YYYY-MM-DD"),
        (["study_date", "P,L,1,20140231"], "line 2: study_date has 8 characters; expected a date"),
        (["study_date", "P,L,1,", "P,L,1,2014"], "line 3: study_date has 4 characters"),
        (["study_date", "P,L,1,2014-0131"], "line 2: study_date has 9 characters"),
        (
            ["study_uid", "P,L,1,2.25.1", "P,R,0,2.25.1", "P,left,0,2.25.1"],
            "lines 2 and 4: one breast has two labels in one exam",
        ),
        (["study_date", "P,L,1,20140131", "P,L,0,2014-01-31"], "lines 2 and 3: one breast has two labels in one exam"),
        (["study_uid"], "ours.csv: has a heading and no row; expected a row for each breast, or no label table"),
        (["study_uid", "P,L,1,2.25E+09"], "line 2: study_uid is a number like 1.2E+10, whose last digits a spreadsheet has"),
        (["visit", "P,L,1,1", "P,L,0,2"], "lines 2 and 3: one breast has two labels; expected one, or a column study_uid, acc"),
    ],
)
def test_a_wrong_table_by_exam_names_its_lines(tmp_path: Path, rows: list[str], message: str) -> None:
    (tmp_path / "ours.csv").write_text("\n".join([f"{HEADING},{rows[0]}", *rows[1:]]) + "\n")
    with pytest.raises(LabelTableError) as error:
        get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels())
    assert message in str(error.value)
    assert "2014" not in str(error.value).replace(str(tmp_path), "")


LABELS = {"1.0": 1, "0.0": 0, "-1.0": -1, "1.00": 1, " Malignant ": 1, "BENIGN": 0, " ": -1}


def test_labels_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(f"{HEADING}\n" + "".join(f"P{i},L,{cell}\n" for i, cell in enumerate(LABELS)))
    found = get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels()).rows
    assert [facts.label for facts in found.values()] == list(LABELS.values())
    assert found["P1", L].place == "ours.csv, line 3"


@pytest.mark.parametrize("cell", ["TRUE", "yes", "1.5", "2", "nan", '"1,0"', "cancer", "1.", "+1"])
def test_a_label_that_could_mean_anything_is_named(tmp_path: Path, cell: str) -> None:
    (tmp_path / "ours.csv").write_text(f"{HEADING}\nP,L,1\nP,R,{cell}\n")
    with pytest.raises(LabelTableError, match=r"ours.csv, line 3: label is .*; expected 1 or malignant, 0 or benign, -1 or un"):
        get_adapter("table").read_labels(tmp_path, tmp_path / "ours.csv", Labels())


# --- identifiers that do not match ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("123", "; its patient differs from an imaged one only by leading zeros"),
        ("000123", "; its patient differs from an imaged one only by leading zeros"),
        ("00123.0", "; its patient ends in .0, as a spreadsheet writes numbers: make the column text"),
        (
            "123.0",
            "as a spreadsheet writes numbers: make the column text; its patient differs from an imaged one only by leading",
        ),
        ("'00123", "; its patient differs from an imaged one only by quotes, spaces or characters that are not shown"),
        ('"=""00123"""', "; its patient differs from an imaged one only by quotes, spaces or characters that are not shown"),
        ("\u200b00123", "; its patient differs from an imaged one only by quotes, spaces or characters that are not shown"),
        ("p2", "; its patient differs from an imaged one only by upper and lower case"),
        ("1.23457E+11", "; its patient is a number like 1.2E+10, whose last digits a spreadsheet has cut off"),
        ("P3", 'no usable image"'),
    ],
)
def test_a_misspelled_patient_is_named_and_never_matched(written: str, hint: str, two_exams: Path, tmp_path: Path) -> None:
    (tmp_path / "ours.csv").write_text(f"{HEADING}\nP2,L,0\n{written},L,1\n")
    said = build(two_exams, tmp_path / "out", "--labels", tmp_path / "ours.csv").stderr
    labels, _ = read(tmp_path / "out")
    assert labels == {"2011 L": -1, "2014 L": -1, "2020 L": 0, "2020 R": -1}
    (row,) = (tmp_path / "out" / "rejected.csv").read_text().splitlines()[1:]
    assert "ours.csv, line 3: the table has a row, the input no usable image" in row and hint in row
    assert ("warning: table: ours.csv, line 3" in said) == (written != "P3")  # a hint is shown on the screen too
    assert written == "P3" or f"{written}" not in row.partition(",")[2].replace("line 3", "").replace("1.2E+10", "")


LOST = "its patient differs from another imaged one only by leading zeros, and no row of the table has any"


@pytest.mark.parametrize("key", [b"", b"k" * 32])
@pytest.mark.parametrize(
    ("table", "imaged", "default", "ambiguous"),
    [
        (["123"], ["123", "00123"], -1, ["00123", "123"]),  # whose row is it?
        (["123", "00123"], ["123", "00123"], -1, []),
        (["123", "0777"], ["123", "00123"], -1, []),  # the table has its zeros
        (["123", "P7"], ["123", "0124"], -1, []),
        (["123"], ["00123"], -1, []),  # a row without an image
        (["123"], ["00123", "5"], 0, ["00123"]),  # not normal for want of a row
    ],
)
def test_a_patient_that_lost_its_zeros_is_no_other_patient(
    table: list[str], imaged: list[str], default: int, ambiguous: list[str], key: bytes
) -> None:
    policy = HeaderPolicy(identifier_key=key)
    digest = {each: policy.identifier("patient", each) for each in {*table, *imaged}}
    records = [image(f"{each} {view}", view, patient_id=digest[each]) for each in imaged for view in View]
    rows = {(digest[each], L): BreastFacts(1, place="ours.csv, line 2") for each in table}
    written = {digest[each]: each for each in table}
    found = pair("ours", records, BreastLabels(LabelTable(rows), BreastFacts(default), written=written, policy=policy), {})
    named = [each for each in found.rejections if each.reason is Reason.LABEL_AMBIGUOUS]
    assert {each.what: each.detail for each in named} == {
        f"{digest[each]}_S_L": f"ours.csv, line 2: {LOST}" for each in ambiguous
    }
    assert len(found.breasts) == len(imaged) - len(ambiguous)


@pytest.mark.parametrize(
    ("written", "imaged", "expected"),
    [
        ("P1", "P1", {"L": 1, "R": 0}),
        ("p1", "P1", {"R": 0}),
        ("'P1", "P1", {"R": 0}),
        ("P01", "P1", {"R": 0}),
        ("P2", "P1", {"L": 0, "R": 0}),
        ("0017", "17", {"R": 0}),
        ("0017", "017", {"R": 0}),
        ("0018", "17", {"L": 0, "R": 0}),
    ],
)
def test_no_breast_is_normal_for_a_misspelled_row(written: str, imaged: str, expected: dict[str, int]) -> None:
    """With `unlabelled: normal`, a breast with cancer was benign where its row spells the patient otherwise."""
    records = [image(f"{side} {view}", view, patient_id=imaged, laterality=side) for side in Laterality for view in View]
    rows = {(written, L): BreastFacts(1, place="ours.csv, line 2"), (imaged, Laterality.RIGHT): BreastFacts(0)}
    labels = BreastLabels(LabelTable(rows), BreastFacts(0, pathology="normal"), written={each: each for each, _ in rows})
    found = pair("ours", records, labels, {})
    assert {str(b.key.laterality): b.facts.label for b in found.breasts} == expected
    left = [each.detail for each in found.rejections if each.reason is Reason.LABEL_AMBIGUOUS]
    but_for = "zeros before a number, `.0`, case, quotes or spaces"
    said = f"ours.csv, line 2: its patient is this one but for {but_for}; write it as the header does"
    assert left == [said] * (2 - len(expected))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ({}, 0),  # as the row of the other breast implies
        ({("P", L, Exam()): BreastFacts(1)}, 1),
        ({("P", L, Exam("S")): BreastFacts(-1)}, -1),
        ({("P", L, Exam(accession="A")): BreastFacts(-1, excluded="a cancer, on an unknown side")}, None),
        ({("P", L, Exam(date="20150301")): BreastFacts(1), ("P", L, Exam()): BreastFacts(0)}, None),  # they disagree
        ({("P", L, Exam("T")): BreastFacts(1)}, 0),  # of another exam
    ],
)
def test_what_is_implied_of_a_breast_counts_where_no_row_names_it(rows: dict[Any, BreastFacts], expected: int | None) -> None:
    records = [image(view, view, accession="A", study_date="20150301") for view in View]
    by_exam = {key: facts for key, facts in rows.items() if key[2] != Exam()}
    of_patient = {(patient, side): facts for (patient, side, exam), facts in rows.items() if exam == Exam()}
    labels = BreastLabels(LabelTable(of_patient, exams=by_exam, implied={("P", L, Exam("S")): BreastFacts(0, density="B")}))
    found = pair("ours", records, labels, {})
    assert [breast.facts.label for breast in found.breasts] == ([] if expected is None else [expected])


def test_no_other_exam_of_a_described_breast_is_normal(tmp_path: Path) -> None:
    """The exam before a cancer was benign, and the cancer too, where the day of its row was wrong."""
    exams = {"A": "20110105", "B": "20130105"}
    for number, (exam, day) in enumerate(exams.items()):
        for view in View:
            elements: dict[str, Any] = {"PatientID": "P1", "ImageLaterality": "L", "ViewPosition": view.value, "StudyDate": day}
            uid = f"2.25.{number + 5}"
            write_image(
                tmp_path / "in" / f"{exam}{view}.dcm", 2 * number + 1 + (view is View.MLO), view=view,
                StudyInstanceUID=uid, AccessionNumber=exam, **elements,
            )  # fmt: skip

    def found(table: str, **columns: str) -> list[tuple[int, str]]:
        (tmp_path / "t.csv").write_text(table)
        rules = Labels(unlabelled="normal", columns=columns)
        breasts = index_folder(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=rules).breasts
        return sorted((breast.facts.label, breast.facts.pathology) for breast in breasts)

    heading = "patient_id,laterality,label,study_date\n"
    assert found(heading + "P1,L,1,2013-01-05\n") == [(-1, ""), (1, "")]
    assert found(heading + "P1,L,1,2013-01-06\n") == [(-1, ""), (-1, "")]
    assert found(heading + "P1,R,1,2013-01-06\n") == [(0, "normal"), (0, "normal")]
    images = "file,patient_id,laterality,label\n"
    assert found(images + "ACC.dcm,P1,L,1\nAMLO.dcm,P1,L,1\n", path="file") == [(-1, ""), (1, "")]
    assert found("file,label\nACC.dcm,1\nAMLO.dcm,1\n", path="file") == [(-1, ""), (1, "")]  # the header names the breast
    assert found(images + "CCC.dcm,P1,L,1\n", path="file") == [(-1, ""), (-1, "")]
    assert found(images + "CCC.dcm,P2,L,1\n", path="file") == [(0, "normal"), (0, "normal")]


def test_tables_of_publishers_name_the_line_too(tmp_path: Path) -> None:
    for name, file, text in (
        ("cmmd", "CMMD_clinicaldata_revision.csv", "ID1,LeftRight,classification,Age\nD1-0001,L,Benign,50\n"),
        ("vindr", "breast-level_annotations.csv", "study_id,laterality,breast_birads\ns1,L,BI-RADS 2\n"),
        ("cbis", "mass_case_description_train_set.csv", "patient_id,left or right breast,pathology\nP_00001,LEFT,BENIGN\n"),
    ):
        (tmp_path / file).write_text(text)
        (facts,) = get_adapter(name).read_labels(tmp_path, None, Labels()).rows.values()
        assert facts.place == f"{file}, line 2"
        (tmp_path / file).unlink()


# --- for any patients, exams and tables -------------------------------------------------------------------------------

STUDIES = ["s1", "s2", "s3"]
ACCESSIONS = {"s1": "a1", "s2": "a1", "s3": "a3"}  # two studies of one accession number
DATES = {"s1": "2011 20110131", "s2": "2014 20140131", "s3": "2014 20140131"}  # two of one day
TRUTH = st.sampled_from([-1, 0, 1])


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, Any]:
    """The true label of each breast and exam, which of them are imaged and how, and a table that tells the truth.

    Each row describes one exam, and names it well, ambiguously or not at all.
    """
    keys = st.tuples(st.sampled_from("PQ"), st.sampled_from(STUDIES), st.sampled_from(Laterality))
    truth = draw(st.dictionaries(keys, TRUTH, max_size=8))
    imaged = {key: draw(st.sampled_from(["CC MLO", "CC", "CC CC MLO"])) for key in truth if draw(st.booleans())}
    rows, exams = {}, {}
    for (patient, study, side), label in truth.items():
        exam = Exam(
            draw(st.sampled_from(["", study])),
            draw(st.sampled_from(["", ACCESSIONS[study]])),
            draw(st.sampled_from(["", *DATES[study].split()])),
        )
        facts = BreastFacts(label, place=f"{patient} {study} {side}")
        if not draw(st.booleans()):
            continue
        if exam == Exam():
            rows.setdefault((patient, side), facts)
        else:
            exams.setdefault((patient, side, exam), facts)
    return {"truth": truth, "imaged": imaged, "rows": rows, "exams": exams}


def records_of(world: dict[str, Any]) -> list[ImageRecord]:
    return [
        image(
            f"{patient}{study}{side}{number}", View(view), patient_id=patient, study=study, laterality=side,
            accession=ACCESSIONS[study], study_date=DATES[study],
        )
        for (patient, study, side), views in world["imaged"].items()
        for number, view in enumerate(views.split())
    ]  # fmt: skip


@settings(max_examples=400, deadline=None, database=None)
@given(worlds(), st.booleans())
def test_a_label_is_that_of_its_own_exam_or_none(world: dict[str, Any], normal: bool) -> None:
    default = BreastFacts(0, pathology="normal") if normal else BreastFacts()
    labels = BreastLabels(LabelTable(world["rows"], exams=world["exams"]), default)
    records = records_of(world)
    found = pair("set", records, labels, {record.path: Digest("same") for record in records})
    rejected = {rejection.what: rejection for rejection in found.rejections}
    built = {(b.key.patient, b.key.study, b.key.laterality): b for b in found.breasts}
    assert len(rejected) <= len(found.rejections)
    for key, views in world["imaged"].items():
        if key in built:
            facts = built[key].facts
            if facts.pathology == "normal":  # no row describes the breast, at whichever exam
                assert not any(each[0] == key[0] and key[2] in each for each in (*world["rows"], *world["exams"]))
            of_another = facts.label >= 0 and facts.place != " ".join(key)
            # Only a row that fits this very exam, and no other imaged one, gives it a label.
            if of_another and facts.pathology != "normal":
                assert is_the_only_exam(world, key, facts), (key, facts)
        else:
            reason = rejected["_".join(key)].reason
            assert reason is (Reason.MLO_MISSING if views == "CC" else Reason.LABEL_AMBIGUOUS)
    # An ambiguous row is named with every exam that it could describe, each unless it lacks a view.
    for (patient, side), facts in world["rows"].items():
        fitting = [key for key in world["imaged"] if key[0] == patient and key[2] is side]
        if len(fitting) > 1 and facts.label >= 0:
            assert not built.keys() & set(fitting)


def is_the_only_exam(world: dict[str, Any], key: tuple[str, str, Laterality], facts: BreastFacts) -> bool:
    """Whether the table describes another exam, of which no image is there, in words that fit this exam alone."""
    patient, study, side = facts.place.split()
    return (patient, side) == (key[0], key[2]) and (patient, study, Laterality(side)) not in world["imaged"]


@settings(max_examples=100, deadline=None, database=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_order_of_images_never_matters(world: dict[str, Any], shuffle: Any) -> None:
    def result() -> object:
        records = records_of(world)
        shuffle.shuffle(records)
        labels = BreastLabels(LabelTable(world["rows"], exams=world["exams"]))
        return pair("set", records, labels, {record.path: Digest("same") for record in records})

    assert result() == result()


@settings(max_examples=60, deadline=None, database=None)
@given(worlds(), st.sampled_from(["unseen", "kfold"]))
def test_exams_of_a_patient_stay_in_one_part(world: dict[str, Any], setting: Any) -> None:
    candidates = [
        Candidate("set", "_".join(key), key[0], key[0] + key[1], max(label, 0), pixels=(f"{key}",))
        for key, label in world["truth"].items()
    ]
    for seed in range(5):
        plan = Split(setting=setting, datasets=("set",), test_share=0.5, folds=2, seed=seed)
        assigned = split(candidates, plan)
        assert len(assigned) == len(candidates)
        assert not leaks(assigned, plan)
        assert len({(a.candidate.patient, a.part) for a in assigned}) == len({a.candidate.patient for a in assigned})


def test_an_outside_adapter_may_give_both_kinds_of_rows() -> None:
    """Packages written before exams were known give rows alone."""
    facts = BreastFacts(1)
    assert LabelTable({("P", L): facts}, {"P": "no"}).excluded_patients == {"P": "no"}
    assert LabelTable(exams={("P", R, Exam(date="2014")): facts}).rows == {}


@pytest.mark.parametrize(
    ("rows", "outcome"),
    [
        ({"2020": 1}, Reason.LABEL_AMBIGUOUS),  # the images of 2016 are paired
        ({"2016": 0, "2020": 1}, Reason.LABEL_AMBIGUOUS),
        ({"2016": 0, "2020": 0}, 0),
        ({"2016": 1, "2018": 0}, Reason.LABEL_AMBIGUOUS),
        ({"": 1}, Reason.LABEL_AMBIGUOUS),
    ],
)
def test_a_row_of_one_exam_labels_no_images_of_another_that_are_not_told_apart(
    rows: dict[str, int], outcome: int | Reason
) -> None:
    policy = HeaderPolicy(keep_studies_apart=False)
    exams = {("P", L, policy.exam(Exam(date=year))): BreastFacts(label) for year, label in rows.items()}
    records = [
        image(f"{year} {view}", view, study="", study_date=policy.exam(Exam(date=year)).date, exam_day=365 * int(year))
        for year in ("2016", "2020")
        for view in View
    ]
    found = pair("ours", records, BreastLabels(LabelTable(exams=exams), policy=policy), {})
    of_breast = {each.reason for each in found.rejections if each.what == "P_L"} - {Reason.LABEL_WITHOUT_IMAGE}
    assert {breast.facts.label for breast in found.breasts} | of_breast == {outcome}


@pytest.mark.parametrize(("days", "label"), [((1, 1, 9, 9), 1), ((1, 1, 999), None), ((1, 999), 1)])
def test_a_row_without_an_exam_labels_images_of_one_that_are_not_told_apart(days: tuple[int, ...], label: int | None) -> None:
    """Films of one exam may have two dates of digitization; one view of two years is of two exams."""
    policy, views = HeaderPolicy(keep_studies_apart=False), [*View, *View]
    records = [image(str(i), views[i], study="", exam_day=day) for i, day in enumerate(days)]
    found = pair("ours", records, BreastLabels(LabelTable({("P", L): BreastFacts(1)}), policy=policy), {})
    assert [breast.facts.label for breast in found.breasts] == ([] if label is None else [label])


def test_an_image_without_a_date_is_of_the_exam_of_the_row() -> None:
    policy = HeaderPolicy(keep_studies_apart=False)
    day = policy.exam(Exam(date="20200101"))
    records = [image("1", View.CC, study="", study_date=day.date), image("2", View.MLO, study="")]
    found = pair("ours", records, BreastLabels(LabelTable(exams={("P", L, day): BreastFacts(1)}), policy=policy), {})
    assert [breast.facts.label for breast in found.breasts] == [1]


def test_a_row_that_adds_facts_says_that_it_fits_several_exams() -> None:
    exams = {("P", L, Exam(study=study)): BreastFacts(0) for study in "ST"}
    table = LabelTable(exams=exams, added={("P", L, Exam()): BreastFacts(subtype="A", place="types.csv, line 2")})
    records = [image(study + view, view, study=study) for study in "ST" for view in View]
    found = pair("ours", records, BreastLabels(table), {})
    assert [breast.facts.subtype for breast in found.breasts] == ["", ""]
    assert found.label_hints[0].endswith("types.csv, line 2 (fits 2 imaged exams)")


@pytest.mark.parametrize(("labels", "outcome"), [((0, 1), Reason.LABEL_AMBIGUOUS), ((1, 1), 1), ((0, 0), 0)])
def test_the_worst_row_of_another_year_labels_no_images(labels: tuple[int, int], outcome: int | Reason, tmp_path: Path) -> None:
    rows = []
    for number, (year, label) in enumerate(zip(("2016", "2020"), labels, strict=True)):
        for i, view in enumerate(View):
            file = f"{year}_{view}.dcm"
            elements: dict[str, Any] = {
                "PatientID": "P",
                "ImageLaterality": "L",
                "ViewPosition": view.value,
                "StudyDate": f"{year}0101",
            }
            write_image(tmp_path / "in" / file, 4 * number + i + 1, view=view, **elements)
            rows.append({"file": file, "cancer": label})
    write_table(tmp_path / "in" / "t.csv", rows)
    column = '{column: cancer, values: {"1": malignant, "0": benign}}'
    (tmp_path / "own.yaml").write_text(
        "name: own\nlicense: ours\nheaders: {studies_apart: false}\ntables:\n"
        f"  - {{file: t.csv, path: file, label: label, combine: worst, columns: {{label: {column}}}}}\n"
    )
    found = index_folder(tmp_path / "in", str(tmp_path / "own.yaml"))
    of_breast = [each.reason for each in found.rejections if each.reason is not Reason.SUPERSEDED]
    assert [breast.facts.label for breast in found.breasts] + of_breast == [outcome]
