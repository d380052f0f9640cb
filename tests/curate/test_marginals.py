"""Fitted marginals against a published example and their stated properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from curate.marginals import fit_marginals


def test_the_classical_example() -> None:
    # The 4 x 4 table that Wikipedia's article on iterative proportional fitting works through.
    seed = np.array([[40, 30, 20, 10], [35, 50, 100, 75], [30, 80, 70, 120], [20, 30, 40, 50]])
    rows, columns = np.array([150, 300, 400, 150]), np.array([200, 300, 400, 100])
    fit = fit_marginals(seed, [rows, columns])
    expected = [[64.61, 46.28, 35.42, 3.83], [49.95, 68.15, 156.49, 25.37], [56.70, 144.40, 145.06, 53.76], [28.74, 41.18, 63.03, 17.03]]
    assert 1000 * fit.shares == pytest.approx(np.array(expected), abs=0.1)
    assert fit.residual < 1e-9
    assert fit.unreachable == ((), ())


grids = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)).flatmap(
    lambda shape: st.tuples(
        st.lists(st.integers(0, 50), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))).map(lambda v: np.array(v).reshape(shape)),
        st.tuples(*(st.lists(st.integers(0, 9), min_size=n, max_size=n) for n in shape)),
    )
)


@given(grids)
def test_a_fit_meets_its_marginals_or_says_by_how_much_it_does_not(grid: tuple[np.ndarray, tuple[list[int], ...]]) -> None:
    available, targets = grid
    fit = fit_marginals(available, [np.array(t) for t in targets])
    assume(fit.shares.sum() > 0)
    assert fit.shares.sum() == pytest.approx(1)
    assert (fit.shares[available == 0] == 0).all()
    for axis, wanted in enumerate(fit.targets):
        sums = fit.shares.sum(axis=tuple(a for a in range(3) if a != axis))
        assert np.abs(sums - wanted).max() <= fit.residual + 1e-6


def test_full_tables_are_met_exactly() -> None:
    rng = np.random.default_rng(0)
    fit = fit_marginals(rng.integers(1, 1000, (6, 2, 5)), [np.ones(6), np.ones(2), np.ones(5)])
    for axis, size in enumerate((6, 2, 5)):
        assert fit.shares.sum(axis=tuple(a for a in range(3) if a != axis)) == pytest.approx(np.full(size, 1 / size))


def test_a_group_that_has_nothing_is_unreachable_and_contradictions_leave_a_residual() -> None:
    fit = fit_marginals(np.array([[5, 0], [0, 0]]), [np.ones(2), np.ones(2)])
    assert fit.unreachable == ((1,), (1,))
    assert fit.residual == pytest.approx(0)
    torn = fit_marginals(np.array([[5, 0], [0, 5]]), [np.array([3, 1]), np.array([1, 3])])
    assert torn.residual > 0.2


def test_of_all_tables_with_these_marginals_it_keeps_the_association() -> None:
    available = np.array([[900, 100], [50, 200]])
    fit = fit_marginals(available, [np.ones(2), np.ones(2)])
    odds = lambda t: t[0, 0] * t[1, 1] / (t[0, 1] * t[1, 0])  # noqa: E731
    assert odds(fit.shares) == pytest.approx(odds(available))
