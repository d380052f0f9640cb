"""The generic modality against nested loops, synthesised noise, and what must not change a number."""

from __future__ import annotations

import math
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from curate.generic import MEASURES, OF_THE_PHOTOGRAPH, measure_image

DETAIL = [c for c in MEASURES if c.startswith(("texture", "spectrum", "high_frequency", "sharpness"))]
NUMBERS = [c for c in MEASURES if c != "state"]
Row = dict[str, float | str | None]


def grey(values: np.ndarray) -> np.ndarray:
    """(h, w) numbers as an image of three equal channels."""
    return np.ascontiguousarray(np.repeat(np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None], 3, axis=2))


def noise(slope: float, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Noise whose power falls with the frequency to the power `slope`, mean 128, standard deviation 36."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None, :])
    frequency[0, 0] = np.inf
    values = np.fft.ifft2(np.fft.fft2(rng.standard_normal((height, width))) * frequency ** (-slope / 2)).real
    return 128 + 36 * values / values.std()


def scene(side: int = 1024, seed: int = 0) -> np.ndarray:
    """A coloured image with structure of every size."""
    colour = np.stack([noise(2.2, side, side, seed), noise(2.2, side, side, seed) * 0.9 + 20, noise(2.2, side, side, seed + 1)], axis=-1)
    image = np.clip(np.rint(colour), 12, 250).astype(np.uint8)
    cv2.circle(image, (side // 3, side // 2), side // 6, (220, 60, 40), -1)
    return image


def number(row: Row, column: str) -> float:
    value = row[column]
    assert isinstance(value, float), f"{column} is {value}"
    return value


def assert_like(row: Row, other: Row, columns: list[str], **tolerance: float) -> None:
    for column in columns:
        assert number(row, column) == pytest.approx(number(other, column), **tolerance), column


# -- oracles ----------------------------------------------------------------------------------------------------------------------


def haralick(levels: np.ndarray, distance: int) -> dict[str, float]:
    """Haralick's measures by nested loops: pairs at a distance in four directions, both ways; -1 is no part of the image."""
    height, width = levels.shape
    diagonal = round(distance / math.sqrt(2))
    found: dict[str, list[float]] = {"contrast": [], "homogeneity": [], "energy": [], "correlation": []}
    for down, across in ((0, distance), (diagonal, diagonal), (distance, 0), (diagonal, -diagonal)):
        pairs = []
        for y in range(height):
            for x in range(width):
                if 0 <= y + down < height and 0 <= x + across < width and levels[y, x] >= 0 and levels[y + down, x + across] >= 0:
                    a, b = int(levels[y, x]), int(levels[y + down, x + across])
                    pairs += [(a, b), (b, a)]
        n = len(pairs)
        counts: dict[tuple[int, int], int] = {}
        for pair in pairs:
            counts[pair] = counts.get(pair, 0) + 1
        mean = sum(a for a, _ in pairs) / n
        variance = sum((a - mean) ** 2 for a, _ in pairs) / n
        found["contrast"].append(sum((a - b) ** 2 for a, b in pairs) / n)
        found["homogeneity"].append(sum(1 / (1 + (a - b) ** 2) for a, b in pairs) / n)
        found["energy"].append(math.sqrt(sum((c / n) ** 2 for c in counts.values())))
        found["correlation"].append(sum((a - mean) * (b - mean) for a, b in pairs) / n / variance)
    return {name: sum(values) / 4 for name, values in found.items()}


@pytest.mark.parametrize("border", [0, 9])
def test_texture_is_haralicks_by_nested_loops(border: int) -> None:
    image = grey(noise(1.5, 64, 64, seed=3))
    image[:, :border] = 0
    row = measure_image(image, resolution=128)
    values = image[:, :, 0].astype(float)
    inside = np.zeros((64, 64), bool)
    inside[:, border + (border > 0) :] = True  # and a pixel beside the border
    low, high = np.percentile(values[inside], [1, 99])
    levels = np.where(inside, np.minimum(np.maximum((values - low) / (high - low) * 32, 0).astype(int), 31), -1)
    for scale, distance in (("fine", 1), ("coarse", 2)):  # 64/128 and 64/32 of a pixel
        for name, value in haralick(levels, distance).items():
            assert number(row, f"texture_{name}_{scale}") == pytest.approx(value), (name, scale)


@pytest.mark.parametrize("slope", [1, 2, 3])
@pytest.mark.parametrize("shape", [(256, 256), (900, 900), (200, 256)])
def test_the_slope_of_synthesised_noise_is_recovered_within_a_tenth(slope: int, shape: tuple[int, int]) -> None:
    found = [number(measure_image(grey(noise(slope, *shape, seed=s))), "spectrum_slope") for s in range(6)]
    assert np.mean(found) == pytest.approx(-slope, abs=0.1)
    assert max(abs(f + slope) for f in found) < 0.3


def test_the_slope_is_recovered_inside_a_round_field() -> None:
    y, x = np.mgrid[:512, :512] - 255.5
    found = []
    for seed in range(6):
        image = grey(np.maximum(noise(2, 512, 512, seed), 20))
        image[np.hypot(x, y) > 240] = 0
        found.append(number(measure_image(image), "spectrum_slope"))
    assert np.mean(found) == pytest.approx(-2, abs=0.15)


def test_the_share_of_high_frequencies_is_that_of_two_gratings() -> None:
    x = np.arange(256) / 256
    both = 128 + 40 * np.sin(2 * np.pi * 10 * x) + 20 * np.sin(2 * np.pi * 40 * x)
    row = measure_image(grey(np.tile(both, (256, 1))))
    assert number(row, "high_frequency_share") == pytest.approx(20**2 / (40**2 + 20**2), abs=0.01)


def test_colourfulness_is_hasler_and_suesstrunks_by_hand() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:32], image[32:] = (200, 100, 50), (100, 100, 100)
    # red - green: 100 and 0; (red + green) / 2 - blue: 100 and 0.
    assert number(measure_image(image), "colourfulness") == pytest.approx(math.hypot(50, 50) + 0.3 * math.hypot(50, 50))
    assert measure_image(grey(noise(2, 64, 64)))["colourfulness"] == 0


def test_entropy_and_contrast_of_two_equal_halves() -> None:
    image = np.full((64, 64, 3), 50, np.uint8)
    image[:32] = 200
    row = measure_image(image)
    assert number(row, "entropy") == pytest.approx(1)
    assert number(row, "contrast") == pytest.approx(150 / 250)
    assert number(row, "intensity_mean") == pytest.approx(125 / 255)
    assert number(row, "intensity_sd") == pytest.approx(75 / 255)


def test_clipped_pixels_are_counted_at_both_ends() -> None:
    image = grey(noise(2, 200, 200) * 0.5 + 60)
    image[40:60, 40:90] = 255
    image[100:120, 100:150] = 0  # not joined to the edge: no border
    assert number(measure_image(image), "clipped_share") == pytest.approx(2000 / 40000)


# -- what must not change a number ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "within", "finest"), [(2048, 0.01, 0.02), (700, 0.03, 0.15), (512, 0.01, 0.01), (300, 0.1, 0.5)])
def test_the_size_of_the_file_changes_no_number_by_more_than_resampling_does(side: int, within: float, finest: float) -> None:
    image = scene()
    how = cv2.INTER_AREA if side < 1024 else cv2.INTER_CUBIC
    row, again = measure_image(image), measure_image(cv2.resize(image, (side, side), interpolation=how))
    fine = ["sharpness", "texture_contrast_fine"]
    assert_like(again, row, [c for c in NUMBERS if c not in fine], rel=within, abs=0.005)
    assert_like(again, row, fine, rel=finest)


@pytest.mark.parametrize("side", [700, 512])
def test_the_size_of_real_photographs_changes_no_number_either(chase: Path, side: int) -> None:
    for file in sorted(chase.rglob("*.jpg"))[:3]:
        image = np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1])
        scale = side / max(image.shape)
        row, again = measure_image(image), measure_image(cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        fine = ["sharpness", "texture_contrast_fine"]
        assert_like(again, row, [c for c in NUMBERS if c not in fine], rel=0.03, abs=0.005)
        assert_like(again, row, fine, rel=0.15)


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_turned_and_mirrored_the_numbers_stay(turn: int) -> None:
    image = scene(256)
    again = measure_image(np.ascontiguousarray(np.rot90(image, turn)[:, ::-1]))
    assert_like(measure_image(image), again, NUMBERS, rel=1e-4)


def test_brightness_and_contrast_leave_texture_and_spectrum_as_they_are() -> None:
    values = noise(2, 256, 256)
    row, dim = measure_image(grey(values)), measure_image(grey(40 + 0.5 * values))
    assert_like(row, dim, [c for c in DETAIL if "energy" not in c and "homogeneity" not in c], rel=0.03)
    assert_like(row, dim, DETAIL, rel=0.1)


def test_black_around_the_image_counts_in_its_own_column_alone() -> None:
    image = scene(256)
    framed = np.zeros((256, 336, 3), np.uint8)
    framed[:, 40:296] = image
    row, again = measure_image(image, resolution=512), measure_image(framed, resolution=672)
    assert number(again, "border_share") == pytest.approx(1 - 254 / 336)  # and a pixel on either side
    assert row["border_share"] == 0
    same = ["intensity_mean", "intensity_sd", "contrast", "entropy", "colourfulness", "sharpness"]
    assert_like(row, again, same, rel=0.01)
    assert number(again, "spectrum_slope") == pytest.approx(number(row, "spectrum_slope"), abs=0.2)


def test_sharpness_falls_with_blur_and_ignores_contrast() -> None:
    image = scene(256)
    sharp = number(measure_image(image), "sharpness")
    assert number(measure_image(cv2.GaussianBlur(image, (0, 0), 2)), "sharpness") < 0.5 * sharp
    assert number(measure_image((image // 2 + 40).astype(np.uint8)), "sharpness") == pytest.approx(sharp, rel=0.05)


def test_blur_steepens_the_spectrum_and_smooths_the_texture() -> None:
    image = scene(256)
    row, blurred = measure_image(image), measure_image(cv2.GaussianBlur(image, (0, 0), 2))
    assert number(blurred, "spectrum_slope") < number(row, "spectrum_slope") - 0.5
    assert number(blurred, "high_frequency_share") < number(row, "high_frequency_share")
    assert number(blurred, "texture_homogeneity_fine") > number(row, "texture_homogeneity_fine")


# -- what can't be measured -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "state"),
    [
        (np.full((64, 64, 3), 9, np.uint8), "blank"),
        (np.zeros((300, 300, 3), np.uint8), "blank"),
        (np.full((300, 300, 3), 255, np.uint8), "blank"),
        (np.full((1, 1, 3), 90, np.uint8), "too small"),
        (scene(256)[:15, :15], "too small"),
        (scene(256)[:15], "too small"),
        (np.tile(scene(256)[:40], (1, 20, 1)), "too small"),  # 5120 x 40: two pixels high at working size
    ],
)
def test_what_shows_nothing_has_a_state_and_no_numbers(image: np.ndarray, state: str) -> None:
    assert measure_image(np.ascontiguousarray(image)) == dict.fromkeys(MEASURES) | {"state": state}


def test_a_flat_disc_on_black_is_blank() -> None:
    image = np.zeros((700, 700, 3), np.uint8)
    cv2.circle(image, (350, 350), 320, (190, 95, 45), -1, lineType=cv2.LINE_AA)
    assert measure_image(image)["state"] == "blank"


def test_a_small_file_has_intensity_and_colour_and_no_invented_detail() -> None:
    row = measure_image(np.ascontiguousarray(scene(256)[:63, :63]))
    assert row["state"] == "ok"
    assert all(row[c] is None for c in DETAIL)
    assert all(row[c] is not None for c in NUMBERS if c not in DETAIL)
    assert all(v is not None for v in measure_image(np.ascontiguousarray(scene(256)[:64, :64]), resolution=128).values())


def test_a_strip_has_texture_and_no_spectrum() -> None:
    row = measure_image(np.ascontiguousarray(scene(512)[:100]))
    assert row["spectrum_slope"] is None
    assert row["high_frequency_share"] is None
    assert row["texture_contrast_fine"] is not None
    assert row["aspect_ratio"] == pytest.approx(5.12)


def test_measures_of_the_photograph_are_measures() -> None:
    assert set(OF_THE_PHOTOGRAPH) < set(MEASURES)


@pytest.mark.parametrize("image", [np.zeros((64, 64), np.uint8), np.zeros((64, 64, 3), np.uint16), np.zeros((64, 64, 4), np.uint8)])
def test_another_kind_of_array_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(H, W, 3\) uint8"):
        measure_image(image)


def test_a_large_image_takes_milliseconds() -> None:
    image = scene()
    measure_image(image)
    started = time.process_time()
    for _ in range(5):
        measure_image(image)
    assert (time.process_time() - started) / 5 < 0.1  # about 10 ms; the rest is room for a slow machine
