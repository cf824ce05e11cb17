"""Headers and pixel digests of the files that are new or changed, read on the workers."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from fvpipe.cache.file_cache import FileCache
from fvpipe.config.pipeline import Pipeline
from fvpipe.datasets.adapter import LabelTable
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.header import HeaderPolicy, ImageHeader, parse_header, pixel_header, read_header
from fvpipe.dicom.pixels import decode_image
from fvpipe.dicom.reader import open_dicom, stream
from fvpipe.errors import InputError
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import frame_level
from fvpipe.indexing.index import Source
from fvpipe.indexing.records import Records
from fvpipe.io.read import Contents
from fvpipe.io.temp_database import OnDisk
from fvpipe.progress import progress
from fvpipe.reasons import PASSING, Reason, Rejection
from fvpipe.types import Digest, ImageRecord


def read_new(source: Source, records: Records, workers: Workers, file_cache: FileCache) -> int:
    """Add every file's header, as it is remembered or read now; returns how many were read."""
    records.add(header for file in records.files.sorted() if (header := file_cache.header(file)))
    unread = records.missing(lambda path: (str(source.root), path, source.policy))
    count = len(unread)
    with progress(f"index {source.name}", count, "files") as advance:
        # Up to so many are read here sooner than two processes start and share them.
        for answers in workers.run(read_headers, unread, short=3000):
            batch = [each.rejection(each.task[1]) if isinstance(each, Crash) else each for each in answers]
            gone = [h.what for h in batch if isinstance(h, Rejection) and h.detail == os.strerror(errno.ENOENT)]
            if gone:
                raise changed_since_index(gone[0])
            file_cache.put_headers((records.files[_path(header)], header) for header in batch if not _transient(header))
            records.add(batch)
            advance(len(batch))
    return count


def read_headers(tasks: Sequence[tuple[str, str, HeaderPolicy]]) -> list[ImageRecord | Rejection]:
    """On a worker: the records of (input folder, path, policy)."""
    with silenced():
        found = [read_header(Path(root), path, policy) for root, path, policy in tasks]
    return [header.record if isinstance(header, ImageHeader) else header for header in found]


def parse_indexed(read: Contents, record: ImageRecord, policy: HeaderPolicy) -> ImageHeader | None:
    """Parse the header of a file that was indexed as `record`; None where the file is not that one any more."""
    try:
        header = parse_header(read.data, record.path, policy)
    except RejectedFile:
        return None
    return header if read.unchanged or header.record == record else None


def _path(header: ImageRecord | Rejection) -> str:
    return header.path if isinstance(header, ImageRecord) else header.what


def _transient(header: ImageRecord | Rejection) -> bool:
    return isinstance(header, Rejection) and header.reason in PASSING | {Reason.NOT_A_FILE}


def read_labels(source: Source) -> LabelTable:
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


def compare_instances(source: Source, records: Records, workers: Workers, file_cache: FileCache) -> Mapping[str, Digest]:
    """The pixel digests of files that share an SOP Instance UID; those that cannot be read become rejections."""
    files, contents = records.files, OnDisk[str, Digest]()

    def new() -> Iterator[str]:
        for record in chain.from_iterable(records.colliding()):
            known = file_cache.fact(files[record.path], "pixels")
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
                file_cache.put_headers([] if _transient(found) else [(files[path], found)])
            else:
                contents[path] = found
                file_cache.put_facts([(files[path], found)], "pixels")
    return contents


def read_pixel_digests(tasks: Sequence[tuple[str, ImageRecord, Pipeline]]) -> list[tuple[str, Digest | Rejection]]:
    """On a worker: the digests of the decoded pixels of (input folder, record), read as the pipeline does."""
    found: list[tuple[str, Digest | Rejection]] = []
    for root, record, pipeline in tasks:
        try:
            data = (Path(root) / record.path).read_bytes()
            header = pixel_header(open_dicom(stream(data)), record.laterality)
            level = frame_level((record.rows, record.columns), pipeline)
            for finer in range(level):  # a small crop may need them
                decode_image(data, header, level=finer)
            found.append((record.path, decode_image(data, header, level=level).pixel_digest))
        except RejectedFile as rejected:
            found.append((record.path, Rejection(record.path, rejected.reason, rejected.detail)))
        except OSError as error:
            found.append((record.path, Rejection.unreadable(record.path, error)))
    return found


def changed_since_index(path: str) -> InputError:
    """The error for a file that is not what the index read."""
    return InputError(
        f"{path}: is not there any more, or not what the index read. Either it changed while this ran: run it again; or the "
        "workers do not see the input folder: it must lie on storage that they share"
    )
