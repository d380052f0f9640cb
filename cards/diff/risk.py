"""Whether two versions of a card, read together, give away what each hides by itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cards.protection.mending import unsafe
from cards.protection.system import Quantity
from cards.protection.versions import Pair
from curate import UserError


def revealed(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, int]:
    """Count the cells that two cards together give away.

    Args:
        old, new: their JSON twins.

    Returns:
        Name of the table -> number of cells, most first; empty where nothing is given away.
    """
    found: set[tuple[str, ...]] = set()
    pair = Pair(old, new)
    for story in pair.stories:
        system, targets = pair.together(story)
        found |= {min(q[1:] for q in t.goal) for t, _ in unsafe(system, targets)}
    counted: dict[str, int] = {}
    for part in sorted(found):
        table = _table_of(("", *part), new)  # type: ignore[arg-type]
        counted[table] = counted.get(table, 0) + 1
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def refuse(old: Mapping[str, Any], new: Mapping[str, Any], name: str) -> None:
    """Refuse a card that may not be public beside an earlier one.

    Args:
        old, new: their JSON twins.
        name: what the message calls the new card.

    Raises:
        UserError: naming the tables and the number of cells, never a value.
    """
    cells = revealed(old, new)
    if cells:
        listed = ", ".join(f"{n} in '{table}'" for table, n in cells.items())
        raise UserError(
            f"{name}: together with the earlier card it gives away cells by difference: {listed}; "
            "build it again with: cards build --previous EARLIER"
        )


def _table_of(quantity: Quantity, twin: Mapping[str, Any]) -> str:
    """Name the table in which a reader finds a quantity."""
    _, _, place, attribute, _ = quantity
    if attribute in twin["tables"]:
        return attribute
    if attribute == "stratum":
        return "allocation"
    if place.startswith("tested"):
        return f"estimates-{place.removeprefix('tested ')}"
    if not attribute:
        return "gates"
    if place.startswith("gate"):
        return "gate-cost"
    named = {
        str(t["columns"][0]["label"]): name
        for name, t in twin["tables"].items()
        if len(t["columns"]) > 1 and t["columns"][1]["id"] == "source"
    }
    return named.get(attribute, "missing")
