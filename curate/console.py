"""What a command says while it works: lines, tables, progress, and one JSON result.

Human text goes to standard output, progress and errors to standard error, and under ``--json`` standard
output holds one JSON document and nothing else.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Mode:
    """How this process talks: set by the options every command shares."""

    quiet: bool = False
    json: bool = False
    debug: bool = False
    command: str = "called from Python"


mode = Mode()


def say(text: str = "") -> None:
    """Print one line (or several) for people; silent under ``--quiet`` and ``--json``."""
    if not (mode.quiet or mode.json):
        print(printable(text), flush=True)


def printable(text: str) -> str:
    """Make blanks of a terminal's control codes, which a name from a table may hold.

    Example:
        >>> printable("site \x1b[31mred")
        'site  [31mred'
    """
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def short(text: str, most: int = 60) -> str:
    """Cut a name that a table quotes to a number of characters, the last of them an ellipsis.

    Example:
        >>> short("a very long name", 7)
        'a very…'
    """
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def warn(text: str) -> None:
    """Print a line that the user should not miss to standard error; silent under ``--quiet``."""
    if not mode.quiet:
        print(f"note: {printable(text)}", file=sys.stderr, flush=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str = "") -> None:
    """Print an aligned table. Numbers are set to the right, everything else to the left."""
    if mode.quiet or mode.json:
        return
    cells = [[_cell(v) for v in row] for row in rows]
    widths = [max([len(c), *(len(r[i]) for r in cells)]) for i, c in enumerate(columns)]
    right = [bool(rows) and all(isinstance(r[i], int | float) or r[i] is None for r in rows) for i in range(len(columns))]
    line = lambda row: "  ".join(v.rjust(w) if r else v.ljust(w) for v, w, r in zip(row, widths, right, strict=True)).rstrip()  # noqa: E731
    if title:
        say(title)
    say(line(list(columns)))
    say("  ".join("-" * w for w in widths))
    for row in cells:
        say(line(row))


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.1f}"
    return " ".join(str(value).split())


def result(value: dict[str, Any]) -> None:
    """Print the command's result as JSON where ``--json`` was given; otherwise nothing."""
    if mode.json:
        print(json.dumps(value, indent=2, sort_keys=True, allow_nan=False, default=str), flush=True)


@contextmanager
def progress(total: int, label: str, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Show how far a long piece of work is.

    A bar on a terminal; elsewhere a plain line every ten seconds; nothing under ``--quiet``.

    Args:
        total: units of work.
        label: what is being done, as a verb phrase.
        unit: what is counted.

    Yields:
        A function that is called with the number of units just finished.
    """
    if mode.quiet:
        yield lambda n: None
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda n: bar.advance(task, n)
        return
    done, started, last = 0, time.monotonic(), time.monotonic()

    def advance(n: int) -> None:
        nonlocal done, last
        done += n
        now = time.monotonic()
        if now - last >= 10:
            last = now
            print(f"{label}: {done:,} of {total:,} {unit}, {done / (now - started):,.1f}/s", file=sys.stderr, flush=True)

    yield advance
