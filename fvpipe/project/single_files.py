"""Single files by their paths alone: by which adapter, label tables and path each is read (`fvpipe inspect`, `predict`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from fvpipe.config.project import DataSet
from fvpipe.datasets.declared.declaration import Declaration
from fvpipe.datasets.declared.settings import table_files
from fvpipe.datasets.declared.tables import declared_adapter
from fvpipe.datasets.source import Source
from fvpipe.errors import ParameterError
from fvpipe.indexing.labels.read import read_labels
from fvpipe.indexing.single_files import Reading
from fvpipe.project.project import Project, make_source
from fvpipe.types import NOTHING_STATED


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
        There is no such adapter, or it does not say where its tables lie.
    LabelTableError
        A label table breaks its form, or that of the project's data set is missing.
    """
    readings: dict[Path, Reading] = {}
    if adapter is None and (folder / "params.yaml").is_file():
        project = Project(folder)
        held = {path: found for path in paths if (found := project.holder(path))}
        for name in sorted({name for name, _ in held.values()}):
            source = project.source(name, id_key, keep_identifiers=keep_identifiers)
            inside = {path: relative for path, (owner, relative) in held.items() if owner == name}
            readings |= _read(source, inside, name)
    outside = {path: _absolute(path) for path in paths if path not in readings}
    if outside:
        settings = DataSet(adapter=adapter or "table", identifiers="own" if keep_identifiers else "")
        read = _outside(set(outside.values()), make_source("file", Path(), settings, id_key, Path()))
        readings |= {path: read[absolute] for path, absolute in outside.items()}
    return readings


def _absolute(path: Path) -> Path:
    """Make a path whose parents are the folders above the file; a link is not followed."""
    return path.resolve() if ".." in path.parts else path.absolute()


def _outside(paths: Collection[Path], source: Source) -> dict[Path, Reading]:
    """Read files of no project: the nearest folder at or above a file that holds a table, in its declared place, is the input.

    Where no table is needed, it is the nearest folder below which the path says something.
    """
    readings = dict.fromkeys(paths, Reading(source.policy))
    declaration = source.adapter.declaration
    of_instances = declaration is not None and any(table.instance for table in declaration.tables)
    if source.adapter.state_images is None and not of_instances:  # no table says anything of an image
        return readings
    if declaration is None:
        name = source.adapter.name
        raise ParameterError(
            f"adapter {name!r} has no declaration, which would say where its tables lie; "
            "run this in the project whose params.yaml has the data set"
        )
    near = _without_search(declaration)
    source, tables = replace(source, adapter=declared_adapter(near)), [table for table in near.tables if table.file]

    @cache
    def holds_a_table(folder: Path) -> bool:
        return any(table_files(table, folder) for table in tables)

    inside: defaultdict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        if root := next(filter(holds_a_table, path.parents), None):
            inside[root].append(path)
        elif all(table.optional for table in tables):
            tried = (_read_below(root, [path], source)[path] for root in path.parents)
            speaks = (reading for reading in tried if reading.rejection is None and reading.stated != NOTHING_STATED)
            readings[path] = next(speaks, readings[path])
    for root, files in inside.items():
        readings |= _read_below(root, files, source)
    return readings


def _without_search(declaration: Declaration) -> Declaration:
    """The declaration with tables in their declared places alone: ``**`` would search all that lies below a folder."""
    tables = [
        table.model_copy(update={"file": tuple(dict.fromkeys(pattern.replace("**/", "") for pattern in table.file))})
        for table in declaration.tables
    ]
    return declaration.model_copy(update={"tables": tuple(tables), "code": ""})  # code would read outlines and the like


def _read_below(root: Path, files: Iterable[Path], source: Source) -> dict[Path, Reading]:
    """Read files as those of the input folder `root`."""
    return _read(replace(source, root=root), {file: file.relative_to(root).as_posix() for file in files}, "")


def _read(source: Source, paths: Mapping[Path, str], dataset: str) -> dict[Path, Reading]:
    """Find what label table and path say of files, whose paths below the input folder are given."""
    labels, said = read_labels(source, list(paths.values()))
    rejections = {**{rejection.what: rejection for rejection in said.rejections}, **said.not_listed}
    return {
        file: Reading(source.policy, said.stated.get(path, NOTHING_STATED), rejections.get(path), dataset, path, labels)
        for file, path in paths.items()
    }
