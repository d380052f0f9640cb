"""Photographs on disk: whether they decode, how large they are, and what they are in grey."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from curate.likeness import hashes

# A decompression bomb is a damaged image, not a crash: Pillow warns from this size on and refuses twice of it.
Image.MAX_IMAGE_PIXELS = 200_000_000
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_grey(data: bytes) -> tuple[np.ndarray, int, int]:
    """Decode a photograph to its end, upright and in grey, no larger than recognising it needs.

    Args:
        data: an image file.

    Returns:
        (H, W) uint8, a JPEG's at a fraction of its size but at least 128 pixels where it has them, and the photograph's
        full width and height in pixels.

    Raises:
        OSError: where it can't be decoded; also ValueError, SyntaxError, EOFError, Image.DecompressionBombError.
    """
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        turned = image.getexif().get(0x0112, 1) != 1
        image.draft("L", (128, 128))
        grey = to_eight_bits(image).convert("L")
        return np.asarray(ImageOps.exif_transpose(grey) if turned else grey), width, height


def examine(folder: str, path: str) -> dict[str, Any]:
    """Read one photograph and say what it is.

    Args:
        folder: the image folder; the file must be inside it once links are followed.
        path: relative to the folder.

    Returns:
        ``sha256``, ``phash`` and ``fine`` (see `curate.likeness.hashes`), ``width``, ``height`` (pixels); or
        ``fault`` (a rule of the ledger) and ``reason``.
    """
    full = os.path.join(folder, path)
    root = os.path.realpath(folder)
    real = os.path.realpath(full)
    if os.path.commonpath([root, real]) != root:
        return {"fault": "path-outside", "reason": "outside the image folder"}
    try:
        data = Path(real).read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return {"fault": "image-missing", "reason": "no such file"}
    except (OSError, ValueError) as error:
        return {"fault": "image-damaged", "reason": getattr(error, "strerror", None) or str(error)}
    try:
        grey, width, height = read_grey(data)
    except UnidentifiedImageError:
        return {"fault": "image-damaged", "reason": "not an image"}
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return {"fault": "image-damaged", "reason": " ".join(str(error).split())}
    phash, fine = hashes(grey)
    return {"sha256": hashlib.sha256(data).hexdigest(), "phash": phash, "fine": fine, "width": width, "height": height}


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit or floating-point image to 8 bits by its own maximum; others come back as they are.

    Raises:
        OSError: where a value is not a finite number.
    """
    if image.mode not in ("I", "F", "I;16", "I;16B", "I;16L"):
        return image
    values = np.asarray(image, dtype=np.float64)
    if not np.isfinite(values).all():
        raise OSError("holds values that are not numbers")
    top = float(values.max()) if values.size else 0.0
    scaled = np.clip(values * (255.0 / top), 0, 255) if top > 0 else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))
