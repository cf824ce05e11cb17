"""A whole `fvpipe index` or `fvpipe build-shards`: one data set after another, and what the next one may believe of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe import flow
from fvpipe.build.plan import Build, Limits, Target
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.pipeline import pipeline_files
from fvpipe.datasets.adapter import is_shipped
from fvpipe.execution.workers import Workers
from fvpipe.flow import Warn, build_shards
from fvpipe.indexing.index import Index, Source
from fvpipe.indexing.manifests import write_manifests
from fvpipe.project.project import Project, file_cache_path, free_target
from fvpipe.project.run_cache import Finished, Settled, forget, key_digest, state_of
from fvpipe.reasons import PASSING, Reason

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Run:
    """How a run works, whatever it does.

    Attributes
    ----------
    settled : Settled
    workers : Workers
    id_key : Path or None
        As :func:`fvpipe.config.identifier_key.identifier_key` takes it.
    reread : bool
        Trust no remembered file.
    show, say : callable
        Given each result, as soon as it is there, and what there is to say of a data set besides.
    """

    settled: Settled
    workers: Workers
    id_key: Path | None
    reread: bool
    show: Callable[[Result], None]
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Order:
    """What to build of one data set.

    Attributes
    ----------
    source : Source
    targets : list of Target
    samples : Path
        The sample store.
    manifests : Path or None
        Where the index is written too.
    read : dict of str to str
        The state of each file that told so, before it was read.
    """

    source: Source
    targets: list[Target]
    samples: Path
    manifests: Path | None
    read: dict[str, str]


def index(run: Run, project: Project, names: tuple[str, ...]) -> list[Result]:
    """Index data sets of a project into their manifests; returns what ``--json`` prints."""
    results, finished = [], []
    for name in project.names(names):
        source, manifests = project.source(name, run.id_key), project.manifests(name)
        files = _label_file(source)
        found = indexed(source, project.samples, run.reread, run.workers)
        files |= _states(write_manifests(found, manifests))
        results.append(_index_result(found, manifests))
        run.show(results[-1])
        finished.append(_finished(found, files, [results[-1] | {"read": 0}], []))
    _keep(run, finished)
    return results


def build(run: Run, wanted: Iterable[Order], limits: Limits, warn: Warn) -> list[Result]:
    """Index data sets and build their shards; returns what ``--json`` prints."""
    results, finished = [], []
    for order in wanted:
        source, files, again = order.source, order.read | _label_file(order.source), list[Result]()
        with open_file_cache(source, order.samples, run.reread) as file_cache:
            found = flow.index(source, run.workers, file_cache)
            if order.manifests is not None:
                files |= _states(write_manifests(found, order.manifests))
            for target in order.targets:
                built = build_shards(found, target, SampleStore(order.samples), file_cache, run.workers, limits, warn)
                files |= {**built.files, **_states([target.out])}
                results.append(_build_result(built, target))
                run.show(results[-1])
                reused = {"computed": 0, "reused": built.computed + built.reused, "written": 0, "seconds_of_steps": {}}
                again.append(results[-1] | reused)
        said = _said(found)
        for line in said:
            run.say(line)
        finished.append(_finished(found, files, again, said))
    _keep(run, finished)
    return results


def _said(found: Index) -> list[str]:
    said, source = [], found.source
    if found.ignored:
        said.append(f"  {found.ignored} other file(s) in {source.root.name}/ are no DICOM by their names")
    if found.labels.rows and all(breast.facts.label < 0 for breast in found.breasts):
        nothing = "no row of the label table matches a breast; every breast is unlabelled or left out"
        said.append(f"warning: {source.name}: {nothing}")
    return said


def of_project(
    project: Project, datasets: tuple[str, ...], pipelines: tuple[str, ...], samples: Path, id_key: Path | None
) -> Iterator[Order]:
    """What to build in a project: the data sets that are named, or all, by the pipelines that are, or all of its own."""
    for name in project.names(datasets):
        chosen = pipelines or project.params.pipelines
        read = _states(file for pipeline in chosen for file in pipeline_files(pipeline, project.folder))
        targets = [project.target(pipeline, name) for pipeline in chosen]
        yield Order(project.source(name, id_key), targets, samples, project.manifests(name), read)


def anywhere(source: Source, pipeline: str, out: Path, samples: Path, shard_count: int) -> Iterator[Order]:
    """What to build of a folder that belongs to no project."""
    read = _states(pipeline_files(pipeline))
    yield Order(source, [free_target(source.name, pipeline, out, shard_count)], samples, None, read)


def open_file_cache(source: Source, samples: Path, reread: bool) -> FileCache:
    """What is remembered of a data set's files; with `reread`, nothing that was, nor any run that believed it."""
    if reread:
        forget(samples)
    return FileCache(file_cache_path(samples, source.root), source.root, source.policy, forget=reread)


def indexed(source: Source, samples: Path, reread: bool, workers: Workers) -> Index:
    """The index of a data set."""
    with open_file_cache(source, samples, reread) as file_cache:
        return flow.index(source, workers, file_cache)


# --- what is kept of a run --------------------------------------------------------------------------------------------


def _finished(found: Index, files: dict[str, str], again: list[Result], said: list[str]) -> Finished | None:
    """What to keep; None where another package's adapter may change at any time, or the next run may see more of a file.

    A decoder that crashed at the pixels is remembered, and not tried again; at a header it is not.
    """
    unread = any(Reason.FILE_UNREADABLE in result["rejections"] for result in again)
    if unread or any(rejection.reason in PASSING for rejection in found.rejections) or not is_shipped(found.source.adapter):
        return None
    return Finished(str(found.source.root), found.state, key_digest(found.source.identifier_key), files, again, said)


def _keep(run: Run, finished: Sequence[Finished | None]) -> None:
    all_of_them = [each for each in finished if each is not None]
    if len(all_of_them) == len(finished):
        run.settled.keep(all_of_them)


def _label_file(source: Source) -> dict[str, str]:
    return _states([source.label_file] if source.label_file else [])


def _states(files: Iterable[Path]) -> dict[str, str]:
    return {str(file): state_of(file) for file in files}


def _index_result(found: Index, manifests: Path) -> Result:
    return {
        "dataset": found.source.name,
        "images": len(found.images),
        "breasts": len(found.breasts),
        "rejections": dict(sorted(Counter(rejection.reason.value for rejection in found.rejections).items())),
        "ignored": found.ignored,
        "read": found.read,
        "out": str(manifests),
    }


def _build_result(build: Build, target: Target) -> Result:
    receipt = build.receipt
    return {
        "dataset": receipt.dataset,
        "pipeline": receipt.pipeline,
        "samples": receipt.samples,
        "labels": receipt.labels,
        "rejections": receipt.rejections,
        "flags": receipt.flags,
        "shards": len(receipt.shards),
        "written": build.written,
        "computed": build.computed,
        "reused": build.reused,
        "seconds": round(build.seconds, 3),
        "seconds_of_steps": {step: round(seconds, 3) for step, seconds in build.steps.items()},
        "out": str(target.out),
    }
