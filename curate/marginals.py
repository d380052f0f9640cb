"""Marginals: shares of joint strata whose sums over each attribute are what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS = 2000
_EXACT = 1e-9


@dataclass(frozen=True)
class Fit:
    """Joint shares fitted to marginals.

    Attributes:
        shares: one axis an attribute; sums to 1.
        targets: each attribute's shares as they could be asked for: groups that have nothing at 0, the others sum to 1.
        unreachable: by attribute, groups that were asked for and have nothing.
        residual: the largest difference between a share that was fitted and its target; above 0 where empty strata make
            the marginals contradict each other.
    """

    shares: np.ndarray
    targets: tuple[np.ndarray, ...]
    unreachable: tuple[tuple[int, ...], ...]
    residual: float


def fit_marginals(available: np.ndarray, targets: Sequence[np.ndarray]) -> Fit:
    """Fit joint shares to marginal ones by iterative proportional fitting (Deming and Stephan 1940).

    Of all joint distributions with these marginals it is the one closest, in relative entropy, to what is available, so
    thin strata are asked for little. Strata that are empty stay so.

    Args:
        available: counts, one axis an attribute.
        targets: a share for each group of each attribute, in any unit.

    Returns:
        The fit; where nothing of what is asked for is available, all shares are 0.
    """
    shares = available.astype(np.float64)
    axes = range(shares.ndim)
    others = [tuple(a for a in axes if a != axis) for axis in axes]
    unreachable = []
    for axis in axes:  # a group that nobody wants empties strata, and so may leave groups of other attributes with nothing
        shares = shares * (np.asarray(targets[axis]) > 0).reshape([-1 if a == axis else 1 for a in axes])
    reachable = []
    for axis, target in enumerate(targets):
        has = shares.sum(axis=others[axis]) > 0
        wanted = np.where(has, np.asarray(target, dtype=np.float64), 0.0)
        unreachable.append(tuple(int(i) for i in np.flatnonzero((np.asarray(target) > 0) & ~has)))
        reachable.append(wanted / wanted.sum() if wanted.sum() > 0 else wanted)
    if not shares.sum() > 0:
        return Fit(np.zeros_like(shares), tuple(reachable), tuple(unreachable), 1.0)
    shares /= shares.sum()
    residual = 1.0
    for _ in range(_ROUNDS):
        for axis in axes:
            sums = shares.sum(axis=others[axis])
            factor = np.divide(reachable[axis], sums, out=np.zeros_like(sums), where=sums > 0)
            shares = shares * factor.reshape([-1 if a == axis else 1 for a in axes])
        before, residual = residual, max(float(np.abs(shares.sum(axis=others[a]) - reachable[a]).max()) for a in axes)
        if residual < _EXACT or (residual > 1e-3 and abs(before - residual) < 1e-12):
            break
    total = shares.sum()
    return Fit(shares / total if total > 0 else shares, tuple(reachable), tuple(unreachable), residual)
