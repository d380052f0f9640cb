"""Near-duplicates: pairs of files that show the same photograph, found without comparing all with all.

Three sieves, each finer and dearer than the one before: hashes that share three of eight bytes, two distances between
hashes, and the correlation of the photographs themselves (see `curate.likeness`).
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from curate.artefacts import write_parquet
from curate.likeness import similarity, thumbnail
from curate.parts import run_parts, slices
from curate.photographs import read_grey

LINKED = 0.8  # from here on the people of two photographs may be one: they stay on one side of every split
SAME = 0.9  # from here on one of the two is enough
_COARSE, _FINE = 14, 56  # bits of 64 and of 256 in which the hashes of one photograph may differ
_REACH = 2048  # rows of equal bytes with which a row is compared at most
_PART = 512
COLUMNS = ("image_a", "image_b", "distance", "similarity")


def candidate_pairs(coarse: np.ndarray, fine: np.ndarray) -> np.ndarray:
    """Find pairs whose hashes are close.

    Two hashes of 64 bits that differ in at most five bits share three of their eight bytes; those that differ in more
    do so with falling probability (nine in ten at six bits, a third at ten). Photographs are therefore sorted by
    each of the 56 choices of three bytes, and only those that agree in one are compared. A photograph is
    compared with at most 2,048 others a choice, so crowds of look-alikes cost no more than a multiple of the rest.

    Args:
        coarse: (n,), uint64.
        fine: (n, 4), uint64; all zero is a blank image, which is like no other.

    Returns:
        (m, 2), int64: positions with the smaller first, each pair once, sorted.
    """
    kept = np.flatnonzero(fine.any(axis=1))
    found = [np.empty((0, 2), dtype=np.int64)]
    if len(kept) > 1:
        byte = [((coarse[kept] >> np.uint64(8 * b)) & np.uint64(0xFF)).astype(np.uint32) for b in range(8)]
        for a, b, c in itertools.combinations(range(8), 3):
            key = byte[a] << np.uint32(16) | byte[b] << np.uint32(8) | byte[c]
            order = np.lexsort((coarse[kept], key))
            found.append(kept[_within_buckets(key[order], coarse[kept[order]], fine[kept[order]], order)])
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0)


def _within_buckets(key: np.ndarray, coarse: np.ndarray, fine: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Compare rows of equal keys (sorted by them), one further apart a round."""
    at = np.arange(len(key) - 1)
    found = []
    for step in range(1, _REACH):
        at = at[at < len(key) - step]
        at = at[key[at] == key[at + step]]
        if not len(at):
            break
        near = at[np.bitwise_count(coarse[at] ^ coarse[at + step]) <= _COARSE]
        near = near[np.bitwise_count(fine[near] ^ fine[near + step]).sum(axis=1) <= _FINE]
        found.append(np.stack([order[near], order[near + step]], axis=1))
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)


def find_near_duplicates(table: pd.DataFrame, fine: pd.Series, root: Path, work: Path, workers: int) -> pd.DataFrame:
    """Find all pairs of images that show the same photograph.

    Args:
        table: columns image_id, path, sha256 and phash of every image; sorted by image_id.
        fine: the fine hash of each row (32 bytes).
        root: the folder that paths are relative to.
        work: folder for parts and their done markers.
        workers: processes, 0 for one a core.

    Returns:
        Columns image_a, image_b (strings; image_a < image_b), distance (bits of 64 in which the hashes differ, int64), similarity
        (float64, at least `LINKED`; 1 for identical files); sorted. Of files that are identical each is paired with the first.
    """
    ids = table["image_id"].to_numpy(dtype=object)
    copies = identical_files(table)
    again = set(copies["image_b"])
    rows = np.flatnonzero([i not in again for i in ids])
    coarse = np.array([int(h, 16) for h in table["phash"].to_numpy(dtype=object)[rows]], dtype=np.uint64)
    pairs = rows[candidate_pairs(coarse, np.frombuffer(b"".join(fine.iloc[rows]), dtype=np.uint64).reshape(-1, 4))]
    paths, hashes = table["path"].to_numpy(dtype=object), table["phash"].to_numpy(dtype=object)
    parts = []
    for number, (start, stop) in enumerate(slices(len(pairs), _PART)):
        some = pairs[start:stop]
        arguments = (str(root), paths[some[:, 0]].tolist(), paths[some[:, 1]].tolist(), work / f"pairs-{number:06d}.parquet")
        parts.append((f"pairs-{number:06d}", stop - start, arguments))
    run_parts(_compare_part, parts, markers=work, workers=workers, label="comparing look-alikes", unit="pairs")
    likeness = np.concatenate([np.zeros(0), *(pd.read_parquet(a[3])["similarity"].to_numpy() for _, _, a in parts)])
    kept = likeness >= LINKED
    found = pd.DataFrame(
        {
            "image_a": ids[pairs[kept, 0]],
            "image_b": ids[pairs[kept, 1]],
            "distance": [(int(hashes[a], 16) ^ int(hashes[b], 16)).bit_count() for a, b in pairs[kept]],
            "similarity": likeness[kept],
        }
    )
    both = pd.concat([copies, found], ignore_index=True).sort_values(["image_a", "image_b"], kind="stable", ignore_index=True)
    return both.astype({"image_a": "str", "image_b": "str", "distance": "int64", "similarity": "float64"})


def identical_files(table: pd.DataFrame) -> pd.DataFrame:
    """Pair every file with the first (by image_id) that has the same bytes; columns as of `find_near_duplicates`."""
    shared = table.loc[table["sha256"].duplicated(keep=False), ["image_id", "sha256"]].sort_values("image_id", kind="stable")
    first = shared.groupby("sha256", sort=False)["image_id"].transform("first")
    others = shared["image_id"] != first
    pairs = {"image_a": first[others], "image_b": shared.loc[others, "image_id"], "distance": 0, "similarity": 1.0}
    return pd.DataFrame(pairs).reset_index(drop=True)


def _compare_part(root: str, first: list[str], second: list[str], to: Path) -> dict[str, Any]:
    @lru_cache(maxsize=1024)
    def small(path: str) -> np.ndarray:
        return thumbnail(read_grey(Path(root, path).read_bytes())[0])

    # 1 is kept for identical files.
    values = [min(round(similarity(small(a), small(b)), 6), 0.999999) for a, b in zip(first, second, strict=True)]
    write_parquet(to, pd.DataFrame({"similarity": values}))
    return {"pairs": len(values)}
