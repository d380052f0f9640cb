"""Tables: the one form in which numbers reach the card, its figures and its JSON twin."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from typing import Any

from cards.policy import Suppressed

# A cell is text, a number, `HIDDEN`, or None where there is nothing to say.
Cell = str | int | float | Suppressed | None

KINDS = ("text", "count", "percent", "number", "metric", "difference", "p")


@dataclass(frozen=True)
class Column:
    """A column: its name in the JSON twin, its heading, and what kind of value it holds (one of `KINDS`)."""

    id: str
    label: str
    kind: str = "text"


@dataclass
class Table:
    """A table of protected values.

    Attributes:
        id: unique on the card.
        caption: what it shows.
        columns: the first is the row's heading.
        rows: cells in the order of the columns; a row that holds its heading alone opens a group.
        total: the sums of the cells shown, or None.
        notes: sentences beneath.
    """

    id: str
    caption: str
    columns: list[Column]
    rows: list[list[Cell]]
    total: list[Cell] | None = None
    notes: list[str] = field(default_factory=list)

    def column(self, name: str) -> list[Cell]:
        """Give the cells of a column, group headings left out."""
        i = [c.id for c in self.columns].index(name)
        return [row[i] for row in self.rows if len(row) > 1]

    def to_json(self) -> dict[str, Any]:
        """Give the table as plain values; a hidden cell becomes ``{"suppressed": true}``."""
        value: dict[str, Any] = {
            "caption": self.caption,
            "columns": [{"id": c.id, "label": c.label, "kind": c.kind} for c in self.columns],
            "rows": [[plain(cell) for cell in row] for row in self.rows],
        }
        if self.total is not None:
            value["total"] = [plain(cell) for cell in self.total]
        if self.notes:
            value["notes"] = self.notes
        return value


def plain(value: Any) -> Any:
    """Turn hidden values, wherever they are, into what JSON can hold."""
    if isinstance(value, Suppressed):
        return {"suppressed": True}
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def clean(text: object, longest: int = 160) -> str:
    """Make a name from an archive fit to be printed.

    Control characters and marks that turn the direction of the text around are left out, white space is single, and
    what is longer than `longest` characters ends in an ellipsis. Markup is not touched: it is escaped where it is printed.

    Example:
        >>> clean("Eye\\u202e clinic\\n  A")
        'Eye clinic A'
    """
    kept = "".join(
        " " if c in "\t\n\r\u2028\u2029" else c for c in str(text) if c in "\t\n\r\u2028\u2029" or unicodedata.category(c) not in _UNPRINTED
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else kept[: longest - 1].rstrip() + "…"


_UNPRINTED = {"Cc", "Cf", "Cs", "Co", "Cn"}
