"""Generalisability: models of several sites, each tested at home and away, where ``evaluate compare`` has compared them so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from curate import figures as house
from evaluate.comparisons import PAPER
from evaluate.figures.bars import MOST_BARS, MOST_BRACKETED, Category, side_by_side
from evaluate.figures.drawing import Drawn, LeftOut, count, metric_words, names_of, p_value, pages, wrapped
from evaluate.figures.folder import TaskView
from evaluate.figures.forest import Block, Row
from evaluate.figures.forests import Key, Section, mark, sheets, value_text
from evaluate.generalise import CELL, OVERALL, SAME_IMAGES, SAME_MODEL

if TYPE_CHECKING:
    import pandas as pd

KIND = "generalisability"
METRICS = ("auroc", "auprc")
HEADINGS = {
    SAME_IMAGES: "Same images: model of the site minus model of another",
    SAME_MODEL: "Same model: at its own site minus at another",
    OVERALL: "Over all sites: at home minus away",
}


def generalisability(view: TaskView, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw every model at every site as bars, and the differences between home and away as a forest.

    Args:
        view: a task with one adaptation.
        classes: chosen ones; the comparison is of the average over classes, so nothing is drawn for them.
    """
    table = view.generalisation
    if not len(table):
        yield LeftOut(KIND, view.words, "no models of several sites were compared (evaluate compare --trained-on)")
        return
    if classes:
        yield LeftOut(KIND, view.words, "it is of the average over classes alone")
        return
    models = [m for m in view.models if (table["model_a"] == m).any()]
    table = table[table["model_a"].isin(models) | (table["kind"] == OVERALL)]
    table = table[table["model_b"].isin([*models, ""]) & (table["threshold"] == "")]
    yield from _bars(view, table, models)
    for metric in METRICS:
        if (table["metric"] == metric).any():
            yield from _forest(view, table[table["metric"] == metric], metric)


def _bars(view: TaskView, table: pd.DataFrame, models: Sequence[str]) -> Iterator[Drawn]:
    cells, pairs = table[table["kind"] == CELL], table[(table["kind"] == SAME_IMAGES) & (table["method"] != PAPER)]
    home = {str(r["model_a"]): str(r["trained_on_a"]) for r in cells.to_dict("records")}
    sites = list(dict.fromkeys(map(str, cells["site_a"])))
    shown = names_of(sites, 60)
    metrics = [m for m in METRICS if (cells["metric"] == m).any()]
    categories = []
    for site in sites:
        mine, compared = cells[cells["site_a"] == site], pairs[pairs["site_a"] == site]
        categories.append(
            Category(
                label=wrapped(f"tested at {shown[site]}", 24, 3),
                values={m: {str(r["model_a"]): _plain(r) for r in mine[mine["metric"] == m].to_dict("records")} for m in metrics},
                pairs={m: {_two(r): r["p"] for r in compared[compared["metric"] == m].to_dict("records")} for m in metrics},
                marked=frozenset(m for m in models if home[m] == site),
            )
        )
    names = {m: f"{name} (of {house.readable(home[m], most=24)})" for m, name in names_of(models, 34).items()}
    brackets = len(models) <= MOST_BRACKETED and len(pairs) > 0
    first = cells.iloc[0]
    ways = "; ".join(f"{metric_words(m)}: {cells.loc[cells['metric'] == m, 'method'].iloc[0]}" for m in metrics)
    tests = "; ".join(dict.fromkeys(pairs["method"]))
    caption = (
        f"{view.words}: {' and '.join(map(metric_words, metrics))} of models of several sites, each tested at every site ({view.average}); "
        f"'home' stands where a model is tested at its own site. Bars: mean over seeds; lines: 95 % intervals ({ways}), about "
        f"{first['estimand']}. "
        + (f"p: {tests}, of a site's own model against another's on the same images, not corrected. " if brackets else "")
        + "Two bars of one site differ in the model alone; two sites differ in how hard they are, too. Broken line: the AUROC of chance."
    )
    sheets_ = pages(categories, max(1, MOST_BARS // len(models)))
    for page, part in enumerate(sheets_, 1):
        several = len(sheets_) > 1
        words = (view.name, view.adaptation, "bars", *([f"page-{page}"] if several else []))
        title = f"Models at home and away, {view.title}{f', page {page} of {len(sheets_)}' if several else ''}"
        figure = side_by_side(part, names, metrics, brackets=brackets)
        yield Drawn(KIND, words, title, caption, figure, table[table["kind"].isin([CELL, SAME_IMAGES])])


def _plain(row: Any) -> dict[str, Any]:
    return {str(k): v for k, v in row.items()}


def _two(row: Any) -> frozenset[str]:
    return frozenset((str(row["model_a"]), str(row["model_b"])))


def _forest(view: TaskView, table: pd.DataFrame, metric: str) -> Iterator[Drawn]:
    rows = table[table["kind"].isin(list(HEADINGS))]
    theirs = {_names_of_row(r): r["p"] for r in rows[rows["method"] == PAPER].to_dict("records")}
    ours = rows[rows["method"] != PAPER].reset_index(drop=True)
    if not len(ours):
        return
    ours = ours.assign(attribute=ours["kind"], group=ours.index.astype(str))  # what a page's rows are told by
    models = names_of([*ours["model_a"], *ours["model_b"]], 18)
    sites = names_of([*ours["site_a"], *ours["site_b"]], 14)
    sections: list[Section] = []
    for kind, heading in HEADINGS.items():
        lines: list[tuple[Key, Row]] = []
        for place, raw in ours[ours["kind"] == kind].iterrows():
            row = _plain(raw)
            label = {
                SAME_IMAGES: f"{sites[row['site_a']]}: {models[row['model_a']]} minus {models[row['model_b']]}",
                SAME_MODEL: f"{models[row['model_a']]}: {sites[row['site_a']]} minus {sites[row['site_b']]}",
                OVERALL: "all",
            }[kind]
            p_seeds = theirs.get(_names_of_row(row), math.nan)
            texts = (value_text(row, "value", signed=True), p_value(row["p"]), p_value(row["p_holm"]), p_value(p_seeds), str(row["flag"]))
            cells = count(row["n"]), count(row["n_patients"])
            lines.append(((kind, str(place)), Row(label, cells, (mark(row, row["value"], texts),))))
        if lines:
            sections.append((heading, lines))
    words = metric_words(metric)
    told = " ".join(
        f"{HEADINGS[str(k)]}: {'; '.join(dict.fromkeys(r['method']))}, about {'; '.join(dict.fromkeys(r['estimand']))}."
        for k, r in ours.groupby("kind", sort=False)
    )
    seeds = " p seeds: the published t-test over seeds, not corrected." if theirs else ""
    caption = (
        f"{view.words}: difference of {words} between home and away ({view.average}); right of the line home is better. Squares and lines: "
        f"mean over seeds and 95 % interval. {told} p Holm: corrected within each kind of comparison.{seeds} Columns: images, patients."
    )
    block = Block(("difference [95 %]", "p", "p Holm", "p seeds", ""), f"difference of {words}", 0.0, (-1.0, 1.0))
    title = f"{words}: at home minus away"
    yield from sheets(
        KIND,
        (view.name, view.adaptation, metric),
        (title, f"{title}, {view.title}"),
        caption,
        sections,
        ("images", "patients"),
        [block],
        ours,
    )


def _names_of_row(row: Any) -> tuple[str, ...]:
    return tuple(str(row[k]) for k in ("kind", "model_a", "site_a", "model_b", "site_b"))
