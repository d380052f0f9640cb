"""The registry of items that a card answers: data in the templates, read and checked here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from cards.catalogue import read_yaml, templates_folder


@dataclass(frozen=True)
class Item:
    """One recommendation.

    Attributes:
        id: its number, as ``1.2a``.
        part: the id of its part.
        heading: a few words.
        asks: what it asks for, paraphrased.
        question: what the person who fills in the card is asked.
        good_answer: what a good answer holds.
        section: the card's section that shows the answer.
        source, evidence: where the paraphrase comes from.
        verified_against_primary: whether the wording was compared with the official document.
    """

    id: str
    part: str
    heading: str
    asks: str
    question: str
    good_answer: str
    section: str
    source: str
    evidence: str
    verified_against_primary: bool


@dataclass(frozen=True)
class Registry:
    """The items of one set of recommendations, in order, and what is said about the whole."""

    id: str
    title: str
    version: str
    official: str
    doi: str
    parts: dict[str, str]
    items: tuple[Item, ...]
    awaiting: tuple[dict[str, Any], ...]

    def item(self, identifier: str) -> Item:
        """Find an item by its number; raises KeyError."""
        return next((i for i in self.items if i.id == identifier), None) or self._missing(identifier)

    @staticmethod
    def _missing(identifier: str) -> Item:
        raise KeyError(identifier)


@cache
def read_registry(name: str = "standing-together") -> Registry:
    """Read a registry from the templates."""
    content = read_yaml(templates_folder() / "registry" / f"{name}.yaml")
    return Registry(
        id=content["id"],
        title=content["title"],
        version=content["version"],
        official=content["official"],
        doi=content["doi"],
        parts={part["id"]: part["title"] for part in content["parts"]},
        items=tuple(Item(**{**content["default"], **item}) for item in content["items"]),
        awaiting=tuple(content["awaiting"]),
    )
