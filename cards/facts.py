"""What the data say to a claim: found in the card's own tables, so that every number told is protected as on the card."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from cards.claims import Claim, Vocabulary
from cards.composition import attribute_label
from cards.policy import Suppressed
from cards.sections import Work
from cards.tables import Table
from curate import UNKNOWN

SAME = 3.0  # percentage points that a share may be off
SAME_ABOUT = 6.0  # where the answer says "about"
EVEN = 0.8  # smallest group over largest, from which groups may be called balanced
RECORDED = 50.0  # per cent: above it a column that "was not recorded" is recorded after all
_ABOUT = ("about", "around", "approximately", "roughly", "some", "nearly", "almost")
_OVER, _UNDER = ("more than", "over", "at least"), ("fewer than", "less than", "up to", "under")


@dataclass(frozen=True)
class Outcome:
    """A claim beside the data.

    Attributes:
        claim: the claim.
        data: what the data say, in words.
        contradicts: whether the two can't both be so; None where they could not be compared.
    """

    claim: Claim
    data: str
    contradicts: bool | None


class Facts:
    """Compares claims with a card's tables.

    Args:
        work: after the sections were made.
        tables: of the card, by id, in English.
    """

    def __init__(self, work: Work, tables: dict[str, Table]) -> None:
        self.work, self.tables = work, tables

    def vocabulary(self) -> Vocabulary:
        """Give the names that answers may use for groups and columns."""
        groups: dict[str, tuple[str, str]] = {}
        for attribute in ("age", "ethnicity", "site", "device"):
            for row in self.tables[attribute].rows if attribute in self.tables else ():
                name = str(row[0]).lower()
                if len(name) >= 4 and name != self.work.say("not_recorded").lower():
                    groups.setdefault(name, (attribute, str(row[0])))
        columns = {c.lower().replace("_", " "): c for c in self.work.sources.source.columns if len(c) >= 6 and c[:6].isalpha()}
        return Vocabulary(groups, {k: v for k, v in columns.items() if v not in _OURS})

    def compare(self, claim: Claim) -> Outcome:
        """Set a claim beside the data."""
        return Outcome(claim, *getattr(self, "_" + claim.rule.replace(" ", "_"))(claim))

    def _shares(self, attribute: str) -> dict[str, dict[str, float]]:
        """Give set and archive -> group -> share of people, of the groups that may be shown."""
        table = self.tables.get(attribute)
        if table is None:
            return {}
        found: dict[str, dict[str, float]] = {}
        for column, where in (("set_share", "set"), ("source_share", "archive")):
            if column in [c.id for c in table.columns]:
                cells = zip((str(r[0]) for r in table.rows), table.column(column), strict=True)
                found[where] = {g: float(v) for g, v in cells if isinstance(v, int | float)}
        return found

    def _balance(self, claim: Claim) -> tuple[str, bool | None]:
        table = self.tables.get(claim.about)
        if table is None:
            return f"no table of people by {claim.about}", None
        unknown = self.work.say("not_recorded")
        columns = [c for c in ("set", "images", "source") if c in [k.id for k in table.columns]]
        columns = columns[:2] if columns[0] == "set" else columns
        even, said = [], ""
        for column in columns:
            cells = [(str(r[0]), v) for r, v in zip(table.rows, table.column(column), strict=True) if str(r[0]) != unknown]
            counts = [v for _, v in cells if isinstance(v, int)]
            hidden = any(isinstance(v, Suppressed) for _, v in cells)
            if len(counts) < 2 or (hidden and len(counts) < len(cells) - 1):
                return f"too few groups of {claim.about} may be shown", None
            even.append(min(counts) / max(counts) >= EVEN and not hidden if max(counts) else False)
        shares = self._shares(claim.about)
        where = "set" if "set" in shares else "archive"
        said = ", ".join(f"{g} {p:.0f} %" for g, p in list(shares[where].items())[:6])
        return f"the {where}: {said}; called balanced from {EVEN:g} of the largest group", not any(even)

    def _nobody(self, claim: Claim) -> tuple[str, bool | None]:
        table, attribute = self.work.sources.source, claim.about
        if attribute not in table or table[attribute].notna().sum() == 0:
            return f"{attribute} is recorded for nobody", None
        values = table[attribute]
        if attribute == "sex":
            there, said = values == claim.group, claim.group
        else:
            value = claim.value or 0.0
            there = {"<": values < value, "<=": values < value + 1, ">": values >= value + 1, ">=": values >= value}[claim.how]
            said = f"aged {'under' if claim.how in ('<', '<=') else 'over'} {value:g}"
        chosen = self.work.sources.chosen
        parts = []
        found = False
        for where, rows in (("archive", table), ("set", chosen)):
            if rows is None:
                continue
            n = int(rows.loc[there.loc[rows.index].fillna(False).astype(bool), "patient_id"].nunique())
            shown = self.work.protect.policy.count(n)
            parts.append(
                f"the {where} has {'nobody' if n == 0 else 'a few people' if isinstance(shown, Suppressed) else f'{shown:,} people'} {said}"
            )
            found = n > 0 if where == "set" or chosen is None else found
        return "; ".join(parts), found

    def _gap(self, attribute: str) -> float | Suppressed | None:
        """Give the share of people of the archive without a value; None where there is no such column."""
        if attribute == "consent":
            names = [c for c in self.work.sources.source.columns if "consent" in c.lower()]
            attribute = names[0] if names else attribute
        table = self.tables.get("missing")
        label = attribute_label(self.work, attribute)
        for row in table.rows if table else ():
            if str(row[0]) == label:
                value = row[2]
                return value if isinstance(value, Suppressed) or value is None else float(value)
        return None

    def _recorded(self, claim: Claim) -> tuple[str, bool | None]:
        gap = self._gap(claim.about)
        if gap is None:
            return f"the archive's table has no column for {claim.about}", None
        if isinstance(gap, Suppressed):
            return f"{claim.about} is missing for some people, too few to count", claim.how == "everyone"
        return f"{claim.about} is missing for {gap:.0f} % of people", gap >= 100.0 or (claim.how == "everyone" and gap > 0)

    def _unrecorded(self, claim: Claim) -> tuple[str, bool | None]:
        gap = self._gap(claim.about)
        if gap is None:
            return f"the archive's table has no column for {claim.about}", None
        if isinstance(gap, Suppressed):
            return f"{claim.about} is recorded for nearly everyone", True
        return f"{claim.about} is recorded for {100 - gap:.0f} % of people", 100 - gap >= RECORDED

    def _gapless(self, claim: Claim) -> tuple[str, bool | None]:
        table = self.tables.get("missing")
        if claim.about:
            return self._recorded(Claim("recorded", claim.sentence, claim.words, about=claim.about, how="everyone"))
        rows = table.rows if table else []
        gaps = [str(r[0]) for r in rows if isinstance(r[2], Suppressed) or (isinstance(r[2], int | float) and r[2] > 0)]
        return (f"values are missing in: {', '.join(gaps[:8])}" if gaps else "no value is missing"), bool(gaps)

    def _missing(self, claim: Claim) -> tuple[str, bool | None]:
        table = self.tables.get("missing")
        label = attribute_label(self.work, claim.about)
        row = next((r for r in table.rows if str(r[0]) == label), None) if table else None
        if row is None:
            return f"the archive's table has no column for {claim.about}", None
        shares = {w: v for w, v in zip(("archive", "set"), (row[2], row[4] if len(row) > 4 else None), strict=True) if v is not None}
        return self._near(claim, f"{claim.about} is missing for", shares)

    def _near(self, claim: Claim, words: str, shares: dict[str, Any]) -> tuple[str, bool | None]:
        shown = {w: float(v) for w, v in shares.items() if isinstance(v, int | float)}
        if not shown:
            return f"{words} a share that is not shown", None
        value = claim.value or 0.0
        slack = SAME_ABOUT if claim.how in _ABOUT else SAME
        if claim.how in _OVER:
            agrees = any(v >= value - 1 for v in shown.values())
        elif claim.how in _UNDER:
            agrees = any(v <= value + 1 for v in shown.values())
        else:
            agrees = any(abs(v - value) <= slack for v in shown.values())
        return words + " " + ", ".join(f"{v:.0f} % of the {w}" for w, v in shown.items()), not agrees

    def _share(self, claim: Claim) -> tuple[str, bool | None]:
        name = {"female": "Female", "male": "Male"}.get(claim.group, claim.group)
        shares = {w: g[name] for w, g in self._shares(claim.about).items() if name in g}
        return self._near(claim, f"{name} ({claim.about}) are", shares)

    def _size(self, claim: Claim) -> tuple[str, bool | None]:
        value = claim.value or 0.0
        known = self.counts(claim.about)
        if not known:
            return f"no number of {claim.about} may be shown", None
        # A round number is meant as one, within a twentieth: 1,500 may stand for 1,552, and 1,000 not for 900.
        zeros = len(str(int(value))) - len(str(int(value)).rstrip("0"))
        slack = max(0.02 * value, min(0.5 * 10**zeros, 0.05 * value), 1 if value < 100 else 0, self.work.protect.policy.base)
        if claim.how in _ABOUT:
            slack = max(slack, 0.1 * value)
        numbers = [n for _, n in known]
        if claim.how in _OVER:
            contradicts = max(numbers) < value - slack
        elif claim.how in _UNDER:
            contradicts = min(numbers) > value + slack
        else:
            contradicts = all(abs(n - value) > slack for n in numbers)
        return ", ".join(f"{n:,} {claim.about} in the {w}" for w, n in known[:2]), contradicts

    def counts(self, what: str) -> list[tuple[str, int]]:
        """List the numbers of people or images that the card shows: of the set, the archive, after each step."""
        work = self.work
        own = [("set", work.set_people), ("archive", work.source_people)]
        if what == "images":
            own = [("set", work.set_images), ("archive", work.source_images)]
        gates = self.tables["gates"].column(what) if "gates" in self.tables else []
        return [(w, n) for w, n in [*own, *(("gates", g) for g in gates)] if isinstance(n, int)]

    def _years(self, claim: Claim) -> tuple[str, bool | None]:
        table = self.tables.get("year")
        if table is None:
            return "dates are recorded for nobody", None
        unknown = self.work.say("not_recorded")
        years = [int(str(r[0])) for r in table.rows if str(r[0]) != unknown and isinstance(r[1], int) and r[1] > 0 and str(r[0]).isdigit()]
        if not years:
            return "no year may be shown", None
        return f"photographs are from {min(years)} to {max(years)}", min(years) < (claim.low or 0) or max(years) > (claim.high or 9999)

    def _number_of_groups(self, claim: Claim) -> tuple[str, bool | None]:
        source, chosen = self.work.sources.source, self.work.sources.chosen
        if claim.about not in source or source[claim.about].notna().sum() == 0:
            return f"{claim.about} is recorded for nobody", None
        numbers = {w: int(t[claim.about].nunique()) for w, t in (("archive", source), ("set", chosen)) if t is not None}
        said = ", ".join(f"{n} in the {w}" for w, n in numbers.items())
        return f"{claim.about}s: {said}", claim.value not in [float(n) for n in numbers.values()]

    def exact(self, text_numbers: Iterable[int]) -> list[int]:
        """List the numbers that are a true count which the card shows rounded: an answer would undo the rounding."""
        sources, policy = self.work.sources, self.work.protect.policy
        true = {int(sources.source["patient_id"].nunique()), len(sources.source)}
        for gate in (sources.sample or {}).get("gates") or []:
            true |= {int(gate[k]) for k in ("patients", "images") if gate.get(k) is not None}
        return [n for n in text_numbers if n in true and n > policy.threshold and policy.rounded(n) != n]


_OURS = {
    "image_id",
    "path",
    "patient_id",
    "sha256",
    "phash",
    "width",
    "height",
    "laterality",
    "acquired_on",
    "ethnicity",
    "device",
    UNKNOWN,
}
