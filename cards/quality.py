"""Image quality and morphology by group: how many photographs of each group could be used, and where their measures lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cards.composition import attribute_label, group_label
from cards.disclosure import share, total
from cards.policy import HIDDEN, Suppressed
from cards.sections import TableBlock, Work
from cards.tables import Cell, Column, Table
from curate import UNKNOWN, group_of, group_order

if TYPE_CHECKING:
    import pandas as pd

GRADES = ("good", "usable", "reject")
MOST_GROUPS = 12  # of an attribute
ATTRIBUTES = ("age", "sex", "ethnicity", "device", "site")


def groups_of(work: Work, joined: pd.DataFrame, attribute: str) -> tuple[pd.Series, list[str]] | None:
    """Give each row's group and the groups in the order shown; None where the attribute is recorded for nobody.

    Args:
        work: what every section needs.
        joined: cohort rows.
        attribute: a column.
    """
    if attribute not in joined or joined[attribute].notna().sum() == 0:
        return None
    groups = group_of(joined, attribute, work.sources.bins)
    order = [g for g in group_order(joined, attribute, work.sources.bins) if g != UNKNOWN]
    return groups, order[:MOST_GROUPS]


def grades(work: Work, joined: pd.DataFrame) -> TableBlock | None:
    """Tabulate the quality grades by group; None where nothing was graded.

    Args:
        work: what every section needs.
        joined: cohort rows with ``quality``, those of the archive: a set leaves the worst out.
    """
    if "quality" not in joined or not joined["quality"].isin(GRADES).any():
        return None
    say, protect = work.say, work.protect
    graded = joined[joined["quality"].isin(GRADES)]
    columns = [Column("group", say("group")), Column("images", say("images"), "count")]
    columns += [Column(g, say(f"grade_{g}"), "percent") for g in GRADES]
    rows: list[list[Cell]] = []
    for attribute in ATTRIBUTES:
        found = groups_of(work, graded, attribute)
        if found is None:
            continue
        groups, order = found
        if len(order) < 2:
            continue
        rows.append([attribute_label(work, attribute)])
        for group in order:
            inside = graded[groups == group]
            # People with a photograph of each grade: who has too few of them is not counted by the share of images either.
            people = {g: int(inside.loc[inside["quality"] == g, "patient_id"].nunique()) for g in GRADES}
            shown = protect.cells(people)
            images = {g: HIDDEN if shown[g] is HIDDEN else protect.policy.count(int((inside["quality"] == g).sum())) for g in GRADES}
            counted = list(images.values())
            whole = HIDDEN if any(isinstance(n, Suppressed) for n in counted) else total(counted)
            rows.append([group_label(work, group), whole, *(share(images[g], whole) for g in GRADES)])
    if not rows:
        return None
    title = say("table_quality")
    seen = sum(not isinstance(row[1], Suppressed) for row in rows if len(row) > 1)
    return TableBlock(Table("quality", title, columns, rows, notes=[say("note_quality")]), folded="" if seen > 1 else title)


def medians(work: Work, joined: pd.DataFrame, measures: dict[str, str]) -> TableBlock | None:
    """Tabulate the medians of some measures by sex, ethnicity, device and site, folded; None where none of them has two groups.

    Args:
        work: what every section needs.
        joined: cohort rows with the measures.
        measures: column -> its name for the reader.
    """
    import numpy as np

    say = work.say
    columns = [Column("group", say("group")), *(Column(f"m{i}", name, "number") for i, name in enumerate(measures.values()))]
    rows: list[list[Cell]] = []
    for attribute in ATTRIBUTES[1:]:
        found = groups_of(work, joined, attribute)
        if found is None or len(found[1]) < 2:
            continue
        groups, order = found
        rows.append([attribute_label(work, attribute)])
        for group in order:
            inside = joined[groups == group]
            row: list[Cell] = [group_label(work, group)]
            for column in measures:
                values = inside[column].to_numpy(dtype=float, na_value=np.nan)
                finite = np.isfinite(values)
                people = int(inside["patient_id"][finite].nunique())
                value: Any = float(np.median(values[finite])) if finite.any() else None
                row.append(None if value is None else work.protect.statistic(value, people, digits=4))
            rows.append(row)
    if not rows or not measures:
        return None
    title = say("table_medians")
    return TableBlock(Table("medians", title, columns, rows, notes=[say("note_medians")]), folded=title)
