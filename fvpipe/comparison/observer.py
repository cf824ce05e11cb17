"""A model observer: a cheap, deterministic judge of how well a lesion can be detected in the samples of a pipeline.

It is neither a reader nor a trained model. For each view in a sample, the largest responses of band-pass filters are
its features, and a ridge logistic regression, cross-validated by patient, weighs them. What it says of a pipeline is
whether that keeps the contrast and size of small bright things; between pipelines on the same breasts, the difference
of two areas under the ROC curve is meaningful, the areas themselves are not.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from fvpipe.shards.coordinates import view_slices
from fvpipe.types import VIEWS

SIGMAS = (1.0, 1.6, 2.5, 4.0, 6.3, 10.0)  # pixels of a sample: each band lies between one and 1.6 times it
WIDER = 1.6  # of a difference of Gaussians, near the Laplacian's shape
BREAST = 0.05  # normalized values above it count as breast
FOLDS = 5
RIDGE = 1.0  # weight of the penalty on standardized coefficients
STEPS, CONVERGED = 30, 1e-8  # of Newton's method, which needs about six


class TooFewPatientsError(ValueError):
    """A class has no breast to fit the regression on."""


def view_features(view: NDArray[np.float32], noise: NDArray[np.float32]) -> NDArray[np.float64]:
    """Compute the largest band-pass responses of one view of a sample.

    Filters are normalized by what of their support is breast, so that the outline itself gives no response.

    Parameters
    ----------
    view : float32 array, shape (rows, columns)
        Values in [0, 1].
    noise : float32 array, shape (rows, columns)
        Added inside the breast.

    Returns
    -------
    features : float64 array, shape (12,)
        For each band the largest response, and the largest in units of the responses' median absolute value.
    """
    breast = view > BREAST
    weight = breast.astype(np.float32)
    image = (view + noise) * weight
    features = []
    for sigma in SIGMAS:
        response = (_smoothed(image, weight, sigma) - _smoothed(image, weight, sigma * WIDER))[breast]
        largest = float(response.max(initial=0.0))
        features += [largest, largest / max(float(np.median(np.abs(response))) if response.size else 0.0, 1e-6)]
    return np.array(features)


def _smoothed(image: NDArray[np.float32], weight: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    share, total = (cv2.GaussianBlur(each, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) for each in (weight, image))
    return (total / np.maximum(share, 1e-3)).astype(np.float32)


def sample_features(
    image: NDArray[np.float32], placement: NDArray[np.float32], breast_id: str, noise: float
) -> NDArray[np.float64]:
    """Compute the features of a sample, those of its CC and then of its MLO.

    Parameters
    ----------
    image : float32 array, shape (H, W) or (2, H, W)
        Fused image in [0, 1].
    placement : float32 array, shape (2, 4)
        Of the views, as :class:`fvpipe.shards.reader.Sample` has it; a view with -1 is not in the image.
    breast_id : str
        Seeds the noise: the same breast has the same noise in every pipeline of one size.
    noise : float
        Standard deviation of the white noise that is added to each pixel, as a share of the range.

    Returns
    -------
    features : float64 array, shape (12 x views in the image,)
        Those of :func:`view_features`, view by view.
    """
    seed = int.from_bytes(blake3(breast_id.encode()).digest(8), "big")
    rng = np.random.default_rng(seed)
    grain = rng.standard_normal(image.shape, np.float32) * np.float32(noise)
    parts = []
    for i in range(len(VIEWS)):
        area = view_slices(placement[i])
        if area is not None:
            parts.append(view_features(*(each[i][area] if each.ndim == 3 else each[area] for each in (image, grain))))
    return np.concatenate(parts)


def observer_scores(
    features: NDArray[np.float64],
    labels: NDArray[np.int64],
    patients: Sequence[str],
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Score each sample by a regression that was fitted without its patient.

    Parameters
    ----------
    features : float64 array, shape (n, f)
        Features of the samples.
    labels : int64 array, shape (n,)
        1 malignant, 0 benign.
    patients : sequence of str, length n
        Patient of each sample.
    weights : float64 array, shape (n,), or None
        Number of times that each sample counts, in a replicate of a bootstrap; None: once.

    Returns
    -------
    scores : float64 array, shape (n,)
        Higher is more likely malignant; in a replicate, 0 where a class is missing outside the fold.

    Raises
    ------
    TooFewPatientsError
        A class has no breast outside some fold, without weights.
    """
    fold = folds(labels, patients)
    counted = np.ones(len(labels)) if weights is None else weights
    scores = np.zeros(len(labels))
    for k in range(FOLDS):
        fit, held = (fold != k) & (counted > 0), fold == k
        if len(set(labels[fit].tolist())) < 2:
            if weights is None:
                raise TooFewPatientsError(
                    f"without fold {k + 1} of {FOLDS} one class has no breast; it needs more patients of each"
                )
            continue
        x, w = features[fit], counted[fit]
        mean = np.average(x, axis=0, weights=w)
        deviation = np.maximum(np.sqrt(np.average((x - mean) ** 2, axis=0, weights=w)), 1e-9)
        coefficients = _logistic_regression((x - mean) / deviation, labels[fit], w)
        scores[held] = _with_constant((features[held] - mean) / deviation) @ coefficients
    return scores


def folds(labels: NDArray[np.int64], patients: Sequence[str]) -> NDArray[np.int64]:
    """Assign each patient, with all breasts, to a fold: by rank of the id's digest, those with a malignancy apart."""
    malignant = {patient for patient, label in zip(patients, labels.tolist(), strict=True) if label}
    ranked = sorted(set(patients), key=lambda patient: (patient in malignant, blake3(patient.encode()).hexdigest()))
    place = {patient: i % FOLDS for i, patient in enumerate(ranked)}
    return np.array([place[patient] for patient in patients], np.int64)


def _with_constant(features: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.hstack([features, np.ones((len(features), 1))])


def _logistic_regression(
    features: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients, the constant last and without penalty, by Newton's method."""
    x = _with_constant(features)
    penalty = np.diag([RIDGE] * features.shape[1] + [0.0])
    found = np.zeros(x.shape[1])
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-np.clip(x @ found, -30, 30)))
        gradient = x.T @ (weights * (probability - labels)) + penalty @ found
        curvature = (x * (weights * probability * (1 - probability))[:, None]).T @ x + penalty
        step = np.linalg.solve(curvature + 1e-9 * np.eye(len(found)), gradient)
        found -= step
        if float(np.abs(step).max()) < CONVERGED:
            break
    return found
