"""What is missing, and what was changed on the way in."""

from __future__ import annotations

from collections import Counter

from cards.composition import MOST_ROWS, attribute_label, inline_label
from cards.disclosure import Part, share, total
from cards.policy import HIDDEN, Count, Suppressed
from cards.sections import Figure, Section, TableBlock, Work
from cards.tables import Cell, Column, Table, clean

RECORDED = ("age", "sex", "ethnicity", "laterality", "acquired_on", "device", "site")
_INTERNAL = {"image_id", "path", "patient_id", "width", "height", "sha256", "phash"}


def missing(work: Work) -> Section:
    """Build the section: values that are missing by column, and what cleaning changed by rule."""
    section = Section("missing", work.say("section_missing"), [work.say("missing_lead")])
    section.blocks.append(_missing_figure(work))
    cleaning = _cleaning(work)
    if cleaning is None:
        section.text.append(work.say("cleaning_none"))
        work.compute("1.3b", work.say("cleaning_none"))
    else:
        section.blocks.append(TableBlock(cleaning))
    if work.sources.cohort.about.get("synthetic"):
        section.text.append(work.say("computed_synthetic"))
        work.compute("1.3b", work.say("computed_synthetic"))
    refused = int(work.sources.cohort.about.get("counts", {}).get("refused_rows", 0) or 0)
    if refused:
        sentence = work.say("refused_rows", n=work.protect.count(refused))
        section.text.append(sentence)
        work.compute("1.3b", sentence)
    return section


def _missing_figure(work: Work) -> Figure:
    say, source, chosen = work.say, work.sources.source, work.sources.chosen
    further = [c for c in source.columns if c not in RECORDED and c not in _INTERNAL]
    columns = [c for c in RECORDED if c in source] + further[: MOST_ROWS - len(RECORDED)]
    rows: list[list[Cell]] = []
    view = []
    for name in columns:
        gap = source[name].isna()
        part = (attribute_label(work, "year" if name == "acquired_on" else name), work.say("not_recorded"))
        left_out, counts = _without(work, source["patient_id"], gap, ("people", "archive", *part))
        row: list[Cell] = [attribute_label(work, name), left_out, share(left_out, work.source_people)]
        lacking = row[2]
        if chosen is not None:
            within = gap.loc[chosen.index]
            inside, _ = _without(work, chosen["patient_id"], within, ("people", "set", *part), whole=counts, shown=left_out)
            lacking = share(inside, work.set_people if work.set_people is not None else HIDDEN)
            row += [inside, lacking]
        rows.append(row)
        if name in ("age", "sex", "ethnicity"):
            key = "computed_unknown_hidden" if isinstance(lacking, Suppressed) else "computed_unknown" if lacking else "computed_known"
            work.compute("1.2b", say(key, attribute=row[0], share=say.percent(lacking)))
        if name not in RECORDED and all(isinstance(v, int | float) and v == 0 for v in (row[2], lacking)):
            continue  # a further column without gaps needs no bar; its row is in the table
        number = lacking if isinstance(lacking, float | int) else None
        view.append(
            {
                "label": row[0],
                "solid": 0.0 if number is None else round(float(number), 2),
                "outline": None if chosen is None else (round(float(row[2]), 2) if isinstance(row[2], float | int) else 0.0),
                "value": say.percent(lacking),
                "hidden": isinstance(lacking, Suppressed),
                "beside": "" if chosen is None else work.beside(row[2]),
                "title": say("title_missing", column=row[0], share=say.percent(lacking)),
            }
        )
    heads = [
        Column("column", say("column")),
        Column("source", say("without_archive"), "count"),
        Column("source_share", say("share_archive"), "percent"),
    ]
    if chosen is not None:
        heads += [Column("set", say("without_set"), "count"), Column("set_share", say("share_set"), "percent")]
    table = Table("missing", say("table_missing"), heads, rows)
    labels = {str(r[0]): inline_label(work, name) for name, r in zip(columns, rows, strict=True)}
    gaps = [str(r[0]) for r in rows if not (isinstance(r[-1], int | float) and r[-1] == 0)]
    answer = (
        say("answer_missing", columns=say.listed([labels[g] for g in gaps[:5]]) + ("…" if len(gaps) > 5 else ""), n=len(gaps))
        if gaps
        else say("answer_missing_none")
    )
    work.compute("1.3e", answer)
    for row in [r for r in rows if str(r[0]) in gaps][:7]:
        key = "computed_missing_hidden" if isinstance(row[-1], Suppressed) else "computed_missing"
        work.compute("1.3e", say(key, column=row[0], share=say.percent(row[-1])))
    return Figure(
        "bars",
        "fig-missing",
        answer,
        say("caption_missing"),
        {"rows": view, "has_set": chosen is not None, "whole": True, "more": ""},
        table,
    )


def _without(
    work: Work, person: object, gap: object, part: Part, *, whole: dict[str, int] | None = None, shown: Count = 0
) -> tuple[Count, dict[str, int]]:
    """Protect the number of people with a value missing; hidden as well where those without a gap are too few."""
    import pandas as pd

    frame = pd.DataFrame({"person": person, "gap": gap})
    lacking = int(frame.loc[frame["gap"], "person"].nunique())
    counts = {"missing": lacking, "complete": int(frame["person"].nunique()) - lacking}
    of = lambda cell: part if cell == "missing" else (*part[:3], "\0recorded")  # noqa: E731
    if whole is None:
        return work.protect.cells(counts, of=of)["missing"], counts
    beside: dict[str, Count] = {"missing": shown, "complete": shown if isinstance(shown, Suppressed) else 0}
    return work.protect.subset(counts, whole, beside, of=of)["missing"], counts


def _cleaning(work: Work) -> Table | None:
    """List the rules that changed values, with the number of values as it may be shown."""
    say = work.say
    rules = Counter({str(k): int(v) for k, v in (work.sources.cohort.about.get("rules") or {}).items()})
    if not rules:
        return None
    cells = {rule: work.protect.count(n) for rule, n in rules.items()}
    order = sorted(cells, key=lambda r: (isinstance(cells[r], Suppressed), -(0 if isinstance(c := cells[r], Suppressed) else c), r))
    rows: list[list[Cell]] = [[_rule(work, rule), cells[rule]] for rule in order[:MOST_ROWS]]
    columns = [Column("rule", say("rule")), Column("values", say("values_changed"), "count")]
    table = Table("cleaning", say("table_cleaning"), columns, rows, total=[say("total_shown"), total(c for c in cells.values())])
    shown = [say("computed_rule", rule=row[0], n=cells[rule]) for rule, row in zip(order[:12], rows, strict=False)]
    work.compute("1.3b", say("computed_cleaning", rules=say.listed(shown)))
    if len(rules) > MOST_ROWS:
        table.notes.append(say("more_rows", n=len(rules) - MOST_ROWS))
    return table


def _rule(work: Work, rule: str) -> str:
    known = f"rule_{rule}"
    return work.say(known) if work.say.has(known) else clean(rule.replace("-", " ").replace("_", " "))
