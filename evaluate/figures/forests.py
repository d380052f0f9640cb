"""Forests of an evaluation: two models' difference by group (Zhou et al. 2025, Figure 6), each model's estimates, gaps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curate.console import short
from evaluate.comparisons import PAPER
from evaluate.figures.drawing import MACRO, Drawn, LeftOut, count, interval, metric_words, names_of, number, p_value, threshold_words
from evaluate.figures.folder import TaskView
from evaluate.figures.forest import Block, Mark, Row, forest

if TYPE_CHECKING:
    import pandas as pd

LONGEST = 26  # letters of a group's name
PAGE_ROWS = 46  # lines of a page
MOST_PAIRED = 3  # models of which every pair is drawn; of more, each against the first
SMALL_GROUPS = (
    "Pale squares: fewer than 100 positives or negatives; hollow squares: too few to be tested. An arrow head: the interval goes on."
)

Key = tuple[str, str]  # attribute, group
Records = dict[Key, dict[str, Any]]
Section = tuple[str, list[tuple[Key, Row]]]


def differences(view: TaskView, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw the difference of two models on the same images, by group, once a pair and metric.

    Args:
        view: a task with one adaptation.
        classes: chosen ones; comparisons are of the average over classes, so nothing is drawn for them.
    """
    kind = "differences"
    if len(view.models) < 2:
        yield LeftOut(kind, view.words, "there is one model")
        return
    if not len(view.comparisons):
        yield LeftOut(kind, view.words, "the evaluation has no comparisons")
        return
    if classes:
        yield LeftOut(kind, view.words, "comparisons are of the average over classes alone")
        return
    pairs = list(itertools.combinations(view.models, 2))
    if len(view.models) > MOST_PAIRED:
        pairs = pairs[: len(view.models) - 1]
        yield LeftOut(kind, f"{view.words}, pairs without {view.models[0]}", f"there are {len(view.models)} models; choose with --model")
    for (a, b), metric in itertools.product(pairs, ("auroc", "auprc")):
        rows = _pair(view, a, b, metric)
        if len(rows):
            yield from _difference(view, a, b, metric, rows)
        elif metric == "auroc":
            yield LeftOut(kind, f"{view.words}, {b} against {a}", "the evaluation does not compare these two")


def _pair(view: TaskView, a: str, b: str, metric: str) -> pd.DataFrame:
    """Give the rows of b minus a, whichever way round the evaluation has them."""
    table = view.comparisons[(view.comparisons["metric"] == metric) & (view.comparisons["threshold"] == "")]
    rows = table[(table["model_a"] == a) & (table["model_b"] == b)]
    if not len(rows):
        rows = table[(table["model_a"] == b) & (table["model_b"] == a)]
        turned = {"difference": -rows["difference"], "low": -rows["high"], "high": -rows["low"]}
        rows = rows.assign(**turned, model_a=rows["model_b"], model_b=rows["model_a"])
    return drawn_groups(view, rows)


def drawn_groups(view: TaskView, rows: pd.DataFrame, group: str = "group") -> pd.DataFrame:
    """Keep the rows of everyone and of the groups that are drawn."""
    wanted = {("all", "all"), *((a, g) for a, groups in view.groups.items() for g in groups)}
    return rows[[key in wanted for key in zip(rows["attribute"], rows[group], strict=True)]]


def _difference(view: TaskView, a: str, b: str, metric: str, rows: pd.DataFrame) -> Iterator[Drawn]:
    paper = (rows["method"] == PAPER).to_numpy()
    ours, theirs = by_group(rows[~paper]), by_group(rows[paper])
    names = names_of((a, b), 30)

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return count(row["n"]), count(row["n_patients"]), count(row["n_pos_patients"])

    def marks(row: dict[str, Any]) -> tuple[Mark, ...]:
        other = theirs.get((row["attribute"], row["group"]), {"p": math.nan})
        shown = value_text(row, "difference", signed=True)
        return (mark(row, row["difference"], (shown, p_value(row["p"]), p_value(row["p_holm"]), p_value(other["p"]), row["flag"])),)

    words = metric_words(metric)
    title = f"{words}: {names[b]} minus {names[a]}"
    block = Block(("difference [95 %]", "p", "p Holm", "p seeds", ""), f"difference of {words}", 0.0, (-1.0, 1.0))
    first = next(iter(ours.values()))
    seeds = f"p seeds: the published t-test over seeds, about {next(iter(theirs.values()))['estimand']}, not corrected. " if theirs else ""
    caption = (
        f"{view.words}: {words} of {b} minus that of {a} on the same images, for everyone and by group ({view.average}); right of the line "
        f"{b} is better. Squares and lines: mean over seeds and 95 % interval ({first['method']}), about {first['estimand']}. p: of that "
        f"comparison; p Holm: corrected over the tested groups of one attribute. {seeds}"
        f"Columns: images, patients, patients with a positive image{_smallest(view)}. {SMALL_GROUPS}"
    )
    yield from sheets(
        "differences",
        (view.name, view.adaptation, metric, b, "minus", a),
        (title, f"{title}, {view.title}, by group"),
        caption,
        _sections(view, ours, cells, marks),
        ("images", "patients", "positive"),
        [block],
        rows,
    )


def estimates(view: TaskView, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw each model's AUROC and AUPRC by group.

    Args:
        view: a task with one adaptation.
        classes: to draw; none: the macro average.
    """
    if not len(view.estimates):
        yield LeftOut("estimates", view.words, "the evaluation has no estimates")
        return
    for model, name in itertools.product(view.models, classes or (MACRO,)):
        yield from _estimate(view, "estimates", model, name, [("auroc", ""), ("auprc", "")])


def thresholds(view: TaskView, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw each model's sensitivity and specificity by group, at each threshold.

    Args:
        view: a task with one adaptation.
        classes: to draw; none: the macro average.
    """
    fixed = fixed_thresholds(view)
    if not fixed:
        yield LeftOut("thresholds", view.words, "the evaluation has no thresholds")
        return
    for model, name, threshold in itertools.product(view.models, classes or (MACRO,), fixed):
        yield from _estimate(view, "thresholds", model, name, [("sensitivity", threshold), ("specificity", threshold)])


def fixed_thresholds(view: TaskView) -> list[str]:
    """List the thresholds at which sensitivity was estimated, in the evaluation's order."""
    table = view.estimates
    return list(dict.fromkeys(table.loc[table["metric"] == "sensitivity", "threshold"])) if len(table) else []


def _estimate(view: TaskView, kind: str, model: str, name: str, metrics: Sequence[tuple[str, str]]) -> Iterator[Drawn | LeftOut]:
    """Draw one model's values of two metrics side by side."""
    table = view.estimates
    table = drawn_groups(view, table[(table["model"] == model) & (table["class"] == name)])
    found = [(m, t, rows) for m, t in metrics if len(rows := table[(table["metric"] == m) & (table["threshold"] == t)])]
    if not found:
        yield LeftOut(kind, f"{view.words}, {model}", f"there is no {' or '.join(metric_words(*m) for m in metrics)} of {name}")
        return
    by = [by_group(rows) for _, _, rows in found]
    one_class = name != MACRO or len(view.judged) == 1

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        share = f" ({100 * row['n_pos'] / row['n']:.0f} %)" if one_class and row["n"] else ""
        return count(row["n"]), count(row["n_patients"]), count(row["n_pos"]) + share

    def marks(row: dict[str, Any]) -> tuple[Mark | None, ...]:
        return _beside(by, (row["attribute"], row["group"]), lambda r: (value_text(r, "value"),))

    shown = names_of([model], 50)[model]
    about = view.average if name == MACRO else f"of '{name}' against the rest"
    at = metrics[0][1] and f" at {threshold_words(metrics[0][1])}"
    words = " and ".join(metric_words(m) for m, _, _ in found).replace("and S", "and s") + at
    first = [next(iter(rows.values())) for rows in by]
    methods = "; ".join(f"{metric_words(m)}: {row['method']}" for (m, _, _), row in zip(found, first, strict=True))
    seeds = int(first[0]["seeds"])
    follows = (
        "AUPRC follows the share of positives (in brackets, of one class): groups with different shares are not to be compared by it. "
        if any(m == "auprc" for m, _, _ in found)
        else ""
    )
    caption = (
        f"{view.words}: {words} of {model} for everyone and by group ({about}). Squares and lines: mean over {seeds} "
        f"seed{'s' * (seeds > 1)} and 95 % interval ({methods}), about {first[0]['estimand']}. {follows}Columns: images, patients, "
        f"positive images{'' if one_class else _smallest(view)}. {SMALL_GROUPS}"
    )
    of_class = "" if name == MACRO else f", class {names_of([name], 20)[name]}"
    yield from sheets(
        kind,
        tuple(w for w in (view.name, view.adaptation, model, metrics[0][1], "" if name == MACRO else name) if w),
        (f"{words}: {shown}{of_class}", f"{words} by group, {shown}{of_class}, {view.title}"),
        caption,
        _sections(view, by[0], cells, marks),
        ("images", "patients", "positive"),
        [
            Block(
                ("value [95 %]", "")[: 1 + (i == len(found) - 1)],
                metric_words(m),
                None,
                (0.0, 1.0),
            )
            for i, (m, _, _) in enumerate(found)
        ],
        view.estimates.loc[[i for _, _, rows in found for i in rows.index]],
    )


def gaps(view: TaskView, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw how far each group lies from all others of its attribute, once a model.

    Args:
        view: a task with one adaptation.
        classes: chosen ones; gaps are of the average over classes, so nothing is drawn for them.
    """
    table = view.gaps
    if not len(table):
        yield LeftOut("gaps", view.words, "the evaluation holds no groups against each other")
        return
    if classes:
        yield LeftOut("gaps", view.words, "gaps are of the average over classes alone")
        return
    table = drawn_groups(view, table[(table["kind"] == "against rest") & (table["threshold"] == "")], "group_a")
    for model in view.models:
        mine = table[table["model"] == model]
        found = [(m, rows) for m in ("auroc", "auprc_adjusted") if (rows := mine[mine["metric"] == m])["value"].notna().any()]
        if found:
            yield from _gap(view, model, found)
        else:
            yield LeftOut("gaps", f"{view.words}, {model}", "no attribute has two groups that are large enough")


def _gap(view: TaskView, model: str, found: Sequence[tuple[str, pd.DataFrame]]) -> Iterator[Drawn]:
    by = [by_group(rows, "group_a") for _, rows in found]

    def cells(row: dict[str, Any]) -> tuple[str, ...]:
        return (count(row["n_patients_a"]),)

    def marks(row: dict[str, Any]) -> tuple[Mark | None, ...]:
        return _beside(by, (row["attribute"], row["group_a"]), lambda r: (value_text(r, "value", signed=True), p_value(r["p_holm"])))

    shown = names_of([model], 50)[model]
    words = " and ".join(metric_words(m) for m, _ in found)
    first = next(iter(by[0].values()))
    table = view.gaps
    tests = table[(table["kind"] == "heterogeneity") & (table["model"] == model) & table["metric"].isin([m for m, _ in found])]
    tests = tests[tests["attribute"].isin(list(view.groups)) & (tests["threshold"] == "")]
    told = "; ".join(
        f"{row['attribute']}: Q = {number(row['statistic'])} on {count(row['df'])} degrees of freedom, p {_p(row['p'])}"
        for row in tests[tests["metric"] == found[0][0]].to_dict("records")
    )
    caption = (
        f"{view.words}: {words} of {model} in each group minus that in all others of the attribute ({view.average}). Squares and lines: "
        f"mean over seeds and 95 % interval ({first['method']}), about {first['estimand']}; p Holm: corrected over the tested groups of "
        f"one attribute. Whether the groups of an attribute differ at all (Cochran's Q of {metric_words(found[0][0])}): "
        f"{told or 'not tested'}. Column: patients of the group. {SMALL_GROUPS}"
    )
    yield from sheets(
        "gaps",
        (view.name, view.adaptation, model),
        (f"Each group minus all others: {shown}", f"Each group minus all others, {shown}, {view.title}"),
        caption,
        _sections(view, by[0], cells, marks),
        ("patients",),
        [
            Block(("gap [95 %]", "p Holm", "")[: 2 + (i == len(found) - 1)], f"gap of {metric_words(m)}", 0.0, (-1.0, 1.0))
            for i, (m, _) in enumerate(found)
        ],
        view.gaps.loc[[i for _, rows in found for i in rows.index] + list(tests.index)],
        group="group_a",
    )


def _p(p: float) -> str:
    return p_value(p) if p < 0.001 else f"= {p_value(p)}"


def by_group(rows: pd.DataFrame, group: str = "group") -> Records:
    """Give rows by attribute and group."""
    return {(str(row["attribute"]), str(row[group])): {str(k): v for k, v in row.items()} for row in rows.to_dict("records")}


def mark(row: dict[str, Any], value: float, texts: tuple[str, ...]) -> Mark:
    """Make a mark of a table's row."""
    return Mark(value, row["low"], row["high"], texts, hollow=row["flag"] == "too few", pale=row["flag"] == "few")


def value_text(row: dict[str, Any], column: str, *, signed: bool = False) -> str:
    """Write a row's value with its interval; where there is none, why."""
    if math.isnan(row[column]):
        return short(str(row["note"]), 23) or "–"  # as long as a signed value with its interval
    return interval(row[column], row["low"], row["high"], signed=signed)


def _beside(by: Sequence[Records], key: Key, texts: Callable[[dict[str, Any]], tuple[str, ...]]) -> tuple[Mark | None, ...]:
    """Make the marks of one row in several blocks; the last says the flag."""
    made: list[Mark | None] = []
    for i, records in enumerate(by):
        row = records.get(key)
        flag = (str(row["flag"]),) if row is not None and i == len(by) - 1 else ()
        made.append(mark(row, row["value"], (*texts(row), *flag)) if row is not None else None)
    return tuple(made)


def _smallest(view: TaskView) -> str:
    return "" if len(view.judged) == 1 else ", the smallest number over the classes averaged"


def _sections(
    view: TaskView,
    there: Records,
    cells: Callable[[dict[str, Any]], tuple[str, ...]],
    marks: Callable[[dict[str, Any]], tuple[Mark | None, ...]],
) -> list[Section]:
    """Order rows by attribute and group: (heading, rows with their keys), everyone first and without a heading."""
    found = []
    attributes = names_of(view.groups, 60)
    for attribute, groups in {"all": ("all",), **view.groups}.items():
        names = {"all": "Everyone"} if attribute == "all" else names_of(groups, LONGEST)
        keys = [(attribute, g) for g in groups if (attribute, g) in there]
        if keys:
            heading = "" if attribute == "all" else attributes[attribute]
            found.append((heading[:1].upper() + heading[1:], [(k, Row(names[k[1]], cells(there[k]), marks(there[k]))) for k in keys]))
    return found


def sheets(
    kind: str,
    words: tuple[str, ...],
    titles: tuple[str, str],
    caption: str,
    sections: Sequence[Section],
    headers: Sequence[str],
    blocks: Sequence[Block],
    numbers: pd.DataFrame,
    *,
    group: str = "group",
) -> Iterator[Drawn]:
    """Draw as many pages as the rows need; an attribute that goes on has its heading again.

    Args:
        kind, words, caption, numbers: see `Drawn`; of the numbers each page takes those of its rows.
        titles: above the forest, and in the list of figures.
        sections: (heading, rows with their attribute and group).
        headers, blocks: see `forest`.
        group: the column of `numbers` that holds the group.
    """
    pages: list[tuple[list[Row], set[Key]]] = [([], set())]
    for heading, rows in sections:
        for i, (key, row) in enumerate(rows):
            if len(pages[-1][0]) + (2 if heading and not i else 1) > PAGE_ROWS:
                pages.append(([], set()))
            there, keys = pages[-1]
            if heading and (not i or not there):
                there.append(Row(heading if not i else f"{heading} (continued)"))
            there.append(row)
            keys.add(key)
    of = len(pages)
    every = set().union(*(keys for _, keys in pages))  # rows that are no group's, as tests over groups, are on every page
    for page, (rows_, keys) in enumerate(pages, 1):
        here = [key in keys or key not in every for key in zip(numbers["attribute"], numbers[group], strict=True)]
        mine = numbers[here] if of > 1 else numbers
        where = f", page {page} of {of}" if of > 1 else ""
        name = (*words, f"page-{page}") if of > 1 else words
        yield Drawn(kind, name, titles[1] + where, caption, forest(titles[0] + where, rows_, headers, blocks), mine)
