"""Verification: read a shard set from end to end and say which sample is wrong."""

from __future__ import annotations

import bisect
import hashlib
import tempfile
from pathlib import Path
from typing import Any

from curate.artefacts import read_json, sha256_file
from curate.errors import UserError
from curate.parts import run_parts
from curate.shard_check import check_shard, first_lines
from curate.shard_index import INDEX, checksum_of, read_pieces, shard_name
from curate.tars import CHECKSUMS

_PRIVATE = ("keys.parquet", "holdout.parquet", "salt")


def verify_shards(folder: Path, *, cohort: Path | None = None, default_cohort: Path | None = None, workers: int = 0) -> dict[str, Any]:
    """Check the tars, tables, keys and hold-out of a shard set. The tars' part needs the memory of a shard's tables.

    Args:
        folder: the shard set.
        cohort: the cohort it was drawn from: the hold-out is then also checked for photographs, the same and nearly
            the same, that stand in the shards, and for people linked by them.
        default_cohort: used where `cohort` is not given, if it is there and is the one that ``sample.json`` names.
        workers: processes, 0 for one a core.

    Returns:
        ``problems`` (one line each, empty where all is well), ``images``, ``shards``, ``heldout``, a phrase that says
        what of the hold-out was found right, and ``unchecked``, what could not be checked.

    Raises:
        UserError: where the folder is no shard set at all.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no shard set here; make one with: curate sample --balance age")
    about = read_json(folder / "sample.json", "a shard set")
    problems: list[str] = []
    listed = _listed(folder, about, problems)
    _check_index(folder, about, [entry["url"] for entry in listed], problems)
    private = folder / "private"
    salt = _salt(private, about, problems)
    checked = _check_tars(folder, about, listed, salt, workers, problems)
    problems += _foreign(folder, {entry["url"] for entry in listed})
    heldout, unchecked = _check_people(folder, about, checked, cohort, default_cohort, problems)
    if salt is None:
        unchecked.append("whether the keys are made from the image ids (private/salt is not here)")
    return {"images": about["images"], "shards": about["shards"], "problems": problems, "heldout": heldout, "unchecked": unchecked}


def _listed(folder: Path, about: dict[str, Any], problems: list[str]) -> list[dict[str, Any]]:
    """Read ``shards.json`` and check its form; what is wrong with it is replaced by the tars that ought to be there."""
    expected = [{"url": shard_name(n)} for n in range(about["shards"])]
    field = CHECKSUMS[checksum_of(about)]
    try:
        listing = read_json(folder / "shards.json", "a shard set's index")
    except UserError as error:
        problems.append(f"{error}; run: curate shards repair {folder}")
        return expected
    if (listing.get("__kind__"), listing.get("wids_version")) != ("wids-shard-index-v1", 1):
        problems.append("shards.json: is not an index of wids, version 1")
    entries = listing.get("shardlist")
    if not isinstance(entries, list) or not all(isinstance(e, dict) for e in entries):
        problems.append("shards.json: has no shardlist")
        return expected
    kinds = {"url": str, field: str, "nsamples": int, "filesize": int}
    whole = [e for e in entries if all(isinstance(e.get(f), kind) for f, kind in kinds.items())]
    problems += [f"shards.json: entry {n} lacks one of {', '.join(kinds)}" for n, e in enumerate(entries) if e not in whole]
    names, wanted = [e["url"] for e in whole], [e["url"] for e in expected]
    if names != wanted:
        problems += [f"shards.json: does not list {name}" for name in wanted if name not in names]
        problems += [f"shards.json: lists {name}, which sample.json does not count" for name in names if name not in wanted]
        problems += ["shards.json: its shards are not in order, or stand in it twice"] if sorted(set(names)) != names else []
    by_name = {e["url"]: e for e in whole}
    if sum(e["filesize"] for e in by_name.values()) != about["bytes"]:
        problems.append(
            f"shards.json: its files have {sum(e['filesize'] for e in by_name.values()):,} bytes, sample.json says {about['bytes']:,}"
        )
    return [by_name.get(e["url"], e) for e in expected]


def _check_index(folder: Path, about: dict[str, Any], names: list[str], problems: list[str]) -> None:
    """Check that ``index.parquet`` lists each key once and in order, over all shards."""
    rows, before = 0, ("", "")
    known = set(names)
    wrong: list[str] = []
    try:
        for piece in read_pieces(folder / "index.parquet", INDEX):
            for key, shard in zip(piece["key"], piece["shard"], strict=True):
                if key <= before[0] or shard < before[1]:
                    how = "stands twice" if key == before[0] else "stands out of order"
                    wrong.append(f"index.parquet: sample {key} ({shard}) {how}")
                if shard not in known:
                    wrong.append(f"index.parquet: sample {key} is in {shard}, which is not a shard of this set")
                before = (key, shard)
            rows += len(piece["key"])
    except UserError as error:
        problems.append(f"{error}; run: curate shards repair {folder}")
        return
    problems += first_lines(wrong)
    if rows != about["images"]:
        problems.append(f"sample.json says {about['images']:,} images, index.parquet holds {rows:,}")


def _salt(private: Path, about: dict[str, Any], problems: list[str]) -> bytes | None:
    try:
        salt = (private / "salt").read_bytes()
    except FileNotFoundError:
        return None
    if hashlib.sha256(salt).hexdigest() != about["made_by"]["inputs"].get("salt"):
        problems.append("private/salt: is not the secret that made the keys")
        return None
    return salt


def _check_tars(
    folder: Path, about: dict[str, Any], listed: list[dict[str, Any]], salt: bytes | None, workers: int, problems: list[str]
) -> list[dict[str, Any]]:
    """Read every tar, in parallel, and compare what each says with the others and with ``shards.json``."""
    columns = ["width", "height", *about["made_by"]["specification"].get("embed_metadata", [])]
    whole = (folder / "private" / "keys.parquet").exists()
    index = (folder / "index.parquet").exists()
    try:
        for name, table in (("private/keys.parquet", whole), ("index.parquet", index)):
            if table:
                next(read_pieces(folder / name, ("key",)), None)
    except UserError as error:
        if not any(str(error) in p for p in problems):
            problems.append(str(error))
        whole = whole and "keys.parquet" not in str(error)
        index = False
    secret = salt.hex() if salt is not None else None
    checksum = checksum_of(about)
    jobs = [
        (entry["url"], entry.get("nsamples", 1), (str(folder), entry["url"], columns, secret, whole, index, checksum)) for entry in listed
    ]
    with tempfile.TemporaryDirectory(prefix="curate-verify-") as markers:
        results = run_parts(check_shard, jobs, markers=Path(markers), workers=workers, label="reading shards")
    field = CHECKSUMS[checksum]
    sums = {entry.get(field): entry["url"] for entry in listed}
    last = ""
    for entry, result in zip(listed, results, strict=True):
        name = entry["url"]
        if "checksum" in result and field in entry and result["checksum"] != entry[field]:
            if result["checksum"] in sums:
                problems.append(f"{name}: is {sums[result['checksum']]} under another name")
                continue
            problems.append(f"{name}: its checksum is not the one in shards.json")
        problems += result["problems"]
        if "checksum" not in result:
            continue
        for said, is_, what in (("nsamples", "images", "samples"), ("filesize", "bytes", "bytes")):
            if said in entry and entry[said] != result[is_]:
                problems.append(f"{name}: has {result[is_]:,} {what}, shards.json says {entry[said]:,}")
        if result["first"] is not None:
            if result["first"] <= last:
                problems.append(f"{name}: begins with sample {result['first']}, which is not after the shard before it")
            last = max(last, result["last"])
    return results


def _foreign(folder: Path, names: set[str]) -> list[str]:
    ours = {"sample.json", "shards.json", "index.parquet", "private", *names}
    found = sorted(p.name for p in folder.iterdir() if p.name not in ours)
    if (folder / "private").is_dir():
        found += sorted(f"private/{p.name}" for p in (folder / "private").iterdir() if p.name not in _PRIVATE)
    half = "is left of a repair that was interrupted; run curate shards repair again"
    return [f"{name}: {half if name == 'repair.partial' else 'does not belong to the shard set'}" for name in found]


def _check_people(
    folder: Path, about: dict[str, Any], checked: list[dict[str, Any]], cohort: Path | None, default: Path | None, problems: list[str]
) -> tuple[str, list[str]]:
    """Check the hold-out as far as what is here allows; gives a phrase for what was found right, and what was not checked."""
    import pandas as pd

    from curate.cohort import read_cohort
    from curate.leaks import Sides, leaks_by_name, leaks_by_photograph

    private = folder / "private"
    if not private.is_dir():
        return "hold-out not checked", ["the hold-out and whose image each sample is (private/ is not here)"]
    frames = {}
    for name, columns in (("keys.parquet", ["key", "image_id", "patient_id"]), ("holdout.parquet", ["image_id", "patient_id"])):
        try:
            frames[name] = pd.read_parquet(private / name, columns=columns)
        except (OSError, ValueError, KeyError) as error:
            problems.append(f"private/{name}: missing or damaged ({' '.join(str(error).split())[:80]})")
    if len(frames) < 2:
        return "hold-out not checked", []
    firsts = [(r["first"], shard_name(n)) for n, r in enumerate(checked) if r.get("first")]
    starts = [f for f, _ in firsts]
    sides = Sides(
        frames["keys.parquet"],
        frames["holdout.parquet"],
        lambda key: firsts[max(bisect.bisect_right(starts, key) - 1, 0)][1] if firsts else "no shard",
    )
    problems += leaks_by_name(sides, about)
    heldout = f"no patient both held out and in the shards ({sides.held['patient_id'].nunique():,} held out)"
    chosen, unchecked = _choose(about, cohort, default)
    if chosen is None:
        return heldout, [f"photographs of held-out patients in the shards ({unchecked})"]
    found, missing = leaks_by_photograph(sides, read_cohort(chosen, ("image_id", "patient_id", "sha256")))
    problems += found
    return f"{heldout}, no photograph either", [unchecked, *missing] if unchecked else missing


def _choose(about: dict[str, Any], cohort: Path | None, default: Path | None) -> tuple[Path | None, str]:
    """Choose the cohort to compare with, and say why there is none, or how it differs."""
    drawn_from = about["cohort"]["digest"]
    if cohort is not None:
        table = cohort / "cohort.parquet"
        differs = table.exists() and sha256_file(table) != drawn_from
        return cohort, f"{cohort} has changed since the sample was drawn: compared as it is now" if differs else ""
    if default is None or not (default / "cohort.parquet").exists():
        return None, "no cohort given; --cohort names it"
    if sha256_file(default / "cohort.parquet") != drawn_from:
        return None, f"{default} is not the cohort it was drawn from; --cohort names it"
    return default, ""
