"""How fast the paper's recipes train on one GPU, how near to its peak, in how much memory, and what each trick gives.

    python benchmarks/gpu.py [--recipes mae-vit-large dinov2-vit-large] [--steps 20] [--only WORD] [--device cuda] [--set FIELD=VALUE]

Every line is a process of its own that trains a recipe on one batch of random photographs, kept on the GPU, with the loop's own step
(forward, backward, clipping, AdamW, the teacher's average, the look at the loss); the first steps, in which blocks are compiled, do
not count. Lines: the recipe as it is; the recipe with one thing changed; and at last `pretrain run` itself on a shard set of noise, JPEGs
of 256 px, with the share of the time that it waited for photographs.

- images/s: median over the steps' own times, of one optimiser step's micro-batches;
- MFU: the recipe's operations by formula (`Method.flops`) x images/s over the GPU's dense bf16 peak;
- memory: the most that tensors took.

Reported by others, for the same networks (not measured here): MAE's official code on V100 about 11 % MFU, DINOv2's official code on A100
31 to 34 %, DINOv3's code base on H100 13 to 18 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from pretrain.batch import Batch
from pretrain.checkpoint import State
from pretrain.hardware import device_peak, peak_memory, prepare, set_up_gpu
from pretrain.loop import Outcomes, take_step
from pretrain.method import Method, build_method
from pretrain.order import batch_generator, view_generator
from pretrain.recipe import Recipe, read_recipe
from pretrain.run import build_optimizer

WARM_UP = 5  # steps

# Name -> changes of the recipe, and what no recipe can change.
LINES: dict[str, tuple[list[str], str]] = {
    "as it is": ([], ""),
    "blocks not compiled": (["engine.compile=false"], ""),
    "attention not fused": ([], "attention"),
    "AdamW not fused, every step waits for its loss": ([], "adamw"),
    "float32 (TF32 products)": (["optim.precision=float32"], ""),
    "float32, not compiled, nothing fused": (["optim.precision=float32", "engine.compile=false", "engine.tf32=false"], "attention adamw"),
    "activation checkpointing": (["engine.activation_checkpointing=true"], ""),
}
OF_DINOV2 = {"no drop path": (["dinov2.drop_path=0"], "")}


def photographs(method: Method, recipe: Recipe, images: int) -> Batch:
    """Make a batch of noise through the method's own views."""
    views = method.views(recipe.data)
    batch = views.allocate(images)
    noise = torch.randint(0, 256, (256, 256, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)).numpy()
    for place, item in enumerate(views.deal(images, batch_generator(0, 0))):
        views.fill(batch, place, noise, view_generator(0, 0, place), item)
    return batch


def measure(name: str, overrides: list[str], without: str, steps: int, where: str) -> dict[str, Any]:
    """Train for some steps; gives images/s, MFU (None where the peak is not known) and bytes of memory (None on a CPU)."""
    device = torch.device(where)
    recipe = read_recipe(name, overrides)
    if "attention" in without:
        from timm.layers import set_fused_attn

        set_fused_attn(False)
    set_up_gpu(recipe.engine, device)
    method = build_method(recipe, seed=0).to(device)
    prepare(method, recipe.engine, device, sharded=False)
    optimizer = build_optimizer(method, recipe)
    outcomes = Outcomes.on(device)
    if "adamw" in without:
        optimizer = torch.optim.AdamW(method.groups(recipe.optim), lr=0.0, betas=recipe.optim.betas, foreach=True)
        outcomes = Outcomes(delay=0)
    state = State(method, optimizer)
    batch = photographs(method, recipe, recipe.optim.batch).to(device)
    seconds = []
    for step in range(WARM_UP + steps):
        started = time.perf_counter()
        take_step(state, batch, recipe, outcomes)
        for outcome in outcomes.settled(everything=step + 1 in (WARM_UP, WARM_UP + steps)):
            assert outcome.finite
        seconds.append(time.perf_counter() - started)
    rate = recipe.optim.batch / statistics.median(seconds[WARM_UP:])
    peak = device_peak(device)
    return {"rate": rate, "mfu": None if peak is None else rate * method.flops() / peak, "memory": peak_memory(device)}


def through_the_loop(name: str, overrides: list[str], steps: int, where: str, folder: Path) -> dict[str, Any]:
    """Train with `pretrain run` on a shard set; gives the same, and the share of the time that was waited for photographs."""
    from loader import write_shards

    from pretrain.run import run_pretraining

    recipe = read_recipe(name, overrides)
    shards = folder / "shards"
    shards.mkdir()
    write_shards(shards, max(1024, 2 * recipe.optim.batch))
    run_pretraining(
        shards,
        recipe=name,
        overrides=[*overrides, "log.every=5", "log.pictures_every=1000000"],
        out=folder / "run",
        samples=(WARM_UP + steps) * recipe.optim.batch,
        device=where,
    )
    lines = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()][1:]
    found: dict[str, Any] = {"memory": max((line["peak_memory_bytes"] for line in lines if line.get("peak_memory_bytes")), default=None)}
    for column, key in (("rate", "images_per_s"), ("mfu", "mfu"), ("waited", "data_wait")):
        values = [line[key] for line in lines if line.get(key) is not None]
        found[column] = statistics.median(values) if values else None
    return found


def one(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one line in this process."""
    name, line = arguments.recipes[0], arguments.line
    if line == "pretrain run":
        with tempfile.TemporaryDirectory() as folder:
            return through_the_loop(name, arguments.set, arguments.steps, arguments.device, Path(folder))
    overrides, without = {**LINES, **OF_DINOV2}[line]
    return measure(name, [*overrides, *arguments.set], without, arguments.steps, arguments.device)


def row(line: str, found: dict[str, Any], whole: float | None) -> str:
    """Give a row of the table."""
    cells = [
        f"{found['rate']:,.0f}",
        "" if whole is None else f"{found['rate'] / whole:.2f}",
        "" if found["mfu"] is None else f"{found['mfu']:.1%}",
        "" if found["memory"] is None else f"{found['memory'] / 2**30:,.1f}",
        "" if found.get("waited") is None else f"{found['waited']:.1%}",
    ]
    return f"| {line} | {' | '.join(cells)} |"


def main() -> None:
    """Measure every line in a process of its own and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--recipes", nargs="+", default=["mae-vit-large", "dinov2-vit-large"])
    parser.add_argument("--steps", type=int, default=20, help="that count, of each line")
    parser.add_argument("--only", default="", help="lines with this word in their name")
    parser.add_argument("--device", default="cuda")
    parser.add_argument(
        "--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of every recipe, as optim.batch=256"
    )
    parser.add_argument("--line", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.line:
        print(json.dumps(one(arguments)))
        return
    card = torch.cuda.get_device_name(torch.device(arguments.device)) if arguments.device.startswith("cuda") else "CPU"
    print(f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}; medians over {arguments.steps} steps")
    for name in arguments.recipes:
        recipe = read_recipe(name, arguments.set)
        print(f"\n### {name}: batch {recipe.optim.batch} in parts of {recipe.optim.micro_batch or recipe.optim.batch}\n")
        print("| | images/s | beside the recipe | MFU | memory, GiB | waited for data |\n|---|---:|---:|---:|---:|---:|")
        whole = None
        for line in [*LINES, *(OF_DINOV2 if recipe.method == "dinov2" else {}), "pretrain run"]:
            if arguments.only not in line:
                continue
            command = [
                sys.executable,
                __file__,
                "--recipes",
                name,
                "--line",
                line,
                "--steps",
                str(arguments.steps),
                "--device",
                arguments.device,
            ]
            done = subprocess.run(
                [*command, *(p for s in arguments.set for p in ("--set", s))], capture_output=True, text=True, check=False
            )
            if done.returncode:
                print(f"| {line} | failed: {done.stderr.strip().splitlines()[-1]} | | | | |", flush=True)
                continue
            found = json.loads(done.stdout.splitlines()[-1])
            whole = found["rate"] if line == "as it is" else whole
            print(row(line, found, whole), flush=True)


if __name__ == "__main__":
    main()
