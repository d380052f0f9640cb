"""Which gap a subgroup of this size could show, and how many patients a given gap would need.

The sampling variance of an AUROC is taken from the numbers of positives and negatives (Hanley and McNeil 1982, or the binormal form in
which Obuchowski plans studies) and stretched by a design effect for several images of one patient; or it is what an evaluation found. The
tests planned for are those that an evaluation makes: two-sided, Student's t with the patients on the scarcer side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Variance = Literal["hanley-mcneil", "obuchowski"]


def auroc_variance(auroc: float, positives: float, negatives: float, *, method: Variance = "obuchowski") -> float:
    """Give the sampling variance of an AUROC, for planning.

    Both are the exact variance of a Mann-Whitney statistic, (A (1 - A) + (m - 1)(Q1 - A^2) + (q - 1)(Q2 - A^2)) / (m q)
    for m positives and q negatives, and differ in how the scores are thought to be distributed: Q1 is the chance that
    two positives are both ranked above one negative, Q2 that one positive is ranked above two negatives.

    Args:
        auroc: A, above 0.5 and below 1 (smaller ones are mirrored).
        positives, negatives: images, at least 1.
        method: ``"obuchowski"``: normal scores of equal variance, Q1 = Q2 = Phi2(z, z; 1/2) with z = Phi^-1(A);
            ``"hanley-mcneil"``: negative exponential scores, Q1 = A / (2 - A), Q2 = 2 A^2 / (1 + A).

    References:
        Hanley, McNeil 1982, Radiology 143:29, equation 1; Obuchowski 1998, Stat Methods Med Res 7:371 (binormal planning).

    Example:
        >>> round(auroc_variance(0.85, 40, 300) ** 0.5, 4), round(auroc_variance(0.85, 40, 300, method="hanley-mcneil") ** 0.5, 4)
        (0.0317, 0.039)
    """
    from scipy.special import ndtri, owens_t

    a = max(auroc, 1 - auroc)
    if method == "hanley-mcneil":
        two_above, above_two = a / (2 - a), 2 * a**2 / (1 + a)
    else:
        # The bivariate normal integral on its diagonal, by Owen's T: Phi2(z, z; r) = Phi(z) - 2 T(z, sqrt((1 - r) / (1 + r))).
        two_above = above_two = a - 2 * float(owens_t(float(ndtri(a)), math.sqrt(1 / 3)))
    return (a * (1 - a) + (positives - 1) * (two_above - a**2) + (negatives - 1) * (above_two - a**2)) / (positives * negatives)


def design_effect(images_per_patient: float, icc: float) -> float:
    """Give how much several images of one patient stretch a variance: 1 + (images - 1) x icc (Kish 1965; Obuchowski 1997 for AUROC).

    Holds where the images of a patient share their label, as two eyes mostly do, and patients have about as many images each.
    """
    return 1 + (images_per_patient - 1) * icc


@dataclass(frozen=True)
class Sample:
    """A group, or a pair of models in a group, as far as planning needs it.

    Attributes:
        patients: how many.
        scarcer: patients on the scarcer side (positive or negative).
        variance: of the estimate if the truth lies `gap` below what was found or planned, as a function of that gap.
    """

    patients: float
    scarcer: float
    variance: Callable[[float], float]


def planned_sample(
    positives: float, negatives: float, auroc: float, *, icc: float = 0.0, images_per_patient: float = 1.0, method: Variance = "obuchowski"
) -> Sample:
    """Give the `Sample` of a group of a study that is being planned.

    Args:
        positives, negatives: images.
        auroc: expected.
        icc: correlation of the images of one patient.
        images_per_patient: on average.
        method: as `auroc_variance`.
    """
    stretch = design_effect(images_per_patient, icc)
    return Sample(
        (positives + negatives) / images_per_patient,
        min(positives, negatives) / images_per_patient,
        lambda gap: stretch * auroc_variance(_below(auroc, gap), positives, negatives, method=method),
    )


def planned_pair(group: Sample, correlation: float) -> Sample:
    """Give the `Sample` of the difference of two models on the images of one group.

    Args:
        group: the group, with the first model's variance.
        correlation: of the two models' estimates over samples of patients (Hanley and McNeil 1983), often 0.5 to 0.9.
    """

    def variance(gap: float) -> float:
        first, second = group.variance(0), group.variance(gap)
        return first + second - 2 * correlation * math.sqrt(first * second)

    return Sample(group.patients, group.scarcer, variance)


def found_sample(patients: float, scarcer: float, error: float, auroc: float | None = None) -> Sample:
    """Give the `Sample` of an estimate that an evaluation made.

    Args:
        patients: in the group.
        scarcer: patients on the scarcer side.
        error: the standard error found; design effect and seeds are in it.
        auroc: the AUROC found: the variance then grows with a gap as the binormal one does; None: it stays.
    """

    def variance(gap: float) -> float:
        if auroc is None:
            return error**2
        return error**2 * auroc_variance(_below(auroc, gap), 1e6, 1e6) / auroc_variance(auroc, 1e6, 1e6)

    return Sample(patients, scarcer, variance)


def found_design_effect(error: float, auroc: float, positives: float, negatives: float) -> float:
    """Give how many times the variance found is the binormal one of as many independent images.

    Above 1: images of one patient repeat each other, or scores are further from normal; below 1: averaging over seeds steadied the model.
    """
    return error**2 / auroc_variance(auroc, positives, negatives)


def _below(auroc: float, gap: float) -> float:
    """The value `gap` below; beyond chance the variance is about that at chance."""
    return max(auroc - gap, 0.5) if auroc > 0.5 else auroc


def detectable_gap(group: Sample, rest: Sample | None = None, *, power: float = 0.8, level: float = 0.05) -> float:
    """Give the smallest gap that would be shown with this power.

    Solves gap = (t(1 - level/2) + t(power)) x standard error(gap), the t quantiles with Welch's degrees of freedom.

    Args:
        group: the group whose value is the lower one; for two models in one group, the pair.
        rest: what it is held against; None: nothing else varies.
        power: chance that the test finds the gap.
        level: of the two-sided test.

    Returns:
        The gap; infinite where no gap up to 1 would be shown, as with one patient on a side.
    """
    excess = lambda gap: gap - _margin(group, rest, gap, 1, 1, power, level)  # noqa: E731
    return _root(excess, 1e-9, 1.0)


def patients_for(
    gap: float, group: Sample, rest: Sample | None = None, *, grow_rest: bool = False, power: float = 0.8, level: float = 0.05
) -> float:
    """Give how many patients the group must have for this gap to be shown with this power, at the same share of positives.

    Args:
        gap: to be shown.
        group: as in `detectable_gap`.
        rest: likewise.
        grow_rest: whether the rest grows by the same factor; else it stays as it is.
        power: chance that the test finds the gap.
        level: of the two-sided test.

    Returns:
        Patients, rounded up; infinite where the rest as it is is too small for any size of the group.
    """
    # On a log scale: from a hundredth of the group to a million times it.
    excess = lambda x: gap - _margin(group, rest, gap, math.exp(x), math.exp(x) if grow_rest else 1, power, level)  # noqa: E731
    root = _root(excess, math.log(0.01), math.log(1e6))
    return math.inf if math.isinf(root) else float(math.ceil(round(math.exp(root) * group.patients, 6)))


def power_of(gap: float, group: Sample, rest: Sample | None = None, *, level: float = 0.05) -> float:
    """Give the chance that a gap of this size is shown by the two-sided test."""
    from scipy.special import stdtr, stdtrit

    error, freedom = _error(group, rest, gap, 1, 1)
    if not freedom >= 1:
        return 0.0
    return float(stdtr(freedom, gap / error - stdtrit(freedom, 1 - level / 2)))


def _error(group: Sample, rest: Sample | None, gap: float, grown: float, rest_grown: float) -> tuple[float, float]:
    """Give the standard error of the difference and its degrees of freedom, both sides grown by a factor."""
    parts = [(group.variance(gap) / grown, group.scarcer * grown - 1)]
    if rest is not None:
        parts.append((rest.variance(0) / rest_grown, rest.scarcer * rest_grown - 1))
    variance = sum(v for v, _ in parts)
    if min(freedom for _, freedom in parts) < 1:
        return math.sqrt(variance), math.nan
    return math.sqrt(variance), variance**2 / sum(v**2 / freedom for v, freedom in parts)


def _margin(group: Sample, rest: Sample | None, gap: float, grown: float, rest_grown: float, power: float, level: float) -> float:
    from scipy.special import stdtrit

    error, freedom = _error(group, rest, gap, grown, rest_grown)
    if not freedom >= 1:
        return math.inf
    return float(stdtrit(freedom, 1 - level / 2) + stdtrit(freedom, power)) * error


def _root(excess: Callable[[float], float], low: float, high: float) -> float:
    """Find where a function that rises through 0 does so; `low` where it is above already, infinite where it never is."""
    if excess(high) < 0:
        return math.inf
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (low, middle) if excess(middle) >= 0 else (middle, high)
    return high
