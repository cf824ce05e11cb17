"""Detectability of lesions in the samples of two pipelines, for the model observer, with intervals over patients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fvpipe.comparison.observer import observer_scores
from fvpipe.evaluation.metrics.binary import roc_auc, roc_auc_of_weights
from fvpipe.evaluation.metrics.intervals import Estimate, estimate, patient_weights
from fvpipe.progress import progress

Verdict = Literal["first", "second", "undecided"]
SIZE_GROUPS = 3
SMALLEST_GROUP = 10  # malignant breasts
SHUFFLES = 200  # of labels, for the control


@dataclass(frozen=True, slots=True)
class Detectability:
    """Areas under the ROC curve of the model observer on the samples of both pipelines, and their paired difference.

    Attributes
    ----------
    group : str
        Which malignant breasts: all, or those of a size of finding; each against all benign ones.
    malignant, benign : int
        Number of breasts.
    first, second, difference : Estimate
        `difference` is of the first less the second, with an interval over patients.
    """

    group: str
    malignant: int
    benign: int
    first: Estimate
    second: Estimate
    difference: Estimate

    @property
    def verdict(self) -> Verdict:
        """Which is better, where the interval excludes 0."""
        verdicts: dict[int, Verdict] = {1: "first", -1: "second", 0: "undecided"}
        return verdicts[self.difference.side_of_0]

    def verdict_text(self, first: str, second: str) -> str:
        """The verdict, with the names of the pipelines."""
        return {"first": f"{first} is better", "second": f"{second} is better", "undecided": "undecided"}[self.verdict]


@dataclass(frozen=True, slots=True, eq=False)
class ObserverScores:
    """Scores of the model observer on the samples of two pipelines, fitted again in each replicate of a bootstrap.

    With fixed scores the interval would leave out the variance of the fit: of two equal pipelines, one in five would seem
    better.

    Attributes
    ----------
    truth : int64 array, shape (n,)
        1 malignant, 0 benign.
    scores : two float64 arrays, shape (n,)
        Of the first and the second pipeline.
    weights : float64 array, shape (b, n)
        Number of times that each breast counts in each replicate.
    replicates : two float64 arrays, shape (b, n)
        Scores in each replicate.
    """

    truth: NDArray[np.int64]
    scores: tuple[NDArray[np.float64], NDArray[np.float64]]
    weights: NDArray[np.float64]
    replicates: tuple[NDArray[np.float64], NDArray[np.float64]]

    @staticmethod
    def of(
        features: tuple[NDArray[np.float64], NDArray[np.float64]],
        truth: NDArray[np.int64],
        patients: Sequence[str],
        replicates: int,
    ) -> ObserverScores:
        """Score the features of the same breasts by two pipelines, each of shape (n, f).

        Raises
        ------
        TooFewPatientsError
            A class has no breast outside some fold.
        """
        first, second = (observer_scores(each, truth, patients) for each in features)
        weights = np.concatenate(list(patient_weights(patients, replicates, seed=0)))
        again = np.zeros((2, *weights.shape))
        with progress("observer", len(weights), "replicates") as advance:
            for b, weight in enumerate(weights):
                again[:, b] = [observer_scores(each, truth, patients, weight) for each in features]
                advance(1)
        return ObserverScores(truth, (first, second), weights, (again[0], again[1]))

    def of_group(self, group: str, chosen: NDArray[np.bool_]) -> Detectability:
        """Compute both areas and their difference on some of the breasts, as a bool array of shape (n,)."""
        y = self.truth[chosen]

        def areas(scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
            found = [roc_auc_of_weights(y, s[chosen], w[None, chosen]) for s, w in zip(scores, weights, strict=True)]
            return np.concatenate(found)

        point = [areas(score[None], np.ones((1, len(self.truth))))[0] for score in self.scores]
        first, second = (areas(scores, self.weights) for scores in self.replicates)
        return Detectability(
            group,
            int(y.sum()),
            int((y == 0).sum()),
            estimate(point[0], first),
            estimate(point[1], second),
            estimate(point[0] - point[1], first - second),
        )


def shuffled_control(features: NDArray[np.float64], labels: NDArray[np.int64], patients: Sequence[str]) -> Estimate:
    """Compute the area under the ROC curve with labels exchanged between patients: mean and 95 % range over exchanges."""
    rng = np.random.default_rng(0)
    breasts: dict[str, list[int]] = {}
    for i, patient in enumerate(patients):
        breasts.setdefault(patient, []).append(i)
    alike = [  # labels of a patient's breasts stay together: they go to a patient with as many
        np.array([breasts[patient] for patient in sorted(breasts) if len(breasts[patient]) == count])
        for count in sorted({len(each) for each in breasts.values()})
    ]
    areas = []
    for _ in range(SHUFFLES):
        shuffled = labels.copy()
        for rows in alike:
            shuffled[rows] = labels[rng.permutation(rows)]
        areas.append(roc_auc(shuffled, observer_scores(features, shuffled, patients)))
    found = np.array(areas, np.float64)
    return estimate(float(found.mean()), found)


def size_groups(sizes: NDArray[np.float64], truth: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Thirds of the malignant breasts by the size of their largest finding, each with all benign breasts.

    A size is the root of the box's area, as a share of the film's height.
    """
    sized = np.isfinite(sizes) & (truth == 1)
    if int(sized.sum()) < SMALLEST_GROUP * SIZE_GROUPS:
        return []
    edges = np.quantile(sizes[sized], np.linspace(0, 1, SIZE_GROUPS + 1))
    groups = []
    for k, (low, high) in enumerate(pairwise(edges.tolist())):
        inside = sized & (sizes >= low) & ((sizes < high) | (k == SIZE_GROUPS - 1))
        groups.append((f"findings {low:.1%} to {high:.1%} of a film", inside | (truth == 0)))
    return groups
