"""Predictions: what several models said about the same images, as a table and as the arrays that statistics need."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from curate import UserError

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
LEADING = ("task", "model", "adaptation", "seed", "split", "image_id", "patient_id", "label")
AND = " x "  # joins the names of an intersection's attributes, and of its groups


@dataclass(frozen=True)
class ScoredImages:
    """The test images of one task, scored by several models with one adaptation.

    Attributes:
        task: its name.
        adaptation: how the models were adapted, as ``probe-cached``.
        classes: names, in order; labels count from 0. Of a multi-label task, the labels' names.
        labels: (n,) int64 class indices; -1 in a multi-label task.
        truth: (n, classes) bool, whether an image is of a class (has a label).
        known: (n, classes) bool, whether that is known: always, but for the missing values of a multi-label task.
        patients: (n,) int64 patient codes 0, 1, ...
        scores: model -> (seeds, n, classes) float64, higher is more likely that class.
        groups: attribute -> (n,) group names.
        order: attribute -> its groups in the order in which they are shown, empty ones included.
        heads: whether a model's seeds are heads trained on it (else they are taken as given).
        multilabel: whether the classes are labels of which an image may have several, or none.
        probabilities: whether scores are probabilities; if not, they only rank.
        validation: the same models and seeds on the validation images, None where there are none.
    """

    task: str
    adaptation: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    truth: Booleans
    known: Booleans
    patients: NDArray[np.int64]
    scores: Mapping[str, Floats]
    groups: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    heads: bool = True
    multilabel: bool = False
    probabilities: bool = True
    validation: ScoredImages | None = None

    @property
    def judged(self) -> tuple[int, ...]:
        """Classes that are judged one against the rest: all, or the second of two, the positive one; every label of several."""
        return (1,) if len(self.classes) == 2 and not self.multilabel else tuple(range(len(self.classes)))


def columns_of(classes: Sequence[str]) -> list[str]:
    """Name the score columns of a task: ``p_0``, ``p_1``, ..."""
    return [f"p_{k}" for k in range(len(classes))]


def label_columns_of(classes: Sequence[str]) -> list[str]:
    """Name the columns that hold the truth of a multi-label task: ``label_0``, ``label_1``, ..."""
    return [f"label_{k}" for k in range(len(classes))]


def scored_images(
    predictions: pd.DataFrame,
    classes: Sequence[str],
    order: Mapping[str, Sequence[str]],
    *,
    heads: bool = True,
    multilabel: bool = False,
) -> list[ScoredImages]:
    """Arrange the test rows of one task as arrays, one set an adaptation, each with its validation rows.

    Args:
        predictions: rows of one task in the columns of ``predictions.parquet``; training rows are left out. A null patient
            makes an image a patient of its own.
        classes: the task's class names.
        order: attribute -> groups in order; these columns are the subgroups. An intersection, as ``age x sex``, is made
            from the columns of its attributes.
        heads: whether the seeds are heads trained on the models.
        multilabel: whether ``label_0``, ``label_1``, ... hold the truth, and not ``label``.

    Returns:
        One `ScoredImages` for each adaptation, by name; images by ``image_id``, models by first appearance, seeds rising.

    Raises:
        UserError: where models or seeds did not score the same images, or an image has two rows, two labels or two patients.
    """
    arranged = []
    for _, rows in predictions[(predictions["split"] == "test").to_numpy(dtype=bool)].groupby("adaptation", sort=True):
        test = _arrange(rows, list(classes), order, heads, multilabel)
        mine = predictions["adaptation"].eq(test.adaptation) & predictions["split"].eq("val")
        validation = predictions[mine.to_numpy(dtype=bool, na_value=False)]
        if len(validation):
            test = replace(test, validation=_arrange(validation, list(classes), {}, heads, multilabel))
            _refuse_other_models(test)
        arranged.append(test)
    return arranged


def _refuse_other_models(test: ScoredImages) -> None:
    """Refuse a validation split that not every model and seed of the test split has scored."""
    assert test.validation is not None
    for model, scores in test.scores.items():
        there = len(test.validation.scores.get(model, ()))
        if there != len(scores):
            raise UserError(
                f"task {test.task}: model {model} has {len(scores)} seeds on the test split and {there} on the validation split; "
                "thresholds are fixed there for each seed: score both splits with every model and seed"
            )


def _arrange(rows: pd.DataFrame, classes: list[str], order: Mapping[str, Sequence[str]], heads: bool, multilabel: bool) -> ScoredImages:
    import pandas as pd

    task = str(rows["task"].iloc[0])
    image, ids = pd.factorize(rows["image_id"], sort=True)
    model, models = pd.factorize(rows["model"])
    seed, seeds = pd.factorize(rows["seed"])
    cell, pairs = pd.factorize(model * len(seeds) + seed)
    cells = [(str(models[m]), int(seeds[s])) for m, s in (divmod(int(pair), len(seeds)) for pair in pairs)]
    place = cell * len(ids) + image
    rows_there = np.bincount(place, minlength=len(cells) * len(ids)).reshape(len(cells), len(ids))
    if (rows_there > 1).any():
        again = ids[int(np.flatnonzero((rows_there > 1).any(axis=0))[0])]
        count = len(rows) - int((rows_there > 0).sum())
        raise UserError(f"task {task}: {count} rows repeat an image for one model and seed, first: image {again}")
    for (name, number), there in zip(cells, rows_there, strict=True):
        if not there.all():
            missing = ids[there == 0]
            raise UserError(
                f"task {task}: model {name}, seed {number} has no prediction for {len(missing)} images that others have, "
                f"first: {missing[0]}; score the same images with every model and seed"
            )
    attributes = list(dict.fromkeys(part for attribute in order for part in attribute_columns(attribute, rows.columns)))
    truth_columns = label_columns_of(classes) if multilabel else ["label"]
    if len(cells) > 1:
        _refuse_changing(rows, [c for c in (*truth_columns, "patient_id", *attributes) if c in rows.columns], image)
    scores = np.empty((len(cells), len(ids), len(classes)))
    scores[cell, image] = rows[columns_of(classes)].to_numpy(dtype=np.float64)
    _, first = np.unique(image, return_index=True)
    images = rows.iloc[first]
    labels, truth, known = _truth(images, classes, multilabel)
    by_seed: dict[str, list[tuple[int, int]]] = {}
    for at, (name, number) in enumerate(cells):
        by_seed.setdefault(name, []).append((number, at))
    return ScoredImages(
        task=task,
        adaptation=str(rows["adaptation"].iloc[0]),
        classes=tuple(classes),
        labels=labels,
        truth=truth,
        known=known,
        patients=patient_codes(images),
        scores={name: scores[[at for _, at in sorted(pairs)]] for name, pairs in by_seed.items()},
        groups={a: _group_names(images, a) for a in order},
        order=dict(order),
        heads=heads,
        multilabel=multilabel,
        probabilities=bool(np.isfinite(scores).all()),
    )


def _truth(images: pd.DataFrame, classes: list[str], multilabel: bool) -> tuple[NDArray[np.int64], Booleans, Booleans]:
    if multilabel:
        values = images[label_columns_of(classes)].to_numpy(dtype=np.float64, na_value=np.nan)
        return np.full(len(images), -1, dtype=np.int64), values == 1, ~np.isnan(values)
    labels = images["label"].to_numpy(dtype=np.int64)
    truth = labels[:, None] == np.arange(len(classes))
    return labels, truth, np.ones_like(truth)


def attribute_columns(attribute: str, columns: Container[str]) -> list[str]:
    """Name the columns that an attribute is made from: itself, or those of an intersection."""
    return [attribute] if attribute in columns else attribute.split(AND)


def _group_names(images: pd.DataFrame, attribute: str) -> NDArray[np.object_]:
    first, *others = [images[part].astype(object) for part in attribute_columns(attribute, images.columns)]
    for other in others:
        first = first + AND + other
    return first.to_numpy(dtype=object)


def patient_codes(images: pd.DataFrame) -> NDArray[np.int64]:
    """Code patients 0, 1, ... by first appearance; an image without a patient is a patient of its own.

    Args:
        images: with columns ``image_id`` and ``patient_id``.
    """
    import pandas as pd

    known = images["patient_id"].notna()
    identity = ("patient " + images["patient_id"].astype("string")).where(known, "image " + images["image_id"].astype("string"))
    return pd.factorize(identity)[0].astype(np.int64)


def _refuse_changing(rows: pd.DataFrame, columns: Sequence[str], image: NDArray[np.intp]) -> None:
    """Refuse an image whose label, patient or group differs from row to row."""
    import pandas as pd

    _, first = np.unique(image, return_index=True)
    for column in columns:
        value = pd.factorize(rows[column], use_na_sentinel=False)[0]
        changed = np.flatnonzero(value != value[first[image]])
        if len(changed):
            here, there = rows.iloc[changed[0]], rows.iloc[first[image[changed[0]]]]
            where = f"task {here['task']}: image {here['image_id']}"
            raise UserError(f"{where} has {column} '{there[column]}' in one row and '{here[column]}' in another")
