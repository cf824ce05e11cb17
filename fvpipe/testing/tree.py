"""A simulated data set: files, headers and tables as a declaration describes them, and what must arrive of them."""

from __future__ import annotations

import itertools
import random
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom.uid import DigitalMammographyXRayImageStorageForProcessing, SecondaryCaptureImageStorage

from fvpipe.config.facts import IDENTITY
from fvpipe.config.formats import SUFFIXES, Format
from fvpipe.config.project import Labels
from fvpipe.datasets.declaration import EXCLUDED, LABELS, Case, Column, Declaration, Table
from fvpipe.datasets.label_rules import RowReader
from fvpipe.datasets.listed_images import bi_rads_of
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.indexing.index import Index
from fvpipe.io.tables import Row
from fvpipe.testing.folder import SIZE, index_folder, write_image, write_table
from fvpipe.testing.texts import expected_text, literal, matching_text, side_words
from fvpipe.types import BREAST_FACTS, VIEWS, Laterality, View

DAY = "20150301"  # of every exam
MAX_COMBINATIONS = 20_000  # of cells, tried for one case of a label rule
BOX = {"top": "10", "bottom": "40", "left": "20", "right": "60", "width": "40", "height": "30", "boxes": "[[10, 20, 40, 60]]"}


@dataclass
class SimulatedBreast:
    """A simulated breast, and the facts that the index must find.

    Attributes
    ----------
    number : int
        From 0, in the order in which they were made.
    patient, exam : str
        As published.
    laterality : Laterality
        Side.
    label : int
        1 malignant, 0 benign, -1 unlabelled or excluded.
    excluded : bool
        Whether the label rule leaves it out.
    facts : dict of str to str
        Facts by name, as ``breasts.csv`` has them; what is not known is not there.
    paths : dict of View to str
        Its files.
    """

    number: int
    patient: str
    exam: str
    laterality: Laterality
    label: int = -1
    excluded: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    paths: dict[View, str] = field(default_factory=dict)


@dataclass
class SimulatedTree:
    """A simulated data set.

    Attributes
    ----------
    declaration : Declaration
        Declaration of the data set.
    adapter : str
        The adapter's name, or the path of its declaration.
    folder : Path
        Where it lies.
    breasts : list of SimulatedBreast
        Two a patient.
    headers : dict of str to dict
        Elements of each image by path, as :func:`fvpipe.testing.write_image` takes them.
    tables : dict of str to list of dict
        Rows of each table, by path below the folder.
    rows_of_images : dict of str to list of (Table, dict)
        By path, the tables that describe each image, with its row.
    label_file : str
        The table that the user would name by ``--labels``; empty where the declaration finds its tables.
    not_covered : tuple of str
        Cases of the label rule for which no row was found, and facts for which no cell was. Test them with rows of your own.
    """

    declaration: Declaration
    adapter: str
    folder: Path
    breasts: list[SimulatedBreast] = field(default_factory=list)
    headers: dict[str, dict[str, Any]] = field(default_factory=dict)
    tables: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    rows_of_images: dict[str, list[tuple[Table, dict[str, str]]]] = field(default_factory=dict)
    label_file: str = ""
    not_covered: tuple[str, ...] = ()

    @property
    def form(self) -> Format:
        """Format of its images: DICOM, or the first that the declaration states."""
        formats = self.declaration.formats
        return "dicom" if "dicom" in formats else formats[0]

    def write(self) -> None:
        """Write all files and tables."""
        for breast in self.breasts:
            for view in breast.paths:
                self.write_image(breast, view)
        for name, rows in self.tables.items():
            write_table(self.folder / name, rows)

    def write_image(self, breast: SimulatedBreast, view: View, **elements: Any) -> None:
        """Write one image; `elements` replace those of its header."""
        path, number = breast.paths[view], 2 * breast.number + VIEWS.index(view) + 1
        header = self.headers[path] | elements if self.form == "dicom" else {}
        write_image(self.folder / path, number, breast.laterality, view, self.form, **header)

    def index(self, **settings: Any) -> Index:
        """Index the folder as it is now, as :func:`index_folder` does."""
        if self.label_file:
            settings["label_file"] = str((self.folder / self.label_file).absolute())
        return index_folder(self.folder, self.adapter, **settings)


def make_tree(adapter: str | Path, folder: Path, examples: Mapping[str, Sequence[str]] | None = None) -> SimulatedTree:
    """Write a simulated data set in the form of a declaration: both views of both breasts of each patient.

    Each outcome of the label rule occurs, where a row that leads to it can be made.

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
        There is no such declaration, or a text cannot be made: the message names the fact to give in `examples`.
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
        self.not_covered: dict[str, None] = {}
        self.spelled: dict[tuple[str, str], str] = {}
        self.bi_rads = bi_rads_of(self.declaration, Labels())

    def make(self) -> None:
        """Plan breasts, and make their paths, headers and rows."""
        outcomes = self._outcomes()
        alike = bool(self.declaration.same_in_exam)  # both breasts have the same outcome
        patients = max(4, len(outcomes) if alike else (len(outcomes) + 1) // 2)
        for n in range(patients):
            patient, exam = self._patient(n), self._exam(n)
            for i, side in enumerate(Laterality):
                number = 2 * n + i
                breast = SimulatedBreast(number, patient, exam, side)
                try:
                    self._add(breast, outcomes[(n if alike else number) % len(outcomes)])
                except LookupError as error:  # the breast is as the other cases have it
                    self.not_covered[str(error)] = None
                    self._add(SimulatedBreast(number, patient, exam, side), outcomes[0])
        self.tree.not_covered = tuple(self.not_covered)

    def _outcomes(self) -> list[Any]:
        """List the outcomes that the breasts get in turn: words, BI-RADS, or cases."""
        table = next((table for table in self.declaration.tables if table.label), Table(from_path=True))
        if table.label == "bi_rads":
            values = table.columns["bi_rads"].values
            return [n for n in range(7) if not values or str(n) in values.values()]
        if isinstance(table.label, tuple):
            return list(table.label)
        column = table.columns.get("label")
        return list(dict.fromkeys(column.values.values())) if column and column.values else list(LABELS)

    def _add(self, breast: SimulatedBreast, outcome: Any) -> None:
        """Add one breast with its images and rows."""
        headers, rows, groups = dict[str, dict[str, Any]](), list[tuple[Table, dict[str, str]]](), dict[str, str]()
        for table in self.declaration.tables:
            if table.from_path:
                groups |= self._cells(table, breast, View.CC, outcome)
        for v, view in enumerate(VIEWS):
            said = {"patient": breast.patient, "exam": breast.exam, "laterality": breast.laterality, "view": view}
            path, of_path = self._path(breast, view, {k: str(t) for k, t in said.items()} | groups)
            breast.paths[view], headers[path] = path, self._header(breast, view)
            for table in self.declaration.tables:
                of_image = table.lists_images or table.instance
                if table.from_path or (v and not of_image):
                    continue
                cells = self._cells(table, breast, view, outcome)
                cells |= {column: of_path[group] for group, column in table.path_groups.items()}
                cells |= {table.path: path} if table.path else {}
                cells |= {table.instance: f"2.25.{2 * breast.number + v + 1}"} if table.instance else {}
                rows.append((table, cells))
                if of_image:
                    self.tree.rows_of_images.setdefault(path, []).append((table, cells))
        self.tree.breasts.append(breast)
        self.tree.headers |= headers
        for table, cells in rows:
            self.tree.tables.setdefault(self._file(table), []).append(cells)

    def _file(self, table: Table) -> str:
        if not table.file:
            self.tree.label_file = "labels.csv"
            return self.tree.label_file
        part = next(iter(table.subset_by_name), "")
        name = table.file[0].replace("**/", "").replace("*", f"{part}_", 1).replace("*", "x").replace("?", "x")
        return re.sub(r"\[(.)[^]]*\]", r"\1", name)

    # --- rows

    def _cells(self, table: Table, breast: SimulatedBreast, view: View, outcome: Any) -> dict[str, str]:
        """Cells of a row, by column; what must arrive of them is added to the breast."""
        cells: dict[str, str] = {}
        for fact, column in table.columns.items():
            if (words := self._words(fact, breast, view, column, outcome)) is not None:
                cells.setdefault(column.column[0], self._cell(fact, column, words))
        cases = table.cases
        whens = [case.when for case in (*cases, *table.contralateral)] + [each.when for each in table.exclude]
        cells = {name: "" for when in whens for name in when} | cells
        if table.follow_up:
            cells[table.follow_up.date] = f"{DAY[:4]}-{DAY[4:6]}-{DAY[6:]}"
        case: Case | None = None
        if cases:
            case = outcome
            cells = self._row_of_case(table, cells, breast.laterality, case)
        if table.label:
            then = self._then(table, case, outcome)
            breast.label, breast.excluded = LABELS.get(then, -1), then.startswith(EXCLUDED)
        for fact in (*BREAST_FACTS, *self.declaration.targets) if table.label or table.adds else ():
            silent = fact == "pathology" and case and not case.confirmed and any(each.confirmed for each in cases)
            if (given := table.columns.get(fact)) and not silent:
                value = expected_text(fact, given, cells.get(given.column[0], ""))
                if value and fact not in breast.facts:
                    breast.facts[fact] = value
        if table.label and table.subset_by_name and "subset" not in breast.facts:
            breast.facts["subset"] = next(iter(table.subset_by_name.values()))
        return cells

    def _then(self, table: Table, case: Case | None, outcome: Any) -> str:
        if case:
            return self.declaration.options[case.then[1:]] if case.then.startswith("$") else case.then
        if table.label == "bi_rads":
            benign, malignant = self.bi_rads
            return "benign" if outcome in benign else "malignant" if outcome in malignant else f"{EXCLUDED} BI-RADS {outcome}"
        return str(outcome)

    def _row_of_case(self, table: Table, cells: dict[str, str], side: Laterality, case: Case) -> dict[str, str]:
        """Find cells for which the label rule takes this case."""
        cases = table.cases
        reader = RowReader(table, table.columns, self.bi_rads, dict(self.declaration.options))
        own = table.columns["laterality"].column[0] if "laterality" in table.columns else ""
        choices: dict[str, list[str]] = {}
        for each in (case, *(other for other in cases if other is not case)):
            for name, wanted in each.when.items():
                there = [cells[own] if text == "$side" and own else literal(text) for text in wanted]
                choices.setdefault(name, []).extend(there if name != own else [cells[own]])
        for name, found in choices.items():  # what this case does not ask for is best left as it is, or empty
            others = list(string.digits) if table.from_path else ["", "another"]  # a group of a path is seldom empty
            left = [*([] if table.from_path else [cells[name]]), *(others if name != own else [])]
            choices[name] = list(dict.fromkeys([*found, *left] if name in case.when else [*left, *found]))
        for chosen in itertools.islice(itertools.product(*choices.values()), MAX_COMBINATIONS):
            row = cells | dict(zip(choices, chosen, strict=True))
            try:
                if reader.label_case(Row(Path("simulated"), 2, row), side) is case:
                    return row
            except LabelTableError:
                continue
        raise LookupError(f"case {cases.index(case) + 1} of the label rule ({dict(case.when)} -> {case.then})")

    def _words(self, fact: str, breast: SimulatedBreast, view: View, column: Column, outcome: Any) -> list[str] | None:
        """Candidate words for a fact: the first that its column accepts is used; None: the column is left out."""
        k, n = breast.number, breast.number % 7
        known = [word for word in dict.fromkeys(column.values.values()) if word]
        if fact in self.examples:
            return [self.examples[fact][k // 2 % len(self.examples[fact])]]
        match fact:
            case "patient":
                return [breast.patient]
            case "exam":
                return [breast.exam] if "header" not in self.declaration.identity.exam else None
            case "laterality":
                return [breast.laterality.value, *side_words(breast.laterality)]
            case "view":
                return [view.value]
            case "study_uid":
                return [self._study(breast)]
            case "accession":
                return [f"A{k // 2}"]
            case "study_date" | "exam_date":
                return [DAY]
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
                return [f"{k}.5"]
        return [known[k % len(known)]] if known else [f"{fact} {k % 3}"]

    def _cell(self, fact: str, column: Column, words: Sequence[str]) -> str:
        """Make a cell that the column reads as one of the words."""
        for word in words:
            texts = [cell for cell, value in column.values.items() if value == word and cell not in ("", "*")]
            for text in texts if column.values else [word]:
                if not column.pattern:
                    return text
                match = re.search(column.pattern, text)
                if match and match[1] == text:
                    return text
                if made := matching_text(column.pattern, {1: text}, self.rng, lambda match: True):
                    return made
            if "" in column.values and column.values[""] == word:
                return ""
        if column.needed:
            raise self._cannot_make(fact, f"a cell of {column.column[0]!r}")
        self.not_covered[f"{fact} (column {column.column[0]!r})"] = None
        return ""

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
        columns = [table.columns["patient"] for table in self.declaration.tables if "patient" in table.columns]
        sources += [(column.pattern, 1) for column in columns if column.pattern]
        return self._own(f"P{n:03d}", sources, "patient")

    def _exam(self, n: int) -> str:
        sources: list[tuple[str, str | int]] = [(self.declaration.path, "exam")] if "(?P<exam>" in self.declaration.path else []
        columns = [table.columns["exam"] for table in self.declaration.tables if "exam" in table.columns]
        sources += [(column.pattern, 1) for column in columns if column.pattern]
        return self.examples["exam"][n] if "exam" in self.examples else self._own(f"E{n:03d}", sources, "exam")

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
            raise self._cannot_make(fact, f"a text that {pattern!r} takes")
        self.used.add(match[group])
        return str(match[group])

    def _path(self, breast: SimulatedBreast, view: View, said: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """A file's path, and its groups."""
        pattern = self.declaration.path
        if not pattern:
            suffix = ".dcm" if self.tree.form == "dicom" else min(SUFFIXES[self.tree.form])
            by_name = any(table.path_parts == 1 for table in self.declaration.tables)
            return f"{breast.patient}{'_' if by_name else '/'}{breast.laterality}_{view}{suffix}", {}
        names = [name for name in re.compile(pattern).groupindex if name in said]
        for words in itertools.product(*(self._spellings(name, said[name]) for name in names)):
            forced: dict[str | int, str] = dict(zip(names, words, strict=True))
            made = matching_text(pattern, forced, self.rng, lambda match: match.string not in self.used)
            if made is not None and (match := re.search(pattern, made)):
                self.used.add(made)
                self.spelled |= {(name, said[name]): text for name, text in zip(names, words, strict=True)}
                return made.lstrip("/"), {name: text or "" for name, text in match.groupdict().items()}
        raise self._cannot_make("path", f"a path with {dict(said)}")

    def _spellings(self, name: str, word: str) -> Iterator[str]:
        """Texts of a group that stand for a word."""
        if (name, word) in self.spelled:  # as it was for another image
            yield self.spelled[name, word]
        values = self.declaration.path_values.get(name, {})
        yield from (text for text, value in values.items() if value == word and text not in ("", "*"))
        yield from (side_words(Laterality(word)) if name == "laterality" else [word, word.lower()])

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
                raise self._cannot_make("patient", f"a PatientID that {pattern!r} takes")
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

    def _cannot_make(self, fact: str, what: str) -> ParameterError:
        name = self.declaration.name
        return ParameterError(f"adapter {name!r}: {what} could not be simulated; give texts by examples={{{fact!r}: [...]}}")
