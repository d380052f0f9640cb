"""PERMANOVA in linear time: how much of the variation of many features at once goes with an attribute.

For Euclidean distances the pseudo-F of Anderson (2001) needs no matrix of distances: sums of squared distances within
groups are sums of squares about centroids. Labels move between patients, never between images of one patient, and where
other attributes are held fixed they move within strata of those alone, while a regression takes out what those explain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from curate.identify.effects import LEVEL


@dataclass(frozen=True)
class Permanova:
    """One attribute's share of the variation.

    Attributes:
        r2: the attribute's sum of squares over the total; with others held fixed the sum of squares that it adds to them.
        f: pseudo-F; p: share of permutations with at least that sum of squares, the observed one counted.
        floor: 99th percentile of r2 under permutation: what an attribute without any effect stays under.
        chance: mean of r2 under permutation: what chance alone gives.
        r2_each: (d,) the same share, feature by feature; floor_each: (d,) its floor.
        n: images; n_patients: people; groups: groups compared.
    """

    r2: float
    f: float
    p: float
    floor: float
    chance: float
    n: int
    n_patients: int
    groups: int
    r2_each: np.ndarray = field(repr=False)
    floor_each: np.ndarray = field(repr=False)


def permanova(
    features: np.ndarray,
    group: np.ndarray,
    patient: np.ndarray,
    *,
    strata: np.ndarray | None = None,
    covariates: np.ndarray | None = None,
    permutations: int = 199,
    seed: int = 0,
) -> Permanova | None:
    """Test one attribute.

    The model is features ~ strata + covariates + groups; the statistic is the sum of squares that the groups add to the
    rest (McArdle and Anderson 2001, the marginal test of vegan's adonis2). Under permutation everything but the groups stays as it is.

    Args:
        features: (n, d) floating point; standardise beforehand what has different units.
        group: (n,) integers from 0, negative is left out.
        patient: (n,) integers.
        strata: (n,) integers, the same for all images of a patient; labels move within them.
        covariates: (n, k), what else is held fixed, by linear regression within the strata.
        permutations: how many; p is no smaller than 1 / (permutations + 1).
        seed: of the permutations.

    Returns:
        The result, or None where fewer than two groups have images, the features don't vary, or the groups don't vary once the rest is
        held fixed.

    Raises:
        ValueError: where a patient's images lie in several strata.
    """
    kept = np.flatnonzero(group >= 0)
    g = _number(group[kept])
    count = int(g.max()) + 1 if len(g) else 0
    if count < 2:
        return None
    person = _number(patient[kept])
    x = features[kept].astype(np.float64)
    x -= x.mean(axis=0)
    squares = np.einsum("ij,ij->j", x, x)
    total = float(squares.sum())
    if total <= 1e-12:
        return None
    stratum = _number(strata[kept]) if strata is not None else np.zeros(len(g), dtype=np.int64)
    z = covariates[kept].astype(np.float64) if covariates is not None else np.zeros((len(g), 0))
    _centre(x, stratum)
    _centre(z, stratum)
    gram = _pseudo_inverse(z.T @ z)
    x -= z @ (gram @ (z.T @ x))
    units = _Units(g, person, stratum, np.hstack([x, z]))
    test = _Test(units, count, x.shape[1], gram)
    observed, rank = test.squares(units.label)
    if rank == 0:
        return None
    left = float(np.einsum("ij,ij->", x, x)) - float(observed.sum())
    freedom = len(g) - (int(stratum.max()) + 1) - round(float(np.trace(gram @ (z.T @ z)))) - rank
    if freedom <= 0:
        return None
    rng = np.random.default_rng(seed)
    null = np.array([test.squares(label)[0] for label in units.permuted(rng, permutations)])
    sums = null.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        each, floors = observed / squares, np.quantile(null, LEVEL, axis=0) / squares
    return Permanova(
        r2=float(observed.sum()) / total,
        f=(float(observed.sum()) / rank) / (left / freedom) if left > 0 else float("inf"),
        p=(1 + int((sums >= observed.sum() - 1e-12 * total).sum())) / (permutations + 1),
        floor=float(np.quantile(sums, LEVEL)) / total,
        chance=float(sums.mean()) / total,
        n=len(g),
        n_patients=int(person.max()) + 1,
        groups=count,
        r2_each=each,
        floor_each=floors,
    )


class _Units:
    """What labels move between.

    Where each patient has one label its images are added up and labels move between patients of a stratum. Where a patient
    has several (a visit on another camera, the left and the right eye) the whole pattern moves to a patient of the
    same stratum with as many images, and is turned by a random number of places there.

    Attributes:
        label, stratum: (m,); weight: (m,) images; sums: (m, d + k).
    """

    def __init__(self, g: np.ndarray, person: np.ndarray, stratum: np.ndarray, values: np.ndarray) -> None:
        order = np.argsort(person, kind="stable")
        start = np.flatnonzero(np.r_[True, np.diff(person[order]) > 0])
        size = np.diff(np.r_[start, len(order)])
        own = stratum[order][start]
        if (np.repeat(own, size) != stratum[order]).any():
            raise ValueError("images of one patient lie in several strata")
        first = g[order][start]
        self._constant = bool((np.repeat(first, size) == g[order]).all())
        if self._constant:
            self.label, self.stratum, self.weight = first, own, size.astype(np.float64)
            self.sums = np.add.reduceat(values[order], start, axis=0) if len(start) < len(order) else values[order]
            self._class, self._size = own, np.ones(len(first), dtype=np.int64)
        else:
            # Patients by class (stratum and number of images), so that a patient's place can take another's pattern.
            kind = _number(own * (int(size.max()) + 1) + size)
            by_class = np.argsort(kind, kind="stable")
            rows = order[_ranges(start[by_class], size[by_class])]
            self.label, self.stratum, self.sums = g[rows], stratum[rows], values[rows]
            self.weight = np.ones(len(rows))
            self._class, self._size = kind[by_class], size[by_class]
        self._sorted = np.argsort(self._class, kind="stable")

    def permuted(self, rng: np.random.Generator, times: int) -> Iterator[np.ndarray]:
        start = np.r_[0, np.cumsum(self._size)[:-1]]
        whole = self._class[self._sorted[0]] == self._class[self._sorted[-1]]
        for _ in range(times):
            if whole:
                other = rng.permutation(len(self._class))
            else:
                # A random key sorted within each class is a permutation of the class.
                other = np.empty(len(self._class), dtype=np.int64)
                other[self._sorted] = np.argsort(self._class + rng.random(len(self._class)) * 0.999)
            if self._constant:
                yield self.label[other]
                continue
            turn = rng.integers(0, self._size)
            within = _ranges(np.zeros(len(self._size), dtype=np.int64), self._size)
            place = (within + np.repeat(turn, self._size)) % np.repeat(self._size, self._size)
            yield self.label[np.repeat(start[other], self._size) + place]


class _Test:
    """The sums of squares that labels explain, feature by feature."""

    def __init__(self, units: _Units, groups: int, features: int, gram: np.ndarray) -> None:
        self._units, self._groups, self._features, self._gram = units, groups, features, gram
        self._strata = int(units.stratum.max()) + 1
        self._stratum_weight = np.bincount(units.stratum, units.weight)
        self._pointer = np.arange(len(units.weight) + 1)
        self._ones = np.ones(len(units.weight))

    def squares(self, label: np.ndarray) -> tuple[np.ndarray, int]:
        """Give the (d,) sums of squares and the degrees of freedom of the groups.

        With D the labels as 0/1 columns, centred within strata and freed of the covariates, the sum of squares of a feature
        x is x'D (D'D)^+ D'x. x is free of strata and covariates already, so D'x is a sum over images by label.
        """
        from scipy.sparse import csc_matrix

        u, count = self._units, self._groups
        member = csc_matrix((self._ones, label, self._pointer), shape=(count, len(label)))
        by_label = member @ u.sums
        inner, outer = by_label[:, : self._features], by_label[:, self._features :]
        cells = np.bincount(u.stratum * count + label, u.weight, minlength=self._strata * count).reshape(self._strata, count)
        design = np.diag(cells.sum(axis=0)) - cells.T @ (cells / self._stratum_weight[:, None])
        if outer.shape[1]:
            design -= outer @ self._gram @ outer.T
        values, vectors = np.linalg.eigh(design)
        used = values > 1e-9 * max(float(self._stratum_weight.sum()), 1.0) / count
        projected = vectors[:, used].T @ inner
        return (projected**2 / values[used, None]).sum(axis=0), int(used.sum())


def labels_left(group: np.ndarray, strata: np.ndarray | None, covariates: np.ndarray | None) -> float:
    """Give the share of the labels' own variation that is left once the others are held fixed.

    With strata alone it is 1 - Goodman and Kruskal's tau: 0 where each stratum holds one group, 1 where all hold the same mix.

    Args:
        group: (n,) integers from 0, none left out.
        strata: (n,) integers; covariates: (n, k); either may be None.
    """
    g = _number(group)
    count = int(g.max()) + 1
    labels = (g[:, None] == np.arange(count)).astype(np.float64)
    stratum = _number(strata) if strata is not None else np.zeros(len(g), dtype=np.int64)
    whole = float((labels.var(axis=0) * len(g)).sum())
    if whole == 0:
        return 0.0
    _centre(labels, stratum)
    if covariates is not None and covariates.shape[1]:
        z = covariates.astype(np.float64)
        _centre(z, stratum)
        labels -= z @ (_pseudo_inverse(z.T @ z) @ (z.T @ labels))
    return min(float((labels**2).sum()) / whole, 1.0)


def _number(codes: np.ndarray) -> np.ndarray:
    return np.unique(codes, return_inverse=True)[1]


def _ranges(start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Concatenate start[i], start[i] + 1, ... of length size[i]."""
    ends = np.cumsum(size)
    return np.arange(int(ends[-1])) - np.repeat(ends - size, size) + np.repeat(start, size)


def _centre(x: np.ndarray, stratum: np.ndarray) -> None:
    """Subtract each stratum's mean, in place."""
    if not x.shape[1]:
        return
    from scipy.sparse import csc_matrix

    member = csc_matrix((np.ones(len(x)), stratum, np.arange(len(x) + 1)))
    x -= ((member @ x) / np.bincount(stratum)[:, None])[stratum]


def _pseudo_inverse(gram: np.ndarray) -> np.ndarray:
    """Invert a symmetric matrix where it can be; columns that are nothing, or that others determine, drop out."""
    if not len(gram):
        return gram
    diagonal = np.diag(gram)
    scale = np.sqrt(np.where(diagonal > 1e-10 * diagonal.max(), diagonal, np.inf))
    values, vectors = np.linalg.eigh(gram / np.outer(scale, scale))
    used = values > 1e-9
    return (vectors[:, used] / values[used]) @ vectors[:, used].T / np.outer(scale, scale)
