"""Reconstruction pictures: what went in, what the encoder saw, what the decoder made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from curate import writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.data import Batch
    from pretrain.mae import Mae

_GAP = 4


def reconstruction_grid(method: Mae, batch: Batch) -> NDArray[np.uint8]:
    """Draw one row an image: input, masked input, reconstruction.

    Args:
        method: in any mode; left as it was.
        batch: on the method's device; its images and masks are used as they are.

    Returns:
        uint8 [H, W, 3], RGB, white between the images.
    """
    training = method.training
    method.eval()
    masked, filled = method.reconstruct(batch)
    method.train(training)
    columns = [t.permute(0, 2, 3, 1).cpu().numpy() for t in (batch.images, masked, filled)]
    size = columns[0].shape[1]
    grid = np.full((len(batch) * (size + _GAP) - _GAP, 3 * (size + _GAP) - _GAP, 3), 255, dtype=np.uint8)
    for c, images in enumerate(columns):
        for r, image in enumerate(images):
            grid[r * (size + _GAP) :, c * (size + _GAP) :][:size, :size] = image
    return grid


def write_picture(path: Path, grid: NDArray[np.uint8]) -> None:
    """Write an RGB image as PNG, atomically."""
    _, data = cv2.imencode(".png", cv2.cvtColor(grid, cv2.COLOR_RGB2BGR))
    with writing(path) as file:
        file.write(data.tobytes())
