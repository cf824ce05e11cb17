"""Key Object documents by which an archive rejects images (IHE IOCM): the images that they list are left out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fvpipe.dicom.elements import RejectedFile, items, silenced, text
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import open_dicom, open_file
from fvpipe.indexing.files.headers import changed_since_index
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import ImageRecord


def rejected_by_key_objects(
    root: Path, policies: Collection[HeaderPolicy], headers: Mapping[str, ImageRecord | Rejection]
) -> Iterator[Rejection]:
    """Reject the images that notes among the files list.

    Parameters
    ----------
    root : Path
        The input folder; the notes are read again.
    policies : collection of HeaderPolicy
        How headers are read.
    headers : mapping of str to ImageRecord or Rejection
        By path.

    Raises
    ------
    InputError
        A note is not what the index read.
    """
    notes = [path for path, each in headers.items() if isinstance(each, Rejection) and each.reason is Reason.REJECTION_NOTE]
    listed = {
        policy.identifier("instance", uid): note for note in notes for uid in _instances(root / note) for policy in policies
    }
    for path, record in headers.items() if listed else ():
        if isinstance(record, ImageRecord) and (note := listed.get(record.sop_instance_uid)):
            yield Rejection(path, Reason.IMAGE_KIND_REFUSED, f"a rejected exposure, by the Key Object note {note}")


def _instances(note: Path) -> Iterator[str]:
    """SOP Instance UIDs that a note refers to, as they were published."""
    try:
        with open_file(note) as file, silenced():
            for study in items(open_dicom(file).dataset, "CurrentRequestedProcedureEvidenceSequence"):
                for series in items(study, "ReferencedSeriesSequence"):
                    yield from (text(image, "ReferencedSOPInstanceUID") for image in items(series, "ReferencedSOPSequence"))
    except (OSError, RejectedFile):  # it was read a moment ago
        raise changed_since_index(note.name) from None
