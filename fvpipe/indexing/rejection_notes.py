"""Key Object notes by which an archive rejects images (IHE IOCM): the images that they list are left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fvpipe.datasets.source import Source
from fvpipe.dicom.elements import RejectedFile, items, silenced, text
from fvpipe.dicom.reader import open_dicom, open_file
from fvpipe.indexing.headers import changed_since_index
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord


def noted_rejections(source: Source, headers: Mapping[str, ImageRecord | Rejection]) -> Iterator[Rejection]:
    """Reject the images that notes in the input folder list.

    Parameters
    ----------
    source : Source
        The data set; the notes are read again.
    headers : mapping of str to ImageRecord or Rejection
        By path.

    Raises
    ------
    InputError
        A note is not what the index read.
    """
    notes = [path for path, each in headers.items() if isinstance(each, Rejection) and each.reason is Reason.REJECTION_NOTE]
    listed = {source.policy.identifier("instance", uid): note for note in notes for uid in _instances(source, note)}
    for path, record in headers.items() if listed else ():
        if isinstance(record, ImageRecord) and (note := listed.get(record.sop_instance_uid)):
            yield Rejection(path, Reason.IMAGE_KIND_REFUSED, f"a rejected exposure, by the Key Object note {note}")


def _instances(source: Source, note: str) -> Iterator[str]:
    """SOP Instance UIDs that a note refers to, as they were published."""
    try:
        with open_file(source.root / note) as file, silenced():
            for study in items(open_dicom(file).dataset, "CurrentRequestedProcedureEvidenceSequence"):
                for series in items(study, "ReferencedSeriesSequence"):
                    yield from (text(image, "ReferencedSOPInstanceUID") for image in items(series, "ReferencedSOPSequence"))
    except (OSError, RejectedFile):  # it was read a moment ago
        raise changed_since_index(note) from None
