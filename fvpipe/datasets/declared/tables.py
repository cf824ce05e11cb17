"""Adapters by declaration: the tables and paths of a data set, read as its YAML file says."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType

from fvpipe.config.facts import IDENTITY
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable
from fvpipe.datasets.combine import with_follow_up, with_more
from fvpipe.datasets.declared.contents import TableContents, read_rows
from fvpipe.datasets.declared.declaration import Declaration, Table
from fvpipe.datasets.declared.settings import BI_RADS_RULES, files_of, make_row_reader, options_of
from fvpipe.datasets.declared.stated_images import state_images
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.io.tables import open_table
from fvpipe.types import Exam, Finding


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
    tables = [table for table in declaration.tables if not table.from_path]
    first = next((table for table in tables if table.label), None)  # what the user's file and columns are about
    about_table = bool(rules.columns or rules.classes or rules.label_from)
    if first is None and (label_file is not None or (about_table and not tables)):
        expected = "no `label_file`, `columns`, `classes` and `label_from` in params.yaml (--labels, --column, --class)"
        raise ParameterError(f"labels: adapter {declaration.name!r} takes labels from no table; expected {expected}")
    found = TableContents(combine=next((table.combine for table in declaration.tables_of_paths if table.label), "same"))
    read = False
    for table in tables:
        named = label_file if first and table.file == first.file else None  # one file may be read twice, for each breast
        is_first = first is not None and (table is first or _is_for_other_breast(declaration, first, table, rules))
        read |= _read_files(declaration, table, files_of(table, root, named), rules, options, found, first=is_first)
    _decide_by_follow_up(found)
    _join_boxes(found, code.read_findings(root) if code is not None and hasattr(code, "read_findings") else {})
    if code is not None and hasattr(code, "settle_labels"):
        found.listed = code.settle_labels(found.listed)
    of_paths = any(table.label == "bi_rads" for table in declaration.tables_of_paths)
    by_bi_rads = bool(rules.model_fields_set & BI_RADS_RULES) and not of_paths
    if not read and (about_table or by_bi_rads):
        wrong = "`columns`, `classes`, `label_from` and `bi_rads_*` are about a label table, and there is none"
        raise ParameterError(f"labels: {wrong}; name it: `label_file` of params.yaml, or --labels")
    if code is not None and not read and hasattr(code, "default_labels"):
        return LabelTable(code.default_labels())
    return _label_table(declaration, rules, found)


def _is_for_other_breast(declaration: Declaration, first: Table, table: Table, rules: Labels) -> bool:
    """Whether a table reads the file of the first one again, by a rule of its kind: the user's settings are about both.

    Raises
    ------
    ParameterError
        A setting names the one column of a fact that is in another column for each breast.
    """
    by_cases, of_images = bool(table.cases) == bool(first.cases), table.lists_images == first.lists_images
    if table.file != first.file or table.adds or not (table.label and by_cases and of_images):
        return False
    for fact in rules.columns.keys() & first.columns.keys() & table.columns.keys():
        one, other = (" or ".join(each.columns[fact].column) for each in (first, table))
        if one != other:
            wrong = f"a column of {fact} would be read for both {one!r} and {other!r}, which two tables of one file have for it"
            raise ParameterError(f"labels: {wrong}; name them in the declaration (adapter {declaration.name!r})")
    return True


def _read_files(
    declaration: Declaration,
    table: Table,
    files: Sequence[Path],
    rules: Labels,
    options: Mapping[str, str],
    found: TableContents,
    *,
    first: bool,
) -> bool:
    """Read the files of one table; returns whether there are any."""
    found.confirmed = defaultdict(list)
    found.breasts.before = set(found.breasts.facts)
    for file in files:
        opened = open_table(file, sheet=table.sheet)
        try:
            reader = make_row_reader(declaration, table, opened, rules, options, first=first)
            read_rows(declaration, reader, opened, found)
        except LabelTableError as error:
            if not table.adds:
                raise
            todo = "It only adds facts: take it out of the folder, or describe it in a declaration of your own"
            raise LabelTableError(f"{error}. {todo}") from None
    if table.follow_up:
        days = table.follow_up.days
        found.follow_ups.append((int(options[days[1:]] if days.startswith("$") else days), found.confirmed))
    return bool(files)


def _decide_by_follow_up(found: TableContents) -> None:
    """Let pathology at a later exam decide, over the exams of all tables."""
    for limit, confirmed in found.follow_ups:
        decided, used = with_follow_up({**found.implied, **found.breasts.facts}, confirmed, found.days, limit)
        found.decided |= used
        found.implied = {key: decided[key] for key in found.implied}
        found.breasts.facts = {key: decided[key] for key in found.breasts.facts}


def _join_boxes(found: TableContents, of_code: Mapping[str, Sequence[Finding]]) -> None:
    """Give listed images the boxes of tables that hold nothing else, and those that code reads."""
    boxes = [(image.place, key, image.findings) for key, image in found.boxes.items() if image.findings]
    for place, key, findings in (*boxes, *((f"findings of {key}", key, each) for key, each in of_code.items())):
        if key in found.listed:
            found.listed[key] = replace(found.listed[key], findings=(*found.listed[key].findings, *findings))
        else:
            found.unused.append(place)


def _label_table(declaration: Declaration, rules: Labels, found: TableContents) -> LabelTable:
    """Put together what all tables say."""
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
