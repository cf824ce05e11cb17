"""Tables of paths, and patterns of paths, that nobody foresaw: each finds its own file, or is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import LabelTable, ListedImage
from fvpipe.datasets.declared.listed_images import path_key
from fvpipe.datasets.declared.stated_images import nearly_listed
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.indexing.rejections import require_breasts
from fvpipe.testing import index_folder, write_image
from fvpipe.types import Laterality
from tests.support.declared import labels, reasons
from tests.support.user_tables import CANCERS, PATHS, cancers, read


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
    # A name that several rows have tells nothing: the files of one patient have the names of other patients' images.
    assert not nearly_listed(None, ["p5/l_cc.png"], ["p5/l_cc.png"], ["P1/L_CC", "P2/L_CC"])


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


@pytest.mark.parametrize("combine", ["worst", "first"])
@pytest.mark.parametrize(
    "others", [["cc_spot.png,CC"], ["lateral.png,ML"], ["lateral.png,ML", "spot.png,ML"]], ids=["spot", "lateral", "two"]
)
def test_the_rows_of_images_that_are_left_out_for_words_count(others: list[str], combine: str, tmp_path: Path) -> None:
    """A cancer is one of the breast, whichever image shows it: it was benign where that of a spot view alone was malignant."""
    rows = ["cc.png,CC,0", "mlo.png,MLO,0", *(f"{other},1" for other in others)]
    (tmp_path / "in").mkdir()
    for row in rows:
        Image.new("L", (80, 120), 7).save(tmp_path / "in" / row.partition(",")[0])
    (tmp_path / "t.csv").write_text("\n".join(["file,view,label,pid,side", *(f"{row},P1,L" for row in rows)]) + "\n")
    (tmp_path / "own.yaml").write_text(
        "name: own\nlicense: ours\nformats: [png]\nheaders: {studies_apart: false}\n"
        "identity: {patient: [table], laterality: [table], view: [table]}\ntables:\n"
        f"  - {{file: t.csv, path: file, combine: {combine}, label: label, columns: {{patient: pid, laterality: side,\n"
        "      view: view, label: {column: label, values: {'1': malignant, '0': benign}}}}\n"
    )
    found = index_folder(tmp_path / "in", str(tmp_path / "own.yaml"), label_file=str(tmp_path / "t.csv"))
    assert labels(found) == ({("P1", "L"): 1} if combine == "worst" else {})
    assert ("label_ambiguous" in reasons(found).values()) == (combine == "first")
    reason = "image_kind_refused" if others == ["cc_spot.png,CC"] else "view_not_pairable"
    assert {reasons(found)[other.partition(",")[0]] for other in others} == {reason}


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


def test_a_path_that_the_pattern_does_not_fit_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(LOOSE.format(sides="links|rechts", more=""))
    found = index_folder(folder, str(tmp_path / "own.yaml"))
    assert {rejection.reason.value for rejection in found.rejections} == {"view_missing"}
    assert "the pattern `path` does not fit it" in found.rejections[0].detail
