"""THE file: how DICOM files become shards, top to bottom.

    DICOM file -> ImageRecord -> Breast (CC + MLO) -> crop, crop -> FusedSample -> shard
       dicom        index          pairing            segment        fuse        shards

:func:`index` reads headers and pairs views. :func:`build_shards` makes the samples that are not in the store yet and
writes the shards that are not what they should be. Both redo exactly what changed. :func:`read_headers` and
:func:`make_samples` are what runs on workers; everything else runs in the calling process.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain

from fvpipe.build.commit import recorded_states, shard_states, write_folder
from fvpipe.build.plan import Build, Limits, Target
from fvpipe.build.record import build_record
from fvpipe.build.schedule import check_rejected, load_sample, make_missing, pixel_digests, stored_result, without_rejected
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.errors import InputError
from fvpipe.execution.workers import Workers
from fvpipe.imaging.view_agreement import shared_pixels
from fvpipe.indexing import pairing
from fvpipe.indexing.headers import compare_instances, read_labels, read_new
from fvpipe.indexing.index import Index, Source
from fvpipe.indexing.lesion_masks import with_regions
from fvpipe.indexing.manifests import rejection_order
from fvpipe.indexing.pairing import contradictions, duplicates, without_image
from fvpipe.indexing.records import Records
from fvpipe.indexing.scan import FolderScan, has_suffix
from fvpipe.io.atomic import write_atomic
from fvpipe.io.locking import lock
from fvpipe.io.read import file_state
from fvpipe.io.temp_database import OnDisk
from fvpipe.reasons import Reason
from fvpipe.shards.format import RECEIPT
from fvpipe.types import BreastFacts

Warn = Callable[[str], None]


# --- 1 and 2: headers and pairs ---------------------------------------------------------------------------------------


def index(source: Source, workers: Workers, file_cache: FileCache) -> Index:
    """Read the headers that are new or changed, and pair the views.

    Raises
    ------
    InputError
        The folder is missing or holds no file that could be DICOM.
    LabelTableError
        The label table breaks its form.
    """
    records = Records()
    listing = FolderScan(source.root)
    records.add(listing)
    if not records.files:
        found = f"{listing.ignored} other file(s)" if listing.ignored else "nothing"
        raise InputError(f"{source.root}: no DICOM file; found {found}. Expected names in .dcm, .dicom or without a suffix")
    labels = read_labels(source)
    read = read_new(source, records, workers, file_cache)
    contents = compare_instances(source, records, workers, file_cache)
    # A file without a suffix, and without the marker, never claimed to be DICOM: LICENSE, README and the like.
    strays = [path for path in records.rejected(Reason.NOT_DICOM) if not has_suffix(path)]
    records.drop(strays)
    if labels.images or labels.rows:
        records.refuse(contradictions(records.images, labels.images, labels.rows))
    if source.labels.unlabelled == "normal":
        normal = BreastFacts(0, pathology="normal")
        imaged = (((record.patient_id, record.laterality), normal) for record in records.images)
        labels = replace(labels, rows=OnDisk(chain(imaged, labels.rows.items())))
    labels, unfit = with_regions(labels, records, source, workers, file_cache)
    records.refuse(unfit)
    for group in records.colliding():
        records.set_aside(duplicates(group, contents))
    records.add(pairing.breasts(source.name, records.by_breast(), labels.rows, labels.excluded_patients))
    records.add(without_image(labels.rows, records.is_imaged))
    return Index(source, labels, records, listing.state, listing.ignored + len(strays), read)


# --- 3, 4 and 5: pixels, samples and shards ---------------------------------------------------------------------------


def build_shards(
    found: Index, target: Target, store: SampleStore, file_cache: FileCache, workers: Workers, limits: Limits, warn: Warn
) -> Build:
    """Make the samples that are missing and the shards that are not what they should be.

    Raises
    ------
    QualityError
        More fallbacks or rejections than `limits`; nothing was committed.
    StorageError, LockedError, ClusterError
    """
    begun = time.perf_counter()
    with lock(target.lock_file, warn):
        file_cache.preload()
        found.records.files.load()
        finished = make_missing(found, target, store, file_cache, workers)
        samples, rejected = without_rejected(finished.breasts, partial(stored_result, found, target, store), store)
        rejections = tuple(sorted([*found.rejections, *finished.unreadable, *rejected], key=rejection_order))
        check_rejected(rejections, len(found.files), limits)
        load = partial(load_sample, found, target, store)
        shared = shared_pixels(pixel_digests(samples, found, target, file_cache, load))
        receipt, written = write_folder(found, target, samples, shared, rejections, limits, load, trust=not file_cache.reread)
        computed, seconds = finished.computed, time.perf_counter() - begun
        build = Build(receipt, rejections, computed, len(finished.breasts) - computed, written, seconds, finished.seconds, {})
        states = shard_states(target.out, receipt)
        if computed or written or recorded_states(target.build_file) != states or not target.build_file.is_file():
            write_atomic(target.build_file, build_record(found, build, states), durable=False)
        beside = [target.build_file, *(target.out / name for name in (RECEIPT, *receipt.tables))]
        files = {str(target.out / name): state for name, state in states.items()}
        return replace(build, files=files | {str(file): file_state(os.stat(file)) for file in beside})
