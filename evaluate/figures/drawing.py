"""What every figure of an evaluation is made of: names that fit, numbers as text, styles, and the figure with its twin."""

from __future__ import annotations

import math
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from curate import figures as house

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

METRIC_WORDS = {
    "auroc": "AUROC",
    "auprc": "AUPRC",
    "auprc_adjusted": "AUPRC at one prevalence",
    "brier": "Brier score",
    "ece": "Expected calibration error",
    "calibration_slope": "Calibration slope",
    "calibration_intercept": "Calibration intercept",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "ppv": "Positive predictive value",
    "npv": "Negative predictive value",
    "net_benefit": "Net benefit",
}
MACRO = "macro"


@dataclass(frozen=True)
class Drawn:
    """A figure that is ready to be written.

    Attributes:
        kind: as ``"roc"``.
        words: what tells it from others of its kind, for the file's name.
        title: a line.
        caption: full sentences, with estimand and method.
        figure: the drawing.
        numbers: what is drawn, as a table.
    """

    kind: str
    words: tuple[str, ...]
    title: str
    caption: str
    figure: Figure
    numbers: pd.DataFrame


@dataclass(frozen=True)
class LeftOut:
    """A figure that is not drawn, and why."""

    kind: str
    of: str
    why: str


def metric_words(metric: str, threshold: str = "") -> str:
    """Name a metric for people, with its threshold."""
    name = METRIC_WORDS.get(metric, metric)
    return f"{name} at {threshold_words(threshold)}" if threshold else name


def threshold_words(threshold: str) -> str:
    """Name a threshold for people: ``youden`` -> ``Youden's threshold``."""
    if threshold == "youden":
        return "Youden's threshold"
    if "=" in threshold:
        metric, _, value = threshold.partition("=")
        return f"the threshold of {metric} {value}"
    return f"threshold {threshold}"


def names_of(names: Iterable[str], most: int) -> dict[str, str]:
    """Give each name as the font can draw it, short and different from the others."""
    listed = list(dict.fromkeys(names))
    return dict(zip(listed, house.readable_names(listed, most=most), strict=True))


def left_to_right(text: str) -> str:
    """Keep a line in its order where a name in it runs from right to left; the name itself still does."""
    return f"\u200e{text}" if any(unicodedata.bidirectional(c) in ("R", "AL") for c in text) else text


def number(value: float, *, signed: bool = False) -> str:
    """Write a value with three decimals; a dash where there is none."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−") if signed else f"{value:.3f}".replace("-", "−")


def interval(value: float, low: float, high: float, *, signed: bool = False) -> str:
    """Write a value with its interval in brackets, as far as there are any."""
    if math.isnan(low) or math.isnan(high):
        return number(value, signed=signed)
    return f"{number(value, signed=signed)} [{number(low, signed=signed)}, {number(high, signed=signed)}]"


def p_value(p: float) -> str:
    """Write a p-value; a dash where there is none."""
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(value: float) -> str:
    """Write a count with its thousands apart."""
    return "–" if math.isnan(value) else f"{int(value):,}"


def colour(i: int) -> str:
    """Give the i-th series' colour."""
    return house.COLOURS[i % len(house.COLOURS)]


def line_style(i: int) -> Any:
    """Give the i-th series' pattern: the second turn of the colours has other patterns than the first."""
    return house.LINES[(i + i // len(house.COLOURS)) % len(house.LINES)]


def hatch(i: int) -> str:
    """Give the i-th series' filling."""
    return house.HATCHES[(i + i // len(house.COLOURS)) % len(house.HATCHES)]


def marker(i: int) -> str:
    """Give the i-th series' marker."""
    return house.MARKERS[(i + i // len(house.COLOURS)) % len(house.MARKERS)]


def wrapped(text: str, width: int, lines: int = 2) -> str:
    """Break a readable text into lines of a number of characters; what doesn't fit ends in an ellipsis."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder="…", break_on_hyphens=True))


def text_widths(figure: Figure, texts: Sequence[str], size: float, weight: str = "normal") -> float:
    """Measure the widest of some texts, in inches.

    Args:
        figure: from `curate.figures.new_figure`.
        texts: readable, of one line each.
        size: in points.
        weight: ``normal`` or ``bold``.
    """
    from matplotlib.font_manager import FontProperties

    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    return max((renderer.get_text_width_height_descent(text, font, ismath=False)[0] for text in texts if text), default=0.0) / figure.dpi


def fitting_size(figure: Figure, text: str, width: float, size: float, weight: str = "normal") -> float:
    """Give the size in points, `size` at most and 4 at least, at which a text fits into a width in inches."""
    return max(4.0, min(size, size * width / max(text_widths(figure, [text], size, weight), 1e-9)))


def legend_columns(figure: Figure, labels: Sequence[str], width: float) -> int:
    """Say how many columns of a legend fit into a width in inches."""
    one = text_widths(figure, labels, 7.0) + 0.62
    return max(1, min(len(labels), int(width / one)))


def pages(rows: Sequence[Any], most: int) -> list[Sequence[Any]]:
    """Cut rows into pages of nearly equal length."""
    if not rows:
        return []
    several = -(-len(rows) // most)
    length = -(-len(rows) // several)
    return [rows[i : i + length] for i in range(0, len(rows), length)]


def sentence_list(names: Sequence[str], most: int = 6) -> str:
    """List names in a sentence, the first few of many."""
    shown = [f"'{name}'" for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
