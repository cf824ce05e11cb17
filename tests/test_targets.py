"""Targets: facts beside the label in the shards, what is missing, and folders that somebody else made."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from torch.utils.data import DataLoader

import fvpipe
from fvpipe.errors import LabelTableError, ParameterError, ReceiptError, ShardError
from fvpipe.shards.format import RECEIPT
from fvpipe.shards.targets import TargetForm, class_names
from fvpipe.shards.verification import verify
from fvpipe.shards.writer import write_shard
from fvpipe.testing import write_image, write_table
from fvpipe.torch import ShardDataset
from fvpipe.types import Laterality, View
from tests.conftest import build, run
from tests.support.hostile_shards import Change, change_shard, compact, empty, fit_receipt, link, put
from tests.support.shard_folder import fused, rows

PIPELINE = "resize: {method: area}\nsize: [16, 16]\n"
DECLARATION = """
name: clinic
license: ours
hashed: false
headers: {studies_apart: false}
targets:
  days: {meaning: from the exam to the diagnosis of a cancer, unit: days}
  stage: {meaning: stage of the cancer}
tables:
  - file: facts.csv
    label: label
    columns: {patient: pid, laterality: side, label: {column: cancer, values: {"1": malignant, "0": benign}},
      bi_rads: birads, density: acr, subtype: type, age: age, days: days, stage: stage}
"""
ROWS: list[dict[str, Any]] = [
    {"pid": "A", "side": "L", "cancer": 1, "birads": "5", "acr": "C", "type": "Lumin\u0061\u0308l", "age": 61, "days": "120.5",
     "stage": "II"},
    {"pid": "A", "side": "R", "cancer": 0, "birads": "", "acr": "", "type": "", "age": 61, "days": "", "stage": ""},
    {"pid": "B", "side": "L", "cancer": 0, "birads": "0", "acr": "A", "type": "Luminäl", "age": 95, "days": "-0", "stage": ""},
    {"pid": "C", "side": "L", "cancer": "", "birads": "2", "acr": "D", "type": "=1+1", "age": "", "days": "1e3",
     "stage": "'II"},
]  # fmt: skip


def write_images(folder: Path) -> None:
    for n, (patient, side) in enumerate(dict.fromkeys((row["pid"], row["side"]) for row in ROWS)):
        for v, view in enumerate(View):
            said = {"PatientID": patient, "ViewPosition": view.value, "ImageLaterality": side, "StudyInstanceUID": f"2.25.9{n}"}
            write_image(folder / f"{patient}{side}{view}.dcm", 2 * n + v + 1, Laterality(side), view, **said)


def pipeline(folder: Path, targets: str = "", more: str = "") -> Path:
    file = folder / "tiny.yaml"
    file.write_text(PIPELINE + more + (f"targets: [{targets}]\n" if targets else ""))
    return file


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set with its declaration, and its shards with every target."""
    folder = tmp_path_factory.mktemp("targets")
    write_images(folder / "dicom")
    write_table(folder / "dicom" / "facts.csv", ROWS)
    (folder / "clinic.yaml").write_text(DECLARATION)
    pipeline(folder, "stage, subtype, days, bi_rads, density, age, machine")
    make(folder)
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "own"))


def make(folder: Path, out: str = "out") -> dict[str, Any]:
    options = ("--adapter", folder / "clinic.yaml", "--json", "--shard-count", 3)
    (result,) = json.loads(build(folder / "dicom", folder / out, *options, pipeline=str(folder / "tiny.yaml")).stdout)
    return dict(result)


def test_each_fact_arrives_with_its_meaning(made: Path) -> None:
    shards = fvpipe.open_shards(made / "out")
    assert verify(made / "out") == []
    assert {sample.breast_id: dict(sample.targets) for sample in shards} == {
        "A_L": {"age": 61, "bi_rads": "5", "days": 120.5, "density": "C", "machine": None, "stage": "II", "subtype": "Luminäl"},
        "A_R": {"age": 61, "bi_rads": None, "days": None, "density": None, "machine": None, "stage": None, "subtype": None},
        "B_L": {"age": 90, "bi_rads": "0", "days": 0, "density": "A", "machine": None, "stage": None, "subtype": "Luminäl"},
        "C_L": {"age": None, "bi_rads": "2", "days": 1000, "density": "D", "machine": None, "stage": "'II", "subtype": "=1+1"},
    }  # fmt: skip
    assert shards.targets["subtype"].classes == ("=1+1", "Luminäl")  # two spellings of one text are one class
    assert {name: form.known for name, form in shards.targets.items()} == {
        "age": 3, "bi_rads": 3, "days": 3, "density": 3, "machine": 0, "stage": 2, "subtype": 3,
    }  # fmt: skip
    with h5py.File(next((made / "out").glob("*.h5"))) as file:
        assert dict(file["targets/days"].attrs) == {
            "kind": b"number", "meaning": b"from the exam to the diagnosis of a cancer", "unit": b"days", "missing": b"NaN",
        }  # fmt: skip
        attributes = dict(file["targets/subtype"].attrs)
        assert json.loads(attributes["classes"].decode()) == ["=1+1", "Luminäl"]
        assert attributes["missing"] == b"-1"
        assert {file[f"targets/{name}"].dtype.str for name in ("age", "days")} == {"<f4"}
        assert file["targets/bi_rads"].dtype == np.dtype("<i2")
    with open(made / "out" / "breasts.csv", encoding="utf-8") as table:
        assert sorted(row["target_days"] for row in csv.DictReader(table)) == ["", "0", "1000", "120.5"]
    assert "known targets" in run("inspect", made / "out").stdout


def test_without_the_key_nothing_changes(own: Path) -> None:
    """The bytes of a pipeline without targets are those of before, and `targets` decodes nothing."""
    pipeline(own)
    result = make(own)
    assert (result["computed"], result["written"]) == (0, result["shards"])
    receipt = json.loads((own / "out" / RECEIPT).read_text())
    assert "targets" not in receipt
    assert "targets" not in receipt["pipeline_yaml"]
    pipeline(own, "density")
    changed = make(own)
    assert (changed["computed"], changed["written"]) == (0, changed["shards"])
    assert json.loads((own / "out" / RECEIPT).read_text())["pipeline_digest"] == receipt["pipeline_digest"]
    assert (make(own)["computed"], make(own)["written"]) == (0, 0)
    write_table(own / "dicom" / "facts.csv", [*ROWS[:3], ROWS[3] | {"acr": "B"}])
    edited = make(own)
    assert (edited["computed"], edited["written"]) == (0, 1)
    densities = [sample.targets["density"] for sample in fvpipe.open_shards(own / "out")]
    assert sorted(densities, key=str) == ["A", "B", "C", None]
    assert verify(own / "out") == []


def test_the_same_bytes_every_time(made: Path, tmp_path: Path) -> None:
    make(made, str(tmp_path / "again"))
    for file in (made / "out").glob("*.h5"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize("view", ["cc", "mlo"])
def test_pipelines_of_one_view(view: str, own: Path) -> None:
    pipeline(own, "density, days", f"fuse: {{layout: {view}}}\n")
    (own / "dicom" / f"AL{'MLO' if view == 'cc' else 'CC'}.dcm").unlink()
    make(own, view)
    found = {sample.breast_id: sample.targets for sample in fvpipe.open_shards(own / view)}
    assert found["A_L"] == {"days": 120.5, "density": "C"}
    assert verify(own / view) == []


def test_pytorch_takes_what_is_known(made: Path) -> None:
    shards = fvpipe.open_shards(made / "out")
    label = ShardDataset(shards)
    assert label.classes == ("benign", "malignant")
    assert sorted(label.labels.tolist()) == [0, 0, 1]
    density = ShardDataset(shards, target="density")
    assert density.classes == tuple("ABCD")
    assert sorted(density.labels.tolist()) == [0, 2, 3]
    days = ShardDataset([shards, shards], target="days")
    assert sorted(days.labels.tolist()) == [0, 0, 120.5, 120.5, 1000, 1000]
    assert days.classes == ()
    _, values = next(iter(DataLoader(days, batch_size=6)))
    assert str(values.dtype) == "torch.float32"
    assert len(ShardDataset(shards, target="machine")) == 0  # known of no breast
    assert ShardDataset(shards, range(4), target="machine").labels.tolist() == [-1] * 4
    with pytest.raises(ParameterError, match=r"has no target 'birads'; known: label, age, bi_rads"):
        ShardDataset(shards, target="birads")


def test_classes_of_several_folders_are_put_together(own: Path) -> None:
    pipeline(own, "subtype, days")
    write_table(own / "dicom" / "facts.csv", [ROWS[0] | {"type": "Basal"}, *ROWS[1:3], ROWS[3] | {"type": "Luminäl"}])
    make(own, "other")
    folders = [fvpipe.open_shards(own / name) for name in ("out", "other")]
    data = ShardDataset(folders, range(8), target="subtype")
    assert data.classes == ("=1+1", "Luminäl", "Basal")
    names = [None if code < 0 else data.classes[code] for code in data.labels]
    assert names == [sample.targets["subtype"] for folder in folders for sample in folder]
    first, second = folders  # as `BENIGN` of CBIS-DDSM and `Benign` of CMMD: one class would be two
    second.targets["subtype"] = replace(second.targets["subtype"], classes=("BASAL", "LUMINÄL"))
    with pytest.raises(ParameterError, match="the folders write a class as 'Luminäl' and 'LUMINÄL', which would be two"):
        ShardDataset([first, second], target="subtype")
    (own / "clinic.yaml").write_text(DECLARATION.replace("unit: days", "unit: years"))
    make(own, "other")
    with pytest.raises(ParameterError, match="mean different things by it: number days and number years"):
        ShardDataset([folders[0], fvpipe.open_shards(own / "other")], target="days")


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (
            "birads",
            r"has no fact 'birads' \(did you mean 'bi_rads'\?\); known: age, bi_rads, .*, stage.* with `--dataset`",
        ),
        ("label", "'label' is always there"),
        ("../x", "is not a name of a fact"),
    ],
)
def test_wrong_names_are_named_before_anything_is_decoded(targets: str, message: str, own: Path) -> None:
    pipeline(own, targets)
    result = run("build-shards", "--pipeline", own / "tiny.yaml", "--dicom", own / "dicom", "--out", own / "new", "--adapter",
                 own / "clinic.yaml", "--workers", 0, code=1)  # fmt: skip
    assert re.search(message, result.output), result.output
    assert not list((own / "new").glob("*.h5"))


def test_free_text_is_no_class(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fvpipe.shards.targets.MAX_CLASSES", 1)
    pipeline(own, "subtype")
    result = run("build-shards", "--pipeline", own / "tiny.yaml", "--dicom", own / "dicom", "--out", own / "new", "--adapter",
                 own / "clinic.yaml", "--workers", 0, code=1)  # fmt: skip
    assert "'subtype' of data set 'clinic' cannot be a target: it has 2 different values" in result.output


def test_a_number_that_is_none_is_named(own: Path) -> None:
    for days in ("soon", "1,234"):  # 1.234, or 1234
        write_table(own / "dicom" / "facts.csv", [ROWS[0] | {"days": days}, *ROWS[1:]])
        with pytest.raises(
            LabelTableError, match=r"line 2: days .*expected a number, such as 13\.1 or 13,1 \(but of 1,234 none"
        ):
            fvpipe.index(own / "dicom", str(own / "clinic.yaml"), workers=0)


def test_a_number_may_have_a_decimal_comma(own: Path) -> None:
    write_table(own / "dicom" / "facts.csv", [ROWS[0] | {"days": "-13,50"}, *ROWS[1:]])
    found = fvpipe.index(own / "dicom", str(own / "clinic.yaml"), workers=0)
    assert ("days", "-13.5") in {target for breast in found.breasts for target in breast.facts.targets}


IMAGES = """
name: clinic
license: ours
hashed: false
headers: {studies_apart: false}
targets: {days: {meaning: days, unit: days}}
tables:
  - file: facts.csv
    path: file
    combine: COMBINE
    label: label
    columns: {label: {column: cancer, values: {"1": malignant, "0": benign}}, density: acr, days: days}
"""


@pytest.mark.parametrize("combine", ["first", "worst", "same"])
def test_what_two_images_contradict_is_missing_or_named(combine: str, own: Path) -> None:
    """Of A the views give two densities, and the MLO alone gives the days; of B they agree."""
    said = {
        "ALCC": ("B", ""),
        "ALMLO": ("C", "7"),
        "BLCC": ("D", "8"),
        "BLMLO": ("D", "8"),
        "CLCC": ("", ""),
        "CLMLO": ("", ""),
    }
    rows = [{"file": f"{name}.dcm", "cancer": 0, "acr": acr, "days": days} for name, (acr, days) in said.items()]
    write_table(own / "dicom" / "facts.csv", rows)
    (own / "clinic.yaml").write_text(IMAGES.replace("COMBINE", combine))
    pipeline(own, "density, days")
    make(own, "images")
    found = {sample.breast_id: sample.targets for sample in fvpipe.open_shards(own / "images") if sample.label >= 0}
    assert found.pop("B_L") == {"density": "D", "days": 8}
    assert found.pop("C_L") == {"density": None, "days": None}
    assert found == ({} if combine == "same" else {"A_L": {"density": None, "days": 7}})
    rejected = (own / "images" / "rejected.csv").read_text()
    assert ("A_L,label_ambiguous" in rejected) == (combine == "same")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
def test_three_rows_of_a_breast_in_any_order(order: tuple[int, ...], own: Path) -> None:
    """Two densities and then the first once more is not an agreement."""
    three = [ROWS[0] | {"acr": acr, "days": days} for acr, days in (("B", 3), ("C", 3), ("B", ""))]
    write_table(own / "dicom" / "facts.csv", [*(three[i] for i in order), *ROWS[1:]])
    (own / "clinic.yaml").write_text(DECLARATION.replace("    label: label\n", "    label: label\n    combine: worst\n"))
    found = fvpipe.index(own / "dicom", str(own / "clinic.yaml"), workers=0)
    facts = found.breasts[0].facts
    assert (facts.density, facts.targets) == ("", (("days", "3"), ("stage", "II")))


def test_a_column_of_a_declared_target_is_named_by_the_user(own: Path) -> None:
    rows = [{("dtc" if name == "days" else name): cell for name, cell in row.items()} for row in ROWS]
    write_table(own / "dicom" / "facts.csv", rows)
    common = ("--dicom", own / "dicom", "--adapter", own / "clinic.yaml", "--workers", 0, "--pipeline", own / "tiny.yaml")
    said = run("build-shards", *common, "--out", own / "without").stderr
    assert "warning: clinic: target 'days' is known of no breast; does a label table have its column?" in said
    assert "target 'stage'" not in said
    run("build-shards", *common, "--out", own / "named", "--column", "days=dtc")
    assert fvpipe.open_shards(own / "named").targets["days"].known == 3
    wrong = run("build-shards", *common, "--out", own / "named", "--column", "dayz=dtc", code=1).output
    assert "no fact 'dayz' (did you mean 'days'?); known: patient, " in wrong


@pytest.mark.parametrize(("first", "second"), [("II", "ii"), ("1", "1.0")])
def test_two_spellings_of_a_class_are_named(first: str, second: str, own: Path) -> None:
    write_table(own / "dicom" / "facts.csv", [ROWS[0] | {"stage": first}, ROWS[1] | {"stage": second}, *ROWS[2:]])
    result = run("build-shards", "--pipeline", own / "tiny.yaml", "--dicom", own / "dicom", "--out", own / "new", "--adapter",
                 own / "clinic.yaml", "--workers", 0, code=1)  # fmt: skip
    said = result.output
    assert f"'stage' of data set 'clinic' cannot be a target: its values '{first}' and '{second}' differ only by case" in said


# --- folders that somebody else made ----------------------------------------------------------------------------------


def value(name: str, new: Any) -> Change:
    def change(file: h5py.File) -> None:
        file[name][0] = new

    return change


def attribute(name: str, new: Any) -> Change:
    def change(file: h5py.File) -> None:
        del file["targets/density"].attrs[name]
        if new is not None:
            file["targets/density"].attrs[name] = new

    return change


def soft_group(file: h5py.File) -> None:
    file.move("targets", "elsewhere")
    file["targets"] = h5py.SoftLink("/elsewhere")


FAULTS: dict[str, tuple[Change, str]] = {
    "code": (value("targets/density", 4), r"targets/density is 4, expected -1 to 3"),
    "negative code": (value("targets/density", -2), r"targets/density is -2"),
    "infinite": (value("targets/days", np.inf), r"targets/days is inf, expected finite"),
    "no target": (lambda file: file.__delitem__("targets/days"), "has no target days"),
    "another target": (lambda file: file.create_dataset("targets/more", data=[1]), "has a target 'more'"),
    "no group": (lambda file: file.__delitem__("targets"), "has no dataset targets"),
    "a dataset for the group": (
        lambda file: (file.__delitem__("targets"), file.create_dataset("targets", data=[1])), "not a group"
    ),
    "a link for the group": (soft_group, "dataset 'elsewhere'"),
    "an external group": (link("targets", h5py.ExternalLink("/etc/passwd", "/")), "not a group of its own"),
    "soft link": (link("targets/density", h5py.SoftLink("/label")), "is a link"),
    "hard link": (link("targets/density", lambda file: file["label"]), "has a type"),
    "type": (put("targets/density", dtype="<i4"), "has a type"),
    "chunks": (put("targets/days", chunks=(1,)), "not stored in one piece"),
    "compact": (compact("targets/days"), "not stored in one piece"),
    "shape": (empty("targets/days", (2, 2), "<f4"), "has the shape|samples"),
}  # fmt: skip


@pytest.fixture(scope="module")
def small(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(made, tmp_path_factory.mktemp("small") / "own"))
    pipeline(folder, "density, days")
    options = ("--adapter", folder / "clinic.yaml", "--shard-count", 1)
    build(folder / "dicom", folder / "one", *options, pipeline=str(folder / "tiny.yaml"))
    return folder / "one"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_forged_shard_is_refused(fault: str, small: Path, tmp_path: Path) -> None:
    folder, (change, message) = Path(shutil.copytree(small, tmp_path / "own")), FAULTS[fault]
    change_shard(folder, change)
    with pytest.raises(ShardError, match=message):
        fvpipe.open_shards(folder)
    assert verify(folder)


VERIFIED: dict[str, Callable[[Path], None]] = {
    "known targets": lambda folder: change_shard(folder, value("targets/density", -1)),
    "other values of density": lambda folder: change_shard(folder, value("targets/density", 1)),
    "other values of days": lambda folder: change_shard(folder, value("targets/days", 2)),
    "targets/density differs": lambda folder: change_shard(folder, attribute("classes", '["A"]')),
    "targets/density differs ": lambda folder: change_shard(folder, attribute("meaning", None)),
    "targets/density differs  ": lambda folder: change_shard(folder, attribute("kind", np.arange(3))),
}


@pytest.mark.parametrize("problem", VERIFIED)
def test_verification_compares_every_value(problem: str, small: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "own"))
    assert verify(folder) == []
    VERIFIED[problem](folder)
    assert any(problem.strip() in each for each in verify(folder)), verify(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "text"}, {"kind": ["class"]}, {"name": "a/../b"}, {"name": ""}, {"classes": ["A", "A"]}, {"classes": [1]},
        {"classes": ["\u202e"]}, {"classes": "AB"}, {"known": 99}, {"known": True}, {"meaning": None}, {"more": 1},
        {"name": "x"},
        {"kind": "number"}, {"unit": "\x1b"},
    ],
)  # fmt: skip
def test_a_forged_receipt_is_refused(change: dict[str, Any], small: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "own"))
    receipt = json.loads((folder / RECEIPT).read_text())
    receipt["targets"][1] |= change
    (folder / RECEIPT).write_text(json.dumps(receipt))
    with pytest.raises((ReceiptError, ShardError)):
        fvpipe.open_shards(folder)
    receipt["targets"] = {"density": 1}
    (folder / RECEIPT).write_text(json.dumps(receipt))
    with pytest.raises(ReceiptError):
        fvpipe.open_shards(folder)
    fit_receipt(small)


def test_the_most_classes_fit_into_an_attribute(tmp_path: Path) -> None:
    r"""Names whose JSON is twice as long; one byte more is an error and no file that HDF5 cannot write."""
    names = [f'{"":"<13}{i:03x}' for i in range(1000)]
    classes = class_names(names)
    form = TargetForm("stage", "class", "stage", classes=classes, known=1000)
    entry = write_shard(
        tmp_path / "s.h5", rows(3), map(fused, range(3)), {"shard_index": 0}, "", [(form, form.encode(names[:3]))]
    )
    assert entry.samples == 3
    with h5py.File(tmp_path / "s.h5") as file:
        assert json.loads(file["targets/stage"].attrs["classes"].decode()) == list(classes)
    with pytest.raises(ValueError, match="expected at most 1000 classes and 16384 bytes of names"):
        class_names([*names[:999], "x" * 16384])


@pytest.mark.parametrize(
    ("meaning", "unit", "shown"), [("two\n  lines", "days", "two lines"), ('"\\e[1m"', "days", "\\u001b[1m")]
)
def test_meanings_of_several_lines(meaning: str, unit: str, shown: str, own: Path) -> None:
    text = meaning if meaning.startswith('"') else json.dumps(meaning)
    (own / "clinic.yaml").write_text(
        DECLARATION.replace("meaning: from the exam to the diagnosis of a cancer", f"meaning: {text}")
    )
    pipeline(own, "days")
    make(own, "new")
    assert fvpipe.open_shards(own / "new").targets["days"].meaning == shown
    assert verify(own / "new") == []


def test_a_number_that_float32_does_not_hold_is_named(own: Path) -> None:
    write_table(own / "dicom" / "facts.csv", [ROWS[0] | {"days": "1e39"}, *ROWS[1:]])
    pipeline(own, "days")
    result = run("build-shards", "--pipeline", own / "tiny.yaml", "--dicom", own / "dicom", "--out", own / "new", "--adapter",
                 own / "clinic.yaml", "--workers", 0, code=1)  # fmt: skip
    assert "'days' of data set 'clinic' cannot be a target: a number is not finite, or too large for float32" in result.output
