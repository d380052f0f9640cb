"""Shards that can only be read from beginning to end: object stores, web servers, the output of a command.

webdataset opens and reads the tars. What it leaves to chance or to the worker processes is done here: which process
reads which shard, in which order, and that every process has as many batches as every other.

Weaker than with an indexed set, and why ``run.json`` says so: there are no exact epochs (a shard may come again before
another has come once); the order depends on the number of processes; a run that goes on after a stop begins a new
order instead of finding its place; and there is no checksum of the photographs.
"""

from __future__ import annotations

import queue
import random
import re
import shlex
import shutil
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from curate import UserError, worker_count
from curate.console import warn
from pretrain.batch import Batch
from pretrain.data import CHUNK, Filled, UnderWay, decode_photograph, prepare_ahead
from pretrain.order import batch_generator, epoch_order, view_generator
from pretrain.source import expand_addresses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pretrain.views import Views

_COMMANDS = {"s3://": "aws", "gs://": "gsutil", "hf://": "curl", "http://": "curl", "https://": "curl"}
_SUFFIXES = ("jpg", "jpeg", "png")
_READERS = 4  # shards that a process reads side by side; a number of its own, so that threads don't change the order
_BUFFER, _FIRST = 2000, 500  # samples among which one is drawn; those that must be there before the first is given
_FAILURES = 10  # shards in a row that can't be read, of one reader
_PATIENCE = 100  # samples in a row that can't be decoded
_QUEUE = 64  # samples that a reader keeps ready


class Stream:
    """Batches from shards that are read from beginning to end, by step.

    The shards come in a shuffled order, round after round. Every process takes every `world`-th of that endless list, so all
    have as many batches as they need. Samples are then drawn from a buffer of 2,000. The batches of steps 0 to n are the same
    every time, for the same shards and number of processes.

    Args:
        urls: of tars of ``<key>.jpg``; braces are expanded (``s3://bucket/shard-{000000..000099}.tar``). ``s3://`` is read by
            ``aws s3 cp``, ``http://`` by curl, ``pipe:COMMAND`` by the shell.
        views: what the method sees of an image.
        batch: samples a step.
        seed: of the run.
        workers: threads that decode; 0: one a core. Never changes a batch.
        rank: of this process.
        world: how many processes share a batch; divides `batch`.

    Raises:
        UserError: where the command that reads a kind of address is not installed, or `world` does not divide `batch`.

    Attributes:
        urls: the shards, braces expanded.
        images: samples given so far by all processes, since there is no telling how many there are.
        folder: what is streamed, for messages.
        advice: what to do about damaged samples, likewise.
    """

    def __init__(
        self, urls: str | Sequence[str], views: Views, *, batch: int, seed: int, workers: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.urls = expand_addresses([urls] if isinstance(urls, str) else urls)
        for scheme, command in _COMMANDS.items():
            if shutil.which(command) is None and any(url.startswith(scheme) for url in self.urls):
                raise UserError(f"{scheme}: reading it needs the command {command}; install it, or give pipe:COMMAND")
        if batch % world:
            raise UserError(f"optim.batch={batch} cannot be shared out evenly to {world} processes; start a number that divides it")
        self.views, self.batch_size, self.seed, self.rank, self.world = views, batch, seed, rank, world
        self.share = slice(rank * (batch // world), (rank + 1) * (batch // world))
        self.workers = worker_count(workers)
        self.images = 0
        self._warned: set[str] = set()
        self.readers = max(1, min(_READERS, len(self.urls) // world))
        cv2.setNumThreads(1)

    advice = "look at them at their source"

    @property
    def folder(self) -> str:
        """Name what is streamed, for messages."""
        return f"{self.urls[0]}, ..." if len(self.urls) > 1 else self.urls[0]

    def _shards(self, start: int) -> Iterator[str]:
        """Give this process's endless list of shards, for a run that begins, or goes on, at a step."""
        every = (self.urls[i] for turn in count() for i in epoch_order(self.seed, turn, len(self.urls), start).tolist())
        return islice(every, self.rank, None, self.world)

    def _read(self, shards: Iterator[str], samples: queue.Queue[Any], stopped: threading.Event) -> None:
        """Put the samples of shards into a queue, as (key, image's bytes or None), until stopped; or the error that ends it all."""

        def put(item: Any) -> bool:
            while not stopped.is_set():
                try:
                    samples.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        try:
            for item in self._contents(shards):
                if not put(item):
                    return
        except Exception as error:  # nobody else would hear of it, and wait for ever
            put(error)

    def _contents(self, shards: Iterator[str]) -> Iterator[tuple[str, bytes | None]]:
        """Give the samples of shards; for one that breaks off, its address as the key of a damaged sample."""
        from webdataset.tariterators import tarfile_samples

        failed = 0
        for url in shards:
            errors: list[Exception] = []
            found = 0
            # `append` gives None; the handler says True, go on.
            for sample in tarfile_samples([{"url": _opened_by(url)}], handler=lambda e, errors=errors: errors.append(e) is None):
                yield sample["__key__"], next((sample[suffix] for suffix in _SUFFIXES if suffix in sample), None)
                found += 1
            failed = 0 if found else failed + 1
            reason = _reason(errors[-1]) if errors else "no samples in it"
            if failed == _FAILURES:
                raise UserError(f"{url}: none of the last {failed} shards could be read ({reason})")
            if errors or not found:
                self._warn_once(url, f"{url}: {'breaks off' if found else 'cannot be read'} ({reason}); goes on without the rest")
                yield url, None

    def _warn_once(self, url: str, text: str) -> None:
        if url not in self._warned:
            self._warned.add(url)
            warn(text)

    def _samples(self, start: int) -> Generator[tuple[str, bytes | None], None, None]:
        """Give samples without end, in turn from each reader, drawn from a buffer; closing it ends the readers."""
        from webdataset.filters import _shuffle

        stopped = threading.Event()
        queues: list[queue.Queue[Any]] = [queue.Queue(_QUEUE) for _ in range(self.readers)]
        shards = [islice(self._shards(start), number, None, self.readers) for number in range(self.readers)]
        readers = [
            threading.Thread(target=self._read, args=(mine, samples, stopped), name=f"reader-{number}", daemon=True)
            for number, (mine, samples) in enumerate(zip(shards, queues, strict=True))
        ]

        def merged() -> Iterator[tuple[str, bytes | None]]:
            for number in count():
                item = queues[number % len(queues)].get()
                if isinstance(item, Exception):
                    raise item
                yield item

        try:
            for reader in readers:
                reader.start()
            yield from _shuffle(merged(), bufsize=_BUFFER, initial=_FIRST, rng=random.Random(f"{self.seed} {start} {self.rank}"))
        finally:
            stopped.set()
            for reader in readers:
                reader.join(timeout=2)  # one that waits for the network ends with the process

    def _fill_one(self, batch: Batch, step: int, place: int, data: bytes | None, item: Any) -> bool:
        image = decode_photograph(data) if data else None
        if image is not None:
            self.views.fill(batch, place, image, view_generator(self.seed, step, self.share.start + place), item)
        return image is not None

    def _fill(self, batch: Batch, step: int, first: int, samples: list[tuple[str, bytes | None]], dealt: Sequence[Any]) -> Filled:
        done: Filled = []
        for place, ((key, data), item) in enumerate(zip(samples, dealt, strict=True), first):
            readable = self._fill_one(batch, step, place, data, item)
            done.append((key, []) if readable else ("", [key]))
        return done

    def batches(self, first: int, stop: int) -> Iterator[Batch]:
        """Give the batches of steps `first` to `stop` - 1, prepared ahead of their use.

        Raises:
            UserError: where shard after shard can't be read, or sample after sample can't be decoded.
        """
        samples = self._samples(first)
        size = self.share.stop - self.share.start

        def submit(pool: ThreadPoolExecutor, step: int) -> UnderWay:
            taken = list(islice(samples, size))
            dealt = self._dealt(step)
            batch = self.views.allocate(size)
            chunks = [slice(start, start + CHUNK) for start in range(0, size, CHUNK)]
            return batch, [pool.submit(self._fill, batch, step, chunk.start, taken[chunk], dealt[chunk]) for chunk in chunks]

        try:
            for step, batch in enumerate(prepare_ahead(submit, first, stop, self.workers), first):
                for place in [place for place, key in enumerate(batch.keys) if not key]:
                    self._replace(batch, step, place, samples)
                self.images = (step + 1) * self.batch_size
                yield batch
        finally:
            samples.close()

    def _dealt(self, step: int) -> Sequence[Any]:
        return self.views.deal(self.batch_size, batch_generator(self.seed, step))[self.share]

    def _replace(self, batch: Batch, step: int, place: int, samples: Iterator[tuple[str, bytes | None]]) -> None:
        """Fill the place of a damaged sample with the next readable one of the stream."""
        for _ in range(_PATIENCE):
            key, data = next(samples)
            if self._fill_one(batch, step, place, data, self._dealt(step)[place]):
                batch.keys[place] = key
                return
            batch.damaged.append(key)
        raise UserError(f"{self.folder}: {_PATIENCE} samples in a row can't be decoded (the last one: {key})")

    def photographs(self, count: int) -> list[tuple[int, NDArray[np.uint8]]]:
        """Give the first readable photographs of the stream, for pictures: a number and an image each."""
        found: list[tuple[int, NDArray[np.uint8]]] = []
        with closing(self._samples(0)) as samples:
            for _, data in islice(samples, 10 * count):
                image = decode_photograph(data) if data else None
                if image is not None:
                    found.append((len(found), image))
                if len(found) == count:
                    break
        return found

    def close(self) -> None:
        """Do nothing: what `batches` opened is closed when it ends."""


def _opened_by(url: str) -> str:
    """Give the address in the form that webdataset opens."""
    return f"pipe:aws s3 cp {shlex.quote(url)} -" if url.startswith("s3://") else url


def _reason(error: Exception) -> str:
    """Say in a few words what webdataset met; its own errors carry the whole call."""
    text = " ".join(str(error.args[0] if error.args else error).split())
    ended = re.search(r"exit (-?\d+) \(read\)", text)
    return f"the command that reads it ended with code {ended[1]}" if ended else text[:200]
