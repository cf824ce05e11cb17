"""Two pipelines on the same breasts: detectability for a model observer, pixels of the findings, differences of images."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fvpipe.comparison.observer import observer_scores, sample_features
from fvpipe.config.loading import parse_yaml
from fvpipe.errors import InputError, ShardError
from fvpipe.evaluation.intervals import Estimate, bootstrap, patient_weights
from fvpipe.evaluation.metrics import roc_auc, roc_auc_of_weights
from fvpipe.evaluation.text import to_json
from fvpipe.io.tables import read_own_table
from fvpipe.progress import progress
from fvpipe.shards.reader import Sample, Shards
from fvpipe.types import VIEWS, View

Verdict = Literal["first", "second", "undecided"]
NAMED = 3  # breasts that an error names
SIZE_GROUPS = 3
SMALLEST_GROUP = 10  # malignant breasts
SHUFFLES = 200  # of labels, for the control
SIDES = ("top", "bottom", "left", "right")


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """Difference of a breast's two samples: mean and largest absolute difference of values in [0, 1]."""

    breast_id: str
    mean: float
    largest: float


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
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return "undecided"
        return "first" if low > 0 else "second"

    def verdict_text(self, first: str, second: str) -> str:
        """The verdict, with the names of the pipelines."""
        return {"first": f"{first} is better", "second": f"{second} is better", "undecided": "undecided"}[self.verdict]


@dataclass(frozen=True, slots=True)
class FindingPixels:
    """Boxes of findings in the samples of both pipelines.

    Attributes
    ----------
    boxes : int
        Boxes on views that both samples show.
    first, second : float
        Median number of sample pixels of a box.
    ratio : float
        Median of the ratios, first to second.
    first_kept, second_kept : float
        Share of the boxes that lie wholly inside the crop.
    """

    boxes: int
    first: float
    second: float
    ratio: float
    first_kept: float
    second_kept: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two pipelines on one data set.

    Attributes
    ----------
    dataset : str
        Name of the data set.
    simulated : bool
        Whether its data are simulated.
    first, second : str
        Names of the pipelines.
    breasts, patients, unlabelled : int
        Compared breasts and their patients; of the breasts, those without a label, which only the pixels are compared of.
    left_out : (int, int)
        Breasts that only the first, and only the second has.
    noise : float
        Standard deviation of the noise added for the observer, as a share of the range.
    detectability : tuple of Detectability
        Of all malignant breasts, then by size of finding; empty where a class has too few patients, for the reason in
        `why_no_detectability`.
    control : Estimate or None
        Area of the first pipeline's samples where labels are shuffled over patients, with its range over shuffles: it must
        be at chance, .5.
    findings : FindingPixels or None
        None where the data set has no boxes.
    pixels : tuple of PixelDifference
        Largest first; empty where the samples differ in shape or layout.
    """

    dataset: str
    simulated: bool
    first: str
    second: str
    breasts: int
    patients: int
    unlabelled: int
    left_out: tuple[int, int]
    noise: float
    detectability: tuple[Detectability, ...]
    why_no_detectability: str
    control: Estimate | None
    findings: FindingPixels | None
    pixels: tuple[PixelDifference, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: to_json(getattr(self, name)) for name in self.__slots__}
        for row, found in zip(plain["detectability"], self.detectability, strict=True):
            row["verdict"] = found.verdict
        return plain


# --- matching ---------------------------------------------------------------------------------------------------------


def match_breasts(first: Shards, second: Shards, common: bool) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Find the breasts that two shard folders share.

    Parameters
    ----------
    first, second : Shards
        Shard folders of one data set.
    common : bool
        Compare what both have, where one lacks breasts of the other.

    Returns
    -------
    pairs : list of (int, int)
        Index in each folder, in the order of the first.
    left_out : (int, int)
        Number of breasts that only the first, and only the second has.

    Raises
    ------
    InputError
        The folders are of different data sets, are not built from the same labels or images, or do not hold the same
        breasts.
    """
    one, two = first.receipt, second.receipt
    if one.dataset != two.dataset:
        raise InputError(
            f"{first.folder} is of {one.dataset!r}, {second.folder} of {two.dataset!r}; compare shards of one data set"
        )
    place = {str(breast): i for i, breast in enumerate(second.breast_ids.tolist())}
    pairs = [(i, place[breast]) for i, breast in enumerate(first.breast_ids.tolist()) if breast in place]
    for i, j in pairs:
        what = _differing_source(first, i, second, j)
        if what:
            raise InputError(
                f"{first.folder}, {second.folder}: {first.breast_ids[i]} has another {what} in each; "
                "build both again from the same files"
            )
    left_out = len(first) - len(pairs), len(second) - len(pairs)
    if not pairs:
        raise InputError(f"{first.folder}, {second.folder}: no breast is in both; build both from the same data set")
    if any(left_out) and not common:
        mine, theirs = set(first.breast_ids.tolist()), set(second.breast_ids.tolist())
        raise InputError(
            f"{one.dataset}: {left_out[0]} breasts are only in {one.pipeline} ({_some(mine - theirs)}), {left_out[1]} only in "
            f"{two.pipeline} ({_some(theirs - mine)}); rejected.csv of each says why. With --common the {len(pairs)} in both"
            " are compared"
        )
    return pairs, left_out


def _differing_source(first: Shards, i: int, second: Shards, j: int) -> str:
    """What two samples of a breast differ in that no pipeline changes."""
    if first.labels[i] != second.labels[j]:
        return "label"
    if first.patient_ids[i] != second.patient_ids[j]:
        return "patient"
    mine, theirs = first.columns["source_digest"][i], second.columns["source_digest"][j]
    both = (mine != b"") & (theirs != b"")  # of a pipeline of one view, the other may be missing
    return "source image" if bool((mine != theirs)[both].any()) else ""


def _some(breasts: Iterable[str]) -> str:
    named = sorted(breasts)
    return ", ".join(named[:NAMED]) + (", ..." if len(named) > NAMED else "") if named else "none"


# --- comparison -------------------------------------------------------------------------------------------------------


def compare(first: Shards, second: Shards, *, noise: float, replicates: int, seed: int = 0, common: bool = False) -> Comparison:
    """Compare two pipelines on the breasts of one data set.

    Parameters
    ----------
    first, second : Shards
        Shard folders of one data set, each by one pipeline.
    noise : float
        Standard deviation of the noise for the observer, as a share of the range.
    replicates, seed : int
        Of the bootstrap over patients.
    common : bool
        Compare the breasts that both have, where one lacks breasts of the other.

    Raises
    ------
    InputError
        The breasts are not the same.
    ShardError
        A shard or table is damaged.
    """
    pairs, left_out = match_breasts(first, second, common)
    labels = np.array([first.labels[i] for i, _ in pairs], np.int64)
    patients = [str(first.patient_ids[i]) for i, _ in pairs]
    boxes = _boxes(first), _boxes(second)
    known = [k for k, label in enumerate(labels.tolist()) if label >= 0]
    truth, owners, groups, control, why = labels[known], [patients[k] for k in known], list[Detectability](), None, ""
    try:
        features = (
            _observed(first, [pairs[k][0] for k in known], noise),
            _observed(second, [pairs[k][1] for k in known], noise),
        )
        judged = Judgement.of(features, truth, owners, replicates, seed)
        control = _shuffled_control(features[0], truth, owners)
    except ValueError as error:
        why = str(error)
    else:
        sizes = np.array([_size_of(boxes[0].get(str(first.breast_ids[pairs[k][0]]), ())) for k in known])
        groups = [judged.of_group(name, chosen) for name, chosen in (("all", truth >= 0), *_size_groups(sizes, truth))]
    return Comparison(
        dataset=first.receipt.dataset,
        simulated=first.receipt.simulated,
        first=first.receipt.pipeline,
        second=second.receipt.pipeline,
        breasts=len(pairs),
        patients=len(set(patients)),
        unlabelled=int((labels < 0).sum()),
        left_out=left_out,
        noise=noise,
        detectability=tuple(groups),
        why_no_detectability=why,
        control=control,
        findings=_finding_pixels(first, second, pairs, boxes),
        pixels=_pixel_differences(first, second, pairs),
    )


def _check_placement(shards: Shards, sample: Sample) -> None:
    """Check that the views lie in the image: a folder from somewhere else may say anything."""
    rows, columns = sample.image.shape[-2:]
    for top, bottom, left, right in (place for place in sample.placement.tolist() if place != [-1.0] * 4):
        inside = 0 <= top < bottom <= rows + 0.5 and 0 <= min(left, right) < max(left, right) <= columns + 0.5
        if not inside or round(bottom) == round(top) or round(left) == round(right):
            raise ShardError(
                f"{shards.folder}: the placement of {sample.breast_id} is not in its image; build the shards again"
            )


def _observed(shards: Shards, indices: Sequence[int], noise: float) -> NDArray[np.float64]:
    """Features of the samples at `indices`, shape (n, f)."""
    features = []
    with progress(f"{shards.receipt.pipeline}: responses", len(indices), "breasts") as advance:
        for i in indices:
            sample = shards[i]
            _check_placement(shards, sample)
            features.append(sample_features(sample.image, sample.placement, sample.breast_id, noise))
            advance(1)
    return np.array(features)


def detectability(
    group: str,
    truth: NDArray[np.int64],
    scores: tuple[NDArray[np.float64], NDArray[np.float64]],
    patients: Sequence[str],
    replicates: int,
    seed: int = 0,
) -> Detectability:
    """Compare two scores of the same breasts.

    Parameters
    ----------
    group : str
        Name of the group.
    truth : int64 array, shape (n,)
        1 malignant, 0 benign.
    scores : two float64 arrays, shape (n,)
        Of the first and the second pipeline.
    patients : sequence of str, length n
        Patient of each breast, drawn with all breasts.
    replicates, seed : int
        Of the bootstrap.
    """

    def areas(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        first, second = (roc_auc_of_weights(truth, score, weights) for score in scores)
        return {"first": first, "second": second, "difference": first - second}

    return Detectability(group, int(truth.sum()), int((truth == 0).sum()), **bootstrap(areas, patients, replicates, seed))


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """Scores of the model observer on the samples of two pipelines, fitted again in each replicate of a bootstrap.

    With fixed scores the interval would leave out what the fit itself varies: of two pipelines that are equal, one in five
    would seem better.

    Attributes
    ----------
    truth : int64 array, shape (n,)
        1 malignant, 0 benign.
    scores : two float64 arrays, shape (n,)
        Of the first and the second pipeline.
    weights : float64 array, shape (b, n)
        How often each breast counts in each replicate.
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
        seed: int = 0,
    ) -> Judgement:
        """Judge the features of the same breasts by two pipelines.

        Raises
        ------
        ValueError
            A class has no breast outside some fold.
        """
        first, second = (observer_scores(each, truth, patients) for each in features)
        weights = np.concatenate(list(patient_weights(patients, replicates, seed)))
        with progress("observer", len(weights), "replicates") as advance:
            again = np.zeros((2, *weights.shape))
            for b, weight in enumerate(weights):
                for which, each in enumerate(features):
                    again[which, b] = observer_scores(each, truth, patients, weight)
                advance(1)
        return Judgement(truth, (first, second), weights, (again[0], again[1]))

    def of_group(self, group: str, chosen: NDArray[np.bool_]) -> Detectability:
        """Areas and their difference on some of the breasts."""
        y = self.truth[chosen]
        point = [roc_auc(y, score[chosen]) for score in self.scores]
        areas = [
            np.array([roc_auc_of_weights(y, score[chosen], weight[None, chosen])[0] for score, weight in drawn])
            for drawn in (zip(scores, self.weights, strict=True) for scores in self.replicates)
        ]
        difference = None if None in point else (point[0] or 0.0) - (point[1] or 0.0)
        estimates = [
            _estimate(value, drawn)
            for value, drawn in ((point[0], areas[0]), (point[1], areas[1]), (difference, areas[0] - areas[1]))
        ]
        return Detectability(group, int(y.sum()), int((y == 0).sum()), *estimates)


def _estimate(value: float | None, drawn: NDArray[np.float64]) -> Estimate:
    finite = drawn[np.isfinite(drawn)]
    low, high = np.quantile(finite, [0.025, 0.975]).tolist() if len(finite) else (None, None)
    return Estimate(value, low, high, len(drawn) - len(finite))


def _shuffled_control(features: NDArray[np.float64], labels: NDArray[np.int64], patients: Sequence[str]) -> Estimate:
    """Area under the ROC curve where labels are exchanged between patients: mean and 95 % range over many exchanges."""
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
    low, high = np.quantile(np.array(areas, np.float64), [0.025, 0.975]).tolist()
    return Estimate(float(np.mean(np.array(areas, np.float64))), low, high)


def _size_groups(sizes: NDArray[np.float64], truth: NDArray[np.int64]) -> list[tuple[str, NDArray[np.bool_]]]:
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


# --- findings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Box:
    """A finding of a breast: its view, its size as a share of the film's height, and top, bottom, left, right in the sample."""

    view: View
    number: int  # of the finding on its view, in the order of the table
    size: float
    image: tuple[float, float, float, float]


Boxes = dict[str, list[Box]]
"""Breast id -> its findings on views that the sample shows."""


def _boxes(shards: Shards) -> Boxes:
    found: Boxes = {}
    if "findings.csv" not in shards.receipt.tables:
        return found
    heights = dict(zip(shards.breast_ids.tolist(), shards.columns["source_shape"][:, :, 0].tolist(), strict=True))
    count: Counter[tuple[str, str]] = Counter()
    try:
        for row in read_own_table(
            shards.folder / "findings.csv", ["breast_id", "view", *SIDES, *(f"image_{s}" for s in SIDES)]
        ):
            breast, view = row["breast_id"], row["view"]
            count[breast, view] += 1
            if row["image_top"] == "":
                continue
            top, bottom, left, right = (float(row[side]) for side in SIDES)
            height = heights[breast][VIEWS.index(View(view))]
            image = tuple(float(row[f"image_{side}"]) for side in SIDES)
            size = math.sqrt(abs((bottom - top) * (right - left))) / height
            found.setdefault(breast, []).append(Box(View(view), count[breast, view], size, image))  # type: ignore[arg-type]
    except (OSError, ValueError, KeyError, ZeroDivisionError) as error:
        raise ShardError(f"{shards.folder / 'findings.csv'}: cannot be read ({error}); build the shards again") from None
    return found


def _size_of(boxes: Sequence[Box]) -> float:
    return max((box.size for box in boxes), default=math.nan)


def _finding_pixels(
    first: Shards, second: Shards, pairs: Sequence[tuple[int, int]], boxes: tuple[Boxes, Boxes]
) -> FindingPixels | None:
    areas, kept = [], []
    for i, j in pairs:
        breast = str(first.breast_ids[i])
        theirs = {(box.view, box.number): box for box in boxes[1].get(breast, ())}
        for box in boxes[0].get(breast, ()):
            other = theirs.get((box.view, box.number))
            if other is None:
                continue
            areas.append((_area(box), _area(other)))
            kept.append((_is_kept(first, i, box), _is_kept(second, j, other)))
    if not areas:
        return None
    one, two = np.array(areas).T
    share = np.array(kept, np.float64).mean(axis=0)
    ratio = float(np.median(one / np.maximum(two, 1e-9)))
    return FindingPixels(len(areas), float(np.median(one)), float(np.median(two)), ratio, float(share[0]), float(share[1]))


def _area(box: Box) -> float:
    top, bottom, left, right = box.image
    return (bottom - top) * (right - left)


def _is_kept(shards: Shards, i: int, box: Box) -> bool:
    """Whether a box lies within the crop of its view, but for rounding."""
    top, bottom, left, right = shards.columns["placement"][i][VIEWS.index(box.view)].tolist()
    left, right = sorted((left, right))
    a, b, c, d = box.image
    return bool(top - 0.01 <= a and b <= bottom + 0.01 and left - 0.01 <= c and d <= right + 0.01)


def _pixel_differences(first: Shards, second: Shards, pairs: Sequence[tuple[int, int]]) -> tuple[PixelDifference, ...]:
    layouts = [parse_yaml(shards.receipt.pipeline_yaml, shards.folder)["fuse"]["layout"] for shards in (first, second)]
    if first.image_shape != second.image_shape or layouts[0] != layouts[1]:
        return ()
    found = []
    for i, j in pairs:
        apart = np.abs(first.images([i])[0] - second.images([j])[0])
        found.append(PixelDifference(str(first.breast_ids[i]), float(apart.mean(dtype=np.float64)), float(apart.max())))
    return tuple(sorted(found, key=lambda difference: (-difference.mean, difference.breast_id)))
