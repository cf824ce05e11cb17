"""Rows of declared label tables -> what all rows of all tables say, one file after the other."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Literal

from fvpipe.config.facts import EXAM_NAMES
from fvpipe.datasets.adapter import ImageFacts, ListedImage
from fvpipe.datasets.combine import DescribedBreast, combined, completed, differing_facts
from fvpipe.datasets.declared.declaration import Declaration, Table
from fvpipe.datasets.declared.facts import adds_boxes
from fvpipe.datasets.declared.listed_images import list_image, rows_of_images
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.declared.values import EDGES, SIZES, has_value, matched_text, parse_count, parse_day, parse_view
from fvpipe.errors import LabelTableError
from fvpipe.io.tables import MAX_MATCHED, OpenTable, Row, whole_number
from fvpipe.printable import first_names
from fvpipe.types import BreastFacts, Exam, Finding, Laterality, View

Confirmed = defaultdict[tuple[str, Laterality], list[tuple[date, Exam, BreastFacts]]]
"""Results of pathology by patient and side."""


class FactsByBreast:
    """Breasts that rows describe, each with the facts that its rows give together."""

    def __init__(self) -> None:
        self.facts: dict[DescribedBreast, BreastFacts] = {}
        self.before: Set[DescribedBreast] = frozenset()  # by the tables before the one that is read
        self._described: dict[DescribedBreast, list[BreastFacts]] = {}  # by rows that differ

    def describe(self, reader: RowReader, row: Row, key: DescribedBreast, facts: BreastFacts) -> None:
        """Add what one row says.

        Raises
        ------
        LabelTableError
            Another row of the breast contradicts it.
        """
        table, exam, rows = reader.table, key[2], self._described.setdefault(key, [])
        if facts in rows:
            return
        labels = {(each.label, each.excluded) for each in (*rows[:1], facts)}
        if rows and (table.combine == "same" or (table.combine == "first" and len(labels) > 1)):
            names = [
                (reader.columns.get(fact) or table.columns[fact]).column[0] for fact in EXAM_NAMES if fact in table.columns
            ]
            apart = f", or a column {', '.join(names)} to tell exams apart" if names and exam == Exam() else ""
            (file, _, line), differing = rows[0].place.rpartition(", line "), differing_facts(rows[0], facts)
            where = f"{row.file}, lines {line} and {row.line}"
            if file != row.file.name:
                where = f"{rows[0].place}, and {row.file}, line {row.line}"
                apart += ": join the two tables, or let the second one only add BI-RADS, density, ... (`adds: true`)"
            what = "labels" if differing == "label" else f"descriptions ({differing})"
            raise LabelTableError(
                f"{where}: one breast has two {what}{' in one exam' if exam != Exam() else ''}; expected one{apart}"
            )
        rows.append(facts)
        facts = combined(rows, table.combine)
        # Of a cancer in a table of its own, the exam's subset and BI-RADS stand in the table of exams.
        self.facts[key] = completed(facts, rows) if key in self.before else facts


@dataclass
class TableContents:
    """Contents of the tables, one after the other."""

    breasts: FactsByBreast = field(default_factory=FactsByBreast)
    added: FactsByBreast = field(default_factory=FactsByBreast)  # by tables that only add facts
    confirmed: Confirmed = field(default_factory=lambda: defaultdict(list))  # by the table that is read
    follow_ups: list[tuple[int, Confirmed]] = field(default_factory=list)  # days, and what each table confirms in them
    days: dict[DescribedBreast, date] = field(default_factory=dict)
    implied: dict[DescribedBreast, BreastFacts] = field(default_factory=dict)
    decided: set[DescribedBreast] = field(default_factory=set)  # whose rows decided over another exam
    images: dict[str, ImageFacts] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    regions: dict[tuple[str, Laterality, View, int], set[tuple[str, int | None]]] = field(default_factory=dict)
    listed: dict[str, ListedImage] = field(default_factory=dict)
    boxes: dict[str, ListedImage] = field(default_factory=dict)  # by tables that give nothing else
    combine: Literal["same", "first", "worst"] = "same"  # of rows about images, and of paths
    unused: list[str] = field(default_factory=list)  # places of what is about no image of these tables
    notes: list[str] = field(default_factory=list)


@dataclass
class _RowsTogether:
    """Rows of one file about breasts, as far as several must be looked at together."""

    by_exam: dict[tuple[str, Exam], dict[Laterality, list[Row]]] = field(default_factory=dict)  # for `contralateral`
    labelled: dict[str, list[bool]] = field(default_factory=dict)  # by patient, of each row in turn: whether it has a label


def read_rows(declaration: Declaration, reader: RowReader, opened: OpenTable, found: TableContents) -> None:
    """Read the rows of one file."""
    table, file = reader.table, opened.file
    subset = _subset_by_name(table, file)
    groups, required, used = _columns_of(reader)
    of_breast = reader.columns.keys() & {"patient", "laterality", *([table.label] if isinstance(table.label, str) else ())}
    columns = {name for fact in of_breast for name in reader.columns[fact].column}
    all_rows = opened.rows(required, used, needed={*columns, *groups, *used})
    filled = (row for row in all_rows if not required or any(row[name] for name in required))  # no remark below a table
    if table.label and (table.lists_images or "patient" not in reader.columns):
        found.combine = table.combine
    forms = {name: dict[str, Row]() for name in _columns_of_numbers(reader)}
    described = _noting_numbers(filled, forms)
    count, together = 0, _RowsTogether()
    if table.lists_images:
        listed = found.boxes if adds_boxes(declaration, table) else found.listed
        for row in rows_of_images(described, groups, found.notes):
            count += 1
            list_image(declaration, reader, row, listed, subset)
    else:
        for row in described:
            count += 1
            _read_row(reader, row, found, subset, together)
    if not count:
        raise LabelTableError(f"{file}: has a heading and no row; expected a row for each breast, or no label table")
    _check_points(forms)
    read = {*required, *used, *(name for each in declaration.tables if each.file == table.file for name in each.names)}
    unread = _unread_columns(opened, read) if table.adds else ()
    notes = (*unread, *_left_out(reader, found), *_merged_before(together.labelled))
    found.notes += (f"{opened.shown.name}: {note}" for note in notes)
    _imply_other_breasts(reader, together.by_exam, found)


def _columns_of_numbers(reader: RowReader) -> Iterator[str]:
    """Columns whose cells are numbers of a target, or of a box."""
    for fact, column in reader.columns.items():
        is_number = reader.targets[fact].unit if fact in reader.targets else fact in (*EDGES, *SIZES.values())
        yield from column.column if is_number and not column.pattern else ()


def _noting_numbers(rows: Iterable[Row], forms: Mapping[str, dict[str, Row]]) -> Iterator[Row]:
    """Pass rows on; note the first row with each form of numbers in a column."""
    for row in rows:
        for name, found in forms.items():
            form = next((form for form, pattern in _NUMBER_FORMS.items() if re.fullmatch(pattern, row.get(name))), "")
            found.setdefault(form, row)
        yield row


_NUMBER_FORMS = {"1.096": r"-?[1-9]\d{0,2}\.\d{3}", "1,5": r".*,.*", "1.5": r".*\..*", "365": r"-?\d{3,}"}


def _check_points(forms: Mapping[str, Mapping[str, Row]]) -> None:
    """Check that no point of a number sets off thousands: other numbers of its column would have one before a fraction."""
    for name, found in forms.items():
        other = found.get("1,5") or (None if "1.5" in found else found.get("365"))
        if other and (row := found.get("1.096")):
            wrong = f"{row.file}, line {row.line}: {name} has a point before three digits, which may set off thousands"
            why = f"line {other.line} has a number without one"
            raise LabelTableError(f"{wrong}: {why}; expected no sign of thousands, or a fourth digit after that of a fraction")


def _subset_by_name(table: Table, file: Path) -> str:
    """The published split of all rows, which the name of their file tells; empty where it does not."""
    parts = {part: value for part, value in table.subset_by_name.items() if part in file.name}
    if len(set(parts.values())) > 1:  # `latest` has `test`
        raise LabelTableError(f"{file}: its name has {' and '.join(parts)} (`subset_by_name`); expected one: rename the file")
    return next(iter(parts.values()), "")


def _columns_of(reader: RowReader) -> tuple[list[str], list[str], set[str]]:
    """Columns that name a row's image, those and the ones of facts, and those that rules read."""
    table = reader.table
    groups = [name for name in (table.path, table.instance, *table.path_groups.values()) if name]
    dates = [table.follow_up.date] if table.follow_up else []
    required = list(dict.fromkeys([*groups, *(name for column in reader.columns.values() for name in column.column), *dates]))
    rules = [rule.when for rule in (*table.cases, *table.contralateral)] + [rule.when for rule in table.exclude]
    used = {name for when in rules for name in when}
    return groups, required, used


def _read_row(reader: RowReader, row: Row, found: TableContents, subset: str, together: _RowsTogether) -> None:
    """Read a row about breasts, or about an image by its SOP Instance UID."""
    table = reader.table
    if table.instance:
        _describe_image(reader, row, found, subset)
    if not {"patient", "laterality"} <= reader.columns.keys() or not (table.label or table.adds):
        return
    patient, exam = reader.cell(row, "patient"), reader.exam(row)
    if not patient:
        expected = "the patient of the row; of merged cells the first alone has a value"
        raise row.error(reader.columns["patient"].column[0], expected)
    if table.label in ("label", "bi_rads"):
        filled = any(has_value(row.get(name)) for name in reader.columns[table.label].column)
        together.labelled.setdefault(patient, []).append(filled)
    sides = reader.sides(row)
    cases = ((side, reader.label_case(row, side)) for side in Laterality if side not in sides)
    others = [side for side, case in cases if case and case.confirmed and case.names_side]
    for side in (*sides, *others):  # pathology may be of the side that the row's finding is not on
        _describe_breast(reader, row, (patient, side, exam), found, subset)
        if table.contralateral:
            together.by_exam.setdefault((patient, exam), {}).setdefault(side, []).append(row)


def _unread_columns(opened: OpenTable, read: Set[str]) -> Iterator[str]:
    """A note on columns beside those that are read, where there are any."""
    if unread := [name for name in opened.heading if name and name not in read]:
        shown = ", ".join([" ".join(name.split())[:40] for name in unread[:10]] + ["..."] * (len(unread) > 10))
        yield f"{len(unread)} column(s) are not read, whatever they say of a breast: {shown}"


def _left_out(reader: RowReader, found: TableContents) -> Iterator[str]:
    """Notes on boxes and ages that are left out, and on words of `exclude` that leave out nothing."""
    if reader.flat:
        lines, errors = [line for line, _ in reader.flat], [error for _, error in reader.flat if error]
        of_rows = (each.findings for listed in (found.listed, found.boxes) for each in listed.values())
        boxes = sum(map(len, (*found.findings.values(), *of_rows)))
        if len(errors) > (max(4, boxes) if boxes else 1):
            raise errors[0]  # its columns are of other edges, or of width and height
        yield f"{len(lines)} box(es) have no area, and are left out: line {first_names(lines)}"
    if reader.ages:
        name, count = reader.columns["age"].column[0], len(reader.ages)
        yield f"{count} cell(s) of {name} are not numbers of years, and are not read: line {first_names(reader.ages)}"
    for (name, _), shown in reader.unfit.items() if not reader.table.every else ():
        yield f"`exclude` leaves out no image by word {shown} of {name}, which fits no row"


def _imply_other_breasts(
    reader: RowReader, by_exam: Mapping[tuple[str, Exam], Mapping[Laterality, Sequence[Row]]], found: TableContents
) -> None:
    """Describe the other breast of each exam whose rows name one side alone, as `contralateral` says."""
    for (patient, exam), named in by_exam.items():
        if len(named) == 1:
            ((side, of_exam),) = named.items()
            other = Laterality.RIGHT if side is Laterality.LEFT else Laterality.LEFT
            if then := reader.implied_outcome(of_exam, other):
                key, said = (patient, other, exam), found.breasts.facts[patient, side, exam]  # density and age are of both
                found.implied[key] = BreastFacts(then[0], None, said.density, said.age, excluded=then[1], place=said.place)
                if (patient, side, exam) in found.days:
                    found.days[key] = found.days[patient, side, exam]


def _merged_before(labelled: Mapping[str, Sequence[bool]]) -> Iterator[str]:
    """A note on labels that stand as merged cells leave them in a CSV file: in the first row of a patient alone."""
    several = [rows for rows in labelled.values() if len(rows) > 1]
    if len(several) < 2 or not all(first and not any(others) for first, *others in several):
        return
    empty = sum(len(rows) - 1 for rows in several)
    detail = "of each patient with several rows the first alone has a label, as merged cells leave it"
    yield f"{detail}; the other {empty} row(s) have none. Write the label into each, or `unlabelled` where there is none"


def _describe_breast(reader: RowReader, row: Row, key: DescribedBreast, found: TableContents, subset: str) -> None:
    table, (patient, side, exam) = reader.table, key
    facts = reader.facts(row, side, subset)
    if table.adds:
        found.added.describe(reader, row, key, facts)
        return
    found.breasts.describe(reader, row, key, facts)
    if "lesion" in reader.columns:
        view, lesion = reader.parsed(row, "view", parse_view, "CC or MLO"), reader.parsed(row, "lesion", whole_number)
        if view and lesion != "":
            found.regions.setdefault((patient, side, view, lesion), set()).add((reader.cell(row, "category"), facts.bi_rads))
    if table.follow_up:
        where, cell = f"{row.file}, line {row.line}: {table.follow_up.date}", row.get(table.follow_up.date)
        if pattern := table.follow_up.pattern:  # also of a date: a spreadsheet that made one may have exchanged day and month
            match = re.search(pattern, cell) if len(cell) <= MAX_MATCHED else None
            cell = matched_text(match) if match else "another" if has_value(cell) else ""
        if not (text := parse_day(cell)):
            wrong = "is not a date; expected" if has_value(cell) else "is empty; leave out rows without a date, or write"
            form = f"text of the form {pattern}" if pattern else "YYYY-MM-DD (other forms: `pattern` of `follow_up`)"
            raise LabelTableError(f"{where} {wrong} {form}")
        day = date.fromisoformat(text)
        if found.days.setdefault(key, day) != day and exam != Exam():
            raise LabelTableError(f"{where} is another day than in an earlier row of this breast and exam; expected one")
        if (case := reader.label_case(row, side)) and case.confirmed:
            found.confirmed[patient, side].append((day, exam, facts))
    elif exam.date:
        found.days[key] = date.fromisoformat(exam.date)


def _describe_image(reader: RowReader, row: Row, found: TableContents, subset: str) -> None:
    """A row about the image with a SOP Instance UID: compared with its header, or a box on it.

    Without a column of the patient it describes the breast that the image shows.
    """
    table = reader.table
    image = row[table.instance]
    if not image:
        if not table.label:
            raise row.error(table.instance, "the SOP Instance UID of the image that the box lies on")
        if "patient" not in reader.columns:
            raise row.error(table.instance, "the SOP Instance UID of the image that shows the breast")
        return
    if not table.label:
        found.findings.setdefault(image, []).extend(reader.findings(row))
        return
    sides, view = reader.sides(row), reader.parsed(row, "view", parse_view, "CC or MLO")
    rows, columns = (reader.parsed(row, fact, parse_count) for fact in ("rows", "columns"))
    side, whose = sides[0] if len(sides) == 1 else None, (reader.cell(row, "patient"), reader.exam(row))
    shown = ImageFacts(row.line, side, view or None, rows or None, columns or None, *whose)
    before = found.images.setdefault(image, shown)
    if before != replace(shown, line=before.line):
        where = f"{row.file}, lines {before.line} and {row.line}"
        raise LabelTableError(f"{where}: list one image (column {table.instance}) and differ; expected one row")
    if side or "patient" not in reader.columns:
        facts = reader.facts(row, side, subset)
        if before.facts and facts not in before.facts and table.combine == "same":
            where = f"{row.file}, lines {before.line} and {row.line}"
            raise LabelTableError(f"{where}: list one image and differ; expected one row, or `combine` of the table")
        found.images[image] = replace(before, facts=(*before.facts, *([] if facts in before.facts else [facts])))
