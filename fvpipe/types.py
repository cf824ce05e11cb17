"""Enums and frozen dataclasses shared by all packages. Imports the standard library alone; numpy for type checking."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from fvpipe.reasons import Flag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Digest = NewType("Digest", str)
"""A BLAKE3 digest in hexadecimal, 64 characters."""

NO_DIGEST = Digest("")  # in the place of that of a view that a breast lacks


class Laterality(StrEnum):
    """Side of the breast, as in DICOM Image Laterality (0020,0062)."""

    LEFT = "L"
    RIGHT = "R"


class View(StrEnum):
    """The two screening views of a sample, as in DICOM View Position (0018,5101)."""

    CC = "CC"
    MLO = "MLO"


VIEWS = (View.CC, View.MLO)
"""Order of the two views in every array and tuple of two."""

LABEL_NAMES = {1: "malignant", 0: "benign", -1: "unlabelled"}
"""The words for the labels of breasts."""


class Edge(StrEnum):
    """Lateral edge of an image, on which the chest wall lies."""

    LEFT = "left"
    RIGHT = "right"

    @property
    def opposite(self) -> Edge:
        """The other lateral edge."""
        return Edge.RIGHT if self is Edge.LEFT else Edge.LEFT

    @staticmethod
    def of(laterality: Laterality) -> Edge:
        """Edge of the chest wall in an upright image."""
        return Edge.LEFT if laterality is Laterality.LEFT else Edge.RIGHT


class Orientation(StrEnum):
    """How the stored pixels of an image lie, against how the standard displays it. Turns are clockwise."""

    NOT_GIVEN = "not_given"  # taken as upright
    UNKNOWN = "unknown"  # not given, and the header says that the detector's image was turned or mirrored
    UPRIGHT = "upright"
    MIRRORED = "mirrored"  # from side to side
    UPSIDE_DOWN = "upside_down"  # mirrored from top to bottom
    TURNED_180 = "turned_180"
    TURNED_90 = "turned_90"
    TURNED_270 = "turned_270"
    TRANSPOSED = "transposed"  # rows and columns exchanged
    TRANSVERSE = "transverse"  # the same, and turned by 180 degrees


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the input folder, as listed by a scan."""

    path: str  # POSIX, relative to the input folder
    state: str  # size, modification time, change time and inode
    stated_digest: str = ""  # of what label table and path say of it, where an adapter takes identity from them


@dataclass(frozen=True, slots=True)
class StatedImage:
    """Facts of one image from the label table or from its path, beside its header. Empty and None: nothing is said.

    Attributes
    ----------
    patient, study : str
        Identifiers as the records hold them: digests where the data set hashes identifiers.
    synthetic, low_energy, implant : bool
        As in :class:`ImageRecord`; each also holds where the header alone says so.
    sources : str
        Where patient, study, side and view come from, as ``ImageRecord.identity_from`` has it.
    """

    patient: str = ""
    study: str = ""
    laterality: Laterality | None = None
    view: View | None = None
    synthetic: bool = False
    low_energy: bool = False
    implant: bool = False
    sources: str = ""
    exam_day: int | None = None  # as in ImageRecord, where `patient` is stated too; it counts before the header's


NOTHING_STATED = StatedImage()  # for images of which the header alone speaks


def sources_by_fact(text: str) -> dict[str, str]:
    """Parse :attr:`StatedImage.sources` or :attr:`ImageRecord.identity_from`: path or table, by fact.

    Examples
    --------
    >>> sources_by_fact("patient path, view table"), sources_by_fact("")
    ({'patient': 'path', 'view': 'table'}, {})
    """
    return {fact: where for fact, _, where in (each.partition(" ") for each in text.split(", ") if each)}


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """Header of one DICOM file, reduced to what pairing, labelling and decoding need.

    Attributes
    ----------
    path : str
        POSIX path, relative to the input folder.
    patient_id, study, sop_instance_uid : str
        Identifiers, or their keyed digests where the data set hashes them; no `study` where all of a patient are one group.
    rows, columns : int
        Size of the image in pixels.
    row_spacing, column_spacing : float or None
        Millimeters per pixel (Imager Pixel Spacing, else Pixel Spacing); None if the header has neither.
    patient_age : str
        As in DICOM (``045Y``), ``90+`` from 90 years on, or empty.
    chest_wall : Edge or None
        Edge on which the chest wall of the upright image lies; None if the header has no Patient Orientation.
    orientation : Orientation
        How the stored pixels lie; `rows`, `columns` and the spacings are those of the stored pixels.
    synthetic, low_energy : bool
        A 2D image computed from tomosynthesis; the low-energy image of a contrast-enhanced exam.
    accession, study_date, person, series : str
        Digests, compared and written to no table: of the Accession Number; of year and day of the Study Date; of birth date,
        sex, issuer and identifier (``birth:``, ...); of the series, with side and view by its description. Separated by spaces.
    exam_day : int or None
        Day of the exam, shifted by days that the patient and the identifier key decide: it orders the exams of a patient.
    identity_from : str
        Where patient, study, side and view come from, such as ``patient path, view table``; empty where all are the header's.
    """

    path: str
    patient_id: str
    study: str
    sop_instance_uid: str
    laterality: Laterality
    view: View
    rows: int
    columns: int
    bits_stored: int
    photometric_interpretation: str
    transfer_syntax_uid: str
    row_spacing: float | None
    column_spacing: float | None
    manufacturer: str
    patient_age: str
    chest_wall: Edge | None
    orientation: Orientation
    implant: bool
    implant_displaced: bool
    synthetic: bool
    low_energy: bool
    overlay: bool
    shutter: bool
    for_processing: bool
    accession: str = field(default="", kw_only=True)
    study_date: str = field(default="", kw_only=True)
    exam_day: int | None = field(default=None, kw_only=True, compare=False)  # rows of other images count, too
    person: str = field(default="", kw_only=True)
    series: str = field(default="", kw_only=True)
    identity_from: str = field(default="", kw_only=True, compare=False)

    @property
    def stated(self) -> StatedImage:
        """The statements of label table and path, to read the header once more."""
        if not self.identity_from:
            return NOTHING_STATED if self.exam_day is None else replace(NOTHING_STATED, exam_day=self.exam_day)
        kind = self.synthetic, self.low_energy, self.implant
        return StatedImage(self.patient_id, self.study, self.laterality, self.view, *kind, self.identity_from, self.exam_day)

    @property
    def identity_sources(self) -> dict[str, str]:
        """The sources of `identity_from`, path or table by fact; a fact that is not there is the header's."""
        return sources_by_fact(self.identity_from)

    @property
    def kind(self) -> tuple[bool, bool, bool, bool]:
        """Kind of the image: only images of one kind pair, and the kinds sort as they are preferred."""
        return self.for_processing, self.synthetic, self.low_energy, self.implant_displaced

    @property
    def reoriented(self) -> bool:
        """Whether decoding turns or mirrors the stored pixels."""
        return self.orientation not in (Orientation.NOT_GIVEN, Orientation.UNKNOWN, Orientation.UPRIGHT)

    @property
    def upright_spacing(self) -> tuple[float | None, float | None]:
        """Millimeters per pixel of the upright image, down and across."""
        turned = {Orientation.TRANSPOSED, Orientation.TURNED_90, Orientation.TURNED_270, Orientation.TRANSVERSE}
        down, across = self.row_spacing, self.column_spacing
        return (across, down) if self.orientation in turned else (down, across)

    @property
    def orientation_unknown(self) -> bool:
        """Whether the pixels may be turned or mirrored, and the header does not say how."""
        return self.orientation is Orientation.UNKNOWN


@dataclass(frozen=True, slots=True)
class Exam:
    """The exam that a row of a label table describes, as the table names it; what is empty is not compared.

    Attributes
    ----------
    study : str
        Study Instance UID.
    accession : str
        Accession Number.
    date : str
        Study Date, ``YYYYMMDD``, or its year ``YYYY``.
    """

    study: str = ""
    accession: str = ""
    date: str = ""


@dataclass(frozen=True, slots=True, order=True)
class BreastKey:
    """One breast of one patient, in one study if the data set keeps studies apart."""

    dataset: str
    patient: str
    study: str
    laterality: Laterality

    @property
    def breast_id(self) -> str:
        """Identifier of the breast within its data set, used by shards, tables and splits."""
        return "_".join(part for part in (self.patient, self.study, self.laterality.value) if part)


@dataclass(frozen=True, slots=True)
class BreastFacts:
    """Labels and metadata of a breast from the label table and the headers. None and empty mean unknown.

    Attributes
    ----------
    label : int
        1 malignant, 0 benign, -1 unlabelled.
    bi_rads : int or None
        Assessment category.
    density, age, pathology, subset, subtype, machine : str
        As in ``breasts.csv``; `subset` is the split that was published with the data set.
    excluded : str
        Reason why the label rule excludes the breast; empty if it does not.
    place : str
        Table and line, as `Row.place` gives them, for messages.
    pending : bool
        Left out, and pathology at a later exam may decide.
    severity : int
        Place of the pathology among those that a declaration lists, the worst first; 0 where it lists none.
    targets : tuple of (str, str)
        Name and value of the known facts that the declaration adds, sorted.
    """

    label: int = -1
    bi_rads: int | None = None
    density: str = ""
    age: str = ""
    pathology: str = ""
    subset: str = ""
    excluded: str = ""
    place: str = field(default="", compare=False)
    subtype: str = ""
    machine: str = ""
    pending: bool = field(default=False, compare=False)
    severity: int = field(default=0, compare=False)
    targets: tuple[tuple[str, str], ...] = ()


BREAST_FACTS = ("bi_rads", "density", "age", "pathology", "subset", "subtype", "machine")
"""Facts of :class:`BreastFacts` beside the label, each empty or None where it is not known."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Bounding box that a radiologist drew on one image.

    Attributes
    ----------
    category : str
        Kind of finding, as in the label table.
    bi_rads : int or None
        Assessment category of the finding.
    top, bottom, left, right : float
        Edges in source pixels, as in the label table.
    outline : tuple of (float, float)
        Points (row, column) of the lesion's outline, where one was drawn.
    """

    category: str
    bi_rads: int | None
    top: float
    bottom: float
    left: float
    right: float
    outline: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Breast:
    """One breast with its views; None for a view that it lacks, or that a pipeline of the other view does without."""

    key: BreastKey
    cc: ImageRecord | None
    mlo: ImageRecord | None
    facts: BreastFacts = field(default_factory=BreastFacts)
    findings: tuple[tuple[Finding, ...], tuple[Finding, ...]] = ((), ())  # readers' boxes on CC and MLO

    @property
    def views(self) -> tuple[ImageRecord | None, ImageRecord | None]:
        """CC and MLO, in the order of :data:`VIEWS`."""
        return self.cc, self.mlo

    @property
    def images(self) -> tuple[ImageRecord, ...]:
        """The one or two images that it has."""
        return tuple(image for image in self.views if image is not None)

    def only(self, view: View) -> Breast:
        """The same breast with one of its views."""
        if view is View.CC:
            return replace(self, mlo=None, findings=(self.findings[0], ()))
        return replace(self, cc=None, findings=((), self.findings[1]))

    def without(self, paths: Collection[str], needed: Sequence[View]) -> Breast | None:
        """The same breast without its images at `paths`; None where a view that is needed is not left."""
        left = [image.view for image in self.images if image.path not in paths]
        return self.only(left[0]) if left == list(needed) and len(left) == 1 else None


@dataclass(frozen=True, slots=True)
class CropBox:
    """Half-open rectangle in pixels: ``image[top:bottom, left:right]``.

    Examples
    --------
    >>> box = CropBox(top=100, bottom=900, left=0, right=600)
    >>> box.height, box.width
    (800, 600)
    >>> box.as_tuple()
    (100, 900, 0, 600)
    """

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Number of rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Number of columns."""
        return self.right - self.left

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(top, bottom, left, right), the order of the shard's ``crop_box``."""
        return self.top, self.bottom, self.left, self.right

    def expanded(self, margin: int, rows: int, columns: int) -> CropBox:
        """Expand by `margin` pixels on each side, clipped to an image of `rows` x `columns`."""
        return CropBox(
            max(self.top - margin, 0),
            min(self.bottom + margin, rows),
            max(self.left - margin, 0),
            min(self.right + margin, columns),
        )

    @staticmethod
    def whole(rows: int, columns: int) -> CropBox:
        """Box of a whole image."""
        return CropBox(0, rows, 0, columns)


@dataclass(frozen=True, slots=True)
class FusedSample:
    """Training image of one breast and its geometry: all that the pixels determine, without labels.

    Attributes
    ----------
    image : uint16, uint8 or float32 array, shape (H, W) or (C, H, W)
        Fused image; multiplied by :data:`SCALES` of its dtype it lies in [0, 1].
    boxes : int32 array, shape (2, 4)
        Crop boxes of CC and MLO: top, bottom, left, right in source pixels of the upright image; 0 for a view that the
        breast lacks.
    source_shape : int32 array, shape (2, 2)
        Rows and columns of both source images, upright; 0 for a view that the breast lacks.
    placement : float32 array, shape (2, 4)
        Top, bottom, left, right of each crop in pixels of `image`; left > right if mirrored; -1 for a view that is not
        in the image.
    intensity_range : float32 array, shape (2,), or (2, 2) if each view is normalized by itself
        Values that became 0 and 1.
    breast_area : float32 array, shape (2,)
        Area inside the outline of CC and MLO in source pixels; NaN for a view that was not segmented, or is lacking.
    breast_mean : float32 array, shape (2,)
        Mean value inside the outline of CC and MLO, normalized by `intensity_range`; NaN for a view that was not segmented.
    source_digests, pixel_digests : (Digest, Digest)
        Digests of both files, and of their decoded stored values; empty for a view that the breast lacks.
    flags : Flag
        Flags of the sample.
    warp_rows, warp_columns, warp_widths : float64 array, shape (2, n), or None
        Equal-area warps of CC and MLO, as :class:`fvpipe.shards.coordinates.Coordinates` has them; NaN for a view that is not
        warped, None for a pipeline without warps.
    """

    image: NDArray[np.uint16] | NDArray[np.uint8] | NDArray[np.float32]
    boxes: NDArray[np.int32]
    source_shape: NDArray[np.int32]
    placement: NDArray[np.float32]
    intensity_range: NDArray[np.float32]
    breast_area: NDArray[np.float32]
    breast_mean: NDArray[np.float32]
    source_digests: tuple[Digest, Digest]
    pixel_digests: tuple[Digest, Digest]
    flags: Flag
    warp_rows: NDArray[np.float64] | None = None
    warp_columns: NDArray[np.float64] | None = None
    warp_widths: NDArray[np.float64] | None = None


SCALES = {"uint16": 1 / 65535, "uint8": 1 / 255, "float32": 1.0}
"""Factor that brings the pixels of a sample to [0, 1], by dtype."""
