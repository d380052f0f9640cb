"""The ranked table, what it says in words, and what to balance by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from curate.identify.associations import Overlap
from curate.identify.effects import Effect
from curate.identify.permanova import Permanova
from curate.identify.predictability import Score

MATTERS = 0.01  # share of the variation, beyond chance, from which an attribute is worth balancing by
# Columns that say how and where a photograph was taken, not whose eye it shows.
OF_THE_PHOTOGRAPH = frozenset({"device", "site", "eye", "acquired_on", "visit"})


@dataclass(frozen=True)
class Findings:
    """Everything found about one attribute.

    Attributes:
        name: the attribute; number: whether it is one.
        strongest: the index with the largest effect; effect: that effect; both None where nothing could be compared.
        marginal: alone; conditional: with the others fixed; None where that can't be had.
        probe, purity: predictability; None likewise.
        overlap: with the others; stratified: those that strata held fixed.
    """

    name: str
    number: bool
    strongest: str | None
    effect: Effect | None
    marginal: Permanova | None
    conditional: Permanova | None
    probe: Score | None
    purity: Score | None
    overlap: Overlap
    stratified: tuple[str, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether nothing can be credited to it."""
        return bool(self.overlap.why)

    @property
    def of_the_photograph(self) -> bool:
        """Whether it says how a photograph was taken; everything else is taken to say who is in it."""
        return self.name in OF_THE_PHOTOGRAPH

    def beyond_chance(self, *, alone: bool = False) -> float:
        """Share of the variation beyond what chance gives, with the others fixed or alone."""
        result = self.marginal if alone else self.conditional
        return result.r2 - result.chance if result is not None else 0.0

    def over_floor(self, *, alone: bool = False) -> bool:
        """Whether it is over the noise floor, with the others fixed or alone."""
        result = self.marginal if alone else self.conditional
        return result is not None and result.r2 > result.floor

    def matters(self, *, alone: bool = False) -> bool:
        """Whether it is over the floor and goes with a share of the variation that is worth acting on."""
        return self.over_floor(alone=alone) and self.beyond_chance(alone=alone) >= MATTERS


def rank(findings: Sequence[Findings]) -> list[Findings]:
    """Order attributes: those of the person, then those of the photograph.

    Within each by the share of variation beyond chance with the others fixed; those it can't be said of after them. A camera changes every
    measure that is taken from its photographs, so who is in them would be found behind how they were taken in most archives.
    """
    return sorted(findings, key=lambda f: (f.of_the_photograph, f.refused, -f.beyond_chance(alone=f.refused), f.name))


def suggest_balance(ranked: Sequence[Findings]) -> list[str]:
    """Choose what to balance by.

    The attributes of the person that matter with the others fixed, the first first; of attributes that can't be told apart, of either
    kind, the one that goes with more of the variation alone, where that matters.
    """
    chosen = [f.name for f in ranked if not f.refused and not f.of_the_photograph and f.matters()]
    for f in sorted(ranked, key=lambda f: -f.beyond_chance(alone=True)):
        if f.refused and f.matters(alone=True) and f.overlap.with_ not in chosen and f.overlap.with_:
            chosen.append(f.name)
    return chosen


def table(ranked: Sequence[Findings]) -> list[dict[str, Any]]:
    """Give the ranked table as plain values, None where a number can't be had."""
    rows = []
    for place, f in enumerate(ranked, 1):
        rows.append(
            {
                "rank": place,
                "attribute": f.name,
                "of": "photograph" if f.of_the_photograph else "person",
                "verdict": verdict(f),
                "strongest_index": f.strongest,
                "epsilon_squared": f.effect and f.effect.epsilon_squared,
                "epsilon_squared_low": f.effect and f.effect.low,
                "epsilon_squared_high": f.effect and f.effect.high,
                "r2_marginal": f.marginal and f.marginal.r2,
                "r2_marginal_floor": f.marginal and f.marginal.floor,
                "p_marginal": f.marginal and f.marginal.p,
                "r2_conditional": f.conditional and f.conditional.r2,
                "r2_conditional_chance": f.conditional and f.conditional.chance,
                "noise_floor": f.conditional and f.conditional.floor,
                "p_conditional": f.conditional and f.conditional.p,
                "probe": "r2" if f.number else "auc",
                "probe_score": f.probe and f.probe.value,
                "probe_floor": f.probe and f.probe.floor,
                "purity_lift": f.purity and f.purity.value,
                "purity_floor": f.purity and f.purity.floor,
                "overlap": f.overlap.shared,
                "variation_left": f.overlap.left,
                "held_fixed_by_strata": list(f.stratified),
                "not_attributable": f.overlap.why or None,
            }
        )
    return rows


def verdict(f: Findings) -> str:
    """Say in a few words what became of an attribute."""
    if f.refused:
        return "can't be attributed"
    if f.conditional is None:
        return "can't be tested"
    if not f.over_floor():
        return "at the noise floor"
    return "matters" if f.matters() else "over the floor, slight"


def in_words(ranked: Sequence[Findings], space: str, balance: Sequence[str]) -> str:
    """Write the paragraph."""
    where = "the measures" if space == "measures" else f"{space}"
    said: list[str] = []
    others = "once the others are held fixed" if len(ranked) > 1 else "on its own"
    for f in (f for f in ranked if not f.refused and f.matters()):
        assert f.conditional is not None
        alone = f"{_percent(f.marginal.r2)} on its own and " if f.marginal is not None and len(ranked) > 1 else ""
        claim = "changes the photographs" if f.of_the_photograph else "matters too" if said else "matters most"
        text = (
            f"{f.name} {claim}: it goes with {alone}{_percent(f.conditional.r2)} of the variation "
            f"of {where} {others} (noise floor {_percent(f.conditional.floor)})"
        )
        if f.effect is not None and f.strongest is not None:
            e = f.effect
            text += f", and most with {f.strongest} (epsilon squared {e.epsilon_squared:.3f}, {e.low:.3f} to {e.high:.3f})"
        said.append(text + ".")
    slight = [f.name for f in ranked if not f.refused and f.over_floor() and not f.matters()]
    if slight:
        said.append(
            f"{_listed(slight)} {_verb(slight, 'is', 'are')} over the noise floor, but with less than {_percent(MATTERS)} of the variation."
        )
    quiet = [f for f in ranked if not f.refused and f.conditional is not None and not f.over_floor()]
    stay = [f.name for f in quiet if not f.over_floor(alone=True)]
    fall = [f.name for f in quiet if f.over_floor(alone=True)]
    if stay:
        said.append(f"{_listed(stay)} {_verb(stay, 'stays', 'stay')} at the noise floor.")
    if fall:
        said.append(
            f"{_listed(fall)} {_verb(fall, 'differs', 'differ')} on {_verb(fall, 'its', 'their')} own, but not once the others are held "
            "fixed: the difference is that of what goes along."
        )
    said += [f"{f.overlap.why}: nothing is attributed to {f.name}." for f in ranked if f.refused]
    said.append(f"Suggested: curate sample --balance {','.join(balance)}." if balance else "Nothing asks to be balanced by.")
    taken = [f.name for f in ranked if not f.refused and f.of_the_photograph and f.matters()]
    if taken:
        said.append(
            f"{_listed(taken)} {_verb(taken, 'is', 'are')} not suggested: {_verb(taken, 'it says', 'they say')} how a photograph was "
            "taken, not who is in it; name it yourself where a model must serve all alike."
        )
    return " ".join(text[0].upper() + text[1:] if not text.startswith(tuple(f.name for f in ranked)) else text for text in said)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.0005 or share <= 0 else "under 0.1 %"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(names: Sequence[str], one: str, several: str) -> str:
    return one if len(names) == 1 else several
