"""Checking one shard: its tar is read from the first byte to the last and compared with what the set's tables say."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.jpeg import read_jpeg
from curate.shard_index import INDEX, KEYS, Columns, rows_between
from curate.shard_writer import pseudonym
from curate.tars import BrokenTar, Checksum, tar_members

_SHOWN = 20  # lines about one matter: a damaged tar has thousands of samples to complain of


def first_lines(lines: list[str]) -> list[str]:
    """Give the first lines of many, and how many more there are."""
    return lines if len(lines) <= _SHOWN else [*lines[:_SHOWN], f"and {len(lines) - _SHOWN:,} more like these"]


@dataclass
class Contents:
    """What a tar holds.

    Attributes:
        checksum: of the whole file.
        bytes: its length.
        rows: the columns of the index, as the tar itself says.
        problems: what is wrong with the tar alone: structure, pairs, JSON, metadata inside photographs.
        keys: of all samples that have any member, in the tar's order.
        complete: whether it could be read to its end and every header and filling is as it was written.
    """

    checksum: str
    bytes: int
    rows: Columns
    problems: list[str]
    keys: list[str]
    complete: bool


def read_shard(path: Path, name: str, columns: frozenset[str] | None, checksum: str) -> Contents:
    """Read a tar to its end.

    Args:
        path: the file.
        name: the shard's file name, for the index and the messages.
        columns: what the samples' JSON may hold; None to look at nothing but structure and checksums.
        checksum: the kind to take of the whole file.

    Raises:
        OSError: where the disk doesn't give the file.
    """
    whole = Checksum(checksum)
    rows: Columns = {c: [] for c in INDEX}
    members: dict[str, list[str]] = {}
    problems: list[str] = []
    complete = ours = True
    sizes: dict[str, tuple[int, int]] = {}
    with open(path, "rb", buffering=1 << 20) as file:
        try:
            for member, start, data, plain in tar_members(file, whole.bytes):
                key, _, suffix = member.partition(".")
                sha256 = hashlib.sha256(data).hexdigest()
                whole.member(member, sha256)
                members.setdefault(key, []).append(suffix)
                if not plain:
                    ours = False
                    problems.append(f"sample {key}: the header or filling of {member} is not what evenfooting writes")
                if suffix == "jpg":
                    for column, value in zip(INDEX, (key, name, start, len(data), sha256), strict=True):
                        rows[column].append(value)
                    problems += _check_photograph(key, data, sizes) if columns is not None else []
                elif suffix == "json":
                    problems += _check_json(key, data, sizes.pop(key, None), columns) if columns is not None else []
                else:
                    problems.append(f"{member} does not belong in a shard")
        except BrokenTar as error:
            complete = False
            problems.append(f"cannot be read to its end: {error}")
        length = file.tell()
    for key, suffixes in members.items():
        problems += [f"sample {key} has no {s}" for s in ("jpg", "json") if s not in suffixes]
        problems += [f"sample {key} stands twice in it" for s in ("jpg", "json") if suffixes.count(s) > 1][:1]
    return Contents(whole.hexdigest(), length, rows, problems, list(members), complete and ours)


def _check_photograph(key: str, data: bytes, sizes: dict[str, tuple[int, int]]) -> list[str]:
    try:
        jpeg = read_jpeg(data)
    except OSError as error:
        return [f"sample {key}: its photograph is no JPEG ({error})"]
    sizes[key] = (jpeg.width, jpeg.height)
    return [] if jpeg.stripped == data else [f"sample {key}: its photograph carries metadata that must not be in a shard"]


def _check_json(key: str, data: bytes, size: tuple[int, int] | None, columns: frozenset[str]) -> list[str]:
    try:
        about = json.loads(data)
        shape = (about["width"], about["height"])
    except (ValueError, KeyError, TypeError):
        return [f"sample {key}: its .json is not JSON with width and height"]
    problems = [f"sample {key}: its .json holds '{c}', which was not asked for" for c in about if c not in columns]
    if size is not None and shape != size:
        problems.append(f"sample {key}: its .json says {shape[0]} x {shape[1]} pixels, its photograph has {size[0]} x {size[1]}")
    return problems


def check_shard(folder: str, name: str, columns: list[str], salt: str | None, private: bool, index: bool, checksum: str) -> dict[str, Any]:
    """Compare a shard with ``index.parquet`` and ``private/keys.parquet``.

    Args:
        folder: the shard set.
        name: the shard's file name.
        columns: what the samples' JSON may hold.
        salt: the secret that made the keys, in hexadecimal, or None where it isn't here.
        private: whether ``private/keys.parquet`` is to be compared.
        index: whether ``index.parquet`` is.
        checksum: the kind that the set has.

    Returns:
        ``problems`` (lines), and unless the tar is missing ``checksum``, ``bytes``, ``images``, ``first`` and ``last`` (keys).
    """
    base = Path(folder)
    try:
        found = read_shard(base / name, name, frozenset(columns), checksum)
    except FileNotFoundError:
        return {"problems": [f"{name}: missing"]}
    except OSError as error:
        return {"problems": [f"{name}: cannot be read ({error.strerror or error})"]}
    problems = list(found.problems)
    if index:
        problems += _against_index(found, rows_between(base / "index.parquet", INDEX, "shard", name, name))
    keys = found.keys
    problems += [f"sample {after} stands out of order, after {before}" for before, after in itertools.pairwise(keys) if after <= before]
    if private and keys:
        who = rows_between(base / "private" / "keys.parquet", KEYS, "key", min(keys), max(keys))
        problems += _against_keys(keys, who, bytes.fromhex(salt) if salt is not None else None)
    lines = [f"{name}: {p}" for p in first_lines(problems)]
    ends = {"first": keys[0], "last": keys[-1]} if keys else {"first": None, "last": None}
    return {"problems": lines, "checksum": found.checksum, "bytes": found.bytes, "images": len(found.rows["key"]), **ends}


def _against_index(found: Contents, index: Columns) -> list[str]:
    said = {key: row for key, *row in zip(*(index[c] for c in ("key", "offset", "size", "sha256")), strict=True)}
    problems = [f"sample {key} stands twice in index.parquet" for key in _doubled(index["key"])]
    for key, offset, size, sha256 in zip(*(found.rows[c] for c in ("key", "offset", "size", "sha256")), strict=True):
        row = said.pop(key, None)
        if row is None:
            problems.append(f"sample {key} is not in index.parquet for this shard")
        elif row[:2] != [offset, size]:
            problems.append(f"sample {key} is not where index.parquet says")
        elif row[2] != sha256:
            problems.append(f"sample {key}: its photograph's checksum is wrong")
    return problems + [f"sample {key} of index.parquet is not in it" for key in said]


def _against_keys(keys: list[str], who: Columns, salt: bytes | None) -> list[str]:
    image = dict(zip(who["key"], who["image_id"], strict=True))
    present = set(keys)
    problems = [f"sample {key} is not in private/keys.parquet" for key in keys if key not in image]
    problems += [f"sample {key} of private/keys.parquet (image {i}) is in no shard" for key, i in image.items() if key not in present]
    problems += [f"sample {key} stands twice in private/keys.parquet" for key in _doubled(who["key"])]
    if salt is not None:
        wrong = [(key, i) for key, i in image.items() if pseudonym(salt, i) != key]
        problems += [f"sample {key}: private/keys.parquet gives it to image {i}, whose key is another" for key, i in wrong]
    return problems


def _doubled(keys: list[str]) -> list[str]:
    seen: set[str] = set()
    return [k for k in keys if k in seen or seen.add(k)]  # type: ignore[func-returns-value]
