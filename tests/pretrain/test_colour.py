"""Changes of colour: the same as torchvision's, picture by picture, and drawn as the recipe says."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from scipy import stats
from torch import Tensor

from pretrain.dinov2.colour import COLUMNS, ORDERS, UNCHANGED, draw_colour, normalised
from pretrain.recipe import Colour

PLAIN = torch.zeros(3), torch.ones(3)


def pictures(count: int, height: int = 40, width: int = 37) -> Tensor:
    """Smooth colour noise that reaches both ends of the range, with a grey and a black corner: uint8 [count, 3, h, w]."""
    rng = np.random.default_rng(0)
    images = rng.normal(110, 90, (count, height // 2, width // 2, 3))
    images = np.stack([cv2.resize(i, (width, height), interpolation=cv2.INTER_CUBIC) for i in images]).clip(0, 255).astype(np.uint8)
    images[:, :6, :6] = 90
    images[:, -6:, -6:] = 0
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def row(**values: float) -> Tensor:
    return torch.tensor([[values.get(name, plain) for name, plain in zip(COLUMNS, UNCHANGED, strict=True)]])


def changed(images: Tensor, parameters: Tensor) -> Tensor:
    return normalised(images, parameters, *PLAIN) * 255


def by_torchvision(image: Tensor, parameters: Tensor, *, rounded: bool) -> Tensor:
    """Change one uint8 picture by torchvision, as float picture or rounded after every step."""
    brightness, contrast, saturation, hue, order, grey, sigma, threshold = parameters.tolist()
    picture = image if rounded else image.float() / 255
    steps = [
        lambda x: reference.adjust_brightness(x, brightness),
        lambda x: reference.adjust_contrast(x, contrast),
        lambda x: reference.adjust_saturation(x, saturation),
        lambda x: reference.adjust_hue(x, hue),
    ]
    for number in ORDERS[int(order)]:
        picture = steps[number](picture)
    if grey:
        picture = reference.rgb_to_grayscale(picture, 3)
    if sigma:
        picture = reference.gaussian_blur(picture, [9, 9], [sigma, sigma])
    if threshold < 256:
        picture = reference.solarize(picture, threshold if rounded else (threshold - 0.001) / 255)
    return picture.float() if rounded else 255 * picture


def test_unchanged_parameters_change_nothing() -> None:
    images = pictures(3)
    assert (changed(images, row().expand(3, -1)) - images).abs().max() < 0.001


@pytest.mark.parametrize(
    "values",
    [
        {"brightness": 0.6},
        {"brightness": 1.4},
        {"contrast": 0.6},
        {"contrast": 1.4},
        {"saturation": 0.8},
        {"saturation": 1.2},
        {"saturation": 0.0},
        {"hue": 0.1},
        {"hue": -0.1},
        {"hue": 0.5},
        {"grey": 1.0},
        {"sigma": 0.1},
        {"sigma": 0.7},
        {"sigma": 2.0},
        {"threshold": 128.0},
        {"threshold": 0.0},
    ],
    ids=str,
)
def test_each_change_is_torchvisions(values: dict[str, float]) -> None:
    images, parameters = pictures(4), row(**values)
    ours = changed(images, parameters.expand(4, -1))
    exact = torch.stack([by_torchvision(image, parameters[0], rounded=False) for image in images])
    rounded = torch.stack([by_torchvision(image, parameters[0], rounded=True) for image in images])
    assert (ours - exact).abs().max() < 0.01
    assert (ours - rounded).abs().max() < 2


@pytest.mark.parametrize("order", range(24))
def test_every_order_of_the_jitter_is_torchvisions(order: int) -> None:
    images = pictures(2)
    parameters = row(brightness=1.35, contrast=0.7, saturation=1.2, hue=0.08, order=order)
    exact = torch.stack([by_torchvision(image, parameters[0], rounded=False) for image in images])
    assert (changed(images, parameters.expand(2, -1)) - exact).abs().max() < 0.01


def test_a_batch_of_all_kinds_is_torchvisions_crop_by_crop() -> None:
    rng = np.random.default_rng(1)
    parameters = torch.from_numpy(np.concatenate([draw_colour(Colour(), np.array([0, 1, 2, 2]), rng) for _ in range(15)]))
    images = pictures(60)
    ours = changed(images, parameters)
    exact = torch.stack([by_torchvision(image, p, rounded=False) for image, p in zip(images, parameters, strict=True)])
    assert (ours - exact).abs().max() < 0.01
    # torchvision cuts off the fraction after each of up to five changes of a uint8 picture; so it is darker by a level on average.
    rounded = torch.stack([by_torchvision(image, p, rounded=True) for image, p in zip(images, parameters, strict=True)])
    assert (ours - rounded).abs().mean() < 1.5


def test_a_crop_does_not_depend_on_the_others_of_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    images, parameters = pictures(12), torch.from_numpy(draw_colour(Colour(), np.array([1] * 12), rng))
    whole = changed(images, parameters)
    one_by_one = torch.cat([changed(images[i : i + 1], parameters[i : i + 1]) for i in range(12)])
    monkeypatch.setattr("pretrain.dinov2.colour._AT_ONCE", 5 * images[0].numel())
    assert (whole - one_by_one).abs().max() < 1e-3
    assert (whole - changed(images, parameters)).abs().max() < 1e-3


def test_the_input_is_left_as_it_is_and_an_empty_batch_stays_empty() -> None:
    images = pictures(2)
    before = images.clone()
    changed(images, row(brightness=0.5, sigma=1.0).expand(2, -1))
    assert torch.equal(images, before)
    assert changed(images[:0], row().expand(0, -1)).shape == (0, 3, 40, 37)


def test_normalisation_is_by_channel() -> None:
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 2.0])
    images = pictures(2)
    expected = (images.float() / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(normalised(images, row().expand(2, -1), mean, std), expected, atol=1e-5, rtol=0)


def test_colours_are_drawn_as_the_recipe_says() -> None:
    kinds = np.array([0, 1, 2, 2, 2, 2, 2, 2, 2, 2])
    rows = np.stack([draw_colour(Colour(), kinds, np.random.default_rng(seed)) for seed in range(600)]).astype(float)
    flat = rows.reshape(-1, len(COLUMNS))
    jittered = flat[flat[:, 0] != 1]
    assert stats.binomtest(len(jittered), len(flat), 0.8).pvalue > 1e-3
    for column, (low, width) in enumerate([(0.6, 0.8), (0.6, 0.8), (0.8, 0.4), (-0.1, 0.2)]):
        assert stats.kstest(jittered[:, column], stats.uniform(low, width).cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(jittered[:, 4].astype(int), minlength=24)).pvalue > 1e-3
    assert stats.binomtest(int(flat[:, 5].sum()), len(flat), 0.2).pvalue > 1e-3
    assert not rows[:, 0, 6].any()  # never on the first global crop
    assert stats.binomtest(int((rows[:, 1, 6] > 0).sum()), 600, 0.9).pvalue > 1e-3
    assert stats.binomtest(int((rows[:, 2:, 6] > 0).sum()), 4800, 0.5).pvalue > 1e-3
    sigma = flat[:, 6][flat[:, 6] > 0]
    assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3
    assert set(rows[:, [0, 2], 7].ravel()) == {256.0}
    assert stats.binomtest(int((rows[:, 1, 7] == 128).sum()), 600, 0.2).pvalue > 1e-3


def test_jitter_orders_are_all_there_are() -> None:
    assert sorted(ORDERS) == sorted(itertools.permutations(range(4)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_same_colours() -> None:
    rng = np.random.default_rng(3)
    images, parameters = pictures(24), torch.from_numpy(draw_colour(Colour(), np.array([1, 2] * 12), rng))
    with torch.autocast("cuda", torch.bfloat16):
        there = normalised(images.cuda(), parameters.cuda(), *(t.cuda() for t in PLAIN)).cpu() * 255
    assert (there - changed(images, parameters)).abs().max() < 0.01
