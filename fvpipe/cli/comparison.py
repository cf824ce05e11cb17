"""The command that compares two pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fvpipe.cli.options import FILE, NumberRange, dataset_option, json_option
from fvpipe.cli.output import echo, warn
from fvpipe.errors import FvpipeError, ParameterError

if TYPE_CHECKING:
    from fvpipe.comparison.models import TrainedComparison
    from fvpipe.project.project import Project

REPLICATES = 400  # of the bootstrap; the observer is fitted again in each
NAMED = 4  # folders that an error names


@click.command()
@click.argument("first")
@click.argument("second")
@dataset_option
@click.option("--noise", type=NumberRange(0, 255), default=16.0, show_default=True, help="Noise for the observer, of 255.")
@click.option("--common", is_flag=True, help="Compare the breasts in both, where one lacks some of the other.")
@click.option("--page", type=FILE, default=None, help="Also write a page with the samples that differ most.")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="Number of breasts on the page.")
@click.option("--out", type=FILE, default=None, help="Also write the result to this file, for `fvpipe figures` and DVC.")
@json_option
def compare(
    first: str,
    second: str,
    datasets: tuple[str, ...],
    noise: float,
    common: bool,
    page: Path | None,
    limit: int,
    out: Path | None,
    as_json: bool,
) -> None:
    """Tell which of two pipelines is better.

    FIRST and SECOND are pipelines of the project, whose shards are compared for
    every data set (or --dataset), or two shard folders of one data set.

    A model observer, no reader, looks for something bright in noisy samples; the
    interval of the difference says whether it is real. Also compares the pixels
    of findings, the samples, and models that were trained on both.

    \b
    $ fvpipe compare each cropped --page each-cropped.html
    """
    from fvpipe.comparison.models import compare_runs, trained_on_both
    from fvpipe.comparison.pipelines import compare as compare_shards
    from fvpipe.comparison.text import comparison_text, models_text
    from fvpipe.config.loading import digest_of
    from fvpipe.evaluation.evaluate import different_breasts
    from fvpipe.evaluation.outdated import outdated_models
    from fvpipe.evaluation.pooled import pool_runs
    from fvpipe.io.atomic import write_if_changed
    from fvpipe.shards.reader import open_shards

    results = []
    folders, project = _shard_folders(first, second, datasets)
    for one, two in folders:
        pair = open_shards(one), open_shards(two)
        results.append((pair, compare_shards(*pair, noise=noise / 255, replicates=REPLICATES, common=common)))
    if page is not None:
        from fvpipe.comparison.page import write_comparison

        write_comparison(results, page, limit)
    found = [comparison for _, comparison in results]
    models: list[TrainedComparison] = []
    if project is not None:
        one_receipt, two_receipt = (shards.receipt for shards in results[0][0])
        names = {each.dataset for each in found}
        try:
            trained = trained_on_both(project.models, one_receipt, two_receipt, names)
            for line in outdated_models(project, (run for runs in trained for run in runs)):
                warn(line)
            for line in different_breasts(pool for runs in trained for pool in pool_runs(runs)):
                warn(line)
            models = compare_runs(*trained, project.params.evaluate)
        except FvpipeError as error:  # of a training that is damaged or outdated
            echo(f"trained models are not compared: {error}", err=True)
    receipts = [shards.receipt for pair, _ in results for shards in pair] if project else []
    result = {
        "data_sets": [each.to_json() for each in found],
        "models": [each.to_json() for each in models],
        # Of the project's shards, so that `fvpipe summary` sees when others are there.
        "shards": {f"{receipt.pipeline}/{receipt.dataset}": digest_of(receipt.to_json()) for receipt in receipts},
    }
    written = json.dumps(result, indent=1)
    if out is not None:
        write_if_changed(out, written.encode() + b"\n")
    shown = [*map(comparison_text, found), *([models_text(models, found[0].first, found[0].second)] if models else [])]
    echo(written if as_json else "\n\n".join(shown))


def _shard_folders(first: str, second: str, datasets: tuple[str, ...]) -> tuple[list[tuple[Path, Path]], Project | None]:
    """Pairs of shard folders to compare, by the names of two pipelines of the project, or as two folders: then None.

    Raises
    ------
    ParameterError
        There are no shards to compare; the message names the command that builds them.
    """
    from fvpipe.config.pipeline import load_pipeline
    from fvpipe.project.project import Project
    from fvpipe.shards.format import RECEIPT

    given = [each for each in (first, second) if (Path(each) / RECEIPT).is_file()]
    if (Path(first).resolve() if given else first) == (Path(second).resolve() if given else second):
        raise ParameterError(f"{first} and {second}: one {'folder' if given else 'pipeline'}; name two")
    if len(given) == 2 and not datasets:
        return [(Path(first), Path(second))], None
    if given:
        other = "--dataset" if len(given) == 2 else repr(second if given == [first] else first)
        raise ParameterError(f"{given[0]} is a folder of shards, and {other} is none: name two of them, or two pipelines")
    project = Project()
    for name in (first, second):
        try:
            load_pipeline(name, project.folder)  # an error names those that there are
        except ParameterError:
            _explain_folder(Path(name))
            raise
    names = project.names(datasets)
    folders = [(project.shards / first / name, project.shards / second / name) for name in names]
    built = [pair for pair in folders if all((folder / RECEIPT).is_file() for folder in pair)]
    missing = [folder for pair in folders for folder in pair if not (folder / RECEIPT).is_file()]
    if not built or (datasets and missing):
        raise ParameterError(
            f"{missing[0]}: no shards here; expected two shard folders, or two pipelines whose shards are built: "
            f"`fvpipe build-shards --pipeline {missing[0].parent.name} --dataset {missing[0].name}`"
        )
    for folder in missing:
        echo(f"not built yet, and left out: {folder}", err=True)
    return built, project


def _explain_folder(folder: Path) -> None:
    """Say of a folder that is none of shards what there is below it."""
    from fvpipe.shards.format import RECEIPT

    if folder.is_dir():
        inside = [receipt.parent for depth in ("*", "*/*") for receipt in sorted(folder.glob(f"{depth}/{RECEIPT}"))]
        more = f" and {len(inside) - NAMED} more" if len(inside) > NAMED else ""
        there = f"; those below it: {', '.join(map(str, inside[:NAMED]))}{more}" if inside else ", and none lies below it"
        raise ParameterError(f"{folder}: no folder of shards{there}. Name two folders of shards, or two pipelines")


@click.command()
@json_option
def summary(as_json: bool) -> None:
    """Answer from the project's results, in one table.

    What the comparisons of pipelines in cache/reports/compare found (`fvpipe
    compare --out`), and the best score without an image (`fvpipe table1`).

    \b
    $ fvpipe summary
    """
    from dataclasses import asdict

    from fvpipe.comparison.summary import outdated_comparisons, read_answers, summary_text
    from fvpipe.project.project import Project

    project = Project()
    reports = project.reports
    answers = read_answers(reports / "compare", reports / "table1.json")
    for line in outdated_comparisons(reports / "compare", project.shards):
        warn(line)
    if not answers:
        raise ParameterError(
            f"{reports / 'compare'}: no results here; run `fvpipe compare each cropped --out cache/reports/compare/each.json`"
        )
    echo(json.dumps([asdict(answer) for answer in answers], indent=1) if as_json else summary_text(answers))
