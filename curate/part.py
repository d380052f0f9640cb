"""One part of a piece of work, wherever it is done: run, and its result written down as its done marker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from curate.artefacts import canonical_json, writing
from curate.errors import Unfinished

Part = tuple[str, int, tuple[Any, ...]]  # name (a file name), weight in units, arguments
Finished = Callable[[str, int, dict[str, Any]], None]


def run_part(function: Callable[..., dict[str, Any]], name: str, arguments: tuple[Any, ...], markers: Path) -> dict[str, Any]:
    """Do one part and leave its done marker.

    Args:
        function: see `run_parts`.
        name: the part's.
        arguments: likewise.
        markers: folder of the done markers.

    Returns:
        What the marker holds.

    Raises:
        Unfinished: where the folder is no longer there.
        UserError: as `function` raises it.
    """
    try:
        text = canonical_json(function(*arguments))
        with writing(markers / f"{name}.done", "w") as file:
            file.write(text)
    except FileNotFoundError:
        if markers.exists():
            raise
        raise Unfinished(f"{markers}: gone, another process finished or removed it; run the same command again") from None
    return json.loads(text)


def read_marker(path: Path) -> dict[str, Any]:
    """Read what a finished part returned."""
    return json.loads(path.read_text(encoding="utf-8"))
