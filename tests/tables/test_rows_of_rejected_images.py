"""Rows about images that are rejected for their view, kind or pixels: their label is that of a breast all the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import pytest

from fvpipe.config.project import Labels
from fvpipe.dicom.header import read_breast
from fvpipe.indexing.index import Index
from fvpipe.indexing.labels import rejected_images
from fvpipe.testing import index_folder, write_image
from fvpipe.types import Laterality, View
from tests.support.declared import labels, reasons

OTHERS: dict[str, dict[str, Any]] = {
    "spot": {"SeriesDescription": "L CC SPOT"},
    "lateral": {"ViewPosition": "ML"},
    "specimen": {"BodyPartExamined": "SPECIMEN"},
    "many frames": {"NumberOfFrames": 3},
    "no view": {"ViewPosition": None},
}


def breast(folder: Path, other: str) -> None:
    """CC and MLO of the left breast of P1, both breasts of P2, and an image of P1's left breast that is rejected."""
    for number, name in enumerate(("P1/L_CC", "P1/L_MLO", "P2/L_CC", "P2/L_MLO", "P2/R_CC", "P2/R_MLO", "P1/other"), 1):
        patient, of_image = name.split("/")
        side, view = Laterality.RIGHT if "R_" in of_image else Laterality.LEFT, View.MLO if "MLO" in of_image else View.CC
        tags: dict[str, Any] = {"PatientID": patient, "ImageLaterality": side.value, "ViewPosition": view.value}
        tags |= {"SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": f"2.25.4{patient[1]}"}
        write_image(folder / f"{name}.dcm", number, side, view, **tags | (OTHERS[other] if of_image == "other" else {}))


DECLARATION = """
name: own
license: ours
hashed: false
tables:
  - file: t.csv
    KEY: image
    combine: same
    label: [{when: {cancer: "1"}, then: malignant}, {then: benign}]
"""


def read(
    folder: Path,
    key: str,
    rows: dict[str, int],
    combine: str = "same",
    unlabelled: Literal["unlabelled", "normal"] = "unlabelled",
) -> Index:
    """Index with a table that has one row an image, found by `key`, and names no patient."""
    uids = {"P1/L_CC": 1, "P1/L_MLO": 2, "P2/L_CC": 3, "P2/L_MLO": 4, "P2/R_CC": 5, "P2/R_MLO": 6, "P1/other": 7}
    cells = [f"{f'2.25.{uids[name]}' if key == 'instance' else f'{name}.dcm'},{label}" for name, label in rows.items()]
    (folder.parent / "t.csv").write_text("\n".join(["image,cancer", *cells]) + "\n")
    own = folder.parent / "own.yaml"
    own.write_text(DECLARATION.replace("KEY", key).replace("combine: same", f"combine: {combine}"))
    return index_folder(folder, str(own), label_file=str(folder.parent / "t.csv"), labels=Labels(unlabelled=unlabelled))


BENIGN = dict.fromkeys(("P1/L_CC", "P1/L_MLO", "P2/L_CC", "P2/L_MLO", "P2/R_CC", "P2/R_MLO"), 0)
P2 = {("P2", "L"): 0, ("P2", "R"): 0}


@pytest.mark.parametrize("key", ["path", "instance"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_cancer_on_a_rejected_image_contradicts_the_others(key: str, other: str, tmp_path: Path) -> None:
    breast(tmp_path / "in", other)
    found = read(tmp_path / "in", key, BENIGN | {"P1/other": 1})
    assert labels(found) == P2
    assert [what[:3] for what, reason in reasons(found).items() if reason == "label_ambiguous"] == ["P1_"]
    assert labels(read(tmp_path / "in", key, BENIGN | {"P1/other": 0})) == P2 | {("P1", "L"): 0}
    assert labels(read(tmp_path / "in", key, BENIGN | {"P1/other": 1}, "worst")) == P2 | {("P1", "L"): 1}


NAMING = """
name: own
license: ours
hashed: false
identity: IDENTITY
tables:
  - file: t.csv
    path: image
    combine: COMBINE
    label: [{when: {cancer: "1"}, then: malignant}, {then: benign}]
    columns: COLUMNS
"""


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("{view: view}", "ML"),  # the row itself leaves the image out
        ("{kind: kind}", "other"),
        ("{laterality: side, view: view}", "L,ML"),
        ("{patient: patient, laterality: side}", "P1,L"),  # but no exam, of which there may be several
    ],
)
@pytest.mark.parametrize("combine", ["same", "worst"])
def test_what_the_row_of_a_rejected_image_does_not_name_its_header_does(
    columns: str, cells: str, combine: str, tmp_path: Path
) -> None:
    """The cancer of the row was lost with the image."""
    breast(tmp_path / "in", "spot")
    facts = ("patient", "exam", "laterality", "view")
    identity = {fact: ["header", "table"] if f"{fact}:" in columns else ["header"] for fact in facts}
    heading = ",".join(re.findall(r"(\w+)[,}]", columns))
    rows = [f"P1/L_{view}.dcm,0{',' * len(cells.split(','))}" for view in ("CC", "MLO")]
    (tmp_path / "t.csv").write_text("\n".join([f"image,cancer,{heading}", *rows, f"P1/other.dcm,1,{cells}"]) + "\n")
    changes = {"IDENTITY": str(identity), "COMBINE": combine, "COLUMNS": columns}
    (tmp_path / "own.yaml").write_text(re.sub("|".join(changes), lambda word: changes[word[0]], NAMING))
    found = index_folder(tmp_path / "in", str(tmp_path / "own.yaml"), label_file=str(tmp_path / "t.csv"))
    assert labels(found).get(("P1", "L")) == (1 if combine == "worst" else None)
    assert ("label_ambiguous" in reasons(found).values()) == (combine == "same")


@pytest.mark.parametrize("key", ["path", "instance"])
def test_a_breast_whose_only_row_is_of_a_rejected_image_is_that_of_it(key: str, tmp_path: Path) -> None:
    """Where others are normal, it would be, too."""
    breast(tmp_path / "in", "spot")
    found = read(tmp_path / "in", key, {"P1/other": 1, "P2/L_CC": 1}, unlabelled="normal")
    assert labels(found) == {("P1", "L"): 1, ("P2", "L"): 1, ("P2", "R"): 0}


@pytest.mark.parametrize(
    ("other", "more", "label"),
    [
        ("many frames", {"StudyInstanceUID": "2.25.49"}, None),
        ("no view", {"StudyInstanceUID": "2.25.49"}, None),
        ("many frames", {}, 1),  # of the same exam
        ("spot", {"StudyInstanceUID": "2.25.49"}, 1),
        ("specimen", {"StudyInstanceUID": "2.25.49"}, 1),
        ("many frames", {"StudyInstanceUID": "2.25.49", "Modality": "US"}, 1),
        ("many frames", {"StudyInstanceUID": "2.25.49", "ImageLaterality": "R"}, 1),
    ],
)
def test_a_row_without_an_exam_may_be_of_one_whose_images_are_rejected(
    other: str, more: dict[str, Any], label: int | None, tmp_path: Path
) -> None:
    """The cancer of a later exam, whose images cannot be read, was the label of the one before."""
    breast(tmp_path / "in", other)
    tags = {"PatientID": "P1", "ImageLaterality": "L", "ViewPosition": "CC", "SOPInstanceUID": "2.25.7"}
    write_image(tmp_path / "in/P1/other.dcm", 7, **tags | {"StudyInstanceUID": "2.25.41"} | OTHERS[other] | more)
    (tmp_path / "t.csv").write_text("patient_id,laterality,label\nP1,L,1\nP2,L,0\nP2,R,0\n")
    found = index_folder(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"))
    assert labels(found) == P2 | ({} if label is None else {("P1", "L"): label})
    assert ("label_ambiguous" in reasons(found).values()) == (label is None)


def test_headers_of_rejected_images_are_read_once_more_and_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of half a million images, a tenth may be rejected; but what cannot be read today may be tomorrow."""
    breast(tmp_path / "in", "spot")
    count = list[str]()

    def counted(root: Path, path: str, *arguments: Any) -> Any:
        count.append(path)
        if len(count) == 1:
            raise OSError
        return read_breast(root, path, *arguments)

    monkeypatch.setattr(rejected_images, "read_breast", counted)
    rows = {"P1/other": 1, "P2/L_CC": 1}  # rows of images that are read need no header
    found = [labels(read(tmp_path / "in", "path", rows, unlabelled="normal"))["P1", "L"] for _ in range(3)]
    assert (found, count) == ([0, 1, 1], ["P1/other.dcm"] * 2)
