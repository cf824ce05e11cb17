"""Comparison of two pipelines: the model observer, what is rejected, and whether a difference is found where there is one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fvpipe.comparison.detectability import Detectability, ObserverScores
from fvpipe.comparison.finding_pixels import largest_findings
from fvpipe.comparison.models import compare_runs
from fvpipe.comparison.observer import FOLDS, RIDGE, folds, observer_scores, sample_features, view_features
from fvpipe.comparison.pipelines import Comparison, compare, names_of
from fvpipe.comparison.text import comparison_text, models_text
from fvpipe.config.training import Evaluate, Recipe
from fvpipe.errors import InputError
from fvpipe.evaluation.metrics.binary import roc_auc
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.training_record import Prediction, Run
from fvpipe.report.finding_boxes import SampleFinding
from fvpipe.shards.reader import open_shards
from fvpipe.types import View
from tests.conftest import run
from tests.support.cohort import at, make_project, patients
from tests.support.trained import breasts, made

NO_NOISE = np.zeros((96, 64), np.float32)
WHOLE = np.array([[0, 96, 0, 64], [-1, -1, -1, -1]], np.float32)


def half_disk(radius: float = 40) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """An even breast against the left edge."""
    y, x = np.mgrid[:96, :64]
    return np.where((y - 48) ** 2 + x**2 < radius**2, 0.4, 0).astype(np.float32)


# --- the model observer -----------------------------------------------------------------------------------------------


def test_an_outline_is_no_response_and_a_spot_is() -> None:
    even, spotted = half_disk(), half_disk()
    spotted[46:50, 18:22] += 0.2
    without, within = view_features(even, NO_NOISE), view_features(spotted, NO_NOISE)
    assert without[::2].max() < 1e-6
    assert within[::2].max() > 0.05
    assert view_features(np.zeros((96, 64), np.float32), NO_NOISE).tolist() == [0.0] * 12


def test_noise_is_of_the_breast_and_the_same_every_time() -> None:
    image = half_disk()
    first, again, other = (sample_features(image, WHOLE, breast, 0.06) for breast in ("a", "a", "b"))
    assert first.shape == (12,)  # one view in the image
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_views_lie_where_the_placement_says() -> None:
    image = np.concatenate([half_disk(), half_disk()[:, ::-1]], axis=1)
    image[46:50, 100:104] += 0.2  # in the MLO
    placement = np.array([[0, 96, 0, 64], [0, 96, 128, 64]], np.float32)
    features = sample_features(image, placement, "a", 0.0)
    assert features[:12:2].max() < 1e-6 < 0.05 < features[12::2].max()
    channels = np.stack([image[:, :64], image[:, 64:]])
    placement = np.array([[0, 96, 0, 64], [0, 96, 64, 0]], np.float32)
    np.testing.assert_allclose(sample_features(channels, placement, "a", 0.0), features, atol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=60))
def test_folds_part_no_patient(breasts: list[tuple[int, bool]]) -> None:
    names, labels = [f"P{patient}" for patient, _ in breasts], np.array([label for _, label in breasts], np.int64)
    found = folds(labels, names)
    assert len({(name, fold) for name, fold in zip(names, found.tolist(), strict=True)}) == len(set(names))
    sizes = np.bincount([dict(zip(names, found.tolist(), strict=True))[name] for name in set(names)], minlength=FOLDS)
    assert sizes.max() - sizes.min() <= 1
    order = np.random.default_rng(0).permutation(len(names))
    np.testing.assert_array_equal(folds(labels[order], [names[i] for i in order]), found[order])


def test_scores_are_those_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 90)
    features = rng.normal(0, 1, (90, 5)) + labels[:, None] * [1, 0, 0.5, 0, 0]
    names = [f"P{i // 2}" for i in range(90)]
    scores, fold = observer_scores(features, labels, names), folds(labels, names)
    for k in range(FOLDS):
        fit = fold != k
        mean, deviation = features[fit].mean(axis=0), features[fit].std(axis=0)
        model = LogisticRegression(C=1 / RIDGE, tol=1e-10, max_iter=1000).fit((features[fit] - mean) / deviation, labels[fit])
        np.testing.assert_allclose(scores[~fit], model.decision_function((features[~fit] - mean) / deviation), atol=1e-5)


def test_one_class_in_a_fold_is_said() -> None:
    with pytest.raises(ValueError, match="one class has no breast"):
        observer_scores(np.zeros((10, 2)), np.array([1] + [0] * 9), [f"P{i}" for i in range(10)])


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.1, 0.3, "first"), (-0.1, 0.3, "undecided"), (0.0, 0.3, "undecided"), (-0.3, -0.1, "second"), (None, None, "undecided")],
)
def test_a_verdict_needs_an_interval_without_0(low: float | None, high: float | None, verdict: str) -> None:
    area = Estimate(0.5, 0.4, 0.6)
    assert Detectability("all", 1, 1, area, area, Estimate(0.1, low, high)).verdict == verdict


# --- two builds -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty breasts by three pipelines: cropped, the same uncropped, and one that destroys detail."""
    members = patients(60, lambda i: int(i % 3 == 0), lambda i: i % 3 == 0)
    folder = make_project(tmp_path_factory.mktemp("compared"), {"a": members, "b": members[:2]}, {})
    tiny = yaml.safe_load((folder / "pipelines" / "tiny.yaml").read_text())
    (folder / "pipelines" / "whole.yaml").write_text(yaml.safe_dump({**tiny, "segment": {"method": "none"}}))
    (folder / "pipelines" / "coarse.yaml").write_text(yaml.safe_dump({**tiny, "size": [16, 32]}))
    with at(folder):
        for name in ("whole", "coarse"):
            run("build-shards", "--workers", 0, "--pipeline", name)
    return folder


def compared(project: Path, first: str, second: str, *options: object) -> dict[str, Any]:
    with at(project):
        (found,) = json.loads(run("compare", first, second, "--dataset", "a", *options, "--json").stdout)["data_sets"]
        return dict(found)


def test_detail_that_is_gone_is_found_out(project: Path) -> None:
    found = compared(project, "tiny", "coarse")
    (row,) = found["detectability"]
    assert (row["verdict"], row["malignant"], row["benign"]) == ("first", 20, 40)
    assert row["difference"]["low"] > 0
    assert found["simulated"] is True
    assert found["pixels"] == []  # of two shapes
    control = found["control"]
    assert control["low"] < 0.5 < control["high"]


def test_a_pipeline_is_as_good_as_itself(project: Path) -> None:
    with at(project):
        shards = open_shards("cache/shards/tiny/a")
        found = compare(shards, shards, noise=60 / 255, replicates=20)
        with pytest.raises(AssertionError, match="one pipeline; name two"):
            run("compare", "tiny", "tiny")
        for folder in ("cache/shards", "cache/shards/tiny"):
            said = " ".join(run("compare", folder, "tiny", code=1).output.split())
            assert f"{folder}: no folder of shards; those below it: " in said and "cache/shards/tiny/a" in said
        assert "manifests: no folder of shards, and none lies below it" in run("compare", "tiny", "manifests", code=1).output
        with pytest.raises(AssertionError, match=r"no pipeline ..?nosuch"):
            run("compare", "tiny", "nosuch")
        one, two = "cache/shards/tiny/a", "cache/shards/whole/a"
        assert "one folder; name two" in run("compare", one, f"{one}/", code=1).output
        assert "and 'whole' is none: name two of them, or two pipelines" in run("compare", one, "whole", code=1).output
        assert "and --dataset is none" in run("compare", one, two, "--dataset", "a", code=1).output
        assert "is not a number" in run("compare", one, two, "--noise", "nan", code=2).output
    (row,) = found.detectability
    assert (row.difference.value, row.difference.low, row.difference.high, row.verdict) == (0.0, 0.0, 0.0, "undecided")
    assert {each.largest for each in found.pixels} == {0.0}


def test_two_builds_by_pipelines_of_one_name_are_told_apart(project: Path, tmp_path: Path) -> None:
    """As before and after a change of the pipeline: "tiny is better" would name neither."""
    folder = Path(shutil.copytree(project, tmp_path / "changed"))
    shutil.copytree(folder / "cache" / "shards" / "tiny" / "a", folder / "tiny-and-as-it-was")
    shutil.copy(folder / "pipelines" / "coarse.yaml", folder / "pipelines" / "tiny.yaml")
    with at(folder):
        run("build-shards", "--workers", 0, "--pipeline", "tiny", "--dataset", "a")
        before, now = open_shards("tiny-and-as-it-was"), open_shards("cache/shards/tiny/a")
        assert before.receipt.pipeline == now.receipt.pipeline
        found = compare(before, now, noise=60 / 255, replicates=20)
    text = comparison_text(found)
    assert text.startswith("tiny-and-as-it-was less a on a (simulated data")
    assert "tiny-and-as-it-was is better" in text and max(map(len, text.splitlines())) <= 100
    assert names_of(before, before) == ("tiny", "tiny")


def test_sizes_of_findings_do_not_depend_on_the_order_of_pipelines() -> None:
    """Of one view each, of both, of a breast whose other view a pipeline of one view did without, and of one without any."""

    def shards(heights: list[list[int]]) -> Any:
        shape = np.array([[(height, 100) for height in views] for views in heights], np.int32)
        return SimpleNamespace(breast_ids=np.array(["a", "b", "c"]), columns={"source_shape": shape})

    def finding(view: View, side: float) -> SampleFinding:
        return SampleFinding(view, 1, (10, 10 + side, 20, 20 + side), np.zeros((4, 2)))

    one, two = shards([[400, 300], [0, 300], [400, 300]]), shards([[400, 300]] * 3)
    of_one = {"a": [finding(View.MLO, 30)], "b": [finding(View.MLO, 15)]}
    of_two = {"a": [finding(View.CC, 80)], "b": [finding(View.CC, 40), finding(View.MLO, 15)]}
    pairs = [(i, i) for i in range(3)]
    sizes = largest_findings(one, two, pairs, (of_one, of_two))
    np.testing.assert_array_equal(sizes, [0.2, 0.1, np.nan])
    np.testing.assert_array_equal(largest_findings(two, one, pairs, (of_two, of_one)), sizes)


@pytest.mark.slow
def test_equal_pipelines_seldom_seem_different() -> None:
    """Features of the same use for both: with fixed scores one difference in five would have an interval without 0."""
    rng = np.random.default_rng(0)
    patients, truth, verdicts = [f"P{i // 2}" for i in range(80)], np.arange(80) % 2, []
    for _ in range(25):
        features = [rng.standard_normal((80, 24)) for _ in range(2)]
        for each in features:
            each[:, :4] += 0.4 * truth[:, None]
        scores_ = ObserverScores.of((features[0], features[1]), truth, patients, 60)
        verdicts.append(scores_.of_group("all", truth >= 0).verdict)
    assert verdicts.count("undecided") >= 23, verdicts


def test_the_verdict_names_the_pipeline_that_is_better() -> None:
    low = Estimate(0.5, 0.4, 0.6)
    found = Detectability("all", 1, 1, low, low, Estimate(0.2, 0.1, 0.3))
    assert found.verdict_text("second", "secondary") == "second is better"
    assert replace(found, difference=Estimate(-0.2, -0.3, -0.1)).verdict_text("second", "first") == "first is better"


def test_samples_that_differ_most_come_first(project: Path) -> None:
    found = compared(project, "tiny", "whole")
    means = [each["mean"] for each in found["pixels"]]
    assert means == sorted(means, reverse=True)
    assert len(means) == 60
    with at(project):
        one, two = (open_shards(f"cache/shards/{name}/a") for name in ("tiny", "whole"))
    worst = found["pixels"][0]["breast_id"]
    i, j = (int(np.flatnonzero(shards.breast_ids == worst)[0]) for shards in (one, two))
    assert means[0] == pytest.approx(float(np.abs(one[i].image - two[j].image).mean()), abs=1e-6)


def test_text_and_page_for_people(project: Path, tmp_path: Path) -> None:
    with at(project):
        done = run("compare", "tiny", "whole", "--page", tmp_path / "page.html", "--limit", 3)
        with pytest.raises(AssertionError, match=r"no pipeline ..?absent"):
            run("compare", "tiny", "absent")
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "simulated data: no evidence of real lesions" in done.stdout
    assert "at chance, as it must be" in done.stdout
    assert "No model observer: without fold" in done.stdout  # data set b has one malignant breast
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 3 + 2
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)  # opens without a network


Change = Callable[[Path], None]


def other_label(folder: Path) -> None:
    labels = folder / "a.csv"
    labels.write_text(labels.read_text().replace("P001,R,0", "P001,R,1"))


def other_image(folder: Path) -> None:
    film = next(iter(sorted((folder / "data" / "a").glob("P001-*"))))
    film.write_bytes(film.read_bytes()[:-2] + b"\1\1")


def one_less(folder: Path) -> None:
    next(iter(sorted((folder / "data" / "a").glob("P001-*")))).unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [(other_label, "has another label"), (other_image, "has another source image"), (one_less, "1 breasts are only in tiny")],
)
def test_what_is_not_on_the_same_breasts_is_refused(project: Path, tmp_path: Path, change: Change, message: str) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "changed"))
    change(folder)
    with at(folder):
        run("index", "--workers", 0)
        run("build-shards", "--workers", 0, "--pipeline", "whole", "--dataset", "a")
        one, two = (open_shards(f"cache/shards/{name}/a") for name in ("tiny", "whole"))
        with pytest.raises(InputError, match=message):
            compare(one, two, noise=0.1, replicates=10)
        if change is one_less:
            found: Comparison = compare(one, two, noise=0.1, replicates=10, common=True)
            assert (found.breasts, found.left_out) == (59, (1, 0))


def test_two_data_sets_are_not_compared(project: Path) -> None:
    with at(project):
        one, two = open_shards("cache/shards/tiny/a"), open_shards("cache/shards/tiny/b")
    with pytest.raises(InputError, match="compare shards of one data set"):
        compare(one, two, noise=0.1, replicates=10)


# --- trained models, and the summary ----------------------------------------------------------------------------------


def test_models_are_compared_where_all_else_is_equal() -> None:
    strong, weak = breasts(60, signal=2.0), breasts(60, seed=1, signal=0.2)
    first = [made(Run("cropped", "s", "cnn", 0), strong), made(Run("cropped", "t", "cnn", 0), strong)]
    second = [
        made(Run("direct", "s", "cnn", 0), weak),
        made(Run("direct", "t", "cnn", 0), weak, recipe=Recipe(weights="none", lr=0.01)),
    ]
    same, other = compare_runs(first, second, Evaluate(bootstrap=200))
    assert same.result is not None
    assert (same.split, same.model, same.result.verdict, same.differs) == ("s", "cnn", "first", ())
    y, a, b = (np.array(each) for each in zip(*_test_scores(strong, weak), strict=True))
    assert same.result.difference.value == pytest.approx((roc_auc(y, a) or 0) - (roc_auc(y, b) or 0))
    assert other.result is None
    assert other.differs == ("train.lr 0.0001 and 0.01",)
    text = models_text([same, other], "cropped", "direct")
    assert "cropped is better" in text
    said = "cnn / t (simulated data): not compared, since the trainings differ in train.lr 0.0001 and 0.01"
    areas = f"{same.result.first.value:.3f} {same.result.second.value:.3f} +"
    assert said in " ".join(text.split()) and areas in " ".join(text.split()) and max(map(len, text.splitlines())) <= 100
    assert compare_runs(first, [], Evaluate()) == []


def test_pipelines_that_were_trained_on_other_breasts_are_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = breasts(60)
    learnt = next(i for i, breast in enumerate(every) if breast.part == "train")
    one, two = made(Run("tiny", "s", "cnn", 0), every), made(Run("whole", "s", "cnn", 0), every[:learnt] + every[learnt + 1 :])
    monkeypatch.setattr("fvpipe.comparison.models.trained_on_both", lambda *_: ([one], [two]))
    with at(project):
        said = run("compare", "tiny", "whole", "--dataset", "a").stderr
    count = sum(breast.part == "train" for breast in every)
    counts = f"(tiny {count}, whole {count - 1}; {count - 1} on all)"
    assert f"its pipelines were trained on different breasts {counts}: a part of a difference may" in said


def _test_scores(first: list[Prediction], second: list[Prediction]) -> list[tuple[int, float, float]]:
    theirs = {p.breast_id: p.probability or 0.0 for p in second if p.part == "test"}
    return [(p.label, p.probability or 0.0, theirs[p.breast_id]) for p in first if p.part == "test"]


def test_the_summary_answers_from_results(project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    with at(folder):
        with pytest.raises(AssertionError, match="no results here; run `fvpipe compare"):
            run("summary")
        reports = folder / "cache" / "reports"
        run("compare", "tiny", "coarse", "--dataset", "a", "--out", reports / "compare" / "tiny-coarse.json")
        both = {"pooled": {"floors": {"age": {"auc": 0.3}, "size": {"auc": 0.6}}}}
        simulated = {"pooled (simulated data)": {"floors": {"age": {"auc": 0.8}}}}
        (reports / "table1.json").write_text(json.dumps(simulated))
        first = json.loads(run("summary", "--json").stdout)[0]
        assert (first["value"], first["source"], first["simulated"]) == (0.8, "all data sets (simulated data)", True)
        (reports / "table1.json").write_text(json.dumps(both | simulated))
        assert [answer["value"] for answer in json.loads(run("summary", "--json").stdout)[:2]] == [0.3, 0.8]
        (reports / "table1.json").write_text(json.dumps(both))
        text = run("summary").stdout
        assert max(map(len, text.splitlines())) <= 100
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert any(line.startswith("Best score without an image? age 0.30") for line in lines)
        assert any(line.startswith("Is tiny better than coarse? yes +0.") for line in lines)
        assert any(line.startswith("Shuffled labels at chance, tiny? yes 0.") for line in lines)
        assert "Simulated data: nothing follows for real breasts." in lines
        answers = json.loads(run("summary", "--json").stdout)
        assert [answer["neutral"] for answer in answers] == [0.5, 0.0, 0.5]
        assert not run("summary").stderr
        receipt = folder / "cache" / "shards" / "coarse" / "a" / "index.json"
        receipt.write_text(receipt.read_text().replace('"license": "', '"license": "other ', 1))
        assert "coarse/a was built again since" in run("summary").stderr
        (reports / "table1.json").write_text('{"pooled": null}')
        with pytest.raises(AssertionError, match="is not a result of `fvpipe table1 --out`"):
            run("summary")
        (reports / "table1.json").unlink()
        (reports / "compare" / "tiny-coarse.json").write_text("[]")
        with pytest.raises(AssertionError, match="is not a result of `fvpipe compare --out`"):
            run("summary")
