"""Several shard sets as one, each with its share of what is seen.

Which set the n-th sample of a run comes from is a pure function of n, so a mixture resumes from one integer as a single
set does. The shares are exact at any length: they are not drawn by chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate import ShardSet, UserError
from pretrain.order import epoch_order, replacements

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FINEST = 10**8  # largest denominator of a share: times 9e10 samples it still fits an int64


class Mixture:
    """Shard sets that are read as one. Its samples are numbered through, the first set's first.

    Every set has epochs of its own: all its samples once, in an order of its own, before any comes a second time.

    Args:
        sets: the opened shard sets, by name.
        weights: of each set, above 0; only their ratios count. Not given: by the sets' sizes.

    Raises:
        UserError: for an empty set, a weight that is not above 0 or too small, or a shard that is missing or too short.

    Attributes:
        sets: as given.
        shares: of each set, in their order; they add up to 1.
        keys: of all samples; with several sets, each behind its set's name and a slash.
    """

    def __init__(self, sets: Mapping[str, ShardSet], weights: Mapping[str, str | float | Fraction] | None = None) -> None:
        for shards in sets.values():
            if len(shards) == 0:
                raise UserError(f"{shards.folder}: the shard set is empty")
        self.sets = dict(sets)
        parsed = [_weight(name, weights[name] if weights is not None else len(shards)) for name, shards in self.sets.items()]
        self.shares = [weight / sum(parsed) for weight in parsed]
        if min(self.shares) < Fraction(1, _FINEST):
            raise UserError(f"--mix: the smallest weight is less than 1 in {_FINEST:,} of all; leave that set out")
        self._sets = list(self.sets.values())
        self._sizes = [len(shards) for shards in self._sets]
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        several = len(self.sets) > 1
        self.keys: list[str] = [f"{n}/{k}" if several else k for n, shards in self.sets.items() for k in shards.index["key"].tolist()]
        self._sha256: list[str] = [digest for shards in self._sets for digest in shards.index["sha256"].tolist()]
        for shards in self._sets:
            _touch(shards)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def folder(self) -> str:
        """Name the folders, for messages."""
        return ", ".join(str(shards.folder) for shards in self._sets)

    @property
    def about(self) -> dict[str, Any]:
        """Say what is mixed: name -> name, digest, images and path of the set, and its share as a fraction."""
        return {
            name: {
                "name": shards.about.get("name"),
                "digest": shards.digest,
                "images": len(shards),
                "path": str(shards.folder),
                "share": str(share),
            }
            for (name, shards), share in zip(self.sets.items(), self.shares, strict=True)
        }

    def _place(self, position: int) -> tuple[int, int]:
        """Give the number of a sample's set and the sample's within it."""
        part = int(np.searchsorted(self._starts, position, side="right")) - 1 if len(self._sets) > 1 else 0
        return part, position - int(self._starts[part])

    def read(self, position: int) -> tuple[bytes, str]:
        """Read one photograph.

        Args:
            position: of the sample, numbered through.

        Returns:
            Its bytes (JPEG), and the SHA-256 that they should have.
        """
        part, sample = self._place(position)
        return self._sets[part].read(sample), self._sha256[position]

    def batch_samples(self, step: int, *, batch: int, seed: int) -> list[tuple[int, int]]:
        """Give the samples of a step's global batch; of a single set the same as `pretrain.order.batch_samples`.

        Args:
            step: counted from 0.
            batch: samples a step, over all processes.
            seed: of the run.

        Returns:
            `batch` pairs (epoch of the sample's set, sample numbered through).
        """
        counts = mixed_counts(np.arange(step * batch, (step + 1) * batch + 1), self.shares)
        parts = np.diff(counts, axis=1).argmax(axis=0).tolist()
        samples = []
        for place, part in enumerate(parts):
            epoch, within = divmod(int(counts[part, place]), self._sizes[part])
            samples.append((epoch, int(self._starts[part] + epoch_order(seed, epoch, self._sizes[part], part)[within])))
        return samples

    def replacements(self, seed: int, epoch: int, position: int) -> list[int]:
        """Give the samples of the same set that stand in, in this order, for a damaged one."""
        part, _ = self._place(position)
        return (int(self._starts[part]) + replacements(seed, epoch, position, self._sizes[part])).tolist()

    def close(self) -> None:
        """Close the sets' files."""
        for shards in self._sets:
            shards.close()


def mixed_counts(seen: NDArray[np.int64], shares: list[Fraction]) -> NDArray[np.int64]:
    """Give how many of the first samples of a run come from each set.

    The sets are halved, each half gets its share of the samples rounded to a whole number that never falls as the
    run grows, and so on within each half. Between any two points of a run, the samples of one of two sets are
    less than one from their share; each further halving (three and four sets, five to eight) may add one.

    Args:
        seen: int64 [n], numbers of samples.
        shares: of the sets, adding up to 1.

    Returns:
        int64 [sets, n].

    Example:
        >>> mixed_counts(np.array([0, 1, 10, 100]), [Fraction(7, 10), Fraction(3, 10)]).tolist()
        [[0, 0, 7, 70], [0, 1, 3, 30]]
    """
    counts = np.empty((len(shares), len(seen)), dtype=np.int64)

    def split(first: int, stop: int, total: NDArray[np.int64]) -> None:
        if stop - first == 1:
            counts[first] = total
            return
        middle = (first + stop) // 2
        share = (sum(shares[first:middle], Fraction(0)) / sum(shares[first:stop], Fraction(0))).limit_denominator(_FINEST)
        left = total * share.numerator // share.denominator
        split(first, middle, left)
        split(middle, stop, total - left)

    split(0, len(shares), seen)
    return counts


def parse_mix(parts: list[str]) -> dict[str, str]:
    """Read ``FOLDER=WEIGHT`` as often as it is given.

    Args:
        parts: what was typed.

    Returns:
        Folder -> weight, in the order given.

    Raises:
        UserError: for anything else, or a folder given twice.

    Example:
        >>> parse_mix(["fundus/shards=0.7", "oct/shards=0.3"])
        {'fundus/shards': '0.7', 'oct/shards': '0.3'}
    """
    weights: dict[str, str] = {}
    for part in parts:
        folder, equals, weight = part.rpartition("=")
        if not equals or not folder:
            raise UserError(f"--mix {part}: write it as FOLDER=WEIGHT, for example --mix shards-a=0.7 --mix shards-b=0.3")
        _weight(folder, weight)
        if Path(folder) in map(Path, weights):
            raise UserError(f"--mix {part}: {folder} is given twice")
        weights[folder] = weight
    return weights


def _weight(name: str, given: str | float | Fraction) -> Fraction:
    try:
        weight = Fraction(str(given))
    except (ValueError, ZeroDivisionError):
        weight = Fraction(0)
    if weight <= 0:
        raise UserError(f"--mix {name}={given}: the weight is a number above 0")
    return weight


def _touch(shards: ShardSet) -> None:
    """Open every shard and read its last photograph: a copy that broke off is found before anything is spent."""
    ends = (shards.index["offset"] + shards.index["size"]).reset_index(drop=True)
    for position in ends.groupby(shards.index["shard"].to_numpy()).idxmax().tolist():
        shards.read(int(position))
