"""Headers and digests of the files that are new or changed, read on the workers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, cast

from fvpipe.cache.file_cache import EncodedHeader, FileCache, decode_record, encode_header
from fvpipe.datasets.source import Source
from fvpipe.dicom.elements import RejectedFile, silenced, text
from fvpipe.dicom.header import parse_header, read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.raster.headers import open_image
from fvpipe.dicom.reader import open_file
from fvpipe.errors import InputError
from fvpipe.execution.isolation import Crash
from fvpipe.execution.workers import Workers
from fvpipe.io.read import Contents, read_contents
from fvpipe.progress import progress
from fvpipe.reasons import PASSING, Reason, Rejection
from fvpipe.types import NOTHING_STATED, Digest, ImageRecord, SourceFile, StatedImage


class FileTask(NamedTuple):
    """One file whose header a worker reads, and whose bytes it digests if `digest` is set."""

    root: Path
    file: SourceFile
    policy: HeaderPolicy
    digest: bool
    stated: StatedImage = NOTHING_STATED


class FileResult(NamedTuple):
    """Header of one file, and the digest of its bytes where it was asked for."""

    path: str
    header: EncodedHeader
    digest: Digest | None = None


def read_headers(
    source: Source,
    files: Mapping[str, SourceFile],
    workers: Workers,
    file_cache: FileCache,
    digest: bool,
    stated: Mapping[str, StatedImage] = MappingProxyType({}),
) -> tuple[dict[str, ImageRecord | Rejection], dict[str, Digest], int]:
    """Read the headers that the file cache does not hold.

    Parameters
    ----------
    files : mapping of str to SourceFile
        Files that could be images, by path.
    workers : Workers
        Where files are read.
    file_cache : FileCache
        Takes the new headers and digests.
    digest : bool
        Also digest each image's file, unless the file cache holds its digest.
    stated : mapping of str to StatedImage
        By path, what label table and path say of images.

    Returns
    -------
    headers : dict of str to ImageRecord or Rejection
        By path, in the order of `files`.
    digests : dict of str to Digest
        Of the files of images, by path, if `digest` is set.
    count : int
        Headers that were read now.

    Raises
    ------
    InputError
        A file vanished or changed while it was read.
    """
    headers: dict[str, ImageRecord | Rejection | None] = {path: file_cache.record(file) for path, file in files.items()}
    digests = {path: known for path, file in files.items() if digest and (known := file_cache.digest(file))}

    def is_known(path: str) -> bool:
        header = headers[path]
        return isinstance(header, Rejection) or (header is not None and (not digest or path in digests))

    root, policy, new = source.root, source.policy, [path for path in files if not is_known(path)]
    tasks = (FileTask(root, files[path], policy, digest, stated.get(path, NOTHING_STATED)) for path in new)
    with progress(f"index {source.name}", len(new), "files") as advance:
        for answers in workers.run(read_files, tasks, len(new), max_in_process=512):
            results = [_of_crash(each) if isinstance(each, Crash) else each for each in answers]
            found = {result.path: decode_record(files[result.path].path, result.header.record) for result in results}
            headers.update(found)  # whose keys are there, so that half a million paths are not held twice
            digests.update((files[result.path].path, result.digest) for result in results if result.digest)
            file_cache.put_headers(
                ((files[result.path], result.header) for result in results if not is_transient(found[result.path])),
                ((files[result.path], result.digest) for result in results if result.digest),
            )
            advance(len(answers))
    return cast(dict[str, ImageRecord | Rejection], headers), digests, len(new)  # each has its answer


def read_files(tasks: Sequence[FileTask]) -> list[FileResult]:
    """Read headers, and digest files, on a worker."""
    with silenced():
        return [_read_file(task) for task in tasks]


def parse_indexed(
    read: Contents,
    record: ImageRecord,
    policy: HeaderPolicy,
    digest: Digest | None = None,
    header: ImageHeader | None = None,
) -> ImageHeader | None:
    """Take or parse the header of a file that was indexed as `record`; None where the file is not that one any more.

    Parameters
    ----------
    record : ImageRecord
        From the index.
    digest : Digest or None
        Of the file, where the index digested it.
    header : ImageHeader or None
        As the index parsed it, if it is at hand: where these are the same bytes it is not parsed again.
    """
    if digest is not None and digest != read.digest:
        return None
    if header is None or not (read.unchanged or digest):
        try:
            header = parse_header(read.data, record.path, policy, record.stated)
        except RejectedFile:
            return None
    return header if header.record == record else None


def _read_file(task: FileTask) -> FileResult:
    root, path = task.root, task.file.path
    header = read_header(root, path, task.policy, task.stated)
    if isinstance(header, Rejection):
        if header.reason is Reason.FILE_UNREADABLE and not (root / path).exists():
            raise changed_since_index(path)
        return FileResult(path, encode_header(header))
    if not task.digest:
        return FileResult(path, encode_header(header))
    try:
        contents = read_contents(root / path, task.file.state)
    except OSError as error:
        return FileResult(path, encode_header(Rejection.unreadable(path, error)))
    if not contents.unchanged:
        raise changed_since_index(path)
    return FileResult(path, encode_header(header), contents.digest)


def _of_crash(crash: Crash[FileTask]) -> FileResult:
    path = crash.task.file.path
    return FileResult(path, encode_header(crash.rejection(path)))


def is_transient(header: object) -> bool:
    """Whether a rejection may be gone the next time though nobody touched the file: it is not cached."""
    return isinstance(header, Rejection) and header.reason in PASSING | {Reason.NOT_A_FILE}


def read_published_uids(source: Source, paths: Iterable[str]) -> dict[str, str]:
    """Read SOP Instance UIDs again, by path, where the records hold keyed digests of them; nothing where they hold them."""
    policy = source.policy
    return {path: published_uid(source.root, path, policy) for path in paths} if policy.identifier_key else {}


def published_uid(root: Path, path: str, policy: HeaderPolicy) -> str:
    """Read the SOP Instance UID of an accepted file as it was published, where `policy` hashes it.

    Raises
    ------
    InputError
        The file is not what was accepted.
    """
    try:
        with open_file(root / path) as file, silenced():
            return text(open_image(file, policy.formats).dataset, "SOPInstanceUID")
    except (OSError, RejectedFile):  # it was accepted a moment ago
        raise changed_since_index(path) from None


def changed_since_index(path: str) -> InputError:
    """Make the error for a file that is not what the index read."""
    return InputError(
        f"{path}: is not there any more, or not what the index read. Either it changed since: run `fvpipe index` again; or "
        "the workers do not see the input folder: it must lie on storage that they share"
    )
