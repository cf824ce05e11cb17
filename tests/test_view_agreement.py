"""Views that do not go together, and headers that say what a user should know, are flagged; nothing is dropped for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fvpipe
from fvpipe.cli.output import _DOUBTS, print_build
from fvpipe.imaging.decoded_image import DecodedImage
from fvpipe.imaging.normalize import is_constant
from fvpipe.imaging.pixel_digest import pixel_digest, unturned
from fvpipe.imaging.view_agreement import AREA_RATIO, MEAN_RATIO, shared_flags
from fvpipe.project.stages import BuildSummary
from fvpipe.reasons import NO_FLAG, Flag
from fvpipe.types import BreastKey, Digest, Edge, Laterality
from tests.conftest import build, run
from tests.support import factory


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of one data set, whose identifiers are kept."""
    monkeypatch.chdir(tmp_path)
    settle()


def settle(**more: str) -> None:
    settings = {"adapter": "table", "dicom": "in", "identifiers": "own"} | more
    words = ", ".join(f"{key}: {value}" for key, value in settings.items())
    Path("params.yaml").write_text(f"datasets:\n  own: {{{words}}}\npipelines: [cropped]\n")


def flags() -> dict[str, Flag]:
    """Of each patient's one breast."""
    run("build-shards", "--workers", 0)
    shards = fvpipe.open_shards("cache/shards/cropped/own")
    return {str(patient): Flag(int(value)) for patient, value in zip(shards.patient_ids, shards.flags, strict=True)}


def patient(folder: Path, name: str, mlo_tags: dict[str, Any] | None = None, **tags: Any) -> None:
    """A left breast whose MLO has other tags, a study of its own name for both."""
    for view, more in ((factory.CC, {}), (factory.MLO, mlo_tags or {})):
        made = more.pop("made", None) or factory.breast(len(name), view)
        uid = f"2.25.{int.from_bytes(f'{name}{view}'.encode())}"
        factory.mammogram(
            folder / f"{name}_{view}.dcm", made, PatientID=name, StudyInstanceUID="2.25.1", SOPInstanceUID=uid, view=view,
            **tags | more,
        )  # fmt: skip


NEGATIVE = factory.breast(3, factory.MLO)
NEGATIVE = replace(NEGATIVE, pixels=4095 - NEGATIVE.pixels)


@pytest.mark.parametrize(
    ("mlo_tags", "flag"),
    [
        ({"Manufacturer": "Other"}, Flag.VENDORS_DIFFER),
        ({"AcquisitionDate": "20200102"}, Flag.DATES_DIFFER),
        ({"made": factory.breast(4, factory.MLO, bits=10)}, Flag.BITS_DIFFER),
        ({"RescaleIntercept": -1024, "RescaleSlope": 1}, Flag.BITS_DIFFER),
        ({"made": NEGATIVE, "PhotometricInterpretation": "MONOCHROME1"}, Flag.BITS_DIFFER),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, Flag.AREAS_DISAGREE),  # 4 times the area in mm2
        ({"BreastImplantPresent": "YES"}, Flag.IMPLANT),
        ({"PatientOrientation": ["P", "FR"]}, Flag.REORIENTED | Flag.CHEST_WALL_CONFLICT),  # the pixels lie as usual
        ({"FieldOfViewRotation": 180}, Flag.ORIENTATION_UNKNOWN),
        ({"ShutterShape": "RECTANGULAR"}, Flag.SHUTTER),
        ({}, Flag(0)),
    ],
    ids=str,
)
def test_each_disagreement_has_its_flag(mlo_tags: dict[str, Any], flag: Flag, tmp_path: Path) -> None:
    tags = {"Manufacturer": "ACME", "AcquisitionDate": "20200101", "ImagerPixelSpacing": [0.1, 0.1]}
    patient(tmp_path / "in", "odd", dict(mlo_tags), **tags)
    assert flags() == {"odd": flag}


OVERLAY = ((0x60000010, 320, "US"), (0x60000011, 256, "US"), (0x60003000, b"\xff" * 10240, "OW"))


@pytest.mark.parametrize(
    ("image_type", "flag"),
    [
        ("DERIVED\\PRIMARY\\\\GENERATED_2D", Flag.SYNTHETIC),
        ("ORIGINAL\\PRIMARY\\\\LOW_ENERGY", Flag.LOW_ENERGY),
        ("DERIVED\\PRIMARY", Flag(0)),
    ],
)
def test_each_kind_has_its_flag(image_type: str, flag: Flag, tmp_path: Path) -> None:
    patient(tmp_path / "in", "kind", ImageType=image_type.split("\\"))
    assert flags() == {"kind": flag}


def test_overlays_are_seen_and_not_burned_in(tmp_path: Path) -> None:
    for name, overlay in (("plain", ()), ("over", OVERLAY)):
        for view in (factory.CC, factory.MLO):
            made = factory.breast(view=view)
            uid = f"2.25.{len(name)}{view is factory.CC:d}"
            ds = factory.dataset(made.pixels, made.bits, view=view, PatientID=name, SOPInstanceUID=uid)
            for number, value, vr in overlay:
                ds.add_new(number, vr, value)
            factory.write(tmp_path / "in" / f"{name}{view}.dcm", factory.file_bytes(ds, made.pixels))
    found = flags()
    images = {sample.patient_id: sample.image for sample in fvpipe.open_shards("cache/shards/cropped/own")}
    np.testing.assert_array_equal(images["plain"], images["over"])
    assert found == {"plain": Flag.SHARED_PIXELS, "over": Flag.OVERLAY | Flag.SHARED_PIXELS}


def test_raw_images_are_refused_unless_the_settings_accept_them(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "raw", "L", SOPClassUID="1.2.840.10008.5.1.4.1.1.1.2.1", StudyInstanceUID="2.25.1")
    settle(for_processing="false")
    assert "most often sop_class_refused (2 times" in run("build-shards", "--workers", 0, code=1).output
    settle(for_processing="true")
    (result,) = json.loads(run("build-shards", "--workers", 0, "--json").stdout)
    assert (result["samples"], result["rejections"]) == (1, {})
    assert result["flags"] == {"for_processing": 1}


def test_the_same_pixels_under_two_patients_are_flagged(tmp_path: Path) -> None:
    """Also when the second patient comes later, and when nothing of the first is decoded again."""
    made = factory.breast(7, factory.MLO)
    for name in ("first", "single"):
        patient(tmp_path / "in", name, {"made": made} if name == "first" else {})
    assert set(flags().values()) == {Flag(0)}
    patient(tmp_path / "in", "twin", {"made": made})
    before = flags()
    assert before == {"first": Flag.SHARED_PIXELS, "twin": Flag.SHARED_PIXELS, "single": Flag(0)}
    # The sources' memory is lost, the samples are there: the digests come from those.
    for memory in (tmp_path / "cache" / "samples").glob("sources-*"):
        memory.unlink()
    assert flags() == before
    (tmp_path / "in" / "twin_CC.dcm").unlink()
    (tmp_path / "in" / "twin_MLO.dcm").unlink()
    assert set(flags().values()) == {Flag(0)}


def test_numbers_stand_beside_the_flags(cbis: Path, tmp_path: Path) -> None:
    """Two views of one breast stay far below the limits on real films; the mean lies within the normalised range."""
    build(cbis, tmp_path / "out", "--adapter", "cbis")
    columns = fvpipe.open_shards(tmp_path / "out").columns
    areas, means = columns["breast_area"], columns["breast_mean"]
    assert areas.shape == means.shape == (4, 2)
    sizes = columns["source_shape"].prod(axis=2)
    assert ((areas > 0.1 * sizes) & (areas < 0.8 * sizes)).all()
    assert ((means > 0.1) & (means < 0.9)).all()
    assert (areas.max(axis=1) < areas.min(axis=1) * AREA_RATIO).all()
    assert (means.max(axis=1) < means.min(axis=1) * MEAN_RATIO).all()


KEYS = st.builds(BreastKey, st.just("d"), st.sampled_from("PQR"), st.sampled_from(["", "1", "2"]), st.sampled_from(Laterality))
DIGESTS = st.sampled_from(
    [Digest(digits) for digits in ("00", "01", "03", "0a", "0b", "1a", "f4")]
)  # the first three lie otherwise, and so do the next two


@given(st.dictionaries(KEYS, st.tuples(DIGESTS, DIGESTS), max_size=12))
def test_sharing_is_that_of_comparing_every_two_breasts(breasts: dict[BreastKey, tuple[Digest, Digest]]) -> None:
    expected = {}
    for key, digests in breasts.items():
        flags = NO_FLAG
        for other, others in breasts.items():
            if {unturned(d) for d in digests} & {unturned(d) for d in others}:
                flags |= Flag.SHARED_PIXELS if other.patient != key.patient else NO_FLAG
                same = other.patient == key.patient
                flags |= Flag.SHARED_BY_SIDES if same and other.laterality != key.laterality else NO_FLAG
                flags |= Flag.SHARED_BY_EXAMS if same and other.study != key.study else NO_FLAG
        if flags:
            expected[key.breast_id] = flags
    assert shared_flags(breasts.items()) == expected
    assert shared_flags(reversed(breasts.items())) == expected


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_a_digest_is_of_the_values_and_its_last_bits_tell_how_they_lie(data: st.DataObject) -> None:
    """Whatever type and sign they are stored in; rows may be symmetric for longer than a band."""
    rows, columns = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 2, 17, 40_000]))
    values = np.full((rows, columns), data.draw(st.integers(0, 100)))
    for _ in range(data.draw(st.integers(0, 2))):
        row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
        values[row, column:] = data.draw(st.integers(-128, 100))
    signed = {pixel_digest((values + zero).astype("u2"), zero=zero) for zero in (128, 2048, 32768)}
    assert signed == {pixel_digest((values + 128).astype("u1"), zero=128)}
    if values.min() >= 0:
        assert signed == {pixel_digest(values.astype(kind)) for kind in ("u1", "u2")}
    else:
        assert signed != {pixel_digest(values.astype("u2"))}
    (found,) = signed
    ways = [values, values[:, ::-1], values[::-1], values[::-1, ::-1]]
    for way in ways:
        lies_so = pixel_digest((way + 128).astype("u2"), zero=128)
        assert unturned(lies_so) == unturned(found)
        assert (lies_so == found) == np.array_equal(way, values)
    other = values.copy()
    other[data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))] += 1
    same = any(np.array_equal(other, way) for way in ways)
    assert (unturned(pixel_digest((other + 128).astype("u2"), zero=128)) == unturned(found)) == same
    assert unturned(pixel_digest((values + 128).astype("u2"), 2, 128)) != unturned(found)


@given(st.data())
def test_constant_is_one_value_of_all_that_is_not_padding(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(16, 200), st.integers(16, 200)))
    stored = np.full(shape, data.draw(st.integers(0, 7)), np.uint16)
    for _ in range(data.draw(st.integers(0, 3))):
        row, column = data.draw(st.integers(0, shape[0] - 1)), data.draw(st.integers(0, shape[1] - 1))
        stored[row, column:] = data.draw(st.integers(0, 7))
    tables = [range(8), range(8, 0, -1), [0, 0, 0, 5, 5, 5, 9, 9], [3, 1, 2, 0, 7, 5, 6, 4]]
    values = np.array(data.draw(st.sampled_from(tables)), float)
    padding = data.draw(st.sampled_from([None, 0, 3, 7]))
    marks = None if padding is None else np.arange(8) == padding
    steps = np.diff(values)
    direction = 1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0
    image = DecodedImage(stored, values, marks, direction, Edge.LEFT, Digest(""), Digest(""), shape)
    real = values[stored[stored != padding]] if padding is not None else values[stored]
    assert is_constant(image) == (len(np.unique(real)) <= 1)


def test_doubtful_samples_are_counted_by_the_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As in CMMD, where the sides of two MLOs are exchanged: each pair shows two breasts, and nothing else would say so."""
    (tmp_path / "rejected.csv").write_text("what,reason,detail\n")
    built = BuildSummary("own", "cropped", 2, {"malignant": 2}, {}, {}, 1, 1, 2, 0, 0.1, {}, str(tmp_path))
    print_build(built)
    assert "flagged" not in capsys.readouterr().out
    print_build(replace(built, flags={"chest_wall_conflict": 2, "sizes_differ": 1, "cc_crop_fallback": 1}))
    said = capsys.readouterr().out
    assert "\n  flagged: 2 chest_wall_conflict: a view's breast lies on the opposite edge" in said
    assert "\n  flagged: 1 cc_crop_fallback: no outline of the CC was found" in said and "sizes_differ" not in said


def test_what_is_said_of_a_build_are_flags() -> None:
    assert set(_DOUBTS) <= {flag.name.lower() for flag in Flag if flag.name}
