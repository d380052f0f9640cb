"""A cohort as one task sees it: labels, splits and groups."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import Cohort, UserError, group_of, group_order
from evaluate.labels import class_indices, finding_labels, label_columns, with_path_columns
from evaluate.predictions import AND, LEADING
from evaluate.results import TaskPlan
from evaluate.split import SPLITS, linked_patients, patient_names, split_images
from evaluate.task import ColumnSplit, Task

if TYPE_CHECKING:
    import pandas as pd

_STRATUM = ":stratum"  # a name no manifest column can have


@dataclass(frozen=True)
class LabelledImages:
    """The images that a task uses.

    Attributes:
        rows: image_id, patient_id (null where patients are unknown), label (class index; null for ``multilabel``, where
            label_0, label_1, ... hold 1, 0 or null), split, and a column of group names for each subgroup attribute; sorted by image_id.
        order: attribute -> groups in the order in which they are shown, as they are in the test split; intersections behind.
        left_out: why images of the cohort are not used: value of the label column, ``no label``, ``no rule fits`` or
            ``no split`` -> images.
        notes: what the reader of a result should know about the division.
    """

    rows: pd.DataFrame
    order: dict[str, list[str]]
    left_out: dict[str, int]
    notes: tuple[str, ...] = ()

    def of(self, split: str) -> pd.DataFrame:
        """Give the rows of one split."""
        return self.rows[self.rows["split"] == split]


def label_images(task: Task, cohort: Cohort, *, seed: int, shards: Path) -> LabelledImages:
    """Label, split and group a cohort's images for one task.

    Args:
        task: the task, with its classes.
        cohort: the cohort.
        seed: of the division of patients.
        shards: shard set whose held-out patients are the test set, where the task says so.

    Raises:
        UserError: where the task doesn't fit the cohort, or patients would be in two splits.
    """
    import pandas as pd

    whole = with_path_columns(task, cohort.table)
    if not cohort.about.get("patients_known", True):
        whole = whole.assign(patient_id=None)
    labels, left_out = _labels(task, whole, f"{cohort.folder}/cohort.parquet")
    unit = linked_patients(patient_names(whole), whole["image_id"], _pairs(cohort))
    kept = labels[_STRATUM].notna().to_numpy()
    table = whole[kept].sort_values("image_id")
    labels, unit = labels.loc[table.index], unit.loc[table.index]
    table = table.assign(**{_STRATUM: labels[_STRATUM].astype("int64")})
    split = split_images(task, table, _STRATUM, seed=seed, shards=shards, unit=unit)
    rows = pd.concat([table[["image_id", "patient_id"]], labels.drop(columns=_STRATUM)], axis=1).assign(split=split)
    for attribute in task.subgroups:
        if attribute in LEADING or attribute in labels.columns:
            raise UserError(
                f"task {task.name}: subgroups: '{attribute}' is a column of the predictions themselves; choose another attribute"
            )
        rows[attribute] = group_of(table, attribute, task.bins)
    unplaced = int(split.isna().sum())
    return LabelledImages(
        rows=rows[split.notna().to_numpy()].reset_index(drop=True),
        order=_order(task, table[(split == "test").to_numpy()]),
        left_out={**left_out, **({"no split": unplaced} if unplaced else {})},
        notes=tuple(_link_notes(task, cohort, table["image_id"], split)),
    )


def _labels(task: Task, table: pd.DataFrame, source: str) -> tuple[pd.DataFrame, dict[str, int]]:
    """Give label columns, and the integers that are divided evenly among the splits, null where an image is left out.

    Of findings that is the rarest of those an image has, so that rare ones reach every split.
    """
    if task.kind == "classification":
        labels, left_out = class_indices(task, table, source)
        return labels.to_frame("label").assign(**{_STRATUM: labels}), left_out
    findings, left_out = finding_labels(task, table, source)
    has = findings.fillna(0).to_numpy(dtype=bool)
    common_first = sorted(range(has.shape[1]), key=lambda k: (-int(has[:, k].sum()), k))
    stratum = (has[:, common_first] * range(1, has.shape[1] + 1)).max(axis=1)
    known = findings.notna().any(axis=1)
    return findings.assign(label=None, **{_STRATUM: stratum}).astype({"label": "Int64", _STRATUM: "Int64"}).where(known), left_out


def _order(task: Task, test: pd.DataFrame) -> dict[str, list[str]]:
    order = {attribute: group_order(test, attribute, task.bins) for attribute in task.subgroups}
    crossed = {
        AND.join(names): [AND.join(groups) for groups in itertools.product(*(order[n] for n in names))] for names in task.intersections
    }
    return {**order, **crossed}


def _pairs(cohort: Cohort) -> pd.DataFrame:
    """Give the pairs of near-identical photographs; none where they were not looked for."""
    import pandas as pd

    there = (cohort.folder / "duplicates.parquet").exists()
    return cohort.duplicates() if there else pd.DataFrame({"image_a": [], "image_b": []}, dtype=object)


def _link_notes(task: Task, cohort: Cohort, image_id: pd.Series, split: pd.Series) -> list[str]:
    """Say what can't be said of the division: photographs not compared, or alike on both sides of a given one."""
    import pandas as pd

    if not (cohort.folder / "duplicates.parquet").exists():
        return [f"task {task.name}: near-identical photographs were not looked for; they may stand on both sides of the split"]
    if not isinstance(task.split, ColumnSplit):
        return []
    side = pd.Series(split.to_numpy(dtype=object), index=image_id.to_numpy(dtype=object))
    pairs = _pairs(cohort)
    first, second = (side.reindex(pairs[c].to_numpy(dtype=object)).to_numpy(dtype=object) for c in ("image_a", "image_b"))
    divided = int((pd.notna(first) & pd.notna(second) & (first != second)).sum())
    if not divided:
        return []
    return [f"task {task.name}: the given split divides {divided} pairs of near-identical photographs: its numbers may be too good"]


def plan_task(task: Task, cohort: Cohort, labelled: LabelledImages) -> TaskPlan:
    """Say what is to be estimated for a task, and describe it for ``evaluation.json``.

    Raises:
        UserError: where a split holds a single class, or no finding both ways.
    """
    counts = {name: describe_split(labelled.of(name), list(task.classes)) for name in SPLITS}
    for name, about in counts.items():
        _refuse_one_class(task, name, about)
    about = {
        "name": task.name,
        "title": task.title or task.name,
        "kind": task.kind,
        "pattern": task.pattern,
        "label": task.label,
        # A list of pairs would lose nothing either, but JSON objects are sorted on the way to the file: order is kept apart.
        "classes": list(task.classes),
        "values": task.classes,
        "split": task.split.model_dump(),
        "subgroups": task.subgroups,
        "intersections": task.intersections,
        "bins": {name: task.bins[name] for name in task.subgroups if name in task.bins},
        "groups": labelled.order,
        "metrics": list(task.metrics),
        "thresholds": list(task.thresholds),
        "net_benefit_at": list(task.net_benefit_at),
        "cohort": {"name": cohort.name, "digest": cohort.digest},
        "counts": counts,
        "left_out": labelled.left_out,
    }
    return TaskPlan(
        task.name,
        tuple(task.classes),
        labelled.order,
        tuple(task.metrics),
        about,
        kind=task.kind,
        thresholds=tuple(task.thresholds),
        net_benefit_at=tuple(task.net_benefit_at),
    )


def _refuse_one_class(task: Task, split: str, counts: dict[str, Any]) -> None:
    where = f"task {task.name}: all {counts['images']} images of the split '{split}'"
    if task.kind == "multilabel":
        if not any(0 < counts["classes"][name] < counts["known"][name] for name in task.classes):
            raise UserError(f"{where} have each label alike: nothing to tell apart")
        return
    only = [name for name, images in counts["classes"].items() if images]
    if len(only) < 2:
        raise UserError(f"{where} are of class '{only[0]}': nothing to tell apart")


def describe_split(rows: pd.DataFrame, classes: Sequence[str]) -> dict[str, Any]:
    """Count images, patients and images of each class.

    Args:
        rows: image_id, patient_id and label (class index) of the images; or label_0, label_1, ... (1, 0, null).
        classes: class names in order.

    Returns:
        images, patients, classes (name -> images); of several labels also known (name -> images of which it is known).
    """
    about: dict[str, Any] = {"images": len(rows), "patients": int(patient_names(rows).nunique())}
    columns = label_columns(len(classes))
    if columns[0] in rows.columns:
        about["classes"] = {name: int((rows[c] == 1).sum()) for name, c in zip(classes, columns, strict=True)}
        about["known"] = {name: int(rows[c].notna().sum()) for name, c in zip(classes, columns, strict=True)}
        return about
    counts = rows["label"].value_counts()
    return {**about, "classes": {name: int(counts.get(index, 0)) for index, name in enumerate(classes)}}
