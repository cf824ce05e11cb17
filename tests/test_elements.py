"""Values of header elements."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from fvpipe.dicom.elements import RejectedFile, silenced, texts

KEYWORDS = {
    "AS": "PatientAge", "CS": "ImageType", "DA": "StudyDate", "LO": "PatientID", "SH": "AccessionNumber",
    "TM": "StudyTime", "UI": "StudyInstanceUID", "US": "Rows", "IS": "InstanceNumber", "DS": "ImagerPixelSpacing",
}  # fmt: skip
CHARACTER_SETS = ("ISO_IR 6", "ISO_IR 192", "GB18030", "ISO 2022 IR 87", "\\ISO 2022 IR 13", "ISO_IR 13", "wrong")
PARTS = (
    b"CC",
    b"1.2.3",
    b"20240131",
    b"7",
    b"007Y",
    b"a b",
    b" ",
    b"\0",
    b"\\",
    b"\r\n",
    b"\x1b$B",
    b"^",
    b"~",
    b"\xe9",
    b"\xb1",
)


def header(vr: str, value: bytes, little: bool, characters: str) -> Dataset:
    """A header of one element, as pydicom leaves it: not converted."""
    made = Dataset()
    made.SpecificCharacterSet = characters
    tag = Tag(KEYWORDS[vr])
    made[tag] = RawDataElement(tag, vr, len(value), value, 0, False, little)
    return made


@given(
    vr=st.sampled_from(sorted(KEYWORDS)),
    value=st.lists(st.sampled_from(PARTS), max_size=5).map(b"".join) | st.binary(max_size=6),
    little=st.booleans(),
    characters=st.sampled_from(CHARACTER_SETS),
)
@example("SH", b"\x1b$B7|", True, "\\ISO 2022 IR 87")
@example("UI", b"1.2\r\n", True, "ISO_IR 6")
def test_texts_are_those_of_pydicom(vr: str, value: bytes, little: bool, characters: str) -> None:
    """Short texts and numbers are converted here; pydicom's own conversion of the same bytes says the same."""
    with silenced():
        try:
            converted = header(vr, value, little, characters)
            _ = converted[KEYWORDS[vr]]
            expected = texts(converted, KEYWORDS[vr])
        except Exception:
            with pytest.raises(RejectedFile):
                texts(header(vr, value, little, characters), KEYWORDS[vr])
        else:
            assert texts(header(vr, value, little, characters), KEYWORDS[vr]) == expected


def test_a_number_is_read_in_its_byte_order() -> None:
    for little, expected in ((False, "258"), (True, "513")):
        assert texts(header("US", struct.pack(">H", 258), little, "ISO_IR 6"), "Rows") == [expected]
