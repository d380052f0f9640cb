"""What ``curate sample`` prints: the gates, the allocation as a table with a picture, the balance."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from curate import console

_WIDTH = 28
_MOST_ROWS = 40
_VISIBLE = 0.005  # a residual in shares that is worth a line


def show(about: dict[str, Any], out: Path, *, dry_run: bool) -> None:
    """Print a sample's plan and what became of it.

    Args:
        about: the contents of ``sample.json``.
        out: the shard set folder.
        dry_run: whether no shards were written.
    """
    gates = [(g["title"], g["images"], g["patients"], g["removed_images"] or None) for g in about["gates"]]
    console.table(("gate", "images", "patients", "removed"), gates, title="what each gate kept")
    costs = _costs(about["gates"])
    for line in costs:
        console.say("  " + line)
    if about["allocation"]:
        _show_strata(about)
        before, after = about["measures"]["before"], about["measures"]["after"]
        rows = [(name.replace("_", " "), before[name], after[name]) for name in after]
        console.table(("balance", "available", "drawn"), rows, title="\nhow even it is")
        for attribute, both in about["measures_by"].items():
            names = ("normalised_entropy", "total_variation")
            by = ", ".join(f"{n.replace('_', ' ')} {_number(both['before'][n])} to {_number(both['after'][n])}" for n in names)
            console.say(f"  {attribute} alone: {by}")
        _suggest(about)
    held = about["heldout"]
    console.say(f"\nheld out: {held['patients']:,} patients, {held['images']:,} images")
    if dry_run:
        console.say(f"dry run: would draw {about['images']:,} images of {about['patients']:,} patients; no shards were written")
    elif about.get("done_before"):
        console.say(f"{out}: already made by this command, nothing to do")
    else:
        size = about["bytes"] / 1e6
        console.say(f"{out}: {about['images']:,} images of {about['patients']:,} patients in {about['shards']} shard(s), {size:,.1f} MB")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _show_strata(about: dict[str, Any]) -> None:
    """Show the strata; where each column's own shares are met, those first and of the combinations the largest."""
    allocation, strata = about["allocation"], about["strata"]
    rows = [(", ".join(str(g) for g in row["stratum"].values()), row) for row in allocation]
    if len(about["balance"]) > 1:
        how = "combinations of groups are the strata" if strata["kind"] == "joint" else "each column's own shares are met"
        console.say(f"\n{how}: {strata['why']}")
        _show_bars([(f"{row['attribute']}: {row['group']}", row) for row in about["marginals"]], "by column")
    if strata["kind"] == "marginal":
        if strata["residual"] > _VISIBLE:
            console.say(f"  empty combinations keep the shares from being met together: off by up to {100 * strata['residual']:.1f} points")
        for attribute, groups in strata["unreachable"].items():
            console.say(f"  nothing available of {attribute} {', '.join(groups)}")
    shown = rows if len(rows) <= _MOST_ROWS else sorted(rows, key=lambda r: -r[1]["available"])[:_MOST_ROWS]
    _show_bars(shown, "allocation" if len(shown) == len(rows) else f"allocation, the {len(shown)} largest of {len(rows):,} combinations")


def _show_bars(rows: list[tuple[str, dict[str, Any]]], title: str) -> None:
    most = max(row["available"] for _, row in rows) or 1
    cells = []
    for name, row in rows:
        drawn = round(_WIDTH * row["allocated"] / most)
        rest = max(round(_WIDTH * row["available"] / most) - drawn, 0)
        cells.append((name, row["available"], row["target"], row["allocated"], row["shortfall"] or None, "█" * drawn + "░" * rest))
    console.table(("stratum", "available", "target", "drawn", "short by", "█ drawn ░ left"), cells, title="\n" + title)


def _costs(gates: list[dict[str, Any]]) -> list[str]:
    """Say where a gate before the hold-out cost one group at least twice what it cost the rest, in shares of at least 2 %."""
    found = []
    for before, after in itertools.pairwise(gates[1:]):
        if after["gate"] not in ("quality", "duplicates"):
            continue
        for attribute, groups in after["by"].items():
            total = before["images"] - after["images"]
            for group, counts in groups.items():
                had = before["by"][attribute][group]["images"]
                lost, others = had - counts["images"], before["images"] - had
                if had < 20 or others < 20:
                    continue
                share, rest = lost / had, (total - lost) / others
                if share >= 0.02 and share >= 2 * rest:
                    found.append(
                        f"{after['title'].lower()}: cost {100 * share:.1f} % of {attribute} {group}, {100 * rest:.1f} % of the others"
                    )
    return found


def _suggest(about: dict[str, Any]) -> None:
    """Where the thinnest stratum set the size, say so and name the way to a larger draw."""
    filled = [row for row in about["allocation"] if row["target"] > 0]
    thin = [row for row in filled if row["allocated"] == row["available"] and row["available"] > 0]
    left = sum(row["available"] - row["allocated"] for row in filled)
    if about["made_by"]["specification"]["images"] is None and thin and left:
        name = ", ".join(str(g) for g in thin[0]["stratum"].values())
        console.say(
            f"  the draw is as large as '{name}' allows; --images N draws more, as close to the target as the archive allows, "
            "and reports the shortfall"
        )
