"""The contents of a data set's headers and label table, as one value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fvpipe.datasets.source import Source
from fvpipe.indexing.pairing import Unpaired, breasts_of_views
from fvpipe.reasons import Rejection
from fvpipe.types import Breast, BreastFacts, Digest, ImageRecord, SourceFile, View


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Paths of regular files that are neither read nor rejected, each sorted.

    Attributes
    ----------
    others : tuple of str
        Hidden files and folders, and files that are not DICOM by name and first bytes (tables, readmes).
    archives : tuple of str
        Archives, which are not unpacked.
    directories : tuple of str
        DICOMDIR files, which list the files of a medium.
    images : tuple of str
        Images of formats that the data set does not state.
    """

    others: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    images: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.others) + len(self.archives) + len(self.directories) + len(self.images)

    def describe(self) -> Iterator[str]:
        """Make one line for each kind, with up to three names."""
        for paths, what in (
            (self.images, "image file(s) of a format that the data set does not state (`formats`)"),
            (self.others, "other file(s), which are hidden or no image by name and first bytes"),
            (self.archives, "archive(s), which are not looked into: unpack them where they hold images"),
            (self.directories, "DICOMDIR file(s), which list a medium's files and hold no image"),
        ):
            if paths:
                names = ", ".join("".join(c if c.isprintable() else "?" for c in path) for path in paths[:3])
                yield f"{len(paths)} {what}: {names}{', ...' if len(paths) > 3 else ''}"


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Images, breasts and rejections of one data set; every file is accounted for.

    Attributes
    ----------
    source : Source
        The data set.
    files : mapping of str to SourceFile
        Files that could be images, by path; empty where the input folder is not at hand.
    images : sequence of ImageRecord
        Images that can be read, sorted by path.
    facts : mapping of str to BreastFacts
        By path of each image, the label table's facts of its breast.
    breasts : sequence of Breast
        Pairs of CC and MLO, sorted by key; from :meth:`of_views` the breasts of a pipeline.
    unpaired : sequence of Unpaired
        Breasts whose images are not a pair, sorted by key; a pipeline of one view builds those that have it.
    exam_order : mapping of (str, str) to int
        By patient and study: 1, 2, ... by date, of patients with several exams whose dates are all known.
    labels_unmatched : bool
        Whether there is a label table, and none of its rows describes an image.
    rejections : sequence of Rejection
        Sorted by what, reason and detail.
    digests : mapping of str to Digest, or None
        BLAKE3 of the file of each image, by path; None where the files were not digested.
    has_findings : bool
        Whether the data set has readers' boxes at all, on these breasts or on others.
    passed_over : PassedOver
        Files of the input folder that are neither read nor rejected.
    label_hints : sequence of str
        Details of those rejections of the label table that the user should see, such as rows that seem to be misspelled.
    notes : sequence of str
        What else the user should see, and no rejection says, such as boxes that reach beyond their image.
    headers_read : int
        Headers that were read now; the others came from the file cache.
    """

    source: Source
    files: Mapping[str, SourceFile]
    images: Sequence[ImageRecord]
    facts: Mapping[str, BreastFacts]
    breasts: Sequence[Breast]
    rejections: Sequence[Rejection]
    digests: Mapping[str, Digest] | None
    has_findings: bool
    unpaired: Sequence[Unpaired] = ()
    exam_order: Mapping[tuple[str, str], int] = field(default_factory=dict)
    labels_unmatched: bool = False
    passed_over: PassedOver = field(default_factory=PassedOver)
    label_hints: Sequence[str] = ()
    notes: Sequence[str] = ()
    headers_read: int = 0

    @property
    def unpaired_breasts(self) -> list[Breast]:
        """Breasts without a pair that a pipeline of one view may build: those that the label table does not leave out."""
        return [each.breast for each in self.unpaired if not each.label_rejection]

    @property
    def all_breasts(self) -> Sequence[Breast]:
        """Pairs and :attr:`unpaired_breasts`, sorted by key."""
        others = self.unpaired_breasts
        return sorted([*self.breasts, *others], key=lambda breast: breast.key) if others else self.breasts

    def of_views(self, views: Sequence[View]) -> Index:
        """The index as a pipeline that shows `views` takes it: its breasts and its rejections."""
        breasts, rejections = breasts_of_views(views, self.breasts, self.unpaired, self.rejections, self.images)
        return replace(self, breasts=breasts, unpaired=(), rejections=rejections)
