"""AutoMorph's definitions, for tables that are to be laid beside its own (Zhou et al. 2022, doi 10.1167/tvst.11.7.12).

The definitions alone: the vessels are those that our filters find, or that a mask shows, not those of AutoMorph's
network, and the quality grade is ours. They are written anew from the publications: no line of AutoMorph's code is used.
What the publications leave open is decided in the docstrings below. Everything is in pixels of a field of 912 px;
what can't be had is None, where AutoMorph writes -1.
"""

from __future__ import annotations

import cv2
import numpy as np

from curate.retina import calibre, morphology
from curate.retina.shape import FEWEST

AUTOMORPH = "automorph"
COMPATIBLE = (AUTOMORPH,)  # whose definitions can be asked for
RESOLUTION = morphology.REFERENCE

_BOXES = (512, 256, 128, 64, 32, 16, 8, 4)  # px
_LONGER_THAN = 15  # px of a centre line


def fractal_dimension(mask: np.ndarray) -> float | None:
    """Box-counting dimension of the filled map: the slope of log(boxes) over log(1 / size) for boxes of 4, 8, ... 512 px.

    A box counts where some of it is vessel and some isn't, 0 < S < k^2. The boxes lie side by side from the top left
    corner; those that reach over the map's edge are as large as the others and empty beyond it.

        for k in 4, 8, ... 512:
            N(k) = 0
            for each box of k x k px:
                S = vessel pixels in the box
                if 0 < S < k * k: N(k) = N(k) + 1

    Args:
        mask: (R, R), non-zero where vessel.

    Returns:
        The dimension; None where no box of some size counts, as in an empty map or one that is vessel throughout.
    """
    size = min(_BOXES)
    sums = _added((mask > 0).astype(np.int32), size)
    sizes, counts = [], []
    while size <= max(_BOXES):
        sizes.append(size)
        counts.append(int(np.count_nonzero((sums > 0) & (sums < size * size))))
        sums, size = _added(sums, 2), 2 * size
    if not all(counts):
        return None
    return float(np.polyfit(-np.log(sizes), np.log(counts), 1)[0])


def _added(values: np.ndarray, k: int) -> np.ndarray:
    """Add up squares of k x k values, those at the edge filled up with zeros."""
    height, width = values.shape
    full = np.pad(values, ((0, -height % k), (0, -width % k)))
    sums: np.ndarray = full.reshape(full.shape[0] // k, k, -1, k).sum(axis=(1, 3))
    return sums


def vessel_density(mask: np.ndarray) -> float:
    """Share of the whole square that is vessel, corners outside the field included, in a zone too.

    Args:
        mask: (R, R), non-zero where vessel.
    """
    return int(np.count_nonzero(mask)) / mask.size


def average_width(mask: np.ndarray, centre: np.ndarray) -> float | None:
    """Pixels of vessel over pixels of its centre lines: a diagonal vessel counts up to sqrt(2) wider than it is.

    Args:
        mask: (R, R), non-zero where vessel.
        centre: (R, R), non-zero on the centre lines, none of them taken away.

    Returns:
        Pixels, or None where there is no centre line.
    """
    length = int(np.count_nonzero(centre))
    return int(np.count_nonzero(mask)) / length if length else None


def tortuosities(segments: list[np.ndarray]) -> tuple[float | None, float | None, float | None]:
    """Three tortuosities, each the unweighted mean over the segments of more than 15 px.

    - Distance: arc length over chord length (Hart et al. 1999, Int J Med Inform 53:239-252).
    - Squared curvature: under this name, the absolute value of the integral of the plain curvature along the segment,
      in radians: the angle between its two ends' directions. A half circle has pi whatever its size; what
      turns to the left and as far to the right has 0.
    - Density: (n - 1) / L times the sum over the n turns of (arc / chord - 1), L in pixels (Grisan et al. 2008,
      doi 10.1109/TMI.2007.904657).

    The publications define all three on a curve and leave open how one comes of pixels. Here it is the centre line
    smoothed as for `morphology.tortuosities`, with the same limit under which a turn is none: the
    staircase of the pixels adds nothing. The curvature is integrated from end to end; the smoothing hides what
    turns in the last 7 px or so at either end, 2 % of a half circle of 228 px radius. A closed line, whose ends touch,
    has no chord and is left out; nothing else is.

    Args:
        segments: each (n, 2) of x, y in pixels of a 912 px field, in order.

    Returns:
        distance, squared curvature, density; None each where there is no segment.
    """
    curves = [morphology.curve_of(path, RESOLUTION) for path in segments if len(path) > _LONGER_THAN]
    rows = [
        (curve.arc / curve.chord, abs(float((curve.curvature * curve.speed).sum())), morphology.twist_density(curve, 1.0))
        for curve in curves
        if curve is not None and curve.chord >= 2
    ]
    if not rows:
        return None, None, None
    distance, bent, density = np.mean(np.array(rows), axis=0)
    return float(distance), float(bent), float(density)


def vessel_measures(marked: np.ndarray, mask: np.ndarray, skeleton: morphology.Skeleton | None = None) -> dict[str, float | str | None]:
    """Measure a vessel map as AutoMorph defines it.

    The map is cut to the mask and everything is measured on what is left, centre lines and all, as if it
    were the map of a whole photograph: that is how a zone is measured too. ``Branch_density`` and ``Branching_angle`` are
    not AutoMorph's and stay as `curate.retina.morphology` defines them: numbers without a unit, the same on both sides.

    Args:
        marked: (912, 912) uint8 of 0 and 1, 1 where vessel, in a normalised field.
        mask: (912, 912) uint8, 1 where the photograph shows the field, or the zone of it that is meant.
        skeleton: ours, of the map within the mask, where it is at hand: for the branches.

    Returns:
        A value for each of `shape.SHAPES`; empty where fewer than 0.5 % of the mask is marked.

    Raises:
        ValueError: where the field isn't of 912 px.
    """
    if marked.shape != (RESOLUTION, RESOLUTION):
        raise ValueError(f"a map of {marked.shape}: AutoMorph's definitions are for {RESOLUTION} pixels")
    drawn = cv2.copyTo(marked, mask)
    if morphology.vessel_density(drawn, mask) < FEWEST:
        return {}
    lines = morphology.skeleton_of(drawn, pruned=False)
    distance, bent, turns = tortuosities(lines.segments)
    ours = morphology.skeleton_of(marked) if skeleton is None else skeleton
    return {
        "Fractal_dimension": fractal_dimension(drawn),
        "Vessel_density": vessel_density(drawn),
        "Average_width": average_width(drawn, lines.pixels),
        "Distance_tortuosity": distance,
        "Squared_curvature_tortuosity": bent,
        "Tortuosity_density": turns,
        "Branch_density": morphology.branch_density(ours, RESOLUTION),
        "Branching_angle": morphology.branching_angle(ours, RESOLUTION),
    }


def widths(marked: np.ndarray) -> np.ndarray:
    """Measure how wide the vessels of a zone are: each segment of more than 15 px, its area over its centre line's pixels.

    A vessel's area is what lies nearest to its centre line; which pixels belong to which vessel where two
    meet is not published.

    Args:
        marked: (912, 912) uint8 of 0 and 1: the arteries, or the veins, cut to the zone.

    Returns:
        (n,) float64, pixels, widest first.
    """
    segments = [path for path in morphology.skeleton_of(marked, pruned=False).segments if len(path) > _LONGER_THAN]
    found = [area / (len(path) - 2 * calibre.ENDS) for area, path in zip(calibre.areas(marked, segments), segments, strict=True)]
    return np.sort(np.array(found))[::-1]
