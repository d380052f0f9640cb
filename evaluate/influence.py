"""AUROC with its uncertainty, from one influence function per class.

An AUROC is a mean over pairs of a positive and a negative image, so its sampling error is, to first order, a sum
of one term an image (DeLong et al. 1988). That sum carries over to everything asked of it: the macro average and
the average over seeds are means of terms, the difference of two models on the same images is a difference of
terms, and images of one patient are added before they are squared (Obuchowski 1997).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Influence:
    """A statistic and what each image contributes to its error.

    Attributes:
        value: the statistic; NaN where it can't be had.
        terms: (n,) float64; the variance is the sum over patients of the squared sum of their images' terms. NaN
            where fewer than two patients are positive or fewer than two are negative.
        images: images that the statistic counts (of a proportion: those in its denominator); 0 where nobody asks.
        patients: patients behind it, the scarcer of positive and negative where it needs both.
    """

    value: float
    terms: Floats
    images: int = 0
    patients: int = 0

    def standard_error(self, patients: NDArray[np.int64] | None = None) -> float:
        """Give the standard error of the value.

        Args:
            patients: (n,) each image's patient, coded 0, 1, ...; None: every image is a patient of its own.
        """
        terms = self.terms if patients is None else np.bincount(patients, weights=self.terms)
        return math.sqrt(float(np.dot(terms, terms)))


def auroc(scores: Floats, positive: NDArray[np.bool_], patients: NDArray[np.int64] | None = None) -> Influence:
    """Estimate an AUROC and each image's influence on it. O(n log n), ties count one half.

    With m positives and q negatives, V10 of a positive is the share of negatives that it is ranked above, V01 of
    a negative the share of positives ranked above it (both by midranks). The terms are (V10 - AUROC) / m and
    (V01 - AUROC) / q, each side inflated by G / (G - 1) in variance for its G patients: DeLong's variance
    where every patient has one image, Obuchowski's clustered one otherwise.

    Args:
        scores: (n,) finite, higher is more likely positive.
        positive: (n,) the truth.
        patients: (n,) patient codes 0, 1, ...; None: every image is a patient of its own.

    Returns:
        The AUROC (NaN where there are no positives or no negatives) and (n,) terms.

    References:
        DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44:837; Sun, Xu 2014 (midranks); Obuchowski 1997, Biometrics 53:567.

    Example:
        >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])).value
        0.75
    """
    m = int(np.count_nonzero(positive))
    q = len(positive) - m
    if m == 0 or q == 0:
        return Influence(math.nan, np.full(len(positive), math.nan))
    negatives_below, positives_below = _counts_below(np.asarray(scores, dtype=np.float64), positive)
    placement = np.where(positive, negatives_below / q, 1.0 - positives_below / m)
    value = float(negatives_below[positive].sum()) / (float(m) * float(q))
    sides = (count_patients(positive, patients), count_patients(~positive, patients))
    terms = (placement - value) * np.where(positive, inflation(sides[0]) / m, inflation(sides[1]) / q)
    return Influence(value, terms, len(positive), min(sides))


def _counts_below(scores: Floats, positive: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Count, for each image, the negatives and the positives with a lower score, those with the same as one half."""
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate(([True], ranked[1:] != ranked[:-1])))
    sizes = np.diff(np.append(starts, len(ranked)))
    in_tie = np.add.reduceat(positive[order].astype(np.int64), starts)
    positives = np.cumsum(in_tie) - 0.5 * in_tie
    everyone = np.cumsum(sizes) - 0.5 * sizes
    negatives_below, positives_below = np.empty_like(scores), np.empty_like(scores)
    positives_below[order] = np.repeat(positives, sizes)
    negatives_below[order] = np.repeat(everyone - positives, sizes)
    return negatives_below, positives_below


def count_patients(side: NDArray[np.bool_], patients: NDArray[np.int64] | None) -> int:
    """Count the patients with an image on one side; None: every image is a patient of its own."""
    return int(np.count_nonzero(side if patients is None else np.bincount(patients[side])))


def inflation(groups: int) -> float:
    """Give the square root of G / (G - 1) for G patients, by which terms are multiplied; NaN below two."""
    return math.sqrt(groups / (groups - 1)) if groups > 1 else math.nan


def effective_patients(terms: Floats) -> float:
    """Give the number of patients whose equal, normal terms would tell their variance as well as these do.

    A few patients with large terms (the rare positives, the rare misses) say less about the variance than their number
    does. By Satterthwaite's argument it is 3 (sum of squares)^2 / (sum of fourth powers), at most those that contribute.

    Args:
        terms: (patients,) influence terms.

    Returns:
        The number; one less are the degrees of freedom. 0 where all terms are 0.

    References:
        Satterthwaite 1946, Biometrics Bull 2:110; Carter, Schnepel, Steigerwald 2017, Rev Econ Stat 99:698.

    Example:
        >>> effective_patients(np.array([1.0, -1, 1, -1])), round(effective_patients(np.array([9.0, -9] + [1.0] * 98)), 1)
        (4.0, 15.3)
    """
    squares = terms * terms
    fourth = float(squares @ squares)
    return min(3 * float(squares.sum()) ** 2 / fourth, float(np.count_nonzero(terms))) if fourth > 0 else 0.0


def mean_influence(parts: Sequence[Influence]) -> Influence:
    """Average statistics of the same images: over classes (macro) or over seeds."""
    return Influence(
        float(np.mean([p.value for p in parts])),
        np.mean([p.terms for p in parts], axis=0),
        min(p.images for p in parts),
        min(p.patients for p in parts),
    )


def difference(a: Influence, b: Influence) -> Influence:
    """Subtract: `b` minus `a`, both of the same images in the same order."""
    return Influence(b.value - a.value, b.terms - a.terms, min(a.images, b.images), min(a.patients, b.patients))


def interval(
    value: float, error: float, *, patients: float = math.inf, scale: Literal["logit", "identity"] = "logit", level: float = 0.95
) -> tuple[float, float]:
    """Give the interval of a statistic that lies between 0 and 1.

    The default is symmetric on the logit scale with the quantile of Student's t for the patients on the scarcer side:
    it never leaves (0, 1) and keeps its coverage in small groups and close to 1, where the symmetric one falls short
    (in simulations with 15 positive patients and an AUROC of 0.93: 94 % against 87 %). ``scale="identity"`` without
    `patients` is the symmetric (Wald) interval that most DeLong programs print, clipped to [0, 1].

    Args:
        value: the statistic.
        error: its standard error.
        patients: patients on the scarcer side (positive or negative); infinite gives the normal quantile.
        scale: ``"logit"`` or ``"identity"``.
        level: of confidence.

    Returns:
        (low, high); NaN where the error is unknown or 0, or the value is 0 or 1: the sample then says nothing about
        its own error.

    Example:
        >>> tuple(round(x, 4) for x in interval(0.89317, 0.03072, scale="identity"))
        (0.833, 0.9534)
    """
    from scipy.special import expit, logit

    if not (0 < value < 1 and error > 0 and patients > 1):
        return math.nan, math.nan
    half = t_quantile(patients - 1, level) * error
    if scale == "identity":
        return max(0.0, value - half), min(1.0, value + half)
    half /= value * (1 - value)
    return float(expit(logit(value) - half)), float(expit(logit(value) + half))


def difference_interval(value: float, error: float, *, freedom: float = math.inf, level: float = 0.95) -> tuple[float, float, float]:
    """Give the interval of a difference and test that it is 0.

    Args:
        value: the difference.
        error: its standard error.
        freedom: degrees of freedom of Student's t; infinite gives the normal distribution.
        level: of confidence.

    Returns:
        (low, high, two-sided p): (0, 0, 1) where the difference and its error are 0, as for a model and itself; NaN
        where the error is unknown, or 0 beside a difference.
    """
    from scipy.special import ndtr, stdtr

    if freedom < 1 or math.isnan(error) or (error == 0 and value != 0):
        return math.nan, math.nan, math.nan
    if error == 0:
        return 0.0, 0.0, 1.0
    half = t_quantile(freedom, level) * error
    ratio = -abs(value) / error
    return value - half, value + half, float(2 * (ndtr(ratio) if math.isinf(freedom) else stdtr(freedom, ratio)))


def t_quantile(freedom: float, level: float = 0.95) -> float:
    """Give the two-sided quantile of Student's t; infinite `freedom` gives the normal one."""
    from scipy.special import ndtri, stdtrit

    return float(ndtri(0.5 + level / 2) if math.isinf(freedom) else stdtrit(freedom, 0.5 + level / 2))
