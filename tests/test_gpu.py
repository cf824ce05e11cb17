"""The training stage on a GPU; skipped where PyTorch finds none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fvpipe.config.training import Augment
from fvpipe.errors import TrainingError
from fvpipe.evaluation.training_record import WEIGHTS
from fvpipe.project.project import Project
from fvpipe.training.augmentation import augment
from fvpipe.training.batches import DeviceLoader
from fvpipe.training.data import Cohort, load_cohort
from fvpipe.training.device import find_device
from fvpipe.training.gradcam import heat_map
from fvpipe.training.predict import load_model
from fvpipe.training.train import predict_logits
from tests.conftest import run
from tests.support.cohort import at, kill_and_resume, make_project, patients, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")

SPLITS = {"all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.3, "validation_share": 0.3}}
CHANGING: dict[str, Any] = {
    "cnn": {"batch_norm": True, "dropout": 0.3, "pooling": "global"},
    "augment": {"horizontal_flip": True, "rotate": 10.0, "scale": 0.1},
    "batch": 8,
}
HALVES = "segment: {method: otsu_log}\nfuse: {align: each}\nsize: [64, 128]\n"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 patients, in shards of the pipelines `tiny` and `halves`."""
    folder = make_project(tmp_path_factory.mktemp("gpu"), {"a": patients(40, lambda i: i % 2, lambda i: i % 2 == 1)}, SPLITS)
    (folder / "pipelines" / "halves.yaml").write_text(HALVES)
    with at(folder):
        run("build-shards", "--workers", 0, "--pipeline", "halves")
    return folder


@pytest.fixture
def project(small: Path, tmp_path: Path) -> Path:
    """A copy without models."""
    return Path(shutil.copytree(small, tmp_path / "project", ignore=shutil.ignore_patterns("models", "checkpoints")))


@pytest.fixture(scope="module")
def cohort(small: Path) -> Cohort:
    return load_cohort(Project(small), "tiny", "all")


def weights_of(project: Path, pipeline: str = "tiny", model: str = "cnn") -> bytes:
    return (project / "cache" / "models" / pipeline / "all" / f"{model}-seed0" / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("cnn", {}),
        ("cnn", {"precision": "bf16"}),
        ("cnn", {"loss": "one_logit", "imbalance": "weights"}),
        ("cnn", {"compile": "default"}),
        ("cnn", {"compile": "reduce-overhead", "batch": 9}),  # whose last batch is smaller
        ("resnet18", {}),
        ("resnet18", {"fine_tune": "head"}),
        ("two_stream", {}),
        ("cnn+zoom", {"front": {"size": [32, 64]}}),
        ("cnn+frozen", {"front": {"size": [32, 64]}}),
    ],
)
def test_same_seed_same_bytes(project: Path, model: str, settings: dict[str, Any]) -> None:
    """With every source of chance in use, and torch rejecting operations that are not deterministic."""
    pipeline = "halves" if model not in {"cnn", "resnet18"} else "tiny"
    found = []
    for _ in range(2):
        trained = train(
            project, "all", model, fresh=True, pipeline=pipeline, device="cuda", epochs=3, **{**CHANGING, **settings}
        )
        found.append(weights_of(project, pipeline, model))
    assert found[0] == found[1]
    assert trained.record.device == torch.cuda.get_device_name()
    assert all(np.isfinite(epoch.loss) for epoch in trained.record.epochs)


def test_a_gpu_predicts_what_a_cpu_does(project: Path, cohort: Cohort) -> None:
    """Of a model that a GPU trained: its recorded probabilities, and those of both devices now."""
    trained = train(project, "all", device="cuda", epochs=3)
    every = np.arange(len(cohort.breasts))
    scores = []
    for name in ("cpu", "cuda"):
        device = torch.device(name)
        model, _ = load_model(project / "cache" / "models" / "tiny" / "all" / "cnn-seed0", device)
        scores.append(torch.softmax(predict_logits(model, DeviceLoader(cohort.dataset, every, device)), 1)[:, 1].cpu().numpy())
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)
    recorded = {i: p.probability for i, p in enumerate(trained.predictions) if p.probability is not None}
    np.testing.assert_allclose(scores[1][list(recorded)], list(recorded.values()), rtol=0, atol=1e-5)


def test_streamed_batches_are_those_in_memory(cohort: Cohort) -> None:
    device = torch.device("cuda")
    every = np.arange(len(cohort.breasts))
    chunks = list(torch.randperm(len(every), generator=torch.Generator().manual_seed(0)).split(7))
    resident, streamed = (DeviceLoader(cohort.dataset, every, device, torch.channels_last, kept) for kept in (True, False))
    assert resident.images is not None
    assert streamed.images is None
    for (images, labels), (others, theirs) in zip(resident.batches(chunks), streamed.batches(chunks), strict=True):
        assert images.is_cuda and others.is_cuda
        assert torch.equal(images, others)
        assert torch.equal(labels, theirs)


def test_augmentation_is_that_of_a_cpu() -> None:
    images = torch.rand(5, 1, 32, 48, generator=torch.Generator().manual_seed(0))
    settings = Augment(horizontal_flip=True, vertical_flip=True, rotate=20, shift=0.1, scale=0.2)
    there, here = (augment(images.to(name), settings, torch.Generator().manual_seed(1)).cpu() for name in ("cuda", "cpu"))
    torch.testing.assert_close(there, here, rtol=0, atol=1e-4)


def test_killed_and_resumed_ends_like_an_unbroken_one(project: Path) -> None:
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("epochs: 2", "epochs: 40").replace("dropout: 0.0", "dropout: 0.3"))
    kill_and_resume(project, "--device", "cuda")
    resumed = weights_of(project)
    train(project, "all", fresh=True, device="cuda")
    assert weights_of(project) == resumed


def test_a_device_without_enough_memory_is_named(project: Path) -> None:
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(TrainingError, match=r"the device has not enough memory; the checkpoint of epoch 0 is kept"):
            train(project, "all", "resnet18", device="cuda", batch=32)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_more_processes_than_gpus_are_named(project: Path) -> None:
    count = torch.cuda.device_count() + 1
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-addr", "127.0.0.1"]
    command += ["--master-port", "29534", "-m", "fvpipe", "train", "--split", "all"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert f"process {count - 1} has no GPU of its own: torch sees {count - 1}" in done.stderr


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_give_the_metric_of_one(project: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1"]
    command += ["--master-port", "29535", "-m", "fvpipe", "train", "--split", "all"]
    subprocess.run(command, cwd=project, capture_output=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    from fvpipe.evaluation.training_record import read_trained

    two = read_trained(project / "cache" / "models" / "tiny" / "all" / "cnn-seed0")
    one = train(project, "all", fresh=True, device="cuda")
    for a, b in zip(one.record.epochs, two.record.epochs, strict=True):
        assert (a.loss, a.validation_auc) == pytest.approx((b.loss, b.validation_auc), abs=1e-3)


def test_auto_takes_the_gpu_and_heat_maps_are_made_there(project: Path, cohort: Cohort) -> None:
    device = find_device("auto").device
    assert device.type == "cuda"
    train(project, "all", "resnet18", device="cuda", epochs=1)
    folder = project / "cache" / "models" / "tiny" / "all" / "resnet18-seed0"
    maps = []
    for each in (device, torch.device("cpu")):
        model, _ = load_model(folder, each)
        maps.append(heat_map(model, cohort.dataset.images(np.array([0])).numpy()[0]))
    np.testing.assert_allclose(maps[0], maps[1], rtol=0, atol=1e-3)
