"""Merged cells of spreadsheets, and cells that they leave empty."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from fvpipe.errors import LabelTableError
from fvpipe.testing import index_folder
from tests.support.declared import labels, reasons
from tests.support.user_tables import CANCERS, PATHS, PLACES, TABLE, cancers, read

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


def test_remarks_beside_the_table_may_be_merged(folder: Path, tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in csv.reader(cancers().splitlines()):
        book.worksheets[0].append(row)
    book.worksheets[0]["E12"] = "a remark"
    book.worksheets[0].merge_cells("E12:F12")
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(LabelTableError, match="cells; the heading has 2"):
        read(folder, tmp_path / "t.xlsx", path="file")
