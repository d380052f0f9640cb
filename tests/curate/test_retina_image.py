"""One photograph: its state, its quality, its vessels; nothing is invented where nothing can be seen."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from curate.retina import MEASURES, STATES, measure_image
from curate.retina.field import find_field, normalise
from curate.retina.vessels import vessel_map, vessel_response

CHASE = Path(__file__).resolve().parents[3] / "shared" / "data" / "chase_db1"


@pytest.fixture(scope="module")
def retina() -> np.ndarray:
    """Give the photograph that scikit-image ships, (706, 706, 3) uint8."""
    from skimage.data import retina

    return cv2.resize(retina(), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def test_a_real_photograph_is_good_and_has_every_measure(retina: np.ndarray) -> None:
    row = measure_image(retina)
    assert list(row) == list(MEASURES)
    assert row["state"] == "ok"
    assert row["quality"] == "good"
    assert None not in row.values()
    assert row["fov_x"] == pytest.approx(0.5, abs=0.01)
    assert 1.3 < float(row["Fractal_dimension"] or 0) < 1.75
    assert 0.05 < float(row["Vessel_density"] or 0) < 0.2
    assert 1.0 <= float(row["Distance_tortuosity"] or 0) < 1.2


def test_measures_hardly_depend_on_the_size_of_the_photograph(retina: np.ndarray) -> None:
    half = cv2.resize(retina, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    large, small = measure_image(retina), measure_image(half)
    for name, tolerance in (("Fractal_dimension", 0.03), ("Vessel_density", 0.12), ("Average_width", 0.1), ("fov_radius", 0.005)):
        assert small[name] == pytest.approx(large[name], rel=tolerance), name


def test_resolution_changes_detail_not_scale(retina: np.ndarray) -> None:
    coarse, fine = measure_image(retina, resolution=512), measure_image(retina, resolution=912)
    for name, tolerance in (("Fractal_dimension", 0.03), ("Vessel_density", 0.05), ("Average_width", 0.1), ("Distance_tortuosity", 0.02)):
        assert fine[name] == pytest.approx(coarse[name], rel=tolerance), name


def test_uneven_resizing_is_undone(retina: np.ndarray) -> None:
    height, width = retina.shape[:2]
    squeezed = cv2.resize(retina, (width, int(0.8 * height)), interpolation=cv2.INTER_AREA)
    row = measure_image(squeezed)
    assert row["fov_aspect"] == pytest.approx(1.25, rel=0.02)
    assert row["Vessel_density"] == pytest.approx(measure_image(retina)["Vessel_density"], rel=0.12)


def test_blur_lowers_the_quality_score(retina: np.ndarray) -> None:
    scores = [measure_image(cv2.GaussianBlur(retina, (0, 0), s) if s else retina)["quality_score"] for s in (0, 4, 8)]
    assert scores[0] == 1
    assert 0.2 < float(scores[1] or 0) < 0.8
    assert float(scores[2] or 0) < 0.2


def test_haze_lowers_contrast_and_hides_vessels(retina: np.ndarray) -> None:
    field = find_field(retina)
    assert field is not None
    lit = retina.max(axis=2, keepdims=True) > 20
    hazy = np.where(lit, 0.12 * retina + 140, retina).astype(np.uint8)
    clear, through = measure_image(retina), measure_image(hazy)
    assert float(through["contrast"] or 0) < 0.5 * float(clear["contrast"] or 0)
    assert through["quality"] == "reject"


NOISE = np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "state"),
    [
        (np.zeros((256, 256, 3), np.uint8), "too dark"),
        (np.full((256, 256, 3), 255, np.uint8), "overexposed"),
        (np.full((256, 256, 3), 128, np.uint8), "not a fundus photograph"),
        (np.full((256, 256, 3), (180, 90, 40), np.uint8), "not a fundus photograph"),
        (np.full((8, 300, 3), 100, np.uint8), "too small"),
        (np.zeros((1, 1, 3), np.uint8), "too small"),
        (NOISE, "not a fundus photograph"),
    ],
    ids=["black", "white", "grey", "one colour", "strip", "one pixel", "noise"],
)
def test_frames_without_a_retina_get_a_state_and_no_numbers(image: np.ndarray, state: str) -> None:
    row = measure_image(image)
    assert row["state"] == state
    assert state in STATES
    assert all(v is None for k, v in row.items() if k != "state")


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "camera"])
def test_other_photographs_are_not_fundus_photographs(name: str) -> None:
    import skimage.data

    image = getattr(skimage.data, name)()
    rgb = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
    assert measure_image(rgb)["state"] == "not a fundus photograph"


def test_a_field_burnt_out_is_overexposed(retina: np.ndarray) -> None:
    burnt = np.clip(retina.astype(np.int32) * 8, 0, 255).astype(np.uint8)
    row = measure_image(burnt)
    assert row["state"] == "overexposed"
    assert row["Vessel_density"] is None


def test_a_red_free_photograph_is_measured(retina: np.ndarray) -> None:
    grey = np.repeat(retina[:, :, 1:2], 3, axis=2)
    row = measure_image(grey)
    assert row["state"] == "ok"
    assert row["Vessel_density"] == pytest.approx(measure_image(retina)["Vessel_density"], rel=0.1)


def test_anything_but_eight_bit_colour_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        measure_image(np.zeros((100, 100, 3), np.float32))


@pytest.mark.skipif(not CHASE.is_dir(), reason="CHASE_DB1 is not at ../shared/data/chase_db1")
def test_vessel_maps_agree_with_the_first_observer_on_chase_db1() -> None:
    from sklearn.metrics import roc_auc_score

    areas, dice, paths = [], [], sorted(CHASE.glob("*.jpg"))
    for path in paths:
        rgb = cv2.imread(str(path))[:, :, ::-1]
        observed = (cv2.imread(str(path.with_name(path.stem + "_1stHO.png")), cv2.IMREAD_GRAYSCALE) > 127).astype(np.uint8) * 255
        field = find_field(rgb)
        assert field is not None
        image, mask = normalise(rgb, field, 912)
        truth = normalise(np.repeat(observed[:, :, None], 3, axis=2), field, 912)[0][:, :, 0] > 127
        vessels = vessel_response(image, mask)
        marked, inside = vessel_map(vessels, 912) > 0, mask > 0
        areas.append(roc_auc_score(truth[inside], cv2.resize(vessels.response, (912, 912))[inside]))
        dice.append(2 * (marked & truth & inside).sum() / ((marked & inside).sum() + (truth & inside).sum()))
    assert len(paths) == 14
    assert np.mean(areas) >= 0.95
    assert np.mean(dice) >= 0.72
    assert min(dice) >= 0.65


@pytest.mark.parametrize("size", [256, 512])
def test_measured_fractal_dimension_and_density_rank_phantoms_as_their_truth_does(tmp_path: Path, size: int) -> None:
    import pandas as pd

    from curate.phantom import simulate_archive

    simulate_archive(tmp_path / "archive", patients=24, size=size, seed=21, workers=1)
    truth = pd.read_parquet(tmp_path / "archive" / "truth" / "truth.parquet")
    pictures = (cv2.imread(str(tmp_path / "archive" / "images" / name)) for name in truth["image_file"])
    rows = [measure_image(np.ascontiguousarray(picture[:, :, ::-1])) for picture in pictures if picture is not None]
    measured = pd.DataFrame(rows)
    assert measured["Vessel_density"].notna().mean() > 0.85
    for name, true in (("Fractal_dimension", "fractal_dimension"), ("Vessel_density", "vessel_density")):
        assert measured[name].corr(truth[true], method="spearman") >= 0.8, name
