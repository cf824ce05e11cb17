"""Fixtures that several tests share: simulated data sets, real films, a fresh place for the identifier key."""

from __future__ import annotations

import csv
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner, Result
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from fvpipe.types import CropBox
from tests.support import factory

# The same examples in every run, so that only a change makes it fail; `--hypothesis-profile=random` searches further.
hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("random", derandomize=False)
hypothesis.settings.load_profile("repeatable")

PROCESS_FILES = frozenset({
    "test_access", "test_adaptive", "test_antialiased", "test_benchmarks", "test_cache", "test_commit", "test_demo",
    "test_empty", "test_evaluate", "test_exports", "test_fetch", "test_figures", "test_file_systems", "test_flow",
    "test_gpu", "test_identity", "test_isolation", "test_locks", "test_merged_cells", "test_models", "test_no_hang",
    "test_oracle", "test_paths_of_rows", "test_project", "test_published", "test_quota", "test_raster", "test_report",
    "test_reporting", "test_rows_of_images", "test_single_view", "test_stores", "test_targets", "test_testing",
    "test_training", "test_training_models", "test_training_truth", "test_unreachable_paths", "test_values_of_cells",
    "test_workers", "test_zoom",
})  # fmt: skip
"""Files whose tests start processes, train, or build whole data sets."""
LONG_FILES = frozenset({"test_flow", "test_project", "test_published", "test_training", "test_workers"})
"""Files that take longest: begun first, so that no process is left alone with one at the end."""
LONG_TESTS = frozenset({"test_boxes_of_real_films_are_those_drawn_by_hand", "test_box_at_published_sizes"})
"""Tests of other files that take seconds each."""


def pytest_configure() -> None:
    """Heed the signals that a script's ``&`` and ``nohup`` have ignored: processes of tests inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (getattr(signal, "SIGHUP", None), signal.SIG_DFL)):
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that `make test-fast` leaves out, before they are selected by mark, and run the longest files first."""
    for item in items:
        if item.path.stem in PROCESS_FILES or getattr(item, "originalname", "") in LONG_TESTS:
            item.add_marker(pytest.mark.process)
    items.sort(key=lambda item: (item.path.stem not in LONG_FILES, item.path.stem not in PROCESS_FILES))


@dataclass(frozen=True)
class Truth:
    """What is known of a made file."""

    path: str
    box: CropBox
    lesion: CropBox | None


def read_truth(folder: Path) -> list[Truth]:
    """``truth.csv`` of a simulated data set."""
    with open(folder / "truth.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sides = ("top", "bottom", "left", "right")
    return [
        Truth(
            row["path"],
            CropBox(*(int(row[s]) for s in sides)),
            CropBox(*(int(row[f"lesion_{s}"]) for s in sides)) if row["lesion_top"] else None,
        )
        for row in rows
    ]


@pytest.fixture(scope="session", autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's own configuration, cluster or key."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    for name in ("FVPIPE_ID_KEY", "DASK_SCHEDULER_ADDRESS"):
        patch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both simulated data sets."""
    from fvpipe.simulation.writer import write_dataset

    folders = {form: tmp_path_factory.mktemp("phantoms") / form for form in ("vindr", "cmmd")}
    for form, folder in folders.items():
        write_dataset(form, folder, 12, 0)  # type: ignore[arg-type]
    return folders


@pytest.fixture(scope="session")
def cbis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight real CBIS-DDSM films."""
    from fvpipe.datasets.cbis import copy_sample

    folder = tmp_path_factory.mktemp("cbis")
    assert copy_sample(folder) == 8
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve patients of one to two breasts, with a label table beside them."""
    folder = tmp_path_factory.mktemp("cohort")
    rows = ["patient_id,laterality,label"]
    syntaxes = (ExplicitVRLittleEndian, RLELossless, JPEGLosslessSV1, JPEG2000Lossless)
    for i in range(12):
        sides = "LR" if i % 3 else "L"
        factory.patient(folder / f"case{i}", f"P{i:02d}", sides, seed=i, syntax=syntaxes[i % 4])
        rows += [f"P{i:02d},{side},{i % 2}" for side in sides]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.fixture
def own(cohort: Path, tmp_path: Path) -> Path:
    """A copy of the cohort that a test may change."""
    return Path(shutil.copytree(cohort, tmp_path / "dicom"))


@pytest.fixture
def inspects_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`fvpipe inspect` reads pixels in this process: a fresh one for each call is for files that end it."""
    monkeypatch.setattr("fvpipe.report.inspect.run_alone", lambda work, task, _: work([task])[0])


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound folder that no test changes: shards of 4 and 5 samples."""
    from tests.support.shard_folder import commit

    folder = tmp_path_factory.mktemp("shards") / "whole"
    commit(folder)
    return folder


def run(*arguments: object, code: int = 0) -> Result:
    """Run the command line in this process, and require its exit code."""
    from fvpipe.cli.main import main

    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def build(dicom: Path, out: Path, *options: object, pipeline: str = "cropped", workers: object = 0) -> Result:
    """``fvpipe build-shards`` of a folder."""
    return run("build-shards", "--pipeline", pipeline, "--dicom", dicom, "--out", out, "--workers", workers, *options)
