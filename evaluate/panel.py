"""One group at a time: how many there are, and how well every model does on them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from evaluate.bootstrap import bootstrap_error
from evaluate.influence import effective_patients

Floats = NDArray[np.float64]
MACRO = "macro"
FEW = 100  # positives or negatives below which an estimate is flagged
TOO_FEW = 10  # ... and below which a group is not tested

Line = tuple[str, str]  # a metric and its threshold, "" where it has none
Key = tuple[str, str, str, str]  # model, metric, threshold, class or MACRO


@dataclass(frozen=True)
class Sizes:
    """How many stand behind an estimate. For a macro average, the smallest over the classes averaged."""

    n: int
    n_pos: int
    n_neg: int
    n_patients: int
    n_pos_patients: int
    n_neg_patients: int

    @property
    def scarcer(self) -> int:
        """Patients on the scarcer side: what bounds how far an interval can be trusted."""
        return min(self.n_pos_patients, self.n_neg_patients)

    @property
    def flag(self) -> str:
        """``"too few"`` (shown, not tested), ``"few"``, or ``""``."""
        if min(self.n_pos, self.n_neg) < TOO_FEW or self.scarcer < 2:
            return "too few"
        return "few" if min(self.n_pos, self.n_neg) < FEW else ""


@dataclass(frozen=True)
class Measured:
    """A metric of one model on one group.

    Attributes:
        metric: which.
        by_seed: (seeds,) the metric with each seed.
        spread: what its sampling error is computed from, in an order that models share: (patients,) influence terms, or
            (replicates,) bootstrap replicates.
        replicated: whether `spread` holds replicates.
        images: images that it counts; of a proportion, its denominator.
        patients: patients behind it, on the scarcer side where it needs two: degrees of freedom are one less.
        classes: names of the classes that it averages.
        noise: (replicates,) of an ECE, see `calibration.replicate_ece`; None of all others.
    """

    metric: str
    by_seed: Floats
    spread: Floats
    replicated: bool
    images: int
    patients: int
    classes: tuple[str, ...]
    noise: Floats | None = None

    @property
    def value(self) -> float:
        """The mean over seeds."""
        return float(self.by_seed.mean())

    @property
    def error(self) -> float:
        """The standard error under sampling of patients; NaN where it can't be had."""
        return _spread_error(self.spread, self.replicated)

    @property
    def effective(self) -> float:
        """Patients that its degrees of freedom stand for, less one: the effective number, except where the scarcer side says it.

        In simulations (``benchmarks/coverage.py``) the patients of the scarcer side serve AUROC and calibration slope best.
        """
        if self.replicated or self.metric in ("auroc", "calibration_slope") or self.patients < 2 or not self.error > 0:
            return float(self.patients)
        return max(2.0, effective_patients(self.spread))


@dataclass(frozen=True)
class Difference:
    """The difference of two models in one metric: its value, its standard error and its degrees of freedom."""

    value: float
    error: float
    freedom: float


def difference_of(a: Measured, b: Measured) -> Difference:
    """Subtract: `b` minus `a`, the same metric of two models on the same images.

    The degrees of freedom are those of the effective number of patients, and for Brier score, net benefit and calibration
    slope, as for replicates, of the patients themselves: in simulations with 100 to 2,000 images each keeps the level of
    the test, the other doesn't.
    """
    spread = b.spread - a.spread
    patients = float(min(a.patients, b.patients))
    if not a.replicated and a.metric not in ("brier", "net_benefit", "calibration_slope"):
        patients = effective_patients(spread) if patients > 1 else patients
    return Difference(b.value - a.value, _spread_error(spread, a.replicated), max(patients - 1, float(min(a.patients, b.patients) > 1)))


def _spread_error(spread: Floats, replicated: bool) -> float:
    return bootstrap_error(spread) if replicated else math.sqrt(float(np.dot(spread, spread)))


@dataclass(frozen=True)
class Panel:
    """Everything measured on one group.

    Attributes:
        attribute, group: which; both ``all`` for everyone.
        sizes: class name or `MACRO` -> counts.
        dropped: judged classes that the group holds none of, or nothing else, so that they can't be ranked.
        patients: (patients,) the set's patient codes, in the order of influence terms.
        lines: (metric, threshold) of what was asked for, in the order in which it is shown.
        measured: (model, metric, threshold, class name or `MACRO`) -> result, where it can be had.
        reasons: the same keys -> why it can't, where counts don't say it.
        cuts: (model, threshold, class name) -> (seeds,) thresholds.
    """

    attribute: str
    group: str
    sizes: dict[str, Sizes]
    dropped: tuple[str, ...]
    patients: NDArray[np.int64]
    lines: tuple[Line, ...]
    measured: dict[Key, Measured] = field(default_factory=dict)
    reasons: dict[Key, str] = field(default_factory=dict)
    cuts: Mapping[tuple[str, str, str], Floats] = field(default_factory=dict)

    def sizes_over(self, classes: Sequence[str]) -> Sizes:
        """Give the smallest counts over some classes; those of the macro average where none is named."""
        return smallest([self.sizes[name] for name in classes]) if classes else self.sizes[MACRO]


def smallest(sizes: Sequence[Sizes]) -> Sizes:
    """Give the smallest of each count."""
    return Sizes(*(min(getattr(s, name) for s in sizes) for name in Sizes.__dataclass_fields__))
