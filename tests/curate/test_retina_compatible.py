"""AutoMorph's definitions, against nested loops, shapes worked by hand and our own definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.artefacts import write_json, write_parquet
from curate.errors import UserError
from curate.measure import measure_cohort
from curate.phantom import simulate_archive
from curate.retina import MEASURES, measure_image
from curate.retina.calibre import FIELD_MICROMETRES, hubbard, knudtson
from curate.retina.compatible import average_width, fractal_dimension, tortuosities, vessel_density, vessel_measures, widths
from curate.retina.field import disc
from curate.retina.masks import Masks, measure_masks
from curate.retina.morphology import skeleton_of
from curate.retina.morphology import tortuosities as our_tortuosities
from curate.retina.shape import SHAPES
from curate.retina.shape import vessel_measures as our_measures

SIZE = 912
CHANGED = {
    "Fractal_dimension", "Vessel_density", "Average_width", "Distance_tortuosity", "Squared_curvature_tortuosity", "Tortuosity_density",
}  # fmt: skip


def empty() -> np.ndarray:
    return np.zeros((SIZE, SIZE), np.uint8)


def spokes(angles: list[float], width: int) -> np.ndarray:
    """Draw straight vessels from the centre outwards, (912, 912) uint8."""
    y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    image = np.zeros((SIZE, SIZE), bool)
    for angle in angles:
        along, across = x * np.cos(angle) + y * np.sin(angle), -x * np.sin(angle) + y * np.cos(angle)
        image |= (np.abs(across) <= width / 2) & (along >= 0) & (along < 420)
    return image.astype(np.uint8)


def arc(angle: float, radius: float) -> np.ndarray:
    """Walk along a circle in steps of one pixel, (n, 2) float64."""
    turned = np.linspace(0, angle, int(angle * radius))
    return 456 + radius * np.stack([np.cos(turned), np.sin(turned)], axis=1)


def wave(height: float, turns: int) -> np.ndarray:
    x = np.arange(60.0, 860.0)
    return np.stack([x, 456 + height * np.sin((x - 60) / 800 * np.pi * turns)], axis=1)


# Fractal dimension


def by_loops(mask: np.ndarray) -> float:
    sizes = [4, 8, 16, 32, 64, 128, 256, 512]
    counts = []
    for k in sizes:
        count = 0
        for top in range(0, SIZE, k):
            for left in range(0, SIZE, k):
                marked = int(np.count_nonzero(mask[top : top + k, left : left + k]))
                if 0 < marked < k * k:
                    count += 1
        counts.append(count)
    x, y = -np.log(sizes), np.log(counts)
    return float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())


@pytest.mark.parametrize(("seed", "grain", "share"), [(0, 1, 0.001), (1, 1, 0.4), (2, 6, 0.1), (3, 6, 0.7)])
def test_boxes_are_counted_as_by_nested_loops(seed: int, grain: int, share: float) -> None:
    coarse = (np.random.default_rng(seed).random((SIZE // grain, SIZE // grain)) < share).astype(np.uint8)
    mask = np.kron(coarse, np.ones((grain, grain), np.uint8))  # of 6 px: many boxes of 4 px are wholly filled
    assert fractal_dimension(mask) == pytest.approx(by_loops(mask), abs=1e-9)


def test_a_line_across_counts_ceil_912_over_k_boxes() -> None:
    mask = empty()
    mask[300, :] = 1
    counts = [228, 114, 57, 29, 15, 8, 4, 2]  # of 4, 8, ... 512 px
    assert fractal_dimension(mask) == pytest.approx(np.polyfit(-np.log([4, 8, 16, 32, 64, 128, 256, 512]), np.log(counts), 1)[0])


def test_boxes_that_are_wholly_vessel_do_not_count() -> None:
    mask = empty()
    mask[:, :512] = 1  # every box of up to 512 px is full or empty, but for those of 512 that reach over the lower edge
    assert fractal_dimension(mask) is None
    assert fractal_dimension(np.ones((SIZE, SIZE), np.uint8)) is None
    assert fractal_dimension(empty()) is None


# Density and width


def test_density_is_a_share_of_the_square_whatever_the_field() -> None:
    vessels = empty()
    vessels[100:110, 200:400] = 1
    assert vessel_density(vessels) == 2000 / 912**2


def test_of_a_complete_round_field_density_is_pi_over_four_of_ours() -> None:
    vessels, field = spokes([0.3, 1.7, 2.9, 4.4], 11), disc(SIZE)
    theirs, ours = vessel_measures(vessels, field), our_measures(vessels, field)
    assert float(theirs["Vessel_density"] or 0) / float(ours["Vessel_density"] or 1) == pytest.approx(np.pi / 4, abs=1e-4)


def test_of_a_cut_field_density_is_less_than_pi_over_four_of_ours() -> None:
    vessels, field = spokes([0.3, 3.2], 11), disc(SIZE)
    field[:150] = field[-150:] = 0
    ratio = float(vessel_measures(vessels, field)["Vessel_density"] or 0) / float(our_measures(vessels, field)["Vessel_density"] or 1)
    assert ratio == pytest.approx(np.count_nonzero(field) / 912**2)
    assert ratio < 0.7


def test_width_is_area_over_number_of_centre_pixels() -> None:
    bar, centre = empty(), empty()
    bar[400:409, 100:800] = 1
    centre[404, 100:800] = 1
    assert average_width(bar, centre) == 9
    assert average_width(bar, empty()) is None


@pytest.mark.parametrize(("angle", "factor"), [(0.0, 1.0), (np.pi / 4, np.sqrt(2)), (0.35, 1 / np.cos(0.35))])
def test_a_bar_comes_out_wider_by_how_far_it_leans(angle: float, factor: float) -> None:
    # A digital line has as many pixels as its longer side: the length it has is 1 / cos of the angle to the nearest axis.
    bar = spokes([angle], 11)
    assert average_width(bar, skeleton_of(bar, pruned=False).pixels) == pytest.approx(11 * factor, rel=0.06)
    assert widths(bar) == pytest.approx([11 * factor], rel=0.06)


# Tortuosity


@pytest.mark.parametrize("angle", [np.pi / 2, np.pi, 1.4 * np.pi])
def test_the_integral_of_an_arcs_curvature_is_its_angle_whatever_the_radius(angle: float) -> None:
    for radius in (200.0, 300.0, 400.0):
        for path in (arc(angle, radius), arc(angle, radius)[::-1]):  # to the left and to the right
            distance, bent, density = tortuosities([path])
            assert bent == pytest.approx(angle, rel=0.045)
            assert distance == pytest.approx(angle / 2 / np.sin(angle / 2), rel=0.01)
            assert density == 0  # one turn only
    # The share that is lost is that of the ends, where the path is held fast: it goes with 1 / radius.
    assert tortuosities([arc(np.pi, 4000.0)])[1] == pytest.approx(np.pi, rel=0.002)


def test_a_drawn_half_circle_has_pi_as_well() -> None:
    image = empty()
    cv2.ellipse(image, (456, 456), (300, 300), 0, 0, 180, 1, 7)
    distance, bent, density = tortuosities(skeleton_of(image, pruned=False).segments)
    assert bent == pytest.approx(np.pi, rel=0.04)
    assert distance == pytest.approx(np.pi / 2, rel=0.01)
    assert density == 0


def test_what_turns_left_and_as_far_right_has_no_integral_of_curvature_however_bent_it_is() -> None:
    assert tortuosities([wave(60, 2)])[1] == pytest.approx(0, abs=1e-3)
    squared = our_tortuosities([wave(60, 2)], SIZE)[1]
    assert squared is not None
    assert squared > 1


def test_the_sign_is_lost_before_the_mean_not_after() -> None:
    left, right = arc(np.pi / 2, 300), arc(np.pi / 2, 300)[::-1]
    assert tortuosities([left, right])[1] == pytest.approx(tortuosities([left])[1])


@pytest.mark.parametrize("turns", [2, 3, 5])
def test_tortuosity_density_of_a_wave_is_that_of_its_half_waves_per_pixel(turns: int) -> None:
    path = wave(60, turns)
    half = path[path[:, 0] <= 60 + 800 / turns]
    length = float(np.hypot(*np.diff(half, axis=0).T).sum())
    expected = (turns - 1) / (turns * length) * turns * (length / np.hypot(*(half[-1] - half[0])) - 1)
    assert tortuosities([path])[2] == pytest.approx(expected, rel=0.06)


def test_segments_count_alike_whatever_their_length_and_those_up_to_15_px_not_at_all() -> None:
    straight = np.stack([np.arange(16.0), np.zeros(16)], axis=1)
    assert tortuosities([straight])[0] == pytest.approx(1)
    assert tortuosities([straight[:15]]) == (None, None, None)
    long = arc(np.pi, 300)
    alone = tortuosities([long])[0]
    assert alone is not None
    assert tortuosities([long, straight, straight[:15]])[0] == pytest.approx((alone + 1) / 2)


def test_a_closed_line_has_no_chord_and_a_nearly_closed_one_counts() -> None:
    closed = arc(2 * np.pi, 100)
    assert tortuosities([closed]) == (None, None, None)
    distance = tortuosities([closed[:-40]])[0]
    assert distance is not None
    assert distance > 5  # ours leaves such a loop out
    assert our_tortuosities([closed[:-40]], SIZE)[0] is None


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(0, 2 * np.pi), height=st.floats(5, 80), turns=st.integers(1, 6))
def test_where_a_line_lies_and_how_it_is_turned_changes_nothing(angle: float, height: float, turns: int) -> None:
    path = wave(height, turns)
    turned = path @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) + (17, -40)
    assert tortuosities([turned]) == pytest.approx(tortuosities([path]), rel=1e-3, abs=1e-6)


# Zones and calibres


@pytest.fixture(scope="module")
def wheel() -> Masks:
    """Eight arteries of 7 px and eight veins of 11 px that leave a disc of 60 px radius like spokes."""
    artery = spokes([2 * np.pi * k / 8 for k in range(8)], 7)
    vein = spokes([2 * np.pi * (k + 0.5) / 8 for k in range(8)], 11)
    middle = empty()
    cv2.circle(middle, (456, 456), 60, 1, -1)
    return Masks(artery | vein, artery, vein, middle)


def test_density_in_a_zone_is_a_share_of_the_square(wheel: Masks) -> None:
    row = measure_masks(wheel, disc(SIZE), as_defined_by="automorph")
    across = 4 * 7 + 4 * 9 / np.sqrt(2)  # drawn at 45 degrees, 7 px are nine diagonals of pixels
    assert row["Artery_Vessel_density_zone_b"] == pytest.approx(across * 60 / 912**2, rel=0.02)
    assert row["Artery_Vessel_density_zone_c"] == pytest.approx(across * 180 / 912**2, rel=0.02)
    assert row["Distance_tortuosity_zone_c"] == pytest.approx(1, abs=0.004)
    assert row["Disc_height"] == row["Disc_width"] == 121


def test_calibres_are_those_of_the_six_widest_in_pixels(wheel: Masks) -> None:
    assert wheel.artery is not None
    row = measure_masks(wheel, disc(SIZE), as_defined_by="automorph")
    # Four of the arteries lean by 45 degrees: nine pixels of vessel to each of the centre line. They and two straight ones are the six.
    six = np.array([9.0] * 4 + [7.0] * 2)
    for zone in ("_zone_b", "_zone_c"):
        assert row[f"CRAE_Knudtson{zone}"] == pytest.approx(knudtson(six, "CRAE"), rel=0.08)
        assert row[f"CRAE_Hubbard{zone}"] == pytest.approx(hubbard(six, "CRAE"), rel=0.08)
        for formula in ("Knudtson", "Hubbard"):
            ratio = float(row[f"CRAE_{formula}{zone}"] or 0) / float(row[f"CRVE_{formula}{zone}"] or 1)
            assert row[f"AVR_{formula}{zone}"] == pytest.approx(ratio)
    ours = measure_masks(wheel, disc(SIZE))
    assert float(ours["CRAE_Knudtson_zone_b"] or 0) > 0.8 * float(row["CRAE_Knudtson_zone_b"] or 0) * FIELD_MICROMETRES / SIZE


def test_where_fewer_than_six_cross_a_zone_there_is_no_calibre_and_no_ratio() -> None:
    few, middle = spokes([0.1, 1.3, 2.5, 3.7, 4.9], 9), empty()
    cv2.circle(middle, (456, 456), 60, 1, -1)
    for artery, vein in ((few, few), (few, spokes([2 * np.pi * k / 8 for k in range(8)], 9))):
        row = measure_masks(Masks(None, artery, vein, middle), disc(SIZE), as_defined_by="automorph")
        assert row["CRAE_Knudtson_zone_b"] is row["AVR_Knudtson_zone_b"] is row["AVR_Hubbard_zone_b"] is None
        assert -1 not in row.values()


def test_hubbards_formula_has_no_value_for_arteries_of_two_pixels() -> None:
    assert hubbard(np.full(6, 2.0), "CRAE") is None
    assert hubbard(np.array([9.0, 9, 9, 2, 2, 2]), "CRAE") is not None


# One photograph, and a cohort


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from skimage.data import retina

    return cv2.resize(retina(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def test_compatible_and_default_at_912_px_differ_in_the_six_columns_that_the_page_names(photograph: np.ndarray) -> None:
    ours, theirs = (measure_image(photograph, resolution=SIZE, compatible=c) for c in (None, "automorph"))
    assert list(theirs) == list(ours) == list(MEASURES)
    assert {name for name in ours if ours[name] != theirs[name]} == CHANGED
    assert set(SHAPES) - CHANGED == {"Branch_density", "Branching_angle"}
    value = {who: {name: float(row[name] or np.nan) for name in SHAPES} for who, row in (("ours", ours), ("theirs", theirs))}
    assert value["theirs"]["Vessel_density"] / value["ours"]["Vessel_density"] == pytest.approx(
        np.pi / 4 * float(ours["field_coverage"] or 0), rel=0.01
    )
    assert 1 < value["theirs"]["Average_width"] / value["ours"]["Average_width"] < np.sqrt(2)
    assert value["theirs"]["Tortuosity_density"] < value["ours"]["Tortuosity_density"] / 100  # per pixel, not per 456 of them


def test_a_photograph_without_vessels_to_be_seen_has_no_numbers(photograph: np.ndarray) -> None:
    row = measure_image(cv2.GaussianBlur(photograph, (0, 0), 15), resolution=SIZE, compatible="automorph")
    assert row["quality"] == "reject"
    assert [row[name] for name in SHAPES] == [None] * len(SHAPES)
    assert vessel_measures(empty(), disc(SIZE)) == {}


def test_other_names_and_resolutions_are_no_arguments(photograph: np.ndarray) -> None:
    for options in ({"resolution": 512, "compatible": "automorph"}, {"resolution": SIZE, "compatible": "vascx"}):
        with pytest.raises(ValueError, match="there is automorph, at 912 pixels alone"):
            measure_image(photograph, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="are for 912 pixels"):
        vessel_measures(np.ones((512, 512), np.uint8), np.ones((512, 512), np.uint8))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of two phantom patients, beside their archive."""
    folder = tmp_path_factory.mktemp("phantoms")
    simulate_archive(folder / "archive", patients=2, size=256, seed=3, workers=1)
    names = pd.read_parquet(folder / "archive" / "truth" / "truth.parquet")["image_file"].tolist()[:2]
    (folder / "cohort").mkdir()
    write_parquet(folder / "cohort" / "cohort.parquet", pd.DataFrame({"image_id": names, "path": names, "width": 256, "height": 256}))
    write_json(folder / "cohort" / "cohort.json", {"images": "../archive/images", "name": "phantoms"})
    return folder


def test_a_cohort_is_measured_at_912_px_and_says_by_whose_definitions(phantoms: Path) -> None:
    cohort = phantoms / "cohort"
    about = measure_cohort(cohort, compatible="automorph", masks=phantoms / "archive" / "truth", workers=1)
    specification = json.loads((cohort / "measurements.json").read_text())["made_by"]["specification"]
    assert specification == {"modality": "retina", "resolution": 912, "compatible": "automorph"}
    assert measure_cohort(cohort, compatible="automorph", resolution=912, masks=phantoms / "archive" / "truth", workers=1) == about
    table = pd.read_parquet(cohort / "measurements.parquet")
    assert "CRAE_Knudtson_zone_b" in table.columns
    assert not (table.select_dtypes("number") == -1).any(axis=None)
    with pytest.raises(UserError, match=r"compatible: there \"automorph\", asked null.*remove it to measure again"):
        measure_cohort(cohort, masks=phantoms / "archive" / "truth", resolution=912, workers=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"compatible": "autmorph"}, r"--compatible autmorph: unknown; did you mean 'automorph'\?"),
        ({"compatible": "vascx"}, "--compatible vascx: unknown; there are: automorph"),
        (
            {"compatible": "automorph", "resolution": 512},
            "--resolution 512: --compatible automorph measures at 912 pixels; leave",
        ),
        ({"compatible": "automorph", "modality": "generic"}, "--compatible automorph: is for --modality retina; leave it out for generic"),
    ],
)
def test_what_does_not_go_together_is_refused_in_one_line(phantoms: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        measure_cohort(phantoms / "cohort", **options)
