"""Pictures of photographs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from curate import writing

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_GAP = 4


def grid_of(columns: Sequence[Tensor]) -> NDArray[np.uint8]:
    """Put images side by side, one row a photograph.

    Args:
        columns: each uint8 [B, 3, S, S].

    Returns:
        uint8 [H, W, 3], RGB, white between the images.
    """
    arrays = [t.permute(0, 2, 3, 1).cpu().numpy() for t in columns]
    rows, size = arrays[0].shape[:2]
    grid = np.full((rows * (size + _GAP) - _GAP, len(arrays) * (size + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for c, images in enumerate(arrays):
        for r, image in enumerate(images):
            grid[r * (size + _GAP) :, c * (size + _GAP) :][:size, :size] = image
    return grid


def write_picture(path: Path, grid: NDArray[np.uint8]) -> None:
    """Write an RGB image as PNG, atomically."""
    _, data = cv2.imencode(".png", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))
    with writing(path) as file:
        file.write(data.tobytes())
