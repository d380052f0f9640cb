"""DINOv2's views: shapes, distributions, masks, and the same for any worker, rank and start."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import stats

from curate import open_shards
from pretrain.data import Loader
from pretrain.dinov2.colour import COLUMNS, UNCHANGED
from pretrain.dinov2.views import MultiCrop
from pretrain.order import batch_generator, view_generator
from pretrain.recipe import Colour, Data, LocalCrops

DATA = Data(size=32, crop_area=(0.32, 1.0), local=LocalCrops(crops=3, size=16), colour=Colour())
VIEWS = MultiCrop(DATA, grid=(8, 8))


def gradient(height: int = 120, width: int = 120) -> np.ndarray:
    """A picture whose red tells the column and whose green tells the row, from 0 to 240."""
    y, x = np.mgrid[:height, :width]
    return np.stack([240 * x / (width - 1), 240 * y / (height - 1), np.full((height, width), 50)], axis=-1).round().astype(np.uint8)


def filled(views: MultiCrop, samples: int, image: np.ndarray) -> dict[str, torch.Tensor]:
    batch, dealt = views.allocate(samples), views.deal(samples, batch_generator(0, 0))
    for place in range(samples):
        views.fill(batch, place, image, view_generator(0, 0, place), dealt[place])
    return batch.tensors


@pytest.fixture(scope="module")
def many() -> dict[str, torch.Tensor]:
    return filled(VIEWS, 300, gradient())


def test_a_batch_has_the_stated_tensors() -> None:
    tensors = VIEWS.allocate(5).tensors
    assert {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} == {
        "global": ((5, 2, 3, 32, 32), torch.uint8),
        "local": ((5, 3, 3, 16, 16), torch.uint8),
        "masks": ((5, 2, 64), torch.bool),
        "colour": ((5, 5, len(COLUMNS)), torch.float32),
    }


def extents(crops: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Give the area that gradient crops cover, by what their corners show, and whether they are flipped."""
    across = (crops[..., 0, :, -1].float() - crops[..., 0, :, 0].float()).mean(-1).numpy() / 240
    down = (crops[..., 1, -1, :].float() - crops[..., 1, 0, :].float()).mean(-1).numpy() / 240
    cell = 1 - 1 / crops.shape[-1]  # from the first pixel's middle to the last one's
    return np.abs(across) * down / cell**2, across < 0


@pytest.mark.parametrize(("name", "low", "high"), [("global", 0.32, 1.0), ("local", 0.05, 0.32)])
def test_crops_have_the_areas_of_their_kind(many: dict[str, torch.Tensor], name: str, low: float, high: float) -> None:
    areas, _ = extents(many[name])
    assert areas.min() > low - 0.03
    assert areas.max() < high + 0.03
    # Large areas fit less often with an extreme aspect, so only the small crops are evenly spread.
    if name == "local":
        assert stats.kstest(areas.ravel(), stats.uniform(low, high - low).cdf).pvalue > 1e-3


def test_half_of_the_crops_are_flipped_each_on_its_own(many: dict[str, torch.Tensor]) -> None:
    flipped = np.concatenate([extents(many[name])[1] for name in ("global", "local")], axis=1)
    assert all(stats.binomtest(int(column.sum()), 300).pvalue > 1e-3 for column in flipped.T)
    assert len({tuple(row) for row in flipped.tolist()}) > 16


def test_half_of_the_global_crops_are_masked_by_the_dealt_ratios(many: dict[str, torch.Tensor]) -> None:
    hidden = many["masks"].sum(-1)
    assert int((hidden > 0).sum()) == 300
    assert hidden.max() <= 32
    dealt = torch.tensor(VIEWS.deal(300, batch_generator(0, 0)))
    assert ((64 * dealt).int() - hidden).float().mean() < 1.5  # blocks may fall short by a little


def test_views_are_a_function_of_the_sample_and_the_epoch() -> None:
    image = gradient(90, 100)
    batch = VIEWS.allocate(3)
    for place, epoch in enumerate((0, 0, 1)):
        VIEWS.fill(batch, place, image, view_generator(7, epoch, 5), (0.3, 0.0))
    for name in ("global", "local", "masks", "colour"):
        assert torch.equal(batch[name][0], batch[name][1])
        assert not torch.equal(batch[name][0], batch[name][2])


def test_whole_views_have_nothing_cropped_flipped_hidden_or_changed() -> None:
    whole = VIEWS.whole()
    tensors = filled(whole, 4, gradient())
    areas, flipped = extents(tensors["global"])
    assert areas.min() > 0.97
    assert not flipped.any()
    assert not tensors["masks"].any()
    assert torch.equal(tensors["colour"], torch.tensor(UNCHANGED).expand(4, 5, -1))
    assert (tensors["global"] == tensors["global"][0, 0]).all()


def test_crops_are_resized_as_mae_crops_are() -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8), (0, 0), 2)
    view = filled(VIEWS.whole(), 1, image)["global"][0, 0].permute(1, 2, 0).numpy().astype(int)
    assert abs(view - cv2.resize(image, (32, 32), interpolation=cv2.INTER_AREA).astype(int)).max() < 20


def test_no_local_crops_are_allowed() -> None:
    views = MultiCrop(DATA.model_copy(update={"local": LocalCrops(crops=0)}), grid=(8, 8))
    tensors = filled(views, 2, gradient())
    assert tensors["local"].shape[1] == 0
    assert tensors["colour"].shape == (2, 2, len(COLUMNS))


def test_batches_are_the_same_for_any_number_of_workers_ranks_and_any_start(shards: Path) -> None:
    opened = open_shards(shards)
    whole = list(Loader(opened, VIEWS, batch=40, seed=5, workers=1).batches(0, 3))
    other = Loader(opened, VIEWS, batch=40, seed=5, workers=3).batches(1, 3)
    ranks = [Loader(opened, VIEWS, batch=40, seed=5, workers=1, rank=rank, world=4).batches(1, 3) for rank in range(4)]
    for a, b, parts in zip(whole[1:], other, zip(*ranks, strict=True), strict=True):
        assert a.keys == b.keys == [key for part in parts for key in part.keys]
        for name in a.tensors:
            assert torch.equal(a[name], b[name])
            assert torch.equal(a[name], torch.cat([part[name] for part in parts]))
