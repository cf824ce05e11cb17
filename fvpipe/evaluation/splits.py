"""Step 6: breasts -> the paper's evaluation settings, and a check that nothing leaks. Pure.

A digest of the patient decides (in the seen-patient setting: of the breast), against a fixed share: the part of a patient
depends on nobody else, so that new patients never move old ones, and on the seed alone. Class balance follows in
expectation; :func:`balance` says what it came to.

Breasts that share pixels stand together whatever the setting, so that no identical image is on both sides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from blake3 import blake3

Setting = Literal["seen", "unseen", "cross", "kfold", "official"]


class Part(StrEnum):
    """What a breast is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One breast as a split sees it.

    Attributes
    ----------
    dataset, breast_id, patient_id, study : str
    label : int
        1 malignant, 0 benign, -1 unlabelled: in no split.
    subset : str
        The data set's own split, where it has one: ``training`` or ``test``.
    sources, pixels : tuple of str
        Digests of both views' files and decoded pixels; empty where no shard has been read.
    """

    dataset: str
    breast_id: str
    patient_id: str
    study: str
    label: int
    subset: str = ""
    sources: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()

    @property
    def patient(self) -> tuple[str, str]:
        """The patient among all data sets."""
        return self.dataset, self.patient_id


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """A split to make.

    Attributes
    ----------
    setting : {"seen", "unseen", "cross", "kfold", "official"}
    datasets : tuple of str
        Data sets pooled; for ``cross`` those trained on.
    test : tuple of str
        For ``cross``: the data sets tested on.
    test_share : float
        Of all.
    validation_share : float
        Of what is not test.
    folds, fold : int
        For ``kfold``: how many, and which is the test fold.
    seed : int
    """

    setting: Setting
    datasets: tuple[str, ...]
    test: tuple[str, ...] = ()
    test_share: float = 0.2
    validation_share: float = 0.125
    folds: int = 5
    fold: int = 0
    seed: int = 0

    @property
    def patients_apart(self) -> bool:
        """Whether no patient may be in two parts."""
        return self.setting != "seen"


@dataclass(frozen=True, slots=True)
class Assignment:
    """A breast and its part."""

    candidate: Candidate
    part: Part


def split(candidates: Iterable[Candidate], plan: SplitPlan) -> list[Assignment]:
    """Assign every labelled breast of the plan's data sets.

    Returns
    -------
    list of Assignment
        Sorted by data set and breast.
    """
    wanted = {*plan.datasets, *plan.test}
    chosen = sorted((c for c in candidates if c.dataset in wanted and c.label >= 0), key=lambda c: (c.dataset, c.breast_id))
    groups = _groups(chosen, plan)
    return [Assignment(c, _part(c, groups[c.dataset, c.breast_id], plan)) for c in chosen]


def _part(candidate: Candidate, group: str, plan: SplitPlan) -> Part:
    validation = Part.VALIDATION if _share(plan.seed, "validation", group) < plan.validation_share else Part.TRAIN
    match plan.setting:
        case "cross":
            return Part.TEST if candidate.dataset in plan.test else validation
        case "official":
            return Part.TEST if candidate.subset == "test" else validation
        case "kfold":
            return Part.TEST if int(_share(plan.seed, "fold", group) * plan.folds) == plan.fold else validation
        case _:
            return Part.TEST if _share(plan.seed, "test", group) < plan.test_share else validation


def _share(seed: int, purpose: str, group: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments."""
    digest = blake3(f"{seed}\0{purpose}\0{group}".encode("utf-8", "surrogatepass")).digest(length=7)
    return int.from_bytes(digest, "big") / 2**56


def _groups(candidates: Sequence[Candidate], plan: SplitPlan) -> dict[tuple[str, str], str]:
    """For each breast, what decides its part: the least name among all that must stand together with it."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    names = {}
    for c in candidates:
        unit = c.patient_id if plan.patients_apart else c.breast_id
        names[c.dataset, c.breast_id] = f"{c.dataset}\0{unit}"
    first: dict[str, str] = {}
    for c in candidates:
        for pixels in c.pixels:
            a = root(names[c.dataset, c.breast_id])
            b = root(first.setdefault(pixels, names[c.dataset, c.breast_id]))
            parent[max(a, b)] = min(a, b)
    return {key: root(name) for key, name in names.items()}


# --- the leak check ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leak:
    """Something that stands in two parts.

    Attributes
    ----------
    kind : {"patient", "study", "file", "pixels"}
    parts : tuple of Part
    breasts : tuple of str
        ``dataset/breast_id`` of all that share it.
    """

    kind: str
    parts: tuple[Part, ...]
    breasts: tuple[str, ...]


def leaks(assignments: Iterable[Assignment], plan: SplitPlan) -> list[Leak]:
    """Whatever is in two parts and must not be: patients and studies (but in the seen setting), files and pixels."""
    members: dict[tuple[str, str], list[Assignment]] = defaultdict(list)
    for assignment in assignments:
        c = assignment.candidate
        keys = [("file", digest) for digest in c.sources] + [("pixels", digest) for digest in c.pixels]
        if plan.patients_apart:
            keys.append(("patient", "\0".join(c.patient)))
            if c.study:
                keys.append(("study", c.study))
        for key in set(keys):
            members[key].append(assignment)
    found = []
    for (kind, _), group in sorted(members.items()):
        parts = tuple(sorted({a.part for a in group}))
        if len(parts) > 1:
            found.append(Leak(kind, parts, tuple(f"{a.candidate.dataset}/{a.candidate.breast_id}" for a in group)))
    return found


def leak_rate(assignments: Sequence[Assignment]) -> float | None:
    """Share of test breasts whose patient is in train too; None without a test breast."""
    trained = {a.candidate.patient for a in assignments if a.part is Part.TRAIN}
    tested = [a for a in assignments if a.part is Part.TEST]
    return sum(a.candidate.patient in trained for a in tested) / len(tested) if tested else None


def balance(assignments: Iterable[Assignment]) -> Mapping[Part, Counter[int]]:
    """How many benign (0) and malignant (1) breasts each part has."""
    counts: dict[Part, Counter[int]] = {part: Counter() for part in Part}
    for assignment in assignments:
        counts[assignment.part][assignment.candidate.label] += 1
    return counts


def folds(plan: SplitPlan) -> list[SplitPlan]:
    """One plan a fold."""
    return [replace(plan, fold=fold) for fold in range(plan.folds)] if plan.setting == "kfold" else [plan]
