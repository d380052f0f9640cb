"""JPEG files as they lie on disk: their size, and what of them is needed to show them, without decoding."""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

_START, _END, _SCAN = 0xD8, 0xD9, 0xDA
# Frames that PIL and every browser decode: baseline, extended, progressive (Huffman or arithmetic coding).
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC9, 0xCA})
# In coded data 0xFF is followed by 0 (a stuffed byte), a restart mark or another fill byte; anything else ends them.
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


class Jpeg(NamedTuple):
    """What a pass over a JPEG file's structure found.

    Attributes:
        width, height: pixels, as stored; 0 where the file has no frame.
        channels: 1, 3 or 4; 0 where the file has no frame of 8 bits that is in common use.
        tagged: whether it has EXIF or XMP, which may say that it is to be turned.
        stripped: the file without anything that isn't needed to show it; the same object as the file where nothing was to go.
    """

    width: int
    height: int
    channels: int
    tagged: bool
    stripped: bytes


def read_jpeg(data: bytes) -> Jpeg:
    """Go through a JPEG file once: how large it is, and the file without EXIF, XMP, IPTC, comments, thumbnails, trailing bytes.

    Coded pixels are untouched. Kept are the JFIF header (without its thumbnail), the colour profile and Adobe's
    colour transform.

    Args:
        data: the file.

    Raises:
        OSError: where it isn't a JPEG or its structure is broken.
    """
    if data[:2] != b"\xff\xd8":
        raise OSError("not a JPEG")
    kept = [b"\xff\xd8"]
    position = begun = 2  # data[begun:position] is to be kept and not yet in `kept`
    width = height = channels = scans = 0
    tagged = False
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise OSError("broken JPEG structure")
        marker = data[position + 1]
        if marker == _END:
            break
        if marker == 0xFF:  # a fill byte
            kept.append(data[begun:position])
            position = begun = position + 1
            continue
        length = data[position + 2] << 8 | data[position + 3]
        end = position + 2 + length
        if length < 2 or end > len(data):
            raise OSError("broken JPEG structure")
        if marker == _SCAN:
            end = _end_of_scan(data, end, first=not scans)
            scans += 1
        elif marker in _FRAMES and length >= 8:
            height, width = data[position + 5] << 8 | data[position + 6], data[position + 7] << 8 | data[position + 8]
            channels = data[position + 9] if data[position + 4] == 8 else 0
        elif marker == 0xFE or 0xE0 <= marker <= 0xEF:
            tagged |= marker == 0xE1
            replacement = _shown_with(marker, data[position:end])
            if replacement is not None:
                kept += [data[begun:position], replacement]
                begun = end
        position = end
    if begun == 2 and data[position:] == b"\xff\xd9":
        return Jpeg(width, height, channels, tagged, data)
    return Jpeg(width, height, channels, tagged, b"".join([*kept, data[begun:position], b"\xff\xd9"]))


def _end_of_scan(data: bytes, start: int, *, first: bool) -> int:
    """Find the marker that ends a scan's coded data, or the end of the file."""
    if first:
        # Nearly all photographs have one scan without restart marks, and arrays are searched three times as fast as bytes.
        coded = np.frombuffer(data, np.uint8, offset=start)
        marks = (coded[:-1] == 0xFF) & (coded[1:] != 0)
        found = int(marks.argmax()) if len(marks) else 0
        if not len(marks) or not marks[found]:
            return len(data)
        start += found
    match = _MARKER.search(data, start)
    return match.start() if match else len(data)


def _shown_with(marker: int, segment: bytes) -> bytes | None:
    """Say what stays of an application's segment or a comment; None: all of it."""
    if marker == 0xE0 and segment[4:9] == b"JFIF\0" and len(segment) >= 18:
        return None if len(segment) == 18 and segment[16:] == b"\0\0" else b"\xff\xe0\x00\x10" + segment[4:16] + b"\0\0"
    if (marker == 0xE2 and segment[4:16] == b"ICC_PROFILE\0") or (marker == 0xEE and segment[4:9] == b"Adobe" and len(segment) == 16):
        return None
    return b""
