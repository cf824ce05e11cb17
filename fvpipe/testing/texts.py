"""Texts of cells and paths: those that a pattern accepts, and the facts that they express."""

from __future__ import annotations

import importlib
import random
import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from fvpipe.datasets.declared.declaration import Column
from fvpipe.datasets.declared.values import DENSITIES, matched_text
from fvpipe.types import Laterality

ALPHABET = string.digits + string.ascii_lowercase + string.ascii_uppercase + " _-./"
ATTEMPTS = 60


def matching_text(
    pattern: str, forced: Mapping[str | int, str], rng: random.Random, accept: Callable[[re.Match[str]], bool]
) -> str | None:
    """Make a text in which `pattern` is found; None where that does not succeed.

    Parameters
    ----------
    pattern : str
        The regular expression.
    forced : mapping of group to str
        Texts of groups, by name or number.
    rng : random.Random
        Chooses among alternatives and characters.
    accept : callable
        Further condition on the match.
    """
    try:
        tree = importlib.import_module("re._parser").parse(pattern)
    except ImportError:  # a Python that keeps it elsewhere: give the texts by `examples`
        return None
    numbers = tree.state.groupdict
    texts = {numbers[group] if isinstance(group, str) else group: text for group, text in forced.items()}
    for attempt in range(ATTEMPTS):
        text = _text(tree, texts, rng, attempt // 20)
        match = re.search(pattern, text)
        if match and all((match[group] or "") == wanted for group, wanted in forced.items()) and accept(match):
            return text
    return None


def _text(tree: Any, forced: Mapping[int, str], rng: random.Random, more: int) -> str:
    """A text of a parsed pattern; `more` repetitions of what may be left out."""
    return "".join(_part(str(kind), value, forced, rng, more) for kind, value in tree)


def _part(kind: str, value: Any, forced: Mapping[int, str], rng: random.Random, more: int) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "NOT_LITERAL" | "IN":
            items = [("NEGATE", None), ("LITERAL", value)] if kind == "NOT_LITERAL" else [(str(k), v) for k, v in value]
            return rng.choice(_members(tuple(items)))
        case "ANY":
            return rng.choice(string.ascii_lowercase)
        case "BRANCH":
            return _text(rng.choice(value[1]), forced, rng, more)
        case "SUBPATTERN":
            return forced[value[0]] if value[0] in forced else _text(value[3], forced, rng, more)
        case "ATOMIC_GROUP":
            return _text(value, forced, rng, more)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, part = value
            times = max(least if least != 1 else min(int(most), 4), min(int(most), more))
            return "".join(_text(part, forced, rng, more) for _ in range(times))
        case _:  # anchors and what looks around; the result is matched
            return ""


@lru_cache(maxsize=1024)  # a pattern is tried many times
def _members(items: tuple[tuple[str, Any], ...]) -> list[str]:
    """Characters of a class, of which letters and digits are enough."""
    members = [c for c in ALPHABET if _is_in(c, items)]
    return [c for c in members if c.isalnum()] or members or [""]


def _is_in(character: str, items: tuple[tuple[str, Any], ...]) -> bool:
    negated = any(kind == "NEGATE" for kind, _ in items)
    categories = {"DIGIT": str.isdigit, "WORD": lambda c: c.isalnum() or c == "_", "SPACE": str.isspace}
    found = False
    for kind, value in items:
        if kind == "LITERAL":
            found |= ord(character) == value
        elif kind == "RANGE":
            found |= value[0] <= ord(character) <= value[1]
        elif kind == "CATEGORY":
            *inverted, name = str(value).removeprefix("CATEGORY_").split("_")
            found |= categories[name](character) != (inverted == ["NOT"])
    return found != negated


def side_words(side: Laterality) -> list[str]:
    """Texts that stand for a side."""
    word = "left" if side is Laterality.LEFT else "right"
    return [side.value, word, word.title(), word.upper(), side.value.lower()]


def literal(pattern: str) -> str:
    """A text that a pattern of a case takes."""
    return re.sub(r"\[(.)[^]]*\]", r"\1", pattern).replace("*", "").replace("?", "x")


def value_of(column: Column, cell: str) -> str:
    """A cell in the declared words."""
    if column.pattern and cell:
        match = re.search(column.pattern, cell)
        cell = matched_text(match) if match else ""
    if column.values:
        words = {known.casefold(): word for known, word in column.values.items()}
        cell = words.get(cell.casefold(), words.get("*", ""))
    return cell


def expected_text(fact: str, column: Column, cell: str) -> str:
    """A fact as ``breasts.csv`` has it, by the declaration's own words."""
    cell = value_of(column, cell)
    if fact == "bi_rads":
        return cell[-1:]
    if fact == "density":
        return DENSITIES.get(cell, cell.upper() if cell.upper() in DENSITIES.values() else "")
    return f"{int(cell):03d}Y" if fact == "age" and cell else cell
