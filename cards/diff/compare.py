"""What changed between two versions of a card, from their card.json alone: section by section, then the answers and the policy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cards.catalogue import Catalogue, languages, read_catalogue
from cards.policy import HIDDEN, Suppressed
from cards.tables import Cell, Column, Table, clean

MOST_ROWS = 200  # of a table of changes; the page's size must not grow with the cards


@dataclass
class Part:
    """What changed in one part of the card.

    Attributes:
        id: the section's id, or ``answers``, ``policy``.
        title: its heading.
        tables: one a table of the card that changed: what, before, now, change.
    """

    id: str
    title: str
    tables: list[Table] = field(default_factory=list)


@dataclass
class Comparison:
    """Two cards side by side."""

    old_title: str
    new_title: str
    parts: list[Part]
    say: Catalogue
    protects: bool

    @property
    def changes(self) -> int:
        """Number of changed values."""
        return sum(len(t.rows) for p in self.parts for t in p.tables)

    def to_json(self) -> dict[str, Any]:
        """Give the changes as plain values, numbers of both cards as they are published there."""
        return {
            "old": self.old_title,
            "new": self.new_title,
            "changes": self.changes,
            "parts": [{"id": p.id, "title": p.title, "tables": {t.id: t.to_json() for t in p.tables}} for p in self.parts],
        }


def own_language(twin: Mapping[str, Any]) -> Catalogue:
    """Give the words of a card's language; English where its catalogue isn't part of the package."""
    language = str(twin.get("language"))
    return read_catalogue(language) if language in languages() else read_catalogue()


def compare(old: Mapping[str, Any], new: Mapping[str, Any]) -> Comparison:
    """Compare two cards.

    Args:
        old, new: their JSON twins.

    Returns:
        The changes, in the order of the new card's sections; parts without a change are left out.
    """
    say = own_language(new)
    parts = [Part("policy", say("diff_policy"), _named(say, "policy", say("diff_policy"), old["disclosure"], new["disclosure"], _POLICY))]
    done: set[str] = set()
    for card in (new, old):  # what only the former card has comes in its own order
        for section in card["sections"]:
            part = Part(str(section["id"]), str(section["title"]))
            for name in (b["table"] for b in section["blocks"] if "table" in b):
                if name not in done:
                    done.add(name)
                    part.tables += _table(say, name, old["tables"].get(name), new["tables"].get(name))
            if part.tables:
                same = next((p for p in parts if p.id == part.id), None)
                if same is None:
                    parts.append(part)
                else:
                    same.tables += part.tables
    answers = [*_named(say, "about", say("diff_about"), old["about"], new["about"]), *_answers(say, old["items"], new["items"])]
    parts.append(Part("answers", say("diff_answers"), answers))
    return Comparison(_title(old), _title(new), [p for p in parts if p.tables], say, bool(new["disclosure"]["threshold"]))


_POLICY = ("name", "threshold", "rounded_to", "zeros_shown")


def _title(twin: Mapping[str, Any]) -> str:
    version = str(twin["about"].get("version") or "")
    return clean(f"{twin['title']} {version}".strip())


def _columns(say: Catalogue) -> list[Column]:
    return [Column(name, say(f"diff_{name}")) for name in ("what", "before", "now", "change")]


def _listed(say: Catalogue, name: str, caption: str, rows: list[list[Cell]]) -> list[Table]:
    if not rows:
        return []
    table = Table(f"diff-{name}", caption, _columns(say), rows[:MOST_ROWS])
    if len(rows) > MOST_ROWS:
        table.notes.append(say("diff_more", n=len(rows) - MOST_ROWS))
    return [table]


def _named(say: Catalogue, name: str, caption: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: Any = None) -> list[Table]:
    rows: list[list[Cell]] = []
    for key in keys or sorted({*old, *new}):
        a, b = _words(say, old.get(key)), _words(say, new.get(key))
        if a != b:
            known = f"{'about' if name == 'about' else 'diff'}_{key}"
            rows.append([say(known) if say.has(known) else clean(key), a, b, None])
    return _listed(say, name, caption, rows)


def _words(say: Catalogue, value: Any) -> Cell:
    if isinstance(value, bool):
        return say("diff_yes" if value else "diff_no")
    return None if value in (None, "") else value if isinstance(value, int) else clean(value, 600)


def _answers(say: Catalogue, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Table]:
    rows: list[list[Cell]] = []
    for item in [*new, *(i for i in old if i not in new)]:
        a, b = old.get(item, {}), new.get(item, {})
        heading = clean(f"{item} {(b or a).get('heading', '')}")
        changed = [k for k in ("state", "answer", "reason") if (a.get(k) or "") != (b.get(k) or "")]
        rows += [[f"{heading}: {say(f'diff_{k}')}", _words(say, a.get(k)), _words(say, b.get(k)), None] for k in changed]
    return _listed(say, "items", say("diff_answers"), rows)


def _table(say: Catalogue, name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Table]:
    """List the cells of a table that changed; a row that one card lacks is shown as nothing there."""
    before, after = (_cells(t) for t in (old, new))
    caption = str((new or old or {})["caption"])
    rows: list[list[Cell]] = []
    for key in [*after, *(k for k in before if k not in after)]:
        a, b = before.get(key), after.get(key)
        if a is not None and b is not None and a[0] == b[0]:
            continue
        kind = (b or a or ("", ""))[1]
        x, y = (None if v is None else _value(v[0]) for v in (a, b))
        if x is None and y is None:
            continue
        rows.append([clean(key, 400), _cell(say, x, kind), _cell(say, y, kind), _change(say, x, y, kind)])
    return _listed(say, name, caption, rows)


def _cells(table: Mapping[str, Any] | None) -> dict[str, tuple[Any, str]]:
    """Name each cell by its block, its row's words and its column."""
    found: dict[str, tuple[Any, str]] = {}
    for words, cells in _rows(table) if table else ():
        labels = Counter(column["label"] for column, _ in cells)
        for column, value in cells:  # several columns can be labelled Low or High: each has its own identifier
            label = column["label"] if labels[column["label"]] == 1 else f"{column['label']} ({column['id']})"
            found[f"{words} · {label}"] = (value, column["kind"])
    return found


def _rows(table: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[Any, Any]]]]:
    block, seen = "", Counter[str]()
    named = {"model", "metric", "method", "group", "measure"}  # beside its first cell, what tells a row from others
    for row in table["rows"]:
        if len(row) == 1:
            block = str(row[0])
            continue
        pairs = list(zip(table["columns"], row, strict=True))
        names = [str(v) for i, (c, v) in enumerate(pairs) if i == 0 or (c["id"] in named and c["kind"] == "text")]
        words = " · ".join([block, *names] if block else names)
        seen[words] += 1
        if seen[words] > 1:
            words += f" ({seen[words]})"
        yield words, [(c, v) for i, (c, v) in enumerate(pairs) if i and not (c["id"] in named and c["kind"] == "text")]


def _value(value: Any) -> Any:
    return HIDDEN if isinstance(value, dict) else value


def _cell(say: Catalogue, value: Any, kind: str) -> Cell:
    if value is None or isinstance(value, Suppressed):
        return value
    return say.cell(value, kind) if kind != "text" else clean(value, 600)


def _change(say: Catalogue, a: Any, b: Any, kind: str) -> Cell:
    """Give the difference of two shown numbers; it is of rounded numbers, as a reader could work it out."""
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, int | float) or not isinstance(b, int | float):
        return None
    if kind == "count":
        return say.decimal(b - a, 0, sign=True)
    return say.decimal(b - a, 1 if kind == "percent" else 3, sign=True)


def as_text(found: Comparison, most: int = 12) -> str:
    """Write the changes for a terminal: one a line, at most `most` of each table."""
    say = found.say
    if not found.changes:
        return say("diff_none")
    lines = [say("diff_title", old=found.old_title, new=found.new_title)]
    for part in found.parts:
        lines += ["", part.title]
        for table in part.tables:
            lines.append(f"  {table.caption}")
            for what, a, b, change in table.rows[:most]:
                tail = f" ({change})" if change else ""
                lines.append(f"    {what}: {say.cell(a, 'text')} → {say.cell(b, 'text')}{tail}")
            if len(table.rows) > most:
                lines.append(f"    {say('diff_more', n=len(table.rows) - most)}")
    return "\n".join(lines)
