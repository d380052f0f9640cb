"""Views: what is cut out of a photograph, drawn from the sample's own random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.batch import Batch


class Views(Protocol):
    """What a method wants to see of an image."""

    def allocate(self, samples: int) -> Batch:
        """Make an empty batch."""

    def deal(self, samples: int, rng: np.random.Generator) -> Sequence[Any]:
        """Share out what must be even over a global batch: one item a sample, which `fill` gets."""

    def fill(self, batch: Batch, place: int, image: NDArray[np.uint8], rng: np.random.Generator, dealt: Any) -> None:
        """Write the views of one image (uint8 [H, W, 3], RGB) into its place."""

    def whole(self) -> Views:
        """Give the same views without the chance in them: nothing cropped or flipped, for pictures."""


def crop_box(
    height: int, width: int, rng: np.random.Generator, *, area: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int, int, int]:
    """Draw the crop of a random resized crop (Szegedy et al. 2015, as torchvision's RandomResizedCrop does it).

    Args:
        height: of the image, pixels.
        width: likewise.
        rng: source of the draw; the same count of numbers is taken whatever happens.
        area: smallest and largest share of the area.
        aspect: smallest and largest width / height, drawn evenly in its logarithm.

    Returns:
        top, left, height, width. Where ten draws do not fit, the largest central crop with an allowed aspect.
    """
    draws = rng.random((10, 2))
    corner = rng.random(2)
    low, high = math.log(aspect[0]), math.log(aspect[1])
    for share, shape in draws.tolist():
        pixels = height * width * (area[0] + share * (area[1] - area[0]))
        ratio = math.exp(low + shape * (high - low))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(corner[0] * (height - h + 1)), int(corner[1] * (width - w + 1)), h, w
    w = min(width, round(height * aspect[1]))
    h = min(height, round(width / aspect[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(image: NDArray[np.uint8], box: tuple[int, int, int, int], size: int) -> Tensor:
    """Crop and resize, bicubic with antialiasing.

    On fundus photographs 99 values in 100 are within one grey level of what PIL computes, all within five.
    OpenCV's cubic kernel takes half the time, but has no antialiasing and another parameter: up to 49 levels away.

    Args:
        image: uint8 [H, W, 3].
        box: top, left, height, width.
        size: side of the result, pixels.

    Returns:
        uint8 [3, size, size].
    """
    top, left, height, width = box
    crop = torch.from_numpy(image)[top : top + height, left : left + width].permute(2, 0, 1).unsqueeze(0)
    return torch.nn.functional.interpolate(crop, size=(size, size), mode="bicubic", antialias=True)[0]
