"""Who is in it: the section of the card that sets the set beside the archive, attribute by attribute."""

from __future__ import annotations

from cards.composition import attribute_label, bars, column_at, composition_table, groups_with_people, inline_label
from cards.policy import Suppressed
from cards.pyramid import pyramid
from cards.sections import Note, Section, TableBlock, Work
from cards.tables import Table
from curate import UNKNOWN, bin_labels, group_of


def who(work: Work) -> Section:
    """Build the section: pyramid, then age groups, sex, ethnicity, devices, sites and years."""
    say = work.say
    section = Section("who", say("section_who"), [say("who_counting_archive" if work.sources.sample is None else "who_counting")])
    if work.sources.cohort.about.get("patients_known") is False:
        section.blocks.append(Note(say("note_patients_lead"), say("note_patients")))
    if work.sources.sample is None:
        section.text.append(say("no_shards"))
    elif work.sources.keys is None:
        section.text.append(say("no_keys_absent" if work.sources.keys_problem == "absent" else "no_keys_other"))
    figure = pyramid(work)
    if figure is not None:
        section.blocks.append(figure)
    tables: dict[str, Table] = {}
    absent = []
    for attribute in ("age", "sex", "ethnicity", "device", "site", "year"):
        made = _attribute(work, attribute)
        if made is None:
            absent.append(inline_label(work, attribute))
            continue
        tables[attribute] = made
        if attribute == "sex":
            section.blocks.append(TableBlock(made, folded=made.caption))
        else:
            section.blocks.append(bars(work, made, question=attribute_label(work, attribute)))
    if absent:
        section.text.append(sentence_case(say("nobody_list", n=len(absent), attributes=say.listed(absent))))
    _compute_composition(work, tables)
    return section


def sentence_case(text: str) -> str:
    """Begin a sentence with a capital."""
    return text[:1].upper() + text[1:]


def _attribute(work: Work, attribute: str) -> Table | None:
    source = work.sources.source
    if attribute == "year":
        if "acquired_on" not in source or source["acquired_on"].notna().sum() == 0:
            return None
        years = source["acquired_on"].astype("string").str.slice(0, 4).fillna(UNKNOWN).astype(object)
        return composition_table(work, "year", years, sorted(set(years) - {UNKNOWN}))
    if attribute not in source or source[attribute].notna().sum() == 0:
        return None
    groups = group_of(source, attribute, work.sources.bins)
    order = bin_labels(work.sources.bins[attribute], whole=attribute == "age") if attribute in work.sources.bins else None
    return composition_table(work, attribute, groups, order)


def _compute_composition(work: Work, tables: dict[str, Table]) -> None:
    say = work.say
    for attribute in ("age", "sex", "ethnicity"):
        if attribute not in tables:
            work.compute("1.2a", say("nobody", attribute=attribute_label(work, attribute)))
            continue
        table = tables[attribute]
        at = column_at(table, "set_share" if any(c.id == "set" for c in table.columns) else "source_share")
        there = [row for row in table.rows if row[at] != 0]
        shown = [row for row in there[:8] if not isinstance(row[at], Suppressed)]
        parts = [say("computed_group", group=row[0], share=say.percent(row[at])) for row in shown]
        key = "computed_groups" if len(shown) == len(there) else "computed_groups_hidden"
        if parts:
            work.compute("1.2a", say(key, attribute=attribute_label(work, attribute), groups=say.listed(parts)))
    for attribute in ("device", "site"):
        if attribute in tables:
            count, everywhere = groups_with_people(work, tables[attribute], attribute)
            work.compute("1.2a", say(f"computed_{attribute}s", n=everywhere if count is None else count))
