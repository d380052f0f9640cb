"""Average precision and AUROC of many weightings of the same ranking.

A bootstrap replicate only changes how often each patient counts, never the order of the scores. So the images are
sorted once, and a replicate costs one pass of cumulative sums, ties included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluate.influence import Influence, count_patients, inflation

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


class Weighted(NamedTuple):
    """Metrics of several weightings of one ranking.

    Attributes:
        auroc: (replicates,); NaN where a replicate holds no positives or no negatives.
        average_precision: (replicates,); NaN without positives.
        adjusted: (replicates,) average precision at a given prevalence; NaN as the AUROC, or where no prevalence is given.
    """

    auroc: Floats
    average_precision: Floats
    adjusted: Floats


def weighted_metrics(ranking: Ranking, weights: NDArray[np.int32], prevalence: float | None = None) -> Weighted:
    """Compute AUROC and average precision under each of several weightings.

    Average precision is the step-wise sum over thresholds of (recall gained) x precision, as scikit-learn's, and
    AUROC counts ties one half: both equal what the repeated rows would give. At a prevalence pi, precision becomes
    pi TPR / (pi TPR + (1 - pi) FPR): what it would be if positives were that common and ranked as they are here.

    Args:
        ranking: from `rank`.
        weights: (replicates, units) int32, how often each unit counts.
        prevalence: at which average precision is adjusted; None: it isn't.
    """
    weight = np.take(weights, ranking.units, axis=1)
    seen = np.cumsum(weight, axis=1, dtype=np.int32)
    mine = weight[:, ranking.positives]
    found = np.cumsum(mine, axis=1, dtype=np.int32)
    nothing = np.full(len(weights), np.nan)
    if ranking.positives.size == 0:
        return Weighted(nothing, nothing, nothing)
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
        auroc = np.where(negatives > 0, 1.0 - lost / (positives * negatives), np.nan)
        precision = found_last / np.maximum(seen_last, 1)
        average = np.einsum("bm,bm->b", mine, precision, dtype=np.float64) / positives
        if prevalence is None:
            return Weighted(auroc, average, nothing)
        rightly = found_last * (prevalence / positives)[:, None]
        wrongly = (seen_last - found_last) * ((1 - prevalence) / negatives)[:, None]
        precision = np.where(found_last > 0, rightly / (rightly + wrongly), 0.0)
        adjusted = np.einsum("bm,bm->b", mine, precision, dtype=np.float64) / positives
    return Weighted(auroc, average, np.where(negatives > 0, adjusted, np.nan))


def average_precision(scores: Floats, positive: NDArray[np.bool_], prevalence: float | None = None) -> float:
    """Compute the average precision of one ranking, at another prevalence if one is given; NaN without positives.

    Example:
        >>> s, y = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
        >>> round(average_precision(s, y), 4), round(average_precision(s, y, prevalence=0.1), 4)
        (0.8333, 0.5909)
    """
    if len(scores) == 0:
        return float("nan")
    found = weighted_metrics(rank(scores, positive), np.ones((1, len(scores)), dtype=np.int32), prevalence)
    return float((found.average_precision if prevalence is None else found.adjusted)[0])


def precision_influence(
    scores: Floats, positive: NDArray[np.bool_], patients: NDArray[np.int64], prevalence: float | None = None
) -> Influence:
    """Estimate average precision and each image's influence on it: the derivative with respect to the image's weight.

    With F and S the positives and the images at or above a positive's score, average precision is the mean over positives
    of F / S; an image adds its own F / S less the mean and, for every positive that it is ranked with or above,
    (truth - F / S) / S. O(n log n), ties included. At a prevalence the share of positives and of negatives above are what
    is differentiated, and positives and negatives each add up to 0.

    Args:
        scores: (n,) finite, higher is more likely positive.
        positive: (n,) the truth.
        patients: (n,) patient codes 0, 1, ...
        prevalence: at which it is adjusted; None: it isn't.

    Returns:
        The value and (n,) terms; NaN where there are no positives or no negatives.

    References:
        Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, ch. 6 (infinitesimal jackknife).
    """
    m = int(np.count_nonzero(positive))
    q = len(positive) - m
    sides = (count_patients(positive, patients), count_patients(~positive, patients))
    groups = min(sides)
    if m == 0 or q == 0:
        return Influence(math.nan, np.full(len(positive), math.nan), len(positive), groups)
    order = np.argsort(-scores, kind="stable")
    ranked, truth = scores[order], positive[order].astype(np.float64)
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    sizes = np.diff(np.append(starts, len(ranked)))
    mine = np.add.reduceat(truth, starts)  # positives of each tie
    found, seen = np.cumsum(mine), np.cumsum(sizes).astype(np.float64)
    if prevalence is None:
        precision = found / seen
        gain, loss = mine / seen, mine * precision / seen
        value = float(mine @ precision) / m
        above_gain, above_loss = _from_below(gain), _from_below(loss)
        up = np.repeat(precision - value + above_gain - above_loss, sizes)
        down = np.repeat(-above_loss, sizes)
    else:
        right, wrong = prevalence * found / m, (1 - prevalence) * (seen - found) / q
        total = right + wrong
        precision = right / total
        value = float(mine @ precision) / m
        gain, loss = mine * wrong / total**2, mine * right / total**2
        up = np.repeat(precision - value + prevalence * _from_below(gain) / m - float(gain @ right) / m, sizes)
        down = np.repeat((float(loss @ wrong) - (1 - prevalence) * _from_below(loss)) / q, sizes)
    factors = [inflation(groups)] * 2 if prevalence is None else [inflation(side) for side in sides]
    terms = np.empty(len(scores))
    terms[order] = np.where(truth > 0, factors[0] * up, factors[1] * down) / m
    return Influence(value, terms, len(positive), groups)


def _from_below(values: Floats) -> Floats:
    """Add up from the lowest rank upwards."""
    return np.cumsum(values[::-1])[::-1]
