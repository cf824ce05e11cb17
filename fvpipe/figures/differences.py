"""Chart of what comparisons of pipelines found: each answer with its interval, beside the value of no effect."""

from __future__ import annotations

from collections.abc import Sequence

from fvpipe.comparison.summary import Answer
from fvpipe.figures.style import BLUE, GREEN, GREY, SMALL, WIDTH, Drawing, figure_of, heading, page, short

ROW, TOP, TITLE = 0.24, 0.5, 0.26  # inches
LEFT, RIGHT = 3.0, 5.1  # of the intervals
TITLES = {0.0: "Differences of the area under the ROC curve", 0.5: "Areas under the ROC curve"}


def draw_differences(answers: Sequence[Answer]) -> Drawing:
    """Draw answers with intervals: areas from 0 to 1, differences on a scale of their own.

    Parameters
    ----------
    answers : sequence of Answer
        Those without an interval are left out.
    """
    groups = {neutral: [a for a in answers if a.neutral == neutral and a.low is not None] for neutral in (0.5, 0.0)}
    groups = {neutral: found for neutral, found in groups.items() if found}
    axes = page(TOP + sum(TITLE + ROW * len(found) + 0.1 for found in groups.values()))
    heading(axes, "What was found", all(answer.simulated for answer in answers))
    top = TOP
    for neutral, found in groups.items():
        reach = 0.5 if neutral else max(0.01, *(abs(end) for a in found for end in (a.low or 0.0, a.high or 0.0))) * 1.05
        axes.text(0.05, top, TITLES[neutral], fontweight="bold", va="center")
        bottom = top + TITLE / 2 + ROW * len(found)
        middle = (LEFT + RIGHT) / 2
        axes.plot([middle, middle], [top + TITLE / 2, bottom], color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        axes.text(middle, top, f"{neutral:g}", fontsize=SMALL, color=GREY, ha="center", va="center")
        for i, answer in enumerate(found):
            y = top + TITLE / 2 + ROW * (i + 0.5)
            places = [middle + (number - neutral) / reach * (RIGHT - LEFT) / 2 for number in _numbers(answer)]
            away = (answer.low or 0.0) > neutral or (answer.high or 0.0) < neutral
            color = (GREEN if away else GREY) if neutral == 0 else BLUE
            axes.plot([places[1], places[2]], [y, y], color=color, linewidth=2, solid_capstyle="butt")
            axes.plot([places[0]], [y], marker="o", markersize=4, color=color)
            axes.text(0.05, y, short(answer.question, 52), fontsize=SMALL + 0.5, va="center")
            sign = "+" if neutral == 0 else ""
            text = "{0:{s}.2f} ({1:{s}.2f} to {2:{s}.2f})".format(*_numbers(answer), s=sign)
            axes.text(WIDTH - 0.05, y, text, fontsize=SMALL + 0.5, ha="right", va="center")
        top = bottom + 0.1 + TITLE / 2
    caption = (
        "What comparisons of pipelines found, with 95 % intervals over patients (of shuffled labels: over shuffles). Green: "
        "the interval excludes 0. An area of .5 is chance; areas of the model observer mean nothing by themselves."
    )
    return Drawing("differences", caption, figure_of(axes))


def _numbers(answer: Answer) -> tuple[float, float, float]:
    return answer.value or 0.0, answer.low or 0.0, answer.high or 0.0
