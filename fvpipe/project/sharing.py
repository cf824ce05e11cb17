"""Shards and models that `dvc push` would take along, against the licenses of their data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fvpipe.config.loading import read_yaml
from fvpipe.config.project import Params
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import ParameterError

FORBIDDEN = {
    **dict.fromkeys(("cache/shards", "cache/samples", "cache/reports"), "redistribute_shards"),
    "cache/models": "release_models",
}
"""Field of an adapter that permits sharing a folder of outputs (pages show samples), by folder."""


def check_push(folder: Path, params: Params) -> None:
    """Check that DVC pushes nothing whose license forbids it, unless ``accept_license`` of ``params.yaml`` names the data set.

    DVC knows `push` as a fixed flag of an output, the same for all data sets of a stage.

    Raises
    ------
    ParameterError
        An output of ``dvc.yaml`` without ``push: false`` would hold shards or models of such a data set.
    """
    pushed = [*_pushed(folder / "dvc.yaml")]
    for place, allowed in FORBIDDEN.items():
        if not any(_holds(output, folder / place) for output in pushed):
            continue
        for name, settings in params.datasets.items():
            if settings.simulated or name in params.accept_license:
                continue
            adapter = get_adapter(settings.adapter, folder)
            if not getattr(adapter, allowed):
                raise ParameterError(
                    f"{folder / 'dvc.yaml'}: `dvc push` takes {place} along, and the license of data set {name!r} forbids it "
                    f"({settings.license or adapter.license}). Give these outputs `push: false` again; or, for a remote that "
                    f"none but you can read, name it in params.yaml: accept_license: [{name}]"
                )


def _pushed(file: Path) -> Iterator[str]:
    """Outputs that DVC would push, as absolute paths in which ``${`` begins what DVC fills in."""
    try:
        stages = [stage.get("do") or stage for stage in read_yaml(file)["stages"].values()]
        outputs = [
            (str(stage.get("wdir") or "."), *(next(iter(each.items())) if isinstance(each, dict) else (each, None)))
            for stage in stages
            for kind in ("outs", "plots")  # metrics are numbers about many breasts
            for each in stage.get(kind) or ()
        ]
    except (ParameterError, KeyError, TypeError, AttributeError, StopIteration):  # none, or none that DVC could read
        return
    for working, path, flags in outputs:
        if not isinstance(flags, dict) or (flags.get("push") is not False and flags.get("cache") is not False):
            known, *filled_in = os.path.join(os.path.abspath(file.parent), working, str(path)).split("${", 1)
            folder, name = os.path.split(known) if filled_in else (known, "")
            yield os.path.join(os.path.realpath(folder), name) + ("${" if filled_in else "")


def _holds(output: str, place: Path) -> bool:
    """Whether an output lies in `place`, is it, or is a folder above it; one that is filled in may be any that begins so."""
    place = place.resolve()
    known, filled_in, _ = output.partition("${")
    return Path(known).is_relative_to(place) or (
        str(place).startswith(known) if filled_in else place.is_relative_to(Path(known))
    )
