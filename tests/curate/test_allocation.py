"""Allocation and ranks against brute force and their stated properties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.allocation import balance_measures, count_patients, link, place_within, rank_for, stable_hash, water_fill

strata = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), min_size=1, max_size=9)


def pour(capacity: list[int], weight: list[int], total: int) -> list[int]:
    """Brute force: one unit at a time to the open stratum that is least filled for its weight."""
    filled = [0] * len(capacity)
    for _ in range(total):
        open_ones = [i for i in range(len(capacity)) if weight[i] and filled[i] < capacity[i]]
        if not open_ones:
            break
        filled[min(open_ones, key=lambda i: ((filled[i] + 0.5) / weight[i], i))] += 1
    return filled


@given(strata, st.integers(0, 1500))
def test_allocation_conserves_the_total_and_respects_capacity(pairs: list[tuple[int, int]], total: int) -> None:
    capacity, weight = (np.array(x) for x in zip(*pairs, strict=True))
    filled = water_fill(capacity, weight, total)
    assert filled.sum() == min(total, capacity[weight > 0].sum())
    assert (filled >= 0).all()
    assert (filled <= capacity).all()
    assert (filled[weight == 0] == 0).all()


@given(strata, st.integers(0, 600))
def test_allocation_is_what_pouring_unit_by_unit_gives(pairs: list[tuple[int, int]], total: int) -> None:
    capacity, weight = (np.array(x) for x in zip(*pairs, strict=True))
    assert water_fill(capacity, weight, total).tolist() == pour(capacity.tolist(), weight.tolist(), total)


@given(strata, st.integers(0, 700), st.integers(0, 700))
def test_a_larger_total_gives_no_stratum_less(pairs: list[tuple[int, int]], total: int, more: int) -> None:
    capacity, weight = (np.array(x) for x in zip(*pairs, strict=True))
    assert (water_fill(capacity, weight, total + more) >= water_fill(capacity, weight, total)).all()


def test_shares_that_are_far_from_equal_favour_neither_large_nor_small() -> None:
    weight = np.array([1000.0, *[1.0] * 59])
    excess = [water_fill(np.full(60, 10**6), weight, total)[0] - total * weight[0] / weight.sum() for total in range(4236, 4236 + 2 * 1059)]
    assert abs(np.mean(excess)) < 1


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        water_fill(np.array([-1]), np.ones(1), 3)


def test_balance_of_an_even_distribution() -> None:
    even = balance_measures(np.array([5, 5, 5, 5]), np.ones(4), 10)
    assert even == {
        "normalised_entropy": pytest.approx(1.0), "effective_strata": pytest.approx(4.0), "total_variation": pytest.approx(0.0),
        "min_max_ratio": 1.0, "images_per_patient": 2.0,
    }  # fmt: skip


def test_balance_of_one_stratum_alone() -> None:
    lone = balance_measures(np.array([8, 0]), np.ones(2), 8)
    assert lone["normalised_entropy"] == pytest.approx(0.0)
    assert lone["total_variation"] == pytest.approx(0.5)


def test_ranks_do_not_depend_on_order_or_company() -> None:
    ids = pd.Series([f"image{i}" for i in range(500)])
    rank = pd.Series(rank_for(stable_hash(ids, 3), "draw"), index=ids)
    shuffled = ids.sample(frac=0.5, random_state=1)
    again = pd.Series(rank_for(stable_hash(shuffled, 3), "draw"), index=shuffled)
    assert (rank.loc[again.index] == again).all()


def test_ranks_look_uniform_and_differ_by_seed_and_purpose() -> None:
    ids = pd.Series([f"{i:06d}" for i in range(20_000)])
    hashes = stable_hash(ids, 0)
    rank = rank_for(hashes, "draw") / 2.0**64
    assert abs(rank.mean() - 0.5) < 0.01
    assert abs(rank.std() - np.sqrt(1 / 12)) < 0.01
    for other in (rank_for(stable_hash(ids, 1), "draw"), rank_for(hashes, "hold-out"), hashes):
        assert abs(np.corrcoef(rank, other / 2.0**64)[0, 1]) < 0.03


def test_ranks_of_different_ids_differ() -> None:
    assert len(np.unique(rank_for(np.arange(100_000, dtype=np.uint64), "draw"))) == 100_000


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2**64 - 1)), max_size=60, unique_by=lambda t: t[1]))
def test_places_within_groups_follow_the_ranks(rows: list[tuple[int, int]]) -> None:
    group, rank = np.array([g for g, _ in rows], dtype=np.int64), np.array([r for _, r in rows], dtype=np.uint64)
    expected = [sum(other < r for g, other in rows if g == own) for own, r in rows]
    assert place_within(group, rank).tolist() == expected


def test_ranks_that_agree_in_their_leading_bits_are_still_told_apart() -> None:
    group, rank = np.array([7, 7, 7, 1]), np.array([2, 1, 3, 0], dtype=np.uint64)
    assert place_within(group, rank).tolist() == [1, 0, 2, 0]


def test_what_is_connected_through_others_is_linked() -> None:
    assert link(6, np.array([4, 1, 5]), np.array([1, 3, 5])).tolist() == [0, 1, 2, 1, 1, 5]
    assert link(2, np.zeros(0, int), np.zeros(0, int)).tolist() == [0, 1]


def test_patients_are_counted_once_in_each_group(monkeypatch: pytest.MonkeyPatch) -> None:
    patient, group = np.array([0, 0, 1, 2, 2]), np.array([0, 0, 0, 1, 0])
    assert count_patients(patient, group, 3, 3).tolist() == [3, 1, 0]
    monkeypatch.setattr("curate.allocation._LARGEST_MAP", 0)
    assert count_patients(patient, group, 3, 3).tolist() == [3, 1, 0]
