"""Keys and words of a declaration that would do nothing: each is rejected, with why."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from fvpipe.config.facts import EXAM_DATE, FACTS, IDENTITY
from fvpipe.datasets.declared.declaration import EXCLUDED, Case, Declaration, Table
from fvpipe.datasets.declared.facts import IMAGE_FACTS, facts_of_rows
from fvpipe.datasets.declared.values import EXPECTED, SIZES, parse_number
from fvpipe.io.folding import folded


def check_unused_keys(declaration: Declaration) -> None:
    """Check that every key of a declaration does something.

    Raises
    ------
    ValueError
        One sentence for each key that does not.
    """
    unused = [f"{key!r} does nothing: {why}" for key, (is_unused, why) in _declaration_keys(declaration).items() if is_unused]
    for number, table in enumerate(declaration.tables):
        unset, where = Table(), f"tables.{number}."
        for key, (is_unused, why) in _table_keys(table, declaration).items():
            if is_unused and getattr(table, key) != getattr(unset, key):
                unused.append(f"'{where}{key}' does nothing: {why}")
        if not (table.label or table.adds or table.instance or table.lists_images):
            unused.append(f"'tables.{number}' does nothing: expected 'label', 'adds', 'instance', 'path', ... of it")
        of_keys = (*_unreachable_cases(table, declaration), *_unread_columns(table, declaration))
        unused += [f"'{where}{text}" for text in of_keys]
        of_words = (*_unmatchable_texts(table), *_unmatchable_groups(table, declaration))
        of_table = (*of_words, *_side_without_column(table, declaration), *_undecided_tables(table, declaration))
        unused += [f"'tables.{number}': {text}" for text in of_table]
    for group, words in declaration.path_values.items():
        unused += [f"'path_values.{group}': {text}" for text in _invalid_words(group, words, declaration)]
    if unused:
        raise ValueError("; ".join(unused))


def _declaration_keys(declaration: Declaration) -> dict[str, tuple[bool, str]]:
    """Keys beside the tables."""
    identity, tables, path = declaration.identity, declaration.tables, declaration.path
    groups = set(re.compile(path).groupindex)
    read = {fact for fact in IDENTITY if "path" in getattr(identity, fact)} | {EXAM_DATE, *declaration.same_in_exam}
    for table in tables:
        read |= set(table.path_groups)
        if table.from_path:
            read |= {name for column in table.columns.values() for name in column.column}
            read |= {name for when in (*(c.when for c in table.cases), *(e.when for e in table.exclude)) for name in when}
    given = {fact for table in tables for fact in table.columns}
    combined = {table.combine for table in tables if table.labels_shown_breasts or (table.lists_images and table.label)}
    found_by = {(bool(table.path), tuple(table.path_groups)) for table in tables if table.path or table.path_groups}
    exams_apart = declaration.headers.studies_apart and declaration.headers.patient_from == "patient_id"
    result = {
        "bi_rads": (
            "bi_rads" in declaration.model_fields_set and not any(table.label in ("label", "bi_rads") for table in tables),
            "no label is made of BI-RADS",
        ),
        "combine": (len(combined) > 1, "what rows and paths say of images is combined in one way; give these tables the same"),
        "path_groups": (len(found_by) > 1, "tables find images in one way; give all of them 'path', or the same groups"),
        "identity.exam": ("exam" in identity.model_fields_set and not exams_apart, "`headers` do not keep exams apart"),
    }
    result["path"] = (bool(path) and not groups & read, "neither `identity` nor a table reads one of its groups")
    for group in sorted((groups - read) & {*FACTS, *declaration.targets}):
        used = f"(?P={group})" in path or f"(?({group})" in path
        result[f"path: (?P<{group}>"] = (not used, "neither `identity` nor a table reads this group; give it another name")
    for group in declaration.path_values:
        result[f"path_values.{group}"] = (group not in groups, f"'path' has no group (?P<{group}>...)")
    for name in declaration.targets:
        result[f"targets.{name}"] = (name not in given, "no column gives it")
    return result


def _table_keys(table: Table, declaration: Declaration) -> dict[str, tuple[bool, str]]:
    """Keys of a table."""
    of_images = "each row is about an image"
    facts = "no row of this table gives facts of a breast"
    breasts = bool(table.label) and not (table.lists_images or table.labels_shown_breasts or table.adds)
    # A table whose cases confirm nothing gives the day of its exams, over which the results of another one decide.
    confirmed = any(case.confirmed for each in declaration.tables if each.follow_up for case in each.cases)
    rules = [case.when for case in (*table.cases, *table.contralateral)] + [rule.when for rule in table.exclude]
    named = {name for when in rules for name in when}
    return {
        "file": (table.from_path, "the rows are the paths"),
        "optional": (table.from_path, "the rows are the paths"),
        "sheet": (not table.file, "it names a sheet of 'file'"),
        "every": (not table.file, "it takes every file that fits 'file'"),
        "subset_by_name": (table.from_path or table.adds or not table.label, facts),
        "path": (table.from_path or bool(table.path_groups), "the rows find their images by the groups of a path"),
        "path_parts": (not table.path, "it shortens the cells of 'path'"),
        "path_groups": (table.from_path, "the rows are the paths"),
        "instance": (table.lists_images, of_images),
        "exclude": (
            not table.lists_images,
            "it leaves out images, and goes with 'path', 'path_groups' or 'from_path'; "
            "a row of a breast is left out by a case of 'label' whose `then` is 'excluded: why'",
        ),
        "may_lack": (
            not set(table.may_lack) <= named,
            "no case of 'label', 'contralateral' or 'exclude' reads it",
        ),
        "label": (table.adds, "a table that 'adds' gives no label"),
        "adds": (
            table.lists_images or not (table.instance or {"patient", "laterality"} <= table.columns.keys()),
            "it needs rows about breasts, with columns of patient and laterality",
        ),
        "combine": (not (table.label or table.adds), facts),
        "follow_up": (
            not (breasts and confirmed),
            "it needs rows of labels about breasts, and a case with `confirmed: true`, here or in another table of results",
        ),
        "contralateral": (not breasts, "it needs rows of labels about breasts"),
    }


def _unreachable_cases(table: Table, declaration: Declaration) -> Iterator[str]:
    """Cases that no row reaches, and marks that nothing reads."""
    follows = any(each.follow_up for each in declaration.tables)  # which decides over the exams of all tables
    for key, cases in (("label", table.cases), ("contralateral", table.contralateral)):
        for number, case in enumerate(cases):
            where = f"{key}.{number}"
            if number and not cases[number - 1].when:
                yield f"{where}' does nothing: the case before it has no `when`, and takes every row"
                return
            before = next((i for i in range(number) if _takes_all(cases[i], case)), -1)
            if before >= 0:
                yield f"{where}' does nothing: {key}.{before} takes every row that it fits"
            if key == "contralateral" and (case.confirmed or case.pending):
                yield f"{where}': `confirmed` and `pending` do nothing: no row is about this breast"
            elif case.pending and not follows:
                yield f"{where}.pending' does nothing: no table has `follow_up`"
            elif case.pending and not case.then.startswith(("$", EXCLUDED)):
                yield f"{where}.pending' does nothing: it is about a breast that `then` leaves out ('{EXCLUDED} why')"


def _takes_all(first: Case, second: Case) -> bool:
    """Whether a case, which comes first, fits every row that the other fits, as far as their words tell."""
    return all(
        name in second.when and {*map(folded, second.when[name])} <= {*map(folded, wanted)}
        for name, wanted in first.when.items()
    )


def _unread_columns(table: Table, declaration: Declaration) -> Iterator[str]:
    """Columns that are not read, and words in them that are not values."""
    known = facts_of_rows(table, declaration)
    if table.label and not table.file:  # the user's own table may be about images, by a column `path`
        known |= IMAGE_FACTS
    for edge, size in SIZES.items():
        if {edge, size} <= table.columns.keys():
            yield f"columns.{size}' does nothing: 'columns.{edge}' gives this edge of a box; expected one of them"
    for fact, column in table.columns.items():
        where = f"columns.{fact}"
        if fact not in known:
            of_images = "; rows about images give it, and a case of 'label' may leave out a breast by its column"
            todo = of_images if fact in IMAGE_FACTS and table.label else ""
            yield f"{where}' does nothing: this table can give {', '.join(sorted(known))}{todo}"
        if column.needed and "" in column.values:
            yield f'{where}.values\': "" does nothing: an empty cell is an error by `needed`'
        for text in _invalid_words(fact, column.values, declaration):
            yield f"{where}.values': {text}"


def _unmatchable_texts(table: Table) -> Iterator[str]:
    """Texts that no cell and no heading has."""
    rules = [rule.when for rule in (*table.cases, *table.contralateral)] + [rule.when for rule in table.exclude]
    cells = [text for when in rules for wanted in when.values() for text in wanted]
    columns = [name for column in table.columns.values() for name in (*column.column, *column.values)]
    for text in dict.fromkeys([*cells, *columns, *(name for when in rules for name in when)]):
        if text != text.strip():
            yield f"{text!r} fits nothing: tables are read without spaces around their cells"
    for text in dict.fromkeys(cells):
        if text.startswith("$") and text != "$side":
            yield f"{text!r} is not a reference; expected $side, or '[$]...' for a cell that begins so"


def _unmatchable_groups(table: Table, declaration: Declaration) -> Iterator[str]:
    """Texts that no group of a path has, once it is put into the words of `path_values`."""
    rules = [rule.when for rule in (*table.cases, *table.contralateral)] + [rule.when for rule in table.exclude]
    cells = [(name, text) for when in rules for name, wanted in when.items() for text in wanted if text != "$side"]
    cells += [(name, text) for column in table.columns.values() for name in column.column for text in column.values]
    for group, text in dict.fromkeys(cells) if table.from_path else ():
        values = declaration.path_values.get(group, {})
        pattern, words = folded(text), {folded(word) for word in values.values()}
        replaced = "*" in values or pattern in map(folded, values)  # else a path may have the very text
        if replaced and text not in ("", "*") and not any(fnmatchcase(word, pattern) or word == pattern for word in words):
            yield f"{text!r} fits nothing: 'path_values.{group}' gives {', '.join(sorted({*values.values()} - {''}))}"


def _side_without_column(table: Table, declaration: Declaration) -> Iterator[str]:
    """`$side` of rows about images that never name one."""
    rules = [case.when for case in table.cases] + [rule.when for rule in table.exclude]
    named = table.columns.keys() | (re.compile(declaration.path).groupindex.keys() if table.from_path else set())
    if table.lists_images and "laterality" not in named and any("$side" in cells for when in rules for cells in when.values()):
        yield "$side is the side that the row names, and no column of this table gives laterality"


def _undecided_tables(table: Table, declaration: Declaration) -> Iterator[str]:
    """Other tables with labels over which a later exam could not decide."""
    for number, other in enumerate(declaration.tables) if table.follow_up else ():
        of_images = other.lists_images or other.labels_shown_breasts
        if other.label and (of_images or not (other.follow_up or "study_date" in other.columns)):
            why = "have no day: give it a column of study_date; patients to leave out are typed into an `exclude` of images"
            if of_images:
                why = "are about images: take the label from it, and read its file again without 'path', with study_date"
            yield f"'follow_up' would not decide over the labels of tables.{number}, whose rows {why}"


def _invalid_words(fact: str, words: Mapping[str, str], declaration: Declaration) -> Iterator[str]:
    """Words that stand for no value of a fact, and texts of which only one counts."""
    parser, expected = EXPECTED.get(fact, (None, ""))
    if fact in declaration.targets and declaration.targets[fact].unit:
        parser, expected = parse_number, "a number"
    for word in dict.fromkeys(words.values()):
        if word and parser and parser(word) is None:
            yield f"{word!r} is not a valid {fact}; expected {expected}"
    texts: dict[str, str] = {}
    for text, word in words.items():
        if texts.setdefault(text.casefold(), word) != word:
            yield f"{text!r} has two values: upper and lower case count as the same"
