"""From shards to batches: positioned reads, decoding, views, and threads that keep ahead of the training step.

Decoding, resizing, hashing and reading release Python's lock, so threads are enough: no copies between processes,
and nothing is left behind when the process is killed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from curate import ShardSet, UserError, worker_count
from pretrain.batch import Batch
from pretrain.order import batch_generator, batch_samples, replacements, view_generator

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.views import Views

_CHUNK = 32  # samples of one task of a thread: enough to outweigh its start, little enough to share a batch out
_AHEAD = 3  # batches under way


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

    def _fill(self, batch: Batch, first: int, samples: list[tuple[int, int]], dealt: Sequence[Any]) -> list[tuple[str, list[str]]]:
        done = []
        for place, ((epoch, sample), item) in enumerate(zip(samples, dealt, strict=True), first):
            damaged: list[str] = []
            for candidate in (sample, *replacements(self.seed, epoch, sample, len(self.keys)).tolist()):
                image = self.decode(candidate)
                if image is not None:
                    break
                damaged.append(self.keys[candidate])
            else:
                raise UserError(f"{self.shards.folder}: too many damaged samples ({', '.join(damaged[:3])}, ...); run: curate verify")
            self.views.fill(batch, place, image, view_generator(self.seed, epoch, candidate), item)
            done.append((self.keys[candidate], damaged))
        return done

    def _submit(self, pool: ThreadPoolExecutor, step: int) -> tuple[Batch, list[Future[list[tuple[str, list[str]]]]]]:
        samples = batch_samples(step, batch=self.batch_size, samples=len(self.keys), seed=self.seed)
        batch = self.views.allocate(len(samples))
        starts = range(0, len(samples), _CHUNK)
        dealt = self.views.deal(len(samples), batch_generator(self.seed, step))
        chunks = ((start, slice(start, start + _CHUNK)) for start in starts)
        return batch, [pool.submit(self._fill, batch, start, samples[chunk], dealt[chunk]) for start, chunk in chunks]

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
