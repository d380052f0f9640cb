"""curate measure: every image gets its row; killed and issued again, the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from curate import measure
from curate.artefacts import sha256_file, write_json, write_parquet
from curate.errors import UserError
from curate.measure import measure_cohort, read_image
from curate.retina import MEASURES


def draw(number: int, size: int = 160) -> np.ndarray:
    """Draw a small retina with a few vessels, (size, size, 3) uint8."""
    rng = np.random.default_rng(number)
    image = np.zeros((size, size, 3), np.uint8)
    cv2.circle(image, (size // 2, size // 2), size // 2 - 4, (200, 110, 50), -1)
    for _ in range(9):
        x, y = rng.integers(20, size - 20, 2)
        cv2.line(image, (size // 3, size // 2), (int(x), int(y)), (150, 55, 30), 2)
    noisy = image.astype(np.int32) + rng.integers(-3, 4, image.shape) * (image > 0)
    return np.clip(noisy, 0, 255).astype(np.uint8)


def save(path: Path, rgb: np.ndarray) -> None:
    assert cv2.imwrite(str(path), rgb[:, :, ::-1])


@pytest.fixture
def cohort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Path]:
    """Make a cohort folder of drawn retinas, measured in parts of three."""
    monkeypatch.setattr(measure, "_LEAST", 3)

    def make(images: int = 8) -> Path:
        folder = tmp_path / "cohort"
        (tmp_path / "images").mkdir()
        folder.mkdir()
        for number in range(images):
            save(tmp_path / "images" / f"{number}.jpg", draw(number))
        ids = [f"e{number}" for number in range(images)]
        table = pd.DataFrame({"image_id": ids, "path": [f"{n}.jpg" for n in range(images)], "width": 160, "height": 160})
        write_parquet(folder / "cohort.parquet", table)
        write_json(folder / "cohort.json", {"images": "../images", "name": "drawn"})
        return folder

    return make


def digests(folder: Path) -> tuple[str, str]:
    return sha256_file(folder / "measurements.parquet"), sha256_file(folder / "measurements.json")


def test_every_image_gets_a_row_in_the_order_of_ids(cohort: Callable[[int], Path]) -> None:
    folder = cohort(8)
    about = measure_cohort(folder, workers=1)
    table = pd.read_parquet(folder / "measurements.parquet")
    assert table["image_id"].tolist() == [f"e{n}" for n in range(8)]
    assert list(table.columns) == ["image_id", *MEASURES]
    assert (table["state"] == "ok").all()
    assert about == json.loads((folder / "measurements.json").read_text())
    assert about["states"] == {"ok": 8}
    assert sum(about["quality"].values()) == 8
    assert about["medians"]["fov_radius"] == pytest.approx(76 / 160, rel=0.02)
    assert not (folder / "measurements.partial").exists()


def test_the_result_does_not_depend_on_the_number_of_workers(cohort: Callable[[int], Path]) -> None:
    folder = cohort(8)
    measure_cohort(folder, workers=1)
    alone = digests(folder)
    for name in ("measurements.parquet", "measurements.json"):
        (folder / name).unlink()
    measure_cohort(folder, workers=2)
    assert digests(folder) == alone


def test_interrupted_it_resumes_and_gives_the_same_bytes(cohort: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort(8)
    measure_cohort(folder, workers=1)
    whole = digests(folder)
    for name in ("measurements.parquet", "measurements.json"):
        (folder / name).unlink()
    plain, seen = read_image, []

    def stops(path: str, **options: object) -> object:
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(path)
        return plain(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(measure, "read_image", stops)
    with pytest.raises(KeyboardInterrupt):
        measure_cohort(folder, workers=1)
    assert not (folder / "measurements.json").exists()
    monkeypatch.setattr(measure, "read_image", lambda path, **options: (seen.append(path), plain(path, **options))[1])
    measure_cohort(folder, workers=1)
    assert digests(folder) == whole
    assert len(seen) == 4 + 5  # the first part of three was done, its images were not read again


def test_issued_again_it_does_nothing(cohort: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cohort(4)
    about = measure_cohort(folder, workers=1)
    monkeypatch.setattr(measure, "read_image", None)  # would fail if anything were read
    assert measure_cohort(folder, workers=1) == about


def test_another_specification_is_refused_with_the_difference(cohort: Callable[[int], Path]) -> None:
    folder = cohort(3)
    measure_cohort(folder, workers=1)
    before = digests(folder)
    with pytest.raises(
        UserError, match=r"measurements\.json: was made with another specification \(resolution: there 512, asked 256\); remove it"
    ):
        measure_cohort(folder, resolution=256, workers=1)
    assert digests(folder) == before
    (folder / "measurements.json").unlink()
    assert measure_cohort(folder, resolution=256, workers=1)["made_by"]["specification"]["resolution"] == 256


def test_a_damaged_image_is_recorded_and_skipped(cohort: Callable[[int], Path]) -> None:
    folder = cohort(6)
    image = folder.parent / "images" / "2.jpg"
    image.write_bytes(image.read_bytes()[:900])
    about = measure_cohort(folder, workers=1, max_bad=0.2)
    row = pd.read_parquet(folder / "measurements.parquet").set_index("image_id").loc["e2"]
    assert row["state"] == "unreadable"
    assert row.drop("state").isna().all()
    assert about["states"] == {"ok": 5, "unreadable": 1}


def test_too_many_damaged_images_stop_it_until_they_are_mended(cohort: Callable[[int], Path]) -> None:
    folder = cohort(6)
    image = folder.parent / "images" / "2.jpg"
    whole = image.read_bytes()
    image.unlink()
    with pytest.raises(UserError, match=r"1 of 6 images cannot be read, more than 1 %; first: .*2\.jpg"):
        measure_cohort(folder, workers=1)
    assert not (folder / "measurements.parquet").exists()
    image.write_bytes(whole)
    assert measure_cohort(folder, workers=1)["states"] == {"ok": 6}


@pytest.mark.parametrize("shape", ["grey", "sixteen bits", "alpha"])
def test_grey_sixteen_bit_and_transparent_images_are_read_as_colour(tmp_path: Path, shape: str) -> None:
    rgb = draw(0)
    image = {
        "grey": rgb[:, :, 1],
        "sixteen bits": rgb[:, :, ::-1].astype(np.uint16) * 16,  # 12 bits in 16
        "alpha": np.dstack([rgb[:, :, ::-1], np.full(rgb.shape[:2], 255, np.uint8)]),
    }[shape]
    cv2.imwrite(str(tmp_path / "a.png"), image)
    read = read_image(str(tmp_path / "a.png"), at_least=512, size=(160, 160))
    assert read is not None
    assert read.shape == rgb.shape
    assert read.dtype == np.uint8
    if shape == "sixteen bits":
        assert read.max() >= 254


def test_unknown_modality_and_missing_images_are_said_in_one_line(cohort: Callable[[int], Path]) -> None:
    folder = cohort(2)
    with pytest.raises(UserError, match="--modality retnia: unknown; did you mean 'retina'"):
        measure_cohort(folder, modality="retnia")
    (folder.parent / "images").rename(folder.parent / "elsewhere")
    with pytest.raises(UserError, match="image folder is missing"):
        measure_cohort(folder)


def test_the_generic_modality_measures_any_image(cohort: Callable[[int], Path]) -> None:
    folder = cohort(3)
    about = measure_cohort(folder, modality="generic", workers=1)
    table = pd.read_parquet(folder / "measurements.parquet")
    assert about["states"] == {"ok": 3}
    assert "quality" not in about
    assert table["entropy"].between(0, 8).all()
