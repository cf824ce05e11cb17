"""Makes a simulated data set of a declaration: which breasts there are, their identity, paths, headers and rows."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing, SecondaryCaptureImageStorage

from fvpipe.config.facts import IDENTITY
from fvpipe.config.formats import SUFFIXES
from fvpipe.datasets.declared.declaration import Table
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import ParameterError
from fvpipe.testing.cells import DAY, LATER, CellMaker, cannot_make, is_for_each_breast, outcomes_of, sides_of
from fvpipe.testing.texts import matching_text, side_words
from fvpipe.testing.tree import SimulatedBreast, SimulatedTree
from fvpipe.types import VIEWS, Laterality, View

MAX_PATHS = 200  # combinations of texts for a path's groups that are tried

Outcome = dict[int, Any]
"""What tables say of a breast, by their number; a table that is not there has no row of it."""


def make_tree(adapter: str | Path, folder: Path, examples: Mapping[str, Sequence[str]] | None = None) -> SimulatedTree:
    """Write a simulated data set in the form of a declaration: both views of both breasts of each patient.

    Each outcome of the label rule occurs, where a row that leads to it can be made. Where several tables with labels have
    files of their own, each breast has a row in one of them; results of a table with `follow_up` are a month later.

    Parameters
    ----------
    adapter : str or Path
        Name of an adapter that is declared, or the path of a declaration.
    folder : Path
        Folder to write to.
    examples : mapping of str to sequence of str, or None
        Texts for facts, such as ``patient``, whose form cannot be made from the patterns of the declaration.

    Raises
    ------
    ParameterError
        There is no such declaration, or something of it cannot be simulated: the message says what, and what to do.
    """
    declaration = get_adapter(str(adapter)).declaration
    if declaration is None:
        raise ParameterError(f"adapter {adapter}: has no declaration, from which a data set could be simulated")
    maker = _Maker(SimulatedTree(declaration, str(adapter), folder), dict(examples or {}))
    maker.make()
    maker.tree.write()
    return maker.tree


class _Maker:
    """Plans and fills a tree."""

    def __init__(self, tree: SimulatedTree, examples: Mapping[str, Sequence[str]]) -> None:
        self.tree, self.declaration, self.examples = tree, tree.declaration, examples
        self.policy = get_adapter(tree.adapter).policy
        self.rng = random.Random(0)  # noqa: S311 - of examples
        self.used: set[str] = set()
        self.spelled: dict[tuple[str, str], str] = {}
        self.maker = CellMaker(self.declaration, examples, self._study, self.rng)
        tables = list(enumerate(self.declaration.tables))
        labelling = [n for n, table in tables if table.label]
        follows = [n for n in labelling if tables[n][1].follow_up and any(case.confirmed for case in tables[n][1].cases)]
        self.later = follows if len(follows) < len(labelling) else follows[1:]  # tables of results after the exams with images
        self.labelling = [n for n in labelling if n not in self.later]
        files = [self._file(table) for _, table in tables if not table.from_path]
        self.shared = {file for file in files if files.count(file) > 1}
        # By row: the tables and the exam that it is made for, the breast, and the image.
        self.made_for: dict[int, tuple[set[int], tuple[str, str], int, str]] = {}
        if any(self._file(self.declaration.tables[n]) in self.shared for n in self.later):
            raise cannot_make(self.declaration, "a table with `follow_up` in the file of another one")

    def make(self) -> None:
        """Plan breasts, and make their paths, headers and rows."""
        of_side = {side: self._outcomes(side) for side in Laterality}
        both = [table for table in self.declaration.tables if (table.label or table.adds) and sides_of(table) == {"both"}]
        alike = bool(self.declaration.same_in_exam or both)  # both breasts have the same outcome
        by_patient = alike or len({str(outcomes) for outcomes in of_side.values()}) > 1
        most = max(map(len, of_side.values()))
        patients = max(4, most if by_patient else (most + 1) // 2)
        for n in range(patients):
            patient, exam = self._patient(n), self._exam(n)
            for i, side in enumerate(Laterality):
                number, outcomes = 2 * n + i, of_side[side]
                at = (n if alike else n + i if by_patient else number) % len(outcomes)
                for outcome in [outcomes[at], *outcomes]:  # where one cannot be made, the breast is as the first that can
                    try:
                        self._add(SimulatedBreast(number, patient, exam, side), outcome)
                        break
                    except LookupError as error:
                        self.maker.not_covered[str(error.args[0])] = None
                else:
                    raise cannot_make(self.declaration, f"{', '.join(self.maker.not_covered)}: each of its rows")
        for rows in self.tree.tables.values():
            columns = dict.fromkeys(column for row in rows for column in row)
            for row in rows:
                for column in columns:
                    row.setdefault(column, "")
        self.tree.not_covered = tuple(self.maker.not_covered)

    def _outcomes(self, side: Laterality) -> list[Outcome]:
        """List what the tables say of the breasts of a side in turn."""
        tables = self.declaration.tables
        here = [n for n in self.labelling if self._admits(tables[n], side)]
        together = any(tables[n].lists_images or (len(here) > 1 and self._file(tables[n]) in self.shared) for n in here)
        outcomes = list[Outcome]()
        for first in here[:1] if together else here:
            for said in outcomes_of(tables[first]):
                outcome = {first: said}
                for other in here if together else ():
                    outcome.setdefault(other, self._like(first, said, other))
                outcomes.append(outcome)
        outcomes = outcomes or [{}]
        for n in self.later:  # each result, and none
            results = [each for each in [None, *outcomes_of(tables[n])] if self._admits(tables[n], side)] or [None]
            longer = max(len(outcomes), len(results))
            outcomes = [
                outcomes[i % len(outcomes)] | ({n: result} if (result := results[i % len(results)]) is not None else {})
                for i in range(longer)
            ]
        return outcomes

    def _like(self, table: int, said: Any, other: int) -> Any:
        """What another table says of a breast of which one says this."""
        first, second = self.declaration.tables[table], self.declaration.tables[other]
        label = self.maker.label_of(first, said).split(":")[0]
        fitting = (each for each in outcomes_of(second) if self.maker.label_of(second, each).split(":")[0] == label)
        if (found := next(fitting, None)) is None:
            what = f"tables.{table} and tables.{other} label the same breasts, and that of {label!r} by tables.{other}"
            raise cannot_make(self.declaration, what)
        return found

    @staticmethod
    def _admits(table: Table, side: Laterality) -> bool:
        words = sides_of(table)
        return table.lists_images or not words or bool(words & {side.value, "both"})

    def _add(self, breast: SimulatedBreast, outcome: Outcome) -> None:
        """Add one breast with its images and rows."""
        headers, rows = dict[str, dict[str, Any]](), list[tuple[int, str, dict[str, str]]]()
        tables, of_path = self.declaration.tables, dict[str, str]()
        for n, table in enumerate(tables):
            if table.from_path:
                of_path |= self._made(n, breast, View.CC, outcome)
        for v, view in enumerate(VIEWS):
            cells = {
                n: self._made(n, breast, view, outcome)
                for n, table in enumerate(tables)
                if not table.from_path and self._has_row(n, breast, outcome) and (v == 0 or self._of_image(table))
            }
            path, groups = self._path(breast, view, of_path, self._exact(cells))
            breast.paths[view], headers[path] = path, self._header(breast, view)
            for n, row in cells.items():
                table = tables[n]
                row |= {column: groups[group] for group, column in table.path_groups.items()}
                row |= {table.path: path} if table.path else {}
                row |= {table.instance: f"2.25.{2 * breast.number + v + 1}"} if table.instance else {}
                self.maker.check(table, breast, view, row)
                rows.append((n, path if table.lists_images or table.instance else "", row))
        pending = any(getattr(outcome.get(n), "pending", False) for n in self.labelling)
        for n in self.later:
            if n in outcome:
                row = next(row for number, _, row in rows if number == n)
                self.maker.later(tables[n], breast, outcome[n], row, pending=pending)
        self.tree.breasts.append(breast)
        self.tree.headers |= headers
        self.tree.later_exams += len(outcome.keys() & self.later)
        for n, path, row in rows:
            placed = self._place(n, breast, path, row)
            if path:
                self.tree.rows_of_images.setdefault(path, []).append((tables[n], placed))

    def _has_row(self, number: int, breast: SimulatedBreast, outcome: Outcome) -> bool:
        table = self.declaration.tables[number]
        return number in outcome if table.label else self._admits(table, breast.laterality)

    def _of_image(self, table: Table) -> bool:
        """Whether there is a row for each image, which those of all tables of a file are where one of them is."""
        file = self._file(table)
        of_file = [each for each in self.declaration.tables if not each.from_path and self._file(each) == file]
        return any(each.lists_images or each.instance for each in of_file)

    def _made(self, number: int, breast: SimulatedBreast, view: View, outcome: Outcome) -> dict[str, str]:
        """Cells of a row; what must arrive of them is added to the breast."""
        table, said = self.declaration.tables[number], outcome.get(number)
        later = number in self.later
        cells = self.maker.cells(table, breast, view, said, LATER if later else DAY)
        if not later and (table.adds or number in outcome):
            self.maker.facts(table, breast, said, cells)
        return cells

    def _exact(self, cells: Mapping[int, Mapping[str, str]]) -> dict[str, tuple[str, str]]:
        """Texts that groups of the path must have, since a row about the image has them: by group, with the row's column."""
        found = dict[str, tuple[str, str]]()
        for n, row in cells.items():
            table = self.declaration.tables[n]
            given = {column.column[0] for column in table.columns.values()}
            found |= {
                group: (row[column], f"column {column!r} of tables.{n}")
                for group, column in table.path_groups.items()
                if column in given and row.get(column)
            }
        return found

    def _place(self, number: int, breast: SimulatedBreast, path: str, row: dict[str, str]) -> dict[str, str]:
        """Put a row into its file: into one of another table of the file, about this image, breast or exam, or as a new one."""
        file, exam = self._file(self.declaration.tables[number]), (breast.patient, breast.exam)
        rows = self.tree.tables.setdefault(file, [])
        both = sides_of(self.declaration.tables[number]) == {"both"}
        for other in rows if file in self.shared or both else ():
            by, of_exam, of_breast, of_image = self.made_for[id(other)]
            alike = all(other.get(column, cell) == cell for column, cell in row.items())
            if both and number in by and alike and of_exam == exam and not path:
                return other
            same = of_breast == breast.number if path or of_image else of_exam == exam
            if same and number not in by and alike and (not path or of_image in ("", path)):
                other.update(row)
                self.made_for[id(other)] = ({*by, number}, exam, breast.number, of_image or path)
                return other
            table = self.declaration.tables[number]
            if of_exam == exam and any(is_for_each_breast(table, self.declaration.tables[n]) for n in by):
                unlike = ", ".join(sorted(column for column, cell in row.items() if other.get(column, cell) != cell))
                raise cannot_make(self.declaration, f"a row about both breasts, for each of which {unlike} is another cell,")
        rows.append(row)
        self.made_for[id(row)] = ({number}, exam, breast.number, path)
        return row

    def _file(self, table: Table) -> str:
        if not table.file:
            self.tree.label_file = "labels.csv"
            return self.tree.label_file
        part = next(iter(table.subset_by_name), "")
        name = table.file[0].replace("**/", "").replace("*", f"{part}_", 1).replace("*", "x").replace("?", "x")
        return re.sub(r"\[(.)[^]]*\]", r"\1", name)

    # --- identity

    def _patient(self, n: int) -> str:
        """Make a new patient identifier in the form that path, header or tables have."""
        if "patient" in self.examples:
            return self.examples["patient"][n]
        if self.policy.patient_from == "study" and "patient" in self.policy.from_header:
            return f"2.25.9{n}"
        sources: list[tuple[str, str | int]] = (
            [(self.declaration.path, "patient")] if "(?P<patient>" in self.declaration.path else []
        )
        sources += [(self.policy.patient_pattern, 1)] if self.policy.patient_pattern else []
        return self._own(f"P{n:03d}", [*sources, *self._of_tables("patient")], "patient")

    def _exam(self, n: int) -> str:
        sources: list[tuple[str, str | int]] = [(self.declaration.path, "exam")] if "(?P<exam>" in self.declaration.path else []
        if "exam" in self.examples:
            return self.examples["exam"][n]
        return self._own(f"E{n:03d}", [*sources, *self._of_tables("exam")], "exam")

    def _of_tables(self, fact: str) -> Iterator[tuple[str, str | int]]:
        """Patterns that the cells of a fact must have: that of its column, and of the path's group that it is compared with."""
        for table in (each for each in self.declaration.tables if fact in each.columns):
            column = table.columns[fact]
            if column.pattern:
                yield column.pattern, 1
            groups = [group for group, name in table.path_groups.items() if name == column.column[0] and group != fact]
            yield from ((self.declaration.path, group) for group in groups)

    def _own(self, plain: str, sources: Sequence[tuple[str, str | int]], fact: str) -> str:
        """Make a text that all patterns accept and no other patient or exam has."""
        if not sources:
            return plain
        (pattern, group), *others = sources

        def fits(match: re.Match[str]) -> bool:
            text = match[group] or ""
            return bool(text) and text not in self.used and text == text.strip() and all(
                (found := re.search(p, text)) and found[g] == text for p, g in others if p != self.policy.patient_pattern
            )  # fmt: skip

        made = matching_text(pattern, {}, self.rng, fits)
        match = re.search(pattern, made) if made else None
        if match is None:
            raise cannot_make(self.declaration, f"a text that {pattern!r} takes", fact)
        self.used.add(match[group])
        return str(match[group])

    def _path(
        self, breast: SimulatedBreast, view: View, of_path: Mapping[str, str], exact: Mapping[str, tuple[str, str]]
    ) -> tuple[str, dict[str, str]]:
        """A file's path, and its groups: `of_path` have these words, and `exact` these very texts."""
        pattern = self.declaration.path
        if not pattern:
            suffix = ".dcm" if self.tree.form == "dicom" else min(SUFFIXES[self.tree.form])
            by_name = any(table.path_parts == 1 for table in self.declaration.tables)
            return f"{breast.patient}{'_' if by_name else '/'}{breast.laterality}_{view}{suffix}", {}
        for group, (text, where) in exact.items():
            if not self.maker.fits_path(group, text):
                raw = "(cells are compared with the group's raw text, before `path_values`)"
                raise cannot_make(self.declaration, f"a path in which group {group} is {text!r}, as in {where} {raw},")
        said = {"patient": breast.patient, "exam": breast.exam, "laterality": str(breast.laterality), "view": str(view)}
        said |= of_path
        names = [name for name in re.compile(pattern).groupindex if name in said or name in exact]
        texts = [
            [exact[name][0]] if name in exact else list(dict.fromkeys(self._spellings(name, said[name]))) for name in names
        ]
        for words in itertools.islice(itertools.product(*texts), MAX_PATHS):
            forced: dict[str | int, str] = dict(zip(names, words, strict=True))
            made = matching_text(pattern, forced, self.rng, lambda match: match.string.lstrip("/") not in self.used)
            if made is not None and (match := re.search(pattern, made)):
                self.used.add(made.lstrip("/"))
                self.spelled |= {(name, said[name]): forced[name] for name in names if name not in exact}
                return made.lstrip("/"), {name: text or "" for name, text in match.groupdict().items()}
        raise cannot_make(self.declaration, f"a path with {said | {group: text for group, (text, _) in exact.items()}}")

    def _spellings(self, name: str, word: str) -> list[str]:
        """Texts of a group that stand for a word."""
        before = [self.spelled[name, word]] if (name, word) in self.spelled else []  # for another image
        values = self.declaration.path_values.get(name, {})
        texts = [text for text, value in values.items() if value == word and text not in ("", "*")]
        texts += side_words(Laterality(word)) if name == "laterality" else [word, word.lower()]
        return list(dict.fromkeys([*before, *(text for text in texts if self.maker.fits_path(name, text))]))

    def _header(self, breast: SimulatedBreast, view: View) -> dict[str, Any]:
        """Make the elements for which the declaration reads the header first, and no others of identity."""
        speaks = {fact: getattr(self.declaration.identity, fact)[0] == "header" for fact in IDENTITY}
        patient = breast.patient
        if pattern := self.policy.patient_pattern:
            said = {"laterality": str(breast.laterality), "view": str(view)}
            names = [name for name in re.compile(pattern).groupindex if name in said]
            words = itertools.product(*(self._spellings(name, said[name]) for name in names))
            forced: list[dict[str | int, str]] = [{1: patient, **dict(zip(names, each, strict=True))} for each in words]
            made = (matching_text(pattern, each, self.rng, lambda match: True) for each in forced)
            if not (patient := next(filter(None, made), "")):
                raise cannot_make(self.declaration, f"a PatientID that {pattern!r} takes", "patient")
        view_in = "PatientOrientation" if self.policy.view_in_patient_orientation else "ViewPosition"
        return {
            "PatientID": patient if "header" in self.declaration.identity.patient else "as published",
            "StudyInstanceUID": self._study(breast),
            "AccessionNumber": f"A{breast.number // 2}",
            "StudyDate": DAY,
            "ImageLaterality": breast.laterality.value if speaks["laterality"] else None,
            view_in: view.value if speaks["view"] else None,
            **({"SOPClassUID": DigitalMammographyXRayImageStorageForProcessing} if self.policy.for_processing else {}),
            **({"SOPClassUID": SecondaryCaptureImageStorage} if self.policy.secondary_capture else {}),
        }

    def _study(self, breast: SimulatedBreast) -> str:
        return breast.patient if self.policy.patient_from == "study" else f"2.25.9{breast.number // 2}"
