"""Checkpoints: folders that appear whole under their name or not at all, without pickles."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from curate import UserError, read_json, write_json, writing
from curate.console import warn
from pretrain.distributed import Job, like, whole

if TYPE_CHECKING:
    from torch import nn

    from pretrain.method import Method


@dataclass
class State:
    """What a training run is, besides its recipe.

    Attributes:
        method: backbone and objective.
        optimizer: with parameter groups that know their ``"names"``.
        step: steps done.
        damaged: keys of samples that had to be replaced so far.
        losses: of the steps since the last line of the log; None where it was not a number.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    step: int = 0
    damaged: set[str] = field(default_factory=set)
    losses: list[float | None] = field(default_factory=list)


def write_safetensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors, atomically; equal tensors give equal bytes."""
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata={"format": "pt"})
    with writing(path) as file:
        file.write(data)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read tensors.

    Raises:
        UserError: where the file is missing or damaged.
    """
    try:
        return load(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: missing") from None
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None


def misfit(there: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Say in what named tensors differ from those that a model has: missing, unused, of another shape; empty where in nothing.

    Args:
        there: the tensors; wanted: the model's ``state_dict``, whose values may lie on the meta device.
    """
    problems = {
        "missing": sorted(wanted.keys() - there.keys()),
        "unused": sorted(there.keys() - wanted.keys()),
        "of another shape": sorted(name for name in wanted.keys() & there.keys() if wanted[name].shape != there[name].shape),
    }
    return "; ".join(f"{what}: {', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" for what, names in problems.items() if names)


def save_checkpoint(folder: Path, state: State, *, keep_last: int, job: Job | None = None) -> Path:
    """Write ``step-N/`` and remove older checkpoints.

    Args:
        folder: ``checkpoints/`` of the run.
        state: of the run.
        keep_last: checkpoints that stay.
        job: of the processes that train, each of which must call this; the first one writes. The tensors are whole ones.

    Returns:
        The new checkpoint. Whatever fails on the way leaves the earlier ones as they were.
    """
    job = job or Job()
    model = whole_tensors(state.method.state_dict(), job)
    moments = whole_tensors(_optimizer_tensors(state.optimizer), job)
    return job.from_first(lambda: _write_checkpoint(folder, state, model, moments, keep_last=keep_last))


def whole_tensors(tensors: dict[str, Tensor], job: Job) -> dict[str, Tensor]:
    """Put tensors together that the processes share, one by one, in the first process's memory.

    Args:
        tensors: any.
        job: of the processes, each of which must call this.

    Returns:
        In the first process the same names with whole tensors; in the others nothing.
    """
    found = {}
    for name, tensor in tensors.items():
        together = whole(tensor)
        if job.first:
            found[name] = together if together is tensor else together.cpu()
    return found


def _write_checkpoint(folder: Path, state: State, model: dict[str, Tensor], moments: dict[str, Tensor], *, keep_last: int) -> Path:
    target = folder / f"step-{state.step}"
    temporary = folder / f".step-{state.step}.partial"
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(".step-*.partial"):
        shutil.rmtree(leftover)
    try:
        temporary.mkdir()
        write_safetensors(temporary / "model.safetensors", model)
        write_safetensors(temporary / "optimizer.safetensors", moments)
        write_json(temporary / "state.json", {"step": state.step, "damaged": sorted(state.damaged), "losses": state.losses})
        if target.exists():  # the same step, written by a run that was then killed
            shutil.rmtree(target)
        os.replace(temporary, target)
        _sync(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    for old in list_checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old)
    return target


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_checkpoints(folder: Path) -> list[Path]:
    """List a run's checkpoints, oldest first."""
    found = [p for p in folder.glob("step-*") if p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def resume(folder: Path, state: State, job: Job | None = None) -> bool:
    """Bring a fresh state to the last checkpoint that can be read.

    Args:
        folder: ``checkpoints/`` of the run; need not exist.
        state: changed in place.
        job: of the processes, each of which must call this. The first one reads; how many wrote it makes no difference.

    Returns:
        Whether there was one.

    Raises:
        UserError: where there are checkpoints and none can be read.
    """
    job = job or Job()
    model: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}

    def read() -> dict[str, Any] | None:
        found = _read_last(folder)
        if found is None:
            return None
        about, *both = found
        model.update(both[0])
        moments.update(both[1])
        return {"about": about, "tensors": [{name: (tuple(t.shape), t.dtype) for name, t in tensors.items()} for tensors in both]}

    found = job.from_first(read)
    if found is None:
        return False
    if job.world > 1:
        for tensors, described in zip((model, moments), found["tensors"], strict=True):
            for name, (shape, dtype) in described.items():
                tensors[name] = job.broadcast_(tensors[name].contiguous() if job.first else torch.empty(shape, dtype=dtype))
    own = state.method.state_dict()
    state.method.load_state_dict({name: like(t, own[name]) if name in own else t for name, t in model.items()}, strict=True)
    _load_optimizer(state.optimizer, moments)
    about = found["about"]
    state.step, state.damaged, state.losses = int(about["step"]), set(about["damaged"]), about["losses"]
    return True


def _read_last(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]] | None:
    checkpoints = list_checkpoints(folder)
    for checkpoint in reversed(checkpoints):
        try:
            return (
                read_json(checkpoint / "state.json", "a checkpoint"),
                read_safetensors(checkpoint / "model.safetensors"),
                read_safetensors(checkpoint / "optimizer.safetensors"),
            )
        except UserError as error:
            warn(f"checkpoint passed over: {error}")
    if checkpoints:
        raise UserError(f"{folder}: no checkpoint can be read; remove the run's folder to start again")
    return None


def _named(optimizer: torch.optim.Optimizer) -> dict[str, nn.Parameter]:
    return {name: p for group in optimizer.param_groups for name, p in zip(group["names"], group["params"], strict=True)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {f"{key}/{name}": value for name, p in _named(optimizer).items() for key, value in optimizer.state[p].items()}


def _load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    named: dict[str, Any] = _named(optimizer)
    for full, tensor in tensors.items():
        key, _, name = full.partition("/")
        # AdamW's own step counter belongs on the parameter's device too where the fused kernel is used, as it is here.
        parameter = named[name]
        optimizer.state[parameter][key] = like(tensor, parameter) if tensor.shape == parameter.shape else tensor.to(parameter.device)
