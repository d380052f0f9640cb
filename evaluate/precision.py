"""Average precision and AUROC of many weightings of the same ranking.

A bootstrap replicate only changes how often each patient counts, never the order of the scores. So the images are
sorted once, and a replicate costs one pass of cumulative sums, ties included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Ranking:
    """Images sorted by one score, highest first, and where the positives and the ties are.

    Attributes:
        units: (n,) which unit (patient) each image of the sorted order belongs to.
        positives: (m,) positions of the positives in the sorted order, rising.
        first, last: (m,) positions of the first and last image with the same score as each positive.
        first_positive, last_positive: (m,) the same, counted among the positives alone.
        tied: whether any positive shares its score with another image.
    """

    units: Indices
    positives: Indices
    first: Indices
    last: Indices
    first_positive: Indices
    last_positive: Indices
    tied: bool


def rank(scores: Floats, positive: NDArray[np.bool_], units: NDArray[np.int64] | None = None) -> Ranking:
    """Sort images once for any number of weightings.

    Args:
        scores: (n,) finite, higher is more likely positive.
        positive: (n,) the truth.
        units: (n,) which weight each image takes; None: the i-th image takes the i-th.
    """
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    ranked, truth = scores[order], positive[order]
    opens = np.concatenate(([True], ranked[1:] != ranked[:-1]))
    starts = np.flatnonzero(opens)
    ends = np.append(starts[1:], len(ranked)) - 1
    at = np.flatnonzero(truth)
    tie = (np.cumsum(opens) - 1)[at]
    seen = np.cumsum(truth)
    first, last = starts[tie], ends[tie]
    return Ranking(
        units=order if units is None else units[order].astype(np.intp),
        positives=at,
        first=first,
        last=last,
        first_positive=seen[first] - truth[first],
        last_positive=seen[last] - 1,
        tied=bool((first != last).any()),
    )


def weighted_metrics(ranking: Ranking, weights: NDArray[np.int32]) -> tuple[Floats, Floats]:
    """Compute AUROC and average precision under each of several weightings.

    Average precision is the step-wise sum over thresholds of (recall gained) x precision, as scikit-learn's, and
    AUROC counts ties one half: both equal what the repeated rows would give.

    Args:
        ranking: from `rank`.
        weights: (replicates, units) int32, how often each unit counts.

    Returns:
        (replicates,) AUROC and (replicates,) average precision; NaN where a replicate holds no positives or no
        negatives (average precision: no positives).
    """
    weight = np.take(weights, ranking.units, axis=1)
    seen = np.cumsum(weight, axis=1, dtype=np.int32)
    mine = weight[:, ranking.positives]
    found = np.cumsum(mine, axis=1, dtype=np.int32)
    if ranking.positives.size == 0:
        nothing = np.full(len(weights), np.nan)
        return nothing, nothing.copy()
    if ranking.tied:
        seen_last, found_last = seen[:, ranking.last], found[:, ranking.last_positive]
        above = (seen[:, ranking.first] - weight[:, ranking.first]) - (found[:, ranking.first_positive] - mine[:, ranking.first_positive])
        beaten = 0.5 * (above + (seen_last - found_last))
    else:
        seen_last, found_last = seen[:, ranking.positives], found
        beaten = (seen_last - found).astype(np.float64)
    positives = found[:, -1].astype(np.float64)
    negatives = seen[:, -1] - positives
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = np.einsum("bm,bm->b", mine, beaten, dtype=np.float64)
        auroc = 1.0 - lost / (positives * negatives)
        precision = found_last / np.maximum(seen_last, 1)
        average = np.einsum("bm,bm->b", mine, precision, dtype=np.float64) / positives
    return np.where(negatives > 0, auroc, np.nan), average


def average_precision(scores: Floats, positive: NDArray[np.bool_]) -> float:
    """Compute the average precision of one ranking; NaN without positives.

    Example:
        >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])), 4)
        0.8333
    """
    if len(scores) == 0:
        return float("nan")
    return float(weighted_metrics(rank(scores, positive), np.ones((1, len(scores)), dtype=np.int32))[1][0])
