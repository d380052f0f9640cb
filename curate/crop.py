"""Cropping: a photograph cut to what its modality's camera saw.

A fundus photograph is cut to the square around its field of view, black outside the field, and filled up with black
where the frame cut the field off: every camera's disc then has the same place and size, as after AutoMorph's
preprocessing in Zhou et al. Labels that a camera burns into the corners go with the surround. Any other image loses
borders of one colour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from curate.errors import UserError, nearest

_SMALL = 512  # px: the search works on a copy of at most this size
_MARGIN = 1.01  # of the field's half-axes: the rim is found to 0.2 % of the diameter, and its blur belongs to it
_PAPER = 245  # grey level from which a pixel is white paper
_LEVELS = 12  # grey levels by which the pixels of a border of one colour differ (JPEG noise)


@dataclass(frozen=True)
class Crop:
    """A rectangle to cut out, in pixels of the photograph; it may reach beyond the frame, where it is filled with black.

    Attributes:
        left, top, right, bottom: edges, as in Pillow's boxes.
        square: bring it to a square, for a field that uneven resizing made an ellipse.
        disc: black outside the ellipse inscribed in it.
        paper: the photograph stands on white paper, which is made black.
    """

    left: int
    top: int
    right: int
    bottom: int
    square: bool = False
    disc: bool = False
    paper: bool = False

    @classmethod
    def everything(cls, width: int, height: int) -> Crop:
        """The whole frame."""
        return cls(0, 0, width, height)

    def is_everything(self, width: int, height: int) -> bool:
        """Whether nothing of a frame of that size is cut, added or blackened."""
        return self == Crop.everything(width, height)

    def apply(self, image: Image.Image, size: int) -> Image.Image:
        """Cut, then bring the shorter side down to `size` pixels by cubic resampling with antialiasing.

        Args:
            image: RGB.
            size: pixels; 0 keeps the size, and a smaller cut is not enlarged.
        """
        image = _without_paper(image) if self.paper else image
        cut = image if self.is_everything(*image.size) else image.crop((self.left, self.top, self.right, self.bottom))
        width, height = (max(cut.size), max(cut.size)) if self.square else cut.size
        if 0 < size < min(width, height):
            scale = size / min(width, height)
            width, height = max(1, round(width * scale)), max(1, round(height * scale))
        if (width, height) != cut.size:
            cut = cut.resize((width, height), Image.Resampling.BICUBIC)
        if self.disc:
            cut = Image.composite(cut, Image.new("RGB", cut.size), _disc(*cut.size))
        return cut


def check_modality(modality: str) -> None:
    """Refuse a modality that has no field of view here.

    Raises:
        UserError: with those that have one.
    """
    if modality not in FINDERS:
        raise UserError(f"--modality {modality}: unknown{nearest(modality, FINDERS)}")


def find_crop(image: Image.Image, modality: str) -> Crop | None:
    """Find what to cut out of a photograph.

    Args:
        image: RGB.
        modality: one of `FINDERS`.

    Returns:
        The cut (the whole frame where the field of view fills it), or None where no field of view was found.
    """
    width, height = image.size
    pixels = np.asarray(image)
    shrink = max(width, height) / _SMALL
    if shrink > 1:
        import cv2

        small = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        pixels = cv2.resize(pixels, small, interpolation=cv2.INTER_AREA)
    return FINDERS[modality](pixels, width, height)


def _retina(pixels: np.ndarray, width: int, height: int) -> Crop | None:
    """Give the square around the field of view of a fundus photograph."""
    from curate.retina.field import find_field

    found = find_field(pixels)
    if found is None:
        return None
    if found.rim == 0:  # the photograph lies wholly inside its field: there is nothing around it to cut away
        return Crop.everything(width, height)
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    x, y = (found.x + 0.5) * across, (found.y + 0.5) * down
    a, b = found.radius_x * across * _MARGIN, found.radius_y * down * _MARGIN
    round_field = abs(found.radius_x * across / (found.radius_y * down) - 1) < 0.02
    if round_field:
        a = b = (a + b) / 2
    left, top = round(x - a), round(y - b)
    corners = pixels[:: pixels.shape[0] - 1, :: pixels.shape[1] - 1] if min(pixels.shape[:2]) > 1 else pixels
    return Crop(
        left, top, left + max(1, round(2 * a)), top + max(1, round(2 * b)),
        square=not round_field, disc=True, paper=bool((corners.min(axis=2) >= _PAPER).mean() >= 0.5),
    )  # fmt: skip


def _generic(pixels: np.ndarray, width: int, height: int) -> Crop | None:
    """Give what lies inside borders of one colour; None where the whole image is of one colour."""
    top, right, bottom, left = 0, pixels.shape[1], pixels.shape[0], 0
    for _ in range(3):  # a border may lie inside another
        inside = pixels[top:bottom, left:right]
        above = _border(inside)
        if above == len(inside):
            return None
        below, before, after = _border(inside[::-1]), _border(inside.swapaxes(0, 1)), _border(inside.swapaxes(0, 1)[::-1])
        top, bottom, left, right = top + above, bottom - below, left + before, right - after
        if top >= bottom or left >= right:  # colours that change little by little
            return None
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    # Outwards to whole pixels: nothing of the image is lost.
    return Crop(int(left * across), int(top * down), -int(-right * across // 1), -int(-bottom * down // 1))


def _border(pixels: np.ndarray) -> int:
    """Count the rows from the top that are of the first row's one colour."""
    colour = np.median(pixels[0], axis=0)
    same = (np.abs(pixels - colour.astype(np.int16)) <= _LEVELS).all(axis=(1, 2))
    return int(same.argmin()) if not same.all() else len(same)


def _without_paper(image: Image.Image) -> Image.Image:
    """Make black what is white and joined to the frame's edge."""
    import cv2

    pixels = np.array(image)
    white = cv2.dilate((pixels.min(axis=2) >= _PAPER).astype(np.uint8), np.ones((5, 5), np.uint8))
    _, regions = cv2.connectedComponents(white, connectivity=4)
    edge = np.unique(np.concatenate([regions[0], regions[-1], regions[:, 0], regions[:, -1]]))
    pixels[np.isin(regions, edge[edge > 0])] = 0
    return Image.fromarray(pixels)


@lru_cache(maxsize=2)
def _disc(width: int, height: int) -> Image.Image:
    x, y = ((np.arange(n, dtype=np.float32) - (n - 1) / 2) / (n / 2) for n in (width, height))
    return Image.fromarray(((x[None, :] ** 2 + y[:, None] ** 2 <= 1) * np.uint8(255)).astype(np.uint8), "L")


# Modality -> finder of its field of view: (pixels of a reduced copy (h, w, 3) uint8, the photograph's width, height) -> cut.
FINDERS: dict[str, Callable[[np.ndarray, int, int], Crop | None]] = {"retina": _retina, "generic": _generic}
