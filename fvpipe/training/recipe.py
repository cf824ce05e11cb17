"""Learning rate, loss, order of samples and random seeds, as the recipe asks. Pure functions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fvpipe.config.loading import digest_of
from fvpipe.config.training import Recipe
from fvpipe.errors import TrainingError


def learning_rate(recipe: Recipe, epoch: int) -> float:
    """Learning rate of an epoch, counted from 0: cosine annealing from `lr` towards 0, or constant."""
    return recipe.lr * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2 if recipe.schedule == "cosine" else recipe.lr


def loss_sum(logits: Tensor, labels: Tensor, class_weight: Tensor) -> Tensor:
    """Summed binary cross-entropy, the paper's equation (12); on two logits it is their cross-entropy."""
    logits = logits.float()
    if logits.shape[1] == 2:
        each = nn.functional.cross_entropy(logits, labels, reduction="none")
    else:
        each = nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels.float(), reduction="none")
    return (each * class_weight[labels]).sum()


def class_weight_of(labels: Tensor, recipe: Recipe) -> Tensor:
    """Weights of benign and malignant in the loss, shape (2,), with mean 1 over the training part."""
    counts = torch.bincount(labels.cpu(), minlength=2).float()
    if recipe.imbalance == "none":
        return torch.ones(2)
    if not counts.all():
        raise TrainingError(f"train.imbalance is {recipe.imbalance!r} and the training part holds one class only")
    return counts.sum() / (2 * counts) if recipe.imbalance == "weights" else torch.ones(2)


def sample_order(labels: Tensor, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """Order of an epoch: every breast once, or as many draws in which both classes are equally likely."""
    if recipe.imbalance != "balanced":
        return torch.randperm(len(labels), generator=generator)
    labels = labels.cpu()
    weights = 1.0 / torch.bincount(labels, minlength=2).float()[labels]
    return torch.multinomial(weights, len(labels), replacement=True, generator=generator)


def seed_of(seed: int, purpose: str, epoch: int) -> int:
    """Seed that is independent of that of any other purpose or epoch."""
    return int(digest_of([seed, purpose, epoch])[:15], 16)
