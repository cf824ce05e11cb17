"""Shards and models that `dvc push` would take along, against the licenses of their data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvpipe.config.loading import read_yaml
from fvpipe.config.project import Params
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import ParameterError

FORBIDDEN = {"cache/shards": "redistribute_shards", "cache/reports": "redistribute_shards", "cache/models": "release_models"}
"""What a license forbids (pages show samples), as adapters say it, by the folder of the outputs."""


def check_push(folder: Path, params: Params) -> None:
    """Check that DVC pushes nothing whose license forbids it, unless ``accept_license`` of ``params.yaml`` names the data set.

    DVC knows `push` as a fixed flag of an output, the same for all data sets of a stage.

    Raises
    ------
    ParameterError
        An output of ``dvc.yaml`` without ``push: false`` would hold shards or models of such a data set.
    """
    for place, allowed in FORBIDDEN.items():
        if not _is_pushed(folder / "dvc.yaml", place):
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


def _is_pushed(file: Path, place: str) -> bool:
    """Whether DVC would push an output in `place`."""
    try:
        stages = read_yaml(file)["stages"].values()
        outputs = [each for stage in stages for each in (stage.get("do") or stage).get("outs", ())]
    except (ParameterError, KeyError, TypeError, AttributeError):  # none, or none that DVC could read
        return False
    return any(
        str(path).startswith(f"{place}/") and not (isinstance(flags, dict) and _stays(flags))
        for path, flags in (next(iter(each.items())) if isinstance(each, dict) else (each, None) for each in outputs)
    )


def _stays(flags: dict[str, Any]) -> bool:
    return flags.get("push") is False or flags.get("cache") is False
