"""Markdown in which nothing from an archive or an answer is markup."""

from __future__ import annotations

import re
from collections.abc import Sequence

_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_INLINE = re.compile(r"([\\`*_\[\]|~$])")
_AT_START = re.compile(r"^(?:(?=[-+=#])|(\d+)(?=[.)](?:\s|$)))")


def escape(text: str) -> str:
    """Write text so that Markdown shows it as it is: no HTML, link, picture, formula, heading, list or table comes of it.

    Example:
        >>> print(escape("<b>[x](javascript:1)</b> 1 * 2"))
        &lt;b&gt;\\[x\\](javascript:1)&lt;/b&gt; 1 \\* 2
        >>> print(escape("1. not a list"))
        1\\. not a list
    """
    return _AT_START.sub(r"\1\\", _inline(text))


def _inline(text: str) -> str:
    return _INLINE.sub(r"\\\1", "".join(_ENTITIES.get(c, c) for c in " ".join(text.split())))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> str:
    """Write a table.

    Args:
        headings: of the columns, as they shall read.
        rows: cells, as they shall read; a row of one cell opens a group.
        right: whether each column is set to the right.
    """
    lines = [_row([_inline(h) for h in headings]), "|" + "|".join(" ---: " if r else " --- " for r in right) + "|"]
    for row in rows:
        cells = [_inline(c) for c in row]
        lines.append(_row(cells if len(row) == len(headings) else [f"**{cells[0]}**", *[""] * (len(headings) - 1)]))
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c or " " for c in cells) + " |"
