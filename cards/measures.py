"""Image quality and morphology: medians and quartiles by age group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cards.composition import group_label
from cards.policy import Suppressed
from cards.quality import grades, medians
from cards.sections import Figure, Section, TableBlock, Work
from cards.tables import Cell, Column, Table, clean
from curate import UNKNOWN, group_of, group_order

if TYPE_CHECKING:
    import pandas as pd

MOST_MEASURES = 40
MOST_DRAWN = 6
# Drawn first where they were measured; the others follow in the table's order.
FIRST = (
    "Fractal_dimension", "Vessel_density", "Distance_tortuosity", "Average_width", "quality_score", "sharpness", "contrast", "entropy",
)  # fmt: skip
_GEOMETRY = {"image_id", "fov_x", "fov_y", "fov_radius", "fov_aspect"}  # where the field lies in the file: says nothing about the eye


def measures(work: Work) -> Section:
    """Build the section from ``measurements.parquet``; says so where nothing was measured."""
    section = Section("measures", work.say("section_measures"))
    measured = work.sources.cohort.measurements()
    numeric = [] if measured is None else [c for c in measured.columns if c not in _GEOMETRY and measured[c].dtype.kind in "fiu"]
    if measured is None or not numeric:
        section.text.append(work.say("measures_none"))
        return section
    source, chosen = work.sources.source, work.sources.chosen
    of = source if chosen is None else chosen
    section.text.append(work.say("measures_lead_set" if chosen is not None else "measures_lead_archive"))
    unique = measured.drop_duplicates("image_id")
    joined = of.merge(unique, on="image_id", how="inner", suffixes=("", "_measured"))
    if joined.empty:
        section.text.append(work.say("measures_none"))
        return section
    groups, names = _groups(work, joined)
    numeric = numeric[:MOST_MEASURES]
    quartiles = {m: {g: _quartiles(work, joined, groups, m, g) for g in names} for m in numeric}
    table = _table(work, numeric, names, quartiles)
    drawn = _drawn(numeric, quartiles)
    if drawn:
        panels = [_panel(work, m, names, quartiles[m]) for m in drawn]
        answer = _answer(work, drawn, names, quartiles)
        section.blocks.append(Figure("ranges", "fig-measures", answer, work.say("caption_measures"), panels, table))
    else:
        section.blocks.append(TableBlock(table))
    graded = grades(work, source.merge(unique[["image_id", "quality"]], on="image_id")) if "quality" in unique else None
    drawn_columns = {_column(work, m): measure_label(work, m) for m in drawn}
    section.blocks += [b for b in (graded, medians(work, joined, drawn_columns)) if b is not None]
    return section


def _column(work: Work, measure: str) -> str:
    """Name a measure's column after the join: the cohort's own column of that name comes first."""
    return measure if measure not in work.sources.source.columns else f"{measure}_measured"


def _groups(work: Work, joined: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    import pandas as pd

    if "age" not in joined or joined["age"].notna().sum() == 0:
        return pd.Series("all", index=joined.index, dtype=object), ["all"]
    return group_of(joined, "age", work.sources.bins), group_order(joined, "age", work.sources.bins)


def _quartiles(work: Work, joined: pd.DataFrame, groups: pd.Series, measure: str, group: str) -> tuple[Any, Any, Any]:
    import numpy as np

    column = _column(work, measure)
    inside = (groups == group).to_numpy()
    values = joined.loc[inside, column].to_numpy(dtype=float, na_value=np.nan)
    finite = np.isfinite(values)
    people = int(joined.loc[inside, "patient_id"][finite].nunique())
    if people == 0:
        return None, None, None
    low, middle, high = (float(v) for v in np.quantile(values[finite], [0.25, 0.5, 0.75]))
    first = work.protect.statistic(middle, people, digits=4)
    if isinstance(first, Suppressed):
        return first, first, first
    return work.protect.statistic(low, people, digits=4), first, work.protect.statistic(high, people, digits=4)


def measure_label(work: Work, measure: str) -> str:
    """Name a measure for the reader."""
    known = f"measure_{measure}"
    if work.say.has(known):
        return work.say(known)
    text = clean(measure.replace("_", " "))
    return text[:1].upper() + text[1:]


def _table(work: Work, numeric: list[str], names: list[str], quartiles: dict[str, dict[str, tuple[Any, Any, Any]]]) -> Table:
    say = work.say
    columns = [Column("measure", say("measure")), Column("group", say("attribute_age"))]
    columns += [
        Column("low", say("quartile_low"), "number"),
        Column("median", say("median"), "number"),
        Column("high", say("quartile_high"), "number"),
    ]
    rows: list[list[Cell]] = [[measure_label(work, m), group_label(work, g), *quartiles[m][g]] for m in numeric for g in names]
    return Table("measures", say("table_measures"), columns, rows, notes=[say("note_measures")])


def _drawn(numeric: list[str], quartiles: dict[str, dict[str, tuple[Any, Any, Any]]]) -> list[str]:
    usable = [m for m in numeric if any(isinstance(v[1], float) for v in quartiles[m].values())]
    varied = [
        m
        for m in usable
        if len(
            {v[1] for v in quartiles[m].values() if isinstance(v[1], float)}
            | {v[0] for v in quartiles[m].values() if isinstance(v[0], float)}
        )
        > 1
    ]
    return sorted(varied, key=lambda m: (FIRST.index(m) if m in FIRST else len(FIRST), numeric.index(m)))[:MOST_DRAWN]


def _panel(work: Work, measure: str, names: list[str], values: dict[str, tuple[Any, Any, Any]]) -> dict[str, Any]:
    say = work.say
    ends = [v for triple in values.values() for v in triple if isinstance(v, float)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    at = lambda v: round(4 + 92 * (v - low) / span, 2)  # noqa: E731
    rows = []
    for g in names:
        a, m, b = values[g]
        shown = isinstance(m, float)
        rows.append(
            {
                "label": group_label(work, g),
                "low": at(a) if shown else None,
                "median": at(m) if shown else None,
                "high": at(b) if shown else None,
                "value": say.decimal(m),
                "hidden": isinstance(m, Suppressed),
                "title": say("title_range", group=group_label(work, g), median=say.decimal(m), low=say.decimal(a), high=say.decimal(b)),
            }
        )
    return {"label": measure_label(work, measure), "rows": rows, "low": say.decimal(low), "high": say.decimal(high)}


def _answer(work: Work, drawn: list[str], names: list[str], quartiles: dict[str, dict[str, tuple[Any, Any, Any]]]) -> str:
    """Say which measure differs most between the youngest and the oldest group, in interquartile ranges."""
    say = work.say
    known = [g for g in names if g != UNKNOWN]
    best: tuple[float, str, float, float, str, str] | None = None
    for m in drawn:
        shown = [(g, quartiles[m][g]) for g in known if isinstance(quartiles[m][g][1], float)]
        if len(shown) < 2:
            continue
        (g0, first), (g1, last) = shown[0], shown[-1]
        width = max((first[2] - first[0] + last[2] - last[0]) / 2, 1e-12)
        if best is None or abs(last[1] - first[1]) / width > best[0]:
            best = (abs(last[1] - first[1]) / width, m, first[1], last[1], g0, g1)
    if best is None:
        return say("answer_measures")
    _, m, first_value, last_value, g0, g1 = best
    return say(
        "answer_measures_age", measure=measure_label(work, m), young=group_label(work, g0), old=group_label(work, g1),
        first=say.decimal(first_value), last=say.decimal(last_value),
    )  # fmt: skip
