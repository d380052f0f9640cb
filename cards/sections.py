"""What a section of the card is made of.

A section holds sentences and blocks. Each block knows how it goes into the JSON twin; the templates know how each
kind of block is printed. Nothing in a block is a number that has not passed `cards.disclosure`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from cards.answers import Answer
from cards.catalogue import Catalogue
from cards.disclosure import Disclosure
from cards.policy import Count, Suppressed
from cards.sources import Sources
from cards.tables import Table, plain


@dataclass
class Figure:
    """A figure: its geometry is drawn from `table`, which is printed beneath it.

    Attributes:
        kind: the template that draws it.
        id: unique on the card.
        answer: the caption's bold words: the answer to the one question that the figure is there for.
        caption: how to read it, and what it can't tell.
        view: geometry (percentages of the width) and labels, from protected values.
        table: the numbers.
    """

    block: ClassVar[str] = "figure"
    kind: str
    id: str
    answer: str
    caption: str
    view: Any
    table: Table
    number: int = 0

    def to_json(self) -> dict[str, Any]:
        return {"figure": self.id, "answer": self.answer, "caption": self.caption, "table": self.table.id}


@dataclass
class TableBlock:
    """A table that stands by itself; folded where `folded` has its heading."""

    block: ClassVar[str] = "table"
    table: Table
    folded: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"table": self.table.id}


@dataclass
class Heading:
    """The heading of a part of a long section."""

    block: ClassVar[str] = "heading"
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"heading": self.text}


@dataclass
class Words:
    """Sentences between blocks, one a paragraph; folded where `folded` has their heading."""

    block: ClassVar[str] = "words"
    sentences: list[str]
    folded: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"words": self.sentences}


@dataclass
class Citation:
    """How the set is cited, to be copied: one line, and the same as a BibTeX entry."""

    block: ClassVar[str] = "citation"
    text: str
    bibtex: str

    def to_json(self) -> dict[str, Any]:
        return {"citation": self.text, "bibtex": self.bibtex}


@dataclass
class Note:
    """A remark set apart."""

    block: ClassVar[str] = "note"
    lead: str
    text: str

    def to_json(self) -> dict[str, Any]:
        return {"note": f"{self.lead} {self.text}".strip()}


@dataclass
class Facts:
    """Terms and what is to be said of each; `code` sets the values in a fixed pitch."""

    block: ClassVar[str] = "facts"
    rows: list[tuple[str, str]]
    code: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"facts": [{"term": term, "text": text} for term, text in self.rows]}


@dataclass
class Glance:
    """The few numbers that come first: value, label, what it is compared with."""

    block: ClassVar[str] = "glance"
    rows: list[tuple[str, str, str]]

    def to_json(self) -> dict[str, Any]:
        return {"glance": [{"value": value, "label": label, "beside": beside} for value, label, beside in self.rows]}


@dataclass
class Answers:
    """Items of the registry with their answers."""

    block: ClassVar[str] = "answers"
    answers: list[Answer]

    def to_json(self) -> dict[str, Any]:
        return {"items": [a.item.id for a in self.answers]}


@dataclass
class ItemList:
    """All items of a registry by part, with their states and where the answer is.

    Attributes:
        parts: title and answers of each part.
        title, lead, official: of a further registry; the main one's stand in the section's text.
    """

    block: ClassVar[str] = "items"
    parts: list[tuple[str, list[Answer]]]
    title: str = ""
    lead: str = ""
    official: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"items": [a.item.id for _, answers in self.parts for a in answers]}


Block = Figure | TableBlock | Heading | Words | Citation | Note | Facts | Glance | Answers | ItemList


@dataclass
class Section:
    """One section: sentences first, then blocks."""

    id: str
    title: str
    text: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    @property
    def tables(self) -> list[Table]:
        """Every table of the section, those beneath figures included."""
        return [b.table for b in self.blocks if isinstance(b, Figure | TableBlock)]

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "title": self.title, "text": self.text, "blocks": [plain(b.to_json()) for b in self.blocks]}


@dataclass
class Work:
    """What every section needs: the artefacts, the protection, the words; and what sections tell one another.

    Attributes:
        computed: item id -> sentences that were computed for it.
        source_people, set_people, source_images, set_images: headline counts, protected; the set's are None without a set.
    """

    sources: Sources
    protect: Disclosure
    say: Catalogue
    computed: dict[str, list[str]] = field(default_factory=dict)
    source_people: Count = 0
    source_images: Count = 0
    set_people: Count | None = None
    set_images: Count | None = None

    def beside(self, share: Any) -> str:
        """Write the archive's share beside the set's."""
        if isinstance(share, Suppressed):
            return self.say("of_archive_hidden")
        return self.say("of_archive", share=self.say.percent(share))

    def compute(self, item: str, *sentences: str) -> None:
        """Add to what was computed for an item."""
        self.computed.setdefault(item, []).extend(s for s in sentences if s)
