"""What reviewers ask for: folds as one row, levels, gaps, verdicts, cards and checklists that claim nothing unknown."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from jinja2 import Environment, nodes
from sklearn.metrics import roc_auc_score
from torch import nn

from fvpipe.config.loading import parse_yaml
from fvpipe.config.training import Evaluate, Recipe
from fvpipe.errors import InputError
from fvpipe.evaluation import model_card as cards
from fvpipe.evaluation.evaluate import evaluate, evaluate_model
from fvpipe.evaluation.metrics.binary import roc_auc
from fvpipe.evaluation.metrics.intervals import Estimate, patient_weights
from fvpipe.evaluation.model_card import checklist, checklist_items, model_card
from fvpipe.evaluation.pooled import pipeline_differences, pool_runs
from fvpipe.evaluation.tables.paper import CLAIMS, PUBLISHED, Claim
from fvpipe.evaluation.tables.table2 import table2
from fvpipe.evaluation.text import to_json
from fvpipe.evaluation.training_record import Run, read_record, read_trained
from fvpipe.printable import LINE_COLUMNS
from fvpipe.training.gradcam import draw, heat_map, peaks
from fvpipe.training.network.model import Classifier
from fvpipe.training.predict import predict
from tests.conftest import run
from tests.support import factory
from tests.support.cohort import at, make_project, patients
from tests.support.factory import CC, MLO
from tests.support.trained import breasts, made

SETTINGS = Evaluate(bootstrap=100, smallest_group=10)
QUICK = Evaluate(bootstrap=100, smallest_group=1000)  # no subgroups


def row_of(*runs: Any, settings: Evaluate = SETTINGS) -> dict[str, Any]:
    (row,) = to_json(evaluate(runs, settings))["rows"]
    return dict(row)


# --- folds ------------------------------------------------------------------------------------------------------------


def folds(**changes: Any) -> list[Any]:
    return [
        made(Run("cropped", f"kf-fold{i}", "cnn", seed), breasts(12, seed + i, first=12 * i), "kfold", **changes)
        for i in range(3)
        for seed in (0, 1)
    ]


def test_folds_are_pooled_as_one_row() -> None:
    runs = folds()
    row = row_of(*runs)
    assert (row["split"], row["seeds"], row["folds"]) == ("kf", [0, 1], ["kf-fold0", "kf-fold1", "kf-fold2"])
    assert row["breasts"] == 72 and row["patients"] == 36
    areas = []
    for seed in (0, 1):
        tested = [p for one in runs if one.record.run.seed == seed for p in one.part("test")]
        areas.append(roc_auc_score([p.label for p in tested], [p.probability for p in tested]))
    assert row["auc"] == pytest.approx(np.mean(areas))
    with pytest.raises(InputError, match="a breast is tested in two folds"):
        again = [one.record.model_copy(update={"run": replace(one.record.run, split="kf-fold3")}) for one in runs[:2]]
        pool_runs([*runs, *(replace(one, record=record) for one, record in zip(runs, again, strict=False))])
    with pytest.raises(InputError, match="not trained with the same seeds"):
        pool_runs(runs[:-1])
    with pytest.raises(InputError, match="recipe, pipeline, initial weights or training code differ"):
        pool_runs([*runs[:4], *folds(weights="others")[4:]])


def test_frozen_thresholds_are_those_of_each_fold() -> None:
    runs = [
        made(Run("p", f"kf-fold{i}", "cnn", 0), breasts(12, i, first=12 * i), "kfold", threshold=0.2 + 0.3 * i)
        for i in range(2)
    ]
    row = row_of(*runs)
    hits = [(p.probability or 0) >= one.record.threshold for one in runs for p in one.part("test") if p.label]
    assert row["at_frozen_threshold"]["sensitivity"]["value"] == pytest.approx(np.mean(hits))


def test_a_kfold_name_means_all_its_folds(tmp_path: Path) -> None:
    splits = {"kf": {"setting": "kfold", "datasets": ["a"], "folds": 2, "validation_share": 0.4}}
    members = patients(16, lambda i: i % 2, lambda i: i % 2 == 1)
    folder = make_project(tmp_path, {"a": members}, splits, {"epochs": 1})
    with at(folder):
        trained = json.loads(run("train", "--json", "--device", "cpu").stdout)
        assert [one["run"] for one in trained] == ["tiny/kf-fold0/cnn-seed0", "tiny/kf-fold1/cnn-seed0"]
        assert all(one["best_epoch"] == 1 for one in trained)  # epochs count from 1
        found = json.loads(run("evaluate", "--split", "kf", "--json", "--cards", "cards").stdout)["rows"]
        assert [(row["split"], row["breasts"], row["best_epochs"]) for row in found] == [("kf", 16, [1, 1])]
        assert "| kf-fold1 | test |" in (folder / "cards" / "tiny-kf-cnn.md").read_text()
        one = json.loads(run("evaluate", "--split", "kf-fold1", "--json").stdout)["rows"]
        assert [row["folds"] for row in one] == [["kf-fold1"]]
    record = folder / "cache" / "models" / "tiny" / "kf-fold0" / "cnn-seed0" / "record.json"
    older = {name: value for name, value in json.loads(record.read_text()).items() if name != "split_digest"}
    with pytest.raises(InputError, match="train again"):  # its splits were not stratified, its epochs counted from 0
        read_record(json.dumps(older), record)
    assert read_trained(record.parent).record.split_digest


def test_missing_folds_are_said_wherever_results_are() -> None:
    tested = [one.part("test") for one in folds()]

    def fold(i: int, run: Any) -> Any:
        """All breasts of the split, those of the other folds in training."""
        others = tuple(replace(p, part="train", probability=None) for k in (0, 2, 4) if k != i // 2 * 2 for p in tested[k])
        return replace(run, predictions=(*tested[i], *others))

    every = [fold(i, run) for i, run in enumerate(folds())]
    some = every[:4]  # the last fold is not there
    row, text = row_of(*some), ", of kf-fold0, kf-fold1 ALONE: 24 breasts of the split are not tested"
    assert (row["breasts"], row["untested"]) == (48, 24)
    found = evaluate(some, QUICK)
    for said in (found.to_text(), table2(some, QUICK).to_text(), model_card(found.rows[0])):
        assert text in " ".join(said.split())
    assert row_of(*every)["untested"] == 0 and "ALONE" not in evaluate(every, QUICK).to_text()


def test_a_seed_that_is_there_twice_is_no_second_seed() -> None:
    one = made(Run("cropped", "s", "cnn", 0), breasts(12))
    with pytest.raises(InputError, match="a seed is there twice"):
        pool_runs([one, one])


def relabelled(run: Any, count: int) -> Any:
    """The same training after `count` breasts of its training part were labelled anew."""
    chosen = [p.breast_id for p in run.part("train") if not p.label][:count]
    return replace(run, predictions=tuple(replace(p, label=1) if p.breast_id in chosen else p for p in run.predictions))


def test_models_of_other_labels_are_not_pooled_nor_compared() -> None:
    """The split is the same, and so is the recipe: no digest of them tells that a label table was corrected in between."""
    cropped, direct = (made(Run(name, "s", "cnn", 0), breasts(24), "seen") for name in ("cropped", "direct"))
    (gain,) = table2([cropped, relabelled(direct, 3)], QUICK).cropping
    assert gain.training_differs == ["labels of 3 breasts, 0 malignant and 3 malignant"] and gain.metrics == {}
    other = relabelled(made(Run("cropped", "s", "resnet18", 0), breasts(24), "seen"), 1)
    (pair,) = evaluate([cropped, other], QUICK).comparisons
    assert pair.auc is None and pair.differs == ["labels of 1 breasts, 0 malignant and 1 malignant"]
    with pytest.raises(InputError, match="a breast has another label in each"):
        seed = replace(cropped, record=cropped.record.model_copy(update={"run": Run("cropped", "s", "cnn", 1)}))
        pool_runs([cropped, relabelled(seed, 1)])


# --- levels and gaps --------------------------------------------------------------------------------------------------


def test_results_by_patient_take_the_highest_breast() -> None:
    predictions = breasts(30)
    row = row_of(made(Run("p", "s", "cnn", 0), predictions))
    truth: dict[str, int] = {}
    score: dict[str, float] = {}
    for p in predictions:
        if p.part == "test":
            truth[p.patient_id] = max(truth.get(p.patient_id, 0), p.label)
            score[p.patient_id] = max(score.get(p.patient_id, 0.0), p.probability or 0.0)
    expected = roc_auc_score(list(truth.values()), [score[name] for name in truth])
    assert row["by_patient"]["auc"]["value"] == pytest.approx(expected) and row["auc"] != pytest.approx(expected)
    assert row_of(made(Run("p", "s", "cnn", 0), predictions, "seen"))["by_patient"] is None


def test_gaps_between_subgroups_have_the_interval_of_the_difference() -> None:
    """Sides of the same patients: the slow reference takes both of a drawn patient."""
    trained = made(Run("p", "s", "cnn", 0), breasts(30))
    predictions = [replace(p, label=int(p.patient_id[1:] in {"3", "9", "12", "15"} or p.label)) for p in trained.predictions]
    row = row_of(replace(trained, predictions=tuple(predictions)))
    gap = next(one for one in row["subgroup_gaps"] if one["by"] == "side")
    assert (gap["group"], gap["reference"]) == ("R", "L")
    tested = [p for p in predictions if p.part == "test"]
    owners, sides = [("a", p.patient_id) for p in tested], np.array([p.breast_id[-1] for p in tested])
    truth, score = np.array([p.label for p in tested]), np.array([p.probability for p in tested])
    differences = []
    for weight in np.concatenate(list(patient_weights(owners, 100, 0))):
        rows = np.repeat(np.arange(len(tested)), weight.astype(int))
        areas = [roc_auc(truth[rows][sides[rows] == side], score[rows][sides[rows] == side]) for side in "RL"]
        if None not in areas:
            differences.append(areas[0] - areas[1])  # type: ignore[operator]
    assert [gap["auc"]["low"], gap["auc"]["high"]] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
    assert gap["recall"] == gap["sensitivity"]
    small = row_of(trained, settings=Evaluate(bootstrap=100, smallest_group=1000))
    assert small["subgroup_gaps"] == []


# --- differences and claims -------------------------------------------------------------------------------------------


def grid(**changes: Any) -> list[Any]:
    good, poor = breasts(24, 1, 3.0), breasts(24, 2, 0.0)
    runs = [
        made(Run(name, "seen", "cnn", 0), good if name == "cropped" else poor, "seen")
        for name in ("cropped", "direct", "cc", "fine")
    ]
    return [*runs[:1], *(replace(one, record=one.record.model_copy(update=changes)) for one in runs[1:])]


def test_single_views_are_compared_with_both_by_what_the_pipelines_say() -> None:
    found = to_json(table2(grid(), QUICK))
    assert [(gain["first"], gain["second"]) for gain in found["second_view"]] == [("cropped", "cc"), ("cropped", "fine")]
    named = [gain["pipelines_differ"] for gain in found["second_view"]]
    assert named[1] == ["fuse.layout side_by_side and mlo", "size [256, 256] and [512, 512]"]
    assert all(gain["auc"]["low"] > 0 for gain in found["second_view"])
    assert found["cropping"][0]["pipelines_differ"] == ["segment.method otsu_log and none"]


def test_pipelines_of_other_keys_are_compared_by_name() -> None:
    """A key that one of the two pipelines does not have differs, and no look-up fails."""
    adaptive, single = pool_runs([made(Run(name, "s", "cnn", 0), breasts(30)) for name in ("adaptive", "cc")])
    assert pipeline_differences(adaptive, single)["resize.stretch"] == (0.5, None)
    assert pipeline_differences(single, adaptive)["resize.stretch"] == (None, 0.5)
    assert table2([*adaptive.runs, *single.runs], Evaluate(bootstrap=100)).second_view == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"recipe": Recipe(weights="none", lr=0.3)}, "train.lr 0.0001 and 0.3"),
        ({"weights": "ImageNet"}, "initial weights random and ImageNet"),
        ({"split_digest": "older"}, "split {'seen': 'digest of se'} and {'seen': 'older'}"),
        ({"code": "1" * 64}, "training code 000000000000 and 111111111111"),
    ],
)
def test_models_of_different_recipes_are_not_compared(changes: dict[str, Any], named: str) -> None:
    table = table2(grid(**changes), QUICK)
    for gain in (*table.cropping, *table.second_view):
        assert gain.training_differs == [named] and gain.metrics == {} and gain.delong is None
    assert {judged.verdict for judged in table.claims} == {"not tested"}
    assert "not compared: the models differ in" in table.to_text()
    others = [
        made(Run("cropped", "seen", name, 0), breasts(20, 1), "seen", **more)
        for name, more in (("cnn", {}), ("resnet18", changes))
    ]
    (pair,) = evaluate(others, QUICK).comparisons
    assert (pair.auc is None) == (named[:7] != "initial")  # models may have weights of their own


def test_each_claim_about_cropping_has_a_verdict() -> None:
    table = table2(grid(), QUICK)
    judged = {(one.claim, one.split): one.verdict for one in table.claims}
    assert len(judged) == len(CLAIMS)
    assert judged["1, cnn: accuracy rises", "seen"] == judged["1, cnn: f1 rises", "seen"] == "supported"
    assert judged["2, cnn: f1 rises", ""] == "not tested"
    falls, rises = (Claim(3, "cnn", "f1", sign, "") for sign in (-1, 1))
    for low, high, verdicts in ((0.1, 0.2, ("not supported", "supported")), (-0.2, -0.1, ("supported", "not supported")),
                                (-0.1, 0.1, ("undecided",) * 2), (None, None, ("not tested",) * 2)):  # fmt: skip
        for undefined, expected in ((0, verdicts), (5, verdicts), (6, verdicts if low is None else ("undecided",) * 2)):
            difference = Estimate(0.0, low, high, undefined, 200)
            assert (falls.verdict(difference), rises.verdict(difference)) == expected
    one = next(one for one in to_json(table)["claims"] if one["claim"] == "1, cnn: f1 rises")
    assert one["difference"]["low"] > 0 and one["made"] and "benefited from cropping" in one["words"]


def test_an_interval_that_many_replicates_do_not_define_proves_nothing() -> None:
    """One malignant decision, and a right one: a sample of patients without it has no precision."""
    first = next(p for p in breasts(24, 1) if p.part == "test" and p.label)
    once = [replace(p, probability=float(p == first)) if p.part == "test" else p for p in breasts(24, 1)]
    never_right = [replace(p, probability=float(not p.label)) if p.part == "test" else p for p in breasts(24, 1)]
    runs = [made(Run(name, "s", "resnet18", 0), rows, "seen") for name, rows in (("cropped", once), ("direct", never_right))]
    table = table2(runs, QUICK)
    precision = table.cropping[0].metrics["precision"]
    assert precision.low == 1 and precision.undefined > 10
    (judged,) = [one for one in table.claims if one.claim == "1, resnet18: precision rises"]
    assert judged.verdict == "undecided"
    line = f"  unreliable intervals, not defined in many replicates: precision ({precision.undefined} of 100)"
    assert line in table.to_text().splitlines() and line[:20] in evaluate(runs, QUICK).to_text()


def test_published_numbers_stand_beside_ours_with_level_and_resolution() -> None:
    trained = made(Run("fine", "official", "resnet18", 0), breasts(30), "official")
    table = table2([trained], QUICK)
    assert len(to_json(table)["published"]) == len(PUBLISHED)
    lines = table.to_text().splitlines()
    (side,) = [line for line in lines if "ours, fine resnet18" in line and " side " in line]
    (patient,) = [line for line in lines if "ours, fine resnet18" in line and " patient " in line]
    assert "512x512" in side and "512x512" in patient
    assert any(".851" in line and "side" in line and "1152x896" in line for line in lines)
    assert [one.source for one in PUBLISHED if not one.pixels] == ["Ibragimov et al. 2024", *["Future Sci. OA, 2681575"] * 2]


def test_tables_fit_a_terminal_of_100_columns() -> None:
    long = "a-name-of-a-split-that-somebody-chose-to-be-as-long-as-names-may-be-here"
    runs = [
        made(Run(name, long, model, 0), breasts(20), "seen")
        for name in ("cropped", "direct")
        for model in ("efficientnet_v2_s", "cnn")
    ]
    for text in (evaluate(runs, Evaluate(bootstrap=100, smallest_group=25)).to_text(), table2(runs, SETTINGS).to_text()):
        assert max(map(len, text.splitlines())) <= LINE_COLUMNS
        assert "sensitivity" in text and "recall" in text
    found = to_json(evaluate(runs, SETTINGS))["rows"][0]
    assert found["sensitivity"] == found["recall"] and found["intervals"]["sensitivity"] == found["intervals"]["recall"]


# --- cards and checklists ---------------------------------------------------------------------------------------------


def evaluation(predictions: Any = None, **changes: Any) -> Any:
    run = changes.pop("run", Run("cropped", "s", "cnn", 0))
    (pool,) = pool_runs([made(run, predictions or breasts(30), **changes)])
    return evaluate_model(pool, SETTINGS)


def test_a_card_says_what_the_model_takes() -> None:
    (pool,) = pool_runs([made(Run("fine", "s", "cnn", 0), breasts(30))])
    card = model_card(evaluate_model(pool, SETTINGS))
    assert "It takes the MLO view of one breast" in card and "1 x 512 x 512 values" in card
    assert "512 rows and 512 columns" in card and "CC and" not in card and "256" not in card
    assert "the CC and the MLO view" in model_card(evaluation()) and "In front of" not in card
    front = "In front of the network, `zoom` reduces each image to 256 x 256 values, at most 3 times as densely"
    assert front in model_card(evaluation(run=Run("cropped", "s", "cnn+zoom", 0)))


def test_no_claim_is_filled_without_a_record() -> None:
    """Every answer prints values of record or evaluation, changes with them, and is left to the author where one is unknown."""
    content = parse_yaml((Path(cards.__file__).parent / cards.CHECKLIST).read_text(), "checklist")
    used = {answer for items in content["guidelines"].values() for _, _, answer, _ in items}
    assert used - {None} == content["answers"].keys()
    for name, template in content["answers"].items():
        outputs = [
            part for found in Environment(autoescape=False).parse(template).find_all(nodes.Output) for part in found.nodes
        ]
        printed = {node.name for part in outputs for node in part.find_all(nodes.Name)}
        assert printed & {"record", "one", "views", "run", "fold", "gap"}, name
    record = evaluation().pool.record
    other = {
        "setting": "seen", "split_digest": "other", "datasets": ("b",), "licenses": {"b": "paid"}, "adapters": {"b": "cmmd"},
        "image_shape": (2, 8, 8), "pipeline_digest": "0" * 64, "threshold": 0.7, "run": Run("direct", "t", "vgg", 3),
        "parameters": 9, "weights": "x", "torch": "9", "recipe": Recipe(lr=0.5, imbalance="weights"), "best_epoch": 1,
        "dropped": {"cc_missing": 1}, "parts": dict(list(record.parts.items())[:1]), "epochs": record.epochs[:1],
    }  # fmt: skip
    here, there = evaluation(), evaluation(breasts(40, 5), **other)
    for first, second in zip(checklist_items(here), checklist_items(there), strict=True):
        metrics = first[2] in ("Measures of performance", "Metrics")  # names, the same for each model
        assert first[:3] == second[:3] and (not first[3] or first[3] != second[3] or metrics), first
    unknown = {topic: (answer, rest) for _, _, topic, answer, rest in checklist_items(evaluation(licenses={"a": ""}))}
    assert unknown["Data sources"][0] == "" and "**author**: not in the records" in checklist(evaluation(licenses={"a": ""}))
    assert unknown["External test"][0] == "" and unknown["Ethical approval"][0] == ""
    text = checklist(here)
    assert len(re.findall(r"^\| \d+\w? \|", text, re.MULTILINE)) == sum(map(len, content["guidelines"].values()))
    assert not re.search(r"\b(nan|None)\b", text)
    for line in text.splitlines():
        assert not line.startswith("|") or line.count("|") == 4, line


def test_facts_in_which_runs_differ_are_listed() -> None:
    """By split where the seeds agree, by run where they do not; once where all do."""
    runs = [
        made(Run("cropped", f"kf-fold{i}", "cnn", seed), breasts(12, seed + i, first=12 * i), "kfold",
             dropped={"cc_missing": i + 1}, split_digest=f"{i}" * 64, torch=f"2.{i}.{seed}", threshold=0.1 + 0.2 * i)
        for i in range(2) for seed in (0, 1)
    ]  # fmt: skip
    (pool,) = pool_runs(runs)
    found = evaluate_model(pool, SETTINGS)
    text, card = checklist(found), model_card(found)
    for i in range(2):
        assert f"kf-fold{i}: {i + 1} breasts of the split without an image" in text
        assert f"split kf-fold{i} of digest {str(i) * 16}" in text
        assert f"kf-fold{i}: {i + 1} cc\\_missing" in card
        for seed in (0, 1):
            assert f"kf-fold{i}, seed {seed}: PyTorch 2.{i}.{seed} on " in text
            assert f"with torch 2.{i}.{seed} (kf-fold{i}, seed {seed})" in card
    assert "the validation part: 0.100, 0.100, 0.300, 0.300" in text


# --- Grad-CAM ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", ["channels", "letterbox"])
def test_grad_cam_names_views_and_its_shares_add_up(pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In channels both views lie on top of each other and share the heat; in a letterbox some heat is in neither."""
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for heat maps of two channels")
    factory.patient(tmp_path, "P1", "L", seed=1)
    channels = 2 if pipeline == "channels" else 1
    record = made(Run(pipeline, "s", "cnn", 0), breasts(2), image_shape=(channels, 64, 64)).record
    net = nn.Sequential(nn.Conv2d(channels, 1, 1), nn.Sigmoid(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))
    with torch.no_grad():
        net[0].weight.fill_(1.0)  # type: ignore[operator,union-attr]
        net[4].weight.copy_(torch.tensor([[-1.0], [1.0]]))  # type: ignore[operator]
    ((answer,), rejected) = predict(sorted(tmp_path.glob("*.dcm")), Classifier(net, channels, False).eval(), record, "table")
    heat = heat_map(Classifier(net, channels, False).eval(), answer.image)
    found = peaks(answer, heat)
    assert not rejected and [peak.view for peak in found] == [CC, MLO]
    total = sum(peak.share for peak in found)
    if pipeline == "channels":
        assert total == 1 and found[0].share == pytest.approx(0.5, abs=0.3)
    else:
        assert 0.3 < total < 0.999
    draw(answer, heat, tmp_path / "cam.png")
    drawn = np.asarray(cv2.imread(str(tmp_path / "cam.png")))
    assert drawn.shape == (channels * 128, 256, 3)  # one row of panels a channel: neither view hides the other
    plain = drawn[:, :128].astype(int)  # grey but for the names of the views
    named = np.ptp(plain, axis=2) > 60
    for part in (named[:128], named[-128:]) if channels == 2 else (named[:, :64], named[:, 64:]):
        assert 10 < part.sum() < 300
    shown = np.vstack(list(answer.image)) * 255
    assert np.abs(plain - np.kron(shown, np.ones((2, 2)))[..., None])[np.ptp(plain, axis=2) == 0].max() <= 1
