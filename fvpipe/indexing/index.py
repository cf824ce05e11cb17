"""The data set to read, and everything that its headers and label table say."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.indexing.records import Records
from fvpipe.reasons import Rejection
from fvpipe.types import Breast, BreastFacts, BreastKey, Digest, ImageRecord, SourceFile


@dataclass(frozen=True, slots=True)
class Source:
    """One data set to read.

    Attributes
    ----------
    name : str
    root : Path
        The input folder.
    adapter : Adapter
    label_file : Path or None
        Where its label table is not in the published place.
    labels : Labels
        Label rules.
    simulated : bool
        Simulated data.
    for_processing : bool
        Raw images are read too.
    identifier_key : bytes
        Key of the digests that replace identifiers; empty: they are kept.
    license : str
    """

    name: str
    root: Path
    adapter: Adapter
    label_file: Path | None
    labels: Labels
    simulated: bool
    for_processing: bool
    identifier_key: bytes
    license: str

    @property
    def policy(self) -> HeaderPolicy:
        """How to read its headers."""
        return replace(self.adapter.policy, for_processing=self.for_processing, identifier_key=self.identifier_key)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Everything that the headers and the label table of a data set say. Sorted; every file is accounted for.

    Files, images, breasts and rejections lie on disk, and are made again each time they are asked for.
    """

    source: Source
    labels: LabelTable
    records: Records
    state: Digest  # of the whole input folder, as its listing saw it
    ignored: int
    read: int  # headers that were read now; the others were remembered

    @property
    def files(self) -> Mapping[str, SourceFile]:
        """By path."""
        return self.records.files

    @property
    def images(self) -> Collection[ImageRecord]:
        """Sorted by path."""
        return self.records.images

    @property
    def breasts(self) -> Collection[Breast]:
        """Sorted by key."""
        return self.records.breasts(self._breast)

    @property
    def rejections(self) -> Collection[Rejection]:
        """Sorted by what, reason, detail."""
        return self.records.rejections

    def key(self, image: ImageRecord) -> BreastKey:
        """Whose image it is."""
        return BreastKey(self.source.name, image.patient_id, image.study, image.laterality)

    def _breast(self, cc: ImageRecord, mlo: ImageRecord) -> Breast:
        key = self.key(cc)
        return Breast(key, cc, mlo, self.labels.rows.get((key.patient, key.laterality), BreastFacts()))
