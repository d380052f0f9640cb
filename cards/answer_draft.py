"""Write card.yaml for people to fill in, and bring one up to date without touching what they wrote.

Lines that begin with ``#:`` belong to the tool: heading, question, what a good answer holds and what was computed. Everything else
belongs to people.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from cards.answer_file import parse_answers
from cards.answers import ABOUT, STATES
from cards.catalogue import Catalogue
from cards.registry import Item, Registry, all_items
from curate import UserError

OURS = "#:"
_WIDTH = 116
_KEY = re.compile(r"""^(?P<indent> +)(?P<quote>["']?)(?P<id>[A-Za-z0-9.]+)(?P=quote):\s*(#.*)?$""")
_FIELD = re.compile(r"^ +(state|answer|reason):")


def draft(registries: Iterable[Registry], computed: dict[str, list[str]], say: Catalogue) -> str:
    """Write a new card.yaml.

    Args:
        registries: the main one and those switched on.
        computed: item id -> sentences, as they stand now; the card computes them anew each time it is built.
        say: the catalogue; questions are asked in its language.
    """
    registries = tuple(registries)
    further = ", ".join(r.id for r in registries[1:])
    lines = [*(f"# {line}".rstrip() for line in say("yaml_head", states=" | ".join(STATES)).splitlines()), ""]
    lines += [f"language: {say.language}", f"registries: [{further}]", "", "about:"]
    for name in ABOUT:
        lines += [*_ours("", say(f"yaml_{name}"), "  "), f'  {name}: ""']
    lines += ["", "items:"]
    for registry in registries:
        for item in registry.items:
            lines += _block(registry, item, computed.get(item.id, []), say)
    return "\n".join(lines) + "\n"


def update(path: Path, text: str, registries: Iterable[Registry], computed: dict[str, list[str]], say: Catalogue) -> tuple[str, list[str]]:
    """Renew the tool's lines of a card.yaml and add the items and fields that it lacks.

    Args:
        path: the file's name, for messages.
        text: the file as it is.
        registries, computed, say: as for `draft`.

    Returns:
        The new text, and the names of what was added. Answers, states, reasons and people's own comments stay as they are.

    Raises:
        UserError: where the file's layout can't be added to.
    """
    registries = tuple(registries)
    known = [i.id for i in all_items(registries)]
    before = parse_answers(path, text, known)
    lines, added = _renewed(text.splitlines(), registries, computed, say), []
    wanted = tuple(r.id for r in registries[1:])
    if set(wanted) != set(before.registries):
        lines = _switched(path, lines, wanted)
    missing = [n for n in ABOUT if n not in before.about]
    if missing:
        at = _end_of(path, lines, "about")
        new = [line for n in missing for line in [*_ours("", say(f"yaml_{n}"), "  "), f'  {n}: ""']]
        lines[at:at] = new if any(_top(line, "about") for line in lines) else ["", "about:", *new]
        added += missing
    lacking = [i for i in known if i not in before.items]
    if lacking:
        at = _end_of(path, lines, "items")
        new = [
            line for r in registries for i in r.items if i.id in lacking for line in _block(r, i, computed.get(i.id, []), say, part=False)
        ]
        lines[at:at] = new if any(_top(line, "items") for line in lines) else ["", "items:", *new]
        added += lacking
    result = "\n".join(lines) + "\n"
    after = parse_answers(path, result, known)
    kept = all(after.about.get(k) == v for k, v in before.about.items()) and all(after.items.get(k) == v for k, v in before.items.items())
    if not kept or set(after.registries) != set(wanted) or after.language != before.language:
        raise UserError(f"{path}: laid out in a way that cannot be added to; give each item its own lines, as cards init writes them")
    return result, added


def _block(registry: Registry, item: Item, computed: list[str], say: Catalogue, *, part: bool = True) -> list[str]:
    lines = [""]
    if part and registry.items[[i.part for i in registry.items].index(item.part)] is item:
        lines += [f"  # {registry.parts[item.part]}", ""]
    lines += [f'  "{item.id}":', *_words(item, computed, say)]
    return [*lines, "    state:", "    answer: |", "", "    reason:"]


def _words(item: Item, computed: list[str], say: Catalogue) -> list[str]:
    lines = _ours("", item.heading, "    ") + _ours(say("yaml_question"), item.question, "    ")
    lines += _ours(say("yaml_good_answer"), item.good_answer, "    ")
    for sentence in computed:
        lines += _ours(say("yaml_computed"), sentence, "    ")
    return lines


def _ours(name: str, text: str, indent: str) -> list[str]:
    """Write a comment of the tool's own, wrapped; a line that goes on is set in further."""
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    wrapped = textwrap.wrap(f"{name} {flat}".strip(), _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
    return [f"{indent}{OURS} {line}" for line in wrapped]


def _renewed(lines: list[str], registries: tuple[Registry, ...], computed: dict[str, list[str]], say: Catalogue) -> list[str]:
    """Put the tool's lines beneath each item's key anew; they end at the item's first field."""
    items = {i.id: i for i in all_items(registries)}
    result: list[str] = []
    within, inside = "", False
    for line in lines:
        if line[:1] not in ("", " ", "#"):
            inside, within = _top(line, "items"), ""
        key = _KEY.match(line) if inside else None
        if key is not None and key["id"] in items and len(key["indent"]) == 2:
            within = key["id"]
            result += [line, *_words(items[within], computed.get(within, []), say)]
            continue
        if within and _FIELD.match(line):
            within = ""
        if not (within and line.lstrip().startswith(OURS)):
            result.append(line)
    return result


def _switched(path: Path, lines: list[str], wanted: tuple[str, ...]) -> list[str]:
    """Switch registries on in the file."""
    at = next((i for i, line in enumerate(lines) if line.startswith("registries:")), None)
    new = f"registries: [{', '.join(wanted)}]"
    if at is None:
        first = next((i for i, line in enumerate(lines) if line and not line.startswith("#")), len(lines))
        return [*lines[:first], new, *lines[first:]]
    if not re.fullmatch(r"registries:\s*(\[[\w, -]*\])?\s*", lines[at]):
        raise UserError(f"{path}, line {at + 1}: write {new}")
    return [*lines[:at], new, *lines[at + 1 :]]


def _top(line: str, name: str) -> bool:
    return re.match(rf"{name}:\s*(#.*)?$", line) is not None


def _end_of(path: Path, lines: list[str], name: str) -> int:
    """Find where a top-level mapping ends: after its last line that isn't empty."""
    start = next((i for i, line in enumerate(lines) if line.startswith(f"{name}:")), None)
    if start is None:
        return len(lines)
    if not _top(lines[start], name):
        raise UserError(f"{path}, line {start + 1}: '{name}' is written on one line; give each entry its own lines, as cards init does")
    end = next((i for i in range(start + 1, len(lines)) if lines[i][:1] not in ("", " ", "#")), len(lines))
    while end > start + 1 and (not lines[end - 1].strip() or lines[end - 1].startswith("#")):
        end -= 1
    return end
