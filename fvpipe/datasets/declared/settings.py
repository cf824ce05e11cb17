"""Which files, columns and label rule of a declared table are read: as the declaration says, and the user's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvpipe.config.facts import EXAM_DATE, EXAM_NAMES, IDENTITY, KEYWORDS
from fvpipe.config.loading import nearest
from fvpipe.config.project import Labels, check_bi_rads
from fvpipe.datasets.declared.declaration import Case, Column, Declaration, Table, check_option
from fvpipe.datasets.declared.facts import IMAGE_FACTS, facts_of_rows, names_of_exams, needed_facts
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.declared.values import SIZES
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.io.tables import OpenTable

BI_RADS_RULES = {"bi_rads_benign", "bi_rads_malignant"}


def bi_rads_of(declaration: Declaration, rules: Labels) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the BI-RADS that are benign and malignant: as ``params.yaml`` says, else as the declaration does.

    Raises
    ------
    ParameterError
        One would be both.
    """
    own, given = declaration.bi_rads, rules.model_fields_set
    benign = rules.bi_rads_benign if "bi_rads_benign" in given else own.benign
    malignant = rules.bi_rads_malignant if "bi_rads_malignant" in given else own.malignant
    try:
        check_bi_rads(benign, malignant)
    except ValueError as error:
        raise ParameterError(f"labels of adapter {declaration.name!r} (`bi_rads_*`): {error}") from None
    return benign, malignant


def options_of(declaration: Declaration, rules: Labels) -> dict[str, str]:
    """Options of a declaration, with the values that the user gives.

    Raises
    ------
    ParameterError
        The declaration has no such option, or not that value of it.
    """
    for name, value in rules.options.items():
        if name not in declaration.options:
            known = list(declaration.options)
            raise ParameterError(
                f"labels.options: adapter {declaration.name!r} has no option {name!r}{nearest(name, known)}; "
                f"known: {', '.join(known) or 'none'}"
            )
        try:
            check_option(name, declaration.options[name], value)
        except ValueError as error:
            raise ParameterError(f"labels.options: {error}") from None
    return {**declaration.options, **rules.options}


def table_files(table: Table, root: Path) -> list[Path]:
    """List the files below `root` that fit the patterns of a table; none is read.

    Raises
    ------
    LabelTableError
        Two files could be the table.
    """
    found: list[Path] = []
    for pattern in table.file:
        # A name without wildcards is asked for, so that its folder is not listed.
        named = root.glob(pattern) if set("*?[") & set(pattern) else (file for file in [root / pattern] if file.exists())
        fitting = sorted(named, key=lambda file: (len(file.parts), file))
        # What is hidden is not part of a data set: `._mass_case_description.csv`.
        shown = [file for file in fitting if not any(part.startswith(".") for part in file.relative_to(root).parts)]
        if not table.every and len(shown) > 1 and len(shown[0].parts) == len(shown[1].parts):
            raise LabelTableError(f"{shown[0]} and {shown[1]}: both could be the table; expected one, or name it: `label_file`")
        found += [file for file in shown if file not in found]
        if found and not table.every:
            return found[:1]
    return found


def files_of(table: Table, root: Path, label_file: Path | None) -> list[Path]:
    """Files of a table: the one that the user names, else those below the input folder that fit its patterns.

    Raises
    ------
    LabelTableError
        There is none, and the table is not optional; or two could be it.
    """
    if label_file is not None:
        return [label_file]
    found = table_files(table, root)
    if not found and not table.optional and table.file:
        where = f"{root / table.file[0]}: no such file; expected a label table there"
        # In the order of the patterns, of which a later one may look into all folders.
        others = (file for each in table.file for file in sorted(root.glob(f"{each.removesuffix(Path(each).suffix)}.*")))
        near = next((str(file.relative_to(root)) for file in others if not file.name.startswith(".")), "")
        unread = f" ({near} has another ending: save it as {Path(table.file[0]).name})" if near else ""
        raise LabelTableError(f"{where}{unread}, or name it: `label_file` of params.yaml, or --labels")
    return found


def make_row_reader(
    declaration: Declaration, table: Table, opened: OpenTable, rules: Labels, options: Mapping[str, str], *, first: bool
) -> RowReader:
    """Make the reader of a table, with the columns that it really has and those that the user names.

    Parameters
    ----------
    opened : OpenTable
        The table, whose heading was read.
    first : bool
        Whether it is the table that the user's settings are about.

    Raises
    ------
    ParameterError
        The table could not follow a setting.
    LabelTableError
        A column that is needed has another spelling.
    """
    heading = opened.heading
    renamed = {fact: name for fact, name in rules.columns.items() if first or fact in table.columns}
    special: dict[str, Any] = {key: renamed.pop(key) for key in ("path", "instance") if key in renamed}
    # The other of `right` and `width`, which the declaration may have.
    replaced = {other: fact for pair in SIZES.items() for fact, other in (pair, pair[::-1]) if fact in renamed}
    named = {**table.columns, **{fact: _renamed(table, fact, name, heading) for fact, name in renamed.items()}}
    named = {fact: column for fact, column in named.items() if fact not in replaced or fact in renamed}
    if "instance" in special and "patient" in named.keys() - renamed.keys() and not _is_there(opened, named["patient"]):
        # The row is about the breast that its image shows, whose side one that it names must be.
        silent = {fact for fact in named.keys() & {*IDENTITY} - renamed.keys() if not _is_there(opened, named[fact])}
        named = {fact: column for fact, column in named.items() if fact not in silent}
    if rules.classes and "label" in named:
        named["label"] = named["label"].model_copy(update={"values": rules.classes})
    label = label_rule(table, rules, heading) if first else table.label
    table = table.model_copy(update={"label": label, **special})
    if "patient" in named and table.label and table.instance not in heading and "instance" not in special:
        table = table.model_copy(update={"instance": ""})  # breasts can be labelled without it
    _check_settings(declaration, table, rules, first=first)
    needed = needed_facts(declaration, table.model_copy(update={"columns": named}))
    columns, known = dict[str, Column](), facts_of_rows(table, declaration)
    for fact in sorted(needed - named.keys()):
        named[fact] = Column(column=(fact,))
    taken = {name for column in named.values() for name in column.column}
    for fact, column in named.items():
        if there := tuple(name for name in column.column if name in heading):
            columns[fact] = column.model_copy(update={"column": there})
        elif fact in renamed or column.needed or fact in needed:
            columns[fact] = column.model_copy(update={"column": column.column[:1]})  # missing: iterate_table says so
        elif fact in known and (name := _spelled_otherwise(opened, table, named, fact)) not in {"", *taken}:
            # Without `Study_Date`, the row of another exam would label the one that is imaged.
            where, todo = f"{opened.shown}, line {opened.line}", "rename it"
            todo += ", or name it: `columns` of params.yaml, or --column" if first else ""  # which are about the first table
            raise LabelTableError(f"{where}: column {name!r} is not read; expected {column.column[0]!r} for {fact}: {todo}")
    exams = names_of_exams(table)
    if exams and not {"exam", *EXAM_NAMES} & columns.keys():  # the row of another exam would label the one that is imaged
        columns[exams[0]] = named[exams[0]]  # missing: iterate_table says so
    for name in table.may_lack:
        if name not in heading and (other := opened.spelled_otherwise((name,))):
            where = f"{opened.shown}, line {opened.line}"
            raise LabelTableError(f"{where}: column {other!r} is not read; expected {name!r} for the rules: rename it")
    return RowReader(table, columns, bi_rads_of(declaration, rules), options, declaration.targets)


def _is_there(opened: OpenTable, column: Column) -> bool:
    """Whether a table has a column, if it is in another spelling."""
    return bool({*column.column} & {*opened.heading} or opened.spelled_otherwise(column.column))


def _spelled_otherwise(opened: OpenTable, table: Table, named: Mapping[str, Column], fact: str) -> str:
    """Name of a column that may be meant for the fact, and would not be read; or nothing."""
    others = [KEYWORDS[fact]] if fact in KEYWORDS else []
    exams = {name for each in ("exam", *EXAM_NAMES) if each in named for name in named[each].column}
    if fact == "study_date" and not table.lists_images and not exams & set(opened.heading):
        others.append(EXAM_DATE)  # beside nothing else that tells the exams apart
    return opened.spelled_otherwise(named[fact].column, *others)


def label_rule(table: Table, rules: Labels, heading: Sequence[str]) -> str | tuple[Case, ...]:
    """Label rule of the table that the user's settings are about; BI-RADS where a table of their own has no label."""
    if rules.label_from and not table.cases:
        return rules.label_from
    names = table.columns["label"].column if "label" in table.columns else ("label",)
    own = not table.file and table.label == "label" and "bi_rads" in rules.columns and "label" not in rules.columns
    has_label = {name.casefold() for name in names} & {name.casefold() for name in heading}
    return "bi_rads" if own and not has_label else table.label


def _check_settings(declaration: Declaration, table: Table, rules: Labels, *, first: bool) -> None:
    """Reject settings of ``params.yaml`` that this table could not follow."""
    given = rules.model_fields_set
    known = facts_of_rows(table, declaration)
    unused = sorted(rules.columns.keys() - known - {"path", "instance", "label"}) if first else []
    wrong = ""
    if first and table.cases and (rules.classes or rules.label_from or "label" in rules.columns):
        wrong = "`classes`, `label_from` and a column of the label do nothing: its label rule has cases of its own"
    elif first and table.label != "bi_rads" and given & BI_RADS_RULES:
        wrong = "`bi_rads_benign` and `bi_rads_malignant` do nothing: its labels are not made of BI-RADS"
    elif first and table.label == "bi_rads" and (rules.classes or "label" in rules.columns):
        wrong = "`classes` and a column of the label do nothing: its labels are made of BI-RADS"
    elif unused and not table.lists_images and unused[0] in IMAGE_FACTS:
        wrong = f"a column of {unused[0]} is about images; give the column `path`, too"
    elif unused:
        wrong = f"a column of {unused[0]} does nothing; this table can give {', '.join(sorted(known))}"
    elif double := [size for edge, size in SIZES.items() if {edge, size} <= rules.columns.keys()]:
        wrong = f"a column of {double[0]} does nothing beside one of the edge that it gives"
    elif "path" in rules.columns and table.path_groups:
        wrong = "its rows find their images by other columns than a path"
    if wrong:
        raise ParameterError(f"labels: {wrong} (adapter {declaration.name!r})")


def _renamed(table: Table, fact: str, name: str, heading: Sequence[str]) -> Column:
    """The column that the user names; of a fact but identity and label, one beside the declared column has words of its own."""
    column = table.columns.get(fact, Column(column=(name,)))
    beside = name not in column.column and any(declared in heading for declared in column.column)
    own_words = beside and fact not in ("label", *IDENTITY)
    return column.model_copy(update={"column": (name,), **({"values": {}, "pattern": ""} if own_words else {})})
