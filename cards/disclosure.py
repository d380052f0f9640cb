"""Disclosure control: the one way from a count of people to a number on the card.

Every number of a card comes from a method of one `Disclosure`. Cells are protected first; totals, shares, balance
measures and the lengths of bars are computed from what is left. The method lowers the risk that a person is found
in a published table; it guarantees nothing.

Source: OpenSAFELY output checking (redact, then round, totals from rounded cells); complementary suppression as in
Hundepool et al., Statistical Disclosure Control (2012), chapter 4: here no line of a table whose sum is public keeps a
single hidden cell that the others would give away; across tables `cards.protection` attacks the whole card.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cards.policy import HIDDEN, Count, Number, Policy, Suppressed

K = TypeVar("K", bound=Hashable)

# What a cell counts, of whom, by which attribute, in which group (as printed).
Part = tuple[str, str, str, str]


_STEPS = (0.0001, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)


@dataclass(frozen=True)
class Step:
    """One gate of a sequence: what is left after it, and what it removed, as they may be shown; None where nobody counted."""

    left: Count | None
    removed: Count | None


class Disclosure:
    """Applies a policy and keeps the tally of what it hid.

    Attributes:
        policy: the policy.
        held_back: what is hidden because `cards.protection` found that it would give away something else.
        truth: what was counted -> the true number, for that search; leaves the process nowhere.
        small: numbers hidden because they concern too few people.
        linked: numbers hidden so that those cannot be worked out.
    """

    def __init__(self, policy: Policy, held_back: Collection[Part] = ()) -> None:
        self.policy = policy
        self.held_back = frozenset(held_back)
        self.truth: dict[Part, int] = {}
        self.small = 0
        self.linked = 0

    def count(self, n: int, of: Part | None = None) -> Count:
        """Protect a count that stands alone; `of` as for `cells`."""
        value = self.policy.count(n)
        self.small += value is HIDDEN
        if of is not None and self.note(of, n) and value is not HIDDEN:
            self.linked += 1
            return HIDDEN
        return value

    def note(self, part: Part, n: int) -> bool:
        """Note a true number for the search of `cards.protection`, and say whether it is to be held back."""
        self.truth[part] = min(n, self.truth.get(part, n))
        return part in self.held_back

    def cells(
        self,
        values: Mapping[K, int],
        lines: Iterable[Sequence[K]] | None = None,
        hidden: Iterable[K] = (),
        of: Callable[[K], Part] | None = None,
    ) -> dict[K, Count]:
        """Protect the cells of a table.

        Args:
            values: cell -> number of people.
            lines: sets of cells whose sum a reader may know; by default all cells are one line.
            hidden: cells that are hidden whatever their value, because a linked table hides them.
            of: what each cell counts, as ``("people", "archive", "sex", "Female")``: what is counted, of whom, attribute and
                group as printed. Cells of different tables that count the same are hidden together.

        Returns:
            Cell -> count, in the order of `values`. A line whose sum is at or below the threshold is hidden with its zeros. One
            whose sum exceeds it keeps one hidden cell alone only where rounding leaves as many values possible for it as
            for any number shown; under a policy that does not round, the hidden cells of a line together exceed the
            threshold.
        """
        primary = {k for k, n in values.items() if self.policy.hides(n)}
        held = set() if of is None else {k for k, n in values.items() if self.note(of(k), n)}
        forced = ({k for k in hidden if k in values} | held) - primary
        groups = [list(values)] if lines is None else [[k for k in line if k in values] for line in lines]
        # Of people too few to be counted nothing is told, not even in which cells they are not.
        small_lines = [line for line in groups if 1 <= sum(values[k] for k in line) <= self.policy.threshold]
        masked = primary | forced | {k for line in small_lines for k in line}
        changed = True
        while changed:
            changed = False
            for line in groups:
                extra = self._complement(values, line, masked)
                if extra is not None:
                    masked.add(extra)
                    changed = True
        self.small += len(primary)
        self.linked += len(masked) - len(primary)
        return {k: HIDDEN if k in masked else self.policy.rounded(n) for k, n in values.items()}

    def _complement(self, values: Mapping[K, int], line: Sequence[K], masked: set[K]) -> K | None:
        hidden = [k for k in line if k in masked]
        together = sum(values[k] for k in hidden)
        if not together or sum(values[k] for k in line) <= self.policy.threshold:
            return None  # nobody to protect, or the line's sum is itself hidden
        if len(hidden) >= 2 and (self.policy.base > 1 or together > self.policy.threshold):
            return None
        if len(hidden) == 1 and self._blurred(values, line, hidden[0]):
            return None
        # The smallest cell is the smallest loss; a zero that is shown says no more than that nobody is there.
        partners = [k for k in line if k not in masked and values[k]]
        return min(partners, key=lambda k: values[k]) if partners else None

    def _blurred(self, values: Mapping[K, int], line: Sequence[K], hidden: K) -> bool:
        """Say whether rounding alone keeps a line's one hidden cell: as many values stay possible as of any number shown.

        Who knows the rounded sum and the rounded partners knows the hidden cell within the sum of their rounding errors.
        """
        slack = self.policy.base // 2
        partners = [values[k] for k in line if k != hidden and values[k]]  # a zero is shown as it is
        left = self.policy.rounded(sum(partners) + values[hidden]) - sum(self.policy.rounded(n) for n in partners)
        reach = slack * (len(partners) + 1)
        possible = min(left + reach, self.policy.threshold) - max(left - reach, 1) + 1
        return self.policy.base > 1 and self.policy.hides(values[hidden]) and values[hidden] > 0 and possible >= self.policy.base

    def subset(
        self,
        values: Mapping[K, int],
        whole: Mapping[K, int],
        shown: Mapping[K, Count],
        lines: Iterable[Sequence[K]] | None = None,
        hidden: Iterable[K] = (),
        of: Callable[[K], Part] | None = None,
    ) -> dict[K, Count]:
        """Protect a table of people who were chosen from those of another table.

        Args:
            values: cell -> number of people chosen.
            whole: cell -> number of people they were chosen from.
            shown: what `cells` made of `whole`.
            lines, hidden, of: as for `cells`.

        Returns:
            Cell -> count. A cell that is hidden in the whole is hidden here too if it could be had from here: the whole is
            small itself, or nearly all of it was chosen. Where counts are exact, so is every cell that left out only a
            few people, because a subtraction would count them.
        """
        limit = self.policy.threshold
        veiled = [k for k, n in values.items() if shown.get(k) is HIDDEN and n > 0]
        hidden = set(hidden) | {k for k in veiled if self.policy.hides(whole.get(k, 0)) or whole.get(k, 0) - values[k] <= limit}
        if self.policy.base == 1:
            hidden |= {k for k, n in values.items() if 1 <= whole.get(k, 0) - n <= self.policy.threshold}
        return self.cells(values, lines, hidden, of)

    def chain(self, counts: Sequence[int], fixed: Sequence[int] = ()) -> list[Step]:
        """Protect counts that only fall, as those after successive gates.

        A gate that removed only a few people repeats the number before it (or after it, for the first ones), so that no
        difference of two numbers shown counts them.

        Args:
            counts: people left, first before any gate.
            fixed: positions whose count is public elsewhere, the most important first.

        Returns:
            One step a count; the first has removed nothing.
        """
        anchors: set[int] = set()
        for i in [*fixed, *(i for i in range(len(counts)) if i not in fixed)]:
            before = max((a for a in anchors if a < i), default=None)
            after = min((a for a in anchors if a > i), default=None)
            if all(a is None or counts[a] == counts[i] or self._apart(counts[a], counts[i]) for a in (before, after)):
                anchors.add(i)
        first = min(anchors, default=0)
        shown = [self.policy.count(counts[max((a for a in anchors if a <= i), default=first)]) for i in range(len(counts))]
        steps = []
        for i, left in enumerate(shown):
            removed = 0 if i == 0 else self._removed(shown[i - 1], left, same=counts[i] == counts[i - 1])
            self.small += (left is HIDDEN) + (removed is HIDDEN)
            steps.append(Step(left, removed))
        return steps

    def _removed(self, before: Count, left: Count, *, same: bool) -> Count:
        if isinstance(before, Suppressed) or isinstance(left, Suppressed):
            return HIDDEN
        if same and before == left:
            return 0
        return before - left if before - left > self.policy.threshold else HIDDEN

    def _apart(self, a: int, b: int) -> bool:
        more, less = max(a, b), min(a, b)
        return more - less > self.policy.threshold and self.policy.rounded(more) - self.policy.rounded(less) > self.policy.threshold

    def statistic(self, value: float | None, people: int, *, digits: int = 3) -> Number | None:
        """Protect a mean, a quantile or another summary.

        Args:
            value: the summary; None or NaN where there is none.
            people: how many it summarises.
            digits: significant digits to keep.

        Returns:
            The value rounded, `HIDDEN` where it summarises too few people, None where there is none.
        """
        if self.policy.hides(people) or people <= self.policy.threshold:
            self.small += 1
            return HIDDEN
        if value is None or not math.isfinite(value):
            return None
        return float(f"{value:.{digits}g}")

    def metric(self, value: float | None, *, share_of: int = 0, pairs: int = 0, digits: int = 3) -> float | None:
        """Round a metric so coarsely that its digits do not count people.

        Args:
            value: the metric, or an end of its interval; None or NaN where there is none.
            share_of: for a share of people (sensitivity and its like): of how many. It becomes the share that the rounded count
                is of the rounded whole: 71 of 82 is 70 of 80.
            pairs: for a share of pairs (AUROC): positives times negatives. Any two counts that are shown as these two are
                could have given the result.
            digits: decimals to keep at most.

        Example:
            >>> from cards.policy import policy_named
            >>> protect = Disclosure(policy_named("opensafely"))
            >>> protect.metric(71 / 82, share_of=82), protect.metric(0.8764, pairs=160), protect.metric(0.8764, pairs=9000)
            (0.875, 0.88, 0.876)
        """
        if value is None or not math.isfinite(value):
            return None
        step = 10.0**-digits
        if self.policy.base > 1 and share_of:
            step = max(step, self.policy.base / max(self.policy.rounded(share_of), 1))
        elif self.policy.base > 1 and pairs:
            step = next((s for s in _STEPS if s >= max(step, 1 / pairs) * (1 - 1e-9)), _STEPS[-1])
        return round(round(float(value) / step) * step, digits)

    def too_few(self, *people: int) -> bool:
        """Say whether a result must be hidden because one of these numbers of people is at or below the threshold."""
        return any(n <= self.policy.threshold for n in people)

    def withhold(self, numbers: int = 1) -> Suppressed:
        """Hide a number whose people were found to be too few, and count it."""
        self.small += numbers
        return HIDDEN


def total(cells: Iterable[Count]) -> int:
    """Add up the cells that are shown."""
    return sum(c for c in cells if not isinstance(c, Suppressed))


def share(part: Count, whole: Count) -> Number | None:
    """Give a percentage of two protected counts.

    Returns:
        0 to 100; `HIDDEN` where either is hidden, None of an empty whole.

    Example:
        >>> share(150, 600)
        25.0
        >>> share(HIDDEN, 600)
        HIDDEN
    """
    if isinstance(part, Suppressed) or isinstance(whole, Suppressed):
        return HIDDEN
    return min(100.0, 100.0 * part / whole) if whole else None
