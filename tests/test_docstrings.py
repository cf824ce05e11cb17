"""Docstrings of everything public: present, complete, and without riddles."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest

import fvpipe
from fvpipe import datasets, shards, testing

PACKAGE = Path(fvpipe.__file__).parent
SECTIONS = ("Parameters", "Other Parameters", "Attributes", "Returns", "Yields", "Raises", "Warns")
RIDDLE = re.compile(r"(What|Who|Where)\b")

Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public(node: Documented, name: str) -> Iterator[tuple[str, Documented]]:
    """A module, its public classes and functions, and the public methods of those classes."""
    yield name, node
    for child in node.body:
        if isinstance(child, ast.ClassDef) and not child.name.startswith("_"):
            yield from public(child, f"{name}.{child.name}")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and not child.name.startswith("_"):
            yield f"{name}.{child.name}", child


def bare_entries(docstring: str) -> list[str]:
    """Entries of numpy sections that are followed by no indented text."""
    lines = docstring.splitlines()
    bare, section = [], ""
    for i, line in enumerate(lines):
        following = lines[i + 1] if i + 1 < len(lines) else ""
        if line in SECTIONS and following.startswith("---"):
            section = line
        elif following.startswith("---"):  # another section, such as Examples
            section = ""
        elif section and line and not line.startswith((" ", "---")) and not following.startswith("    "):
            bare.append(f"{section}: {line}")
    return bare


def faults(node: Documented) -> list[str]:
    docstring = ast.get_docstring(node)
    if not docstring:
        return ["no docstring"]
    first = docstring.splitlines()[0]
    return [f"first line: {first}"] * bool(RIDDLE.match(first)) + bare_entries(docstring)


MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("module", MODULES)
def test_public_docstrings(module: str) -> None:
    tree = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8"))
    found = {name: wrong for name, node in public(tree, module) if (wrong := faults(node))}
    assert not found, "\n".join(f"{name}: {'; '.join(wrong)}" for name, wrong in found.items())


def test_the_check_finds_what_it_is_for() -> None:
    code = '''"""Module."""
def good(x):
    """Double a number.

    Parameters
    ----------
    x : int
        Number.

    Returns
    -------
    int
        Twice `x`.

    Notes
    -----
    Any text.

    Examples
    --------
    >>> good(2)
    4
    """
def bare(x):
    """Double.

    Parameters
    ----------
    x : int
    y : int
        Number.

    Raises
    ------
    ValueError
    """
def riddle(): "What doubles."
def nothing(): pass
class Thing:
    """A thing."""
    def method(self): pass
    def _private(self): pass
'''
    found = {name: wrong for name, node in public(ast.parse(code), "m") if (wrong := faults(node))}
    assert found == {
        "m.bare": ["Parameters: x : int", "Raises: ValueError"],
        "m.riddle": ["first line: What doubles."],
        "m.nothing": ["no docstring"],
        "m.Thing.method": ["no docstring"],
    }


def public_classes() -> dict[str, type]:
    """Dataclasses that other programs get or make: those that a public package exports, and results of public functions."""
    exported = [getattr(package, name) for package in (fvpipe, datasets, shards, testing) for name in package.__all__]
    results = [typing.get_type_hints(function)["return"] for function in (fvpipe.index, fvpipe.build_shards)]
    return {each.__name__: each for each in (*exported, *results) if isinstance(each, type) and dataclasses.is_dataclass(each)}


@pytest.mark.parametrize("name", public_classes())
def test_attributes_of_public_classes(name: str) -> None:
    """Comments beside them, as internal classes have, are seen by no `help()`."""
    found = public_classes()[name]
    entries = {
        part for line in (inspect.getdoc(found) or "").splitlines() for part in re.findall(r"\w+", line.partition(" : ")[0])
    }
    assert [each.name for each in dataclasses.fields(found) if each.name not in entries and each.name[0] != "_"] == []
