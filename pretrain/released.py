"""Released checkpoints: files of weights in the layouts that their makers publish, loaded whole or not at all.

Vision transformers of the layouts of MAE (RETFound among them, also after fine-tuning), DINOv2 (with and without registers,
RETFound's own, chunked blocks of its training code) and timm (RETFound-Green). Everything about the architecture is
inferred from the tensors, but for the number of heads: 16 at a width of 1280, else one for every 64 channels, as in all of these.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from curate import UserError, sha256_file
from pretrain.checkpoint import misfit, read_safetensors

_WRAPPERS = re.compile(r"^((module|_orig_mod|backbone)\.)+")
_CHUNK = re.compile(r"^blocks\.\d+\.(\d+)\.")
_BLOCK = re.compile(r"^blocks\.(\d+)\.")
# What training needs beside the backbone: heads, MAE's decoder, the token that stands for a masked patch, centres of the losses.
_NOT_BACKBONE = ("head.", "dino_head.", "ibot_head.", "decoder_", "mask_token", "dino_loss.", "ibot_patch_loss.")
_NAMES = {(192, 12): "tiny", (384, 12): "small", (768, 12): "base", (1024, 24): "large", (1280, 32): "huge", (1536, 40): "giant"}
_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
_HALVES = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


@dataclass(frozen=True)
class Released:
    """A backbone that was found in a file.

    Attributes:
        tensors: under timm's names.
        architecture: timm's name, or a description where timm has none of this shape.
        arguments: of timm's vision transformer.
        data: input_size, mean, std.
    """

    tensors: dict[str, Tensor]
    architecture: str
    arguments: dict[str, Any]
    data: dict[str, Any]


def load_released(spec: str) -> tuple[nn.Module, dict[str, Any]]:
    """Load a released checkpoint.

    Args:
        spec: ``FILE``, or ``FILE@PIXELS`` to resample the position embeddings for images of that size.

    Returns:
        The timm model without a head, and architecture, sha256 (of the file), input_size, mean, std, shards_digest (None).

    Raises:
        UserError: where the file can't be read without running code from it, holds no backbone of a known layout, or
            any tensor of the backbone is missing or would go unused.
    """
    import timm

    path, pixels = _parse(spec)
    found = _find_backbone(path, pixels)
    with torch.device("meta"):  # no random weights are drawn only to be replaced
        model = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=0, **found.arguments)
    if said := misfit(found.tensors, model.state_dict()):
        raise UserError(f"{path}: not loaded, for it isn't exactly the backbone that it seemed ({found.architecture}); {said}")
    model.load_state_dict(found.tensors, strict=True, assign=True)
    return model, _about(path, found)


def describe_released(spec: str) -> dict[str, Any]:
    """Describe a released checkpoint without building its model; see `load_released`."""
    path, pixels = _parse(spec)
    return _about(path, _find_backbone(path, pixels))


def examine_file(path: Path) -> dict[str, Any]:
    """Say what a file of weights holds, without building anything.

    Returns:
        container (where its state dict stands), tensors (how many), parameters, other (what else it holds), left_out (prefix of
        what isn't backbone -> number of tensors), and of a backbone that is known architecture, input_size, mean, std, patch,
        width, depth, heads; else reason.

    Raises:
        UserError: where the file can't be read as weights.
    """
    content = _read(path)
    state = _state(path, content)
    container = next((k for k in ("teacher", "model", "state_dict") if isinstance(content.get(k), dict)), "")
    left_out: dict[str, int] = {}
    for full in state:
        name = _WRAPPERS.sub("", full)
        prefix = next((p for p in _NOT_BACKBONE if name.startswith(p)), None)
        if prefix is not None:
            left_out[prefix.rstrip("._")] = left_out.get(prefix.rstrip("._"), 0) + 1
    about: dict[str, Any] = {
        "container": container or "the file itself",
        "tensors": len(state),
        "parameters": sum(t.numel() for t in state.values()),
        "other": sorted(str(k) for k in content if k != container) if container else [],
        "left_out": left_out,
    }
    try:
        found = _find_backbone(path, None)
    except UserError as error:
        return about | {"reason": str(error).removeprefix(f"{path}: ")}
    sizes = {"patch": "patch_size", "width": "embed_dim", "depth": "depth", "heads": "num_heads", "registers": "reg_tokens"}
    return about | {"architecture": found.architecture, **found.data} | {name: found.arguments[key] for name, key in sizes.items()}


def _about(path: Path, found: Released) -> dict[str, Any]:
    return {"architecture": found.architecture, **found.data, "sha256": sha256_file(path), "shards_digest": None}


def _parse(spec: str) -> tuple[Path, int | None]:
    if Path(spec).is_file():
        return Path(spec), None
    name, _, pixels = spec.rpartition("@")
    if not re.fullmatch(r"[1-9][0-9]{0,3}", pixels):
        raise UserError(f"{spec}: expected FILE@PIXELS, as {name}@224")
    return Path(name), int(pixels)


def _find_backbone(path: Path, pixels: int | None) -> Released:
    """Find the backbone among a file's tensors, and infer what it is."""
    tensors = _as_timm_names(path, _state(path, _read(path)))
    for name in ("patch_embed.proj.weight", "pos_embed", "blocks.0.mlp.fc1.weight"):
        if name not in tensors:
            raise UserError(
                f"{path}: no vision transformer of a known layout ({name} is missing); known are those of MAE, DINOv2 and RETFound"
            )
    projection, positions = tensors["patch_embed.proj.weight"], tensors["pos_embed"]
    depth = 1 + max(int(found[1]) for found in map(_BLOCK.match, tensors) if found)
    width, patch = projection.shape[0], projection.shape[-1]
    heads = 16 if width == 1280 else width // 64
    if projection.ndim != 4 or projection.shape[1:] != (3, patch, patch) or width > 1536 or heads * 64 != (width, 1024)[width == 1280]:
        raise UserError(f"{path}: how many attention heads a transformer of {_shape(projection)} has is not known")
    grid, with_class = _grid(path, positions)
    registers, class_token = tensors["reg_token"].shape[1] if "reg_token" in tensors else 0, with_class or "cls_token" in tensors
    size = grid * patch
    # The one layout that is told by its positions: all others are normalised as ImageNet's photographs.
    green = registers == 4 and (patch, grid) == (14, 28)
    if pixels is not None and pixels != size:
        tensors["pos_embed"], size = _resample(path, positions, pixels, patch, with_class), pixels
    scaled, gated = "blocks.0.ls1.gamma" in tensors, _is_gated(tensors)
    arguments: dict[str, Any] = {
        "img_size": size,
        "patch_size": patch,
        "embed_dim": width,
        "depth": depth,
        "num_heads": heads,
        # Half a channel more, for timm rounds the product down.
        "mlp_ratio": (tensors["blocks.0.mlp.fc1.weight"].shape[0] + 0.5) / width,
        "init_values": 1e-5 if scaled else None,
        "reg_tokens": registers,
        "class_token": class_token,
        "no_embed_class": not with_class,
        "fc_norm": "fc_norm.weight" in tensors,
        "global_pool": "token" if class_token and "fc_norm.weight" not in tensors else "avg",
        **(_gated_layers() if gated else {}),
    }
    data = {"input_size": [3, size, size], **(_HALVES if green else _IMAGENET)}
    return Released(tensors, _name(width, depth, patch, scaled=scaled, registers=registers), arguments, data)


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    try:
        # Fine-tuned checkpoints hold their command's arguments; everything else that isn't data is refused, not run.
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it holds {named[1]}, and only tensors are read; save its state dict alone" if named else "not a checkpoint of torch"
        raise UserError(f"{path}: cannot be read as weights ({reason})") from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as weights (damaged, or not a checkpoint: {' '.join(str(error).split())[:120]})") from None


def _state(path: Path, content: Any) -> dict[str, Tensor]:
    """Take the state dict out of its container: the teacher's, the model's, or the file's own."""
    if isinstance(content, dict):
        content = next((content[key] for key in ("teacher", "model", "state_dict") if isinstance(content.get(key), dict)), content)
    if not isinstance(content, dict) or not content or not all(isinstance(t, Tensor) for t in content.values()):
        raise UserError(f"{path}: holds no state dict (looked under 'teacher', 'model', 'state_dict' and at the top)")
    return content


def _as_timm_names(path: Path, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Strip wrappers, chunks of blocks and all that isn't backbone; use timm's names; float32."""
    tensors: dict[str, Tensor] = {}
    for full, tensor in state.items():
        name = _CHUNK.sub(r"blocks.\1.", _WRAPPERS.sub("", full))
        if name.startswith(_NOT_BACKBONE):
            continue
        name = name.replace(".mlp.w12.", ".mlp.fc1.").replace(".mlp.w3.", ".mlp.fc2.")
        if name in tensors:
            raise UserError(f"{path}: two tensors are the backbone's {name}")
        tensors[name] = tensor.float()
    if {"register_tokens", "cls_token", "pos_embed"} <= tensors.keys():
        # DINOv2 gives the class token a position and its registers none; timm's has none for either.
        tensors["reg_token"] = tensors.pop("register_tokens")
        tensors["cls_token"] = tensors["cls_token"] + tensors["pos_embed"][:, :1]
        tensors["pos_embed"] = tensors["pos_embed"][:, 1:]
    return tensors


def _shape(projection: Tensor) -> str:
    return f"patches {tuple(projection.shape[1:])} and width {projection.shape[0]}"


def _grid(path: Path, positions: Tensor) -> tuple[int, bool]:
    """Give the side of the square of positions, and whether the class token has one before them."""
    count = positions.shape[1] if positions.ndim == 3 else 0
    for with_class in (True, False):
        side = math.isqrt(max(count - with_class, 0))
        if side and side * side == count - with_class:
            return side, with_class
    raise UserError(f"{path}: {tuple(positions.shape)} position embeddings are no square")


def _resample(path: Path, positions: Tensor, pixels: int, patch: int, with_class: bool) -> Tensor:
    from timm.layers import resample_abs_pos_embed

    if pixels % patch:
        raise UserError(f"{path}@{pixels}: not a multiple of the patch, {patch} pixels; the nearest are {_multiples(pixels, patch)}")
    side = pixels // patch
    return resample_abs_pos_embed(positions, new_size=[side, side], num_prefix_tokens=int(with_class))


def _multiples(pixels: int, patch: int) -> str:
    below = pixels // patch * patch
    return f"{below} and {below + patch}" if below else str(patch)


def _is_gated(tensors: dict[str, Tensor]) -> bool:
    return tensors["blocks.0.mlp.fc1.weight"].shape[0] != tensors.get("blocks.0.mlp.fc2.weight", torch.empty(0, 0)).shape[-1]


def _gated_layers() -> dict[str, Any]:
    from timm.layers import SwiGLUPacked

    return {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}


def _name(width: int, depth: int, patch: int, *, scaled: bool, registers: int) -> str:
    import timm

    suffix = "224" if not scaled else f"reg{registers}_dinov2" if registers else "dinov2"
    name = f"vit_{_NAMES.get((width, depth), '')}_patch{patch}_{suffix}"
    return name if timm.is_model(name) else f"vision transformer of {depth} blocks, width {width}, patch {patch}"
