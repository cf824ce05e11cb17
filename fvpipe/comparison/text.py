"""A comparison of pipelines as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fvpipe.comparison.detectability import SHUFFLES
from fvpipe.comparison.models import TrainedComparison
from fvpipe.comparison.pipelines import Comparison
from fvpipe.evaluation.intervals import Estimate
from fvpipe.evaluation.text import shown, text_table, wrapped

NAME_COLUMNS = 12  # of a name above a column
SATURATED = 0.995  # an AUC above it leaves no room for a difference


def comparison_text(found: Comparison, most: int = 5) -> str:
    """Format a comparison as tables of at most 100 columns."""
    about = " (simulated data: no evidence of real lesions)" if found.simulated else ""
    lines = [f"{found.first} less {found.second} on {found.dataset}{about}"]
    lines.append(f"  {found.breasts} breasts of {found.patients} patients, {found.unlabelled} without a label")
    if any(found.left_out):
        lines.append(
            f"  left out: {found.left_out[0]} breasts that only {found.first} has, {found.left_out[1]} only {found.second}"
        )
    if found.detectability:
        observed = [
            (
                row.group,
                f"{row.malignant}+{row.benign}",
                shown(row.first.value),
                shown(row.second.value),
                _interval(row.difference, "+"),
                row.verdict_text(found.first, found.second),
            )
            for row in found.detectability
        ]
        names = map(_heading, (found.first, found.second))
        headings = ("Model observer, AUC", "mal.+ben.", *names, "difference (95 %)", "verdict")
        lines += ["", text_table(headings, observed)]
        if found.control is not None:
            verdict = "at chance, as it must be" if found.control_at_chance else "NOT at chance: do not trust the areas above"
            lines.append(f"Control: {found.first}, labels shuffled {SHUFFLES} times: AUC {_interval(found.control)}, {verdict}")
        if min(found.detectability[0].first.value or 0, found.detectability[0].second.value or 0) > SATURATED:
            lines.append("Both find nearly every lesion: more --noise leaves room for a difference.")
    else:
        lines += ["", f"No model observer: {found.why_no_detectability}"]
    if found.findings:
        f = found.findings
        sizes = [
            (found.first, f"{f.first:.0f}", f"{f.ratio:.2f}", f"{f.first_kept:.1%}"),
            (found.second, f"{f.second:.0f}", "1.00", f"{f.second_kept:.1%}"),
        ]
        lines += ["", text_table((f"Boxes of {f.boxes} findings", "pixels (median)", "ratio (median)", "wholly kept"), sizes)]
    if found.pixels:
        differing = [(each.breast_id, f"{each.mean:.4f}", f"{each.largest:.4f}") for each in found.pixels[:most]]
        lines += ["", text_table((f"Samples that differ most, of {found.breasts}", "mean", "largest"), differing)]
    return wrapped("\n".join(lines))


def models_text(models: Sequence[TrainedComparison], first: str, second: str) -> str:
    """Lay out the comparison of trained models as a table of at most 100 columns."""
    rows, notes = [], []
    for each in models:
        name = f"{each.model} / {each.split}{' (simulated data)' if each.simulated else ''}"
        if each.result is None:
            notes.append(f"{name}: not compared, since the trainings differ in {'; '.join(each.differs)}")
            continue
        result = each.result
        verdict = result.verdict_text(first, second)
        counts = f"{result.malignant}+{result.benign}"
        rows.append(
            (name, counts, shown(result.first.value), shown(result.second.value), _interval(result.difference, "+"), verdict)
        )
    headings = ("Trained models, AUC", "mal.+ben.", *map(_heading, (first, second)), "difference (95 %)", "verdict")
    return wrapped("\n".join([*([text_table(headings, rows)] if rows else []), *notes]))


def _heading(name: str) -> str:
    """The whole name in a narrow column: names may differ at their ends alone."""
    return "\n".join(textwrap.wrap(name, NAME_COLUMNS))


def _interval(found: Estimate, sign: str = "") -> str:
    value, low, high = ("-" if each is None else f"{each:{sign}.3f}" for each in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
