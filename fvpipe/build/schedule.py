"""Makes the samples of a plan on the workers, and accounts for every breast: a sample, or a rejection."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

from fvpipe.build.plan import Plan, ShardOutput, make_task, plan_samples
from fvpipe.build.sample import SampleResult, SampleTask, make_sample, make_samples
from fvpipe.cache.decoder_crashes import encode_crash
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore, ViewRejection
from fvpipe.config.pipeline import Pipeline
from fvpipe.errors import ClusterError, StorageError
from fvpipe.execution.isolation import Crash, run_alone
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import needed_views
from fvpipe.imaging.view_agreement import shared_flags
from fvpipe.indexing.files.headers import changed_since_index
from fvpipe.indexing.files.pixel_contents import PixelTask, read_pixel_digests
from fvpipe.indexing.index import Index
from fvpipe.indexing.pairing import rejection_order
from fvpipe.progress import progress
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import Breast, BreastKey, Digest, FusedSample, SourceFile


@dataclass
class Samples:
    """The samples of one data set by one pipeline, and what is rejected.

    Attributes
    ----------
    found : Index
        The index of the data set.
    output : ShardOutput
        Where they go.
    store : SampleStore
        Holds them.
    file_cache : FileCache
        Holds the digests of their pixels.
    keys : list of (Breast, Digest)
        Breasts that have a sample, sorted, with its key; each with the views that the sample was made from.
    rejections : list of Rejection
        Of the index and of the build, sorted.
    identical : list of (BreastKey, (Digest, Digest))
        Breasts that are rejected since both views are one image, with its pixel digests: another breast may have it, too.
    computed, reused : int
        Samples and rejections that were made now, or that the store held.
    seconds : Counter of str
        Time of all workers together, by step.
    """

    found: Index
    output: ShardOutput
    store: SampleStore
    file_cache: FileCache
    keys: list[tuple[Breast, Digest]]
    rejections: list[Rejection]
    identical: list[tuple[BreastKey, tuple[Digest, Digest]]]
    computed: int
    reused: int
    seconds: Counter[str]

    def load(self, breast: Breast, key: Digest) -> FusedSample:
        """Read a sample from the store; one that was corrupted there is made again.

        Raises
        ------
        InputError
            Its files are not what the index read.
        StorageError
            The store held something else under the sample's name.
        """
        sample = _stored_result(self.found, self.output, self.store, breast, key)
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

    def _pixel_digests(self) -> Iterator[tuple[BreastKey, Sequence[Digest]]]:
        """Breasts and their pixel digests; a sample is loaded only where the file cache lacks them."""
        pipeline, new = self.output.pipeline, list[tuple[SourceFile, str]]()
        for breast, key in self.keys:
            files = [self.found.files[image.path] for image in breast.images]
            values = [self.file_cache.value(file, _pixel_kind(pipeline)) or "" for file in files]
            digests = [Digest(value.partition(" ")[0]) for value in values]
            if not all(values) or values != _pixel_values(digests, key, pipeline):
                digests = [digest for digest in self.load(breast, key).pixel_digests if digest]
                new += zip(files, _pixel_values(digests, key, pipeline), strict=True)
            yield breast.key, digests
        self.file_cache.put_values(new, _pixel_kind(pipeline))


def make_missing(
    plan: Plan, found: Index, output: ShardOutput, store: SampleStore, file_cache: FileCache, workers: Workers
) -> Samples:
    """Make what the sample store lacks.

    A pipeline of one view does not need the other: where that is rejected when its pixels are read, the breast is made again
    without it.

    Raises
    ------
    InputError
        A file is not what the index read.
    ClusterError
        The workers cannot do it.
    StorageError
        The sample store cannot be written.
    """
    samples = Samples(found, output, store, file_cache, [], list(found.rejections), [], 0, 0, Counter())
    single = _carry_out(plan, samples, workers)
    if single:
        again = plan_samples(replace(found, breasts=single), output, store, file_cache, workers.settings.share_storage)
        _carry_out(again, samples, workers)
    samples.keys.sort(key=lambda sample: sample[0].key)
    samples.rejections.sort(key=rejection_order)
    return samples


def _carry_out(plan: Plan, samples: Samples, workers: Workers) -> list[Breast]:
    """Carry out a plan and add its results to `samples`; returns the breasts to be made again with one view."""
    found, output, store, file_cache = samples.found, samples.output, samples.store, samples.file_cache
    keys = {breast.key: (breast, key) for breast, key in plan.stored}
    single: list[Breast] = []
    computed = 0

    def reject(breast: Breast, rejection: Rejection, why: str) -> None:
        samples.rejections.append(rejection)
        if left := breast.without([rejection.what], needed_views(output.pipeline)):
            single.append(left)
        else:
            samples.rejections.append(Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, why))

    for breast, crash in plan.crashed:
        reject(breast, crash, f"a view of it was rejected: {crash.reason}")
    with progress(f"build {output.pipeline_name}/{found.source.name}", len(plan.missing), "breasts") as advance:
        for batch in workers.run(_make_numbered, _Numbered(plan, found, file_cache)):
            finished: list[tuple[Breast, SampleResult]] = []
            for each in batch:
                if isinstance(each, Crash):
                    breast = plan.missing[each.task[0]][0]
                    crash = _blame_view(breast, each, found, workers)
                    image = next(image for image in breast.images if image.path == crash.what)
                    file_cache.put_values([(found.files[crash.what], encode_crash(image, output.pipeline, crash))], "crash")
                    reject(breast, crash, f"a view of it was rejected: {crash.reason}")
                else:
                    finished.append((plan.missing[each[0]][0], each[1]))
            for breast, result in finished:
                computed += result.computed
                samples.seconds.update(result.seconds)
                if result.changed:
                    raise changed_since_index(result.changed)
                if result.unreadable:
                    reject(breast, result.unreadable, "a view could not be read from the disk")
                elif result.key:
                    keys[breast.key] = breast, result.key
                    _store_result(store, result)
            _cache_digests(file_cache, finished, found, output.pipeline)
            advance(len(batch))
    for breast, key in keys.values():
        rejection = _stored_result(found, output, store, breast, key) if store.rejection_path(key).exists() else None
        if isinstance(rejection, ViewRejection) and rejection.view is None:
            detail = f"{' and '.join(image.path for image in breast.images)}: {rejection.detail}"
            samples.rejections.append(Rejection(breast.key.breast_id, rejection.reason, detail))
            samples.identical += [(breast.key, rejection.pixel_digests)] if rejection.pixel_digests else []
        elif isinstance(rejection, ViewRejection):
            path = next(image.path for image in breast.images if image.view is rejection.view)
            why = f"its {rejection.view} was rejected: {rejection.reason}"
            reject(breast, Rejection(path, rejection.reason, rejection.detail), why)
        else:
            samples.keys.append((breast, key))
    samples.computed += computed
    samples.reused += len(keys) - computed
    return single


class _Numbered(Sequence[tuple[int, SampleTask]]):
    """The missing samples' tasks with their numbers; headers join when a task is sent, so that few are in memory."""

    def __init__(self, plan: Plan, found: Index, file_cache: FileCache) -> None:
        self._tasks = [task for _, task in plan.missing]
        self._found, self._file_cache = found, file_cache

    def __len__(self) -> int:
        return len(self._tasks)

    def __getitem__(self, number: Any) -> Any:
        task = self._tasks[number]
        cc, mlo = (self._file_cache.header(self._found.files[image.path]) if image else None for image in task.views)
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
        files = [found.files[image.path] for image in breast.images]
        if result.digests and result.key:
            digests += zip(files, filter(None, result.digests), strict=True)
            read = [digest for digest in result.pixels or () if digest]
            pixels += zip(files, _pixel_values(read, result.key, pipeline), strict=True) if read else ()
    file_cache.put_digests(digests)
    file_cache.put_values(pixels, _pixel_kind(pipeline))


def _blame_view(breast: Breast, crash: Crash[tuple[int, SampleTask]], found: Index, workers: Workers) -> Rejection:
    """Reject the view of a breast that crashes its decoder alone."""
    for image in breast.images:
        task = PixelTask(os.path.abspath(found.source.root), image, crash.task[1].pipeline)
        alone = run_alone(read_pixel_digests, task, workers.settings.timeout)
        if isinstance(alone, Crash):
            return alone.rejection(image.path)
    raise ClusterError(
        f"breast {breast.key.breast_id}: {crash.detail}, twice, though each of its views can be read alone. Is there too "
        "little memory? What was finished is kept; run again with fewer workers"
    )


def _stored_result(
    found: Index, output: ShardOutput, store: SampleStore, breast: Breast, key: Digest
) -> FusedSample | ViewRejection:
    """Read from the store; an entry that was corrupted there is made again, in this process."""
    result = store.get(key)
    if result is None:
        made = make_sample(make_task(found, output, breast, os.path.abspath(store.folder)))
        result = store.get(key) if made.key == key else None
        if result is None:
            raise changed_since_index(made.changed or (made.unreadable.what if made.unreadable else breast.images[0].path))
    return result


def _pixel_kind(pipeline: Pipeline) -> str:
    return f"pixels {pipeline.digest()}" if pipeline.resize.reduced else "pixels"


def _pixel_values(digests: Sequence[Digest], key: Digest, pipeline: Pipeline) -> list[str]:
    """Facts for the file cache: of pixels at reduced resolution with the sample that they were decoded for, since pipeline,
    code and decoder decide them too.
    """
    return [f"{digest} {key}" if _pixel_kind(pipeline) != "pixels" else digest for digest in digests]
