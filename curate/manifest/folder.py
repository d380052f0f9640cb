"""Folders: which kind of archive lies in one, and the list of its images where it is images alone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from curate.errors import UserError
from curate.manifest.source import FIRST_ROW, IMAGE_SUFFIXES

if TYPE_CHECKING:
    import pandas as pd

_DATASET_SUFFIXES = (".parquet", ".arrow", ".tar")


def files_in(folder: Path) -> Iterator[str]:
    """List a folder's files, those of its folders too, as paths relative to it; symbolic links to folders are not followed."""

    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield os.path.relpath(os.path.join(parent, name), folder)


def is_dicom(path: str | Path) -> bool:
    """Say whether a file begins as DICOM files do, whatever its name."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def kind_of(folder: Path) -> str:
    """Say what kind of archive a folder holds: "dataset", "dicom" or "images".

    Raises:
        UserError: where it could be two of them, or none.
    """
    if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return "dataset"
    images = dicom = tables = 0
    for name in files_in(folder):
        lower = name.lower()
        if lower.endswith(IMAGE_SUFFIXES):
            images += 1
        elif os.path.basename(lower) in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
            return "dataset"
        elif lower.endswith(_DATASET_SUFFIXES):
            tables += 1
        elif is_dicom(folder / name) or lower.endswith(".dcm"):
            dicom += 1
    found = [kind for kind, count in (("images", images), ("dicom", dicom), ("hf", tables)) if count]
    if images and found == ["images", "hf"]:
        return "images"  # a table beside images: the images are what was asked for
    if len(found) > 1:
        raise UserError(
            f"{folder}: holds {images:,} images, {dicom:,} DICOM files and {tables:,} files of a dataset; "
            f"say which to read: {' or '.join(f'{kind}:{folder}' for kind in found)}"
        )
    if not found:
        raise UserError(f"{folder}: no images in it ({', '.join(IMAGE_SUFFIXES)}), no DICOM files and no dataset")
    return "dataset" if found == ["hf"] else found[0]


def list_images(folder: Path) -> pd.DataFrame:
    """List a folder's images as a table with the one column ``path``.

    Raises:
        UserError: where there are none.
    """
    import pandas as pd

    found = sorted(name for name in files_in(folder) if name.lower().endswith(IMAGE_SUFFIXES))
    if not found:
        raise UserError(f"{folder}: no images in it ({', '.join(IMAGE_SUFFIXES)})")
    paths = [printable(name) for name in found]
    return pd.DataFrame({"path": paths}, index=pd.RangeIndex(FIRST_ROW, FIRST_ROW + len(paths)), dtype="str")


def printable(name: str) -> str:
    """Spell out the bytes of a file's name that are not UTF-8: no such file will be found, and the ledger says so."""
    return re.sub("[\udc80-\udcff]", lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", name)
