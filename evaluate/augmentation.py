"""What training sees of a photograph: another view in every epoch, the same one whenever it is drawn again."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from evaluate.finetune import ImageCell


class Views:
    """Augmented views of one epoch: each photograph's is decided by the seed, the epoch and the photograph alone."""

    def __init__(self, cell: ImageCell, epoch: int) -> None:
        from timm.data import create_transform

        info, settings = cell.model.info, cell.settings
        self.cell, self.epoch = cell, epoch
        self.transform = create_transform(
            tuple(info["input_size"]),
            is_training=True,
            scale=(settings.crop, 1.0),
            color_jitter=0.0,
            auto_augment=None if settings.augment == "none" else settings.augment,
            interpolation="bicubic",
            re_prob=settings.erase,
            re_mode="pixel",
            mean=tuple(info["mean"]),
            std=tuple(info["std"]),
        )
        for step in self.transform.transforms:
            for operation in getattr(step, "ops", ()):
                if operation.name.startswith("Posterize"):
                    operation.aug_fn = _posterize

    def __getitem__(self, row: int) -> Any:
        import torch
        from PIL import Image

        number = seed_of(self.cell.seed, 3, self.epoch, row)
        np.random.seed(number % 2**32)
        torch.manual_seed(number)
        with _private_random(number):
            return self.transform(Image.fromarray(self.cell.images[self.cell.places[row]]))


@contextmanager
def _private_random(number: int) -> Iterator[None]:
    """Let timm's transforms draw from a generator of their own: other threads (a Dask worker's) draw from Python's."""
    from timm.data import auto_augment, random_erasing, transforms

    modules: Sequence[Any] = (auto_augment, random_erasing, transforms)
    own = random.Random(number)
    for module in modules:
        module.random = own
    try:
        yield
    finally:
        for module in modules:
            module.random = random


def _posterize(image: Any, bits: int, **_: Any) -> Any:
    """Keep some bits of each channel, one at least: at full strength RandAugment asks for none, which Pillow refuses."""
    from PIL import ImageOps

    return ImageOps.posterize(image, min(max(bits, 1), 8))


def seed_of(*parts: int) -> int:
    """Make one seed of several integers."""
    return int(np.random.SeedSequence([part % 2**64 for part in parts]).generate_state(1, np.uint64)[0] >> np.uint64(1))
