"""Small projects with a known truth, for the tests of the training stage."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from blake3 import blake3

from fvpipe.evaluation.training_record import (
    DIGESTS,
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    Run,
    TrainedRun,
    digest_line,
    read_trained,
)
from fvpipe.project.project import Project
from tests.conftest import run as command
from tests.support.factory import CC, LEFT, MLO, RIGHT, breast, mammogram

PIPELINE = {"size": [64, 128], "segment": {"method": "otsu_log"}}
RECIPE: dict[str, Any] = {
    "weights": "none", "lr": 0.002, "batch": 32, "epochs": 2, "min_epochs": 1,
    "cnn": {"batch_norm": True, "dropout": 0.0, "pooling": "global"},
}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """One breast of a simulated patient; left where the seed is even."""

    name: str
    label: int
    lesion: bool
    seed: int
    noise: float = 0.004
    extra: str = ""  # in file names, where a patient has a second breast


def patients(count: int, label: Callable[[int], int], lesion: Callable[[int], bool], **more: Any) -> list[Patient]:
    return [Patient(f"P{i:03d}", label(i), lesion(i), i, **more) for i in range(count)]


def make_project(
    folder: Path, sets: dict[str, list[Patient]], splits: dict[str, Any], recipe: dict[str, Any] | None = None
) -> Path:
    """Write DICOM, labels and settings, and build shards and splits with the real commands. Returns the folder."""
    for name, members in sets.items():
        rows = ["patient_id,laterality,label"]
        for p in members:
            side = (LEFT, RIGHT)[p.seed % 2]
            for view in (CC, MLO):
                image = breast(p.seed, view, side, (160, 128), lesion=p.lesion, noise=p.noise)
                tags = {
                    "PatientID": p.name,
                    "StudyInstanceUID": f"2.25.{1000 + p.seed}",
                    "view": view,
                    "ImageLaterality": side.value,
                }
                mammogram(
                    folder / "data" / name / f"{p.name}{p.extra}-{view}.dcm",
                    image,
                    SOPInstanceUID=_uid(name, p, view),
                    **tags,
                )
            rows.append(f"{p.name},{side.value},{p.label}")
        (folder / f"{name}.csv").write_text("\n".join(rows))
    (folder / "pipelines").mkdir(parents=True, exist_ok=True)
    (folder / "pipelines" / "tiny.yaml").write_text(yaml.safe_dump(PIPELINE))
    params = {
        "datasets": {n: {"adapter": "table", "made": True, "identifiers": "own", "label_file": f"{n}.csv"} for n in sets},
        "pipelines": ["tiny"],
        "shards": {"shard_count": 2},
        "splits": splits,
        "train": RECIPE | (recipe or {}),
        "runs": {"splits": list(splits), "models": ["cnn"], "seeds": [0]},
        "evaluate": {"bootstrap": 200},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    with at(folder):
        command("index", "--workers", 0)
        command("build-shards", "--workers", 0)
        command("split")
    return folder


def _uid(name: str, patient: Patient, view: str) -> str:
    return f"2.25.{int.from_bytes(f'{name}{patient.name}{patient.extra}{view}'.encode(), 'big')}"[:60]


def kill_and_resume(folder: Path, *options: str) -> None:
    """Train with ``fvpipe train``, kill -9 it after the second epoch, for real, and let it go on."""
    command = [sys.executable, "-m", "fvpipe", "train", "--split", "all", "--seed", "0", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "epoch 2," in line:
                process.send_signal(signal.SIGKILL)
                break
    assert not (folder / "cache" / "models").exists()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert re.search(r"goes on after epoch \d", done.stderr), done.stderr
    assert not list((folder / "cache" / "checkpoints").rglob("*.pt"))


class at:
    """Work in a folder for a while."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.before = Path.cwd()
        os.chdir(self.folder)

    def __exit__(self, *_: object) -> None:
        os.chdir(self.before)


def fit_digests(folder: Path) -> None:
    """Make the digests of a trained model those of its files as they are now."""
    lines = [digest_line(name, (folder / name).read_bytes()) for name in (WEIGHTS, PREDICTIONS, RECORD)]
    (folder / DIGESTS).write_text("".join(lines))


def write_checkpoint(path: Path, data: bytes) -> None:
    """Write a checkpoint whose digest fits."""
    path.write_bytes(blake3(data).digest() + data)


def train(
    folder: Path,
    split: str,
    model: str = "cnn",
    seed: int = 0,
    fresh: bool = False,
    pipeline: str = "tiny",
    device: str = "cpu",
    say: Callable[[str], None] = lambda text: None,
    **recipe: Any,
) -> TrainedRun:
    """Train in this process, with some of the recipe changed."""
    import torch

    from fvpipe.training.device import find_device
    from fvpipe.training.train import train_run

    torch.set_num_threads(1)
    project = Project(folder)
    plain = project.params.train.recipe(simulated=False)
    settings = type(plain).model_validate({**plain.model_dump(), **recipe})
    run = Run(pipeline, split, model, seed)
    train_run(project, run, settings, find_device(device), say, fresh)
    return read_trained(folder / "cache" / "models" / run.path)
