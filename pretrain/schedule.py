"""The learning rate as a pure function of the samples seen, and which tensors are decayed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def learning_rate(seen: int, *, peak: float, lowest: float, warmup: int, total: int) -> float:
    """Give the learning rate of the step that starts after `seen` samples.

    Linear warm-up from 0 to `peak`, then half a cosine down to `lowest`, on the fractional epoch (He et al. 2022,
    appendix A.1): counted in samples, the length of an epoch cancels out.

    Args:
        seen: samples that earlier steps have used.
        peak: the highest rate.
        lowest: the rate at `total` samples and after.
        warmup: samples of warm-up.
        total: samples of the whole run.

    Example:
        >>> [learning_rate(s, peak=1.0, lowest=0.0, warmup=10, total=110) for s in (0, 5, 10, 60, 110)]
        [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    # 1) warm-up
    if seen < warmup:
        return peak * seen / warmup
    # 2) after the end
    if seen >= total:
        return lowest
    # 3) half a cosine in between
    done = (seen - warmup) / (total - warmup)
    return lowest + (peak - lowest) * 0.5 * (1.0 + math.cos(math.pi * done))


def parameter_groups(named: Iterable[tuple[str, torch.nn.Parameter]], weight_decay: float) -> list[dict[str, Any]]:
    """Sort parameters into those with weight decay and those without: biases and 1-D tensors (norms).

    Args:
        named: (name, parameter) pairs; parameters that take no gradient are left out.
        weight_decay: of the first group.

    Returns:
        Two parameter groups for an optimiser, each with the names of its tensors under ``"names"``.
    """
    decayed: list[tuple[str, Any]] = []
    plain: list[tuple[str, Any]] = []
    for name, parameter in named:
        if parameter.requires_grad:
            (plain if parameter.ndim <= 1 or name.endswith(".bias") else decayed).append((name, parameter))
    return [
        {"params": [p for _, p in group], "names": [n for n, _ in group], "weight_decay": decay}
        for group, decay in ((decayed, weight_decay), (plain, 0.0))
    ]
