"""Any image: intensity, contrast, sharpness and texture, with nothing assumed about what it shows."""

from __future__ import annotations

import cv2
import numpy as np

_SMALLEST = 16  # px

# Column -> numpy type, in the order in which they stand in the table.
MEASURES: dict[str, str] = {
    "state": "string",
    "intensity_mean": "float64",
    "intensity_sd": "float64",
    "intensity_p05": "float64",
    "intensity_p95": "float64",
    "contrast": "float64",
    "entropy": "float64",
    "sharpness": "float64",
}


def measure_image(rgb: np.ndarray, *, resolution: int = 512) -> dict[str, float | str | None]:
    """Measure one image.

    Args:
        rgb: (H, W, 3) uint8.
        resolution: pixels of the longer side after a larger image was made smaller; smaller ones stay as they are.

    Returns:
        One value for each name in `MEASURES`, None where it can't be had:

        - ``state``: ``ok``, ``too small`` (under 16 px) or ``blank`` (one grey level throughout).
        - ``intensity_mean``, ``_sd``, ``_p05``, ``_p95``: of the luminance, 0 to 1.
        - ``contrast``: (p95 - p05) / (p95 + p05), after Michelson.
        - ``entropy``: Shannon entropy of the luminance's histogram, in bits, 0 to 8.
        - ``sharpness``: standard deviation of the Laplacian over that of the luminance (the variance-of-Laplacian
          focus measure, Pech-Pacheco et al. 2000, freed of contrast).

    Raises:
        ValueError: where `rgb` isn't (H, W, 3) uint8.
    """
    if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
        raise ValueError(f"expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    row: dict[str, float | str | None] = dict.fromkeys(MEASURES)
    height, width = rgb.shape[:2]
    if min(height, width) < _SMALLEST:
        return row | {"state": "too small"}
    luminance = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    scale = resolution / max(height, width)
    if scale < 1:
        luminance = cv2.resize(luminance, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA)
    if int(luminance.min()) == int(luminance.max()):
        return row | {"state": "blank"}
    low, high = (float(v) / 255 for v in np.percentile(luminance, [5, 95]))
    shares = np.bincount(luminance.ravel(), minlength=256) / luminance.size
    shares = shares[shares > 0]
    deviation = float(luminance.std())
    return row | {
        "state": "ok",
        "intensity_mean": float(luminance.mean()) / 255,
        "intensity_sd": deviation / 255,
        "intensity_p05": low,
        "intensity_p95": high,
        "contrast": (high - low) / (high + low) if high + low > 0 else None,
        "entropy": float(-(shares * np.log2(shares)).sum()),
        "sharpness": float(cv2.Laplacian(luminance, cv2.CV_32F).std()) / deviation,
    }
