"""The paper's Table 2 beside ours: its arithmetic, its positive class, its claims about cropping, and results of others.

Source of the twelve rows: Abdikenov et al. (2025), doi:10.37943/230UMR1748, Table 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.config.training import Evaluate
from fvpipe.evaluation.evaluate import ModelEvaluation, different_breasts, evaluate_model, nested_metrics
from fvpipe.evaluation.metrics.intervals import AucDifference, Estimate, compare_auc
from fvpipe.evaluation.pooled import (
    PooledRuns,
    differences_text,
    on_common_breasts,
    pipeline_differences,
    pool_runs,
    training_differences,
)
from fvpipe.evaluation.tables.paper import (
    CLAIMS,
    PAPER,
    PUBLISHED,
    TEST_PART,
    Claim,
    PaperCheck,
    PaperRow,
    Published,
    Verdict,
    check,
)
from fvpipe.evaluation.text import (
    MetricRow,
    estimate_rows,
    metric_table,
    shown,
    span,
    text_table,
    to_json,
    unreliable_text,
    wrapped,
)
from fvpipe.evaluation.training_record import TrainedRun, titled
from fvpipe.imaging.canvas import needed_views

COMPARED = ("accuracy", "precision", "recall", "specificity", "f1", "auc")


@dataclass(frozen=True, slots=True, eq=False)
class PipelineGain:
    """One pipeline less another on the test breasts that both have: metrics with intervals, and AUC by DeLong's test.

    Attributes
    ----------
    pipelines_differ : list of str
        Settings of the pipelines that differ, with both values.
    training_differs : list of str
        What else differs: where anything does, no difference is computed.
    """

    first: str
    second: str
    split: str
    model: str
    simulated: bool
    breasts: int
    unpaired: int  # breasts that only one of the two has
    metrics: dict[str, Estimate]
    delong: AucDifference | None
    pipelines_differ: list[str]
    training_differs: list[str]


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim of the paper, the split and the reading by which it is judged, the difference, and the verdict."""

    claim: str
    words: str
    split: str
    reading: str
    simulated: bool
    difference: Estimate | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Table2Row:
    """One of our rows, and the paper's rows beside it with the reading by which they stand there."""

    ours: ModelEvaluation
    paper: list[tuple[PaperRow, str]]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        paper = [{"row": row.name, "reading": reading, **to_json(asdict(row))} for row, reading in self.paper]
        return {**self.ours.to_json(), "paper": paper}


@dataclass(frozen=True, slots=True)
class Table2:
    """Our rows beside the paper's, a check of its twelve rows, on each split the gains from cropping and from the second view,
    a verdict on each claim about cropping, and results of others.
    """

    rows: list[Table2Row]
    paper: list[PaperCheck]
    cropping: list[PipelineGain]
    second_view: list[PipelineGain]
    claims: list[Judged]
    published: list[Published]

    def to_metric(self) -> dict[str, Any]:
        """Nested numbers for ``dvc metrics``."""
        nested = nested_metrics(row.ours for row in self.rows)
        for gain in (*self.cropping, *self.second_view):
            values = {name: found.value for name, found in gain.metrics.items() if found.value is not None}
            splits = nested.setdefault(f"{gain.first} less {gain.second}", {})
            splits.setdefault(titled(gain.split, gain.simulated), {})[gain.model] = values
        return nested

    def to_text(self) -> str:
        """Tables for a terminal."""
        blocks = ["Table 2: ours, malignant positive (95 % interval over patients), and the paper's rows as printed"]
        blocks += [_row_text(row) for row in self.rows]
        beside = {paper for row in self.rows for paper, _ in row.paper}
        left = [_printed(check.row.name, check.row) for check in self.paper if check.row not in beside]
        if left:
            blocks.append(metric_table("The paper's rows that are not trained here", left, COMPARED))
        blocks.append("\n".join(["The paper's own arithmetic", *(line for check in self.paper for line in _findings(check))]))
        for heading, gains in (
            ("Cropping less no cropping, on the same breasts", self.cropping),
            ("Both views less one view, on the same breasts", self.second_view),
        ):
            blocks += [heading] if gains else []
            blocks += [_gain_text(gain) for gain in gains]
        blocks += [_claims_text(self.claims), _published_text(self.published, self.rows)]
        blocks += different_breasts(row.ours.pool for row in self.rows)
        if any(row.ours.pool.record.simulated for row in self.rows):
            blocks.append("Results on simulated data prove nothing of real ones.")
        return wrapped("\n\n".join(blocks))


def _gain_text(gain: PipelineGain) -> str:
    title = titled(f"{gain.first} less {gain.second} / {gain.split} / {gain.model}", gain.simulated)
    if gain.training_differs:
        return f"{title}\n  not compared: the models differ in {'; '.join(gain.training_differs)}"
    lines = [metric_table(title, estimate_rows(f"difference, {gain.breasts} breasts", gain.metrics), COMPARED)]
    lines += unreliable_text(gain.metrics)
    if gain.pipelines_differ:
        lines.append(f"  the pipelines differ in {'; '.join(gain.pipelines_differ)}")
    if gain.unpaired:
        lines.append(f"  {gain.unpaired} test breasts that only one of the two has are left out")
    return "\n".join(lines)


def _claims_text(claims: Sequence[Judged]) -> str:
    rows = [
        [one.claim, titled(one.split, one.simulated) or "-", span(one.difference) if one.difference else "-", one.verdict]
        for one in claims
    ]
    table = text_table(["setting, model: claim", "split", "difference", "verdict"], rows, left=2)
    return f"The paper's claims about cropping, by the interval of cropped less direct\n{table}"


def _published_text(published: Sequence[Published], rows: Sequence[Table2Row]) -> str:
    """Lay out results of others, under each data set followed by ours that were tested on it alone."""
    cells = []
    for adapter in dict.fromkeys(one.adapter for one in published):
        theirs = [one for one in published if one.adapter == adapter]
        cells += [[one.data_set, one.model, one.auc, one.level, one.pixels or "-", one.source] for one in theirs]
        for ours in (row.ours for row in rows):
            pool, (pipeline, split, model) = ours.pool, ours.pool.key
            if {pool.record.adapters[p.dataset] for p in pool.test} != {adapter}:
                continue
            pixels, where = "x".join(map(str, pool.record.image_shape[1:])), titled(split, pool.record.simulated)
            levels = {"side": ours.metrics, "patient": ours.by_patient or {}}
            auc = {level: found["auc"] for level, found in levels.items() if found}
            cells += [["", f"ours, {pipeline} {model}", span(found), level, pixels, where] for level, found in auc.items()]
    table = text_table(["data set", "model", "AUC", "score of", "pixels", "source or split"], cells, 6)
    return f"Results of others, as context (other splits, labels and resolutions), and ours\n{table}\n{TEST_PART}"


def _row_text(row: Table2Row) -> str:
    rows = estimate_rows(f"ours, {len(row.ours.pool.test)} test breasts", row.ours.metrics)
    rows += [_printed(f"paper, setting {paper.setting}, {reading}", paper) for paper, reading in row.paper]
    text = "\n".join([metric_table(row.ours.pool.title, rows, COMPARED), *unreliable_text(row.ours.metrics)])
    best = row.ours.above
    if best:
        verdict = "above it" if best.proved else "not proved above it"
        text += f"\n  best without an image: {best.shortcut}, AUC {shown(best.second)}; the model is {verdict}"
    return text


def _printed(label: str, paper: PaperRow) -> MetricRow:
    return label, asdict(paper), 4


def _findings(check: PaperCheck) -> list[str]:
    lines = []
    if not check.f1_follows:
        lines.append(f"  {check.row.name}: F1 is printed as {check.row.f1:.4f}; from precision and recall it is {check.f1:.4f}")
    for found in check.explanations:
        cells = ", ".join(f"{name.upper()} {count}" for name, count in asdict(found.counts).items())
        lines.append(f"  {check.row.name}: is exactly {found.test_set} with {found.positive} as positive")
        lines.append(f"    ({cells}); F1 of malignant {shown(found.malignant_f1)}")
    return lines


def table2(trained: Sequence[TrainedRun], settings: Evaluate) -> Table2:
    """Evaluate the trained models, find the paper's rows beside them, and compare ``cropped`` with ``direct`` and one view."""
    pooled = pool_runs(trained)
    rows = []
    for pool in pooled:
        read, (pipeline, _, model) = readings(pool), pool.key
        beside = [
            (row, read[row.setting]) for row in PAPER if (row.pipeline, row.model) == (pipeline, model) and row.setting in read
        ]
        rows.append(Table2Row(evaluate_model(pool, settings), beside))
    gains = cropping(pooled, settings)
    claims = [judged for claim in CLAIMS for judged in _judge(claim, pooled, gains)]
    return Table2(rows, [check(row) for row in PAPER], gains, second_view(pooled, settings), claims, list(PUBLISHED))


def readings(pool: PooledRuns) -> dict[int, str]:
    """Settings of the paper whose rows stand beside ours, each with the reason.

    By its text, setting 2 is across data sets, both ways, and setting 3 is pooled with patients apart. By its numbers, rows of
    setting 2 were tested on all of CMMD and one of setting 3 on all of VinDr-Mammo: across, one way and the other.
    """
    record = pool.record
    if not set(record.adapters.values()) <= {"vindr", "cmmd"}:  # the paper's data sets
        return {}
    match record.setting:
        case "seen":
            return {1: "as it says"}
        case "unseen":
            return {3: "by its text"}
        case "cross":
            tested = {record.adapters[prediction.dataset] for prediction in pool.test}
            if tested == {"vindr"}:
                return {2: "by its text", 3: "by its numbers"}
            return {2: "by text and numbers" if tested == {"cmmd"} else "by its text"}
        case _:
            return {}


def _judge(claim: Claim, pooled: Sequence[PooledRuns], gains: Sequence[PipelineGain]) -> list[Judged]:
    """Judge a claim on each split that is read as its setting; without one it is not tested."""
    cropped = {(pool.key[1], pool.key[2]): pool for pool in pooled if pool.key[0] == "cropped"}
    found = []
    for gain in gains:
        reading = readings(cropped[gain.split, gain.model]).get(claim.setting)
        if reading and gain.model == claim.model:
            difference = gain.metrics.get(claim.metric)
            verdict = claim.verdict(difference)
            found.append(Judged(claim.name, claim.words, gain.split, reading, gain.simulated, difference, verdict))
    return found or [Judged(claim.name, claim.words, "", "not trained here", False, None, "not tested")]


def cropping(pooled: Sequence[PooledRuns], settings: Evaluate) -> list[PipelineGain]:
    """Compare ``cropped`` with ``direct`` on each split, for each model."""
    by_key = {pool.key: pool for pool in pooled}
    return [
        _gain(pool, by_key["direct", split, model], settings)
        for (pipeline, split, model), pool in by_key.items()
        if pipeline == "cropped" and ("direct", split, model) in by_key
    ]


def second_view(pooled: Sequence[PooledRuns], settings: Evaluate) -> list[PipelineGain]:
    """Compare each pipeline of both views with each of one view that differs from it in fusion and size alone."""
    return [
        _gain(both, one, settings)
        for both in pooled
        for one in pooled
        if both.key[1:] == one.key[1:]
        and len(needed_views(both.record.pipeline)) > len(needed_views(one.record.pipeline))
        and all(name == "size" or name.startswith("fuse.") for name in pipeline_differences(both, one))
    ]


def _gain(first: PooledRuns, second: PooledRuns, settings: Evaluate) -> PipelineGain:
    mine, other = on_common_breasts(first, second)
    a, b = mine.metrics(settings.bins), other.metrics(settings.bins)

    def difference(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        one, two = a(weights), b(weights)
        return {name: one[name] - two[name] for name in COMPARED}

    differs = differences_text(training_differences(first, second))
    _, split, model = first.key
    return PipelineGain(
        first=first.key[0],
        second=second.key[0],
        split=split,
        model=model,
        simulated=first.record.simulated,
        breasts=len(mine.test),
        unpaired=len(first.test) + len(second.test) - 2 * len(mine.test),
        metrics={} if differs else mine.estimates(difference, settings),
        delong=compare_auc(mine.truth, mine.mean_scores, other.mean_scores) if mine.test and not differs else None,
        pipelines_differ=differences_text(pipeline_differences(first, second)),
        training_differs=differs,
    )
