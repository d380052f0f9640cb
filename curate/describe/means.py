"""Means of numbers and their differences, with patients as the sampling unit.

A mean is over images; its standard error allows for a patient's images being alike. With one image a patient, or equally
many of each, everything here is the ordinary t interval or Welch's test; with the same patients on both sides, the paired test.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Mean:
    """A mean over images.

    Attributes:
        value: the mean; NaN where there is no image.
        se: its standard error, patients as clusters; NaN where fewer than two patients have a value.
        df: degrees of freedom of the t interval; NaN likewise.
        images: how many have a value.
        patients: how many people they are of.
        share: (people,) each patient's share of the images.
        pull: (people,) what each patient adds to the error; the sum of squares is the squared standard error.
    """

    value: float
    se: float
    df: float
    images: int
    patients: int
    share: np.ndarray = field(repr=False)
    pull: np.ndarray = field(repr=False)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Give the t interval; NaN, NaN where there is none."""
        return _interval(self.value, self.se, self.df, level)


@dataclass(frozen=True)
class Difference:
    """A difference, first minus second.

    Attributes:
        value, low, high: with its 95 % interval.
        se, df: standard error and degrees of freedom.
        t, p: of the test that it is zero; NaN where the standard error is zero or unknown.
    """

    value: float
    low: float
    high: float
    se: float
    df: float
    t: float
    p: float


def _interval(value: float, se: float, df: float, level: float = 0.95) -> tuple[float, float]:
    if not (se > 0 and df > 0):
        return math.nan, math.nan
    reach = float(student.ppf(0.5 + level / 2, df)) * se
    return value - reach, value + reach


def patient_mean(values: np.ndarray, patient: np.ndarray, people: int) -> Mean:
    """Take the mean over images with a standard error by patient.

    The bias-reduced cluster-robust variance (CR2) with Satterthwaite's degrees of freedom of Bell and McCaffrey (2002), as in
    Pustejovsky and Tipton (2018), which for a mean have closed forms: with p_g patient g's share of the images and
    b_g = p_g^2 / (1 - p_g), se^2 = sum of b_g (mean_g - mean)^2 and df = 1 / (sum p_g^2 + (sum b_g)^2 - sum b_g^2).

    Args:
        values: (n,) finite numbers.
        patient: (n,) integers, 0 to people - 1.
        people: how many patients there are, with or without a value.

    Returns:
        The mean.
    """
    n = len(values)
    counts = np.bincount(patient, minlength=people)
    share = counts / max(n, 1)
    if n == 0:
        return Mean(math.nan, math.nan, math.nan, 0, 0, share, np.zeros(people))
    value = float(values.mean())
    present = int(np.count_nonzero(counts))
    if present < 2:
        return Mean(value, math.nan, math.nan, n, present, share, np.zeros(people))
    centred = values - value
    if float(np.abs(centred).max()) <= 1e-12 * abs(value):  # the rounding of a sum of equal numbers is no variation
        centred = np.zeros(n)
    pull = np.bincount(patient, centred, minlength=people) / n / np.sqrt(1 - share)
    b = share**2 / (1 - share)
    df = 1 / float((share**2).sum() + b.sum() ** 2 - (b**2).sum())
    return Mean(value, float(np.sqrt((pull**2).sum())), df, n, present, share, pull)


def difference(first: Mean, second: Mean) -> Difference:
    """Compare two means, patients as the units.

    Welch's test on the cluster-robust standard errors, with Satterthwaite's degrees of freedom. Patients who are on both sides count as
    pairs: their part of the error is subtracted before it is squared, and the smaller of the two means' degrees of freedom is taken.

    Args:
        first, second: from `patient_mean` with the same numbering of people.

    Returns:
        The difference, NaN where it or its error can't be had.
    """
    value = first.value - second.value
    if math.isnan(first.se) or math.isnan(second.se):
        return Difference(value, math.nan, math.nan, math.nan, math.nan, math.nan, math.nan)
    se = float(np.sqrt(((first.pull - second.pull) ** 2).sum()))
    paired = bool(((first.share > 0) & (second.share > 0)).any())
    df = min(first.df, second.df) if paired else _welch_df(first, second)
    low, high = _interval(value, se, df)
    if not se > 1e-14 * max(abs(first.value), abs(second.value), 1e-300):
        return Difference(value, math.nan, math.nan, 0.0, df, math.nan, math.nan)
    t = value / se
    return Difference(value, low, high, se, df, t, 2 * float(student.sf(abs(t), df)))


def _welch_df(first: Mean, second: Mean) -> float:
    parts = [(m.se**2, m.df) for m in (first, second)]
    below = sum(v**2 / df for v, df in parts)
    return math.nan if below == 0 else sum(v for v, _ in parts) ** 2 / below


def standardised_difference(
    x: tuple[np.ndarray, np.ndarray], y: tuple[np.ndarray, np.ndarray], people: int
) -> tuple[float, float, float] | None:
    """Give Cohen's d with its 95 % interval by patient.

    d = (mean of x - mean of y) / s, with s^2 the variance of images pooled over both sides, (n - 1) below (Cohen 1988). The interval is d's
    delta-method error with each patient's contributions added up before they are squared.

    Args:
        x, y: each (values, patient), as for `patient_mean`.
        people: likewise.

    Returns:
        d, low, high (NaN where fewer than two patients are on a side); None where nothing varies within the sides or one has no more
        than one image.
    """
    sizes = [len(x[0]), len(y[0])]
    if min(sizes) < 2:
        return None
    means = [float(v.mean()) for v, _ in (x, y)]
    variances = [float(v.var(ddof=1)) for v, _ in (x, y)]
    pooled = sum((n - 1) * v for n, v in zip(sizes, variances, strict=True)) / (sum(sizes) - 2)
    sd = math.sqrt(pooled)
    if sd <= 1e-12 * max(map(abs, means), default=0.0) or sd == 0:
        return None
    d = (means[0] - means[1]) / sd
    total, error, dfs = np.zeros(people), 0.0, []
    for sign, (values, patient), n, mean, variance in zip((1, -1), (x, y), sizes, means, variances, strict=True):
        centred = values - mean
        each = sign * centred / sd / n - d / (2 * pooled) * (centred**2 - variance * (n - 1) / n) / sum(sizes)
        sums = np.bincount(patient, each, minlength=people)
        counted = patient_mean(values, patient, people)
        if counted.patients < 2:
            return d, math.nan, math.nan
        total += sums * math.sqrt(counted.patients / (counted.patients - 1))
        dfs.append(counted.df)
    error = float(np.sqrt((total**2).sum()))
    low, high = _interval(d, error, min(dfs))
    return d, low, high
