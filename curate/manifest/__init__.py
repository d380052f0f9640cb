"""Manifests: whatever an archive's table comes in becomes one data frame of text, nothing interpreted yet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from curate.artefacts import sha256_file
from curate.manifest.tables import FIRST_ROW, IMAGE_SUFFIXES, read_manifest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FIRST_ROW", "IMAGE_SUFFIXES", "Source", "read_manifest", "read_source"]


@dataclass(frozen=True)
class Source:
    """An archive's table as it was read, and where its photographs are.

    Attributes:
        table: one row an image, all columns as text ("" where missing) with nothing stripped; the index counts rows as
            a spreadsheet does (2 is the first after the header).
        inputs: name of each thing read -> SHA-256 or another text that changes when it does; never a password.
        name: what the cohort is called unless the user says otherwise.
        folder: where image paths start unless the user says otherwise; None where the source brings its own.
        columns: cohort column -> the table's column, where the source itself says so (DICOM tags, the dataset's image
            column); profiles and ``--map`` go before.
        extract: writes photographs that are not files yet (a dataset's, DICOM pixel data) into the folder it is given,
            under the names that `table` has, with as many processes as it is told; None where they are files already.
            A photograph that can't be extracted is left out: it is then counted as missing.
        synthetic: whether the archive says that its people don't exist.
    """

    table: pd.DataFrame
    inputs: dict[str, str]
    name: str
    folder: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    extract: Callable[[Path, int], None] | None = None
    synthetic: bool = False


def read_source(manifest: str | Path, *, encoding: str = "utf-8") -> Source:
    """Read an archive's table from whatever it is kept in.

    Args:
        manifest: a ``.csv``, ``.tsv`` or ``.parquet`` file, or a folder of images.
        encoding: of a text file.

    Raises:
        UserError: where it can't be read.
    """
    path = Path(manifest)
    table = read_manifest(path, encoding=encoding)
    folder = path if path.is_dir() else path.parent
    return Source(
        table=table,
        inputs={path.name: sha256_file(path) if path.is_file() else f"{len(table)} files"},
        name=folder.resolve().name,
        folder=folder,
        # A phantom archive says so itself, and whatever is made from it must.
        synthetic=(folder / "simulation.json").is_file(),
    )
