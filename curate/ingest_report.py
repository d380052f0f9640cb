"""What ``curate ingest`` prints: counts, the ledger by rule, what is missing, what the user should look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from curate import console
from curate.ledger import RULES

_SHOWN = ("age", "sex", "ethnicity", "device", "site", "laterality", "acquired_on")
_WIDEST = 40  # characters of a value in the table of examples


def show(about: dict[str, Any], out: Path) -> None:
    """Print what became of a manifest.

    Args:
        about: the contents of ``cohort.json``, with ``examples`` and ``problems`` where nothing was written.
        out: the cohort folder.
    """
    counts = about["counts"]
    checked = "problems" in about
    if about.get("done_before"):
        console.say(f"{out}: already made by this command, nothing to do")
    table_rows = counts.get("manifest_rows", counts["rows"])
    rows = f"{counts['rows']:,} rows" if counts["rows"] == table_rows else f"{table_rows:,} rows, {counts['rows']:,} eyes"
    console.say(
        f"{'would make' if checked else f'{out}:'} {counts['images']:,} images of {counts['patients']:,} patients "
        f"({rows}, {counts['refused_rows']:,} refused, {counts['repaired_values']:,} values changed)"
    )
    if about["rules"]:
        console.table(("rule", "entries", "what was done"), [(r, n, RULES[r]) for r, n in about["rules"].items()], title="\nledger")
    if checked:
        _show_examples(about["examples"])
    absent = {c: n for c, n in about["missing"].items() if n and c in _SHOWN}
    if absent and counts["images"]:
        console.say("\nmissing: " + ", ".join(f"{c} {100 * n / counts['images']:.3g} %" for c, n in absent.items()))
    if about.get("identifiers"):
        rows_of = [(column, kind) for column, kind in about["identifiers"].items()]
        console.table(
            ("column", "not copied because of"), rows_of, title="\nlooks as if it identified people (--keep-column NAME copies it)"
        )
    for warning in about.get("warnings", ()):
        console.warn(warning)
    if not about["patients_known"]:
        console.warn("patients are unknown: every image counts as a person of its own, so fellow eyes can fall on both sides of a split")
    if checked:
        for problem in about["problems"]:
            console.say(f"problem: {problem}")
        console.say("\ncheck: nothing was written" + ("" if about["problems"] else "; the cohort can be made"))


def _show_examples(examples: dict[str, list[dict[str, Any]]]) -> None:
    shown = [
        (rule, entry["row"], entry["column"], _cut(entry["before"]), _cut(entry["after"]))
        for rule, entries in examples.items()
        for entry in entries
    ]
    if shown:
        console.table(("rule", "row", "column", "before", "after"), shown, title="\nfirst entries of each rule")


def _cut(value: str | None) -> str | None:
    return value if value is None or len(value) <= _WIDEST else value[: _WIDEST - 3] + "..."
