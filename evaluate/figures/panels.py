"""Small panels on a page: one a model or a class, the same lines in each, one legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate import figures as house
from evaluate.figures.drawing import colour, fitting_size, left_to_right, legend_columns, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS, DOWN = 3, 3
MOST = ACROSS * DOWN  # panels of a page
MIDDLE = 5.6  # inches: two panels side by side
THIN, THICK = 0.7, 1.2  # points


@dataclass(frozen=True)
class Line:
    """One series of all panels.

    Attributes:
        label: for the legend; readable.
        few: ``""``, ``"few"`` or ``"too few"``, which is drawn thin; said in the legend.
    """

    label: str
    few: str = ""

    @property
    def width(self) -> float:
        """In points."""
        return THIN if self.few == "too few" else THICK


@dataclass(frozen=True)
class Panel:
    """One panel of a page.

    Attributes:
        axes: for the lines.
        strip: a flat one for counts below it, where asked for.
        left, bottom: whether it stands at the page's edge, where axes are named.
    """

    axes: Axes
    strip: Axes | None
    left: bool
    bottom: bool

    def name_axes(self, x: str, y: str) -> None:
        """Name the axes where the panel stands at the page's edge."""
        if self.bottom:
            (self.strip or self.axes).set_xlabel(x)
        if self.left:
            self.axes.set_ylabel(y)


def page(
    titles: Sequence[str], lines: Sequence[Line], extra: Sequence[Any] = (), *, strip: bool = False, tall: float = 1.0
) -> tuple[Figure, list[Panel]]:
    """Lay out the panels of a page with the legend above; call it within `curate.figures.style`.

    Args:
        titles: of the panels; readable.
        lines: of every panel.
        extra: further handles of the legend.
        strip: whether a flat panel for counts goes under each.
        tall: height of a panel with its labels, in widths.
    """
    from matplotlib.lines import Line2D

    across = 2 if len(titles) == 4 else min(ACROSS, len(titles))
    down = -(-len(titles) // across)
    width = {1: house.SINGLE, 2: MIDDLE, 3: house.DOUBLE}[across]
    labels = [left_to_right(line.label + f" ({line.few})" * bool(line.few)) for line in lines]
    handles = [
        *(Line2D([], [], color=colour(i), linestyle=line_style(i), linewidth=line.width, label=labels[i]) for i, line in enumerate(lines)),
        *extra,
    ]
    columns = legend_columns(house.new_figure(width, 1), [str(h.get_label()) for h in handles], width)
    side = width / across
    figure = house.new_figure(width, down * side * tall + 0.16 * -(-len(handles) // columns) + 0.12)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.05, h_pad=0.04, wspace=0.02, hspace=0.02)
    step = 2 if strip else 1
    cells = figure.subplots(down * step, across, squeeze=False, height_ratios=[4.2, 1.0] * down if strip else [1.0] * down)
    panels = []
    for i in range(down * across):
        row, column = step * (i // across), i % across
        if i >= len(titles):
            for cell in cells[row : row + step, column]:
                cell.axis("off")
            continue
        under = cells[row + 1, column] if strip else None
        panels.append(Panel(cells[row, column], under, left=not column, bottom=i + across >= len(titles)))
        cells[row, column].set_title(left_to_right(titles[i]), fontsize=fitting_size(figure, titles[i], side - 0.5, 8.0, "bold"))
    figure.legend(handles=handles, loc="outside upper left", ncols=columns)
    return figure, panels


def unit_axes(axes: Axes) -> None:
    """Make a panel from 0 to 1 both ways."""
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0, 0.25, 0.5, 0.75, 1.0], labels=["0", "0.25", "0.5", "0.75", "1"])
    house.grid(axes, "both")
