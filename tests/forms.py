"""The same small archive in every form in which archives come."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

OPHTHALMIC_PHOTOGRAPHY = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
EXPLICIT_VR, JPEG_BASELINE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.50"
_TABLE = (
    "CREATE TABLE images (image_file VARCHAR(80), patient_id VARCHAR(20), eye VARCHAR(10), exam_date {date}, age {number}, "
    "sex VARCHAR(10), ethnicity VARCHAR(20), camera VARCHAR(40), hospital VARCHAR(40), dr_grade INTEGER)"
)


def fill(execute: Callable[[str], Any], rows: list[dict[str, Any]], *, date: str = "DATE", number: str = "INTEGER") -> None:
    execute(_TABLE.format(date=date, number=number))
    for row in rows:
        execute("INSERT INTO images VALUES (" + ", ".join(f"'{v}'" for v in row.values()) + ")")


def as_excel(rows: list[dict[str, Any]], path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(list(rows[0]))
    for row in rows:
        typed = {**row, "age": int(row["age"]), "exam_date": datetime.fromisoformat(row["exam_date"]), "dr_grade": float(row["dr_grade"])}
        sheet.append(list(typed.values()))
    sheet.append([None] * len(rows[0]))
    sheet.cell(row=len(rows) + 40, column=3).value = ""
    book.create_sheet("Sheet2")
    book.save(path)


def as_parquet(rows: list[dict[str, Any]], path: Path) -> None:
    frame = pd.DataFrame(rows).astype({"age": float, "dr_grade": "int8", "sex": "category"})
    frame["exam_date"] = pd.to_datetime(frame["exam_date"])
    frame.to_parquet(path)


def as_json_lines(rows: list[dict[str, Any]], path: Path) -> None:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({**row, "age": int(row["age"])}) + "\n")


def dataset_of(rows: list[dict[str, Any]], images: Path) -> Any:
    import datasets

    features = datasets.Features(
        {
            "image": datasets.Image(),
            **{c: datasets.Value("string") for c in rows[0] if c not in ("image_file", "age", "sex")},
            "age": datasets.Value("float64"),
            "sex": datasets.ClassLabel(names=["male", "female"]),
        }
    )
    made = [
        {**{k: v for k, v in row.items() if k != "image_file"}, "age": float(row["age"])}
        | {"image": {"bytes": (images / row["image_file"]).read_bytes(), "path": row["image_file"]}}
        for row in rows
    ]
    return datasets.Dataset.from_list(made, features=features)


def data_set(
    pixels: np.ndarray | list[bytes] | None, *, syntax: str = EXPLICIT_VR, stored: int = 8, size: tuple[int, int] = (64, 64), **tags: Any
) -> Any:
    """Make a data set of (H, W), (H, W, 3) or (frames, H, W) pixels, or of encoded frames."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate

    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    tags = {"SOPClassUID": OPHTHALMIC_PHOTOGRAPHY, "SOPInstanceUID": pydicom.uid.generate_uid(), "PatientID": "1", "Modality": "OP", **tags}
    colour = tags.pop("colour", False) or (isinstance(pixels, np.ndarray) and pixels.ndim == 3 and pixels.shape[-1] == 3)
    tags.setdefault("PhotometricInterpretation", "RGB" if colour else "MONOCHROME2")
    ds.SamplesPerPixel = 3 if colour else 1
    if colour:
        ds.PlanarConfiguration = 0
    if isinstance(pixels, np.ndarray):
        size = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    ds.Rows, ds.Columns = size
    ds.BitsAllocated = 8 if stored <= 8 else 16
    ds.BitsStored, ds.HighBit, ds.PixelRepresentation = stored, stored - 1, 0
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    if isinstance(pixels, list):
        ds.PixelData = encapsulate(pixels)
        ds["PixelData"].is_undefined_length = True
    elif pixels is not None:
        ds.PixelData = pixels.tobytes()
    return ds


def save_dicom(ds: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return path


def as_dicom(rows: list[dict[str, Any]], images: Path, folder: Path) -> None:
    for number, row in enumerate(rows):
        data = (images / row["image_file"]).read_bytes()
        maker, _, model = row["camera"].partition(" ")
        tags = {
            "SOPInstanceUID": row["image_file"].removesuffix(".jpg"), "PatientID": row["patient_id"], "PatientName": "Doe^Jane",
            "PatientAge": f"{int(row['age']):03d}Y", "PatientSex": row["sex"][0].upper(), "ImageLaterality": row["eye"][0].upper(),
            "AcquisitionDate": row["exam_date"].replace("-", ""), "EthnicGroup": row["ethnicity"], "Manufacturer": maker,
            "ManufacturerModelName": model, "InstitutionName": row["hospital"],
        }  # fmt: skip
        ds = data_set([data], syntax=JPEG_BASELINE, colour=True, PhotometricInterpretation="YBR_FULL_422", **tags)
        save_dicom(ds, folder / f"study{number // 4}" / f"IM{number:04d}")
