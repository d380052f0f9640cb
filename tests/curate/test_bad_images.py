"""Files that archives hold besides good photographs: each gets its state in a whole run of curate measure, and no invented number."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.artefacts import write_json, write_parquet
from curate.errors import UserError
from curate.measure import measure_cohort
from curate.photographs import examine

SIDE = 300
Save = Callable[[], bytes]


def encoded(pixels: np.ndarray | Image.Image, form: str, **more: object) -> bytes:
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, form, **more)  # type: ignore[arg-type]
    return file.getvalue()


def flat(*colour: int) -> np.ndarray:
    return np.full((SIDE, SIDE, 3), colour, np.uint8)


def radiograph() -> np.ndarray:
    """A grey gradient with a bright middle, as a chest radiograph has."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    return np.rint(40 + 150 * np.exp(-12 * ((x - 0.3) ** 2 + (y - 0.5) ** 2)) + 60 * x).astype(np.uint8)


def noise(height: int = SIDE, width: int = SIDE) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def page() -> np.ndarray:
    sheet = flat(250, 250, 250)
    for line in range(12):
        cv2.putText(sheet, "Lorem ipsum dolor sit", (10, 20 + 24 * line), cv2.FONT_HERSHEY_SIMPLEX, 0.6, (20, 20, 20), 1)
    return sheet


def disc() -> np.ndarray:
    image = flat(0, 0, 0)
    cv2.circle(image, (SIDE // 2, SIDE // 2), 140, (190, 95, 45), -1)
    return image


def glare() -> np.ndarray:
    """An over-exposed photograph: what isn't clipped is nearly so."""
    return np.clip(np.random.default_rng(0).normal(259, 3, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8)


def fundus() -> np.ndarray:
    image = disc()
    rng = np.random.default_rng(1)
    for _ in range(12):
        x, y = rng.integers(30, SIDE - 30, 2)
        cv2.line(image, (SIDE // 3, SIDE // 2), (int(x), int(y)), (140, 45, 25), 3)
    return np.clip(image.astype(int) + rng.integers(-3, 4, image.shape) * (image > 0), 0, 255).astype(np.uint8)


def holes(value: float) -> bytes:
    values = radiograph().astype(np.float32)
    values[40:60] = value
    return encoded(Image.fromarray(values), "TIFF")


def half(pixels: np.ndarray, form: str) -> bytes:
    whole = encoded(pixels, form)
    return whole[: len(whole) // 2]


WEAK = np.random.default_rng(2).integers(0, 6, (SIDE, SIDE, 3), dtype=np.uint8)
UNREADABLE = ("unreadable", "unreadable")
GREY = ("not a fundus photograph", "ok")
# File -> its bytes, and its states as retina and as any image.
CASES: dict[str, tuple[Save, tuple[str, str]]] = {
    "fundus.png": (lambda: encoded(fundus(), "PNG"), ("ok", "ok")),
    "blank.png": (lambda: encoded(flat(90, 90, 90), "PNG"), ("not a fundus photograph", "blank")),
    "blank.jpg": (lambda: encoded(flat(90, 130, 50), "JPEG"), ("not a fundus photograph", "blank")),
    "black.png": (lambda: encoded(flat(0, 0, 0), "PNG"), ("too dark", "blank")),
    "nearly-black.jpg": (lambda: encoded(WEAK, "JPEG"), ("too dark", "blank")),
    "white.png": (lambda: encoded(flat(255, 255, 255), "PNG"), ("overexposed", "blank")),
    "over-exposed.png": (lambda: encoded(glare(), "PNG"), ("overexposed", "blank")),
    "1-pixel.png": (lambda: encoded(noise(1, 1), "PNG"), ("too small", "too small")),
    "15-pixels.png": (lambda: encoded(noise(15, 15), "PNG"), ("too small", "too small")),
    "63-pixels.png": (lambda: encoded(noise(63, 63), "PNG"), ("too small", "ok")),
    "strip.png": (lambda: encoded(noise(20, 6000), "PNG"), ("too small", "too small")),
    "grey.png": (lambda: encoded(radiograph(), "PNG"), GREY),
    "12-in-16-bits.png": (lambda: encoded(radiograph().astype(np.uint16) * 16, "PNG"), GREY),
    "16-bits.tif": (lambda: encoded(radiograph().astype(np.uint16) * 256, "TIFF"), GREY),
    "float.tif": (lambda: encoded(Image.fromarray(radiograph().astype(np.float32)), "TIFF"), GREY),
    "transparent.png": (lambda: encoded(np.dstack([noise(), noise()[:, :, 0]]), "PNG"), GREY),
    "palette.png": (lambda: encoded(Image.fromarray(noise()).quantize(32), "PNG"), GREY),
    "cmyk.jpg": (lambda: encoded(Image.fromarray(radiograph()).convert("CMYK"), "JPEG"), GREY),
    "pages.tif": (lambda: encoded(radiograph(), "TIFF", save_all=True, append_images=[Image.fromarray(flat(0, 0, 0))]), GREY),
    "moving.gif": (lambda: encoded(radiograph(), "GIF", save_all=True, append_images=[Image.fromarray(page()[:, :, 0])]), GREY),
    "cut.jpg": (lambda: half(fundus(), "JPEG"), UNREADABLE),
    "cut.png": (lambda: half(noise(), "PNG"), UNREADABLE),
    "cut.tif": (lambda: half(noise(), "TIFF"), UNREADABLE),
    "cut.bmp": (lambda: half(noise(), "BMP"), UNREADABLE),
    "cut.webp": (lambda: half(noise(), "WEBP"), UNREADABLE),
    "cut.gif": (lambda: half(noise(), "GIF"), UNREADABLE),
    "empty.jpg": (lambda: b"", UNREADABLE),
    "text.jpg": (lambda: b"these are words and no image", UNREADABLE),
    "nan.tif": (lambda: holes(float("nan")), UNREADABLE),
    "infinite.tif": (lambda: holes(float("inf")), UNREADABLE),
    "missing.png": (lambda: b"", UNREADABLE),
    "radiograph.jpg": (lambda: encoded(radiograph(), "JPEG"), GREY),
    "page.png": (lambda: encoded(page(), "PNG"), GREY),
    "noise.png": (lambda: encoded(noise(), "PNG"), GREY),
    "flat-disc.png": (lambda: encoded(disc(), "PNG"), ("not a fundus photograph", "blank")),
}
MODALITIES = ("retina", "generic")


def make_cohort(folder: Path, files: list[str]) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "cohort").mkdir()
    for name in files:
        if name != "missing.png":
            (folder / "images" / name).write_bytes(CASES[name][0]())
    table = pd.DataFrame({"image_id": files, "path": files}).assign(width=SIDE, height=SIDE)
    write_parquet(folder / "cohort" / "cohort.parquet", table)
    write_json(folder / "cohort" / "cohort.json", {"images": "../images", "name": "bad"})
    return folder / "cohort"


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """Every file in one run of each modality: modality -> measures by file."""
    tables = {}
    for modality in MODALITIES:
        folder = make_cohort(tmp_path_factory.mktemp(modality), sorted(CASES))
        measure_cohort(folder, modality=modality, workers=1, max_bad=1.0)
        tables[modality] = pd.read_parquet(folder / "measurements.parquet").set_index("image_id")
    return tables


@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize("name", sorted(CASES))
def test_every_file_has_its_state_and_no_invented_number(measured: dict[str, pd.DataFrame], modality: str, name: str) -> None:
    row = measured[modality].loc[name]
    assert row["state"] == CASES[name][1][MODALITIES.index(modality)]
    numbers = row.drop("state")
    if row["state"] == "ok":
        assert numbers.notna().any()
        assert np.isfinite(pd.to_numeric(numbers.drop("quality", errors="ignore")).dropna()).all()
    else:
        assert numbers.drop([c for c in numbers.index if c.startswith("fov_")]).isna().all()
    if row["state"] not in ("ok", "too dark", "overexposed"):
        assert numbers.isna().all()


@pytest.mark.parametrize("name", ["12-in-16-bits.png", "16-bits.tif", "float.tif", "cmyk.jpg", "pages.tif", "moving.gif"])
def test_how_a_grey_image_is_stored_changes_its_numbers_by_rounding_alone(measured: dict[str, pd.DataFrame], name: str) -> None:
    table = measured["generic"].drop(columns="state").astype(float)
    same = ["border_share", "colourfulness", "entropy", "texture_correlation_coarse", "texture_homogeneity_coarse"]
    assert table.loc[name, same].to_numpy() == pytest.approx(table.loc["grey.png", same].to_numpy(), rel=0.05, abs=0.05)


def test_the_command_stops_at_files_that_cannot_be_read_and_says_which(tmp_path: Path) -> None:
    make_cohort(tmp_path, ["cut.png", "cut.tif", "fundus.png", "nan.tif"])
    done = subprocess.run(
        [sys.executable, "-m", "curate", "measure", "--modality", "generic", "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("error")]
    assert len(said) == 1
    assert "3 of 4 images cannot be read, more than 1 %; first: " in said[0]
    assert "cut.png; mend or restore them" in said[0]
    assert "OpenCV" not in done.stderr


@pytest.mark.parametrize("name", ["nan.tif", "infinite.tif"])
def test_values_that_are_not_numbers_are_refused_at_ingest_too(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CASES[name][0]())
    assert examine(str(tmp_path), name) == {"fault": "image-damaged", "reason": "holds values that are not numbers"}


@pytest.mark.parametrize("modality", MODALITIES)
def test_where_nothing_can_be_measured_the_table_says_so(tmp_path: Path, modality: str) -> None:
    folder = make_cohort(tmp_path, ["black.png", "empty.jpg"])
    about = measure_cohort(folder, modality=modality, workers=1, max_bad=1.0)
    assert sum(about["states"].values()) == 2
    assert all(v is None for v in about["medians"].values())
    assert pd.read_parquet(folder / "measurements.parquet").shape[0] == 2


def test_a_cohort_of_no_images_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cohort: the cohort has no image: there is nothing to measure"):
        measure_cohort(make_cohort(tmp_path, []), workers=1)
