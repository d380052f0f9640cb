"""Likeness: whether two files show the same photograph, however it was saved, scaled, brightened or bordered since.

Medical images of one kind resemble each other: most retinal photographs are a bright disc on black. What is compared
is therefore the detail inside the content, after borders are cut off and slow changes of brightness are taken out.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np

SIDE = 64  # pixels of the thumbnail that detail is taken from
_WIDE, _FINE = 5.0, 3.0  # pixels of the thumbnail: what counts as slow, for the hashes and for the comparison
_UNTIL = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)


def thumbnail(grey: np.ndarray) -> np.ndarray:
    """Cut off borders darker than an eighth of the bright parts and scale what is left.

    Args:
        grey: (H, W), uint8.

    Returns:
        (64, 64), uint8; the aspect ratio is not kept.
    """
    bright = grey > max(8.0, 0.12 * float(np.percentile(grey, 95)))
    rows, columns = np.flatnonzero(bright.mean(axis=1) > 0.02), np.flatnonzero(bright.mean(axis=0) > 0.02)
    if len(rows) >= 8 and len(columns) >= 8:
        grey = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def _detail(small: np.ndarray, slow: float) -> tuple[np.ndarray, np.ndarray]:
    """Give what is left of a thumbnail inside its content, in units of the local contrast, and where that is."""
    values = small.astype(np.float32)
    content = (values > max(8.0, 0.15 * float(np.percentile(values, 95)))).astype(np.uint8)
    content = cv2.erode(np.pad(content, 1), np.ones((3, 3), np.uint8), iterations=2)[1:-1, 1:-1].astype(np.float32)
    weight = cv2.GaussianBlur(content, (0, 0), slow) + 1e-3
    rest = (values - cv2.GaussianBlur(values * content, (0, 0), slow) / weight) * content
    contrast = np.sqrt(cv2.GaussianBlur(rest * rest, (0, 0), slow) / weight) + 1.0
    return rest / contrast, content


@cache
def _zigzag(side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """List the lowest frequencies of a cosine transform but the constant and the two slopes, lowest first."""
    places = sorted(((i, j) for i in range(side) for j in range(side) if i + j >= 2), key=lambda p: (p[0] + p[1], p))[:count]
    return np.array([i for i, _ in places]), np.array([j for _, j in places])


def hashes(grey: np.ndarray) -> tuple[str, bytes]:
    """Hash what a photograph shows, coarsely and finely.

    Both are signs of cosine coefficients of the detail at 32 x 32 pixels: the coarse hash of the 64 lowest against their
    median, the fine one of the 256 lowest against 0. A photograph that was saved again, resized, brightened or given a
    border differs in few bits; two photographs differ in about half.

    Args:
        grey: (H, W), uint8.

    Returns:
        64 bits as 16 hexadecimal digits, and 256 bits as 32 bytes (all zero where the image is blank).
    """
    detail, _ = _detail(thumbnail(grey), _WIDE)
    spectrum = cv2.dct(cv2.resize(detail, (32, 32), interpolation=cv2.INTER_AREA))
    low = spectrum[_zigzag(10, 64)]
    bits = np.packbits(low > np.median(low))
    return bits.tobytes().hex(), np.packbits(spectrum[_zigzag(24, 256)] > 0).tobytes()


def similarity(a: np.ndarray, b: np.ndarray) -> float:
    """Correlate the detail of two photographs, at rest and after the second was laid over the first.

    The affine map that lays one over the other is found by maximising the enhanced correlation coefficient
    (Evangelidis and Psarakis 2008), so a photograph that was cropped or turned a little is recognised.

    Args:
        a: thumbnail of one photograph, (64, 64), uint8.
        b: of the other.

    Returns:
        The larger of the two correlations, -1 to 1; 0 where there is too little content in common.
    """
    (one, inside), (other, inside_other) = _detail(a, _FINE), _detail(b, _FINE)
    plain = _correlation(one, inside, other, inside_other)
    try:
        _, warp = cv2.findTransformECC(one, other, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _UNTIL)
    except cv2.error:  # doesn't converge: nothing in common
        return plain
    laid = cv2.warpAffine(other, warp, (SIDE, SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    inside_laid = cv2.warpAffine(inside_other, warp, (SIDE, SIDE), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    return max(plain, _correlation(one, inside, laid, inside_laid))


def _correlation(a: np.ndarray, inside_a: np.ndarray, b: np.ndarray, inside_b: np.ndarray) -> float:
    both = (inside_a > 0.5) & (inside_b > 0.5)
    if both.sum() < 0.05 * SIDE * SIDE:
        return 0.0
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    return float((x * y).sum() / max(float(np.linalg.norm(x) * np.linalg.norm(y)), 1e-6))
