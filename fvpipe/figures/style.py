"""Style that all figures share: page width, colors, and files that are the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fvpipe.errors import DependencyError

try:
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import FancyArrowPatch, Rectangle
except ImportError:
    raise DependencyError("figures are drawn with matplotlib, which is not installed: pip install 'fvpipe[figures]'") from None

WIDTH = 6.5  # inches: the text of a page
DPI = 150
SMALL, NORMAL, LARGE = 6.5, 7.5, 9.0  # points
# Okabe and Ito's colors, which the color-blind tell apart.
BLUE, ORANGE, GREEN, RED, SKY, GREY, INK = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#6a6f76", "#1c2430"
PALE = {BLUE: "#d6e8f3", ORANGE: "#fbecc9", GREEN: "#d3eee5", GREY: "#eceef1"}
SIMULATED = "simulated data"

_SETTINGS: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # matplotlib brings it
    "font.size": NORMAL,
    "text.parse_math": False,  # names of data sets, breasts and classes are text, whatever stands in them
    "text.color": INK,
    "axes.linewidth": 0.6,
    "axes.edgecolor": GREY,
    "svg.fonttype": "path",  # the same on every computer, whatever fonts it has; the words stand beside it in comments
    "svg.hashsalt": "fvpipe",
}


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """A figure with its words."""

    name: str  # stem of its files
    caption: str  # what it shows, in one or two sentences
    figure: Figure  # to be rendered in :func:`own_style`


@contextmanager
def own_style() -> Iterator[None]:
    """Draw with these settings alone, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_SETTINGS)
        yield


def render(figure: Figure, suffix: str) -> bytes:
    """Render a figure as ``svg`` or ``png``, without a date or a version in it."""
    buffer = io.BytesIO()
    absent = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[suffix]
    figure.savefig(buffer, format=suffix, dpi=DPI, metadata=absent)
    return buffer.getvalue()


def page(height: float) -> Axes:
    """An empty figure whose coordinates are inches from its upper left corner."""
    axes = Figure(figsize=(WIDTH, height)).add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    return axes


def figure_of(axes: Axes) -> Figure:
    """The figure of :func:`page`."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def heading(axes: Axes, text: str, simulated: bool = False) -> None:
    """Write the heading of a page, and at its right whether all data are simulated."""
    axes.text(0.05, 0.16, text, fontsize=LARGE, fontweight="bold", va="center")
    if simulated:
        axes.text(WIDTH - 0.05, 0.16, SIMULATED, fontsize=NORMAL, color=RED, ha="right", va="center", fontweight="bold")


def box(axes: Axes, left: float, top: float, width: float, height: float, color: str) -> None:
    """Draw a box in the pale shade of a color."""
    axes.add_patch(Rectangle((left, top), width, height, facecolor=PALE[color], edgecolor=color, linewidth=0.7))


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow."""
    axes.add_patch(
        FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, linewidth=0.9, color=GREY, shrinkA=0, shrinkB=0)
    )


def short(name: str, length: int) -> str:
    """A name of at most `length` characters."""
    return name if len(name) <= length else f"{name[: length - 3]}..."
