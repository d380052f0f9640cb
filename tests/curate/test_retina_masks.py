"""Masks: arteries and veins apart, zones around the disc, calibres; against shapes and formulas that are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from curate.artefacts import write_json, write_parquet
from curate.errors import UserError
from curate.measure import measure_cohort
from curate.phantom import simulate_archive
from curate.retina import MEASURES
from curate.retina.calibre import FIELD_MICROMETRES, hubbard, knudtson, widths
from curate.retina.field import disc, without_bands
from curate.retina.masks import MEASURES as MASK_MEASURES
from curate.retina.masks import Masks, find_masks, measure_masks, read_masks
from curate.retina.morphology import branching_angle, skeleton_of, within

SIZE, CENTRE, RADIUS = 912, 456, 60


def spokes(angles: list[float], width: int) -> np.ndarray:
    """Draw straight vessels from the centre outwards, (912, 912) uint8."""
    y, x = np.mgrid[:SIZE, :SIZE] - CENTRE
    image = np.zeros((SIZE, SIZE), bool)
    for angle in angles:
        along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        image |= (np.abs(across) <= width / 2) & (along >= 0) & (along < 420)
    return image.astype(np.uint8)


def centred_disc() -> np.ndarray:
    image = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(image, (CENTRE, CENTRE), RADIUS, 1, -1)
    return image


@pytest.fixture(scope="module")
def wheel() -> dict[str, float | str | None]:
    """Measure eight arteries of 7 px and eight veins of 11 px that leave a disc in the centre like spokes."""
    artery = spokes([2 * np.pi * k / 8 for k in range(8)], 7)
    vein = spokes([2 * np.pi * (k + 0.5) / 8 for k in range(8)], 11)
    return measure_masks(Masks(artery | vein, artery, vein, centred_disc()), disc(SIZE))


def test_knudtson_joins_widest_with_narrowest_until_one_is_left() -> None:
    a, b, c, d, e, f = six = np.array([150.0, 140, 130, 120, 110, 100])
    first = sorted((0.88 * np.hypot(*pair) for pair in ((a, f), (b, e), (c, d))), reverse=True)
    second = sorted([0.88 * np.hypot(first[0], first[2]), first[1]])
    assert knudtson(six, "CRAE") == pytest.approx(0.88 * np.hypot(*second))
    assert knudtson(np.append(six, 90), "CRAE") == knudtson(six, "CRAE")  # six, whatever else there is


def test_hubbard_of_six_equal_arteries_and_veins_follows_its_formula() -> None:
    def artery(a: float, b: float) -> float:
        return float(np.sqrt(0.87 * a * a + 1.01 * b * b - 0.22 * a * b - 10.76))

    def vein(a: float, b: float) -> float:
        return float(np.sqrt(0.72 * a * a + 0.91 * b * b + 450.05))

    for join, name in ((artery, "CRAE"), (vein, "CRVE")):
        pair = join(100, 100)
        assert hubbard(np.full(6, 100.0), name) == pytest.approx(join(pair, join(pair, pair)))


def test_fewer_than_six_vessels_have_no_equivalent() -> None:
    assert knudtson(np.full(5, 100.0), "CRVE") is None
    assert hubbard(np.full(5, 100.0), "CRVE") is None


@pytest.mark.parametrize("angle", [0.0, 0.4, 0.8, 1.2])
@pytest.mark.parametrize("width", [7, 11])
def test_a_vessel_is_as_wide_as_it_was_drawn(angle: float, width: int) -> None:
    image = spokes([angle], width)
    (found,) = widths(image, skeleton_of(image).segments, shortest=30)
    assert found == pytest.approx(width * FIELD_MICROMETRES / SIZE, rel=0.08)


def test_the_wheels_calibres_are_those_of_six_equal_vessels(wheel: dict[str, float | str | None]) -> None:
    for zone in ("_zone_b", "_zone_c"):
        for name, width in (("CRAE", 7), ("CRVE", 11)):
            expected = knudtson(np.full(6, width * FIELD_MICROMETRES / SIZE), name)
            assert wheel[f"{name}_Knudtson{zone}"] == pytest.approx(expected, rel=0.08)
        ratio = float(wheel[f"CRAE_Knudtson{zone}"] or 0) / float(wheel[f"CRVE_Knudtson{zone}"] or 1)
        assert wheel[f"AVR_Knudtson{zone}"] == pytest.approx(ratio)


def test_density_in_a_zone_is_the_share_of_the_ring(wheel: dict[str, float | str | None]) -> None:
    # Eight bars across a ring from 2 to 3 radii: their width by the ring's circumference at its middle.
    assert wheel["Artery_Vessel_density_zone_b"] == pytest.approx(8 * 7 / (2 * np.pi * 2.5 * RADIUS), rel=0.08)
    assert wheel["Vein_Average_width_zone_c"] == pytest.approx(11, rel=0.08)
    assert wheel["Distance_tortuosity_zone_c"] == pytest.approx(1, abs=0.004)
    assert wheel["Disc_height"] == wheel["Disc_width"] == 2 * RADIUS + 1


def test_a_ring_that_is_mostly_outside_the_photograph_is_not_measured() -> None:
    shown = disc(SIZE)
    shown[:, CENTRE - 80 :] = 0
    vessels = spokes([3.0, 3.1, 3.2], 9)
    row = measure_masks(Masks(vessels, vessels, vessels, centred_disc()), shown)
    assert not [name for name in row if name.endswith("_zone_c")]
    assert "Artery_Vessel_density" in row


def test_without_a_disc_there_are_no_zones_and_no_calibres() -> None:
    artery = spokes([0.3, 1.3, 2.3], 7)
    row = measure_masks(Masks(artery, artery, artery, None), disc(SIZE))
    assert row
    assert not [name for name in row if "zone" in name or name.startswith("Disc")]


def test_a_skeleton_cut_to_a_zone_keeps_straight_lines_straight() -> None:
    image = spokes([0.0, np.pi], 7)
    zone = np.zeros_like(image)
    zone[:, 600:700] = 1
    cut = within(skeleton_of(image), zone)
    (path,) = cut.segments
    assert len(path) == 100
    assert cut.length == pytest.approx(100, rel=0.08)
    assert cut.branches == 0


@pytest.mark.parametrize("half", [20, 35, 50])
def test_the_branching_angle_is_the_one_between_the_daughters(half: int) -> None:
    a = np.radians(half)
    image = spokes([np.pi, a, -a], 7)
    assert branching_angle(skeleton_of(image), SIZE) == pytest.approx(2 * half, abs=6)


def test_a_crossing_is_no_branching() -> None:
    assert branching_angle(skeleton_of(spokes([0.3, 0.3 + np.pi / 2, 0.3 + np.pi, 0.3 + 1.5 * np.pi], 5)), SIZE) is None


def test_bands_cut_off_above_and_below_are_no_part_of_the_field() -> None:
    mask = disc(400)
    image = np.repeat(mask[:, :, None] * np.uint8(120), 3, axis=2)
    image[:40], image[-30:] = 2, 255
    image[mask == 0] = 0
    kept = without_bands(image, mask)
    assert not kept[:40].any()
    assert not kept[-30:].any()
    assert np.array_equal(kept[42:-32], mask[42:-32])
    round_one = np.repeat(mask[:, :, None] * np.uint8(120), 3, axis=2)
    assert np.array_equal(without_bands(round_one, mask), mask)


def test_arteries_are_red_veins_blue_and_crossings_both(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0], image[1], image[2] = (0, 0, 255), (255, 0, 0), (0, 255, 0)  # blue, green, red
    (tmp_path / "artery_vein").mkdir()
    cv2.imwrite(str(tmp_path / "artery_vein" / "a.png"), image)
    (files,) = find_masks(tmp_path, ["folder/a.jpg"])
    masks = read_masks(files)
    assert masks.artery is not None
    assert masks.vein is not None
    assert masks.artery[:, 0].tolist() == [1, 0, 1, 0]
    assert masks.vein[:, 0].tolist() == [0, 1, 1, 0]
    assert masks.disc is None


def test_a_folder_without_masks_or_with_those_of_others_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no PNG files in vessels/, artery_vein/, disc/"):
        find_masks(tmp_path, ["a.jpg"])
    (tmp_path / "disc").mkdir()
    cv2.imwrite(str(tmp_path / "disc" / "b.png"), np.zeros((4, 4), np.uint8))
    with pytest.raises(UserError, match=r"no mask belongs to an image of the cohort.* b\.png"):
        find_masks(tmp_path, ["a.jpg"])


def test_a_phantoms_own_masks_give_back_its_truth(tmp_path: Path) -> None:
    simulate_archive(tmp_path / "archive", patients=6, size=512, seed=3, workers=1)
    truth = pd.read_parquet(tmp_path / "archive" / "truth" / "truth.parquet")
    folder = tmp_path / "cohort"
    folder.mkdir()
    names = truth["image_file"].tolist()
    write_parquet(folder / "cohort.parquet", pd.DataFrame({"image_id": names, "path": names, "width": 512, "height": 512}))
    write_json(folder / "cohort.json", {"images": "../archive/images", "name": "phantoms"})
    (tmp_path / "archive" / "truth" / "disc" / f"{Path(names[0]).stem}.png").unlink()
    about = measure_cohort(folder, masks=tmp_path / "archive" / "truth", workers=1)
    assert about["masks"] == {"artery_vein": len(names), "disc": len(names) - 1, "vessels": len(names)}
    table = pd.read_parquet(folder / "measurements.parquet").set_index("image_id").loc[names].reset_index()
    assert list(table.columns) == ["image_id", *MEASURES, *MASK_MEASURES]
    for measured, true in (
        ("Vessel_density", "vessel_density"), ("Artery_Vessel_density", "artery_density"), ("Vein_Vessel_density", "vein_density"),
    ):  # fmt: skip
        assert np.abs(table[measured] / truth[true] - 1).max() < 0.1, measured
    assert table["Fractal_dimension"].corr(truth["fractal_dimension"], method="spearman") > 0.9
    assert np.abs(table["Disc_height"].iloc[1:] * 0.985 * 512 / 912 / truth["disc_height"].iloc[1:] - 1).max() < 0.05
    assert np.isnan(table["Disc_height"].iloc[0])
    assert table["AVR_Knudtson_zone_b"].dropna().between(0.4, 0.95).all()
    assert (table["CRAE_Knudtson_zone_b"].dropna() > 90).all()
