"""The arithmetic of balanced sampling: stable ranks, exact allocation, measures of balance.

Everything here is a pure function of arrays; nothing depends on the order of rows or on a generator's state.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd


def stable_rank(ids: pd.Series, seed: int, purpose: str) -> np.ndarray:
    """Give each id a number that looks random and depends on nothing but the id, the seed and the purpose.

    Drawing the ids with the lowest numbers is a random draw that doesn't depend on the order of rows or on which
    other ids there are, and a smaller draw is contained in a larger one.

    Args:
        ids: text.
        seed: any integer.
        purpose: keeps draws apart that share a seed, as "draw" and "hold-out".

    Returns:
        uint64, by keyed SipHash.
    """
    key = hashlib.blake2b(f"{seed}|{purpose}".encode(), digest_size=8).hexdigest()
    return pd.util.hash_array(ids.to_numpy(dtype=object), hash_key=key, categorize=False)


def water_fill(capacity: np.ndarray, weight: np.ndarray, total: int) -> np.ndarray:
    """Divide a total over strata in proportion to weights, as far as each stratum reaches.

    The exact integer solution of a_s = min(c_s, lambda w_s) with sum a_s = total: what a full stratum cannot take is
    poured over the others. What is left by rounding goes to the largest fractions, then to the earlier stratum.

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
    open_strata = (weight > 0) & (capacity > 0)
    filled = np.zeros(len(capacity), dtype=np.int64)
    left = min(int(total), int(capacity[open_strata].sum()))
    while open_strata.any() and left > 0:
        share = left * weight / weight[open_strata].sum()
        full = open_strata & (share >= capacity)
        if not full.any():
            break
        filled[full] = capacity[full]
        left -= int(capacity[full].sum())
        open_strata &= ~full
    if open_strata.any() and left > 0:
        share = np.where(open_strata, left * weight / weight[open_strata].sum(), 0.0)
        # A share within rounding error of a whole number is that number.
        whole = np.floor(share + 1e-9 * np.maximum(share, 1)).astype(np.int64)
        filled[open_strata] = whole[open_strata]
        rest = left - int(whole[open_strata].sum())
        order = np.lexsort((np.arange(len(share)), -(share - whole)))
        spare = [i for i in order if open_strata[i] and filled[i] < capacity[i]]
        filled[spare[:rest]] += 1
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


def link_patients(patients: pd.Series, photographs: pd.Series) -> pd.Series:
    """Join patients who share a photograph, directly or through others: connected components.

    Args:
        patients: each row's patient.
        photographs: each row's photograph (a hash); equal means the same.

    Returns:
        Each row's component, named by the least patient id in it.
    """
    names, patient = np.unique(patients.to_numpy(dtype=str), return_inverse=True)
    _, photograph = np.unique(photographs.to_numpy(dtype=str), return_inverse=True)
    pairs: Any = pd.DataFrame({"patient": patient, "photograph": photograph}).drop_duplicates()
    shared = pairs[pairs["photograph"].duplicated(keep=False)]
    root = np.arange(len(names))
    for _, group in shared.groupby("photograph", sort=False)["patient"]:
        members = [_find(root, int(p)) for p in group]
        root[members] = min(members)
    return pd.Series([names[_find(root, int(p))] for p in patient] if len(shared) else names[patient], index=patients.index, dtype=object)


def _find(root: np.ndarray, node: int) -> int:
    while root[node] != node:
        root[node] = root[root[node]]
        node = int(root[node])
    return node
