"""Diabetic retinopathy: which lesions an eye of a grade has, and where.

The grades are those of the International Clinical Diabetic Retinopathy scale (Wilkinson et al. 2003): microaneurysms
alone are mild; haemorrhages, hard exudates and cotton-wool spots make it moderate and their extent severe; new
vessels and preretinal haemorrhage are proliferative.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from curate.phantom.anatomy import Anatomy
from curate.phantom.view import SHIFT, View

KINDS = ("microaneurysms", "haemorrhages", "exudates", "cotton_wool_spots", "new_vessels")
# Expected number of each kind by grade 0 to 4.
EXPECTED = {
    "microaneurysms": (0.0, 9.0, 20.0, 38.0, 34.0),
    "haemorrhages": (0.0, 0.0, 7.0, 22.0, 20.0),
    "exudates": (0.0, 0.0, 16.0, 34.0, 40.0),
    "cotton_wool_spots": (0.0, 0.0, 0.7, 3.5, 3.0),
    "new_vessels": (0.0, 0.0, 0.0, 0.0, 5.0),
}


@dataclass(frozen=True)
class Lesions:
    """The lesions of an eye, on the retina.

    Attributes:
        spots: kind -> (n, 3) float64: x, y, radius, in radii of the field of view.
        loops: new vessels, each an (n, 2) line.
        pool: preretinal haemorrhage (x, y, radius), or None.
    """

    spots: dict[str, np.ndarray]
    loops: tuple[np.ndarray, ...]
    pool: tuple[float, float, float] | None

    def counts(self) -> dict[str, int]:
        """Count the lesions of each kind of `KINDS`."""
        return {kind: len(self.loops) if kind == "new_vessels" else len(self.spots[kind]) for kind in KINDS}


def draw_lesions(grade: int, anatomy: Anatomy, rng: np.random.Generator) -> Lesions:
    """Draw the lesions of an eye.

    Args:
        grade: 0 none, 1 mild, 2 moderate, 3 severe, 4 proliferative.
        anatomy: of the eye: lesions spare the disc, and new vessels rise from it or from the arcades.
        rng: the eye's random numbers for lesions.
    """
    extent = float(np.exp(rng.normal(-0.06, 0.35)))  # eyes of one grade differ
    number = {kind: int(rng.poisson(EXPECTED[kind][grade] * extent)) for kind in KINDS}
    if grade:
        number["microaneurysms"] = max(number["microaneurysms"], 2)
    if grade >= 2:
        number["haemorrhages"] = max(number["haemorrhages"], 2)
    if grade == 4:
        number["new_vessels"] = max(number["new_vessels"], 2)
    spots = {
        "microaneurysms": _scatter(number["microaneurysms"], (0.0065, 0.0105), anatomy, rng),
        "haemorrhages": _scatter(number["haemorrhages"], (0.010, 0.030), anatomy, rng),
        "exudates": _clusters(number["exudates"], anatomy, rng),
        "cotton_wool_spots": _scatter(number["cotton_wool_spots"], (0.028, 0.052), anatomy, rng),
    }
    loops = tuple(_tuft(anatomy, rng) for _ in range(number["new_vessels"]))
    pool = None
    if grade == 4 and rng.random() < 0.45:
        pool = (anatomy.fovea[0] + rng.uniform(-0.25, 0.35), anatomy.fovea[1] + rng.uniform(0.25, 0.5), rng.uniform(0.09, 0.2))
    return Lesions(spots, loops, pool)


def _scatter(count: int, radii: tuple[float, float], anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Place spots over the posterior pole, denser around the macula, none on the disc."""
    distance, angle = rng.rayleigh(0.42, 3 * count + 4), rng.uniform(0, 2 * np.pi, 3 * count + 4)
    x, y = anatomy.fovea[0] + 0.1 + distance * np.cos(angle), anatomy.fovea[1] + distance * np.sin(angle)
    good = (np.hypot(x, y) < 0.93) & (np.hypot(x - anatomy.disc[0], y - anatomy.disc[1]) > 1.35 * anatomy.disc_axes[1])
    x, y = x[good][:count], y[good][:count]
    return np.stack([x, y, rng.uniform(*radii, len(x))], 1)


def _clusters(count: int, anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Place hard exudates in arcs around leaking points near the macula."""
    left, groups = count, []
    while left > 0:
        size = min(left, int(rng.integers(5, 14)))
        left -= size
        away, turn = rng.uniform(0.13, 0.42), rng.uniform(0, 2 * np.pi)
        centre = np.array(anatomy.fovea) + away * np.array([np.cos(turn), np.sin(turn)])
        arc = rng.uniform(0, 2 * np.pi) + rng.uniform(-1.3, 1.3, size)
        ring = rng.uniform(0.04, 0.10) * np.exp(rng.normal(0, 0.22, size))
        groups.append(np.column_stack([centre[0] + ring * np.cos(arc), centre[1] + ring * np.sin(arc), rng.uniform(0.006, 0.017, size)]))
    return np.concatenate(groups) if groups else np.zeros((0, 3))


def _tuft(anatomy: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Grow one fine looping new vessel from the disc or along an arcade."""
    if rng.random() < 0.55:
        turn = rng.uniform(0, 2 * np.pi)
        start = np.array(anatomy.disc) + 0.8 * np.array(anatomy.disc_axes) * np.array([np.cos(turn), np.sin(turn)])
    else:
        trunk = anatomy.vessels[-1 - int(rng.integers(0, 6))].points
        start = trunk[int(rng.integers(len(trunk) // 3, max(len(trunk) // 3 + 1, 2 * len(trunk) // 3)))]
    steps = int(rng.integers(30, 70))
    bend = np.cumsum(rng.normal(0, 0.28, steps)) + rng.choice([-1.0, 1.0]) * rng.uniform(0.16, 0.30) * np.arange(steps)
    # A drift of its own keeps the loops from closing on one circle.
    heading, drift = rng.uniform(0, 2 * np.pi) + bend, rng.normal(0, 0.0025, 2)
    return start + np.cumsum(0.0095 * np.stack([np.cos(heading), np.sin(heading)], 1) + drift, axis=0)


def lesion_maps(lesions: Lesions, view: View, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the lesions of a photograph.

    Args:
        lesions: on the retina.
        view: of the photograph.
        rng: decides the irregular outlines; the same state gives the same outlines.

    Returns:
        How much light blood takes, how bright exudates are, and how bright cotton-wool spots are, each
        (size, size) float32 from 0 to 1.
    """
    factor = 2 if view.size <= 400 else 1
    side = view.size * factor
    blood, exudate, wool = (np.zeros((side, side), np.uint8) for _ in range(3))
    for kind, canvas, level, rough in (
        ("haemorrhages", blood, (105, 215), 0.30),
        ("microaneurysms", blood, (150, 225), 0.0),
        ("exudates", exudate, (150, 240), 0.12),
        ("cotton_wool_spots", wool, (170, 240), 0.25),
    ):
        spots = lesions.spots[kind]
        for outline, value in zip(_outlines(spots, rough, view, factor, rng), rng.integers(*level, len(spots)).tolist(), strict=True):
            cv2.fillPoly(canvas, [outline], value, cv2.LINE_AA, SHIFT)
    for line in lesions.loops:
        thickness = max(1, round(0.0042 * view.scale * factor))
        cv2.polylines(blood, [_fixed(line, view, factor)], False, 150, thickness, cv2.LINE_AA, SHIFT)
    if lesions.pool is not None:
        _boat(blood, lesions.pool, view, factor)
    size, fine = (view.size, view.size), 0.0035 * view.scale
    drawn = []
    for canvas, blur in ((blood, fine), (exudate, fine), (wool, 0.016 * view.scale)):
        small = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA) if factor > 1 else canvas
        drawn.append(cv2.GaussianBlur(small, (0, 0), blur).astype(np.float32) * np.float32(1 / 255))
    return drawn[0], drawn[1], drawn[2]


def _fixed(points: np.ndarray, view: View, factor: int) -> np.ndarray:
    """Take points of the retina to OpenCV's fixed-point coordinates on an enlarged canvas, int32."""
    return np.rint(((view.pixels(points) + 0.5) * factor - 0.5) * (1 << SHIFT)).astype(np.int32)


def _outlines(spots: np.ndarray, rough: float, view: View, factor: int, rng: np.random.Generator) -> np.ndarray:
    """Give irregular outlines around spots, (n, 3) -> (n, 14, 2) fixed-point coordinates."""
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    phases = rng.uniform(0, 2 * np.pi, (3, len(spots), 1))
    stretch = np.exp(rng.normal(0, rough, (len(spots), 1)))
    waves = 0.5 * np.sin(2 * turn + phases[0]) + 0.4 * np.sin(3 * turn + phases[1]) + 0.35 * np.sin(5 * turn + phases[2])
    radius = spots[:, 2:] * (1 + rough * waves)
    outline = np.stack([radius * np.cos(turn) * stretch, radius * np.sin(turn) / stretch], 2)
    return _fixed(spots[:, None, :2] + outline, view, factor)


def _boat(canvas: np.ndarray, pool: tuple[float, float, float], view: View, factor: int) -> None:
    """Draw a preretinal haemorrhage: blood that has settled under a level top."""
    turn = np.linspace(0, np.pi, 20)
    bow = np.stack([pool[0] + pool[2] * np.cos(turn), pool[1] + 0.55 * pool[2] * np.sin(turn)], 1)
    cv2.fillPoly(canvas, [_fixed(bow, view, factor)], 245, cv2.LINE_AA, SHIFT)
