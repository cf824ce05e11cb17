"""The command that compares two pipelines."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fvpipe.cli.options import FILE, dataset_option, json_option
from fvpipe.cli.output import echo
from fvpipe.errors import ParameterError


@click.command()
@click.argument("first")
@click.argument("second")
@dataset_option
@click.option("--noise", type=click.FloatRange(0, 255), default=16.0, show_default=True, help="Noise for the observer, of 255.")
@click.option("--common", is_flag=True, help="Compare the breasts in both, where one lacks some of the other.")
@click.option("--page", type=FILE, default=None, help="Also write a page with the samples that differ most.")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="Number of breasts on the page.")
@json_option
def compare(
    first: str,
    second: str,
    datasets: tuple[str, ...],
    noise: float,
    common: bool,
    page: Path | None,
    limit: int,
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
    from fvpipe.comparison.pipelines import compare as compare_shards
    from fvpipe.comparison.text import comparison_text
    from fvpipe.shards.reader import open_shards

    results = []
    for one, two in _shard_folders(first, second, datasets):
        pair = open_shards(one), open_shards(two)
        results.append((pair, compare_shards(*pair, noise=noise / 255, replicates=2000, common=common)))
    if page is not None:
        from fvpipe.comparison.page import write_comparison

        write_comparison(results, page, limit)
    found = [comparison for _, comparison in results]
    echo(json.dumps([each.to_json() for each in found], indent=1) if as_json else "\n\n".join(map(comparison_text, found)))


def _shard_folders(first: str, second: str, datasets: tuple[str, ...]) -> list[tuple[Path, Path]]:
    """Pairs of shard folders to compare, by the names of two pipelines or as two folders.

    Raises
    ------
    ParameterError
        There are no shards to compare; the message names the command that builds them.
    """
    from fvpipe.project.project import Project
    from fvpipe.shards.format import RECEIPT

    if all((Path(each) / RECEIPT).is_file() for each in (first, second)):
        return [(Path(first), Path(second))]
    project = Project()
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
    return built
