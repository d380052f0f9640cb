"""Manifests: any table of images becomes one data frame of text, nothing interpreted yet."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp")
FIRST_ROW = 2  # as a spreadsheet counts: row 1 is the header


def read_manifest(path: Path, *, encoding: str = "utf-8") -> pd.DataFrame:
    """Read a manifest.

    Args:
        path: a ``.csv``, ``.tsv`` or ``.parquet`` file, or a folder of images (searched through, symbolic links to
            folders not followed), which gives the one column ``path``.
        encoding: of a text file.

    Returns:
        One row an image, all columns as text with nothing stripped, the index counting rows as a spreadsheet does
        (2 is the first after the header).

    Raises:
        UserError: where the file is missing, empty, of another kind, ragged or not in that encoding.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        frame = _list_folder(path)
    elif path.suffix.lower() == ".parquet":
        frame = _read_parquet(path)
    elif path.suffix.lower() in (".csv", ".tsv", ".txt"):
        frame = _read_text(path, encoding)
    else:
        raise UserError(f"{path}: a manifest is a .csv, .tsv or .parquet file, or a folder of images")
    if frame.empty:
        raise UserError(f"{path}: holds no rows")
    doubled = frame.columns[frame.columns.duplicated()]
    if len(doubled):
        raise UserError(f"{path}: two columns are called '{doubled[0]}'; rename one")
    return frame.set_axis(range(FIRST_ROW, FIRST_ROW + len(frame)), axis=0)


def _list_folder(folder: Path) -> pd.DataFrame:
    import pandas as pd

    found = []
    for parent, folders, files in os.walk(folder):
        folders.sort()
        found += [os.path.relpath(os.path.join(parent, f), folder) for f in files if f.lower().endswith(IMAGE_SUFFIXES)]
    if not found:
        raise UserError(f"{folder}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
    return pd.DataFrame({"path": sorted(found)}, dtype=object)


def _read_text(path: Path, encoding: str) -> pd.DataFrame:
    import pandas as pd

    try:
        with open(path, encoding="utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding, newline="") as file:
            if "\0" in file.read(4096):
                raise UserError(f"{path}: not a text file")
            file.seek(0)
            rows = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
            header = next(rows, None)
            if not header:
                raise UserError(f"{path}: is empty")
            body = [row for row in rows if row]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not {encoding} (byte {error.start}); name the encoding, as --encoding cp1252") from None
    except LookupError:
        raise UserError(f"--encoding {encoding}: no such encoding") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a table ({error})") from None
    for number, row in enumerate(body, FIRST_ROW):
        if len(row) != len(header):
            raise UserError(f"{path}: row {number} has {len(row)} fields, the header has {len(header)}")
    return pd.DataFrame(body, columns=[c.strip() or f"column {i}" for i, c in enumerate(header, 1)], dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    import pandas as pd
    import pyarrow as pa

    try:
        frame = pd.read_parquet(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: cannot be read as Parquet ({' '.join(str(error).split())})") from None
    text = frame.reset_index(drop=True).astype(object)
    for column in text.columns:
        missing = frame[column].isna().to_numpy()
        # Whole numbers that pandas holds as floats (because some are missing) are whole numbers in the table.
        text[column] = [
            "" if gone else str(int(v)) if isinstance(v, float) and v.is_integer() else str(v)
            for v, gone in zip(frame[column], missing, strict=True)
        ]
    return text.rename(columns=str)
