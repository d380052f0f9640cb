"""The tables of a report: first how well, for whom, then at which threshold, how calibrated, how even, and which model is better."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

from curate.console import say, short, table
from evaluate.comparisons import FAMILY_IN_WORDS, PAPER, significant_cells
from evaluate.generalise import CELL, OVERALL, SAME_IMAGES
from evaluate.heterogeneity import HETEROGENEITY, WORST
from evaluate.panel import MACRO
from evaluate.predictions import AND
from evaluate.results import table_rows

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]
MOST = 6  # tables of a kind that are printed; the files have all
MARKS = {"few": " *", "too few": " **", "": ""}
NAMES = {"auroc": "AUROC", "auprc": "AUPRC", "ppv": "PPV", "npv": "NPV", "ece": "ECE", "brier": "Brier"}


def print_task(task: dict[str, Any], tables: dict[str, pd.DataFrame], width: int) -> None:
    """Print one task.

    Args:
        task: its entry in ``evaluation.json``.
        tables: its rows of ``estimates``, ``comparisons``, ``groups`` and ``generalisation`` (empty where there is none).
        width: columns of the terminal.
    """
    estimates = tables["estimates"]
    macro = table_rows(estimates[estimates["class"] == MACRO])
    test = task["counts"]["test"]
    several = task.get("kind") == "multilabel" or len(task["classes"]) > 2
    of = "mean over classes, one against the rest" if several else f"of '{task['classes'][1]}'"
    say(f"\n{task['title']}: {test['images']:,} test images of {test['patients']:,} patients; {of}")
    _print_discrimination(macro, width)
    _print_operating_points(macro, width)
    _print_calibration(macro, width)
    if len(tables["groups"]):
        _print_heterogeneity(table_rows(tables["groups"]), width)
    if len(tables["comparisons"]):
        _print_comparisons(tables["comparisons"], width)
    if len(tables["generalisation"]):
        _print_generalisation(table_rows(tables["generalisation"]), width)


def _cells(rows: list[Row]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((r["model"], r["adaptation"]) for r in rows))


def _print_discrimination(rows: list[Row], width: int) -> None:
    metrics = [m for m in ("auroc", "auprc") if any(r["metric"] == m for r in rows)]
    if not metrics:
        return
    cells = _cells(rows)
    for model, adaptation in cells[:MOST]:
        mine = [r for r in rows if (r["model"], r["adaptation"]) == (model, adaptation)]
        groups = list(dict.fromkeys((r["attribute"], r["group"]) for r in mine))
        by = {(r["attribute"], r["group"], r["metric"]): r for r in mine if r["metric"] in metrics}
        lines = []
        for key in groups:
            first = by[(*key, metrics[0])]
            values = [_with_interval(by[(*key, m)], width) for m in metrics]
            lines.append([_group(first, width), int(first["n_pos"]), int(first["n_neg"]), int(first["n_patients"]), *values])
        table(["group", "pos.", "neg.", "people", *(NAMES[m] for m in metrics)], lines, title=f"\n{model}, {adaptation}")
    _say_left_out(width, cells, "models and adaptations")
    legend = {"few": "* fewer than 100 positives or negatives", "too few": "** fewer than 10, or one patient on a side: shown, not tested"}
    marks = [text for flag, text in legend.items() if any(r["flag"] == flag for r in rows)]
    _say(width, f"[95 % intervals]: {rows[0]['estimand']}.")
    if marks:
        _say(width, "; ".join(marks) + ".")
    without = [r for r in rows if r["metric"] == metrics[0] and r["n"] and not (math.isfinite(r["value"]) and math.isfinite(r["low"]))]
    by_reason: dict[str, list[str]] = {}
    for name, note in dict.fromkeys((_name(r), r["note"]) for r in without if r["model"] == rows[0]["model"]):
        by_reason.setdefault(note, []).append(name)
    for note, names in by_reason.items():
        _say(width, f"{', '.join(names)}: {note}.")


def _print_operating_points(rows: list[Row], width: int) -> None:
    metrics = ("sensitivity", "specificity", "ppv", "npv")
    found = [r for r in rows if r["metric"] in metrics]
    if not found:
        return
    shown = [m for m in metrics if any(r["metric"] == m for r in found)]
    shown = shown if width >= 110 else shown[:2]
    heads = [NAMES.get(m, m) for m in shown]
    cells = _cells(found)
    lines = []
    for (model, adaptation), threshold in ((c, t) for c in cells[:MOST] for t in dict.fromkeys(r["threshold"] for r in found)):
        by = {
            r["metric"]: r
            for r in found
            if (r["model"], r["adaptation"], r["threshold"], r["attribute"]) == (model, adaptation, threshold, "all")
        }
        if by:
            who = _who(model, adaptation, cells)
            lines.append([short(who, 24), threshold, *(_with_interval(by[m], width) if m in by else None for m in shown)])
    table(["everyone", "threshold", *heads], lines, title="\nOperating points")
    first, model, adaptation = found[0]["threshold"], *cells[0]
    mine = [r for r in found if (r["model"], r["adaptation"], r["threshold"]) == (model, adaptation, first) and r["attribute"] != "all"]
    if mine:
        by_group = {(r["attribute"], r["group"], r["metric"]): r for r in mine}
        keys = list(dict.fromkeys((r["attribute"], r["group"]) for r in mine))
        lines = [
            [_group(by_group[(*k, shown[0])], width), *(_with_interval(by_group[(*k, m)], width) for m in shown if (*k, m) in by_group)]
            for k in keys
        ]
        table([f"{short(model, 20)}, {first}", *heads], lines)
        _say(width, "1 - sensitivity is the underdiagnosis rate; gaps between groups in either are in groups.parquet.")


def _print_calibration(rows: list[Row], width: int) -> None:
    metrics = ("brier", "ece", "calibration_slope", "calibration_intercept")
    found = [r for r in rows if r["metric"] in metrics and r["attribute"] == "all"]
    if not found:
        return
    shown = [m for m in metrics if any(r["metric"] == m for r in found)]
    heads = [NAMES.get(m, m.removeprefix("calibration_")) for m in shown]
    form = _with_interval if width >= 110 else lambda row, _: _number(row["value"])
    cells = _cells(found)
    lines = []
    for cell in cells[:MOST]:
        by = {r["metric"]: r for r in found if (r["model"], r["adaptation"]) == cell}
        lines.append([short(_who(*cell, cells), 24), *(form(by[m], width) if m in by else None for m in shown)])
    table(["everyone", *heads], lines, title="\nCalibration")
    _say(width, "Slope 1 and intercept 0 are calibrated; slope below 1: predictions too extreme; intercept above 0: risks too low.")


def _print_heterogeneity(rows: list[Row], width: int) -> None:
    wanted = [r for r in rows if r["kind"] == HETEROGENEITY and r["metric"] in ("auroc", "sensitivity", "specificity")]
    first = next((r["threshold"] for r in wanted if r["threshold"]), "")
    wanted = [r for r in wanted if r["threshold"] in ("", first)]
    if not wanted:
        return
    worst = {_het_key(r): r for r in rows if r["kind"] == WORST}
    cells = _cells(wanted)
    lines = []
    untested: dict[str, list[str]] = {}
    for r in wanted:
        if (r["model"], r["adaptation"]) not in cells[:MOST]:
            continue
        w = worst.get(_het_key(r))
        if w is None:
            untested.setdefault(r["note"].split(";")[0], []).append(r["attribute"])
            continue
        who = [short(_who(r["model"], r["adaptation"], cells), 16)] if len(cells) > 1 else []
        named = NAMES.get(r["metric"], r["metric"])
        gap = _with_interval(w, width, signed=True)
        lines.append([short(r["attribute"], 14), *who, named, _p(r["p"]), short(w["group_a"], 18), gap])
    heads = ["attribute", *(["model"] if len(cells) > 1 else []), "metric", "p (Q)", "worst group", "its gap to the others"]
    title = "\nIs it even? Heterogeneity across groups"
    if lines:
        table(heads, lines, title=title)
    else:
        say(title)
    for note, attributes in untested.items():
        _say(width, f"{', '.join(dict.fromkeys(attributes))}: {note}.")
    if not lines:
        return
    at = f" Sensitivity and specificity at {first}." if first else ""
    _say(width, f"Q: all groups share one value. The gap's interval accounts for the worst having been picked.{at}")


def _het_key(r: Row) -> tuple[Any, ...]:
    return tuple(r[c] for c in ("model", "adaptation", "attribute", "metric", "threshold"))


def _print_comparisons(frame: pd.DataFrame, width: int) -> None:
    rows = table_rows(frame[frame["metric"].isin(["auroc", "auprc"])])
    keys = list(dict.fromkeys((r["model_a"], r["model_b"], r["adaptation"], r["metric"]) for r in rows))
    several = len({r["adaptation"] for r in rows}) > 1
    for key in keys[:MOST]:
        a, b, adaptation, metric = key
        mine = [r for r in rows if (r["model_a"], r["model_b"], r["adaptation"], r["metric"]) == key]
        ours, paper = [r for r in mine if r["method"] != PAPER], [r for r in mine if r["method"] == PAPER]
        lines = [
            [_group(o, width), _with_interval({**o, "value": o["difference"]}, width, signed=True), _p(o["p"]), _p(o["p_holm"]), _p(p["p"])]
            for o, p in zip(ours, paper, strict=True)
        ]
        title = f"\n{b} minus {a}: {NAMES[metric]}" + (f", {adaptation}" if several else "")
        table(["group", "difference", "p", "p (Holm)", "t-test*"], lines, title=title)
    _say_left_out(width, keys, "comparisons")
    if not keys:
        return
    one, other = next(r for r in rows if r["method"] != PAPER), next(r for r in rows if r["method"] == PAPER)
    _say(width, f"Interval and p: {one['estimand']}. Holm: {FAMILY_IN_WORDS}.")
    _say(width, f"* the published analysis: {other['estimand']}.")
    for cell in significant_cells(frame):
        if cell["metric"] in ("auroc", "auprc"):
            counts = {k: f"{cell[k]['significant']} of {cell[k]['tested']}" for k in ("ours", "ours_holm", "paper")}
            _say(
                width,
                f"{cell['model_b']} and {cell['model_a']}, {NAMES[cell['metric']]}, {cell['of']}: p < 0.05 in {counts['ours']} "
                f"({counts['ours_holm']} after Holm; t-test: {counts['paper']}).",
            )


def _print_generalisation(rows: list[Row], width: int) -> None:
    for adaptation, metric in dict.fromkeys((r["adaptation"], r["metric"]) for r in rows):
        mine = [r for r in rows if (r["adaptation"], r["metric"]) == (adaptation, metric)]
        cells = [r for r in mine if r["kind"] == CELL]
        sites = list(dict.fromkeys(r["site_a"] for r in cells))
        models = list(dict.fromkeys((r["model_a"], r["trained_on_a"]) for r in cells))
        by = {(r["model_a"], r["site_a"]): r for r in cells}
        lines = [
            [short(m, 16), short(home, 14), *(_with_interval(by[m, s], width) + (" home" if s == home else "") for s in sites)]
            for m, home in models
        ]
        heads = ["model", "trained on", *(f"tested on {s}" for s in sites)]
        table(heads, lines, title=f"\nAt home and away: {NAMES[metric]}, {adaptation}")
        pairs = [r for r in mine if r["kind"] == SAME_IMAGES and r["method"] != PAPER]
        paper = [r for r in mine if r["kind"] == SAME_IMAGES and r["method"] == PAPER]
        differences: list[list[str | None]] = [
            [
                short(r["site_a"], 14),
                short(f"{r['model_a']} - {r['model_b']}", 24),
                _with_interval(r, width, signed=True),
                _p(r["p_holm"]),
                _p(t["p"]),
            ]
            for r, t in zip(pairs, paper, strict=True)
        ]
        differences += [
            ["mean of sites", "home - away", _with_interval(r, width, signed=True), _p(r["p"]), None] for r in mine if r["kind"] == OVERALL
        ]
        table(["tested on", "home - away", "difference", "p (Holm)", "t-test"], differences)
    _say(width, "Differences are paired on the same images of one site. One model at two sites: generalisation.parquet, same model.")


def _say_left_out(width: int, keys: list[Any], what: str) -> None:
    if len(keys) > MOST:
        _say(width, f"{len(keys) - MOST} more {what}: in the files.")


def _say(width: int, text: str) -> None:
    say(textwrap.fill(text, max(width, 40)))


def _who(model: str, adaptation: str, cells: list[tuple[str, str]]) -> str:
    return model if len({a for _, a in cells}) == 1 else f"{model}, {adaptation}"


def _name(row: Row) -> str:
    if row["attribute"] == "all":
        return "everyone"
    return row["group"] if AND in row["attribute"] else f"{row['attribute']}: {row['group']}"


def _group(row: Row, width: int) -> str:
    return short(_name(row), 20 if width < 110 else 40) + MARKS[row["flag"]]


def _number(value: float, *, signed: bool = False) -> str:
    return "-" if not math.isfinite(value) else f"{value:+.3f}" if signed else f"{value:.3f}"


def _with_interval(row: Row, width: int, *, signed: bool = False) -> str:
    value = _number(row["value"], signed=signed)
    if not math.isfinite(row["low"]):
        return value
    digits = 2 if width < 110 else 3
    sign = "+" if signed else ""
    return f"{value} [{row['low']:{sign}.{digits}f}, {row['high']:{sign}.{digits}f}]"


def _p(value: float) -> str:
    return "-" if not math.isfinite(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"
