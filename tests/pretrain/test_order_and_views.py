"""Order, views and masks: pure functions with the stated distributions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from curate import UserError, open_shards
from pretrain.data import Loader
from pretrain.mae import MaeViews, split_patches
from pretrain.order import batch_samples, epoch_order, view_generator
from pretrain.recipe import Data
from pretrain.views import crop_box, resize

VIEWS = MaeViews(Data(size=32), patches=16, kept=4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 50), st.integers(1, 70), st.integers(0, 2**31 - 1))
def test_every_epoch_holds_every_sample_once_whatever_the_batch(samples: int, batch: int, seed: int) -> None:
    steps = math.ceil(3 * samples / batch)
    pairs = [p for step in range(steps) for p in batch_samples(step, batch=batch, samples=samples, seed=seed)]
    for epoch in range(3):
        assert sorted(s for e, s in pairs if e == epoch) == list(range(samples))
    assert [e for e, _ in pairs] == sorted(e for e, _ in pairs)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(epoch_order(seed, epoch, 40).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9


def test_mask_keeps_exactly_its_share_and_is_a_partition() -> None:
    visible, hidden = split_patches(196, 49, np.random.default_rng(0))
    assert len(visible) == 49
    assert sorted([*visible, *hidden]) == list(range(196))


def test_every_subset_of_kept_patches_is_equally_likely() -> None:
    draws = Counter(tuple(split_patches(5, 2, view_generator(0, epoch, 7))[0].tolist()) for epoch in range(4000))
    assert len(draws) == 10
    assert stats.chisquare(list(draws.values())).pvalue > 1e-3


def test_views_of_one_sample_differ_between_epochs_and_not_between_calls() -> None:
    numbers = [tuple(view_generator(3, epoch, 11).random(4)) for epoch in (0, 0, 1)]
    assert numbers[0] == numbers[1] != numbers[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(16, 400), st.integers(16, 400), st.integers(0, 10_000))
def test_crop_stays_inside_with_allowed_area_and_aspect(height: int, width: int, seed: int) -> None:
    top, left, h, w = crop_box(height, width, np.random.default_rng(seed), area=(0.2, 1.0), aspect=(3 / 4, 4 / 3))
    assert top >= 0
    assert left >= 0
    assert top + h <= height
    assert left + w <= width
    assert 3 / 4 * (1 - 2 / h) - 2 / h <= w / h <= 4 / 3 * (1 + 2 / h) + 2 / h


def test_crop_area_is_even_between_its_bounds() -> None:
    rng = np.random.default_rng(0)
    boxes = [crop_box(1000, 1000, rng, area=(0.2, 0.5), aspect=(3 / 4, 4 / 3)) for _ in range(1500)]
    shares = np.array([h * w / 1e6 for _, _, h, w in boxes])
    assert stats.kstest(shares, stats.uniform(0.2, 0.3).cdf).pvalue > 1e-3
    ratios = np.log([w / h for _, _, h, w in boxes])
    assert stats.kstest(ratios, stats.uniform(math.log(3 / 4), 2 * math.log(4 / 3)).cdf).pvalue > 1e-3


@pytest.mark.parametrize("size", [40, 64, 128])
def test_resizing_is_bicubic_with_antialiasing_as_pil_does_it(size: int) -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (96, 90, 3), dtype=np.uint8), (0, 0), 1.0)
    ours = resize(image, (5, 7, 80, 60), size).permute(1, 2, 0).numpy().astype(int)
    theirs = np.asarray(Image.fromarray(image[5:85, 7:67]).resize((size, size), Image.Resampling.BICUBIC)).astype(int)
    assert abs(ours - theirs).max() <= 1


def test_batches_are_the_same_for_any_number_of_workers_and_any_start(shards: Path) -> None:
    opened = open_shards(shards)
    runs = [list(Loader(opened, VIEWS, batch=40, seed=5, workers=workers).batches(first, 4)) for workers, first in ((1, 0), (3, 0), (2, 2))]
    for other in (runs[1], [None, None, *runs[2]]):
        for a, b in zip(runs[0], other, strict=True):
            if b is not None:
                assert a.keys == b.keys
                assert torch.equal(a["images"], b["images"])
                assert torch.equal(a["visible"], b["visible"])
                assert torch.equal(a["hidden"], b["hidden"])


def test_half_of_the_views_are_flipped() -> None:
    half = np.zeros((64, 64, 3), np.uint8)
    half[:, :32] = 255
    views = MaeViews(Data(size=32, crop_area=(1, 1), crop_aspect=(1, 1)), patches=16, kept=4)
    batch = views.allocate(400)
    for i in range(400):
        views.fill(batch, i, half, view_generator(0, 0, i))
    flipped = int((batch["images"][:, 0, 16, 31] > 128).sum())
    assert stats.binomtest(flipped, 400).pvalue > 1e-3


def test_channels_are_red_green_blue(make_shards: Callable[[list[bytes]], Path]) -> None:
    red = cv2.imencode(".jpg", np.full((64, 64, 3), (0, 0, 255), np.uint8))[1].tobytes()
    loader = Loader(open_shards(make_shards([red])), VIEWS, batch=1, seed=0, workers=1)
    colour = next(iter(loader.batches(0, 1)))["images"].float().mean(dim=(0, 2, 3))
    assert colour[0] > 240
    assert colour[2] < 10


def test_a_damaged_sample_is_counted_and_replaced_the_same_way_every_time(own_shards: Path, damage_row: Callable[[Path, int], str]) -> None:
    key = damage_row(own_shards, 4)
    batches = [list(Loader(open_shards(own_shards), VIEWS, batch=30, seed=1, workers=w).batches(0, 2)) for w in (1, 3)]
    for a, b in zip(*batches, strict=True):
        assert a.damaged == b.damaged == [key]
        assert key not in a.keys
        assert a.keys == b.keys
        assert torch.equal(a["images"], b["images"])
    # The others are where they would have been.
    whole = [k for _, k in sorted((p, k) for p, k in enumerate(batches[0][0].keys))]
    assert len(set(whole)) == 29


def test_a_truncated_jpeg_counts_as_damaged(make_shards: Callable[[list[bytes]], Path]) -> None:
    good = cv2.imencode(".jpg", np.full((64, 64, 3), 90, np.uint8))[1].tobytes()
    loader = Loader(open_shards(make_shards([good, b"\xff\xd8 no image"])), VIEWS, batch=2, seed=0, workers=1)
    batch = next(iter(loader.batches(0, 1)))
    assert len(batch.damaged) >= 1
    assert len(set(batch.keys)) == 1


def test_a_shard_set_of_nothing_but_damaged_samples_stops(make_shards: Callable[[list[bytes]], Path]) -> None:
    loader = Loader(open_shards(make_shards([b"nothing", b"nothing either"])), VIEWS, batch=2, seed=0, workers=1)
    with pytest.raises(UserError, match=r"damaged samples .*curate verify"):
        next(iter(loader.batches(0, 1)))


def test_a_shard_that_broke_off_is_found_before_training(own_shards: Path) -> None:
    shard = own_shards / "shard-000001.tar"
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"shard-000001.tar: ends before sample"):
        Loader(open_shards(own_shards), VIEWS, batch=2, seed=0)


def test_a_missing_shard_is_found_before_training(own_shards: Path) -> None:
    (own_shards / "shard-000002.tar").unlink()
    with pytest.raises(UserError, match=r"shard-000002.tar: missing"):
        Loader(open_shards(own_shards), VIEWS, batch=2, seed=0)
