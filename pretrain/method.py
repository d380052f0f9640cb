"""What a method is to the training loop, whichever it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from curate import UserError
from pretrain.backbone import build_backbone
from pretrain.schedule import layer_rate, parameter_groups

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pretrain.batch import Batch
    from pretrain.recipe import Data, Optim, Recipe
    from pretrain.views import Views


class Method(nn.Module, ABC):
    """An objective over a timm backbone. Its ``state_dict`` is all that a checkpoint needs of it.

    Attributes:
        backbone: what is trained, a timm VisionTransformer.
    """

    backbone: Any

    @abstractmethod
    def loss(self, batch: Batch, step: int) -> Tensor:
        """Give the loss of a batch, a mean over its samples.

        Args:
            batch: of the tensors that `views` makes.
            step: counted from 0; everything that follows a schedule is a function of it.
        """

    def forward(self, batch: Batch, step: int) -> Tensor:
        """Give the loss; wrappers of a module call this."""
        return self.loss(batch, step)

    @abstractmethod
    def views(self, data: Data) -> Views:
        """Give what the method wants to see of a photograph."""

    @abstractmethod
    def picture(self, batch: Batch) -> NDArray[np.uint8]:
        """Draw what the method makes of some photographs: uint8 [H, W, 3], RGB.

        Args:
            batch: of `Views.whole`, on the method's device.
        """

    @abstractmethod
    def flops(self) -> float:
        """Give the operations of training on one photograph, by formula (a multiply-add is two)."""

    @abstractmethod
    def kept_numbers(self) -> float:
        """Give how many numbers a photograph leaves in memory for the backward pass: tokens x channels, summed over layers."""

    @property
    def result(self) -> nn.Module:
        """The timm model that a run writes out."""
        return self.backbone

    def start_from(self, tensors: dict[str, Tensor]) -> None:
        """Take over a trained backbone's weights, of exactly its names and shapes."""
        self.backbone.load_state_dict(tensors, strict=True)

    def groups(self, optim: Optim) -> list[dict[str, Any]]:
        """Sort the trained parameters for the optimiser.

        Returns:
            Parameter groups with ``names``; ``weight_decay``, and where it changes ``weight_decay_end``; where it isn't 1
            ``lr_scale`` (times the learning rate); where it isn't 0 ``frozen_steps`` (steps at whose beginning the rate is 0).
        """
        return parameter_groups(
            self.named_parameters(),
            optim.weight_decay,
            weight_decay_end=optim.weight_decay_end,
            lr_scale=self.layer_rates(optim),
        )

    def layer_rates(self, optim: Optim) -> Callable[[str], float]:
        """Give the function from a parameter's name to what its learning rate is multiplied by, see `pretrain.schedule.layer_rate`."""
        return partial(layer_rate, depth=len(self.backbone.blocks), decay=optim.layer_decay, patch_embed=optim.patch_embed_lr)

    def clipped(self) -> list[nn.Module]:
        """Give the modules whose gradients are clipped, each by its own norm, where the recipe says ``optim.clip``."""
        return [self]

    def end_step(self, step: int) -> None:
        """Do what follows the optimiser's step, as an average of weights does.

        Args:
            step: the one that ended, counted from 0.
        """

    def monitors(self) -> dict[str, float]:
        """Give numbers that tell how the training fares, of the latest loss; none by default."""
        return {}


def check_backbone(backbone: Any, method: str) -> None:
    """Refuse an architecture that the methods' papers do not describe.

    Args:
        backbone: of any kind.
        method: how the messages call what wants to train it.

    Raises:
        UserError: with the reason.
    """
    if type(backbone) is not VisionTransformer:
        raise UserError(f"model.architecture: {method} needs a timm VisionTransformer, this is a {type(backbone).__name__}")
    if not backbone.has_class_token:
        raise UserError(f"model.architecture: {method} needs a class token")
    embedded = backbone.patch_embed.num_patches + (0 if backbone.no_embed_class else backbone.num_prefix_tokens)
    if backbone.pos_embed is None or backbone.pos_embed.shape[1] != embedded:
        raise UserError(f"model.architecture: {method} needs absolute position embeddings of every patch")
    if any(side % patch for side, patch in zip(backbone.patch_embed.img_size, backbone.patch_embed.patch_size, strict=True)):
        sides = backbone.patch_embed.img_size[0], backbone.patch_embed.patch_size[0]
        raise UserError(f"model.architecture: images of {sides[0]} px are no whole number of patches of {sides[1]} px; change data.size")
    if not isinstance(backbone.norm, nn.LayerNorm):
        raise UserError(f"model.architecture: {method} needs a final LayerNorm")


def build_method(recipe: Recipe, *, seed: int) -> Method:
    """Make the untrained method of a recipe, the same one for the same seed."""
    backbone = build_backbone(recipe.model.architecture, {**recipe.model.arguments, "img_size": recipe.data.size}, seed=seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if recipe.dinov2 is not None:
            from pretrain.dinov2 import Dinov2

            return Dinov2(backbone, recipe.dinov2, recipe.data, recipe.optim)
        from pretrain.mae import Mae

        assert recipe.mae is not None
        return Mae(backbone, recipe.mae, mean=recipe.data.mean, std=recipe.data.std)
