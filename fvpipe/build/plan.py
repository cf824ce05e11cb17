"""Plan of a build: which samples are in the store, which must be made, and where the shards go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fvpipe.build.sample import SampleTask, key_of
from fvpipe.cache.decoder_crashes import cached_crash
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.pipeline import Pipeline
from fvpipe.indexing.index import Index
from fvpipe.reasons import Rejection
from fvpipe.types import NO_DIGEST, Breast, Digest, ImageRecord


@dataclass(frozen=True, slots=True)
class ShardOutput:
    """The shard folder that a build writes, of one pipeline and one data set."""

    dataset: str
    pipeline_name: str
    pipeline: Pipeline
    folder: Path
    build_file: Path  # versions, host and timings of the last build; not part of the output
    lock_file: Path  # locked while a build runs
    with_images: bool = False  # also write images.csv into the folder
    shard_count: int = 16  # number of shards that patients are distributed over


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds beyond which a build fails. None: no limit."""

    # Percent of breasts with a view that was not cropped; more than this and more than 10 breasts fail the build
    max_fallback: float = 2.0
    max_rejected: float | None = None  # percent of rejected files and breasts, without what a declared rule leaves out


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """The work of a build, breast by breast."""

    stored: list[tuple[Breast, Digest]]  # breasts whose sample, or its rejection, is in the store, with its key
    missing: list[tuple[Breast, SampleTask]]  # breasts whose sample must be made
    # Breasts with a view whose decoder crashed before, with the rejection of that view's file
    crashed: list[tuple[Breast, Rejection]]


def plan_samples(found: Index, output: ShardOutput, store: SampleStore, file_cache: FileCache, shared_storage: bool) -> Plan:
    """Look up every breast in the sample store, by the digests of its files as far as they are known.

    With ``--reread`` none is: a worker reads what is stored, and makes again what was rejected or is damaged.
    """
    plan = Plan([], [], [])
    folder = os.path.abspath(store.folder) if shared_storage else ""
    for breast in found.breasts:
        task = make_task(found, output, breast, folder, retry=file_cache.reread)
        known = [
            NO_DIGEST if image is None else digest or file_cache.digest(found.files[image.path])
            for digest, image in zip(task.digests, breast.views, strict=True)
        ]
        key = None if known[0] is None or known[1] is None else key_of(task, (known[0], known[1]))
        if key and store.has(key) and not file_cache.reread:
            plan.stored.append((breast, key))
        elif crash := _known_crash(breast.images, found, file_cache, output.pipeline):
            plan.crashed.append((breast, crash))
        else:
            plan.missing.append((breast, task))
    return plan


def make_task(found: Index, output: ShardOutput, breast: Breast, store: str, *, retry: bool = False) -> SampleTask:
    """Describe to a worker how the sample of `breast` is made."""
    cc, mlo = (image.path if image else "" for image in breast.views)
    digests = found.digests or {}
    return SampleTask(
        root=os.path.abspath(found.source.root),
        store=store,
        views=breast.views,
        states=(found.files[cc].state if cc else "", found.files[mlo].state if mlo else ""),
        digests=(digests.get(cc), digests.get(mlo)),
        policy=found.source.policy,
        pipeline=output.pipeline,
        retry=retry,
    )


def _known_crash(images: Sequence[ImageRecord], found: Index, file_cache: FileCache, pipeline: Pipeline) -> Rejection | None:
    """The first crash of a decoder of this version on one of the images."""
    for image in images:
        crash = cached_crash(image, pipeline, file_cache.value(found.files[image.path], "crash"))
        if crash is not None:
            return crash
    return None
