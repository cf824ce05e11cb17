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
from pydicom.uid import JPEGLSLossless

import fvpipe
from fvpipe import flow
from fvpipe.cache.sample_store import SampleStore, ViewRejection
from fvpipe.datasets.registry import declaration_files
from fvpipe.errors import ReceiptError
from fvpipe.execution.workers import Workers, WorkerSettings
from fvpipe.flow import index
from fvpipe.indexing.index import Index
from fvpipe.indexing.manifests.read import read_manifests
from fvpipe.indexing.manifests.tables import write_manifests
from fvpipe.indexing.pairing import rejection_order
from fvpipe.project.project import Project
from fvpipe.project.sharing import keep_splits_in_git
from fvpipe.project.stages import open_file_cache
from fvpipe.reasons import Reason, Rejection
from fvpipe.types import Breast, BreastFacts, BreastKey, Digest, Edge, Finding, ImageRecord, Laterality, View
from fvpipe.versions import PREPROCESSING_VERSION
from tests.conftest import run
from tests.support import factory

KEY = "a key for the stages"
LABELS = "patient_id,laterality,label\np1,L,malignant\np2,L,benign\n"


def test_a_file_has_the_path_by_which_the_index_lists_it(tmp_path: Path) -> None:
    """Below a link to a folder of the same data set it was one that is passed over, and without a row in the table."""
    (tmp_path / "params.yaml").write_text("datasets: {own: {adapter: rsna}, more: {adapter: vindr}}\n")
    for folder in ("data/own/7", "data/more", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    for link, target in (("data/own/alias", "7"), ("data/own/disk", "../../elsewhere"), ("data/own/1.dcm", "7/1.dcm")):
        (tmp_path / link).symlink_to(target)
    for path, held in (
        ("data/own/7/1.dcm", ("own", "7/1.dcm")),
        ("data/own/alias/1.dcm", ("own", "7/1.dcm")),
        ("data/own/disk/1.dcm", ("own", "disk/1.dcm")),
        ("data/own/1.dcm", ("own", "1.dcm")),
        ("data/own/../more/1.dcm", ("more", "1.dcm")),
        ("data/own/../1.dcm", None),
    ):
        assert Project(tmp_path).holder(tmp_path / path) == held


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two patients and a file that is not DICOM, indexed once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVPIPE_ID_KEY", KEY)
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


def test_an_index_hides_splits_of_rows_that_may_not_be_published_any_more(project: Path) -> None:
    """As a declaration says by now: the tables of `split` stay the same, so that `dvc repro` does not run it again."""
    params, ignored = project / "params.yaml", project / "manifests" / "splits" / ".gitignore"
    settings = "datasets:\n  own: {adapter: own.yaml}\nsplits: {all: {setting: unseen, datasets: [own]}}\n"
    declared = "name: own\nlicense: ours\npublishable: true\nredistribute_shards: true\n"
    params.write_text(settings)
    (project / "own.yaml").write_text(declared)
    indexed()
    assert not ignored.exists()  # it is an output of `split`
    keep_splits_in_git(project, Project().params)
    assert "!/all.csv" in ignored.read_text()
    (project / "own.yaml").write_text(declared.replace("publishable: true", "publishable: false"))
    indexed()
    assert "!/all.csv" not in ignored.read_text()


def test_a_report_names_shards_that_are_older_than_the_manifest_or_fvpipe(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = films(project)[0]

    def other_pixels() -> None:
        film.write_bytes(film.read_bytes()[:-2] + b"\1\1")

    built()
    assert "warning" not in run("report").stderr
    for change in (
        lambda: (project / "labels.csv").write_text(LABELS.replace("benign", "malignant")),
        other_pixels,
        lambda: factory.patient(project / "data" / "own", "p3", sides="L", seed=3),
    ):
        change()
        indexed()
        said = "cache/shards/direct/own: was built before manifests/own changed; run `fvpipe build-shards`"
        assert said in " ".join(run("report").stderr.split())
        built()
        assert "warning" not in run("report").stderr
    monkeypatch.setattr("fvpipe.evaluation.outdated.PREPROCESSING_VERSION", 99)
    assert f"was built by preprocessing version {PREPROCESSING_VERSION}; this fvpipe makes" in run("report").stderr


def test_the_manifest_tells_a_build_all_that_the_index_does(project: Path) -> None:
    built()
    shards = project / "cache" / "shards" / "direct" / "own"
    from_manifest = {file.name: file.read_bytes() for file in shards.iterdir()}
    shutil.rmtree(shards)
    shutil.rmtree(project / "manifests")
    built()
    assert {file.name: file.read_bytes() for file in shards.iterdir()} == from_manifest


STALE = "is not what"


def test_every_change_since_the_manifest_ends_the_build(project: Path) -> None:
    built()
    film, data = films(project)[0], films(project)[0].read_bytes()
    other = bytearray(data)
    other[-1] ^= 1
    broken, labels, params = project / "data" / "own" / "broken.dcm", project / "labels.csv", project / "params.yaml"
    junk, rules = broken.read_bytes(), params.read_text()
    for change, back, table in (
        (lambda: film.write_bytes(other), lambda: film.write_bytes(data), "images.csv"),
        (film.unlink, lambda: film.write_bytes(data), "images.csv"),
        (lambda: film.rename(film.with_name("x.dcm")), lambda: film.with_name("x.dcm").rename(film), "images.csv"),
        (lambda: film.with_name("new.dcm").write_bytes(data), film.with_name("new.dcm").unlink, "images.csv"),
        (lambda: film.with_name("new").write_bytes(data), film.with_name("new").unlink, "images.csv"),
        (lambda: broken.write_bytes(data), lambda: broken.write_bytes(junk), "images.csv"),
        (broken.unlink, lambda: broken.write_bytes(junk), "rejected.csv"),
        (lambda: labels.write_text(LABELS.replace("benign", "1")), lambda: labels.write_text(LABELS), "images.csv"),
        (lambda: params.write_text(rules.replace("}", ", identifiers: own}")), lambda: params.write_text(rules), "images.csv"),
        (lambda: os.environ.update(FVPIPE_ID_KEY="another " + KEY), lambda: os.environ.update(FVPIPE_ID_KEY=KEY), "images.csv"),
    ):
        change()
        said = refused()
        assert f"{table}: {STALE}" in said
        assert "fvpipe index --dataset own" in said
        back()
        assert built()["computed"] == 0  # written again, or touched: the bytes are compared, and nothing is decoded


def test_what_only_a_declaration_says_is_in_the_manifest(project: Path) -> None:
    """DVC sees no declaration of a user: without it, shards kept the licence of before."""
    shipped, params = declaration_files()["table"].read_text(), project / "params.yaml"
    params.write_text(params.read_text().replace("adapter: table", "adapter: own.yaml"))
    receipt = project / "cache" / "shards" / "direct" / "own" / "index.json"
    for terms in ("not to be shared", "ours since today"):
        (project / "own.yaml").write_text(shipped.replace("license: not stated", f"license: {terms}"))
        assert f"declared.json: {STALE}" in refused()
        indexed()
        assert built()["samples"] == 2
        assert json.loads(receipt.read_bytes())["license"] == terms
    params.write_text(params.read_text().replace("adapter: own.yaml", "adapter: table"))
    indexed()
    assert "declared.json" not in tables(project)


def test_a_file_that_changes_while_a_build_runs_stops_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The index has compared the files: the worker sees it when it reads one of them."""
    film, inner = films(project)[0], flow.make_missing
    other = bytearray(film.read_bytes())
    other[-1] ^= 1

    def late(*arguments: Any) -> Any:
        film.write_bytes(other)
        return inner(*arguments)

    monkeypatch.setattr(flow, "make_missing", late)
    assert "not what the index read" in refused()
    assert not (project / "cache" / "shards" / "direct" / "own" / "index.json").exists()


def test_a_file_that_is_not_dicom_is_no_change(project: Path) -> None:
    assert built("--reread")["samples"] == 2
    assert built("--samples", project / "other-store")["samples"] == 2


def test_a_manifest_without_dicom_files(project: Path) -> None:
    """Of use to whoever has the shards and nothing else."""
    built()
    before = tables(project)
    shutil.move(project / "data" / "own", project / "elsewhere")
    done = run("index", "--workers", 0)
    assert "is kept as it is" in done.stderr
    assert tables(project) == before
    run("table1")
    assert "no such folder" in refused()
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
    for cache in (project / "cache" / "samples").glob("*.sqlite"):
        cache.unlink()
    assert indexed()["read"] == 6
    assert tables(project) == before
    assert built()["computed"] == 0


def edited(text: str, what: str) -> str:
    """A table with one edit."""
    heading, first, *rest = text.splitlines()
    cells = first.split(",")
    match what:
        case "column":
            heading = heading.replace("laterality", "side").replace("reason", "why")
        case "cell":
            first = first.replace(",L,", ",X,").replace("_unsupported", "_unheard_of")
        case "longer":
            first += ",1"
        case "twice":
            rest.append(first)
        case "label":
            first = first.replace(",1,", ",0,") if ",1," in first else first.replace(",0,", ",1,")
        case "breast":
            first = ",".join([*cells[:-1], "" if cells[-1] else "p9_L"])
    return "\n".join([heading, first, *rest]) + "\n"


EDITS = ["gone", "column", "cell", "longer", "twice", "label", "breast"]


@pytest.mark.parametrize(
    ("name", "what"),
    [(name, what) for name in ("images.csv", "breasts.csv") for what in EDITS]
    + [("rejected.csv", what) for what in EDITS if what != "label"],  # it has none
)
def test_an_edited_manifest_is_named(project: Path, name: str, what: str) -> None:
    """By a build, which has the files, and by whoever has the manifest alone."""
    file = project / "manifests" / "own" / name
    before = file.read_text()
    after = "" if what == "gone" else edited(before, what)
    assert after != before
    file.write_text(after) if after else file.unlink()
    if (name, what) != ("images.csv", "gone"):  # that is not a manifest at all: the tests above
        assert f"{name}: {STALE}" in refused()
    if (name, what) == ("rejected.csv", "breast"):
        return  # a detail, which no other table has
    said = run("table1", code=1).output
    assert "is not a manifest that this fvpipe can read" in said
    assert "fvpipe index --dataset own" in said


@pytest.mark.fault(46)
def test_samples_that_were_exchanged_are_made_again(project: Path) -> None:
    built()
    shards = project / "cache" / "shards" / "direct" / "own"
    before = {file.name: file.read_bytes() for file in shards.iterdir()}
    first, second = sorted((project / "cache" / "samples").rglob("*.sample"))
    one = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(one)
    shutil.rmtree(shards)
    built()
    assert {file.name: file.read_bytes() for file in shards.iterdir()} == before


def shards_of(project: Path) -> dict[str, bytes]:
    folder = project / "cache" / "shards" / "direct" / "own"
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def damaged_patient(project: Path, name: str) -> None:
    """Add a patient whose MLO cannot be decoded."""
    folder = project / "data" / "own"
    factory.patient(folder, name, sides="L", seed=int(name[1:]), syntax=JPEGLSLossless)
    film = folder / f"{name}_L_MLO.dcm"
    data = film.read_bytes()
    film.write_bytes(data[:-6000] + bytes(4000) + data[-2000:])
    indexed()


@pytest.mark.fault(46)
def test_rejections_that_were_exchanged_are_made_again(project: Path) -> None:
    damaged_patient(project, "p3")
    damaged_patient(project, "p4")
    built()
    before = shards_of(project)
    first, second = sorted((project / "cache" / "samples").rglob("*.rejection"))
    one = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(one)
    shutil.rmtree(project / "cache" / "shards")
    built()
    assert shards_of(project) == before
    assert first.read_bytes() == one


@pytest.mark.fault(46)
def test_a_rejection_under_the_name_of_a_sample_is_mended(project: Path) -> None:
    damaged_patient(project, "p3")
    built()
    before = shards_of(project)
    (file,) = (project / "cache" / "samples").rglob("*.rejection")
    file.rename(file.with_suffix(".sample"))
    shutil.rmtree(project / "cache" / "shards")
    assert "run again" in refused()
    built()
    assert shards_of(project) == before


def test_reread_mends_what_is_stored(project: Path) -> None:
    """A rejection by a machine that lacked memory; a sample of another breast, and a shard that was written from it."""
    built()
    before = shards_of(project)
    store = SampleStore(project / "cache" / "samples")
    entries = sorted(store.folder.rglob("*.sample"))
    contents = [entry.read_bytes() for entry in entries]
    first, second = (Digest(entry.stem) for entry in entries)
    other = store.get(second)
    assert other is not None
    entries[0].unlink()
    for wrong in (ViewRejection(View.CC, Reason.DECODE_FAILED, "the decoder failed"), other):
        store.rejection_path(first).unlink(missing_ok=True)
        store.put(first, wrong)
        shutil.rmtree(project / "cache" / "shards")
        built()
        assert shards_of(project) != before
        assert built()["written"] == 0
        assert built("--reread")["computed"] == 1
        assert shards_of(project) == before
        assert [entry.read_bytes() for entry in entries] == contents
        assert not store.rejection_path(first).exists()


def test_reread_mends_a_shard_of_a_wrong_sample_alone(project: Path) -> None:
    built()
    before = shards_of(project)
    store = SampleStore(project / "cache" / "samples")
    first, second = sorted(store.folder.rglob("*.sample"))
    data, other = first.read_bytes(), store.get(Digest(second.stem))
    assert other is not None
    store.put(Digest(first.stem), other)
    shutil.rmtree(project / "cache" / "shards")
    built()
    first.write_bytes(data)
    assert (built()["written"], shards_of(project) == before) == (0, False)
    assert (built("--reread")["written"], shards_of(project)) == (1, before)


def found_by_verify(folder: Path) -> bool:
    try:
        return bool(fvpipe.verify(folder))
    except ReceiptError:
        return True


@pytest.mark.fault(47)
def test_one_changed_character_of_the_receipt_is_mended(project: Path) -> None:
    """In every line; where it names another data set or pipeline, the folder is not touched.

    `verify` finds it as well, but in the digest of what a shard was made from, which only a build knows.
    """
    built()
    before = shards_of(project)
    receipt = project / "cache" / "shards" / "direct" / "own" / "index.json"
    lines = before["index.json"].decode().splitlines(keepends=True)
    tried = 0
    for i, line in enumerate(lines):
        at = max((at for at, character in enumerate(line) if character.isalnum()), default=None)
        if at is None:
            continue
        other = "1" if line[at] != "1" else "2"
        receipt.write_text("".join([*lines[:i], line[:at] + other + line[at + 1 :], *lines[i + 1 :]]))
        assert found_by_verify(receipt.parent) or '"content"' in line, line
        if line.lstrip().startswith(('"dataset"', '"pipeline":')):
            assert "choose another folder" in refused()
            receipt.write_bytes(before["index.json"])
        else:
            assert built()["samples"] == 2
        assert shards_of(project) == before, line
        tried += 1
    assert tried > 30


def test_a_build_without_a_sample_is_an_error(project: Path) -> None:
    """The most frequent reason is named, and nothing is committed; nor does an index without a breast replace the manifest."""
    for film in films(project):
        film.write_bytes(b"\0" * 128 + b"DICM, but no more of it")
    before = tables(project)
    assert "most often transfer_syntax_unsupported (5 times" in run("index", "--workers", 0, code=1).output
    assert tables(project) == before
    for manifest in (True, False):
        if not manifest:
            shutil.rmtree(project / "manifests")
        assert "most often transfer_syntax_unsupported (5 times" in refused()
        assert not (project / "cache" / "shards" / "direct" / "own" / "index.json").exists()


# --- round trip -------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), max_size=8)
RECORDS = st.builds(
    ImageRecord,
    **{field.name: TEXT for field in fields(ImageRecord) if field.type == "str" and not field.kw_only and field.name != "path"},
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
    of_images = {i.path: BreastFacts(facts.label, excluded=excluded) for i in images}
    digests = {image.path: Digest(f"{i:064x}") for i, image in enumerate(images)}
    whole = Index(
        source, {}, images, of_images, [breast], sorted(rejections, key=rejection_order), digests, has_findings=any(findings)
    )
    write_manifests(whole, folder / "m")
    read = read_manifests(source, folder / "m")
    for field in fields(Index):
        assert getattr(read, field.name) == getattr(whole, field.name), field.name


def test_a_path_that_is_no_text(project: Path) -> None:
    """A file name of bytes that are not UTF-8 goes through the manifest as it is."""
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
        digested = index(source, workers, file_cache, digest=True).digests
        assert set(digested or ()) == {image.path for image in found.images}
