"""Checkpoints and models: one flipped bit is rejected by name, and nothing in them runs code."""

from __future__ import annotations

import io
import os
import pickle
import random
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fvpipe.config.loading import read_yaml
from fvpipe.errors import CheckpointError, ParameterError
from fvpipe.evaluation.training_record import DIGESTS, PREDICTIONS, RECORD, WEIGHTS, Run, digest_line, read_trained
from fvpipe.project.project import Project
from fvpipe.training.data import load_cohort
from fvpipe.training.device import ExecutionDevice
from fvpipe.training.network.model import build_model
from fvpipe.training.predict import load_model, own_pipeline
from fvpipe.training.train import Training, train_run
from tests.conftest import run
from tests.support.cohort import at, make_project, patients, train, write_checkpoint

pytestmark = pytest.mark.process

MODEL = Path("cache", "models", "tiny", "all", "cnn-seed0")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one trained model."""
    split = {"all": {"setting": "unseen", "datasets": ["a"], "test_share": 0.3, "validation_share": 0.3}}
    members = patients(24, lambda i: i % 2, lambda i: i % 2 == 1)
    folder = make_project(tmp_path_factory.mktemp("models"), {"a": members}, split, {"epochs": 1})
    train(folder, "all")
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(trained, tmp_path / "project"))


def training_of(project: Path) -> Training:
    """A training that has not begun."""
    torch.set_num_threads(1)
    recipe = Project(project).params.train.recipe(simulated=False)
    return Training(load_cohort(Project(project), "tiny", "all"), Run("tiny", "all", "cnn", 0), recipe, ExecutionDevice(CPU))


def flips(file: Path, count: int) -> Iterator[int]:
    """Flip one bit of a file after the other, by turns; the first and last byte are among them."""
    whole = file.read_bytes()
    for place in (0, len(whole) - 1, *random.Random(0).sample(range(len(whole)), count)):
        changed = bytearray(whole)
        changed[place] ^= 1 << (place % 8)
        file.write_bytes(changed)
        yield place
    file.write_bytes(whole)


def test_a_model_of_a_stranger_asks_for_no_memory_without_a_bound(project: Path) -> None:
    """A record of images that no pipeline makes, and weights with holes: with digests that fit."""
    folder = project / MODEL
    record = read_trained(folder).record
    for shape in ((1, 1 << 20, 1 << 20), (1 << 30, 64, 64), (1,), ()):
        text = record.model_copy(update={"image_shape": shape}).to_json()
        with safe_open(folder / WEIGHTS, "pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(state, folder / WEIGHTS, {"fvpipe": text})
        listed = (digest_line(name, (folder / name).read_bytes()) for name in (WEIGHTS, RECORD, PREDICTIONS))
        (folder / DIGESTS).write_text("".join(listed))
        with pytest.raises(CheckpointError, match=r"its record says images of \(.*\), and its pipeline makes \(1, "):
            load_model(folder, CPU)
    for name, said in ((WEIGHTS, "its bytes differ"), (DIGESTS, "cannot be read"), (RECORD, "differ|cannot be read")):
        os.truncate(folder / name, 1 << 28)
        tracemalloc.start()
        with pytest.raises(CheckpointError, match=said):
            load_model(folder, CPU)
        assert tracemalloc.get_traced_memory()[1] < 1 << 25
        tracemalloc.stop()


@pytest.mark.fault(49)
@pytest.mark.parametrize("name", [WEIGHTS, RECORD, PREDICTIONS, DIGESTS])
def test_one_bit_in_a_model_file_is_refused_by_name(name: str, project: Path) -> None:
    folder = project / MODEL
    readers: list[Callable[[], Any]] = [lambda: load_model(folder, CPU), lambda: read_trained(folder)]
    for place in flips(folder / name, 40):
        for read in readers:
            with pytest.raises(CheckpointError, match=rf"{'' if name == DIGESTS else name}: its bytes differ .*{DIGESTS}"):
                read()
                pytest.fail(f"read with a flipped bit in byte {place}")
    for read in readers:
        read()


@pytest.mark.fault(49)
def test_every_command_refuses_a_model_with_a_flipped_bit(project: Path) -> None:
    next(flips(project / MODEL / WEIGHTS, 0))
    views = ("data/a/P000-CC.dcm", "data/a/P000-MLO.dcm")
    with at(project):
        for command in (
            ("evaluate",),
            ("table2",),
            ("predict", "--model", MODEL, *views),
            ("predict", "--model", MODEL, "--gradcam", "heat", *views),
            ("export", "--model", MODEL, "--out", "model.onnx"),
        ):
            assert f"{WEIGHTS}: its bytes differ from what was written" in run(*command, code=1).output, command
        assert not Path("heat").exists()
        assert not Path("model.onnx").exists()


@pytest.mark.fault(49)
def test_a_damaged_model_is_trained_again_and_said_so(project: Path) -> None:
    whole = (project / MODEL / WEIGHTS).read_bytes()
    next(flips(project / MODEL / WEIGHTS, 0))
    said: list[str] = []
    recipe = Project(project).params.train.recipe(simulated=False)
    train_run(Project(project), Run("tiny", "all", "cnn", 0), recipe, ExecutionDevice(CPU), said.append)
    assert f"{WEIGHTS}: its bytes differ from what was written" in said[0]
    assert (project / MODEL / WEIGHTS).read_bytes() == whole


@pytest.mark.fault(49)
def test_a_model_without_digests_is_refused(project: Path) -> None:
    (project / MODEL / DIGESTS).unlink()
    readers: list[Callable[[], Any]] = [lambda: load_model(project / MODEL, CPU), lambda: read_trained(project / MODEL)]
    for read in readers:
        with pytest.raises(CheckpointError, match=f"has no {DIGESTS}, as models of earlier versions; train again"):
            read()


@pytest.mark.fault(49)
def test_metrics_need_no_weights(project: Path) -> None:
    (project / MODEL / WEIGHTS).unlink()
    assert read_trained(project / MODEL).predictions
    with pytest.raises(CheckpointError, match=f"{WEIGHTS}: no such file"):
        load_model(project / MODEL, CPU)


@pytest.mark.fault(49)
def test_one_bit_in_a_checkpoint_is_refused_by_name(project: Path, tmp_path: Path) -> None:
    training, file = training_of(project), tmp_path / "cnn-seed0.pt"
    training.epochs.append(training._epoch(0))
    training.best_epoch, training.best = 0, dict(training.model.net.state_dict())
    training._save(file)
    for place in flips(file, 100):
        with pytest.raises(CheckpointError, match=r"cnn-seed0\.pt: its bytes differ from what was written; remove it"):
            training.resume(file, lambda text: None)
            pytest.fail(f"resumed with a flipped bit in byte {place}")
    said: list[str] = []
    training.resume(file, said.append)
    assert said == ["tiny/all/cnn-seed0: goes on after epoch 1"]
    os.truncate(file, 1 << 40)
    with pytest.raises(CheckpointError, match=r"cnn-seed0\.pt: cannot be read as a checkpoint.*OSError.; remove it"):
        training.resume(file, said.append)


# --- code in files ----------------------------------------------------------------------------------------------------


class Attack:
    """What unpickling runs."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


def test_the_attack_works_where_nothing_refuses_it(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Attack(tmp_path / "ran")))
    assert (tmp_path / "ran").is_dir()


@pytest.mark.fault(34)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_in_a_checkpoint_does_not_run(project: Path, tmp_path: Path) -> None:
    training, mark = training_of(project), tmp_path / "ran"
    torch.save({"configuration": "{}", "epochs": "[]", "net": Attack(mark)}, saved := io.BytesIO())
    for data in (saved.getvalue(), pickle.dumps(Attack(mark)), pickle.dumps(Attack(mark), protocol=0)):
        write_checkpoint(tmp_path / "c.pt", data)
        with pytest.raises(CheckpointError, match=r"c\.pt: cannot be read as a checkpoint, or holds more than numbers"):
            training.resume(tmp_path / "c.pt", lambda text: None)
    assert not mark.exists()


@pytest.mark.fault(34)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npy"])
def test_code_in_a_weight_file_does_not_run(suffix: str, project: Path, tmp_path: Path) -> None:
    mark, file = tmp_path / "ran", tmp_path / f"w{suffix}"
    np.save(objects := io.BytesIO(), np.array([Attack(mark)], object), allow_pickle=True)
    torch.save({"0.weight": Attack(mark)}, saved := io.BytesIO())
    recipe = Project(project).params.train.recipe(simulated=False)
    for data in (saved.getvalue(), pickle.dumps(Attack(mark)), objects.getvalue()):
        file.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"cannot be read as weights, or holds more than numbers"):
            build_model("cnn", recipe.model_copy(update={"weights": str(file)}), (1, 64, 128), 0)
    assert not mark.exists()


@pytest.mark.fault(34)
def test_code_in_yaml_does_not_run(project: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for tag in (
        f"!!python/object/apply:os.mkdir [{mark}]",
        f"!!python/object/new:os.mkdir [{mark}]",
        "!!python/name:os.system",
    ):
        for name in ("params.yaml", "pipelines/tiny.yaml"):
            file = project / name
            before = file.read_text()
            file.write_text(f"a: {tag}\n")
            with pytest.raises(ParameterError, match=r"yaml, line 1: could not determine a constructor"):
                read_yaml(file)
            with at(project):
                assert "could not determine a constructor" in run("build-shards", "--workers", 0, code=1).output
            file.write_text(before)
        record = read_trained(project / MODEL).record.model_copy(update={"pipeline_yaml": f"size: {tag}"})
        with pytest.raises(ParameterError, match=r"the pipeline of tiny/all/cnn-seed0, line 1: could not determine"):
            own_pipeline(record)
    assert not mark.exists()
