"""The vessel map: where the blood vessels are, by filters alone; nothing is learned and nothing is downloaded.

Vessels are darker than what surrounds them because blood absorbs green light. Working on optical density (the
logarithm of the green channel) makes their depth independent of the light that fell there (Beer and Lambert). What
varies slowly is removed and the local contrast equalised; then a bank of elongated second-derivative filters, a
vessel's cross-section drawn out along 12 directions at two widths, gives each pixel the response of the best
direction (matched filters: Chaudhuri et al. 1989; Gaussian derivatives over orientations: Zhang et al. 2016,
doi 10.1109/TMI.2016.2587062; summing shifted responses of one small filter: B-COSFIRE, Azzopardi et al. 2015,
doi 10.1016/j.media.2014.08.002).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# The filters run on a field of this diameter, close to that of the photographs they were published on (DRIVE: 540).
FILTER_DIAMETER = 512
_DIRECTIONS = 12
_SIGMA = 1.15  # px: the narrower of the two cross-sections; the other is twice as wide
_STEP = 1.75  # px between the nine taps of the elongation
_ROUND = 0.5  # share of the mean over directions that is taken off: specks and haemorrhages answer in all of them
_BLACK_LEVEL = 10.0  # grey values added before the logarithm: the camera's noise, so that the dark rim doesn't dominate
# Threshold of the vessel map and the lower one for what hangs on it, in units of local contrast. Set on phantoms, where
# fractal dimension and density agree best with the truth; the median density of the photographs of ODIR-5K graded
# "normal fundus" is then 0.078. No human observer's mask had a part in it.
THRESHOLD = 0.40
THRESHOLD_LOW = 0.30
_RIM = 7  # px at FILTER_DIAMETER: width of the band along the rim that is looked at with suspicion
_SMALLEST = 60  # px at FILTER_DIAMETER: smaller pieces are noise, haemorrhages and specks
_HALF = 0.5  # of its depth, where a vessel's edge is: the full width at half maximum
_CALM = 0.6  # px: standard deviation that keeps single noisy pixels from fraying the edge


@dataclass(frozen=True)
class Vessels:
    """What the filters found.

    Attributes:
        response: (512, 512) float32, at least 0: how vessel-like, in units of local contrast; 0 outside the field.
        depth: (512, 512) float32: the same in optical density (natural logarithm), before contrast is equalised.
        darkness: (512, 512) float32: by how much a pixel is darker than its surround, in optical density.
        inner: (512, 512) uint8, 1 where the filters could look: the field without its outermost pixel.
    """

    response: np.ndarray
    depth: np.ndarray
    darkness: np.ndarray
    inner: np.ndarray


def vessel_response(rgb: np.ndarray, mask: np.ndarray) -> Vessels:
    """Say how vessel-like every pixel is.

    Args:
        rgb: (R, R, 3) uint8, a normalised field (see `field.normalise`).
        mask: (R, R) uint8, 1 inside.
    """
    size = FILTER_DIAMETER
    green = _resized(rgb[:, :, 1], size)
    inner = cv2.erode(_resized(mask, size, nearest=True), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    density, scale = _equalised(green, inner.astype(np.float32))
    response = _bank(density)
    half = _bank(cv2.pyrDown(density))
    response += cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR)
    response *= inner
    darkness = cv2.GaussianBlur(density * scale, (0, 0), _CALM)
    return Vessels(response=response, depth=response * scale, darkness=darkness, inner=inner)


def vessel_map(vessels: Vessels, resolution: int) -> np.ndarray:
    """Decide which pixels are vessel: hysteresis finds the vessels, half of their own depth says how wide they are.

    The filters answer beside a thin vessel too, as they are wider than it; a map of their answers alone has every
    thin vessel at the filter's width, and its density says little about the calibre of the vessels.

    Args:
        vessels: from `vessel_response`.
        resolution: diameter of the field in the map, in pixels.

    Returns:
        (resolution, resolution) uint8 of 0 and 1.
    """
    response = vessels.response
    middle = cv2.erode(vessels.inner, np.ones((2 * _RIM + 1,) * 2, np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    low = (response > THRESHOLD_LOW).astype(np.uint8)
    _drop_rim(low, middle)
    found = _filled(_elongated(low, response, _SMALLEST), _SMALLEST / 2)
    above = vessels.darkness - np.float32(_HALF) * _depth_of_nearest_vessel(vessels.darkness, found)
    narrow = _elongated(((above > 0) & (found > 0)).astype(np.uint8), response, _SMALLEST / 2)
    if resolution == FILTER_DIAMETER:
        return narrow
    # Between the pixels the edge follows the darkness, not the steps of the coarser grid.
    target = (resolution, resolution)
    inside = cv2.resize(cv2.dilate(narrow, np.ones((3, 3), np.uint8)) & found, target, interpolation=cv2.INTER_NEAREST)
    return ((cv2.resize(above, target, interpolation=cv2.INTER_CUBIC) > 0) & (inside > 0)).astype(np.uint8)


def _elongated(marked: np.ndarray, response: np.ndarray, smallest: float) -> np.ndarray:
    """Keep the pieces that are large enough, answer strongly somewhere and are longer than wide."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(marked, connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= smallest
    strong = np.zeros(count, bool)
    strong[labels[response > THRESHOLD]] = True
    keep &= strong
    # Specks and haemorrhages are round: a vessel is several times longer than wide, so it fills little of its box's diagonal squared.
    extent = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT])
    keep &= extent**2 > 6.0 * stats[:, cv2.CC_STAT_AREA]
    keep[0] = False
    return keep.astype(np.uint8)[labels]


def _depth_of_nearest_vessel(darkness: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Give each pixel the darkness on the centre line nearest to it, (S, S) float32; 0 where there is no vessel at all."""
    from skimage.morphology import skeletonize

    centre = skeletonize(found > 0)
    if not centre.any():
        return np.zeros_like(darkness)
    _, nearest = cv2.distanceTransformWithLabels((~centre).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL)
    ridge = cv2.blur(cv2.dilate(darkness, np.ones((3, 3), np.uint8)), (3, 3))
    depth = np.zeros(int(nearest.max()) + 1, np.float32)
    depth[nearest[centre]] = ridge[centre]
    return depth[nearest]


def _filled(marked: np.ndarray, smallest: float) -> np.ndarray:
    """Fill holes too small to be retina seen between vessels: the bright reflex along a vessel's middle, mostly."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - marked, connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < smallest
    small[0] = False
    return marked | small[labels].astype(np.uint8)


def _drop_rim(marked: np.ndarray, middle: np.ndarray) -> None:
    """Unmark, in place, what runs along the rim: the dark edge of the field looks like a vessel, but a vessel crosses the rim."""
    band = marked & ~middle & 1
    _, labels, stats, _ = cv2.connectedComponentsWithStats(band, connectivity=8)
    width = _RIM * marked.shape[0] / FILTER_DIAMETER
    along = np.hypot(stats[:, cv2.CC_STAT_WIDTH], stats[:, cv2.CC_STAT_HEIGHT]) > 3 * width
    along[0] = False
    marked[along[labels]] = 0


def _resized(image: np.ndarray, size: int, nearest: bool = False) -> np.ndarray:
    if image.shape[0] == size:
        return image
    shrinking = image.shape[0] > size
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=how)


def _equalised(green: np.ndarray, inner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give optical density against the local background, in units of contrast, and that unit, both (S, S) float32."""
    logarithm = cv2.LUT(np.ascontiguousarray(green), np.log(np.arange(256, dtype=np.float32) + np.float32(_BLACK_LEVEL)))
    side = 2 * (FILTER_DIAMETER // 24) + 1

    def mean(values: np.ndarray) -> np.ndarray:
        once = cv2.blur(values, (side, side), borderType=cv2.BORDER_CONSTANT)
        return cv2.blur(once, (side, side), borderType=cv2.BORDER_CONSTANT)

    weight = mean(inner) + 1e-6
    density = (mean(logarithm * inner) / weight - logarithm) * inner
    squared = density * density
    variance = np.maximum(mean(squared) / weight, 0)
    overall = float(np.sqrt(squared.sum() / max(inner.sum(), 1.0)))
    # Half local, half overall: a hazy quarter of the field is lifted, but not until its noise looks like vessels.
    scale = 0.5 * (overall + np.sqrt(variance)) + 1e-6
    return density / scale, scale


def _bank(density: np.ndarray) -> np.ndarray:
    """Give the strongest response over the directions, less half of their mean, (S, S) float32, at least 0."""
    reach = int(np.ceil(4 * _SIGMA))
    t = np.arange(-reach, reach + 1, dtype=np.float64)
    gauss = np.exp(-(t**2) / (2 * _SIGMA**2))
    gauss /= gauss.sum()
    first, second = -t / _SIGMA**2 * gauss, (t**2 / _SIGMA**2 - 1) / _SIGMA**2 * gauss
    second -= second.mean()
    xx, yy, xy = (
        cv2.sepFilter2D(density, cv2.CV_32F, kx, ky, borderType=cv2.BORDER_REPLICATE) * np.float32(_SIGMA**2)
        for kx, ky in ((second, gauss), (gauss, second), (first, first))
    )
    # Second derivative across direction a: half the Laplacian, less what turns with the angle (steerable filters).
    even, along, across = (xx + yy) * 0.5, (xx - yy) * 0.5, xy
    best, total = np.zeros_like(density), np.zeros_like(density)
    for k in range(_DIRECTIONS):
        angle = np.pi * k / _DIRECTIONS
        line = along * np.float32(np.cos(2 * angle)) + across * np.float32(np.sin(2 * angle)) - even
        for step in (_STEP, 3 * _STEP):
            line = _with_neighbours(line, round(step * np.cos(angle)), round(step * np.sin(angle)))
        cv2.max(best, line, best)
        cv2.add(total, line, total)
    best -= np.maximum(total, 0) * np.float32(_ROUND / _DIRECTIONS)
    best *= np.float32(1 / 9)
    return best


def _with_neighbours(image: np.ndarray, dx: int, dy: int) -> np.ndarray:
    """Add to an image its copies shifted by (dx, dy) and (-dx, -dy); nothing comes in from outside."""
    height, width = image.shape
    total = image.copy()
    for x, y in ((dx, dy), (-dx, -dy)):
        to = np.s_[max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)]
        of = np.s_[max(y, 0) : height - max(-y, 0), max(x, 0) : width - max(-x, 0)]
        cv2.add(total[to], image[of], total[to])
    return total
