"""Adapters of other packages."""

from __future__ import annotations

import json
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.uid import UID

import fvpipe.datasets
from fvpipe.config.project import Labels
from fvpipe.datasets import Adapter, Exam, Finding, HeaderPolicy, Identity, ImageFacts, LabelTable, ListedImage
from fvpipe.datasets.adapter import check_values
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import LabelTableError, ParameterError
from fvpipe.reasons import Reason
from fvpipe.testing import index_folder, write_image
from fvpipe.types import BreastFacts, Laterality, View
from tests.conftest import build, run
from tests.support import factory

LEFT = Laterality.LEFT


def test_an_adapter_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package with an entry point: its metadata folder and module, as pip lays them."""
    (tmp_path / "outside.py").write_text(
        "import dataclasses\nfrom fvpipe.datasets import get_adapter\n"
        "ADAPTER = dataclasses.replace(get_adapter('table'), name='inbreast', hashed=False)\nWRONG = 1\n"
        "LATER = dataclasses.replace(ADAPTER, version=2)\n"
    )
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fvpipe.datasets]\ninbreast = outside:ADAPTER\nwrong = outside:WRONG\nlater = outside:LATER\ngone = nowhere:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert get_adapter("inbreast").name == "inbreast"
    factory.patient(tmp_path / "dicom", "own7", "L")
    build(tmp_path / "dicom", tmp_path / "out", "--adapter", "inbreast")
    assert "own7" in (tmp_path / "out" / "breasts.csv").read_text()  # this adapter keeps identifiers
    for name, message in (
        ("wrong", "expected an fvpipe.datasets.Adapter"),
        ("gone", "cannot be imported"),
        ("later", "adapter 'later': is of version 2; this fvpipe reads up to 1"),
        ("inbrest", "inbreast"),
    ):
        with pytest.raises(ParameterError, match=message):
            get_adapter(name)
    said = run("datasets").output
    assert "of the package outside" in said and "adapter 'later': is of version 2" in said and "Moreira" not in said
    (row,) = [each for each in json.loads(run("datasets", "--json").stdout) if each.get("package")]
    assert (row["name"], row["license"], row["redistribute_shards"]) == ("inbreast", "not stated", False)
    sys.modules.pop("outside", None)


def test_the_documented_adapter_works_as_it_is_printed(tmp_path: Path) -> None:
    """The module in the docstring of fvpipe.datasets."""
    printed = (fvpipe.datasets.__doc__ or "").partition("::\n")[2].partition("\nand its package")[0]
    names: dict[str, Any] = {}
    exec(textwrap.dedent(printed), names)
    (tmp_path / "INbreast.csv").write_text("Patient ID;Laterality;Bi-Rads\np1;R;5\np2;L;4a\np2;R;1\n")
    found = names["ADAPTER"].read_labels(tmp_path, None, Labels()).rows
    assert found == {
        ("p1", Laterality.RIGHT): BreastFacts(1, 5),
        ("p2", Laterality.LEFT): BreastFacts(0, 4),
        ("p2", Laterality.RIGHT): BreastFacts(-1, 1),
    }
    (tmp_path / "INbreast.csv").write_text("Patient ID;Laterality;Bi-Rads\np1;R;x\n")
    with pytest.raises(LabelTableError, match="line 2: Bi-Rads is 'x'; expected 0 to 6"):
        names["ADAPTER"].read_labels(tmp_path, None, Labels())
    assert all(hasattr(fvpipe.datasets, name) for name in fvpipe.datasets.__all__)


def test_an_adapter_says_for_which_facts_its_statements_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a declaration, of images that no header identifies; paths are sources as tables are."""
    listed = {f"a{n}.dcm": ListedImage(f"line {n}", view=view) for n, view in ((2, "CC"), (3, "MLO"))}
    of_path = ListedImage("the path", patient="P1", laterality=Laterality.LEFT)

    def state_images(paths: Sequence[str], table: LabelTable, rules: Labels) -> dict[str, list[tuple[str, ListedImage]]]:
        return {p: [("path", of_path)] + ([("table", table.listed[p])] if p in table.listed else []) for p in paths}

    given: dict[str, Any] = {"read_labels": lambda *_: LabelTable(listed=listed), "state_images": state_images}
    given |= {"name": "own", "license": "ours", "policy": HeaderPolicy(), "hashed": False, "publishable": False}
    with pytest.raises(ParameterError, match="adapter 'own': `state_images` needs `identity`"):
        Adapter(**given)
    sources = Identity(patient=("path",), laterality=("path",), view=("table",))
    monkeypatch.setattr("fvpipe.project.project.get_adapter", lambda *_: Adapter(**given, identity=sources))
    for n in (2, 3, 4):
        write_image(tmp_path / "in" / f"a{n}.dcm", n - 1, PatientID="another", ImageLaterality="R", ViewPosition="MLO")
    found = index_folder(tmp_path / "in", "own")
    assert [(breast.key.patient, breast.key.laterality) for breast in found.breasts] == [("P1", "L")]
    assert {(each.what, each.reason) for each in found.rejections} == {("a4.dcm", Reason.IMAGE_NOT_LISTED)}
    of_path = replace(of_path, facts=BreastFacts(2))
    with pytest.raises(ParameterError, match="adapter 'own': `read_labels` gives label as 2"):
        index_folder(tmp_path / "in", "own")


def test_texts_of_other_packages_are_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A UID of pydicom and a text of numpy ended in a traceback."""
    table = LabelTable({(np.str_("P1"), LEFT): BreastFacts(1)}, images={UID("2.25.1"): ImageFacts(2)})
    own = Adapter("own", "ours", HeaderPolicy(), hashed=False, publishable=False, read_labels=lambda *_: table)
    monkeypatch.setattr("fvpipe.project.project.get_adapter", lambda *_: own)
    for number, view in enumerate(View, 1):
        write_image(
            tmp_path / "in" / f"{view}.dcm", number, LEFT, view, PatientID="P1", ImageLaterality="L", ViewPosition=view.value
        )
    assert [breast.facts.label for breast in index_folder(tmp_path / "in", "own").breasts] == [1]
    table = LabelTable({("P1", LEFT): BreastFacts(2)})
    with pytest.raises(ParameterError, match="adapter 'own': `read_labels` gives label as 2"):
        index_folder(tmp_path / "in", "own")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (BreastFacts(2), "label as 2; expected 1 malignant, 0 benign, -1 unlabelled"),
        (BreastFacts(1, bi_rads=9), "bi_rads as 9; expected 0 to 6, or None"),
        (BreastFacts(1, density="2"), "density as '2'; expected A to D"),
        (BreastFacts(1, age="54"), "age as '54'; expected text such as 045Y"),
        (None, "facts as a NoneType; expected BreastFacts"),
    ],
)
def test_values_of_another_package_are_checked(facts: Any, message: str) -> None:
    """A label of 2 was written into shards."""
    for table in (LabelTable({("P1", LEFT): facts}), LabelTable(exams={("P1", LEFT, Exam(date="2014")): facts})):
        with pytest.raises(ParameterError, match=f"gives {message}"):
            check_values(table)
    with pytest.raises(ParameterError, match=f"gives {message}"):
        check_values(LabelTable(), [facts])


def test_names_and_boxes_of_another_package_are_checked() -> None:
    good: Any = LabelTable(
        {("P1", LEFT): BreastFacts(1, 4, "B", "045Y")}, findings={"2.25.1": [Finding("mass", 4, 1, 5, 2, 6)]}
    )
    check_values(good)
    name: Any = "Doe, Jane"
    for wrong, message in (
        ({"rows": {(1, LEFT): BreastFacts(1)}}, "patient as a int; expected text"),
        ({"rows": {("P1", "LEFT"): BreastFacts(1)}}, "laterality as 'LEFT'"),
        (
            {"exams": {("P1", LEFT, Exam(date="2014-01-31")): BreastFacts(1)}},
            "Exam.date as text of 10 characters; expected YYYYMMDD",
        ),
        ({"findings": {"2.25.1": [Finding("mass", 4, float("nan"), 5, 2, 6)]}}, "a box as Finding"),
        ({"findings": {"2.25.1": [(1, 2, 3, 4)]}}, r"a box as \(1, 2"),
        ({"regions": {("P1", LEFT, View.CC, 1): ("mass", 4)}}, "regions as a tuple; expected a set"),
        ({"rows": {("P1", LEFT): BreastFacts(name)}}, "label as text of 9 characters"),
    ):
        with pytest.raises(ParameterError, match=message):
            check_values(replace(good, **wrong))


def test_table_columns_can_have_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for tests of the adapters")
    for i in range(3):
        factory.patient(tmp_path / "data" / "ours", f"P{i}", "LR", seed=i)
    (tmp_path / "ours.csv").write_text("case;side;cancer\nP0;left;malignant\nP0;right;benign\nP1;L;1\nP1;R;unlabelled\n")
    (tmp_path / "params.yaml").write_text(
        "datasets:\n  ours:\n    adapter: table\n    label_file: ours.csv\n"
        "    labels: {patient_id: case, laterality: side, label: cancer}\npipelines: [direct]\n"
    )
    monkeypatch.chdir(tmp_path)
    (result,) = json.loads(run("build-shards", "--json", "--workers", 0).stdout)
    assert Counter(result["labels"]) == Counter(malignant=2, benign=1, unlabelled=3)
