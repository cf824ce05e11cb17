"""Commands about data sets: phantom, fetch, datasets."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import FOLDER, json_option
from fvpipe.cli.output import echo, say
from fvpipe.errors import ParameterError

if TYPE_CHECKING:
    from fvpipe.datasets.adapter import Adapter
    from fvpipe.datasets.declared.declaration import Declaration

_ALLOWED = {"publishable": "", "redistribute_shards": "share shards", "release_models": "release models"}
"""Fields of a license, and how `datasets` names what they do not allow."""


@click.command()
@click.option("--form", type=click.Choice(["vindr", "cmmd", "lesions"]), required=True, help="Form to write.")
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
@click.option("--patients", type=click.IntRange(8), default=24, show_default=True, help="Number of patients.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of all random numbers.")
def phantom(form: Any, out: Path, patients: int, seed: int) -> None:
    """Write a simulated data set with known truth.

    In the published form of VinDr-Mammo or CMMD with what makes them difficult
    to read, or plain files with small lesions, for questions about pipelines.

    \b
    $ fvpipe phantom --form cmmd --out data/phantom-cmmd
    76 simulated DICOM files -> data/phantom-cmmd
    """
    from fvpipe.simulation.writer import write_dataset

    echo(f"{write_dataset(form, out, patients, seed)} simulated DICOM files -> {out}")


@click.command()
@json_option
def datasets(as_json: bool) -> None:
    """List the data sets that fvpipe knows.

    \b
    $ fvpipe datasets
    rsna      RSNA-2023 Screening Mammography Breast Cancer Detection
              54,706 images; real files were never read by this project
    """
    from fvpipe.config.formats import DICOM
    from fvpipe.datasets.adapter import Adapter
    from fvpipe.datasets.registry import declarations, installed_adapters

    installed = installed_adapters()
    known = [each for each in declarations() if each.name not in installed]  # a package's is taken for one of its name
    usable = {name: (package, found) for name, (package, found) in installed.items() if isinstance(found, Adapter)}
    for package, other in installed.values():
        if isinstance(other, ParameterError):
            say(f"warning: of the package {package}: {other}")
    if as_json:
        keys = (
            "name",
            "title",
            "images",
            "formats",
            "source",
            "license",
            "seen",
            *_ALLOWED,
        )
        patterns = {each.name: [pattern for table in each.tables for pattern in table.file] for each in known}
        rows = [{**{key: getattr(each, key) for key in keys}, "tables": patterns[each.name]} for each in known]
        rows += [
            {"name": name, "package": package, **{key: getattr(adapter, key) for key in ("license", *_ALLOWED)}}
            for name, (package, adapter) in usable.items()
        ]
        echo(json.dumps(rows, indent=1))
        return
    for each in known:
        kind = "" if each.formats == DICOM else f"{' or '.join(form.upper() for form in each.formats)} "
        count = f"{each.images:,} {kind}images; " if each.images else ""
        seen = f"read for real: {each.seen}" if each.seen else "real files were never read by this project"
        tables = ", ".join(pattern for table in each.tables for pattern in table.file[:1])
        source, allowed = f"from: {each.source}" if each.source else "", _license(each) if each.source else each.license
        _show(each.name, each.title, count + seen, source, f"tables: {tables}" if tables else "", f"license: {allowed}")
    for name, (package, adapter) in usable.items():
        title = adapter.declaration.title if adapter.declaration else ""
        _show(name, *([title] if title else []), f"of the package {package}", f"license: {_license(adapter)}")


def _license(found: Declaration | Adapter) -> str:
    forbidden = [what for key, what in _ALLOWED.items() if what and not getattr(found, key)]
    return found.license + (f". Do not {' or '.join(forbidden)}" if forbidden else "")


def _show(name: str, *texts: str) -> None:
    for line in [line for text in texts for line in textwrap.wrap(text, 88)]:
        echo(f"{name:<10}{line}" if len(name) < 10 else f"{name} {line}")
        name = ""


@click.command()
@click.argument("dataset")
@click.option("--out", type=FOLDER, required=True, help="Folder to write to.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
def fetch(dataset: str, out: Path, yes: bool) -> None:
    """Copy sample films (cbis), or download a collection of the IDC.

    Other names are collections of the Imaging Data Commons: cmmd (22.9 GB),
    cbis_ddsm, ea1141, ...

    \b
    $ fvpipe fetch cbis --out data/cbis
    8 DICOM files -> data/cbis
    $ fvpipe fetch cmmd --out data/cmmd
    """
    if dataset == "cbis":
        from fvpipe.datasets.cbis import copy_sample

        echo(f"{copy_sample(out)} DICOM files -> {out}")
        return
    from fvpipe.datasets import download

    planned = download.plan(dataset, out)
    echo(planned.cost)
    if planned.missing and not yes:
        if not sys.stdin.isatty():
            raise ParameterError("nothing was fetched; add --yes to a call that no person can answer")
        click.confirm("Fetch it?", abort=True)
    download.fetch(planned, sys.stderr.isatty())
    echo(f"{sum(series.files for series in planned.series)} DICOM files, all as large as listed -> {out}")
    if dataset == "cmmd":
        echo("The label table is not part of it: put CMMD_clinicaldata_revision.xlsx (doi:10.7937/tcia.eqde-4b16) beside them.")
