"""Which sample comes when, and the random numbers it gets: pure functions of the seed, the epoch and the sample.

Nothing here remembers anything, so a run resumes from one integer (the step), and neither the number of workers
nor an interruption changes what a step sees.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_ORDER, _VIEW, _REPLACEMENT, _BATCH = 1, 2, 3, 4


def _generator(purpose: int, seed: int, epoch: int, sample: int, part: int = 0) -> np.random.Generator:
    # Philox counts in the first word of its counter; the other words keep the streams apart, so they never overlap.
    return np.random.Generator(np.random.Philox(key=[seed, purpose], counter=[0, epoch, sample, part]))


@lru_cache(maxsize=16)
def epoch_order(seed: int, epoch: int, samples: int, part: int = 0) -> NDArray[np.int64]:
    """Give the order of one epoch: every sample once.

    Args:
        seed: of the run, not negative.
        epoch: counted from 0.
        samples: size of the shard set.
        part: number of the shard set within a mixture, so that sets of one size have orders of their own.

    Returns:
        int64 [samples], a uniformly random permutation; not to be written to.
    """
    order = _generator(_ORDER, seed, epoch, 0, part).permutation(samples)
    order.flags.writeable = False
    return order


def batch_samples(step: int, *, batch: int, samples: int, seed: int) -> list[tuple[int, int]]:
    """Give the samples of a step's global batch.

    The epochs follow one another without a gap: a batch may hold the end of one and the start of the next, no
    sample is dropped, and every batch has the same size.

    Args:
        step: counted from 0.
        batch: samples a step, over all processes.
        samples: size of the shard set.
        seed: of the run.

    Returns:
        `batch` pairs (epoch, sample).

    Example:
        >>> pairs = [pair for step in range(5) for pair in batch_samples(step, batch=4, samples=10, seed=0)]
        >>> sorted(s for epoch, s in pairs if epoch == 0) == sorted(s for epoch, s in pairs if epoch == 1) == list(range(10))
        True
    """
    first = step * batch
    return [(p // samples, int(epoch_order(seed, p // samples, samples)[p % samples])) for p in range(first, first + batch)]


def view_generator(seed: int, epoch: int, sample: int) -> np.random.Generator:
    """Give the source of every random choice about one sample in one epoch: crop, flip, mask."""
    return _generator(_VIEW, seed, epoch, sample)


def batch_generator(seed: int, step: int) -> np.random.Generator:
    """Give the source of what is shared out over the global batch of a step, whoever makes which part of it."""
    return _generator(_BATCH, seed, step, 0)


def replacements(seed: int, epoch: int, sample: int, samples: int) -> NDArray[np.int64]:
    """Give the samples that stand in, in this order, for a damaged one: int64 [32]."""
    return _generator(_REPLACEMENT, seed, epoch, sample).integers(samples, size=32)
