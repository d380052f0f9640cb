"""The method: student and teacher, what reaches which, the optimiser's groups, the schedules, the sizes of the paper."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curate import UserError
from pretrain import read_recipe
from pretrain.backbone import build_backbone
from pretrain.batch import Batch
from pretrain.dinov2 import Dinov2, add_residual, dino_loss, ibot_loss, koleo_loss, sinkhorn_knopp
from pretrain.method import build_method
from pretrain.recipe import Data, Dinov2Settings, Optim, Recipe
from pretrain.schedule import set_rates

HEAD = {"hidden": 24, "bottleneck": 8, "prototypes": 12}
ARGUMENTS = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2, "init_values": 0.5}
DATA = Data.model_validate({"size": 32, "local": {"size": 16, "crops": 3}, "colour": {}})
OPTIM = Optim(
    samples=800, warmup_samples=80, batch=8, lr=1e-2, weight_decay=0.04, weight_decay_end=0.2, clip=3.0, layer_decay=0.9, patch_embed_lr=0.2
)


def make(**settings: Any) -> Dinov2:
    torch.manual_seed(1)
    given = {"dino_head": HEAD, "ibot_head": HEAD, **settings}
    method = Dinov2(build_backbone("vit_tiny_patch16_224", ARGUMENTS, seed=0), Dinov2Settings(**given), DATA, OPTIM)
    with torch.no_grad():
        method.mask.token.normal_()
    return method


def make_batch(method: Dinov2, images: int = 4, seed: int = 0) -> Batch:
    views, rng = method.views(DATA), np.random.default_rng(seed)
    batch = views.allocate(images)
    for place, dealt in enumerate(views.deal(images, rng)):
        views.fill(batch, place, rng.integers(0, 256, (40, 44, 3), dtype=np.uint8), rng, dealt)
    return batch


def stir(method: Dinov2) -> Dinov2:
    """Make the teacher another than the student."""
    with torch.no_grad():
        for parameter in method.teacher.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return method


# The loss


def test_loss_is_put_together_from_its_parts_image_by_image() -> None:
    method = stir(make()).eval()
    batch, step = make_batch(method), 7
    colour = batch["colour"]
    crops = [method.normalise(batch["global"][:, i][None], colour[:, i][None]) for i in range(2)]
    small = [method.normalise(batch["local"][:, i][None], colour[:, 2 + i][None]) for i in range(3)]
    teacher = [method.result.forward_features(crop) for crop in crops]
    both = torch.cat([tokens[:, 0] for tokens in teacher])
    targets = sinkhorn_knopp(method.teacher["dino_head"](both), method.temperature(step)).view(2, 4, -1)
    student = [method.student_tokens(crop, batch["masks"][:, i]) for i, crop in enumerate(crops)]
    local = [method.student_tokens(crop)[:, 0] for crop in small]
    of_classes = dino_loss(
        torch.stack([method.dino_head(tokens[:, 0]) for tokens in student]), torch.stack([method.dino_head(x) for x in local]), targets, 0.1
    )
    masks = batch["masks"].transpose(0, 1)
    seen = torch.cat([teacher[i][image, 1:][masks[i, image]] for i in range(2) for image in range(4)])
    guessed = torch.cat([student[i][image, 1:][masks[i, image]] for i in range(2) for image in range(4)])
    wanted = sinkhorn_knopp(method.teacher["ibot_head"](seen), method.temperature(step))
    head = method.ibot_head
    of_patches = ibot_loss(head.embed(guessed), head.last_layer.weight(), wanted, masks, 0.1)
    spread = sum(koleo_loss(tokens[:, 0]) for tokens in student)
    torch.testing.assert_close(method.loss(batch, step), sum(of_classes) + of_patches + 0.1 * spread, rtol=1e-4, atol=1e-5)


def test_weights_of_the_three_losses_are_those_of_the_recipe() -> None:
    batch = make_batch(make())

    def value(dino: float, ibot: float, koleo: float) -> float:
        method = stir(make(dino_weight=dino, ibot_weight=ibot, koleo_weight=koleo))
        return float(method.eval().loss(batch, 0).detach())

    torch.manual_seed(0)
    values = []
    for weights in ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (2.0, 3.0, 0.5)):
        torch.manual_seed(0)
        values.append(value(*weights))
    assert values[3] == pytest.approx(2 * values[0] + 3 * values[1] + 0.5 * values[2], rel=1e-5)


def test_every_tensor_of_the_student_gets_a_gradient_and_none_of_the_teacher() -> None:
    method = stir(make())
    method.loss(make_batch(method), 0).backward()
    trained = {n for n, p in method.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in method.named_parameters() if not n.startswith("teacher.")}
    without = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert without == []
    assert all(p.grad is None for p in method.teacher.parameters())


def test_a_batch_without_masks_still_reaches_every_tensor() -> None:
    method = make(mask_share=0.0)
    loss = method.loss(make_batch(method), 0)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None for p in method.parameters() if p.requires_grad)


def test_only_the_students_global_crops_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make()
    seen: list[tuple[bool, int, Tensor | None]] = []
    original = method._encode

    def watch(backbone: nn.Module, images: Tensor, mask: Tensor | None = None, drop: float = 0.0) -> Tensor:
        seen.append((backbone is method.backbone, images.shape[-1], mask))
        return original(backbone, images, mask, drop)

    monkeypatch.setattr(method, "_encode", watch)
    batch = make_batch(method)
    method.loss(batch, 0)
    assert [(student, size, mask is not None) for student, size, mask in seen] == [(False, 32, False), (True, 32, True), (True, 16, False)]
    assert torch.equal(seen[1][2], torch.cat([batch["masks"][:, 0], batch["masks"][:, 1]]))


def test_autocast_gives_nearly_the_same_loss() -> None:
    method = stir(make()).eval()
    batch = make_batch(method)
    exact = method.loss(batch, 0)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = method.loss(batch, 0)
    assert rounded.dtype == torch.float32
    assert float(rounded.detach()) == pytest.approx(float(exact.detach()), rel=0.05)


# From crops to tokens


def test_tokens_of_a_global_crop_are_timms_forward_features() -> None:
    method = stir(make()).eval()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(method.student_tokens(images), method.backbone.forward_features(images))
    torch.testing.assert_close(method.teacher_tokens(images), method.result.forward_features(images))


def test_local_crops_get_the_position_embeddings_of_timms_dynamic_size() -> None:
    method = make().eval()
    dynamic = build_backbone("vit_tiny_patch16_224", {**ARGUMENTS, "dynamic_img_size": True}, seed=0).eval()
    dynamic.load_state_dict(method.backbone.state_dict())
    images = torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(method.student_tokens(images), dynamic.forward_features(images))


def test_the_mask_token_takes_the_place_of_the_patch_before_its_position_is_added() -> None:
    method = make().eval()
    images, mask = torch.randn(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.bool)
    mask[0, [2, 9]] = True
    x = method._embed(method.backbone, images, mask)
    positions = method.backbone.pos_embed[0, 1:]
    for patch in range(16):
        plain = method.backbone.patch_embed(images)[0, patch]
        expected = (method.mask.token[0, 0] if mask[0, patch] else plain) + positions[patch]
        torch.testing.assert_close(x[0, 1 + patch], expected)


def test_what_is_hidden_does_not_reach_the_student() -> None:
    method = make().eval()
    images = torch.randn(1, 3, 32, 32)
    mask = torch.zeros(1, 16, dtype=torch.bool)
    mask[0, 0] = True  # the first 8 x 8 pixels
    changed = images.clone()
    changed[:, :, :8, :8] = 5.0
    torch.testing.assert_close(method.student_tokens(images, mask), method.student_tokens(changed, mask))


def test_the_teacher_sees_what_is_hidden_from_the_student() -> None:
    method = stir(make())
    batch = make_batch(method)
    method.loss(batch, 0)
    before = method._latest["logits"]
    batch.tensors["masks"] = ~batch["masks"]
    method.loss(batch, 0)
    assert torch.equal(before, method._latest["logits"])


# Drop path


def test_a_branch_for_a_subset_is_right_in_expectation() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(10, 2, 3), torch.randn(3, 3)
    mean = torch.stack([add_residual(x, lambda part: part @ weight, 0.4) for _ in range(20_000)]).mean(0)
    # One sample of ten has a standard deviation of at most |branch| x sqrt(0.4 / 0.6).
    error = (x @ weight).abs().max() * math.sqrt(0.4 / 0.6 / 20_000)
    assert (mean - (x + x @ weight)).abs().max() < 5 * error


def test_a_branch_is_computed_for_the_kept_share_alone() -> None:
    sizes = []
    for images, drop in ((10, 0.4), (10, 0.0), (5, 0.5), (1, 0.9)):
        add_residual(torch.randn(images, 2, 3), lambda part: sizes.append(len(part)) or part, drop)  # type: ignore[func-returns-value]
    assert sizes == [6, 10, 2, 1]


def test_dropped_samples_pass_unchanged_and_kept_ones_are_scaled_up() -> None:
    x = torch.ones(10, 2, 3)
    result = add_residual(x, lambda part: part, 0.4)
    values, counts = result[:, 0, 0].unique(return_counts=True)
    assert values.tolist() == pytest.approx([1.0, 1 + 10 / 6])
    assert counts.tolist() == [4, 6]


def test_only_the_student_drops_and_only_while_training() -> None:
    method = make(drop_path=0.5)
    images = torch.randn(6, 3, 32, 32)
    assert not torch.allclose(method.student_tokens(images), method.student_tokens(images))
    assert torch.equal(method.teacher_tokens(images), method.teacher_tokens(images))
    method.eval()
    assert torch.equal(method.student_tokens(images), method.student_tokens(images))


def test_recomputing_layers_changes_neither_loss_nor_gradient() -> None:
    method = stir(make(drop_path=0.3))
    batch, found = make_batch(method), []
    for recompute in (False, True):
        method.backbone.set_grad_checkpointing(recompute)
        method.zero_grad()
        torch.manual_seed(5)
        loss = method.loss(batch, 0)
        loss.backward()
        found.append((loss.detach(), method.backbone.blocks[0].attn.qkv.weight.grad.clone()))
    torch.testing.assert_close(found[0], found[1])


# Teacher, schedules, optimiser


def test_teacher_starts_as_the_student_and_is_the_result() -> None:
    method = make()
    for name, module in (("backbone", method.backbone), ("dino_head", method.dino_head), ("ibot_head", method.ibot_head)):
        for key, tensor in module.state_dict().items():
            assert torch.equal(tensor, method.teacher[name].state_dict()[key])
    assert method.result is method.teacher["backbone"]


def test_end_step_moves_every_tensor_of_the_teacher_by_the_momentum_of_the_step() -> None:
    method = stir(make(momentum=0.9, momentum_end=1.0))
    before = copy.deepcopy(method.teacher.state_dict())
    student = copy.deepcopy({n: p for n, p in method.named_parameters() if not n.startswith("teacher.")})
    method.end_step(30)
    momentum = 1.0 - 0.1 * 0.5 * (1 + math.cos(math.pi * 0.3))
    for name, tensor in method.teacher.state_dict().items():
        torch.testing.assert_close(tensor, momentum * before[name] + (1 - momentum) * student[name].detach())
    for name, parameter in student.items():
        assert torch.equal(parameter, dict(method.named_parameters())[name])


def test_schedules_at_their_corners() -> None:
    method = make(temperature_warmup=0.3, momentum=0.994)
    assert [method.temperature(step) for step in (0, 15, 30, 99)] == pytest.approx([0.04, 0.055, 0.07, 0.07])
    assert [method.momentum(step) for step in (0, 50, 100)] == pytest.approx([0.994, 0.997, 1.0])
    assert make(temperature_warmup=0.0).temperature(0) == 0.07


def test_groups_by_name() -> None:
    method = make(freeze_last_layer=0.05)
    of: dict[str, dict[str, Any]] = {name: group for group in method.groups(OPTIM) for name in group["names"]}
    assert set(of) == {n for n, p in method.named_parameters() if p.requires_grad}
    assert len(of) == sum(len(group["names"]) for group in method.groups(OPTIM))
    for name, group in of.items():
        plain = name.endswith(".bias") or ".norm" in name or name.endswith(".gamma")
        assert group["weight_decay"] == (0.0 if plain else 0.04), name
        assert group.get("weight_decay_end") == (None if plain else 0.2), name
        assert group.get("frozen_steps", 0) == (5 if ".last_layer." in name else 0), name
    scales = {
        "backbone.cls_token": 0.9**3,
        "backbone.pos_embed": 0.9**3,
        "mask.token": 0.9**3,
        "backbone.patch_embed.proj.weight": 0.2 * 0.9**3,
        "backbone.patch_embed.proj.bias": 0.2 * 0.9**3,
        "backbone.blocks.0.ls1.gamma": 0.9**2,
        "backbone.blocks.1.mlp.fc1.weight": 0.9,
        "backbone.norm.weight": 1.0,
        "dino_head.mlp.0.weight": 1.0,
        "ibot_head.last_layer.direction": 1.0,
    }
    for name, scale in scales.items():
        assert of[name].get("lr_scale", 1.0) == pytest.approx(scale), name


def test_the_last_layers_stand_still_while_they_are_frozen_and_move_after() -> None:
    method = make(freeze_last_layer=0.02)  # two of a hundred steps
    optimizer = torch.optim.AdamW(method.groups(OPTIM), lr=0.0, betas=OPTIM.betas)
    start = method.dino_head.last_layer.direction.detach().clone()
    moved = []
    for step in range(12):
        set_rates(optimizer, step, OPTIM)
        optimizer.zero_grad()
        method.loss(make_batch(method, seed=step), step).backward()
        optimizer.step()
        moved.append(not torch.equal(method.dino_head.last_layer.direction, start))
        if step == 1:
            assert not torch.equal(method.dino_head.mlp[0].weight, method.teacher["dino_head"].mlp[0].weight)
    assert moved[:3] == [False, False, True]


def test_clipped_modules_hold_every_trained_tensor_once() -> None:
    method = make()
    held = [p for module in method.clipped() for p in module.parameters()]
    assert {id(p) for p in held} == {id(p) for p in method.parameters() if p.requires_grad}
    assert len(held) == len({id(p) for p in held})
    assert method.backbone in method.clipped()


def test_a_trained_backbone_is_taken_over_by_student_and_teacher() -> None:
    method = make()
    tensors = {n: torch.randn_like(t) for n, t in method.backbone.state_dict().items()}
    method.start_from(tensors)
    for backbone in (method.backbone, method.result):
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in backbone.state_dict().items())


def test_state_dict_restores_student_and_teacher() -> None:
    method, other = stir(make()), make()
    other.load_state_dict(method.state_dict(), strict=True)
    batch = make_batch(method)
    torch.testing.assert_close(method.eval().loss(batch, 3), other.eval().loss(batch, 3))


def test_training_on_few_photographs_lowers_the_loss_and_does_not_collapse() -> None:
    method = make(momentum=0.8, teacher_temperature=(0.04, 0.04), freeze_last_layer=1.0)
    views, rng = method.views(DATA.model_copy(update={"crop_area": (0.6, 1.0)})), np.random.default_rng(0)
    batch = views.allocate(8)
    for place, dealt in enumerate(views.deal(8, rng)):
        coarse = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)  # nine patches of colour: photographs that can be told apart
        views.fill(batch, place, coarse.repeat(12, axis=0).repeat(12, axis=1), rng, dealt)
    optim = OPTIM.model_copy(update={"samples": 8 * 150, "lr": 5e-3})
    method.steps = optim.steps
    optimizer = torch.optim.AdamW(method.groups(optim), lr=0.0)
    for step in range(optim.steps):
        set_rates(optimizer, step, optim)
        optimizer.zero_grad()
        method.loss(batch, step).backward()
        optimizer.step()
        method.end_step(step)
    monitors = method.monitors()
    chance = math.log(12)
    assert monitors["dino_global"] + monitors["dino_local"] < 0.85 * chance
    assert monitors["ibot"] < 0.9 * chance / 2  # half of the crops are masked
    assert monitors["teacher_entropy"] > monitors["sample_entropy"] + 0.2
    assert monitors["feature_rank"] > 4


# Monitors, pictures, result


def test_monitors_tell_a_collapsed_teacher() -> None:
    method = make()
    assert method.monitors() == {}
    method.loss(make_batch(method), 0)
    healthy = method.monitors()
    assert {"dino_global", "dino_local", "ibot", "koleo", "teacher_entropy", "sample_entropy", "feature_rank", "agreement"} == set(healthy)
    with torch.no_grad():
        method.result.norm.weight.zero_()  # every class token the same
        method.result.norm.bias.fill_(1.0)
    method.loss(make_batch(method), 0)
    collapsed = method.monitors()
    assert collapsed["feature_rank"] == pytest.approx(1.0, abs=1e-3)
    assert collapsed["teacher_entropy"] == pytest.approx(collapsed["sample_entropy"], abs=1e-4)


def test_entropies_are_one_where_the_teacher_says_nothing() -> None:
    method = make()
    method._latest = {"teacher": torch.randn(4, 8), "student": torch.randn(4, 8), "logits": torch.zeros(4, 12)}
    monitors = method.monitors()
    assert (monitors["teacher_entropy"], monitors["sample_entropy"]) == (pytest.approx(1.0), pytest.approx(1.0))
    method._latest["logits"] = 100 * torch.eye(4, 12)  # four prototypes, one a sample
    monitors = method.monitors()
    assert monitors["teacher_entropy"] == pytest.approx(math.log(4) / math.log(12), rel=1e-4)
    assert monitors["sample_entropy"] == pytest.approx(0.0, abs=1e-4)


def test_agreement_compares_one_crop_with_the_other() -> None:
    method = make()
    teacher = torch.eye(4)
    method._latest = {"teacher": teacher, "student": torch.cat([teacher[2:], teacher[:2]]), "logits": torch.zeros(4, 12)}
    assert method.monitors()["agreement"] == pytest.approx(1.0)


def test_attention_is_that_of_timms_last_layer() -> None:
    method = stir(make()).eval()
    images = torch.randn(2, 3, 32, 32)
    caught: list[Tensor] = []
    last = method.result.blocks[-1].attn
    last.fused_attn = False
    last.attn_drop.register_forward_hook(lambda module, given, result: caught.append(result))
    method.result.forward_features(images)
    torch.testing.assert_close(method.attention(images), caught[0][:, :, 0, 1:])


def test_picture_has_one_row_a_photograph_and_shows_it_as_it_is() -> None:
    method = make()
    views, rng = method.views(DATA).whole(), np.random.default_rng(0)
    batch = views.allocate(3)
    for place, dealt in enumerate(views.deal(3, rng)):
        views.fill(batch, place, rng.integers(0, 256, (32, 32, 3), dtype=np.uint8), rng, dealt)
    picture = method.picture(batch)
    assert picture.dtype == np.uint8
    assert picture.shape == (3 * 36 - 4, 4 * 36 - 4, 3)  # photograph, mean, two heads; white lines of 4 pixels
    assert np.array_equal(picture[36:68, :32], batch["global"][1, 0].permute(1, 2, 0).numpy())
    assert picture[:32, 36:68].max() == 255


def test_the_result_gives_the_same_features_in_plain_timm(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import load_file, save_file

    method = stir(make()).eval()
    save_file({n: t.contiguous() for n, t in method.result.state_dict().items()}, tmp_path / "teacher.safetensors")
    plain = timm.create_model("vit_tiny_patch16_224", num_classes=0, **ARGUMENTS).eval()
    plain.load_state_dict(load_file(tmp_path / "teacher.safetensors"), strict=True)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain.forward_features(images), method.teacher_tokens(images))


# Recipes


@pytest.fixture(scope="module")
def large() -> Recipe:
    return read_recipe("dinov2-vit-large")


def at_full_size(recipe: Recipe) -> Dinov2:
    import timm

    assert recipe.dinov2 is not None
    with torch.device("meta"):
        backbone = timm.create_model(recipe.model.architecture, num_classes=0, img_size=recipe.data.size, **recipe.model.arguments)
        return Dinov2(backbone, recipe.dinov2, recipe.data, recipe.optim)


def test_vit_large_takes_the_papers_operations_with_and_without_drop_path(large: Recipe) -> None:
    method = at_full_size(large)
    assert method.flops() == pytest.approx(1.38e12, rel=0.03)
    assert large.dinov2 is not None
    whole = large.model_copy(update={"dinov2": large.dinov2.model_copy(update={"drop_path": 0.0})})
    assert at_full_size(whole).flops() == pytest.approx(2.06e12, rel=0.03)


def test_vit_large_has_the_sizes_of_the_papers_table(large: Recipe) -> None:
    method = at_full_size(large)
    assert (method.grid, method.local_grid) == ((16, 16), (7, 7))
    assert method.dino_head.last_layer.direction.shape == (131072, 384)
    assert method.ibot_head.last_layer.direction.shape == (131072, 256)
    assert [layer.out_features for layer in method.dino_head.mlp if isinstance(layer, nn.Linear)] == [2048, 2048, 384]
    assert len(method.backbone.blocks) == 24
    assert method.backbone.embed_dim == 1024
    assert method.backbone.reg_token is None
    assert method.backbone.blocks[0].ls1.gamma.shape == (1024,)
    assert method.backbone.blocks[0].mlp.fc1.out_features == 4096
    assert sum(p.numel() for p in method.backbone.parameters()) == pytest.approx(303e6, rel=0.01)


def test_vit_large_is_the_papers_table(large: Recipe) -> None:
    optim, dinov2, data = large.optim, large.dinov2, large.data
    assert dinov2 is not None
    assert data.local is not None
    assert data.colour is not None
    assert (optim.samples, optim.warmup_samples) == (100 * 904_170, 10 * 904_170)
    assert (optim.batch, optim.micro_batch) == (320, 80)
    assert (optim.peak_lr, optim.min_lr) == (2e-4, 1e-6)
    assert (optim.weight_decay, optim.weight_decay_end, optim.clip) == (0.04, 0.2, 3.0)
    assert (optim.betas, optim.layer_decay, optim.patch_embed_lr) == ((0.9, 0.999), 1.0, 0.2)
    assert (data.size, data.crop_area) == (224, (0.32, 1.0))
    assert (data.local.crops, data.local.size, data.local.crop_area) == (8, 98, (0.05, 0.32))
    assert (data.colour.jitter, data.colour.solarise, data.colour.solarise_threshold) == ((0.4, 0.4, 0.2, 0.1), (0.0, 0.2, 0.0), 128)
    assert data.colour.blur == (0.0, 0.9, 0.5)
    assert (dinov2.mask_share, dinov2.mask_ratio, dinov2.drop_path) == (0.5, (0.1, 0.5), 0.4)
    assert (dinov2.momentum, dinov2.teacher_temperature, dinov2.koleo_weight) == (0.994, (0.04, 0.07), 0.1)


def test_a_recipe_builds_the_same_method_for_the_same_seed() -> None:
    recipe = read_recipe("dinov2-tiny")
    one, same, other = (build_method(recipe, seed=seed) for seed in (0, 0, 1))
    assert isinstance(one, Dinov2)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), same.state_dict().values(), strict=True))
    assert not torch.equal(one.dino_head.mlp[0].weight, other.dino_head.mlp[0].weight)


@pytest.mark.parametrize(
    ("recipe", "override", "words"),
    [
        ("mae-tiny", "dinov2={}", "a recipe of method mae has no section dinov2"),
        ("mae-tiny", "data.local={}", "a recipe of method mae has no section data.local"),
        ("mae-tiny", "method=dinov2", "a recipe of method dinov2 has no section mae"),
        ("dinov2-tiny", "dinov2=null", "a recipe of method dinov2 needs the section dinov2"),
        ("dinov2-tiny", "data.colour=null", "a recipe of method dinov2 needs the section data.colour"),
        ("dinov2-tiny", "dinov2.dino_head.prototype=3", "no field 'dinov2.dino_head.prototype'; did you mean 'prototypes'"),
        ("dinov2-tiny", "dinov2.mask_ratio=[0.5, 0.1]", "smallest, largest"),
        ("dinov2-tiny", "data.local.crop_area=[0.5, 0.1]", "smallest, largest"),
    ],
)
def test_a_recipe_has_the_sections_of_its_method_and_no_others(recipe: str, override: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_recipe(recipe, [override])


@pytest.mark.parametrize(
    ("architecture", "arguments", "data", "words"),
    [
        ("resnet18", {}, {}, "DINOv2 needs a timm VisionTransformer"),
        ("vit_tiny_patch16_224", {**ARGUMENTS, "class_token": False, "global_pool": "avg"}, {}, "needs a class token"),
        ("vit_tiny_patch16_224", {**ARGUMENTS, "pos_embed": "none"}, {}, "needs absolute position embeddings"),
        ("vit_tiny_patch16_224", {**ARGUMENTS, "drop_path_rate": 0.1}, {}, "use dinov2.drop_path instead"),
        ("vit_tiny_patch16_224", ARGUMENTS, {"local": {"size": 20}}, "data.local.size=20: not a whole number of patches of 8 px"),
    ],
)
def test_what_cannot_be_trained_this_way_is_refused(architecture: str, arguments: dict[str, Any], data: dict[str, Any], words: str) -> None:
    section = Data.model_validate({"size": 32, "local": {"size": 16}, "colour": {}, **data})
    with pytest.raises(UserError, match=words):
        Dinov2(build_backbone(architecture, arguments, seed=0), Dinov2Settings(), section, OPTIM)
