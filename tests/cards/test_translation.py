"""Translation: nothing is missing, nothing is left over, and no English stays on the German page."""

from __future__ import annotations

import html as markup
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from card_artefacts import build, cohort_table, make_project

from cards.catalogue import PLURALS, languages, placeholders, read_catalogue, read_yaml, templates_folder
from cards.policy import HIDDEN
from cards.registry import read_registry, registry_names
from curate import UserError

ROOT = Path(__file__).resolve().parents[2]
ENGLISH = read_catalogue()
TRANSLATIONS = [name for name in languages() if name != "en"]


class Unique(yaml.SafeLoader):
    """Refuses a mapping that says something twice."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(k) for k, _ in node.value]  # type: ignore[no-untyped-call]
    twice = {k for k in keys if keys.count(k) > 1}
    assert not twice, f"given twice: {twice}"
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


Unique.add_constructor("tag:yaml.org,2002:map", _mapping)


@pytest.mark.parametrize("name", languages())
def test_no_text_is_given_twice(name: str) -> None:
    yaml.load((templates_folder() / "strings" / f"{name}.yaml").read_text(encoding="utf-8"), Loader=Unique)


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_a_shipped_translation_lacks_nothing(name: str) -> None:
    say = read_catalogue(name)
    assert say.untranslated == ()
    for registry in map(read_registry, registry_names()):
        words = say.registries[registry.id]
        assert set(words["items"]) == {i.id for i in registry.items}
        assert set(words["parts"]) == set(registry.parts)
        assert all(set(w) == {"heading", "asks", "question", "good_answer"} for w in words["items"].values())


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_placeholders_and_plural_forms_agree(name: str) -> None:
    say = read_catalogue(name)
    for key, text in ENGLISH.strings.items():
        assert placeholders(say.strings[key]) == placeholders(text), key
        assert isinstance(say.strings[key], type(text)), key
        if isinstance(text, dict):
            assert set(say.strings[key]) == set(text), key


def sources() -> str:
    files = [*(ROOT / "cards").rglob("*.py"), *templates_folder().glob("*.j2"), *templates_folder().glob("*.js")]
    return "\n".join(p.read_text(encoding="utf-8") for p in files)


def test_every_text_is_used_and_every_text_used_is_there() -> None:
    code = sources()
    quoted = set(re.findall(r"""["']([A-Za-z][\w-]*)["']""", code))
    # Names that are put together: say(f"rule_{rule}"), say("state_" ~ state), work.say(f"computed_{attribute}s").
    prefixes = set(re.findall(r"""["']([a-z][a-z_]*_)(?:\{|["'] ~|["'] \+)""", code))
    unused = [k for k in ENGLISH.strings if k not in quoted and not any(k.startswith(p) for p in prefixes)]
    assert unused == []
    asked = set(re.findall(r"""\bsay\(\s*["']([a-z][\w-]*)["']\s*[,)]""", code))
    assert sorted(asked - set(ENGLISH.strings)) == []


@pytest.fixture(scope="module")
def german(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_project(tmp_path_factory.mktemp("german") / "p")
    (folder / "card").mkdir()
    (folder / "card" / "card.yaml").write_text(
        "language: de\nregistries: [healthsheet, datasheets, beamrad]\nabout: {released: '2026-01-31', version: '1.0'}\n", encoding="utf-8"
    )
    build(folder)
    return folder / "card"


def pieces(text: Any) -> list[str]:
    """Give the stretches of a text between its placeholders that are long enough to be told apart."""
    forms = text.values() if isinstance(text, dict) else text if isinstance(text, list) else [text]
    return [p.strip() for form in forms for p in re.split(r"\{[^}]*\}", str(form)) if len(p.strip()) >= 12 and " " in p.strip()]


def test_no_english_sentence_is_left_on_the_german_page(german: Path) -> None:
    page = markup.unescape((german / "card.html").read_text(encoding="utf-8"))
    page = re.sub(r"<style.*?</style>|<script.*?</script>", "", page, flags=re.S)
    say = read_catalogue("de")
    # The fixture's evaluation calls its adaptation so itself: a name, not a text of the card.
    words = [p for k, t in ENGLISH.strings.items() if t != say.strings[k] for p in pieces(t) if p != "linear probe"]
    for registry in map(read_registry, registry_names()):
        words += [getattr(i, f) for i in registry.items for f in ("asks", "question", "good_answer")]
        words += list(registry.parts.values())
    assert len(words) > 300
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert [w for w in words if w in text] == []
    assert "under 40" not in text
    assert "unter 40" in text
    assert "die Mittel" not in text
    assert "das Mittel dieser 5 trainierten Köpfe" in text


def test_the_german_page_names_its_language_and_writes_numbers_and_dates_its_way(german: Path) -> None:
    page = (german / "card.html").read_text(encoding="utf-8")
    twin = json.loads((german / "card.json").read_text(encoding="utf-8"))
    assert '<html lang="de" dir="ltr">' in page
    assert twin["language"] == "de"
    assert "31. Januar 2026" in page
    assert re.search(r">1\.\d{3}<", page)
    say = read_catalogue("de")
    assert (say.whole(12345), say.decimal(1234.5), say.percent(12.3, 1)) == ("12.345", "1.234,5", "12,3 %")
    assert say("n_people", n=1) == "einem Menschen"


def test_the_same_numbers_stand_on_both_pages(german: Path, tmp_path: Path) -> None:
    build(german.parent, out=tmp_path / "card", language="en", answers=german / "card.yaml")
    numbers = []
    for folder in (german, tmp_path / "card"):
        tables = json.loads((folder / "card.json").read_text(encoding="utf-8"))["tables"]
        numbers.append({k: [[c for c in r if not isinstance(c, str)] for r in t["rows"]] for k, t in tables.items()})
    assert numbers[0] == numbers[1]


def write(path: Path, **changes: Any) -> str:
    content = {"language": "ar-x-pseudo", "direction": "rtl", "plurals": "arabic", "strings": {}} | changes
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return str(path)


def test_a_language_of_ones_own_may_run_from_right_to_left(tmp_path: Path) -> None:
    folder = make_project(tmp_path / "p", cohort_table(400))
    strings = {k: f"‏⟦{t}⟧" for k, t in ENGLISH.strings.items() if isinstance(t, str) and k.startswith("section_")}
    made = build(folder, language=write(tmp_path / "pseudo.yaml", strings=strings))
    page = (folder / "card" / "card.html").read_text(encoding="utf-8")
    assert '<html lang="ar-x-pseudo" dir="rtl">' in page
    assert "⟦Who is in it⟧" in page
    assert made["untranslated"] == len(ENGLISH.strings) - len(strings)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strings": {"kiker": "x"}}, "no text 'kiker'; did you mean 'kicker'"),
        ({"strings": {"figure": "Abbildung {m}"}}, "figure: no placeholder '{m}'"),
        ({"strings": {"n_people": {"one": "x"}}}, "n_people: expected plural forms"),
        ({"direction": "up"}, "'direction' must be ltr or rtl"),
        ({"plurals": "martian"}, "'plurals' must be one of"),
        ({"language": ""}, "expected the fields"),
    ],
)
def test_a_translators_slip_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read_catalogue(write(tmp_path / "x.yaml", **changes))
    assert message in str(error.value)


def test_a_language_that_there_is_not_is_a_user_error() -> None:
    with pytest.raises(UserError, match="no such language"):
        read_catalogue("tlh")


@pytest.mark.parametrize(
    ("rule", "numbers"),
    [
        ("one-other", {0: "other", 1: "one", 2: "other", 21: "other"}),
        ("zero-one-other", {0: "one", 1: "one", 2: "other"}),
        ("other", {1: "other", 5: "other"}),
        ("czech", {1: "one", 3: "few", 5: "other"}),
        ("polish", {1: "one", 2: "few", 12: "many", 22: "few", 21: "many"}),
        ("slavic", {1: "one", 21: "one", 11: "many", 22: "few", 5: "many"}),
        ("arabic", {0: "zero", 1: "one", 2: "two", 3: "few", 11: "many", 100: "other", 103: "few"}),
    ],
)
def test_plural_rules_are_those_of_cldr(rule: str, numbers: dict[int, str]) -> None:
    assert {n: PLURALS[rule](n) for n in numbers} == numbers


def test_dates_are_written_in_words_and_what_is_no_date_stays() -> None:
    assert ENGLISH.date("2026-01-31") == "31 January 2026"
    assert ENGLISH.date("in spring") == "in spring"
    assert ENGLISH("n_people", n=HIDDEN) == "very few people"


def test_the_registries_are_whole_and_their_ids_unique() -> None:
    items = [i for name in registry_names() for i in read_registry(name).items]
    assert len({i.id for i in items}) == len(items)
    assert all(i.source and i.evidence and i.asks and i.question and i.good_answer for i in items)
    assert not any(i.verified_against_primary for i in items)
    sections = {k.removeprefix("section_") for k in ENGLISH.strings if k.startswith("section_")}
    assert {i.section for i in items} <= sections
    assert read_yaml(templates_folder() / "registry" / "healthsheet.yaml")["id"] == "healthsheet"
