"""What a command prints about a finished evaluation: tables for people, a dictionary for machines."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import read_json
from curate.console import say, table
from evaluate.comparisons import PAPER
from evaluate.panel import MACRO

if TYPE_CHECKING:
    import pandas as pd


def report(out: Path, *, shown: bool = True) -> dict[str, Any]:
    """Print an evaluation's tables and give its numbers.

    Args:
        out: a finished evaluation folder.
        shown: whether to print.

    Returns:
        ``out``, ``estimates`` (macro averages), ``comparisons`` and ``notes`` as plain values; null where there is none.
    """
    import pandas as pd

    about = read_json(out / "evaluation.json", "an evaluation")
    estimates = pd.read_parquet(out / "estimates.parquet")
    comparisons = pd.read_parquet(out / "comparisons.parquet")
    macro = estimates[estimates["class"] == MACRO]
    if shown:
        for task in about["tasks"]:
            _print_task(task, macro[macro["task"] == task["name"]], comparisons[comparisons["task"] == task["name"]])
        for note in about["notes"]:
            say(f"note: {note}")
    return {"out": str(out), "estimates": _records(macro), "comparisons": _records(comparisons), "notes": about["notes"]}


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{key: None if isinstance(v, float) and math.isnan(v) else v for key, v in row.items()} for row in _rows(frame)]


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _print_task(task: dict[str, Any], estimates: pd.DataFrame, comparisons: pd.DataFrame) -> None:
    kind = "macro, one class against the rest" if len(task["classes"]) > 2 else f"of '{task['classes'][1]}'"
    test = task["counts"]["test"]
    say(f"\n{task['title']}: {test['images']:,} test images of {test['patients']:,} patients")
    for key, rows in estimates.groupby(["metric", "model"], sort=False):
        metric, model = map(str, key)
        table(
            ["group", "n", "positives", "negatives", "patients", metric.upper(), "95 % interval", ""],
            [
                [
                    _group(r),
                    int(r["n"]),
                    int(r["n_pos"]),
                    int(r["n_neg"]),
                    int(r["n_patients"]),
                    _number(r["value"]),
                    _interval(r),
                    _remark(r),
                ]
                for r in _rows(rows)
            ],
            title=f"\n{model}: {metric.upper()} {kind}",
        )
    first = estimates.iloc[0]
    say(f"Intervals: {first['estimand']}. Counts of a macro average are the smallest over its classes.")
    for key, rows in comparisons.groupby(["model_a", "model_b", "metric"], sort=False):
        a, b, metric = map(str, key)
        _print_comparison(a, b, metric, rows)


def _print_comparison(a: str, b: str, metric: str, rows: pd.DataFrame) -> None:
    ours, paper = rows[rows["method"] != PAPER], rows[rows["method"] == PAPER]
    table(
        ["group", "difference", "95 % interval", "p", "p (Holm)", "p (t-test over seeds)", ""],
        [
            [_group(r), _number(r["difference"], signed=True), _interval(r), _p(r["p"]), _p(r["p_holm"]), _p(other["p"]), _remark(r)]
            for r, other in zip(_rows(ours), _rows(paper), strict=True)
        ],
        title=f"\n{b} minus {a}: {metric.upper()}",
    )
    say(f"Intervals and p: {ours.iloc[0]['estimand']}. The t-test: {paper.iloc[0]['estimand']}.")


def _group(row: dict[str, Any]) -> str:
    return "everyone" if row["attribute"] == "all" else f"{row['attribute']}: {row['group']}"


def _number(value: float, *, signed: bool = False) -> str | None:
    return None if math.isnan(value) else f"{value:+.3f}" if signed else f"{value:.3f}"


def _interval(row: dict[str, Any]) -> str | None:
    if math.isnan(row["low"]):
        return None
    signed = "difference" in row
    return f"[{_number(row['low'], signed=signed)}, {_number(row['high'], signed=signed)}]"


def _p(value: float) -> str | None:
    return None if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _remark(row: dict[str, Any]) -> str:
    return "; ".join(text for text in (row["flag"], row["note"]) if text)
