"""How DICOM files become shards, top to bottom.

    DICOM file -> ImageRecord -> Breast (CC + MLO) -> crop, crop -> FusedSample -> shard
          indexing.files    indexing.pairing       build.sample            build.commit

:func:`index` reads headers and pairs views. :func:`build_shards` makes the samples that are not in the store yet and
writes the shards that are not up to date. Both repeat only what changed. What runs on workers are
:func:`fvpipe.indexing.files.headers.read_files` and :func:`fvpipe.build.sample.make_samples`; everything else runs in the
calling process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from fvpipe.build.commit import Build, commit
from fvpipe.build.plan import Limits, ShardOutput, plan_samples
from fvpipe.build.schedule import make_missing
from fvpipe.build.target_forms import filled_forms
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.datasets.source import Source
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import needed_views
from fvpipe.indexing.exams import exam_order, with_stated_days
from fvpipe.indexing.files.headers import read_headers, read_published_uids
from fvpipe.indexing.files.pixel_contents import read_pixel_contents
from fvpipe.indexing.files.scan import list_files, without_strays
from fvpipe.indexing.index import Index
from fvpipe.indexing.key_objects import rejected_by_key_objects
from fvpipe.indexing.labels.contradictions import contradictions
from fvpipe.indexing.labels.read import read_labels
from fvpipe.indexing.labels.rejected_images import rows_of_rejected_images
from fvpipe.indexing.labels.statements import statement_digest
from fvpipe.indexing.lesion_masks import with_mask_findings, with_outlined_breasts
from fvpipe.indexing.pairing import colliding_instances, pair, rejection_order, tied_images
from fvpipe.io.locking import lock
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord


def index(source: Source, workers: Workers, file_cache: FileCache, *, digest: bool = False) -> Index:
    """Read the headers that are new or changed, and pair the views.

    Parameters
    ----------
    source : Source
        The data set.
    workers : Workers
        Where files are read.
    file_cache : FileCache
        Headers and digests of unchanged files.
    digest : bool
        Also digest each image's file, for a manifest.

    Raises
    ------
    InputError
        The folder is missing, holds no file that could be an image, or changed while it was read.
    LabelTableError
        The label table breaks its form.
    """
    formats = source.policy.formats
    files, passed_over, no_files = list_files(source.root, file_cache, formats)
    labels, statements = read_labels(source, list(files))
    files |= {path: replace(files[path], stated_digest=statement_digest(said)) for path, said in statements.stated.items()}
    left_out = {rejection.what: rejection for rejection in statements.rejections}
    to_read = {path: file for path, file in files.items() if path not in left_out}
    headers, digests, headers_read = read_headers(source, to_read, workers, file_cache, digest, statements.stated)
    rows, exams = rows_of_rejected_images(source, headers, statements, labels, files, workers, file_cache)
    headers = statements.reject_unlisted(headers | left_out)
    accepted = (header for header in headers.values() if isinstance(header, ImageRecord))
    headers |= {record.path: record for record in with_stated_days(accepted, statements.exam_dates, source.policy)}
    del statements, to_read  # of half a million images, they take as much memory as the headers
    headers, passed_over = without_strays(headers, files, passed_over, source.root, file_cache, formats)

    def records() -> list[ImageRecord]:
        return [header for header in headers.values() if isinstance(header, ImageRecord)]

    def reject(found: Iterable[Rejection]) -> None:
        headers.update([(rejection.what, rejection) for rejection in found])  # all are found before the first counts

    rejected = [header for header in headers.values() if isinstance(header, Rejection)]
    disputed = {each.what for each in rejected if each.reason in (Reason.LATERALITY_CONFLICT, Reason.IDENTIFIER_CONFLICT)}
    labels = labels.matched(records(), disputed, rows, exams)
    colliding = [record for group in colliding_instances(records()) for record in group]
    contents, unreadable = read_pixel_contents(source, files, colliding, workers, file_cache)
    reject(unreadable)
    reject(rejected_by_key_objects(source.root, [source.policy], headers))
    reject(contradictions(records(), labels))
    labels, unfit = with_mask_findings(labels, headers, source, files, workers, file_cache)
    reject(unfit)
    images = records()
    labels = with_outlined_breasts(labels, images)
    published = read_published_uids(source, [image.path for image in tied_images(images)])
    pairing = pair(source.name, images, labels, contents, published)
    rejected = [header for header in headers.values() if isinstance(header, Rejection)]
    return Index(
        source=source,
        files=files,
        images=images,
        facts={image.path: labels.facts(image.patient_id, image.study, image.laterality) for image in images},
        breasts=pairing.breasts,
        unpaired=pairing.unpaired,
        exam_order=exam_order(images),
        labels_unmatched=labels.unmatched,
        rejections=sorted([*no_files, *rejected, *pairing.rejections], key=rejection_order),
        digests={image.path: digests[image.path] for image in images} if digest else None,
        has_findings=labels.has_findings,
        passed_over=passed_over,
        label_hints=pairing.label_hints,
        notes=pairing.notes,
        headers_read=headers_read,
    )


def build_shards(
    found: Index,
    output: ShardOutput,
    store: SampleStore,
    file_cache: FileCache,
    workers: Workers,
    limits: Limits,
    say: Callable[[str], None],
) -> Build:
    """Make the samples that are missing and write the shards that are not up to date.

    Raises
    ------
    ParameterError
        The pipeline names a target that the data set does not know, or whose texts are too many for classes.
    QualityError
        More fallbacks or rejections than `limits`; nothing was committed.
    InputError
        A file is not what the index read.
    StorageError, LockedError, ClusterError
        The disk, another build, or the workers prevent it.
    """
    begun = time.perf_counter()
    found = found.of_views(needed_views(output.pipeline))
    forms = filled_forms(found.source, output.pipeline.targets, found.breasts)  # names what is wrong before anything is decoded
    for name in [form.name for form in forms if found.breasts and not form.known]:
        say(f"warning: {output.dataset}: target {name!r} is known of no breast; does a label table have its column?")
    with lock(output.lock_file, lambda message: say(f"warning: {message}")), store.in_use():
        plan = plan_samples(found, output, store, file_cache, workers.settings.share_storage)
        samples = make_missing(plan, found, output, store, file_cache, workers)
        return commit(samples, limits, begun, say)
