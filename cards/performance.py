"""Whom models trained on it serve: a forest of estimates by subgroup, the difference between two models, and their words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from cards.composition import attribute_label, crossed_label
from cards.disclosure import Disclosure
from cards.estimands import estimand
from cards.fairness import calibration, differing, operating_points
from cards.policy import HIDDEN, Count, Suppressed
from cards.sections import Figure, Heading, Section, TableBlock, Words, Work
from cards.tables import Cell, Column, Table, clean
from curate import UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

MOST_GROUPS = 60  # of the first task and adaptation; all together draw about a hundred
MOST_MODELS = 4  # drawn; the table has more
MOST_LINES = 240  # of a table of estimates, one a group and model
MOST_FORESTS = 4  # the page's size must not grow with the number of tasks
_METRICS = ("auroc", "auprc")  # of the many that an evaluation holds, the paper's two
_PEOPLE = ("n_patients", "n_pos_patients", "n_neg_patients")
_PAPER = "paper"  # comparisons whose method begins so repeat the published t-test over seeds


def performance(work: Work) -> Section:
    """Build the section from ``estimates.parquet`` and ``comparisons.parquet``; says so where there is no evaluation."""
    say, estimates = work.say, work.sources.estimates
    section = Section("performance", say("section_performance"))
    every_macro = None if estimates is None else estimates[estimates["class"] == "macro"]
    macro = None if every_macro is None else every_macro[every_macro["metric"].isin(_METRICS)]
    if every_macro is None or macro is None or macro.empty:
        section.text.append(say("performance_none"))
        return section
    pairs = list(dict.fromkeys(zip(macro["task"], macro["adaptation"], strict=True)))
    titles = {str(t.get("name")): clean(t.get("title") or t.get("name")) for t in (work.sources.evaluation or {}).get("tasks", [])}
    section.text.append(
        say("performance_lead", tasks=say.listed(list(dict.fromkeys(titles.get(str(t), clean(t)) for t, _ in pairs))[:MOST_FORESTS]))
    )
    for i, (task, adaptation) in enumerate(pairs[:MOST_FORESTS]):
        mine = _cell(macro, task, adaptation)
        forest = _Forest(work, mine, _comparisons(work, task, adaptation), f"{i + 1}", forests=min(len(pairs), MOST_FORESTS))
        title, how = titles.get(str(task), clean(task)), adaptation_label(work, str(adaptation))
        if len(pairs) > 1:
            section.blocks.append(Heading(say("performance_part", task=title, adaptation=how)))
        unlike, note = differing(forest, None if work.sources.groups is None else _cell(work.sources.groups, task, adaptation))
        figure = forest.figure(title, how, note)
        if figure is not None:
            section.blocks.append(figure)
        else:
            section.blocks.append(Words([say("performance_hidden")]))
            section.blocks.append(forest.estimates(title, how))
        section.blocks += [unlike] if unlike else []
        every = _cell(every_macro, task, adaptation)
        section.blocks += [*forest.tables(), *operating_points(forest, every), *calibration(forest, every)]
        if i == 0:
            estimands = sorted({estimand(work, str(e)) for e in mine["estimand"].dropna()})
            section.text.append(say("estimand", estimand=say.listed(estimands[:3])) if estimands else say("estimand_none"))
    if len(pairs) > MOST_FORESTS:
        section.text.append(say("performance_more", n=len(pairs) - MOST_FORESTS))
    return section


def _cell(table: pd.DataFrame, task: str, adaptation: str) -> pd.DataFrame:
    return table[(table["task"] == task) & (table["adaptation"] == adaptation)]


def adaptation_label(work: Work, adaptation: str) -> str:
    """Name a way of adapting a model."""
    key = f"adaptation_{adaptation}"
    return work.say(key) if work.say.has(key) else clean(adaptation)


def _comparisons(work: Work, task: str, adaptation: str) -> pd.DataFrame | None:
    table = work.sources.comparisons
    if table is None or table.empty:
        return None
    return table[(table["task"] == task) & (table["adaptation"] == adaptation) & table["metric"].isin(_METRICS)]


class _Forest:
    """One task and adaptation: protects the people behind each row once, then draws and tabulates.

    Args:
        work: what every section needs.
        rows: the macro estimates.
        comparisons: of the same task and adaptation, or None.
        suffix: keeps the ids of several forests apart.
        forests: of the card, which share the room that it has.
    """

    def __init__(self, work: Work, rows: pd.DataFrame, comparisons: pd.DataFrame | None, suffix: str, *, forests: int = 1) -> None:
        self.work, self.rows, self.comparisons, self.suffix = work, rows, comparisons, suffix
        self.models = [str(m) for m in dict.fromkeys(rows["model"])]
        self.subject = _trained_here(work, self.models)
        every = list(dict.fromkeys((str(a), str(g)) for a, g in zip(rows["attribute"], rows["group"], strict=True)))
        self.groups = every[: min(MOST_GROUPS, 96 // forests)]
        self.listed = self.models[: max(MOST_MODELS, min(12, MOST_LINES // forests // max(len(self.groups), 1)))]
        self.left_out = (len(every) - len(self.groups), len(self.models) - len(self.listed))
        first = rows.drop_duplicates(["attribute", "group"])
        self.people = {
            (str(r["attribute"]), str(r["group"])): tuple(0 if _missing(r[c]) else int(r[c]) for c in _PEOPLE)
            for r in first.to_dict("records")
        }
        self.shown = protect_people(work.protect, {g: self.people[g] for g in self.groups}, f"tested {suffix}", self.name)
        self.value = {(str(r["attribute"]), str(r["group"]), str(r["metric"]), str(r["model"])): r for r in rows.to_dict("records")}

    def estimate(self, group: tuple[str, str], metric: str, model: str) -> tuple[Any, Any, Any]:
        """Give value, low and high of one estimate as they may be shown."""
        row = self.value.get((*group, metric, model))
        if row is None:
            return None, None, None
        if self.work.protect.too_few(*self.people[group]):
            return HIDDEN, HIDDEN, HIDDEN
        return tuple(self.rounded(group, row[c]) for c in ("value", "low", "high"))  # type: ignore[return-value]

    def rounded(self, group: tuple[str, str], value: Any, digits: int = 3) -> float | None:
        """Round a result as finely as its people allow."""
        n = [self.work.protect.policy.rounded(k) for k in self.people[group][1:]]
        return self.work.protect.metric(None if _missing(value) else float(value), pairs=n[0] * n[1], digits=digits)

    def difference(self, group: tuple[str, str], metric: str = "auroc") -> dict[str, Any] | None:
        """Give the difference of the first two models in a group, None where they were not compared."""
        if self.comparisons is None or len(self.models) < 2:
            return None
        a, b = self.models[:2]
        for row in self.comparisons.to_dict("records"):
            same = (row["attribute"], row["group"], row["metric"], row["model_a"], row["model_b"]) == (*group, metric, a, b)
            if same and not str(row["method"]).startswith(_PAPER):
                if self.work.protect.too_few(*self.people[group]):
                    return dict.fromkeys(("difference", "low", "high", "p", "p_holm"), HIDDEN)
                return self._compared(group, row)
        return None

    def _compared(self, group: tuple[str, str], row: Mapping[Any, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {k: self.rounded(group, row[k], 4) for k in ("difference", "low", "high")}
        return found | {k: None if _missing(row[k]) else round(float(row[k]), 4) for k in ("p", "p_holm")}

    def label(self, group: tuple[str, str]) -> str:
        """Name a row."""
        return self.work.say("everyone") if group[0] == "all" else crossed_label(self.work, *group)

    def name(self, group: tuple[str, str]) -> tuple[str, str]:
        """Name a row's attribute and group as they are printed; two empty names for everyone."""
        return ("", "") if group[0] == "all" else (attribute_label(self.work, group[0]), self.label(group))

    def flag(self, group: tuple[str, str]) -> str:
        """Give the row's flag, ``""`` where it has none."""
        return next((str(r["flag"] or "") for k, r in self.value.items() if k[:2] == group), "")

    def figure(self, task: str, adaptation: str, note: str = "") -> Figure | None:
        """Draw AUROC by subgroup; None where no row may be shown with a value. `note` stands beneath the plot."""
        say = self.work.say
        drawn = self.models[:MOST_MODELS]
        values = {(g, m): self.estimate(g, "auroc", m) for g in self.groups for m in drawn}
        numbers = [v for triple in values.values() for v in triple if isinstance(v, float)]
        if not numbers:
            return None
        low, high, ticks = axis(min(numbers), max(numbers))
        at = lambda v: round(100 * (min(max(v, low), high) - low) / (high - low), 2)  # noqa: E731
        rows: list[dict[str, Any]] = []
        attribute = "all"
        for group in self.groups:
            if group[0] != attribute:
                attribute = group[0]
                rows.append({"heading": attribute_label(self.work, attribute)})
            rows.append(self._row(group, drawn, values, at))
        two = self.comparisons is not None and len(self.models) >= 2
        view = {
            "rows": rows,
            "ticks": [{"at": at(t), "label": say.decimal(t, 2)} for t in ticks],
            "models": [{"name": clean(m), "mark": i} for i, m in enumerate(drawn)],
            "two": two,
            "height": 14 * len(drawn) + 12,
            "count": len(drawn),
            "many": len(drawn) > 1,
            "note": note,
            "reference": at(everyone) if isinstance(everyone := self.estimate(("all", "all"), "auroc", drawn[0])[0], float) else None,
        }
        caption = say(
            "caption_forest_two" if two else "caption_forest", a=clean(self.models[0]), b=clean(self.models[min(1, len(self.models) - 1)])
        )
        if len(self.models) > MOST_MODELS:
            caption += " " + say("caption_forest_models", n=len(self.models) - MOST_MODELS)
        answer = self._answer(task, adaptation)
        return Figure("forest", f"fig-forest-{self.suffix}", answer, caption, view, self._estimates_table(task, adaptation))

    def _row(self, group: tuple[str, str], drawn: list[str], values: dict[Any, Any], at: Any) -> dict[str, Any]:
        say = self.work.say
        n, positive = self.shown[group]
        marks, words = [], []
        for i, model in enumerate(drawn):
            value, low, high = values[group, model]
            if isinstance(value, float):
                ends = isinstance(low, float) and isinstance(high, float)
                marks.append(
                    {
                        "mark": i,
                        "y": round(14 * (i - (len(drawn) - 1) / 2), 1),
                        "at": at(value),
                        "low": at(low) if ends else None,
                        "high": at(high) if ends else None,
                    }
                )
                words.append(say("title_estimate", model=clean(model), value=_spell(self.work, value, low, high)))
        value, low, high = values[group, drawn[0]]
        difference = self.difference(group)
        hidden = isinstance(value, Suppressed)
        row = {
            "label": self.label(group),
            "n": say("hidden") if isinstance(n, Suppressed) else say("positives_of", positive=positive, n=n),
            "marks": marks,
            "hidden": hidden,
            "reason": say("row_nobody") if n == 0 else say("row_hidden") if hidden else say("row_none") if not marks else "",
            "flag": "" if hidden else {"few": "few", "too few": "too few"}.get(self.flag(group), ""),
            "title": say("title_forest", group=self.label(group), values="; ".join(words))
            if words
            else say("title_forest_hidden", group=self.label(group)),
            "value": _spell(self.work, value, low, high) if isinstance(value, float) else "",
            "difference": "",
            "distinct": False,
        }
        if difference is not None and isinstance(difference["difference"], float):
            row["difference"] = say.decimal(difference["difference"], 3, sign=True)
            row["distinct"] = isinstance(difference["p_holm"], float) and difference["p_holm"] < 0.05
        return row

    def _answer(self, task: str, adaptation: str) -> str:
        """Say for whom the model that this set trained does worst, from the rows that are shown."""
        say = self.work.say
        model = self.subject
        found = []
        for group in self.groups:
            value = self.estimate(group, "auroc", model)[0]
            if group[0] != "all" and group[1] != UNKNOWN and isinstance(value, float):
                found.append((value, group))
        if not found:
            return say("answer_forest_none", task=task)
        value, group = min(found)
        return say(
            "answer_forest", task=task, model=clean(model), group=f"{attribute_label(self.work, group[0])}: {self.label(group)}",
            value=say.decimal(value, 2), adaptation=adaptation,
        )  # fmt: skip

    def estimates(self, task: str, adaptation: str) -> TableBlock:
        """Tabulate the estimates without a figure."""
        return TableBlock(self._estimates_table(task, adaptation))

    def _estimates_table(self, task: str, adaptation: str) -> Table:
        say = self.work.say
        metrics = [str(m) for m in dict.fromkeys(self.rows["metric"])]
        columns = [
            Column("group", say("group")), Column("patients", say("people"), "count"), Column("positive", say("positives"), "count"),
            Column("model", say("model")),
        ]  # fmt: skip
        for metric in metrics:
            name = say(f"metric_{metric}") if say.has(f"metric_{metric}") else clean(metric)
            columns += [
                Column(metric, name, "metric"),
                Column(f"{metric}_low", say("low"), "metric"),
                Column(f"{metric}_high", say("high"), "metric"),
            ]
        columns.append(Column("flag", say("flag")))
        rows: list[list[Cell]] = []
        attribute = "all"
        for group in self.groups:
            if group[0] != attribute:
                attribute = group[0]
                rows.append([attribute_label(self.work, attribute)])
            for model in self.listed:
                row: list[Cell] = [self.label(group), *self.shown[group], clean(model)]
                for metric in metrics:
                    row += self.estimate(group, metric, model)
                if self.work.protect.too_few(*self.people[group]):
                    self.work.protect.withhold(3 * len(metrics))
                rows.append([*row, self._flag_words(group)])
        return Table(
            f"estimates-{self.suffix}",
            say("table_estimates", task=task, adaptation=adaptation),
            columns,
            rows,
            notes=[say("note_estimates"), *self._cut()],
        )

    def _cut(self) -> list[str]:
        groups, models = self.left_out
        return [self.work.say("note_cut", groups=groups, models=models)] if groups or models else []

    def _flag_words(self, group: tuple[str, str]) -> str:
        flag = self.flag(group)
        return "" if not flag or self.work.protect.too_few(*self.people[group]) else self.work.say(f"flag_{flag.replace(' ', '_')}")

    def tables(self) -> list[TableBlock]:
        """Tabulate the comparison of the first two models, both analyses."""
        say = self.work.say
        if self.comparisons is None or self.comparisons.empty:
            return []
        columns = [
            Column("group", say("group")), Column("metric", say("metric")), Column("method", say("method")),
            Column("difference", say("difference"), "difference"),
            Column("low", say("low"), "difference"), Column("high", say("high"), "difference"),
            Column("p", say("p"), "p"), Column("p_holm", say("p_holm"), "p"),
        ]  # fmt: skip
        rows: list[list[Cell]] = []
        pair, notes = ("", ""), [say("note_comparisons")]
        for row in self.comparisons.to_dict("records"):
            group = (str(row["attribute"]), str(row["group"]))
            if group not in self.shown or (str(row["model_a"]), str(row["model_b"])) != tuple(self.models[:2]):
                continue
            numbers: list[Cell] = list(self._compared(group, row).values())
            if self.work.protect.too_few(*self.people[group]):
                self.work.protect.withhold(5)
                numbers = [HIDDEN] * 5
            name = self.label(group) if group[0] == "all" else f"{attribute_label(self.work, group[0])}: {self.label(group)}"
            method = say("method_seeds") if str(row["method"]).startswith(_PAPER) else say("method_people")
            metric = str(row["metric"])
            rows.append([name, say(f"metric_{metric}") if say.has(f"metric_{metric}") else clean(metric), method, *numbers])
            pair = (clean(row["model_a"]), clean(row["model_b"]))
        if not rows:
            return []
        caption = say("table_comparisons", a=pair[0], b=pair[1])
        return [TableBlock(Table(f"comparisons-{self.suffix}", caption, columns, rows, notes=notes), folded=caption)]


def _trained_here(work: Work, models: list[str]) -> str:
    """Choose the model that the caption is about: the first that was trained on this set, else the last of the first two."""
    here = work.sources.digests.get("shards")
    known = (work.sources.evaluation or {}).get("models") or []
    own = [str(m.get("name")) for m in known if isinstance(m, dict) and here and m.get("shards") == here]
    return next((m for m in models if m in own), models[min(1, len(models) - 1)])


def protect_people(
    protect: Disclosure,
    people: dict[tuple[str, str], tuple[int, ...]],
    place: str = "tested",
    name: Callable[[tuple[str, str]], tuple[str, str]] = lambda g: g,
) -> dict[tuple[str, str], tuple[Count, Count]]:
    """Protect the people behind the rows of a forest.

    Args:
        protect: the protection.
        people: (attribute, group) -> people, people with a positive, people with a negative image.
        place, name: what these people are called in the search for what gives others away (see `Disclosure.cells`).

    Returns:
        (attribute, group) -> people and positives as they may be shown. Where positives or negatives are too few neither is
        shown, since the other would give them away; groups of one attribute are a line, as are positives among them.
    """
    attributes = list(dict.fromkeys(a for a, _ in people))
    lines = [[g for g in people if g[0] == a] for a in attributes if a != "all"]
    part = lambda what: lambda g: (what, place, *name(g))  # noqa: E731
    counts = protect.cells({g: n[0] for g, n in people.items()}, lines, of=part("people"))
    veiled = [g for g, n in people.items() if counts[g] is HIDDEN or any(protect.policy.hides(k) for k in n[1:])]
    positives = protect.cells({g: n[1] for g, n in people.items()}, lines, hidden=veiled, of=part("positive"))
    for g, n in people.items():
        protect.note(part("negative")(g), n[2])
    return {g: (counts[g], HIDDEN if g in veiled else positives[g]) for g in people}


def axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Choose the ends and ticks of an axis: round steps, at most six ticks.

    Example:
        >>> axis(0.71, 0.93)
        (0.7, 0.95, [0.7, 0.75, 0.8, 0.85, 0.9, 0.95])
    """
    for step in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last == first:
            last += 1
        if last - first <= 5:
            break
    return round(first * step, 6), round(last * step, 6), [round(i * step, 6) for i in range(first, last + 1)]


def _missing(value: Any) -> bool:
    return value is None or value != value


def _spell(work: Work, value: Any, low: Any, high: Any) -> str:
    say = work.say
    if not isinstance(low, float) or not isinstance(high, float):
        return say.decimal(value, 2)
    return say("interval", value=say.decimal(value, 2), low=say.decimal(low, 2), high=say.decimal(high, 2))
