"""What people answer on a card: the states of an item, and how answers and computed facts come together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from cards.catalogue import Catalogue
from cards.registry import Item
from curate import UserError

STATES = ("reported", "not available", "cannot be reported", "not applicable")
NEEDS_REASON = STATES[2:]
ABOUT = (
    "title", "version", "released", "custodian", "creators", "contact", "licence", "url", "identifier", "access", "citation", "funding",
    "competing_interests", "maintenance", "next_update",
)  # fmt: skip


@dataclass
class Answer:
    """An item with what people and the computation say about it.

    Attributes:
        item: the registry's item.
        state: one of `STATES`.
        answer: people's words, paragraphs apart by an empty line; empty where there are none.
        reason: why there is no answer.
        computed: sentences computed from the artefacts.
        language: of people's words, where it isn't the page's.
    """

    item: Item
    state: str
    answer: str = ""
    reason: str = ""
    computed: list[str] = field(default_factory=list)
    language: str = ""

    @property
    def paragraphs(self) -> list[str]:
        """People's words, by paragraph."""
        return [" ".join(p.split()) for p in self.answer.split("\n\n") if p.strip()]

    def to_json(self) -> dict[str, Any]:
        """Give the item, its state and what is known about it as plain values for ``card.json``."""
        return {
            "registry": self.item.registry,
            "heading": self.item.heading,
            "asks": self.item.asks,
            "state": self.state,
            "answer": self.answer,
            "reason": self.reason,
            "computed": self.computed,
            "section": self.item.section,
            "source": self.item.source,
            "evidence": self.item.evidence,
            "verified_against_primary": self.item.verified_against_primary,
        }


@dataclass
class AnswerFile:
    """A card.yaml that has been read.

    Attributes:
        about: the fields of `ABOUT` that it has.
        items: item id -> state, answer and reason; each may be ``""``.
        registries: further registries that it switches on.
        language: in which the answers are written, ``""`` where it doesn't say.
        lines: ``"about.NAME"``, ``"items.ID"`` or ``"items.ID.FIELD"`` -> line, from 1.
    """

    about: dict[str, str] = field(default_factory=dict)
    items: dict[str, dict[str, str]] = field(default_factory=dict)
    registries: tuple[str, ...] = ()
    language: str = ""
    lines: dict[str, int] = field(default_factory=dict)


def resolve(items: Iterable[Item], given: AnswerFile, computed: dict[str, list[str]], say: Catalogue) -> list[Answer]:
    """Join the registries' items, people's answers and what was computed.

    Returns:
        One `Answer` an item, in order. An item about which nobody and nothing says anything is "not available: not answered
        yet"; a state that people give stands, whatever was computed.

    Raises:
        UserError: where an item is called reported and there is neither an answer nor anything computed.
    """
    foreign = given.language if given.language and given.language != say.language else ""
    answers = []
    for item in items:
        entry = given.items.get(item.id, {})
        words, reason, sentences = entry.get("answer", ""), entry.get("reason", ""), computed.get(item.id, [])
        state = entry.get("state") or ("reported" if words or sentences else "not available")
        if state == "reported" and not words and not sentences:
            line = given.lines.get(f"items.{item.id}")
            where = f"card.yaml{f', line {line}' if line else ''}, {item.id}"
            raise UserError(f"{where}: the state is 'reported' but there is no answer; write one, or leave the state empty")
        own = foreign if words or reason else ""
        if state == "not available" and not reason:
            reason = say("not_answered")
        answers.append(Answer(item, state, words, "" if state == "reported" else reason, sentences, own))
    return answers
