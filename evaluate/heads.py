"""What all adaptations share: the truth that they learn and are chosen by, and what comes out of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evaluate.influence import auroc
from evaluate.labels import label_columns

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """What is known of images.

    Attributes:
        values: (n, classes) bool.
        known: (n, classes) bool, all true where classes exclude each other.
        exclusive: whether an image has exactly one class (softmax), or any number of findings (a sigmoid each).
    """

    values: NDArray[np.bool_]
    known: NDArray[np.bool_]
    exclusive: bool

    @staticmethod
    def of_classes(labels: NDArray[np.int64], classes: int) -> Truth:
        """Make the truth of (n,) class indices."""
        values = np.asarray(labels)[:, None] == np.arange(classes)
        return Truth(values, np.ones_like(values), True)

    @property
    def classes(self) -> int:
        """How many classes or findings there are."""
        return self.values.shape[1]

    @property
    def judged(self) -> tuple[int, ...]:
        """Classes judged one against the rest: all, or the second of two that exclude each other."""
        return (1,) if self.exclusive and self.classes == 2 else tuple(range(self.classes))

    def __len__(self) -> int:
        return len(self.values)

    def of(self, rows: NDArray[Any]) -> Truth:
        """Give the truth of some rows (a mask or places)."""
        return Truth(self.values[rows], self.known[rows], self.exclusive)

    def probabilities(self, logits: NDArray[np.float32]) -> Floats:
        """Turn (..., classes) float32 logits into float64 probabilities: softmax, or a sigmoid each."""
        from scipy.special import expit, softmax

        wide = np.asarray(logits, dtype=np.float64)
        return softmax(wide, axis=-1) if self.exclusive else expit(wide)


def read_truth(rows: pd.DataFrame, classes: int) -> Truth:
    """Read the truth from the columns ``label`` (class index), or ``label_0``, ``label_1``, ... (0, 1, null).

    Args:
        rows: (n,) with these columns.
        classes: how many classes or findings the task has.
    """
    columns = label_columns(classes)
    if columns[0] not in rows.columns:
        return Truth.of_classes(rows["label"].to_numpy(dtype=np.int64), classes)
    known = rows[columns].notna()
    return Truth(np.array(rows[columns].fillna(0) == 1, dtype=bool), np.array(known, dtype=bool), False)


@dataclass(frozen=True)
class Fitted:
    """What an adaptation gave.

    Attributes:
        probabilities: (seeds, n, classes) float64.
        chosen: for each seed what was chosen on the validation split, and its macro AUROC there (``validation_auroc``).
    """

    probabilities: Floats
    chosen: list[dict[str, Any]]


def validation_auroc(scores: NDArray[np.floating[Any]], truth: Truth, *, logits: bool = True) -> float:
    """Compute the macro AUROC by which an adaptation is chosen; minus infinity for one that diverged.

    Args:
        scores: (n, classes).
        truth: of the same images.
        logits: whether scores of classes that exclude each other are logits, to be normalised, or probabilities.

    Raises:
        ValueError: where no class has images in it and outside.
    """
    if not np.isfinite(scores).all():
        return -math.inf
    wide = scores.astype(np.float64)
    if logits and truth.exclusive:
        wide = wide - np.logaddexp.reduce(wide, axis=1, keepdims=True)
    values = [auroc(wide[known, k], truth.values[known, k]).value for k in truth.judged if (known := truth.known[:, k]).any()]
    values = [value for value in values if not math.isnan(value)]
    if not values:
        raise ValueError("the validation images are all of one class")
    return float(np.mean(values))
