"""Features and the cached probe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from curate import UserError
from evaluate.features import Model, extract_features, normalise, pooled, view
from evaluate.heads import Truth, validation_auroc
from evaluate.probe import Settings, fit_probe, standardise, train_heads

SMALL = Settings(rates=(1e-3, 1e-2, 0.1), epochs=20)


def three(labels: np.ndarray) -> Truth:
    return Truth.of_classes(labels, 3)


def blobs(n: int = 300, width: int = 8, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    features = (rng.normal(size=(n, width)) + 2 * np.eye(width)[labels]).astype(np.float32)
    part = np.arange(n) % 4
    return features, labels, part < 2, part == 2


def test_the_probe_learns_what_is_linear() -> None:
    features, labels, train, val = blobs()
    probe = fit_probe(features, three(labels), train, val, seeds=[0, 1], settings=SMALL)
    test = ~(train | val)
    for s in range(2):
        assert validation_auroc(np.log(probe.probabilities[s][test]), three(labels[test])) > 0.9
    np.testing.assert_allclose(probe.probabilities.sum(axis=2), 1, atol=1e-12)


def test_seeds_differ_and_a_seed_does_not_depend_on_its_company() -> None:
    features, labels, train, val = blobs()
    both = fit_probe(features, three(labels), train, val, seeds=[0, 1], settings=SMALL).probabilities
    alone = fit_probe(features, three(labels), train, val, seeds=[1], settings=SMALL).probabilities
    assert not np.array_equal(both[0], both[1])
    np.testing.assert_allclose(both[1], alone[0], atol=1e-4)


def test_the_probe_is_deterministic_for_any_number_of_threads() -> None:
    features, labels, train, val = blobs()
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(fit_probe(features, three(labels), train, val, seeds=[0], settings=SMALL).probabilities)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])


def test_all_heads_at_once_are_each_head_alone() -> None:
    """The reference: torch's own cross entropy, autograd, SGD and cosine schedule, one learning rate and seed at a time."""
    features, labels, _, _ = blobs(n=50)
    inputs, truth = torch.from_numpy(features), torch.from_numpy(labels)
    weights, biases = train_heads(inputs, three(labels), [3, 4], SMALL)
    for s, seed in enumerate([3, 4]):
        for r, rate in enumerate(SMALL.rates):
            generator = torch.Generator().manual_seed(seed)
            head = torch.nn.Linear(8, 3)
            with torch.no_grad():
                head.weight.copy_(torch.randn(8, 3, generator=generator).mul_(0.01).T)
                head.bias.zero_()
            optimiser = torch.optim.SGD(head.parameters(), lr=rate, momentum=SMALL.momentum)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=SMALL.epochs * 2)
            for _ in range(SMALL.epochs):
                order = torch.randperm(50, generator=generator)
                for rows in (order[:32], order[32:]):
                    optimiser.zero_grad()
                    torch.nn.functional.cross_entropy(head(inputs[rows]), truth[rows]).backward()
                    optimiser.step()
                    schedule.step()
            # Momentum holds the gradients before the rate is applied, here and in torch's SGD alike.
            torch.testing.assert_close(weights[s, :, 3 * r : 3 * r + 3].T, head.weight.detach(), atol=2e-4, rtol=2e-3)
            torch.testing.assert_close(biases[s, 3 * r : 3 * r + 3], head.bias.detach(), atol=2e-4, rtol=2e-3)


def test_findings_are_learned_each_by_itself_and_unknown_ones_not_at_all() -> None:
    """The reference: torch's own binary cross entropy, weighted 0 where a finding isn't known."""
    features, labels, _, _ = blobs(n=64)
    rng = np.random.default_rng(1)
    truth = Truth(labels[:, None] >= [1, 2], rng.random((64, 2)) < 0.7, exclusive=False)
    settings = Settings(rates=(0.05,), epochs=3, batch=64)
    weights, biases = train_heads(torch.from_numpy(features), truth, [5], settings)
    head = torch.nn.Linear(8, 2)
    with torch.no_grad():
        head.weight.copy_(torch.randn(8, 2, generator=torch.Generator().manual_seed(5)).mul_(0.01).T)
        head.bias.zero_()
    optimiser = torch.optim.SGD(head.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=3)
    values, known = torch.from_numpy(truth.values).float(), torch.from_numpy(truth.known).float()
    for _ in range(3):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(head(torch.from_numpy(features)), values, known, reduction="sum")
        (loss / 64).backward()
        optimiser.step()
        schedule.step()
    torch.testing.assert_close(weights[0].T, head.weight.detach(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(biases[0], head.bias.detach(), atol=1e-4, rtol=1e-3)


def test_the_rate_with_the_best_validation_auroc_is_chosen() -> None:
    features, labels, train, val = blobs()
    settings = Settings(rates=(1e-9, 0.05), epochs=20)
    probe = fit_probe(features, three(labels), train, val, seeds=[0], settings=settings)
    assert probe.chosen[0]["rate"] == 0.05
    assert probe.chosen[0]["validation_auroc"] == pytest.approx(
        validation_auroc(np.log(probe.probabilities[0][val]).astype(np.float32), three(labels[val])), abs=1e-3
    )


def test_a_head_that_diverges_is_not_chosen() -> None:
    features, labels, train, val = blobs()
    probe = fit_probe(features, three(labels), train, val, seeds=[0], settings=Settings(rates=(1e-3, 1e38), epochs=5))
    assert probe.chosen[0]["rate"] == 1e-3
    with pytest.raises(ValueError, match="every learning rate diverged"):
        fit_probe(features * np.float32(np.nan), three(labels), train, val, seeds=[0], settings=SMALL)


def test_validation_of_one_class_says_so() -> None:
    features, labels, train, val = blobs()
    with pytest.raises(ValueError, match="all of one class"):
        fit_probe(features, three(labels), train, val & (labels == 0), seeds=[0], settings=SMALL)


def test_features_are_standardised_by_the_training_rows_and_constants_vanish() -> None:
    inputs = torch.tensor([[1.0, 5.0], [3.0, 5.0], [100.0, 7.0]])
    scaled = standardise(inputs, torch.tensor([True, True, False]))
    torch.testing.assert_close(scaled, torch.tensor([[-1.0, 0.0], [1.0, 0.0], [98.0, 0.0]]))


def test_a_view_is_the_central_square_at_the_input_size(tmp_path: Path) -> None:
    pixels = np.zeros((40, 100, 3), dtype=np.uint8)
    pixels[:, 30:70] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    seen = view(tmp_path / "a.png", [3, 20, 20])
    assert seen.shape == (20, 20, 3)
    assert (seen == 200).all()


def test_a_view_is_upright_and_keeps_deep_greyscale(tmp_path: Path) -> None:
    deep = (np.arange(1600, dtype=np.uint16) * 40).reshape(40, 40)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    seen = view(tmp_path / "deep.png", [3, 40, 40])
    assert seen[0, 0, 0] == 0
    assert seen[-1, -1, 0] == 255
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    Image.fromarray((deep // 256).astype(np.uint8)).save(tmp_path / "turned.png", exif=exif)
    turned = view(tmp_path / "turned.png", [3, 40, 40])
    assert turned[0, 0, 0] > turned[-1, -1, 0]


@pytest.mark.parametrize("content", [None, b"not an image"])
def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.jpg: cannot be read as an image"):
        view(tmp_path / "x.jpg", [3, 8, 8])


def test_images_are_normalised_by_channel() -> None:
    images = np.full((1, 2, 2, 3), 255, dtype=np.uint8)
    scaled = normalise(images, {"mean": [0.5, 0.0, 1.0], "std": [0.5, 1.0, 2.0]})
    assert scaled[0, :, 0, 0].tolist() == [1.0, 1.0, 0.0]


def test_a_transformer_gives_class_token_and_mean_patch() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens, vectors = model.forward_features(images), pooled(model, images)
    assert vectors.shape == (2, 2 * 192)
    torch.testing.assert_close(vectors[:, :192], tokens[:, 0])
    torch.testing.assert_close(vectors[:, 192:], tokens[:, 1:].mean(dim=1))


def test_a_convolutional_model_gives_its_own_pooling() -> None:
    import timm

    model = timm.create_model("resnet10t", num_classes=0).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(pooled(model, images), model(images))


class Brightness(torch.nn.Module):
    """A backbone with a known answer: the mean of each channel."""

    num_prefix_tokens = 0

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        return (self.scale * images).flatten(2).transpose(1, 2)


calls: list[str] = []


def brightness_loader(source: str) -> tuple[Any, dict[str, Any]]:
    calls.append(source)
    info = {
        "architecture": "brightness",
        "sha256": "0" * 64,
        "input_size": [3, 8, 8],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "shards_digest": None,
    }
    return Brightness(), info


def test_features_are_extracted_in_parts_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.features.PART", 4)
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((16, 16, 3), 20 * i, dtype=np.uint8)).save(paths[-1])
    model = Model("m", f"stub:{tmp_path}", brightness_loader("x")[1])
    missing = paths[9].read_bytes()
    paths[9].unlink()
    with pytest.raises(UserError):
        extract_features(model, paths, tmp_path / "features", workers=1, loader=brightness_loader)
    kept = sorted(p.name for p in (tmp_path / "features" / "m.parts").glob("*.done"))
    assert kept == ["part-000000000.done", "part-000000004.done"]
    paths[9].write_bytes(missing)
    for path in paths[:8]:
        path.unlink()  # finished parts are not computed again
    features = extract_features(model, paths, tmp_path / "features", workers=1, loader=brightness_loader)
    np.testing.assert_allclose(features[:, 0], np.arange(10) * 20 / 255, atol=1e-6)
    assert [p.name for p in (tmp_path / "features").iterdir()] == ["m.npy"]


def test_weights_that_change_meanwhile_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    model = Model("m", f"stub:{tmp_path}", {**brightness_loader("x")[1], "sha256": "1" * 64})
    with pytest.raises(UserError, match="the weights changed"):
        extract_features(model, [tmp_path / "a.png"], tmp_path / "features", workers=1, loader=brightness_loader)
