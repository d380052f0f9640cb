"""DINOv2."""

from __future__ import annotations

from pretrain.dinov2.heads import Head, Prototypes
from pretrain.dinov2.losses import cross_entropy, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp
from pretrain.dinov2.masks import block_mask, deal_ratios
from pretrain.dinov2.method import Dinov2, MaskToken, add_residual, effective_rank

__all__ = [
    "Dinov2",
    "Head",
    "MaskToken",
    "Prototypes",
    "add_residual",
    "block_mask",
    "cross_entropy",
    "deal_ratios",
    "dino_loss",
    "effective_rank",
    "ibot_loss",
    "koleo_loss",
    "sinkhorn_knopp",
]
