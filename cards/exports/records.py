"""The files and records of a set in Croissant's terms, the card's counts as annotations."""

from __future__ import annotations

import re
from typing import Any

from cards.exports.content import Content
from cards.policy import Suppressed
from cards.tables import Cell, Table

COUNTED = ("age", "sex", "ethnicity", "device", "site", "year")  # tables of people by group, where the card has them
_CARDINALITY = "wd:Q4049983"  # the number of members of a set, as the specification's example has it


def distribution(card: Content) -> list[dict[str, Any]]:
    """List the files: each tar with its checksum, or the index with its own and the tars as a pattern; and what the tars hold."""
    files = card.published
    if not files:
        return []
    tars = files["tars"]
    found = [{**_file(t["name"], "application/x-tar"), **({"sha256": t["sha256"]} if "sha256" in t else {"md5": t["md5"]})} for t in tars]
    if files["index"]:
        found.append({**_file(files["index"]["name"], "application/x-parquet"), "sha256": files["index"]["sha256"]})
    if not tars:
        found.append(_set("shards", "application/x-tar", files["pattern"], None))
    inside = [{"@id": t["name"]} for t in tars] or {"@id": "shards"}
    found.append(_set("jpeg-files", "image/jpeg", "*.jpg", inside))
    found.append(_set("json-files", "application/json", "*.json", inside))
    return found


def _file(name: str, encoding: str) -> dict[str, Any]:
    # The address is relative: the card is published in the folder of the tars.
    return {"@type": "cr:FileObject", "@id": name, "name": name, "contentUrl": name, "encodingFormat": encoding}


def _set(name: str, encoding: str, includes: str, inside: Any) -> dict[str, Any]:
    found = {"@type": "cr:FileSet", "@id": name, "name": name, "encodingFormat": encoding, "includes": includes}
    return found if inside is None else {**found, "containedIn": inside}


def record_sets(card: Content) -> list[dict[str, Any]]:
    """Describe one record a photograph, its JSON as another, and how many people and photographs there are."""
    annotations = _headline(card)
    by_group = {a: _annotation(card, card.tables[a]) for a in COUNTED if a in card.tables}
    photographs: dict[str, Any] = {"@type": "cr:RecordSet", "@id": "photographs", "name": "photographs"}
    if not card.published:
        return [{**photographs, "annotation": [*annotations, *by_group.values()]}]
    fields = []
    for i, column in enumerate(card.published["columns"]):
        field = _json_field(f"descriptions/{i}", column)
        if column in by_group:
            field["annotation"] = [by_group.pop(column)]
        fields.append(field)
    key = _field("photographs/key", "key", "sc:Text", "jpeg-files", {"fileProperty": "filename"})
    key["source"]["transform"] = {"regex": r"^(.*)\.jpg$"}
    image = _field("photographs/image", "image", "sc:ImageObject", "jpeg-files", {"fileProperty": "content"})
    photographs["key"] = {"@id": "photographs/key"}
    photographs |= {"annotation": [*annotations, *by_group.values()], "field": [key, image]}
    return [photographs, {"@type": "cr:RecordSet", "@id": "descriptions", "name": "descriptions", "field": fields}]


def _field(identifier: str, name: str, kind: str, source: str, extract: dict[str, str]) -> dict[str, Any]:
    of = {"fileSet": {"@id": source}, "extract": extract}
    return {"@type": "cr:Field", "@id": identifier, "name": name, "dataType": kind, "source": of}


def _json_field(identifier: str, column: str) -> dict[str, Any]:
    whole = column in ("width", "height")
    # A name that could end the path is left to the reader: JSONPath has no escape that every reader knows.
    plain = re.fullmatch(r"[^'\"\\\[\]]+", column)
    path = f"$.{column}" if re.fullmatch(r"[A-Za-z_]\w*", column, re.A) else f"$['{column}']" if plain else "$"
    return _field(identifier, column, "sc:Integer" if whole else "sc:Text", "json-files", {"jsonPath": path})


def _headline(card: Content) -> list[dict[str, Any]]:
    say = card.say
    names = {"images": say("images"), "people": say("people")}
    return [_count(f"photographs/{what}", name, card.count(what), say("hidden")) for what, name in names.items()]


def _annotation(card: Content, of: Table) -> dict[str, Any]:
    """Give a table of people by group as an annotation with a field a group; of the set, or of the archive where there is none."""
    ids = [c.id for c in of.columns]
    at = ids.index("set") if "set" in ids else ids.index("source")
    root = f"photographs/people-by-{of.id}"
    rows = [row for row in of.rows if len(row) > at]
    fields = [_count(f"{root}/{i}", str(row[0]), row[at], card.say("hidden")) for i, row in enumerate(rows)]
    return {"@type": "cr:Field", "@id": root, "name": f"{of.caption} ({of.columns[at].label})", "subField": fields}


def _count(identifier: str, name: str, value: Cell, hidden: str) -> dict[str, Any]:
    shown = not isinstance(value, Suppressed) and value is not None
    kind = ["sc:Integer", _CARDINALITY] if shown else ["sc:Text"]
    return {"@type": "cr:Field", "@id": identifier, "name": name, "dataType": kind, "value": value if shown else hidden}
