"""What a run will take, before anything is spent: samples, operations, memory, time, and where each number comes from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pretrain.checkpoint import State
from pretrain.hardware import prepare, set_up_gpu
from pretrain.loop import Outcomes, take_step
from pretrain.method import build_method
from pretrain.operations import peak_flops
from pretrain.recipe import read_recipe
from pretrain.run import build_optimizer, name_recipe, pick_device
from pretrain.source import open_source

if TYPE_CHECKING:
    from pretrain.data import Loader
    from pretrain.method import Method
    from pretrain.recipe import Recipe
    from pretrain.stream import Stream

_ACCELERATORS = {"A100": "A100", "H100 / H200": "H100"}  # what a plan calls them -> the name that `peak_flops` knows
_UTILISATION = 0.35  # share of the peak that such training reaches
_MEASURED_FLOPS = {"cpu": 2e11, "cuda": 5e13}  # of one measured step, at most: a second or two of either


def memory_bytes(method: Method, recipe: Recipe) -> dict[str, float]:
    """Estimate the memory of training.

    Weights, gradients and AdamW's two moments: 16 bytes a trained parameter; 4 bytes one of a teacher. Activations kept for the backward
    pass: 34 bytes a token and channel of a layer with 16-bit numbers (Korthikanti et al. 2022, equation 1, without
    the attention matrices, which fused attention does not keep), twice that with 32-bit numbers.
    """
    parameters = sum(p.numel() for p in method.parameters() if p.requires_grad)
    others = sum(p.numel() for p in method.parameters() if not p.requires_grad)
    a_number = 34 if recipe.optim.precision == "bfloat16" else 68
    samples = min(recipe.optim.micro_batch or recipe.optim.batch, recipe.optim.batch)
    return {
        "parameters": float(parameters),
        "state": 16.0 * parameters + 4.0 * others,
        "activations": a_number * method.kept_numbers() * samples,
    }


def plan_pretraining(
    shards: str | Path | None = None,
    *,
    mix: Sequence[str] = (),
    recipe: str | None = None,
    overrides: list[str] | tuple[str, ...] = (),
    samples: int | None = None,
    device: str | None = None,
) -> dict[str, Any]:
    """Predict what a run will take; a few steps are trained, on copies, and nothing is written.

    Args:
        shards: the shard set's folder, or addresses of tars to stream.
        mix: several sets instead, as for `pretrain.run_pretraining`; likewise the others.
        recipe: name or path; None: one for the hardware.
        overrides: of the recipe.
        samples: length, instead of the recipe's.
        device: on which to measure.

    Returns:
        recipe, images and epochs (None for a stream), samples, steps, parameters, flops_per_image, flops,
        memory_bytes (state, activations), batch, images_per_s and seconds on this machine (measured), and seconds on one of some
        accelerators (by formula).

    Raises:
        UserError: for a recipe or shard set that does not fit.
    """
    where = pick_device(device)
    source = open_source(shards, mix)
    resolved = read_recipe(name_recipe(recipe, where, source.images), overrides, samples=samples)
    set_up_gpu(resolved.engine, where)
    method = build_method(resolved, seed=0).to(where)
    seen = resolved.optim.steps * resolved.optim.batch
    flops, memory = method.flops(), memory_bytes(method, resolved)
    # As large a batch as the recipe's where that is quick: the speed of a processor depends on it.
    most = int(_MEASURED_FLOPS[where.type] / flops)
    measured = max(1, min(resolved.optim.micro_batch or resolved.optim.batch, resolved.optim.batch, most))
    loader = source.loader(method.views(resolved.data), batch=measured, seed=0)
    prepare(method, resolved.engine, where, sharded=False)
    speed = _measured_speed(method, loader, resolved, where)
    loader.close()
    peaks = {name: peak for name, known in _ACCELERATORS.items() if (peak := peak_flops(known)) is not None}
    return {
        "recipe": resolved.name,
        "images": source.images,
        "samples": seen,
        "epochs": None if source.images is None else seen / source.images,
        "steps": resolved.optim.steps,
        "batch": resolved.optim.batch,
        "parameters": int(memory.pop("parameters")),
        "flops_per_image": flops,
        "flops": flops * seen,
        "memory_bytes": memory,
        "here": {"device": where.type, "batch": measured, "images_per_s": speed, "seconds": seen / speed},
        "elsewhere": {name: flops * seen / (peak * _UTILISATION) for name, peak in peaks.items()},
        "utilisation": _UTILISATION,
        "cost_as_recorded": resolved.about.cost,
    }


def describe(planned: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Put a plan into rows for people: what, how much, and where the number comes from."""
    memory, here = planned["memory_bytes"], planned["here"]
    counted = [("images", "not known", "a stream is not counted")]
    if planned["images"] is not None:
        counted = [
            ("images", f"{planned['images']:,}", "the shard set's index"),
            ("epochs", f"{planned['epochs']:,.1f}", "samples seen / images"),
        ]
    rows = [
        *counted,
        ("samples seen", f"{planned['samples']:,}", f"recipe, whole batches of {planned['batch']:,}"),
        ("steps", f"{planned['steps']:,}", "samples / batch"),
        ("parameters", f"{planned['parameters'] / 1e6:,.1f} M", "counted, those that are trained"),
        ("operations an image", f"{planned['flops_per_image'] / 1e9:,.2f} GFLOP", "formula: matrix products, backward twice forward"),
        ("operations in all", f"{planned['flops']:.3g} FLOP", "operations an image x samples"),
        ("memory, weights and optimiser", f"{memory['state'] / 2**30:,.2f} GiB", "formula: 16 bytes a trained parameter, 4 another one"),
        ("memory, activations", f"{memory['activations'] / 2**30:,.2f} GiB", "formula: 34 or 68 bytes a token and channel of a layer"),
        (
            f"speed here ({here['device']})",
            f"{here['images_per_s']:,.1f} images/s",
            f"measured: a few training steps of {here['batch']} images, data ready",
        ),
        ("time here", _span(here["seconds"]), "samples / measured speed"),
    ]
    share = f"formula: {planned['utilisation']:.0%} of the peak in bf16"
    rows += [(f"time on one {name}", _gpu_time(seconds), share) for name, seconds in planned["elsewhere"].items()]
    return rows


def _span(seconds: float) -> str:
    for size, unit in ((86400.0, "days"), (3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} seconds" if seconds >= 1 else "under a second"


def _gpu_time(seconds: float) -> str:
    days = seconds / 86400.0
    return f"{days:,.1f} GPU-days" if days >= 0.95 else f"{seconds / 3600.0:,.1f} GPU-hours" if seconds >= 180 else _span(seconds)


def _measured_speed(method: Method, loader: Loader | Stream, recipe: Recipe, device: torch.device) -> float:
    """Train on one small batch for three seconds, after one step that is not counted; images a second."""
    state, outcomes = State(method, build_optimizer(method, recipe)), Outcomes.on(device)
    batch = next(iter(loader.batches(0, 1))).to(device)

    def step() -> None:
        take_step(state, batch, recipe, outcomes)
        list(outcomes.settled(everything=True))  # waits for the device

    step()
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < 3.0:
        step()
        steps += 1
    return steps * len(batch) / (time.perf_counter() - started)
