"""Verification: read a shard set from end to end and say which sample is wrong."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import pandas as pd

from curate.artefacts import read_json
from curate.cohort import read_cohort
from curate.console import progress
from curate.shards import ShardSet, open_shards


def verify_shards(folder: Path, *, cohort: Path | None = None) -> dict[str, Any]:
    """Check checksums, counts, keys and the hold-out of a shard set.

    Args:
        folder: the shard set.
        cohort: the cohort it was drawn from: the hold-out is then also checked for photographs (equal files) that
            stand in the shards under another patient.

    Returns:
        ``problems`` (one line each, empty where all is well), ``images``, ``shards`` and ``heldout``, a phrase that
        says how far the hold-out could be checked.

    Raises:
        UserError: where the folder is no shard set at all.
    """
    shards = open_shards(folder)
    listed = read_json(folder / "shards.json", "a shard set's index")
    problems: list[str] = []
    names = [entry["url"] for entry in listed["shardlist"]]
    with progress(len(names), "reading shards", "shards") as advance:
        for entry in listed["shardlist"]:
            problems += _check_shard(shards, entry)
            advance(1)
    problems += [f"{name}: in index.parquet and not in shards.json" for name in sorted(set(shards.index["shard"]) - set(names))]
    again = shards.index["key"][shards.index["key"].duplicated()]
    problems += [f"sample {key}: stands twice in index.parquet" for key in again]
    if shards.about["images"] != len(shards):
        problems.append(f"sample.json says {shards.about['images']:,} images, index.parquet holds {len(shards):,}")
    leaks, heldout = _check_holdout(shards, cohort)
    return {"images": len(shards), "shards": len(names), "problems": problems + leaks, "heldout": heldout}


def _check_shard(shards: ShardSet, entry: dict[str, Any]) -> list[str]:
    name = entry["url"]
    path = shards.folder / name
    if not path.is_file():
        return [f"{name}: missing"]
    problems = []
    with open(path, "rb") as file:
        if hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() != entry["md5sum"]:
            problems.append(f"{name}: its checksum is not the one in shards.json")
    rows = shards.index[shards.index["shard"] == name].set_index("key")
    if len(rows) != entry["nsamples"]:
        problems.append(f"{name}: index.parquet holds {len(rows):,} of its samples, shards.json says {entry['nsamples']:,}")
    seen: dict[str, set[str]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                seen.setdefault(key, set()).add(suffix)
                extracted = tar.extractfile(member)
                data = extracted.read() if extracted else b""
                problems += _check_member(name, key, suffix, member, data, rows)
    except (tarfile.TarError, OSError) as error:
        problems.append(f"{name}: cannot be read to its end ({error})")
    problems += [f"{name}: sample {key} of index.parquet is not in it" for key in rows.index.difference(list(seen))]
    problems += [f"{name}: sample {key} has no {s}" for key, has in seen.items() for s in ("jpg", "json") if s not in has]
    return problems


def _check_member(name: str, key: str, suffix: str, member: tarfile.TarInfo, data: bytes, rows: pd.DataFrame) -> list[str]:
    if key not in rows.index:
        return [f"{name}: sample {key} is not in index.parquet"]
    if suffix == "json":
        try:
            json.loads(data)
        except ValueError:
            return [f"{name}: sample {key}: its .json is not JSON"]
        return []
    if suffix != "jpg":
        return [f"{name}: {member.name} does not belong in a shard"]
    row = rows.loc[key].to_dict()
    if (member.offset_data, len(data)) != (row["offset"], row["size"]):
        return [f"{name}: sample {key} is not where index.parquet says"]
    if hashlib.sha256(data).hexdigest() != row["sha256"]:
        return [f"{name}: sample {key}: its photograph's checksum is wrong"]
    return []


def _check_holdout(shards: ShardSet, cohort: Path | None) -> tuple[list[str], str]:
    private = shards.folder / "private"
    if not (private / "keys.parquet").exists() or not (private / "holdout.parquet").exists():
        return [], "hold-out not checked (private/ is not here)"
    keys, held = pd.read_parquet(private / "keys.parquet"), pd.read_parquet(private / "holdout.parquet")
    problems = []
    if set(keys["key"]) != set(shards.index["key"]):
        problems.append("private/keys.parquet does not list the same samples as index.parquet")
    both = sorted(set(keys["patient_id"]) & set(held["patient_id"]))
    problems += [f"patient {p} is held out and in the shards" for p in both]
    heldout = f"no patient both held out and in the shards ({held['patient_id'].nunique():,} held out)"
    if cohort is not None:
        table = read_cohort(cohort).table.set_index("image_id")
        known_keys, known_held = keys[keys["image_id"].isin(table.index)], held[held["image_id"].isin(table.index)]
        if len(known_keys) < len(keys) or len(known_held) < len(held):
            problems.append(f"{cohort}: does not hold every image of this shard set; it was drawn from another cohort")
        drawn = dict(zip(table.loc[known_keys["image_id"], "sha256"], known_keys["image_id"], strict=True))
        for image, sha256 in zip(known_held["image_id"], table.loc[known_held["image_id"], "sha256"], strict=True):
            if sha256 in drawn:
                problems.append(f"held-out image {image} is the same photograph as {drawn[sha256]} in the shards")
        heldout += ", no photograph either"
    return problems, heldout
