"""A comparison of pipelines as text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from fvpipe.comparison.detectability import SHUFFLES, Detectability
from fvpipe.comparison.models import TrainedComparison
from fvpipe.comparison.pipelines import Comparison
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.text import shown, text_table, wrapped
from fvpipe.evaluation.training_record import titled

NAME_COLUMNS = 12  # of a name above a column
MOST_DIFFERING = 5  # breasts that are listed
SATURATED = 0.995  # an AUC above it leaves no room for a difference


def comparison_text(found: Comparison) -> str:
    """Format a comparison as tables of at most 100 columns."""
    about = " (simulated data: no evidence of real lesions)" if found.simulated else ""
    lines = [f"{found.first} less {found.second} on {found.dataset}{about}"]
    lines.append(f"  {found.breasts} breasts of {found.patients} patients, {found.unlabelled} without a label")
    if any(found.left_out):
        lines.append(
            f"  left out: {found.left_out[0]} breasts that only {found.first} has, {found.left_out[1]} only {found.second}"
        )
    if found.detectability:
        groups = [(row.group, row) for row in found.detectability]
        lines += ["", _areas_table("Model observer, AUC", groups, found.first, found.second)]
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
        differing = [(each.breast_id, f"{each.mean:.4f}", f"{each.largest:.4f}") for each in found.pixels[:MOST_DIFFERING]]
        lines += ["", text_table((f"Samples that differ most, of {found.breasts}", "mean", "largest"), differing)]
    return wrapped("\n".join(lines))


def models_text(models: Sequence[TrainedComparison], first: str, second: str) -> str:
    """Lay out the comparison of trained models as a table of at most 100 columns."""
    compared, notes = [], []
    for each in models:
        name = titled(f"{each.model} / {each.split}", each.simulated)
        if each.result is None:
            notes.append(f"{name}: not compared, since the trainings differ in {'; '.join(each.differs)}")
        else:
            compared.append((name, each.result))
    table = [_areas_table("Trained models, AUC", compared, first, second)] if compared else []
    return wrapped("\n".join([*table, *notes]))


def _areas_table(title: str, results: Sequence[tuple[str, Detectability]], first: str, second: str) -> str:
    """Lay out areas under the ROC curve by both pipelines, a line for each result with its name."""
    names = ("\n".join(textwrap.wrap(name, NAME_COLUMNS)) for name in (first, second))  # whole: they may differ at their ends
    rows = [
        (
            name,
            f"{found.malignant}+{found.benign}",
            shown(found.first.value),
            shown(found.second.value),
            _interval(found.difference, "+"),
            found.verdict_text(first, second),
        )
        for name, found in results
    ]
    return text_table((title, "mal.+ben.", *names, "difference (95 %)", "verdict"), rows)


def _interval(found: Estimate, sign: str = "") -> str:
    value, low, high = ("-" if each is None else f"{each:{sign}.3f}" for each in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"
