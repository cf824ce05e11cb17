"""Reason codes of rejected files, images and breasts, and flags of samples."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntFlag, StrEnum


class Flag(IntFlag):
    """Properties of a sample that a user should know. Names and bits are written into each shard."""

    CC_CROP_FALLBACK = 1 << 0  # no outline passed the quality gates: the whole image was used
    MLO_CROP_FALLBACK = 1 << 1
    CC_TRIANGLE = 1 << 2  # Otsu's threshold failed the quality gates, the triangle threshold passed
    MLO_TRIANGLE = 1 << 3
    CC_CONSTANT = 1 << 4  # all pixels of the view are equal
    MLO_CONSTANT = 1 << 5
    CONSTANT_IMAGE = 1 << 6  # all pixels of the fused image are equal: written as zeros
    IMPLANT = 1 << 7
    SYNTHETIC = 1 << 8  # a view is a synthetic 2D image computed from tomosynthesis
    SIZES_DIFFER = 1 << 9  # the two views differ in rows or columns
    # The header's window or VOI LUT violates the standard and is not applied, or makes most of the breast black or white
    VOI_INVALID = 1 << 10
    CHEST_WALL_CONFLICT = 1 << 11  # the breast lies on the opposite edge to that of the header
    VOI_ABSENT = 1 << 12  # the pipeline applies a window or VOI LUT, which the header of a view lacks
    OVERLAY = 1 << 13  # a view has an overlay plane, which is not burned in
    SHUTTER = 1 << 14  # a view has a display shutter, which is not burned in
    FOR_PROCESSING = 1 << 15  # a view is For Processing, which the data set's settings accept
    SHARED_PIXELS = 1 << 16  # a view has the pixels of another patient's, however it lies
    AREAS_DISAGREE = 1 << 17  # the breast areas of CC and MLO differ more than expected of one breast
    MEANS_DISAGREE = 1 << 18  # the same for the mean values inside the outlines
    BITS_DIFFER = 1 << 19  # the two views differ in Bits Stored, sign, rescale, Modality LUT or polarity
    VENDORS_DIFFER = 1 << 20  # in Manufacturer
    DATES_DIFFER = 1 << 21  # in the date of acquisition
    REORIENTED = 1 << 22  # a view was turned or mirrored upright, as its Patient Orientation says
    ORIENTATION_UNKNOWN = 1 << 23  # the header says that a view was turned or mirrored, and not how it lies now
    PADDING_IGNORED = 1 << 24  # a view declares Pixel Padding that cannot be applied
    SHARED_BY_SIDES = 1 << 25  # of one of the other breast
    SHARED_BY_EXAMS = 1 << 26  # of one of another exam of the patient
    LOW_ENERGY = 1 << 27  # the views are the low-energy images of a contrast-enhanced exam
    CC_CROP_LOOSE = 1 << 28  # the crop holds the whole breast and more than it
    MLO_CROP_LOOSE = 1 << 29
    CC_CROP_DOUBTFUL = 1 << 30  # the crop may have lost a part of the breast
    MLO_CROP_DOUBTFUL = 1 << 31

    @property
    def code(self) -> str:
        """Name of a single flag, as receipts, tables and pages have it."""
        return str(self.name).lower()


NO_FLAG = Flag(0)


class CropVerdict(StrEnum):
    """How far a crop is to be trusted."""

    GOOD = "good"  # it holds the breast, and hardly more
    LOOSE = "loose"  # it holds the breast, and more
    DOUBTFUL = "doubtful"  # it may have lost a part of the breast
    WHOLE_FRAME = "whole_frame"  # no outline was accepted: it is the whole image


VERDICT_FLAGS = {
    CropVerdict.GOOD: NO_FLAG,
    CropVerdict.LOOSE: Flag.CC_CROP_LOOSE,
    CropVerdict.DOUBTFUL: Flag.CC_CROP_DOUBTFUL,
    CropVerdict.WHOLE_FRAME: Flag.CC_CROP_FALLBACK,
}
"""Flag of each verdict, as the bit of the CC; that of the MLO is the bit above."""


def crop_verdict(flags: Flag, view: int = 0) -> CropVerdict:
    """Verdict on the crop of view 0 (CC) or 1 (MLO) that the flags of a sample tell; those of one image are those of a CC."""
    return next((verdict for verdict, flag in VERDICT_FLAGS.items() if flags & Flag(int(flag) << view)), CropVerdict.GOOD)


class Reason(StrEnum):
    """Reasons why a file, an image or a breast is not in the shards. The codes are stable: other projects count them."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Reason:
        """Create a member from its code and its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    NOT_A_FILE = "not_a_file", "a broken or circular link, a pipe, a device, or a folder that cannot be listed"
    FILE_UNREADABLE = "file_unreadable", "the file system reported an error when the file was read"
    NOT_DICOM = "not_dicom", "not a DICOM file: empty, or without the DICM marker"
    NOT_AN_IMAGE = "not_an_image", "an empty file, or one in none of the formats that the data set states"
    DICOM_DIRECTORY = "dicom_directory", "a DICOMDIR, which lists the files of a medium: passed over, and in no `rejected.csv`"
    HEADER_UNREADABLE = "header_unreadable", "the header violates the encoding rules of DICOM, or of its format"
    HEADER_INCOMPLETE = "header_incomplete", "an element needed to read the pixels is missing or not a number"
    DEFLATED_TOO_LARGE = "deflated_too_large", "a deflated data set is larger than the limit when inflated"
    SOP_CLASS_REFUSED = "sop_class_refused", "not a 2D mammogram for presentation"
    REJECTION_NOTE = "rejection_note", "a Key Object note by which an archive rejects images, which are left out"
    MODALITY_REFUSED = "modality_refused", "Modality is present and not MG"
    MULTI_FRAME = "multi_frame", "more than one frame, counted in the header or not"
    COLOUR = (
        "colour",
        "several samples per pixel, a color photometric interpretation, transparency, or channels that differ",
    )
    SIZE_OUT_OF_RANGE = "size_out_of_range", "Rows or Columns outside 16..16384, or more than 2^27 pixels"
    BITS_UNSUPPORTED = (
        "bits_unsupported",
        "BitsAllocated, BitsStored and HighBit contradict each other, or an image file has not 8 to 16 bits",
    )
    TRANSFER_SYNTAX_UNSUPPORTED = "transfer_syntax_unsupported", "no decoder for this transfer syntax, or compression of a file"
    RESCALE_INVALID = "rescale_invalid", "Rescale Slope is 0, or slope or intercept is not a finite number"
    LUT_INVALID = "lut_invalid", "descriptor and data of a Modality LUT or VOI LUT contradict each other"
    WINDOW_INVALID = "window_invalid", "the pipeline applies the window, and that of the header violates the standard"
    VIEW_MISSING = "view_missing", "neither the header nor label table or path names a view"
    VIEW_CONFLICT = "view_conflict", "View Code Sequence, View Position or the label table disagree"
    VIEW_NOT_PAIRABLE = "view_not_pairable", "a projection that is neither CC nor MLO"
    VIEW_MODIFIED = "view_modified", "a magnification, spot compression, partial or other non-standard view"
    IMAGE_KIND_REFUSED = (
        "image_kind_refused",
        "a quality control, specimen, biopsy, rejected, recombined or tomosynthesis image, or a mask or copy with a row",
    )
    KIND_MISMATCH = "kind_mismatch", "full-field, synthetic, low-energy and raw images pair only with their own kind"
    ORIENTATION_INVALID = (
        "orientation_invalid",
        "Patient Orientation contradicts itself or the view, or an image file is stored turned",
    )
    LATERALITY_MISSING = "laterality_missing", "the laterality is neither L nor R"
    LATERALITY_CONFLICT = "laterality_conflict", "the elements for the side, PatientOrientation or the label table disagree"
    SIZE_CONFLICT = "size_conflict", "Rows or Columns disagree with the label table"
    AGE_CONFLICT = "age_conflict", "Patient's Age is more than a year from that of the label table"
    REGION_OF_INTEREST = (
        "region_of_interest",
        "a mask or cropped image of a lesion on another film: its outline becomes a finding",
    )
    REGION_WITHOUT_IMAGE = (
        "region_without_image",
        "a lesion mask that outlines nothing, or matches no film of its breast in view, rows and columns",
    )
    IDENTIFIER_MISSING = "identifier_missing", "no identifier of the patient, or of the exam where exams are told apart"
    IDENTIFIER_CONFLICT = (
        "identifier_conflict",
        "header, label table and path name different patients or exams, the images of one study do, or identifiers of two "
        "patients differ only in leading zeros, `.0` or upper and lower case",
    )
    IMAGE_NOT_LISTED = "image_not_listed", "the data set's table lists its images, and not this one"
    IMAGE_EXCLUDED = "image_excluded", "a rule of the data set's adapter leaves the image out"
    IDENTIFIER_INVALID = "identifier_invalid", "the patient identifier has control characters or more than 64 characters"
    PIXEL_DATA_MISSING = "pixel_data_missing", "the file ends before Pixel Data, or names another file for its pixels"
    PIXELS_TRUNCATED = "pixels_truncated", "Pixel Data is shorter than Rows x Columns requires"
    PIXELS_MISMATCH = "pixels_mismatch", "size, depth, sign or amount of the pixels contradict the header"
    DECODER_CRASHED = "decoder_crashed", "reading the pixels crashed a fresh process twice"
    DECODER_TIMEOUT = "decoder_timeout", "reading the pixels timed out twice in a fresh process"
    DECODE_FAILED = "decode_failed", "the decoder rejected the compressed image"
    DUPLICATE_INSTANCE = "duplicate_instance", "a copy of a SOP instance with the same content: one is kept"
    INSTANCE_CONFLICT = "instance_conflict", "files with the same SOP Instance UID and different content: none is used"
    SUPERSEDED = "superseded", "another image of the same view of this breast was chosen"
    CC_MISSING = "cc_missing", "the breast has an MLO without a matching CC"
    MLO_MISSING = "mlo_missing", "the breast has a CC without a matching MLO"
    IMPLANT_MISMATCH = "implant_mismatch", "implant-displaced views pair only with implant-displaced views"
    IDENTICAL_VIEWS = "identical_views", "CC and MLO of the breast have the same pixels"
    CONSTANT_VIEW = "constant_view", "all pixels of a view are equal, and the pipeline leaves such breasts out"
    CROP_REJECTED = "crop_rejected", "the verdict on a view's crop is one that the pipeline leaves out"
    VIEW_UNREADABLE = "view_unreadable", "a view of the breast was rejected when its pixels were read"
    LABEL_EXCLUDED = "label_excluded", "the label rule of the data set excludes this breast"
    LABEL_AMBIGUOUS = "label_ambiguous", "the label table does not say which patient or which exam of the breast it describes"
    LABEL_WITHOUT_IMAGE = "label_without_image", "the label table lists a breast, or an exam of it, without images"


NOT_BROKEN = frozenset({
    Reason.LABEL_EXCLUDED, Reason.LABEL_WITHOUT_IMAGE, Reason.SUPERSEDED, Reason.DUPLICATE_INSTANCE, Reason.REGION_OF_INTEREST,
})  # fmt: skip
"""Reasons that do not mean that a file is faulty: a label rule, a better image of the same view, or a lesion mask."""

PASSING = frozenset({Reason.FILE_UNREADABLE, Reason.DECODER_CRASHED, Reason.DECODER_TIMEOUT})
"""Reasons that may disappear in the next run although the file did not change."""


LABEL_TABLE = "label table"
"""What a rejection is of that is about several rows of the label tables, in the place of a path."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected file, image or breast, or rows of label tables.

    Attributes
    ----------
    what : str
        Path relative to the input folder, breast id, or :data:`LABEL_TABLE`.
    reason : Reason
        Reason code.
    detail : str
        Expected and found values, without information that identifies a patient.
    """

    what: str
    reason: Reason
    detail: str

    @property
    def is_of_label_table(self) -> bool:
        """Whether it is about several rows of the label tables, and no file or breast."""
        return self.what == LABEL_TABLE

    @staticmethod
    def unreadable(path: str, error: OSError) -> Rejection:
        """Rejection of a file that could not be read."""
        return Rejection(path, Reason.FILE_UNREADABLE, os.strerror(error.errno) if error.errno else "read error")
