"""The cached probe: linear classifiers on frozen features, every learning rate and seed trained at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluate.influence import auroc

Floats = NDArray[np.float64]

ADAPTATION = "probe-cached"


@dataclass(frozen=True)
class Settings:
    """How the probe is trained. The learning rates are those of DINOv2's linear evaluation (Oquab et al. 2023)."""

    rates: tuple[float, ...] = (1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1)
    epochs: int = 50
    batch: int = 32
    momentum: float = 0.9

    def described(self, seeds: int) -> dict[str, Any]:
        """Describe the adaptation for ``evaluation.json``."""
        return {
            "name": ADAPTATION,
            "title": "linear probe on cached features (backbone frozen, no augmentation)",
            **asdict(self),
            "optimiser": "SGD, cosine schedule to 0, no weight decay",
            "features": "standardised with the training split's mean and deviation",
            "choice": "for each seed, the learning rate with the best validation macro AUROC after the last epoch",
            "seeds": seeds,
            "seeds_vary": "initial weights and order of the batches, nothing else",
        }


@dataclass(frozen=True)
class Probe:
    """What training gave.

    Attributes:
        probabilities: (seeds, n, classes) float64, softmax of float32 logits.
        rates: (seeds,) learning rate chosen for each seed.
        validation: (seeds,) its macro AUROC on the validation split.
    """

    probabilities: Floats
    rates: list[float]
    validation: list[float]


def fit_probe(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    train: NDArray[np.bool_],
    val: NDArray[np.bool_],
    *,
    classes: int,
    seeds: Sequence[int],
    settings: Settings = Settings(),
) -> Probe:
    """Train a multinomial logistic regression for every learning rate and seed, and keep the best rate of each seed.

    One thread and float32 throughout, so that the result is the same bytes on one machine whatever else runs.

    Args:
        features: (n, width).
        labels: (n,) class indices.
        train, val: (n,) which images train and which choose.
        classes: number of classes.
        seeds: of the initial weights and the order of batches.
        settings: of the training.

    Raises:
        ValueError: where the validation images are all of one class, or every head diverged.
    """
    import torch

    from evaluate.features import one_thread

    with one_thread(), torch.inference_mode():
        inputs = standardise(torch.from_numpy(np.array(features, dtype=np.float32)), torch.from_numpy(train))
        weights, biases = train_heads(inputs[torch.from_numpy(train)], torch.from_numpy(labels[train]), classes, seeds, settings)
        # (seeds, n, rates, classes): float32 logits; half precision would tie scores that differ.
        chosen: list[int] = []
        best: list[float] = []
        probabilities = np.empty((len(seeds), len(labels), classes))
        for s in range(len(seeds)):
            logits = torch.addmm(biases[s], inputs, weights[s]).view(len(labels), len(settings.rates), classes)
            quality = [validation_auroc(logits[torch.from_numpy(val), r].numpy(), labels[val], classes) for r in range(len(settings.rates))]
            chosen.append(int(np.argmax(quality)))
            best.append(max(quality))
            if math.isinf(best[-1]):
                raise ValueError("every learning rate diverged: are there features that are not finite?")
            probabilities[s] = torch.softmax(logits[:, chosen[s]].double(), dim=1).numpy()
    return Probe(probabilities, [settings.rates[r] for r in chosen], best)


def standardise(inputs: Any, train: Any) -> Any:
    """Give every feature mean 0 and deviation 1 over the training rows; a constant feature becomes 0.

    Args:
        inputs: (n, width) float32 tensor.
        train: (n,) bool tensor.
    """
    mean = inputs[train].double().mean(dim=0)
    deviation = inputs[train].double().std(dim=0, correction=0)
    scale = (1 / deviation).where(deviation > 1e-6 * (1 + mean.abs()), deviation.new_zeros(()))
    return ((inputs.double() - mean) * scale).float()


def train_heads(inputs: Any, labels: Any, classes: int, seeds: Sequence[int], settings: Settings) -> tuple[Any, Any]:
    """Train all heads at once by stochastic gradient descent with momentum.

    For each seed s, step t and learning rate r, with that seed's batch (X, Y):
        P = softmax(X W[s, r] + b[s, r]);  G = (P - Y) / batch
        velocity = momentum * velocity + (X' G, sum of G);  (W, b)[s, r] -= r * (1 + cos(pi t / T)) / 2 * velocity
    The rates of a seed share its batches, so their products are one matrix product, and the seeds one batched product.

    Args:
        inputs: (n, width) float32 tensor, standardised.
        labels: (n,) int64 tensor.
        classes: number of classes.
        seeds: each has its own initial weights (normal, deviation 0.01) and order of batches.
        settings: of the training.

    Returns:
        Weights (seeds, width, rates * classes) and biases (seeds, rates * classes), float32.
    """
    import torch

    n, width = inputs.shape
    rates = len(settings.rates)
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    weights = torch.stack([torch.randn(width, classes, generator=g).mul_(0.01).repeat(1, rates) for g in generators])
    biases = torch.zeros(len(seeds), 1, rates * classes)
    rate = torch.tensor(settings.rates, dtype=torch.float32).repeat_interleave(classes)
    velocity, bias_velocity = torch.zeros_like(weights), torch.zeros_like(biases)
    targets = torch.nn.functional.one_hot(labels, classes).float()
    steps_an_epoch = math.ceil(n / settings.batch)
    total = settings.epochs * steps_an_epoch
    for epoch in range(settings.epochs):
        orders = torch.stack([torch.randperm(n, generator=g) for g in generators])
        for step in range(steps_an_epoch):
            rows = orders[:, step * settings.batch : (step + 1) * settings.batch]
            x = inputs[rows]
            logits = torch.baddbmm(biases, x, weights).view(len(seeds), -1, rates, classes)
            gradient = logits.softmax(dim=3).sub_(targets[rows].unsqueeze(2)).div_(rows.shape[1]).view(len(seeds), -1, rates * classes)
            now = rate * (0.5 * (1 + math.cos(math.pi * (epoch * steps_an_epoch + step) / total)))
            velocity.mul_(settings.momentum).baddbmm_(x.transpose(1, 2), gradient)
            bias_velocity.mul_(settings.momentum).add_(gradient.sum(dim=1, keepdim=True))
            weights.addcmul_(velocity, now, value=-1)
            biases.addcmul_(bias_velocity, now, value=-1)
    return weights, biases[:, 0]


def validation_auroc(logits: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> float:
    """Compute the macro AUROC by which a learning rate is chosen; minus infinity for a head that diverged.

    Args:
        logits: (n, classes) float32.
        labels: (n,) class indices.
        classes: number of classes; of two, the second is judged.

    Raises:
        ValueError: where `labels` are all of one class.
    """
    if not np.isfinite(logits).all():
        return -math.inf
    judged = (1,) if classes == 2 else range(classes)
    scores = logits.astype(np.float64) - np.logaddexp.reduce(logits.astype(np.float64), axis=1, keepdims=True)
    values = [auroc(scores[:, k], labels == k).value for k in judged]
    values = [v for v in values if not math.isnan(v)]
    if not values:
        raise ValueError("the validation images are all of one class")
    return float(np.mean(values))
