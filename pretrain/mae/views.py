"""What MAE sees of a photograph: one crop, and which of its patches are removed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.batch import Batch
from pretrain.views import crop_box, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.recipe import Data


def split_patches(patches: int, kept: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw which patches stay: every subset of `kept` of them is equally likely.

    Returns:
        Positions kept (int64 [kept]) and removed (int64 [patches - kept]), each in ascending order.
    """
    order = rng.permutation(patches)
    return np.sort(order[:kept]), np.sort(order[kept:])


@dataclass(frozen=True)
class MaeViews:
    """MAE's view: random resized crop, flip, and the patches that stay.

    A batch holds ``images``, uint8 [B, 3, S, S]; ``visible``, int64 [B, K], positions of the patches that the encoder sees;
    ``hidden``, int64 [B, M], those of the removed ones.

    Attributes:
        data: the recipe's section.
        patches: patches of an image.
        kept: those that the encoder sees.
    """

    data: Data
    patches: int
    kept: int

    def allocate(self, samples: int) -> Batch:
        """Make an empty batch."""
        size = self.data.size
        return Batch(
            {
                "images": torch.empty(samples, 3, size, size, dtype=torch.uint8),
                "visible": torch.empty(samples, self.kept, dtype=torch.int64),
                "hidden": torch.empty(samples, self.patches - self.kept, dtype=torch.int64),
            }
        )

    def deal(self, samples: int, rng: np.random.Generator) -> list[None]:
        """Share nothing out: every sample is drawn on its own."""
        return [None] * samples

    def fill(self, batch: Batch, place: int, image: NDArray[np.uint8], rng: np.random.Generator, dealt: None = None) -> None:
        """Write the view of one image (uint8 [H, W, 3]) into its place."""
        height, width, _ = image.shape
        box = crop_box(height, width, rng, area=self.data.crop_area, aspect=self.data.crop_aspect)
        flip = rng.random() < self.data.flip
        view = resize(image, box, self.data.size)
        batch["images"][place] = view.flip(-1) if flip else view
        visible, hidden = split_patches(self.patches, self.kept, rng)
        batch["visible"][place] = torch.from_numpy(visible)
        batch["hidden"][place] = torch.from_numpy(hidden)

    def whole(self) -> MaeViews:
        """Give the same views with nothing cropped but the sides, and nothing flipped."""
        return replace(self, data=self.data.model_copy(update={"crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0), "flip": 0.0}))
