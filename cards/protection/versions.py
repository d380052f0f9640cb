"""Two versions of a card, read together: what their difference gives away.

A reader of both cards does not know what happened between them, so each plausible story is tried: the same people, only
more people, only fewer people. A story that the numbers contradict is no danger, and one of change is tried only where
some number changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cards.protection.mending import Target
from cards.protection.reading import policy_of, system_of
from cards.protection.system import Attacker, Quantity, System

OLD, NEW = "old", "new"
STORIES = ("same", "grown", "shrunk")


class Pair:
    """Two cards, read together.

    Args:
        old, new: their JSON twins.

    Attributes:
        stories: what may have happened between them: where no number that both show differs, that nothing did.
    """

    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        self.policies = {OLD: policy_of(old), NEW: policy_of(new)}
        self.parts = {OLD: system_of(old, OLD), NEW: system_of(new, NEW)}
        self.alone = {version: Attacker(system) for version, system in self.parts.items()}
        self.shared = [q for q in self.parts[NEW].limits if (OLD, *q[1:]) in self.parts[OLD].limits]
        self.hidden: dict[str, dict[Quantity, tuple[int, int]]] = {}
        for version, system in self.parts.items():
            limit, attacker = self.policies[version].threshold, self.alone[version]
            usable = attacker.consistent and limit
            if usable:
                attacker.warm(list(system.hidden))
            self.hidden[version] = {q: _open(attacker, q, limit) for q in system.hidden} if usable else {}
        self.stories = STORIES if any(self._differs(q) for q in self.shared) else STORIES[:1]

    def _differs(self, q: Quantity) -> bool:
        a, b = self.parts[OLD].limits[OLD, *q[1:]], self.parts[NEW].limits[q]
        return a != b and a[1] is not None and b[1] is not None

    def together(self, story: str) -> tuple[System, list[Target]]:
        """Join the two cards into one system.

        Args:
            story: one of `STORIES`.

        Returns:
            The system, and what nobody may work out from it. Each hidden number of either card must stay as open as its own
            card leaves it; one of the later card only as open as the earlier card leaves it, where that is less. And a
            change between two shown numbers must not be known to be a few people more exactly than rounding leaves it, or,
            where nothing is rounded, at all.
        """
        joint = System()
        for system in self.parts.values():
            joint.join(system)
        return joint, self._hidden(story) + self._changes(joint, story)

    def _hidden(self, story: str) -> list[Target]:
        targets: list[Target] = []
        for version, found in self.hidden.items():
            limit = self.policies[version].threshold
            for q, (low, high) in found.items():
                before = (OLD, *q[1:])
                if version == NEW and before in self.parts[OLD].limits and self.alone[OLD].consistent:
                    # What the earlier card gave away by itself is out already.
                    was_low, was_high = _open(self.alone[OLD], before, limit)
                    low, high = (low if story == "shrunk" else max(low, was_low)), (high if story == "grown" else min(high, was_high))
                if low <= high:
                    targets.append(Target({q: 1.0}, limit, low, high))
        return targets

    def _changes(self, joint: System, story: str) -> list[Target]:
        limit, base = max(p.threshold for p in self.policies.values()), min(p.base for p in self.policies.values())
        targets: list[Target] = []
        for q in self.shared:
            if q[1] not in ("people", "positive"):
                continue
            before = (OLD, *q[1:])
            if story in ("same", "grown"):
                joint.at_most(before, q)
            if story in ("same", "shrunk"):
                joint.at_most(q, before)
            if limit and story != "same" and self._differs(q) and _might_be_few(joint, q, before, limit, base):
                sign = 1.0 if story == "grown" else -1.0
                targets.append(Target({q: sign, before: -sign}, limit, width=base if base > 1 else limit))
        return targets


def _open(attacker: Attacker, q: Quantity, limit: int) -> tuple[int, int]:
    """Give the least and the most of 1 to the threshold that one card leaves possible for a number."""
    low, high = attacker.seen[q]
    if low > 1 or high < limit:
        bounds = attacker.bounds({q: 1.0})
        low, high = bounds.low, bounds.high
    return int(max(low, 1)), int(min(high, limit))


def _might_be_few(joint: System, q: Quantity, before: Quantity, limit: int, base: int) -> bool:
    """Say whether a change may be of a few people: cells whose numbers are far apart need no attack."""
    a, b = joint.limits[q], joint.limits[before]
    assert a[1] is not None
    assert b[1] is not None
    return abs((a[0] + a[1]) - (b[0] + b[1])) / 2 <= limit + base
