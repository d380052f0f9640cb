"""Pictures a paper could use: one style for all, PNG at 300 dots an inch and SVG, the same bytes for the same numbers.

Widths are those of a journal's columns; letters are the DejaVu Sans that matplotlib ships, 6.5 points and up; colours are
Okabe and Ito's (2008), in an order in which neighbours also differ in lightness, and lines and fills carry a pattern too, so
that a grey print or a colour-blind reader loses nothing.
Nothing is read from the user's own matplotlib settings, and no clock or version goes into a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from curate.artefacts import writing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SINGLE, DOUBLE = 3.5, 7.2  # inches: one and two columns of a journal
DPI = 300
INK, SOFT, HAIR = "#1c2733", "#5b6b7a", "#c8d0d8"
# Okabe and Ito 2008: blue, orange, bluish green, vermilion, sky blue, reddish purple.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
LINES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1, 1, 1)), (0, (7, 2)), (0, (2, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")

STYLE = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 7.0, "text.parse_math": False,
    "axes.titlesize": 8.0, "axes.titleweight": "bold", "axes.titlelocation": "left", "axes.labelsize": 7.0,
    "axes.edgecolor": SOFT, "axes.linewidth": 0.6, "axes.labelcolor": INK, "axes.titlecolor": INK, "axes.axisbelow": True,
    "axes.spines.top": False, "axes.spines.right": False, "axes.formatter.useoffset": False,
    "xtick.color": SOFT, "ytick.color": SOFT, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "xtick.labelsize": 7.0, "ytick.labelsize": 7.0, "xtick.major.width": 0.6, "ytick.major.width": 0.6,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5,
    "grid.color": HAIR, "grid.linewidth": 0.4, "legend.frameon": False, "legend.fontsize": 7.0, "legend.handlelength": 1.8,
    "text.color": INK, "lines.linewidth": 1.1, "patch.linewidth": 0.6, "hatch.linewidth": 0.5,
    "figure.dpi": 100.0, "savefig.dpi": DPI, "svg.fonttype": "path", "svg.hashsalt": "evenfooting",
    "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip


@contextmanager
def style() -> Iterator[None]:
    """Draw in the house's style whatever the user's own settings are, and leave those as they were."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)  # type: ignore[arg-type]
        yield


def new_figure(width: float = SINGLE, height: float = 2.4) -> Figure:
    """Make an empty figure; call it within `style`.

    Args:
        width, height: in inches.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, stem: Path, *, title: str) -> list[Path]:
    """Write a figure as PNG and SVG, each atomically; call it within `style`.

    Args:
        figure: from `new_figure`.
        stem: the files' name without its ending.
        title: what it shows, for readers that can't see it; goes into both files.

    Returns:
        The two files.
    """
    files = [stem.with_name(stem.name + ending) for ending in (".png", ".svg")]
    nothing = {"png": {"Software": None, "Title": title}, "svg": {"Date": None, "Creator": None, "Format": None, "Title": title}}
    for file in files:
        kind = file.suffix[1:]
        with writing(file) as opened:
            figure.savefig(opened, format=kind, metadata=nothing[kind])
    return files


def readable(text: str, *, most: int = 40) -> str:
    """Give a text that the shipped font can draw, cut to a length.

    Args:
        text: as a group's name.
        most: characters; a longer text ends in an ellipsis.

    Returns:
        The text; characters that the font lacks as ``?``.

    Example:
        >>> readable("Zürich, 上海")
        'Zürich, ??'
    """
    drawn = "".join(c if c.isprintable() and _has(c) else "?" for c in text)
    return drawn if len(drawn) <= most else drawn[: most - 1].rstrip() + "…"


def readable_names(names: Iterable[str], *, most: int = 40) -> list[str]:
    """Give names that the shipped font can draw and that can be told from each other.

    Args:
        names: as of groups, each once.
        most: characters of each.

    Returns:
        As `readable` gives them; where several would look alike, or most letters of one are lacking, its place in the list
        stands behind it.

    Example:
        >>> readable_names(["上海", "Zürich", "大连医院"])
        ['?? (1)', 'Zürich', '???? (3)']
    """
    listed = list(names)
    drawn = [readable(name, most=most) for name in listed]
    seen = Counter(drawn)
    plain = [seen[text] == 1 and 2 * (text.count("?") - name.count("?")) <= len(text) for name, text in zip(listed, drawn, strict=True)]
    return [
        text if plain[place - 1] else f"{readable(name, most=most - len(str(place)) - 3)} ({place})"
        for place, (name, text) in enumerate(zip(listed, drawn, strict=True), 1)
    ]


def _has(character: str) -> bool:
    return ord(character) in _characters()


@cache
def _characters() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return frozenset(get_font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def grid(axes: Axes, axis: str) -> None:
    """Lay hairlines behind the data, across one axis ("x" or "y")."""
    axes.grid(True, axis=axis)  # type: ignore[arg-type]


def lighter(colour: str, share: float) -> tuple[float, float, float]:
    """Mix a colour with white.

    Args:
        colour: ``#rrggbb``.
        share: of white, 0 to 1.

    Returns:
        red, green, blue, 0 to 1.

    Example:
        >>> lighter("#000000", 0.5)
        (0.5, 0.5, 0.5)
    """
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return red + (1 - red) * share, green + (1 - green) * share, blue + (1 - blue) * share
