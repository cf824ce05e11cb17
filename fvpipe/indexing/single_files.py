"""Single files outside an index, as for `fvpipe inspect`: how the header of one is read, and what contradicts it there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.labels.breast_labels import BreastLabels
from fvpipe.indexing.labels.contradictions import contradictions
from fvpipe.reasons import Rejection
from fvpipe.types import NOTHING_STATED, ImageRecord, StatedImage


@dataclass(frozen=True, slots=True)
class Reading:
    """How the header of one file is read, outside an index.

    Attributes
    ----------
    policy : HeaderPolicy
        Of its data set.
    stated : StatedImage
        What label table and path say.
    rejection : Rejection or None
        Why they leave the image out.
    dataset : str
        Name of the project's data set that holds the file; empty where none does.
    path : str
        Of the file, below the input folder; empty where there is none.
    labels : BreastLabels
        The data set's label tables, the same for all its files.
    """

    policy: HeaderPolicy
    stated: StatedImage = NOTHING_STATED
    rejection: Rejection | None = None
    dataset: str = ""
    path: str = ""
    labels: BreastLabels = field(default_factory=BreastLabels, repr=False)


def contradicted(records: Iterable[ImageRecord], readings: Mapping[str, Reading]) -> Iterator[Rejection]:
    """Reject records as an index of their files alone would: for the label tables, and for each other.

    Parameters
    ----------
    records : iterable of ImageRecord
        Their paths are keys of `readings`, and need not be those below the input folder.
    readings : mapping of str to Reading
        Of these files, and perhaps of others.
    """
    records = list(records)
    policy = readings[records[0].path].policy if records else HeaderPolicy()  # the files are of one data set
    yield from contradictions(records, BreastLabels(policy=policy))
    for labels in {id(each.labels): each.labels for each in readings.values()}.values():
        given = {readings[record.path].path: record for record in records if readings[record.path].labels is labels}
        for rejection in contradictions([replace(record, path=path) for path, record in given.items()], labels):
            yield replace(rejection, what=given[rejection.what].path)
