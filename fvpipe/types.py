"""The nouns: enums and frozen dataclasses that the modules hand to each other. Standard library only; numpy for its types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

from fvpipe.reasons import NO_FLAG, Flag

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


Digest = NewType("Digest", str)
"""A BLAKE3 digest in hexadecimal, 64 characters."""


class Laterality(StrEnum):
    """The side of the breast, as in DICOM Image Laterality (0020,0062)."""

    LEFT = "L"
    RIGHT = "R"


class View(StrEnum):
    """The two screening projections that make a sample, as in DICOM View Position (0018,5101)."""

    CC = "CC"
    MLO = "MLO"


VIEWS = (View.CC, View.MLO)
"""The order of the two views in every pair of numbers that fvpipe writes."""


class Edge(StrEnum):
    """The lateral edge of an image on which the chest wall lies."""

    LEFT = "left"
    RIGHT = "right"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the input folder as it is now."""

    path: str  # POSIX, relative to the input folder
    state: str  # size, modification time, change time and inode


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """What the header of one DICOM file says, as far as pairing and labelling need it. No pixels.

    Attributes
    ----------
    path : str
        POSIX path relative to the input folder.
    patient_id, study, sop_instance_uid : str
        Identifiers, or keyed digests of them where the data set hashes identifiers. `study` is empty where the
        data set groups a patient's images whatever their study.
    rows, columns : int
        Pixels.
    row_spacing, column_spacing : float or None
        Millimetres a pixel (Imager Pixel Spacing, else Pixel Spacing).
    chest_wall : Edge or None
        The edge that Patient Orientation puts the chest wall on; None where it says nothing.
    patient_age : str
        ``045Y`` form, ``90+`` from 90 years on, or empty.
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
    implant: bool
    implant_displaced: bool
    synthetic: bool
    overlay: bool
    shutter: bool
    for_processing: bool


@dataclass(frozen=True, slots=True, order=True)
class BreastKey:
    """One breast of one patient, in one study where studies are kept apart."""

    dataset: str
    patient: str
    study: str
    laterality: Laterality

    @property
    def breast_id(self) -> str:
        """The id of the breast within its data set: what shards, tables and splits call it."""
        return "_".join(part for part in (self.patient, self.study, self.laterality.value) if part)


@dataclass(frozen=True, slots=True)
class BreastFacts:
    """What is known of a breast from outside its pixels. None and empty mean unknown."""

    label: int = -1  # 1 malignant, 0 benign, -1 unlabelled
    bi_rads: int | None = None
    density: str = ""
    age: str = ""
    pathology: str = ""
    subset: str = ""  # the data set's own split
    excluded: str = ""  # why the label rule leaves the breast out; empty: it does not


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a label table says of one image, to be compared with its header. None means that it says nothing.

    `line` is the row of the table.
    """

    line: int
    laterality: Laterality | None = None
    view: View | None = None
    rows: int | None = None
    columns: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A reader's box on one image, in source pixels (edges, as the label table gives them)."""

    category: str
    bi_rads: int | None
    top: float
    bottom: float
    left: float
    right: float


@dataclass(frozen=True, slots=True)
class Region:
    """A lesion that a mask outlines on the film of the same patient, side and view.

    `number` tells the lesions of a film apart; `rows` and `columns` are the mask's, which must be the film's.
    """

    patient_id: str
    laterality: Laterality
    view: View
    number: int
    rows: int
    columns: int
    box: CropBox


@dataclass(frozen=True, slots=True)
class Breast:
    """A pair of views, the unit of everything that follows."""

    key: BreastKey
    cc: ImageRecord
    mlo: ImageRecord
    facts: BreastFacts = field(default_factory=BreastFacts)

    @property
    def views(self) -> tuple[ImageRecord, ImageRecord]:
        """The two images in the order of :data:`VIEWS`."""
        return self.cc, self.mlo


@dataclass(frozen=True, slots=True)
class CropBox:
    """A rectangle in source pixels, half-open: ``image[top:bottom, left:right]``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    def as_tuple(self) -> tuple[int, int, int, int]:
        """In the order of the shard's ``crop_box``: top, bottom, left, right."""
        return self.top, self.bottom, self.left, self.right

    def grown(self, margin: int, rows: int, columns: int) -> CropBox:
        """The box with `margin` pixels more on each side, cut at the frame of `rows` x `columns`."""
        return CropBox(
            max(self.top - margin, 0),
            min(self.bottom + margin, rows),
            max(self.left - margin, 0),
            min(self.right + margin, columns),
        )

    @staticmethod
    def whole(rows: int, columns: int) -> CropBox:
        """The whole frame."""
        return CropBox(0, rows, 0, columns)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """The pixels of one image, undecided: stored integers, and what each stored value means.

    Everything that DICOM does to a value (sign, rescale, Modality LUT, window, VOI LUT, MONOCHROME1) is a function of
    the stored value alone, and there are at most 65,536 of those. So it is applied to a table and never to an image:
    exact, and no full-size float array is ever made.

    An image may have been decoded at a fraction of its resolution. Then `stored` and its `shape` are smaller, and all that
    is said of places elsewhere (boxes, `source_shape`) stays in source pixels: stored pixel i stands at source pixel
    i * `scale`, in the middle of what it covers, so that the edge before it lies at (i - 1/2) * `scale` + 1/2.

    Attributes
    ----------
    stored : uint8 or uint16, (rows, columns)
        Indices into `values`. Signed data is offset so that the order is kept.
    values : float64, (2 ** bits_stored,)
        The meaning of each index; larger is brighter tissue.
    padding : bool, (2 ** bits_stored,), or None
        True for indices that are Pixel Padding; None where the header declares none.
    direction : int
        1 where `values` never falls from one index to the next, -1 where it never rises (then the extreme indices have
        the extreme values), 0 otherwise.
    chest_wall : Edge
        Where the chest wall should lie.
    source_digest, pixel_digest : Digest
        Of the file, and of the decoded stored pixels.
    scale : int
        Source pixels a stored pixel: a power of two, 1 for an image that was decoded whole.
    source_shape : (int, int)
        Rows, columns of the source.
    """

    stored: NDArray[np.uint8] | NDArray[np.uint16]
    values: NDArray[np.float64]
    padding: NDArray[np.bool_] | None
    direction: int
    chest_wall: Edge
    source_digest: Digest
    pixel_digest: Digest
    source_shape: tuple[int, int]
    scale: int = 1
    flags: Flag = NO_FLAG

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, columns of `stored`."""
        rows, columns = self.stored.shape
        return int(rows), int(columns)

    def in_source(self, box: CropBox) -> CropBox:
        """A box in stored pixels as one in source pixels; the frame's edge stays the frame's edge.

        An edge of a smaller image lies on half a source pixel. It is rounded inwards: a stored pixel that is in part
        background counted as breast.
        """
        if self.scale == 1:
            return box
        (rows, columns), half = self.source_shape, self.scale // 2
        return CropBox(
            self.scale * box.top - half + 1 if box.top else 0,
            self.scale * box.bottom - half if box.bottom < self.shape[0] else rows,
            self.scale * box.left - half + 1 if box.left else 0,
            self.scale * box.right - half if box.right < self.shape[1] else columns,
        )


@dataclass(frozen=True, slots=True)
class Segmentation:
    """Where the breast is in one image.

    Attributes
    ----------
    box : CropBox
        What is cropped: the tight box plus the margin, or the whole frame.
    tight_box : CropBox
        The breast's bounding box before the margin.
    mask : uint8, (rows / step, columns / step), or None
        255 on the breast, at the thumbnail's resolution; None where nothing was segmented.
    step : int
        Source pixels a thumbnail pixel.
    threshold : float
        In the image's values; NaN where nothing was segmented.
    method : str
        What was believed: ``none``, a key of ``segment.method``, or ``whole_frame``.
    gates : mapping of str to float
        The measured quality numbers (share of the frame, fill of the box, aspect, edges touched).
    flags : Flag
        Bits of the CC; :func:`fvpipe.imaging.fusion.fuse` shifts them for the MLO.
    area : float
        Source pixels inside the outline; NaN where nothing was segmented.
    mean : float
        The image's mean value inside the outline; NaN where nothing was segmented.
    """

    box: CropBox
    tight_box: CropBox
    mask: NDArray[np.uint8] | None
    step: int
    threshold: float
    method: str
    gates: Mapping[str, float]
    flags: Flag = NO_FLAG
    area: float = math.nan
    mean: float = math.nan


@dataclass(frozen=True, slots=True)
class FusedSample:
    """What the pixels of a breast determine: one training image and how it came about. No label.

    Attributes
    ----------
    image : uint16, uint8 or float32, (H, W) or (C, H, W)
        [0, 1] as value x scale.
    boxes : int32, (2, 4)
        CC, MLO: top, bottom, left, right in source pixels.
    source_shape : int32, (2, 2)
        Rows, columns of each source.
    placement : float32, (2, 4)
        Top, bottom, left, right of each crop in pixels of `image`; left > right where it was mirrored; -1 for a view
        that is not in the image.
    intensity_range : float32, (2,), or (2, 2) where each view is normalised by itself
        Minimum and maximum that became 0 and 1, in the images' values.
    breast_area : float32, (2,)
        CC, MLO: source pixels inside the outline; NaN for a view that was not segmented.
    breast_mean : float32, (2,)
        CC, MLO: mean value inside the outline, on the scale on which `intensity_range` is 0 to 1; NaN likewise.
    source_digests, pixel_digests : (Digest, Digest)
        CC, MLO.
    flags : Flag
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
