"""Digest of the code that decides a training, so that a finished training is repeated when that code has changed."""

from __future__ import annotations

import ast
from pathlib import Path

import fvpipe
from fvpipe.config.loading import digest_of
from fvpipe.types import Digest

START = "fvpipe.training.train"
PACKAGES = ("fvpipe.training", "fvpipe.evaluation", "fvpipe.torch", "fvpipe.shards")
"""Code outside them reaches a training through shards, split, recipe and pipeline only, which have digests of their own."""


def code_digest(root: Path = Path(fvpipe.__file__).parent) -> Digest:
    """Digest the sources of :func:`training_modules`."""
    return digest_of([[name, path.read_text(encoding="utf-8")] for name, path in training_modules(root).items()])


def training_modules(root: Path) -> dict[str, Path]:
    """Find every module of :data:`PACKAGES` that training imports, directly or not, by reading the import statements.

    Parameters
    ----------
    root : Path
        Folder of the package fvpipe.

    Returns
    -------
    dict of str to Path
        Source file of each module, by name, sorted.
    """
    found: dict[str, Path] = {}
    names = [START]
    while names:
        name = names.pop()
        file = root.joinpath(*name.split(".")[1:]).with_suffix(".py")
        if name in found or not name.startswith(PACKAGES) or not file.is_file():
            continue
        found[name] = file
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return dict(sorted(found.items()))
