"""Adapters by declaration: the tables and paths of a data set, read as its YAML file says."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Literal

from fvpipe.config.facts import EXAM_NAMES, IDENTITY
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, ImageFacts, LabelTable, ListedImage
from fvpipe.datasets.combine import BreastOfExam, combined, completed, differing_facts, with_follow_up, with_more
from fvpipe.datasets.declaration import Declaration
from fvpipe.datasets.label_rules import RowReader, has_value
from fvpipe.datasets.listed_images import list_image, rows_of_images, state_images
from fvpipe.datasets.table_settings import BI_RADS_RULES, files_of, options_of, row_reader
from fvpipe.datasets.unused_keys import adds_boxes
from fvpipe.datasets.values import parse_count, parse_day, parse_view
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.io.tables import OpenTable, Row, open_table, whole_number
from fvpipe.types import BreastFacts, Exam, Finding, Laterality, View


def declared_adapter(declaration: Declaration) -> Adapter:
    """Make the adapter of a declaration.

    Raises
    ------
    ParameterError
        Its module of code cannot be imported.
    """
    headers, identity, code = declaration.headers, declaration.identity, _code(declaration)
    read_region = getattr(code, "read_region", None)
    outside = any(set(getattr(identity, fact)) - {"header"} for fact in IDENTITY)
    listed = any(table.lists_images for table in declaration.tables)
    return Adapter(
        name=declaration.name,
        license=declaration.license,
        policy=HeaderPolicy(
            formats=declaration.formats,
            inverted=headers.inverted,
            secondary_capture=headers.secondary_capture,
            for_processing=headers.for_processing,
            view_in_patient_orientation=headers.view_in_patient_orientation,
            ml_is_mlo=headers.ml_is_mlo,
            patient_from=headers.patient_from,
            patient_pattern=headers.patient_pattern,
            region_pattern=headers.region_pattern,
            keep_studies_apart=headers.studies_apart,
        ),
        hashed=declaration.hashed,
        publishable=declaration.publishable,
        read_labels=partial(read_declared, declaration),
        read_region=partial(read_region, pattern=headers.region_pattern) if read_region else None,
        state_images=partial(state_images, declaration) if outside or listed else None,
        redistribute_shards=declaration.redistribute_shards,
        release_models=declaration.release_models,
        declaration=declaration,
        identity=identity,
    )


def _code(declaration: Declaration) -> ModuleType | None:
    try:
        return importlib.import_module(declaration.code) if declaration.code else None
    except ImportError as error:
        raise ParameterError(f"adapter {declaration.name!r}: module {declaration.code!r} cannot be imported: {error}") from None


# --- label tables -----------------------------------------------------------------------------------------------------


class _Breasts:
    """Breasts that rows describe, each with the facts that its rows give together."""

    def __init__(self) -> None:
        self.facts: dict[BreastOfExam, BreastFacts] = {}
        self.before: Set[BreastOfExam] = frozenset()  # by the tables before the one that is read
        self._described: dict[BreastOfExam, list[BreastFacts]] = {}  # by rows that differ

    def describe(self, reader: RowReader, row: Row, key: BreastOfExam, facts: BreastFacts) -> None:
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
class _Found:
    """Contents of the tables, one after the other."""

    breasts: _Breasts = field(default_factory=_Breasts)
    added: _Breasts = field(default_factory=_Breasts)  # by tables that only add facts
    confirmed: defaultdict[tuple[str, Laterality], list[tuple[date, Exam, BreastFacts]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    days: dict[BreastOfExam, date] = field(default_factory=dict)
    implied: dict[BreastOfExam, BreastFacts] = field(default_factory=dict)
    decided: set[BreastOfExam] = field(default_factory=set)  # whose rows decided over another exam
    images: dict[str, ImageFacts] = field(default_factory=dict)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    regions: dict[tuple[str, Laterality, View, int], set[tuple[str, int | None]]] = field(default_factory=dict)
    listed: dict[str, ListedImage] = field(default_factory=dict)
    boxes: dict[str, ListedImage] = field(default_factory=dict)  # by tables that give nothing else
    combine: Literal["same", "first", "worst"] = "same"  # of rows about images, and of paths
    unused: list[str] = field(default_factory=list)  # places of what is about no image of these tables
    notes: list[str] = field(default_factory=list)


def read_declared(declaration: Declaration, root: Path, label_file: Path | None, rules: Labels) -> LabelTable:
    """Read the tables of a data set.

    Raises
    ------
    LabelTableError
        A table is missing or breaks its form.
    ParameterError
        ``params.yaml`` has settings that the declaration or its tables cannot follow.
    """
    options, code = options_of(declaration, rules), _code(declaration)
    found = _Found(combine=next((table.combine for table in declaration.tables_of_paths if table.label), "same"))
    tables = [table for table in declaration.tables if not table.from_path]
    first = next((table for table in tables if table.label), None)  # what the user's file and columns are about
    about_table = bool(rules.columns or rules.classes or rules.label_from)
    if first is None and (label_file is not None or (about_table and not tables)):
        expected = "no `label_file`, `columns`, `classes` and `label_from` in params.yaml (--labels, --column, --class)"
        raise ParameterError(f"labels: adapter {declaration.name!r} takes labels from no table; expected {expected}")
    read, windows = False, list[tuple[int, Mapping[tuple[str, Laterality], Sequence[tuple[date, Exam, BreastFacts]]]]]()
    for table in tables:
        found.confirmed = defaultdict(list)
        found.breasts.before = set(found.breasts.facts)
        named = label_file if first and table.file == first.file else None  # one file may be read twice, for each breast
        for file in files_of(table, root, named):
            read = True
            opened = open_table(file, sheet=table.sheet)
            try:
                reader = row_reader(declaration, table, opened, rules, options, first=table is first)
                _read(declaration, reader, opened, found)
            except LabelTableError as error:
                if not table.adds:
                    raise
                todo = "It only adds facts: take it out of the folder, or describe it in a declaration of your own"
                raise LabelTableError(f"{error}. {todo}") from None
        if table.follow_up:
            days = table.follow_up.days
            windows.append((int(options[days[1:]] if days.startswith("$") else days), found.confirmed))
    for limit, confirmed in windows:  # over the exams of all tables
        decided, used = with_follow_up({**found.implied, **found.breasts.facts}, confirmed, found.days, limit)
        found.decided |= used
        found.implied = {key: decided[key] for key in found.implied}
        found.breasts.facts = {key: decided[key] for key in found.breasts.facts}
    more = [(image.place, key, image.findings) for key, image in found.boxes.items() if image.findings]
    if code is not None and hasattr(code, "read_findings"):
        more += [(f"findings of {key}", key, boxes) for key, boxes in code.read_findings(root).items()]
    for place, key, boxes in more:
        if key in found.listed:
            found.listed[key] = replace(found.listed[key], findings=(*found.listed[key].findings, *boxes))
        else:
            found.unused.append(place)
    of_paths = any(table.label == "bi_rads" for table in declaration.tables_of_paths)
    by_bi_rads = bool(rules.model_fields_set & BI_RADS_RULES) and not of_paths
    if not read and (about_table or by_bi_rads):
        wrong = "`columns`, `classes`, `label_from` and `bi_rads_*` are about a label table, and there is none"
        raise ParameterError(f"labels: {wrong}; name it: `label_file` of params.yaml, or --labels")
    if code is not None and not read and hasattr(code, "default_labels"):
        return LabelTable(code.default_labels())
    excluded = dict.fromkeys(declaration.duplicate_patients, "its pixels occur in another patient too")
    breasts, added = found.breasts.facts, found.added.facts
    breasts = {key: with_more(facts, added[key]) if key in added else facts for key, facts in breasts.items()}
    more_added = {key: facts for key, facts in added.items() if key not in breasts}
    implied = {key: facts for key, facts in found.implied.items() if key not in breasts}
    if rules.unlabelled == "normal":  # what a re-reading calls suspicious is not normal for want of a label
        implied = more_added | implied
    of_images = any(table.label and table.lists_images for table in declaration.tables)
    return LabelTable(
        {(patient, side): facts for (patient, side, exam), facts in breasts.items() if exam == Exam()},
        excluded if rules.duplicate_patients == "drop" else {},
        exams={key: facts for key, facts in breasts.items() if key[2] != Exam()},
        images=found.images,
        findings=found.findings,
        regions=found.regions,
        listed=found.listed,
        implied=implied,
        combine=found.combine,
        decided=found.decided,
        notes=tuple(found.notes),
        added=more_added if of_images else {},
        unused=(*found.unused, *(facts.place for facts in more_added.values() if not of_images)),
    )


def _read(declaration: Declaration, reader: RowReader, opened: OpenTable, found: _Found) -> None:
    """Read the rows of one file."""
    table, file = reader.table, opened.file
    groups = [name for name in (table.path, table.instance, *table.path_groups.values()) if name]
    required = list(dict.fromkeys([*groups, *(name for column in reader.columns.values() for name in column.column)]))
    parts = {part: value for part, value in table.subset_by_name.items() if part in file.name}
    if len(set(parts.values())) > 1:  # `latest` has `test`
        raise LabelTableError(f"{file}: its name has {' and '.join(parts)} (`subset_by_name`); expected one: rename the file")
    subset = next(iter(parts.values()), "")
    rows, exams = 0, dict[tuple[str, Exam], dict[Laterality, list[Row]]]()
    labelled: dict[str, list[bool]] = {}  # by patient, of each row in turn: whether it has a label
    rules = [rule.when for rule in (*table.cases, *table.contralateral)] + [rule.when for rule in table.exclude]
    used = {name for when in rules for name in when} | ({table.follow_up.date} if table.follow_up else set())
    of_breast = reader.columns.keys() & {"patient", "laterality", *([table.label] if isinstance(table.label, str) else ())}
    columns = {name for fact in of_breast for name in reader.columns[fact].column}
    all_rows = opened.rows(required, used, needed={*columns, *groups, *used})
    described = (row for row in all_rows if not required or any(row[name] for name in required))  # no remark below a table
    only_boxes = adds_boxes(declaration, table)
    if table.label and (table.lists_images or "patient" not in reader.columns):
        found.combine = table.combine
    for row in rows_of_images(described, groups, found.notes) if table.lists_images else described:
        rows += 1
        if table.lists_images:
            list_image(declaration, reader, row, found.boxes if only_boxes else found.listed, subset)
            continue
        if table.instance:
            _describe_image(reader, row, found, subset)
        if not {"patient", "laterality"} <= reader.columns.keys() or not (table.label or table.adds):
            continue
        patient, exam = reader.cell(row, "patient"), reader.exam(row)
        if not patient:
            expected = "the patient of the row; of merged cells the first alone has a value"
            raise row.error(reader.columns["patient"].column[0], expected)
        if table.label in ("label", "bi_rads"):
            filled = any(has_value(row.get(name)) for name in reader.columns[table.label].column)
            labelled.setdefault(patient, []).append(filled)
        sides = reader.sides(row)
        cases = ((side, reader.label_case(row, side)) for side in Laterality if side not in sides)
        others = [side for side, case in cases if case and case.confirmed and case.names_side]
        for side in (*sides, *others):  # pathology may be of the side that the row's finding is not on
            _describe_breast(reader, row, (patient, side, exam), found, subset)
            if table.contralateral:
                exams.setdefault((patient, exam), {}).setdefault(side, []).append(row)
    if not rows:
        raise LabelTableError(f"{file}: has a heading and no row; expected a row for each breast, or no label table")
    read = {*required, *used, *(name for each in declaration.tables if each.file == table.file for name in each.names)}
    if table.adds and (idle := [name for name in opened.heading if name and name not in read]):
        shown = ", ".join([" ".join(name.split())[:40] for name in idle[:10]] + ["..."] * (len(idle) > 10))
        found.notes.append(f"{file.name}: {len(idle)} column(s) are not read, whatever they say of a breast: {shown}")
    if reader.flat:
        lines, errors = [line for line, _ in reader.flat], [error for _, error in reader.flat if error]
        of_rows = (each.findings for listed in (found.listed, found.boxes) for each in listed.values())
        boxes = sum(map(len, (*found.findings.values(), *of_rows)))
        if len(errors) > (max(4, boxes) if boxes else 1):
            raise errors[0]  # its columns are of other edges, or of width and height
        found.notes.append(f"{file.name}: {len(lines)} box(es) have no area, and are left out: line {_first(lines)}")
    if reader.ages:
        name, count = reader.columns["age"].column[0], len(reader.ages)
        what = f"{count} cell(s) of {name} are no number of years, and are not read: line {_first(reader.ages)}"
        found.notes.append(f"{file.name}: {what}")
    for (name, _), shown in reader.unfit.items() if not table.every else ():
        found.notes.append(f"{file.name}: `exclude` leaves out no image by word {shown} of {name}, which fits no row")
    if note := _merged_before(labelled):
        found.notes.append(f"{file.name}: {note}")
    for (patient, exam), named in exams.items():
        if len(named) == 1:
            ((side, of_exam),) = named.items()
            other = Laterality.RIGHT if side is Laterality.LEFT else Laterality.LEFT
            if then := reader.implied_outcome(of_exam, other):
                key, said = (patient, other, exam), found.breasts.facts[patient, side, exam]  # density and age are of both
                found.implied[key] = BreastFacts(then[0], None, said.density, said.age, excluded=then[1], place=said.place)
                if (patient, side, exam) in found.days:
                    found.days[key] = found.days[patient, side, exam]


def _first(lines: Sequence[int]) -> str:
    return ", ".join(map(str, lines[:3])) + (", ..." if len(lines) > 3 else "")


def _merged_before(labelled: Mapping[str, Sequence[bool]]) -> str:
    """Say that labels stand as merged cells of a spreadsheet leave them in a CSV file: in the first row of a patient alone."""
    several = [rows for rows in labelled.values() if len(rows) > 1]
    if len(several) < 2 or not all(first and not any(others) for first, *others in several):
        return ""
    empty = sum(len(rows) - 1 for rows in several)
    detail = "of each patient with several rows the first alone has a label, as merged cells leave it"
    return f"{detail}; the other {empty} row(s) have none. Write the label into each, or `unlabelled` where there is none"


def _describe_breast(reader: RowReader, row: Row, key: BreastOfExam, found: _Found, subset: str) -> None:
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
        if not (text := parse_day(cell)):
            wrong = "is no date; expected" if has_value(cell) else "is empty; leave out rows without a date, or write"
            raise LabelTableError(f"{where} {wrong} YYYY-MM-DD")
        day = date.fromisoformat(text)
        if found.days.setdefault(key, day) != day and exam != Exam():
            raise LabelTableError(f"{where} is another day than in an earlier row of this breast and exam; expected one")
        if (case := reader.label_case(row, side)) and case.confirmed:
            found.confirmed[patient, side].append((day, exam, facts))
    elif exam.date:
        found.days[key] = date.fromisoformat(exam.date)


def _describe_image(reader: RowReader, row: Row, found: _Found, subset: str) -> None:
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
