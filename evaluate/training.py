"""How a model is trained on photographs, for fine-tuning and the paper's linear probe.

As Zhou et al. 2026 did (doi 10.1038/s41467-026-70077-z); where that paper is silent, as RETFound's published
fine-tuning does (Zhou et al. 2023, doi 10.1038/s41586-023-06555-x, and its code).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pretrain import learning_rate

MARGIN = 8 / 7  # sides of a stored photograph over the model's: 256 pixels for 224
_RAND_AUGMENT = re.compile(r"rand(-(m[0-9.]+|mstd[0-9.]+|mmax[0-9]+|n[0-9]+|p[0-9.]+|inc[01]))*")


@dataclass(frozen=True)
class TrainingSettings:
    """How a model is trained on photographs.

    Attributes:
        epochs: passes over the training split.
        batch: photographs a step.
        rate: highest learning rate.
        lowest_rate: the rate at the end.
        warmup: epochs over which the rate rises from 0; None: a fifth of all, 10 of 50.
        weight_decay: of AdamW, on matrices.
        layer_decay: each layer's rate over that of the layer above it.
        drop_path: stochastic depth of the last block, rising evenly from 0 at the first.
        smoothing: of the labels.
        crop: smallest share of a photograph that a training view shows; 1 shows all of it, at most cut to its shape.
        augment: RandAugment as timm spells it, or ``none``.
        erase: chance that a part of a photograph is replaced by noise.
        head: how it begins: ``zero``, near 0 as RETFound's; or ``probe``, the logistic regression that `fit_logistic` finds on the
            features of the training split, so that the backbone isn't pulled along while the head is still to be found (LP-FT;
            Kumar et al. 2022, arXiv 2202.10054).
        pooling: ``mean`` of the patch tokens, ``class`` token, or ``both`` side by side; models without tokens have their own.
        precision: of the backbone's arithmetic; the head's is always float32.
    """

    epochs: int = 50
    batch: int = 16
    rate: float = 5e-4
    lowest_rate: float = 1e-6
    warmup: float | None = None
    weight_decay: float = 0.05
    layer_decay: float = 0.65
    drop_path: float = 0.2
    smoothing: float = 0.1
    crop: float = 0.08
    augment: str = "rand-m9-mstd0.5-inc1"
    erase: float = 0.25
    head: Literal["zero", "probe"] = "zero"
    pooling: Literal["mean", "class", "both"] = "mean"
    precision: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 < self.lowest_rate <= self.rate:
            raise ValueError("epochs and batch are positive, and lowest_rate is above 0 and not above rate")
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup ({self.warmup_epochs:g}) must be less than epochs ({self.epochs})")
        if self.weight_decay < 0 or not 0 < self.layer_decay <= 1:
            raise ValueError("weight_decay is not negative, and layer_decay is above 0 and at most 1")
        if self.augment != "none" and not _RAND_AUGMENT.fullmatch(self.augment):
            raise ValueError(f"augment is none or a RandAugment, as rand-m9-mstd0.5-inc1, not '{self.augment}'")
        if not 0 < self.crop <= 1:
            raise ValueError("crop is above 0 and at most 1")
        if not all(0 <= value < 1 for value in (self.drop_path, self.smoothing, self.erase)):
            raise ValueError("drop_path, smoothing and erase are from 0 to below 1")

    @property
    def warmup_epochs(self) -> float:
        """Epochs over which the learning rate rises."""
        return self.epochs / 5 if self.warmup is None else self.warmup

    def described(self, *, frozen: bool) -> dict[str, Any]:
        """Describe the adaptation for ``evaluation.json``, and where each part of it is from."""
        published = TrainingSettings()
        changed = [name for name in self.__dataclass_fields__ if getattr(self, name) != getattr(published, name)]
        title = "linear probe with augmentation (backbone frozen)" if frozen else "fine-tuning of all parameters"
        return {
            "title": title,
            "warmup": self.warmup_epochs,
            "optimiser": "AdamW, betas 0.9 and 0.999; the rate rises evenly from 0, then falls along a cosine, a value a step",
            "loss": "cross-entropy with smoothed labels; for findings binary cross-entropy over the known ones",
            "views": f"crops of {100 * self.crop:.3g} to 100 % resized to the input size, mirrored half of the time, cut from "
            f"photographs stored with sides {MARGIN:.3g} times the input's; evaluated on the central part of that size",
            "choice": "for each seed, the epoch with the best validation macro AUROC, the first of equal ones",
            "seeds_vary": ("" if self.head == "probe" else "initial weights of the head, ")
            + "order of the photographs, augmentation and drop path",
            "from": {
                "the paper": "epochs, batch, rate, lowest_rate, warmup, choice" + (", frozen backbone" if frozen else ""),
                "RETFound's published code": "weight_decay, drop_path, smoothing, crop, augment, erase, head, pooling"
                + ("" if frozen else ", layer_decay"),
                "evenfooting": "precision, final norm before pooling, stored size of photographs",
                "the command": ", ".join(changed) or "nothing",
            },
        }


def rate_at(epoch: float, settings: TrainingSettings) -> float:
    """Give the learning rate at a fractional epoch.

    Example:
        >>> [rate_at(e, TrainingSettings()) for e in (0, 5, 10, 50)]
        [0.0, 0.00025, 0.0005, 1e-06]
    """
    return learning_rate(epoch, peak=settings.rate, lowest=settings.lowest_rate, warmup=settings.warmup_epochs, total=settings.epochs)


def stored_shape(info: dict[str, Any]) -> tuple[int, int]:
    """Give height and width at which photographs are stored for a model."""
    _, height, width = info["input_size"]
    return round(height * MARGIN), round(width * MARGIN)
