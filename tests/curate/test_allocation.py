"""Allocation and ranks against brute force and their stated properties."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.allocation import balance_measures, link_patients, stable_rank, water_fill

strata = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), min_size=1, max_size=9)


def pour(capacity: list[int], weight: list[int], total: int) -> list[int]:
    """Brute force: one unit at a time to the open stratum that is least filled for its weight."""
    filled = [0] * len(capacity)
    for _ in range(total):
        open_ones = [i for i in range(len(capacity)) if weight[i] and filled[i] < capacity[i]]
        if not open_ones:
            break
        filled[min(open_ones, key=lambda i: ((filled[i] + 1) / weight[i], i))] += 1
    return filled


@given(strata, st.integers(0, 1500))
def test_allocation_conserves_the_total_and_respects_capacity(pairs: list[tuple[int, int]], total: int) -> None:
    capacity, weight = (np.array(x) for x in zip(*pairs, strict=True))
    filled = water_fill(capacity, weight, total)
    assert filled.sum() == min(total, capacity[weight > 0].sum())
    assert (filled >= 0).all()
    assert (filled <= capacity).all()
    assert (filled[weight == 0] == 0).all()


@given(strata, st.integers(0, 1500))
def test_allocation_differs_from_pouring_unit_by_unit_by_less_than_one(pairs: list[tuple[int, int]], total: int) -> None:
    capacity, weight = (np.array(x) for x in zip(*pairs, strict=True))
    poured = pour(capacity.tolist(), weight.tolist(), total)
    assert np.abs(water_fill(capacity, weight, total) - poured).max() <= max(weight)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=9), st.integers(0, 1500))
def test_equal_weights_fill_evenly(capacity: list[int], total: int) -> None:
    filled = water_fill(np.array(capacity), np.ones(len(capacity)), total)
    spare = [f for f, c in zip(filled, capacity, strict=True) if f < c]
    if spare:
        assert max(filled) <= min(spare) + 1


@given(st.lists(st.integers(0, 400), min_size=1, max_size=9), st.integers(0, 700), st.integers(0, 700))
def test_a_larger_total_never_takes_from_a_full_stratum(capacity: list[int], total: int, more: int) -> None:
    weight = np.ones(len(capacity))
    small, large = water_fill(np.array(capacity), weight, total), water_fill(np.array(capacity), weight, total + more)
    assert (large >= small).all() or more == 0


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
    rank = pd.Series(stable_rank(ids, 3, "draw"), index=ids)
    shuffled = ids.sample(frac=0.5, random_state=1)
    again = pd.Series(stable_rank(shuffled, 3, "draw"), index=shuffled)
    assert (rank.loc[again.index] == again).all()


def test_ranks_look_uniform_and_differ_by_seed_and_purpose() -> None:
    ids = pd.Series([f"{i:06d}" for i in range(20_000)])
    rank = stable_rank(ids, 0, "draw") / 2.0**64
    assert abs(rank.mean() - 0.5) < 0.01
    assert abs(rank.std() - np.sqrt(1 / 12)) < 0.01
    for other in (stable_rank(ids, 1, "draw"), stable_rank(ids, 0, "hold-out")):
        assert abs(np.corrcoef(rank, other / 2.0**64)[0, 1]) < 0.03


def test_patients_who_share_photographs_are_linked_through_others() -> None:
    patients = pd.Series(["a", "b", "b", "c", "d"])
    photographs = pd.Series(["x", "x", "y", "y", "z"])
    assert link_patients(patients, photographs).tolist() == ["a", "a", "a", "a", "d"]
