"""Licences of all that fvpipe installs at run time: what is under the GPL or AGPL is named here with its reason, or fails."""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: found for name, found in PROJECT["optional-dependencies"].items() if name not in ("test", "all")}
TREES = {"base": PROJECT["dependencies"], **EXTRAS}

ALLOWED = {
    "dvc": {
        "grandalf": "GPL-2.0 or EPL-1.0, at the user's choice; draws `dvc dag`",
        "pygit2": "GPL-2.0 with a linking exception: programs under any licence may use it; DVC's second way to read git",
    },
}
"""By extra. DVC is a program that is run, and nothing of fvpipe imports it."""

UNSTATED = {"cuda-toolkit": "NVIDIA's package of nothing but dependencies, which torch for Linux asks for"}


@cache
def tree(extra: str) -> dict[str, Distribution]:
    """Every distribution that an installation of these requirements brings, as far as it is installed here."""
    found: dict[str, Distribution] = {}
    todo = [(Requirement(text), "") for text in TREES[extra]]
    seen = set()
    while todo:
        requirement, of_extra = todo.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": of_extra}):
            continue
        for wanted in ("", *requirement.extras):
            name = canonicalize_name(requirement.name)
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            todo += [(Requirement(text), wanted) for text in found[name].requires or ()]
    return found


def licence(found: Distribution) -> str:
    """What a distribution says of its licence: an SPDX expression, or else its classifiers, or the first line of a text."""
    meta = found.metadata
    expression, texts = (next(iter(meta.get_all(name) or ()), "").strip() for name in ("License-Expression", "License"))
    classifiers = [
        text.removeprefix("License :: ") for text in meta.get_all("Classifier") or () if text.startswith("License ::")
    ]
    named = [text.removeprefix("OSI Approved :: ") for text in classifiers if text != "OSI Approved"]
    return expression or " AND ".join(named) or texts.partition("\n")[0]


def is_gpl(text: str) -> bool:
    """Whether a licence is the GPL or AGPL, and offers no other to choose instead. The LGPL is neither."""
    return all(re.search(r"\bA?GPL|GNU (Affero )?General Public", choice, re.IGNORECASE) for choice in text.split(" OR "))


def test_what_is_gpl() -> None:
    for text in (
        "GPL-2.0-only",
        "GPLv3+",
        "MIT AND AGPL-3.0",
        "GNU General Public License v2 (GPLv2)",
        "GPLv2 with linking exception",
    ):
        assert is_gpl(text), text
    for text in ("MIT", "", "Apache-2.0 OR GPL-2.0-or-later", "GNU Lesser General Public License v3 (LGPLv3)", "LGPL-2.1"):
        assert not is_gpl(text), text


@pytest.mark.parametrize("extra", TREES)
def test_licences_of_run_time_dependencies(extra: str) -> None:
    found = {name: licence(each) for name, each in tree(extra).items()}
    listing = "\n".join(f"{name}: {text or 'says nothing'}" for name, text in sorted(found.items()))
    print(listing)
    missing = {canonicalize_name(Requirement(text).name) for text in TREES[extra]} - found.keys()
    if missing:
        pytest.skip(f"not installed here: {', '.join(sorted(missing))}")
    assert {name for name, text in found.items() if not text} <= UNSTATED.keys(), listing
    assert {name for name, text in found.items() if is_gpl(text)} == set(ALLOWED.get(extra, {})), listing


def test_documentation_names_the_exceptions() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    for packages in ALLOWED.values():
        for name in packages:
            assert f"`{name}`" in page
