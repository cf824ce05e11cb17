"""Commands that read data without changing it: verify, inspect, audit, report."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fvpipe.cli.options import (
    FILE,
    FOLDER,
    NumberRange,
    dataset_option,
    folder_options,
    json_option,
    label_rules,
    make_workers,
    reading_options,
    worker_options,
)
from fvpipe.cli.output import echo, print_rejections, rejected_words, say, warn
from fvpipe.errors import ParameterError

if TYPE_CHECKING:
    from fvpipe.reasons import Rejection
    from fvpipe.report.audit import Audit


class _SampleSize(click.ParamType[int]):
    """A number of images, or ``all``, which is 0."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        return 0 if value == "all" else click.IntRange(1).convert(value, param, ctx)


@click.command()
@click.argument("folders", nargs=-1, type=FOLDER)
@json_option
def verify(folders: tuple[Path, ...], as_json: bool) -> None:
    """Check every byte of shard folders.

    Compares the folders (all of cache/shards by default) with their receipts.
    Exit code 1 where a byte differs.

    \b
    $ fvpipe verify cache/shards/cropped/cbis
    cache/shards/cropped/cbis: 4 samples in 2 shard(s), all as written
    """
    from fvpipe.shards.format import RECEIPT, read_receipt
    from fvpipe.shards.verification import verify as verify_folder

    chosen = list(folders) or sorted(path.parent for path in Path("cache/shards").glob(f"*/*/{RECEIPT}"))
    if not chosen:
        raise ParameterError("cache/shards: no shard folder here; name one, or build it with `fvpipe build-shards`")
    found = {folder: verify_folder(folder) for folder in chosen}
    for folder, problems in found.items():
        if not as_json:
            receipt = read_receipt(folder)
            summary = "all as written" if not problems else f"{len(problems)} problem(s)"
            echo(f"{folder}: {receipt.samples} samples in {len(receipt.shards)} shard(s), {summary}")
            for problem in problems:
                echo(f"  {problem}", err=True)
    if as_json:
        echo(json.dumps({str(folder): problems for folder, problems in found.items()}, indent=1))
    if any(found.values()):
        sys.exit(1)


@click.command()
@click.argument("path", type=click.Path(path_type=Path, readable=False))
@click.option("--adapter", default=None, help="Header rules. [of the project's data set that holds the file, else table]")
@click.option("--pipeline", default="cropped", show_default=True, help="Pipeline whose segmentation is shown.")
@click.option("--png", type=FILE, default=None, help="Also draw outline, crop and histogram into this file.")
@click.option("--timeout", type=NumberRange(1), default=120.0, show_default=True, help="Limit in seconds for reading pixels.")
@json_option
def inspect(path: Path, adapter: str | None, pipeline: str, png: Path | None, timeout: float, as_json: bool) -> None:
    """Explain one image file, or describe a shard folder.

    Of an image file: the verdict of every rule, the decoder, and the outline of
    the breast with each threshold and quality gate.

    \b
    $ fvpipe inspect film.dcm --adapter cbis --png film.png
    $ fvpipe inspect cache/shards/cropped/cbis
    """
    from fvpipe.project.single_files import find_readings
    from fvpipe.report.inspect import file_text, inspect_dicom, inspect_shards, to_text

    is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    if is_folder:
        found = inspect_shards(path)
    else:
        reading = find_readings([path], adapter, keep_identifiers=True)[path]
        found = inspect_dicom(path, reading, pipeline, png, timeout)
    show = to_text if is_folder else file_text
    echo(json.dumps(found, indent=1) if as_json else show(found))
    if found.get("reason"):
        sys.exit(1)


@click.command()
@dataset_option
@click.option("--dicom", type=FOLDER, default=None, help="Outside a project: folder of DICOM files.")
@folder_options
@click.option("--pipeline", default="cropped", show_default=True, help="Pipeline whose window and segmentation are used.")
@click.option("--out", type=FILE, default=None, help="Page to write. [cache/reports/audit-<dataset>.html]")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Number of worst crops shown.")
@click.option(
    "--compare",
    type=_SampleSize(),
    metavar="[N|all]",
    is_flag=False,
    flag_value="100",
    default=None,
    help="Write no page; compare N images [100] with another library.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="With --compare: chooses the images.")
@reading_options
@worker_options
def audit(
    datasets: tuple[str, ...],
    dicom: Path | None,
    adapter: str | None,
    labels: Path | None,
    columns: dict[str, str],
    classes: dict[str, str],
    pipeline: str,
    out: Path | None,
    limit: int,
    compare: int | None,
    seed: int,
    id_key: Path | None,
    reread: bool,
    as_json: bool,
    **workers: Any,
) -> None:
    """Check a whole data set without building it.

    Decodes and segments every image and writes one page: what is rejected,
    statistics by vendor and view, and images of the worst crops.

    With --compare it reads a sample of the images by SimpleITK or pydicom, too,
    and names those whose size, values or polarity differ. Exit code 1 where any
    does.

    \b
    $ fvpipe audit --dataset cbis
    cbis: 8 of 8 images read, 0 rejected, 0 uncropped;
    8 images -> cache/reports/audit-cbis.html
    $ fvpipe audit --dicom DIR --adapter cmmd --out audit.html
    $ fvpipe audit --dicom DIR --compare 500 --seed 1
    """
    from fvpipe import flow
    from fvpipe.config.pipeline import load_pipeline
    from fvpipe.project.project import Project
    from fvpipe.project.stages import open_file_cache
    from fvpipe.project.standalone import standalone_source
    from fvpipe.report.audit import audit as audit_images
    from fvpipe.report.audit import write_audit
    from fvpipe.report.compare_decoders import compare_decoders, comparison_text

    if compare is not None and out is not None:
        raise click.UsageError("--compare writes no page: leave --out out")
    if dicom is not None:
        if datasets:
            raise click.UsageError("with --dicom give no --dataset")
        sources = [standalone_source("", dicom, adapter or "table", labels, id_key, label_rules(columns, classes))]
        samples = Path("cache/samples") if out is None else out.parent / ".samples"
        name, settings = load_pipeline(pipeline)
    elif adapter or labels or columns or classes:
        raise click.UsageError("--adapter, --labels, --column and --class go with --dicom; in a project see params.yaml")
    else:
        project = Project()
        sources, samples = [project.source(name, id_key) for name in project.names(datasets)], project.samples
        if out is not None and len(sources) != 1:
            raise click.UsageError("--out goes with one --dataset")
        name, settings = load_pipeline(pipeline, project.folder)
    results: list[dict[str, Any]] = []
    with make_workers(workers) as pool:
        for source in sources:
            with open_file_cache(source, samples, reread=reread, say=say) as file_cache:
                found = flow.index(source, pool, file_cache)
                rejected: Iterable[Rejection] = ()
                if compare is not None:
                    compared = compare_decoders(found, compare or None, seed, pool)
                    results.append(asdict(compared))
                    text = comparison_text(compared)
                else:
                    audited, images = audit_images(found, name, settings, pool, file_cache, limit)
                    page = out or Path("cache/reports") / f"audit-{source.name}.html"
                    write_audit(audited, images, page)
                    results.append(audited.to_json() | {"out": str(page)})
                    text, rejected = f"{_audit_text(audited)}; {len(images)} images -> {page}", audited.rejected
            if not as_json:
                echo(text)
                print_rejections(rejected)
    if as_json:
        echo(json.dumps(results, indent=1))
    if any(result.get("differing") for result in results):
        sys.exit(1)


def _audit_text(result: Audit) -> str:
    read = f"{result.measured} of {result.images} images read, {rejected_words(result.rejections)}"
    crops = ", ".join(f"{count} {verdict.replace('_', ' ')}" for verdict, count in result.verdicts.items())
    return f"{result.dataset}: {read}; crops: {crops}"


@click.command()
@click.option("--shards", type=FOLDER, default=Path("cache/shards"), show_default=True, help="Folder of shard folders.")
@click.option("--out", type=FILE, default=Path("cache/reports/report.html"), show_default=True, help="Page to write.")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="Number of images per shard folder.")
@click.option(
    "--figures", type=FOLDER, default=Path("cache/reports/figures"), show_default=True, help="Figures shown if there are any."
)
def report(shards: Path, out: Path, limit: int, figures: Path) -> None:
    """Write a page with an image of every sample.

    The page is made from the shards, and the figures that `fvpipe figures` has
    drawn; it opens without a network.

    \b
    $ fvpipe report
    6 shard folder(s), 104 images -> cache/reports/report.html
    """
    from fvpipe.evaluation.outdated import outdated_shards
    from fvpipe.project.project import Project
    from fvpipe.report.shard_page import write_page

    folders, images = write_page(shards, out, limit, figures)
    if Path("params.yaml").is_file() and shards.resolve() == (project := Project(Path())).shards.resolve():
        for line in outdated_shards(project):
            warn(line)
    echo(f"{folders} shard folder(s), {images} images -> {out}")
