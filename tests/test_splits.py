"""Splits: who may meet whom, and that nobody moves."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import JPEGBaseline8Bit

from fvpipe.config.project import Split
from fvpipe.errors import LabelTableError
from fvpipe.evaluation.metrics.binary import Confusion, roc_auc
from fvpipe.evaluation.splits.assign import Assignment, Candidate, Part, balance, leak_rate, leaks, shared_identifiers, split
from fvpipe.evaluation.splits.make_splits import write_splits
from fvpipe.evaluation.splits.near_duplicates import fingerprints, near_pairs
from fvpipe.evaluation.splits.split_table import read_split
from fvpipe.project.project import Project
from fvpipe.shards.reader import open_shards
from tests.conftest import build, run
from tests.support import factory


@st.composite
def cohorts(draw: st.DrawFn) -> list[Candidate]:
    """Up to 60 breasts of up to two data sets, some patients with two breasts."""
    found = []
    for dataset in draw(st.sampled_from([("a",), ("a", "b")])):
        for i in draw(st.sets(st.integers(0, 999), max_size=30)):
            for side in draw(st.sampled_from(["L", "R", "LR"])):
                label = draw(st.sampled_from([0, 1, -1]))
                subset = "test" if i % 5 == 0 else "training"
                found.append(Candidate(dataset, f"P{i}_{side}", f"P{i}", "", label, subset))
    return found


def settings_of(setting: Any, *datasets: str, **more: Any) -> Split:
    return Split(setting=setting, datasets=datasets, **more)


SETTINGS = [
    (settings_of("seen", "a", "b"), 0),
    (settings_of("unseen", "a", "b"), 0),
    (settings_of("cross", "a", test=("b",)), 0),
    (settings_of("official", "a"), 0),
    *((settings_of("kfold", "a", "b"), fold) for fold in range(5)),
]


@given(cohorts(), st.integers(0, 2**31), st.sampled_from(SETTINGS))
def test_no_patient_is_in_two_parts_but_in_the_seen_setting(
    cohort: list[Candidate], seed: int, of_fold: tuple[Split, int]
) -> None:
    settings = of_fold[0].model_copy(update={"seed": seed})
    assigned = split(cohort, settings, of_fold[1])
    wanted = {*settings.datasets, *settings.test}
    assert [a.candidate for a in assigned] == sorted(
        (c for c in cohort if c.label >= 0 and c.dataset in wanted), key=lambda c: (c.dataset, c.breast_id)
    )
    assert not leaks(assigned, settings)
    if settings.setting != "seen":
        parts: dict[tuple[str, str], set[Part]] = {}
        for a in assigned:
            parts.setdefault(a.candidate.patient, set()).add(a.part)
        assert all(len(found) == 1 for found in parts.values())
        assert leak_rate(assigned) in (None, 0.0)


def many(count: int = 4000) -> list[Candidate]:
    return [Candidate("a", f"P{i // 2}_{'LR'[i % 2]}", f"P{i // 2}", "", int(i % 10 < 3)) for i in range(count)]


@pytest.mark.parametrize(("settings", "fold"), SETTINGS, ids=[f"{settings.setting}{fold}" for settings, fold in SETTINGS])
def test_adding_a_patient_moves_only_those_at_a_boundary(settings: Split, fold: int) -> None:
    """At each cut of its own stratum, no more breasts than it has itself; without it, nobody else moves at all."""
    cohort = [replace(c, dataset=name, patient_id=f"{name}{c.patient_id}") for name in "ab" for c in many(300)]
    before = {(c.dataset, c.breast_id): part for c, part in parts_of(cohort, settings, fold)}
    for i in range(12):
        label = int(i % 2)
        added = [Candidate("a", f"Q{i}_{side}", f"Q{i}", "", label) for side in "LR"[: 1 + i % 3 // 2]]
        after = parts_of([*added, *cohort[::-1]], settings, fold)
        moved = [c for c, part in after if c not in added and before[c.dataset, c.breast_id] != part]
        assert {c.dataset for c in moved} <= {"a"}
        assert len(moved) <= 4 * len(added) * (1 + (settings.setting == "kfold")), (i, moved)
        if settings.setting == "seen":  # there every breast is one of its own
            assert {c.label for c in moved} <= {label}
    assert parts_of([*cohort, Candidate("a", "U_L", "U", "", -1)], settings, fold) == parts_of(cohort, settings, fold)


def parts_of(cohort: list[Candidate], settings: Split, fold: int) -> list[tuple[Candidate, Part]]:
    return [(a.candidate, a.part) for a in split(cohort, settings, fold)]


VINDR = [Candidate("v", f"S{i // 2}_{'LR'[i % 2]}", f"S{i // 2}", "", int(i * 7919 % 3297 < 113)) for i in range(3297)]
"""VinDr-Mammo's published counts: 3,184 benign and 113 malignant breasts."""


@pytest.mark.parametrize("setting", ["seen", "unseen", "kfold"])
def test_published_counts_are_split_exactly_with_every_seed(setting: Any) -> None:
    for seed in range(4):
        found = balance(split(VINDR, settings_of(setting, "v", seed=seed), seed))
        assert found[Part.TEST][1] in (22, 23) and found[Part.VALIDATION][1] in (11, 12)
        if setting == "seen":
            assert found[Part.TEST][0] == 637 and found[Part.VALIDATION][0] == 318


@given(cohorts(), st.integers(0, 2**31))
def test_every_data_set_and_class_has_its_share_of_the_seen_setting(cohort: list[Candidate], seed: int) -> None:
    assigned = split(cohort, settings_of("seen", "a", "b", seed=seed))
    for stratum in {(a.candidate.dataset, a.candidate.label) for a in assigned}:
        members = [a.part for a in assigned if (a.candidate.dataset, a.candidate.label) == stratum]
        tested = members.count(Part.TEST)
        assert abs(tested - 0.2 * len(members)) <= 0.5
        assert abs(members.count(Part.VALIDATION) - 0.125 * (len(members) - tested)) <= 0.5


def test_seeds_differ_and_folds_partition() -> None:
    cohort = many(400)
    tests = [
        frozenset(a.candidate.breast_id for a in split(cohort, settings_of("seen", "a", seed=s)) if a.part == "test")
        for s in (0, 1)
    ]
    assert tests[0] != tests[1]
    parts = [
        [a.candidate.breast_id for a in split(cohort, settings_of("kfold", "a"), fold) if a.part == "test"] for fold in range(5)
    ]
    assert sorted(name for fold in parts for name in fold) == sorted(c.breast_id for c in cohort)
    assert set(map(len, parts)) <= set(range(78, 83))


def test_the_seen_setting_leaks_as_much_as_it_says() -> None:
    rate = leak_rate(split(many(), settings_of("seen", "a")))
    assert rate == pytest.approx(0.7, abs=0.06)  # the other breast is in train with 0.8 x 0.875


def test_identifiers_of_two_data_sets_are_counted_where_they_part() -> None:
    """Patient 1 of two exports of a hospital: no digest tells that it is one woman."""
    here = [Candidate("a", f"{i}_L", f"{i}", "", i % 2) for i in range(8)]
    there = [Candidate("b", f"{i}_L", f"{i}", "", i % 2) for i in range(4, 12)]
    across = Split(setting="cross", datasets=("a",), test=("b",))
    assert shared_identifiers(split([*here, *there], across), across) == 4
    same_part = [Assignment(c, Part.TRAIN) for c in (*here, *there)]
    assert shared_identifiers(same_part, across) == 0
    within = Split(setting="unseen", datasets=("a",))
    assert shared_identifiers(split(here, within), within) == 0
    seen = Split(setting="seen", datasets=("a", "b"))
    assert shared_identifiers(split([*here, *there], seen), seen) == 0  # no patients are apart there


def test_a_patient_whom_two_data_sets_write_otherwise_is_in_one_part() -> None:
    settings = Split(setting="unseen", datasets=("a", "b", "c"))
    forms = {"a": "P{:03d}", "b": "p{:03d}", "c": "P{}"}
    cohort = [Candidate(name, f"{i}_L", form.format(i), "", i % 2) for name, form in forms.items() for i in range(40)]
    parts = {(a.candidate.breast_id, a.part) for a in split(cohort, settings)}
    assert len(parts) == 40  # each of 40 women in one


def test_nearly_the_same_images_stand_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a data set and its copy of 8 bits, whose patients have other names."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for copies of fewer bits")
    labels = "patient_id,laterality,label\n" + "".join(f"P{i},L,{i % 2}\nQ{i},L,{i % 2}\n" for i in range(8))
    (tmp_path / "t.csv").write_text(labels)
    for i in range(8):
        drawn = factory.patient(tmp_path / "one", f"P{i}", "L", seed=i, StudyInstanceUID=f"2.25.1{i}")
        for view, made in zip((factory.CC, factory.MLO), drawn.values(), strict=True):
            copy = factory.Made((made.pixels >> 4).astype(np.uint8), made.drawing, 8)
            tags = {"PatientID": f"Q{i}", "StudyInstanceUID": f"2.25.2{i}", "SOPInstanceUID": f"2.25.3{i}{len(view)}"}
            factory.mammogram(tmp_path / "two" / f"{i}{view}.dcm", copy, view=view, **tags)
    settings = ", ".join(f"{name}: {{adapter: table, dicom: {name}, label_file: t.csv}}" for name in ("one", "two"))
    (tmp_path / "params.yaml").write_text(
        f"datasets: {{{settings}}}\npipelines: [direct]\n"
        "splits: {apart: {setting: unseen, datasets: [one, two], test_share: 0.4, validation_share: 0.4}}\n"
    )
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    (result,) = json.loads(run("split", "--json").stdout)
    assert result["near_duplicates_across_parts"] == []
    assert {count % 2 for part in result["parts"].values() for count in part.values()} == {0}  # pairs of a film and its copy


@pytest.mark.parametrize("setting", ["unseen", "kfold"])
def test_one_identifier_in_two_data_sets_is_in_one_part(setting: Any) -> None:
    """A data set and its copy in another format: no digest is the same, since the copy has other pixels."""
    cohort = [Candidate(name, f"P{i}_{side}", f"P{i}", "", i % 2) for name in "ab" for i in range(40) for side in "LR"]
    for fold in range(5):
        parts: dict[str, set[Part]] = {}
        for a in split(cohort, settings_of(setting, "a", "b", seed=fold), fold):
            parts.setdefault(a.candidate.patient_id, set()).add(a.part)
        assert all(len(found) == 1 for found in parts.values()) and set.union(*parts.values()) == set(Part)


def test_data_sets_with_the_same_identifiers_keep_their_shares() -> None:
    """Two hospitals that number their patients from 1: each class of both has its share."""
    cohort = [
        Candidate(name, f"{i}", f"{i}", "", int(i % every == 0)) for name, every in (("a", 4), ("b", 5)) for i in range(200)
    ]
    for seed in range(5):
        found = split(cohort, settings_of("unseen", "a", "b", seed=seed))
        tested = Counter((a.candidate.dataset, a.candidate.label) for a in found if a.part is Part.TEST)
        assert all(abs(tested[name, 1] - share) <= 1 for name, share in (("a", 10), ("b", 8))), (seed, tested)
        assert all(abs(tested[name, 0] - share) <= 1 for name, share in (("a", 30), ("b", 32))), (seed, tested)


def test_hashed_and_own_identifiers_of_one_patient_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of CMMD, whose identifiers are kept, and its copy in another format, whose declaration has them hashed."""
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for two data sets of one hospital")
    (tmp_path / "params.yaml").write_text(
        "datasets: {own: {adapter: cmmd}, hashed: {adapter: table}}\n"
        "splits: {apart: {setting: unseen, datasets: [own, hashed]}, x: {setting: cross, datasets: [own], test: [hashed]}}\n"
    )
    project = Project(tmp_path)
    whose = {name: project.source(name).policy for name in ("own", "hashed")}
    for name, policy in whose.items():
        rows = "".join(f"{name}{i},{policy.identifier('patient', f'P{i}')},,{i % 2},\n" for i in range(40))
        (tmp_path / "manifests" / name).mkdir(parents=True)
        (tmp_path / "manifests" / name / "breasts.csv").write_text("breast_id,patient_id,study,label,subset\n" + rows)
        (tmp_path / "manifests" / name / "images.csv").write_text("breast_id,label,digest\n")
    _, across = write_splits(project, ["apart", "x"])
    parts = {breast: part for (_, breast), part in read_split(project.splits / "apart.csv", whose).items()}
    assert all(parts[f"own{i}"] == parts[f"hashed{i}"] for i in range(40)) and set(parts.values()) == set(Part)
    assert across["shared_identifiers_across_parts"] == 40


def test_identical_pixels_stand_together() -> None:
    cohort = [Candidate("a", f"P{i}_L", f"P{i}", "", i % 2, pixels=(f"px{i // 4}", f"own{i}")) for i in range(80)]
    for settings in (settings_of("seen", "a"), settings_of("unseen", "a")):
        assigned = split(cohort, settings)
        assert not leaks(assigned, settings)
        for group in range(20):
            assert len({a.part for a in assigned if a.candidate.pixels[0] == f"px{group}"}) == 1
        assert {a.part for a in assigned} == set(Part)


@pytest.mark.fault(28)
@pytest.mark.parametrize("kind", ["patient", "study", "file", "pixels"])
def test_a_planted_leak_is_found(kind: str) -> None:
    first = Candidate("a", "P1_L", "P1", "s1", 0, sources=("f1",), pixels=("p1",))
    second = Candidate(
        "a", "P2_L", "P1" if kind == "patient" else "P2", "s1" if kind == "study" else "s2", 1,
        sources=("f1" if kind == "file" else "f2",), pixels=("p1" if kind == "pixels" else "p2",),
    )  # fmt: skip
    assigned = [Assignment(first, Part.TRAIN), Assignment(second, Part.TEST)]
    (leak,) = leaks(assigned, settings_of("unseen", "a"))
    assert (leak.kind, leak.parts, leak.breasts) == (kind, (Part.TEST, Part.TRAIN), ("a/P1_L", "a/P2_L"))
    allowed = kind in ("patient", "study")
    assert bool(leaks(assigned, settings_of("seen", "a"))) is not allowed


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(phantoms: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "params.yaml").write_text(
        "datasets:\n"
        f"  pv: {{adapter: vindr, made: true, dicom: {phantoms['vindr']}}}\n"
        f"  pc: {{adapter: cmmd, made: true, dicom: {phantoms['cmmd']}, labels: {{duplicate_patients: keep}}}}\n"
        f"  real: {{adapter: vindr, dicom: {phantoms['vindr']}}}\n"
        "pipelines: [direct]\n"
        "splits:\n"
        "  seen: {setting: seen, datasets: [pv, pc]}\n"
        "  across: {setting: cross, datasets: [pv], test: [pc]}\n"
        "  five: {setting: kfold, datasets: [pv]}\n"
        "  own: {setting: official, datasets: [real]}\n"
        "  same: {setting: cross, datasets: [pc], test: [pv]}\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_split_command(project: Path) -> None:
    assert "run `fvpipe index" in run("split", "seen", code=1).output
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    results = {r["split"]: r for r in json.loads(run("split", "--json").stdout)}
    assert set(results) == {"seen", "across", "own", "same", *(f"five-fold{i}" for i in range(5))}
    assert results["seen"]["digests_checked"]
    written = project / "manifests" / "splits"
    parts = read_split(written / "seen.csv", ["pv", "pc"])
    assert len(parts) == sum(n["benign"] + n["malignant"] for n in results["seen"]["parts"].values())
    before = (written / "seen.csv").read_bytes()
    run("split")
    assert (written / "seen.csv").read_bytes() == before
    kept = (written / ".gitignore").read_text()
    assert "!/seen.csv" in kept
    assert "!/five-fold4.csv" in kept
    assert "own" not in kept  # rows of a data set that may not be published
    assert "did you mean" not in run("split", "nothing", code=1).output
    text = run("table1", "--out", "table1.json").output  # of two simulated data sets and a real one
    assert "pooled (simulated data)" in text and "pv (simulated data)" in text and "real (simulated" not in text
    metrics = json.loads((project / "table1.json").read_text())
    assert metrics.keys() == {"pv", "pc", "real", "pooled (simulated data)"}


def test_pixel_digests_are_compared_only_among_images_decoded_alike(project: Path) -> None:
    file = project / "params.yaml"
    file.write_text(file.read_text().replace("[direct]", "[antialiased, direct]"))

    def checked() -> bool:
        (result,) = json.loads(run("split", "seen", "--json").stdout)
        return bool(result["digests_checked"])

    for dataset in ("pv", "pc"):
        run("index", "--workers", 0, "--dataset", dataset)
        run("build-shards", "--workers", 0, "--pipeline", "antialiased", "--dataset", dataset)
    assert not checked()  # the same image in another codestream would have another digest
    run("build-shards", "--workers", 0, "--pipeline", "direct", "--dataset", "pv")
    assert not checked()
    run("build-shards", "--workers", 0, "--pipeline", "direct", "--dataset", "pc")
    assert checked()
    images = project / "manifests" / "pc" / "images.csv"
    images.write_text(re.sub(r"\b[0-9a-f]{64}\b", lambda digest: digest[0][::-1], images.read_text()))
    assert not checked()  # all files were replaced and indexed, and the shards are of those before


def test_simulated_and_real_data_are_never_mixed(project: Path) -> None:
    file = project / "params.yaml"
    text = file.read_text()
    file.write_text(text.replace("test: [pc]", "test: [real]"))
    assert "mixes simulated and real" in run("split", code=1).output
    file.write_text(text.replace("datasets: [pv, pc]", "datasets: [pw]"))
    assert "not in datasets (did you mean 'pv'?)" in run("split", code=1).output
    file.write_text(text.replace("datasets: [pv], test: [pc]", "datasets: [pv], test: [pv]"))
    assert "trains on one data set and tests on another" in run("split", code=1).output


@pytest.mark.fault(28)
def test_shared_pixels_across_data_sets_are_rejected(project: Path, phantoms: dict[str, Path]) -> None:
    """`across` trains on one data set and tests on the other: a file that is in both is a leak that nothing can mend."""
    file = project / "params.yaml"
    copy = Path(shutil.copytree(phantoms["vindr"], project / "copy"))
    file.write_text(
        file.read_text()
        .replace("  real:", f"  twin: {{adapter: vindr, made: true, dicom: {copy}}}\n  real:")
        .replace("test: [pc]", "test: [twin]")
    )
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    message = run("split", "across", code=1).output
    assert "leak(s)" in message
    assert not (project / "manifests" / "splits" / "across.csv").exists()


@pytest.mark.fault(28)
def test_a_mirrored_copy_in_another_data_set_is_a_leak(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for mirrored copies")
    labels = "patient_id,laterality,label\nP0,L,0\nP1,L,1\n"
    for name, first in (("one", 0), ("two", 2)):
        for i in range(2):
            factory.patient(tmp_path / name, f"P{i}", "L", seed=first + i)
        (tmp_path / f"{name}.csv").write_text(labels)
    copy = factory.breast(0)  # of P0 of `one`, as the CC of P1 of `two`
    copy = factory.Made(np.ascontiguousarray(copy.pixels[:, ::-1]), copy.drawing, copy.bits)
    factory.mammogram(tmp_path / "two" / "P1_L_CC.dcm", copy, PatientID="P1", SOPInstanceUID="2.25.5")
    settings = ", ".join(
        f"{name}: {{adapter: table, made: true, dicom: {name}, label_file: {name}.csv}}" for name in ("one", "two")
    )
    (tmp_path / "params.yaml").write_text(
        f"datasets: {{{settings}}}\npipelines: [direct]\nsplits: {{across: {{setting: cross, datasets: [one], test: [two]}}}}\n"
    )
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    assert "the same pixels is in" in run("split", "across", code=1).output


def test_leaks_of_manifests_alone_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any shard is built: one folder under two names, and a publisher's split that parts a patient."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for leaks of manifests")
    rows = ["patient_id,laterality,label,part"]
    for i in range(2):
        factory.patient(tmp_path / "one", f"P{i}", "LR", seed=i)
        rows += [f"P{i},{side},{i},{'training' if i or side == 'L' else 'test'}" for side in "LR"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    settings = "adapter: table, made: true, dicom: one, label_file: t.csv, labels: {columns: {subset: part}}"
    (tmp_path / "params.yaml").write_text(
        f"datasets: {{one: {{{settings}}}, two: {{{settings}}}}}\npipelines: [direct]\nsplits:\n"
        "  across: {setting: cross, datasets: [one], test: [two]}\n  own: {setting: official, datasets: [one]}\n"
    )
    run("index", "--workers", 0)
    said = run("split", "across", code=1).output
    assert (
        "the same file is in" in said and "The data sets have images in common: leave one of the data sets out; nothing" in said
    )
    said = run("split", "own", code=1).output
    assert "the same patient is in test and train" in said and "own parts share patients: use the setting `unseen`" in said
    for word in ("Test", ""):
        (tmp_path / "t.csv").write_text("\n".join(rows).replace("test", word))
        run("index", "--workers", 0, "--dataset", "one")
        said = run("split", "own", code=1).output
        assert f"the subset of 1 labelled breast(s) is neither training nor test (1 '{word}'); write one of these words" in said
    assert not list((tmp_path / "manifests" / "splits").glob("*.csv"))


@pytest.mark.parametrize(
    ("settings", "is_leak"),
    [
        ("csaw-cc", False),
        ("inbreast", False),
        ("kau-bcmd", False),
        ("table, formats: [png]", False),
        ("table", True),
        ("cmmd", True),
    ],
)
def test_exams_of_one_name_are_no_leak_where_they_are_no_uids(
    settings: str, is_leak: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two women were examined on one day, or in one year; a Study Instance UID of two patients is one exam of one woman."""
    monkeypatch.chdir(tmp_path)
    splits = "{k: {setting: kfold, datasets: [x], folds: 2, validation_share: 0.01}}"
    Path("params.yaml").write_text(f"datasets: {{x: {{adapter: {settings}}}}}\npipelines: [direct]\nsplits: {splits}\n")
    Path("manifests/x").mkdir(parents=True)
    rows = [f"P{i}_1_L,P{i},1,0,,s{i},true" for i in range(4)]
    Path("manifests/x/breasts.csv").write_text("\n".join(["breast_id,patient_id,study,label,subset,x,paired", *rows]))
    Path("manifests/x/images.csv").write_text("\n".join(["breast_id,label,digest", *(f"P{i}_1_L,,{i}" for i in range(4))]))
    said = run("split", code=int(is_leak)).output
    assert ("the same study is in" in said) is is_leak


def test_a_split_without_a_test_set_is_rejected_and_stale_files_go(project: Path) -> None:
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    run("split")
    file = project / "params.yaml"
    text = file.read_text()
    file.write_text(text.replace("{setting: kfold, datasets: [pv]}", "{setting: kfold, datasets: [pv], folds: 3}"))
    run("split", "five")
    assert sorted(p.name for p in (project / "manifests" / "splits").glob("five*")) == [f"five-fold{i}.csv" for i in range(3)]
    file.write_text(text.replace("datasets: [real]}", "datasets: [pc]}"))
    assert "no split of its own" in run("split", "own", code=1).output
    file.write_text(text.replace("datasets: [pv, pc]}", "datasets: [pv, pv]}"))
    assert "named twice" in run("split", code=1).output


def test_git_never_sees_rows_that_may_not_be_published(project: Path) -> None:
    """A split turns from simulated data to restricted data, and a later one fails: it is hidden before it is written."""
    run("index", "--workers", 0)
    run("build-shards", "--workers", 0)
    run("split", "seen")
    ignored = project / "manifests" / "splits" / ".gitignore"
    assert "!/seen.csv" in ignored.read_text()
    file = project / "params.yaml"
    file.write_text(
        file.read_text()
        .replace("datasets: [pv, pc]}", "datasets: [real]}")
        .replace("datasets: [pv], test: [pc]", "datasets: [pv], test: [gone]")
        .replace("  real:", "  gone: {adapter: cmmd, made: true}\n  real:")
    )
    run("split", code=1)
    assert "!/seen.csv" not in ignored.read_text()
    assert (project / "manifests" / "real" / ".gitignore").read_text() == "*\n"
    assert not (project / "manifests" / "pv" / ".gitignore").exists()


def test_edited_split_is_checked(tmp_path: Path) -> None:
    file = tmp_path / "s.csv"
    head = "dataset,breast_id,patient_id,part\na,P1_L,P1,train\n"
    for row, message in (
        ("a,P2_L,P2,trian", "part is 'trian'"),
        ("b,P2_L,P2,test", "dataset is 'b'"),
        ("a,P1_L,P1,test", "each breast once"),
    ):
        file.write_text(head + row + "\n")
        with pytest.raises(LabelTableError, match="line 3") as error:
            read_split(file, ["a"])
        assert message in str(error.value)


# --- near-duplicates --------------------------------------------------------------------------------------------------


def test_an_image_encoded_again_is_found_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FVPIPE_ID_KEY", "a key for near-duplicates")
    folder = tmp_path / "dicom"
    for i in range(14):
        factory.patient(folder, f"P{i}", "L", seed=i)
    for view in (factory.CC, factory.MLO):  # patient 3 again: 8 bits instead of 12, lossy, under another name
        made = factory.breast(3, view)
        again = factory.Made((made.pixels >> 4).astype(np.uint8), made.drawing, 8)
        factory.mammogram(
            folder / f"again{view}.dcm",
            again,
            JPEGBaseline8Bit,
            PatientID="again",
            view=view,
            SOPInstanceUID=f"2.25.7{len(view)}",
        )
    build(folder, tmp_path / "out")
    shards = open_shards(tmp_path / "out")
    pixels = shards.columns["pixel_digest"]
    assert len(np.unique(pixels)) == pixels.size  # no digest tells
    pairs = near_pairs(fingerprints(shards), shards.patient_ids.tolist())
    assert len(pairs) == 1
    first, second = (shards[i].image for i in pairs[0])
    assert np.abs(first - second).mean() < 0.02


# --- metrics ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=1, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(data: list[tuple[int, int]]) -> None:
    truth, score = np.array(data).T
    pairs = [(p > b) + 0.5 * (p == b) for p in score[truth == 1] for b in score[truth == 0]]
    assert roc_auc(truth, score) == (pytest.approx(np.mean(pairs)) if pairs else None)


def test_confusion_by_hand() -> None:
    counts = Confusion.of([1, 1, 1, 0, 0], [1, 0, 1, 1, 0])
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (2, 1, 1, 1)
    expected = {"accuracy": 0.6, "precision": 2 / 3, "recall": 2 / 3, "specificity": 0.5, "f1": 2 / 3}
    assert counts.metrics() == pytest.approx(expected)
    assert np.isnan(Confusion.of([0, 0], [0, 0]).metrics()["precision"])
