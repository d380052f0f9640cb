"""From a card's JSON twin to the system of numbers that an attacker sees: each table, and how it hangs together with the others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from cards.catalogue import Catalogue, read_catalogue
from cards.exports.content import FORMAT
from cards.policy import Policy
from cards.protection.system import Quantity, System
from curate import UserError, read_json

PLACES = {"source": "archive", "set": "set"}
SEXES = ("female", "male", "other", "unknown")


def read_twin(path: Path) -> dict[str, Any]:
    """Read a card's JSON twin.

    Args:
        path: the card's folder, or its card.json.

    Raises:
        UserError: where there is no card.
    """
    file = path / "card.json" if path.is_dir() else path
    twin = read_json(file, "a card")
    if twin.get("format") != FORMAT or "tables" not in twin or "disclosure" not in twin:
        raise UserError(f"{file}: is no card of this tool; name a card's folder or its card.json")
    return twin


def policy_of(twin: Mapping[str, Any]) -> Policy:
    """Give the policy that a card states."""
    said = twin["disclosure"]
    return Policy(str(said["name"]), int(said["threshold"]), int(said["rounded_to"]), bool(said["zeros_shown"]), str(said["source"]))


# The words by which the tables are read; a card carries them, since it may be in a language that does not come with evenfooting.
WORDS = (
    "not_recorded", "stratum_join", "group_female", "group_male", "group_other", "attribute_age", "attribute_sex", "attribute_year",
    "attribute_acquired_on",
)  # fmt: skip


def words_of(say: Catalogue) -> dict[str, str]:
    """Give the words by which a card's tables are read."""
    return {name: say(name) for name in WORDS}


def system_of(twin: Mapping[str, Any], version: str = "") -> System:
    """Write down what a card makes public about numbers of people.

    Args:
        twin: ``card.json``, or what is to become it.
        version: tells the quantities of several cards apart.
    """
    return _Reader(twin, version).system


class _Reader:
    def __init__(self, twin: Mapping[str, Any], version: str) -> None:
        self.twin, self.version = twin, version
        self.tables: Mapping[str, Any] = twin["tables"]
        self.policy = policy_of(twin)
        self.system = System()
        words = twin.get("words")
        self.say: Callable[[str], str] = words.__getitem__ if words else read_catalogue(str(twin.get("language", "en")))
        self.unknown = self.say("not_recorded")
        self.floor = 1.0 if self.policy.zeros else 0.0  # a hidden cell is at least this
        self.groups: dict[str, list[str]] = {}  # attribute as printed -> its groups as printed
        self.tabled: dict[str, str] = {}  # attribute as printed -> the table of its groups
        self._everyone()
        for name, table in self.tables.items():
            ids = [c["id"] for c in table["columns"]]
            if ids[:2] == ["group", "source"]:
                self._composition(name, table)
        readers = {
            "age-sex": self._pyramid,
            "missing": self._missing,
            "gates": self._gates,
            "gate-cost": self._cost,
            "allocation": self._allocation,
        }
        for name, read in readers.items():
            if name in self.tables:
                read(self.tables[name])
        for name, table in self.tables.items():
            if name.startswith("estimates-"):
                self._tested(table, name.removeprefix("estimates-"))

    def at(self, measure: str, place: str, attribute: str = "", group: str = "") -> Quantity:
        return (self.version, measure, place, attribute, group)

    def cell(self, quantity: Quantity, value: Any, *, fixed: bool = False, floor: float | None = None) -> None:
        """Take in a number as shown; a `fixed` one could not be hidden, a hidden one is at least the `floor`."""
        if isinstance(value, dict):
            if quantity not in self.system.shown:  # one table may hide what another one shows
                self.system.hidden[quantity] = None
            everyone = (self.twin.get("counts") or {}).get("people", {}).get(quantity[2])
            # Of so few people not even the zeros are shown; nor are exact ones beside an archive whose few were left out.
            if isinstance(everyone, dict) or (quantity[2] == "set" and self.policy.base == 1):
                floor = 0.0
            self.system.know(quantity, self.floor if floor is None else floor, None)
        elif isinstance(value, int) and not isinstance(value, bool):
            self.system.know(quantity, *self.rounding(value))
            self.system.hidden.pop(quantity, None)
            if not fixed and value > 0:
                self.system.shown[quantity] = value

    def rounding(self, value: int) -> tuple[float, float]:
        """Give the least and the most people that are shown as a number.

        Example: 10 to the nearest five, where seven and fewer are hidden, is 8 to 12.
        """
        base = self.policy.base
        if value == 0:
            return 0.0, 0.0 if self.policy.threshold or base == 1 else float((base - 1) // 2)
        return float(max(value - base // 2, self.policy.threshold + 1)), float(value + (base - 1) // 2)

    def rows(self, table: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Give each row that holds numbers, with the heading of its block; groups of one name get a number."""
        ids = [c["id"] for c in table["columns"]]
        block, seen = "", Counter[tuple[str, str]]()
        for row in table["rows"]:
            if len(row) == 1:
                block = str(row[0])
                continue
            cells = dict(zip(ids, row, strict=True))
            model = str(cells.get("model", ""))
            seen[block + "\0" + model, str(row[0])] += 1
            n = seen[block + "\0" + model, str(row[0])]
            yield block, {**cells, "label": str(row[0]) if n == 1 else f"{row[0]}\0{n}"}

    def _everyone(self) -> None:
        for measure, places in (self.twin.get("counts") or {}).items():
            for place, value in places.items():
                if value is not None:
                    self.cell(self.at(measure, place), value, fixed=True)
        counts = self.twin.get("counts") or {}
        for measure in counts:
            if counts[measure].get("set") is None:
                continue
            if counts[measure]["set"] == counts[measure]["archive"]:
                # A draw that left out only a few repeats the archive's number.
                self.system.limits[self.at(measure, "set")] = (0.0, None)
            self.system.at_most(self.at(measure, "set"), self.at(measure, "archive"))

    def _composition(self, name: str, table: Mapping[str, Any]) -> None:
        rows = [cells for _, cells in self.rows(table)]
        table_name, name = name, str(table["columns"][0]["label"])
        self.groups[name] = [r["label"] for r in rows]
        self.tabled[name] = table_name
        places = [p for c, p in PLACES.items() if any(column["id"] == c for column in table["columns"])]
        # Where a whole column is hidden, so are its zeros.
        floors = {c: None if any(not isinstance(r.get(c), dict) for r in rows) else 0.0 for c in PLACES}
        for r in rows:
            for column, place in PLACES.items():
                if column in r:
                    self.cell(self.at("people", place, name, r["label"]), r[column], floor=floors[column])
            self.cell(self.at("images", places[-1], name, r["label"]), r.get("images"))
            self.system.at_most(self.at("people", places[-1], name, r["label"]), self.at("images", places[-1], name, r["label"]))
            if len(places) > 1:
                self.system.at_most(self.at("people", "set", name, r["label"]), self.at("people", "archive", name, r["label"]))
        rest = ["\0rest"] if any(note for note in table.get("notes", [])) else []  # groups that are not listed
        for measure, place in [*(("people", p) for p in places), ("images", places[-1])]:
            parts = [self.at(measure, place, name, g) for g in [*self.groups[name], *rest]]
            self.system.sums(parts, self.at(measure, place), disjoint=measure == "images")

    def _pyramid(self, table: Mapping[str, Any]) -> None:
        ages = [cells["label"] for _, cells in self.rows(table)]
        age_name, sex = self.say("attribute_age"), self.say("attribute_sex")
        words = {s: self.unknown if s == "unknown" else self.say(f"group_{s}") for s in SEXES}
        for column, place in PLACES.items():
            sexes = [s for s in SEXES if any(c["id"] == f"{s}_{column}" for c in table["columns"])]
            if not sexes:
                continue
            lines = [[(a, s) for a in ages] for s in sexes] + [
                [(a, s) for a in within for s in sexes] for within in self._blocks(ages).values()
            ]
            values = {(cells["label"], s): cells[f"{s}_{column}"] for _, cells in self.rows(table) for s in sexes}
            # Where a whole line is hidden, so are its zeros.
            empty = {c for line in lines if all(isinstance(values[c], dict) for c in line) for c in line}
            for _, cells in self.rows(table):
                for s in sexes:
                    q = self.at("people", place, "age-sex", f"{cells['label']}|{s}")
                    self.cell(q, values[cells["label"], s], floor=0.0 if (cells["label"], s) in empty else self.floor)
                    if place == "set":
                        self.system.at_most(q, self.at("people", "archive", "age-sex", f"{cells['label']}|{s}"))
            for s in sexes:
                if words[s] in self.groups.get(sex, []):
                    parts = [self.at("people", place, "age-sex", f"{a}|{s}") for a in ages]
                    self.system.sums(parts, self.at("people", place, sex, words[s]))
            for group, within in self._blocks(ages).items():
                parts = [self.at("people", place, "age-sex", f"{a}|{s}") for a in within for s in sexes]
                self.system.sums(parts, self.at("people", place, age_name, group))

    def _blocks(self, ages: list[str]) -> dict[str, list[str]]:
        """Say which rows of the pyramid make up which age group: both are in order of age and name their first year."""
        groups = [g for g in self.groups.get(self.say("attribute_age"), []) if g != self.unknown]
        starts = [0 if i == 0 else _first_year(g) for i, g in enumerate(groups)]
        blocks: dict[str, list[str]] = {}
        for i, age in enumerate(a for a in ages if a != self.unknown):
            first = 0 if i == 0 and not re.match(r"\d", age) else _first_year(age)
            within = [g for g, s in zip(groups, starts, strict=True) if s <= first]
            if within:
                blocks.setdefault(within[-1], []).append(age)
        if self.unknown in ages and self.unknown in self.groups.get(self.say("attribute_age"), []):
            blocks[self.unknown] = [self.unknown]
        return blocks

    def _missing(self, table: Mapping[str, Any]) -> None:
        for _, cells in self.rows(table):
            attribute = self.say("attribute_year") if cells["label"] == self.say("attribute_acquired_on") else cells["label"]
            for column, place in PLACES.items():
                if column in cells:
                    q = self.at("people", place, attribute, self.unknown)
                    self.cell(q, cells[column])
                    self.system.at_most(q, self.at("people", place))
                    if place == "set":
                        self.system.at_most(q, self.at("people", "archive", attribute, self.unknown))

    def _gates(self, table: Mapping[str, Any]) -> None:
        rows = [cells for _, cells in self.rows(table)]
        for measure in ("people", "images"):
            before = None
            for i, r in enumerate(rows):
                if r[measure] is None:
                    continue
                q = self.at(measure, f"gate {i}")
                removed = r[f"{measure}_removed"]
                following = rows[i + 1][f"{measure}_removed"] if i + 1 < len(rows) else 1
                repeats = isinstance(removed, dict) or removed == 0 or (removed is None and isinstance(following, dict))
                if not repeats:
                    self.cell(q, r[measure], fixed=True)
                if before is not None:
                    self.system.at_most(q, before)
                before = q
            if before is not None:
                self.system.at_most(self.at(measure, "set"), before)
                self.system.at_most(before, self.at(measure, "set"))

    def _cost(self, table: Mapping[str, Any]) -> None:
        columns = [c["id"] for c in table["columns"] if c["id"].startswith("gate_")]
        last = len(self.tables["gates"]["rows"]) - 1 if "gates" in self.tables else -1
        left: dict[tuple[str, str], list[Quantity]] = {}
        for attribute, cells in self.rows(table):
            label, shown = cells["label"], cells["people"]
            before = self.at("people", "archive", attribute, label)
            if attribute in self.groups and label in self.groups[attribute]:
                self.cell(before, shown)
            for column in columns:
                q = self.at("people", f"gate {column[5:]}", attribute, label)
                if int(column[5:]) == last and attribute in self.groups:
                    q = self.at("people", "set", attribute, label)
                lost = cells[column]
                self.system.at_most(q, before)
                if isinstance(shown, int) and isinstance(lost, int | float) and lost > 0:
                    shown -= round(lost * shown / 100)
                    self.cell(q, shown)
                left.setdefault((attribute, column[5:]), []).append(q)
                before = q
        for (attribute, gate), parts in left.items():
            if int(gate) != last and attribute in self.groups and len(parts) == len(self.groups[attribute]):
                self.system.sums(parts, self.at("people", f"gate {gate}"))

    def _allocation(self, table: Mapping[str, Any]) -> None:
        rows = [cells for _, cells in self.rows(table)]
        join = self.say("stratum_join")
        strata = [r["label"].split(join) for r in rows]
        width = {len(s) for s in strata}
        for i, r in enumerate(rows):
            floor = 0.0 if isinstance(r["available"], dict) else None  # where that is hidden, so are zeros
            self.cell(self.at("images", "set", "stratum", str(i)), r["allocated"], floor=floor)
            self.cell(self.at("images", "available", "stratum", str(i)), r["available"])
            self.system.at_most(self.at("images", "set", "stratum", str(i)), self.at("images", "available", "stratum", str(i)))
        if table.get("notes") and len(table["notes"]) > 1:
            return  # further strata are not listed
        parts = [self.at("images", "set", "stratum", str(i)) for i in range(len(rows))]
        self.system.sums(parts, self.at("images", "set"), disjoint=True)
        if len(width) != 1:
            return
        for k in range(width.pop()):
            found = {s[k] for s in strata}
            fitting = [name for name, groups in self.groups.items() if found <= set(groups)]
            if len(fitting) == 1 and "set" in [c["id"] for c in self.tables[self.tabled[fitting[0]]]["columns"]]:
                for g in dict.fromkeys(s[k] for s in strata):
                    inside = [self.at("images", "set", "stratum", str(i)) for i, s in enumerate(strata) if s[k] == g]
                    self.system.sums(inside, self.at("images", "set", fitting[0], g), disjoint=True)

    def _tested(self, table: Mapping[str, Any], number: str) -> None:
        place = f"tested {number}"
        ids = [c["id"] for c in table["columns"]]
        groups: dict[str, list[str]] = {}
        some = {attribute for attribute, cells in self.rows(table) if not isinstance(cells["patients"], dict)}
        for attribute, cells in self.rows(table):
            label = cells["label"] if attribute else ""
            people, positive, negative = (self.at(m, place, attribute, label) for m in ("people", "positive", "negative"))
            if label not in groups.setdefault(attribute, []):
                groups[attribute].append(label)
                self.cell(people, cells["patients"], fixed=not attribute, floor=None if attribute in some else 0.0)
                self.cell(positive, cells["positive"], fixed=not attribute, floor=0.0)  # also hidden where negatives are few
                self.system.limits.setdefault(negative, (0.0, None))
                self.system.sums([positive, negative], people)
            metrics = [i for i in ids if i in cells and next(c for c in table["columns"] if c["id"] == i)["kind"] == "metric"]
            if any(isinstance(cells[m], int | float) for m in metrics):
                for q in (people, positive, negative):
                    self.system.know(q, self.policy.threshold + 1, None)
        for attribute, labels in groups.items():
            if attribute and "" not in labels:
                for measure in ("people", "positive", "negative"):
                    self.system.sums(
                        [self.at(measure, place, attribute, g) for g in labels], self.at(measure, place, "", ""), complete=False
                    )


def _first_year(label: str) -> int:
    found = re.search(r"\d+", label)
    return int(found.group()) if found else 0
