"""Rows of label tables -> facts of breasts, by the columns and the label rule of a declaration."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeVar

from fvpipe.config.facts import EXAM_NAMES
from fvpipe.config.loading import nearest
from fvpipe.datasets.declared.declaration import EXCLUDED, LABELS, Case, Column, DeclaredTarget, Exclusion, Table
from fvpipe.datasets.declared.facts import is_number
from fvpipe.datasets.declared.values import (
    EXPECTED,
    MISSING,
    SIZES,
    declared_words,
    edges_of,
    has_value,
    matched_text,
    names_something,
    parse_age,
    parse_bi_rads,
    parse_boxes,
    parse_day,
    parse_density,
    parse_exam_date,
    parse_number,
    parse_side,
    parse_sides,
    parse_yes_no,
)
from fvpipe.errors import LabelTableError
from fvpipe.io.folding import folded, whole_text
from fvpipe.io.tables import CUT_NUMBER, MAX_MATCHED, Row
from fvpipe.types import BreastFacts, Exam, Finding, Laterality

ValueT = TypeVar("ValueT")
FACTS_OF_WORDS = frozenset({"laterality", "view", "label", "bi_rads", "finding_bi_rads", "density", "kind", "implant"})
MAX_KNOWN_VALUES = 4096  # of cells, kept since most columns repeat a few words in half a million rows


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads the rows of one table.

    Attributes
    ----------
    table : Table
        Its declaration.
    columns : mapping of fact to Column
        With those columns that the table has.
    bi_rads : (tuple of int, tuple of int)
        Those that are benign and malignant.
    options : mapping of str to str
        Options of the declaration, with the values of ``params.yaml``.
    targets : mapping of str to DeclaredTarget
        Facts that the declaration adds.
    unfit : dict of (str, str) to str
        Column and word, without wildcards, of each list of words of `exclude` that fitted no row so far, and how a message
        shows the word.
    flat : list of (int, LabelTableError or None)
        Line of each box without an area, or within one pixel, which is left out, and the error for it where most are so;
        none for four edges of 0 or -1, by which tables say that there is no box.
    ages : list of int
        Line of each age that has a number and is none of years, which is left out.
    """

    table: Table
    columns: Mapping[str, Column]
    bi_rads: tuple[tuple[int, ...], tuple[int, ...]]
    options: Mapping[str, str]
    targets: Mapping[str, DeclaredTarget] = field(default_factory=dict)
    flat: list[tuple[int, LabelTableError | None]] = field(default_factory=list)
    ages: list[int] = field(default_factory=list)
    unfit: dict[tuple[str, str], str] = field(init=False)
    _values: Mapping[str, Mapping[str, str]] = field(init=False)  # by fact, declared cells in lower case, and folded -> value
    _known: dict[tuple[object, ...], Any] = field(init=False, default_factory=dict, repr=False)  # fact, parser, cells -> value
    _words: Mapping[str, str] = field(init=False)  # by fact, the cells that its column may have, for messages
    _pathologies: Sequence[str] = field(init=False)  # the declared ones, the worst first
    _read_by: Mapping[str, tuple[str, ...]] = field(init=False)  # names of the columns that each list of rules reads

    def __post_init__(self) -> None:
        values = {
            fact: {spell(known): value for spell in (folded, str.casefold) for known, value in column.values.items()}
            for fact, column in self.columns.items()
        }
        object.__setattr__(self, "_values", values)
        of_words = {fact: column.values for fact, column in self.columns.items() if not is_number(fact, self.targets)}
        object.__setattr__(self, "_words", {fact: declared_words(of_words.get(fact, {})) for fact in self.columns})
        object.__setattr__(self, "_pathologies", list(dict.fromkeys(values.get("pathology", {}).values())))
        rules = {name: getattr(self.table, name) for name in ("cases", "contralateral", "exclude")}
        read_by = {
            name: tuple(dict.fromkeys(column for each in found for column in each.when)) for name, found in rules.items()
        }
        object.__setattr__(self, "_read_by", read_by)
        facts = ("patient", "exam", *EXAM_NAMES)
        hidden = {self.table.path, *(name for fact in facts if fact in self.columns for name in self.columns[fact].column)}
        lists = [(name, cells) for rule in self.table.exclude for name, cells in rule.when.items() if len(cells) > 1]
        words = (
            (name, i, word) for name, cells in lists for i, word in enumerate(cells, 1) if word and not set("*?[$") & {*word}
        )
        unfit = {(name, folded(word)): f"number {i}" if name in hidden else repr(word) for name, i, word in words}
        object.__setattr__(self, "unfit", unfit)

    def cell(self, row: Row, fact: str) -> str:
        """Return the text of a fact: the part of the cell that the pattern takes, put into the declared words."""
        return self.parsed(row, fact, str, "")

    def parsed(
        self, row: Row, fact: str, parser: Callable[[str], ValueT | None], expected: str | None = None
    ) -> ValueT | Literal[""]:
        """Return the value of a fact; empty text where the cell is empty or the table has no such column.

        Parameters
        ----------
        row : Row
            The row.
        fact : str
            The fact.
        parser : callable
            Text in the declared words -> its value, or None where it has none.
        expected : str or None
            The texts that have one, for the message; None: those that the column declares, else as
            :data:`fvpipe.datasets.declared.values.EXPECTED` says.

        Raises
        ------
        LabelTableError
            The cell has no value.
        """
        column = self.columns.get(fact)
        if column is None:
            return ""
        key = (fact, parser, *map(row.get, column.column))
        if key not in self._known:
            declared = self._words[fact] or EXPECTED[fact][1] if expected is None else expected
            found = self._parse(row, fact, column, parser, declared)
            self._keep(key, found)
        known: ValueT | Literal[""] = self._known[key]
        return known

    def _keep(self, key: tuple[object, ...], value: object) -> None:
        if len(self._known) >= MAX_KNOWN_VALUES:
            self._known.clear()
        self._known[key] = value

    def _parse(
        self, row: Row, fact: str, column: Column, parser: Callable[[str], ValueT | None], expected: str
    ) -> ValueT | Literal[""]:
        is_filled: Callable[[str], bool] = partial(has_value, words=column.values)
        if fact == "label":
            is_filled = bool  # its word is never guessed
        elif fact in ("patient", "exam") and self.table.lists_images and not column.values:
            is_filled = names_something
        name = next((name for name in column.column if is_filled(row.get(name))), column.column[0])
        if not is_filled(row[name]):
            if column.needed:
                raise row.error(name, self._words[fact] or expected or "a value")
            if "" not in column.values:
                return ""
            if row[name]:
                row = replace(row, cells={**row.cells, name: ""})

        wrong = ""
        if column.pattern and len(row[name]) > MAX_MATCHED:
            wrong = f"{len(row[name])} characters; expected at most {MAX_MATCHED}, since the declaration has a pattern for it"
        elif len(self._matches(fact, row[name])) > 1:
            wrong = "two different values by its pattern; expected one: let it have ^, $ or more of the text around the value"
        if wrong:
            raise LabelTableError(f"{row.file}, line {row.line}: {name} has {wrong}")

        def value(cell: str) -> ValueT | Literal[""] | None:
            text = self._translated(fact, cell) if cell or "" in column.values else None
            return None if text is None else "" if text == "" else parser(text)

        expected = expected or self._words[fact] or f"text of the form {column.pattern}"
        if fact in ("bi_rads", "density") and not column.values:
            expected += " (other words: `values` of the column in a declaration)"
        if fact in ("patient", "exam", *EXAM_NAMES) and value(row[name]) is None:
            raise row.error(name, expected, shown=False)
        joined = fact in ("exam", "study_uid") or (fact == "patient" and self.table.lists_images)
        if joined and re.fullmatch(CUT_NUMBER, row[name]):  # two of them could have become one
            detail = "is a number like 1.2E+10, whose last digits a spreadsheet has cut off; enter it again as text"
            raise LabelTableError(f"{row.file}, line {row.line}: {name} {detail}")
        return row.parse(name, value, expected)

    def _translated(self, fact: str, cell: str, *, others: bool = True) -> str | None:
        """The declared word for a cell, by ``*`` where `others` count; None where it has none."""
        if not (self.columns[fact].pattern and cell):
            return self._word(fact, cell, others=others)
        found = self._matches(fact, cell, others=others)
        return found[0] if len(found) == 1 else None

    def _word(self, fact: str, text: str, *, others: bool = True) -> str | None:
        words = self._values[fact]
        other = words.get("*") if others and not (fact == "label" and text.casefold() in MISSING) else None  # `NA` is no label
        other = words.get("*", text) if is_number(fact, self.targets) else other
        return words.get(text.casefold(), words.get(folded(text), other)) if words else text

    def _matches(self, fact: str, cell: str, *, others: bool = True) -> list[str | None]:
        """The values that a pattern finds in a cell, of which one may be the other breast's; of others the first."""
        pattern, parser = self.columns[fact].pattern, EXPECTED.get(fact, (str.casefold,))[0]
        # Patterns, also of shipped ones, take time by the square of the length; the cell may be that of any column.
        found = re.finditer(pattern, cell) if pattern and len(cell) <= MAX_MATCHED else iter(())
        values: dict[object, str | None] = {}
        for at, match in enumerate(found if self._values[fact] or fact in FACTS_OF_WORDS else islice(found, 1)):
            word = self._word(fact, matched_text(match), others=others and not at)
            value = parser(word) if word else word
            if not at or value not in (None, ""):
                values.setdefault(value, word)
        return list(values.values())

    def sides(self, row: Row) -> tuple[Laterality, ...]:
        """Sides that the row is about; none where it has no side."""
        column = self.columns.get("laterality")
        if column is None:
            return ()
        parser = parse_sides if column.values or self.table.from_path else parse_side
        expected = self._words["laterality"] or "L or R"
        if not (self.table.file or self.table.from_path or column.values):
            expected += " (other words: `values` of the column in a declaration)"
        found = self.parsed(row, "laterality", parser, expected)
        if not found and not self.table.lists_images:
            raise row.error(column.column[0], expected)
        return found or ()

    def exam(self, row: Row) -> Exam:
        """Name of the exam of a row about a breast; empty where the table has none."""
        names, exam = self.exam_names(row), self.cell(row, "exam")
        return replace(names, study=exam) if exam else names

    def exam_names(self, row: Row) -> Exam:
        """Names of the exam as its header has them; empty where the table has none."""
        return Exam(self.cell(row, "study_uid"), self.cell(row, "accession"), self.day(row, "study_date"))

    def day(self, row: Row, fact: str) -> str:
        """Date of an exam, in digits; since a date identifies a patient, a wrong one is not shown."""
        cell = self.cell(row, fact)
        if not cell:
            return ""
        if found := (parse_exam_date if fact == "exam_date" else parse_day)(cell):
            return sys.intern(found)  # of several rows, of which there may be half a million
        where, found = f"{row.file}, line {row.line}: {self.columns[fact].column[0]}", f"{len(cell)} characters"
        other = " (other forms: `pattern` of the column in a declaration, with groups year, month and day)"
        raise LabelTableError(f"{where} has {found}; expected {EXPECTED[fact][1]}{other}")

    def facts(self, row: Row, side: Laterality | None, subset: str = "") -> BreastFacts:
        """Facts of the breast on `side` that the row is about."""
        found, sides = self.parsed(row, "bi_rads", parse_bi_rads), self.sides(row)
        of_other = bool(side and sides) and side not in sides
        bi_rads = None if found == "" or of_other else found
        case = self.label_case(row, side)
        label, excluded = self._label(row, case, bi_rads)
        if label == 0 and case is not None:
            self._check_sides_of_cancers(row, case, side)
        pathology = self.cell(row, "pathology") if self._has_pathology(row, case, side) else ""
        return BreastFacts(
            label,
            bi_rads,
            self.parsed(row, "density", parse_density),
            self._age(row),
            pathology,
            self.cell(row, "subset") or subset,
            excluded,
            row.place,
            subtype=self.cell(row, "subtype"),
            machine=self.cell(row, "machine"),
            pending=case is not None and case.pending,
            severity=self._pathologies.index(pathology) if pathology in self._pathologies else 0,
            targets=tuple((name, value) for name in sorted(self.targets) if (value := self._target(row, name))),
        )

    def _age(self, row: Row) -> str:
        cell = self.cell(row, "age")
        age = parse_age(cell)
        if not age and re.search("[1-9]", cell) and row.line not in self.ages[-1:]:  # a row may be about both breasts
            self.ages.append(row.line)
        return age

    def _has_pathology(self, row: Row, case: Case | None, side: Laterality | None) -> bool:
        """Whether the row's pathology is of the breast on `side`: not by a case that lacks what makes it the other one's."""
        if case is None or case.confirmed or any(each.confirmed for each in self.table.cases):
            return case is None or case.confirmed
        if side is None or case.names_side or not any(each.names_side for each in self.table.cases):
            return True
        other = self.label_case(row, Laterality.RIGHT if side is Laterality.LEFT else Laterality.LEFT)
        return other is None or not other.names_side

    def _target(self, row: Row, name: str) -> str:
        """Value of a declared target, a number in its shortest form."""
        if not self.targets[name].unit:
            return self.cell(row, name)
        number = self.parsed(row, name, parse_number, "a number, such as 13.1 or 13,1 (but of 1,234 none can say which it is)")
        return "" if number == "" else whole_text(repr(number + 0.0))  # -0.0 is 0

    def _label(self, row: Row, case: Case | None, bi_rads: int | None) -> tuple[int, str]:
        rule = self.table.label
        if rule == "bi_rads":
            benign, malignant = self.bi_rads
            if bi_rads is None or bi_rads in benign + malignant:
                return -1 if bi_rads is None else int(bi_rads in malignant), ""
            return -1, f"BI-RADS {bi_rads} is neither benign nor malignant by the label rule"
        if rule == "label":
            expected = self._words["label"] or "malignant, benign or unlabelled"
            if not (self.table.file or self.table.from_path):
                expected += " (other words: `classes`, or --class CELL=LABEL)"
            return self.parsed(row, "label", _outcome, expected) or (-1, "")  # an empty cell
        if not rule:
            return -1, ""
        if case is None:
            raise LabelTableError(
                f"{row.file}, line {row.line}: no case of the label rule fits; end it with one without `when`"
            )
        return self.outcome(case)

    def label_case(self, row: Row, side: Laterality | None) -> Case | None:
        """The case of the label rule that decides over the breast on `side`."""
        at = self._first_fitting("cases", row, side)
        return None if at is None else self.table.cases[at]

    def _check_sides_of_cancers(self, row: Row, decisive: Case, side: Laterality | None) -> None:
        """Raise an error where a case before that of a benign breast is malignant, and fits but for an empty cell (`$side`)."""
        key = ("sides of cancers", side, *map(row.cells.get, self._read_by["cases"]))
        for case in () if key in self._known else self.table.cases[: self.table.cases.index(decisive)]:
            when = {name: wanted for name, wanted in case.when.items() if "$side" not in wanted or has_value(row.get(name))}
            empty = [name for name in case.when if name not in when and "" not in decisive.when.get(name, ())]
            if empty and when and self.outcome(case)[0] == 1 and self._all_fit(row, when, side):
                todo = "or an earlier case for an empty cell, since all else of one that is malignant fits"
                raise row.error(empty[0], f"L, R or both, {todo}: a cancer on an unknown side would be benign")
        self._keep(key, None)

    def exclusion(self, row: Row, side: Laterality | None) -> Exclusion | None:
        """The exclusion that leaves the row's image out."""
        at = self._first_fitting("exclude", row, side)
        return None if at is None else self.table.exclude[at]

    def outcome(self, case: Case) -> tuple[int, str]:
        """Label and reason for leaving the breast out."""
        then = self.options[case.then[1:]] if case.then.startswith("$") else case.then
        return (-1, then.removeprefix(EXCLUDED).strip()) if then.startswith(EXCLUDED) else (LABELS[then], "")

    def implied_outcome(self, rows: Sequence[Row], side: Laterality) -> tuple[int, str] | None:
        """Outcome for the breast that the rows of an exam do not name: one that leaves it out, else the one that all give."""
        fitting = [self._first_fitting("contralateral", row, side) for row in rows]
        outcomes = [None if at is None else self.outcome(self.table.contralateral[at]) for at in fitting]
        excluding = (outcome for outcome in outcomes if outcome and outcome[1])
        return next(excluding, outcomes[0] if len(set(outcomes)) == 1 else None)

    def _first_fitting(
        self, rules: Literal["cases", "contralateral", "exclude"], row: Row, side: Laterality | None
    ) -> int | None:
        """Position of the first rule that a row's cells fit; in any case, and ``1.0`` is ``1``.

        Raises
        ------
        LabelTableError
            The table has no such column, a cell that should hold a side holds another word, or the row of an image has no side.
        """
        key = (rules, side, *map(row.cells.get, self._read_by[rules]))  # None: there is no such column
        if key not in self._known:
            for name in self._read_by[rules] if rules == "exclude" and self.unfit else ():
                self.unfit.pop((name, folded(row.get(name))), None)
            fitting = (at for at, rule in enumerate(getattr(self.table, rules)) if self._all_fit(row, rule.when, side))
            self._keep(key, next(fitting, None))
        found: int | None = self._known[key]
        return found

    def _all_fit(self, row: Row, when: Mapping[str, Sequence[str]], side: Laterality | None) -> bool:
        for column in when:
            if column not in row.cells and column in self.table.may_lack:
                return False
            if column not in row.cells:
                near = nearest(column, list(row.cells))
                raise LabelTableError(f"{row.file}: has no column {column!r}{near}, which the declaration's rules read")
        return all(self._fits(row, column, wanted, side) for column, wanted in when.items())

    def _fits(self, row: Row, column: str, wanted: Sequence[str], side: Laterality | None) -> bool:
        cell = row[column] if has_value(row[column], wanted) else ""
        text, words = folded(cell), [folded(each) for each in wanted if each != "$side"]
        if text in words or any(text and fnmatchcase(text, word) for word in words):  # the cell may have brackets itself
            return True
        if "$side" not in wanted or not cell:
            return False
        named = self.columns.get("laterality")
        # `*` of a column that gives all rows one side, or both, is not a word for cells of other columns.
        word = self._translated("laterality", cell, others=column in named.column) if named and named.values else None
        sides = parse_sides(word or cell)
        if sides is None:
            raise row.error(column, "L, R or both", shown=False)
        if side is None and len(sides) == 1:  # taken for the other breast, one with cancer would be benign
            where, name = f"{row.file}, line {row.line}", named.column[0] if named else "laterality"
            why = f"a rule compares it with {column} ($side)"
            raise LabelTableError(f"{where}: {name} does not name the side of the image, and {why}; expected L or R")
        return side in sides or side is None

    def yes(self, row: Row, fact: str) -> bool:
        """Whether a cell says yes; an empty one does not."""
        return self.parsed(row, fact, parse_yes_no) or False

    def findings(self, row: Row) -> Iterator[Finding]:
        """Boxes of the row's image, in source pixels; those without an area are kept in :attr:`flat`."""
        category = ", ".join(part.strip(" '\"") for part in self.cell(row, "category").strip("[]").split(","))
        found = self.parsed(row, "finding_bi_rads", parse_bi_rads)
        edges = edges_of(self.columns)
        numbers, boxes = [self.parsed(row, edge, parse_number) for edge in edges], self.parsed(row, "boxes", parse_boxes) or []
        is_none = False  # four numbers of 0 or -1
        if any(number != "" for number in numbers):  # one alone is not a box
            for name, number in zip(edges, numbers, strict=True):
                if number == "":
                    columns = self.columns.get(name)
                    raise LabelTableError(
                        f"{row.file}, line {row.line}: {columns.column[0] if columns else f'the {name} edge'} is missing; "
                        f"expected all four of a box: {', '.join(edges)}"
                    )
            top, bottom, left, right = map(float, numbers)
            is_none = len(set(numbers)) == 1 and top <= 0
            bottom, right = bottom + top * ("height" in edges), right + left * ("width" in edges)
            boxes = [*boxes, (top, bottom, left, right)]
        for top, bottom, left, right in boxes:
            expected, wrong = "", edges[3]
            if left >= right or top >= bottom:
                expected = "a box whose top is above its bottom, and its left edge left of its right one, not width and height"
                if "boxes" not in self.columns:
                    wrong = edges[3 if left >= right else 1]
                    expected = "more than 0" if wrong in SIZES.values() else f"{expected} (which are facts of these names)"
            elif min(top, left) >= 0 and max(bottom, right) <= 1:
                expected = "a box in pixels; if these are parts of the image's size, multiply them by it"
            if expected:
                name = self.columns["boxes" if "boxes" in self.columns else wrong].column[0]
                is_none = is_none or top == bottom == left == right <= 0
                self.flat.append((row.line, None if is_none else row.error(name, expected)))
                continue
            yield Finding(category, None if found == "" else found, top, bottom, left, right)


def _outcome(word: str) -> tuple[int, str] | None:
    """Label and reason for leaving a breast out; None for a text that is not an outcome."""
    if word.startswith(EXCLUDED):
        why = word.removeprefix(EXCLUDED).strip()
        return (-1, why) if why else None
    return (LABELS[word.lower()], "") if word.lower() in LABELS else None
