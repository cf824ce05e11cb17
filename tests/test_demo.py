"""What `make demo` ends with: by its own settings the lesion is learnt, the control is at chance, and the shortcut is seen."""

from __future__ import annotations

import json
import shutil
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from fvpipe.errors import ParameterError
from fvpipe.simulation import writer
from fvpipe.simulation.lesions import lesions_dataset
from tests.conftest import run
from tests.support.cohort import at

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_ends_as_the_readme_says(tmp_path: Path) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    name, reports = params["compare"]["dataset"], tmp_path / "cache" / "reports"
    params["datasets"] = {each: params["datasets"][each] for each in (name, "phantom-cmmd")}
    params["splits"] = {split: params["splits"][split] for split in params["runs"]["splits"]}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copytree(ROOT / "pipelines", tmp_path / "pipelines")
    with at(tmp_path):
        for form in ("lesions", "cmmd"):
            made = params["phantom"][form]
            options = "--patients", made["patients"], "--seed", made["seed"], "--out", f"data/phantom-{form}"
            run("phantom", "--form", form, *options)
        run("index", "--workers", 0)
        run("build-shards", "--workers", 0, "--dataset", name)
        run("split")
        run("train", "--device", "cpu")
        run("table1", "--out", reports / "table1.json")
        for first, second in params["compare"]["pairs"].items():
            out = reports / "compare" / f"{first}-{second}.json"
            run("compare", first, second, "--dataset", name, "--noise", params["compare"]["noise"], "--out", out)
        answers = {answer["question"]: answer for answer in json.loads(run("summary", "--json").stdout)}
    shortcut = answers.pop("Best score without an image?")
    assert shortcut["answer"] == "manufacturer" and shortcut["value"] > 0.75
    assert {question: answer["answer"] for question, answer in answers.items()} == {
        **{f"Is the lesion learnt, {pipeline}?": "yes" for pipeline in params["pipelines"]},
        **{f"Is {first} better than {second}?": "yes" for first, second in params["compare"]["pairs"].items()},
        **{f"Shuffled labels at chance, {first}?": "yes" for first in params["compare"]["pairs"]},
    }
    assert all(answer["value"] > 0.95 for question, answer in answers.items() if "learnt" in question)


def test_a_simulated_data_set_is_alone_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patients of a run with more of them, or of another seed, stayed and were indexed with the new ones."""

    def two_images(patients: int, seed: int) -> SimpleNamespace:
        return SimpleNamespace(images=islice(lesions_dataset(patients, seed).images, 2), tables=lambda lesions: {})

    monkeypatch.setitem(writer._FORMS, "lesions", two_images)
    for _ in range(2):
        assert writer.write_dataset("lesions", tmp_path, 8, 0) == 2
    (tmp_path / "P0000" / "L-MLO.dcm").rename(tmp_path / "other.dcm")
    with pytest.raises(ParameterError, match=r"also holds other\.dcm, not an image of this data set"):
        writer.write_dataset("lesions", tmp_path, 8, 0)
