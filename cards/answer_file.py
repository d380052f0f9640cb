"""Read card.yaml: each mistake is named with its line, its item and the names that would have been right."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cards.answers import ABOUT, NEEDS_REASON, STATES, AnswerFile
from cards.registry import registry_names
from curate import UserError, nearest

FIELDS = ("state", "answer", "reason")
TOP = ("language", "registries", "about", "items")
_LONGEST = 4000  # characters of one answer; the card stays readable and its size bounded


def read_answers(path: Path, known: Iterable[str]) -> AnswerFile:
    """Read and check a card.yaml.

    Args:
        path: the file.
        known: ids of the items that there are, of every registry.

    Raises:
        UserError: where it isn't YAML of that form, says something twice, names an unknown item, field or registry, has a state
            that doesn't exist, or lacks a reason.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make one with: cards init") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    return parse_answers(path, text, known)


def parse_answers(path: Path, text: str, known: Iterable[str]) -> AnswerFile:
    """Read the text of a card.yaml; see `read_answers`."""
    reader = _Reader(path)
    top = reader.fields(reader.compose(text), TOP, "field", "")
    given = AnswerFile(lines=reader.lines)
    if "language" in top:
        given.language = reader.text(top["language"], "language")
    if "registries" in top:
        given.registries = tuple(reader.names(top["registries"], "registries", registry_names(), "registry"))
    if "about" in top:
        fields = reader.fields(top["about"], ABOUT, "field of about", "about")
        given.about = {k: reader.text(v, f"about, {k}") for k, v in fields.items()}
    if "items" in top:
        entries = reader.fields(top["items"], tuple(known), "item", "items")
        given.items = {k: _entry(reader, k, v) for k, v in entries.items()}
    return given


def _entry(reader: _Reader, identifier: str, node: Any) -> dict[str, str]:
    fields = reader.fields(node, FIELDS, f"field of {identifier}", f"items.{identifier}", where=f", {identifier}")
    entry = dict.fromkeys(FIELDS, "") | {k: reader.text(v, f"{identifier}, {k}") for k, v in fields.items()}
    state = " ".join(entry["state"].lower().split())
    if state and state not in STATES:
        reader.fail(fields["state"], identifier, f"no state '{entry['state']}'{nearest(state, STATES)}; states are: {', '.join(STATES)}")
    if state in NEEDS_REASON and not entry["reason"]:
        reader.fail(fields["state"], identifier, f"'{state}' needs a reason: fill in 'reason'")
    return {**entry, "state": state}


class _Reader:
    """Walks YAML's nodes, which know their lines; every scalar is taken as the text that was written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, int] = {}

    def fail(self, node: Any, where: str, message: str) -> None:
        """Raise a UserError that names file, line and place."""
        raise UserError(f"{self.path}, line {node.start_mark.line + 1}{f', {where}' if where else ''}: {message}")

    def compose(self, text: str) -> Any:
        """Parse the text into nodes."""
        import yaml

        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
            hint = "a text with a colon or a quote goes on the line after '|', indented"
            raise UserError(f"{self.path}{line}: not YAML ({error.problem}); {hint}") from None
        except yaml.YAMLError as error:
            raise UserError(f"{self.path}: not YAML ({' '.join(str(error).split())})") from None
        if not isinstance(node, yaml.MappingNode):
            raise UserError(f"{self.path}: expected the fields 'about' and 'items'; make a new one with: cards init")
        return node

    def fields(self, node: Any, known: tuple[str, ...], what: str, prefix: str, where: str = "") -> dict[str, Any]:
        """Give a mapping's values by name and note their lines; nothing where the mapping is empty."""
        import yaml

        if isinstance(node, yaml.ScalarNode) and not node.value.strip():
            return {}
        if not isinstance(node, yaml.MappingNode):
            holds = f"'{prefix}' must hold fields with values" if not where else "expected the fields state, answer and reason"
            self.fail(node, where.lstrip(", "), holds)
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            if name not in known:
                self.fail(key, "", f"no {what} '{name}'{nearest(name, known)}")
            place = f"{prefix}.{name}" if prefix else name
            if name in found:
                self.fail(key, "", f"{what} '{name}' is there already, in line {self.lines[place]}; put the two together")
            found[name] = value
            self.lines[place] = key.start_mark.line + 1
        return found

    def text(self, node: Any, where: str) -> str:
        """Give a scalar's text as it was written."""
        import yaml

        if not isinstance(node, yaml.ScalarNode):
            self.fail(node, where, "expected text; put it between quotes or after '|'")
        if node.style is None and node.value.lower() in ("", "~", "null"):
            return ""
        text = str(node.value).strip()
        if len(text) > _LONGEST:
            self.fail(node, where, f"{len(text):,} characters; at most {_LONGEST:,}: shorten it and refer to a document")
        return text

    def names(self, node: Any, where: str, known: tuple[str, ...], what: str) -> list[str]:
        """Give a list of names; one alone may stand without brackets."""
        import yaml

        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        names = []
        for one in nodes:
            name = self.text(one, where)
            if name and name not in known:
                self.fail(one, where, f"no {what} '{name}'{nearest(name, known)}")
            names += [name] if name else []
        return names
