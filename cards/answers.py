"""card.yaml: what only people know. Read, checked against the registry, and written for them to fill in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cards.catalogue import Catalogue
from cards.registry import Item, Registry
from curate import UserError, nearest

STATES = ("reported", "not available", "cannot be reported", "not applicable")
NEEDS_REASON = STATES[2:]
ABOUT = ("title", "version", "released", "custodian", "licence", "access", "identifier", "contact", "citation")
_LONGEST = 4000  # characters of one answer; the card stays readable and its size bounded


@dataclass
class Answer:
    """An item with what people and the computation say about it.

    Attributes:
        item: the registry's item.
        state: one of `STATES`.
        answer: people's words, paragraphs apart by an empty line; empty where there are none.
        reason: why there is no answer.
        computed: sentences computed from the artefacts.
    """

    item: Item
    state: str
    answer: str = ""
    reason: str = ""
    computed: list[str] = field(default_factory=list)
    where: str = ""

    @property
    def paragraphs(self) -> list[str]:
        """People's words, by paragraph."""
        return [" ".join(p.split()) for p in self.answer.split("\n\n") if p.strip()]

    def to_json(self) -> dict[str, Any]:
        """Give the item, its state and what is known about it as plain values for ``card.json``."""
        return {
            "heading": self.item.heading,
            "asks": self.item.asks,
            "state": self.state,
            "answer": self.answer,
            "reason": self.reason,
            "computed": self.computed,
            "section": self.where or self.item.section,
            "source": self.item.source,
            "evidence": self.item.evidence,
            "verified_against_primary": self.item.verified_against_primary,
        }


@dataclass
class AnswerFile:
    """A card.yaml that has been read: the fields of `ABOUT`, and item id -> {state, answer, reason}."""

    about: dict[str, str] = field(default_factory=dict)
    items: dict[str, dict[str, str]] = field(default_factory=dict)


def read_answers(path: Path, registry: Registry) -> AnswerFile:
    """Read and check a card.yaml.

    Raises:
        UserError: where it isn't YAML of that form, names an unknown item or field, has a state that doesn't exist, or lacks a reason.
    """
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line}: not YAML ({error.problem}); texts with a colon or a quote go between quotes or after '|'") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make one with: cards init") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected the fields 'about' and 'items'; make a new one with: cards init")
    _known(path, content, ("about", "items"), "field")
    about = _mapping(path, content, "about")
    items = _mapping(path, content, "items")
    _known(path, about, ABOUT, "field of about")
    _known(path, items, [i.id for i in registry.items], "item")
    return AnswerFile(
        about={k: _text(path, f"about, {k}", v) for k, v in about.items()},
        items={k: _entry(path, str(k), v) for k, v in items.items()},
    )


def _mapping(path: Path, content: dict[str, Any], name: str) -> dict[str, Any]:
    value = content.get(name) or {}
    if not isinstance(value, dict):
        raise UserError(f"{path}: '{name}' must hold fields with values, not {type(value).__name__}")
    return value


def _known(path: Path, given: dict[Any, Any], known: Any, what: str) -> None:
    for name in given:
        if name not in known:
            raise UserError(f"{path}: no {what} '{name}'{nearest(str(name), known)}")


def _text(path: Path, where: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise UserError(f"{path}, {where}: expected text; put it between quotes or after '|'")
    text = str(value).strip()
    if len(text) > _LONGEST:
        raise UserError(f"{path}, {where}: {len(text):,} characters; at most {_LONGEST:,}: shorten it and refer to a document")
    return text


def _entry(path: Path, identifier: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UserError(f"{path}, {identifier}: expected the fields state, answer and reason")
    _known(path, value, ("heading", "question", "a_good_answer", "computed", "state", "answer", "reason"), f"field of {identifier}")
    entry = {k: _text(path, f"{identifier}, {k}", value.get(k)) for k in ("state", "answer", "reason")}
    state = entry["state"]
    if state and state not in STATES:
        raise UserError(f"{path}, {identifier}: no state '{state}'{nearest(state, STATES)}; states are: {', '.join(STATES)}")
    if state in NEEDS_REASON and not entry["reason"]:
        raise UserError(f"{path}, {identifier}: '{state}' needs a reason: fill in 'reason'")
    return entry


def resolve(registry: Registry, given: AnswerFile, computed: dict[str, list[str]], say: Catalogue) -> list[Answer]:
    """Join the registry, people's answers and what was computed.

    Returns:
        One `Answer` an item, in the registry's order. An item about which nobody and nothing says anything is "not available:
        not answered yet"; a state that people give stands, whatever was computed.

    Raises:
        UserError: where an item is called reported and there is neither an answer nor anything computed.
    """
    answers = []
    for item in registry.items:
        entry = given.items.get(item.id, {})
        words, reason, sentences = entry.get("answer", ""), entry.get("reason", ""), computed.get(item.id, [])
        state = entry.get("state") or ("reported" if words or sentences else "not available")
        if state == "reported" and not words and not sentences:
            raise UserError(f"card.yaml, {item.id}: the state is 'reported' but there is no answer; write one, or leave the state empty")
        if state == "not available" and not reason:
            reason = say("not_answered")
        answers.append(Answer(item, state, words, "" if state == "reported" else reason, sentences))
    return answers


def write_answers(registry: Registry, computed: dict[str, list[str]], say: Catalogue) -> str:
    """Write a card.yaml to be filled in.

    Args:
        registry: the items.
        computed: item id -> sentences, shown as they stand now; the card computes them anew each time it is built.
        say: the catalogue.

    Returns:
        The file's text.
    """
    lines = [*(f"# {line}".rstrip() for line in say("yaml_head").splitlines()), "", "about:"]
    lines += [f'  {name}: ""  # {say("yaml_" + name)}' for name in ABOUT]
    lines += ["", "items:"]
    part = ""
    for item in registry.items:
        if item.part != part:
            part = item.part
            lines += ["", f"  # {registry.parts[part]}"]
        lines += [
            "",
            f"  {_scalar(item.id)}:",
            f"    heading: {_scalar(item.heading)}",
            f"    question: {_scalar(item.question)}",
            f"    a_good_answer: {_scalar(item.good_answer)}",
        ]
        if computed.get(item.id):
            lines += ["    computed:", *(f"      - {_scalar(s)}" for s in computed[item.id])]
        lines += ['    state: ""', '    answer: ""', '    reason: ""']
    return "\n".join(lines) + "\n"


def _scalar(text: str) -> str:
    import json

    # A JSON string is a YAML double-quoted scalar; the two line separators that YAML treats as breaks are escaped.
    return json.dumps(text, ensure_ascii=False).replace("\u2028", "\\u2028").replace("\u2029", "\\u2029").replace("\x85", "\\x85")
