"""Mutated headers and mutated files, each made again from its number alone.

A header is a plain one whose elements were dropped, doubled, swapped, given hostile values, another value representation or
a wrong length, and whose bytes were then changed here and there. A file is one of every transfer syntax whose bytes, mostly
those of its pixels, were flipped, cut out, put in, doubled or cut off.
"""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.sequence import Sequence
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage

from fvpipe.config.pipeline import Segment
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import parse_header, read_header
from fvpipe.dicom.image_header import ImageHeader, header_from_json, header_to_json
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import FvpipeError
from fvpipe.imaging.segmentation.segment import segment
from fvpipe.reasons import Rejection
from fvpipe.types import Laterality
from tests.support.decoding import decode
from tests.support.factory import coded, dataset, file_bytes, item, table

SYNTAXES = sorted(NATIVE | ENCAPSULATED)
POLICIES = [
    HeaderPolicy(),
    *(get_adapter(name).policy for name in ("vindr", "cmmd", "cbis")),
    HeaderPolicy(identifier_key=bytes(32)),
]
LONG = (b"OB", b"OW", b"OF", b"OD", b"OL", b"SQ", b"UC", b"UR", b"UT", b"UN")
VRS = [*LONG, b"AE", b"AS", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST",
       b"TM", b"UI", b"UL", b"US", b"AT", b"??", b"\0\0"]  # fmt: skip
VALUES = [
    b"", b"\0", b" ", b"\\", b"\\\\\\\\", b"nan", b"-inf", b"1e999", b"1e308", b"-0", b"0", b"1", b"2", b"-1", b"65535",
    b"99999999999",
    b"1.5", b"0x10", b"1_0", "\u0661".encode(), b"\xff\xfe", b"\xff" * 8, b"\0" * 8, b"A" * 65, b"A" * 70000, b"CC", b"MLO",
    b"L", b"R",
    b"B", b"L\\R", b"A\\R", b"P\\L", b"P\\FL", b"MONOCHROME1", b"MONOCHROME2", b"RGB", b"INVERSE", b"SIGMOID", b"LINEAR",
    b"LINEAR_EXACT", b"YES", b"MG", b"CT", b"399162004", b"399368009", b"R-10242", b"1.2.840.10008.5.1.4.1.1.1.2",
    b"1.2.840.10008.5.1.4.1.1.7", b"040Y", b"\x1b$B\x1b(J", b"ISO 2022 IR 87", b"ISO_IR 192", b"GB18030",
    b"\xe9\xe8", b"%s%n{0}",
    struct.pack("<H", 8), struct.pack("<H", 12), struct.pack("<H", 16), struct.pack("<H", 32), struct.pack("<H", 65535),
    struct.pack("<3H", 0, 0, 16), struct.pack("<3H", 4096, 0, 12), struct.pack("<3H", 4096, 60000, 8),
    struct.pack("<d", float("nan")),
]  # fmt: skip


@cache
def headers() -> list[tuple[list[tuple[bytes, bytes, bytes]], bytes]]:
    """Plain files, each as its elements (tag, VR, value) and what stands before them."""
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    lut = table([7, 8, 9], first=0)
    kinds: list[dict[str, Any]] = [
        {},
        {
            "WindowCenter": [10, 20],
            "WindowWidth": [5, 6],
            "VOILUTFunction": "SIGMOID",
            "RescaleSlope": 2,
            "RescaleIntercept": 1,
        },
        {
            "ViewPosition": None,
            "ViewCodeSequence": coded("399162004", ("399209000",)),
            "VOILUTSequence": Sequence([*lut, *lut]),
        },
        {"ModalityLUTSequence": table([1, 2, 3]), "PixelPaddingValue": 0, "PixelPaddingRangeLimit": 3},
        {
            "PatientOrientation": ["A", "R"],
            "PhotometricInterpretation": "MONOCHROME1",
            "PatientAge": "091Y",
            "ImageType": ["A", "B"],
        },
        {"SOPClassUID": SecondaryCaptureImageStorage, "PatientOrientation": "CC", "Laterality": "L", "ViewPosition": None},
        {"SpecificCharacterSet": "ISO 2022 IR 87", "PatientName": "x", "ImagerPixelSpacing": [0.1, 0.1], "Manufacturer": "GE"},
        {"SharedFunctionalGroupsSequence": Sequence([item(FrameLaterality="L")]), "BreastImplantPresent": "YES"},
        {"EstimatedRadiographicMagnificationFactor": 1.1, "NumberOfFrames": 1, "PixelRepresentation": 0},
    ]
    return [_split(file_bytes(dataset(pixels, 12, **tags), pixels)) for tags in kinds]


def _split(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bytes]:
    (group,) = struct.unpack_from("<I", data, 140)
    at = 144 + group
    before, elements = data[:at], []
    while at < len(data):
        vr = data[at + 4 : at + 6]
        size, form = (12, "<I") if vr in LONG else (8, "<H")
        (length,) = struct.unpack_from(form, data, at + size - struct.calcsize(form))
        if length == 0xFFFFFFFF:  # to the item that ends it, which no item within it has, at this depth
            length = data.index(b"\xfe\xff\xdd\xe0\0\0\0\0", at) + 8 - at - size
        elements.append((data[at : at + 4], vr, data[at + size : at + size + length]))
        at += size + length
    return elements, before


def _joined(elements: list[tuple[bytes, bytes, bytes]], rng: np.random.Generator) -> bytes:
    parts = []
    for tag, vr, value in elements:
        length = len(value)
        if rng.random() < 0.01:  # a lie
            length = int(rng.choice([0, 1, length + 1, max(length - 1, 0), 65534, 2**31, 2**32 - 2, 2**32 - 1]))
        form = struct.pack("<HI", 0, length) if vr in LONG else struct.pack("<H", length & 0xFFFF)
        parts.append(tag + vr + form + value)
    return b"".join(parts)


def mutated_header(rng: np.random.Generator) -> bytes:
    """A file whose header was changed in one to six ways."""
    plain = headers()
    elements, before = plain[int(rng.integers(len(plain)))]
    elements = list(elements)
    for _ in range(int(rng.integers(1, 7))):
        i = int(rng.integers(len(elements)))
        tag, vr, value = elements[i]
        match int(rng.integers(8)):
            case 0 | 1 | 2:
                elements[i] = tag, vr, VALUES[int(rng.integers(len(VALUES)))]
            case 3:
                elements[i] = tag, VRS[int(rng.integers(len(VRS)))], value
            case 4 if len(elements) > 1:
                del elements[i]
            case 5:
                elements.insert(int(rng.integers(len(elements))), elements[i])
            case 6:
                elements[i] = tag, vr, changed(value, rng)
            case _:
                other = plain[int(rng.integers(len(plain)))][0]
                elements.append(other[int(rng.integers(len(other)))])
                if rng.random() < 0.9:  # in the order of tags, as they have to be
                    elements.sort(key=lambda element: struct.unpack("<HH", element[0]))
    data = before + _joined(elements, rng)
    return changed(data, rng) if rng.random() < 0.25 else data


def changed(data: bytes, rng: np.random.Generator, first: int = 0) -> bytes:
    """Bytes that were flipped, cut out, put in, doubled or cut off, from `first` on."""
    found = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at = int(rng.integers(min(first, len(found)), len(found) + 1))
        size = int(rng.integers(1, 9))
        match int(rng.integers(7)):
            case 0 | 1 if at < len(found):
                found[at] ^= 1 << int(rng.integers(8))
            case 2:
                found[at : at + size] = rng.bytes(size)
            case 3:
                del found[at : at + size]
            case 4:
                found[at:at] = rng.bytes(size)
            case 5:
                found[at:at] = found[at : at + 16 * size]
            case 6 if rng.random() < 0.3:
                del found[at:]
            case _:
                found[at : at + size] = b"\xff" * size
    return bytes(found)


@cache
def files() -> list[tuple[bytes, int]]:
    """An image in every transfer syntax and depth, and where its Pixel Data starts."""
    made = []
    rng = np.random.default_rng(0)
    for syntax in SYNTAXES:
        for bits in (8, 12) if syntax != JPEGBaseline8Bit else (8, 8):
            ramp = np.add.outer(np.arange(96) * 11, np.arange(80) * 17) + rng.integers(0, 9, (96, 80))
            pixels = (ramp % (1 << bits)).astype(np.uint8 if bits == 8 else np.uint16)
            data = file_bytes(dataset(pixels, bits, PixelPaddingValue=0, WindowCenter=9, WindowWidth=5), pixels, syntax)
            made.append((data, max(data.find(b"\xe0\x7f\x10\x00"), data.find(b"\x7f\xe0\x00\x10"), 400)))
    return made


def mutated_file(rng: np.random.Generator, number: int) -> bytes:
    """A file of each transfer syntax in turn; three in four are changed only from their pixels on."""
    plain = files()
    data, start = plain[number % len(plain)]
    if rng.random() < 0.6:  # nothing moves, so that the decoder is asked
        found = bytearray(data)
        for _ in range(int(rng.integers(1, 6))):
            at, size = int(rng.integers(start + 40, len(found) - 2)), int(rng.integers(1, 4))
            found[at : at + size] = rng.bytes(len(found[at : at + size]))
        return bytes(found)
    return changed(data, rng, start if rng.random() < 0.6 else 132)


def made(kind: str, number: int) -> bytes:
    """The bytes of a numbered item."""
    rng = np.random.default_rng([0 if kind == "headers" else 1, number])
    return mutated_header(rng) if kind == "headers" else mutated_file(rng, number)


def outcome(data: bytes, folder: Path, number: int) -> str:
    """What becomes of a file in a build: its code. Raises what a build would raise."""
    (folder / "x.dcm").write_bytes(data)
    header = read_header(folder, "x.dcm", POLICIES[number % len(POLICIES)])
    try:
        assert parse_header(data, "x.dcm", POLICIES[number % len(POLICIES)]) == header, "disk and memory are read differently"
    except RejectedFile as rejected:
        assert header == Rejection("x.dcm", rejected.reason, rejected.detail), "disk and memory are read differently"
    else:
        assert header_from_json(header.record, header_to_json(header)) == header, "the JSON form is another header"
    try:
        image = decode(data, Laterality.LEFT, ("none", "window", "lut")[number % 3])  # type: ignore[arg-type]
        again = decode(data, Laterality.LEFT, "none")
        assert again.pixel_digest == image.pixel_digest, "the same file was read as two images"
        segment(image, Segment(method="otsu_log"))
        segment(decode(data, Laterality.LEFT, level=1), Segment(method="otsu_log"))
    except RejectedFile as rejected:
        return f"{'read' if isinstance(header, ImageHeader) else header.reason.value}, {rejected.reason.value}"
    except FvpipeError as error:
        return type(error).__name__
    return f"{'read' if isinstance(header, ImageHeader) else header.reason.value}, pixels"
