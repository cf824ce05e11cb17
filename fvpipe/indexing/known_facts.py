"""Which facts are known of how many breasts and images of a data set, in the same words for every data set."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from fvpipe.indexing.index import Index
from fvpipe.printable import LINE_COLUMNS
from fvpipe.types import BREAST_FACTS, Breast


def known_facts(found: Index) -> dict[str, dict[str, int]]:
    """Count the breasts, pairs or not, of which each fact is known, and their images.

    Returns
    -------
    dict of str to {"breasts": int, "images": int}
        Label, the facts of label tables, ``boxes`` of findings, and what headers say. Only facts that some breast has.
    """
    breasts = found.all_breasts
    counts: dict[str, dict[str, int]] = {}
    for breast in breasts:
        for fact in _known(breast):
            count = counts.setdefault(fact, {"breasts": 0, "images": 0})
            count["breasts"] += 1
            count["images"] += len(breast.images)
    order = ["label", *BREAST_FACTS, *sorted({name for breast in breasts for name, _ in breast.facts.targets})]
    return {fact: counts[fact] for fact in [*order, "boxes", "patient_age", "manufacturer", "spacing"] if fact in counts}


def _known(breast: Breast) -> Iterable[str]:
    facts = breast.facts
    if facts.label >= 0:
        yield "label"
    yield from (name for name in BREAST_FACTS if getattr(facts, name) not in ("", None))
    yield from (name for name, _ in facts.targets)
    if any(breast.findings):
        yield "boxes"
    for name in ("patient_age", "manufacturer"):
        if all(getattr(image, name) for image in breast.images):
            yield name
    if all(image.row_spacing is not None for image in breast.images):
        yield "spacing"


def known_lines(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Format :func:`known_facts` in lines of at most 100 columns: breasts, and their images in parentheses.

    Examples
    --------
    >>> known_lines({"label": {"breasts": 4, "images": 8}, "density": {"breasts": 2, "images": 4}})
    ['  known of breasts (images): label 4 (8), density 2 (4)']
    """
    if not counts:
        return []
    told = [f"{fact}\u00a0{count['breasts']}\u00a0({count['images']})" for fact, count in counts.items()]  # kept in one line
    text = "known of breasts (images): " + ", ".join(told)
    lines = textwrap.wrap(text, LINE_COLUMNS, initial_indent="  ", subsequent_indent="    ", break_long_words=False)
    return [line.replace("\u00a0", " ") for line in lines]
