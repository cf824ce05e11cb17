"""Split breasts by the paper's evaluation settings, and check for leaks. Pure functions.

Patients (in the setting ``seen``: breasts) are ranked by a digest of seed and identifier inside each stratum, and the parts are
cut from this order: shares and class balance are exact, and adding a patient moves only those at a boundary of its stratum. The
stratum is the data set and whether any breast of the patient is malignant; of a patient of several, both of each.

What two breasts share decides whether they may be in two parts; patients and studies may be in the setting ``seen``:

=============================  ========================  =========================  =====================================
Shared                         Kept in one part          An error in two parts      Counted in two parts
=============================  ========================  =========================  =====================================
patient of one data set        :func:`split`             :func:`leaks`              :func:`leak_rate` (``seen``)
patient of two data sets       :func:`split`             no                         :func:`shared_identifiers`
Study Instance UID                                       :func:`leaks`
file                                                     :func:`leaks`
pixels, also mirrored          :func:`split`             :func:`leaks`
nearly the same pixels         :func:`split`             no                         :mod:`~fvpipe.evaluation.splits.make_splits`
=============================  ========================  =========================  =====================================

The settings ``cross`` and ``official`` prescribe the test part, so that :func:`split` cannot keep breasts in one part with
those. One identifier in two data sets is not an error there: two hospitals may both have a patient 1.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from typing import TYPE_CHECKING

from blake3 import blake3

from fvpipe.config.project import Split
from fvpipe.errors import LeakError
from fvpipe.imaging.pixel_digest import unturned
from fvpipe.io.folding import folded_name

if TYPE_CHECKING:  # evaluation reads splits and no shard
    from fvpipe.shards.reader import Shards


class Part(StrEnum):
    """Use of a breast."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Candidate:
    """The properties of a breast that a split depends on.

    Attributes
    ----------
    study : str
        That of the header; empty where tables or paths name exams, since exams of several patients may have one name.
    label : int
        1 malignant, 0 benign, -1 unlabelled (in no split).
    subset : str
        The data set's own split, where it has one: ``training`` or ``test``.
    sources, pixels : tuple of str
        Digests of the files and of the decoded pixels, mirrored or not, of its views; empty where the breast is in no shard.
    views : frozenset of {"cc", "mlo", "both"}
        Views that it has; ``both``: as a pair.
    near : tuple of str
        Names of the groups of nearly the same images that it is in.
    digest : str
        Of its patient, as data sets with hashed identifiers have it, where some of a split have those and this one has its own.
    """

    dataset: str
    breast_id: str
    patient_id: str
    study: str
    label: int
    subset: str = ""
    sources: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    views: frozenset[str] = frozenset({"cc", "mlo", "both"})
    near: tuple[str, ...] = ()
    digest: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Data set and breast."""
        return self.dataset, self.breast_id

    @property
    def patient(self) -> tuple[str, str]:
        """Data set and patient."""
        return self.dataset, self.patient_id

    @staticmethod
    def digests_of(shards: Shards, i: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """`sources` and `pixels` of sample `i` of a shard folder."""
        sources, pixels = ([each.decode() for each in shards.columns[f"{of}_digest"][i] if each] for of in ("source", "pixel"))
        return tuple(sources), tuple(map(unturned, pixels))


@dataclass(frozen=True, slots=True)
class Assignment:
    """A breast and its part."""

    candidate: Candidate
    part: Part


def split(candidates: Iterable[Candidate], settings: Split, fold: int = 0) -> list[Assignment]:
    """Assign every labelled breast of the chosen data sets that has the chosen views.

    Parameters
    ----------
    candidates : iterable of Candidate
        In any order.
    settings : Split
        Setting, data sets and shares.
    fold : int
        For ``kfold``: index of the test fold.

    Returns
    -------
    list of Assignment
        Sorted by data set and breast.
    """
    usable = (c for c in candidates if c.dataset in settings.all_datasets and c.label >= 0 and settings.views in c.views)
    chosen = sorted(usable, key=lambda c: c.key)
    groups = _groups(chosen, settings)
    match settings.setting:
        case "cross":
            tested = [c.dataset in settings.test for c in chosen]
        case "official":
            tested = [c.subset == "test" for c in chosen]
        case "kfold":
            tested = [int(place * settings.folds) == fold for place in _places(chosen, groups, settings.seed, "fold")]
        case _:
            tested = [place <= settings.test_share for place in _places(chosen, groups, settings.seed, "test")]
    rest = [c for c, test in zip(chosen, tested, strict=True) if not test]
    places = iter(_places(rest, groups, settings.seed, "validation"))
    return [
        Assignment(c, Part.TEST if test else Part.VALIDATION if next(places) <= settings.validation_share else Part.TRAIN)
        for c, test in zip(chosen, tested, strict=True)
    ]


def _places(candidates: Sequence[Candidate], groups: Mapping[tuple[str, str], str], seed: int, purpose: str) -> list[float]:
    """Place of each breast's group in its stratum, from 0 to below 1, in the order of digests.

    The place is the middle of the group among the stratum's breasts of its class, so that a cut at a share is exact to
    half a group.
    """
    members: dict[str, list[Candidate]] = defaultdict(list)
    for c in candidates:
        members[groups[c.key]].append(c)
    strata: dict[tuple[tuple[str, int], ...], list[str]] = defaultdict(list)  # by data sets, and the class in each
    for name, group in members.items():
        worst = {c.dataset: c.label for c in sorted(group, key=lambda c: c.label)}
        strata[tuple(sorted(worst.items()))].append(name)
    places = {}
    for sets, names in strata.items():
        label = max(label for _, label in sets)
        names.sort(key=lambda name: (blake3(f"{seed}\0{purpose}\0{name}".encode("utf-8", "surrogatepass")).digest(), name))
        counts = [sum(c.label == label for c in members[name]) for name in names]
        total = sum(counts)
        for name, count, end in zip(names, counts, accumulate(counts), strict=True):
            places[name] = (2 * end - count) / (2 * total)
    return [places[groups[c.key]] for c in candidates]


def _groups(candidates: Sequence[Candidate], settings: Split) -> dict[tuple[str, str], str]:
    """Map each breast to the name that stands for it in the ranking: the least among all that must be in the same part.

    Where patients are kept apart, one identifier in two data sets is taken for one patient, as in copies of a data set, also
    where it is written with other zeros, spaces or case.
    """
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    names = {c.key: f"{c.dataset}\0{c.patient_id if settings.patients_apart else c.breast_id}" for c in candidates}
    first: dict[tuple[str, str], str] = {}
    for c in candidates:
        # One that differs by case or leading zeros may be the same woman's; kept together, two women cost nothing.
        written = {folded_name(each) for each in (c.digest, c.patient_id) if each} if settings.patients_apart else ()
        patient = [("patient", each) for each in sorted(written)]
        for shared in [*patient, *(("pixels", digest) for digest in c.pixels), *(("near", group) for group in c.near)]:
            a, b = root(names[c.key]), root(first.setdefault(shared, names[c.key]))
            parent[max(a, b)] = min(a, b)
    return {key: root(name) for key, name in names.items()}


# --- the leak check ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leak:
    """A property that breasts of two parts share.

    Attributes
    ----------
    kind : {"patient", "study", "file", "pixels"}
        The shared property.
    breasts : tuple of str
        ``dataset/breast_id`` of all that share it.
    """

    kind: str
    parts: tuple[Part, ...]
    breasts: tuple[str, ...]


def leaks(assignments: Iterable[Assignment], settings: Split) -> list[Leak]:
    """Find files, pixels and, but in the setting ``seen``, patients and studies that are in two parts."""
    members: dict[tuple[str, str], list[Assignment]] = defaultdict(list)
    for assignment in assignments:
        c = assignment.candidate
        keys = [("file", digest) for digest in c.sources] + [("pixels", digest) for digest in c.pixels]
        if settings.patients_apart:
            keys.append(("patient", "\0".join(c.patient)))
            if c.study:
                keys.append(("study", c.study))
        for key in set(keys):
            members[key].append(assignment)
    found = []
    for (kind, _), group in sorted(members.items()):
        parts = tuple(sorted({a.part for a in group}))
        if len(parts) > 1:
            found.append(Leak(kind, parts, tuple("/".join(a.candidate.key) for a in group)))
    return found


def reject_leaks(
    assignments: Iterable[Assignment], settings: Split, where: object, advice: Callable[[Leak, Split], str]
) -> None:
    """Raise a LeakError if there are :func:`leaks`: it names `where` they are, the first of them, and what to do about it."""
    if found := leaks(assignments, settings):
        first = found[0]
        raise LeakError(
            f"{where}: {len(found)} leak(s); the first: the same {first.kind} is in {' and '.join(first.parts)} "
            f"({', '.join(first.breasts[:4])}){advice(first, settings)}"
        )


def leak_rate(assignments: Sequence[Assignment]) -> float | None:
    """Compute the share of test breasts whose patient is in train too; None without a test breast."""
    trained = {a.candidate.patient for a in assignments if a.part is Part.TRAIN}
    tested = [a for a in assignments if a.part is Part.TEST]
    return sum(a.candidate.patient in trained for a in tested) / len(tested) if tested else None


def shared_identifiers(assignments: Iterable[Assignment], settings: Split) -> int:
    """Count the patient identifiers that stand in two data sets and in two parts.

    Whether they are the same women is not known: two hospitals may both have a patient 1, and one may have published twice.
    """
    places: dict[str, set[tuple[str, Part]]] = defaultdict(set)
    for a in assignments if settings.patients_apart else ():
        places[folded_name(a.candidate.digest or a.candidate.patient_id)].add((a.candidate.dataset, a.part))
    return sum(all(len(set(each)) > 1 for each in zip(*found, strict=True)) for found in places.values())


def balance(assignments: Iterable[Assignment]) -> Mapping[Part, Counter[int]]:
    """Count the benign (0) and malignant (1) breasts of each part."""
    counts: dict[Part, Counter[int]] = {part: Counter() for part in Part}
    for assignment in assignments:
        counts[assignment.part][assignment.candidate.label] += 1
    return counts
