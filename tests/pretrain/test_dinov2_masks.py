"""Masks against the distribution that the paper and the official code state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.dinov2 import block_mask, deal_ratios
from pretrain.dinov2.masks import draw_block


@settings(max_examples=50, deadline=None)
@given(samples=st.integers(1, 60), seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_a_fixed_number_of_crops_is_masked_with_one_ratio_from_each_bin(samples: int, seed: int, share: float) -> None:
    dealt = np.array(deal_ratios(samples, np.random.default_rng(seed), share=share, ratios=(0.1, 0.5)))
    assert dealt.shape == (samples, 2)
    masked = np.sort(dealt[dealt > 0])
    assert len(masked) == int(2 * samples * share)
    edges = np.linspace(0.1, 0.5, len(masked) + 1)
    assert ((masked >= edges[:-1]) & (masked <= edges[1:])).all()


def test_every_crop_is_as_likely_to_be_masked() -> None:
    rng = np.random.default_rng(0)
    dealt = np.array([deal_ratios(4, rng, share=0.5, ratios=(0.1, 0.5)) for _ in range(4000)])
    assert np.abs((dealt > 0).mean(axis=0) - 0.5).max() < 5 * np.sqrt(0.25 / 4000)
    assert np.abs(dealt.mean(axis=0) - 0.15).max() < 5 * 0.17 / np.sqrt(4000)  # half of the mean ratio


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(4, 16), columns=st.integers(4, 16), ratio=st.floats(0, 0.5), seed=st.integers(0, 10**6))
def test_never_more_patches_are_hidden_than_asked_for(rows: int, columns: int, ratio: float, seed: int) -> None:
    target = int(rows * columns * ratio)
    mask = block_mask((rows, columns), target, np.random.default_rng(seed))
    assert mask.shape == (rows * columns,)
    assert mask.dtype == bool
    assert mask.sum() <= target


def test_nearly_as_many_patches_are_hidden_as_asked_for_and_at_most_128_in_the_paper() -> None:
    rng = np.random.default_rng(0)
    targets = [int(256 * ratio) for ratio in np.linspace(0.1, 0.5, 400)]
    counts = [int(block_mask((16, 16), target, rng).sum()) for target in targets]
    short = np.array(targets) - np.array(counts)
    assert max(counts) <= 128
    assert short.mean() < 0.3
    assert short.max() <= 6


def test_a_block_has_the_stated_area_aspect_and_place() -> None:
    draws = np.random.default_rng(0).random((20_000, 4))
    boxes = np.array([draw_block((16, 16), 60, row) for row in draws.tolist()])
    boxes = boxes[boxes[:, 2] > 0]
    assert len(boxes) > 19_000  # few are longer than the grid
    top, left, height, width = boxes.T
    assert ((top + height <= 16) & (left + width <= 16)).all()
    area, log_aspect = height * width, np.log(height / width)
    assert area.mean() == pytest.approx(32, rel=0.03)  # evenly from 4 to 60
    assert np.percentile(area, [25, 75]) == pytest.approx([18, 46], abs=2.5)
    assert area.min() >= 3  # sides are rounded
    assert log_aspect.mean() == pytest.approx(0, abs=0.02)
    assert log_aspect.std() == pytest.approx(2 * np.log(1 / 0.3) / np.sqrt(12), rel=0.05)
    square = boxes[(height == 6) & (width == 6)]
    assert np.bincount(square[:, 0], minlength=11).min() > 0  # from the first row to the last it can have
    assert square[:, 0].max() == 10


def test_no_target_hides_nothing_and_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    assert not block_mask((7, 7), 0, rng).any()
    assert rng.bit_generator.state == state


def test_the_same_draws_give_the_same_mask() -> None:
    one, other = (block_mask((16, 16), 100, np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(one, other)


def test_counts_of_hidden_patches_are_spread_as_lightlys_block_masks_are() -> None:
    lightly = pytest.importorskip("lightly.models.utils")
    import random

    random.seed(0)
    theirs = lightly.random_block_mask(size=(400, 16, 16), batch_mask_ratio=1.0, min_image_mask_ratio=0.1, max_image_mask_ratio=0.5)
    rng = np.random.default_rng(0)
    dealt = deal_ratios(200, rng, share=1.0, ratios=(0.1, 0.5))
    mine = np.array([block_mask((16, 16), int(256 * ratio), rng) for pair in dealt for ratio in pair])
    theirs = theirs.reshape(400, 256).numpy()
    assert mine.sum(1).mean() == pytest.approx(theirs.sum(1).mean(), rel=0.05)
    quartiles = [25, 50, 75]
    assert np.percentile(mine.sum(1), quartiles) == pytest.approx(np.percentile(theirs.sum(1), quartiles), rel=0.1)
    # How clumped they are: hidden neighbours of a hidden patch.
    clumped = [(m := masks.reshape(-1, 16, 16))[:, :, 1:][m[:, :, :-1]].mean() for masks in (mine, theirs)]
    assert clumped[0] == pytest.approx(clumped[1], abs=0.05)
