"""What a run is asked to do, and what it found: the values that the stages hand to each other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fvpipe.config.pipeline import Pipeline
from fvpipe.config.project import Labels
from fvpipe.datasets.adapter import Adapter, LabelTable
from fvpipe.dicom.header import HeaderPolicy
from fvpipe.reasons import Rejection
from fvpipe.records import Records
from fvpipe.shards.format import Receipt
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
    made : bool
        Made data.
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
    made: bool
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


@dataclass(frozen=True, slots=True)
class Target:
    """Where one pipeline's shards of one data set go.

    Attributes
    ----------
    dataset, pipeline_name : str
    pipeline : Pipeline
    out : Path
        The shard folder.
    build_file : Path
        Versions, host and timings of the last build; not part of the output.
    lock_file : Path
    with_images : bool
        Also write ``images.csv`` into the folder.
    shard_count : int
    """

    dataset: str
    pipeline_name: str
    pipeline: Pipeline
    out: Path
    build_file: Path
    lock_file: Path
    with_images: bool = False
    shard_count: int = 16


@dataclass(frozen=True, slots=True)
class Limits:
    """When a build that ran is not to be trusted. None: no limit.

    Attributes
    ----------
    max_fallback : float
        Percent of breasts with a view that was not cropped; more than this and more than 10 fail the build.
    max_rejected : float or None
        Percent of refused files and breasts (those that a label rule leaves out not counted).
    """

    max_fallback: float = 2.0
    max_rejected: float | None = None


@dataclass(frozen=True, slots=True)
class Build:
    """What a build did.

    Attributes
    ----------
    receipt : Receipt
    rejections : tuple of Rejection
    computed, reused : int
        Samples that were made now; that came from the store or were already in place.
    written : int
        Shards that were written.
    seconds : float
        That it took.
    steps : mapping of str to float
        Seconds of all workers together on each step of the samples that were made now.
    files : mapping of str to str
        The state of each file of the shard folder, and of the build file, as this build left it.
    """

    receipt: Receipt
    rejections: tuple[Rejection, ...]
    computed: int
    reused: int
    written: int
    seconds: float
    steps: Mapping[str, float]
    files: Mapping[str, str]
