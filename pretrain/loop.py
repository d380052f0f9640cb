"""The one training loop.

    pretrain run shards/                              # a recipe for this machine
    pretrain run shards/ --recipe mae-vit-base        # a named one
    torchrun --nproc-per-node 4 -m pretrain run shards/ --recipe mae-vit-base

A method is an object with ``loss(batch, step)``. Everything a step depends on is a pure function of the step
number, so a run goes on from one integer.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from curate import UserError
from pretrain.distributed import Job, local, no_exchange, whole
from pretrain.hardware import on_device
from pretrain.schedule import set_rates

if TYPE_CHECKING:
    from pretrain.batch import Batch
    from pretrain.checkpoint import State
    from pretrain.data import Loader
    from pretrain.journal import Journal
    from pretrain.recipe import Recipe
    from pretrain.stream import Stream

_PATIENCE = 3  # steps in a row that may fail


def train(
    state: State,
    loader: Loader | Stream,
    recipe: Recipe,
    journal: Journal | None,
    *,
    model: nn.Module,
    job: Job,
    device: torch.device,
    seed: int,
    stop_asked: Callable[[], int],
    checkpoint: Callable[[], None],
    picture: Callable[[], None],
) -> int:
    """Train from where `state` is to the end of the recipe.

    Args:
        state: method, optimiser and step; changed in place.
        loader: of this process's share of the batches, by step.
        recipe: of the run.
        journal: that writes lines and events; None in all processes but the first.
        model: gives the loss of a batch and a step: the method, or what `pretrain.distributed.spread` made of it.
        job: of the processes.
        device: where the method is.
        seed: of the run.
        stop_asked: gives the number of the signal that has come, or 0.
        checkpoint: writes one; called in all processes at the same step.
        picture: draws one, likewise.

    Returns:
        0 where the end was reached, or the signal that stopped the run, with a checkpoint written.

    Raises:
        UserError: after three steps in a row whose loss or gradient is not finite, or where too many samples are damaged.
    """
    optim, log = recipe.optim, recipe.log
    outcomes = Outcomes.on(device)
    waiting = time.perf_counter()
    for batch in on_device(loader.batches(state.step, optim.steps), device):
        waited = time.perf_counter() - waiting
        lr = take_step(state, batch, recipe, outcomes, model=model, job=job, seed=seed)

        # One exchange a step: what any process knows, all know before they go on.
        stop, damaged, waited = job.agree(stop_asked(), len(batch.damaged), waited)
        if damaged:
            state.damaged.update(job.gather(batch.damaged))
            _check_damaged(state.damaged, loader, recipe)
        logs = state.step % log.every == 0 or state.step == optim.steps
        checkpoints = bool(stop) or state.step % log.checkpoint_every == 0
        for outcome in outcomes.settled(everything=logs or checkpoints):
            state.losses.append(outcome.loss if outcome.finite else None)
            if len(outcomes.failed) == _PATIENCE:
                raise UserError(_not_finite(outcomes.failed, state, job))
        if logs:
            monitors = job.average(state.method.monitors())
            if journal is not None:
                journal.write(state, lr=lr, gradient_norm=outcomes.last_norm, monitors=monitors)
            state.losses = []
        if journal is not None:
            journal.step(state.step, waited=waited)
        if state.step == optim.steps:
            return 0
        if checkpoints:
            checkpoint()
        if stop:
            return int(stop)
        if state.step % log.pictures_every == 0:
            picture()
        waiting = time.perf_counter()
    return 0


def take_step(
    state: State, batch: Batch, recipe: Recipe, outcomes: Outcomes, *, model: nn.Module | None = None, job: Job | None = None, seed: int = 0
) -> float:
    """Take one step: from a batch to changed weights. Its outcome is added to `outcomes`.

    Args:
        state: method, optimiser and step; changed in place.
        batch: this process's share, on the method's device.
        recipe: of the run.
        outcomes: of the steps before.
        model: gives the loss, as for `train`; None: the method.
        job: of the processes; None: this one alone.
        seed: of the run.

    Returns:
        The schedule's learning rate.
    """
    job, optim = job or Job(), recipe.optim
    lr = set_rates(state.optimizer, state.step, optim)
    # Layers that draw random numbers (dropout, drop path) draw the same ones after a resume.
    torch.manual_seed(drawing_seed(seed, state.step, job.rank))
    state.optimizer.zero_grad(set_to_none=True)
    losses = backward(model or state.method, batch, state.step, micro_batch=optim.micro_batch, precision=optim.precision)
    norms = clip_gradients(state.method.clipped(), optim.clip)
    outcomes.add(Outcome(state.step, torch.cat([job.mean_(losses), norms]), len(losses), batch.keys, lr))
    outcomes.update(state.optimizer)
    state.method.end_step(state.step)
    state.step += 1
    return lr


def drawing_seed(seed: int, step: int, rank: int) -> int:
    """Give the seed of what the layers draw in a step: another one in every process, as each has other samples.

    Args:
        seed: of the run, below 2^31.
        step: counted from 0.
        rank: of the process.
    """
    if rank == 0:
        return (seed << 32) + step
    return int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0] >> np.uint64(1))


def backward(model: nn.Module, batch: Batch, step: int, *, micro_batch: int | None, precision: str) -> Tensor:
    """Add up the gradient of a batch, part by part; processes average theirs with the last part.

    Args:
        model: gives the loss of a batch and a step.
        batch: this process's share.
        step: counted from 0.
        micro_batch: samples of a part; None: one part.
        precision: ``"bfloat16"`` for autocast.

    Returns:
        float32 [parts]: the parts' losses times their shares of the batch, on the device of the batch. Their sum is the loss.
    """
    device = next(iter(batch.tensors.values())).device
    parts = list(batch.split(micro_batch))
    losses = []
    for number, part in enumerate(parts, 1):
        with no_exchange(model, number < len(parts)):
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                loss = model(part, step) * (len(part) / len(batch))
            loss.backward()
        losses.append(loss.detach().float())
    return torch.stack(losses)


def clip_gradients(modules: Sequence[nn.Module], most: float | None) -> Tensor:
    """Clip the gradient of each module to a norm of its own.

    A gradient that isn't finite stays as it is, so that it can be told where it began.

    Args:
        modules: that share no parameter.
        most: the largest L2 norm; None: nothing is clipped.

    Returns:
        float32 [modules], the norms before clipping.
    """
    norms = []
    for module in modules:
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        norm = whole(torch.nn.utils.get_total_norm(gradients))
        if most is not None and gradients:
            factor = (most / (norm + 1e-6)).clamp(max=1.0)
            torch._foreach_mul_(gradients, torch.where(norm.isfinite(), factor, torch.ones_like(factor)))
        norms.append(norm.float())
    return torch.stack(norms)


@dataclass
class Outcome:
    """What came out of a step.

    Attributes:
        step: counted from 0.
        numbers: float32 [parts + modules]: the parts' losses and the modules' gradient norms. On a GPU a copy that is under way.
        parts: how many of them are losses.
        keys: of this process's share of the batch.
        lr: the schedule's learning rate.
        copied: when the numbers have arrived; None: they have.
    """

    step: int
    numbers: Tensor
    parts: int
    keys: list[str]
    lr: float
    copied: torch.cuda.Event | None = None

    def values(self) -> list[float]:
        """Give the numbers, after waiting for them where need be."""
        # Looking again and again, not waiting in the driver: signals are heard meanwhile.
        while self.copied is not None and not self.copied.query():
            time.sleep(0.0005)
        return self.numbers.tolist()

    @property
    def finite(self) -> bool:
        """Whether all of the numbers are."""
        return all(map(math.isfinite, self.values()))

    @property
    def loss(self) -> float:
        """The loss of the global batch."""
        return sum(self.values()[: self.parts])

    @property
    def norm(self) -> float:
        """The L2 norm of the whole gradient, before clipping."""
        return math.hypot(*self.values()[self.parts :])


@dataclass
class Outcomes:
    """Outcomes on their way from the device, and the failed ones at their end.

    On a GPU they are looked at a step late, so that the next step is under way meanwhile; a step that fails is
    undone there. From the first failure on each is looked at once, so that the third stops the run in its own step.

    Attributes:
        delay: steps by which to be late; 0: none.
        failed: the failed steps at the end, in a row.
        last_norm: of the last finite step's gradient.
    """

    delay: int
    failed: list[Outcome] = field(default_factory=list)
    last_norm: float | None = None
    _waiting: deque[Outcome] = field(default_factory=deque)

    @classmethod
    def on(cls, device: torch.device) -> Outcomes:
        """Begin: on a CPU there is nothing to wait for, a GPU's outcomes are looked at a step late."""
        return cls(delay=0 if device.type == "cpu" else 1)

    def add(self, outcome: Outcome) -> None:
        """Take note of a step."""
        self._waiting.append(outcome)

    def update(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the optimiser take its step, unless the outcome added last has failed: one bad batch costs its own step and no more."""
        last = self._waiting[-1]
        if not self.delay:
            if last.finite:
                optimizer.step()
            return
        # The fused kernels look at `found_inf` on the device, and then do nothing.
        optimizer.grad_scale, optimizer.found_inf = None, (~last.numbers.isfinite().all()).float()  # type: ignore[attr-defined]
        optimizer.step()
        if last.numbers.is_cuda:
            last.numbers = torch.empty(last.numbers.shape, pin_memory=True).copy_(last.numbers, non_blocking=True)
            last.copied = torch.cuda.Event()
            last.copied.record()

    def settled(self, *, everything: bool) -> Iterator[Outcome]:
        """Give the outcomes that have arrived, in order.

        Args:
            everything: wait for all of them.
        """
        while self._waiting and (everything or self.failed or len(self._waiting) > self.delay):
            outcome = self._waiting.popleft()
            if outcome.finite:
                self.failed.clear()
                self.last_norm = outcome.norm
            else:
                self.failed.append(outcome)
            yield outcome


def blown_up(module: nn.Module) -> tuple[list[str], int]:
    """List the modules whose gradient holds a value that isn't finite, in the order of the model.

    Returns:
        Their names (of a parameter without a module of its own, its name), and how many modules have a gradient.
    """
    found: dict[str, bool] = {}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            owner = name.rpartition(".")[0] or name
            found[owner] = found.get(owner, False) or not bool(local(parameter.grad).isfinite().all())
    return [owner for owner, bad in found.items() if bad], len(found)


def _check_damaged(damaged: set[str], loader: Loader | Stream, recipe: Recipe) -> None:
    if len(damaged) > max(10, recipe.data.max_damaged * loader.images):
        raise UserError(
            f"{loader.folder}: {len(damaged)} damaged samples, more than data.max_damaged={recipe.data.max_damaged} "
            f"allows (first: {sorted(damaged)[0]}); {loader.advice}"
        )


def _not_finite(failed: list[Outcome], state: State, job: Job) -> str:
    last = failed[-1]
    what = "gradient is not finite, though the loss is," if math.isfinite(last.loss) else f"loss is {last.loss}"
    # With shared-out parameters each process sees a part of them.
    bad, modules = blown_up(state.method)
    anywhere = set(job.gather(bad))
    bad = [name for name in dict.fromkeys(n.rpartition(".")[0] or n for n, _ in state.method.named_parameters()) if name in anywhere]
    if not bad:
        where = "every gradient is finite, the loss alone is not"
    elif len(bad) == modules:
        where = f"the gradient of {bad[0]} and of all other modules blew up"
    else:
        where = f"the gradient of {bad[0]} blew up" + (f", and of {len(bad) - 1} more modules up to {bad[-1]}" if len(bad) > 1 else "")
    keys = job.gather(last.keys)
    shown = ", ".join(keys[:8]) + (f", ... ({len(keys)} in all)" if len(keys) > 8 else "")
    return (
        f"the {what} in steps {', '.join(str(outcome.step) for outcome in failed)} (learning rate {last.lr:.2e}); {where}; "
        f"the last batch holds {shown}; lower optim.lr or use optim.precision=float32, and begin again in a new --out or from the "
        "last checkpoint"
    )
