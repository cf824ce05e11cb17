"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fvpipe.config.project import Labels
    from fvpipe.execution.workers import Workers


FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
# Whether they can be read is seen when they are: click says nothing of permissions.
FOLDER = click.Path(path_type=Path, file_okay=False, readable=False)
FILE = click.Path(path_type=Path, dir_okay=False, readable=False)


class NumberRange(click.FloatRange):
    """Range of numbers, without NaN, which is neither too small nor too large."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a number", param, ctx)
        return found


def _joined(*options: Callable[[FunctionT], FunctionT]) -> Callable[[FunctionT], FunctionT]:
    """Join options to one decorator; the help has them in this order."""

    def add(function: FunctionT) -> FunctionT:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def _pairs(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.rpartition("=")[::2] if parameter.name == "classes" else value.partition("=")[::2] for value in values]
    if wrong := next((value for value, pair in zip(values, pairs, strict=True) if not all(pair)), ""):
        raise click.BadParameter(f"{wrong!r}; expected {parameter.metavar}", context, parameter)
    names = [name.casefold() for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise click.BadParameter(f"{twice!r} is given {names.count(twice)} times; expected once", context, parameter)
    return dict(pairs)


json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
dataset_option = click.option("--dataset", "datasets", multiple=True, help="Data set of params.yaml; repeatable. [all]")
metrics_option = click.option("--out", type=FILE, default=None, help="Also write the numbers to this file, for DVC metrics.")
device_option = click.option(
    "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Device to compute on."
)
model_option = click.option("--model", "folder", type=FOLDER, required=True, help="Model folder that `fvpipe train` wrote.")
worker_options = _joined(
    click.option("--workers", type=click.IntRange(0), default=None, help="Local processes; 0: this process. [one per core]"),
    click.option("--threads", is_flag=True, help="Local threads instead of processes."),
    click.option("--scheduler", default="", help="Address of a running Dask scheduler. [DASK_SCHEDULER_ADDRESS]"),
    click.option("--scheduler-file", type=FILE, default=None, help="Scheduler file of a running Dask cluster."),
    click.option("--timeout", type=NumberRange(1), default=120.0, show_default=True, help="Limit in seconds for one breast."),
)
reading_options = _joined(
    click.option("--id-key", type=FILE, default=None, help="Key file for hashed identifiers. [FVPIPE_ID_KEY]"),
    click.option("--reread", is_flag=True, help="Clear the file cache first, so that every file is read."),
    json_option,
)
folder_options = _joined(
    click.option("--adapter", default=None, help="With --dicom: one of `fvpipe datasets`, or a .yaml file. [table]"),
    click.option("--labels", type=FILE, default=None, help="With --dicom: label table."),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="FACT=COLUMN",
        callback=_pairs,
        help="With --dicom: column of the label table that gives a fact; repeatable.",
    ),
    click.option(
        "--class",
        "classes",
        multiple=True,
        metavar="CELL=LABEL",
        callback=_pairs,
        help="With --dicom: cell that means malignant, benign or unlabelled; repeatable.",
    ),
)
"""The adapter and the label table of a folder outside a project."""
grid_options = _joined(
    click.option("--pipeline", "pipelines", multiple=True, help="Pipeline of the shards; repeatable. [pipelines]"),
    click.option("--split", "splits", multiple=True, help="Split, or one fold of it; repeatable. [runs.splits]"),
    click.option("--model", "models", multiple=True, help="cnn, two_stream, or one of torchvision; repeatable. [runs.models]"),
    click.option("--seed", "seeds", type=click.IntRange(0), multiple=True, help="Seed; repeatable. [runs.seeds]"),
)
"""The choice of runs of the grid of ``params.yaml``."""


def label_rules(columns: dict[str, str], classes: dict[str, str]) -> Labels:
    """Make settings of labels, as params.yaml has them, of the values of `--column` and `--class`."""
    from fvpipe.config.loading import parse
    from fvpipe.config.project import Labels

    return parse(Labels, {"columns": columns, "classes": classes}, "--column and --class")


def make_workers(settings: dict[str, Any]) -> Workers:
    """Open workers by the values of `worker_options`."""
    from fvpipe.execution.workers import Workers, WorkerSettings

    settings["count"] = settings.pop("workers")
    return Workers(WorkerSettings(**settings))
