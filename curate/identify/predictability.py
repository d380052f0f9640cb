"""Predictability: whether an attribute can be read from the features, by a linear probe and by the neighbours.

Both are for patients: those of the test fold, or of the neighbours, are other people than those learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from curate.identify.effects import LEVEL

COMPONENTS = 50
_FOLDS = 5
_RIDGE = 1e-3  # of the components' variance
_NEIGHBOURS = 10
_BLOCK = 1024


@dataclass(frozen=True)
class Score:
    """A score with what chance gives.

    Attributes:
        value: the score; NaN where it can't be had.
        floor: 99th percentile of it under permutation between patients.
        chance: its mean under permutation.
        each: by group where the score is a mean over groups.
    """

    value: float
    floor: float
    chance: float
    each: tuple[float, ...] = ()


def principal_components(features: np.ndarray, count: int = COMPONENTS) -> np.ndarray:
    """Give the first principal components, unscaled, with signs fixed by the largest loading.

    Args:
        features: (n, d) floating point.
        count: how many at most.

    Returns:
        (n, min(count, d)) float64.
    """
    x = features.astype(np.float64)
    x -= x.mean(axis=0)
    _, vectors = np.linalg.eigh(x.T @ x)
    vectors = vectors[:, ::-1][:, : min(count, x.shape[1])]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return x @ (vectors * signs)


class Probe:
    """A linear probe, cross-validated with patients grouped, ready to be fitted to many labels.

    Ridge regression on the components: closed form, so that the noise floor is the same probe fitted to permuted labels. On 0/1 labels
    its direction for two groups is that of linear discriminant analysis.

    Args:
        components: (n, k) float64.
        patient: (n,) integers.
        seed: of the folds.
    """

    def __init__(self, components: np.ndarray, patient: np.ndarray, seed: int) -> None:
        self.person = np.unique(patient, return_inverse=True)[1]
        people = int(self.person.max()) + 1
        fold = (np.random.default_rng(seed).permutation(people) % _FOLDS)[self.person]
        self._folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(min(_FOLDS, people))]
        self._maps = []
        for train, test in self._folds:
            centre = components[train].mean(axis=0)
            x = components[train] - centre
            gram = x.T @ x
            ridge = _RIDGE * float(np.trace(gram)) / len(gram) + 1e-300
            self._maps.append((x, np.linalg.solve(gram + ridge * np.eye(len(gram)), (components[test] - centre).T).T))

    def scores(self, labels: np.ndarray) -> np.ndarray:
        """Predict every row from the other folds: (n, c) for labels (n, c)."""
        predicted = np.empty(labels.shape)
        for (train, test), (x, to_score) in zip(self._folds, self._maps, strict=True):
            mean = labels[train].mean(axis=0)
            predicted[test] = to_score @ (x.T @ (labels[train] - mean)) + mean
        return predicted

    def groups(self, code: np.ndarray, count: int, permutations: int, rng: np.random.Generator) -> Score:
        """Give the area under the ROC curve, one group against the rest, averaged over groups.

        Args:
            code: (n,) integers from 0 below `count`.
        """

        def score(these: np.ndarray) -> np.ndarray:
            members = these[:, None] == np.arange(count)
            predicted = self.scores(members.astype(np.float64))
            return np.array([_auc(predicted[:, g], members[:, g]) for g in range(count)])

        each = score(code)
        null = [float(np.nanmean(score(code[rows]))) for rows in _moves(self.person, permutations, rng)]
        return _scored(float(np.nanmean(each)), null, tuple(each.tolist()))

    def number(self, values: np.ndarray, permutations: int, rng: np.random.Generator) -> Score:
        """Give R squared of a number on people not learned from; under 0 where the mean would do better."""

        def score(these: np.ndarray) -> float:
            residual = these - self.scores(these[:, None])[:, 0]
            return 1 - float((residual**2).sum() / ((these - these.mean()) ** 2).sum())

        return _scored(score(values), [score(values[rows]) for rows in _moves(self.person, permutations, rng)])


def _scored(value: float, null: list[float], each: tuple[float, ...] = ()) -> Score:
    return Score(value, float(np.quantile(null, LEVEL)), float(np.mean(null)), each)


def _moves(person: np.ndarray, times: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Give rows from which to take labels so that they move between people; one with more images repeats what it is given."""
    order = np.argsort(person, kind="stable")
    size = np.bincount(person)
    start = np.r_[0, np.cumsum(size)[:-1]]
    within = np.empty(len(person), dtype=np.int64)
    within[order] = np.arange(len(person)) - np.repeat(start, size)

    for _ in range(times):
        other = rng.permutation(len(size))[person]
        yield order[start[other] + within % size[other]]


def _auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Give the area under the ROC curve by ranks, ties counted half; NaN where there is one class."""
    from scipy.stats import rankdata

    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    return float((rankdata(score)[positive].sum() - n * (n + 1) / 2) / (n * m))


def nearest_of_others(components: np.ndarray, patient: np.ndarray, count: int = _NEIGHBOURS) -> np.ndarray:
    """Find each row's nearest neighbours among other people, by Euclidean distance.

    Args:
        components: (n, k); patient: (n,).
        count: how many.

    Returns:
        (n, count) int64, nearest first; -1 where there are fewer other people's rows.
    """
    n = len(components)
    x = components.astype(np.float32)
    length = np.einsum("ij,ij->i", x, x)
    take = min(count, n - 1)
    found = np.full((n, count), -1)
    for low in range(0, n, _BLOCK):
        rows = slice(low, min(low + _BLOCK, n))
        distance = length - 2 * (x[rows] @ x.T)  # without the row's own length: its order is the same
        distance[patient[rows][:, None] == patient] = np.inf
        near = np.argpartition(distance, take, axis=1)[:, :take] if take < n - 1 else np.argsort(distance, axis=1)[:, :take]
        by = np.take_along_axis(distance, near, axis=1)
        order = np.argsort(by, axis=1, kind="stable")
        near = np.take_along_axis(near, order, axis=1)
        near[np.isinf(np.take_along_axis(by, order, axis=1))] = -1
        found[rows, :take] = near
    return found


def purity(neighbours: np.ndarray, code: np.ndarray, patient: np.ndarray, permutations: int, rng: np.random.Generator) -> Score:
    """Say how much likelier a neighbour is of the same group than chance has it.

    Purity is the share of neighbours of the row's own group, each group counted alike; chance is the same for a label moved
    between patients. The score is (purity - chance) / (1 - chance): 0 is chance, 1 is pure.

    Args:
        neighbours: from `nearest_of_others`.
        code: (n,) integers, -1 is left out on both sides.
        patient: (n,).
        permutations: how many; rng: their source.
    """
    person = np.unique(patient, return_inverse=True)[1]
    count = int(code.max()) + 1

    def pure(these: np.ndarray) -> float:
        around = np.where(neighbours >= 0, these[neighbours], -1)
        known = (around >= 0) & (these >= 0)[:, None]
        same = np.bincount(these[these >= 0], (known & (around == these[:, None])).sum(axis=1)[these >= 0], minlength=count)
        whole = np.bincount(these[these >= 0], known.sum(axis=1)[these >= 0], minlength=count)
        return float((same[whole > 0] / whole[whole > 0]).mean())

    null = np.array([pure(code[rows]) for rows in _moves(person, permutations, rng)])
    chance = float(null.mean())
    lift: Callable[[float], float] = lambda value: (value - chance) / (1 - chance) if chance < 1 else 0.0  # noqa: E731
    return Score(lift(pure(code)), lift(float(np.quantile(null, LEVEL))), chance)
