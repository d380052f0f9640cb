"""The reader as an attacker: numbers of people known within limits, relations between them, and what follows.

A `System` holds one variable for each number of people that a card speaks of, shown or hidden. What is shown is known
within its rounding; what is hidden is known to be there. Relations join them: groups add up to everyone, a part is at most
its whole. The linear program over all of them gives the least and the most that any number can be.

Source: the attacker's problem of Hundepool et al., Statistical Disclosure Control (2012), section 4.3, solved with HiGHS.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Version of the card, what is counted ("people", "images", "positive", "negative"), of whom, attribute, group.
Quantity = tuple[str, str, str, str, str]

_TINY = 1e-6
_FAR = float("inf")


@dataclass(frozen=True)
class Relation:
    """A sum of quantities that is zero (`equal`) or at most zero.

    Attributes:
        terms: quantity -> coefficient.
        equal: whether the sum is zero; else it is at most zero.
        weaker: for what the attacker guesses (that nobody counts in two groups): what is certain instead, used where the
            numbers contradict the guess. None for what is certain.
    """

    terms: Mapping[Quantity, float]
    equal: bool
    weaker: tuple[Relation, ...] | None = None


@dataclass
class Bounds:
    """The least and the most that something can be, and the shown quantities that set each limit."""

    low: float
    high: float
    low_by: list[Quantity]
    high_by: list[Quantity]


@dataclass
class System:
    """Quantities with their limits, and the relations between them.

    Attributes:
        limits: quantity -> (least, most); `most` is None where nothing is known.
        shown: the quantities that are shown as numbers of people, with the number, and could be hidden.
        hidden: the quantities that are shown as hidden.
    """

    limits: dict[Quantity, tuple[float, float | None]] = field(default_factory=dict)
    shown: dict[Quantity, int] = field(default_factory=dict)
    hidden: dict[Quantity, None] = field(default_factory=dict)
    relations: list[Relation] = field(default_factory=list)

    def know(self, quantity: Quantity, low: float, high: float | None) -> None:
        """Add what is known of a quantity; what was known before stays where the two contradict each other."""
        old_low, old_high = self.limits.get(quantity, (0.0, None))
        new_low = max(old_low, low)
        new_high = old_high if high is None else high if old_high is None else min(old_high, high)
        if new_high is None or new_low <= new_high:
            self.limits[quantity] = (new_low, new_high)

    def hide(self, quantity: Quantity, low: float) -> None:
        """Forget a quantity that was shown."""
        self.shown.pop(quantity, None)
        self.hidden[quantity] = None
        self.limits[quantity] = (low, None)

    def sums(self, parts: Sequence[Quantity], whole: Quantity, *, disjoint: bool = False, complete: bool = True) -> None:
        """Say that parts make up a whole. The attacker guesses that they add up to it.

        Args:
            parts: the groups.
            whole: everyone.
            disjoint: whether that is certain.
            complete: whether it is certain at least that everyone is in some part.
        """
        if not parts:
            return
        for q in (*parts, whole):
            self.limits.setdefault(q, (0.0, None))
        terms = {**dict.fromkeys(parts, 1.0), whole: -1.0}
        weaker = [Relation({part: 1.0, whole: -1.0}, False) for part in parts]
        if complete:
            weaker.append(Relation({q: -c for q, c in terms.items()}, False))
        self.relations.append(Relation(terms, True, None if disjoint else tuple(weaker)))

    def at_most(self, less: Quantity, more: Quantity) -> None:
        """Say that one quantity is at most another."""
        for q in (less, more):
            self.limits.setdefault(q, (0.0, None))
        self.relations.append(Relation({less: 1.0, more: -1.0}, False))

    def join(self, other: System) -> None:
        """Take in another system."""
        self.limits.update(other.limits)
        self.shown.update(other.shown)
        self.hidden.update(other.hidden)
        self.relations.extend(other.relations)


class Attacker:
    """Works out what a system gives away.

    Args:
        system: what is public. Changes to its limits are seen; new quantities and relations are not.

    Attributes:
        consistent: whether the numbers fit together at all.
        guesses: the assumed relations that they allow.
        solved: number of linear programs solved.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.names = list(system.limits)
        self.at = {q: i for i, q in enumerate(self.names)}
        known = [high for _, high in system.limits.values() if high is not None]
        self.most = 4 * max(known, default=0.0) + 1000.0  # stands for no limit
        self.solved = 0
        self.seen: dict[Quantity, tuple[float, float]] = {}
        certain = [r for r in system.relations if r.weaker is None]
        guesses = [r for r in system.relations if r.weaker is not None]
        self.guesses = guesses
        self._assemble(certain + guesses)
        self.consistent = True
        if self._feasible():
            return
        self.guesses = []
        instead = {id(g): list(g.weaker or ()) for g in guesses}
        self._assemble([*certain, *(r for weaker in instead.values() for r in weaker)])
        self.consistent = self._feasible()
        for guess in guesses if self.consistent else ():
            weaker = instead.pop(id(guess))
            self._assemble([*certain, *self.guesses, guess, *(r for w in instead.values() for r in w)])
            if self._feasible():
                self.guesses.append(guess)
            else:
                certain += weaker
        self._assemble([*certain, *self.guesses])

    def _assemble(self, relations: list[Relation]) -> None:
        from scipy.sparse import csr_matrix

        self.matrices: dict[bool, Any] = {}
        for equal in (True, False):
            rows = [r for r in relations if r.equal is equal]
            cells = [(i, self.at[q], c) for i, r in enumerate(rows) for q, c in r.terms.items()]
            if cells:
                i, j, values = zip(*cells, strict=True)
                self.matrices[equal] = csr_matrix((values, (i, j)), shape=(len(rows), len(self.names)))

    def _limits(self) -> np.ndarray:
        import numpy as np

        return np.array([(low, self.most if high is None else high) for low, high in self.system.limits.values()])

    def solve(self, goal: Mapping[Quantity, float]) -> Any:
        """Minimise a sum of quantities; None where the numbers contradict each other."""
        import numpy as np
        from scipy.optimize import linprog

        costs = np.zeros(len(self.names))
        for q, c in goal.items():
            costs[self.at[q]] = c
        given: dict[str, Any] = {}
        for equal, (matrix, side) in {True: ("A_eq", "b_eq"), False: ("A_ub", "b_ub")}.items():
            if equal in self.matrices:
                given[matrix], given[side] = self.matrices[equal], np.zeros(self.matrices[equal].shape[0])
        self.solved += 1
        result = linprog(costs, bounds=self._limits(), method="highs", **given)
        if result.status != 0:
            return None
        self._witness(result.x)
        return result

    def warm(self, quantities: Sequence[Quantity]) -> None:
        """Solve for many quantities at once, least and most, so that `seen` settles most of them."""
        import numpy as np

        for sign in (1.0, -1.0):
            self.solve(dict.fromkeys(quantities, sign))
        rng = np.random.default_rng(len(quantities))  # the same directions each time: a card is the same each time
        for _ in range(6 if len(quantities) > 20 else 0):
            self.solve(dict(zip(quantities, rng.uniform(-1, 1, len(quantities)), strict=True)))

    def _witness(self, values: Any) -> None:
        """Remember how small and how large each quantity was in a solution; later limits are never narrower."""
        for q, x in zip(self.names, values, strict=True):
            low, high = self.seen.get(q, (x, x))
            self.seen[q] = (min(low, x), max(high, x))

    def _feasible(self) -> bool:
        self.seen = {}
        return self.solve({}) is not None

    def bounds(self, goal: Mapping[Quantity, float], least: float = -_FAR, most: float = _FAR) -> Bounds:
        """Bound a sum of quantities, in whole people; (0, no limit) where the numbers contradict each other.

        Args:
            goal: quantity -> coefficient.
            least, most: ends that a solution has already reached; those are taken for the bounds. Of one quantity only.
        """
        import math

        ends: list[tuple[float, list[Quantity]]] = []
        seen = self.seen[next(iter(goal))] if len(goal) == 1 else (_FAR, -_FAR)
        for sign in (1.0, -1.0):
            reached = seen[0] <= least if sign > 0 else seen[1] >= most
            if reached:
                ends.append((seen[0] if sign > 0 else seen[1], []))
                continue
            result = self.solve({q: sign * c for q, c in goal.items()})
            if result is None:
                return Bounds(0.0, self.most, [], [])
            ends.append((sign * result.fun, self._used(result)))
        (low, low_by), (high, high_by) = ends
        return Bounds(math.ceil(low - _TINY), math.floor(high + _TINY), low_by, high_by)

    def _used(self, result: Any) -> list[Quantity]:
        """List the shown quantities whose limits held the solution: those that the attack needs."""
        import numpy as np

        at = np.flatnonzero((np.abs(result.lower.marginals) > _TINY) | (np.abs(result.upper.marginals) > _TINY))
        return [self.names[i] for i in at if self.names[i] in self.system.shown]
