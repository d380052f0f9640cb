"""Shares of groups and their differences, with patients as the sampling unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import f as fisher
from scipy.stats import norm

from curate.describe.means import Mean, patient_mean


@dataclass(frozen=True)
class Homogeneity:
    """A test that two sides have the same shares of groups.

    Attributes:
        chi_squared: Pearson's statistic over images, uncorrected.
        f: chi_squared over the sum of the generalised design effects.
        df, df_error: of the F distribution that it is compared with.
        design_effect: the mean generalised design effect: how many images count as one patient.
        p: the p-value.
    """

    chi_squared: float
    f: float
    df: float
    df_error: float
    design_effect: float
    p: float


def share_interval(share: Mean, level: float = 0.95) -> tuple[float, float]:
    """Give the interval of a share of images.

    Wilson's (1927) interval with the effective number of images in place of their number: p (1 - p) / se^2, at most
    the number of images; where
    everyone or nobody is in the group, the number of patients (Korn and Graubard 1998; compared by Franco et al. 2019).

    Args:
        share: the mean of an indicator, from `patient_mean`.
        level: of the interval.

    Returns:
        low, high; NaN, NaN where fewer than two patients are counted.
    """
    if share.patients < 2:
        return math.nan, math.nan
    p = share.value
    if p in (0.0, 1.0):
        n = float(share.patients)
    else:
        n = min(p * (1 - p) / share.se**2, share.images) if share.se > 0 else float(share.images)
    z = float(norm.ppf(0.5 + level / 2))
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0 else max(centre - reach, 0.0)), (1.0 if p == 1 else min(centre + reach, 1.0))


def share_difference(first: Mean, second: Mean) -> tuple[float, float, float]:
    """Give the difference of two shares, first minus second, with its 95 % interval.

    Newcombe's (1998) hybrid: the two shares' own intervals put together, with the correlation that patients on both sides
    bring (Zou and Donner 2008).

    Returns:
        value, low, high; the latter NaN where a side has fewer than two patients.
    """
    value = first.value - second.value
    (l1, u1), (l2, u2) = share_interval(first), share_interval(second)
    if math.isnan(l1) or math.isnan(l2):
        return value, math.nan, math.nan
    together = float(first.pull @ second.pull)
    r = together / (first.se * second.se) if together and first.se > 0 and second.se > 0 else 0.0
    a, b = first.value - l1, u2 - second.value
    c, d = u1 - first.value, second.value - l2
    low = value - math.sqrt(max(a * a - 2 * r * a * b + b * b, 0.0))
    high = value + math.sqrt(max(c * c - 2 * r * c * d + d * d, 0.0))
    return value, low, high


def multinomial_difference(first: np.ndarray, second: np.ndarray) -> float:
    """Give the standardised difference of two distributions over groups (Yang and Dalton 2012).

    sqrt((T - C)' S^-1 (T - C)), with T and C the shares of all groups but one and S the mean of the two multinomial
    covariance matrices. For two groups it is the usual standardised difference of proportions, without its sign.

    Args:
        first, second: (groups,) shares, each adding up to 1.

    Returns:
        0 or more; infinite where a group, or several together, hold everyone of one side and nobody of the other.
    """
    used = (first > 0) | (second > 0)
    t, c = first[used][1:], second[used][1:]
    s = (np.diag(t) - np.outer(t, t) + np.diag(c) - np.outer(c, c)) / 2
    gap = t - c
    inverse = np.linalg.pinv(s, rcond=1e-12, hermitian=True)
    if float(np.abs(s @ inverse @ gap - gap).max(initial=0.0)) > 1e-9:
        return math.inf
    return math.sqrt(max(float(gap @ inverse @ gap), 0.0))


def rao_scott(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray], groups: int, people: int) -> Homogeneity | None:
    """Test that two sides have the same shares of groups, images clustered in patients.

    Pearson's chi-squared with Rao and Scott's (1981, 1984) second-order correction, referred to F as by Thomas and Rao (1987).

    Args:
        first, second: each (group, patient), (n,) integers from 0; no unknown among them.
        groups: how many groups.
        people: how many patients, over both sides.

    Returns:
        The test, or None where fewer than two groups occur, a side has fewer than two patients, or patients don't vary.
    """
    counts = np.stack([np.bincount(g, minlength=groups) for g, _ in (first, second)]).astype(float)
    used = np.flatnonzero(counts.sum(axis=0) > 0)
    n = counts.sum(axis=1)
    seen = [np.bincount(p, minlength=people) > 0 for _, p in (first, second)]
    sizes = [int(s.sum()) for s in seen]
    if len(used) < 2 or min(sizes) < 2:
        return None
    shares = counts[:, used] / n[:, None]
    pooled = counts[:, used].sum(axis=0) / n.sum()
    harmonic = n[0] * n[1] / n.sum()
    gap = shares[0] - shares[1]
    chi_squared = float(harmonic * (gap**2 / pooled).sum())
    pulls = np.empty((people, len(used) - 1))
    for column, group in enumerate(used[1:]):
        a, b = (patient_mean((g == group).astype(float), p, people).pull for g, p in (first, second))
        pulls[:, column] = a - b
    covariance = pulls.T @ pulls
    null = (np.diag(pooled[1:]) - np.outer(pooled[1:], pooled[1:])) / harmonic
    delta = np.linalg.solve(null, covariance)
    trace, square = float(np.trace(delta)), float(np.trace(delta @ delta))
    if trace <= 1e-12:
        return None
    df = trace**2 / square
    # Patients on both sides are one stratum of people, else each side is one.
    error = df * (int((seen[0] | seen[1]).sum()) - (1 if bool((seen[0] & seen[1]).any()) else 2))
    statistic = chi_squared / trace
    return Homogeneity(chi_squared, statistic, df, error, trace / (len(used) - 1), float(fisher.sf(statistic, df, error)))
