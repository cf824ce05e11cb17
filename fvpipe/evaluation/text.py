"""Evaluation results as text tables, and as DVC metrics."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from fvpipe.evaluation.evaluate import Evaluation, ModelEvaluation
from fvpipe.evaluation.intervals import AucDifference, Estimate
from fvpipe.evaluation.metrics import METRICS
from fvpipe.evaluation.record import titled

COLUMNS = 100  # of a text table
HEADINGS = {"average_precision": "AP", "auc": "AUC", "brier": "Brier", "ece": "ECE", "f1": "F1"}
SIMULATED_WARNING = "Results on simulated data prove nothing of real ones."


def shown(value: float | None, digits: int = 3) -> str:
    """Fixed decimals, or a dash."""
    return "-" if value is None else f"{value:.{digits}f}"


def text_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a plain text table of at most :data:`COLUMNS` characters; all but the first `left` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", overflow="fold", no_wrap=i >= left)
    for row in rows:
        table.add_row(*row)
    file = io.StringIO()
    Console(file=file, width=COLUMNS, color_system=None, markup=False, highlight=False, emoji=False).print(table)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


MetricRow = tuple[str, Mapping[str, float | None], int]
"""Label, value of each metric, decimals."""


def metric_table(title: str, rows: Iterable[MetricRow], metrics: Sequence[str] = METRICS) -> str:
    """Lay out values of metrics under a title, one column a metric; an absent or undefined one is a dash."""
    cells = ([f"  {label}", *(shown(values.get(name), digits) for name in metrics)] for label, values, digits in rows)
    return f"{title}\n{text_table(['', *(HEADINGS.get(name, name) for name in metrics)], cells)}"


def estimate_rows(label: str, estimates: Mapping[str, Estimate]) -> list[MetricRow]:
    """Values, and both ends of their intervals."""
    ends = (("value", label), ("low", "  95 % interval, low"), ("high", "  95 % interval, high"))
    return [(text, {name: getattr(found, end) for name, found in estimates.items()}, 3) for end, text in ends]


def difference_text(auc: AucDifference) -> str:
    """Difference of two areas under the ROC curve, with its interval."""
    return f"{auc.first - auc.second:+.3f} ({auc.low:+.3f} to {auc.high:+.3f}, DeLong)"


def nested_metrics(rows: Iterable[ModelEvaluation]) -> dict[str, Any]:
    """Pipeline -> split -> model -> metric, for ``dvc metrics``."""
    nested: dict[str, Any] = {}
    for one in rows:
        pipeline, split, model = one.pool.key
        values = {name: found.value for name, found in one.metrics.items() if found.value is not None}
        nested.setdefault(pipeline, {}).setdefault(titled(split, one.pool.record.simulated), {})[model] = values
    return nested


def to_metric(found: Evaluation) -> dict[str, Any]:
    """Nested numbers for ``dvc metrics``."""
    return nested_metrics(found.rows)


def to_text(found: Evaluation) -> str:
    """Tables for a terminal: each model with its intervals and its shortcut baselines."""
    blocks = [_model_text(one) for one in found.rows]
    pairs = []
    for pair in found.comparisons:
        if pair.auc:
            p = "variance 0" if pair.auc.p is None else f"p {pair.auc.p:.3f}"
            models = f"{pair.first_model} less {pair.second_model}"
            pairs.append(
                titled(f"{pair.pipeline} / {pair.split}", pair.simulated)
                + f": AUC of {models} {difference_text(pair.auc)}, {p}"
            )
    return "\n\n".join([*blocks, *(["\n".join(pairs)] if pairs else [])])


def _model_text(one: ModelEvaluation) -> str:
    baselines = [(f"  {baseline.shortcut}", baseline.to_json(), 3) for baseline in one.baselines]
    lines = [
        metric_table(one.pool.title, estimate_rows(f"{len(one.pool.test)} test breasts", one.metrics)),
        metric_table("  Without an image:", baselines, ("accuracy", "f1", "auc")),
    ]
    if one.above:
        verdict = "above" if one.above.proved else "NOT PROVED ABOVE"
        lines.append(f"  {verdict} the baseline '{one.above.shortcut}': AUC {difference_text(one.above.difference)}")
    for group in one.subgroups:
        if not group.suppressed:
            auc = group.metrics["auc"]
            interval = f"{shown(auc.low)} to {shown(auc.high)}"
            lines.append(f"  {group.by} {group.group}: {group.breasts} breasts, AUC {shown(auc.value)} ({interval})")
    if hidden := sum(bool(group.suppressed) for group in one.subgroups):
        lines.append(f"  {hidden} subgroups too small to show")
    return "\n".join(lines)
