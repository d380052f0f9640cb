"""``cards check``: what is open, what contradicts the data, and what must not be called a contradiction."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from card_artefacts import cohort_table, make_project, write_cohort

from cards.answer_file import read_answers
from cards.build import known_items
from cards.check import examine, facts_of
from cards.facts import Facts
from cards.policy import policy_named
from cards.registry import all_items, read_registries
from cards.sources import read_sources

ABOUT = (
    "about: {title: A set, custodian: A hospital, contact: data@example.org, licence: CC-BY-4.0, url: 'https://example.org/set', "
    "creators: A; B, released: 2026-01-31, version: '1.0', funding: none}\n"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    table = cohort_table(900)
    table["consent"] = None
    female = table["patient_id"].map(lambda p: int(p[1:]) % 100 < 37)
    table["sex"] = female.map({True: "female", False: "male"})
    table.loc[table["patient_id"].isin(sorted(table["patient_id"].unique())[:40]), "age"] = 15.0
    return make_project(tmp_path_factory.mktemp("check") / "p", table)


@pytest.fixture(scope="module")
def facts(project: Path) -> Facts:
    """What the data say, found once: what differs between the tests is what people wrote."""
    where = [project / name for name in ("cohort", "shards", "runs", "evaluation", "identify")]
    return facts_of(read_sources(*where), policy_named("opensafely"), read_registries(), {})


def check(facts: Facts, tmp_path: Path, text: str, registries: tuple[str, ...] = ()) -> dict[str, Any]:
    path = tmp_path / "card.yaml"
    path.write_text(text, encoding="utf-8")
    return examine(read_answers(path, known_items()), all_items(read_registries(registries)), facts)


def about_one(facts: Facts, tmp_path: Path, answer: str) -> dict[str, Any]:
    return check(facts, tmp_path, f"items: {{1.2a: {{answer: {json.dumps(answer)}}}}}\n")


@pytest.mark.parametrize(
    ("answer", "data"),
    [
        ("The set is balanced by sex.", "Female 3"),
        ("There are no patients under 18.", "people aged under 18"),
        ("All patients are 40 or older.", "people aged under 40"),
        ("There are no women in the set.", "people female"),
        ("Consent was recorded.", "consent is missing for 100 %"),
        ("Ethnicity was recorded for every patient.", "ethnicity is missing for"),
        ("Age was not recorded.", "age is recorded for 9"),
        ("There are no missing values.", "values are missing in"),
        ("Ethnicity is missing for 60 % of patients.", "ethnicity is missing for"),
        ("It contains 5,000 patients.", "900 people in the archive"),
        ("It contains more than 20,000 photographs.", "images in the archive"),
        ("The images were taken between 2012 and 2014.", "photographs are from 2008 to 2018"),
        ("50 % of patients are female.", "Female (sex) are"),
        ("About half is right: 90 % are over 70.", "over 70 (age) are"),
        ("The images come from five sites.", "sites: 2 in the archive"),
    ],
)
def test_a_claim_that_the_data_contradict_is_named_with_what_was_compared(facts: Facts, tmp_path: Path, answer: str, data: str) -> None:
    found = about_one(facts, tmp_path, answer)["contradictions"]
    assert len(found) == 1
    assert data in found[0]["data"]
    assert (found[0]["id"], found[0]["line"]) == ("1.2a", 1)


@pytest.mark.parametrize(
    "answer",
    [
        "There are no patients over 98.",
        "All patients are at least 15.",
        "Ethnicity was recorded.",
        "Device was recorded for every patient.",
        "It contains about 900 patients.",
        "It holds more than 1,000 photographs.",
        "The images were taken between 2008 and 2018.",
        "37 % of patients are female and 63 % are male.",
        "The images come from two sites.",
    ],
)
def test_a_claim_that_the_data_bear_out_agrees(facts: Facts, tmp_path: Path, answer: str) -> None:
    found = about_one(facts, tmp_path, answer)
    assert found["contradictions"] == []
    assert found["compared"]
    assert all(c["agrees"] for c in found["compared"])


def test_what_cannot_be_compared_is_said(facts: Facts, tmp_path: Path) -> None:
    found = about_one(facts, tmp_path, "Eye side is recorded. Race was recorded. Consent is missing for 100 % of patients.")
    assert [c["agrees"] for c in found["compared"]] == [True, True, True]
    table = cohort_table(200).assign(acquired_on=None)
    cohort = write_cohort(tmp_path / "cohort", table)
    other = facts_of(read_sources(cohort, *[tmp_path / "none"] * 4), policy_named("opensafely"), read_registries(), {})
    found = about_one(other, tmp_path, "The images were taken between 2012 and 2014.")
    assert [(c["agrees"], c["data"]) for c in found["compared"]] == [(None, "dates are recorded for nobody")]
    assert found["contradictions"] == []


def test_states_that_cannot_be_right_are_named(facts: Facts, tmp_path: Path) -> None:
    text = (
        "items:\n  1.4a: {state: reported}\n  1.3e: {state: not applicable, reason: none}\n"
        "  1.4b: {state: not available, answer: They did.}\n"
        "  1.4c: {reason: Nobody knows.}\n  1.2c: {answer: Some., reason: Why.}\n"
    )
    found = {f["id"]: (f["line"], f["why"]) for f in check(facts, tmp_path, text)["states_that_do_not_fit"]}
    assert set(found) == {"1.4a", "1.3e", "1.4b", "1.4c", "1.2c"}
    assert found["1.4a"] == (2, "the state is 'reported', but there is no answer and nothing was computed")
    assert found["1.3e"][1].startswith("the state is 'not applicable', but this was computed:")


def test_what_nobody_answered_is_open_and_a_reason_closes_it(facts: Facts, tmp_path: Path) -> None:
    text = (
        "items:\n  1.4a: {answer: Approved.}\n  1.4b: {state: not available, reason: Asked.}\n  1.4c: {state: not applicable, reason: x}\n"
    )
    opened = [o["id"] for o in check(facts, tmp_path, text)["open"]]
    assert not {"1.4a", "1.4b", "1.4c"} & set(opened)
    assert {"1.1c", "1.3f"} <= set(opened)
    assert "B1" in [o["id"] for o in check(facts, tmp_path, text, ("beamrad",))["open"]]


def test_fields_that_exports_need_are_named_with_the_export(facts: Facts, tmp_path: Path) -> None:
    lacking = {tuple(f["fields"]): f for f in check(facts, tmp_path, "about: {identifier: doi:10.5/x}\n")["about"]}
    assert lacking["licence",]["needed_by"] == ["croissant.json", "README.md"]
    assert ("url", "identifier") not in lacking
    shapes = check(
        facts,
        tmp_path,
        ABOUT.replace("2026-01-31", "January").replace("'https://example.org/set'", "example").replace("data@", "data at "),
    )
    assert [(f["fields"], f["needed_by"]) for f in shapes["about"]] == [(["released"], []), (["url"], []), (["contact"], [])]
    assert check(facts, tmp_path, ABOUT)["about"] == []


def test_numbers_that_the_policy_would_not_show_are_named(project: Path, facts: Facts, tmp_path: Path) -> None:
    people = 893  # makes no difference to what is counted; an exact count of the archive does
    archive = json.loads((project / "cohort" / "cohort.json").read_text())["counts"]["images"]
    answer = f"We left out 3 patients. A panel of 4 people agreed. {people} letters came. There are {archive:,} photographs."
    said = [f["why"] for f in about_one(facts, tmp_path, answer)["disclosing"]]
    assert said[0] == "counts 3 people: the policy shows no count of 1 to 7"
    assert [f"{archive:,} is an exact count" in s for s in said[1:]] == [True] * (archive % 5 != 0)


def test_answers_in_another_language_are_not_guessed_at(facts: Facts, tmp_path: Path) -> None:
    found = check(facts, tmp_path, "language: de\nitems: {1.2a: {answer: balanced by sex.}}\n")
    assert found["compared"] == []
    assert "only English is read" in found["notes"][0]


def test_strict_exits_with_one(project: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from cards.cli import app

    (tmp_path / "card.yaml").write_text("items: {1.2a: {answer: The set is balanced by sex.}}\n")
    where = [a for n in ("cohort", "shards", "runs", "evaluation") for a in (f"--{n}", str(project / n))]
    done = CliRunner().invoke(app, ["check", *where, "--answers", str(tmp_path / "card.yaml")])
    assert done.exit_code == 0, done.output
    assert "Contradicts the data:" in done.output
    assert "read as: balance" in done.output
    assert CliRunner().invoke(app, ["check", *where, "--answers", str(tmp_path / "card.yaml"), "--strict"]).exit_code == 1


def test_a_card_that_says_everything_is_clear(facts: Facts, tmp_path: Path) -> None:
    items = "".join(f"  {i}: {{answer: See the protocol.}}\n" for i in known_items())
    found = check(facts, tmp_path, f"{ABOUT}items:\n{items}")
    assert found["clear"]
    assert "score" not in json.dumps(found)
