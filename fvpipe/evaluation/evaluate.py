"""Predictions -> figures, with intervals, subgroups and floors. Pure numpy: no model is needed, nor torch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate
from fvpipe.errors import InputError
from fvpipe.evaluation.intervals import bootstrap, compare_auc
from fvpipe.evaluation.metrics import FIGURES, Confusion, figures
from fvpipe.evaluation.record import Prediction, Trained, labels, probabilities
from fvpipe.evaluation.shortcuts import floors

Figures = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The seeds of one model on one split by one pipeline: the same breasts, predicted once a seed.

    Attributes
    ----------
    runs : tuple of Trained
    test : tuple of Prediction
        Of the first seed; the breasts are the same in all.
    scores : float64, (seeds, n)
    """

    runs: tuple[Trained, ...]
    test: tuple[Prediction, ...]
    scores: NDArray[np.float64]

    @staticmethod
    def of(runs: Sequence[Trained]) -> Pool:
        """Join the seeds.

        Raises
        ------
        InputError
            They did not predict the same breasts, or were trained by different recipes.
        """
        parts = [run.part("test") for run in runs]
        keys = [[(p.dataset, p.breast_id, p.label) for p in part] for part in parts]
        if any(other != keys[0] for other in keys):
            names = " and ".join(str(run.record.run) for run in runs)
            raise InputError(f"{names}: did not predict the same breasts; train them again (`fvpipe train`)")
        if any(_recipe(run) != _recipe(runs[0]) for run in runs):
            names = " and ".join(str(run.record.run) for run in runs)
            raise InputError(f"{names}: were not trained alike (recipe, pipeline or first weights); train them again")
        return Pool(tuple(runs), parts[0], np.array([probabilities(part) for part in parts]))

    @property
    def truth(self) -> NDArray[np.int64]:
        """(n,)."""
        return labels(self.test)

    @property
    def patients(self) -> list[tuple[str, str]]:
        """Whose breast each is."""
        return [(p.dataset, p.patient_id) for p in self.test]

    def figures(self, bins: int, chosen: NDArray[np.int64] | slice = slice(None), frozen: bool = False) -> Figures:
        """Weights -> the mean over the seeds of each figure; `frozen`: at each seed's own threshold."""
        cuts = [run.record.threshold if frozen else 0.5 for run in self.runs]
        truth, scores = self.truth[chosen], self.scores[:, chosen]

        def mean(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            each = [figures(truth, s, t, weights, bins) for s, t in zip(scores, cuts, strict=True)]
            return {name: np.mean([one[name] for one in each], axis=0) for name in FIGURES}

        return mean

    @property
    def key(self) -> tuple[str, str, str]:
        """Pipeline, split and model."""
        run = self.runs[0].record.run
        return run.pipeline, run.split, run.model


def _recipe(run: Trained) -> tuple[object, ...]:
    """Whatever seeds must share for their mean to be one model's."""
    record = run.record
    return record.recipe, record.weights, record.pipeline_digest, record.preprocessing_version, record.parts


def pools(trained: Sequence[Trained]) -> list[Pool]:
    """One a (pipeline, split, model), in the order of `trained`."""
    groups: dict[tuple[str, str, str], list[Trained]] = defaultdict(list)
    for run in trained:
        groups[run.record.run.pipeline, run.record.run.split, run.record.run.model].append(run)
    return [Pool.of(group) for group in groups.values()]


def evaluate(trained: Sequence[Trained], settings: Evaluate) -> dict[str, Any]:
    """Judge finished trainings.

    Returns
    -------
    dict
        ``{"rows": [...], "comparisons": [...]}``, plain values: a row a (pipeline, split, model), seeds pooled; a comparison
        each two models on the same pipeline and split.
    """
    pooled = pools(trained)
    return {"rows": [row(pool, settings) for pool in pooled], "comparisons": comparisons(pooled)}


def row(pool: Pool, settings: Evaluate) -> dict[str, Any]:
    """Everything that is said of one (pipeline, split, model)."""
    first = pool.runs[0].record
    found = bootstrap(pool.figures(settings.bins), pool.patients, settings.bootstrap, settings.seed)
    frozen = bootstrap(pool.figures(settings.bins, frozen=True), pool.patients, settings.bootstrap, settings.seed)
    counts = [Confusion.of(pool.truth, scores >= 0.5) for scores in pool.scores]
    train = pool.runs[0].part("train")
    shortcuts = floors(train, pool.test)
    return {
        "pipeline": first.run.pipeline,
        "setting": first.setting,
        "split": first.run.split,
        "model": first.run.model,
        "made": first.made,
        "seeds": [run.record.run.seed for run in pool.runs],
        "breasts": len(pool.test),
        "malignant": int(pool.truth.sum()),
        "patients": len(set(pool.patients)),
        "dropped": first.dropped,
        **{name: sum(getattr(c, name) for c in counts) for name in ("tp", "fp", "fn", "tn")},
        **{name: found[name].value for name in FIGURES},
        "intervals": {name: [found[name].low, found[name].high] for name in FIGURES},
        "undefined_replicates": {name: found[name].undefined for name in FIGURES if found[name].undefined},
        "best_epochs": [run.record.best_epoch for run in pool.runs],
        "at_frozen_threshold": {
            "thresholds": [run.record.threshold for run in pool.runs],
            **{name: asdict(frozen[name]) for name in ("accuracy", "precision", "recall", "specificity", "f1")},
        },
        "benign_positive": {
            name: _mean([getattr(c.swapped, name) for c in counts]) for name in ("precision", "recall", "specificity", "f1")
        },
        "floors": shortcuts,
        "above_floors": _above(pool, shortcuts, found["auc"].value),
        "calibration": calibration(pool, settings.bins),
        "subgroups": subgroups(pool, settings),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if len(present) == len(values) else None


def calibration(pool: Pool, bins: int) -> list[dict[str, Any]]:
    """How many of the breasts with about this probability are malignant; all seeds together."""
    scores, truth = pool.scores.ravel(), np.tile(pool.truth, len(pool.scores))
    places = np.minimum((scores * bins).astype(int), bins - 1)
    return [
        {
            "from": k / bins,
            "to": (k + 1) / bins,
            "predictions": int(inside.sum()),
            "mean_probability": float(scores[inside].mean()),
            "share_malignant": float(truth[inside].mean()),
        }
        for k in range(bins)
        for inside in [places == k]
        if inside.any()
    ]


def _above(pool: Pool, shortcuts: list[dict[str, Any]], auc: float | None) -> dict[str, Any] | None:
    """The model's AUC (seeds' mean probability) against the best shortcut's, by DeLong; None where there is none to compare."""
    scored = [floor for floor in shortcuts if floor["auc"] is not None]
    best = max(scored, key=lambda floor: floor["auc"], default=None)
    difference = None if best is None else compare_auc(pool.truth, pool.scores.mean(axis=0), best["scores"])
    for floor in shortcuts:
        del floor["scores"]
    if best is None or difference is None or auc is None:
        return None
    return {"shortcut": best["shortcut"], "proved": difference.low > 0, **asdict(difference)}


# --- subgroups and comparisons ----------------------------------------------------------------------------------------

GROUPS: dict[str, Callable[[Prediction], str]] = {
    "data set": lambda p: p.dataset,
    "views": lambda p: p.views,
    "density": lambda p: p.density or "unknown",
    "age": lambda p: f"{int(p.age) // 10 * 10} to {int(p.age) // 10 * 10 + 9}" if p.age else "unknown",
    "vendor and size": lambda p: f"{p.manufacturer or 'vendor unknown'} {p.size}",
}


def subgroups(pool: Pool, settings: Evaluate) -> list[dict[str, Any]]:
    """Figures of each group of test breasts; of small ones nothing is shown but that they are small."""
    found = []
    for by, kind in GROUPS.items():
        kinds = [kind(breast) for breast in pool.test]
        for group in sorted(set(kinds)):
            chosen = np.flatnonzero([k == group for k in kinds])
            entry: dict[str, Any] = {"by": by, "group": group, "breasts": len(chosen)}
            if len(chosen) < settings.smallest_group:
                entry |= {"breasts": None, "suppressed": f"fewer than {settings.smallest_group} breasts"}
            else:
                patients = [pool.patients[i] for i in chosen]
                estimates = bootstrap(pool.figures(settings.bins, chosen), patients, settings.bootstrap, settings.seed)
                entry |= {name: asdict(estimates[name]) for name in ("auc", "recall", "specificity", "brier", "ece")}
            found.append(entry)
    return found


def comparisons(pooled: Sequence[Pool]) -> list[dict[str, Any]]:
    """DeLong's test between models that saw the same pipeline and split; seeds by their mean probability."""
    found = []
    for a, b in combinations(pooled, 2):
        same = [(p.dataset, p.breast_id) for p in a.test] == [(p.dataset, p.breast_id) for p in b.test]
        if a.key[:2] == b.key[:2] and same:
            difference = compare_auc(a.truth, a.scores.mean(axis=0), b.scores.mean(axis=0))
            names = {"pipeline": a.key[0], "split": a.key[1], "first_model": a.key[2], "second_model": b.key[2]}
            found.append({**names, "made": a.runs[0].record.made, "auc": difference and asdict(difference)})
    return found
