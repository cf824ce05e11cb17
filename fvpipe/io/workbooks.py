"""Checks of a workbook (XLSX) for what cells of its first sheet do not tell: another table, merged cells, empty formulas."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from fvpipe.errors import LabelTableError

HEADING_ROWS = 100  # of a sheet, among which its heading is looked for
CHUNK_BYTES = 1 << 20  # looked at in one go


def sheet_rows(sheet: Any) -> Iterator[tuple[object, ...]]:
    """Read the values of a sheet of openpyxl, row by row."""
    sheet.reset_dimensions()  # some writers give a wrong size, which would hide the last rows
    yield from sheet.iter_rows(values_only=True)


MAX_ELEMENTS = 1_000_000  # of XML in one row of a sheet, and in all that is in no row: a row has 16,384 cells of a few


def check_elements(file: Path, sheet: IO[bytes]) -> None:
    """Check that a sheet's XML holds no more elements than the reader can keep: it lets those of a row go at its end alone.

    Raises
    ------
    LabelTableError
        A row has more than :data:`MAX_ELEMENTS`, or what is in no row.
    """
    counts, depth = [0, 0], 0  # elements in no row, and in this one; how many rows are open

    def start(name: str, _: object) -> None:
        nonlocal depth
        depth += name.endswith("}row")
        counts[depth > 0] += 1
        if counts[depth > 0] > MAX_ELEMENTS:
            where = "in one row" if depth else "beside its rows"
            raise LabelTableError(f"{file}: a sheet has more than {MAX_ELEMENTS} elements {where}; save the table as CSV UTF-8")

    def end(name: str) -> None:
        nonlocal depth
        depth -= name.endswith("}row")
        if not depth:
            counts[1] = 0

    parser = expat.ParserCreate(namespace_separator="}")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.ParseFile(sheet)


def check_sheets(file: Path, book: Any) -> None:
    """Check that no further sheet has the columns of the first, since its rows would be left out.

    Raises
    ------
    LabelTableError
        One has, and a row.
    """

    def filled(sheet: Any) -> list[set[str]]:
        rows = ({str(value).strip() for value in row if value is not None} - {""} for row in sheet_rows(sheet))
        return [row for row in islice(rows, HEADING_ROWS) if row][:2]

    if len(book.worksheets) == 1:
        return
    first, *others = map(filled, book.worksheets)
    for number, rows in enumerate(others, 2):
        if first and len(rows) > 1 and first[0] <= rows[0]:
            detail = f"sheets 1 and {number} have the same columns; expected one table: join them, or save the right one as CSV"
            raise LabelTableError(f"{file}: {detail}")


def check_formulas(file: Path, check_amount: Callable[[int, int], None]) -> None:
    """Check that every formula of the first sheet has a value: else its cell would be read as an empty one.

    Parameters
    ----------
    file : Path
        The workbook.
    check_amount : callable
        Takes numbers of rows and cells, and raises for more than a table has: a row may say that it is the billionth.

    Raises
    ------
    LabelTableError
        One has none, since no program has calculated it.
    """
    import openpyxl

    with zipfile.ZipFile(file) as parts:
        if not any(_holds(parts, name, b"<f") for name in parts.namelist() if name.startswith("xl/worksheets/")):
            return
    books = [openpyxl.load_workbook(file, read_only=True, data_only=only) for only in (False, True)]
    for book in books:
        book.worksheets[0].reset_dimensions()
    cells = 0
    for line, (written, values) in enumerate(zip(*(book.worksheets[0].iter_rows() for book in books), strict=True), 1):
        cells += len(written)
        check_amount(line, cells)
        for formula, value in zip(written, values, strict=True):
            # One whose value is an empty text has the type of a text.
            if formula.data_type == "f" and value.value is None and value.data_type == "n":
                detail = "a formula has no value; open the table in a spreadsheet program and save it, or write values"
                raise LabelTableError(f"{file}, line {line}: {detail}")
    for book in books:
        book.close()


Merged = Mapping[int, Sequence[tuple[int, int, int]]]
"""Merged cells by their first row: their last row, first and last column, all from 1."""

_MERGED = re.compile(rb"<(?:\w{1,20}:)?mergeCell\s[^<>]{0,100}?ref=.([A-Z]{1,3})([0-9]{1,7}):([A-Z]{1,3})([0-9]{1,7})\b")
MAX_MERGED = 100_000  # merged cells of a sheet


def merged_cells(file: Path, sheet: Any) -> Merged:
    """Find the merged cells of a sheet that openpyxl opened: the first of each alone has the value.

    Raises
    ------
    LabelTableError
        More than :data:`MAX_MERGED`.
    """
    from openpyxl.utils import column_index_from_string

    found: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    count = 0
    with zipfile.ZipFile(file) as parts, parts.open(sheet._worksheet_path) as data:
        end = b""
        while chunk := data.read(CHUNK_BYTES):
            text = end + chunk
            last = 0
            for match in _MERGED.finditer(text):
                left, right = (column_index_from_string(match[group].decode()) for group in (1, 3))
                found[int(match[2])].append((int(match[4]), left, right))
                last, count = match.end(), count + 1
            if count > MAX_MERGED:
                raise LabelTableError(
                    f"{file}: has more than {MAX_MERGED} merged cells; unmerge them, or save the table as CSV"
                )
            end = text[max(last, len(text) - 200) :]  # an element is shorter
    return found


def _holds(parts: zipfile.ZipFile, name: str, what: bytes) -> bool:
    with parts.open(name) as data:
        end = b""
        while chunk := data.read(CHUNK_BYTES):
            if what in end + chunk:
                return True
            end = chunk[1 - len(what) :]
    return False
