"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fvpipe.execution.workers import Workers


FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)


def worker_options(function: FunctionT) -> FunctionT:
    """Who does the work."""
    for option in (
        click.option("--workers", type=click.IntRange(0), default=None, help="Local processes; 0: this one. [one a core]"),
        click.option("--threads", is_flag=True, help="Local threads instead of processes."),
        click.option("--scheduler", default="", help="Address of a running Dask scheduler; also DASK_SCHEDULER_ADDRESS."),
        click.option("--scheduler-file", type=FILE, default=None, help="The scheduler file of a running Dask cluster."),
        click.option(
            "--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds a breast may take."
        ),
    ):
        function = option(function)
    return function


def reading_options(function: FunctionT) -> FunctionT:
    """How input is read."""
    for option in (
        click.option("--id-key", type=FILE, default=None, help="Key file of hashed identifiers; also FVPIPE_ID_KEY."),
        click.option("--reread", is_flag=True, help="Trust no remembered file: read every byte again."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ):
        function = option(function)
    return function


dataset_option = click.option("--dataset", "datasets", multiple=True, help="Only this data set of params.yaml; repeatable.")


def make_workers(settings: dict[str, Any]) -> Workers:
    """Workers by the values of :func:`worker_options`."""
    from fvpipe.execution.workers import Workers, WorkerSettings

    settings["count"] = settings.pop("workers")
    return Workers(WorkerSettings(**settings))


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to compute."
)
model_option = click.option(
    "--model", "folder", type=FOLDER, required=True, help="A folder of cache/models, with model.safetensors in it."
)


def grid_options(function: FunctionT) -> FunctionT:
    """Which part of the grid of ``params.yaml``."""
    for option in (
        click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, help="Of what is random. [runs.seeds]"),
        click.option("--model", "models", multiple=True, help="cnn, resnet18 or any classifier of torchvision. [runs.models]"),
        click.option("--split", "splits", multiple=True, help="A file of manifests/splits. [runs.splits]"),
        click.option("--pipeline", "pipelines", multiple=True, help="Whose shards. [pipelines]"),
    ):
        function = option(function)
    return function
