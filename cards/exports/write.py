"""Writing the exports: beside the card when it is built, and any of them again from ``card.json`` alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cards.catalogue import templates_folder
from cards.exports import chai, croissant, readme
from cards.exports.content import Content
from cards.exports.csv_tables import csv_tables
from curate import UserError, nearest, read_json, writing

SCHEMA = "card.schema.json"
TABLES = "tables"
_CHAI = re.compile(r"chai(-\d+)?\.xml")
_MARK = "evenfooting"  # every export holds it


def _readme(card: Content) -> dict[str, str]:
    return {"README.md": readme.readme(card)}


def _croissant(card: Content) -> dict[str, str]:
    return {"croissant.json": croissant.croissant(card)}


def _schema(_: Content) -> dict[str, str]:
    return {SCHEMA: (templates_folder() / "schema" / SCHEMA).read_text(encoding="utf-8")}


FORMATS: dict[str, Callable[[Content], dict[str, str]]] = {
    "readme": _readme,
    "croissant": _croissant,
    "chai": chai.chai,
    "json-schema": _schema,
    "tables": csv_tables,
}
_BUILT = ("readme", "croissant", "chai")  # written with every card
_OPEN = {"readme": ("README.md", readme.missing), "croissant": ("croissant.json", croissant.missing), "chai": ("chai.xml", chai.missing)}


def is_export(name: str) -> bool:
    """Say whether a file of this name in a card's folder may be one of the exports."""
    return name in ("README.md", "croissant.json", SCHEMA, TABLES) or bool(_CHAI.fullmatch(name))


def check_exports(folder: Path) -> None:
    """Refuse to write over somebody else's file.

    Raises:
        UserError: where a file has an export's name and was not written by this tool.
    """
    for path in [p for p in sorted(folder.iterdir()) if is_export(p.name) and p.is_file()]:
        if _MARK not in path.read_text(encoding="utf-8", errors="replace"):
            raise UserError(f"{path}: was not written by this tool; move it away, or choose another folder with --out")


def write_exports(card: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Write the exports that go with every card, and remove model cards of models that are no longer on it.

    Args:
        card: what ``card.json`` holds.
        folder: the card's folder.

    Returns:
        ``files`` (names, in order) and ``open`` (file -> what it lacks, a line each).
    """
    content = Content(card)
    files = {name: text for f in _BUILT for name, text in FORMATS[f](content).items()}
    for name, text in files.items():
        _write(folder / name, text)
    for stale in folder.iterdir():
        if _CHAI.fullmatch(stale.name) and stale.name not in files:
            stale.unlink()
    return {"files": list(files), "open": {name: lines for name, check in _OPEN.values() if (lines := check(content))}}


def export_card(name: str, card: Path = Path("card"), out: Path | None = None) -> dict[str, Any]:
    """Write one format from ``card.json``.

    Args:
        name: one of `FORMATS`.
        card: the card's folder, or its ``card.json``.
        out: the file to write; a folder for ``tables`` and where there are several model cards. By default beside ``card.json``.

    Returns:
        ``format``, ``files`` (paths) and ``open`` (what the format lacks, a line each).

    Raises:
        UserError: where there is no such format or card, or the format has nothing to hold.
    """
    if name not in FORMATS:
        raise UserError(f"no format '{name}'{nearest(name, FORMATS)}; formats are: {', '.join(FORMATS)}")
    path = card / "card.json" if card.is_dir() or card.suffix != ".json" else card
    content = Content(read_json(path, "a card"))
    files = FORMATS[name](content)
    lines = _OPEN[name][1](content) if name in _OPEN else []
    if not files:
        raise UserError(f"{path}: nothing to write as {name}: {'; '.join(lines)}")
    paths = _places(name, path.parent, files, out)
    for place, text in zip(paths, files.values(), strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        _write(place, text)
    return {"format": name, "files": [str(p) for p in paths], "open": lines}


def _places(name: str, beside: Path, files: dict[str, str], out: Path | None) -> list[Path]:
    if out is None:
        return [(beside / TABLES if name == "tables" else beside) / f for f in files]
    if name == "tables" or len(files) > 1 or out.is_dir():
        if out.suffix and not out.is_dir():
            raise UserError(f"{out}: {name} makes {len(files)} files here, so --out must name a folder")
        return [out / f for f in files]
    return [out]


def _write(path: Path, text: str) -> None:
    with writing(path, "w") as file:
        file.write(text)
