"""Photographs on disk: whether they decode, how large they are, and two hashes that recognise them again."""

from __future__ import annotations

import hashlib
import io
import os
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Image.MAX_IMAGE_PIXELS = 200_000_000  # a decompression bomb is a damaged image, not a crash


def perceptual_hash(grey: np.ndarray) -> str:
    """Hash what a photograph looks like, so that copies saved again or resized nearly agree.

    The signs, against their median, of the 8 x 8 lowest frequencies of the cosine transform of the photograph at
    32 x 32 pixels (the constant left out of the median).

    Args:
        grey: (H, W), uint8.

    Returns:
        64 bits as 16 hexadecimal digits.
    """
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return f"{int(''.join('1' if b else '0' for b in bits), 2):016x}"


def examine(folder: str, path: str) -> dict[str, Any]:
    """Read one photograph and say what it is.

    Args:
        folder: the image folder; the file must be inside it once links are followed.
        path: relative to the folder.

    Returns:
        ``sha256``, ``phash``, ``width``, ``height`` (pixels), or ``fault`` (a rule of the ledger) and ``reason``.
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
        with Image.open(io.BytesIO(data)) as image:
            width, height = image.size
            image.draft("L", (128, 128))  # a JPEG is decoded at an eighth, and still read to its end
            grey = np.asarray(to_eight_bits(image).convert("L"))
    except UnidentifiedImageError:
        return {"fault": "image-damaged", "reason": "not an image"}
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        return {"fault": "image-damaged", "reason": " ".join(str(error).split())}
    return {"sha256": hashlib.sha256(data).hexdigest(), "phash": perceptual_hash(grey), "width": width, "height": height}


def to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a 16-bit, 32-bit or floating-point image to 8 bits by its own maximum; others come back as they are."""
    if image.mode not in ("I", "F", "I;16", "I;16B", "I;16L"):
        return image
    values = np.asarray(image, dtype=np.float64)
    top = float(values.max()) if values.size else 0.0
    scaled = np.clip(values * (255.0 / top), 0, 255) if top > 0 else np.zeros_like(values)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def prepare(data: bytes, *, size: int, quality: int) -> tuple[bytes, int, int]:
    """Make the JPEG that goes into a shard: no metadata but colour, upright, three channels.

    Args:
        data: an image file.
        size: pixels along the shorter side after cubic resampling with antialiasing; a smaller image is not enlarged.
            0 keeps a JPEG's own pixels bit for bit.
        quality: JPEG quality of what is encoded anew (chroma at half resolution).

    Returns:
        The JPEG, its width and its height in pixels.

    Raises:
        OSError: where it can't be decoded.
    """
    with Image.open(io.BytesIO(data)) as image:
        turned = image.getexif().get(0x0112, 1) != 1
        plain = image.format == "JPEG" and image.mode in ("RGB", "L") and not turned
        if plain and (size == 0 or min(image.size) <= size):
            # Its SHA-256 is that of the file that decoded at ingest: no need to decode it again.
            return strip_jpeg(data), *image.size
        upright = ImageOps.exif_transpose(to_eight_bits(image)).convert("RGB")
    if 0 < size < min(upright.size):
        scale = size / min(upright.size)
        width, height = (max(1, round(side * scale)) for side in upright.size)
        upright = upright.resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    upright.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue(), *upright.size


_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def strip_jpeg(data: bytes) -> bytes:
    """Drop everything from a JPEG that isn't needed to show it: EXIF, XMP, IPTC, comments, bytes after its end.

    Pixels are untouched. Kept are the JFIF header, the colour profile and Adobe's colour transform.

    Raises:
        OSError: where the file's structure is broken.
    """
    if data[:2] != b"\xff\xd8":
        raise OSError("not a JPEG")
    kept, position = [b"\xff\xd8"], 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise OSError("broken JPEG structure")
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xD9:
            break
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        segment = data[position:end]
        if marker == 0xDA:  # a scan: its header, then coded data up to the next marker
            found = _MARKER.search(data, end)
            end = found.start() if found else len(data)
            segment = data[position:end]
        private = 0xE1 <= marker <= 0xEF and marker != 0xEE and not (marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\0")
        if not private and marker != 0xFE:
            kept.append(segment)
        position = end
    return b"".join([*kept, b"\xff\xd9"])
