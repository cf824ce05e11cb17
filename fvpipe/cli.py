"""The command line: one command a stage, each parses, calls one function and prints. Heavy imports wait until then."""

from __future__ import annotations

import gc
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fvpipe import __version__
from fvpipe.datasets import idc
from fvpipe.errors import FvpipeError, ParameterError

if TYPE_CHECKING:
    from fvpipe.config.pipeline import Pipeline
    from fvpipe.execution.workers import Workers
    from fvpipe.indexing.index import Source
    from fvpipe.settled import Settled

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False)
SHOWN = 20  # refusals shown on the screen; the table has them all


class Commands(click.Group):
    """Lists commands in the order in which they are used, and turns our errors into one line and exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of definition."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        signal.signal(signal.SIGTERM, _terminated)
        try:
            return super().invoke(ctx)
        except FvpipeError as error:
            raise click.ClickException(str(error)) from None
        except MemoryError:
            raise click.ClickException("out of memory; what was finished is kept, run again with fewer --workers") from None
        except ImportError as error:
            raise click.ClickException(f"{error}; install what is missing (README), then run again") from None
        except KeyboardInterrupt:
            click.echo("interrupted; what was finished is kept, run it again to go on", err=True)
            sys.exit(130)


def _terminated(number: int, _: object) -> None:
    sys.exit(128 + number)  # unwinds the stack: workers end and temporary files go


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fvpipe")
def main() -> None:
    """Mammography DICOM files in, small verified HDF5 training shards out."""
    # An index makes a million small objects and hardly a cycle: looking for those took a tenth of a build with nothing to do.
    gc.set_threshold(50_000, 20, 20)


def worker_options(function: FunctionT) -> FunctionT:
    """Who does the work."""
    for option in (
        click.option("--workers", type=click.IntRange(0), default=None, help="Local processes; 0: this one. [one a core]"),
        click.option("--threads", is_flag=True, help="Local threads instead of processes."),
        click.option("--scheduler", default="", help="Address of a running Dask scheduler; also DASK_SCHEDULER_ADDRESS."),
        click.option("--scheduler-file", type=FILE, default=None, help="The scheduler file of a running Dask cluster."),
        click.option(
            "--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds a breast may take."
        ),
    ):
        function = option(function)
    return function


def reading_options(function: FunctionT) -> FunctionT:
    """How input is read."""
    for option in (
        click.option("--id-key", type=FILE, default=None, help="Key file of hashed identifiers; also FVPIPE_ID_KEY."),
        click.option("--reread", is_flag=True, help="Trust no remembered file: read every byte again."),
        click.option("--json", "as_json", is_flag=True, help="Print the result as JSON."),
    ):
        function = option(function)
    return function


dataset_option = click.option("--dataset", "datasets", multiple=True, help="Only this data set of params.yaml; repeatable.")


@main.command()
@dataset_option
@reading_options
@worker_options
def index(datasets: tuple[str, ...], id_key: Path | None, reread: bool, as_json: bool, **workers: Any) -> None:
    r"""Read headers and pair views, into manifests/<dataset>/.

    \b
    $ fvpipe index --dataset cbis
    cbis: 8 images, 4 breasts, 0 refused; 8 headers read -> manifests/cbis
    """
    from fvpipe.settled import Settled

    show = _nothing if as_json else _print_index
    begun = time.perf_counter()
    settled = Settled(Path("cache/samples"), ["index", *datasets], id_key)
    results = None if reread else _recalled(settled, show, begun)
    if results is None:
        from fvpipe import runs
        from fvpipe.project import Project

        with _workers(workers) as pool:
            run = runs.Run(settled, pool, id_key, reread, show, _say)
            results = runs.index(run, Project(), datasets)
    if as_json:
        click.echo(json.dumps(results, indent=1))


@main.command("build-shards")
@click.option("--pipeline", "pipelines", multiple=True, help="Name of a file in pipelines/; repeatable. [all of params.yaml]")
@dataset_option
@click.option("--dicom", type=FOLDER, default=None, help="Outside a project: the folder of DICOM files.")
@click.option("--out", type=FOLDER, default=None, help="Outside a project: the shard folder.")
@click.option("--adapter", default=None, help="With --dicom: cmmd, vindr, cbis or table. [table]")
@click.option("--labels", type=FILE, default=None, help="With --dicom: the label table.")
@click.option("--name", default=None, help="With --dicom: the data set's name in the shards. [the adapter's]")
@click.option("--samples", type=FOLDER, default=None, help="The sample store. [cache/samples, or OUT/.samples]")
@click.option("--shard-count", type=click.IntRange(1), default=None, help="With --dicom. [16]")
@click.option("--strict", is_flag=True, help="Fail when any file or breast is refused: --max-rejected 0.")
@click.option("--max-rejected", type=click.FloatRange(0, 100), default=None, help="Percent of refused files that fails.")
@click.option("--no-shared-storage", is_flag=True, help="Workers do not see the sample store: samples travel with the answers.")
@click.option("--profile", is_flag=True, help="Say where the time went, step by step.")
@click.option("--max-fallback", type=click.FloatRange(0, 100), default=2.0, show_default=True, help="Percent uncropped.")
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
    r"""Build the shards that are missing or out of date, decoding only what changed.

    \b
    $ fvpipe build-shards --pipeline cropped                                  in a project
    $ fvpipe build-shards --pipeline cropped --dicom DIR --out DIR            anywhere
    cropped/table: 4 breasts (0 malignant, 0 benign, 4 unlabelled) in 2 shards, 0 refused; 4 made, 0 reused
    """
    from fvpipe.settled import Settled

    if math.isnan(max_fallback) or (max_rejected is not None and math.isnan(max_rejected)):
        raise click.UsageError("a limit in percent is a number")
    if (dicom is None) != (out is None):
        raise click.UsageError("--dicom and --out go together")
    if dicom is None and any(option is not None for option in (adapter, labels, name, shard_count)):
        raise click.UsageError("--adapter, --labels, --name and --shard-count go with --dicom; in a project see params.yaml")
    if dicom is not None and (datasets or len(pipelines) != 1):
        raise click.UsageError("with --dicom give one --pipeline, and no --dataset")
    begun = time.perf_counter()
    show = _nothing if as_json else _print_build
    samples = samples or (out / ".samples" if out is not None else Path("cache/samples"))
    limits = (max_fallback, 0.0 if strict else max_rejected)
    decisive = (pipelines, datasets, dicom, out, adapter, labels, name, samples, shard_count, limits)
    settled = Settled(samples, ["build", *map(repr, decisive)], id_key)
    results = None if reread else _recalled(settled, show, begun)
    if results is None:
        from fvpipe import runs
        from fvpipe.build.plan import Limits
        from fvpipe.project import Project, free_source

        with _workers(workers | {"share_storage": not no_shared_storage}) as pool:
            run = runs.Run(settled, pool, id_key, reread, show, _say)
            if dicom is not None and out is not None:
                kind = adapter or "table"
                source = free_source(name or kind, dicom, kind, labels, id_key)
                wanted = runs.anywhere(source, pipelines[0], out, samples, shard_count or 16)
            else:
                wanted = runs.of_project(Project(), datasets, pipelines, samples, id_key)
            results = runs.build(run, wanted, Limits(*limits), _warn)
    if as_json:
        click.echo(json.dumps(results, indent=1))
    elif profile:
        _print_profile(results)


def _workers(settings: dict[str, Any]) -> Workers:
    from fvpipe.execution.workers import Workers, WorkerSettings

    settings["count"] = settings.pop("workers")
    return Workers(WorkerSettings(**settings))


def _recalled(settled: Settled, show: Callable[[dict[str, Any]], None], begun: float) -> list[dict[str, Any]] | None:
    """The results where nothing has changed since they were found, shown; else None."""
    found = settled.recall()
    results = []
    for finished in found or ():
        for result in finished.results:
            results.append(result | ({"seconds": round(time.perf_counter() - begun, 3)} if "seconds" in result else {}))
            show(results[-1])
        for line in finished.said:
            _say(line)
    return results if found is not None else None


def _nothing(_: object) -> None:
    """Show no result: all of them are printed as JSON."""


def _say(line: str) -> None:
    click.echo(line, err=True)


def _warn(message: str) -> None:
    click.echo(f"warning: {message}", err=True)


def _print_index(result: dict[str, Any]) -> None:
    counts = f"{result['images']} images, {result['breasts']} breasts, {_refused_words(result['rejections'])}"
    counts += f", {result['ignored']} other files" if result["ignored"] else ""
    click.echo(f"{result['dataset']}: {counts}; {result['read']} headers read -> {result['out']}")
    _print_refused_in(result["out"])


def _print_build(result: dict[str, Any]) -> None:
    labels = ", ".join(f"{count} {name}" for name, count in result["labels"].items())
    where = f"in {result['shards']} shard(s), {result['written']} written"
    made = f"{result['computed']} made, {result['reused']} reused in {result['seconds']:.1f} s"
    click.echo(
        f"{result['pipeline']}/{result['dataset']}: {result['samples']} breasts ({labels}) {where}, "
        f"{_refused_words(result['rejections'])}; {made} -> {result['out']}"
    )
    _print_refused_in(result["out"])


def _print_refused_in(folder: str) -> None:
    from fvpipe.io.tables import iterate_table
    from fvpipe.reasons import Reason, Rejection

    rows = iterate_table(Path(folder) / "rejected.csv", ["what", "reason", "detail"])
    _print_refusals(Rejection(row["what"], Reason(row["reason"]), row["detail"]) for row in rows)


def _print_profile(results: list[dict[str, Any]]) -> None:
    """Seconds of all workers together on each step, and milliseconds a breast."""
    for result in results:
        for step, seconds in result["seconds_of_steps"].items():
            each = f"{1000 * seconds / max(result['computed'], 1):8.1f} ms a breast"
            click.echo(f"  {result['pipeline']}/{result['dataset']}: {step:<8} {seconds:8.2f} s {each}")


def _refused_words(reasons: Mapping[str, int]) -> str:
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    return f"{sum(reasons.values())} refused" + (f" ({words})" if words else "")


def _print_refusals(rejections: Any) -> None:
    """Name what is broken; what the label rule left out is counted, and listed in the table."""
    from fvpipe.reasons import NOT_BROKEN

    broken = (rejection for rejection in rejections if rejection.reason not in NOT_BROKEN)
    for rejection in islice(broken, SHOWN):
        what = "".join(c if c.isprintable() else "?" for c in rejection.what)
        click.echo(f"  refused: {what}: {rejection.reason.value}: {rejection.detail}", err=True)
    if more := sum(1 for _ in broken):
        click.echo(f"  ... and {more} more, all in rejected.csv", err=True)


@main.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def split(names: tuple[str, ...], as_json: bool) -> None:
    r"""Make the evaluation settings of params.yaml, into manifests/splits/; a leak is refused. [all]

    \b
    $ fvpipe split seen
    seen (seen): train 31+20, validation 4+3, test 7+6 benign+malignant; 46 % of test breasts have their patient in train
    """
    from fvpipe.project import Project
    from fvpipe.splitting import write_splits

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
                "  not all of it is in shards, or not in shards of pictures that were decoded alike: patients and studies were "
                "checked, not every file and picture",
                err=True,
            )
        for pair in result["near_duplicates_across_parts"][:SHOWN]:
            click.echo(f"  nearly the same picture in two parts: {' and '.join(pair)}", err=True)


@main.command()
@dataset_option
@click.option("--out", type=FILE, default=None, help="Also write its numbers here: a DVC metric.")
@reading_options
@worker_options
def table1(
    datasets: tuple[str, ...], out: Path | None, id_key: Path | None, reread: bool, as_json: bool, **workers: Any
) -> None:
    r"""Compare with the paper's Table 1, and show what shortcuts alone would score.

    \b
    $ fvpipe table1
    """
    from fvpipe.io.atomic import write_if_changed
    from fvpipe.project import Project
    from fvpipe.runs import indexed
    from fvpipe.table1 import table1 as compare
    from fvpipe.table1 import to_metric, to_text

    project = Project()
    with _workers(workers) as pool:
        sources = [project.source(name, id_key) for name in project.names(datasets)]
        groups = [[s for s in sources if s.made is made] for made in (False, True)]  # never pooled with each other
        results = [compare([indexed(s, project.samples, reread, pool) for s in group]) for group in groups if group]
    found = {key: [entry for result in results for entry in result[key]] for key in ("rows", "floors")}
    if out is not None:
        write_if_changed(out, (json.dumps(to_metric(found), indent=1) + "\n").encode())
    click.echo(json.dumps(found, indent=1) if as_json else to_text(found))


@main.command()
@click.argument("folders", nargs=-1, type=FOLDER)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(folders: tuple[Path, ...], as_json: bool) -> None:
    r"""Check every byte of shard folders against their receipts. [all of cache/shards]

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
            click.echo(f"{folder}: {receipt.samples} samples in {len(receipt.shards)} shard(s), {summary}")
            for problem in problems:
                click.echo(f"  {problem}", err=True)
    if as_json:
        click.echo(json.dumps({str(folder): problems for folder, problems in found.items()}, indent=1))
    if any(found.values()):
        sys.exit(1)


@main.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--adapter", default="table", show_default=True, help="How to read the header: cmmd, vindr, cbis or table.")
@click.option("--pipeline", default="cropped", show_default=True, help="Whose segmentation to show.")
@click.option("--png", type=FILE, default=None, help="Also draw what was found, and the histogram, into this file.")
@click.option("--timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds the pixels may take.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def inspect(path: Path, adapter: str, pipeline: str, png: Path | None, timeout: float, as_json: bool) -> None:
    r"""Show every rule's verdict on a DICOM file and how it is segmented, or what is in a shard folder.

    \b
    $ fvpipe inspect film.dcm --adapter cbis --png film.png
    $ fvpipe inspect cache/shards/cropped/cbis
    """
    from fvpipe.report.inspect import file_text, inspect_dicom, inspect_shards, to_text

    found = inspect_shards(path) if path.is_dir() else inspect_dicom(path, adapter, pipeline, png, timeout)
    show = to_text if path.is_dir() else file_text
    click.echo(json.dumps(found, indent=1) if as_json else show(found))
    if found.get("reason"):
        sys.exit(1)


@main.command()
@dataset_option
@click.option("--dicom", type=FOLDER, default=None, help="Outside a project: the folder of DICOM files.")
@click.option("--adapter", default=None, help="With --dicom: cmmd, vindr, cbis or table. [table]")
@click.option("--labels", type=FILE, default=None, help="With --dicom: the label table.")
@click.option("--pipeline", default="cropped", show_default=True, help="Whose window and segmentation.")
@click.option("--out", type=FILE, default=None, help="The page. [cache/reports/audit-<dataset>.html]")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Pictures of the worst crops.")
@reading_options
@worker_options
def audit(
    datasets: tuple[str, ...],
    dicom: Path | None,
    adapter: str | None,
    labels: Path | None,
    pipeline: str,
    out: Path | None,
    limit: int,
    id_key: Path | None,
    reread: bool,
    as_json: bool,
    **workers: Any,
) -> None:
    r"""Look at every image without building: what is refused, what the rest is like, the worst crops as pictures.

    \b
    $ fvpipe audit --dataset cbis                                             in a project
    $ fvpipe audit --dicom DIR --adapter cmmd --out audit.html                anywhere
    cbis: 8 of 8 images read, 0 refused, 0 uncropped; 8 pictures -> cache/reports/audit-cbis.html
    """
    from fvpipe.config.pipeline import load_pipeline
    from fvpipe.project import Project, free_source

    if dicom is not None:
        if datasets:
            raise click.UsageError("with --dicom give no --dataset")
        sources, samples = [free_source(adapter or "table", dicom, adapter or "table", labels, id_key)], Path("cache/samples")
        if out is not None:
            samples = out.parent / ".samples"
        name, settings = load_pipeline(pipeline)
    elif adapter is not None or labels is not None:
        raise click.UsageError("--adapter and --labels go with --dicom; in a project see params.yaml")
    else:
        project = Project()
        sources, samples = [project.source(name, id_key) for name in project.names(datasets)], project.samples
        if out is not None and len(sources) != 1:
            raise click.UsageError("--out goes with one --dataset")
        name, settings = load_pipeline(pipeline, project.folder)
    with _workers(workers) as pool:
        results = [_audited(source, (name, settings), samples, out, limit, reread, pool, as_json) for source in sources]
    if as_json:
        click.echo(json.dumps(results, indent=1))


def _audited(
    source: Source,
    pipeline: tuple[str, Pipeline],
    samples: Path,
    out: Path | None,
    limit: int,
    reread: bool,
    pool: Workers,
    as_json: bool,
) -> dict[str, Any]:
    from fvpipe.flow import index
    from fvpipe.report.audit import audit, write_audit
    from fvpipe.runs import open_memory

    page = out or Path("cache/reports") / f"audit-{source.name}.html"
    with open_memory(source, samples, reread) as memory:
        result, pictures = audit(index(source, pool, memory), *pipeline, pool, memory, limit)
    write_audit(result, pictures, page)
    if not as_json:
        read = f"{result.measured} of {result.images} images read, {_refused_words(result.rejections)}"
        uncropped = f"{result.methods.get('whole_frame', 0)} uncropped"
        click.echo(f"{result.dataset}: {read}, {uncropped}; {len(pictures)} pictures -> {page}")
        _print_refusals(result.refused)
    return result.to_json() | {"out": str(page)}


@main.command()
@click.option("--shards", type=FOLDER, default=Path("cache/shards"), show_default=True, help="Folder of shard folders.")
@click.option("--out", type=FILE, default=Path("cache/reports/report.html"), show_default=True, help="The page.")
@click.option("--limit", type=click.IntRange(1), default=24, show_default=True, help="Pictures of each shard folder.")
def report(shards: Path, out: Path, limit: int) -> None:
    r"""Make a page of pictures of all shards; it opens without a network.

    \b
    $ fvpipe report
    6 shard folders, 112 pictures -> cache/reports/report.html
    """
    from fvpipe.report.page import write_page

    folders, pictures = write_page(shards, out, limit)
    click.echo(f"{folders} shard folder(s), {pictures} pictures -> {out}")


@main.command()
@click.option("--form", type=click.Choice(["vindr", "cmmd"]), required=True, help="Whose published form.")
@click.option("--out", type=FOLDER, required=True, help="The folder to fill.")
@click.option("--patients", type=click.IntRange(8), default=24, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def phantom(form: Any, out: Path, patients: int, seed: int) -> None:
    r"""Make a data set: realistic mammograms of no patient, in a published form, with the known truth.

    \b
    $ fvpipe phantom --form cmmd --out data/phantom-cmmd
    76 made DICOM files -> data/phantom-cmmd
    """
    from fvpipe.simulation.phantom import make

    click.echo(f"{make(form, out, patients, seed)} made DICOM files -> {out}")


@main.command()
@click.argument("dataset", type=click.Choice(["cbis", "cmmd"]))
@click.option("--out", type=FOLDER, required=True, help="The folder to fill.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
def fetch(dataset: str, out: Path, yes: bool) -> None:
    r"""Put real mammograms where a project reads them: cbis copies eight sample films, cmmd downloads 22.9 GB.

    \b
    $ fvpipe fetch cbis --out data/cbis
    8 DICOM files -> data/cbis
    $ fvpipe fetch cmmd --out data/cmmd
    1775 series, 5202 files, 22.9 GB; 0 series are there already, 22.9 GB to fetch into data/cmmd
    """
    if dataset == "cbis":
        from fvpipe.datasets.cbis import copy_sample

        click.echo(f"{copy_sample(out)} DICOM files -> {out}")
        return
    from fvpipe.datasets import idc

    download = idc.plan(dataset, out)
    click.echo(download.cost)
    if download.missing and not yes:
        if not sys.stdin.isatty():
            raise ParameterError("nothing was fetched; add --yes to a call that no person can answer")
        click.confirm("Fetch it?", abort=True)
    idc.fetch(download, sys.stderr.isatty())
    click.echo(f"{sum(series.files for series in download.series)} DICOM files, all as large as listed -> {out}")
    click.echo(
        "The label table is no part of it: put CMMD_clinicaldata_revision.xlsx (doi:10.7937/tcia.eqde-4b16) beside them."
    )


from fvpipe.cli_training import COMMANDS  # noqa: E402 - after the commands that are used before them

for command in COMMANDS:
    main.add_command(command)
