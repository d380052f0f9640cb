"""The registries of items that a card answers: data in the templates, read and checked here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from cards.catalogue import Catalogue, read_yaml, templates_folder
from curate import UserError, nearest

MAIN = "standing-together"


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
        registry: the id of its registry.
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
    registry: str = MAIN


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
        found = next((i for i in self.items if i.id == identifier), None)
        if found is None:
            raise KeyError(identifier)
        return found


@cache
def registry_names() -> tuple[str, ...]:
    """List the registries that there are, the main one first."""
    names = sorted(p.stem for p in (templates_folder() / "registry").glob("*.yaml"))
    return (MAIN, *(n for n in names if n != MAIN))


@cache
def read_registry(name: str = MAIN) -> Registry:
    """Read a registry from the templates, in English."""
    content = read_yaml(templates_folder() / "registry" / f"{name}.yaml")
    return Registry(
        id=content["id"],
        title=content["title"],
        version=content["version"],
        official=content["official"],
        doi=content["doi"],
        parts={part["id"]: part["title"] for part in content["parts"]},
        items=tuple(Item(**{**content["default"], **item, "registry": content["id"]}) for item in content["items"]),
        awaiting=tuple(content["awaiting"]),
    )


def read_registries(further: Iterable[str] = (), say: Catalogue | None = None) -> tuple[Registry, ...]:
    """Read the main registry and those that were switched on.

    Args:
        further: names of other registries.
        say: the catalogue in whose language headings and questions are given; by default English.

    Raises:
        UserError: where there is no registry of that name.
    """
    names = [MAIN]
    for name in further:
        if name not in registry_names():
            raise UserError(f"registry '{name}': there is none of that name{nearest(name, registry_names())}")
        names += [] if name in names else [name]
    registries = [read_registry(n) for n in names]
    return tuple(r if say is None else translated(r, say.registries.get(r.id)) for r in registries)


def translated(registry: Registry, words: dict[str, Any] | None) -> Registry:
    """Put a registry into another language.

    Args:
        registry: in English.
        words: ``title``, ``parts``, ``items`` (id -> heading, asks, question, good_answer) and ``awaiting`` of the language's
            catalogue; what it lacks stays English.
    """
    if not words:
        return registry
    items, parts, awaiting = words.get("items", {}), words.get("parts", {}), words.get("awaiting", [])
    return replace(
        registry,
        title=words.get("title", registry.title),
        version=words.get("version", registry.version),
        parts={k: parts.get(k, v) for k, v in registry.parts.items()},
        items=tuple(replace(i, **items.get(i.id, {})) for i in registry.items),
        awaiting=tuple({**a, "reason": awaiting[n] if n < len(awaiting) else a["reason"]} for n, a in enumerate(registry.awaiting)),
    )


def all_items(registries: Iterable[Registry]) -> tuple[Item, ...]:
    """Give the items of several registries, in order; their ids are unique."""
    return tuple(i for r in registries for i in r.items)
