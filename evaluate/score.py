"""``evaluate score``: anyone's predictions, from a file, through the same estimates. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import (
    Cohort,
    UserError,
    begin,
    finish,
    nearest,
    provenance,
    read_cohort,
    sha256_file,
)
from evaluate.given import (
    LABELS,
    Scores,
    chosen_scores,
    class_columns,
    parse_map,
    read_labels,
    read_predictions,
    read_scores,
    read_seeds,
    read_splits,
    read_truths,
    refuse_repeats,
    rows_concerned,
    truth_columns,
)
from evaluate.labelled import describe_split
from evaluate.people import group_columns, with_cohort
from evaluate.predictions import AND, columns_of, label_columns_of
from evaluate.results import TaskPlan, arrange, write_results
from evaluate.split import SPLITS, refuse_shared_patients
from evaluate.task import DEFAULT_NET_BENEFIT_AT, DEFAULT_THRESHOLDS, METRICS, split_groups, split_names
from evaluate.thresholds import given_threshold

if TYPE_CHECKING:
    import pandas as pd

ADAPTATION = "as given"


@dataclass(frozen=True)
class Given:
    """Predictions of one task from a file, checked.

    Attributes:
        predictions: in the columns of ``predictions.parquet``, any order.
        plan: what to estimate.
        notes: what a reader must know.
    """

    predictions: pd.DataFrame
    plan: TaskPlan
    notes: list[str]


def score_file(
    file: Path,
    *,
    score: str | None = None,
    scores: str | None = None,
    logits: str | None = None,
    labels: str | None = None,
    classes: str | None = None,
    mapping: Sequence[str] | None = None,
    task: str | None = None,
    out: Path = Path("evaluation"),
    cohort: Path | None = None,
    by: str | None = None,
    bins: list[str] | None = None,
    metrics: str | None = None,
    thresholds: str | None = None,
    net_benefit_at: str | None = None,
    seed: int = 0,
    replicates: int = 1000,
    resampled: bool = False,
) -> Path:
    """Write an evaluation folder from predictions in a file.

    The file has one row an image (for each model and seed, where there are several) with ``label`` and scores, or for a task of several
    labels ``label_0``, ``label_1``, ...; ``image_id``, ``patient_id``, ``model``, ``seed``, ``split``, ``adaptation`` and ``task`` are used
    where present. Of several splits only ``test`` is estimated; thresholds are fixed on ``val``.

    Args:
        file: CSV, TSV or Parquet.
        score: column with the score of two classes; any finite number, higher is more likely class 1.
        scores: what the names of the columns with probabilities begin with, one a class: ``p_0``, ``p_1``, ... or ``p_mild``, ...
        logits: likewise of columns with logits, or one column with the logit of class 1.
        labels: what the names of the columns with the truth of several labels begin with (default: ``label_``).
        classes: class names in order, comma between; labels may be these names or 0, 1, ...
        mapping: ``FIELD=COLUMN`` texts for columns that are called otherwise in the file.
        task: which of the file's tasks, or the name to give the only one (default: the file's name).
        out: the evaluation folder.
        cohort: a cohort folder: patients and subgroups are taken from it where the file hasn't them, and images that are not
            in it are refused.
        by: subgroup columns, ``*`` between those that are crossed; default: age, sex and ethnicity, as far as they are there.
        bins: ``COLUMN=EDGE,EDGE`` texts for numeric subgroup columns.
        metrics: names, comma between; default: all.
        thresholds: ``youden``, ``specificity=X``, ``sensitivity=X`` or numbers, comma between; default: Youden's and
            the one at a specificity of 0.9, where there are validation rows.
        net_benefit_at: threshold probabilities, comma between.
        seed: of the bootstrap.
        replicates: of the bootstrap.
        resampled: whether AUROC and AUPRC are bootstrapped too, in place of their influence functions.

    Returns:
        `out`.

    Raises:
        UserError: in one line with the first rows concerned.
    """
    wanted = chosen_scores(score, scores, logits)
    people = read_cohort(cohort) if cohort is not None else None
    given = read_given(
        file,
        wanted,
        labels=labels,
        classes=classes,
        mapping=parse_map(mapping),
        task=task,
        people=people,
        by=by,
        bins=bins,
        metrics=metrics,
        thresholds=thresholds,
        net_benefit_at=net_benefit_at,
    )
    arranged = arrange(given.predictions, [given.plan], heads=False)  # before anything is written: it may refuse
    specification = {
        "scores": {"kind": wanted.kind, "columns": wanted.name},
        "labels": labels,
        "map": parse_map(mapping),
        "classes": list(given.plan.classes),
        "task": given.plan.name,
        "by": list(given.plan.order),
        "bins": bins or [],
        "metrics": list(given.plan.metrics),
        "thresholds": list(given.plan.thresholds),
        "net_benefit_at": list(given.plan.net_benefit_at),
        "bootstrap": {"replicates": replicates, "resampled": resampled},
    }
    inputs = {"predictions": sha256_file(file), **({"cohort": people.digest} if people is not None else {})}
    made_by = provenance(specification, inputs, seed)
    partial = begin(out, "evaluation.json", made_by)
    if partial is not None:
        about = {
            "made_by": made_by,
            "models": described_models(list(given.predictions["model"].unique())),
            "adaptation": {"name": ADAPTATION},
            "notes": given.notes,
        }
        write_results(partial, arranged, about, replicates=replicates, seed=seed, resampled=resampled)
        finish(out)
    return out


def described_models(names: Sequence[str]) -> list[dict[str, Any]]:
    """Say of models whose predictions were given what is known of them: their names."""
    return [{"name": name, "path": None, "architecture": None, "sha256": None, "shards": None} for name in names]


def read_given(
    file: Path,
    scores: Scores,
    *,
    labels: str | None = None,
    classes: str | None = None,
    mapping: Mapping[str, str] | None = None,
    task: str | None = None,
    people: Cohort | None = None,
    by: str | None = None,
    bins: list[str] | None = None,
    metrics: str | None = None,
    thresholds: str | None = None,
    net_benefit_at: str | None = None,
    model: str = "model",
) -> Given:
    """Read predictions of one task and check everything that can be checked before anything is computed.

    Args:
        file: CSV, TSV or Parquet.
        scores: which columns hold scores.
        people: the cohort that the images are from.
        model: the model's name where the file has no column ``model``.
        labels, classes, mapping, task, by, bins, metrics, thresholds, net_benefit_at: see `score_file`.

    Raises:
        UserError: in one line with the first rows concerned.
    """
    table = read_predictions(file, mapping)
    name, table = _one_task(file, table, task)
    notes = ["this tool did not make the predictions: how the models were trained and chosen is not known here"]
    subgroups, crossed = split_groups(by) if by is not None else (None, [])
    if people is not None:
        table = with_cohort(str(file), table, people, subgroups)
        notes.append(f"patients and subgroups are those of the cohort '{people.name}', as far as the file has none")
    truths = truth_columns(file, table, labels)
    names, columns, truths = class_columns(file, table, scores, classes, truths, labels or LABELS)
    values, probabilities = read_scores(file, table, columns, scores, multilabel=truths is not None)
    if truths is None:
        truth: dict[str, Any] = {"label": read_labels(file, table, names)}
    else:
        read = read_truths(file, table, truths)
        truth = {"label": None, **{c: read[:, k] for k, c in enumerate(label_columns_of(names))}}
    if not probabilities:
        notes.append(f"'{scores.name}' is not a probability: p_1 holds it as given")
    if "patient_id" not in table.columns:
        notes.append(
            "patients are unknown: each image counts as a patient, and intervals are too narrow where patients have several images"
        )
    groups, order = group_columns(str(file), table, subgroups, crossed, bins)
    predictions = _assemble(file, table, name, model, truth, values, groups, notes)
    rules = _thresholds(thresholds, predictions, probabilities, notes)
    at = _numbers("--net-benefit-at", net_benefit_at) if net_benefit_at is not None else DEFAULT_NET_BENEFIT_AT
    plan = _plan(name, names, order, predictions, probabilities, truths is not None, read_metrics(metrics), rules, at)
    return Given(predictions, plan, notes)


def _one_task(file: Path, table: pd.DataFrame, task: str | None) -> tuple[str, pd.DataFrame]:
    if "task" not in table.columns:
        return task or re.sub(r"[^A-Za-z0-9._-]+", "-", file.stem), table
    there = sorted(table["task"].dropna().unique())
    if task is None and len(there) > 1:
        raise UserError(f"{file}: holds {len(there)} tasks ({', '.join(there[:6])}); choose one with --task")
    name = task or there[0]
    if name not in there:
        raise UserError(f"{file}: no task '{name}'{nearest(name, there)}")
    chosen = table[(table["task"] == name).to_numpy(dtype=bool, na_value=False)]
    return name, chosen.dropna(axis="columns", how="all")


def _assemble(
    file: Path,
    table: pd.DataFrame,
    task: str,
    model: str,
    truth: Mapping[str, Any],
    values: np.ndarray,
    groups: Mapping[str, pd.Series],
    notes: list[str],
) -> pd.DataFrame:
    """Put everything into the columns of ``predictions.parquet``."""
    import pandas as pd

    if "image_id" not in table.columns and {"model", "seed", "adaptation"} & set(table.columns):
        raise UserError(
            f"{file}: several models or seeds need a column image_id that says which rows are the same image "
            "(under another name: --map image_id=COLUMN)"
        )
    ids = table["image_id"] if "image_id" in table.columns else _row_names(table)
    bad = ids.isna().to_numpy()
    if bad.any():
        raise UserError(f"{file}: {int(bad.sum())} rows have no image_id: {rows_concerned(table, bad, lambda i: 'empty')}")
    split = read_splits(file, table)
    predictions = pd.DataFrame(
        {
            "task": task,
            "model": table["model"].fillna(model) if "model" in table.columns else model,
            "adaptation": table["adaptation"].fillna(ADAPTATION) if "adaptation" in table.columns else ADAPTATION,
            "seed": read_seeds(file, table),
            "split": split,
            "image_id": ids,
            "patient_id": table["patient_id"] if "patient_id" in table.columns else None,
            **truth,
            **{column: values[:, k] for k, column in enumerate(columns_of(["" for _ in range(values.shape[1])]))},
        },
        index=table.index,
    )
    refuse_repeats(file, table, predictions)
    if "patient_id" in table.columns:
        known = table["patient_id"].notna().to_numpy()
        if "split" in table.columns:
            once = known & ~predictions.duplicated(["image_id", "split"]).to_numpy()
            refuse_shared_patients(str(file), table.loc[once, "patient_id"], split[once])
        if missing := int((~known).sum()):
            notes.append(f"{missing} rows have no patient and count as patients of their own")
    return predictions.assign(**groups)


def _row_names(table: pd.DataFrame) -> pd.Series:
    import pandas as pd

    numbers = (table.index.to_numpy() + 1).astype("U9")
    return pd.Series(np.char.add("row-", np.char.zfill(numbers, 9)), index=table.index, dtype="string")


def _thresholds(text: str | None, predictions: pd.DataFrame, probabilities: bool, notes: list[str]) -> tuple[str, ...]:
    """Say at which thresholds to estimate: those that need a validation split only where there is one."""
    validated = bool((predictions["split"] == "val").any())
    if text is None:
        if not validated:
            notes.append("no validation rows (split val): thresholds are not fixed on anything; give probabilities with --thresholds 0.5")
            return ()
        return DEFAULT_THRESHOLDS
    rules = []
    for rule in split_names(text):
        try:
            given = given_threshold(rule)
        except UserError as error:
            raise UserError(f"--thresholds {text}: {error}") from None
        if given is None and not validated:
            raise UserError(
                f"--thresholds {text}: '{rule}' is fixed on validation rows and the file has none (split val); give a probability, as 0.5"
            )
        if given is not None and not probabilities:
            raise UserError(f"--thresholds {text}: '{rule}' is a probability and the scores are none; give youden or specificity=X")
        rules.append(rule if given is None else f"{given:g}")
    return tuple(dict.fromkeys(rules))


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        numbers = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        numbers = (-1.0,)
    if not all(0 < number < 1 for number in numbers):
        raise UserError(f"{option} {text}: expected probabilities between 0 and 1, comma between, as 0.05,0.1")
    return numbers


def read_metrics(text: str | None) -> tuple[str, ...]:
    named = split_names(text) if text is not None else list(METRICS)
    for name in named:
        if name not in METRICS:
            raise UserError(f"--metrics {text}: '{name}' is not a metric{nearest(name, METRICS)}")
    return tuple(name for name in METRICS if name in named)


def _plan(
    name: str,
    classes: Sequence[str],
    order: dict[str, list[str]],
    predictions: pd.DataFrame,
    probabilities: bool,
    multilabel: bool,
    metrics: tuple[str, ...],
    thresholds: tuple[str, ...],
    net_benefit_at: tuple[float, ...],
) -> TaskPlan:
    images = predictions.drop_duplicates("image_id")
    counts = {split: describe_split(rows, classes) for split in SPLITS if len(rows := images[images["split"] == split])}
    kind = "multilabel" if multilabel else "classification"
    about = {
        "name": name,
        "title": name,
        "kind": kind,
        "label": "label",
        "classes": list(classes),
        "split": {"column": "split"} if len(counts) > 1 else {"test": "all rows"},
        "subgroups": [attribute for attribute in order if AND not in attribute],
        "intersections": [attribute.split(AND) for attribute in order if AND in attribute],
        "groups": order,
        "metrics": list(metrics),
        "thresholds": list(thresholds),
        "net_benefit_at": list(net_benefit_at),
        "probabilities": probabilities,
        "counts": counts,
        "left_out": {},
    }
    return TaskPlan(name, tuple(classes), order, metrics, about, kind=kind, thresholds=thresholds, net_benefit_at=net_benefit_at)
