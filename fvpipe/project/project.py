"""A project folder: its ``params.yaml``, and where each stage's input and output lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fvpipe.config.identifier_key import identifier_key
from fvpipe.config.project import DataSet, Params, load_params
from fvpipe.datasets.registry import get_adapter
from fvpipe.datasets.source import Source
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.indexing.statements import Reading, reading_of
from fvpipe.types import NOTHING_STATED


class Project:
    """The folder that holds ``params.yaml``.

    Parameters
    ----------
    folder : Path
        The folder.

    Raises
    ------
    ParameterError
        There is no ``params.yaml``, or it is wrong.
    """

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder
        file = folder / "params.yaml"
        if not file.is_file():
            raise ParameterError(
                f"{file.absolute()}: no such file. Run this in a project folder, or name the input and the output: "
                "fvpipe build-shards --pipeline cropped --dicom DIR --out DIR"
            )
        self.params: Params = load_params(file)

    @property
    def samples(self) -> Path:
        """The sample store."""
        return self.folder / "cache" / "samples"

    @property
    def shards(self) -> Path:
        """The folder of shard folders, by pipeline and data set."""
        return self.folder / "cache" / "shards"

    @property
    def models(self) -> Path:
        """The folder of trained models, by pipeline, split and model."""
        return self.folder / "cache" / "models"

    @property
    def splits(self) -> Path:
        """The folder of split tables."""
        return self.folder / "manifests" / "splits"

    def manifests(self, name: str) -> Path:
        """The folder of the manifest of a data set."""
        return self.folder / "manifests" / name

    def names(self, chosen: tuple[str, ...]) -> list[str]:
        """Names of the data sets that are meant: `chosen`, or all.

        Raises
        ------
        ParameterError
            One of `chosen` is not in ``params.yaml``.
        """
        known = self.params.datasets
        for name in chosen:
            if name not in known:
                raise ParameterError(f"params.yaml: no data set {name!r}; known: {', '.join(known) or 'none'}")
        return list(dict.fromkeys(chosen)) or list(known)

    def source(self, name: str, id_key: Path | None = None) -> Source:
        """The data set called `name`; `id_key` as :func:`fvpipe.config.identifier_key.identifier_key` takes it."""
        settings = self.params.datasets[name]
        root = self.folder / (settings.dicom or f"data/{name}")
        return make_source(name, root, settings, id_key, self.folder)


def source_of_file(path: Path, folder: Path = Path(), id_key: Path | None = None) -> tuple[str, Source] | None:
    """Find the data set of the project in `folder` below whose input folder a file lies.

    Returns
    -------
    (path, source) : (str, Source), or None
        The path relative to the input folder; None where there is no project, or the file is in none of its data sets.
    """
    if not (folder / "params.yaml").is_file():
        return None
    project = Project(folder)
    for name, settings in project.params.datasets.items():
        root = (folder / (settings.dicom or f"data/{name}")).absolute()
        for here, there in ((path.absolute(), root), (path.resolve(), root.resolve())):  # a data set may be a link
            if here.is_relative_to(there):
                return here.relative_to(there).as_posix(), project.source(name, id_key)
    return None


def find_reading(path: Path, adapter: str | None, folder: Path = Path(), id_key: Path | None = None) -> Reading:
    """Find how one file is read: by `adapter`, else as the data set of the project that holds it, else by ``table``.

    Raises
    ------
    ParameterError
        There is no such adapter.
    LabelTableError
        The data set's label table is missing or breaks its form.
    """
    located = source_of_file(path, folder, id_key) if adapter is None else None
    if located is not None:
        return reading_of(located[1], located[0])
    settings, parents = DataSet(adapter=adapter or "table"), path.absolute().parents
    source = make_source("file", parents[0], settings, id_key, folder)
    if source.adapter.state_images is None or adapter is None:
        return Reading(source.policy)
    for parent in parents[:6]:  # where the tables are is not known
        try:
            here = reading_of(replace(source, root=parent), path.absolute().relative_to(parent).as_posix())
        except LabelTableError:
            continue
        if here.rejection is None and here.stated != NOTHING_STATED:
            return here
    return Reading(source.policy)


def make_source(name: str, root: Path, settings: DataSet, id_key: Path | None, folder: Path) -> Source:
    """Join a data set's settings, whose paths are relative to `folder`, with what its adapter knows."""
    kind = get_adapter(settings.adapter, folder)
    hashed = settings.identifiers == "hashed" or (settings.identifiers == "" and kind.hashed)
    # The text is part of every simulated shard: it stays until the format's next version.
    license = settings.license or ("made data, CC0-1.0" if settings.simulated else kind.license)
    return Source(
        name=name,
        root=root.absolute(),  # workers run elsewhere
        adapter=kind,
        label_file=folder / settings.label_file if settings.label_file else None,
        labels=settings.labels,
        simulated=settings.simulated,
        for_processing=settings.for_processing,
        secondary_capture=settings.secondary_capture,
        identifier_key=identifier_key(id_key) if hashed else b"",
        license=license,
    )
