"""A project folder: its ``params.yaml``, and where each stage's input and output lie."""

from __future__ import annotations

from pathlib import Path

from fvpipe.config.facts import check_fact
from fvpipe.config.identifier_key import identifier_key
from fvpipe.config.project import DataSet, Params, check_bi_rads, load_params
from fvpipe.datasets.adapter import Adapter
from fvpipe.datasets.registry import declaration_files, get_adapter
from fvpipe.datasets.source import Source
from fvpipe.errors import ParameterError
from fvpipe.project.sharing import check_push


class Project:
    """The folder that holds ``params.yaml``.

    Raises
    ------
    ParameterError
        There is no ``params.yaml``, it is wrong, or DVC would push what a license forbids to share.
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
        self.samples = folder / "cache" / "samples"  # the sample store
        self.shards = folder / "cache" / "shards"  # shard folders, by pipeline and data set
        self.models = folder / "cache" / "models"  # trained models, by pipeline, split and model
        self.checkpoints = folder / "cache" / "checkpoints"  # states of trainings that are not finished, by the same
        self.reports = folder / "cache" / "reports"  # pages, metrics and figures
        self.splits = folder / "manifests" / "splits"  # split tables
        check_push(folder, self.params)

    def manifests(self, name: str) -> Path:
        """The folder of the manifest of a data set."""
        return self.folder / "manifests" / name

    def export(self, kind: str, name: str) -> Path:
        """The table of a data set in the columns of another project; `cache` is in no repository."""
        return self.folder / "cache" / "exports" / kind / f"{name}.csv"

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

    def root(self, name: str) -> Path:
        """The input folder of a data set."""
        return self.folder / (self.params.datasets[name].dicom or f"data/{name}")

    def source(self, name: str, id_key: Path | None = None, *, keep_identifiers: bool = False) -> Source:
        """The data set called `name`.

        Parameters
        ----------
        id_key : Path or None
            As :func:`fvpipe.config.identifier_key.identifier_key` takes it.
        keep_identifiers : bool
            Use no key, and make none: for those who show nothing of an identity.
        """
        settings = self.params.datasets[name]
        if keep_identifiers:
            settings = settings.model_copy(update={"identifiers": "own"})
        return make_source(name, self.root(name), settings, id_key, self.folder)

    def has_hashed_identifiers(self, name: str) -> bool:
        """Whether identifiers of a data set are replaced by keyed digests."""
        settings = self.params.datasets[name]
        return is_hashed(settings, get_adapter(settings.adapter, self.folder))

    def has_study_uids(self, name: str) -> bool:
        """Whether the studies of a data set are those of headers, of which no two patients have the same.

        Exams that tables or paths name, as by their date, have the names of other patients' exams.
        """
        settings = self.params.datasets[name]
        adapter = get_adapter(settings.adapter, self.folder)
        of_headers = adapter.identity is None or "header" in adapter.identity.exam
        return of_headers and "dicom" in (settings.formats or adapter.policy.formats)

    def holder(self, path: Path) -> tuple[str, str] | None:
        """Find the data set below whose input folder a file lies: its name, and the file's path there; None for no data set.

        Of folders in each other it is the innermost. A file below a link to a folder of the same data set has the path by which
        the index lists it: that of the folder itself.
        """
        found: list[tuple[str, str]] = []
        where, real = path.parent.resolve() / path.name, path.resolve()
        given = path.absolute() if ".." not in path.parts else where
        for name in self.params.datasets:
            root = self.root(name).absolute()
            for here, there in ((where, root.resolve()), (given, root), (real, root.resolve())):  # a data set may be a link
                if here.is_relative_to(there):
                    found.append((name, here.relative_to(there).as_posix()))
                    break
        return min(found, key=lambda each: each[1].count("/"), default=None)


def is_hashed(settings: DataSet, adapter: Adapter) -> bool:
    """Whether identifiers of a data set are replaced by keyed digests: as its settings say, else as its adapter does."""
    return settings.identifiers == "hashed" or (settings.identifiers == "" and adapter.hashed)


def make_source(name: str, root: Path, settings: DataSet, id_key: Path | None, folder: Path) -> Source:
    """Join a data set's settings, whose paths are relative to `folder`, with what its adapter knows.

    Raises
    ------
    ParameterError
        There is no such adapter, or `labels.columns` names a fact that neither fvpipe nor the adapter's declaration knows.
    """
    kind = get_adapter(settings.adapter, folder)
    targets = kind.declaration.targets if kind.declaration else ()
    for fact in settings.labels.columns.keys() - {"path", "instance"}:  # these find the image of a row
        try:
            check_fact(fact, targets)
        except ValueError as error:
            raise ParameterError(f"labels.columns of data set {name!r} (--column): {error}") from None
    if kind.declaration is None:  # a declaration has BI-RADS of its own, which those that are given are checked with
        try:
            check_bi_rads(settings.labels.bi_rads_benign, settings.labels.bi_rads_malignant)
        except ValueError as error:
            raise ParameterError(f"labels of data set {name!r} (`bi_rads_*`): {error}") from None
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
        formats=settings.formats,
        identifier_key=identifier_key(id_key) if is_hashed(settings, kind) else b"",
        license=license,
        outside=settings.adapter not in declaration_files(),
    )
