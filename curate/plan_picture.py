"""The picture of a plan: what each stratum has, was asked for and gives, and what each gate kept, as one SVG file."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from curate.artefacts import writing

_MOST = 60  # strata that are drawn
_LEFT, _BAR, _RIGHT, _ROW = 350, 430, 240, 22  # pixels
_INK, _SOFT, _DRAWN, _LEFT_OVER, _WANTED = "#1c2733", "#5b6b7a", "#1f6f8b", "#c9d8e0", "#b3361e"


def draw_plan(path: Path, about: dict[str, Any]) -> None:
    """Write the picture.

    Args:
        path: the ``.svg`` file.
        about: the contents of ``sample.json``, or what a dry run gives.
    """
    parts: list[str] = []
    y = 34
    parts.append(_text(16, y, about["name"], size=17, weight="bold"))
    people = f"{about['images']:,} images of {about['patients']:,} patients drawn, {about['heldout']['patients']:,} patients held out"
    parts.append(_text(16, y + 22, people, fill=_SOFT))
    y += 56
    gates = [g for g in about["gates"] if g["gate"] != "archive" or g["images"]]
    most = max(g["images"] for g in gates) or 1
    parts.append(_text(16, y, "What each gate kept", size=14, weight="bold"))
    for gate in gates:
        y += _ROW
        parts += _bar(y, gate["title"], gate["images"], 0, None, most, f"{gate['images']:,} images" + _of(gate["patients"]))
    if about["allocation"]:
        rows = [(", ".join(map(str, r["stratum"].values())), r) for r in about["allocation"]]
        y = _block(parts, y + 44, "Allocation: available, wanted and drawn", rows)
    for attribute in dict.fromkeys(r["attribute"] for r in about.get("marginals", ())):
        rows = [(r["group"], r) for r in about["marginals"] if r["attribute"] == attribute]
        y = _block(parts, y + 44, f"By {attribute} alone", rows)
    if about["measures"]:
        y += 44
        parts.append(_text(16, y, "How even it is", size=14, weight="bold"))
        before, after = about["measures"]["before"], about["measures"]["after"]
        for name, value in after.items():
            y += _ROW
            shown = " to ".join("-" if v is None else f"{v:.3f}" for v in (before[name], value))
            parts += [_text(16, y, name.replace("_", " ").capitalize(), fill=_SOFT), _text(_LEFT, y, f"{shown}  (available to drawn)")]
    width, height = _LEFT + _BAR + _RIGHT, y + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="{_plain("Plan of the sample " + about["name"])}">'
    )
    with writing(path, "w") as file:
        file.write("\n".join([head, f'<rect width="{width}" height="{height}" fill="#ffffff"/>', *parts, "</svg>"]) + "\n")


def _of(patients: int | None) -> str:
    return "" if patients is None else f" of {patients:,} patients"


def _block(parts: list[str], y: int, title: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> int:
    """Draw bars under a title; gives the height reached."""
    parts.append(_text(16, y, title, size=14, weight="bold"))
    parts += _legend(y)
    most = max(r["available"] for _, r in rows[:_MOST]) or 1
    for name, row in rows[:_MOST]:
        y += _ROW
        short = f"{row['allocated']:,} of {row['available']:,}" + (f", short by {row['shortfall']:,}" if row["shortfall"] else "")
        parts += _bar(y, name, row["available"], row["allocated"], row["target"], most, short)
    if len(rows) > _MOST:
        y += _ROW
        parts.append(_text(_LEFT, y, f"and {len(rows) - _MOST:,} more", fill=_SOFT))
    return y


def _legend(y: int) -> list[str]:
    found = []
    x = _LEFT + _BAR - 210
    for colour, name in ((_DRAWN, "drawn"), (_LEFT_OVER, "left"), (_WANTED, "wanted")):
        found += [f'<rect x="{x}" y="{y - 10}" width="11" height="11" fill="{colour}"/>', _text(x + 16, y, name, fill=_SOFT)]
        x += 72
    return found


def _bar(y: int, name: str, whole: int, filled: int, wanted: int | None, most: int, value: str) -> list[str]:
    length = lambda n: round(_BAR * min(n / most, 1), 1)  # noqa: E731
    short = name if len(name) <= 48 else name[:47] + "…"
    bars = [
        f"<g><title>{_plain(name)}: {_plain(value)}</title>",
        _text(_LEFT - 10, y, short, anchor="end"),
        f'<rect x="{_LEFT}" y="{y - 12}" width="{length(whole)}" height="15" fill="{_LEFT_OVER}"/>',
        f'<rect x="{_LEFT}" y="{y - 12}" width="{length(filled)}" height="15" fill="{_DRAWN}"/>',
    ]
    if wanted:
        bars.append(f'<rect x="{_LEFT + length(wanted) - 1}" y="{y - 14}" width="2" height="19" fill="{_WANTED}"/>')
        if wanted > most:  # beyond the picture's edge
            x = _LEFT + _BAR
            bars.append(f'<path d="M{x} {y - 9} l7 5 l-7 5 z" fill="{_WANTED}"/>')
    return [*bars, _text(_LEFT + _BAR + 12, y, value, fill=_SOFT), "</g>"]


def _text(x: float, y: float, text: str, *, size: int = 13, weight: str = "normal", fill: str = _INK, anchor: str = "start") -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{_plain(text)}</text>'


def _plain(text: str) -> str:
    """Make text safe for markup; what XML can't hold or a reader can't see becomes a space."""
    return escape("".join(c if c.isprintable() else " " for c in text))
