"""Declarations that are wrong, or have keys that would do nothing: each is named when it is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fvpipe.datasets.declared.declaration import FollowUp
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import ParameterError
from tests.support.declared import DECLARATION, OWN


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("path: '", "path: '("), "is not a regular expression"),
        (("(?P<exam>", "(?P<visit>"), "identity.exam names the path, and 'path' has no group"),
        (("columns: {laterality", "columns: {side"), "no fact 'side'"),
        (("ca: malignant", "ca: maligne"), "'maligne' is not a label"),
        (("license: ours\n", ""), "'license' is missing"),
        (("license: ours", "license: ' '"), "'license': is empty; expected what may be done with the data"),
        (("patient: [path]", "patient: []"), "identity.patient"),
        (("patient: [path]", "patient: path"), "'identity.patient' is 'path'; expected a list, as in [a, b]"),
        (("exam: [path]", "exam: [path, header]"), "the header comes first, or is left out"),
        (("- from_path: true", "- file: /t.csv"), "expected a path below the input folder"),
        (("- from_path: true", "- file: '**x.csv'"), "expected a path below the input folder"),
        (("{column: grade,", "{column: grade, pattern: '^a',"), "has no group"),
        (("{laterality: laterality,", "{laterality: {column: laterality, values: {li: links}},"), "'links' is not a side"),
        (("{ca: malignant", "{1: malignant"), "key 1 is not text"),
        (("license: ours", "license: ours\nheaders: {patient_pattern: 'P('}"), "'headers.patient_pattern': 'P(' is not a"),
        (("license: ours", "license: ours\nheaders: {patient_pattern: '^P'}"), "'^P' has no group (...), which is the value"),
        (("license: ours", "license: ours\nlabels: x"), "unknown key 'labels'"),
        (
            ("license: ours", "license: ours\nversion: 2\nlabels: x"),
            "is of version 2; this fvpipe reads up to 1",
        ),
        (("license: ours", "license: ours\nversion: 0"), "'version'"),
        (("license: ours", "license: ours\nbi_rads: {benign: [1, 7]}"), "'bi_rads': BI-RADS [7] does not exist"),
        (
            ("license: ours", "license: ours\nbi_rads: {malignant: [4]}"),
            "'bi_rads': BI-RADS [4] would be both benign and malig",
        ),
    ],
)
def test_a_wrong_declaration_is_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in DECLARATION
    (tmp_path / "clinic.yaml").write_text(DECLARATION.replace(*change))
    with pytest.raises(ParameterError, match=r"clinic\.yaml") as error:
        get_adapter(str(tmp_path / "clinic.yaml"))
    assert message in str(error.value)


def test_days_are_a_number() -> None:
    assert FollowUp.model_validate({"date": "d", "days": 365}).days == "365"
    with pytest.raises(ValueError, match="days"):
        FollowUp.model_validate({"date": "d", "days": True})


FOLLOW = "combine: worst\n    follow_up: {date: d, days: $wait}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"then: malignant": "then: 'malignant '"},
            "'malignant ' is not a label; expected malignant, benign, unlabelled, or 'excl",
        ),
        ({'"excluded: pending"': "'excluded: '"}, "'excluded: ' is not a label"),
        ({"then: benign": "then: $x", "license: ours": "license: ours\noptions: {x: 'benign '}"}, "'benign ' is not a label"),
        (
            {"then: benign": "then: $x", "license: ours": "license: ours\noptions: {x: '365'}"},
            "option 'x' is '365', and `then`",
        ),
        ({"license: ours": "license: ours\noptions: {x: benign}"}, "option 'x' does nothing: no `then` or `days` takes it"),
        ({"then: benign": "then: 0"}, "own.yaml: 'tables.0.label.3.then' is read as 0; expected text: write it in quotes"),
        ({"combine: COMBINE": FOLLOW}, "$wait is not an option; known: none"),
        ({"combine: COMBINE": FOLLOW, "license: ours": "license: ours\noptions: {wait: benign}"}, "expected a number of days"),
    ],
)
def test_a_wrong_outcome_is_named(changes: dict[str, str], message: str, tmp_path: Path) -> None:
    read_changed(OWN, changes, message, tmp_path)


IDLE_IMAGES = """
name: own
license: ours
path: '(?P<patient>P[0-9]+)/[^/]+$'
identity: {patient: [path], laterality: [table], view: [table]}
headers: {studies_apart: false}
tables:
  - file: images.csv
    path: file
    label: label
    columns: {laterality: side, view: view, label: {column: dx, values: {ca: malignant, ok: benign}}}
"""


@pytest.mark.parametrize("label", ["{column: dx, values: {ca: malignant}}", "dx", "5"])
def test_a_label_that_is_no_rule_is_told_which_there_are(label: str, tmp_path: Path) -> None:
    said = "'tables.0.label': no rule; expected label, whose column and words stand below `columns`, bi_rads, or a list"
    read_changed(IDLE_IMAGES, {"label: label\n": f"label: {label}\n"}, said, tmp_path)


A_CASE = "label: [{when: {dx: C50}, then: malignant, confirmed: true}, {then: benign}]"
A_COLUMN = "laterality: side, "
A_LINE = "    label: label\n"
HEAD = "license: ours\n"


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (OWN, {"combine: COMBINE": "path_parts: 2"}, "'tables.0.path_parts' does nothing: it shortens the cells of 'path'"),
        (OWN, {"combine: COMBINE": "exclude: [{when: {dx: x}, why: y}]"}, "'tables.0.exclude' does nothing"),
        (
            OWN,
            {"combine: COMBINE": "follow_up: {date: d, days: '9'}"},
            "follow_up' does nothing: it needs rows of labels about",
        ),
        (
            OWN,
            {"combine: COMBINE": "follow_up: {date: d, days: '9', pattern: '(.*)'}"},
            "tables.0.follow_up.pattern': expected groups (?P<year>",
        ),
        (
            OWN,
            {"columns:\n": "columns:\n      implant: im\n"},
            "; rows about images give it, and a case of 'label' may leave out a breast by its column",
        ),
        (OWN, {"combine: COMBINE": "may_lack: [dy]"}, "'tables.0.may_lack' does nothing: no case of 'label'"),
        (OWN, {"combine: COMBINE": "adds: true"}, "'tables.0.label' does nothing: a table that 'adds' gives no label"),
        (OWN, {"then: malignant": "then: malignant, pending: true"}, "'tables.0.label.0.pending' does nothing"),
        (
            OWN,
            {
                "combine: COMBINE": "follow_up: {date: d, days: 9}",
                "then: malignant": "then: unlabelled, confirmed: true, pending: true",
            },
            "'tables.0.label.0.pending' does nothing: it is about a breast that `then` leaves out",
        ),
        (
            DECLARATION,
            {
                "label: label": "label: [{when: {laterality: li}, then: benign}, {then: unlabelled}]",
                ", label: {column: grade, values: {ca: malignant, ok: benign}}": "",
            },
            "'tables.0': 'li' fits nothing: 'path_values.laterality' gives L, R",
        ),
        (
            DECLARATION,
            {"R}}\n": "R}, grade: {ca: bad}}\n"},
            "'tables.0': 'ca' fits nothing: 'path_values.grade' gives bad",
        ),
        (
            DECLARATION,
            {"R}}\n": 'R}, grade: {cancer: ca, "*": ""}}\n'},
            "'tables.0': 'ok' fits nothing: 'path_values.grade' gives ca",
        ),
        (
            OWN,
            {'when: {dx: ["", "9.0"]}, then: unlabelled': "then: unlabelled"},
            "'tables.0.label.3' does nothing: the case before it",
        ),
        (
            OWN,
            {'when: {dx: "[?]"}': "when: {dx: c50*, side: $side, x: y}"},
            "'tables.0.label.1' does nothing: label.0 takes every row that it fits",
        ),
        (
            OWN,
            {"columns:": "columns:\n      label: dx"},
            "'tables.0.columns.label' does nothing: this table can give accession",
        ),
        (OWN, {"columns:": "columns:\n      kind: dx"}, "'tables.0.columns.kind' does nothing"),
        (
            OWN,
            {"columns:": "columns:\n      density: {column: d, values: {x: thick}}"},
            "'thick' is not a valid density; expected A to D",
        ),
        (OWN, {"columns:": "columns:\n      age: {column: d, values: {x: young}}"}, "'young' is not a valid age"),
        (
            OWN,
            {
                "then: malignant": "then: malignant, confirmed: true",
                "tables:": "tables:\n  - {file: b.csv, label: bi_rads, columns: {bi_rads: b}}",
                "combine: COMBINE": "combine: worst\n    follow_up: {date: d, days: 9}",
            },
            "'tables.1': 'follow_up' would not decide over the labels of tables.0, whose rows have no day",
        ),
        (
            OWN,
            {
                "then: malignant": "then: malignant, confirmed: true",
                "tables:": "tables:\n  - {file: b.csv, path: f, label: bi_rads, columns: {bi_rads: b}}",
                "combine: COMBINE": "combine: worst\n    follow_up: {date: d, days: 9}",
            },
            "whose rows are about images: take the label from it, and read its file again without 'path', with study_date",
        ),
        (OWN, {'"C50*"': '"C50* "'}, "'tables.0': 'C50* ' fits nothing: tables are read without spaces around their cells"),
        (OWN, {"bds: both": "'bds ': both"}, "'bds ' fits nothing"),
        (OWN, {'"[?]"': "[]"}, "should have at least 1 item"),
        (OWN, {"$side": "$sides"}, "'$sides' is not a reference; expected $side"),
        (OWN, {"tables:\n": "tables:\n  - {file: b.csv, adds: true, columns: {density: d}}\n"}, "'tables.0.adds' does nothing"),
        (
            IDLE_IMAGES,
            {"tables:\n": "tables:\n  - {file: b.csv, path_groups: {patient: p}, columns: {view: v}}\n"},
            "'path_groups' does nothing: tables find images in one way",
        ),
        (OWN, {"li: L, ": "li: L, LI: R, "}, "'LI' has two values: upper and lower case count as the same"),
        (OWN, {"values: {li": "needed: true, values: {'': both, li"}, '"" does nothing: an empty cell is an error'),
        (OWN, {HEAD: HEAD + "targets: {days: {meaning: m}}\n"}, "'targets.days' does nothing: no column gives it"),
        (OWN, {HEAD: HEAD + "bi_rads: {benign: [1]}\n"}, "'bi_rads' does nothing: no label is made of BI-RADS"),
        (OWN, {HEAD: HEAD + "path: '(?P<patient>P1)'\n"}, "'path' does nothing: neither `identity` nor a table reads"),
        (OWN, {HEAD: HEAD + "path_values: {view: {ML: MLO}}\n"}, "'path_values.view' does nothing: 'path' has no group"),
        (OWN, {HEAD: HEAD + "identity: {exam: [header]}\n"}, "'identity.exam' does nothing: `headers` do not keep exams apart"),
        (IDLE_IMAGES, {A_LINE: A_LINE + "    follow_up: {date: d, days: '9'}\n"}, "'tables.0.follow_up' does nothing"),
        (IDLE_IMAGES, {A_LINE: A_LINE + "    contralateral: [{then: benign}]\n"}, "'tables.0.contralateral' does nothing"),
        (IDLE_IMAGES, {A_LINE: A_LINE + "    instance: uid\n"}, "'tables.0.instance' does nothing: each row is about an image"),
        (IDLE_IMAGES, {A_LINE: "    adds: true\n"}, "'tables.0.adds' does nothing"),
        (IDLE_IMAGES, {A_LINE: "    combine: worst\n"}, "'tables.0.combine' does nothing: no row of this table gives facts"),
        (
            IDLE_IMAGES,
            {A_LINE: "    path_groups: {patient: pid}\n"},
            "'tables.0.path' does nothing: the rows find their images",
        ),
        (IDLE_IMAGES, {A_COLUMN: A_COLUMN + "patient: pid, "}, "'tables.0.columns.patient' does nothing"),
        (IDLE_IMAGES, {A_COLUMN: A_COLUMN + "lesion: number, "}, "'tables.0.columns.lesion' does nothing"),
        (IDLE_IMAGES, {A_LINE: "", "label: {": "density: {"}, "'tables.0.columns.density' does nothing"),
        (IDLE_IMAGES, {"  - file: images.csv\n    path: file": "  - from_path: true\n    file: x.csv"}, "'tables.0.file' does"),
        (IDLE_IMAGES, {"tables:\n": "tables:\n  - {file: b.csv, columns: {boxes: b}}\n"}, "'tables.0' does nothing: expected"),
        (
            IDLE_IMAGES,
            {HEAD: HEAD + "path_values: {patient: {p1: P1, P1: P2}}\n"},
            "'path_values.patient': 'P1' has two values",
        ),
        (
            IDLE_IMAGES,
            {"tables:\n": "tables:\n  - {from_path: true, combine: worst, label: label, columns: {label: patient}}\n"},
            "'combine' does nothing: what rows and paths say of images is combined in one way",
        ),
        (
            IDLE_IMAGES,
            {A_LINE: A_LINE + "    exclude: [{when: {s: $side}, why: y}]\n", "laterality: [table], ": "", A_COLUMN: ""},
            "'tables.0': $side is the side that the row names, and no column of this table gives laterality",
        ),
        (
            IDLE_IMAGES.replace("path: file\n" + A_LINE, A_CASE + "\n"),
            {"columns: {": "adds: true\n    columns: {age: age, "},
            "'tables.0.columns.age' does nothing: this table can give accession, bi_rads, density, exam",
        ),
    ],
)
def test_a_key_that_would_do_nothing_is_named(text: str, changes: dict[str, str], message: str, tmp_path: Path) -> None:
    read_changed(text, changes, message, tmp_path)


def read_changed(text: str, changes: dict[str, str], message: str, folder: Path) -> None:
    """Read a declaration before and after changes that make it wrong."""
    assert all(old in text for old in changes)
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / "own.yaml").write_text(text.replace("COMBINE", "first"))
    with pytest.raises(ParameterError, match=r"own\.yaml") as error:
        get_adapter(str(folder / "own.yaml"))
    assert message in str(error.value)
