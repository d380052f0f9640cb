# ruff: noqa: E501
"""Random cohorts and an attacker in whole people, for the property that nothing hidden can be worked out.

By hand, over many cards: ``python tests/cards/card_attack.py 300``.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cards.catalogue import read_catalogue
from cards.completeness import missing
from cards.composition import gate_steps
from cards.performance import performance
from cards.policy import PRESETS, policy_named
from cards.protection.building import protected, public_numbers
from cards.protection.mending import Target, targets_of
from cards.protection.reading import system_of
from cards.protection.system import Attacker, Quantity, System
from cards.sampling import sampling
from cards.sections import Section, Work
from cards.sources import Sources
from cards.who import who
from curate import Cohort, group_of

GROUPS = ("under 40", "40 to 70", "over 70")
BINS = {"age": (40.0, 70.0)}
SAY = read_catalogue()
POLICIES = [p.name for p in PRESETS.values() if p.protects]


@dataclass
class Content:
    """What `protected` assembles here: the sections that count people."""

    sections: list[Section]


def random_cohort(seed: int) -> pd.DataFrame:
    """Make a cohort that is hard to protect: small or sparse, one site or several, up to forty devices, correlated attributes."""
    rng = np.random.default_rng(seed)
    people = int(rng.choice([25, 60, 150, 400, 900]))
    sites = int(rng.choice([1, 2, 5]))
    devices = int(rng.choice([1, 3, 12, 40]))
    site = rng.choice(sites, people, p=rng.dirichlet(np.full(sites, 0.7)))
    age = np.clip(rng.normal(62 - 9 * site % 40, rng.choice([4, 12, 18]), people), 3, 97).round()
    sex = np.where(rng.random(people) < 0.3 + 0.4 * (site % 2), "female", "male").astype(object)
    sex[rng.random(people) < rng.choice([0, 0.01, 0.05])] = None
    sex[rng.random(people) < rng.choice([0, 0.01])] = "other"
    names = np.array(["White", "South Asian", "Black", "Mixed", "Chinese", "Other Asian", "Roma"], dtype=object)
    ethnicity = names[(rng.geometric(rng.choice([0.3, 0.6]), people) - 1 + site) % len(names)]
    ethnicity[rng.random(people) < rng.choice([0, 0.02, 0.3])] = None
    device = (site * 3 + rng.geometric(min(0.9, 2.5 / devices), people) - 1) % devices
    several = rng.random() < 0.5
    moves = rng.random() < 0.4  # some are photographed again with another camera, years later
    rows = []
    for p in range(people):
        for k in range(1 + int(several and rng.random() < 0.5)):
            later = k and moves and rng.random() < 0.3
            rows.append(
                {
                    "image_id": f"i{p}_{k}", "patient_id": f"P{p}", "laterality": "left", "acquired_on": f"{2010 + int(rng.integers(0, 4)) + 5 * bool(later)}-03-01",
                    "age": np.nan if p % 41 == 7 else age[p] + 5 * bool(later), "sex": sex[p], "ethnicity": ethnicity[p],
                    "device": f"Camera {(device[p] + bool(later)) % devices}", "site": f"Site {site[p]}", "sha256": "",
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


def random_sources(seed: int) -> Sources:
    """Draw a set from a random cohort, and test a model on those held out."""
    table = random_cohort(seed)
    rng = np.random.default_rng(seed + 1_000_000)
    cohort = Cohort(Path("cohort"), table, {"name": "c", "counts": {}, "rules": {}})
    if seed % 7 == 0:
        return Sources(cohort)
    grouped = {a: group_of(table, a, BINS) for a in ("age", "sex", "ethnicity")}
    gates: list[dict[str, Any]] = []

    def note(gate: str, left: pd.DataFrame) -> None:
        by = {
            a: {
                str(g): {"images": int((v := left[groups.loc[left.index] == g]).shape[0]), "patients": int(v["patient_id"].nunique())}
                for g in dict.fromkeys(groups)
            }
            for a, groups in grouped.items()
        }
        gates.append({"gate": gate, "images": len(left), "patients": int(left["patient_id"].nunique()), "by": by})

    note("clean", table)
    left = table[rng.random(len(table)) > rng.choice([0, 0.01, 0.15])]
    note("quality", left)
    people = left["patient_id"].unique()
    held = left[left["patient_id"].isin(rng.choice(people, int(len(people) * rng.choice([0.02, 0.1, 0.3])), replace=False))]
    left = left.drop(held.index)
    note("holdout", left)
    balance = [["age"], ["age", "sex"], ["sex"], []][int(rng.integers(0, 4))]
    strata = pd.Series(list(zip(*(grouped[a].loc[left.index] for a in balance), strict=True)), index=left.index) if balance else None
    cap = int(max(3, len(left) * rng.choice([0.1, 0.3, 0.95]) / max(1, 1 if strata is None else strata.nunique())))
    drawn = left.sample(frac=0.8, random_state=seed) if strata is None else left.groupby(strata, group_keys=False).head(cap)
    note("draw", drawn)
    allocation = []
    for stratum in [] if strata is None else dict.fromkeys(strata):
        there = left[strata == stratum]
        got = int(drawn.index.isin(there.index).sum())
        allocation.append(
            {
                "stratum": dict(zip(balance, map(str, stratum), strict=True)), "available": len(there),
                "available_patients": int(there["patient_id"].nunique()), "target": cap, "allocated": got, "shortfall": cap - got,
            }
        )  # fmt: skip
    sample = {
        "name": "s",
        "balance": balance,
        "bins": {"age": [40, 70]},
        "target": "uniform",
        "holdout": 0.1,
        "gates": gates,
        "allocation": allocation,
    }
    return Sources(cohort, sample, pd.DataFrame({"image_id": drawn["image_id"]}), estimates=_estimates(held, grouped, rng))


def _estimates(held: pd.DataFrame, grouped: dict[str, pd.Series], rng: np.random.Generator) -> pd.DataFrame | None:
    ill = pd.Series(rng.random(len(held)) < rng.choice([0.1, 0.4]), index=held.index)
    rows = []
    for attribute in ("all", *grouped):
        groups = pd.Series("all", index=held.index) if attribute == "all" else grouped[attribute].loc[held.index]
        for group in sorted(set(groups)):
            inside = held[groups == group]
            count = {"n_patients": inside, "n_pos_patients": inside[ill[inside.index]], "n_neg_patients": inside[~ill[inside.index]]}
            people = {k: int(v["patient_id"].nunique()) for k, v in count.items()}
            base = {"task": "dr", "adaptation": "probe", "model": "m", "attribute": attribute, "group": group, "class": "macro", **people}
            value = 0.8 if min(people.values()) else np.nan
            images = {k.replace("_patients", ""): len(v) for k, v in count.items()}
            rows.append({**base, **images, "n": len(inside), "metric": "auroc", "value": value, "low": 0.7, "high": 0.9, "se": 0.05, "estimand": "e", "flag": ""})  # fmt: skip
    return pd.DataFrame(rows) if len(held) else None


def assemble(work: Work) -> Content:
    """Make the sections that count people."""
    people, images = gate_steps(work)
    return Content([who(work), sampling(work, people, images), missing(work), performance(work)])


def build_numbers(sources: Sources, policy: str, previous: dict[str, Any] | None = None) -> tuple[dict[str, Any], Work]:
    """Build the part of card.json that holds numbers of people, and the work that knows the truth."""
    work, made = protected(sources, policy_named(policy), SAY, assemble, previous)
    return public_numbers(work, made.sections), work


class WholePeople:
    """An attacker who knows that people are whole: the integer program over the relations that `Attacker` accepts."""

    def __init__(self, system: System) -> None:
        from scipy.optimize import LinearConstraint

        self.linear = Attacker(system)
        self.seen: list[Any] = []
        self.constraints = []
        for equal, matrix in self.linear.matrices.items():
            self.constraints.append(LinearConstraint(matrix, 0 if equal else -np.inf, 0))

    def bounds(self, goal: dict[Quantity, float]) -> tuple[int, int]:
        from scipy.optimize import Bounds, milp

        limits = np.array([(low, self.linear.most if high is None else high) for low, high in self.linear.system.limits.values()])
        costs = np.zeros(len(limits))
        for q, c in goal.items():
            costs[self.linear.at[q]] = c
        ends = []
        for sign in (1, -1):
            # Without presolve: with it, HiGHS 1.12 calls too narrow ends optimal in some of these programs.
            found = milp(
                sign * costs,
                integrality=np.ones(len(costs)),
                bounds=Bounds(limits[:, 0], limits[:, 1]),
                constraints=self.constraints,
                options={"presolve": False},
            )
            assert found.status == 0, found.message
            ends.append(round(sign * found.fun))
            self.seen.append(np.round(found.x))
        return ends[0], ends[1]

    def witnessed(self, target: Target) -> bool:
        """Say whether solutions that were met already show a target to be safe."""
        costs = np.zeros(len(self.linear.names))
        for q, c in target.goal.items():
            costs[self.linear.at[q]] = c
        values = [round(float(costs @ x)) for x in self.seen]
        return bool(values) and target.safe(_Bounds(min(values), max(values)))  # type: ignore[arg-type]


@dataclass
class Attack:
    """What an attack on one card found."""

    consistent: bool
    targets: list[Target]
    broken: list[tuple[Target, tuple[int, int]]]
    headline_alone: int = 0


def attack(twin: dict[str, Any], truth: dict[Any, int], policy: str) -> Attack:
    """Bound everything that a card must not give away, in whole people.

    What the numbers of everyone give away by themselves, with every group hidden, is counted apart.
    """
    system = system_of(twin)
    attacker = WholePeople(system)
    result = Attack(attacker.linear.consistent, targets_of(system, truth, policy_named(policy)), [])
    bare: WholePeople | None = None
    if result.consistent:
        attacker.bounds({q: 1.0 for t in result.targets for q in t.goal})
    for target in result.targets if result.consistent else ():
        if attacker.witnessed(target):
            continue
        low, high = attacker.bounds(dict(target.goal))
        if target.safe(_Bounds(low, high)):  # type: ignore[arg-type]
            continue
        bare = bare or WholePeople(with_all_hidden(twin, policy))
        least, most = bare.bounds(dict(target.goal))
        if target.safe(_Bounds(1 if low == least else low, target.limit if high == most else high)):  # type: ignore[arg-type]
            result.headline_alone += 1
        else:
            result.broken.append((target, (low, high)))
    return result


@dataclass
class _Bounds:
    low: int
    high: int


def with_all_hidden(twin: dict[str, Any], policy: str) -> System:
    """Hide every number of a card that could be hidden; what is left are zeros, the numbers of everyone, and where cells are hidden."""
    system = system_of(twin)
    for q in list(system.shown):
        system.hide(q, 1.0 if policy_named(policy).zeros else 0.0)
    return system


def main(cards: int) -> None:
    """Attack many cards and say how it went."""
    started, cells, broken, alone, contradictory = time.time(), 0, 0, 0, 0
    slowest = 0.0
    for seed in range(cards):
        policy = POLICIES[seed % len(POLICIES)]
        begun = time.time()
        twin, work = build_numbers(random_sources(seed), policy)
        slowest = max(slowest, time.time() - begun)
        found = attack(twin, work.protect.truth, policy)
        cells += len(found.targets)
        broken += len(found.broken)
        alone += found.headline_alone
        contradictory += not found.consistent
        for target, bounds in found.broken[:2]:
            print(seed, policy, {q[1:]: work.protect.truth.get(q[1:]) for q in target.goal}, bounds, flush=True)
        if not found.consistent:
            print(seed, policy, "contradictory")
    print(
        f"{cards} cards, {cells} cells attacked, {broken} narrowed, {alone} by the headline alone, {contradictory} contradictory, slowest build {slowest:.1f} s, {time.time() - started:.0f} s"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
