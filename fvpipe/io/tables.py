"""Tables in and out: label tables as publishers ship them (CSV with BOM, CRLF or ``;``, or XLSX), and our own CSV files."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path

from fvpipe.errors import LabelTableError


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table, with the place that an error message names."""

    file: Path
    line: int
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]

    def get(self, column: str) -> str:
        """The cell, or nothing where the table has no such column."""
        return self.cells.get(column, "")

    def error(self, column: str, expected: str) -> LabelTableError:
        """What to raise when this row's `column` is not as it should be."""
        return LabelTableError(f"{self.file}, line {self.line}: {column} is {self.cells[column][:40]!r}; expected {expected}")


def read_table(file: Path, required: Sequence[str]) -> list[Row]:
    """All of :func:`iterate_table`."""
    return list(iterate_table(file, required))


def iterate_table(file: Path, required: Sequence[str]) -> Iterator[Row]:
    """Read a CSV or XLSX table with a heading, row by row.

    Parameters
    ----------
    file : Path
    required : sequence of str
        Columns that must be there; others are kept too.

    Yields
    ------
    Row
        Cells without surrounding space; empty rows left out.

    Raises
    ------
    LabelTableError
        No such file, not readable, no heading, a missing or repeated column, or a row longer than its heading (shorter
        ones are filled up: Excel leaves out the empty cells at the end of some).
    """
    if not file.is_file():
        raise LabelTableError(f"{file}: no such file; expected a table with the columns {', '.join(required)}")
    lines = _xlsx(file) if file.suffix.lower() == ".xlsx" else _csv(file)
    filled = ((number, cells) for number, cells in lines if any(cells))
    first, heading = next(filled, (0, list[str]()))
    if not heading:
        raise LabelTableError(f"{file}: is empty; expected a heading with the columns {', '.join(required)}")
    missing = [column for column in required if column not in heading]
    if missing:
        # The line may be no heading at all but a patient's: it is not shown.
        found = ", ".join(column for column in required if column in heading) or "none of those expected"
        raise LabelTableError(
            f"{file}, line {first}: column {missing[0]!r} is missing; expected {', '.join(required)}, found {found} "
            f"among {len(heading)}"
        )
    repeated = sorted({column for column in heading if column and heading.count(column) > 1})
    if repeated:
        raise LabelTableError(f"{file}: column {repeated[0]!r} occurs twice")
    for number, cells in filled:
        if len(cells) > len(heading) and any(cells[len(heading) :]):
            raise LabelTableError(f"{file}, line {number}: {len(cells)} cells; the heading has {len(heading)}")
        yield Row(file, number, dict(zip_longest(heading, cells[: len(heading)], fillvalue="")))


def _csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    start = 1
    try:
        with open(file, encoding="utf-8-sig") as text:
            heading = text.readline()
        with open(file, encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, delimiter=max(",;\t", key=heading.count))
            for cells in reader:
                yield start, [_unescape(cell.strip()) for cell in cells]
                start = reader.line_num + 1
    except (OSError, UnicodeDecodeError) as error:
        raise LabelTableError(f"{file}: cannot be read as UTF-8 text ({type(error).__name__})") from None
    except csv.Error as error:
        raise LabelTableError(f"{file}, line {start}: not readable as CSV ({error})") from None


def _xlsx(file: Path) -> Iterator[tuple[int, list[str]]]:
    import openpyxl

    try:
        book = openpyxl.load_workbook(file, read_only=True, data_only=True)
        book.worksheets[0].reset_dimensions()  # what some writers say of a sheet's size would hide its last rows
        for number, row in enumerate(book.worksheets[0].iter_rows(values_only=True), start=1):
            yield number, [_cell(value) for value in row]
        book.close()
    except Exception as error:  # openpyxl raises whatever the zip and XML layers raise
        raise LabelTableError(f"{file}: cannot be read as XLSX ({type(error).__name__})") from None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
_GUARDED = frozenset((*_FORMULA, "'"))


def write_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """All of :func:`iterate_csv`."""
    return b"".join(iterate_csv(columns, rows))


def iterate_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    r"""A CSV table line by line: UTF-8, ``\n``, None as nothing, and no text cell that a spreadsheet would run.

    A text that starts like a formula gets a leading ``'``, which :func:`read_table` takes away again.
    """
    for cells in chain([columns], ([_escape(value) for value in row] for row in rows)):
        line = ",".join(cells)
        if line.count(",") >= len(cells) or _breaks(line):  # hardly ever: one look at a line is quicker than one at each cell
            line = ",".join(map(_quote, cells))
        yield f"{line}\n".encode("utf-8", "backslashreplace")


_special = re.compile(r'[,"\r\n]').search
_breaks = re.compile(r'["\r\n]').search


def _quote(cell: str) -> str:
    """As csv.writer does, which before Python 3.13 leaves a carriage return bare: it would end the row."""
    return '"' + cell.replace('"', '""') + '"' if _special(cell) else cell


def _escape(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value[:1] in _GUARDED else value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(float(value))  # without NumPy's "np.float64(...)"
    return str(value)


def _unescape(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and cell[1:].startswith((*_FORMULA, "'")) else cell


def read_own_table(file: Path, required: Sequence[str]) -> list[Row]:
    """Read a table that :func:`write_csv` wrote, cell by cell as it was written.

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
