"""The rules that an adapter must keep, checked on a simulated data set."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fvpipe.config.project import Labels, Split
from fvpipe.datasets.adapter import Adapter
from fvpipe.datasets.declared.declaration import Table
from fvpipe.datasets.declared.facts import names_of_exams, needed_facts
from fvpipe.datasets.declared.tables import declared_adapter
from fvpipe.errors import FvpipeError, LabelTableError
from fvpipe.evaluation.splits.assign import Candidate, split
from fvpipe.indexing.index import Index
from fvpipe.reasons import Reason
from fvpipe.testing.folder import write_table
from fvpipe.testing.maker import make_tree
from fvpipe.testing.tree import SimulatedBreast, SimulatedTree
from fvpipe.types import BREAST_FACTS, Breast, Laterality, View

CONFLICTS = {"laterality": Reason.LATERALITY_CONFLICT, "view": Reason.VIEW_CONFLICT, "patient": Reason.IDENTIFIER_CONFLICT}


class BrokenRules(AssertionError):
    """An adapter breaks rules; the message has a line for each."""


def check_adapter(adapter: str | Path, folder: Path, examples: Mapping[str, Sequence[str]] | None = None) -> SimulatedTree:
    """Make a data set in the form of an adapter's declaration, and check the rules that every adapter must keep.

    Each simulated breast and fact arrives, with its label; what the label rule leaves out is left out by name; nothing else is
    rejected. A split never parts a patient. An image whose sources contradict each other is rejected. A table without a column
    that its rows need is named with the column, and without the others it is read.

    Parameters
    ----------
    adapter : str or Path
        Name of an adapter that is declared, or the path of a declaration.
    folder : Path
        An empty folder.
    examples : mapping of str to sequence of str, or None
        As :func:`fvpipe.testing.make_tree` takes them.

    Returns
    -------
    SimulatedTree
        The data set; `not_covered` names what was not checked.

    Raises
    ------
    BrokenRules
        A rule is broken. It is an AssertionError.
    ParameterError
        There is no such declaration, or no data set can be made from it.
    """
    tree = make_tree(adapter, folder / "simulated", examples)
    try:
        found = tree.index()
    except FvpipeError as error:
        raise BrokenRules(f"adapter {adapter}, simulated in {tree.folder}: {error}") from error
    broken = [*not_arrived(tree, found), *parted(tree, found)]
    broken = broken or [*not_rejected(tree), *not_named(tree)]
    if broken:
        raise BrokenRules(f"adapter {adapter}, simulated in {tree.folder}:\n  " + "\n  ".join(broken))
    return tree


def not_arrived(tree: SimulatedTree, found: Index) -> Iterator[str]:
    """Breasts and facts that the index lacks, or has beyond the simulated ones."""
    by_path = {image.path: breast for breast in found.breasts for image in breast.images}
    reasons = {rejection.what: rejection for rejection in found.rejections}
    expected_ids = set()
    for expected in tree.breasts:
        breasts = {by_path.get(path) for path in expected.paths.values()}
        name, breast = f"{expected.laterality} of patient {expected.patient!r}", breasts.pop()
        if expected.excluded:
            ids = {_breast_id(found, path) for path in expected.paths.values()}
            left_out = [reasons[each] for each in ids if each in reasons]
            expected_ids |= ids
            if [each.reason for each in left_out] != [Reason.LABEL_EXCLUDED]:
                yield f"{name}: expected label_excluded, found {[each.reason.value for each in left_out] or 'no rejection'}"
        elif breast is None or breasts:
            lost = [f"{reasons[p].reason.value}: {reasons[p].detail}" for p in expected.paths.values() if p in reasons]
            yield f"{name}: does not arrive as one breast ({'; '.join(lost) or 'no rejection of its images'})"
        else:
            yield from _differing(tree, expected, breast, name)
    for what, rejection in reasons.items():
        if rejection.reason is Reason.LABEL_WITHOUT_IMAGE and tree.later_exams:
            continue  # of exams after those with images
        if what not in expected_ids and not any(what in expected.paths.values() for expected in tree.breasts):
            yield f"rejected beside the simulated images: {what}: {rejection.reason.value}: {rejection.detail}"
    count = sum(not expected.excluded for expected in tree.breasts)
    if len(found.breasts) != count or len(found.images) != 2 * len(tree.breasts):
        images = 2 * len(tree.breasts)
        yield f"expected {count} breasts and {images} images, found {len(found.breasts)} and {len(found.images)}"
    boxes = any(table.instance and not table.label for table in tree.declaration.tables) or any(
        "boxes" in table.columns or "top" in table.columns for table in tree.declaration.tables
    )
    if boxes and not any(any(breast.findings) for breast in found.breasts):
        yield "no box of a finding arrives"


def _breast_id(found: Index, path: str) -> str:
    image = next((image for image in found.images if image.path == path), None)
    return "_".join(part for part in (image.patient_id, image.study, image.laterality) if part) if image else path


def _differing(tree: SimulatedTree, expected: SimulatedBreast, breast: Breast, name: str) -> Iterator[str]:
    facts = breast.facts
    if (breast.key.patient, breast.key.laterality) != (expected.patient, expected.laterality):
        yield f"{name}: arrives as {breast.key.laterality} of patient {breast.key.patient!r}"
    if facts.label != expected.label:
        yield f"{name}: label {facts.label}, expected {expected.label}"
    arrived = {fact: getattr(facts, fact) for fact in BREAST_FACTS} | dict(facts.targets)
    for fact in (*BREAST_FACTS, *tree.declaration.targets):
        value = "" if arrived.get(fact) is None else str(arrived.get(fact, ""))
        if value != expected.facts.get(fact, "") and (value or fact in expected.facts):
            yield f"{name}: {fact} {value!r}, expected {expected.facts.get(fact, '')!r}"


def parted(tree: SimulatedTree, found: Index) -> Iterator[str]:
    """Patients that a split by patients puts into two parts."""
    whose = {path: each.patient for each in tree.breasts for path in each.paths.values()}
    keys = [(b.key, max(b.facts.label, 0)) for b in found.breasts]
    candidates = [Candidate("simulated", key.breast_id, key.patient, key.study, label) for key, label in keys]
    patients = {b.key.breast_id: whose[b.images[0].path] for b in found.breasts}
    for seed in range(8):
        parts = defaultdict(set)
        for each in split(candidates, Split(setting="unseen", datasets=("simulated",), test_share=0.5, seed=seed)):
            parts[patients[each.candidate.breast_id]].add(each.part)
        for patient, of_patient in parts.items():
            if len(of_patient) > 1:
                yield f"a split parts the breasts of patient {patient!r}"
                return


def not_rejected(tree: SimulatedTree) -> Iterator[str]:
    """Facts of identity of which two sources may contradict each other unnoticed."""
    breast = next(each for each in reversed(tree.breasts) if not each.excluded)
    path, headers = breast.paths[View.CC], tree.declaration.headers
    side = Laterality.RIGHT if breast.laterality is Laterality.LEFT else Laterality.LEFT
    wrong = {
        "laterality": ("ImageLaterality", side.value),
        "patient": ("PatientID" if headers.patient_from == "patient_id" else "StudyInstanceUID", "2.25.77"),
        "view": ("PatientOrientation" if headers.view_in_patient_orientation else "ViewPosition", "MLO"),
    }
    for fact, reason in CONFLICTS.items():
        keyword, value = wrong[fact]
        sources = [each for each in getattr(tree.declaration.identity, fact) if each != "header" or tree.form == "dicom"]
        rows = [(table, cells) for table, cells in tree.rows_of_images.get(path, ()) if fact in table.columns]
        if any(table.instance for table, _ in rows) and fact != "patient" and "table" not in sources:
            sources.append("table")  # compared with the header
        rows = [(table, cells) for table, cells in rows if table.columns[fact].column[0] not in table.path_groups.values()]
        if len(sources) < 2 or (set(sources) == {"header", "table"} and not rows):
            continue
        if "header" in sources:
            tree.write_image(breast, View.CC, **{keyword: value})
            rejected = [r.reason for r in tree.index().rejections if r.what == path]
            tree.write_image(breast, View.CC)
        elif rows:
            rejected = _with_another_cell(tree, *rows[0], fact, path)
        else:
            continue
        if rejected != [reason]:
            yield f"two values of {fact}, of {' and '.join(sources)}: expected {reason.value}, found {rejected or 'none'}"


def _with_another_cell(tree: SimulatedTree, table: Table, cells: dict[str, str], fact: str, path: str) -> list[Reason]:
    """Rejections of an image whose row gives another value of a fact."""
    column = table.columns[fact].column[0]
    name, rows = next((name, rows) for name, rows in tree.tables.items() if any(row is cells for row in rows))
    before = cells[column]
    cells[column] = next(row[column] for row in rows if row[column] != before)
    write_table(tree.folder / name, rows)
    rejected = [r.reason for r in tree.index().rejections if r.what == path]
    cells[column] = before
    write_table(tree.folder / name, rows)
    return rejected


def not_named(tree: SimulatedTree) -> Iterator[str]:
    """Columns whose absence is not named, or without which nothing is read although no row needs them."""
    adapter = declared_adapter(tree.declaration)
    for name, rows in tree.tables.items():
        tables = [each for each in tree.declaration.tables if not each.from_path and _is_file_of(name, each, tree)]
        needed = {column for table in tables for column in _needed_columns(tree, table)}
        for column in sorted(needed & set(rows[0])):
            message = _error_without(tree, adapter, name, {column})
            if column not in message:
                yield f"{name} without column {column!r}: expected an error that names it, found {message or 'none'}"
        of_cases = {column for table in tables for case in table.cases for column in case.when}  # also of those not covered
        of_exams = {name for table in tables for fact in names_of_exams(table) for name in table.columns[fact].column}
        optional = set(rows[0]) - needed - of_cases - of_exams  # of those one is enough
        if optional and (message := _error_without(tree, adapter, name, optional)):
            yield f"{name} without {', '.join(sorted(optional))}, which no row needs: {message}"


def _is_file_of(name: str, table: Table, tree: SimulatedTree) -> bool:
    if not table.file:
        return name == tree.label_file
    return any(Path(name).match(pattern.removeprefix("**/")) for pattern in table.file[:1])


def _needed_columns(tree: SimulatedTree, table: Table) -> set[str]:
    facts = needed_facts(tree.declaration, table) | {fact for fact, column in table.columns.items() if column.needed}
    facts |= set(names_of_exams(table)) if len(names_of_exams(table)) == 1 else set()
    cases = table.cases
    first = table is next((each for each in tree.declaration.tables if each.label), None)
    where = "" if first else f"tables.{tree.declaration.tables.index(table)}: "
    reached = [i for i in range(len(cases)) if not any(each.startswith(f"{where}case {i + 1} ") for each in tree.not_covered)]
    rules = [*(case.when for case in cases[: max(reached, default=-1) + 1]), *(each.when for each in table.exclude)]
    found = {column for fact in facts if fact in table.columns for column in table.columns[fact].column[:1]}
    found |= {column for when in rules for column in when} - set(table.may_lack) | set(table.path_groups.values())
    found |= {table.follow_up.date} if table.follow_up else set()
    found |= {table.instance} if table.labels_shown_breasts or not table.label else set()
    return (found | {table.path}) - {""}


def _error_without(tree: SimulatedTree, adapter: Adapter, name: str, columns: set[str]) -> str:
    """Message of the error without some columns of a table; empty text where there is none."""
    rows = [{column: cell for column, cell in row.items() if column not in columns} for row in tree.tables[name]]
    file = tree.folder / name
    before = file.read_bytes()
    try:
        write_table(file, rows if rows[0] else [{"another": "1"}])
        label_file = tree.folder / tree.label_file if tree.label_file else None
        adapter.read_labels(tree.folder, label_file, Labels())
    except LabelTableError as error:
        return str(error)
    finally:
        file.write_bytes(before)
    return ""
