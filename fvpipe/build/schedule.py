"""Which samples are missing, made on the workers, and what came of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fvpipe.build.plan import Limits, Target
from fvpipe.build.sample import SampleResult, SampleTask, key_of, make_sample, make_samples
from fvpipe.cache.decoder_crashes import cached_crash, crash_fact
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore, ViewRejection
from fvpipe.config.pipeline import Pipeline
from fvpipe.errors import ClusterError, QualityError, StorageError
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.indexing.headers import changed_since_index, read_pixel_digests
from fvpipe.indexing.index import Index
from fvpipe.progress import progress
from fvpipe.reasons import NOT_BROKEN, Reason, Rejection
from fvpipe.types import VIEWS, Breast, BreastKey, Digest, FusedSample, SourceFile


@dataclass(frozen=True, slots=True)
class _Finished:
    """Each breast with the key of its sample or rejection, in the index's order."""

    breasts: list[tuple[Breast, Digest]]
    unreadable: list[Rejection]
    computed: int
    seconds: Mapping[str, float]


def make_missing(found: Index, target: Target, store: SampleStore, file_cache: FileCache, workers: Workers) -> _Finished:
    """The key of every breast; what the store lacks is made on the workers."""
    root, folder = os.path.abspath(found.source.root), os.path.abspath(store.folder) if workers.share_storage else ""
    pipeline, pipeline_digest = target.pipeline, target.pipeline.digest()
    keys: dict[BreastKey, Digest] = {}
    missing: list[tuple[Breast, SampleTask]] = []
    unreadable: list[Rejection] = []
    breasts = list(found.breasts)
    for breast in breasts:
        states = _states(found, breast)
        task = SampleTask(
            root, folder, breast.cc, breast.mlo, states, found.source.policy, pipeline, pipeline_digest, file_cache.reread
        )
        cc, mlo = (file_cache.fact(found.files[image.path]) for image in breast.views)
        key = key_of(task, (Digest(cc), Digest(mlo))) if cc and mlo else None
        if key and store.has(key):
            keys[breast.key] = key
        elif crash := _cached_crash(breast, found, file_cache, pipeline):
            unreadable += [crash, _without_view(breast, f"a view of it was rejected: {crash.reason}")]
        else:
            missing.append((breast, task))
    computed, seconds = 0, Counter[str]()
    with progress(f"build {target.pipeline_name}/{found.source.name}", len(missing), "breasts") as advance:
        numbered = list(enumerate(task for _, task in missing))
        for batch in workers.run(_make_numbered, numbered):
            digests, pixels = [], list[tuple[SourceFile, str]]()
            for each in batch:
                if isinstance(each, Crash):
                    breast = missing[each.task[0]][0]
                    crash = _blamed(breast, each, found, workers)
                    image = next(image for image in breast.views if image.path == crash.what)
                    file_cache.put_facts([(found.files[crash.what], crash_fact(image, pipeline, crash))], "crash")
                    unreadable += [crash, _without_view(breast, f"a view of it was rejected: {crash.reason}")]
                    continue
                number, made = each
                breast = missing[number][0]
                computed += made.computed
                seconds.update(made.seconds)
                if made.changed:
                    raise changed_since_index(made.changed)
                if made.unreadable:
                    unreadable += [made.unreadable, _without_view(breast, "a view could not be read from the disk")]
                elif made.key and made.digests:
                    keys[breast.key] = made.key
                    files = [found.files[image.path] for image in breast.views]
                    pixels += zip(files, _pixel_facts(made.pixels, made.key, pipeline) if made.pixels else (), strict=False)
                    digests += [(found.files[image.path], d) for image, d in zip(breast.views, made.digests, strict=True)]
                    if made.sample is not None:
                        store.put(made.key, made.sample)
                    if not store.has(made.key):
                        raise StorageError(
                            f"{store.folder}: a worker wrote a sample that is not visible here; the sample store must lie on "
                            "storage that all workers share, or use --no-shared-storage"
                        )
            file_cache.put_facts(digests)
            file_cache.put_facts(pixels, _pixel_kind(pipeline))
            advance(len(batch))
    finished = [(breast, keys[breast.key]) for breast in breasts if breast.key in keys]
    return _Finished(finished, unreadable, computed, seconds)


def _states(found: Index, breast: Breast) -> tuple[str, str]:
    return found.files[breast.cc.path].state, found.files[breast.mlo.path].state


def _blamed(breast: Breast, crash: Crash[tuple[int, SampleTask]], found: Index, workers: Workers) -> Rejection:
    """Which view of a breast ended its process: the one that does so alone."""
    for image in breast.views:
        alone = workers.alone(read_pixel_digests, (os.path.abspath(found.source.root), image, crash.task[1].pipeline))
        if isinstance(alone, Crash):
            return alone.rejection(image.path)
    raise ClusterError(
        f"breast {breast.key.breast_id}: {crash.detail}, twice, though each of its views can be read alone. Is there too "
        "little memory? What was finished is kept; run again with fewer workers"
    )


def _cached_crash(breast: Breast, found: Index, file_cache: FileCache, pipeline: Pipeline) -> Rejection | None:
    """What one of the views did before."""
    facts = (cached_crash(image, pipeline, file_cache.fact(found.files[image.path], "crash")) for image in breast.views)
    return next(filter(None, facts), None)


def _make_numbered(tasks: list[tuple[int, SampleTask]]) -> list[tuple[int, SampleResult]]:
    return list(zip([number for number, _ in tasks], make_samples([task for _, task in tasks]), strict=True))


def _without_view(breast: Breast, detail: str) -> Rejection:
    return Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, detail)


def without_rejected(
    breasts: Sequence[tuple[Breast, Digest]],
    result: Callable[[Breast, Digest], FusedSample | ViewRejection],
    store: SampleStore,
) -> tuple[list[tuple[Breast, Digest]], list[Rejection]]:
    """The breasts that have a sample, and for each other one the rejected file and the breast."""
    samples, rejections = [], []
    for breast, key in breasts:
        rejection = result(breast, key) if store.rejection_path(key).exists() else None
        if isinstance(rejection, ViewRejection):
            record = breast.views[VIEWS.index(rejection.view)]
            rejections.append(Rejection(record.path, rejection.reason, rejection.detail))
            rejections.append(_without_view(breast, f"its {rejection.view} was rejected: {rejection.reason}"))
        else:
            samples.append((breast, key))
    return samples, rejections


def check_rejected(rejections: Sequence[Rejection], files: int, limits: Limits) -> None:
    """Raise where more files are rejected than the limits allow."""
    # A breast whose view was rejected is named beside the file, and counted with it.
    broken = sum(r.reason not in NOT_BROKEN | {Reason.VIEW_UNREADABLE} for r in rejections)
    if limits.max_rejected is None or broken <= limits.max_rejected / 100 * files:
        return
    named = ", ".join(f"{r.what} ({r.reason})" for r in rejections if r.reason not in NOT_BROKEN)
    raise QualityError(
        f"{broken} rejections on {files} files, more than --max-rejected {limits.max_rejected:g} % (--strict is 0): "
        f"{named[:2000]}. Mend or remove them, or raise the limit; nothing was committed"
    )


def load_sample(found: Index, target: Target, store: SampleStore, breast: Breast, key: Digest) -> FusedSample:
    """A sample out of the store; a breast that has none there ends the build."""
    sample = stored_result(found, target, store, breast, key)
    if isinstance(sample, ViewRejection):
        raise changed_since_index(breast.cc.path)
    return sample


def pixel_digests(
    samples: Sequence[tuple[Breast, Digest]],
    found: Index,
    target: Target,
    file_cache: FileCache,
    load: Callable[[Breast, Digest], FusedSample],
) -> Iterator[tuple[str, str, tuple[Digest, Digest]]]:
    """Breast id, patient, and digests of both views' decoded pixels; a sample is loaded only where they were forgotten."""
    learnt: list[tuple[SourceFile, str]] = []
    kind = _pixel_kind(target.pipeline)
    for breast, key in samples:
        files = [found.files[image.path] for image in breast.views]
        facts = [file_cache.fact(file, kind) or "" for file in files]
        cc, mlo = (Digest(fact.partition(" ")[0]) for fact in facts)
        digests = cc, mlo
        if not all(facts) or facts != _pixel_facts(digests, key, target.pipeline):
            digests = load(breast, key).pixel_digests
            learnt += zip(files, _pixel_facts(digests, key, target.pipeline), strict=True)
        yield breast.key.breast_id, breast.key.patient, digests
    file_cache.put_facts(learnt, kind)


def _pixel_kind(pipeline: Pipeline) -> str:
    return f"pixels {pipeline.digest()}" if pipeline.resize.method == "wavelet" else "pixels"


def _pixel_facts(digests: tuple[Digest, Digest], key: Digest, pipeline: Pipeline) -> list[str]:
    """What is remembered of both files: of pixels at a fraction of their resolution, with the sample that they were read for,
    since pipeline, code and decoder decide them too.
    """
    return [f"{digest} {key}" if _pixel_kind(pipeline) != "pixels" else digest for digest in digests]


def stored_result(found: Index, target: Target, store: SampleStore, breast: Breast, key: Digest) -> FusedSample | ViewRejection:
    """What the store holds of a breast; what rotted there is made again."""
    result = store.get(key)
    if result is None:
        root, folder = os.path.abspath(found.source.root), os.path.abspath(store.folder)
        settings = (found.source.policy, target.pipeline, target.pipeline.digest())
        made = make_sample(SampleTask(root, folder, breast.cc, breast.mlo, _states(found, breast), *settings, retry=False))
        result = store.get(key) if made.key == key else None
    if result is None:
        raise changed_since_index(breast.cc.path)
    return result
