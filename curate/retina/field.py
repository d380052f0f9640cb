"""The field of view: the lit disc of a fundus photograph inside its black surround.

Cameras, cropping and resizing differ between archives; every measure is taken after the field has been brought to
one size, so that it means the same for all of them. A field that was cut at the top and bottom is completed by the
circle through what is left of its rim; one that was squeezed when somebody resized a rectangular photograph to a
square is a circle again after `normalise`, because the rim is fitted with an axis-aligned ellipse.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Detection works on a small copy: the rim is found to about half of one of its pixels, 0.2 % of the diameter.
_THUMBNAIL = 256
_TRIALS = 64
_INLIER = 0.012  # distance to the rim, in radii, up to which a point belongs to it


@dataclass(frozen=True)
class Field:
    """A field of view, in pixels of the photograph (x to the right, y downwards, pixel centres at whole numbers).

    Attributes:
        x, y: centre.
        radius_x, radius_y: half-axes; equal unless the photograph was resized unevenly.
        rim: share of the rim's full circle that is visible in the photograph; 0 where the photograph lies wholly
            inside the field, which then is the circle around the photograph's corners.
    """

    x: float
    y: float
    radius_x: float
    radius_y: float
    rim: float


def lit(rgb: np.ndarray) -> np.ndarray:
    """Mark what is brighter than the surround.

    The surround is black, but not zero (JPEG noise, stray light), so the limit lies a tenth of the way from the
    corners' level to the bright end. Where the corners are white paper, white counts as surround too.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (H, W) uint8, 1 where lit.
    """
    red, green, blue = cv2.split(rgb)
    value = cv2.max(cv2.max(red, green), blue)  # several times faster than rgb.max(axis=2)
    height, width = value.shape
    k = max(2, min(height, width) // 32)
    corners = np.concatenate([rgb[a, b].reshape(-1, 3) for a in (slice(k), slice(-k, None)) for b in (slice(k), slice(-k, None))])
    paper = corners.min(axis=1) >= 245
    surround = float(np.percentile(corners[~paper].max(axis=1), 20)) if (~paper).any() else 0.0
    # Corners that are themselves bright belong to the picture, not to a surround.
    surround = surround if surround < 48 else 0.0
    bright = float(np.percentile(value, 95))
    mask = value > surround + max(7.0, 0.1 * (bright - surround))
    if paper.mean() > 0.4:
        mask &= cv2.min(cv2.min(red, green), blue) < 245
    return mask.astype(np.uint8)


def find_field(rgb: np.ndarray) -> Field | None:
    """Find the field of view.

    The outermost lit pixels of every row and column, leaving out those on the photograph's own border, are points
    of the rim or lie inside it (shadows). A circle, and an axis-aligned ellipse, are drawn through triples and
    quadruples of them; the one that most points agree with is refined by least squares (RANSAC, Fischler and
    Bolles 1981, with a fixed sequence of draws).

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        The field, or None where there is no lit disc and the photograph isn't lit from edge to edge either.

    Example:
        >>> import cv2, numpy as np
        >>> photograph = np.zeros((200, 300, 3), np.uint8)
        >>> _ = cv2.circle(photograph, (140, 100), 120, (180, 90, 40), -1)  # cut at the top and the bottom
        >>> field = find_field(photograph)
        >>> abs(field.x - 140) < 1, abs(field.y - 100) < 1, abs(field.radius_x - 120) < 1.5
        (True, True, True)
    """
    height, width = rgb.shape[:2]
    shrink = max(1.0, max(height, width) / _THUMBNAIL)
    size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA) if shrink > 1 else rgb
    mask = _largest(lit(small))
    if not mask.any():
        return None
    points = _rim_points(mask)
    scale_x, scale_y = width / size[0], height / size[1]
    if len(points) >= 24:
        found = _fit(points, mask)
        if found is not None:
            x, y, a, b, rim = found
            return Field((x + 0.5) * scale_x - 0.5, (y + 0.5) * scale_y - 0.5, a * scale_x, b * scale_y, rim)
    if mask.mean() >= 0.97:
        radius = float(np.hypot(height, width)) / 2
        return Field((width - 1) / 2, (height - 1) / 2, radius, radius, 0.0)
    return None


def square_of(field: Field) -> tuple[int, int, int, int]:
    """Give the edges of the rectangle around a field, in whole pixels: left, top, right, bottom; they may lie beyond the photograph."""
    x0, x1 = round(field.x - field.radius_x + 0.5), round(field.x + field.radius_x + 0.5)
    y0, y1 = round(field.y - field.radius_y + 0.5), round(field.y + field.radius_y + 0.5)
    return x0, y0, x1, y1


def normalise(rgb: np.ndarray, field: Field, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut the field out and bring its diameter to `resolution` pixels.

    Args:
        rgb: (H, W, 3) uint8.
        field: from `find_field`.
        resolution: pixels.

    Returns:
        The photograph, (resolution, resolution, 3) uint8, black outside the field, and the mask of the field as far
        as the photograph shows it, (resolution, resolution) uint8 of 0 and 1.
    """
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = square_of(field)
    inside = rgb[max(y0, 0) : min(y1, height), max(x0, 0) : min(x1, width)]
    pads = (max(-y0, 0), max(y1 - height, 0), max(-x0, 0), max(x1 - width, 0))
    shown = np.pad(np.ones(inside.shape[:2], np.uint8), (pads[:2], pads[2:]))
    square = cv2.copyMakeBorder(inside, *pads, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    shrinking = square.shape[0] > resolution
    target = (resolution, resolution)
    image = cv2.resize(square, target, interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)
    mask = cv2.resize(shown, target, interpolation=cv2.INTER_NEAREST) & disc(resolution)
    return image * mask[:, :, None], mask


def without_bands(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Take out of the mask what lies beyond straight edges: some cameras cut the field above and below.

    A row or a column belongs to the field from the first that is lit, and not white paper, over half of what the mask
    has there; bands narrower than a hundredth of the diameter are shadow at the rim, and stay.

    Args:
        image: (R, R, 3) uint8, from `normalise`.
        mask: (R, R) uint8 of 0 and 1, from `normalise`.

    Returns:
        (R, R) uint8 of 0 and 1.
    """
    step = max(1, len(mask) // _THUMBNAIL)
    seen = mask[::step, ::step]
    thumbnail = np.ascontiguousarray(image[::step, ::step])
    red, green, blue = cv2.split(thumbnail)
    bright = lit(thumbnail) & seen & (cv2.min(cv2.min(red, green), blue) < 250).astype(np.uint8)
    kept = mask.copy()
    for axis, cut in ((1, kept), (0, kept.T)):
        total = seen.sum(axis=axis, dtype=np.int64)
        within, rows = np.flatnonzero(total), np.flatnonzero(2 * bright.sum(axis=axis, dtype=np.int64) > np.maximum(total, 1))
        if not len(rows):
            return mask
        # One more row than is dark or white, as the edge itself is half so.
        if rows[0] - within[0] > 0.01 * len(seen):
            cut[: (int(rows[0]) + 1) * step] = 0
        if within[-1] - rows[-1] > 0.01 * len(seen):
            cut[int(rows[-1]) * step :] = 0
    return kept


def disc(size: int) -> np.ndarray:
    """Draw the disc inscribed in a square of `size` pixels: (size, size) uint8 of 0 and 1."""
    centre = (size - 1) / 2
    squared = (np.arange(size, dtype=np.float32) - centre) ** 2
    return (squared[:, None] + squared[None, :] <= (size / 2) ** 2).astype(np.uint8)


def _largest(mask: np.ndarray) -> np.ndarray:
    # Opening cuts off date stamps and labels that touch the rim.
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    if count < 2:
        return np.zeros_like(mask)
    return (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)


def _rim_points(mask: np.ndarray) -> np.ndarray:
    """List the outermost pixels' outer edges, (n, 2) float64 of x, y, without those on the photograph's border."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, right = mask.argmax(axis=1)[rows], width - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    top, bottom = mask.argmax(axis=0)[columns], height - 1 - mask[::-1].argmax(axis=0)[columns]
    sides = (
        (left > 1, left - 0.5, rows), (right < width - 2, right + 0.5, rows),
        (top > 1, columns, top - 0.5), (bottom < height - 2, columns, bottom + 0.5),
    )  # fmt: skip
    parts = [np.stack([np.broadcast_to(x, keep.shape)[keep], np.broadcast_to(y, keep.shape)[keep]], axis=1) for keep, x, y in sides]
    points = np.concatenate(parts).astype(np.float64)
    border = (points[:, 0] < 1.5) | (points[:, 0] > width - 2.5) | (points[:, 1] < 1.5) | (points[:, 1] > height - 2.5)
    points = points[~border]
    return points[:: max(1, len(points) // 300)]


def _fit(points: np.ndarray, mask: np.ndarray) -> tuple[float, float, float, float, float] | None:
    circle = _ransac(points, ellipse=False)
    ellipse = _ransac(points, ellipse=True)
    best = circle
    if ellipse is not None:
        aspect = ellipse[2] / ellipse[3]
        # A circle unless the rim clearly says otherwise: fits to short arcs make ellipses of circles.
        clearly = circle is None or _agreeing(points, ellipse).sum() > 1.15 * _agreeing(points, circle).sum()
        if clearly and 0.6 < aspect < 1 / 0.6 and abs(aspect - 1) > 0.02:
            best = ellipse
    if best is None:
        return None
    agree = _agreeing(points, best)
    angles = np.arctan2((points[agree, 1] - best[1]) / best[3], (points[agree, 0] - best[0]) / best[2])
    rim = len(np.unique(np.floor((angles + np.pi) / (2 * np.pi) * 90))) / 90
    height, width = mask.shape
    yy, xx = np.ogrid[:height, :width]
    inside = ((xx - best[0]) / best[2]) ** 2 + ((yy - best[1]) / best[3]) ** 2 <= 1.0
    beyond = ((xx - best[0]) / best[2]) ** 2 + ((yy - best[1]) / best[3]) ** 2 > 1.05
    plausible = (
        agree.mean() >= 0.4
        and rim >= 0.25
        and 0.2 * min(height, width) <= min(best[2], best[3])
        and max(best[2], best[3]) <= 1.5 * max(height, width)
        and bool(inside.any())
        and float(mask[inside].mean()) >= 0.5
        and (not beyond.any() or float(mask[beyond].mean()) <= 0.1)
    )
    return (*best, rim) if plausible else None


def _agreeing(points: np.ndarray, shape: tuple[float, float, float, float]) -> np.ndarray:
    x, y, a, b = shape
    return np.abs(np.hypot((points[:, 0] - x) / a, (points[:, 1] - y) / b) - 1) < _INLIER


def _ransac(points: np.ndarray, *, ellipse: bool) -> tuple[float, float, float, float] | None:
    """Fit ``x^2 + B y^2 + C x + D y + E = 0`` (B = 1 for a circle); gives (x, y, half-axis x, half-axis y) or None."""
    centre, spread = points.mean(axis=0), points.std() + 1e-9
    p = (points - centre) / spread
    system = np.stack([*([p[:, 1] ** 2] if ellipse else []), p[:, 0], p[:, 1], np.ones(len(p))], axis=1)
    right = -(p[:, 0] ** 2) - (0 if ellipse else p[:, 1] ** 2)
    unknowns = system.shape[1]
    draws = np.random.default_rng(0).integers(0, len(p), (_TRIALS, unknowns))
    matrices = system[draws]
    usable = np.abs(np.linalg.det(matrices)) > 1e-6
    if not usable.any():
        return None
    solutions = np.linalg.solve(matrices[usable], right[draws[usable]][:, :, None])[:, :, 0]
    shapes = _shapes(solutions, ellipse)
    shapes = shapes[np.isfinite(shapes).all(axis=1)]
    if not len(shapes):
        return None
    x, y, a, b = (shapes[:, i, None] for i in range(4))
    squared = ((p[None, :, 0] - x) / a) ** 2 + ((p[None, :, 1] - y) / b) ** 2
    votes = (np.abs(squared - (1 + _INLIER**2)) < 2 * _INLIER).sum(axis=1)  # between (1 - inlier) squared and (1 + inlier) squared
    best: tuple[float, float, float, float] = tuple(shapes[int(votes.argmax())])
    for _ in range(4):
        agree = _agreeing(p, best)
        if agree.sum() < 8:
            return None
        refined = _shapes(_least_squares(system[agree], right[agree])[None], ellipse)[0]
        if not np.isfinite(refined).all():
            return None
        best = refined
    x_, y_, a_, b_ = (float(v) for v in best)
    return x_ * float(spread) + float(centre[0]), y_ * float(spread) + float(centre[1]), a_ * float(spread), b_ * float(spread)


def _least_squares(system: np.ndarray, right: np.ndarray) -> np.ndarray:
    # The normal equations are several times faster than a decomposition of the system, and well conditioned: points are centred and scaled.
    try:
        return np.linalg.solve(system.T @ system, system.T @ right)
    except np.linalg.LinAlgError:
        return np.full(system.shape[1], np.nan)


def _shapes(solutions: np.ndarray, ellipse: bool) -> np.ndarray:
    """Give centres and half-axes, (n, 4) of x, y, a, b, NaN where there is no such ellipse, of (n, 4 or 3) coefficients."""
    b = solutions[:, 0] if ellipse else np.ones(len(solutions))
    c, d, e = solutions[:, -3:].T
    with np.errstate(divide="ignore", invalid="ignore"):
        x, y = -c / 2, -d / (2 * b)
        squared = x * x + b * y * y - e
        shapes = np.stack([x, y, np.sqrt(squared), np.sqrt(squared / b)], axis=1)
    shapes[~((b > 0.05) & (squared > 0))] = np.nan
    return shapes
