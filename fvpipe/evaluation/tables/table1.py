"""Counts beside the paper's Table 1, with the rule behind each difference, and the shortcut baselines of each data set."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fvpipe.evaluation.shortcuts import Baseline, Shortcuts, prefix_of, shortcut_baselines
from fvpipe.evaluation.text import shown, text_table, wrapped
from fvpipe.evaluation.training_record import titled
from fvpipe.indexing.index import Index
from fvpipe.types import LABEL_NAMES, Breast, ImageRecord

PAPER = {"vindr": (6368, 226), "cmmd": (1108, 2626)}
"""Benign and malignant *images* of the paper's Table 1, by adapter."""
SHOWN = ("accuracy", "f1", "auc")
POOLED = "pooled"
"""All real data sets together; all simulated ones are marked as such."""


@dataclass(frozen=True, slots=True)
class DatasetCounts:
    """Images and breasts of one data set by label name, and the paper's counts of images where it has any.

    `rules` are sentences about the images that were left out.
    """

    dataset: str
    simulated: bool
    images: dict[str, int]
    breasts: dict[str, int]
    paper_images: dict[str, int] | None
    equal: bool | None  # whether `images` are the paper's
    rules: list[str]


@dataclass(frozen=True, slots=True)
class DatasetBaseline:
    """A shortcut baseline on one data set, or on all real or all simulated ones together (:data:`POOLED`)."""

    dataset: str
    simulated: bool
    metrics: Baseline

    @property
    def name(self) -> str:
        """Key of the JSON output: real and simulated data sets together are two things."""
        return titled(POOLED, self.simulated) if self.dataset == POOLED else self.dataset


@dataclass(frozen=True, slots=True)
class Table1:
    """Counts and shortcut baselines of each data set."""

    rows: list[DatasetCounts]
    baselines: list[DatasetBaseline]

    def to_metric(self) -> dict[str, Any]:
        """Nested numbers for ``dvc metrics``."""
        nested: dict[str, Any] = {row.dataset: {"images": row.images, "breasts": row.breasts} for row in self.rows}
        for one in self.baselines:
            values = {name: value for name in SHOWN if (value := getattr(one.metrics, name)) is not None}
            nested.setdefault(one.name, {}).setdefault("floors", {})[one.metrics.shortcut] = values
        return nested

    def to_text(self) -> str:
        """Tables for a terminal."""
        names = sorted(LABEL_NAMES.values())
        rows = []
        for row in self.rows:
            title = titled(row.dataset, row.simulated)
            if row.paper_images:
                verdict = "equal" if row.equal else "NOT EQUAL"
                rows.append([title, f"paper's images, {verdict}", *(str(row.paper_images.get(name, "")) for name in names)])
                title = ""
            rows.append([title, "images", *(str(row.images[name]) for name in names)])
            rows.append(["", "breasts", *(str(row.breasts[name]) for name in names)])
        counts = text_table(["data set", "", *names], rows, left=2)
        rules = [f"{row.dataset}: {rule}" for row in self.rows for rule in row.rules]
        shortcuts = text_table(
            ["data set", "shortcut", "accuracy", "F1", "AUC"],
            (
                [
                    titled(one.dataset, one.simulated),
                    one.metrics.shortcut,
                    *(shown(getattr(one.metrics, name)) for name in SHOWN),
                ]
                for one in self.baselines
            ),
            left=2,
        )
        return wrapped("\n".join([counts, *rules, "", "Without an image (malignant is positive):", shortcuts]))


def table1(found: Sequence[Index]) -> Table1:
    """Count, and compute the shortcut baselines; simulated data sets are never pooled with real ones."""
    rows, baselines = [], []
    for simulated in (False, True):
        group = [index for index in found if index.source.simulated is simulated]
        rows += [_count(index) for index in group]
        baselines += _baselines((breast for index in group for breast in index.breasts), simulated)
    return Table1(rows, baselines)


def _count(found: Index) -> DatasetCounts:
    """Count images as the paper does: every image of a breast whose label the rule keeps."""
    images: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for image in found.images:
        facts = found.facts[image.path]
        if facts.excluded:
            left_out[facts.excluded] += 1
        else:
            images[LABEL_NAMES[facts.label]] += 1
    breasts = Counter(LABEL_NAMES[breast.facts.label] for breast in found.breasts)
    rules = [f"{count} images left out: {why}" for why, count in sorted(left_out.items())]
    if images[LABEL_NAMES[-1]]:
        rules.append(f"{images[LABEL_NAMES[-1]]} images of breasts without a label: in the shards, not in any training")
    unpaired = sum(images.values()) - 2 * len(found.breasts)
    if unpaired:
        rules.append(f"{unpaired} labelled or unlabelled images are in no pair of views, so in no sample")
    if found.source.adapter.name == "cmmd" and left_out:
        rules.append("the paper's counts are reached only without all four patients of duplicated pixels")
    paper = None if found.source.simulated else PAPER.get(found.source.adapter.name)
    in_images, in_breasts = ({name: counts[name] for name in sorted(LABEL_NAMES.values())} for counts in (images, breasts))
    printed = None if paper is None else {LABEL_NAMES[label]: count for label, count in enumerate(paper)}
    equal = None if printed is None else printed.items() <= in_images.items()
    return DatasetCounts(found.source.name, found.source.simulated, in_images, in_breasts, printed, equal, rules)


# --- shortcuts --------------------------------------------------------------------------------------------------------


def _years(image: ImageRecord) -> int | None:
    age = image.patient_age.rstrip("Y+")
    return int(age) if age.isdecimal() and int(age) > 0 else None


OF_BREASTS: Shortcuts[Breast] = {
    "data-set identity": lambda breast: breast.key.dataset,
    "patient id prefix (CMMD's D1 or D2)": lambda breast: prefix_of(breast.key.patient) or None,
    "age": lambda breast: _years(breast.images[0]),
    "manufacturer": lambda breast: breast.images[0].manufacturer,
    "image size": lambda breast: (breast.images[0].rows, breast.images[0].columns),
}


def _baselines(breasts: Iterable[Breast], simulated: bool) -> list[DatasetBaseline]:
    """Fit and score the shortcuts on each data set, and on all together."""
    labelled = [breast for breast in breasts if breast.facts.label >= 0]
    groups: dict[str, list[Breast]] = defaultdict(list)
    for breast in labelled:
        groups[breast.key.dataset].append(breast)
    if len(groups) > 1:
        groups[POOLED] = labelled
    return [
        DatasetBaseline(name, simulated, baseline)
        for name, members in groups.items()
        for baseline in shortcut_baselines([(members, members)], OF_BREASTS, lambda b: b.facts.label, "majority class")
    ]
