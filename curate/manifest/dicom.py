"""Folders of DICOM files: what their headers say of patient, eye and day, one row a photograph.

Ophthalmic photography (SOP classes 1.2.840.10008.5.1.4.1.1.77.1.5.1 and .5.2) is what this is made for; any other image is
read the same way. Names, addresses and dates of birth are not copied.
"""

from __future__ import annotations

import datetime
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.console import warn
from curate.errors import UserError
from curate.manifest.dicom_pixels import JPEG_BASELINE, extract_part, quiet
from curate.manifest.folder import files_in, is_dicom, printable
from curate.manifest.source import FIRST_ROW, PART, Source
from curate.manifest.text_table import TextTable, digest_of
from curate.parts import run_parts, slices, worker_count

if TYPE_CHECKING:
    from pydicom import Dataset

_TAGS = (
    "SOPClassUID", "SOPInstanceUID", "PatientID", "PatientAge", "PatientBirthDate", "PatientSex", "EthnicGroup", "ImageLaterality",
    "Laterality", "AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate", "Manufacturer", "ManufacturerModelName",
    "InstitutionName", "Modality", "BurnedInAnnotation", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated",
    "PhotometricInterpretation", "SpecificCharacterSet", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip
_COLUMNS = (
    "path", "image_id", "patient_id", "laterality", "acquired_on", "age", "sex", "ethnicity", "device", "site", "modality",
    "burned_in_annotation", "frame",
)  # fmt: skip
_DIRECTORY = "1.2.840.10008.1.3.10"
# Images in form, but not of the patient: segmentations, radiation doses, maps of computed values.
_DERIVED = frozenset({"1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.481.2", "1.2.840.10008.5.1.4.1.1.30"})
_SEX = {"M": "male", "F": "female", "O": "other"}
_SIDE = {"R": "right", "L": "left"}
_HEADERS = 256  # files whose headers one process reads at a time


def read_dicom(folder: Path, *, workers: int = 0) -> Source:
    """Read the headers of a folder's DICOM files.

    Args:
        folder: searched through; files are known by their first bytes, not by their names.
        workers: processes, 0 for one a core.

    Returns:
        One row a photograph (one a frame where a file has several), in the order of the files' paths. A file that can't be
        read is a row without a patient, so that the ledger names it.

    Raises:
        UserError: where pydicom isn't installed, or nothing in the folder is an image.
    """
    try:
        import pydicom  # noqa: F401
    except ModuleNotFoundError:
        raise UserError(f'{folder}: reading DICOM needs a further package: pip install "evenfooting[dicom]"') from None
    names = [n for n in files_in(folder) if n.lower().endswith(".dcm") or is_dicom(folder / n)]
    rows: list[dict[str, Any]] = []
    skipped: Counter[str] = Counter()
    for found, left in _in_processes(str(folder.resolve()), names, workers):
        rows += found
        skipped.update(left)
    table = TextTable(folder)
    if rows:
        given = [c for c in _COLUMNS if c != "frame" or any(row["frame"] for row in rows)]
        table.add({c: [row[c] for row in rows] for c in given}, range(FIRST_ROW, FIRST_ROW + len(rows)))
    for what, count in sorted(skipped.items()):
        warn(f"{folder}: {count:,} file(s) skipped: {what}")
    unreadable = [row for row in rows if row["fault"]]
    if unreadable:
        warn(f"{folder}: {len(unreadable):,} file(s) cannot be read; first: {unreadable[0]['file']} ({unreadable[0]['fault']})")
    if len(unreadable) == len(rows):
        raise UserError(f"{folder}: none of its {len(names):,} DICOM files is an image that can be read")
    frame = table.frame()
    # A file that lies there twice is extracted once; the ledger refuses its second row.
    items = {row["path"]: (row["file"], int(row["frame"] or 1) - 1) for row in reversed(rows) if not row["fault"]}
    sizes = sum(row["bytes"] for row in rows)
    return Source(
        table=frame,
        inputs={folder.resolve().name: f"{len(names)} files, {sizes} bytes, {digest_of(frame)}"},
        name=folder.resolve().name,
        columns={c: c for c in _COLUMNS[:10]},
        extract=_Extraction(str(folder.resolve()), sorted((file, number, path) for path, (file, number) in items.items())),
        synthetic=(folder / "simulation.json").is_file(),
    )


def _in_processes(folder: str, names: list[str], workers: int) -> Iterator[tuple[list[dict[str, Any]], list[str]]]:
    chunks = [names[start:stop] for start, stop in slices(len(names), _HEADERS)]
    if len(chunks) <= 1 or worker_count(workers) == 1:
        yield from (_read_headers(folder, chunk) for chunk in chunks)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=worker_count(workers), return_as="generator")(delayed(_read_headers)(folder, c) for c in chunks)


def _read_headers(folder: str, names: list[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Read headers; gives rows, and why each skipped file was skipped."""
    import pydicom

    rows: list[dict[str, Any]] = []
    skipped: list[str] = []
    for name in names:
        full = os.path.join(folder, name)
        about = {"file": name, "bytes": 0, "fault": ""}
        try:
            about["bytes"] = os.path.getsize(full)
            with quiet():
                header = pydicom.dcmread(full, stop_before_pixels=True, specific_tags=list(_TAGS))
                syntax = str(header.file_meta.get("TransferSyntaxUID", ""))
                stored = str(header.file_meta.get("MediaStorageSOPClassUID", "") or header.get("SOPClassUID", ""))
                if stored == _DIRECTORY:
                    skipped.append("a directory of the medium (DICOMDIR)")
                elif "Rows" not in header and ("SOPClassUID" not in header or "Image Storage" in header.SOPClassUID.name):
                    raise ValueError("its header ends before it says what image it holds")
                elif stored in _DERIVED or "Rows" not in header:
                    skipped.append("not a photograph (report, document or computed map)")
                else:
                    rows += [{**about, **row} for row in _rows(header, syntax)]
        except Exception as error:  # whatever a damaged header makes pydicom raise
            reason = " ".join(str(error).split()) or type(error).__name__
            rows.append({**dict.fromkeys(_COLUMNS, ""), **about, "file": printable(name), "path": printable(name), "fault": reason})
    return rows, skipped


def _rows(header: Dataset, syntax: str) -> list[dict[str, str]]:
    uid = re.sub(r"[^\w.-]", "_", _text(header, "SOPInstanceUID"))
    if not uid.strip("._"):
        raise ValueError("no SOPInstanceUID")
    frames = int(header.get("NumberOfFrames") or 1)
    suffix = ".jpg" if _is_plain_jpeg(header, syntax) else ".png"
    acquired = _acquired_on(header)
    row = {
        "patient_id": _text(header, "PatientID"),
        "acquired_on": acquired.isoformat() if acquired else "",
        "age": _age(header, acquired),
        "sex": _SEX.get(_text(header, "PatientSex").upper(), _text(header, "PatientSex")),
        "ethnicity": _text(header, "EthnicGroup"),
        "device": _device(_text(header, "Manufacturer"), _text(header, "ManufacturerModelName")),
        "site": _text(header, "InstitutionName"),
        "modality": _text(header, "Modality"),
        "burned_in_annotation": _text(header, "BurnedInAnnotation").lower(),
    }
    rows = []
    for number in range(1, frames + 1):
        name = f"{uid}.{number}" if frames > 1 else uid
        side = _laterality(header, number - 1)
        own = {"path": name + suffix, "image_id": name, "laterality": _SIDE.get(side, side), "frame": str(number) if frames > 1 else ""}
        rows.append({**row, **own})
    return rows


def _is_plain_jpeg(header: Dataset, syntax: str) -> bool:
    # A JPEG that says RGB is left to the decoder: viewers would take its colours for YCbCr.
    colours = _text(header, "PhotometricInterpretation")
    return syntax == JPEG_BASELINE and header.get("BitsAllocated") == 8 and colours in ("YBR_FULL_422", "YBR_FULL", "MONOCHROME2")


def _text(header: Any, name: str) -> str:
    value = header.get(name)
    if value is None:
        return ""
    if not isinstance(value, str) and hasattr(value, "__iter__"):
        value = next(iter(value), "")
    return " ".join(str(value).replace("\0", " ").split())


def _laterality(header: Dataset, frame: int) -> str:
    """Find the side: of the image, else of the frame, else of the series."""
    side = _text(header, "ImageLaterality")
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        sequence = header.get(groups)
        if not side and sequence and place < len(sequence):
            anatomy = sequence[place].get("FrameAnatomySequence")
            side = _text(anatomy[0], "FrameLaterality") if anatomy else ""
    return (side or _text(header, "Laterality")).upper().replace("U", "")


def _acquired_on(header: Dataset) -> datetime.date | None:
    for name in ("AcquisitionDateTime", "AcquisitionDate", "ContentDate", "StudyDate"):
        if found := _date(_text(header, name)):
            return found
    return None


def _date(text: str) -> datetime.date | None:
    match = re.match(r"(\d{4})[.-]?(\d{2})[.-]?(\d{2})", text)
    try:
        return datetime.date(*map(int, match.groups())) if match else None
    except ValueError:
        return None


def _age(header: Dataset, acquired: datetime.date | None) -> str:
    """Give years: PatientAge ("045Y", "018M"), else from birth to acquisition, in completed years or, below two, months."""
    stated = _text(header, "PatientAge")
    if match := re.fullmatch(r"(\d{1,3})([YMWD])", stated.upper()):
        count = int(match[1])
        per_year = {"Y": 1.0, "M": 12.0, "W": 52.1775, "D": 365.2425}[match[2]]
        return f"{count / per_year:.4g}"
    if stated:
        return stated  # of no form the standard knows: cleaning says what becomes of it
    born = _date(_text(header, "PatientBirthDate"))
    if born is None or acquired is None or born > acquired or born <= datetime.date(1900, 1, 1):
        return ""
    months = 12 * (acquired.year - born.year) + acquired.month - born.month - (acquired.day < born.day)
    return str(months // 12) if months >= 24 else f"{months / 12:.4g}"


def _device(maker: str, model: str) -> str:
    return model if model.casefold().startswith(maker.casefold()) else f"{maker} {model}".strip()


class _Extraction:
    """Writes the photographs of DICOM files into a folder, in parts that can be killed and run again."""

    def __init__(self, folder: str, items: list[tuple[str, int, str]]) -> None:
        self.folder = folder
        self.items = items  # file, frame from 0, name to write

    def __call__(self, to: Path, workers: int) -> None:
        parts = [
            (f"extract-{i:06d}", stop - start, (self.folder, self.items[start:stop], str(to)))
            for i, (start, stop) in enumerate(slices(len(self.items), PART))
        ]
        done = run_parts(extract_part, parts, markers=to.parent / "parts", workers=workers, label="extracting photographs", last=False)
        failed = [fault for part in done for fault in part["faults"]]
        if failed:
            warn(f"{len(failed):,} photograph(s) cannot be extracted; first: {failed[0]}")
