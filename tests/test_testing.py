"""The test kit for adapters: every declaration of ours passes it, and a wrong one does not."""

from __future__ import annotations

import re
import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from fvpipe.config.formats import RASTER
from fvpipe.datasets.registry import declarations
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.indexing.rejections import require_breasts
from fvpipe.project.project import Project
from fvpipe.reasons import Reason
from fvpipe.testing import BrokenRules, SimulatedTree, check_adapter, index_folder, make_tree, write_image, write_table
from fvpipe.testing.rules import not_arrived, not_named, not_rejected, parted
from fvpipe.types import Laterality, View

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [each.name for each in declarations()])
def test_our_declarations_keep_the_rules(name: str, tmp_path: Path) -> None:
    examples = {
        "csaw-cc": {"exam": [str(2001 + n) for n in range(9)]},  # years, of which the table has a column
        "nlbs": {"patient": [f"abnormal/{n}" for n in range(9)]},  # a folder with cancers
    }
    tree = check_adapter(name, tmp_path, examples.get(name))
    made = {breast.label for breast in tree.breasts if not breast.excluded}
    assert {0} <= made and (1 in made) == (name != "kau-bcmd")  # which labels no breast as malignant unless options say so
    left = {"embed": 1, "nlbs": 2}.get(name, 0)  # a cancer on an unknown side: its row is about both breasts; rules of paths
    assert len(tree.not_covered) == left


FORMS = {
    "labels in folders": r"""
name: own
license: ours
path: '(?P<class>benign|cancer)/(?P<patient>\d{4})_(?P<laterality>[LR])(?P<view>CC|MLO)\.dcm$'
identity: {patient: [path, header], exam: [path], laterality: [path], view: [path]}
headers: {studies_apart: false}
tables:
  - from_path: true
    label: label
    combine: first
    columns: {label: {column: class, values: {benign: benign, cancer: malignant}}}
""".replace("exam: [path], ", ""),
    "a spreadsheet of breasts with targets": """
name: own
license: ours
targets: {days: {meaning: to the diagnosis, unit: days}, stage: {meaning: of the cancer}}
tables:
  - file: "reports/*.xlsx"
    label:
      - {when: {Diagnose: "C50*"}, then: malignant}
      - {when: {Diagnose: ["", "?"]}, then: "excluded: no diagnosis"}
      - {then: benign}
    columns:
      patient: {column: Patientin, needed: true}
      laterality: {column: Seite, values: {li: L, re: R}}
      density: {column: ACR, pattern: 'ACR ([a-d])'}
      bi_rads: BI-RADS
      days: Zeit
      stage: {column: Stadium, values: {I: early, IV: late}}
""",
    "exams by a table of images": r"""
name: own
license: ours
identity: {patient: [table], exam: [table], laterality: [table, header], view: [path, header]}
path: '(?P<view>CC|MLO)-(?P<number>\d+)\.dcm$'
path_values: {view: {MLO: MLO}}
tables:
  - file: images.csv
    path: file
    label: bi_rads
    combine: worst
    columns: {patient: pid, exam: visit, laterality: side, bi_rads: {column: birads, needed: true}, age: age, boxes: rois}
""",
    "breasts by the UID of an image": """
name: own
license: ours
tables:
  - file: t.csv
    instance: uid
    label: [{when: {finding: ca}, then: malignant}, {then: benign}]
    columns: {laterality: side}
""",
}


PAGES = "".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("adapters.md", "more-datasets.md"))
BLOCKS = [textwrap.dedent(block).strip() + "\n" for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", PAGES)]
DOCUMENTED = {block.split()[1]: block for block in BLOCKS if block.startswith("name: ")}
OF_ONE_VIEW, OF_ONE_COLUMN = "both views of both breasts", "for (laterality|view|patient) and all else that it gives"
NOT_MADE = {
    "mini-mias": OF_ONE_VIEW,
    "csaw-m": OF_ONE_VIEW,
    "dmid": OF_ONE_COLUMN,
    "cbis-jpeg": OF_ONE_COLUMN,
    "mini-ddsm": OF_ONE_COLUMN,
    "bmcd": "a path with",
    "lamis-dmdb": "a path with",
}
NOT_REACHED = {"screening": ("tables.1: case 2 of the label rule ({} -> unlabelled)",)}  # of the other breast


@pytest.mark.parametrize("name", DOCUMENTED)
def test_the_declarations_of_the_pages_keep_the_rules(name: str, tmp_path: Path) -> None:
    """Those that cannot be simulated are named, with what to do."""
    (tmp_path / "own.yaml").write_text(DOCUMENTED[name], encoding="utf-8")
    if name in NOT_MADE:
        with pytest.raises(ParameterError, match=f"{NOT_MADE[name]}.* could not be simulated; test it with files of your own"):
            check_adapter(tmp_path / "own.yaml", tmp_path)
        return
    assert check_adapter(tmp_path / "own.yaml", tmp_path).not_covered == NOT_REACHED.get(name, ())


def test_the_smallest_project_of_the_page(tmp_path: Path) -> None:
    (params,) = (block for block in BLOCKS if block.startswith("datasets:") and "splits:" in block)
    (tmp_path / "params.yaml").write_text(params)
    project = Project(tmp_path)
    assert (*project.params.datasets, *project.params.pipelines, *project.params.splits) == ("clinic", "cropped", "ours")


def test_one_file_may_be_read_by_several_tables(tmp_path: Path) -> None:
    """As a sheet of exams with the boxes of their images, and as a list of images that labels their breasts, too."""
    table, columns = "{file: t.csv, ", "patient: pid, laterality: side"
    boxes = table + "instance: uid, columns: {category: what, left: x, top: y, right: x2, bottom: y2}}"
    images = table + "path: image, columns: {view: view, " + columns + "}}"
    labels = (
        table
        + "combine: worst, label: [{when: {found: cancer*}, then: malignant}, {then: benign}], columns: {"
        + columns
        + "}}"
    )
    identity = "identity: {patient: [table], laterality: [table], view: [table]}"
    for tables, more in (((labels, boxes), ""), ((images, labels), identity)):
        (tmp_path / "own.yaml").write_text("\n".join(["name: own", "license: ours", more, f"tables: [{', '.join(tables)}]"]))
        tree = check_adapter(tmp_path / "own.yaml", tmp_path / str(len(more)))
        assert tree.not_covered == () and {breast.label for breast in tree.breasts} == {0, 1}
        assert [len(rows) for rows in tree.tables.values()] == [2 * len(tree.breasts)]
    added = table + "adds: true, columns: {density: acr, " + columns + "}}"
    (tmp_path / "own.yaml").write_text(f"name: own\nlicense: ours\ntables: [{labels}, {added}]\n")
    assert check_adapter(tmp_path / "own.yaml", tmp_path / "added").not_covered == ()  # no column is called unread
    hospital = make_tree_of(DOCUMENTED["hospital"], tmp_path)
    (tmp_path / "own.yaml").write_text(DOCUMENTED["hospital"].replace("Right,", "Left ,", 1))
    assert "label 1, expected 0" in "".join(not_arrived(hospital, hospital.index()))  # sides of a woman differ
    assert [len(rows) for rows in hospital.tables.values()] == [len(hospital.breasts) // 2]


def test_facts_of_both_breasts_stand_once_in_a_row(tmp_path: Path) -> None:
    """The kit wrote a row for each breast, and said of the adapter that one breast has two descriptions."""
    text = DOCUMENTED["hospital"].replace("      study_date: Date\n", "      study_date: Date\n      age: Age\n")
    (tmp_path / "own.yaml").write_text(text)
    tree = check_adapter(tmp_path / "own.yaml", tmp_path / "simulated")
    assert tree.not_covered == () and {breast.facts["age"] for breast in tree.breasts} == {"040Y", "042Y", "044Y", "046Y"}
    one = """
  - file: t.csv
    label: [{when: {implant: SIDE}, then: "excluded: implant"}, {when: {SIDE: x}, then: malignant}, {then: benign}]
    columns: {patient: pid, laterality: {column: pid, values: {"*": SIDE}}}
"""
    both = "".join(one.replace("SIDE", side) for side in "LR")
    with pytest.raises(ParameterError, match="a row about both breasts, for each of which implant is another cell, could not"):
        make_tree_of(f"name: own\nlicense: ours\ntables:{both}", tmp_path)


def test_columns_of_cases_that_no_row_reaches_are_not_taken_away(tmp_path: Path) -> None:
    """They were, and the error of a case that another breast comes to was called the adapter's."""
    text = """
name: own
license: ours
tables:
  - file: t.csv
    label:
      - {when: {side: $side}, then: malignant}
      - {when: {side: "", months: x}, then: benign}
      - {then: "excluded: another"}
    columns: {patient: pid, laterality: {column: side, values: {"": both, L: L, R: R}}}
"""
    (tmp_path / "own.yaml").write_text(text)
    assert len(check_adapter(tmp_path / "own.yaml", tmp_path / "simulated").not_covered) == 2


def make_tree_of(text: str, tmp_path: Path) -> SimulatedTree:
    (tmp_path / "own.yaml").write_text(text)
    return make_tree(tmp_path / "own.yaml", tmp_path / "simulated")


def test_results_of_later_exams_are_simulated(tmp_path: Path) -> None:
    """With and without such a result; one after too many days does not count, and the kit tells what differs."""
    tree = make_tree_of(DOCUMENTED["screening"], tmp_path)
    assert {breast.label for breast in tree.breasts} == {0, 1} and not [*not_arrived(tree, tree.index())]
    assert tree.later_exams == len(tree.tables["cancers.csv"]) == sum(breast.label for breast in tree.breasts)
    (tmp_path / "own.yaml").write_text(DOCUMENTED["screening"].replace("730", "29"))
    assert {message.split(": ")[1] for message in not_arrived(tree, tree.index())} == {"label 0, expected 1"}
    tree = make_tree(tmp_path / "own.yaml", tmp_path / "short")
    assert {breast.label for breast in tree.breasts} == {0} and not [*not_arrived(tree, tree.index())]


def test_a_registry_needs_dates(tmp_path: Path) -> None:
    tree = make_tree_of(DOCUMENTED["screening"], tmp_path)
    for cell, message in (("", "is empty; leave out rows without a date, or write"), ("May", "is not a date; expected")):
        tree.tables["cancers.csv"][1]["cancer_date"] = cell
        tree.write()
        (tmp_path / "own.yaml").write_text(DOCUMENTED["screening"].replace(", study_date: cancer_date", ""))
        with pytest.raises(LabelTableError, match=f"cancers.csv, line 3: cancer_date {message}"):
            tree.index()


GROUPS = r"""
name: own
license: ours
path: '(?P<patient>P\d+)/(?P<laterality>[LR])(?P<view>CC|MLO)\.dcm$'
identity: {patient: [path], laterality: [path, table], view: [path]}
tables:
  - file: t.csv
    path_groups: {patient: pid, laterality: side}
    label: label
    columns: {laterality: side, label: result}
"""
OTHER_WORDS = ("laterality: side, l", "laterality: {column: side, values: {li: L, re: R}}, l")


def test_groups_that_differ_from_their_columns_are_named(tmp_path: Path) -> None:
    """Cells are compared with the raw text; words of another kind, which could name a patient, are not shown."""
    tree = make_tree_of(GROUPS, tmp_path)
    for row in tree.tables["t.csv"]:
        row["side"] = {"L": "li", "R": "re"}[row["side"]]
    tree.write()
    (tmp_path / "own.yaml").write_text(GROUPS.replace(*OTHER_WORDS))
    expected = "Expected in columns pid, side the texts of the path's groups, before `path_values`"
    with pytest.raises(LabelTableError, match=f"laterality of the paths is L, column side has li. {expected}"):
        require_breasts(tree.index())
    for row in tree.tables["t.csv"]:
        row["pid"] += "-x"
    tree.write()
    with pytest.raises(LabelTableError, match="; no patient of a path is in column pid; laterality of the paths is L"):
        require_breasts(tree.index())


def test_what_cannot_be_simulated_is_named(tmp_path: Path) -> None:
    text = GROUPS.replace(*OTHER_WORDS)
    raw = r"group laterality is 'li', as in column 'side' of tables\.0 \(cells are compared with the group's raw text"
    with pytest.raises(ParameterError, match=raw):
        make_tree_of(text, tmp_path)
    make_tree_of(
        text.replace("[LR]", "li|re").replace("identity", "path_values: {laterality: {li: L, re: R}}\nidentity"), tmp_path
    )
    two = """
name: own
license: ours
tables:
  - {file: t.csv, label: [{when: {a: x}, then: malignant}, {then: benign}], columns: {patient: p, laterality: s}}
  - {file: t.csv, label: [{when: {a: y}, then: unlabelled}, {then: benign}], columns: {patient: p, laterality: s}}
"""
    with pytest.raises(
        ParameterError, match=r"tables\.0 and tables\.1 label the same breasts, and that of 'malignant' by tables\.1"
    ):
        make_tree_of(two, tmp_path)


@pytest.mark.parametrize("form", sorted(RASTER))
def test_images_that_are_not_dicom_are_simulated(form: str, tmp_path: Path) -> None:
    """In the first of the formats; no header says anything, so that a source which names it is missed."""
    text = FORMS["exams by a table of images"].replace("license: ours", f"license: ours\nformats: [{form}]")
    text = text.replace(r"\.dcm$", r"\.[a-z]+$")
    (tmp_path / "own.yaml").write_text(text)
    tree = check_adapter(tmp_path / "own.yaml", tmp_path)
    assert tree.not_covered == ()
    images = tree.index().images
    assert {image.transfer_syntax_uid for image in images} == {form} and len(images) == 2 * len(tree.breasts)
    assert len({(tree.folder / image.path).read_bytes() for image in images}) == len(images)
    if form != "png":
        return
    (tmp_path / "own.yaml").write_text(text.replace("laterality: [table, header]", "laterality: [header]"))
    with pytest.raises((BrokenRules, ParameterError), match="laterality"):
        check_adapter(tmp_path / "own.yaml", tmp_path / "again")


@pytest.mark.parametrize("form", FORMS)
def test_declarations_of_other_forms(form: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(FORMS[form])
    tree = check_adapter(tmp_path / "own.yaml", tmp_path)
    assert tree.not_covered == ()
    if form.startswith("a spreadsheet"):
        assert {breast.facts.get("stage") for breast in tree.breasts} == {"early", "late"}
        assert sum(breast.excluded for breast in tree.breasts) == 3
        assert tree.breasts[1].facts["days"] == "1.5"


BOXES = """
name: own
license: ours
tables:
  - {file: own.csv, label: bi_rads, columns: {patient: pid, laterality: side, bi_rads: birads}}
  - {file: boxes.csv, path: image, columns: {category: kind, top: y1, bottom: y2, left: x1, right: x2}}
"""


def test_a_table_of_boxes_alone(tmp_path: Path) -> None:
    """Its paths and edges are needed: without them its rows mean nothing."""
    (tmp_path / "own.yaml").write_text(BOXES)
    tree = check_adapter(tmp_path / "own.yaml", tmp_path)
    assert all(any(breast.findings) for breast in tree.index().breasts)
    write_table(tree.folder / "boxes.csv", [{"image": row["image"], "X": "1"} for row in tree.tables["boxes.csv"]])
    with pytest.raises(LabelTableError, match="column 'y1' is missing"):
        tree.index()


def test_boxes_by_width_and_height(tmp_path: Path) -> None:
    """Columns that the user names replace those of the same edges."""
    text = BOXES.replace("bottom: y2", "height: y2").replace("right: x2", "width: x2")
    (tmp_path / "own.yaml").write_text(text)
    tree = check_adapter(tmp_path / "own.yaml", tmp_path)
    boxes = [box for breast in tree.index().breasts for of_view in breast.findings for box in of_view]
    assert {(box.bottom, box.right) for box in boxes} == {(40, 60)}
    (tmp_path / "own.yaml").write_text(text.replace("width: x2", "width: x2, right: x3"))
    with pytest.raises(ParameterError, match=r"columns\.width' does nothing: 'columns\.right' gives this edge"):
        tree.index()


def test_a_declaration_may_accept_raw_images_and_film(tmp_path: Path) -> None:
    for key in ("for_processing", "secondary_capture"):
        (tmp_path / "own.yaml").write_text(BOXES.replace("license: ours", f"license: ours\nheaders: {{{key}: true}}"))
        tree = check_adapter(tmp_path / "own.yaml", tmp_path / key)
        assert {image.for_processing for image in tree.index().images} == {key == "for_processing"}
        (tmp_path / "own.yaml").write_text(BOXES)  # the headers that were cached are those of another policy
        assert {each.reason for each in tree.index().rejections if each.what.endswith(".dcm")} == {Reason.SOP_CLASS_REFUSED}


BENIGN_FIRST = """
name: own
license: ours
tables:
  - file: own.csv
    label: [{when: {result: "*"}, then: benign}, {when: {result: cancer}, then: malignant}, {then: unlabelled}]
    columns: {patient: pid, laterality: side}
"""


def test_a_case_that_is_never_reached_is_not_covered(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(BENIGN_FIRST)
    assert check_adapter(tmp_path / "own.yaml", tmp_path).not_covered == (
        "case 2 of the label rule ({'result': ('cancer',)} -> malignant)",
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            "density: {column: acr, values: {a: fatty}}",
            "'fatty' is not a valid density; expected A to D",
        ),
        ("bi_rads: {column: b, pattern: '(BI-RADS [7-9])'}", "bi_rads"),
    ],
)
def test_values_that_fvpipe_does_not_know_are_named(wrong: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(BENIGN_FIRST.replace("laterality: side", f"laterality: side, {wrong}"))
    try:
        told = str(check_adapter(tmp_path / "own.yaml", tmp_path).not_covered)
    except (BrokenRules, ParameterError) as error:
        told = str(error)
    assert re.search(message, told), told


def test_a_text_that_cannot_be_made_is_asked_for(tmp_path: Path) -> None:
    text = BENIGN_FIRST.replace("patient: pid", "patient: {column: pid, needed: true, pattern: '^(?=x)(y\\d+)$'}")
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ParameterError, match=r"give texts by examples=\{'patient': \[\.\.\.\]\}"):
        make_tree(tmp_path / "own.yaml", tmp_path / "simulated")


def test_each_rule_can_fail(tmp_path: Path) -> None:
    """Where simulated set and index differ, each rule says so."""
    tree = make_tree("rsna", tmp_path / "simulated")
    found = tree.index()
    assert [*not_arrived(tree, found), *parted(tree, found), *not_rejected(tree), *not_named(tree)] == []
    breast = tree.breasts[0]
    breast.facts["density"], breast.label = "D", 1 - breast.label
    assert [re.sub(r"'\w+'", "...", each) for each in not_arrived(tree, found)] == [
        "L of patient ...: label 1, expected 0", "L of patient ...: density ..., expected ...",
    ]  # fmt: skip
    (tree.folder / tree.breasts[3].paths[View.CC]).unlink()
    text = "\n".join(not_arrived(tree, tree.index()))
    assert "does not arrive as one breast" in text and "mlo_missing" not in text.split("\n")[0] and "expected 8 breasts" in text
    apart = [replace(b, key=replace(b.key, patient=b.key.breast_id)) for b in found.breasts]
    assert any("a split parts the breasts of patient" in each for each in parted(tree, replace(found, breasts=apart)))


def test_a_source_that_the_declaration_leaves_out_is_missed(tmp_path: Path) -> None:
    """Taken from the table alone, a side that the header contradicts is not a conflict."""
    text, file = FORMS["exams by a table of images"], tmp_path / "own.yaml"
    file.write_text(text)
    tree = make_tree(file, tmp_path / "simulated")
    file.write_text(text.replace("laterality: [table, header]", "laterality: [table]"))
    assert list(not_rejected(tree)) == [
        "two values of laterality, of table and header: expected laterality_conflict, found none"
    ]


def test_rows_that_the_user_changes(tmp_path: Path) -> None:
    tree = make_tree("rsna", tmp_path / "simulated")
    tree.tables["train.csv"][0]["cancer"] = "1" if tree.tables["train.csv"][0]["cancer"] == "0" else "0"
    write_table(tree.folder / "train.csv", tree.tables["train.csv"])
    found = index_folder(tree.folder, "rsna")
    assert [rejection.reason.value for rejection in found.rejections] == ["label_ambiguous"]
    shutil.rmtree(tree.folder)


def test_the_kit_needs_no_test_runner() -> None:
    for file in (ROOT / "fvpipe" / "testing").glob("*.py"):
        assert not re.search(r"^\s*(import|from) (pytest|hypothesis|tests)\b", file.read_text(), re.MULTILINE)


def test_paths_that_the_pattern_does_not_fit_are_told_that(tmp_path: Path) -> None:
    """Without a patient all images of a side and view were one view in other words: masks or copies, the message said."""
    (tmp_path / "own.yaml").write_text("""
name: own
license: ours
formats: [png]
headers: {studies_apart: false}
path: '(?P<patient>P[0-9])x/[LR]_(CC|MLO)[.]png$'
identity: {patient: [path], laterality: [table], view: [table]}
tables: [{file: t.csv, path: file, label: label, columns: {laterality: side, view: view, label: label}}]
""")
    paths = ["north/P1/L_CC.png", "south/P2/L_CC.png"]
    for number, path in enumerate(paths, 1):
        write_image(tmp_path / "in" / path, number, Laterality.LEFT, View.CC, "png")
    write_table(tmp_path / "in" / "t.csv", [{"file": path, "side": "L", "view": "CC", "label": "benign"} for path in paths])
    found = index_folder(tmp_path / "in", str(tmp_path / "own.yaml"))
    assert {each.reason for each in found.rejections if each.what in paths} == {Reason.IDENTIFIER_MISSING}
