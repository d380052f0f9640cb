"""Mixtures: exact shares, epochs of their own, and a single set as if there were no mixture."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import UserError, open_shards
from pretrain.data import Loader
from pretrain.mae import MaeViews
from pretrain.mixture import Mixture, mixed_counts, parse_mix
from pretrain.order import batch_samples
from pretrain.recipe import Data

from .conftest import damage, photograph, write_shards

VIEWS = MaeViews(Data(size=32), patches=16, kept=4)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    sizes = {"a": 14, "b": 9, "c": 5}
    at = tmp_path_factory.mktemp("sets")
    return {
        name: write_shards(at / name, [photograph(100 * start + n) for n in range(size)])
        for start, (name, size) in enumerate(sizes.items())
    }


def mixture(folders: dict[str, Path], **weights: str | float) -> Mixture:
    return Mixture({name: open_shards(folders[name]) for name in weights}, weights)


WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.integers(0, 10**9), st.integers(1, 3000))
def test_every_window_holds_each_set_by_its_share(weights: list[int], start: int, length: int) -> None:
    shares = [Fraction(weight, sum(weights)) for weight in weights]
    counts = np.diff(mixed_counts(np.array([start, start + length]), shares), axis=1)[:, 0].tolist()
    assert sum(counts) == length
    most = math.ceil(math.log2(len(weights))) or 1e-9  # one for each halving of the sets
    assert all(abs(count - length * share) < most for count, share in zip(counts, shares, strict=True))


@settings(max_examples=30, deadline=None)
@given(WEIGHTS, st.integers(0, 10**9))
def test_every_sample_comes_from_one_set(weights: list[int], start: int) -> None:
    steps = np.diff(mixed_counts(np.arange(start, start + 200), [Fraction(weight, sum(weights)) for weight in weights]), axis=1)
    assert (steps.sum(axis=0) == 1).all()
    assert steps.min() >= 0


def test_each_set_has_exact_epochs_of_its_own(folders: dict[str, Path]) -> None:
    mixed = mixture(folders, a="0.7", b="0.3")
    seen: dict[int, Counter[int]] = {}
    for step in range(10):
        for epoch, sample in mixed.batch_samples(step, batch=12, seed=3):
            seen.setdefault(epoch if sample < 14 else 100 + epoch, Counter())[sample] += 1
    assert all(seen[epoch] == Counter(range(14)) for epoch in range(6))  # 84 of 120 samples
    assert all(seen[100 + epoch] == Counter(range(14, 23)) for epoch in range(4))  # 36 of 120


def test_a_single_set_is_in_the_order_it_has_without_a_mixture(folders: dict[str, Path]) -> None:
    mixed = mixture(folders, a=1)
    for step in range(5):
        assert mixed.batch_samples(step, batch=6, seed=8) == batch_samples(step, batch=6, samples=14, seed=8)


def test_sets_of_one_size_have_orders_of_their_own(folders: dict[str, Path]) -> None:
    shards = open_shards(folders["a"])
    mixed = Mixture({"a": shards, "twin": shards}, {"a": 1, "twin": 1})
    samples = [s for _, s in mixed.batch_samples(0, batch=28, seed=0)]
    assert [s for s in samples if s < 14] != [s - 14 for s in samples if s >= 14]


def test_batches_do_not_depend_on_workers_ranks_or_the_start(folders: dict[str, Path]) -> None:
    whole = list(Loader(mixture(folders, a=5, b=3, c=2), VIEWS, batch=12, seed=5, workers=1).batches(0, 3))
    assert Counter(key[0] for batch in whole for key in batch.keys) == {"a": 18, "b": 10, "c": 8}
    ranks = [Loader(mixture(folders, a=5, b=3, c=2), VIEWS, batch=12, seed=5, workers=2, rank=r, world=3).batches(1, 3) for r in range(3)]
    for batch, parts in zip(whole[1:], zip(*ranks, strict=True), strict=True):
        assert batch.keys == [key for part in parts for key in part.keys]
        assert torch.equal(batch["images"], torch.cat([part["images"] for part in parts]))


def test_a_damaged_sample_is_replaced_from_its_own_set(folders: dict[str, Path], tmp_path: Path) -> None:
    own = write_shards(tmp_path / "own", [photograph(n) for n in range(6)])
    key = damage(own, 2)
    mixed = Mixture({"a": open_shards(folders["a"]), "own": open_shards(own)}, {"a": 1, "own": 1})
    batch = next(iter(Loader(mixed, VIEWS, batch=12, seed=1, workers=1).batches(0, 1)))
    assert batch.damaged == [f"own/{key}"]
    assert sum(key.startswith("own/") for key in batch.keys) == 6


def test_weights_are_by_size_where_none_are_given(folders: dict[str, Path]) -> None:
    mixed = Mixture({name: open_shards(folder) for name, folder in folders.items()})
    assert mixed.shares == [Fraction(14, 28), Fraction(9, 28), Fraction(5, 28)]


def test_what_is_mixed_is_told_with_digests_and_shares(folders: dict[str, Path]) -> None:
    about = mixture(folders, a="0.7", b="0.3").about
    assert about["a"]["share"] == "7/10"
    assert about["b"]["digest"] == open_shards(folders["b"]).digest


def test_mix_is_read_from_the_command_line() -> None:
    assert parse_mix(["a=b/shards=0.7", "oct=2"]) == {"a=b/shards": "0.7", "oct": "2"}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a"], "write it as FOLDER=WEIGHT"),
        (["=0.3"], "write it as FOLDER=WEIGHT"),
        (["a=much"], "the weight is a number above 0"),
        (["a=-1"], "the weight is a number above 0"),
        (["a=nan"], "the weight is a number above 0"),
        (["a=0.5", "a/=0.5"], "a/ is given twice"),
    ],
)
def test_a_mix_that_cannot_be_is_explained(given: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_mix(given)
