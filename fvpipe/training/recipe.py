"""What a recipe's words mean: learning rate, loss, order of samples, and the seeds of all that is random. Pure."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fvpipe.config.loading import digest_of
from fvpipe.config.training import Recipe
from fvpipe.errors import TrainingError


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Of an epoch, from 0: cosine annealing from `lr` towards 0, or `lr`."""
    return recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2 if recipe.schedule == "cosine" else recipe.lr


def loss_sum(logits: Tensor, labels: Tensor, class_weight: Tensor) -> Tensor:
    """The paper's binary cross-entropy, equation (12), summed: on two logits it is their cross-entropy."""
    logits = logits.float()
    if logits.shape[1] == 2:
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
    else:
        each = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
    return (each * class_weight[labels]).sum()


def class_weight_of(labels: Tensor, recipe: Recipe) -> Tensor:
    """Of benign and malignant; with mean 1 over the training part."""
    counts = torch.bincount(labels.cpu(), minlength=2).float()
    if recipe.imbalance == "none":
        return torch.ones(2)
    if not counts.all():
        raise TrainingError(f"train.imbalance is {recipe.imbalance!r} and the training part holds one class only")
    return counts.sum() / (2 * counts) if recipe.imbalance == "weights" else torch.ones(2)


def sample_order(labels: NDArray[np.int64], recipe: Recipe, generator: torch.Generator) -> Tensor:
    """An epoch's order: every breast once, or as many drawn so that both classes are met equally often."""
    if recipe.imbalance != "balanced":
        return torch.randperm(len(labels), generator=generator)
    of = torch.from_numpy(labels)
    weights = 1.0 / torch.bincount(of, minlength=2).float()[of]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def seed_of(seed: int, purpose: str, epoch: int) -> int:
    """A seed that shares nothing with that of any other purpose or epoch."""
    return int(digest_of([seed, purpose, epoch])[:15], 16)
