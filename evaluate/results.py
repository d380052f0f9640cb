"""From predictions to the finished evaluation folder: the same for our own models and for anyone's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import write_json, write_parquet
from curate.console import progress
from evaluate.comparisons import comparison_rows, comparisons_table
from evaluate.estimates import estimate_rows, estimates_table
from evaluate.heterogeneity import group_rows, groups_table
from evaluate.measuring import left_out, panels
from evaluate.panel import Panel
from evaluate.predictions import LEADING, ScoredImages, attribute_columns, columns_of, label_columns_of, scored_images

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskPlan:
    """What is to be estimated for one task.

    Attributes:
        name: the task's.
        classes: class names in order.
        order: attribute -> its groups in the order in which they are shown; an intersection is named ``age x sex``.
        metrics: which, in their order.
        about: its entry in ``evaluation.json``.
        kind: ``classification`` or ``multilabel``.
        thresholds: ``youden``, ``specificity=X``, ``sensitivity=X`` or a number, see `thresholds.threshold_of`.
        net_benefit_at: threshold probabilities of the net benefit.
    """

    name: str
    classes: tuple[str, ...]
    order: Mapping[str, Sequence[str]]
    metrics: tuple[str, ...]
    about: dict[str, Any]
    kind: str = "classification"
    thresholds: tuple[str, ...] = ("youden", "specificity=0.9")
    net_benefit_at: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)


@dataclass(frozen=True)
class Arranged:
    """Predictions that have been checked and are ready for estimation.

    Attributes:
        table: ``predictions.parquet``.
        plans: one for each task.
        sets: test images as arrays, one entry a task and adaptation.
    """

    table: pd.DataFrame
    plans: Sequence[TaskPlan]
    sets: Sequence[tuple[TaskPlan, ScoredImages]]


def arrange(predictions: pd.DataFrame, plans: Sequence[TaskPlan], *, heads: bool) -> Arranged:
    """Put predictions into the columns, types and order of ``predictions.parquet``, and into arrays.

    Args:
        predictions: rows of any order; further columns are dropped.
        plans: one for each task.
        heads: whether seeds are heads trained on the models.

    Raises:
        UserError: where models or seeds did not score the same images.
    """
    scores = columns_of(max((plan.classes for plan in plans), key=len))
    several = [plan.classes for plan in plans if plan.kind == "multilabel"]
    truths = label_columns_of(max(several, key=len)) if several else []
    named = dict.fromkeys(attribute for plan in plans for attribute in plan.order)
    attributes = list(dict.fromkeys(part for attribute in named for part in attribute_columns(attribute, predictions.columns)))
    table = predictions.reindex(columns=[*LEADING, *truths, *scores, *attributes])
    texts = ("task", "model", "adaptation", "split", "image_id", "patient_id", *attributes)
    whole = {"seed": "int64", "label": "Int64" if several else "int64", **dict.fromkeys(truths, "Int8")}
    table = table.astype({**dict.fromkeys(texts, "string"), **whole, **dict.fromkeys(scores, "float64")})
    table = table.iloc[_order(table)].reset_index(drop=True)
    sets = [
        (plan, scored)
        for plan in plans
        for scored in scored_images(
            table[(table["task"] == plan.name).to_numpy(dtype=bool)],
            plan.classes,
            plan.order,
            heads=heads,
            multilabel=plan.kind == "multilabel",
        )
    ]
    return Arranged(table, plans, sets)


def _order(table: pd.DataFrame) -> Any:
    """Sort rows by what identifies them; by codes, since sorting text a million rows long is slow."""
    import pandas as pd

    keys = [pd.factorize(table[c], sort=True)[0] for c in ("task", "model", "adaptation", "seed", "split", "image_id")]
    return np.lexsort(keys[::-1])


def write_results(
    folder: Path,
    arranged: Arranged,
    about: dict[str, Any],
    *,
    replicates: int,
    seed: int,
    resampled: bool = False,
) -> None:
    """Write predictions, estimates, comparisons, groups and, last, ``evaluation.json``.

    Args:
        folder: the artefact being made.
        arranged: from `arrange`.
        about: ``evaluation.json`` but for its tasks.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        resampled: whether AUROC and AUPRC take their intervals from the bootstrap too, see `measuring.Gauge`.
    """
    estimates: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    groups: list[dict[str, Any]] = []
    notes = [note for plan, scored in arranged.sets for note in left_out(scored, plan.metrics, plan.thresholds)]
    total = sum(1 + sum(len(groups) for groups in plan.order.values()) for plan, _ in arranged.sets)
    with progress(total, "estimates", "groups") as advance:
        for plan, scored in arranged.sets:
            measured: list[Panel] = []
            for panel in panels(
                scored,
                plan.metrics,
                thresholds=plan.thresholds,
                net_benefit_at=plan.net_benefit_at,
                replicates=replicates,
                seed=seed,
                resampled=resampled,
            ):
                estimates += estimate_rows(scored, panel, replicates=replicates)
                comparisons += comparison_rows(scored, panel, replicates=replicates)
                measured.append(panel)
                advance(1)
            groups += group_rows(scored, measured, replicates=replicates)
    write_parquet(folder / "predictions.parquet", arranged.table)
    write_parquet(folder / "estimates.parquet", estimates_table(estimates))
    write_parquet(folder / "comparisons.parquet", comparisons_table(comparisons))
    write_parquet(folder / "groups.parquet", groups_table(groups))
    write_json(
        folder / "evaluation.json", {**about, "notes": [*about.get("notes", []), *notes], "tasks": [plan.about for plan in arranged.plans]}
    )


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Give the rows of one of an evaluation's tables, each by the names of its columns."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
