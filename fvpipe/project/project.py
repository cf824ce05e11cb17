"""A project folder: its ``params.yaml``, and where each stage's input and output lie."""

from __future__ import annotations

import os
from pathlib import Path

from fvpipe.build.plan import Target
from fvpipe.config.identifier_key import identifier_key
from fvpipe.config.loading import digest_of, is_plain_name
from fvpipe.config.pipeline import load_pipeline
from fvpipe.config.project import DataSet, Labels, Params, load_params
from fvpipe.datasets.adapter import get_adapter
from fvpipe.errors import ParameterError
from fvpipe.indexing.index import Source


class Project:
    """The folder that holds ``params.yaml``.

    Parameters
    ----------
    folder : Path

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

    def names(self, chosen: tuple[str, ...]) -> list[str]:
        """The data sets that are meant: `chosen`, or all.

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

    def source(self, name: str, id_key: Path | None) -> Source:
        """The data set called `name`."""
        settings = self.params.datasets[name]
        root = self.folder / (settings.dicom or f"data/{name}")
        return make_source(name, root, settings, id_key, self.folder)

    def manifests(self, name: str) -> Path:
        """Where the index of a data set is written."""
        return self.folder / "manifests" / name

    def target(self, pipeline_name: str, dataset: str) -> Target:
        """Where a pipeline's shards of a data set go."""
        name, pipeline = load_pipeline(pipeline_name, self.folder)
        parent = self.folder / "cache" / "shards" / name
        return Target(
            dataset,
            name,
            pipeline,
            out=parent / dataset,
            build_file=parent / f"{dataset}.build.json",
            lock_file=parent / f".{dataset}.lock",
            shard_count=self.params.shards.shard_count,
        )


def free_source(name: str, root: Path, adapter_name: str, labels: Path | None, id_key: Path | None) -> Source:
    """A data set that belongs to no project.

    Raises
    ------
    ParameterError
        `name` cannot be a name, or there is no such adapter.
    """
    if not is_plain_name(name):
        raise ParameterError(f"data set name {name!r}: only a-z, 0-9, '-' and '_', at most 64 characters")
    settings = DataSet(adapter=adapter_name, label_file=str(labels.absolute()) if labels else "", labels=Labels())
    return make_source(name, root, settings, id_key, Path())


def make_source(name: str, root: Path, settings: DataSet, id_key: Path | None, folder: Path) -> Source:
    """Join a data set's settings with what its adapter knows."""
    kind = get_adapter(settings.adapter)
    hashed = settings.identifiers == "hashed" or (settings.identifiers == "" and kind.hashed)
    license = settings.license or ("made data, CC0-1.0" if settings.simulated else kind.license)
    return Source(
        name=name,
        root=Path(os.path.abspath(root)),  # workers run elsewhere
        adapter=kind,
        label_file=folder / settings.label_file if settings.label_file else None,
        labels=settings.labels,
        simulated=settings.simulated,
        for_processing=settings.for_processing,
        identifier_key=identifier_key(id_key) if hashed else b"",
        license=license,
    )


def free_target(dataset: str, pipeline_name: str, out: Path, shard_count: int) -> Target:
    """A shard folder that belongs to no project."""
    name, pipeline = load_pipeline(pipeline_name)
    return Target(dataset, name, pipeline, out, out / "build.json", out / ".lock", with_images=True, shard_count=shard_count)


def file_cache_path(store: Path, root: Path) -> Path:
    """Where the source files of an input folder are remembered: one file each, so that two builds do not wait."""
    return store / f"sources-{digest_of(str(root.absolute()))[:16]}.sqlite"
