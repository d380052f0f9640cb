"""The pictures of a description: how each attribute is distributed, and each main measure by group."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from curate import figures
from curate.describe.attributes import Attribute
from curate.describe.sides import Sides
from curate.groups import DEFAULT_ATTRIBUTES, UNKNOWN

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BARS = 15  # groups that a picture shows; description.parquet has all
_MOST_BY = 8  # groups by which a measure is drawn
_LONGEST = 60  # letters of a column's name in that of a file: file systems take 255
_FEW = 20  # images; below, a violin would invent a shape: every image is a dot


def draw_all(folder: Path, sides: Sides, attributes: list[Attribute], measures: list[str], frame: pd.DataFrame) -> list[dict[str, str]]:
    """Draw every picture as PNG and SVG.

    Args:
        folder: to write into.
        sides: what is described.
        attributes: one picture each, where anything is known.
        measures: one picture each overall where sides are compared, and by each of the attributes age, sex and ethnicity, or of those
            described where none of these is.
        frame: from `curate.describe.rows.describe`.

    Returns:
        ``file`` (without its ending) and ``caption`` of each.
    """
    drawn = []
    whole = frame[frame["against"].isna()]
    taken: set[str] = set()

    def write(kind: str, words: list[str], axes_figure: Any, caption: str) -> None:
        stem = _stem([kind, *words], taken)
        figures.save(axes_figure, folder / stem, title=caption)
        drawn.append({"file": f"pictures/{stem}", "caption": caption})

    with figures.style():
        for attribute in attributes:
            if attribute.numbers is not None and any(np.isfinite(v).any() for v in attribute.numbers):
                write("distribution", [attribute.name], *_histogram(sides, attribute, whole))
            if attribute.known and len(attribute.groups) > 1:
                write("groups", [attribute.name], *_bars(sides, attribute, whole))
        pictured = [a for a in attributes if a.name in DEFAULT_ATTRIBUTES and 2 <= len(a.known) <= _MOST_BY]
        for measure in measures:
            for by in pictured or [a for a in attributes if 2 <= len(a.known) <= _MOST_BY][:3]:
                if (made := _by_group(sides, measure, by, whole)) is not None:
                    write("measure", [measure, "by", by.name], *made)
            if len(sides.sides) > 1 and (made := _by_group(sides, measure, None, whole)) is not None:
                write("measure", [measure], *made)
    return drawn


def _stem(words: list[str], taken: set[str]) -> str:
    """Name a file after columns, whatever characters those have."""
    stem = "-".join(re.sub(r"[^0-9A-Za-z_]+", "-", w).strip("-")[:_LONGEST] or "column" for w in words)
    name, number = stem, 2
    while name.lower() in taken:
        name, number = f"{stem}-{number}", number + 1
    taken.add(name.lower())
    return name


def _words(name: str) -> str:
    text = figures.readable(name.replace("_", " ").strip())
    return text[:1].upper() + text[1:]


def _label(sides: Sides, number: int) -> str:
    return figures.readable_names((s.name for s in sides.sides), most=28)[number]


def _found(frame: pd.DataFrame, side: str, kind: str, variable: str, statistic: str, group: tuple[str, str] | None = None) -> Any:
    rows = frame[(frame["side"] == side) & (frame["kind"] == kind) & (frame["variable"] == variable) & (frame["statistic"] == statistic)]
    rows = rows[rows["attribute"].isna()] if group is None else rows[(rows["attribute"] == group[0]) & (rows["group"] == group[1])]
    return rows.iloc[0] if len(rows) else None


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _histogram(sides: Sides, attribute: Attribute, frame: pd.DataFrame) -> tuple[Any, str]:
    """Draw a number's distribution on every side, with the means."""
    assert attribute.numbers is not None
    figure = figures.new_figure(height=2.3 + 0.13 * (len(sides.sides) - 1))
    axes = figure.add_subplot()
    known = [v[np.isfinite(v)] for v in attribute.numbers]
    edges = _edges(np.concatenate(known), attribute.name)
    legend = []
    for i, values in enumerate(known):
        if not len(values):
            continue
        colour = figures.COLOURS[i]
        heights = 100 * np.histogram(values, edges)[0] / len(values)
        axes.stairs(heights, edges, fill=True, color=figures.lighter(colour, 0.55), alpha=0.6, linewidth=0)
        line = axes.stairs(heights, edges, color=colour, linestyle=figures.LINES[i], linewidth=1.2, zorder=3)
        mean = _found(frame, sides.sides[i].name, "attribute", attribute.name, "mean")
        axes.axvline(mean["value"], color=colour, linestyle=figures.LINES[i], linewidth=0.9, zorder=4)
        if not pd.isna(mean["low"]):
            axes.axvspan(mean["low"], mean["high"], color=colour, alpha=0.18, linewidth=0)
        text = f"mean {_short(mean['value'])}" + ("" if pd.isna(mean["low"]) else f" ({_short(mean['low'])} to {_short(mean['high'])})")
        legend.append((line, text if len(sides.sides) == 1 else f"{_label(sides, i)}: {text}"))
    axes.set_xlabel(_words(attribute.name) + (" (years)" if attribute.name == "age" else ""))
    axes.set_ylabel("Share of images (%)")
    axes.set_ylim(bottom=0)
    figures.grid(axes, "y")
    figure.legend(*zip(*legend, strict=True), loc="outside upper left", ncols=1)
    unknown = ", ".join(f"{len(v) - len(k):,} in {s.name}" for v, k, s in zip(attribute.numbers, known, sides.sides, strict=True))
    caption = (
        f"{_words(attribute.name)}: share of images with a known value in each interval of values (unknown: {unknown}). Upright lines "
        "are means over images, the bands beside them their 95 % intervals, patients as clusters."
    )
    return figure, caption


def _edges(values: np.ndarray, name: str) -> np.ndarray:
    """Choose the intervals of a histogram: five years for ages, else about thirty equal ones, on round numbers."""
    from matplotlib.ticker import MaxNLocator

    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.array([low - 0.5, low + 0.5])
    if name == "age":
        return np.arange(5 * np.floor(low / 5), high + 5.001, 5)
    whole = bool((values % 1 == 0).all())
    return np.asarray(MaxNLocator(nbins=30, integer=whole, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), dtype=float)


def _bars(sides: Sides, attribute: Attribute, frame: pd.DataFrame) -> tuple[Any, str]:
    """Draw the share of images of each group on every side, with intervals."""
    shown = [g for g in attribute.groups if g != UNKNOWN]
    if len(shown) > _MOST_BARS:
        counts = sum(np.bincount(c, minlength=len(attribute.groups)) for c in attribute.codes)
        kept = set(np.argsort(-np.asarray(counts)[: len(shown)], kind="stable")[:_MOST_BARS].tolist())
        shown = [g for i, g in enumerate(shown) if i in kept]
    left = len(attribute.known) - len(shown)
    shown += [UNKNOWN] if UNKNOWN in attribute.groups else []
    several = len(sides.sides)
    figure = figures.new_figure(height=0.55 + len(shown) * (0.08 + 0.1 * several) + 0.14 * several * (several > 1))
    axes = figure.add_subplot()
    thick = 0.78 / several
    handles = []
    for i, side in enumerate(sides.sides):
        rows = [_found(frame, side.name, "attribute", attribute.name, "share", (attribute.name, g)) for g in shown]
        if any(r is None for r in rows):
            continue
        y = np.arange(len(shown)) + (i - (several - 1) / 2) * thick
        share, low, high = (100 * np.array([r[k] for r in rows], dtype=float) for k in ("value", "low", "high"))
        colour = figures.COLOURS[i]
        handles.append(
            axes.barh(
                y,
                share,
                thick * 0.92,
                color=figures.lighter(colour, 0.35),
                edgecolor=colour,
                hatch=figures.HATCHES[i],
                label=_label(sides, i),
            )
        )
        axes.hlines(y, low, high, color=figures.INK, linewidth=0.8)
        if several == 1:
            for at, value, top, row in zip(y, share, high, rows, strict=True):
                axes.annotate(
                    f"{row['images']:,} ({value:.1f} %)",
                    (np.nanmax([value, top]), at),
                    (3, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=6.5,
                )
    axes.set_yticks(range(len(shown)), figures.readable_names(shown, most=26))
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    right = axes.get_xlim()[1]
    axes.set_xlim(0, right * 1.45 if several == 1 else min(right, 100 if right > 100 else right))
    axes.set_xlabel(f"{_words(attribute.name)}: share of all images (%)")
    axes.xaxis.set_major_locator(_percent_ticks())
    figures.grid(axes, "x")
    if several > 1:
        figure.legend(handles=handles, loc="outside upper left", ncols=1)
    more = f" The {left:,} rarest of the groups are not drawn." if left else ""
    caption = (
        f"{_words(attribute.name)}: share of all images in each group, unknown as a group of its own. Thin lines are 95 % intervals "
        f"(Wilson with the effective number of images, patients as clusters).{more}"
    )
    return figure, caption


def _percent_ticks() -> Any:
    from matplotlib.ticker import MaxNLocator

    class Percent(MaxNLocator):
        """Ticks up to 100 %, though the axis goes on for the labels."""

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            return [float(t) for t in super().tick_values(vmin, vmax) if t <= 100.001]

    return Percent(nbins=5, steps=[1, 2, 2.5, 5, 10])


def _by_group(sides: Sides, measure: str, by: Attribute | None, frame: pd.DataFrame) -> tuple[Any, str] | None:
    """Draw a measure's distribution in each group (or on each side) as violin, quartiles, and mean with its interval."""
    groups = by.known if by else [""]
    several = len(sides.sides)
    cells = {(j, i): _values(sides, measure, by, i, group) for j, group in enumerate(groups) for i in range(several)}
    together = [v for v in cells.values() if len(v)]
    if not together or np.ptp(np.concatenate(together)) == 0:
        return None
    low, high = _reach(together)
    outside = sum(int(((v < low) | (v > high)).sum()) for v in together)
    figure = figures.new_figure(height=2.35 + (0.13 * several if several > 1 and by else 0))
    axes = figure.add_subplot()
    step = 0.84 / several if by else 0.84
    for (j, i), values in cells.items():
        at = j + (i - (several - 1) / 2) * step if by else float(i)
        if len(values):
            group = (by.name, groups[j]) if by else None
            _violin(axes, at, values, step, i, (low, high))
            _mean(axes, at + 0.16 * step, i, _found(frame, sides.sides[i].name, "measure", measure, "mean", group))
    if by:
        names = [f"{name}\n{_sizes(cells, j, several)}" for j, name in enumerate(figures.readable_names(groups, most=18))]
        axes.set_xlabel(_words(by.name) + (" (years)" if by.name == "age" else ""))
    else:
        names = [f"{_label(sides, i)}\n{len(cells[0, i]):,}" for i in range(several)]
    slanted = sum(max(map(len, n.split("\n"))) for n in names) > 50
    axes.set_xticks(range(len(names)), names, rotation=35 if slanted else 0, ha="right" if slanted else "center", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel(_words(measure))
    axes.set_ylim(low, high)
    figures.grid(axes, "y")
    if several > 1 and by:
        figure.legend(handles=[_key(i, _label(sides, i)) for i in range(several)], loc="outside upper left", ncols=1)
    caption = (
        f"{_words(measure)}" + (f" by {_words(by.name).lower()}" if by else "") + ". Shapes: distribution over images, all of one width "
        f"(below {_FEW} images, dots); dark bars: quartiles, a white line at the median; light markers: mean over images with its 95 % "
        "interval, patients as clusters. Numbers under the names: images."
        + (f" {outside:,} images lie beyond the axis; all numbers include them." if outside else "")
    )
    return figure, caption


def _reach(together: list[np.ndarray]) -> tuple[float, float]:
    """Choose an axis that shows every group's body: three quartile distances beyond its quartiles, and nineteen in twenty images."""
    ends = []
    for values in together:
        rare, q25, q75, top = np.quantile(values, (0.025, 0.25, 0.75, 0.975))
        wide = 3 * (q75 - q25)
        mean = float(values.mean())
        ends.append((min(max(values.min(), q25 - wide), rare, mean), max(min(values.max(), q75 + wide), top, mean)))
    low, high = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    if low == high:
        everything = np.concatenate(together)
        low, high = float(everything.min()), float(everything.max())
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _sizes(cells: dict[tuple[int, int], np.ndarray], j: int, several: int) -> str:
    return " | ".join(f"{len(cells[j, i]):,}" for i in range(several))


def _key(i: int, label: str) -> Any:
    from matplotlib.patches import Patch

    colour = figures.COLOURS[i]
    return Patch(facecolor=figures.lighter(colour, 0.5), edgecolor=colour, hatch=figures.HATCHES[i], label=label)


def _values(sides: Sides, measure: str, by: Attribute | None, i: int, group: str) -> np.ndarray:
    side = sides.sides[i]
    if measure not in side.measures.columns or (by is not None and by.absent[i]):
        return np.empty(0)
    values = side.measures[measure].to_numpy(dtype=float, na_value=np.nan)
    if by is not None:
        values = values[by.codes[i] == by.groups.index(group)]
    return values[np.isfinite(values)]


def _violin(axes: Axes, at: float, values: np.ndarray, width: float, i: int, span: tuple[float, float]) -> None:
    colour = figures.COLOURS[i]
    if len(values) < _FEW:
        # Spread sideways by rank in golden steps: no two dots at one place, and no chance in it.
        aside = ((np.arange(len(values)) * 0.618034) % 1 - 0.5) * width * 0.5
        axes.plot(at + aside, np.sort(values), ".", color=colour, markersize=3, alpha=0.8)
        return
    centres, density = _density(values, span)
    half = density / density.max() * width * 0.45
    axes.fill_betweenx(
        centres, at - half, at + half, facecolor=figures.lighter(colour, 0.5), edgecolor=colour, hatch=figures.HATCHES[i], linewidth=0.6
    )
    q25, median, q75 = np.quantile(values, (0.25, 0.5, 0.75))
    axes.vlines(at - 0.12 * width, q25, q75, color=figures.INK, linewidth=3.2)
    axes.plot([at - 0.12 * width], [median], "_", color="white", markersize=3.4, markeredgewidth=1.0)


def _density(values: np.ndarray, span: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Smooth a distribution with a Gaussian of Silverman's (1986) width, on a grid: as fast for a million images as for a hundred."""
    from scipy.ndimage import gaussian_filter1d

    counts, edges = np.histogram(values, 400, range=span)
    step = float(edges[1] - edges[0])
    quartiles = np.quantile(values, (0.25, 0.75))
    spread = min(float(values.std()), float(quartiles[1] - quartiles[0]) / 1.349) or float(values.std())
    smooth = gaussian_filter1d(counts.astype(float), max(0.9 * spread * len(values) ** -0.2 / step, 1.5), mode="constant")
    centres = (edges[1:] + edges[:-1]) / 2
    inside = (centres >= values.min() - step) & (centres <= values.max() + step)
    return centres[inside], np.maximum(smooth[inside], 1e-12)


def _mean(axes: Axes, at: float, i: int, row: Any) -> None:
    if row is None or pd.isna(row["value"]):
        return
    if not pd.isna(row["low"]):
        axes.vlines(at, row["low"], row["high"], color=figures.INK, linewidth=1.0)
    axes.plot([at], [row["value"]], figures.MARKERS[i], color="white", markeredgecolor=figures.INK, markersize=3.6, markeredgewidth=0.8)
