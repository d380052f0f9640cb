"""The command line of pretrain: parse, call one function, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from curate import console
from curate.command import Debug, Json, Quiet, Seed, Workers, new_app

app = new_app("Train a backbone on a shard set: masked autoencoders on any timm vision transformer.")

Shards = Annotated[Path, typer.Argument(help="The shard set's folder, made by curate sample.")]
RecipeName = Annotated[str | None, typer.Option("--recipe", help="Name of a recipe, or a .yaml file. Default: one for this machine.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe, as optim.lr=1e-3.")]
Samples = Annotated[int | None, typer.Option(min=1, help="Length in samples seen, instead of the recipe's.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N. Default: a GPU where there is one.")]


@app.command("run")
def run_command(
    shards: Shards,
    recipe: RecipeName = None,
    out: Annotated[Path | None, typer.Option(help="The run's folder. Default: runs/<recipe>.")] = None,
    set_: Set = None,
    seed: Seed = 0,
    samples: Samples = None,
    workers: Workers = 0,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a backbone; the same command again goes on with a stopped run.

    The result is RUN/backbone.safetensors with RUN/config.json, which timm.create_model("local-dir:RUN",
    pretrained=True) loads.
    """
    _check(shards, recipe, set_, samples)
    from pretrain.run import run_pretraining

    result = run_pretraining(
        shards, recipe=recipe, out=out, overrides=set_ or [], seed=seed, samples=samples, workers=workers, device=device
    )
    if result["status"] == "interrupted":
        console.result(result)
        raise typer.Exit(128 + result["signal"])
    console.say(f"{result['run']}: {result['steps']:,} steps, {result['samples_seen']:,} samples seen, loss {_shown(result['final_loss'])}")
    console.say(f"backbone: {Path(result['run']) / 'backbone.safetensors'}")
    console.result(result)


def _check(shards: Path, recipe: str | None, overrides: list[str] | None, samples: int | None) -> None:
    """Answer a mistake in what was typed at once, not after the seconds that loading torch takes."""
    from curate import open_shards
    from pretrain.recipe import read_recipe

    if recipe is not None:
        read_recipe(recipe, overrides or [], samples=samples)
    open_shards(shards)


def _shown(loss: float | None) -> str:
    return "not a number" if loss is None else f"{loss:.4f}"


@app.command("plan")
def plan_command(
    shards: Shards,
    recipe: RecipeName = None,
    set_: Set = None,
    samples: Samples = None,
    device: Device = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Say what a run will take before anything is spent: a few steps are timed and nothing is written."""
    _check(shards, recipe, set_, samples)
    from pretrain.plan import describe, plan

    planned = plan(shards, recipe=recipe, overrides=set_ or [], samples=samples, device=device)
    console.table(("what", "estimate", "where it comes from"), describe(planned), title=f"recipe {planned['recipe']}")
    console.result(planned)


@app.command("export")
def export_command(
    run: Annotated[Path, typer.Argument(help="A finished run's folder.")],
    out: Annotated[Path, typer.Argument(help="The folder to make.")],
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy a run's backbone as a model folder: model.safetensors, config.json and the stub of a model card."""
    from pretrain.export import export_run

    result = export_run(run, out)
    console.say(f"{result['out']}: model.safetensors, config.json, README.md")
    console.result(result)
