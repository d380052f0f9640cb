"""Repair: build the damaged or missing shards of a set again, the same bytes as before, and leave the others alone.

``sample.json`` knows what was asked, ``private/keys.parquet`` which image stands for which key, and the cohort where the
images are; the order of the keys decides what every shard holds. What is rebuilt is made beside the set, in
``repair.partial``, compared with what the set's own records say of it, and only then moved into its place.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import canonical_json, read_json, sweep, tool_version, write_json
from curate.cohort import Cohort, read_cohort
from curate.crop import check_modality
from curate.errors import UserError
from curate.parts import run_parts
from curate.shard_builder import Form, build_shards
from curate.shard_check import read_shard
from curate.shard_index import (
    INDEX,
    KEYS,
    Columns,
    checksum_of,
    listing,
    read_part,
    read_pieces,
    rows_between,
    shard_name,
    shard_runs,
    write_part,
    write_table,
)
from curate.shard_writer import pseudonym
from curate.tars import CHECKSUMS

if TYPE_CHECKING:
    import pandas as pd

_WORK = "repair.partial"


def repair_shards(folder: Path, cohort_folder: Path, *, workers: int = 0) -> dict[str, Any]:
    """Rebuild what is damaged or missing of a shard set's tars, ``index.parquet`` and ``shards.json``.

    Args:
        folder: the shard set, with its ``private/``.
        cohort_folder: the cohort it was drawn from, with its images.
        workers: processes, 0 for one a core.

    Returns:
        ``rebuilt``: names of the files that were replaced; ``kept``: how many shards were found good.

    Raises:
        UserError: where the set can't be traced back to its images, an image has changed, or the rebuilt bytes are
            not those that the set's records name.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no shard set here; make one with: curate sample --balance age")
    about = read_json(folder / "sample.json", "a shard set")
    cohort = read_cohort(cohort_folder)
    if cohort.digest != about["cohort"]["digest"]:
        raise UserError(
            f"{cohort_folder}: is not the cohort {folder} was drawn from ({about['cohort']['name']}); name that one with --cohort"
        )
    who = _traced(folder, about, cohort)
    if about["made_by"]["specification"].get("crop"):
        check_modality(about["made_by"]["specification"]["modality"])
    work = _workplace(folder, about)
    names = [shard_name(n) for n in range(about["shards"])]
    checksum = checksum_of(about)
    recorded = _recorded(folder, CHECKSUMS[checksum])
    state = _survey(folder, work, names, checksum, workers)
    doubtful = [n for n, s in enumerate(state) if s["checksum"] is None or s["checksum"] != recorded.get(names[n])]
    built = _rebuild(about, cohort, who, doubtful, work, workers)
    # What was built again and is the same was good: only its record was not.
    damaged = [n for n in doubtful if built[n]["checksum"] != state[n]["checksum"]]
    parts = [work / ("parts" if n in built else "survey") / f"{name}.index" for n, name in enumerate(names)]
    for n in damaged:
        _refuse_others(folder, names[n], built[n], read_part(parts[n]), recorded, about)
    for n in damaged:
        os.replace(work / names[n], folder / names[n])
    made = [built.get(n) or state[n] for n in range(len(names))]
    rebuilt = [names[n] for n in damaged] + _write_tables(folder, work, about, made, parts)
    shutil.rmtree(work)
    sweep(folder)
    return {"rebuilt": rebuilt, "kept": len(names) - len(damaged)}


def _traced(folder: Path, about: dict[str, Any], cohort: Cohort) -> pd.DataFrame:
    """Read which image stands for which key, and make sure that it is so: ``key``, ``image_id``, in the order of the keys."""
    import pandas as pd

    private = folder / "private"
    if not private.is_dir():
        raise UserError(f"{private}: missing, so the samples can't be traced back to their images; repair where it is kept")
    try:
        salt = (private / "salt").read_bytes()
        pieces = [pd.DataFrame(piece) for piece in read_pieces(private / "keys.parquet", KEYS)]
    except FileNotFoundError:
        raise UserError(f"{private}/salt: missing, so the samples can't be traced back to their images") from None
    who = pd.concat(pieces, ignore_index=True)[["key", "image_id"]] if pieces else pd.DataFrame({"key": [], "image_id": []})
    damaged = f"{private}/keys.parquet: damaged, so the samples can't be traced back to their images"
    if len(who) != about["images"]:
        raise UserError(f"{damaged} ({len(who):,} rows, sample.json says {about['images']:,})")
    if not (who["key"].is_monotonic_increasing and who["key"].is_unique):
        raise UserError(f"{damaged} (its keys are out of order)")
    wrong = next((i for key, i in zip(who["key"], who["image_id"], strict=True) if pseudonym(salt, i) != key), None)
    if wrong is not None:
        raise UserError(f"{damaged} (image {wrong} has another key)")
    absent = who["image_id"][~who["image_id"].isin(cohort.table["image_id"])]
    if len(absent):
        raise UserError(f"{cohort.folder}: has no image {absent.iloc[0]}, which is in {folder}")
    return who


def _workplace(folder: Path, about: dict[str, Any]) -> Path:
    """Make the folder of the work, or find what an interrupted repair of the same set left there."""
    work = folder / _WORK
    meant_for = {"sample.json": hashlib.sha256(canonical_json(about).encode()).hexdigest(), "version": tool_version()}
    note = work / "repair.json"
    if not (note.exists() and json.loads(note.read_text(encoding="utf-8")) == meant_for):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        write_json(note, meant_for)
    return work


def _recorded(folder: Path, field: str) -> dict[str, str]:
    """Read every shard's checksum from ``shards.json``, as far as it can be read."""
    try:
        entries = read_json(folder / "shards.json", "a shard set's index").get("shardlist")
    except UserError:
        return {}
    entries = entries if isinstance(entries, list) else []
    return {e["url"]: e[field] for e in entries if isinstance(e, dict) and isinstance(e.get("url"), str) and field in e}


def survey_shard(folder: str, name: str, to: Path, checksum: str) -> dict[str, Any]:
    """Read a tar as it is and write down its part of the index.

    Args:
        folder: the shard set.
        name: the shard's file name.
        to: where its part of the index goes.
        checksum: the kind that the set has.

    Returns:
        ``checksum`` (None where there is no tar, or one that is broken outside its members), ``images``, ``bytes``.
    """
    try:
        found = read_shard(Path(folder) / name, name, None, checksum)
    except OSError:
        return {"checksum": None, "images": 0, "bytes": 0}
    write_part(to, found.rows)
    return {"checksum": found.checksum if found.complete else None, "images": len(found.rows["key"]), "bytes": found.bytes}


def _survey(folder: Path, work: Path, names: list[str], checksum: str, workers: int) -> list[dict[str, Any]]:
    place = work / "survey"
    shutil.rmtree(place, ignore_errors=True)  # what an interrupted repair saw may have changed since
    place.mkdir()
    jobs = [(name, 1, (str(folder), name, place / f"{name}.index", checksum)) for name in names]
    return run_parts(survey_shard, jobs, markers=place, workers=workers, label="reading shards", unit="shards")


def _rebuild(
    about: dict[str, Any], cohort: Cohort, who: pd.DataFrame, numbers: list[int], work: Path, workers: int
) -> dict[int, dict[str, Any]]:
    specification = about["made_by"]["specification"]
    metadata = list(specification.get("embed_metadata", []))
    runs = shard_runs(len(who), specification["shard_images"])
    table = cohort.table.set_index("image_id")[list(dict.fromkeys(["path", "sha256", *metadata]))]
    for marker in (work / "parts").glob("*.done"):
        if not (work / marker.stem).exists():  # moved into its place by a repair that was interrupted then
            marker.unlink()

    def shards() -> Iterator[tuple[int, list[str], pd.DataFrame]]:
        for n in numbers:
            rows = who.iloc[slice(*runs[n])]
            yield n, rows["key"].tolist(), table.loc[rows["image_id"]]

    crop = specification.get("modality") if specification.get("crop") else None
    form = Form(specification["size"], specification["jpeg_quality"], crop, checksum_of(about))
    return build_shards(shards(), metadata=metadata, images=cohort.images, form=form, folder=work, workers=workers)


def _refuse_others(folder: Path, name: str, made: dict[str, Any], rows: Columns, recorded: dict[str, str], about: dict[str, Any]) -> None:
    """Refuse a rebuilt shard that neither ``shards.json`` nor ``index.parquet`` knows."""
    if recorded.get(name) == made["checksum"]:
        return
    try:
        index = rows_between(folder / "index.parquet", INDEX, "shard", name, name)
    except UserError:
        index = {"key": []}
    if index == rows or (name not in recorded and not index["key"]):
        return
    raise UserError(
        f"{name}: rebuilt, and not the same bytes as before (it was made by evenfooting {about['made_by']['version']}, this is "
        f"{tool_version()}; libraries that encode JPEG may differ as well); nothing was changed: draw the sample again"
    )


def _write_tables(folder: Path, work: Path, about: dict[str, Any], made: list[dict[str, Any]], parts: list[Path]) -> list[str]:
    """Write ``index.parquet`` and ``shards.json`` where they aren't there or say something else."""
    written = []
    write_table(work / "index.parquet", INDEX, map(read_part, parts))
    if not _same_rows(work / "index.parquet", folder / "index.parquet"):
        os.replace(work / "index.parquet", folder / "index.parquet")
        written.append("index.parquet")
    wanted = listing(about["name"], made, checksum_of(about))
    try:
        there = read_json(folder / "shards.json", "a shard set's index")
    except UserError:
        there = {}
    if there != wanted:
        write_json(folder / "shards.json", wanted)
        written.append("shards.json")
    return written


def _same_rows(first: Path, second: Path) -> bool:
    def rows(path: Path) -> Iterator[tuple[Any, ...]]:
        for piece in read_pieces(path, INDEX):
            yield from zip(*piece.values(), strict=True)

    try:
        return all(a == b for a, b in itertools.zip_longest(rows(first), rows(second)))
    except UserError:
        return False
