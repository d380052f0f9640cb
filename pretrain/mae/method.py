"""Masked autoencoder (He, Chen, Xie, Li, Dollar, Girshick: Masked Autoencoders Are Scalable Vision Learners, CVPR 2022).

The encoder is a plain timm VisionTransformer: its `state_dict` is the result of the training. Written from the paper.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from curate import UserError
from pretrain.hardware import through
from pretrain.mae.views import MaeViews
from pretrain.method import Method, check_backbone
from pretrain.operations import layer_flops
from pretrain.tokens import patch_positions, prefix_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pretrain.batch import Batch
    from pretrain.recipe import Data, MaeSettings


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Give fixed sine-cosine position embeddings of a grid of patches (MAE, appendix A.1).

    The first half of the channels holds the column, the second half the row; each half is the sines and then the
    cosines of the coordinate times 10000^(-4k / width), k = 0 ... width/4 - 1.

    Args:
        width: channels, a multiple of 4.
        grid: rows and columns of patches.

    Returns:
        float32 [rows * columns, width], in the row-major order of the patches.
    """
    rows, columns = grid
    frequency = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    y, x = torch.meshgrid(torch.arange(rows, dtype=torch.float64), torch.arange(columns, dtype=torch.float64), indexing="ij")
    angles = [coordinate.reshape(-1, 1) * frequency for coordinate in (x, y)]
    return torch.cat([part for a in angles for part in (a.sin(), a.cos())], dim=1).float()


def patchify(images: Tensor, patch: tuple[int, int]) -> Tensor:
    """Cut images into patches.

    Args:
        images: [B, C, H, W], H and W multiples of the patch.
        patch: height and width of a patch, pixels.

    Returns:
        [B, L, height * width * C], patches row by row, in each the pixels row by row with their channels together.
    """
    b, c, h, w = images.shape
    ph, pw = patch
    return images.reshape(b, c, h // ph, ph, w // pw, pw).permute(0, 2, 4, 3, 5, 1).reshape(b, -1, ph * pw * c)


def unpatchify(patches: Tensor, patch: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Undo `patchify`: [B, L, height * width * C] to [B, C, H, W]."""
    b, _, values = patches.shape
    (ph, pw), (rows, columns) = patch, grid
    c = values // (ph * pw)
    return patches.reshape(b, rows, columns, ph, pw, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, rows * ph, columns * pw)


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Pick tokens: [B or 1, L, D] and int64 [B, K] to [B, K, D]."""
    expanded = tokens.expand(positions.shape[0], -1, -1)
    return expanded.gather(1, positions.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def reconstruction_target(images: Tensor, hidden: Tensor, patch: tuple[int, int], *, normalise: bool) -> Tensor:
    """Give the pixels of the removed patches, each patch normalised by its own mean and variance.

    The variance is the unbiased one (divided by n - 1) and 1e-6 is added to it.

    Args:
        images: float [B, C, H, W].
        hidden: int64 [B, M], positions of the removed patches.
        patch: height and width of a patch.
        normalise: False: the pixels as they are.

    Returns:
        float [B, M, height * width * C].
    """
    target = take(patchify(images, patch), hidden)
    if normalise:
        variance, mean = torch.var_mean(target, dim=-1, keepdim=True, correction=1)
        target = (target - mean) / (variance + 1e-6).sqrt()
    return target


def reconstruction_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Give the mean squared error over the removed patches.

    ::

        total = 0
        for image in batch:
            for patch in removed patches of image:
                error = 0
                for value in patch:                  # height x width x channels
                    error += (prediction - target) ** 2
                total += error / values in a patch
        loss = total / (images * removed patches of an image)

    Args:
        prediction: [B, M, values].
        target: the same shape, float32.

    Returns:
        Scalar, float32. Every image loses the same number of patches, so one mean is all of it.
    """
    return (prediction.float() - target).square().mean()


class Mae(Method):
    """The method: an encoder that sees the kept patches, a light decoder, and the loss on the removed ones.

    Args:
        backbone: a timm VisionTransformer with a class token and absolute position embeddings, with or without registers.
            Its weights are initialised anew and its position embeddings replaced by fixed ones.
        settings: of the recipe.
        mean: of the channels, for pixel values in 0 ... 1.
        std: likewise.

    Raises:
        UserError: where the architecture cannot be trained this way.
    """

    decoder_positions: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Any, settings: MaeSettings, *, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        check_backbone(backbone, "MAE")
        if backbone.patch_embed.proj.bias is None:
            raise UserError("model.architecture: MAE needs a patch embedding with a bias")
        if backbone.embed_dim % 4:
            raise UserError(f"model.arguments.embed_dim={backbone.embed_dim}: must be a multiple of 4")
        width, heads = settings.decoder_width, settings.decoder_heads
        if width % heads:
            raise UserError(f"mae.decoder_width={width} is not a multiple of mae.decoder_heads={heads}")
        self.settings = settings
        self.backbone = backbone
        self.patch: tuple[int, int] = tuple(backbone.patch_embed.patch_size)
        self.grid: tuple[int, int] = tuple(backbone.patch_embed.grid_size)
        self.patches = self.grid[0] * self.grid[1]
        # As the paper's int(L x (1 - ratio)): the kept ones are rounded down, the small term only repairs binary fractions.
        self.kept = int(self.patches * (1 - settings.mask_ratio) + 1e-9)
        if self.kept < 1:
            raise UserError(f"mae.mask_ratio={settings.mask_ratio} leaves none of the {self.patches} patches")

        norm: Any = partial(nn.LayerNorm, eps=1e-6)
        self.decoder_embed = nn.Linear(backbone.embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.decoder_blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(settings.decoder_depth)))
        self.decoder_norm = norm(width)
        self.decoder_head = nn.Linear(width, self.patch[0] * self.patch[1] * 3)
        self.register_buffer("decoder_positions", sincos_positions(width, self.grid).unsqueeze(0), persistent=False)
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        backbone = self.backbone
        projection = backbone.patch_embed.proj
        nn.init.xavier_uniform_(projection.weight.view(projection.weight.shape[0], -1))  # a convolution that is a linear layer on a patch
        nn.init.zeros_(projection.bias)
        nn.init.normal_(backbone.cls_token, std=0.02)
        if backbone.reg_token is not None:
            nn.init.normal_(backbone.reg_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)
        with torch.no_grad():
            backbone.pos_embed.zero_()  # the class token and the registers have no place
            patch_positions(backbone).copy_(sincos_positions(backbone.embed_dim, self.grid))
        backbone.pos_embed.requires_grad_(False)

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 [B, 3, H, W] into float32 with the recipe's channel statistics."""
        return images.float().sub_(255.0 * self.mean).div_(255.0 * self.std)

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """Encode the kept patches: float [B, 3, H, W] and int64 [B, K] to [B, P + K, D]: class token, registers, patches."""
        backbone = self.backbone
        tokens = take(backbone.patch_embed(images) + patch_positions(backbone), visible)
        x = backbone.norm_pre(torch.cat([prefix_tokens(backbone, len(tokens)), tokens], dim=1))
        return backbone.norm(through(backbone.blocks, x, recompute=backbone.grad_checkpointing))

    def decode(self, encoded: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Predict the removed patches: [B, P + K, D] to [B, M, values].

        Tokens carry their position in their embedding, so they need not be put back in order: the removed ones
        simply follow the kept ones. The class token passes through and is dropped; registers end with the encoder.
        """
        x = self.decoder_embed(encoded)
        kept = x[:, self.backbone.num_prefix_tokens :] + take(self.decoder_positions, visible)
        removed = self.mask_token + take(self.decoder_positions, hidden)
        x = torch.cat([x[:, :1], kept, removed.to(x.dtype)], dim=1)
        x = self.decoder_norm(through(self.decoder_blocks, x, recompute=self.backbone.grad_checkpointing))
        return self.decoder_head(x[:, 1 + visible.shape[1] :])

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Give the loss of a batch, as `reconstruction_loss` defines it. MAE does not depend on the step."""
        images = self.normalise(batch["images"])
        prediction = self.decode(self.encode(images, batch["visible"]), batch["visible"], batch["hidden"])
        return reconstruction_loss(
            prediction, reconstruction_target(images, batch["hidden"], self.patch, normalise=self.settings.normalise_target)
        )

    def views(self, data: Data) -> MaeViews:
        """Give what MAE wants to see of a photograph."""
        return MaeViews(data, self.patches, self.kept)

    def picture(self, batch: Batch) -> NDArray[np.uint8]:
        """Draw one row an image: as it is, what the encoder saw of it, what the decoder made of that."""
        from pretrain.pictures import grid_of

        training = self.training
        self.eval()
        masked, filled = self.reconstruct(batch)
        self.train(training)
        return grid_of([batch["images"], masked, filled])

    def flops(self) -> float:
        """Give the operations of training on one image: forward, and twice that for the backward pass."""
        values = self.patch[0] * self.patch[1] * 3
        width, narrow = self.backbone.embed_dim, self.settings.decoder_width
        ratio = self.backbone.blocks[0].mlp.fc1.out_features / width
        forward = 2.0 * self.patches * values * width  # patch embedding, of all patches
        forward += len(self.backbone.blocks) * layer_flops(self.backbone.num_prefix_tokens + self.kept, width, mlp_ratio=ratio)
        forward += 2 * (self.backbone.num_prefix_tokens + self.kept) * width * narrow
        forward += self.settings.decoder_depth * layer_flops(1 + self.patches, narrow)
        forward += 2 * (self.patches - self.kept) * narrow * values
        return 3.0 * forward

    def kept_numbers(self) -> float:
        """Give tokens x channels, summed over the layers of encoder and decoder."""
        encoder = (self.backbone.num_prefix_tokens + self.kept) * self.backbone.embed_dim * len(self.backbone.blocks)
        return float(encoder + (1 + self.patches) * self.settings.decoder_width * self.settings.decoder_depth)

    @torch.no_grad()
    def reconstruct(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Show what the model makes of a batch.

        Returns:
            uint8 [B, 3, H, W] twice: the images with their removed patches grey, and with those patches as predicted
            (where the target is normalised, brought back with the mean and variance of the true patch).
        """
        images = self.normalise(batch["images"])
        predicted = self.decode(self.encode(images, batch["visible"]), batch["visible"], batch["hidden"]).float()
        true = patchify(images, self.patch)
        if self.settings.normalise_target:
            variance, mean = torch.var_mean(take(true, batch["hidden"]), dim=-1, keepdim=True, correction=1)
            predicted = predicted * (variance + 1e-6).sqrt() + mean
        where = batch["hidden"].unsqueeze(-1).expand_as(predicted)
        grey = patchify(((0.5 - self.mean) / self.std).expand_as(images), self.patch)
        masked = true.scatter(1, where, take(grey, batch["hidden"]))
        filled = true.scatter(1, where, predicted)
        return self._pixels(masked), self._pixels(filled)

    def _pixels(self, patches: Tensor) -> Tensor:
        images = unpatchify(patches, self.patch, self.grid) * self.std + self.mean
        return images.mul(255.0).round().clamp(0, 255).to(torch.uint8)
