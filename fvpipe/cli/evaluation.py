"""Commands of splits, the paper's tables and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import (
    FILE,
    FOLDER,
    dataset_option,
    grid_options,
    json_option,
    make_workers,
    reading_options,
    worker_options,
)
from fvpipe.cli.output import SHOWN
from fvpipe.errors import InputError, ParameterError

if TYPE_CHECKING:
    from fvpipe.evaluation.record import Trained
    from fvpipe.project.project import Project


@click.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def split(names: tuple[str, ...], as_json: bool) -> None:
    """Assign breasts to train, validation and test.

    Makes the named splits of params.yaml (all by default) in manifests/splits/.
    A split that leaks a patient, study, file or image is not written.

    \b
    $ fvpipe split seen
    seen (seen): train 26+18, validation 3+5, test 7+6 benign+malignant;
    leak rate 38.5% -> manifests/splits/seen.csv
    """
    from fvpipe.evaluation.split_files import write_splits
    from fvpipe.project.project import Project

    project = Project()
    known = project.params.splits
    for name in names:
        if name not in known:
            raise ParameterError(f"params.yaml: no split {name!r}; known: {', '.join(known) or 'none'}")
    results = write_splits(project, list(names) or list(known))
    if as_json:
        click.echo(json.dumps(results, indent=1))
        return
    for result in results:
        parts = ", ".join(f"{part} {n['benign']}+{n['malignant']}" for part, n in result["parts"].items())
        rate = "no test breast" if result["leak_rate"] is None else f"{result['leak_rate']:.1%}"
        click.echo(f"{result['split']} ({result['setting']}): {parts} benign+malignant; leak rate {rate} -> {result['out']}")
        for part, counts in result["parts"].items():
            if not all(counts.values()):
                click.echo(f"  {part} lacks a class: the data set is small for this split, or try another seed", err=True)
        if not result["digests_checked"]:
            click.echo(
                "  not all of it is in shards, or not in shards of images that were decoded alike: patients and studies were "
                "checked, not every file and image",
                err=True,
            )
        for pair in result["near_duplicates_across_parts"][:SHOWN]:
            click.echo(f"  nearly the same image in two parts: {' and '.join(pair)}", err=True)


@click.command()
@dataset_option
@click.option("--out", type=FILE, default=None, help="Also write the numbers to this file, for DVC metrics.")
@reading_options
@worker_options
def table1(
    datasets: tuple[str, ...], out: Path | None, id_key: Path | None, reread: bool, as_json: bool, **workers: Any
) -> None:
    """Compare the data sets with the paper's Table 1.

    Also shows the scores of shortcut baselines, which look at no image.

    \b
    $ fvpipe table1
    """
    from fvpipe.evaluation.table1 import table1 as compare
    from fvpipe.evaluation.table1 import to_metric, to_text
    from fvpipe.io.atomic import write_if_changed
    from fvpipe.project.project import Project
    from fvpipe.project.stages import indexed

    project = Project()
    with make_workers(workers) as pool:
        sources = [project.source(name, id_key) for name in project.names(datasets)]
        groups = [
            [s for s in sources if s.simulated is simulated] for simulated in (False, True)
        ]  # never pooled with each other
        results = [compare([indexed(s, project.samples, reread, pool) for s in group]) for group in groups if group]
    found = {key: [entry for result in results for entry in result[key]] for key in ("rows", "floors")}
    if out is not None:
        write_if_changed(out, (json.dumps(to_metric(found), indent=1) + "\n").encode())
    click.echo(json.dumps(found, indent=1) if as_json else to_text(found))


@click.command()
@grid_options
@click.option("--out", type=FILE, default=None, help="Also write the numbers to this file, for DVC metrics.")
@click.option("--cards", type=FOLDER, default=None, help="Folder for a model card of each model.")
@json_option
def evaluate(out: Path | None, cards: Path | None, as_json: bool, **chosen: Any) -> None:
    """Compute metrics of trained models with intervals.

    Reads predictions only. Adds subgroups, calibration, shortcut baselines and,
    with --cards, a model card for each model.

    \b
    $ fvpipe evaluate --split unseen --cards cache/reports/cards
    """
    from fvpipe.evaluation.evaluate import evaluate as judge
    from fvpipe.evaluation.model_card import card
    from fvpipe.evaluation.text import to_metric, to_text
    from fvpipe.io.atomic import write_if_changed

    project, trained = _trained(**chosen)
    found = judge(trained, project.params.evaluate)
    _write_metric(out, to_metric(found))
    for row in found["rows"] if cards else ():
        key = (row["pipeline"], row["split"], row["model"])
        records = [t.record for t in trained if (t.record.run.pipeline, t.record.run.split, t.record.run.model) == key]
        write_if_changed(Path(cards or "") / f"{'-'.join(key)}.md", card(row, records[0]).encode())
    click.echo(json.dumps(found, indent=1) if as_json else to_text(found))


@click.command()
@grid_options
@click.option("--out", type=FILE, default=None, help="Also write the numbers to this file, for DVC metrics.")
@json_option
def table2(out: Path | None, as_json: bool, **chosen: Any) -> None:
    """Compare trained models with the paper's Table 2.

    Also checks the paper's arithmetic and computes what cropping gains.

    \b
    $ fvpipe table2
    """
    from fvpipe.evaluation.table2 import table2 as compare
    from fvpipe.evaluation.table2 import to_metric, to_text

    project, trained = _trained(**chosen)
    found = compare(trained, project.params.evaluate)
    _write_metric(out, to_metric(found))
    click.echo(json.dumps(found, indent=1) if as_json else to_text(found))


def _trained(
    pipelines: tuple[str, ...], splits: tuple[str, ...], models: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[Project, list[Trained]]:
    """What of the grid is trained; what is not is named."""
    from fvpipe.evaluation.record import RECORD, read_trained, runs_of
    from fvpipe.project.project import Project

    project = Project()
    runs = runs_of(project.params, {"pipeline": pipelines, "split": splits, "model": models}, seeds)
    folders = {run: project.folder / "cache" / "models" / run.path for run in runs}
    missing = [str(run) for run, folder in folders.items() if not (folder / RECORD).is_file()]
    if len(missing) == len(runs):
        raise InputError(
            f"{project.folder / 'cache' / 'models'}: none of {len(runs)} models is trained; run `fvpipe train` first"
        )
    if missing:
        click.echo(f"not trained yet, and left out: {', '.join(missing)}", err=True)
    return project, [read_trained(folder) for run, folder in folders.items() if str(run) not in missing]


def _write_metric(out: Path | None, numbers: dict[str, Any]) -> None:
    from fvpipe.io.atomic import write_if_changed

    if out is not None:
        write_if_changed(out, (json.dumps(numbers, indent=1) + "\n").encode())
