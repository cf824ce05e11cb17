"""Ten thousand breasts of small made files: what nothing changed costs, and what one change decodes and rewrites.

Each step is the real command in a project of its own in the scratch folder, in a new process; then the same under DVC.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.cohort import Form, add, cohort
from benchmarks.measure import ENVIRONMENT, FVPIPE, ROOT, Section, Setup, Table, command, interleaved

SMALL = Form("small", "small made files", (160, 128), 8, ExplicitVRLittleEndian)
BUILD = [*FVPIPE, "build-shards", "--max-fallback", "100", "--json", "--workers"]
PARAMS = """
datasets:
  many: {{adapter: table, made: true, dicom: {folder}}}
pipelines: [cropped]
"""
STAGES = """
stages:
  index:
    cmd: python -m fvpipe index --dataset many
    deps: [dicom]
    outs: [manifests/many: {cache: false, persist: true}]
  shards:
    cmd: python -m fvpipe build-shards --dataset many --max-fallback 100 --workers 2
    deps: [dicom, manifests/many, pipelines/cropped.yaml]
    outs: [cache/shards/cropped/many]
"""


@dataclass(frozen=True, slots=True)
class Step:
    """What one build did."""

    wall: float
    made: int
    written: int


def run(setup: Setup) -> Section:
    """Change one thing after another."""
    breasts = setup.size(24, 1000, 10_000)
    section = Section("incremental", f"What a change costs, on {breasts:,} breasts")
    original = cohort(setup.scratch, SMALL, breasts, setup.size(2, 8, 8))
    with setup.folder("incremental") as project:
        setup.say("incremental: copying the files")
        folder = Path(shutil.copytree(original, project / "dicom"))
        (project / "pipelines").mkdir()
        shutil.copy(ROOT / "pipelines" / "cropped.yaml", project / "pipelines")
        (project / "params.yaml").write_text(PARAMS.format(folder="dicom"))
        _steps(setup, section, project, folder, breasts)
        if not setup.tiny:  # the project's tests run DVC
            _dvc(setup, section, project, folder)
    return section


def _steps(setup: Setup, section: Section, project: Path, folder: Path, breasts: int) -> None:
    steps: dict[str, Step] = {}
    workers = setup.size(0, 2, 2)

    def step(what: str) -> Step:
        setup.say(f"incremental: {what}")
        ran = command([*BUILD, workers], project)
        (result,) = json.loads(ran.output)
        steps[what] = Step(ran.wall, int(result["computed"]), int(result["written"]))
        return steps[what]

    first = step("first build")
    nothing = interleaved(setup.runs, {"": lambda: step("nothing changed").wall})[""]
    min(folder.rglob("*.dicom")).touch()
    touched = step("one file touched, its bytes as they were")
    change(min(folder.rglob("*.dicom")))
    changed = step("one changed file")
    add(folder, SMALL, range(breasts, breasts + 2))
    added = step("one added patient (two breasts)")
    settings = project / "pipelines" / "cropped.yaml"
    before = settings.read_text()
    settings.write_text(before.replace("margin: 0.01", "margin: 0.02"))
    assert settings.read_text() != before
    parameter = step("one changed parameter (margin)")
    settings.write_text(before)
    back = step("the parameter as it was")
    shutil.rmtree(project / "cache" / "shards")
    again = step("shards removed, as DVC does before a run")
    rows = [[what, f"{s.wall:.2f}", str(s.made), str(s.written)] for what, s in steps.items()]
    rows[1][1] = str(nothing)
    columns = ["step", "seconds, start-up included", "breasts decoded", "shards written"]
    section.tables.append(Table("`fvpipe build-shards --workers 2`", columns, rows))
    section.figures |= {"first": first.wall, "nothing": nothing.median, "assembled": again.wall, "breasts": float(breasts)}
    section.at_most(f"nothing changed in {breasts:,} breasts", nothing.median, 3, " s")
    none = steps["nothing changed"]
    section.true(
        "nothing changed: nothing decoded, nothing written", f"{none.made}, {none.written}", none.made == none.written == 0
    )
    section.true(
        "one file touched: nothing decoded, nothing written",
        f"{touched.made}, {touched.written}",
        touched.made == touched.written == 0,
    )
    held = changed.made == changed.written == 1
    section.true("one changed file: its breast decoded, its shard written", f"{changed.made}, {changed.written}", held)
    held = (added.made, added.written) == (2, 1)
    section.true("one added patient: its breasts decoded, its shard written", f"{added.made}, {added.written}", held)
    section.true("one changed parameter: every breast decoded", str(parameter.made), parameter.made == breasts + 2)
    held = back.made == 0 and again.made == 0 and again.written == parameter.written
    section.true("the parameter as it was, and shards removed: nothing decoded", f"{back.made}, {again.made}", held)


def change(file: Path) -> None:
    """Another last pixel than it ever had."""
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([(data[-1] + 1) % 256]))


def _dvc(setup: Setup, section: Section, project: Path, folder: Path) -> None:
    """The same under DVC, whose own look at the files is the baseline."""
    dvc = ["dvc"]
    try:
        command([*dvc, "--version"], project)
    except (OSError, RuntimeError):
        section.notes.append("Not measured: DVC is not installed (extra `dvc`).")
        return
    (project / "dvc.yaml").write_text(STAGES)
    (project / ".gitignore").write_text("/dicom\n/cache\n/manifests\n")
    for line in ("git init -q .", "dvc init -q", "dvc config core.analytics false", "dvc config core.check_update false"):
        command(line.split(), project, environment={**ENVIRONMENT, "DVC_NO_ANALYTICS": "true"})
    seconds = {}
    setup.say("incremental: dvc repro, first")
    seconds["dvc repro, first: hashes every file once; samples are there"] = command([*dvc, "repro", "-q"], project).wall
    words = {"status": [*dvc, "status", "-q"], "repro": [*dvc, "repro"]}
    looks = interleaved(setup.runs, {name: lambda said=said: command(said, project).wall for name, said in words.items()})
    idle = command([*dvc, "repro"], project).output
    change(min(folder.rglob("*.dicom")))
    setup.say("incremental: dvc repro, one changed file")
    ran = command([*dvc, "repro"], project)
    seconds["dvc repro, one changed file"] = ran.wall
    record = json.loads((project / "cache" / "shards" / "cropped" / "many.build.json").read_text())
    change(min(folder.rglob("*.dicom")))
    index = command([*FVPIPE, "index", "--dataset", "many"], project).wall
    shutil.rmtree(project / "cache" / "shards")
    alone = index + command([*BUILD, 2], project).wall
    seconds["its two commands alone, shards removed before"] = alone
    rows = [["dvc status, nothing changed", str(looks["status"])], ["dvc repro, nothing changed", str(looks["repro"])]]
    rows += [[what, f"{wall:.2f}"] for what, wall in seconds.items()]
    section.tables.append(Table("Under DVC, seconds", ["command", "median"], rows))
    quiet = "Running stage" not in idle
    held = quiet and looks["repro"].median <= 1.5 * looks["status"].median
    measured = f"{looks['repro'].median:.2f} s against {looks['status'].median:.2f} s"
    section.true("dvc repro with nothing to do runs nothing, within 1.5 x of dvc status", measured, held)
    made = int(record["samples_computed"])
    section.true("one changed file under dvc repro: its breast alone is decoded", str(made), made == 1)
