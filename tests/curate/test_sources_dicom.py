"""Folders of DICOM files: headers give the table, pixel data give the photographs."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from archives import draw_photograph, people
from commands import run
from curate.cohort import read_cohort
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.manifest import Source, read_source
from forms import JPEG_BASELINE, as_dicom, data_set
from forms import save_dicom as save

pydicom = pytest.importorskip("pydicom")
from pydicom import Dataset  # noqa: E402

Archive = Callable[..., Path]
JPEG_2000, JPEG_LS, RLE = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.5"


def smooth(seed: int = 0, *, colour: bool = True) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
    return np.asarray(image if colour else image.convert("L"))


def encoded(pixels: np.ndarray, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def extracted(source: Source, to: Path, workers: int = 1) -> dict[str, np.ndarray]:
    assert source.extract is not None
    to.mkdir(parents=True)
    source.extract(to, workers)
    return {p.name: np.asarray(Image.open(p)) for p in sorted(to.iterdir())}


def one(ds: Dataset, folder: Path) -> tuple[str, np.ndarray]:
    """Save, read and extract one photograph: its name's ending and its pixels."""
    save(ds, folder / "dicom" / "IM0001")
    ((name, pixels),) = extracted(read_source(folder / "dicom"), folder / "work" / "images").items()
    return name.removeprefix(str(ds.SOPInstanceUID)), pixels


def header_row(tmp_path: Path, **tags: Any) -> dict[str, str]:
    save(data_set(smooth(), **tags), tmp_path / "dicom" / "IM0001")
    (row,) = read_source(tmp_path / "dicom").table.to_dict("records")
    return row


# --- the table ---


def test_a_header_gives_the_cohorts_columns_and_no_names(tmp_path: Path) -> None:
    row = header_row(
        tmp_path, SOPInstanceUID="1.2.3", PatientID="007", PatientName="Doe^Jane", PatientBirthDate="19500101", PatientAge="045Y",
        PatientSex="F", EthnicGroup="White", ImageLaterality="R", AcquisitionDateTime="20200315103000.5", StudyDate="20200101",
        Manufacturer="Topcon", ManufacturerModelName="TRC-50", InstitutionName="North", BurnedInAnnotation="NO",
    )  # fmt: skip
    assert row == {
        "path": "1.2.3.png", "image_id": "1.2.3", "patient_id": "007", "laterality": "right", "acquired_on": "2020-03-15", "age": "45",
        "sex": "female", "ethnicity": "White", "device": "Topcon TRC-50", "site": "North", "modality": "OP", "burned_in_annotation": "no",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "045Y"}, "45"),
        ({"PatientAge": "018M"}, "1.5"),
        ({"PatientAge": "026W"}, "0.4983"),
        ({"PatientAge": "003D"}, "0.008214"),
        ({"PatientBirthDate": "19500316", "StudyDate": "20200315"}, "69"),
        ({"PatientBirthDate": "19500315", "StudyDate": "20200315"}, "70"),
        ({"PatientBirthDate": "20191215", "StudyDate": "20200315"}, "0.25"),
        ({"PatientAge": "045Y", "PatientBirthDate": "19900101", "StudyDate": "20200315"}, "45"),
        ({"PatientBirthDate": "19000101", "StudyDate": "20000315"}, ""),
        ({"PatientBirthDate": "20210101", "StudyDate": "20200315"}, ""),
        ({"PatientBirthDate": "19500101"}, ""),
        ({}, ""),
    ],
)
def test_age_is_the_stated_one_or_that_from_birth_to_acquisition(tmp_path: Path, tags: dict[str, str], age: str) -> None:
    assert header_row(tmp_path, **tags)["age"] == age


@pytest.mark.filterwarnings("ignore:Invalid value for VR DA")
@pytest.mark.parametrize(
    ("tags", "day"),
    [
        ({"AcquisitionDateTime": "20200315", "AcquisitionDate": "20200102"}, "2020-03-15"),
        ({"AcquisitionDate": "20200102", "ContentDate": "20200103"}, "2020-01-02"),
        ({"AcquisitionDate": "20201301", "ContentDate": "20200103"}, "2020-01-03"),
        ({"StudyDate": "2020.01.04"}, "2020-01-04"),
        ({}, ""),
    ],
)
def test_the_day_is_that_of_acquisition_else_of_content_else_of_the_study(tmp_path: Path, tags: dict[str, str], day: str) -> None:
    assert header_row(tmp_path, **tags)["acquired_on"] == day


@pytest.mark.parametrize(
    ("tags", "side"),
    [
        ({"ImageLaterality": "L", "Laterality": "R"}, "left"),
        ({"Laterality": "R"}, "right"),
        ({"ImageLaterality": "B"}, "B"),
        ({"ImageLaterality": "U"}, ""),
    ],
)
def test_the_eye_is_the_images_own_else_the_series(tmp_path: Path, tags: dict[str, str], side: str) -> None:
    assert header_row(tmp_path, **tags)["laterality"] == side


def test_every_frame_is_a_photograph_with_its_own_eye(tmp_path: Path) -> None:
    frames = np.stack([smooth(n, colour=False) for n in range(3)])
    groups = []
    for side in "RLR":
        anatomy, group = Dataset(), Dataset()
        anatomy.FrameLaterality = side
        group.FrameAnatomySequence = [anatomy]
        groups.append(group)
    ds = data_set(frames, SOPInstanceUID="1.2.3", NumberOfFrames=3, PerFrameFunctionalGroupsSequence=groups)
    save(ds, tmp_path / "dicom" / "IM0001")
    source = read_source(tmp_path / "dicom")
    assert source.table[["image_id", "laterality", "frame"]].to_numpy().tolist() == [
        ["1.2.3.1", "right", "1"], ["1.2.3.2", "left", "2"], ["1.2.3.3", "right", "3"],
    ]  # fmt: skip
    found = extracted(source, tmp_path / "work" / "images")
    for number in range(3):
        np.testing.assert_array_equal(found[f"1.2.3.{number + 1}.png"], frames[number])


def test_files_are_found_by_their_first_bytes_and_other_things_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dicom"
    save(data_set(smooth(), SOPInstanceUID="1.2.3"), folder / "study" / "no-ending")
    save(data_set(None, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR", Rows=None, Columns=None), folder / "report.dcm")
    report = pydicom.dcmread(folder / "report.dcm")
    del report.Rows, report.Columns
    save(report, folder / "report.dcm")
    save(data_set(smooth(colour=False), SOPClassUID="1.2.840.10008.5.1.4.1.1.66.4", Modality="SEG"), folder / "mask")
    save(data_set(None, SOPClassUID="1.2.840.10008.1.3.10"), folder / "DICOMDIR")
    (folder / "readme.txt").write_text("not DICOM")
    table = read_source(folder).table
    assert table["image_id"].tolist() == ["1.2.3"]
    said = capsys.readouterr().err
    assert "1 file(s) skipped: a directory of the medium (DICOMDIR)" in said
    assert "2 file(s) skipped: not a photograph" in said


def test_unreadable_files_go_to_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "dicom"
    for number in range(3):
        save(data_set(smooth(number), SOPInstanceUID=f"1.2.{number}"), folder / f"{number}.dcm")
    whole = (folder / "2.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(whole[:180])
    (folder / "text.dcm").write_text("no DICOM at all")
    (folder / "2.dcm").write_bytes(whole[: len(whole) - 5000])
    ingest_archive(folder, out=tmp_path / "cohort", max_bad=0.5, workers=1)
    cohort = read_cohort(tmp_path / "cohort")
    assert cohort.table["image_id"].tolist() == ["1.2.0", "1.2.1"]
    rules = cohort.ledger()
    assert sorted(rules["rule"]) == ["image-missing", "patient-missing", "patient-missing"]
    said = capsys.readouterr().err
    assert "2 file(s) cannot be read; first: cut.dcm" in said
    assert "1 photograph(s) cannot be extracted; first: 2.dcm" in said


def test_a_folder_without_one_readable_photograph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dicom").mkdir()
    (tmp_path / "dicom" / "a.dcm").write_text("no DICOM")
    with pytest.raises(UserError, match="none of its 1 DICOM files is an image that can be read"):
        read_source(tmp_path / "dicom")


def test_a_file_that_lies_there_twice_counts_once(tmp_path: Path) -> None:
    ds = data_set(smooth(), SOPInstanceUID="1.2.3")
    save(ds, tmp_path / "dicom" / "a")
    save(ds, tmp_path / "dicom" / "copy" / "b")
    ingest_archive(tmp_path / "dicom", out=tmp_path / "cohort", workers=1)
    cohort = read_cohort(tmp_path / "cohort")
    assert len(cohort.table) == 1
    assert cohort.ledger()["rule"].tolist() == ["duplicate-row"]


def test_the_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    save(data_set(smooth()), tmp_path / "dicom" / "a.dcm")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UserError, match=r'pip install "evenfooting\[dicom\]"$'):
        read_source(tmp_path / "dicom")


# --- the photographs ---


@pytest.mark.parametrize("photometric", ["YBR_FULL_422", "MONOCHROME2"])
def test_a_jpeg_inside_comes_out_byte_for_byte(tmp_path: Path, photometric: str) -> None:
    colour = photometric != "MONOCHROME2"
    data = encoded(smooth(colour=colour), "JPEG", quality=91)
    ds = data_set([data], syntax=JPEG_BASELINE, colour=colour, PhotometricInterpretation=photometric, SOPInstanceUID="1.2.3")
    save(ds, tmp_path / "dicom" / "a")
    extracted(read_source(tmp_path / "dicom"), tmp_path / "work" / "images")
    assert (tmp_path / "work" / "images" / "1.2.3.jpg").read_bytes() == data


def test_a_jpeg_that_is_called_rgb_keeps_its_colours(tmp_path: Path) -> None:
    data = encoded(smooth(), "JPEG", quality=95)  # with a JFIF header: it holds YCbCr, whatever DICOM says
    ending, pixels = one(data_set([data], syntax=JPEG_BASELINE, colour=True), tmp_path)
    assert ending == ".png"
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("colour", [True, False])
def test_uncompressed_pixels_come_out_as_they_are(tmp_path: Path, colour: bool) -> None:
    pixels = smooth(colour=colour)
    ending, found = one(data_set(pixels), tmp_path)
    assert ending == ".png"
    np.testing.assert_array_equal(found, pixels)


@pytest.mark.parametrize("syntax", [RLE, JPEG_LS, JPEG_2000])
@pytest.mark.parametrize("colour", [True, False])
def test_lossless_compression_comes_out_without_loss(tmp_path: Path, syntax: str, colour: bool) -> None:
    pixels = smooth(colour=colour)
    if syntax == JPEG_2000:
        data = encoded(pixels, "JPEG2000", irreversible=False, no_jp2=True, mct=1 if colour else 0)
        ds = data_set([data], syntax=syntax, colour=colour, PhotometricInterpretation="YBR_RCT" if colour else "MONOCHROME2")
    else:
        ds = data_set(pixels)
        ds.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(one(ds, tmp_path)[1], pixels)


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    """Encode (H, W) uint8 as a lossless JPEG (ITU-T T.81 annex H): each pixel's difference from its left neighbour."""
    height, width = pixels.shape
    values = pixels.astype(int)
    predicted = np.zeros_like(values)
    predicted[:, 1:], predicted[1:, 0], predicted[0, 0] = values[:, :-1], values[:-1, 0], 128
    bits = ""
    for difference in (values - predicted).ravel():
        size = int(abs(difference)).bit_length()
        bits += f"{size:05b}" + (f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}" if size else "")
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body

    frame = b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + b"\1\1\x11\0"
    codes = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])  # table 0: 17 codes of 5 bits
    return b"\xff\xd8" + segment(0xC3, frame) + segment(0xC4, codes) + segment(0xDA, b"\1\1\0\1\0\0") + data + b"\xff\xd9"


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
def test_lossless_jpeg_comes_out_without_loss(tmp_path: Path, syntax: str) -> None:
    pixels = smooth(colour=False)
    data = lossless_jpeg(pixels)
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        pytest.skip("this Pillow's libjpeg doesn't read lossless JPEG")
    np.testing.assert_array_equal(one(data_set([data], syntax=syntax), tmp_path)[1], pixels)


def test_ybr_becomes_rgb(tmp_path: Path) -> None:
    from pydicom.pixels import convert_color_space

    pixels = smooth()
    ybr = convert_color_space(pixels, "RGB", "YBR_FULL")
    found = one(data_set(ybr, PhotometricInterpretation="YBR_FULL"), tmp_path)[1]
    assert np.abs(found.astype(int) - pixels.astype(int)).max() <= 2


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    pixels = smooth(colour=False)
    np.testing.assert_array_equal(one(data_set(pixels, PhotometricInterpretation="MONOCHROME1"), tmp_path)[1], 255 - pixels)


def test_a_palette_is_looked_up(tmp_path: Path) -> None:
    table = np.arange(256, dtype=np.uint16)
    tags = {}
    for colour, values in {"Red": table << 8, "Green": (255 - table) << 8, "Blue": np.full(256, 7 << 8, np.uint16)}.items():
        tags[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tags[f"{colour}PaletteColorLookupTableData"] = values.astype(np.uint16).tobytes()
    pixels = smooth(colour=False)
    found = one(data_set(pixels, PhotometricInterpretation="PALETTE COLOR", **tags), tmp_path)[1]
    np.testing.assert_array_equal(found, np.stack([pixels, 255 - pixels, np.full_like(pixels, 7)], axis=-1))


def test_deep_pixels_without_a_window_keep_every_level(tmp_path: Path) -> None:
    pixels = (np.arange(64 * 64, dtype=np.uint16) % 4096).reshape(64, 64)
    found = one(data_set(pixels, stored=12), tmp_path)[1]
    np.testing.assert_array_equal(found, pixels << 4)


def test_signed_pixels_start_from_black(tmp_path: Path) -> None:
    pixels = np.linspace(-2048, 2047, 64 * 64).astype(np.int16).reshape(64, 64)
    found = one(data_set(pixels, stored=12, PixelRepresentation=1), tmp_path)[1]
    np.testing.assert_array_equal(found, ((pixels.astype(int) + 2048) << 4))


def test_a_window_is_applied_after_rescaling(tmp_path: Path) -> None:
    pixels = np.array([[0, 500, 1000], [1500, 2000, 4000]], dtype=np.uint16)
    tags = {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": ["1000", "0"], "WindowWidth": ["2000", "1"]}
    found = one(data_set(pixels, stored=12, VOILUTFunction="LINEAR_EXACT", **tags), tmp_path)[1]
    np.testing.assert_array_equal(found, [[0, 0, 128], [255, 255, 255]])  # 0, 1000 and 2000 are black, middle and white


def test_a_lookup_table_of_values_of_interest_is_applied(tmp_path: Path) -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 8])
    item.add_new("LUTData", "US", [255, 10, 20, 0])
    pixels = np.array([[0, 1, 2, 3, 4000]], dtype=np.uint16)
    found = one(data_set(pixels, stored=12, VOILUTSequence=[item]), tmp_path)[1]
    np.testing.assert_array_equal(found, [[255, 10, 20, 0, 0]])


# --- end to end ---


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_dicom_files_give_the_cohort_that_their_csv_gives(archive: Archive, tmp_path: Path) -> None:
    rows = people(8)
    manifest = archive(rows)
    as_dicom(rows, tmp_path / "images", tmp_path / "dicom")
    ingest_archive(manifest, images=[tmp_path / "images"], out=tmp_path / "from-csv", workers=1)
    said = run("curate", "ingest", "dicom", "--workers", "2", cwd=tmp_path)
    assert "16 images of 8 patients (16 rows, 0 refused, 0 values changed)" in said
    columns = ["image_id", "patient_id", "laterality", "acquired_on", "age", "sex", "ethnicity", "device", "site", "sha256"]
    cohort = read_cohort(tmp_path / "cohort")
    pd.testing.assert_frame_equal(cohort.table[columns], read_cohort(tmp_path / "from-csv").table[columns])
    ingest_archive(tmp_path / "dicom", out=tmp_path / "again", workers=1)
    assert (tmp_path / "again" / "cohort.parquet").read_bytes() == (tmp_path / "cohort" / "cohort.parquet").read_bytes()
    run("curate", "sample", "--balance", "sex", "--holdout", "0", "--quality", "any", "--size", "0", cwd=tmp_path)
    assert "every checksum and count right" in run("curate", "verify", "shards", "--cohort", "cohort", cwd=tmp_path)
    for file in (*(tmp_path / "cohort").rglob("*"), *(tmp_path / "shards").rglob("*")):
        assert file.is_dir() or b"Doe" not in file.read_bytes(), file


def test_a_killed_extraction_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from curate.manifest import dicom

    monkeypatch.setattr(dicom, "PART", 2)
    for number in range(6):
        save(data_set(smooth(number), SOPInstanceUID=f"1.2.{number}"), tmp_path / "dicom" / f"{number}")
    source = read_source(tmp_path / "dicom")
    found = extracted(source, tmp_path / "work" / "images")
    (tmp_path / "work" / "parts" / "extract-000001.done").unlink()
    for name in found:
        (tmp_path / "work" / "images" / name).unlink()
    source.extract(tmp_path / "work" / "images", 1)  # type: ignore[misc]
    assert sorted(p.name for p in (tmp_path / "work" / "images").iterdir()) == ["1.2.2.png", "1.2.3.png"]


def test_photographs_beside_dicom_files_are_asked_about(tmp_path: Path) -> None:
    save(data_set(smooth()), tmp_path / "both" / "a.dcm")
    draw_photograph(tmp_path / "both" / "preview.jpg", 1)
    with pytest.raises(UserError, match="say which to read"):
        read_source(tmp_path / "both")
    assert len(read_source(f"dicom:{tmp_path / 'both'}").table) == 1
