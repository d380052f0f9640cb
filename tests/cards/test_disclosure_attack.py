"""An attacker with a linear program, in whole people, works out nothing that a card hides."""

from __future__ import annotations

from typing import Any

import pytest
from card_attack import POLICIES, SAY, assemble, attack, build_numbers, random_sources

from cards.disclosure import Disclosure, Part
from cards.policy import policy_named
from cards.protection.building import public_numbers
from cards.protection.mending import hold_back, targets_of, unsafe
from cards.protection.reading import system_of
from cards.protection.system import Attacker
from cards.sections import Work

# Small archives and large ones, one site and five, three devices and forty: see card_attack.random_cohort.
CARDS = [(seed, POLICIES[seed % len(POLICIES)]) for seed in (0, 2, 3, 5, 7, 13)]
_built: dict[tuple[int, str], tuple[dict[str, Any], dict[Part, int]]] = {}


def card(seed: int, policy: str) -> tuple[dict[str, Any], dict[Part, int]]:
    if (seed, policy) not in _built:
        twin, work = build_numbers(random_sources(seed), policy)
        _built[seed, policy] = (twin, work.protect.truth)
    return _built[seed, policy]


@pytest.mark.parametrize(("seed", "policy"), CARDS)
def test_no_hidden_cell_of_a_random_card_can_be_narrowed(seed: int, policy: str) -> None:
    twin, truth = card(seed, policy)
    found = attack(twin, truth, policy)
    assert found.consistent
    assert found.targets
    assert [(t.goal, bounds) for t, bounds in found.broken] == []


@pytest.mark.parametrize(("seed", "policy"), CARDS)
def test_what_the_attacker_takes_for_certain_is_true(seed: int, policy: str) -> None:
    twin, truth = card(seed, policy)
    system = system_of(twin)
    known = {q: truth[q[1:]] for q in system.limits if q[1:] in truth}
    assert len(known) > 40
    for q, n in known.items():
        low, high = system.limits[q]
        assert low <= n, q
        assert high is None or n <= high, q
    checked = 0
    for relation in system.relations:
        if relation.weaker is None and all(q in known for q in relation.terms):
            left = sum(c * known[q] for q, c in relation.terms.items())
            assert left == 0 if relation.equal else left <= 0, relation
            checked += 1
    assert checked > 20


def planted(**cells: Any) -> dict[str, Any]:
    """A card of two tables: sex by itself, and age by sex."""
    names = (("group", "Sex", "text"), ("source", "People", "count"), ("images", "Images", "count"))
    columns = [{"id": i, "label": label, "kind": kind} for i, label, kind in names]
    hidden = {"suppressed": True}
    rows = [[name.capitalize(), hidden if n is None else n, hidden if n is None else 300] for name, n in cells.items()]
    return {
        "language": "en",
        "disclosure": policy_named("cms_11").describe(),
        "counts": {"people": {"archive": 100, "set": None}},
        "tables": {"sex": {"columns": columns, "rows": rows}},
    }


def test_a_cell_that_the_total_gives_away_is_found_and_the_smallest_neighbour_hidden() -> None:
    twin = planted(female=60, male=36, other=None)
    system = system_of(twin)
    q = ("", "people", "archive", "Sex", "Other")
    bounds = Attacker(system).bounds({q: 1.0})
    assert (bounds.low, bounds.high) == (4, 4)
    found = hold_back(twin, {q[1:]: 4})
    assert found.parts == {("people", "archive", "Sex", "Male")}
    assert found.left == []


def test_a_cell_shown_in_one_table_and_hidden_in_another_is_found() -> None:
    twin = planted(female=60, male=None, other=None)
    columns = [{"id": "column", "label": "Column", "kind": "text"}, {"id": "source", "label": "People", "kind": "count"}]
    twin["counts"]["people"]["archive"] = 104
    twin["tables"]["sex"]["rows"].append(["Not recorded", {"suppressed": True}, {"suppressed": True}])
    twin["tables"]["missing"] = {"columns": columns, "rows": [["Sex", 40]]}
    truth = {("people", "archive", "Sex", "Other"): 2, ("people", "archive", "Sex", "Male"): 2}
    assert ("people", "archive", "Sex", "Not recorded") in hold_back(twin, truth).parts


def test_the_attack_is_not_toothless() -> None:
    """Cards of the same kind, protected table by table, do give cells away."""
    narrowed = 0
    for seed in (3, 5):
        work = Work(random_sources(seed), Disclosure(policy_named("ons_10")), SAY)
        twin = public_numbers(work, assemble(work).sections)
        system = system_of(twin)
        narrowed += len(unsafe(system, targets_of(system, work.protect.truth, work.protect.policy)))
    assert narrowed > 3
