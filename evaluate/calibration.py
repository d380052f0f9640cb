"""Calibration: whether probabilities are as large as they should be. Brier score, ECE, recalibration slope and intercept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from evaluate.bootstrap import Draws
from evaluate.influence import Influence, count_patients, inflation
from evaluate.proportions import ratio

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
BINS = 10
CLIP = 1e-6  # probabilities nearer to 0 or 1 are taken as this near: their logit would be infinite


def brier(probabilities: Floats, positive: Booleans, patients: NDArray[np.int64]) -> Influence:
    """Estimate the Brier score of one class against the rest: the mean of (probability - truth) squared.

    Args:
        probabilities: (n,) between 0 and 1.
        positive: (n,) the truth.
        patients: (n,) patient codes.

    References:
        Brier 1950, Mon Weather Rev 78:1.

    Example:
        >>> round(brier(np.array([0.9, 0.2]), np.array([True, False]), np.arange(2)).value, 3)
        0.025
    """
    return ratio((probabilities - positive) ** 2, np.ones(len(positive)), patients)


def bin_gaps(probabilities: Floats, positive: Booleans, units: NDArray[np.int64], count: int, bins: int = BINS) -> NDArray[np.float64]:
    """Add up truth less probability by unit and by bin of the probability: all that an ECE and its replicates need.

    Args:
        probabilities: (n,) between 0 and 1.
        positive: (n,) the truth.
        units: (n,) which unit (patient, or group of patients) each image belongs to.
        count: number of units.
        bins: of equal width; a probability on an edge belongs to the upper one.

    Returns:
        (count, bins) float64.
    """
    at = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(units * bins + at, weights=positive - probabilities, minlength=count * bins)
    return gaps.reshape(count, bins).astype(np.float64, copy=False)


def replicate_ece(gaps: Sequence[Floats], images: Sequence[NDArray[np.int64]], draws: Draws) -> tuple[Floats, Floats]:
    """Recompute several ECEs under the same draws: each replicate is a weighted sum of what `bin_gaps` added up.

    An ECE is a sum of absolute values, so noise alone makes it positive. How much, the replicates show too: the noise of a
    replicate is the sum of the absolute differences between its bins and the sample's, which is what the ECE of a
    replicate would be if the sample were perfectly calibrated. By the triangle inequality an ECE is off by no more.

    Args:
        gaps: for each, (units, bins) from `bin_gaps`.
        images: for each, (units,) images of the unit.
        draws: of the units.

    Returns:
        (len(gaps), replicates) ECEs and noises; NaN where a replicate drew no image.
    """
    table = np.concatenate(gaps, axis=1)
    totals = np.stack(images, axis=1).astype(np.float64)
    sample = table.sum(axis=0).reshape(len(gaps), -1) / totals.sum(axis=0)[:, None]
    found, noise = np.empty((2, len(gaps), draws.replicates))
    first = 0
    for counts in draws.blocks(table.shape[1]):
        weights = counts.astype(np.float64)
        with np.errstate(invalid="ignore"):
            bins = (weights @ table).reshape(len(weights), len(gaps), -1) / (weights @ totals)[:, :, None]
        found[:, first : first + len(weights)] = np.abs(bins).sum(axis=2).T
        noise[:, first : first + len(weights)] = np.abs(bins - sample).sum(axis=2).T
        first += len(weights)
    return found, noise


def expected_calibration_error(probabilities: Floats, positive: Booleans, *, bins: int = BINS, norm: str = "l1") -> float:
    """Estimate the calibration error over bins of equal width.

    Args:
        probabilities: (n,) of the positive class.
        positive: (n,) the truth.
        bins: how many.
        norm: ``"l1"`` is the expected calibration error (mean over images of their bin's |share of positives - mean
            probability|), ``"l2"`` the root of the mean square, ``"max"`` the largest gap of a bin that holds images.

    Returns:
        The error; NaN without images.

    References:
        Naeini et al. 2015, AAAI; Maier-Hein et al. 2024, Nat Methods 21:195 (SN 2.24); Kumar et al. 2019, NeurIPS (l2).

    Example:
        >>> p, y = np.array([0.25, 0.25, 0.55, 0.75, 0.75]), np.array([False, False, True, True, True])
        >>> [round(expected_calibration_error(p, y, bins=2, norm=norm), 4) for norm in ("l1", "l2", "max")]
        [0.29, 0.2918, 0.3167]
    """
    n = len(probabilities)
    if n == 0:
        return math.nan
    gaps = np.abs(bin_gaps(probabilities, positive, np.zeros(n, dtype=np.int64), 1, bins)[0])
    if norm == "l1":
        return float(gaps.sum() / n)
    sizes = np.bincount(np.minimum((probabilities * bins).astype(np.int64), bins - 1), minlength=bins)
    held = sizes > 0
    if norm == "l2":
        return float(np.sqrt((gaps[held] ** 2 / sizes[held]).sum() / n))
    return float((gaps[held] / sizes[held]).max())


def recalibration(probabilities: Floats, positive: Booleans, patients: NDArray[np.int64]) -> tuple[Influence, Influence]:
    """Estimate calibration slope and intercept by logistic recalibration.

    The slope is that of a logistic regression of the truth on logit p: below 1 where probabilities are too extreme. The
    intercept is fitted with the slope held at 1 (calibration in the large): below 0 where they are too high on average.
    Their influence is that of maximum likelihood estimates under misspecification: the inverse information times each
    image's score, so that the variance is the sandwich clustered by patient.

    Args:
        probabilities: (n,) between 0 and 1; taken as at least `CLIP` away from both.
        positive: (n,) the truth.
        patients: (n,) patient codes.

    Returns:
        Slope and intercept. NaN where all images have one label; the slope also where the probabilities separate the
        labels perfectly (it is infinite) or do not vary.

    References:
        Cox 1958, Biometrika 45:562; Van Calster et al. 2016, J Clin Epidemiol 74:167; Liang, Zeger 1986, Biometrika 73:13.
    """
    groups = min(count_patients(positive, patients), count_patients(~positive, patients))
    nothing = Influence(math.nan, np.full(len(positive), math.nan), len(positive), groups)
    if groups == 0:
        return nothing, nothing
    clipped = np.clip(probabilities, CLIP, 1 - CLIP)
    logits = np.log(clipped) - np.log1p(-clipped)
    people = count_patients(np.ones(len(positive), dtype=bool), patients)
    factor = inflation(people) if groups > 1 else math.nan
    shift, (score, weight) = _fit_intercept(logits, positive)
    intercept = Influence(shift, score * (factor / weight.sum()), len(positive), groups)
    fitted = _fit_line(logits, positive)
    if fitted is None:
        return nothing, intercept
    slope, direction, score = fitted
    return Influence(slope, score * direction * factor, len(positive), groups), intercept


def _fit_intercept(logits: Floats, positive: Booleans) -> tuple[float, tuple[Floats, Floats]]:
    """Fit truth ~ expit(a + logits); give a, and residuals and weights there."""
    from scipy.special import expit

    low, high = -logits.max() - 40.0, -logits.min() + 40.0
    a = 0.0
    for _ in range(100):  # Newton's method, kept inside a bracket: the mean residual falls as a rises
        p = expit(a + logits)
        surplus = float((positive - p).sum())
        low, high = (a, high) if surplus > 0 else (low, a)
        weight = p * (1 - p)
        total = float(weight.sum())
        step = surplus / total if total > 0 else math.inf
        if abs(step) < 1e-10:
            break
        a = a + step if low < a + step < high else (low + high) / 2
    return a, (positive - p, weight)


def _fit_line(logits: Floats, positive: Booleans) -> tuple[float, Floats, Floats] | None:
    """Fit truth ~ expit(a + b logits); give b, (n,) influence of a unit residual on b, and residuals. None where b can't be had."""
    from scipy.special import expit

    up, down = logits[positive], logits[~positive]
    spread = float(logits.std())
    if spread < 1e-12 or up.min() >= down.max() or up.max() <= down.min():
        return None
    x = (logits - logits.mean()) / spread  # Newton's method behaves on a standard scale
    truth = float(np.mean(positive))
    a, b, likelihood = math.log(truth / (1 - truth)), 0.0, -math.inf
    step = np.zeros(2)
    for _ in range(200):
        line = a + b * x
        now = float((positive * line - np.logaddexp(0, line)).sum())
        if now < likelihood - 1e-9 * abs(likelihood):  # too far: half way back
            step = step / 2
            a, b = a - step[0], b - step[1]
            continue
        likelihood = now
        p = expit(line)
        weight, residual = p * (1 - p), positive - p
        w, wx, wxx = float(weight.sum()), float(weight @ x), float(weight @ (x * x))
        determinant = w * wxx - wx * wx
        if determinant <= 0:
            return None
        s, sx = float(residual.sum()), float(residual @ x)
        step = np.array([wxx * s - wx * sx, w * sx - wx * s]) / determinant
        if np.abs(step).max() < 1e-10 * max(1.0, abs(b)):
            return b / spread, (w * x - wx) / determinant / spread, residual
        a, b = a + step[0], b + step[1]
    return None
