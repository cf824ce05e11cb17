"""Settings of training and evaluation: `train`, `runs` and `evaluate` of params.yaml."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fvpipe.config.loading import Names, Numbers, Pair, Positive, Range, Settings, Share, parse


class Augment(Settings):
    """Random changes of training images, drawn anew each epoch; the paper has none.

    The fused image is changed as a whole: a horizontal flip also exchanges the places of CC and MLO.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees, to either side
    shift: Share = 0.0  # of the image's height and width
    scale: Share = 0.0


class Cnn(Settings):
    """Layers of the custom CNN that the paper does not specify."""

    batch_norm: bool = False
    dropout: Share = 0.0
    pooling: Literal["flatten", "global"] = "flatten"


class Front(Settings):
    """The zoom in front of a model, of models that are named ``<model>+zoom``, or ``+random`` and ``+frozen``, its controls."""

    zoom: Annotated[float, Field(ge=1)] = 3.0  # greatest over least magnification along an axis
    size: Pair = (256, 256)  # of the image that the model sees


class Recipe(Settings):
    """Training of one model. Defaults are the paper's; docs/training.md lists those that it does not give."""

    weights: str = "imagenet"  # imagenet, none, or a file; a model without published weights (`cnn`) starts at random
    first_layer: Literal["replicate", "adapt"] = "replicate"  # one channel to three, or weights summed to one
    normalize: Literal["none", "imagenet"] = "none"
    fine_tune: Literal["all", "head"] = "all"
    loss: Literal["two_logits", "one_logit"] = "two_logits"
    lr: Positive = 1e-4
    betas: Range = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    batch: Annotated[int, Field(ge=1)] = 32
    epochs: Annotated[int, Field(ge=1)] = 50
    min_epochs: Annotated[int, Field(ge=1)] = 30
    patience: Annotated[int, Field(ge=1)] = 10  # epochs without a better validation AUC
    imbalance: Literal["none", "weights", "balanced"] = "none"
    augment: Augment = Augment()
    cnn: Cnn = Cnn()
    front: Front = Front()
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: Literal["none", "default", "reduce-overhead"] = "none"  # the last one uses CUDA graphs
    deterministic: bool = True

    @field_validator("betas")
    @classmethod
    def _below_one(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("betas must be two numbers, each from 0 to below 1")
        return value

    @model_validator(mode="after")
    def _epochs_in_order(self) -> Recipe:
        if self.min_epochs > self.epochs:
            raise ValueError(f"min_epochs {self.min_epochs} is more than epochs {self.epochs}")
        return self


class Train(Recipe):
    """``train`` of ``params.yaml``: a recipe, and the values that replace it on simulated data (`demo`)."""

    demo: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _demo_fits(self) -> Train:
        if self.demo:
            self.recipe(simulated=True)
        for weights in (self.weights, self.demo.get("weights", "none")):
            file = PurePosixPath(weights)
            if weights not in ("imagenet", "none") and (file.parts[:1] != ("weights",) or ".." in file.parts):
                # The training stage depends on that folder: DVC does not see a change of a file anywhere else.
                raise ValueError("weights must be imagenet, none, or a file in the folder weights/ (or a link there)")
        return self

    def recipe(self, simulated: bool) -> Recipe:
        """Return the recipe for simulated or for real data; `demo` changes simulated data only."""
        plain = self.model_dump(exclude={"demo"})
        return parse(Recipe, {**plain, **self.demo} if simulated else plain, "train.demo" if simulated else "train")


class Runs(Settings):
    """The grid of runs: each of `models` with each of `seeds`, by each pipeline, on each of `splits`."""

    splits: Names = ()
    models: Names = ("resnet18", "cnn")
    seeds: Numbers = (0,)


class Evaluate(Settings):
    """Settings of the evaluation."""

    bootstrap: Annotated[int, Field(ge=100)] = 2000
    bins: Annotated[int, Field(ge=2)] = 15  # of the expected calibration error
    smallest_group: Annotated[int, Field(ge=1)] = 20  # breasts; metrics of smaller subgroups are not shown
    seed: Annotated[int, Field(ge=0)] = 0
