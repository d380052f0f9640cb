"""The truth beside a photograph: masks as small PNGs, and what can be measured on them without error."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np

from curate.phantom.anatomy import Anatomy
from curate.phantom.vessels import STEP
from curate.phantom.view import VesselMaps, View, field_of_view

# Colours of the artery and vein mask: background, artery red, vein blue, crossing green.
ARTERY_VEIN_PALETTE = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 255, 0))


def fractal_dimension(mask: np.ndarray) -> float:
    """Measure the box-counting dimension of a mask (Liebovitch and Toth 1989).

    Boxes of 2, 4, 8 ... pixels up to a quarter of the width; the slope of the log of how many hold a vessel.

    Args:
        mask: (h, w) bool.

    Returns:
        The dimension; NaN where the mask is empty.

    Example:
        >>> line = np.zeros((256, 256), bool); line[128] = True
        >>> round(fractal_dimension(line), 3), round(fractal_dimension(np.ones((256, 256), bool)), 3)
        (1.0, 2.0)
    """
    if not mask.any():
        return float("nan")
    side = 1 << (max(mask.shape) - 1).bit_length()
    boxes = np.zeros((side, side), bool)
    boxes[: mask.shape[0], : mask.shape[1]] = mask
    sizes, counts = [], []
    size = 1
    while 2 * size <= max(mask.shape) // 4:
        boxes = boxes[0::2] | boxes[1::2]
        boxes = boxes[:, 0::2] | boxes[:, 1::2]
        size *= 2
        sizes.append(size)
        counts.append(int(np.count_nonzero(boxes)))
    return float(-np.polyfit(np.log(sizes), np.log(counts), 1)[0])


def measure_vessels(maps: VesselMaps, anatomy: Anatomy, view: View) -> dict[str, float]:
    """Measure the vessels as they truly lie in the photograph's field of view.

    Returns:
        vessel_density, artery_density and vein_density (share of the field of view), fractal_dimension,
        artery_fractal_dimension and vein_fractal_dimension (by box counting), and distance_tortuosity (length over
        chord, mean over vessels weighted by length).
    """
    field = field_of_view(view.size, view.flat) > 0.5
    area = float(np.count_nonzero(field))
    artery, vein = maps.artery & field, maps.vein & field
    both = artery | vein
    long = [v.points for v in anatomy.vessels if len(v.points) > 5]
    # Points lie `STEP` apart.
    length = STEP * np.array([len(points) - 1 for points in long])
    chord = np.hypot(*(np.array([points[-1] for points in long]) - np.array([points[0] for points in long])).T)
    return {
        "vessel_density": np.count_nonzero(both) / area,
        "artery_density": np.count_nonzero(artery) / area,
        "vein_density": np.count_nonzero(vein) / area,
        "fractal_dimension": fractal_dimension(both),
        "artery_fractal_dimension": fractal_dimension(artery),
        "vein_fractal_dimension": fractal_dimension(vein),
        "distance_tortuosity": float((length * np.clip(length / np.maximum(chord, 1e-3), 1.0, 3.0)).sum() / length.sum()),
    }


def encode_mask(mask: np.ndarray) -> bytes:
    """Encode a mask, (h, w) bool, as a PNG of one bit a pixel."""
    return _png(np.packbits(mask, axis=1), mask.shape, depth=1, palette=None)


def encode_artery_vein(artery: np.ndarray, vein: np.ndarray) -> bytes:
    """Encode two masks, (h, w) bool, as one PNG of two bits a pixel in the colours of `ARTERY_VEIN_PALETTE`."""
    height, width = artery.shape
    bits = np.zeros((height, width, 2), bool)
    bits[..., 0], bits[..., 1] = vein, artery
    return _png(np.packbits(bits.reshape(height, 2 * width), axis=1), (height, width), depth=2, palette=ARTERY_VEIN_PALETTE)


def _png(rows: np.ndarray, shape: tuple[int, ...], *, depth: int, palette: tuple[tuple[int, int, int], ...] | None) -> bytes:
    """Write a PNG (ISO/IEC 15948) of packed rows: grey, or with a palette."""
    lines = np.zeros((rows.shape[0], rows.shape[1] + 1), np.uint8)  # each line begins with its filter, none
    lines[:, 1:] = rows
    header = struct.pack(">IIBBBBB", shape[1], shape[0], depth, 3 if palette else 0, 0, 0, 0)
    parts = [_chunk(b"IHDR", header)]
    if palette:
        parts.append(_chunk(b"PLTE", bytes(value for colour in palette for value in colour)))
    parts += [_chunk(b"IDAT", zlib.compress(lines.tobytes(), 4)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def encode_jpeg(picture: np.ndarray, quality: int = 92) -> bytes:
    """Encode a picture, (h, w, 3) uint8 blue, green, red, as a JPEG."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
