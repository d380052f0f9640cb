"""The files of a shard set as a catalogue of data sets names them: tars with checksums, the index, what each photograph's JSON holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cards.sources import Sources
from cards.tables import clean
from curate import UserError, read_json, sha256_file

HASH_AT_MOST = 1 << 30  # bytes of tars that are read to take their SHA-256; a second on one core
_TAR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\.tar")


def describe_set(sources: Sources, shards: Path) -> dict[str, Any]:
    """Describe what the card is about, as far as the exports need it and no number of people is in it.

    Args:
        sources: the artefacts.
        shards: the shard set's folder; may be absent.

    Returns:
        ``archive`` (its name), ``synthetic`` (None where the cohort doesn't say), ``modality`` (as the sampling was told, or None)
        and ``files`` (see `set_files`, None where there is no set).
    """
    about, sample = sources.cohort.about, sources.sample
    modality = None if sample is None else _asked(sample).get("modality")
    return {
        "archive": clean(sources.cohort.name),
        "synthetic": bool(about["synthetic"]) if isinstance(about.get("synthetic"), bool) else None,
        "modality": None if modality is None else clean(modality, 40),
        "files": None if sample is None else set_files(shards, sample),
    }


def _asked(sample: dict[str, Any]) -> dict[str, Any]:
    return (sample.get("made_by") or {}).get("specification") or {}


def set_files(shards: Path, sample: dict[str, Any]) -> dict[str, Any]:
    """List what is to be published of a shard set.

    A tar's checksum is that of its bytes: the MD5 where ``shards.json`` has it, else the SHA-256, taken here while the tars are
    together no larger than `HASH_AT_MOST`. Larger sets are named by a pattern; ``index.parquet``, whose SHA-256 is given, holds
    that of every photograph. Numbers of samples are left out: they would give the exact count of images.

    Args:
        shards: the shard set's folder.
        sample: its ``sample.json``.

    Returns:
        ``pattern`` (of the tars' names), ``tars`` (name and sha256 or md5; empty for large sets), ``index`` (name and sha256, or
        None) and ``columns`` (of each photograph's JSON).

    Raises:
        UserError: where ``shards.json`` names something that isn't a tar in that folder.
    """
    index = shards / "index.parquet"
    columns = ["width", "height", *(clean(c) for c in _asked(sample).get("embed_metadata") or [])]
    listed = read_json(shards / "shards.json", "a shard set")["shardlist"] if (shards / "shards.json").exists() else []
    return {
        "pattern": "shard-*.tar",
        "tars": _tars(shards, listed),
        "index": {"name": index.name, "sha256": sha256_file(index)} if index.exists() else None,
        "columns": list(dict.fromkeys(c for c in columns if c)),
    }


def _tars(shards: Path, listed: list[dict[str, Any]]) -> list[dict[str, str]]:
    for entry in listed:
        if not _TAR.fullmatch(str(entry.get("url"))):
            raise UserError(
                f"{shards / 'shards.json'}: names '{clean(entry.get('url'))}', which is no tar in that folder; draw the set again"
            )
    names = [str(entry["url"]) for entry in listed]
    if names and all(re.fullmatch("[0-9a-f]{32}", str(entry.get("md5sum"))) for entry in listed):
        return [{"name": n, "md5": str(entry["md5sum"])} for n, entry in zip(names, listed, strict=True)]
    paths = [shards / n for n in names]
    if not all(p.exists() for p in paths) or sum(p.stat().st_size for p in paths) > HASH_AT_MOST:
        return []
    return [{"name": p.name, "sha256": sha256_file(p)} for p in paths]
