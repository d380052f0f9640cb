"""Writing shards: plain tars, byte for byte the same for any number of workers, each whole or absent."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from curate.artefacts import finish, write_json, write_parquet, writing
from curate.errors import UserError
from curate.parts import run_parts, slices
from curate.photographs import prepare

if TYPE_CHECKING:
    from curate.cohort import Cohort
    from curate.sample import Plan, SampleRequest

_BLOCK = 512


def pseudonym(secret: bytes, image_id: str) -> str:
    """Make a sample's key: 96 bits of a keyed hash (HMAC-SHA-256), as 24 hexadecimal digits.

    Args:
        secret: whoever lacks it can't tell which image a key stands for.
        image_id: of the cohort.
    """
    return hmac.new(secret, image_id.encode(), hashlib.sha256).hexdigest()[:24]


def write_shards(
    plan: Plan,
    cohort: Cohort,
    request: SampleRequest,
    *,
    about: dict[str, Any],
    secret: bytes,
    partial: Path,
    out: Path,
    workers: int,
) -> dict[str, Any]:
    """Write a plan's shards, index and private files, and give the folder its name.

    Args:
        plan: what was drawn.
        cohort: where the images are.
        request: size and quality of the photographs.
        about: ``sample.json`` as far as it is known; what was written is added.
        secret: makes the keys.
        partial: the folder to write into; shards that an interrupted run finished are kept.
        out: the folder's name when it is complete.
        workers: processes, 0 for one a core.

    Returns:
        The contents of ``sample.json``.

    Raises:
        UserError: where an image is missing or has changed since it was ingested.
    """
    rows = plan.drawn.assign(key=[pseudonym(secret, i) for i in plan.drawn["image_id"]]).sort_values("key", ignore_index=True)
    if rows["key"].duplicated().any():
        raise UserError("two images got the same key; choose another --salt")
    # The order of keys is random with respect to everything about the images, so any run of them is a mixed shard.
    shards = max(-(-len(rows) // request.shard_images), min(4, len(rows) // 64), 1)
    work = partial / "parts"
    work.mkdir(exist_ok=True)
    jobs = []
    for number, (start, stop) in enumerate(slices(len(rows), -(-len(rows) // shards))):
        samples = [
            (row["key"], row["path"], row["sha256"], {c: _value(row[c]) for c in request.embed_metadata})
            for row in rows.iloc[start:stop].to_dict("records")
        ]
        name = f"shard-{number:06d}"
        jobs.append((name, stop - start, (samples, str(cohort.images), partial, name, request.size, request.jpeg_quality)))
    results = run_parts(write_shard, jobs, markers=work, workers=workers, label="writing shards")
    index = pd.concat([pd.read_parquet(work / f"{name}.parquet") for name, _, _ in jobs], ignore_index=True)
    write_parquet(partial / "index.parquet", index)
    shardlist = [
        {"url": f"{name}.tar", "md5sum": r["md5"], "nsamples": r["images"], "filesize": r["bytes"]}
        for (name, _, _), r in zip(jobs, results, strict=True)
    ]
    write_json(
        partial / "shards.json", {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": about["name"], "shardlist": shardlist}
    )
    private = partial / "private"
    private.mkdir(exist_ok=True)
    write_parquet(private / "keys.parquet", rows[["key", "image_id", "patient_id"]])
    write_parquet(private / "holdout.parquet", plan.held_out[["image_id", "patient_id"]].reset_index(drop=True))
    with writing(private / "salt") as file:
        file.write(secret)
    (private / "salt").chmod(0o600)
    about = {**about, "shards": len(jobs), "bytes": sum(r["bytes"] for r in results)}
    shutil.rmtree(work)
    write_json(partial / "sample.json", about)
    finish(out)
    return about


def _value(value: Any) -> Any:
    if value is None or value != value or value is pd.NA:
        return None
    return value.item() if hasattr(value, "item") else value


def write_shard(
    samples: list[tuple[str, str, str, dict[str, Any]]], images: str, folder: Path, name: str, size: int, quality: int
) -> dict[str, Any]:
    """Write one tar and its part of the index.

    Args:
        samples: (key, path, SHA-256 of the file at ingest, metadata to embed).
        images: the folder that paths are relative to.
        folder: where the tar goes; its index goes to ``parts/NAME.parquet`` inside.
        name: the shard's name without ending.
        size: see `curate.photographs.prepare`.
        quality: likewise.

    Returns:
        ``images``, ``bytes`` and ``md5`` of the tar.

    Raises:
        UserError: where an image is missing, damaged or not the one that was ingested.
    """
    digest = hashlib.md5(usedforsecurity=False)
    rows: list[tuple[str, str, int, int, str]] = []
    position = 0
    with writing(folder / f"{name}.tar") as file:

        def add(member: str, data: bytes) -> int:
            nonlocal position
            header = tarfile.TarInfo(member)
            header.size, header.mode = len(data), 0o644
            block = header.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK)
            file.write(block)
            digest.update(block)
            start = position + _BLOCK
            position += len(block)
            return start

        for key, path, sha256, metadata in samples:
            photograph, width, height = _photograph(Path(images) / path, path, sha256, size, quality)
            offset = add(f"{key}.jpg", photograph)
            rows.append((key, f"{name}.tar", offset, len(photograph), hashlib.sha256(photograph).hexdigest()))
            about = {"width": width, "height": height, **metadata}
            add(f"{key}.json", json.dumps(about, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode())
        end = bytes(2 * _BLOCK + -(position + 2 * _BLOCK) % tarfile.RECORDSIZE)
        file.write(end)
        digest.update(end)
    frame = pd.DataFrame(rows, columns=["key", "shard", "offset", "size", "sha256"])
    write_parquet(folder / "parts" / f"{name}.parquet", frame.astype({"offset": "int64", "size": "int64"}))
    return {"images": len(rows), "bytes": position + len(end), "md5": digest.hexdigest()}


def _photograph(full: Path, path: str, sha256: str, size: int, quality: int) -> tuple[bytes, int, int]:
    try:
        data = full.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: gone since it was ingested; ingest again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path}: changed since it was ingested; ingest again")
    try:
        return prepare(data, size=size, quality=quality)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be decoded ({' '.join(str(error).split())}); ingest again") from None
