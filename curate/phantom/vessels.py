"""The vessel trees: trunks laid along the arcades, then generations of branches grown into the space left open.

Calibres follow Murray's law at every branching (Murray 1926: the cubes of the radii add up), branches leave at the
wider an angle the thinner they are, bend towards open retina, spare the avascular fovea and end where they would meet
a vessel of their own kind. Arteries and veins may cross each other, and do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

ARTERY, VEIN = 0, 1
REACH = 1.25  # the trees are grown on [-REACH, REACH], somewhat beyond the field of view
BEYOND = 1.16  # and end this far from its centre
GRID = 144  # cells a side of the map of what is occupied
FIELD = 72  # cells a side of the map of where vessels are drawn
STEP = 0.025  # length of one step of growth
STEERING = 4.2  # curvature for a unit of pull across
OPENNESS = 0.85  # weight of open retina against the flow
LENGTH_PER_RADIUS = 125.0  # of a branch, before it meets anything
FOVEA_SPARED = 0.095  # radius of the avascular zone
TRUNK_RADIUS = (0.0094, 0.0126)  # artery, vein; in units of the field's radius
GENERATIONS = 4
LARGEST_SHARE = 0.86  # of a branch's radius in its parent's

# Trunks of a right eye relative to the disc: temporal arcade, nasal trunk, and the small macular and nasal vessels.
# Control points (x to the nose, y downwards for the inferior ones), and calibre as a share of the trunk's.
_ARCADE = ((0.0, 0.0), (0.015, 0.10), (-0.035, 0.25), (-0.18, 0.45), (-0.44, 0.62), (-0.78, 0.68), (-1.10, 0.62), (-1.40, 0.47))
_NASAL = ((0.0, 0.0), (0.035, 0.09), (0.13, 0.22), (0.27, 0.38), (0.40, 0.56), (0.50, 0.76), (0.56, 0.98), (0.60, 1.2))
_MACULAR = ((0.0, 0.0), (-0.05, 0.045), (-0.13, 0.085), (-0.22, 0.125), (-0.31, 0.145), (-0.40, 0.145), (-0.48, 0.13), (-0.55, 0.12))
_SIDE = ((0.0, 0.0), (0.06, 0.02), (0.14, 0.045), (0.23, 0.07), (0.33, 0.09), (0.44, 0.12), (0.55, 0.16), (0.66, 0.2))
_TRUNKS = ((_ARCADE, 1.0), (_NASAL, 0.74), (_MACULAR, 0.36), (_SIDE, 0.44))


@dataclass(frozen=True)
class VesselTraits:
    """What the vessel trees of an eye are like; each is 1 for an average eye of age 50, or a length.

    Attributes:
        branching: branches per length, relative.
        thinnest: radius of the thinnest vessels that are there, in radii of the field of view.
        calibre: of all vessels, relative.
        tortuosity: amplitude of meandering, relative.
        arcade: height of the arcades, relative.
    """

    branching: float
    thinnest: float
    calibre: float
    tortuosity: float
    arcade: float


@dataclass(frozen=True)
class Vessel:
    """One unbranched vessel.

    Attributes:
        kind: `ARTERY` or `VEIN`.
        points: its centre line from the disc outwards, (n, 2) float64, in radii of the field of view.
        radius: its radius at each point, (n,) float64.
    """

    kind: int
    points: np.ndarray
    radius: np.ndarray


@cache
def _spline(controls: int, samples: int) -> np.ndarray:
    """Give the matrix that takes control points to samples of the cubic spline through them."""
    from scipy.interpolate import CubicSpline

    return CubicSpline(np.linspace(0, 1, controls), np.eye(controls))(np.linspace(0, 1, samples))


def grow_vessels(
    traits: VesselTraits, disc: tuple[float, float], fovea: tuple[float, float], rng: np.random.Generator
) -> tuple[Vessel, ...]:
    """Grow the arteries and veins of a right eye.

    Args:
        traits: what they are like.
        disc: where they come from.
        fovea: what they spare.
        rng: the eye's random numbers.

    Returns:
        All vessels, thinnest first, so that thick ones are drawn over the thin ones that leave them.
    """
    space = _Space(np.asarray(disc), np.asarray(fovea))
    vessels: list[Vessel] = []
    parents = _trunks(traits, np.asarray(disc), rng)
    for parent in parents:
        space.occupy(parent.kind, parent.points)
    for generation in range(GENERATIONS):
        shrunk, buds = _bud(parents, traits, generation, rng)
        vessels += shrunk
        if not len(buds.radius):
            break
        parents = _grow(buds, traits, space, rng)
    else:
        vessels += parents
    return tuple(sorted(vessels, key=lambda v: float(v.radius[0])))


def _trunks(traits: VesselTraits, disc: np.ndarray, rng: np.random.Generator) -> list[Vessel]:
    """Lay the trunks from the disc along the arcades, artery beside vein."""
    lines, kinds, radii = [], [], []
    for controls, share in _TRUNKS:
        loose = np.linspace(0.2, 1.6, len(controls))[:, None] * (0.35 + 0.65 * share)
        for side in (-1.0, 1.0):
            course = np.array(controls)
            course[:, 1] *= side * (traits.arcade if share == 1.0 else 1.0)
            course += rng.normal(0, 0.018, course.shape) * loose
            # Artery and vein of a trunk run side by side and now and then cross.
            apart = rng.choice([-1.0, 1.0]) * rng.uniform(0.04, 0.085) * np.linspace(0.07, 0.7, len(course))
            for kind in (ARTERY, VEIN):
                own = rng.normal(0, 0.012, course.shape) * loose
                shift = apart if kind == ARTERY else -apart
                start = np.array([0.012, side * 0.012]) + np.array([0.008, 0.012]) * rng.standard_normal(2)
                lines.append(course + own + start + np.stack([shift * 0.8, side * shift], 1))
                kinds.append(kind)
                radii.append(TRUNK_RADIUS[kind] * traits.calibre * share * float(np.exp(rng.normal(0, 0.10))))
    courses = _meander(_spline(len(_ARCADE), 64) @ np.array(lines) + disc, traits.tortuosity, rng)
    trunks = []
    for course, kind, radius in zip(courses, kinds, radii, strict=True):
        points = _evenly(course)
        trunks.append(Vessel(kind, points, radius * np.linspace(1.0, 0.85, len(points))))
    return trunks


def _meander(lines: np.ndarray, tortuosity: float, rng: np.random.Generator) -> np.ndarray:
    """Displace lines, (k, n, 2), sideways by a few waves each, nothing at their starts."""
    tangent = np.gradient(lines, axis=1)
    length = np.hypot(tangent[..., 0], tangent[..., 1])
    s = np.cumsum(length, axis=1)[..., None]
    wavelengths = rng.uniform(0.11, 0.42, (len(lines), 1, 4))
    amplitudes = tortuosity * rng.normal(0, 0.016, wavelengths.shape) * wavelengths
    waves = (np.sin(2 * np.pi * s / wavelengths + rng.uniform(0, 2 * np.pi, wavelengths.shape)) * amplitudes).sum(2, keepdims=True)
    normal = tangent[..., ::-1] * np.array([-1.0, 1.0]) / np.maximum(length, 1e-9)[..., None]
    return lines + waves * np.clip((s - 0.08) / 0.25, 0, 1) * normal


def _evenly(points: np.ndarray) -> np.ndarray:
    """Resample a line, (n, 2), in steps of about `STEP`, up to where it leaves the space."""
    outside = np.flatnonzero(np.hypot(points[:, 0], points[:, 1]) > BEYOND)
    points = points[: max(4, int(outside[0]))] if len(outside) else points
    steps = points[1:] - points[:-1]
    s = np.concatenate([[0.0], np.cumsum(np.hypot(steps[:, 0], steps[:, 1]))])
    t = np.linspace(0, s[-1], max(4, int(s[-1] / STEP) + 1))
    return np.stack([np.interp(t, s, points[:, 0]), np.interp(t, s, points[:, 1])], 1)


@dataclass(frozen=True)
class _Buds:
    """Where the next generation leaves: kind, start (x + iy), heading (radians) and radius of each new vessel."""

    kind: np.ndarray
    start: np.ndarray
    heading: np.ndarray
    radius: np.ndarray


def _bud(parents: list[Vessel], traits: VesselTraits, generation: int, rng: np.random.Generator) -> tuple[list[Vessel], _Buds]:
    """Place branches on vessels, and thin these by Murray's law beyond each branch."""
    shrunk: list[Vessel] = []
    kinds: list[int] = []
    starts: list[complex] = []
    headings: list[float] = []
    radii: list[float] = []
    gap = (0.165, 0.155, 0.13, 0.12)[generation] / traits.branching
    for parent in parents:
        if parent.radius[0] * LARGEST_SHARE < traits.thinnest:
            shrunk.append(parent)
            continue
        n = len(parent.points)
        length = n * STEP
        count = int(length / gap) + 2
        draws = rng.random((count, 4))
        places = np.cumsum(gap * (0.30 + 1.4 * draws[:, 0])) / STEP + (4 if generation == 0 else 0)
        side = 1.0 if draws[0, 1] < 0.5 else -1.0
        factor = np.ones(n)
        tangent = parent.points[1:] - parent.points[:-1]
        for place, (_, turn, ratio, angle) in zip(places.astype(int), draws, strict=True):
            if place >= n - 3:
                break
            side = -side if turn < 0.75 else side
            radius = float(parent.radius[place] * factor[place])
            # Few large branches, many small ones.
            share = 0.34 + (LARGEST_SHARE - 0.34) * ratio * ratio
            if radius * share < traits.thinnest:
                continue
            factor[place:] *= (1 - share**3) ** (1 / 3)
            turnoff = side * (1.30 - 0.85 * share + 0.55 * (angle - 0.5))
            _add(kinds, starts, headings, radii, parent, place, tangent, turnoff, radius * share)
        tip = float(parent.radius[-1] * factor[-1])
        fork = 0.72 * tip
        if fork > traits.thinnest and np.hypot(*parent.points[-1]) < BEYOND - STEP:
            for turnoff in (rng.uniform(0.30, 0.6), -rng.uniform(0.30, 0.6)):
                _add(kinds, starts, headings, radii, parent, n - 1, tangent, turnoff, fork * rng.uniform(0.85, 1.05))
        shrunk.append(Vessel(parent.kind, parent.points, parent.radius * _eased(factor)))
    return shrunk, _Buds(np.array(kinds, int), np.array(starts, complex), np.array(headings), np.array(radii))


def _add(
    kinds: list[int],
    starts: list[complex],
    headings: list[float],
    radii: list[float],
    parent: Vessel,
    place: int,
    tangent: np.ndarray,
    turnoff: float,
    radius: float,
) -> None:
    kinds.append(parent.kind)
    starts.append(complex(*parent.points[place]))
    headings.append(np.arctan2(tangent[place - 1, 1], tangent[place - 1, 0]) + turnoff)
    radii.append(radius)


def _eased(factor: np.ndarray) -> np.ndarray:
    """Spread steps of calibre over a few points."""
    padded = np.concatenate([factor[:1], factor[:1], factor, factor[-1:], factor[-1:]])
    return (padded[:-4] + padded[1:-3] + padded[2:-2] + padded[3:-1] + padded[4:]) / 5


class _Space:
    """Which cells of the retina each kind of vessel occupies, and which way vessels are drawn there."""

    def __init__(self, disc: np.ndarray, fovea: np.ndarray) -> None:
        self.taken = np.zeros((2, GRID, GRID), np.uint8)
        row, column = self.cells(np.array([complex(*fovea)]))
        for plane in self.taken:  # no vessel enters the avascular zone, and all bend away from it
            cv2.circle(plane, (int(column[0]), int(row[0])), round(FOVEA_SPARED * GRID / (2 * REACH)), 1, -1)
        self.flow = _flow(complex(*disc), complex(*fovea))

    @staticmethod
    def cells(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Give the rows and columns of the cells of points, complex (...) -> two int arrays (...)."""
        scale = GRID / (2 * REACH)
        row, column = (points.imag + REACH) * scale, (points.real + REACH) * scale
        return np.clip(row, 0, GRID - 1).astype(np.intp), np.clip(column, 0, GRID - 1).astype(np.intp)

    def occupy(self, kind: int, points: np.ndarray) -> None:
        """Mark the cells along a line, (n, 2)."""
        line = (((points + REACH) * (GRID / (2 * REACH)) - 0.5) * 16).astype(np.int32)
        cv2.polylines(self.taken[kind], [line], False, 1, 1, cv2.LINE_8, 4)

    def pull(self) -> np.ndarray:
        """Give where vessels of each kind are drawn, (2, FIELD, FIELD) complex64: with the flow, into open retina."""
        pull = np.empty((2, FIELD, FIELD), np.complex64)
        near = [cv2.distanceTransform(1 - self.taken[kind], cv2.DIST_L2, 3) * (72 / GRID) for kind in (ARTERY, VEIN)]
        for kind in (ARTERY, VEIN):
            room = np.minimum(near[kind], 9.0) + 0.30 * np.minimum(near[1 - kind], 4.0)
            room = cv2.GaussianBlur(cv2.resize(room, (FIELD, FIELD), interpolation=cv2.INTER_AREA), (0, 0), 1.2)
            pull[kind].real = cv2.Sobel(room, cv2.CV_32F, 1, 0, scale=OPENNESS / 8)
            pull[kind].imag = cv2.Sobel(room, cv2.CV_32F, 0, 1, scale=OPENNESS / 8)
        return pull + self.flow


def _flow(disc: complex, fovea: complex) -> np.ndarray:
    """Give the course of vessels for its own sake, (FIELD, FIELD) complex64.

    Between the arcades vessels run towards the fovea and stop short of it; elsewhere away from the disc.
    """
    axis = ((np.arange(FIELD) + 0.5) * (2 * REACH / FIELD) - REACH).astype(np.float32)
    place = axis[None, :] + 1j * axis[:, None]
    to_fovea, outward = fovea - place, place - disc
    near, far = np.abs(to_fovea), np.abs(outward)
    inside = np.clip((0.66 - near) / 0.30, 0, 1)
    spared = np.clip((FOVEA_SPARED + 0.12 - near) / 0.12, 0, 1)
    flow = 0.55 * (1 - inside) * outward / np.maximum(far, 0.05) + (0.8 * inside - 2.0 * spared) * to_fovea / np.maximum(near, 0.02)
    return flow.astype(np.complex64)


def _grow(buds: _Buds, traits: VesselTraits, space: _Space, rng: np.random.Generator) -> list[Vessel]:
    """Grow all buds of a generation side by side, step by step, then cut them where they would collide."""
    n = len(buds.radius)
    lengths = np.clip(LENGTH_PER_RADIUS * buds.radius, 0.16, 0.95) * rng.uniform(0.65, 1.3, n)
    steps = int(lengths.max() / STEP) + 1
    pull = space.pull().reshape(-1)
    offset = buds.kind * FIELD * FIELD
    # Meandering: curvature that swings with each vessel's own wavelength, and a random walk on top.
    wavelength = rng.uniform(0.12, 0.34, n)
    swing = traits.tortuosity * np.abs(rng.normal(0.16, 0.09, n)) * 2 * np.pi / wavelength
    distance = np.arange(steps)[:, None] * STEP
    free = swing * np.cos(2 * np.pi * distance / wavelength + rng.uniform(0, 2 * np.pi, n))
    walk = rng.normal(0, 0.75 * (0.5 + 0.5 * traits.tortuosity), (steps, n))
    lines = np.empty((steps + 1, n), complex)
    lines[0] = position = buds.start.copy()
    heading, drift = buds.heading.copy(), np.zeros(n)
    scale = FIELD / (2 * REACH)
    for step in range(steps):
        row = np.clip((position.imag + REACH) * scale, 0, FIELD - 1).astype(np.intp)
        column = np.clip((position.real + REACH) * scale, 0, FIELD - 1).astype(np.intp)
        course = np.exp(1j * heading)
        drift = 0.8 * drift + walk[step]
        across = (np.conj(course) * pull[offset + row * FIELD + column]).imag
        heading = heading + STEP * (np.clip(STEERING * across, -4.5, 4.5) + drift + free[step])
        position = position + STEP * course
        lines[step + 1] = position
    return _cut(buds, lines.T, np.minimum((lengths / STEP).astype(int), steps), space)


def _cut(buds: _Buds, lines: np.ndarray, steps: np.ndarray, space: _Space) -> list[Vessel]:
    """End each line where it meets a vessel of its own kind or leaves the space; the thickest have precedence."""
    rows, columns = space.cells(lines)
    outside = np.abs(lines) > BEYOND
    grown = []
    clear = 4  # steps until a branch has left its parent
    for i in np.argsort(-buds.radius, kind="stable"):
        end = int(steps[i]) + 1
        met = space.taken[buds.kind[i], rows[i, clear:end], columns[i, clear:end]].astype(bool) | outside[i, clear:end]
        if met.any():
            end = clear + int(met.argmax()) - 2
        if end < 5:
            continue
        points = np.stack([lines[i, :end].real, lines[i, :end].imag], 1)
        space.occupy(int(buds.kind[i]), points[2:])
        radius = buds.radius[i] * (1.0 - 0.40 / (end - 1) * np.arange(end))
        grown.append(Vessel(int(buds.kind[i]), points, radius))
    return grown
