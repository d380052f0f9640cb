"""Complementary suppression over linked tables: attack the card, hide what the attack needed, attack again.

The attacker's linear program says between which numbers a hidden cell must lie, and its dual which shown numbers say so.
The smallest of those is hidden too, and so on until every hidden cell can still be anything that the policy hides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cards.disclosure import Part
from cards.policy import Policy
from cards.protection.reading import policy_of, system_of
from cards.protection.system import Attacker, Bounds, Quantity, System


@dataclass(frozen=True)
class Target:
    """Something that nobody may work out: a sum of quantities, and what must stay possible for it.

    Attributes:
        goal: quantity -> coefficient.
        limit: the policy's threshold: what is known to be nobody or more than this harms nobody.
        low, high: every number from `low` to `high` must stay possible.
        width: at least this many numbers must stay possible; used where `low` is None.
    """

    goal: Mapping[Quantity, float]
    limit: int
    low: int | None = None
    high: int | None = None
    width: int = 0

    def safe(self, bounds: Bounds) -> bool:
        """Say whether enough stays possible."""
        if bounds.high < 1 or bounds.low > self.limit:
            return True
        if self.low is not None and self.high is not None:
            return bounds.low <= self.low and bounds.high >= self.high
        return bounds.high - bounds.low + 1 >= self.width


@dataclass
class Outcome:
    """What `hold_back` found.

    Attributes:
        parts: quantities to hide.
        left: targets that no further hiding would protect, with what can be known of them: those that the number of everyone
            gives away by itself.
        between: likewise, with the numbers of everyone in the former card and in this one.
        attacked: number of targets.
        solved: number of linear programs.
    """

    parts: set[Part] = field(default_factory=set)
    left: list[tuple[Target, Bounds]] = field(default_factory=list)
    between: list[tuple[Target, Bounds]] = field(default_factory=list)
    attacked: int = 0
    solved: int = 0


def targets_of(system: System, truth: Mapping[Part, int], policy: Policy, version: str = "") -> list[Target]:
    """List what a card must not give away.

    Args:
        system: what it makes public.
        truth: quantity -> number of people.
        policy: the policy. A hidden number of 1 to the threshold must be able to be each of those. The number of people of
            a group that the draw left out, where it is as small, must be able to be as many numbers as one that is
            shown: the base of rounding; where nothing is rounded, each of 1 to the threshold.
        version: of the quantities.
    """
    targets = []
    limit = policy.threshold
    for part, n in truth.items():
        q: Quantity = (version, *part)
        if part[0] == "images" or q not in system.limits:
            continue
        if 1 <= n <= limit:
            targets.append(Target({q: 1.0}, limit, 1, limit))
        whole = (part[0], "archive", *part[2:])
        if part[1] == "set" and (version, *whole) in system.limits and 1 <= truth.get(whole, 0) - n <= limit:
            left_out: Mapping[Quantity, float] = {(version, *whole): 1.0, q: -1.0}
            targets.append(Target(left_out, limit, width=policy.base) if policy.base > 1 else Target(left_out, limit, 1, limit))
    return targets


def hold_back(twin: Mapping[str, Any], truth: Mapping[Part, int], previous: Mapping[str, Any] | None = None) -> Outcome:
    """Find what else must be hidden so that nothing hidden can be worked out.

    Args:
        twin: the card as it would be published.
        truth: the true numbers behind its protected cells.
        previous: the published card that it follows.
    """
    policy = policy_of(twin)
    if policy.threshold == 0:
        return Outcome()
    floor = 1.0 if policy.zeros else 0.0
    system = system_of(twin)
    outcome = mend(system, targets_of(system, truth, policy), floor=floor)
    if previous is None or outcome.parts:
        return outcome  # a card that does not hold by itself is mended first
    from cards.protection.versions import NEW, Pair

    pair = Pair(previous, twin)
    for story in pair.stories:
        joint, targets = pair.together(story)
        found = mend(joint, targets, floor=floor, version=NEW)
        outcome.parts |= found.parts
        outcome.between += found.left
        outcome.attacked += found.attacked
        outcome.solved += found.solved
    return outcome


def mend(system: System, targets: list[Target], *, floor: float, version: str = "") -> Outcome:
    """Hide shown quantities of a system until all targets are safe.

    Args:
        system: what is public; changed in place.
        targets: what must stay unknown.
        floor: the least that a hidden cell can be.
        version: quantities of this card can be hidden; those of another one are out already.
    """
    outcome = Outcome(attacked=len(targets))
    attacker = Attacker(system)
    if not targets or not attacker.consistent:
        outcome.solved = attacker.solved
        return outcome
    attacker.warm(_goals(targets))
    # The order in which they stand on the card, not their names: a card in another language must hide the same.
    order = {q: i for i, q in enumerate(system.shown)}
    for target in targets:
        if _seen_safe(attacker, target):
            continue
        while not target.safe(bounds := _bounds(attacker, target)):
            needed = [q for q in _needed(target, bounds) if q[0] == version]
            if not needed:
                outcome.left.append((target, bounds))
                break
            partner = min(needed, key=lambda q: (system.shown[q], order[q]))
            system.hide(partner, floor)
            outcome.parts.add(partner[1:])
    outcome.solved = attacker.solved
    return outcome


def unsafe(system: System, targets: list[Target]) -> list[tuple[Target, Bounds]]:
    """List the targets that a system gives away, with what can be known of them."""
    attacker = Attacker(system)
    if not targets or not attacker.consistent:
        return []
    attacker.warm(_goals(targets))
    attacked = ((t, _bounds(attacker, t)) for t in targets if not _seen_safe(attacker, t))
    return [(t, bounds) for t, bounds in attacked if not t.safe(bounds)]


def _goals(targets: list[Target]) -> list[Quantity]:
    """List the quantities that targets speak of."""
    return list(dict.fromkeys(q for t in targets for q in t.goal))


def _needed(target: Target, bounds: Bounds) -> list[Quantity]:
    if target.low is None or target.high is None:
        return bounds.low_by + bounds.high_by
    return (bounds.low_by if bounds.low > target.low else []) + (bounds.high_by if bounds.high < target.high else [])


def _bounds(attacker: Attacker, target: Target) -> Bounds:
    """Bound a target, on those sides that no solution has shown to be safe."""
    if target.low is None or target.high is None or len(target.goal) > 1:
        return attacker.bounds(target.goal)
    return attacker.bounds(target.goal, target.low, target.high)


def _seen_safe(attacker: Attacker, target: Target) -> bool:
    """Say whether solutions that were met already show a target to be safe."""
    if target.low is None or target.high is None or len(target.goal) > 1:
        return False
    low, high = attacker.seen[next(iter(target.goal))]
    return low <= target.low and high >= target.high
