"""CSV as fvpipe writes it: the same bytes everywhere, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence

_ESCAPED = ("=", "+", "-", "@", "\t", "\r", "\n", "'")  # starts of formulas, and of what is escaped itself
_NEGATIVE = r"-[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?"  # a number, as `repr` writes it, is not a formula


def format_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    """Join all lines of :func:`iterate_csv`."""
    return b"".join(iterate_csv(columns, rows))


def iterate_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[bytes]:
    r"""Format a CSV table line by line: UTF-8, ``\n``, None as empty text, and no text that a spreadsheet would run.

    A text that starts like a formula, and is not a number, gets a leading ``'``, which :func:`unescape` takes away again.
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
        return f"'{value}" if value.startswith(_ESCAPED) and not re.fullmatch(_NEGATIVE, value) else value
    return str(value).lower() if isinstance(value, bool) else value


def unescape(cell: str) -> str:
    """Return a text as it was before :func:`iterate_csv` escaped it."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_ESCAPED) else cell
