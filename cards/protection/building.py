"""Building until it holds: sections are made, attacked, and made again with what the attack needed held back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from cards.catalogue import Catalogue
from cards.disclosure import Disclosure, Part
from cards.policy import Policy
from cards.protection.mending import hold_back
from cards.protection.reading import words_of
from cards.sections import Section, Work
from cards.sources import Sources
from cards.tables import plain
from curate import UserError


class Content(Protocol):
    """What was assembled: at least its sections."""

    sections: list[Section]


C = TypeVar("C", bound=Content)


def protected(
    sources: Sources, policy: Policy, say: Catalogue, assemble: Callable[[Work], C], previous: Mapping[str, Any] | None = None
) -> tuple[Work, C]:
    """Assemble a card from which nothing hidden can be worked out.

    Args:
        sources: the artefacts.
        policy: the policy.
        say: the catalogue.
        assemble: makes the sections; called once more for each round in which something has to be held back.
        previous: ``card.json`` of the published card that this one follows.

    Returns:
        The last work, whose `protect` has the tally, and what was assembled.

    Raises:
        UserError: where nothing that is hidden keeps this card and `previous` from giving away a small number together.
    """
    held: set[Part] = set()
    while True:
        work = Work(sources, Disclosure(policy, held), say)
        made = assemble(work)
        found = hold_back(public_numbers(work, made.sections), work.protect.truth, previous)
        if found.parts <= held:
            break
        held |= found.parts
    if found.between:
        raise UserError(
            f"--previous: {len({frozenset(t.goal) for t, _ in found.between})} numbers of this and the published card together count "
            f"{policy.threshold} people or fewer, whatever else is hidden; publish when more has changed, or with a policy that rounds"
        )
    return work, made


def headline_counts(work: Work) -> dict[str, dict[str, Any]]:
    """Give the numbers of everyone, as they may be shown: what is counted -> of whom -> number, None without a set."""
    return {
        "people": {"archive": plain(work.source_people), "set": plain(work.set_people)},
        "images": {"archive": plain(work.source_images), "set": plain(work.set_images)},
    }


def public_numbers(work: Work, sections: list[Section]) -> dict[str, Any]:
    """Give the part of ``card.json`` that holds numbers of people."""
    return {
        "language": work.say.language,
        "words": words_of(work.say),
        "disclosure": work.protect.policy.describe(),
        "counts": headline_counts(work),
        "tables": {t.id: t.to_json() for s in sections for t in s.tables},
    }
