"""The images of a dataset, read from its Arrow and Parquet files a run of rows at a time, bytes as they were stored."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 64  # images in memory at a time
# First bytes -> the ending that says so.
_FORMATS = (
    (b"\xff\xd8\xff", ".jpg"), (b"\x89PNG\r\n\x1a\n", ".png"), (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"BM", ".bmp"),
)  # fmt: skip
_HEAD = 8


@dataclass(frozen=True)
class Run:
    """Rows `start` to `stop` of one file that hold images.

    Attributes:
        file: an Arrow stream or a Parquet file.
        column: the column of images: structs of bytes and path.
        start: the first row.
        stop: the row after the last.
        row_group: of a Parquet file, in which the rows are counted; None for Arrow.
    """

    file: str
    column: str
    start: int
    stop: int
    row_group: int | None = None

    def between(self, start: int, stop: int) -> Run:
        """Give a shorter run of the same file."""
        return replace(self, start=start, stop=stop)


def runs_of_parquet(files: list[str], column: str) -> list[Run]:
    """List the row groups of Parquet files."""
    import pyarrow.parquet as pq

    runs = []
    for file in files:
        about = pq.ParquetFile(file).metadata
        runs += [Run(file, column, 0, about.row_group(g).num_rows, g) for g in range(about.num_row_groups)]
    return runs


def runs_of_arrow(dataset: Any, column: str) -> list[Run]:
    """List the Arrow files of a loaded dataset (`datasets.Dataset`), whose rows stand in them in their order."""
    if dataset._indices is not None:
        raise UserError(f"{dataset.cache_files[0]['filename']}: its rows are chosen by an index; save it again after flatten_indices()")
    runs = []
    for about in dataset.cache_files:
        rows = sum(len(batch) for batch in _stream(about["filename"]))
        runs.append(Run(about["filename"], column, 0, rows))
    return runs


def _stream(file: str) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    with pa.memory_map(file) as source:
        yield from pa.ipc.open_stream(source)


def _structs(run: Run) -> Iterator[pa.Array]:
    """Give a run's images as arrays of structs of bytes and path, a few at a time."""
    import pyarrow.parquet as pq

    if run.row_group is not None:
        batches = pq.ParquetFile(run.file).iter_batches(batch_size=_BATCH, row_groups=[run.row_group], columns=[run.column])
    else:
        batches = _stream(run.file)
    position = 0
    for batch in batches:
        first, last = max(run.start - position, 0), min(run.stop - position, len(batch))
        for start in range(first, last, _BATCH):
            array = batch.column(run.column).slice(start, min(_BATCH, last - start))
            yield array.storage if hasattr(array, "storage") else array
        position += len(batch)
        if position >= run.stop:
            break


def paths_of(run: Run) -> Iterator[tuple[str | None, str]]:
    """Give every image's own path, where it has one, and the ending that its first bytes call for."""
    import pyarrow.compute as pc

    for structs in _structs(run):
        heads = pc.binary_slice(pc.struct_field(structs, "bytes"), 0, _HEAD).to_pylist()
        paths = pc.struct_field(structs, "path").to_pylist()
        for path, head in zip(paths, heads, strict=True):
            if head is None and path and os.path.isfile(path):
                with open(path, "rb") as file:
                    head = file.read(_HEAD)
            yield path, _ending(head or b"", path)


def _ending(head: bytes, path: str | None) -> str:
    return next((ending for start, ending in _FORMATS if head.startswith(start)), os.path.splitext(path or "")[1].lower())


def file_name(stem: str, ending: str) -> str:
    """Put a name and an ending together; a name that has the ending already keeps its own spelling."""
    own = os.path.splitext(stem)[1].lower()
    return stem if own == ending or {own, ending} == {".jpg", ".jpeg"} else stem + ending


def extract_part(run: Run, names: list[str], to: str, inside: str | None) -> dict[str, Any]:
    """Write a run's images as files.

    Args:
        run: which.
        names: one a row.
        to: folder to write into.
        inside: images that are given by their path alone are copied only from this folder; None for anywhere, for a
            dataset that was downloaded into its own cache.

    Returns:
        ``images``: how many were written; ``faults``: the name of each other one and why.
    """
    faults, position = [], 0
    for structs in _structs(run):
        for value in structs.to_pylist():
            name = names[position]
            position += 1
            data, path = (value or {}).get("bytes"), (value or {}).get("path")
            if data is None and path:
                if inside is not None and os.path.commonpath([inside, os.path.realpath(os.path.join(inside, path))]) != inside:
                    faults.append(f"{name} (its file is outside the dataset's folder)")
                    continue
                source = Path(inside or "", path)
                data = source.read_bytes() if source.is_file() else None
            if data is None:
                faults.append(f"{name} (no bytes)")
                continue
            # Two machines may write one image at once: whole either way.
            temporary = Path(to, f".{name}.{os.getpid()}.tmp")
            temporary.write_bytes(data)
            os.replace(temporary, Path(to, name))
    return {"images": position - len(faults), "faults": faults}
