"""Disclosure policies: which counts of people may be shown, and how exactly.

A policy is a threshold (counts from one to it are not shown), a base (others are rounded to the nearest multiple)
and what becomes of zero. `Suppressed` is what a number that may not be shown turns into: a type of its own that is
neither zero nor NaN, takes part in no arithmetic and does not say whether it was hidden for being small or to keep
another number from being worked out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from curate import UserError, nearest


class Suppressed:
    """A number that is not shown. There is one such value, `HIDDEN`."""

    def __repr__(self) -> str:
        return "HIDDEN"

    def __bool__(self) -> NoReturn:
        raise TypeError("a suppressed number is neither true nor false: compare with `is HIDDEN`")

    def __reduce__(self) -> str:
        return "HIDDEN"


HIDDEN = Suppressed()

Count = int | Suppressed
Number = int | float | Suppressed


@dataclass(frozen=True)
class Policy:
    """How counts are protected.

    Attributes:
        name: as given to ``--policy``.
        threshold: counts of 1 to this many people are not shown; 0: every count is shown.
        base: other counts are rounded to the nearest multiple of it; 1: exact.
        zeros: whether a count of zero is shown as zero.
        source: where the rule comes from.

    Example:
        >>> opensafely = policy_named("opensafely")
        >>> [opensafely.count(n) for n in (0, 1, 7, 8, 12, 13, 598)]
        [0, HIDDEN, HIDDEN, 10, 10, 15, 600]
    """

    name: str
    threshold: int
    base: int
    zeros: bool
    source: str

    def hides(self, n: int) -> bool:
        """Say whether a count may not be shown."""
        return 1 <= n <= self.threshold or (n == 0 and not self.zeros)

    def rounded(self, n: int) -> int:
        """Round a count to the nearest multiple of the base, halves up."""
        return (2 * n + self.base) // (2 * self.base) * self.base

    def count(self, n: int) -> Count:
        """Protect one count that stands alone."""
        return HIDDEN if self.hides(n) else self.rounded(n)

    @property
    def protects(self) -> bool:
        """Whether the policy changes anything at all."""
        return self.threshold > 0 or self.base > 1

    def describe(self) -> dict[str, Any]:
        """Give the policy as plain values for the card's JSON twin."""
        return {"name": self.name, "threshold": self.threshold, "rounded_to": self.base, "zeros_shown": self.zeros, "source": self.source}


PRESETS = {
    p.name: p
    for p in (
        Policy("opensafely", 7, 5, True, "OpenSAFELY output checking: redact 7 and fewer, then round to the nearest 5"),
        Policy("nhs_hes", 7, 5, True, "NHS England, Hospital Episode Statistics: 1 to 7 suppressed, others to the nearest 5"),
        Policy("ons_10", 10, 1, False, "ONS research outputs: threshold 10"),
        Policy("cms_11", 10, 1, True, "CMS cell size policy: 1 to 10 suppressed, zero allowed"),
        Policy("none", 0, 1, True, "no disclosure control"),
    )
}


def policy_named(name: str) -> Policy:
    """Find a preset.

    Raises:
        UserError: where there is none of that name.
    """
    if name not in PRESETS:
        raise UserError(f"--policy {name}: no such disclosure policy{nearest(name, PRESETS)}")
    return PRESETS[name]
