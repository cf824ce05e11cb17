"""CBIS-DDSM: films, lesion masks and tables in their published form."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import SecondaryCaptureImageStorage

from fvpipe.config.project import Labels
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError
from fvpipe.indexing.lesion_masks import cached_as
from fvpipe.testing import index_folder
from fvpipe.types import BreastFacts, Laterality
from tests.conftest import build, run
from tests.support import factory

MASS = "patient_id,breast_density,left or right breast,image view,abnormality id,abnormality type,assessment,pathology\n"


CALC = MASS.replace("breast_density", "breast density")


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """A CBIS-DDSM download: films, a region of interest beside them, and the tables."""
    folder = tmp_path / "cbis"
    for patient, side, kind in (("P_00001", "LEFT", "Mass-Training"), ("P_00002", "RIGHT", "Calc-Test")):
        for view in (factory.CC, factory.MLO):
            film = factory.breast(1, view, Laterality(side[0]))
            mask = np.zeros(film.pixels.shape, np.uint8)
            mask[100:140, 60:90] = 255
            columns = slice(50, 100) if side == "LEFT" else slice(156, 206)
            cut = factory.Made(film.pixels[90:150, columns], film.drawing, film.bits)
            for suffix, file, made in (
                ("", "1-1", film), ("_1", "1-1", cut), ("_1", "1-2", factory.Made(mask, film.drawing, 8))
            ):  # fmt: skip
                name = f"{kind}_{patient}_{side}_{view}{suffix}"
                uid = f"2.25.{zlib.crc32((name + file).encode()) + 1}"
                factory.mammogram(
                    folder / name / f"{file}.dcm", made, SOPClassUID=SecondaryCaptureImageStorage, StudyInstanceUID=uid,
                    SOPInstanceUID=uid, PatientID=name, PatientOrientation=view.value, Laterality=side[0],
                    ImageLaterality=None, ViewPosition=None,
                )  # fmt: skip
    (folder / "mass_case_description_train_set.csv").write_text(
        MASS
        + "P_00001,3,LEFT,CC,1,mass,4,BENIGN\nP_00001,3,LEFT,MLO,1,mass,4,BENIGN\n"
        + "P_00001,3,LEFT,MLO,2,mass,5,MALIGNANT\nP_00009,1,RIGHT,CC,1,mass,2,BENIGN_WITHOUT_CALLBACK\n"
    )
    (folder / "._mass_case_description_train_set.csv").write_bytes(b"\0\5\x16\7 what macOS puts beside a file")
    (folder / "calc_case_description_test_set.csv").write_text(
        CALC + "P_00002,2,RIGHT,CC,1,calcification,2,BENIGN_WITHOUT_CALLBACK\n"
    )
    return folder


def test_full_cbis_download(download: Path, tmp_path: Path) -> None:
    labels = get_adapter("cbis").read_labels(download, None, Labels()).rows
    assert labels["P_00001", Laterality.LEFT] == BreastFacts(1, 5, "C", pathology="MALIGNANT", subset="training")
    assert labels["P_00002", Laterality.RIGHT] == BreastFacts(0, 2, "B", pathology="BENIGN_WITHOUT_CALLBACK", subset="test")
    (result,) = json.loads(build(download, tmp_path / "out", "--adapter", "cbis", "--json").stdout)
    assert result["labels"] == {"malignant": 1, "benign": 1, "unlabelled": 0}
    assert result["rejections"] == {"region_of_interest": 8, "label_without_image": 1}  # masks are not films


@pytest.mark.parametrize(("tag", "reason"), [({"Laterality": "R"}, "laterality"), ({"PatientOrientation": "MLO"}, "view")])
def test_a_film_whose_name_names_another_side_or_view_is_left_out(
    tag: dict[str, str], reason: str, download: Path, tmp_path: Path
) -> None:
    """Its PatientID is the image's name; the film would be one of the other breast, with that breast's label."""
    name = "Mass-Training_P_00001_LEFT_CC"
    elements: dict[str, Any] = {"PatientOrientation": "CC", "Laterality": "L", "ImageLaterality": None} | tag
    factory.mammogram(
        download / name / "1-1.dcm", factory.breast(1), ViewPosition=None, PatientID=name,
        SOPClassUID=SecondaryCaptureImageStorage, **elements,
    )  # fmt: skip
    found = {each.what: each.reason.value for each in index_folder(download, "cbis").rejections}
    assert found[f"{name}/1-1.dcm"] == f"{reason}_conflict" and found["P_00001_L"] == "cc_missing"


def test_films_without_tables_are_told_that_there_are_none(download: Path, tmp_path: Path) -> None:
    for table in download.glob("*.csv"):
        table.unlink()
    args = ("--pipeline", "direct", "--dicom", download, "--out", tmp_path / "out", "--adapter", "cbis", "--workers", 0)
    assert "no *case_description*.csv lies below" in run("build-shards", *args, code=1).stderr


def test_masks_become_findings(download: Path, tmp_path: Path) -> None:
    """The outline of each mask, with what the tables say of its lesion, in source pixels and in the stored image's."""
    for workers in (0, 1):
        build(download, tmp_path / f"out{workers}", "--adapter", "cbis", "--strict", pipeline="direct", workers=workers)
    with open(tmp_path / "out0" / "findings.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert (tmp_path / "out1" / "findings.csv").read_bytes() == (tmp_path / "out0" / "findings.csv").read_bytes()
    sides = ("top", "bottom", "left", "right")
    assert [[float(row[side]) for side in sides] for row in rows] == [[100, 140, 60, 90]] * 4
    found = {(row["breast_id"], row["view"]): (row["category"], row["bi_rads"]) for row in rows}
    assert found["P_00001_L", "MLO"] == ("mass", "4")  # abnormality 1; the malignant one, 2, has no mask here
    assert found["P_00002_R", "CC"] == ("calcification", "2")
    assert found["P_00002_R", "MLO"] == ("", "")  # in no table
    cc, mlo = rows[:2]
    assert float(cc["image_right"]) < float(mlo["image_left"])


def test_a_mask_that_fits_no_film_is_named(download: Path, tmp_path: Path) -> None:
    name = "Mass-Training_P_00001_LEFT_CC"
    factory.mammogram(
        download / name / "1-1.dcm", factory.breast(1, shape=(400, 256)), SOPClassUID=SecondaryCaptureImageStorage,
        PatientID=name, PatientOrientation="CC", Laterality="L", ImageLaterality=None, ViewPosition=None,
    )  # fmt: skip
    (download / f"{name}_1" / "1-3.dcm").write_bytes((download / f"{name}_1" / "1-2.dcm").read_bytes()[:-9])
    (result,) = json.loads(build(download, tmp_path / "out", "--adapter", "cbis", "--json").stdout)
    assert result["rejections"]["region_without_image"] == 1
    assert result["rejections"]["region_of_interest"] == 7
    assert result["rejections"]["pixels_truncated"] == 1


RAMP = (np.arange(320 * 256) % 251).astype(np.uint8).reshape(320, 256)


def _mask(values: tuple[int, ...], shape: tuple[int, int] = (320, 256)) -> np.ndarray:
    """Two parts of a lesion with edges of other values, from `values`: outside, inside, edges."""
    mask = np.full(shape, values[0], np.uint8)
    for rows, columns in ((slice(100, 140), slice(60, 90)), (slice(150, 160), slice(60, 70))):
        mask[rows, columns] = values[1]
        for i, value in enumerate(values[2:]):
            mask[rows, columns.start + i] = value
    return mask


MASKS = {
    "two values": (_mask((0, 255)), (100, 160, 60, 90)),
    "values 0 and 1": (_mask((0, 1)), (100, 160, 60, 90)),
    "inverted": (_mask((255, 0)), (100, 160, 60, 90)),
    "resampled edge": (_mask((0, 255, 127)), (100, 160, 61, 90)),  # what is not above the middle is outside
    "interpolated edge": (_mask((0, 255, 30, 90, 200, 240)), (100, 160, 62, 90)),
    "noise of a lossy copy": (_mask((0, 255)) ^ RAMP % 4, (100, 160, 60, 90)),
    "empty": (_mask((0, 0)), "all pixels have one value, so that the mask outlines nothing"),
    "full": (_mask((255, 255)), "all pixels have one value"),
    "another size": (_mask((0, 255), (310, 256)), "the mask has 310 x 256 pixels, every CC of its breast (L) 320 x 256"),
    "a second film": (RAMP, "as large as its film, with the values of an image"),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_a_mask_is_a_finding_or_named(name: str, tmp_path: Path) -> None:
    pixels, expected = MASKS[name]
    known: dict[str, Any] = {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "Laterality": "L",
        "ImageLaterality": None,
        "ViewPosition": None,
    }
    for view in (factory.CC, factory.MLO):
        film = f"Mass-Training_P_00001_LEFT_{view}"
        factory.mammogram(
            tmp_path / "in" / f"{view}.dcm", factory.breast(1, view), PatientID=film, PatientOrientation=view.value, **known
        )
    drawing = factory.breast().drawing
    factory.mammogram(
        tmp_path / "in" / "mask.dcm", factory.Made(pixels, drawing, 8), PatientID="Mass-Training_P_00001_LEFT_CC_1",
        PatientOrientation="CC", SOPInstanceUID="2.25.77", **known,
    )  # fmt: skip
    heading = MASS.replace("patient_id", '"patient_id"')
    (tmp_path / "in" / "mass_case_description_train_set.csv").write_text(
        f"{heading}P_00001,3.0,LEFT,CC,1.0,mass,4.0,MALIGNANT\n"
    )
    for workers in (0, 0):  # read, then cached
        build(tmp_path / "in", tmp_path / "out", "--adapter", "cbis", workers=workers)
        (row,) = list(csv.DictReader((tmp_path / "out" / "rejected.csv").read_text().splitlines()))
        findings = tmp_path / "out" / "findings.csv"
        if isinstance(expected, str):
            assert (row["what"], row["reason"]) == ("mask.dcm", "region_without_image")
            assert row["detail"].startswith(expected)
            assert not findings.exists()
        else:
            assert row == {"what": "mask.dcm", "reason": "region_of_interest", "detail": "a mask or a cut-out, and no film"}
            (found,) = list(csv.DictReader(findings.read_text().splitlines()))
            assert (found["category"], found["bi_rads"]) == ("mass", "4")
            assert tuple(float(found[side]) for side in ("top", "bottom", "left", "right")) == expected
    (breast,) = list(csv.DictReader((tmp_path / "out" / "breasts.csv").read_text().splitlines()))
    assert (breast["label"], breast["bi_rads"], breast["density"]) == ("1", "4", "C")


def test_masks_are_read_again_by_other_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader of one's own has no version, and what a wrong one had found stayed in the file cache."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "masks_of_a_clinic.py").write_text("def read_region(data):\n    return None\n")
    own = importlib.import_module("masks_of_a_clinic")
    first = cached_as(own.read_region)
    shipped = get_adapter("cbis").read_region
    assert shipped and first == cached_as(own.read_region) != cached_as(shipped) == "region"
    (tmp_path / "masks_of_a_clinic.py").write_text("def read_region(data):\n    return data  # a correction\n")
    assert cached_as(importlib.reload(own).read_region) != first
    compiled: Any = len
    assert cached_as(compiled) != first


@pytest.mark.parametrize("uid", [None, "2.25.5"])
def test_a_mask_is_one_finding_of_a_film_without_uid_and_of_a_film_that_lies_there_twice(
    uid: str | None, tmp_path: Path
) -> None:
    known: dict[str, Any] = {"SOPClassUID": SecondaryCaptureImageStorage, "Laterality": "L", "ImageLaterality": None}
    for view in (factory.CC, factory.MLO):
        tags = known | {
            "PatientID": f"Mass-Training_P_00001_LEFT_{view}",
            "PatientOrientation": view.value,
            "ViewPosition": None,
        }
        tags |= {"SOPInstanceUID": uid and f"{uid}{int(view is factory.CC)}"}
        factory.mammogram(tmp_path / "in" / f"{view}.dcm", factory.breast(1, view), **tags)
    if uid:
        shutil.copy(tmp_path / "in" / "CC.dcm", tmp_path / "in" / "CC-copy.dcm")
    mask = known | {"PatientID": "Mass-Training_P_00001_LEFT_CC_1", "PatientOrientation": "CC", "SOPInstanceUID": "2.25.77"}
    factory.mammogram(tmp_path / "in" / "mask.dcm", factory.Made(MASKS["two values"][0], factory.breast().drawing, 8), **mask)
    (breast,) = index_folder(tmp_path / "in", "cbis").breasts
    assert [len(found) for found in breast.findings] == [1, 0]


def test_a_mass_and_a_calcification_of_one_number_are_told_apart(tmp_path: Path) -> None:
    known: dict[str, Any] = {"SOPClassUID": SecondaryCaptureImageStorage, "Laterality": "L", "ImageLaterality": None}
    for view in (factory.CC, factory.MLO):
        tags = known | {
            "PatientOrientation": view.value,
            "ViewPosition": None,
            "SOPInstanceUID": f"2.25.{int(view is factory.CC)}",
        }
        film = f"Mass-Training_P_00001_LEFT_{view}"
        factory.mammogram(tmp_path / "in" / f"{view}.dcm", factory.breast(1, view), PatientID=film, **tags)
    for name, mask in (("Mass", "two values"), ("Calc", "inverted")):
        tags = known | {"PatientOrientation": "CC", "SOPInstanceUID": f"2.25.7{len(mask)}"}
        made = factory.Made(MASKS[mask][0], factory.breast().drawing, 8)
        factory.mammogram(tmp_path / "in" / f"{name}.dcm", made, PatientID=f"{name}-Training_P_00001_LEFT_CC_1", **tags)
    tables = {
        "mass": (MASS, "P_00001,3,LEFT,CC,1,mass,5,MALIGNANT\n"),
        "calc": (CALC, "P_00001,3,LEFT,CC,1,calcification,2,BENIGN\n"),
    }
    for name, lines in tables.items():
        (tmp_path / "in" / f"{name}_case_description_train_set.csv").write_text("".join(lines))
    (breast,) = index_folder(tmp_path / "in", "cbis").breasts
    assert {(found.category, found.bi_rads) for found in breast.findings[0]} == {("mass", 5), ("calcification", 2)}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("P_00001,3,BOTH,CC,1,mass,4,BENIGN", "left or right breast is 'BOTH'"),
        ("P_00001,3,LEFT,CC,1,mass,4,UNSURE", "pathology is 'UNSURE'"),
        ("P_00001,3,LEFT,XCC,1,mass,4,BENIGN", "image view is 'XCC'; expected CC or MLO"),
        ("P_00001,3,LEFT,CC,1.5,mass,4,BENIGN", "abnormality id is '1.5'; expected a whole number"),
    ],
)
def test_wrong_cbis_tables(row: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "mass_case_description_train_set.csv"
    file.write_text(MASS + row + "\n")
    with pytest.raises(LabelTableError, match="line 2") as error:
        get_adapter("cbis").read_labels(tmp_path, None, Labels())
    assert message in str(error.value)


def test_dates_of_digitized_films_are_no_exams(download: Path) -> None:
    """A breast with a mass and calcifications has its films twice, and each its own date: that of the scan."""
    for date, kind in (("20160720", "Mass-Training"), ("20170829", "Calc-Training")):
        for view in (factory.CC, factory.MLO):
            name = f"{kind}_P_00001_LEFT_{view}"
            uid = f"2.25.{zlib.crc32(name.encode()) + 1}"
            factory.mammogram(
                download / name / "1-1.dcm", factory.breast(1, view), SOPClassUID=SecondaryCaptureImageStorage, PatientID=name,
                StudyInstanceUID=uid, SOPInstanceUID=uid, PatientOrientation=view.value, Laterality="L", ImageLaterality=None,
                ViewPosition=None, StudyDate=date,
            )  # fmt: skip
    found = index_folder(download, "cbis")
    assert {(b.key.patient, b.facts.label) for b in found.breasts} == {("P_00001", 1), ("P_00002", 0)}
    shutil.rmtree(download / "Mass-Training_P_00001_LEFT_CC")
    shutil.rmtree(download / "Calc-Training_P_00001_LEFT_MLO")
    assert not [note for note in index_folder(download, "cbis").notes if "days" in note]
