"""Calibres of the retinal vessels: what the six widest arteries and veins around the disc amount to.

Widths are in micrometres on the assumption that the field of view is 13 mm across (45 degrees): the formulas of Parr and
Hubbard hold for micrometres alone. A camera of another angle scales all calibres alike, and leaves Knudtson's ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

FIELD_MICROMETRES = 13_000.0
SIX = 6
ENDS = 2  # pixels of a centre line at either end that also gather what lies beyond it
_COEFFICIENTS = {"CRAE": 0.88, "CRVE": 0.95}


def widths(marked: np.ndarray, segments: list[np.ndarray], *, shortest: float) -> np.ndarray:
    """Measure how wide vessels are: the area around each centre line over its length.

    Args:
        marked: (R, R) uint8 of 0 and 1: the arteries, or the veins, of a normalised field, cut to a ring.
        segments: their centre lines, each (n, 2) of x, y in pixels, in order.
        shortest: pixels of centre line that a vessel must have.

    Returns:
        (n,) float64, micrometres, widest first.
    """
    segments = [s for s in segments if len(s) >= max(shortest, 9)]
    scale = FIELD_MICROMETRES / len(marked)
    # From half a step before the first pixel that counts to half a step after the last.
    lengths = [float(np.hypot(*((path[2:] - path[:-2]) / 2).T)[1:-1].sum()) for path in segments]
    found = [area / length * scale for area, length in zip(areas(marked, segments), lengths, strict=True)]
    return np.sort(np.array(found))[::-1]


def areas(marked: np.ndarray, segments: list[np.ndarray]) -> list[int]:
    """Count the vessel's pixels that lie nearest to each centre line, but for `ENDS` pixels of it at either end.

    Args:
        marked: (R, R) uint8 of 0 and 1.
        segments: centre lines, each (n, 2) of x, y in pixels, in order, n over twice `ENDS`.
    """
    if not segments:
        return []
    centre = np.zeros(marked.shape, np.uint8)
    for path in segments:
        x, y = path.astype(int).T
        centre[y, x] = 1
    _, nearest = cv2.distanceTransformWithLabels(1 - centre, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    counts = np.bincount(nearest[marked > 0], minlength=int(nearest.max()) + 1)
    found = []
    for path in segments:
        x, y = path[ENDS:-ENDS].astype(int).T
        found.append(int(counts[nearest[y, x]].sum()))
    return found


def knudtson(six: np.ndarray, vessel: str) -> float | None:
    """Central retinal equivalent by Knudtson et al. (2003, doi 10.1076/ceyr.27.3.143.16049).

    The widest is joined with the narrowest, the second widest with the second narrowest, and so on, ``k sqrt(a^2 + b^2)``
    each, until one is left; in an odd round the middle one goes on as it is.

    Args:
        six: widths, widest first; those after the sixth are left out.
        vessel: ``CRAE`` or ``CRVE``.

    Returns:
        In the unit of the widths, or None where there are fewer than six.

    Example:
        >>> round(knudtson(np.array([100.0] * 6), "CRAE"), 2)
        174.84
    """
    return _joined(six, lambda wide, narrow: _COEFFICIENTS[vessel] * math.hypot(wide, narrow))


def hubbard(six: np.ndarray, vessel: str) -> float | None:
    """Central retinal equivalent by Parr and Hubbard (Hubbard et al. 1999, doi 10.1016/S0161-6420(99)90525-0).

    Joined in pairs as for `knudtson`, arteries by ``sqrt(0.87 a^2 + 1.01 b^2 - 0.22 a b - 10.76)`` and veins by
    ``sqrt(0.72 a^2 + 0.91 b^2 + 450.05)``, a the narrower, in micrometres.

    Args:
        six: widths in micrometres, widest first; those after the sixth are left out.
        vessel: ``CRAE`` or ``CRVE``.

    Returns:
        Micrometres, or None where there are fewer than six, or they are so narrow (under 3) that the formula has no root.
    """

    def join(wide: float, narrow: float) -> float:
        if vessel == "CRAE":
            squared = 0.87 * narrow**2 + 1.01 * wide**2 - 0.22 * narrow * wide - 10.76
            return math.sqrt(squared) if squared > 0 else math.nan
        return math.sqrt(0.72 * narrow**2 + 0.91 * wide**2 + 450.05)

    return _joined(six, join)


def _joined(six: np.ndarray, join: Callable[[float, float], float]) -> float | None:
    left = [float(w) for w in six[:SIX]]
    if len(left) < SIX:
        return None
    while len(left) > 1:
        half = len(left) // 2
        joined = [join(left[i], left[-1 - i]) for i in range(half)]
        left = sorted([*joined, *left[half : len(left) - half]], reverse=True)
    return None if math.isnan(left[0]) else left[0]
