"""The pictures of Figure 5: where attributes lie in the space, how each group is distributed, how large each effect is."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.figures import COLOURS, DOUBLE, HAIR, INK, LINES, SOFT, grid, new_figure, readable, readable_names, save, style
from curate.identify.archive import Archive
from curate.identify.effects import Effect

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#b0b8c0"
_FEWEST_POINTS = 20
_MOST_MEASURES = 6


def draw(archive: Archive, found: dict[str, Any], folder: Path, seed: int) -> list[str]:
    """Draw all pictures, each as PNG and as SVG.

    Args:
        archive: what was compared.
        found: from `curate.identify.run.analyse`.
        folder: where to.
        seed: of the map.

    Returns:
        Names of the files.
    """
    drawn: list[Path] = []
    with style():
        drawn += save(_ranking(found["ranking"]), folder / "ranking", title="Share of the variation that goes with each attribute")
        if found["_effects"]:
            drawn += save(_heat_map(archive, found["_effects"]), folder / "effects", title="Effect of each attribute on each measure")
            drawn += save(_densities(archive, found["_effects"]), folder / "densities", title="Distribution of measures by group")
        points, dimensions = found["_components"].shape
        if points >= _FEWEST_POINTS and dimensions > 1:
            drawn += save(_map(archive, found["_sample"], found["_components"], seed), folder / "map", title="t-SNE map by attribute")
    return [path.name for path in drawn]


def _ranking(rows: list[dict[str, Any]]) -> Figure:
    """Draw each attribute's share of the variation, alone and with the others fixed, over its noise floor."""
    figure = new_figure(DOUBLE * 0.75, 0.8 + 0.34 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        if row["noise_floor"] is not None:
            axes.barh(place, 100 * row["noise_floor"], height=0.7, color="#e4e4e4", label="noise floor, others fixed")
        for key, mark, colour, label in (("r2_marginal", "o", _GREY, "on its own"), ("r2_conditional", "o", COLOURS[0], "others fixed")):
            if row[key] is not None:
                axes.plot(100 * row[key], place, mark, color=colour, markersize=6, label=label, zorder=3)
        if row["not_attributable"]:
            axes.annotate(
                "can't be told apart", (100 * (row["r2_marginal"] or 0), place), xytext=(10, -3), textcoords="offset points", fontsize=8
            )
    axes.set_yticks(range(len(rows)), readable_names(r["attribute"] for r in rows))
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.margins(x=0.15)
    grid(axes, "x")
    axes.set_xlabel("share of the variation (PERMANOVA R²), %")
    figure.legend(*_each_label_once(axes), loc="outside upper left", ncols=3)
    return figure


def _each_label_once(axes: Axes) -> tuple[list[Any], list[str]]:
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    return list(handles.values()), list(handles)


def _heat_map(archive: Archive, effects: dict[tuple[str, str], Effect]) -> Figure:
    """Draw epsilon squared of every measure by every attribute; values at the noise floor are grey."""

    attributes = [a.name for a in archive.attributes]
    measures = sorted(archive.measures, key=lambda m: (m not in archive.indices, list(archive.measures).index(m)))
    values = np.full((len(measures), len(attributes)), np.nan)
    for i, measure in enumerate(measures):
        for j, attribute in enumerate(attributes):
            if (attribute, measure) in effects:
                values[i, j] = effects[attribute, measure].epsilon_squared
    names = readable_names(attributes, most=24)
    longest = max(map(len, names))
    slanted = longest > 10
    figure = new_figure(min(2.2 + 0.75 * len(attributes), DOUBLE), 0.7 + 0.2 * len(measures) + 0.035 * longest * slanted)
    axes = figure.subplots()
    top = max(float(np.nanmax(values)), 0.05)
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    for i, measure in enumerate(measures):
        for j, attribute in enumerate(attributes):
            effect = effects.get((attribute, measure))
            if effect is None:
                axes.text(j, i, "-", ha="center", va="center", color=_GREY)
                continue
            noise = effect.epsilon_squared <= effect.floor
            dark = effect.epsilon_squared > 0.6 * top
            colour = (HAIR if dark else SOFT) if noise else "white" if dark else INK
            axes.text(j, i, f"{effect.epsilon_squared:.3f}", ha="center", va="center", color=colour, fontsize=6.5)
    axes.set_xticks(
        range(len(attributes)), names, rotation=35 if slanted else 0, ha="left" if slanted else "center", rotation_mode="anchor"
    )
    axes.set_yticks(range(len(measures)), [_spaced(m) for m in measures])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    if 0 < len(archive.indices) < len(measures):
        axes.axhline(len(archive.indices) - 0.5, color=INK, linewidth=0.8)
    figure.colorbar(image, ax=axes, label="epsilon squared\n(grey: at the noise floor)", shrink=0.9)
    return figure


def _densities(archive: Archive, effects: dict[tuple[str, str], Effect]) -> Figure:
    """Draw the distribution of the indices with the largest effects, by group of each attribute."""

    largest = {m: max((e.epsilon_squared for (_, n), e in effects.items() if n == m), default=0) for m in archive.indices}
    measures = sorted(largest, key=lambda m: -largest[m])[:_MOST_MEASURES]
    rows, columns = len(archive.attributes), len(measures)
    figure = new_figure(1.4 * columns + 1.4, 1.15 * rows + 0.3)
    for i, line in enumerate(figure.subplots(rows, columns, squeeze=False)):
        for j, axes in enumerate(line):
            _density(axes, archive, i, measures[j], effects)
            if not i:
                axes.set_title(textwrap.fill(_spaced(measures[j]), 20, max_lines=3, placeholder="..."))
            if not j:
                axes.set_ylabel(readable(archive.attributes[i].name, most=20))
        line[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _density(axes: Axes, archive: Archive, which: int, measure: str, effects: dict[tuple[str, str], Effect]) -> None:
    """Draw one panel: smoothed histograms over the middle 99 %, each with area 1."""
    from scipy.ndimage import gaussian_filter1d

    attribute, values = archive.attributes[which], archive.measures[measure]
    known = np.isfinite(values) & (attribute.code >= 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    effect = effects.get((attribute.name, measure))
    if effect is None:
        return
    low, high = np.quantile(values[known], [0.005, 0.995])
    low, high = (low, high) if high > low else (values[known].min(), values[known].max())
    edges = np.linspace(low - 0.1 * (high - low), high + 0.1 * (high - low), 257)
    for g, name in enumerate(readable_names(attribute.groups[: len(COLOURS)], most=24)):
        some = values[known & (attribute.code == g)]
        if len(some) < 2:
            continue
        counts, _ = np.histogram(some, edges)
        # Silverman's rule, in bins
        width = (
            0.9
            * min(float(some.std()), (float(np.subtract(*np.quantile(some, [0.75, 0.25]))) or float(some.std())) / 1.34)
            * len(some) ** -0.2
        )
        smooth = gaussian_filter1d(counts / (len(some) * (edges[1] - edges[0])), max(width / (edges[1] - edges[0]), 1.0), mode="constant")
        axes.plot((edges[1:] + edges[:-1]) / 2, smooth, color=COLOURS[g], linestyle=LINES[g], label=name)
    axes.set_ylim(0, 1.2 * axes.dataLim.ymax)  # room for the number
    axes.locator_params(axis="x", nbins=4)
    axes.text(0.98, 0.97, f"ε² {effect.epsilon_squared:.3f}", transform=axes.transAxes, ha="right", va="top", fontsize=6.5,
              color=SOFT if effect.epsilon_squared <= effect.floor else INK)  # fmt: skip


def _map(archive: Archive, sample: np.ndarray, components: np.ndarray, seed: int) -> Figure:
    """Draw the t-SNE map of the sampled images, once for each attribute."""

    place = tsne(components, seed)
    rows = archive.spaces[archive.space][0][sample]
    shown = np.random.default_rng(seed).permutation(len(rows))  # no group is drawn over another
    size = float(np.clip(6000 / len(rows), 1.2, 14))
    columns = min(3, len(archive.attributes))
    lines = -(-len(archive.attributes) // columns)
    height, width = np.ptp(place[:, 1]), np.ptp(place[:, 0])
    legends = [readable_names(a.groups[: len(COLOURS)], most=24) for a in archive.attributes]
    # Two columns of long names are wider than a panel.
    across = 1 if max(len(name) for names in legends for name in names) > 13 else 2
    beside = (0.9 if across == 2 else 1.4) + 2.3 * float(np.clip(height / max(width, 1e-9), 0.4, 1.3))
    figure = new_figure(DOUBLE * columns / 3, beside * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, attribute, names in zip(panels, archive.attributes, legends, strict=False):
        code = attribute.code[rows][shown]
        colours = np.array([*COLOURS, _GREY])[np.where((code >= 0) & (code < len(COLOURS)), code, len(COLOURS))]
        # Points as a picture: ten thousand of them as drawings make a file that no program opens.
        axes.scatter(*place[shown].T, c=colours, s=size, linewidths=0, alpha=0.75, rasterized=True)
        axes.set_title(readable(attribute.name, most=24))
        axes.set_aspect("equal", adjustable="datalim")
        for k, name in enumerate(names):
            axes.plot([], [], "o", color=COLOURS[k], markersize=4, label=name)
        if len(attribute.groups) > len(COLOURS) or (code < 0).any():
            rest = "other groups" if len(attribute.groups) > len(COLOURS) else "unknown"
            axes.plot([], [], "o", color=_GREY, markersize=4, label=rest)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=across, handletextpad=0.2, columnspacing=0.8)
    return figure


def tsne(components: np.ndarray, seed: int) -> np.ndarray:
    """Lay points out in a plane by t-SNE (van der Maaten and Hinton 2008): (n, 2), from (n, k) principal components.

    openTSNE where it is installed, else scikit-learn; the same seed gives the same map on one machine. It is a picture: no number
    is computed from it.
    """
    perplexity = min(30.0, (len(components) - 1) / 3.5)
    scaled = components / max(float(components[:, 0].std()), 1e-12)
    try:
        from openTSNE import TSNE  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        from sklearn.manifold import TSNE as Slower

        return np.asarray(Slower(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(scaled))
    return np.asarray(TSNE(perplexity=perplexity, initialization="pca", random_state=seed, n_jobs=1).fit(scaled))


def _spaced(name: str) -> str:
    return readable(name.replace("_", " "))
