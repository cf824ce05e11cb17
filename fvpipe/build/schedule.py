"""Makes the samples of a plan on the workers, and accounts for every breast: a sample, or a rejection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from fvpipe.build.plan import Plan, Target, make_task
from fvpipe.build.sample import SampleResult, SampleTask, make_sample, make_samples
from fvpipe.cache.decoder_crashes import crash_fact
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore, ViewRejection
from fvpipe.config.pipeline import Pipeline
from fvpipe.errors import ClusterError, StorageError
from fvpipe.execution.isolation import Crash, run_alone
from fvpipe.execution.workers import Workers
from fvpipe.imaging.view_agreement import shared_flags
from fvpipe.indexing.headers import changed_since_index, read_pixel_digests
from fvpipe.indexing.index import Index
from fvpipe.indexing.pairing import rejection_order
from fvpipe.progress import progress
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import VIEWS, Breast, BreastKey, Digest, FusedSample, SourceFile


@dataclass
class Samples:
    """The samples of one data set by one pipeline, and what is rejected.

    Attributes
    ----------
    found : Index
        The index of the data set.
    target : Target
        Where they go.
    store : SampleStore
        Holds them.
    file_cache : FileCache
        Holds the digests of their pixels.
    keys : list of (Breast, Digest)
        Breasts that have a sample, in the index's order, with its key.
    rejections : list of Rejection
        Of the index and of the build, sorted.
    identical : list of (BreastKey, (Digest, Digest))
        Breasts that are rejected since both views are one image, with its pixel digests: another breast may have it, too.
    computed, reused : int
        Samples and rejections that were made now, or that the store held.
    seconds : mapping of str to float
        Time of all workers together, by step.
    """

    found: Index
    target: Target
    store: SampleStore
    file_cache: FileCache
    keys: list[tuple[Breast, Digest]]
    rejections: list[Rejection]
    identical: list[tuple[BreastKey, tuple[Digest, Digest]]]
    computed: int
    reused: int
    seconds: Mapping[str, float]

    def load(self, breast: Breast, key: Digest) -> FusedSample:
        """Read a sample from the store; one that was corrupted there is made again.

        Raises
        ------
        InputError
            Its files are not what the index read.
        StorageError
            The store held something else under the sample's name.
        """
        sample = _stored_result(self.found, self.target, self.store, breast, key)
        if isinstance(sample, ViewRejection):
            raise StorageError(
                f"{self.store.path(key)}: was no sample, and its breast has a rejection instead. Another program changed the "
                "sample store; the entry is mended: run again"
            )
        return sample

    @cached_property
    def shared(self) -> dict[str, Flag]:
        """Flags of the breasts that have exactly a view's pixels in common with another, by breast id."""
        return shared_flags(chain(self._pixel_digests(), self.identical))

    def _pixel_digests(self) -> Iterator[tuple[BreastKey, tuple[Digest, Digest]]]:
        """Breasts and their pixel digests; a sample is loaded only where the file cache lacks them."""
        pipeline, new = self.target.pipeline, list[tuple[SourceFile, str]]()
        for breast, key in self.keys:
            files = [self.found.files[image.path] for image in breast.views]
            facts = [self.file_cache.fact(file, _pixel_kind(pipeline)) or "" for file in files]
            cc, mlo = (Digest(fact.partition(" ")[0]) for fact in facts)
            digests = cc, mlo
            if not all(facts) or facts != _pixel_facts(digests, key, pipeline):
                digests = self.load(breast, key).pixel_digests
                new += zip(files, _pixel_facts(digests, key, pipeline), strict=True)
            yield breast.key, digests
        self.file_cache.put_facts(new, _pixel_kind(pipeline))


def make_missing(
    plan: Plan, found: Index, target: Target, store: SampleStore, file_cache: FileCache, workers: Workers
) -> Samples:
    """Make what the sample store lacks.

    Raises
    ------
    InputError
        A file is not what the index read.
    ClusterError
        The workers cannot do it.
    StorageError
        The sample store cannot be written.
    """
    keys = {breast.key: key for breast, key in plan.stored}
    rejections = [rejection for breast, crash in plan.crashed for rejection in _crashed(breast, crash)]
    computed, seconds = 0, Counter[str]()
    with progress(f"build {target.pipeline_name}/{found.source.name}", len(plan.missing), "breasts") as advance:
        for batch in workers.run(_make_numbered, _Numbered(plan, found, file_cache)):
            finished: list[tuple[Breast, SampleResult]] = []
            for each in batch:
                if isinstance(each, Crash):
                    breast = plan.missing[each.task[0]][0]
                    crash = _blame_view(breast, each, found, workers)
                    image = next(image for image in breast.views if image.path == crash.what)
                    file_cache.put_facts([(found.files[crash.what], crash_fact(image, target.pipeline, crash))], "crash")
                    rejections += _crashed(breast, crash)
                else:
                    finished.append((plan.missing[each[0]][0], each[1]))
            for breast, result in finished:
                computed += result.computed
                seconds.update(result.seconds)
                if result.changed:
                    raise changed_since_index(result.changed)
                if result.unreadable:
                    rejections += [result.unreadable, _without_view(breast, "a view could not be read from the disk")]
                elif result.key:
                    keys[breast.key] = result.key
                    _store_result(store, result)
            _cache_digests(file_cache, finished, found, target.pipeline)
            advance(len(batch))
    stored = [(breast, keys[breast.key]) for breast in found.breasts if breast.key in keys]
    samples, identical = [], []
    for breast, key in stored:
        rejection = _stored_result(found, target, store, breast, key) if store.rejection_path(key).exists() else None
        if isinstance(rejection, ViewRejection) and rejection.view is None:
            detail = f"{breast.cc.path} and {breast.mlo.path}: {rejection.detail}"
            rejections.append(Rejection(breast.key.breast_id, rejection.reason, detail))
            identical += [(breast.key, rejection.pixel_digests)] if rejection.pixel_digests else []
        elif isinstance(rejection, ViewRejection):
            path = breast.views[VIEWS.index(rejection.view)].path
            rejections.append(Rejection(path, rejection.reason, rejection.detail))
            rejections.append(_without_view(breast, f"its {rejection.view} was rejected: {rejection.reason}"))
        else:
            samples.append((breast, key))
    everything = sorted([*found.rejections, *rejections], key=rejection_order)
    reused = len(stored) - computed
    return Samples(found, target, store, file_cache, samples, everything, identical, computed, reused, seconds)


class _Numbered(Sequence[tuple[int, SampleTask]]):
    """The missing samples' tasks with their numbers; headers join when a task is sent, so that few are in memory."""

    def __init__(self, plan: Plan, found: Index, file_cache: FileCache) -> None:
        self._tasks = [task for _, task in plan.missing]
        self._found, self._file_cache = found, file_cache

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, number: Any) -> Any:
        task = self._tasks[number]
        cc, mlo = (self._file_cache.header(self._found.files[image.path]) for image in task.views)
        return number, replace(task, headers=(cc, mlo))


def _make_numbered(tasks: list[tuple[int, SampleTask]]) -> list[tuple[int, SampleResult]]:
    return list(zip([number for number, _ in tasks], make_samples([task for _, task in tasks]), strict=True))


def _store_result(store: SampleStore, result: SampleResult) -> None:
    """Store a sample that came back with the answer, and see that one that a worker stored is visible here."""
    assert result.key is not None
    if result.sample is not None:
        store.put(result.key, result.sample)
    if not store.has(result.key):
        raise StorageError(
            f"{store.folder}: a worker wrote a sample that is not visible here; the sample store must lie on "
            "storage that all workers share, or use --no-shared-storage"
        )


def _cache_digests(
    file_cache: FileCache, finished: Iterable[tuple[Breast, SampleResult]], found: Index, pipeline: Pipeline
) -> None:
    digests, pixels = list[tuple[SourceFile, Digest]](), list[tuple[SourceFile, str]]()
    for breast, result in finished:
        files = [found.files[image.path] for image in breast.views]
        if result.digests and result.key:
            digests += zip(files, result.digests, strict=True)
            pixels += zip(files, _pixel_facts(result.pixels, result.key, pipeline), strict=True) if result.pixels else ()
    file_cache.put_digests(digests)
    file_cache.put_facts(pixels, _pixel_kind(pipeline))


def _blame_view(breast: Breast, crash: Crash[tuple[int, SampleTask]], found: Index, workers: Workers) -> Rejection:
    """Reject the view of a breast that crashes its decoder alone."""
    for image in breast.views:
        task = os.path.abspath(found.source.root), image, crash.task[1].pipeline
        alone = run_alone(read_pixel_digests, task, workers.settings.timeout)
        if isinstance(alone, Crash):
            return alone.rejection(image.path)
    raise ClusterError(
        f"breast {breast.key.breast_id}: {crash.detail}, twice, though each of its views can be read alone. Is there too "
        "little memory? What was finished is kept; run again with fewer workers"
    )


def _crashed(breast: Breast, crash: Rejection) -> list[Rejection]:
    return [crash, _without_view(breast, f"a view of it was rejected: {crash.reason}")]


def _without_view(breast: Breast, detail: str) -> Rejection:
    return Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, detail)


def _stored_result(
    found: Index, target: Target, store: SampleStore, breast: Breast, key: Digest
) -> FusedSample | ViewRejection:
    """Read from the store; an entry that was corrupted there is made again, in this process."""
    result = store.get(key)
    if result is None:
        made = make_sample(make_task(found, target, breast, os.path.abspath(store.folder)))
        result = store.get(key) if made.key == key else None
        if result is None:
            raise changed_since_index(made.changed or (made.unreadable.what if made.unreadable else breast.cc.path))
    return result


def _pixel_kind(pipeline: Pipeline) -> str:
    return f"pixels {pipeline.digest()}" if pipeline.resize.method == "wavelet" else "pixels"


def _pixel_facts(digests: Sequence[Digest], key: Digest, pipeline: Pipeline) -> list[str]:
    """Facts for the file cache: of pixels at reduced resolution with the sample that they were decoded for, since pipeline,
    code and decoder decide them too.
    """
    return [f"{digest} {key}" if _pixel_kind(pipeline) != "pixels" else digest for digest in digests]
