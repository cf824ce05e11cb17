"""Data sets by declaration: made trees in the published form, with each trap of the real one."""

from __future__ import annotations

import csv
import json
import plistlib
from pathlib import Path
from typing import Any

import pytest

from fvpipe import flow
from fvpipe.cache.file_cache import FileCache
from fvpipe.config.project import DataSet, Labels
from fvpipe.datasets.registry import declarations, get_adapter
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.indexing.index import Index
from fvpipe.project.project import make_source
from fvpipe.types import BreastFacts, Laterality
from tests.conftest import build, run
from tests.support import factory
from tests.support.factory import CC, MLO

BARE = {"ImageLaterality": None, "ViewPosition": None, "PatientID": "as the publisher left it", "Modality": None}
"""A header that says nothing of patient, side and view."""
SMALL = factory.breast(1, CC, Laterality.LEFT)


def image(path: Path, number: int, **tags: Any) -> None:
    """Write an image whose header identifies nothing; no two have the same pixels."""
    pixels = SMALL.pixels.copy()
    pixels[-1, -1] = number
    study = f"2.25.{(number - 1) // 4 + 1}1"
    said = BARE | {"SOPInstanceUID": f"2.25.{number}", "StudyInstanceUID": study} | tags
    factory.mammogram(path, factory.Made(pixels, SMALL.drawing, SMALL.bits), **said)


def write_table(file: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def index(folder: Path, adapter: str, **settings: Any) -> Index:
    """Index a folder in this process, with identifiers kept."""
    source = make_source("set", folder, DataSet(adapter=adapter, identifiers="own", **settings), None, Path())
    with (
        FileCache(folder.parent / "cache.sqlite", folder, source.policy) as file_cache,
        Workers(WorkerSettings(count=0)) as pool,
    ):
        return flow.index(source, pool, file_cache)


def labels(found: Index) -> dict[tuple[str, str], int]:
    return {(breast.key.patient, breast.key.laterality.value): breast.facts.label for breast in found.breasts}


def reasons(found: Index) -> dict[str, str]:
    return {rejection.what: rejection.reason.value for rejection in found.rejections}


@pytest.mark.parametrize("declaration", declarations(), ids=lambda declaration: declaration.name)
def test_every_declaration_says_what_a_user_must_know(declaration: Any) -> None:
    adapter = get_adapter(declaration.name)
    assert adapter.license and declaration.title
    if declaration.name != "table":
        assert declaration.source and declaration.images
    assert not (adapter.publishable and not adapter.redistribute_shards)


# --- RSNA -------------------------------------------------------------------------------------------------------------

RSNA: dict[str, Any] = {
    "site_id": 1, "patient_id": 7, "image_id": 0, "laterality": "L", "view": "CC", "age": 61.0, "cancer": 0, "biopsy": 0,
    "invasive": 0, "BIRADS": "", "implant": 0, "density": "", "machine_id": 29, "difficult_negative_case": False,
}  # fmt: skip


def rsna(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """RSNA's form; the files of the rows, with headers that name neither side nor view."""
    write_table(folder / "train.csv", [RSNA | row for row in rows])
    for number, row in enumerate(rows, start=1):
        patient = row.get("patient_id", RSNA["patient_id"])
        image(folder / "train_images" / str(patient) / f"{row['image_id']}.dcm", number, PatientOrientation=None)
    return folder


def test_rsna_takes_side_view_and_label_from_the_table(tmp_path: Path) -> None:
    pairs = [
        {"patient_id": patient, "image_id": 100 * patient + i, "laterality": side, "view": view, "cancer": cancer,
         "machine_id": i, "age": age, "BIRADS": bi_rads}
        for patient, side, cancer, age, bi_rads in ((7, "L", 0, "", 1), (7, "R", 1, "", 0), (8, "L", 0, 90.5, ""))
        for i, view in enumerate(("CC", "MLO"), start=10 * (side == "R"))
    ]  # fmt: skip
    other = [
        {"image_id": 900, "view": "AT"},
        {"image_id": 901, "view": "LMO", "laterality": "R"},
        {"image_id": 902, "view": "CC"},  # a second CC
    ]
    folder = rsna(tmp_path / "rsna", [*pairs, *other])
    image(folder / "train_images" / "9" / "1.dcm", 77)  # not in the table
    found = index(folder, "rsna")
    assert labels(found) == {("7", "L"): 0, ("7", "R"): 1, ("8", "L"): 0}
    assert found.breasts[2].facts == BreastFacts(0, None, age="90+", machine="0")
    paths = {path.rpartition("/")[2]: reason for path, reason in reasons(found).items()}
    assert paths == {
        "900.dcm": "view_not_pairable", "901.dcm": "view_not_pairable", "902.dcm": "superseded", "1.dcm": "image_not_listed",
    }  # fmt: skip
    assert found.images[0].identity_from == "patient table, laterality table, view table"
    assert found.breasts[0].key.study == ""  # one study a patient


def test_a_header_that_contradicts_the_table_is_rejected(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    image(folder / "train_images/7/1.dcm", 1, ImageLaterality="R", ViewPosition="CC")
    image(folder / "train_images/7/2.dcm", 2, ImageLaterality="L", ViewPosition="CC")
    assert reasons(index(folder, "rsna")) == {
        "train_images/7/1.dcm": "laterality_conflict", "train_images/7/2.dcm": "view_conflict",
    }  # fmt: skip


def test_two_labels_of_one_breast_leave_it_out(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO", "cancer": 1}])
    assert reasons(index(folder, "rsna")) == {"7_L": "label_ambiguous"}


def test_a_row_that_lists_no_file_is_counted(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}, {"image_id": 3, "laterality": "R"}])
    (folder / "train_images/7/3.dcm").unlink()
    (rejection,) = index(folder, "rsna").rejections
    assert rejection.reason.value == "label_without_image"
    assert rejection.detail == "1 of 3 rows list an image that the input does not have: train.csv, line 4"


def test_a_changed_row_is_seen_though_no_file_changed(tmp_path: Path) -> None:
    folder = rsna(tmp_path / "rsna", [{"image_id": 1}, {"image_id": 2, "view": "MLO"}])
    assert labels(index(folder, "rsna")) == {("7", "L"): 0}
    write_table(
        folder / "train.csv", [RSNA | {"image_id": i, "laterality": "R", "view": v} for i, v in ((1, "CC"), (2, "MLO"))]
    )
    assert labels(index(folder, "rsna")) == {("7", "R"): 0}


# --- EMBED ------------------------------------------------------------------------------------------------------------

META: dict[str, Any] = {
    "empi_anon": 1.0, "acc_anon": 11.0, "ImageLateralityFinal": "L", "ViewPosition": "CC", "FinalImageType": "2D",
    "spot_mag": "", "num_roi": 0, "ROI_coords": "()", "anon_dicom_path": "",
}  # fmt: skip
CLINICAL: dict[str, Any] = {
    "empi_anon": 1.0, "acc_anon": 11.0, "desc": "MG Screen Bilat w/CAD", "side": "", "asses": "N", "tissueden": 2.0,
    "path_severity": "", "bside": "", "study_date_anon": "2015-03-01", "age_at_study": 55.2, "numfind": 1,
}  # fmt: skip


def embed(folder: Path, images: list[dict[str, Any]], findings: list[dict[str, Any]]) -> Path:
    """EMBED's form."""
    rows = list[dict[str, Any]]()
    for number, row in enumerate(images, start=1):
        full = META | row
        path = f"cohort_1/{int(full['empi_anon'])}/{int(full['acc_anon'])}/1.2.{number}.dcm"
        rows.append(full | {"anon_dicom_path": f"/mnt/NAS2/mammo/anon_dicom/{path}"})
        image(folder / "images" / path, number)
    write_table(folder / "tables" / "EMBED_OpenData_metadata.csv", rows)
    write_table(folder / "tables" / "EMBED_OpenData_clinical.csv", [CLINICAL | row for row in findings])
    return folder


def four(**row: Any) -> list[dict[str, Any]]:
    """Both views of both breasts."""
    return [{"ImageLateralityFinal": side, "ViewPosition": view, **row} for side in "LR" for view in ("CC", "MLO")]


def test_embed_joins_by_exam_and_side(tmp_path: Path) -> None:
    cancer = {"side": "L", "asses": "S", "path_severity": 0.0, "bside": "L"}
    found = index(embed(tmp_path / "e", four(), [cancer, {"side": "L", "asses": "B", "numfind": 2}]), "embed")
    assert labels(found) == {("1", "L"): 1, ("1", "R"): 0}  # the other breast has no row, and the exam is of both
    assert found.breasts[0].facts.pathology == "invasive"
    assert found.breasts[0].facts.density == "B"


@pytest.mark.parametrize(
    ("row", "left", "right"),
    [
        ({}, 0, 0),  # an empty side is both
        ({"side": "B", "asses": "P"}, 0, 0),
        ({"side": "B", "path_severity": 1, "bside": "L", "asses": "N"}, 1, 0),  # pathology is of one side
        ({"side": "R", "asses": "B", "desc": "MG Diagnostic Right"}, -1, 0),  # an exam of one breast says nothing of the other
        ({"side": "B", "asses": "X"}, -1, -1),
        ({"side": "B", "path_severity": 3, "asses": "S"}, 0, 0),
    ],
)
def test_embed_label_rule(row: dict[str, Any], left: int, right: int, tmp_path: Path) -> None:
    assert labels(index(embed(tmp_path / "e", four(), [row]), "embed")) == {("1", "L"): left, ("1", "R"): right}


BENIGN_BIOPSY = {"side": "L", "path_severity": 4, "bside": "L", "asses": "S"}


@pytest.mark.parametrize(
    ("rows", "left", "right"),
    [
        ([BENIGN_BIOPSY, {"side": "L", "asses": "M"}, {"side": "R"}], None, 0),  # another finding is not known
        ([BENIGN_BIOPSY, {"side": "L", "asses": "K"}, {"side": "R"}], None, 0),
        ([BENIGN_BIOPSY, {"side": "L", "path_severity": 6, "bside": "L"}, {"side": "R"}], None, 0),
        ([{"side": "L", "path_severity": 0, "bside": "R", "asses": "N"}], 0, 1),  # pathology of the other side
        ([{"side": "L", "path_severity": 0, "bside": "B"}], 1, 1),
        ([{"side": "L", "tissueden": 5, "desc": "MG Diagnostic Bilateral"}], None, -1),
        ([{"side": "", "path_severity": 0, "bside": "", "asses": "M"}], None, None),  # a cancer on an unknown side
        ([{"side": "L", "path_severity": 0, "bside": "", "asses": "M"}], 1, 0),
    ],
)
def test_embed_several_findings(rows: list[dict[str, Any]], left: int | None, right: int | None, tmp_path: Path) -> None:
    found = labels(index(embed(tmp_path / "e", four(), rows), "embed"))
    assert (found.get(("1", "L")), found.get(("1", "R"))) == (left, right)


def test_embed_follow_up_lifts_only_what_waits_for_it(tmp_path: Path) -> None:
    images = [*four(), *four(acc_anon=12.0)]
    later = {"acc_anon": 12.0, "study_date_anon": "2015-05-01", "side": "B", "path_severity": 4, "bside": "B", "tissueden": ""}
    for row in ({"side": "B", "tissueden": 5}, {"side": "B", "asses": "K"}):
        found = index(embed(tmp_path / f"e{len(row)}{row.get('asses')}", images, [row, later]), "embed")
        assert sorted(breast.facts.label for breast in found.breasts) == [0, 0]  # of the later exam alone
        assert [r.reason.value for r in found.rejections] == ["label_excluded"] * 2


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"side": "B", "tissueden": 5.0}, "male"),
        ({"side": "B", "asses": "S"}, "suspicious"),
        ({"side": "B", "asses": "A"}, "recalled"),
        ({"side": "B", "asses": "K"}, "known cancer"),
        ({"side": "B", "path_severity": 6.0}, "no breast cancer"),
    ],
)
def test_embed_leaves_out_what_is_not_known(row: dict[str, Any], why: str, tmp_path: Path) -> None:
    found = index(embed(tmp_path / "e", four(), [row]), "embed")
    assert [(r.reason.value, why in r.detail) for r in found.rejections] == [("label_excluded", True)] * 2


def test_embed_pathology_decides_over_earlier_exams_within_the_follow_up(tmp_path: Path) -> None:
    """Screening, recall and biopsy are exams of their own; years before a cancer a breast was healthy."""
    exams = {10: "2012-01-01", 11: "2015-03-01", 12: "2015-04-15"}
    images = [each for acc in exams for each in four(acc_anon=float(acc))]
    findings = [
        {"acc_anon": 10.0, "study_date_anon": exams[10]},
        {"acc_anon": 11.0, "side": "L", "asses": "A"},
        {"acc_anon": 11.0, "side": "R", "asses": "A"},
        {"acc_anon": 12.0, "study_date_anon": exams[12], "side": "L", "asses": "M", "path_severity": 0, "bside": "L"},
        {"acc_anon": 12.0, "study_date_anon": exams[12], "side": "R", "asses": "S", "path_severity": 4, "bside": "R"},
    ]
    folder = embed(tmp_path / "e", images, findings)

    def by_exam(**options: Any) -> list[tuple[str, str, int]]:
        found, adapter = index(folder, "embed", labels=Labels(**options)), get_adapter("embed")
        names = {adapter.policy.exam_digest("study", str(acc)): day for acc, day in exams.items()}
        return sorted((names[b.key.study], b.key.laterality.value, b.facts.label) for b in found.breasts)

    first, second, third = exams.values()
    assert by_exam() == [(first, "L", 0), (first, "R", 0), (second, "L", 1), (second, "R", 0), (third, "L", 1), (third, "R", 0)]
    assert by_exam(options={"follow_up_days": "30"}) == [(first, "L", 0), (first, "R", 0), (third, "L", 1), (third, "R", 0)]
    assert by_exam(options={"follow_up_days": "2000"})[0] == (first, "L", 1)
    with pytest.raises(ParameterError, match=r"has no option 'follow_up_day' .*follow_up_days"):
        by_exam(options={"follow_up_day": "30"})


def test_embed_synthetic_and_spot_views(tmp_path: Path) -> None:
    """Synthetic images never mix with full-field ones, spot views and unknown kinds are left out."""
    images = [
        *[row | {"FinalImageType": "cview"} for row in four()[:2]],
        four()[0],  # a full-field CC without its MLO
        {"ViewPosition": "MLO", "spot_mag": 1.0},
        {"ViewPosition": "MLO", "FinalImageType": "ROI_SSC"},
    ]
    found = index(embed(tmp_path / "e", images, [{}]), "embed")
    (breast,) = found.breasts
    assert all(view.synthetic for view in breast.images)
    assert sorted(rejection.reason.value for rejection in found.rejections if rejection.what.endswith(".dcm")) == [
        "image_kind_refused", "superseded", "view_modified",
    ]  # fmt: skip


def test_embed_boxes(tmp_path: Path) -> None:
    images = [four()[0] | {"ROI_coords": "[[10, 20, 30, 50], [1, 2, 3, 4]]"}, four()[1]]
    found = index(embed(tmp_path / "e", images, [{}]), "embed")
    assert [(f.top, f.bottom, f.left, f.right) for f in found.breasts[0].findings[0]] == [(10, 30, 20, 50), (1, 3, 2, 4)]


# --- INbreast ---------------------------------------------------------------------------------------------------------

INBREAST: dict[str, Any] = {
    "Patient ID": "removed", "Patient age": "removed", "Laterality": "L", "View": "CC", "Acquisition date": "201001",
    "File Name": 0, "ACR": 2, "Bi-Rads": "2",
}  # fmt: skip


def inbreast(folder: Path, rows: list[dict[str, Any]], patient: str = "6c613a14b80a8591") -> Path:
    """INbreast's form, where a name has ML for MLO."""
    write_table(folder / "INbreast.csv", [INBREAST | row for row in rows], ";")
    for number, row in enumerate(rows, start=1):
        full = INBREAST | row
        view = "ML" if full["View"] == "MLO" else "CC"
        image(folder / "AllDICOMs" / f"{full['File Name']}_{patient}_MG_{full['Laterality']}_{view}_ANON.dcm", number)
    return folder


def test_inbreast(tmp_path: Path) -> None:
    rows = [
        {"File Name": 20586908, "Bi-Rads": "4a", "ACR": ""},
        {"File Name": 20586934, "View": "MLO", "Bi-Rads": "1"},
        {"File Name": 30, "Laterality": "R", "Bi-Rads": "3"},
        {"File Name": 31, "Laterality": "R", "View": "MLO", "Bi-Rads": "1"},
        {"File Name": 32, "Laterality": "R", "Acquisition date": "201102", "Bi-Rads": "6"},
        {"File Name": 33, "Laterality": "R", "View": "MLO", "Acquisition date": "201102", "Bi-Rads": "6"},
    ]
    folder = inbreast(tmp_path / "inbreast", rows)
    region = {"Name": "Mass", "NumberOfPoints": 3, "Point_px": ["(100.5, 20)", "(130, 25)", "(110, 60.25)"]}
    (folder / "AllXML").mkdir()
    with open(folder / "AllXML" / "20586908.xml", "wb") as file:
        plistlib.dump({"Images": [{"ImageIndex": 0, "NumberOfROIs": 1, "ROIs": [region]}]}, file)
    found = index(folder, "inbreast")
    patient = "6c613a14b80a8591"
    facts = [(b.key.patient, b.key.laterality.value, b.facts.label, b.facts.bi_rads) for b in found.breasts]
    assert sorted(facts) == [(patient, "L", 1, 4), (patient, "R", 0, 3), (patient, "R", 1, 6)]  # two exams of the right breast
    assert not found.rejections
    left = next(breast for breast in found.breasts if breast.key.laterality == "L")
    (finding,) = left.findings[0]
    assert (finding.category, finding.top, finding.bottom, finding.left, finding.right) == ("Mass", 20, 60.25, 100.5, 130)
    assert list(finding.outline) == [(20, 100.5), (25, 130), (60.25, 110)]
    (folder / "AllXML" / "20586908.xml").write_text("<plist><dict></plist>")
    with pytest.raises(LabelTableError, match="is no property list"):
        index(folder, "inbreast")


def test_inbreast_bi_rads_of_the_user_win(tmp_path: Path) -> None:
    rows = [{"File Name": 1, "Bi-Rads": "3"}, {"File Name": 2, "View": "MLO", "Bi-Rads": "3"}]
    folder = inbreast(tmp_path / "inbreast", rows)
    found = index(folder, "inbreast", labels=Labels(bi_rads_benign=(1, 2), bi_rads_malignant=(3, 4, 5, 6)))
    assert [breast.facts.label for breast in found.breasts] == [1]


def test_a_path_and_a_row_that_differ_are_rejected(tmp_path: Path) -> None:
    folder = inbreast(tmp_path / "inbreast", [{"File Name": 1}, {"File Name": 2, "View": "MLO"}])
    write_table(
        folder / "INbreast.csv",
        [INBREAST | {"File Name": 1, "Laterality": "R"}, INBREAST | {"File Name": 2, "View": "MLO"}],
        ";",
    )
    found = index(folder, "inbreast")
    name = "AllDICOMs/1_6c613a14b80a8591_MG_L_CC_ANON.dcm"
    assert reasons(found)[name] == "laterality_conflict"


# --- CSAW-CC ----------------------------------------------------------------------------------------------------------

CSAW: dict[str, Any] = {
    "anon_patientid": 5, "exam_year": 2010, "x_age": 1, "x_case": 0, "x_cancer_laterality": "", "x_type": "", "rad_timing": "",
    "imagelaterality": "Left", "viewposition": "CC", "anon_filename": "",
}  # fmt: skip


def csaw(folder: Path, exams: list[dict[str, Any]]) -> Path:
    rows = list[dict[str, Any]]()
    for exam in exams:
        for side in ("Left", "Right"):
            for view in ("CC", "MLO"):
                full = CSAW | exam | {"imagelaterality": side, "viewposition": view}
                name = f"{full['anon_patientid']}_{full['exam_year']}0101_{side[0]}_{view}_1.dcm"
                rows.append(full | {"anon_filename": name})
                image(folder / "Batch_1" / name, len(rows))
    write_table(folder / "CSAW-CC_breast_cancer_screening_data.csv", rows)
    return folder


def test_csaw_priors_and_the_other_breast_are_no_cancers(tmp_path: Path) -> None:
    case: dict[str, Any] = {"x_case": 1, "x_cancer_laterality": "Right", "x_type": 2.0}
    folder = csaw(tmp_path / "csaw", [
        case | {"exam_year": 2008, "rad_timing": 3.0}, case | {"exam_year": 2011, "rad_timing": 1.0},
        case | {"anon_patientid": 6, "rad_timing": 2.0}, {"anon_patientid": 7},
    ])  # fmt: skip
    found = index(folder, "csaw-cc")
    assert sorted((b.key.patient, b.key.laterality.value, b.facts.label) for b in found.breasts) == [
        ("5", "L", 0), ("5", "L", 0), ("5", "R", 1), ("6", "L", 0), ("7", "L", 0), ("7", "R", 0),
    ]  # fmt: skip
    assert [r.reason.value for r in found.rejections] == ["label_excluded"] * 2
    options = {"interval": "malignant", "prior": "benign"}
    found = index(folder, "csaw-cc", labels=Labels(options=options))
    assert sorted((b.key.patient, b.facts.label) for b in found.breasts if b.key.laterality == "R") == [
        ("5", 0), ("5", 1), ("6", 1), ("7", 0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ({"x_case": 1, "x_cancer_laterality": "Both", "rad_timing": 1}, [1, 1]),
        ({"x_case": "True"}, []),
        ({"x_case": "", "rad_timing": 1, "x_type": 2}, []),
        ({"x_case": 1, "x_cancer_laterality": ""}, []),
    ],
)
def test_csaw_guesses_no_label(case: dict[str, Any], expected: list[int], tmp_path: Path) -> None:
    assert [breast.facts.label for breast in index(csaw(tmp_path / "csaw", [case]), "csaw-cc").breasts] == expected


def test_csaw_side_that_is_no_side_is_named_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(LabelTableError, match=r"x_cancer_laterality is another .*; expected L, R or both") as error:
        index(csaw(tmp_path / "csaw", [{"x_case": 1, "x_cancer_laterality": "Meier"}]), "csaw-cc")
    assert "Meier" not in str(error.value)


# --- NLBS -------------------------------------------------------------------------------------------------------------


def test_nlbs(tmp_path: Path) -> None:
    folder, rows = tmp_path / "NLBS Data", list[dict[str, Any]]()
    for study, kind, cancer, false_positive in (("s1", "abnormal", 1, 0), ("s2", "False Positive", 0, 1)):
        for side in ("left", "right"):
            for view in ("CC", "MLO"):
                path = f"{kind}/{study}/{side}/{view}/IM-0001-0001.dcm"
                here = int(cancer and side == "left")
                rows.append({
                    "File Path": f"NLBS Data\\{path}".replace("/", "\\"), "Image Laterality": side[0].upper(),
                    "View Position": view, "Cancer": here, "False Positive": false_positive,
                })  # fmt: skip
                image(folder / path, len(rows))
    (folder / "abnormal/s1/right/MLO/IM-0001-0001.dcm").unlink()  # listed and absent
    write_table(folder / "NLBSP-metadata.csv", rows)
    found = index(folder, "nlbs")
    assert labels(found) == {("abnormal/s1", "L"): 1, ("False Positive/s2", "L"): 0, ("False Positive/s2", "R"): 0}
    assert found.breasts[0].facts.pathology == "false positive"
    assert reasons(found) == {"abnormal/s1_R": "mlo_missing", "label table": "label_without_image"}


# --- a user's own table and declaration ---------------------------------------------------------------------------------


def test_a_table_of_paths_gives_everything(tmp_path: Path) -> None:
    """One row an image; headers that say nothing."""
    folder, rows = tmp_path / "own", list[dict[str, Any]]()
    for number, (side, view) in enumerate([("L", CC), ("L", MLO), ("R", CC), ("R", MLO)], start=1):
        image(folder / "export" / f"im{number}.dcm", number, PatientID=None)
        rows.append(
            {
                "file": f"export\\im{number}.dcm",
                "pid": "A",
                "seite": side,
                "proj": view.value,
                "cancer": int(side == "R"),
                "d": "c",
            }
        )
    write_table(tmp_path / "ours.csv", rows)
    columns = {"path": "file", "patient": "pid", "laterality": "seite", "view": "proj", "label": "cancer", "density": "d"}
    settings = Labels(columns=columns, classes={"1": "malignant", "0": "benign"})
    found = index(folder, "table", label_file=str(tmp_path / "ours.csv"), labels=settings)
    assert labels(found) == {("A", "L"): 0, ("A", "R"): 1}
    assert [breast.facts.density for breast in found.breasts] == ["C", "C"]
    rows[0]["file"] = "im1.dcm"
    image(folder / "again" / "im1.dcm", 9)
    write_table(tmp_path / "ours.csv", rows)
    with pytest.raises(LabelTableError, match=r"line 2: fits again/im1\.dcm and export/im1\.dcm; expected one file"):
        index(folder, "table", label_file=str(tmp_path / "ours.csv"), labels=settings)


def test_a_table_by_bi_rads(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    factory.patient(folder, "P1", "LR")
    write_table(tmp_path / "t.csv", [
        {"patient_id": "P1", "laterality": "L", "birads": "BI-RADS 5"}, {"patient_id": "P1", "laterality": "R", "birads": 1},
    ])  # fmt: skip
    settings = Labels(columns={"bi_rads": "birads"}, label_from="bi_rads", bi_rads_benign=(1, 2), bi_rads_malignant=(4, 5, 6))
    assert labels(index(folder, "table", label_file=str(tmp_path / "t.csv"), labels=settings)) == {
        ("P1", "L"): 1,
        ("P1", "R"): 0,
    }


DECLARATION = """
name: clinic
license: ours
identity: {patient: [path], exam: [path], laterality: [path], view: [path]}
path: '(?P<patient>p\\d+)/(?P<exam>\\d{4})/(?P<laterality>li|re)-(?P<view>cc|mlo)-(?P<grade>[a-z]+)\\.dcm$'
path_values: {laterality: {li: L, re: R}}
tables:
  - from_path: true
    label: label
    columns: {laterality: laterality, patient: patient, label: {column: grade, values: {ca: malignant, ok: benign}}}
"""


def test_a_declaration_of_paths_alone(tmp_path: Path) -> None:
    (tmp_path / "clinic.yaml").write_text(DECLARATION)
    folder = tmp_path / "clinic"
    for number, name in enumerate(("li-cc-ok", "li-mlo-ok", "re-cc-ca", "re-mlo-ca"), start=1):
        image(folder / "p1" / "2020" / f"{name}.dcm", number)
    image(folder / "p1" / "2020" / "misc.dcm", 9)
    found = index(folder, str(tmp_path / "clinic.yaml"))
    assert labels(found) == {("p1", "L"): 0, ("p1", "R"): 1}
    assert reasons(found) == {"p1/2020/misc.dcm": "view_missing"}


OWN = """
name: own
license: ours
hashed: false
headers: {studies_apart: false}
tables:
  - file: t.csv
    combine: COMBINE
    label:
      - {when: {dx: "C50*", side: $side}, then: malignant}
      - {when: {dx: "[?]"}, then: "excluded: pending"}
      - {when: {dx: ""}, then: unlabelled}
      - {then: benign}
    columns:
      patient: {column: pid, pattern: '^(P[0-9]+)$'}
      laterality: {column: side, values: {li: L, re: R, bds: both}}
"""


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("P1;li;C50.1\nP1;re;C50.9", {"L": 1, "R": 1}),
        ("P1;bds;C50", {"L": 1, "R": 1}),
        ("P1;li;0\nP1;re;?", {"L": 0}),
        ("P1;li;\nP1;re;007", {"L": -1, "R": 0}),
        ("P1;li;\nP1;li;?", "lines 2 and 3: one breast has two descriptions"),
        ("P1;li;?\nP1;li;", "lines 2 and 3: one breast has two descriptions"),
        ("Anna Meier;li;0", "line 2: pid is another"),
        ("P1;links;0", "line 2: side is 'links'; expected li, re, bds"),
    ],
)
def test_cases_of_an_own_table(rows: str, expected: dict[str, int] | str, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(OWN.replace("COMBINE", "first"))
    factory.patient(tmp_path / "in", "P1", "LR")
    (tmp_path / "in" / "t.csv").write_text(f"pid;side;dx\n{rows}\n")
    if isinstance(expected, str):
        with pytest.raises(LabelTableError, match=expected) as error:
            index(tmp_path / "in", str(tmp_path / "own.yaml"))
        assert "Meier" not in str(error.value)
    else:
        found = labels(index(tmp_path / "in", str(tmp_path / "own.yaml")))
        assert {side: label for (_, side), label in found.items()} == expected


@pytest.mark.parametrize(
    ("adapter", "settings", "message"),
    [
        ("embed", {"label_from": "bi_rads"}, "its label rule has cases of its own"),
        ("cmmd", {"bi_rads_benign": (1,)}, "its labels are not made of BI-RADS"),
        ("table", {"columns": {"implant": "x"}}, "give the column `path`"),
        ("rsna", {"columns": {"path": "x"}}, "find their images by other columns"),
        ("embed", {"options": {"follow_up_days": "-1"}}, "expected a number of days"),
        ("embed", {"options": {"probably_benign": "$follow_up_days"}}, "expected malignant, benign"),
    ],
)
def test_a_setting_that_would_do_nothing_is_named(adapter: str, settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = rsna(tmp_path / "in", [{"image_id": 1}])
    embed(folder, four()[:1], [{}])
    write_table(folder / "CMMD_clinicaldata_revision.csv", [{"ID1": "x", "LeftRight": "L", "classification": "Benign"}])
    table = {"label_file": str(folder / "CMMD_clinicaldata_revision.csv")} if adapter == "table" else {}
    with pytest.raises(ParameterError, match=message):
        index(folder, adapter, labels=Labels(**settings), **table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("path: '", "path: '("), "is no regular expression"),
        (("(?P<exam>", "(?P<visit>"), "identity.exam names the path, and 'path' has no group"),
        (("columns: {laterality", "columns: {side"), "no fact 'side'"),
        (("ca: malignant", "ca: maligne"), "'maligne' is no label"),
        (("license: ours\n", ""), "'license' is missing"),
        (("- from_path: true", "- file: /t.csv"), "expected a path below the input folder"),
        (("- from_path: true", "- file: '**x.csv'"), "expected a path below the input folder"),
        (("{column: grade,", "{column: grade, pattern: '^a',"), "has no group"),
        (("{laterality: laterality,", "{laterality: {column: laterality, values: {li: links}},"), "'links' is no side"),
        (("{ca: malignant", "{1: malignant"), "key 1 is not text"),
        (("license: ours", "license: ours\nlabels: x"), "unknown key 'labels'"),
    ],
)
def test_a_wrong_declaration_is_named(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in DECLARATION
    (tmp_path / "clinic.yaml").write_text(DECLARATION.replace(*change))
    with pytest.raises(ParameterError, match=r"clinic\.yaml") as error:
        get_adapter(str(tmp_path / "clinic.yaml"))
    assert message in str(error.value)


# --- commands ---------------------------------------------------------------------------------------------------------


def test_columns_and_classes_on_the_command_line(tmp_path: Path) -> None:
    factory.patient(tmp_path / "in", "P1", "LR")
    rows = [{"pid": "P1", "side": side, "cancer": word, "acr": "B"} for side, word in (("L", "yes"), ("R", "no"))]
    write_table(tmp_path / "t.csv", rows)
    given = [
        "--labels",
        tmp_path / "t.csv",
        "--column",
        "patient=pid",
        "--column",
        "laterality=side",
        "--column",
        "density=acr",
    ]
    classes = ["--class", "yes=malignant", "--class", "no=benign"]
    build(tmp_path / "in", tmp_path / "out", *given, "--column", "label=cancer", *classes, pipeline="direct")
    with open(tmp_path / "out" / "breasts.csv", encoding="utf-8") as file:
        assert [(row["laterality"], row["label"], row["density"]) for row in csv.DictReader(file)] == [
            ("L", "1", "B"),
            ("R", "0", "B"),
        ]
    common = [
        "build-shards",
        "--pipeline",
        "direct",
        "--dicom",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--workers",
        0,
        *given,
    ]
    assert "column 'cancr' is missing" in run(*common, "--column", "label=cancr", code=1).output
    assert "is it 'cancer'?" in run(*common, "--column", "label=cancr", code=1).output
    assert "no fact 'labelx' (did you mean 'label'?)" in run(*common, "--column", "labelx=cancer", code=1).output
    assert "expected NAME=VALUE" in run(*common, "--column", "label", code=2).output


def test_a_file_of_a_project_is_read_by_its_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`index --explain` and `inspect`, which take the adapter of the data set that holds the file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("datasets: {set: {adapter: rsna, identifiers: own}}\n")
    rsna(tmp_path / "data" / "set", [{"image_id": 1, "cancer": 1, "density": "C"}, {"image_id": 2, "view": "MLO", "cancer": 1}])
    said = run("index", "--explain", "data/set/train_images/7/1.dcm", "--workers", 0).output
    facts = {line.split()[0]: line.split(maxsplit=2)[1:] for line in said.splitlines()[1:]}
    assert facts["view"] == ["CC", "table"]
    assert facts["label"] == ["malignant", "train.csv, line 2"]
    assert facts["density"] == ["C", "train.csv, line 2"]
    assert not (tmp_path / "manifests").exists()
    assert run("inspect", "data/set/train_images/7/1.dcm", "--json")
    assert run("inspect", "data/set/train_images/7/1.dcm", "--adapter", "rsna", "--json")
    write_table(
        tmp_path / "data/set/train.csv", [RSNA | {"image_id": i, "view": v, "cancer": i} for i, v in ((0, "CC"), (1, "CC"))]
    )
    assert "CC" in run("index", "--explain", "data/set/train_images/7/1.dcm", "--workers", 0).output
    assert json.loads(run("inspect", "data/set/train_images/7/2.dcm", "--json", code=1).stdout)["reason"] == "image_not_listed"
    outside = run("inspect", "data/set/train_images/7/1.dcm", "--adapter", "table", "--json", code=1).stdout
    assert json.loads(outside)["reason"] == "view_missing"
    assert "is below the folder of no data set" in run("index", "--explain", "params.yaml", code=1).output


def test_every_rule_works_on_the_command_line(tmp_path: Path) -> None:
    """Without any column or class."""
    embed(tmp_path / "in", four(), [{"side": "L", "path_severity": 0, "bside": "L"}])
    build(tmp_path / "in", tmp_path / "out", "--adapter", "embed", pipeline="direct")
    with open(tmp_path / "out" / "breasts.csv", encoding="utf-8") as file:
        assert [(row["laterality"], row["label"]) for row in csv.DictReader(file)] == [("L", "1"), ("R", "0")]


def test_known_data_sets_fit_a_terminal() -> None:
    said = run("datasets").output
    assert max(map(len, said.splitlines())) <= 100
    assert {line.split()[0] for line in said.splitlines() if line[0] != " "} == {each.name for each in declarations()}
    assert [row["name"] for row in json.loads(run("datasets", "--json").stdout) if not row["release_models"]] == ["embed"]
