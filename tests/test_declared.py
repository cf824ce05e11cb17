"""Declarations and tables of a user's own, and the commands that read by them."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fvpipe.build.commit import _check_rejected
from fvpipe.build.plan import Limits
from fvpipe.cli.options import label_rules
from fvpipe.config.formats import SUFFIXES
from fvpipe.config.project import DataSet, Labels
from fvpipe.datasets.declared.settings import bi_rads_of
from fvpipe.datasets.registry import declarations, get_adapter
from fvpipe.dicom.header import read_header
from fvpipe.errors import LabelTableError, ParameterError, QualityError
from fvpipe.indexing.labels.statements import declared_exclusions
from fvpipe.indexing.single_files import contradicted
from fvpipe.project import project
from fvpipe.project.single_files import find_readings
from fvpipe.project.standalone import standalone_source
from fvpipe.reasons import Reason, Rejection
from fvpipe.report.inspect import inspect_dicom
from fvpipe.types import NOTHING_STATED
from tests.conftest import build, run
from tests.support import factory
from tests.support.declared import (
    DECLARATION,
    OWN,
    RSNA,
    csaw,
    embed,
    four,
    image,
    index,
    jpeg_image,
    labels,
    reasons,
    rsna,
    write_table,
)
from tests.support.factory import CC, MLO


@pytest.mark.parametrize("declaration", declarations(), ids=lambda declaration: declaration.name)
def test_every_declaration_says_what_a_user_must_know(declaration: Any) -> None:
    adapter = get_adapter(declaration.name)
    assert adapter.license and declaration.title
    if declaration.name != "table":
        assert declaration.source and declaration.images
    assert not (adapter.publishable and not adapter.redistribute_shards)


def test_a_table_of_paths_gives_everything(tmp_path: Path) -> None:
    """One row an image; headers that say nothing."""
    folder, rows = tmp_path / "own", list[dict[str, Any]]()
    for number, (side, view) in enumerate([("L", CC), ("L", MLO), ("R", CC), ("R", MLO)], start=1):
        image(folder / "export" / f"im{number}.dcm", number, PatientID=None)
        rows.append(
            {
                "file": f"export\\im{number}.dcm",
                "pid": "A",
                "seite": side,
                "proj": view.value,
                "cancer": int(side == "R"),
                "d": "c",
            }
        )
    write_table(tmp_path / "ours.csv", rows)
    columns = {"path": "file", "patient": "pid", "laterality": "seite", "view": "proj", "label": "cancer", "density": "d"}
    settings = Labels(columns=columns, classes={"1": "malignant", "0": "benign"})
    found = index(folder, "table", label_file=str(tmp_path / "ours.csv"), labels=settings)
    assert labels(found) == {("A", "L"): 0, ("A", "R"): 1}
    assert [breast.facts.density for breast in found.breasts] == ["C", "C"]
    rows[0]["file"] = "im1.dcm"
    image(folder / "again" / "im1.dcm", 9)
    write_table(tmp_path / "ours.csv", rows)
    with pytest.raises(LabelTableError, match=r"line 2: fits again/im1\.dcm and export/im1\.dcm; expected one file"):
        index(folder, "table", label_file=str(tmp_path / "ours.csv"), labels=settings)


@pytest.mark.parametrize(
    ("columns", "cells", "fits"),
    [
        ({"study_uid": "exam"}, "2.25.11", True),
        ({"study_uid": "exam"}, "2.25.99", False),
        ({"study_uid": "exam"}, "", True),
        ({"accession": "exam"}, "A1", True),
        ({"accession": "exam"}, "A2", False),
        ({"study_date": "exam"}, "2015-03-01", True),
        ({"study_date": "exam"}, "2016-03-01", False),
    ],
)
def test_a_row_of_another_exam_labels_no_image(columns: dict[str, str], cells: str, fits: bool, tmp_path: Path) -> None:
    """The path fits, and the exam that the row names is not the header's."""
    folder = tmp_path / "own"
    for number, view in enumerate((CC, MLO), start=1):
        whose = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": view.value}
        image(folder / f"{view}.dcm", number, AccessionNumber="A1", StudyDate="20150301", **whose)
    write_table(tmp_path / "t.csv", [{"file": f"{view}.dcm", "label": 1, "exam": cells} for view in (CC, MLO)])
    settings = Labels(columns={"path": "file", **columns})
    found = index(folder, "table", label_file=str(tmp_path / "t.csv"), labels=settings)
    assert labels(found) == ({("A", "L"): 1} if fits else {})
    assert set(reasons(found).values()) == (set() if fits else {"identifier_conflict"})


def test_the_exam_of_the_header_counts_where_it_names_one(tmp_path: Path) -> None:
    """A table's names of exams are of another kind: a pair of which one row names an exam stays together."""
    folder = tmp_path / "own"
    for number, view in enumerate((CC, MLO), start=1):
        image(folder / f"{view}.dcm", number, PatientID="A", ImageLaterality="L", ViewPosition=view.value)
    write_table(
        tmp_path / "t.csv", [{"file": "CC.dcm", "label": 1, "exam": "first"}, {"file": "MLO.dcm", "label": 1, "exam": ""}]
    )
    found = index(folder, "table", label_file=str(tmp_path / "t.csv"), labels=Labels(columns={"path": "file"}))
    assert labels(found) == {("A", "L"): 1}
    assert {record.identity_from for record in found.images} == {""}  # all is the header's


def test_sources_are_those_that_decided(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    image(folder / "a.dcm", 1, PatientID="A", ImageLaterality="L")  # the view is the row's
    write_table(tmp_path / "t.csv", [{"file": "a.dcm", "label": 1, "patient_id": "A", "laterality": "L", "view": "CC"}])
    found = index(folder, "table", label_file=str(tmp_path / "t.csv"), labels=Labels(columns={"path": "file"}))
    assert [record.identity_from for record in found.images] == ["view table"]


@pytest.mark.parametrize("suffix", sorted(frozenset[str]().union(*SUFFIXES.values())))
def test_a_table_may_leave_out_the_suffix_of_any_file_that_is_read(suffix: str, tmp_path: Path) -> None:
    image(tmp_path / "own" / f"a{suffix.upper()}", 1, PatientID="A", ImageLaterality="L")
    write_table(tmp_path / "t.csv", [{"file": "a", "label": 1, "patient_id": "A", "laterality": "L", "view": "CC"}])
    found = index(tmp_path / "own", "table", label_file=str(tmp_path / "t.csv"), labels=Labels(columns={"path": "file"}))
    assert [record.identity_from for record in found.images] == ["view table"]


def test_a_data_set_has_the_name_of_its_declaration_and_not_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "Our Clinic v2.yaml"
    file.write_text(DECLARATION)
    image(tmp_path / "in" / "p1" / "2020" / "li-cc-ok.dcm", 1)
    assert standalone_source("", tmp_path / "in", str(file)).name == "clinic"
    said = run("audit", "--dicom", tmp_path / "in", "--adapter", file, "--out", tmp_path / "a.html", "--workers", 0).output
    assert said.startswith("clinic: 1 of 1 images read")


def test_settings_about_a_table_that_is_not_there_are_an_error(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "L")
    for settings in (Labels(columns={"label": "cancer"}), Labels(bi_rads_benign=(1,))):
        with pytest.raises(ParameterError, match="are about a label table, and there is none; name it"):
            index(tmp_path / "in", "table", labels=settings)
    (tmp_path / "own.yaml").write_text("name: own\nlicense: ours\n")
    with pytest.raises(ParameterError, match="adapter 'own' takes labels from no table"):
        index(tmp_path / "in", str(tmp_path / "own.yaml"), label_file=str(tmp_path / "t.csv"))


@pytest.mark.parametrize("settings", [{}, {"label_from": "bi_rads"}, {"columns": {"label": "cancr"}}])
def test_a_table_of_paths_without_its_label_is_an_error(settings: dict[str, Any], tmp_path: Path) -> None:
    image(tmp_path / "own" / "a.dcm", 1, PatientID="A", ImageLaterality="L", ViewPosition="CC")
    write_table(tmp_path / "t.csv", [{"file": "a.dcm", "cancer": 1}])
    rules = Labels(**{**settings, "columns": {"path": "file", **settings.get("columns", {})}})
    with pytest.raises(LabelTableError, match=r"t\.csv, line 1: column '(label|bi_rads|cancr)' is missing"):
        index(tmp_path / "own", "table", label_file=str(tmp_path / "t.csv"), labels=rules)


def test_a_column_of_bi_rads_decides_only_where_the_own_table_has_no_label(tmp_path: Path) -> None:
    factory.patient(tmp_path / "own", "P1", "L")
    table, settings = tmp_path / "t.csv", label_rules({"bi_rads": "birads"}, {})
    for more, label in (({}, 1), ({"label": "0"}, 0)):
        write_table(table, [{"patient_id": "P1", "laterality": "L", "birads": 5, **more}])
        (breast,) = index(tmp_path / "own", "table", label_file=str(table), labels=settings).breasts
        assert (breast.facts.label, breast.facts.bi_rads) == (label, 5)
    write_table(table, [{"patient_id": "P1", "laterality": "L", "birads": 5, "Label": "0"}])
    with pytest.raises(LabelTableError, match="column 'label' is missing"):
        index(tmp_path / "own", "table", label_file=str(table), labels=settings)


def test_bi_rads_that_are_given_go_with_those_of_the_adapter(monkeypatch: pytest.MonkeyPatch) -> None:
    """INbreast's benign are 1 to 3: 4 is not both, as it would be by the defaults of other sets."""
    inbreast, settings = get_adapter("inbreast"), DataSet(adapter="x", labels=Labels(bi_rads_malignant=(4, 5)))
    assert inbreast.declaration and bi_rads_of(inbreast.declaration, settings.labels) == ((1, 2, 3), (4, 5))
    monkeypatch.setattr(project, "get_adapter", lambda *_: replace(inbreast, declaration=None))  # one that is written in Python
    with pytest.raises(ParameterError, match=r"BI-RADS \[4\] would be both"):
        project.make_source("x", Path(), settings, None, Path())


def test_a_column_of_bi_rads_leaves_the_label_rule_of_a_published_set(tmp_path: Path) -> None:
    folder = csaw(tmp_path / "csaw", [{"x_case": 0, "assess": "2"}])
    found = index(folder, "csaw-cc", labels=label_rules({"bi_rads": "assess"}, {}))
    assert {(facts.label, facts.bi_rads) for facts in found.facts.values()} == {(0, 2)}


@pytest.mark.parametrize("settings", [{"label_file": "t.csv"}, {"labels": Labels(columns={"bi_rads": "x"})}])
def test_a_label_table_of_a_set_without_one_is_an_error(settings: dict[str, Any], tmp_path: Path) -> None:
    jpeg_image(tmp_path / "birads 1" / "case" / "2019_BC1_CC_L.jpg", 1)
    with pytest.raises(ParameterError, match="adapter 'kau-bcmd' takes labels from no table; expected no `label_file`"):
        index(tmp_path, "kau-bcmd", **settings)


def test_a_column_of_paths_that_a_table_lacks_is_named(tmp_path: Path) -> None:
    """Its rows leave out images: without the paths they would leave out none."""
    own = OWN.replace("COMBINE", "same").replace("tables:", "identity: {patient: [table]}\ntables:")
    (tmp_path / "own.yaml").write_text(own.replace("    label:", "    path: file\n    label:"))
    factory.patient(tmp_path / "own", "P1", "L")
    write_table(tmp_path / "own" / "t.csv", [{"pid": "P1", "side": "L", "dx": ""}])
    with pytest.raises(LabelTableError, match="column 'file' is missing"):
        index(tmp_path / "own", str(tmp_path / "own.yaml"))


SIDED = """
name: own
license: ours
hashed: false
tables:
  - file: t.csv
    path: file
    label: [{when: {cancer: $side}, then: malignant}, {then: benign}]
    columns: {laterality: side}
"""


@pytest.mark.parametrize(("sides", "expected"), [("LLRR", {"L": 1, "R": 0}), ("RRRR", {"R": 0}), ("RRLL", {})])
def test_a_row_of_a_side_labels_no_image_of_the_other(sides: str, expected: dict[str, int], tmp_path: Path) -> None:
    """Although `identity` does not name the table: the cancer would be that of the other breast."""
    (tmp_path / "own.yaml").write_text(SIDED)
    names = list(factory.patient(tmp_path / "own", "P1", "LR"))
    write_table(tmp_path / "own" / "t.csv", [{"file": n, "cancer": "L", "side": s} for n, s in zip(names, sides, strict=True)])
    found = index(tmp_path / "own", str(tmp_path / "own.yaml"))
    assert {side: label for (_, side), label in labels(found).items()} == expected
    assert ("laterality_conflict" in reasons(found).values()) == (len(expected) < 2)


MISSING = r"""
name: own
license: ours
path: '^(?P<patient>P\d)/(?P<exam>\d{4})/(?P<laterality>[LR])_(?P<view>CC|MLO)\.dcm$'
identity: {patient: [table, path], exam: [path], laterality: [path], view: [path]}
tables:
  - file: t.csv
    path: file
    combine: worst
    label: label
    columns: {patient: pid, label: {column: dx, values: {m: malignant, b: benign}}}
"""


@pytest.mark.parametrize("suffix", [".dcm", ""])
def test_a_missing_image_is_of_the_breast_in_its_path_also_by_its_suffix(suffix: str, tmp_path: Path) -> None:
    """The rows' names have none, or lose it, and the pattern asks for it: the cancer of a missing MLO left the CC benign."""
    (tmp_path / "own.yaml").write_text(MISSING)
    names = [f"P1/{year}/L_{view}" for year in (2018, 2020) for view in ("CC", "MLO")] + ["P2/2018/L_MLO"]
    for number, name in enumerate(names[:3], 1):
        image(tmp_path / "own" / f"{name}.dcm", number)
    rows = [{"file": name + suffix, "pid": name[:2], "dx": "m" if n >= 3 else "b"} for n, name in enumerate(names)]
    write_table(tmp_path / "own" / "t.csv", rows)
    found = index(tmp_path / "own", str(tmp_path / "own.yaml"))
    assert {record.path[:7]: facts.label for record in found.images if (facts := found.facts.get(record.path))} == {
        "P1/2018": 0,
        "P1/2020": 1,
    }


def test_rows_of_two_tables_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    columns = "{patient: pid, laterality: side, label: {column: dx, values: {m: malignant, b: benign}}}"
    tables = "\n".join(f"  - {{file: {name}, label: label, columns: {columns}}}" for name in ("a.csv", "b.csv"))
    (tmp_path / "own.yaml").write_text(f"name: own\nlicense: ours\ntables:\n{tables}\n")
    (tmp_path / "a.csv").write_text("pid,side,dx\nP,L,m\nP,R,m\n")
    (tmp_path / "b.csv").write_text("pid,side,dx\nP,R,b\n")
    with pytest.raises(LabelTableError, match=r"^a\.csv, line 3, and .*b\.csv, line 2: one breast has two labels.*: join the"):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_images_that_a_declaration_excludes_are_no_faults() -> None:
    """By their reason and its end: that of another rule is a fault."""
    excluded = declared_exclusions(get_adapter("embed").declaration)
    reason, end = min(excluded)
    ours, theirs = Rejection("1.dcm", reason, f"t.csv, line 2{end}"), Rejection("2.dcm", reason, "t.csv, line 3: another")
    _check_rejected([ours, Rejection("3", Reason.LABEL_EXCLUDED, "")], 9, Limits(max_rejected=0), excluded)
    with pytest.raises(QualityError, match=r"^1 rejections on 9 files, more than --max-rejected 0 % .*: 2\.dcm"):
        _check_rejected([ours, theirs], 9, Limits(max_rejected=0), excluded)


def test_a_row_of_an_image_that_is_about_both_breasts_has_its_bi_rads(tmp_path: Path) -> None:
    """Its side is that of the image."""
    own = SIDED.replace("[{when: {cancer: $side}, then: malignant}, {then: benign}]", "bi_rads")
    sides = "laterality: {column: side, values: {L: L, B: both}}, bi_rads: grade"
    (tmp_path / "own.yaml").write_text(own.replace("laterality: side", sides))
    write_table(tmp_path / "t.csv", [{"file": "a", "side": "L", "grade": 5}, {"file": "b", "side": "B", "grade": 5}])
    listed = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).listed
    assert [image.facts.label for image in listed.values() if image.facts] == [1, 1]


@pytest.mark.parametrize(
    ("dx", "where", "expected"),
    [("C50", "L", {"L": (1, "C50"), "R": (0, "")}), ("C50", "b", {"L": (1, "C50"), "R": (1, "C50")}),
     ("D24", "", {"L": (0, "D24"), "R": (0, "D24")}), ("C50", "U", {}), ("C50", "", {}), ("C50", "NA", {})],
)  # fmt: skip
def test_a_row_about_a_woman_has_the_cancer_of_one_breast(
    dx: str, where: str, expected: dict[str, tuple[int, str]], tmp_path: Path
) -> None:
    """All rows are about both breasts, by `*`, which is not a word for the column that `$side` compares."""
    own = SIDED.replace("    path: file\n", "").replace("cancer: $side", "cancer: $side, dx: C50")
    columns = "patient: pid, pathology: dx, laterality: {column: pid, values: {'*': both}}"
    (tmp_path / "own.yaml").write_text(own.replace("laterality: side", columns))
    write_table(tmp_path / "t.csv", [{"pid": "P", "dx": dx, "cancer": where}])
    read_labels = get_adapter(str(tmp_path / "own.yaml")).read_labels
    if expected:
        rows = read_labels(tmp_path, None, Labels()).rows
        assert {side: (facts.label, facts.pathology) for (_, side), facts in rows.items()} == expected
    else:
        with pytest.raises(LabelTableError, match=r"cancer is (another .*|''|'NA'); expected L, R or both"):
            read_labels(tmp_path, None, Labels())
    own = own.replace("then: malignant}", "then: malignant}, {when: {cancer: ''}, then: unlabelled}")
    (tmp_path / "other.yaml").write_text(own.replace("laterality: side", columns))
    if where in ("", "NA"):  # a case for it decides
        rows = get_adapter(str(tmp_path / "other.yaml")).read_labels(tmp_path, None, Labels()).rows
        assert {facts.label for facts in rows.values()} == {-1}


BIOPSIES = """
name: own
license: ours
bi_rads: {benign: [1, 2], malignant: [6]}
tables:
  - file: exams.csv
    label: bi_rads
    columns: {patient: pid, study_date: day, laterality: side, bi_rads: grade}
  - file: biopsies.csv
    combine: worst
    label: [{when: {dx: M}, then: malignant, confirmed: true}, {then: benign, confirmed: true}]
    follow_up: {date: day, days: 365}
    columns: {patient: pid, accession: number, laterality: side}
"""


@pytest.mark.parametrize(("biopsy", "label"), [("2015-03-01", 1), ("2016-02-29", 1), ("2016-03-01", 0), ("2015-02-28", 0)])
def test_biopsies_of_their_own_table_decide_over_exams_before(biopsy: str, label: int, tmp_path: Path) -> None:
    """Of the breast that their row names; the exams stand in another table, and one was benign a month before a cancer."""
    (tmp_path / "own.yaml").write_text(BIOPSIES)
    exam = {"pid": "P1", "day": "2015-03-01", "side": "L", "grade": 1}
    write_table(tmp_path / "exams.csv", [exam, exam | {"side": "R"}])
    write_table(tmp_path / "biopsies.csv", [{"pid": "P1", "number": "B1", "day": biopsy, "side": "L", "dx": "M"}])
    found = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).exams
    exams = {(exam.accession, side.value): facts.label for (_, side, exam), facts in found.items()}
    assert exams == {("", "L"): label, ("", "R"): 0, ("B1", "L"): 1}


def test_exams_that_wait_for_a_biopsy_of_another_table(tmp_path: Path) -> None:
    """`pending` was said to do nothing but in the table of the biopsies, so that a recalled exam was left out for good."""
    cases = "[{when: {grade: '0'}, then: 'excluded: recalled', pending: true}, {then: benign}]"
    own = BIOPSIES.replace("bi_rads: {benign: [1, 2], malignant: [6]}\n", "").replace("label: bi_rads\n", f"label: {cases}\n")
    (tmp_path / "own.yaml").write_text(own)
    exam = {"pid": "P1", "day": "2015-03-01", "side": "L", "grade": 0}
    write_table(tmp_path / "exams.csv", [exam, exam | {"side": "R"}, exam | {"pid": "P2"}])
    biopsy = {"pid": "P1", "number": "B1", "day": "2015-03-20", "side": "L", "dx": "M"}
    write_table(tmp_path / "biopsies.csv", [biopsy, biopsy | {"side": "R", "dx": "B"}])
    found = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).exams
    exams = {(p, side.value): (f.label, f.excluded) for (p, side, exam), f in found.items() if exam.date}
    assert exams == {("P1", "L"): (1, ""), ("P1", "R"): (0, ""), ("P2", "L"): (-1, "recalled")}


DAY_FIRST = r"'(?P<day>\d\d)/(?P<month>\d\d)/(?P<year>\d+)'"


@pytest.mark.parametrize(("biopsy", "label"), [("01/03/2015", 1), ("29/02/2016", 1), ("01/03/2016", 0), ("28/02/2015", 0)])
def test_a_table_of_exams_may_give_days_that_headers_lack(biopsy: str, label: int, tmp_path: Path) -> None:
    """Shifted or removed dates of headers fit no `study_date`, by which alone a result of another table could decide."""
    days = f"{{date: day, days: 0, pattern: {DAY_FIRST}}}"
    own = BIOPSIES.replace("study_date: day", "study_uid: uid").replace(
        "label: bi_rads", f"label: bi_rads\n    follow_up: {days}"
    )
    (tmp_path / "own.yaml").write_text(own.replace("days: 365", f"days: 365, pattern: {DAY_FIRST}"))
    exam = {"pid": "P1", "day": "01/03/2015", "uid": "2.25.1", "side": "L", "grade": 1}
    write_table(tmp_path / "exams.csv", [exam, exam | {"side": "R"}])
    write_table(tmp_path / "biopsies.csv", [{"pid": "P1", "number": "B1", "day": biopsy, "side": "L", "dx": "M"}])
    found = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).exams
    exams = {(exam.study, side.value): facts.label for (_, side, exam), facts in found.items()}
    assert exams == {("2.25.1", "L"): label, ("2.25.1", "R"): 0, ("", "L"): 1}
    for wrong in ("2015-03-01", "01/03/15", "31/02/2015"):  # the first may be a date that a spreadsheet made of 03/01/2015
        write_table(tmp_path / "exams.csv", [exam | {"day": wrong}])
        with pytest.raises(LabelTableError, match=r"exams\.csv, line 2: day is not a date; expected text of the form"):
            get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_a_pattern_may_name_year_month_and_day(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        BIOPSIES.replace("study_date: day", f"study_date: {{column: day, pattern: {DAY_FIRST}}}")
    )
    exam = {"pid": "P1", "day": "03/01/2015", "side": "L", "grade": 1}
    write_table(tmp_path / "exams.csv", [exam])
    write_table(tmp_path / "biopsies.csv", [{"pid": "P1", "number": "B1", "day": "2015-02-01", "side": "L", "dx": "M"}])
    found = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).exams
    assert {exam.date: facts.label for (_, _, exam), facts in found.items()} == {"20150103": 1, "": 1}
    for wrong in ("2015-01-03", "03/01/15", "03/31/2015"):
        write_table(tmp_path / "exams.csv", [exam | {"day": wrong}])
        with pytest.raises(LabelTableError, match=r"exams\.csv, line 2: day .*expected"):
            get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())
    (tmp_path / "own.yaml").write_text(BIOPSIES)
    with pytest.raises(
        LabelTableError, match=r"YYYY-MM-DD \(other forms: `pattern` of the column in a declaration, with groups"
    ):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


SCREENING = """
name: own
license: ours
hashed: false
targets: {interval: {meaning: days to the next exam, unit: d}}
tables:
  - file: exams.csv
    label: [{then: benign}]
    columns:
      {patient: pid, study_date: day, laterality: side, bi_rads: grade, interval: next, subset: part}
  - file: cancers.csv
    combine: worst
    follow_up: {date: found, days: 730}
    label: [{when: {breast: $side}, then: malignant, confirmed: true}, {then: unlabelled}]
    columns: {patient: pid, study_date: found, laterality: breast}
"""


def test_a_cancer_of_the_day_of_its_exam_leaves_what_is_known_of_the_exam(tmp_path: Path) -> None:
    """Subset and BI-RADS were lost, since the rows of both tables are of one exam."""
    (tmp_path / "own.yaml").write_text(SCREENING)
    exam = {"pid": "P1", "day": "2015-03-01", "side": "L", "grade": 4, "next": 7, "part": "training"}
    write_table(tmp_path / "exams.csv", [exam, exam | {"pid": "P2", "grade": 1}])
    write_table(
        tmp_path / "cancers.csv",
        [{"pid": "P1", "found": "2015-03-01", "breast": "L"}, {"pid": "P2", "found": "2016-03-01", "breast": "L"}],
    )
    table = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())
    found = {(p, exam.date[:4]): (f.label, f.bi_rads, f.subset, f.targets, f.place) for (p, _, exam), f in table.exams.items()}
    interval = (("interval", "7"),)
    assert found == {
        ("P1", "2015"): (1, 4, "training", interval, "cancers.csv, line 2 and exams.csv, line 2"),
        ("P2", "2015"): (1, 1, "training", interval, "exams.csv, line 3 and cancers.csv, line 3"),
        ("P2", "2016"): (1, None, "", (), "cancers.csv, line 3"),
    }
    assert {(patient, exam.date) for patient, _, exam in table.decided} == {("P2", "20160301")}


def test_a_declared_column_that_tells_exams_apart_must_be_there(tmp_path: Path) -> None:
    """Without a word its rows were of any exam, so that those of an older one labelled the exam that is imaged."""
    (tmp_path / "own.yaml").write_text(SCREENING)
    write_table(tmp_path / "exams.csv", [{"pid": "P1", "when": "2015-03-01", "side": "L", "grade": 4, "next": 7, "part": "x"}])
    write_table(tmp_path / "cancers.csv", [{"pid": "P1", "found": "2015-03-01", "breast": "L"}])
    with pytest.raises(LabelTableError, match=r"exams\.csv, line 1: column 'day' is missing; expected .*, found pid, when"):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_a_cancer_that_decided_over_an_exam_needs_no_image(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(SCREENING)
    for number, view in enumerate(("CC", "MLO"), 1):
        tags = {"PatientID": "P1", "ImageLaterality": "L", "ViewPosition": view, "StudyDate": "20200101"}
        image(tmp_path / "in" / f"{view}.dcm", number, **tags)
    exam = {"pid": "P1", "day": "2020-01-01", "side": "L", "grade": 1, "next": 7, "part": "training"}
    write_table(tmp_path / "in" / "exams.csv", [exam])
    write_table(
        tmp_path / "in" / "cancers.csv", [{"pid": "P1", "found": f"{year}-06-01", "breast": "L"} for year in (2020, 2025)]
    )
    found = index(tmp_path / "in", str(tmp_path / "own.yaml"))
    assert labels(found) == {("P1", "L"): 1}
    assert [r.detail.partition(":")[0] for r in found.rejections] == ["cancers.csv, line 3"]


@pytest.mark.parametrize("density", ["5", "9.0", "12", "dense"])
def test_a_density_that_is_none_is_named(density: str, tmp_path: Path) -> None:
    """Single digits were no density in silence."""
    (tmp_path / "own.yaml").write_text(
        SCREENING.replace("bi_rads: grade", "density: grade").replace(
            "  - file: cancers.csv", "  - optional: true\n    file: c.csv"
        )
    )
    exam = {"pid": "P1", "day": "2015-03-01", "side": "L", "grade": 0, "next": 7, "part": "training"}
    write_table(tmp_path / "exams.csv", [exam, exam | {"side": "R", "grade": density}])
    with pytest.raises(LabelTableError, match=r"exams\.csv, line 3: grade .*expected A to D, or 1 to 4"):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_a_word_that_is_not_declared_is_told_the_declared_ones(tmp_path: Path) -> None:
    """Of a density "B" beside the words low and high the message said that A to D was expected."""
    column = "density: {column: grade, values: {low: A, high: D}}"
    (tmp_path / "own.yaml").write_text(
        SCREENING.replace("bi_rads: grade", column).replace("  - file: cancers.csv", "  - optional: true\n    file: c.csv")
    )
    exam = {"pid": "P1", "day": "2015-03-01", "side": "L", "grade": "B", "next": 7, "part": "training"}
    write_table(tmp_path / "exams.csv", [exam])
    with pytest.raises(LabelTableError, match="grade is 'B'; expected low or high"):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_a_table_by_bi_rads(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    factory.patient(folder, "P1", "LR")
    write_table(tmp_path / "t.csv", [
        {"patient_id": "P1", "laterality": "L", "birads": "BI-RADS 5"}, {"patient_id": "P1", "laterality": "R", "birads": 1},
    ])  # fmt: skip
    settings = Labels(columns={"bi_rads": "birads"}, label_from="bi_rads", bi_rads_benign=(1, 2), bi_rads_malignant=(4, 5, 6))
    assert labels(index(folder, "table", label_file=str(tmp_path / "t.csv"), labels=settings)) == {
        ("P1", "L"): 1,
        ("P1", "R"): 0,
    }


def test_a_declaration_of_paths_alone(tmp_path: Path) -> None:
    (tmp_path / "clinic.yaml").write_text(DECLARATION)
    folder = tmp_path / "clinic"
    for number, name in enumerate(("li-cc-ok", "li-mlo-ok", "re-cc-ca", "re-mlo-ca"), start=1):
        image(folder / "p1" / "2020" / f"{name}.dcm", number)
    image(folder / "p1" / "2020" / "misc.dcm", 9)
    image(folder / "p2" / "2020" / "li-cc-maybe.dcm", 10)  # a word that the declaration does not have
    found = index(folder, str(tmp_path / "clinic.yaml"))
    assert labels(found) == {("p1", "L"): 0, ("p1", "R"): 1}
    assert reasons(found) == {"p1/2020/misc.dcm": "view_missing", "p2/2020/li-cc-maybe.dcm": "image_excluded"}
    (detail,) = [each.detail for each in found.rejections if each.what.startswith("p2")]
    assert detail == "the path: grade is 'maybe'; expected ca or ok"


@pytest.mark.parametrize(("dates", "order"), [(("2018-11", "2017-12"), {"2018-11": 2, "2017-12": 1}), (("2018", "n.d."), {})])
def test_exams_are_ordered_by_the_months_in_paths(dates: tuple[str, str], order: dict[str, int], tmp_path: Path) -> None:
    text = DECLARATION.replace(r"(?P<exam>\d{4})", "(?P<exam>(?P<exam_date>[^/]+))")
    (tmp_path / "clinic.yaml").write_text(text.replace("license: ours", "license: ours\nhashed: false"))
    for number, (date, view) in enumerate((date, view) for date in dates for view in ("cc", "mlo")):
        image(tmp_path / "in" / "p1" / date / f"li-{view}-ok.dcm", number)
    found = index(tmp_path / "in", str(tmp_path / "clinic.yaml"))
    path_of = {image.study: image.path.split("/")[1] for image in found.images}
    assert {path_of[study]: number for (_, study), number in found.exam_order.items()} == order
    (tmp_path / "in" / "p1" / dates[1]).rename(tmp_path / "in" / "p1" / f"{dates[0][:4]}-11-30")  # a day in it
    with pytest.raises(LabelTableError, match=rf"p1/{dates[0][:4]}-11-30/.* and p1/{dates[0]}/.*: their order is not known"):
        index(tmp_path / "in", str(tmp_path / "clinic.yaml"))


def test_a_word_of_a_list_of_exclusions_that_fits_no_row_is_noted(tmp_path: Path) -> None:
    """One that is misspelled left the images of a woman in, in silence; it may name her, and is not shown."""
    (tmp_path / "own.yaml").write_text(
        "name: own\nlicense: ours\nidentity: {patient: [table]}\ntables:\n  - file: t.csv\n    path: file\n"
        "    exclude: [{when: {woman: [W013, W0l7]}, why: withdrew}, {when: {kind: [x, Y, 'z*']}, why: other}]\n"
        "    columns: {patient: woman}\n"
    )
    write_table(tmp_path / "t.csv", [{"file": f"{n}.dcm", "woman": f"w0{n}", "kind": "y"} for n in (12, 13, 17)])
    table = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())
    assert table.notes == (
        "t.csv: `exclude` leaves out no image by word number 2 of woman, which fits no row",
        "t.csv: `exclude` leaves out no image by word 'x' of kind, which fits no row",
    )


TWICE = """
name: twice
license: ours
hashed: false
path: '(?P<day>[0-9]{8})_(?P<sort>[a-z]+)_[A-Z]+\\.dcm$'
tables:
  - {from_path: true, columns: {study_date: day, kind: {column: sort, values: {fd: full_field, syn: synthetic}}}}
  - file: t.csv
    path: file
    columns: {accession: acc, kind: kind}
"""


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("20150301_fd_CC.dcm", {}, ""),
        ("20150302_fd_CC.dcm", {}, "identifier_conflict"),
        ("20150301_fd_CC.dcm", {"acc": "A2"}, "identifier_conflict"),
        ("20150301_syn_CC.dcm", {}, "image_kind_refused"),
        ("20150301_syn_CC.dcm", {"kind": ""}, ""),
    ],
)
def test_path_and_table_speak_of_the_same_exam_and_kind(name: str, row: dict[str, str], expected: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(TWICE)
    header = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": "CC", "AccessionNumber": "A1", "StudyDate": "20150301"}
    image(tmp_path / "in" / name, 1, **header)
    write_table(tmp_path / "in" / "t.csv", [{"file": name, "acc": "A1", "kind": "full_field"} | row])
    found = reasons(index(tmp_path / "in", str(tmp_path / "own.yaml")))
    assert found.get(name, "") == expected


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("P1;li;9.0\nP1;re;9", {"L": -1, "R": -1}),
        ("P1;li;C50.1\nP1;re;C50.9", {"L": 1, "R": 1}),
        ("P1;bds;C50", {"L": 1, "R": 1}),
        ("P1;li;0\nP1;re;?", {"L": 0}),
        ("P1;li;\nP1;re;007", {"L": -1, "R": 0}),
        ("P1;li;\nP1;li;?", "lines 2 and 3: one breast has two descriptions"),
        ("P1;li;?\nP1;li;", "lines 2 and 3: one breast has two descriptions"),
        ("Anna Meier;li;0", "line 2: pid is another"),
        ("P1;links;0", "line 2: side is 'links'; expected li, re, bds"),
    ],
)
def test_cases_of_an_own_table(rows: str, expected: dict[str, int] | str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN.replace("COMBINE", "first"))
    factory.patient(tmp_path / "in", "P1", "LR")
    (tmp_path / "in" / "t.csv").write_text(f"pid;side;dx\n{rows}\n")
    if isinstance(expected, str):
        with pytest.raises(LabelTableError, match=expected) as error:
            index(tmp_path / "in", str(tmp_path / "own.yaml"))
        assert "Meier" not in str(error.value)
    else:
        found = labels(index(tmp_path / "in", str(tmp_path / "own.yaml")))
        assert {side: label for (_, side), label in found.items()} == expected


def test_a_column_of_a_case_that_is_spelled_otherwise_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN.replace("COMBINE", "first"))
    (tmp_path / "t.csv").write_text("pid;side;Dx\nP1;li;C50\n")
    with pytest.raises(
        LabelTableError, match=r"has no column 'dx' \(did you mean 'Dx'\?\), which the declaration's rules read"
    ):
        get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())


def test_settings_are_about_both_breasts_of_a_file_that_is_read_for_each(tmp_path: Path) -> None:
    """Those of the first table were read for it alone, and a column of one breast was that of the other."""
    of_side = "laterality: {column: pid, values: {'*': SIDE}}, label: {column: NAME, values: {m: malignant, b: benign}}"
    table = f"  - file: t.csv\n    label: label\n    columns: {{patient: pid, {of_side}, bi_rads: bNAME}}\n"
    (tmp_path / "own.yaml").write_text(
        "name: own\nlicense: x\ntables:\n"
        + "".join(table.replace("SIDE", side).replace("NAME", name) for side, name in (("R", "right"), ("L", "left")))
    )
    write_table(tmp_path / "t.csv", [{"pid": "A", "right": "m", "left": "b", "bright": 5, "bleft": 4, "acr": "C", "x": "b"}])

    def read(**settings: Any) -> dict[str, tuple[int, str | None]]:
        rows = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels(**settings)).rows
        return {side.value: (facts.label, facts.density) for (_, side), facts in rows.items()}

    assert read(columns={"density": "acr"}) == {"R": (1, "C"), "L": (0, "C")}
    assert read(label_from="bi_rads", bi_rads_benign=(2,), bi_rads_malignant=(4, 5)) == {"R": (1, ""), "L": (1, "")}
    with pytest.raises(ParameterError, match="column of label would be read for both 'right' and 'left'"):
        read(columns={"label": "x"})


@pytest.mark.parametrize(
    ("adapter", "settings", "message"),
    [
        ("embed", {"label_from": "bi_rads"}, "its label rule has cases of its own"),
        ("cmmd", {"bi_rads_benign": (1,)}, "its labels are not made of BI-RADS"),
        ("table", {"columns": {"bi_rads": "x"}, "bi_rads_malignant": (4, 5)}, r"BI-RADS \[4\] would be both benign and malign"),
        ("table", {"columns": {"implant": "x"}}, "give the column `path`"),
        ("table", {"columns": {"lesion": "x"}}, "a column of lesion does nothing; this table can give accession, age"),
        ("table", {"columns": {"label": "x"}, "label_from": "bi_rads"}, "its labels are made of BI-RADS"),
        ("table", {"classes": {"1": "benign"}, "label_from": "bi_rads"}, "its labels are made of BI-RADS"),
        ("rsna", {"columns": {"exam": "site_id"}}, "a column of exam does nothing"),
        ("rsna", {"columns": {"path": "x"}}, "find their images by other columns"),
        ("embed", {"options": {"follow_up_days": "-1"}}, "expected a number of days"),
        ("embed", {"options": {"probably_benign": "$follow_up_days"}}, "expected malignant, benign"),
    ],
)
def test_a_setting_that_would_do_nothing_is_named(adapter: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = rsna(tmp_path / "in", [{"image_id": 1}])
    embed(folder, four()[:1], [{}])
    write_table(folder / "CMMD_clinicaldata_revision.csv", [{"ID1": "x", "LeftRight": "L", "classification": "Benign"}])
    table = {"label_file": str(folder / "CMMD_clinicaldata_revision.csv")} if adapter == "table" else {}
    with pytest.raises(ParameterError, match=message):
        index(folder, adapter, labels=Labels(**settings), **table)


def test_columns_and_classes_on_the_command_line(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "LR")
    rows = [{"pid": "P1", "side": side, "cancer": word, "acr": "B"} for side, word in (("L", "yes"), ("R", "no"))]
    write_table(tmp_path / "t.csv", rows)
    given = [
        "--labels",
        tmp_path / "t.csv",
        "--column",
        "patient=pid",
        "--column",
        "laterality=side",
        "--column",
        "density=acr",
    ]
    classes = ["--class", "yes=malignant", "--class", "no=benign"]
    build(tmp_path / "in", tmp_path / "out", *given, "--column", "label=cancer", *classes, pipeline="direct")
    with open(tmp_path / "out" / "breasts.csv", encoding="utf-8") as file:
        assert [(row["laterality"], row["label"], row["density"]) for row in csv.DictReader(file)] == [
            ("L", "1", "B"),
            ("R", "0", "B"),
        ]
    common = [
        "build-shards",
        "--pipeline",
        "direct",
        "--dicom",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--workers",
        0,
        *given,
    ]
    assert "column 'cancr' is missing" in run(*common, "--column", "label=cancr", code=1).output
    assert "is it 'cancer'?" in run(*common, "--column", "label=cancr", code=1).output
    assert "no fact 'labelx' (did you mean 'label'?)" in run(*common, "--column", "labelx=cancer", code=1).output
    assert "'label'; expected FACT=COLUMN" in run(*common, "--column", "label", code=2).output
    twice = run(*common, "--column", "label=cancer", "--column", "label=other", code=2).output
    assert "'label' is given 2 times; expected once" in twice
    twice = run(*common, "--class", "yes=malignant", "--class", "Yes=benign", code=2).output
    assert "'yes' is given 2 times; expected once" in twice


@pytest.mark.usefixtures("inspects_here")
def test_a_file_of_a_project_is_read_by_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`index --explain` and `inspect`, which take the adapter of the data set that holds the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("FVPIPE_ID_KEY", raising=False)
    (tmp_path / "params.yaml").write_text("datasets: {set: {adapter: rsna, identifiers: own}}\n")
    rsna(tmp_path / "data" / "set", [{"image_id": 1, "cancer": 1, "density": "C"}, {"image_id": 2, "view": "MLO", "cancer": 1}])
    said = run("index", "--explain", "data/set/train_images/7/1.dcm", "--workers", 0).output
    facts = {line.split()[0]: line.split(maxsplit=2)[1:] for line in said.splitlines()[1:]}
    assert facts["view"] == ["CC", "table"]
    assert facts["label"] == ["malignant", "train.csv, line 2"]
    assert facts["density"] == ["C", "train.csv, line 2"]
    assert not (tmp_path / "manifests").exists()
    assert run("inspect", "data/set/train_images/7/1.dcm", "--json")
    assert run("inspect", "data/set/train_images/7/1.dcm", "--adapter", "rsna", "--json")
    write_table(
        tmp_path / "data/set/train.csv", [RSNA | {"image_id": i, "view": v, "cancer": i} for i, v in ((0, "CC"), (1, "CC"))]
    )
    assert "CC" in run("index", "--explain", "data/set/train_images/7/1.dcm", "--workers", 0).output
    assert json.loads(run("inspect", "data/set/train_images/7/2.dcm", "--json", code=1).stdout)["reason"] == "image_not_listed"
    outside = run("inspect", "data/set/train_images/7/1.dcm", "--adapter", "table", "--json", code=1).stdout
    assert json.loads(outside)["reason"] == "view_missing"
    assert not (tmp_path / "config").exists()  # whoever shows no identity makes no key of identifiers
    settings = (tmp_path / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(settings.replace("{set:", "{all: {adapter: table, dicom: data}, set:"))
    assert "(set, adapter rsna)" in run("index", "--explain", "data/set/train_images/7/1.dcm", "--workers", 0).output
    (tmp_path / "params.yaml").write_text(settings)
    for file, said in (
        ("params.yaml", "is below the folder of no data set of params.yaml; expected a file below one of data/set"),
        ("data/set/0.dcm", "no such file; expected an image of data set set"),
        ("data/set/train.csv", "data set set passes over this file: it is hidden (a name that begins with a dot), or no DICOM"),
    ):
        assert f"{file}: {said}" in run("index", "--explain", file, "--workers", 0, code=1).output


def test_files_of_no_project_are_read_by_the_table_above_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each table is read once, and nothing is searched above the files; a broken table is named."""
    folder = rsna(tmp_path / "set", [{"patient_id": p, "image_id": p * 10 + i} for p in (7, 8) for i in range(2)])
    files = sorted(folder.glob("train_images/*/*.dcm"))
    write_table(tmp_path / "set" / "elsewhere" / "train.csv", [RSNA])  # below a parent: no one looks for it
    events, active = Counter[tuple[str, str]](), True
    sys.addaudithook(lambda event, given: events.update([(event, str(given[0]))] if active and given else ()))
    found = find_readings(files[:1], "rsna", keep_identifiers=True)
    table = ("open", str(folder / "train.csv"))
    once = events[table]
    found = find_readings(files, "rsna", keep_identifiers=True)
    active = False
    assert [found[file].stated.patient for file in files] == ["7", "7", "8", "8"]
    assert once and events[table] == 2 * once
    searched = {Path(name) for event, name in events if event in ("os.scandir", "os.listdir")}
    assert not searched & {folder, *folder.parents}
    monkeypatch.chdir(tmp_path)
    write_table(folder / "train.csv", [RSNA | {"patient_id": 7, "image_id": 70, "cancer": 2}])
    assert "cancer is '2'" in run("inspect", files[0], "--adapter", "rsna", code=1).output
    write_table(folder / "train.csv", [RSNA | {"patient_id": 7, "image_id": 70}])
    assert find_readings(files, "rsna", keep_identifiers=True)[files[1]].rejection is not None
    (folder / "train.csv").unlink()
    assert find_readings(files[:1], "rsna", keep_identifiers=True)[files[0]].stated == NOTHING_STATED


@pytest.mark.usefixtures("inspects_here")
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({}, ""),
        ({"laterality": "R"}, "laterality_conflict"),
        ({"view_position": "MLO"}, "view_conflict"),
        ({"height": 9}, "size_conflict"),
    ],
)
def test_a_row_found_by_the_uid_of_its_image_must_agree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], reason: str
) -> None:
    """For a single file as for an index; `inspect` and `predict` took the header's side."""
    file = tmp_path / "images" / "s" / "1.dicom"
    image(file, 1, ImageLaterality="L", ViewPosition="CC", SOPInstanceUID="2.25.7", StudyInstanceUID="2.25.8")
    header = read_header(tmp_path, "images/s/1.dicom", get_adapter("vindr").policy)
    assert not isinstance(header, Rejection)
    full = {
        "study_id": "2.25.8", "image_id": "2.25.7", "laterality": "L", "view_position": "CC", "height": header.record.rows,
        "width": header.record.columns, "breast_birads": "BI-RADS 2", "breast_density": "DENSITY C", "split": "training",
    }  # fmt: skip
    write_table(tmp_path / "breast-level_annotations.csv", [full | row])
    (reading,) = find_readings([file], "vindr").values()
    found = inspect_dicom(file, reading, "direct", None, 60)
    assert found.get("reason", "") == reason
    (rejected,) = [*contradicted([header.record], {header.record.path: reading}), None][:1]
    assert (rejected.what, rejected.reason) == (header.record.path, reason) if rejected else not reason


def test_files_of_no_project_are_read_by_their_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clinic.yaml").write_text(DECLARATION)
    names = ["p1/2020/li-cc-ok.dcm", "p2/2020/re-mlo-ca.dcm", "p2/2020/other.dcm"]
    found = find_readings([tmp_path / "in" / name for name in names], str(tmp_path / "clinic.yaml"), keep_identifiers=True)
    assert [reading.stated.patient for reading in found.values()] == ["p1", "p2", ""]
    unknown = replace(get_adapter("rsna"), declaration=None)
    monkeypatch.setattr("fvpipe.project.project.get_adapter", lambda *_: unknown)
    with pytest.raises(ParameterError, match="adapter 'rsna' has no declaration"):
        find_readings([tmp_path / "a.dcm"], "rsna", keep_identifiers=True)


def test_every_rule_works_on_the_command_line(tmp_path: Path) -> None:
    """Without any column or class."""
    embed(tmp_path / "in", four(), [{"side": "L", "path_severity": 0, "bside": "L"}])
    build(tmp_path / "in", tmp_path / "out", "--adapter", "embed", pipeline="direct")
    with open(tmp_path / "out" / "breasts.csv", encoding="utf-8") as file:
        assert [(row["laterality"], row["label"]) for row in csv.DictReader(file)] == [("L", "1"), ("R", "0")]


def test_known_data_sets_fit_a_terminal() -> None:
    said = run("datasets").output
    assert max(map(len, said.splitlines())) <= 100
    assert {line.split()[0] for line in said.splitlines() if line[0] != " "} == {each.name for each in declarations()}
    assert [row["name"] for row in json.loads(run("datasets", "--json").stdout) if not row["release_models"]] == ["embed"]
