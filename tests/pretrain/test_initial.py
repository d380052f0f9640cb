"""Starting from weights that are there, and saying what a file of weights is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from curate import UserError, sha256_file
from pretrain import load_backbone, read_recipe, run_pretraining
from pretrain.export import export_backbone
from pretrain.initial import start_from
from pretrain.inspection import inspect_weights, rows
from pretrain.method import Method, build_method
from pretrain.recipe import Recipe

ARGUMENTS: dict[str, Any] = {"embed_dim": 64, "depth": 2, "num_heads": 1, "patch_size": 8}


def released(path: Path, *, size: int = 32, container: str = "model", more: dict[str, Tensor] | None = None, **arguments: Any) -> nn.Module:
    """Write a small checkpoint as its makers would, and give the model in it."""
    torch.manual_seed(5)
    made = timm.create_model("vit_base_patch16_224", num_classes=0, img_size=size, **{**ARGUMENTS, **arguments})
    torch.save({container: {**made.state_dict(), **(more or {})}, "epoch": 3, "args": argparse.Namespace(lr=1.0)}, path)
    return made


def small(*overrides: str) -> tuple[Method, Recipe]:
    sizes = json.dumps(ARGUMENTS)
    recipe = read_recipe(
        "mae-tiny",
        ["model.architecture=vit_base_patch16_224", f"model.arguments={sizes}", "data.size=32", "mae.decoder_heads=2", *overrides],
    )
    return build_method(recipe, seed=0), recipe


def test_every_tensor_of_the_backbone_comes_from_the_file_and_the_decoder_starts_anew(tmp_path: Path) -> None:
    made = released(tmp_path / "a.pth", more={"decoder_embed.weight": torch.zeros(3), "mask_token": torch.zeros(1, 1, 3)})
    method, recipe = small()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    found = start_from(str(tmp_path / "a.pth"), method, recipe)
    assert found == {
        "source": str(tmp_path / "a.pth"),
        "sha256": sha256_file(tmp_path / "a.pth"),
        "architecture": "vision transformer of 2 blocks, width 64, patch 8",
    }
    for name, tensor in made.state_dict().items():
        assert torch.equal(method.backbone.state_dict()[name], tensor)
    for name, tensor in method.state_dict().items():
        if not name.startswith("backbone."):
            assert torch.equal(tensor, before[name])


def test_another_size_resamples_the_positions_as_timm_does(tmp_path: Path) -> None:
    made: Any = released(tmp_path / "a.pth", size=64)
    method, recipe = small()
    start_from(str(tmp_path / "a.pth"), method, recipe)
    wanted = timm.layers.resample_abs_pos_embed(made.pos_embed, new_size=[4, 4], num_prefix_tokens=1)
    assert torch.equal(method.backbone.pos_embed, wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 3}, "unused: blocks.2.attn.proj.bias"),
        ({"depth": 1}, "missing: blocks.1.attn.proj.bias"),
        ({"init_values": 1e-5}, "unused: blocks.0.ls1.gamma, blocks.0.ls2.gamma"),
        ({"reg_tokens": 4, "no_embed_class": True}, "unused: reg_token"),
        ({"global_pool": "avg"}, "missing: norm.bias, norm.weight; unused: fc_norm.bias, fc_norm.weight"),
        ({"patch_size": 16}, "of another shape: patch_embed.proj.weight"),
    ],
)
def test_a_backbone_that_does_not_fit_is_refused_and_nothing_is_changed(arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    released(tmp_path / "a.pth", **arguments)
    method, recipe = small()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    with pytest.raises(UserError, match=words):
        start_from(str(tmp_path / "a.pth"), method, recipe)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


@pytest.mark.parametrize("recipe", ["mae-tiny", "dinov2-tiny"])
def test_a_model_with_registers_goes_on_by_both_methods(recipe: str, tmp_path: Path) -> None:
    """RETFound-Green's layout: four registers, no position of the class token's own."""
    made: Any = released(tmp_path / "green.pth", reg_tokens=4, no_embed_class=True, init_values=1e-5)
    made.eval()
    sizes = json.dumps({**ARGUMENTS, "reg_tokens": 4, "no_embed_class": True, "init_values": 1e-5})
    more = ["mae.decoder_heads=2"] if recipe == "mae-tiny" else ["data.local.size=16"]
    resolved = read_recipe(
        recipe, ["model.architecture=vit_base_patch16_224", f"model.arguments={sizes}", "data.size=32", "optim.batch=4", *more]
    )
    method: Any = build_method(resolved, seed=0).eval()
    start_from(str(tmp_path / "green.pth"), method, resolved)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = made.forward_features(images)
        if recipe == "mae-tiny":
            everything = torch.arange(16).expand(2, 16)
            torch.testing.assert_close(method.encode(images, everything), wanted)
        else:
            torch.testing.assert_close(method.teacher_tokens(images), wanted)
            torch.testing.assert_close(method.attention(images).sum(-1) < 1, torch.ones(2, 1, dtype=torch.bool))
            assert method.attention(images).shape == (2, 1, 16)
    views = method.views(resolved.data)
    batch = views.allocate(4)
    for place, item in enumerate(views.deal(4, np.random.default_rng(0))):
        views.fill(batch, place, np.full((40, 40, 3), 40 * place, dtype=np.uint8), np.random.default_rng(place), item)
    method.train().loss(batch, 0).backward()
    assert method.backbone.reg_token.grad.abs().sum() > 0


@pytest.mark.parametrize("command", ["start", "inspect"])
def test_a_checkpoint_that_lost_its_weights_is_one_line(command: str, finished: Path, tiny: list[str], tmp_path: Path) -> None:
    checkpoint = tmp_path / "step-12"
    checkpoint.mkdir()
    (checkpoint / "state.json").write_bytes((finished / "checkpoints" / "step-12" / "state.json").read_bytes())
    recipe = read_recipe("mae-tiny", tiny)
    with pytest.raises(UserError, match=r"model\.safetensors"):
        start_from(str(checkpoint), build_method(recipe, seed=0), recipe) if command == "start" else inspect_weights(checkpoint)


def test_untrained_weights_are_no_start() -> None:
    with pytest.raises(UserError, match="untrained weights are where a run starts without --init"):
        start_from("random:vit_tiny_patch16_224", *small())


def test_other_channel_statistics_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    released(tmp_path / "a.pth")
    start_from(str(tmp_path / "a.pth"), *small("data.mean=[0.5, 0.5, 0.5]"))
    assert "was trained on images normalised by [0.485, 0.456, 0.406]" in capsys.readouterr().err


def test_a_run_and_its_checkpoint_are_starts(finished: Path, tiny: list[str]) -> None:
    recipe = read_recipe("mae-tiny", tiny)
    method = build_method(recipe, seed=7)
    taken = start_from(str(finished), method, recipe)
    backbone, about = load_backbone(finished)
    assert taken["sha256"] == about["sha256"]
    assert all(torch.equal(method.backbone.state_dict()[name], tensor) for name, tensor in backbone.state_dict().items())

    step = max((finished / "checkpoints").iterdir(), key=lambda p: int(p.name[5:]))
    whole = build_method(recipe, seed=7)
    start_from(str(step), whole, recipe)  # decoder and all
    assert not torch.equal(whole.state_dict()["decoder_embed.weight"], method.state_dict()["decoder_embed.weight"])
    assert torch.equal(whole.backbone.state_dict()["norm.weight"], method.backbone.state_dict()["norm.weight"])
    other, recipe = small()
    with pytest.raises(UserError, match=r"it doesn't fit .checkpoint of mae-tiny"):
        start_from(str(step), other, recipe)


def test_a_released_file_is_described(tmp_path: Path) -> None:
    released(tmp_path / "a.pth", container="teacher", more={"dino_head.mlp.0.weight": torch.zeros(4), "mask_token": torch.zeros(1, 64)})
    found = inspect_weights(tmp_path / "a.pth")
    assert found["kind"] == "file"
    assert (found["container"], found["other"]) == ("teacher", ["args", "epoch"])
    assert found["left_out"] == {"dino_head": 1, "mask_token": 1}
    assert (found["patch"], found["width"], found["depth"], found["heads"], found["input_size"]) == (8, 64, 2, 1, [3, 32, 32])
    said = dict(rows(found))
    assert said["what it is"] == "a released checkpoint"
    assert said["left out"] == "dino_head 1, mask_token 1"
    assert said["good for"].startswith(f"evaluate --model {tmp_path / 'a.pth'}; pretrain run --init ")


def test_a_file_of_something_else_is_described_with_the_reason(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, tmp_path / "resnet.pth")
    found = inspect_weights(tmp_path / "resnet.pth")
    assert (found["tensors"], found["parameters"]) == (1, 9408)
    assert "no vision transformer of a known layout" in found["reason"]
    assert dict(rows(found))["good for"].startswith("nothing here: no vision transformer")


def test_runs_checkpoints_and_exported_folders_are_described(finished: Path, tmp_path: Path) -> None:
    run = inspect_weights(finished)
    assert (run["kind"], run["method"], run["status"], run["recipe"]) == ("run", "mae", "finished", "mae-tiny")
    assert run["checkpoints"]
    assert run["shards"]["images"] == 30
    step = inspect_weights(finished / "checkpoints" / f"step-{run['checkpoints'][-1]}")
    assert (step["kind"], step["step"], step["optimiser"]) == ("checkpoint", run["checkpoints"][-1], True)
    assert step["parameters"] > run["parameters"]  # the decoder's too
    export_backbone(finished, tmp_path / "model")
    folder = inspect_weights(tmp_path / "model")
    assert (folder["kind"], folder["sha256"]) == ("backbone", run["sha256"])
    for found in (run, step, folder):
        assert all(isinstance(text, str) and text for _, text in rows(found))


@pytest.mark.parametrize(("make", "words"), [(False, "no such file or folder"), (True, "neither a run, nor a checkpoint")])
def test_what_is_nothing_is_one_line(make: bool, words: str, tmp_path: Path) -> None:
    if make:
        (tmp_path / "x").mkdir()
    with pytest.raises(UserError, match=words):
        inspect_weights(tmp_path / "x")


def test_a_released_file_is_exported_as_plain_timm(tmp_path: Path) -> None:
    torch.manual_seed(1)
    made: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64)
    torch.save({"model": made.state_dict()}, tmp_path / "tiny.pth")
    done = export_backbone(tmp_path / "tiny.pth", tmp_path / "out")
    assert done["backbone_sha256"] == sha256_file(tmp_path / "out" / "model.safetensors")
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(again(images), made.eval()(images))
    card = (tmp_path / "out" / "README.md").read_text()
    assert "tiny.pth" in card
    assert sha256_file(tmp_path / "tiny.pth") in card
    assert "licence" in card
    from huggingface_hub import ModelCard

    assert ModelCard(card).data.library_name == "timm"


def test_a_shape_that_timm_has_not_is_not_exported(tmp_path: Path) -> None:
    released(tmp_path / "a.pth")
    with pytest.raises(UserError, match="timm has no architecture of exactly this shape"):
        export_backbone(tmp_path / "a.pth", tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pth"]


def test_a_run_starts_from_weights_says_so_and_is_another_run(finished: Path, shards: Path, tiny: list[str], tmp_path: Path) -> None:
    recipe = {"recipe": "mae-tiny", "overrides": tiny, "out": tmp_path / "run", "workers": 1, "device": "cpu"}
    run_pretraining(shards, init=str(finished), **recipe)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["init"] == {"source": str(finished), "sha256": about["made_by"]["inputs"]["init"], "architecture": "vit_tiny_patch16_224"}
    begun, before = (json.loads((run / "log.jsonl").read_text().splitlines()[0])["loss"] for run in (tmp_path / "run", finished))
    assert begun < before
    with pytest.raises(UserError, match=r"made with another specification .inputs.init: there .*, asked null"):
        run_pretraining(shards, **recipe)
