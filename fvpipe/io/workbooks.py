"""Checks of a workbook (XLSX) for what cells of its first sheet do not tell: another table, merged cells, empty formulas."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any
from xml.parsers import expat

from fvpipe.errors import LabelTableError

HEADING_ROWS = 100  # of a sheet, among which its heading is looked for
CHUNK_BYTES = 1 << 20  # looked at in one go
MAX_ELEMENTS = 1_000_000  # of XML in one row of a sheet, and in all that is in no row: a row has 16,384 cells of a few


def sheet_rows(sheet: Any) -> Iterator[tuple[object, ...]]:
    """Read the values of a sheet of openpyxl, row by row."""
    sheet.reset_dimensions()  # some writers give a wrong size, which would hide the last rows
    yield from sheet.iter_rows(values_only=True)


class SheetXml:
    """The XML of a sheet, parsed before openpyxl reads it: that lets the elements of a row go at its end alone.

    Raises
    ------
    LabelTableError
        A row has more elements than :data:`MAX_ELEMENTS`, or what is in no row.
    """

    def __init__(self, file: Path, sheet: IO[bytes]) -> None:
        self.empty_formula = 0  # row of the first formula without a value, from 1; 0 if there is none
        self._file = file
        self._elements = [0, 0]  # in no row, and in this one
        self._depth = self._row = 0  # how many rows are open; number of this one
        self._is_number = self._has_formula = self._has_value = False  # of this cell
        self._parser = expat.ParserCreate(namespace_separator="}")
        self._parser.StartElementHandler, self._parser.EndElementHandler = self._start, self._end
        self._parser.ParseFile(sheet)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        tag = name.rpartition("}")[2]
        if tag == "c":
            self._is_number = attributes.get("t", "n") == "n"  # a formula whose value is an empty text says that it is a text
            self._has_formula = self._has_value = False
        elif tag == "f":
            self._has_formula = True
        elif tag == "v":
            self._parser.CharacterDataHandler = self._value
        elif tag == "row":
            self._depth += 1
            self._row = int(float(attributes.get("r", self._row + 1)))
        in_row = self._depth > 0
        self._elements[in_row] += 1
        if self._elements[in_row] > MAX_ELEMENTS:
            what = f"more than {MAX_ELEMENTS} elements {'in one row' if in_row else 'beside its rows'}"
            raise LabelTableError(f"{self._file}: a sheet has {what}; save the table as CSV UTF-8")

    def _value(self, _: str) -> None:
        self._has_value = True

    def _end(self, name: str) -> None:
        tag = name.rpartition("}")[2]
        if tag == "v":
            self._parser.CharacterDataHandler = None
        elif tag == "c" and self._has_formula and self._is_number and not self._has_value:
            self.empty_formula = self.empty_formula or self._row
        elif tag == "row":
            self._depth -= 1
            if not self._depth:
                self._elements[True] = 0


def find_sheet(book: Any, name: str) -> tuple[Any, dict[int, list[set[str]]]]:
    """Find the sheet of that name, else the first that is not hidden; of the latter, also the other sheets by their number.

    Of each of these the rows that may be its heading, below a title, too: the first :data:`HEADING_ROWS` but for its last one.
    """
    sheets = book.worksheets
    if named := next((sheet for sheet in sheets if sheet.title == name), None):
        return named, {}
    chosen = next((sheet for sheet in sheets if sheet.sheet_state == "visible"), sheets[0])
    others: dict[int, list[set[str]]] = {}
    for number, sheet in enumerate(sheets, 1):
        if sheet is not chosen:
            rows = ({str(value).strip() for value in row if value is not None} - {""} for row in sheet_rows(sheet))
            filled = [row for row in islice(rows, HEADING_ROWS) if row]
            if len(filled) > 1:
                others[number] = filled[:-1]
    return chosen, others


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


class MergedColumns:
    """Merged cells with a value in columns that are read, as far as the row that is read now has a part in them."""

    def __init__(self, file: Path, merged: Merged, heading: Sequence[str], names: Collection[str]) -> None:
        self._file, self._merged, self._heading, self._names = file, merged, heading, names
        self._read = [i for i, name in enumerate(heading, 1) if name in names]
        self._open: dict[int, tuple[int, int, int]] = {}  # first and last row and last column, by first column

    def open(self, line: int, cells: Sequence[str]) -> None:
        """Take those that begin in this row; drop those that have ended."""
        for left in [left for left, (_, last, _) in self._open.items() if last < line]:
            del self._open[left]
        for last, left, right in self._merged.get(line, ()):
            if left <= len(self._heading) and any(cells[left - 1 : left]) and self._heading[left - 1] in self._names:
                self._open[left] = line, last, right

    def check_row(self, line: int, cells: Sequence[str]) -> None:
        """Check that the next row says nothing beside merged cells which would be read as empty.

        Raises
        ------
        LabelTableError
            It does.
        """
        self.open(line, cells)
        for left, (first, _, right) in self._open.items():
            hidden = [i for i in self._read if left <= i <= right and (i, line) != (left, first)]
            if hidden and any(cells[i - 1] for i in self._read if i <= len(cells) and not left <= i <= right):
                name = self._heading[hidden[0] - 1]
                what = f"the cell of {name} is merged with others, of which the first alone has a value"
                raise LabelTableError(f"{self._file}, line {line}: {what}; unmerge them, and write the value into each")
