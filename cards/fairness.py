"""Whom a model serves, beyond one number: whether groups differ, operating points and calibration, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from cards.composition import attribute_label, crossed_label
from cards.policy import HIDDEN
from cards.sections import TableBlock, Work
from cards.tables import Cell, Column, Table, clean

if TYPE_CHECKING:
    import pandas as pd

Group = tuple[str, str]
MOST_ROWS = 80
# Sensitivity and its like are counts over counts: with the people known, the share gives the count away.
SHARES = {"sensitivity": "n_pos_patients", "specificity": "n_neg_patients", "ppv": "n_patients", "npv": "n_patients"}
CALIBRATION = ("calibration_slope", "calibration_intercept", "ece", "brier")
_WORST, _Q = "worst", "heterogeneity"


class Rows(Protocol):
    """What a forest knows about its rows: see `cards.performance`."""

    work: Work
    models: list[str]
    subject: str
    groups: list[Group]
    people: dict[Group, tuple[int, ...]]
    suffix: str

    def label(self, group: Group) -> str: ...


def threshold_label(work: Work, threshold: str) -> str:
    """Name a rule that fixes a threshold."""
    say = work.say
    if threshold == "youden":
        return say("threshold_youden")
    kind, _, value = threshold.partition("=")
    if kind in ("specificity", "sensitivity") and value:
        return say(f"threshold_{kind}", value=say.percent(100 * float(value)))
    try:
        return say("threshold_given", value=say.decimal(float(threshold)))
    except ValueError:
        return clean(threshold, 40)


def metric_label(work: Work, metric: str, threshold: str = "") -> str:
    """Name a metric, at a threshold where it has one."""
    name = work.say(f"metric_{metric}") if work.say.has(f"metric_{metric}") else clean(metric)
    return work.say("metric_at", metric=name, threshold=threshold_label(work, threshold)) if threshold else name


def differing(forest: Rows, groups: pd.DataFrame | None) -> tuple[TableBlock | None, str]:
    """Tabulate whether the groups of each attribute differ, and which is worst.

    Args:
        forest: a task and adaptation.
        groups: its rows of ``groups.parquet``, or None.

    Returns:
        The table, or None, and a sentence about the last compared model's AUROC, ``""`` where nothing may be said.
    """
    if groups is None or groups.empty:
        return None, ""
    work, say = forest.work, forest.work.say
    columns = [
        Column("attribute", say("attribute")), Column("model", say("model")), Column("metric", say("metric")),
        Column("worst", say("worst_group")),
        Column("gap", say("gap"), "difference"), Column("low", say("low"), "difference"), Column("high", say("high"), "difference"),
        Column("p", say("p_equal"), "p"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    sentence = ""
    kept = groups[groups["kind"].isin([_WORST, _Q]) & groups["metric"].isin(["auroc", "sensitivity", "specificity"])]
    for (attribute, model, metric, threshold), part in kept.groupby(
        ["attribute", "model", "metric", "threshold"], sort=False, dropna=False
    ):
        worst = next(iter(part[part["kind"] == _WORST].to_dict("records")), None)
        test = next(iter(part[part["kind"] == _Q].to_dict("records")), None)
        if worst is None or len(rows) >= MOST_ROWS:
            continue
        hidden = _any_too_few(forest, str(attribute), str(metric))
        numbers: list[Cell]
        if hidden:
            numbers = [work.protect.withhold(5)] * 4
            name: Cell = HIDDEN
        else:
            numbers = [*(_rounded(worst[k]) for k in ("value", "low", "high")), None if test is None else _rounded(test["p"], 4)]
            name = crossed_label(work, str(attribute), str(worst["group_a"]))
        rows.append(
            [attribute_label(work, str(attribute)), clean(model), metric_label(work, str(metric), str(threshold or "")), name, *numbers]
        )
        first = metric == "auroc" and str(model) == forest.subject and not sentence
        if first and not hidden and all(isinstance(v, float) for v in numbers):
            sentence = say(
                "note_worst", attribute=attribute_label(work, str(attribute)), model=clean(model), group=str(name),
                gap=say.decimal(numbers[0], 3, sign=True), low=say.decimal(numbers[1], 3, sign=True),
                high=say.decimal(numbers[2], 3, sign=True), p=say.cell(numbers[3], "p"),
            )  # fmt: skip
    if not rows:
        return None, ""
    table = Table(f"differing-{forest.suffix}", say("table_differing"), columns, rows, notes=[say("note_differing")])
    return TableBlock(table), sentence


def _any_too_few(forest: Rows, attribute: str, metric: str) -> bool:
    """Say whether a comparison over an attribute holds a group that may not be shown: with the others known, it could be had."""
    protect = forest.work.protect
    mine = [people for (a, _), people in forest.people.items() if a == attribute and people[0] > 0]
    return not mine or any(protect.too_few(*people) and min(people) > 0 for people in mine)


def operating_points(forest: Rows, estimates: pd.DataFrame) -> list[TableBlock]:
    """Tabulate what each model does at its thresholds, folded."""
    say = forest.work.say
    rows = estimates[estimates["metric"].isin(list(SHARES))]
    if rows.empty or "threshold" not in rows:
        return []
    lines = [(m, t) for t in dict.fromkeys(rows["threshold"]) for m in SHARES if ((rows["metric"] == m) & (rows["threshold"] == t)).any()]
    title = say("table_operating")
    table = _wide(forest, rows, lines[:12], f"operating-{forest.suffix}", title, [say("note_operating"), say("note_operating_hidden")])
    return [TableBlock(table, folded=title)] if table else []


def calibration(forest: Rows, estimates: pd.DataFrame) -> list[TableBlock]:
    """Tabulate how far probabilities can be believed, folded."""
    say = forest.work.say
    rows = estimates[estimates["metric"].isin(CALIBRATION)]
    if rows.empty:
        return []
    lines = [(m, "") for m in CALIBRATION if (rows["metric"] == m).any()]
    title = say("table_calibration")
    table = _wide(forest, rows, lines, f"calibration-{forest.suffix}", title, [say("note_calibration")])
    return [TableBlock(table, folded=title)] if table else []


def _wide(forest: Rows, estimates: pd.DataFrame, lines: Sequence[tuple[str, str]], name: str, title: str, notes: list[str]) -> Table | None:
    """Put one row a group and model, and value, low and high of each metric at each threshold."""
    say, protect = forest.work.say, forest.work.protect
    columns = [Column("group", say("group")), Column("model", say("model"))]
    for i, (metric, threshold) in enumerate(lines):
        label = metric_label(forest.work, metric, threshold)
        columns += [
            Column(f"m{i}", label, "metric"),
            Column(f"m{i}_low", say("low"), "metric"),
            Column(f"m{i}_high", say("high"), "metric"),
        ]
    # A Series per row is slow where there are many: look each estimate up in a dict.
    keys = ["attribute", "group", "model", "metric", *(["threshold"] if "threshold" in estimates else [])]
    found: dict[tuple[str, ...], dict[Any, Any]] = {tuple(str(r[k]) for k in keys): r for r in estimates.to_dict("records")}
    rows: list[list[Cell]] = []
    attribute = "all"
    for group in forest.groups:
        if group[0] != attribute:
            attribute = group[0]
            rows.append([attribute_label(forest.work, attribute)])
        for model in forest.models[:6]:
            row: list[Cell] = [forest.label(group), clean(model)]
            for metric, threshold in lines:
                estimate = found.get((*group, model, metric, *([threshold] if len(keys) == 5 else [])))
                if estimate is None:
                    row += [None] * 3
                elif protect.too_few(*forest.people[group]) or gives_away(forest.work, estimate):
                    row += [protect.withhold(3)] * 3
                else:
                    of = int(estimate[SHARES[metric]]) if metric in SHARES else 0
                    row += [protect.metric(estimate[k], share_of=of) for k in ("value", "low", "high")]
            rows.append(row)
    return Table(name, title, columns, rows[: 3 * MOST_ROWS], notes=notes) if any(len(r) > 1 for r in rows) else None


def gives_away(work: Work, estimate: dict[Any, Any]) -> bool:
    """Say whether a share of people would count too few of them: those it counts, or those it leaves out.

    Args:
        work: what every section needs.
        estimate: a row of ``estimates.parquet``; of metrics that aren't shares of people nothing is given away.
    """
    of = SHARES.get(str(estimate["metric"]))
    value = estimate["value"]
    if of is None or not work.protect.policy.threshold or value is None or value != value:
        return False
    people = int(estimate[of])
    return min(round(value * people), round((1 - value) * people)) <= work.protect.policy.threshold


def _rounded(value: Any, digits: int = 3) -> Cell:
    return None if value is None or value != value else round(float(value), digits)
