"""The paper's Figure 5: the evaluation settings, with the patients and breasts in each part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from fvpipe.config.project import Split
from fvpipe.errors import InputError
from fvpipe.evaluation.splits.assign import Part
from fvpipe.figures.style import (
    BLUE,
    GREEN,
    GREY,
    NORMAL,
    ORANGE,
    RED,
    SIMULATED,
    SMALL,
    WIDTH,
    Drawing,
    box,
    figure_of,
    heading,
    page,
    short,
)
from fvpipe.indexing.index import Index

SETTINGS = {
    "seen": "Setting 1, seen patients",
    "cross": "Setting 2, another data set",
    "unseen": "Setting 3, unseen patients",
    "kfold": "Cross-validation by patient",
    "official": "The data set's own test set",
}
COLORS = {Part.TRAIN: BLUE, Part.VALIDATION: GREEN, Part.TEST: ORANGE}
CELL, GAP, TITLE, NAMES = 0.4, 0.06, 0.24, 1.1  # inches: height of a row, between rows, of a title; width of the names


@dataclass(frozen=True, slots=True)
class Facts:
    """Patient and label of a breast: 1 malignant, 0 benign."""

    patient: str
    label: int


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Breasts of one split file."""

    name: str  # stem of the file
    setting: str  # of its split
    parts: Mapping[tuple[str, Part], Sequence[Facts]]  # breasts of each data set and part

    @property
    def datasets(self) -> list[str]:
        """Its data sets, in order."""
        return list(dict.fromkeys(dataset for dataset, _ in self.parts))

    def patients_in_train_and_test(self) -> int:
        """Patients that a model was trained on and is tested on."""
        train, test = (
            {(d, f.patient) for (d, p), of in self.parts.items() if p is part for f in of} for part in (Part.TRAIN, Part.TEST)
        )
        return len(train & test)


def count_split(name: str, split: Split, parts: Mapping[tuple[str, str], Part], indexes: Mapping[str, Index]) -> SplitCounts:
    """Look up each breast of a split in the manifest of its data set.

    Raises
    ------
    InputError
        A manifest lacks a breast of the split, or there is no manifest.
    """
    found: dict[tuple[str, Part], list[Facts]] = defaultdict(list)
    known = {
        name: {b.key.breast_id: b for b in (*of.breasts, *(u.breast for u in of.unpaired))} for name, of in indexes.items()
    }
    for (dataset, breast_id), part in parts.items():
        breast = known.get(dataset, {}).get(breast_id)
        if breast is None:
            raise InputError(f"split '{name}': a breast of it is not in manifests/{dataset}; run `fvpipe split` again")
        found[dataset, part].append(Facts(breast.key.patient, breast.facts.label))
    sorted_parts = {(d, p): found[d, p] for d in split.all_datasets for p in Part if (d, p) in found}
    return SplitCounts(name, split.setting, sorted_parts)


def draw_protocols(splits: Sequence[SplitCounts], simulated: Mapping[str, bool]) -> Drawing:
    """Draw each split: a row a data set, a column a part.

    Parameters
    ----------
    splits : sequence of SplitCounts
        In the order in which they are drawn.
    simulated : mapping of str to bool
        Whether a data set is simulated, by name.
    """
    top = 0.55
    rows = sum(len(split.datasets) for split in splits)
    axes = page(top + rows * (CELL + GAP) + len(splits) * (TITLE + 0.08))
    all_simulated = all(simulated[name] for split in splits for name in split.datasets)
    heading(axes, "Evaluation settings", all_simulated)
    width = (WIDTH - NAMES - 0.05) / len(Part) - GAP
    lefts = {part: NAMES + i * (width + GAP) for i, part in enumerate(Part)}
    for part, left in lefts.items():
        axes.text(left + width / 2, top - 0.12, part.value, fontweight="bold", ha="center", va="center")
    for split in splits:
        axes.text(0.05, top + TITLE / 2, f"{SETTINGS[split.setting]}: {short(split.name, 28)}", fontweight="bold", va="center")
        shared = split.patients_in_train_and_test()
        text = (
            f"{shared:,} patient{'s' * (shared != 1)} in both train and test" if shared else "no patient in both train and test"
        )
        axes.text(
            WIDTH - 0.05 - GAP, top + TITLE / 2, text, fontsize=SMALL, color=RED if shared else GREY, ha="right", va="center"
        )
        top += TITLE
        for dataset in split.datasets:
            _draw_row(axes, split, dataset, simulated[dataset] and not all_simulated, top, lefts, width)
            top += CELL + GAP
        top += 0.08
    caption = (
        "The paper's evaluation settings on this project's data sets: patients and breasts (benign and malignant) in each "
        "part. The bar below each part is its share of the data set's breasts in the split."
    )
    return Drawing("protocols", caption, figure_of(axes))


def _draw_row(
    axes: Axes, split: SplitCounts, dataset: str, marked: bool, top: float, lefts: Mapping[Part, float], width: float
) -> None:
    axes.text(0.05, top + CELL / 2 - 0.07 * marked, short(dataset, 17), fontsize=SMALL + 0.5, va="center")
    if marked:
        axes.text(0.05, top + CELL / 2 + 0.08, SIMULATED, fontsize=SMALL, color=RED, va="center")
    total = sum(len(split.parts.get((dataset, part), ())) for part in Part)
    for part, left in lefts.items():
        breasts = split.parts.get((dataset, part), ())
        if not breasts:
            axes.text(left + width / 2, top + CELL / 2, "none", fontsize=SMALL, color=GREY, ha="center", va="center")
            continue
        box(axes, left, top, width, CELL, COLORS[part])
        axes.add_patch(Rectangle((left, top + CELL - 0.05), width * len(breasts) / total, 0.05, facecolor=COLORS[part]))
        patients, malignant = len({facts.patient for facts in breasts}), sum(facts.label == 1 for facts in breasts)
        counts = f"{_many(patients, 'patient')}, {_many(len(breasts), 'breast')}"
        axes.text(left + 0.08, top + 0.1, counts, fontsize=NORMAL, va="center")
        labels = f"{len(breasts) - malignant:,} benign, {malignant:,} malignant"
        axes.text(left + 0.08, top + 0.25, labels, fontsize=SMALL, va="center")


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' * (count != 1)}"
