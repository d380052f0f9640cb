"""The published schema of card.json: valid, complete, closed, and what the built cards are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from card_artefacts import build, cohort_table, write_cohort
from exported import make_published

from cards.catalogue import templates_folder
from cards.exports.content import FORMAT
from cards.exports.write import export_card

OPEN = {"tables", "items", "inputs", "words"}  # keyed by ids


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json.loads((templates_folder() / "schema" / "card.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory, project: Path, twin: dict[str, Any]) -> list[dict[str, Any]]:
    """A rich card, one with every registry and a set with tars, and one of a cohort alone."""
    folder = tmp_path_factory.mktemp("schema")
    published = make_published(folder / "rich", policy="none", registries=("healthsheet", "datasheets", "beamrad"))
    write_cohort(folder / "bare" / "cohort", cohort_table(60), measured=False)
    build(folder / "bare")
    places = (published, folder / "bare" / "card")
    return [twin, *(json.loads((p / "card.json").read_text(encoding="utf-8")) for p in places)]


def objects(node: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield path, node
        for key, value in node.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from objects(value, f"{path}/{i}")


def test_it_is_a_schema_of_the_format_that_cards_name(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["properties"]["format"]["const"] == schema["title"] == FORMAT


def test_built_cards_are_valid(schema: dict[str, Any], cards: list[dict[str, Any]]) -> None:
    for card in cards:
        found = [f"{list(e.absolute_path)}: {e.message[:120]}" for e in jsonschema.Draft202012Validator(schema).iter_errors(card)]
        assert found == []


def test_every_object_is_closed_and_every_key_described(schema: dict[str, Any]) -> None:
    seen = 0
    for path, node in objects(schema):
        seen += 1
        if path.rsplit("/", 1)[-1] in OPEN:
            assert node["additionalProperties"] not in (True, {}), path
            continue
        assert node["additionalProperties"] is False, path
        for name, value in node["properties"].items():
            if "$ref" not in value and "pattern" not in value and path.rsplit("/", 1)[0] not in ("/$defs",):
                assert value.get("description") or name in ("people", "images"), f"{path}/{name}"
    assert seen > 20


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, dict):
        yield path
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield from places(value, (*path, key))


def test_a_key_that_the_schema_does_not_know_is_found_anywhere(schema: dict[str, Any], cards: list[dict[str, Any]]) -> None:
    validator = jsonschema.Draft202012Validator(schema)
    card = {**cards[1], "tables": {"age": cards[1]["tables"]["age"]}, "items": {"1.1a": cards[1]["items"]["1.1a"]}}
    assert validator.is_valid(card)
    tried = set()
    for path in places(card):
        changed = copy.deepcopy(card)
        place: Any = changed
        for step in path:
            place = place[step]
        kind = (*(s for s in path if isinstance(s, str)), *sorted(place))
        if kind in tried or (path and path[-1] in OPEN):
            continue
        place["nobody's key"] = 1
        assert not validator.is_valid(changed), path
        tried.add(kind)
    assert len(tried) > 25


@pytest.mark.parametrize("value", [True, -5, "5", {"suppressed": False}, {}])
def test_a_count_is_a_number_or_suppressed_and_nothing_between(schema: dict[str, Any], cards: list[dict[str, Any]], value: Any) -> None:
    changed = copy.deepcopy(cards[0])
    changed["counts"]["people"]["archive"] = value
    assert not jsonschema.Draft202012Validator(schema).is_valid(changed)


def test_the_schema_is_exported_as_it_is_published(cards: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "card.json").write_text(json.dumps(cards[0]))
    made = export_card("json-schema", tmp_path)
    published = templates_folder() / "schema" / "card.schema.json"
    assert Path(made["files"][0]).read_bytes() == published.read_bytes()


def test_the_schema_goes_into_the_wheel(schema: dict[str, Any]) -> None:
    import tomllib

    root = templates_folder().parent
    included = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included["templates"] == "cards/templates"  # the whole folder, schema/ with it
