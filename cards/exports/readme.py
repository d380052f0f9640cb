"""README.md: the card as Hugging Face's dataset card, its metadata in front and the card's own sentences and small tables after it."""

from __future__ import annotations

from typing import Any

from cards.exports.content import Content, web_address
from cards.exports.licences import hugging_face_of, spdx_of
from cards.exports.markdown import escape, table
from cards.policy import Suppressed
from cards.tables import Cell, Column, Table

MARK = "<!-- Written by evenfooting from card.json. Change card.yaml, not this file. -->"
MOST_ROWS, MOST_COLUMNS = 40, 7  # larger tables are in card.html
_LEFT_OUT = ("provenance", "items")  # digests and the items' states: for card.html
_SIZES = (
    (1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10_000_000, "1M<n<10M"),
    (100_000_000, "10M<n<100M"), (1_000_000_000, "100M<n<1B"),
)  # fmt: skip


def readme(card: Content) -> str:
    """Write README.md."""
    import yaml

    front = yaml.safe_dump(metadata(card), sort_keys=False, allow_unicode=True, width=10_000)
    return f"---\n{front}---\n\n{MARK}\n\n" + "\n\n".join(_body(card)) + "\n"


def metadata(card: Content) -> dict[str, Any]:
    """Give the YAML fields, of those that Hugging Face knows.

    ``dataset_info`` is left out on purpose: its number of examples would have to be exact.
    """
    spdx = spdx_of(card.about("licence"))
    found: dict[str, Any] = {"pretty_name": card.title}
    if spdx:
        found["license"] = hugging_face_of(spdx)
    elif card.about("licence"):
        found |= {"license": "other", "license_name": card.about("licence")[:80]}
        if web_address(card.about("licence")):
            found["license_link"] = web_address(card.about("licence"))
    else:
        found["license"] = "unknown"
    images = card.count("images")
    if isinstance(images, int):
        found["size_categories"] = [next((name for limit, name in _SIZES if images < limit), "n>1T")]
    found["task_categories"] = ["image-feature-extraction"]
    found["source_datasets"] = ["original"]
    if card.published and set(card.published["columns"]) <= {"width", "height"}:
        found["annotations_creators"] = ["no-annotation"]
    tags = ["medical", "image", "data-card", "evenfooting"]
    tags += ["retina"] if card.card["set"].get("modality") == "retina" else []
    found["tags"] = [*tags, *(["webdataset"] if card.published else []), *(["synthetic"] if card.card["set"].get("synthetic") else [])]
    if card.published:
        found["configs"] = [{"config_name": "default", "data_files": [{"split": "train", "path": card.published["pattern"]}]}]
    return found


def _body(card: Content) -> list[str]:
    say = card.say
    parts = [f"# {escape(card.title)}", escape(card.summary)]
    if card.protection:
        lead = say("protected_lead" if card.card["disclosure"].get("name") != "none" else "unprotected_lead")
        parts.append(f"> **{escape(lead)}** {escape(card.protection)}")
    parts.append(f"{escape(say('export_whole'))} [card.html](card.html)")
    for section in card.sections:
        made = [] if section["id"] in _LEFT_OUT else _section(card, section)
        if made:
            parts += [f"## {escape(section['title'])}", *made]
    registry = card.card["registry"]
    parts += [
        f"## {escape(say('section_items'))}",
        escape(say("items_lead", title=registry["title"], version=registry["version"])),
        _states(card),
    ]
    return parts


def _section(card: Content, section: dict[str, Any]) -> list[str]:
    say = card.say
    parts = [escape(t) for t in card.sentences(section["id"])]
    for block in section["blocks"]:
        if "figure" in block:
            parts.append(f"**{escape(block['answer'])}**")
        if "facts" in block:
            parts.append("\n".join(f"- {escape(f['term'])}: {escape(f['text'])}" for f in block["facts"]))
        if "glance" in block:
            rows = [[g["value"], g["label"], g["beside"]] for g in block["glance"]]
            parts.append(table([" ", " ", " "], rows, [True, False, False]))
        if "heading" in block:
            parts.append(f"### {escape(block['heading'])}")
        parts += [escape(t) for t in block.get("words", [])]
        if "citation" in block:
            parts.append(f"{escape(say('cite'))}: {escape(block['citation'])}")
        if "note" in block:
            parts.append(f"> {escape(block['note'])}")
        if "table" in block and block["table"] in card.tables:
            parts.append(_table(card, card.tables[block["table"]]))
        for item in block.get("items", []):
            words = card.answered(item)
            if words:
                heading = escape(f"{item} {card.card['items'][item]['heading']}")
                parts += [f"**{heading}** {escape(words[0])}", *(escape(w) for w in words[1:])]
    return parts


def _table(card: Content, of: Table) -> str:
    say = card.say
    columns = [c for c in of.columns if not c.id.endswith(("_low", "_high"))]  # an interval stands in its value's cell
    if len(of.rows) > MOST_ROWS or len(columns) > MOST_COLUMNS:
        return escape(say("export_larger", caption=of.caption, n=sum(len(r) > 1 for r in of.rows))) + " [card.html](card.html)"
    ids = [c.id for c in of.columns]
    rows = []
    for row in of.rows:
        cells = dict(zip(ids, row, strict=False))
        rows.append([str(row[0])] if len(row) == 1 else [_cell(card, cells, c) for c in columns])
    if of.total:
        total = dict(zip(ids, of.total, strict=True))
        rows.append(["" if total[c.id] is None else _cell(card, total, c) for c in columns])
    return "\n\n".join(
        [
            f"*{escape(of.caption)}*",
            table([c.label for c in columns], rows, [c.kind != "text" for c in columns]),
            *(escape(n) for n in of.notes),
        ]
    )


def _cell(card: Content, cells: dict[str, Cell], column: Column) -> str:
    say, value = card.say, cells[column.id]
    text = say.cell(value, column.kind)
    low, high = (cells.get(f"{column.id}_{end}") for end in ("low", "high"))
    if any(isinstance(v, Suppressed) or v is None for v in (value, low, high)):
        return text
    return say("interval", value=text, low=say.cell(low, column.kind), high=say.cell(high, column.kind))


def _states(card: Content) -> str:
    items = card.card["items"]
    rows = [[str(i), str(a["heading"]), card.state(a["state"])] for i, a in items.items()]
    return table([" ", card.say("item"), card.say("state")], rows, [False, False, False])


def missing(card: Content) -> list[str]:
    """List what README.md lacks for Hugging Face, a line each that says what to do."""
    lines = []
    if not card.about("licence"):
        lines.append("license is 'unknown': write the licence under about, licence (as CC BY 4.0)")
    if isinstance(card.count("images"), Suppressed):
        lines.append("size_categories is missing: so few people are in the set that its photographs may not be counted")
    if not card.published:
        lines.append("configs is missing: there is no shard set beside this card")
    return lines
