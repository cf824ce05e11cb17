"""Runs of one model on one split, as one: the seeds are averaged, the folds of a ``kfold`` split are joined."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate, Recipe
from fvpipe.errors import InputError
from fvpipe.evaluation.metrics.binary import compute_metrics
from fvpipe.evaluation.metrics.intervals import Estimate, bootstrap
from fvpipe.evaluation.training_record import Prediction, Record, TrainedRun, titled

Metrics = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]
"""Weights of shape (b, n) -> each metric, shape (b,)."""
MetricsOfScores = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], dict[str, NDArray[np.float64]]]
"""The same from probabilities and thresholds, each of shape (n,), and weights."""


@dataclass(frozen=True, slots=True, eq=False)
class PooledRuns:
    """The runs of one model on one split by one pipeline.

    Attributes
    ----------
    folds : tuple of TrainedRun
        The first seed of each fold, or of the only split.
    seeds : tuple of int
        The same in every fold.
    test : tuple of Prediction
        Predictions of the first seed; each breast is in the test part of one fold.
    scores, thresholds : float64 arrays, shape (seeds, n)
        Probabilities, and the thresholds that were frozen before the test.
    """

    runs: tuple[TrainedRun, ...]
    folds: tuple[TrainedRun, ...]
    seeds: tuple[int, ...]
    test: tuple[Prediction, ...]
    scores: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @staticmethod
    def of(runs: Sequence[TrainedRun]) -> PooledRuns:
        """Join seeds and folds.

        Raises
        ------
        InputError
            The seeds of a fold did not predict the same breasts, the folds have other seeds or breasts in common, a seed is
            there twice, runs were trained by different recipes, or labels were changed between them.
        """
        by_fold: dict[str, list[TrainedRun]] = defaultdict(list)
        for run in runs:
            by_fold[run.record.run.split].append(run)
        names = " and ".join(str(run.record.run) for run in runs)
        parts = [_tested(members, names) for members in by_fold.values()]
        folds, seeds = tuple(fold[0] for fold in by_fold.values()), [[r.record.run.seed for r in m] for m in by_fold.values()]
        if any(len(set(each)) < len(each) for each in seeds):
            raise InputError(f"{names}: a seed is there twice; name each model once")
        if any(other != seeds[0] for other in seeds):
            raise InputError(f"{names}: the folds were not trained with the same seeds; train the others too (`fvpipe train`)")
        if any(_recipe(fold.record) != _recipe(folds[0].record) for fold in folds):
            raise InputError(
                f"{names}: recipe, pipeline, initial weights or training code differ; train them again (`fvpipe train`)"
            )
        test = tuple(p for part in parts for p in part[0])
        if len({p.key for p in test}) < len(test):
            raise InputError(f"{names}: a breast is tested in two folds, so these are of two splits; train them again")
        label_of = _labels(runs[:1])
        if any(_relabelled(label_of, _labels([run])) for run in runs):
            raise InputError(f"{names}: a breast has another label in each; train them again (`fvpipe train`)")
        of_folds = [np.array([[p.probability for p in one] for one in part], np.float64) for part in parts]
        cuts = [[r.record.threshold for r in m] for m in by_fold.values()]
        thresholds = np.repeat(np.array(cuts, np.float64).T, [len(part[0]) for part in parts], axis=1)
        return PooledRuns(tuple(runs), folds, tuple(seeds[0]), test, np.concatenate(of_folds, axis=1), thresholds)

    @property
    def record(self) -> Record:
        """Record of the first run."""
        return self.runs[0].record

    @property
    def key(self) -> tuple[str, str, str]:
        """Pipeline, split and model."""
        return _key(self.record)

    @property
    def title(self) -> str:
        """The key, marked where its data are simulated, or where folds are missing."""
        return titled(" / ".join(self.key), self.record.simulated) + self.missing_folds

    @property
    def untested(self) -> int:
        """Number of breasts of a ``kfold`` split that no fold here tests; 0 of all other splits."""
        return len(_labels(self.folds)) - len(self.test) if self.record.setting == "kfold" else 0

    @property
    def missing_folds(self) -> str:
        """Note that only some folds are here; empty where all are."""
        folds = ", ".join(fold.record.run.split for fold in self.folds)
        return f", of {folds} ALONE: {self.untested} breasts of the split are not tested" if self.untested else ""

    @property
    def truth(self) -> NDArray[np.int64]:
        """Labels of the test breasts, shape (n,)."""
        return np.array([p.label for p in self.test], np.int64)

    @property
    def mean_scores(self) -> NDArray[np.float64]:
        """Mean probability over the seeds, shape (n,)."""
        mean: NDArray[np.float64] = self.scores.mean(axis=0)
        return mean

    @property
    def patients(self) -> list[tuple[str, str]]:
        """Data set and patient of each test breast."""
        return [(p.dataset, p.patient_id) for p in self.test]

    @property
    def by_patient(self) -> PooledRuns:
        """One row a patient: malignant if any of its test breasts is, with the greatest of their probabilities."""
        owners, owner = np.unique([repr(patient) for patient in self.patients], return_inverse=True)
        members = [np.flatnonzero(owner == i) for i in range(len(owners))]
        test = tuple(replace(self.test[own[0]], label=int(self.truth[own].max())) for own in members)
        scores = np.stack([self.scores[:, own].max(axis=1) for own in members], axis=1)
        return replace(self, test=test, scores=scores, thresholds=self.thresholds[:, [own[0] for own in members]])

    def mean(self, of_scores: MetricsOfScores) -> Metrics:
        """Return a function from weights to each metric's mean over the seeds."""

        def mean(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            each = [of_scores(s, t, weights) for s, t in zip(self.scores, self.thresholds, strict=True)]
            return {name: np.mean([one[name] for one in each], axis=0) for name in each[0]}

        return mean

    def metrics(self, bins: int, frozen: bool = False) -> Metrics:
        """Return a function from weights to each metric's mean; `frozen`: at the thresholds of the validation parts."""
        truth = self.truth
        return self.mean(lambda s, t, w: compute_metrics(truth, s, t if frozen else 0.5, w, bins))

    def estimates(self, metrics: Metrics, settings: Evaluate) -> dict[str, Estimate]:
        """Each metric with its interval, by resampled patients."""
        return bootstrap(metrics, self.patients, settings.bootstrap, settings.seed)

    def part(self, chosen: NDArray[np.int64]) -> PooledRuns:
        """Some of the test breasts."""
        test = tuple(self.test[i] for i in chosen)
        return replace(self, test=test, scores=self.scores[:, chosen], thresholds=self.thresholds[:, chosen])


def _tested(seeds: Sequence[TrainedRun], names: str) -> list[tuple[Prediction, ...]]:
    """Test predictions of the seeds of one fold."""
    parts = [run.part("test") for run in seeds]
    keys = [[(p.key, p.label) for p in part] for part in parts]
    if any(other != keys[0] for other in keys):
        raise InputError(f"{names}: did not predict the same breasts; train them again (`fvpipe train`)")
    alike = [(*_recipe(run.record), run.record.parts, run.record.split_digest) for run in seeds]
    if any(other != alike[0] for other in alike):
        raise InputError(
            f"{names}: recipe, split, pipeline, initial weights or training code differ; train them again (`fvpipe train`)"
        )
    return parts


Labels = dict[tuple[str, str], int]
"""Label of each breast, by data set and breast."""


def _labels(runs: Sequence[TrainedRun]) -> Labels:
    return {p.key: p.label for run in runs for p in run.predictions}


def _relabelled(first: Labels, second: Labels) -> list[tuple[str, str]]:
    """Breasts of both that have another label in each."""
    return [breast for breast, label in first.items() if second.get(breast, label) != label]


def _recipe(record: Record) -> tuple[object, ...]:
    """All that runs must share for their mean to describe one model."""
    return record.recipe, record.weights, record.pipeline_digest, record.preprocessing_version, record.code


def _key(record: Record) -> tuple[str, str, str]:
    split = re.sub(r"-fold\d+$", "", record.run.split) if record.setting == "kfold" else record.run.split
    return record.run.pipeline, split, record.run.model


def pool_runs(trained: Sequence[TrainedRun]) -> list[PooledRuns]:
    """Pool the seeds and folds of each (pipeline, split, model), in the order of `trained`."""
    groups: dict[tuple[str, str, str], list[TrainedRun]] = defaultdict(list)
    for run in trained:
        groups[_key(run.record)].append(run)
    return [PooledRuns.of(group) for group in groups.values()]


def on_common_breasts(first: PooledRuns, second: PooledRuns) -> tuple[PooledRuns, PooledRuns]:
    """Both on the test breasts that both have, in the order of the first."""
    place = {p.key: i for i, p in enumerate(second.test)}
    pairs = [(i, place[p.key]) for i, p in enumerate(first.test) if p.key in place]
    mine, theirs = np.array(pairs, np.int64).reshape(-1, 2).T
    return first.part(mine), second.part(theirs)


# --- what two of them differ in ---------------------------------------------------------------------------------------


Differences = dict[str, tuple[Any, Any]]
"""Name of a setting -> its value in the first and in the second; None where one does not have it."""


def training_differences(first: PooledRuns, second: PooledRuns) -> Differences:
    """Compare all but pipeline and model: where anything differs, a difference of metrics has no meaning."""

    def facts(pool: PooledRuns) -> dict[str, Any]:
        same_model = {"initial weights": pool.record.weights} if first.key[2] == second.key[2] else {}
        splits = {f.record.run.split: f.record.split_digest[:12] for f in pool.folds}
        versions = {"preprocessing version": pool.record.preprocessing_version, "training code": pool.record.code[:12]}
        return {**same_model, "seeds": list(pool.seeds), "split": splits, **versions}

    labels = _labels(first.folds), _labels(second.folds)
    changed = _relabelled(*labels)
    one, two = (f"{sum(each[breast] for breast in changed)} malignant" for each in labels)
    found = recipe_differences(first.record.recipe, second.record.recipe) | _differences(facts(first), facts(second))
    return found | ({f"labels of {len(changed)} breasts,": (one, two)} if changed else {})


def recipe_differences(first: Recipe, second: Recipe) -> Differences:
    """Compare the settings of two trainings, by their names in ``params.yaml``."""
    return _differences(*(_flat(recipe.model_dump(mode="json"), "train.") for recipe in (first, second)))


def pipeline_differences(first: PooledRuns, second: PooledRuns) -> Differences:
    """Compare the settings of two pipelines."""
    return _differences(*(_flat(pool.record.pipeline.model_dump(mode="json")) for pool in (first, second)))


def _flat(settings: dict[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        flat |= _flat(value, f"{above}{name}.") if isinstance(value, dict) else {above + name: value}
    return flat


def _differences(first: dict[str, Any], second: dict[str, Any]) -> Differences:
    pairs = {name: (first.get(name), second.get(name)) for name in {**first, **second}}
    return {name: (one, two) for name, (one, two) in pairs.items() if one != two}


def differences_text(differences: Differences) -> list[str]:
    """Format differences as `name one and two`."""
    return [f"{name} {one} and {two}" for name, (one, two) in differences.items()]
