"""What of a photograph goes into a shard: cut to the field of view, resized, stripped of what says whose it is."""

from __future__ import annotations

import io
from typing import NamedTuple

from PIL import Image, ImageOps

from curate.crop import Crop, find_crop
from curate.jpeg import read_jpeg
from curate.photographs import to_eight_bits

CHROMA = "4:2:0"  # of what is encoded anew; Pillow's default, stated in sample.json
_ORIENTATION = 0x0112


class Rendered(NamedTuple):
    """A photograph as it goes into a shard.

    Attributes:
        jpeg: the file.
        width, height: pixels.
        original: whether it is the original file, byte for byte.
        encoded: whether it was encoded anew.
        found: whether the field of view was found, where one was looked for.
    """

    jpeg: bytes
    width: int
    height: int
    original: bool = False
    encoded: bool = False
    found: bool = True


def render(data: bytes, *, size: int, quality: int, crop: str | None = None) -> Rendered:
    """Make the JPEG that goes into a shard: no metadata but the colour profile, upright, three channels.

    Args:
        data: an image file.
        size: pixels along the shorter side after cubic resampling with antialiasing; a smaller image is not enlarged.
            0 keeps the size; a JPEG that needs neither turning nor cutting keeps its own pixels bit for bit (a grey
            one its single channel).
        quality: JPEG quality of what is encoded anew (chroma at half resolution).
        crop: the modality to whose field of view it is cut (see `curate.crop`); None keeps the whole frame.

    Raises:
        OSError: where it can't be decoded; also ValueError, SyntaxError.
    """
    whole = _as_it_is(data)
    if whole is not None and not crop and not 0 < size < min(whole.width, whole.height):
        # Its SHA-256 is that of the file that decoded at ingest: no need to decode it again.
        return whole
    with Image.open(io.BytesIO(data)) as image:
        profile = image.info.get("icc_profile", b"")
        upright = ImageOps.exif_transpose(to_eight_bits(image)).convert("RGB")
    cut = find_crop(upright, crop) if crop else Crop.everything(upright.width, upright.height)
    found = cut is not None
    cut = cut or Crop.everything(upright.width, upright.height)
    if whole is not None and cut.is_everything(upright.width, upright.height) and not 0 < size < min(upright.size):
        return whole._replace(found=found)
    made = cut.apply(upright, size)
    buffer = io.BytesIO()
    # What the original carries (a comment, XMP) would be written again by Pillow if it stayed here.
    made.info = {}
    made.save(buffer, "JPEG", quality=quality, subsampling=CHROMA, icc_profile=profile if profile[16:20] == b"RGB " else None)
    return Rendered(buffer.getvalue(), *made.size, encoded=True, found=found)


def _as_it_is(data: bytes) -> Rendered | None:
    """Give a photograph whose own coded pixels can be shown as they are, without its metadata; None where they can't."""
    if data[:2] != b"\xff\xd8":
        return None
    try:
        jpeg = read_jpeg(data)
    except OSError:  # a structure that Pillow may still make sense of
        return None
    if jpeg.channels not in (1, 3) or not jpeg.width or not jpeg.height:
        return None
    if jpeg.tagged:
        with Image.open(io.BytesIO(data)) as image:
            if image.getexif().get(_ORIENTATION, 1) != 1:
                return None
    return Rendered(jpeg.stripped, jpeg.width, jpeg.height, original=jpeg.stripped is data)
