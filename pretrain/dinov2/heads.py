"""The projection heads of DINO (Caron et al. 2021) and iBOT (Zhou et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

if TYPE_CHECKING:
    from pretrain.recipe import HeadSettings


class Prototypes(nn.Module):
    """A linear layer without bias whose rows have a direction and a length of their own (Salimans & Kingma 2016).

    The lengths start at 1 and are trained, as in the official code.

    Args:
        width: channels of its input.
        count: prototypes.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.empty(count, width))
        self.length = nn.Parameter(torch.ones(count, 1))
        nn.init.trunc_normal_(self.direction, std=0.02)

    def weight(self) -> Tensor:
        """Give the prototypes: float32 [count, width]."""
        return self.direction * (self.length / self.direction.norm(dim=1, keepdim=True))


class Head(nn.Module):
    """Three linear layers with GELU between them, a normalisation to length 1, and the prototypes.

    Args:
        width: channels of the backbone.
        settings: of the recipe.
    """

    def __init__(self, width: int, settings: HeadSettings) -> None:
        super().__init__()
        hidden = settings.hidden
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, settings.bottleneck)
        )
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last_layer = Prototypes(settings.bottleneck, settings.prototypes)

    def embed(self, tokens: Tensor) -> Tensor:
        """Give what the prototypes are compared with: [..., width] to float32 [..., bottleneck], of length 1."""
        return normalize(self.mlp(tokens).float(), dim=-1, eps=1e-12)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compare with the prototypes: [..., width] to logits [..., prototypes]."""
        return linear(self.embed(tokens), self.last_layer.weight())

    def flops(self) -> float:
        """Give the operations of one token, forward (a multiply-add is two)."""
        layers = sum(layer.weight.numel() for layer in self.mlp if isinstance(layer, nn.Linear))
        return 2.0 * (layers + self.last_layer.direction.numel())
