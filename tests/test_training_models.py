"""The equations of the training stage, its models, and where their first weights come from."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fvpipe.config.training import Cnn, Recipe
from fvpipe.datasets.registry import get_adapter
from fvpipe.errors import (
    CheckpointError,
    DependencyError,
    ParameterError,
)
from fvpipe.evaluation.training_record import Run
from fvpipe.training.licenses import initial_licenses, initial_record, license_text, restricting_licenses, seen_before
from fvpipe.training.network.model import GlobalMaxPool, build_model, freeze_all_but_head
from fvpipe.training.recipe import learning_rate, loss_sum
from tests.support.trained import made

EMBED = get_adapter("embed").license

# --- equations --------------------------------------------------------------------------------------------------------


def test_cross_entropy_on_two_logits_is_the_papers_bce() -> None:
    """Equations (5), (12) and (13), in double precision."""
    rng = np.random.default_rng(0)
    logits, y = rng.normal(0, 3, (200, 2)).astype(np.float32), rng.integers(0, 2, 200)
    e = np.exp(logits.astype(np.float64))
    p = e[:, 1] / e.sum(axis=1)
    paper = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    ones = torch.ones(2)
    ours = loss_sum(torch.from_numpy(logits), torch.from_numpy(y), ones).item() / 200
    assert ours == pytest.approx(paper, abs=1e-6)
    difference = torch.from_numpy(logits[:, 1:] - logits[:, :1])
    assert loss_sum(difference, torch.from_numpy(y), ones).item() / 200 == pytest.approx(paper, abs=1e-6)


def test_adam_is_the_papers() -> None:
    """Equations (7) to (11), step by step."""
    recipe = Recipe()
    rng = np.random.default_rng(1)
    theta, gradients = rng.normal(size=5), rng.normal(size=(20, 5))
    parameter = nn.Parameter(torch.tensor(theta.copy()))
    optimizer = torch.optim.Adam([parameter], recipe.lr, recipe.betas, recipe.eps, recipe.weight_decay)
    m = v = np.zeros(5)
    (b1, b2), alpha, eps = recipe.betas, recipe.lr, recipe.eps
    for t, g in enumerate(gradients, 1):
        parameter.grad = torch.tensor(g)
        optimizer.step()
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        theta = theta - alpha * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    np.testing.assert_allclose(parameter.detach().numpy(), theta, rtol=0, atol=1e-12)


def test_recipe_is_the_papers() -> None:
    recipe = Recipe()
    assert (recipe.lr, recipe.betas, recipe.eps, recipe.batch) == (1e-4, (0.9, 0.999), 1e-8, 32)
    assert (recipe.min_epochs, recipe.epochs, recipe.patience, recipe.weights) == (30, 50, 10, "imagenet")
    assert learning_rate(recipe, 0) == 1e-4
    assert learning_rate(recipe, 25) == pytest.approx(5e-5)
    assert 0 < learning_rate(recipe, 49) < 1e-6


# --- models -----------------------------------------------------------------------------------------------------------

PLAIN = Recipe(weights="none")


def test_custom_cnn_has_the_stated_size() -> None:
    model, source = build_model("cnn", Recipe(), (1, 256, 256), 0)
    assert sum(p.numel() for p in model.parameters()) == 2_489_858
    assert "no published weights" in source
    other, _ = build_model("cnn", Recipe(cnn=Cnn(batch_norm=True, dropout=0.5, pooling="global")), (1, 256, 256), 0)
    assert {type(layer) for layer in other.net.modules()} >= {nn.BatchNorm2d, nn.Dropout, GlobalMaxPool}
    maps = torch.rand(2, 3, 4, 5)
    assert torch.equal(GlobalMaxPool()(maps), nn.AdaptiveMaxPool2d(1)(maps))


def test_same_seed_same_weights() -> None:
    a, b, c = (build_model("cnn", PLAIN, (1, 64, 64), seed)[0].state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not all(torch.equal(a[name], c[name]) for name in a)


def test_resnet_takes_one_and_two_channels(tmp_path: Path) -> None:
    replicated, _ = build_model("resnet18", PLAIN, (1, 64, 64), 0)
    file = tmp_path / "weights.pt"
    torch.save(replicated.net.state_dict(), file)
    given = PLAIN.model_copy(update={"weights": str(file)})
    adapted, source = build_model("resnet18", given.model_copy(update={"first_layer": "adapt"}), (1, 64, 64), 1)
    assert source.startswith("the file weights.pt, BLAKE3 ")
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():  # one channel of summed weights sees what three equal ones see
        torch.testing.assert_close(adapted(images), replicated(images), rtol=1e-4, atol=1e-4)
        two, _ = build_model("resnet18", given, (2, 64, 64), 0)
        torch.testing.assert_close(two(images.expand(-1, 2, -1, -1)), replicated(images), rtol=1e-4, atol=1e-4)
    freeze_all_but_head(replicated.net)
    assert {n for n, p in replicated.net.named_parameters() if p.requires_grad} == {"fc.weight", "fc.bias"}


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "squeezenet1_1"])
def test_any_classifier_of_torchvision(name: str) -> None:
    model, _ = build_model(name, PLAIN, (1, 64, 64), 0)
    assert model(torch.rand(2, 1, 64, 64)).shape == (2, 2)


def test_wrong_models_and_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"no model 'resnet19'; known: cnn, two_stream, alexnet"):
        build_model("resnet19", PLAIN, (1, 64, 64), 0)
    with pytest.raises(ParameterError, match="'vit_b_16' does not take images of 1 x 64 x 64"):
        build_model("vit_b_16", PLAIN, (1, 64, 64), 0)
    with pytest.raises(CheckpointError, match="no such weight file"):
        build_model("cnn", Recipe(weights=str(tmp_path / "none.pt")), (1, 64, 64), 0)
    code = tmp_path / "code.pt"
    torch.save({"a": Path}, code)
    with pytest.raises(CheckpointError, match="holds more than numbers"):
        build_model("cnn", Recipe(weights=str(code)), (1, 64, 64), 0)
    torch.save(build_model("cnn", PLAIN, (1, 64, 64), 0)[0].net.state_dict(), tmp_path / "cnn.pt")
    greater = build_model("resnet34", PLAIN, (1, 64, 64), 0)[
        0
    ].net.state_dict()  # whose tensors have all names and shapes of 18
    torch.save(greater, tmp_path / "resnet34.pt")
    for file in ("cnn.pt", "resnet34.pt"):
        with pytest.raises(CheckpointError, match="belongs to another model"):
            build_model("resnet18", Recipe(weights=str(tmp_path / file)), (1, 64, 64), 0)


@pytest.mark.fault(37)
def test_absent_weights_without_a_network_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection goes to a proxy that is not there; nothing random takes the place of the weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for variable in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:1")
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(urllib.request, "_opener", None)  # made anew, with these settings
    with pytest.raises(CheckpointError, match=r"cannot be fetched \(URLError\); give a file .* --weights none"):
        build_model("resnet18", Recipe(), (1, 64, 64), 0)


def test_torch_and_torchvision_that_do_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.models", None)  # its import fails, as with another torch
    with pytest.raises(
        DependencyError, match=r"install a pair that belongs together: pip install 'torch~=2\.\d+\.\d+' 'torchvision==\d"
    ):
        build_model("resnet18", PLAIN, (1, 64, 64), 0)


# --- licenses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("adapter", "license", "is_restricted"),
    [
        ("cmmd", "CC BY 4.0", False),
        ("embed", "ours", True),
        ("cmmd", EMBED, True),  # shards that were built before params.yaml named another adapter
        ("clinic.yaml", "ours", True),  # forbids it
        ("free.yaml", "ours", False),
        ("other.yaml", "ours", True),  # not at hand
        ("no-such-package", "ours", True),
    ],
)
def test_a_model_has_the_licenses_of_its_data_and_of_its_initial_weights(
    adapter: str, license: str, is_restricted: bool, tmp_path: Path
) -> None:
    (tmp_path / "free.yaml").write_text("name: free\nlicense: ours\n")
    (tmp_path / "clinic.yaml").write_text("name: clinic\nlicense: ours\nrelease_models: false\n")
    place = Run("cropped", "s", "cnn", 0)
    record = made(place, [], made=False, adapters={"a": adapter}, licenses={"a": license}).record
    assert restricting_licenses(record, tmp_path) == ({"a": license} if is_restricted else {})
    simulated = record.model_copy(update={"simulated": True})  # which params.yaml may say by now of shards of EMBED
    assert bool(restricting_licenses(simulated, tmp_path)) == (license == EMBED)
    if adapter.endswith(".yaml"):
        assert restricting_licenses(record, None)
    file = tmp_path / "start.safetensors"
    for _ in range(2):  # of weights that began as others, too
        save_file({"x": torch.ones(1)}, file, {"fvpipe": record.to_json()})
        assert initial_licenses(initial_record(str(file))) == {"a (initial weights)": (adapter, license)}
        changes = {
            "simulated": True,
            "adapters": {"a (initial weights)": adapter},
            "licenses": {"a (initial weights)": license},
        }
        record = record.model_copy(update=changes)


def test_licenses_lie_beside_a_model() -> None:
    """Of RSNA, whose license forbids commerce alone, too."""
    place, licenses = Run("cropped", "s", "cnn", 0), {"r": "non-commercial", "e": "not to be released"}
    record = made(place, [], made=False, adapters={"r": "rsna", "e": "embed"}, licenses=licenses).record
    restricting = restricting_licenses(record, None)
    assert license_text(record, restricting) == "Not to be released.\ne: not to be released\nr: non-commercial\n"
    record = record.model_copy(update={"adapters": {"r": "rsna"}, "licenses": {"r": "non-commercial"}})
    assert license_text(record, restricting_licenses(record, None)) == "Trained on:\nr: non-commercial\n"
    assert license_text(record.model_copy(update={"simulated": True}), {}) == ""


def test_weights_that_say_nothing_of_data(tmp_path: Path) -> None:
    simulated = made(Run("cropped", "s", "cnn", 0), []).record
    for metadata in ({}, {"fvpipe": simulated.to_json()}):
        save_file({"x": torch.ones(1)}, tmp_path / "w.safetensors", metadata)
        assert initial_licenses(initial_record(str(tmp_path / "w.safetensors"))) == {}
    assert initial_record("imagenet") is initial_record("weights/x.pt") is None
    assert initial_licenses(None) == {} and seen_before(None, "", ["a"]) == []
    with pytest.raises(CheckpointError, match=r"none\.safetensors: cannot be read as weights"):
        initial_record(str(tmp_path / "none.safetensors"))


def test_initial_weights_of_another_split_may_have_seen_the_test_part() -> None:
    record = made(Run("cropped", "s", "cnn", 0), []).record
    assert seen_before(record, record.split_digest, ["a", "b"]) == []  # it learnt from the same breasts
    assert seen_before(record, "another", ["a", "b"]) == ["a"]
    older = record.model_copy(update={"adapters": {"b": "vindr", "a (initial weights)": "cmmd"}})
    assert seen_before(older, record.split_digest, ["a", "b"]) == ["a"]  # of weights before those
