"""The method against the paper's definitions and nested loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from curate import UserError
from pretrain.backbone import build_backbone
from pretrain.batch import Batch
from pretrain.mae import Mae, patchify, reconstruction_loss, reconstruction_target, sincos_positions, split_patches, take, unpatchify
from pretrain.recipe import MaeSettings

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def make_mae(**settings: object) -> Mae:
    backbone = build_backbone(
        "vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 32, "num_heads": 2}, seed=0
    )
    torch.manual_seed(1)
    return Mae(backbone, MaeSettings(**{"decoder_depth": 1, "decoder_width": 16, "decoder_heads": 2, **settings}), mean=MEAN, std=STD)  # type: ignore[arg-type]


def make_batch(method: Mae, images: int = 3) -> Batch:
    rng = np.random.default_rng(0)
    masks = [split_patches(method.patches, method.kept, rng) for _ in range(images)]
    pixels = torch.from_numpy(rng.integers(0, 256, (images, 3, 32, 32), dtype=np.uint8))
    return Batch(
        {
            "images": pixels,
            "visible": torch.tensor(np.array([v for v, _ in masks])),
            "hidden": torch.tensor(np.array([h for _, h in masks])),
        }
    )


def test_loss_equals_nested_loops_over_images_patches_and_values() -> None:
    method = make_mae().double()
    batch = make_batch(method)
    images = (batch["images"].double() / 255 - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)
    prediction = method.decode(method.encode(images, batch["visible"]), batch["visible"], batch["hidden"]).detach()
    total, count = 0.0, 0
    for b in range(3):
        for m, position in enumerate(batch["hidden"][b].tolist()):
            row, column = divmod(position, 4)
            values = [
                float(images[b, c, 8 * row + i, 8 * column + j]) for i in range(8) for j in range(8) for c in range(3)
            ]  # pixels row by row, their channels together
            mean = sum(values) / len(values)
            variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
            error = 0.0
            for k, value in enumerate(values):
                error += (float(prediction[b, m, k]) - (value - mean) / math.sqrt(variance + 1e-6)) ** 2
            total += error / len(values)
            count += 1
    # `loss` works in single precision where the pixels are concerned.
    assert float(make_mae().loss(batch, 0).detach()) == pytest.approx(total / count, rel=1e-5)


def test_loss_ignores_what_is_predicted_for_nothing_but_removed_patches() -> None:
    target = torch.randn(2, 3, 5)
    assert reconstruction_loss(target + 2, target).item() == pytest.approx(4.0, rel=1e-6)


def test_target_without_normalisation_is_the_pixels() -> None:
    images, hidden = torch.randn(2, 3, 16, 16), torch.tensor([[1, 3], [0, 2]])
    target = reconstruction_target(images, hidden, (8, 8), normalise=False)
    assert torch.equal(target[0, 0].reshape(8, 8, 3).permute(2, 0, 1), images[0, :, :8, 8:])
    assert torch.equal(target[1, 1].reshape(8, 8, 3).permute(2, 0, 1), images[1, :, 8:, :8])


def test_unpatchify_undoes_patchify() -> None:
    images = torch.randn(2, 3, 24, 16)
    assert torch.equal(unpatchify(patchify(images, (8, 8)), (8, 8), (3, 2)), images)


def test_position_embedding_is_sine_and_cosine_of_column_then_row() -> None:
    width, rows, columns = 8, 3, 5
    embedding = sincos_positions(width, (rows, columns))
    for r in range(rows):
        for c in range(columns):
            expected = []
            for coordinate in (c, r):
                angles = [coordinate * 10000 ** (-4 * k / width) for k in range(width // 4)]
                expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            assert embedding[r * columns + c].tolist() == pytest.approx(expected, abs=1e-6)


def test_encoder_and_decoder_positions_are_fixed_and_the_class_token_has_none() -> None:
    method = make_mae()
    assert not method.backbone.pos_embed.requires_grad
    assert torch.equal(method.backbone.pos_embed[0, 0], torch.zeros(32))
    assert torch.equal(method.backbone.pos_embed[0, 1:], sincos_positions(32, (4, 4)))
    assert torch.equal(method.decoder_positions[0], sincos_positions(16, (4, 4)))
    assert "decoder_positions" not in dict(method.named_parameters())


def test_linear_layers_and_patch_embedding_start_with_xavier_and_norms_with_one() -> None:
    method = make_mae()
    proj = method.backbone.patch_embed.proj
    assert float(proj.weight.detach().abs().max()) == pytest.approx(math.sqrt(6 / (32 + 3 * 64)), rel=0.01)
    qkv = method.backbone.blocks[0].attn.qkv.weight
    assert float(qkv.detach().abs().max()) == pytest.approx(math.sqrt(6 / (32 + 96)), rel=0.01)
    for module in method.modules():
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-6
            assert torch.equal(module.weight, torch.ones_like(module.weight))
    assert 0.01 < float(method.mask_token.detach().std()) < 0.03
    assert 0.01 < float(method.backbone.cls_token.detach().std()) < 0.03


def test_encoder_with_every_patch_visible_is_timms_forward_features() -> None:
    method = make_mae().eval()
    images = torch.randn(2, 3, 32, 32)
    visible = torch.arange(16).expand(2, -1)
    torch.testing.assert_close(method.encode(images, visible), method.backbone.forward_features(images))


def test_encoder_does_not_see_removed_patches() -> None:
    method = make_mae()
    batch = make_batch(method, 1)
    images = torch.randn(1, 3, 32, 32)
    patches = patchify(images, (8, 8))
    patches[0, batch["hidden"][0]] = 99.0
    changed = unpatchify(patches, (8, 8), (4, 4))
    assert torch.equal(method.encode(images, batch["visible"]), method.encode(changed, batch["visible"]))


def test_order_of_the_tokens_does_not_change_the_prediction() -> None:
    method = make_mae().eval()
    batch = make_batch(method, 2)
    images = torch.randn(2, 3, 32, 32)
    shuffle, order = torch.randperm(method.kept), torch.randperm(method.patches - method.kept)
    straight = method.decode(method.encode(images, batch["visible"]), batch["visible"], batch["hidden"])
    visible, hidden = batch["visible"][:, shuffle], batch["hidden"][:, order]
    turned = method.decode(method.encode(images, visible), visible, hidden)
    torch.testing.assert_close(turned, straight[:, order], atol=1e-5, rtol=1e-4)


def test_every_trained_tensor_gets_a_gradient() -> None:
    method = make_mae()
    method.loss(make_batch(method), 0).backward()
    without = [n for n, p in method.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.abs().sum() > 0)]
    assert without == []


def test_loss_of_a_batch_is_the_weighted_mean_of_its_parts() -> None:
    method = make_mae()
    batch = make_batch(method, 5)
    parts = sum(float(method.loss(p, 0).detach()) * len(p) / 5 for p in batch.split(2))
    assert parts == pytest.approx(float(method.loss(batch, 0).detach()), rel=1e-5)


def test_paper_sizes_keep_49_of_196_patches() -> None:
    backbone = build_backbone("vit_tiny_patch16_224", {"depth": 1}, seed=0)
    method = Mae(backbone, MaeSettings(), mean=MEAN, std=STD)
    assert (method.patches, method.kept, len(method.decoder_blocks)) == (196, 49, 8)


def test_perfect_prediction_reconstructs_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    method = make_mae()
    batch = make_batch(method, 2)

    def oracle(encoded: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        return reconstruction_target(method.normalise(batch["images"]), hidden, method.patch, normalise=True)

    monkeypatch.setattr(method, "decode", oracle)
    masked, filled = method.reconstruct(batch)
    assert torch.equal(filled, batch["images"])
    seen = take(patchify(batch["images"], (8, 8)), batch["visible"])
    assert torch.equal(take(patchify(masked, (8, 8)), batch["visible"]), seen)
    assert take(patchify(masked, (8, 8)), batch["hidden"]).unique().tolist() == [128]


@pytest.mark.parametrize(
    ("architecture", "arguments", "words"),
    [
        ("resnet18", {}, "VisionTransformer"),
        ("vit_tiny_patch16_224", {"class_token": False, "global_pool": "avg", "depth": 1}, "class token"),
        ("vit_tiny_patch16_224", {"pos_embed": "none", "depth": 1}, "position"),
    ],
)
def test_an_architecture_that_cannot_be_masked_is_refused(architecture: str, arguments: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        Mae(build_backbone(architecture, arguments, seed=0), MaeSettings(), mean=MEAN, std=STD)
