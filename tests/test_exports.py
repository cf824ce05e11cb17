"""What `fvpipe index` says of the facts of a data set, and the table in MammoClean's columns."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.project import Labels
from fvpipe.indexing.known_facts import known_facts, known_lines
from fvpipe.indexing.manifests.mammoclean import mammoclean_table
from fvpipe.testing import index_folder, make_tree, write_image, write_table
from fvpipe.types import View
from tests.conftest import run

SCHEMA = (
    "ID,Image ID,Laterality,View,Age,Breast Density,Diagnosis,BI-RADS Assessment,Mass,Mass Shape,Mass Margin,Mass Density,"
    "Calcification,Calcification Morphology,Calcification Distribution,Asymmetry,Architectural Distortion,Other Findings,Split,"
    "Image File Folder (raw),Image File Path (processed)"
)
"""Of the tables that MammoClean's scripts for VinDr-Mammo, CBIS-DDSM and TOMPEI-CMMD write."""


@pytest.fixture
def project(phantoms: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = [f"  {form}: {{adapter: {form}, made: true, dicom: {folder}}}\n" for form, folder in phantoms.items()]
    (tmp_path / "params.yaml").write_text("datasets:\n" + "".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def exported(project: Path, name: str) -> list[dict[str, str]]:
    file = project / "cache" / "exports" / "mammoclean" / f"{name}.csv"
    assert file.read_text(encoding="utf-8").partition("\n")[0] == SCHEMA
    with open(file, encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def test_index_in_the_columns_of_mammoclean(project: Path, phantoms: dict[str, Path]) -> None:
    result = run("index", "--workers", 0, "--export", "mammoclean", "--json")
    known = {each["dataset"]: each["known"] for each in json.loads(result.stdout)}
    vindr, cmmd = exported(project, "vindr"), exported(project, "cmmd")
    with open(project / "manifests" / "vindr" / "breasts.csv", encoding="utf-8") as text:
        breasts = {row["breast_id"]: row for row in csv.DictReader(text)}
    assert len(vindr) == known["vindr"]["density"]["images"] == sum(1 + (row["paired"] == "true") for row in breasts.values())
    for row in vindr:
        (breast,) = [b for b in breasts.values() if (b["patient_id"], b["laterality"]) == (row["ID"], row["Laterality"])]
        assert (row["Breast Density"], row["BI-RADS Assessment"]) == (breast["density"], breast["bi_rads"])
        assert row["Split"] == {"training": "train", "test": "test"}[breast["subset"]]
        assert row["Diagnosis"] == ""  # its labels are BI-RADS
        (file,) = (phantoms["vindr"] / row["Image File Folder (raw)"]).glob(f"{row['Image ID']}.*")
        assert file.is_file()
    assert {row["Mass"] for row in vindr} == {"0", "1"}
    assert {row["Diagnosis"] for row in cmmd} == {"Benign", "Malignant", ""}
    assert {row["Mass"] for row in cmmd} == {""}  # nothing is said of findings
    assert all(row["Age"].isdecimal() for row in cmmd)
    before = (project / "cache" / "exports" / "mammoclean" / "cmmd.csv").read_bytes()
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace(str(phantoms["cmmd"]), "nowhere"))
    run("index", "--workers", 0, "--export", "mammoclean", "--dataset", "cmmd")  # of the manifest alone
    assert (project / "cache" / "exports" / "mammoclean" / "cmmd.csv").read_bytes() == before


def test_the_license_of_rows_that_are_not_to_be_published_is_beside_them(project: Path, phantoms: dict[str, Path]) -> None:
    text = (project / "params.yaml").read_text().replace(", made: true", "")
    (project / "params.yaml").write_text(text)
    result = run("index", "--workers", 0, "--export", "mammoclean", code=1)
    assert "vindr: not exported, rows not to be published (VinDr-Mammo, PhysioNet" in result.stderr
    assert not (project / "cache" / "exports").exists()
    run("index", "--workers", 0, "--export", "mammoclean", "--accept-license")
    assert (project / "cache" / ".gitignore").read_text().endswith("\n*\n")  # and git sees no row of it
    (license,) = (project / "cache" / "exports" / "mammoclean").glob("*.license.txt")
    assert license.name == "vindr.license.txt"
    assert license.read_text().startswith("Rows not to be published.\nVinDr-Mammo, PhysioNet")


def test_the_facts_that_are_known_stand_below_each_data_set(project: Path) -> None:
    lines = run("index", "--workers", 0, "--dataset", "cmmd").stdout.splitlines()
    assert lines[1].startswith("  known of breasts (images): label ")
    assert all(len(line) <= 100 for line in lines[1:])
    assert len(known_lines({f"fact number {i}": {"breasts": 10**6, "images": 2 * 10**6} for i in range(12)})) > 2
    assert all(len(line) <= 100 for line in known_lines({f"f{i}": {"breasts": 10**i, "images": 10**i} for i in range(9)}))


def test_findings_exams_and_old_age(tmp_path: Path) -> None:
    """Categories as MammoClean sorts them, files of two exams that do not overwrite each other, and ages from 90 on."""
    folder = tmp_path / "in"
    for exam in (1, 2):
        for v, view in enumerate(View):
            said: dict[str, Any] = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": view.value, "PatientAge": "093Y"}
            write_image(folder / f"{exam}{view}.dcm", 4 * exam + v + 1, **said)
    rows = [
        {"file": f"{exam}{view}.dcm", "label": 1, "what": what, "top": 1, "bottom": 9, "left": 1, "right": 9}
        for exam in (1, 2)
        for view, what in (
            ("CC", "Suspicious Calcification, Mass"),
            ("MLO", "Focal Asymmetry, Architectural Distortion, Skin Thickening"),
        )
    ]
    write_table(tmp_path / "t.csv", rows)
    columns = {"path": "file", "category": "what", **{edge: edge for edge in ("top", "bottom", "left", "right")}}
    found = index_folder(folder, "table", label_file=str(tmp_path / "t.csv"), labels={"columns": columns})
    cells = list(csv.DictReader(line.decode() for line in mammoclean_table(found)))
    names = ("Mass", "Calcification", "Asymmetry", "Architectural Distortion", "Other Findings", "Diagnosis", "Age")
    assert [[row[name] for name in names] for row in cells[:2]] == [
        ["1", "1", "", "0", "", "Malignant", "90+"], ["0", "0", "Focal Asymmetry", "1", "Skin Thickening", "Malignant", "90+"],
    ]  # fmt: skip
    assert len({row["Image File Path (processed)"] for row in cells}) == 4
    assert known_facts(found)["boxes"] == {"breasts": 2, "images": 4}


def test_nothing_is_said_of_what_a_box_without_a_category_may_be(tmp_path: Path) -> None:
    """An image with a cancer's box was one without a mass, in EMBED and in tables of boxes alone."""
    for v, view in enumerate(View):
        said: dict[str, Any] = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": view.value}
        write_image(tmp_path / "in" / f"{view}.dcm", v + 1, **said)
    names = ("Mass", "Calcification", "Architectural Distortion", "Other Findings")
    for what, expected in (("", ["", "", "", ""]), ("CALC", ["0", "1", "0", ""])):  # as MIAS and DMID abbreviate it
        rows = [{"file": "CC.dcm", "label": 1, "what": what, "box": "[[1, 1, 9, 9]]"}, {"file": "MLO.dcm", "label": 1}]
        write_table(tmp_path / "t.csv", rows)
        columns = {"path": "file", "category": "what", "boxes": "box"}
        found = index_folder(tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels={"columns": columns})
        first, *_ = csv.DictReader(line.decode() for line in mammoclean_table(found))
        assert [first[name] for name in names] == expected


def test_the_name_of_an_image_is_whole_where_it_is_a_uid(tmp_path: Path) -> None:
    """Its last number is not a suffix: without it, all images of a series would have one name."""
    for v, view in enumerate(View):
        said: dict[str, Any] = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": view.value}
        write_image(tmp_path / "in" / f"1.2.840.{v}", v + 1, **said)
    cells = csv.DictReader(line.decode() for line in mammoclean_table(index_folder(tmp_path / "in", "table")))
    assert [row["Image ID"] for row in cells] == ["1.2.840.0", "1.2.840.1"]


def test_a_diagnosis_is_not_made_of_bi_rads(tmp_path: Path) -> None:
    for v, view in enumerate(View):
        said: dict[str, Any] = {"PatientID": "A", "ImageLaterality": "L", "ViewPosition": view.value}
        write_image(tmp_path / "in" / f"{view}.dcm", v + 1, **said)
    for label, expected in (("", ""), ("label", "Benign")):  # a table without a label, and one with it
        write_table(tmp_path / "t.csv", [{"patient_id": "A", "laterality": "L", "br": 5, label or "note": "0"}])
        found = index_folder(
            tmp_path / "in", "table", label_file=str(tmp_path / "t.csv"), labels={"columns": {"bi_rads": "br"}}
        )
        assert found.breasts[0].facts.label == (0 if label else 1)
        cells = csv.DictReader(line.decode() for line in mammoclean_table(found))
        assert [row["Diagnosis"] for row in cells] == [expected] * 2
    for rules, expected in ((Labels(), "Benign"), (Labels(label_from="bi_rads"), "")):  # an adapter of code, not declared
        source = replace(found.source, adapter=replace(found.source.adapter, declaration=None), labels=rules)
        cells = csv.DictReader(line.decode() for line in mammoclean_table(replace(found, source=source)))
        assert [row["Diagnosis"] for row in cells] == [expected] * 2


def test_declared_facts_are_counted(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(
        "name: own\nlicense: ours\ntargets: {days: {meaning: to the diagnosis, unit: days}}\ntables:\n"
        "  - file: own.csv\n    label: label\n"
        "    columns: {patient: p, laterality: s, days: d, label: {column: c, values: {x: benign}}}\n"
    )
    tree = make_tree(tmp_path / "own.yaml", tmp_path / "made")
    assert known_facts(tree.index())["days"] == {"breasts": 8, "images": 16}
