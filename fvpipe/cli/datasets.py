"""Commands that write data sets: phantom, fetch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from fvpipe.cli.options import FOLDER
from fvpipe.cli.output import echo
from fvpipe.errors import ParameterError


@click.command()
@click.option("--form", type=click.Choice(["vindr", "cmmd"]), required=True, help="Published form to write.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
@click.option("--patients", type=click.IntRange(8), default=24, show_default=True, help="Number of patients.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all random numbers.")
def phantom(form: Any, out: Path, patients: int, seed: int) -> None:
    """Write a simulated data set with known truth.

    \b
    $ fvpipe phantom --form cmmd --out data/phantom-cmmd
    76 simulated DICOM files -> data/phantom-cmmd
    """
    from fvpipe.simulation.writer import write_dataset

    echo(f"{write_dataset(form, out, patients, seed)} simulated DICOM files -> {out}")


@click.command()
@click.argument("dataset", type=click.Choice(["cbis", "cmmd"]))
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
def fetch(dataset: str, out: Path, yes: bool) -> None:
    """Copy sample films (cbis) or download CMMD (22.9 GB).

    \b
    $ fvpipe fetch cbis --out data/cbis
    8 DICOM files -> data/cbis
    $ fvpipe fetch cmmd --out data/cmmd
    """
    if dataset == "cbis":
        from fvpipe.datasets.cbis import copy_sample

        echo(f"{copy_sample(out)} DICOM files -> {out}")
        return
    from fvpipe.datasets import idc

    download = idc.plan(dataset, out)
    echo(download.cost)
    if download.missing and not yes:
        if not sys.stdin.isatty():
            raise ParameterError("nothing was fetched; add --yes to a call that no person can answer")
        click.confirm("Fetch it?", abort=True)
    idc.fetch(download, sys.stderr.isatty())
    echo(f"{sum(series.files for series in download.series)} DICOM files, all as large as listed -> {out}")
    echo("The label table is no part of it: put CMMD_clinicaldata_revision.xlsx (doi:10.7937/tcia.eqde-4b16) beside them.")
