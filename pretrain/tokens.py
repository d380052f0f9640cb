"""What stands before the patches in a vision transformer's sequence, and where the patches stand: class token, registers, positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def prefix_tokens(backbone: Any, images: int) -> Tensor:
    """Give the class token and the registers, with their positions where they have some, as timm puts them before the patches.

    Args:
        backbone: a timm VisionTransformer with a class token.
        images: B.

    Returns:
        [B, 1 + R, D].
    """
    tokens = backbone.cls_token
    if backbone.reg_token is not None:
        tokens = torch.cat([tokens, backbone.reg_token], dim=1)
    if not backbone.no_embed_class:
        tokens = tokens + backbone.pos_embed[:, : tokens.shape[1]]
    return tokens.expand(images, -1, -1)


def patch_positions(backbone: Any) -> Tensor:
    """Give the position embeddings of the patches: [1, N, D]."""
    return backbone.pos_embed[:, -backbone.patch_embed.num_patches :]
