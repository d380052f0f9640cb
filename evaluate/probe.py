"""The cached probe: linear classifiers on frozen features, every learning rate and seed trained at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.heads import Fitted, Truth, validation_auroc


@dataclass(frozen=True)
class Settings:
    """How the probe is trained. The learning rates are those of DINOv2's linear evaluation (Oquab et al. 2023)."""

    rates: tuple[float, ...] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
    epochs: int = 50
    batch: int = 32
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not self.rates or min(self.rates) <= 0 or self.epochs < 1 or self.batch < 1 or not 0 <= self.momentum < 1:
            raise ValueError("rates, epochs and batch are positive, momentum is from 0 to below 1")

    def described(self) -> dict[str, Any]:
        """Describe the adaptation for ``evaluation.json``."""
        return {
            "title": "linear probe on cached features (backbone frozen, no augmentation)",
            "optimiser": "SGD, cosine schedule to 0, no weight decay",
            "loss": "cross-entropy; for findings binary cross-entropy over the known ones",
            "features": "standardised with the training split's mean and deviation",
            "choice": "for each seed, the learning rate with the best validation macro AUROC after the last epoch",
            "seeds_vary": "initial weights and order of the batches, nothing else",
        }


def fit_probe(
    features: NDArray[np.float32],
    truth: Truth,
    train: NDArray[np.bool_],
    val: NDArray[np.bool_],
    *,
    seeds: Sequence[int],
    settings: Settings = Settings(),
) -> Fitted:
    """Train a linear classifier for every learning rate and seed, and keep the best rate of each seed.

    One thread and float32 throughout, so that the result is the same bytes on one machine whatever else runs.

    Args:
        features: (n, width).
        truth: of the n images.
        train, val: (n,) which images train and which choose.
        seeds: of the initial weights and the order of batches.
        settings: of the training.

    Raises:
        ValueError: where the validation images are all of one class, or every head diverged.
    """
    import torch

    from evaluate.features import one_thread

    rates = settings.rates
    with one_thread(), torch.inference_mode():
        inputs = standardise(torch.from_numpy(np.array(features, dtype=np.float32)), torch.from_numpy(train))
        weights, biases = train_heads(inputs[torch.from_numpy(train)], truth.of(train), seeds, settings)
        # (seeds, n, rates, classes): float32 logits; half precision would tie scores that differ.
        chosen: list[dict[str, Any]] = []
        probabilities = np.empty((len(seeds), len(truth), truth.classes))
        judges = truth.of(val)
        for s in range(len(seeds)):
            logits = torch.addmm(biases[s], inputs, weights[s]).view(len(truth), len(rates), truth.classes)
            quality = [validation_auroc(logits[torch.from_numpy(val), r].numpy(), judges) for r in range(len(rates))]
            best = int(np.argmax(quality))
            if math.isinf(quality[best]):
                raise ValueError("every learning rate diverged: are there features that are not finite?")
            chosen.append({"rate": rates[best], "validation_auroc": quality[best]})
            probabilities[s] = truth.probabilities(logits[:, best].numpy())
    return Fitted(probabilities, chosen)


def standardise(inputs: Any, train: Any) -> Any:
    """Give every feature mean 0 and deviation 1 over the training rows; a constant feature becomes 0.

    Args:
        inputs: (n, width) float32 tensor.
        train: (n,) bool tensor.
    """
    mean, scale = mean_and_scale(inputs, train)
    return ((inputs.double() - mean) * scale).float()


def mean_and_scale(inputs: Any, train: Any) -> tuple[Any, Any]:
    """Give what `standardise` takes away and multiplies by, both (width,) float64; the scale of a constant feature is 0."""
    mean = inputs[train].double().mean(dim=0)
    deviation = inputs[train].double().std(dim=0, correction=0)
    return mean, (1 / deviation).where(deviation > 1e-6 * (1 + mean.abs()), deviation.new_zeros(()))


def train_heads(inputs: Any, truth: Truth, seeds: Sequence[int], settings: Settings) -> tuple[Any, Any]:
    """Train all heads at once by stochastic gradient descent with momentum.

    For each seed s, step t and learning rate r, with that seed's batch (X, Y):
        P = softmax(X W[s, r] + b[s, r]), or sigmoid;  G = (P - Y) / batch, 0 where Y isn't known
        velocity = momentum * velocity + (X' G, sum of G);  (W, b)[s, r] -= r * (1 + cos(pi t / T)) / 2 * velocity
    The rates of a seed share its batches, so their products are one matrix product, and the seeds one batched product.

    Args:
        inputs: (n, width) float32 tensor, standardised.
        truth: of the n rows.
        seeds: each has its own initial weights (normal, deviation 0.01) and order of batches.
        settings: of the training.

    Returns:
        Weights (seeds, width, rates * classes) and biases (seeds, rates * classes), float32.
    """
    import torch

    n, width = inputs.shape
    rates, classes = len(settings.rates), truth.classes
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights = torch.stack([torch.randn(width, classes, generator=g).mul_(0.01).repeat(1, rates) for g in generators])
    biases = torch.zeros(len(seeds), 1, rates * classes)
    rate = torch.tensor(settings.rates, dtype=torch.float32).repeat_interleave(classes)
    velocity, bias_velocity = torch.zeros_like(weights), torch.zeros_like(biases)
    targets = torch.from_numpy(truth.values).float()
    known = None if truth.known.all() else torch.from_numpy(truth.known).float()
    steps_an_epoch = math.ceil(n / settings.batch)
    total = settings.epochs * steps_an_epoch
    for epoch in range(settings.epochs):
        orders = torch.stack([torch.randperm(n, generator=g) for g in generators])
        for step in range(steps_an_epoch):
            rows = orders[:, step * settings.batch : (step + 1) * settings.batch]
            x = inputs[rows]
            logits = torch.baddbmm(biases, x, weights).view(len(seeds), -1, rates, classes)
            gradient = (logits.softmax(dim=3) if truth.exclusive else logits.sigmoid()).sub_(targets[rows].unsqueeze(2))
            if known is not None:
                gradient.mul_(known[rows].unsqueeze(2))
            gradient = gradient.div_(rows.shape[1]).view(len(seeds), -1, rates * classes)
            now = rate * (0.5 * (1 + math.cos(math.pi * (epoch * steps_an_epoch + step) / total)))
            velocity.mul_(settings.momentum).baddbmm_(x.transpose(1, 2), gradient)
            bias_velocity.mul_(settings.momentum).add_(gradient.sum(dim=1, keepdim=True))
            weights.addcmul_(velocity, now, value=-1)
            biases.addcmul_(bias_velocity, now, value=-1)
    return weights, biases[:, 0]
