"""What DINOv2 sees of a photograph: two large crops, several small ones, hidden patches, and changes of colour.

Cropping, resizing and flipping are done here, on the loader's threads. The changes of colour are only drawn here, and done
later to the whole batch on the training device (`pretrain.dinov2.colour`): they are most of the work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from pretrain.batch import Batch
from pretrain.dinov2.colour import COLUMNS, draw_colour
from pretrain.dinov2.masks import block_mask, deal_ratios
from pretrain.recipe import Colour, LocalCrops
from pretrain.views import crop_box, resize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.recipe import Data

_UNCHANGED = Colour(jitter_probability=0.0, grey=0.0, blur=(0.0, 0.0, 0.0), solarise=(0.0, 0.0, 0.0))


@dataclass(frozen=True)
class MultiCrop:
    """DINOv2's view (Oquab et al. 2024, as the official code makes it): two global crops, L local crops, masks, colours.

    A batch holds ``global``, uint8 [B, 2, 3, S, S]; ``local``, uint8 [B, L, 3, s, s]; ``masks``, bool [B, 2, N], True where
    a patch of a global crop is hidden from the student; ``colour``, float32 [B, 2 + L, 8], what
    `pretrain.dinov2.colour.normalised` is to do to the global and then the local crops.

    Attributes:
        data: the recipe's section.
        grid: rows and columns of patches of a global crop; N = rows x columns.
        mask_share: share of the global crops that are masked.
        mask_ratio: smallest and largest share of a masked crop's patches.
    """

    data: Data
    grid: tuple[int, int]
    mask_share: float = 0.5
    mask_ratio: tuple[float, float] = (0.1, 0.5)

    @property
    def _local(self) -> LocalCrops:
        return self.data.local if self.data.local is not None else LocalCrops(crops=0)

    def allocate(self, samples: int) -> Batch:
        """Make an empty batch."""
        size, local = self.data.size, self._local
        return Batch(
            {
                "global": torch.empty(samples, 2, 3, size, size, dtype=torch.uint8),
                "local": torch.empty(samples, local.crops, 3, local.size, local.size, dtype=torch.uint8),
                "masks": torch.empty(samples, 2, self.grid[0] * self.grid[1], dtype=torch.bool),
                "colour": torch.empty(samples, 2 + local.crops, len(COLUMNS), dtype=torch.float32),
            }
        )

    def deal(self, samples: int, rng: np.random.Generator) -> Sequence[tuple[float, float]]:
        """Share out the mask ratios over the global batch: one pair a sample, 0 for a crop that is not masked."""
        return deal_ratios(samples, rng, share=self.mask_share, ratios=self.mask_ratio)

    def fill(
        self, batch: Batch, place: int, image: NDArray[np.uint8], rng: np.random.Generator, dealt: tuple[float, float] = (0.0, 0.0)
    ) -> None:
        """Write the views of one image (uint8 [H, W, 3]) into their place.

        Args:
            batch: from `allocate`.
            place: the sample's, within the batch.
            image: RGB.
            rng: source of the sample's draws.
            dealt: the sample's item from `deal`.
        """
        data, local = self.data, self._local
        height, width, _ = image.shape
        crops = [(batch["global"][place], data.size, data.crop_area), (batch["local"][place], local.size, local.crop_area)]
        for views, size, area in crops:
            for view in views:
                box = crop_box(height, width, rng, area=area, aspect=data.crop_aspect)
                flipped = rng.random() < data.flip
                crop = resize(image, box, size)
                view.copy_(crop.flip(-1) if flipped else crop)
        patches = self.grid[0] * self.grid[1]
        for mask, ratio in zip(batch["masks"][place], dealt, strict=True):
            mask.copy_(torch.from_numpy(block_mask(self.grid, int(patches * ratio), rng)))
        kinds = np.array([0, 1] + [2] * local.crops)
        batch["colour"][place] = torch.from_numpy(draw_colour(data.colour or _UNCHANGED, kinds, rng))

    def whole(self) -> MultiCrop:
        """Give the same views with nothing cropped but the sides, nothing flipped or hidden, no colour changed."""
        plain = {"crop_area": (1.0, 1.0), "crop_aspect": (1.0, 1.0), "flip": 0.0, "colour": _UNCHANGED}
        local = self._local.model_copy(update={"crop_area": (1.0, 1.0)})
        return replace(self, data=self.data.model_copy(update={**plain, "local": local}), mask_share=0.0)
