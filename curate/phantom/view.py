"""From the retina to the picture: where things lie in a photograph, and the masks of what is truly there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from curate.phantom.anatomy import Anatomy
from curate.phantom.vessels import ARTERY, VEIN

SHIFT = 5  # fractional bits of the coordinates that OpenCV draws with
OUTLINE = 0.7  # pixels that OpenCV's antialiased outline adds on either side of a filled shape
COVERED = 127  # of 255: how far a vessel must cover a pixel to count in its mask
MARGIN = 0.985  # radius of the field of view over half the image's width


@dataclass(frozen=True)
class View:
    """How a photograph was taken: which eye, and how the camera was held.

    Attributes:
        size: width and height of the image in pixels.
        left: whether it is a left eye: mirrored, so that the disc lies on the left.
        shift: displacement of the retina, (x, y), in radii of the field of view.
        rotation: radians.
        magnification: against a 45 degree field.
        flat: half height of the field where it is cut above and below, in radii; 1 where it is round.
    """

    size: int
    left: bool
    shift: tuple[float, float]
    rotation: float
    magnification: float
    flat: float

    @property
    def scale(self) -> float:
        """Pixels per radius of the field of view, on the retina."""
        return self.size / 2 * MARGIN * self.magnification

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Take points of the retina, (..., 2), to pixel coordinates (x, y) with pixel centres at whole numbers."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        turned = np.asarray(points, float) @ np.array([[cos, sin], [-sin, cos]]) + np.array(self.shift)
        if self.left:
            turned = turned * np.array([-1.0, 1.0])
        return turned * self.scale + (self.size - 1) / 2

    def place(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take pixel coordinates back to the retina (x, y)."""
        u, v = (x - (self.size - 1) / 2) / self.scale, (y - (self.size - 1) / 2) / self.scale
        u, v = (-u if self.left else u) - self.shift[0], v - self.shift[1]
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        return u * cos + v * sin, v * cos - u * sin


@cache
def field_of_view(size: int, flat: float) -> np.ndarray:
    """Give how far each pixel lies within the field of view, (size, size) float32 from 0 to 1 with a soft edge."""
    axis = np.arange(size, dtype=np.float32) - (size - 1) / 2
    radius = size / 2 * MARGIN
    inside = np.clip(radius - np.hypot(axis[None, :], axis[:, None]), 0, 1)
    return (inside * np.clip(flat * radius - np.abs(axis), 0, 1)[:, None]).astype(np.float32)


@dataclass(frozen=True)
class VesselMaps:
    """The vessels of a photograph, drawn.

    Attributes:
        artery, vein: masks, (size, size) bool, not cut to the field of view.
        artery_depth, vein_depth: how much light they take, (size, size) float32, 0 to 1.
    """

    artery: np.ndarray
    vein: np.ndarray
    artery_depth: np.ndarray
    vein_depth: np.ndarray


def draw_vessels(anatomy: Anatomy, view: View) -> VesselMaps:
    """Draw the vessel trees.

    Each vessel is filled as a tube at sub-pixel precision, on a canvas of twice the size where the image is small,
    in two planes at once: what it covers and how much light it takes.
    """
    factor = 2 if view.size <= 400 else 1
    side = view.size * factor
    # OpenCV antialiases pictures of one, three or four planes; the third is not used.
    canvas = np.zeros((2, side, side, 3), np.uint8)
    lines = [(v.points, v.radius) if factor == 2 else _refined(v.points, v.radius) for v in anatomy.vessels]
    ends = np.cumsum([len(points) for points, _ in lines])
    centre = (view.pixels(np.concatenate([points for points, _ in lines])) + 0.5) * factor - 0.5
    radius = np.concatenate([r for _, r in lines]) * view.scale * factor
    drawn = np.maximum(radius - OUTLINE, 0.05)
    sides, inner = _tubes(centre, drawn, ends), _tubes(centre, 0.30 * radius, ends)
    for vessel, start, end in zip(anatomy.vessels, [0, *ends[:-1]], ends, strict=True):
        faint = max(radius[start] / (drawn[start] + OUTLINE), 0.4)  # a vessel too thin to be drawn so takes less light
        depth = 255 * faint * min(max(0.40 + 0.60 * (float(vessel.radius[0]) / 0.0095) ** 0.7, 0.45), 1.0)
        cv2.fillPoly(canvas[vessel.kind], [_outline(sides, start, end)], (255, round(depth), 0), cv2.LINE_AA, SHIFT)
        if factor == 1 and radius[start] > 2.2:
            # The central reflex: a brighter line along the middle of a wide vessel, more so in arteries.
            wide = start + int(np.count_nonzero(radius[start:end] > 1.8))
            reflex = (255, round(depth * (0.62 if vessel.kind == ARTERY else 0.80)), 0)
            cv2.fillPoly(canvas[vessel.kind], [_outline(inner, start, wide)], reflex, cv2.LINE_AA, SHIFT)
    planes = [cv2.resize(c, (view.size, view.size), interpolation=cv2.INTER_AREA) if factor > 1 else c for c in canvas]
    depths = [np.ascontiguousarray(p[..., 1]).astype(np.float32) * np.float32(1 / 255) for p in planes]
    return VesselMaps(planes[ARTERY][..., 0] > COVERED, planes[VEIN][..., 0] > COVERED, depths[ARTERY], depths[VEIN])


def _refined(centre: np.ndarray, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Put two more points into each step of a line, on the cubic through its neighbours (Catmull and Rom 1974)."""
    padded = np.concatenate([2 * centre[:1] - centre[1:2], centre, 2 * centre[-1:] - centre[-2:-1]])
    before, start, stop, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    fine = np.empty((3 * len(start) + 1, 2))
    fine[0::3] = centre
    for offset, t in ((1, 1 / 3), (2, 2 / 3)):
        weights = np.array([-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, -(t**2) + t**3]) / 2
        fine[offset::3] = weights[0] * before + weights[1] * start + weights[2] * stop + weights[3] * after
    places = np.arange(len(fine)) / 3
    return fine, np.interp(places, np.arange(len(radius)), radius)


def _tubes(centre: np.ndarray, radius: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give both sides of the tubes around lines laid end to end, in OpenCV's fixed-point coordinates, (n, 2) int32."""
    last, first = ends - 1, np.concatenate([[0], ends[:-1]])
    tangent = np.empty_like(centre)
    tangent[1:-1] = centre[2:] - centre[:-2]
    tangent[first], tangent[last] = centre[first + 1] - centre[first], centre[last] - centre[last - 1]
    tangent *= (radius / np.maximum(np.hypot(tangent[:, 0], tangent[:, 1]), 1e-6))[:, None]
    normal = tangent[:, ::-1] * np.array([-1.0, 1.0])
    scale = 1 << SHIFT
    return np.rint((centre + normal) * scale).astype(np.int32), np.rint((centre - normal) * scale).astype(np.int32)


def _outline(sides: tuple[np.ndarray, np.ndarray], start: int, end: int) -> np.ndarray:
    return np.concatenate([sides[0][start:end], sides[1][start:end][::-1]])


def disc_mask(anatomy: Anatomy, view: View) -> np.ndarray:
    """Give the optic disc's mask, (size, size) bool."""
    mask = np.zeros((view.size, view.size), np.uint8)
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    rim = np.array(anatomy.disc) + np.stack([anatomy.disc_axes[0] * np.cos(turn), anatomy.disc_axes[1] * np.sin(turn)], 1)
    cv2.fillPoly(mask, [np.rint(view.pixels(rim) * (1 << SHIFT)).astype(np.int32)], 1, cv2.LINE_8, SHIFT)
    return mask.astype(bool)
