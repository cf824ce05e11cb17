"""The paper's Table 2, its claims about cropping, and results of others on the same data sets, as printed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from fvpipe.evaluation.metrics.binary import Confusion
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.text import to_json

HALF = 0.5e-4  # the paper prints four decimals


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row as printed; `pipeline` is our name of it: ``direct`` is the paper's pipeline 1, ``cropped`` its pipeline 2."""

    pipeline: str
    setting: int
    model: str
    accuracy: float
    precision: float
    recall: float
    f1: float

    @property
    def name(self) -> str:
        """As ``P1-S2-resnet18``."""
        return f"P{1 if self.pipeline == 'direct' else 2}-S{self.setting}-{self.model}"


PAPER = (
    PaperRow("direct", 1, "resnet18", 0.8780, 0.7423, 0.8521, 0.7934),
    PaperRow("direct", 1, "cnn", 0.8497, 0.7103, 0.7716, 0.7370),
    PaperRow("direct", 2, "resnet18", 0.4146, 0.2236, 0.3935, 0.2852),
    PaperRow("direct", 2, "cnn", 0.4109, 0.2123, 0.4146, 0.2784),
    PaperRow("direct", 3, "resnet18", 0.7779, 0.9719, 0.7930, 0.8734),
    PaperRow("direct", 3, "cnn", 0.6152, 0.6052, 0.7201, 0.6577),
    PaperRow("cropped", 1, "resnet18", 0.8819, 0.7986, 0.7823, 0.7904),
    PaperRow("cropped", 1, "cnn", 0.8722, 0.7135, 0.8944, 0.7937),
    PaperRow("cropped", 2, "resnet18", 0.6277, 0.8330, 0.5887, 0.6899),
    PaperRow("cropped", 2, "cnn", 0.5972, 0.5591, 0.5745, 0.5666),
    PaperRow("cropped", 3, "resnet18", 0.7262, 0.7700, 0.7641, 0.7666),
    PaperRow("cropped", 3, "cnn", 0.6952, 0.6452, 0.7542, 0.6958),
)
CANDIDATES = {"all CMMD pairs": (554, 1313), "all VinDr-Mammo pairs": (3183, 113)}
"""Whole data sets as test sets: benign and malignant breasts with both views, by the paper's rules (docs/splits.md)."""

# --- the paper's arithmetic -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Explanation:
    """Counts on a whole data set that give a row's accuracy, precision and recall to all four decimals.

    Attributes
    ----------
    positive : {"malignant", "benign"}
        The class that `counts` take as positive.
    malignant_f1 : float or None
        F1 of these decisions with malignant as positive.
    """

    test_set: str
    positive: str
    counts: Confusion
    malignant_f1: float | None


@dataclass(frozen=True, slots=True)
class PaperCheck:
    """Consequences of a printed row: whether its F1 follows from precision and recall, and its positive class."""

    row: PaperRow
    f1: float
    f1_follows: bool
    explanations: list[Explanation]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "row": self.row.name,
            **{name: getattr(self.row, name) for name in ("accuracy", "precision", "recall", "f1")},
            "f1_from_precision_and_recall": self.f1,
            "f1_follows": self.f1_follows,
            "explained_by": to_json(self.explanations),
        }


def explain(row: PaperRow) -> list[Explanation]:
    """List every whole data set and positive class that accuracy, precision and recall allow."""
    found = []
    for name, (benign, malignant) in CANDIDATES.items():
        for positive, negatives, positives in (("malignant", benign, malignant), ("benign", malignant, benign)):
            for tp in range(math.ceil((row.recall - HALF) * positives), math.floor((row.recall + HALF) * positives) + 1):
                for fp in range(math.ceil(tp / (row.precision + HALF) - tp), math.floor(tp / (row.precision - HALF) - tp) + 1):
                    counts = Confusion(tp, fp, positives - tp, negatives - fp)
                    if fp <= negatives and abs(counts.metrics()["accuracy"] - row.accuracy) <= HALF:
                        of_malignant = counts if positive == "malignant" else counts.swapped
                        found.append(Explanation(name, positive, counts, float(of_malignant.metrics()["f1"])))
    return found


def check(row: PaperRow) -> PaperCheck:
    """Check a row: its F1 may differ from the computed one by the rounding of precision and recall alone."""
    low, f1, high = (round(2 * p * r / (p + r), 4) for d in (-HALF, 0, HALF) for p, r in [(row.precision + d, row.recall + d)])
    return PaperCheck(row, f1, low <= row.f1 <= high, explain(row))


# --- its claims about cropping ----------------------------------------------------------------------------------------

Verdict = Literal["supported", "not supported", "undecided", "not tested"]


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence of the paper: in this setting, cropping makes this metric of this model rise (`sign` 1) or fall (-1)."""

    setting: int
    model: str
    metric: str
    sign: int
    words: str

    @property
    def name(self) -> str:
        """As ``2, cnn: f1 rises``, with the setting first."""
        return f"{self.setting}, {self.model}: {self.metric} {'rises' if self.sign > 0 else 'falls'}"

    def verdict(self, difference: Estimate | None) -> Verdict:
        """Judge by the interval of cropped less direct: on the claimed side of 0, on the other, unsure, or not known."""
        if difference is None or difference.low is None:
            return "not tested"
        side = self.sign * difference.side_of_0
        return "supported" if side > 0 else "not supported" if side < 0 else "undecided"


_SLIGHTLY = "performance improved slightly"
_BENEFITED = "custom CNN also benefited from cropping"
_GAINS = "substantial gains in accuracy and F1 score for both models"
_REDUCED = "cropping slightly reduced ResNet18's performance"
_CNN = "custom CNN showed a slight improvement"
_RECALL = "its gains in recall indicate meaningful enhancement in generalization"
_BOTH = "improved performance across domain generalization settings for both models"

CLAIMS = (
    Claim(1, "resnet18", "accuracy", 1, _SLIGHTLY),
    Claim(1, "resnet18", "precision", 1, "its precision increased"),
    Claim(1, "cnn", "accuracy", 1, _BENEFITED),
    Claim(1, "cnn", "f1", 1, _BENEFITED),
    Claim(1, "cnn", "recall", 1, "its substantially higher recall"),
    Claim(1, "cnn", "precision", -1, "at the expense of slightly lower precision"),  # by its own table it rises
    Claim(2, "resnet18", "accuracy", 1, _GAINS),
    Claim(2, "resnet18", "f1", 1, _GAINS),
    Claim(2, "resnet18", "precision", 1, "enhanced precision"),
    Claim(2, "cnn", "accuracy", 1, _GAINS),
    Claim(2, "cnn", "f1", 1, _GAINS),
    Claim(2, "cnn", "recall", 1, _RECALL),
    Claim(3, "resnet18", "accuracy", -1, _REDUCED),
    Claim(3, "resnet18", "f1", -1, _REDUCED),
    Claim(3, "resnet18", "f1", 1, _BOTH),  # against the one before: the paper says both
    Claim(3, "cnn", "f1", 1, _CNN),
    Claim(3, "cnn", "recall", 1, _RECALL),
)

# --- results of others ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Published:
    """An AUC that others printed. Empty: to be looked up at the source.

    Attributes
    ----------
    adapter : str
        Name of the adapter that reads the data set: ours beside it was tested on data sets of this adapter alone.
    level : str
        What one prediction is of.
    """

    data_set: str
    adapter: str
    model: str
    auc: str
    level: str
    pixels: str
    source: str


PUBLISHED = (
    Published("VinDr-Mammo", "vindr", "two views", ".851", "side", "1152x896", "arXiv 2503.19945"),
    Published("VinDr-Mammo", "vindr", "one view, same source", ".802", "image", "1152x896", "arXiv 2503.19945"),
    Published("VinDr-Mammo", "vindr", "four views, MamT4", ".840 +- .017", "image", "", "Ibragimov et al. 2024"),
    Published("VinDr-Mammo", "vindr", "multiple instances", ".80 to .83", "patient", "2700x990", "arXiv 2310.12677"),
    Published("CBIS-DDSM", "cbis", "two views", ".866", "side", "1152x896", "arXiv 2503.19945"),
    Published("CBIS-DDSM", "cbis", "GMIC", ".858", "image", "2944x1920", "arXiv 2002.07613"),
    Published("CBIS-DDSM", "cbis", "GMIC, replicated", ".79 +- .02", "image", "2944x1920", "arXiv 2310.12677"),
    Published("CMMD", "cmmd", "four views", ".68 to .78", "side", "", "Future Sci. OA, 2681575"),
    Published("CMMD", "cmmd", "side less patient", "+.175 (.127 to .224)", "both", "", "Future Sci. OA, 2681575"),
)
"""Context, not a comparison: other splits, labels and resolutions. Future Science OA: doi 10.1080/20565623.2026.2681575.

Rows x columns of an image, from the code of the authors on GitHub: of arXiv 2503.19945 ``Dataloader/dataset_2views.py`` of
dpetrini/multiple-view and ``vindr/vindr_select_data.py`` of dpetrini/prepare_datasets; of arXiv 2310.12677
``Reproducing-SOTA-and-training-details-MIL-models.md`` of ShreyasiPathak/multiinstance-learning-mammography; of arXiv
2002.07613 the README of nyukat/GMIC. Those of MamT4 (arXiv 2411.01669) and of the study on CMMD were not found.
"""
TEST_PART = "VinDr-Mammo's own test part has 23 breasts of BI-RADS 5: an AUC there has an interval of about +-.11."
