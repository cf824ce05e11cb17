"""Faulty files of every known way, each with the reason that it is rejected for: headers, whole files, pixels."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from fvpipe.dicom.elements import silenced
from fvpipe.reasons import Reason
from fvpipe.types import View
from tests.support.factory import VIEW_CODES, coded, dataset, deflated, encode, file_bytes, item, table

PIXELS = np.arange(32 * 24, dtype=np.uint16).reshape(32, 24)

CC, MLO = VIEW_CODES[View.CC], VIEW_CODES[View.MLO]


def header(pixels: Any = PIXELS, **tags: Any) -> bytes:
    """A left CC of 12 bits; a tag of None is left out."""
    with disable_value_validation(), silenced():
        return file_bytes(dataset(PIXELS, 12, **tags), pixels)


def modified(code: str) -> dict[str, Any]:
    return {"ViewPosition": None, "ViewCodeSequence": coded(CC, (code,))}


RAMP = list(range(4096))


def retold(data: bytes, before: bytes, after: bytes) -> bytes:
    """The file with other bytes in one place."""
    assert data.count(before) == 1
    return data.replace(before, after)


HEADER = header()

WITH_SEQUENCE = header(ViewPosition=None, ViewCodeSequence=coded(CC))

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(200)

RULES: dict[str, tuple[Reason, dict[str, Any]]] = {
    "tomosynthesis": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.3"}),
    "projection of tomosynthesis": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.13.1.4"}),
    "for processing": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2.1"}),
    "for processing by its intent alone": (Reason.SOP_CLASS_REFUSED, {"PresentationIntentType": "FOR PROCESSING"}),
    "CAD report": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.50"}),
    "a note that rejects images": (
        Reason.REJECTION_NOTE,
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59", "ConceptNameCodeSequence": coded("113001")},
    ),
    "presentation state": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.11.1"}),
    "PDF": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}),
    "film, where no adapter allows it": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": SecondaryCaptureImageStorage}),
    "private SOP class": (Reason.SOP_CLASS_REFUSED, {"SOPClassUID": "1.3.6.1.4.1.9999.1"}),
    "CT": (Reason.MODALITY_REFUSED, {"Modality": "CT"}),
    "two modalities": (Reason.MODALITY_REFUSED, {"Modality": ["MG", "CT"]}),
    "two frames": (Reason.MULTI_FRAME, {"NumberOfFrames": 2}),
    "no frame": (Reason.MULTI_FRAME, {"NumberOfFrames": 0}),
    "15 rows": (Reason.SIZE_OUT_OF_RANGE, {"Rows": 15}),
    "16385 columns": (Reason.SIZE_OUT_OF_RANGE, {"Columns": 16385}),
    "no rows": (Reason.SIZE_OUT_OF_RANGE, {"Rows": 0}),
    "more than 2^27 pixels": (Reason.SIZE_OUT_OF_RANGE, {"Rows": 16384, "Columns": 8193}),
    "65535 x 65535": (Reason.SIZE_OUT_OF_RANGE, {"Rows": 65535, "Columns": 65535}),
    "Rows absent": (Reason.HEADER_INCOMPLETE, {"Rows": None}),
    "Columns absent": (Reason.HEADER_INCOMPLETE, {"Columns": None}),
    "two values of Rows": (Reason.HEADER_INCOMPLETE, {"Rows": [32, 32]}),
    "BitsAllocated absent": (Reason.HEADER_INCOMPLETE, {"BitsAllocated": None}),
    "BitsStored absent": (Reason.HEADER_INCOMPLETE, {"BitsStored": None}),
    "photometric interpretation absent": (Reason.HEADER_INCOMPLETE, {"PhotometricInterpretation": None}),
    "RGB": (Reason.COLOUR, {"PhotometricInterpretation": "RGB"}),
    "palette": (Reason.COLOUR, {"PhotometricInterpretation": "PALETTE COLOR"}),
    "three samples": (Reason.COLOUR, {"SamplesPerPixel": 3}),
    "32 bits": (Reason.BITS_UNSUPPORTED, {"BitsAllocated": 32}),
    "1 bit": (Reason.BITS_UNSUPPORTED, {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}),
    "12 bits in 12": (Reason.BITS_UNSUPPORTED, {"BitsAllocated": 12}),
    "more bits stored than allocated": (Reason.BITS_UNSUPPORTED, {"BitsStored": 17, "HighBit": 16}),
    "no bit stored": (Reason.BITS_UNSUPPORTED, {"BitsStored": 0, "HighBit": 0}),
    "HighBit too high": (Reason.BITS_UNSUPPORTED, {"HighBit": 16}),
    "HighBit too low": (Reason.BITS_UNSUPPORTED, {"HighBit": 10}),
    "PixelRepresentation 2": (Reason.BITS_UNSUPPORTED, {"PixelRepresentation": 2}),
    "slope 0": (Reason.RESCALE_INVALID, {"RescaleSlope": 0, "RescaleIntercept": 0}),
    "slope NaN": (Reason.RESCALE_INVALID, {"RescaleSlope": "nan", "RescaleIntercept": 0}),
    "intercept infinite": (Reason.RESCALE_INVALID, {"RescaleSlope": 1, "RescaleIntercept": "inf"}),
    "two slopes": (Reason.RESCALE_INVALID, {"RescaleSlope": [1, 2], "RescaleIntercept": 0}),
    "Modality LUT too short": (Reason.LUT_INVALID, {"ModalityLUTSequence": table(RAMP[:10], said=4096)}),
    "Modality LUT too long": (Reason.LUT_INVALID, {"ModalityLUTSequence": table(RAMP[:10], said=9)}),
    "Modality LUT of 17 bits": (Reason.LUT_INVALID, {"ModalityLUTSequence": table(RAMP, bits=17)}),
    "Modality LUT without data": (Reason.LUT_INVALID, {"ModalityLUTSequence": Sequence([item(LUTDescriptor=[4, 0, 16])])}),
    "Modality LUT of one number": (Reason.LUT_INVALID, {"ModalityLUTSequence": Sequence([item(LUTDescriptor=4096)])}),
    "no view": (Reason.VIEW_MISSING, {"ViewPosition": None}),
    "view empty": (Reason.VIEW_MISSING, {"ViewPosition": "", "ViewCodeSequence": Sequence([])}),
    "views disagree": (Reason.VIEW_CONFLICT, {"ViewPosition": "CC", "ViewCodeSequence": coded(MLO)}),
    "a code that is neither, and CC": (Reason.VIEW_CONFLICT, {"ViewPosition": "CC", "ViewCodeSequence": coded("399260004")}),
    "two views in one sequence": (
        Reason.VIEW_CONFLICT,
        {"ViewPosition": None, "ViewCodeSequence": Sequence([*coded(CC), *coded(MLO)])},
    ),
    "a long code that disagrees": (Reason.VIEW_CONFLICT, {"ViewCodeSequence": Sequence([item(LongCodeValue=MLO)])}),
    "a meaning that disagrees": (
        Reason.VIEW_CONFLICT,
        {"ViewCodeSequence": Sequence([item(CodeMeaning="medio-lateral oblique")])},
    ),
    "a code and its meaning disagree": (
        Reason.VIEW_CONFLICT,
        {"ViewPosition": None, "ViewCodeSequence": Sequence([item(CodeValue=CC, CodeMeaning="medio-lateral oblique")])},
    ),
    "a code of CC whose meaning is exaggerated": (
        Reason.VIEW_CONFLICT,
        {"ViewCodeSequence": Sequence([item(CodeValue=CC, CodeMeaning="cranio-caudal exaggerated laterally")])},
    ),
    "a code of CC whose meaning is MLO, in Spanish": (
        Reason.VIEW_CONFLICT,
        {"ViewCodeSequence": Sequence([item(CodeValue=CC, CodeMeaning="Oblicua medio-lateral")])},
    ),
    "a code of MLO whose meaning is ML": (
        Reason.VIEW_CONFLICT,
        {"view": View.MLO, "ViewCodeSequence": Sequence([item(CodeValue=MLO, CodeMeaning="medio-lateral")])},
    ),
    "ML": (Reason.VIEW_NOT_PAIRABLE, {"ViewPosition": "ML"}),
    "XCCL": (Reason.VIEW_NOT_PAIRABLE, {"ViewPosition": "XCCL"}),
    "ML in both": (Reason.VIEW_NOT_PAIRABLE, {"ViewPosition": "ML", "ViewCodeSequence": coded("399260004")}),
    "specimen": (Reason.IMAGE_KIND_REFUSED, {"ViewPosition": None, "ViewCodeSequence": coded("127457009")}),
    "both views": (Reason.VIEW_NOT_PAIRABLE, {"ViewPosition": "L CC MLO"}),
    "two positions": (Reason.VIEW_NOT_PAIRABLE, {"ViewPosition": ["CC", "MLO"]}),
    "magnification": (Reason.VIEW_MODIFIED, modified("399163009")),
    "spot compression": (Reason.VIEW_MODIFIED, modified("399055006")),
    "tangential": (Reason.VIEW_MODIFIED, modified("399110001")),
    "rolled lateral": (Reason.VIEW_MODIFIED, modified("399197004")),
    "axillary tail": (Reason.VIEW_MODIFIED, modified("399011000")),
    "magnification, SRT": (Reason.VIEW_MODIFIED, modified("R-102D6")),
    "a modifier without a code": (Reason.VIEW_MODIFIED, modified("")),
    "magnification in a second item": (
        Reason.VIEW_MODIFIED,
        {"ViewCodeSequence": Sequence([*coded(CC), *coded(CC, ("399163009",))])},
    ),
    "magnification by a long code": (
        Reason.VIEW_MODIFIED,
        {"ViewModifierCodeSequence": Sequence([item(LongCodeValue="399163009")])},
    ),
    "two factors": (Reason.VIEW_MODIFIED, {"EstimatedRadiographicMagnificationFactor": [1, 1]}),
    "spot at top level": (Reason.VIEW_MODIFIED, {"ViewModifierCodeSequence": coded("399055006")}),
    "spot beside implant displaced": (Reason.VIEW_MODIFIED, {"ViewCodeSequence": coded(CC, ("399209000", "399055006"))}),
    "magnified 1.5 times": (Reason.VIEW_MODIFIED, {"EstimatedRadiographicMagnificationFactor": 1.5}),
    "made smaller": (Reason.VIEW_MODIFIED, {"EstimatedRadiographicMagnificationFactor": 0.8}),
    "no side": (Reason.LATERALITY_MISSING, {"ImageLaterality": None}),
    "side B": (Reason.LATERALITY_MISSING, {"ImageLaterality": "B"}),
    "side empty": (Reason.LATERALITY_MISSING, {"ImageLaterality": ""}),
    "side L and R": (Reason.LATERALITY_MISSING, {"ImageLaterality": ["L", "R"]}),
    "side B beside that of a series": (Reason.LATERALITY_MISSING, {"ImageLaterality": "B", "Laterality": "L"}),
    "side B of the frame beside L": (Reason.LATERALITY_MISSING, {"FrameLaterality": "B"}),
    "side of the view disagrees": (Reason.LATERALITY_CONFLICT, {"ViewPosition": "RCC"}),
    "sides disagree": (Reason.LATERALITY_CONFLICT, {"Laterality": "R"}),
    "side of the frame disagrees": (Reason.LATERALITY_CONFLICT, {"FrameLaterality": "R"}),
    "side of the frame in its group disagrees": (
        Reason.LATERALITY_CONFLICT,
        {"SharedFunctionalGroupsSequence": Sequence([item(FrameAnatomySequence=Sequence([item(FrameLaterality="R")]))])},
    ),
    "sides of frames": (
        Reason.LATERALITY_MISSING,
        {
            "PerFrameFunctionalGroupsSequence": Sequence(
                [item(FrameAnatomySequence=Sequence([item(FrameLaterality=side)])) for side in "LR"]
            )
        },
    ),
    "the region's side disagrees": (
        Reason.LATERALITY_CONFLICT,
        {"AnatomicRegionSequence": Sequence([item(CodeValue="76752008", AnatomicRegionModifierSequence=coded("24028007"))])},
    ),
    "the region is the other breast by its meaning": (
        Reason.LATERALITY_CONFLICT,
        {"AnatomicRegionSequence": Sequence([item(CodeValue="X1", CodeMeaning="Right breast")])},
    ),
    "the region is the other breast": (
        Reason.LATERALITY_CONFLICT,
        {"AnatomicRegionSequence": Sequence([item(CodeValue="73056007", CodeMeaning="Right breast")])},
    ),
    "the structure's side disagrees": (
        Reason.LATERALITY_CONFLICT,
        {
            "PrimaryAnatomicStructureSequence": Sequence(
                [item(CodeValue="76752008", PrimaryAnatomicStructureModifierSequence=coded("24028007"))]
            )
        },
    ),
    "the body part is the other breast": (Reason.LATERALITY_CONFLICT, {"BodyPartExamined": "RBREAST"}),
    "Image Type names the other side": (
        Reason.LATERALITY_CONFLICT,
        {"ImageType": ["DERIVED", "PRIMARY", "TOMO_2D", "RIGHT"]},
    ),
    "the device processed the other side": (
        Reason.LATERALITY_CONFLICT,
        {"AcquisitionDeviceProcessingDescription": "R CC"},
    ),
    "the device processed the other view": (Reason.VIEW_CONFLICT, {"AcquisitionDeviceProcessingDescription": "LMLO"}),
    "a CC at the angle of an MLO": (Reason.VIEW_CONFLICT, {"PositionerPrimaryAngle": -45}),
    "an MLO at the angle of an ML": (Reason.VIEW_CONFLICT, {"view": View.MLO, "PositionerPrimaryAngle": 90}),
    "L, hung as an R": (Reason.LATERALITY_CONFLICT, {"PatientOrientation": ["P", "L"]}),
    "L MLO, hung as an R": (Reason.LATERALITY_CONFLICT, {"view": View.MLO, "PatientOrientation": ["P", "FL"]}),
    "R, hung as an L": (Reason.LATERALITY_CONFLICT, {"ImageLaterality": "R", "PatientOrientation": ["A", "FR"]}),
    "two directions of one axis": (Reason.ORIENTATION_INVALID, {"PatientOrientation": ["A", "P"]}),
    "no patient": (Reason.IDENTIFIER_MISSING, {"PatientID": None}),
    "patient empty": (Reason.IDENTIFIER_MISSING, {"PatientID": "  "}),
    "no study": (Reason.IDENTIFIER_MISSING, {"StudyInstanceUID": None}),
    "65 characters": (Reason.IDENTIFIER_INVALID, {"PatientID": 65 * "x"}),
    "64 kB": (Reason.IDENTIFIER_INVALID, {"PatientID": 65534 * "x"}),
    "NUL": (Reason.IDENTIFIER_INVALID, {"PatientID": "P\0001"}),
    "new line": (Reason.IDENTIFIER_INVALID, {"PatientID": "P\n1"}),
    "no pixels": (Reason.PIXEL_DATA_MISSING, {"pixels": None}),
    "a row too many": (Reason.PIXELS_MISMATCH, {"pixels": PIXELS.tobytes() + b"\1" * 48}),
    "two frames that nobody counts": (Reason.MULTI_FRAME, {"pixels": 2 * PIXELS.tobytes()}),
    "one byte too few": (Reason.PIXELS_TRUNCATED, {"pixels": PIXELS.tobytes()[:-2]}),
}
"""A name, the reason, and the tags that do it."""


def nested(depth: int, inside: bytes = b"") -> bytes:
    """Private sequences in each other, of undefined length: a reader must follow them to find the next element."""
    opening = struct.pack("<HH2sHI", 0x0009, 0x1000, b"SQ", 0, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    closing = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
    data = header()
    at = data.index(struct.pack("<HH", 0x0010, 0x0020))
    return data[:at] + opening * depth + inside + closing * depth + data[at:]


def in_syntax(written: str, said: str) -> bytes:
    """A file written in one transfer syntax whose meta information names another."""
    with disable_value_validation(), silenced():
        data = file_bytes(dataset(PIXELS, 12), PIXELS, written)
    name, other = (uid.encode() + b"\0" * (len(uid) % 2) for uid in (written, said))
    return retold(data, b"\x10\0UI" + struct.pack("<H", len(name)) + name, b"\x10\0UI" + struct.pack("<H", len(other)) + other)


BYTES: dict[str, tuple[Reason, Callable[[], bytes]]] = {
    "0 bytes": (Reason.NOT_DICOM, lambda: b""),
    "random bytes": (Reason.NOT_DICOM, lambda: random.Random(0).randbytes(5000)),
    "PNG": (Reason.NOT_DICOM, lambda: PNG),
    "a DICOMDIR": (
        Reason.DICOM_DIRECTORY,
        lambda: file_bytes(item(), None, MediaStorageSOPClassUID=MediaStorageDirectoryStorage),
    ),
    "a marker and nothing": (Reason.TRANSFER_SYNTAX_UNSUPPORTED, lambda: bytes(128) + b"DICM"),
    "a marker and random bytes": (
        Reason.TRANSFER_SYNTAX_UNSUPPORTED,
        lambda: bytes(128) + b"DICM" + random.Random(1).randbytes(5000),
    ),
    "MPEG-4": (Reason.TRANSFER_SYNTAX_UNSUPPORTED, lambda: in_syntax(ExplicitVRLittleEndian, "1.2.840.10008.1.2.4.102")),
    "private syntax": (Reason.TRANSFER_SYNTAX_UNSUPPORTED, lambda: in_syntax(ExplicitVRLittleEndian, "1.3.6.1.4.1.9999.1")),
    "implicit called explicit": (Reason.HEADER_UNREADABLE, lambda: in_syntax(ImplicitVRLittleEndian, ExplicitVRLittleEndian)),
    # Without a rejection, "OW" would be read as the length 22351 and the image would start four bytes late.
    "explicit called implicit": (Reason.HEADER_UNREADABLE, lambda: in_syntax(ExplicitVRLittleEndian, ImplicitVRLittleEndian)),
    "native called compressed": (Reason.DECODE_FAILED, lambda: in_syntax(ExplicitVRLittleEndian, JPEG2000)),
    "compressed called native": (Reason.DECODE_FAILED, lambda: in_syntax(RLELossless, ExplicitVRLittleEndian)),
    "not deflated": (Reason.HEADER_UNREADABLE, lambda: in_syntax(ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)),
    "1,000 sequences in each other": (Reason.HEADER_UNREADABLE, lambda: nested(1000)),
    "Pixel Data as text": (Reason.HEADER_UNREADABLE, lambda: retold(header(), b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0UT")),
    "a view sequence that is text": (
        Reason.HEADER_UNREADABLE,
        lambda: retold(WITH_SEQUENCE, b"\x54\0\x20\x02SQ", b"\x54\0\x20\x02UT"),
    ),
    "a number of frames that is not a number": (
        Reason.HEADER_INCOMPLETE,
        lambda: retold(header(NumberOfFrames=11), b"IS\2\x0011", b"IS\2\0xy"),
    ),
    "three bytes of Rows": (
        Reason.HEADER_UNREADABLE,
        lambda: retold(header(), b"\x28\0\x10\0US\2\0\x20\0", b"\x28\0\x10\0US\3\0\x20\0\0"),
    ),
    "a patient that is not text": (
        Reason.IDENTIFIER_INVALID,
        lambda: retold(header(SpecificCharacterSet="ISO_IR 192", PatientID="P111"), b"P111", b"P\xff11"),
    ),
}

BLOCK = 2**20


def bomb(head: bytes, blocks: int) -> bytes:
    """A deflated file of `head` and so many MiB of zeros, made without them: a flushed block may be repeated as it is."""
    plain = deflated(dataset(PIXELS, 12), PIXELS)
    at = plain.index(b"\2\0\x10\0UI") + 8
    at += int.from_bytes(plain[at - 2 : at], "little")
    at = max(at, 132 + 12 + int.from_bytes(plain[140:144], "little"))  # the end of the group that meta information is
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    start = squeezer.compress(head) + squeezer.flush(zlib.Z_FULL_FLUSH)
    block = squeezer.compress(bytes(BLOCK)) + squeezer.flush(zlib.Z_FULL_FLUSH)
    return plain[:at] + start + block * blocks + squeezer.flush()


def deflated_bomb() -> bytes:
    """A file of 300 kB whose header is 617 MB when inflated."""
    return bomb(explicit_elements(pixels=False) + b"\x29\0\x10\x10OB\0\0" + struct.pack("<I", 617 * BLOCK), 617)


def explicit_elements(pixels: bool = True) -> bytes:
    """The data set of a plain file, without its meta information and, where asked, without its pixels."""
    data = header()
    return data[data.index(b"\x08\0\x16\0UI") : len(data) if pixels else data.index(b"\xe0\x7f\x10\0OW")]


# --- pixels -----------------------------------------------------------------------------------------------------------

SMALL = np.add.outer(np.arange(64), 2 * np.arange(48)).astype(np.uint8)
IMAGE = (Reason.DECODE_FAILED, Reason.PIXELS_TRUNCATED, Reason.PIXELS_MISMATCH)
CODECS = {  # for no picture, one cut short, and one of half the size; RLE knows no size
    RLELossless: (Reason.PIXELS_MISMATCH, Reason.DECODE_FAILED, Reason.PIXELS_TRUNCATED),
    **dict.fromkeys((JPEGLossless, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless), IMAGE),
}


def frame(syntax: str, data: bytes | None = None, pixels: Any = SMALL, **tags: Any) -> bytes:
    """A file of 8 bits whose header is right, with these bytes as its frame."""
    with disable_value_validation(), silenced():
        return file_bytes(dataset(pixels, 8, **tags), encode(pixels, 8, syntax) if data is None else data, syntax)


def bombs() -> dict[str, bytes]:
    """Frames that say, or become, far more than their header does, by transfer syntax."""
    j2k, jpeg, huge = encode(SMALL, 8, JPEG2000), encode(SMALL, 8, JPEGLossless), struct.pack(">2I", 16384, 16384)
    at = jpeg.index(b"\xff\xc3") + 5
    return {
        RLELossless: struct.pack("<16I", 1, 64, *14 * [0]) + b"\x81\0" * 6_250_000,  # 12.5 MB, 800 MB when unpacked
        # The size, and the size of a tile, so that the codestream is right in itself.
        JPEG2000: j2k[:8] + huge + j2k[16:24] + huge + j2k[32:],
        JPEGLossless: jpeg[:at] + struct.pack(">2H", 65500, 65500) + jpeg[at + 4 :],
    }


def broken_block() -> bytes:
    """A high-throughput codestream with a damaged block, which a decoder might make up."""
    data = bytearray(encode(SMALL, 8, HTJ2KLossless))
    data[-60:-20] = b"\xff\x8f" * 20
    return bytes(data)


FRAMES: dict[str, tuple[Reason, Callable[..., bytes]]] = {
    "RLE bomb": (Reason.PIXELS_MISMATCH, lambda **tags: frame(RLELossless, bombs()[RLELossless], **tags)),
    "JPEG 2000 bomb": (Reason.PIXELS_MISMATCH, lambda **tags: frame(JPEG2000, bombs()[JPEG2000], **tags)),
    "JPEG bomb": (Reason.PIXELS_MISMATCH, lambda **tags: frame(JPEGLossless, bombs()[JPEGLossless], **tags)),
    "a damaged block": (Reason.DECODE_FAILED, lambda **tags: frame(HTJ2KLossless, broken_block(), **tags)),
    "one value": (Reason.CONSTANT_VIEW, lambda **tags: frame(RLELossless, pixels=np.full_like(SMALL, 7), **tags)),
} | {
    f"{UID(syntax).name}: {name}": (reason, partial(frame, syntax, data))
    for syntax, reasons in CODECS.items()
    for (name, data), reason in zip(
        {
            "no picture": bytes(range(256)),
            "cut short": encode(SMALL, 8, syntax)[:-200],
            "another size": encode(SMALL[:32], 8, syntax),
        }.items(),
        reasons,
        strict=True,
    )
}
"""A name, the reason, and a function that makes the file with the identity of its tags: its header is right."""
