"""What makes a step fast on the hardware at hand, and changes no result but in its last digits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pretrain.operations import peak_flops

if TYPE_CHECKING:
    from pretrain.batch import Batch
    from pretrain.method import Method
    from pretrain.recipe import Engine

_SHAPES = 256  # compiled versions of a block: one for each layer and size of image


def transformer_blocks(method: Method) -> list[nn.Module]:
    """List the transformer blocks of a method: the members of every container whose name ends in ``blocks``."""
    return [
        block
        for name, container in method.named_modules()
        if name.endswith("blocks") and isinstance(container, nn.Sequential | nn.ModuleList)
        for block in container
    ]


def block_parts(method: Method) -> list[nn.Module]:
    """List the attention and the MLP of every transformer block: what a method calls whole, even where it takes a block apart."""
    blocks: list[Any] = transformer_blocks(method)
    return [part for b in blocks for part in ([b.attn, b.mlp] if hasattr(b, "attn") and hasattr(b, "mlp") else [b])]


def through(blocks: Iterable[nn.Module], x: Tensor, *, recompute: bool) -> Tensor:
    """Pass tokens through blocks, one after another.

    Args:
        blocks: of a transformer.
        x: [B, N, D].
        recompute: keep only what goes into each block for the backward pass, and compute the rest again there.

    Returns:
        [B, N, D].
    """
    for block in blocks:
        x = checkpoint(block, x, use_reentrant=False) if recompute and torch.is_grad_enabled() else block(x)
    return x


def compile_blocks(method: Method, *, sharded: bool) -> None:
    """Compile transformer blocks, in place. Names stay as they are, and nothing is compiled before it runs.

    Args:
        method: its blocks are compiled, and their attention and MLP for a method that takes blocks apart.
        sharded: only the latter, which are the units that are gathered.
    """
    import torch._dynamo

    limit = "recompile_limit" if hasattr(torch._dynamo.config, "recompile_limit") else "cache_size_limit"
    setattr(torch._dynamo.config, limit, max(_SHAPES, getattr(torch._dynamo.config, limit)))
    for module in [*([] if sharded else transformer_blocks(method)), *block_parts(method)]:
        module.compile(dynamic=False)


def prepare(method: Method, engine: Engine, device: torch.device, *, sharded: bool) -> None:
    """Set a method up as the recipe says: activation checkpointing, compilation.

    Args:
        method: changed in place.
        engine: the recipe's section.
        device: where the method is; compiled by default on a GPU alone.
        sharded: whether its parameters will be shared out.
    """
    if engine.activation_checkpointing:
        method.backbone.set_grad_checkpointing(True)
    if engine.compile if engine.compile is not None else device.type == "cuda":
        compile_blocks(method, sharded=sharded)


def set_up_gpu(engine: Engine, device: torch.device) -> None:
    """Make a GPU the one of this process, and allow TF32 products and convolutions on it, or forbid them."""
    if device.type == "cuda":
        if device.index is not None:
            torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high" if engine.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = engine.tf32


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Bring batches to a device; to a GPU from pinned memory on a stream of its own, beside the step before."""
    if device.type != "cuda":
        for batch in batches:
            yield batch.to(device)
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        batch.tensors = {name: tensor.pin_memory() for name, tensor in batch.tensors.items()}
        with torch.cuda.stream(copying):
            copied = batch.to(device)
        torch.cuda.current_stream(device).wait_stream(copying)
        for tensor in copied.tensors.values():
            tensor.record_stream(torch.cuda.current_stream(device))
        yield copied


def device_peak(device: torch.device) -> float | None:
    """Give the bf16 peak of a device, FLOP/s; None for a CPU, and a GPU that is not known."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_memory(device: torch.device) -> int | None:
    """Give the most memory that tensors have taken on a GPU so far, bytes; None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
