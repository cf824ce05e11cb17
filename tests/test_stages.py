"""The stages of a project: the manifest is all that a build needs of an index, and a build meets no other bytes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fvpipe
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.flow import index
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests import read_manifests, write_manifests
from fvpipe.indexing.pairing import rejection_order
from fvpipe.project.project import Project
from fvpipe.project.stages import open_file_cache
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Breast, BreastFacts, BreastKey, Digest, Edge, Finding, ImageRecord, Laterality, View
from tests.conftest import run
from tests.support import factory

LABELS = "patient_id,laterality,label\np1,L,malignant\np2,L,benign\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two patients and a file that is not DICOM, indexed once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for the stages")
    for i, patient in enumerate(("p1", "p2")):
        factory.patient(tmp_path / "data" / "own", patient, sides="L", seed=i)
    (tmp_path / "data" / "own" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM, but no more of it")
    (tmp_path / "data" / "own" / "LICENSE").write_text("no DICOM file, and named nowhere")
    (tmp_path / "labels.csv").write_text(LABELS)
    (tmp_path / "params.yaml").write_text("datasets:\n  own: {adapter: table, label_file: labels.csv}\n")
    assert indexed()["read"] == 6
    return tmp_path


def indexed(*options: object) -> dict[str, Any]:
    (found,) = json.loads(run("index", "--workers", 0, "--json", *options).stdout)
    return dict(found)


def built(*options: object) -> dict[str, Any]:
    (found,) = json.loads(run("build-shards", "--pipeline", "direct", "--workers", 0, "--json", *options).stdout)
    return dict(found)


def refused(*options: object) -> str:
    return run("build-shards", "--pipeline", "direct", "--workers", 0, *options, code=1).output


def tables(project: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (project / "manifests" / "own").iterdir()}


def films(project: Path) -> list[Path]:
    return sorted(file for file in (project / "data" / "own").rglob("*.dcm") if file.name != "broken.dcm")


def test_a_build_reads_the_manifest_and_does_not_write_it(project: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (project / "manifests" / "own").iterdir()}
    assert built()["samples"] == 2
    assert {file: file.stat().st_mtime_ns for file in (project / "manifests" / "own").iterdir()} == before
    shutil.rmtree(project / "manifests")
    done = run("build-shards", "--pipeline", "direct", "--workers", 0)
    assert "no manifest; indexed without writing one" in done.stderr
    assert not (project / "manifests").exists()


def test_the_manifest_tells_a_build_all_that_the_index_does(project: Path) -> None:
    built()
    shards = project / "cache" / "shards" / "direct" / "own"
    from_manifest = {file.name: file.read_bytes() for file in shards.iterdir()}
    shutil.rmtree(shards)
    shutil.rmtree(project / "manifests")
    built()
    assert {file.name: file.read_bytes() for file in shards.iterdir()} == from_manifest


def test_every_change_since_the_manifest_ends_the_build(project: Path) -> None:
    built()
    film, data = films(project)[0], films(project)[0].read_bytes()
    other = bytearray(data)
    other[-1] ^= 1
    for change, back, what in (
        (lambda: film.write_bytes(other), lambda: film.write_bytes(data), "not what the index read"),
        (film.unlink, lambda: film.write_bytes(data), "removed since"),
        (lambda: film.rename(film.with_name("x.dcm")), lambda: film.with_name("x.dcm").rename(film), "added since"),
        (lambda: film.with_name("new.dcm").write_bytes(data), film.with_name("new.dcm").unlink, "added since"),
    ):
        change()
        said = refused()
        assert what in said
        assert "fvpipe index" in said
        back()
        assert built()["computed"] == 0  # written again, or touched: the bytes are compared, and nothing is decoded


def test_a_build_that_meets_other_bytes_stops(project: Path) -> None:
    """Nothing is in the sample store: the worker sees it when it reads the file."""
    film = films(project)[0]
    other = bytearray(film.read_bytes())
    other[-1] ^= 1
    film.write_bytes(other)
    assert "not what the index read" in refused()
    assert not (project / "cache" / "shards" / "direct" / "own" / "index.json").exists()
    indexed()
    assert built()["samples"] == 2


def test_a_manifest_without_dicom_files(project: Path) -> None:
    """Of use to whoever has the samples or the shards and nothing else."""
    built()
    before = tables(project)
    shutil.move(project / "data" / "own", project / "elsewhere")
    done = run("index", "--workers", 0)
    assert "is kept as it is" in done.stderr
    assert tables(project) == before
    assert built()["computed"] == 0
    run("table1")
    shutil.rmtree(project / "cache" / "samples")
    shutil.rmtree(project / "cache" / "shards")
    assert "not there any more" in refused()
    (project / "manifests" / "own" / "images.csv").unlink()
    assert "no such folder" in run("index", "--workers", 0, code=1).output


def test_the_same_data_elsewhere_and_with_other_times(project: Path) -> None:
    """The manifest is the same, and what the sample store holds is not decoded again."""
    built()
    before = tables(project)
    shutil.copytree(project / "data" / "own", project / "moved")
    for file in (project / "moved").rglob("*"):
        os.utime(file, ns=(5, 5))
    shutil.rmtree(project / "data" / "own")
    (project / "data" / "own").symlink_to(project / "moved")
    for memory in (project / "cache" / "samples").glob("*.sqlite"):
        memory.unlink()
    assert indexed()["read"] == 6
    assert tables(project) == before
    assert built()["computed"] == 0


@pytest.mark.parametrize("name", ["images.csv", "breasts.csv", "rejected.csv"])
@pytest.mark.parametrize("damage", ["gone", "column", "cell", "row"])
def test_an_edited_manifest_is_named(project: Path, name: str, damage: str) -> None:
    file = project / "manifests" / "own" / name
    lines = file.read_text().splitlines()
    match damage:
        case "gone":
            file.unlink()
        case "column":
            file.write_text("\n".join([lines[0].replace("laterality", "side").replace("reason", "why"), *lines[1:]]) + "\n")
        case "cell":
            file.write_text(
                "\n".join(
                    [lines[0], *(line.replace(",L,", ",X,").replace("_unsupported", "_unheard_of") for line in lines[1:])]
                )
                + "\n"
            )
        case "row":
            file.write_text("\n".join([*lines, lines[1] + ",1"]) + "\n")
    if (name, damage) == ("images.csv", "gone"):
        return  # no manifest at all: the test above
    said = refused()
    assert "is no manifest that this fvpipe can read" in said
    assert "fvpipe index --dataset own" in said


# --- round trip -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8)
RECORDS = st.builds(
    ImageRecord,
    **{field.name: TEXT for field in fields(ImageRecord) if field.type == "str" and field.name != "path"},
    path=st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), min_size=1, max_size=8),
    row_spacing=st.none() | st.floats(1e-3, 10),
    column_spacing=st.none() | st.floats(1e-3, 10),
    chest_wall=st.none() | st.sampled_from(Edge),
)
FACTS = st.builds(
    BreastFacts,
    label=st.sampled_from((-1, 0, 1)),
    bi_rads=st.none() | st.integers(0, 6),
    **dict.fromkeys(("density", "age", "pathology", "subset"), TEXT),
    excluded=st.just(""),
)
FINDINGS = st.builds(
    Finding,
    category=TEXT,
    bi_rads=st.none() | st.integers(0, 6),
    **{side: st.floats(0, 5000) for side in ("top", "bottom", "left", "right")},
)
REJECTIONS = st.builds(Rejection, TEXT.filter(bool), st.sampled_from(Reason), TEXT)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(RECORDS, min_size=4, max_size=8, unique_by=lambda record: record.path),
    FACTS,
    st.tuples(st.lists(FINDINGS, max_size=2).map(tuple), st.lists(FINDINGS, max_size=2).map(tuple)),
    st.lists(REJECTIONS, max_size=4, unique_by=lambda rejection: rejection.what),
    TEXT,
)
def test_manifest_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[ImageRecord],
    facts: BreastFacts,
    findings: tuple[tuple[Finding, ...], tuple[Finding, ...]],
    rejections: list[Rejection],
    excluded: str,
) -> None:
    folder = tmp_path_factory.mktemp("manifest")
    (folder / "params.yaml").write_text("datasets: {own: {adapter: cmmd}}\n")
    source = Project(folder).source("own")
    cc, mlo = replace(records[0], view=View.CC), replace(records[1], view=View.MLO)
    images = sorted([cc, mlo, *records[2:]], key=lambda record: record.path)
    breast = Breast(BreastKey("own", "p", "", Laterality.LEFT), cc, mlo, facts, findings)
    of_images = {image.path: BreastFacts(facts.label, excluded=excluded) for image in images}
    digests = {image.path: Digest(f"{i:064x}") for i, image in enumerate(images)}
    whole = Index(
        source, {}, images, of_images, [breast], sorted(rejections, key=rejection_order), digests, has_findings=any(findings)
    )
    write_manifests(whole, folder / "m")
    read = read_manifests(source, folder / "m", {})
    for field in fields(Index):
        assert getattr(read, field.name) == getattr(whole, field.name), field.name


def test_a_path_that_is_no_text(project: Path) -> None:
    """A file name of bytes that are no UTF-8 goes through the manifest as it is."""
    film = films(project)[0]
    odd = os.fsencode(film.with_name("caf")) + b"\xe9 \xff.dcm"
    os.rename(film, odd)  # noqa: PTH104 - a name of bytes
    indexed()
    assert built()["samples"] == 2


# --- without a project ------------------------------------------------------------------------------------------------


def test_python_without_the_command_line(project: Path, tmp_path: Path) -> None:
    folder = project / "data" / "own"
    found = fvpipe.index(folder, labels=project / "labels.csv", workers=0)
    assert [breast.facts.label for breast in found.breasts].count(1) == 1
    build = fvpipe.build_shards(folder, tmp_path / "out", "direct", labels=project / "labels.csv", workers=0)
    assert (build.receipt.samples, build.samples.computed) == (2, 2)
    assert fvpipe.verify(tmp_path / "out") == []
    again = fvpipe.build_shards(folder, tmp_path / "out", "direct", labels=project / "labels.csv", workers=0)
    assert (again.samples.computed, again.written) == (0, 0)
    with pytest.raises(fvpipe.FvpipeError, match="no adapter 'nothing'"):
        fvpipe.index(folder, "nothing", workers=0)
    source = Project().source("own")
    with Workers(WorkerSettings(0)) as workers, open_file_cache(source, tmp_path / "s") as file_cache:
        assert index(source, workers, file_cache, digest=True).digests.keys() == {image.path for image in found.images}
