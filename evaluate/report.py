"""What a command prints about a finished evaluation: tables for people, a dictionary for machines."""

from __future__ import annotations

import math
import shutil
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import read_json
from curate.console import say
from evaluate.comparisons import significant_cells
from evaluate.results import table_rows

if TYPE_CHECKING:
    import pandas as pd


def report(out: Path, *, shown: bool = True) -> dict[str, Any]:
    """Print an evaluation's tables and give its numbers.

    Printed are the tables that answer the first questions; everything is in the dictionary and in the files, which are named at the end.

    Args:
        out: a finished evaluation folder.
        shown: whether to print.

    Returns:
        ``out``, ``estimates``, ``comparisons``, ``groups``, ``generalisation`` (rows of the files of these names), ``significant``
        (see `comparisons.significant_cells`) and ``notes`` as plain values; null where there is none.
    """
    import pandas as pd

    from evaluate.report_tables import print_task

    about = read_json(out / "evaluation.json", "an evaluation")
    names = ("estimates", "comparisons", "groups", "generalisation")
    tables = {name: pd.read_parquet(path) if (path := out / f"{name}.parquet").exists() else pd.DataFrame() for name in names}
    cells = significant_cells(tables["comparisons"]) if len(tables["comparisons"]) else []
    if shown:
        width = shutil.get_terminal_size().columns
        for task in about["tasks"]:
            mine = {name: table[table["task"] == task["name"]] if len(table) else table for name, table in tables.items()}
            print_task(task, mine, width)
        for note in about["notes"]:
            say(textwrap.fill(f"note: {note}", max(width, 40)))
        _print_places(out, tables)
    return {"out": str(out), **{name: _records(table) for name, table in tables.items()}, "significant": cells, "notes": about["notes"]}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: None if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()} for row in table_rows(frame)]


def _print_places(out: Path, tables: dict[str, pd.DataFrame]) -> None:
    what = {
        "estimates": "every metric, threshold, class and group",
        "comparisons": "pairs of models",
        "groups": "group against group",
        "generalisation": "at home and away",
    }
    say(f"\nIn {out}: predictions.parquet, and")
    for name, table in tables.items():
        if len(table):
            say(f"  {name}.parquet: {what[name]}, {len(table):,} rows")
