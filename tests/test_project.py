"""The project as its users meet it: the DAG, reuse by another repository, the command line, and the house rules."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Set
from pathlib import Path

import pytest
import yaml

import fvpipe
from fvpipe.reasons import Flag, Reason

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fvpipe"


def shell(command: str, folder: Path, **environment: str) -> str:
    """Run a command with this environment's programs first; returns both outputs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout + done.stderr


# --- the DAG, and another repository ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project's DAG with small simulated data, run once."""
    folder = tmp_path_factory.mktemp("repository")
    for name in ("fvpipe", "pipelines", ".dvc"):
        left_out = ("tmp", "cache", "config.local") if name == ".dvc" else ("__pycache__",)
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(*left_out))
    for name in ("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    for name in ("manifests/.gitignore", "data/README.md", "weights/README.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    fewer = {  # two small models on 8 simulated patients and 4 real breasts: tests/test_training*.py have the rest
        "params.yaml": (
            (r"patients: \d+", "patients: 8"),
            (r"epochs: 10", "epochs: 1"),
            (r"\[direct, cropped, adaptive\]", "[direct, cropped]"),
            (r"\{cropped: direct, adaptive: direct\}", "{cropped: direct}"),
            (r"\n  (phantom-vindr|phantom-cmmd|vindr|cmmd): .*", ""),
            (r"\n  (seen|cross).*: .*phantom.*", ""),
            (r"\[phantom-vindr, phantom-cmmd\]", "[phantom-lesions]"),
        ),
        "dvc.yaml": ((r"fvpipe build-shards ", "fvpipe build-shards --workers 0 "),),  # a cluster takes longer to start
    }
    for name, changes in fewer.items():
        text = (folder / name).read_text()
        for pattern, instead in changes:
            text, count = re.subn(pattern, instead, text)
            assert count, pattern
        (folder / name).write_text(text)
    shell("git init -q . && git add -A && git -c user.name=t -c user.email=t@t commit -qm a", folder)
    shell("dvc repro", folder)
    return folder


def test_dag_makes_shards_and_a_report(repository: Path) -> None:
    for pipeline in ("direct", "cropped"):
        for name in ("cbis", "phantom-lesions"):
            shards = fvpipe.open_shards(repository / "cache" / "shards" / pipeline / name)
            assert len(shards) >= 4
            assert fvpipe.verify(shards.folder) == []
            assert shards.receipt.simulated == name.startswith("phantom")
    page = (repository / "cache" / "reports" / "report.html").read_text()
    assert "P_00820_L" in page
    assert "Pipeline cropped, step by step, on one breast of cbis." in page


SHARE = "sed -i 's/: {push: false}//; s/, push: false//' dvc.yaml"
"""Let DVC push shards and models, as the README says."""
INDEXES = {"index@cbis", "index@phantom-lesions"}


def ran(repository: Path, targets: str = "", indexes: Set[str] = INDEXES) -> set[str]:
    """The stages that were run, but for the indexes that always are."""
    stages = set(re.findall(r"Running stage '([^']+)'", shell(f"dvc repro {targets}", repository)))
    assert stages >= indexes
    return stages - indexes


def test_dag_reruns_nothing_when_nothing_changed(repository: Path) -> None:
    """But for the time of a file."""
    os.utime(min((repository / "data" / "cbis").rglob("*.dcm")))
    lock = (repository / "dvc.lock").read_bytes()
    assert ran(repository) == set()
    assert (repository / "dvc.lock").read_bytes() == lock
    status = shell("dvc status", repository)
    assert set(status.split()) <= INDEXES | {name + ":" for name in INDEXES} | {"always", "changed"}


@pytest.mark.fault(16)
def test_dag_sees_every_change_of_a_file(repository: Path) -> None:
    """Renamed, changed, removed: the shards of that data set. Added again: they are what they were, as all that follows."""
    film = min((repository / "data" / "cbis").rglob("*.dcm"))
    data, renamed = film.read_bytes(), film.with_name("renamed.dcm")
    shards = repository / "cache" / "shards" / "direct" / "cbis"
    for change, samples in (
        (lambda: film.rename(renamed), 4),
        (lambda: renamed.write_bytes(data[:-2] + bytes(byte ^ 1 for byte in data[-2:])), 4),
        (renamed.unlink, 3),
    ):
        change()
        assert ran(repository, "shards@direct-cbis", {"index@cbis"}) == {"shards@direct-cbis"}
        assert len(fvpipe.open_shards(shards)) == samples
    film.write_bytes(data)
    assert ran(repository) <= {"shards@direct-cbis"}  # unless DVC has the shards of the first state still
    assert len(fvpipe.open_shards(shards)) == 4


@pytest.mark.fault(15)
def test_dag_reruns_what_depends_on_a_pipeline(repository: Path) -> None:
    """Its shards and the split are made again; of what follows from shards, that of the other pipeline is as it was."""
    file = repository / "pipelines" / "direct.yaml"
    before = file.read_text()
    file.write_text(before.replace("[256, 256]", "[128, 128]"))
    shards = {f"shards@direct-{name}" for name in ("cbis", "phantom-lesions")}
    assert ran(repository, "split") == {*shards, "split"}
    lines = [line for line in shell("dvc status", repository).splitlines() if not line.startswith((" ", "\t"))]
    outdated = {line.rstrip(":") for line in lines} - INDEXES
    assert outdated == {"train@direct", "compare@cropped", "figures", "report"}
    file.write_text(before)
    assert ran(repository) <= {"split"}  # the rest is what it was before


def test_dag_keeps_manifests_and_outputs_out_of_git_as_it_should(repository: Path) -> None:
    (repository / "manifests" / "vindr-mammo").mkdir(exist_ok=True)
    (repository / "manifests" / "vindr-mammo" / "images.csv").write_text("path\n")
    (repository / "manifests" / "mine").mkdir(exist_ok=True)
    (repository / "manifests" / "mine" / "images.csv").write_text("path\n")
    shell("git add -A", repository)
    tracked = shell("git ls-files", repository).splitlines()
    assert "manifests/cbis/breasts.csv" in tracked
    assert "manifests/phantom-lesions/rejected.csv" in tracked
    assert "manifests/splits/unseen.csv" in tracked
    unexpected = ("cache/", "data/", "weights/", "manifests/vindr-mammo", "manifests/mine")
    assert {name for name in tracked if name.startswith(unexpected)} == {"data/README.md", "weights/README.md"}


def test_another_repository_imports_the_shards(repository: Path, tmp_path: Path) -> None:
    """As the README says: push to a remote, `dvc import` in a second repository, read."""
    remote, second = tmp_path / "remote", tmp_path / "second"
    git = "git -c user.name=t -c user.email=t@t"
    shell(f"dvc remote add -f -d store {remote} && dvc push -q", repository)
    pushed = [file.read_bytes()[:4] for file in remote.rglob("*") if file.is_file()]
    assert pushed and b"\x89HDF" not in pushed  # reports, and no shard
    shell(f"{SHARE} && dvc push -q && git add -A && {git} commit -qm b --allow-empty", repository)
    (second / "shards").mkdir(parents=True)
    shell("git init -q . && dvc init -q && dvc config core.analytics false", second)
    shell(f"dvc import -q {repository} cache/shards/cropped/cbis -o shards/cbis", second)
    shards = fvpipe.open_shards(second / "shards" / "cbis")
    assert sorted(shards.breast_ids.tolist()) == ["P_00173_L", "P_00173_R", "P_00820_L", "P_00820_R"]
    assert fvpipe.verify(shards.folder) == []


def test_consumers_without_dicom_files_run_the_later_stages(repository: Path, tmp_path: Path) -> None:
    """A clone with other times, the shards pulled, and not one DICOM file: same lock, and training goes on from there."""
    clone, git = tmp_path / "clone", "git -c user.name=t -c user.email=t@t"
    shell(f"{SHARE} && dvc remote add -f -d store {tmp_path / 'remote'} && dvc push -q && git add -A", repository)
    shell(f"{git} commit -qm c --allow-empty && git clone -q . {clone}", repository)
    dag = yaml.safe_load((clone / "dvc.yaml").read_text())
    for stage in ("fetch-cbis", "phantom"):  # their data sets are somebody else's
        del dag["stages"][stage]
    (clone / "dvc.yaml").write_text(yaml.safe_dump(dag, sort_keys=False))
    shell("dvc pull -q", clone)
    assert not list(clone.rglob("*.dcm")) + list(clone.rglob("*.dicom"))
    stages = shell("dvc repro split train evaluate table1 table2 report", clone)
    assert set(re.findall(r"Running stage '([^']+)'", stages)) == INDEXES
    assert stages.count("is kept as it is") == len(INDEXES)
    assert shell("git status --short", clone).split() == ["M", "dvc.yaml"]
    params = clone / "params.yaml"
    params.write_text(params.read_text().replace("smallest_group: 20", "smallest_group: 5"))
    assert ran(clone) == {"evaluate", "table2"}


@pytest.mark.slow
def test_own_data_set_is_two_lines(repository: Path, tmp_path: Path) -> None:
    """A folder in CMMD's form anywhere on the disk, a link to it, and two lines of params.yaml."""
    shell(f"fvpipe phantom --form cmmd --patients 8 --seed 5 --out {tmp_path / 'elsewhere'}", repository)
    (repository / "data" / "cmmd").symlink_to(tmp_path / "elsewhere")
    params = repository / "params.yaml"
    before = params.read_text()
    params.write_text(before.replace("# cmmd:", "cmmd:").replace("#   {adapter: cmmd}", "  {adapter: cmmd}"))
    assert yaml.safe_load(params.read_text())["datasets"]["cmmd"] == {"adapter": "cmmd"}
    assert ran(repository, "split table1") == {
        "index@cmmd",
        "shards@direct-cmmd",
        "shards@cropped-cmmd",
        "split",
        "table1",
    }
    assert len(fvpipe.open_shards(repository / "cache" / "shards" / "direct" / "cmmd")) > 4
    params.write_text(before)


# --- the command line -------------------------------------------------------------------------------------------------


def imported(statement: str) -> set[str]:
    """Top-level modules that a statement imports, in a fresh process."""
    script = f"import sys\n{statement}\nprint('|'.join(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split("|"))


HEAVY = {
    "numpy",
    "cv2",
    "pydicom",
    "pydantic",
    "h5py",
    "dask",
    "distributed",
    "torch",
    "SimpleITK",
    "imagecodecs",
    "matplotlib",
    "rich",
    "yaml",
}


def test_help_and_import_stay_light() -> None:
    assert not imported("import fvpipe; dir(fvpipe)") & HEAVY
    assert not imported("from fvpipe.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass") & HEAVY
    assert not imported("import fvpipe.flow") & {"torch", "SimpleITK", "distributed", "rich"}
    with pytest.raises(AttributeError):
        fvpipe.nothing  # noqa: B018


def commands() -> dict[str, list[str]]:
    """Each command with its options."""
    from fvpipe.cli.main import main

    return {name: [o for p in command.params for o in p.opts if o.startswith("--")] for name, command in main.commands.items()}


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text()
    for name, options in commands().items():
        section = re.search(rf"^## `fvpipe {name}`$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, name
        missing = [
            option
            for option in options
            if f"`{option}" not in section[1] and f"`{option}" not in page.split("## `fvpipe index`")[0]
        ]
        assert not missing, (name, missing)


def test_every_reason_and_flag_is_documented() -> None:
    page = (ROOT / "docs" / "reasons.md").read_text()
    for reason in Reason:
        assert f"| `{reason.value}` | {reason.meaning} |" in page, reason
        assert reason.meaning
    for flag in Flag:
        assert f"| `{str(flag.name).lower()}` | {int(flag).bit_length() - 1} |" in page, flag


def test_every_pipeline_key_is_documented() -> None:
    from fvpipe.config.pipeline import Pipeline

    page = (ROOT / "docs" / "pipelines.md").read_text()
    for name, field in Pipeline.model_fields.items():
        nested = getattr(field.annotation, "model_fields", None)
        for key in nested or [None]:
            assert f"| `{name}{f'.{key}' if key else ''}` |" in page, (name, key)


def test_every_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=~ ]", requirement)[0] for group in groups for requirement in group} - {"fvpipe"}
    assert names == {
        n for line in page.splitlines() if line.startswith("| `") for n in re.findall(r"`([^`]+)`", line.split("|")[1])
    }


def test_lower_bounds_become_constraints() -> None:
    """`DEPENDENCIES=lowest .ci/run` installs the lower bound of each dependency."""
    done = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    names = {re.split(r"[\[<>=~ ]", requirement)[0] for group in groups for requirement in group} - {"fvpipe"}
    lines = done.stdout.splitlines()
    assert {line.partition("==")[0] for line in lines} == names
    assert len(set(lines)) == len(names)  # one bound each: pip takes no two
    assert "numpy==2.0" in lines


def test_ci_runs_every_python_and_each_choice_of_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = sorted(c.rpartition(" ")[2] for c in project["classifiers"] if ":: Python :: 3." in c)
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    stages = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text())
    assert [step["run"] for step in jobs["audit"]["steps"] if "run" in step] == stages["audit"]["script"] == [".ci/audit"]
    github, gitlab = jobs["test"], stages["test"]
    matrix, rows = github["strategy"]["matrix"], gitlab["parallel"]["matrix"]
    assert matrix["python"] == rows[0]["PYTHON_VERSION"] == promised
    assert matrix["dependencies"] == rows[0]["DEPENDENCIES"] == ["constraints", "newest"]
    assert matrix["include"][0]["dependencies"] == rows[1]["DEPENDENCIES"] == "lowest"
    assert matrix["include"][0]["python"] == rows[1]["PYTHON_VERSION"] == promised[0]
    assert github["steps"][-1]["run"] == gitlab["script"][0] == ".ci/run"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_readme_tells_the_truth_about_files() -> None:
    page = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (ROOT / target).exists(), target
    shown = re.findall(r"(?:^ {4}(?:> )?|`)fvpipe ([a-z0-9-]+)", page, re.MULTILINE)
    assert len(shown) > 4
    assert set(shown) <= commands().keys()


def test_readme_code_runs_as_it_stands(repository: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    checks = "assert shards.labels.tolist() == [1, 0, 0, 0]\nassert images.shape[1:] == (256, 256)\nassert images.max() == 1\n"
    (repository / "readme.py").write_text("\n".join(blocks) + checks)
    shell("python readme.py", repository, PYTHONPATH=str(ROOT))


def test_no_machine_address_in_the_tree() -> None:
    """No absolute path of whoever wrote a file, and no package index, gets into the project."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.splitlines()
    pattern = re.compile(rb"/(root|home/\w+|Users/\w+)/|py" rb"pi\.org|files\.python" rb"hosted")
    for name in listed:
        file = ROOT / name
        if file.is_file() and file.suffix not in (".png", ".jpg", ".xlsx"):
            assert not pattern.search(file.read_bytes()), name


# --- the house rules --------------------------------------------------------------------------------------------------


def test_imports_go_one_way() -> None:
    """The contracts of pyproject.toml: layers without a circle, and Dask and PyTorch where they belong."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_without_torch_the_extra_is_named(tmp_path: Path) -> None:
    """Everything but `fvpipe.torch` works without PyTorch, and that says what to install."""
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch')")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import fvpipe; fvpipe.open_shards; fvpipe.torch"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("pip install 'fvpipe[train]'")
