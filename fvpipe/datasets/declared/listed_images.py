"""Rows of tables that list images -> what each says of its image."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from posixpath import normpath

from fvpipe.config.formats import IMAGE_SUFFIXES
from fvpipe.datasets.adapter import ListedImage
from fvpipe.datasets.declared.declaration import Declaration
from fvpipe.datasets.declared.facts import EDGES_OF_BOXES
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.declared.values import SIDES, parse_count, parse_exam_date, parse_kind
from fvpipe.errors import LabelTableError
from fvpipe.io.folding import whole_text
from fvpipe.io.tables import Row
from fvpipe.printable import first_names
from fvpipe.reasons import Reason
from fvpipe.types import BreastFacts, Laterality

IMAGE_SUFFIX = re.compile("(" + "|".join(re.escape(each) for each in sorted(IMAGE_SUFFIXES)) + ")$", re.IGNORECASE)
"""Ends of the names of images, of any format."""


def rows_of_images(rows: Iterable[Row], columns: Sequence[str], notes: list[str]) -> Iterator[Row]:
    """Rows that name an image in one of `columns`; what is below the last of them, as totals are, is left out with a note.

    Raises
    ------
    LabelTableError
        A row between others names none, or no row does.
    """
    nameless, named = list[Row](), False
    for row in rows:
        if not any(row[column] for column in columns):
            nameless.append(row)
        elif nameless:
            raise _without_image(nameless[0], columns)
        else:
            named = True
            yield row
    if nameless and not named:
        raise _without_image(nameless[0], columns)
    if nameless:
        lines = first_names([row.line for row in nameless])
        what = "row(s) below the others name no image, and are left out"
        notes.append(f"{nameless[0].file.name}: {len(nameless)} {what}: line {lines}")


def _without_image(row: Row, columns: Sequence[str]) -> LabelTableError:
    return row.error(columns[0], "the image that the row is about")


def list_image(declaration: Declaration, reader: RowReader, row: Row, listed: dict[str, ListedImage], subset: str = "") -> None:
    """Add the image that a row is about to `listed`.

    Raises
    ------
    LabelTableError
        The row names no image, or differs from another one about it.
    """
    table = reader.table
    groups = (whole_text(row[column]) for column in table.path_groups.values())
    key = "\0".join(groups) if table.path_groups else path_key(row[table.path])
    if not key.strip("\0"):
        raise row.error(table.path or next(iter(table.path_groups.values())), "the path of an image")
    if table.path and table.path_parts:
        key = "/".join(key.split("/")[-table.path_parts :])
    image = read_image(reader, row, row.place, subset, _side_in_path(declaration, row.get(table.path)) if table.path else None)
    before = listed.setdefault(key, image)
    if before is image:
        return
    facts = (*((before.facts,) if before.facts else ()), *before.more_facts)
    new = [image.facts] if image.facts and image.facts not in facts else []
    alike = replace(image, place=before.place, facts=before.facts, more_facts=before.more_facts, findings=before.findings)
    differs = bool(new) or bool(before.findings) != bool(image.findings)
    if before != alike or (differs and table.combine == "same"):
        todo = ", or `combine` of the table where each row is a finding" if new and table.file else ""
        raise LabelTableError(f"{before.place} and line {row.line}: list one image and differ; expected one row{todo}")
    boxes = [box for box in image.findings if box not in before.findings]
    listed[key] = replace(before, findings=(*before.findings, *boxes), more_facts=(*before.more_facts, *new))


def _side_in_path(declaration: Declaration, path: str) -> Laterality | None:
    """Side of the image in the path of a row, for rules that compare it where the row names none."""
    if "path" not in declaration.identity.laterality:
        return None
    match = re.search(declaration.path, path.replace("\\", "/"))
    sides = (
        SIDES.get(in_words(declaration, {"laterality": match["laterality"] or ""})["laterality"].lower(), ()) if match else ()
    )
    return sides[0] if len(sides) == 1 else None


def read_image(reader: RowReader, row: Row, place: str, subset: str = "", in_path: Laterality | None = None) -> ListedImage:
    """Read what a row, or the groups of a path, say of an image; `in_path` is the side in the path of a row without one."""
    sides = reader.sides(row)
    side = sides[0] if len(sides) == 1 else None
    about = side if sides else in_path
    kind = reader.parsed(row, "kind", parse_kind)
    exclusion = reader.exclusion(row, about)
    rejected = (exclusion.code, exclusion.why) if exclusion else None
    if kind in ("recombined", "other"):
        detail = f"{reader.columns['kind'].column[0]} is that of {'a recombined' if kind == 'recombined' else 'another'} image"
        rejected = rejected or (Reason.IMAGE_KIND_REFUSED, detail)
    return ListedImage(
        place=place,
        patient=sys.intern(reader.cell(row, "patient")),  # of several rows, of which there may be half a million
        exam=sys.intern(reader.cell(row, "exam")),
        exam_names=reader.exam_names(row),
        # A part of a path that is not a day of the calendar says nothing of the order.
        exam_date=parse_exam_date(reader.cell(row, "exam_date")) if reader.table.from_path else reader.day(row, "exam_date"),
        laterality=side,
        view=reader.cell(row, "view").upper(),
        kind=kind,
        implant=reader.yes(row, "implant"),
        facts=_facts(reader, row, about, subset) if reader.table.label and not exclusion else None,
        findings=tuple(reader.findings(row)) if EDGES_OF_BOXES & reader.columns.keys() else (),
        rejected=rejected,
        rows=reader.parsed(row, "rows", parse_count) or None,
        columns=reader.parsed(row, "columns", parse_count) or None,
    )


def _facts(reader: RowReader, row: Row, side: Laterality | None, subset: str) -> BreastFacts:
    facts = reader.facts(row, side, subset)
    return replace(facts, place=f"the path of {row.file.name}") if reader.table.from_path else facts


def path_key(path: str) -> str:
    r"""Bring a path to the form in which paths are compared: slashes, and no suffix of any format, in any case.

    Folders that lead nowhere (``//``, ``/./``) are left out; letters with accents are one character each, unlike on macOS.

    Examples
    --------
    >>> path_key("NLBS Data\\normal\\1\\IM-1.dcm")
    'NLBS Data/normal/1/IM-1'
    >>> path_key("MR1.0.IMA")
    'MR1.0'
    """
    path = unicodedata.normalize("NFC", path.strip().replace("\\", "/"))
    return IMAGE_SUFFIX.sub("", normpath(path)).rstrip() if path else ""


def in_words(declaration: Declaration, groups: Mapping[str, str]) -> dict[str, str]:
    """Return groups of a path, put into the declared words; a text that is not declared stays as it is."""
    result = {}
    for name, text in groups.items():
        values = {known.casefold(): value for known, value in declaration.path_values.get(name, {}).items()}
        result[name] = values.get(text.casefold(), values.get("*", text))
    return result
