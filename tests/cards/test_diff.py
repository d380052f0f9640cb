"""cards diff and cards build --previous: what changed between two cards, and what both together must not give away."""

from __future__ import annotations

import copy
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from card_artefacts import build, cohort_table, make_project, write_cohort
from card_attack import build_numbers, random_sources
from typer.testing import CliRunner

from cards.cli import app
from cards.diff.compare import as_text, compare
from cards.diff.page import diff_cards
from cards.diff.risk import refuse, revealed
from cards.protection.reading import read_twin
from curate import UserError


def tiny(policy: str, people: dict[str, Any], counts: dict[str, int | None]) -> dict[str, Any]:
    """A card of one table: people by sex."""
    from cards.policy import policy_named

    hidden = {"suppressed": True}
    names = (("group", "Sex", "text"), ("source", "People", "count"))
    columns = [{"id": i, "label": label, "kind": kind} for i, label, kind in names]
    rows = [[name, hidden if n is None else n] for name, n in people.items()]
    return {
        "format": "evenfooting card 1", "language": "en", "title": "A set", "about": {"version": ""}, "items": {},
        "disclosure": policy_named(policy).describe(), "counts": {"people": {"archive": counts["archive"], "set": None}},
        "sections": [{"id": "who", "title": "Who is in it", "blocks": [{"table": "sex"}]}],
        "tables": {"sex": {"caption": "People by sex", "columns": columns, "rows": rows}},
    }  # fmt: skip


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two published cards: the second after 400 people joined, a reworded answer, another evaluation."""
    folder = make_project(tmp_path_factory.mktemp("diff") / "p", cohort_table(800))
    build(folder, out=folder / "old")
    table = cohort_table(1200)
    later = make_project(tmp_path_factory.mktemp("diff") / "p", table)
    (later / "new").mkdir()
    (later / "new" / "card.yaml").write_text("about: {custodian: An eye hospital}\nitems:\n  1.4a: {answer: Approved.}\n")
    estimates = pd.read_parquet(later / "evaluation" / "estimates.parquet")
    estimates["value"] = estimates["value"] - 0.05
    estimates.to_parquet(later / "evaluation" / "estimates.parquet", index=False)
    build(later, out=later / "new", previous=folder / "old")
    return folder / "old", later / "new"


def test_every_kind_of_change_is_listed(cards: tuple[Path, Path]) -> None:
    found = diff_cards(*cards)
    parts = {p["id"]: p for p in found["parts"]}
    assert {"who", "sampling", "performance", "provenance", "answers"} <= set(parts)
    rows = {r[0]: r[1:] for r in parts["who"]["tables"]["diff-sex"]["rows"]}
    old, new = (read_twin(p)["tables"]["sex"]["rows"] for p in cards)
    female = [next(r for r in rows if r[0] == "Female")[1] for rows in (old, new)]
    assert rows["Female · People, archive"] == [f"{female[0]:,}", f"{female[1]:,}", f"+{female[1] - female[0]:,}"]
    answers = {r[0]: r[1:] for t in parts["answers"]["tables"].values() for r in t["rows"]}
    assert answers["Custodian"] == [None, "An eye hospital", None]
    assert any(k.startswith("1.4a") and v[1] == "Approved." for k, v in answers.items())
    assert "Who is in it" in found["text"]


def test_a_card_does_not_differ_from_itself(project: Path) -> None:
    twin = read_twin(project / "card")
    found = compare(twin, twin)
    assert found.changes == 0
    assert as_text(found) == "Nothing changed between the two cards."


def test_a_change_of_any_one_number_is_found_though_columns_share_a_label(project: Path) -> None:
    twin = read_twin(project / "card")
    tried = 0
    for name, table in twin["tables"].items():
        labels = [column["label"] for column in table["columns"]]
        for at, column in enumerate(table["columns"]):
            row = next((n for n, r in enumerate(table["rows"]) if at < len(r) and isinstance(r[at], float)), None)
            if row is None or labels.count(column["label"]) == 1:
                continue
            changed = copy.deepcopy(twin)
            changed["tables"][name]["rows"][row][at] += 0.1
            assert compare(twin, changed).changes == 1, (name, column["id"])
            tried += 1
    assert tried >= 4


def test_a_change_of_policy_is_told() -> None:
    old, new = tiny("opensafely", {"Female": 50, "Male": 40}, {"archive": 90}), tiny("nhs_hes", {"Female": 50, "Male": 40}, {"archive": 90})
    assert "Policy: opensafely → nhs_hes" in as_text(compare(old, new))


def test_the_page_has_the_cards_style_and_policy_and_asks_nobody_for_anything(cards: tuple[Path, Path], tmp_path: Path) -> None:
    made = diff_cards(*cards, tmp_path / "out")
    html, card = (unescape(p.read_text(encoding="utf-8")) for p in (tmp_path / "out" / "diff.html", cards[1] / "card.html"))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)
    assert policy is not None
    assert "default-src 'none'" in policy.group(1)
    assert re.search(r"script-src '[^']+'", policy.group(1)).group() in card  # type: ignore[union-attr]
    assert not re.search(r'(src|href)="(?!#)', html)
    assert made["page"] == str(tmp_path / "out" / "diff.html")
    diff_cards(*cards, tmp_path / "again")
    assert (tmp_path / "again" / "diff.html").read_bytes() == (tmp_path / "out" / "diff.html").read_bytes()


def test_names_from_the_archive_are_escaped_on_the_page(tmp_path: Path) -> None:
    bad = "</script><img src=x onerror=alert(1)>"
    old, new = tiny("cms_11", {bad: 50}, {"archive": 50}), tiny("cms_11", {bad: 90}, {"archive": 90})
    for name, twin in (("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "card.json").write_text(json.dumps(twin))
    diff_cards(tmp_path / "old", tmp_path / "new", tmp_path)
    html = (tmp_path / "diff.html").read_text()
    assert bad not in html
    assert "&lt;img" in html


def test_three_people_more_are_not_shown_by_two_exact_cards() -> None:
    old, new = tiny("cms_11", {"Female": 50, "Male": 40}, {"archive": 90}), tiny("cms_11", {"Female": 53, "Male": 40}, {"archive": 93})
    assert revealed(old, new)
    with pytest.raises(UserError, match=r"by difference: .*'sex'") as refusal:
        refuse(old, new, "new")
    assert not re.search(r"\b(3|50|53|93)\b", str(refusal.value))
    assert "\n" not in str(refusal.value)


def test_rounding_leaves_a_small_change_open() -> None:
    old = tiny("opensafely", {"Female": 50, "Male": 40}, {"archive": 90})
    assert revealed(old, tiny("opensafely", {"Female": 55, "Male": 40}, {"archive": 95})) == {}


def test_a_cell_hidden_in_one_version_is_not_had_from_the_other() -> None:
    old = tiny("cms_11", {"Female": 50, "Male": None, "Other": None}, {"archive": 100})
    new = tiny("cms_11", {"Female": 50, "Male": 44, "Other": None}, {"archive": 100})
    assert revealed(old, new) == {"sex": 1}


def test_forty_people_more_are_no_secret() -> None:
    old, new = tiny("cms_11", {"Female": 50, "Male": 40}, {"archive": 90}), tiny("cms_11", {"Female": 70, "Male": 60}, {"archive": 130})
    assert revealed(old, new) == {}


@pytest.mark.parametrize("seed", [2, 5])
def test_a_build_that_knows_the_former_card_holds_back_what_both_would_show(seed: int) -> None:
    before, _ = build_numbers(random_sources(seed), "opensafely")
    later = random_sources(seed)
    assert later.sample is not None
    later.cohort.table.loc[later.cohort.table["patient_id"].isin({"P3", "P5", "P7"}), "sex"] = "male"
    after, _ = build_numbers(later, "opensafely", before)
    assert revealed(before, after) == {}


def test_a_build_that_cannot_be_made_safe_is_refused(tmp_path: Path) -> None:
    write_cohort(tmp_path / "cohort", cohort_table(120), measured=False)
    build(tmp_path, policy="cms_11")
    before = (tmp_path / "card" / "card.json").read_bytes()
    table = pd.read_parquet(tmp_path / "cohort" / "cohort.parquet")
    people = table["patient_id"].unique()[:4]
    table[~table["patient_id"].isin(people)].to_parquet(tmp_path / "cohort" / "cohort.parquet", index=False)
    with pytest.raises(UserError, match=r"--previous: .* publish when more has changed"):
        build(tmp_path, policy="cms_11", previous=tmp_path / "card")
    assert (tmp_path / "card" / "card.json").read_bytes() == before


def test_the_command_refuses_with_code_two_and_writes_nothing(tmp_path: Path) -> None:
    for name, n in (("old", 50), ("new", 53)):
        (tmp_path / name).mkdir()
        twin = tiny("cms_11", {"Female": n, "Male": 40}, {"archive": n + 40})
        (tmp_path / name / "card.json").write_text(json.dumps(twin))
    result = CliRunner().invoke(app, ["diff", str(tmp_path / "old"), str(tmp_path / "new"), "--out", str(tmp_path / "page")])
    assert isinstance(result.exception, UserError)  # which the command line turns into one line and exit code 2
    assert not (tmp_path / "page").exists()


@pytest.mark.parametrize("content", ["{}", '{"format": "something else"}'])
def test_what_is_no_card_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(UserError, match="no card of this tool"):
        diff_cards(tmp_path, tmp_path)
    with pytest.raises(UserError, match="not a card"):
        diff_cards(tmp_path / "nowhere", tmp_path)
