"""The training stage: its data, reproducibility, and every fault that must be a clear error."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import fvpipe
from fvpipe.config.training import Augment, Cnn, Recipe
from fvpipe.errors import (
    CheckpointError,
    ChecksumError,
    InputError,
    ParameterError,
    ShardError,
    SwappedShardError,
    TrainingError,
)
from fvpipe.evaluation.code_digest import PACKAGES, training_modules
from fvpipe.evaluation.splits.assign import Assignment, Part
from fvpipe.evaluation.training_record import PREDICTIONS, RECORD, WEIGHTS, Run, check_digests
from fvpipe.project.project import Project
from fvpipe.training import data
from fvpipe.training import train as training
from fvpipe.training.augmentation import augment
from fvpipe.training.batches import DeviceLoader
from fvpipe.training.data import load_cohort
from fvpipe.training.device import ExecutionDevice, find_device, own_share
from fvpipe.training.licenses import restricting_licenses
from fvpipe.training.network.model import build_model
from fvpipe.training.network.zoom import ZoomFront
from fvpipe.training.predict import load_model
from fvpipe.training.recipe import class_weight_of, learning_rate, sample_order
from fvpipe.versions import PREPROCESSING_VERSION
from tests.conftest import run
from tests.support.cohort import Patient, at, kill_and_resume, make_project, patients, train, write_checkpoint
from tests.support.trained import made

SPLITS = {
    "all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.3, "validation_share": 0.3},
    "one-class": {"setting": "cross", "datasets": ["b"], "test": ["a"], "validation_share": 0.4},
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 patients in `a`; `b` holds malignant ones alone."""
    sets = {
        "a": patients(40, lambda i: i % 2, lambda i: i % 2 == 1),
        "b": [Patient(f"Q{i:03d}", 1, True, 500 + i) for i in range(16)],
    }
    return make_project(tmp_path_factory.mktemp("small"), sets, SPLITS)


@pytest.fixture
def project(small: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(small, tmp_path / "project", ignore=shutil.ignore_patterns("models", "checkpoints")))


PLAIN = Recipe(weights="none")

# --- data -------------------------------------------------------------------------------------------------------------


def test_cohort_is_the_split(small: Path) -> None:
    project = Project(small)
    cohort = load_cohort(project, "tiny", "all")
    assert cohort.dataset.image_shape == (1, 64, 128)
    assert len(cohort.breasts) == 40
    indices = cohort.indices(Part.TEST)
    images = cohort.dataset.images(indices).numpy()
    shards = cohort.dataset.folders[0]
    for i, image in zip(indices, images, strict=True):
        sample = shards[shards.breast_ids.tolist().index(cohort.breasts[i].breast_id)]
        assert (image[0] == sample.image).all() and cohort.dataset.labels[i] == sample.label
    assert cohort.breasts[0].views == "CC+MLO"


@pytest.mark.parametrize("has_uids", [True, False])
def test_exams_that_tables_name_are_compared_within_a_patient_alone(
    has_uids: bool, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = list[Assignment]()
    monkeypatch.setattr(Project, "has_study_uids", lambda self, name: has_uids)
    monkeypatch.setattr(data, "reject_leaks", lambda assignments, *_: checked.extend(assignments))
    load_cohort(Project(small), "tiny", "all")
    assert {bool(each.candidate.study) for each in checked} == {has_uids}


def test_a_streamed_loader_equals_a_resident_one(small: Path) -> None:
    cohort = load_cohort(Project(small), "tiny", "all")
    chunks = list(torch.randperm(20).split(6))
    loaders = [
        DeviceLoader(cohort.dataset, np.arange(20), torch.device("cpu"), torch.channels_last, kept) for kept in (True, False)
    ]
    batches = [list(loader.batches(chunks)) for loader in loaders]
    assert len(batches[0]) == len(batches[1]) == 4
    for (a, la), (b, lb) in zip(*batches, strict=True):
        assert torch.equal(a, b) and torch.equal(la, lb)
        assert a.is_contiguous(memory_format=torch.channels_last)


def test_unknown_breasts_are_an_error(project: Path) -> None:
    table = project / "manifests" / "splits" / "all.csv"
    table.write_text(table.read_text() + "a,P999_L,P999,train\n")
    with pytest.raises(InputError, match=r"a/P999_L is neither in .* nor rejected there"):
        train(project, "all")


def test_rejected_breasts_are_dropped_and_counted(project: Path) -> None:
    broken = project / "data" / "a" / "P003-CC.dcm"
    broken.write_bytes(broken.read_bytes()[:-5000])
    with at(project):
        run("index", "--workers", 0, "--dataset", "a")
        run("build-shards", "--workers", 0, "--dataset", "a")
    found = train(project, "all", epochs=1)
    assert found.record.dropped == {"cc_missing": 1}  # the reason of the breast in rejected.csv
    assert len(found.predictions) == 39


@pytest.mark.fault(48)
def test_tables_that_are_not_those_of_the_receipt_are_rejected(project: Path) -> None:
    for name in ("breasts.csv", "rejected.csv"):
        file = project / "cache" / "shards" / "tiny" / "a" / name
        data = file.read_bytes()
        file.write_bytes(data + b"\n")
        with pytest.raises(ChecksumError, match=rf"{name}: its bytes differ from what was written; build the shards again"):
            load_cohort(Project(project), "tiny", "all")
        file.unlink()
        with pytest.raises(ShardError, match=f"{name}: the receipt lists this table and it is not there"):
            load_cohort(Project(project), "tiny", "all")
        file.write_bytes(data)
    load_cohort(Project(project), "tiny", "all")


@pytest.mark.fault(48)
def test_a_breast_without_a_row_is_named(project: Path) -> None:
    folder = project / "cache" / "shards" / "tiny" / "a"
    table, receipt = folder / "breasts.csv", folder / "index.json"
    old = hashlib.sha256(table.read_bytes()).hexdigest()
    *rows, last = table.read_bytes().splitlines(keepends=True)
    table.write_bytes(b"".join(rows))
    receipt.write_text(receipt.read_text().replace(old, hashlib.sha256(table.read_bytes()).hexdigest()))
    with pytest.raises(ShardError, match=rf"breasts\.csv: no row for {last.partition(b',')[0].decode()}, which a shard holds"):
        load_cohort(Project(project), "tiny", "all")


@pytest.mark.parametrize(("column", "now", "what"), [("label", "5", "another label"), ("digest", "0" * 64, "other files")])
def test_shards_older_than_the_manifest_are_rejected(project: Path, column: str, now: str, what: str) -> None:
    """They were corrected, indexed and split again, and the shards were not built again."""
    table = project / "manifests" / "a" / "images.csv"
    with table.open(newline="") as file:
        heading, *rows = csv.reader(file)
    breast = heading.index("breast_id")
    changed = next(row for row in rows if row[breast])
    changed[heading.index(column)] = now
    table.write_text("".join(",".join(row) + "\n" for row in (heading, *rows)))
    with pytest.raises(ShardError, match=rf"{changed[breast]} has {what} than in .*`fvpipe build-shards --pipeline tiny --dat"):
        load_cohort(Project(project), "tiny", "all")
    table.unlink()  # nothing but shards and splits was fetched
    load_cohort(Project(project), "tiny", "all")


def test_shards_of_another_pipeline_are_rejected(project: Path) -> None:
    file = project / "pipelines" / "tiny.yaml"
    file.write_text(file.read_text().replace("64", "32"))
    with pytest.raises(SwappedShardError, match="built by another pipeline"):
        train(project, "all")


def test_shards_of_another_preprocessing_are_rejected(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "PREPROCESSING_VERSION", PREPROCESSING_VERSION + 1)
    with pytest.raises(SwappedShardError, match="was built by preprocessing version"):
        load_cohort(Project(project), "tiny", "all")


def test_missing_split_and_shards_are_named(project: Path) -> None:
    shutil.rmtree(project / "cache" / "shards")
    with pytest.raises(Exception, match="Build it with `fvpipe build-shards`"):
        train(project, "all")
    (project / "manifests" / "splits" / "all.csv").unlink()
    with pytest.raises(InputError, match="run `fvpipe split` first"):
        train(project, "all")
    with at(project):
        assert "no split 'alll' (did you mean 'all'?)" in run("train", "--split", "alll", code=1).output


def test_augmentation_changes_what_it_says() -> None:
    images = torch.rand(64, 1, 8, 8)

    def changed(**settings: object) -> torch.Tensor:
        return augment(images, Augment(**settings), torch.Generator().manual_seed(0))  # type: ignore[arg-type]

    assert changed() is images
    mirrored = changed(horizontal_flip=True)
    flipped = [torch.allclose(m, i.flip(-1), atol=1e-5) for m, i in zip(mirrored, images, strict=True)]
    same = [torch.allclose(m, i, atol=1e-5) for m, i in zip(mirrored, images, strict=True)]
    assert all(a != b for a, b in zip(flipped, same, strict=True)) and 20 < sum(flipped) < 44
    assert torch.equal(changed(rotate=20.0, shift=0.1, scale=0.2), changed(rotate=20.0, shift=0.1, scale=0.2))
    assert not torch.allclose(changed(rotate=20.0), images)


def test_imbalance_options() -> None:
    labels = torch.tensor([0] * 90 + [1] * 10)
    generator = torch.Generator().manual_seed(0)
    assert sorted(sample_order(labels, PLAIN, generator).tolist()) == list(range(100))
    drawn = labels[sample_order(labels, Recipe(imbalance="balanced"), generator)]
    assert 35 < drawn.sum() < 65
    weight = class_weight_of(labels, Recipe(imbalance="weights"))
    assert weight.tolist() == pytest.approx([100 / 180, 5])


def test_a_model_behind_a_zoom_is_a_model_of_its_own(project: Path) -> None:
    """Trained, read again, and named in its record; the same recipe serves the model without a zoom."""
    with pytest.raises(ParameterError, match=r"train it on a pipeline with fuse\.align: each"):
        train(project, "all", "cnn+zoom", front={"size": [32, 64]})
    (project / "pipelines" / "halves.yaml").write_text("segment: {method: otsu_log}\nfuse: {align: each}\nsize: [64, 128]\n")
    with at(project):
        run("build-shards", "--workers", 0, "--pipeline", "halves")
    trained = train(project, "all", "cnn+zoom", pipeline="halves", front={"size": [32, 64]}, batch=8)
    assert trained.record.run.model == "cnn+zoom"
    assert trained.record.image_shape == (1, 64, 128)
    plain = build_model("cnn", trained.record.recipe, (1, 32, 64), 0)[0]
    assert trained.record.parameters == sum(p.numel() for p in plain.parameters()) + 8 * 10 + 16 * 73 + 145
    model, record = load_model(project / "cache" / "models" / "halves" / "all" / "cnn+zoom-seed0", torch.device("cpu"))
    assert record == trained.record
    front = next(module for module in model.modules() if isinstance(module, ZoomFront))
    last = front.saliency[-1]
    assert isinstance(last, nn.Conv2d)
    assert float(last.weight.detach().abs().max()) > 0  # it starts at 0


# --- the same bytes, whatever happens ---------------------------------------------------------------------------------


def weights_of(folder: Path, split: str = "all", seed: int = 0) -> bytes:
    return (folder / "cache" / "models" / "tiny" / split / f"cnn-seed{seed}" / WEIGHTS).read_bytes()


CHANGING: dict[str, Any] = {
    "cnn": {"dropout": 0.3, "batch_norm": True, "pooling": "global"},
    "augment": {"rotate": 10.0},
    "batch": 8,
}


def test_same_seed_same_bytes_and_another_seed_others(small: Path) -> None:
    found = []
    for seed in (0, 0, 1):
        trained = train(small, "all", seed=seed, fresh=True, epochs=3, **CHANGING)
        found.append((weights_of(small, seed=seed), [p.probability for p in trained.predictions]))
    assert found[0] == found[1]
    assert found[0][0] != found[2][0]


@pytest.mark.slow
def test_same_seed_same_bytes_where_the_step_is_compiled(small: Path) -> None:
    """In one process, and with a last batch that is smaller: another shape gets code of its own, as in the first training."""
    found = []
    for _ in range(2):
        train(small, "all", fresh=True, epochs=2, compile="default", **CHANGING)
        found.append(weights_of(small))
    assert found[0] == found[1]


@pytest.mark.fault(41)
def test_killed_and_resumed_ends_like_an_unbroken_one(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 5").replace("dropout: 0.0", "dropout: 0.3"))
    kill_and_resume(project, "--device", "cpu")
    resumed = weights_of(project)
    train(project, "all", fresh=True)
    assert weights_of(project) == resumed


def test_nothing_is_trained_again_where_nothing_changed(project: Path) -> None:
    first = train(project, "all", epochs=2)
    file = project / "cache" / "models" / "tiny" / "all" / "cnn-seed0" / WEIGHTS
    before = file.stat().st_mtime_ns
    assert train(project, "all", epochs=2).record == first.record
    assert file.stat().st_mtime_ns == before
    assert len(train(project, "all", epochs=3).record.epochs) == 3
    assert file.stat().st_mtime_ns != before


def test_new_facts_of_breasts_reach_the_results_without_a_training(project: Path) -> None:
    """A density is not an input of the network: its weights stay, but subgroups must not be those of the old table."""
    first = train(project, "all", epochs=2)
    folder, shards = project / "cache" / "models" / "tiny" / "all" / "cnn-seed0", project / "cache" / "shards" / "tiny" / "a"
    table, receipt = shards / "breasts.csv", shards / "index.json"

    def tensors() -> list[torch.Tensor]:
        return list(load_model(folder, torch.device("cpu"))[0].state_dict().values())

    weights = tensors()
    heading, *lines = table.read_text().splitlines()
    place = heading.split(",").index("density")
    changed = [",".join([*cells[:place], "C", *cells[place + 1 :]]) for cells in (line.split(",") for line in lines)]
    table.write_text("\n".join([heading, *changed]) + "\n")
    data = json.loads(receipt.read_text())
    data["tables"]["breasts.csv"] = hashlib.sha256(table.read_bytes()).hexdigest()
    receipt.write_text(json.dumps(data | {"made": False}))
    again = train(project, "all", epochs=2)
    check_digests(folder, (WEIGHTS, PREDICTIONS, RECORD))
    assert again.record == first.record.model_copy(update={"shards": again.record.shards})  # still simulated, by params.yaml
    assert again.record.shards != first.record.shards
    assert [p.probability for p in again.predictions] == [p.probability for p in first.predictions]
    assert all(torch.equal(was, now) for was, now in zip(weights, tensors(), strict=True))
    assert {p.density for p in again.predictions} == {"C"} != {p.density for p in first.predictions}


@pytest.mark.slow
def test_other_code_trains_again(project: Path) -> None:
    """A copy of the package in which the threshold is chosen otherwise; and one in which a report looks otherwise."""
    package = Path(shutil.copytree(Path(fvpipe.__file__).parent, project / "code" / "fvpipe"))

    def changed(file: str, old: str, new: str) -> str:
        text = (package / file).read_text()
        assert old in text
        (package / file).write_text(text.replace(old, new))
        command = [sys.executable, "-m", "fvpipe", "train", "--split", "all", "--device", "cpu"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(package.parent)}
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
        return done.stderr

    again = "nothing that decides its weights has changed"
    assert again not in changed("report/shard_page.py", "from __future__", "from __future__")
    assert again in changed("report/shard_page.py", "from __future__", "# A comment.\nfrom __future__")
    metrics = "evaluation/metrics.py"
    assert "epoch 1" in changed(metrics, "return float(best[np.argmin(np.abs(best - 0.5))])", "return float(best[0] + 0.001)")
    assert again in changed(metrics, "from __future__", "from __future__")


def test_code_of_a_training_is_all_that_it_uses() -> None:
    """Whatever a module of it holds from these packages comes from a module of it."""
    found = training_modules(Path(fvpipe.__file__).parent)
    for name in found:
        values = vars(importlib.import_module(name)).values()
        used = {value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "") for value in values}
        assert {str(module) for module in used if str(module).startswith(PACKAGES)} <= found.keys(), name
    needed = {"fvpipe.evaluation.metrics.binary", "fvpipe.training.batches", "fvpipe.torch", "fvpipe.shards.reader"}
    assert needed <= found.keys()
    assert not {"fvpipe.training.predict", "fvpipe.training.gradcam", "fvpipe.evaluation.model_card"} & found.keys()


def test_another_weight_file_of_the_same_name_is_another_training(project: Path) -> None:
    """And a model that began as one of EMBED has EMBED's license in its record, also where its own data are simulated."""
    file = project / "start.safetensors"
    first = made(Run("cropped", "s", "cnn", 0), [], made=False, adapters={"a": "embed"}, licenses={"a": "EMBED's"}).record
    cnn = PLAIN.model_copy(update={"cnn": Cnn(batch_norm=True, pooling="global")})
    found = []
    for seed in (0, 1):
        state = build_model("cnn", cnn, (1, 64, 128), seed)[0].net.state_dict()
        save_file(state, file, {"fvpipe": first.to_json()})
        said: list[str] = []
        record = train(project, "all", epochs=1, weights=str(file), say=said.append).record
        assert "its initial weights were trained on a, too, by another split" in said[0]
        assert record.simulated and restricting_licenses(record, None) == {"a (initial weights)": "EMBED's"}
        found.append((record.configuration, record.weights, weights_of(project)))
    assert all(first != second for first, second in zip(*found, strict=True))


def half_trained(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let a training fail in its third epoch, by a learning rate that no float survives; returns its checkpoint."""
    real = learning_rate
    with monkeypatch.context() as patch:
        patch.setattr(training, "learning_rate", lambda recipe, epoch: 1e30 if epoch == 2 else real(recipe, epoch))
        with pytest.raises(TrainingError, match=r"epoch 3 ended with .* the checkpoint of epoch 2 is kept"):
            train(project, "all", epochs=4, batch=8)
    return project / "cache" / "checkpoints" / "tiny" / "all" / "cnn-seed0.pt"


@pytest.mark.fault(39)
def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = half_trained(project, monkeypatch)
    state = torch.load(io.BytesIO(checkpoint.read_bytes()[training.DIGEST_BYTES :]), weights_only=True)
    assert len(json.loads(state["epochs"])) == 2
    assert all(torch.isfinite(value).all() for value in state["net"].values())
    assert not (project / "cache" / "models").exists()
    found = train(project, "all", epochs=4, batch=8)  # goes on from there
    assert len(found.record.epochs) == 4


def test_a_device_that_cannot_is_a_clear_error(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for error, words in (
        (torch.OutOfMemoryError("CUDA out of memory"), "not enough memory; the checkpoint of epoch 0 is kept. Try a smaller"),
        (RuntimeError("x does not have a deterministic implementation, but"), r"x does not .* Try train.deterministic: false"),
    ):
        monkeypatch.setattr(training.Training, "take_step", lambda *_, error=error, **__: (_ for _ in ()).throw(error))
        with pytest.raises(TrainingError, match=words):
            train(project, "all")


@pytest.mark.fault(40)
def test_a_checkpoint_of_another_configuration_is_rejected(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = half_trained(project, monkeypatch)
    with pytest.raises(CheckpointError, match=r"train\.lr was 0\.002 and is 0\.001; remove it"):
        train(project, "all", epochs=4, batch=8, lr=0.001)
    torch.save(torch.zeros(3), file := io.BytesIO())
    for content in (file.getvalue(), b"PK\x03\x04 cut"):
        write_checkpoint(checkpoint, content)
        with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
            train(project, "all", epochs=4, batch=8)
    assert train(project, "all", epochs=1, fresh=True).record.epochs


@pytest.mark.fault(38)
def test_validation_with_one_class_is_an_error(small: Path) -> None:
    """Before anything is trained: no epoch and no threshold could be chosen."""
    with pytest.raises(
        TrainingError, match=r"one-class\.csv: its validation part holds malignant breasts only, .* change vali"
    ):
        train(small, "one-class")
    assert not (small / "cache" / "checkpoints" / "tiny" / "one-class").exists()


def test_a_training_part_with_one_class_is_an_error(small: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small, tmp_path / "project"))
    table = folder / "manifests" / "splits" / "one-class.csv"
    heading, *lines = table.read_text().splitlines()
    label = {}
    for name in {line.partition(",")[0] for line in lines}:
        with open(folder / "manifests" / name / "breasts.csv", encoding="utf-8") as file:
            label |= {row["breast_id"]: row["label"] for row in csv.DictReader(file)}
    rows = [line.split(",")[:3] for line in lines]
    benign, malignant = ([row for row in rows if label[row[1]] == wanted] for wanted in "01")
    parts = [(benign[0], "validation"), (malignant[0], "validation"), *((row, "test") for row in malignant[1:])]
    parts += [(row, "train") for row in benign[1:]]
    table.write_text("\n".join([heading, *(",".join([*row, part]) for row, part in parts)]) + "\n")
    with pytest.raises(TrainingError, match=r"its train part holds benign breasts only, so nothing can be learnt; change vali"):
        train(folder, "one-class")


def test_early_stopping_waits_for_validation(small: Path) -> None:
    found = train(small, "all", epochs=12, min_epochs=3, patience=2, fresh=True)
    best = found.record.best_epoch
    assert len(found.record.epochs) in (max(3, best + 2), 12)
    areas = [epoch.validation_auc for epoch in found.record.epochs]
    assert areas.index(max(areas)) == best - 1


def test_bf16_and_one_logit_and_frozen_layers_train(small: Path) -> None:
    several: tuple[dict[str, Any], ...] = (
        {"precision": "bf16"},
        {"loss": "one_logit", "imbalance": "weights"},
        {"fine_tune": "head"},
    )
    for settings in several:
        found = train(small, "all", epochs=2, fresh=True, **settings)
        assert all(math.isfinite(epoch.loss) for epoch in found.record.epochs)
        assert all(0 <= (p.probability or 0) <= 1 for p in found.predictions)


# --- several processes ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_give_the_same_metric_as_one(project: Path) -> None:
    """torchrun with gloo on this machine; without batch norm, whose statistics are each process's own on a CPU."""
    params = project / "params.yaml"
    text = params.read_text().replace("batch_norm: true", "batch_norm: false").replace("epochs: 2", "epochs: 3")
    params.write_text(text.replace("batch: 32", "batch: 7"))  # uneven shares, and a last batch for one process
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", "29533", "-m", "fvpipe", "train", "--split", "all", "--device", "cpu"]
    done = subprocess.run(
        command, cwd=project, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 epochs") == 1
    from fvpipe.evaluation.training_record import read_trained

    folder = project / "cache" / "models" / "tiny" / "all" / "cnn-seed0"
    two = read_trained(folder)
    one = train(project, "all", fresh=True)
    for a, b in zip(one.record.epochs, two.record.epochs, strict=True):
        assert (a.loss, a.validation_auc) == pytest.approx((b.loss, b.validation_auc), abs=1e-4)
    ours, theirs = (np.array([p.probability for p in found.part("test")]) for found in (one, two))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_share(torch.arange(5), ExecutionDevice(torch.device("cpu"), 1, 2))[0].tolist() == [1, 3]
    assert own_share(torch.arange(1), ExecutionDevice(torch.device("cpu"), 1, 2)) == (torch.tensor([0]), False)
    if not torch.cuda.is_available():
        with pytest.raises(TrainingError, match="no CUDA device is visible"):
            find_device("cuda")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setenv("LOCAL_RANK", "1")
        with pytest.raises(TrainingError, match="process 1 has no GPU of its own: torch sees 1"):
            find_device("cuda")
    assert replace(ExecutionDevice(torch.device("cpu")), rank=1).world_size == 1
