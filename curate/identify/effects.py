"""Effects: how much of a measure's variation goes with an attribute, by rank, with intervals and tests by patient.

At a million images every p-value is small: what counts is the share of variation and its interval.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = 0.99  # share of archives without any effect that stay under a noise floor


@dataclass(frozen=True)
class Effect:
    """One attribute's effect on one measure.

    Attributes:
        epsilon_squared: H / (n - 1), 0 to 1: the share of the variation of ranks that lies between groups.
        low, high: 95 % interval, patients as clusters.
        floor: what an attribute without any effect stays under in 99 of 100 archives of these patients.
        h: Kruskal and Wallis's statistic, corrected for ties.
        p: of H, patients as clusters.
        p_images: of H as if every image were another person's (the textbook's chi-squared test).
        n: images; n_patients: people; groups: groups with at least one image.
    """

    epsilon_squared: float
    low: float
    high: float
    floor: float
    h: float
    p: float
    p_images: float
    n: int
    n_patients: int
    groups: int


class RankedMeasure:
    """A measure that has been sorted once, to be compared by many attributes.

    Args:
        values: (n,) the measure; NaN is left out.
    """

    def __init__(self, values: np.ndarray) -> None:
        order = np.argsort(values, kind="stable")
        self.order = order[: int(np.isfinite(values).sum())] if not np.isinf(values).any() else order[np.isfinite(values[order])]
        ordered = values[self.order]
        # Equal values share a number, in rising order.
        self.tie = np.r_[0, np.cumsum(ordered[1:] != ordered[:-1])] if len(ordered) else np.zeros(0, dtype=np.int64)

    @property
    def constant(self) -> bool:
        """Whether no two values differ."""
        return not len(self.tie) or self.tie[-1] == 0


def kruskal_wallis(measure: RankedMeasure | np.ndarray, group: np.ndarray, patient: np.ndarray) -> Effect | None:
    """Compare groups by rank.

    Kruskal and Wallis (1952); epsilon squared after Tomczak and Tomczak (2014). The interval is that of the functional
    12 sum_g p_g (E[F(X) | g] - 1/2)^2, of which epsilon squared is the estimate, by its influence function, added up
    within patients (one pass where a bootstrap takes hundreds); near no effect, where that function vanishes, the
    variance of the quadratic form takes over. The test allows for several images a patient as Rao and Scott (1984) do for
    surveys: without an effect H is a weighted sum of chi-squared variables, matched by its first two moments (Satterthwaite).

    Args:
        measure: (n,) the values, NaN left out; or the same, sorted already.
        group: (n,) integers, negative is left out.
        patient: (n,) integers, not negative.

    Returns:
        The effect, or None where fewer than two groups have images or the values don't vary.
    """
    measure = measure if isinstance(measure, RankedMeasure) else RankedMeasure(np.asarray(measure, dtype=float))
    kept = group[measure.order] >= 0
    rows = measure.order[kept]
    n = len(rows)
    g = _renumber(group[rows])
    count = int(g.max()) + 1 if n else 0
    tie = measure.tie[kept]
    if count < 2 or tie[0] == tie[-1]:
        return None
    start = np.flatnonzero(np.r_[True, tie[1:] != tie[:-1]])
    ties = np.diff(np.r_[start, n])
    place = np.repeat(np.arange(len(start)), ties)
    rank = (start + (ties + 1) / 2)[place]
    sizes = np.bincount(g)
    mean = np.bincount(g, rank) / sizes
    correction = 1 - float((ties.astype(float) ** 3 - ties).sum()) / (float(n) ** 3 - n)
    h = 12 / (n * (n + 1.0)) * float((sizes * (mean - (n + 1) / 2) ** 2).sum()) / correction
    epsilon = h / (n - 1)
    people = _renumber(patient[rows])
    f = (rank - 0.5) / n  # the mid-distribution function at each value
    first, second = _chance_moments(f, g, sizes, people)
    scale, freedom = second / first, first**2 / second
    from scipy.stats import chi2, norm

    influence = _influence(f, g, sizes, start, ties, place) * 12 / correction
    clusters = np.bincount(people, influence)
    error = float(np.sqrt((clusters**2).sum() / n**2 + 2 * second / (n - 1.0) ** 2))
    reach = float(norm.ppf(0.975)) * error
    return Effect(
        epsilon_squared=epsilon,
        low=max(epsilon - reach, 0.0),
        high=min(epsilon + reach, 1.0),
        floor=float(scale * chi2.ppf(LEVEL, freedom)) / (n - 1),
        h=h,
        p=float(chi2.sf(h / scale, freedom)),
        p_images=float(chi2.sf(h, count - 1)),
        n=n,
        n_patients=int(people.max()) + 1,
        groups=count,
    )


def _renumber(codes: np.ndarray) -> np.ndarray:
    """Number the codes that occur from 0, in rising order, without sorting."""
    if not len(codes):
        return codes.astype(np.int64)
    occurs = np.bincount(codes) > 0
    return (np.cumsum(occurs) - 1)[codes]


def _chance_moments(f: np.ndarray, g: np.ndarray, sizes: np.ndarray, people: np.ndarray) -> tuple[float, float]:
    """Give the sum and the sum of squares of the eigenvalues of H's design effect where no group differs.

    Per patient t_g = sum over its images of ([in g] - p_g) (F - mean F); H is the squared length of sum t, each part over
    sqrt(n_g) and the standard deviation of F, so its design effect is the covariance of sum t, scaled likewise.
    """
    count, n = len(sizes), len(f)
    r = f - f.mean()
    total = np.bincount(people, r)
    table = np.bincount(people * count + g, r, minlength=len(total) * count).reshape(-1, count)
    scaled = (table - total[:, None] * (sizes / n)) / np.sqrt(sizes * float(r.var()))
    design = scaled.T @ scaled
    return float(np.trace(design)), float((design**2).sum())


def _influence(f: np.ndarray, g: np.ndarray, sizes: np.ndarray, start: np.ndarray, ties: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Give each value's influence on sum_g p_g (mu_g - 1/2)^2; values sorted, `start` and `ties` delimit equal ones."""
    n = len(f)
    share = sizes / n
    mu = np.bincount(g, f) / sizes
    shift = mu - 0.5
    influence = shift[g] ** 2 - float((share * shift**2).sum()) + 2 * shift[g] * (f - mu[g])
    # What each value does to everyone else's rank: the share of each group above it.
    for h in range(len(sizes)):
        if shift[h] == 0:
            continue
        below = np.r_[0, np.cumsum(g == h)]
        mid = (below[start] + below[start + ties]) / (2 * sizes[h])
        influence += (2 * share[h] * shift[h] * (1 - mid - mu[h]))[place]
    return influence


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjust p-values for the false discovery rate (Benjamini and Hochberg 1995).

    Args:
        p: (m,), NaN where there was no test.

    Returns:
        (m,), NaN likewise.

    Example:
        >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, np.nan])).round(3).tolist()
        [0.03, 0.04, 0.04, nan]
    """
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested])[::-1]]
    ranks = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / ranks), 1)
    return adjusted
