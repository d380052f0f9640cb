"""The losses of DINOv2 (Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024).

All are computed in float32, whatever the precision of the training.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed
from torch.nn.functional import linear, log_softmax, normalize
from torch.utils.checkpoint import checkpoint

_TINY = torch.finfo(torch.float32).tiny
_ROWS = 1024  # tokens whose logits are in memory at a time


@torch.no_grad()
def sinkhorn_knopp(logits: Tensor, temperature: float, *, iterations: int = 3) -> Tensor:
    """Turn a teacher's logits into targets that use the prototypes evenly (Caron et al. 2020, SwAV; Cuturi 2013).

    ::

        q = exp(logits / temperature)
        repeat `iterations` times:
            divide every prototype's column by its sum over the tokens of all processes
            divide every token's row by its sum over the prototypes

    The papers also divide by the numbers of prototypes and of tokens, so that each sum is 1 / K and 1 / N: such factors cancel
    in the next division, and the last one is undone. The highest logit is taken off before the exponential,
    a factor that cancels likewise.

    Args:
        logits: [N, K]; N may differ between processes, and be 0.
        temperature: of the teacher.
        iterations: 3 in the paper.

    Returns:
        float32 [N, K], rows that sum to 1; without a gradient.
    """
    q = logits.to(torch.float32, copy=True).div_(temperature)  # gigabytes for a large head: one copy, changed in place
    highest = q.max() if q.numel() else q.new_tensor(-torch.inf)
    q.sub_(_over_ranks(highest, distributed.ReduceOp.MAX)).exp_()
    for _ in range(iterations):
        q /= _over_ranks(q.sum(dim=0), distributed.ReduceOp.SUM).clamp_(min=_TINY)
        q /= q.sum(dim=1, keepdim=True).clamp_(min=_TINY)
    return q


def _over_ranks(values: Tensor, operation: distributed.ReduceOp.RedOpType) -> Tensor:
    if distributed.is_available() and distributed.is_initialized():
        distributed.all_reduce(values, op=operation)
    return values


def cross_entropy(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Give the cross-entropy of every token: logits and targets [..., K] to float32 [...]."""
    return -(targets * log_softmax(logits.float() / temperature, dim=-1)).sum(dim=-1)


def dino_loss(global_logits: Tensor, local_logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Compare the student's class tokens with the teacher's (Caron et al. 2021, equation 3).

    ::

        total = 0
        for view in the teacher's two global crops:
            for crop in the student's two global crops and L local ones:
                if crop is view: continue                  # the same pixels: nothing to learn
                for image in batch:
                    cross_entropy = 0
                    for prototype: cross_entropy -= target(view) * log softmax(logits(crop) / temperature)
                    total += cross_entropy / images
        loss = total / (2 + 2 * L)                         # the number of pairs, global and local ones

    Args:
        global_logits: student's, [2, B, K].
        local_logits: student's, [L, B, K]; L may be 0.
        targets: teacher's, [2, B, K], each row a distribution.
        temperature: of the student.

    Returns:
        The terms of the global and of the local crops, float32 scalars; their sum is the loss.
    """
    pairs = 2 + 2 * local_logits.shape[0]
    images = targets.shape[1]
    of_globals = cross_entropy(global_logits, targets.flip(0), temperature).sum()
    of_locals = cross_entropy(local_logits, targets.sum(dim=0), temperature).sum()  # linear in the target: both views at once
    return of_globals / (pairs * images), of_locals / (pairs * images)


def ibot_loss(student: Tensor, prototypes: Tensor, targets: Tensor, masks: Tensor, temperature: float) -> Tensor:
    """Compare the student's tokens of hidden patches with the teacher's, which saw them (Zhou et al. 2022, equation 2).

    ::

        total = 0
        for crop in all 2 * B global crops:
            hidden = the patches of `crop` that are masked         # none in about half of the crops
            for patch in hidden:
                cross_entropy = 0
                for prototype: cross_entropy -= target * log softmax(logits / temperature)
                total += cross_entropy / len(hidden)
        loss = total / (2 * B)                                     # crops without a mask count too

    The logits of a large head are gigabytes: they are computed for some rows at a time, and once more for the gradient.

    Args:
        student: what the head compares with the prototypes, [M, D], of the hidden patches in the order of `masks`.
        prototypes: [K, D].
        targets: teacher's, [M, K], each row a distribution.
        masks: bool [2, B, N], or any other order of the crops.
        temperature: of the student.

    Returns:
        float32 scalar; 0 where nothing is masked.
    """
    hidden = masks.sum(dim=-1, keepdim=True)
    weights = (1.0 / hidden.clamp(min=1)).expand(masks.shape)[masks] / (masks.shape[0] * masks.shape[1])

    def some(tokens: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
        return (cross_entropy(linear(tokens, prototypes), wanted, temperature) * weight).sum()

    if len(student) <= _ROWS:
        return some(student, targets, weights)
    parts = zip(student.split(_ROWS), targets.split(_ROWS), weights.split(_ROWS), strict=True)
    return torch.stack([checkpoint(some, *part, use_reentrant=False, preserve_rng_state=False) for part in parts]).sum()


def koleo_loss(tokens: Tensor) -> Tensor:
    """Push the class tokens of different photographs apart (Sablayrolles et al. 2019, equation 4).

    ::

        total = 0
        for token in tokens:                               # each of length 1
            distance = min(norm(token - other) for other in tokens if other is not token)
            total -= log(distance + 1e-8)
        loss = total / len(tokens)

    In 16-bit numbers 1e-8 is 0, and the two photographs of one visit may give the same token: so float32, without autocast.

    Args:
        tokens: [B, D], of one crop of every photograph.

    Returns:
        float32 scalar; 0 for a single photograph, which has no neighbour.
    """
    with torch.autocast(tokens.device.type, enabled=False):
        unit = normalize(tokens.float(), dim=-1, eps=1e-8)
        if len(unit) < 2:
            return unit.sum() * 0.0
        with torch.no_grad():
            nearest = (unit @ unit.T).fill_diagonal_(-1.0).argmax(dim=1)
        return -torch.log((unit - unit[nearest]).norm(dim=1) + 1e-8).mean()
