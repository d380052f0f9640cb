"""The arithmetic of balanced sampling: stable ranks, exact allocation, measures of balance.

Everything here is a pure function of arrays; nothing depends on the order of rows or on a generator's state.
"""

from __future__ import annotations

import hashlib
import heapq

import numpy as np
import pandas as pd

_CHUNK = 1_000_000
_LARGEST_MAP = 2_000_000_000  # bytes of a table group x patient


def stable_hash(ids: pd.Series, seed: int) -> np.ndarray:
    """Give each id a number that looks random and depends on nothing but the id and the seed.

    Args:
        ids: text.
        seed: any integer.

    Returns:
        (n,) uint64, by keyed SipHash.
    """
    key = hashlib.blake2b(str(seed).encode(), digest_size=8).hexdigest()
    pieces = [ids.iloc[start : start + _CHUNK].to_numpy(dtype=object) for start in range(0, len(ids), _CHUNK)]
    return np.concatenate([np.zeros(0, np.uint64), *(pd.util.hash_array(p, hash_key=key, categorize=False) for p in pieces)])


def rank_for(hashes: np.ndarray, purpose: str) -> np.ndarray:
    """Turn hashes into ranks of their own for one purpose.

    Drawing the ids with the lowest ranks is a random draw that doesn't depend on the order of rows or on which other ids
    there are, and a smaller draw is contained in a larger one. Ranks for two purposes are independent of each other.

    Args:
        hashes: (n,) uint64, from `stable_hash`.
        purpose: keeps draws apart that share a seed, as "draw" and "hold-out".

    Returns:
        (n,) uint64: a bijection of the hashes (the finaliser of SplitMix64; Steele, Lea and Flood 2014).
    """
    salt = np.uint64(int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "big"))
    mixed = hashes ^ salt
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def place_within(group: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Say at which place each row stands in its group when the group is ordered by rank.

    Args:
        group: (n,) non-negative integers.
        rank: (n,) uint64.

    Returns:
        (n,) int64, 0 for the lowest rank.
    """
    if not len(group):
        return np.zeros(0, dtype=np.int64)
    bits = np.uint64(max(int(group.max()).bit_length(), 1))
    key = rank >> bits
    key |= group.astype(np.uint64) << (np.uint64(64) - bits)
    order = np.argsort(key)
    if (np.diff(key[order]) == 0).any():  # ranks that agree in their leading bits, very rarely
        order = np.lexsort((rank, group))
    del key
    ordered = group[order]
    first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(first, np.diff(np.r_[first, len(group)]))
    return place


def water_fill(capacity: np.ndarray, weight: np.ndarray, total: int) -> np.ndarray:
    """Divide a total over strata in proportion to weights, as far as each stratum reaches.

    The integer solution of a_s = min(c_s, round(lambda w_s)) with sum a_s = total: what a full stratum cannot take is
    poured over the others. It is what pouring unit by unit gives, each to the stratum with the least (a_s + 1/2) / w_s (the
    rule of Webster and Sainte-Lague, which favours neither large nor small strata), so a larger total never gives any
    stratum less. Equal claims go to the earlier stratum.

    Args:
        capacity: (S,) integers, what each stratum has.
        weight: (S,) non-negative, the target's shares in any unit; 0 takes nothing.
        total: how much to divide.

    Returns:
        (S,) int64, at most `capacity`, summing to the smaller of `total` and what strata with weight hold.

    Raises:
        ValueError: where a capacity, a weight or the total is negative.

    Example:
        >>> water_fill(np.array([10, 100, 500]), np.ones(3), 300).tolist()
        [10, 100, 190]
    """
    capacity = np.asarray(capacity, dtype=np.int64)
    weight = np.asarray(weight, dtype=np.float64)
    if (capacity < 0).any() or (weight < 0).any() or total < 0:
        raise ValueError("capacities, weights and the total must not be negative")
    taking = (weight > 0) & (capacity > 0)
    filled = np.zeros(len(capacity), dtype=np.int64)
    if not taking.any():
        return filled
    room, share = capacity[taking], weight[taking]
    if total >= room.sum():
        filled[taking] = room
        return filled
    low, high = 0.0, float(((room + 1) / share).max())
    while (middle := (low + high) / 2) not in (low, high):
        if np.minimum(np.floor(middle * share + 0.5), room).sum() <= total:
            low = middle
        else:
            high = middle
    # One unit less than the level says, so that the last ones are poured in their exact order.
    poured = np.clip(np.floor(low * share + 0.5) - 1, 0, room).astype(np.int64)
    queue = [((int(a) + 0.5) / w, i) for i, (a, w) in enumerate(zip(poured, share, strict=True)) if a < room[i]]
    heapq.heapify(queue)
    for _ in range(total - int(poured.sum())):
        _, i = heapq.heappop(queue)
        poured[i] += 1
        if poured[i] < room[i]:
            heapq.heappush(queue, ((int(poured[i]) + 0.5) / share[i], i))
    filled[taking] = poured
    return filled


def balance_measures(counts: np.ndarray, target: np.ndarray, patients: int) -> dict[str, float | None]:
    """Say how even a distribution over strata is.

    Args:
        counts: (S,) images in each stratum.
        target: (S,) the target's shares in any unit.
        patients: how many people the images are of.

    Returns:
        ``normalised_entropy`` H / log S (1: even), ``effective_strata`` exp(H), ``total_variation`` to the target
        (0: met, 1: apart), ``min_max_ratio`` of the counts, ``images_per_patient``. None where undefined.
    """
    total = counts.sum()
    nothing: dict[str, float | None] = dict.fromkeys(
        ("normalised_entropy", "effective_strata", "total_variation", "min_max_ratio", "images_per_patient")
    )
    if total == 0:
        return nothing
    share = counts / total
    entropy = float(-(share[share > 0] * np.log(share[share > 0])).sum())
    return {
        "normalised_entropy": entropy / float(np.log(len(counts))) if len(counts) > 1 else None,
        "effective_strata": float(np.exp(entropy)),
        "total_variation": float(np.abs(share - target / target.sum()).sum() / 2) if target.sum() > 0 else None,
        "min_max_ratio": float(counts.min() / counts.max()),
        "images_per_patient": float(total / patients) if patients else None,
    }


def link(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Join what is connected, directly or through others.

    Args:
        count: how many there are.
        first, second: (m,) integers below `count`, the two ends of each connection.

    Returns:
        (count,) int64: the least member of each one's connected component.
    """
    root = np.arange(count)
    if not len(first):
        return root
    members, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    one, other = np.split(ends, 2)
    _, component = connected_components(
        coo_matrix((np.ones(len(one), dtype=bool), (one, other)), shape=(len(members),) * 2), directed=False
    )
    least = np.full(component.max() + 1, count)
    np.minimum.at(least, component, members)
    root[members] = least[component]
    return root


def count_patients(patient: np.ndarray, group: np.ndarray, groups: int, people: int) -> np.ndarray:
    """Count the different patients in each group.

    Args:
        patient: (n,) integers below `people`.
        group: (n,) integers below `groups`.
        groups, people: how many there are.

    Returns:
        (groups,) int64.
    """
    if groups * people > _LARGEST_MAP:
        pairs = np.unique(group.astype(np.int64) * people + patient)
        return np.bincount(pairs // people, minlength=groups)
    seen = np.zeros((groups, people), dtype=bool)
    seen[group, patient] = True
    return seen.sum(axis=1)
