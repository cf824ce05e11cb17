"""Index and build a folder of DICOM files outside a project, with plain arguments."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from fvpipe import flow
from fvpipe.build.commit import Build
from fvpipe.build.plan import Limits, ShardOutput
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.loading import is_plain_name
from fvpipe.config.pipeline import load_pipeline
from fvpipe.config.project import DataSet, Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.datasets.source import Source
from fvpipe.errors import ParameterError
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.indexing.index import Index
from fvpipe.indexing.rejections import require_breasts
from fvpipe.printable import escaped
from fvpipe.project.project import make_source
from fvpipe.project.stages import BuildSummary, checked, notes, open_file_cache, summary_of


def index(dicom: str | Path, adapter: str = "table", labels: str | Path | None = None, *, workers: int | None = None) -> Index:
    """Read the headers of a folder of DICOM files and pair the views.

    Parameters
    ----------
    dicom : str or Path
        The folder.
    adapter : str
        Name of the data set's adapter, or the path of a declaration (``.yaml``).
    labels : str, Path or None
        The label table, where it is not in the published place.
    workers : int or None
        Local processes; 0: this one; None: one per core.

    Returns
    -------
    Index
        Images, breasts and rejections.

    Raises
    ------
    FvpipeError
        The folder or the label table cannot be read, no file gives a breast, no row of the label table describes an image, or
        there is no such adapter.
    """
    source = standalone_source("", Path(dicom), adapter, Path(labels) if labels else None)
    with (
        tempfile.TemporaryDirectory() as folder,
        open_file_cache(source, Path(folder)) as file_cache,
        Workers(WorkerSettings(count=workers)) as pool,
    ):
        found = flow.index(source, pool, file_cache)
    require_breasts(found)
    return found


def build_shards(
    dicom: str | Path,
    out: str | Path,
    pipeline: str = "cropped",
    adapter: str = "table",
    labels: str | Path | None = None,
    *,
    workers: int | None = None,
) -> Build:
    """Build the shards of a folder of DICOM files; only what changed since the last build is decoded.

    Parameters
    ----------
    dicom : str or Path
        The folder of DICOM files.
    out : str or Path
        The shard folder; its sample store is ``out/.samples``.
    pipeline : str
        Name of a pipeline, or path of its YAML file.
    adapter : str
        Name of the data set's adapter, or the path of a declaration (``.yaml``).
    labels : str, Path or None
        The label table, where it is not in the published place.
    workers : int or None
        Local processes; 0: this one; None: one per core.

    Returns
    -------
    Build
        The receipt, and what was made and rejected.

    Raises
    ------
    FvpipeError
        The input cannot be read, it gives no sample, no row of the label table describes an image, or the build was not
        committed.
    """
    source = standalone_source("", Path(dicom), adapter, Path(labels) if labels else None)
    output, samples = standalone_output(source.name, pipeline, Path(out)), Path(out) / ".samples"
    with open_file_cache(source, samples) as file_cache, Workers(WorkerSettings(count=workers)) as pool:
        found = flow.index(source, pool, file_cache)
        require_breasts(found)
        return flow.build_shards(found, output, SampleStore(samples), file_cache, pool, Limits(), _warn)


def _warn(line: str) -> None:
    warnings.warn(escaped(line), stacklevel=2)


def run_build(
    source: Source,
    output: ShardOutput,
    samples: Path,
    workers: Workers,
    limits: Limits,
    *,
    reread: bool,
    say: Callable[[str], None],
) -> Iterator[BuildSummary]:
    """Index a data set and build its shards in one go, with the sample store `samples`."""
    with open_file_cache(source, samples, reread=reread, say=say) as file_cache:
        found = checked(flow.index(source, workers, file_cache), say)
        yield summary_of(flow.build_shards(found, output, SampleStore(samples), file_cache, workers, limits, say), output)
    for note in notes(found):
        say(note)


def standalone_source(
    name: str,
    root: Path,
    adapter_name: str,
    labels: Path | None = None,
    id_key: Path | None = None,
    rules: Labels | None = None,
) -> Source:
    """Describe a data set that belongs to no project; an empty `name` is the adapter's own.

    Raises
    ------
    ParameterError
        `name` cannot be a name, or there is no such adapter.
    """
    name = name or get_adapter(adapter_name).name
    if not is_plain_name(name):
        raise ParameterError(f"data set name {name!r}: only a-z, 0-9, '-' and '_', at most 64 characters")
    settings = DataSet(adapter=adapter_name, label_file=str(labels.absolute()) if labels else "", labels=rules or Labels())
    return make_source(name, root, settings, id_key, Path())


def standalone_output(dataset: str, pipeline_name: str, out: Path, shard_count: int = 16) -> ShardOutput:
    """Describe a shard folder that belongs to no project."""
    name, pipeline = load_pipeline(pipeline_name)
    return ShardOutput(
        dataset, name, pipeline, out, out / "build.json", out / ".lock", with_images=True, shard_count=shard_count
    )
