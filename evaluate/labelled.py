"""A cohort as one task sees it: labels, splits and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import Cohort, UserError, group_of, group_order
from evaluate.results import TaskPlan
from evaluate.split import SPLITS, patient_names, split_images
from evaluate.task import Task, class_indices

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LabelledImages:
    """The images that a task uses.

    Attributes:
        rows: image_id, patient_id (null where patients are unknown), label (class index), split, and a column of group
            names for each subgroup attribute; sorted by image_id.
        order: attribute -> groups in the order in which they are shown, as they are in the test split.
        left_out: why images of the cohort are not used: value of the label column, ``no label`` or ``no split`` -> images.
    """

    rows: pd.DataFrame
    order: dict[str, list[str]]
    left_out: dict[str, int]

    def of(self, split: str) -> pd.DataFrame:
        """Give the rows of one split."""
        return self.rows[self.rows["split"] == split]


def label_images(task: Task, cohort: Cohort, *, seed: int, shards: Path) -> LabelledImages:
    """Label, split and group a cohort's images for one task.

    Args:
        task: the task.
        cohort: the cohort.
        seed: of the division of patients.
        shards: shard set whose held-out patients are the test set, where the task says so.

    Raises:
        UserError: where the task doesn't fit the cohort, or patients would be in two splits.
    """
    labels, left_out = class_indices(task, cohort.table, f"{cohort.folder}/cohort.parquet")
    table = cohort.table[labels.notna().to_numpy()].sort_values("image_id")
    if not cohort.about.get("patients_known", True):
        table = table.assign(patient_id=None)
    table = table.assign(**{":label": labels[labels.notna()].astype("int64")})  # a name no manifest column can have
    split = split_images(task, table, ":label", seed=seed, shards=shards)
    test = table[(split == "test").to_numpy()]
    rows = table[["image_id", "patient_id"]].assign(label=table[":label"], split=split)
    for attribute in task.subgroups:
        if attribute in ("task", "model", "adaptation", "seed", "split", "label", "image_id", "patient_id"):
            raise UserError(
                f"task {task.name}: subgroups: '{attribute}' is a column of the predictions themselves; choose another attribute"
            )
        rows[attribute] = group_of(table, attribute, task.bins)
    unplaced = int(split.isna().sum())
    return LabelledImages(
        rows=rows[split.notna().to_numpy()].reset_index(drop=True),
        order={attribute: group_order(test, attribute, task.bins) for attribute in task.subgroups},
        left_out={**left_out, **({"no split": unplaced} if unplaced else {})},
    )


def plan_task(task: Task, cohort: Cohort, labelled: LabelledImages) -> TaskPlan:
    """Say what is to be estimated for a task, and describe it for ``evaluation.json``.

    Raises:
        UserError: where a split holds a single class.
    """
    counts = {name: describe_split(labelled.of(name), list(task.classes)) for name in SPLITS}
    for name, about in counts.items():
        only = [c for c, n in about["classes"].items() if n]
        if len(only) < 2:
            raise UserError(
                f"task {task.name}: all {about['images']} images of the split '{name}' are of class '{only[0]}': nothing to tell apart"
            )
    about = {
        "name": task.name,
        "title": task.title or task.name,
        "label": task.label,
        # A list of pairs would lose nothing either, but JSON objects are sorted on the way to the file: order is kept apart.
        "classes": list(task.classes),
        "values": task.classes,
        "split": task.split.model_dump(),
        "subgroups": task.subgroups,
        "bins": {name: task.bins[name] for name in task.subgroups if name in task.bins},
        "groups": labelled.order,
        "metrics": list(task.metrics),
        "cohort": {"name": cohort.name, "digest": cohort.digest},
        "counts": counts,
        "left_out": labelled.left_out,
    }
    return TaskPlan(task.name, tuple(task.classes), labelled.order, tuple(task.metrics), about)


def describe_split(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Count images, patients and images of each class.

    Args:
        rows: image_id, patient_id and label (class index) of the images.
        classes: class names in order.
    """
    counts = rows["label"].value_counts()
    return {
        "images": len(rows),
        "patients": int(patient_names(rows).nunique()),
        "classes": {name: int(counts.get(index, 0)) for index, name in enumerate(classes)},
    }
