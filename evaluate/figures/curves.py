"""The numbers behind curves: ROC, precision-recall, reliability and net benefit, averaged over seeds.

Curves of several seeds are averaged vertically: at each false-positive rate (recall, threshold) the mean of the seeds' values
(Fawcett 2006, Pattern Recognit Lett 27:861). Scores of different seeds are never put into one ranking: each seed has a scale of its own.
So the area under the averaged ROC curve is the mean of the seeds' AUROC, and the area under the averaged precision-recall steps the mean
of their average precision: what the estimates say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.calibration import BINS
from evaluate.proportions import ratio, treat_all, wilson_interval

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
POINTS = 500  # steps of a curve's axis; a sample with fewer has its own steps
THRESHOLDS = np.round(np.arange(1, 100) / 100, 2)  # of net benefit


@dataclass(frozen=True)
class Curve:
    """A curve as it is drawn.

    Attributes:
        x, y: (points,) in drawing order.
        positives, images: behind it.
    """

    x: Floats
    y: Floats
    positives: int
    images: int


def cumulated(scores: Floats, positive: Booleans) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count false and true positives at every threshold that occurs, from the strictest; both begin with 0.

    Args:
        scores: (n,) higher is more likely positive.
        positive: (n,) the truth.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    true = np.cumsum(positive[order])[last].astype(np.int64)
    return np.append(0, last + 1 - true), np.append(0, true)


def roc(scores: Floats, positive: Booleans, points: int = POINTS) -> Curve:
    """Average the ROC curves of several seeds.

    Args:
        scores: (seeds, n).
        positive: (n,) with both values.
        points: at most, of the grid of false-positive rates; at each stand the lower and the upper end of the curve's step.

    Returns:
        x: false-positive rate; y: sensitivity.
    """
    m, q = int(positive.sum()), int((~positive).sum())
    steps = min(q, points)
    at = np.unique(np.round(np.linspace(0, q, steps + 1)))
    ends = np.mean([_ends(*cumulated(row, positive), at) for row in scores], axis=0) / m
    return Curve(np.repeat(at / q, 2), ends.T.ravel(), m, m + q)


def _ends(false: NDArray[np.int64], true: NDArray[np.int64], at: Floats) -> Floats:
    """Give the lower and the upper end of the curve's vertical step at some counts of false positives: (2, len(at))."""
    x, first = np.unique(false, return_index=True)
    last = np.append(first[1:], len(false)) - 1
    right = np.searchsorted(x, at, side="left")  # the next count that occurs, or this one
    left = np.where(x[right] == at, right, right - 1)
    step = np.maximum(x[right] - x[left], 1)
    between = true[last[left]] + (at - x[left]) / step * (true[first[right]] - true[last[left]])
    there = x[right] == at
    return np.stack([np.where(there, true[first[right]], between), np.where(there, true[last[right]], between)])


def precision_recall(scores: Floats, positive: Booleans, points: int = POINTS) -> Curve:
    """Average the precision-recall steps of several seeds.

    Args:
        scores: (seeds, n).
        positive: (n,) with at least one positive.
        points: at most, of the grid of recalls above 0.

    Returns:
        x: recall, rising; y: precision at the strictest threshold that reaches it, constant back to the recall before.
    """
    m = int(positive.sum())
    at = np.unique(np.ceil(np.linspace(0, m, min(m, points) + 1))[1:])
    rows = []
    for row in scores:
        false, true = cumulated(row, positive)
        reached = np.searchsorted(true, at, side="left")
        rows.append(true[reached] / (true[reached] + false[reached]))
    return Curve(at / m, np.mean(rows, axis=0), m, len(positive))


def average(curves: list[Curve], *, steps: bool) -> Curve:
    """Average the curves of several classes vertically: their macro average, whose area is the mean of theirs.

    Args:
        curves: of `roc` or `precision_recall`.
        steps: whether they are steps, as those of precision.

    Returns:
        The curve at every place of any class's steps (at 4 `POINTS` where there are more); its counts are the smallest.
    """
    if len(curves) == 1:
        return curves[0]
    fewest = min(c.positives for c in curves), min(c.images for c in curves)
    x = np.unique(np.concatenate([c.x for c in curves]).round(12))
    x = x if len(x) <= 4 * POINTS else np.linspace(0, 1, 4 * POINTS + 1)[int(steps) :]
    if steps:
        return Curve(x, np.mean([c.y[np.searchsorted(c.x, x - 1e-9)] for c in curves], axis=0), *fewest)
    ends = np.mean([_limits(c, x) for c in curves], axis=0)
    return Curve(np.repeat(x, 2), ends.T.ravel(), *fewest)


def _limits(curve: Curve, at: Floats) -> Floats:
    """Give the lower and the upper end of an averaged ROC curve's step at some false-positive rates: (2, len(at))."""
    x, lower, upper = curve.x[::2], curve.y[::2], curve.y[1::2]
    right = np.searchsorted(x, at - 1e-9)
    there = np.abs(x[right] - at) <= 1e-9
    left = np.where(there, right, right - 1)
    share = (at - x[left]) / np.where(there, 1.0, x[right] - x[left])
    between = upper[left] + share * (lower[right] - upper[left])
    return np.stack([np.where(there, lower[right], between), np.where(there, upper[right], between)])


@dataclass(frozen=True)
class Bin:
    """Images whose probability lies between two edges, those of all seeds together.

    Attributes:
        low, high: the edges.
        images: mean number over seeds.
        patients: who have an image here with any seed.
        predicted: mean probability.
        observed: share of positives.
        observed_low, observed_high: its 95 % interval; NaN with one patient.
    """

    low: float
    high: float
    images: float
    patients: int
    predicted: float
    observed: float
    observed_low: float
    observed_high: float


def reliability(probabilities: Floats, positive: Booleans, patients: NDArray[np.int64], bins: int = BINS) -> list[Bin]:
    """Hold the share of positives against the mean probability, in the bins of the expected calibration error.

    An image counts in its seeds' bins; the interval is Wilson's on the number of images that the error amounts to, with patients as
    clusters, so that five seeds of one image are not taken for five images.

    Args:
        probabilities: (seeds, n) between 0 and 1.
        positive: (n,) the truth.
        patients: (n,) codes.
        bins: of equal width; a probability on an edge belongs to the upper one.

    Returns:
        The bins that hold images, lowest first.
    """
    at = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    made = []
    for b in range(bins):
        inside = at == b
        often = inside.sum(axis=0).astype(np.float64)
        if not often.any():
            continue
        counted = often > 0
        influence = ratio(often[counted] * positive[counted], often[counted], patients[counted])
        by_patient = np.bincount(patients[counted], weights=influence.terms)
        people = len(np.unique(patients[counted]))
        low, high = wilson_interval(influence.value, math.sqrt(float(by_patient @ by_patient)), decisions=int(often.sum()), patients=people)
        predicted = float(probabilities[inside].sum() / often.sum())
        made.append(Bin(b / bins, (b + 1) / bins, float(often.sum()) / len(probabilities), people, predicted, influence.value, low, high))
    return made


def net_benefit(probabilities: Floats, positive: Booleans, thresholds: Floats = THRESHOLDS) -> Floats:
    """Average the net benefit of several seeds at many thresholds.

    Args:
        probabilities: (seeds, n) between 0 and 1.
        positive: (n,) the truth.
        thresholds: (t,) probabilities from which one treats, between 0 and 1.

    Returns:
        (t,) (TP - FP t / (1 - t)) / n, the mean over seeds.

    References:
        Vickers, Elkin 2006, Med Decis Making 26:565.
    """
    n = len(positive)
    odds = thresholds / (1 - thresholds)
    rows = []
    for row in probabilities:
        true = positive.sum() - np.searchsorted(np.sort(row[positive]), thresholds, side="left")
        false = (~positive).sum() - np.searchsorted(np.sort(row[~positive]), thresholds, side="left")
        rows.append((true - false * odds) / n)
    return np.asarray(np.mean(rows, axis=0), dtype=np.float64)


def treat_everybody(positive: Booleans, thresholds: Floats = THRESHOLDS) -> Floats:
    """Give the net benefit of treating everybody at many thresholds: (t,)."""
    return np.array([treat_all(float(positive.mean()), float(t)) for t in thresholds])
