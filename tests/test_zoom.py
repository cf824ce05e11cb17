"""The zoom in front of a model, the views in an image, and the two-stream model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy

from fvpipe.config.pipeline import Fuse
from fvpipe.config.training import Front, Recipe
from fvpipe.errors import ParameterError
from fvpipe.training.gradcam import heat_map
from fvpipe.training.network.model import TwoStream, build_model
from fvpipe.training.network.views import ViewLayout
from fvpipe.training.network.zoom import METHODS, Method, ZoomFront

EACH = Fuse(align="each")
RANDOM = Recipe(weights="none", front=Front(size=(32, 32)))
SHAPES = {"side_by_side": (1, 96, 96), "stacked": (1, 96, 96), "channels": (2, 96, 48), "cc": (1, 96, 48), "mlo": (1, 96, 48)}


def fuse(layout: str) -> Fuse:
    return Fuse.model_validate({"layout": layout, "align": "each"})


def front(
    method: Method = "zoom", layout: str = "side_by_side", size: tuple[int, int] = (32, 32), zoom: float = 3.0
) -> ZoomFront:
    torch.manual_seed(1)
    return ZoomFront(method, zoom, ViewLayout(fuse(layout), SHAPES[layout]), size)


def images(count: int = 2, layout: str = "side_by_side", seed: int = 0) -> Tensor:
    return torch.rand((count, *SHAPES[layout]), generator=torch.Generator().manual_seed(seed))


def moved(found: ZoomFront) -> ZoomFront:
    """As after some training."""
    with torch.no_grad():
        for parameter in found.saliency[-1:].parameters():
            parameter.normal_(std=3.0, generator=torch.Generator().manual_seed(2))
    return found


@pytest.mark.parametrize("layout", SHAPES)
def test_views_come_apart_and_together(layout: str) -> None:
    given_images, views = images(3, layout), ViewLayout(fuse(layout), SHAPES[layout])
    apart = views.split(given_images)
    assert apart.shape == (3 * views.count, 1, *views.view_shape)
    torch.testing.assert_close(views.join(apart), given_images, rtol=0, atol=0)
    if layout == "side_by_side":
        torch.testing.assert_close(apart[1, 0], given_images[0, 0, :, 48:], rtol=0, atol=0)  # MLO of the first image


@pytest.mark.parametrize("layout", ["side_by_side", "channels", "cc"])
def test_training_starts_from_plain_area_reduction(layout: str) -> None:
    size = (32, 32) if layout == "side_by_side" else (32, 16)
    given_images = images(layout=layout)
    torch.testing.assert_close(front(layout=layout, size=size)(given_images), avg_pool2d(given_images, 3), rtol=0, atol=1e-6)
    mean = front(layout=layout, size=(36, 20))(given_images).mean((1, 2, 3))  # no whole number of pixels in a cell
    torch.testing.assert_close(mean, given_images.mean((1, 2, 3)), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(METHODS), st.floats(1, 6), st.integers(0, 99))
def test_cells_cover_every_pixel_once_and_the_zoom_is_bounded(method: Method, zoom: float, seed: int) -> None:
    found = moved(front(method, zoom=zoom))
    for overlaps, length in zip(found.cells(found.layout.split(images(seed=seed))), (96, 48), strict=True):
        torch.testing.assert_close(overlaps.sum(1), torch.ones(4, length), rtol=0, atol=1e-4)
        cells = overlaps.sum(2)
        assert float((cells.amax(1) / cells.amin(1)).max()) <= zoom * 1.01


def test_what_is_salient_gets_more_pixels() -> None:
    found = front()
    with torch.no_grad():
        last = found.saliency[-1]
        assert isinstance(last, nn.Conv2d)
        last.weight.zero_()

    def priorities(views: Tensor) -> tuple[Tensor, Tensor]:
        rows, columns = torch.zeros(len(views), 96), torch.zeros(len(views), 48)
        rows[:, 40:60] = columns[:, 10:20] = 1
        return rows, columns

    found.priorities = priorities  # type: ignore[method-assign]
    down, across = found.cells(found.layout.split(images()))
    assert float(down[:, :, 45:55].sum(2).gt(0).sum(1).min()) > 2 * 10 * 32 / 96
    assert float(across[:, :, 12:18].sum(2).gt(0).sum(1).min()) > 1.5 * 6 * 16 / 48


def test_gradients_are_those_of_differences() -> None:
    found, given_images = moved(front()).double(), images().double()
    weight = torch.rand((2, 1, 32, 32), generator=torch.Generator().manual_seed(3)).double()
    parameters = [parameter for parameter in found.parameters() if parameter.requires_grad]
    (found(given_images) * weight).sum().backward()
    generator = torch.Generator().manual_seed(4)
    directions = [torch.randn(parameter.shape, generator=generator).double() for parameter in parameters]
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    expected = float(torch.stack([(g * d).sum() for g, d in zip(gradients, directions, strict=True)]).sum())
    step, ends = 1e-7, []
    for sign in (1, -1):
        with torch.no_grad():
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.add_(direction, alpha=sign * step)
            ends.append(float((found(given_images) * weight).sum()))
            for parameter, direction in zip(parameters, directions, strict=True):
                parameter.sub_(direction, alpha=sign * step)
    assert abs(expected) > 1e-3
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(expected, rel=1e-3)


def test_controls_are_not_trained_and_the_same_every_time() -> None:
    for method in ("random", "frozen"):
        found = front(method)  # type: ignore[arg-type]
        assert not [parameter for parameter in found.parameters() if parameter.requires_grad]
        torch.testing.assert_close(found(images()), found(images()), rtol=0, atol=0)
        assert not torch.allclose(found(images()), avg_pool2d(images(), 3), atol=1e-3)
    other = front("random").priorities(front("random").layout.split(images(8)))[0]
    assert len({tuple(row.tolist()) for row in other}) > 4  # another window for other pixels


def lesions(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images of noise, of which every other has a bright spot of two pixels of the reduced view in each view; and its row."""
    generator = torch.Generator().manual_seed(seed)
    drawn, labels = images(count, seed=seed) * 0.3, torch.arange(count) % 2
    rows = torch.randint(8, 86, (count, 2), generator=generator)
    columns = torch.randint(4, 42, (count, 2), generator=generator)
    for i in range(1, count, 2):
        for v in range(2):
            row, column = int(rows[i, v]), int(columns[i, v]) + 48 * v
            drawn[i, 0, row : row + 2, column : column + 2] += 0.6
    return drawn, labels, rows


def test_a_learned_zoom_finds_the_lesion() -> None:
    """After six epochs on 64 images the rows of lesions of other images have more priority than by the random control."""
    control = front("random")
    torch.manual_seed(3)
    found = ZoomFront("zoom", 3.0, control.layout, (32, 32))
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1)]
    net = nn.Sequential(found, *layers, nn.Flatten(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    drawn, labels, _ = lesions(64, 0)
    for epoch in range(6):  # after three, it depends on the version of PyTorch
        for chunk in torch.randperm(64, generator=torch.Generator().manual_seed(epoch)).split(8):
            optimizer.zero_grad()
            cross_entropy(net(drawn[chunk]), labels[chunk]).backward()
            optimizer.step()
    drawn, labels, rows = lesions(64, 1)
    at_lesions = []
    for judged in (found, control):
        with torch.no_grad():
            priority, _ = judged.priorities(judged.layout.split(drawn[labels == 1]))
        assert priority.shape == (64, 96)
        at_lesions.append(float(priority.gather(1, rows[labels == 1].flatten()[:, None] + 1).mean() / priority.mean()))
    assert at_lesions[0] > 1.4 > 1.2 > at_lesions[1], at_lesions  # of the mean of all rows


def test_a_head_alone_is_not_trained_where_a_zoom_would_stay_untrained() -> None:
    head = RANDOM.model_copy(update={"fine_tune": "head"})
    for name in ("cnn+zoom", "two_stream"):
        with pytest.raises(ParameterError, match=r"train\.fine_tune 'head' would leave its own layers untrained"):
            build_model(name, head, (1, 96, 96), 0, EACH)
    with pytest.raises(ParameterError, match="no front ''"):
        build_model("cnn+", RANDOM, (1, 96, 96), 0, EACH)


def test_an_output_larger_than_the_images_is_refused() -> None:
    with pytest.raises(ParameterError, match="a zoom reduces them"):
        front(size=(128, 96))
    with pytest.raises(ParameterError, match="hold no 2 views of one size"):
        front(size=(32, 31))
    with pytest.raises(ParameterError, match="no front 'zooom'; known: zoom, random, frozen"):
        build_model("cnn+zooom", RANDOM, (1, 96, 96), 0, EACH)


def test_views_whose_border_is_not_known_are_refused() -> None:
    """With `align: pad` it lies where the crops of a breast put it: half an image would hold a part of the other view."""
    for name in ("cnn+zoom", "two_stream"):
        with pytest.raises(ParameterError, match=r"with fuse\.align 'pad' their border differs from breast to breast"):
            build_model(name, RANDOM, (1, 96, 96), 0, Fuse())
    with pytest.raises(ParameterError, match="first_layer 'adapt' is not for it"):
        build_model("two_stream", RANDOM.model_copy(update={"first_layer": "adapt"}), (1, 96, 96), 0, EACH)


def test_half_precision_moves_no_pixel() -> None:
    given_images, found = images(), moved(front())
    with torch.autocast("cpu", torch.bfloat16):
        rounded = found(given_images)
    torch.testing.assert_close(rounded, found(given_images), rtol=0, atol=1e-6)


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cnn+zoom", "resnet18+frozen", "two_stream", "two_stream+random"])
@pytest.mark.parametrize("layout", ["side_by_side", "channels"])
def test_models_and_their_heat_maps(name: str, layout: str) -> None:
    recipe = RANDOM.model_copy(update={"front": Front(size=(64, 64) if layout == "side_by_side" else (64, 32))})
    model, source = build_model(name, recipe, SHAPES[layout], 0, fuse(layout))
    assert source.startswith("random")
    assert model.eval()(images(3, layout)).shape == (3, 2)
    heat = heat_map(model, images(1, layout)[0].numpy())
    assert heat.shape == SHAPES[layout][1:]
    assert np.isfinite(heat).all()
    assert heat.max() in (0, 1)


def test_heat_is_mapped_back_through_the_zoom() -> None:
    found, given_images = moved(front()), images()
    torch.testing.assert_close(
        found.to_input(torch.ones(4, 1, 32, 16), given_images), torch.ones(4, 1, 96, 48), rtol=0, atol=1e-4
    )
    down, across = found.cells(found.layout.split(given_images))
    heat = torch.zeros(4, 1, 32, 16)
    heat[:, 0, 20, 5] = 1
    back = found.to_input(heat, given_images)[0, 0]
    row, column = divmod(int(back.argmax()), 48)
    assert down[0, 20, row] > 0
    assert across[0, 5, column] > 0


def test_both_streams_share_their_trunk() -> None:
    model, _ = build_model("two_stream", RANDOM, (1, 96, 96), 0, EACH)
    assert isinstance(model.net, TwoStream)
    single, _ = build_model("resnet18", RANDOM, (1, 96, 96), 0, EACH)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in single.parameters()) + 512 * 256 + 256
    with pytest.raises(ParameterError, match="needs both views in an image; the pipeline's layout is 'cc'"):
        build_model("two_stream", RANDOM, (1, 96, 48), 0, fuse("cc"))


def test_a_weight_file_of_resnet18_fits_the_trunk(tmp_path: Path) -> None:
    single, _ = build_model("resnet18", RANDOM, (1, 96, 96), 7, EACH)
    file = tmp_path / "resnet18.pt"
    torch.save(single.net.state_dict(), file)
    model, source = build_model("two_stream", RANDOM.model_copy(update={"weights": str(file)}), (1, 96, 96), 0, EACH)
    assert "resnet18.pt" in source
    torch.testing.assert_close(model.state_dict()["net.trunk.net.0.weight"], single.state_dict()["net.conv1.weight"])
    torch.testing.assert_close(
        model.state_dict()["net.after.0.0.conv1.weight"], single.state_dict()["net.layer4.0.conv1.weight"]
    )


@pytest.mark.slow
def test_onnx_of_a_model_behind_a_zoom(tmp_path: Path) -> None:
    import onnxruntime

    model, _ = build_model("cnn+zoom", RANDOM, (1, 96, 96), 0, EACH)
    moved(next(module for module in model.modules() if isinstance(module, ZoomFront)))
    model.eval()
    program = torch.onnx.export(
        model, (images(2),), input_names=["image"], dynamo=True, verbose=False,
        dynamic_shapes={"images": {0: torch.export.Dim("n", min=1)}},
    )  # fmt: skip
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = model(images(5, seed=9)).numpy()
    np.testing.assert_allclose(session.run(None, {"image": images(5, seed=9).numpy()})[0], expected, atol=1e-5)
