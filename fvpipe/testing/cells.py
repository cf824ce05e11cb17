"""Cells of the rows of a simulated data set: words that each column reads as the intended facts, and cases of label rules."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fvpipe.config.facts import IDENTITY
from fvpipe.config.project import Labels
from fvpipe.datasets.declared.declaration import EXCLUDED, LABELS, Case, Column, Declaration, Table
from fvpipe.datasets.declared.row_reader import RowReader
from fvpipe.datasets.declared.settings import bi_rads_of
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.io.tables import Row
from fvpipe.testing.folder import SIZE
from fvpipe.testing.texts import expected_text, literal, matching_text, side_words, value_of
from fvpipe.testing.tree import SimulatedBreast
from fvpipe.types import BREAST_FACTS, Laterality, View

DAY = "20150301"  # of every exam with images
LATER = "20150331"  # of exams without, in tables with `follow_up`
MAX_COMBINATIONS = 20_000  # of cells, tried for one case of a label rule
BOX = {
    "top": "10",
    "bottom": "40",
    "left": "20",
    "right": "60",
    "width": "40",
    "height": "30",
    "boxes": "[[10, 20, 40, 60]]",
}
OWN_FILES = "test it with files of your own (write_image, write_table and index_folder of fvpipe.testing)"


def cannot_make(declaration: Declaration, what: str, fact: str = "") -> ParameterError:
    """Error for what could not be simulated; `fact` is one of which the user may give texts."""
    todo = f"give texts by examples={{{fact!r}: [...]}}" if fact else OWN_FILES
    return ParameterError(f"adapter {declaration.name!r}: {what} could not be simulated; {todo}")


def outcomes_of(table: Table) -> list[Any]:
    """List what a table with labels can say of a breast: cases, BI-RADS or words."""
    if table.label == "bi_rads":
        values = table.columns["bi_rads"].values
        return [n for n in range(7) if not values or str(n) in values.values()]
    if isinstance(table.label, tuple):
        return list(table.label)
    column = table.columns.get("label")
    return list(dict.fromkeys(column.values.values())) if column and column.values else list(LABELS)


def sides_of(table: Table) -> set[str]:
    """Words for sides of which a table's column of laterality always gives one; nothing where it may give each side."""
    column = table.columns.get("laterality")
    return set() if column is None or table.from_path else {word for word in column.values.values() if word}


def is_for_each_breast(table: Table, other: Table) -> bool:
    """Whether two tables are one file, of which each reads the columns of one breast."""
    sides = [sides_of(table), sides_of(other)]
    return table.file == other.file and all(len(each) == 1 for each in sides) and set.union(*sides) == {"L", "R"}


def _cell_of_all(readings: Sequence[tuple[Column, Sequence[str]]]) -> str:
    """A declared cell that several facts of one column all read as one of their words; empty where there is none."""
    declared = (literal(cell) for column, _ in readings for cell in column.values)
    folded = [(column, {word.casefold() for word in words}) for column, words in readings]
    fitting = (cell for cell in declared if all(value_of(column, cell).casefold() in words for column, words in folded))
    return next(fitting, "")


def _groups_of_day(day: str) -> dict[str | int, str]:
    """Texts of a pattern's groups for a day, ``YYYYMMDD``."""
    return {"year": day[:4], "month": day[4:6], "day": day[6:]}


@dataclass
class CellMaker:
    """Makes the cells of rows.

    Attributes
    ----------
    declaration : Declaration
        The declaration.
    examples : mapping of str to sequence of str
        Texts that the user gives, by fact.
    study : callable
        The breast's Study Instance UID.
    rng : random.Random
        Chooses texts.
    not_covered : dict of str to None
        What no cell was found for.
    """

    declaration: Declaration
    examples: Mapping[str, Sequence[str]]
    study: Callable[[SimulatedBreast], str]
    rng: random.Random
    not_covered: dict[str, None] = field(default_factory=dict)

    def label_of(self, table: Table, outcome: Any) -> str:
        """The outcome of a label rule: ``malignant``, ``benign``, ``unlabelled`` or ``excluded: why``."""
        if isinstance(outcome, Case):
            return self.declaration.options[outcome.then[1:]] if outcome.then.startswith("$") else outcome.then
        if table.label == "bi_rads":
            benign, malignant = bi_rads_of(self.declaration, Labels())
            return "benign" if outcome in benign else "malignant" if outcome in malignant else f"{EXCLUDED} BI-RADS {outcome}"
        return str(outcome)

    def cells(self, table: Table, breast: SimulatedBreast, view: View, outcome: Any, day: str = DAY) -> dict[str, str]:
        """Cells of a row about a breast, by column."""
        cells, others, readings = dict[str, str](), dict[str, str](), defaultdict[str, list[tuple[Column, list[str]]]](list)
        for fact, column in table.columns.items():
            if (words := self._words(fact, breast, view, table, outcome, day)) is None:
                continue
            made, any_other = self._cell(fact, column, words, table)
            (others if any_other else cells).setdefault(column.column[0], made)
            readings[column.column[0]].append((column, words))
        cells |= {name: cell for name, each in readings.items() if len(each) > 1 and (cell := _cell_of_all(each))}
        whens = [case.when for case in (*table.cases, *table.contralateral)] + [each.when for each in table.exclude]
        cells = {name: "" for when in whens for name in when} | others | cells
        if table.follow_up:
            pattern = table.follow_up.pattern
            written = matching_text(pattern, _groups_of_day(day), self.rng, lambda match: True) if pattern else ""
            cells[table.follow_up.date] = written or f"{day[:4]}-{day[4:6]}-{day[6:]}"
        return self._row_of_case(table, cells, breast.laterality, outcome) if isinstance(outcome, Case) else cells

    def check(self, table: Table, breast: SimulatedBreast, view: View, cells: Mapping[str, str]) -> None:
        """Check that a row still gives its identity: one column may find its image, and give several facts.

        Raises
        ------
        ParameterError
            It gives another one.
        """
        for fact in [] if table.from_path else IDENTITY:
            column = table.columns.get(fact)
            words = self._words(fact, breast, view, table, None, DAY) if column else None
            if column and words and value_of(column, cells[column.column[0]]).casefold() not in map(str.casefold, words):
                at, name = self.declaration.tables.index(table), column.column[0]
                what = f"a cell of column {name!r} of tables.{at} for {fact} and all else that it gives"
                raise cannot_make(self.declaration, what)

    def facts(self, table: Table, breast: SimulatedBreast, outcome: Any, cells: Mapping[str, str]) -> None:
        """Add to a breast what must arrive of a row."""
        if table.label:
            then = self.label_of(table, outcome)
            breast.label, breast.excluded = LABELS.get(then, -1), then.startswith(EXCLUDED)
        confirmed = any(case.confirmed for case in table.cases)
        for fact in (*BREAST_FACTS, *self.declaration.targets) if table.label or table.adds else ():
            silent = fact == "pathology" and confirmed and not outcome.confirmed
            if (given := table.columns.get(fact)) and not silent:
                value = expected_text(fact, given, cells.get(given.column[0], ""))
                if value and fact not in breast.facts:
                    breast.facts[fact] = value
        if table.label and table.subset_by_name and "subset" not in breast.facts:
            breast.facts["subset"] = next(iter(table.subset_by_name.values()))

    def later(self, table: Table, breast: SimulatedBreast, case: Case, cells: Mapping[str, str], *, pending: bool) -> None:
        """Let a result of a later exam decide over a breast, as `follow_up` does."""
        label = LABELS.get(self.label_of(table, case), -1)
        days = table.follow_up.days if table.follow_up else "0"
        in_time = int(self.declaration.options[days[1:]] if days.startswith("$") else days) >= int(LATER) - int(DAY)
        decides = case.confirmed and in_time and (pending or not breast.excluded)
        if decides and breast.label != 1 and (label == 1 or (label == 0 and breast.label == -1)):
            breast.label, breast.excluded = label, False
            column = table.columns.get("pathology")
            breast.facts["pathology"] = expected_text("pathology", column, cells[column.column[0]]) if column else ""

    def _row_of_case(self, table: Table, cells: dict[str, str], side: Laterality, case: Case) -> dict[str, str]:
        """Find cells for which the label rule takes this case."""
        cases = table.cases
        first = next(each for each in self.declaration.tables if each.label)
        where = "" if table is first else f"tables.{self.declaration.tables.index(table)}: "
        name = f"{where}case {next(i for i, each in enumerate(cases, 1) if each is case)} of the label rule"
        reader = RowReader(table, table.columns, bi_rads_of(self.declaration, Labels()), dict(self.declaration.options))
        own = table.columns["laterality"].column[0] if "laterality" in table.columns else ""
        fixed = {own, table.follow_up.date if table.follow_up else ""}  # cells of these columns stay
        choices: dict[str, list[str]] = {}
        for each in (case, *(other for other in cases if other is not case)):
            for column, wanted in each.when.items():
                there = [cells[own] if text == "$side" and own else literal(text) for text in wanted]
                choices.setdefault(column, []).extend(there if column not in fixed else [cells[column]])
        for column, found in choices.items():  # what this case does not ask for is best left as it is, or empty
            others = list(string.digits) if table.from_path else ["", "another"]  # a group of a path is seldom empty
            left = [*([] if table.from_path else [cells[column]]), *(others if column not in fixed else [])]
            choices[column] = list(dict.fromkeys([*found, *left] if column in case.when else [*left, *found]))
        tries = 0 if {table.path, table.instance} & case.when.keys() else MAX_COMBINATIONS  # its path is that of the image
        for chosen in itertools.islice(itertools.product(*choices.values()), tries):
            row = cells | dict(zip(choices, chosen, strict=True))
            try:
                if reader.label_case(Row(Path("simulated"), 2, row), side) is case:
                    return row
            except LabelTableError:
                continue
        raise LookupError(f"{name} ({dict(case.when)} -> {case.then})")

    def _words(self, fact: str, breast: SimulatedBreast, view: View, table: Table, outcome: Any, day: str) -> list[str] | None:
        """Candidate words for a fact: the first that its column accepts is used; None: the column is left out."""
        k, column, of_both = breast.number, table.columns[fact], sides_of(table) == {"both"}
        beside = [each for each in self.declaration.tables if each is not table and is_for_each_breast(table, each)]
        shared = of_both or any(column.column[0] in each.names for each in beside)
        k -= k % 2 if shared else 0  # its cell is that of the other breast, too
        known, n = [word for word in dict.fromkeys(column.values.values()) if word], k % 7
        if fact in self.examples:
            return [self.examples[fact][k // 2 % len(self.examples[fact])]]
        match fact:
            case "patient":
                return [breast.patient]
            case "exam":
                return [breast.exam] if "header" not in self.declaration.identity.exam else None
            case "laterality":
                return [breast.laterality.value, *side_words(breast.laterality), *(["both"] if of_both else [])]
            case "view":
                return [view.value]
            case "study_uid":
                return [self.study(breast) if day == DAY else f"2.25.8{k // 2}"]
            case "accession":
                return [f"A{k // 2}" if day == DAY else f"B{k // 2}"]
            case "study_date" | "exam_date":
                return [day]
            case "label":
                return [str(outcome)]
            case "bi_rads" | "finding_bi_rads":
                n = outcome if isinstance(outcome, int) else n
                return [f"{n}", f"BI-RADS {n}", *known]
            case "density":
                return ["ABCD"[k % 4], str(k % 4 + 1), "abcd"[k % 4], *known]
            case "age":
                return [str(40 + k)]
            case "implant":
                return ["0", "no", "false"]
            case "kind":
                return ["full_field", "low_energy"]
            case "rows" | "columns":
                return [str(SIZE[fact == "columns"])]
            case "lesion" | "category":
                return ["1"] if fact == "lesion" else ["Mass"]
            case _ if fact in BOX:
                return [BOX[fact]]
            case _ if fact in self.declaration.targets and self.declaration.targets[fact].unit:
                return [f"{k}.5", str(k)]
        return [known[k % len(known)]] if known else [f"{fact} {k % 3}"]

    def _cell(self, fact: str, column: Column, words: Sequence[str], table: Table) -> tuple[str, bool]:
        """Make a cell that the column reads as one of the words, and say whether any other cell would do."""
        for word in words:
            texts = [cell for cell, value in column.values.items() if value == word and cell not in ("", "*")]
            for text in texts if column.values else [word]:
                if not column.pattern:
                    if table.from_path and not self.fits_path(column.column[0], text):
                        continue
                    return text, False
                match = re.search(column.pattern, text)
                if match and match[1] == text:
                    return text, False
                is_day = {"year", "month", "day"} <= re.compile(column.pattern).groupindex.keys()
                groups: dict[str | int, str] = _groups_of_day(text) if is_day else {1: text}
                if made := matching_text(column.pattern, groups, self.rng, lambda match: True):
                    return made, False
            if "" in column.values and column.values[""] == word:
                return "", False
            if column.values.get("*") == word:
                made = matching_text(column.pattern, {}, self.rng, lambda match: True) if column.pattern else "any"
                if made and value_of(column, made) == word:
                    return made, True
        if fact in ("laterality", "view") and not table.from_path:
            what = f"{fact} {words[0]} in column {column.column[0]!r} (a simulated set has both views of both breasts)"
            raise cannot_make(self.declaration, what)
        if column.needed:
            raise cannot_make(self.declaration, f"a cell of {column.column[0]!r}", fact)
        self.not_covered[f"{fact} (column {column.column[0]!r})"] = None
        return "", True

    def fits_path(self, group: str, text: str) -> bool:
        """Whether a path can have this text as a group; one that the path does not have fits."""
        pattern = self.declaration.path
        if group not in re.compile(pattern).groupindex:
            return True
        key = group, text
        if key not in self._fitting:
            self._fitting[key] = matching_text(pattern, {group: text}, self.rng, lambda match: True) is not None
        return self._fitting[key]

    _fitting: dict[tuple[str, str], bool] = field(default_factory=dict)
