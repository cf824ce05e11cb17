"""Inputs, rows, shards and models that `dvc push` or git would take along, against the licenses of their data sets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fvpipe.config.loading import read_yaml
from fvpipe.config.project import Params
from fvpipe.datasets.registry import declarations, get_adapter
from fvpipe.errors import ParameterError, StorageError
from fvpipe.io.atomic import write_if_changed

FORBIDDEN = (
    *((place, "redistribute_shards") for place in ("cache/shards", "cache/samples", "cache/reports")),
    *((place, "release_models") for place in ("cache/models", "cache/checkpoints")),
    *((place, "publishable") for place in ("cache/models", "cache/exports", "manifests/splits")),
)
"""Folders with something of every data set, and the field of an adapter that permits sharing it: samples, of which pages
show some; models; and rows, of which predictions have one for each breast."""


INITIAL = " (initial weights)"
"""Ends the names of data sets in the record of a model that are of its initial weights."""

IGNORED = "# Written by `fvpipe split`: only settings whose data sets may be published are kept in git.\n/*\n!/.gitignore\n"


def keep_splits_in_git(folder: Path, params: Params) -> None:
    """Write the ``.gitignore`` that keeps only splits whose every data set may be published.

    Of `index`, too, when it reads a declaration that forbids it by now: `split`, whose tables are the same, does not run again.
    """
    lines = []
    for name, split in sorted(params.splits.items()):
        sets = [params.datasets[dataset] for dataset in split.all_datasets]
        if all(settings.simulated or get_adapter(settings.adapter, folder).publishable for settings in sets):
            lines += [f"!/{file}.csv\n" for file in split.files(name)]
    write_if_changed(folder / "manifests" / "splits" / ".gitignore", (IGNORED + "".join(lines)).encode())


def keep_cache_out_of_git(folder: Path) -> None:
    """Write the ``.gitignore`` of ``cache``, unless it has one: `git add` took images of every data set along.

    A folder that cannot be written to is the matter of the command.
    """
    file = folder / "cache" / ".gitignore"
    with suppress(OSError, StorageError):
        if not file.exists():
            write_if_changed(file, b"# Written by fvpipe: samples, shards and rows that may not be published.\n*\n")


def check_push(folder: Path, params: Params) -> None:
    """Check that DVC pushes nothing whose license forbids it, unless ``accept_license`` of ``params.yaml`` names the data set.

    DVC knows `push` as a fixed flag of an output, the same for all data sets of a stage.

    Raises
    ------
    ParameterError
        An output of ``dvc.yaml``, or of a ``.dvc`` file, without ``push: false`` would hold images, rows, shards or models of
        such a data set.
    """
    of_sets = {
        name: (
            (settings.dicom or f"data/{name}", "redistribute_shards"),
            *((rows, "publishable") for rows in (f"manifests/{name}", settings.label_file) if rows),
        )
        for name, settings in params.datasets.items()
    }
    places = [Path(place) for found in (FORBIDDEN, *of_sets.values()) for place, _ in found]
    # `dvc add` writes its file beside what was added: one of these folders, or one above them.
    above = {folder / part.with_name(f"{part.name}.dvc") for place in places for part in (place, *place.parents) if part.name}
    files = sorted({*_dvc_files(folder), *(file for file in above if file.is_file())})
    pushed = [(file, output) for file in files for output in _pushed(file)]
    if not pushed:
        return
    for name, settings in params.datasets.items():
        if settings.simulated or name in params.accept_license:
            continue
        adapter = get_adapter(settings.adapter, folder)
        for place, allowed in (*FORBIDDEN, *of_sets[name]):
            file = next((file for file, output in pushed if _holds(output, folder / place)), None)
            if file and not getattr(adapter, allowed):
                raise ParameterError(
                    f"{file}: `dvc push` takes {place} along, and the license of data set {name!r} forbids it "
                    f"({settings.license or adapter.license}). Give these outputs `push: false` again; or, for a remote that "
                    f"none but you can read, name it in params.yaml: accept_license: [{name}]"
                )
    for left, name, license in _left_over(folder, params):
        # What DVC fills in is of `params.yaml`, which does not name these shards; models of many data sets lie in one output.
        whole = [(file, output) for file, output in pushed if "${" not in output or (left / "record.json").is_file()]
        if file := next((file for file, output in whole if _holds(output, left)), None):
            raise ParameterError(
                f"{file}: `dvc push` takes {left.relative_to(folder)} along, which holds data set {name!r}, or is a model of "
                f"it; params.yaml names no such data set, and its license ({license}) is none that is known to permit it. "
                "Remove this folder, or give the output `push: false` again"
            )


def _left_over(folder: Path, params: Params) -> Iterator[tuple[Path, str, str]]:
    """Folder, name and license of shards or models of data sets that ``params.yaml`` does not name; free ones are left out."""
    free = {each.license for each in declarations() if each.publishable and each.redistribute_shards and each.release_models}
    for file in sorted((*folder.glob("cache/shards/*/*/index.json"), *folder.glob("cache/models/*/*/*/record.json"))):
        try:
            found = json.loads(file.read_bytes())
            licenses = found["licenses"] if file.name == "record.json" else {found["dataset"]: found["license"]}
            for name, license in licenses.items():
                is_known = name.removesuffix(INITIAL) in params.datasets or license in free
                if not is_known and (name.endswith(INITIAL) or not found["made"]):
                    yield file.parent, name, license
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # none that fvpipe wrote
            continue


def _dvc_files(folder: Path) -> Iterator[Path]:
    """List the files by which DVC may know outputs: those of a project, and of the folders above it in its DVC repository.

    Links are not followed, as by DVC. Of input and samples, which may be many folders, only the upper ones are looked at.
    """
    here = folder.resolve()
    top = next((each for each in (here, *here.parents) if (each / ".dvc").is_dir()), here)
    for each in here.parents if top != here else ():
        if each.is_relative_to(top):
            yield from (file for file in (each / "dvc.yaml", *each.glob("*.dvc")) if file.is_file())
    for place, folders, names in os.walk(folder):
        yield from (Path(place, name) for name in names if name == "dvc.yaml" or name.endswith(".dvc"))
        parts = Path(place).relative_to(folder).parts
        is_whole = parts[:1] in (("cache",), ("manifests",)) and parts[:2] != ("cache", "samples")
        folders[:] = [name for name in folders if (is_whole or len(parts) < 2) and not name.startswith(".")]


def _pushed(file: Path) -> Iterator[str]:
    """Outputs that DVC would push, as absolute paths in which ``${`` begins what DVC fills in."""
    try:
        found = read_yaml(file)
        stages = [found] if file.suffix == ".dvc" else [stage.get("do") or stage for stage in found["stages"].values()]
        outputs = [
            (str(stage.get("wdir") or "."), *_path_and_flags(each))
            for stage in stages
            for kind in ("outs", "plots")  # metrics are numbers about many breasts
            for each in stage.get(kind) or ()
            if not any("repo" in source for source in stage.get("deps") or () if isinstance(source, dict))  # imported
        ]
    except (ParameterError, KeyError, TypeError, AttributeError, StopIteration):  # none, or none that DVC could read
        return
    for working, path, flags in outputs:
        if flags.get("push") is not False and flags.get("cache") is not False:
            known, *filled_in = os.path.join(os.path.abspath(file.parent), working, path).split("${", 1)
            folder, name = os.path.split(known) if filled_in else (known, "")
            yield os.path.join(os.path.realpath(folder), name) + ("${" if filled_in else "")


def _path_and_flags(output: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Of an output as ``dvc.yaml`` has it, ``path`` or ``{path: flags}``, or a ``.dvc`` file, ``{path: ..., md5: ...}``."""
    if isinstance(output, dict) and isinstance(output.get("path"), str):
        return output["path"], output
    path, flags = next(iter(output.items())) if isinstance(output, dict) else (output, None)
    return str(path), flags if isinstance(flags, dict) else {}


def _holds(output: str, place: Path) -> bool:
    """Whether an output lies in `place`, is it, or is a folder above it; one that is filled in may be any that begins so."""
    place = place.resolve()
    known, filled_in, _ = output.partition("${")
    return Path(known).is_relative_to(place) or (
        str(place).startswith(known) if filled_in else place.is_relative_to(Path(known))
    )
