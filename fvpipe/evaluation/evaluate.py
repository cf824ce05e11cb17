"""Predictions -> metrics with intervals, subgroups and shortcut baselines. Numpy alone: neither a model nor torch is needed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

import numpy as np

from fvpipe.config.training import Evaluate
from fvpipe.evaluation.metrics.binary import DECISION_METRICS, Confusion, defined
from fvpipe.evaluation.metrics.clinical import DECISION_THRESHOLDS, LEVELS, clinical_metrics
from fvpipe.evaluation.metrics.intervals import AucDifference, Estimate, compare_auc
from fvpipe.evaluation.metrics.subgroups import Subgroup, SubgroupGap, subgroups
from fvpipe.evaluation.pooled import PooledRuns, differences_text, pool_runs, training_differences
from fvpipe.evaluation.shortcuts import OF_PREDICTIONS, Baseline, shortcut_baselines
from fvpipe.evaluation.text import (
    MetricRow,
    difference_text,
    estimate_rows,
    metric_table,
    span,
    text_table,
    to_json,
    unreliable_text,
    wrapped,
)
from fvpipe.evaluation.training_record import TrainedRun, titled

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
class OperatingPoint:
    """The greatest sensitivity where the specificity is at least `level`, or the reverse; over all thresholds."""

    metric: str
    at: str
    level: float
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """Net benefit of acting from a probability of `threshold`; `gain`: over acting on all, or on none (0)."""

    threshold: float
    net_benefit: Estimate
    treat_all: Estimate
    gain: Estimate


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
    by_patient : dict of str to Estimate or None
        Metrics at 0.5 of patients, by their highest breast; None where a patient's other breast may be in training.
    line : dict of str to Estimate
        Calibration ``slope`` of the logits, and ``intercept`` where the slope is 1.
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
    gaps: list[SubgroupGap]
    by_patient: dict[str, Estimate] | None
    line: dict[str, Estimate]
    operating_points: list[OperatingPoint]
    decision_curve: list[DecisionPoint]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        pool, record = self.pool, self.pool.record
        return {
            "pipeline": record.run.pipeline,
            "setting": record.setting,
            "split": pool.key[1],
            "model": record.run.model,
            "made": record.simulated,
            "seeds": list(pool.seeds),
            "folds": [fold.record.run.split for fold in pool.folds],
            "breasts": len(pool.test),
            "untested": pool.untested,
            "malignant": int(pool.truth.sum()),
            "patients": len(set(pool.patients)),
            "dropped": record.dropped,
            **{name: int(count) for name, count in to_json(self.counts).items()},
            **to_json({name: found.value for name, found in self.metrics.items()}),
            "intervals": to_json({name: [found.low, found.high] for name, found in self.metrics.items()}),
            "undefined_replicates": {name: found.undefined for name, found in self.metrics.items() if found.undefined},
            "best_epochs": [run.record.best_epoch for run in pool.runs],
            "at_frozen_threshold": {"thresholds": [run.record.threshold for run in pool.runs], **to_json(self.frozen)},
            "benign_positive": to_json(self.benign_positive),
            "by_patient": to_json(self.by_patient),
            "floors": to_json(self.baselines),
            "above_floors": to_json(self.above),
            "calibration": to_json(self.calibration),
            "calibration_line": to_json(self.line),
            "operating_points": to_json(self.operating_points),
            "decision_curve": to_json(self.decision_curve),
            "subgroups": to_json(self.subgroups),
            "subgroup_gaps": to_json(self.gaps),
        }

    def to_text(self) -> str:
        """Tables for a terminal: metrics with intervals by breast and by patient, baselines, calibration, use, subgroups."""
        baselines: list[MetricRow] = [(f"  {one.shortcut}", to_json(one), 3) for one in self.baselines]
        rows = estimate_rows(f"by side, {len(self.pool.test)} breasts", self.metrics)
        rows += estimate_rows("threshold of validation", self.frozen)
        if self.by_patient:
            rows += estimate_rows(f"by patient, {len(set(self.pool.patients))}", self.by_patient)
        doubtful = {**self.metrics, **{f"by patient {name}": found for name, found in (self.by_patient or {}).items()}}
        doubtful |= {f"{name} at the threshold of validation": found for name, found in self.frozen.items()}
        lines = [metric_table(self.pool.title, rows), *unreliable_text(doubtful)]
        lines.append(metric_table("  Without an image:", baselines, ("accuracy", "f1", "auc")))
        if self.above:
            verdict = "above" if self.above.proved else "NOT PROVED ABOVE"
            lines.append(f"  {verdict} the baseline '{self.above.shortcut}': AUC {difference_text(self.above)}")
        line = ", ".join(f"{name} {span(found)}" for name, found in self.line.items())
        lines.append(f"  Calibration: {line}")
        cells = [[f"    {p.metric}, {p.at} at least {p.level}", span(p.estimate)] for p in self.operating_points]
        lines.append(text_table(["  Over all thresholds, the greatest", ""], cells))
        headings = ["  Acting from a probability of", "net benefit", "acting on all", "gain over all and none"]
        curve = [[f"    {p.threshold}", *map(span, (p.net_benefit, p.treat_all, p.gain))] for p in self.decision_curve]
        lines.append(text_table(headings, curve))
        lines += [
            f"  {group.by} {group.group}: {group.breasts} breasts, AUC {span(group.metrics['auc'])}"
            for group in self.subgroups
            if not group.suppressed
        ]
        lines += [f"  {gap.by} {gap.group} less {gap.reference}: AUC {span(gap.metrics['auc'])}" for gap in self.gaps]
        if hidden := sum(bool(group.suppressed) for group in self.subgroups):
            lines.append(f"  {hidden} subgroups too small to show")
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ModelComparison:
    """DeLong's test of two models on the same breasts; None where a class has fewer than two or their training `differs`."""

    pipeline: str
    split: str
    first_model: str
    second_model: str
    simulated: bool
    auc: AucDifference | None
    differs: list[str]


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
            title = titled(f"{pair.pipeline} / {pair.split}", pair.simulated)
            models = f"{pair.first_model} less {pair.second_model}"
            if pair.auc:
                p = "variance 0" if pair.auc.p is None else f"p {pair.auc.p:.3f}"
                blocks.append(f"{title}\n  AUC of {models}: {difference_text(pair.auc)}, {p}")
            elif pair.differs:
                blocks.append(f"{title}\n  {models}: not compared, they differ in {'; '.join(pair.differs)}")
        blocks += different_breasts(row.pool for row in self.rows)
        return wrapped("\n\n".join(blocks))


DIFFERENT_BREASTS = {
    "train": ("trained", "a part of a difference may come from that"),
    "test": ("tested", "compare differences on the same breasts only"),
}


def different_breasts(pooled: Iterable[PooledRuns]) -> list[str]:
    """Name the splits whose pipelines were trained or tested on different breasts, since some were rejected in one alone."""
    used: dict[tuple[str, str], dict[str, set[tuple[str, str, str]]]] = defaultdict(dict)
    for pool in pooled:
        for part in DIFFERENT_BREASTS:
            breasts = {(fold.record.run.split, *p.key) for fold in pool.folds for p in fold.part(part)}
            used[titled(pool.key[1], pool.record.simulated), part].setdefault(pool.key[0], breasts)
    lines = []
    for (split, part), pipelines in used.items():
        if len(set(map(frozenset, pipelines.values()))) > 1:
            counts = ", ".join(f"{name} {len(breasts)}" for name, breasts in pipelines.items())
            shared, (done, advice) = len(set.intersection(*pipelines.values())), DIFFERENT_BREASTS[part]
            lines.append(f"{split}: its pipelines were {done} on different breasts ({counts}; {shared} on all): {advice}")
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
    metrics, frozen = (pool.estimates(pool.metrics(settings.bins, at_own), settings) for at_own in (False, True))
    truth = pool.truth
    clinical = pool.estimates(pool.mean(lambda scores, _, weights: clinical_metrics(truth, scores, weights)), settings)
    counts = [Confusion.of(truth, scores >= 0.5) for scores in pool.scores]
    parts = [(fold.part("train"), fold.part("test")) for fold in pool.folds]
    baselines = shortcut_baselines(parts, OF_PREDICTIONS, lambda p: p.label)
    baselines = [b for b in baselines if b.auc is None or len(set(b.scores)) > 1]  # a constant score ranks nothing
    patients = None if pool.record.setting == "seen" else pool.by_patient
    groups, gaps = subgroups(pool, settings)
    return ModelEvaluation(
        pool=pool,
        metrics=metrics,
        frozen={name: frozen[name] for name in DECISION_METRICS},
        counts=Confusion(*(sum(getattr(one, cell) for one in counts) for cell in ("tp", "fp", "fn", "tn"))),
        benign_positive={
            name: defined(np.mean([one.swapped.metrics()[name] for one in counts])) for name in DECISION_METRICS[1:]
        },
        baselines=baselines,
        above=_compare_with_best(pool, baselines) if metrics["auc"].value is not None else None,
        calibration=calibration(pool, settings.bins),
        subgroups=groups,
        gaps=gaps,
        by_patient=None if patients is None else patients.estimates(patients.metrics(settings.bins), settings),
        line={name: clinical[f"calibration {name}"] for name in ("slope", "intercept")},
        operating_points=[
            OperatingPoint(metric, at, level, clinical[f"at {at} {level}"])
            for metric, at in (("sensitivity", "specificity"), ("specificity", "sensitivity"))
            for level in LEVELS
        ],
        decision_curve=[
            DecisionPoint(t, clinical[f"net benefit {t}"], clinical[f"treat all {t}"], clinical[f"gain {t}"])
            for t in DECISION_THRESHOLDS
        ],
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


def compare_models(pooled: Sequence[PooledRuns]) -> list[ModelComparison]:
    """Compare each two models of one recipe on the same pipeline and split, by the mean probability of their seeds."""
    found = []
    for a, b in combinations(pooled, 2):
        same = [p.key for p in a.test] == [p.key for p in b.test]
        if a.key[:2] == b.key[:2] and same:
            differs = differences_text(training_differences(a, b))
            difference = None if differs else compare_auc(a.truth, a.mean_scores, b.mean_scores)
            found.append(ModelComparison(*a.key, b.key[2], a.record.simulated, difference, differs))
    return found
