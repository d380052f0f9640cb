"""The cohort: one row an image, who is on it, and what became of every value on the way in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.artefacts import read_json, sha256_file
from curate.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_BATCH = 500_000
COLUMNS = (
    "image_id", "path", "patient_id", "laterality", "acquired_on", "age", "sex", "ethnicity",
    "device", "site", "width", "height", "sha256", "phash",
)  # fmt: skip


@dataclass(frozen=True)
class Cohort:
    """A cohort folder that has been read.

    Attributes:
        folder: where it is.
        table: one row an image: the columns of `COLUMNS` (ids, categories and hashes as strings; ``age`` in years,
            float64; ``acquired_on`` as ISO dates, ``YYYY-MM-DD``; ``width`` and ``height`` in pixels, int64) and every further column of
            the manifest; missing values are nulls. Sorted by ``image_id``, which is unique.
        about: what made it (``cohort.json``).
    """

    folder: Path
    table: pd.DataFrame
    about: dict[str, Any]

    @property
    def name(self) -> str:
        """The cohort's name, as given at ingest or the manifest's."""
        return str(self.about.get("name") or self.folder.resolve().name)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of ``cohort.parquet``."""
        return sha256_file(self.folder / "cohort.parquet")

    @cached_property
    def images(self) -> Path:
        """The folder that ``path`` is relative to."""
        stored = Path(str(self.about["images"]))
        return stored if stored.is_absolute() else (self.folder / stored)

    def rows(self, positions: np.ndarray, columns: Iterable[str]) -> pd.DataFrame:
        """Read some rows of some columns, a piece of the file at a time.

        Args:
            positions: (m,) integers, rows of the table, rising.
            columns: read these.

        Returns:
            (m, columns), indexed by `positions`.
        """
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        pieces, start = [], 0
        file = pq.ParquetFile(self.folder / "cohort.parquet")
        for batch in file.iter_batches(batch_size=_BATCH, columns=list(dict.fromkeys(columns))):
            first, last = np.searchsorted(positions, [start, start + batch.num_rows])
            if last > first:
                pieces.append(batch.take(pa.array(positions[first:last] - start)))
            start += batch.num_rows
        whole = pa.Table.from_batches(pieces, schema=None if pieces else file.schema_arrow)
        return whole.to_pandas().set_axis(positions, axis=0)

    def measurements(self, columns: Iterable[str] | None = None) -> pd.DataFrame | None:
        """Read ``measurements.parquet`` (``image_id`` and one column a measure; or these columns), or None where nothing was measured."""
        return _read_parquet(self.folder / "measurements.parquet", columns)

    def of_the_photograph(self) -> frozenset[str]:
        """Name the measures that say how an image was taken and not what it shows, as the modality that measured them has it."""
        if not (self.folder / "measurements.json").exists():
            return frozenset()
        about = read_json(self.folder / "measurements.json", "a table of measures")
        if "of_the_photograph" in about:
            return frozenset(about["of_the_photograph"])
        from curate.modalities import MODALITIES, load_modality

        modality = about.get("made_by", {}).get("specification", {}).get("modality")  # measured before that was written down
        return frozenset(load_modality(modality).of_the_photograph if modality in MODALITIES else ())

    def duplicates(self) -> pd.DataFrame:
        """Read ``duplicates.parquet``: pairs of images that show nearly the same photograph.

        Returns:
            Columns image_a, image_b (strings, image_a < image_b), distance (bits in which the perceptual hashes differ, int64),
            similarity (correlation of the two photographs' detail, float64). Identical files
            have similarity 1, each paired with the first.
        """
        frame = _read_parquet(self.folder / "duplicates.parquet")
        if frame is None:
            raise UserError(f"{self.folder}: duplicates.parquet is missing; ingest again")
        return frame

    def ledger(self) -> pd.DataFrame:
        """Read ``ledger.parquet``: columns row, column, before, after, rule."""
        frame = _read_parquet(self.folder / "ledger.parquet")
        if frame is None:
            raise UserError(f"{self.folder}: ledger.parquet is missing; ingest again")
        return frame


def read_cohort(folder: Path, columns: Iterable[str] | None = None) -> Cohort:
    """Read a cohort folder.

    Args:
        folder: made by ``curate ingest``.
        columns: read these alone, as far as the table has them (of many millions of rows not everything fits into memory).

    Raises:
        UserError: where it is missing, unfinished or damaged.
    """
    if not folder.exists():
        raise UserError(f"{folder}: no cohort here; make one with: curate ingest MANIFEST --images DIR")
    about = read_json(folder / "cohort.json", "a cohort")
    table = _read_parquet(folder / "cohort.parquet", columns)
    if table is None:
        raise UserError(f"{folder}: cohort.parquet is missing; ingest again")
    return Cohort(folder=folder, table=table, about=about)


def _read_parquet(path: Path, columns: Iterable[str] | None = None) -> pd.DataFrame | None:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return None
    try:
        if columns is None:
            return pd.read_parquet(path)
        there = set(pq.read_schema(path).names)
        return pd.read_parquet(path, columns=[c for c in dict.fromkeys(columns) if c in there])
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
