"""The bootstrap of patients: draws that every model, class and seed of a group share."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluate.precision import Floats, Ranking, Weighted, weighted_metrics

# Cells of a block of replicates: small enough to stay in a core's cache, large enough to amortise the calls.
BLOCK = 1 << 18


@dataclass(frozen=True)
class Draws:
    """Replicates of a sample of patients: whole patients, as many as there are, with replacement.

    Attributes:
        patients: number of patients, coded 0, 1, ...
        replicates: how many replicates.
        seed: of the draws.
        name: mixed into the seed, so that each task and group has draws of its own.
    """

    patients: int
    replicates: int
    seed: int
    name: str = ""

    def _generator(self, purpose: str = "") -> np.random.Generator:
        digest = hashlib.sha256(f"{self.seed}:{self.name}{purpose}".encode()).digest()
        return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))

    def units(self, people: int) -> NDArray[np.int64]:
        """Put more people than `patients` into that many random groups of (nearly) one size, which are then what is drawn.

        Groups of independent people are independent, so their bootstrap has the same variance; ten thousand of them show
        it to a percent, at a fraction of the draws.

        Args:
            people: how many there are.

        Returns:
            (people,) each one's group; themselves where there are no more than `patients`.
        """
        if people <= self.patients:
            return np.arange(people, dtype=np.int64)
        return self._generator(":units").permutation(people).astype(np.int64) % self.patients

    def blocks(self, width: int) -> Iterator[NDArray[np.int32]]:
        """Yield the replicates in blocks; how they are cut doesn't change them.

        Args:
            width: images a replicate touches; sets how many replicates make a block.

        Yields:
            (replicates of the block, patients) int32: how often each patient is drawn.
        """
        rng = self._generator()
        step = max(1, BLOCK // max(width, self.patients, 1))
        for first in range(0, self.replicates, step):
            rows = min(step, self.replicates - first)
            drawn = (rng.random((rows, self.patients)) * self.patients).astype(np.int64)
            drawn += np.arange(rows, dtype=np.int64)[:, None] * self.patients
            yield np.bincount(drawn.ravel(), minlength=rows * self.patients).reshape(rows, self.patients).astype(np.int32)


def bootstrap(rankings: Sequence[Ranking], draws: Draws, prevalences: Sequence[float] | None = None) -> Weighted:
    """Recompute AUROC and average precision of several rankings of the same images under the same draws.

    O(r n log n + B r n) for r rankings and B replicates; memory is bounded by a block. A subgroup costs what its
    images cost, because only they are ranked.

    Args:
        rankings: from `precision.rank`, with patients as their units.
        draws: of those patients.
        prevalences: one a ranking, at which average precision is adjusted; None: it isn't.

    Returns:
        (rankings, replicates) of each metric; NaN where a replicate drew no positives or no negatives.

    References:
        Field, Welsh 2007, J R Stat Soc B 69:369 (resampling whole clusters).
    """
    found = Weighted(*(np.empty((len(rankings), draws.replicates)) for _ in Weighted._fields))
    first = 0
    for counts in draws.blocks(max((len(r.units) for r in rankings), default=1)):
        last = first + len(counts)
        for row, ranking in enumerate(rankings):
            for whole, block in zip(found, weighted_metrics(ranking, counts, prevalences[row] if prevalences else None), strict=True):
                whole[row, first:last] = block
        first = last
    return found


def bootstrap_error(replicates: Floats) -> float:
    """Give the standard error that replicates show.

    Args:
        replicates: (B,) values; NaN ones (a class was not drawn) are left out.

    Returns:
        Their standard deviation; NaN where fewer than two are usable.
    """
    usable = replicates[~np.isnan(replicates)]
    return float(usable.std(ddof=1)) if len(usable) > 1 else math.nan
