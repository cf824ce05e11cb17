"""The figures of the paper: drawn from a small project, their numbers are those of its tables, its model and its samples."""

from __future__ import annotations

import base64
import contextlib
import csv
import itertools
import json
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from torch import nn

import fvpipe
from fvpipe.comparison.summary import Answer
from fvpipe.config.pipeline import Fuse, Pipeline, load_pipeline
from fvpipe.config.training import Cnn, Recipe
from fvpipe.dicom.header import read_header
from fvpipe.dicom.policy import HeaderPolicy
from fvpipe.errors import FvpipeError, InputError
from fvpipe.evaluation.splits.assign import Part
from fvpipe.figures.differences import draw_differences
from fvpipe.figures.draw import _breast_of, drawings
from fvpipe.figures.network import draw_network
from fvpipe.figures.protocols import Facts, SplitCounts, draw_protocols
from fvpipe.figures.steps import PipelineSteps, trace_pipeline
from fvpipe.figures.style import Drawing, own_style
from fvpipe.figures.workflow import draw_workflow
from fvpipe.imaging.fusion import digest_pair
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.read import read_manifests
from fvpipe.io.read import read_contents
from fvpipe.project.project import Project
from fvpipe.reasons import Rejection
from fvpipe.report.shard_page import write_page
from fvpipe.shards.format import read_receipt
from fvpipe.training.network.model import custom_cnn
from fvpipe.types import Breast, BreastKey, View
from tests.conftest import run
from tests.support import factory

ROOT = Path(__file__).parents[1]
SETS = ("phantom-vindr", "phantom-cmmd")
BUILT, DRAWN = ("direct", "each"), ("direct", "each", "mlo")
PARAMS = """
datasets:
  phantom-vindr: {adapter: vindr, simulated: true}
  phantom-cmmd: {adapter: cmmd, simulated: true}
pipelines: [direct, each]
splits:
  seen: {setting: seen, datasets: [phantom-vindr, phantom-cmmd], seed: 3}
  cross: {setting: cross, datasets: [phantom-vindr], test: [phantom-cmmd]}
  folds: {setting: kfold, datasets: [phantom-cmmd], folds: 2}
runs: {splits: [seen], models: [cnn], seeds: [0, 1]}
"""


def test_no_image_is_drawn_that_may_not_be_shared(tmp_path: Path) -> None:
    """Rows of a data set may be published and its images not."""

    def index(**permits: bool) -> Any:
        adapter = SimpleNamespace(**{"publishable": True, "redistribute_shards": True} | permits)
        return SimpleNamespace(source=SimpleNamespace(simulated=False, adapter=adapter, root=tmp_path), breasts=[1])

    restricted = [index(redistribute_shards=False), index(publishable=False)]
    assert _breast_of(restricted, chosen=False) is None
    assert _breast_of([*restricted, free := index()], chosen=False) is free
    assert _breast_of(restricted, chosen=True) is restricted[0]


@pytest.fixture(scope="module")
def project(phantoms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both simulated data sets indexed and split, one of them built, and its figures drawn."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / "params.yaml").write_text(PARAMS)
    (folder / "data").mkdir()
    for form, data in phantoms.items():
        (folder / "data" / f"phantom-{form}").symlink_to(data)
    with contextlib.chdir(folder):
        run("index", "--workers", 0)
        for pipeline in BUILT:
            run("build-shards", "--pipeline", pipeline, "--dataset", "phantom-cmmd", "--workers", 0)
        run("split")
        drawn = run("figures", "--pipeline", "mlo").stdout
    assert drawn.startswith("6 figures: workflow, cnn, pipeline-direct, pipeline-each, pipeline-mlo, protocols -> ")
    return folder


@pytest.fixture
def own(project: Path, tmp_path: Path) -> Path:
    """A copy of the project that a test may change."""
    return Path(shutil.copytree(project, tmp_path / "project", symlinks=True))


def words(project: Path, name: str) -> list[str]:
    """Words of a figure's SVG, where matplotlib notes what each group of letters says."""
    svg = (project / "cache" / "reports" / "figures" / f"{name}.svg").read_text()
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", svg, re.DOTALL)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


def rows(project: Path, table: str) -> list[dict[str, str]]:
    with open(project / "manifests" / table, encoding="utf-8") as file:
        return list(csv.DictReader(file))


def index_of(project: Path, name: str) -> Index:
    found = Project(project)
    return read_manifests(found.source(name, keep_identifiers=True), found.manifests(name))


def draw(project: Path, *datasets: str) -> tuple[dict[str, Drawing], list[str]]:
    """The figures, not rendered, and what was said."""
    said: list[str] = []
    with own_style():
        return {drawing.name: drawing for drawing in drawings(Project(project), datasets, (), said.append)}, said


# --- the numbers ------------------------------------------------------------------------------------------------------


def test_workflow_counts_manifests_and_shards(project: Path) -> None:
    expected = []
    for name in SETS:
        breasts = [row for row in rows(project, f"{name}/breasts.csv") if row.get("paired") != "false"]
        expected += [name, f"{len(rows(project, f'{name}/images.csv'))} images", "simulated data", f"{len(breasts)} breasts"]
        for label, word in (("0", "benign"), ("1", "malignant"), ("-1", "unlabelled")):
            if count := sum(row["label"] == label for row in breasts):
                expected.append(f"{count} {word}")
        unpaired = len(rows(project, f"{name}/breasts.csv")) - len(breasts)
        expected += [f"{unpaired} with one view"] if unpaired else []
        expected.append(f"{len(rows(project, f'{name}/rejected.csv'))} rejections")
        for pipeline in BUILT:
            receipt = project / "cache" / "shards" / pipeline / name / "index.json"
            samples = f"{json.loads(receipt.read_text())['samples']} samples" if receipt.is_file() else "not built"
            expected.append(f"{pipeline}: {samples}")
    shown = words(project, "workflow")
    start = shown.index(SETS[0])
    assert shown[start : start + len(expected)] == expected
    trained = ["cnn", "1 model", "2 pipelines", "1 split", "2 seeds", "= 4 trainings"]
    assert shown[start + len(expected) :] == trained


def test_workflow_counts_each_fold_as_a_training(own: Path) -> None:
    (own / "params.yaml").write_text(PARAMS.replace("splits: [seen]", "splits: [folds, folds-fold0]"))
    drawn, _ = draw(own)
    shown = texts(drawn["workflow"].figure)
    assert {"2 splits", "2 pipelines", "= 8 trainings"} <= set(shown)
    assert shown.count("in no split that is trained") == 1  # phantom-vindr


@pytest.mark.parametrize(
    ("recipe", "pipeline"),
    [
        (Recipe(), Pipeline()),
        (
            Recipe(loss="one_logit", cnn=Cnn(batch_norm=True, dropout=0.5, pooling="global")),
            Pipeline(size=(64, 96), fuse=Fuse(layout="channels")),
        ),
    ],
)
def test_network_has_the_layers_of_the_model(recipe: Recipe, pipeline: Pipeline) -> None:
    shape = (2 if pipeline.fuse.layout == "channels" else 1, *pipeline.size)
    net = custom_cnn(shape, 2 if recipe.loss == "two_logits" else 1, recipe.cnn)
    with own_style():
        shown = texts(draw_network(recipe, pipeline).figure)
    values, kinds, shapes, weights = torch.zeros(1, *shape), list[str](), list[str](), 0
    for layer in net:
        values = layer(values)
        kinds.append(type(layer).__name__.removesuffix("2d"))
        size = "x".join(map(str, values.shape[1:]))
        shapes += [size] if size not in shapes[-1:] or isinstance(layer, nn.Conv2d | nn.Linear | nn.Flatten) else []
        weights += sum(parameter.numel() for parameter in layer.parameters())
    assert f"Custom CNN: {weights:,} parameters" in shown
    assert [text.split(" ")[0].removesuffix("2d") for text in shown if text[0].isupper() and "CNN" not in text] == kinds
    assert [text for text in shown if re.fullmatch(r"[\dx]+", text)] == ["x".join(map(str, shape)), *shapes]
    counts = [int(text.removesuffix(" par.").replace(",", "")) for text in shown if text.endswith(" par.")]
    assert sum(counts) == weights


def steps_of(project: Path, pipeline: str, dataset: str) -> PipelineSteps:
    """Steps on the first breast of a data set; that of the first one is in the figures."""
    index = index_of(project, dataset)
    breast = index.breasts[0]
    assert index.digests
    digests = digest_pair(index.digests[image.path] for image in breast.images)
    return trace_pipeline(*load_pipeline(pipeline, project), index.source.root, breast, digests, index.source.policy)


@pytest.mark.parametrize("pipeline", BUILT)
def test_steps_end_in_the_sample_of_the_shards(project: Path, pipeline: str) -> None:
    steps = steps_of(project, pipeline, "phantom-cmmd")
    shards = fvpipe.open_shards(project / "cache" / "shards" / pipeline / "phantom-cmmd")
    breast = index_of(project, "phantom-cmmd").breasts[0].key.breast_id
    stored = shards[shards.breast_ids.tolist().index(breast)]
    assert np.array_equal(steps.sample.image, np.rint(stored.image * 65535).astype(np.uint16))
    for view in steps.views:
        i = ("CC", "MLO").index(view.view.value)
        assert view.box.as_tuple() == tuple(stored.crop_box[i])
        assert (view.histogram is None) == (pipeline == "direct")
        if view.histogram:
            assert view.histogram.accepted
            assert view.histogram.threshold == view.segmentation.threshold
            assert view.histogram.counts[view.histogram.edge :].sum() > 100  # the breast
            assert view.histogram.counts[: view.histogram.edge].sum() > view.histogram.counts.sum() / 4  # the air


@pytest.mark.parametrize(
    ("second", "why"), [("same", "identical_views: "), ("constant", "its MLO is rejected: constant_view: ")]
)
def test_a_breast_that_shards_leave_out_is_not_drawn(second: str, why: str, tmp_path: Path) -> None:
    cc = factory.breast(1)
    mlo = cc if second == "same" else replace(cc, pixels=np.full_like(cc.pixels, 7))
    records, digests = [], []
    for view, made in ((View.CC, cc), (View.MLO, mlo)):
        factory.mammogram(tmp_path / f"{view}.dcm", made, view=view, SOPInstanceUID=f"2.25.{len(records) + 1}")
        header = read_header(tmp_path, f"{view}.dcm", HeaderPolicy())
        assert not isinstance(header, Rejection)
        records.append(header.record)
        digests.append(read_contents(tmp_path / f"{view}.dcm", "").digest)
    breast = Breast(BreastKey("set", "p", "", records[0].laterality), records[0], records[1])
    with pytest.raises(InputError, match=why):
        trace_pipeline(*load_pipeline("direct"), tmp_path, breast, digest_pair(digests), HeaderPolicy())


@pytest.mark.parametrize("pipeline", DRAWN)
def test_figure_of_a_pipeline_names_its_steps(project: Path, pipeline: str) -> None:
    steps, shown = steps_of(project, pipeline, SETS[0]), words(project, f"pipeline-{pipeline}")
    assert f"Pipeline {pipeline}" in shown
    assert "phantom-vindr, simulated data" in shown
    for view in steps.views:
        assert f"{view.shape[0]} x {view.shape[1]}, {view.bits} bits" in shown
        assert f"{view.box.height} x {view.box.width}" in [text.removesuffix(", mirrored") for text in shown]
        if view.histogram:
            assert f"{view.histogram.method}: {view.segmentation.threshold:.5g}" in shown
    titles = [text for text in shown if re.match(r"\d  ", text)]
    wanted = ["Decode", "Normalize", "Fuse"] if pipeline == "direct" else ["Decode", "Threshold", "Segment", "Crop", "Fuse"]
    assert titles == [f"{i}  {title}" for i, title in enumerate(wanted, 1)]


def test_protocols_count_patients_and_breasts(project: Path) -> None:
    labels = {(name, row["breast_id"]): row["label"] for name in SETS for row in rows(project, f"{name}/breasts.csv")}
    expected = []
    for name in ("seen", "cross", "folds-fold0", "folds-fold1"):
        table = rows(project, f"splits/{name}.csv")
        for dataset, part in itertools.product(SETS, ("train", "validation", "test")):
            found = [row for row in table if (row["dataset"], row["part"]) == (dataset, part)]
            malignant = sum(labels[dataset, row["breast_id"]] == "1" for row in found)
            patients = len({row["patient_id"] for row in found})
            if found:
                counted = f"{patients} patient{'s' * (patients != 1)}, {len(found)} breast{'s' * (len(found) != 1)}"
                expected += [counted, f"{len(found) - malignant} benign, {malignant} malignant"]
        train, test = ({row["patient_id"] for row in table if row["part"] == part} for part in ("train", "test"))
        assert bool(train & test) == (name == "seen")
    shown = words(project, "protocols")
    assert [text for text in shown if re.search(r"\d (patients?,|benign)", text)] == expected
    assert [text.partition(" ")[0] for text in shown if text.endswith("in both train and test")][1:] == ["no", "no", "no"]


# --- files ------------------------------------------------------------------------------------------------------------


def test_figures_have_the_same_bytes_whatever_the_users_settings(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    users: dict[Any, Any] = {"font.size": 20.0, "svg.hashsalt": None, "image.cmap": "viridis", "savefig.bbox": "tight"}
    for name, value in users.items():
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    run("figures", "--pipeline", "mlo", "--out", tmp_path)
    first = project / "cache" / "reports" / "figures"
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in first.iterdir()}
    assert [path.name for path in first.iterdir() if path.read_bytes() != (tmp_path / path.name).read_bytes()] == []
    assert matplotlib.rcParams["font.size"] == 20.0


def test_nothing_of_a_patients_identity_is_in_a_figure(project: Path) -> None:
    names = set[str]()
    for name in SETS:
        for row in rows(project, f"{name}/images.csv"):
            names |= {row["patient_id"], row["breast_id"], row["sop_instance_uid"], row["path"], Path(row["path"]).stem}
    names = {name for name in names if len(name) > 4}  # a file 1-1.dcm is not a name
    assert len(names) > 50
    for path in (project / "cache" / "reports" / "figures").iterdir():
        assert [name for name in names if name.encode() in path.read_bytes()] == [], path.name


def test_report_shows_the_figures(project: Path, own: Path) -> None:
    with contextlib.chdir(own):
        run("report")
    page = (own / "cache" / "reports" / "report.html").read_text()
    drawn = own / "cache" / "reports" / "figures"
    for figure in json.loads((drawn / "figures.json").read_text()):
        svg = base64.b64encode((drawn / f"{figure['name']}.svg").read_bytes()).decode()
        assert f'<img src="data:image/svg+xml;base64,{svg}"' in page
    assert page.count("data:image/svg+xml") == 6
    for damaged in ('[{"name": "../../x", "caption": ""}]', "5", "null", "{}", "[" * 100_000):
        (drawn / "figures.json").write_text(damaged)
        with pytest.raises(FvpipeError, match="run `fvpipe figures` again"):
            write_page(own / "cache" / "shards", own / "page.html", 1, drawn)
    shutil.rmtree(drawn)
    write_page(own / "cache" / "shards", own / "page.html", 1, drawn)
    assert "figures" not in (own / "page.html").read_text()


def test_documentation_shows_every_figure() -> None:
    page, drawn = (ROOT / "docs" / "figures.md").read_text(), sorted((ROOT / "docs" / "figures").iterdir())
    assert sorted(re.findall(r"\]\(figures/(.*?)\)", page)) == [path.name for path in drawn]
    assert [path.name for path in drawn if path.stat().st_size > 150_000] == []


# --- what is missing --------------------------------------------------------------------------------------------------


def test_missing_shards_and_manifests_are_left_out_with_a_message(own: Path) -> None:
    figures, said = draw(own)
    assert set(figures) == {"workflow", "cnn", "pipeline-direct", "pipeline-each", "protocols"}
    assert "direct/phantom-vindr: not counted" in said[0]
    assert "direct: not built" in texts(figures["workflow"].figure)
    shutil.rmtree(own / "manifests" / "phantom-vindr")
    figures, said = draw(own)
    assert any("phantom-vindr: left out" in line and "fvpipe index --dataset phantom-vindr" in line for line in said)
    assert any("split 'seen': left out" in line for line in said)
    assert "phantom-vindr" not in texts(figures["workflow"].figure)
    assert [text for text in texts(figures["protocols"].figure) if "fold" in text] == [
        "Cross-validation by patient: folds-fold0",
        "Cross-validation by patient: folds-fold1",
    ]
    assert "phantom-cmmd, simulated data" in texts(figures["pipeline-direct"].figure)


def test_missing_and_stale_splits_are_left_out_with_a_message(own: Path) -> None:
    shutil.rmtree(own / "data")  # no pipeline needs to be drawn
    (own / "manifests" / "splits" / "seen.csv").unlink()
    stale = own / "manifests" / "splits" / "cross.csv"
    stale.write_text(stale.read_text() + "phantom-cmmd,gone_L,gone,test\n")
    figures, said = draw(own)
    assert any("split 'seen': left out" in line and "fvpipe split seen" in line for line in said)
    assert any("split 'cross'" in line and "left out" in line and "gone" not in line for line in said)
    assert not [text for text in texts(figures["protocols"].figure) if "Setting" in text]
    shutil.rmtree(own / "manifests" / "splits")
    assert "protocols" not in draw(own)[0]


def test_images_that_are_missing_or_changed_are_left_out_with_a_message(own: Path) -> None:
    link, paths = own / "data" / "phantom-vindr", [image.path for image in index_of(own, "phantom-vindr").breasts[0].images]
    data = Path(shutil.copytree(link, own / "copy"))
    link.unlink()
    link.symlink_to(data)
    (data / paths[1]).write_bytes((data / paths[0]).read_bytes())
    figures, said = draw(own)
    assert not [name for name in figures if name.startswith("pipeline")]
    assert any("its MLO is not there, or not the file that the manifest lists" in line for line in said)
    (data / paths[0]).unlink()
    assert any("its CC is not there" in line for line in draw(own)[1])
    assert not any(path in line for path in paths for line in said)
    for name in ("phantom-vindr", "phantom-cmmd"):
        (own / "data" / name).unlink()
    figures, said = draw(own)
    assert set(figures) == {"workflow", "cnn", "protocols"}
    assert any(line.startswith("pipelines: left out") for line in said)


def test_a_breast_that_may_not_be_published_is_drawn_only_where_it_is_asked_for(own: Path) -> None:
    (own / "params.yaml").write_text("datasets:\n  phantom-vindr: {adapter: vindr}\n")
    (own / "manifests" / "phantom-vindr" / ".gitignore").write_text("*\n")
    assert not [name for name in draw(own)[0] if name.startswith("pipeline")]
    figures, _ = draw(own, "phantom-vindr")
    assert "a breast of phantom-vindr" in texts(figures["pipeline-direct"].figure)
    assert not [text for drawing in figures.values() for text in texts(drawing.figure) if "simulated" in text]


def without(monkeypatch: pytest.MonkeyPatch, package: str, *users: str) -> None:
    """Make a package impossible to import, and forget the modules that have imported it."""
    for name in [*sys.modules]:
        if name.startswith(users):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_without_torch_the_network_is_left_out(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "torch", "fvpipe.figures.network", "fvpipe.training")
    figures, said = draw(project)
    assert "cnn" not in figures
    assert len(figures) == 4
    assert any("cnn: left out" in line and "pip install 'fvpipe[train]'" in line for line in said)


def test_without_matplotlib_the_extra_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    without(monkeypatch, "matplotlib", "fvpipe.figures")
    assert "pip install 'fvpipe[figures]'" in run("figures", code=1).output


# --- legible ----------------------------------------------------------------------------------------------------------


def crowded(project: Path) -> Iterator[Drawing]:
    """Figures with the largest counts and the longest names that there may be."""
    name, index = "a-data-set-with-a-name-of-64-characters-which-is-the-longest-one", index_of(project, "phantom-vindr")
    large = replace(
        index, source=replace(index.source, name=name), breasts=[*index.breasts] * 1000, images=[*index.images] * 1000
    )
    params = Project(project).params
    receipt = read_receipt(project / "cache" / "shards" / "direct" / "phantom-cmmd")
    receipts = {(f"{pipeline}-with-a-long-name", name): replace(receipt, samples=123456) for pipeline in DRAWN}
    yield draw_workflow(params, [large, index], receipts)
    facts = [Facts(str(i), i % 2) for i in range(12345)]
    parts = {(dataset, part): facts for dataset in (name, "phantom-cmmd") for part in Part}
    splits = [
        SplitCounts(f"{name[:40]}-fold{i}", setting, parts) for i, setting in enumerate(("seen", "cross", "kfold", "official"))
    ]
    yield draw_protocols(splits, {name: True, "phantom-cmmd": False})
    yield draw_differences([
        Answer(question, answer, value, value - 0.05, value + 0.05, neutral, "observer, a", simulated)
        for question in ("Is adaptive better than cropped?", "Is it at chance with shuffled labels (a-pipeline-of-a-name)?")
        for answer, simulated in (("yes", True), ("undecided", False))
        for neutral, value in ((0.5, 0.93), (0.0, -0.2))
    ])  # fmt: skip
    yield draw_network(Recipe(cnn=Cnn(batch_norm=True, dropout=0.5, pooling="global")), Pipeline(size=(2048, 1024)))


def test_texts_are_large_enough_on_the_page_and_apart(project: Path) -> None:
    with own_style():
        from fvpipe.figures.pipelines import draw_pipeline

        steps = [draw_pipeline(steps_of(project, pipeline, SETS[1]), SETS[1], True) for pipeline in DRAWN]
        for drawing in (*draw(project)[0].values(), *steps, *crowded(project)):
            drawing.figure.draw_without_rendering()
            shown = [text for text in drawing.figure.findobj(Text) if isinstance(text, Text) and text.get_text()]
            assert len(shown) > 10
            extents = [(text.get_text(), text.get_window_extent()) for text in shown if text.get_visible()]
            page = drawing.figure.bbox
            assert [text.get_text() for text in shown if float(text.get_fontsize()) < 6] == []
            outside = [text for text, e in extents if e.x0 < 0 or e.y0 < 0 or e.x1 > page.x1 or e.y1 > page.y1]
            assert outside == [], drawing.name
            crossing = [(a, b) for (a, one), (b, two) in itertools.combinations(extents, 2) if one.overlaps(two)]
            assert crossing == [], drawing.name
