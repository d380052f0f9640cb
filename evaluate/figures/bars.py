"""Bars with intervals: models side by side, for every task and adaptation (Zhou et al. 2025, Figures 3 and 4)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate import figures as house
from evaluate.comparisons import PAPER
from evaluate.figures.drawing import (
    MACRO,
    Drawn,
    LeftOut,
    colour,
    hatch,
    left_to_right,
    legend_columns,
    metric_words,
    names_of,
    number,
    p_value,
    pages,
    wrapped,
)
from evaluate.figures.folder import TaskView
from evaluate.results import table_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = ("auroc", "auprc")
MOST_BARS = 40  # of one page
MOST_BRACKETED = 3  # models between which p-values are drawn
BAR = 0.14  # inches
VALUES, BRACKETS, END = 1.03, 1.21, 1.5  # where text stands right of the bars, in the metric's unit

Rows = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Category:
    """One set of bars: a task with an adaptation, or a site.

    Attributes:
        label: readable; may have several lines.
        values: metric -> model -> a row with value, low, high, flag and note.
        pairs: metric -> {two models} -> p.
        marked: models whose bars carry the word "home".
    """

    label: str
    values: Mapping[str, Rows]
    pairs: Mapping[str, Mapping[frozenset[str], float]]
    marked: frozenset[str] = frozenset()


def bars(views: Sequence[TaskView], models: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw the macro averages of all models for everyone, one panel a metric.

    Args:
        views: tasks with adaptations, in the order in which they are drawn.
        models: in order.
    """
    views = [view for view in views if len(view.estimates)]
    if not views:
        yield LeftOut("bars", "all tasks", "the evaluation has no estimates")
        return
    sheets = pages(views, max(1, MOST_BARS // len(models)))
    for page, sheet in enumerate(sheets, 1):
        yield _page(sheet, models, page if len(sheets) > 1 else 0, len(sheets))


def _page(views: Sequence[TaskView], models: Sequence[str], page: int, of: int) -> Drawn:
    import pandas as pd

    estimates = [_everyone(view.estimates) for view in views]
    found = pd.concat(estimates)
    compared = [_everyone(view.comparisons) for view in views]
    titles = names_of((view.title for view in views), 80)
    several = len({view.adaptation for view in views}) > 1
    categories = [
        Category(
            label=wrapped(titles[view.title], 24, 3) + (f"\n{house.readable(view.adaptation, most=24)}" if several else ""),
            values={m: {str(r["model"]): r for r in table_rows(rows[rows["metric"] == m])} for m in METRICS},
            pairs={m: {_pair(r): r["p"] for r in table_rows(_ours(pairs, m))} for m in METRICS},
        )
        for view, rows, pairs in zip(views, estimates, compared, strict=True)
    ]
    metrics = [m for m in METRICS if (found["metric"] == m).any()]
    first = found.iloc[0]
    ways = [f"{metric_words(m)}: {found.loc[found['metric'] == m, 'method'].iloc[0]}" for m in metrics]
    tests = list(dict.fromkeys(way for m in metrics for pairs in compared for way in (_ours(pairs, m)["method"] if len(pairs) else ())))
    bracketed = 2 <= len(models) <= MOST_BRACKETED
    caption = (
        f"{' and '.join(map(metric_words, metrics))} of {len(models)} model{'s' * (len(models) > 1)} on everyone in the test split, for "
        f"each task and adaptation (macro average over classes, one against the rest; of two classes, the second). Bars: mean over seeds; "
        f"lines: 95 % intervals ({'; '.join(ways)}), about {first['estimand']}. "
        + (f"p: {'; '.join(tests)}, not corrected for the number of tasks. " if tests and bracketed else "")
        + (f"p of pairs among more than {MOST_BRACKETED} models is in the table alone. " if tests and not bracketed else "")
        + "Broken line: the AUROC of chance. Bars without filling: too few to be tested."
    )
    numbers = found[found["metric"].isin(metrics)].assign(what="estimate")
    pairs = [p[p["metric"].isin(metrics) & p["model_a"].isin(models) & p["model_b"].isin(models)] for p in compared if len(p)]
    numbers = pd.concat([numbers, *[p.assign(what="comparison") for p in pairs]])
    title = f"Models side by side{f', page {page} of {of}' if page else ''}"
    figure = side_by_side(categories, names_of(models, 34), metrics, brackets=bracketed and bool(tests))
    return Drawn("bars", (f"page-{page}",) if page else (), title, caption, figure, numbers)


def _everyone(table: pd.DataFrame) -> pd.DataFrame:
    if not len(table):
        return table
    table = table[(table["attribute"] == "all") & (table["threshold"] == "")]
    return table[table["class"] == MACRO] if "class" in table.columns else table


def _ours(pairs: pd.DataFrame, metric: str) -> pd.DataFrame:
    return pairs[(pairs["metric"] == metric) & (pairs["method"] != PAPER)] if len(pairs) else pairs


def _pair(row: dict[str, Any]) -> frozenset[str]:
    return frozenset((str(row["model_a"]), str(row["model_b"])))


def side_by_side(categories: Sequence[Category], names: Mapping[str, str], metrics: Sequence[str], *, brackets: bool) -> Figure:
    """Draw sets of bars under each other, a panel a metric; call it within `curate.figures.style`.

    Args:
        categories: from top to bottom.
        names: model -> readable name, in order.
        metrics: of the panels; the unit is 0 to 1.
        brackets: whether pairs of bars are joined by their p.
    """
    from matplotlib.patches import Patch

    models = list(names)
    handles = [Patch(facecolor=_face(i), edgecolor=colour(i), hatch=hatch(i), label=left_to_right(names[m])) for i, m in enumerate(models)]
    columns = legend_columns(house.new_figure(house.DOUBLE, 1), list(names.values()), house.DOUBLE)
    lines = max(len(models), *(1.1 * (category.label.count("\n") + 1) for category in categories))
    height = 0.62 + BAR * (lines + 0.9) * len(categories) + 0.16 * -(-len(models) // columns)
    figure = house.new_figure(house.DOUBLE, height)
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        for place, category in enumerate(categories):
            at = {m: place + (i - (len(models) - 1) / 2) / (lines + 0.9) for i, m in enumerate(models)}
            _bars(axes, at, category.values[metric], category.marked, 0.86 / (lines + 0.9))
            if brackets:
                _brackets(axes, at, category.pairs[metric])
        axes.set_xlim(0, END if brackets else BRACKETS)
        axes.set_xticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axes.spines["bottom"].set_bounds(0, 1)
        axes.set_xlabel(metric_words(metric), x=0.5 / axes.get_xlim()[1])
        house.grid(axes, "x")
        if metric == "auroc":
            axes.plot([0.5, 0.5], [-0.5, len(categories) - 0.5], color=house.INK, linewidth=0.7, linestyle=(0, (3, 3)), zorder=3)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(len(categories) - 0.5, -0.5)
    panels[0].set_yticks(range(len(categories)), [left_to_right(category.label) for category in categories])
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure


def _face(i: int) -> Any:
    return house.lighter(colour(i), 0.35)


def _bars(axes: Axes, at: Mapping[str, float], rows: Rows, marked: frozenset[str], thick: float) -> None:
    for i, (model, y) in enumerate(at.items()):
        row = rows.get(model)
        if row is None:
            continue
        if math.isnan(row["value"]):
            axes.text(0.01, y, house.readable(str(row["note"]) or "no value", most=40), va="center", fontsize=6.5, color=house.SOFT)
            continue
        few = row["flag"] == "too few"
        axes.barh(y, row["value"], thick, color="white" if few else _face(i), edgecolor=colour(i), hatch="" if few else hatch(i))
        if not math.isnan(row["low"]):
            axes.hlines(y, row["low"], row["high"], color=house.INK, linewidth=1.0, zorder=4)
        if model in marked:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6}
            axes.text(0.015, y, "home", va="center", fontsize=5.5, bbox=box)
        axes.text(VALUES, y, number(row["value"]), va="center", fontsize=6.5)


def _brackets(axes: Axes, at: Mapping[str, float], pairs: Mapping[frozenset[str], float]) -> None:
    """Join two bars by a bracket with the p-value of their comparison."""
    order = list(at)
    for a, b in itertools.combinations(order, 2):
        if frozenset((a, b)) not in pairs:
            continue
        # The bracket of bars that aren't neighbours stands further out, its text behind the others'.
        apart = order.index(b) - order.index(a) > 1
        x = BRACKETS + (0.19 if apart else 0.0)
        tooth = 0.012
        axes.plot([x - tooth, x, x, x - tooth], [at[a], at[a], at[b], at[b]], color=house.INK, linewidth=0.7, solid_joinstyle="miter")
        told = p_value(pairs[frozenset((a, b))])
        text = "not tested" if told == "–" else f"p {told}" if told.startswith("<") else f"p = {told}"
        axes.text(x + 0.02, (at[a] + at[b]) / 2, text, va="center", fontsize=6.5 if not apart else 6.0)
