"""Evaluation results as text, and as DVC metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from fvpipe.evaluation.metrics import FIGURES
from fvpipe.evaluation.record import titled

# --- for people and for DVC -------------------------------------------------------------------------------------------


def to_metric(found: dict[str, Any]) -> dict[str, Any]:
    """Nested numbers for ``dvc metrics``."""
    nested: dict[str, Any] = {}
    for one in found["rows"]:
        values = {name: one[name] for name in FIGURES if one[name] is not None}
        nested.setdefault(one["pipeline"], {}).setdefault(titled(one["split"], one["made"]), {})[one["model"]] = values
    return nested


def to_text(found: dict[str, Any]) -> str:
    """For a terminal: a row a model, its intervals below, and the best shortcut."""
    names = {"average_precision": "AP", "auc": "AUC", "brier": "Brier", "ece": "ECE", "f1": "F1"}
    heading = "".join(f"{names.get(name, name):>13}" for name in FIGURES)
    lines = [f"{'pipeline / split / model':44}{'n':>6}{heading}"]
    for one in found["rows"]:
        name = titled(f"{one['pipeline']} / {one['split']} / {one['model']}", one["made"])
        lines.append(f"{name:44}{one['breasts']:>6}" + _cells(one))
        lines.append(f"{'':50}" + "".join(f"{_interval(one['intervals'][name]):>13}" for name in FIGURES))
        lines += [
            f"{'':8}without an image: {floor['shortcut']:23}" + _cells({name: floor.get(name) for name in FIGURES})
            for floor in one["floors"]
        ]
        above = one["above_floors"]
        if above:
            verdict = "above" if above["proved"] else "NOT PROVED ABOVE"
            lines.append(
                f"{'':8}{verdict} the shortcut '{above['shortcut']}': AUC {above['first'] - above['second']:+.3f} "
                f"({above['low']:+.3f} to {above['high']:+.3f}, DeLong)"
            )
        hidden = Counter(group["by"] for group in one["subgroups"] if "suppressed" in group)
        lines += [f"{'':8}{_group(group)}" for group in one["subgroups"] if "suppressed" not in group]
        if hidden:
            lines.append(f"{'':8}{sum(hidden.values())} subgroups too small to show")
    for pair in found["comparisons"]:
        if pair["auc"]:
            lines.append(titled(f"{pair['pipeline']} / {pair['split']}", pair["made"]) + f": {_comparison(pair)}")
    return "\n".join(line.rstrip() for line in lines)


def _cells(values: dict[str, Any]) -> str:
    return "".join(f"{shown(values[name]):>13}" for name in FIGURES)


def shown(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: Sequence[float | None]) -> str:
    return f"{shown(bounds[0])}-{shown(bounds[1])}" if bounds[0] is not None else "-"


def _group(group: dict[str, Any]) -> str:
    auc = group["auc"]
    text = f"{group['by']} {group['group']}: {group['breasts']} breasts, AUC {shown(auc['value'])}"
    return f"{text} ({_interval([auc['low'], auc['high']])})"


def _comparison(pair: dict[str, Any]) -> str:
    auc = pair["auc"]
    p = "variance 0" if auc["p"] is None else f"p {auc['p']:.3f}"
    difference = f"{auc['first'] - auc['second']:+.3f} ({auc['low']:+.3f} to {auc['high']:+.3f}, DeLong, {p})"
    return f"AUC of {pair['first_model']} less {pair['second_model']} {difference}"
