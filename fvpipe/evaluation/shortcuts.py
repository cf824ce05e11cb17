"""Shortcut baselines: what would be scored without looking at an image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.evaluation.metrics import Confusion, roc_auc
from fvpipe.evaluation.record import Prediction, labels

# --- what needs no image --------------------------------------------------------------------------------------------

SHORTCUTS: dict[str, Callable[[Prediction], str]] = {
    "data-set identity": lambda p: p.dataset,
    "patient id prefix": lambda p: p.patient_id.partition("-")[0] if p.patient_id[2:3] == "-" else "",
    "image size": lambda p: p.size,
    "manufacturer": lambda p: p.manufacturer,
}


def floors(train: Sequence[Prediction], test: Sequence[Prediction]) -> list[dict[str, Any]]:
    """What shortcuts score on the test part, fitted like a model on the training part alone."""
    learnt, truth = labels(train), labels(test)
    share = float(learnt.mean())
    found = [
        {"shortcut": "all malignant", **_floor(truth, np.ones(len(truth)), decides=True)},
        {"shortcut": "majority class of training", **_floor(truth, np.full(len(truth), float(share >= 0.5)), decides=True)},
    ]
    for name, kind in SHORTCUTS.items():
        counts: dict[str, list[int]] = defaultdict(list)
        for breast, label in zip(train, learnt, strict=True):
            counts[kind(breast)].append(int(label))
        shares = {value: float(np.mean(labelled)) for value, labelled in counts.items()}
        score = np.array([shares.get(kind(breast), share) for breast in test])
        if len(set(score)) > 1:
            found.append({"shortcut": name, **_floor(truth, score, decides=True)})
    if all(p.age for p in (*train, *test)):
        age = np.array([float(p.age) for p in test])
        fitted = roc_auc(learnt, [float(p.age) for p in train])
        older = fitted is None or fitted >= 0.5  # its direction is the only thing that is fitted
        found.append({"shortcut": "age", **_floor(truth, age if older else -age, decides=False)})
    return found


def _floor(truth: NDArray[np.int64], score: NDArray[np.float64], decides: bool) -> dict[str, Any]:
    counts = Confusion.of(truth, score >= 0.5)
    return {
        "accuracy": counts.accuracy if decides else None,
        "f1": counts.f1 if decides else None,
        "auc": roc_auc(truth, score) if len(set(score)) > 1 else None,
        "scores": score,
    }
