"""Masked autoencoders."""

from __future__ import annotations

from pretrain.mae.method import (
    Mae,
    patchify,
    reconstruction_loss,
    reconstruction_target,
    sincos_positions,
    take,
    unpatchify,
)
from pretrain.mae.views import MaeViews, split_patches

__all__ = [
    "Mae",
    "MaeViews",
    "patchify",
    "reconstruction_loss",
    "reconstruction_target",
    "sincos_positions",
    "split_patches",
    "take",
    "unpatchify",
]
