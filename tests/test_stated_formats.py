"""Formats of images that a declaration or a project states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.errors import ParameterError
from tests.support.declared import index, jpeg_image, labels, write_table


def test_groups_that_must_agree_exist(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nlicense: ours\nsame_in_exam: [birads]\n")
    with pytest.raises(ParameterError, match="same_in_exam names 'birads'"):
        index(tmp_path, str(tmp_path / "x.yaml"))


def test_formats_of_a_table_are_stated_in_the_project(tmp_path: Path) -> None:
    """One row an image of a user's own table, where no header names anything."""
    rows: list[dict[str, Any]] = [
        {"file": f"a/im{number}.jpg", "pid": "A", "visit": 1, "side": "L", "view": view}
        for number, view in enumerate(("CC", "MLO"))
    ]
    for number, row in enumerate(rows):
        jpeg_image(tmp_path / "own" / row["file"], number)
    write_table(tmp_path / "ours.csv", [{**row, "label": 1} for row in rows])
    settings = Labels(columns={"path": "file", "patient": "pid", "exam": "visit", "laterality": "side"})
    found = index(tmp_path / "own", "table", label_file=str(tmp_path / "ours.csv"), labels=settings, formats=("jpeg",))
    assert labels(found) == {("A", "L"): 1}
    assert found.images[0].identity_from == "patient table, exam table, laterality table, view table"


def test_a_copy_without_the_header_that_its_adapter_reads_says_so(tmp_path: Path) -> None:
    """VinDr-Mammo's rows are found by the SOP Instance UID, which a PNG has not."""
    row = {"study_id": "a", "image_id": "b", "laterality": "L", "view_position": "CC", "height": 1, "width": 1}
    write_table(tmp_path / "in" / "breast-level_annotations.csv", [row | {"breast_birads": "BI-RADS 2", "split": "training"}])
    jpeg_image(tmp_path / "in" / "a" / "b.jpg", 1)
    found = index(tmp_path / "in", "vindr", formats=("jpeg",)).rejections[0]
    assert found.reason.value == "view_missing"
    assert "the adapter takes it from the header, which only DICOM files have: a copy in another format needs" in found.detail
