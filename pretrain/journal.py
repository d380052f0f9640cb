"""What a run writes down while it works: ``log.jsonl``, TensorBoard events, pictures and a progress line."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from curate import writing
from curate.console import mode
from pretrain.hardware import device_peak, peak_memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pretrain.batch import Batch
    from pretrain.checkpoint import State
    from pretrain.method import Method
    from pretrain.recipe import Recipe

_LINE_EVERY = 5.0  # seconds between plain progress lines


def truncate_log(path: Path, step: int) -> None:
    """Drop the lines of ``log.jsonl`` that come after a checkpoint, a broken last line among them."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError):
            continue
    with writing(path, "w") as file:
        file.writelines(kept)


def last_logged_loss(path: Path) -> float | None:
    """Give the loss of the last line of ``log.jsonl``, or None where there is none or it was not a number."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1])["loss"] if lines else None


class Events:
    """A file of TensorBoard events. torch's own writer puts the machine's name into the file's name; this one does not.

    Args:
        folder: where the file goes.
        purge_step: events of earlier files from this step on are to be forgotten.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        number, started = 0, int(time.time())
        while (path := folder / f"events.out.tfevents.{started:010d}.{number}").exists():
            number += 1
        self._event: Any = Event
        self._records = RecordWriter(open(path, "xb"))  # noqa: SIM115 - closed by `close`
        self._add(step=purge_step, file_version="brain.Event:2")
        self._add(step=purge_step, session_log=SessionLog(status=SessionLog.START))

    def scalar(self, name: str, value: float, step: int) -> None:
        """Add a number."""
        from torch.utils.tensorboard.summary import scalar

        self._add(step=step, summary=scalar(name, value))

    def image(self, name: str, pixels: NDArray[np.uint8], step: int) -> None:
        """Add a picture: uint8 [H, W, 3], RGB."""
        from torch.utils.tensorboard.summary import image

        self._add(step=step, summary=image(name, pixels, dataformats="HWC"))

    def _add(self, **fields: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **fields).SerializeToString())

    def flush(self) -> None:
        """Hand what was added to the system."""
        self._records.flush()

    def close(self) -> None:
        """Close the file."""
        self._records.close()


class Journal:
    """The written record of a run, kept by its first process.

    Args:
        folder: of the run.
        recipe: of the run.
        step: from which this process goes on; log lines after it are dropped.
        sample: images for the pictures.
        flops: operations of training on one photograph.
        device: of this process.
        processes: how many of them work.
    """

    def __init__(
        self, folder: Path, recipe: Recipe, *, step: int, sample: Batch, flops: float, device: torch.device, processes: int = 1
    ) -> None:
        self.folder, self.recipe, self.sample = folder, recipe, sample
        truncate_log(folder / "log.jsonl", step)
        self._log = open(folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        self._events = Events(folder, purge_step=step + 1)
        peak = device_peak(device)
        self._device, self._flops, self._peak = device, flops, None if peak is None else peak * processes
        self._first = step
        self._started = self._window = self._shown = time.perf_counter()
        self._counted, self._waited = step, 0.0
        self._last: dict[str, Any] = {}
        self._line_open = False

    def step(self, done: int, *, waited: float) -> None:
        """Take note of a finished step, and show now and then how far the run is.

        Args:
            done: steps so far.
            waited: seconds that the slowest process spent waiting for its batch.
        """
        self._waited += waited
        now, last = time.perf_counter(), done == self.recipe.optim.steps
        if self._last and not mode.quiet and (now - self._shown >= (0.2 if sys.stderr.isatty() else _LINE_EVERY) or last):
            self._shown = now
            self._show(done)

    def write(self, state: State, *, lr: float, gradient_norm: float | None, monitors: dict[str, float]) -> None:
        """Write a line of the log and the events of the same numbers.

        Args:
            state: with the losses since the line before.
            lr: of the last step.
            gradient_norm: L2, of the last finite step, before clipping.
            monitors: of the method.
        """
        now, done = time.perf_counter(), state.step
        seconds, batch = max(now - self._window, 1e-9), self.recipe.optim.batch
        numbers = [loss for loss in state.losses if loss is not None]
        speed = (done - self._counted) * batch / seconds
        memory = peak_memory(self._device)
        self._last = {
            "step": done,
            "samples": done * batch,
            "loss": sum(numbers) / len(numbers) if numbers else None,
            "skipped_steps": len(state.losses) - len(numbers),
            "lr": lr,
            "gradient_norm": gradient_norm,
            "images_per_s": round(speed, 2),
            **({} if self._peak is None else {"mfu": round(speed * self._flops / self._peak, 4)}),
            "data_wait": round(self._waited / seconds, 4),
            **({} if memory is None else {"peak_memory_bytes": memory}),
            **({"monitors": {name: value if math.isfinite(value) else None for name, value in monitors.items()}} if monitors else {}),
            "seconds": round(now - self._started, 3),
        }
        self._log.write(json.dumps(self._last) + "\n")
        self._log.flush()
        shown = {f"train/{name}": self._last.get(name) for name in ("loss", "lr", "gradient_norm", "images_per_s", "mfu", "data_wait")}
        for name, value in {**shown, **{f"monitor/{n}": v for n, v in self._last.get("monitors", {}).items()}}.items():
            if value is not None:
                self._events.scalar(name, value, done)
        self._events.flush()
        self._counted, self._waited, self._window = done, 0.0, now

    def _show(self, done: int) -> None:
        steps, last = self.recipe.optim.steps, self._last
        left = (time.perf_counter() - self._started) / (done - self._first) * (steps - done)
        parts = [
            f"step {done:,} of {steps:,}",
            f"samples {done * self.recipe.optim.batch:,}",
            "loss not a number" if last["loss"] is None else f"loss {last['loss']:.4f}",
            f"lr {last['lr']:.2e}",
            *(f"{name.replace('_', ' ')} {value:.3g}" for name, value in list(last.get("monitors", {}).items())[:3] if value is not None),
            f"{last['images_per_s']:,.0f} images/s",
            *([f"MFU {100 * last['mfu']:.0f} %"] if "mfu" in last else []),
            f"data wait {100 * last['data_wait']:.0f} %",
            f"{_duration(left)} left",
        ]
        line = "  ".join(parts)
        if sys.stderr.isatty():  # one line that is written over
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            self._line_open = True
        else:
            print(line, file=sys.stderr, flush=True)

    def picture(self, method: Method, step: int) -> Path:
        """Draw what the method makes of the run's sample images into ``pictures/`` and TensorBoard."""
        from pretrain.pictures import write_picture

        grid = method.picture(self.sample)
        path = self.folder / "pictures" / f"step-{step}.png"
        path.parent.mkdir(exist_ok=True)
        write_picture(path, grid)
        self._events.image("picture", grid, step)
        self._events.flush()
        return path

    def end_line(self) -> None:
        """End the progress line that is written over, so that what is said next has a line of its own."""
        if self._line_open:
            print(file=sys.stderr, flush=True)
            self._line_open = False

    def close(self) -> None:
        """Close the files and the progress line."""
        self.end_line()
        self._log.close()
        self._events.close()


def _duration(seconds: float) -> str:
    minutes, s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes}:{s:02d}"
