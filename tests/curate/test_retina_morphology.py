"""Morphology against shapes whose dimension, width and tortuosity are known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.retina.morphology import average_width, branch_density, fractal_dimension, skeleton_of, tortuosities, vessel_density


def empty(size: int = 512) -> np.ndarray:
    return np.zeros((size, size), np.uint8)


def half_circle(size: int, radius: int) -> np.ndarray:
    image = empty(size)
    cv2.ellipse(image, (size // 2, size // 2), (radius, radius), 0, 0, 180, 1, 5)
    return image


def test_a_filled_square_has_dimension_two() -> None:
    assert fractal_dimension(np.ones((512, 512), np.uint8)) == pytest.approx(2)


def test_a_line_has_dimension_one() -> None:
    image = empty()
    image[200, :] = 1
    assert fractal_dimension(image) == pytest.approx(1)


def test_the_sierpinski_triangle_has_dimension_log_3_over_log_2() -> None:
    i, j = np.mgrid[:512, :512]
    assert fractal_dimension((i & j) == 0) == pytest.approx(np.log(3) / np.log(2), abs=1e-9)


def test_the_sierpinski_carpet_has_dimension_log_8_over_log_3() -> None:
    carpet = np.ones((1, 1), np.uint8)
    for _ in range(6):
        carpet = np.block([[carpet] * 3, [carpet, 0 * carpet, carpet], [carpet] * 3])
    assert fractal_dimension(carpet[:512, :512]) == pytest.approx(np.log(8) / np.log(3), abs=0.06)


def test_an_empty_map_has_no_dimension_width_or_tortuosity() -> None:
    skeleton = skeleton_of(empty())
    assert fractal_dimension(empty()) is None
    assert average_width(empty(), skeleton) is None
    assert branch_density(skeleton, 512) is None
    assert tortuosities(skeleton.segments, 512) == (None, None, None)


def test_density_is_the_share_of_the_field_not_of_the_image() -> None:
    field, vessels = empty(100), empty(100)
    field[:50] = 1
    vessels[:10, :] = 1
    vessels[90:, :] = 1  # outside the field
    assert vessel_density(vessels, field) == pytest.approx(0.2)


@pytest.mark.parametrize("angle", [10, 25, 40, 65, 80])
@pytest.mark.parametrize("width", [7, 13])
def test_a_bar_is_as_wide_as_it_was_drawn_in_any_direction(angle: int, width: int) -> None:
    size = 912
    y, x = np.mgrid[:size, :size] - size / 2
    a = np.radians(angle)
    along, across = x * np.cos(a) + y * np.sin(a), -x * np.sin(a) + y * np.cos(a)
    bar = ((np.abs(across) <= width / 2) & (np.abs(along) <= 380)).astype(np.uint8)
    assert average_width(bar, skeleton_of(bar)) == pytest.approx(width, rel=0.08)


def test_width_is_in_pixels_of_a_912_px_field_at_any_resolution() -> None:
    bar = empty(456)
    bar[200:206, 20:430] = 1
    assert average_width(bar, skeleton_of(bar)) == pytest.approx(12, rel=0.08)


@settings(max_examples=20, deadline=None)
@given(angle=st.floats(0, np.pi), length=st.integers(60, 200))
def test_a_straight_vessel_has_no_tortuosity(angle: float, length: int) -> None:
    image = empty()
    dx, dy = round(length * np.cos(angle)), round(length * np.sin(angle))
    cv2.line(image, (256 - dx, 256 - dy), (256 + dx, 256 + dy), 1, 5)
    distance, _, density = tortuosities(skeleton_of(image).segments, 512)
    assert distance == pytest.approx(1, abs=0.004)
    assert density == pytest.approx(0, abs=0.01)


def test_straight_vessels_have_little_squared_curvature_over_all_directions() -> None:
    found = []
    for angle in np.linspace(0, np.pi, 36, endpoint=False):
        image = empty()
        dx, dy = round(130 * np.cos(angle)), round(130 * np.sin(angle))
        cv2.line(image, (256 - dx, 256 - dy), (256 + dx, 256 + dy), 1, 5)
        found.append(tortuosities(skeleton_of(image).segments, 512)[1])
    # What remains is the single pixels by which digital lines step; a half circle of the same extent has about 2 pi.
    assert np.median(np.array(found, float)) < 0.5
    assert np.mean(np.array(found, float)) < 1.2


@pytest.mark.parametrize("size", [512, 912])
def test_a_half_circle_has_distance_tortuosity_half_pi_and_its_squared_curvature_is_pi_times_field_radius_over_radius(size: int) -> None:
    distance, squared, density = tortuosities(skeleton_of(half_circle(size, size // 4)).segments, size)
    assert distance == pytest.approx(np.pi / 2, abs=0.02)
    assert squared == pytest.approx(2 * np.pi, rel=0.15)
    assert density == 0  # it turns one way only


def test_a_wave_turns_more_often_and_is_denser_in_tortuosity_than_a_gentle_one() -> None:
    def wave(turns: int) -> float:
        x = np.linspace(40, 470, 2000)
        image = empty()
        cv2.polylines(image, [np.stack([x, 256 + 25 * np.sin((x - 40) / 430 * np.pi * turns)], axis=1).astype(np.int32)], False, 1, 5)
        density = tortuosities(skeleton_of(image).segments, 512)[2]
        assert density is not None
        return density

    assert 0 < wave(3) < wave(6)


def test_a_loop_has_no_chord_and_is_left_out() -> None:
    image = empty()
    cv2.circle(image, (256, 256), 100, 1, 5)
    assert tortuosities(skeleton_of(image).segments, 512) == (None, None, None)


def test_a_fork_is_one_branch_point_and_three_segments() -> None:
    image = empty()
    for end in ((60, 256), (420, 120), (420, 400)):
        cv2.line(image, (256, 256), end, 1, 5)
    skeleton = skeleton_of(image)
    assert skeleton.branches == 1
    assert len(skeleton.segments) == 3


def test_a_ragged_edge_grows_no_branches() -> None:
    image = empty()
    image[250:258, 40:470] = 1
    image[248:250, 100:460:30] = 1  # bumps of 1 x 2 px
    skeleton = skeleton_of(image)
    assert skeleton.branches == 0
    assert len(skeleton.segments) == 1


def test_segments_are_ordered_from_end_to_end() -> None:
    (path,) = skeleton_of(half_circle(512, 100)).segments
    assert np.hypot(*np.diff(path, axis=0).T).max() <= np.sqrt(2)
