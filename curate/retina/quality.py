"""Quality of a fundus photograph from what can be measured on it, without a learned model.

Proxies are measured on the field of view; each becomes a score from 0 to 1, and the photograph is as good as the worst
of them allows: a sharp photograph that shows half a retina is half a retina. The ramps were set on the 1,328 photographs
of ODIR-5K graded "normal fundus" alone: 0 lies below all but about one in a hundred of them, 1 near the fifth
percentile of sharpness and exposure and the 20th of contrast and visibility, which eyes with clear media still vary in.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from curate.retina.field import disc
from curate.retina.vessels import FILTER_DIAMETER, Vessels

_GRID = 256  # px: sharpness is taken at a size that every photograph worth measuring has, so cameras can be compared
_BLOCKS = 8
_PLAIN = 0.027  # optical density by which a vessel must be darker than its surround to be plain to see
# Proxy -> where its score is 0, where it is 1.
RAMPS = {
    "exposure": (0.60, 0.95),
    "coverage": (0.50, 0.85),
    "sharpness": (0.45, 0.62),
    "contrast": (0.005, 0.023),
    "visibility": (0.15, 0.55),
}
GOOD, USABLE = 0.50, 0.20


@dataclass(frozen=True)
class Quality:
    """Proxies of quality; all but `brightness` and `sharpness` are shares from 0 to 1.

    Attributes:
        brightness: mean luminance of the field, 0 to 1.
        exposure: share of the field that is neither too dark (luminance under 20 of 255) nor clipped (the green
            channel over 250).
        coverage: share of the full disc that the photograph shows.
        sharpness: energy of the finest detail over that of detail twice as coarse (standard deviations of optical
            density between Gaussians of 0.7 and 1.4, and of 1.4 and 2.8 px, on a field of 256 px).
        contrast: how much darker than their surround the plainest vessels are: the 95th percentile of the vessel
            filter's response, in optical density.
        visibility: share of the field's 8 x 8 blocks in which a vessel is plain to see.
    """

    brightness: float
    exposure: float
    coverage: float
    sharpness: float
    contrast: float
    visibility: float


def proxies(rgb: np.ndarray, mask: np.ndarray, vessels: Vessels) -> Quality:
    """Measure the proxies.

    Args:
        rgb: (R, R, 3) uint8, a normalised field.
        mask: (R, R) uint8, 1 where the photograph shows the field.
        vessels: from `vessels.vessel_response`.
    """
    small = cv2.resize(rgb, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    shown = cv2.resize(mask, (_GRID, _GRID), interpolation=cv2.INTER_NEAREST)
    luminance = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    inside = shown > 0
    total = max(1, int(inside.sum()))
    well = (luminance >= 20) & (small[:, :, 1] <= 250) & inside
    away = cv2.erode(vessels.inner, np.ones((15, 15), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    depth = vessels.depth[away > 0]  # the rim is no vessel
    plain = vessels.depth * away > _PLAIN
    return Quality(
        brightness=float(luminance[inside].mean()) / 255 if inside.any() else 0.0,
        exposure=float(well.sum()) / total,
        coverage=int(np.count_nonzero(mask)) / int(np.count_nonzero(disc(mask.shape[0]))),
        sharpness=_sharpness(small[:, :, 1], shown),
        contrast=float(np.percentile(depth, 95)) if len(depth) else 0.0,
        visibility=_visibility(plain, vessels.inner),
    )


def _sharpness(green: np.ndarray, shown: np.ndarray) -> float:
    density = np.log(green.astype(np.float32) + 10)
    levels = [cv2.GaussianBlur(density, (0, 0), s) for s in (0.7, 1.4, 2.8)]
    middle = cv2.erode(shown, np.ones((19, 19), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if not middle.any():
        return 0.0
    fine, coarse = (float((a - b)[middle].std()) for a, b in pairwise(levels))
    return fine / coarse if coarse > 1e-6 else 0.0


def _visibility(plain: np.ndarray, inner: np.ndarray) -> float:
    side = FILTER_DIAMETER // _BLOCKS

    def share(values: np.ndarray) -> np.ndarray:
        return values.reshape(_BLOCKS, side, _BLOCKS, side).mean(axis=(1, 3))

    counted = share(inner) > 0.5
    return float((share(plain)[counted] > 0.01).mean()) if counted.any() else 0.0


def score_of(quality: Quality) -> float:
    """Give the quality score: the lowest of the proxies' scores, each rising from 0 to 1 along its ramp.

    Example:
        >>> score_of(Quality(brightness=0.4, exposure=1.0, coverage=1.0, sharpness=0.8, contrast=0.014, visibility=0.9))
        0.5
    """
    scores = [(getattr(quality, name) - low) / (high - low) for name, (low, high) in RAMPS.items()]
    return round(float(min(1.0, max(0.0, min(scores)))), 6)


def grade_of(score: float) -> str:
    """Give the grade of a quality score: good from 0.5, usable from 0.2, else reject."""
    return "good" if score >= GOOD else "usable" if score >= USABLE else "reject"
