"""From shards to batches: positioned reads, decoding, views, and threads that keep ahead of the training step.

Decoding, resizing, hashing and reading release Python's lock, so threads are enough: no copies between processes,
and nothing is left behind when the process is killed.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from curate import ShardSet, UserError, worker_count
from pretrain.order import batch_samples, replacements, view_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.recipe import Data

_CHUNK = 32  # samples of one task of a thread: enough to outweigh its start, little enough to share a batch out
_AHEAD = 3  # batches under way


@dataclass
class Batch:
    """One global batch (or a part of it).

    Attributes:
        images: uint8 [B, 3, H, W], RGB.
        visible: int64 [B, K], positions of the patches that the encoder sees.
        hidden: int64 [B, M], positions of the removed patches.
        keys: of the samples, in the order of the batch.
        damaged: keys of samples that could not be used and were replaced.
    """

    images: Tensor
    visible: Tensor
    hidden: Tensor
    keys: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return self.images.shape[0]

    def to(self, device: torch.device) -> Batch:
        """Copy the tensors to a device."""
        return replace(self, images=self.images.to(device), visible=self.visible.to(device), hidden=self.hidden.to(device))

    def split(self, size: int | None) -> Iterator[Batch]:
        """Cut into parts of at most `size` samples; None: one part."""
        for start in range(0, len(self), size or len(self)):
            part = slice(start, start + (size or len(self)))
            yield Batch(self.images[part], self.visible[part], self.hidden[part], self.keys[part])


class Views(Protocol):
    """What a method wants to see of an image."""

    def allocate(self, samples: int) -> Batch:
        """Make an empty batch."""

    def fill(self, batch: Batch, place: int, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Write the views of one image into its place."""


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
    """Crop and resize, bicubic with antialiasing (within one grey level of what PIL computes).

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
            images=torch.empty(samples, 3, size, size, dtype=torch.uint8),
            visible=torch.empty(samples, self.kept, dtype=torch.int64),
            hidden=torch.empty(samples, self.patches - self.kept, dtype=torch.int64),
        )

    def fill(self, batch: Batch, place: int, image: NDArray[np.uint8], rng: np.random.Generator) -> None:
        """Write the view of one image (uint8 [H, W, 3]) into its place."""
        height, width, _ = image.shape
        box = crop_box(height, width, rng, area=self.data.crop_area, aspect=self.data.crop_aspect)
        flip = rng.random() < self.data.flip
        view = resize(image, box, self.data.size)
        batch.images[place] = view.flip(-1) if flip else view
        visible, hidden = split_patches(self.patches, self.kept, rng)
        batch.visible[place] = torch.from_numpy(visible)
        batch.hidden[place] = torch.from_numpy(hidden)


class Loader:
    """Batches of a shard set, by step.

    Args:
        shards: the opened shard set.
        views: what the method sees of an image.
        batch: samples a step.
        seed: of the run.
        workers: threads; 0: one a core. Never changes a batch.

    Raises:
        UserError: where the set is empty, or a shard is missing or too short.
    """

    def __init__(self, shards: ShardSet, views: Views, *, batch: int, seed: int, workers: int = 0) -> None:
        if len(shards) == 0:
            raise UserError(f"{shards.folder}: the shard set is empty")
        self.shards, self.views, self.batch_size, self.seed = shards, views, batch, seed
        self.workers = worker_count(workers)
        self.keys: list[str] = shards.index["key"].tolist()
        self._sha256: list[str] = shards.index["sha256"].tolist()
        # Open every shard now and touch its last byte: a copy that broke off is found before anything is spent.
        ends = (shards.index["offset"] + shards.index["size"]).reset_index(drop=True)
        for position in ends.groupby(shards.index["shard"].to_numpy()).idxmax().tolist():
            shards.read(int(position))
        cv2.setNumThreads(1)

    def decode(self, position: int) -> NDArray[np.uint8] | None:
        """Read one photograph: uint8 [H, W, 3] RGB, or None where its bytes are not those of the index or no image."""
        data = self.shards.read(position)
        if hashlib.sha256(data).hexdigest() != self._sha256[position]:
            return None
        image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
        return image

    def _fill(self, batch: Batch, first: int, samples: list[tuple[int, int]]) -> list[tuple[str, list[str]]]:
        done = []
        for place, (epoch, sample) in enumerate(samples, first):
            damaged: list[str] = []
            for candidate in (sample, *replacements(self.seed, epoch, sample, len(self.keys)).tolist()):
                image = self.decode(candidate)
                if image is not None:
                    break
                damaged.append(self.keys[candidate])
            else:
                raise UserError(f"{self.shards.folder}: too many damaged samples ({', '.join(damaged[:3])}, ...); run: curate verify")
            self.views.fill(batch, place, image, view_generator(self.seed, epoch, candidate))
            done.append((self.keys[candidate], damaged))
        return done

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> tuple[Batch, list[Future[list[tuple[str, list[str]]]]]]:
        samples = batch_samples(step, batch=self.batch_size, samples=len(self.keys), seed=self.seed)
        batch = self.views.allocate(len(samples))
        starts = range(0, len(samples), _CHUNK)
        return batch, [pool.submit(self._fill, batch, start, samples[start : start + _CHUNK]) for start in starts]

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """Give the batches of steps `first` to `stop` - 1, prepared ahead of their use."""
        with ThreadPoolExecutor(self.workers, thread_name_prefix="loader", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            try:
                under_way: deque[tuple[Batch, list[Future[list[tuple[str, list[str]]]]]]] = deque()
                for step in range(first, stop):
                    while len(under_way) < min(_AHEAD, stop - step):
                        under_way.append(self._submit(pool, step + len(under_way)))
                    batch, futures = under_way.popleft()
                    for future in futures:
                        for key, damaged in future.result():
                            batch.keys.append(key)
                            batch.damaged += damaged
                    yield batch
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
