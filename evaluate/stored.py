"""Photographs decoded and resized once, for training that looks at them many times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curate import run_parts, slices, write_array
from evaluate.features import view

PART = 256  # photographs a file


@dataclass(frozen=True)
class StoredImages:
    """Photographs as uint8 files of `PART` each, mapped into memory as they are looked at.

    Attributes:
        folder: of the files.
        paths: (n,) the photographs.
        shape: height and width in pixels.
    """

    folder: Path
    paths: Sequence[Path]
    shape: tuple[int, int]
    _open: dict[int, NDArray[np.uint8]] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def files(self) -> int:
        """How many files there are."""
        return -(-len(self) // PART)

    def __getitem__(self, place: int) -> NDArray[np.uint8]:
        """Give one photograph, (height, width, 3) uint8, not to be written to."""
        part, row = divmod(int(place), PART)
        if part not in self._open:
            self._open[part] = np.load(_file(self.folder, part), mmap_mode="r")
        return self._open[part][row]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}  # another process opens the files itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def store(self, *, workers: int) -> None:
        """Decode what is missing, in parts.

        Raises:
            PartDone: in a task of an array job, when its share is done.
            UserError: where a photograph can't be read.
        """
        parts = [
            (f"part-{start:09d}", stop - start, (list(self.paths[start:stop]), self.shape, str(_file(self.folder, number))))
            for number, (start, stop) in enumerate(slices(len(self), PART))
        ]
        run_parts(
            _store_part, parts, markers=self.folder, workers=workers, label=f"photographs at {self.shape[1]} x {self.shape[0]} pixels"
        )

    def fill(self, *, first: int = 0) -> None:
        """Decode in this process whatever isn't there yet, beginning at one of the files.

        Tasks of an array job, which don't wait for one another, begin at different files and so share most of the work.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        spans = slices(len(self), PART)
        for number in ((first + step) % len(spans) for step in range(len(spans))):
            if not _file(self.folder, number).exists():
                start, stop = spans[number]
                _store_part(list(self.paths[start:stop]), self.shape, str(_file(self.folder, number)))


def _file(folder: Path, part: int) -> Path:
    return folder / f"part-{part * PART:09d}.npy"


def _store_part(paths: Sequence[Path], shape: tuple[int, int], result: str) -> dict[str, Any]:
    write_array(Path(result), np.stack([view(path, (3, *shape)) for path in paths]))
    return {"images": len(paths)}
