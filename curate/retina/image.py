"""Everything that is measured on one fundus photograph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from curate.retina import compatible as others
from curate.retina import field, quality, vessels
from curate.retina.masks import MEASURES as MASK_MEASURES
from curate.retina.masks import Masks, measure_masks
from curate.retina.shape import SHAPES, vessel_measures

DEFAULT_RESOLUTION = 512  # px: diameter to which every field of view is brought
_SMALLEST = 64  # px: shorter sides show no vessels

OK = "ok"
NOT_FUNDUS = "not a fundus photograph"
TOO_DARK = "too dark"
OVEREXPOSED = "overexposed"
TOO_SMALL = "too small"
STATES = (OK, NOT_FUNDUS, TOO_DARK, OVEREXPOSED, TOO_SMALL)

# Column -> numpy type, in the order in which they stand in the table.
MEASURES: dict[str, str] = {
    "state": "string",
    "fov_x": "float64",
    "fov_y": "float64",
    "fov_radius": "float64",
    "fov_aspect": "float64",
    "field_coverage": "float64",
    "brightness": "float64",
    "exposure": "float64",
    "sharpness": "float64",
    "contrast": "float64",
    "visibility": "float64",
    "quality_score": "float64",
    "quality": "string",
    **dict.fromkeys(SHAPES, "float64"),
}


# What is said of the photograph and not of the eye.
OF_THE_PHOTOGRAPH = (
    "fov_x", "fov_y", "fov_radius", "fov_aspect", "field_coverage", "brightness", "exposure", "sharpness", "contrast", "visibility",
    "quality_score",
)  # fmt: skip


def measure_image(
    rgb: np.ndarray, *, resolution: int = DEFAULT_RESOLUTION, masks: Masks | None = None, compatible: str | None = None
) -> dict[str, float | str | None]:
    """Measure quality and vessel morphology of one photograph.

    Args:
        rgb: (H, W, 3) uint8.
        resolution: pixels to which the diameter of the field of view is brought; the filters always see 512.
        masks: what is known of the photograph, see `curate.retina.masks`; vessels drawn there are measured instead of
            those that the filters find.
        compatible: whose definitions of shape and calibre hold, see `curate.retina.compatible`; None: our own.

    Returns:
        One value for each name in `MEASURES`, and in `MASK_MEASURES` where masks are given, None where it can't be had:

        - ``state``: ``ok``, or why nothing more is said: ``not a fundus photograph``, ``too dark``,
          ``overexposed``, ``too small``.
        - ``fov_x``, ``fov_y``: centre of the field as a share of the photograph's width and height; ``fov_radius``:
          its horizontal half-axis as a share of the width; ``fov_aspect``: horizontal over vertical half-axis, 1
          unless the photograph was resized unevenly; ``field_coverage``: share of the full disc that is shown.
        - ``brightness``, ``exposure``, ``sharpness``, ``contrast``, ``visibility``, ``quality_score`` and
          ``quality`` (good, usable, reject): see `curate.retina.quality`.
        - ``Fractal_dimension`` ... ``Branching_angle``: see `curate.retina.morphology`; None where the quality
          is graded reject (what can't be seen can't be counted) or fewer than 0.5 % of the field is marked as vessel.
          ``Average_width`` is in pixels of a field of 912 px. Which definitions hold, `compatible` says.

    Raises:
        ValueError: where `rgb` isn't (H, W, 3) uint8, `resolution` is under 128, or `compatible` is unknown or holds at
            another resolution.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    if resolution < 128:
        raise ValueError(f"resolution {resolution}: at least 128 pixels are needed")
    if compatible is not None and (compatible not in others.COMPATIBLE or resolution != others.RESOLUTION):
        raise ValueError(f"compatible {compatible}: there is {', '.join(others.COMPATIBLE)}, at {others.RESOLUTION} pixels alone")
    row: dict[str, float | str | None] = dict.fromkeys(MEASURES if masks is None else (*MEASURES, *MASK_MEASURES))
    height, width = rgb.shape[:2]
    if min(height, width) < _SMALLEST:
        return row | {"state": TOO_SMALL}
    overall = _overall_state(rgb)
    if overall is not None:
        return row | {"state": overall}
    found = field.find_field(rgb)
    if found is None:
        return row | {"state": NOT_FUNDUS}
    row |= {
        "fov_x": (found.x + 0.5) / width,
        "fov_y": (found.y + 0.5) / height,
        "fov_radius": found.radius_x / width,
        "fov_aspect": found.radius_x / found.radius_y,
    }
    if min(found.radius_x, found.radius_y) < _SMALLEST / 2:
        return row | {"state": TOO_SMALL}
    image, mask = field.normalise(rgb, found, resolution)
    mask = field.without_bands(image, mask)
    row["state"] = _state(image, mask, found)
    if row["state"] != OK:
        return row if row["state"] != NOT_FUNDUS else dict.fromkeys(row) | {"state": NOT_FUNDUS}
    response = vessels.vessel_response(image, mask)
    row |= _quality(image, mask, response)
    drawn = (masks or Masks()).in_field((height, width), found, resolution)
    if drawn.vessels is None and row["quality"] != "reject":
        drawn = replace(drawn, vessels=vessels.vessel_map(response, resolution))
    if drawn.vessels is not None:
        row |= (others.vessel_measures if compatible else vessel_measures)(drawn.vessels, mask)
    return row if masks is None else row | measure_masks(drawn, mask, as_defined_by=compatible)


def _overall_state(rgb: np.ndarray) -> str | None:
    """Recognise frames in which there is nothing to look for."""
    step = max(1, min(rgb.shape[:2]) // 256)
    sample = rgb[::step, ::step]
    if np.percentile(sample.max(axis=2), 99) < 24:
        return TOO_DARK
    if np.percentile(sample.min(axis=2), 5) >= 250:
        return OVEREXPOSED
    return None


def _state(image: np.ndarray, mask: np.ndarray, found: field.Field) -> str:
    """Judge the colours of a normalised field by every few pixels."""
    step = image.shape[0] // 128
    values = image[::step, ::step][mask[::step, ::step] > 0].astype(np.float32)
    red, green, blue = values.T
    if float(np.median(values.max(axis=1))) < 16:
        return TOO_DARK
    if float((values[:, 1] >= 250).mean()) > 0.5:
        return OVEREXPOSED
    if all(float(np.subtract(*np.percentile(np.log(channel + 10), [90, 10]))) < 0.02 for channel in (red, green)):
        return NOT_FUNDUS  # one flat colour
    grey = float(np.abs(red - blue).mean()) < 4 and float(np.abs(red - green).mean()) < 4
    if grey:  # a red-free photograph has a round field; a radiograph or a scan hasn't
        return OK if found.rim >= 0.4 else NOT_FUNDUS
    if found.rim > 0:
        return OK if red.mean() > 0.85 * blue.mean() else NOT_FUNDUS
    # Without a rim to go by, the whole frame must have the colour of a retina.
    retinal = (red > 1.1 * green) & (green > 0.8 * blue) & (red > 1.3 * blue)
    return OK if float(retinal.mean()) > 0.95 else NOT_FUNDUS


def _quality(image: np.ndarray, mask: np.ndarray, response: vessels.Vessels) -> dict[str, float | str | None]:
    found = quality.proxies(image, mask, response)
    score = quality.score_of(found)
    return {
        "field_coverage": found.coverage,
        "brightness": found.brightness,
        "exposure": found.exposure,
        "sharpness": found.sharpness,
        "contrast": found.contrast,
        "visibility": found.visibility,
        "quality_score": score,
        "quality": quality.grade_of(score),
    }
