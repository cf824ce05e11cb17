"""Tables and paths that nobody foresaw: each is read rightly, or named; none is read as something else in silence."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import ImageFacts, LabelTable, ListedImage
from fvpipe.datasets.declared.listed_images import path_key
from fvpipe.datasets.declared.stated_images import nearly_listed
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import InputError, LabelTableError, ParameterError
from fvpipe.indexing.index import Index
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.contradictions import contradictions
from fvpipe.indexing.labels.statements import similar_patients
from fvpipe.indexing.rejections import require_breasts
from fvpipe.io.tables import read_table
from fvpipe.reasons import Reason
from fvpipe.testing import index_folder, make_tree, write_image, write_table
from fvpipe.types import Exam, Finding, Laterality, View
from tests.support.declared import labels, reasons
from tests.test_pairing import image as record

PLACES = [(patient, side, view) for patient in ("P1", "P2") for side in Laterality for view in View]
PATHS = [f"{patient}/{side}_{view}.dcm" for patient, side, view in PLACES]
CANCERS = {("P1", "L"): 1, ("P1", "R"): 0, ("P2", "L"): 0, ("P2", "R"): 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two women, four files each, whose headers say all."""
    folder = tmp_path_factory.mktemp("users") / "dicom"
    for number, ((patient, side, view), path) in enumerate(zip(PLACES, PATHS, strict=True), 1):
        write_image(folder / path, number, side, view, PatientID=patient, ImageLaterality=side.value, ViewPosition=view.value)
    return folder


def cancers(path: Any = str, *more: str) -> str:
    """A table of images; `path` spells their paths."""
    rows = [f"{path(name)},{CANCERS[patient, side]}" for (patient, side, _), name in zip(PLACES, PATHS, strict=True)]
    return "\n".join(["file,label", *rows, *more]) + "\n"


def read(folder: Path, file: Path, table: str | None = None, adapter: str = "table", **columns: str) -> Index:
    if table is not None:
        file.write_text(table, encoding="utf-8")
    return index_folder(folder, adapter, label_file=str(file), labels=Labels(columns=columns))


# --- paths of tables --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spelled",
    [
        "/data/set/{}".format,
        "set/{}".format,
        lambda path: "C:\\data\\" + path.replace("/", "\\"),
        lambda path: "../" + path.replace("/", "//./"),
        lambda path: f"images/{path.removesuffix('.dcm')}.png",
    ],
    ids=["absolute", "from above", "Windows", "detours", "another format"],
)
def test_paths_of_another_disk_find_their_files(spelled: Any, folder: Path, tmp_path: Path) -> None:
    found = read(folder, tmp_path / "t.csv", cancers(spelled), path="file")
    assert labels(found) == CANCERS
    assert found.rejections == []
    require_breasts(found)


def test_accents_are_compared_as_letters() -> None:
    assert path_key("Müller/1.dcm") == path_key("Mu\u0308ller/1.dcm")


@pytest.mark.parametrize("spelled", [str.lower, lambda path: f"elsewhere/{path[:-4]}-1.dcm"])
def test_a_table_of_paths_that_finds_no_file_is_an_error(spelled: Any, folder: Path, tmp_path: Path) -> None:
    """As a table of patients is: all breasts would be unlabelled without a word."""
    found = read(folder, tmp_path / "t.csv", cancers(spelled), path="file")
    with pytest.raises(
        LabelTableError, match=r"t\.csv: no row matches an imaged breast.*8 of 8 rows.*paths of the input's files"
    ):
        require_breasts(found)
    (rejection,) = found.rejections
    assert ("8 have the name of a file that is there, in other folders or another case" in rejection.detail) == (
        spelled is str.lower
    )


def test_a_row_of_the_very_path_counts_alone(folder: Path, tmp_path: Path) -> None:
    """Another row with more folders may be of another site's file."""
    found = read(folder, tmp_path / "t.csv", cancers(str, f"other/{PATHS[0]},0"), path="file")
    assert labels(found) == CANCERS
    assert reasons(found) == {"label table": "label_without_image"}


@pytest.mark.parametrize(
    ("spelled", "without"),
    [("p1/l_cc.dcm", "P1/L_CC.dcm"), ("/disk/P01/L_MLO.png", "P1/L_MLO.dcm"), ("A/P2/R _cc", "")],
    ids=["case", "zeros", "not so"],
)
def test_a_path_in_another_spelling_is_no_missing_row(spelled: str, without: str, folder: Path, tmp_path: Path) -> None:
    """The breast of a cancer was benign for want of a row, or by that of its other view."""
    rows = [f"{path},0" for path in PATHS if path.startswith("P1") and path != without]
    for normal, listed in ((True, [row for row in rows if "P1/L" not in row]), (False, rows)):
        (tmp_path / "t.csv").write_text("\n".join(["file,label", *listed, f"{spelled},1"]) + "\n")
        rules = Labels(columns={"path": "file"}, unlabelled="normal" if normal else "unlabelled")
        found = index_folder(folder, "table", label_file=str(tmp_path / "t.csv"), labels=rules)
        assert (("P1", "L") in labels(found)) == (not without)
        assert {labels(found)[breast] for breast in CANCERS if breast[0] == "P2"} == {0 if normal else -1}
    paths = ["a/x1.dcm", "b/x2.dcm", "b/x2.png"]
    assert nearly_listed(None, paths, paths, ["c/X1", "c/x2", "c/x3"]) == {"a/x1.dcm": ["c/X1"]}


def test_names_alone_find_no_other_patients_files(folder: Path, tmp_path: Path) -> None:
    """Where the input is one patient's folder, names of the other's images would fit, too."""
    different = r"line 2 and t\.csv, line {}: their paths begin in different folders.*Is the input folder"
    with pytest.raises(LabelTableError, match=different.format(6)):
        read(folder / "P1", tmp_path / "t.csv", cancers(), path="file")
    own = tmp_path / "own"
    for number, name in enumerate(PATHS[:2]):
        (own / Path(f"{number}.dcm")).parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, own / f"{number}.dcm")
    with pytest.raises(LabelTableError, match=different.format(3)):
        read(own, tmp_path / "t.csv", "file,label\nP8/0.dcm,1\nP9/1.dcm,0\n", path="file")


def test_the_exact_path_counts_before_a_longer_one(folder: Path, tmp_path: Path) -> None:
    """A file beside the listed ones that has the name of one takes no row from it."""
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    shutil.copy(own / PATHS[4], own / Path(PATHS[4]).name)
    found = read(own, tmp_path / "t.csv", cancers(), path="file")
    assert labels(found) == CANCERS


LOOSE = r"""
name: own
license: ours
path: '(?P<patient>P\d+).*?(?P<laterality>{sides}).*?(?P<view>CC|MLO)'
headers: {{studies_apart: false}}
identity: {{patient: [path], laterality: [path{more}], view: [path]}}
"""


def test_a_pattern_that_finds_both_sides_in_a_path_takes_none(tmp_path: Path) -> None:
    """A search takes the first: that of the folder."""
    own = tmp_path / "own"
    names = [Path(path).name for path in PATHS[:4]]
    for number, name in enumerate(names, 1):
        for n, path in enumerate((f"P1/{name}", f"P2/Left films/{name}", f"P3/Reader L/LATE {name}")):
            write_image(own / path, 4 * n + number)
    write_image(own / "P4/ALL CC/R_MLO.dcm", 20)  # side and view differ at once: it was an L CC
    (tmp_path / "own.yaml").write_text(LOOSE.format(sides="[LR]", more=""))
    found = index_folder(own, str(tmp_path / "own.yaml"))
    assert labels(found).keys() == {("P1", "L"), ("P1", "R"), ("P2", "L")}
    sides = {path: reason for path, reason in reasons(found).items() if reason == "laterality_conflict"}
    assert {"P2/Left films/R_CC.dcm", "P2/Left films/R_MLO.dcm"} < sides.keys()
    assert {path for path in sides if path.startswith("P3")} == {f"P3/Reader L/LATE {name}" for name in names}
    assert "P4/ALL CC/R_MLO.dcm" in sides


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ("P1_L_CC.png P1_L_CC-mask.png P1_R_CC.png", "P1_L_CC.png P1_R_CC.png"),
        ("P1_L_CC.png P1_L_CC_MASK2.png P1_R_CC.png", "P1_L_CC.png P1_R_CC.png"),
        ("P1_L_CC_img1.png P1_L_CC_img2.png P1_R_CC.png", "P1_L_CC_img1.png P1_L_CC_img2.png P1_R_CC.png"),
        ("P1_L_CC_image.png P1_L_CC_mask.png P1_L_MLO_image.png", "P1_L_MLO_image.png"),
        ("P1_L_CC.png P1_L_CC_2.png P1_L_CC_3fade.png", "P1_L_CC.png P1_L_CC_2.png P1_L_CC_3fade.png"),
        ("A/P1_L_CC.png B/P1_L_CC.png B/P1_L_MLO.png B/P2_L_MLO.png", "B/P2_L_MLO.png"),
        ("1P1_L_CC.png 2P1_L_CC.png P1_R_MLO.png", ""),
        ("A/P1_L_CC.png B/P1_L_MLO.png", "A/P1_L_CC.png B/P1_L_MLO.png"),
        ("P1_L_CC.png P1_L_CC.jpg", "P1_L_CC.png P1_L_CC.jpg"),
    ],
)
def test_paths_that_differ_in_what_the_pattern_does_not_read(paths: str, left: str, tmp_path: Path) -> None:
    """A mask was the mammogram, since its name came first; and women of two folders were one."""
    path = "path: '(?P<patient>P\\d+)_(?P<laterality>[LR])_(?P<view>CC|MLO)'"
    own = f"name: own\nlicense: ours\nformats: [png, jpeg]\nheaders: {{studies_apart: false}}\n{path}\n"
    (tmp_path / "own.yaml").write_text(own + "identity: {patient: [path], laterality: [path], view: [path]}\n")
    state_images = get_adapter(str(tmp_path / "own.yaml")).state_images
    assert state_images is not None
    for names in (paths.split(), paths.split()[::-1]):
        stated = state_images(names, LabelTable(), Labels())
        assert {name for name, said in stated.items() if not any(image.rejected for _, image in said)} == {*left.split()}


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ("B/b/P1_L_CC.jpg,B/Tumor masks/P1_L_CC.jpg,B/b/P1_L_MLO.jpg", "B/b/P1_L_CC.jpg,B/b/P1_L_MLO.jpg"),
        ("Birad/Birad/P1_L_CC.jpg,Birad/masks/P1_L_CC.jpg", "Birad/Birad/P1_L_CC.jpg"),
        ("B/one/P1_L_CC.jpg,B/two/P1_L_CC.jpg,B/one/P1_L_MLO.jpg", "B/one/P1_L_MLO.jpg"),
        ("B/2015/P1_L_CC.jpg,B/2018/P1_L_CC.jpg,B/2018/P1_L_MLO.jpg,B/2018/P2_L_CC.jpg", "B/2018/P2_L_CC.jpg"),
        ("B/b/P1_1_L_CC.jpg,B/b/P1_2_L_CC.jpg", "B/b/P1_1_L_CC.jpg,B/b/P1_2_L_CC.jpg"),
        ("B/b/P1_ L_CC.jpg,B/b/P1_L_CC.png", "B/b/P1_ L_CC.jpg,B/b/P1_L_CC.png"),
    ],
)
def test_paths_that_differ_within_the_pattern_in_what_it_does_not_read(paths: str, left: str, tmp_path: Path) -> None:
    """Masks in a folder beside that of the images were the mammograms, since their folder came first."""
    path = r"path: '^B[a-z]*/[^/]+/(?P<patient>P\d+)(?:_\d)?_ ?(?P<laterality>[LR])_(?P<view>CC|MLO)\.(jpg|png)$'"
    own = f"name: own\nlicense: ours\nformats: [png, jpeg]\nheaders: {{studies_apart: false}}\n{path}\n"
    (tmp_path / "own.yaml").write_text(own + "identity: {patient: [path], laterality: [path], view: [path]}\n")
    state_images = get_adapter(str(tmp_path / "own.yaml")).state_images
    assert state_images is not None
    for names in (paths.split(","), paths.split(",")[::-1]):
        stated = state_images(names, LabelTable(), Labels())
        assert {name for name, said in stated.items() if not any(image.rejected for _, image in said)} == {*left.split(",")}


@pytest.mark.parametrize(
    ("paths", "left"),
    [
        ("1.png 1-mask.png", "1.png"),
        ("mask/1.png original/1.png", ""),
        ("a/1.png clahe/1.png a/2.png", "a/1.png a/2.png"),  # views of one exam may be many: numbers tell them apart
        ("1.png 1-mask.dcm mask.dcm", "1.png 1-mask.dcm mask.dcm"),  # headers tell
    ],
)
def test_rows_that_list_masks_as_mammograms(paths: str, left: str, tmp_path: Path) -> None:
    """A mask was the mammogram, since its name came first."""
    row = ListedImage("table.csv, line 2", patient="1", laterality=Laterality.LEFT, view="CC")
    table = LabelTable(listed={path_key(path): replace(row, place=path) for path in paths.split()})
    own = "name: own\nlicense: ours\nidentity: {patient: [table], laterality: [table], view: [table]}\ntables:\n"
    own += "  - {file: table.csv, path: file, columns: {patient: pid, laterality: side, view: view}}\n"
    (tmp_path / "own.yaml").write_text(own)
    state_images = get_adapter(str(tmp_path / "own.yaml")).state_images
    assert state_images is not None
    for names in (paths.split(), paths.split()[::-1]):
        stated = state_images(names, table, Labels())
        assert {name for name, said in stated.items() if not any(image.rejected for _, image in said)} == {*left.split()}


def test_a_word_of_a_path_that_is_no_side_is_named(folder: Path, tmp_path: Path) -> None:
    """It may contradict the header, which would speak alone."""
    own = tmp_path / "own"
    for path in PATHS[:4]:
        (own / "P1").mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / path, own / path.replace("/L_", "/der_").replace("/R_", "/izq_"))
    (tmp_path / "own.yaml").write_text(LOOSE.format(sides="izq|der", more=", header"))
    found = index_folder(own, str(tmp_path / "own.yaml"))
    assert set(reasons(found).values()) == {"image_excluded"} and len(found.rejections) == 4
    assert found.rejections[0].detail == "the path: laterality is 'der'; expected L or R"


# --- cells without a value --------------------------------------------------------------------------------------------

TABLE = """
name: own
license: ours
headers: {studies_apart: false}
identity: {patient: [table], laterality: [table], view: [table]}
targets: {stage: {meaning: of the cancer}}
tables:
  - file: t.csv
    path: file
    combine: first
    label:
      - {when: {diagnosis: [C50]}, then: malignant}
      - {when: {diagnosis: ["", pending]}, then: unlabelled}
      - {then: benign}
    columns: {patient: pid, laterality: side, view: view, density: acr, bi_rads: birads, stage: stage, pathology: diagnosis}
"""


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


# --- merged cells -----------------------------------------------------------------------------------------------------

HEAD = ["patient_id", "laterality", "label", "note"]
ROWS = [["P1", "L", 1, "x"], ["P1", "R", None, None], ["P2", "L", 0, None], ["P2", "R", 1, None]]


def merged(file: Path, cells: str, rows: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    sheet = book.worksheets[0]
    for row in rows:
        sheet.append(row)
    sheet.merge_cells(cells)
    book.save(file)
    return file


@pytest.mark.parametrize(
    ("cells", "rows", "line", "column"),
    [
        ("C2:C3", [HEAD, *ROWS], 3, "label"),
        ("C1:C3", [HEAD, ["P1", "L", None, "x"], *ROWS[1:]], 2, "label"),
        ("B2:C2", [HEAD, ["P1", "L", None, "x"], *ROWS[1:]], 2, "label"),
        ("A2:A3", [HEAD, ["P1", "L", 1, "x"], [None, "R", 0, None], *ROWS[2:]], 3, "patient_id"),
        ("C4:D5", [HEAD, ["P1", "L", 1], ["P1", "R", 0], ["P2", "L", 1], ["P2", "R"]], 5, "label"),
    ],
)
def test_merged_cells_are_no_empty_cells(
    cells: str, rows: list[list[Any]], line: int, column: str, folder: Path, tmp_path: Path
) -> None:
    """The first alone has the value: the second breast was unlabelled without a word."""
    file = merged(tmp_path / "t.xlsx", cells, rows)
    with pytest.raises(LabelTableError, match=rf"t\.xlsx, line {line}: the cell of {column} is merged with others"):
        read(folder, file)


@pytest.mark.parametrize("cells", ["D2:D5", "C2:D2", "A6:D8", "A8:C9", "D1:E1"])
def test_merged_cells_that_hide_nothing(cells: str, folder: Path, tmp_path: Path) -> None:
    """In columns that are not read, and below the table."""
    full = [["P1", "L", 1, "x"], ["P1", "R", 0, None], ["P2", "L", 0, None], ["P2", "R", 1, None]]
    assert labels(read(folder, merged(tmp_path / "t.xlsx", cells, [HEAD, *full]))) == CANCERS
    remark: list[list[Any]] = [["n", *HEAD], *([i, *row] for i, row in enumerate(full)), ["a remark below the table"]]
    assert labels(read(folder, merged(tmp_path / "t.xlsx", "A6:E8", remark))) == CANCERS


def test_merged_cells_of_a_case_are_named(folder: Path, tmp_path: Path) -> None:
    """Columns that the label rule reads, and no fact."""
    own = Path(shutil.copytree(folder, tmp_path / "dicom"))
    (tmp_path / "own.yaml").write_text(TABLE.replace("t.csv", "t.xlsx").replace(", pathology: diagnosis", ""))
    rows = [[path, patient, side, view, "C50"] for (patient, side, view), path in zip(PLACES, PATHS, strict=True)]
    merged(own / "t.xlsx", "E2:E9", [["file", "pid", "side", "view", "diagnosis"], *rows])
    with pytest.raises(LabelTableError, match=r"line 3: the cell of diagnosis is merged"):
        index_folder(own, str(tmp_path / "own.yaml"))


def test_labels_of_first_rows_alone_are_noted(folder: Path, tmp_path: Path) -> None:
    """As a spreadsheet saves merged cells to CSV."""
    head = "patient_id,laterality,label\n"
    found = read(folder, tmp_path / "t.csv", head + "P1,L,1\nP1,R,\nP2,L,0\nP2,R,\n")
    assert labels(found) == {**CANCERS, ("P1", "R"): -1, ("P2", "R"): -1}
    assert reasons(found) == {"label table": "label_without_image"}
    assert (
        "t.csv: of each patient with several rows the first alone has a label, as merged cells leave it" in found.label_hints[0]
    )
    for rows in ("P1,L,1\nP1,R,\nP2,L,0\nP2,R,1\n", "P1,L,1\nP1,R,unlabelled\nP2,L,0\nP2,R,-1\n", "P1,L,1\nP2,L,0\n"):
        assert read(folder, tmp_path / "t.csv", head + rows).label_hints == ()


# --- forms ------------------------------------------------------------------------------------------------------------


def test_bars_between_columns(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('a|b|c\n1|"x|y"|2,3\n')
    assert [dict(row.cells) for row in read_table(tmp_path / "t.csv", ["a"])] == [{"a": "1", "b": "x|y", "c": "2,3"}]
    (tmp_path / "t.csv").write_text("made in 2020\na,b,c\n1,2,3\n")
    with pytest.raises(LabelTableError, match=r"line 1: column 'a' is missing.*separated by.*is this line the heading\?"):
        read_table(tmp_path / "t.csv", ["a"])


def test_another_word_of_a_label_says_where_words_are_given(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"label is 'True'; expected 1 or malignant.*--class CELL=LABEL"):
        read(folder, tmp_path / "t.csv", "patient_id,laterality,label\nP1,L,True\n")


def test_images_of_another_format_are_named_as_images(folder: Path, tmp_path: Path) -> None:
    """Half of a data set may lie there as PNG: what is passed over is not a readme."""
    own = Path(shutil.copytree(folder / "P1", tmp_path / "dicom"))
    (own / "readme.txt").write_text("of the publisher")
    write_image(own / "L_CC.png", 1, form="png")
    found = index_folder(own, "table")
    assert found.passed_over.images == ("L_CC.png",) and found.passed_over.others == ("readme.txt",)
    assert next(found.passed_over.describe()).startswith("1 image file(s) of a format that the data set does not state")
    with pytest.raises(
        InputError, match=r"no TIFF file; found 5 image file\(s\) of a format.*\(`formats`\): L_CC\.dcm, L_CC\.png"
    ):
        index_folder(own, "table", formats=("tiff",))


def test_a_view_that_neither_header_nor_row_has_is_told_so(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "x.dcm", 1, PatientID="P1", ImageLaterality="L")
    (tmp_path / "t.csv").write_text("file,label,view\nx.dcm,1,\n")
    columns = Labels(columns={"path": "file"})
    found = index_folder(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels=columns)
    detail = next(each.detail for each in found.rejections if each.what == "x.dcm")
    assert "nor ViewPosition is given; nor does label table or path give one (" in detail and "its cell is empty" in detail


def test_files_without_a_header_are_told_what_they_lack(tmp_path: Path) -> None:
    """No element of a DICOM header, which a PNG cannot have."""
    own, rows = tmp_path / "own", list[str]()
    for number, ((patient, side, view), path) in enumerate(zip(PLACES, PATHS, strict=True), 1):
        write_image(own / path.replace("dcm", "png"), number, side, view, form="png")
        rows.append(f"{path},{patient},{side},{view},1")
    table = "\n".join(["file,pid,side,view,label", *rows])
    columns = {"path": "file", "patient": "pid", "laterality": "side"}
    (tmp_path / "t.csv").write_text(table)

    def found(columns: dict[str, str]) -> Index:
        settings = {"label_file": str(tmp_path / "t.csv"), "formats": ("png",), "labels": Labels(columns=columns)}
        return index_folder(own, "table", **settings)

    for given, fact in ((columns, "the exam"), ({"path": "file", "exam": "pid"}, "a side")):
        rejections = found(given).rejections
        assert len(rejections) == 8 and all(f"neither label table nor path gives {fact}" in each.detail for each in rejections)
    assert "the column of the patient can name it" in found(columns).rejections[0].detail
    assert labels(found(columns | {"exam": "pid"})) == {(patient, side): 1 for patient in ("P1", "P2") for side in "LR"}


def test_facts_in_which_rows_of_a_breast_differ_are_named(folder: Path, tmp_path: Path) -> None:
    """Their labels are the same."""
    lines = cancers().replace("file,label", "file,label,acr").splitlines()
    table = "\n".join([lines[0], *(f"{line},{'AB'[number % 2]}" for number, line in enumerate(lines[1:]))])
    found = read(folder, tmp_path / "t.csv", table, path="file", density="acr")
    assert found.rejections[0].detail == (
        "t.csv, line 2 and t.csv, line 3: disagree about this exam of the breast (density); expected one value"
    )


def test_a_path_that_the_pattern_does_not_fit_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(LOOSE.format(sides="links|rechts", more=""))
    found = index_folder(folder, str(tmp_path / "own.yaml"))
    assert {rejection.reason.value for rejection in found.rejections} == {"view_missing"}
    assert "the pattern `path` does not fit it" in found.rejections[0].detail


# --- words, merged cells and separators -------------------------------------------------------------------------------


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


def test_remarks_beside_the_table_may_be_merged(folder: Path, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in csv.reader(cancers().splitlines()):
        book.worksheets[0].append(row)
    book.worksheets[0]["E12"] = "a remark"
    book.worksheets[0].merge_cells("E12:F12")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(LabelTableError, match="cells; the heading has 2"):
        read(folder, tmp_path / "t.xlsx", path="file")


def test_pipes_in_a_heading_with_commas_are_text(folder: Path, tmp_path: Path) -> None:
    table = cancers().replace("file,label", "file,label,note (a|b|c|d)")
    assert labels(read(folder, tmp_path / "t.csv", table, path="file")) == CANCERS


def test_a_row_of_an_image_of_another_patient_is_named(folder: Path, tmp_path: Path) -> None:
    """Its label went to the patient that it names, and the header of the image was compared in side and view alone."""
    heading, columns = "patient_id,laterality,view,label,sop\n", {"instance": "sop", "view": "view"}
    table = heading + "P1,L,CC,1,2.25.1\nP1,L,MLO,1,2.25.6\n"  # the second is P2's
    found = read(folder, tmp_path / "t.csv", table, **columns)
    assert reasons(found) == {PATHS[5]: "identifier_conflict", found.rejections[-1].what: "mlo_missing"}
    assert "line 3) describes another patient or exam than the header" in found.rejections[0].detail
    assert read(folder, tmp_path / "t.csv", table.replace("2.25.6", "2.25.2"), **columns).rejections == []
    with pytest.raises(LabelTableError, match="lines 2 and 3: list one image"):
        read(folder, tmp_path / "t.csv", heading + "P1,L,CC,1,2.25.1\nP2,L,CC,0,2.25.1\n", **columns)


@pytest.mark.parametrize(("exam", "named", "left"), [("A1", "A1", 0), ("A2", "A1", 1), ("A9", "A1", 0), ("A2", "", 0)])
def test_a_row_of_an_image_of_another_exam_is_named(exam: str, named: str, left: int) -> None:
    """Where that exam is imaged, and the header of the image names one."""
    records = [
        record(n, patient_id="P1", study=n, accession=a, sop_instance_uid=f"2.25.{n}") for n, a in (("1", named), ("2", "A2"))
    ]
    row = ImageFacts(2, patient="P1", exam=Exam(accession=exam))  # A9 is not imaged
    rows = BreastLabels(LabelTable(images={"2.25.1": row}))
    assert [each.what for each in contradictions(records, rows)] == ["1"][:left]


def test_rows_of_one_image_may_each_have_a_box(folder: Path, tmp_path: Path) -> None:
    columns = {"path": "file", "category": "kind", "top": "y1", "bottom": "y2", "left": "x1", "right": "x2"}
    heading, row = "file,label,kind,x1,y1,x2,y2\n", f"{PATHS[0]},1,mass,10,20,30,40\n"
    other = row.replace("mass,10", "calcification,15")
    found = read(folder, tmp_path / "t.csv", f"{heading}{row}{other}{row}{PATHS[1]},1,,,,,\n", **columns)
    (breast,) = (breast for breast in found.breasts if any(breast.findings))
    assert [(box.category, box.left) for box in breast.findings[0]] == [("mass", 10.0), ("calcification", 15.0)]
    for wrong in (other.replace(",1,", ",0,"), f"{PATHS[0]},1,,,,,\n"):
        with pytest.raises(LabelTableError, match="line 2 and line 3: list one image and differ"):
            read(folder, tmp_path / "t.csv", heading + row + wrong, **columns)


def test_a_box_may_have_a_width_and_a_height(folder: Path, tmp_path: Path) -> None:
    """As COCO has it; where most are wrong, the message names the column."""
    columns = {"path": "file", "category": "kind", "left": "x", "top": "y", "width": "w", "height": "h"}
    heading, none = "file,label,kind,x,y,w,h\n", "".join(f"{PATHS[1]},1,,{box}\n" for box in (",,,", "0,0,0,0", "-1,-1,-1,-1"))
    found = read(folder, tmp_path / "t.csv", f"{heading}{PATHS[0]},1,mass,10,20,30,40\n{none}", **columns)
    assert [box for breast in found.breasts for box in breast.findings[0]] == [Finding("mass", None, 20.0, 60.0, 10.0, 40.0)]
    for numbers, message in {
        "10,20,0,40": "w is '0'; expected more than 0",
        "10,20,30,-2": "h is '-2'; expected more than 0",
        "10,20,,40": "w is missing; expected all four of a box: top, height, left, width",
        ".1,.2,.3,.4": "w is '.3'; expected a box in pixels",
    }.items():
        with pytest.raises(LabelTableError, match=f"line 2: {message}"):
            read(folder, tmp_path / "t.csv", heading + "".join(f"{path},1,mass,{numbers}\n" for path in PATHS[:2]), **columns)
    with pytest.raises(LabelTableError, match=r"line 2: w is '30'; .* not width and height \(which are facts of these names\)"):
        edges = {"right" if fact == "width" else "bottom" if fact == "height" else fact: c for fact, c in columns.items()}
        read(folder, tmp_path / "t.csv", heading + "".join(f"{path},1,mass,100,20,30,40\n" for path in PATHS[:2]), **edges)
    with pytest.raises(ParameterError, match="a column of width does nothing beside one of the edge that it gives"):
        read(folder, tmp_path / "t.csv", heading + none, right="w", **columns)


def test_a_table_that_contradicts_all_headers_says_so(folder: Path, tmp_path: Path) -> None:
    table = f"file,label,laterality\n{PATHS[0]},1,R\n{PATHS[1]},1,R\n"
    with pytest.raises(
        LabelTableError, match=r"the images that it describes are rejected.* most often laterality_conflict .2 times"
    ):
        require_breasts(read(folder, tmp_path / "t.csv", table, path="file"))


def test_boxes_of_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    """In VinDr-Mammo's second table: in one line for all, and only rows with a box."""
    make_tree("vindr", tmp_path)
    table = tmp_path / "finding_annotations.csv"
    there = len({row["image_id"] for row in read_table(table, ["image_id"]) if row["xmin"]})
    assert "label table" not in reasons(index_folder(tmp_path, "vindr"))
    with open(table, encoding="utf-8", newline="") as file:
        (row, *_) = csv.DictReader(file)
    with open(table, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, row.keys())
        writer.writerows({**row, "image_id": uid} for uid in ("2.25.901", "2.25.901", "2.25.902"))
        writer.writerow({**row, "image_id": "2.25.903", **dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), "")})
    found = index_folder(tmp_path, "vindr").rejections
    (rejection,) = (each for each in found if each.what == "label table")
    assert rejection.reason is Reason.LABEL_WITHOUT_IMAGE
    assert rejection.detail.startswith(f"the boxes of 2 of {there + 2} image(s) are left out")


EXAM_NAMES = [{}, {"exam": "visit"}, {"study_date": "day"}, {"accession": "number"}]


def with_a_missing_view(tmp_path: Path) -> Path:
    """A CC without a cancer, and rows about it and its MLO, which has one and is not there; the header tells study alone."""
    write_image(tmp_path / "d" / "cc.dcm", 1, Laterality.LEFT, View.CC, PatientID="P1", ImageLaterality="L", ViewPosition="CC")
    rows = "".join(f"{view}.dcm,P1,L,{view},v1,20200101,N1,{label}\n" for view, label in (("cc", 0), ("mlo", 1)))
    (tmp_path / "t.csv").write_text(f"file,patient_id,laterality,view,visit,day,number,label\n{rows}")
    return tmp_path / "d"


@pytest.mark.parametrize("named", EXAM_NAMES)
def test_a_missing_view_of_the_same_exam_contradicts_the_other(named: dict[str, str], tmp_path: Path) -> None:
    """The row names the exam in words that its header does not have, or not at all: the breast was benign for `cc`."""
    folder = with_a_missing_view(tmp_path)
    found = read(folder, tmp_path / "t.csv", path="file", **named)
    (unpaired,) = found.unpaired
    assert unpaired.label_rejection and unpaired.label_rejection.reason is Reason.LABEL_AMBIGUOUS
    (tmp_path / "t.csv").write_text((tmp_path / "t.csv").read_text().replace("N1,1", "N1,0"))
    (unpaired,) = read(folder, tmp_path / "t.csv", path="file", **named).unpaired
    assert (unpaired.breast.facts.label, unpaired.label_rejection) == (0, None)


@pytest.mark.parametrize("named", EXAM_NAMES)
def test_a_missing_view_of_the_same_exam_decides_where_the_worst_row_does(named: dict[str, str], tmp_path: Path) -> None:
    """But not one that names no exam: it may be of another."""
    folder, columns = with_a_missing_view(tmp_path), {**named, "patient": "patient_id", "laterality": "laterality"}
    lines = "".join(f"      {fact}: {column}\n" for fact, column in columns.items())
    exam = ", exam: [header, table]" if "exam" in named else ""
    (tmp_path / "own.yaml").write_text(
        f"name: own\nlicense: ours\nidentity: {{patient: [header, table], laterality: [header, table]{exam}}}\n"
        f"tables:\n  - file: t.csv\n    path: file\n    combine: worst\n    label: label\n    columns:\n{lines}"
        '      label: {column: label, values: {"1": malignant, "0": benign}}\n'
    )
    (unpaired,) = read(folder, tmp_path / "t.csv", adapter=str(tmp_path / "own.yaml")).unpaired
    assert (unpaired.breast.facts.label, unpaired.label_rejection) == (int(bool(named)), None)


@pytest.mark.parametrize(
    ("of_images", "path"), [("from_path: true", "path: '^(?P<woman>P1)/'\n"), ("file: images.csv, path: file", "")]
)
def test_a_second_table_adds_to_breasts_of_images_and_paths(of_images: str, path: str, folder: Path, tmp_path: Path) -> None:
    """Its facts were lost, with the warning that no row of the label table describes these breasts."""
    root = shutil.copytree(folder, tmp_path / "d")
    (root / "images.csv").write_text("file,woman\n" + "".join(f"{file},P1\n" for file in PATHS if file.startswith("P1")))
    (root / "reports.csv").write_text("pid,side,acr\nP1,L,2\nP2,R,4\nP3,L,1\n")
    (tmp_path / "own.yaml").write_text(
        f"name: own\nlicense: ours\nhashed: false\n{path}tables:\n"
        f"  - {{{of_images}, label: [{{when: {{woman: P1}}, then: benign}}, {{then: unlabelled}}]}}\n"
        "  - {file: reports.csv, adds: true, columns: {patient: pid, laterality: side, density: acr}}\n"
    )
    found = index_folder(root, str(tmp_path / "own.yaml"))
    density = {(b.key.patient, b.key.laterality.value): b.facts.density for b in found.breasts}
    assert density == {("P1", "L"): "B", ("P1", "R"): "", ("P2", "L"): "", ("P2", "R"): ""}
    (note,) = found.label_hints
    assert note.startswith("2 row(s) or file(s) add facts to breasts that no row of the label table describes")


BOXED = """
name: own
license: ours
tables:
  - file: t.csv
    label: label
    columns: {patient: patient_id, laterality: laterality, label: {column: label, values: {"1": malignant, "0": benign}}}
  - file: boxes.csv
    path: file
    columns: {left: l, right: r, top: t, bottom: b}
"""


def test_a_breast_that_a_box_alone_describes_is_not_normal(folder: Path, tmp_path: Path) -> None:
    root = shutil.copytree(folder, tmp_path / "d")
    (tmp_path / "own.yaml").write_text(BOXED)
    (root / "t.csv").write_text("patient_id,laterality,label\nP1,L,1\n")
    (root / "boxes.csv").write_text("file,l,r,t,b\nP2/L_CC.dcm,5,9,5,9\nP2/R_CC.dcm,,,,\n")
    found = index_folder(root, str(tmp_path / "own.yaml"), labels=Labels(unlabelled="normal"))
    assert labels(found) == {("P1", "L"): 1, ("P1", "R"): 0, ("P2", "L"): -1, ("P2", "R"): 0}


# --- rows by SOP Instance UID ----------------------------------------------------------------------------------------

BY_UID = """
name: own
license: ours
hashed: false
tables:
  - file: t.csv
    instance: uid
    combine: worst
    label: [{when: {path: carcinoma}, then: malignant}, {when: {path: ok}, then: benign}, {then: unlabelled}]
    columns: {laterality: side}
"""


def by_uid(folder: Path, tmp_path: Path, declaration: str, changed: dict[str, dict[str, str]]) -> Index:
    """The table of all images, `changed` by path: side and pathology of each row."""
    (tmp_path / "own.yaml").write_text(declaration)
    rows = [
        {"uid": f"2.25.{n}", "file": path, "woman": patient, "side": side.value, "path": "ok"} | changed.get(path, {})
        for n, ((patient, side, _), path) in enumerate(zip(PLACES, PATHS, strict=True), 1)
    ]
    write_table(tmp_path / "t.csv", rows)
    return index_folder(folder, str(tmp_path / "own.yaml"), label_file=str(tmp_path / "t.csv"))


def test_rows_by_uid_without_a_patient_label_the_breasts_that_are_shown(folder: Path, tmp_path: Path) -> None:
    """Their label rule did nothing, in silence; columns of boxes were missing."""
    found = by_uid(folder, tmp_path, BY_UID, {"P1/L_CC.dcm": {"path": "carcinoma"}, "P2/R_CC.dcm": {"uid": "2.25.99"}})
    assert labels(found) == {("P1", "L"): 1, ("P1", "R"): 0, ("P2", "L"): 0, ("P2", "R"): 0}
    assert found.label_hints == ("1 of 8 image(s) with rows, by SOP Instance UID: the input has no usable one",)
    same = BY_UID.replace("combine: worst", "combine: same")
    found = by_uid(folder, tmp_path, same, {"P1/L_CC.dcm": {"path": "carcinoma"}})
    assert list(reasons(found).values()) == ["label_ambiguous"]  # the other image of the breast is benign


def test_an_own_table_by_uid_needs_no_patient(folder: Path, tmp_path: Path) -> None:
    rows = [f"2.25.{n},{CANCERS[patient, side]}" for n, (patient, side, _) in enumerate(PLACES, 1)]
    table = "\n".join(["uid,cancer", *rows])
    assert labels(read(folder, tmp_path / "t.csv", table, instance="uid", label="cancer")) == CANCERS
    for fact, column in {"patient": "pid", "laterality": "side", "instance": "id"}.items():
        with pytest.raises(LabelTableError, match=f"column '{column}' is missing"):
            read(folder, tmp_path / "t.csv", table, **{"instance": "uid", "label": "cancer", fact: column})
    with pytest.raises(LabelTableError, match=r"column 'patient_id' is missing.* is it 'PatientID'"):
        read(folder, tmp_path / "t.csv", table.replace("cancer", "cancer,PatientID"), instance="uid", label="cancer")


@pytest.mark.parametrize(
    "declaration",
    [
        BY_UID,
        BY_UID.replace("{laterality: side}", "{laterality: side, patient: woman}"),
        BY_UID.replace("instance: uid", "path: file"),
        # The header contradicts the row: the image is rejected before it is paired.
        BY_UID.replace("instance: uid", "path: file")
        .replace("{laterality: side}", "{laterality: side, patient: woman}")
        .replace(
            "tables:",
            "headers: {studies_apart: false}\nidentity: {patient: [header, table], laterality: [header, table]}\ntables:",
        ),
    ],
)
def test_a_row_of_the_wrong_side_labels_neither_breast(declaration: str, folder: Path, tmp_path: Path) -> None:
    """The other breast was malignant, or the remaining view of this one."""
    found = by_uid(folder, tmp_path, declaration, {"P1/L_CC.dcm": {"side": "R", "path": "carcinoma"}})
    assert labels(found) == {("P2", "L"): 0, ("P2", "R"): 0}
    (left,) = found.unpaired
    assert left.label_rejection is not None and left.label_rejection.reason is Reason.LABEL_AMBIGUOUS
    assert {"cc_missing", "label_ambiguous", "laterality_conflict"} <= {*reasons(found).values()}


def test_a_row_of_the_wrong_side_leaves_a_label_that_other_rows_give(folder: Path, tmp_path: Path) -> None:
    declaration = BY_UID.replace("{laterality: side}", "{laterality: side, patient: woman}")
    found = by_uid(folder, tmp_path, declaration, {"P1/L_CC.dcm": {"side": "R"}})
    assert labels(found) == {("P1", "R"): 0, ("P2", "L"): 0, ("P2", "R"): 0}
    assert [left.breast.facts.label for left in found.unpaired] == [0]


@pytest.mark.parametrize(("column", "fact"), [("study_date_x", "study_date"), ("exam_date", "study_date"), ("exam_y", "exam")])
def test_a_column_that_may_tell_exams_apart_is_not_passed_over(column: str, fact: str, folder: Path, tmp_path: Path) -> None:
    """The one row of a breast, of an exam that is not imaged, would label the one that is."""
    own = tmp_path / "own.csv"
    write_table(own, [{"patient_id": "P1", "laterality": "L", "label": 1, column: "2015-03-01"}])
    with pytest.raises(LabelTableError, match=f"column '{column}' is not read; expected '{fact}' for {fact}"):
        index_folder(folder, "table", label_file=str(own))
    write_table(own, [{"patient_id": "P1", "laterality": "L", "label": 1, "study_uid": "1.2", "exam_date": "2015-03-01"}])
    assert index_folder(folder, "table", label_file=str(own)).breasts  # by its UID the exam is another


@pytest.mark.parametrize(
    ("dates", "known"),
    [
        (("2015", "2015-06"), False), (("2015-06-20", "201506"), False), (("2015-06-20 00:00:00", "2015.0"), False),
        (("2015", "2016-06"), True), (("2015-06", "201506"), True), (("2015-06-20", "2015-06-20 00:00:00"), True),
    ],
)  # fmt: skip
def test_a_year_and_a_day_in_it_are_in_no_order(dates: tuple[str, str], known: bool, folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    rows = [{"file": path, "pid": path[:2], "label": 0, "day": dates[number // 2 % 2]} for number, path in enumerate(PATHS)]
    write_table(own, rows)
    rules = Labels(columns={"path": "file", "patient": "pid", "exam_date": "day"})
    if known:
        assert index_folder(folder, "table", label_file=str(own), labels=rules).files
    else:
        with pytest.raises(LabelTableError, match=r"own.csv, line 2 and .*own.csv, line 4: dates of two exams of one patient"):
            index_folder(folder, "table", label_file=str(own), labels=rules)
