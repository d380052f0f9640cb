"""chai.xml: one CHAI applied model card for each model that was evaluated, its results from the card's protected tables.

Structure: Applied Model Card schema v0.2 of the Coalition for Health AI. The elements stand in the schema's order; a text that a
data card doesn't hold says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from cards.exports.content import Content
from cards.policy import Suppressed
from cards.tables import Cell, Table

NAMESPACE = "https://mc.chai.org/v0.2/schema.xsd"

Element = tuple[str, "str | list[Element]"]


@dataclass(frozen=True)
class Result:
    """One row of a table of estimates: where it stands, for whom, its cells by column and what the columns of metrics are called."""

    task: str
    group: str
    overall: bool
    cells: dict[str, Cell]
    metrics: dict[str, str]


def chai(card: Content) -> dict[str, str]:
    """Write the model cards.

    Returns:
        File name -> text: ``chai.xml`` for the evaluation's first model, ``chai-2.xml`` and so on for others; none where no model was
        evaluated.
    """
    by_model: dict[str, list[Result]] = {}
    for table in estimates(card):
        for model, result in _results(card, table):
            by_model.setdefault(model, []).append(result)
    return {
        "chai.xml" if i == 1 else f"chai-{i}.xml": _document(_model_card(card, model, results))
        for i, (model, results) in enumerate(by_model.items(), 1)
    }


def estimates(card: Content) -> list[Table]:
    """Find the tables of estimates: those with a column of groups, one of models and one of a metric."""
    return [t for t in card.tables.values() if {"group", "model"} <= {c.id for c in t.columns} and _metrics(t)]


def _metrics(table: Table) -> dict[str, str]:
    """Give the metrics of a table: column -> label."""
    return {c.id: c.label for c in table.columns if c.kind == "metric" and not c.id.endswith(("_low", "_high"))}


def _results(card: Content, table: Table) -> list[tuple[str, Result]]:
    ids = [c.id for c in table.columns]
    task = table.caption.removeprefix(str(card.say.strings["table_estimates"]).split("{")[0])
    found, heading = [], ""
    for row in table.rows:
        if len(row) == 1:
            heading = str(row[0])
            continue
        cells = dict(zip(ids, row, strict=True))
        group = f"{heading}: {cells['group']}" if heading else str(cells["group"])
        found.append((str(cells["model"]), Result(task, group, not heading, cells, _metrics(table))))
    return found


def _model_card(card: Content, model: str, results: list[Result]) -> list[Element]:
    say = card.say
    apart = say("chai_apart")  # what the developer of a model says, and a data card can't
    given = lambda *items: _text(card.said(*items), say("not_given"))  # noqa: E731
    sampling = _text(card.sentences("sampling"), say("not_given"))
    tasks = list(dict.fromkeys(r.task for r in results))
    performance = card.sentences("performance")
    data = _text([_tested(card, results), *performance[:1], card.protection], "")
    estimands = _text(performance[1:], say("not_given"))
    goal = lambda key: say(key, model=model)  # noqa: E731
    everyone = [r for r in results if r.overall]
    groups = [r for r in results if not r.overall]
    return [
        ("BasicInfo", [
            ("ModelName", model), ("ModelDeveloper", card.about_or_not("custodian")), ("DeveloperContact", card.about_or_not("contact")),
        ]),
        ("ReleaseInfo", [
            ("ReleaseStage", say("chai_stage")), ("ReleaseDate", card.about_or_not("released")),
            ("ReleaseVersion", card.about_or_not("version")), ("GlobalAvailability", card.about_or_not("access")),
        ]),
        ("ModelSummary", [("Summary", say("chai_summary", model=model, set=card.title, tasks="; ".join(tasks))), ("Keywords", [])]),
        ("UsesAndDirections", [
            ("IntendedUseAndWorkflow", given("1.1c")), ("PrimaryIntendedUsers", apart), ("HowToUse", apart),
            ("TargetedPatientPopulation", given("2.2b")), ("CautionedOutOfScopeSettings", given("1.3a")),
        ]),
        ("Warnings", [
            ("KnownRisksAndLimitations", _text([*card.sentences("limits"), *card.answered("1.3a")], say("not_given"))),
            ("KnownBiasesOrEthicalConsiderations", given("1.2c", "1.3c", "1.3d")), ("ClinicalRiskLevel", apart),
        ]),
        ("TrustIngredients", [
            ("AISystemFacts", [
                ("OutcomesAndOutputs", "; ".join(tasks)), ("ModelType", say("chai_type")), ("FoundationModels", _runs(card)),
                ("InputDataSource", given("1.1d")), ("OutputAndInputDataTypes", say("chai_data_types")),
                ("DevelopmentDataCharacterization", card.summary), ("BiasMitigationApproaches", sampling),
                ("OngoingMaintenance", _text([card.about("maintenance"), *card.sentences("report")], say("not_given"))),
            ]),
            ("TransparencyInformation", [
                ("FundingSource", card.about("funding") or given("1.1c")), ("StakeholdersConsulted", given("1.4b")),
            ]),
        ]),
        ("KeyMetrics", [
            ("UsefulnessUsabilityEfficacy", _metric(card, goal("chai_goal_everyone"), everyone, estimands, data)),
            ("FairnessEquity", _metric(card, goal("chai_goal_groups"), groups, _worst(card, groups), data)),
            ("SafetyReliability", _metric(card, goal("chai_goal_safety"), [], apart, apart)),
        ]),
        ("Resources", [("PeerReviewedPublications", card.about_or_not("citation")), ("PatientConsentOrDisclosure", given("1.4a"))]),
        ("Bibliography", card.citation("bibtex")),
    ]  # fmt: skip


def _text(parts: list[str], otherwise: str) -> str:
    return " ".join(p for p in parts if p) or otherwise


def _metric(card: Content, goal: str, results: list[Result], interpretation: str, data: str) -> list[Element]:
    say = card.say
    made: list[Element] = [("MetricResult", _result(r, name)) for r in results for name in r.metrics]
    none: Element = ("MetricResult", [("Label", say("chai_not_assessed")), ("ValueJson", _json({"kind": "none"}))])
    kind, process = (say("chai_test_type"), _text(card.sentences("performance"), say("not_given"))) if made else (interpretation,) * 2
    return [
        ("MetricGoal", goal), ("Results", made or [none]), ("Interpretation", interpretation), ("TestType", kind),
        ("TestingDataDescription", data), ("ValidationProcessAndJustification", process),
    ]  # fmt: skip


def _result(result: Result, name: str) -> list[Element]:
    value, low, high = (result.cells.get(k) for k in (name, f"{name}_low", f"{name}_high"))
    label = f"{result.metrics[name]}, {result.group} ({result.task})"
    if isinstance(value, Suppressed):
        return [("Label", label), ("ValueJson", _json({"kind": "suppressed"}))]
    if not isinstance(value, int | float):
        return [("Label", label), ("ValueJson", _json({"kind": "none"}))]
    if isinstance(low, int | float) and isinstance(high, int | float):
        interval = {"kind": "estimate_ci", "estimate": value, "lower": low, "upper": high, "level": 95}
        return [("Label", label), ("ValueJson", _json(interval))]
    return [("Label", label), ("ValueJson", _json({"kind": "single", "value": value}))]


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _tested(card: Content, results: list[Result]) -> str:
    say = card.say
    told = [r for r in results if r.overall and {"patients", "positive"} <= r.cells.keys()]
    return " ".join(say("chai_tested", task=r.task, people=r.cells["patients"], positive=r.cells["positive"]) for r in told)


def _worst(card: Content, results: list[Result]) -> str:
    """Say in which group each task's AUROC is lowest, of the values that are shown."""
    say, parts = card.say, []
    for task in dict.fromkeys(r.task for r in results):
        shown = [(float(v), r.group) for r in results if r.task == task and isinstance(v := r.cells.get("auroc"), int | float)]
        if shown:
            value, group = min(shown)
            parts.append(say("chai_worst", task=task, group=group, value=say.decimal(value, 2)))
    return " ".join([*parts, say("chai_worst_caution")]) if parts else say("performance_hidden")


def _runs(card: Content) -> str:
    """Write the table of pre-training runs in a line each; every model of the evaluation starts from one of them."""
    table = card.tables.get("runs")
    if table is None:
        return card.say("models_none")
    lines = []
    for i, column in enumerate(table.columns[1:], 1):
        facts = [f"{row[0]}: {card.say.cell(row[i], column.kind)}" for row in table.rows if len(row) > i and row[i] is not None]
        lines.append(f"{column.label} ({'; '.join(facts)})")
    return ". ".join(lines)


def _document(elements: list[Element]) -> str:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n<!-- Written by evenfooting from card.json. -->\n'
    return f'{head}<AppliedModelCard xmlns="{NAMESPACE}">\n{_write(elements, 1)}</AppliedModelCard>\n'


def _write(elements: list[Element], depth: int) -> str:
    indent, lines = "  " * depth, []
    for name, content in elements:
        if isinstance(content, str):
            lines.append(f"{indent}<{name}>{escape(content)}</{name}>\n")
        else:
            lines.append(f"{indent}<{name}>\n{_write(content, depth + 1)}{indent}</{name}>\n" if content else f"{indent}<{name}/>\n")
    return "".join(lines)


def missing(card: Content) -> list[str]:
    """List what chai.xml can only call 'not given', a line each that says what to do."""
    if not estimates(card):
        return ["not written: no model was evaluated; run: evaluate run"]
    needs = {
        "ModelDeveloper": "custodian",
        "DeveloperContact": "contact",
        "ReleaseDate": "released",
        "ReleaseVersion": "version",
        "FundingSource": "funding",
    }
    lines = [f"{name} is not given: fill in about, {field}" for name, field in needs.items() if not card.about(field)]
    answers = {
        "IntendedUseAndWorkflow": "1.1c", "TargetedPatientPopulation": "2.2b", "InputDataSource": "1.1d",
        "KnownRisksAndLimitations": "1.3a", "StakeholdersConsulted": "1.4b", "PatientConsentOrDisclosure": "1.4a",
    }  # fmt: skip
    return [*lines, *(f"{name} is not given: answer item {item}" for name, item in answers.items() if not card.answered(item))]
