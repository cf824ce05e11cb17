"""The test kit for adapters: every declaration of ours passes it, and a wrong one does not."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fvpipe.config.formats import RASTER
from fvpipe.datasets.registry import declarations
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.testing import BrokenRules, check_adapter, index_folder, make_tree, write_table
from fvpipe.testing.rules import not_arrived, not_named, not_rejected, parted
from fvpipe.types import View

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", [each.name for each in declarations()])
def test_our_declarations_keep_the_rules(name: str, tmp_path: Path) -> None:
    examples = {
        "csaw-cc": {"exam": [str(2001 + n) for n in range(9)]},  # years, of which the table has a column
        "nlbs": {"patient": [f"abnormal/{n}" for n in range(9)]},  # a folder with cancers
    }
    tree = check_adapter(name, tmp_path, examples.get(name))
    made = {breast.label for breast in tree.breasts if not breast.excluded}
    # KAU-BCMD labels no breast as malignant unless options say so, and NLBS those in folders that the kit does not make.
    assert {0} <= made and (1 in made) == (name not in ("kau-bcmd", "nlbs"))
    left = {"embed": 1, "nlbs": 3}.get(name, 0)  # a cancer on an unknown side: its row is about both breasts; rules of paths
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
}


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
        ("density: {column: acr, values: {a: fatty}}", r"columns\.density\.values': 'fatty' is no density; expected A to D"),
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
    """Taken from the table alone, a side that the header contradicts is no conflict."""
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
