"""How it was sampled: what each gate kept and whom it cost, the allocation against its target, the balance reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from cards.composition import MOST_ROWS, attribute_label, group_label, inline_label
from cards.disclosure import Step, share
from cards.policy import HIDDEN, Count, Suppressed
from cards.sections import Figure, Section, TableBlock, Work
from cards.tables import Cell, Column, Table, clean
from curate import UNKNOWN, bin_labels


def sampling(work: Work, people: Sequence[Step], images: Sequence[Step]) -> Section:
    """Build the section.

    Args:
        work: what every section needs.
        people, images: from `cards.composition.gate_steps`.
    """
    say, sample = work.say, work.sources.sample
    section = Section("sampling", say("section_sampling"))
    if sample is None:
        section.text.append(say("sampling_none"))
        return section
    sentence = describe(work)
    section.text.append(sentence)
    work.compute("1.1e", sentence)
    if people:
        section.blocks.append(_gates(work, sample["gates"], people, images))
        cost = _cost(work, sample["gates"])
        if cost is not None:
            section.blocks.append(cost)
    if sample.get("allocation"):
        figure, before, after = _allocation(work, sample["allocation"])
        section.blocks.append(figure)
        section.blocks.append(TableBlock(_balance(work, before, after)))
    return section


def describe(work: Work) -> str:
    """Say in a sentence how the set was drawn."""
    say, sample = work.say, work.sources.sample or {}
    balance = [inline_label(work, a) for a in sample.get("balance") or []]
    held = sample.get("holdout") or 0
    # A file or another cohort is called by its name: the folders above it are nobody's business.
    target = str(sample.get("target", "uniform")).rstrip("/").rpartition("/")[2]
    how = (
        say("drawn_balanced" if target == "uniform" else "drawn_target", balance=say.listed(balance), target=clean(target))
        if balance
        else say("drawn_plain")
    )
    return " ".join([how, say("drawn_holdout", share=say.percent(100.0 * float(held)))] if held else [how])


def _title(work: Work, gate: dict[str, Any]) -> str:
    known = f"gate_{gate['gate']}"
    return work.say(known) if work.say.has(known) else clean(gate.get("title") or gate["gate"])


def _gates(work: Work, gates: list[dict[str, Any]], people: Sequence[Step], images: Sequence[Step]) -> Figure:
    say = work.say
    columns = [
        Column("gate", say("gate")), Column("images", say("images"), "count"), Column("images_removed", say("images_removed"), "count"),
        Column("people", say("people"), "count"), Column("people_removed", say("people_removed"), "count"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    view = []
    whole = images[0].left
    for i, (gate, p, m) in enumerate(zip(gates, people, images, strict=True)):
        title = _title(work, gate)
        rows.append([title, m.left, None if i == 0 else m.removed, p.left, None if i == 0 else p.removed])
        view.append(
            {
                "label": title,
                "solid": _length(m.left, whole),
                "value": say.cell(m.left, "count"),
                "beside": say.cell(p.left, "count"),
                "hidden": isinstance(m.left, Suppressed),
                "lost": "" if i == 0 else _lost(work, p, m),
                "title": say("title_gate", gate=title, people=say.cell(p.left, "count"), images=say.cell(m.left, "count")),
            }
        )
    table = Table("gates", say("table_gates"), columns, rows, notes=[say("note_gates")] if work.protect.policy.protects else [])
    caption = say("caption_gates")
    return Figure("steps", "fig-gates", _dearest(work, gates, people), caption, view, table)


def _length(count: Count | None, whole: Count | None) -> float:
    return round(100 * count / whole, 2) if isinstance(count, int) and isinstance(whole, int) and whole else 0.0


def _lost(work: Work, people: Step, images: Step) -> str:
    say = work.say
    if images.removed == 0:
        return say("lost_none")
    if isinstance(images.removed, Suppressed) or isinstance(people.removed, Suppressed):
        return say("lost_few") if isinstance(images.removed, Suppressed) else say("lost_images", images=images.removed)
    if not people.removed:
        return say("lost_images", images=images.removed)
    return say("lost_people", n=people.removed, images=images.removed)


def _dearest(work: Work, gates: list[dict[str, Any]], people: Sequence[Step]) -> str:
    """Answer the figure's question: which gate, other than the draw and the hold-out, took the most people."""
    say = work.say
    lost = [
        (p.removed, _title(work, g))
        for g, p in zip(gates[1:], people[1:], strict=True)
        if g["gate"] not in ("draw", "holdout") and isinstance(p.removed, int) and p.removed > 0
    ]
    if not lost:
        return say("answer_gates_none")
    n, title = max(lost, key=lambda x: int(x[0]))
    return say("answer_gates", gate=title, n=n)


def _cost(work: Work, gates: list[dict[str, Any]]) -> TableBlock | None:
    """Say which share of each group's people each gate removed."""
    say = work.say
    at = [i for i, g in enumerate(gates) if g.get("by")]
    steps_at = [i for i in at if i - 1 in at]
    if not steps_at:
        return None
    attributes = [a for a in gates[at[0]]["by"] if all(a in gates[i]["by"] for i in at)]
    columns = [Column("group", say("group")), Column("people", say("people_before"), "count")]
    columns += [Column(f"gate_{i}", _short(work, gates[i]), "percent") for i in steps_at]
    rows: list[list[Cell]] = []
    worst: tuple[float, str, str] | None = None
    for attribute in attributes:
        rows.append([attribute_label(work, attribute)])
        for group, steps in _group_chains(work, gates, at, attribute).items():
            row: list[Cell] = [group_label(work, group), steps[0].left]
            for i in steps_at:
                lost = _share_lost(steps[at.index(i) - 1], steps[at.index(i)])
                row.append(lost)
                if (
                    gates[i]["gate"] not in ("draw", "holdout", "per-patient")
                    and isinstance(lost, float)
                    and (worst is None or lost > worst[0])
                ):
                    worst = (lost, group_label(work, group), _title(work, gates[i]))
            rows.append(row)
    if worst is not None and worst[0] > 0:
        work.compute("1.3c", say("computed_cost", group=worst[1], gate=worst[2], share=say.percent(worst[0])))
    table = Table("gate-cost", say("table_cost"), columns, rows, notes=[say("note_cost")])
    return TableBlock(table)


def _short(work: Work, gate: dict[str, Any]) -> str:
    known = f"gate_short_{gate['gate']}"
    return work.say(known) if work.say.has(known) else clean(gate["gate"], 24)


def _share_lost(before: Step, after: Step) -> float | Suppressed | None:
    if isinstance(before.left, Suppressed) or isinstance(after.removed, Suppressed):
        return HIDDEN
    if before.left is None or after.removed is None:
        return None
    value = share(after.removed, before.left)
    return value if value is None or isinstance(value, Suppressed) else float(value)


def _group_chains(work: Work, gates: list[dict[str, Any]], at: list[int], attribute: str) -> dict[str, list[Step]]:
    """Protect each group's counts over the gates; a group that is hidden at one gate beside no other takes one with it."""
    groups = list(gates[at[0]]["by"][attribute])
    if attribute in work.sources.bins:
        order = [*bin_labels(work.sources.bins[attribute], whole=attribute == "age"), UNKNOWN]
        groups = [g for g in order if g in groups] + [g for g in groups if g not in order]
    counts = {g: [int(gates[i]["by"][attribute].get(g, {}).get("patients", 0)) for i in at] for g in groups[:MOST_ROWS]}
    cells = {(g, j): n for g, series in counts.items() for j, n in enumerate(series)}
    clean_first = gates[at[0]]["gate"] == "clean"
    places = ["set" if i == len(gates) - 1 else "archive" if j == 0 and clean_first else f"gate {i}" for j, i in enumerate(at)]
    lines, name = [[(g, j) for g in counts] for j in range(len(at))], attribute_label(work, attribute)
    shown = work.protect.cells(cells, lines, of=lambda c: ("people", places[c[1]], name, group_label(work, c[0])))
    chains = {}
    for g, series in counts.items():
        steps = work.protect.chain(series, (0, len(series) - 1))
        # A share lost says of how many: where one number of the group is hidden, so is what would lead to it.
        hidden = any(shown[g, j] is HIDDEN for j in range(len(at)))
        chains[g] = [Step(HIDDEN, HIDDEN)] * len(steps) if hidden else steps
    return chains


def _allocation(work: Work, allocation: list[dict[str, Any]]) -> tuple[Figure, list[Count], list[Count]]:
    say, protect = work.say, work.protect
    cells = allocation[:MOST_ROWS]
    people = protect.cells({i: int(a.get("available_patients", a["available"])) for i, a in enumerate(cells)})
    of = lambda place: lambda i: ("images", place, "stratum", str(i))  # noqa: E731
    available = protect.subset({i: int(a["available"]) for i, a in enumerate(cells)}, {}, people, of=of("available"))
    available = {i: HIDDEN if people[i] is HIDDEN else n for i, n in available.items()}
    whole = {i: int(a["available"]) for i, a in enumerate(cells)}
    drawn = protect.subset({i: int(a["allocated"]) for i, a in enumerate(cells)}, whole, available, of=of("set"))
    drawn = {i: HIDDEN if available[i] is HIDDEN else n for i, n in drawn.items()}  # zeros too: how many strata are listed says enough
    columns = [
        Column("stratum", say("stratum")), Column("available", say("images_available"), "count"), Column("target", say("target"), "count"),
        Column("allocated", say("images_drawn"), "count"), Column("shortfall", say("shortfall"), "count"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for i, a in enumerate(cells):
        target = protect.policy.rounded(math.floor(float(a["target"]) + 0.5))
        got = drawn[i]
        short: Count = HIDDEN if isinstance(got, Suppressed) else (max(target - got, 0) if float(a.get("shortfall") or 0) > 0 else 0)
        if not isinstance(short, Suppressed) and protect.policy.hides(short):
            short = HIDDEN
        label = say("stratum_join").join(group_label(work, str(v)) for v in a["stratum"].values())
        rows.append([label, available[i], target, got, short])
    table = Table("allocation", say("table_allocation"), columns, rows, notes=[say("note_allocation")])
    if len(allocation) > len(cells):
        table.notes.append(say("more_rows", n=len(allocation) - len(cells)))
    balance = [inline_label(work, a) for a in (work.sources.sample or {}).get("balance") or []]
    figure = Figure(
        "allocation",
        "fig-allocation",
        _short_of(work, rows),
        say("caption_allocation", balance=say.listed(balance)),
        _targets(work, rows),
        table,
    )
    wanted = [i for i, a in enumerate(cells) if float(a["target"]) > 0]  # strata that were left out on purpose have no target
    return figure, [available[i] for i in wanted], [drawn[i] for i in wanted]


def _short_of(work: Work, rows: list[list[Cell]]) -> str:
    say = work.say
    short = [str(r[0]) for r in rows if isinstance(r[4], Suppressed) or (isinstance(r[4], int) and r[4] > 0)]
    if not short:
        return say("answer_allocation_full")
    return say("answer_allocation_short", n=len(short), groups=say.listed(short[:3]) + ("…" if len(short) > 3 else ""))


def _targets(work: Work, rows: list[list[Cell]]) -> list[dict[str, Any]]:
    say = work.say
    longest = max([float(c) for r in rows for c in r[2:4] if isinstance(c, int)], default=0) * 1.15 or 1.0
    view = []
    for label, available, target, got, _short in rows:
        view.append(
            {
                "label": label,
                "solid": 0.0 if not isinstance(got, int) else round(100 * got / longest, 2),
                "outline": 0.0 if not isinstance(available, int) else round(min(100.0, 100 * available / longest), 2),
                "target": round(100 * float(target) / longest, 2) if isinstance(target, int) else 0.0,
                "value": say.number(got),
                "hidden": isinstance(got, Suppressed),
                "beside": say("of_count", n=available),
                "title": say(
                    "title_allocation", group=label, drawn=say.number(got), available=say.number(available), target=say.number(target)
                ),
            }
        )
    return view


def normalised_entropy(cells: Sequence[Count]) -> float | None:
    """Measure how evenly people are spread over strata: 1 where all are alike, 0 where one holds everything.

    Computed from the cells that are shown, so that the measure gives nothing away that they don't. Source: Shannon entropy
    over its maximum, the logarithm of the number of strata.

    Example:
        >>> normalised_entropy([100, 100, HIDDEN])
        1.0
    """
    shown = [c for c in cells if not isinstance(c, Suppressed)]
    whole = sum(shown)
    if len(shown) < 2 or not whole:
        return None
    return max(0.0, -sum(c / whole * math.log(c / whole) for c in shown if c) / math.log(len(shown)))  # never a minus zero


def _balance(work: Work, before: list[Count], after: list[Count]) -> Table:
    say = work.say
    columns = [Column("measure", say("measure")), Column("before", say("before_draw"), "number"), Column("after", say("in_set"), "number")]
    rows: list[list[Cell]] = []
    for name, of in (("entropy", normalised_entropy), ("effective", _effective), ("ratio", _ratio), ("distance", _distance)):
        rows.append([say(f"balance_{name}"), *(None if (v := of(cells)) is None else round(v, 2) for cells in (before, after))])
    b, a = normalised_entropy(before), normalised_entropy(after)
    balance = [inline_label(work, n) for n in (work.sources.sample or {}).get("balance") or []]
    if a is not None and b is not None and balance:
        work.compute("1.1e", say("computed_balance", balance=say.listed(balance), after=say.decimal(a, 2), before=say.decimal(b, 2)))
    notes = [say("note_balance")] + ([say("note_balance_hidden")] if any(isinstance(c, Suppressed) for c in [*before, *after]) else [])
    return Table("balance", say("table_balance"), columns, rows, notes=notes)


def _effective(cells: Sequence[Count]) -> float | None:
    """Number of equal strata with the same entropy."""
    entropy, shown = normalised_entropy(cells), [c for c in cells if not isinstance(c, Suppressed)]
    return None if entropy is None else math.exp(entropy * math.log(len(shown)))


def _ratio(cells: Sequence[Count]) -> float | None:
    """Smallest stratum over largest."""
    shown: list[int] = [c for c in cells if not isinstance(c, Suppressed)]
    largest = max(shown, default=0)
    return min(shown) / largest if largest and len(shown) > 1 else None  # one alone is as even as anything


def _distance(cells: Sequence[Count]) -> float | None:
    """Total variation distance to equal strata: the share that would have to move."""
    shown: list[int] = [c for c in cells if not isinstance(c, Suppressed)]
    return sum(abs(c / sum(shown) - 1 / len(shown)) for c in shown) / 2 if len(shown) > 1 and any(shown) else None
