"""Every table of the card as CSV that a spreadsheet shows and never runs."""

from __future__ import annotations

import csv
import io
import re

from cards.exports.content import Content
from cards.policy import Suppressed
from cards.tables import Cell, Table

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "|", "%", "＝", "＋", "－", "＠")


def csv_tables(card: Content) -> dict[str, str]:
    """Write the tables.

    Returns:
        File name -> text. Numbers are as in card.json, totals left out; hidden cells hold the
        language's word for hidden.
    """
    names = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:80] + ".csv" for name in card.tables}
    return {names[name]: _write(card, table) for name, table in card.tables.items()}


def _write(card: Content, table: Table) -> str:
    labels = [c.label for c in table.columns]
    heads = [c.label if labels.count(c.label) == 1 else c.id for c in table.columns]
    grouped = any(len(row) == 1 for row in table.rows)
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\r\n")
    writer.writerow([_text(h) for h in ([card.say("export_attribute"), *heads] if grouped else heads)])
    group = ""
    for row in table.rows:
        if len(row) == 1:
            group = str(row[0])
            continue
        cells = [_plain(card, cell) for cell in row]
        writer.writerow([_text(group), *cells] if grouped else cells)
    return out.getvalue()


def _plain(card: Content, cell: Cell) -> str | int | float:
    if isinstance(cell, Suppressed):
        return card.say("hidden")
    if cell is None:
        return ""
    return _text(cell) if isinstance(cell, str) else cell


def _text(text: str) -> str:
    """Keep a spreadsheet from taking text for a formula: an apostrophe goes before what could begin one.

    Example:
        >>> [_text(t) for t in ("=1+1", "-2", "Camera A")]
        ["'=1+1", "'-2", 'Camera A']
    """
    return f"'{text}" if text.startswith(_FORMULA) else text
