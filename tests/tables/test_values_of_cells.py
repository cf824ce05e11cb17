"""Cells as hospitals write them: each is read rightly, or named; none is read as something else in silence."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.indexing.index import Index
from fvpipe.indexing.labels.statements import similar_patients
from fvpipe.io.tables import read_table
from fvpipe.reasons import Reason
from fvpipe.testing import index_folder, write_image
from fvpipe.types import Exam, Laterality, View
from tests.support.declared import labels, reasons
from tests.support.user_tables import CANCERS, PATHS, PLACES, TABLE, cancers, read


@pytest.mark.parametrize("missing", ["NaN", "NA", "N/A", "<NA>", "#N/A", "NULL", "nan"])
def test_words_for_a_missing_value_are_none(missing: str, folder: Path, tmp_path: Path) -> None:
    """Two women of a patient `nan` were one patient, whose views were paired; a missing diagnosis was a benign one."""
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    (tmp_path / "own.yaml").write_text(TABLE)

    def written(patient: str) -> Index:
        rows = ["file,pid,side,view,diagnosis,acr,birads,stage"]
        for (whose, side, view), path in zip(PLACES, PATHS, strict=True):
            rows.append(f"{path},{patient or whose},{side},{view},{missing},{missing},{missing},{missing}")
        (own / "t.csv").write_text("\n".join(rows))
        return index_folder(own, str(tmp_path / "own.yaml"))

    assert set(reasons(written(missing)).values()) == {"identifier_missing"}
    found = written("")
    assert labels(found) == dict.fromkeys(CANCERS, -1)
    for breast in found.breasts:
        assert (breast.facts.density or "", breast.facts.bi_rads, breast.facts.targets, breast.facts.pathology) == (
            "",
            None,
            (),
            "",
        )


@pytest.mark.parametrize("missing", ["None", "-", "?", "unknown", "#REF!"])
def test_what_names_no_patient_is_none(missing: str, folder: Path, tmp_path: Path) -> None:
    """Views of two women were paired, as those of a patient `-`; of another fact, such a word is a value."""
    rows = [f"{path},{missing},{side},{view},1" for (_, side, view), path in zip(PLACES, PATHS, strict=True)]
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    (own / "t.csv").write_text("\n".join(["file,pid,side,view,stage", *rows]).replace(",1", f",{missing}"))
    (tmp_path / "own.yaml").write_text(TABLE.replace("then: benign", "then: unlabelled").replace("diagnosis", "stage"))
    assert set(reasons(index_folder(own, str(tmp_path / "own.yaml"))).values()) == {"identifier_missing"}
    (own / "t.csv").write_text((own / "t.csv").read_text().replace(f",{missing},L", ",P1,L").replace(f",{missing},R", ",P2,R"))
    stages = {facts.targets for facts in (breast.facts for breast in index_folder(own, str(tmp_path / "own.yaml")).breasts)}
    assert stages == {(("stage", missing),)}
    paths = "name: own\nlicense: ours\npath: '(?P<patient>[^/]+)/'\nidentity: {patient: [path]}\n"
    (tmp_path / "own.yaml").write_text(paths)
    (own / "P1").rename(own / missing)
    left = reasons(index_folder(own, str(tmp_path / "own.yaml")))
    assert left == {f"{missing}/{name.name}": "identifier_missing" for name in (own / missing).iterdir()}


@pytest.mark.parametrize(
    ("wanted", "cell"),
    [
        ("carcinoma [C50]", "Carcinoma [C50]"),
        ("invasive carcinoma", '"invasive\ncarcinoma"'),
        ("invasive carcinoma", "invasive\xa0 carcinoma"),
        ("b\xf6sartig", "bo\u0308sartig"),
    ],
)
def test_a_word_of_a_case_fits_its_cell(wanted: str, cell: str, tmp_path: Path) -> None:
    """Where it did not, the last case took the row: benign."""
    declared = TABLE.replace("[C50]", f'["{wanted}"]').replace("    path: file\n", "").replace("    combine: first\n", "")
    declared = declared.replace("view: [table]", "view: [header]").replace("view: view, ", "")
    (tmp_path / "own.yaml").write_text(declared, encoding="utf-8")
    (tmp_path / "t.csv").write_text(f"pid,side,diagnosis\nP1,L,{cell}\nP1,R,cyst\n", encoding="utf-8")
    rows = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).rows
    assert [facts.label for facts in rows.values()] == [1, 0]


@pytest.mark.parametrize(("declared", "cell"), [("bo\u0308sartig", "b\xf6sartig"), ("very  bad", "Very bad"), ("9.0", "9")])
def test_a_declared_word_fits_its_cell_however_it_is_written(declared: str, cell: str, tmp_path: Path) -> None:
    """As those of cases do; where it did not, the word for all others took the cell."""
    values = f'values: {{"{declared}": malignant, "*": benign}}'
    own = "name: own\nlicense: ours\ntables: [{file: t.csv, label: label, columns: {patient: pid, laterality: side, "
    (tmp_path / "own.yaml").write_text(f"{own}label: {{column: dx, {values}}}}}}}]\n", encoding="utf-8")
    (tmp_path / "t.csv").write_text(f"pid,side,dx\nP1,L,{cell}\nP1,R,cyst\n", encoding="utf-8")
    rows = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).rows
    assert [facts.label for facts in rows.values()] == [1, 0]


@pytest.mark.parametrize(
    ("columns", "cells", "expected"),
    [
        ("bi_rads: {column: a, pattern: '(?i)bi-?rads ([0-6])'}", "right BI-RADS 2; left BI-RADS 5", None),
        ("bi_rads: {column: a, pattern: '(?i)bi-?rads ([0-6][abc]?)'}", "BI-RADS 5; as before BI-RADS 5", 1),
        ("bi_rads: {column: a, pattern: '(?i)left bi-?rads ([0-6])'}", "right BI-RADS 2; left BI-RADS 5", 1),
        ("bi_rads: b, laterality: {column: a, pattern: (L|R)}", "UPPER OUTER LEFT|5", None),
        ("bi_rads: b, laterality: {column: a, pattern: (L|R)}", "INSIDE LEFT|5", 1),
        ("bi_rads: b, density: {column: a, pattern: '([A-D])', values: {A: B, B: B, '*': C}}", "A or B, SEE D|5", 1),
    ],
)
def test_a_pattern_that_finds_two_values_in_a_cell_takes_none(
    columns: str, cells: str, expected: int | None, tmp_path: Path
) -> None:
    """The first was taken: the BI-RADS of the other breast in a report, and the right side of ``UPPER``."""
    side = "" if "laterality" in columns else "laterality: side, "
    own = f"name: own\nlicense: ours\ntables: [{{file: t.csv, label: bi_rads, columns: {{patient: pid, {side}{columns}}}}}]\n"
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "t.csv").write_text(f"pid|side|a|b\nP1|L|{cells}\n")
    read_labels = get_adapter(str(tmp_path / "own.yaml")).read_labels
    if expected is None:
        with pytest.raises(LabelTableError, match="line 2: a has two different values by its pattern; expected one"):
            read_labels(tmp_path, None, Labels())
    else:
        rows = read_labels(tmp_path, None, Labels()).rows
        assert {key: facts.label for key, facts in rows.items()} == {("P1", Laterality.LEFT): expected}


@pytest.mark.parametrize(
    ("cells", "is_read"),
    [
        (("1.096", "13,5"), False),
        (("365", "1.096"), False),
        (("365", "1.096", "1.5"), True),
        (("365.0", "1.096"), True),
        (("12", "1.096"), True),
        (("0.125", "365"), True),
    ],
)
def test_a_point_that_may_set_off_thousands_is_named(cells: tuple[str, ...], is_read: bool, tmp_path: Path) -> None:
    """Of a spreadsheet in German 1.096 days were one day."""
    columns = "patient: pid, laterality: {column: pid, values: {'*': L}}, days: d"
    own = "name: own\nlicense: ours\ntargets: {days: {meaning: to cancer, unit: d}}\n"
    (tmp_path / "own.yaml").write_text(f"{own}tables: [{{file: t.csv, label: [{{then: benign}}], columns: {{{columns}}}}}]\n")
    (tmp_path / "t.csv").write_text("pid;d\n" + "".join(f"P{i};{cell}\n" for i, cell in enumerate(cells)))
    read_labels = get_adapter(str(tmp_path / "own.yaml")).read_labels
    if is_read:
        rows = read_labels(tmp_path, None, Labels()).rows.values()
        assert [float(dict(facts.targets)["days"]) for facts in rows] == [*map(float, cells)]
    else:
        with pytest.raises(LabelTableError, match=f"line {cells.index('1.096') + 2}: d has a point before three digits"):
            read_labels(tmp_path, None, Labels())


def test_a_code_of_a_missing_number_may_be_declared(tmp_path: Path) -> None:
    """Declared beside nothing else, it made every other number an undeclared word; undeclared, it is a number of months."""
    age, date = "age: {column: a, values: {'99': ''}}", "study_date: {column: d, values: {'1900-01-01': ''}}"
    columns = f"patient: pid, laterality: side, {age}, {date}, months: {{column: m, values: {{'-9': '', none: '0'}}}}"
    own = "name: own\nlicense: ours\ntargets: {months: {meaning: to cancer, unit: months}}\n"
    (tmp_path / "own.yaml").write_text(f"{own}tables: [{{file: t.csv, label: [{{then: benign}}], columns: {{{columns}}}}}]\n")

    def read(*rows: str) -> list[tuple[str, str, str]]:
        (tmp_path / "t.csv").write_text("\n".join(["pid;side;a;d;m", *rows]))
        table = get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels())
        found = [(Exam(), facts) for facts in table.rows.values()] + [(exam, each) for (*_, exam), each in table.exams.items()]
        return [(exam.date, facts.age, dict(facts.targets).get("months", "")) for exam, facts in found]

    assert read("P;L;99;1900-01-01;-9", "P;R;98;2018-03-01;13,5", "Q;L;54;2018-03-01;None") == [
        ("", "", ""),
        ("20180301", "90+", "13.5"),
        ("20180301", "054Y", "0"),
    ]
    with pytest.raises(LabelTableError, match="line 2: m is 'x'; expected a number, such as"):
        read("P;L;99;1900-01-01;x")


@pytest.mark.parametrize("cell", ["NA", "nan", "N/A"])
def test_no_missing_label_is_any_other_word(cell: str, tmp_path: Path) -> None:
    """As R writes an empty cell: the word for all others made it benign."""
    label = "label: {column: dx, values: {cancer: malignant, '*': benign}}"
    columns = f"patient: pid, laterality: side, {label}"
    own = f"name: own\nlicense: ours\ntables: [{{file: t.csv, label: label, columns: {{{columns}}}}}]\n"
    (tmp_path / "own.yaml").write_text(own)
    (tmp_path / "t.csv").write_text(f"pid,side,dx\nP1,L,cyst\nP1,R,{cell}\n")
    read_labels = get_adapter(str(tmp_path / "own.yaml")).read_labels
    with pytest.raises(LabelTableError, match=r"line 3: dx is .*; expected cancer, or any other but NA, NaN and the like"):
        read_labels(tmp_path, None, Labels())
    (tmp_path / "own.yaml").write_text(own.replace("'*': benign", f"{cell}: unlabelled, '*': benign"))
    assert [f.label for f in get_adapter(str(tmp_path / "own.yaml")).read_labels(tmp_path, None, Labels()).rows.values()] == [
        0,
        -1,
    ]


def test_words_of_a_side_are_those_of_another_column_too(tmp_path: Path) -> None:
    side = "laterality: {column: side, values: {li: R, re: L}}"
    columns = f"patient: pid, label: {{column: dx, values: {{c: malignant, b: benign}}}}, {side}"
    (tmp_path / "own.yaml").write_text(
        f"name: own\nlicense: ours\ntables: [{{file: t.csv, label: label, columns: {{{columns}}}}}]\n"
    )
    (tmp_path / "t.csv").write_text("pid,side,seen from below,dx\nP1,li,re,c\nP1,re,li,b\n")
    read_labels = get_adapter(str(tmp_path / "own.yaml")).read_labels
    for rules, cancer in ((Labels(), Laterality.RIGHT), (Labels(columns={"laterality": "seen from below"}), Laterality.LEFT)):
        assert [key for key, facts in read_labels(tmp_path, None, rules).rows.items() if facts.label] == [("P1", cancer)]


def test_a_declared_word_is_a_value(folder: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    (tmp_path / "own.yaml").write_text(
        TABLE.replace("[C50]", "[NA]").replace("stage: stage", "stage: {column: stage, values: {na: none}}")
    )
    rows = [f"{path},{patient},{side},{view},NA,NA" for (patient, side, view), path in zip(PLACES, PATHS, strict=True)]
    (own / "t.csv").write_text("\n".join(["file,pid,side,view,diagnosis,stage", *rows]))
    found = index_folder(own, str(tmp_path / "own.yaml"))
    assert {(breast.facts.label, breast.facts.targets) for breast in found.breasts} == {(1, (("stage", "none"),))}


@pytest.mark.parametrize("twins", [("1", "01"), ("1", "1.0"), ("a1", "A1"), ("BC1", "BC001")])
def test_one_patient_in_two_spellings_is_left_out(twins: tuple[str, str], folder: Path, tmp_path: Path) -> None:
    """As two patients, her breasts could be in training and in test."""
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    (tmp_path / "own.yaml").write_text(TABLE)
    rows = ["file,pid,side,view,diagnosis,acr,birads,stage"]
    for (whose, side, view), path in zip(PLACES, PATHS, strict=True):
        rows.append(f"{path},{twins[side is Laterality.RIGHT] if whose == 'P1' else '10'},{side},{view},,,,")
    (own / "t.csv").write_text("\n".join(rows))
    found = index_folder(own, str(tmp_path / "own.yaml"))
    assert labels(found).keys() == {("10", "L"), ("10", "R")}
    assert reasons(found) == dict.fromkeys(PATHS[:4], "identifier_conflict")
    assert found.rejections[0].detail.startswith("t.csv, line 2 and t.csv, line 4: patients that differ only by leading zeros")


def test_names_that_differ_in_more_are_two_patients() -> None:
    assert not similar_patients(dict.fromkeys(["10", "1", "A10", "A1", "1.05", "1.5", "1.50", "P0", "P", "0a", "a"], ""))


def test_patients_that_the_headers_tell_apart_are_two(tmp_path: Path) -> None:
    """Whatever the paths of the table; where paths name them, the paths are shown."""
    rows = ["path,patient_id,laterality,label"]
    for number, patient in enumerate(("1", "01")):
        for view in View:
            file = f"{patient}/{view}.dcm"
            seed = 2 * number + (view is View.MLO) + 1
            write_image(
                tmp_path / "dicom" / file, seed, view=view, PatientID=patient, ImageLaterality="L", ViewPosition=view.value
            )
            rows.append(f"{file},{patient},L,{number}")
    found = read(tmp_path / "dicom", tmp_path / "t.csv", "\n".join(rows), path="path")
    assert (labels(found), found.rejections) == ({("1", "L"): 0, ("01", "L"): 1}, [])
    assert ["2 patients of headers differ" in note for note in found.notes] == [True]
    declared = "name: own\nlicense: ours\npath: '(?P<patient>\\d+)/[^/]+$'\nidentity: {patient: [path]}\n"
    (tmp_path / "own.yaml").write_text(declared)
    left = index_folder(tmp_path / "dicom", str(tmp_path / "own.yaml")).rejections
    assert {each.reason for each in left} == {Reason.IDENTIFIER_CONFLICT}
    assert left[0].detail.startswith("01/CC.dcm and 1/CC.dcm: patients that differ only by leading zeros")


def test_a_missing_patient_of_a_breast_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"t\.csv, line 3: patient_id is 'nan'; expected the patient of the row"):
        read(folder, tmp_path / "t.csv", "patient_id,laterality,label\nP1,L,1\nnan,R,0\n")


def test_ages_with_their_unit(folder: Path, tmp_path: Path) -> None:
    table = "patient_id,laterality,label,age\nP1,L,1,54 years\nP1,R,0,54y\nP2,L,0,54.5 Y\nP2,R,1,unknown\n"
    found = read(folder, tmp_path / "t.csv", table, age="age")
    assert [breast.facts.age for breast in found.breasts] == ["054Y", "054Y", "054Y", ""] and not found.label_hints
    table = "patient_id,laterality,label,age\nP1,L,1,50-54\nP1,R,0,1971\nP2,L,0,54 Jahre\nP2,R,1,0\n"
    found = read(folder, tmp_path / "t.csv", table, age="age")
    assert [breast.facts.age for breast in found.breasts] == ["", "", "054Y", ""]
    assert found.label_hints == ("t.csv: 2 cell(s) of age are not numbers of years, and are not read: line 2, 3",)


def test_bars_between_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a|b|c\n1|"x|y"|2,3\n')
    assert [dict(row.cells) for row in read_table(tmp_path / "t.csv", ["a"])] == [{"a": "1", "b": "x|y", "c": "2,3"}]
    (tmp_path / "t.csv").write_text("made in 2020\na,b,c\n1,2,3\n")
    with pytest.raises(LabelTableError, match=r"line 1: column 'a' is missing.*separated by.*is this line the heading\?"):
        read_table(tmp_path / "t.csv", ["a"])


def test_another_word_of_a_label_says_where_words_are_given(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"label is 'True'; expected 1 or malignant.*--class CELL=LABEL"):
        read(folder, tmp_path / "t.csv", "patient_id,laterality,label\nP1,L,True\n")


def test_a_rule_that_asks_for_a_word_of_missing_values_finds_it(folder: Path, tmp_path: Path) -> None:
    """And in its own column alone."""
    (tmp_path / "own.yaml").write_text(
        """
name: own
license: ours
tables:
  - file: [t.csv]
    path: file
    label: label
    exclude: [{when: {quality: ["N/A"]}, reason: image_excluded, why: not assessed}]
    columns: {label: {column: label, values: {"1": malignant, "0": benign}}}
"""
    )
    lines = cancers().replace("file,label", "file,label,quality").splitlines()
    table = "\n".join([lines[0], f"{lines[1]},N/A", *(f"{line},good" for line in lines[2:])])
    (tmp_path / "t.csv").write_text(table)
    found = index_folder(folder, str(tmp_path / "own.yaml"), label_file=str(tmp_path / "t.csv"))
    assert reasons(found)[PATHS[0]] == "image_excluded"


def test_pipes_in_a_heading_with_commas_are_text(folder: Path, tmp_path: Path) -> None:
    table = cancers().replace("file,label", "file,label,note (a|b|c|d)")
    assert labels(read(folder, tmp_path / "t.csv", table, path="file")) == CANCERS
