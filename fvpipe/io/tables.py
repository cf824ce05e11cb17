"""Tables: publishers' label tables (CSV with BOM, CRLF or ``;``, or XLSX), and fvpipe's own CSV files."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import TypeVar

from fvpipe.errors import LabelTableError

ValueT = TypeVar("ValueT")


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
    """

    file: Path
    line: int
    cells: Mapping[str, str]

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
            raise self.error(column, expected)
        return value

    def error(self, column: str, expected: str) -> LabelTableError:
        """Make the error to raise where this row's `column` is not as expected."""
        return LabelTableError(f"{self.file}, line {self.line}: {column} is {self.cells[column][:40]!r}; expected {expected}")


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
        No such file, not readable, no heading, a missing or repeated column, or a row longer than its heading. Shorter rows
        are filled up: Excel leaves out the empty cells at the end of some.
    """
    if not file.is_file():
        raise LabelTableError(f"{file}: no such file; expected a table with the columns {', '.join(required)}")
    lines = _read_xlsx(file) if file.suffix.lower() == ".xlsx" else _read_csv(file)
    filled = ((number, cells) for number, cells in lines if any(cells))
    first, heading = next(filled, (0, list[str]()))
    if not heading:
        raise LabelTableError(f"{file}: is empty; expected a heading with the columns {', '.join(required)}")
    missing = [column for column in required if column not in heading]
    if missing:
        # The line may be a patient's instead of a heading: it is not shown.
        found = ", ".join(column for column in required if column in heading) or "none of those expected"
        raise LabelTableError(
            f"{file}, line {first}: column {missing[0]!r} is missing; expected {', '.join(required)}, found {found} "
            f"among {len(heading)}"
        )
    repeated = sorted({column for column in heading if column and heading.count(column) > 1})
    if repeated:
        raise LabelTableError(f"{file}: column {repeated[0]!r} occurs twice")
    for number, cells in filled:
        if any(cells[len(heading) :]):
            raise LabelTableError(f"{file}, line {number}: {len(cells)} cells; the heading has {len(heading)}")
        yield Row(file, number, dict(zip_longest(heading, cells[: len(heading)], fillvalue="")))


def _read_csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    start = 1
    try:
        with open(file, encoding="utf-8-sig", newline="") as text:
            delimiter = max(",;\t", key=text.readline().count)
            text.seek(0)
            reader = csv.reader(text, delimiter=delimiter)
            for cells in reader:
                yield start, [_unescape(cell.strip()) for cell in cells]
                start = reader.line_num + 1
    except (OSError, UnicodeDecodeError) as error:
        raise LabelTableError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    except csv.Error as error:
        raise LabelTableError(f"{file}, line {start}: not readable as CSV ({error})") from None


def _read_xlsx(file: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        book.worksheets[0].reset_dimensions()  # some writers give a wrong size, which would hide the last rows
        for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            yield number, [_format_cell(value) for value in row]
        book.close()
    except Exception as error:  # openpyxl raises whatever the zip and XML layers raise
        raise LabelTableError(f"{file}: cannot be read as XLSX ({type(error).__name__})") from None


def _format_cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


# --- writing ----------------------------------------------------------------------------------------------------------

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_ESCAPED = (*_FORMULA, "'")


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Join all lines of :func:`iterate_csv`."""
    return b"".join(iterate_csv(columns, rows))


def iterate_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    r"""Format a CSV table line by line: UTF-8, ``\n``, None as empty text, and no text that a spreadsheet would run.

    A text that starts like a formula gets a leading ``'``, which :func:`iterate_table` takes away again.
    """
    # With \r\n as its terminator the writer quotes cells that hold either; with \n, before Python 3.13, not those with \r.
    writer = csv.writer(_Passing(), lineterminator="\r\n")
    yield f"{writer.writerow(columns)[:-2]}\n".encode()
    for row in rows:
        yield f"{writer.writerow([_escape(value) for value in row])[:-2]}\n".encode("utf-8", "backslashreplace")


class _Passing:
    """A file whose `write`, and so `writerow`, returns the line."""

    def write(self, line: str) -> str:
        return line


def _escape(value: object) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_ESCAPED) else value
    return str(value).lower() if isinstance(value, bool) else value


def _unescape(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def read_own_table(file: Path, required: Sequence[str]) -> list[Row]:
    """Read a table that :func:`format_csv` wrote, cell by cell as it was written.

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        It is not a table with the columns `required`.
    """
    with open(file, encoding="utf-8", newline="") as text:
        lines = csv.reader(text, strict=True)
        heading = next(lines, [])
        if missing := [column for column in required if column not in heading]:
            raise ValueError(f"{file.name} has no column {missing[0]!r}")
        try:
            return [Row(file, lines.line_num, dict(zip(heading, map(_unescape, cells), strict=True))) for cells in lines]
        except csv.Error as error:
            raise ValueError(f"{file.name}, line {lines.line_num}: {error}") from None
