"""Metrics and their intervals against scikit-learn, slow references and a published example."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.linear_model import LogisticRegression

from fvpipe.evaluation.metrics.binary import METRICS, Confusion, compute_metrics, roc_auc, youden_threshold
from fvpipe.evaluation.metrics.clinical import DECISION_THRESHOLDS, LEVELS, clinical_metrics
from fvpipe.evaluation.metrics.intervals import bootstrap, compare_auc, delong, patient_weights

CASES = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 1), min_size=n, max_size=n),
        st.lists(st.integers(0, 8).map(lambda k: k / 8), min_size=n, max_size=n),  # many ties
        st.lists(st.integers(0, 3), min_size=n, max_size=n),
    )
)


@settings(max_examples=75, deadline=None)
@given(CASES)
def test_metrics_equal_scikit_learn(case: tuple[list[int], list[float], list[int]]) -> None:
    truth, score, weight = (np.array(column) for column in case)
    for w in (np.ones(len(truth)), weight):
        found = {name: value[0] for name, value in compute_metrics(truth, score, 0.5, w).items()}
        if not w.sum():
            continue
        decided = score >= 0.5
        two = len(set(truth[w > 0])) == 2
        expected = {
            "accuracy": reference.accuracy_score(truth, decided, sample_weight=w),
            "precision": reference.precision_score(truth, decided, sample_weight=w, zero_division=np.nan),
            "recall": reference.recall_score(truth, decided, sample_weight=w, zero_division=np.nan),
            "specificity": reference.recall_score(truth, decided, pos_label=0, sample_weight=w, zero_division=np.nan),
            "f1": reference.f1_score(truth, decided, sample_weight=w, zero_division=np.nan),
            "brier": np.average((score - truth) ** 2, weights=w),
            "auc": reference.roc_auc_score(truth, score, sample_weight=w) if two else np.nan,
        }
        if truth[w > 0].any():
            expected["average_precision"] = reference.average_precision_score(truth, score, sample_weight=w)
        for name, value in expected.items():
            assert found[name] == pytest.approx(value, abs=1e-12, nan_ok=True), name
    counts = Confusion.of(truth, score >= 0.5)
    one = compute_metrics(truth, score)
    area = roc_auc(truth, score)
    assert counts.metrics()["accuracy"] == pytest.approx(one["accuracy"][0])
    assert one["auc"][0] == pytest.approx(math.nan if area is None else area, nan_ok=True)


def test_calibration_error_by_hand() -> None:
    # Two bins of [0, 1]: three in the lower (mean .2, one of three malignant), one in the upper (.9, malignant).
    found = compute_metrics([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.9], bins=2)["ece"][0]
    assert found == pytest.approx(3 / 4 * abs(1 / 3 - 0.2) + 1 / 4 * 0.1)


def test_threshold_is_chosen_where_both_classes_gain_most() -> None:
    assert youden_threshold([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.9]) == pytest.approx(0.25)
    assert youden_threshold([0, 1], [0.2, 0.9]) == pytest.approx(0.55)
    assert youden_threshold([1, 1], [0.2, 0.9]) is None
    rng = np.random.default_rng(0)
    truth, score = rng.integers(0, 2, 80), rng.random(80)
    best = youden_threshold(truth, score)
    assert best is not None
    fpr, tpr, _ = reference.roc_curve(truth, score, drop_intermediate=False)
    found = compute_metrics(truth, score, best)
    assert found["recall"][0] + found["specificity"][0] - 1 == pytest.approx((tpr - fpr).max())


# --- calibration, operating points, decision curve ---------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(CASES)
def test_operating_points_and_net_benefit_equal_scikit_learn(case: tuple[list[int], list[float], list[int]]) -> None:
    truth, score, weight = (np.array(column) for column in case)
    if len(set(truth[weight > 0])) < 2:
        return
    found = {name: value[0] for name, value in clinical_metrics(truth, score, weight[None].astype(float)).items()}
    fpr, tpr, _ = reference.roc_curve(truth, score, sample_weight=weight, drop_intermediate=False)
    for level in LEVELS:
        assert found[f"at specificity {level}"] == pytest.approx(tpr[1 - fpr >= level - 1e-9].max())
        assert found[f"at sensitivity {level}"] == pytest.approx((1 - fpr)[tpr >= level - 1e-9].max())
    rows = np.repeat(np.arange(len(truth)), weight)
    for threshold in DECISION_THRESHOLDS:
        benefit = sum((1 if truth[i] else -threshold / (1 - threshold)) for i in rows if score[i] >= threshold) / len(rows)
        everybody = sum((1 if truth[i] else -threshold / (1 - threshold)) for i in rows) / len(rows)
        assert found[f"net benefit {threshold}"] == pytest.approx(benefit)
        assert found[f"treat all {threshold}"] == pytest.approx(everybody)
        assert found[f"gain {threshold}"] == pytest.approx(benefit - max(everybody, 0))


@pytest.mark.parametrize("seed", range(4))
def test_calibration_line_equals_a_logistic_regression(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logit = rng.normal(-1, 1.5, 300)
    truth = (rng.random(300) < 1 / (1 + np.exp(-(0.4 + 0.6 * logit)))).astype(int)
    score, weight = 1 / (1 + np.exp(-logit)), rng.integers(0, 3, (2, 300)).astype(float)
    found = clinical_metrics(truth, score, weight)
    for i, w in enumerate(weight):
        fitted = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(logit[:, None], truth, w)
        assert found["calibration slope"][i] == pytest.approx(fitted.coef_[0, 0], abs=1e-4)
        low, high = (
            -9.0,
            9.0,
        )  # the expected number of malignant breasts rises with the intercept: halve until it is the true one
        for _ in range(60):
            middle = (low + high) / 2
            expected = (w / (1 + np.exp(-(middle + logit)))).sum()
            low, high = (middle, high) if expected < (w * truth).sum() else (low, middle)
        assert found["calibration intercept"][i] == pytest.approx(low, abs=1e-8)


def test_calibration_is_not_defined_where_no_line_is_the_best() -> None:
    one = np.ones((1, 4))
    separated = clinical_metrics(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), one)
    assert np.isnan(separated["calibration slope"][0]) and separated["calibration intercept"][0] == pytest.approx(0, abs=1e-9)
    single = clinical_metrics(np.array([1, 1, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), one)
    assert all(
        np.isnan(single[name][0]) for name in single if "benefit" not in name and "all" not in name and "gain" not in name
    )
    certain = clinical_metrics(np.array([0, 1, 0, 1, 1]), np.array([0.0, 1.0, 1.0, 0.0, 1.0]), np.ones((1, 5)))
    assert all(np.isfinite(value[0]) for value in certain.values())


# --- DeLong -----------------------------------------------------------------------------------------------------------


def slow_delong(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The 1988 definition, pair by pair."""

    def psi(x: float, y: float) -> float:
        return 1.0 if x > y else 0.5 if x == y else 0.0

    x, y = scores[:, truth == 1], scores[:, truth == 0]
    v10 = np.array([[np.mean([psi(a, b) for b in y[k]]) for a in x[k]] for k in range(len(scores))])
    v01 = np.array([[np.mean([psi(a, b) for a in x[k]]) for b in y[k]] for k in range(len(scores))])
    return v10.mean(axis=1), np.cov(v10) / x.shape[1] + np.cov(v01) / y.shape[1]


def test_delong_on_its_authors_patients() -> None:
    """The example of DeLong et al. (1988), Biometrics 44, 837: 43 patients with ovarian cancer, three tests of each.

    Albumin, total protein, 10 - K-G score, and whether an operation helped, as SAS/STAT prints them ("Comparing Receiver
    Operating Characteristic Curves" of PROC LOGISTIC), with the areas, errors and tests that it prints.
    """
    table = """
        3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1  3.8 5.7 5 1
        3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0
        4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1
        4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1
        2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1  3.6 6.6 5 1
    """
    albumin, protein, score, helped = np.array(table.split(), float).reshape(43, 4).T
    areas, covariance = delong(helped, np.stack([albumin, protein, 10 - score]))
    assert areas.round(4).tolist() == [0.7366, 0.6478, 0.7258]
    assert np.sqrt(np.diag(covariance)).round(4).tolist() == [0.0927, 0.1000, 0.1028]
    for test, printed in ((albumin, (0.0108, -0.1761, 0.1976, 0.9102)), (protein, (-0.0780, -0.2830, 0.1271, 0.4561))):
        found = compare_auc(helped, test, 10 - score)
        assert found is not None and found.p is not None
        assert (found.first - found.second, found.low, found.high, found.p) == pytest.approx(printed, abs=5e-5)


@pytest.mark.parametrize("seed", range(6))
def test_delong_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = np.array([0, 0, 1, 1, *rng.integers(0, 2, 30)])
    scores = np.round(rng.random((3, len(truth))) + 0.3 * truth, 1 + seed % 3)  # with and without ties
    areas, covariance = delong(truth, scores)
    expected_areas, expected_covariance = slow_delong(truth, scores)
    np.testing.assert_allclose(areas, expected_areas, atol=1e-12)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-12)
    assert areas == pytest.approx([roc_auc(truth, score) for score in scores])


def test_comparison_of_areas() -> None:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 2, 300)
    good, poor = truth + rng.normal(0, 1, 300), truth + rng.normal(0, 4, 300)
    found = compare_auc(truth, good, poor)
    assert found is not None and found.p is not None
    assert found.p < 0.001 and 0 < found.low < found.first - found.second < found.high
    same = compare_auc(truth, good, good)
    assert same is not None and same.p is None and same.low == same.high == 0
    assert compare_auc([1, 0, 0], [1, 2, 3], [1, 2, 3]) is None


def test_delong_interval_covers_as_often_as_it_says() -> None:
    """Normal scores one deviation apart have the area Phi(1 / sqrt 2) = .7602."""
    rng = np.random.default_rng(2)
    truth = np.repeat([0, 1], 60)
    inside = 0
    for _ in range(400):
        areas, covariance = delong(truth, truth + rng.normal(0, 1, 120))
        inside += abs(areas[0] - 0.76025) < 1.96 * math.sqrt(covariance[0, 0])
    assert 0.91 < inside / 400 < 0.98


# --- bootstrap --------------------------------------------------------------------------------------------------------


def test_bootstrap_draws_patients_with_all_their_breasts() -> None:
    patients = ["a", "a", "b", "c", "c", "c"]
    weights = np.concatenate(list(patient_weights(patients, 600, 0)))
    assert weights.shape == (600, 6)
    assert (weights[:, 0] == weights[:, 1]).all() and (weights[:, 3] == weights[:, 5]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(6), abs=0.15)
    again = np.concatenate(list(patient_weights(patients, 600, 0)))
    assert (weights == again).all()


def test_bootstrap_equals_a_loop_over_resampled_lists() -> None:
    rng = np.random.default_rng(3)
    truth = np.array([0, 1, *rng.integers(0, 2, 38)])
    score, patients = rng.random(40), rng.integers(0, 25, 40).tolist()
    found = bootstrap(lambda w: compute_metrics(truth, score, 0.5, w), patients, 300, 5)
    slow: dict[str, list[float]] = {name: [] for name in ("accuracy", "auc", "average_precision", "ece")}
    for weight in np.concatenate(list(patient_weights(patients, 300, 5))):
        rows = np.repeat(np.arange(40), weight.astype(int))
        t, s = truth[rows], score[rows]
        slow["accuracy"].append(((s >= 0.5) == t).mean())
        slow["auc"].append(reference.roc_auc_score(t, s))
        slow["average_precision"].append(reference.average_precision_score(t, s))
        slow["ece"].append(compute_metrics(t, s)["ece"][0])
    for name, values in slow.items():
        assert (found[name].low, found[name].high) == pytest.approx(np.quantile(values, [0.025, 0.975]))
        assert found[name].undefined == 0
    assert found["auc"].value == pytest.approx(reference.roc_auc_score(truth, score))


def test_a_single_patient_has_no_interval() -> None:
    """All replicates would be equal, and an interval without width would prove any difference."""
    found = bootstrap(lambda w: {"sum": w.sum(axis=1)}, ["P", "P"], 100)["sum"]
    assert (found.value, found.low, found.high, found.side_of_0) == (2, None, None, 0)


@pytest.mark.fault(38)
def test_what_is_not_defined_is_none_and_counted() -> None:
    found = bootstrap(lambda w: compute_metrics([1, 1, 1], [0.9, 0.8, 0.2], 0.5, w), "abc", 100, 0)
    assert set(found) == set(METRICS)
    assert (found["auc"].value, found["auc"].low, found["auc"].undefined) == (None, None, 100)
    assert found["accuracy"].value == pytest.approx(2 / 3)
    assert compute_metrics([], [])["auc"].tolist() != [0]
