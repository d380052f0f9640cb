"""What is drawn of an eye, before and in the picture."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from scipy.stats import spearmanr

from curate.phantom.anatomy import draw_anatomy
from curate.phantom.archive import simulate_photo
from curate.phantom.devices import DEVICES
from curate.phantom.lesions import KINDS, draw_lesions
from curate.phantom.people import draw_photos, make_sites, patients_of_sites, random_numbers
from curate.phantom.render import Exposure, photograph
from curate.phantom.truth import encode_artery_vein, encode_mask, fractal_dimension, measure_vessels
from curate.phantom.vessels import FOVEA_SPARED, STEP, VEIN
from curate.phantom.view import View, disc_mask, draw_vessels, field_of_view

PLAIN = View(256, False, (0.0, 0.0), 0.0, 1.0, 1.0)
CLEAR = Exposure(haze=0.02, brightness=1.0, warmth=0.0, defocus=0.0, light=(0.0, 0.0), unevenness=0.1, glare=0.0)


def eye_of(age: float, person: int = 1, eye: int = 0):
    return draw_anatomy(age, random_numbers(7, person, 1), random_numbers(7, person, 2, eye))


def picture_of(grade: int, *, left: bool = False, person: int = 1, device: str = "Aurion NM-45"):
    anatomy = eye_of(50, person)
    view = View(256, left, (0.0, 0.0), 0.0, 1.0, 1.0)
    maps = draw_vessels(anatomy, view)
    lesions = draw_lesions(grade, anatomy, random_numbers(7, person, 4, 0))
    picture = photograph(anatomy, lesions, maps, DEVICES[device], CLEAR, view, random_numbers(7, person, 3))
    return picture, maps, anatomy, view


@cache
def drawn() -> dict[str, np.ndarray]:
    """Measure the vessels of 150 people between 20 and 90."""
    ages = np.random.default_rng(5).uniform(20, 90, 150)
    eyes = [eye_of(age, person) for person, age in enumerate(ages, 1)]
    rows = [measure_vessels(draw_vessels(eye, PLAIN), eye, PLAIN) for eye in eyes]
    return {"age": ages} | {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.parametrize(
    ("measure", "sign"), [("vessel_density", -1), ("fractal_dimension", -1), ("artery_fractal_dimension", -1), ("distance_tortuosity", 1)]
)
def test_age_moves_the_vessels_in_the_known_direction(measure: str, sign: int) -> None:
    correlation = spearmanr(drawn()["age"], drawn()[measure]).statistic
    assert 0.45 < sign * correlation < 0.95  # strong, and not without variation between people


def test_densities_lie_where_graders_of_real_photographs_put_them() -> None:
    # The manual segmentations of CHASE_DB1 cover about 10 to 12 % of the field of view.
    assert 0.08 < np.median(drawn()["vessel_density"]) < 0.15
    # Zhou et al. (2025) report artery fractal dimensions of 1.25 and 1.28.
    assert 1.15 < np.median(drawn()["artery_fractal_dimension"]) < 1.35


def test_sex_and_ethnicity_change_nothing_in_the_picture_or_the_truth() -> None:
    photo = draw_photos(make_sites(1, 0)[0], 5, 3)[0]
    files, row = simulate_photo(photo, 256, 3)
    for sex, ethnicity in (("female", "Black"), ("male", "Asian"), (None, None)):
        other, changed = simulate_photo(replace(photo, sex=sex, ethnicity=ethnicity), 256, 3)
        assert other == files
        assert {k: v for k, v in changed.items() if k not in ("sex", "ethnicity")} == {
            k: v for k, v in row.items() if k not in ("sex", "ethnicity")
        }


def test_a_later_visit_shows_the_same_vessels_in_another_photograph() -> None:
    people = (draw_photos(make_sites(1, 0)[0], patient, 3) for patient in range(1, 99))
    photos = next(p for p in people if p[-1].visit == 2)
    first, later = (next(p for p in photos if p.visit == visit and p.left == photos[-1].left) for visit in (1, 2))
    (_, one), (_, two) = simulate_photo(first, 256, 3), simulate_photo(later, 256, 3)
    assert later.age > first.age
    assert one["vessels"] == two["vessels"]
    assert one["tortuosity"] == two["tortuosity"]
    assert one["fovea_x"] != two["fovea_x"]


def test_both_eyes_of_a_person_are_alike_but_not_the_same() -> None:
    traits = [[(e.traits.branching, e.traits.tortuosity) for e in (eye_of(50, p, 0), eye_of(50, p, 1))] for p in range(1, 60)]
    right, left = np.array(traits).transpose(1, 0, 2)
    for trait in range(2):
        assert 0.5 < np.corrcoef(right[:, trait], left[:, trait])[0, 1] < 0.98


def test_veins_are_wider_than_arteries() -> None:
    eye = eye_of(40)
    trunks = eye.vessels[-4:]
    assert sum(v.kind == VEIN for v in trunks) >= 2
    radius = {kind: np.median(sorted(float(v.radius[0]) for v in eye.vessels if v.kind == kind)[-4:]) for kind in (0, 1)}
    assert radius[1] > 1.15 * radius[0]


def test_vessels_taper_and_run_smoothly() -> None:
    for vessel in eye_of(30).vessels:
        assert (np.diff(vessel.radius) <= 1e-9).all()
        steps = np.diff(vessel.points, axis=0)
        assert np.hypot(*steps.T).max() < 1.6 * STEP
        turn = np.diff(np.unwrap(np.arctan2(steps[:, 1], steps[:, 0])))
        assert np.abs(turn).max(initial=0) < 0.7  # radians a step: bends, no corners


def test_no_branch_enters_the_avascular_zone() -> None:
    for person in range(1, 12):
        eye = eye_of(25, person)
        nearest = min(np.hypot(*(v.points - np.array(eye.fovea)).T).min() for v in eye.vessels)
        assert nearest > 0.7 * FOVEA_SPARED


@pytest.mark.parametrize("person", [1, 2, 3])
def test_vessels_are_darker_in_green_than_what_surrounds_them(person: int) -> None:
    picture, maps, anatomy, view = picture_of(0, person=person)
    vessels = (maps.artery | maps.vein).astype(np.uint8)
    around = cv2.dilate(vessels, np.ones((7, 7), np.uint8)).astype(bool) & ~cv2.dilate(vessels, np.ones((3, 3), np.uint8)).astype(bool)
    inside = (field_of_view(256, 1.0) > 0.99) & ~cv2.dilate(disc_mask(anatomy, view).astype(np.uint8), np.ones((9, 9))).astype(bool)
    green = picture[..., 1].astype(float)
    local = green - cv2.blur(green, (31, 31))
    assert local[vessels.astype(bool) & inside].mean() < local[around & inside].mean() - 6
    share = (local[vessels.astype(bool) & inside] < local[around & inside].mean()).mean()
    assert share > 0.8


@pytest.mark.parametrize("left", [False, True])
def test_the_disc_is_bright_and_on_the_nasal_side(left: bool) -> None:
    picture, _, anatomy, view = picture_of(0, left=left)
    disc = disc_mask(anatomy, view)
    column = np.nonzero(disc)[1].mean()
    assert (column < 90) if left else (column > 166)
    inside = field_of_view(256, 1.0) > 0.99
    assert picture[..., 1][disc].mean() > 1.3 * picture[..., 1][inside & ~disc].mean()


def test_a_left_eye_is_the_mirror_of_the_same_right_eye() -> None:
    eye = eye_of(45)
    right, left = draw_vessels(eye, PLAIN), draw_vessels(eye, View(256, True, (0.0, 0.0), 0.0, 1.0, 1.0))
    agreement = (right.vein & left.vein[:, ::-1]).sum() / (right.vein | left.vein[:, ::-1]).sum()
    assert agreement > 0.9


def test_the_picture_is_black_outside_a_round_field_of_view() -> None:
    picture, *_ = picture_of(2)
    outside = field_of_view(256, 1.0) == 0
    assert picture[outside].max() == 0
    assert picture[field_of_view(256, 1.0) == 1].mean() > 40


def test_the_fundus_is_redder_than_green_and_greener_than_blue() -> None:
    for device in DEVICES:
        picture, *_ = picture_of(0, device=device)
        blue, green, red = picture[field_of_view(256, 1.0) == 1].mean(0)
        assert red > 1.2 * green > 1.2 * blue


def test_devices_differ_in_colour_by_more_than_eyes_do() -> None:
    inside = field_of_view(256, 1.0) == 1
    ratio = lambda device, person: np.divide(*picture_of(0, person=person, device=device)[0][inside].mean(0)[[1, 2]])  # noqa: E731
    within = np.std([ratio("Aurion NM-45", person) for person in range(1, 6)])
    between = np.std([ratio(device, 1) for device in DEVICES])
    assert between > 1.5 * within


def test_lesions_grow_with_the_grade() -> None:
    eye = eye_of(60)
    counts = [[draw_lesions(grade, eye, random_numbers(1, person, 4)).counts() for person in range(40)] for grade in range(5)]
    total = [np.mean([sum(c.values()) for c in grade]) for grade in counts]
    assert total[0] == 0
    assert total[1] < total[2] < total[3]
    assert all(set(c) == set(KINDS) for c in counts[4])
    assert all(c["microaneurysms"] >= 2 and c["haemorrhages"] == 0 for c in counts[1])
    assert all(c["haemorrhages"] >= 2 for grade in counts[2:] for c in grade)
    assert all((c["new_vessels"] > 0) == (number == 4) for number, grade in enumerate(counts) for c in grade)


def test_lesions_are_drawn_dark_and_bright() -> None:
    healthy, severe = picture_of(0)[0].astype(int), picture_of(3)[0].astype(int)
    change = severe[..., 1] - healthy[..., 1]
    assert (change < -25).sum() > 200  # blood
    assert (change > 25).sum() > 60  # exudates and cotton-wool spots


def test_box_counting_gives_the_dimension_of_known_shapes() -> None:
    # The Sierpinski triangle (Pascal's triangle modulo 2) has dimension log 3 / log 2.
    row, column = np.indices((256, 256))
    assert fractal_dimension((row & column) == 0) == pytest.approx(np.log(3) / np.log(2), abs=1e-9)
    assert np.isnan(fractal_dimension(np.zeros((8, 8), bool)))


@pytest.mark.parametrize("size", [256, 300, 257])
def test_masks_survive_their_own_png_encoder(size: int) -> None:
    rng = np.random.default_rng(size)
    artery, vein = rng.random((2, size, size)) < 0.3
    decoded = cv2.imdecode(np.frombuffer(encode_mask(artery), np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(decoded == 255, artery)
    assert set(np.unique(decoded)) == {0, 255}
    blue, green, red = np.moveaxis(cv2.imdecode(np.frombuffer(encode_artery_vein(artery, vein), np.uint8), cv2.IMREAD_COLOR), 2, 0)
    assert np.array_equal((red == 255) | (green == 255), artery)
    assert np.array_equal((blue == 255) | (green == 255), vein)


@pytest.mark.parametrize("size", [256, 1024])
def test_masks_of_a_view_hardly_depend_on_its_size(size: int) -> None:
    eye = eye_of(50)
    view = View(size, False, (0.0, 0.0), 0.0, 1.0, 1.0)
    density = measure_vessels(draw_vessels(eye, view), eye, view)["vessel_density"]
    reference = View(512, False, (0.0, 0.0), 0.0, 1.0, 1.0)
    assert density == pytest.approx(measure_vessels(draw_vessels(eye, reference), eye, reference)["vessel_density"], rel=0.2)


def test_the_first_two_hospitals_have_mean_ages_of_69_and_47() -> None:
    for site, mean in zip(make_sites(2, 0), (69, 47), strict=True):
        ages = np.array([draw_photos(site, patient, 11)[0].age for patient in range(1, 1200)])
        assert abs(ages.mean() - mean) < 1.5
        assert 12 < ages.std() < 16
        assert ages.min() >= 18
        assert ages.max() <= 95


def test_further_hospitals_lie_between_the_first_two_and_have_names_of_their_own() -> None:
    sites = make_sites(12, 4)
    assert len({site.name for site in sites}) == 12
    assert all(49 <= site.age[0] <= 67 and set(site.devices) <= set(DEVICES) for site in sites[2:])


def test_retinopathy_is_rarer_by_grade_and_commoner_with_age() -> None:
    site = make_sites(2, 0)[0]
    photos = [draw_photos(site, patient, 2)[0] for patient in range(1, 3000)]
    shares = np.bincount([p.grade for p in photos], minlength=5) / len(photos)
    assert (np.diff(shares) < 0).all()
    assert shares[4] > 0.02
    assert 0.05 < spearmanr([p.age for p in photos], [p.grade for p in photos]).statistic < 0.4


def test_patients_are_shared_out_over_sites_without_loss() -> None:
    assert patients_of_sites(7, 3) == [3, 2, 2]
