"""From predictions to the finished evaluation folder: the same for our own models and for anyone's predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import write_json, write_parquet
from curate.console import progress
from evaluate.comparisons import comparison_rows, comparisons_table
from evaluate.estimates import estimate_rows, estimates_table
from evaluate.panel import panels
from evaluate.predictions import LEADING, ScoredImages, scored_images

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TaskPlan:
    """What is to be estimated for one task.

    Attributes:
        name: the task's.
        classes: class names in order.
        order: attribute -> its groups in the order in which they are shown.
        metrics: of ``auroc`` and ``auprc``.
        about: its entry in ``evaluation.json``.
    """

    name: str
    classes: tuple[str, ...]
    order: Mapping[str, Sequence[str]]
    metrics: tuple[str, ...]
    about: dict[str, Any]


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
    scores = [f"p_{k}" for k in range(max(len(plan.classes) for plan in plans))]
    attributes = list(dict.fromkeys(a for plan in plans for a in plan.order))
    table = predictions.reindex(columns=[*LEADING, *scores, *attributes])
    texts = ("task", "model", "adaptation", "split", "image_id", "patient_id", *attributes)
    table = table.astype({**dict.fromkeys(texts, "string"), "seed": "int64", "label": "int64", **dict.fromkeys(scores, "float64")})
    table = table.sort_values(["task", "model", "adaptation", "seed", "split", "image_id"], kind="stable", ignore_index=True)
    sets = [(plan, s) for plan in plans for s in scored_images(table[table["task"] == plan.name], plan.classes, plan.order, heads=heads)]
    return Arranged(table, plans, sets)


def write_results(
    folder: Path,
    arranged: Arranged,
    about: dict[str, Any],
    *,
    replicates: int,
    seed: int,
) -> None:
    """Write predictions, estimates, comparisons and, last, ``evaluation.json``.

    Args:
        folder: the artefact being made.
        arranged: from `arrange`.
        about: ``evaluation.json`` but for its tasks.
        replicates: of the bootstrap.
        seed: of the bootstrap.
    """
    estimates: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    total = sum(1 + sum(len(groups) for groups in plan.order.values()) for plan, _ in arranged.sets)
    with progress(total, "estimates", "groups") as advance:
        for plan, scored in arranged.sets:
            for panel in panels(scored, plan.metrics, replicates=replicates, seed=seed):
                estimates += estimate_rows(scored, panel, plan.metrics, replicates=replicates)
                comparisons += comparison_rows(scored, panel, plan.metrics, replicates=replicates)
                advance(1)
    write_parquet(folder / "predictions.parquet", arranged.table)
    write_parquet(folder / "estimates.parquet", estimates_table(estimates))
    write_parquet(folder / "comparisons.parquet", comparisons_table(comparisons))
    write_json(folder / "evaluation.json", {**about, "tasks": [plan.about for plan in arranged.plans]})
