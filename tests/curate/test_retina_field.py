"""The field of view is found where it was drawn, whole or cut, round or squeezed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from curate.retina.field import find_field, normalise


def photograph(shape: tuple[int, int], centre: tuple[int, int], axes: tuple[int, int], noise: int = 6) -> np.ndarray:
    """Draw a lit ellipse on a dark, noisy surround; (H, W, 3) uint8."""
    image = np.random.default_rng(0).integers(0, noise, (*shape, 3)).astype(np.uint8)
    cv2.ellipse(image, centre, axes, 0, 0, 360, (190, 95, 40), -1)
    return image


@pytest.mark.parametrize(
    ("shape", "centre", "radius"), [((400, 600), (310, 190), 170), ((256, 256), (128, 127), 120), ((960, 999), (492, 478), 460)]
)
def test_a_whole_disc_is_found_within_half_a_percent(shape: tuple[int, int], centre: tuple[int, int], radius: int) -> None:
    field = find_field(photograph(shape, centre, (radius, radius)))
    assert field is not None
    assert field.x == pytest.approx(centre[0], abs=0.005 * 2 * radius)
    assert field.y == pytest.approx(centre[1], abs=0.005 * 2 * radius)
    assert field.radius_x == pytest.approx(radius, rel=0.015)
    assert field.radius_y == pytest.approx(field.radius_x, rel=0.005)
    assert field.rim > 0.95


def test_a_disc_cut_at_the_top_and_bottom_is_completed() -> None:
    field = find_field(photograph((300, 512), (250, 150), (210, 210)))
    assert field is not None
    assert (field.x, field.y) == pytest.approx((250, 150), abs=3)
    assert field.radius_x == pytest.approx(210, rel=0.015)
    assert 0.3 < field.rim < 0.7


def test_a_squeezed_field_is_an_ellipse_and_becomes_round_again() -> None:
    image = photograph((512, 512), (256, 256), (250, 300))  # cut, then resized to a square
    field = find_field(image)
    assert field is not None
    assert field.radius_x / field.radius_y == pytest.approx(250 / 300, rel=0.02)
    normalised, mask = normalise(image, field, 256)
    assert normalised.shape == (256, 256, 3)
    assert 0.85 < mask.sum() / (np.pi / 4 * 256**2) < 0.97  # the part that was cut stays missing


def test_a_shadow_on_the_rim_does_not_move_the_field() -> None:
    image = photograph((400, 400), (200, 200), (180, 180))
    cv2.circle(image, (390, 230), 70, (0, 0, 0), -1)
    field = find_field(image)
    assert field is not None
    assert (field.x, field.y, field.radius_x) == pytest.approx((200, 200, 180), abs=3)


def test_a_date_stamp_outside_the_field_is_left_out() -> None:
    image = photograph((400, 500), (250, 200), (170, 170))
    cv2.putText(image, "2015-03-01", (5, 390), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1)
    field = find_field(image)
    assert field is not None
    assert (field.x, field.y, field.radius_x) == pytest.approx((250, 200, 170), abs=3)


def test_a_lit_square_is_not_a_field_of_view() -> None:
    image = np.zeros((300, 300, 3), np.uint8)
    image[60:240, 60:240] = (180, 90, 40)
    assert find_field(image) is None


def test_a_photograph_inside_the_field_has_no_rim() -> None:
    field = find_field(np.full((200, 300, 3), (180, 90, 40), np.uint8))
    assert field is not None
    assert field.rim == 0
    assert field.radius_x == pytest.approx(np.hypot(200, 300) / 2)


def test_the_surround_is_black_after_normalising() -> None:
    image = photograph((400, 600), (310, 190), (170, 170))
    field = find_field(image)
    assert field is not None
    normalised, mask = normalise(image, field, 300)
    assert normalised[mask == 0].max() == 0
    assert normalised[150, 150].tolist() == [190, 95, 40]
