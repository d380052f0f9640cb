"""ROC, precision-recall, reliability and net benefit: models side by side, and each model's groups."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from curate import figures as house
from evaluate.calibration import BINS
from evaluate.figures import curves
from evaluate.figures.captions import FEW_IN_BIN, TITLES, caption
from evaluate.figures.drawing import MACRO, Drawn, LeftOut, colour, line_style, marker, pages, threshold_words
from evaluate.figures.folder import TaskView
from evaluate.figures.forests import fixed_thresholds
from evaluate.figures.panels import MOST, Panel, page, unit_axes
from evaluate.figures.series import CALIBRATED, MOST_GROUPS, Series, Sheet, class_masks, sheets_of_groups, sheets_of_models
from evaluate.predictions import ScoredImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = ("roc", "precision-recall", "reliability", "net-benefit")
DOTTED: Any = (0, (1, 1.5))
Floats = NDArray[np.float64]
Arrays = tuple[Floats, NDArray[np.bool_], NDArray[np.int64]]


@dataclass(frozen=True)
class Pen:
    """One line that is to be drawn.

    Attributes:
        panel: where.
        view: the task.
        one: which series.
        parts: scores (seeds, n), truth and patients of each class that it averages.
        i: which line of the panel; sets colour and pattern.
        of: lines of the panel.
        width: in points.
        thresholds: whose operating points are marked.
    """

    panel: Panel
    view: TaskView
    one: Series
    parts: list[Arrays]
    i: int
    of: int
    width: float
    thresholds: Sequence[str]

    @property
    def style(self) -> dict[str, Any]:
        """Give the line's looks."""
        return {"color": colour(self.i), "linestyle": line_style(self.i), "linewidth": self.width, "zorder": 3}

    @property
    def shared(self) -> str:
        """Give the colour of a reference: grey where all lines of the panel share it, else the line's."""
        return house.SOFT if self.one.attribute == "all" else colour(self.i)

    def row(self, what: str, x: float, y: float, **more: Any) -> dict[str, Any]:
        """Make a row of the figure's numbers."""
        one = self.one
        return {"model": one.model, "class": one.name, "attribute": one.attribute, "group": one.group, "what": what, "x": x, "y": y, **more}

    def estimate(self, metric: str, threshold: str = "") -> dict[str, Any] | None:
        """Look up the series' estimate; None where there is none, or no value."""
        table, one = self.view.estimates, self.one
        if not len(table):
            return None
        rows = table[
            (table["model"] == one.model)
            & (table["attribute"] == one.attribute)
            & (table["group"] == one.group)
            & (table["class"] == one.name)
            & (table["metric"] == metric)
            & (table["threshold"] == threshold)
        ]
        if not len(rows) or math.isnan(rows["value"].iloc[0]):
            return None
        return {str(k): v for k, v in rows.iloc[0].items()}


def curve_figures(kind: str, view: TaskView, scored: ScoredImages | None, classes: Sequence[str]) -> Iterator[Drawn | LeftOut]:
    """Draw one kind of curve: all models on everyone, then each attribute's groups for every model.

    Args:
        kind: of `KINDS`.
        view: a task with one adaptation.
        scored: its test images; None where there are no predictions.
        classes: drawn one against the rest, in place of the average over classes.
    """
    if scored is None:
        yield LeftOut(kind, view.words, "the evaluation has no predictions of the test split")
        return
    if kind in CALIBRATED and not scored.probabilities:
        yield LeftOut(kind, view.words, "the scores are not probabilities")
        return
    for sheet in [*sheets_of_models(kind, view, scored, classes), *sheets_of_groups(kind, view, scored, classes)]:
        if isinstance(sheet, LeftOut):
            yield sheet
            continue
        cut = pages(list(zip(sheet.titles, sheet.series, strict=True)), MOST)
        for place, part in enumerate(cut, 1):
            words = (view.name, view.adaptation, *sheet.words, *([f"page-{place}"] if len(cut) > 1 else []))
            yield _draw(kind, words, view, scored, sheet, part)


def _draw(
    kind: str, words: tuple[str, ...], view: TaskView, scored: ScoredImages, sheet: Sheet, part: Sequence[tuple[str, tuple[Series, ...]]]
) -> Drawn:
    import pandas as pd

    draw = {"roc": _roc, "precision-recall": _precision_recall, "reliability": _reliability, "net-benefit": _net_benefit}[kind]
    everyone = sheet.about == "everyone"
    drawn = [one for _, line in part for one in line]
    # An average over classes has no one operating point.
    points = kind in ("roc", "precision-recall") and any(one.name != MACRO for one in drawn)
    thresholds = fixed_thresholds(view) if points else []
    tall = {"reliability": 1.2, "net-benefit": 0.9}.get(kind, 1.0)
    extra = _extra(kind, thresholds, everyone=everyone)
    figure, panels = page([title for title, _ in part], sheet.lines, extra, strip=kind == "reliability", tall=tall)
    rows: list[dict[str, Any]] = []
    for panel, (_, line) in zip(panels, part, strict=True):
        for i, one in enumerate(line):
            parts = _parts(view, scored, one)
            marked = thresholds if one.name != MACRO else ()
            rows += draw(Pen(panel, view, one, parts, i, len(line), sheet.lines[i].width, marked))
        # Panels of one class share their axes; classes have different shares of positives, and axes of their own.
        _finish(kind, panel, _reach(rows, one.name if everyone else None) if kind == "net-benefit" else None)
    if kind == "net-benefit" and not everyone:
        for panel in panels:
            _limit(panel.axes, *_reach(rows, None))
    numbers = pd.DataFrame(rows)
    numbers.insert(0, "task", view.name)
    numbers.insert(1, "adaptation", view.adaptation)
    title = f"{TITLES[kind]}, {view.title}, {sheet.about}"
    return Drawn(kind, words, house.readable(title, most=160), caption(kind, view, scored, sheet, drawn, thresholds), figure, numbers)


def _parts(view: TaskView, scored: ScoredImages, one: Series) -> list[Arrays]:
    """Give scores (seeds, n), truth and patients of each class of a series."""
    return [
        (scored.scores[one.model][:, known, k], scored.truth[known, k], scored.patients[known])
        for k, known in class_masks(view, scored, one.mask, one.name)
    ]


def _extra(kind: str, thresholds: Sequence[str], *, everyone: bool) -> list[Any]:
    """Make the legend's entries for what isn't a line of the data."""
    from matplotlib.lines import Line2D

    hollow: Any = {"linestyle": "none", "markerfacecolor": "white", "markeredgecolor": house.INK, "markersize": 4.2}
    words = [threshold_words(text).removeprefix("the ") for text in thresholds]
    made = [Line2D([], [], marker=marker(t), label=text, **hollow) for t, text in enumerate(words)]
    dotted = {"color": house.SOFT, "linestyle": DOTTED, "linewidth": 0.9}
    same = "" if everyone else " (same colour)"
    if kind == "precision-recall":
        made.append(Line2D([], [], label=f"share of positives{same}", **dotted))
    if kind == "net-benefit":
        made += [Line2D([], [], label=f"treat all{same}", **dotted), Line2D([], [], color=house.INK, linewidth=0.9, label="treat none")]
    return made


def _roc(pen: Pen) -> list[dict[str, Any]]:
    curve = curves.average([curves.roc(s, t) for s, t, _ in pen.parts], steps=False)
    pen.panel.axes.plot(curve.x, curve.y, label=_area(pen.estimate("auroc")), **pen.style)
    rows = [pen.row("curve", x, y) for x, y in zip(curve.x, curve.y, strict=True)]
    for t, threshold in enumerate(pen.thresholds):
        hit, kept = pen.estimate("sensitivity", threshold), pen.estimate("specificity", threshold)
        if hit and kept:
            rows.append(_point(pen, t, threshold, 1 - kept["value"], hit["value"]))
    return rows


def _precision_recall(pen: Pen) -> list[dict[str, Any]]:
    curve = curves.average([curves.precision_recall(s, t) for s, t, _ in pen.parts], steps=True)
    x, y = np.append(0.0, curve.x), np.append(curve.y[0], curve.y)
    pen.panel.axes.plot(x, y, drawstyle="steps-pre", label=_area(pen.estimate("auprc")), **pen.style)
    prevalence = float(np.mean([t.mean() for _, t, _ in pen.parts]))
    pen.panel.axes.axhline(prevalence, color=pen.shared, linestyle=DOTTED, linewidth=0.8, zorder=2)
    rows = [pen.row("curve", a, b) for a, b in zip(x, y, strict=True)] + [pen.row("share of positives", math.nan, prevalence)]
    for t, threshold in enumerate(pen.thresholds):
        hit, precise = pen.estimate("sensitivity", threshold), pen.estimate("ppv", threshold)
        if hit and precise:
            rows.append(_point(pen, t, threshold, hit["value"], precise["value"]))
    return rows


def _area(row: dict[str, Any] | None) -> str:
    """Write the estimate that a curve's area is, with its interval."""
    if row is None:
        return "_none"  # matplotlib leaves labels that begin so out of legends
    return f"{row['value']:.2f}" + ("" if math.isnan(row["low"]) else f" [{row['low']:.2f}, {row['high']:.2f}]")


def _point(pen: Pen, t: int, threshold: str, x: float, y: float) -> dict[str, Any]:
    pen.panel.axes.plot(
        [x], [y], marker(t), markerfacecolor="white", markeredgecolor=colour(pen.i), markersize=4.2, markeredgewidth=1.0, zorder=5
    )
    return pen.row(f"operating point: {threshold}", x, y)


def _reliability(pen: Pen) -> list[dict[str, Any]]:
    ((probabilities, truth, patients),) = pen.parts
    axes, strip = pen.panel.axes, pen.panel.strip
    assert strip is not None
    bins = curves.reliability(probabilities, truth, patients)
    at = np.array([b.predicted for b in bins]) + (pen.i - (pen.of - 1) / 2) * 0.008  # several lines side by side
    observed = np.array([b.observed for b in bins])
    axes.vlines(
        at, [b.observed_low for b in bins], [b.observed_high for b in bins], color=colour(pen.i), linewidth=0.7, alpha=0.8, zorder=2
    )
    many = np.array([b.images >= FEW_IN_BIN for b in bins])  # a line through bins of one or two images would invent a shape
    axes.plot(at, np.where(many, observed, np.nan), **pen.style)
    for some, face, edge in ((many, colour(pen.i), "white"), (~many, "white", colour(pen.i))):
        axes.plot(at[some], observed[some], marker(pen.i), color=face, markersize=3.2, markeredgecolor=edge, markeredgewidth=0.5, zorder=4)
    share = np.zeros(BINS)
    share[[round(b.low * BINS) for b in bins]] = [100 * b.images / probabilities.shape[1] for b in bins]
    strip.stairs(share, np.linspace(0, 1, BINS + 1), color=colour(pen.i), linestyle=line_style(pen.i), linewidth=0.9)
    return [
        pen.row("bin", b.predicted, b.observed, low=b.observed_low, high=b.observed_high)
        | {"bin_low": b.low, "bin_high": b.high, "images": b.images, "patients": b.patients}
        for b in bins
    ]


def _net_benefit(pen: Pen) -> list[dict[str, Any]]:
    ((probabilities, truth, _),) = pen.parts
    axes, grid = pen.panel.axes, curves.THRESHOLDS
    benefit, everybody = curves.net_benefit(probabilities, truth), curves.treat_everybody(truth)
    axes.plot(grid, benefit, **pen.style)
    axes.plot(grid, everybody, color=pen.shared, linestyle=DOTTED, linewidth=0.9, zorder=2)
    rows = [pen.row("net benefit", t, b) for t, b in zip(grid, benefit, strict=True)]
    rows += [pen.row("treat all", t, b) for t, b in zip(grid, everybody, strict=True)]
    table = pen.view.estimates
    for threshold in dict.fromkeys(table.loc[table["metric"] == "net_benefit", "threshold"]) if len(table) else ():
        row = pen.estimate("net_benefit", threshold)
        if row and not math.isnan(row["low"]):
            at = float(threshold) + 0.004 * (pen.i % MOST_GROUPS - (min(pen.of, MOST_GROUPS) - 1) / 2)
            axes.vlines(at, row["low"], row["high"], color=colour(pen.i), linewidth=0.8, zorder=4)
            rows.append(pen.row("estimate", float(threshold), row["value"], low=row["low"], high=row["high"]))
    return rows


def _reach(rows: Sequence[dict[str, Any]], name: str | None) -> tuple[float, float]:
    """Choose the axes of net benefit, of one class or of all lines: to where none is above 0 any more, and up to the highest."""
    mine = [row for row in rows if name is None or row["class"] == name]
    above = [(row["x"], row["y"]) for row in mine if row["y"] > 0.002]
    top = max((y for _, y in above), default=0.01)
    ends = max((row.get("high", 0.0) for row in mine), default=0.0)  # of intervals: shown whole unless they dwarf the lines
    return min(1.0, max((x for x, _ in above), default=0.1) + 0.05), max(top, min(ends, 1.4 * top))


def _limit(axes: Axes, right: float, top: float) -> None:
    axes.set_xlim(0, right)
    axes.set_ylim(-0.16 * top, 1.06 * top)
    axes.locator_params(axis="both", nbins=5)


def _finish(kind: str, panel: Panel, reach: tuple[float, float] | None) -> None:
    """Give a panel its axes once its lines are drawn."""
    axes = panel.axes
    if reach is not None:
        axes.axhline(0, color=house.INK, linewidth=0.9, zorder=1)
        _limit(axes, *reach)
        house.grid(axes, "both")
        panel.name_axes("threshold probability", "net benefit")
        return
    unit_axes(axes)
    if kind != "precision-recall":
        axes.plot([0, 1], [0, 1], color=house.SOFT, linewidth=0.8, linestyle=DOTTED, zorder=1)
    if panel.strip is not None:
        panel.strip.set_xlim(-0.01, 1.01)
        panel.strip.set_ylim(bottom=0)
        panel.strip.locator_params(axis="y", nbins=3)
        panel.strip.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0", "0.25", "0.5", "0.75", "1"])
        house.grid(panel.strip, "y")
        axes.tick_params(labelbottom=False)
        panel.name_axes("predicted probability", "observed share of positives")
        if panel.left:
            panel.strip.set_ylabel("images (%)")
        return
    axes.set_box_aspect(1)
    if axes.get_legend_handles_labels()[1]:
        small: Any = {"fontsize": 6.5, "title_fontsize": 6.5, "labelspacing": 0.25, "borderpad": 0.25, "borderaxespad": 0.3}
        frame: Any = {"frameon": True, "framealpha": 0.85, "edgecolor": "none"}
        axes.legend(
            loc="lower right" if kind == "roc" else "best", title="AUROC" if kind == "roc" else "AUPRC", alignment="left", **frame, **small
        ).set_zorder(6)
    panel.name_axes(*(("1 − specificity", "sensitivity") if kind == "roc" else ("sensitivity (recall)", "precision")))
