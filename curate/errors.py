"""The error a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave, or a state of the machine that the user can mend.

    The message is one line that names the file, row, column or value concerned and what to do.
    Commands print it without a traceback and exit with code 2.
    """

    def __init__(self, message: str) -> None:
        # What a message quotes from a table may hold line ends and a terminal's control codes.
        super().__init__("".join(c if c.isprintable() else " " for c in message))


class Unfinished(UserError):
    """The work was stopped by something outside what was given, as a worker that was killed.

    What was done is kept: the same command goes on from there.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name was probably meant.

    Args:
        name: what was given.
        known: the names that would have been right.

    Returns:
        ``"; did you mean 'x'?"``, or ``"; there are: a, b, c"`` where nothing is close.

    Example:
        >>> nearest("Patint Age", ["Patient Age", "Patient Sex"])
        "; did you mean 'Patient Age'?"
    """
    names = [str(k) for k in known]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"; there are: {shown}" if names else ""
