"""Classifiers on cached features in which seeds play no part: logistic regression and nearest neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.heads import Fitted, Truth, validation_auroc
from evaluate.probe import mean_and_scale, standardise

_ROWS, _COLUMNS = 1024, 65536  # of one block of similarities: 256 MiB


@dataclass(frozen=True)
class LogisticSettings:
    """How the logistic regression is fitted. `strengths` are scikit-learn's C: larger is less penalty."""

    strengths: tuple[float, ...] = tuple(float(f"{10.0 ** (power / 2):.4g}") for power in range(-12, 9))
    tolerance: float = 1e-6
    iterations: int = 1000

    def __post_init__(self) -> None:
        if not self.strengths or min(self.strengths) <= 0 or self.tolerance <= 0 or self.iterations < 1:
            raise ValueError("strengths, tolerance and iterations are positive")

    def described(self) -> dict[str, Any]:
        """Describe the adaptation for ``evaluation.json``."""
        return {
            "title": "logistic regression on cached features (backbone frozen, no augmentation)",
            "optimiser": "L-BFGS in float64 until no gradient exceeds the tolerance; squared penalty on the weights",
            "features": "standardised with the training split's mean and deviation",
            "choice": "the C with the best validation macro AUROC, the strongest penalty of equal ones",
            "seeds_vary": "nothing: the problem is convex, so there is one solution and seeds would add no variation",
        }


def fit_logistic(
    features: NDArray[np.float32],
    truth: Truth,
    train: NDArray[np.bool_],
    val: NDArray[np.bool_],
    *,
    settings: LogisticSettings = LogisticSettings(),
) -> Fitted:
    """Fit a logistic regression for each C and keep the one that ranks the validation images best.

    Minimises C * sum of losses + ||W||^2 / 2 (as scikit-learn does; the intercepts aren't penalised): multinomial where
    classes exclude each other, else a binary problem for each finding over the images of which it is known.

    Args:
        features: (n, width).
        truth: of the n images.
        train, val: (n,) which images train and which choose.
        settings: of the fit.

    Raises:
        ValueError: where the validation images are all of one class, or features are not finite.
    """
    found = _search(features, truth, train, val, settings)
    return Fitted(truth.probabilities(found.logits)[None], [{"C": found.strength, "validation_auroc": found.quality}])


def logistic_head(
    features: NDArray[np.float32],
    truth: Truth,
    train: NDArray[np.bool_],
    val: NDArray[np.bool_],
    *,
    settings: LogisticSettings = LogisticSettings(),
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give the regression that `fit_logistic` keeps as a linear layer on features that are not standardised.

    Returns:
        weight, (classes, width), and bias, (classes,), both float32.

    Raises:
        ValueError: as `fit_logistic`.
    """
    import torch

    weights = _search(features, truth, train, val, settings).weights
    mean, scale = (part.numpy() for part in mean_and_scale(torch.from_numpy(features), torch.from_numpy(train)))
    slopes = weights[:-1] * scale[:, None]
    return slopes.T.astype(np.float32), (weights[-1] - mean @ slopes).astype(np.float32)


@dataclass(frozen=True)
class _Best:
    """The regression that ranks the validation images best.

    Attributes:
        strength: its C.
        quality: its validation AUROC.
        logits: (n, classes) of all images.
        weights: (width + 1, classes) on standardised features; the last row are the intercepts.
    """

    strength: float
    quality: float
    logits: NDArray[np.float32]
    weights: NDArray[np.float64]


def _search(
    features: NDArray[np.float32], truth: Truth, train: NDArray[np.bool_], val: NDArray[np.bool_], settings: LogisticSettings
) -> _Best:
    import torch

    from evaluate.features import one_thread

    best: _Best | None = None
    with one_thread():
        inputs = standardise(torch.from_numpy(np.array(features, dtype=np.float32)), torch.from_numpy(train)).double()
        if not bool(torch.isfinite(inputs).all()):
            raise ValueError("there are features that are not finite")
        weights = torch.zeros(inputs.shape[1] + 1, truth.classes, dtype=torch.float64, requires_grad=True)
        rows = inputs[torch.from_numpy(train)]
        for strength in sorted(settings.strengths):  # each starts where the one before ended
            _minimise(weights, rows, truth.of(train), strength, settings)
            with torch.inference_mode():
                logits = torch.addmm(weights[-1], inputs, weights[:-1]).float().numpy()
            quality = validation_auroc(logits[val], truth.of(val))
            if best is None or quality > best.quality:
                best = _Best(strength, quality, logits, weights.detach().numpy().copy())
    assert best is not None  # settings hold at least one C
    return best


def _minimise(weights: Any, inputs: Any, truth: Truth, strength: float, settings: LogisticSettings) -> None:
    """Move weights (width + 1, classes; the last row are the intercepts) to the minimum."""
    import torch
    from torch.nn.functional import softplus

    targets, known = torch.from_numpy(truth.values).double(), torch.from_numpy(truth.known).double()
    optimiser = torch.optim.LBFGS(
        [weights],
        max_iter=settings.iterations,
        tolerance_grad=settings.tolerance,
        tolerance_change=0.0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Any:
        optimiser.zero_grad()
        logits = torch.addmm(weights[-1], inputs, weights[:-1])
        fit = (
            (logits.logsumexp(dim=1) - (logits * targets).sum(dim=1)) if truth.exclusive else (softplus(logits) - logits * targets) * known
        )
        # Divided by C n, so that gradients are of one size whatever C is.
        loss = fit.sum() / len(inputs) + weights[:-1].square().sum() / (2 * strength * len(inputs))
        loss.backward()
        return loss

    optimiser.step(closure)


@dataclass(frozen=True)
class NeighbourSettings:
    """How nearest neighbours vote. The temperature is DINO's (Caron et al. 2021)."""

    neighbours: tuple[int, ...] = (5, 10, 20, 50, 100, 200)
    temperature: float = 0.07

    def __post_init__(self) -> None:
        if not self.neighbours or min(self.neighbours) < 1 or self.temperature <= 0:
            raise ValueError("neighbours and temperature are positive")

    def described(self) -> dict[str, Any]:
        """Describe the adaptation for ``evaluation.json``."""
        return {
            "title": "nearest neighbours among the training images by cached features (backbone frozen, no augmentation)",
            "features": "scaled to length 1; similarity is their inner product",
            "votes": "softmax of similarity / temperature over the neighbours; of a finding, over those of which it is known",
            "choice": "the number of neighbours with the best validation macro AUROC, the smallest of equal ones",
            "seeds_vary": "nothing: there is no chance in it, so seeds would add no variation",
        }


def fit_neighbours(
    features: NDArray[np.float32],
    truth: Truth,
    train: NDArray[np.bool_],
    val: NDArray[np.bool_],
    *,
    settings: NeighbourSettings = NeighbourSettings(),
) -> Fitted:
    """Let each image's nearest training images vote, for each number of neighbours, and keep the best number.

    The largest number is searched once; smaller ones are its first columns. A training image counts itself in: the
    predictions of training images are of no use.

    Args:
        features: (n, width).
        truth: of the n images.
        train, val: (n,) which images vote and which choose.
        settings: of the vote.

    Raises:
        ValueError: where the validation images are all of one class, or features are not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("there are features that are not finite")
    voters = truth.of(train)
    numbers = sorted({min(k, len(voters)) for k in settings.neighbours})
    similar, places = nearest_neighbours(features, features[train], numbers[-1])
    rate = (voters.values & voters.known).sum(axis=0) / np.maximum(voters.known.sum(axis=0), 1)  # where no neighbour's finding is known
    best: tuple[int, float, NDArray[np.float64]] | None = None
    for k in numbers:
        given = vote(similar[:, :k], places[:, :k], voters, settings.temperature, rate)
        quality = validation_auroc(given[val], truth.of(val), logits=False)
        if best is None or quality > best[1]:
            best = (k, quality, given)
    assert best is not None  # settings hold at least one number
    return Fitted(best[2][None], [{"neighbours": best[0], "validation_auroc": best[1]}])


def vote(
    similar: NDArray[np.float32], places: NDArray[np.int64], voters: Truth, temperature: float, otherwise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weigh the neighbours' truth.

    Args:
        similar: (n, k) similarities.
        places: (n, k) rows of `voters`.
        voters: the truth of the training images.
        temperature: that similarities are divided by.
        otherwise: (classes,) probability where no neighbour's finding is known.

    Returns:
        (n, classes) float64.
    """
    scaled = similar.astype(np.float64) / temperature
    weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    given = np.empty((len(similar), voters.classes))
    for c in range(voters.classes):
        known = weights * voters.known[places, c]
        total = known.sum(axis=1)
        given[:, c] = np.where(total > 0, (known * voters.values[places, c]).sum(axis=1) / np.where(total > 0, total, 1), otherwise[c])
    return given


def nearest_neighbours(features: NDArray[np.float32], among: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Find the k nearest of some vectors by the cosine of the angle, block by block in bounded memory.

    Args:
        features: (n, width).
        among: (m, width), m at least k.
        k: how many.

    Returns:
        (n, k) similarities, falling, and their rows of `among`.
    """
    import torch
    from torch.nn.functional import normalize

    from evaluate.features import one_thread

    found: list[Any] = []
    with one_thread(), torch.inference_mode():
        others = normalize(torch.from_numpy(np.array(among, dtype=np.float32)), dim=1)
        for start in range(0, len(features), _ROWS):
            block = normalize(torch.from_numpy(np.array(features[start : start + _ROWS], dtype=np.float32)), dim=1)
            values = torch.empty(len(block), 0)
            places = torch.empty(len(block), 0, dtype=torch.int64)
            for first in range(0, len(others), _COLUMNS):
                here = block @ others[first : first + _COLUMNS].T
                more, at = here.topk(min(k, here.shape[1]), dim=1)
                values, places = torch.cat([values, more], dim=1), torch.cat([places, at + first], dim=1)
                values, kept = values.topk(min(k, values.shape[1]), dim=1)
                places = places.gather(1, kept)
            found.append((values.numpy(), places.numpy()))
    return np.concatenate([v for v, _ in found]), np.concatenate([p for _, p in found])
