"""`fvpipe audit --compare`: another library's reading agrees with ours, and whatever is wrong in ours is named."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from fvpipe.dicom import value_table
from fvpipe.dicom.decoding import decoders, pixels, second_reader
from fvpipe.dicom.decoding.decoders import DECODERS
from fvpipe.dicom.decoding.second_reader import LIBRARIES, UnreadableError, read_values
from fvpipe.dicom.decoding.transfer_syntaxes import ENCAPSULATED, NATIVE
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.printable import LINE_COLUMNS
from fvpipe.reasons import Flag
from fvpipe.report.compare_decoders import ComparedImage, DecoderComparison, Difference, _difference, comparison_text
from tests.conftest import run
from tests.support import factory
from tests.support.decoding import decode


def compare(folder: Path, *options: object, code: int = 0) -> Any:
    """The JSON of a comparison of all images, in this process unless the options say otherwise."""
    workers = () if "--workers" in options or "--threads" in options else ("--workers", 0)
    sample = () if "--compare" in options else ("--compare", "all")
    (found,) = json.loads(run("audit", "--dicom", folder, "--json", *sample, *workers, *options, code=code).stdout)
    return found


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


DEPTHS = {JPEGBaseline8Bit: 8} | dict.fromkeys(
    (HTJ2K, HTJ2KLossless, HTJ2KLosslessRPCL, JPEGLSLossless, JPEGLSNearLossless), 16
)
"""Bits stored: those that the factory's codestreams have."""


def image(folder: Path, name: str = "a.dcm", syntax: str = ExplicitVRLittleEndian, **tags: Any) -> factory.Made:
    made = factory.breast(bits=DEPTHS.get(UID(syntax), 12))
    return factory.mammogram(folder / name, made, syntax, **{"SOPInstanceUID": f"2.25.{zlib.crc32(name.encode())}"} | tags)


def test_every_transfer_syntax_agrees(tmp_path: Path) -> None:
    """As MONOCHROME1 and 2, with a rescale, and of other signs and depths."""
    folder = tmp_path / "in"
    tags = {"PhotometricInterpretation": "MONOCHROME1", "RescaleSlope": "0.3", "RescaleIntercept": "-17.1"}
    for syntax in NATIVE | ENCAPSULATED:
        image(folder, f"{syntax}.dcm", syntax)
        image(folder, f"{syntax}-1.dcm", syntax, **tags)
    made = factory.breast()
    image(folder, "lut.dcm", ModalityLUTSequence=factory.table(list(range(4096, 0, -1))))
    image(folder, "lut-1.dcm", ModalityLUTSequence=factory.table(list(range(4096))), PhotometricInterpretation="MONOCHROME1")
    for name, stored, more in (
        ("high", (made.pixels << 4).astype("u2"), {"HighBit": 15}),
        ("unused", (made.pixels | 0xF000).astype("u2"), {}),
        ("signed", (made.pixels.astype("i2") - 2048), {}),
        ("signed-1", (made.pixels.astype("i2") - 2048), tags),
    ):
        image_tags = {"SOPInstanceUID": f"2.25.{len(name)}7"} | more  # type: ignore[operator]
        factory.write(folder / f"{name}.dcm", factory.file_bytes(factory.dataset(stored, 12, **image_tags), stored))
    found = compare(folder)
    assert (found["differing"], found["unread"], found["rejected"]) == ([], [], 0)
    assert sum(found["read_by"].values()) == found["images"] == 2 * len(NATIVE | ENCAPSULATED) + 6
    counts = {library.split()[0]: count for library, count in found["read_by"].items()}
    assert counts == {"SimpleITK": found["images"] - 4, "pydicom": 4}  # tables, shifted bits, and signed MONOCHROME1


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_both_libraries_give_the_values_of_the_standard(data: st.DataObject) -> None:
    bits = data.draw(st.integers(2, 16))
    signed, high = data.draw(st.booleans()), data.draw(st.integers(bits - 1, 15))
    stored = np.random.default_rng(bits).integers(0, 1 << 16, (17, 20), dtype="u2")
    tags = {
        "HighBit": high, "PixelRepresentation": int(signed), "RescaleSlope": data.draw(st.sampled_from(["1", "-2", "0.5"])),
        "RescaleIntercept": data.draw(st.sampled_from(["0", "-1024"])),
        "PhotometricInterpretation": data.draw(st.sampled_from(["MONOCHROME1", "MONOCHROME2"])),
    }  # fmt: skip
    ds = factory.dataset(stored, bits, **tags)
    content = factory.file_bytes(ds, stored)
    ours = decode(content)
    path = factory.write(Path("x.dcm"), content)
    np.testing.assert_allclose(read_values("pydicom", path), ours.values[ours.stored], rtol=0, atol=1e-6)
    try:
        theirs = read_values("SimpleITK", path)
    except UnreadableError:
        # GDCM inverts MONOCHROME1 at few depths, and rescales no fewer than 7 bits.
        assert high != bits - 1 or tags["PhotometricInterpretation"] == "MONOCHROME1" or bits < 7
    else:
        np.testing.assert_allclose(theirs, ours.values[ours.stored], rtol=0, atol=1e-6)


def wrong(monkeypatch: pytest.MonkeyPatch, syntax: str, change: Any) -> None:
    """Make our decoder of a syntax wrong."""
    right = DECODERS[syntax]

    def decoded(frame: bytes, layout: Any) -> Any:
        found = right.decode(frame, layout)
        return found._replace(pixels=change(found.pixels.copy()))

    monkeypatch.setitem(decoders.DECODERS, syntax, replace(right, decode=decoded))


def test_a_wrong_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(found: Any) -> Any:
        found[5, 7] += 3
        return found

    folder = tmp_path / "in"
    image(folder, "sub/twin.dcm", JPEG2000Lossless)
    image(folder, "plain.dcm")
    assert compare(folder)["differing"] == []
    wrong(monkeypatch, JPEG2000Lossless, change)
    found = compare(folder, code=1)
    (only,) = found["differing"]
    assert (only["path"], only["library"], only["others"]) == ("sub/twin.dcm", "SimpleITK", [["pydicom", "pixels"]])
    share = 1 / (320 * 256)
    assert only["difference"] == {"what": "pixels", "detail": "", "largest": 3.0, "row": 5, "column": 7, "share": share}
    done = run("audit", "--dicom", folder, "--compare", "--workers", 0, code=1)
    assert "1 agree, 1 differ, 0 could not be compared" in done.output
    (line,) = (line for line in done.output.splitlines() if "twin" in line)
    assert line.split() == ["pixels", "3", "5,", "7", "0.00%", "SimpleITK", "pixels", "sub/twin.dcm"]


@pytest.mark.parametrize(("apart", "differs"), [(2, False), (3, True)])
def test_lossy_syntaxes_have_a_tolerance(apart: int, differs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image(tmp_path / "in", syntax=JPEG2000, RescaleSlope="2", RescaleIntercept="0")
    wrong(monkeypatch, JPEG2000, lambda found: np.where(found > 100, found - apart, found))
    found = compare(tmp_path / "in", code=int(differs))
    assert [each["difference"]["largest"] for each in found["differing"]] == [6.0] * differs


@pytest.mark.parametrize("what", ["polarity", "rescale"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_wrong_value_table_is_named(what: str, photometric: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = value_table.value_table

    def table(layout: Any, mapping: Any, voi: str) -> Any:
        if what == "polarity":
            return right(layout, replace(mapping, inverted=not mapping.inverted), voi)
        values, flags = right(layout, mapping, voi)
        return values * 2 + 10, flags

    image(tmp_path / "in", PhotometricInterpretation=photometric, RescaleSlope="3", RescaleIntercept="-5")
    monkeypatch.setattr(pixels, "value_table", table)
    (only,) = compare(tmp_path / "in", code=1)["differing"]
    assert (only["difference"]["what"], only["others"]) == (what, [["pydicom", what]])
    assert only["difference"]["detail"] == {
        "polarity": "light and dark are exchanged", "rescale": "0.5 x the value here -5",
    }[what]  # fmt: skip


def test_one_library_that_differs_is_told_from_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LIBRARIES, "SimpleITK", lambda path, header: np.zeros((320, 256), np.uint8))
    image(tmp_path / "in")
    (only,) = compare(tmp_path / "in", code=1)["differing"]
    assert (only["library"], only["others"]) == ("SimpleITK", [["pydicom", "same"]])


def decoded(**fields: Any) -> DecodedImage:
    made = factory.breast()
    return replace(decode(factory.file_bytes(factory.dataset(made.pixels, 12), made.pixels)), **fields)


def turned_over(inner: Any, path: Path, header: Any) -> Any:
    return inner(path, header)[::-1, ::-1]


@pytest.mark.parametrize("value", ["A\\R", "P\\R", "A\\L", "R\\A", "L\\A", "R\\P", "L\\P"])
def test_an_image_that_was_put_upright_agrees(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other libraries leave it as it is stored; one that is turned otherwise differs."""
    image(tmp_path / "in", PatientOrientation=value.split("\\"))
    assert not compare(tmp_path / "in")["differing"]
    for library, inner in list(LIBRARIES.items()):
        monkeypatch.setitem(LIBRARIES, library, partial(turned_over, inner))
    (only,) = compare(tmp_path / "in", code=1)["differing"]
    assert only["difference"]["what"] == "pixels"


def test_sizes_are_compared() -> None:
    ours = decoded()
    small = _difference(ours, ours.stored[:-1], 0)
    assert small is not None
    assert (small.what, small.detail, small.largest) == ("size", "319 x 256, here 320 x 256", None)
    for turned in (np.rot90(ours.stored), ours.stored[::-1], ours.stored[:, ::-1], ours.stored.T):
        assert _difference(ours, turned, 0) is not None


def test_what_no_library_reads_is_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path, header: Any) -> Any:
        raise ValueError("Zyxwvut")

    for library in LIBRARIES:
        monkeypatch.setitem(LIBRARIES, library, fails)
    image(tmp_path / "in")
    image(tmp_path / "in", "ct.dcm", Modality="CT")
    factory.write(tmp_path / "in" / "cut.dcm", (tmp_path / "in" / "a.dcm").read_bytes()[:-1000])
    found = compare(tmp_path / "in")
    assert (found["read_by"], found["differing"], found["rejected"]) == ({}, [], 2)
    (only,) = found["unread"]
    assert (only["path"], only["unread"]) == ("a.dcm", "SimpleITK: ValueError; pydicom: ValueError")
    text = run("audit", "--dicom", tmp_path / "in", "--compare", "--workers", 0).output
    assert "0 agree, 0 differ, 1 could not be compared" in text
    assert "Zyxwvut" not in text


def test_the_sample_depends_on_paths_and_seed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on the order in which files were written, nor on workers; a larger sample holds the smaller one."""
    names = [f"{i // 4}/{i}.dcm" for i in range(12)]
    results = []
    for order, workers in ((names, ("--workers", 0)), (names[::-1], ("--workers", 2)), (names, ("--threads",))):
        folder = tmp_path / f"run{len(results)}" / "in"
        for name in order:
            image(folder, name, JPEGLosslessSV1)
        results.append(compare(folder, "--compare", 5, *workers))
    assert results[0] == results[1] == results[2]
    assert sum(results[0]["read_by"].values()) == 5
    wrong(monkeypatch, JPEGLosslessSV1, lambda found: found ^ 1)
    chosen = {}
    for size, seed in ((3, 0), (5, 0), (5, 1)):
        found = compare(tmp_path / "run0" / "in", "--compare", size, "--seed", seed, code=1)
        chosen[size, seed] = [each["path"] for each in found["differing"]]
    assert set(chosen[3, 0]) < set(chosen[5, 0])
    assert chosen[5, 0] != chosen[5, 1]
    assert [len(paths) for paths in chosen.values()] == [3, 5, 5]


def test_nothing_of_a_patient_is_printed_or_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Also where SimpleITK reads a copy, of a file without SOP class."""
    canary = "Zyxwvut"
    copies = []
    inner = second_reader._execute

    def seen(path: Path) -> Any:
        copies.append(path.read_bytes())
        return inner(path)

    monkeypatch.setattr(second_reader, "_execute", seen)
    image(tmp_path / "in", PatientID=canary, PatientName=canary, SOPClassUID=None, AccessionNumber=canary)
    right = value_table.value_table
    monkeypatch.setattr(pixels, "value_table", lambda *a: (right(*a)[0] + 1, Flag(0)))
    text = run("audit", "--dicom", tmp_path / "in", "--compare", "--workers", 0, code=1).output
    printed = capfd.readouterr()
    assert canary not in text + printed.out + printed.err
    assert len(copies) == 2
    assert canary.encode() in copies[0]
    assert canary.encode() not in copies[1]


def test_lines_fit_the_screen() -> None:
    found = [
        Difference("pixels", "", 65535.0, 16383, 16383, 1.0),
        Difference("size", "16384 x 16384, here 16384 x 16384", None, 0, 0, 1.0),
        Difference("rescale", "x" * 99, 1.234567e-30, 0, 0, 1e-9),
    ]
    path = f"{'folder/' * 40}image\n.dcm"
    images = tuple(ComparedImage(path, "SimpleITK", each, (("pydicom", "polarity"),)) for each in found)
    unread = (ComparedImage(path, unread="a" * 200), ComparedImage("b.dcm", unread="no end after 120 s"))
    lines = comparison_text(
        DecoderComparison("x", 10**6, 2**31, 10**6, {"SimpleITK 2.5.7": 10**6}, images, unread)
    ).splitlines()
    assert max(map(len, lines)) <= LINE_COLUMNS
    assert len(lines) == 3 + 1 + 3 + 2
    assert all(line.endswith("image?.dcm") for line in lines[4:8])
    assert lines[-1].endswith(" b.dcm")


def test_in_a_project_each_data_set_is_compared(tmp_path: Path) -> None:
    for name in ("one", "two"):
        factory.patient(tmp_path / name, "P", "L")
    lines = "".join(f"  {name}: {{adapter: table, dicom: {name}}}\n" for name in ("one", "two"))
    (tmp_path / "params.yaml").write_text(f"datasets:\n{lines}pipelines: [cropped]\n")
    found = json.loads(run("audit", "--compare", "--json", "--workers", 0).stdout)
    assert [(each["dataset"], each["images"], each["differing"]) for each in found] == [("one", 2, []), ("two", 2, [])]
    assert len(json.loads(run("audit", "--compare", "1", "--dataset", "two", "--json", "--workers", 0).stdout)) == 1
    run("audit", "--compare", "--out", "x.html", code=2)
    for wrong_size in ("0", "-1", "some"):
        run("audit", f"--compare={wrong_size}", code=2)
    assert not (tmp_path / "cache" / "reports").exists()
