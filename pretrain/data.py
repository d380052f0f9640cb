"""From shards to batches: positioned reads, decoding, views, and threads that keep ahead of the training step.

Decoding, resizing, hashing and reading release Python's lock, so threads are enough: no copies between processes,
and nothing is left behind when the process is killed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from curate import ShardSet, UserError, worker_count
from pretrain.batch import Batch
from pretrain.mixture import Mixture
from pretrain.order import batch_generator, view_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.views import Views

CHUNK = 32  # samples of one task of a thread: enough to outweigh its start, little enough to share a batch out
_AHEAD = 3  # batches under way

Filled = list[tuple[str, list[str]]]  # of each sample its key, and the keys of the damaged ones that it stands in for
UnderWay = tuple[Batch, list[Future[Filled]]]


def decode_photograph(data: bytes) -> NDArray[np.uint8] | None:
    """Decode an image file: uint8 [H, W, 3] RGB, or None where it is none, or claims to be larger than any photograph."""
    try:
        image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error:
        return None
    return image


class Loader:
    """Batches of a shard set, by step.

    Args:
        shards: the opened shard set, or several of them.
        views: what the method sees of an image.
        batch: samples a step.
        seed: of the run.
        workers: threads; 0: one a core. Never changes a batch.
        rank: of this process; it prepares only its slice of each step's global batch.
        world: how many processes share a batch; divides `batch`.

    Raises:
        UserError: where the set is empty, a shard is missing or too short, or `world` does not divide `batch`.
    """

    def __init__(
        self, shards: ShardSet | Mixture, views: Views, *, batch: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        if isinstance(shards, ShardSet):
            shards = Mixture({"shards": shards})
        if batch % world:
            raise UserError(f"optim.batch={batch} cannot be shared out evenly to {world} processes; start a number that divides it")
        self.shards, self.views, self.batch_size, self.seed = shards, views, batch, seed
        self.share = slice(rank * (batch // world), (rank + 1) * (batch // world))
        self.workers = worker_count(workers)
        self.keys = shards.keys
        self.images = len(self.keys)
        cv2.setNumThreads(1)

    def decode(self, position: int) -> NDArray[np.uint8] | None:
        """Read one photograph: uint8 [H, W, 3] RGB, or None where its bytes are not those of the index or no image."""
        data, digest = self.shards.read(position)
        if hashlib.sha256(data).hexdigest() != digest:
            return None
        return decode_photograph(data)

    def _readable(self, epoch: int, sample: int) -> tuple[int, NDArray[np.uint8], list[str]]:
        """Decode a sample, or the first readable one of its replacements: position, image, keys of the damaged ones."""
        image = self.decode(sample)
        if image is not None:
            return sample, image, []
        damaged = [self.keys[sample]]
        for candidate in self.shards.replacements(self.seed, epoch, sample):
            image = self.decode(candidate)
            if image is not None:
                return candidate, image, damaged
            damaged.append(self.keys[candidate])
        raise UserError(f"{self.folder}: too many damaged samples ({', '.join(damaged[:3])}, ...); {self.advice}")

    def _fill(self, batch: Batch, first: int, samples: list[tuple[int, int]], dealt: Sequence[Any]) -> Filled:
        done = []
        for place, ((epoch, sample), item) in enumerate(zip(samples, dealt, strict=True), first):
            position, image, damaged = self._readable(epoch, sample)
            self.views.fill(batch, place, image, view_generator(self.seed, epoch, position), item)
            done.append((self.keys[position], damaged))
        return done

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> UnderWay:
        # The step's samples and what is dealt to them belong to the global batch; this process takes its share of both.
        samples = self.shards.batch_samples(step, batch=self.batch_size, seed=self.seed)[self.share]
        dealt = self.views.deal(self.batch_size, batch_generator(self.seed, step))[self.share]
        batch = self.views.allocate(len(samples))
        chunks = [slice(start, start + CHUNK) for start in range(0, len(samples), CHUNK)]
        return batch, [pool.submit(self._fill, batch, chunk.start, samples[chunk], dealt[chunk]) for chunk in chunks]

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """Give the batches of steps `first` to `stop` - 1, prepared ahead of their use."""
        return prepare_ahead(self._submit, first, stop, self.workers)

    def photographs(self, count: int) -> list[tuple[int, NDArray[np.uint8]]]:
        """Give photographs spread evenly over the set, for pictures: position and image, fewer than `count` where some are damaged."""
        spread = [i * len(self.keys) // count for i in range(count)] if len(self.keys) > count else range(len(self.keys))
        return [(i, image) for i in spread if (image := self.decode(i)) is not None]

    @property
    def folder(self) -> str:
        """Name what is read, for messages."""
        return self.shards.folder

    @property
    def advice(self) -> str:
        """Say what to do about damaged samples, likewise."""
        return "run: " + " and ".join(f"curate verify {shards.folder}" for shards in self.shards.sets.values())

    def close(self) -> None:
        """Close the shard sets' files."""
        self.shards.close()


def prepare_ahead(submit: Callable[[ThreadPoolExecutor, int], UnderWay], first: int, stop: int, workers: int) -> Iterator[Batch]:
    """Give the batches of steps `first` to `stop` - 1, some of them always under way.

    Args:
        submit: begins a step's batch on the threads.
        first: step.
        stop: step.
        workers: threads.
    """
    with ThreadPoolExecutor(workers, thread_name_prefix="loader", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            under_way: deque[UnderWay] = deque()
            for step in range(first, stop):
                while len(under_way) < min(_AHEAD, stop - step):
                    under_way.append(submit(pool, step + len(under_way)))
                batch, futures = under_way.popleft()
                for future in futures:
                    for key, damaged in future.result():
                        batch.keys.append(key)
                        batch.damaged += damaged
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
