"""Commands that index and build."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import FILE, FOLDER, dataset_option, make_workers, reading_options, worker_options
from fvpipe.cli.output import print_build, print_index, print_profile, say, show_nothing, warn

if TYPE_CHECKING:
    from fvpipe.project.run_cache import Settled


@click.command()
@dataset_option
@reading_options
@worker_options
def index(datasets: tuple[str, ...], id_key: Path | None, reread: bool, as_json: bool, **workers: Any) -> None:
    """Read headers and pair views into manifests.

    Writes images.csv, breasts.csv and rejected.csv to manifests/<dataset>/.

    \b
    $ fvpipe index --dataset cbis
    cbis: 8 images, 4 breasts, 0 rejected; 8 headers read -> manifests/cbis
    """
    from fvpipe.project.run_cache import Settled

    show = show_nothing if as_json else print_index
    begun = time.perf_counter()
    settled = Settled(Path("cache/samples"), ["index", *datasets], id_key)
    results = None if reread else _recalled(settled, show, begun)
    if results is None:
        from fvpipe.project import stages
        from fvpipe.project.project import Project

        with make_workers(workers) as pool:
            run = stages.Run(settled, pool, id_key, reread, show, say)
            results = stages.index(run, Project(), datasets)
    if as_json:
        click.echo(json.dumps(results, indent=1))


@click.command("build-shards")
@click.option("--pipeline", "pipelines", multiple=True, help="Pipeline name or .yaml file; repeatable. [all of params.yaml]")
@dataset_option
@click.option("--dicom", type=FOLDER, default=None, help="Outside a project: folder of DICOM files.")
@click.option("--out", type=FOLDER, default=None, help="Outside a project: shard folder to write.")
@click.option("--adapter", default=None, help="With --dicom: cmmd, vindr, cbis or table. [table]")
@click.option("--labels", type=FILE, default=None, help="With --dicom: label table.")
@click.option("--name", default=None, help="With --dicom: name of the data set in the shards. [adapter]")
@click.option("--samples", type=FOLDER, default=None, help="Sample store. [cache/samples, or OUT/.samples]")
@click.option("--shard-count", type=click.IntRange(1), default=None, help="With --dicom: number of shards. [16]")
@click.option("--strict", is_flag=True, help="Same as --max-rejected 0.")
@click.option("--max-rejected", type=click.FloatRange(0, 100), default=None, help="Most rejected files, in percent; more fail.")
@click.option("--no-shared-storage", is_flag=True, help="Workers do not see the sample store; they send samples back.")
@click.option("--profile", is_flag=True, help="Print the seconds of each step.")
@click.option(
    "--max-fallback",
    type=click.FloatRange(0, 100),
    default=2.0,
    show_default=True,
    help="Most breasts without a crop, in percent; more fail.",
)
@reading_options
@worker_options
def build_shards(
    pipelines: tuple[str, ...],
    datasets: tuple[str, ...],
    dicom: Path | None,
    out: Path | None,
    adapter: str | None,
    labels: Path | None,
    name: str | None,
    samples: Path | None,
    shard_count: int | None,
    strict: bool,
    max_rejected: float | None,
    max_fallback: float,
    no_shared_storage: bool,
    profile: bool,
    id_key: Path | None,
    reread: bool,
    as_json: bool,
    **workers: Any,
) -> None:
    """Build the shards that are missing or out of date.

    Only breasts whose files, pipeline or decoder changed are decoded. In a
    project the data sets are those of params.yaml; with --dicom and --out any
    folder is indexed, paired and built in one run.

    \b
    $ fvpipe build-shards --pipeline cropped --dataset cbis
    cropped/cbis: 4 breasts (1 malignant, 3 benign, 0 unlabelled) in 2 shard(s),
    2 written, 0 rejected; 4 made, 0 reused in 1.6 s -> cache/shards/cropped/cbis
    $ fvpipe build-shards --pipeline cropped --dicom DIR --out DIR
    """
    from fvpipe.project.run_cache import Settled

    if math.isnan(max_fallback) or (max_rejected is not None and math.isnan(max_rejected)):
        raise click.UsageError("a limit in percent is a number")
    if (dicom is None) != (out is None):
        raise click.UsageError("--dicom and --out go together")
    if dicom is None and any(option is not None for option in (adapter, labels, name, shard_count)):
        raise click.UsageError("--adapter, --labels, --name and --shard-count go with --dicom; in a project see params.yaml")
    if dicom is not None and (datasets or len(pipelines) != 1):
        raise click.UsageError("with --dicom give one --pipeline, and no --dataset")
    begun = time.perf_counter()
    show = show_nothing if as_json else print_build
    samples = samples or (out / ".samples" if out is not None else Path("cache/samples"))
    limits = (max_fallback, 0.0 if strict else max_rejected)
    decisive = (pipelines, datasets, dicom, out, adapter, labels, name, samples, shard_count, limits)
    settled = Settled(samples, ["build", *map(repr, decisive)], id_key)
    results = None if reread else _recalled(settled, show, begun)
    if results is None:
        from fvpipe.build.plan import Limits
        from fvpipe.project import stages
        from fvpipe.project.project import Project, free_source

        with make_workers(workers | {"share_storage": not no_shared_storage}) as pool:
            run = stages.Run(settled, pool, id_key, reread, show, say)
            if dicom is not None and out is not None:
                kind = adapter or "table"
                source = free_source(name or kind, dicom, kind, labels, id_key)
                wanted = stages.anywhere(source, pipelines[0], out, samples, shard_count or 16)
            else:
                wanted = stages.of_project(Project(), datasets, pipelines, samples, id_key)
            results = stages.build(run, wanted, Limits(*limits), warn)
    if as_json:
        click.echo(json.dumps(results, indent=1))
    elif profile:
        print_profile(results)


def _recalled(settled: Settled, show: Callable[[dict[str, Any]], None], begun: float) -> list[dict[str, Any]] | None:
    """The results where nothing has changed since they were found, shown; else None."""
    found = settled.recall()
    results = []
    for finished in found or ():
        for result in finished.results:
            results.append(result | ({"seconds": round(time.perf_counter() - begun, 3)} if "seconds" in result else {}))
            show(results[-1])
        for line in finished.said:
            say(line)
    return results if found is not None else None
