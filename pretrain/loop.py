"""The one training loop.

    pretrain run shards/                              # a recipe for this machine
    pretrain run shards/ --recipe mae-vit-base        # a named one

A method is an object with ``loss(batch, step)``. Everything a step depends on is a pure function of the step
number, so a run goes on from one integer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from curate import UserError
from pretrain.schedule import learning_rate

if TYPE_CHECKING:
    from pretrain.checkpoint import State
    from pretrain.data import Loader
    from pretrain.journal import Journal
    from pretrain.recipe import Recipe


def train(
    state: State,
    loader: Loader,
    recipe: Recipe,
    journal: Journal,
    *,
    device: torch.device,
    seed: int,
    stop_asked: Callable[[], bool],
    checkpoint: Callable[[], None],
) -> bool:
    """Train from where `state` is to the end of the recipe.

    Args:
        state: model, optimiser and step; changed in place.
        loader: of batches by step.
        recipe: of the run.
        journal: that writes lines, events and pictures.
        device: where the model is.
        seed: of the run.
        stop_asked: says whether a signal has come.
        checkpoint: writes one.

    Returns:
        Whether the end was reached (False: stopped by a signal, with a checkpoint written).

    Raises:
        UserError: after three steps in a row whose loss is not a number, or where too many samples are damaged.
    """
    optim, total = recipe.optim, recipe.optim.steps * recipe.optim.batch
    limit = max(10, recipe.data.max_damaged * len(loader.keys))
    bad_steps: list[int] = []
    waiting = time.perf_counter()
    for batch in loader.batches(state.step, optim.steps):
        waited = time.perf_counter() - waiting
        step = state.step
        lr = learning_rate(step * optim.batch, peak=optim.peak_lr, lowest=optim.min_lr, warmup=optim.warmup_samples, total=total)
        for group in state.optimizer.param_groups:
            group["lr"] = lr
        # Layers that draw random numbers (dropout, drop path) draw the same ones after a resume.
        torch.manual_seed((seed << 32) + step)

        state.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for part in batch.to(device).split(optim.micro_batch):
            with torch.autocast(device.type, torch.bfloat16, enabled=optim.precision == "bfloat16"):
                loss = state.method.loss(part, step) * (len(part) / len(batch))
            loss.backward()
            value += float(loss.detach())
        if math.isfinite(value):
            state.optimizer.step()
            bad_steps.clear()
        else:  # one bad batch costs its own step and no more
            bad_steps.append(step)
            if len(bad_steps) == 3:
                raise UserError(_not_a_number(bad_steps, value, batch.keys, lr))

        state.step += 1
        state.damaged.update(batch.damaged)
        if len(state.damaged) > limit:
            raise UserError(
                f"{loader.shards.folder}: {len(state.damaged)} damaged samples, more than data.max_damaged={recipe.data.max_damaged} "
                f"allows (first: {sorted(state.damaged)[0]}); run: curate verify {loader.shards.folder}"
            )
        state.losses.append(value if math.isfinite(value) else None)
        journal.step(state, lr=lr, waited=waited)
        if state.step == optim.steps:
            return True
        if stop_asked():
            checkpoint()
            return False
        if state.step % recipe.log.checkpoint_every == 0:
            checkpoint()
        if state.step % recipe.log.pictures_every == 0:
            journal.picture(state.method, state.step)
        waiting = time.perf_counter()
    return True


def _not_a_number(steps: list[int], value: float, keys: list[str], lr: float) -> str:
    shown = ", ".join(keys[:8]) + (f", ... ({len(keys)} in all)" if len(keys) > 8 else "")
    return (
        f"the loss is {value} in steps {', '.join(map(str, steps))} (learning rate {lr:.2e}); the last batch holds {shown}; "
        "lower optim.lr or use optim.precision=float32, and begin again in a new --out or from the last checkpoint"
    )
