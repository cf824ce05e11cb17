"""The header's rules, each with files that break it and their reason codes; and the typed header."""

from __future__ import annotations

import logging
import os
import pickle
import re
import struct
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import (
    ExplicitVRLittleEndian,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pydicom.valuerep import STANDARD_VR

import fvpipe
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.decoding.transfer_syntaxes import NATIVE
from fvpipe.dicom.elements import RejectedFile, silenced
from fvpipe.dicom.header import parse_header, pixel_header, read_header
from fvpipe.dicom.image_header import ImageHeader, header_from_json, header_to_json
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import open_dicom, stream
from fvpipe.dicom.value_mapping import PixelPadding, Rescale, Window
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import NOTHING_STATED, Edge, ImageRecord, Laterality, Orientation, StatedImage, View
from tests.support.decoding import decode
from tests.support.factory import coded, dataset, deflated, encode, file_bytes, item, outcomes, table, write
from tests.support.faulty import (
    BLOCK,
    BYTES,
    CC,
    HEADER,
    MLO,
    PIXELS,
    PNG,
    RAMP,
    RULES,
    bomb,
    deflated_bomb,
    explicit_elements,
    header,
    modified,
    nested,
    retold,
)

STANDARD = HeaderPolicy()
CANARY = "Zqxcanary"
MESSY = {
    "PatientName": f"{CANARY}^{CANARY}", "PatientID": f"{CANARY}1", "PatientBirthDate": "19031207", "AccessionNumber": CANARY,
    "StudyID": CANARY, "PatientComments": CANARY, "ImageComments": CANARY, "StudyDescription": CANARY,
    "OtherPatientIDs": CANARY, "SeriesDescription": CANARY, "InstitutionName": CANARY, "OperatorsName": CANARY,
    "ReferringPhysicianName": CANARY, "PatientAddress": CANARY, "DerivationDescription": CANARY, "StationName": CANARY,
    "Manufacturer": CANARY,
}  # fmt: skip
"""Everything in which a header may tell who the patient is, with one text that a search finds."""


def read(folder: Path, data: bytes, policy: HeaderPolicy = STANDARD) -> ImageRecord | Rejection:
    write(folder / "x.dcm", data)
    found = read_header(folder, "x.dcm", policy)
    return found.record if isinstance(found, ImageHeader) else found


@pytest.mark.fault(22, 26, 27, 32)
@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_broken(tmp_path: Path, name: str) -> None:
    reason, tags = RULES[name]
    found = read(tmp_path, header(**tags))
    assert isinstance(found, Rejection)
    assert found.reason is reason, found
    assert found.what == "x.dcm"
    assert len(found.detail) < 200


@pytest.mark.fault(18, 21)
@pytest.mark.parametrize("name", BYTES)
def test_a_file_is_broken(tmp_path: Path, name: str) -> None:
    reason, make = BYTES[name]
    found = read(tmp_path, make())
    assert isinstance(found, Rejection)
    assert found.reason is reason, found


IMAGES = {"png": PNG, "jpeg": b"\xff\xd8\xff\xe0", "tiff": b"II*\0", "pgm": b"P5\n1 1\n255\n", "nrrd": b"NRRD0004\n"}


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "; the file is empty: copy it again"),
        (b"\x1f\x8b\x08" + bytes(200), "; it is compressed with gzip: unpack it"),
        (b"PK\3\4" + bytes(200), "; it is a ZIP archive: unpack it"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "; it is a Git LFS pointer: fetch the file itself"),
        *(
            (first + bytes(200), f"; it is a {form.upper()} image, which is read where `formats` of its data set name {form} ")
            for form, first in IMAGES.items()
        ),
        (b"hello", ""),
    ],
)
def test_what_takes_the_place_of_a_file_is_named(tmp_path: Path, head: bytes, said: str) -> None:
    found = read(tmp_path, head)
    assert isinstance(found, Rejection)
    assert found.detail.startswith(f"no DICM marker at byte 128{said}")


def reader_source() -> str:
    """The code that reads headers; windows and VOI LUTs are looked at with the pixels."""
    package = Path(fvpipe.__file__).parent / "dicom"
    files = [
        *(package / f"{name}.py" for name in ("elements", "orientation", "reader", "value_mapping")),
        *(package / "rules").glob("*.py"),
    ]
    return "".join(file.read_text(encoding="utf-8") for file in files).replace("Reason.WINDOW_INVALID", "")


def test_every_reason_of_the_module_is_asked_for() -> None:
    # With tests of their own.
    elsewhere = {
        Reason.NOT_A_FILE,
        Reason.IDENTIFIER_CONFLICT,
        Reason.DEFLATED_TOO_LARGE,
        Reason.REGION_OF_INTEREST,
        Reason.DICOM_DIRECTORY,
    }
    named = set(re.findall(r"Reason\.([A-Z_]+)", reader_source()))
    asked = {reason.name for reason, _ in [*RULES.values(), *BYTES.values()]} | {reason.name for reason in elsewhere}
    assert named == asked


@pytest.mark.fault(33)
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening it would wait for ever
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("link")
    reasons = {name: read_header(tmp_path, name, STANDARD) for name in ("fifo", "folder", "link", "absent")}
    assert {name: found.reason for name, found in reasons.items() if isinstance(found, Rejection)} == {
        "fifo": Reason.NOT_A_FILE,
        "folder": Reason.NOT_A_FILE,
        "link": Reason.FILE_UNREADABLE,
        "absent": Reason.FILE_UNREADABLE,
    }


@pytest.mark.fault(17)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = header()
    start = data.index(b"\xe0\x7f\x10\0OW") + 12
    for cut in [*range(0, start, 3), start, start + 1, len(data) - 1]:
        found = read(tmp_path, data[:cut])
        assert isinstance(found, Rejection), cut
    assert isinstance(found, Rejection) and found.reason is Reason.PIXELS_TRUNCATED
    assert read_reason(tmp_path, data[:start]) is Reason.PIXELS_TRUNCATED
    assert read_reason(tmp_path, data[: start - 12]) is Reason.PIXEL_DATA_MISSING
    # pydicom reads the following without a word, as a data set of no element.
    assert read_reason(tmp_path, data[: data.index(b"\x08\0\x16\0UI") + 4]) is Reason.HEADER_INCOMPLETE


def read_reason(folder: Path, data: bytes) -> Reason:
    found = read(folder, data)
    assert isinstance(found, Rejection)
    return found.reason


@pytest.mark.fault(17)
def test_compressed_pixels_cut_before_the_first_fragment(tmp_path: Path) -> None:
    frame = encode(PIXELS, 12, RLELossless)
    data = file_bytes(dataset(PIXELS, 12), frame, RLELossless)
    assert read_reason(tmp_path, data[: data.index(frame) - 8]) is Reason.PIXELS_TRUNCATED
    assert isinstance(read(tmp_path, data), ImageRecord)


# --- what is accepted -------------------------------------------------------------------------------------------------

ACCEPTED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "as it should be": ({}, {"view": View.CC, "laterality": Laterality.LEFT, "rows": 32, "columns": 24, "bits_stored": 12}),
    "no SOP class": ({"SOPClassUID": None}, {}),
    "no Modality": ({"Modality": None}, {}),
    "Modality in small letters": ({"Modality": "mg"}, {}),
    "1 frame": ({"NumberOfFrames": 1}, {}),
    "the smallest": ({"Rows": 16, "Columns": 16, "pixels": PIXELS[:16, :16]}, {"rows": 16, "columns": 16}),
    "SamplesPerPixel absent": ({"SamplesPerPixel": None}, {}),
    "HighBit absent": ({"HighBit": None}, {}),
    "PixelRepresentation absent": ({"PixelRepresentation": None}, {}),
    "MONOCHROME1": ({"PhotometricInterpretation": "MONOCHROME1"}, {"photometric_interpretation": "MONOCHROME1"}),
    "Modality LUT beats a slope of 0": ({"ModalityLUTSequence": table(RAMP), "RescaleSlope": 0}, {}),
    "SCT, CC": ({"ViewPosition": None, "ViewCodeSequence": coded("399162004")}, {"view": View.CC}),
    "SCT, MLO": ({"ViewPosition": None, "ViewCodeSequence": coded("399368009")}, {"view": View.MLO}),
    "SRT, CC": ({"ViewPosition": None, "ViewCodeSequence": coded("R-10242")}, {"view": View.CC}),
    "SRT, MLO": ({"ViewPosition": "", "ViewCodeSequence": coded("R-10226")}, {"view": View.MLO}),
    "code and position agree": ({"ViewPosition": "MLO", "ViewCodeSequence": coded(MLO)}, {"view": View.MLO}),
    "position alone": ({"ViewPosition": "MLO"}, {"view": View.MLO}),
    "position in small letters": ({"ViewPosition": "mlo "}, {"view": View.MLO}),
    "position with its side": ({"ViewPosition": "L-MLO"}, {"view": View.MLO}),
    "position with its side, and code": ({"ViewPosition": "LCC", "ViewCodeSequence": coded(CC)}, {"view": View.CC}),
    "position in full": ({"ViewPosition": "CRANIO-CAUDAL"}, {"view": View.CC}),
    "codes of both schemes": (
        {"ViewPosition": None, "ViewCodeSequence": Sequence([*coded("R-10242"), *coded(CC), item(CodeValue="")])},
        {"view": View.CC},
    ),
    "a meaning in another order": (
        {"ViewPosition": "MLO", "ViewCodeSequence": Sequence([item(CodeValue=MLO, CodeMeaning="oblicua medio-lateral")])},
        {"view": View.MLO},
    ),
    "implant displaced": ({"ViewCodeSequence": coded(CC, ("399209000",))}, {"implant_displaced": True}),
    "implant displaced, SRT": ({"ViewCodeSequence": coded(CC, ("R-102D5",))}, {"implant_displaced": True}),
    "implant displaced, top level": ({"ViewModifierCodeSequence": coded("399209000")}, {"implant_displaced": True}),
    "nipple in profile": ({"ViewCodeSequence": coded(CC, ("442581004",))}, {"implant_displaced": False}),
    "magnified 1.1 times": ({"EstimatedRadiographicMagnificationFactor": 1.1}, {}),
    "ImageLaterality R": ({"ImageLaterality": "R"}, {"laterality": Laterality.RIGHT}),
    "a side in full": ({"ImageLaterality": "Right"}, {"laterality": Laterality.RIGHT}),
    "a series of both breasts": ({"ImageLaterality": "R", "Laterality": "B"}, {"laterality": Laterality.RIGHT}),
    "Laterality alone": ({"ImageLaterality": None, "Laterality": "R"}, {"laterality": Laterality.RIGHT}),
    "FrameLaterality alone": ({"ImageLaterality": "", "FrameLaterality": "r"}, {"laterality": Laterality.RIGHT}),
    "the device's own words agree": (
        {"AcquisitionDeviceProcessingDescription": "LCC", "ImageType": ["ORIGINAL", "PRIMARY", "", "LEFT"]},
        {"view": View.CC},
    ),
    "words for both sides": (
        {"AcquisitionDeviceProcessingDescription": "R CC, L CC", "ImageType": ["ORIGINAL", "PRIMARY", "LEFT", "RIGHT"]},
        {"laterality": Laterality.LEFT},
    ),
    "a tilted CC": ({"PositionerPrimaryAngle": 15}, {"view": View.CC}),
    "an MLO at its angle": ({"PositionerPrimaryAngle": -45, "ViewPosition": "MLO"}, {"view": View.MLO}),
    "an angle that is none": ({"PositionerPrimaryAngle": None}, {"view": View.CC}),
    "three sides agree": ({"Laterality": "L", "FrameLaterality": "L"}, {"laterality": Laterality.LEFT}),
    "L as the standard hangs it": ({"PatientOrientation": ["A", "R"]}, {"chest_wall": Edge.LEFT}),
    "R as the standard hangs it": (
        {"ImageLaterality": "R", "PatientOrientation": ["P", "FL"]},
        {"chest_wall": Edge.RIGHT, "laterality": Laterality.RIGHT},
    ),
    "L mirrored from side to side": (  # put upright: its chest wall is where that of every left breast is
        {"PatientOrientation": ["P", "FR"]},
        {"chest_wall": Edge.LEFT, "orientation": Orientation.MIRRORED},
    ),
    "L turned over": (
        {"PatientOrientation": ["A", "L"]},
        {"chest_wall": Edge.LEFT, "orientation": Orientation.UPSIDE_DOWN},
    ),
    "orientation of one value": ({"PatientOrientation": "A"}, {"chest_wall": None}),
    "implant": ({"BreastImplantPresent": "YES"}, {"implant": True}),
    "no implant": ({"BreastImplantPresent": "NO"}, {"implant": False}),
    "synthetic": ({"ImageType": ["DERIVED", "PRIMARY", "", "GENERATED_2D"]}, {"synthetic": True}),
    "synthetic by name": ({"SeriesDescription": "L CC C-View"}, {"synthetic": True}),
    "DERIVED proves nothing": ({"ImageType": ["DERIVED", "PRIMARY"]}, {"synthetic": False}),
    "89 years": ({"PatientAge": "089Y"}, {"patient_age": "089Y"}),
    "90 years": ({"PatientAge": "090Y"}, {"patient_age": "90+"}),
    "104 years": ({"PatientAge": "104Y"}, {"patient_age": "90+"}),
    "months": ({"PatientAge": "551M"}, {"patient_age": "045Y"}),
    "the day of the 40th birthday in months": ({"PatientAge": "480M"}, {"patient_age": "040Y"}),
    "weeks": ({"PatientAge": "999W"}, {"patient_age": "019Y"}),
    "days": ({"PatientAge": "800D"}, {"patient_age": "002Y"}),
    "less than a year": ({"PatientAge": "011M"}, {"patient_age": "000Y"}),
    "an age that anonymizers write": ({"PatientAge": "000Y"}, {"patient_age": ""}),
    "an age that nobody has": ({"PatientAge": "999Y"}, {"patient_age": ""}),
    "an age in small letters and spaces": ({"PatientAge": " 45 y"}, {"patient_age": "045Y"}),
    "an age without a unit": ({"PatientAge": "045"}, {"patient_age": ""}),
    "an age that is none": ({"PatientAge": "old"}, {"patient_age": ""}),
    "spacing at the detector first": (
        {"ImagerPixelSpacing": [0.07, 0.08], "PixelSpacing": [0.1, 0.1]},
        {"row_spacing": 0.07, "column_spacing": 0.08},
    ),
    "spacing": ({"PixelSpacing": [0.1, 0.2]}, {"row_spacing": 0.1, "column_spacing": 0.2}),
    "spacing in micrometers": ({"ImagerPixelSpacing": [70, 70]}, {"row_spacing": None, "column_spacing": None}),
    "spacing in micrometers at the detector alone": (
        {"ImagerPixelSpacing": [700, 700], "PixelSpacing": [0.7, 0.7]},
        {"row_spacing": 0.7, "column_spacing": 0.7},
    ),
    "spacing in centimeters": ({"PixelSpacing": [0.007, 0.007]}, {"row_spacing": None, "column_spacing": None}),
    "spacing of a small copy": ({"PixelSpacing": [1.1, 1.2]}, {"row_spacing": 1.1, "column_spacing": 1.2}),
    "spacing 0": ({"PixelSpacing": [0, 0.2]}, {"row_spacing": None, "column_spacing": None}),
    "one spacing": ({"ImagerPixelSpacing": 0.1}, {"row_spacing": None}),
    "manufacturer with control characters": ({"Manufacturer": "A\tB" + 80 * "c"}, {"manufacturer": "AB" + 62 * "c"}),
    "SOP instance absent": ({"SOPInstanceUID": None}, {"sop_instance_uid": ""}),
    "64 characters": ({"PatientID": 64 * "x"}, {"patient_id": 64 * "x"}),
    "a path": ({"PatientID": "../../etc/x"}, {"patient_id": "../../etc/x"}),
    "a backslash separates nothing here": ({"PatientID": ["P", "1"]}, {"patient_id": "P\\1"}),
    "GB18030": (
        {"SpecificCharacterSet": "GB18030", "PatientName": "王^小东", "PatientID": "王1"},
        {"patient_id": "王1", "view": View.CC},
    ),
}


@pytest.mark.fault(32)
@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(tmp_path: Path, name: str) -> None:
    tags, expected = ACCEPTED[name]
    found = read(tmp_path, header(**tags))
    assert isinstance(found, ImageRecord), found
    assert {field: getattr(found, field) for field in expected} == expected


@pytest.mark.parametrize("syntax", sorted(NATIVE))
def test_native_transfer_syntaxes_have_the_same_record(tmp_path: Path, syntax: str) -> None:
    records = [read(tmp_path, file_bytes(dataset(PIXELS, 12), PIXELS, s)) for s in (ExplicitVRLittleEndian, syntax)]
    assert isinstance(records[1], ImageRecord)
    assert records[1].transfer_syntax_uid == syntax
    assert {repr(r).replace(s, "") for r, s in zip(records, (ExplicitVRLittleEndian, syntax), strict=True)} == {
        repr(records[0]).replace(ExplicitVRLittleEndian, "")
    }


def test_the_meta_information_tells_no_sop_class(tmp_path: Path) -> None:
    """VinDr-Mammo has a literal 1.2.3.4 there, which is what the factory writes too."""
    data = header()
    assert b"1.2.3.4" in data
    assert isinstance(read(tmp_path, data), ImageRecord)


# --- the typed header -------------------------------------------------------------------------------------------------

MAPPINGS: dict[str, dict[str, Any]] = {
    "as stored": {},
    "rescale": {"RescaleSlope": "0.1", "RescaleIntercept": "-1e-7"},
    "Modality LUT": {"ModalityLUTSequence": table(RAMP, first=-5)},
    "windows": {"WindowCenter": [1500.1, 3], "WindowWidth": [900.3, 4], "VOILUTFunction": "SIGMOID"},
    "invalid window": {"WindowCenter": 1, "WindowWidth": -1},
    "VOI LUTs": {"VOILUTSequence": Sequence([*table(RAMP), *table(RAMP[:7])])},
    "VOI LUT of bytes": {"VOILUTSequence": table(bytes(range(16)), bits=8)},
    "invalid VOI LUT": {"VOILUTSequence": table(RAMP[:10], said=11)},
    "MONOCHROME1": {"PhotometricInterpretation": "MONOCHROME1", "PixelPaddingValue": 4095},
    "padding": {"PixelPaddingValue": 9, "PixelPaddingRangeLimit": 2, "AcquisitionDate": "20200229"},
    "everything else": {
        "ImagerPixelSpacing": ["0.07", "0.085"], "PatientAge": "091Y", "Manufacturer": "M\u00fcller",
        "PatientOrientation": ["A", "R"], "SpecificCharacterSet": "ISO_IR 192", "BreastImplantPresent": "YES",
        "ShutterShape": "CIRCULAR",
    },
}  # fmt: skip


@pytest.mark.parametrize("syntax", [*sorted(NATIVE), RLELossless])
@pytest.mark.parametrize("name", MAPPINGS)
def test_a_header_is_one_value(tmp_path: Path, name: str, syntax: str) -> None:
    """The same from disk and from memory; it survives pickle and JSON, and decodes the image without a second parse."""
    with disable_value_validation(), silenced():
        frame = PIXELS if syntax in NATIVE else encode(PIXELS, 12, syntax)
        data = file_bytes(dataset(PIXELS, 12, **MAPPINGS[name]), frame, syntax)
    write(tmp_path / "x.dcm", data)
    header = read_header(tmp_path, "x.dcm", STANDARD)
    assert isinstance(header, ImageHeader), header
    assert parse_header(memoryview(data), "x.dcm", STANDARD) == header
    assert pickle.loads(pickle.dumps(header)) == header
    text = header_to_json(header)
    again = header_from_json(header.record, text)
    assert (again, type(again), repr(again)) == (header, ImageHeader, repr(header))
    assert "x.dcm" not in text
    assert len(text) < 2 * (2 * 4096 * 4 / 3 + 2000)
    with pytest.raises(FrozenInstanceError):
        header.record = again.record  # type: ignore[misc]
    for voi in ("none", "window", "lut"):
        found: list[tuple[Any, ...]] = []
        for form in (pixel_header(open_dicom(stream(data)), Laterality.LEFT), again):
            try:
                image = decode_image(data, form, voi)
                found.append((image.values.tolist(), image.flags, image.chest_wall, image.pixel_digest))
            except RejectedFile as rejected:
                found.append((rejected.reason, rejected.detail))
        assert found[0] == found[1]


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(1e-300, 1e300), st.integers(-(2**80), 2**80))
def test_numbers_of_a_header_survive_json_exactly(first: float, second: float, padding: int) -> None:
    header = parse_header(HEADER, "x", STANDARD)
    mapping = replace(
        header.mapping,
        modality=Rescale(second, first),
        window=Window("SIGMOID", first, second),
        padding=PixelPadding(padding, padding),
    )
    header = replace(header, mapping=mapping, record=replace(header.record, row_spacing=second, column_spacing=None))
    assert header_from_json(header.record, header_to_json(header)) == header


@pytest.mark.parametrize("text", ["", "{}", "null", "[1]", '{"layout": 1}'])
def test_what_is_no_header_is_an_error(text: str) -> None:
    header = parse_header(HEADER, "x", STANDARD)
    with pytest.raises(ValueError):
        header_from_json(header.record, text)
    whole = header_to_json(header)
    with pytest.raises(ValueError):
        header_from_json(header.record, whole[: len(whole) // 2])
    edge = f'"{header.chest_wall}"'
    assert edge in whole
    with pytest.raises(ValueError):
        header_from_json(header.record, whole.replace(edge, '"middle"'))


def test_the_date_is_hashed_with_the_other_identifiers() -> None:
    """It is only compared: of one exam or of two."""
    for key in (b"", 32 * b"a"):
        policy = HeaderPolicy(identifier_key=key)
        day, later = "20200229", "20200301"
        tags = ({"AcquisitionDate": day}, {"AcquisitionDateTime": f"{day}103000.5", "ContentDate": later}, {"ContentDate": day})
        dates = [parse_header(header(**t), "x", policy).acquisition_date for t in (*tags, {"AcquisitionDate": later}, {})]
        assert dates[0] == dates[1] == dates[2] != dates[3]
        assert dates[4] == ""
        assert ("20200229" in dates) == (not key)


def test_bytes_that_are_shorter_than_their_header_says() -> None:
    """Headers may be older than the bytes that they are used with."""
    data = header()
    found = parse_header(data, "x", STANDARD)
    for cut in (len(data) - 1, found.location.offset, 200, 0):
        with pytest.raises(RejectedFile) as caught:
            decode_image(data[:cut], found)
        assert caught.value.reason is Reason.PIXELS_TRUNCATED


def test_an_element_that_the_file_ends_in_is_rejected_from_disk_and_memory(tmp_path: Path) -> None:
    """pydicom would drop it, and what follows, with a warning."""
    data = retold(header(PatientComments="xy"), b"LT\2\0xy", b"OB\0\0\xff\xff\xff\xffxy")
    found = read(tmp_path, data)
    with pytest.raises(RejectedFile) as caught:
        parse_header(data, "x.dcm", STANDARD)
    assert found == Rejection("x.dcm", caught.value.reason, caught.value.detail)
    assert caught.value.reason is Reason.HEADER_UNREADABLE


def test_an_element_that_occurs_twice_is_rejected(tmp_path: Path) -> None:
    """As where an anonymizer adds an element and leaves the old one; private ones, and another order, do no harm."""
    data = file_bytes(dataset(PIXELS, 12, ImageLaterality="R"), PIXELS)
    first, side = data.index(b"\x20\0\x0d\0UI"), data.index(b"\x20\0\x62\0CS")
    element, private = data[side : side + 10], b"\x21\0\x10\0LO\2\0X "
    assert isinstance(read(tmp_path, data[: side + 10] + 2 * private + data[side + 10 :]), ImageRecord)
    moved = read(tmp_path, data[:first] + element + data[first:side] + data[side + 10 :])
    assert isinstance(moved, ImageRecord) and moved.laterality == "R"
    for other in (element, element[:-2] + b"L "):
        found = read(tmp_path, data[: side + 10] + other + data[side + 10 :])
        assert isinstance(found, Rejection), found
        assert found.reason is Reason.HEADER_UNREADABLE and found.detail.startswith("1 element(s) occur twice")


def test_entries_of_a_table_are_unsigned_words(tmp_path: Path) -> None:
    """PS3.3 C.11.1.1: what is below 0 or no whole number is rejected, not wrapped."""
    lut = table(RAMP[:4])
    lut[0].add_new("LUTData", "SS", [-1, 2, 3, 4])
    assert read_reason(tmp_path, header(ModalityLUTSequence=lut)) is Reason.LUT_INVALID


# --- identity ---------------------------------------------------------------------------------------------------------


def test_studies_are_told_apart_by_a_short_digest(tmp_path: Path) -> None:
    first, again, other = (
        read(tmp_path, header(StudyInstanceUID=uid, view=view))
        for uid, view in (("2.25.1", View.CC), ("2.25.1", View.MLO), ("2.25.2", View.CC))
    )
    assert isinstance(first, ImageRecord) and isinstance(again, ImageRecord) and isinstance(other, ImageRecord)
    assert re.fullmatch("[0-9a-f]{12}", first.study)
    assert first.study == again.study != other.study


def test_hashed_identifiers_depend_on_the_key_alone(tmp_path: Path) -> None:
    data = header(PatientID="P1", SOPInstanceUID="2.25.7", StudyInstanceUID="2.25.8")
    records = [read(tmp_path, data, HeaderPolicy(identifier_key=key)) for key in (32 * b"a", 32 * b"a", 32 * b"b")]
    plain = read(tmp_path, data)
    assert isinstance(plain, ImageRecord)
    assert records[0] == records[1]
    for field in ("patient_id", "study", "sop_instance_uid"):
        values = {getattr(record, field) for record in [*records, plain]}
        assert len(values) == 3, field  # two keys, and none
        assert all(re.fullmatch("[0-9a-f]{12,32}", getattr(record, field)) for record in records)


def test_hashed_identifiers_of_one_text_differ_by_kind() -> None:
    policy = HeaderPolicy(identifier_key=32 * b"a")
    assert policy.identifier("patient", "1") != policy.identifier("study", "1")
    assert policy.identifier("patient", "") == ""


FILM = {
    "SOPClassUID": SecondaryCaptureImageStorage, "ImageLaterality": None, "Laterality": "R", "ViewPosition": None,
    "PatientOrientation": "MLO", "PatientID": "Mass-Test_P_00820_RIGHT_MLO",
}  # fmt: skip


def test_cbis_policy(tmp_path: Path) -> None:
    policy = get_adapter("cbis").policy
    found = read(tmp_path, header(**FILM), policy)
    assert isinstance(found, ImageRecord), found
    assert (found.patient_id, found.study, found.view, found.laterality) == ("P_00820", "", View.MLO, Laterality.RIGHT)
    assert found.chest_wall is None  # its Patient Orientation is not an orientation
    for tags, reason in (
        ({"PatientOrientation": ["A", "R"]}, Reason.VIEW_MISSING),
        ({"PatientOrientation": None}, Reason.VIEW_MISSING),
        ({"PatientID": "P_00820"}, Reason.IDENTIFIER_INVALID),
        ({"PatientID": "Mass-Test_P_00820_RIGHT_MLO_1"}, Reason.REGION_OF_INTEREST),
    ):
        rejected = read(tmp_path, header(**FILM | tags), policy)
        assert isinstance(rejected, Rejection) and rejected.reason is reason, tags


def test_vindr_policy(tmp_path: Path) -> None:
    """No patient, SOP class or code is published: the patient is the study, whose UID is a digest."""
    tags = {"SOPClassUID": None, "PatientID": None, "StudyInstanceUID": 16 * "a1", "Laterality": "L", "ViewPosition": "CC"}
    found = read(tmp_path, header(**tags), get_adapter("vindr").policy)
    assert isinstance(found, ImageRecord), found
    assert (found.patient_id, found.study) == (16 * "a1", "")
    missing = read(tmp_path, header(**tags | {"StudyInstanceUID": None}), get_adapter("vindr").policy)
    assert isinstance(missing, Rejection) and missing.reason is Reason.IDENTIFIER_MISSING


def test_an_identifier_that_is_missing_is_named_by_its_source(tmp_path: Path) -> None:
    """A header that has it, of a data set whose adapter does not read it there."""
    own = replace(STANDARD, from_header=("laterality", "view"))
    of_path = StatedImage(patient="P1")
    for policy, stated, detail in (
        (own, NOTHING_STATED, "neither label table nor path gives the patient of this image"),
        (own, of_path, "neither label table nor path gives the exam of this image"),
        (replace(own, patient_from="study"), NOTHING_STATED, "neither label table nor path gives the patient"),
        (
            replace(STANDARD, patient_pattern="^X(.*)$"),
            NOTHING_STATED,
            "PatientID of 1 characters is not of this data set's form",
        ),
    ):
        (tmp_path / "x.dcm").write_bytes(header(PatientID="X"))
        found = read_header(tmp_path, "x.dcm", policy, stated)
        assert isinstance(found, Rejection) and found.detail.startswith(detail)
    missing = read(tmp_path, header(StudyInstanceUID=None))
    assert isinstance(missing, Rejection) and missing.detail == "StudyInstanceUID is absent or empty"


@pytest.mark.parametrize(
    ("patient", "reason"),
    [("P1_LCC", None), ("P1_L", None), ("P1_lcc", None), ("P1_RCC", "laterality_conflict"), ("P1_LMLO", "view_conflict")],
)
def test_side_and_view_in_a_patient_id_are_those_of_the_header(patient: str, reason: str | None, tmp_path: Path) -> None:
    policy = replace(STANDARD, patient_pattern=r"(?i)^(P\d)_(?P<laterality>[LR])(?P<view>CC|MLO)?$")
    found = read(tmp_path, header(PatientID=patient, ImageLaterality="L", ViewPosition="CC"), policy)
    assert found.reason.value == reason if isinstance(found, Rejection) else (found.patient_id, reason) == ("P1", None)


@pytest.mark.parametrize(("part", "reason"), [("BREAST", None), ("Left Breast", None), ("Right Breast", "laterality_conflict")])
def test_the_side_of_a_film_may_stand_in_its_name_alone(part: str, reason: str | None, tmp_path: Path) -> None:
    tags = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "PatientOrientation": "CC",
        "ImageLaterality": None,
        "ViewPosition": None,
    }
    tags |= {"PatientID": "Calc-Test_P_00038_LEFT_CC", "BodyPartExamined": part}
    found = read(tmp_path, header(**tags), get_adapter("cbis").policy)
    assert (
        found.reason.value == reason if isinstance(found, Rejection) else (found.laterality, reason) == (Laterality.LEFT, None)
    )


def test_cmmd_policy(tmp_path: Path) -> None:
    """The view is in a code alone, and a patient's images pair whatever their study."""
    tags = {"PatientID": "D1-0001", "ViewPosition": "", "ViewCodeSequence": coded(MLO), "PatientOrientation": ["A", "FR"]}
    found = read(tmp_path, header(**tags), get_adapter("cmmd").policy)
    assert isinstance(found, ImageRecord), found
    assert (found.patient_id, found.study, found.view, found.chest_wall) == ("D1-0001", "", View.MLO, Edge.LEFT)
    assert isinstance(read(tmp_path, header(**tags | {"StudyInstanceUID": None}), get_adapter("cmmd").policy), ImageRecord)


# --- bombs ------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(19, 20, 21)
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc")
def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    large = struct.pack("<I", 617 * BLOCK)
    found = outcomes(
        tmp_path,
        {
            "element": deflated_bomb(),
            "pixels": bomb(explicit_elements(pixels=False) + b"\xe0\x7f\x10\0OW\0\0" + large, 617),
            "after": bomb(explicit_elements() + b"\xfc\xff\xfc\xffOB\0\0" + large, 617),
            "honest": deflated(dataset(PIXELS, 12), PIXELS),
            "size": header(Rows=65535, Columns=65535),
            # Elements of 4 GB in a file of 2 kB, at top level and in a sequence.
            "long": retold(header(PatientComments="xy"), b"LT\2\0xy", b"UT\0\0\xf0\xff\xff\xff"),
            "long inside": nested(3, struct.pack("<HH2sHI", 0x0009, 0x1001, b"UT", 0, 0xFFFFFFF0)),
            "deep": nested(1000),
        },
    )
    assert found == {
        "element": ["deflated_too_large", "deflated_too_large"],
        "pixels": ["deflated_too_large", "deflated_too_large"],
        "after": ["read", "(32, 24)"],  # what follows the pixels is never inflated
        "honest": ["read", "(32, 24)"],
        "size": ["size_out_of_range", "size_out_of_range"],
        "long": ["header_incomplete", "header_incomplete"],
        "long inside": ["header_unreadable", "header_unreadable"],
        "deep": ["header_unreadable", "header_unreadable"],
    }


@pytest.mark.fault(21)
def test_deep_sequences_of_defined_length_are_not_followed(tmp_path: Path) -> None:
    inner = b""
    for _ in range(1000):
        inner = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner)) + inner
        inner = struct.pack("<HH2sHI", 0x0009, 0x1000, b"SQ", 0, len(inner)) + inner
    data = header()
    at = data.index(struct.pack("<HH", 0x0010, 0x0020))
    assert isinstance(read(tmp_path, data[:at] + inner + data[at:]), ImageRecord)


# --- nothing of the patient leaves, whatever is wrong -----------------------------------------------------------------


def messy(**tags: Any) -> bytes:
    with disable_value_validation(), silenced():
        ds = dataset(PIXELS, 12, **MESSY | {k: v for k, v in tags.items() if k != "pixels"})
        ds.add_new(0x00091001, "LO", CANARY)
        ds.add_new(0x00290010, "LO", CANARY)
        return file_bytes(ds, tags.get("pixels", PIXELS), SourceApplicationEntityTitle=CANARY)


# The canary where it does not belong, as a careless exporter or a field shifted by one puts it.
MISPLACED: dict[str, dict[str, Any]] = {
    keyword: {keyword: CANARY}
    for keyword in (
        "SOPClassUID", "Modality", "PhotometricInterpretation", "ViewPosition", "ImageLaterality", "Laterality",
        "FrameLaterality", "SpecificCharacterSet", "PatientAge", "StudyInstanceUID", "SOPInstanceUID", "PatientOrientation",
        "VOILUTFunction",
    )
} | {
    "view code": {"ViewPosition": None, "ViewCodeSequence": coded(CANARY)},
    "view modifier": modified(CANARY),
    "long identifier": {"PatientID": CANARY * 9},
    "identifier with NUL": {"PatientID": f"{CANARY}\0{CANARY}"},
}  # fmt: skip
SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut in the name": lambda data: data[: data.index(f"{CANARY}^".encode()) + 4],
    "cut in the pixels": lambda data: data[:-1],
    "name of a wrong representation": lambda data: retold(data, b"\x10\0\x10\0PN", b"\x10\0\x10\0US"),
    "name of an unknown representation": lambda data: retold(data, b"\x10\0\x10\0PN", b"\x10\0\x10\0ZZ"),
    "identifier as a date": lambda data: retold(data, b"\x10\0\x20\0LO", b"\x10\0\x20\0DA"),
    "identifier as a number": lambda data: retold(data, b"\x10\0\x20\0LO", b"\x10\0\x20\0DS"),
    "identifier as a float": lambda data: retold(data, b"\x10\0\x20\0LO", b"\x10\0\x20\0FD"),
    "identifier as Rows": lambda data: retold(
        retold(data, b"\x28\0\x10\0US", b"\x28\0\x99\0US"), b"\x10\0\x20\0LO", b"\x28\0\x10\0LO"
    ),
    "accession number as Modality": lambda data: retold(
        data.replace(b"\x08\0\x60\0CS\2\0MG", b""), b"\x08\0\x50\0SH", b"\x08\0\x60\0SH"
    ),
    "transfer syntax": lambda data: retold(data, b"1.2.840.10008.1.2.1\0", f"{CANARY}{CANARY}  ".encode()),
    "birth date too long": lambda data: retold(data, b"DA\x08\x0019031207", b"DA\xff\xff19031207"),
}  # fmt: skip


def all_spoilt() -> dict[str, bytes]:
    whole = messy()
    return (
        {name: messy(**tags) for name, (_, tags) in RULES.items() if "PatientID" not in tags}
        | {name: messy(**tags) for name, tags in MISPLACED.items()}
        | {name: spoil(whole) for name, spoil in SPOILT.items()}
    )


@pytest.mark.fault(35)
def test_nothing_of_the_patient_leaves_the_reader(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    files = all_spoilt()
    assert sum(CANARY.encode() in data for data in files.values()) == len(files)
    capfd.readouterr()
    recwarn.clear()
    caplog.clear()
    details = []
    with caplog.at_level(logging.DEBUG):
        for name, data in files.items():
            found = read(tmp_path, data)
            if isinstance(found, Rejection):
                details.append(f"{name}: {found.what} {found.reason} {found.detail}")
    told = "\n".join([*details, *capfd.readouterr(), caplog.text, *(str(warning.message) for warning in recwarn)])
    assert len(details) > 90
    assert CANARY.lower() not in told.lower()
    assert "19031207" not in told


def test_the_reader_leaves_pydicom_as_it_was(tmp_path: Path) -> None:
    import pydicom.config

    before = pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level
    read(tmp_path, b"")
    read(tmp_path, header())
    assert before == (pydicom.config.settings.reading_validation_mode, logging.getLogger("pydicom").level)


# --- any bytes --------------------------------------------------------------------------------------------------------

WHOLE = messy(
    ViewCodeSequence=coded(CC, ("399209000",)), ModalityLUTSequence=table(RAMP[:64]), VOILUTSequence=table(RAMP[:64]),
    PixelPaddingValue=3, WindowCenter=[1, 2], WindowWidth=[3, 4], ImagerPixelSpacing=[0.1, 0.1], NumberOfFrames=1,
    PatientOrientation=["A", "R"], RescaleSlope=1, RescaleIntercept=0, SpecificCharacterSet="ISO_IR 192",
)  # fmt: skip
START = WHOLE.index(b"\xe0\x7f\x10\0OW") + 12
VRS = [field.start() for field in re.finditer(rb"[A-Z]{2}", WHOLE[:START])]  # where value representations are, mostly
OTHER_VRS = st.sampled_from([vr.encode() for vr in STANDARD_VR] + [b"ZZ"])
changes = st.lists(
    st.one_of(
        st.tuples(st.integers(128, START - 1), st.binary(min_size=1, max_size=1)),
        st.tuples(st.sampled_from(VRS), OTHER_VRS),  # another value representation
        st.tuples(st.sampled_from([at + 2 for at in VRS]), st.binary(min_size=2, max_size=2)),  # another length
        st.tuples(
            st.sampled_from([at + 4 for at in VRS]), st.sampled_from([b"\xff", b"\\", b"nan", b"-1", b"\0"])
        ),  # another value
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("keyword", ["NumberOfFrames", "ViewPosition", "PixelPaddingValue", "PatientID", "Rows"])
def test_an_empty_element_of_an_unknown_representation_is_named(tmp_path: Path, keyword: str) -> None:
    tag = Tag(keyword)
    at = WHOLE.index(struct.pack("<HH", tag.group, tag.element)) + 4
    size = int.from_bytes(WHOLE[at + 2 : at + 4], "little")
    found = read(tmp_path, WHOLE[:at] + b"ZZ\0\0" + WHOLE[at + 4 + size :])
    assert isinstance(found, Rejection)
    assert (found.reason, found.detail) == (Reason.HEADER_UNREADABLE, f"{keyword} cannot be read (NotImplementedError)")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mutated")


@settings(max_examples=800, deadline=None, database=None)
@given(changes=changes, cut=st.none() | st.integers(0, len(WHOLE)))
def test_no_header_makes_the_reader_raise(scratch: Path, changes: list[tuple[int, bytes]], cut: int | None) -> None:
    mutated = bytearray(WHOLE)
    for at, value in changes:
        mutated[at : at + len(value)] = value
    data = bytes(mutated[:cut])
    found = read(scratch, data)
    assert isinstance(found, ImageRecord | Rejection)
    if isinstance(found, Rejection):
        assert CANARY.lower() not in found.detail.lower()
        return
    for voi in ("none", "window", "lut"):
        try:
            image = decode(data, found.laterality, voi)
        except RejectedFile:
            continue
        assert isinstance(image, DecodedImage)
        assert image.shape == (found.rows, found.columns)
        assert np.isfinite(image.values).all()
