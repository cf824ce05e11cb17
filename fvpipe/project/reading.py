"""How the headers of single files are read, outside an index: for `fvpipe inspect` and `fvpipe predict`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from fvpipe.config.project import DataSet
from fvpipe.datasets.source import Source
from fvpipe.errors import LabelTableError
from fvpipe.indexing.statements import Reading, Statements, collect_statements
from fvpipe.project.project import Project, make_source
from fvpipe.types import NOTHING_STATED

MAX_PARENTS = 6  # above a file, in which the tables of a data set without a project are looked for


def find_readings(
    paths: Sequence[Path],
    adapter: str | None,
    id_key: Path | None = None,
    *,
    keep_identifiers: bool = False,
    folder: Path = Path(),
) -> dict[Path, Reading]:
    """Find how files are read: by `adapter`, else as the data set of the project that holds them, else by ``table``.

    Parameters
    ----------
    paths : sequence of Path
        The files. The tables of a data set are read once.
    adapter : str or None
        Name of an adapter, or the path of a declaration.
    id_key : Path or None
        Key file of hashed identifiers.
    keep_identifiers : bool
        Use no key, and make none.
    folder : Path
        Of the project, where it is one.

    Raises
    ------
    ParameterError
        There is no such adapter.
    LabelTableError
        The label table of the project's data set is missing or breaks its form.
    """
    readings: dict[Path, Reading] = {}
    if adapter is None and (folder / "params.yaml").is_file():
        project = Project(folder)
        held = {path: found for path in paths if (found := project.holder(path))}
        for name in sorted({name for name, _ in held.values()}):
            source = project.source(name, id_key, keep_identifiers=keep_identifiers)
            inside = {path: relative for path, (owner, relative) in held.items() if owner == name}
            said = _statements(source, inside.values())
            readings |= {path: _reading(source, said, relative, name) for path, relative in inside.items()}
    settings = DataSet(adapter=adapter or "table", identifiers="own" if keep_identifiers else "")
    for path in paths:
        if path not in readings:
            readings[path] = _outside(path.absolute(), settings, id_key)
    return readings


def _outside(path: Path, settings: DataSet, id_key: Path | None) -> Reading:
    """Read a file of no project: the tables of its data set may be in any folder above it."""
    source = make_source("file", path.parent, settings, id_key, Path())
    for parent in [*path.parents][:MAX_PARENTS] if source.adapter.state_images else ():
        try:
            root = replace(source, root=parent)
            relative = path.relative_to(parent).as_posix()
            found = _reading(root, _statements(root, [relative]), relative, "")
        except LabelTableError:  # no table here, or another one
            continue
        if found.rejection is None and found.stated != NOTHING_STATED:
            return found
    return Reading(source.policy)


def _statements(source: Source, paths: Iterable[str]) -> Statements:
    if source.adapter.state_images is None:
        return Statements()
    table = source.adapter.read_labels(source.root, source.label_file, source.labels)
    return collect_statements(source, table, list(paths))


def _reading(source: Source, said: Statements, path: str, dataset: str) -> Reading:
    rejections = {**{rejection.what: rejection for rejection in said.rejections}, **said.not_listed}
    return Reading(source.policy, said.stated.get(path, NOTHING_STATED), rejections.get(path), dataset)
