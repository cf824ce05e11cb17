"""THE file: how DICOM files become shards, top to bottom.

    DICOM file -> ImageRecord -> Breast (CC + MLO) -> crop, crop -> FusedSample -> shard
       dicom        index          pairing            segment        fuse        shards

:func:`index` reads headers and pairs views. :func:`build_shards` makes the samples that are not in the store yet and
writes the shards that are not what they should be. Both redo exactly what changed. :func:`read_headers` and
:func:`make_samples` are what runs on workers; everything else runs in the calling process.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path

from fvpipe import pairing
from fvpipe.cache.decoder_crashes import crash_fact, decoders, remembered_crash
from fvpipe.cache.file_cache import SourceMemory
from fvpipe.cache.sample_store import Refusal, SampleStore, sample_key
from fvpipe.config.pipeline import Pipeline
from fvpipe.datasets.adapter import LabelTable
from fvpipe.dicom.decoders import decoder_identity, lossy_decoder
from fvpipe.dicom.elements import Refused, silenced
from fvpipe.dicom.header import HeaderPolicy, acquisition_date, read_header, record_of
from fvpipe.dicom.pixels import read_picture
from fvpipe.dicom.reader import HEADER_INFLATE_LIMIT, open_dicom, stream
from fvpipe.errors import ClusterError, InputError, QualityError, StorageError
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.folder import recorded_states, shard_states, write_folder
from fvpipe.imaging.canvas import crop_levels, frame_level
from fvpipe.imaging.fusion import fuse
from fvpipe.imaging.segmentation import segment
from fvpipe.imaging.view_agreement import OF_A_VIEW, shared_pixels, views_agree
from fvpipe.io.atomic import write_whole
from fvpipe.io.locking import lock
from fvpipe.io.read import Buffer, file_state, read_contents
from fvpipe.io.temp_database import OnDisk
from fvpipe.listing import Listing, has_suffix
from fvpipe.manifests import rejection_order
from fvpipe.plan import Build, Index, Limits, Source, Target
from fvpipe.progress import progress
from fvpipe.reasons import NOT_BROKEN, PASSING, Flag, Reason, Rejection
from fvpipe.records import Records
from fvpipe.regions import with_regions
from fvpipe.shards.format import RECEIPT
from fvpipe.types import VIEWS, Breast, BreastFacts, BreastKey, Digest, FusedSample, ImageRecord, SourceFile

Warn = Callable[[str], None]


# --- 1 and 2: headers and pairs ---------------------------------------------------------------------------------------


def index(source: Source, workers: Workers, memory: SourceMemory) -> Index:
    """Read the headers that are new or changed, and pair the views.

    Raises
    ------
    InputError
        The folder is missing or holds no file that could be DICOM.
    LabelTableError
        The label table breaks its form.
    """
    records = Records()
    listing = Listing(source.root)
    records.add(listing)
    if not records.files:
        found = f"{listing.ignored} other file(s)" if listing.ignored else "nothing"
        raise InputError(f"{source.root}: no DICOM file; found {found}. Expected names in .dcm, .dicom or without a suffix")
    labels = _labels(source)
    read = _read_new(source, records, workers, memory)
    contents = _compare_instances(source, records, workers, memory)
    # A file without a suffix, and without the marker, never claimed to be DICOM: LICENSE, README and the like.
    strays = [path for path in records.refused(Reason.NOT_DICOM) if not has_suffix(path)]
    records.drop(strays)
    if labels.images or labels.rows:
        records.refuse(pairing.contradictions(records.images, labels.images, labels.rows))
    if source.labels.unlabelled == "normal":
        normal = BreastFacts(0, pathology="normal")
        imaged = (((record.patient_id, record.laterality), normal) for record in records.images)
        labels = replace(labels, rows=OnDisk(chain(imaged, labels.rows.items())))
    labels, unfit = with_regions(labels, records, source, workers, memory)
    records.refuse(unfit)
    for group in records.colliding():
        records.set_aside(pairing.duplicates(group, contents))
    records.add(pairing.breasts(source.name, records.by_breast(), labels.rows, labels.excluded_patients))
    records.add(pairing.without_image(labels.rows, records.is_imaged))
    return Index(source, labels, records, listing.state, listing.ignored + len(strays), read)


def _read_new(source: Source, records: Records, workers: Workers, memory: SourceMemory) -> int:
    """Add every file's header, as it is remembered or read now; returns how many were read."""
    records.add(header for file in records.files.sorted() if (header := memory.header(file)))
    unread = records.missing(lambda path: (str(source.root), path, source.policy))
    count = len(unread)
    with progress(f"index {source.name}", count, "files") as advance:
        # Up to so many are read here sooner than two processes start and share them.
        for answers in workers.run(read_headers, unread, short=3000):
            batch = [each.rejection(each.task[1]) if isinstance(each, Crash) else each for each in answers]
            gone = [h.what for h in batch if isinstance(h, Rejection) and h.detail == os.strerror(errno.ENOENT)]
            if gone:
                raise _changed(gone[0])
            memory.keep_headers((records.files[_path(header)], header) for header in batch if not _transient(header))
            records.add(batch)
            advance(len(batch))
    return count


def read_headers(tasks: Sequence[tuple[str, str, HeaderPolicy]]) -> list[ImageRecord | Rejection]:
    """On a worker: the records of (input folder, path, policy)."""
    with silenced():
        return [read_header(Path(root), path, policy) for root, path, policy in tasks]


def _path(header: ImageRecord | Rejection) -> str:
    return header.path if isinstance(header, ImageRecord) else header.what


def _transient(header: ImageRecord | Rejection) -> bool:
    return isinstance(header, Rejection) and header.reason in PASSING | {Reason.NOT_A_FILE}


def _labels(source: Source) -> LabelTable:
    """The label table, with its patients as the headers' identifiers will be."""
    table = source.adapter.read_labels(source.root, source.label_file, source.labels)
    if not source.policy.identifier_key:
        return table
    identify = source.policy.identifier
    return LabelTable(
        OnDisk(((identify("patient", patient), laterality), facts) for (patient, laterality), facts in table.rows.items()),
        {identify("patient", patient): why for patient, why in table.excluded_patients.items()},
        OnDisk((identify("instance", instance), facts) for instance, facts in table.images.items()),
        OnDisk((identify("instance", instance), found) for instance, found in table.findings.items()),
        OnDisk(((identify("patient", p), side, view, n), what) for (p, side, view, n), what in table.regions.items()),
    )


def _compare_instances(source: Source, records: Records, workers: Workers, memory: SourceMemory) -> Mapping[str, Digest]:
    """The pixel digests of files that share an SOP Instance UID; those that cannot be read become rejections."""
    files, contents = records.files, OnDisk[str, Digest]()

    def new() -> Iterator[str]:
        for record in chain.from_iterable(records.colliding()):
            known = memory.fact(files[record.path], "pixels")
            if known is None:
                yield record.path
            else:
                contents[record.path] = Digest(known)

    unread = records.unread(new(), lambda path: (str(source.root), records.image(path), Pipeline()))
    for batch in workers.run(read_pixel_digests, unread):
        for each in batch:
            path, found = (each.task[1].path, each.rejection(each.task[1].path)) if isinstance(each, Crash) else each
            if isinstance(found, Rejection):
                records.refuse([found])
                memory.keep_headers([] if _transient(found) else [(files[path], found)])
            else:
                contents[path] = found
                memory.keep_facts([(files[path], found)], "pixels")
    return contents


def read_pixel_digests(tasks: Sequence[tuple[str, ImageRecord, Pipeline]]) -> list[tuple[str, Digest | Rejection]]:
    """On a worker: the digests of the decoded pixels of (input folder, record), read as the pipeline does."""
    found: list[tuple[str, Digest | Rejection]] = []
    for root, record, pipeline in tasks:
        try:
            data = (Path(root) / record.path).read_bytes()
            level = frame_level((record.rows, record.columns), pipeline)
            for finer in range(level):  # a small crop may ask for them
                read_picture(data, record.laterality, level=finer)
            found.append((record.path, read_picture(data, record.laterality, level=level).pixel_digest))
        except Refused as refused:
            found.append((record.path, Rejection(record.path, refused.reason, refused.detail)))
        except OSError as error:
            found.append((record.path, Rejection.unreadable(record.path, error)))
    return found


# --- 3, 4 and 5: pixels, samples and shards ---------------------------------------------------------------------------


def build_shards(
    found: Index, target: Target, store: SampleStore, memory: SourceMemory, workers: Workers, limits: Limits, warn: Warn
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
        memory.load_facts()
        found.records.files.load()
        finished = _make_missing(found, target, store, memory, workers)
        samples, refused = _without_refused(finished.breasts, partial(_result, found, target, store), store)
        rejections = tuple(sorted([*found.rejections, *finished.unreadable, *refused], key=rejection_order))
        _check_rejected(rejections, len(found.files), limits)
        load = partial(_load, found, target, store)
        shared = shared_pixels(_pixel_digests(samples, found, target, memory, load))
        receipt, written = write_folder(found, target, samples, shared, rejections, limits, load, trust=not memory.forgets)
        computed, seconds = finished.computed, time.perf_counter() - begun
        build = Build(receipt, rejections, computed, len(finished.breasts) - computed, written, seconds, finished.seconds, {})
        states = shard_states(target.out, receipt)
        if computed or written or recorded_states(target.build_file) != states or not target.build_file.is_file():
            write_whole(target.build_file, _build_record(found, build, states), durable=False)
        beside = [target.build_file, *(target.out / name for name in (RECEIPT, *receipt.tables))]
        files = {str(target.out / name): state for name, state in states.items()}
        return replace(build, files=files | {str(file): file_state(os.stat(file)) for file in beside})


@dataclass(frozen=True, slots=True)
class Task:
    """One breast to make, as it travels to a worker."""

    root: str
    store: str  # empty: the sample comes back with the answer
    cc: ImageRecord
    mlo: ImageRecord
    states: tuple[str, str]  # of both files, as the index listed them
    policy: HeaderPolicy
    pipeline: Pipeline
    pipeline_digest: Digest
    retry: bool  # make what was refused again

    @property
    def views(self) -> tuple[ImageRecord, ImageRecord]:
        """The two images in the order of :data:`VIEWS`."""
        return self.cc, self.mlo


@dataclass(frozen=True, slots=True)
class Made:
    """What a worker found: the digests of both files and the sample's key, or the file that could not be read."""

    digests: tuple[Digest, Digest] | None = None
    key: Digest | None = None
    pixels: tuple[Digest, Digest] | None = None  # digests of the decoded pixels, where they were decoded now
    computed: bool = False  # False: the store had it
    sample: FusedSample | Refusal | None = None  # where there is no store that the worker can write to
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each step
    changed: str = ""  # path of a file that is not what the index read
    unreadable: Rejection | None = None


class _Clock:
    """Where the time goes, step by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, step: str) -> None:
        """What passed since the last lap was `step`."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._at
        self._at = now


def make_samples(tasks: Sequence[Task]) -> list[Made]:
    """On a worker: make each task's sample, unless the store has it."""
    import cv2

    cv2.setNumThreads(1)  # Dask decides how many cores are used
    with silenced():
        return [make_sample(task) for task in tasks]


def make_sample(task: Task) -> Made:
    """Read both files, decode, segment, fuse, and store the sample (or why there is none)."""
    clock = _Clock()
    files, digests = [], []
    for record, state, buffer in zip(task.views, task.states, _buffers.of_views, strict=True):
        try:
            read = read_contents(Path(task.root) / record.path, state, buffer)
        except FileNotFoundError:
            return Made(changed=record.path)
        except OSError as error:
            return Made(unreadable=Rejection.unreadable(record.path, error))
        clock.lap("read")
        # The label and the id come from the index: these must be the bytes that it read.
        if not read.unchanged and record_of(read.data, record.path, task.policy) != record:
            return Made(changed=record.path)
        clock.lap("header")
        files.append(read.data)
        digests.append(read.digest)
    return _made(task, (files[0], files[1]), (digests[0], digests[1]), clock)


class _Buffers(threading.local):
    """What the files of a breast are read into, breast after breast; each thread has its own. No sample is a view of them."""

    def __init__(self) -> None:
        self.of_views = Buffer(), Buffer()


_buffers = _Buffers()


def _made(task: Task, files: tuple[memoryview, memoryview], digests: tuple[Digest, Digest], clock: _Clock) -> Made:
    key = _key(task, digests)
    store = SampleStore(Path(task.store)) if task.store else None
    if store is not None and task.retry:
        store.refusal_path(key).unlink(missing_ok=True)
    if store is not None and store.has(key):
        return Made(digests, key, seconds=clock.seconds)
    sample = _sample(task, files, digests, clock)
    if store is not None:
        store.put(key, sample)
        clock.lap("write")
    pixels = sample.pixel_digests if isinstance(sample, FusedSample) else None
    return Made(digests, key, pixels, True, None if store is not None else sample, clock.seconds)


def _sample(task: Task, files: Sequence[memoryview], digests: tuple[Digest, Digest], clock: _Clock) -> FusedSample | Refusal:
    pictures, dates = [], set()
    for view, record, data, digest in zip(VIEWS, task.views, files, digests, strict=True):
        try:
            opened = open_dicom(stream(data), HEADER_INFLATE_LIMIT)
            dates.add(acquisition_date(opened.header))
            level = frame_level((record.rows, record.columns), task.pipeline)
            pictures.append(read_picture(data, record.laterality, task.pipeline.voi, digest, opened, level))
        except Refused as refused:
            return Refusal(view, refused.reason, refused.detail)
    clock.lap("decode")
    cc, mlo = pictures
    found = segment(cc, task.pipeline.segment), segment(mlo, task.pipeline.segment)
    clock.lap("segment")
    for i, level in enumerate(crop_levels(found, task.pipeline)):
        if pictures[i].scale > 1 << level:  # the crop is small: its pixels are decoded again, and its box stays
            try:
                finer = read_picture(files[i], task.views[i].laterality, task.pipeline.voi, digests[i], level=level)
            except Refused as refused:
                return Refusal(VIEWS[i], refused.reason, refused.detail)
            # The digest must not depend on the other view: the same picture in another pair has the same.
            pictures[i] = replace(finer, pixel_digest=pictures[i].pixel_digest)
    clock.lap("decode")
    sample = fuse((pictures[0], pictures[1]), found, task.pipeline)
    flags = sample.flags | views_agree(task.cc, task.mlo, sample)
    for flag, name in OF_A_VIEW.items():
        flags |= flag if any(getattr(record, name) for record in task.views) else Flag(0)
    flags |= Flag.DATES_DIFFER if len(dates - {""}) > 1 else Flag(0)
    clock.lap("fuse")
    return replace(sample, flags=flags)


def _key(task: Task, digests: tuple[Digest, Digest]) -> Digest:
    cc, mlo = (decoders(record, task.pipeline, lossy_decoder) for record in task.views)
    return sample_key(digests, task.cc.laterality, task.pipeline_digest, (cc, mlo))


@dataclass(frozen=True, slots=True)
class _Finished:
    """Each breast with the key of its sample or refusal, in the index's order."""

    breasts: list[tuple[Breast, Digest]]
    unreadable: list[Rejection]
    computed: int
    seconds: Mapping[str, float]


def _make_missing(found: Index, target: Target, store: SampleStore, memory: SourceMemory, workers: Workers) -> _Finished:
    """The key of every breast; what the store lacks is made on the workers."""
    root, folder = os.path.abspath(found.source.root), os.path.abspath(store.folder) if workers.share_storage else ""
    pipeline, pipeline_digest = target.pipeline, target.pipeline.digest()
    keys: dict[BreastKey, Digest] = {}
    missing: list[tuple[Breast, Task]] = []
    unreadable: list[Rejection] = []
    breasts = list(found.breasts)
    for breast in breasts:
        states = _states(found, breast)
        task = Task(root, folder, breast.cc, breast.mlo, states, found.source.policy, pipeline, pipeline_digest, memory.forgets)
        cc, mlo = (memory.fact(found.files[image.path]) for image in breast.views)
        key = _key(task, (Digest(cc), Digest(mlo))) if cc and mlo else None
        if key and store.has(key):
            keys[breast.key] = key
        elif crash := _remembered_crash(breast, found, memory, pipeline):
            unreadable += [crash, _without_view(breast, f"a view of it was refused: {crash.reason}")]
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
                    memory.keep_facts([(found.files[crash.what], crash_fact(image, pipeline, crash))], "crash")
                    unreadable += [crash, _without_view(breast, f"a view of it was refused: {crash.reason}")]
                    continue
                number, made = each
                breast = missing[number][0]
                computed += made.computed
                seconds.update(made.seconds)
                if made.changed:
                    raise _changed(made.changed)
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
            memory.keep_facts(digests)
            memory.keep_facts(pixels, _pixel_kind(pipeline))
            advance(len(batch))
    finished = [(breast, keys[breast.key]) for breast in breasts if breast.key in keys]
    return _Finished(finished, unreadable, computed, seconds)


def _states(found: Index, breast: Breast) -> tuple[str, str]:
    return found.files[breast.cc.path].state, found.files[breast.mlo.path].state


def _blamed(breast: Breast, crash: Crash[tuple[int, Task]], found: Index, workers: Workers) -> Rejection:
    """Which view of a breast ended its process: the one that does so alone."""
    for image in breast.views:
        alone = workers.alone(read_pixel_digests, (os.path.abspath(found.source.root), image, crash.task[1].pipeline))
        if isinstance(alone, Crash):
            return alone.rejection(image.path)
    raise ClusterError(
        f"breast {breast.key.breast_id}: {crash.detail}, twice, though each of its views can be read alone. Is there too "
        "little memory? What was finished is kept; run again with fewer workers"
    )


def _remembered_crash(breast: Breast, found: Index, memory: SourceMemory, pipeline: Pipeline) -> Rejection | None:
    """What one of the views did before."""
    facts = (remembered_crash(image, pipeline, memory.fact(found.files[image.path], "crash")) for image in breast.views)
    return next(filter(None, facts), None)


def _make_numbered(tasks: list[tuple[int, Task]]) -> list[tuple[int, Made]]:
    return list(zip([number for number, _ in tasks], make_samples([task for _, task in tasks]), strict=True))


def _without_view(breast: Breast, detail: str) -> Rejection:
    return Rejection(breast.key.breast_id, Reason.VIEW_UNREADABLE, detail)


def _without_refused(
    breasts: Sequence[tuple[Breast, Digest]], result: Callable[[Breast, Digest], FusedSample | Refusal], store: SampleStore
) -> tuple[list[tuple[Breast, Digest]], list[Rejection]]:
    """The breasts that have a sample, and for each other one the refused file and the breast."""
    samples, rejections = [], []
    for breast, key in breasts:
        refusal = result(breast, key) if store.refusal_path(key).exists() else None
        if isinstance(refusal, Refusal):
            record = breast.views[VIEWS.index(refusal.view)]
            rejections.append(Rejection(record.path, refusal.reason, refusal.detail))
            rejections.append(_without_view(breast, f"its {refusal.view} was refused: {refusal.reason}"))
        else:
            samples.append((breast, key))
    return samples, rejections


def _check_rejected(rejections: Sequence[Rejection], files: int, limits: Limits) -> None:
    # A breast whose view was refused is named beside the file, and counted with it.
    broken = sum(r.reason not in NOT_BROKEN | {Reason.VIEW_UNREADABLE} for r in rejections)
    if limits.max_rejected is None or broken <= limits.max_rejected / 100 * files:
        return
    named = ", ".join(f"{r.what} ({r.reason})" for r in rejections if r.reason not in NOT_BROKEN)
    raise QualityError(
        f"{broken} refusals on {files} files, more than --max-rejected {limits.max_rejected:g} % (--strict is 0): "
        f"{named[:2000]}. Mend or remove them, or raise the limit; nothing was committed"
    )


def _load(found: Index, target: Target, store: SampleStore, breast: Breast, key: Digest) -> FusedSample:
    sample = _result(found, target, store, breast, key)
    if isinstance(sample, Refusal):
        raise _changed(breast.cc.path)
    return sample


def _pixel_digests(
    samples: Sequence[tuple[Breast, Digest]],
    found: Index,
    target: Target,
    memory: SourceMemory,
    load: Callable[[Breast, Digest], FusedSample],
) -> Iterator[tuple[str, str, tuple[Digest, Digest]]]:
    """Breast id, patient, and digests of both views' decoded pixels; a sample is loaded only where they were forgotten."""
    learnt: list[tuple[SourceFile, str]] = []
    kind = _pixel_kind(target.pipeline)
    for breast, key in samples:
        files = [found.files[image.path] for image in breast.views]
        facts = [memory.fact(file, kind) or "" for file in files]
        cc, mlo = (Digest(fact.partition(" ")[0]) for fact in facts)
        digests = cc, mlo
        if not all(facts) or facts != _pixel_facts(digests, key, target.pipeline):
            digests = load(breast, key).pixel_digests
            learnt += zip(files, _pixel_facts(digests, key, target.pipeline), strict=True)
        yield breast.key.breast_id, breast.key.patient, digests
    memory.keep_facts(learnt, kind)


def _pixel_kind(pipeline: Pipeline) -> str:
    return f"pixels {pipeline.digest()}" if pipeline.resize.method == "wavelet" else "pixels"


def _pixel_facts(digests: tuple[Digest, Digest], key: Digest, pipeline: Pipeline) -> list[str]:
    """What is remembered of both files: of pixels at a fraction of their resolution, with the sample that they were read for,
    since pipeline, code and decoder decide them too.
    """
    return [f"{digest} {key}" if _pixel_kind(pipeline) != "pixels" else digest for digest in digests]


def _result(found: Index, target: Target, store: SampleStore, breast: Breast, key: Digest) -> FusedSample | Refusal:
    """What the store holds of a breast; what rotted there is made again."""
    result = store.get(key)
    if result is None:
        root, folder = os.path.abspath(found.source.root), os.path.abspath(store.folder)
        settings = (found.source.policy, target.pipeline, target.pipeline.digest())
        made = make_sample(Task(root, folder, breast.cc, breast.mlo, _states(found, breast), *settings, retry=False))
        result = store.get(key) if made.key == key else None
    if result is None:
        raise _changed(breast.cc.path)
    return result


def _changed(path: str) -> InputError:
    return InputError(
        f"{path}: is not there any more, or not what the index read. Either it changed while this ran: run it again; or the "
        "workers do not see the input folder: it must lie on storage that they share"
    )


def _build_record(found: Index, build: Build, states: Mapping[str, str]) -> bytes:
    """Versions, host and timings of a build: useful to a person, and never part of what is tracked."""
    libraries = (
        "fvpipe",
        "numpy",
        "h5py",
        "pydicom",
        "imagecodecs",
        "opencv-python-headless",
        "pillow",
        "SimpleITK",
        "dask",
        "distributed",
    )
    syntaxes = Counter(image.transfer_syntax_uid for breast in found.breasts for image in breast.views)
    record = {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in libraries}},
        "host": {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()},
        "decoders": {
            syntax: {
                "images": count,
                "decoder": decoder_identity(syntax),
                "lossy": bool(lossy_decoder(syntax)),
            }
            for syntax, count in sorted(syntaxes.items())
        },
        "headers_read": found.read,
        "samples_computed": build.computed,
        "samples_reused": build.reused,
        "shards_written": build.written,
        "seconds": round(build.seconds, 3),
        "seconds_of_steps": {step: round(seconds, 3) for step, seconds in build.steps.items()},
        "shard_files": states,
    }
    return (json.dumps(record, indent=1) + "\n").encode()
