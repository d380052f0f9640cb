"""A forest: one line a group, its counts at the side, its value with an interval, and the same as text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from curate import figures as house
from evaluate.figures.drawing import colour, fitting_size, left_to_right, text_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL = 6.5  # points
LINE = 0.172  # inches a row
GAP = 0.11  # inches between columns of text
INDENT = 0.09  # inches of a group's name under its heading
MARGIN = 0.06  # inches
APART = 0.15  # inches before a plot
NARROWEST = 0.62  # inches of a plot; a figure whose texts leave less becomes wider than two columns


@dataclass(frozen=True)
class Mark:
    """One value of one row.

    Attributes:
        value, low, high: NaN where there are none.
        texts: under the block's headers.
        hollow: too few to be tested.
        pale: few.
    """

    value: float
    low: float
    high: float
    texts: tuple[str, ...]
    hollow: bool = False
    pale: bool = False


@dataclass(frozen=True)
class Row:
    """One line: a heading (no marks), or a group.

    Attributes:
        label: readable.
        cells: texts of the columns at the left.
        marks: one a block; None where there is nothing to draw.
    """

    label: str
    cells: tuple[str, ...] = ()
    marks: tuple[Mark | None, ...] = ()


@dataclass(frozen=True)
class Block:
    """One plot of a forest with the columns of text at its right.

    Attributes:
        headers: of the texts.
        label: of its axis; readable.
        reference: where a line stands for "no difference"; None: nowhere.
        bounds: values that an axis never goes beyond.
    """

    headers: tuple[str, ...]
    label: str
    reference: float | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)


class _Page:
    """A figure measured in inches from its upper left corner, with texts in columns."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.height = 0.42 + LINE * len(rows) + 0.46
        self.figure = house.new_figure(house.DOUBLE, self.height)
        self.figure.set_layout_engine(None)
        self.x = MARGIN
        self._texts: list[tuple[float, float, str, dict[str, object]]] = []

    def row(self, i: float) -> float:
        """Give the height of a row's middle above the figure's foot; the headers are row -1."""
        return self.height - 0.42 - LINE * (i + 0.5)

    def put(self, x: float, y: float, text: str, **how: object) -> None:
        """Note a text; it is placed once the figure's width is known."""
        self._texts.append((x, y, text, {"va": "center", "fontsize": SMALL, **how}))

    def column(self, header: str, texts: Sequence[str]) -> None:
        """Put a column of numbers to the right of what is there."""
        self.x += GAP + text_widths(self.figure, [header, *texts], SMALL)
        self.put(self.x, self.row(-1) + 0.02, header, ha="right", color=house.SOFT)
        for i, text in enumerate(texts):
            if text:
                self.put(self.x, self.row(i), text, ha="right")

    def finish(self, width: float) -> Figure:
        """Set the width and place the texts."""
        self.figure.set_size_inches(width, self.height)
        for x, y, text, how in self._texts:
            self.figure.text(x / width, y / self.height, left_to_right(text), **how)  # type: ignore[arg-type]
        return self.figure


def forest(title: str, rows: Sequence[Row], headers: Sequence[str], blocks: Sequence[Block]) -> Figure:
    """Draw a forest; call it within `curate.figures.style`.

    An interval that leaves the axis ends in an arrow head: the axis is set by the groups that are large enough.

    Args:
        title: above it; readable.
        rows: from top to bottom.
        headers: of the columns at the left behind the names.
        blocks: from left to right.
    """
    page = _Page(rows)
    plain = [row.label for row in rows if row.marks]
    for i, row in enumerate(rows):
        page.put(MARGIN + (INDENT if row.marks else 0), page.row(i), row.label, weight="normal" if row.marks else "bold")
    page.x += max(text_widths(page.figure, plain, SMALL) + INDENT, 0.8)
    for k, header in enumerate(headers):
        page.column(header, [row.cells[k] if row.cells else "" for row in rows])
    columns = [[_texts(rows, b, k) for k in range(len(block.headers))] for b, block in enumerate(blocks)]
    taken = page.x + MARGIN + APART * len(blocks)
    for block, texts in zip(blocks, columns, strict=True):
        taken += sum(GAP + text_widths(page.figure, [header, *column], SMALL) for header, column in zip(block.headers, texts, strict=True))
    plot = max((house.DOUBLE - taken) / len(blocks), NARROWEST)
    width = max(house.DOUBLE, taken + plot * len(blocks))
    foot = page.row(len(rows) - 0.5)
    size = fitting_size(page.figure, title, width - 2 * MARGIN, 7.5, "bold")
    page.put(MARGIN, page.height - 0.13, title, weight="bold", fontsize=size)
    for i, row in enumerate(rows):
        if not row.marks:
            _band(page.figure, (page.row(i) - LINE / 2) / page.height, LINE / page.height)
    for b, (block, texts) in enumerate(zip(blocks, columns, strict=True)):
        page.x += APART
        axes = page.figure.add_axes((page.x / width, foot / page.height, plot / width, LINE * len(rows) / page.height))
        _plot(axes, [row.marks[b] if row.marks else None for row in rows], block)
        axes.set_xticks(*_ticks(page.figure, axes.get_xlim(), plot))
        page.x += plot
        for header, column in zip(block.headers, texts, strict=True):
            page.column(header, column)
    return page.finish(width)


def _texts(rows: Sequence[Row], block: int, column: int) -> list[str]:
    marks = [row.marks[block] if row.marks else None for row in rows]
    return [mark.texts[column] if mark is not None else "" for mark in marks]


def _band(figure: Figure, bottom: float, height: float) -> None:
    from matplotlib.patches import Rectangle

    transform = figure.transFigure
    figure.add_artist(Rectangle((0, bottom), 1, height, transform=transform, facecolor="#eef1f4", edgecolor="none", zorder=-1))


def _plot(axes: Axes, marks: Sequence[Mark | None], block: Block) -> None:
    left, right = limits(marks, block)
    axes.patch.set_alpha(0)
    axes.set_xlim(left, right)
    axes.set_ylim(len(marks) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    house.grid(axes, "x")
    if block.reference is not None:
        axes.axvline(block.reference, color=house.SOFT, linewidth=0.8, zorder=1)
    axes.set_xlabel(block.label)
    for i, mark in enumerate(marks):
        if mark is None or math.isnan(mark.value):
            continue
        if not (math.isnan(mark.low) or math.isnan(mark.high)):
            axes.hlines(i, max(mark.low, left), min(mark.high, right), color=house.INK, linewidth=0.9, zorder=2)
            for end, beyond, head in ((left, mark.low < left, "<"), (right, mark.high > right, ">")):
                if beyond:
                    axes.plot([end], [i], head, color=house.INK, markersize=3.2, clip_on=False, zorder=3)
        face = "white" if mark.hollow else house.lighter(colour(0), 0.6) if mark.pale else colour(0)
        axes.plot(
            [mark.value], [i], "s", color=face, markeredgecolor=colour(0), markeredgewidth=0.9, markersize=4.2, zorder=4, clip_on=False
        )


def _ticks(figure: Figure, bounds: tuple[float, float], width: float) -> tuple[list[float], list[str]]:
    """Choose as many round ticks as have room beside each other in a width in inches, with their labels."""
    from matplotlib.ticker import MaxNLocator

    low, high = bounds
    for most in (4, 3, 2, 1):
        found = [float(t) for t in MaxNLocator(most, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= t <= high]
        step = found[1] - found[0] if len(found) > 1 else high - low
        labels = [f"{t:.{max(0, math.ceil(-math.log10(step) - 1e-9))}f}".replace("-", "\u2212") for t in found]
        if len(found) > 1 and width * step / (high - low) > text_widths(figure, labels, 7.0) + 0.08:
            return found, labels
    outer = [0, -1] if width > 2 * text_widths(figure, labels, 7.0) else [len(found) // 2]
    return [found[i] for i in outer], [labels[i] for i in outer]


def limits(marks: Sequence[Mark | None], block: Block) -> tuple[float, float]:
    """Choose an axis that shows every value, and the intervals of the groups that are large enough (of all, where none is)."""
    there = [m for m in marks if m is not None and not math.isnan(m.value)]
    large = [m for m in there if not m.hollow and not math.isnan(m.low) and not math.isnan(m.high)] or there
    ends = [v for m in large for v in (m.low, m.high) if not math.isnan(v)] + [m.value for m in there]
    if block.reference is not None:
        ends.append(block.reference)
    if not ends:
        return 0.0, 1.0
    low, high = min(ends), max(ends)
    room = 0.06 * (high - low) or 0.05
    return max(low - room, block.bounds[0]), min(high + room, block.bounds[1])
