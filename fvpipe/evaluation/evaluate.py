"""Predictions -> metrics with intervals, subgroups and shortcut baselines. Numpy alone: neither a model nor torch is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate
from fvpipe.errors import InputError
from fvpipe.evaluation.intervals import AucDifference, Estimate, bootstrap, compare_auc
from fvpipe.evaluation.metrics import DECISION_METRICS, METRICS, Confusion, compute_metrics, defined
from fvpipe.evaluation.shortcuts import OF_PREDICTIONS, Baseline, shortcut_baselines
from fvpipe.evaluation.text import MetricRow, difference_text, estimate_rows, metric_table, shown, to_json
from fvpipe.evaluation.training_record import Prediction, Record, TrainedRun, labels, probabilities, titled

Metrics = Callable[[NDArray[np.float64]], dict[str, NDArray[np.float64]]]


@dataclass(frozen=True, slots=True, eq=False)
class PooledRuns:
    """The seeds of one model on one split by one pipeline, which predicted the same breasts.

    Attributes
    ----------
    test : tuple of Prediction
        Predictions of the first seed.
    scores : float64 array, shape (seeds, n)
        Probabilities of all seeds.
    """

    runs: tuple[TrainedRun, ...]
    test: tuple[Prediction, ...]
    scores: NDArray[np.float64]

    @staticmethod
    def of(runs: Sequence[TrainedRun]) -> PooledRuns:
        """Join the seeds.

        Raises
        ------
        InputError
            They did not predict the same breasts, or were trained by different recipes.
        """
        parts = [run.part("test") for run in runs]
        keys = [[(p.dataset, p.breast_id, p.label) for p in part] for part in parts]
        names = " and ".join(str(run.record.run) for run in runs)
        if any(other != keys[0] for other in keys):
            raise InputError(f"{names}: did not predict the same breasts; train them again (`fvpipe train`)")
        if any(_recipe(run.record) != _recipe(runs[0].record) for run in runs):
            raise InputError(f"{names}: recipe, pipeline or initial weights differ; train them again (`fvpipe train`)")
        return PooledRuns(tuple(runs), parts[0], np.array([probabilities(part) for part in parts]))

    @property
    def record(self) -> Record:
        """Record of the first seed."""
        return self.runs[0].record

    @property
    def key(self) -> tuple[str, str, str]:
        """Pipeline, split and model."""
        return self.record.run.pipeline, self.record.run.split, self.record.run.model

    @property
    def title(self) -> str:
        """The key, marked where its data are simulated."""
        return titled(" / ".join(self.key), self.record.simulated)

    @property
    def truth(self) -> NDArray[np.int64]:
        """Labels of the test breasts, shape (n,)."""
        return labels(self.test)

    @property
    def mean_scores(self) -> NDArray[np.float64]:
        """Mean probability over the seeds, shape (n,)."""
        mean: NDArray[np.float64] = self.scores.mean(axis=0)
        return mean

    @property
    def patients(self) -> list[tuple[str, str]]:
        """Data set and patient of each test breast."""
        return [(p.dataset, p.patient_id) for p in self.test]

    def metrics(self, bins: int, chosen: NDArray[np.int64] | slice = slice(None), frozen: bool = False) -> Metrics:
        """Return a function from weights to each metric's mean over the seeds; `frozen`: at each seed's own threshold."""
        cuts = [run.record.threshold if frozen else 0.5 for run in self.runs]
        truth, scores = self.truth[chosen], self.scores[:, chosen]

        def mean(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
            each = [compute_metrics(truth, s, t, weights, bins) for s, t in zip(scores, cuts, strict=True)]
            return {name: np.mean([one[name] for one in each], axis=0) for name in METRICS}

        return mean


def _recipe(record: Record) -> tuple[object, ...]:
    """All that seeds must share for their mean to describe one model."""
    return record.recipe, record.weights, record.pipeline_digest, record.preprocessing_version, record.parts


def pool_runs(trained: Sequence[TrainedRun]) -> list[PooledRuns]:
    """Pool the seeds of each (pipeline, split, model), in the order of `trained`."""
    groups: dict[tuple[str, str, str], list[TrainedRun]] = defaultdict(list)
    for run in trained:
        groups[run.record.run.pipeline, run.record.run.split, run.record.run.model].append(run)
    return [PooledRuns.of(group) for group in groups.values()]


# --- results ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BaselineComparison(AucDifference):
    """AUC of a model (`first`) and of its best shortcut baseline (`second`); `proved`: higher at the 95 % level."""

    shortcut: str
    proved: bool


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Predictions with probabilities from `start` to `stop`."""

    start: float
    stop: float
    predictions: int
    mean_probability: float
    share_malignant: float


@dataclass(frozen=True, slots=True)
class Subgroup:
    """Metrics of a group of test breasts; where they are too few to be shown, `suppressed` says so and `breasts` is None."""

    by: str
    group: str
    breasts: int | None
    metrics: dict[str, Estimate]
    suppressed: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        shown = {"suppressed": self.suppressed} if self.suppressed else to_json(self.metrics)
        return {"by": self.by, "group": self.group, "breasts": self.breasts, **shown}


@dataclass(frozen=True, slots=True, eq=False)
class ModelEvaluation:
    """Results of one (pipeline, split, model), seeds pooled.

    Attributes
    ----------
    metrics, frozen : dict of str to Estimate
        At the threshold 0.5, and at the thresholds chosen on the validation part.
    counts : Confusion
        Decisions at 0.5, added over the seeds.
    benign_positive : dict of str to float or None
        Metrics with benign as the positive class.
    above : BaselineComparison or None
        None where no baseline has an AUC.
    """

    pool: PooledRuns
    metrics: dict[str, Estimate]
    frozen: dict[str, Estimate]
    counts: Confusion
    benign_positive: dict[str, float | None]
    baselines: list[Baseline]
    above: BaselineComparison | None
    calibration: list[CalibrationBin]
    subgroups: list[Subgroup]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        pool, record = self.pool, self.pool.record
        return {
            "pipeline": record.run.pipeline,
            "setting": record.setting,
            "split": record.run.split,
            "model": record.run.model,
            "made": record.simulated,
            "seeds": [run.record.run.seed for run in pool.runs],
            "breasts": len(pool.test),
            "malignant": int(pool.truth.sum()),
            "patients": len(set(pool.patients)),
            "dropped": record.dropped,
            **{name: int(count) for name, count in to_json(self.counts).items()},
            **{name: found.value for name, found in self.metrics.items()},
            "intervals": {name: [found.low, found.high] for name, found in self.metrics.items()},
            "undefined_replicates": {name: found.undefined for name, found in self.metrics.items() if found.undefined},
            "best_epochs": [run.record.best_epoch for run in pool.runs],
            "at_frozen_threshold": {"thresholds": [run.record.threshold for run in pool.runs], **to_json(self.frozen)},
            "benign_positive": self.benign_positive,
            "floors": to_json(self.baselines),
            "above_floors": to_json(self.above),
            "calibration": to_json(self.calibration),
            "subgroups": to_json(self.subgroups),
        }

    def to_text(self) -> str:
        """Tables for a terminal: metrics with intervals, shortcut baselines, subgroups."""
        baselines: list[MetricRow] = [(f"  {one.shortcut}", to_json(one), 3) for one in self.baselines]
        lines = [
            metric_table(self.pool.title, estimate_rows(f"{len(self.pool.test)} test breasts", self.metrics)),
            metric_table("  Without an image:", baselines, ("accuracy", "f1", "auc")),
        ]
        if self.above:
            verdict = "above" if self.above.proved else "NOT PROVED ABOVE"
            lines.append(f"  {verdict} the baseline '{self.above.shortcut}': AUC {difference_text(self.above)}")
        for group in self.subgroups:
            if not group.suppressed:
                auc = group.metrics["auc"]
                interval = f"{shown(auc.low)} to {shown(auc.high)}"
                lines.append(f"  {group.by} {group.group}: {group.breasts} breasts, AUC {shown(auc.value)} ({interval})")
        if hidden := sum(bool(group.suppressed) for group in self.subgroups):
            lines.append(f"  {hidden} subgroups too small to show")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """DeLong's test of two models on the same breasts; None where a class has fewer than two."""

    pipeline: str
    split: str
    first_model: str
    second_model: str
    simulated: bool
    auc: AucDifference | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results of all models, and comparisons of each two on the same pipeline and split."""

    rows: list[ModelEvaluation]
    comparisons: list[ModelComparison]

    def to_metric(self) -> dict[str, Any]:
        """Nested numbers for ``dvc metrics``."""
        return nested_metrics(self.rows)

    def to_text(self) -> str:
        """Tables for a terminal."""
        blocks = [one.to_text() for one in self.rows]
        for pair in self.comparisons:
            if pair.auc:
                p = "variance 0" if pair.auc.p is None else f"p {pair.auc.p:.3f}"
                title = titled(f"{pair.pipeline} / {pair.split}", pair.simulated)
                models = f"{pair.first_model} less {pair.second_model}"
                blocks.append(f"{title}\n  AUC of {models}: {difference_text(pair.auc)}, {p}")
        blocks += different_tests(row.pool for row in self.rows)
        return "\n\n".join(blocks)


def different_tests(pooled: Iterable[PooledRuns]) -> list[str]:
    """Name the splits whose pipelines were tested on different breasts: their rows are not to be compared as they stand."""
    tested: dict[tuple[str, bool], dict[str, set[tuple[str, str]]]] = defaultdict(dict)
    for pool in pooled:
        breasts = {(p.dataset, p.breast_id) for p in pool.test}
        tested[pool.key[1], pool.record.simulated].setdefault(pool.key[0], breasts)
    lines = []
    for (split, simulated), pipelines in tested.items():
        if len(set(map(frozenset, pipelines.values()))) > 1:
            counts = ", ".join(f"{name} {len(breasts)}" for name, breasts in pipelines.items())
            shared = len(set.intersection(*pipelines.values()))
            lines.append(
                f"{titled(split, simulated)}: its pipelines were tested on different breasts\n"
                f"  ({counts}; {shared} on all): compare differences on the same breasts only"
            )
    return lines


def nested_metrics(rows: Iterable[ModelEvaluation]) -> dict[str, Any]:
    """Nest the metrics by pipeline, split and model, for ``dvc metrics``."""
    nested: dict[str, Any] = {}
    for one in rows:
        pipeline, split, model = one.pool.key
        values = {name: found.value for name, found in one.metrics.items() if found.value is not None}
        nested.setdefault(pipeline, {}).setdefault(titled(split, one.pool.record.simulated), {})[model] = values
    return nested


# --- from predictions to results --------------------------------------------------------------------------------------


def evaluate(trained: Sequence[TrainedRun], settings: Evaluate) -> Evaluation:
    """Evaluate finished trainings."""
    pooled = pool_runs(trained)
    return Evaluation([evaluate_model(pool, settings) for pool in pooled], compare_models(pooled))


def evaluate_model(pool: PooledRuns, settings: Evaluate) -> ModelEvaluation:
    """Compute all results of one (pipeline, split, model)."""
    metrics, frozen = (
        bootstrap(pool.metrics(settings.bins, frozen=at_own), pool.patients, settings.bootstrap, settings.seed)
        for at_own in (False, True)
    )
    counts = [Confusion.of(pool.truth, scores >= 0.5) for scores in pool.scores]
    baselines = shortcut_baselines(pool.runs[0].part("train"), pool.test, OF_PREDICTIONS, lambda p: p.label)
    baselines = [b for b in baselines if b.auc is None or len(set(b.scores)) > 1]  # a constant score ranks nothing
    return ModelEvaluation(
        pool,
        metrics,
        {name: frozen[name] for name in DECISION_METRICS},
        Confusion(*(sum(getattr(one, cell) for one in counts) for cell in ("tp", "fp", "fn", "tn"))),
        {name: defined(np.mean([one.swapped.metrics()[name] for one in counts])) for name in DECISION_METRICS[1:]},
        baselines,
        _compare_with_best(pool, baselines) if metrics["auc"].value is not None else None,
        calibration(pool, settings.bins),
        subgroups(pool, settings),
    )


def calibration(pool: PooledRuns, bins: int) -> list[CalibrationBin]:
    """Compare probability and share of malignant breasts in equal intervals of the probability, all seeds together."""
    scores, truth = pool.scores.ravel(), np.tile(pool.truth, len(pool.scores))
    places = np.minimum((scores * bins).astype(int), bins - 1)
    return [
        CalibrationBin(k / bins, (k + 1) / bins, int(inside.sum()), float(scores[inside].mean()), float(truth[inside].mean()))
        for k in range(bins)
        for inside in [places == k]
        if inside.any()
    ]


def _compare_with_best(pool: PooledRuns, baselines: Sequence[Baseline]) -> BaselineComparison | None:
    """Compare the mean probability of the seeds with the scores of the baseline of the highest AUC, by DeLong's test."""
    best = max((b for b in baselines if b.auc is not None), key=lambda b: b.auc or 0.0, default=None)
    difference = None if best is None else compare_auc(pool.truth, pool.mean_scores, best.scores)
    if best is None or difference is None:
        return None
    return BaselineComparison(**asdict(difference), shortcut=best.shortcut, proved=difference.low > 0)


GROUPS: dict[str, Callable[[Prediction], str]] = {
    "data set": lambda p: p.dataset,
    "views": lambda p: p.views,
    "density": lambda p: p.density or "unknown",
    "age": lambda p: f"{int(p.age) // 10 * 10} to {int(p.age) // 10 * 10 + 9}" if p.age else "unknown",
    "vendor and size": lambda p: f"{p.manufacturer or 'vendor unknown'} {p.size}",
}


def subgroups(pool: PooledRuns, settings: Evaluate) -> list[Subgroup]:
    """Compute the metrics of each group of test breasts that is large enough to be shown."""
    found = []
    for by, group_of in GROUPS.items():
        groups = np.array([group_of(breast) for breast in pool.test])
        for group in np.unique(groups).tolist():
            chosen = np.flatnonzero(groups == group)
            if len(chosen) < settings.smallest_group:
                found.append(Subgroup(by, group, None, {}, f"fewer than {settings.smallest_group} breasts"))
                continue
            patients = [pool.patients[i] for i in chosen]
            estimates = bootstrap(pool.metrics(settings.bins, chosen), patients, settings.bootstrap, settings.seed)
            shown = {name: estimates[name] for name in ("auc", "recall", "specificity", "brier", "ece")}
            found.append(Subgroup(by, group, len(chosen), shown))
    return found


def compare_models(pooled: Sequence[PooledRuns]) -> list[ModelComparison]:
    """Compare each two models on the same pipeline and split, by the mean probability of their seeds."""
    found = []
    for a, b in combinations(pooled, 2):
        same = [(p.dataset, p.breast_id) for p in a.test] == [(p.dataset, p.breast_id) for p in b.test]
        if a.key[:2] == b.key[:2] and same:
            difference = compare_auc(a.truth, a.mean_scores, b.mean_scores)
            found.append(ModelComparison(*a.key, b.key[2], a.record.simulated, difference))
    return found
