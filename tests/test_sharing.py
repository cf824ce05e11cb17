"""What `dvc push` would take along, against the licenses of the data sets."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from fvpipe.datasets import Adapter, HeaderPolicy, LabelTable
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import ParameterError
from fvpipe.project.project import Project
from fvpipe.project.sharing import keep_cache_out_of_git

ROOT = Path(__file__).parents[1]


def project(folder: Path, datasets: str, dag: str, more: str = "") -> Project:
    (folder / "params.yaml").write_text(f"datasets:\n{datasets}\n{more}")
    (folder / "dvc.yaml").write_text(dag)
    return Project(folder)


def dag(**flags: object) -> str:
    """The DAG of this repository with other flags of its shards and models."""
    found = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    for stage, place in (("shards", "cache/shards"), ("train", "cache/models")):
        outs = found["stages"][stage]["outs"]
        assert all(str(path).startswith(place) for out in outs for path in out)
        if stage in flags:
            found["stages"][stage]["outs"] = [{path: flags[stage]} if flags[stage] else path for out in outs for path in out]
    return yaml.safe_dump(found)


def test_shards_and_models_stay_by_default(tmp_path: Path) -> None:
    """Any data set can be added: DVC pushes none of it."""
    for name in ("vindr", "embed", "table", "rsna"):
        assert project(tmp_path, f"  own: {{adapter: {name}}}", (ROOT / "dvc.yaml").read_text())


@pytest.mark.parametrize("flags", [{}, {"push": True}, {"persist": True}])
@pytest.mark.parametrize(
    ("stage", "adapter", "shared"),
    [
        ("shards", "cbis", True), ("shards", "cmmd", True), ("shards", "vindr", False), ("shards", "table", False),
        ("train", "cmmd", True), ("train", "embed", False),
        ("train", "vindr", False),  # its models may be released; `predictions.csv` beside them has a row for each breast
    ],
)  # fmt: skip
def test_what_a_license_forbids_is_not_pushed(
    flags: dict[str, bool], stage: str, adapter: str, shared: bool, tmp_path: Path
) -> None:
    datasets, pushed = f"  own: {{adapter: {adapter}}}\n  free: {{adapter: cbis}}", dag(**{stage: flags})
    if shared:
        assert project(tmp_path, datasets, pushed)
        return
    place = "cache/shards" if stage == "shards" else "cache/models"
    message = rf"`dvc push` takes {place} along, and the license of data set 'own' forbids it .*accept_license: \[own\]"
    with pytest.raises(ParameterError, match=message):
        project(tmp_path, datasets, pushed)
    assert project(tmp_path, datasets, pushed, "accept_license: [own]\n")
    assert project(tmp_path, datasets.replace("}\n", ", made: true}\n"), pushed)  # simulated
    with pytest.raises(ParameterError, match=r"no data set 'owm' \(did you mean 'own'\?\)"):
        project(tmp_path, datasets, pushed, "accept_license: [owm]\n")


@pytest.mark.parametrize(
    ("stage", "place"),
    [
        ("outs: [cache/shards]", "cache/shards"),
        ("outs: [cache]", "cache/shards"),
        ("outs: [./cache/shards/x]", "cache/shards"),
        ("outs: [cache/../cache/models/x: {persist: true}]", "cache/models"),
        ("outs: ['${place}/x']", "cache/shards"),
        ("outs: ['cache/sha${rest}']", "cache/shards"),
        ("outs: ['cache/models/${item}']", "cache/models"),
        ("plots: [cache/reports/p.json: {x: a}]", "cache/reports"),
        ("{wdir: cache, outs: [samples/x]}", "cache/samples"),
        ("{wdir: cache/shards/x, outs: [../../models]}", "cache/models"),
        ("{foreach: [a], do: {outs: [cache/models/x]}}", "cache/models"),
        ("outs: [linked/x]", "cache/shards"),
        ("outs: [data]", "data/own"),
        ("outs: ['data/${item}']", "data/own"),
        ("outs: [data/own/images: {persist: true}]", "data/own"),
        ("outs: [cache/exports/mammoclean/own.csv]", "cache/exports"),
        ("outs: [cache/checkpoints]", "cache/checkpoints"),
        ("outs: ['manifests/${item}']", "manifests/splits"),
        ("outs: [manifests/own]", "manifests/own"),
        ("outs: ['manifests/${item}': {cache: false}, 'data/${item}': {cache: false}]", ""),
        ("outs: [cache: {push: false}]", ""),
        ("metrics: [cache/reports/m.json]", ""),
        ("outs: [cache/shards-of-others, cache/split, data/other, 'data/x-${key}', 'cache/${x}': {cache: false}]", ""),
        ("{wdir: data, outs: [cache/shards]}", ""),
    ],
)
def test_an_output_is_told_by_where_it_lies(stage: str, place: str, tmp_path: Path) -> None:
    (tmp_path / "cache" / "shards").mkdir(parents=True)
    (tmp_path / "linked").symlink_to("cache/shards")
    stage = stage if stage.startswith("{") else f"{{{stage}}}"
    if not place:
        assert project(tmp_path, "  own: {adapter: embed}", f"stages: {{a: {stage}}}")
        return
    with pytest.raises(ParameterError, match=f"`dvc push` takes {place} along"):
        project(tmp_path, "  own: {adapter: embed}", f"stages: {{a: {stage}}}")


@pytest.mark.parametrize(
    "text", ["", "stages: []", "stages: {a: {outs: 3}}", "stages: {a: 1}", "a: [", "stages: {a: {outs: [3]}}"]
)
def test_a_dag_that_dvc_could_not_read_is_its_matter(text: str, tmp_path: Path) -> None:
    assert project(tmp_path, "  own: {adapter: vindr}", text)


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("data/own.dvc", "outs: [{md5: 0.dir, path: own}]", "data/own"),
        ("data.dvc", "outs: [{path: data}]", "data/own"),
        ("cache/shards.dvc", "outs: [{path: shards}]", "cache/shards"),
        ("store/raw.dvc", "{wdir: .., outs: [{path: store/raw}]}", "store/raw"),
        ("tables/own.csv.dvc", "outs: [{path: own.csv}]", "tables/own.csv"),
        ("data/own/images.dvc", "outs: [{path: images}]", "data/own"),
        ("cache/shards/cropped/own.dvc", "outs: [{path: own}]", "cache/shards"),
        ("cache/models/cropped/s/cnn-seed0/predictions.csv.dvc", "outs: [{path: predictions.csv}]", "cache/models"),
        ("store/x.dvc", "{wdir: .., outs: [{path: cache/shards}]}", "cache/shards"),
        ("steps/dvc.yaml", "stages: {a: {outs: [../cache/shards/x]}}", "cache/shards"),
        ("data/own.dvc", "outs: [{path: own, push: false}]", ""),
        ("data/own.dvc", "{deps: [{path: x, repo: {url: y}}], outs: [{path: own}]}", ""),  # `dvc import`: DVC pushes it nowhere
        ("data/other.dvc", "outs: [{path: other}]", ""),
        ("data/own.dvc", "a: [", ""),
    ],
)
def test_what_was_added_is_pushed_too(file: str, text: str, place: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    more = {"store/raw": ", dicom: store/raw", "tables/own.csv": ", label_file: tables/own.csv"}.get(place, "")
    datasets = f"  own: {{adapter: vindr{more}}}"
    if not place:
        assert project(tmp_path, datasets, "stages: {}")
        return
    with pytest.raises(ParameterError, match=rf"{file}: `dvc push` takes {place} along"):
        project(tmp_path, datasets, "stages: {}")
    assert project(tmp_path, datasets, "stages: {}", "accept_license: [own]\n")


@pytest.mark.parametrize(
    ("file", "text"), [("dvc.yaml", "stages: {a: {outs: [sub/cache/shards/x]}}"), ("sub.dvc", "outs: [{path: sub}]")]
)
def test_a_project_within_a_dvc_repository(file: str, text: str, tmp_path: Path) -> None:
    """`dvc push` takes all that the repository knows, in whichever of its folders it is called."""
    (tmp_path / "sub").mkdir()
    (tmp_path / file).write_text(text)
    assert project(tmp_path / "sub", "  own: {adapter: embed}", "stages: {}")
    (tmp_path / ".dvc").mkdir()
    with pytest.raises(ParameterError, match=f"{file}: `dvc push` takes cache/shards along"):
        project(tmp_path / "sub", "  own: {adapter: embed}", "stages: {}")


@pytest.mark.parametrize(
    ("file", "said", "stopped"),
    [
        ("cache/shards/p/gone/index.json", {"dataset": "gone", "license": "EMBED's", "made": False}, True),
        ("cache/models/p/s/cnn-seed0/record.json", {"licenses": {"own": "x", "gone": "EMBED's"}, "made": False}, True),
        ("cache/models/p/s/cnn-seed0/record.json", {"licenses": {"x (initial weights)": "EMBED's"}, "made": True}, True),
        ("cache/models/p/s/cnn-seed0/record.json", {"licenses": {"own (initial weights)": "x"}, "made": True}, False),
        ("cache/shards/p/gone/index.json", {"dataset": "gone", "license": get_adapter("cmmd").license, "made": False}, False),
        ("cache/shards/p/gone/index.json", {"dataset": "gone", "license": "EMBED's", "made": True}, False),
        ("cache/shards/p/gone/index.json", ["no receipt"], False),
    ],
)
def test_what_is_left_of_a_data_set_that_went(file: str, said: object, stopped: bool, tmp_path: Path) -> None:
    """``cache/models`` persists: models of a data set that params.yaml names no more were pushed."""
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(json.dumps(said))
    everything = "stages: {a: {outs: [cache]}}"
    for nothing in ("outs: [cache: {push: false}]", "outs: ['cache/shards/p/${item}']"):
        assert project(tmp_path, "  own: {adapter: cmmd}", f"stages: {{a: {{{nothing}}}}}")
    if not stopped:
        assert project(tmp_path, "  own: {adapter: cmmd}", everything)
        return
    with pytest.raises(ParameterError, match=rf"takes {Path(file).parent} along, which holds data set .*\(EMBED's\)"):
        project(tmp_path, "  own: {adapter: cmmd}", everything)


def test_git_takes_nothing_of_the_cache(tmp_path: Path) -> None:
    """In a project of one's own: `git add -A` took the shards of EMBED."""
    keep_cache_out_of_git(tmp_path)
    file = tmp_path / "cache" / ".gitignore"
    assert "*" in file.read_text().splitlines()
    file.write_text("!/reports/\n")  # the user's own
    keep_cache_out_of_git(tmp_path)
    assert file.read_text() == "!/reports/\n"
    (tmp_path / "file").touch()
    keep_cache_out_of_git(tmp_path / "file")  # nothing can be written there


def test_an_adapter_that_does_not_say_so_lets_no_shards_be_shared() -> None:
    def read_labels(*_: object) -> LabelTable:
        return LabelTable({})

    own = Adapter("own", "ours", HeaderPolicy(), hashed=True, publishable=False, read_labels=read_labels)
    assert not own.redistribute_shards


def test_a_declaration_of_ones_own_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("name: own\nlicense: ours alone\n")
    with pytest.raises(ParameterError, match="ours alone"):
        project(tmp_path, "  own: {adapter: own.yaml}", "stages: {a: {outs: [cache/shards/x]}}")
