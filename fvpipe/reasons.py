"""Reason codes of rejections, and the flags of samples that were built all the same."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import IntFlag, StrEnum


class Flag(IntFlag):
    """What a user should know of a sample that was built all the same. The bit names are written into each shard."""

    CC_CROP_FALLBACK = 1 << 0  # no trustworthy breast outline: the whole frame was used
    MLO_CROP_FALLBACK = 1 << 1
    CC_TRIANGLE = 1 << 2  # Otsu failed its quality gates, the triangle threshold passed them
    MLO_TRIANGLE = 1 << 3
    CC_CONSTANT = 1 << 4  # the view has one value only
    MLO_CONSTANT = 1 << 5
    CONSTANT_IMAGE = 1 << 6  # the fused image has one value only: it is written as zeros
    IMPLANT = 1 << 7
    SYNTHETIC = 1 << 8  # a view is a synthetic 2D image made from tomosynthesis
    SIZES_DIFFER = 1 << 9  # the two views differ in rows or columns
    VOI_INVALID = 1 << 10  # the header's window or VOI LUT breaks the standard; this pipeline does not apply it
    CHEST_WALL_CONFLICT = 1 << 11  # the breast lies on the other edge than the header says
    VOI_ABSENT = 1 << 12  # the pipeline applies a window or VOI LUT, and the header of a view has none
    OVERLAY = 1 << 13  # a view has an overlay plane or a display shutter: neither is burned in
    SHUTTER = 1 << 14
    FOR_PROCESSING = 1 << 15  # a view is raw, and the data set's settings accept it
    SHARED_PIXELS = 1 << 16  # another patient's breast has a view of exactly these pixels
    AREAS_DISAGREE = 1 << 17  # what CC and MLO show of the breast differs more than two views of one breast do
    MEANS_DISAGREE = 1 << 18
    BITS_DIFFER = 1 << 19
    VENDORS_DIFFER = 1 << 20
    DATES_DIFFER = 1 << 21


NO_FLAG = Flag(0)


class Reason(StrEnum):
    """Why a file, an image or a breast is not in the shards. Stable names: other projects count them."""

    meaning: str

    def __new__(cls, value: str, meaning: str = "") -> Reason:
        """A member is its code; `meaning` says what it stands for."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    NOT_A_FILE = "not_a_file", "a link to nowhere or in a loop, a pipe, a device, or a folder that cannot be listed"
    FILE_UNREADABLE = "file_unreadable", "the file system rejected to give the bytes"
    NOT_DICOM = "not_dicom", "no DICOM file: empty, or without the DICM marker"
    HEADER_UNREADABLE = "header_unreadable", "the header breaks the encoding rules of DICOM"
    HEADER_INCOMPLETE = "header_incomplete", "an element without which pixels cannot be read is missing or not a number"
    DEFLATED_TOO_LARGE = "deflated_too_large", "a deflated data set inflates to more than the limit"
    SOP_CLASS_REFUSED = "sop_class_refused", "no 2D mammogram for presentation"
    MODALITY_REFUSED = "modality_refused", "Modality is given and is not MG"
    MULTI_FRAME = "multi_frame", "more than one frame"
    COLOUR = "colour", "more than one sample a pixel, or a colour photometric interpretation"
    SIZE_OUT_OF_RANGE = "size_out_of_range", "Rows or Columns outside 16..16384, or more than 2^27 pixels"
    BITS_UNSUPPORTED = "bits_unsupported", "BitsAllocated, BitsStored and HighBit contradict each other"
    TRANSFER_SYNTAX_UNSUPPORTED = "transfer_syntax_unsupported", "no decoder for this transfer syntax"
    RESCALE_INVALID = "rescale_invalid", "Rescale Slope of 0, or a slope or intercept that is no finite number"
    LUT_INVALID = "lut_invalid", "a Modality LUT or VOI LUT whose descriptor and data contradict each other"
    WINDOW_INVALID = "window_invalid", "the pipeline applies the window, and the header's breaks the standard"
    VIEW_MISSING = "view_missing", "neither View Code Sequence nor View Position names a view"
    VIEW_CONFLICT = "view_conflict", "View Code Sequence, View Position or the label table disagree"
    VIEW_NOT_PAIRABLE = "view_not_pairable", "a projection that is neither CC nor MLO"
    VIEW_MODIFIED = "view_modified", "a magnification, spot compression or other view that is not a standard one"
    LATERALITY_MISSING = "laterality_missing", "no laterality of L or R"
    LATERALITY_CONFLICT = "laterality_conflict", "the elements for the side, PatientOrientation or the label table disagree"
    SIZE_CONFLICT = "size_conflict", "Rows or Columns disagree with the label table"
    AGE_CONFLICT = "age_conflict", "Patient's Age disagrees with the label table"
    REGION_OF_INTEREST = "region_of_interest", "a mask or a cut-out of a lesion on another film: its outline becomes a finding"
    REGION_WITHOUT_IMAGE = "region_without_image", "a lesion's mask that fits no film of its breast in view, rows and columns"
    IDENTIFIER_MISSING = "identifier_missing", "no patient identifier to group images by"
    IDENTIFIER_INVALID = "identifier_invalid", "a patient identifier with control characters or more than 64 characters"
    PIXEL_DATA_MISSING = "pixel_data_missing", "the file ends before Pixel Data"
    PIXELS_TRUNCATED = "pixels_truncated", "Pixel Data is shorter than Rows x Columns asks for"
    PIXELS_MISMATCH = "pixels_mismatch", "the compressed image has another size or depth than the header"
    DECODER_CRASHED = "decoder_crashed", "reading the pixels ended the process, twice, alone in a fresh one"
    DECODER_TIMEOUT = "decoder_timeout", "reading the pixels did not end in time, twice, alone in a fresh process"
    DECODE_FAILED = "decode_failed", "the decoder rejected the compressed image"
    DUPLICATE_INSTANCE = "duplicate_instance", "the same SOP instance again, with the same content: one is kept"
    INSTANCE_CONFLICT = "instance_conflict", "one SOP Instance UID, different content: none is trusted"
    SUPERSEDED = "superseded", "another image of the same view of the breast was chosen"
    CC_MISSING = "cc_missing", "the breast has an MLO but no CC that pairs with it"
    MLO_MISSING = "mlo_missing", "the breast has a CC but no MLO that pairs with it"
    IMPLANT_MISMATCH = "implant_mismatch", "implant-displaced views pair only with implant-displaced views"
    VIEW_UNREADABLE = "view_unreadable", "a view of the breast was rejected when its pixels were read"
    LABEL_EXCLUDED = "label_excluded", "the label rule of the data set leaves this breast out"
    LABEL_WITHOUT_IMAGE = "label_without_image", "the label table names a breast of which there is no image"


NOT_BROKEN = frozenset({
    Reason.LABEL_EXCLUDED, Reason.LABEL_WITHOUT_IMAGE, Reason.SUPERSEDED, Reason.DUPLICATE_INSTANCE, Reason.REGION_OF_INTEREST,
})  # fmt: skip
"""Reasons that say nothing against a file: the label rule's choice, a better image of the same view, or no film at all."""

PASSING = frozenset({Reason.FILE_UNREADABLE, Reason.DECODER_CRASHED, Reason.DECODER_TIMEOUT})
"""Reasons that may be gone the next time though nobody touched the file."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """A rejected file, image or breast.

    Attributes
    ----------
    what : str
        Path relative to the input folder, or a breast id.
    reason : Reason
        Stable code.
    detail : str
        What was expected and found, without anything of a patient's identity.
    """

    what: str
    reason: Reason
    detail: str

    @staticmethod
    def unreadable(path: str, error: OSError) -> Rejection:
        """A file whose bytes the system did not give."""
        return Rejection(path, Reason.FILE_UNREADABLE, os.strerror(error.errno) if error.errno else "read error")
