"""Evaluation results as JSON values and as text tables."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from fvpipe.evaluation.metrics.binary import METRICS
from fvpipe.evaluation.metrics.intervals import AucDifference, Estimate
from fvpipe.printable import LINE_COLUMNS

HEADINGS = {
    "average_precision": "AP", "auc": "AUC", "brier": "Brier", "ece": "ECE", "f1": "F1", "recall": "recall,\nsensitivity"
}  # fmt: skip


SENSITIVITY = {"recall": "sensitivity"}  # the paper's word for it, beside ours
KEYS = {"simulated": "made", "baselines": "floors", "start": "from", "stop": "to", "explanations": "explained_by"}
"""Keys of the JSON output that differ from the names of our fields: they have been those since the first version."""


def to_json(result: Any) -> Any:
    """Turn results into plain values: `metrics` are merged into the result that has them, arrays are left out.

    A `recall` also stands under the paper's word, `sensitivity`.
    """
    if hasattr(result, "to_json"):
        return result.to_json()
    if isinstance(result, list | tuple):
        return [to_json(one) for one in result]
    if isinstance(result, dict):
        return {key: to_json(value) for name, value in result.items() for key in (name, SENSITIVITY.get(name, name))}
    if not is_dataclass(result):
        return result
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(result)):
        value = getattr(result, name)
        if not isinstance(value, np.ndarray):
            found |= to_json(value) if name == "metrics" else {KEYS.get(name, name): to_json(value)}
    return found


def shown(value: float | None, digits: int = 3) -> str:
    """Fixed decimals, or a dash."""
    return "-" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"  # no -0.000


def span(found: Estimate) -> str:
    """Value with its interval, and whether that is unreliable."""
    doubt = ", unreliable" if found.is_unreliable and found.low is not None else ""
    return f"{shown(found.value)} ({shown(found.low)} to {shown(found.high)}{doubt})"


def wrapped(text: str) -> str:
    """Break lines that are wider than the screen at spaces, with the rest indented."""
    lines = []
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += (
            textwrap.wrap(line, LINE_COLUMNS, subsequent_indent=indent, break_on_hyphens=False)
            if len(line) > LINE_COLUMNS
            else [line]
        )
    return "\n".join(lines)


def text_table(headings: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Lay out a plain text table that fits a screen; all but the first `left` columns are right-aligned."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < left else "right", overflow="fold", no_wrap=i >= left)
    for row in rows:
        table.add_row(*row)
    file = io.StringIO()
    Console(file=file, width=LINE_COLUMNS, color_system=None, markup=False, highlight=False, emoji=False).print(table)
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


def unreliable_text(estimates: Mapping[str, Estimate]) -> list[str]:
    """Name the metrics that many replicates do not define; no line where there are none."""
    many = [
        f"{name} ({e.undefined} of {e.replicates})" for name, e in estimates.items() if e.is_unreliable and e.low is not None
    ]
    return [f"  unreliable intervals, not defined in many replicates: {', '.join(many)}"] if many else []


def difference_text(auc: AucDifference) -> str:
    """Difference of two areas under the ROC curve, with its interval."""
    return f"{auc.first - auc.second:+.3f} ({auc.low:+.3f} to {auc.high:+.3f}, DeLong)"
