"""Images that their header says lie otherwise than the standard displays them."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from fvpipe.build.sample import SampleTask, make_sample
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.dicom.decoding.pixels import decode_image
from fvpipe.dicom.elements import RejectedFile
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.orientation import UNDO, find_orientation, put_upright, upright_box
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.tables import findings_table
from fvpipe.io.read import file_state
from fvpipe.reasons import Flag, Reason, Rejection
from fvpipe.types import Breast, BreastFacts, BreastKey, Edge, Finding, FusedSample, ImageRecord, Laterality, Orientation, View
from tests.support import factory

LEFT, RIGHT, CC, MLO = Laterality.LEFT, Laterality.RIGHT, View.CC, View.MLO
DISPLAY = {(LEFT, CC): ("A", "R"), (LEFT, MLO): ("A", "FR"), (RIGHT, CC): ("P", "L"), (RIGHT, MLO): ("P", "FL")}
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")
OPPOSITE = str.maketrans("APHFRL", "PAFHLR")


def lay(pixels: np.ndarray, terms: tuple[str, str], orientation: Orientation) -> tuple[np.ndarray, tuple[str, str]]:
    """Lay an upright image so; returns it with its true Patient Orientation."""
    transpose, flip_rows, flip_columns = UNDO[orientation]
    rows, columns = terms
    if flip_rows:
        pixels, columns = pixels[::-1], columns.translate(OPPOSITE)
    if flip_columns:
        pixels, rows = pixels[:, ::-1], rows.translate(OPPOSITE)
    if transpose:
        pixels, rows, columns = pixels.T, columns, rows
    return np.ascontiguousarray(pixels), (rows, columns)


# --- what the header says ---------------------------------------------------------------------------------------------

TOLD: dict[str, tuple[Laterality, View, Orientation]] = {
    "A\\R": (LEFT, CC, Orientation.UPRIGHT),
    "P\\L": (RIGHT, CC, Orientation.UPRIGHT),
    "A\\FR": (LEFT, MLO, Orientation.UPRIGHT),
    "P\\FL": (RIGHT, MLO, Orientation.UPRIGHT),
    "A\\F": (LEFT, MLO, Orientation.UPRIGHT),
    "P\\F": (RIGHT, MLO, Orientation.UPRIGHT),
    "P\\L ": (RIGHT, MLO, Orientation.UPRIGHT),  # some write an MLO as a CC
    "A\\FR ": (LEFT, CC, Orientation.UPRIGHT),  # and the other way round
    "AF\\FP": (LEFT, MLO, Orientation.UPRIGHT),
    "AFL\\RF": (LEFT, MLO, Orientation.UPRIGHT),
    "A\\RH": (LEFT, CC, Orientation.UPRIGHT),  # a tilt
    "a\\fr": (LEFT, MLO, Orientation.UPRIGHT),
    "P\\R": (LEFT, CC, Orientation.MIRRORED),
    "A\\L": (LEFT, CC, Orientation.UPSIDE_DOWN),
    "A\\FL": (RIGHT, MLO, Orientation.MIRRORED),
    "A\\HL": (LEFT, MLO, Orientation.UPSIDE_DOWN),
    "A\\H": (LEFT, MLO, Orientation.UPSIDE_DOWN),
    "P\\HL": (LEFT, MLO, Orientation.TURNED_180),
    "P\\H": (LEFT, MLO, Orientation.TURNED_180),
    "H\\A": (LEFT, MLO, Orientation.TURNED_90),
    "HL\\A": (LEFT, MLO, Orientation.TURNED_90),
    "F\\P": (LEFT, MLO, Orientation.TURNED_270),
    "R\\P": (LEFT, CC, Orientation.TURNED_270),
    "F\\A": (LEFT, MLO, Orientation.TRANSPOSED),
    "FL\\P": (RIGHT, MLO, Orientation.TRANSPOSED),
    "HL\\P": (LEFT, MLO, Orientation.TRANSVERSE),
    "": (LEFT, CC, Orientation.NOT_GIVEN),
    "A": (LEFT, CC, Orientation.NOT_GIVEN),
    "A\\": (LEFT, CC, Orientation.NOT_GIVEN),
    "\\R": (LEFT, CC, Orientation.NOT_GIVEN),
    "MLO": (LEFT, MLO, Orientation.NOT_GIVEN),
}
CONTRADICTIONS: dict[str, tuple[Laterality, View, Reason, str]] = {
    "P\\L": (LEFT, CC, Reason.LATERALITY_CONFLICT, "is that of the other breast, or of this one turned by 180 degrees"),
    "A\\R": (RIGHT, CC, Reason.LATERALITY_CONFLICT, "is that of the other breast, or of this one turned by 180 degrees"),
    "P\\F": (LEFT, MLO, Reason.LATERALITY_CONFLICT, "is that of the other breast, or of this one mirrored"),
    "P\\FL": (LEFT, MLO, Reason.LATERALITY_CONFLICT, "P\\FL is that of the other breast"),
    "A\\HR": (LEFT, MLO, Reason.LATERALITY_CONFLICT, "HR is of the other breast"),
    "A\\FL": (LEFT, MLO, Reason.LATERALITY_CONFLICT, "FL is of the other breast"),
    "FL\\A": (LEFT, MLO, Reason.LATERALITY_CONFLICT, "FL is of the other breast"),
    "A\\P": (LEFT, CC, Reason.ORIENTATION_INVALID, "A\\P"),
    "A\\A": (LEFT, CC, Reason.ORIENTATION_INVALID, "A\\A"),
    "R\\F": (LEFT, MLO, Reason.ORIENTATION_INVALID, "one axis to A or P"),
    "A\\HF": (LEFT, MLO, Reason.ORIENTATION_INVALID, "not a pair of directions"),
    "A\\RR": (LEFT, CC, Reason.ORIENTATION_INVALID, "not a pair of directions"),
    "A\\H": (LEFT, CC, Reason.ORIENTATION_INVALID, "expected a CC to run"),
    "A\\HR ": (LEFT, CC, Reason.ORIENTATION_INVALID, "expected a CC to run"),
    "A\\F\\R": (LEFT, MLO, Reason.ORIENTATION_INVALID, "not a pair of directions"),
    "SMITH\\X": (LEFT, CC, Reason.ORIENTATION_INVALID, "<7 characters>"),
}


@pytest.mark.parametrize("value", TOLD)
def test_how_it_lies(value: str) -> None:
    side, view, orientation = TOLD[value]
    assert find_orientation(value.strip().split("\\"), side, view) is orientation


@pytest.mark.parametrize("value", CONTRADICTIONS)
def test_contradictions_are_rejected_for_what_they_are(value: str) -> None:
    side, view, reason, words = CONTRADICTIONS[value]
    with pytest.raises(RejectedFile) as rejected:
        find_orientation(value.strip().split("\\"), side, view)
    assert rejected.value.reason is reason
    assert words in rejected.value.detail
    assert "SMITH" not in rejected.value.detail


def test_as_the_standard_displays_it() -> None:
    """So lies every image of CMMD: nothing of it is turned."""
    assert {find_orientation(terms, *breast) for breast, terms in DISPLAY.items()} == {Orientation.UPRIGHT}


FIELDS_OF_VIEW: dict[str, tuple[dict[str, Any], Orientation]] = {
    "GE: upright, and turned at the detector": (
        {"PatientOrientation": ["A", "R"], "FieldOfViewRotation": 180, "FieldOfViewHorizontalFlip": "NO"},
        Orientation.UPRIGHT,
    ),
    "nothing but the detector": ({"FieldOfViewRotation": 0, "FieldOfViewHorizontalFlip": "NO"}, Orientation.NOT_GIVEN),
    "turned": ({"FieldOfViewRotation": 90}, Orientation.UNKNOWN),
    "turned, one direction": ({"FieldOfViewRotation": 180, "PatientOrientation": "A"}, Orientation.UNKNOWN),
    "flipped": ({"FieldOfViewHorizontalFlip": "yes"}, Orientation.UNKNOWN),
    "a whole turn": ({"FieldOfViewRotation": 360}, Orientation.NOT_GIVEN),
}


@pytest.mark.parametrize("name", FIELDS_OF_VIEW)
def test_the_field_of_view_undoes_nothing(tmp_path: Path, name: str) -> None:
    tags, orientation = FIELDS_OF_VIEW[name]
    header = read(tmp_path, factory.breast().pixels, **tags)
    assert header.record.orientation is orientation
    assert header.record.orientation_unknown == (orientation is Orientation.UNKNOWN)
    assert not header.record.reoriented
    image = decode_image((tmp_path / "x.dcm").read_bytes(), header)
    np.testing.assert_array_equal(image.stored, factory.breast().pixels)


def test_real_files_are_not_turned_by_their_field_of_view() -> None:
    """GE's lies upright though its detector's image was turned by 180 degrees."""
    header = read_header(Path(__file__).parent / "data" / "mg", "GH133.dcm", HeaderPolicy())
    assert isinstance(header, ImageHeader)
    assert header.record.orientation is Orientation.UPRIGHT


# --- what is done about it --------------------------------------------------------------------------------------------


def read(folder: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> ImageHeader:
    factory.write(folder / "x.dcm", factory.file_bytes(factory.dataset(pixels, 12, **tags), pixels, syntax))
    header = read_header(folder, "x.dcm", HeaderPolicy())
    assert isinstance(header, ImageHeader), header
    return header


@pytest.mark.parametrize("orientation", UNDO)
@pytest.mark.parametrize("side", Laterality)
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
def test_pixels_are_put_upright_exactly(tmp_path: Path, orientation: Orientation, side: Laterality, syntax: str) -> None:
    upright = factory.breast(view=MLO, side=side, shape=(300, 200)).pixels
    stored, terms = lay(upright, DISPLAY[side, MLO], orientation)
    header = read(tmp_path, stored, syntax=syntax, view=MLO, ImageLaterality=side.value, PatientOrientation=list(terms))
    assert header.record.orientation is orientation
    assert (header.record.rows, header.record.columns) == stored.shape  # as in the header
    for level in (0, 1):
        image = decode_image((tmp_path / "x.dcm").read_bytes(), header, level=level)
        turned = orientation is not Orientation.UPRIGHT
        assert image.scale == (1 if turned or syntax != JPEG2000Lossless else 1 << level)
        assert image.source_shape == upright.shape
        assert image.chest_wall is (Edge.LEFT if side is LEFT else Edge.RIGHT)
        if image.scale == 1:
            np.testing.assert_array_equal(image.stored, upright)
            assert image.stored.flags.c_contiguous
        # The same stored pixels without a Patient Orientation are known as equal.
        as_stored = replace(header, orientation=Orientation.NOT_GIVEN)
        assert decode_image((tmp_path / "x.dcm").read_bytes(), as_stored, level=level).pixel_digest == image.pixel_digest


@given(st.sampled_from(list(UNDO)), st.integers(1, 9), st.integers(1, 9), st.data())
def test_boxes_follow_the_pixels(orientation: Orientation, rows: int, columns: int, data: st.DataObject) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    bottom, right = data.draw(st.integers(top + 1, rows)), data.draw(st.integers(left + 1, columns))
    stored = np.zeros((rows, columns), np.uint8)
    stored[top:bottom, left:right] = 1
    box = upright_box((top, bottom, left, right), orientation, (rows, columns))
    upright = put_upright(stored, orientation)
    expected = np.zeros_like(upright)
    expected[int(box[0]) : int(box[1]), int(box[2]) : int(box[3])] = 1
    np.testing.assert_array_equal(upright, expected)


def sample_of(
    folder: Path, side: Laterality, lie: dict[View, Orientation], pipeline: Pipeline
) -> tuple[list[ImageRecord], FusedSample] | Rejection:
    """The records and the sample of two views that lie so, or why one is rejected."""
    headers = []
    for view in View:
        upright = factory.breast(3, view, side, shape=(320, 256)).pixels
        stored, terms = lay(upright, DISPLAY[side, view], lie[view])
        name = f"{view}.dcm"
        tags = {"ImageLaterality": side.value, "PatientOrientation": list(terms), "view": view}
        factory.write(folder / name, factory.file_bytes(factory.dataset(stored, 12, **tags), stored))
        header = read_header(folder, name, HeaderPolicy())
        if isinstance(header, Rejection):
            return header
        headers.append(header)
    cc, mlo = (header.record for header in headers)
    states = tuple(file_state((folder / f"{view}.dcm").stat()) for view in View)
    task = SampleTask(str(folder), "", (cc, mlo), (states[0], states[1]), (None, None), HeaderPolicy(), pipeline)
    found = make_sample(task).sample
    assert isinstance(found, FusedSample)
    return [cc, mlo], found


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(Laterality), st.sampled_from(list(UNDO)), st.sampled_from(list(UNDO)))
def test_any_orientation_gives_the_same_sample(
    tmp_path_factory: pytest.TempPathFactory, side: Laterality, of_cc: Orientation, of_mlo: Orientation
) -> None:
    """Or a rejection that names the contradiction: a CC turned by 180 degrees could as well be the other breast."""
    folder, pipeline = tmp_path_factory.mktemp("turned"), load_pipeline("cropped")[1]
    plain = sample_of(folder, side, dict.fromkeys(View, Orientation.UPRIGHT), pipeline)
    assert not isinstance(plain, Rejection)
    turned = sample_of(folder, side, {CC: of_cc, MLO: of_mlo}, pipeline)
    if isinstance(turned, Rejection):
        assert (turned.reason, of_cc) == (Reason.LATERALITY_CONFLICT, Orientation.TURNED_180)
        return
    (_, expected), (_, found) = plain, turned
    np.testing.assert_array_equal(found.image, expected.image)
    for name in ("boxes", "source_shape", "placement", "intensity_range", "breast_area", "breast_mean"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    reoriented = {of_cc, of_mlo} != {Orientation.UPRIGHT}
    assert found.flags == expected.flags | (Flag.REORIENTED if reoriented else Flag(0))


@pytest.mark.parametrize("orientation", UNDO)
def test_findings_are_where_their_lesions_are(tmp_path: Path, orientation: Orientation) -> None:
    """A reader's box is on the stored pixels; in the stored image of a sample it does not depend on how these lie."""
    pipeline, box = load_pipeline("cropped")[1], (40.0, 70.0, 10.0, 90.0)
    shown = []
    for lie in (Orientation.UPRIGHT, orientation):
        made = sample_of(tmp_path, LEFT, {CC: Orientation.UPRIGHT, MLO: lie}, pipeline)
        assert not isinstance(made, Rejection)
        (cc, mlo), sample = made
        transpose, flip_rows, flip_columns = UNDO[lie]  # drawn upright, then laid like the pixels
        top, bottom, left, right = box
        top, bottom = (320 - bottom, 320 - top) if flip_rows else (top, bottom)
        left, right = (256 - right, 256 - left) if flip_columns else (left, right)
        laid = (left, right, top, bottom) if transpose else (top, bottom, left, right)
        breast = Breast(BreastKey("own", "p", "", LEFT), cc, mlo, BreastFacts(), ((), (Finding("mass", None, *laid),)))
        index = cast(Index, SimpleNamespace(has_findings=True))
        lines = findings_table(index, [breast], {breast: sample}.__getitem__)
        assert lines is not None
        (row,) = csv.DictReader(io.StringIO(b"".join(lines).decode()))
        assert float(row["top"]) == laid[0]
        shown.append([row[f"image_{edge}"] for edge in ("top", "bottom", "left", "right")])
    assert shown[0] == shown[1]
