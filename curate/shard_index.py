"""The tables of a shard set, written and read a shard at a time, so that a set of any size needs the memory of one shard."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import writing
from curate.errors import UserError
from curate.tars import CHECKSUMS

if TYPE_CHECKING:
    import pyarrow as pa

INDEX = ("key", "shard", "offset", "size", "sha256")
KEYS = ("key", "image_id", "patient_id")
_NUMBERS = ("offset", "size")
_ROW_GROUP = 1 << 16
Columns = dict[str, list[Any]]


def shard_name(number: int) -> str:
    """Name a shard: ``shard-000000.tar`` and so on."""
    return f"shard-{number:06d}.tar"


def shard_runs(images: int, shard_images: int) -> list[tuple[int, int]]:
    """Divide images into shards of nearly equal length.

    Args:
        images: how many there are.
        shard_images: at most so many a shard; a small set is still cut into up to four, for four readers.

    Returns:
        (start, stop) of each shard in the order of the keys.
    """
    shards = max(-(-images // shard_images), min(4, images // 64), 1)
    step = -(-images // shards)
    return [(start, min(start + step, images)) for start in range(0, images, step)]


def write_table(path: Path, columns: tuple[str, ...], pieces: Iterable[Columns]) -> None:
    """Write a Parquet file from pieces, atomically; its bytes don't depend on how the rows were cut into pieces.

    Args:
        path: the file.
        columns: names; ``offset`` and ``size`` are int64, all others strings.
        pieces: lists of equal length for every column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(c, pa.int64() if c in _NUMBERS else pa.string()) for c in columns])
    with writing(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        waiting, written = schema.empty_table(), False
        for piece in pieces:
            waiting = pa.concat_tables([waiting, pa.table([piece[c] for c in columns], schema=schema)])
            while len(waiting) >= _ROW_GROUP:
                writer.write_table(waiting[:_ROW_GROUP].combine_chunks(), row_group_size=_ROW_GROUP)
                waiting, written = waiting[_ROW_GROUP:], True
        if len(waiting) or not written:
            writer.write_table(waiting.combine_chunks(), row_group_size=_ROW_GROUP)


@contextmanager
def open_table(path: Path, columns: tuple[str, ...]) -> Iterator[Any]:
    """Open one of a shard set's Parquet files, to be read in pieces.

    Raises:
        UserError: where it is missing, can't be read or lacks a column; also while it is being read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            missing = [c for c in columns if c not in file.schema_arrow.names]
            if missing:
                raise UserError(f"{path}: has no column '{missing[0]}'")
            yield file
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None


def read_pieces(path: Path, columns: tuple[str, ...], *, rows: int = _ROW_GROUP) -> Iterator[Columns]:
    """Read a table in pieces of at most `rows` rows.

    Raises:
        UserError: as `open_table`.
    """
    with open_table(path, columns) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
            yield batch.to_pydict()


def rows_between(path: Path, columns: tuple[str, ...], column: str, low: str, high: str) -> Columns:
    """Read the rows whose value of a column lies between two texts, both included; other row groups are left unread.

    Raises:
        UserError: as `open_table`.
    """
    import pyarrow.compute as pc

    found: Columns = {c: [] for c in columns}
    with open_table(path, columns) as file:
        position = file.schema_arrow.names.index(column)
        for group in range(file.num_row_groups):
            span = file.metadata.row_group(group).column(position).statistics
            if span is not None and span.has_min_max and (span.max < low or span.min > high):
                continue
            table: pa.Table = file.read_row_group(group, columns=list(columns))
            inside = pc.and_(pc.greater_equal(table[column], low), pc.less_equal(table[column], high))
            for name, values in table.filter(inside).to_pydict().items():
                found[name] += values
    return found


def write_part(path: Path, rows: Columns) -> None:
    """Write one shard's rows of the index where they wait for the others: plain JSON, which needs no libraries to be loaded."""
    with writing(path, "w") as file:
        json.dump(rows, file, separators=(",", ":"))


def read_part(path: Path) -> Columns:
    """Read what `write_part` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def listing(name: str, made: list[dict[str, Any]], checksum: str) -> dict[str, Any]:
    """Give ``shards.json``: the index format of webdataset's wids.

    Args:
        name: of the shard set.
        made: every shard's ``checksum``, ``images`` and ``bytes``, in order.
        checksum: its kind, of `curate.tars.CHECKSUMS`. The wids index names "md5"; its reader never looks at it.
    """
    field = CHECKSUMS[checksum]
    shardlist = [{"url": shard_name(n), field: r["checksum"], "nsamples": r["images"], "filesize": r["bytes"]} for n, r in enumerate(made)]
    return {"__kind__": "wids-shard-index-v1", "wids_version": 1, "name": name, "shardlist": shardlist}


def checksum_of(about: dict[str, Any]) -> str:
    """Say which checksum a set's tars have, from ``sample.json``."""
    kind = about.get("made_by", {}).get("specification", {}).get("checksum")
    return kind if kind in CHECKSUMS else "md5"
