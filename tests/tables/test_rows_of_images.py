"""Rows about images, by path or UID, and about the breasts that they show."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import ImageFacts, LabelTable
from fvpipe.errors import InputError, LabelTableError, ParameterError
from fvpipe.indexing.index import Index
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.contradictions import contradictions
from fvpipe.indexing.rejections import require_breasts
from fvpipe.io.tables import read_table
from fvpipe.reasons import Reason
from fvpipe.testing import index_folder, make_tree, write_image, write_table
from fvpipe.types import Exam, Finding, Laterality, View
from tests.support.declared import labels, reasons
from tests.support.user_tables import CANCERS, PATHS, PLACES, cancers, read
from tests.test_pairing import image as record


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
