"""Predictions: what several models said about the same images, as a table and as the arrays that statistics need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curate import UserError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
LEADING = ("task", "model", "adaptation", "seed", "split", "image_id", "patient_id", "label")


@dataclass(frozen=True)
class ScoredImages:
    """The test images of one task, scored by several models with one adaptation.

    Attributes:
        task: its name.
        adaptation: how the models were adapted, as ``probe-cached``.
        classes: names, in order; labels count from 0.
        labels: (n,) int64 class indices.
        patients: (n,) int64 patient codes 0, 1, ...
        scores: model -> (seeds, n, classes) float64, higher is more likely that class.
        groups: attribute -> (n,) group names.
        order: attribute -> its groups in the order in which they are shown, empty ones included.
        heads: whether a model's seeds are heads trained on it (else they are taken as given).
    """

    task: str
    adaptation: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    patients: NDArray[np.int64]
    scores: Mapping[str, Floats]
    groups: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: bool = True

    @property
    def judged(self) -> tuple[int, ...]:
        """Classes that are judged one against the rest: all of them, or the second of two, the positive one."""
        return (1,) if len(self.classes) == 2 else tuple(range(len(self.classes)))


def columns_of(classes: Sequence[str]) -> list[str]:
    """Name the score columns of a task: ``p_0``, ``p_1``, ..."""
    return [f"p_{k}" for k in range(len(classes))]


def scored_images(
    predictions: pd.DataFrame, classes: Sequence[str], order: Mapping[str, Sequence[str]], *, heads: bool = True
) -> list[ScoredImages]:
    """Arrange the test rows of one task as arrays, one set an adaptation.

    Args:
        predictions: rows of one task in the columns of ``predictions.parquet``; rows of other splits than ``test``
            are left out. A null patient makes an image a patient of its own.
        classes: the task's class names.
        order: attribute -> groups in order; these columns are the subgroups.
        heads: whether the seeds are heads trained on the models.

    Returns:
        One `ScoredImages` for each adaptation, by name; images by ``image_id``, models by first appearance, seeds rising.

    Raises:
        UserError: where models or seeds did not score the same images, or an image has two rows, two labels or two patients.
    """
    test = predictions[predictions["split"] == "test"]
    return [_arrange(rows, list(classes), order, heads) for _, rows in test.groupby("adaptation", sort=True)]


def _arrange(rows: pd.DataFrame, classes: list[str], order: Mapping[str, Sequence[str]], heads: bool) -> ScoredImages:
    task = str(rows["task"].iloc[0])
    rows = rows.sort_values(["image_id", "seed"], kind="stable")
    twice = rows.duplicated(["model", "seed", "image_id"])
    if twice.any():
        first = rows[twice].iloc[0]
        raise UserError(f"task {task}: {int(twice.sum())} rows repeat an image for one model and seed, first: image {first['image_id']}")
    images = rows.drop_duplicates("image_id")
    _refuse_changing(rows, [c for c in ("label", "patient_id", *order) if c in rows.columns])
    scores: dict[str, Floats] = {}
    for model in rows["model"].unique():
        mine = rows[rows["model"] == model]
        by_seed = []
        for seed in sorted(mine["seed"].unique()):
            block = mine[mine["seed"] == seed]
            if len(block) != len(images):
                missing = images.loc[~images["image_id"].isin(block["image_id"]), "image_id"]
                raise UserError(
                    f"task {task}: model {model}, seed {seed} has no prediction for {len(missing)} images that others have, "
                    f"first: {missing.iloc[0]}; score the same images with every model and seed"
                )
            by_seed.append(block[columns_of(classes)].to_numpy(dtype=np.float64))
        scores[str(model)] = np.stack(by_seed)
    return ScoredImages(
        task=task,
        adaptation=str(rows["adaptation"].iloc[0]),
        classes=tuple(classes),
        labels=images["label"].to_numpy(dtype=np.int64),
        patients=patient_codes(images),
        scores=scores,
        groups={a: images[a].to_numpy(dtype=object) for a in order},
        order=dict(order),
        heads=heads,
    )


def patient_codes(images: pd.DataFrame) -> NDArray[np.int64]:
    """Code patients 0, 1, ... by first appearance; an image without a patient is a patient of its own.

    Args:
        images: with columns ``image_id`` and ``patient_id``.
    """
    import pandas as pd

    known = images["patient_id"].notna()
    identity = ("patient " + images["patient_id"].astype("string")).where(known, "image " + images["image_id"].astype("string"))
    return pd.factorize(identity)[0].astype(np.int64)


def _refuse_changing(rows: pd.DataFrame, columns: Sequence[str]) -> None:
    """Refuse an image whose label, patient or group differs from row to row."""
    import pandas as pd

    image, _ = pd.factorize(rows["image_id"])
    _, first = np.unique(image, return_index=True)
    for column in columns:
        value = pd.factorize(rows[column], use_na_sentinel=False)[0]
        changed = np.flatnonzero(value != value[first[image]])
        if len(changed):
            here, there = rows.iloc[changed[0]], rows.iloc[first[image[changed[0]]]]
            where = f"task {here['task']}: image {here['image_id']}"
            raise UserError(f"{where} has {column} '{there[column]}' in one row and '{here[column]}' in another")
