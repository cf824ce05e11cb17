"""Tables, as they are read: publishers' label tables, and fvpipe's own CSV files.

A label table is XLSX, or CSV as programs write it: UTF-8 or UTF-16; commas, semicolons, tabs or ``|``; a line ``sep=;`` first.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from itertools import zip_longest
from pathlib import Path
from typing import BinaryIO, TextIO, TypeVar

from fvpipe.errors import LabelTableError
from fvpipe.io.csv_lines import unescape
from fvpipe.io.workbooks import Merged, MergedColumns, SheetXml, find_sheet, merged_cells, sheet_rows
from fvpipe.printable import first_names
from fvpipe.regular_files import open_regular, why_not_usable

ValueT = TypeVar("ValueT")

MAX_TABLE_BYTES = 1 << 30  # of a spreadsheet, unpacked
MAX_CSV_BYTES = 1 << 32
MAX_ROWS = 1 << 21  # of it: the breasts of a million exams
MAX_COLUMNS = 1 << 14  # of it, as of a spreadsheet
MAX_CELLS = 96_000_000  # of it; EMBED lists half a million images in wide rows
MAX_LINE_CHARACTERS = 1 << 20  # of a line of CSV
MAX_MARKUP = 2_000_000  # "<" in the parts of a spreadsheet that are read at once: four for each text in its cells
CHUNK_BYTES = 1 << 20  # looked at in one go
MIN_NAME = 3  # characters of a column's name by which a line is known to be a heading
MAX_NAMES = 30  # of columns that a message lists


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, with the place that an error message names.

    Attributes
    ----------
    file : Path
        The table.
    line : int
        Line of the file where the row begins, from 1.
    cells : mapping of column to str
        Without surrounding space; empty where the row is shorter than the heading.
    aligned : bool
        Whether the row has as many cells as the heading. Where not, a cell may be that of another column, as a name.
    """

    file: Path
    line: int
    cells: Mapping[str, str]
    aligned: bool = True

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str:
        """Return a cell, or empty text where the table has no such column."""
        return self.cells.get(column, "")

    def parse(self, column: str, parser: Callable[[str], ValueT | None], expected: str) -> ValueT:
        """Return the value of a cell.

        Parameters
        ----------
        column : str
            Name of the column.
        parser : callable
            The cell -> its value, or None where it has none.
        expected : str
            The cells that have one, for the message.

        Raises
        ------
        LabelTableError
            The cell has no value.
        """
        value = parser(self.cells[column])
        if value is None:
            # Where another column has what is expected here, or one before is empty, the row may be shifted, and a word a name.
            elsewhere = any(parser(cell) is not None for name, cell in self.cells.items() if name != column)
            before = [*self.cells.values()][: [*self.cells].index(column)]
            word = re.search(r"[^\W\d_]{2}", self.cells[column])
            raise self.error(column, expected, shown=not (word and (elsewhere or "" in before)))
        return value

    @property
    def place(self) -> str:
        """Name of the table and line of the row, without the folder: for details that are written into tables."""
        return f"{self.file.name}, line {self.line}"

    def error(self, column: str, expected: str, *, shown: bool = True) -> LabelTableError:
        """Make the error to raise where this row's `column` is not as expected.

        The cell is not shown where it may be that of another column, or could be a name, a date or a number of a patient.
        """
        cell = self.cells[column]
        shown = not cell or (shown and self.aligned and len(cell) <= MAX_SHOWN and not PERSONAL.search(cell))
        found = repr(cell[:40]) if shown else "another (not shown: the row may be shifted)"
        return LabelTableError(f"{self.file}, line {self.line}: {column} is {found}; expected {expected}")


PERSONAL = re.compile(r"[^\W\d_]{2}.*[\s^,;.].*[^\W\d_]{2}|([0-9]\D?){6}")
"""Two words, or six digits: what no column that is parsed has. Its time grows with the third power of a cell's length."""

LONG_NUMBER = re.compile(r"([0-9]\D?){6}")
"""Six digits, as of an identifier or a date."""

MAX_SHOWN = 200  # characters of a cell whose beginning a message shows
MAX_MATCHED = 1 << 13  # characters of a cell that a pattern of a declaration is searched in

CUT_NUMBER = r"[0-9](\.[0-9]+)?[eE]\+?[0-9]+"
"""An identifier that a spreadsheet took for a number, and cut to a few digits."""


def whole_number(cell: str) -> int | None:
    """Parse a whole number, also as a spreadsheet writes a column of numbers (``1.0``); None for anything else.

    Examples
    --------
    >>> whole_number("1"), whole_number("1.0"), whole_number("-1"), whole_number("1.5"), whole_number("one")
    (1, 1, -1, None, None)
    """
    return int(cell.partition(".")[0]) if re.fullmatch(r"-?[0-9]{1,9}(\.0+)?", cell) else None


# --- reading ----------------------------------------------------------------------------------------------------------


def read_table(file: Path, required: Sequence[str]) -> list[Row]:
    """Read all rows of :func:`iterate_table`."""
    return list(iterate_table(file, required))


def iterate_table(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Read a CSV or XLSX table with a heading, row by row.

    Parameters
    ----------
    file : Path
        The table.
    required : sequence of str
        Columns that the table must have; others are kept too.

    Yields
    ------
    Row
        Empty rows are left out.

    Raises
    ------
    LabelTableError
        No such file, not readable, larger than label tables are, no heading, a missing or repeated column, or a row longer than
        its heading. Shorter rows are filled up: Excel leaves out the empty cells at the end of some.
    """
    yield from open_table(file, required).rows(required)


@dataclass(frozen=True, slots=True, eq=False)
class OpenTable:
    """A table whose heading was read; its rows are read once."""

    file: Path
    line: int  # of the heading
    heading: Sequence[str]  # names of the columns
    _filled: Iterator[tuple[int, list[str]]]  # line and cells of each other row that is not empty
    _merged: Merged
    _others: Mapping[int, Sequence[Collection[str]]]  # rows of the other sheets that may be a heading, by their number
    _sheet: Sequence[str] = ()  # the declared name of the one that is read, where the workbook has others, too

    @property
    def shown(self) -> Path:
        """The file as messages name it: with its sheet, where lines are counted in each of several."""
        return Path(", sheet ".join([str(self.file), *self._sheet]))

    def spelled_otherwise(self, columns: Collection[str], *others: str) -> str:
        """Return a name in the heading that is one of `columns` or `others`, but for case, spaces and signs; or nothing.

        So is ``age_x`` the column `age`: pandas writes both tables' columns of one name so where it merges them.
        """
        wanted = {_letters(column) for column in (*columns, *others)} - {""}
        spellings = ((name, {_letters(name), _letters(re.sub("_[xy]$", "", name))}) for name in self.heading)
        return next((name for name, spelled in spellings if name not in columns and spelled & wanted), "")

    def rows(self, required: Sequence[str], used: Collection[str] = (), needed: Collection[str] = ()) -> Iterator[Row]:
        """Read the rows, with the columns that are `required`, as :func:`iterate_table` does; `used` ones may be missing.

        Another sheet with the columns that are `needed`, by default all, is another such table: an error.
        """
        missing = [column for column in required if column not in self.heading]
        if missing:
            expected = [column for column in required if column in self.heading]
            found = f"{', '.join(expected) or 'none of those expected'} among {len(self.heading)}"
            # The line may be a patient's instead of a heading: unless it has a name of columns, not all of its cells are shown.
            if any(len(column) >= MIN_NAME for column in expected):
                found = first_names([name[:40] for name in self.heading if name and not LONG_NUMBER.search(name)], MAX_NAMES)
            letters = {_letters(column): column for column in self.heading}
            near = get_close_matches(_letters(missing[0]), letters, 1, 0.8)
            renamed = f"; is it {letters[near[0]]!r}?" if near else ""
            if number := self._sheet_with(required):
                renamed = f"; sheet {number} has them: name it (`sheet` of a declaration), make it the first, or save it as CSV"
            elif len(self.heading) == 1:
                form = "is the table on the first sheet" if _is_xlsx(self.file) else "are the columns separated by , ; tab or |"
                form = "is the table on this sheet" if self._sheet else form
                renamed = f"; {form}, and is this line the heading? Lines above it must be taken out"
            raise LabelTableError(
                f"{self.shown}, line {self.line}: column {missing[0]!r} is missing; expected {', '.join(required)}, "
                f"found {found}{renamed}"
            )
        repeated = sorted(column for column, count in Counter(self.heading).items() if column and count > 1)
        if repeated:
            detail = f"column {repeated[0][:40]!r} occurs twice; expected once: rename one of them"
            raise LabelTableError(f"{self.shown}, line {self.line}: {detail}")
        if number := self._sheet_with(needed or self.heading):  # its rows would be left out
            detail = f"sheet {number} has the same columns as the one that is read; expected one table"
            raise LabelTableError(f"{self.file}: {detail}: join them, or save the right one as CSV")
        names, shown = {*required, *used} - {""}, self.shown
        merged = MergedColumns(self.file, self._merged, self.heading, names) if self._merged else None
        if merged:
            merged.open(self.line, self.heading)
        for i, (number, cells) in enumerate(self._filled, 1):
            if merged:
                merged.check_row(number, cells)
            _reject_amount(self.file, 0, i, i * len(self.heading))
            if any(cells[len(self.heading) :]):
                raise LabelTableError(f"{self.shown}, line {number}: {len(cells)} cells; the heading has {len(self.heading)}")
            named = dict(zip_longest(self.heading, cells[: len(self.heading)], fillvalue=""))
            yield Row(shown, number, named, aligned=len(cells) == len(self.heading))

    def _sheet_with(self, columns: Collection[str]) -> int:
        """Number of another sheet that has all of these columns; 0 if there is none."""
        wanted = {_letters(column) for column in columns}
        found = (number for number, rows in self._others.items() for names in rows if wanted <= {*map(_letters, names)})
        return next(found, 0)


def _is_xlsx(file: Path) -> bool:
    return file.suffix.lower() == ".xlsx"


def _letters(column: str) -> str:
    return re.sub(r"\W|_", "", column).lower()


def open_table(file: Path, required: Sequence[str] = (), sheet: str = "") -> OpenTable:
    """Open a CSV or XLSX table and read its heading; `required` columns are named where there is none.

    Of a workbook it is the sheet of that name; where it has none of that name, the first that is not hidden.

    Raises
    ------
    LabelTableError
        No such file, not readable, larger than label tables are, or no heading.
    """
    expected = f"the columns {', '.join(required)}" if required else "names of columns"
    if why := why_not_usable(file):
        raise LabelTableError(f"{file}: {why}; expected a table with {expected}")
    if file.suffix.lower() in (".xls", ".xlsb", ".ods", ".numbers"):
        raise LabelTableError(f"{file}: is a workbook of another form; save it as XLSX, or as CSV UTF-8")
    merged: dict[int, Sequence[tuple[int, int, int]]] = {}
    others: dict[int, Sequence[Collection[str]]] = {}
    read: list[str] = []
    lines = _read_xlsx(file, sheet, merged, others, read) if _is_xlsx(file) else _read_csv(file)
    filled = ((number, cells) for number, cells in lines if any(cells))
    first, heading = next(filled, (0, list[str]()))
    if not heading:
        raise LabelTableError(f"{file}: is empty; expected a heading with {expected}")
    heading += [""] * (max((right for *_, right in merged.get(first, ())), default=0) - len(heading))
    if len(heading) > MAX_COLUMNS:
        raise LabelTableError(f"{file}, line {first}: has {len(heading)} columns; expected at most {MAX_COLUMNS}")
    return OpenTable(file, first, heading, filled, merged, others, read)


def _read_csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    before = start = 0  # lines before the heading; first line of a row, from there
    encoding = "utf-8-sig"
    try:
        with open_regular(file) as data:
            _check_amount(file, data)
            data.seek(0)
            encoding = "utf-16" if data.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else encoding
        with io.TextIOWrapper(open_regular(file), encoding=encoding, newline="") as text:
            heading = text.readline(MAX_LINE_CHARACTERS)
            named = re.fullmatch(r'"?sep=(\t|\S)"?\s*', heading, re.IGNORECASE)  # Excel's line before the heading
            if named is None:
                while heading and not heading.strip():
                    heading = text.readline(MAX_LINE_CHARACTERS)
                text.seek(0)
            if "\0" in heading:
                raise LabelTableError(f"{file}: is not text; save the table as UTF-8 (in a spreadsheet: CSV UTF-8)")
            before = 1 if named else 0
            delimiter = named[1] if named else max(",;\t", key=re.sub('"[^"]*"', "", heading).count)
            if not (named or delimiter in heading):
                delimiter = "|"
            lines: list[str] = []
            reader = csv.reader(_noting(text, lines), delimiter=delimiter, skipinitialspace=True)
            for cells in reader:
                if len(lines) > 1:  # a quote that is not closed where it should be takes the next rows into its cell
                    list(csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True))
                lines.clear()
                yield before + start + 1, [unescape(cell.strip()) for cell in cells]
                start = reader.line_num
    except UnicodeDecodeError:
        raise LabelTableError(_undecodable(file, encoding)) from None
    except OSError as error:
        raise LabelTableError(f"{file}: cannot be read ({error.strerror}); check the file and its permissions") from None
    except csv.Error as error:
        raise LabelTableError(f"{file}, line {before + start + 1}: not readable as CSV ({error})") from None


def _noting(text: TextIO, lines: list[str]) -> Iterator[str]:
    while line := text.readline(MAX_LINE_CHARACTERS):
        if len(line) == MAX_LINE_CHARACTERS:
            raise csv.Error(f"a line has {MAX_LINE_CHARACTERS} characters or more")
        lines.append(line)
        yield line


def _check_amount(file: Path, data: BinaryIO) -> None:
    """Count the lines and delimiters of a table, before a value is made of each cell."""
    lines = cells = 0
    size = os.fstat(data.fileno()).st_size
    while size <= MAX_CSV_BYTES and max(lines / MAX_ROWS, cells / MAX_CELLS) <= 1 and (chunk := data.read(CHUNK_BYTES)):
        lines += max(chunk.count(b"\n"), chunk.count(b"\r"))
        cells += sum(map(chunk.count, (b",", b";", b"\t", b"|")))
    _reject_amount(file, size, lines, cells, MAX_CSV_BYTES)


def _reject_amount(file: Path, size: int, rows: int, cells: int, most_bytes: int = MAX_TABLE_BYTES) -> None:
    for found, most, what in ((size, most_bytes, "bytes"), (rows, MAX_ROWS, "rows"), (cells, MAX_CELLS, "cells")):
        if found > most:
            raise LabelTableError(f"{file}: has more {what} than a label table, at most {most}; keep those that are needed")


def _undecodable(file: Path, encoding: str) -> str:
    """Describe the first bytes that are not text."""
    data = file.read_bytes()
    try:
        data.decode(encoding)
    except UnicodeDecodeError as error:
        lines = data[: error.start].decode(encoding, "ignore")
        line, name = len(re.findall("\r\n|\r|\n", lines)) + 1, "UTF-16" if encoding == "utf-16" else "UTF-8"
        found = f"byte 0x{data[error.start]:02x} is not {name}"
        return f"{file}, line {line}: {found}; save the table as UTF-8 (in a spreadsheet: CSV UTF-8)"
    return f"{file}: changed while it was read"


def _read_xlsx(
    file: Path,
    name: str,
    merged: dict[int, Sequence[tuple[int, int, int]]],
    others: dict[int, Sequence[Collection[str]]],
    read: list[str],
) -> Iterator[tuple[int, list[str]]]:
    """Read one sheet; `merged` takes its merged cells, `others` the first rows of other sheets, before a row comes.

    `read` takes its name, where that is `name` and there are others.
    """
    import openpyxl

    cells = 0
    try:
        empty_formulas = _check_parts(file)
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        sheet, headings = find_sheet(book, name)
        others.update(headings)
        read += [name] if sheet.title == name and len(book.sheetnames) > 1 else []
        if line := empty_formulas.get(sheet._worksheet_path):  # no program has calculated it: its cell would be empty
            detail = "a formula has no value; open the table in a spreadsheet program and save it, or write values"
            raise LabelTableError(f"{file}, line {line}: {detail}")
        merged.update(merged_cells(file, sheet))
        for number, row in enumerate(sheet_rows(sheet), start=1):
            cells += len(row)
            _reject_amount(file, 0, number, cells)
            yield number, [_format_cell(value) for value in row]
        book.close()
    except LabelTableError:
        raise
    except Exception as error:  # openpyxl raises whatever the zip and XML layers raise
        todo = "save it as XLSX without a password, or as CSV UTF-8"
        raise LabelTableError(f"{file}: cannot be read as XLSX ({type(error).__name__}); {todo}") from None


def _check_parts(file: Path) -> dict[str, int]:
    """Check what a spreadsheet unpacks to, the elements of its sheets, and its other parts, which openpyxl reads at once.

    Returns the row of the first formula without a value in each sheet, or 0.
    """
    markup, empty_formulas = 0, dict[str, int]()
    with zipfile.ZipFile(file) as book:
        _reject_amount(file, sum(part.file_size for part in book.infolist()), 0, 0)
        for part in book.infolist():
            with book.open(part) as data:
                if part.filename.startswith("xl/worksheets/") and part.filename.endswith(".xml"):
                    empty_formulas[part.filename] = SheetXml(file, data).empty_formula
                    continue
                while markup <= MAX_MARKUP and (chunk := data.read(CHUNK_BYTES)):
                    markup += chunk.count(b"<")
    if markup > MAX_MARKUP:
        raise LabelTableError(f"{file}: has more than {MAX_MARKUP // 4} different texts; save the table as CSV UTF-8")
    return empty_formulas


def _format_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value == datetime(value.year, value.month, value.day):
        value = value.date()
    if isinstance(value, float) and value.is_integer():  # Excel keeps 15 digits: of more, the last were cut off
        value = int(value) if abs(value) < 1e15 else f"{value:.14E}"
    return str(value).strip()


def read_own_table(file: Path, required: Sequence[str]) -> list[Row]:
    """Read a table that :func:`fvpipe.io.csv_lines.format_csv` wrote, cell by cell as it was written.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not a table with the columns `required`.
    """
    with io.TextIOWrapper(open_regular(file), encoding="utf-8", newline="") as text:
        lines = csv.reader(text, strict=True)
        try:
            heading = next(lines, [])
            if missing := [column for column in required if column not in heading]:
                raise ValueError(f"{file.name} has no column {missing[0]!r}")
            return [Row(file, lines.line_num, dict(zip(heading, map(unescape, cells), strict=True))) for cells in lines]
        except csv.Error as error:
            raise ValueError(f"{file.name}, line {lines.line_num}: {error}") from None
