"""The declarations of `docs/more-datasets.md`, on folders in the published forms, and what they need of tables of images."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.datasets.declared.declaration import Column, Declaration, Headers, Table
from fvpipe.datasets.registry import load_declaration
from fvpipe.errors import LabelTableError
from fvpipe.indexing.index import Index
from fvpipe.testing import write_image
from fvpipe.types import Laterality, View
from tests.support.declared import image, inbreast, index, labels, reasons, write_table

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "more-datasets.md").read_text(encoding="utf-8")
BLOCKS = [textwrap.dedent(block).strip() + "\n" for block in re.findall(r"(?m)(?:^    .*\n|^\n(?=    ))+", PAGE)]
DECLARATIONS = {block.split()[1]: block for block in BLOCKS if block.startswith("name: ")}
EDGES = ("top", "bottom", "left", "right")


def read(folder: Path, name: str, change: tuple[str, str] = ("", "")) -> Index:
    """Index a folder by a declaration of the page."""
    file = folder.parent / f"{name}.yaml"
    file.write_text(DECLARATIONS[name].replace(*change), encoding="utf-8")
    return index(folder, str(file))


def of_views(found: Index) -> dict[tuple[str, str], int]:
    """Labels of all breasts, also of those without a pair."""
    return {(breast.key.patient, breast.key.laterality.value): breast.facts.label for breast in found.all_breasts}


@pytest.mark.parametrize("name", DECLARATIONS)
def test_each_declaration_of_the_page_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(DECLARATIONS[name], encoding="utf-8")
    assert load_declaration(tmp_path / "d.yaml").name == name


def test_every_key_of_a_declaration_is_explained() -> None:
    page = (ROOT / "docs" / "adapters.md").read_text(encoding="utf-8")
    keys = {key for model in (Declaration, Table, Column, Headers) for key in model.model_fields}
    assert {key for key in keys if not re.search(rf"\b{key}\b", page)} == set()


@pytest.mark.process
def test_mias(tmp_path: Path) -> None:
    """Several rows of a film, one without a place, notes, and rows that count from the bottom."""
    info = ["mdb005 F CIRC B 477 133 30", "mdb005 F CIRC B 500 168 26", "mdb006 F NORM", "mdb216 D CALC M *NOTE 3*"]
    info += ["mdb217 D CALC B", "mdb217 D ASYM M 119 229 8"]
    folder = tmp_path / "mias"
    for number, name in enumerate(dict.fromkeys(line.split()[0] for line in info), 1):
        write_image(folder / f"{name}.pgm", number, view=View.MLO, form="pgm")
    (folder / "Info.txt").write_text("REFNUM BG CLASS SEVERITY X Y RADIUS\n\n" + "\n".join(info) + "\n")
    (script,) = (block for block in BLOCKS if block.startswith("(echo"))
    subprocess.run(["sh", "-c", script], cwd=folder, check=True)
    found = read(folder, "mini-mias")
    assert of_views(found) == {("3", "R"): 0, ("3", "L"): 0, ("108", "L"): 1, ("109", "R"): 1}
    boxes = {breast.key.patient: breast.findings[1] for breast in found.all_breasts if breast.findings[1]}
    assert [(box.top, box.bottom, box.left, box.right) for box in boxes["3"]] == [(861, 921, 447, 507), (830, 882, 474, 526)]
    assert [box.category for box in boxes["109"]] == ["asymmetry"]


def test_dmid(tmp_path: Path) -> None:
    """Masks and DICOM copies of the same names, and findings of both classes on one image."""
    rows = [("IMG001", "CCLT", "CIRC", "B"), ("IMG001", "CCLT", "SPIC", "M"), ("IMG002", "MLORT", "NORM", "-")]
    for number, name in enumerate(("IMG001", "IMG002"), 1):
        write_image(tmp_path / "dmid" / "TIFF Images" / f"{name}.tif", number, form="tiff")
        write_image(tmp_path / "dmid" / "ROI Masks" / f"{name}.tif", number + 2, form="tiff")
        image(tmp_path / "dmid" / "DICOM Images" / f"{name}.dcm", number + 4)
    table = [dict(zip(("ID", "view", "abnormality", "pathology"), row, strict=True)) for row in rows]
    write_table(tmp_path / "dmid" / "Metadata.csv", table)
    found = read(tmp_path / "dmid", "dmid")
    assert of_views(found) == {("IMG001", "L"): 1, ("IMG002", "R"): 0}
    assert {reasons(found)[f"ROI Masks/IMG00{n}.tif"] for n in (1, 2)} == {"image_not_listed"}
    with pytest.raises(LabelTableError, match="line 2 and line 3: list one image and differ; expected one row, or `combine`"):
        read(tmp_path / "dmid", "dmid", ("combine: worst", "combine: same"))


VINDR = ("study_id", "image_id", "laterality", "view_position", "height", "width", "breast_birads", "breast_density", "split")


def test_csaw_m(tmp_path: Path) -> None:
    """The original images, of which some are inverted, have the names of the others; not each cancer is one to come."""
    for number, path in enumerate((f"{kind}/train/{n}.png" for kind in ("original_png", "preprocessed") for n in range(4)), 1):
        write_image(tmp_path / "csaw-m" / "images" / path, number, view=View.MLO, form="png")
    rows = [
        {"Filename": f"{n}.png", "Label": n + 1, "If_cancer": cancer, "If_composite": composite, "Dicom_image_laterality": "R"}
        for n, (cancer, composite) in enumerate(((0, 0), (1, 1), (1, 0), ("-", "-")))
    ]
    write_table(tmp_path / "csaw-m" / "labels" / "CSAW-M_train.csv", rows, ";")
    write_table(tmp_path / "csaw-m" / "labels" / "CSAW-M_test.csv", [rows[0] | {"Filename": "9.png"}], ";")
    found = read(tmp_path / "csaw-m", "csaw-m")
    assert of_views(found) == {("0.png", "L"): 0, ("1.png", "L"): 1}
    why = reasons(found)
    assert {path for path, reason in why.items() if reason == "image_not_listed"} == {
        f"images/original_png/train/{n}.png" for n in range(4)
    }


def vindr_png(folder: Path, height: int = 320) -> Path:
    study, rows, boxes = "a" * 32, list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (side, view) in enumerate([("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO")], 1):
        name = f"{number}" * 32
        write_image(folder / "png" / study / f"{name}.png", number, form="png")
        row = (study, name, side, view, height, 256, f"BI-RADS {5 if side == 'L' else 2}", "DENSITY B", "training")
        rows.append(dict(zip(VINDR, row, strict=True)))
        box = {"finding_categories": "['Mass']", "finding_birads": "BI-RADS 5", "xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}
        none = dict.fromkeys(box, "") | {"finding_categories": "['No Finding']"}
        boxes += [rows[-1] | each for each in ((box, box | {"xmin": 5}) if side == "L" else (none,))]
    write_table(folder / "breast-level_annotations.csv", rows)
    write_table(folder / "finding_annotations.csv", boxes)
    return folder


@pytest.mark.parametrize("first", ["breast-level", "finding"])
def test_boxes_come_from_a_table_of_their_own(first: str, tmp_path: Path) -> None:
    """Whichever comes first; its rows give nothing else, and one of an image that no other row lists is counted."""
    folder = vindr_png(tmp_path / "vindr")
    head, listing, boxes = re.split(r"(?m)^(?=  - file)", DECLARATIONS["vindr-png"])
    text = head + (listing + boxes if first == "breast-level" else boxes + listing)
    found = read(folder, "vindr-png", (DECLARATIONS["vindr-png"], text))
    assert labels(found) == {("a" * 32, "L"): 1, ("a" * 32, "R"): 0} and not found.rejections
    (left, right) = found.breasts
    assert [[(box.category, box.left, box.top) for box in boxes] for boxes in left.findings] == [
        [("Mass", 1.0, 2.0), ("Mass", 5.0, 2.0)]
    ] * 2
    assert right.findings == ((), ())
    file = folder / "finding_annotations.csv"
    file.write_text(file.read_text(encoding="utf-8").replace("1" * 32, "9" * 32), encoding="utf-8")
    (rejection,) = read(folder, "vindr-png").rejections
    assert "1 row(s) or file(s) add facts to breasts that no row of the label table describes" in rejection.detail


def test_a_resized_copy_has_not_the_size_of_its_row(tmp_path: Path) -> None:
    """Its boxes would lie elsewhere."""
    folder = vindr_png(tmp_path / "vindr", height=3518)
    found = read(folder, "vindr-png")
    assert not found.breasts and {*reasons(found).values()} == {"size_conflict"}
    assert found.rejections[0].detail == "the header says 320, the label table says 3518"


def test_cbis_as_jpeg(tmp_path: Path) -> None:
    """A mask that no description names is as large as its film."""
    folder, rows = tmp_path / "cbis", list[dict[str, Any]]()
    for number, (view, end) in enumerate([(view, end) for view in ("CC", "MLO") for end in ("", "_1")], 1):
        write_image(folder / "jpeg" / f"1.3.{number}" / "1-000.jpg", number, form="jpeg")
        name, path = f"Mass-Training_P_00001_LEFT_{view}{end}", f"CBIS-DDSM/jpeg/1.3.{number}/1-000.jpg"
        rows.append({"image_path": path, "PatientID": name, "SeriesDescription": "", "Rows": 320, "Columns": 256})
    write_table(folder / "csv" / "dicom_info.csv", rows)
    case = {"patient_id": "P_00001", "left or right breast": "LEFT", "pathology": "MALIGNANT", "assessment": 4}
    write_table(folder / "csv" / "mass_case_description_train_set.csv", [case | {"breast_density": 3}])
    found = read(folder, "cbis-jpeg")
    assert labels(found) == {("P_00001", "L"): 1}
    assert {*reasons(found)} == {f"jpeg/1.3.{n}/1-000.jpg" for n in (2, 4)}
    assert {image.path for image in found.breasts[0].views if image} == {f"jpeg/1.3.{n}/1-000.jpg" for n in (1, 3)}
    assert found.breasts[0].facts.subset == "training"
    (table,) = (folder / "csv").glob("mass*")
    table.rename(table.with_name("mass_case_description_train_set_latest.csv"))
    with pytest.raises(LabelTableError, match=r"its name has test and train .`subset_by_name`.; expected one"):
        read(folder, "cbis-jpeg")


def test_lamis(tmp_path: Path) -> None:
    """Patients with letters, numbers that are none, months as words, a folder that is spelled otherwise."""
    cases = [
        ("Bening/BIRADS II/Mass/ACR2", "P29_44143_R", "30_July_2017"),
        ("maling/BIRADS IV/Mass/ACR3", "PM1_012.5_L", "8_May_2018"),
    ]
    cases += [
        ("maling/BIRADS V/Mass/ACR3", "P29_00_R", "31_October_2018"),
        ("Normal/BARADS I/ACR1", "PQ26_1_L", "01_June_2017"),
    ]
    for number, (folder, who, date) in enumerate(cases):
        for v, view in enumerate(View):
            path = tmp_path / "lamis" / folder / f"dataMG-PROC_{who}_{view}_{date}.dcm"
            image(path, 2 * number + v + 1, PatientID="anon", ImageLaterality=None)
    image(path.with_name(path.name.replace("MLO", "LMO")), 9, PatientID="anon", ImageLaterality=None)
    found = read(tmp_path / "lamis", "lamis-dmdb")
    assert sorted((b.key.patient, b.facts.label, b.facts.bi_rads, b.facts.density) for b in found.breasts) == [
        ("P29", 0, 2, "B"), ("P29", 1, 5, "C"), ("PM1", 1, 4, "C"), ("PQ26", 0, 1, "A"),
    ]  # fmt: skip
    assert list(reasons(found).values()) == ["view_not_pairable"]


def test_mini_ddsm(tmp_path: Path) -> None:
    """The other breast of a case with a cancer is not malignant by its folder, and no proven normal."""
    rows = []
    for case, status in (("C_0001_1", "Cancer"), ("A_0002_1", "Normal")):
        for number, (side, view) in enumerate((side, view) for side in ("LEFT", "RIGHT") for view in View):
            name = f"{case}.{side}_{view}"
            write_image(tmp_path / "in" / status / case[2:6] / f"{name}.png", number + 10 * ord(case[0]), form="png", view=view)
            of_lesion = f"{status}\\{case[2:6]}\\{name}_Mask.png" if (status, side) == ("Cancer", "LEFT") else "-"
            rows.append({"fullPath": "", "fileName": f"{name}.png", "View": view, "Side": side, "Status": status,
                         "Tumour_Contour": of_lesion, "Tumour_Contour2": "-", "Age": 51, "Density": 0})  # fmt: skip
    rows[1]["Tumour_Contour"] = "-"  # outlined on one film of the two
    write_image(tmp_path / "in" / "Cancer" / "0001" / "C_0001_1.LEFT_CC_Mask.png", 99, form="png")
    write_table(tmp_path / "in" / "Data-MoreThanTwoMasks.csv", rows)
    found = read(tmp_path / "in", "mini-ddsm", ('"**/Data-MoreThanTwoMasks.xlsx"', '"**/Data-MoreThanTwoMasks.csv"'))
    assert labels(found) == {("C_0001_1", "L"): 1, ("A_0002_1", "L"): 0, ("A_0002_1", "R"): 0}
    assert sorted(reasons(found).values()) == ["image_not_listed", "label_excluded"]


def test_bcdr(tmp_path: Path) -> None:
    """Views have names in the list of images, whose numbers are not read, and numbers in that of outlines."""
    names = ("RCC", "LCC", "RO", "LO", "PR")
    listed, outlines = list[dict[str, Any]](), list[dict[str, Any]]()
    for number, (study, view) in enumerate(((study, view) for study in (30, 31) for view in range(5)), 1):
        path = f"patient_20/study_{study}/img_20_{study}_1_{names[view]}.tif"
        write_image(tmp_path / "bcdr" / "BCDR-D01_dataset" / path, number, form="tiff")
        row = {
            "patient_id": 20,
            "study_id": study,
            "series": 1,
            "image_filename": f" {path}",
            "image_type_name": f" {names[view]}",  # all cells of text begin with a space
        }
        listed.append(row | {"image_type_id": view + 1, "age": 61.2, "density": " NaN"})
    for study, view, label in ((30, 1, "Benign "), (30, 3, "Malign "), (31, 2, "Benign ")):
        row = {"patient_id": 20, "study_id": study, "image_view": view, "classification": label, "age": 61.2, "density": 2}
        outlines.append(row | {"lesion_id": len(outlines) + 1})
    write_table(tmp_path / "bcdr" / "BCDR-D01_dataset" / "bcdr_d01_img.csv", listed)
    write_table(tmp_path / "bcdr" / "BCDR-D01_dataset" / "bcdr_d01_outlines.csv", outlines)
    found = read(tmp_path / "bcdr", "bcdr")
    facts = {
        (Path(breast.mlo.path).stem[4:9], breast.key.laterality.value): breast.facts for breast in found.breasts if breast.mlo
    }
    assert {key: each.label for key, each in facts.items()} == {
        ("20_30", "R"): 1, ("20_30", "L"): -1, ("20_31", "R"): -1, ("20_31", "L"): 0,
    }  # fmt: skip
    assert (facts["20_30", "R"].density, facts["20_30", "R"].age) == ("B", "061Y")
    assert set(reasons(found).values()) <= {"laterality_missing", "view_not_pairable"} and len(found.rejections) == 2


def test_mammo_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are numbered within each set, and patients begin anew in each: two women must not make a pair."""
    images = [("inbreast", "20586908", "CC", "Benign"), ("inbreast", "20586934", "MLO", "Malignant")]
    images += [(source, "1.0", view, "Malignant") for source in ("cmmd", "vindr") for view in ("CC", "MLO")]
    rows = list[dict[str, Any]]()
    for number, (source, subject, view, label) in enumerate(images, 1):
        path = f"Preprocessed_Dataset/{source}/{source}_{number}.jpg"
        write_image(tmp_path / "in" / path, number, form="jpeg", view=View(view))
        row = {
            "source_dataset": source,
            "source_subjectID": subject,
            "preprocessed_image_path": path,
            "laterality": "L",
            "view": view,
        }
        row |= {"classification": label, "BIRADS": "4", "density": "DENSITY B", "subject_age": "51.0", "molecular_subtype": ""}
        rows.append(row)
    write_table(tmp_path / "in" / "CSV_Files" / "mammo-bench.csv", rows)
    monkeypatch.chdir(tmp_path / "in")
    (script,) = (block for block in BLOCKS if block.startswith("import csv"))
    exec(script)
    found = read(tmp_path / "in", "mammo-bench")
    assert labels(found) == {("vindr/1.0", "L"): 1}
    assert (found.breasts[0].facts.density, found.breasts[0].facts.age) == ("B", "051Y")
    assert sorted(reasons(found).values()) == ["cc_missing", "label_excluded", "mlo_missing"]


def test_bmcd_and_a_list_with_a_column_for_each_side(tmp_path: Path) -> None:
    for number, (case, exam) in enumerate([(c, e) for c in ("Normal", "Suspicious") for e in ("prior", "recent")]):
        for v, view in enumerate(View):
            path = tmp_path / "bmcd" / f"{case}_cases" / "1" / f"{view}_{exam}.{'DCM' if v else 'dcm'}"
            image(path, 4 * number + v + 1, PatientID="anon", ImageLaterality="L")
    found = read(tmp_path / "bmcd", "bmcd")
    assert labels(found) == {("Normal_cases/1", "L"): 0} and len(found.breasts) == 2
    assert {rejection.detail for rejection in found.rejections} == {
        "a suspicious case, which a biopsy may have found benign", "the prior exam of a suspicious case",
    }  # fmt: skip
    found = index(tmp_path / "bmcd", str(tmp_path / "bmcd.yaml"), labels=Labels(options={"suspicious": "malignant"}))
    assert labels(found) == {("Normal_cases/1", "L"): 0, ("Suspicious_cases/1", "L"): 1} and len(found.breasts) == 3
    for number, (side, view) in enumerate((side, view) for side in Laterality for view in View):
        said = {"PatientID": "A", "ImageLaterality": side.value, "ViewPosition": view.value, "StudyDate": "20200301"}
        image(tmp_path / "list" / f"{number}.dcm", number + 1, **said)
    row = {"Patient": "A", "Date": "2020-03-01", "Right": "b", "Left": "m", "BI-RADS right": 2, "BI-RADS left": 5}
    write_table(tmp_path / "list" / "list.csv", [row])
    assert labels(read(tmp_path / "list", "hospital", ("list.xlsx", "list.csv"))) == {("A", "L"): 1, ("A", "R"): 0}
    write_table(tmp_path / "new.csv", [row | {"Right": "m", "Left": "b"}])
    found = index(tmp_path / "list", str(tmp_path / "hospital.yaml"), label_file=str(tmp_path / "new.csv"))
    assert labels(found) == {("A", "L"): 0, ("A", "R"): 1}  # one file for both breasts


def test_the_row_of_an_image_that_is_damaged_or_missing_counts_where_the_worst_does(tmp_path: Path) -> None:
    """The breast of the other view was benign."""
    rows: list[dict[str, Any]] = [{"File Name": 1, "Bi-Rads": "5"}, {"File Name": 2, "View": "MLO", "Bi-Rads": "2"}]
    folder = inbreast(tmp_path / "in", [*rows, {"File Name": 3, "Acquisition date": "201101", "Bi-Rads": "6"}])
    (damaged,) = (folder / "AllDICOMs").glob("1_*")
    damaged.write_bytes(damaged.read_bytes()[:20_000])
    found = index(folder, "inbreast")
    assert {(b.key.study != "", b.facts.label, b.facts.bi_rads) for b in found.all_breasts} == {(True, 1, 5), (True, 1, 6)}
    folder = vindr_png(tmp_path / "vindr")
    (folder / "png" / ("a" * 32) / f"{'3' * 32}.png").unlink()
    table = folder / "breast-level_annotations.csv"
    line = next(line for line in table.read_text().splitlines() if "3" * 32 in line)
    table.write_text(table.read_text().replace(line, line.replace("BI-RADS 2", "BI-RADS 5")))
    change = ("    label: bi_rads\n", "    label: bi_rads\n    combine: worst\n")
    assert of_views(read(folder, "vindr-png", change)) == {("a" * 32, "L"): 1, ("a" * 32, "R"): 1}
