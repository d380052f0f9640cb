"""The learning rate as a pure function of the samples seen, and which tensors are decayed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from pretrain.recipe import Optim


def learning_rate(seen: float, *, peak: float, lowest: float, warmup: float, total: float) -> float:
    """Give the learning rate of the step that starts after `seen` samples.

    Linear warm-up from 0 to `peak`, then half a cosine down to `lowest`, on the fractional epoch (He et al. 2022,
    appendix A.1): counted in samples, the length of an epoch cancels out. Any other unit will do, if all four have it.

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
    return half_cosine(peak, lowest, (seen - warmup) / (total - warmup))


def half_cosine(start: float, end: float, done: float) -> float:
    """Go from `start` to `end` on half a cosine.

    Args:
        start: value at 0.
        end: value at 1.
        done: share of the way, 0 ... 1.

    Example:
        >>> [round(half_cosine(0.04, 0.2, done), 3) for done in (0.0, 0.5, 1.0)]
        [0.04, 0.12, 0.2]
    """
    return end + (start - end) * 0.5 * (1.0 + math.cos(math.pi * done))


def set_rates(optimizer: torch.optim.Optimizer, step: int, optim: Optim) -> float:
    """Give each parameter group its learning rate and weight decay of a step.

    A group's rate is the schedule's times its ``lr_scale``, and 0 in its ``frozen_steps`` first steps. Where it has a
    ``weight_decay_end``, its decay goes from ``weight_decay`` to that on half a cosine over the run.

    Args:
        optimizer: changed in place.
        step: counted from 0.
        optim: the recipe's section.

    Returns:
        The schedule's learning rate.
    """
    lr = learning_rate(
        step * optim.batch, peak=optim.peak_lr, lowest=optim.min_lr, warmup=optim.warmup_samples, total=optim.steps * optim.batch
    )
    for group in optimizer.param_groups:
        group["lr"] = 0.0 if step < group.get("frozen_steps", 0) else lr * group.get("lr_scale", 1.0)
        if "weight_decay_end" in group:
            start = group.setdefault("weight_decay_start", group["weight_decay"])
            group["weight_decay"] = half_cosine(start, group["weight_decay_end"], step / optim.steps)
    return lr


def layer_rate(name: str, *, depth: int, decay: float, patch_embed: float) -> float:
    """Give what a parameter's learning rate is multiplied by, by its place in a timm backbone (BEiT, Bao et al. 2022).

    Args:
        name: of the parameter, ``backbone....``; other names stand above the backbone.
        depth: layers of the backbone.
        decay: for every layer between it and the top; the embeddings and their tokens are the lowest layer.
        patch_embed: for the patch embedding, besides.

    Example:
        >>> rate = lambda name: layer_rate(name, depth=2, decay=0.5, patch_embed=0.2)
        >>> rate("backbone.blocks.1.mlp.fc1.weight"), rate("backbone.pos_embed"), rate("backbone.patch_embed.proj.bias"), rate("head")
        (0.5, 0.125, 0.025, 1.0)
    """
    place, _, rest = name.partition(".")
    if place != "backbone" or rest.startswith(("norm.", "fc_norm.")):
        return 1.0
    layer = int(rest.split(".")[1]) + 1 if rest.startswith("blocks.") else 0
    rate = decay ** (depth + 1 - layer)
    return rate * patch_embed if rest.startswith("patch_embed.") else rate


def parameter_groups(
    named: Iterable[tuple[str, torch.nn.Parameter]],
    weight_decay: float,
    *,
    weight_decay_end: float | None = None,
    lr_scale: Callable[[str], float] = lambda name: 1.0,
    frozen_steps: Callable[[str], int] = lambda name: 0,
) -> list[dict[str, Any]]:
    """Sort parameters into groups that the optimiser treats alike.

    Biases and 1-D tensors (norms, LayerScale) have no weight decay.

    Args:
        named: (name, parameter) pairs; parameters that take no gradient are left out.
        weight_decay: of the others, at the first step.
        weight_decay_end: at the last one; None: the same.
        lr_scale: gives what the learning rate of a parameter is multiplied by, by its name.
        frozen_steps: gives for how many steps a parameter stands still, by its name.

    Returns:
        Parameter groups for an optimiser, those with weight decay first: params, names, weight_decay, and where it is
        not the usual thing weight_decay_end, lr_scale and frozen_steps.
    """
    groups: dict[tuple[bool, float, int], dict[str, Any]] = {}
    for name, parameter in named:
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim <= 1 or name.endswith(".bias")
        scale, frozen = lr_scale(name), frozen_steps(name)
        group: dict[str, Any] = {"params": [], "names": [], "weight_decay": 0.0 if plain else weight_decay}
        if not plain and weight_decay_end is not None:
            group["weight_decay_end"] = weight_decay_end
        if scale != 1.0:
            group["lr_scale"] = scale
        if frozen:
            group["frozen_steps"] = frozen
        group = groups.setdefault((plain, scale, frozen), group)
        group["params"].append(parameter)
        group["names"].append(name)
    return [groups[key] for key in sorted(groups, key=lambda key: key[0])]
