"""card.yaml: what people may write, and what they are told where it can't be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from cards.answer_draft import draft, update
from cards.answer_file import read_answers
from cards.answers import ABOUT, AnswerFile, resolve
from cards.catalogue import placeholders, read_catalogue
from cards.registry import read_registries, read_registry
from curate import UserError

REGISTRY, SAY = read_registry(), read_catalogue()
KNOWN = [i.id for i in REGISTRY.items]


def read(tmp_path: Path, text: str) -> AnswerFile:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return read_answers(path, KNOWN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("items: {1.9z: {answer: x}}", "no item '1.9z'"),
        ("items: {1.1a: {state: repotred}}", "did you mean 'reported'"),
        ("items: {1.1a: {state: cannot be reported}}", "1.1a: 'cannot be reported' needs a reason"),
        ("items: {1.1a: {state: not applicable, reason: ''}}", "needs a reason"),
        ("items: {1.1a: {anser: x}}", "no field of 1.1a 'anser'; did you mean 'answer'"),
        ("items: {1.1a: hello}", "expected the fields state, answer and reason"),
        ("items: {1.1a: {answer: [a, b]}}", "expected text"),
        ("about: {licens: x}", "did you mean 'licence'"),
        ("about:\n  title: a: b", "line 2: not YAML"),
        ("- a", "expected the fields 'about' and 'items'"),
        ("items: [1]", "'items' must hold fields"),
        ("about: {title: a}\n\nitems:\n  1.1a:\n    stat: x", "line 5: no field of 1.1a 'stat'; did you mean 'state'"),
        ("items:\n  1.1a: {answer: a}\n  1.1a: {answer: b}", "line 3: item '1.1a' is there already, in line 2"),
        ("registries: [helthsheet]", "line 1, registries: no registry 'helthsheet'; did you mean 'healthsheet'"),
        ("items:\n  1.1a:\n    answer: | on the same line", "line 3: not YAML"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_answer_is_reported_and_a_state_with_a_reason_stands(tmp_path: Path) -> None:
    given = read(tmp_path, "items:\n  1.4a: {answer: Approved.}\n  1.2b: {state: cannot be reported, reason: Never recorded.}\n")
    states = {a.item.id: a for a in resolve(REGISTRY.items, given, {"1.2b": ["Computed."]}, SAY)}
    assert (states["1.4a"].state, states["1.4a"].paragraphs) == ("reported", ["Approved."])
    assert (states["1.2b"].state, states["1.2b"].reason) == ("cannot be reported", "Never recorded.")
    assert (states["1.4b"].state, states["1.4b"].reason) == ("not available", "not answered yet")


def test_reported_without_an_answer_is_refused(tmp_path: Path) -> None:
    given = read(tmp_path, "items: {1.4a: {state: reported}}")
    with pytest.raises(UserError, match=r"1\.4a: the state is 'reported' but there is no answer"):
        resolve(REGISTRY.items, given, {}, SAY)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    nasty = 'a "quoted": text # with \u2028 separators {braces} and \\backslashes\n  1.1a: {state: reported}'
    given = read(tmp_path, draft([REGISTRY], {"1.2a": [nasty]}, SAY))
    assert set(given.items) == set(KNOWN)
    assert set(given.about) == set(ABOUT)
    assert not any(given.about.values())
    assert all(not any(v.values()) for v in given.items.values())


def test_scalars_stay_as_they_were_written(tmp_path: Path) -> None:
    given = read(tmp_path, "about: {version: 1.10, released: 2026-01-31, title: yes, licence: ~}\n")
    assert given.about == {"version": "1.10", "released": "2026-01-31", "title": "yes", "licence": ""}


def filled(text: str) -> str:
    """Fill in a draft as a hurried hand does: comments, other indentation, a paragraph, an item taken out."""
    text = text.replace('title: ""', "title: 'Eyes: a set'  # ours")
    before, after = text.split('  "1.1a":', 1)
    first, rest = after.split('  "1.1b":', 1)
    first = first.replace(
        "    answer: |\n",
        "    # asked the ward on Monday\n    answer: |\n        Two lines,\n\n        #: and one that looks like the tool's.\n",
    )
    rest = rest[: rest.index('  "1.4b":')] + rest[rest.index('  "1.4c":') :]
    return f'{before}  "1.1a":{first}  "1.1b":{rest}'


def test_update_adds_what_is_new_and_keeps_every_answer_and_comment(tmp_path: Path) -> None:
    text = filled(draft([REGISTRY], {"1.1a": ["900 photographs."]}, SAY))
    before = read(tmp_path, text)
    registries = read_registries(["beamrad"])
    renewed, added = update(tmp_path / "card.yaml", text, registries, {"1.1a": ["905 photographs."]}, SAY)
    (tmp_path / "card.yaml").write_text(renewed, encoding="utf-8")
    after = read_answers(tmp_path / "card.yaml", [*KNOWN, "B1", "B2", "B3"])
    assert added == ["1.4b", "B1", "B2", "B3"]
    assert after.registries == ("beamrad",)
    assert after.about == before.about
    assert {k: after.items[k] for k in before.items} == before.items
    assert after.items["1.1a"]["answer"] == "Two lines,\n\n#: and one that looks like the tool's."
    assert "#: Computed: 905 photographs." in renewed
    assert "900 photographs" not in renewed
    assert "# asked the ward on Monday" in renewed
    assert update(tmp_path / "card.yaml", renewed, registries, {"1.1a": ["905 photographs."]}, SAY) == (renewed, [])


def test_update_fills_a_file_that_says_almost_nothing(tmp_path: Path) -> None:
    renewed, added = update(tmp_path / "card.yaml", "about:\n  title: Mine\n", [REGISTRY], {}, SAY)
    given = read(tmp_path, renewed)
    assert added == [*(a for a in ABOUT if a != "title"), *KNOWN]
    assert given.about["title"] == "Mine"


def test_update_refuses_a_layout_that_it_cannot_add_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="line 2: 'items' is written on one line"):
        update(tmp_path / "card.yaml", "# mine\nitems: {1.1a: {answer: x}}\n", [REGISTRY], {}, SAY)


def test_the_registry_holds_eighteen_items_on_documentation_and_three_drafts_on_use() -> None:
    assert len([i for i in REGISTRY.items if i.part != "2"]) == 18
    assert [i.id for i in REGISTRY.items if i.part == "2"] == ["2.1a", "2.2a", "2.2b"]
    assert REGISTRY.awaiting[0]["number"] == 8
    assert all(i.source and i.evidence and i.asks and i.verified_against_primary is False for i in REGISTRY.items)


def test_every_string_can_be_filled_in() -> None:
    for name, text in SAY.strings.items():
        assert all(f.isidentifier() for f in placeholders(text)), name
    assert SAY.percent(0.2) == "< 1 %"
    assert SAY.percent(99.7) == "> 99 %"
    assert SAY.percent(100.0) == "100 %"
    assert SAY.decimal(-0.0004, 3) == "0.000"
