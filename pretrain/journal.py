"""What a run writes down while it works: ``log.jsonl``, TensorBoard events, pictures and a progress line."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import writing
from curate.console import mode

if TYPE_CHECKING:
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


class Journal:
    """The written record of one process's share of a run.

    Args:
        folder: of the run.
        recipe: of the run.
        step: from which this process goes on; log lines after it are dropped.
        sample: images for the pictures.
    """

    def __init__(self, folder: Path, recipe: Recipe, *, step: int, sample: Batch) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.folder, self.recipe, self.sample = folder, recipe, sample
        truncate_log(folder / "log.jsonl", step)
        self._log = open(folder / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        self._events = SummaryWriter(str(folder), purge_step=step + 1)
        self._first = step
        self._started = self._window = self._shown = time.perf_counter()
        self._steps_since, self._waited = 0, 0.0
        self._last: dict[str, Any] = {}
        self._line_open = False

    def step(self, state: State, *, lr: float, waited: float) -> None:
        """Take note of a finished step.

        Args:
            state: after the step; the losses that go into a line of the log are taken out of it.
            lr: of the step.
            waited: seconds spent waiting for its batch.
        """
        self._waited += waited
        self._steps_since += 1
        done, steps = state.step, self.recipe.optim.steps
        if done % self.recipe.log.every == 0 or done == steps:
            self._write(done, lr, state.losses)
            state.losses = []
        now = time.perf_counter()
        if self._last and not mode.quiet and (now - self._shown >= (0.2 if sys.stderr.isatty() else _LINE_EVERY) or done == steps):
            self._shown = now
            self._show(done)

    def _write(self, done: int, lr: float, losses: list[float | None]) -> None:
        now = time.perf_counter()
        seconds, batch = max(now - self._window, 1e-9), self.recipe.optim.batch
        numbers = [loss for loss in losses if loss is not None]
        self._last = {
            "step": done,
            "samples": done * batch,
            "loss": sum(numbers) / len(numbers) if numbers else None,
            "skipped_steps": len(losses) - len(numbers),
            "lr": lr,
            "images_per_s": round(self._steps_since * batch / seconds, 2),
            "data_wait": round(self._waited / seconds, 4),
            "seconds": round(now - self._started, 3),
        }
        self._log.write(json.dumps(self._last) + "\n")
        self._log.flush()
        for name in ("loss", "lr", "images_per_s", "data_wait"):
            if self._last[name] is not None:
                self._events.add_scalar(f"train/{name}", self._last[name], done)
        self._steps_since, self._waited, self._window = 0, 0.0, now

    def _show(self, done: int) -> None:
        steps, last = self.recipe.optim.steps, self._last
        left = (time.perf_counter() - self._started) / (done - self._first) * (steps - done)
        loss = "not a number" if last["loss"] is None else f"{last['loss']:.4f}"
        line = (
            f"step {done:,} of {steps:,}  samples {done * self.recipe.optim.batch:,}  loss {loss}  lr {last['lr']:.2e}  "
            f"{last['images_per_s']:,.0f} images/s  data wait {100 * last['data_wait']:.0f} %  {_duration(left)} left"
        )
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
        self._events.add_image("picture", grid, step, dataformats="HWC")
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
