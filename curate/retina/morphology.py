"""Morphology of the vessels: numbers from a binary vessel map.

Names follow AutoMorph (Zhou et al. 2022, doi 10.1167/tvst.11.7.12) so that tables can be laid side by side; where a
definition differs, the docstring of the function says how. Lengths are in units of the field of view, so that no
number depends on the resolution of the photograph or of the map.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

REFERENCE = 912  # AutoMorph's image size, in whose pixels widths and the shortest segment are stated
_SHORTEST = 15  # px of a 912 px field: shorter segments say nothing about tortuosity
_BOX_GRID = 512
_SPUR = 12  # px of a 912 px field: side arms shorter than this are ragged edges, not vessels
_SMOOTHING = 8.0  # px of a 912 px field: standard deviation that takes the staircase out of a pixel path
_STRAIGHT = 0.15  # radians: a curve that turns by less before it turns back counts as straight
_ARM = 25  # px of a 912 px field: length over which a branch's direction is taken
_TOUCHING = 6.0  # px from a branch point to the ends of the lines that were cut there
_SQUARE = np.ones((3, 3), np.uint8)
# The eight neighbours in turn, each a bit; how often the bits change from 0 to 1 on the way around, for each pattern.
_RING = np.array([[128, 1, 2], [64, 0, 4], [32, 16, 8]], np.float32)
_CHANGES = np.array([(~n & ((n >> 1) | (n << 7)) & 255).bit_count() for n in range(256)], np.uint8)
_NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, -1), (-1, 1))


def fractal_dimension(mask: np.ndarray) -> float | None:
    """Box-counting dimension of a vessel map.

    The map is brought to 512 px and covered with boxes of 4, 8, ... 128 px, the same fractions of the field at any
    resolution (a quarter of it at most: all larger boxes hold a vessel, which says nothing); the dimension is the slope
    of log(boxes that hold a vessel) over log(1 / size) by least squares. AutoMorph counts boxes of 4 to 512 px on a
    map of 912 px, and leaves out boxes that are wholly vessel.

    Args:
        mask: (R, R), non-zero where vessel.

    Returns:
        The dimension (about 1 for a line, 2 for a filled square), or None for an empty map.

    Example:
        >>> round(fractal_dimension(np.ones((512, 512), np.uint8)), 3)
        2.0
    """
    marked = (mask > 0).astype(np.uint8)
    if not marked.any():
        return None
    if marked.shape != (_BOX_GRID, _BOX_GRID):
        marked = (cv2.resize(marked * 255, (_BOX_GRID, _BOX_GRID), interpolation=cv2.INTER_AREA) >= 96).astype(np.uint8)
        if not marked.any():
            return None
    sizes, counts, size = [], [], 1
    while size < _BOX_GRID // 4:
        marked = marked[0::2, 0::2] | marked[1::2, 0::2] | marked[0::2, 1::2] | marked[1::2, 1::2]
        size *= 2
        if size >= 4:
            sizes.append(size)
            counts.append(int(np.count_nonzero(marked)))
    return float(np.polyfit(-np.log(sizes), np.log(counts), 1)[0])


def vessel_density(mask: np.ndarray, field: np.ndarray) -> float:
    """Share of the field of view that is vessel.

    AutoMorph divides by the whole square image, corners outside the field included: its numbers are pi / 4 of
    these for a complete field, and less where the field was cut.

    Args:
        mask: (R, R), non-zero where vessel.
        field: (R, R), non-zero inside the field.
    """
    return int(np.count_nonzero((mask > 0) & (field > 0))) / max(1, int(np.count_nonzero(field)))


@dataclass(frozen=True)
class Skeleton:
    """Centre lines of a vessel map.

    Attributes:
        pixels: (R, R) uint8, 1 on the centre lines.
        length: their length in pixels, 0.948 for a step along an axis and 1.343 for a diagonal one: unbiased over
            directions (Kulpa 1977), where 1 and sqrt(2) make the average line 5 % too long.
        branches: number of branch points and crossings.
        segments: centre lines between branch points, each (n, 2) float64 of x, y in pixels, in order.
        junctions: pixels of branch points and crossings, (n, 3) float64 of x, y and the number of the point.
        curves: as `segments`, of the lines before side arms were taken away. Where an arm went that joined the ends of two
            vessels these go on into each other in `segments`, with a bend that neither has.
    """

    pixels: np.ndarray
    length: float
    branches: int
    segments: list[np.ndarray]
    junctions: np.ndarray
    curves: list[np.ndarray]


def skeleton_of(mask: np.ndarray, *, pruned: bool = True) -> Skeleton:
    """Thin a vessel map to its centre lines (Zhang and Suen 1984) and cut them at branch points.

    Args:
        mask: (R, R), non-zero where vessel.
        pruned: take away the short side arms that thinning grows on ragged edges.
    """
    from skimage.morphology import skeletonize

    pixels = np.pad(skeletonize(mask > 0), 1).astype(np.uint8)
    shortest = _shortest(mask.shape[0])
    junctions = _junctions(pixels)
    curves = _ordered(_between(pixels, junctions), shortest)
    if pruned:
        _prune(pixels, _SPUR * mask.shape[0] / REFERENCE)
        junctions = _junctions(pixels)
    count, numbers = cv2.connectedComponents(cv2.dilate(junctions, _SQUARE), connectivity=8)
    y, x = np.nonzero(junctions)
    places = np.stack([x - 1, y - 1, numbers[y, x]], axis=1).astype(np.float64)
    segments = _ordered(_between(pixels, junctions), shortest) if pruned else curves
    return Skeleton(pixels[1:-1, 1:-1], _length(pixels), count - 1, segments, places, curves)


def _between(pixels: np.ndarray, junctions: np.ndarray) -> np.ndarray:
    """Give the lines without their branch points and what touches these, (h, w) uint8."""
    crowded = ((pixels > 0) & (_neighbour_count(pixels) >= 4)).astype(np.uint8)
    return np.where(cv2.dilate(junctions | crowded, _SQUARE) > 0, np.uint8(0), pixels)


def within(skeleton: Skeleton, zone: np.ndarray) -> Skeleton:
    """Cut a skeleton to a zone: thinning a map that was cut itself would bend every line at the cut.

    Args:
        skeleton: of the whole map.
        zone: (R, R) uint8 of 0 and 1.
    """
    pixels = skeleton.pixels & zone
    segments, curves = (_inside(paths, zone) for paths in (skeleton.segments, skeleton.curves))
    x, y = skeleton.junctions[:, :2].astype(int).T
    junctions = skeleton.junctions[zone[y, x] > 0]
    return Skeleton(pixels, _length(pixels), len(np.unique(junctions[:, 2])), segments, junctions, curves)


def _inside(paths: list[np.ndarray], zone: np.ndarray) -> list[np.ndarray]:
    """Cut paths to a zone; pieces that are too short are left out."""
    pieces = []
    for path in paths:
        x, y = path.astype(int).T
        inside = zone[y, x] > 0
        kept = np.split(path, np.flatnonzero(np.diff(inside)) + 1)[0 if inside[0] else 1 :: 2]
        pieces += [piece for piece in kept if len(piece) >= _shortest(len(zone))]
    return pieces


def _shortest(resolution: int) -> int:
    return max(3, _SHORTEST * resolution // REFERENCE)


def _length(pixels: np.ndarray) -> float:
    right, down = pixels[:, :-1] & pixels[:, 1:], pixels[:-1] & pixels[1:]
    corner = pixels[:-1, :-1] + pixels[1:, 1:] + pixels[:-1, 1:] + pixels[1:, :-1]
    crossed = ((pixels[:-1, :-1] & pixels[1:, 1:]) | (pixels[:-1, 1:] & pixels[1:, :-1])) > 0
    # Three of a square's four pixels make a corner that is walked along its diagonal: one diagonal step, not two straight ones.
    corners = int((corner == 3).sum())
    straight = int(right.sum()) + int(down.sum()) - 2 * corners
    diagonal = int(((corner == 2) & crossed).sum()) + corners
    return 0.948 * straight + 1.343 * diagonal


def _neighbour_count(pixels: np.ndarray) -> np.ndarray:
    return cv2.filter2D(pixels, cv2.CV_8U, _SQUARE, borderType=cv2.BORDER_CONSTANT) - pixels


def _junctions(pixels: np.ndarray) -> np.ndarray:
    # A branch point is where at least three arms leave: counted as changes from 0 to 1 around the pixel.
    return ((pixels > 0) & (_arms(pixels) >= 3)).astype(np.uint8)


def _prune(pixels: np.ndarray, shortest: float) -> None:
    """Take away, in place, side arms shorter than a vessel is wide: thinning grows them on every ragged edge."""
    junctions = cv2.dilate(_junctions(pixels), _SQUARE)
    arms = np.where(junctions > 0, np.uint8(0), pixels)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(arms, connectivity=8)
    ends, touching = np.zeros(count, bool), np.zeros(count, bool)
    ends[labels[(pixels > 0) & (_neighbour_count(pixels) <= 1)]] = True
    touching[labels[cv2.dilate(junctions, _SQUARE) > 0]] = True
    spur = ends & touching & (stats[:, cv2.CC_STAT_AREA] < shortest)
    spur[0] = False
    gone = spur[labels]
    pixels[gone] = 0
    near = (cv2.dilate(gone.astype(np.uint8), np.ones((7, 7), np.uint8)) > 0) | (cv2.dilate(junctions, _SQUARE) > 0)
    for _ in range(4):  # what is left of the arm inside the junction
        pixels[near & (_arms(pixels) <= 1)] = 0


def _arms(pixels: np.ndarray) -> np.ndarray:
    """Count, for each pixel, the changes from 0 to 1 on the way around it, (h, w) uint8."""
    return cv2.LUT(cv2.filter2D(pixels, cv2.CV_8U, _RING, borderType=cv2.BORDER_CONSTANT), _CHANGES)


def _ordered(pixels: np.ndarray, shortest: int) -> list[np.ndarray]:
    """Put each piece's pixels in order, all pieces at once: every walker takes one step at a time from its end."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=8)
    kept = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] >= shortest)
    kept = kept[kept != 0]
    if not len(kept):
        return []
    free = (np.isin(labels, kept)).ravel()
    width = pixels.shape[1]
    offsets = np.array([dy * width + dx for dy, dx in _NEIGHBOURS])
    places = np.flatnonzero(free)
    degree = free[places[:, None] + offsets].sum(axis=1)
    # Start at an end where there is one; a closed loop starts anywhere.
    order = np.lexsort((places, degree != 1, labels.ravel()[places]))
    _, first = np.unique(labels.ravel()[places][order], return_index=True)
    at = places[order][first]
    free[at] = False
    paths, alive = [at.copy()], np.arange(len(at))
    trail = [alive]
    while len(alive):
        steps = at[:, None] + offsets
        open_ = free[steps]
        moves = open_.any(axis=1)
        alive, at = alive[moves], steps[moves, open_[moves].argmax(axis=1)]
        free[at] = False
        paths.append(at)
        trail.append(alive)
    walker, place = np.concatenate(trail), np.concatenate(paths)
    step = np.concatenate([np.full(len(t), i) for i, t in enumerate(trail)])
    order = np.lexsort((step, walker))
    walker, place = walker[order], place[order]
    pieces = np.split(place, np.flatnonzero(np.diff(walker)) + 1)
    return [np.stack([p % width - 1, p // width - 1], axis=1).astype(np.float64) for p in pieces if len(p) >= shortest]


def average_width(mask: np.ndarray, skeleton: Skeleton) -> float | None:
    """Mean width of the vessels: area over length of the centre lines, in pixels of a 912 px field.

    AutoMorph divides by the number of centre-line pixels, which makes diagonal vessels up to sqrt(2) wider.
    """
    if skeleton.length <= 0:
        return None
    return float(np.count_nonzero(mask)) / skeleton.length * REFERENCE / mask.shape[0]


def tortuosities(segments: list[np.ndarray], resolution: int) -> tuple[float | None, float | None, float | None]:
    """Three tortuosities, each the unweighted mean over segments, all 0 or 1 for straight ones whatever the resolution.

    - Distance: arc length over chord length (1 for a straight line, pi / 2 for a half circle).
    - Squared curvature: the integral of the squared curvature along the segment (Hart et al. 1999, tau 5) times the
      radius of the field, so a pure number: pi x (field radius / r) for a half circle of radius r. AutoMorph's column
      of this name holds the absolute integral of the plain curvature.
    - Density: (n - 1) / L times the sum over the n turns of (arc / chord - 1), a turn ending where the curvature
      changes sign; L in field radii (Grisan et al. 2008, doi 10.1109/TMI.2007.904657). 0 for a single turn.

    Loops, whose ends lie closer together than a fifth of their length, are left out: their chord says nothing.

    Args:
        segments: each (n, 2) of x, y in pixels, in order.
        resolution: diameter of the field in pixels.

    Returns:
        distance, squared curvature, density; None each where there is no segment.
    """
    rows = [r for r in (_of_segment(s, resolution) for s in segments) if r is not None]
    if not rows:
        return None, None, None
    distance, squared, density = np.mean(np.array(rows), axis=0)
    return float(distance), float(squared), float(density)


def _of_segment(path: np.ndarray, resolution: int) -> tuple[float, float, float] | None:
    curve, radius = curve_of(path, resolution), resolution / 2
    if curve is None or curve.chord < 0.2 * curve.arc:
        return None
    return curve.arc / curve.chord, float((curve.settled**2 * curve.speed).sum()) * radius, twist_density(curve, radius)


@dataclass(frozen=True)
class Curve:
    """A centre line, smoothed.

    Attributes:
        points: (n, 2) float64 of x, y in pixels.
        speed: (n - 4,) float64, pixels from one point to the next, at all points but two at either end.
        curvature: (n - 4,) float64, radians a pixel, its sign the side to which the line turns.
        settled: (n - 4,) float64, the same, 0 near both ends: thinning bends the last pixels of a vessel towards a corner of its end.
        arc: length in pixels.
        chord: pixels between the ends.
    """

    points: np.ndarray
    speed: np.ndarray
    curvature: np.ndarray
    settled: np.ndarray
    arc: float
    chord: float


def curve_of(path: np.ndarray, resolution: int) -> Curve | None:
    """Smooth a centre line.

    Args:
        path: (n, 2) of x, y in pixels, in order.
        resolution: diameter of the field in pixels.

    Returns:
        The curve, or None of fewer than five pixels.
    """
    if len(path) < 5:
        return None
    sigma = _SMOOTHING * resolution / REFERENCE
    smooth = _smoothed(path, sigma)
    # Central differences, twice.
    velocity = (smooth[2:] - smooth[:-2]) / 2
    acceleration = (velocity[2:] - velocity[:-2]) / 2
    velocity = velocity[1:-1]
    speed = np.maximum(np.hypot(velocity[:, 0], velocity[:, 1]), 1e-6)
    curvature = (velocity[:, 0] * acceleration[:, 1] - velocity[:, 1] * acceleration[:, 0]) / speed**3
    margin = min(int(np.ceil(2 * sigma)), len(speed) // 4)
    settled = curvature.copy()
    settled[:margin] = settled[len(settled) - margin :] = 0
    arc = float(np.hypot(*np.diff(smooth, axis=0).T).sum())
    return Curve(smooth, speed, curvature, settled, arc, float(np.hypot(*(smooth[-1] - smooth[0]))))


def twist_density(curve: Curve, unit: float) -> float:
    """Tortuosity density of one centre line (Grisan et al. 2008), see `tortuosities`.

    Args:
        curve: the line.
        unit: pixels of the length by which it is divided: 1 gives the density per pixel.
    """
    turns = _inflections(curve.settled * curve.speed) + 2
    ends = np.array([0, *turns, len(curve.points) - 1])
    if len(ends) < 3:
        return 0.0
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(curve.points, axis=0).T))])
    arcs = np.diff(along[ends])
    chords = np.hypot(*np.diff(curve.points[ends], axis=0).T)
    excess = float(((arcs / np.maximum(chords, 1e-6)) - 1)[chords > 0].sum())
    return len(turns) / (curve.arc / unit) * excess


def _inflections(turning: np.ndarray) -> np.ndarray:
    """Find where a curve begins to turn the other way; turns of less than `_STRAIGHT` in all are no turns.

    Args:
        turning: (n,) angle turned at each point, radians.
    """
    if not len(turning):
        return np.zeros(0, int)
    starts = np.concatenate([[0], np.flatnonzero(np.diff(np.sign(turning))) + 1])
    angles = np.add.reduceat(turning, starts)
    real = np.abs(angles) >= _STRAIGHT
    starts, signs = starts[real], np.sign(angles[real])
    return starts[1:][signs[1:] != signs[:-1]]


def _smoothed(path: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth a path with a Gaussian, its ends held fast (continued beyond them by point reflection)."""
    reach = min(int(np.ceil(3 * sigma)), len(path) - 1)
    if reach < 1:
        return path
    before = 2 * path[0] - path[reach:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - reach : -1]
    kernel = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()
    extended = np.concatenate([before, path, after])
    return np.stack([np.convolve(extended[:, i], kernel, mode="valid") for i in (0, 1)], axis=1)


def branch_density(skeleton: Skeleton, resolution: int) -> float | None:
    """Branch points and crossings per field diameter of vessel length."""
    return skeleton.branches / (skeleton.length / resolution) if skeleton.length > 0 else None


def branching_angle(skeleton: Skeleton, resolution: int) -> float | None:
    """Mean angle at which vessels part, in degrees.

    At each point where exactly three centre lines meet: the smallest of the three angles between them, each line's
    direction being taken from its first 25 px (of a 912 px field). Crossings, where four meet, and points with an arm
    too short to have a direction are left out.

    Returns:
        The mean, or None where there is no such point.

    Example:
        >>> image = np.zeros((912, 912), np.uint8)
        >>> for end in ((450, 100), (250, 800), (650, 800)):
        ...     _ = cv2.line(image, (450, 450), end, 1, 5)
        >>> bool(abs(branching_angle(skeleton_of(image), 912) - 2 * np.degrees(np.arctan(200 / 350))) < 3)
        True
    """
    from scipy.spatial import cKDTree

    if not skeleton.segments or not len(skeleton.junctions):
        return None
    reach = max(6, round(_ARM * resolution / REFERENCE))
    ends = np.array([end for path in skeleton.segments for end in (path[0], path[-1])])
    inwards = np.array([end for path in skeleton.segments for end in (path[: reach + 1][-1], path[-reach - 1 :][0])])
    distance, nearest = cKDTree(skeleton.junctions[:, :2]).query(ends, distance_upper_bound=_TOUCHING)
    near = np.isfinite(distance)
    numbers = skeleton.junctions[nearest[near], 2].astype(int)
    turned = (inwards - ends)[near]
    direction = np.arctan2(turned[:, 1], turned[:, 0])
    order = np.argsort(numbers, kind="stable")
    _, first, count = np.unique(numbers[order], return_index=True, return_counts=True)
    three = first[count == 3]
    if not len(three):
        return None
    arms = np.sort(direction[order][three[:, None] + np.arange(3)], axis=1)
    gaps = np.concatenate([np.diff(arms, axis=1), 2 * np.pi - (arms[:, 2:] - arms[:, :1])], axis=1)
    return float(np.degrees(gaps.min(axis=1)).mean())
