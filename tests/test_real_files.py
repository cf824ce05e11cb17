"""Every real file at hand is read with the right pixels or rejected for the right reason, and the documentation says which."""

from __future__ import annotations

from pathlib import Path

import pydicom
import pytest

from fvpipe.dicom.decoding.decoders import lossy_decoder
from fvpipe.dicom.elements import silenced
from tests.support.real_files import PAGE, Verdict, all_verdicts, page, sources


@pytest.fixture(scope="module")
def verdicts(cbis: Path) -> list[Verdict]:
    return all_verdicts(cbis)


def test_the_page_is_what_the_code_does(verdicts: list[Verdict]) -> None:
    assert PAGE.read_text() == page(verdicts), "run python -m tests.support.real_files"


def test_what_is_read_equals_another_decoder(verdicts: list[Verdict]) -> None:
    read = [v for v in verdicts if v.pixels == "read"]
    assert len(read) > 60
    for v in read:
        assert v.other is not None
        assert v.other <= (1 if lossy_decoder(v.syntax) else 0), v


def test_the_mammograms_are_read_and_tomosynthesis_is_not(verdicts: list[Verdict]) -> None:
    header = {v.name: v.header for v in verdicts if v.source in ("tests/data/mg", "CBIS-DDSM")}
    assert header.pop("tomosynthesis_4_frames.dcm") == "sop_class_refused"
    assert header.pop("OutOfBoundsOverlay.dcm") == "image_kind_refused"  # of a stereotactic biopsy
    assert set(header.values()) == {"read"}
    assert len(header) == 9


WRONG = {
    "colour": lambda ds: ds.SamplesPerPixel != 1 or ds.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"),
    "size_out_of_range": lambda ds: not (16 <= ds.Rows <= 16384 and 16 <= ds.Columns <= 16384),
    "bits_unsupported": lambda ds: ds.BitsAllocated not in (8, 16),
    "pixel_data_missing": lambda ds: "PixelData" not in ds,
    "header_incomplete": lambda ds: any(
        k not in ds for k in ("Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "BitsStored")
    ),
    "pixels_truncated": lambda ds: len(ds.PixelData) < ds.Rows * ds.Columns * ds.BitsAllocated // 8,
}


def test_refusals_are_for_what_is_wrong(verdicts: list[Verdict], cbis: Path) -> None:
    """As pydicom sees it, who shares none of the rules' code."""
    paths = {(source, path.name): path for source, path, _ in sources(cbis)}
    asked = 0
    for v in verdicts:
        if v.pixels in WRONG:
            with silenced():
                assert WRONG[v.pixels](pydicom.dcmread(paths[v.source, v.name], force=True)), v
            asked += 1
        elif v.pixels == "not_dicom":
            assert paths[v.source, v.name].read_bytes()[128:132] != b"DICM"
    assert asked > 90
