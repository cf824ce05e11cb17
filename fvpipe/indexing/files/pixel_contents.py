"""Digests of decoded pixels, to compare files that share an SOP Instance UID."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fvpipe.cache.file_cache import FileCache, encode_header
from fvpipe.config.formats import formats_of
from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import Pipeline
from fvpipe.datasets.source import Source
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.header import pixel_header
from fvpipe.dicom.image_header import PixelHeader
from fvpipe.dicom.raster.headers import open_image
from fvpipe.dicom.reader import open_file, stream
from fvpipe.dicom.value_mapping import ValueMapping
from fvpipe.execution.workers import Workers
from fvpipe.imaging.canvas import frame_level
from fvpipe.indexing.files.cached_values import read_values
from fvpipe.indexing.files.headers import changed_since_index, is_transient
from fvpipe.reasons import Rejection
from fvpipe.types import Digest, ImageRecord, Laterality, SourceFile


class PixelTask(NamedTuple):
    """One image whose pixels a worker decodes as a pipeline does, and digests."""

    root: str  # the input folder
    record: ImageRecord
    pipeline: Pipeline

    @property
    def path(self) -> str:
        """Path of the file, relative to the input folder."""
        return self.record.path


def read_pixel_contents(
    source: Source,
    files: Mapping[str, SourceFile],
    records: Iterable[ImageRecord],
    workers: Workers,
    file_cache: FileCache,
) -> tuple[dict[str, Digest], list[Rejection]]:
    """Digest the decoded pixels of some images, to compare files that share an SOP Instance UID.

    Returns
    -------
    contents : dict of str to Digest
        By path: of the stored values, and of the rescale or Modality LUT and the padding that give their meaning.
    rejections : list of Rejection
        Files whose pixels cannot be read.
    """
    tasks = {record.path: PixelTask(str(source.root), record, Pipeline()) for record in records}
    title = f"images of one UID in {source.name}"
    pixels, rejections = read_values(read_pixel_digests, tasks, files, workers, file_cache, kind="pixels", title=title)
    lasting = [each for each in rejections if not is_transient(each)]
    file_cache.put_headers((files[each.what], encode_header(each)) for each in lasting)
    contents = {path: _with_rescale(source, files[path], Digest(found), file_cache) for path, found in pixels.items()}
    return contents, rejections


def _with_rescale(source: Source, file: SourceFile, pixels: Digest, file_cache: FileCache) -> Digest:
    header: PixelHeader | None = file_cache.header(file)
    if header is None:
        try:
            with open_file(source.root / file.path) as opened, silenced():
                header = pixel_header(open_image(opened, source.policy.formats), Laterality.LEFT)
        except (OSError, RejectedFile):  # it was accepted a moment ago
            raise changed_since_index(file.path) from None
    return content_digest(pixels, header.mapping)


def content_digest(pixels: Digest, mapping: ValueMapping) -> Digest:
    """Digest of stored values, and of the rescale or Modality LUT and the padding that give their meaning."""
    return digest_of([pixels, repr(mapping.modality), repr(mapping.padding)])


def read_pixel_digests(tasks: Sequence[PixelTask]) -> list[tuple[str, str | Rejection]]:
    """Digest the decoded pixels of images, on a worker; paths and digests, or why an image cannot be decoded."""
    found: list[tuple[str, str | Rejection]] = []
    for root, record, pipeline in tasks:
        try:
            data = (Path(root) / record.path).read_bytes()
            # The format by which the index read it; polarity does not matter to a digest of stored values.
            header = pixel_header(open_image(stream(data), formats_of(record.transfer_syntax_uid)), record.laterality)
            level = frame_level((record.rows, record.columns), pipeline)
            for finer in range(level):  # a small crop may need them
                decode_image(data, header, level=finer)
            found.append((record.path, decode_image(data, header, level=level).pixel_digest))
        except RejectedFile as rejected:
            found.append((record.path, Rejection(record.path, rejected.reason, rejected.detail)))
        except OSError as error:
            found.append((record.path, Rejection.unreadable(record.path, error)))
    return found
