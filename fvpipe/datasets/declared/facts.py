"""Facts that the rows of a declared table can give, and those that they must give."""

from __future__ import annotations

from collections.abc import Mapping

from fvpipe.config.facts import EXAM_DATE, EXAM_NAMES, IDENTITY
from fvpipe.datasets.declared.declaration import Declaration, DeclaredTarget, Table
from fvpipe.datasets.declared.values import EDGES, SIZES, edges_of

_BREAST = {"patient", "exam", "laterality", *EXAM_NAMES}
_ADDED = {"bi_rads", "density", "subtype"}
_OF_LABELS = {*_ADDED, "age", "pathology", "subset", "machine"}
EDGES_OF_BOXES = {*EDGES, *SIZES.values(), "boxes"}
"""Facts of which some give a box."""

BOXES = {"category", "finding_bi_rads", *EDGES_OF_BOXES}
"""Facts of a finding."""

IMAGE_FACTS = {*_BREAST, EXAM_DATE, "view", "kind", "implant", "rows", "columns", *BOXES}
"""Facts that rows about images can give."""


_NUMBERS = {"age", "study_date", EXAM_DATE, "rows", "columns", "lesion", *EDGES, *SIZES.values()}


def is_number(fact: str, targets: Mapping[str, DeclaredTarget]) -> bool:
    """Whether a fact is a number or a date: `values` of its column only replace some cells, as a code for a missing one."""
    return fact in _NUMBERS or (fact in targets and bool(targets[fact].unit))


def facts_of_rows(table: Table, declaration: Declaration) -> set[str]:
    """Facts that rows of a table can give."""
    of_labels = _OF_LABELS | declaration.targets.keys() | ({"label"} if isinstance(table.label, str) else set())
    if table.lists_images:
        source = "path" if table.from_path else "table"
        silent = {fact for fact in ("patient", "exam", "view") if source not in getattr(declaration.identity, fact)}
        return (IMAGE_FACTS - silent) | (of_labels if table.label else set())
    if table.adds:
        return _BREAST | _ADDED | declaration.targets.keys() | (BOXES if table.instance else set())
    if not table.label:
        return BOXES
    found = _BREAST | of_labels
    if table.instance:
        found |= {"view", "rows", "columns"}
    if "lesion" in table.columns:
        found |= {"lesion", "view", "category"}
    return found


def needed_facts(declaration: Declaration, table: Table) -> set[str]:
    """Facts without which the rows of a table mean nothing."""
    label = {table.label} - {""} if isinstance(table.label, str) else set()
    if table.adds:
        return set(table.columns)
    if adds_boxes(declaration, table):
        return table.columns.keys() & EDGES_OF_BOXES
    if table.lists_images:
        # Without the kind, synthetic and recombined images would be taken for full-field ones.
        kind = {"kind"} & table.columns.keys()
        if table.columns.keys() <= BOXES:  # it gives nothing else
            kind |= table.columns.keys() & EDGES_OF_BOXES
        return {fact for fact in IDENTITY if getattr(declaration.identity, fact)[0] == "table"} | label | kind
    if table.instance and not table.label:  # of boxes
        return {"category", *edges_of(table.columns)}
    if table.labels_shown_breasts:
        return label | (table.columns.keys() & {"laterality"})
    return {"patient", "laterality"} | label


def names_of_exams(table: Table) -> list[str]:
    """Facts that tell the exams of a publisher's rows about breasts apart, of which the table must have one."""
    of_breasts = bool(table.file) and not (table.lists_images or table.instance)
    return [fact for fact in ("exam", *EXAM_NAMES) if fact in table.columns and of_breasts]


def adds_boxes(declaration: Declaration, table: Table) -> bool:
    """Whether a table gives nothing but boxes of images that another one lists."""
    return _only_boxes(table) and any((t.path or t.path_groups) and not _only_boxes(t) for t in declaration.tables)


def _only_boxes(table: Table) -> bool:
    is_plain = bool(table.path or table.path_groups) and not table.label and not table.exclude
    return is_plain and bool(table.columns) and table.columns.keys() <= BOXES
