"""Released checkpoints: small files in each published layout, whose features are those of the model they were made from."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from curate import UserError, sha256_file
from pretrain import describe_backbone, load_backbone

Tensors = dict[str, Tensor]
SMALL: dict[str, Any] = {"embed_dim": 64, "depth": 3, "num_heads": 1, "num_classes": 0}


def model(**arguments: Any) -> nn.Module:
    torch.manual_seed(3)
    made = timm.create_model("vit_base_patch16_224", **{"img_size": 32, "patch_size": 8, **SMALL, **arguments})
    with torch.no_grad():
        for parameter in made.parameters():  # registers, biases and scales begin at the same values everywhere
            parameter.add_(0.1 * torch.randn_like(parameter))
    return made.eval()


def gated(**arguments: Any) -> nn.Module:
    from timm.layers import SwiGLUPacked

    return model(init_values=1e-5, mlp_ratio=5.375, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, **arguments)


def decoder() -> Tensors:
    names = (
        "mask_token",
        "decoder_embed.weight",
        "decoder_pos_embed",
        "decoder_blocks.0.norm1.weight",
        "decoder_norm.bias",
        "decoder_pred.bias",
    )
    return {name: torch.zeros(1) for name in names}


def heads() -> Tensors:
    return {f"{head}.{name}": torch.zeros(2) for head in ("dino_head", "ibot_head") for name in ("mlp.0.weight", "last_layer.weight_v")}


def chunked(tensors: Tensors) -> Tensors:
    return {
        name.replace("blocks.", f"blocks.{int(name.split('.')[1]) // 2}.") if name.startswith("blocks.") else name: t
        for name, t in tensors.items()
    }


def official(made: nn.Module) -> Tensors:
    """Rename as DINOv2 does: its registers have no positions, its class token has one."""
    tensors = dict(made.state_dict())
    tensors["mask_token"] = torch.zeros(1, 64)
    if "reg_token" in tensors:
        tensors["register_tokens"] = tensors.pop("reg_token")
        position = torch.randn(1, 1, 64)
        tensors["pos_embed"] = torch.cat([position, tensors["pos_embed"]], dim=1)
        tensors["cls_token"] = tensors["cls_token"] - position
    return {name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3") if is_gated(made) else name: t for name, t in tensors.items()}


def is_gated(made: nn.Module) -> bool:
    return type(made.blocks[0].mlp).__name__ == "GluMlp"


def wrapped(tensors: Tensors, prefix: str) -> Tensors:
    return {prefix + name: tensor for name, tensor in tensors.items()}


MAE = model()
DINO = model(img_size=56, patch_size=14, init_values=1e-5)
REGISTERS = model(img_size=56, patch_size=14, init_values=1e-5, reg_tokens=4, no_embed_class=True)
GIANT = gated(img_size=56, patch_size=14)
GREEN = model(img_size=392, patch_size=14, depth=1, init_values=1e-5, reg_tokens=4, no_embed_class=True)
TUNED = model(global_pool="avg")

LAYOUTS: dict[str, tuple[nn.Module, Callable[[], Any], int]] = {
    "RETFound MAE": (MAE, lambda: {"model": {**MAE.state_dict(), **decoder()}, "epoch": 799}, 32),
    "RETFound MAE, fine-tuned": (
        TUNED,
        lambda: {"model": {**TUNED.state_dict(), "head.weight": torch.zeros(5, 64)}, "epoch": 9, "args": argparse.Namespace(lr=0.1)},
        32,
    ),
    "RETFound DINOv2": (DINO, lambda: {"teacher": {**wrapped(official(DINO), "backbone."), **heads()}}, 56),
    "DINOv2 official": (DINO, lambda: official(DINO), 56),
    "DINOv2 official, registers": (REGISTERS, lambda: official(REGISTERS), 56),
    "DINOv2 official, gated": (GIANT, lambda: official(GIANT), 56),
    "DINOv2 training": (DINO, lambda: {"teacher": wrapped({**wrapped(chunked(official(DINO)), "backbone."), **heads()}, "module.")}, 56),
    "RETFound-Green": (GREEN, lambda: dict(GREEN.state_dict()), 392),
    "a state dict under its name": (MAE, lambda: {"state_dict": wrapped(MAE.state_dict(), "module._orig_mod.")}, 32),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_features_are_those_of_the_model_that_was_released(layout: str, tmp_path: Path) -> None:
    original, content, size = LAYOUTS[layout]
    torch.save(content(), tmp_path / "released.pth")
    loaded, info = load_backbone(tmp_path / "released.pth")
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), original(images), rtol=0, atol=2e-5)
        assert loaded(images).shape == (2, 64)
    assert info["input_size"] == [3, size, size]
    assert info["sha256"] == sha256_file(tmp_path / "released.pth")
    assert info["mean"] == ([0.5] * 3 if layout == "RETFound-Green" else [0.485, 0.456, 0.406])
    assert describe_backbone(tmp_path / "released.pth") == info


def test_the_old_format_of_torch_and_safetensors_are_read_too(tmp_path: Path) -> None:
    torch.save(MAE.state_dict(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(MAE.state_dict(), tmp_path / "new.safetensors")
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        for file in ("old.pth", "new.safetensors"):
            assert torch.equal(load_backbone(tmp_path / file)[0](images), MAE(images))


def test_half_precision_is_computed_in_single(tmp_path: Path) -> None:
    torch.save({name: tensor.half() for name, tensor in MAE.state_dict().items()}, tmp_path / "half.pth")
    assert {p.dtype for p in load_backbone(tmp_path / "half.pth")[0].parameters()} == {torch.float32}


@pytest.mark.parametrize(("width", "depth", "name"), [(384, 12, "vit_small_patch14_dinov2"), (192, 12, "vit_tiny_patch16_224")])
def test_a_shape_that_timm_knows_has_its_name_and_heads(width: int, depth: int, name: str, tmp_path: Path) -> None:
    shape = {"img_size": 28, "init_values": 1e-5} if "dinov2" in name else {"img_size": 32}
    original = timm.create_model(name, **{**shape, "num_classes": 0}).eval()
    torch.save(original.state_dict(), tmp_path / "released.pth")
    loaded, info = load_backbone(tmp_path / "released.pth")
    assert info["architecture"] == name
    assert loaded.blocks[0].attn.num_heads == original.blocks[0].attn.num_heads


def test_another_size_resamples_the_positions_as_timm_does(tmp_path: Path) -> None:
    torch.save(official(DINO), tmp_path / "released.pth")
    loaded, info = load_backbone(f"{tmp_path / 'released.pth'}@84")
    again = model(img_size=84, patch_size=14, init_values=1e-5)
    again.load_state_dict(timm.models.vision_transformer.checkpoint_filter_fn(DINO.state_dict(), again))
    images = torch.randn(1, 3, 84, 84)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), again.eval()(images))
    assert info["input_size"] == [3, 84, 84]
    with pytest.raises(UserError, match=r"released.pth@90: not a multiple of the patch, 14 pixels; the nearest are 84 and 98$"):
        load_backbone(f"{tmp_path / 'released.pth'}@90")
    with pytest.raises(UserError, match="expected FILE@PIXELS"):
        load_backbone(f"{tmp_path / 'released.pth'}@big")


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (without(MAE.state_dict(), "blocks.1.attn.qkv.weight"), r"missing: blocks\.1\.attn\.qkv\.weight$"),
        (without(MAE.state_dict(), "cls_token"), r"missing: cls_token$"),
        (without(MAE.state_dict(), "norm.weight"), r"missing: norm\.weight$"),
        ({**MAE.state_dict(), "blocks.0.attn.gate": torch.zeros(1)}, r"unused: blocks\.0\.attn\.gate$"),
        ({**wrapped(MAE.state_dict(), "backbone."), "norm_extra.weight": torch.zeros(1)}, r"unused: norm_extra\.weight$"),
        ({**MAE.state_dict(), "norm.bias": torch.zeros(3)}, r"of another shape: norm\.bias$"),
        ({**MAE.state_dict(), "backbone.norm.bias": torch.zeros(64)}, r"two tensors are the backbone's norm\.bias$"),
        (without(MAE.state_dict(), "pos_embed"), r"no vision transformer of a known layout \(pos_embed is missing\)"),
        ({"fc.weight": torch.zeros(1)}, r"patch_embed\.proj\.weight is missing"),
        ({"model": {}, "epoch": 3}, "holds no state dict"),
        ([1, 2], "holds no state dict"),
        (model(embed_dim=72).state_dict(), "how many attention heads a transformer of patches .* and width 72 has is not known"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_exactly_a_known_backbone_is_refused(content: Any, words: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "released.pth")
    with pytest.raises(UserError, match=words) as refused:
        load_backbone(tmp_path / "released.pth")
    assert str(refused.value).startswith(str(tmp_path / "released.pth"))


class Payload:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("code from the file ran",)


def test_no_code_of_a_file_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": MAE.state_dict(), "extra": Payload()}, tmp_path / "released.pth")
    with pytest.raises(UserError, match="only tensors are read; save its state dict alone"):
        load_backbone(tmp_path / "released.pth")
    assert "ran" not in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_file_is_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "released.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"released\.pth: cannot be read as weights \([^\n]+\)$"):
        load_backbone(tmp_path / "released.pth")


def test_a_file_cut_short_is_one_line(tmp_path: Path) -> None:
    torch.save(MAE.state_dict(), tmp_path / "whole.pth")
    (tmp_path / "released.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-500])
    with pytest.raises(UserError, match=r"released\.pth: cannot be read as weights \([^\n]+\)$"):
        load_backbone(tmp_path / "released.pth")


def test_a_run_is_described_as_it_is_loaded_and_without_torch(finished: Path) -> None:
    assert describe_backbone(finished) == load_backbone(finished)[1]
    code = f"import sys; from pretrain import describe_backbone; describe_backbone({str(finished)!r}); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_whose_weights_are_gone_is_one_line(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((finished / "config.json").read_bytes())
    with pytest.raises(UserError, match=r"backbone\.safetensors: missing$"):
        describe_backbone(tmp_path)
