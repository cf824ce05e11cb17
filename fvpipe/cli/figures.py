"""The command that draws the figures of the paper."""

from __future__ import annotations

from pathlib import Path

import click

from fvpipe.cli.options import FOLDER, dataset_option
from fvpipe.cli.output import echo, say


@click.command()
@dataset_option
@click.option("--pipeline", "pipelines", multiple=True, help="Also draw this pipeline; repeatable.")
@click.option("--out", type=FOLDER, default=Path("cache/reports/figures"), show_default=True, help="Folder to write.")
def figures(datasets: tuple[str, ...], pipelines: tuple[str, ...], out: Path) -> None:
    """Draw the figures of the paper from this project.

    The workflow with the project's counts, the custom CNN, each pipeline step by
    step on a breast, and the evaluation settings, as SVG and PNG. What is
    missing is left out with a message.

    \b
    $ fvpipe figures
    5 figures: workflow, cnn, pipeline-direct, pipeline-cropped, protocols
    -> cache/reports/figures
    """
    from fvpipe.figures.draw import write_figures
    from fvpipe.project.project import Project

    names = write_figures(Project(), datasets, pipelines, out, say)
    echo(f"{len(names)} figures: {', '.join(names)} -> {out}")
