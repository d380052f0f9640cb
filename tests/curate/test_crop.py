"""Cropping: the field of view of a fundus photograph, the frame of anything else, and what can't be cropped."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from curate.crop import Crop, check_modality, find_crop
from curate.errors import UserError
from curate.ingest import ingest_archive
from curate.rendering import render
from curate.sample import SampleRequest, sample_cohort

NAVY = (10, 20, 120)


def texture(side: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(120, 200, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def fundus(width: int, height: int, x: float, y: float, radius: float, surround: tuple[int, int, int] = (3, 2, 2)) -> Image.Image:
    """A textured disc on a plain surround; (x, y) is its centre, which may be anywhere."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[:] = surround
    yy, xx = np.mgrid[:height, :width]
    inside = (xx - x) ** 2 + (yy - y) ** 2 <= radius**2
    pixels[inside] = np.asarray(texture(max(width, height)))[:height, :width][inside]
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, quality=92)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("width", "height", "x", "y", "radius"),
    [
        (400, 400, 200, 200, 180),  # square
        (900, 600, 450, 300, 250),  # borders on all sides
        (900, 600, 620, 260, 220),  # off-centre
        (600, 400, 300, 200, 260),  # cut off at the top and bottom
        (400, 600, 150, 300, 220),  # cut off at the left
        (500, 500, 330, 330, 280),  # cut off at a corner
        (3000, 2000, 1500, 1000, 1200),  # of a real camera's size
    ],
)
def test_a_fundus_photograph_is_cut_to_the_square_around_its_field(width: int, height: int, x: int, y: int, radius: int) -> None:
    crop = find_crop(fundus(width, height, x, y, radius), "retina")
    assert crop is not None
    assert crop.right - crop.left == crop.bottom - crop.top
    assert (crop.right - crop.left) / 2 == pytest.approx(1.01 * radius, rel=0.015)
    assert ((crop.left + crop.right) / 2, (crop.top + crop.bottom) / 2) == pytest.approx((x, y), abs=0.015 * radius)


def test_what_the_frame_cut_off_is_filled_up_with_black() -> None:
    made = render(saved(fundus(600, 400, 300, 200, 260)), size=256, quality=92, crop="retina")
    image = pixels(made.jpeg)
    assert image.shape == (256, 256, 3)
    cut = (260 - 200) / 520 * 256
    assert image[: int(cut) - 3].max() < 30
    assert image[-int(cut) + 3 :].max() < 30
    assert image[128, 20:-20].min() > 60


def test_labels_in_the_corners_go_with_the_surround() -> None:
    image = np.array(fundus(500, 500, 250, 250, 200))
    image[20:40, 20:160] = 255  # a name
    image[95:100, 95:100] = 255  # in the corner of the square around the disc
    made = pixels(render(saved(Image.fromarray(image)), size=0, quality=95, crop="retina").jpeg)
    yy, xx = np.mgrid[: len(made), : len(made)]
    outside = np.hypot(xx - len(made) / 2, yy - len(made) / 2) > len(made) / 2 + 8
    assert made[outside].max() < 40


def test_a_field_that_was_squeezed_is_round_again() -> None:
    squeezed = fundus(900, 600, 450, 300, 280).resize((500, 500), Image.Resampling.BICUBIC)
    for size in (0, 200):
        made = render(saved(squeezed), size=size, quality=92, crop="retina")
        assert made.width == made.height
        bright = pixels(made.jpeg).max(axis=2) > 60
        assert bright.any(axis=0).sum() == pytest.approx(bright.any(axis=1).sum(), rel=0.03)


def test_white_paper_around_a_fundus_photograph_becomes_black() -> None:
    made = pixels(render(saved(fundus(600, 500, 300, 250, 270, surround=(255, 255, 255))), size=200, quality=92, crop="retina").jpeg)
    assert made[:6].max() < 60
    assert made[100, 30:-30].min() > 60


def test_a_photograph_inside_its_field_keeps_its_own_bytes() -> None:
    data = saved(texture(200))
    made = render(data, size=0, quality=92, crop="retina")
    assert made.original
    assert made.found


@pytest.mark.parametrize("colour", ["black", "white"])
def test_where_there_is_no_field_the_photograph_is_kept_whole_and_counted(colour: str) -> None:
    made = render(saved(Image.new("RGB", (300, 200), colour)), size=100, quality=92, crop="retina")
    assert not made.found
    assert (made.width, made.height) == (150, 100)


@pytest.mark.parametrize(
    ("box", "colour"),
    [((40, 30, 0, 10), "white"), ((0, 50, 0, 50), "black"), ((60, 60, 60, 60), NAVY), ((0, 0, 0, 0), "white")],
)
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_borders_of_one_colour_are_removed_from_any_other_image(box: tuple[int, int, int, int], colour: str, kind: str) -> None:
    left, top, right, bottom = box
    framed = Image.new("RGB", (200 + left + right, 200 + top + bottom), colour)
    framed.paste(texture(200), (left, top))
    image = Image.open(io.BytesIO(saved(framed, kind))).convert("RGB")
    crop = find_crop(image, "generic")
    assert crop is not None
    # JPEG's ringing beside an edge belongs to the image.
    found, expected = (crop.left, crop.top, crop.right, crop.bottom), (left, top, left + 200, top + 200)
    assert np.abs(np.subtract(found, expected)).max() <= (0 if kind == "PNG" else 8)


def test_a_border_inside_a_border_goes_too() -> None:
    framed = Image.new("RGB", (300, 300), "black")
    framed.paste(Image.new("RGB", (260, 260), "white"), (40, 0))
    framed.paste(texture(200), (60, 20))
    assert find_crop(framed, "generic") == Crop(60, 20, 260, 220)


def test_nothing_of_a_large_image_is_lost() -> None:
    framed = Image.new("RGB", (2501, 1703))
    framed.paste(texture(1203), (501, 333))
    crop = find_crop(framed, "generic")
    assert crop is not None
    assert (crop.left <= 501, crop.top <= 333, crop.right >= 1704, crop.bottom >= 1536) == (True, True, True, True)
    assert crop.right - crop.left < 1203 + 12


def test_an_image_of_one_colour_has_no_frame_to_find() -> None:
    assert find_crop(Image.new("RGB", (90, 70), NAVY), "generic") is None


@pytest.mark.parametrize("modality", ["retina", "generic"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 2), (5000, 3)])
def test_images_of_no_size_to_speak_of_do_no_harm(modality: str, size: tuple[int, int]) -> None:
    for image in (Image.new("RGB", size), Image.effect_noise(size, 90).convert("RGB")):
        made = render(saved(image, "PNG"), size=256, quality=92, crop=modality)
        assert min(made.width, made.height) >= 1


def test_an_unknown_modality_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UserError, match="--modality x-ray: unknown; there are: retina, generic"):
        check_modality("x-ray")


def test_sample_crops_counts_and_tells(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(12):
        fundus(300, 200, 150, 100, 90 + number).save(tmp_path / "images" / f"{number:02d}.jpg")
    Image.new("RGB", (300, 200), (4, 4, 4)).save(tmp_path / "images" / "dark.jpg")
    names = sorted(p.name for p in (tmp_path / "images").iterdir())
    pd.DataFrame({"path": names, "patient_id": names}).to_csv(tmp_path / "m.csv", index=False)
    ingest_archive(tmp_path / "m.csv", images=[tmp_path / "images"], out=tmp_path / "cohort", workers=1)
    command = [sys.executable, "-m", "curate", "sample", "--balance", "none", "--holdout", "0", "--size", "64", "--crop", "--workers", "1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "note: 1 photographs have no field of view that could be found: kept whole" in done.stderr
    about = json.loads((tmp_path / "shards" / "sample.json").read_text())
    assert about["photographs"]["uncropped"] == 1
    assert (about["made_by"]["specification"]["crop"], about["made_by"]["specification"]["modality"]) == (True, "retina")
    without = SampleRequest(balance=(), holdout=0.0, size=64)
    with pytest.raises(UserError, match="was made with another specification"):
        sample_cohort(tmp_path / "cohort", without, out=tmp_path / "shards", workers=1)


def test_real_photographs_are_cropped_to_their_discs(odir: Path) -> None:
    found = []
    for path in sorted((odir / "images-512").iterdir())[:60]:
        with Image.open(path) as image:
            crop = find_crop(image.convert("RGB"), "retina")
        found.append(crop is not None and crop.disc)
    assert np.mean(found) > 0.95
