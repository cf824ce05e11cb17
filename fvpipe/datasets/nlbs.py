"""NL-Breast-Screening, beside its declaration: which breast has a cancer that the rows of both breasts have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from fvpipe.datasets.adapter import ListedImage
from fvpipe.types import BreastFacts

MARK = "-c"  # of the folder of a side: it has the cancer
NOT_NAMED = "rows of both breasts have the cancer of the exam, and the folder of this one does not name it (left-c, right-c)"


def settle_labels(listed: Mapping[str, ListedImage]) -> dict[str, ListedImage]:
    """Leave out breasts whose cancer may be that of the other one.

    Public loaders cite the publisher's README: `Cancer` is of the exam, and ``left-c`` or ``right-c`` is the folder of the
    breast that has it. In releases without this mark a cancer counts where the rows of one breast alone have it.

    Parameters
    ----------
    listed : mapping of str to ListedImage
        Rows by kind, exam, side, view and file: the last five parts of the image's path.
    """
    sides: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for key, image in listed.items():
        if any(facts.label == 1 for facts in _facts(image)):
            *exam, side = key.casefold().split("/")[:3]
            sides[tuple(exam)].add(side)
    result = dict(listed)
    for key, image in listed.items():
        *exam, side = key.casefold().split("/")[:3]
        with_cancer = sides[tuple(exam)]
        if side in with_cancer and not side.endswith(MARK) and len(with_cancer) > 1:
            first, *more = (_left_out(facts) for facts in _facts(image))
            result[key] = replace(image, facts=first, more_facts=tuple(more))
    return result


def _facts(image: ListedImage) -> list[BreastFacts]:
    return [facts for facts in (image.facts, *image.more_facts) if facts is not None]


def _left_out(facts: BreastFacts) -> BreastFacts:
    return replace(facts, label=-1, excluded=NOT_NAMED) if facts.label == 1 else facts
