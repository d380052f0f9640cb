"""Estimates of several groups held against each other: differences with intervals, and a test that all are one."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.panel import Sizes

Floats = NDArray[np.float64]
NAN = math.nan


@dataclass(frozen=True)
class GroupEstimates:
    """One metric of one model in the groups of an attribute that can be tested.

    Attributes:
        names: of the groups.
        sizes: of each.
        values: (k,) the estimates.
        covariance: (k, k) of their sampling errors: diagonal where no patient is in two groups.
        freedom: (k,) degrees of freedom of each error.
        logit: whether errors are taken as symmetric on the logit scale, as for numbers between 0 and 1.
        note: what should be known about the errors, or ``""``.
    """

    names: tuple[str, ...]
    sizes: tuple[Sizes, ...]
    values: Floats
    covariance: Floats
    freedom: Floats
    logit: bool = False
    note: str = ""

    def scaled(self) -> tuple[Floats, Floats]:
        """Give the values and their covariance on the scale on which errors are symmetric."""
        from scipy.special import logit

        if not self.logit:
            return self.values, self.covariance
        slope = 1 / (self.values * (1 - self.values))
        return logit(self.values), self.covariance * np.outer(slope, slope)

    def error(self, weights: Floats) -> float:
        """Give the standard error of a weighted sum of the values."""
        return math.sqrt(max(float(weights @ self.covariance @ weights), 0.0))

    def limits(self, weights: Floats, level: float = 0.95) -> tuple[float, float]:
        """Give the interval of a weighted sum of the values, from the intervals of the parts.

        Each part's distance to its own limit is squared and the squares are added ("square and add", MOVER), with the
        products of parts that share patients. A difference then inherits that an AUROC near 1 can be lower by more than
        it can be higher; with symmetric parts it is the ordinary interval.

        Args:
            weights: (k,), as 1 and -1 for a difference.
            level: of confidence.

        References:
            Newcombe 1998, Stat Med 17:873; Zou, Donner 2008, Stat Med 27:1693.
        """
        from scipy.special import expit, stdtrit

        at, covariance = self.scaled()
        half = stdtrit(self.freedom, 0.5 + level / 2) * np.sqrt(np.diag(covariance))
        low, high = (expit(at - half), expit(at + half)) if self.logit else (at - half, at + half)
        errors = np.sqrt(np.diag(self.covariance))
        together = self.covariance / np.outer(errors, errors) * np.outer(np.sign(weights), np.sign(weights))
        down = np.abs(weights) * np.where(weights > 0, self.values - low, high - self.values)
        up = np.abs(weights) * np.where(weights > 0, high - self.values, self.values - low)
        value = float(weights @ self.values)
        return value - math.sqrt(max(down @ together @ down, 0.0)), value + math.sqrt(max(up @ together @ up, 0.0))

    def p_value(self, weights: Floats) -> float:
        """Test that a weighted sum is 0: one less the highest level at which its interval leaves 0 out, 1e-12 at least."""
        from scipy.optimize import brentq

        value = float(weights @ self.values)
        side = 0 if value > 0 else 1
        # On a log scale, so that small p-values have as many digits as large ones.
        reaches = lambda x: self.limits(weights, 1 - math.exp(x))[side] * (1 if side == 0 else -1)  # noqa: E731
        smallest, largest = math.log(1e-12), -1e-12
        if reaches(smallest) > 0:
            return math.exp(smallest)
        if reaches(largest) < 0:  # 0 but for rounding
            return 1.0
        return math.exp(brentq(reaches, smallest, largest, xtol=1e-6))

    def against_others(self, i: int) -> Floats:
        """Give the weights that subtract from group i the mean of the others, each counted by its patients."""
        weights = np.array([size.n_patients for size in self.sizes], dtype=np.float64)
        weights[i] = 0
        weights /= -weights.sum()
        weights[i] = 1
        return weights


def cochran_q(groups: GroupEstimates) -> tuple[float, int, float]:
    """Test that the groups share one value.

    Cochran's Q is the sum of (value - pooled value)^2 / variance, with the pooled value weighted by the inverse
    variances; where patients are in several groups it is the quadratic form of the contrasts in their covariance, which
    is the same without such patients. Its chi-squared distribution takes the variances as known, and rejects too often
    in small groups: the p-value is Welch's, from an F distribution that knows how many patients each variance comes from.
    Numbers between 0 and 1 are compared on the logit scale: near 1 a higher estimate has a smaller error on its own
    scale, and groups that are high by chance would count for too much.

    Returns:
        Q, its degrees of freedom, p; NaN where a variance is unknown or 0.

    References:
        Cochran 1954, Biometrics 10:101; Welch 1951, Biometrika 38:330.
    """
    from scipy.special import fdtrc

    k = len(groups.values)
    if k < 2 or not (np.diag(groups.covariance) > 0).all():
        return NAN, max(k - 1, 0), NAN
    at, covariance = groups.scaled()
    contrasts = np.eye(k)[1:] - np.eye(k)[:1]
    gaps = contrasts @ at
    q = float(gaps @ np.linalg.pinv(contrasts @ covariance @ contrasts.T, hermitian=True) @ gaps)
    weights = 1 / np.diag(covariance)
    spread = float(((1 - weights / weights.sum()) ** 2 / groups.freedom).sum())
    f = q / (k - 1) / (1 + 2 * (k - 2) / (k**2 - 1) * spread)
    return q, k - 1, float(fdtrc(k - 1, (k**2 - 1) / (3 * spread), f))
