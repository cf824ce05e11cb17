"""Finished trainings that nobody trained: a record and predictions with a known truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from fvpipe.config.pipeline import Pipeline
from fvpipe.config.training import Recipe
from fvpipe.evaluation.training_record import ClassCounts, Epoch, Prediction, Record, Run, TrainedRun
from fvpipe.versions import PREPROCESSING_VERSION

CROPPED = {"segment": {"method": "otsu_log"}}
PIPELINES = {
    "cropped": CROPPED,
    "direct": {},
    "cc": CROPPED | {"fuse": {"layout": "cc"}},
    "channels": CROPPED | {"fuse": {"layout": "channels"}, "size": (64, 64)},
    "letterbox": CROPPED | {"resize": {"aspect": "letterbox"}, "size": (64, 64)},
    "adaptive": CROPPED | {"fuse": {"align": "each"}, "resize": {"method": "equal_area"}},
    "fine": CROPPED | {"fuse": {"layout": "mlo"}, "size": (512, 512)},
}


def breasts(patients: int, seed: int = 0, signal: float = 1.0, dataset: str = "a", first: int = 0) -> list[Prediction]:
    """Test breasts, two a patient; every third patient has a malignant one; some training breasts beside them."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(first, first + patients):
        for side in "LR":
            label = int(i % 3 == 0 and side == "L")
            score = float(1 / (1 + np.exp(-(signal * (2 * label - 1) + rng.normal()))))
            names = dataset, f"P{i}_{side}", f"P{i}"
            facts = "CC+MLO", "ABCD"[i % 2], str(45 + i % 20), "Vendor" if i % 4 else "", "9x9"
            found.append(Prediction(*names, "test", label, score, *facts))
            found.append(Prediction(dataset, f"T{i}_{side}", f"T{i}", "train", label, None, *facts))
    return found


def made(run: Run, predictions: list[Prediction], setting: str = "unseen", **changes: Any) -> TrainedRun:
    """A record around predictions."""
    pipeline = Pipeline.model_validate(PIPELINES.get(run.pipeline, CROPPED))
    labels = {part: [p.label for p in predictions if p.part == part] for part in ("train", "validation", "test")}
    parts = {part: ClassCounts(benign=found.count(0), malignant=found.count(1)) for part, found in labels.items()}
    epochs = tuple(Epoch(lr=1e-4, loss=0.6, validation_loss=0.6, validation_auc=0.7) for _ in range(3))
    facts: dict[str, Any] = {
        "run": run, "setting": setting, "split_digest": f"digest of {run.split}", "datasets": ("a",), "licenses": {"a": "free"},
        "adapters": {"a": "vindr"}, "made": True, "pipeline_yaml": pipeline.canonical_yaml(),
        "pipeline_digest": pipeline.digest(), "preprocessing_version": PREPROCESSING_VERSION,
        "image_shape": (1, *pipeline.size), "shards": {"a": "d"}, "parts": parts, "dropped": {},
        "recipe": Recipe(weights="none"), "weights": "random", "parameters": 1000, "epochs": epochs, "best_epoch": 2,
        "threshold": 0.4, "device": "cpu", "torch": "2.0", "configuration": "c", "code": "0" * 64,
    }  # fmt: skip
    return TrainedRun(Record(**{**facts, **changes}), tuple(predictions))
