"""Two pipelines on the same breasts: detectability for a model observer, pixels of the findings, differences of images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fvpipe.comparison.detectability import Detectability, ObserverScores, shuffled_control, size_groups
from fvpipe.comparison.finding_pixels import FindingPixels, finding_pixels, largest_findings
from fvpipe.comparison.observer import TooFewPatientsError, sample_features
from fvpipe.config.pipeline import stored_pipeline
from fvpipe.errors import InputError
from fvpipe.evaluation.metrics.intervals import Estimate
from fvpipe.evaluation.text import to_json
from fvpipe.progress import progress
from fvpipe.report.finding_boxes import read_findings
from fvpipe.shards.reader import Shards

CHANCE = 0.5  # area of scores that mean nothing
NAMED = 3  # breasts that an error names


@dataclass(frozen=True, slots=True)
class PixelDifference:
    """Difference of a breast's two samples: mean and largest absolute difference of values in [0, 1]."""

    breast_id: str
    mean: float
    largest: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of two pipelines on one data set."""

    dataset: str
    simulated: bool
    first: str  # name of the pipeline, or of the folder where both builds are of one name
    second: str
    breasts: int  # that are compared
    patients: int
    unlabelled: int  # breasts without a label, which only the pixels are compared of
    left_out: tuple[int, int]  # breasts that only the first, and only the second has
    noise: float  # standard deviation of the noise added for the observer, as a share of the range
    # Of all malignant breasts, then by size of finding; empty where a class has too few patients, for the reason in
    # `why_no_detectability`
    detectability: tuple[Detectability, ...]
    why_no_detectability: str
    # Area of the first pipeline's samples where labels are shuffled over patients, with its range over shuffles: it must be at
    # chance, .5
    control: Estimate | None
    findings: FindingPixels | None  # None where the data set has no boxes
    pixels: tuple[PixelDifference, ...]  # largest first; empty where the samples differ in shape or layout

    @property
    def control_at_chance(self) -> bool:
        """Whether shuffled labels are at chance; False without a control."""
        c = self.control
        return c is not None and c.low is not None and c.high is not None and c.low <= CHANCE <= c.high

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        plain = {name: to_json(getattr(self, name)) for name in self.__slots__}
        plain["control_at_chance"] = self.control_at_chance
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
    place = {breast: i for i, breast in enumerate(second.breast_ids.tolist())}
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
        names = names_of(first, second)
        raise InputError(
            f"{one.dataset}: {left_out[0]} breasts are only in {names[0]} ({_some(mine - theirs)}), {left_out[1]} only in "
            f"{names[1]} ({_some(theirs - mine)}); rejected.csv of each says why. With --common the {len(pairs)} in both"
            " are compared"
        )
    return pairs, left_out


def names_of(first: Shards, second: Shards) -> tuple[str, str]:
    """Name both by their pipelines; two builds by pipelines of one name by their folders."""
    one, two = first.receipt.pipeline, second.receipt.pipeline
    pairs = (one, two), (first.folder.resolve().name, second.folder.resolve().name), (str(first.folder), str(second.folder))
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[0])


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


def compare(first: Shards, second: Shards, *, noise: float, replicates: int, common: bool = False) -> Comparison:
    """Compare two pipelines on the breasts of one data set.

    Parameters
    ----------
    first, second : Shards
        Shard folders of one data set, each by one pipeline.
    noise : float
        Standard deviation of the noise for the observer, as a share of the range.
    replicates : int
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
    layouts = {
        stored_pipeline(each.receipt.pipeline_yaml, f"the pipeline of {each.folder}", each.image_shape).fuse.layout
        for each in (first, second)
    }
    pairs, left_out = match_breasts(first, second, common)
    labels = np.array([first.labels[i] for i, _ in pairs], np.int64)
    patients = [str(first.patient_ids[i]) for i, _ in pairs]
    findings = read_findings(first), read_findings(second)
    known = [k for k, label in enumerate(labels.tolist()) if label >= 0]
    truth, owners, groups, control, why = labels[known], [patients[k] for k in known], list[Detectability](), None, ""
    try:
        features = (
            _observed(first, [pairs[k][0] for k in known], noise),
            _observed(second, [pairs[k][1] for k in known], noise),
        )
        scores = ObserverScores.of(features, truth, owners, replicates)
        control = shuffled_control(features[0], truth, owners)
    except TooFewPatientsError as error:
        why = str(error)
    else:
        sizes = largest_findings(first, second, [pairs[k] for k in known], findings)
        groups = [scores.of_group(name, chosen) for name, chosen in (("all", truth >= 0), *size_groups(sizes, truth))]
    names = names_of(first, second)
    return Comparison(
        dataset=first.receipt.dataset,
        simulated=first.receipt.simulated,
        first=names[0],
        second=names[1],
        breasts=len(pairs),
        patients=len(set(patients)),
        unlabelled=int((labels < 0).sum()),
        left_out=left_out,
        noise=noise,
        detectability=tuple(groups),
        why_no_detectability=why,
        control=control,
        findings=finding_pixels(first, second, pairs, findings),
        pixels=_pixel_differences(first, second, pairs) if len(layouts) == 1 else (),
    )


def _observed(shards: Shards, indices: Sequence[int], noise: float) -> NDArray[np.float64]:
    """Features of the samples at `indices`, shape (n, f)."""
    features = []
    with progress(f"{shards.receipt.pipeline}: responses", len(indices), "breasts") as advance:
        for i in indices:
            sample = shards[i]
            features.append(sample_features(sample.image, sample.placement, sample.breast_id, noise))
            advance(1)
    return np.array(features)


def _pixel_differences(first: Shards, second: Shards, pairs: Sequence[tuple[int, int]]) -> tuple[PixelDifference, ...]:
    if first.image_shape != second.image_shape:
        return ()
    found = []
    for i, j in pairs:
        apart = np.abs(first.images([i])[0] - second.images([j])[0])
        found.append(PixelDifference(str(first.breast_ids[i]), float(apart.mean(dtype=np.float64)), float(apart.max())))
    return tuple(sorted(found, key=lambda difference: (-difference.mean, difference.breast_id)))
