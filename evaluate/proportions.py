"""What follows once scores are cut at a threshold: sensitivity, specificity, predictive values, net benefit.

Each is a ratio of two sums over images, so each image's influence is what it adds to the numerator less the ratio times
what it adds to the denominator; images of one patient are added before they are squared, as for the AUROC.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from evaluate.influence import Influence, inflation, t_quantile

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]
PROPORTIONS = ("sensitivity", "specificity", "ppv", "npv")


def ratio(numerator: Floats, denominator: Floats, patients: NDArray[np.int64]) -> Influence:
    """Estimate a ratio of two totals, and each image's influence on it.

    The term of an image with numerator a and denominator b is (a - ratio b) / sum of b, inflated by G / (G - 1) in
    variance for the G patients that the denominator counts.

    Args:
        numerator, denominator: (n,) what each image adds; denominators are 0 or more.
        patients: (n,) patient codes 0, 1, ...

    Returns:
        The ratio (NaN where the denominator is 0), (n,) terms (NaN where it counts fewer than two patients), and how many
        images and patients it counts.

    References:
        Rao, Scott 1992, Biometrics 48:577 (ratios in clustered data); Cochran 1977, Sampling Techniques, 6.4.
    """
    total = float(denominator.sum())
    counted = denominator > 0
    groups = int(np.count_nonzero(np.bincount(patients[counted])))
    images = int(np.count_nonzero(counted))
    if total == 0:
        return Influence(math.nan, np.full(len(denominator), math.nan), images, groups)
    value = float(numerator.sum()) / total
    return Influence(value, (numerator - value * denominator) * (inflation(groups) / total), images, groups)


def proportion(metric: str, called: Booleans, positive: Booleans, patients: NDArray[np.int64]) -> Influence:
    """Estimate a proportion of images that a threshold calls positive or negative.

    Args:
        metric: ``sensitivity`` (called among positives), ``specificity`` (not called among negatives), ``ppv`` (positives
            among called) or ``npv`` (negatives among not called).
        called: (n,) whether the score reaches the threshold.
        positive: (n,) the truth.
        patients: (n,) patient codes.

    Example:
        >>> called, positive = np.array([True, True, False, False]), np.array([True, False, True, True])
        >>> proportion("ppv", called, positive, np.arange(4)).value
        0.5
    """
    right, among = {
        "sensitivity": (called, positive),
        "specificity": (~called, ~positive),
        "ppv": (positive, called),
        "npv": (~positive, ~called),
    }[metric]
    return ratio((right & among).astype(np.float64), among.astype(np.float64), patients)


def net_benefit(probabilities: Floats, positive: Booleans, patients: NDArray[np.int64], threshold: float) -> Influence:
    """Estimate the net benefit of treating those whose probability reaches a threshold.

    True positives less false positives weighed by the threshold's odds, per image: (TP - FP t / (1 - t)) / n. Treating
    nobody has 0; for treating everybody see `treat_all`.

    Args:
        probabilities: (n,) between 0 and 1.
        positive: (n,) the truth.
        patients: (n,) patient codes.
        threshold: the probability t at which one would just treat.

    References:
        Vickers, Elkin 2006, Med Decis Making 26:565.
    """
    called = probabilities >= threshold
    gain = np.where(positive, 1.0, -threshold / (1 - threshold)) * called
    return ratio(gain, np.ones(len(gain)), patients)


def treat_all(prevalence: float, threshold: float) -> float:
    """Give the net benefit of treating everybody; 0 where the threshold is the prevalence.

    Example:
        >>> treat_all(0.75, 0.5)
        0.5
    """
    return prevalence - (1 - prevalence) * threshold / (1 - threshold)


def wilson_interval(value: float, error: float, *, decisions: int, patients: float, level: float = 0.95) -> tuple[float, float]:
    """Give Wilson's interval of a proportion, on as many images as its clustered error amounts to.

    The effective number is value (1 - value) / error squared, at most the decisions counted; where the value is 0 or 1, and
    the error says nothing, the number of patients. The quantile is Student's t.

    Args:
        value: the proportion.
        error: its standard error, clustered by patient.
        decisions: images counted, as often as they are decided about (once a seed).
        patients: patients counted, or as many as the error amounts to: degrees of freedom and one.
        level: of confidence.

    Returns:
        (low, high); NaN with fewer than two patients.

    References:
        Wilson 1927, J Am Stat Assoc 22:209; Korn, Graubard 1998, Surv Methodol 24:193 (effective number, t).

    Example:
        >>> tuple(round(x, 4) for x in wilson_interval(1.0, 0.0, decisions=40, patients=20))
        (0.8203, 1.0)
    """
    if math.isnan(value) or math.isnan(error) or patients < 2:
        return math.nan, math.nan
    variance = value * (1 - value)
    effective = float(patients) if min(error, variance) < 1e-12 else max(1.0, min(variance / error**2, float(decisions)))
    z = t_quantile(patients - 1, level)
    spread = z * math.sqrt(variance / effective + z * z / (4 * effective * effective))
    scale = 1 + z * z / effective
    middle = value + z * z / (2 * effective)
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
