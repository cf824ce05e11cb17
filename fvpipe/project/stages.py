"""The stages `index` and `shards` of a project: data set after data set, each result reported as soon as it is there."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvpipe import flow
from fvpipe.build.commit import Build
from fvpipe.build.plan import Limits, ShardOutput
from fvpipe.cache.file_cache import FileCache
from fvpipe.cache.sample_store import SampleStore
from fvpipe.config.loading import digest_of
from fvpipe.config.pipeline import load_pipeline
from fvpipe.datasets.source import Source
from fvpipe.errors import FvpipeError, InputError, ParameterError
from fvpipe.execution.workers import Workers
from fvpipe.indexing.index import Index
from fvpipe.indexing.known_facts import known_facts
from fvpipe.indexing.manifests.mammoclean import mammoclean_table
from fvpipe.indexing.manifests.read import read_manifests
from fvpipe.indexing.manifests.tables import differing_table, write_manifests
from fvpipe.indexing.pairing import PAIR_REASONS
from fvpipe.indexing.rejections import rejection_lines, require_breasts
from fvpipe.io.atomic import write_if_changed
from fvpipe.project.project import Project
from fvpipe.project.sharing import keep_cache_out_of_git, keep_splits_in_git
from fvpipe.reasons import Reason
from fvpipe.types import BREAST_FACTS, LABEL_NAMES, BreastKey

Say = Callable[[str], None]
EXPORTS = {"mammoclean": mammoclean_table}
"""Tables of an index in the columns of others, by name."""


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """Counts of one index, as ``fvpipe index --json`` prints them."""

    dataset: str
    images: int
    breasts: int
    unpaired: int  # breasts that only pipelines of one view build
    rejections: dict[str, int]
    ignored: int
    read: int
    kept: bool  # the old manifest was kept, since there is no input folder
    known: dict[str, dict[str, int]]  # fact -> number of breasts and images of which it is known
    out: str


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """Counts of one build, as ``fvpipe build-shards --json`` prints them."""

    dataset: str
    pipeline: str
    samples: int
    labels: dict[str, int]
    rejections: dict[str, int]
    flags: dict[str, int]
    shards: int
    written: int
    computed: int
    reused: int
    seconds: float
    seconds_of_steps: dict[str, float]
    out: str


def run_index(
    project: Project,
    names: Sequence[str],
    workers: Workers,
    id_key: Path | None,
    export: str | None = None,
    *,
    reread: bool,
    accept_license: bool = False,
    say: Say,
) -> Iterator[IndexSummary]:
    """Index data sets of a project into their manifests.

    Where a data set's input folder is not at hand but its manifest is, the manifest is kept: whoever has the shards and
    no DICOM files can still run the later stages. `export` names one of :data:`EXPORTS`.

    Raises
    ------
    InputError
        `export`, without `accept_license`, of a data set whose rows are not to be published; nothing was read.
    """
    exported = project.names(tuple(names)) if export and not accept_license else ()
    for source in (project.source(name, id_key) for name in exported):
        if not (source.adapter.publishable or source.simulated):
            todo = "For your own use, call it again with --accept-license"
            raise InputError(f"{source.name}: not exported, rows not to be published ({source.license}). {todo}")
    keep_cache_out_of_git(project.folder)
    with suppress(OSError):  # the stage `figures` reads results of `compare`: without one DVC would miss the folder
        (project.reports / "compare").mkdir(parents=True, exist_ok=True)
    for name in project.names(tuple(names)):
        source, folder = project.source(name, id_key), project.manifests(name)
        kept = not source.root.exists() and (folder / "images.csv").is_file()
        if kept:
            say(f"warning: {source.root}: no such folder; {folder} is kept as it is")
            found = read_manifests(source, folder)
        else:
            with open_file_cache(source, project.samples, reread=reread, say=say) as file_cache:
                found = checked(flow.index(source, workers, file_cache, digest=True), say)
            write_manifests(found, folder)
            if (project.splits / ".gitignore").is_file():
                with suppress(ParameterError):  # of another data set's declaration: its own index names it
                    keep_splits_in_git(project.folder, project.params)
        if export:
            table = project.export(export, name)
            write_if_changed(table, EXPORTS[export](found))
            beside = table.with_suffix(".license.txt")
            if source.adapter.publishable or source.simulated:
                beside.unlink(missing_ok=True)
            else:
                write_if_changed(beside, f"Rows not to be published.\n{source.license}\n".encode())
        yield IndexSummary(
            dataset=name,
            images=len(found.images),
            breasts=len(found.breasts),
            unpaired=len(found.unpaired_breasts),
            rejections=dict(sorted(Counter(rejection.reason.value for rejection in found.rejections).items())),
            ignored=len(found.passed_over),
            read=found.headers_read,
            kept=kept,
            known=known_facts(found),
            out=str(folder),
        )
        for note in () if kept else notes(found):
            say(note)


def explain(project: Project, path: Path, workers: Workers, id_key: Path | None, *, reread: bool) -> dict[str, Any]:
    """Find where each fact of one file comes from: its header, its path, or a row of the label table.

    Raises
    ------
    InputError
        The file is in no data set of the project, or no file that the index reads.
    """
    held = project.holder(path)
    if held is None:
        folders = ", ".join(str(project.root(name)) for name in project.names(())) or "none: params.yaml has no data set"
        raise InputError(f"{path}: is below the folder of no data set of params.yaml; expected a file below one of {folders}")
    source, relative = project.source(held[0], id_key), held[1]
    if not path.is_file():
        state = "is not a file" if path.exists() else "no such file"
        raise InputError(f"{path}: {state}; expected an image of data set {source.name}")
    with open_file_cache(source, project.samples, reread=reread) as file_cache:
        found = flow.index(source, workers, file_cache)
    answer: dict[str, Any] = {"path": relative, "dataset": source.name, "adapter": source.adapter.name, "facts": {}}
    rejection = next((each for each in found.rejections if each.what == relative), None)
    if rejection is not None:
        answer["rejected"] = {"reason": rejection.reason.value, "detail": rejection.detail}
    image = next((each for each in found.images if each.path == relative), None)
    if image is None and rejection is None:
        formats = " or ".join(each.upper() for each in source.policy.formats)
        raise InputError(
            f"{path}: data set {source.name} passes over this file: it is hidden (a name that begins with a dot), or no "
            f"{formats} by its name and its first bytes, as tables, archives, DICOMDIR and images of formats that `formats` "
            "does not state are; expected an image"
        )
    if image is None:
        return answer
    said = image.identity_sources
    for fact, value in (
        ("patient", image.patient_id),
        ("exam", image.study),
        ("laterality", image.laterality.value),
        ("view", image.view.value),
    ):
        where = said.get(fact, "header") if value else "exams are not told apart"
        answer["facts"][fact] = {"value": value or "-", "from": where}
    key = BreastKey(source.name, image.patient_id, image.study, image.laterality)
    of_breast = {each.reason: each for each in found.rejections if each.what == key.breast_id}
    ambiguous = of_breast.pop(Reason.LABEL_AMBIGUOUS, None)
    if no_pair := next((each for reason, each in of_breast.items() if reason in PAIR_REASONS), None):
        answer["no_pair"] = {"reason": no_pair.reason.value, "detail": no_pair.detail}
    facts = found.facts[relative]
    values = {name: getattr(facts, name) for name in BREAST_FACTS} | dict(facts.targets)
    missing = "no row of the label table names this breast in this exam"
    missing = f"{ambiguous.reason.value}: {ambiguous.detail}" if ambiguous else missing
    label = {"label": LABEL_NAMES[facts.label], "excluded": facts.excluded}
    for fact, value in (label | values).items():
        if value not in ("", None):
            answer["facts"][fact] = {"value": value, "from": facts.place or missing}
    return answer


def run_build(
    project: Project,
    names: Sequence[str],
    pipelines: Sequence[str],
    workers: Workers,
    limits: Limits,
    samples: Path | None = None,
    id_key: Path | None = None,
    *,
    reread: bool,
    say: Say,
) -> Iterator[BuildSummary]:
    """Build the shards of data sets of a project; their manifests are compared, and not written.

    Raises
    ------
    InputError
        A manifest is out of date: the files, the label table or the settings have changed since.
    """
    keep_cache_out_of_git(project.folder)
    for name in project.names(tuple(names)):
        source, store = project.source(name, id_key), samples or project.samples
        outputs = [output_of(project, pipeline, name) for pipeline in pipelines or project.params.pipelines]
        with open_file_cache(source, store, reread=reread, say=say) as file_cache:
            found = _compared_index(project, source, workers, file_cache, say)
            for output in outputs:
                build = flow.build_shards(found, output, SampleStore(store), file_cache, workers, limits, say)
                yield summary_of(build, output)
        for note in notes(found):
            say(note)


def checked(found: Index, say: Say) -> Index:
    """Return an index that gives a breast and whose label table fits.

    Raises
    ------
    QualityError, LabelTableError
        As :func:`fvpipe.indexing.rejections.require_breasts`; all reasons are said first.
    """
    try:
        require_breasts(found)
    except FvpipeError:
        for line in rejection_lines(found.rejections):
            say(line)
        raise
    return found


def notes(found: Index) -> Iterator[str]:
    """Make the lines about an index that a user should see, besides its rejections."""
    for line in found.passed_over.describe():
        yield f"  passed over in {found.source.root.name}/: {line}"
    for note in (*found.notes, *found.label_hints[:3]):
        yield f"warning: {found.source.name}: {note}"
    if more := len(found.label_hints[3:]):
        yield f"  ... and {more} more rows, as label_without_image in rejected.csv"


def _compared_index(project: Project, source: Source, workers: Workers, file_cache: FileCache, say: Say) -> Index:
    """Index a data set again, from the file cache, and compare every table with the manifest."""
    folder = project.manifests(source.name)
    if not (folder / "images.csv").is_file():
        say(f"warning: {folder}: no manifest; indexed without writing one. `fvpipe index --dataset {source.name}` writes it")
        return checked(flow.index(source, workers, file_cache), say)
    found = checked(flow.index(source, workers, file_cache, digest=True), say)
    if name := differing_table(found, folder):
        raise InputError(
            f"{folder / name}: is not what {source.root}, its label table and params.yaml give now; run "
            f"`fvpipe index --dataset {source.name}`"
        )
    return found


def output_of(project: Project, pipeline_name: str, dataset: str) -> ShardOutput:
    """Describe the shard folder of one pipeline and one data set of a project."""
    name, pipeline = load_pipeline(pipeline_name, project.folder)
    parent = project.shards / name
    return ShardOutput(
        dataset,
        name,
        pipeline,
        folder=parent / dataset,
        build_file=parent / f"{dataset}.build.json",
        lock_file=parent / f".{dataset}.lock",
        shard_count=project.params.shards.shard_count,
    )


def summary_of(build: Build, output: ShardOutput) -> BuildSummary:
    """Summarize a build."""
    receipt, samples = build.receipt, build.samples
    return BuildSummary(
        dataset=receipt.dataset,
        pipeline=receipt.pipeline,
        samples=receipt.samples,
        labels=receipt.labels,
        rejections=receipt.rejections,
        flags=receipt.flags,
        shards=len(receipt.shards),
        written=build.written,
        computed=samples.computed,
        reused=samples.reused,
        seconds=round(build.seconds, 3),
        seconds_of_steps={step: round(seconds, 3) for step, seconds in samples.seconds.items()},
        out=str(output.folder),
    )


def open_file_cache(source: Source, samples: Path, *, reread: bool = False, say: Say = warnings.warn) -> FileCache:
    """Open the file cache of a data set, beside the samples: one file per input folder, so that two builds do not wait."""
    file = samples / f"sources-{digest_of(str(source.root.absolute()))[:16]}.sqlite"
    return FileCache(file, source.root, source.policy, reread=reread, warn=lambda message: say(f"warning: {message}"))
