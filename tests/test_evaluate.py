"""Evaluation, Table 2, cards, prediction and export: from a trained model's files to what people read."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from torch import nn

import fvpipe
from fvpipe.config.loading import parse
from fvpipe.config.pipeline import Pipeline
from fvpipe.config.training import Evaluate
from fvpipe.errors import CheckpointError, InputError, ParameterError
from fvpipe.evaluation.evaluate import evaluate
from fvpipe.evaluation.metrics.binary import DECISION_METRICS, METRICS
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.model_card import model_card
from fvpipe.evaluation.pooled import PooledRuns, pool_runs
from fvpipe.evaluation.shortcuts import OF_PREDICTIONS, shortcut_baselines
from fvpipe.evaluation.tables.paper import PAPER, check
from fvpipe.evaluation.tables.table2 import cropping, table2
from fvpipe.evaluation.text import shown, span, to_json
from fvpipe.evaluation.training_record import Prediction, Run, TrainedRun, parts_of, read_trained
from fvpipe.project.project import Project
from fvpipe.shards.reader import open_shards
from fvpipe.training.gradcam import heat_map, peaks
from fvpipe.training.network.model import Classifier
from fvpipe.training.predict import predict
from fvpipe.types import BreastKey, Laterality
from fvpipe.versions import PREPROCESSING_VERSION
from tests.conftest import run
from tests.support.cohort import at, fit_digests, make_project, patients, train
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, file_bytes, rejection_note, write

SETTINGS = Evaluate(bootstrap=200, smallest_group=5)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, two seeds of it."""
    splits = {"all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.4, "validation_share": 0.3}}
    members = patients(50, lambda i: i % 2, lambda i: i % 2 == 1)
    folder = make_project(tmp_path_factory.mktemp("judged"), {"a": members}, splits)
    for seed in (0, 1):
        train(folder, "all", seed=seed, epochs=3)
    return folder


@pytest.fixture
def trained(project: Path) -> TrainedRun:
    return read_trained(project / "cache" / "models" / "tiny" / "all" / "cnn-seed0")


# --- from predictions alone -------------------------------------------------------------------------------------------


def test_metrics_are_those_of_the_predictions(trained: TrainedRun) -> None:
    row = to_json(evaluate([trained], SETTINGS))["rows"][0]
    part = trained.part("test")
    decided = [(p.label, (p.probability or 0) >= 0.5) for p in part]
    assert (row["tp"], row["fn"]) == (decided.count((1, True)), decided.count((1, False)))
    assert (row["fp"], row["tn"]) == (decided.count((0, True)), decided.count((0, False)))
    assert row["accuracy"] == pytest.approx((row["tp"] + row["tn"]) / len(part))
    assert row["benign_positive"]["recall"] == row["specificity"]
    assert row["made"] and row["breasts"] == len(part) == sum(b["predictions"] for b in row["calibration"])
    for name in METRICS:
        low, high = row["intervals"][name]
        assert row[name] is None or low <= high
    assert json.loads(json.dumps(row, allow_nan=False)) == row


def test_seeds_are_pooled_and_must_match(project: Path, trained: TrainedRun) -> None:
    other = read_trained(project / "cache" / "models" / "tiny" / "all" / "cnn-seed1")
    row = to_json(evaluate([trained, other], SETTINGS))["rows"][0]
    single = [to_json(evaluate([one], SETTINGS))["rows"][0] for one in (trained, other)]
    assert row["seeds"] == [0, 1]
    assert row["auc"] == pytest.approx(np.mean([one["auc"] for one in single]))
    assert row["tp"] == sum(one["tp"] for one in single)
    with pytest.raises(InputError, match="recipe, split, pipeline, initial weights or training code differ"):
        recipe = other.record.recipe.model_copy(update={"lr": 0.1})
        PooledRuns.of([trained, replace(other, record=other.record.model_copy(update={"recipe": recipe}))])
    with pytest.raises(InputError, match="did not predict the same breasts"):
        PooledRuns.of([trained, replace(other, predictions=tuple(p for p in other.predictions if p != other.part("test")[0]))])


def test_unreliable_intervals_are_named_wherever_they_stand() -> None:
    found = Estimate(0.8, 0.5, 0.9, undefined=60, replicates=2000)
    assert span(found) == "0.800 (0.500 to 0.900, unreliable)"
    assert span(replace(found, undefined=40)) == "0.800 (0.500 to 0.900)"


def test_metrics_at_the_threshold_of_validation_are_shown(trained: TrainedRun) -> None:
    row = evaluate([trained], SETTINGS).rows[0]
    text = row.to_text()
    line = next(line for line in text.splitlines() if "  threshold of validation" in line)
    assert line.split()[-9:-4] == [shown(row.frozen[name].value) for name in DECISION_METRICS]
    assert max(map(len, text.splitlines())) <= 100


def test_small_subgroups_show_nothing(trained: TrainedRun) -> None:
    many = to_json(evaluate([trained], SETTINGS))["rows"][0]["subgroups"]
    none = to_json(evaluate([trained], Evaluate(bootstrap=200, smallest_group=1000)))["rows"][0]["subgroups"]
    assert {group["by"] for group in many} == {"data set", "views", "side", "density", "age", "vendor and size"}
    assert next(group for group in many if group["by"] == "views")["auc"]["value"] is not None
    assert all(group["breasts"] is None and "auc" not in group for group in none)


def test_shortcut_baselines_learn_from_the_training_part_alone() -> None:
    def simulated(i: int, part: str, label: int, dataset: str, age: str) -> Prediction:
        return Prediction(dataset, f"{i}", f"P{i}", part, label, None if part == "train" else 0.5, "CC+MLO", "", age, "", "9x9")

    # Younger is malignant in training; in test everything is the other way round.
    learnt = [simulated(i, "train", i % 2, "ab"[i % 2], str(40 - i % 2)) for i in range(20)]
    tested = [simulated(i, "test", 1 - i % 2, "ab"[i % 2], str(40 - i % 2)) for i in range(20, 40)]
    baselines = shortcut_baselines([(learnt, tested)], OF_PREDICTIONS, lambda p: p.label)
    found = {baseline.shortcut: baseline for baseline in baselines}
    assert found["data-set identity"].auc == 0 and found["age"].auc == 0
    assert found["all malignant"].f1 == pytest.approx(2 / 3)
    learnt[3] = replace(learnt[3], age="")  # one unknown age, and the best baseline of all would be gone without a word
    (age,) = (b for b in shortcut_baselines([(learnt, tested)], OF_PREDICTIONS, lambda p: p.label) if "age" in b.shortcut)
    assert age.shortcut == "age (not known of 1 breasts)" and age.auc is None
    nobody = [replace(p, age="") for p in learnt], [replace(p, age="") for p in tested]
    assert not any("age" in b.shortcut for b in shortcut_baselines([nobody], OF_PREDICTIONS, lambda p: p.label))


def test_a_wrong_cell_is_named(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project / "cache" / "models" / "tiny" / "all" / "cnn-seed0", tmp_path / "run"))
    table = folder / "predictions.csv"
    lines = table.read_text().splitlines()
    place = next(i for i, line in enumerate(lines) if ",train," in line)
    lines[place] = lines[place].replace(",train,", ",test,")
    table.write_text("\n".join(lines))
    fit_digests(folder)
    with pytest.raises(Exception, match=f"line {place + 1}: probability is ''; expected a number from 0 to 1"):
        read_trained(folder)
    (folder / "record.json").write_text("{}")
    fit_digests(folder)
    with pytest.raises(InputError, match="not a training record"):
        read_trained(folder)


def test_a_model_card_escapes_what_comes_from_data(trained: TrainedRun) -> None:
    odd = [replace(p, manufacturer="A|B <b>\n# C") for p in trained.predictions]
    card = model_card(evaluate([replace(trained, predictions=tuple(odd))], SETTINGS).rows[0])
    assert "vendor and size: A\\|B \\<b\\> \\# C " in card
    assert "None" not in card and "{{" not in card
    for table in (block for block in card.split("\n\n") if block.startswith("|")):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


# --- Table 2 ----------------------------------------------------------------------------------------------------------


def test_the_papers_arithmetic() -> None:
    checks = {found["row"]: found for found in (to_json(check(row)) for row in PAPER)}
    assert len(checks) == 12
    wrong = {name: found["f1_from_precision_and_recall"] for name, found in checks.items() if not found["f1_follows"]}
    assert wrong == {"P1-S1-cnn": 0.7397, "P1-S2-cnn": 0.2808, "P2-S3-resnet18": 0.7670, "P2-S3-cnn": 0.6955}
    explained = {
        name: [(e["test_set"], e["positive"]) for e in found["explained_by"]]
        for name, found in checks.items()
        if found["explained_by"]
    }
    assert explained == {
        "P1-S2-resnet18": [("all CMMD pairs", "benign")],
        "P2-S2-resnet18": [("all CMMD pairs", "malignant")],
        "P1-S3-resnet18": [("all VinDr-Mammo pairs", "benign")],
    }
    assert checks["P1-S3-resnet18"]["explained_by"][0]["malignant_f1"] == pytest.approx(0.0985, abs=1e-4)


def as_run(found: TrainedRun, run: Run, setting: str, tested: str = "table") -> TrainedRun:
    changed = {"run": run, "setting": setting, "adapters": {"a": tested}}
    return TrainedRun(found.record.model_copy(update=changed), found.predictions)


def test_rows_stand_beside_the_papers(trained: TrainedRun) -> None:
    runs = [
        as_run(trained, Run(pipeline, split, model, 0), setting, tested)
        for pipeline in ("direct", "cropped")
        for split, setting, tested in (("seen", "seen", "vindr"), ("to-cmmd", "cross", "cmmd"), ("to-vindr", "cross", "vindr"))
        for model in ("resnet18", "cnn")
    ]
    table = table2(runs, SETTINGS)
    found = to_json(table)
    assert len(found["rows"]) == 12
    beside = [[paper["row"] for paper in row["paper"]] for row in found["rows"]]
    assert beside[:2] == [["P1-S1-resnet18"], ["P1-S1-cnn"]]
    assert beside[2] == ["P1-S2-resnet18"] and beside[4] == ["P1-S2-resnet18", "P1-S3-resnet18"]  # both readings
    unseen, other = (
        to_json(table2([as_run(trained, Run("direct", "u", "cnn", 0), "unseen", adapter)], SETTINGS))["rows"][0]["paper"]
        for adapter in ("cmmd", "table")
    )
    assert [(paper["row"], paper["reading"]) for paper in unseen] == [("P1-S3-cnn", "by its text")]
    assert other == []  # of a data set that is none of the paper's
    assert {name for names in beside for name in names} == {row.name for row in PAPER}
    assert {"pipeline", "setting", "model", "accuracy", "precision", "recall", "specificity", "f1", "auc"} <= found["rows"][
        0
    ].keys()
    assert [(gain["split"], gain["model"]) for gain in found["cropping"]] == [
        (split, model) for split in ("seen", "to-cmmd", "to-vindr") for model in ("resnet18", "cnn")
    ]
    same = found["cropping"][0]
    assert (same["auc"]["value"], same["auc"]["low"], same["auc"]["high"], same["unpaired"]) == (0, 0, 0, 0)
    text = table.to_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "(simulated data)" in text and "0.7934" in text and "prove nothing" in text


def test_cropping_is_compared_on_the_breasts_that_both_have(trained: TrainedRun) -> None:
    without = as_run(trained, Run("direct", "s", "cnn", 0), "seen")
    better = [p if p.probability is None else replace(p, probability=float(p.label)) for p in trained.predictions[::-1]]
    gone = next(p for p in better if p.part == "test")
    record = trained.record.model_copy(update={"run": Run("cropped", "s", "cnn", 0)})
    found = to_json(cropping(pool_runs([without, TrainedRun(record, tuple(p for p in better if p != gone))]), SETTINGS)[0])
    assert found["unpaired"] == 1 and found["breasts"] == len(trained.part("test")) - 1
    assert found["accuracy"]["value"] > 0 and found["delong"]["first"] == 1


# --- the commands -----------------------------------------------------------------------------------------------------


def test_commands_from_training_to_table(project: Path, tmp_path: Path) -> None:
    with at(project):
        rows = json.loads(run("evaluate", "--json", "--out", tmp_path / "e.json", "--cards", tmp_path / "cards").stdout)["rows"]
        assert [(row["pipeline"], row["split"], row["model"]) for row in rows] == [("tiny", "all", "cnn")]
        assert json.loads((tmp_path / "e.json").read_text())["tiny"]["all (simulated data)"]["cnn"]["auc"] == rows[0]["auc"]
        assert "(simulated data)" in run("evaluate").output
        found = json.loads(run("table2", "--json").stdout)
        assert len(found["paper"]) == 12 and found["rows"][0]["auc"] == rows[0]["auc"]
        missing = run("evaluate", "--seed", 7, code=1).output
        assert "nothing is trained with seed '7'; trained: 0, 1; run `fvpipe train` first" in missing
        twice = json.loads(run("evaluate", "--seed", 0, "--seed", 0, "--json").stdout)["rows"]
        assert twice[0]["seeds"] == [0]
        for option, name, near in (("--model", "cnnn", "cnn"), ("--pipeline", "tinny", "tiny")):
            for command in ("evaluate", "table2"):  # beside one that there is, too
                said = run(command, option, near, option, name, code=1).output
                assert f"with {option[2:]} '{name}' (did you mean '{near}'?); trained: {near}; run `fvpipe train`" in said
        assert "left out: tiny/all/cnn-seed9" in run("evaluate", "--seed", 0, "--seed", 9).output
    card = (tmp_path / "cards" / "tiny-all-cnn.md").read_text()
    for words in ("Not a medical device", "Simulated data", "## Subgroups", "## Without an image", f"{rows[0]['auc']:.3f}"):
        assert words in card


def test_a_project_that_names_no_model_has_nothing_to_train_or_evaluate(tmp_path: Path) -> None:
    """Such as one without labels: `dvc repro` ended where an output was missing, and `train` without a word."""
    (tmp_path / "params.yaml").write_text("datasets: {own: {adapter: table}}\npipelines: [direct]\n")
    with at(tmp_path):
        for command in (["train"], ["evaluate", "--cards", "cards", "--out", "e.json"], ["table2", "--out", "t.json"]):
            assert "params.yaml: `runs.splits` names none: no" in run(*command).stderr
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "cache", "cards", "e.json", "t.json"}
    assert (tmp_path / "cache" / "models" / "direct").is_dir()


def test_models_under_another_name_and_of_an_earlier_project_are_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    models, params = folder / "cache" / "models" / "tiny" / "all", folder / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 3"))  # as they were trained
    with at(folder):
        assert "warning" not in run("evaluate").output
        shutil.copytree(models / "cnn-seed0", models / "cnn-seed2")  # would count as a third seed
        said = run("table2", "--seed", 0, "--seed", 2, code=1).output
        assert "cnn-seed2: holds the training tiny/all/cnn-seed0; rename it to " in said
        shutil.rmtree(models / "cnn-seed2")
        before = params.read_text()
        for old, new, change in (
            ("validation_share: 0.3", "validation_share: 0.25", "before manifests/splits/all.csv changed"),
            ("lr: 0.002", "lr: 0.001", "before train.lr (from 0.002 to 0.001) changed"),
            ("weights: none", "weights: imagenet", "from the initial weights 'none', and train.weights is 'imagenet'"),
        ):
            assert old in before
            params.write_text(before.replace(old, new))
            run("split")
            said = " ".join(run("evaluate", "--seed", 0).output.split())
            assert f"warning: tiny/all/cnn-seed0: trained {change}; run `fvpipe train`" in said
        params.write_text(before)
        run("split")
        table = folder / "manifests" / "a" / "breasts.csv"
        lines = table.read_text().splitlines()
        place = lines[0].split(",").index("label")
        cells = lines[1].split(",")
        cells[place] = str(1 - int(cells[place]))
        for rest in ([",".join(cells), *lines[2:]], lines[2:]):  # another label; withdrawn
            table.write_text("\n".join([lines[0], *rest]) + "\n")
            assert "trained before labels of a changed" in run("table2").output
        shutil.copy(folder / "pipelines" / "tiny.yaml", folder / "pipelines" / "other.yaml")
        shutil.copytree(folder / "cache" / "shards" / "tiny", folder / "cache" / "shards" / "other")
        assert "trained before labels of a changed" in run("compare", "tiny", "other").output
        receipt = folder / "cache" / "shards" / "tiny" / "a" / "index.json"
        receipt.write_text(receipt.read_text().replace("made data", "made other data"))
        with monkeypatch.context() as patch:
            patch.setattr("fvpipe.evaluation.outdated.code_digest", lambda: "0" * 64)
            patch.setattr("fvpipe.evaluation.outdated.PREPROCESSING_VERSION", 99)
            said = " ".join(run("evaluate").output.split())
        assert "trained by other code of fvpipe than this" in said
        assert f"of preprocessing version {PREPROCESSING_VERSION}, and this fvpipe makes version 99" in said
        assert "trained before cache/shards/tiny/a changed" in said
        pipeline = folder / "pipelines" / "tiny.yaml"
        pipeline.write_text(pipeline.read_text().replace("- 64", "- 32"))
        assert "trained before the pipeline tiny changed" in " ".join(run("evaluate").output.split())


def test_train_command_uses_the_demo_values_on_simulated_data_alone(project: Path) -> None:
    settings = Project(project).params.train
    changed = settings.model_copy(update={"demo": {"epochs": 1, "min_epochs": 1}})
    assert changed.recipe(simulated=True).epochs == 1
    assert changed.recipe(simulated=False).epochs == settings.epochs


# --- prediction -------------------------------------------------------------------------------------------------------

MODEL = Path("cache", "models", "tiny", "all", "cnn-seed0")


def test_a_prediction_from_dicom_is_the_stored_one(project: Path, trained: TrainedRun) -> None:
    """The very same preprocessing: files in any order give the number of predictions.csv."""
    stored = {p.patient_id: p for p in trained.part("test")}
    chosen = sorted(stored)[:3]
    files = [f"data/a/{patient}-{view}.dcm" for view in ("MLO", "CC") for patient in reversed(chosen)]
    with at(project):
        result = run("predict", "--model", MODEL, "--json", "--gradcam", "cam", *files)
    found = json.loads(result.stdout)
    assert "Not a medical device" in found["use"] and found["made"] and found["rejected"] == []
    assert sorted(answer["breast"] for answer in found["breasts"]) == sorted(stored[name].breast_id for name in chosen)
    expected = sorted(stored[patient].probability or 0 for patient in chosen)
    assert sorted(answer["probability"] for answer in found["breasts"]) == pytest.approx(expected, abs=1e-6)
    for answer in found["breasts"]:
        assert (project / answer["gradcam"]).read_bytes().startswith(b"\x89PNG")
        for peak in answer["peaks"]:
            assert 0 <= peak["row"] <= 160 and 0 <= peak["column"] <= 128
        if answer["peaks"]:
            assert sum(peak["share"] for peak in answer["peaks"]) + answer["share_outside_views"] == pytest.approx(1)
        assert (answer["decision"] == "malignant") == (answer["probability"] >= trained.record.threshold)


def test_a_prediction_elsewhere_takes_the_data_set_of_the_models_project(
    project: Path, trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By `table` the identifiers would be hashed; the project says that they are pseudonyms."""
    monkeypatch.chdir(tmp_path)
    one = trained.part("test")[0]
    files = [project / "data" / "a" / f"{one.patient_id}-{view}.dcm" for view in (CC, MLO)]
    output = run("predict", "--model", project / MODEL, *files).output
    decided = "malignant" if (one.probability or 0) >= trained.record.threshold else "benign"
    assert output.startswith(f"{one.breast_id}: {one.probability:.3f} by tiny/all/cnn-seed0 (simulated data): {decided} at the")


def test_a_breast_that_the_model_was_trained_on_is_said_to_be_one(project: Path, trained: TrainedRun) -> None:
    with at(project):
        for part in ("train", "validation", "test"):
            one = trained.part(part)[0]
            files = [f"data/a/{one.patient_id}-{view}.dcm" for view in (CC, MLO)]
            (found,) = json.loads(run("predict", "--model", MODEL, *files, "--json").stdout)["breasts"]
            assert found["part"] == part
            said = f"this breast is in the model's own {part} part: the number says nothing of new ones"
            assert (said in run("predict", "--model", MODEL, *files).output) == (part != "test")
        elsewhere = json.loads(run("predict", "--model", MODEL, "--adapter", "table", *files, "--json").stdout)["breasts"]
        assert elsewhere[0]["part"] is None  # of no data set that the model knows


def test_another_exam_of_a_patient_that_the_model_was_trained_on(trained: TrainedRun) -> None:
    """No split has it, as it has no label yet: its number says little of new patients, too."""
    one = trained.part("train")[0]
    later = BreastKey("a", one.patient_id, "0123456789ab", Laterality.LEFT)
    assert parts_of("a", later, trained.predictions) == (None, ["train"])
    assert parts_of("b", later, trained.predictions) == (None, [])  # a patient of another data set


@pytest.mark.parametrize("warped", [False, True])
def test_grad_cam_points_at_what_the_model_looks_at(warped: bool, project: Path, trained: TrainedRun) -> None:
    """A model that is nothing but the brightest pixel: the map's peak in a view is its brightest place, in source pixels."""
    record = trained.record
    if warped:
        settings = {"segment": {"method": "otsu_log"}, "fuse": {"align": "each"}, "resize": {"method": "equal_area"}}
        pipeline = parse(Pipeline, settings | {"size": [64, 128]}, "warped")
        record = record.model_copy(update={"pipeline_yaml": pipeline.canonical_yaml(), "pipeline_digest": pipeline.digest()})
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        for layer, weight in ((net[0], [[[[1.0]]]]), (net[4], [[-1.0], [1.0]])):
            layer.weight.copy_(torch.tensor(weight))  # type: ignore[operator]
            layer.bias.zero_()  # type: ignore[operator]
    model = Classifier(net, 1, False).eval()
    patient = trained.part("test")[0].patient_id
    answers, _ = predict([project / "data" / "a" / f"{patient}-{view}.dcm" for view in (CC, MLO)], model, record)
    assert (answers[0].sample.warp_rows is not None) == warped
    heat = heat_map(model, answers[0].image)
    assert heat.shape == (64, 128) and heat.max() == 1
    found = peaks(answers[0], heat)
    assert [peak.view for peak in found] == [CC, MLO] and sum(peak.share for peak in found) == pytest.approx(1, abs=0.02)
    seed = int(patient[1:])
    for peak in found:
        stored = breast(seed, peak.view, (LEFT, RIGHT)[seed % 2], (160, 128), lesion=bool(seed % 2)).pixels
        top, left = max(0, round(peak.row) - 2), max(0, round(peak.column) - 2)
        assert stored[top : top + 5, left : left + 5].max() >= np.quantile(stored, 0.995)


def test_prediction_names_what_it_cannot_use(project: Path, tmp_path: Path) -> None:
    (tmp_path / "noise.dcm").write_bytes(b"no DICOM")
    with at(project):
        output = run("predict", "--model", MODEL, "data/a/P000-CC.dcm", tmp_path / "noise.dcm", code=1).output
        assert "mlo_missing" in output and "not_dicom" in output and "nothing was predicted" in output
        files = ("data/a/P000-CC.dcm", "data/a/P000-MLO.dcm")
        assert "0." in run("predict", "--model", MODEL, "--pipeline", "tiny", *files).output
        (project / "pipelines" / "other.yaml").write_text("{size: [64, 64]}")
        assert "is not the one that" in run("predict", "--model", MODEL, "--pipeline", "other", *files, code=1).output
        assert "no such file" in run("predict", "--model", "cache", *files, code=1).output


def test_a_prediction_pairs_what_an_index_would(project: Path, trained: TrainedRun, tmp_path: Path) -> None:
    """Not views of two patients under one study; and of two equal images the same for every identifier key.

    Nor an image that a Key Object note among the files rejects.
    """
    model = Classifier(nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(1, 2)), 1, False).eval()
    files = []
    for number, view in enumerate((CC, CC, CC, MLO)):
        dataset = pydicom.dcmread(project / "data" / "a" / f"P000-{view}.dcm")
        dataset.SOPInstanceUID, dataset.PatientBirthDate = f"2.25.{90 + number}", "19500101"
        dataset.PixelData = bytes([number]) + dataset.PixelData[1:]
        files.append(tmp_path / f"{number}.dcm")
        dataset.save_as(files[-1])
    for key in range(4):
        (tmp_path / "key").write_text(f"a key of predictions, number {key}")
        answers, rejected = predict(files, model, trained.record, "table", tmp_path / "key")
        assert [image.path for image in answers[0].breast.images] == ["0.dcm", "3.dcm"]
        assert {each.what: each.reason for each in rejected} == {"1.dcm": "superseded", "2.dcm": "superseded"}
    note = write(tmp_path / "note.dcm", file_bytes(rejection_note("2.25.90"), None))
    answers, rejected = predict([note, *files], model, trained.record, "table", tmp_path / "key")
    assert [image.path for image in answers[0].breast.images] == ["1.dcm", "3.dcm"]
    assert {each.what: each.reason for each in rejected} == {
        "note.dcm": "rejection_note", "0.dcm": "image_kind_refused", "2.dcm": "superseded",
    }  # fmt: skip
    dataset.PatientBirthDate = "19700101"
    dataset.save_as(files[-1])
    answers, rejected = predict([files[0], files[-1]], model, trained.record, "table")
    assert not answers and {each.reason for each in rejected} == {"identifier_conflict"}


def test_a_model_of_another_preprocessing_is_rejected(trained: TrainedRun) -> None:
    from fvpipe.training.predict import own_pipeline

    assert own_pipeline(trained.record).size == (64, 128)
    with pytest.raises(CheckpointError, match="preprocessing version 0"):
        own_pipeline(trained.record.model_copy(update={"preprocessing_version": 0}))
    with pytest.raises(CheckpointError, match="train again"):
        own_pipeline(trained.record.model_copy(update={"pipeline_digest": "0" * 64}))
    with pytest.raises(ParameterError, match="is not the one"):
        own_pipeline(trained.record, "cropped")


def test_damaged_models_are_rejected(project: Path, tmp_path: Path) -> None:
    from fvpipe.training.predict import load_model

    folder = Path(shutil.copytree(project / MODEL, tmp_path / "run"))
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fit_digests(folder)
    with pytest.raises(CheckpointError, match="damaged"):
        load_model(folder, torch.device("cpu"))


def test_onnx_agrees(project: Path, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    out = tmp_path / "model.onnx"
    with at(project):
        found = json.loads(run("export", "--model", MODEL, "--out", out, "--json").stdout)
    assert found["largest_difference"] <= 1e-5
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    with open(project / MODEL / "predictions.csv", encoding="utf-8") as file:
        stored = next(row for row in csv.DictReader(file) if row["part"] == "test")
    shards = open_shards(project / "cache" / "shards" / "tiny" / "a")
    image = shards[shards.breast_ids.tolist().index(stored["breast_id"])].image
    score = session.run(None, {"image": image[None, None]})[0]
    assert score[0] == pytest.approx(float(stored["probability"]), abs=1e-5)
    assert {"fvpipe", "use", "positive"} == {entry.key for entry in onnx.load(out).metadata_props}
    data = out.read_bytes()
    assert [where for where in map(os.path.dirname, (fvpipe.__file__, torch.__file__)) if where.encode() in data] == []


def test_a_model_that_is_not_to_be_released_is_exported_with_its_license(project: Path, tmp_path: Path) -> None:
    """EMBED's license forbids to release models."""
    from safetensors.torch import load_file, save_file

    from fvpipe.training.predict import load_model

    folder = Path(shutil.copytree(project / MODEL, tmp_path / "run"))
    _, record = load_model(folder, torch.device("cpu"))
    changes = {"simulated": False, "adapters": {"b": "cmmd", "a": "embed"}}
    changes["licenses"] = {"b": "CC BY 4.0", "a": "EMBED Open Data license"}
    text = record.model_copy(update=changes).to_json()
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"fvpipe": text})
    fit_digests(folder)
    out = tmp_path / "model.onnx"
    said = run("export", "--model", folder, "--out", out, code=1).output
    assert "not exported, a: EMBED Open Data license" in said and "--accept-license" in said and not out.exists()
    run("export", "--model", folder, "--out", out, "--accept-license")
    beside = tmp_path / "model.onnx.license.txt"
    assert beside.read_text() == "Not to be released.\na: EMBED Open Data license\nb: CC BY 4.0\n"
    assert out.exists()
