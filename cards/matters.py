"""Which metadata go with what is in the photographs: what ``curate identify`` found, ranked and in words."""

from __future__ import annotations

from typing import Any

from cards.composition import attribute_label, inline_label
from cards.measures import measure_label
from cards.policy import Suppressed
from cards.sections import Figure, Section, Words, Work
from cards.tables import Cell, Column, Table, clean

MOST_DRAWN = 12
MOST_ROWS = 40
_MATTERS, _SLIGHT, _FLOOR = "matters", "over the floor, slight", "at the noise floor"


def matters(work: Work) -> Section:
    """Build the section from ``identify.json``; says so where nothing was identified, or from another version of the cohort."""
    say, found = work.say, work.sources.identified
    section = Section("matters", say("section_matters"))
    if not found or not found.get("ranking"):
        section.text.append(say("matters_none"))
        return section
    made_from = ((found.get("made_by") or {}).get("inputs") or {}).get("cohort.parquet")
    if made_from not in (None, work.sources.cohort.digest):
        section.text.append(say("matters_other"))
        return section
    people = int(found.get("patients") or 0)
    images, counted = (work.protect.count(int(found.get(n) or 0)) for n in ("images", "patients"))
    section.text.append(say("matters_lead", space=_space(work, found), images=images, people=counted))
    ranking = found["ranking"][:MOST_ROWS]
    table = _table(work, ranking, people)
    section.blocks.append(_figure(work, ranking[:MOST_DRAWN], table))
    section.blocks.append(Words(_words(work, found)))
    return section


def _space(work: Work, found: dict[str, Any]) -> str:
    name = clean((found.get("space") or {}).get("name") or "")
    return work.say("space_measures") if name == "measures" else work.say("space_features", name=name.removeprefix("latent-"))


def _table(work: Work, ranking: list[dict[str, Any]], people: int) -> Table:
    say = work.say
    columns = [
        Column("attribute", say("attribute")), Column("of", say("identify_of")), Column("alone", say("identify_alone"), "metric"),
        Column("held", say("identify_held"), "metric"), Column("floor", say("identify_floor"), "metric"),
        Column("effect", say("identify_effect"), "metric"), Column("measure", say("identify_measure")),
        Column("verdict", say("identify_verdict")),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for r in ranking:
        numbers = [work.protect.statistic(r.get(k), people) for k in ("r2_marginal", "r2_conditional", "noise_floor", "epsilon_squared")]
        strongest = r.get("strongest_index")
        rows.append(
            [
                attribute_label(work, str(r["attribute"])), say(f"of_{r.get('of', 'person')}"), *numbers,
                measure_label(work, str(strongest)) if strongest else None, verdict(work, r),
            ]
        )  # fmt: skip
    return Table("matters", say("table_matters"), columns, rows, notes=[say("note_matters")])


def verdict(work: Work, row: dict[str, Any]) -> str:
    """Say in the page's language what became of an attribute."""
    key = "verdict_" + {
        _MATTERS: "matters",
        _FLOOR: "floor",
        _SLIGHT: "slight",
        "can't be attributed": "shared",
        "can't be tested": "untested",
    }.get(str(row.get("verdict")), "untested")
    return work.say(key)


def _figure(work: Work, ranking: list[dict[str, Any]], table: Table) -> Figure:
    say = work.say
    at = {c.id: i for i, c in enumerate(table.columns)}
    drawn = table.rows[: len(ranking)]
    numbers = [float(v) for row in drawn for k in ("alone", "held", "floor") if isinstance(v := row[at[k]], float | int)]
    top = _round_up(max(numbers, default=0.0))
    place = lambda v: round(100 * max(float(v), 0.0) / top, 2) if isinstance(v, float | int) else None  # noqa: E731
    rows = []
    for source, row in zip(ranking, drawn, strict=True):
        cell = {k: row[i] for k, i in at.items()}
        held = cell["held"]
        value = say.number(held) if isinstance(held, Suppressed) else say("none") if held is None else say.percent(100 * float(held), 1)
        rows.append(
            {
                "label": cell["attribute"],
                "kind_of": source.get("of", "person"),
                **{k: place(cell[k]) for k in ("alone", "held", "floor")},
                "value": value,
                "verdict": cell["verdict"],
                "noise": source.get("verdict") == _FLOOR,
                "title": say("title_matters", attribute=cell["attribute"], value=value, verdict=cell["verdict"]),
            }
        )
    ticks = [{"at": at_, "label": say.percent(top * at_, 1)} for at_ in (0, 50, 100)]
    best = [inline_label(work, str(r["attribute"])) for r in ranking if r.get("of") == "person" and r.get("verdict") == _MATTERS]
    slight = [inline_label(work, str(r["attribute"])) for r in ranking if r.get("of") == "person" and r.get("verdict") == _SLIGHT]
    if best:
        answer = say("answer_matters", n=len(best), attributes=say.listed(best))
    else:
        answer = say("answer_matters_slight", attributes=say.listed(slight)) if slight else say("answer_matters_none")
    view = {"rows": rows, "ticks": ticks, "has_floor": any(r["floor"] is not None for r in rows)}
    return Figure("ranking", "fig-matters", answer, say("caption_matters"), view, table)


def _round_up(value: float) -> float:
    """Give the end of an axis from zero: 1, 2 or 5 times a power of ten."""
    for step in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        if value <= step:
            return step
    return 1.0


def _words(work: Work, found: dict[str, Any]) -> list[str]:
    """Say what follows from the ranking, and whether the set was balanced by what was suggested."""
    say = work.say
    sentences = []
    shared = [attribute_label(work, str(r["attribute"])) for r in found["ranking"] if r.get("not_attributable")]
    if shared:
        sentences.append(say("matters_shared", n=len(shared), attributes=say.listed(shared[:6])))
    cameras = [
        inline_label(work, str(r["attribute"])) for r in found["ranking"] if r.get("of") == "photograph" and r.get("verdict") == _MATTERS
    ]
    if cameras:
        sentences.append(say("matters_photograph", attributes=say.listed(cameras[:6])))
    suggested = [str(a) for a in found.get("suggested_balance") or []]
    named = [inline_label(work, a) for a in suggested]
    sentences.append(say("matters_suggested", attributes=say.listed(named)) if named else say("matters_suggested_none"))
    sample = work.sources.sample
    if sample is not None and suggested:
        left = [inline_label(work, a) for a in suggested if a not in (sample.get("balance") or [])]
        sentences.append(say("matters_unbalanced", attributes=say.listed(left)) if left else say("matters_balanced"))
    elif sample is not None and sample.get("balance"):
        sentences.append(say("matters_balanced_else", attributes=say.listed([inline_label(work, str(a)) for a in sample["balance"]])))
    return sentences
