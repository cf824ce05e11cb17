"""Networks: the paper's custom CNN, any classifier of torchvision with its input and head adapted, and a two-stream network.

``<model>+zoom`` is a model behind a learned zoom, ``+random`` and ``+frozen`` behind its controls.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import torch
from blake3 import blake3
from torch import Tensor, nn

from fvpipe.config.pipeline import Fuse
from fvpipe.config.training import Cnn, Recipe
from fvpipe.errors import CheckpointError, DependencyError, ParameterError
from fvpipe.regular_files import read_regular
from fvpipe.training.network.views import ViewLayout
from fvpipe.training.network.zoom import METHODS, ZoomFront

MAX_WEIGHT_BYTES = 1 << 34  # of a file of weights, or a checkpoint, which is four times as large
SINGLE_IMAGE = Fuse()  # of models that take an image as a whole
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class Classifier(nn.Module):
    """Map images (n, C, H, W) in [0, 1] to logits: (n, 2), benign and malignant; or (n, 1).

    Parameters
    ----------
    channels : int
        Input channels of `net`; a single channel is replicated to as many.
    normalize : bool
        First subtract ImageNet's mean and divide by its standard deviation.
    """

    def __init__(self, net: nn.Module, channels: int, normalize: bool) -> None:
        super().__init__()
        self.net, self.channels, self.normalize = net, channels, normalize
        mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
        self.mean: Tensor
        self.deviation: Tensor
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("deviation", deviation, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits."""
        if images.shape[1] != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        if self.normalize:
            images = (images - self.mean) / self.deviation
        return self.net(images)  # type: ignore[no-any-return]


def probability(logits: Tensor) -> Tensor:
    """Probability of malignant, shape (n,)."""
    logits = logits.float()
    return logits.softmax(1)[:, 1] if logits.shape[1] == 2 else logits[:, 0].sigmoid()


def build_model(
    name: str, recipe: Recipe, image_shape: tuple[int, ...], seed: int, fuse: Fuse = SINGLE_IMAGE
) -> tuple[Classifier, str]:
    """Make a network with its initial weights.

    Parameters
    ----------
    name : str
        ``cnn``, ``two_stream``, or a classifier of torchvision; with ``+zoom``, ``+random`` or ``+frozen`` behind a zoom.
    image_shape : (int, int, int)
        Channels, rows, columns.
    seed : int
        Seed of the weights that start at random.
    fuse : Fuse
        Places of the views in the images, for models that take them apart.

    Returns
    -------
    (Classifier, str)
        The network, and the origin of its weights; a weight file is named with its digest.

    Raises
    ------
    ParameterError
        No such model, or it does not take such images.
    CheckpointError
        Weights that are missing, cannot be fetched, hold code or do not fit.
    DependencyError
        torch and torchvision do not match.
    """
    channels, outputs = image_shape[0], 2 if recipe.loss == "two_logits" else 1
    torch.manual_seed(seed)
    base, plus, method = name.partition("+")
    if (plus or base == "two_stream") and recipe.fine_tune == "head":
        raise ParameterError(f"model {name!r}: train.fine_tune 'head' would leave its own layers untrained; expected 'all'")
    front = None
    if plus:
        layout = ViewLayout(fuse, image_shape)
        if method not in METHODS:
            raise ParameterError(f"model {name!r}: no front {method!r}; known: {', '.join(METHODS)}")
        front = ZoomFront(method, recipe.front.zoom, layout, recipe.front.size)
    shape = front.output.image_shape if front else image_shape
    trunk = "resnet18" if base == "two_stream" else base
    if base == "two_stream" and recipe.first_layer == "adapt":
        raise ParameterError(f"model {name!r}: train.first_layer 'adapt' is not for it; its streams take three channels each")
    if base == "cnn":
        model = Classifier(custom_cnn(shape, outputs, recipe.cnn), channels, False)
    else:
        model = _from_torchvision(trunk, recipe, 1 if base == "two_stream" else channels, outputs)
    source = _start(model, trunk, recipe)
    if base == "two_stream":
        model = Classifier(TwoStream(model, ViewLayout(fuse, shape)), channels, False)
    if front is not None:
        model = Classifier(nn.Sequential(front, model), channels, False)
    try:
        model.eval()
        with torch.inference_mode():
            model(torch.zeros(1, *image_shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        size = " x ".join(map(str, image_shape))
        raise ParameterError(f"model {name!r} does not take images of {size}: {str(error).splitlines()[0]}") from None
    return model, source


def custom_cnn(image_shape: tuple[int, ...], outputs: int, settings: Cnn) -> nn.Sequential:
    """Build the custom CNN: five times 3x3 convolution, ReLU and 2x2 pooling, then two full layers.

    It has 2,489,858 parameters at 1x256x256. The paper draws it and gives no layer sizes: these are our choice.
    """
    channels, rows, columns = image_shape
    layers: list[nn.Module] = []
    for width in (16, 32, 64, 128, 256):
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if settings.batch_norm:
            layers.append(nn.BatchNorm2d(width))
        layers += [nn.ReLU(), nn.MaxPool2d(2)]
        channels, rows, columns = width, rows // 2, columns // 2
    if settings.pooling == "global":
        layers.append(GlobalMaxPool())
        rows = columns = 1
    layers += [nn.Flatten(), nn.Linear(channels * rows * columns, 128), nn.ReLU()]
    if settings.dropout:
        layers.append(nn.Dropout(settings.dropout))
    return nn.Sequential(*layers, nn.Linear(128, outputs))


class GlobalMaxPool(nn.Module):
    """Global max pooling; the gradient of ``AdaptiveMaxPool2d`` is not deterministic on a GPU, and rejected there."""

    def forward(self, maps: Tensor) -> Tensor:
        """Reduce (n, C, H, W) to (n, C, 1, 1)."""
        return maps.amax((2, 3), keepdim=True)


class TwoStream(nn.Module):
    """ResNet18 with one trunk for both views, whose maps are concatenated after the third stage.

    Parameters
    ----------
    classifier : Classifier
        ResNet18 for three channels; its parts are taken over with their weights.
    layout : ViewLayout
        Where the views lie in the images.

    Raises
    ------
    ParameterError
        The images hold one view alone.
    """

    def __init__(self, classifier: Classifier, layout: ViewLayout) -> None:
        super().__init__()
        if layout.count < 2:
            raise ParameterError(
                f"model 'two_stream' needs both views in an image; the pipeline's layout is {layout.fuse.layout!r}"
            )
        net: Any = classifier.net
        stem = [net.conv1, net.bn1, net.relu, net.maxpool, net.layer1, net.layer2, net.layer3]
        self.trunk, self.layout = Classifier(nn.Sequential(*stem), 3, classifier.normalize), layout
        self.join = nn.Conv2d(2 * 256, 256, 1)
        self.after = nn.Sequential(net.layer4, net.avgpool, nn.Flatten(), net.fc)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits of images (n, C, H, W)."""
        maps = self.trunk(self.layout.split(images))
        return self.after(self.join(maps.unflatten(0, (-1, 2)).flatten(1, 2)))  # type: ignore[no-any-return]


# --- torchvision ------------------------------------------------------------------------------------------------------


def torchvision_models() -> Any:
    """Import ``torchvision.models``.

    Raises
    ------
    DependencyError
        It is not installed, or built for another torch; the message names the pair to install.
    """
    try:
        import torchvision.models
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        try:
            found, needed = version("torchvision"), next(r for r in requires("torchvision") or [] if r.startswith("torch"))
        except (PackageNotFoundError, StopIteration):
            raise DependencyError(f"torchvision cannot be imported ({error}): pip install 'fvpipe[train]'") from None
        # Some releases ask for "at least" the torch that they were built for, which the one here may well be.
        built_for = re.search(r"\d+(\.\d+)+", needed)
        pair = f"torch~={built_for[0]}" if built_for else "torch"
        raise DependencyError(
            f"torchvision {found} does not work with torch {version('torch')} ({str(error).splitlines()[0]}); install a pair "
            f"that belongs together: pip install '{pair}' 'torchvision=={found.partition('+')[0]}'"
        ) from None
    return torchvision.models


def _from_torchvision(name: str, recipe: Recipe, channels: int, outputs: int) -> Classifier:
    models = torchvision_models()
    known = models.list_models(module=models)
    if name not in known:
        raise ParameterError(f"no model {name!r}; known: cnn, two_stream, {', '.join(known)}")
    options = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    net: nn.Module = models.get_model(name, weights=None, num_classes=outputs, **options)
    replicate = channels == 1 and recipe.first_layer == "replicate"
    if recipe.normalize == "imagenet" and not replicate:
        raise ParameterError("train.normalize 'imagenet' needs three channels: one channel and first_layer 'replicate'")
    if not replicate:
        _adapt_first_layer(net, channels)
    return Classifier(net, 3 if replicate else channels, recipe.normalize == "imagenet")


def _first_layer(net: nn.Module) -> str:
    return next(str(name) for name, module in net.named_modules() if isinstance(module, nn.Conv2d))


def _adapt_first_layer(net: nn.Module, channels: int) -> None:
    name = _first_layer(net)
    old = net.get_submodule(name)
    assert isinstance(old, nn.Conv2d)
    new = nn.Conv2d(
        channels, old.out_channels, old.kernel_size, old.stride, old.padding,  # type: ignore[arg-type]
        old.dilation, 1, old.bias is not None,  # type: ignore[arg-type]
    )  # fmt: skip
    parent, _, leaf = name.rpartition(".")
    setattr(net.get_submodule(parent), leaf, new)


# --- initial weights ----------------------------------------------------------------------------------------------


def _start(model: Classifier, name: str, recipe: Recipe) -> str:
    if recipe.weights == "none":
        return "random, as asked"
    if recipe.weights != "imagenet":
        state, digest = _read_weights(Path(recipe.weights))
        _load(model.net, state, recipe.weights)
        return f"the file {Path(recipe.weights).name}, BLAKE3 {digest}"
    if name == "cnn":
        return "random: the custom CNN has no published weights"
    try:
        models = torchvision_models()
        weights = models.get_model_weights(name).DEFAULT
        state = models.get_model(
            name, weights=weights, progress=False
        ).state_dict()  # it renames what older files call otherwise
    except Exception as error:  # urllib, ssl and socket raise what they like; a wrong hash is a RuntimeError
        raise CheckpointError(
            f"the ImageNet weights of {name!r} cannot be fetched ({type(error).__name__}); give a file (train.weights or "
            "--weights FILE), or ask for random ones: --weights none"
        ) from None
    _load(model.net, state, f"ImageNet weights of {name}")
    return f"ImageNet ({weights})"


def _read_weights(path: Path) -> tuple[Mapping[str, Tensor], str]:
    """Read the tensors of a ``.safetensors`` or torch file without running code in it; and its digest."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file (train.weights: imagenet, none, or a file)")
    try:
        data = read_regular(path, MAX_WEIGHT_BYTES)
        state = load(data) if path.suffix == ".safetensors" else torch.load(io.BytesIO(data), "cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as weights, or holds more than numbers ({type(error).__name__}); it was not loaded"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds no plain mapping of names to tensors")
    return state, blake3(data).hexdigest()[:16]


def _load(net: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load every tensor; only the head, and a first layer of other channels, may differ in shape."""
    own = net.state_dict()
    # A larger network of the same family has all tensors of a smaller one, so surplus is an error. Auxiliary heads are dropped.
    surplus = [key for key in state if key not in own and not key.lower().startswith("aux")]
    if surplus:
        raise CheckpointError(
            f"{where}: {len(surplus)} unexpected tensors, for example {surplus[0]}. It belongs to another model"
        )
    first, head = f"{_first_layer(net)}.weight", _head(net)
    taken = {}
    for key, value in own.items():
        found = state.get(key)
        if found is not None and found.shape == value.shape:
            taken[key] = found
        elif key == first and found is not None and found.shape[2:] == value.shape[2:] and value.shape[1] < found.shape[1]:
            # What one replicated channel would see: the sum; several channels share it.
            taken[key] = (found.sum(1, keepdim=True) / value.shape[1]).expand_as(value).clone()
        elif not key.startswith(f"{head}.") and not key.endswith("num_batches_tracked"):
            shape = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise CheckpointError(f"{where}: {key} is {shape}; expected {tuple(value.shape)}. It belongs to another model")
    net.load_state_dict({**own, **taken})


def _head(net: nn.Module) -> str:
    """Name of the last layer that has weights."""
    return [str(name) for name, module in net.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)][-1]


def freeze_all_but_head(net: nn.Module) -> None:
    """Exclude every parameter but the head's from training."""
    head = _head(net)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name.startswith(head))
