"""Backbones so small that training them takes a second."""

from __future__ import annotations

from typing import Any

import torch


def tiny_loader(source: str) -> tuple[Any, dict[str, Any]]:
    """Untrained transformers of 8 x 8 patches: the seed is the last character of the source."""
    import timm

    torch.manual_seed(int(source[-1]))
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=2, num_classes=0).eval()
    return model, describe_tiny(source)


def describe_tiny(source: str) -> dict[str, Any]:
    """Say what `tiny_loader` gives."""
    return {
        "architecture": "tiny",
        "sha256": source[-1] * 64,
        "input_size": [3, 32, 32],
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "shards_digest": None,
    }
