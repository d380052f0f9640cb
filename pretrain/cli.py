"""The command line of pretrain: parse, call one function, print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from curate import console
from curate.command import Debug, Json, Quiet, Seed, Workers, new_app

app = new_app("Train a backbone on a shard set: MAE or DINOv2 on any plain timm vision transformer.")

Shards = Annotated[
    str | None,
    typer.Argument(
        metavar="SHARDS", help="The shard set's folder, made by curate sample; or tars to stream: s3://..., https://..., pipe:COMMAND."
    ),
]
Mix = Annotated[
    list[str] | None, typer.Option("--mix", metavar="FOLDER=WEIGHT", help="Train on several sets instead, each with its share; repeatable.")
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Name of a recipe, or a .yaml file; mae or dinov2: its recipe for this machine.  [default: mae]"),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe, as optim.lr=1e-3; repeatable.")
]
Samples = Annotated[int | None, typer.Option(min=1, help="Length in samples seen, instead of the recipe's.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.  [default: a GPU where there is one]")]


@app.command("run")
def run_command(
    shards: Shards = None,
    mix: Mix = None,
    recipe: RecipeName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder.  [default: runs/<recipe>]")] = None,
    set_: Set = None,
    init: Annotated[
        str | None, typer.Option(metavar="SPEC", help="Start from these weights: a run, its checkpoint, a released file, timm:MODEL.")
    ] = None,
    seed: Seed = 0,
    samples: Samples = None,
    workers: Workers = 0,
    device: Device = None,
    keep_last: Annotated[int | None, typer.Option(min=1, help="Checkpoints that stay.  [default: the recipe's log.keep_last]")] = None,
    fsdp: Annotated[bool, typer.Option("--fsdp", help="Share out the weights to the processes of torchrun (FSDP2).")] = False,
    compile: Annotated[bool | None, typer.Option(help="Compile each transformer block.  [default: on a GPU]")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a backbone; the same command again goes on with a stopped run.

    With torchrun --nproc-per-node N -m pretrain run, or srun, N processes train it together. The result is
    RUN/backbone.safetensors with RUN/config.json, which timm.create_model("local-dir:RUN", pretrained=True) loads.
    """
    from pretrain.distributed import find_place

    overrides = [
        *(set_ or []),
        *([f"log.keep_last={keep_last}"] if keep_last is not None else []),
        *(["engine.fsdp=true"] if fsdp else []),
        *([f"engine.compile={str(compile).lower()}"] if compile is not None else []),
    ]
    place = find_place(os.environ)
    if place.world == 1:  # of several processes each would tell the same mistake
        _check(shards, recipe, overrides, samples, mix or [])
    from pretrain.run import run_pretraining

    result = run_pretraining(
        shards, mix=mix or [], recipe=recipe, out=out, overrides=overrides, seed=seed, samples=samples, workers=workers, device=device,
        init=init,
    )  # fmt: skip
    if result["status"] == "interrupted":
        console.result(result)
        # torchrun would take another code for a fault, and begin again where it may.
        raise typer.Exit(0 if place.launched else 128 + result["signal"])
    console.say(f"{result['run']}: {result['steps']:,} steps, {result['samples_seen']:,} samples seen, loss {_shown(result['final_loss'])}")
    console.say(f"backbone: {Path(result['run']) / 'backbone.safetensors'}")
    console.result(result)


def _check(
    shards: str | Path | None, recipe: str | None, overrides: list[str] | None, samples: int | None, mix: Sequence[str] = ()
) -> None:
    """Answer a mistake in what was typed at once, not after the seconds that loading torch takes."""
    from pretrain.recipe import METHODS, read_recipe
    from pretrain.source import open_source

    if recipe is not None and recipe not in METHODS:
        read_recipe(recipe, overrides or [], samples=samples)
    open_source(shards, mix)


def _shown(loss: float | None) -> str:
    return "not a number" if loss is None else f"{loss:.4f}"


@app.command("plan")
def plan_command(
    shards: Shards = None,
    mix: Mix = None,
    recipe: RecipeName = None,
    set_: Set = None,
    samples: Samples = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a run will take before anything is spent: a few steps are timed and nothing is written."""
    _check(shards, recipe, set_, samples, mix or [])
    from pretrain.plan import describe, plan_pretraining

    planned = plan_pretraining(shards, mix=mix or [], recipe=recipe, overrides=set_ or [], samples=samples, device=device)
    console.table(("what", "estimate", "where it comes from"), describe(planned), title=f"recipe {planned['recipe']}")
    console.say(f"As recorded with the recipe: {planned['cost_as_recorded']}")
    console.result(planned)


@app.command("inspect")
def inspect_command(
    path: Annotated[Path, typer.Argument(help="A run, one of its checkpoints, an exported folder, or a file of weights.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a checkpoint is: whose layout, which architecture, what was left out, and what it is good for."""
    from pretrain.inspection import inspect_weights, rows

    found = inspect_weights(path)
    console.table(("what", ""), rows(found), title=str(path))
    console.result(found)


@app.command("export")
def export_command(
    model: Annotated[str, typer.Argument(metavar="RUN|FILE", help="A finished run's folder, or a released checkpoint's file.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write a backbone as a model folder for timm: model.safetensors, config.json and the stub of a model card."""
    from pretrain.export import export_backbone

    result = export_backbone(model, out)
    console.say(f"{result['out']}: model.safetensors, config.json, README.md")
    console.result(result)
