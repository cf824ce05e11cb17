"""Where the truth is known, the training stage shows it: learnt, at chance, a shortcut, a leak."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from fvpipe.config.training import Evaluate
from fvpipe.errors import LeakError
from fvpipe.evaluation.evaluate import evaluate
from fvpipe.evaluation.text import to_json
from tests.support.cohort import Patient, at, make_project, patients, train

UNSEEN = {"all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.3}}
EPOCHS: dict[str, Any] = {"epochs": 15, "min_epochs": 15}


@pytest.fixture(scope="module")
def lesions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lesion is malignant."""
    members = patients(200, lambda i: int(i % 3 == 0), lambda i: i % 3 == 0)
    return make_project(tmp_path_factory.mktemp("lesions"), {"a": members}, UNSEEN)


@pytest.mark.slow
def test_a_lesion_is_learnt(lesions: Path) -> None:
    row = to_json(evaluate([train(lesions, "all", **EPOCHS)], Evaluate(bootstrap=500)))["rows"][0]
    assert row["auc"] >= 0.93, row["auc"]
    assert row["intervals"]["auc"][0] > 0.8
    assert row["breasts"] > 50


@pytest.mark.slow
def test_shuffled_labels_stay_at_chance(lesions: Path, tmp_path: Path) -> None:
    labels = [i % 3 == 0 for i in range(180)]
    random.Random(1).shuffle(labels)
    members = patients(180, lambda i: int(labels[i]), lambda i: i % 3 == 0)
    folder = make_project(tmp_path, {"a": members}, UNSEEN)
    row = to_json(evaluate([train(folder, "all", **EPOCHS)], Evaluate(bootstrap=500)))["rows"][0]
    malignant, benign = row["malignant"], row["breasts"] - row["malignant"]
    # The deviation of an AUC that means nothing (Mann-Whitney): one shuffle in twenty passes two of them.
    deviation = ((malignant + benign + 1) / (12 * malignant * benign)) ** 0.5
    assert abs(row["auc"] - 0.5) < 3 * deviation < 0.4, (row["auc"], deviation)


@pytest.mark.slow
def test_a_shortcut_of_data_sets_is_caught_by_the_baselines(tmp_path: Path) -> None:
    """Nothing to see but noise of two machines: the model looks splendid, and the baseline is as high."""
    sets = {
        "a": [Patient(f"A{i:03d}", 1, False, i, noise=0.004) for i in range(60)],
        "b": [Patient(f"B{i:03d}", 0, False, 100 + i, noise=0.08) for i in range(60)],
    }
    splits = {"both": {"setting": "unseen", "datasets": ["a", "b"], "test_share": 0.3}}
    row = to_json(evaluate([train(make_project(tmp_path, sets, splits), "both", epochs=8)], Evaluate(bootstrap=500)))["rows"][0]
    assert row["auc"] > 0.9
    identity = next(one for one in row["floors"] if one["shortcut"] == "data-set identity")
    assert identity["auc"] == 1
    assert not row["above_floors"]["proved"]


@pytest.mark.fault(29)
def test_a_patient_in_two_parts_is_rejected(tmp_path: Path) -> None:
    """Two breasts of one patient, put into two parts by hand."""
    members = [*patients(12, lambda i: i % 2, lambda i: False), Patient("P000", 0, False, 101, extra="b")]
    folder = make_project(tmp_path, {"a": members}, UNSEEN)
    table = folder / "manifests" / "splits" / "all.csv"
    lines = table.read_text().splitlines()
    first, second = (i for i, line in enumerate(lines) if ",P000," in line)
    lines[first], lines[second] = _with_part(lines[first], "train"), _with_part(lines[second], "test")
    table.write_text("\n".join(lines))
    with pytest.raises(LeakError, match=r"the same patient is in (train and test|test and train)"):
        train(folder, "all")


@pytest.mark.fault(28)
def test_the_same_image_under_two_patients_is_rejected(tmp_path: Path) -> None:
    """Two patients with one image, put into two parts by hand."""
    members = [*patients(12, lambda i: i % 2, lambda i: False), Patient("Q000", 0, False, 0)]
    folder = make_project(tmp_path, {"a": members}, UNSEEN)
    table = folder / "manifests" / "splits" / "all.csv"
    text = table.read_text()
    lines = [_with_part(line, "train" if "P000" in line else "test" if "Q000" in line else None) for line in text.splitlines()]
    assert "\n".join(lines) + "\n" != text  # `fvpipe split` had kept them together
    table.write_text("\n".join(lines))
    with pytest.raises(
        LeakError, match=r"the same (file|pixels) is in train and test|the same (file|pixels) is in test and train"
    ):
        train(folder, "all")
    with at(folder):
        assert not (folder / "cache" / "models").exists()


def _with_part(line: str, part: str | None) -> str:
    return line if part is None else f"{line.rpartition(',')[0]},{part}"
