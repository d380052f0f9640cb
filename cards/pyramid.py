"""People by age and sex, archive beside set."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cards.composition import bar_width, count_groups, group_label, known_count, shown_counts
from cards.disclosure import share, total
from cards.policy import Count, Suppressed
from cards.sections import Figure, Work
from cards.tables import Cell, Column, Table
from curate import UNKNOWN, bin_labels, group_of

if TYPE_CHECKING:
    import pandas as pd

AGE_STARTS = (20, 30, 40, 50, 60, 70, 80)


def fine_ages(edges: Sequence[float]) -> tuple[list[tuple[int, str]], dict[str, list[str]]]:
    """Cut age into decades that respect the edges of the age groups, so that each group is a sum of whole rows.

    Args:
        edges: of the groups, as ``(40, 70)`` for under 40, 40 to 70, over 70.

    Returns:
        (first age, label) of each row, youngest first; and group -> labels of its rows.

    Example:
        >>> [label for _, label in fine_ages((40, 70))[0]]
        ['under 20', '20–29', '30–39', '40–49', '50–59', '60–70', '71–79', '80 and over']
    """
    cuts = [int(edges[0]), *(int(e) + 1 for e in edges[1:])]  # the first age of each group after the first
    starts = sorted({*cuts, *(s for s in AGE_STARTS if all(abs(s - c) > 3 for c in cuts))})
    rows = [(0, f"under {starts[0]}")]
    rows += [(low, f"{low}–{high - 1}") for low, high in itertools.pairwise(starts)]
    rows.append((starts[-1], f"{starts[-1]} and over"))
    groups: dict[str, list[str]] = {}
    labels = bin_labels(edges, whole=True)
    for first, label in rows:
        groups.setdefault(labels[sum(first >= c for c in cuts)], []).append(label)
    return rows, groups


def pyramid(work: Work) -> Figure | None:
    """Draw people by age and sex, archive beside set; None where age or sex was recorded for nobody."""
    import numpy as np
    import pandas as pd

    table, say, protect = work.sources.source, work.say, work.protect
    if "age" not in table or "sex" not in table or table["age"].notna().sum() == 0 or table["sex"].notna().sum() == 0:
        return None
    rows, blocks = fine_ages(work.sources.bins["age"])
    ages = np.floor(table["age"].to_numpy(dtype=float, na_value=np.nan))
    row = np.searchsorted([first for first, _ in rows], ages, side="right") - 1
    row[np.isnan(ages)] = len(rows)
    labels = [*(label for _, label in rows), UNKNOWN]
    sex = group_of(table, "sex", {})
    sexes = [s for s in ("female", "male", "other", UNKNOWN) if (sex == s).any()]
    place = sex.map({s: i for i, s in enumerate(sexes)}).to_numpy(dtype=np.int64)
    cell = pd.Series(np.clip(row, 0, len(rows)) * len(sexes) + place, index=table.index)
    present = {labels[i] for i in np.unique(row)}
    names = _trimmed(labels[:-1], present) + ([UNKNOWN] if UNKNOWN in present else [])
    cells = [(a, s) for a in names for s in sexes]
    whole = _cell_counts(table, cell, labels, sexes)
    # Sums that are public elsewhere on the card: those of each sex and those of each age group.
    lines = [[(a, s) for a in names] for s in sexes]
    lines += [[(a, s) for a in fine for s in sexes] for fine in [*blocks.values(), [UNKNOWN]]]
    part_of = lambda place: lambda c: ("people", place, "age-sex", f"{group_label(work, c[0])}|{c[1]}")  # noqa: E731
    small = _too_few(work, table, sex, sexes, blocks)
    hidden = [c for c in cells if small & {("age", c[0]), ("sex", c[1])}]
    shown = protect.cells({c: whole.get(c, 0) for c in cells}, lines, hidden, of=part_of("archive"))
    chosen = work.sources.chosen
    part = None
    if chosen is not None:
        counts = _cell_counts(chosen, cell.loc[chosen.index], labels, sexes)
        small = _too_few(work, chosen, sex.loc[chosen.index], sexes, blocks)
        hidden = [c for c in cells if small & {("age", c[0]), ("sex", c[1])}]
        part = protect.subset({c: counts.get(c, 0) for c in cells}, whole, shown, lines, hidden, of=part_of("set"))
    return _pyramid_figure(work, names, sexes, shown, part, say("answer_pyramid"))


def _cell_counts(table: pd.DataFrame, cell: pd.Series, labels: Sequence[str], sexes: Sequence[str]) -> dict[tuple[str, str], int]:
    people, _ = count_groups(table, cell)
    return {(labels[int(c) // len(sexes)], sexes[int(c) % len(sexes)]): n for c, n in people.items()}


def _too_few(work: Work, table: pd.DataFrame, sex: pd.Series, sexes: Sequence[str], blocks: dict[str, list[str]]) -> set[tuple[str, str]]:
    """List sexes, and rows of age groups, of too few people to be counted: of them nothing is told, not even where they are not."""
    hides = work.protect.policy.hides
    by_sex, _ = count_groups(table, sex)
    by_age, _ = count_groups(table, group_of(table, "age", work.sources.bins))
    groups = [g for g in (*blocks, UNKNOWN) if by_age.get(g, 0) and hides(by_age[g])]
    return {("sex", s) for s in sexes if by_sex.get(s, 0) and hides(by_sex[s])} | {("age", a) for g in groups for a in blocks.get(g, [g])}


def _trimmed(names: list[str], present: set[str]) -> list[str]:
    at = [i for i, n in enumerate(names) if n in present]
    return names[at[0] : at[-1] + 1] if at else []


def _pyramid_figure(
    work: Work, names: list[str], sexes: list[str], shown: dict[Any, Count], part: dict[Any, Count] | None, fallback: str
) -> Figure:
    say = work.say
    columns = [Column("age", say("attribute_age"))]
    for s in sexes:
        columns.append(Column(f"{s}_source", say("sex_archive", sex=group_label(work, s)), "count"))
        if part is not None:
            columns.append(Column(f"{s}_set", say("sex_set", sex=group_label(work, s)), "count"))
    rows: list[list[Cell]] = []
    for a in names:
        row: list[Cell] = [group_label(work, a)]
        for s in sexes:
            row += [shown[a, s]] if part is None else [shown[a, s], part[a, s]]
        rows.append(row)
    table = Table("age-sex", say("table_age_sex"), columns, rows)
    table.total = [say("total_shown"), *(total(shown_counts(table, c.id)) for c in columns[1:])]
    drawn = [s for s in ("female", "male") if s in sexes]
    lengths: dict[tuple[str, str], tuple[Any, Any]] = {}
    for s in drawn:
        for a in names:
            chosen = None if part is None else share(part[a, s], known_count(work.set_people))
            lengths[a, s] = (share(shown[a, s], work.source_people), chosen)
    longest = max([float(v) for pair in lengths.values() for v in pair if isinstance(v, float)], default=0) or 100.0
    view_rows = []
    for a in names:
        sides: dict[str, Any] = {s: _side(work, a, s, shown, part, lengths[a, s], longest) for s in drawn}
        view_rows.append({"label": group_label(work, a), **sides})
    left_out = [group_label(work, s) for s in sexes if s not in drawn]
    caption = say("caption_pyramid_set" if part is not None else "caption_pyramid_archive")
    if left_out:
        caption += " " + say("caption_pyramid_left_out", groups=say.listed(left_out))
    heads = [(s, group_label(work, s)) for s in drawn]
    view: dict[str, Any] = {"rows": view_rows, "sexes": heads, "has_set": part is not None}
    return Figure("pyramid", "fig-age-sex", _pyramid_answer(work, names, sexes, part or shown) or fallback, caption, view, table)


def _side(
    work: Work, a: str, s: str, shown: dict[Any, Count], part: dict[Any, Count] | None, lengths: tuple[Any, Any], longest: float
) -> dict[str, Any]:
    say = work.say
    source, chosen = shown[a, s], (part or shown)[a, s]
    text = say.number(chosen)
    return {
        "solid": bar_width(lengths[0] if part is None else lengths[1], longest),
        "outline": None if part is None else bar_width(lengths[0], longest),
        "value": text,
        "hidden": isinstance(chosen, Suppressed),
        "beside": "" if part is None or isinstance(source, Suppressed) else say("of_count", n=source),
        "title": say("title_pyramid", sex=group_label(work, s), age=group_label(work, a), n=text, source=say.number(source))
        if part is not None
        else say("title_pyramid_archive", sex=group_label(work, s), age=group_label(work, a), n=text),
    }


def _pyramid_answer(work: Work, names: list[str], sexes: list[str], cells: dict[Any, Count]) -> str:
    """Say which row holds the most people, from the cells shown."""
    sums = {a: total(cells[a, s] for s in sexes) for a in names if a != UNKNOWN}
    if not sums or not max(sums.values()):
        return ""
    best = max(sums, key=lambda a: sums[a])
    missing = [a for a in sums if all(not isinstance(cells[a, s], Suppressed) and cells[a, s] == 0 for s in sexes)]
    hidden = any(isinstance(cells[a, s], Suppressed) for a in sums for s in sexes)
    text = work.say("answer_pyramid_shown" if hidden else "answer_pyramid_most", age=group_label(work, best))
    return text + (" " + work.say("answer_pyramid_none", ages=work.say.listed([group_label(work, a) for a in missing])) if missing else "")
