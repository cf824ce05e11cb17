"""All figures of a project; one whose data are missing is left out with a message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fvpipe.comparison.summary import outdated_comparisons, read_answers
from fvpipe.config.pipeline import Pipeline, load_pipeline
from fvpipe.datasets.source import Source
from fvpipe.dicom.elements import silenced
from fvpipe.errors import FvpipeError, InputError
from fvpipe.evaluation.splits.split_table import read_split
from fvpipe.figures.differences import draw_differences
from fvpipe.figures.pipelines import draw_pipeline
from fvpipe.figures.protocols import SplitCounts, count_split, draw_protocols
from fvpipe.figures.steps import trace_pipeline
from fvpipe.figures.style import Drawing, own_style, render
from fvpipe.figures.workflow import draw_workflow
from fvpipe.imaging.fusion import digest_pair
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.read import read_manifests
from fvpipe.io.atomic import write_if_changed
from fvpipe.project.project import Project
from fvpipe.report.figure_list import ListedFigure, write_list
from fvpipe.shards.format import RECEIPT, Receipt, read_receipt
from fvpipe.types import Digest

Say = Callable[[str], None]


def write_figures(project: Project, datasets: Sequence[str], pipelines: Sequence[str], out: Path, say: Say) -> list[str]:
    """Draw the figures, and write each as SVG and PNG, with a list of them.

    Parameters
    ----------
    project : Project
        Its manifests, shards and splits are drawn.
    datasets : sequence of str
        Data sets to draw; all of the project if empty.
    pipelines : sequence of str
        Pipelines to draw beside those of the project.
    say : callable
        Receives a line for each figure that is left out, with the reason.

    Returns
    -------
    names : list of str
        Stems of the files.

    Raises
    ------
    ParameterError
        No such data set or pipeline.
    InputError
        Nothing can be drawn.
    StorageError
        A file cannot be written.
    """
    listed = []
    with own_style(), silenced():
        for drawing in drawings(project, datasets, pipelines, say):
            for suffix in ("svg", "png"):
                write_if_changed(out / f"{drawing.name}.{suffix}", render(drawing.figure, suffix))
            listed.append(ListedFigure(name=drawing.name, caption=drawing.caption))
    if not listed:
        raise InputError("no figure can be drawn; run `fvpipe index`, `fvpipe build-shards` and `fvpipe split` first")
    write_list(out, listed)
    return [each.name for each in listed]


def drawings(project: Project, datasets: Sequence[str], pipelines: Sequence[str], say: Say) -> Iterator[Drawing]:
    """Draw the figures, in the order of the paper; each must be rendered in :func:`fvpipe.figures.style.own_style`."""
    loaded = dict(load_pipeline(name, project.folder) for name in dict.fromkeys([*project.params.pipelines, *pipelines]))
    indexes = dict(_indexes(project, project.names(tuple(datasets)), say))
    receipts = dict(_receipts(project, [*indexes], [*loaded], say))
    if indexes:
        yield draw_workflow(project.params, [*indexes.values()], receipts)
    try:
        from fvpipe.figures.network import draw_network
    except ImportError as error:
        say(f"cnn: left out, since its layers are those of PyTorch ({error}): pip install 'fvpipe[train]'")
    else:
        yield draw_network(project.params.train.recipe(simulated=False), next(iter(loaded.values()), Pipeline()))
    shown = _breast_of([*indexes.values()], bool(datasets))
    if shown is None:
        say("pipelines: left out, since no data set that may be published has a breast with both views and its files at hand")
    else:
        yield from _pipelines(shown, loaded, say)
    answers = read_answers(project.reports / "compare")
    for line in outdated_comparisons(project.reports / "compare", project.shards):
        say(line)
    if any(answer.low is not None for answer in answers):
        yield draw_differences(answers)
    splits = list(_splits(project, indexes, say))
    if splits:
        yield draw_protocols(splits, {name: index.source.simulated for name, index in indexes.items()})


def _indexes(project: Project, names: Sequence[str], say: Say) -> Iterator[tuple[str, Index]]:
    for name in names:
        if (project.manifests(name) / "images.csv").is_file():
            yield name, read_manifests(project.source(name, keep_identifiers=True), project.manifests(name))
        else:
            say(f"{name}: left out, since it has no manifest; run `fvpipe index --dataset {name}`")


def _receipts(
    project: Project, datasets: Sequence[str], pipelines: Sequence[str], say: Say
) -> Iterator[tuple[tuple[str, str], Receipt]]:
    for pipeline in pipelines:
        for dataset in datasets:
            folder = project.shards / pipeline / dataset
            if (folder / RECEIPT).is_file():
                yield (pipeline, dataset), read_receipt(folder)
            elif pipeline in project.params.pipelines:
                say(
                    f"{pipeline}/{dataset}: not counted, since it is not built; run `fvpipe build-shards --pipeline {pipeline}`"
                )


def _breast_of(indexes: Sequence[Index], chosen: bool) -> Index | None:
    """The data set whose first breast is drawn: a real one before a simulated one, and none whose images may not be published.

    One that was asked for is drawn in any case.
    """

    def may_be_shown(source: Source) -> bool:
        return source.simulated or (source.adapter.publishable and source.adapter.redistribute_shards)  # rows and images

    usable = [
        index for index in indexes if (chosen or may_be_shown(index.source)) and index.breasts and index.source.root.is_dir()
    ]
    return min(usable, key=lambda index: index.source.simulated, default=None)


def _pipelines(index: Index, loaded: dict[str, Pipeline], say: Say) -> Iterator[Drawing]:
    source, breast = index.source, index.breasts[0]
    digests = digest_pair(Digest((index.digests or {})[image.path]) for image in breast.images)
    for name, pipeline in loaded.items():
        try:
            steps = trace_pipeline(name, pipeline, source.root, breast, digests, source.policy)
        except FvpipeError as error:
            say(f"pipeline-{name}: left out, with the first breast of {source.name}: {error}")
        else:
            yield draw_pipeline(steps, source.name, source.simulated)


def _splits(project: Project, indexes: dict[str, Index], say: Say) -> Iterator[SplitCounts]:
    for name, split in project.params.splits.items():
        if not indexes.keys() >= set(split.all_datasets):
            say(f"split '{name}': left out, since not all of its data sets are drawn")
            continue
        for file in split.files(name):
            path = project.splits / f"{file}.csv"
            if not path.is_file():
                say(f"split '{file}': left out, since it is not made; run `fvpipe split {name}`")
                continue
            try:
                yield count_split(file, split, read_split(path, indexes), indexes)
            except InputError as error:
                say(f"{error}; left out")
