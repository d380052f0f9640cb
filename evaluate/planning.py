"""``evaluate power``: what the groups of an evaluation, or of a study that is planned, could show."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from curate import UserError, nearest, read_json
from evaluate.comparisons import PAPER
from evaluate.panel import MACRO
from evaluate.power import (
    Sample,
    Variance,
    design_effect,
    detectable_gap,
    found_design_effect,
    found_sample,
    patients_for,
    planned_pair,
    planned_sample,
    power_of,
)
from evaluate.predictions import AND
from evaluate.results import table_rows

if TYPE_CHECKING:
    import pandas as pd

ASKED = ("between this group and the rest, two-sided", "between two models in this group, paired, two-sided")


def planned_power(
    *,
    positives: int,
    negatives: int,
    auroc: float,
    icc: float = 0.0,
    images_per_patient: float = 1.0,
    rest_positives: int | None = None,
    rest_negatives: int | None = None,
    correlation: float = 0.7,
    gap: float = 0.05,
    power: float = 0.8,
    level: float = 0.05,
    variance: str = "obuchowski",
) -> dict[str, Any]:
    """Say what a group of a planned study could show.

    Args:
        positives, negatives: images of the group.
        auroc: expected, above 0.5.
        icc: correlation of the images of one patient.
        images_per_patient: on average.
        rest_positives, rest_negatives: images of all others; default: as many as in the group.
        correlation: of two models' AUROC over samples of patients.
        gap: to be shown.
        power: wanted.
        level: of the two-sided test.
        variance: ``obuchowski`` or ``hanley-mcneil``, see `power.auroc_variance`.

    Raises:
        UserError: where a number is out of range.
    """
    _check(positives=positives, negatives=negatives)
    for name, value, low, high in (
        ("--auroc", auroc, 0.5, 1.0),
        ("--gap", gap, 0.0, 0.5),
        ("--power", power, 0.0, 1.0),
        ("--level", level, 0.0, 1.0),
    ):
        if not low < value < high:
            raise UserError(f"{name} {value:g}: expected a number between {low:g} and {high:g}")
    if not (0 <= icc <= 1 and -1 < correlation < 1):
        raise UserError(f"--icc {icc:g}, --correlation {correlation:g}: expected 0 to 1, and a number between -1 and 1")
    if variance not in get_args(Variance):
        raise UserError(f"--variance {variance}: expected {' or '.join(get_args(Variance))}")
    method: Variance = variance  # type: ignore[assignment]
    if images_per_patient < 1:
        raise UserError(f"--images-per-patient {images_per_patient:g}: expected 1 or more")
    group = planned_sample(positives, negatives, auroc, icc=icc, images_per_patient=images_per_patient, method=method)
    rest = planned_sample(
        rest_positives or positives,
        rest_negatives or negatives,
        auroc,
        icc=icc,
        images_per_patient=images_per_patient,
        method=method,
    )
    pair = planned_pair(group, correlation)
    return {
        "planned": {
            "positives": positives,
            "negatives": negatives,
            "rest_positives": rest_positives or positives,
            "rest_negatives": rest_negatives or negatives,
            "auroc": auroc,
            "icc": icc,
            "images_per_patient": images_per_patient,
            "design_effect": design_effect(images_per_patient, icc),
            "correlation": correlation,
            "variance": variance,
        },
        "gap": gap,
        "power": power,
        "level": level,
        "patients": group.patients,
        "se": math.sqrt(group.variance(0)),
        "groups": _answers(group, rest, gap, power, level),
        "models": _answers(pair, None, gap, power, level),
    }


def _check(**counts: int) -> None:
    for name, count in counts.items():
        if count < 2:
            raise UserError(f"--{name} {count}: expected 2 or more")


def _answers(group: Sample, rest: Sample | None, gap: float, power: float, level: float) -> dict[str, float | None]:
    answers = {
        "detectable": detectable_gap(group, rest, power=power, level=level),
        "power_now": power_of(gap, group, rest, level=level),
        "patients_now": group.patients,
        "patients_needed": patients_for(gap, group, rest, power=power, level=level),
    }
    if rest is not None:
        answers["patients_needed_if_the_rest_grows"] = patients_for(gap, group, rest, grow_rest=True, power=power, level=level)
    return {name: float(value) if math.isfinite(value) else None for name, value in answers.items()}


def evaluation_power(
    folder: Path, *, metric: str = "auroc", gap: float = 0.05, power: float = 0.8, level: float = 0.05, model: str | None = None
) -> dict[str, Any]:
    """Say what each group of an evaluation could show, from the errors that it found.

    Args:
        folder: a finished evaluation.
        metric: which; with a threshold as ``sensitivity@youden``.
        gap: to be shown.
        power: wanted.
        level: of the two-sided test.
        model: one of the evaluation's; default: all.

    Returns:
        ``groups`` and ``models``: lists of dictionaries; null where there is no error to go by, or nothing would be enough.

    Raises:
        UserError: where the evaluation has no such metric or model.
    """
    import pandas as pd

    read_json(folder / "evaluation.json", "an evaluation")
    estimates = pd.read_parquet(folder / "estimates.parquet")
    comparisons = pd.read_parquet(folder / "comparisons.parquet")
    line = metric.partition("@")[::2]
    estimates = _of_line(folder, estimates[estimates["class"] == MACRO], metric, line)
    comparisons = comparisons[(comparisons["metric"] == line[0]) & (comparisons["threshold"] == line[1]) & (comparisons["method"] != PAPER)]
    if model is not None:
        there = list(estimates["model"].unique())
        if model not in there:
            raise UserError(f"{folder}: no model '{model}'{nearest(model, there)}")
        estimates = estimates[estimates["model"] == model]
    groups = [
        row
        for _, mine in estimates.groupby(["task", "model", "adaptation", "attribute"], sort=False)
        for row in _group_rows(mine, line[0], gap, power, level)
    ]
    return {
        "evaluation": str(folder),
        "metric": metric,
        "gap": gap,
        "power": power,
        "level": level,
        "groups": groups,
        "models": [_pair_row(row, gap, power, level) for row in table_rows(comparisons)],
    }


def _of_line(folder: Path, estimates: pd.DataFrame, metric: str, line: tuple[str, str]) -> pd.DataFrame:
    found = estimates[(estimates["metric"] == line[0]) & (estimates["threshold"] == line[1])]
    if found.empty:
        pairs = estimates[["metric", "threshold"]].drop_duplicates().itertuples(index=False, name=None)
        there = [f"{name}@{threshold}" if threshold else name for name, threshold in pairs]
        raise UserError(f"{folder}: no estimates of '{metric}'{nearest(metric, there)}")
    return found


def _group_rows(rows: pd.DataFrame, metric: str, gap: float, power: float, level: float) -> list[dict[str, Any]]:
    records = table_rows(rows)
    if records[0]["attribute"] == "all":
        return []
    answered = []
    for row in records:
        others = [r for r in records if r is not row and r["se"] > 0]
        known = row["se"] > 0 and bool(others)
        auroc = row["value"] if metric == "auroc" else None
        answers: dict[str, float | None] = {}
        if known:
            group = found_sample(row["n_patients"], _scarcer(row), row["se"], auroc)
            total = sum(r["n_patients"] for r in others)
            variance = sum((r["n_patients"] / total * r["se"]) ** 2 for r in others)
            rest = found_sample(total, sum(map(_scarcer, others)), math.sqrt(variance), None)
            answers = _answers(group, rest, gap, power, level)
        # A macro average over several classes has no counts of its own to compare its error with.
        one_class = auroc is not None and row["n_pos"] + row["n_neg"] == row["n"] and 0.5 < row["value"] < 1
        answered.append(
            {
                **{c: row[c] for c in ("task", "model", "adaptation", "attribute", "group", "n_pos", "n_neg", "n_patients", "flag")},
                "value": _finite(row["value"]),
                "se": _finite(row["se"]),
                "design_effect": found_design_effect(row["se"], row["value"], row["n_pos"], row["n_neg"]) if known and one_class else None,
                **answers,
                "note": "" if known else "no error was found here; plan with --positives, --negatives and --auroc",
            }
        )
    return answered


def _pair_row(row: dict[str, Any], gap: float, power: float, level: float) -> dict[str, Any]:
    answers: dict[str, float | None] = {}
    if row["se"] > 0:
        pair = found_sample(row["n_patients"], min(row["n_pos_patients"], row["n_neg_patients"]), row["se"])
        answers = _answers(pair, None, gap, power, level)
    kept = ("task", "adaptation", "attribute", "group", "model_a", "model_b", "n_patients", "flag")
    return {**{c: row[c] for c in kept}, "se": _finite(row["se"]), **answers}


def _scarcer(row: dict[str, Any]) -> int:
    return int(min(row["n_pos_patients"], row["n_neg_patients"]))


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def print_power(result: dict[str, Any]) -> None:
    """Print what `planned_power` or `evaluation_power` found."""
    from curate.console import say, table

    gap, power, level = result["gap"], result["power"], result["level"]
    head = ["can show", "power", "patients", "needed"]
    if "planned" in result:
        planned = result["planned"]
        say(
            f"{planned['positives']:,} positive and {planned['negatives']:,} negative images of {result['patients']:,.0f} patients, AUROC "
            f"{planned['auroc']:g}: standard error {result['se']:.4f} (design effect {planned['design_effect']:.2f})"
        )
        between = {"group and rest": result["groups"], "two models": result["models"]}
        table(["gap between", *head, "all grow"], [[name, *_cells(answers, rest=True)] for name, answers in between.items()])
        say(f"the rest: {planned['rest_positives']:,} positive and {planned['rest_negatives']:,} negative images")
    for key in dict.fromkeys((r["task"], r["adaptation"], r["model"]) for r in result.get("groups", ()) if "planned" not in result):
        mine = [r for r in result["groups"] if (r["task"], r["adaptation"], r["model"]) == key]
        rows = [[_name(r), r["se"], r["design_effect"], *_cells(r, rest=True)] for r in mine]
        title = f"\n{key[0]}, {key[2]}, {key[1]}: the gap in {result['metric']} between a group and the rest"
        table(["group", "se", "design", *head, "all grow"], rows, title=title)
    for pair in dict.fromkeys(
        (r["task"], r["adaptation"], r["model_a"], r["model_b"]) for r in result.get("models", ()) if "planned" not in result
    ):
        mine = [r for r in result["models"] if (r["task"], r["adaptation"], r["model_a"], r["model_b"]) == pair]
        title = f"\n{pair[0]}, {pair[1]}: the difference in {result['metric']} between {pair[2]} and {pair[3]}"
        table(["group", "se", *head], [[_name(r), r["se"], *_cells(r, rest=False)] for r in mine], title=title)
    say(
        f"can show: the smallest gap found with {power:.0%} power by a two-sided test at {level:g} (Holm's correction asks for more)\n"
        f"power: for a gap of {gap:g}; needed: patients of the group for it; all grow: likewise, if the rest grows by the same factor\n"
        "-: no number would do while the rest stays as it is, or no error is known\n"
        "design: how many times the variance is that of independent images with normal scores"
    )


def _cells(answers: dict[str, Any], *, rest: bool) -> list[Any]:
    whole = lambda value: None if value is None else int(value)  # noqa: E731
    needed = [whole(answers.get("patients_needed"))]
    if rest:
        needed.append(whole(answers.get("patients_needed_if_the_rest_grows")))
    now = whole(answers.get("patients_now"))
    power = answers.get("power_now")
    return [answers.get("detectable"), None if power is None else f"{power:.0%}", now, *needed]


def _name(row: dict[str, Any]) -> str:
    return (
        "everyone"
        if row["attribute"] == "all"
        else f"{row['group'] if AND in row['attribute'] else row['attribute'] + ': ' + row['group']}"
    )
