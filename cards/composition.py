"""Who is in it: people by age, sex and every other recorded group, in the set and in the archive that it came from.

A person counts in each group in which they have a photograph: someone photographed with two devices, or before and
after a birthday that separates two groups, counts in both. That is how the sampling counts too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cards.disclosure import Step, share, total
from cards.policy import HIDDEN, Count, Suppressed
from cards.sections import Figure, Work
from cards.tables import Cell, Column, Table, clean
from curate import UNKNOWN

if TYPE_CHECKING:
    import pandas as pd

MOST_ROWS = 60  # of a table; the page's size must not grow with the archive
MOST_BARS = 12  # of a figure; the rest stands in the table beneath
MOST_YEARS = 40  # a figure of years keeps their order, so it leaves none out
MOST_MARKS = 200_000_000
OVERLAPPING = ("device", "site", "year")  # many people have photographs in several of these groups: a sum says nothing

_BANDS = tuple(
    (key, re.compile(pattern))
    for key, pattern in (
        ("under", r"under (?P<high>-?[\d.]+)"),
        ("from", r"(?P<low>-?[\d.]+) and over"),
        ("to", r"(?P<low>-?[\d.]+) to (?P<high>-?[\d.]+)"),
        ("over_to", r"over (?P<low>-?[\d.]+) to (?P<high>-?[\d.]+)"),
        ("over", r"over (?P<low>-?[\d.]+)"),
        ("range", r"(?P<low>\d+)–(?P<high>\d+)"),
    )
)


def count_groups(table: pd.DataFrame, groups: pd.Series) -> tuple[dict[Any, int], dict[Any, int]]:
    """Count people and images in each group: two dicts, group -> number.

    Args:
        table: with ``patient_id`` as whole numbers from zero.
        groups: each row's group; codes of a categorical make it fast.
    """
    import numpy as np
    import pandas as pd

    codes, names = pd.factorize(groups)
    person = table["patient_id"].to_numpy(dtype=np.int64)
    width = int(person.max(initial=0)) + 1
    place = codes.astype(np.int64) * width + person
    if len(names) * width <= MOST_MARKS:  # a mark for every person and group is many times faster than looking for pairs
        marks = np.zeros(len(names) * width, dtype=bool)
        marks[place] = True
        people = np.count_nonzero(marks.reshape(len(names), width), axis=1)
    else:
        people = np.bincount(np.unique(place) // width, minlength=len(names))
    images = np.bincount(codes, minlength=len(names))
    return dict(zip(names, people.tolist(), strict=True)), dict(zip(names, images.tolist(), strict=True))


def gate_steps(work: Work) -> tuple[list[Step], list[Step]]:
    """Protect the counts after each gate: steps of people, steps of images. Sets the card's headline counts."""
    table, sample = work.sources.source, work.sources.sample
    people, images = int(table["patient_id"].nunique()), len(table)
    if sample is None or not sample.get("gates"):
        work.source_people, work.source_images = work.protect.count(people), work.protect.count(images)
        if work.source_people is HIDDEN:
            work.source_images = HIDDEN
        return [], []
    gates = sample["gates"]
    known = [i for i, g in enumerate(gates) if g.get("patients") is not None]  # nobody counted people before rows were cleaned
    clean_at = [i for i in known if gates[i]["gate"] == "clean" and (gates[i]["patients"], gates[i]["images"]) == (people, images)]
    fixed = [*clean_at, len(gates) - 1]
    counted = work.protect.chain([int(gates[i]["patients"]) for i in known], [known.index(i) for i in fixed if i in known])
    steps = [Step(None, None)] * (len(gates) - len(known)) + counted
    pictures = work.protect.chain([int(g["images"]) for g in gates], fixed)
    # Images of people who may not be counted may not be counted either.
    pictures = [Step(HIDDEN, HIDDEN) if s.left is HIDDEN else p for s, p in zip(steps, pictures, strict=True)]
    if clean_at:
        work.source_people, work.source_images = known_count(steps[clean_at[0]].left), known_count(pictures[clean_at[0]].left)
    else:
        work.source_people, work.source_images = work.protect.count(people), work.protect.count(images)
    work.set_people, work.set_images = known_count(steps[-1].left), known_count(pictures[-1].left)
    return steps, pictures


def known_count(count: Count | None) -> Count:
    """Take a count that nobody made as one that is not shown."""
    return HIDDEN if count is None else count


def group_label(work: Work, group: str) -> str:
    """Name a group for the reader; names from the archive are cleaned."""
    if group == UNKNOWN:
        return work.say("not_recorded")
    known = f"group_{group}"
    return work.say(known) if work.say.has(known) else _band(work, group) or clean(group)


def _band(work: Work, group: str) -> str:
    """Name a group between edges, which `curate.bin_labels` names in English; ``""`` for any other group."""
    for key, pattern in _BANDS:
        found = pattern.fullmatch(group)
        if found:
            return work.say(f"band_{key}", **found.groupdict())
    return ""


def crossed_label(work: Work, attribute: str, group: str) -> str:
    """Name a group of one attribute, or of several as ``age x sex`` has them."""
    if " x " not in attribute:
        return group_label(work, group)
    return work.say("stratum_join").join(group_label(work, g) for g in group.split(" x "))


def attribute_label(work: Work, attribute: str) -> str:
    """Name an attribute for the reader."""
    known = f"attribute_{attribute}"
    if not work.say.has(known) and " x " in attribute:
        return work.say("stratum_join").join(attribute_label(work, a) for a in attribute.split(" x "))
    return work.say(known) if work.say.has(known) else clean(attribute)


def inline_label(work: Work, attribute: str) -> str:
    """Name an attribute inside a sentence."""
    known = f"inline_{attribute}"
    return work.say(known) if work.say.has(known) else attribute_label(work, attribute)


def composition_table(work: Work, attribute: str, groups: pd.Series, order: Sequence[str] | None = None) -> Table:
    """Count the people of each group, archive beside set.

    Args:
        work: what every section needs.
        attribute: what the groups are of; names the table.
        groups: each source row's group, aligned with the cohort's table.
        order: the groups as shown; by default by number of people, most first, the unknown last.
    """
    say, protect = work.say, work.protect
    whole, whole_images = count_groups(work.sources.source, groups)
    if order:
        whole = {g: whole.get(g, 0) for g in [*order, *([UNKNOWN] if UNKNOWN in whole else [])]}
    shown = protect.cells(whole, of=lambda g: ("people", "archive", attribute_label(work, attribute), group_label(work, g)))
    part = _set_counts(work, attribute, groups)
    chosen = None
    if part:
        counts = {g: part[0].get(g, 0) for g in whole}
        chosen = protect.subset(
            counts, whole, shown, of=lambda g: ("people", "set", attribute_label(work, attribute), group_label(work, g))
        )
    images = _images(work, part[1] if part else whole_images, chosen or shown, "set" if part else "archive", attribute)
    names = list(whole) if order else sorted(whole, key=lambda g: (g == UNKNOWN, -_size(shown[g]), g))
    columns = [Column("group", attribute_label(work, attribute)), *_people_columns(work, chosen is not None)]
    rows: list[list[Cell]] = []
    for g in names[:MOST_ROWS]:
        row: list[Cell] = [group_label(work, g), shown[g], share(shown[g], work.source_people)]
        if chosen is not None:
            row += [chosen[g], share(chosen[g], work.set_people if work.set_people is not None else HIDDEN)]
        rows.append([*row, images[g]])
    table = Table(attribute, say("table_composition", attribute=inline_label(work, attribute)), columns, rows, notes=[])
    if attribute not in OVERLAPPING:
        summed: list[Cell] = [say("total_shown"), total(shown_counts(table, "source")), None]
        if chosen is not None:
            summed += [total(shown_counts(table, "set")), None]
        table.total = [*summed, total(shown_counts(table, "images"))]
    if len(names) > MOST_ROWS:
        table.notes.append(say("more_rows", n=len(names) - MOST_ROWS))
    return table


def _images(work: Work, counts: Mapping[str, int], people: Mapping[str, Count], place: str, attribute: str) -> dict[str, Count]:
    return {
        g: HIDDEN
        if isinstance(c, Suppressed)
        else work.protect.count(counts.get(g, 0), of=("images", place, attribute_label(work, attribute), group_label(work, g)))
        for g, c in people.items()
    }


def shown_counts(table: Table, column: str) -> list[Count]:
    """Give a column's counts."""
    return [c for c in table.column(column) if isinstance(c, int | Suppressed)]


def _size(count: Count) -> int:
    return 0 if isinstance(count, Suppressed) else count


def _people_columns(work: Work, has_set: bool) -> list[Column]:
    say = work.say
    columns = [Column("source", say("people_archive"), "count"), Column("source_share", say("share_archive"), "percent")]
    if has_set:
        columns += [Column("set", say("people_set"), "count"), Column("set_share", say("share_set"), "percent")]
    return [*columns, Column("images", say("images_set" if has_set else "images_archive"), "count")]


def _set_counts(work: Work, attribute: str, groups: pd.Series) -> tuple[dict[str, int], dict[str, int]] | None:
    chosen = work.sources.chosen
    if chosen is not None:
        return count_groups(chosen, groups.loc[chosen.index])
    gates = (work.sources.sample or {}).get("gates") or [{}]
    by: dict[str, Any] = gates[-1].get("by", {}).get(attribute, {})
    if not by:
        return None
    return {g: int(v["patients"]) for g, v in by.items()}, {g: int(v["images"]) for g, v in by.items()}


def bars(work: Work, table: Table, *, question: str) -> Figure:
    """Draw a composition table: solid bars for the set, outlines for the archive, as shares of all people."""
    say = work.say
    has_set = any(c.id == "set" for c in table.columns)
    shares = [s for name in ("source_share", "set_share") if name == "source_share" or has_set for s in table.column(name)]
    longest = max([float(s) for s in shares if isinstance(s, int | float)], default=0) or 100.0
    rows = []
    for row in table.rows[: MOST_YEARS if table.id == "year" else MOST_BARS]:
        cells = dict(zip([c.id for c in table.columns], row, strict=True))
        solid = cells["set_share"] if has_set else cells["source_share"]
        rows.append(
            {
                "label": cells["group"],
                "solid": bar_width(solid, longest),
                "outline": bar_width(cells["source_share"], longest) if has_set else None,
                "value": say.percent(solid),
                "hidden": isinstance(solid, Suppressed),
                "beside": work.beside(cells["source_share"]) if has_set else "",
                "title": _bar_title(work, cells, has_set),
            }
        )
    more = len(table.rows) - len(rows)
    caption = say("caption_bars_set" if has_set else "caption_bars_archive")
    view = {"rows": rows, "has_set": has_set, "more": say("caption_more", n=more, shown=say.whole(len(rows))) if more > 0 else ""}
    return Figure("bars", f"fig-{table.id}", _largest(work, table, has_set, question), caption, view, table)


def _bar_title(work: Work, cells: dict[str, Cell], has_set: bool) -> str:
    say = work.say
    if has_set:
        return say("title_bar_set", group=cells["group"], set=say.percent(cells["set_share"]), source=say.percent(cells["source_share"]))
    return say("title_bar_archive", group=cells["group"], source=say.percent(cells["source_share"]))


def bar_width(value: Any, longest: float) -> float:
    """Give a bar\'s length as a percentage of the longest; nothing for what is hidden."""
    return 0.0 if value is None or isinstance(value, Suppressed) else round(100 * float(value) / longest, 2)


def _largest(work: Work, table: Table, has_set: bool, question: str) -> str:
    """Answer the figure's question with its largest group."""
    say = work.say
    of = "set" if has_set else "source"
    unknown = say("not_recorded")
    found = [r for r in table.rows if _size(r[column_at(table, of)]) > 0]  # type: ignore[arg-type]
    known = [r for r in found if r[0] != unknown]
    if not known:
        return say("answer_nothing", attribute=question) if found else say("answer_hidden", attribute=question)
    best = max(known, key=lambda r: _size(r[column_at(table, of)]))  # type: ignore[arg-type]
    wanted = ["set_share", "source_share"] if has_set else ["source_share"]
    share_of = {name: say.percent(best[column_at(table, name)]) for name in wanted}
    key = "answer_largest_set" if has_set else "answer_largest_archive"
    return say(key, attribute=question, group=best[0], set=share_of.get("set_share", ""), source=share_of["source_share"])


def groups_with_people(work: Work, table: Table | None, attribute: str) -> tuple[int | None, int]:
    """Count the groups of an attribute that have anyone.

    Returns:
        Those of the set, None where there is no set or its table hides a group's size (a hidden one may be none); those of the archive.
    """
    everywhere = int(work.sources.source[attribute].nunique()) if attribute in work.sources.source else 0
    if table is None or not any(c.id == "set" for c in table.columns):
        return None, everywhere
    cells = [row[column_at(table, "set")] for row in table.rows if row[0] != work.say("not_recorded")]
    if any(isinstance(cell, Suppressed) for cell in cells):
        return None, everywhere
    return sum(cell != 0 for cell in cells), everywhere


def column_at(table: Table, column: str) -> int:
    """Give a column's position."""
    return [c.id for c in table.columns].index(column)
