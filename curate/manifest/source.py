"""What every kind of input becomes: one data frame of text, and where its photographs are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
FIRST_ROW = 2  # as a spreadsheet counts: row 1 is the header
PART = 512  # photographs extracted by one part


@dataclass(frozen=True)
class Source:
    """An archive's table as it was read, and where its photographs are.

    Attributes:
        table: one row an image, all columns as text ("" where missing) with nothing stripped; the index counts rows as
            a spreadsheet does (2 is the first after the header), through all files where there are several.
        inputs: name of each thing read -> SHA-256 or another text that changes when it does; never a password.
        name: what the cohort is called unless the user says otherwise.
        folder: where image paths start unless the user says otherwise; None where the user must say, or where the source
            brings its own photographs.
        columns: cohort column -> the table's column, where the source itself says so (DICOM tags, the dataset's image
            column); profiles and ``--map`` go before.
        extract: writes photographs that are not files yet (a dataset's, DICOM pixel data) into the folder it is given,
            under the names that `table` has, with as many processes as it is told; done markers go into ``parts`` beside
            that folder, so that a killed run goes on where it was. None where they are files already. A photograph that
            can't be extracted is left out: it is then counted as missing.
        synthetic: whether the archive says that its people don't exist.
        rows: name of each file -> its first and last row in `table`'s index, where several files were read.
    """

    table: pd.DataFrame
    inputs: dict[str, str]
    name: str
    folder: Path | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    extract: Callable[[Path, int], None] | None = None
    synthetic: bool = False
    rows: Mapping[str, tuple[int, int]] = field(default_factory=dict)
