"""Results as text: printed after a run, and put between the markers of docs/performance.md with their plot."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.cohort import FORMS
from benchmarks.measure import ROOT, Claim, Section, Table, short

PAGE = ROOT / "docs" / "performance.md"
COST = ROOT / "docs" / "cost.md"
PLOT = ROOT / "docs" / "performance.svg"
RESULTS = ROOT / "docs" / "performance.json"
BEGIN, END = "<!-- made by `make bench`: begin -->", "<!-- made by `make bench`: end -->"


def section_of(found: Mapping[str, Any]) -> Section:
    """A section as it was kept in the JSON."""
    tables = [Table(**table) for table in found["tables"]]
    claims = [Claim(**claim) for claim in found["claims"]]
    notes, numbers = list(found["notes"]), dict(found["figures"])
    return Section(found["name"], found["title"], notes, tables, claims, numbers, found.get("taken", ""))


def section_text(section: Section) -> str:
    """A section as markdown."""
    lines = [f"### {section.title}", "", *([section.taken, ""] if section.taken else [])]
    for table in section.tables:
        lines += [f"**{table.title}**", "", *_table(table.columns, table.rows), ""]
    if section.claims:
        lines += _claims(section.claims)
    lines += [f"{note}\n" for note in section.notes]
    return "\n".join(lines).rstrip() + "\n"


def verdict(sections: Mapping[str, Section]) -> str:
    """Every bound that the project is held to, and whether it holds."""
    claims = [claim for section in sections.values() for claim in section.claims]
    return "\n".join([f"### Held to: {sum(c.held for c in claims)} of {len(claims)}", "", *_claims(claims)])


def _claims(claims: list[Claim]) -> list[str]:
    rows = [[c.what, c.measured, c.bound, "held" if c.held else "**not held**"] for c in claims]
    return [*_table(["bound", "measured", "wanted", ""], rows), ""]


def _table(columns: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns), *(f"| {' | '.join(row)} |" for row in rows)]


def write(results: Mapping[str, Any]) -> None:
    """Put `results` into the documentation: the page's part between the markers, the plot, the numbers as JSON."""
    sections = {name: section_of(found) for name, found in results["sections"].items()}
    about = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    lines = [BEGIN, "", f"Taken on: {about}.", ""]
    if "pixels" in sections and plot(sections["pixels"], PLOT):
        lines += [f"![CPU time of a pair of images, by form and contender]({PLOT.name})", ""]
    lines += [verdict(sections), *(section_text(section) for name, section in sections.items() if name != "cost"), END]
    _replace(PAGE, "\n".join(lines))
    if "cost" in sections:
        _replace(COST, "\n".join([BEGIN, "", section_text(sections["cost"]), END]))
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _replace(page: Path, made: str) -> None:
    """Put `made`, with its markers, in the place of what stands between them."""
    text = page.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(text):
        raise RuntimeError(f"{page}: the markers of the made part are missing")
    page.write_text(pattern.sub(lambda _: made, text), encoding="utf-8")


CONTENDERS = ("floor", "direct", "cropped", "antialiased", "medip-npy", "medip", "naive-integers", "naive")


def plot(section: Section, file: Path) -> bool:
    """Bars of CPU time on a logarithmic axis; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed (pip install 'fvpipe[bench]')")
        return False
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "fvpipe", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot

    forms = [form for form in FORMS.values() if f"{form.name} floor" in section.figures]
    figure, axes = pyplot.subplots(figsize=(9, 0.6 + 1.1 * len(forms)), layout="constrained")
    shown = [name for name in CONTENDERS if any(f"{form.name} {name}" in section.figures for form in forms)]
    step = 0.9 / len(shown)
    for i, contender in enumerate(shown):
        places = [(-row - i * step, section.figures.get(f"{form.name} {contender}", 0.0)) for row, form in enumerate(forms)]
        bars = axes.barh([y for y, _ in places], [ms for _, ms in places], height=step, label=contender)
        axes.bar_label(bars, [short(ms) if ms else "" for _, ms in places], padding=2, fontsize=7)
    axes.set_xscale("log")
    axes.set_yticks([-row - 0.4 for row in range(len(forms))], [form.title for form in forms])
    axes.set_xlabel("CPU ms a pair of images (log scale)")
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return True
