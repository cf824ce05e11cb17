"""List of the figures in a folder, with their captions, for the pages that show them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fvpipe.config.loading import Settings, is_plain_name, parse
from fvpipe.errors import InputError
from fvpipe.io.atomic import write_if_changed

FILE = "figures.json"


class ListedFigure(Settings):
    """A figure of a folder: the stem of its files, and its caption."""

    name: str
    caption: str


def write_list(folder: Path, figures: Sequence[ListedFigure]) -> None:
    """Write the list of a folder's figures."""
    written = [figure.model_dump() for figure in figures]
    write_if_changed(folder / FILE, (json.dumps(written, indent=1) + "\n").encode())


def read_list(folder: Path) -> list[tuple[ListedFigure, bytes]]:
    """Read the figures of a folder, each with its SVG; none if it has no list.

    Raises
    ------
    InputError, ParameterError
        The list is damaged, or a file of it is missing.
    """
    path = folder / FILE
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())
        if not isinstance(rows, list):
            raise ValueError("no list of figures")
        listed = [parse(ListedFigure, row, str(path)) for row in rows]
        if not all(is_plain_name(figure.name) for figure in listed):
            raise ValueError("a name that cannot be that of a figure")
        return [(figure, (folder / f"{figure.name}.svg").read_bytes()) for figure in listed]
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be shown ({error}); run `fvpipe figures` again") from None
