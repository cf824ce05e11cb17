"""What people look at before they build: `fvpipe inspect` of one file, `fvpipe audit` of a data set."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    MediaStorageDirectoryStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from fvpipe.config.pipeline import Pipeline, Segment
from fvpipe.datasets.registry import get_adapter
from fvpipe.dicom.elements import silenced
from fvpipe.dicom.header import read_header
from fvpipe.dicom.image_header import ImageHeader
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.dicom.reader import HEADER_INFLATE_LIMIT, MAX_HEADER_BYTES, OpeningStep
from fvpipe.dicom.rules import RULES
from fvpipe.errors import InputError
from fvpipe.imaging.segmentation.crop_verdict import measurements
from fvpipe.imaging.segmentation.segment import trace_segmentation
from fvpipe.reasons import Flag, Rejection
from fvpipe.report.audit import _worst_first
from fvpipe.report.measurements.measure import ImageMeasurement, ImageTask, measure_images
from fvpipe.report.measurements.statistics import MIN_SIGMA, distribution, largest_deviations, robust_center
from fvpipe.report.rule_report import report_header
from fvpipe.types import ImageRecord, Laterality, Orientation, View
from tests.conftest import build, run
from tests.support import factory
from tests.support.decoding import decode
from tests.support.processes import BROKEN_DECODERS, in_every_process
from tests.test_dicom import reader_source

BREAST = factory.breast()
NOISE = np.random.default_rng(0).integers(0, 4096, (320, 256)).astype(np.uint16)


def data(syntax: str = ExplicitVRLittleEndian, pixels: Any = None, **tags: Any) -> bytes:
    """A file with some tags changed."""
    with silenced():
        return factory.file_bytes(
            factory.dataset(BREAST.pixels, 12, **tags), BREAST.pixels if pixels is None else pixels, syntax
        )


# --- every rule by itself ---------------------------------------------------------------------------------------------


TAGGED: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("SOP class", "sop_class_refused", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}),
    (
        "SOP class",
        "rejection_note",
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.59", "ConceptNameCodeSequence": factory.coded("113001")},
    ),
    ("modality", "modality_refused", {"Modality": "CT"}),
    ("frames", "multi_frame", {"NumberOfFrames": 2}),
    ("image kind", "image_kind_refused", {"QualityControlImage": "YES"}),
    ("size", "size_out_of_range", {"Rows": 8}),
    ("photometric interpretation", "colour", {"PhotometricInterpretation": "RGB"}),
    ("photometric interpretation", "header_incomplete", {"PhotometricInterpretation": None}),
    ("bits", "bits_unsupported", {"BitsStored": 17}),
    ("rescale", "rescale_invalid", {"RescaleSlope": 0, "RescaleIntercept": 0}),
    ("rescale", "lut_invalid", {"ModalityLUTSequence": factory.table([1, 2, 3], said=9)}),
    ("view", "view_missing", {"ViewPosition": None}),
    ("view", "view_conflict", {"ViewCodeSequence": factory.coded("399368009")}),
    ("view", "view_not_pairable", {"ViewPosition": "ML"}),
    ("view modifiers", "view_modified", {"ViewCodeSequence": factory.coded("399162004", ("399163009",))}),
    ("partial view", "view_modified", {"PartialView": "YES"}),
    ("magnification", "view_modified", {"EstimatedRadiographicMagnificationFactor": 1.8}),
    ("laterality", "laterality_missing", {"ImageLaterality": "B"}),
    ("laterality", "laterality_conflict", {"Laterality": "R"}),
    ("patient orientation", "laterality_conflict", {"PatientOrientation": ["P", "L"]}),
    ("patient orientation", "orientation_invalid", {"PatientOrientation": ["A", "P"]}),
    ("region of interest", "region_of_interest", {"PatientID": "P_1"}),
    ("identity", "identifier_missing", {"PatientID": None}),
    ("identity", "identifier_invalid", {"PatientID": "x" * 65}),
)


def broken_element(tag: bytes, vr: bytes = b"US", **tags: Any) -> bytes:
    """A file with three bytes in an element of numbers of two."""
    found = data(**tags)
    at = found.index(tag)
    length = int.from_bytes(found[at + 6 : at + 8], "little")
    return found[:at] + tag + vr + b"\3\0" + b"\0\0\0" + found[at + 8 + length :]


FILES: tuple[tuple[str, str, Callable[[], bytes]], ...] = (
    ("DICM marker", "not_dicom", lambda: b"no DICOM" * 99),
    ("file meta information", "header_unreadable", lambda: data()[:140] + b"\xff" * 40),
    ("transfer syntax", "transfer_syntax_unsupported", lambda: data().replace(b"10008.1.2.1\0", b"10008.1.2.9\0", 1)),
    ("data set", "header_unreadable", lambda: data().replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0UT")),
    (
        "data set",
        "deflated_too_large",
        lambda: data(DeflatedExplicitVRLittleEndian, TextValue="x" * (HEADER_INFLATE_LIMIT + 1)),
    ),
    (
        "data set",
        "dicom_directory",
        lambda: factory.file_bytes(Dataset(), None, MediaStorageSOPClassUID=MediaStorageDirectoryStorage),
    ),
    ("file size", "pixels_mismatch", lambda: data() + bytes(MAX_HEADER_BYTES + 4 * BREAST.pixels.size)),
    ("pixel data", "pixel_data_missing", lambda: factory.file_bytes(factory.dataset(BREAST.pixels, 12), None)),
    ("pixel data", "pixels_truncated", lambda: data()[:-100]),
    ("pixel data", "pixels_mismatch", lambda: data(pixels=BREAST.pixels.tobytes() + bytes(1000))),
    ("pixel data", "multi_frame", lambda: data(pixels=2 * BREAST.pixels.tobytes())),
    ("pixel data", "decode_failed", lambda: data(RLELossless).replace(b"10008.1.2.5\0", b"10008.1.2.1\0", 1)),
    ("pixel padding", "header_unreadable", lambda: broken_element(b"\x28\0\x20\1", PixelPaddingValue=0)),
    ("other elements", "header_unreadable", lambda: broken_element(b"\x08\0\x70\0", Manufacturer="ACME")),
    ("other elements", "header_unreadable", lambda: broken_element(b"\x08\0\x22\0", AcquisitionDate="20200101")),
)
POLICY = HeaderPolicy(region_pattern="_1$")


def refusals(content: bytes, folder: Path) -> list[tuple[str, str]]:
    """The rules that reject a file; the first of them gives the reader's own reason and words."""
    factory.write(folder / "x.dcm", content)
    rejected = read_header(folder, "x.dcm", POLICY)
    shown = [verdict for verdict in report_header(folder / "x.dcm", POLICY).results if verdict.reason]
    assert isinstance(rejected, Rejection)
    assert (shown[0].reason, shown[0].found) == (rejected.reason, rejected.detail)
    return [(verdict.rule, str(verdict.reason)) for verdict in shown]


def test_each_refusal_is_that_of_its_rule(tmp_path: Path) -> None:
    """The list names the rule, and no other; every rule and every reason of the header is here."""
    for rule, reason, tags in TAGGED:
        assert refusals(data(**tags), tmp_path) == [(rule, reason)]
    for rule, reason, make in FILES:
        assert refusals(make(), tmp_path) == [(rule, reason)]
    named = set(re.findall(r"Reason\.([A-Z_]+)", reader_source()))
    assert {name.lower() for name in named} - {reason for _, reason, _ in (*TAGGED, *FILES)} == {
        "not_a_file",
        "identifier_conflict",
    }
    rules = [*(step.value for step in OpeningStep), *(rule.name for rule in RULES)]
    assert set(rules) - {rule for rule, _, _ in (*TAGGED, *FILES)} == {"file"}
    assert len(set(rules)) == len(rules)
    os.mkfifo(tmp_path / "pipe.dcm")
    assert "rejected: not_a_file: no regular file" in run("inspect", tmp_path / "pipe.dcm", code=1).output


def test_every_rule_is_evaluated_and_needs_only_what_it_names(tmp_path: Path) -> None:
    """A file that breaks a rule of every kind shows all, and names the facts that the rest would need."""
    tags: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "Modality": "CT", "NumberOfFrames": 2, "Rows": 8, "BitsStored": 17,
        "PhotometricInterpretation": "RGB", "RescaleSlope": 0, "RescaleIntercept": 0, "ViewPosition": None,
        "ViewModifierCodeSequence": factory.coded("399163009"), "EstimatedRadiographicMagnificationFactor": 1.8,
        "ImageLaterality": "B", "PatientID": None, "ImageType": ["DERIVED", "PRIMARY", "STEREO"], "PartialView": "YES",
    }  # fmt: skip
    factory.write(tmp_path / "x.dcm", data(**tags)[:-100])
    results = {result.rule: result for result in report_header(tmp_path / "x.dcm", POLICY).results}
    assert {name: result.found for name, result in results.items() if result.verdict == "not asked"} == {
        "patient orientation": "needs view, laterality",
        "pixel data": "needs size, photometric interpretation, bits",
        "other elements": "needs image kind, size, photometric interpretation, bits, view, laterality, identity",
    }
    assert [name for name, result in results.items() if result.reason] == [  # in this order, which decides the reason
        "SOP class", "modality", "frames", "image kind", "size", "photometric interpretation", "bits", "rescale", "view",
        "view modifiers", "partial view", "magnification", "laterality", "identity",
    ]  # fmt: skip
    passed = {name for name, result in results.items() if result.verdict == "passed"}
    assert passed == {*OpeningStep, "file size", "region of interest", "pixel padding"}  # no patient, so no lesion's either
    film = get_adapter("cbis").policy
    results = {result.rule: result for result in report_header(tmp_path / "x.dcm", film).results}
    for rule in ("view modifiers", "partial view", "magnification", "patient orientation"):
        assert results[rule].verdict == "not asked"


def test_two_refusals_are_both_shown(tmp_path: Path) -> None:
    """Any two that are in different rules, in the reader's order."""
    for (first, reason, tags), (second, other, more) in itertools.combinations(TAGGED, 2):
        if (
            first == second
            or tags.keys() & more.keys()
            or ("patient orientation" in (first, second) and {first, second} & {"laterality", "view"})
        ):
            continue
        if {first, second} <= {"view", "view modifiers"}:  # a sequence that both are about
            continue
        assert set(refusals(data(**tags, **more), tmp_path)) == {(first, reason), (second, other)}, (tags, more)


@pytest.mark.usefixtures("inspects_here")
def test_a_refusal_does_not_hide_the_next(tmp_path: Path) -> None:
    """Everything that is wrong with a file is shown, the reader's own reason first; its pixels are looked at all the same."""
    tags: dict[str, Any] = {
        "Modality": "CT",
        "ViewPosition": "XCCL",
        "ImageLaterality": "B",
        "PatientID": None,
        "RescaleSlope": 2,
        "RescaleIntercept": -1,
    }
    factory.write(tmp_path / "x.dcm", data(SOPClassUID=SecondaryCaptureImageStorage, WindowCenter=40, WindowWidth=0, **tags))
    found = json.loads(run("inspect", tmp_path / "x.dcm", "--json", "--png", tmp_path / "x.png", code=1).output)
    verdicts = {row["rule"]: row for row in found["rules"]}
    assert [row["reason"] for row in found["rules"] if "reason" in row] == [
        "sop_class_refused", "modality_refused", "view_not_pairable", "laterality_missing", "identifier_missing",
    ]  # fmt: skip
    assert (found["rejected"], found["reason"]) == (True, "sop_class_refused")
    assert verdicts["patient orientation"]["verdict"] == "not asked"
    assert verdicts["decoded pixels"]["verdict"] == "passed"
    assert found["values"]["rescale"] == "slope 2, intercept -1"
    assert found["values"]["window"] == "not usable: window center 40, width 0; expected finite, and a positive width"
    assert found["segmentation"]["method"] == "otsu_log"
    text = run("inspect", tmp_path / "x.dcm", code=1).output
    assert text.startswith("rejected: sop_class_refused: SOPClassUID is 1.2.840.10008.5.1.4.1.1.7")
    assert "`secondary_capture: true` of the data set, or of `headers` in a declaration, accepts it" in text.splitlines()[0]
    assert re.search(r"rejected +laterality +laterality_missing: laterality: ImageLaterality B; expected L or R", text)
    drawn = cv2.imread(str(tmp_path / "x.png"))
    assert drawn is not None and drawn.shape == (480, 256 + 640, 3)  # the image, and the histogram beside it


def test_rules_of_real_films(cbis: Path) -> None:
    """All pass where the reader passes them."""
    policy = get_adapter("cbis").policy
    for file in sorted(cbis.rglob("*.dcm")):
        assert not [v for v in report_header(file, policy).results if v.reason]


@pytest.mark.usefixtures("inspects_here")
def test_inspect_of_pixels_that_a_rule_refuses(tmp_path: Path) -> None:
    """Damage that only the decoder finds; a window that the pipeline would apply."""
    frame = bytearray(factory.encode(BREAST.pixels, 12, JPEG2000Lossless))
    factory.write(tmp_path / "a.dcm", data(JPEG2000Lossless, bytes(frame[:-2])))
    found = json.loads(run("inspect", tmp_path / "a.dcm", "--json", code=1).output)
    assert [(r["rule"], r["reason"]) for r in found["rules"] if "reason" in r] == [("decoded pixels", "pixels_truncated")]
    factory.write(tmp_path / "b.dcm", data(WindowCenter=40, WindowWidth=-1))
    (tmp_path / "w.yaml").write_text("voi: window\n")
    run("inspect", tmp_path / "b.dcm")
    found = json.loads(run("inspect", tmp_path / "b.dcm", "--pipeline", tmp_path / "w.yaml", "--json", code=1).output)
    assert [(r["rule"], r["reason"]) for r in found["rules"] if "reason" in r] == [("window and VOI LUT", "window_invalid")]


@pytest.mark.parametrize(
    ("name", "syntax", "reason", "told"),
    [
        ("crash", JPEGLSLossless, "decoder_crashed", "its process ended with SIGABRT"),
        pytest.param("hang", JPEG2000Lossless, "decoder_timeout", "no end after 1 s", marks=pytest.mark.slow),
    ],
)
def test_inspect_survives_the_decoder(
    name: str, syntax: str, reason: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that the decoder crashed, or hung, and shows the header's rules and the decoder's name."""
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    in_every_process(BROKEN_DECODERS, tmp_path / "site", monkeypatch)
    factory.write(tmp_path / f"{name}.dcm", data(syntax))
    png = tmp_path / f"{name}.png"
    text = run("inspect", tmp_path / f"{name}.dcm", "--timeout", 1, "--png", png, code=1).output
    assert f"rejected: {reason}: {told}" in text
    assert re.search(r"passed +identity", text)
    assert re.search(r"decoder +imagecodecs", text)
    assert not png.exists()


def test_attempts_are_those_of_the_segmentation() -> None:
    """What is shown is what was done: the same method, threshold and gates; two attempts where the first fails."""
    for pixels in (BREAST.pixels, NOISE):
        image = decode(factory.file_bytes(factory.dataset(pixels, 12), pixels), Laterality.LEFT)
        for method in ("otsu_log", "triangle", "agreement"):
            settings = Segment(method=method)  # type: ignore[arg-type]
            found, seen = trace_segmentation(image, settings)
            assert seen is not None
            shown = next((a for a in seen.attempts if a.method == found.method), seen.attempts[0])
            assert (shown.threshold, measurements(shown)) == (found.threshold, found.gates)
            assert any(a.passes for a in seen.attempts) == (found.method != "whole_frame")
            assert [a.method for a in seen.attempts][-1] == (
                "otsu_log" if pixels is BREAST.pixels and method == "otsu_log" else "triangle"
            )
    flat = np.full((64, 64), 7, np.uint16)
    even = decode(factory.file_bytes(factory.dataset(flat, 12), flat), Laterality.LEFT)
    assert trace_segmentation(even, Segment())[1] is None


# --- the audit --------------------------------------------------------------------------------------------------------


def rows(shares: list[float], vendor: str = "A", view: View = View.CC) -> list[ImageMeasurement]:
    """Rows as they are measured."""
    found = []
    for i, share in enumerate(shares):
        record = ImageRecord(
            f"{vendor}{i}", "P", "", "", Laterality.LEFT, view, 100, 100, 12, "MONOCHROME2", "", None, None, vendor, "", None,
            Orientation.NOT_GIVEN, False, False, False, False, False, False, False,
        )  # fmt: skip
        found.append(ImageMeasurement(record, "otsu_log", Flag(0), share, 0.5, 0.1, share * 10000))
    return found


def test_deviations_are_robust_and_by_vendor() -> None:
    """The number by hand: the median of nine is 0.20, the deviation of the logs is the floor or 1.4826 of their median."""
    shares = [0.20, 0.21, 0.19, 0.20, 0.22, 0.20, 0.18, 0.20, 0.60]
    far = largest_deviations(rows(shares) + rows([0.60] * 8, "B"))
    logs = np.log(shares)
    spread = 1.4826 * np.median(np.abs(logs - np.log(0.20)))
    assert far["A8"].deviations == round((np.log(0.60) - np.log(0.20)) / max(spread, MIN_SIGMA), 2)
    assert far["A8"].quantity == "share"
    assert far["B0"].deviations == 0  # usual for that vendor
    assert "8 CC of B" in far["B0"].group
    assert "all vendors" in largest_deviations(rows([0.2] * 9) + rows([0.3], "B"))["B0"].group  # one is not its own measure
    assert robust_center([1.0, 1.0, 1.0]) == (1.0, MIN_SIGMA)
    found = distribution("x", [0.0, 0.5, 1.0, float("nan"), 9.0], 0.0, 1.0)
    assert found is not None
    assert (found.count, sum(found.bins), found.bins[-1], found.high) == (4, 4, 2, 9.0)
    assert distribution("x", [float("nan")], 0.0, 1.0) is None


def test_the_worst_come_first() -> None:
    """Whole frames, then the second threshold, then by distance; an uncropped pipeline's rows are no one's worst."""
    plain = rows([0.2, 0.21, 0.19, 0.2, 0.2, 0.2, 0.2, 0.2, 0.5, 0.3])
    whole = replace(plain[3], method="whole_frame", flags=Flag.CC_CROP_FALLBACK, share=math.nan, aspect=math.nan)
    triangle = replace(plain[5], method="triangle", flags=Flag.CC_TRIANGLE)
    made = [*plain[:3], whole, plain[4], triangle, *plain[6:], replace(rows([0.9], "N")[0], method="none")]
    paths = [row.record.path for row in _worst_first(made, largest_deviations(made))]
    assert paths[:5] == ["A3", "A5", "A8", "A9", "A2"]  # 0.19 is farther than 0.21, as a logarithm
    assert len(paths) == 10


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sound breasts; one view of noise alone, one that only the decoder rejects, one header that is rejected, no DICOM."""
    folder = tmp_path_factory.mktemp("cohort")
    spaced = {"StudyInstanceUID": "2.25.1", "ImagerPixelSpacing": [0.1, 0.2], "Manufacturer": "ACME"}
    for number in range(4):
        factory.patient(folder, f"p{number}", "LR", number, **(spaced if number else {"StudyInstanceUID": "2.25.1"}))
    tags = {"PatientID": "p3", "SOPInstanceUID": "2.25.77", "StudyInstanceUID": "2.25.1", "ImageLaterality": "R"}
    noise = factory.file_bytes(factory.dataset(NOISE, 12, view=factory.MLO, **tags), NOISE)
    factory.write(folder / "p3_R_MLO.dcm", noise)
    frame = factory.encode(BREAST.pixels, 12, JPEG2000Lossless)[:-2]
    tags |= {"PatientID": "p2", "SOPInstanceUID": "2.25.78"}
    factory.write(folder / "p2_R_CC.dcm", data(JPEG2000Lossless, frame, **tags))
    factory.write(folder / "ct.dcm", data(Modality="CT"))
    factory.write(folder / "broken.dcm", b"no DICOM")
    return folder


def shown_counts(page: str, title: str) -> dict[str, int]:
    """A table of the page."""
    table = re.search(rf"<tr><th>{title}</th>.*?</table>", page, re.DOTALL)
    assert table, title
    return {name: int(n) for name, n in re.findall(r'<tr><td>([^<]+)</td><td class="n">(\d+)</td>', table[0])}


def test_audit_says_what_a_build_would_meet(cohort: Path, tmp_path: Path) -> None:
    page_file = tmp_path / "one" / "audit.html"
    (found,) = json.loads(run("audit", "--dicom", cohort, "--out", page_file, "--workers", 0, "--json").output)
    (built,) = json.loads(build(cohort, tmp_path / "built", "--json").stdout)
    assert found["rejections"] == built["rejections"] == {
        "modality_refused": 1, "not_dicom": 1, "pixels_truncated": 1, "view_unreadable": 1,
    }  # fmt: skip
    assert (found["images"], found["measured"], found["breasts"]) == (16, 15, 8)
    first = found["worst"][0]
    assert (first["path"], first["kind"]) == ("p3_R_MLO.dcm", "whole_frame")
    assert re.search(r"otsu_log: .*\d.* \(allowed .* to .*\); triangle: ", first["why"])
    assert [w["kind"] for w in found["worst"][1:]] == ["far"] * 14
    deviations = [float(re.search(r": ([\d.]+) robust", w["why"])[1]) for w in found["worst"][1:]]  # type: ignore[index]
    assert deviations == sorted(deviations, reverse=True)
    pairs = found["pairs"]
    assert (pairs["compared"], pairs["not_compared"], pairs["in_square_millimetres"]) == (6, 2, 4)
    # The page shows the same, and needs no network.
    page = page_file.read_text()
    assert shown_counts(page, "reason") == found["rejections"]
    assert re.search(r'<summary>4 of 4 by name.*<td class="path">p2_R_CC\.dcm</td><td>pixels_truncated</td>', page, re.DOTALL)
    assert shown_counts(page, "outline by") == found["methods"] == {"otsu_log": 14, "whole_frame": 1}
    assert shown_counts(page, "flag") == found["flags"]
    assert found["flags"]["crop_fallback"] == 1
    assert {(g["vendor"], g["view"], g["images"]) for g in found["groups"]} == {
        (vendor, view, int(n)) for vendor, view, n in re.findall(r"<h3>(\w+), (\w+): (\d+) images</h3>", page)
    }
    assert len(found["worst"]) == page.count("<figure") == page.count("data:image/jpeg;base64,") == 15
    assert page.index("p3_R_MLO.dcm") < page.index("p0_L_CC.dcm")
    assert "http" not in page
    # Any number of workers, the second run from what is remembered, fewer images: the same of what is the same.
    run("audit", "--dicom", cohort, "--out", tmp_path / "two" / "audit.html", "--workers", 2)
    assert (tmp_path / "two" / "audit.html").read_bytes() == page_file.read_bytes()
    (few,) = json.loads(run("audit", "--dicom", cohort, "--out", page_file, "--workers", 0, "--json", "--limit", 3).output)
    assert few["worst"] == found["worst"][:3]
    assert {k: v for k, v in few.items() if k != "worst"} == {k: v for k, v in found.items() if k != "worst"}


def test_audit_counts_what_ends_its_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: a second audit does not die of it again, and still counts it."""
    monkeypatch.setenv("ATTEMPTS", str(tmp_path / "attempts"))
    factory.patient(tmp_path / "in", "p1", "L", 1, StudyInstanceUID="2.25.1")
    tags = {"PatientID": "p1", "StudyInstanceUID": "2.25.1", "SOPInstanceUID": "2.25.5"}
    factory.write(tmp_path / "in" / "p1_L_CC.dcm", data(JPEGLSLossless, **tags))
    in_every_process(BROKEN_DECODERS, tmp_path / "site", monkeypatch)
    command = ("audit", "--dicom", tmp_path / "in", "--out", tmp_path / "a.html", "--workers", 2, "--json")
    (found,) = json.loads(run(*command).output)
    assert found["rejections"] == {"decoder_crashed": 1, "view_unreadable": 1}
    tried = (tmp_path / "attempts").read_text()
    (again,) = json.loads(run(*command).output)
    assert again == found
    assert (tmp_path / "attempts").read_text() == tried


def test_audit_in_a_project(phantoms: dict[str, Path], cbis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real films and simulated ones, each its own page in cache/reports."""
    (tmp_path / "params.yaml").write_text(
        f"datasets:\n  films: {{adapter: cbis, dicom: {cbis}}}\n"
        f"  made: {{adapter: vindr, made: true, dicom: {phantoms['vindr']}}}\npipelines: [cropped]\n"
    )
    monkeypatch.chdir(tmp_path)
    films, made = json.loads(run("audit", "--workers", 0, "--json", "--limit", 2).output)
    assert (films["measured"], films["methods"], films["pairs"]["compared"]) == (8, {"otsu_log": 8}, 4)
    assert made["made"]
    assert made["measured"] == made["images"] > 40
    for each in (films, made):
        page = (tmp_path / "cache" / "reports" / f"audit-{each['dataset']}.html").read_text()
        assert page.count("data:image/jpeg;base64,") == 2
        assert ("simulated data" in page) == each["made"]
    run("audit", "--out", "x.html", code=2)
    run("audit", "--labels", "x.csv", code=2)
    run("audit", "--dicom", cbis, "--dataset", "films", code=2)


@pytest.mark.usefixtures("inspects_here")
@pytest.mark.fault(35)
def test_nothing_of_a_patient_in_inspect_or_audit(tmp_path: Path) -> None:
    canary = "Zyxwvut"
    tags = {
        "PatientID": f"{canary}-ID", "PatientName": f"{canary}^Name", "AccessionNumber": canary,
        "StudyInstanceUID": "2.25.314159265",
    }  # fmt: skip
    factory.patient(tmp_path / "in", "a", "L", 0)
    for number, wrong in enumerate((
        {}, {"ImageLaterality": canary, "ViewPosition": canary, "Modality": canary, "PresentationLUTShape": canary},
        {"PhotometricInterpretation": canary, "VOILUTFunction": canary, "WindowCenter": 1, "WindowWidth": 1},
        {"ViewCodeSequence": factory.coded(canary, (canary,))},
    )):  # fmt: skip
        factory.write(tmp_path / "in" / f"{number}.dcm", data(SOPInstanceUID=f"2.25.2718{number}", **(tags | wrong)))  # type: ignore[operator]
        for form in ([], ["--json"]):
            output = run(
                "inspect", tmp_path / "in" / f"{number}.dcm", *form, code=1 if wrong and number != 2 else number // 2
            ).output
            assert canary not in output
            assert "314159265" not in output
            assert "2718" not in output.replace("0.2718", "")
    done = run("audit", "--dicom", tmp_path / "in", "--out", tmp_path / "a.html", "--workers", 0, "--json")
    for text in (done.output, (tmp_path / "a.html").read_text()):
        assert canary not in text
        assert "314159265" not in text


def test_audit_of_nothing_readable_and_of_what_changed(tmp_path: Path) -> None:
    """No image is a page of rejections; a file that is another than the index read is an error, not a number."""
    factory.write(tmp_path / "ct" / "a.dcm", data(Modality="CT"))
    (found,) = json.loads(
        run("audit", "--dicom", tmp_path / "ct", "--out", tmp_path / "a.html", "--workers", 0, "--json").output
    )
    assert (found["measured"], found["worst"], found["rejections"]) == (0, [], {"modality_refused": 1})
    factory.patient(tmp_path / "in", "p", "L", 0, StudyInstanceUID="2.25.1")
    command = ("--dicom", tmp_path / "in", "--out", tmp_path / "a.html", "--workers", 0, "--json")
    (found,) = json.loads(run("audit", *command, "--pipeline", "direct").output)  # segments nothing: none is worse than another
    assert (found["measured"], found["worst"], found["methods"]) == (2, [], {"none": 2})
    header = read_header(tmp_path / "in", "p_L_CC.dcm", HeaderPolicy())
    assert isinstance(header, ImageHeader)
    record = header.record
    task = ImageTask(str(tmp_path / "in"), record, "as it was", HeaderPolicy(), Pipeline(segment=Segment(method="otsu_log")))
    assert measure_images([task])[0].record == record  # type: ignore[union-attr]
    factory.write(tmp_path / "in" / "p_L_CC.dcm", data(PatientID="other"))
    with pytest.raises(InputError, match="not what the index read"):
        measure_images([task])


@pytest.mark.usefixtures("inspects_here")
def test_inspect_describes_every_way_to_apply_a_window(tmp_path: Path) -> None:
    factory.mammogram(tmp_path / "film.dcm", factory.breast(1))
    (tmp_path / "auto.yaml").write_text("segment: {method: none}\nvoi: auto\n")
    shown = run("inspect", tmp_path / "film.dcm", "--pipeline", tmp_path / "auto.yaml").stdout
    assert "applied by the pipeline     the first of window and VOI LUT that is valid" in shown
