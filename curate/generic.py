"""Any medical image: intensity, texture, spectrum and sharpness, with nothing assumed about what it shows.

Every measure is relative to the image, so that a file and the same file at another size give the same numbers as nearly
as sampling allows: the longer side is brought to half of ``resolution`` (256 px unless told otherwise), and lengths
are shares of it. What is finer than a pixel of that doesn't count. No grade is given: how sharp is sharp enough
differs between a radiograph and a smear.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

_SMALLEST = 16  # px: shorter sides, of the file and at working size
_LEAST_DETAIL = 0.5  # of the working size: a smaller file hasn't the detail that texture and spectrum are measured on
_BLACK = 10  # of 255: as dark as JPEG leaves a black border
_FLAT = 2  # grey levels: what rounding and JPEG make of one grey
_LEVELS = 32  # grey levels of the co-occurrence matrix
_DISTANCES = {"fine": 1 / 128, "coarse": 1 / 32}  # of the longer side
_TEXTURES = ("contrast", "homogeneity", "correlation", "energy")
_BAND = (1 / 64, 1 / 4)  # cycles a pixel at working size: 4 to 64 cycles across the longer side of 256 px
_HALF_BAND = 1 / 16  # the middle of the band on a logarithmic scale
_NARROWEST = 64  # px of 256: a shorter side holds too few cycles of the band's low end

# Column -> numpy type, in the order in which they stand in the table. `curate describe` draws the first eight that are not of
# the photograph.
MEASURES: dict[str, str] = {
    "state": "string",
    "aspect_ratio": "float64",
    "border_share": "float64",
    "clipped_share": "float64",
    "sharpness": "float64",
    "intensity_mean": "float64",
    "intensity_sd": "float64",
    "entropy": "float64",
    "colourfulness": "float64",
    **{f"texture_contrast_{scale}": "float64" for scale in _DISTANCES},
    "spectrum_slope": "float64",
    "high_frequency_share": "float64",
    "intensity_p05": "float64",
    "intensity_p95": "float64",
    "contrast": "float64",
    **{f"texture_{name}_{scale}": "float64" for scale in _DISTANCES for name in _TEXTURES[1:]},
}
# What is said of the file and of how it was taken, and not of what it shows.
OF_THE_PHOTOGRAPH = ("aspect_ratio", "border_share", "clipped_share", "sharpness")


def measure_image(rgb: np.ndarray, *, resolution: int = 512) -> dict[str, float | str | None]:
    """Measure one image.

    Black that is joined to the frame's edge (letterboxes, the surround of a round field, air around a body) is no part of
    the image: it is left out of every measure but ``aspect_ratio`` and ``border_share``.

    Args:
        rgb: (H, W, 3) uint8; a grey image has three equal channels.
        resolution: twice the pixels to which the longer side is brought. A larger image is made smaller by averaging. A
            smaller one keeps its pixels for intensity and colour, and is enlarged for the rest where it has at
            least half of them.

    Returns:
        One value for each name in `MEASURES`, None where it can't be had:

        - ``state``: ``ok``; ``too small`` (the shorter side is under 16 px, as it is or once the longer one is
          brought to its size); ``blank`` (nothing but border, or 98 % of it within two grey levels).
        - ``aspect_ratio``: width over height of the file.
        - ``border_share``: share of the file that is black border.
        - ``clipped_share``: share of pixels under 2 or over 253 of 255, which lost what they showed.
        - ``sharpness``: standard deviation of the Laplacian over that of the luminance (the variance-of-Laplacian
          focus measure, Pech-Pacheco et al. 2000, freed of contrast).
        - ``intensity_mean``, ``_sd``, ``_p05``, ``_p95``: of the luminance, 0 to 1.
        - ``contrast``: (p95 - p05) / (p95 + p05), after Michelson.
        - ``entropy``: Shannon entropy of the luminance's histogram, in bits, 0 to 8.
        - ``colourfulness``: Hasler and Süsstrunk's (2003) M3, on channels of 0 to 255: 0 grey, 15 slightly, 45
          averagely, 109 extremely colourful.
        - ``texture_contrast``, ``_homogeneity``, ``_correlation``, ``_energy``, each ``_fine`` and ``_coarse``: of the
          grey-level co-occurrence matrix (Haralick et al. 1973, as scikit-image's ``graycoprops`` defines them) at
          1/128 and 1/32 of the longer side; 32 levels between the 1st and the 99th percentile, symmetric, mean over
          four directions. They don't change with brightness and contrast.
        - ``spectrum_slope``: of the logarithm of the radially averaged power on that of the frequency, from 4 to 64
          cycles across the longer side, every octave counting the same (van der Schaaf and van Hateren 1996): near -2
          for natural scenes, higher for finer grain. Under a Hann window, which follows the border where there is one.
        - ``high_frequency_share``: share of the power between 4 and 64 cycles that lies above 16.

        Sharpness, texture and spectrum are None where the longer side is under a quarter of `resolution`, and the
        spectrum where it is more than four times the shorter.

    Raises:
        ValueError: where `rgb` isn't (H, W, 3) uint8 or `resolution` is under 128.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    if resolution < 128:
        raise ValueError(f"resolution {resolution}: at least 128 pixels are needed")
    row: dict[str, float | str | None] = dict.fromkeys(MEASURES)
    height, width = rgb.shape[:2]
    working, longer = resolution // 2, max(rgb.shape[:2])
    if min(height, width) < _SMALLEST or min(height, width) * min(1, working / longer) < _SMALLEST - 0.5:
        return row | {"state": "too small"}
    small = _resized(rgb, working) if longer > working else rgb
    luminance = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    inside = _inside(small)
    shown = luminance[inside]
    if not len(shown) or np.subtract(*np.percentile(shown, [99, 1])) <= _FLAT:
        return row | {"state": "blank"}
    row |= {"state": "ok", "aspect_ratio": width / height, "border_share": 1 - len(shown) / inside.size}
    row |= _intensity(shown) | {"colourfulness": _colourfulness(small[inside])}
    if longer < _LEAST_DETAIL * working:
        return row
    if longer < working:
        luminance = _resized(luminance, working)
        inside = _resized(inside.astype(np.uint8), working, enlarging=cv2.INTER_NEAREST) > 0
    return row | _sharpness(luminance, inside) | _texture(luminance, inside) | _spectrum(luminance, inside)


def _resized(image: np.ndarray, longer: int, enlarging: int = cv2.INTER_CUBIC) -> np.ndarray:
    """Bring the longer side to some pixels, by averaging where it was longer."""
    height, width = image.shape[:2]
    scale = longer / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else enlarging)


def _inside(rgb: np.ndarray) -> np.ndarray:
    """Find what isn't border: (H, W) bool, False where a solid black region is joined to the frame's edge, and along its rim."""
    black = (rgb.max(axis=2) <= _BLACK).astype(np.uint8)
    # Outside the frame counts as black: a thin line along the edge is solid. Grain in a dark corner isn't.
    black = cv2.copyMakeBorder(black, 3, 3, 3, 3, cv2.BORDER_CONSTANT, value=1)
    _, regions = cv2.connectedComponents(cv2.morphologyEx(black, cv2.MORPH_OPEN, np.ones((5, 5), np.uint8)), connectivity=4)
    border = regions == regions[0, 0]
    border[:3] = border[-3:] = border[:, :3] = border[:, -3:] = False
    # Pixels beside it are partly border.
    return np.asarray(cv2.dilate(border.astype(np.uint8), np.ones((3, 3), np.uint8))[3:-3, 3:-3] == 0)


def _intensity(shown: np.ndarray) -> dict[str, float | None]:
    low, high = (float(v) / 255 for v in np.percentile(shown, [5, 95]))
    counts = np.bincount(shown, minlength=256)
    shares = counts[counts > 0] / len(shown)
    return {
        "clipped_share": float(counts[:2].sum() + counts[254:].sum()) / len(shown),
        "intensity_mean": float(shown.mean()) / 255,
        "intensity_sd": float(shown.std()) / 255,
        "intensity_p05": low,
        "intensity_p95": high,
        "contrast": (high - low) / (high + low) if high + low > 0 else None,
        "entropy": float(-(shares * np.log2(shares)).sum()),
    }


def _colourfulness(pixels: np.ndarray) -> float:
    red, green, blue = pixels.astype(np.float32).T
    apart = np.stack([red - green, (red + green) / 2 - blue]).astype(np.float64)
    return float(np.hypot(*apart.std(axis=1)) + 0.3 * np.hypot(*apart.mean(axis=1)))


def _sharpness(luminance: np.ndarray, inside: np.ndarray) -> dict[str, float | None]:
    """Compare the Laplacian with the luminance, where the Laplacian sees nothing of the border."""
    away = cv2.erode(inside.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0
    deviation = float(luminance[away].std()) if away.any() else 0.0
    return {"sharpness": float(cv2.Laplacian(luminance, cv2.CV_32F)[away].std()) / deviation if deviation > 0 else None}


def _texture(luminance: np.ndarray, inside: np.ndarray) -> dict[str, float | None]:
    from skimage.feature import graycomatrix, graycoprops

    low, high = np.percentile(luminance[inside], [1, 99])
    # Level 0 is the border: its pairs are struck out afterwards.
    grey = np.arange(256)
    level = np.clip((grey - low) / (high - low) * _LEVELS, 0, _LEVELS - 1).astype(np.uint8) + 1
    levels = np.where(inside, level[luminance], 0).astype(np.uint8)
    found: dict[str, float | None] = {}
    for scale, share in _DISTANCES.items():
        distance = max(1, round(share * max(luminance.shape)))
        pairs = graycomatrix(levels, [distance], [0, np.pi / 4, np.pi / 2, 3 * np.pi / 4], levels=_LEVELS + 1, symmetric=True)[1:, 1:]
        pairs = pairs[:, :, :, pairs.sum(axis=(0, 1, 2)) > 0]
        for name in _TEXTURES:
            values = graycoprops(pairs, name) if pairs.size else np.empty(0)
            found[f"texture_{name}_{scale}"] = float(values.mean()) if values.size else None
    return found


def _spectrum(luminance: np.ndarray, inside: np.ndarray) -> dict[str, float | None]:
    nothing: dict[str, float | None] = {"spectrum_slope": None, "high_frequency_share": None}
    longer = max(luminance.shape)
    if min(luminance.shape) < longer * _NARROWEST / 256:
        return nothing
    window = _hann(*luminance.shape)
    if not inside.all():
        window = window * _taper(inside)
    weight = float(window.sum())
    if weight <= 0:
        return nothing
    values = luminance.astype(np.float32)
    values = (values - float((values * window).sum()) / weight) * window
    from scipy.fft import rfft2

    power = np.square(np.abs(rfft2(values)))
    ring, counts, both = _rings(*luminance.shape)
    sums = np.bincount(ring, (power * both).ravel(), minlength=len(counts))
    with np.errstate(invalid="ignore"):
        radial = sums / counts
    first, last = (round(f * longer) for f in _BAND)
    frequency = np.arange(first, last + 1)
    radial, sums = radial[first : last + 1], sums[first : last + 1]
    if not (np.isfinite(radial).all() and radial.min() > 0):
        return nothing
    # A weight of 1 / frequency: every octave counts the same, though the upper ones have more rings.
    x, y = np.log(frequency), np.log(radial)
    w = 1 / frequency
    x, y = x - (w * x).sum() / w.sum(), y - (w * y).sum() / w.sum()
    return {
        "spectrum_slope": float((w * x * y).sum() / (w * x * x).sum()),
        "high_frequency_share": float(sums[frequency > _HALF_BAND * longer].sum() / sums.sum()),
    }


@lru_cache(maxsize=8)
def _hann(height: int, width: int) -> np.ndarray:
    # Without the zeros at the ends, so that no pixel is lost.
    down, across = (np.hanning(n + 2)[1:-1].astype(np.float32) for n in (height, width))
    return np.outer(down, across)


def _taper(inside: np.ndarray) -> np.ndarray:
    """Rise from 0 at the border's edge to 1 at an eighth of the longer side from it, as half a Hann window does."""
    far = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    reach = min(max(inside.shape) / 8, float(far.max()))
    return np.sin(np.minimum(far / max(reach, 1.0), 1) * np.float32(np.pi / 2)) ** 2


@lru_cache(maxsize=8)
def _rings(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give each coefficient of the half spectrum its ring in whole cycles across the longer side.

    Returns:
        (h * (w // 2 + 1),) ring; (rings,) coefficients of the whole spectrum in each; (w // 2 + 1,) how often each column stands in it.
    """
    longer = max(height, width)
    down, across = np.fft.fftfreq(height) * longer, np.fft.rfftfreq(width) * longer
    ring = np.rint(np.hypot(down[:, None], across[None, :])).astype(np.int64).ravel()
    both = np.where((np.arange(len(across)) == 0) | ((width % 2 == 0) & (np.arange(len(across)) == len(across) - 1)), 1.0, 2.0)
    return ring, np.bincount(ring, np.broadcast_to(both, (height, len(across))).ravel()), both
