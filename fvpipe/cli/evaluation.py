"""Commands of splits, the paper's tables and evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import FILE, FOLDER, dataset_option, grid_options, json_option, metrics_option
from fvpipe.cli.output import SHOWN, echo, say, warn
from fvpipe.errors import InputError, ParameterError

if TYPE_CHECKING:
    from fvpipe.evaluation.evaluate import Evaluation
    from fvpipe.evaluation.tables.table1 import Table1
    from fvpipe.evaluation.tables.table2 import Table2
    from fvpipe.evaluation.training_record import TrainedRun
    from fvpipe.project.project import Project


@click.command()
@click.argument("names", nargs=-1)
@click.option("--id-key", type=FILE, default=None, help="Key file for hashed identifiers. [FVPIPE_ID_KEY]")
@json_option
def split(names: tuple[str, ...], id_key: Path | None, as_json: bool) -> None:
    """Assign breasts to train, validation and test.

    Makes the named splits of params.yaml (all by default) in manifests/splits/.
    A split that leaks a patient, study, file or image is not written.

    \b
    $ fvpipe split seen
    seen (seen): train 26+18, validation 3+5, test 7+6 benign+malignant;
    leak rate 38.5% -> manifests/splits/seen.csv
    """
    from fvpipe.evaluation.splits.make_splits import write_splits
    from fvpipe.project.project import Project

    project = Project()
    known = project.params.splits
    for name in names:
        if name not in known:
            raise ParameterError(f"params.yaml: no split {name!r}; known: {', '.join(known) or 'none'}")
    results = write_splits(project, list(names) or list(known), id_key)
    if as_json:
        echo(json.dumps(results, indent=1))
        return
    for result in results:
        parts = ", ".join(f"{part} {n['benign']}+{n['malignant']}" for part, n in result["parts"].items())
        rate = "no test breast" if result["leak_rate"] is None else f"{result['leak_rate']:.1%}"
        echo(f"{result['split']} ({result['setting']}): {parts} benign+malignant; leak rate {rate} -> {result['out']}")
        for part, counts in result["parts"].items():
            if not all(counts.values()):
                echo(f"  {part} lacks a class: the data set is small for this split, or try another seed", err=True)
        if not result["digests_checked"]:
            echo(
                "  patients and studies were checked, not every file and image: some breasts are not in shards, or in shards "
                "of other files or another decoding; build the shards of all data sets by one pipeline for the full check",
                err=True,
            )
        if shared := result["shared_identifiers_across_parts"]:
            echo(
                f"  {shared} patient identifiers stand in two data sets and in two parts: if they are of the same women, the "
                "parts are not apart; leave one of the data sets out",
                err=True,
            )
        for pair in result["near_duplicates_across_parts"][:SHOWN]:
            echo(f"  nearly the same image in two parts: {' and '.join(pair)}", err=True)


@click.command()
@dataset_option
@metrics_option
@json_option
def table1(datasets: tuple[str, ...], out: Path | None, as_json: bool) -> None:
    """Compare the data sets with the paper's Table 1.

    Also shows the scores of shortcut baselines, which look at no image.

    \b
    $ fvpipe table1
    """
    from fvpipe.evaluation.tables.table1 import table1 as compare
    from fvpipe.indexing.manifests.read import read_manifests
    from fvpipe.project.project import Project

    project = Project()
    names = project.names(datasets)
    found = compare([read_manifests(project.source(name), project.manifests(name)) for name in names])
    _print(found, out, as_json)


@click.command()
@grid_options
@metrics_option
@click.option("--cards", type=FOLDER, default=None, help="Folder for a model card and checklists of each model.")
@json_option
def evaluate(out: Path | None, cards: Path | None, as_json: bool, **chosen: Any) -> None:
    """Compute metrics of trained models with intervals.

    Reads predictions only. Adds subgroups, calibration, decision curves, shortcut
    baselines and, with --cards, a model card and the TRIPOD+AI and CLAIM checklists.

    \b
    $ fvpipe evaluate --split unseen --cards cache/reports/cards
    """
    from fvpipe.evaluation.evaluate import evaluate as run
    from fvpipe.evaluation.model_card import checklist, model_card
    from fvpipe.io.atomic import write_if_changed

    project, trained = _trained(**chosen)
    found = run(trained, project.params.evaluate)
    if cards:
        cards.mkdir(parents=True, exist_ok=True)  # DVC fails where an output is missing
    for row in found.rows if cards else ():
        for end, text in (("", model_card(row)), ("-checklist", checklist(row))):
            write_if_changed(Path(cards or "") / f"{'-'.join(row.pool.key)}{end}.md", text.encode())
    _print(found, out, as_json)


@click.command()
@grid_options
@metrics_option
@json_option
def table2(out: Path | None, as_json: bool, **chosen: Any) -> None:
    """Compare trained models with the paper's Table 2.

    Also checks the paper's arithmetic, computes what cropping and the second view
    gain, judges the paper's claims, and names published results.

    \b
    $ fvpipe table2
    """
    from fvpipe.evaluation.tables.table2 import table2 as compare

    project, trained = _trained(**chosen)
    found = compare(trained, project.params.evaluate)
    _print(found, out, as_json)


def _trained(
    pipelines: tuple[str, ...], splits: tuple[str, ...], models: tuple[str, ...], seeds: tuple[int, ...]
) -> tuple[Project, list[TrainedRun]]:
    """Read the trained models of the grid, and name on stderr those that are missing or outdated."""
    from fvpipe.config.loading import nearest
    from fvpipe.evaluation.outdated import outdated_models
    from fvpipe.evaluation.training_record import RECORD, no_runs, read_run, runs_of
    from fvpipe.project.project import Project

    project = Project()
    runs = runs_of(project.params, {"pipeline": pipelines, "split": splits, "model": models}, seeds)
    if not runs:
        say(f"{no_runs(project.params)}: no model to evaluate")
        return project, []
    trained = [record.parent.relative_to(project.models).parts for record in project.models.glob(f"*/*/*/{RECORD}")]
    folds = {name: project.params.split_files(name) for name in splits}
    asked: dict[str, tuple[tuple[object, ...], set[str]]] = {
        "pipeline": (pipelines, {parts[0] for parts in trained}),
        "split": (splits, {name for parts in trained for name in (parts[1], *splits) if parts[1] in folds.get(name, (name,))}),
        "model": (models, {parts[2].rpartition("-seed")[0] for parts in trained}),
        "seed": (seeds, {parts[2].rpartition("-seed")[2] for parts in trained}),
    }
    for kind, (names, known) in asked.items():
        unknown = [str(name) for name in names if str(name) not in known]
        if kind in ("split", "seed") and len(unknown) < len(names):
            continue  # some are not trained yet: they are named below
        for name in unknown:
            near, there = nearest(name, sorted(known)), ", ".join(sorted(known)) or "none"
            raise InputError(
                f"{project.models}: nothing is trained with {kind} {name!r}{near}; trained: {there}; run `fvpipe train` first"
            )
    missing = [run for run in runs if not (project.models / run.path / RECORD).is_file()]
    if len(missing) == len(runs):
        there = f"; trained: {', '.join(sorted('/'.join(parts) for parts in trained))}" if trained else ""
        raise InputError(f"{project.models}: none of {len(runs)} models is trained{there}; run `fvpipe train` first")
    if missing:
        echo(f"not trained yet, and left out: {', '.join(map(str, missing))}", err=True)
    found = [read_run(project.models, run.path) for run in runs if run not in missing]
    for line in outdated_models(project, found):
        warn(line)
    return project, found


def _print(found: Evaluation | Table1 | Table2, out: Path | None, as_json: bool) -> None:
    from fvpipe.evaluation.text import to_json
    from fvpipe.io.atomic import write_if_changed

    if out is not None:
        write_if_changed(out, (json.dumps(found.to_metric(), indent=1) + "\n").encode())
    echo(json.dumps(to_json(found), indent=1) if as_json else found.to_text())
