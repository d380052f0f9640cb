"""Shard sets: read by index, never extracted.

A shard is an ordinary tar of ``<key>.jpg`` and ``<key>.json``. ``index.parquet`` says where in which shard each
photograph's bytes are, so a reader takes any sample with one positioned read, in any order, from any process.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import read_json, sha256_file
from curate.errors import UserError
from curate.shard_index import INDEX

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class ShardSet:
    """A shard set folder that has been opened.

    Attributes:
        folder: where it is.
        index: columns key (string), shard (file name), offset and size (bytes, of the photograph inside the tar,
            int64), sha256 (of those bytes); in the order of the tars.
        about: the specification and what became of it (``sample.json``).
    """

    folder: Path
    index: pd.DataFrame
    about: dict[str, Any]
    _files: dict[str, int] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``index.parquet``, which holds the SHA-256 of every photograph."""
        return sha256_file(self.folder / "index.parquet")

    @cached_property
    def _columns(self) -> tuple[list[str], Any, Any]:
        return self.index["shard"].tolist(), self.index["offset"].to_numpy(), self.index["size"].to_numpy()

    def read(self, position: int) -> bytes:
        """Read one photograph's bytes (JPEG).

        Args:
            position: row of `index`.

        Raises:
            UserError: where the shard is missing or shorter than the index says.
        """
        shards, offsets, sizes = self._columns
        name, size = shards[position], int(sizes[position])
        if name not in self._files:
            try:
                self._files[name] = os.open(self.folder / name, os.O_RDONLY)
            except FileNotFoundError:
                raise UserError(f"{self.folder / name}: missing; run: curate verify {self.folder}") from None
        data = os.pread(self._files[name], size, int(offsets[position]))
        if len(data) != size:
            raise UserError(
                f"{self.folder / name}: ends before sample {self.index['key'].iloc[position]}; run: curate verify {self.folder}"
            )
        return data

    def __getstate__(self) -> dict[str, Any]:
        # File descriptors belong to one process: a loader's worker opens its own.
        return {**self.__dict__, "_files": {}}

    def close(self) -> None:
        """Close the files that `read` opened."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


def open_shards(folder: str | Path) -> ShardSet:
    """Open a shard set for reading.

    Args:
        folder: made by ``curate sample``.

    Raises:
        UserError: where it is missing, unfinished or damaged.
    """
    import pandas as pd

    folder = Path(folder)
    if not folder.exists():
        raise UserError(f"{folder}: no shard set here; make one with: curate sample --balance age")
    about = read_json(folder / "sample.json", "a shard set")
    try:
        index = pd.read_parquet(folder / "index.parquet")
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: index.parquet cannot be read ({' '.join(str(error).split())})") from None
    missing = [column for column in INDEX if column not in index.columns]
    if missing:
        raise UserError(f"{folder}: index.parquet has no column '{missing[0]}'; rebuild it with: curate shards repair {folder}")
    for name in index["shard"].unique():
        if os.path.basename(name) != name:
            raise UserError(f"{folder}: index.parquet names the shard '{name}', which is not a file of this folder")
    return ShardSet(folder=folder, index=index, about=about)
