"""Building shards in parts: one tar each, from the photographs of a cohort.

What all shards are to hold is written into one file, a line a sample; a part is told where in that file its own lines
are. No process holds more than one photograph and a few megabytes of a tar.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import writing
from curate.errors import UserError
from curate.parts import run_parts
from curate.rendering import Rendered, render
from curate.shard_index import INDEX, Columns, shard_name, write_part
from curate.tars import Checksum, padding, tar_end, tar_header

if TYPE_CHECKING:
    import pandas as pd

_GATHERED = 4 << 20  # bytes of a tar that wait for one write
_PIECES = 1000  # and buffers: the system takes at most 1,024 at a time
_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True)
class Form:
    """What photographs become on their way into a shard; see `curate.rendering.render`.

    Attributes:
        size: pixels along the shorter side; 0 keeps the size.
        quality: of JPEGs that are encoded anew.
        crop: the modality to whose field of view they are cut, or None.
        checksum: of the tars, see `curate.tars.Checksum`.
    """

    size: int
    quality: int
    crop: str | None = None
    checksum: str = "members"


def build_shards(
    shards: Iterable[tuple[int, list[str], pd.DataFrame]],
    *,
    metadata: Sequence[str],
    images: Path,
    form: Form,
    folder: Path,
    workers: int,
) -> dict[int, dict[str, Any]]:
    """Write tars, and each one's rows of the index into ``parts/`` beside them.

    Args:
        shards: number, the keys in ascending order, and the cohort's rows (``path``, ``sha256`` and those to embed) in
            the same order; taken one at a time.
        metadata: columns to embed.
        images: the folder that paths are relative to.
        form: what the photographs become.
        folder: where the tars go.
        workers: processes, 0 for one a core.

    Returns:
        Number -> ``images``, ``bytes`` and ``checksum`` of the tar, ``encoded`` (photographs encoded anew) and
        ``uncropped`` (photographs whose field of view was not found).

    Raises:
        UserError: where an image is missing, damaged or not the one that was ingested.
    """
    parts = folder / "parts"
    parts.mkdir(exist_ok=True)
    plan = parts / "plan.jsonl"
    jobs: list[tuple[str, int, tuple[Any, ...]]] = []
    numbers = []
    position = 0
    with writing(plan) as file:
        for number, keys, rows in shards:
            lines = _lines(keys, rows, metadata)
            file.write(lines)
            name = shard_name(number)
            numbers.append(number)
            jobs.append((name, len(keys), (str(plan), position, len(lines), str(images), folder, name, form)))
            position += len(lines)
    results = run_parts(build_shard, jobs, markers=parts, workers=workers, label="writing shards")
    return dict(zip(numbers, results, strict=True))


def _lines(keys: list[str], rows: pd.DataFrame, metadata: Sequence[str]) -> bytes:
    embedded = zip(*(map(_plain, rows[c]) for c in metadata), strict=True) if metadata else [()] * len(rows)
    samples = zip(keys, rows["path"], rows["sha256"], embedded, strict=True)
    text = (json.dumps([key, path, sha256, dict(zip(metadata, values, strict=True))]) for key, path, sha256, values in samples)
    return "".join(line + "\n" for line in text).encode()


def _plain(value: Any) -> Any:
    if value is None or value != value or type(value).__name__ == "NAType":
        return None
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, str | int | float | bool) else str(value)


def build_shard(plan: str, start: int, length: int, images: str, folder: Path, name: str, form: Form) -> dict[str, Any]:
    """Write one tar and its part of the index.

    Args:
        plan: the file with the samples of all shards.
        start: where this shard's lines begin.
        length: of its lines, in bytes.
        images: the folder that paths are relative to.
        folder: where the tar goes; its part of the index goes to ``parts/NAME.index`` inside.
        name: the shard's file name.
        form: what the photographs become.

    Returns:
        See `build_shards`.

    Raises:
        UserError: where an image is missing, damaged or not the one that was ingested.
    """
    with open(plan, "rb") as file:
        file.seek(start)
        lines = file.read(length).splitlines()
    index: Columns = {c: [] for c in INDEX}
    encoded = uncropped = 0
    with writing(folder / name) as file:
        tar = _Tar(file.fileno(), form.checksum)
        for line in lines:
            key, path, sha256, metadata = json.loads(line)
            made = _photograph(images, path, sha256, form)
            # A photograph that is written as it lies on disk has the digest that was just checked.
            digest = sha256 if made.original else hashlib.sha256(made.jpeg).hexdigest()
            offset = tar.add(f"{key}.jpg", made.jpeg, digest)
            text = _json({"width": made.width, "height": made.height, **metadata}) if metadata else _shape(made)
            tar.add(f"{key}.json", about := text.encode(), hashlib.sha256(about).hexdigest())
            for column, value in zip(INDEX, (key, name, offset, len(made.jpeg), digest), strict=True):
                index[column].append(value)
            encoded += made.encoded
            uncropped += not made.found
        tar.close()
    write_part(folder / "parts" / f"{name}.index", index)
    return {"images": len(lines), "bytes": tar.position, "checksum": tar.checksum.hexdigest(), "encoded": encoded, "uncropped": uncropped}


def _shape(made: Rendered) -> str:
    return f'{{"height":{made.height},"width":{made.width}}}'


def _photograph(images: str, path: str, sha256: str, form: Form) -> Rendered:
    try:
        data = _read(os.path.join(images, path))
    except FileNotFoundError:
        raise UserError(f"{path}: gone since it was ingested; ingest again") from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise UserError(f"{path}: changed since it was ingested; ingest again")
    try:
        return render(data, size=form.size, quality=form.quality, crop=form.crop)
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"{path}: cannot be decoded ({' '.join(str(error).split())}); ingest again") from None


def _read(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, size + 1)
        while len(data) != size and (more := os.read(descriptor, 1 << 24)):
            data += more
    finally:
        os.close(descriptor)
    return data


class _Tar:
    """A tar under way: gathers small pieces, writes and digests them together."""

    def __init__(self, descriptor: int, checksum: str) -> None:
        self.position = 0
        self.checksum = Checksum(checksum)
        self._descriptor = descriptor
        self._waiting: list[bytes] = []
        self._bytes = 0
        self._filling = b""  # of the member before

    def add(self, name: str, data: bytes, sha256: str) -> int:
        """Add a member, whose digest is known, and say where its data begin."""
        self.checksum.member(name, sha256)
        self._put(self._filling + tar_header(name.encode(), len(data)))
        start = self.position
        if len(data) < 4096:
            # Joined to the header: a copy costs less than a piece of its own.
            self._waiting[-1] += data
            self._bytes += len(data)
            self.position += len(data)
        else:
            self._put(data)
        self._filling = padding(len(data))
        return start

    def _put(self, piece: bytes) -> None:
        if self._bytes >= _GATHERED or len(self._waiting) >= _PIECES:
            self._flush()
        self._waiting.append(piece)
        self._bytes += len(piece)
        self.position += len(piece)

    def close(self) -> None:
        """Write the end mark."""
        self._put(self._filling)
        self._put(tar_end(self.position))
        self._flush()

    def _flush(self) -> None:
        for piece in self._waiting:
            self.checksum.bytes(piece)
        written = os.writev(self._descriptor, self._waiting)
        if written < self._bytes:  # a disk that is nearly full, or a signal
            rest = memoryview(b"".join(self._waiting))
            while written < self._bytes:
                written += os.write(self._descriptor, rest[written:])
        # The disk starts on it now, so that syncing the whole tar at its end has little left to wait for.
        os.posix_fadvise(self._descriptor, self.position - self._bytes, self._bytes, os.POSIX_FADV_DONTNEED)
        self._waiting, self._bytes = [], 0
