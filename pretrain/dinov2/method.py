"""DINOv2: self-distillation of class tokens (DINO) and of hidden patches (iBOT), with features spread apart (KoLeo).

Oquab, Darcet, Moutakanni et al.: DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024. Written from the paper;
where it leaves a detail open, the official code's choice is taken (facebookresearch/dinov2, Apache-2.0).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from timm.layers import DropPath, resample_abs_pos_embed
from torch import Tensor, nn

from curate import UserError
from pretrain.dinov2.colour import normalised
from pretrain.dinov2.heads import Head
from pretrain.dinov2.losses import dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp
from pretrain.hardware import through
from pretrain.method import Method, check_backbone
from pretrain.operations import layer_flops
from pretrain.schedule import half_cosine, parameter_groups
from pretrain.tokens import patch_positions, prefix_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pretrain.batch import Batch
    from pretrain.dinov2.views import MultiCrop
    from pretrain.recipe import Data, Dinov2Settings, Optim

_PICTURED_HEADS = 3
_LOGIT_SHARE = 10 / 34  # bytes of a logit (16-bit, and twice 32-bit) over those of a channel of a layer's token


class MaskToken(nn.Module):
    """The learned stand-in for a hidden patch, outside the backbone, whose tensors stay those of the plain timm model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1, 1, width))

    def forward(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Replace patch embeddings: [B, N, D] where bool [B, N] is True."""
        return torch.where(mask.unsqueeze(-1), self.token.to(patches.dtype), patches)


def add_residual(x: Tensor, branch: Callable[[Tensor], Tensor], drop: float) -> Tensor:
    """Add a residual branch that is computed for some samples only: stochastic depth that saves what it drops.

    Each sample keeps its branch with the same probability, and what is added is scaled by the inverse of the share
    that was kept, so the expected result is that of the whole batch.

    Args:
        x: [B, N, D].
        branch: from [b, N, D] to the same shape.
        drop: share of the samples left out; of what is kept, the number is rounded down, and at least 1.

    Returns:
        [B, N, D], the precision of `x`.
    """
    if drop == 0.0:
        return x + branch(x)
    kept = max(1, int(len(x) * (1 - drop) + 1e-9))
    chosen = torch.randperm(len(x), device=x.device)[:kept]
    return x.index_add(0, chosen, branch(x[chosen]).to(x.dtype), alpha=len(x) / kept)


class Dinov2(Method):
    """The method: a student that sees all crops, and a teacher, the average of past students, that sees the global ones.

    With gradient accumulation (``optim.micro_batch``) the average and the schedules move once an optimiser step, but
    Sinkhorn-Knopp evens out, and KoLeo spreads, the samples of one micro-batch (Sinkhorn-Knopp: on all processes; KoLeo: on
    its own). So it isn't the same as one large batch: the DINO and iBOT targets of few samples are forced to
    be more even than they should. Give as large a micro-batch as the memory allows.

    The subset that keeps a residual branch (see `add_residual`) is drawn from the global crops and from the local
    crops of a micro-batch, each on their own.

    Args:
        backbone: a timm VisionTransformer with a class token and absolute position embeddings, with or without registers; it
            becomes the student's, with the weights it has, and its copy the teacher's, which is the result.
        settings: of the recipe.
        data: of the recipe, with its section on local crops.
        optim: of the recipe, for the length of the run.

    Raises:
        UserError: where the architecture or the size of the crops cannot be trained this way.

    Attributes:
        teacher: ModuleDict of backbone, dino_head and ibot_head; its parameters never take a gradient.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Any, settings: Dinov2Settings, data: Data, optim: Optim) -> None:
        super().__init__()
        check_backbone(backbone, "DINOv2")
        assert data.local is not None
        patch = backbone.patch_embed.patch_size
        if any(data.local.size % side for side in patch):
            raise UserError(f"data.local.size={data.local.size}: not a whole number of patches of {patch[0]} px")
        if any(isinstance(m, DropPath) for m in backbone.modules()):
            raise UserError("model.arguments.drop_path_rate: the teacher must not drop anything; use dinov2.drop_path instead")
        self.settings, self.local = settings, data.local
        self.steps = optim.steps
        self.backbone = backbone
        self.prefix: int = backbone.num_prefix_tokens
        self.grid: tuple[int, int] = tuple(backbone.patch_embed.grid_size)
        self.local_grid = (data.local.size // patch[0], data.local.size // patch[1])
        self.mask = MaskToken(backbone.embed_dim)
        self.dino_head = Head(backbone.embed_dim, settings.dino_head)
        self.ibot_head = Head(backbone.embed_dim, settings.ibot_head)
        self.teacher = nn.ModuleDict({name: copy.deepcopy(module) for name, module in self._averaged().items()})
        self.teacher.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(data.mean), persistent=False)
        self.register_buffer("std", torch.tensor(data.std), persistent=False)
        self._latest: dict[str, Tensor] = {}

    def _averaged(self) -> dict[str, nn.Module]:
        return {"backbone": self.backbone, "dino_head": self.dino_head, "ibot_head": self.ibot_head}

    @property
    def result(self) -> nn.Module:
        """The teacher's backbone."""
        return self.teacher["backbone"]

    def start_from(self, tensors: dict[str, Tensor]) -> None:
        """Take over a trained backbone's weights, of exactly its names and shapes, for the student and the teacher."""
        self.backbone.load_state_dict(tensors, strict=True)
        self.teacher["backbone"].load_state_dict(tensors, strict=True)

    # Schedules, functions of the step alone.

    def temperature(self, step: int) -> float:
        """Give the teacher's temperature: linear over the first `temperature_warmup` of the run, then constant."""
        first, last = self.settings.teacher_temperature
        warmup = self.settings.temperature_warmup * self.steps
        return last if step >= warmup else first + (last - first) * step / warmup

    def momentum(self, step: int) -> float:
        """Give the share that the teacher keeps of itself after a step: half a cosine from `momentum` to `momentum_end`."""
        first, last = self.settings.momentum, self.settings.momentum_end
        return half_cosine(first, last, min(1.0, step / self.steps))

    # From crops to tokens.

    def student_tokens(self, images: Tensor, mask: Tensor | None = None) -> Tensor:
        """Encode crops with the student: float [B, 3, h, w], bool [B, N] or None, to [B, P + N, D]: class token, registers, patches."""
        return self._encode(self.backbone, images, mask, drop=self.settings.drop_path if self.training else 0.0)

    def teacher_tokens(self, images: Tensor) -> Tensor:
        """Encode crops with the teacher, without a gradient: float [B, 3, h, w] to [B, P + N, D]."""
        with torch.no_grad():
            return self._encode(self.teacher["backbone"], images)

    def _embed(self, backbone: Any, images: Tensor, mask: Tensor | None = None) -> Tensor:
        embedding = backbone.patch_embed
        patches = embedding.proj(images)  # not the whole module: it insists on the size of the global crops
        grid = patches.shape[-2:]
        patches = embedding.norm(patches.flatten(2).transpose(1, 2))
        if mask is not None:
            patches = self.mask(patches, mask)
        positions = resample_abs_pos_embed(patch_positions(backbone), list(grid), list(self.grid), num_prefix_tokens=0)
        return backbone.norm_pre(torch.cat([prefix_tokens(backbone, len(patches)), patches + positions], dim=1))

    def _encode(self, backbone: Any, images: Tensor, mask: Tensor | None = None, drop: float = 0.0) -> Tensor:
        x = self._embed(backbone, images, mask)
        layers: list[Any] = [partial(_layer, block, drop=drop) for block in backbone.blocks] if drop else list(backbone.blocks)
        return backbone.norm(through(layers, x, recompute=backbone.grad_checkpointing))

    def loss(self, batch: Batch, step: int) -> Tensor:
        """Give the loss of a batch: DINO, iBOT, and KoLeo once for each global crop.

        ::

            loss = dino_weight * dino_loss + ibot_weight * ibot_loss + koleo_weight * (koleo_loss(crop 0) + koleo_loss(crop 1))
        """
        settings, images, local = self.settings, len(batch), self.local.crops
        colour = batch["colour"].transpose(0, 1)  # crops before samples: [2 + L, B, ...], and so everything below
        globals_ = self.normalise(batch["global"].transpose(0, 1), colour[:2])
        locals_ = self.normalise(batch["local"].transpose(0, 1), colour[2:]) if local else None
        masks = batch["masks"].transpose(0, 1)
        hidden = masks.reshape(-1).nonzero().squeeze(1)

        with torch.no_grad():
            tokens = self.teacher_tokens(globals_)
            temperature = self.temperature(step)
            teacher_class = tokens[:, 0]
            teacher_logits = self.teacher["dino_head"](teacher_class)
            targets = sinkhorn_knopp(teacher_logits, temperature).unflatten(0, (2, images))
            patch_targets = sinkhorn_knopp(self.teacher["ibot_head"](tokens[:, self.prefix :].flatten(0, 1)[hidden]), temperature)

        tokens = self.student_tokens(globals_, masks.reshape(2 * images, -1))
        student_class = tokens[:, 0]
        classes = student_class if locals_ is None else torch.cat([student_class, self.student_tokens(locals_)[:, 0]])
        logits = self.dino_head(classes).unflatten(0, (2 + local, images))
        of_globals, of_locals = dino_loss(logits[:2], logits[2:], targets, settings.student_temperature)
        ibot = ibot_loss(
            self.ibot_head.embed(tokens[:, self.prefix :].flatten(0, 1)[hidden]),
            self.ibot_head.last_layer.weight(),
            patch_targets,
            masks,
            settings.student_temperature,
        )
        first, second = student_class.chunk(2)
        koleo = koleo_loss(first) + koleo_loss(second)
        parts = {"dino_global": of_globals, "dino_local": of_locals, "ibot": ibot, "koleo": koleo}
        self._latest = {name: value.detach() for name, value in parts.items()}
        self._latest |= {"teacher": teacher_class, "student": student_class.detach(), "logits": teacher_logits / temperature}
        return settings.dino_weight * (of_globals + of_locals) + settings.ibot_weight * ibot + settings.koleo_weight * koleo

    def normalise(self, crops: Tensor, colour: Tensor) -> Tensor:
        """Change the colours of uint8 [C, B, 3, h, w] as [C, B, K] says, and normalise: float32 [C * B, 3, h, w]."""
        return normalised(crops.flatten(0, 1), colour.flatten(0, 1), self.mean, self.std)

    # Around the optimiser's step.

    def groups(self, optim: Optim) -> list[dict[str, Any]]:
        """Sort the student's parameters for the optimiser.

        The mask token counts as an embedding of the backbone, the heads stand above it. The heads' last layers stand still
        for the first `freeze_last_layer` of the run.
        """
        frozen = round(self.settings.freeze_last_layer * optim.steps)
        rate = self.layer_rates(optim)
        return parameter_groups(
            self.named_parameters(),
            optim.weight_decay,
            weight_decay_end=optim.weight_decay_end,
            lr_scale=lambda name: rate("backbone.mask" if name.startswith("mask.") else name),
            frozen_steps=lambda name: frozen if ".last_layer." in name else 0,
        )

    def clipped(self) -> list[nn.Module]:
        """Give the modules whose gradients are clipped, each by its own norm: backbone, mask token and the two heads."""
        return [self.backbone, self.mask, self.dino_head, self.ibot_head]

    @torch.no_grad()
    def end_step(self, step: int) -> None:
        """Move the teacher towards the student: teacher = momentum * teacher + (1 - momentum) * student."""
        teacher: list[Tensor] = list(self.teacher.parameters())
        student: list[Tensor] = [parameter for module in self._averaged().values() for parameter in module.parameters()]
        torch._foreach_lerp_(teacher, student, 1.0 - self.momentum(step))

    @torch.no_grad()
    def monitors(self) -> dict[str, float]:
        """Give what shows a collapse before the loss does, of the latest loss, on this process's samples.

        Returns:
            The parts of the loss: ``dino_global``, ``dino_local``, ``ibot``, ``koleo`` (before their weights).
            ``teacher_entropy``: of the mean of the teacher's outputs over the samples, before Sinkhorn-Knopp, over log K. Towards
            0 all samples share a few prototypes. ``sample_entropy``: the mean of the samples' own entropies, over log K;
            towards 1 the outputs say nothing; where it equals ``teacher_entropy``, all samples have one output.
            ``feature_rank``: effective rank of the teacher's class tokens (RankMe, Garrido et al. 2023, equation 1): 1
            where all are alike, at most the smaller of channels and global crops in a micro-batch.
            ``agreement``: mean cosine of the teacher's class token of one global crop and the student's of the other.
        """
        if not self._latest:
            return {}
        latest = dict(self._latest)
        teacher, student, logits = (latest.pop(name).float() for name in ("teacher", "student", "logits"))
        probabilities = logits.softmax(dim=-1)
        scale = math.log(probabilities.shape[1])
        cosines = nn.functional.cosine_similarity(teacher, torch.cat(student.chunk(2)[::-1]))
        return {name: float(value) for name, value in latest.items()} | {
            "teacher_entropy": float(_entropy(probabilities.mean(dim=0))) / scale,
            "sample_entropy": float(_entropy(probabilities).mean()) / scale,
            "feature_rank": effective_rank(teacher),
            "agreement": float(cosines.mean()),
        }

    # What it takes, and what it sees.

    def views(self, data: Data) -> MultiCrop:
        """Give what DINOv2 wants to see of a photograph."""
        from pretrain.dinov2.views import MultiCrop

        return MultiCrop(data, self.grid, mask_share=self.settings.mask_share, mask_ratio=self.settings.mask_ratio)

    def flops(self) -> float:
        """Give the operations of training on one photograph: the student's forward and backward passes, the teacher's forward.

        Drop path leaves out its share of the student's layers. The number of hidden patches is the expected one.
        """
        width, tokens, local_tokens = self.backbone.embed_dim, self.prefix + math.prod(self.grid), self.prefix + math.prod(self.local_grid)
        crops = self.local.crops
        hidden = self._hidden()

        def encoder(n: int, share: float) -> float:
            embedding = 2.0 * (n - self.prefix) * self.backbone.patch_embed.proj.weight.numel()
            ratio = self.backbone.blocks[0].mlp.fc1.out_features / width
            return embedding + share * len(self.backbone.blocks) * layer_flops(n, width, mlp_ratio=ratio)

        kept = 1.0 - self.settings.drop_path
        student = 2 * encoder(tokens, kept) + crops * encoder(local_tokens, kept)
        student += (2 + crops) * self.dino_head.flops() + hidden * self.ibot_head.flops()
        teacher = 2 * encoder(tokens, 1.0) + 2 * self.dino_head.flops() + hidden * self.ibot_head.flops()
        return 3.0 * student + teacher

    def kept_numbers(self) -> float:
        """Give tokens x channels, summed over the student's layers, and the logits at what they take beside those."""
        tokens = 2 * (self.prefix + math.prod(self.grid)) + self.local.crops * (self.prefix + math.prod(self.local_grid))
        layers = (1.0 - self.settings.drop_path) * tokens * self.backbone.embed_dim * len(self.backbone.blocks)
        logits = (4 + self.local.crops) * self.settings.dino_head.prototypes + self._hidden() * self.settings.ibot_head.prototypes
        return layers + _LOGIT_SHARE * logits

    def _hidden(self) -> float:
        """Give the expected number of hidden patches of one photograph's two global crops."""
        return 2 * self.settings.mask_share * sum(self.settings.mask_ratio) / 2 * math.prod(self.grid)

    @torch.no_grad()
    def attention(self, images: Tensor) -> Tensor:
        """Give what the teacher's class token looks at in the last layer: float [B, 3, S, S] to [B, heads, N], sums below 1."""
        backbone: Any = self.teacher["backbone"]
        x = self._embed(backbone, images)
        for block in backbone.blocks[:-1]:
            x = block(x)
        last = backbone.blocks[-1]
        attention = last.attn
        qkv = attention.qkv(last.norm1(x)).unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = attention.q_norm(qkv[0]), attention.k_norm(qkv[1])
        return (query[:, :, :1] * attention.scale @ key.transpose(-2, -1)).float().softmax(dim=-1)[:, :, 0, self.prefix :]

    def picture(self, batch: Batch) -> NDArray[np.uint8]:
        """Draw one row a photograph: as it is, and where the class token looks: mean of the heads, then some heads."""
        from pretrain.pictures import grid_of

        photographs = batch["global"][:, 0]
        heads = self.attention(self.normalise(batch["global"].transpose(0, 1)[:1], batch["colour"].transpose(0, 1)[:1]))
        maps = torch.cat([heads.mean(dim=1, keepdim=True), heads[:, :_PICTURED_HEADS]], dim=1)
        maps = (maps / maps.amax(dim=-1, keepdim=True)).mul(255).round().to(torch.uint8).unflatten(-1, self.grid)
        height, width = self.backbone.patch_embed.patch_size
        maps = maps.repeat_interleave(height, dim=-2).repeat_interleave(width, dim=-1)
        return grid_of([photographs, *(m.unsqueeze(1).expand_as(photographs) for m in maps.unbind(1))])


def _layer(block: Any, x: Tensor, *, drop: float) -> Tensor:
    """Compute one timm `Block` with each of its two residual branches for a subset of the samples."""
    x = add_residual(x, lambda part: block.ls1(block.attn(block.norm1(part))), drop)
    return add_residual(x, lambda part: block.ls2(block.mlp(block.norm2(part))), drop)


def _entropy(probabilities: Tensor) -> Tensor:
    return torch.special.entr(probabilities).sum(dim=-1)


def effective_rank(features: Tensor) -> float:
    """Give the exponential of the entropy of the singular values, as shares of their sum (Roy & Vetterli 2007; RankMe).

    Args:
        features: [N, D].

    Example:
        >>> round(effective_rank(torch.eye(4)), 3), round(effective_rank(torch.ones(4, 4)), 3)
        (4.0, 1.0)
    """
    values = torch.linalg.svdvals(features.float())
    return float(_entropy(values / values.sum().clamp(min=1e-12)).exp())
