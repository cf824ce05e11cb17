"""KAU-BCMD: simulated trees of JPEG files in its form, with each trap of the real one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fvpipe.config.project import Labels
from tests.support.declared import index, jpeg_image, labels, reasons

VIEWS = ("CC_L", "MLO_L", "CC_R", "MLO_R")


def kau(root: Path, cases: Mapping[str, tuple[str, ...]]) -> Path:
    """KAU-BCMD's form: `cases` is folder of BI-RADS and case -> ends of the names of its files."""
    number = 0
    for where, ends in cases.items():
        for end in ends:
            number += 1
            jpeg_image(root / where / f"{where.rpartition('/')[2]}_{end}.jpg", number)
    return root


def test_kau_labels_what_the_bi_rads_of_a_case_says_of_both_breasts(tmp_path: Path) -> None:
    cases = {f"Birad{bi_rads}/2018_BC00{bi_rads}": VIEWS for bi_rads in (1, 3, 4, 5)}
    found = index(kau(tmp_path / "kau", cases), "kau-bcmd")
    assert labels(found) == {(f"BC00{bi_rads}", side): 0 for bi_rads in (1, 3) for side in "LR"}
    assert {breast.facts.bi_rads for breast in found.breasts} == {None}  # it is that of the case
    assert found.breasts[0].facts.place == "the path of 2018_BC001_CC_L.jpg"
    assert {breast.facts.pathology for breast in found.breasts} == {"BI-RADS 1 of the case", "BI-RADS 3 of the case"}
    excluded = [rejection for rejection in found.rejections if rejection.reason.value == "label_excluded"]
    assert len(excluded) == len(found.rejections) == 4
    assert excluded[0].detail == "BI-RADS 4 or 5 of the case, which does not tell the breast"


def test_kau_options_decide_over_what_is_uncertain(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad3/2018_BC003": VIEWS, "Birad5/2018_BC005": VIEWS})
    options = {"probably_benign": "excluded: not followed up", "suspicious": "unlabelled"}
    found = index(root, "kau-bcmd", labels=Labels(options=options))
    assert labels(found) == {("BC005", "L"): -1, ("BC005", "R"): -1}


@pytest.mark.parametrize("ends", [VIEWS, VIEWS[2:]])
def test_kau_case_in_two_folders_is_left_out(ends: tuple[str, ...], tmp_path: Path) -> None:
    """Whether the second folder repeats the images, or has those of the other breast."""
    cases = {"Birad1/2018_BC005421": VIEWS[:2] if ends != VIEWS else VIEWS, "Birad5/2018_BC005421": ends}
    found = index(kau(tmp_path / "kau", cases | {"Birad1/2019_BC005421": VIEWS}), "kau-bcmd")
    assert labels(found) == {("BC005421", "L"): 0, ("BC005421", "R"): 0}  # another year is another exam
    assert set(reasons(found).values()) == {"image_excluded"}
    assert "several values of bi_rads; expected one" in found.rejections[0].detail


def test_kau_names_with_spaces_and_files_of_a_mac(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad1/2018_BC0021642": (" MLO_L", "CC_L ", "CC _R", "MLO_ R")})
    (root / "Birad1" / "2018_BC0021642" / "._2018_BC0021642_CC_L.jpg").write_bytes(b"\0\5\x16\7")
    (root / "Birad1" / ".DS_Store").write_bytes(b"\0")
    found = index(root, "kau-bcmd")
    assert labels(found) == {("BC0021642", "L"): 0, ("BC0021642", "R"): 0}
    assert not found.rejections


def test_kau_folders_hold_several_cases_or_none_are_there(tmp_path: Path) -> None:
    names = [(f"BIRAD1/b1/2018_BC001_ {end}", f"Birad3/2018_BC003_{end}") for end in VIEWS]
    for number, name in enumerate(name for both in names for name in both):
        jpeg_image(tmp_path / "kau" / f"{name}.jpg", number)
    found = index(tmp_path / "kau", "kau-bcmd")
    assert labels(found) == {(case, side): 0 for case in ("BC001", "BC003") for side in "LR"} and not found.rejections


def test_kau_masks_are_no_mammograms(tmp_path: Path) -> None:
    """They lie in a folder beside that of the images, and have their names; of the second case the images are missing."""
    names = [f"Birad3/b3/2018_BC001_ {each}" for each in VIEWS]
    names += [f"Birad3/Tumor masks/2018_BC00{case}_ {each}" for case in (1, 2) for each in VIEWS]
    for number, name in enumerate(names, 1):
        jpeg_image(tmp_path / "kau" / f"{name}.jpg", number)
    found = index(tmp_path / "kau", "kau-bcmd")
    assert labels(found) == {("BC001", "L"): 0, ("BC001", "R"): 0}
    assert {image.path.split("/")[1] for breast in found.breasts for image in breast.images} == {"b3"}
    assert len(found.rejections) == 8


def test_kau_files_of_another_form_are_named(tmp_path: Path) -> None:
    root = kau(tmp_path / "kau", {"Birad1/2018_BC001": (*VIEWS, "LM_L")})
    jpeg_image(root / "Birad1" / "2018_BC001" / "image 5.jpg", 9)
    (root / "Birad1" / "2018_BC001" / "2018_BC001_CC_L.jpg").write_bytes(b"")
    found = index(root, "kau-bcmd")
    names = {path.rpartition("/")[2]: reason for path, reason in reasons(found).items()}
    breast = next(name for name in names if name.startswith("BC001"))
    assert names == {
        "2018_BC001_LM_L.jpg": "view_not_pairable", "image 5.jpg": "view_missing", "2018_BC001_CC_L.jpg": "not_an_image",
        breast: "cc_missing",
    }  # fmt: skip
