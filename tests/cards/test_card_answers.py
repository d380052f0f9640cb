"""card.yaml: what people may write, and what they are told where it can't be right."""

from __future__ import annotations

from pathlib import Path

import pytest

from cards.answers import AnswerFile, read_answers, resolve, write_answers
from cards.catalogue import read_catalogue
from cards.registry import read_registry
from curate import UserError

REGISTRY, SAY = read_registry(), read_catalogue()


def read(tmp_path: Path, text: str) -> AnswerFile:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return read_answers(path, REGISTRY)


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
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_answer_is_reported_and_a_state_with_a_reason_stands(tmp_path: Path) -> None:
    given = read(tmp_path, "items:\n  1.4a: {answer: Approved.}\n  1.2b: {state: cannot be reported, reason: Never recorded.}\n")
    states = {a.item.id: a for a in resolve(REGISTRY, given, {"1.2b": ["Computed."]}, SAY)}
    assert (states["1.4a"].state, states["1.4a"].paragraphs) == ("reported", ["Approved."])
    assert (states["1.2b"].state, states["1.2b"].reason) == ("cannot be reported", "Never recorded.")
    assert (states["1.4b"].state, states["1.4b"].reason) == ("not available", "not answered yet")


def test_reported_without_an_answer_is_refused(tmp_path: Path) -> None:
    given = read(tmp_path, "items: {1.4a: {state: reported}}")
    with pytest.raises(UserError, match=r"1\.4a: the state is 'reported' but there is no answer"):
        resolve(REGISTRY, given, {}, SAY)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    nasty = 'a "quoted": text # with \u2028 separators {braces} and \\backslashes'
    given = read(tmp_path, write_answers(REGISTRY, {"1.2a": [nasty]}, SAY))
    assert set(given.items) == {i.id for i in REGISTRY.items}
    assert all(not any(v.values()) for v in given.items.values())


def test_the_registry_holds_eighteen_items_on_documentation_and_three_drafts_on_use() -> None:
    assert len([i for i in REGISTRY.items if i.part != "2"]) == 18
    assert [i.id for i in REGISTRY.items if i.part == "2"] == ["2.1a", "2.2a", "2.2b"]
    assert REGISTRY.awaiting[0]["number"] == 8
    assert all(i.source and i.evidence and i.asks and i.verified_against_primary is False for i in REGISTRY.items)


def test_every_string_can_be_filled_in() -> None:
    import string

    for name, text in SAY.strings.items():
        for form in text.values() if isinstance(text, dict) else [text]:
            fields = {f for _, f, _, _ in string.Formatter().parse(form) if f}
            assert all(f.isidentifier() for f in fields), name
    assert SAY.percent(0.2) == "< 1 %"
    assert SAY.percent(99.7) == "> 99 %"
    assert SAY.percent(100.0) == "100 %"
    assert SAY.decimal(-0.0004, 3) == "0.000"
