"""Recipes: validated, with the nearest name; schedules at their corners."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from curate import UserError
from pretrain import read_recipe
from pretrain.backbone import build_backbone
from pretrain.mae import Mae
from pretrain.operations import layer_flops
from pretrain.recipe import recipe_names
from pretrain.run import name_recipe, pick_recipe
from pretrain.schedule import learning_rate, parameter_groups


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_is_valid_and_says_what_it_costs(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.name == name
    assert all(len(text) > 10 for text in recipe.about.model_dump().values())


def test_vit_large_is_the_papers_table() -> None:
    recipe = read_recipe("mae-vit-large")
    assert recipe.model.architecture == "vit_large_patch16_224"
    assert (recipe.mae.decoder_depth, recipe.mae.decoder_width, recipe.mae.decoder_heads, recipe.mae.mask_ratio) == (8, 512, 16, 0.75)
    assert (recipe.optim.batch, recipe.optim.micro_batch) == (1792, 448)
    assert recipe.optim.samples == 800 * 904_170
    assert recipe.optim.warmup_samples == 15 * 904_170
    assert recipe.optim.peak_lr == pytest.approx(1.05e-3)
    assert (recipe.optim.betas, recipe.optim.weight_decay) == ((0.9, 0.95), 0.05)
    assert (recipe.data.size, recipe.data.crop_area) == (224, (0.2, 1.0))


def test_vit_large_takes_125_gigaflop_an_image() -> None:
    recipe = read_recipe("mae-vit-large")
    backbone = build_backbone(recipe.model.architecture, {"depth": 1}, seed=0)
    one_layer = Mae(backbone, recipe.mae, mean=recipe.data.mean, std=recipe.data.std).flops()
    assert one_layer + 3 * 23 * layer_flops(50, 1024) == pytest.approx(125e9, rel=0.02)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("optim.batc=3", r"no field 'optim.batc'; did you mean 'batch'\?"),
        ("optin.lr=3", r"no field 'optin'; did you mean 'optim'\?"),
        ("mae.mask_ration=0.5", r"did you mean 'mask_ratio'\?"),
        ("optim.batch=many", "field 'optim.batch': input should be a valid integer.*given many"),
        ("mae.mask_ratio=1.5", "field 'mae.mask_ratio': input should be less than 1"),
        ("optim.batch", "write it as field=value"),
        ("name.first=3", "name has no fields of its own"),
        ("data.crop_area=[0.9, 0.3]", "smallest, largest"),
    ],
)
def test_a_wrong_override_stops_with_the_field_and_what_to_do(override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_recipe("mae-tiny", [override])


def test_an_unknown_recipe_stops_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"recipe 'mae-vit-larg' is not known .*; did you mean 'mae-vit-large'\?"):
        read_recipe("mae-vit-larg")


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert read_recipe("mae-tiny", ["optim.lr=1e-3"]).optim.peak_lr == 1e-3


def test_another_length_keeps_the_share_of_the_warm_up() -> None:
    before, after = read_recipe("mae-tiny"), read_recipe("mae-tiny", samples=1000)
    assert after.optim.samples == 1000
    assert after.optim.warmup_samples / 1000 == pytest.approx(before.optim.warmup_samples / before.optim.samples, abs=1e-3)


def test_a_recipe_file_of_ones_own_is_read(tmp_path: Path) -> None:
    import yaml

    values = read_recipe("mae-tiny").model_dump(mode="json")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**values, "name": "mine"}))
    assert read_recipe(str(tmp_path / "mine.yaml")).name == "mine"


def test_learning_rate_at_its_corners() -> None:
    at = lambda seen: learning_rate(seen, peak=2.0, lowest=0.5, warmup=100, total=1100)  # noqa: E731
    assert [at(s) for s in (0, 50, 100, 600, 1100, 5000)] == pytest.approx([0.0, 1.0, 2.0, 1.25, 0.5, 0.5])
    assert learning_rate(0, peak=1.0, lowest=0.0, warmup=0, total=10) == 1.0


def test_only_matrices_and_tokens_are_decayed() -> None:
    recipe = read_recipe("mae-tiny")
    method = Mae(build_backbone("vit_tiny_patch16_224", {"depth": 1}, seed=0), recipe.mae, mean=recipe.data.mean, std=recipe.data.std)
    decayed, plain = parameter_groups(method.named_parameters(), 0.05)
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.05, 0.0)
    assert {"backbone.patch_embed.proj.weight", "backbone.blocks.0.attn.qkv.weight", "mask_token"} <= set(decayed["names"])
    assert {"backbone.patch_embed.proj.bias", "backbone.norm.weight", "decoder_head.bias"} <= set(plain["names"])
    assert not any(n.endswith("bias") or "norm" in n for n in decayed["names"])
    assert "backbone.pos_embed" not in decayed["names"] + plain["names"]
    assert len(decayed["names"]) + len(plain["names"]) == sum(p.requires_grad for p in method.parameters())


def test_without_a_gpu_or_with_few_images_the_small_recipe_is_picked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    assert pick_recipe(torch.device("cpu"), 10**6)[0] == "mae-tiny"
    assert pick_recipe(torch.device("cuda"), 441) == (
        "mae-tiny",
        "recipe mae-tiny, as there are only 441 images; choose another with --recipe",
    )
    name, reason = pick_recipe(torch.device("cuda"), 904_170)
    assert name == "mae-vit-base"
    assert "904,170 images and a GPU (a card)" in reason


def test_a_method_alone_names_its_recipe_for_the_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a card")
    assert name_recipe("dinov2", torch.device("cpu"), 10**6) == "dinov2-tiny"
    assert name_recipe("dinov2", torch.device("cuda"), 10**6) == "dinov2-vit-base"
    assert name_recipe(None, torch.device("cpu"), 441) == "mae-tiny"
    assert name_recipe("dinov2-vit-large", torch.device("cpu"), 441) == "dinov2-vit-large"


@pytest.mark.parametrize("text", ["1e-5", "1E-5", "1.0e-5", ".1e-4", "+1e-5", "0.00001"])
def test_numbers_may_be_written_as_in_yaml_1_2_where_no_field_says_what_they_are(text: str) -> None:
    assert read_recipe("mae-tiny", [f"model.arguments={{init_values: {text}}}"]).model.arguments == {"init_values": 1e-5}
