"""Facts of one breast from several rows: findings, images, tables, exams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Literal

from fvpipe.types import BREAST_FACTS, BreastFacts, Exam, Laterality

DescribedBreast = tuple[str, Laterality, Exam]
"""Patient, side and exam, as a row of a label table names them."""

_BI_RADS = (None, 1, 2, 0, 3, 4, 5, 6)
"""From the least to the worst: a finding that is recalled (0) counts more than one that is benign."""


def agreed(facts: Sequence[BreastFacts]) -> BreastFacts:
    """The first of several descriptions of a breast, with what they know together: what they contradict is not known."""
    result = {name: {getattr(each, name) for each in facts} - {"", None} for name in BREAST_FACTS}
    known = {name: values.pop() if len(values) == 1 else getattr(BreastFacts(), name) for name, values in result.items()}
    targets: dict[str, set[str]] = {}
    for name, value in (pair for each in facts for pair in each.targets):
        targets.setdefault(name, set()).add(value)
    one = tuple(sorted((name, values.pop()) for name, values in targets.items() if len(values) == 1))
    return replace(facts[0], **known, targets=one)


def worst(facts: Sequence[BreastFacts]) -> BreastFacts:
    """The facts that count among those of several findings: malignant, else left out, else unlabelled, else benign.

    Of these findings BI-RADS is the worst one, and pathology the one of least `severity`, or that of the worst BI-RADS where
    these are equal. Other facts than the subset are of the breast, as all findings agree on them.
    """
    rank = {1: 4, -1: 1, 0: 0}
    outcomes = [3 - f.pending if f.excluded else rank[f.label] for f in facts]
    counting = [f for f, outcome in zip(facts, outcomes, strict=True) if outcome == max(outcomes)]
    ranks = [(bool(f.pathology), -f.severity, _BI_RADS.index(f.bi_rads), f.subset) for f in counting]
    decisive, every = agreed([f for f, r in zip(counting, ranks, strict=True) if r == max(ranks)]), agreed(facts)
    bi_rads = max((f.bi_rads for f in counting), key=_BI_RADS.index)
    of_breast = {name: getattr(every, name) for name in ("density", "age", "subtype", "machine", "targets")}
    return replace(decisive, bi_rads=bi_rads, **of_breast)


def combined(facts: Sequence[BreastFacts], how: Literal["same", "first", "worst"]) -> BreastFacts:
    """Facts of a breast that several rows describe, as ``combine`` of their table says."""
    return facts[0] if len(facts) == 1 else worst(facts) if how == "worst" else agreed(facts)


def with_more(facts: BreastFacts, added: BreastFacts) -> BreastFacts:
    """Add BI-RADS, density, subtype and targets where `facts` lack them."""
    more = {name: getattr(facts, name) or getattr(added, name) for name in ("density", "subtype")}
    bi_rads = added.bi_rads if facts.bi_rads is None else facts.bi_rads
    targets = tuple(sorted((dict(added.targets) | dict(facts.targets)).items()))
    return _with_places(replace(facts, **more, bi_rads=bi_rads, targets=targets), facts, [added])


def completed(facts: BreastFacts, rows: Sequence[BreastFacts]) -> BreastFacts:
    """Add the subset, and what :func:`with_more` adds, that rows of several tables know together where `facts` lack them."""
    every = agreed(rows)
    return _with_places(replace(with_more(facts, every), subset=facts.subset or every.subset, place=facts.place), facts, rows)


def _with_places(found: BreastFacts, first: BreastFacts, rows: Sequence[BreastFacts]) -> BreastFacts:
    """Name the rows, too, that gave what `first` lacks."""
    places, missing = [first.place], _known(found) - _known(first)
    for row in rows:
        if missing & _known(row):
            places.append(row.place)
            missing -= _known(row)
    return replace(found, place=" and ".join(dict.fromkeys(filter(None, places))))


def _known(facts: BreastFacts) -> set[tuple[str, object]]:
    values = {(name, getattr(facts, name)) for name in BREAST_FACTS}
    return {(name, value) for name, value in (*values, *facts.targets) if value not in ("", None)}


def differing_facts(first: BreastFacts, second: BreastFacts) -> str:
    """Names of the facts in which two descriptions differ."""
    names = ["label", *BREAST_FACTS, "targets"]
    return ", ".join(name for name in names if getattr(first, name) != getattr(second, name)) or "excluded"


def with_follow_up(
    found: Mapping[DescribedBreast, BreastFacts],
    confirmed: Mapping[tuple[str, Laterality], Sequence[tuple[date, Exam, BreastFacts]]],
    days: Mapping[DescribedBreast, date],
    limit: int,
) -> tuple[dict[DescribedBreast, BreastFacts], set[DescribedBreast]]:
    """Let pathology at another exam up to `limit` days later decide.

    A malignant result decides over all that the earlier exam gives, a benign one only where it gives no label, and one by which
    its own exam is left out (a cancer that is known already) over a benign label. A breast that is left out for a reason of its
    own (a male patient, a cancer that was known before) stays so.

    Parameters
    ----------
    found : mapping of (patient, Laterality, Exam) to BreastFacts
        By the rows of each exam alone.
    confirmed : mapping of (patient, Laterality) to sequence of (date, Exam, BreastFacts)
        Results of pathology.
    days : mapping of (patient, Laterality, Exam) to date
        Day of each exam.
    limit : int
        Days.

    Returns
    -------
    dict of (patient, Laterality, Exam) to BreastFacts
        `found`, decided.
    set of (patient, Laterality, Exam)
        The breasts of `confirmed` that were within the days of another exam.
    """
    result, used = dict(found), set[DescribedBreast]()
    for key, facts in found.items():
        patient, side, exam = key
        if key not in days or facts.label == 1 or (facts.excluded and not facts.pending):
            continue
        others = confirmed.get((patient, side), ())
        later = [(other, result) for day, other, result in others if other != exam and 0 <= (day - days[key]).days <= limit]
        used.update((patient, side, other) for other, _ in later)
        decisive = worst([result for _, result in later]) if later else facts
        place = f"{facts.place} and {decisive.place}"
        if decisive.label == 1 or (decisive.label == 0 and facts.label == -1):
            result[key] = replace(facts, label=decisive.label, excluded="", pathology=decisive.pathology, place=place)
        elif decisive.excluded and facts.label == 0:
            result[key] = replace(facts, label=-1, excluded=f"at a later exam: {decisive.excluded}", place=place)
    return result, used
