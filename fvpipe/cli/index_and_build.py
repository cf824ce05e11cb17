"""Commands that index and build."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fvpipe.cli.options import (
    FILE,
    FOLDER,
    NumberRange,
    dataset_option,
    folder_options,
    label_rules,
    make_workers,
    reading_options,
    worker_options,
)
from fvpipe.cli.output import echo, explanation_text, print_build, print_index, print_profile, say


@click.command()
@dataset_option
@click.option("--explain", type=FILE, default=None, help="Write nothing; tell where each fact of one file comes from.")
@click.option("--export", type=click.Choice(["mammoclean"]), default=None, help="Also write a table in that project's columns.")
@click.option("--accept-license", is_flag=True, help="Export also rows whose license forbids to publish them.")
@reading_options
@worker_options
def index(
    datasets: tuple[str, ...],
    explain: Path | None,
    export: str | None,
    accept_license: bool,
    id_key: Path | None,
    reread: bool,
    as_json: bool,
    **workers: Any,
) -> None:
    """Read headers and pair views into manifests.

    Writes images.csv, breasts.csv and rejected.csv to manifests/<dataset>/.
    With --explain FILE it tells of one file below a data set's folder which
    facts come from its header, its path or a row of the label table. With
    --export mammoclean it also writes cache/exports/mammoclean/<dataset>.csv;
    rows of data whose license forbids to publish them, for your own use, with
    --accept-license, and the license beside them.

    \b
    $ fvpipe index --dataset cbis
    cbis: 8 images, 4 breasts, 0 rejected; 8 headers read -> manifests/cbis
      known of breasts (images): label 4 (8), pathology 4 (8), subset 4 (8)
    """
    from fvpipe.project import stages
    from fvpipe.project.project import Project

    results = []
    if explain is not None:
        with make_workers(workers) as pool:
            found = stages.explain(Project(), explain, pool, id_key, reread=reread)
        echo(json.dumps(found, indent=1) if as_json else explanation_text(found))
        return
    with make_workers(workers) as pool:
        for result in stages.run_index(
            Project(), datasets, pool, id_key, export, reread=reread, accept_license=accept_license, say=say
        ):
            results.append(asdict(result))
            if not as_json:
                print_index(result)
    if as_json:
        echo(json.dumps(results, indent=1))


@click.command("build-shards")
@click.option("--pipeline", "pipelines", multiple=True, help="Pipeline name or .yaml file; repeatable. [all of params.yaml]")
@dataset_option
@click.option("--dicom", type=FOLDER, default=None, help="Outside a project: folder of DICOM files.")
@click.option("--out", type=FOLDER, default=None, help="Outside a project: shard folder to write.")
@folder_options
@click.option("--name", default=None, help="With --dicom: name of the data set in the shards. [adapter]")
@click.option("--samples", type=FOLDER, default=None, help="Sample store. [cache/samples, or OUT/.samples]")
@click.option("--shard-count", type=click.IntRange(1), default=None, help="With --dicom: number of shards. [16]")
@click.option("--strict", is_flag=True, help="Same as --max-rejected 0.")
@click.option("--max-rejected", type=NumberRange(0, 100), default=None, help="Most rejected files, in percent; more fail.")
@click.option("--no-shared-storage", is_flag=True, help="Workers do not see the sample store; they send samples back.")
@click.option("--profile", is_flag=True, help="Print the seconds of each step.")
@click.option(
    "--max-fallback",
    type=NumberRange(0, 100),
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
    columns: dict[str, str],
    classes: dict[str, str],
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
    folder is indexed, paired and built in one run. PNG, JPEG, TIFF, PGM and NRRD
    are read where the adapter states them.

    \b
    $ fvpipe build-shards --pipeline cropped --dataset cbis
    cropped/cbis: 4 breasts (1 malignant, 3 benign, 0 unlabelled) in 2 shard(s),
    2 written, 0 rejected; 4 made, 0 reused in 1.6 s -> cache/shards/cropped/cbis
    $ fvpipe build-shards --pipeline cropped --dicom DIR --out DIR
    """
    if (dicom is None) != (out is None):
        raise click.UsageError("--dicom and --out go together")
    if dicom is None and any(option for option in (adapter, labels, columns, classes, name, shard_count)):
        outside = "--adapter, --labels, --column, --class, --name and --shard-count"
        raise click.UsageError(f"{outside} go with --dicom; in a project see params.yaml")
    if dicom is not None and (datasets or len(pipelines) != 1):
        raise click.UsageError("with --dicom give one --pipeline, and no --dataset")
    from fvpipe.build.plan import Limits
    from fvpipe.project import standalone
    from fvpipe.project.project import Project
    from fvpipe.project.stages import run_build

    limits = Limits(max_fallback, 0.0 if strict else max_rejected)
    results = []
    with make_workers(workers | {"share_storage": not no_shared_storage}) as pool:
        if dicom is not None and out is not None:
            rules = label_rules(columns, classes)
            source = standalone.standalone_source(name or "", dicom, adapter or "table", labels, id_key, rules)
            output = standalone.standalone_output(source.name, pipelines[0], out, shard_count or 16)
            found = standalone.run_build(source, output, samples or out / ".samples", pool, limits, reread=reread, say=say)
        else:
            found = run_build(Project(), datasets, pipelines, pool, limits, samples, id_key, reread=reread, say=say)
        for result in found:
            results.append(result)
            if not as_json:
                print_build(result)
    if as_json:
        echo(json.dumps([asdict(result) for result in results], indent=1))
    elif profile:
        print_profile(results)
