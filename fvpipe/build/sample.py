"""Makes one sample on a worker: two DICOM files, or one, into a fused image."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from fvpipe.cache.decoder_crashes import decoders
from fvpipe.cache.sample_store import SampleStore, ViewRejection, sample_key
from fvpipe.config.pipeline import Pipeline
from fvpipe.dicom.decoding.decoders import lossy_decoder
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import InputError
from fvpipe.imaging.canvas import crop_levels, frame_level, views_in_image
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.fusion import digest_pair, fuse
from fvpipe.imaging.normalize import is_constant
from fvpipe.imaging.pixel_digest import unturned
from fvpipe.imaging.segmentation.crop_verdict import explain
from fvpipe.imaging.segmentation.segment import Segmentation, SegmentationTrace, trace_segmentation
from fvpipe.imaging.view_agreement import CONSTANT_VIEW, IDENTICAL_VIEWS, constant_flags, disagreement_flags, header_flags
from fvpipe.indexing.files.headers import parse_indexed
from fvpipe.io.read import read_contents
from fvpipe.reasons import NO_FLAG, Flag, Reason, Rejection
from fvpipe.types import NO_DIGEST, VIEWS, Digest, FusedSample, ImageRecord

FILE_CHANGED = "is not there, or not the file that the manifest lists; run `fvpipe index` again"


@dataclass(frozen=True, slots=True)
class SampleTask:
    """One breast to make, as it travels to a worker; pairs are of :data:`VIEWS`, None or empty for a view that it lacks."""

    root: str
    store: str  # empty: the sample comes back with the answer
    views: tuple[ImageRecord | None, ImageRecord | None]
    states: tuple[str, str]  # of both files, as the index listed them
    digests: tuple[Digest | None, Digest | None]  # of both files, as the index read them; None: not known
    policy: HeaderPolicy
    pipeline: Pipeline
    retry: bool = False  # make again what was rejected, or is damaged in the store
    headers: tuple[ImageHeader | None, ImageHeader | None] = (None, None)  # as the index parsed them; None: not at hand

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """The one or two images."""
        return tuple(image for image in self.views if image is not None)


@dataclass(frozen=True, slots=True)
class SampleResult:
    """Result of a task: the digests of both files and the sample's key, or the file that could not be read."""

    digests: tuple[Digest, Digest] | None = None
    key: Digest | None = None
    pixels: tuple[Digest, Digest] | None = None  # digests of the decoded pixels, where they were decoded now
    computed: bool = False  # False: the store had it
    sample: FusedSample | ViewRejection | None = None  # where there is no store that the worker can write to
    seconds: Mapping[str, float] = field(default_factory=dict)  # of each step
    changed: str = ""  # path of a file that is not what the index read
    unreadable: Rejection | None = None


class _Clock:
    """Stopwatch of the steps of a sample."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._at = time.perf_counter()

    def lap(self, step: str) -> None:
        """Count the time since the last lap as `step`."""
        now = time.perf_counter()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._at
        self._at = now


def make_samples(tasks: Sequence[SampleTask]) -> list[SampleResult]:
    """On a worker: make each task's sample, unless the store has it."""
    import cv2

    cv2.setNumThreads(1)  # Dask decides how many cores are used
    with silenced():
        return [make_sample(task) for task in tasks]


def make_sample(task: SampleTask) -> SampleResult:
    """Read the files, decode, segment, fuse, and store the sample (or why there is none)."""
    clock = _Clock()
    files = _read(task, clock)
    return files if isinstance(files, SampleResult) else _finish(task, files, clock)


@dataclass(frozen=True, slots=True, eq=False)
class ViewTrace:
    """Intermediate results of one view of a sample."""

    header: ImageHeader
    image: DecodedImage
    segmentation: Segmentation
    trace: SegmentationTrace | None


@dataclass(frozen=True, slots=True, eq=False)
class SampleTrace:
    """A sample, and its views in the order of :data:`VIEWS`; None for one that the breast lacks."""

    views: tuple[ViewTrace | None, ViewTrace | None]
    sample: FusedSample


def trace_sample(task: SampleTask) -> SampleTrace:
    """Make a sample as :func:`make_sample` does, without the store.

    Raises
    ------
    InputError
        A file is not there, or not what the task lists; or the breast is rejected.
    """
    clock = _Clock()
    files = _read(task, clock)
    if isinstance(files, SampleResult):
        path = files.unreadable.what if files.unreadable else files.changed
        view = next(view for view, image in zip(VIEWS, task.views, strict=True) if image and image.path == path)
        raise InputError(f"its {view} {f'cannot be read: {files.unreadable.detail}' if files.unreadable else FILE_CHANGED}")
    made = _make(task, files, clock)
    if isinstance(made, ViewRejection):
        raise InputError(f"{f'its {made.view}' if made.view else 'it'} is rejected: {made.reason}: {made.detail}")
    return made


@dataclass(frozen=True, slots=True)
class _File:
    """The file of one view, as read."""

    data: memoryview
    header: ImageHeader
    digest: Digest

    def decode(self, pipeline: Pipeline, level: int) -> DecodedImage:
        """Decode its pixels, halved `level` times."""
        return decode_image(self.data, self.header, pipeline.voi, self.digest, level)


_Files = Sequence[_File | None]
"""Of CC and MLO; None for a view that the breast lacks."""


def _read(task: SampleTask, clock: _Clock) -> _Files | SampleResult:
    files = list[_File | None]()
    for record, state, expected, known in zip(task.views, task.states, task.digests, task.headers, strict=True):
        if record is None:
            files.append(None)
            continue
        try:
            read = read_contents(Path(task.root) / record.path, state)
        except FileNotFoundError:
            return SampleResult(changed=record.path)
        except OSError as error:
            return SampleResult(unreadable=Rejection.unreadable(record.path, error))
        clock.lap("read")
        # Label and id come from the index: these must be the bytes that it read.
        header = parse_indexed(read, record, task.policy, expected, known)
        if header is None:
            return SampleResult(changed=record.path)
        clock.lap("header")
        files.append(_File(read.data, header, read.digest))
    return files


def _finish(task: SampleTask, files: _Files, clock: _Clock) -> SampleResult:
    digests = digest_pair(file.digest if file else NO_DIGEST for file in files)
    key = key_of(task, digests)
    store = SampleStore(Path(task.store)) if task.store else None
    if store is not None and task.retry:
        with suppress(OSError):  # none, or another user's: a sample counts before it
            store.rejection_path(key).unlink()
    if store is not None and (_is_sound(store, key, digests) if task.retry else store.has(key)):
        return SampleResult(digests, key, seconds=clock.seconds)
    made = _make(task, files, clock)
    sample = made.sample if isinstance(made, SampleTrace) else made
    if store is not None:
        store.put(key, sample)
        clock.lap("write")
    pixels = sample.pixel_digests if isinstance(sample, FusedSample) else None
    return SampleResult(digests, key, pixels, True, None if store is not None else sample, clock.seconds)


def _is_sound(store: SampleStore, key: Digest, digests: tuple[Digest, Digest]) -> bool:
    """Whether the store holds the sample of `key`, undamaged and made from these files."""
    found = store.get(key)
    return isinstance(found, FusedSample) and found.source_digests == digests


def _make(task: SampleTask, files: _Files, clock: _Clock) -> SampleTrace | ViewRejection:
    images = list[DecodedImage | None]()
    for view, file in zip(VIEWS, files, strict=True):
        if file is None:
            images.append(None)
            continue
        try:
            images.append(file.decode(task.pipeline, frame_level(_shape(file), task.pipeline)))
        except RejectedFile as rejected:
            return ViewRejection(view, rejected.reason, rejected.detail)
    clock.lap("decode")
    constant = [image is not None and is_constant(image) for image in images]
    if any(constant) and task.pipeline.constant == "reject":
        return ViewRejection(VIEWS[constant.index(True)], Reason.CONSTANT_VIEW, CONSTANT_VIEW)
    if not any(constant) and _same_pixels(images, files):
        pixels = digest_pair(image.pixel_digest if image else NO_DIGEST for image in images)
        return ViewRejection(None, Reason.IDENTICAL_VIEWS, IDENTICAL_VIEWS, pixels)
    traced = [trace_segmentation(image, task.pipeline.segment) if image else (None, None) for image in images]
    found = [outline for outline, _ in traced]
    clock.lap("segment")
    for i in views_in_image(task.pipeline):
        outline = found[i]
        if outline and outline.verdict not in task.pipeline.segment.build:
            return ViewRejection(VIEWS[i], Reason.CROP_REJECTED, _why_rejected(outline, task.pipeline))
    for i, level in enumerate(crop_levels(found, task.pipeline)):
        image, file = images[i], files[i]
        # Where the crop is small, its pixels are decoded again, and its box stays.
        if image and file and image.scale > 1 << level:
            try:
                finer = file.decode(task.pipeline, level)
            except RejectedFile as rejected:
                return ViewRejection(VIEWS[i], rejected.reason, rejected.detail)
            # The digest must not depend on the other view: the same image in another pair has the same.
            images[i] = replace(finer, pixel_digest=image.pixel_digest)
    clock.lap("decode")
    sample = fuse(images, found, task.pipeline)
    flags = constant_flags(sample.flags, constant) | disagreement_flags(*task.views, sample) | header_flags(*task.images)
    dates = {file.header.acquisition_date for file in files if file} - {""}
    flags |= Flag.DATES_DIFFER if len(dates) > 1 else NO_FLAG
    headers = [file.header for file in files if file]
    scales = {(each.layout.bits_stored, each.layout.signed, each.mapping.modality, each.mapping.inverted) for each in headers}
    flags |= Flag.BITS_DIFFER if len(scales) > 1 else NO_FLAG
    clock.lap("fuse")
    cc, mlo = (
        ViewTrace(file.header, image, outline, trace) if file and image and outline else None
        for file, image, (outline, trace) in zip(files, images, traced, strict=True)
    )
    return SampleTrace((cc, mlo), replace(sample, flags=flags))


def _why_rejected(found: Segmentation, pipeline: Pipeline) -> str:
    why = explain(found.gates) or "no outline was accepted"
    return f"the verdict on the crop is {found.verdict}: {why}; segment.build is {', '.join(pipeline.segment.build)}"


def _shape(file: _File) -> tuple[int, int]:
    return file.header.layout.rows, file.header.layout.columns


def _same_pixels(images: Sequence[DecodedImage | None], files: _Files) -> bool:
    """Whether both views are one image, mirrored or turned or not; decoded at different resolutions, both are decoded whole."""
    cc, mlo = images
    read = [file for file in files if file]
    if cc is None or mlo is None or len(set(map(_shape, read))) > 1:
        return False
    if cc.scale != mlo.scale:
        try:
            cc, mlo = (decode_image(file.data, file.header) for file in read)
        except RejectedFile:
            return False  # damage in a resolution that the pipeline does not use: no copy of an image that is whole
    return unturned(cc.pixel_digest) == unturned(mlo.pixel_digest)


def key_of(task: SampleTask, digests: tuple[Digest, Digest]) -> Digest:
    """Key of the sample: digests of its input, what no file says of it, and versions of the code that makes it."""
    cc, mlo = (decoders(record, task.pipeline, lossy_decoder) if record else "" for record in task.views)
    of_cc, of_mlo = (_read_as(record) if record else "" for record in task.views)
    return sample_key(digests, task.images[0].laterality, task.pipeline.digest(), (cc, mlo), (of_cc, of_mlo))


def _read_as(record: ImageRecord) -> str:
    """What the data set's declaration, or a row of its table, may say of an image without a change of its file."""
    flags = ", ".join(flag.code for flag in header_flags(record))
    return f"{record.photometric_interpretation} {record.orientation} {record.chest_wall} {flags}"
