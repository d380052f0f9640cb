"""``card.json`` as the exports read it: by ids, tolerant of what is absent, every text fit to be printed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cards.catalogue import Catalogue, languages, read_catalogue
from cards.policy import HIDDEN
from cards.tables import Cell, Column, Table, clean
from curate import UserError

FORMAT = "evenfooting card 1"
_LONGEST = 4000  # characters of one paragraph
_URL = re.compile(r"https?://[^\s<>\"'{}|\\^`]+")
_DOI = re.compile(r"10\.\d{4,9}/[^\s<>\"'{}|\\^`]+")


@dataclass
class Content:
    """A card.

    Attributes:
        card: what ``card.json`` holds; its texts are cleaned, see `printable`.

    Raises:
        UserError: where it is a card of another version.
    """

    card: dict[str, Any]

    def __post_init__(self) -> None:
        self.card = printable(self.card)
        if self.card.get("format") != FORMAT:
            raise UserError(f"this card's format is '{self.card.get('format')}', not '{FORMAT}'; build the card again with: cards build")

    @cached_property
    def say(self) -> Catalogue:
        """The words of the card's language; English where its catalogue isn't part of the package."""
        language = str(self.card.get("language"))
        return read_catalogue(language) if language in languages() else read_catalogue()

    @property
    def title(self) -> str:
        """The set's name."""
        return str(self.card["title"])

    @property
    def summary(self) -> str:
        """What it is, for everyone."""
        return str(self.card["summary"])

    @property
    def protection(self) -> str:
        """What was done to the numbers, or that nothing was."""
        return str(self.card["disclosure"].get("statement", ""))

    def about(self, name: str) -> str:
        """Give what people filled in under `about`, ``""`` where they didn't."""
        return " ".join(str(self.card["about"].get(name, "")).split())

    def about_or_not(self, name: str) -> str:
        """Give what people filled in, or that it was not given."""
        return self.about(name) or self.say("not_given")

    @cached_property
    def tables(self) -> dict[str, Table]:
        """The tables, by id; hidden cells are `HIDDEN` again."""
        return {name: _table(name, t) for name, t in self.card["tables"].items()}

    @property
    def sections(self) -> list[dict[str, Any]]:
        """The sections in the reader's order."""
        return list(self.card["sections"])

    def sentences(self, section: str) -> list[str]:
        """Give a section's sentences; none where there is no such section."""
        return [str(t) for s in self.sections if s["id"] == section for t in s["text"]]

    @property
    def published(self) -> dict[str, Any]:
        """The files to be published, empty where there is no shard set."""
        return self.card["set"].get("files") or {}

    def count(self, what: str) -> Cell:
        """Give the headline count of ``"people"`` or ``"images"``: the set's, or the archive's where there is no set."""
        counts = self.card["counts"][what]
        return _cell(counts["archive"] if counts.get("set") is None else counts["set"])

    def answered(self, item: str) -> list[str]:
        """Give what people say under an item, by paragraph; their reason where they say why they don't."""
        found = self.card["items"].get(item)
        if found is None:
            return []
        words = str(found.get("answer", "")).split("\n\n")
        reason = str(found.get("reason", ""))
        if found["state"] != "reported" and reason and reason != self.say("not_answered"):
            words.append(f"{self.state(found['state'])}: {reason}")
        return [w for w in words if w]

    def said(self, *items: str) -> list[str]:
        """Give what people say and what was computed under these items."""
        found = []
        for item in items:
            computed = (self.card["items"].get(item) or {}).get("computed") or []
            found += [*self.answered(item), *computed]
        return list(dict.fromkeys(found))

    def state(self, state: str) -> str:
        """Name an item's state."""
        key = f"state_{state.replace(' ', '_')}"
        return self.say(key) if self.say.has(key) else state

    @property
    def url(self) -> str:
        """The address of the set, as given, from its identifier or from the terms of access; ``""`` where none of them has one."""
        for name in ("url", "identifier", "access"):
            said = self.about(name)
            if web_address(said):
                return web_address(said)
            doi = _DOI.search(said)
            if doi:
                return f"https://doi.org/{doi[0].rstrip('.,;:)')}"
        return ""

    def citation(self, form: str) -> str:
        """Give how the set is cited: ``"citation"``, a line, or ``"bibtex"``; ``""`` where the card doesn't say."""
        found = [str(b[form]) for s in self.sections for b in s["blocks"] if form in b]
        return found[0] if found else ""

    @property
    def released(self) -> str:
        """The date of release as 2026-03-31, ``""`` where it isn't such a date."""
        import datetime

        try:
            return datetime.date.fromisoformat(self.about("released")).isoformat()
        except ValueError:
            return ""

    @property
    def years(self) -> tuple[str, str] | None:
        """First and last year in which photographs were taken, as far as the card shows them."""
        table = self.tables.get("year")
        if table is None:
            return None
        at = next((i for name in ("set", "source") for i, c in enumerate(table.columns) if c.id == name), None)
        shown = [str(r[0]) for r in table.rows if at is not None and len(r) > at and isinstance(r[at], int) and r[at]]
        years = sorted(y for y in shown if re.fullmatch(r"\d{4}", y))
        return (years[0], years[-1]) if years else None


def web_address(text: str) -> str:
    """Find the first web address in a text.

    Example:
        >>> web_address("CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/), see there")
        'https://creativecommons.org/licenses/by/4.0/'
    """
    found = _URL.search(text)
    return found[0].rstrip(".,;:)") if found else ""


def _table(name: str, value: dict[str, Any]) -> Table:
    columns = [Column(c["id"], c["label"], c["kind"]) for c in value["columns"]]
    rows = [[_cell(cell) for cell in row] for row in value["rows"]]
    total = [_cell(cell) for cell in value["total"]] if "total" in value else None
    return Table(name, value["caption"], columns, rows, total, value.get("notes", []))


def _cell(value: Any) -> Cell:
    return HIDDEN if isinstance(value, dict) else value


def printable(value: Any) -> Any:
    """Clean every text of a card: no control characters, no marks that turn the direction of text around, nothing endless.

    Paragraphs stay apart by an empty line.
    """
    if isinstance(value, str):
        return "\n\n".join(p for part in value.split("\n\n") if (p := clean(part, _LONGEST)))
    if isinstance(value, dict):
        return {clean(k): printable(v) for k, v in value.items()}
    return [printable(v) for v in value] if isinstance(value, list) else value
