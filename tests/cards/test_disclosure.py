# ruff: noqa: E501
"""Disclosure control: what a policy hides stays hidden, and can't be had from what it shows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cards.disclosure import Disclosure, share, total
from cards.policy import HIDDEN, PRESETS, Policy, Suppressed, policy_named
from curate import UserError

policies = st.sampled_from([p for p in PRESETS.values() if p.protects])
counts = st.one_of(st.integers(0, 12), st.integers(0, 3000))


@given(policies, st.integers(0, 10_000))
def test_no_small_count_is_ever_shown(policy: Policy, n: int) -> None:
    shown = policy.count(n)
    if 1 <= n <= policy.threshold:
        assert shown is HIDDEN
    elif not isinstance(shown, Suppressed):
        assert shown == 0 or shown > policy.threshold
        assert abs(shown - n) <= policy.base // 2


@pytest.mark.parametrize(("name", "shown"), [("opensafely", [0, HIDDEN, HIDDEN, 10, 10, 15]), ("ons_10", [HIDDEN, HIDDEN, HIDDEN, HIDDEN, 12, 13]), ("cms_11", [0, HIDDEN, HIDDEN, HIDDEN, 12, 13]), ("none", [0, 1, 7, 8, 12, 13])])  # fmt: skip
def test_presets_follow_their_rules(name: str, shown: list[object]) -> None:
    assert [policy_named(name).count(n) for n in (0, 1, 7, 8, 12, 13)] == shown


def test_unknown_policy_is_a_user_error_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="did you mean 'opensafely'"):
        policy_named("opensafly")


def test_a_suppressed_number_is_neither_zero_nor_true_nor_addable() -> None:
    assert HIDDEN != 0
    with pytest.raises(TypeError):
        bool(HIDDEN)
    with pytest.raises(TypeError):
        HIDDEN + 1  # type: ignore[operator]


def attack(policy: Policy, line: list[int], hidden: int) -> list[int]:
    """List what the one hidden cell of a line can be for who knows the rounded sum and every other cell as shown."""
    sums = [n for n in range(sum(line) + 1 + policy.base) if policy.rounded(n) == policy.rounded(sum(line))]
    others = [n for i, n in enumerate(line) if i != hidden]
    bins = [[m for m in range(max(n - policy.base, 0), n + policy.base + 1) if policy.count(m) == policy.count(n)] for n in others]
    low, high = sum(map(min, bins)), sum(map(max, bins))
    return [u for u in range(1, policy.threshold + 1) if any(low + u <= n <= high + u for n in sums)]


@given(policies, st.lists(counts, min_size=1, max_size=8))
def test_a_hidden_cell_stands_alone_only_where_rounding_keeps_it(policy: Policy, values: list[int]) -> None:
    cells = dict(enumerate(values))
    shown = Disclosure(policy).cells(cells)
    hidden = [k for k, v in shown.items() if v is HIDDEN]
    if any(cells[k] for k in hidden) and sum(values) > policy.threshold:
        assert len(hidden) >= 2 or len(values) == 1 or len(attack(policy, values, hidden[0])) >= policy.base > 1
        if len(values) > 1 and policy.base == 1:
            assert sum(cells[k] for k in hidden) > policy.threshold or len(hidden) == len(values)


@given(policies, st.lists(st.lists(counts, min_size=3, max_size=3), min_size=2, max_size=5))
@settings(max_examples=60)
def test_rows_and_columns_are_protected_together(policy: Policy, table: list[list[int]]) -> None:
    cells = {(r, c): n for r, row in enumerate(table) for c, n in enumerate(row)}
    rows = [[(r, c) for c in range(3)] for r in range(len(table))]
    columns = [[(r, c) for r in range(len(table))] for c in range(3)]
    shown = Disclosure(policy).cells(cells, [*rows, *columns])
    for line in [*rows, *columns]:
        hidden = [k for k in line if shown[k] is HIDDEN]
        if len(hidden) == 1 and cells[hidden[0]] and sum(cells[k] for k in line) > policy.threshold:
            primary = policy.hides(cells[hidden[0]])  # a partner hidden for another line's sake is no small number
            assert not primary or len(attack(policy, [cells[k] for k in line], line.index(hidden[0]))) >= policy.base > 1


@given(policies, st.lists(st.tuples(counts, st.integers(0, 100)), min_size=1, max_size=8))
def test_a_subset_shows_nothing_that_the_whole_hides(policy: Policy, pairs: list[tuple[int, int]]) -> None:
    whole = {i: n for i, (n, _) in enumerate(pairs)}
    part = {i: n * p // 100 for i, (n, p) in enumerate(pairs)}
    protect = Disclosure(policy)
    above = protect.cells(whole)
    below = protect.subset(part, whole, above)
    for i, shown in below.items():
        if isinstance(shown, Suppressed):
            continue
        assert above[i] is not HIDDEN or part[i] == 0 or (not policy.hides(whole[i]) and whole[i] - part[i] > policy.threshold)
        if policy.base == 1 and isinstance(above[i], int):
            left_out = above[i] - shown  # type: ignore[operator]
            assert left_out == 0 or left_out > policy.threshold


@given(policies, st.lists(st.integers(0, 60), min_size=1, max_size=6), st.integers(0, 900))
def test_differences_of_successive_gates_count_no_small_removal(policy: Policy, removals: list[int], last: int) -> None:
    series = list(itertools.accumulate([last, *removals]))[::-1]
    steps = Disclosure(policy).chain(series, (0, len(series) - 1))
    assert [s.left is HIDDEN for s in steps] == [policy.hides(series[0])] * len(steps) or len(steps) == len(series)
    for before, after in itertools.pairwise(steps):
        if isinstance(before.left, int) and isinstance(after.left, int) and after.left:
            assert before.left - after.left == 0 or before.left - after.left > policy.threshold
        assert after.removed is HIDDEN or after.removed == 0 or after.removed > policy.threshold  # type: ignore[operator]


def test_a_gate_that_removes_three_people_repeats_the_number_before_it() -> None:
    steps = Disclosure(policy_named("opensafely")).chain([600, 597, 500], (0, 2))
    assert [(s.left, s.removed) for s in steps] == [(600, 0), (600, HIDDEN), (500, 100)]


@given(policies, st.lists(counts, min_size=1, max_size=8))
def test_totals_are_sums_of_the_cells_shown(policy: Policy, values: list[int]) -> None:
    shown = list(Disclosure(policy).cells(dict(enumerate(values))).values())
    assert total(shown) == sum(v for v in shown if v is not HIDDEN)  # type: ignore[misc]


def test_shares_come_from_protected_counts_and_stay_below_a_hundred() -> None:
    assert share(HIDDEN, 100) is HIDDEN
    assert share(10, HIDDEN) is HIDDEN
    assert share(105, 100) == 100.0
    assert share(0, 0) is None


@pytest.mark.parametrize("people", [1, 7])
def test_statistics_of_few_people_are_hidden(people: int) -> None:
    protect = Disclosure(policy_named("opensafely"))
    assert protect.statistic(1.5, people) is HIDDEN
    assert protect.statistic(1.23456, 8) == 1.23
    assert protect.small == 1


def test_hidden_numbers_are_tallied_by_reason() -> None:
    protect = Disclosure(policy_named("opensafely"))
    protect.cells({"a": 1, "b": 40})
    assert (protect.small, protect.linked) == (1, 1)
