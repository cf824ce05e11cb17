"""Settings of training and evaluation: `train`, `runs` and `evaluate` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from fvpipe.config.loading import Names, Numbers, Positive, Range, Settings, Share, parse


class Augment(Settings):
    """Changes of a training image, drawn anew each epoch. The paper has none.

    The fused image is changed as a whole: a horizontal flip also exchanges the places of CC and MLO.
    """

    horizontal_flip: bool = False
    vertical_flip: bool = False
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0  # degrees, to either side
    shift: Share = 0.0  # of the image's height and width
    scale: Share = 0.0


class Cnn(Settings):
    """Layers of the custom CNN that the paper leaves open."""

    batch_norm: bool = False
    dropout: Share = 0.0
    pooling: Literal["flatten", "global"] = "flatten"


class Recipe(Settings):
    """How one model is trained. The defaults are the paper's, or what docs/training.md says where it is silent."""

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
    """``train`` of ``params.yaml``: a recipe, and what is otherwise where data are made."""

    demo: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _demo_fits(self) -> Train:
        if self.demo:
            self.recipe(made=True)
        return self

    def recipe(self, made: bool) -> Recipe:
        """The recipe for made or for real data: `demo` never touches real ones."""
        plain = self.model_dump(exclude={"demo"})
        return parse(Recipe, {**plain, **self.demo} if made else plain, "train.demo" if made else "train")


class Runs(Settings):
    """Which models are trained: each of `models` with each of `seeds`, by each pipeline, on each of `splits`."""

    splits: Names = ()
    models: Names = ("resnet18", "cnn")
    seeds: Numbers = (0,)


class Evaluate(Settings):
    """How predictions are judged."""

    bootstrap: Annotated[int, Field(ge=100)] = 2000
    bins: Annotated[int, Field(ge=2)] = 15  # of the calibration error
    smallest_group: Annotated[int, Field(ge=1)] = 20  # breasts; figures of smaller subgroups are not shown
    seed: Annotated[int, Field(ge=0)] = 0
