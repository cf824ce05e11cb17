"""Adapters by name: fvpipe's own, those of other packages, and a user's declarations."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import entry_points
from pathlib import Path

from fvpipe.config.loading import parse, read_yaml
from fvpipe.datasets.adapter import Adapter
from fvpipe.datasets.declared.declaration import Declaration
from fvpipe.datasets.declared.tables import declared_adapter
from fvpipe.datasets.declared.unused_keys import check_unused_keys
from fvpipe.errors import ParameterError
from fvpipe.versions import ADAPTER_VERSION

ENTRY_POINTS = "fvpipe.datasets"
"""Group of entry points by which another package adds adapters: name -> an :class:`Adapter`, or the path of a declaration."""


def get_adapter(name: str, folder: Path = Path()) -> Adapter:
    """Look up an adapter of fvpipe or of another installed package, or read a declaration.

    Parameters
    ----------
    name : str
        A name, or the path of a declaration, which ends in ``.yaml``.
    folder : Path
        What such a path is relative to.

    Raises
    ------
    ParameterError
        No adapter has this name, it cannot be imported or was written for a later version, or its declaration is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return declared_adapter(load_declaration(folder / name))
    own, outside = declaration_files(), {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name in own and name not in outside:  # a package that brings an adapter of the same name was installed for it
        return declared_adapter(load_declaration(own[name]))
    if name not in outside:
        known = ", ".join((*own, *sorted(outside)))
        raise ParameterError(f"no adapter {name!r}; expected one of {known}, or the path of a declaration (.yaml)")
    try:
        found: object = outside[name].load()
    except Exception as error:
        raise ParameterError(f"adapter {name!r} ({outside[name].value}) cannot be imported: {error!r}") from error
    if isinstance(found, str | Path):
        return declared_adapter(load_declaration(Path(found)))
    if not isinstance(found, Adapter):
        raise ParameterError(f"adapter {name!r} is a {type(found).__name__}; expected an fvpipe.datasets.Adapter")
    _check_version(f"adapter {name!r}", found.version)
    return found


def installed_adapters() -> dict[str, tuple[str, Adapter | ParameterError]]:
    """List adapters of other installed packages: name -> package, and the adapter, or why it cannot be used."""
    found: dict[str, tuple[str, Adapter | ParameterError]] = {}
    for entry in sorted(entry_points(group=ENTRY_POINTS)):
        package = entry.dist.name if entry.dist else "?"
        try:
            found[entry.name] = package, get_adapter(entry.name)
        except ParameterError as error:
            found[entry.name] = package, error
    return found


def _check_version(what: str, version: object) -> None:
    if isinstance(version, int) and version > ADAPTER_VERSION:
        raise ParameterError(f"{what}: is of version {version}; this fvpipe reads up to {ADAPTER_VERSION}: install a newer one")


def declaration_files() -> dict[str, Path]:
    """The declarations that come with fvpipe, by name."""
    folder = Path(str(resources.files("fvpipe"))) / "datasets" / "declarations"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def declarations() -> list[Declaration]:
    """All declarations that come with fvpipe, by name."""
    return [load_declaration(file) for file in declaration_files().values()]


def load_declaration(file: Path) -> Declaration:
    """Read a declaration.

    Raises
    ------
    ParameterError
        No such file, one of a later version, a wrong key or value in it, or one that would do nothing.
    """
    settings = read_yaml(file)
    if isinstance(settings, dict):
        _check_version(str(file), settings.get("version"))  # first: keys of a later version are not known
    declaration = parse(Declaration, settings, str(file))
    try:
        check_unused_keys(declaration)
    except ValueError as error:
        raise ParameterError(f"{file}: {error}") from None
    return declaration
